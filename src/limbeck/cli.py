"""The command line: one function a verb that parses, calls and prints."""

import json
import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from limbeck.cli_data import data_app
from limbeck.cli_sweep import search, show_table, sweep

app = typer.Typer(
    name="limbeck", no_args_is_help=True, rich_markup_mode="markdown", pretty_exceptions_enable=False,
    help="Distil, quantize, export and measure vision models: from the network you have to the one you can ship.",
)  # fmt: skip

app.add_typer(data_app)

Source = Annotated[
    str, typer.Argument(help="A recipe file, or the name of one in the package, such as `camvid/quick`.")
]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="Changes to the recipe, such as `train.optimizer.lr=3e-4`.")
]
Device = Annotated[str, typer.Option(help="`auto`, `cpu` or `cuda:i`.")]
Force = Annotated[str | None, typer.Option(help="Do this stage, and all after it, again.")]


def _run(source: str, overrides: list[str] | None, until: str, force: str | None, device: str) -> Path:
    from limbeck.recipe import read

    recipe = read(source, overrides)  # what is wrong with it is said before anything heavy loads
    from limbeck.run import run
    from limbeck.stop import at_once

    with at_once():
        return run(recipe, until=until, force=force, device=device)


def _finish(folder: Path) -> None:
    """Print the table and where the page is."""
    from rich.console import Console

    from limbeck.record import read_json
    from limbeck.report import tables

    Console().print(tables.console(read_json(folder / "summary.json")["rows"]))
    print(f"Report: {folder / 'report' / 'index.html'}")


@app.command(epilog="Example: `limbeck run camvid/quick train.epochs=10`")
def run(recipe: Source, overrides: Overrides = None, device: Device = "auto", force: Force = None) -> None:
    """Do everything a recipe asks for: train, quantize, export, evaluate, bench, report."""
    from limbeck.show import is_first_process

    folder = _run(recipe, overrides, "report", force, device)
    if is_first_process():
        _finish(folder)


@app.command(epilog="Example: `limbeck train demo train.epochs=2`")
def train(recipe: Source, overrides: Overrides = None, device: Device = "auto", force: Force = None) -> None:
    """Train the networks of a recipe: teacher, student, baseline."""
    _say_where(_run(recipe, overrides, "train", force, device))


@app.command(
    epilog="Examples: `limbeck quantize demo` &nbsp; `limbeck quantize m.safetensors --data photos --target openvino`"
)
def quantize(
    model: Annotated[
        str, typer.Argument(help="A recipe, or a network: weight file, hub id or folder, `./models.py:build`.")
    ],
    overrides: Overrides = None,
    data: Annotated[
        str | None, typer.Option(help="Folder of images (and masks), or a data set such as `camvid`.")
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="Runtime that the integer file is for; onnxruntime if absent.")
    ] = None,
    arch: Annotated[
        str | None, typer.Option(help="Kind and arguments, such as `torchvision,arch=fcn_resnet50`.")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="Weight file for a network that code builds.")] = None,
    size: Annotated[tuple[int, int] | None, typer.Option(help="Input height and width.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run.")] = None,
    device: Device = "auto",
    force: Force = None,
) -> None:
    """Quantize: a recipe up to that stage, or a network you already have, all the way to measured files."""
    if data is None:
        given = {"--target": target, "--name": name, "--arch": arch, "--size": size, "--weights": weights}
        _refuse_without_data(model, [option for option, value in given.items() if value is not None])
        _say_where(_run(model, overrides, "quantize", force, device))
        return
    from limbeck.stages.adopt import adopt

    recipe = adopt(model, data, target=target or "onnxruntime", arch=arch, weights=weights, size=size, name=name)
    _finish(_run(str(recipe), overrides, "report", force, device))


def _refuse_without_data(model: str, options: list[str]) -> None:
    """A recipe says all of these itself; they describe a network that comes without one."""
    from limbeck.record import UserError

    if options:
        raise UserError(
            f"{', '.join(options)}: only for a network of your own, with --data; {model} is read as a recipe, where "
            "changes look like quantize.target=openvino or name=other."
        )


@app.command(epilog="Example: `limbeck export demo`")
def export(recipe: Source, overrides: Overrides = None, device: Device = "auto", force: Force = None) -> None:
    """Write the exported files of a recipe, doing what they need first."""
    folder = _run(recipe, overrides, "export", force, device)
    for path in sorted((folder / "export").iterdir()):
        if path.suffix != ".json":
            print(path)


