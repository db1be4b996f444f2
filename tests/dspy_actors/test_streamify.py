"""DSPy's form of a stream: `streamify`, its listeners and status messages, and the text for a web service."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from dspy_actors.errors import CallCancelled, InputError, LMServerError, LMTransportError, NoRuntime
from dspy_actors.example import Prediction
from dspy_actors.modules.program import Program
from dspy_actors.modules.stream_response import StatusMessage, StreamResponse
from dspy_actors.streaming.status_messages import StatusMessageProvider
from dspy_actors.streaming.stream_listener import StreamListener
from dspy_actors.streaming.streamify import streamify, streaming_response
from tests.dspy_actors.programs import PATIENCE, Gate, asked, qa, runtime
from tests.dspy_actors.tapping import tapped
from tests.dspy_actors.test_program_stream import UNHURRIED, Sorted, in_pieces, scripted, sorting, texts

YES = Prediction(answer="yes")


async def all_of(stream: Any) -> list[Any]:
    return [item async for item in stream]


def read(make: Callable[[], Any]) -> list[Any]:
    """All that an async stream brings, which is opened on the loop that reads it."""

    async def run() -> list[Any]:
        return await all_of(make())

    return asyncio.run(run())


def test_a_module_streams_in_the_runtime_that_is_in_force() -> None:
    with scripted([in_pieces(answer="yes")]):
        items = read(lambda: streamify(qa())(question="why?"))

    assert texts(items[:-1]) == {("self", "answer"): "yes"}
    assert items[-1] == YES


def test_a_handle_streams_anywhere() -> None:
    with scripted([in_pieces(answer="yes")]) as (rt, _):
        streamer = streamify(rt.start(qa()))
        items: list[Any] = []
        asyncio.run(_collect(streamer, items))

    assert items[-1] == YES


async def _collect(streamer: Callable[..., Any], items: list[Any]) -> None:
    async for item in streamer(question="why?"):
        items.append(item)  # noqa: PERF401 - the loop is the thing


def test_without_a_runtime_nothing_streams() -> None:
    with pytest.raises(NoRuntime):
        read(lambda: streamify(qa())(question="why?"))


def test_a_thread_streams_with_an_ordinary_generator() -> None:
    with scripted([in_pieces(answer="yes")]):
        items = list(streamify(qa(), async_streaming=False)(question="why?"))

    assert texts(items[:-1]) == {("self", "answer"): "yes"}
    assert items[-1] == YES


def test_the_prediction_may_be_left_out() -> None:
    with scripted([in_pieces(answer="yes")]):
        streamer = streamify(qa(), include_final_prediction_in_output_stream=False)
        items = read(lambda: streamer(question="why?"))

    assert texts(items) == {("self", "answer"): "yes"}


def test_a_prediction_of_which_nothing_was_streamed_is_not_left_out() -> None:
    with scripted(sorting) as (rt, _):
        program = rt.start(Sorted(), cached=True)
        program(question="why?")
        listeners = [StreamListener("label")]  # not an output of the program itself, so no kept prediction has it
        streamer = streamify(program, None, listeners, include_final_prediction_in_output_stream=False)
        (item,) = read(lambda: streamer(question="why?"))

    assert item.answer == "yes"


def test_a_function_may_be_called_again_and_at_the_same_time() -> None:
    """DSPy's listeners keep a state that all calls share: the second streams nothing, and calls at once mix."""

    async def many(streamer: Callable[..., Any]) -> list[list[Any]]:
        waiting: list[Awaitable[list[Any]]] = [all_of(streamer(question=f"q{number}")) for number in range(10)]
        return [*await asyncio.gather(*waiting), await all_of(streamer(question="again"))]

    with scripted(lambda request: in_pieces(answer=asked(request))):
        found = asyncio.run(many(streamify(qa(), stream_listeners=[StreamListener("answer")])))

    assert [texts(items[:-1])["self", "answer"] for items in found] == [*(f"q{n}" for n in range(10)), "again"]


