"""Characters that a server has cut in two: it counts in UTF-16, and ends a piece of a stream within an emoji."""

from __future__ import annotations

FIRST_HALF = "\ud800"
"""The least of the first halves; few characters stand above it."""

_LAST = "\udbff"


def paired(text: str) -> tuple[str, str]:
    """`text` with its halves made whole, and the first half at its end, which is to stand before what comes next."""
    half = text[-1] if FIRST_HALF <= text[-1] <= _LAST else ""
    whole = text[: len(text) - len(half)]
    return whole.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass"), half
