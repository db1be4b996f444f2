"""Guards before a stream, and what is booked at its end: cache, budget, usage, limiter, counts."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from dspy_actors.errors import BudgetExceeded, CallCancelled, LMInvalidRequestError, LMServerError, LMTransportError
from dspy_actors.lm.budget import Budget
from dspy_actors.lm.guarding import Guarding
from dspy_actors.lm.limiter import LimiterSettings
from dspy_actors.lm.lm import LM
from dspy_actors.lm.lm_stream import LMStream
from dspy_actors.lm.prices import Price
from dspy_actors.lm.usage_log import UsageRecord
from dspy_actors.messages import ToolCall, Usage
from dspy_actors.pieces import TextPiece, ToolCallPiece
from dspy_actors.runtime import Runtime
from dspy_actors.testing.peer import Peer, reply
from supervisors.testing import wait_until
from tests.dspy_actors.programs import PATIENCE, Gate
from tests.dspy_actors.programs import runtime as scripted
from tests.dspy_actors.tapping import Tap, Taps, over, rest, some, tapped

BOUND = 40
"""Tokens that the answer may have in the tests of budgets."""


def told(rt: Runtime, taps: Taps, text: str = "yes", **end: Any) -> str:
    """One whole stream."""
    stream = rt.stream("hello")
    tap = taps.next()
    tap.say(text)
    tap.end(**end)
    return rest(stream)


def rows(rt: Runtime) -> list[UsageRecord]:
    assert rt._layer is not None
    return list(rt._layer.usage.records())


def health(rt: Runtime, part: str) -> dict[str, Any]:
    found: Any = rt.health()[part]
    return dict(found)


def budget(rt: Runtime) -> dict[str, Any]:
    """The one ledger's tokens."""
    (ledger,) = health(rt, "budgets").values()
    return dict(ledger["tokens"])


# -- the cache ---------------------------------------------------------------------------------------------------------


def test_a_whole_stream_is_kept_and_replayed_as_a_stream() -> None:
    with tapped() as (rt, taps):
        assert told(rt, taps, usage=Usage(2, 1)) == "yes"
        again = rt.stream("hello")
        assert list(again) == [TextPiece("yes")]
        assert (again.answer.source, again.answer.attempts, again.partial, again.usage) == (
            "cache",
            0,
            "yes",
            Usage(2, 1),
        )
        assert (len(taps.all), rt.numbers().cache_hits) == (1, 1)


def test_tool_calls_are_replayed_too() -> None:
    call = ToolCall("c1", "add", '{"a": 1}')
    with tapped() as (rt, taps):
        stream = rt.stream("hello")
        tap = taps.next()
        tap.put(ToolCallPiece(0, "c1", "add"), ToolCallPiece(0, arguments='{"a": 1}'))
        tap.end("tool_calls", calls=(call,))
        rest(stream)
        again = rt.stream("hello")
        assert list(again) == [ToolCallPiece(0, "c1", "add", '{"a": 1}')]


def test_a_streamed_answer_answers_a_call_and_the_other_way_round() -> None:
    with scripted(lambda request: "yes") as rt:
        from dspy_actors.envelope import Envelope
        from dspy_actors.lm.lm import LM
        from dspy_actors.messages import LMRequest, Message

        assert rt._layer is not None
        request = LMRequest("m", (Message.of("user", "hello"),))
        rt._layer.client.submit(LM("scripted/m"), request, Envelope("c1")).get(PATIENCE)
        assert list(rt.stream("hello", LM("scripted/m"))) == [TextPiece("yes")]


@pytest.mark.parametrize("finish", ["length", "content_filter"])
def test_an_answer_that_was_cut_or_filtered_is_not_kept(finish: str) -> None:
    with tapped() as (rt, taps):
        told(rt, taps, finish=finish)
        assert told(rt, taps, "again") == "again"


def test_a_stream_that_broke_is_not_kept() -> None:
    with tapped() as (rt, taps):
        stream = rt.stream("hello")
        tap = taps.next()
        tap.say("ye")
        tap.fail(LMTransportError("cut", provider_code="cut"))
        with pytest.raises(LMTransportError):
            rest(stream)
        assert told(rt, taps) == "yes"


def test_a_stream_that_was_left_is_not_kept() -> None:
    with tapped() as (rt, taps):
        stream = rt.stream("hello")
        taps.next().say("ye")
        some(stream)
        stream.close()
        assert isinstance(over(stream), CallCancelled)
        assert told(rt, taps) == "yes"


def test_without_the_cache_every_stream_is_sent() -> None:
    with tapped(lm={"cache": False}) as (rt, taps):
        assert [told(rt, taps), told(rt, taps)] == ["yes", "yes"]
        assert len(taps.all) == 2


