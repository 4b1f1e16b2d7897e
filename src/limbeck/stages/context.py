"""What every stage starts from: the recipe, the run folder, the device, and how to build what the recipe names."""

import inspect
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from limbeck import show
from limbeck.artifact.metadata import Metadata
from limbeck.artifact.palette import palette
from limbeck.artifact.preprocess import Preprocess
from limbeck.build import build, find
from limbeck.data.cache import Remembered
from limbeck.datasets import Dataset
from limbeck.place import Place
from limbeck.recipe import Model, Recipe
from limbeck.record import UserError, digest
from limbeck.stages.licences import terms

__all__ = ["ROLES", "Context", "data_root", "runs_root"]

ROLES = ("teacher", "student", "student-baseline", "student-longer")
"""Networks of a run. The last two are the student without distillation, and trained on for as long as QAT."""


WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
"""What a missing weight file is told from a hub id or a library's name of weights by."""


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

    @property
    def log(self) -> Path:
        """The run's metrics.jsonl."""
        return self.folder / "metrics.jsonl"

    def dataset(self, split: str) -> Dataset:
        """A split of the recipe's data, built once."""
        if split not in self._datasets:
            data = self.recipe.data
            found = build(
                "datasets", data.spec, self.recipe.place / "data", self.recipe.root,
                split=split, root=data_root(), where=self.recipe.place / "data",
            )  # fmt: skip
            if not len(found):
                raise UserError(f"{self.recipe.place / 'data'}: the split {split!r} is empty.")
            self._datasets[split] = Remembered(found, tuple(found.classes) or self._classes_of_weights())
        return self._datasets[split]

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
        carried = _carried_classes(weights) if weights else ()
        if not carried:
            raise UserError(
                f"{self.recipe.place / 'data'}: neither the data nor the student's weights name the classes; "
                "give data.classes."
            )
        return carried

    def network(self, section: Model, where: Place, num_classes: int) -> Any:
        """The network of a section, in PyTorch, without the weights of a file; see :meth:`weigh`."""
        from limbeck.graph.network import as_logits

        pretrained = None if self.weight_file(section) else section.weights
        component = find("models", section.kind, str(where / "kind"), self.recipe.root)
        if pretrained and "pretrained" not in inspect.signature(component).parameters:
            raise UserError(
                f"{where / 'weights'}: no such file {pretrained!r}, and {section.kind} has no named weights."
            )
        runtime = {"num_classes": num_classes, "pretrained": pretrained, "root": self.recipe.root}
        model = as_logits(build("models", section.spec, where, self.recipe.root, **runtime))
        file = self.weight_file(section)
        carried = Metadata.read(file) if file else None
        model.__dict__["mean"] = section.mean or (carried.preprocess.mean if carried else model.mean)
        model.__dict__["std"] = section.std or (carried.preprocess.std if carried else model.std)
        return model

    def weigh(self, model: Any, section: Model) -> None:
        """Load the section's weight file into the network, if it has one, and say what fitted."""
        from limbeck.data.weights import load_weights

        file = self.weight_file(section)
        if file is not None:
            show.say(str(load_weights(model, file, partial=section.partial)))

    @staticmethod
    def weight_file(section: Model) -> Path | None:
        """The file that ``weights`` names; None where it is a hub id, a hub folder or a library's name."""
        path = Path(section.weights) if section.weights else None
        if path is None or path.is_dir() or (not path.is_file() and path.suffix not in WEIGHT_SUFFIXES):
            return None
        if not path.is_file():
            raise UserError(f"{path}: no such weight file.")
        return path

    def preprocess(self, model: Any) -> Preprocess:
        """From an image to the network's input, by the recipe's sizes and the network's normalisation."""
        data = self.recipe.data
        return Preprocess(
            size=data.size, keep_ratio=data.resize.mode == "keep_ratio", multiple=data.resize.multiple,
            mean=tuple(model.mean), std=tuple(model.std), interpolation=data.resize.interpolation,
        )  # fmt: skip

    def metadata(self, role: str, section: Model, model: Any, **more: Any) -> Metadata:
        """What a file of this network says about itself."""
        dataset = self.dataset(self.recipe.evaluate.split)
        return Metadata(
            task=self.recipe.task.kind, model=role, classes=dataset.classes, preprocess=self.preprocess(model),
            palette=tuple(dataset.palette) or palette(len(dataset.classes)),
            recipe=digest(self.recipe.resolved()), licences=self.licences(role), **more,
        )  # fmt: skip

    def licences(self, role: str) -> dict[str, Any]:
        """Terms of the data and weights behind a network, as its files carry them."""
        found = terms(self.recipe, self.dataset(self.recipe.evaluate.split), role)
        return {name: licence.to_json() if licence else None for name, licence in found.items()}

    def architecture(self, section: Model, model: Any, num_classes: int) -> dict[str, Any]:
        """How to build the network again, as it ships: no path of this machine, no download, no auxiliary head."""
        spec = dict(getattr(model, "architecture", None) or section.spec)
        component = find("models", section.kind, "models", self.recipe.root)
        if ":" not in spec["kind"]:
            as_shipped = {"aux": False, "backbone": "random", "encoder_weights": None}
            spec |= {name: v for name, v in as_shipped.items() if name in inspect.signature(component).parameters}
        source, colon, name = spec["kind"].rpartition(":")
        kind = f"./{Path(source).name}:{name}" if colon and source.endswith(".py") else spec["kind"]
        return {**spec, "kind": kind, "num_classes": num_classes}

    def source_root(self, section: Model) -> Path:
        """Folder of the user's own code, if the network is built by it."""
        source, colon, _ = section.kind.rpartition(":")
        return (self.recipe.root / source).parent if colon and source.endswith(".py") else self.recipe.root

    def section(self, role: str) -> Model:
        """The section that describes a network."""
        if role == "teacher":
            assert self.recipe.teacher is not None
            return self.recipe.teacher
        return self.recipe.student

    def weights(self, role: str) -> Path:
        """Where a network's final weights are."""
        return self.folder / role / f"{role}.safetensors"


def _carried_classes(weights: str) -> tuple[str, ...]:
    """Class names in a weight file of ours, or in the config.json of a hub id or folder."""
    path = Path(weights)
    if path.is_file():
        metadata = Metadata.read(path)
        return metadata.classes if metadata else ()
    from limbeck.models._hub import hub_json

    names = {
        int(key): str(value) for key, value in hub_json(weights, "config.json", Path()).get("id2label", {}).items()
    }
    return tuple(names[index] for index in sorted(names))
