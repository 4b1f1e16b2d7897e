"""Terms that data sets and weights come under, as far as they are known."""

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Licence"]


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

    def to_json(self) -> dict[str, Any]:
        """The three values under their names."""
        return asdict(self)
