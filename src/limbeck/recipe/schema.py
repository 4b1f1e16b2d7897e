"""The whole recipe on one page: what every section is called, what it may hold, and what it means.

A section with a ``kind`` is a component: keys that are listed here belong to the section (they are reserved), all
others are arguments of the component and are checked against its signature by :mod:`limbeck.build`.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_serializer,
    field_validator,
    model_validator,
)

from limbeck.place import Place

__all__ = [
    "Augment", "Bench", "Component", "Data", "Export", "Model", "Optimizer", "Qat", "Quantize", "Ramp", "Recipe",
    "Resize", "Schedule", "Section", "Task", "TaskLoss", "Term", "Train",
]  # fmt: skip

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Quality = Annotated[int, Field(ge=1, le=100)]


class Section(BaseModel):
    """A part of a recipe; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=())


class Component(Section):
    """A section that names a file of a room; keys that are not reserved go to the component."""

    model_config = ConfigDict(extra="allow")
    kind: str
    """File of the room, ``package.module:Name``, or ``./file.py:name`` relative to the recipe."""

    @property
    def spec(self) -> dict[str, Any]:
        """Kind and the component's own arguments."""
        return {"kind": self.kind, **(self.model_extra or {})}


class Resize(Section):
    """How an image comes to the network's input size."""

    mode: Literal["squash", "keep_ratio"] = "squash"
    """``squash`` to the size, or ``keep_ratio`` and pad at the right and bottom."""
    multiple: Count = 1
    """The padded size is rounded up to a multiple of this."""
    interpolation: Literal["bilinear", "bicubic", "nearest"] = "bilinear"


def _rising(between: tuple[Any, Any]) -> tuple[Any, Any]:
    if between[0] > between[1]:
        raise ValueError(f"a range is [smallest, largest], such as [{between[1]}, {between[0]}]")
    return between


class Chance(Section):
    """Something that happens to some training images; a number alone is its probability."""

    probability: Share
    """Share of the images."""

    @model_validator(mode="before")
    @classmethod
    def _alone(cls, value: Any) -> Any:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return {"probability": value} if is_number else value


class Weather(Chance):
    """Weather, light or noise over some images."""

    strength: Annotated[tuple[Share, Share], AfterValidator(_rising)] = (0.2, 0.8)
    """Range that each image's strength is drawn from, 0 to 1."""


class Blur(Chance):
    """Gaussian blur of some images."""

    sigma: Annotated[tuple[Positive, Positive], AfterValidator(_rising)] = (0.3, 1.5)
    """Range of its width, in pixels of the input."""


class Jpeg(Chance):
    """JPEG artefacts in some images."""

    quality: Annotated[tuple[Quality, Quality], AfterValidator(_rising)] = (30, 90)
    """Range of libjpeg's quality, 1 to 100."""


class Augment(Section):
    """Random changes of training images; the target follows every geometric one."""

    scale: tuple[Positive, Positive] | None = None
    """Range of a random zoom; the result is cropped or padded (void) to the input size."""
    max_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Largest share of one class in a crop; up to ten crops are drawn, and the last one stays (mmseg: 0.75)."""
    flip: bool = False
    """Mirror every second image."""
    color: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Strength of random brightness, contrast and saturation; hue moves by a tenth of it."""
    photometric: bool = False
    """Brightness, contrast, saturation and hue as mmseg distorts them, each in every second image."""
    dusk: Weather | None = None
    shadow: Weather | None = None
    fog: Weather | None = None
    rain: Weather | None = None
    snow: Weather | None = None
    blur: Blur | None = None
    noise: Weather | None = None
    """Of a sensor at high ISO."""
    jpeg: Jpeg | None = None

    @model_validator(mode="after")
    def _room_to_choose(self) -> Self:
        if self.max_share < 1 and self.scale is None:
            raise ValueError("max_share chooses among crops, and without scale there is only one")
        return self


class Data(Component):
    """Where images come from and how they are fed."""

    size: tuple[Annotated[int, Field(ge=16)], Annotated[int, Field(ge=16)]]
    """Input size of the networks, [height, width]."""
    resize: Resize = Resize()
    augment: Augment = Augment()
    unlabelled: str | None = None
    """A folder of images that only the teacher's terms learn from; under the data's root, or absolute."""
    batch: Count = 8
    workers: Annotated[int, Field(ge=0)] | None = None
    """Processes that prepare images ahead; 0 leaves it to a thread, the default beside a CPU that trains."""
    cache: Literal["memory", "disk", "none"] = "memory"
    """Where decoded images are kept: in memory for this run, or in a file of the cache folder for all runs."""
    cache_gib: Positive = 1.0
    """Size of the cache for each split, in GiB; images that do not fit are decoded each time."""


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


