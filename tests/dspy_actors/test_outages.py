"""The log of a provider's bad day: a line a change and none a call, written where no call waits for it."""

from __future__ import annotations

import threading
from random import Random
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from dspy_actors.errors import DspyActorsError, LMAuthError, LMBillingError, LMRateLimitError, LMServerError
from dspy_actors.lm.breaker import Breaker, Verdict
from dspy_actors.lm.breaker_settings import BreakerSettings
from dspy_actors.lm.guarding import Guarding
from dspy_actors.lm.lm import LM
from dspy_actors.lm.outage_reporter import OUTAGES, REPORT_FAILED, OutageReporter
from dspy_actors.lm.outages import EVENTS, MOST, Outages
from dspy_actors.lm.providers.set_aside import SECONDS, SetAside
from dspy_actors.runtime import Runtime
from dspy_actors.secret import Secret
from dspy_actors.testing.providers import ScriptedProvider
from supervisors.clock import ManualClock
from supervisors.system import System
from supervisors.testing import Log, wait_until
from tests.dspy_actors.drilling import guarded
from tests.dspy_actors.over_http import KEY, ends, submit
from tests.dspy_actors.programs import PATIENCE, qa
from tests.server.client import StubServer

QUICK = BreakerSettings(minimum=2, jitter=0.0, probes_to_close=1)
MASKED = Secret(KEY).key_id


def lines(outages: Outages) -> list[tuple[str, str, dict[str, object]]]:
    found = []
    while (line := outages.take()) is not None:
        found.append((line.level, line.event, line.fields))
    return found


def written(logs: Any) -> list[tuple[str, str]]:
    """Level and event of the lines that are ours."""
    return [(each["log_level"], each["event"]) for each in logs if each["event"] in EVENTS]


# -- which changes are told ------------------------------------------------------------------------------------------


class Watched:
    """A breaker whose changes are told."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.outages = Outages()
        self.breaker = Breaker(
            "openai/m",
            QUICK,
            rng=Random(0),
            changed=lambda name, *change: self.outages.changed(self.breaker, *change, self.clock.now()),
        )

    def ends(self, verdict: Verdict) -> None:
        now = self.clock.now()
        failure = None if verdict is Verdict.SUCCESS else "lm_server: down"
        self.breaker.report(self.breaker.permit(now), verdict, now, failure)


def test_an_outage_is_two_lines_however_often_a_probe_fails() -> None:
    watched = Watched()
    watched.ends(Verdict.FAILURE)
    watched.ends(Verdict.FAILURE)
    for _ in range(5):
        watched.clock.advance(QUICK.longest_open_seconds)
        watched.ends(Verdict.FAILURE)
    watched.clock.advance(QUICK.longest_open_seconds)
    watched.ends(Verdict.SUCCESS)
    opened = {"name": "openai/m", "reason": "lm_server: down", "seconds": 5.0}
    assert lines(watched.outages) == [
        ("warning", "breaker.opened", opened),
        ("info", "breaker.closed", {"name": "openai/m"}),
    ]


def test_a_breaker_that_is_opened_and_reset_by_hand_is_told_of() -> None:
    watched = Watched()
    for _ in range(2):
        watched.breaker.force_open()
    for _ in range(2):
        watched.breaker.reset()
    assert lines(watched.outages) == [
        ("warning", "breaker.opened", {"name": "openai/m", "reason": "by hand"}),
        ("info", "breaker.closed", {"name": "openai/m"}),
    ]


@pytest.mark.parametrize(
    ("before", "pause", "told"),
    [(0.0, 9.9, 0), (0.0, 10.0, 1), (59.0, 61.0, 0), (3.0, 60.0, 1)],
)
def test_a_pause_is_told_of_once_where_it_is_long(before: float, pause: float, told: int) -> None:
    outages = Outages()
    outages.paused("openai/m", before, pause, 10.0)
    assert len(lines(outages)) == told


def test_a_pause_says_what_the_provider_asked_for() -> None:
    outages = Outages()
    outages.paused("openai/m", 0.0, 612.34, 3600.0)
    outages.paused("openai/m", 0.0, 31.0, None)
    assert [fields for _, _, fields in lines(outages)] == [
        {"name": "openai/m", "reason": "429, come back in 3600 s", "seconds": 612.3},
        {"name": "openai/m", "reason": "429", "seconds": 31.0},
    ]


def test_a_key_is_told_of_when_it_is_set_aside_and_not_by_each_call_that_met_that() -> None:
    clock, outages = ManualClock(), Outages()
    keys = SetAside(clock.now)
    keys.told = outages.set_aside
    for _ in range(9):
        keys.add("https://a/v1", "12345678", LMAuthError("no", status=401, model="m"))
    keys.add("https://a/v1", "87654321", LMBillingError("no", status=429, provider_code="insufficient_quota"))
    clock.advance(SECONDS)
    keys.add("https://a/v1", "12345678", LMAuthError("no"))
    assert [(fields["key"], fields["reason"], fields["model"]) for _, _, fields in lines(outages)] == [
        ("12345678", "lm_auth: 401", "m"),
        ("87654321", "lm_billing: 429 insufficient_quota", None),
        ("12345678", "lm_auth", None),
    ]


def test_of_lines_that_nobody_writes_the_last_are_kept() -> None:
    outages = Outages()
    for number in range(MOST + 5):
        outages.paused(f"m{number}", 0.0, 60.0, None)
    found = lines(outages)
    assert (len(found), found[-1][2]["name"]) == (MOST, f"m{MOST + 4}")


# -- in a runtime ----------------------------------------------------------------------------------------------------


class Sick:
    """A model that raises what it is told to, or answers."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error

    def __call__(self, request: Any) -> Any:
        return self.error or "[[ ## answer ## ]]\nyes\n\n[[ ## completed ## ]]"

    def runtime(self, **options: Any) -> Runtime:
        lm = LM("scripted/m", num_retries=0, cache=False)
        guarding = Guarding(breaker=QUICK)
        return Runtime(lm, guarding=guarding, open_provider=lambda config: ScriptedProvider(self), **options)


