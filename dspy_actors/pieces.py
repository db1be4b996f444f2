"""What a streamed answer arrives in: pieces of its text and of its tool calls, in the order the model wrote them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeAlias


class TextPiece(NamedTuple):
    """The next characters of a choice's text."""

    text: str
    choice: int = 0


text_piece: Callable[[tuple[str, int]], TextPiece] = partial(tuple.__new__, TextPiece)
"""`TextPiece` of a pair, without the call of a Python function that its own constructor is."""


class ToolCallPiece(NamedTuple):
    """The next part of a tool call. Pieces of one call share `choice` and `number`; the first has its id and name.

    `arguments` are the next characters of the JSON that the model writes.
    """

    number: int
    id: str = ""
    name: str = ""
    arguments: str = ""
    choice: int = 0


Piece: TypeAlias = TextPiece | ToolCallPiece


def size_of(piece: Piece) -> int:
    """Characters that a piece carries, which is what bounds a buffer of them."""
    return len(piece.text) if isinstance(piece, TextPiece) else len(piece.arguments) + len(piece.name)
