"""The whole recipe: its sections, and what they may not say together."""

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, PrivateAttr, model_validator

from limbeck.place import Place
from limbeck.recipe.delivery import Bench, Evaluate, Export, Quantize
from limbeck.recipe.feed import Data
from limbeck.recipe.search import Search
from limbeck.recipe.section import Component, Section
from limbeck.recipe.teaching import Teachers
from limbeck.recipe.training import Distil, Model, Train

__all__ = ["Recipe", "Task"]


class Task(Component):
    """What a target is and how it is scored."""

    kind: str = "segmentation"


class Recipe(Section):
    """A whole run."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    task: Task = Task()
    data: Data
    teacher: Teachers = []
    student: Model
    baseline: bool = False
    """Train the student once more without distillation: same seed, same steps."""
    train: Train | None = None
    distil: Distil = Distil()
    quantize: list[Quantize] = []
    export: list[Export] = [Export()]
    evaluate: Evaluate = Evaluate()
    bench: Bench | None = Bench()
    matrix: dict[str, list[Any] | dict[str, dict[str, Any]]] = {}
    """Runs of `limbeck sweep`: a dotted key with a list, or a word with named variants of `dotted.key: value`."""
    search: Search | None = None
    """Values that `limbeck search` tries, and what it looks for."""

    _place: Place = PrivateAttr(default=Place("recipe"))
    _root: Path = PrivateAttr(default=Path())

    @property
    def place(self) -> Place:
        """Where the recipe stands, for messages: ``recipe.place / "data"``."""
        return self._place

    @property
    def root(self) -> Path:
        """Folder that ``./models.py`` and relative weights are looked up in."""
        return self._root

    def resolved(self) -> dict[str, Any]:
        """Every key with its value, as plain data; reading it again gives the same recipe."""
        return self.model_dump(mode="json")

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        if self.distil.terms and not self.teacher:
            raise ValueError("distil needs a teacher")
        if self.data.unlabelled and not self.distil.terms:
            raise ValueError("data.unlabelled is for what a teacher teaches, but there is no distil section")
        if self.train is None and self.student.weights is None and ":" not in self.student.kind:
            raise ValueError("the student has neither weights nor a train section: nothing to work with")
        if self.student.train is not None or self.student.min_metric is not None:
            raise ValueError("train and min_metric inside student would do nothing; it learns by the recipe's train")
        if self.train is None and self.distil.terms:
            raise ValueError("distil needs a train section")
        if self.baseline and not self.distil.terms:
            raise ValueError("baseline repeats the student without distillation, but there is no distil section")
        self._sizes_fit()
        return self

    def _sizes_fit(self) -> None:
        """Refuse strides that leave gaps, and scales for files whose input size is fixed."""
        scored, size = self.evaluate, self.data.size
        if scored.slide:
            stride = scored.slide.strides(size)
            if stride[0] > size[0] or stride[1] > size[1]:
                raise ValueError(f"evaluate.slide.stride {list(stride)} leaves gaps between windows of {list(size)}")
            return
        if scored.scales == [1.0]:
            return
        if self.quantize:
            raise ValueError(
                "evaluate.scales: integer files keep their input size; with evaluate.slide any scale works"
            )
        engines = [name for name in self.bench.runtimes if name != "eager"] if self.bench else []
        if engines and any({"height", "width"} - set(spec.dynamic) for spec in self.export):
            raise ValueError(
                f"evaluate.scales: files for {', '.join(engines)} keep their input size; write export: "
                "{dynamic: [height, width]}, or evaluate.slide, with which any scale works"
            )
