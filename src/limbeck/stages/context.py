"""What every stage starts from: the recipe, the run folder, the device, and how to build what the recipe names."""

import inspect
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limbeck import show
from limbeck.artifact.metadata import Metadata
from limbeck.artifact.palette import palette
from limbeck.artifact.preprocess import Preprocess
from limbeck.build import build, find
from limbeck.data.cache import Remembered
from limbeck.data.labels import Labels, read_labels
from limbeck.data.stats import cache_folder
from limbeck.datasets import Dataset
from limbeck.place import Place, placed
from limbeck.recipe import Model, Recipe, Teacher
from limbeck.recipe.lesson import seats
from limbeck.record import UserError, digest
from limbeck.stages.licences import terms
from limbeck.tasks import Task

if TYPE_CHECKING:
    from limbeck.data.weights import Report

__all__ = ["Context", "data_root", "labels_of", "plain_name", "runs_root"]

WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
"""What a missing weight file is told from a hub id or a library's name of weights by."""

LIBRARY_NAME = re.compile(r"\w+_Weights\.\w+")
"""torchvision's name of a set of weights."""


def data_root() -> Path:
    """``LIMBECK_DATA``, else ``./data``."""
    return Path(os.environ.get("LIMBECK_DATA", "data"))


def runs_root() -> Path:
    """``LIMBECK_RUNS``, else ``./runs``."""
    return Path(os.environ.get("LIMBECK_RUNS", "runs"))


