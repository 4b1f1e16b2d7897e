"""The verbs of `limbeck data`: fetch a data set."""

from typing import Annotated

import typer

__all__ = ["data_app"]

data_app = typer.Typer(name="data", no_args_is_help=True, help="Fetch data sets.")


@data_app.callback()
def _group() -> None:
    """Keep the verb's name where there is only one."""


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
