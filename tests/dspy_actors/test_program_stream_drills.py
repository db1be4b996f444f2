"""Streams of programs on a real server: what their readers see, and what the server sees of those who leave."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
from typing import Any

import pytest

from dspy_actors.adapters.base import Adapter
from dspy_actors.adapters.chat_adapter import ChatAdapter
from dspy_actors.adapters.json_adapter import JSONAdapter
from dspy_actors.errors import AdapterParseError, CallCancelled, DspyActorsError, LMTransportError
from dspy_actors.lm.guarding import Guarding
from dspy_actors.lm.lm import LM
from dspy_actors.messages import LMRequest
from dspy_actors.modules.predict import Predict
from dspy_actors.modules.program_stream import ProgramStream
from dspy_actors.runtime import Runtime
from dspy_actors.streaming.stream_consumer import StreamConsumer
from dspy_actors.streaming.stream_producer import StreamProducer
from dspy_actors.testing.providers import Scripted
from supervisors.actor import Ref
from supervisors.exits import Killed, Normal
from supervisors.testing import wait_until
from tests.dspy_actors.drilling import NEVER
from tests.dspy_actors.over_http import KEY
from tests.dspy_actors.programs import PATIENCE, Ask, AskLater, asked, begin, qa, says
from tests.dspy_actors.test_program_stream import HEADER, in_pieces, scripted, texts
from tests.server.client import StubServer

DIALECTS: dict[str, dict[str, Any]] = {
    "chat": {"model": "openai/m"},
    "responses": {"model": "openai/m", "model_type": "responses"},
    "messages": {"model": "anthropic/m", "max_tokens": 100},
}


def lm(stub: StubServer, fault: str = "", dialect: str = "chat") -> LM:
    return LM(base_url=stub.at(fault) if fault else stub.base_url, api_key=KEY, **DIALECTS[dialect])


@pytest.mark.parametrize("fault", ["pieces=60", "pieces=7,split", "crlf"])
@pytest.mark.parametrize("adapter", [ChatAdapter(), JSONAdapter()], ids=["chat layout", "json layout"])
@pytest.mark.parametrize("dialect", sorted(DIALECTS))
def test_outputs_are_streamed_as_they_are_read(stub: StubServer, dialect: str, adapter: Adapter, fault: str) -> None:
    signature = "question -> answer, label: Literal['x', 'y'], n: int, rows: list[str]"
    with Runtime(lm(stub, fault, dialect), adapter=adapter, deadline=PATIENCE) as rt:
        stream = rt.start(Predict(signature)).stream(question="why?")
        shown = texts(stream)
        text = "\n".join(f"[[ ## {name} ## ]]\n{chunk}" for (_, name), chunk in shown.items())

        assert ChatAdapter().parse(Predict(signature).signature, text) == stream.prediction.toDict()
        assert stub.stats()["requests"] == 1


def reads_and_leaves(stream: ProgramStream) -> None:
    for _ in stream:
        break


def reads_and_closes(stream: ProgramStream) -> None:
    stream.take().get(PATIENCE)
    stream.close()


def reads_and_forgets(stream: ProgramStream) -> None:
    stream.take().get(PATIENCE)


def awaits_and_leaves(stream: ProgramStream) -> None:
    async def leave() -> None:
        async for _ in stream:
            break

    asyncio.run(leave())


def is_cancelled(stream: ProgramStream) -> None:
    async def read() -> None:
        async for _ in stream:
            task.cancel()

    async def run() -> None:
        nonlocal task
        task = asyncio.create_task(read())
        with pytest.raises(asyncio.CancelledError):
            await task

    task: asyncio.Task[None]
    asyncio.run(run())


UNBROKEN = Guarding(breaker=NEVER, provider_breaker=NEVER)
LEAVING = [reads_and_leaves, reads_and_closes, reads_and_forgets, awaits_and_leaves, is_cancelled]


@pytest.mark.parametrize("make", [qa, Ask, AskLater])
@pytest.mark.parametrize("leave", LEAVING)
def test_a_reader_who_leaves_closes_the_connection(stub: StubServer, leave: Any, make: Any) -> None:
    with Runtime(lm(stub, "endless,gap=5"), deadline=PATIENCE) as rt:
        program = rt.start(make())
        leave(program.stream(question="why?"))
        gc.collect()

        seen = stub.wait("aborted>=1", "open==0")
        assert (seen["aborted"], seen["requests"]) == (1, 1)
        wait_until(lambda: program.metrics()["inflight"] == 0, PATIENCE)


@pytest.mark.parametrize("victim", ["consumer", "producer"])
def test_a_stage_that_is_killed_closes_the_connection(stub: StubServer, victim: str) -> None:
    """Drill 22: the consumer's actor dies in the middle of the stream."""
    with Runtime(lm(stub, "endless,gap=5"), deadline=PATIENCE) as rt:
        program, told = rt.start(qa()), threading.Event()
        producer = rt.system.spawn(StreamProducer, lambda: program.stream(question="why?"))
        consumer = rt.system.spawn(StreamConsumer, producer, lambda accumulated, chunk: told.set())
        assert isinstance(producer, Ref)
        assert isinstance(consumer, Ref)
        assert told.wait(PATIENCE)
        (consumer if victim == "consumer" else producer).exit(Killed())

        assert stub.wait("aborted>=1", "open==0")["aborted"] == 1
        assert producer.down().get(PATIENCE) is not None
        assert consumer.down().get(PATIENCE) is not None
        wait_until(lambda: program.metrics()["inflight"] == 0, PATIENCE)


