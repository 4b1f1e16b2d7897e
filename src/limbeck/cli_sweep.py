"""The verbs that do many runs of one recipe: `limbeck sweep`, `limbeck search`."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from limbeck.sweep.children import Sweep

__all__ = ["search", "show_table", "sweep"]

Source = Annotated[
    str, typer.Argument(help="A recipe file, or the name of one in the package, such as `camvid/quick`.")
]
Workers = Annotated[int | None, typer.Option(min=1, help="Runs at once; as many as there are --gpus, else one.")]
Gpus = Annotated[int, typer.Option(min=0, help="GPUs that the runs share out, one each.")]
Device = Annotated[str, typer.Option(help="`auto`, `cpu` or `cuda:i`.")]


def sweep(
    recipe: Source,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Changes to the recipe; with several values, such as `seed=0,1,2`, each is tried."),
    ] = None,
    only: Annotated[int | None, typer.Option(min=0, help="Do this run alone, counted from 0.")] = None,
    listed: Annotated[bool, typer.Option("--list", help="Print the runs, and do none.")] = False,
    workers: Workers = None,
    gpus: Gpus = 0,
    equal_time: Annotated[
        bool, typer.Option("--equal-time", help="Then train controls for as long as each method took.")
    ] = False,
    ray: Annotated[
        str | None,
        typer.Option(help="Spread the runs over a Ray cluster: its address, `auto`, or `local` for a new one."),
    ] = None,
    device: Device = "auto",
) -> None:
    """Run every combination of a recipe's `matrix`, and of changes with several values.

    The same command goes on where it stopped, and several may do one sweep together.
    """
    from limbeck.recipe import read
    from limbeck.stop import at_once
    from limbeck.sweep.children import Sweep, chosen, failures, run_all
    from limbeck.sweep.folder import place_of
    from limbeck.sweep.grid import cells, split_axes
    from limbeck.sweep.longer import known_controls

    _refuse_both(gpus, device)
    _refuse_alone(only, equal_time)
    plain, axes = split_axes(overrides or [])
    first = read(recipe, plain)
    found = cells(first, axes)
    found += known_controls(place_of(first.name), found)
    wanted = Sweep(recipe, tuple(plain), tuple(found), device, workers or gpus or int(ray is None), gpus, ray)
    todo = chosen(wanted, only)
    if listed:
        for number, cell in enumerate(found):
            print(f"{number:3}  {cell.name}")
        return
    with at_once():
        folder, codes = run_all(wanted, todo)
        codes |= _longer(wanted) if equal_time else {}
    show_table(folder.path)
    print(f"{list(codes.values()).count(0)} of {len(codes)} runs done: {folder.path / 'sweep.json'}")
    for line in failures(folder, codes):
        print(line)
    if any(codes.values()):
        raise typer.Exit(1)


def search(
    recipe: Source,
    overrides: Annotated[list[str] | None, typer.Argument(help="Changes to the recipe.")] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Runs in all; the recipe's `search.trials`.")] = None,
    workers: Workers = None,
    gpus: Gpus = 0,
    device: Device = "auto",
) -> None:
    """Look for the best values in a recipe's `search` space, with Optuna; `search.latency` looks for speed too.

    The same command goes on where it stopped, and with more `--trials` adds to what is there.
    """
    from rich.console import Console
    from rich.table import Table

    from limbeck.stop import at_once
    from limbeck.sweep.children import Sweep
    from limbeck.sweep.search import search as run_search

    _refuse_both(gpus, device)
    with at_once():
        found = run_search(Sweep(recipe, tuple(overrides or ()), (), device, workers or gpus or 1, gpus), trials)
    drawn = list(dict.fromkeys(key for trial in found["trials"] for key in trial["drawn"]))
    table = Table("trial", *found["goals"], *drawn, "best", box=None, pad_edge=False, header_style="bold")
    for trial in found["trials"]:
        values = [f"{value:.2f}" for value in trial["values"] or ()] or [trial["state"]] + [""] * len(
            found["goals"][1:]
        )
        shown = [f"{value:.4g}" if isinstance(value, float) else str(value) for value in map(trial["drawn"].get, drawn)]
        table.add_row(trial["name"], *values, *shown, "*" * trial["best"])
    Console().print(table)
    print(f"Of {found['row']}: {found['folder']}/search.json")


def _refuse_both(gpus: int, device: str) -> None:
    from limbeck.record import UserError

    if gpus and device != "auto":
        raise UserError(f"--device {device}: --gpus {gpus} gives each run its own; leave one of them out.")


def _refuse_alone(only: int | None, equal_time: bool) -> None:
    from limbeck.record import UserError

    if equal_time and only is not None:
        raise UserError(f"--only {only}: --equal-time needs the times of all runs; do them first.")


def _longer(sweep: "Sweep") -> dict[str, int]:
    """Train the controls that take as long as methods did; exit codes by name."""
    from limbeck.show import say
    from limbeck.sweep.children import run_all
    from limbeck.sweep.folder import place_of
    from limbeck.sweep.longer import longer_controls
    from limbeck.sweep.results import read

    more = longer_controls(read(place_of(sweep.recipe().name)))
    if not more:
        say("sweep: every method has a control that trained for as long")
        return {}
    return run_all(replace(sweep, cells=(*sweep.cells, *more)), more)[1]


def show_table(folder: Path, block: int = 1) -> None:
    """Write a sweep's table, pictures and page from what its runs left, and print the table."""
    from rich.console import Console

    from limbeck.sweep.formats import console
    from limbeck.sweep.page import write

    Console().print(console(write(folder, block)))
    print(f"Report: {folder / 'report' / 'index.html'}")
