"""Terms that data sets and weights come under, as far as they are known."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from typing import Any

__all__ = ["Licence", "licence_of_weights"]


OPEN = ("mit", "apache", "bsd", "cc0", "isc", "unlicense", "odc", "pddl")
"""First words of licences that grant commercial use."""


@dataclass(frozen=True, slots=True)
class Licence:
    """Terms of use.

    Attributes:
        name: What they are called.
        url: Where they stand; empty if nowhere in particular.
        commercial: Whether commercial use is granted; None where the terms do not say it plainly.
    """

    name: str
    url: str = ""
    commercial: bool | None = None

    def __str__(self) -> str:
        """One line: name, what it means for a product, where it stands."""
        meaning = {True: "", False: "; NOT for commercial use", None: "; commercial use unclear"}[self.commercial]
        return f"{self.name}{meaning}{self.url and f' ({self.url})'}"

    def to_json(self) -> dict[str, Any]:
        """The three values under their names."""
        return asdict(self)

    @classmethod
    def named(cls, name: str) -> "Licence":
        """A licence that is known by name alone, such as ``MIT`` or ``cc-by-nc-4.0``."""
        words = [word for word in re.split(r"[^a-z0-9]+", name.lower()) if word]
        if "nc" in words or "noncommercial" in "".join(words):
            return cls(name, commercial=False)
        granted = words[:1] == ["cc"] and "by" in words and "nd" not in words
        return cls(name, commercial=True if granted or (words and words[0] in OPEN) else None)

    @classmethod
    def from_json(cls, value: Any) -> "Licence | None":
        """What :meth:`to_json` wrote, or a bare name; None for anything else."""
        if isinstance(value, str):
            return cls.named(value)
        if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
            return None
        commercial = value.get("commercial")
        return cls(value["name"], str(value.get("url", "")), commercial if isinstance(commercial, bool) else None)


NVIDIA = Licence(
    "NVIDIA Source Code License for SegFormer, section 3.3: research or evaluation",
    "https://github.com/NVlabs/SegFormer/blob/master/LICENSE", commercial=False,
)  # fmt: skip
TORCHVISION = Licence(
    "BSD-3-Clause (torchvision); terms of the images they learned from may apply",
    "https://github.com/pytorch/vision#pre-trained-model-license",
)
TIMM = Licence(
    "Apache-2.0 for most of timm's, the model's card says; terms of the images they learned from may apply",
    "https://huggingface.co/timm",
)

WEIGHTS = {
    "*mit[-_]b[0-5]*": NVIDIA,
    "*segformer?b[0-5]*": NVIDIA,
    "torchvision* *": TORCHVISION,
    "timm *": TIMM,
    "torchvision_classifier *": TORCHVISION,
    "lightweight_deeplabv3 *": TORCHVISION,
    "sceneseg *imagenet": TORCHVISION,
    "* *_weights.*": TORCHVISION,
}
"""Patterns of "kind weights", the first that fits decides: published weights keep their names in every copy."""


def licence_of_weights(kind: str, weights: str) -> Licence | None:
    """Terms of published weights, known by the kind of model and the name of file, hub id or set; None if unknown."""
    name = f"{kind} {weights}".lower()
    return next((licence for pattern, licence in WEIGHTS.items() if fnmatch(name, pattern)), None)
