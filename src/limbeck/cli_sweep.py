"""The verb that does many runs of one recipe: `limbeck sweep`."""

from typing import Annotated

import typer

__all__ = ["sweep"]


def sweep(
    recipe: Annotated[
        str, typer.Argument(help="A recipe file, or the name of one in the package, such as `camvid/quick`.")
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Changes to the recipe; with several values, such as `seed=0,1,2`, each is tried."),
    ] = None,
    only: Annotated[int | None, typer.Option(min=0, help="Do this run alone, counted from 0.")] = None,
    listed: Annotated[bool, typer.Option("--list", help="Print the runs, and do none.")] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Runs at once; as many as there are --gpus, else one.")
    ] = None,
    gpus: Annotated[int, typer.Option(min=0, help="GPUs that the runs share out, one each.")] = 0,
    device: Annotated[str, typer.Option(help="`auto`, `cpu` or `cuda:i`.")] = "auto",
) -> None:
    """Run every combination of a recipe's `matrix`, and of changes with several values.

    The same command goes on where it stopped, and several may do one sweep together.
    """
    from limbeck.recipe import read
    from limbeck.record import UserError
    from limbeck.stop import at_once
    from limbeck.sweep.children import Sweep, chosen, failures, run_all
    from limbeck.sweep.grid import cells, split_axes

    if gpus and device != "auto":
        raise UserError(f"--device {device}: --gpus {gpus} gives each run its own; leave one of them out.")
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
