"""Which failures speak against an input: a table of what counts and what never does."""

from __future__ import annotations

import asyncio
import concurrent.futures

import pytest

from dspy_actors import errors
from dspy_actors.error_root import remembered
from dspy_actors.errors import DspyActorsError, ProgramError, QuarantinedInput
from dspy_actors.quarantine.faults import CRASH, fault_reason
from supervisors.errors import ActorDied, CallTimeout, MailboxFull, SystemStopped, fresh
from supervisors.exits import Crash, Killed, NoProc, Shutdown

COUNTS: list[tuple[BaseException, str]] = [
    (errors.LMInvalidRequestError("no"), "lm_invalid_request"),
    (errors.ContextWindowExceededError("too long"), "context_window"),
    (errors.LMContentFilterError("no"), "content_filter"),
    (errors.AdapterParseError("unreadable"), "parse"),
    (ProgramError("ended its thread", error_type="SystemExit"), CRASH),
    (SystemExit(3), CRASH),
    (ValueError("bad"), CRASH),
    (RecursionError(), CRASH),
    (ActorDied("worker", Crash(ValueError()), maybe_handled=True), CRASH),
]

NEVER: list[BaseException] = [
    errors.LMTransportError("cut"),
    errors.LMTimeoutError("slow"),
    errors.LMServerError("503"),
    errors.LMRateLimitError("429"),
    errors.LMAuthError("401"),
    errors.LMBillingError("no money"),
    errors.LMUnexpectedError("html"),
    errors.LMUnsupportedModelError("404"),
    errors.LMUnsupportedFeatureError("no tools"),
    errors.LMNotConfiguredError("no key"),
    errors.LMConfigurationError("no"),
    errors.CircuitOpen("open"),
    errors.BudgetExceeded("spent"),
    errors.DeadlineExceeded("late"),
    errors.CallCancelled("gone"),
    errors.ShuttingDown("ending"),
    errors.Busy("full"),
    errors.InputError("missing"),
    errors.SignatureError("no"),
    errors.NoRuntime(),
    errors.BlockingCall(),
    errors.AdapterError("cannot be rendered"),
    QuarantinedInput("set aside", entry="e", until=0.0, reason="parse", retry_after=1.0),
    ProgramError("Ctrl-C", error_type="KeyboardInterrupt"),
    ProgramError("gone", error_type="CancelledError"),
    asyncio.CancelledError(),
    concurrent.futures.CancelledError(),
    KeyboardInterrupt(),
    GeneratorExit(),
    TimeoutError(),
    ConnectionResetError(),
    FileNotFoundError(),
    OSError(24, "too many open files"),
    MemoryError(),
    CallTimeout("actor", 1.0),
    MailboxFull("actor", 1),
    SystemStopped("system"),
    ActorDied("worker", Crash(ValueError()), maybe_handled=False),
    ActorDied("worker", Killed(), maybe_handled=True),
    ActorDied("worker", Shutdown(), maybe_handled=True),
    ActorDied("worker", NoProc(), maybe_handled=False),
]


def named(error: object) -> str:
    return type(error).__name__ if isinstance(error, BaseException) else ""


@pytest.mark.parametrize(("error", "reason"), COUNTS, ids=named)
def test_what_would_happen_again_counts(error: BaseException, reason: str) -> None:
    assert fault_reason(error, attempts=1) == reason


@pytest.mark.parametrize("error", NEVER, ids=named)
def test_what_passes_never_counts(error: BaseException) -> None:
    assert fault_reason(error, attempts=1) is None


def test_every_error_of_ours_has_its_place_in_the_table() -> None:
    def below(kind: type[DspyActorsError]) -> set[type[DspyActorsError]]:
        return {kind}.union(*(below(child) for child in kind.__subclasses__()))

    def counts(kind: type[DspyActorsError]) -> bool:
        error = kind.__new__(kind)
        Exception.__init__(error, "")
        for name in kind.fields:
            setattr(error, name, None)
        return fault_reason(error, attempts=1) is not None

    ours = {kind for kind in below(DspyActorsError) if kind.__module__ == "dspy_actors.errors"}
    assert {kind for kind in ours if counts(kind)} == {type(error) for error, _ in COUNTS if type(error) in ours}


@pytest.mark.parametrize("error", [error for error, _ in COUNTS], ids=named)
def test_nothing_counts_in_a_call_that_met_a_failure_of_the_infrastructure(error: BaseException) -> None:
    assert fault_reason(error, fault=errors.LMServerError("503"), attempts=1) is None


@pytest.mark.parametrize("error", [error for error, _ in COUNTS], ids=named)
def test_nothing_counts_while_a_breaker_is_not_closed(error: BaseException) -> None:
    assert fault_reason(error, attempts=1, breakers_closed=False) is None


def test_an_unreadable_answer_from_the_cache_is_no_further_evidence() -> None:
    assert fault_reason(errors.AdapterParseError("unreadable"), attempts=0) is None


def test_a_refusal_that_is_remembered_is_no_further_evidence_nor_is_a_copy_of_it() -> None:
    again = remembered(errors.LMInvalidRequestError("no"))
    assert [fault_reason(each, attempts=1) for each in (again, again.fresh(), fresh(again))] == [None] * 3


def test_a_refusal_that_is_remembered_does_not_count_when_the_program_wraps_it() -> None:
    wrapped = RuntimeError("no answer")
    wrapped.__cause__ = remembered(errors.LMInvalidRequestError("no"))
    assert fault_reason(wrapped) is None


@pytest.mark.parametrize(
    "behind", [each for each in NEVER if isinstance(each, (OSError, errors.LMServerError))], ids=named
)
def test_a_passing_failure_does_not_count_when_the_program_wraps_it(behind: BaseException) -> None:
    wrapped = RuntimeError("the model is down")
    wrapped.__cause__ = behind
    assert fault_reason(wrapped) is None


def test_a_passing_failure_does_not_count_in_whose_handling_the_program_failed() -> None:
    error = KeyError("answer")
    error.__context__ = ValueError()
    error.__context__.__context__ = TimeoutError()
    assert fault_reason(error) is None


def test_an_inner_program_whose_input_is_set_aside_does_not_count_against_the_outer_one() -> None:
    wrapped = RuntimeError("no answer")
    wrapped.__cause__ = QuarantinedInput("set aside", entry="e", until=0.0, reason="parse", retry_after=1.0)
    assert fault_reason(wrapped) is None


def test_errors_that_were_raised_from_each_other_in_a_circle_are_read_once() -> None:
    first, second = ValueError(), KeyError()
    first.__cause__, second.__cause__ = second, first
    assert fault_reason(first) == CRASH