@pytest.mark.parametrize(
    ("listener", "shown"),
    [
        (lambda module: StreamListener("label"), ("sort", "label")),
        (lambda module: StreamListener("answer", predict_name="cot.predict"), ("cot.predict", "answer")),
        (lambda module: StreamListener("reasoning", predict=module.cot.predict), ("cot.predict", "reasoning")),
    ],
)
def test_listeners_choose_outputs(listener: Callable[[Sorted], StreamListener], shown: tuple[str, str]) -> None:
    module = Sorted()
    with scripted(sorting):
        items = read(lambda: streamify(module, stream_listeners=[listener(module)])(question="why?"))

    assert list(texts(items[:-1])) == [shown]


@pytest.mark.parametrize(
    ("listener", "words"),
    [
        (StreamListener("anser"), "no predictor of this program has an output 'anser'"),
        (StreamListener("answer", predict_name="sort"), "sort of this program has an output"),
        (StreamListener("answer", predict=qa()), "a started program's predictors go by predict_name"),
        (StreamListener("answer"), "sort, cot.predict all have an output 'answer'; give predict_name"),
    ],
)
def test_a_listener_that_fits_nothing_is_refused_at_once(listener: StreamListener, words: str) -> None:
    module = Sorted()
    if "all have" in words:
        module.sort = qa()
    with pytest.raises(InputError, match=words):
        streamify(module, stream_listeners=[listener])


def test_leaving_a_generator_cancels_its_call() -> None:
    async def leave(program: Program) -> None:
        streamer = streamify(program)(question="why?")
        async for _ in streamer:
            break
        await streamer.aclose()

    with tapped(deadline=UNHURRIED) as (rt, taps):
        program = rt.start(qa())
        taps_seen: list[Any] = []

        async def both() -> None:
            leaving = asyncio.create_task(leave(program))
            tap = await asyncio.to_thread(taps.next)
            taps_seen.append(tap)
            tap.say("[[ ## answer ## ]]\none")
            await leaving

        asyncio.run(both())

        assert taps_seen[0].closed.wait(PATIENCE)


class Says(StatusMessageProvider):
    def module_start_status_message(self, instance: Any, inputs: dict[str, Any]) -> str | None:
        return f"{type(instance).__name__} begins with {', '.join(inputs)}"

    def lm_start_status_message(self, instance: Any, inputs: Any) -> str | None:
        return f"asking {instance.name}"

    def lm_end_status_message(self, outputs: Any) -> str | None:
        return f"{len(outputs.texts)} answer"


def test_status_messages_stand_between_the_chunks() -> None:
    with scripted(sorting):
        items = read(lambda: streamify(Sorted(), Says(), [StreamListener("label")])(question="why?"))

    assert [item.message for item in items if isinstance(item, StatusMessage)] == [
        "Sorted begins with question",
        "Predict begins with question",
        "asking scripted/m",
        "1 answer",
        "ChainOfThought begins with question, label",
        "asking scripted/m",
        "1 answer",
    ]
    first = next(at for at, item in enumerate(items) if isinstance(item, StreamResponse))
    assert items[2] == StatusMessage("asking scripted/m")
    assert first == 3


def test_what_a_status_message_raises_ends_the_call() -> None:
    class Breaks(StatusMessageProvider):
        def lm_start_status_message(self, instance: Any, inputs: Any) -> str | None:
            raise LookupError("no words")

    with scripted(sorting) as (_, provider):
        with pytest.raises(LookupError, match="no words"):
            read(lambda: streamify(Sorted(), Breaks())(question="why?"))
        assert provider.requests == []


def test_half_an_emoji_is_sent_as_json_escapes_it() -> None:
    with scripted([["[[ ## answer ## ]]\nj\u00fc \ud83d\n\n"]]):
        lines = read(lambda: streaming_response(streamify(qa())(question="why?")))
    told = [json.loads(line.encode().removeprefix(b"data: ")) for line in lines[:-1]]

    assert told[-1]["prediction"]["answer"] == "jü \ud83d"


