"""Which class a call is of, and whose it may be: what waits at the limiter shows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dspy_actors.errors import DeadlineExceeded, LMConfigurationError, UnknownTenant
from dspy_actors.evaluation.evaluate import Evaluate
from dspy_actors.lm.budget import Budget
from dspy_actors.lm.fairness import Fairness
from dspy_actors.lm.guard_actors import UsageStore
from dspy_actors.lm.guarding import Guarding
from dspy_actors.lm.limiter import LimiterSettings
from dspy_actors.optimizers.bootstrap_few_shot import BootstrapFewShot
from dspy_actors.runtime import Runtime
from supervisors.testing import wait_until
from tests.dspy_actors.programs import PATIENCE, SOON, Gate, examples, qa, right, runtime


def asks_a_model(example: Any, prediction: Any, trace: Any = None) -> bool:
    return bool(qa()(question=f"is {prediction.answer} right").answer)


def evaluates(example: Any, prediction: Any, trace: Any = None) -> bool:
    return bool(Evaluate(devset=examples(2)[1:], metric=right)(qa()).score)


def call(rt: Runtime) -> Any:
    return qa()(question="blue")


def mapped(rt: Runtime) -> Any:
    return list(rt.map(qa(), [{"question": "blue"}]))


def evaluated(rt: Runtime) -> Any:
    return Evaluate(devset=examples(1), metric=right)(qa())


def judged(rt: Runtime) -> Any:
    return Evaluate(devset=examples(1), metric=asks_a_model)(qa())


def optimized(rt: Runtime) -> Any:
    return BootstrapFewShot(metric=right).compile(qa(), trainset=examples(1))


def optimized_with_evaluations(rt: Runtime) -> Any:
    return BootstrapFewShot(metric=evaluates).compile(qa(), trainset=examples(1))


def classes(work: Callable[[Runtime], Any], **settings: Any) -> list[str]:
    """The classes of the requests that `work` sends, in order."""
    with runtime(**settings) as rt:
        work(rt)
        store = rt.registry.whereis("usage")
        assert store is not None
        return [record.priority for record in store.call(UsageStore.records)]


@pytest.mark.parametrize(
    ("work", "found"),
    [
        (call, ["interactive"]),
        (mapped, ["batch"]),
        (evaluated, ["batch"]),
        (judged, ["batch", "batch"]),
        (optimized, ["optimizer"]),
        (optimized_with_evaluations, ["optimizer", "optimizer"]),
    ],
)
def test_what_runs_says_of_which_class_its_calls_are(work: Callable[[Runtime], Any], found: list[str]) -> None:
    assert classes(work) == found


@pytest.mark.parametrize("work", [call, mapped, judged, optimized_with_evaluations])
def test_a_class_that_was_named_holds_for_everything(work: Callable[[Runtime], Any]) -> None:
    assert set(classes(work, priority="batch")) == {"batch"}


def test_a_handle_may_name_its_own_class() -> None:
    def urgently_mapped(rt: Runtime) -> Any:
        return list(rt.map(rt.start(qa()).using(priority="interactive"), [{"question": "blue"}]))

    assert classes(urgently_mapped) == ["interactive"]


def test_a_class_that_there_is_not_is_refused() -> None:
    wrong: Any = "urgent"
    with pytest.raises(LMConfigurationError, match=r"priority='urgent'\): one of interactive, batch, optimizer"):
        Runtime(priority=wrong)
    with runtime() as rt, pytest.raises(LMConfigurationError, match="urgent"):
        rt.using(priority=wrong)


def test_a_limiter_tells_how_many_of_each_class_wait() -> None:
    gate = Gate()
    with runtime(gate, guarding=Guarding(limiter=LimiterSettings(max_in_flight=1))) as rt:
        program = rt.start(qa())
        first = program.submit(question="first")
        gate.wait_for()
        asked: list[tuple[Any, str]] = [("batch", "second"), ("batch", "third"), ("optimizer", "fourth")]
        others = [program.using(priority=priority).submit(question=text) for priority, text in asked]

        def waiting() -> dict[str, int]:
            readings: Any = rt.health()["limiters"]
            (reading,) = readings.values()
            return {name: count for name, count in reading.items() if name.startswith("waiting")}

        wait_until(lambda: waiting()["waiting"] == 3)
        assert waiting() == {"waiting": 3, "waiting_interactive": 0, "waiting_batch": 2, "waiting_optimizer": 1}
        gate.open()
        assert [reply.get(PATIENCE).answer for reply in (first, *others)] == ["first", "second", "third", "fourth"]


# -- tenants -----------------------------------------------------------------------------------------------------------


def served(fairness: Fairness, asked: str) -> str:
    """The tenants, a letter each, in the order in which they are served who ask in the order of `asked`."""
    gate = Gate()
    guarding = Guarding(limiter=LimiterSettings(max_in_flight=1), fairness=fairness)
    with runtime(gate, guarding=guarding) as rt:
        program = rt.start(qa())
        first = program.submit(question="first")
        gate.wait_for()
        others = []
        for number, name in enumerate(asked, 1):
            others.append(program.using(tenant=name).submit(question=f"{name} {number}"))
            wait_until(lambda: sum(waits_for_room(rt).values()) == len(others))
        gate.open()
        for reply in (first, *others):
            reply.get(PATIENCE)
        store = rt.registry.whereis("usage")
        assert store is not None
        return "".join(record.tenant for record in store.call(UsageStore.records))


def test_a_tenant_is_not_buried_by_the_calls_of_another_that_came_first() -> None:
    assert served(Fairness(), "aaaabb") == "ababaa"


def test_a_runtime_s_tenants_share_by_the_weights_that_it_was_given() -> None:
    assert served(Fairness(weights={"b": 2.0}), "aaaabbbb") == "abbabbaa"


# -- calls that share a request ----------------------------------------------------------------------------------------


def waits_for_room(rt: Runtime) -> dict[str, int]:
    readings: Any = rt.health()["limiters"]
    (reading,) = readings.values()
    return {name: reading[f"waiting_{name}"] for name in ("interactive", "batch", "optimizer")}


def test_an_interactive_call_carries_an_equal_one_of_an_optimizer_along() -> None:
    gate = Gate()
    with runtime(gate, guarding=Guarding(limiter=LimiterSettings(max_in_flight=1))) as rt:
        program = rt.start(qa())
        slow = program.using(priority="optimizer")
        replies = [program.submit(question="first")]
        gate.wait_for()
        replies += [slow.submit(question=f"candidate {n}") for n in range(3)]
        replies += [slow.submit(question="shared")]
        wait_until(lambda: waits_for_room(rt)["optimizer"] == 4)
        replies += [program.submit(question="shared")]
        wait_until(lambda: waits_for_room(rt)["interactive"] == 1)
        assert waits_for_room(rt) == {"interactive": 1, "batch": 0, "optimizer": 3}
        gate.open()
        assert [reply.get(PATIENCE).answer for reply in replies[-2:]] == ["shared", "shared"]
        for reply in replies:
            reply.get(PATIENCE)
        store = rt.registry.whereis("usage")
        assert store is not None
        booked = [record.priority for record in store.call(UsageStore.records)]
        assert booked == ["interactive", "interactive", "optimizer", "optimizer", "optimizer"]


def test_the_short_deadline_of_one_does_not_end_the_wait_of_another_for_the_same() -> None:
    gate = Gate()
    with runtime(gate, guarding=Guarding(limiter=LimiterSettings(max_in_flight=1))) as rt:
        program = rt.start(qa())
        first = program.submit(question="first")
        gate.wait_for()
        hasty = program.using(deadline=10 * SOON).submit(question="shared")  # time for the other one to join
        wait_until(lambda: any(each["waiting"] for each in rt.health()["limiters"].values()))  # in its name alone
        patient = program.submit(question="shared")
        wait_until(lambda: rt.numbers().coalesced == 1)
        with pytest.raises(DeadlineExceeded):
            hasty.get(PATIENCE)
        gate.open()
        assert patient.get(PATIENCE).answer == "shared"
        assert first.get(PATIENCE).answer == "first"


# -- tenants -----------------------------------------------------------------------------------------------------------

KNOWN = ["team-a", "team-b"]
MESSAGE = r"names the tenant 'team-c'; Runtime\(tenants=...\) knows team-a, team-b"


@pytest.mark.parametrize(
    "wrong",
    [
        {"tenant": "team-c"},
        {"budgets": {"team-a": Budget(tokens=1), "team-c": Budget(tokens=1)}},
        {"guarding": Guarding(fairness=Fairness(weights={"team-c": 2.0}))},
    ],
)
def test_a_runtime_that_names_a_tenant_it_does_not_know_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UnknownTenant, match=MESSAGE) as caught:
        Runtime(tenants=KNOWN, **wrong)
    assert caught.value.tenant == "team-c"


def test_a_call_for_a_tenant_that_is_not_known_is_refused_where_it_is_named() -> None:
    with runtime(tenants=KNOWN) as rt:
        with pytest.raises(UnknownTenant, match=MESSAGE):
            rt.using(tenant="team-c")
        with pytest.raises(UnknownTenant, match=MESSAGE):
            rt.start(qa()).using(tenant="team-c")
        with pytest.raises(UnknownTenant, match=MESSAGE):
            rt.set_budget(Budget(tokens=1), tenant="team-c")
        with pytest.raises(UnknownTenant, match=MESSAGE):
            rt.usage(tenant="team-c")


def test_known_tenants_and_calls_in_nobody_s_name_are_let_in() -> None:
    guarding = Guarding(fairness=Fairness(weights={"team-a": 2.0}))
    with runtime(tenants=KNOWN, guarding=guarding, budgets={"team-b": Budget(requests=1)}) as rt:
        program = rt.start(qa())
        for tenant in (*KNOWN, ""):
            assert program.using(tenant=tenant)(question="blue").answer == "blue"


def test_where_no_tenants_are_named_any_name_is_one() -> None:
    with runtime() as rt:
        assert rt.start(qa()).using(tenant="whoever")(question="blue").answer == "blue"
