"""`asked`: one request to a model, as a whole or heard while it is written."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from dspy_actors.envelope import Envelope
from dspy_actors.lm.lm import LM
from dspy_actors.lm.work import Answer
from dspy_actors.messages import LMRequest
from dspy_actors.modules.sink import Voice
from dspy_actors.runner import Frame, Shows, checkpoint, settle, settle_in


def asked(lm: LM, request: LMRequest, frame: Frame, voice: Voice | None) -> Coroutine[Any, Any, Answer]:
    """The model's answer, shown by `voice` where it can be followed. Native code: see `runner.drive`.

    The next pieces are asked for when the reader has room, so a reader's pace reaches the socket.
    """
    assert frame.envelope is not None
    if frame.sink is None:
        return settle_in(frame, frame.runner.complete(lm, request, frame.envelope), "model")
    return _noted(lm, request, frame, frame.envelope, frame.sink, voice)


async def _noted(
    lm: LM, request: LMRequest, frame: Frame, envelope: Envelope, sink: Shows, voice: Voice | None
) -> Answer:
    sink.notes("lm_start", lm, request)
    answer = await _heard(lm, request, frame, envelope, voice)
    sink.notes("lm_end", answer.response)
    return answer


async def _heard(lm: LM, request: LMRequest, frame: Frame, envelope: Envelope, voice: Voice | None) -> Answer:
    if voice is None or not voice.begin():
        return await settle(frame.runner.complete(lm, request, envelope), "model")
    assert frame.scope is not None
    with frame.runner.stream(lm, request, envelope) as stream:
        frame.scope.enter(stream.flow)  # who cancels the call reaches the request at once, without our waking up
        try:
            while (pieces := await settle(stream.take(), "model")) is not None:
                await voice.hear(pieces)
            checkpoint(frame)  # who cancels the call ends the pieces first, and the call a moment later
            await voice.end()
            return stream.answer
        finally:
            frame.scope.leave(stream.flow)
