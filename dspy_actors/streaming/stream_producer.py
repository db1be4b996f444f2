"""`StreamProducer`: a stream as a stage, read as far as it is asked for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import Any

from dspy_actors.arguments import a
from dspy_actors.stream_reader import StreamReader
from supervisors.exits import Crash, Exit
from supervisors.reply import Reply
from supervisors.stages.producing import Producer
from supervisors.stages.stage import Events
from supervisors.stages.subscription import Cancelled, Subscription

_OVER = object()


class StreamProducer(Producer):
    """Sends what a stream brings to whoever asks for it.

        producer = system.spawn(StreamProducer, lambda: triage.stream(ticket="..."))

    The stream is begun once, with the first demand, and read only while events are wanted that are not here: demand
    reaches the socket. When it is over and everything was sent the stage ends, cleanly or with the stream's error.
    When the last consumer has gone, and when the stage ends however it ends, the stream is closed.

    Under a supervisor start it as a temporary child: a restarted one begins the request anew, and it is paid for again.

    Messages:
        arrived(reply): the stream has brought something.
    """

    def init(self, begin: Callable[[], StreamReader[Any]]) -> None:
        """`begin` opens the stream; it must not block, which no stream of ours does.

        Raises `LMConfigurationError` for what is no function, as a stream that has begun already.
        """
        what = "a function that begins the stream, as `lambda: program.stream(...)`"
        a(Callable, "StreamProducer", "begin", begin, what)  # type: ignore[arg-type]
        self.produces(buffer_size=None)  # holds what was asked for by a consumer that has gone, and no more
        self._begin = begin
        self._stream: StreamReader[Any] | None = None
        self._wanted = 0
        self._here: deque[Any] = deque()
        self._reading = False
        self._over = False

    def handle_demand(self, demand: int) -> Events:
        if self._stream is None:
            self._stream = self._begin()
        self._wanted += demand
        return self._due()

    def arrived(self, reply: Reply[list[Any] | None]) -> None:
        """The stream has brought something, its end, or its error."""
        self._reading = False
        error = reply.exception()
        if error is not None:
            self._end(Crash(error) if isinstance(error, Exception) else None)
            return
        items = reply.take()
        if items is None:
            self._end(None)
        else:
            self._here.extend(items)
            self.emit(self._due())

    def handle_cancel(self, cancelled: Cancelled, from_: Subscription) -> Events:
        if not self._consumers:
            self.stop()
        return None

    def informed(self, message: Any) -> Any:
        if not (isinstance(message, tuple) and len(message) == 2 and message[0] is _OVER):
            return super().informed(message)
        return self.stop() if message[1] is None else self.stop(message[1])

    def terminate(self, exit: Exit) -> None:
        if self._stream is not None:
            self._stream.close()

    def _due(self) -> list[Any]:
        """What is here and wanted; more is read where that is not enough."""
        due = [self._here.popleft() for _ in range(min(self._wanted, len(self._here)))]
        self._wanted -= len(due)
        if self._wanted and not self._reading and not self._over:
            assert self._stream is not None
            self._reading = True
            ref = self.ref
            tell = lambda reply: ref.cast(StreamProducer.arrived, reply)  # noqa: E731 - a name would say no more
            # in nobody's name: what comes when this stage is dead is dropped, and nobody is told off for it
            Context().run(self._stream.take().add_done_callback, tell)
        return due

    def _end(self, exit: Exit | None) -> None:
        """The stream is over: so is the stage, once everything was sent."""
        self._over = True
        self.info((_OVER, exit))
