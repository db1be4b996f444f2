"""The quarantine on a real server: what the provider does to everybody sets nothing aside, what an input does, does."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from supervisors.testing import wait_until
from tests.dspy_actors.drilling import guarded, quick
from tests.dspy_actors.programs import AskLater, qa
from tests.dspy_actors.quarantining import kinds
from tests.dspy_actors.test_quarantine_calls import Wraps
from tests.server.client import StubServer

QUESTIONS = [f"q{n}" for n in range(8)]
OUTAGES = ["status=503", "status=529", "status=429,retry_after=0", "reset", "drop", "html", "malformed", "delay=60000"]
UNCACHED = {"cache": False}


@pytest.mark.parametrize("outage", OUTAGES)
@pytest.mark.parametrize("module", [qa, AskLater, Wraps])
def test_an_outage_sets_no_input_aside_and_all_go_on_after_it(stub: StubServer, outage: str, module: Any) -> None:
    """Every input is asked for in good health, five times in the outage, and after it."""
    with guarded(stub, breaker=quick(minimum=5), lm=UNCACHED) as rt:
        program = rt.start(module(), quarantine=True)
        assert {kinds(program, question)[0] for question in QUESTIONS} == {"ok"}
        stub.control(fault=outage)
        hurried = program.using(deadline=0.05) if outage.startswith("delay") else program
        seen = Counter(kinds(hurried, question)[0] for _ in range(5) for question in QUESTIONS)
        stub.reset()
        stats = rt.quarantine.stats()
        wait_until(lambda: kinds(program, "q0") == ["ok"])
        after = {kinds(program, question)[0] for question in QUESTIONS}
    assert (seen.total(), seen["ok"], seen["quarantined"]) == (40, 0, 0)
    assert (stats.entered, stats.watched) == (0, 0)
    assert after == {"ok"}


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("status=400", "lm_invalid_request"),
        ("status=400,code=context_length_exceeded", "context_window"),
        ("finish=content_filter,no_content", "content_filter"),
        ("text=nothing that fits", "parse"),
    ],
)
def test_an_input_that_the_server_cannot_do_with_is_set_aside_after_three_requests(
    stub: StubServer, fault: str, kind: str
) -> None:
    with guarded(stub, lm=UNCACHED, parse_retries=0) as rt:
        program = rt.start(qa())
        stub.control(fault=fault)
        assert kinds(program, "bad", 5) == [kind] * 3 + ["quarantined"] * 2
        assert stub.stats()["requests"] == 3
        stub.reset()
        assert kinds(program, "bad") == ["quarantined"]
        assert kinds(program, "good") == ["ok"]
        assert [entry.reason for entry in rt.quarantine.list()] == [kind]
