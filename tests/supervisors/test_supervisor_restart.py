"""Who is restarted after which exit, with whom, and how often."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supervisors.cell import IGNORE
from supervisors.clock import ManualClock
from supervisors.errors import ActorDied, AlreadyPresent, Restarting
from supervisors.exits import Crash, Exit, Killed, Normal, Shutdown
from supervisors.kernel import Kernel
from supervisors.ref import Ref
from supervisors.registry import Registry
from supervisors.spec import ChildSpec, Restart
from supervisors.strategies import Strategy
from supervisors.supervisor import Supervisor
from supervisors.testing import Log
from tests.supervisors.workers import (
    ALL,
    BOOM,
    CRASH,
    ONE,
    PERMANENT,
    REST,
    TEMPORARY,
    TRANSIENT,
    InlineWorker,
    LoopWorker,
    Script,
    Worker,
    child,
    end,
    gone,
    ids,
    spec,
    state,
    supervise,
)

CLEAN = [Normal(), Shutdown(), Shutdown("done")]


# --- restart type x exit ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exit", [*CLEAN, CRASH])
def test_a_permanent_child_is_restarted_after_every_exit(kernel: Kernel, exit: Exit) -> None:
    sup = supervise(kernel, [spec("a", Log(), restart=PERMANENT)])
    old = child(sup, "a")
    end(old, exit)

    assert child(sup, "a") is not old


@pytest.mark.parametrize("exit", CLEAN)
def test_a_transient_child_stays_down_after_a_clean_exit(kernel: Kernel, exit: Exit) -> None:
    sup = supervise(kernel, [spec("a", Log(), restart=TRANSIENT)])
    end(child(sup, "a"), exit)

    assert (ids(sup), state(sup, "a")) == (["a"], None)


def test_a_transient_child_is_restarted_after_a_crash(kernel: Kernel) -> None:
    sup = supervise(kernel, [spec("a", Log(), restart=TRANSIENT)])
    end(child(sup, "a"), CRASH)

    assert child(sup, "a").is_alive()


@pytest.mark.parametrize("restart", [PERMANENT, TRANSIENT])
def test_a_fenced_child_is_restarted(kernel: Kernel, restart: Restart) -> None:
    sup = supervise(kernel, [spec("a", Log(), restart=restart)])
    old = child(sup, "a")
    old.fence()

    assert gone(old) == Killed()
    assert child(sup, "a").is_alive()


@pytest.mark.parametrize("exit", [*CLEAN, CRASH])
def test_a_temporary_child_is_forgotten_after_every_exit(kernel: Kernel, exit: Exit) -> None:
    sup = supervise(kernel, [spec("a", Log(), restart=TEMPORARY)])
    end(child(sup, "a"), exit)

    assert ids(sup) == []


def test_a_fenced_temporary_child_is_forgotten(kernel: Kernel) -> None:
    sup = supervise(kernel, [spec("a", Log(), restart=TEMPORARY)])
    child(sup, "a").fence()

    assert ids(sup) == []


@pytest.mark.parametrize("cls", [Worker, InlineWorker, LoopWorker])
@pytest.mark.parametrize("error", [BOOM, SystemExit(1), KeyboardInterrupt(), GeneratorExit()])
def test_whatever_a_handler_raises_restarts_that_child_only(
    kernel: Kernel, cls: type[Worker], error: BaseException
) -> None:
    sup = supervise(kernel, [spec("a", Log(), cls), spec("b", Log())])
    neighbour = child(sup, "b")
    with pytest.raises(ActorDied):
        child(sup, "a").call(Worker.fail, error)

    assert child(sup, "a").call(Worker.hello) == "a"
    assert child(sup, "b") is neighbour


# --- strategies ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "failed", "events"),
    [
        (ONE, "b", "xb +b"),
        (REST, "b", "xb -d -c +b +c +d"),
        (REST, "d", "xd +d"),
        (ALL, "b", "xb -d -c -a +a +b +c +d"),
        (ALL, "a", "xa -d -c -b +a +b +c +d"),
    ],
)
def test_siblings_go_along_as_the_strategy_says(kernel: Kernel, strategy: Strategy, failed: str, events: str) -> None:
    log = Log()
    sup = supervise(kernel, [spec(name, log) for name in "abcd"], strategy)
    log.clear()
    end(child(sup, failed))
    ids(sup)

    assert log == events.split()


@pytest.mark.parametrize(("strategy", "left"), [(ALL, ["b", "c"]), (REST, ["b", "c"])])
def test_a_temporary_bystander_is_stopped_and_forgotten(kernel: Kernel, strategy: Strategy, left: list[str]) -> None:
    log = Log()
    sup = supervise(kernel, [spec("b", log), spec("t", log, restart=TEMPORARY), spec("c", log)], strategy)
    log.clear()
    end(child(sup, "b"))

    assert ids(sup) == left
    assert log == ["xb", "-c", "-t", "+b", "+c"]


def test_a_finished_transient_child_is_started_again_with_its_group(kernel: Kernel) -> None:
    log = Log()
    sup = supervise(kernel, [spec("job", log, restart=TRANSIENT), spec("b", log)], ALL)
    end(child(sup, "job"), Normal())
    ids(sup)
    log.clear()
    end(child(sup, "b"))
    ids(sup)

    assert log == ["xb", "+job", "+b"]


def test_a_child_stopped_by_hand_is_started_again_with_its_group(kernel: Kernel) -> None:
    log = Log()
    sup = supervise(kernel, [spec("a", log), spec("b", log)], REST)
    sup.call(Supervisor.terminate_child, "b")
    log.clear()
    end(child(sup, "a"))
    ids(sup)

    assert log == ["xa", "+a", "+b"]


def test_two_deaths_at_once_are_one_restart_of_the_group(kernel: Kernel) -> None:
    log = Log()
    sup = supervise(kernel, [spec(name, log) for name in "ab"], ALL, max_restarts=1)
    a, b = child(sup, "a"), child(sup, "b")
    _die_together(sup, [a, b])
    ids(sup)

    assert sup.is_alive()
    assert log.events.count("+a") == 2


def test_two_deaths_at_once_are_two_restarts_of_one_for_one(kernel: Kernel) -> None:
    sup = supervise(kernel, [spec(name, Log()) for name in "ab"], ONE, max_restarts=1)
    _die_together(sup, [child(sup, "a"), child(sup, "b")])

    assert gone(sup) == Shutdown("max_restarts")


def test_a_child_added_later_is_the_last_in_the_order(kernel: Kernel) -> None:
    log = Log()
    sup = supervise(kernel, [spec("a", log), spec("b", log)], REST)
    sup.call(Supervisor.start_child, spec("c", log))
    log.clear()
    end(child(sup, "b"))
    ids(sup)

    assert log == ["xb", "-c", "+b", "+c"]


def test_a_restarted_child_keeps_its_place(kernel: Kernel) -> None:
    sup = supervise(kernel, [spec(name, Log()) for name in "abc"])
    sup.call(Supervisor.terminate_child, "a")
    sup.call(Supervisor.restart_child, "a")

    assert ids(sup) == ["a", "b", "c"]


def test_a_word_about_an_earlier_life_is_ignored(kernel: Kernel) -> None:
    sup = supervise(kernel, [spec("a", Log())], max_restarts=1)
    old = child(sup, "a")
    end(old)
    new = child(sup, "a")
    sup.cast(Supervisor.child_ended, old, CRASH)

    assert child(sup, "a") is new


def test_a_new_life_begins_afresh_and_has_the_name(kernel: Kernel) -> None:
    registry = Registry()
    sup = supervise(kernel, [spec("a", Log(), name=registry.via("a"))])
    old = child(sup, "a")
    end(old)
    new = child(sup, "a")

    assert registry.whereis("a") is new
    with pytest.raises(ActorDied):
        old.call(Worker.hello)


# --- intensity ----------------------------------------------------------------------------------------------------


def test_one_restart_too_many_stops_the_children_in_reverse_and_ends(kernel: Kernel) -> None:
    log = Log()
    sup = supervise(kernel, [spec(name, log) for name in "abc"], max_restarts=1)
    end(child(sup, "b"))
    ids(sup)
    log.clear()
    end(child(sup, "b"))

    assert gone(sup) == Shutdown("max_restarts")
    assert log == ["xb", "-c", "-a"]


def test_no_restart_allowed_means_the_first_normal_exit_of_a_permanent_child_ends_it(kernel: Kernel) -> None:
    sup = supervise(kernel, [spec("a", Log())], max_restarts=0)
    end(child(sup, "a"), Normal())

    assert gone(sup) == Shutdown("max_restarts")


def test_exits_without_a_restart_do_not_count(kernel: Kernel) -> None:
    children = [spec("a", Log(), restart=TRANSIENT), spec("b", Log(), restart=TEMPORARY)]
    sup = supervise(kernel, children, max_restarts=0)
    end(child(sup, "a"), Shutdown())
    end(child(sup, "b"), CRASH)

    assert ids(sup) == ["a"]


def test_restarts_by_hand_do_not_count(kernel: Kernel) -> None:
    sup = supervise(kernel, [spec("a", Log())], max_restarts=0)
    sup.call(Supervisor.terminate_child, "a")
    sup.call(Supervisor.restart_child, "a")
    sup.call(Supervisor.terminate_child, "a")
    sup.call(Supervisor.delete_child, "a")

    assert ids(sup) == []


def test_old_restarts_are_forgotten_one_by_one(still: Kernel, clock: ManualClock) -> None:
    sup = supervise(still, [spec("a", Log())], max_restarts=1, max_seconds=2.0)
    for _ in range(3):
        end(child(sup, "a"))
        ids(sup)
        clock.advance(2.1)

    assert ids(sup) == ["a"]


def test_a_restart_exactly_one_period_ago_counts(still: Kernel, clock: ManualClock) -> None:
    sup = supervise(still, [spec("a", Log())], max_restarts=1, max_seconds=2.0)
    end(child(sup, "a"))
    ids(sup)
    clock.advance(2.0)
    end(child(sup, "a"))

    assert gone(sup) == Shutdown("max_restarts")


def test_each_failed_attempt_counts(kernel: Kernel) -> None:
    script = Script(None, BOOM)
    sup = supervise(kernel, [spec("a", Log(), script=script)], max_restarts=3)
    end(child(sup, "a"))

    assert gone(sup) == Shutdown("max_restarts")
    assert script.starts == 1 + 3


def test_a_group_restart_counts_once(kernel: Kernel) -> None:
    sup = supervise(kernel, [spec(name, Log()) for name in "abcd"], ALL, max_restarts=1)
    end(child(sup, "a"))

    assert ids(sup) == ["a", "b", "c", "d"]


# --- failing restarts ---------------------------------------------------------------------------------------------


def test_a_start_that_succeeds_later_is_a_restart_like_any_other(kernel: Kernel) -> None:
    log = Log()
    sup = supervise(kernel, [spec("a", log, script=Script(None, BOOM, BOOM, None))])
    end(child(sup, "a"))
    log.wait_for("!a")
    while state(sup, "a") == "restarting":
        pass

    assert log == ["+a", "xa", "!a", "!a", "+a"]


def test_a_group_restart_begins_again_when_a_sibling_fails(kernel: Kernel) -> None:
    log = Log()
    children = [spec("a", log), spec("b", log, script=Script(None, BOOM, None)), spec("c", log)]
    sup = supervise(kernel, children, ALL)
    log.clear()
    end(child(sup, "a"))
    log.wait_for("+c")
    ids(sup)

    assert log == ["xa", "-c", "-b", "+a", "!b", "-a", "+a", "+b", "+c"]


def test_rest_for_one_leaves_those_before_the_failing_start_alone(kernel: Kernel) -> None:
    log = Log()
    children = [spec("a", log), spec("b", log, script=Script(None, BOOM, None)), spec("c", log)]
    sup = supervise(kernel, children, REST)
    log.clear()
    end(child(sup, "a"))
    log.wait_for("+c")
    ids(sup)

    assert log == ["xa", "-c", "-b", "+a", "!b", "+b", "+c"]


def test_a_restart_that_ignores_is_no_failure(kernel: Kernel) -> None:
    script = Script(None, IGNORE, None)
    sup = supervise(kernel, [spec("a", Log(), script=script)])
    end(child(sup, "a"))

    assert (state(sup, "a"), script.starts) == (None, 2)
    assert isinstance(sup.call(Supervisor.restart_child, "a"), Ref)


def test_a_supervisor_answers_between_two_attempts(kernel: Kernel) -> None:
    sup = supervise(kernel, [spec("a", Log(), script=Script(None, BOOM))], max_restarts=10**9)
    end(child(sup, "a"))

    assert state(sup, "a") == "restarting"
    counts = sup.call(Supervisor.count_children)
    assert (counts.specs, counts.active, counts.workers) == (1, 0, 1)
    with pytest.raises(Restarting):
        sup.call(Supervisor.restart_child, "a")
    with pytest.raises(Restarting):
        sup.call(Supervisor.delete_child, "a")


def test_an_id_that_is_being_restarted_is_taken(kernel: Kernel) -> None:
    sup = supervise(kernel, [spec("a", Log(), script=Script(None, BOOM))], max_restarts=10**9)
    end(child(sup, "a"))

    with pytest.raises(AlreadyPresent):
        sup.call(Supervisor.start_child, spec("a", Log()))


def test_what_follows_a_child_that_is_being_restarted_does_not_run(kernel: Kernel) -> None:
    children = [spec("a", Log()), spec("b", Log(), script=Script(None, BOOM)), spec("c", Log())]
    sup = supervise(kernel, children, REST, max_restarts=10**9)
    end(child(sup, "b"))

    assert (child(sup, "a").is_alive(), state(sup, "b"), state(sup, "c")) == (True, "restarting", None)


def test_terminate_child_ends_the_attempts(kernel: Kernel) -> None:
    script = Script(None, BOOM)
    sup = supervise(kernel, [spec("a", Log(), script=script)], max_restarts=10**9)
    end(child(sup, "a"))
    sup.call(Supervisor.terminate_child, "a")
    before = script.starts
    ids(sup)

    assert (state(sup, "a"), script.starts) == (None, before)


def test_a_supervisor_stops_in_the_middle_of_the_attempts(kernel: Kernel) -> None:
    sup = supervise(kernel, [spec("a", Log(), script=Script(None, BOOM))], max_restarts=10**9)
    end(child(sup, "a"))
    sup.exit(Shutdown())

    assert gone(sup) == Shutdown()


# --- the whole, against a model -----------------------------------------------------------------------------------


def model(strategy: Strategy, children: list[tuple[str, Restart]], failed: int, exit: Exit) -> tuple[list[str], str]:
    """What is logged after `children[failed]` ended, and who is still listed: OTP's rules, said in another way."""
    name, restart = children[failed]
    died = "x" if isinstance(exit, Crash) else "-"
    log = [died + name]
    clean = not isinstance(exit, Crash)
    if restart is TEMPORARY or (restart is TRANSIENT and clean):
        left = [n for n, r in children if not (n == name and r is TEMPORARY)]
        return log, "".join(left)
    first = {ONE: failed, REST: failed, ALL: 0}[strategy]
    last = failed if strategy is ONE else len(children) - 1
    group = children[first : last + 1]
    log += [f"-{n}" for n, _ in reversed(group) if n != name]
    group_left = [n for n, r in group if r is not TEMPORARY]
    log += [f"+{n}" for n in group_left]
    outside = [n for i, (n, _) in enumerate(children) if not first <= i <= last]
    return log, "".join(sorted(outside + group_left))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    strategy=st.sampled_from(list(Strategy)),
    types=st.lists(st.sampled_from(list(Restart)), min_size=1, max_size=5),
    which=st.integers(0, 4),
    exit=st.sampled_from([Normal(), Shutdown(), CRASH]),
)
def test_a_random_tree_does_what_the_model_says(
    kernel: Kernel, strategy: Strategy, types: list[Restart], which: int, exit: Exit
) -> None:
    log = Log()
    children = list(zip("abcde", types, strict=False))
    failed = which % len(children)
    sup = supervise(kernel, [spec(name, log, restart=restart) for name, restart in children], strategy)
    log.clear()
    end(child(sup, children[failed][0]), exit)
    listed = "".join(ids(sup))
    seen = log.events
    end(sup, Shutdown())

    assert (seen, listed) == model(strategy, children, failed, exit)


def _die_together(sup: Ref[Supervisor], victims: list[Ref[Worker]]) -> None:
    """Let all die before the supervisor hears of any: it is busy with a start meanwhile."""

    def start(kernel: Kernel) -> object:
        for victim in victims:
            end(victim)
        return IGNORE

    sup.call(Supervisor.start_child, ChildSpec("busy", start, restart=TEMPORARY))