def test_an_invalid_request_is_remembered_for_streams_too() -> None:
    with tapped(LMInvalidRequestError("too long", status=400)) as (rt, taps):
        for _ in range(2):
            with pytest.raises(LMInvalidRequestError):
                rest(rt.stream("hello"))
        assert len(taps.all) == 1


def test_equal_streams_at_once_are_one_request_each() -> None:
    with tapped() as (rt, taps):
        streams = [rt.stream("hello") for _ in range(2)]
        for tap in (taps.next(), taps.next()):
            tap.say("yes")
            tap.end()
        assert [rest(stream) for stream in streams] == ["yes", "yes"]


def test_several_choices_are_told_apart() -> None:
    with tapped() as (rt, taps):
        stream = rt.stream("hello", n=2)
        tap = taps.next()
        tap.put(TextPiece("a", 0), TextPiece("b", 1), TextPiece("c", 0))
        tap.end()
        assert list(stream) == [TextPiece("a", 0), TextPiece("b", 1), TextPiece("c", 0)]
        assert stream.partial == "ac"


# -- usage -------------------------------------------------------------------------------------------------------------


def test_what_the_provider_counts_is_booked() -> None:
    with tapped(prices={"scripted/m": Price(1, 1)}) as (rt, taps):
        told(rt, taps, usage=Usage(7, 3))
        (row,) = rows(rt)
        assert (row.status, row.usage, row.attempt) == ("ok", Usage(7, 3), 1)
        assert (rt.numbers().tokens, row.cost is not None) == (10, True)


def test_what_the_provider_does_not_count_is_estimated_and_says_so() -> None:
    with tapped() as (rt, taps):
        stream = rt.stream("hello")
        tap = taps.next()
        tap.say("x" * 40)
        tap.end()
        rest(stream)
        assert stream.usage == Usage(2, 10, estimated=True)
        assert rows(rt)[0].usage == stream.answer.response.usage == stream.usage


@pytest.mark.parametrize("end", ["break", "leave"])
def test_a_stream_that_ends_early_is_booked_as_far_as_it_came(end: str) -> None:
    with tapped() as (rt, taps):
        stream = rt.stream("hello")
        tap = taps.next()
        tap.say("x" * 40)
        some(stream)
        if end == "break":
            tap.fail(LMServerError("overloaded", status=529))
        else:
            stream.close()
        assert over(stream) is not None
        wait_until(lambda: rows(rt))
        (row,) = rows(rt)
        assert (row.status, row.usage) == ("error" if end == "break" else "cancelled", Usage(2, 10, estimated=True))
        assert stream.usage == row.usage


def test_what_the_provider_told_before_it_broke_counts() -> None:
    with tapped() as (rt, taps):
        stream = rt.stream("hello")
        tap = taps.next()
        tap.usage = Usage(25, 1)
        tap.say("x" * 40)
        some(stream)
        tap.fail(LMServerError("overloaded", status=529))
        over(stream)
        assert rows(rt)[0].usage == Usage(25, 10, estimated=True)


def test_a_refusal_before_any_piece_costs_nothing() -> None:
    with tapped(LMServerError("down", status=500)) as (rt, taps):
        stream = rt.stream("hello")
        taps.next()
        over(stream)
        (row,) = rows(rt)
        assert (row.status, row.usage, row.kind) == ("error", None, "lm_server")


def test_streams_are_counted() -> None:
    with tapped() as (rt, taps):
        stream = rt.stream("hello")
        tap = taps.next()
        tap.say("a")
        some(stream)
        numbers: Any = rt.health()["numbers"]
        assert (numbers["calls"], numbers["streams"], numbers["open"], numbers["open_streams"]) == (1, 1, 1, 1)
        tap.end()
        rest(stream)
        wait_until(lambda: (rt.numbers().open, rt.numbers().open_streams) == (0, 0))
        assert (rt.numbers().sent, rt.numbers().unanswered) == (1, 0)


def test_a_stream_that_was_left_is_counted_as_unanswered() -> None:
    with tapped() as (rt, taps):
        stream = rt.stream("hello")
        tap = taps.next()
        stream.close()
        assert tap.closed.wait(PATIENCE)
        wait_until(lambda: rt.numbers().open == 0)
        assert (rt.numbers().sent, rt.numbers().unanswered) == (1, 1)


# -- budgets -----------------------------------------------------------------------------------------------------------


def test_a_stream_that_costs_too_much_is_refused_before_it_is_sent() -> None:
    with tapped(tenant="a", budgets={"a": Budget(tokens=10)}, lm={"max_tokens": BOUND}) as (rt, taps):
        with pytest.raises(BudgetExceeded):
            rest(rt.stream("hello"))
        assert taps.all == []


