"""One request to a model whose pieces are shown."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from dspy_actors.adapters.chat_adapter import ChatAdapter
from dspy_actors.envelope import Envelope, Scope
from dspy_actors.errors import CallCancelled
from dspy_actors.lm.flow import Flow
from dspy_actors.lm.lm import LM
from dspy_actors.lm.lm_stream import LMStream
from dspy_actors.lm.stream_settings import StreamSettings
from dspy_actors.messages import LMRequest
from dspy_actors.modules.asking import asked
from dspy_actors.runner import FRAME, Frame, Settings
from supervisors.reply import Reply


class Opens:
    """A runner and a reader's sink: the model's stream is `flow`."""

    def __init__(self, flow: Flow) -> None:
        self.flow = flow

    def stream(self, lm: LM, request: LMRequest, envelope: Envelope) -> LMStream:
        return LMStream(self.flow, Reply())

    def notes(self, moment: str, *told: Any) -> None:
        pass


class Voice:
    """Shows nothing."""

    def begin(self) -> bool:
        return True

    async def hear(self, pieces: Sequence[Any]) -> None:
        pass

    async def end(self) -> None:
        pass


def test_pieces_that_end_as_the_call_is_cancelled_are_a_cancelled_call() -> None:
    """The pieces end a moment before the request does: it was the `StreamError` of an answer asked for too early."""
    flow, lm = Flow(StreamSettings()), LM("scripted/m")
    opens: Any = Opens(flow)
    voice: Any = Voice()
    frame = Frame(opens, Settings(lm, ChatAdapter()), Envelope("c"), Scope(), opens)
    assert frame.scope is not None
    frame.scope.cancel()
    flow.channel.close()

    async def ask() -> None:
        FRAME.set(frame)
        await asked(lm, LMRequest("m", ()), frame, voice)

    with pytest.raises(CallCancelled):
        asyncio.run(ask())
