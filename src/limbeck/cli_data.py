"""The verbs of `limbeck data`: fetch, check, count, see."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

__all__ = ["data_app"]

data_app = typer.Typer(name="data", no_args_is_help=True, help="Data on their own: fetch, check, count, see.")

Given = Annotated[
    str, typer.Argument(help="A recipe, a folder of images and masks, or a kind: `camvid,protocol=drives`.")
]
Split = Literal["training", "validation", "test"]


@data_app.command(epilog="Examples: `limbeck data check camvid` &nbsp; `limbeck data check photos`")
def check(data: Given) -> None:
    """Read every image and mask, and list everything that is wrong; exit code 2 if something is."""
    from rich.console import Console

    from limbeck.data.inspect import grouped
    from limbeck.stages.data import check as check_data
    from limbeck.stages.data import source

    found = check_data(source(data))
    console = Console(soft_wrap=True, highlight=False)
    if found.surveys:
        console.print(_table(found.surveys))
    for kind, lines in (("note", found.notes), ("problem", found.problems)):
        for line in grouped(lines):
            console.print(f"{kind}: {line}", markup=False)
    if found.problems:
        console.print(f"{len(found.problems)} problem{'s' * (len(found.problems) > 1)}")
        raise typer.Exit(2)


def _table(surveys: dict[str, Any]) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("split", "images", "with truth", "unreadable", "classes seen", "void %", "sizes"):
        table.add_column(title, justify="left" if title in ("split", "sizes") else "right", no_wrap=True)
    for name, one in surveys.items():
        labelled = sum(one.class_pixels) + one.void
        void = f"{100 * one.void / labelled:.1f}" if labelled else "-"
        seen = f"{sum(map(bool, one.class_images))} of {len(one.class_images)}"
        sizes = ", ".join(list(one.sizes)[:3]) + (f", {len(one.sizes) - 3} more" if len(one.sizes) > 3 else "")
        table.add_row(name, str(one.images), str(one.labelled), str(len(one.problems)), seen, void, sizes)
    return table


@data_app.command(epilog="Example: `limbeck data stats camvid,protocol=drives`")
def stats(
    data: Given,
    split: Annotated[Split, typer.Option(help="Which split.")] = "training",
    out: Annotated[
        Path | None, typer.Option(help="Folder for numbers and charts; one in the runs folder if absent.")
    ] = None,
) -> None:
    """Count classes by pixels and images, sizes, mean and deviation; print a table, write numbers and charts."""
    from rich.console import Console
    from rich.table import Table

    from limbeck.stages.data import source, statistics

    found = statistics(source(data), split, out)
    counts, console = found.survey, Console(soft_wrap=True, highlight=False)
    if found.weights:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for title in ("class", "pixels %", "images %", *(f"{kind.partition('_')[0]} weight" for kind in found.weights)):
            table.add_column(title, justify="left" if title == "class" else "right")
        total = max(1, sum(counts.class_pixels))
        for index, name in enumerate(found.classes):
            shares = 100 * counts.class_pixels[index] / total, 100 * counts.class_images[index] / counts.labelled
            weights = (f"{values[index]:.3f}" for values in found.weights.values())
            table.add_row(name, f"{shares[0]:.3f}", f"{shares[1]:.1f}", *weights)
        console.print(table)
    sizes = ", ".join(f"{number} of {size}" for size, number in list(counts.sizes.items())[:5])
    print(f"images  {counts.images}, {sizes}")
    print(f"mean    {', '.join(f'{value:.4f}' for value in counts.mean)}")
    print(f"std     {', '.join(f'{value:.4f}' for value in counts.std)}")
    print(f"Written to {found.folder}")


@data_app.command(epilog="Example: `limbeck data sheet camvid/quick data.augment.rain=0.5 --out sheet.png`")
def sheet(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or the name of one in the package.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Changes, such as `data.augment.fog=1`.")] = None,
    out: Annotated[Path, typer.Option(help="PNG to write.")] = Path("sheet.png"),
    samples: Annotated[int, typer.Option(min=1, help="Images.")] = 4,
    views: Annotated[int, typer.Option(min=1, help="Views of each: those of the first epochs.")] = 6,
    opacity: Annotated[float, typer.Option(min=0, max=1, help="Of the masks.")] = 0.4,
) -> None:
    """Draw what training sees: samples, and their augmented views with the masks over them."""
    from limbeck.recipe import read
    from limbeck.stages.data import sheet as draw

    print(draw(read(recipe, overrides), out, samples, views, opacity))


@data_app.command(epilog="Examples: `limbeck data get ade20k` &nbsp; `LIMBECK_DATA=/big/disk limbeck data get voc`")
def get(
    name: Annotated[str, typer.Argument(help="`ade20k`, `camvid`, `voc`, `voc_aug` (SBD's masks) or `cityscapes`.")],
) -> None:
    """Download a data set into LIMBECK_DATA, check it and unpack it; a broken download is continued."""
    from limbeck.build import find
    from limbeck.data.fetch import fetch, source_of
    from limbeck.show import say
    from limbeck.stages.context import data_root

    source = source_of(name)
    licence = getattr(find("datasets", source.kind, name), "licence", None)
    say(f"{name}: {licence or 'licence unknown'}")
    print(fetch(source, data_root()))
