"""The verbs that do many runs of one recipe: `limbeck sweep`, `limbeck search`."""

from typing import Annotated

import typer

__all__ = ["search", "sweep"]

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
    device: Device = "auto",
) -> None:
    """Run every combination of a recipe's `matrix`, and of changes with several values.

    The same command goes on where it stopped, and several may do one sweep together.
    """
    from limbeck.recipe import read
    from limbeck.stop import at_once
    from limbeck.sweep.children import Sweep, chosen, failures, run_all
    from limbeck.sweep.grid import cells, split_axes

    _refuse_both(gpus, device)
    plain, axes = split_axes(overrides or [])
    found = cells(read(recipe, plain), axes)
    wanted = Sweep(recipe, tuple(plain), tuple(found), device, workers or gpus or 1, gpus)
    todo = chosen(wanted, only)
    if listed:
        for number, cell in enumerate(found):
            print(f"{number:3}  {cell.name}")
        return
    with at_once():
        folder, codes = run_all(wanted, todo)
    print(f"{list(codes.values()).count(0)} of {len(todo)} runs done: {folder.path / 'sweep.json'}")
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
