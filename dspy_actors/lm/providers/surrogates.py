"""Characters that a server has cut in two: it counts in UTF-16, and ends a piece of a stream within an emoji."""

from __future__ import annotations

from collections.abc import Sequence

FIRST_HALF = "\ud800"
"""The least of the first halves; few characters stand above it."""

_LAST = "\udbff"


def paired(text: str) -> tuple[str, str]:
    """`text` with its halves made whole, and the first half at its end, which is to stand before what comes next."""
    half = text[-1] if FIRST_HALF <= text[-1] <= _LAST else ""
    return _mended(text[: len(text) - len(half)]), half


def joined(parts: Sequence[str]) -> str:
    """The parts as one text, a character that was cut in two between them as one."""
    if len(parts) == 1:
        return parts[0]
    text = "".join(parts)
    return text if text.isascii() or text.isprintable() else _mended(text)


def _mended(text: str) -> str:
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
