"""`LMStream`: one answer of a model, read while it is written."""

from __future__ import annotations

from collections.abc import Callable

from dspy_actors.errors import StreamError
from dspy_actors.lm.flow import Flow
from dspy_actors.lm.work import Answer
from dspy_actors.messages import Usage
from dspy_actors.pieces import Piece
from dspy_actors.stream_reader import StreamReader
from supervisors.reply import Reply


class LMStream(StreamReader[Piece]):
    """The pieces of an answer, in order: `for piece in stream` blocks, `async for piece in stream` does not.

    It is read once, by one reader, on any thread or loop. A reader that is slow slows the model down: what waits for
    it is bounded, and then the socket is left alone. After the last piece `answer` has the whole answer. An error is
    raised after the pieces that came before it, and carries their text (`partial`).

    Leaving the loop early, `close`, the end of a `with` block, the end of the actor that opened the stream, and
    dropping the last reference to it all give the request up: the connection is closed within milliseconds.
    """

    __slots__ = ("_reply", "flow")

    def __init__(self, flow: Flow, reply: Reply[Answer]) -> None:
        super().__init__(flow.channel)
        self.flow = flow
        self._reply = reply

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
        """Tokens as far as the provider has told, and at the end all of them; `estimated` where it told not all."""
        return self.flow.usage

    def add_done_callback(self, fn: Callable[[Reply[Answer]], object]) -> None:
        """Call `fn` with the settled reply at the end, whatever the end is; in whichever thread that happens."""
        self._reply.add_done_callback(fn)

    def close(self) -> bool:
        """Give the request up, from any thread; whether it was still under way. Never blocks."""
        return self.flow.cancel()

    def drop(self) -> None:
        """As `close`, a moment later, on the io loop."""
        self.flow.drop()

    def __repr__(self) -> str:
        state = "over" if self.over else "open"
        return f"<LMStream, {state}, {len(self.partial)} characters so far>"
