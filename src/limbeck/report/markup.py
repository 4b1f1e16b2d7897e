"""HTML that is safe by construction: whatever is not Markup is escaped."""

import html

__all__ = ["Markup", "join", "raw", "tag"]

VOID = frozenset({"img", "meta", "br", "input"})


class Markup(str):
    """Text that is already HTML."""

    __slots__ = ()


def raw(text: str) -> Markup:
    """Vouch for ``text``: it goes into the page as it is."""
    return Markup(text)


def join(*inside: str, between: str = "") -> Markup:
    """Pieces one after another, escaped unless they are Markup."""
    return Markup(html.escape(between).join(_safe(piece) for piece in inside))


def tag(name: str, *inside: str, **attributes: str | None) -> Markup:
    """One element. ``class_`` is written ``class`` and ``aria_label`` ``aria-label``; None leaves an attribute out."""
    written = "".join(f' {_attribute(key)}="{html.escape(v)}"' for key, v in attributes.items() if v is not None)
    return Markup(f"<{name}{written}>" if name in VOID else f"<{name}{written}>{join(*inside)}</{name}>")


def _attribute(key: str) -> str:
    return key.rstrip("_").replace("_", "-")


def _safe(piece: str) -> str:
    return piece if isinstance(piece, Markup) else html.escape(piece)
