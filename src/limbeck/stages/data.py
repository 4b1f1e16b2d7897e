"""Data on their own: what is wrong with them, what is in them, and what training sees of them."""

import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

from limbeck import show
from limbeck.artifact.palette import Palette, palette
from limbeck.build import build
from limbeck.data.inspect import Survey, duplicates, survey
from limbeck.data.pairs import noting
from limbeck.datasets import Dataset
from limbeck.place import Place
from limbeck.recipe import Recipe, packaged, read
from limbeck.record import UserError, write_json
from limbeck.stages.adopt import data_section
from limbeck.stages.context import data_root, runs_root

__all__ = ["Checked", "Source", "Statistics", "check", "sheet", "source", "statistics"]

SPLITS = ("training", "validation", "test")
NEEDED = SPLITS[:2]


@dataclass(frozen=True)
class Source:
    """Where data come from.

    Attributes:
        name: What the user called it.
        spec: Kind and arguments of the data set.
        where: Place in the recipe, for messages.
        root: Folder that ``./data.py`` is looked up in.
    """

    name: str
    spec: dict[str, Any]
    where: Place
    root: Path

    def split(self, name: str) -> Dataset:
        """One split, built.

        Raises:
            UserError: If it is not there, is empty, or cannot be paired.
        """
        runtime = {"split": name, "root": data_root(), "where": self.where}
        found: Dataset = build("datasets", self.spec, self.where, self.root, **runtime)
        if not len(found):
            raise UserError(f"{self.where}: the split {name!r} is empty.")
        return found


def source(text: str) -> Source:
    """The data of a recipe (a file, or one in the package), a folder, or a kind: ``camvid,protocol=drives``.

    Raises:
        UserError: If it is none of them.
    """
    path = Path(text)
    if text in packaged() or path.suffix in (".yaml", ".yml") or (path / "recipe.yaml").is_file():
        recipe = read(text)
        return Source(text, recipe.data.spec, recipe.place / "data", recipe.root)
    return Source(text, data_section(text, ()), Place(text), Path())


@dataclass
class Checked:
    """What a check found.

    Attributes:
        surveys: Each split that is there.
        problems: What is wrong, a line each, with the split it is in.
        notes: What may be meant.
    """

    surveys: dict[str, Survey] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def check(given: Source) -> Checked:
    """Read every image and mask of every split; collect all problems instead of ending with the first."""
    found = Checked()
    for name in SPLITS:
        with noting() as unpaired:
            try:
                dataset = given.split(name)
            except UserError as error:
                (found.problems if name in NEEDED else found.notes).append(f"{name}: {error}")
                continue
            finally:
                found.problems += [f"{name}: {line}" for line in unpaired]
        found.surveys[name] = one = _survey(dataset, name)
        found.problems += [f"{name}: {line}" for line in one.problems]
        found.notes += [f"{name}: {line}" for line in _notes(one, dataset.classes)]
    found.problems += duplicates(found.surveys)
    return found


def _survey(dataset: Dataset, split: str) -> Survey:
    with show.bar(f"{split} data", len(dataset), unit="images") as bar:
        return survey(dataset, lambda done, total: bar.advance(done))


def _notes(found: Survey, classes: tuple[str, ...]) -> list[str]:
    """What is no mistake in itself."""
    twice = sum(len(names) - 1 for names in found.pixels.values())
    absent = [name for name, images in zip(classes, found.class_images, strict=True) if not images]
    unlabelled = found.images - found.labelled
    return [
        *([f"{twice} images are there more than once"] if twice else []),
        *([f"no pixel of {', '.join(absent)}"] if absent and found.labelled else []),
        *([f"{unlabelled} images have no mask"] if unlabelled and found.labelled else []),
    ]


@dataclass(frozen=True)
class Statistics:
    """Numbers of one split, and the files they were written to.

    Attributes:
        survey: Counts.
        classes: Class names.
        weights: Weights of the classes by the name that ``class_weights`` knows; empty without truth.
        folder: Holds ``stats.json`` and the charts.
    """

    survey: Survey
    classes: tuple[str, ...]
    weights: dict[str, list[float]]
    folder: Path


def statistics(given: Source, split: str, folder: Path | None) -> Statistics:
    """Count a split, write numbers and charts to ``folder``, by default one of the runs folder.

    Raises:
        UserError: If something is wrong with the split; ``data check`` lists all of it.
    """
    from limbeck.data.stats import ClassCounts
    from limbeck.losses._labels import Frequencies, class_weights
    from limbeck.report.data_charts import draw

    dataset = given.split(split)
    found = _survey(dataset, split)
    if found.problems:
        raise UserError(f"{found.problems[0]}\n`limbeck data check {given.name}` lists all {len(found.problems)}.")
    kinds = get_args(Frequencies) if found.labelled else ()
    weights = {kind: class_weights(ClassCounts(found.class_pixels, found.class_areas), kind).tolist() for kind in kinds}
    folder = folder or runs_root() / "data" / re.sub(r"[^A-Za-z0-9._=-]+", "-", f"{given.name}-{split}").strip("-.")
    classes, colours = tuple(dataset.classes), colours_of(dataset)
    numbers = {key: value for key, value in asdict(found).items() if key not in ("pixels", "problems")}
    about = {"source": given.name, "split": split, "classes": classes}
    write_json(folder / "stats.json", about | numbers | {"class_weights": weights})
    draw(classes, colours, numbers, folder)
    return Statistics(found, classes, weights, folder)


def colours_of(dataset: Dataset) -> Palette:
    """The data set's colours, or distinct ones."""
    return tuple(dataset.palette) or palette(len(dataset.classes))


def sheet(recipe: Recipe, file: Path, samples: int, views: int, opacity: float) -> Path:
    """Draw what training sees: each sample as it is, and its first views with their masks over them.

    Args:
        recipe: Data, augmentation and seed.
        file: PNG to write.
        samples: Images, spread over the training split.
        views: Views of each: those of the first epochs.
        opacity: Of the masks, 0 to 1.
    """
    from limbeck.data.transforms import Augmentation
    from limbeck.data.views import Views
    from limbeck.recipe import Augment
    from limbeck.report.sheet import Tile, draw_sheet

    data = recipe.data
    dataset = Source(recipe.name, data.spec, recipe.place / "data", recipe.root).split("training")
    plain = Views(dataset, Augmentation(data.size, data.resize, Augment()), recipe.seed)
    drawn = Views(dataset, Augmentation(data.size, data.resize, data.augment), recipe.seed)

    def tile(found: Any, masked: bool) -> Tile:
        image = found["image"].permute(1, 2, 0).mul(255).round().byte().numpy()
        painted = masked and "target" in found and found["target"].ndim == 2
        return Tile(image, found["target"].numpy() if painted else None)

    chosen = [len(dataset) * number // samples for number in range(min(samples, len(dataset)))]
    rows = {
        dataset[index].name: [tile(plain[index, 0], False), *(tile(drawn[index, view], True) for view in range(views))]
        for index in chosen
    }
    return draw_sheet(rows, colours_of(dataset), opacity, file)
