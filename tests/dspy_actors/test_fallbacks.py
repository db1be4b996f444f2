"""A call goes from model to model: in order, within its deadline, each with its own guards, all of it booked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dspy_actors.errors import (
    AdapterParseError,
    BudgetExceeded,
    CircuitOpen,
    ContextWindowExceededError,
    DeadlineExceeded,
    DspyActorsError,
    LMAuthError,
    LMContentFilterError,
    LMInvalidRequestError,
    LMServerError,
    LMTransportError,
)
from dspy_actors.evaluation.evaluate import Evaluate
from dspy_actors.lm.budget import Budget
from dspy_actors.lm.guard_actors import BreakerManager, UsageStore
from dspy_actors.lm.in_turn import FELL_BACK
from dspy_actors.lm.lm import LM, Fallback
from dspy_actors.messages import LMRequest
from dspy_actors.modules.predict import Predict
from dspy_actors.runtime import Runtime
from dspy_actors.testing.providers import ScriptedProvider
from tests.dspy_actors.drilling import guarded
from tests.dspy_actors.over_http import ends, submit
from tests.dspy_actors.over_http import lm as served
from tests.dspy_actors.programs import PATIENCE, Gate, echo, examples, qa, right
from tests.server.client import StubServer

DOWN = LMServerError("down", status=500)


class Models:
    """Scripted models by name, and a runtime over them."""

    def __init__(self, **scripts: Any) -> None:
        self.providers = {name: ScriptedProvider(_script(script)) for name, script in scripts.items()}

    def runtime(self, lm: LM, **options: Any) -> Runtime:
        return Runtime(lm=lm, open_provider=lambda config: self.providers[config.model], **options)

    def asked(self) -> dict[str, int]:
        return {name: len(provider.requests) for name, provider in self.providers.items()}


def _script(script: Any) -> Any:
    return (lambda request: script) if isinstance(script, BaseException) else script


def chain(*names: str, **options: Any) -> LM:
    """`s/first` with the others as its fallbacks; every model is asked once."""
    first, *others = names
    made = [Fallback(LM(f"s/{name}", num_retries=0)) for name in others]
    return LM(f"s/{first}", **{"num_retries": 0, "fallbacks": made, **options})


def test_the_second_model_answers_where_the_first_one_failed() -> None:
    models = Models(a=DOWN, b=echo)
    with models.runtime(chain("a", "b")) as rt:
        prediction = qa()(question="blue")
        assert (prediction.answer, prediction.model, prediction.attempts) == ("blue", "s/b", 2)
        assert rt.numbers().fallbacks == 1
        assert rt.numbers().calls == 1


def test_where_the_first_one_answers_no_other_is_asked() -> None:
    models = Models(a=echo, b=echo)
    with models.runtime(chain("a", "b")) as rt:
        prediction = qa()(question="blue")
        assert (prediction.model, prediction.attempts, rt.numbers().fallbacks) == ("s/a", 1, 0)
        assert models.asked() == {"a": 1, "b": 0}


def test_models_are_asked_in_order_those_of_a_fallback_before_the_next() -> None:
    models = Models(a=DOWN, b=DOWN, c=DOWN, d=echo)
    lm = chain("a", fallbacks=[LM("s/b", num_retries=0, fallbacks=[LM("s/c", num_retries=0)]), LM("s/d")])
    with models.runtime(lm) as rt:
        assert qa()(question="blue").model == "s/d"
        assert models.asked() == {"a": 1, "b": 1, "c": 1, "d": 1}
        assert rt.numbers().fallbacks == 3


def test_a_model_is_asked_with_its_own_retries_first() -> None:
    models = Models(a=LMServerError("down", status=500, retry_after=0.0), b=echo)
    with models.runtime(chain("a", "b", num_retries=2)):
        assert qa()(question="blue").attempts == 4
        assert models.asked() == {"a": 3, "b": 1}


def test_each_model_is_asked_with_its_own_options_and_those_of_the_call() -> None:
    models = Models(a=DOWN, b=echo)
    lm = LM("s/a", num_retries=0, seed=1, temperature=0.1, fallbacks=[LM("s/b", top_p=0.5, temperature=0.2)])
    with models.runtime(lm) as rt, rt.using(options={"max_tokens": 9}):
        Predict("question -> answer", temperature=0.7)(question="blue")
    (first,), (second,) = (models.providers[name].requests for name in ("a", "b"))
    assert dict(first.options) == {"seed": 1, "temperature": 0.7, "max_tokens": 9}
    assert dict(second.options) == {"top_p": 0.5, "temperature": 0.7, "max_tokens": 9}
    assert (first.model, second.model, first.messages) == ("a", "b", second.messages)


def test_a_call_that_goes_on_is_told() -> None:
    models = Models(a=DOWN, b=echo)
    told: list[Any] = []
    with models.runtime(chain("a", "b")) as rt:
        rt.system.kernel.telemetry.attach("test", FELL_BACK, lambda event, numbers, about: told.append(dict(about)))
        qa()(question="blue")
    (about,) = told
    assert about.pop("call_id")
    assert about == {"model": "s/a", "to": "s/b", "kind": "lm_server"}


@pytest.mark.parametrize(
    "error", [LMInvalidRequestError("bad"), LMContentFilterError("no"), ContextWindowExceededError("too long")]
)
def test_what_is_the_request_s_own_fault_goes_no_further(error: DspyActorsError) -> None:
    models = Models(a=error, b=echo)
    with models.runtime(chain("a", "b")), pytest.raises(type(error)):
        qa()(question="blue")
    assert models.asked() == {"a": 1, "b": 0}


def test_an_answer_that_cannot_be_read_is_an_answer() -> None:
    models = Models(a=lambda request: "no fields", b=echo)
    with models.runtime(chain("a", "b")), pytest.raises(AdapterParseError):
        qa()(question="blue")
    assert models.asked() == {"a": 2, "b": 0}


def test_a_larger_model_takes_over_a_prompt_that_is_too_long_where_that_is_asked_for() -> None:
    models = Models(small=ContextWindowExceededError("too long"), other=echo, large=echo)
    larger = Fallback("s/large", on=(ContextWindowExceededError,))
    with models.runtime(chain("small", fallbacks=["s/other", larger])):
        assert qa()(question="blue").model == "s/large"


def test_a_model_for_other_errors_is_passed_over() -> None:
    models = Models(a=DOWN, large=echo, b=echo)
    larger = Fallback("s/large", on=(ContextWindowExceededError,))
    with models.runtime(chain("a", fallbacks=[larger, "s/b"])):
        assert qa()(question="blue").model == "s/b"
    assert models.asked()["large"] == 0


def test_where_all_fail_the_last_error_is_raised_with_the_others_as_its_causes() -> None:
    models = Models(a=DOWN, b=LMAuthError("wrong key"), c=LMTransportError("refused"))
    with models.runtime(chain("a", "b", "c")), pytest.raises(LMTransportError, match="refused") as caught:
        qa()(question="blue")
    error = caught.value
    assert isinstance(error.__cause__, LMAuthError)
    assert isinstance(error.__cause__.__cause__, LMServerError)
    assert error.attempts == 3
    assert "in vain" in error.__notes__[0]


def test_equal_calls_that_fail_together_have_errors_of_their_own() -> None:
    gate = Gate()

    async def held(request: Any) -> Any:
        await gate(request)
        return DOWN

    models = Models(a=held, b=LMAuthError("wrong key"))
    with models.runtime(chain("a", "b")) as rt:
        replies = [rt.start(qa()).submit(question="blue") for _ in range(3)]
        gate.wait_for()
        gate.open()
        assert ends(replies) == ["lm_auth"] * 3
        errors = [reply.exception() for reply in replies]
    assert len({id(error) for error in errors}) == 3


def test_an_outage_of_the_first_makes_no_score_of_a_refusal_by_the_second() -> None:
    models = Models(a=DOWN, b=LMInvalidRequestError("this model knows no such option"))
    with models.runtime(chain("a", "b")):
        result = Evaluate(devset=examples(1), metric=right)(qa())
    assert (result.score, result.coverage) == (None, 0.0)


# -- guards ------------------------------------------------------------------------------------------------------------


def open_breaker(rt: Runtime, model: str) -> None:
    manager = rt.registry.whereis("breakers")
    assert manager is not None
    assert manager.call(BreakerManager.force_open, f"s/{model}")


def test_an_open_circuit_sends_the_call_to_the_fallback_at_once() -> None:
    models = Models(a=echo, b=echo)
    with models.runtime(chain("a", "b")) as rt:
        qa()(question="before")
        open_breaker(rt, "a")
        prediction = qa()(question="blue")
        assert (prediction.model, prediction.attempts) == ("s/b", 1)
    assert models.asked() == {"a": 1, "b": 1}


def test_a_broken_model_with_many_calls_in_flight_does_not_shut_off_its_fallback_at_the_same_endpoint() -> None:
    gate = Gate()

    async def breaks(request: LMRequest) -> str:
        await gate(request)
        raise DOWN.fresh()

    models = Models(a=breaks, b=echo)
    with models.runtime(chain("a", "b")) as rt:
        program = rt.start(qa())
        replies = submit(program, 32)
        gate.wait_for(32)
        gate.open()
        assert ends(replies) == ["ok"] * 32
        assert ends(submit(program, 32, "later {n}")) == ["ok"] * 32
        assert {name: each.state.value for name, each in rt.breakers.readings().items()} == {
            "s": "closed",
            "s/a": "open",
            "s/b": "closed",
        }
    assert models.asked() == {"a": 32, "b": 64}


def test_a_runtime_is_ready_as_long_as_one_of_its_models_is() -> None:
    models = Models(a=echo, b=echo)
    with models.runtime(chain("a", "b")) as rt:
        qa()(question="before")
        open_breaker(rt, "a")
        assert rt.ready()
        qa()(question="blue")
        open_breaker(rt, "b")
        assert not rt.ready()
        with pytest.raises(CircuitOpen):
            qa()(question="red")


def test_each_attempt_is_booked_to_the_tenant_and_to_the_model_it_went_to() -> None:
    models = Models(a=DOWN, b=echo)
    with models.runtime(chain("a", "b"), budgets={"team": Budget(requests=5)}) as rt:
        with rt.using(tenant="team"):
            qa()(question="blue")
        store = rt.registry.whereis("usage")
        assert store is not None
        booked = [(record.model, record.status, record.tenant) for record in store.call(UsageStore.records)]
        readings: Any = rt.health()["budgets"]
    assert booked == [("s/a", "error", "team"), ("s/b", "ok", "team")]
    assert readings["tenant team"]["requests"] == {"bound": 5, "spent": 2, "reserved": 0}


def test_a_budget_that_the_first_one_used_up_keeps_the_second_from_being_asked() -> None:
    models = Models(a=DOWN, b=echo)
    with models.runtime(chain("a", "b"), budgets={"": Budget(requests=1)}):
        with pytest.raises(BudgetExceeded) as caught:
            qa()(question="blue")
        assert isinstance(caught.value.__cause__, LMServerError)
        assert caught.value.attempts == 1
        assert caught.value.__notes__ == ["asked before it, in vain: a model (lm_server)"]
    assert models.asked() == {"a": 1, "b": 0}


def test_an_answer_is_kept_for_the_model_that_gave_it() -> None:
    models = Models(a=DOWN, b=echo)
    with models.runtime(chain("a", "b")):
        qa()(question="blue")
        again = qa()(question="blue")
        assert (again.cached, again.model) == (True, "s/b")
    assert models.asked() == {"a": 2, "b": 1}


# -- waiting -----------------------------------------------------------------------------------------------------------


def test_a_cancelled_call_gives_up_the_model_that_is_asked_at_the_moment() -> None:
    gate = Gate()
    models = Models(a=DOWN, b=gate, c=echo)
    with models.runtime(chain("a", "b", "c")) as rt:
        reply = rt.start(qa()).submit(question="blue")
        gate.wait_for()
        reply.cancel()
        gate.wait_for_cancel()
    assert models.asked() == {"a": 1, "b": 1, "c": 0}


def test_all_models_share_the_one_deadline_of_the_call() -> None:
    models = Models(a=DOWN, b=Gate(), c=echo)
    with models.runtime(chain("a", "b", "c")) as rt:
        with pytest.raises(DeadlineExceeded) as caught:
            rt.start(qa()).using(deadline=0.3)(question="blue")
        assert (caught.value.phase, caught.value.seconds) == ("model", 0.3)
    assert models.asked() == {"a": 1, "b": 1, "c": 0}


# -- on a server -------------------------------------------------------------------------------------------------------


def backed(stub: StubServer, fault: str, change: Callable[[LM], LM] = lambda lm: lm) -> Runtime:
    """The model `m` with this fault, and after it a healthy one."""
    second = LM("openai/second", base_url=stub.base_url, api_key="sk-second", num_retries=0)
    first = change(served(stub, fault, num_retries=0, fallbacks=[second]))
    return Runtime(lm=first, transport="aiohttp", deadline=PATIENCE)


@pytest.mark.parametrize("fault", ["status=500", "status=429", "status=401", "reset", "html", "malformed"])
def test_a_fault_of_the_server_costs_one_request_there_and_one_at_the_fallback(stub: StubServer, fault: str) -> None:
    with backed(stub, fault) as rt:
        prediction = qa()(question="blue")
        assert (prediction.model, prediction.attempts) == ("openai/second", 2)
        assert rt.numbers().sent == 2
    assert stub.stats()["requests"] == 2


def test_a_server_that_hangs_is_left_at_its_timeout(stub: StubServer) -> None:
    with backed(stub, "hang", lambda lm: lm.copy(timeout=0.2)):
        assert qa()(question="blue").model == "openai/second"
    counts = stub.wait("aborted>=1")
    assert (counts["requests"], counts["aborted"]) == (2, 1)


def test_a_rate_limit_that_outlasts_the_deadline_sends_the_call_to_the_fallback(stub: StubServer) -> None:
    stub.control(plan=[{"times": 1, "fault": "status=429,retry_after=50"}])
    second = LM("openai/second", base_url=stub.base_url, api_key="sk-second", num_retries=0)
    with guarded(stub, lm={"fallbacks": [second]}) as rt:
        assert [qa()(question=f"q{n}").model for n in range(5)] == ["openai/second"] * 5
        assert rt.numbers().fallbacks == 5
    assert stub.stats()["requests"] == 6
