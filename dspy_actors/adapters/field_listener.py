"""`FieldListener`: follows an answer while it is being written and says which text belongs to which output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class FieldPiece(NamedTuple):
    """The next characters of an output's text; `is_last` once for each output, on a piece that may be empty."""

    field: str
    text: str
    is_last: bool = False


class FieldListener(Protocol):
    """Made for one answer, used once, by one thread at a time. Pure.

    The pieces of an output joined are the text that `Adapter.parse` reads its value from. Nothing is held back but
    what the next characters may turn into something that is no text of the output: the beginning of a mark, an
    escape that is not complete, white space that may turn out to stand at the end.
    """

    def feed(self, text: str) -> Sequence[FieldPiece]:
        """The answer goes on with `text`; what can be told of it now."""
        ...

    def end(self) -> Sequence[FieldPiece]:
        """The answer is over; what was held back, and the end of the output it stopped in."""
        ...