def test_a_web_service_sends_events() -> None:
    with scripted([["[[ ## answer ## ]]\nja", " \u00fc\n\n"]]):
        lines = read(lambda: streaming_response(streamify(qa(), Says())(question="why?")))
    told = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]

    assert all(line.startswith("data: ") and line.endswith("\n\n") for line in lines)
    assert lines[-1] == "data: [DONE]\n\n"
    assert told[:2] == [{"status": "Predict begins with question"}, {"status": "asking scripted/m"}]
    chunks = [one["chunk"] for one in told if "chunk" in one]
    assert {(chunk["predict_name"], chunk["signature_field_name"]) for chunk in chunks} == {("self", "answer")}
    assert "".join(chunk["chunk"] for chunk in chunks) == "ja ü"
    assert [chunk["is_last_chunk"] for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert told[-1] == {"prediction": {"answer": "ja ü"}}


def test_a_web_services_answer_that_breaks_off_ends_with_the_kind_of_the_error() -> None:
    with scripted([["[[ ## answer ## ]]\none two", LMTransportError("cut")]]):
        lines = read(lambda: streaming_response(streamify(qa())(question="why?")))
    assert len(lines) >= 2
    assert json.loads(lines[-1].removeprefix("data: ")) == {"error": "lm_transport"}
    assert "data: [DONE]\n\n" not in lines


def test_an_error_before_the_first_event_is_raised_where_the_status_can_be_chosen() -> None:
    async def serve(**inputs: str) -> None:
        await streaming_response(streamify(qa())(**inputs)).begun()

    with scripted([LMServerError("out of order", status=501)]):
        with pytest.raises(LMServerError):
            asyncio.run(serve(question="why?"))
        with pytest.raises(InputError):
            asyncio.run(serve())


def test_the_first_event_that_was_waited_for_is_sent_like_the_others() -> None:
    async def serve() -> list[str]:
        events = streaming_response(streamify(qa())(question="why?"))
        return [event async for event in await events.begun()]

    with scripted([["[[ ## answer ## ]]\nyes\n\n"]]):
        lines = asyncio.run(serve())
    told = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    assert "".join(each["chunk"]["chunk"] for each in told[:-1]) == "yes"
    assert told[-1] == {"prediction": {"answer": "yes"}}


def test_a_client_that_leaves_before_the_first_event_ends_the_call() -> None:
    gate = Gate()

    async def serve() -> None:
        events = streaming_response(streamify(qa())(question="why?"))
        with pytest.raises(CallCancelled, match="gone"):
            await events.begun(gone)

    async def gone() -> bool:
        gate.wait_for()
        return True

    with runtime(gate):
        asyncio.run(serve())
        gate.wait_for_cancel()


def test_a_client_that_stays_gets_the_first_event_and_the_others() -> None:
    gate = Gate()
    looked: list[bool] = []

    async def serve() -> list[str]:
        events = streaming_response(streamify(qa())(question="why?"))
        return [event async for event in await events.begun(stays)]

    async def stays() -> bool:
        looked.append(False)
        gate.open()
        return False

    with runtime(gate):
        lines = asyncio.run(serve())
    assert (lines[-1], len(looked) > 0) == ("data: [DONE]\n\n", True)
    assert json.loads(lines[-2].removeprefix("data: ")) == {"prediction": {"answer": "why?"}}


def test_an_error_is_raised_to_a_handler_that_looks_after_its_client() -> None:
    async def stays() -> bool:
        return False

    async def serve() -> None:
        await streaming_response(streamify(qa())(question="why?")).begun(stays)

    with scripted([LMServerError("out of order", status=501)]), pytest.raises(LMServerError):
        asyncio.run(serve())