DOWN = LMServerError("down", status=500)


def kinds(rt: Runtime, calls: int) -> list[str]:
    program, found = rt.start(qa()), []
    for number in range(calls):
        try:
            program(question=f"q{number}")
            found.append("ok")
        except DspyActorsError as error:
            found.append(error.kind)
    return found


def test_an_outage_is_in_the_log() -> None:
    structlog.configure()
    sick, clock = Sick(DOWN), ManualClock()
    with capture_logs() as logs, sick.runtime(clock=clock) as rt:
        assert kinds(rt, 20) == ["lm_server"] * 2 + ["circuit_open"] * 18
        sick.error = None
        clock.advance(QUICK.open_seconds)
        assert kinds(rt, 2) == ["ok", "ok"]
    assert written(logs) == [("warning", "breaker.opened"), ("info", "breaker.closed")]
    assert (logs[0]["name"], logs[0]["reason"]) == ("scripted/m", "lm_server: down")


def test_a_long_pause_is_in_the_log() -> None:
    structlog.configure()
    sick = Sick(LMRateLimitError("fast", status=429, retry_after=3600.0))
    with capture_logs() as logs, sick.runtime(deadline=60.0) as rt:
        assert kinds(rt, 20) == ["lm_rate_limit"] * 20
    assert written(logs) == [("warning", "limiter.paused")]


def test_a_key_that_is_refused_is_in_the_log_by_its_masked_name(stub: StubServer) -> None:
    structlog.configure()
    with capture_logs() as logs, guarded(stub, fault="status=401") as rt:
        assert set(ends(submit(rt.start(qa()), 20))) == {"lm_auth"}
        masked = [each["key_id"] for each in rt.health()["keys_set_aside"]]  # type: ignore[attr-defined]
    assert written(logs) == [("warning", "key.set_aside")]
    assert ([logs[0]["key"]], logs[0]["model"]) == (masked, "m")
    assert masked == [MASKED]
    assert KEY not in repr(logs)


def test_a_log_that_is_stuck_holds_up_no_call() -> None:
    go_on, came = threading.Event(), threading.Event()

    def stuck(*args: Any) -> Any:
        came.set()
        assert go_on.wait(PATIENCE)
        raise structlog.DropEvent

    structlog.configure(processors=[stuck])
    sick, clock = Sick(DOWN), ManualClock()
    with sick.runtime(clock=clock) as rt:
        kinds(rt, 2)
        assert came.wait(PATIENCE)
        assert kinds(rt, 1) == ["circuit_open"]
        sick.error = None
        clock.advance(QUICK.open_seconds)
        assert kinds(rt, 2) == ["ok", "ok"]
        go_on.set()


def test_a_log_that_raises_takes_nobody_down() -> None:
    def broken(*args: Any) -> Any:
        raise ValueError

    structlog.configure(processors=[broken])
    with Sick(DOWN).runtime() as rt:
        failures = Log()
        rt.system.telemetry.attach("test", REPORT_FAILED, lambda event, numbers, about: failures.add(about["event"]))
        kinds(rt, 2)
        failures.wait_for("breaker.opened")
        reporter = rt.registry.whereis(OUTAGES)
        rt.breakers.reset("scripted/m")
        failures.wait_for("breaker.closed")
        assert rt.registry.whereis(OUTAGES) is reporter


def test_what_came_last_is_written_at_the_end() -> None:
    structlog.configure()
    outages = Outages()  # wakes nobody
    with capture_logs() as logs, System() as system:
        reporter = system.spawn(OutageReporter, outages, system.telemetry)
        reporter.call(OutageReporter.look)
        outages.paused("openai/m", 0.0, 60.0, None)
    assert written(logs) == [("warning", "limiter.paused")]


def test_what_happens_while_nobody_writes_is_written_later() -> None:
    structlog.configure()
    with capture_logs() as logs, Sick(None).runtime() as rt:
        kinds(rt, 1)
        reporter = rt.registry.whereis(OUTAGES)
        assert reporter is not None
        reporter.fence()
        rt.breakers.force_open("scripted/m")
        wait_until(lambda: rt.registry.whereis(OUTAGES) not in (None, reporter))
        wait_until(lambda: ("warning", "breaker.opened") in written(logs))
