"""The key reaches the server and nothing else."""

from __future__ import annotations

import json
import logging
import traceback
from typing import Any

import pytest

from dspy_actors.errors import (
    DspyActorsError,
)
from dspy_actors.lm.lm import LM
from dspy_actors.runtime import Runtime
from tests.dspy_actors.over_http import KEY, KILLED, lm, worker
from tests.dspy_actors.programs import qa
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


def test_a_key_is_not_saved_with_a_program(fast: Runtime, stub: StubServer, tmp_path: Any) -> None:
    program = qa()
    program.set_lm(lm(stub))
    program.save(tmp_path / "saved.json")
    assert KEY not in (tmp_path / "saved.json").read_text()
