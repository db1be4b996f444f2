"""`Sink`: where one call of a program shows its outputs while they are written; `Voice`: one predictor speaking."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from dspy_actors.adapters.base import Adapter
from dspy_actors.adapters.field_listener import FieldListener, FieldPiece
from dspy_actors.adapters.parsing import is_text_or_none, may_be_none
from dspy_actors.adapters.values import plain_value_text
from dspy_actors.channel import Channel
from dspy_actors.errors import DeadlineExceeded
from dspy_actors.example import Prediction
from dspy_actors.modules.module import Module, predictors_of
from dspy_actors.modules.selection import Selection
from dspy_actors.modules.stream_response import Shown, StatusMessage, StreamResponse
from dspy_actors.pieces import Piece, TextPiece
from dspy_actors.runner import Frame, settle_in
from supervisors.published_lock import PublishedLock
from supervisors.reply import Reply


class Statuses(Protocol):
    """What puts how far a call is into words."""

    def words(self, moment: str, *told: Any) -> str | None:
        """What to say at a moment, as `module_start`; `None` for nothing."""
        ...


class Sink:
    """Shared by everything that works for the call, on whatever thread or loop.

    Whoever shows something waits where the reader is behind, so nobody reads more of an answer than is wanted.
    """

    def __init__(self, channel: Channel[Shown], selection: Selection, statuses: Statuses | None = None) -> None:
        self._channel = channel
        self._selection = selection
        self._statuses = statuses
        self._frame: Frame | None = None
        self._names: dict[int, str] = {}
        self._module: Module | None = None
        self._lock = PublishedLock()
        self._room: Reply[None] | None = None

    def attach(self, module: Module, frame: Frame) -> None:
        """The call of `frame` has its place and runs `module`: its predictors have names now."""
        self._frame = frame
        self._module = module
        self._names = {id(one): name for name, one in predictors_of(module)}

    def leave(self) -> None:
        """The reader has left: cancel whatever the call waits for, in the reader's thread."""
        frame = self._frame
        if frame is not None and frame.scope is not None:
            frame.scope.cancel()

    def voice(self, predictor: Any, adapter: Adapter) -> Voice | None:
        """What shows one call of `predictor`; `None` where none of its outputs is to be shown."""
        name = self._names.get(id(predictor), type(predictor).__name__)
        outputs = self._selection.of(name, predictor.signature.output_fields)
        return Voice(self, name, predictor, adapter, frozenset(outputs)) if outputs else None

    async def show(self, shown: Sequence[Shown]) -> None:
        """Hand on to the reader, and wait until it has room for more. Native code: see `runner.drive`."""
        if shown and not self._channel.put(shown, sum(map(_size, shown))):
            assert self._frame is not None
            await settle_in(self._frame, self.room(), "consumer")

    def notes(self, moment: str, *told: Any) -> None:
        """Put a moment of the call into words, if somebody has some for it. What that raises, the call raises."""
        words = None if self._statuses is None else self._statuses.words(moment, *told)
        if words:
            self._channel.put([StatusMessage(words)], len(words))

    async def replay(self, prediction: Prediction) -> None:
        """Show the outputs of a prediction that was kept, each in one chunk, in the name of whoever has such one."""
        assert self._module is not None
        told: dict[str, StreamResponse] = {}
        for name, predictor in predictors_of(self._module):
            fields = predictor.signature.output_fields
            for output in self._selection.of(name, fields):
                if output in prediction:
                    told[output] = whole(name, fields[output], prediction[output])
        await self.show([told[output] for output in prediction if output in told])

    def room(self) -> Reply[None]:
        """Settles when the reader has room. A channel has one writer; predictors that run side by side are many."""
        mine: Reply[None] = Reply()
        with self._lock:
            shared = self._room
            if shared is None or shared.done():
                shared = self._room = self._channel.room()
        shared.add_done_callback(lambda _: mine.set(None))
        return mine


class Voice:
    """One predictor's call as its outputs show it. `spoke` is whether the reader was shown anything.

    The null of a text that may be missing is not shown as it is written, but when it was read, as nothing.
    """

    __slots__ = (
        "_adapter",
        "_ended",
        "_heard",
        "_held",
        "_listener",
        "_name",
        "_predictor",
        "_sink",
        "_unsure",
        "_wanted",
        "spoke",
    )

    def __init__(self, sink: Sink, name: str, predictor: Any, adapter: Adapter, wanted: frozenset[str]) -> None:
        self._sink = sink
        self._name = name
        self._predictor = predictor
        self._adapter = adapter
        self._wanted = wanted
        self._listener: FieldListener | None = None
        self._ended: set[str] = set()
        self._heard: list[str] = []
        self._unsure: set[str] = set()  # outputs of which nothing was shown, for they may still be no text
        self._held: dict[str, str] = {}  # what has come of them
        self.spoke = False

    def begin(self) -> bool:
        """A request is about to be made; whether its answer can be followed while it is written."""
        self._heard.clear()
        self._held.clear()
        fields = self._predictor.signature.output_fields
        self._unsure = {name for name in self._wanted if is_text_or_none(fields[name].annotation)}
        self._listener = self._adapter.listener(self._predictor.signature)
        return self._listener is not None

    async def hear(self, pieces: Iterable[Piece]) -> None:
        """The answer goes on; of several choices the first is shown."""
        assert self._listener is not None
        text = "".join(piece.text for piece in pieces if isinstance(piece, TextPiece) and piece.choice == 0)
        self._heard.append(text)
        await self._show(self._listener.feed(text))

    async def end(self) -> None:
        """The answer is whole."""
        assert self._listener is not None
        await self._show(self._listener.end())

    async def tell_rest(self, outputs: Prediction) -> None:
        """The answer was read: show what could not be followed while it was written, each output in one chunk."""
        fields = self._predictor.signature.output_fields
        rest = [name for name in outputs if name in self._wanted and name not in self._ended]
        await self._sink.show([whole(self._name, fields[name], outputs[name]) for name in rest])

    async def _show(self, pieces: Sequence[FieldPiece]) -> None:
        wanted = (self._sure(piece) for piece in pieces if piece.field in self._wanted)
        shown = [StreamResponse(self._name, *piece) for piece in wanted if piece is not None]
        if shown:
            self.spoke = True
            self._ended.update(piece.signature_field_name for piece in shown if piece.is_last_chunk)
            try:
                await self._sink.show(shown)
            except DeadlineExceeded as error:  # the reader was behind: what the model had written by then is not lost
                error.partial = error.partial or "".join(self._heard)
                raise

    def _sure(self, piece: FieldPiece) -> FieldPiece | None:
        """The piece behind what was held back of its output; `None` while all of that may be the null of no text."""
        name = piece.field
        if name not in self._unsure:
            return piece
        text = self._held.pop(name, "") + piece.text
        if may_be_none(text, piece.is_last):
            self._held[name] = text
            return None
        self._unsure.remove(name)
        return FieldPiece(name, text, piece.is_last)


def whole(name: str, field: Any, value: Any) -> StreamResponse:
    """An output in one chunk."""
    return StreamResponse(name, field.name, "" if value is None else plain_value_text(field, value), True)


def _size(shown: Shown) -> int:
    return len(shown.message) if isinstance(shown, StatusMessage) else len(shown.chunk)
