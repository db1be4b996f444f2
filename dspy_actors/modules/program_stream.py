"""`ProgramStream`: one call of a program, its outputs read while they are written."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from dspy_actors.channel import Channel
from dspy_actors.errors import CallCancelled, StreamError
from dspy_actors.example import Prediction
from dspy_actors.modules.selection import Selection
from dspy_actors.modules.sink import Sink, Statuses
from dspy_actors.modules.stream_response import Shown
from dspy_actors.runner import Runner, Shows
from dspy_actors.stream_reader import StreamReader
from supervisors.current import CURRENT
from supervisors.reply import Reply

BUFFER = 16
"""Chunks that may wait for the reader before the model's answer is left alone; what has come together is one chunk."""


class ProgramStream(StreamReader[Shown]):
    """What `program.stream(...)` gives: `StreamResponse`s in the order they are written, then `prediction`.

    The call runs on the runtime's programs loop and begins at once. It is a call like any other: its deadline, tenant
    and priority hold, it takes one of the program's places until it ends, and its errors are raised to whoever reads,
    after the pieces that came before. A predictor's answer that was shown in part and cannot be read is not asked for
    again. A reader that falls behind holds the model's answer up, all the way to the socket, until the deadline.

    Leaving the loop early, `close`, the end of a `with` block, the end of the actor that opened the stream, and
    dropping the last reference to it all cancel the call.
    """

    __slots__ = ("_reply", "_runner")

    def __init__(self, channel: Channel[Shown], reply: Reply[Prediction], runner: Runner) -> None:
        super().__init__(channel)
        self._reply = reply
        self._runner = runner

    @property
    def prediction(self) -> Prediction:
        """What the program answered, once its last piece was read. Raises what the call ended with.

        Raises `StreamError` before the end and `CallCancelled` where the stream was closed.
        """
        if not self._reply.done():
            msg = "the stream is not over; its prediction is there after the last piece"
            raise StreamError(msg)
        if self._reply.cancelled() or self.channel.closed:
            raise _closed()
        return self._reply.take()

    def close(self) -> bool:
        """Cancel the call, from any thread; whether it was still under way. Never blocks."""
        return self.channel.close()

    def drop(self) -> None:
        """As `close`, a moment later, on the programs loop."""
        if not self.channel.over:
            self._runner.soon(self.channel.close)

    def __repr__(self) -> str:
        return f"<ProgramStream, {'over' if self.over else 'open'}>"


def open_stream(
    runner: Runner, call: Callable[[Shows], Awaitable[Prediction]], chosen: Selection, statuses: Statuses | None
) -> ProgramStream:
    """Begin `call` on the programs loop and read what it shows. Raises `ShuttingDown`."""
    channel: Channel[Shown] = Channel(max_items=BUFFER)
    sink = Sink(channel, chosen, statuses)

    async def body() -> Prediction:
        return await call(sink)

    reply = runner.run_on_loop(body())
    channel.on_close(sink.leave)  # first: it reaches the request itself, the other only wakes the program
    channel.on_close(reply.cancel)
    reply.add_done_callback(lambda settled: _end(channel, settled))
    owner = CURRENT.get()
    if owner is not None:
        if not owner.watch(channel, lambda _: channel.close()):
            channel.close()
        reply.add_done_callback(lambda _: owner.unwatch(channel))  # at once where the call is over
    return ProgramStream(channel, reply, runner)


def _end(channel: Channel[Shown], settled: Reply[Prediction]) -> None:
    error = _closed() if settled.cancelled() else settled.exception()
    if error is None:
        channel.finish()
    else:
        channel.fail(error)


def _closed() -> CallCancelled:
    return CallCancelled("the stream was closed before its end, and the call with it")