def test_a_whole_stream_is_charged_once() -> None:
    with tapped(tenant="a", budgets={"a": Budget(tokens=100)}, lm={"max_tokens": BOUND}) as (rt, taps):
        told(rt, taps, usage=Usage(7, 3))
        assert budget(rt) == {"bound": 100, "spent": 10, "reserved": 0}


def test_a_stream_that_was_left_is_charged_once_with_what_had_come() -> None:
    with tapped(tenant="a", budgets={"a": Budget(tokens=100)}, lm={"max_tokens": BOUND}) as (rt, taps):
        stream = rt.stream("hello")
        tap = taps.next()
        tap.say("x" * 40)
        some(stream)
        stream.close()
        wait_until(lambda: budget(rt) == {"bound": 100, "spent": 12, "reserved": 0})
        wait_until(lambda: rt.numbers().open == 0)
        assert budget(rt)["spent"] == 12


def test_a_call_that_was_left_is_charged_with_its_prompt() -> None:
    gate = Gate()
    lm = "scripted/m"
    with scripted(gate, lm=lm, tenant="a", budgets={"a": Budget(tokens=10_000)}) as rt:
        from tests.dspy_actors.programs import qa

        reply = rt.start(qa()).submit(question="blue")
        gate.wait_for()
        reply.cancel()
        gate.wait_for_cancel()
        wait_until(lambda: budget(rt)["spent"] > 0 and budget(rt)["reserved"] == 0)


def test_the_end_of_the_runtime_settles_a_budget_once() -> None:
    with tapped(tenant="a", budgets={"a": Budget(tokens=100)}, lm={"max_tokens": BOUND}) as (rt, taps):
        stream = rt.stream("hello")
        taps.next().say("x" * 40)
        some(stream)
        layer = rt._layer
        assert layer is not None
    (ledger,) = layer.book.readings().values()
    assert ledger["tokens"] == {"bound": 100, "spent": 12, "reserved": 0}


# -- the limiter -------------------------------------------------------------------------------------------------------


def two_in_line(rt: Runtime, taps: Taps) -> tuple[LMStream, LMStream, Tap]:
    """A stream that has the one place, one that waits for it, and what the provider says to the first."""
    first = rt.stream("hello")
    tap = taps.next()  # before the other is begun: of two at once, which wait for the worker, either may be first
    second = rt.stream("hello")
    wait_until(lambda: [limiter["waiting"] for limiter in health(rt, "limiters").values()] == [1], PATIENCE)
    return first, second, tap


def test_a_stream_holds_its_place_until_it_is_over() -> None:
    guarding = Guarding(limiter=LimiterSettings(max_in_flight=1))
    with tapped(guarding=guarding, lm={"cache": False}) as (rt, taps):
        first, second, tap = two_in_line(rt, taps)
        tap.say("a")
        some(first)
        assert len(taps.all) == 1
        tap.end()
        rest(first)
        taps.next().end()
        assert rest(second) == ""


def test_a_stream_that_was_left_gives_its_place_back() -> None:
    guarding = Guarding(limiter=LimiterSettings(max_in_flight=1))
    with tapped(guarding=guarding, lm={"cache": False}) as (rt, taps):
        first, second, _ = two_in_line(rt, taps)
        first.close()
        taps.next().end()
        assert rest(second) == ""


def test_whoever_leaves_the_line_is_sent_nothing() -> None:
    guarding = Guarding(limiter=LimiterSettings(max_in_flight=1))
    with tapped(guarding=guarding, lm={"cache": False}) as (rt, taps):
        first, second, tap = two_in_line(rt, taps)
        second.close()
        wait_until(lambda: rt.numbers().open == 1)
        tap.end()
        rest(first)
        assert len(taps.all) == 1


@pytest.mark.parametrize("start", [{"input_tokens": 11}, {"input_tokens": 11, "output_tokens": 1}])
@pytest.mark.parametrize("end", [{}, {"usage": {}}, {"usage": {"input_tokens": 11}}])
def test_a_message_whose_output_nobody_counted_is_estimated(start: dict[str, int], end: dict[str, object]) -> None:
    """As of relays in front of Anthropic's API; it was booked with the prompt alone, and free of any budget."""
    events = [
        {"type": "message_start", "message": {"usage": start}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "x" * 40}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, **end},
        {"type": "message_stop"},
    ]
    body = b"".join(f"data: {json.dumps(event)}\n\n".encode() for event in events)

    async def read() -> None:
        async with Peer(reply(200, body)) as peer:
            lm = LM("anthropic/m", base_url=peer.url, api_key="key-0123456789", cache=False)
            async with Runtime(lm=lm) as rt:
                stream = rt.stream("hi")
                assert [piece async for piece in stream] == [TextPiece("x" * 40)]
                assert stream.usage == rows(rt)[0].usage == Usage(11, 10, estimated=True)
                assert rt.usage().tokens == 21

    asyncio.run(read())
