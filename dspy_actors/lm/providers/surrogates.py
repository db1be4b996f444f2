"""Characters that a server has cut in two: it counts in UTF-16, and ends a piece of a stream within an emoji."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

_FIRST = "\ud800"
"""The least of the first halves; few characters stand above it."""

_LAST = "\udbff"


class Growing(Protocol):
    """A text that comes in pieces; `half` is what has come of a character that the server has cut in two."""

    half: str


def added(text: Growing, said: str) -> str:
    """What of `said`, which goes on with `text`, can be shown now; a first half at its end is kept as `text.half`."""
    if said and (text.half or said[-1] >= _FIRST):
        said, text.half = _paired(text.half + said)
    return said


def left_over(text: Growing) -> str:
    """The half that is kept where the text has ended, for the other one does not come. Taken away."""
    half, text.half = text.half, ""
    return half


def _paired(text: str) -> tuple[str, str]:
    """`text` with its halves made whole, and the first half at its end, which is to stand before what comes next."""
    half = text[-1] if _FIRST <= text[-1] <= _LAST else ""
    return _mended(text[: len(text) - len(half)]), half


def joined(parts: Sequence[str]) -> str:
    """The parts as one text, a character that was cut in two between them as one."""
    if len(parts) == 1:
        return parts[0]
    text = "".join(parts)
    return text if text.isascii() or text.isprintable() else _mended(text)


def _mended(text: str) -> str:
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
