"""`ProducerConsumer`: turns events into others, no faster than they are wanted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from supervisors.exits import Exit, is_clean
from supervisors.stages.buffer import Buffer, Keep
from supervisors.stages.consuming import Consuming, Info
from supervisors.stages.dispatchers import Dispatcher
from supervisors.stages.outlet import Action
from supervisors.stages.producing import Producing
from supervisors.stages.stage import Events, Steps


class _Leave:
    """The message to itself of a stage whose producer has ended in peace: everything made was sent on."""

    def __init__(self, reason: Exit) -> None:
        self.reason = reason


class ProducerConsumer(Producing, Consuming):
    """Handles events and gives others, which go to those who subscribed to it.

        class Doubler(ProducerConsumer):
            def init(self, producer):
                self.subscribe(To(producer))

            def handle_events(self, events, from_):
                return [2 * event for event in events]

    Events wait here unhandled while nobody downstream wants any, and then no more are asked for upstream. Its buffer
    has no bound unless `produces` sets one: an event may become many. When its producer ends, what waits here is
    still handled when it is wanted; after a clean end it is sent on before this stage ends too.
    """

    _BUFFER_SIZE = None

    def produces(
        self, *, dispatcher: Dispatcher | None = None, buffer_size: int | None = None, buffer_keep: Keep = "last"
    ) -> None:
        """As `Producer.produces`, for `init`; here the buffer has no bound unless it is given one."""
        self._configure(dispatcher, Buffer(buffer_size, buffer_keep), "forward")

    def info(self, message: Any) -> None:
        if self._inbox:
            self._inbox.append(Info(message))
        else:
            super().info(message)

    def informed(self, message: Any) -> Any:
        if isinstance(message, _Leave):
            return self.stop(message.reason)
        return super().informed(message)

    def _may_work(self) -> bool:
        return self._outlet.owed > 0

    def _demanded(self, events: int) -> Events:
        return None  # `_run` handles what waits; how much is owed, the outlet knows

    def _run(self, actions: list[Action]) -> Steps[None]:
        yield from super()._run(actions)
        yield from self._work()

    def _made(self, events: Iterable[Any] | None) -> None:
        self.emit(events)

    def _pass_on(self, message: Any) -> None:
        super().info(message)

    def _finish(self, reason: Exit) -> None:
        if is_clean(reason):
            super().info(_Leave(reason))
        else:
            self.stop(reason)
