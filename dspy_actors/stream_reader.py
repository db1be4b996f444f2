"""`StreamReader`: the reader's side of a stream, whatever comes in it."""

from __future__ import annotations

from asyncio import _get_running_loop
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from types import TracebackType
from typing import Generic, Self, TypeVar

from dspy_actors.channel import Channel
from dspy_actors.errors import BlockingCall, StreamError
from supervisors.reply import Reply

T = TypeVar("T")


class StreamReader(Generic[T]):
    """Read once, by one reader: `for item in stream` blocks, `async for item in stream` does not.

    Leaving the loop early, `close`, the end of a `with` block and dropping the last reference all give up what makes
    the stream. A kind of stream says how: `close` at once, from any thread; `drop` a moment later and without a lock,
    since a finalizer runs in the middle of anything.
    """

    __slots__ = ("__weakref__", "_read", "channel")

    def __init__(self, channel: Channel[T]) -> None:
        self.channel = channel
        self._read = False

    def take(self) -> Reply[list[T] | None]:
        """All that is there, as soon as there is something; `None` at the end. A second take cancels an open one."""
        if self._read:
            raise _read_already()
        return self.channel.take()

    def __iter__(self) -> Iterator[T]:
        if _get_running_loop() is not None:
            raise BlockingCall(type(self).__name__, "`async for item in stream`")
        self._begin()
        return self._items()

    def __aiter__(self) -> AsyncIterator[T]:
        self._begin()
        return self._aitems()

    def _begin(self) -> None:
        if self._read:
            raise _read_already()
        self._read = True

    def _items(self) -> Generator[T, None, None]:
        take = self.channel.take
        try:
            while (items := take().get()) is not None:
                yield from items
        finally:
            self.drop()

    async def _aitems(self) -> AsyncGenerator[T, None]:
        take = self.channel.take
        try:
            while (items := await take()) is not None:
                for item in items:
                    yield item
        finally:
            self.drop()

    @property
    def over(self) -> bool:
        """Whether no more comes: the end was written or the stream was closed; items may still wait for the reader."""
        return self.channel.over

    def close(self) -> bool:
        """Give the stream up, from any thread; whether it was still under way. Never blocks."""
        raise NotImplementedError

    def drop(self) -> None:
        """As `close`, a moment later: for finalizers, which may take no lock."""
        raise NotImplementedError

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
        self.drop()


def _read_already() -> StreamError:
    return StreamError("this stream is being read, or was; a stream is read once, so keep what it gives")
