"""`RefusalBody`: the body of an answer that is none, of which no more is read than a response may have."""

from __future__ import annotations

from dspy_actors.errors import LMTransportError
from dspy_actors.lm.transports.arriving import Source
from dspy_actors.lm.transports.base import Take

REFUSED = 300
"""Statuses from this on are of no answer; what they are they say themselves."""


class RefusalBody:
    """See `arriving.Source`. Ends after `bound` bytes, and where it breaks off: what a refusal means its status says,
    which must not be lost.

    A connection on which the rest would still come, or which broke, is not kept.
    """

    __slots__ = ("_left", "_source")

    def __init__(self, source: Source, bound: int) -> None:
        self._source = source
        self._left = bound

    async def next(self) -> bytes:
        """See `Source.next`."""
        if self._left <= 0:
            return b""
        try:
            piece = await self._source.next()
        except LMTransportError:
            self._left = 0
            return b""
        kept = piece[: self._left]
        self._left -= len(piece)
        return kept

    async def pour(self, take: Take) -> bool:
        """See `Source.pour`. Of what is poured nobody keeps all."""
        try:
            return await self._source.pour(take)
        except LMTransportError:
            self._left = 0
            return False

    async def release(self, clean: bool) -> None:
        """See `Source.release`."""
        await self._source.release(clean and self._left > 0)
