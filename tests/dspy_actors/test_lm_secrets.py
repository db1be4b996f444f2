"""The key reaches the server and nothing else."""

from __future__ import annotations

import json
import logging
import pickle
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dspy_actors.errors import (
    DspyActorsError,
)
from dspy_actors.lm.io_loop import IOLoop
from dspy_actors.lm.lm import LM
from dspy_actors.lm.worker import LMWorker
from dspy_actors.runtime import Runtime
from tests.dspy_actors.over_http import CLOCK, KEY, KILLED, lm, of_class, worker
from tests.dspy_actors.programs import PATIENCE, qa
from tests.server.client import StubServer


def test_the_key_reaches_the_server(fast: Runtime, stub: StubServer) -> None:
    qa()(question="blue")
    assert stub.bodies()[0]["headers"]["authorization"] == f"Bearer {KEY}"


def everything_said(rt: Runtime, stub: StubServer) -> str:
    """What can be seen of a runtime with a key: values, errors, trees; also of its crashes."""
    said = [repr(rt.settings), rt.draw(), json.dumps(rt.system.snapshot(), default=repr), str(rt.registry.keys())]
    program = rt.start(qa())
    said += [repr(program), repr(program(question="blue")), repr(program.module), json.dumps(program.metrics())]
    for fault in (f"status=400,message=bad+key+{KEY}", "reset", "html", "status=401"):
        stub.control(fault=fault)
        with pytest.raises(DspyActorsError) as caught:  # elsewhere, so that the key is not set aside here
            program.using(lm=lm(stub, "delay=0", num_retries=0, cache=False))(question=f"{len(said)}")
        said += ["".join(traceback.format_exception(caught.value)), repr(caught.value.to_wire())]
    said.append(json.dumps(rt.health(), default=repr))
    stub.reset()
    worker(rt).exit(KILLED)
    said += [repr(program(question="red")), rt.draw(), repr(LM("openai/m", api_key=KEY).to_state())]
    return "\n".join(said)


def test_the_key_is_nowhere_to_be_seen(
    fast: Runtime, stub: StubServer, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG):
        said = everything_said(fast, stub)
    said += caplog.text + "".join(capfd.readouterr())
    assert KEY not in said
    assert "marker" not in said


class Way(NamedTuple):
    """A way to a model: over which client, in which dialect, with a key from where."""

    transport: str
    model: str
    options: dict[str, Any]
    source: str


MARK = "sk-ant-marker-0123456789abcdef"
WAYS = [
    Way("httpx", "openai/m", {}, "text"),
    Way("httpx", "anthropic/m", {}, "callable"),
    Way("httpx", "local/m", {}, "list"),
    Way("aiohttp", "openai/m", {"model_type": "responses"}, "list"),
    Way("aiohttp", "anthropic/m", {}, "environment"),
    Way("aiohttp", "openai/m", {}, "callable"),
]
SOURCES: dict[str, Any] = {"text": MARK, "callable": lambda: MARK, "list": [MARK, f"{MARK}-2"], "environment": None}
LOUD = [
    f"status=401,message=the+key+{MARK}+is+wrong",
    f"status=400,message={MARK},h.x-request-id={MARK}",
    f"error,message={MARK}",
    f"status=302,h.location=http://elsewhere/?key={MARK}",
    f"body={MARK}",
    f"status=429,retry_after={MARK}",
    "html",
    "reset",
    "cut=3",
]
"""What servers answer that repeat what they were sent, and faults on whose way the request is at hand."""


def everything_of(way: Way, stub: StubServer, path: Path) -> Iterator[object]:
    """What can be seen of a runtime that goes this way, through faults, refusals of its key and deaths."""

    def model(number: int) -> LM:  # each fault at an endpoint of its own, where the key is not set aside
        url = stub.at(f"delay={number}")
        return LM(way.model, api_key=SOURCES[way.source], base_url=url, num_retries=0, **way.options)

    with Runtime(model(0), transport=way.transport, cache_path=path, deadline=PATIENCE) as rt:
        program = rt.start(qa())
        yield from (rt.settings, program(question="first"), rt.draw(), rt.registry.keys())
        for number, fault in enumerate(LOUD, 1):
            stub.control(fault=fault, keep=1)
            with pytest.raises(DspyActorsError) as caught:
                program.using(lm=model(number))(question="again")
            error = caught.value
            yield from (model(number), "".join(traceback.format_exception(error)), error.to_wire(), pickle.dumps(error))
            yield rt.health()
        stub.control(fault="", keep=1)
        slow = program.using(lm=model(200))
        waiting = [slow.submit(question=f"{number}") for number in range(3)]
        for kind in (LMWorker, IOLoop):
            of_class(rt, kind).exit(KILLED)
        for reply in waiting:
            assert reply.wait(PATIENCE, CLOCK)
            yield reply.exception() or reply.get(0)
        yield from (rt.draw(), rt.system.snapshot(), rt.usage(), rt.health())
        for ref in rt.system.kernel.live():
            yield from (ref, ref.snapshot())
    for part in path.parent.iterdir():
        yield part.read_bytes()


def is_no_echo(record: logging.LogRecord) -> bool:
    """httpcore logs the headers of an answer as they came, also where the server writes the key into one."""
    return "receive_response_headers" not in record.getMessage()


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_on_no_way_is_the_key_to_be_seen(
    way: Way,
    stub: StubServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    if way.source == "environment":
        monkeypatch.setenv("ANTHROPIC_API_KEY", MARK)
    with caplog.at_level(logging.DEBUG):
        said = "\n".join(map(repr, everything_of(way, stub, tmp_path / "answers.sqlite")))
    said += "".join(capfd.readouterr())
    said += "".join(map(logging.LogRecord.getMessage, filter(is_no_echo, caplog.records)))
    assert any(MARK in str(body["headers"]) for body in stub.bodies())
    assert "marker" not in said


def test_a_key_is_not_saved_with_a_program(fast: Runtime, stub: StubServer, tmp_path: Any) -> None:
    program = qa()
    program.set_lm(lm(stub))
    program.save(tmp_path / "saved.json")
    assert KEY not in (tmp_path / "saved.json").read_text()