def test_a_stream_that_is_cut_carries_what_had_come(stub: StubServer) -> None:
    stub.control(answer={"fields": {"answer": "one two three four"}})
    with Runtime(lm(stub, "cut_after=7"), deadline=PATIENCE) as rt:  # five words of header, two of the answer
        stream = rt.start(qa()).stream(question="why?")
        shown: list[str] = []
        with pytest.raises(LMTransportError) as caught:
            shown.extend(chunk.chunk for chunk in stream)

        assert "".join(shown) == "one two"
        assert caught.value.partial == f"{HEADER}one two "
        assert stub.stats()["requests"] == 1


def test_an_answer_that_cannot_be_read_is_not_asked_for_again_once_shown(stub: StubServer) -> None:
    stub.control(answer={"fields": {"n": "many"}})
    with Runtime(lm(stub), deadline=PATIENCE) as rt:
        with pytest.raises(AdapterParseError):
            list(rt.start(Predict("question -> answer, n: int")).stream(question="why?"))

        assert stub.stats()["requests"] == 1


@pytest.mark.parametrize("seed", range(4))
def test_streams_that_end_in_all_ways_at_once_leave_nothing_behind(seed: int) -> None:
    rng = random.Random(seed)

    def answer(request: LMRequest) -> Scripted:
        kind = asked(request).partition(" ")[0]
        if kind == "cut":
            return [HEADER, "half", LMTransportError("cut")]
        if kind == "long":
            return [HEADER, *["word "] * 5_000]
        return in_pieces(answer=kind) if kind == "read" else says(answer=kind)

    def one(program: Any, kind: str, number: int, leave: Any) -> str:
        stream = program.stream(question=f"{kind} {number}")
        if kind == "long":
            leave(stream)
            return "left"
        try:
            return "".join(chunk.chunk for chunk in stream)
        except DspyActorsError as error:
            return error.kind

    with scripted(answer, lm=LM("scripted/m", num_retries=0), max_inflight=16, guarding=UNBROKEN) as (rt, provider):
        programs = [rt.start(make()) for make in (qa, Ask, AskLater)]
        plan = [(rng.choice(programs), rng.choice(["cut", "long", "read"]), rng.choice(LEAVING)) for _ in range(60)]
        running = [begin(one, program, kind, number, leave) for number, (program, kind, leave) in enumerate(plan)]
        found = [reply.get(PATIENCE) for reply in running]
        gc.collect()

        assert found == [{"cut": "lm_transport", "long": "left", "read": "read"}[kind] for _, kind, _ in plan]
        wait_until(lambda: all(program.metrics()["inflight"] == 0 for program in programs), PATIENCE)
        wait_until(lambda: provider.open == 0, PATIENCE)
        assert len(provider.requests) == len(plan)
        assert sum(program.metrics()["calls"] for program in programs) == len(plan)  # type: ignore[misc]


def test_a_closed_stream_raises_that_it_was_closed() -> None:
    with scripted(lambda request: [HEADER, *["word "] * 5_000]) as (rt, _):
        stream = rt.start(qa()).stream(question="why?")
        stream.close()
        with pytest.raises(CallCancelled, match="closed before its end"):
            wait_until(lambda: stream.prediction, PATIENCE)


def test_the_pool_goes_on_when_consumers_come_and_go() -> None:
    with scripted(lambda request: in_pieces(answer="yes")) as (rt, _):
        program = rt.start(qa())
        for number in range(20):
            producer = rt.system.spawn(StreamProducer, lambda n=number: program.stream(question=f"q{n}"))
            consumer = rt.system.spawn(StreamConsumer, producer, lambda accumulated, chunk: None)
            assert isinstance(consumer, Ref)
            assert consumer.down().get(PATIENCE) == Normal()
