"""Reads streams by callbacks, as many at once as one likes, and tells how each ended."""

from __future__ import annotations

from dspy_actors.errors import CallCancelled
from dspy_actors.lm.lm_stream import LMStream
from dspy_actors.pieces import Piece, TextPiece
from supervisors.clock import Clock
from supervisors.reply import Reply


class Reading:
    """One stream being read. `reply` is settled at its end, and cancelled where the reader has left.

    A reading with a `pause` waits so many seconds after each batch. Cancelling the reply is leaving.
    """

    def __init__(self, stream: LMStream, clock: Clock, pause: float = 0.0) -> None:
        self.reply: Reply[str] = Reply()
        self._stream = stream
        self._clock = clock
        self._pause = pause
        self._text = ""
        self.reply.add_done_callback(lambda done: stream.close() if done.cancelled() else None)
        self._take()

    def _take(self) -> None:
        self._stream.take().add_done_callback(self._came)

    def _came(self, taken: Reply[list[Piece] | None]) -> None:
        error = taken.exception()
        if error is not None:
            self.reply.fail(error)
            return
        pieces = taken.take()
        if pieces is None:
            self._ended()
            return
        self._text += "".join(piece.text for piece in pieces if isinstance(piece, TextPiece))
        if self._pause:
            self._clock.call_at(self._clock.now() + self._pause, self._take)
        else:
            self._take()

    def _ended(self) -> None:
        try:
            whole = self._stream.answer.response.texts[0]
        except CallCancelled:
            self.reply.cancel()
        except BaseException as error:
            self.reply.fail(error)
        else:
            if whole == self._text:
                self.reply.set(whole)
            else:
                self.reply.fail(AssertionError(f"read {self._text!r}, the answer is {whole!r}"))


def dropped(stream: LMStream) -> Reply[str]:
    """What becomes of a stream that nobody reads and whose last reference is the caller's."""
    reply: Reply[str] = Reply()

    def ended(done: Reply[object]) -> None:
        error = done.exception()
        if error is None:
            reply.set("")
        elif isinstance(error, CallCancelled):
            reply.cancel()
        else:
            reply.fail(error)

    stream.add_done_callback(ended)
    return reply
