"""Failure drills of streams: a fault on a real server, what the reader sees of it, and what the server sees of us."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from dspy_actors.errors import (
    CircuitOpen,
    DeadlineExceeded,
    LMError,
    LMServerError,
    LMStreamAssemblyError,
    LMTimeoutError,
    LMTransportError,
    LMUnexpectedError,
)
from dspy_actors.lm.breaker_settings import BreakerSettings
from dspy_actors.lm.io_loop import IOLoop
from dspy_actors.lm.limiter import LimiterSettings
from dspy_actors.lm.lm import LM
from dspy_actors.lm.lm_stream import LMStream
from dspy_actors.lm.stream_settings import StreamSettings
from dspy_actors.pieces import TextPiece, ToolCallPiece
from dspy_actors.runtime import Runtime
from supervisors.actor import Actor
from supervisors.testing import wait_until
from tests.dspy_actors.drilling import breaker, guarded, limiter
from tests.dspy_actors.over_http import KEY, KILLED, of_class
from tests.dspy_actors.programs import PATIENCE, begin
from tests.dspy_actors.tapping import over, rest, some
from tests.server.client import StubServer

TEXT = "one two three four"


def said(**fault: object) -> str:
    """A fault, as the server takes it; every piece is a word of `TEXT`."""
    words = {"text": TEXT, **fault}
    return ",".join(key if value is True else f"{key}={value}" for key, value in words.items())


def error_of(stream: LMStream) -> Any:
    with pytest.raises((LMError, DeadlineExceeded)) as caught:
        rest(stream)
    return caught.value


@pytest.mark.parametrize(
    "fault",
    [
        *(f"status={status}" for status in (400, 401, 402, 404, 429, 500, 503)),
        *("html", "malformed", "error", "reset", "drop", "hang", "stall=0", "no_finish"),
        *("error_after=1,type=server_error", "cut_after=1", "malformed=1"),
    ],
)
@pytest.mark.parametrize("provider", ["openai", "anthropic", "local"])
def test_an_error_of_a_server_says_which_server_and_shows_no_key(provider: str, fault: str, stub: StubServer) -> None:
    there = stub.at(fault) if provider != "anthropic" else stub.at(fault).removesuffix("/v1")
    lm = LM(f"{provider}/m", base_url=there, api_key=KEY, num_retries=0, timeout=0.2)
    with Runtime(lm, streaming=StreamSettings(first_token=0.2, local_first_token=0.2)) as rt:
        error = error_of(rt.stream("hello"))
    assert f"127.0.0.1:{stub.url.rpartition(':')[2]}" in str(error)
    assert KEY not in str(error)


# -- in good health ----------------------------------------------------------------------------------------------------


def test_the_pieces_of_an_answer_arrive_in_order(rt: Runtime, stub: StubServer) -> None:
    stub.control(fault=said())
    stream = rt.stream("hello")
    assert "".join(piece.text for piece in stream if isinstance(piece, TextPiece)) == TEXT
    usage = stream.usage
    assert usage is not None
    assert (stream.answer.response.texts, usage.estimated, stub.stats()["streams"]) == ((TEXT,), False, 1)


def test_what_the_head_of_a_stream_tells_of_the_limits_is_learned(rt: Runtime, stub: StubServer) -> None:
    stub.control(fault=said(**{"h.x-ratelimit-limit-requests": 600, "h.x-ratelimit-remaining-requests": 500}))
    rest(rt.stream("hello"))
    assert limiter(rt)["requests_per_minute"] == 600.0


def test_the_connection_of_a_stream_that_was_read_to_its_end_is_used_again(rt: Runtime, stub: StubServer) -> None:
    for number in range(3):
        rest(rt.stream(f"hello {number}"))
    assert stub.stats()["accepted"] == 1


def test_a_server_that_counts_nothing_has_its_tokens_estimated(rt: Runtime, stub: StubServer) -> None:
    stub.control(fault=said(no_usage=True))
    stream = rt.stream("hello")
    rest(stream)
    usage = stream.usage
    assert usage is not None
    assert (usage.estimated, usage.completion_tokens) == (True, 5)


def test_tool_calls_arrive_in_pieces_and_whole(rt: Runtime, stub: StubServer) -> None:
    stub.control(fault='text=,call=add,arguments={"a":1}')
    stream = rt.stream("hello", tools=[{"type": "function", "function": {"name": "add", "parameters": {}}}])
    pieces = [piece for piece in stream if isinstance(piece, ToolCallPiece)]
    (call,) = stream.answer.response.tool_calls[0]
    assert (call.name, "".join(piece.arguments for piece in pieces)) == ("add", call.arguments)


# -- 16: before the head -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["reset", "drop", "status=503", "status=429,retry_after=0"])
def test_what_fails_before_the_first_piece_is_tried_again(rt: Runtime, stub: StubServer, fault: str) -> None:
    stub.control(fault=said(), plan=[{"times": 1, "fault": fault}])
    stream = rt.stream("hello")
    assert (rest(stream), stream.answer.attempts) == (TEXT, 2)


@pytest.mark.parametrize("fault", [said(cut_after=0), said(error_after=0, type="server_error"), "stall=0"])
def test_what_fails_between_the_head_and_the_first_piece_is_tried_again(stub: StubServer, fault: str) -> None:
    stub.control(fault=said(), plan=[{"times": 1, "fault": fault}])
    with guarded(stub, retries=1, streaming=StreamSettings(first_token=0.3)) as rt:
        stream = rt.stream("hello")
        assert (rest(stream), stream.answer.attempts, stub.stats()["requests"]) == (TEXT, 2, 2)


# -- 17, 18, 19: cut short ---------------------------------------------------------------------------------------------

CUTS: list[tuple[str, tuple[type[LMError], ...]]] = [
    (said(cut_after=2), (LMTransportError, LMStreamAssemblyError)),
    (said(reset_after=2), (LMTransportError,)),
    (said(cut_after=2, unframed=True), (LMTransportError, LMStreamAssemblyError)),
    (said(pieces=4, no_done=True, no_finish=True), (LMStreamAssemblyError,)),
    (said(error_after=2, type="server_error"), (LMServerError,)),
    (said(malformed=2), (LMUnexpectedError,)),
    (said(bad_utf8=2), (LMUnexpectedError,)),
]


@pytest.mark.parametrize(("fault", "kinds"), CUTS)
def test_a_stream_cut_short_is_an_error_with_what_had_come_and_is_not_sent_again(
    stub: StubServer, fault: str, kinds: tuple[type[LMError], ...]
) -> None:
    with guarded(stub, fault=fault, retries=3) as rt:
        stream = rt.stream("hello")
        error = error_of(stream)
        assert isinstance(error, kinds)
        assert TEXT.startswith(error.partial)
        assert error.partial == stream.partial != ""
        assert (stub.stats()["requests"], rt.numbers().sent) == (1, 1)


@pytest.mark.parametrize(("fault", "kinds"), CUTS)
def test_a_stream_cut_short_is_booked_and_not_kept(stub: StubServer, fault: str, kinds: Any) -> None:
    with guarded(stub) as rt:
        stub.control(plan=[{"times": 1, "fault": fault}], fault=said())
        error_of(rt.stream("hello"))
        assert rt._layer is not None
        (row,) = rt._layer.usage.records()
        assert row.usage is not None
        assert (row.status, row.usage.estimated, row.usage.completion_tokens > 0) == ("error", True, True)
        assert rest(rt.stream("hello")) == TEXT


@pytest.mark.parametrize("fault", [said(cut_after=2), said(reset_after=2), said(no_done=True, no_finish=True)])
def test_a_stream_cut_short_is_a_failure_of_the_provider(stub: StubServer, fault: str) -> None:
    with guarded(stub, fault=fault, breaker=BreakerSettings(minimum=1)) as rt:
        error_of(rt.stream("hello"))
        assert breaker(rt)["state"] == "open"
        assert isinstance(error_of(rt.stream("another")), CircuitOpen)


def test_an_overloaded_server_says_so_in_the_other_dialect_too(stub: StubServer) -> None:
    model = LM(
        "anthropic/m", base_url=stub.at(said(error_after=2, type="overloaded_error")), api_key=KEY, num_retries=0
    )
    with guarded(stub) as rt:
        error = error_of(rt.stream("hello", model))
        assert isinstance(error, LMServerError)
        assert (error.provider, TEXT.startswith(error.partial or "-")) == ("anthropic", True)


# -- 20: silence -------------------------------------------------------------------------------------------------------


def test_silence_in_the_middle_is_a_timeout_of_its_own(stub: StubServer) -> None:
    with guarded(stub, fault=said(stall=1), streaming=StreamSettings(idle=0.2)) as rt:
        error = error_of(rt.stream("hello"))
        assert isinstance(error, LMTimeoutError)
        assert (error.phase, error.partial) == ("idle", "one ")
        stub.wait("aborted>=1", "in_flight==0")


@pytest.mark.parametrize("fault", ["stall=0", "pings"])
def test_a_server_that_says_nothing_ends_at_the_first_clock(stub: StubServer, fault: str) -> None:
    with guarded(stub, fault=fault, streaming=StreamSettings(first_token=0.3, idle=30.0)) as rt:
        error = error_of(rt.stream("hello"))
        assert isinstance(error, LMTimeoutError)
        assert error.phase == "first_token"
        stub.wait("aborted>=1", "in_flight==0")


def test_an_endless_dribble_ends_at_the_deadline(stub: StubServer) -> None:
    with guarded(stub, fault=said(endless=True, gap=20), deadline=0.5) as rt:
        error = error_of(rt.stream("hello"))
        assert isinstance(error, DeadlineExceeded)
        assert (error.phase, (error.partial or "").startswith("one two")) == ("stream", True)
        stub.wait("aborted>=1", "in_flight==0")


def test_an_attempt_s_own_time_is_kept_to(stub: StubServer) -> None:
    with guarded(stub, fault=said(endless=True, gap=20), lm={"timeout": 0.3}) as rt:
        error = error_of(rt.stream("hello"))
        assert isinstance(error, LMTimeoutError)
        assert (error.phase, (error.partial or "").startswith("one two")) == ("total", True)


# -- 21: a slow reader -------------------------------------------------------------------------------------------------


def test_a_reader_that_stops_stops_the_server_and_nobody_else(stub: StubServer) -> None:
    settings = StreamSettings(idle=0.1, buffer_events=4)
    long = LM("openai/m", base_url=stub.at("pad=4000000,pieces=20000"), api_key=KEY, cache=False, num_retries=0)
    with guarded(stub, fault=said(gap=50), streaming=settings) as rt:
        slow = rt.stream("hello", long)
        first = some(slow)
        for number in range(3):  # each takes longer than the longest silence
            assert rest(rt.stream(f"other {number}")) == TEXT
        written = stub.stats()["pieces"]
        assert written < 20_000
        assert len("".join(first)) + len(rest(slow)) >= 4_000_000
        assert slow.answer.attempts == 1


# -- 22: leaving -------------------------------------------------------------------------------------------------------


class Reader(Actor):
    """Reads the beginning of a stream and holds on to it."""

    def init(self, rt: Runtime, kept: list[LMStream]) -> None:
        kept.append(rt.stream("hello"))
        some(kept[0])


def test_the_death_of_the_reading_actor_closes_the_connection_and_frees_the_place(stub: StubServer) -> None:
    with guarded(stub, fault=said(endless=True, gap=10), limiter=LimiterSettings(max_in_flight=1)) as rt:
        kept: list[LMStream] = []
        reader = rt.system.kernel.spawn(Reader, rt, kept)
        reader.exit(KILLED)
        stub.wait("aborted>=1", "in_flight==0")
        wait_until(lambda: limiter(rt)["in_flight"] == 0)
        assert rt.numbers().unanswered == 1


@pytest.mark.parametrize("way", ["close", "break", "drop", "with"])
@pytest.mark.parametrize("transport", ["httpx", "aiohttp"])
def test_a_server_sees_at_once_that_a_reader_has_left(stub: StubServer, way: str, transport: str) -> None:
    with guarded(stub, fault=said(endless=True, gap=10), transport=transport) as rt:
        leave(rt, way)
        stub.wait("aborted>=1", "in_flight==0")
        wait_until(lambda: rt.numbers().open_streams == 0)
        assert rest(rt.stream("hello", LM("openai/m", base_url=stub.at(said()), api_key=KEY))) == TEXT


def leave(rt: Runtime, way: str) -> None:
    stream = rt.stream("hello")
    if way == "break":
        for _ in stream:
            break
    elif way == "with":
        with stream:
            some(stream)
    else:
        some(stream)
        if way == "close":
            stream.close()


# -- 27: the io loop ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["exit", "fence"])
def test_the_io_loop_s_death_ends_every_stream_and_leaks_no_connection(stub: StubServer, how: str) -> None:
    with guarded(stub, fault=said(endless=True, gap=10), limiter=LimiterSettings(max_in_flight=100)) as rt:
        streams = [rt.stream(f"hello {number}") for number in range(100)]
        for stream in streams:
            some(stream)
        loop = of_class(rt, IOLoop)
        began = time.monotonic()
        if how == "exit":
            loop.exit(KILLED)
        else:
            loop.fence()
        errors = [over(stream) for stream in streams]
        assert time.monotonic() - began < 2.0
        assert {type(error) for error in errors} == {LMTransportError}
        stub.wait("aborted>=100", "in_flight==0", "open==0")
        wait_until(lambda: limiter(rt)["in_flight"] == 0)
        assert rest(rt.stream("hello", LM("openai/m", base_url=stub.at(said()), api_key=KEY))) == TEXT
        assert rt.usage().attempts == rt.numbers().sent == stub.stats()["requests"]


# -- 28: a reader that blocks ------------------------------------------------------------------------------------------


def test_a_reader_that_blocks_holds_up_nobody_else(rt: Runtime, stub: StubServer) -> None:
    stub.control(fault=said())
    go_on = threading.Event()

    def read() -> str:
        text = ""
        for piece in rt.stream("blocked"):
            assert go_on.wait(PATIENCE)
            text += piece.text if isinstance(piece, TextPiece) else ""
        return text

    reading = begin(read)
    stub.wait("requests>=1")
    assert [rest(rt.stream(f"other {number}")) for number in range(20)] == [TEXT] * 20
    assert not reading.done()
    go_on.set()
    assert reading.get(PATIENCE) == TEXT