@app.command(epilog="Example: `limbeck evaluate camvid/quick split=test`")
def evaluate(recipe: Source, overrides: Overrides = None, device: Device = "auto", force: Force = None) -> None:
    """Score every file of a run; `split=test` scores another split."""
    from rich.console import Console

    from limbeck.recipe import read
    from limbeck.report import tables
    from limbeck.report.rows import score_name
    from limbeck.report.sources import lines
    from limbeck.run import run
    from limbeck.stages.context import Context
    from limbeck.stages.report import summary
    from limbeck.stop import at_once

    changes = [f"evaluate.{change}" if change.startswith("split=") else change for change in overrides or []]
    read_recipe = read(recipe, changes)
    with at_once():
        folder = run(read_recipe, until="evaluate", force=force, device=device)
    found = summary(Context(read_recipe, folder))["rows"]
    Console().print(tables.console(found))
    for line in lines(found, score_name(found)):
        print(line)


@app.command(epilog="Examples: `limbeck bench demo` &nbsp; `limbeck bench student.int8.onnx student.fp32.onnx`")
def bench(
    sources: Annotated[list[str], typer.Argument(help="A recipe with changes, or exported files.")],
    runtime: Annotated[list[str] | None, typer.Option(help="Runtime to time files in; all by default.")] = None,
    threads: Annotated[
        int | None, typer.Option(min=0, help="0, the default, means the number of physical cores.")
    ] = None,
    runs: Annotated[int | None, typer.Option(min=1, help="Timed runs of a row; 60 by default.")] = None,
    size: Annotated[
        tuple[int, int] | None, typer.Option(help="Input height and width of files that do not say.")
    ] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Run code that a weight file names (`./model.py:build`), beside it.")
    ] = False,
    device: Device = "auto",
    force: Force = None,
) -> None:
    """Time a run's rows, or files on their own, turn about, each in its own process."""
    from rich.console import Console

    from limbeck.recipe import Bench
    from limbeck.record import UserError
    from limbeck.report import tables
    from limbeck.run import device_of
    from limbeck.show import is_first_process
    from limbeck.stages.bench import files, refuse_unknown

    refuse_unknown(runtime or [])
    wanted = {"runtimes": runtime or None, "threads": threads, "runs": runs}
    given = {key: value for key, value in wanted.items() if value is not None}
    if not Path(sources[0]).suffix or Path(sources[0]).suffix in (".yaml", ".yml") or Path(sources[0]).is_dir():
        if size or trust:
            raise UserError(f"{sources[0]}: --size and --trust are for files; a recipe says both itself (data.size).")
        changes = [f"bench.{key}={json.dumps(value)}" for key, value in given.items()]
        folder = _run(sources[0], [*sources[1:], *changes], "report", force, device)
        if is_first_process():
            _finish(folder)
        return
    if force:
        raise UserError("--force: is for recipes; files are timed each time.")
    settings = Bench.model_validate(given)
    found = files([Path(source) for source in sources], settings, device_of(device), size, trust=trust)
    Console().print(tables.console(found))


@app.command(epilog="Examples: `limbeck report demo` &nbsp; `limbeck report demo seed=0,1,2`")
def report(
    recipe: Annotated[str, typer.Argument(help="A recipe, whose run or sweep is meant, or the folder of a sweep.")],
    overrides: Overrides = None,
    block: Annotated[
        int | None,
        typer.Option(min=1, help="Images that a sweep's bootstrap draws together, for frames of a video."),
    ] = None,
    device: Device = "auto",
) -> None:
    """Write summary and page again from what a run recorded, or table and page of a sweep from what its runs did."""
    from limbeck.recipe import read
    from limbeck.record import UserError
    from limbeck.stages.context import Context, runs_root
    from limbeck.stages.report import run as write
    from limbeck.sweep.results import find

    sweep_folder = find(recipe, overrides or [])
    if sweep_folder:
        show_table(sweep_folder, block or 1)
        return
    if block:
        raise UserError("--block: is for a sweep.")
    found = read(recipe, overrides)
    write(Context(found, runs_root() / found.name, "cpu"))
    _finish(runs_root() / found.name)


app.command(epilog="Example: `limbeck sweep segdistill/segformer-cgd --list` &nbsp; `limbeck sweep demo seed=0,1,2`")(
    sweep
)
app.command(epilog="Example: `limbeck search my.yaml --trials 40`")(search)


