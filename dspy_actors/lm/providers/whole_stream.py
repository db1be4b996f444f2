"""A whole answer as a stream: for servers that answer in one piece, and for providers without streams of their own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from dspy_actors.errors import LMTransportError
from dspy_actors.messages import LMResponse, Usage
from dspy_actors.pieces import Piece, TextPiece, ToolCallPiece

_WORD = re.compile(r"\s*\S+\s*$|\s*\S+|\s+")


class WholeStream:
    """See `base.ProviderStream`. Each `read` gives one of `pieces`."""

    def __init__(self, response: LMResponse, pieces: Iterable[Piece]) -> None:
        self._response = response
        self._rest = iter(pieces)
        self._texts: list[str] = []
        self._ended = False
        self._closed = False

    @property
    def usage(self) -> Usage | None:
        """See `ProviderStream.usage`."""
        return self._response.usage

    @property
    def text(self) -> str:
        """See `ProviderStream.text`."""
        return "".join(self._texts)

    async def read(self) -> Sequence[Piece]:
        """See `ProviderStream.read`."""
        if self._ended:
            return ()
        if self._closed:
            raise LMTransportError("the answer was closed before its end", provider_code="closed")
        for piece in self._rest:
            if isinstance(piece, TextPiece) and piece.choice == 0:
                self._texts.append(piece.text)
            return (piece,)
        self._ended = True
        return ()

    def response(self) -> LMResponse:
        """See `ProviderStream.response`."""
        if not self._ended:
            msg = "the stream has not come to a clean end: read() until it returns ()"
            raise RuntimeError(msg)
        return self._response

    async def aclose(self) -> None:
        """See `ProviderStream.aclose`."""
        self._closed = True


def streamed_whole(response: LMResponse, pieces: Iterable[Piece] | None = None) -> WholeStream:
    """`response` as a stream: in `pieces`, or in as few as it has texts and tool calls."""
    return WholeStream(response, pieces_of(response) if pieces is None else pieces)


def pieces_of(response: LMResponse) -> list[Piece]:
    """A whole answer in as few pieces as it has texts and tool calls."""
    pieces: list[Piece] = []
    for choice, text in enumerate(response.texts):
        if text:
            pieces.append(TextPiece(text, choice))
        for number, call in enumerate(response.tool_calls[choice] if response.tool_calls else ()):
            pieces.append(ToolCallPiece(number, call.id, call.name, call.arguments, choice))
    return pieces


def words_of(response: LMResponse) -> Iterator[Piece]:
    """A whole answer in pieces of a word each, its white space kept; the choices one after the other."""
    for piece in pieces_of(response):
        if isinstance(piece, TextPiece):
            yield from (TextPiece(found[0], piece.choice) for found in _WORD.finditer(piece.text))
        else:
            yield piece
