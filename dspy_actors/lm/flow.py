"""`Flow`: what the reader of a streamed answer, the client and the worker share of it."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Sequence

from dspy_actors.channel import Channel
from dspy_actors.lm.outbox import Outbox
from dspy_actors.lm.providers.base import ProviderStream
from dspy_actors.lm.providers.whole_stream import pieces_of
from dspy_actors.lm.stream_settings import StreamSettings
from dspy_actors.lm.work import Answer
from dspy_actors.messages import Usage
from dspy_actors.pieces import Piece, TextPiece, size_of
from supervisors.reply import Reply


class Right:
    """One worker's right to write into a flow. It is taken once: by its first piece, or by whoever buries the worker.

    So a worker that is declared dead while its code goes on never writes between the pieces of its successor.
    """

    __slots__ = ("_holder",)

    def __init__(self) -> None:
        self._holder: dict[str, object] = {}

    @property
    def begun(self) -> bool:
        """Whether a piece was written."""
        return self._holder.get("holder") is _WORKER

    def begin(self) -> bool:
        """The first piece is there; False where the right is gone and nothing may be written."""
        return self._holder.setdefault("holder", _WORKER) is _WORKER  # one C call: the first wins

    def revoke(self) -> bool:
        """Take the right away, once and for all; False where the first piece was faster."""
        return self._holder.setdefault("holder", None) is None


_WORKER = object()


class Turn:
    """What a worker is given of a stream: the `flow`, which does not know it, and the `right` to write into that."""

    __slots__ = ("flow", "right")

    def __init__(self, flow: Flow, right: Right) -> None:
        self.flow = flow
        self.right = right


class Flow:
    """The live side of one streamed call: the channel to its reader, who may write, and what has come so far.

    `channel`, `text` and `usage` may be used from any thread. `source` is what the worker reads, while it does; `used`
    what an attempt that failed has used up. With `in_turn` another model may follow one that fails: no end of a call is
    the end.
    """

    __slots__ = ("_answer", "_loop", "_outbox", "_said", "channel", "dropped", "in_turn", "right", "source", "used")

    def __init__(self, settings: StreamSettings, *, in_turn: bool = False) -> None:
        self.in_turn = in_turn
        self.channel: Channel[Piece] = Channel(max_items=settings.buffer_events, max_size=settings.buffer_bytes)
        self.source: ProviderStream | None = None
        self.right: Right | None = None
        self.dropped = False
        self.used: Usage | None = None
        self._answer: Answer | None = None
        self._said: list[str] = []
        self._loop: AbstractEventLoop | None = None
        self._outbox: Outbox | None = None

    @property
    def text(self) -> str:
        """The text of the first choice, as far as it has come."""
        return "".join(self._said)  # one C call over a list that the worker appends to

    @property
    def usage(self) -> Usage | None:
        """What the answer has used, as far as anybody has told; estimated where nobody did."""
        if self._answer is not None:
            return self._answer.response.usage
        source = self.source
        return self.used if source is None else source.usage

    def next_turn(self) -> Turn:
        """The turn of the worker that is about to be asked."""
        self.right = right = Right()
        return Turn(self, right)

    def may_begin_anew(self) -> bool:
        """The worker whose turn it was is done for: whether another may be asked. Not once a piece was written."""
        if self.right is None:
            return True
        if not self.right.revoke():
            return False
        self.right = None
        return True

    def runs_on(self, loop: AbstractEventLoop, outbox: Outbox) -> None:
        """The worker that was asked runs on `loop`, and wakes readers by `outbox`."""
        self._outbox = outbox
        self._loop = loop
        if self.dropped:  # then look: who dropped it may have found no loop yet
            loop.call_soon(self.channel.close)

    def write(self, pieces: Sequence[Piece], size: int) -> bool:
        """Hand pieces to the reader, `size` characters together; whether it has room for more. The worker only."""
        if self.channel.over:  # it has a text already
            return True
        if len(pieces) == 1:  # as most come
            piece = pieces[0]
            if type(piece) is TextPiece and piece.choice == 0:
                self._said.append(piece.text)
        else:
            self._said.append("".join([p.text for p in pieces if type(p) is TextPiece and p.choice == 0]))
        return self.channel.put(pieces, size, None if self._outbox is None else self._outbox.add)

    def replay(self, answer: Answer) -> None:
        """The whole answer was there already."""
        pieces = pieces_of(answer.response)
        self.write(pieces, sum(map(size_of, pieces)))
        if not self.in_turn:
            self.end(answer, None)

    def end_as(self, reply: Reply[Answer], told: Reply[Answer]) -> None:
        """The call has ended as `reply` did: settle `told` with it, and then let the reader know."""
        told.follow(reply)
        error = reply.exception()
        self.end(reply.take() if error is None else None, error)

    def end(self, answer: Answer | None, error: BaseException | None) -> None:
        """The call has ended."""
        texts = () if answer is None else answer.response.texts
        self._said = [texts[0] if texts else self.text]
        self._answer = answer
        self.source = self._loop = self._outbox = None
        if error is None:
            self.channel.finish()
        else:
            self.channel.fail(error)

    def cancel(self) -> bool:
        """Close the channel, which gives the request up; whether that was the end. Any thread."""
        return self.channel.close()

    def drop(self) -> None:
        """As `cancel`, a moment later on the io loop: for finalizers, which run in the middle of anything.

        A finalizer must take no lock: the thread it runs in may hold that very one.
        """
        if self.channel.over:
            return
        self.dropped = True  # then look: the worker does it the other way round
        loop = self._loop
        if loop is not None:
            try:
                loop.call_soon_threadsafe(self.channel.close)
            except RuntimeError:  # the loop has ended, and the worker with it
                pass