class TaskLoss(Component):
    """The loss against the labels."""

    kind: str = "cross_entropy"
    weight: Annotated[float, Field(ge=0)] = 1.0


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


class Ramp(Section):
    """Weight of a term over the training, as a factor between 0 and 1; shares of all steps."""

    warmup: Share = 0.0
    decay: tuple[Share, Share] | None = None
    """Falls linearly from 1 to 0 between these two."""


class Term(Component):
    """One distillation term: a loss between a student's and a teacher's tensor."""

    at: str = "logits"
    """``logits``, one path for both, or ``student.path -> teacher.path``."""
    weight: Positive = 1.0
    schedule: Ramp = Ramp()


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


class Calibration(Section):
    """Images that set the first activation ranges; never those that are scored."""

    samples: Count = 200
    images: str | None = None
    """A folder of images; training images if absent."""


class Quantize(Component):
    """From float to integers, for one target runtime."""

    kind: str = "pt2e"
    calibration: Calibration = Calibration()
    qat: Qat | None = None


class Export(Component):
    """A file format to write."""

    kind: str = "onnx"
    dynamic: list[Literal["height", "width"]] = []
    """Sizes that stay free in the file; batch always is."""


class Slide(Section):
    """Scoring by a window of the networks' input size that moves over the image."""

    overlap: Annotated[float, Field(ge=0, lt=1)] = 1 / 3
    """Share of a window's height and width that the next one covers again."""
    stride: tuple[Count, Count] | None = None
    """Pixels between two windows, [height, width]; instead of ``overlap``."""
    image: Literal["cover", "own"] = "cover"
    """``cover`` resizes the image, in its own shape, until it just covers the window; ``own`` leaves it as it is."""

    def strides(self, size: tuple[int, int]) -> tuple[int, int]:
        """Pixels between two windows of this size."""
        height, width = self.stride or (max(1, round(side * (1 - self.overlap))) for side in size)
        return height, width


class Evaluate(Section):
    """Which split is scored, and how images are shown to the networks: whole and once, unless said otherwise."""

    split: Literal["training", "validation", "test", "unlabelled"] = "validation"
    """``unlabelled``: images without truth, where a data set has them; then networks are compared with each other."""
    batch: Count = 8
    slide: Slide | None = None
    flip: bool = False
    """Average with the mirrored image's answer."""
    scales: Annotated[list[Positive], Field(min_length=1)] = [1.0]
    """Average the answers to the image at these multiples of its size."""
    boundary: bool = False
    """Score edges too (boundary IoU): one or two milliseconds an image."""
    samples: Annotated[int, Field(ge=0)] = 8
    """Images that the report shows: best, worst, most changed by quantization, typical."""


class Bench(Section):
    """How speed is measured."""

    runtimes: list[str] = ["eager", "onnxruntime", "openvino"]
    threads: Annotated[int, Field(ge=0)] = 0
    """0 means the number of physical cores."""
    warmup: Annotated[int, Field(ge=0)] = 10
    runs: Count = 60
    rounds: Count = 4
    """Turns that every row gets, forwards and backwards in turn."""
    batches: list[Count] = [1, 8]
    """Batch sizes tried for throughput."""


class Task(Component):
    """What a target is and how it is scored."""

    kind: str = "segmentation"


class Recipe(Section):
    """A whole run."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    task: Task = Task()
    data: Data
    teacher: Model | None = None
    student: Model
    baseline: bool = False
    """Train the student once more without distillation: same seed, same steps."""
    train: Train | None = None
    distil: list[Term] = []
    quantize: list[Quantize] = []
    export: list[Export] = [Export()]
    evaluate: Evaluate = Evaluate()
    bench: Bench | None = Bench()
    matrix: dict[str, list[Any] | dict[str, dict[str, Any]]] = {}
    """Runs of `limbeck sweep`: a dotted key with a list, or a word with named variants of `dotted.key: value`."""

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
        if self.distil and self.teacher is None:
            raise ValueError("distil needs a teacher")
        if self.data.unlabelled and not self.distil:
            raise ValueError("data.unlabelled is for what a teacher teaches, but there is no distil section")
        if self.train is None and self.student.weights is None and ":" not in self.student.kind:
            raise ValueError("the student has neither weights nor a train section: nothing to work with")
        if self.student.train is not None or self.student.min_metric is not None:
            raise ValueError("train and min_metric inside student would do nothing; it learns by the recipe's train")
        if self.train is None and self.distil:
            raise ValueError("distil needs a train section")
        if self.teacher and self.teacher.weights is None and self.teacher.train is None:
            raise ValueError("the teacher has neither weights nor a train section")
        if self.baseline and not self.distil:
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
