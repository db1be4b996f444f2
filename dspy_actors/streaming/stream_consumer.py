"""`StreamConsumer`: calls a function with every chunk of a stream and with what has come so far."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dspy_actors.modules.stream_response import StreamResponse
from dspy_actors.pieces import TextPiece
from supervisors.blocking import blocking
from supervisors.stages.consuming import Consumer
from supervisors.stages.stage import Events
from supervisors.stages.subscription import Address, Subscription, To


class StreamConsumer(Consumer):
    """Subscribes to a producer of chunks and calls `callback(accumulated, chunk)` for each of them, in order.

        consumer = system.spawn(StreamConsumer, producer, lambda accumulated, chunk: print(chunk.chunk, end=""))

    `accumulated` is the text so far of what the chunk belongs to: of one output of a program, of one choice of a
    model. The callback runs in a thread of the actors' pool and may block; it holds up its own stream, nobody else.
    What it raises ends this consumer, and the stream with it. A consumer ends with its producer.
    """

    def init(
        self,
        producer: To | Address,
        callback: Callable[[str, Any], object],
        *,
        max_demand: int = 16,
        min_demand: int | None = None,
    ) -> None:
        """At most `max_demand` chunks are asked for and not yet handled. Raises as `To` and `subscribe` do."""
        self._callback = callback
        self._texts: dict[object, str] = {}
        self.subscribe(producer if isinstance(producer, To) else To(producer, max_demand, min_demand))

    def handle_events(self, events: list[Any], from_: Subscription) -> Events:
        for chunk in events:
            whose, text = _belongs(chunk)
            accumulated = self._texts.pop(whose, "")
            accumulated += text  # a local that nobody else holds is extended in place: a long answer is not copied
            with blocking():
                self._callback(accumulated, chunk)
            if not (isinstance(chunk, StreamResponse) and chunk.is_last_chunk):
                self._texts[whose] = accumulated
        return None


def _belongs(chunk: Any) -> tuple[object, str]:
    """What a chunk belongs to, and its text."""
    if isinstance(chunk, StreamResponse):
        return (chunk.predict_name, chunk.signature_field_name), chunk.chunk
    if isinstance(chunk, TextPiece):
        return chunk.choice, chunk.text
    return None, chunk if isinstance(chunk, str) else ""