@dataclass
class Context:
    """A run: one recipe, one folder, one device.

    Attributes:
        recipe: The recipe.
        folder: The run's folder.
        device: ``cpu`` or ``cuda:i``.
    """

    recipe: Recipe
    folder: Path
    device: str = "cpu"
    _datasets: dict[str, Dataset] = field(default_factory=dict, repr=False)
    _said: set[str] = field(default_factory=set, repr=False)

    @property
    def log(self) -> Path:
        """The run's metrics.jsonl."""
        return self.folder / "metrics.jsonl"

    def say_once(self, text: str) -> None:
        """Print a line that several trainings of the run have to say."""
        if text not in self._said:
            show.say(text)
        self._said.add(text)

    def dataset(self, split: str) -> Dataset:
        """A split of the recipe's data, built once."""
        if split not in self._datasets:
            data = self.recipe.data
            found = build(
                "datasets", data.spec, self.recipe.place / "data", self.recipe.root,
                split=split, root=data_root(), where=self.recipe.place / "data", alpha=self.alpha,
            )  # fmt: skip
            if not len(found):
                raise UserError(f"{self.recipe.place / 'data'}: the split {split!r} is empty.")
            self._datasets[split] = self.cached(found, tuple(found.classes) or self._classes_of_weights())
        return self._datasets[split]

    @property
    def task(self) -> Task:
        """What a target is and which scores count."""
        found: Task = build("tasks", self.recipe.task.spec, self.recipe.place / "task", self.recipe.root)
        return found

    def cached(self, found: Any, classes: tuple[str, ...]) -> Dataset:
        """The split with its decoded images kept where the recipe says."""
        data = self.recipe.data
        budget = round(data.cache_gib * 2**30)
        if data.cache == "disk":
            from limbeck.data.cache_file import Stored

            key = digest([data.spec, self.alpha, found.digest()])
            return Remembered(Stored(found, cache_folder() / "decoded", key, budget), classes, budget=0)
        return Remembered(found, classes, budget if data.cache == "memory" else 0)

    @property
    def alpha(self) -> bool:
        """Whether a network takes a fourth channel, as its mean in the recipe says."""
        sections = [self.recipe.student, *(seat.section for seat in seats(self.recipe).values())]
        return any(section.mean is not None and len(section.mean) == 4 for section in sections)

    @property
    def num_classes(self) -> int:
        """Classes of the data; where they name none, of the student's weights."""
        return len(self.dataset(self.recipe.evaluate.split).classes)

    def _classes_of_weights(self) -> tuple[str, ...]:
        """Class names that the student's weight file or folder carries.

        Raises:
            UserError: If neither data nor weights name any.
        """
        weights = self.recipe.student.weights
        carried = labels_of(weights).classes if weights else ()
        if not carried:
            raise UserError(
                f"{self.recipe.place / 'data'}: neither the data nor the student's weights name the classes; "
                "give data.classes."
            )
        return carried

    def network(self, section: Model, where: Place, num_classes: int) -> Any:
        """The network of a section, in PyTorch, without the weights of a file; see :meth:`weigh`."""
        from limbeck.graph.network import as_logits

        pretrained = self.named_weights(section, where)
        runtime = {"num_classes": num_classes, "pretrained": pretrained, "root": self.recipe.root}
        model = as_logits(build("models", section.spec, where, self.recipe.root, **runtime))
        file = self.weight_file(section)
        carried = Metadata.read(file) if file else None
        own: Any = carried.preprocess if carried else model
        mean, std = section.mean or own.mean, section.std or own.std
        model.__dict__["mean"], model.__dict__["std"] = mean, std
        if len(mean) != len(std) or (":" not in section.kind and len(mean) != 3):
            channels = f"{len(mean)} channels by its mean, {len(std)} by its std"
            takes = f"{section.kind} takes RGB" if ":" not in section.kind else "give both, a value a channel"
            raise UserError(f"{where / 'mean'}: the network takes {channels}; {takes}.")
        return model

    def named_weights(self, section: Model, where: Place) -> str | None:
        """What ``weights`` names if it is no file: a hub id or folder, or the library's name of a set of weights.

        Raises:
            UserError: If it looks like a file and there is none, or the section's kind knows no names.
        """
        with placed(where / "weights"):
            if section.weights is None or self.weight_file(section):
                return None
        component = find("models", section.kind, str(where / "kind"), self.recipe.root)
        if "pretrained" not in inspect.signature(component).parameters:
            raise UserError(
                f"{where / 'weights'}: no such file {section.weights!r}, and {section.kind} has no named weights."
            )
        return section.weights

    def weigh(self, model: Any, section: Model, where: Place) -> None:
        """Load the section's weight files into the network, if it has any, and say what fitted.

        Raises:
            UserError: As :meth:`fit_backbone` and :meth:`fit_file` do.
        """
        for report in (self.fit_backbone(model, section, where), self.fit_file(model, section, where)):
            if report is not None:
                show.say(str(report))
        if self.weight_file(section) is None and getattr(model, "loaded", None) is not None:
            show.say(str(model.loaded))
        self._compare_labels(section)

    def fit_backbone(self, model: Any, section: Model, where: Place) -> "Report | None":
        """Load ``backbone_weights`` into the network's encoder, if the section has any.

        Raises:
            UserError: With their place in the recipe, if they cannot be had or read, or fit only in part.
        """
        from limbeck.data.weights import load_backbone

        source = section.backbone_weights
        if source is None:
            return None
        with placed(where / "backbone_weights"):
            return load_backbone(model, self._backbone(source), source, partial=section.partial)

    def fit_file(self, model: Any, section: Model, where: Place) -> "Report | None":
        """Load the file that ``weights`` names into the network, if it names one; errors as of :meth:`fit_backbone`."""
        from limbeck.data.weights import load_weights

        with placed(where / "weights"):
            file = self.weight_file(section)
            return None if file is None else load_weights(model, file, partial=section.partial)

    def _backbone(self, source: str) -> Any:
        """Tensors of a file, a hub folder or id, or of torchvision's name."""
        from limbeck.data.tensor_file import read_tensors

        if Path(source).exists() or Path(source).suffix in WEIGHT_SUFFIXES:
            return read_tensors(Path(source))
        if LIBRARY_NAME.fullmatch(source):
            from limbeck.models._torchvision import named_weights

            return named_weights(source)
        from limbeck.models._hub import hub_tensors

        return hub_tensors(source, self.recipe.root)

    def _compare_labels(self, section: Model) -> None:
        """Say where the data call a class otherwise than the weights: the order decides what a mask means."""
        if isinstance(section, Teacher) and section.train is None:
            return  # one that is taken as it is was mapped, or refused
        theirs = labels_of(section.weights).classes if section.weights and self.weight_file(section) else ()
        ours = self.dataset(self.recipe.evaluate.split).classes
        differing = [n for n, (a, b) in enumerate(zip(theirs, ours, strict=False)) if plain_name(a) != plain_name(b)]
        if theirs and len(theirs) == len(ours) and differing:
            first = differing[0]
            show.say(
                f"{section.weights}: {len(differing)} of {len(ours)} classes have other names in the data, first "
                f"{first}: {theirs[first]!r} there, {ours[first]!r} here. If the order differs, scores mean nothing."
            )

    @staticmethod
    def weight_file(section: Model) -> Path | None:
        """The file that ``weights`` names; None where it is a hub id, a hub folder or a library's name."""
        path = Path(section.weights) if section.weights else None
        if path is None or path.is_dir() or (not path.is_file() and path.suffix not in WEIGHT_SUFFIXES):
            return None
        if not path.is_file():
            raise UserError(f"{path}: no such weight file.")
        return path

    def preprocess(self, model: Any, role: str = "student") -> Preprocess:
        """From an image to the network's input, by the recipe's sizes and the network's normalisation."""
        data = self.recipe.data
        return Preprocess(
            size=self.size(role), keep_ratio=data.resize.mode == "keep_ratio", multiple=data.resize.multiple,
            mean=tuple(model.mean), std=tuple(model.std), interpolation=data.resize.interpolation,
        )  # fmt: skip

    def metadata(self, role: str, section: Model, model: Any, **more: Any) -> Metadata:
        """What a file of this network says about itself."""
        dataset, task = self.dataset(self.recipe.evaluate.split), self.task
        return Metadata(
            task=task.name, model=role, classes=dataset.classes, preprocess=self.preprocess(model, role),
            palette=tuple(dataset.palette) or (self._palette(dataset.classes) if task.dense else ()),
            recipe=digest(self.recipe.resolved()), licences=self.licences(role), **more,
        )  # fmt: skip

    def licences(self, role: str) -> dict[str, Any]:
        """Terms of the data and weights behind a network, as its files carry them."""
        found = terms(self.recipe, self.dataset(self.recipe.evaluate.split), role)
        return {name: licence.to_json() if licence else None for name, licence in found.items()}

    def _palette(self, classes: Sequence[str]) -> tuple[tuple[int, int, int], ...]:
        """Colours that the student's weights carry for these very classes, else distinct ones."""
        weights = self.recipe.student.weights
        carried = labels_of(weights) if weights and self.weight_file(self.recipe.student) else Labels()
        fits = carried.classes == tuple(classes) and len(carried.palette) == len(classes)
        return carried.palette if fits else palette(len(classes))

    def architecture(
        self, section: Model, model: Any, num_classes: int, groups: Sequence[Sequence[int]] | None = None
    ) -> dict[str, Any]:
        """How to build the network again, as it ships: no path of this machine, no download, no auxiliary head."""
        spec = dict(getattr(model, "architecture", None) or section.spec)
        component = find("models", section.kind, "models", self.recipe.root)
        if ":" not in spec["kind"]:
            as_shipped = {"aux": False, "backbone": "random", "encoder_weights": None}
            spec |= {name: v for name, v in as_shipped.items() if name in inspect.signature(component).parameters}
        source, colon, name = spec["kind"].rpartition(":")
        kind = f"./{Path(source).name}:{name}" if colon and source.endswith(".py") else spec["kind"]
        mapped = {} if groups is None else {"class_groups": [list(group) for group in groups]}
        return {**spec, "kind": kind, "num_classes": num_classes, **mapped}

    def source_root(self, section: Model) -> Path:
        """Folder of the user's own code, if the network is built by it."""
        source, colon, _ = section.kind.rpartition(":")
        return (self.recipe.root / source).parent if colon and source.endswith(".py") else self.recipe.root

    def section(self, role: str) -> Model:
        """The section that describes a network."""
        seat = seats(self.recipe).get(role)
        return seat.section if seat else self.recipe.student

    def where(self, role: str) -> Place:
        """Where the section stands that describes a network."""
        seat = seats(self.recipe).get(role)
        return seat.where if seat else self.recipe.place / "student"

    def size(self, role: str) -> tuple[int, int]:
        """Size that images are brought to for a network, [height, width]."""
        seat = seats(self.recipe).get(role)
        return (seat.section.input_size if seat else None) or self.recipe.data.size

    def seed(self, role: str) -> int:
        """What a network's weights, the order of its images and their views are drawn from."""
        own = seats(self.recipe)[role].section.seed if role in seats(self.recipe) else None
        return self.recipe.seed if own is None else own

    @property
    def roles(self) -> tuple[str, ...]:
        """Networks of the run, in the order in which they are made.

        ``student-baseline`` is the student without distillation, ``student-longer`` trained on for as long as QAT.
        """
        longer = any(spec.qat and spec.qat.control for spec in self.recipe.quantize)
        beside = ["student-baseline"] * self.recipe.baseline + ["student-longer"] * longer
        return (*seats(self.recipe), "student", *beside)

    def weights(self, role: str) -> Path:
        """Where a network's final weights are."""
        return self.folder / role / f"{role}.safetensors"


def plain_name(name: str) -> str:
    """A class name without what spelling adds: ``Traffic light`` is ``traffic_light``."""
    return re.sub(r"[\W_]+", "", name).casefold()


def labels_of(weights: str) -> Labels:
    """Names and colours of classes in a weight file, or names in the config.json of a hub id or folder."""
    path = Path(weights)
    if path.is_file():
        metadata = Metadata.read(path)
        return Labels(metadata.classes, tuple(metadata.palette)) if metadata else read_labels(path)
    from limbeck.models._hub import hub_json

    names = {
        int(key): str(value) for key, value in hub_json(weights, "config.json", Path()).get("id2label", {}).items()
    }
    return Labels(tuple(names[index] for index in sorted(names)))