@app.command(epilog="Example: `limbeck check my.yaml src/limbeck/recipes`")
def check(
    words: Annotated[list[str], typer.Argument(help="Recipes, folders of them, and changes such as `data.batch=4`.")],
) -> None:
    """Build everything without data or weights, bind the taps, and say what would fail after six hours."""
    from limbeck.recipe import read
    from limbeck.stages.check import check as check_one
    from limbeck.stages.check import files
    from limbeck.sweep.grid import cells
    from limbeck.sweep.space import corners

    overrides = [word for word in words if "=" in word and not Path(word).exists()]
    read_all = [(file, read(file, overrides)) for file in files([word for word in words if word not in overrides])]
    runs = [(f, r, [read(f, [*overrides, *cell.overrides]) for cell in cells(r)]) for f, r in read_all]
    for file, recipe, variants in runs:
        print(f"{file}: {recipe.name}")
        for line in check_one(recipe):
            print(f"  {line}")
        if variants:
            print(f"  matrix   {len(variants)} runs; `limbeck sweep` builds each of them before the first begins")
        if recipe.search:
            ends = [read(file, [*(overrides or []), *cell.overrides]) for cell in corners(recipe)]
            print(
                f"  search   {len(recipe.search.space)} keys, read with {len(ends)} values; `limbeck search` tries more"
            )


@app.command(epilog="Example: `limbeck show demo train.epochs=3`")
def show(recipe: Source, overrides: Overrides = None) -> None:
    """Print a recipe with every key and value."""
    from limbeck.place import dump
    from limbeck.recipe import read
    from limbeck.recipe.lesson import lesson, seats
    from limbeck.stages.compat import meanings

    found = read(recipe, overrides)
    lines = [line for role in ("student", *seats(found)) for line in meanings(lesson(found, role), found.root)]
    print(dump(found.resolved()), end="")
    for line in lines:
        print(f"# {line}")


@app.command(epilog="Examples: `limbeck ls` &nbsp; `limbeck ls losses`")
def ls(room: Annotated[str | None, typer.Argument(help="`recipes`, or a room such as `losses`.")] = None) -> None:
    """List recipes and the kinds of every room, with what they are."""
    from limbeck.stages.catalogue import catalogue

    for title, entries in catalogue(room).items():
        print(title)
        width = max((len(name) for name, _ in entries), default=0)
        for name, meaning in entries:
            print(f"  {name:<{width}}  {meaning}")


@app.command(epilog="Example: `limbeck init my-project`")
def init(folder: Annotated[Path, typer.Argument(help="Where to write; existing files are left alone.")]) -> None:
    """Write a starter recipe and model file."""
    from limbeck.stages.starter import write

    for path in write(folder):
        print(path)


@app.command()
def doctor() -> None:
    """Print versions, devices, runtimes, CPU features, and what each missing extra would add."""
    from limbeck.stages.doctor import findings

    for name, value in findings():
        print(f"{name:<16} {value}")


def _say_where(folder: Path) -> None:
    print(f"Run folder: {folder}")


def main() -> None:
    """Run the command line; the user's mistakes end with one message and exit code 2."""
    from limbeck.record import UserError
    from limbeck.stop import LATER, STOPPED, Evicted

    # Threads that wait sleep: on a machine that others use too, spinning ones make training several times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)  # a warning between torch and torchao
    try:
        code = app(standalone_mode=False)  # a command's typer.Exit comes back as its number
    except UserError as error:
        _fail(_own_words(str(error)), 2)
    except Evicted:
        _fail("stopped; the same command goes on", LATER)
    except KeyboardInterrupt:
        _fail("stopped", STOPPED)
    except BrokenPipeError:
        sys.exit(0)
    except Exception as error:
        _click(error)
    else:
        if code:
            sys.exit(code)


def _own_words(message: str) -> str:
    """What a worker process said, without its traceback."""
    return message.rpartition("limbeck.record.UserError: ")[2].strip()


def _click(error: Any) -> None:
    """Let the parser's own errors and exits speak; all else is a bug and keeps its traceback."""
    if hasattr(error, "show"):
        error.show()
        sys.exit(2)
    if isinstance(error, typer.Exit | typer.Abort):
        sys.exit(getattr(error, "exit_code", 130))
    raise error


def _fail(message: str, code: int) -> None:
    print(message, file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
