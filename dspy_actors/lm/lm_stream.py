"""`LMStream`: one answer of a model, read while it is written."""

from __future__ import annotations

from asyncio import _get_running_loop
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from types import TracebackType
from typing import Self

from dspy_actors.channel import Channel
from dspy_actors.errors import BlockingCall, StreamError
from dspy_actors.lm.flow import Flow
from dspy_actors.lm.work import Answer
from dspy_actors.messages import Usage
from dspy_actors.pieces import Piece
from supervisors.reply import Reply


class LMStream:
    """The pieces of an answer, in order: `for piece in stream` blocks, `async for piece in stream` does not.

    It is read once, by one reader, on any thread or loop. A reader that is slow slows the model down: what waits for
    it is bounded, and then the socket is left alone. After the last piece `answer` has the whole answer. An error is
    raised after the pieces that came before it, and carries their text (`partial`).

    Leaving the loop early, `close`, the end of a `with` block, the end of the actor that opened the stream, and
    dropping the last reference to it all give the request up: the connection is closed within milliseconds.
    """

    __slots__ = ("__weakref__", "_read", "_reply", "channel", "flow")

    def __init__(self, flow: Flow, reply: Reply[Answer]) -> None:
        self.flow = flow
        self.channel: Channel[Piece] = flow.channel
        self._reply = reply
        self._read = False

    # -- reading ------------------------------------------------------------------------------------------------

    def take(self) -> Reply[list[Piece] | None]:
        """All pieces that are there, as soon as there is one; `None` at the end. A second take cancels an open one."""
        if self._read:
            raise _read_already()
        return self.channel.take()

    def __iter__(self) -> Iterator[Piece]:
        if _get_running_loop() is not None:
            raise BlockingCall("for piece in stream", "`async for piece in stream`")
        self._begin()
        return self._pieces()

    def __aiter__(self) -> AsyncIterator[Piece]:
        self._begin()
        return self._apieces()

    def _begin(self) -> None:
        if self._read:
            raise _read_already()
        self._read = True

    def _pieces(self) -> Generator[Piece, None, None]:
        take = self.channel.take
        try:
            while (pieces := take().get()) is not None:
                yield from pieces
        finally:
            self.flow.drop()

    async def _apieces(self) -> AsyncGenerator[Piece, None]:
        take = self.channel.take
        try:
            while (pieces := await take()) is not None:
                for piece in pieces:
                    yield piece
        finally:
            self.flow.drop()

    # -- looking ------------------------------------------------------------------------------------------------

    @property
    def answer(self) -> Answer:
        """The whole answer, where it came from and what it took.

        Raises what the stream ended with, and `StreamError` before its end.
        """
        if not self._reply.done():
            msg = "the stream is not over; its answer is there after the last piece"
            raise StreamError(msg)
        return self._reply.take()

    @property
    def partial(self) -> str:
        """The text of the first choice as far as it has come, pieces that still wait for the reader included."""
        return self.flow.text

    @property
    def usage(self) -> Usage | None:
        """Tokens as far as the provider has told, and at the end all of them; `estimated` where it told nothing."""
        return self.flow.usage

    @property
    def over(self) -> bool:
        """Whether the model is done or the stream was closed; pieces may still wait for the reader."""
        return self.channel.over

    def add_done_callback(self, fn: Callable[[Reply[Answer]], object]) -> None:
        """Call `fn` with the settled reply at the end, whatever the end is; in whichever thread that happens."""
        self._reply.add_done_callback(fn)

    # -- leaving ------------------------------------------------------------------------------------------------

    def close(self) -> bool:
        """Give the request up, from any thread; whether it was still under way. Never blocks."""
        return self.flow.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.flow.drop()

    def __repr__(self) -> str:
        state = "over" if self.over else "open"
        return f"<LMStream, {state}, {len(self.partial)} characters so far>"


def _read_already() -> StreamError:
    return StreamError("this stream is being read, or was; a stream is read once, so keep what it gives")
