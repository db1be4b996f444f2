"""A program's outputs are read while they are written, and the call behind them is a call like any other."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from dspy_actors.adapters.base import Adapter
from dspy_actors.adapters.chat_adapter import ChatAdapter
from dspy_actors.adapters.json_adapter import JSONAdapter
from dspy_actors.channel import Channel
from dspy_actors.errors import (
    AdapterParseError,
    BlockingCall,
    CallCancelled,
    DeadlineExceeded,
    InputError,
    LMTransportError,
    ShuttingDown,
    StreamError,
)
from dspy_actors.example import Prediction
from dspy_actors.lm.stream_settings import StreamSettings
from dspy_actors.messages import LMRequest
from dspy_actors.modules.chain_of_thought import ChainOfThought
from dspy_actors.modules.module import Module
from dspy_actors.modules.predict import Predict
from dspy_actors.modules.program_stream import BUFFER, ProgramStream, open_stream
from dspy_actors.modules.selection import Selection
from dspy_actors.modules.sink import Sink
from dspy_actors.modules.stream_response import Shown, StreamResponse
from dspy_actors.pieces import TextPiece
from dspy_actors.runtime import Runtime
from dspy_actors.testing.providers import Scripted, ScriptedProvider
from supervisors.actor import Actor
from supervisors.exits import Normal
from supervisors.reply import Reply
from supervisors.testing import wait_until
from tests.dspy_actors.programs import PATIENCE, SOON, Ask, AskLater, asked, begin, qa, says
from tests.dspy_actors.tapping import Taps, tapped

HEADER = "[[ ## answer ## ]]\n"

UNHURRIED = 6 * PATIENCE
"""Seconds of a deadline that is not what ends a stream here."""


@contextmanager
def scripted(script: Any, **options: Any) -> Iterator[tuple[Runtime, ScriptedProvider]]:
    provider = ScriptedProvider(script)
    options.setdefault("lm", "scripted/m")
    with Runtime(open_provider=lambda config: provider, **{"deadline": UNHURRIED, **options}) as rt:
        yield rt, provider


def in_pieces(**fields: object) -> list[str]:
    """A completion in the chat layout, in pieces of three characters."""
    text = says(**fields)
    return [text[at : at + 3] for at in range(0, len(text), 3)]


def texts(shown: Iterable[Any]) -> dict[tuple[str, str], str]:
    """The text of each output of each predictor."""
    found: dict[tuple[str, str], str] = {}
    for chunk in shown:
        whose = (chunk.predict_name, chunk.signature_field_name)
        found[whose] = found.get(whose, "") + chunk.chunk
    return found


def some(stream: ProgramStream) -> list[str]:
    """The chunks that are there, or come next."""
    return [chunk.chunk for chunk in stream.take().get(PATIENCE) or () if isinstance(chunk, StreamResponse)]


class Sorted(Module):
    """Two predictors, one of them inside another module."""

    def __init__(self) -> None:
        self.sort = Predict("question -> label")
        self.cot = ChainOfThought("question, label -> answer")

    def forward(self, question: str) -> Prediction:
        label = self.sort(question=question).label
        return self.cot(question=question, label=label)


class SortedLater(Sorted):
    forward = None  # type: ignore[assignment]

    async def aforward(self, question: str) -> Prediction:
        label = (await self.sort.acall(question=question)).label
        return await self.cot.acall(question=question, label=label)


class SideBySide(Module):
    def __init__(self) -> None:
        self.left, self.right = qa(), qa()

    async def aforward(self, question: str) -> Prediction:
        found = await asyncio.gather(
            self.left.acall(question=f"{question} left"), self.right.acall(question=f"{question} right")
        )
        return Prediction(answer=" ".join(each.answer for each in found))


def sorting(request: LMRequest) -> Scripted:
    if "`label`" in request.messages[-1].text or "[[ ## label ## ]]`" in request.messages[-1].text:
        return in_pieces(label="order")
    return in_pieces(reasoning="It says so.", answer="yes")


# -- reading -----------------------------------------------------------------------------------------------------


def test_outputs_come_as_they_are_written() -> None:
    with tapped(deadline=UNHURRIED) as (rt, taps):
        stream = rt.start(qa()).stream(question="why?")
        tap = taps.next()
        tap.say(HEADER, "one")
        first = some(stream)
        tap.say(" two\n")
        second = some(stream)
        tap.say("\n[[ ## completed ## ]]")
        tap.end()

        assert (first, second, list(stream)) == (["one"], [" two"], [StreamResponse("self", "answer", "", True)])
        assert stream.prediction.answer == "one two"


def test_outputs_can_be_read_without_blocking_a_loop() -> None:
    async def read(stream: ProgramStream) -> dict[tuple[str, str], str]:
        return texts([chunk async for chunk in stream])

    with scripted([in_pieces(answer="yes, it is")]) as (rt, _):
        stream = rt.start(qa()).stream(question="why?")

        assert asyncio.run(read(stream)) == {("self", "answer"): "yes, it is"}


def test_a_loop_is_not_blocked_by_mistake() -> None:
    async def read(stream: ProgramStream) -> None:
        list(stream)

    with scripted([in_pieces(answer="yes")]) as (rt, _), pytest.raises(BlockingCall, match="async for"):
        asyncio.run(read(rt.start(qa()).stream(question="why?")))


@pytest.mark.parametrize("make", [Sorted, SortedLater])
def test_predictors_go_by_their_names(make: type[Module]) -> None:
    with scripted(sorting) as (rt, _):
        stream = rt.start(make()).stream(question="why?")

        assert texts(stream) == {
            ("sort", "label"): "order",
            ("cot.predict", "reasoning"): "It says so.",
            ("cot.predict", "answer"): "yes",
        }
        assert stream.prediction.answer == "yes"


def test_every_output_ends_once() -> None:
    with scripted(sorting) as (rt, _):
        ends = [chunk[:2] for chunk in rt.start(Sorted()).stream(question="why?") if chunk[3]]  # type: ignore[misc]

        assert ends == [("sort", "label"), ("cot.predict", "reasoning"), ("cot.predict", "answer")]


def test_a_chain_of_thought_has_the_name_of_its_predictor() -> None:
    with scripted([in_pieces(reasoning="so", answer="yes")]) as (rt, _):
        stream = rt.start(ChainOfThought("question -> answer")).stream(question="why?")

        assert list(texts(stream)) == [("predict", "reasoning"), ("predict", "answer")]


def test_predictors_that_run_side_by_side_do_not_mix() -> None:
    long = " word" * 500

    def answer(request: LMRequest) -> Scripted:
        return in_pieces(answer=asked(request) + long)

    with scripted(answer) as (rt, _):
        stream = rt.start(SideBySide()).stream(question="why")

        assert texts(stream) == {("left", "answer"): f"why left{long}", ("right", "answer"): f"why right{long}"}


def test_the_outputs_of_a_json_answer_come_as_they_are_written() -> None:
    with tapped(adapter=JSONAdapter()) as (rt, taps):
        stream = rt.start(Predict("question -> answer, n: int")).stream(question="why?")
        tap = taps.next()
        tap.say('{"answer": "o', "n")
        first = some(stream)
        tap.say('e", "n": 4', "2}")
        tap.end()

        assert first == ["on"]
        assert texts(stream) == {("self", "answer"): "e", ("self", "n"): "42"}
        assert stream.prediction == Prediction(answer="one", n=42)


def test_each_call_has_a_state_of_its_own() -> None:
    """In DSPy the second call of a program streams nothing."""
    with scripted(lambda request: in_pieces(answer=asked(request))) as (rt, _):
        program = rt.start(qa())
        streams = [program.stream(question=f"q{number}") for number in range(20)]

        assert [texts(stream) for stream in streams] == [{("self", "answer"): f"q{n}"} for n in range(20)]


def test_of_several_choices_the_first_is_shown() -> None:
    lines = [TextPiece(text, choice) for text in (HEADER, "a", "b", "c") for choice in (0, 1)]
    with scripted([[*lines, TextPiece("!", 1)]]) as (rt, _):
        stream = rt.start(Predict("question -> answer", n=2)).stream(question="why?")

        assert texts(stream) == {("self", "answer"): "abc"}
        assert [each.answer for each in stream.prediction.completions] == ["abc", "abc!"]


# -- which outputs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        (["answer"], [("cot.predict", "answer")]),
        (["sort.label", "answer"], [("sort", "label"), ("cot.predict", "answer")]),
        (["cot.predict.reasoning"], [("cot.predict", "reasoning")]),
        ("label", [("sort", "label")]),
        ([], []),
    ],
)
def test_only_what_is_wished_for_is_shown(fields: Any, shown: list[tuple[str, str]]) -> None:
    with scripted(sorting) as (rt, _):
        stream = rt.start(Sorted()).stream(fields, question="why?")

        assert list(texts(stream)) == shown
        assert stream.prediction.answer == "yes"


def test_a_wish_that_no_predictor_fulfils_is_refused_before_anything_is_sent() -> None:
    with scripted(sorting) as (rt, provider):
        with pytest.raises(InputError, match=r"no predictor has an output 'anser'; there is sort\.label"):
            rt.start(Sorted()).stream(["anser"], question="why?")
        assert provider.requests == []


def test_a_predictor_that_nobody_looks_at_is_asked_for_the_whole() -> None:
    with scripted(sorting) as (rt, provider):
        list(rt.start(Sorted()).stream(["answer"], question="why?"))

        assert (len(provider.requests), len(provider.streams)) == (2, 1)


def test_an_input_may_have_any_name() -> None:
    with scripted([in_pieces(answer="yes")]) as (rt, _):
        stream = rt.start(Predict("fields -> answer")).stream(fields="x")

        assert texts(stream) == {("self", "answer"): "yes"}


# -- what is there already ---------------------------------------------------------------------------------------


def test_a_cached_answer_is_read_like_a_stream() -> None:
    with scripted([in_pieces(answer="one two")]) as (rt, provider):
        program = rt.start(qa())
        texts(program.stream(question="why?"))
        again = program.stream(question="why?")

        assert list(again) == [StreamResponse("self", "answer", "one two", True)]
        assert again.prediction.cached
        assert len(provider.requests) == 1


def test_a_cached_prediction_is_read_as_one_chunk_for_each_output() -> None:
    with scripted(sorting) as (rt, provider):
        program = rt.start(Sorted(), cached=True)
        program(question="why?")
        again = program.stream(question="why?")

        assert list(again) == [
            StreamResponse("cot.predict", "reasoning", "It says so.", True),
            StreamResponse("cot.predict", "answer", "yes", True),
        ]
        assert again.prediction.answer == "yes"
        assert len(provider.requests) == 2


def test_outputs_come_whole_where_the_adapter_follows_no_answer() -> None:
    class Plain(Adapter):
        name = "plain"
        format, parse = ChatAdapter().format, ChatAdapter().parse

    with scripted([says(answer="yes", n=3)], adapter=Plain()) as (rt, _):
        stream = rt.start(Predict("question -> answer, n: int")).stream(question="why?")

        assert list(stream) == [StreamResponse("self", "answer", "yes", True), StreamResponse("self", "n", "3", True)]


def test_an_answer_that_had_to_be_repaired_comes_whole() -> None:
    with scripted([["{'answer': ", "'yes'}"]], adapter=JSONAdapter()) as (rt, _):
        stream = rt.start(qa()).stream(question="why?")

        assert list(stream) == [StreamResponse("self", "answer", "yes", True)]


# -- what goes wrong ---------------------------------------------------------------------------------------------


def test_an_answer_that_was_shown_and_cannot_be_read_is_not_asked_for_again() -> None:
    with scripted([in_pieces(answer="some", n="many"), in_pieces(answer="one", n=1)]) as (rt, provider):
        stream = rt.start(Predict("question -> answer, n: int")).stream(question="why?")
        with pytest.raises(AdapterParseError, match="output 'n' is no int") as caught:
            list(stream)

        assert caught.value.text == says(answer="some", n="many")
        assert len(provider.requests) == 1


def test_an_answer_of_which_nothing_was_shown_is_asked_for_again() -> None:
    with scripted([["I would ", "rather not."], in_pieces(answer="yes")]) as (rt, provider):
        stream = rt.start(qa()).stream(question="why?")

        assert texts(stream) == {("self", "answer"): "yes"}
        assert len(provider.requests) == 2


def test_an_answer_that_breaks_off_is_an_error_behind_what_had_come() -> None:
    broken: list[Any] = [HEADER, "half an ", LMTransportError("cut", provider_code="cut")]
    with scripted([broken]) as (rt, _):
        stream = rt.start(qa()).stream(question="why?")
        shown: list[str] = []
        with pytest.raises(LMTransportError) as caught:
            shown.extend(chunk.chunk for chunk in stream if isinstance(chunk, StreamResponse))

        assert "".join(shown) == "half an"
        assert caught.value.partial == f"{HEADER}half an "
        with pytest.raises(LMTransportError):
            _ = stream.prediction


def test_a_wrong_input_is_raised_to_the_reader() -> None:
    with scripted([]) as (rt, provider):
        with pytest.raises(InputError):
            list(rt.start(qa()).stream(quetsion="why?"))
        assert provider.requests == []


def test_what_user_code_raises_is_raised_to_the_reader() -> None:
    class Breaks(Ask):
        def forward(self, question: str) -> Any:
            raise LookupError(question)

    with scripted([]) as (rt, _), pytest.raises(LookupError, match="why"):
        list(rt.start(Breaks()).stream(question="why?"))


def test_the_deadline_ends_a_stream_whose_model_is_slow() -> None:
    with tapped(deadline=UNHURRIED) as (rt, taps):
        stream = rt.start(qa()).using(deadline=SOON).stream(question="why?")
        with pytest.raises(DeadlineExceeded):
            list(stream)
        assert taps.next().closed.wait(PATIENCE)


def test_the_deadline_ends_a_stream_whose_reader_is_slow() -> None:
    with scripted([[HEADER, *["word "] * 10_000]]) as (rt, provider):
        stream = rt.start(qa()).using(deadline=SOON).stream(question="why?")
        wait_until(lambda: stream.over, PATIENCE)
        with pytest.raises(DeadlineExceeded) as caught:
            list(stream)

        assert caught.value.phase == "consumer"
        assert caught.value.partial is not None
        assert caught.value.partial.startswith(f"{HEADER}word word ")
        wait_until(lambda: provider.streams[0].closed, PATIENCE)


def test_the_end_of_the_runtime_ends_a_stream() -> None:
    with tapped(deadline=UNHURRIED) as (rt, taps):
        stream = rt.start(qa()).stream(question="why?")
        taps.next()
    with pytest.raises(ShuttingDown):
        list(stream)


def test_a_runtime_that_has_ended_begins_no_stream() -> None:
    with tapped(deadline=UNHURRIED) as (rt, _):
        program = rt.start(qa())
    with pytest.raises(ShuttingDown):
        list(program.stream(question="why?"))


def test_the_prediction_is_there_after_the_last_piece() -> None:
    with tapped(deadline=UNHURRIED) as (rt, taps):
        stream = rt.start(qa()).stream(question="why?")
        taps.next()
        with pytest.raises(StreamError, match="not over"):
            _ = stream.prediction
        stream.close()


def test_a_stream_is_read_once() -> None:
    with scripted([in_pieces(answer="yes")]) as (rt, _):
        stream = rt.start(qa()).stream(question="why?")
        list(stream)
        with pytest.raises(StreamError, match="read once"):
            list(stream)


# -- a reader that is slow, or leaves ----------------------------------------------------------------------------


def test_a_slow_reader_holds_the_model_up() -> None:
    def answer(request: LMRequest) -> Scripted:
        return [HEADER, *["word "] * 10_000] if asked(request) == "long" else says(answer="x")

    with scripted(answer) as (rt, provider):
        program = rt.start(qa())
        stream = program.stream(question="long")
        wait_until(lambda: stream.channel.waiting >= stream.channel.max_items, PATIENCE)
        for number in range(20):  # the loops have all the time they need to read on, if they would
            assert program(question=f"q{number}").answer == "x"

        pieces = StreamSettings().buffer_events  # at most so many come together
        assert provider.streams[0].taken <= (BUFFER + 2) * pieces + 2
        assert len(texts(stream)[("self", "answer")].split()) == 10_000


def test_all_who_wait_for_room_hear_of_it() -> None:
    channel: Channel[Shown] = Channel(max_items=1)
    sink = Sink(channel, Selection())
    channel.put([StreamResponse("self", "answer", "one", False)])
    waiting = [sink.room() for _ in range(3)]
    assert not any(reply.done() for reply in waiting)
    channel.take()

    assert all(reply.done() for reply in waiting)


def opened(taps: Taps, program: Any) -> tuple[ProgramStream, Any]:
    """A stream of which something was shown."""
    stream = program.stream(question="why?")
    tap = taps.next()
    tap.say(HEADER, "one")
    return stream, tap


@pytest.mark.parametrize("make", [qa, Ask, AskLater])
def test_closing_gives_the_request_up(make: Any) -> None:
    with tapped(deadline=UNHURRIED) as (rt, taps):
        program = rt.start(make())
        stream, tap = opened(taps, program)
        assert some(stream) == ["one"]
        assert stream.close()

        assert tap.closed.wait(PATIENCE)
        wait_until(lambda: program.metrics()["inflight"] == 0, PATIENCE)
        assert program.metrics()["errors"] == {"cancelled": 1}
        with pytest.raises(CallCancelled):
            _ = stream.prediction


def test_leaving_the_loop_gives_the_request_up() -> None:
    with tapped(deadline=UNHURRIED) as (rt, taps):
        stream, tap = opened(taps, rt.start(qa()))
        for _ in stream:
            break

        assert tap.closed.wait(PATIENCE)


def test_leaving_an_async_loop_gives_the_request_up() -> None:
    async def leave(stream: ProgramStream) -> None:
        async for _ in stream:
            break

    with tapped(deadline=UNHURRIED) as (rt, taps):
        stream, tap = opened(taps, rt.start(qa()))
        asyncio.run(leave(stream))

        assert tap.closed.wait(PATIENCE)


def test_a_stream_that_nobody_holds_is_given_up() -> None:
    with tapped(deadline=UNHURRIED) as (rt, taps):
        stream, tap = opened(taps, rt.start(qa()))
        del stream
        gc.collect()

        assert tap.closed.wait(PATIENCE)


def test_the_end_of_a_with_block_gives_the_request_up() -> None:
    with tapped(deadline=UNHURRIED) as (rt, taps):
        stream, tap = opened(taps, rt.start(qa()))
        with stream:
            pass

        assert tap.closed.wait(PATIENCE)


def test_a_stream_that_was_read_to_its_end_is_not_cancelled_by_closing() -> None:
    with scripted([in_pieces(answer="yes")]) as (rt, _):
        program = rt.start(qa())
        with program.stream(question="why?") as stream:
            list(stream)

        assert not stream.close()
        assert stream.prediction.answer == "yes"
        assert program.metrics()["errors"] == {}


class Opens(Actor):
    """Opens a stream and keeps it."""

    def open(self, program: Any) -> Any:
        self.stream = program.stream(question="why?")
        return self.stream


def test_a_stream_ends_with_the_actor_that_opened_it() -> None:
    with tapped(deadline=UNHURRIED) as (rt, taps):
        owner = rt.system.spawn(Opens)
        stream = owner.call(Opens.open, rt.start(qa()))
        tap = taps.next()
        owner.exit(Normal())

        assert tap.closed.wait(PATIENCE)
        wait_until(lambda: stream.over, PATIENCE)


class Over:
    """A runner whose loop has run a call to its end before anybody looks."""

    def run_on_loop(self, body: Any) -> Reply[Prediction]:
        body.close()
        reply: Reply[Prediction] = Reply()
        reply.set(Prediction(answer="at once"))
        return reply


class OpensLate(Actor):
    """Opens a stream whose call is over by then."""

    def open(self) -> ProgramStream:
        async def call(sink: Any) -> Prediction:
            raise AssertionError("it is over")

        runner: Any = Over()
        return open_stream(runner, call, Selection(None), None)


def test_an_actor_does_not_keep_a_stream_that_is_over_as_it_is_opened() -> None:
    with Runtime() as rt:
        owner = rt.system.spawn(OpensLate)
        stream = owner.call(OpensLate.open)
        assert stream.over
        assert not owner.mailbox.watchers


def test_a_call_within_a_call_ends_with_it() -> None:
    class Relays(Module):
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def __deepcopy__(self, memo: object) -> Relays:
            return self

        def forward(self, question: str) -> Any:
            with self.inner.stream(question=question) as stream:
                list(stream)
                return stream.prediction

    with tapped(deadline=UNHURRIED) as (rt, taps):
        outer = rt.start(Relays(rt.start(qa())))
        reply: Reply[Any] = outer.submit(question="why?")
        tap = taps.next()
        reply.cancel()

        assert tap.closed.wait(PATIENCE)


# -- a call like any other ---------------------------------------------------------------------------------------


def test_a_stream_keeps_its_place_until_its_end() -> None:
    with tapped(deadline=UNHURRIED, max_inflight=1) as (rt, taps):
        program = rt.start(qa())
        first, tap = opened(taps, program)
        second = program.stream(question="next")
        wait_until(lambda: program.metrics()["queued"] == 1, PATIENCE)
        assert program.metrics()["inflight"] == 1
        tap.end()
        list(first)

        later = taps.next()
        later.say(HEADER, "two")
        later.end()
        assert texts(second) == {("self", "answer"): "two"}


def test_a_stream_counts_as_one_call() -> None:
    with scripted(sorting) as (rt, _):
        program = rt.start(Sorted())
        stream = program.stream(question="why?")
        list(stream)
        numbers = program.metrics()

        assert (numbers["calls"], numbers["succeeded"], numbers["inflight"]) == (1, 1, 0)
        assert rt.numbers().calls == 2


def test_a_streams_usage_is_its_tenants() -> None:
    with scripted([in_pieces(answer="yes it is")]) as (rt, _):
        stream = rt.start(qa()).using(tenant="acme").stream(question="why?")
        list(stream)

        assert stream.prediction.usage is not None
        assert rt.usage(tenant="acme").attempts == 1


def test_the_settings_of_the_block_hold() -> None:
    with scripted([["{'answer': 'yes'}"]]) as (rt, _):
        program = rt.start(qa())
        with rt.using(adapter=JSONAdapter()):
            stream = program.stream(question="why?")

        assert texts(stream) == {("self", "answer"): "yes"}


def test_closing_wakes_a_reader_in_another_thread() -> None:
    with tapped(deadline=UNHURRIED) as (rt, taps):
        stream = rt.start(qa()).stream(question="why?")
        reading = begin(list, stream)
        taps.next()
        stream.close()

        assert reading.get(PATIENCE) == []


# -- a text that may be missing ------------------------------------------------------------------------------------

MAY_BE_MISSING = "question -> note: str | None, answer"


@pytest.mark.parametrize("adapter", [ChatAdapter(), JSONAdapter()])
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_the_null_of_a_text_that_may_be_missing_is_shown_as_nothing(adapter: Adapter, size: int) -> None:
    text = says(note="null", answer="yes") if adapter.name == "chat" else '{"note": null, "answer": "yes"}'
    with scripted(lambda _: [text[at : at + size] for at in range(0, len(text), size)], adapter=adapter) as (rt, _):
        stream = rt.start(Predict(MAY_BE_MISSING), cached=True).stream(question="why?")
        shown = [chunk for chunk in stream if isinstance(chunk, StreamResponse)]
        assert stream.prediction.toDict() == {"note": None, "answer": "yes"}
    assert texts(shown) == {("self", "note"): "", ("self", "answer"): "yes"}
    assert [chunk.signature_field_name for chunk in shown if chunk.is_last_chunk] == ["answer", "note"]


@pytest.mark.parametrize("note", ["nullify it", "Non", "None of it", "no null", "so, None", ""])
def test_a_text_that_begins_or_ends_as_null_does_is_shown_whole(note: str) -> None:
    with scripted(lambda _: list(says(note=note, answer="yes"))) as (rt, _):
        stream = rt.start(Predict(MAY_BE_MISSING)).stream(question="why?")
        assert texts(stream) == {("self", "note"): note, ("self", "answer"): "yes"}
        assert stream.prediction.note == note


def test_a_null_in_the_quotes_of_json_is_shown_as_the_text_it_is() -> None:
    with scripted(lambda _: list('{"note": "null", "answer": "yes"}'), adapter=JSONAdapter()) as (rt, _):
        stream = rt.start(Predict(MAY_BE_MISSING)).stream(question="why?")
        assert texts(stream) == {("self", "note"): "null", ("self", "answer"): "yes"}
        assert stream.prediction.note == "null"


def test_an_answer_of_which_only_null_was_written_may_be_asked_for_again() -> None:
    answers = iter([says(note="null"), says(note="null", answer="yes")])
    with scripted(lambda _: list(next(answers))) as (rt, provider):
        stream = rt.start(Predict(MAY_BE_MISSING)).stream(question="why?")
        assert texts(stream) == {("self", "note"): "", ("self", "answer"): "yes"}
        assert len(provider.requests) == 2
