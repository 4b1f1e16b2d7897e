"""Sections of a recipe about networks and how they learn."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_serializer,
    field_validator,
    model_validator,
)

from limbeck.recipe.losses import TaskLoss, Term
from limbeck.recipe.section import Component, Count, Positive, Section, Share

__all__ = ["Distil", "Model", "Optimizer", "Qat", "Schedule", "Train"]


class Optimizer(Section):
    """What moves the parameters."""

    name: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: Positive = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Not applied to norms and biases."""
    momentum: Share = 0.9
    """For sgd."""
    head_factor: Positive = 1.0
    """Learning rate of everything but the backbone or encoder, as a multiple of ``lr``."""


class Schedule(Section):
    """How the learning rate moves; a function of the step alone."""

    name: Literal["poly", "cosine", "constant"] = "poly"
    warmup: Share = 0.0
    """Share of the steps over which the rate rises from 0."""
    power: Positive = 0.9
    """Exponent of ``poly``."""
    final: Share = 0.0
    """Rate at the end as a share of ``lr``."""


def _one_or_several(value: Any, several: ValidatorFunctionWrapHandler) -> Any:
    return [TaskLoss.model_validate(value)] if isinstance(value, dict) else several(value)


class Checkpoint(Section):
    """How often training is saved, and what is kept."""

    every: Positive = 1.0
    """Epochs between two saves; the last state is always saved."""
    keep: Count = 1
    """How many of the latest saves stay."""


class Train(Section):
    """One training: teacher, student, baseline and QAT all read it."""

    epochs: Positive | None = None
    steps: Count | None = None
    """Either ``epochs`` or ``steps``."""
    batch: Count | None = None
    """Images a step over all processes; ``data.batch`` if absent."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    channels_last: bool = True
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    clip: Positive | None = None
    """Largest norm of the gradient."""
    accumulate: Count = 1
    """Batches whose gradients are averaged into one step."""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay of the moving average of the weights; validation and the result use the average."""
    task: Annotated[list[TaskLoss], WrapValidator(_one_or_several), Field(min_length=1)] = [TaskLoss()]
    """Losses against the labels, added up; a single one may stand without a list."""
    validate_every: Positive = 1.0
    """Epochs between two validations."""
    early_stop: Count | None = None
    """Validations without a better score after which training ends."""
    freeze_batch_norm: Share = 1.0
    """Share of the steps after which batch norm statistics stay; 0 never lets them move."""
    sync_batch_norm: bool = False
    """Batch statistics over all GPUs."""
    checkpoint: Checkpoint = Checkpoint()

    @field_serializer("task", mode="wrap")
    def _as_written(self, value: Any, several: SerializerFunctionWrapHandler) -> Any:
        found = several(value)
        return found[0] if len(found) == 1 else found

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give either epochs or steps")
        return self


class Qat(Train):
    """Quantization-aware training: ``train`` with these keys merged over it, always in fp32."""

    freeze_observers: Share = 0.5
    """Share of the steps after which the activation ranges stay."""
    control: bool = False
    """Train the FP32 student on for just as long, as the row to compare with."""
    freeze_batch_norm: Share = 0.33

    @field_validator("precision")
    @classmethod
    def _fp32(cls, precision: str) -> str:
        if precision != "fp32":
            raise ValueError("QAT runs in fp32; leave precision out here")
        return precision


def _all_or_some(value: Any, _: ValidatorFunctionWrapHandler) -> Any:
    if value != "full" and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise ValueError("keep is `full`, or how many of the most likely classes")
    return value


class Distil(Section):
    """What the student learns from its teacher; a list alone is its terms."""

    terms: list[Term] = []
    cache: Literal["online", "replay"] = "online"
    """``online`` asks the teacher at every step; ``replay`` keeps what it said about ``views`` views of each image."""
    views: Count = 8
    """With ``replay``, augmented views of an image; an epoch shows one, and after so many they come again."""
    keep: Annotated[Literal["full"] | int, WrapValidator(_all_or_some)] = "full"
    """With ``replay``, what is kept of logits: all, or this many of the most likely classes and the rest as one."""
    cache_gib: Positive = 4.0
    """With ``replay``, the most that may be written, in GiB; more is refused before anything is trained."""
    probe: bool = True
    """Look at each term's gradient: that there is one in the first steps, and how it compares with the labels'."""


class Model(Component):
    """A network: student or teacher."""

    weights: str | None = None
    """File, hub id or folder, or the library's name of a set of weights."""
    backbone_weights: str | None = None
    """The encoder's weights alone: file, hub id or folder, or torchvision's name, such as ResNet50_Weights.DEFAULT."""
    partial: bool = False
    """Accept weights that fit only in part."""
    train: Train | None = None
    """Merged over the recipe's ``train``; a teacher with weights and no ``train`` here is used as it is."""
    min_metric: Annotated[float, Field(ge=0, le=100)] | None = None
    """Points the teacher must reach on validation before anything is distilled from it."""
    mean: Annotated[tuple[float, ...], Field(min_length=1)] | None = None
    std: Annotated[tuple[Positive, ...], Field(min_length=1)] | None = None
    """What its input is normalised with, a value a channel: 3 for RGB, 1 for grey, 4 with alpha; the model's own."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.weights and self.backbone_weights and not self.partial:
            raise ValueError("weights would overwrite backbone_weights; give one of them, or partial: true")
        if self.mean and self.std and len(self.mean) != len(self.std):
            raise ValueError(f"mean has {len(self.mean)} values and std {len(self.std)}; each needs one a channel")
        return self
