"""Workers that nobody calls are ended, and no call notices: none is lost, none is sent twice."""

from __future__ import annotations

import gc
import random
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

import pytest

from dspy_actors import LM, PoolSettings, Runtime
from dspy_actors.errors import LMConfigurationError, LMRateLimitError, LMServerError
from dspy_actors.lm.guarding import Guarding
from dspy_actors.lm.limiter import LONGEST_PAUSE, LimiterSettings
from dspy_actors.lm.pools import GRACE_SECONDS, POOLS, SWEEP_SECONDS, LMPools, ProviderPool, pool_name, worker_name
from dspy_actors.lm.reach import ROOM
from dspy_actors.lm.worker import LMWorker
from dspy_actors.messages import LMRequest
from dspy_actors.modules.program import Program
from dspy_actors.pieces import TextPiece
from dspy_actors.testing.providers import ScriptedProvider
from supervisors import sys as manners
from supervisors.actor import Ref
from supervisors.clock import ManualClock
from supervisors.errors import ActorDied
from supervisors.reply import Reply
from supervisors.testing import wait_until
from tests.dspy_actors.programs import PATIENCE, Gate, begin, echo, qa

SMALL = PoolSettings(keep=2, idle_seconds=60.0, most=5)


class Service:
    """A runtime whose calls each name a model or a key, and the one provider that answers them all."""

    def __init__(self, script: Any = echo, pools: PoolSettings = SMALL, *, by_hand: bool = True, **limits: Any) -> None:
        self.clock = ManualClock()
        self.provider = ScriptedProvider(script)
        clock = self.clock if by_hand else None
        guarding = Guarding(limiter=LimiterSettings(**limits))
        self.rt = Runtime(open_provider=lambda _: self.provider, pools=pools, clock=clock, guarding=guarding)

    def __enter__(self) -> Self:
        self.rt.start_up()
        self.program: Program = self.rt.start(qa())
        return self

    def __exit__(self, *exc: object) -> None:
        self.rt.shutdown()

    def call(self, lm: LM) -> str:
        answer: str = self.program.using(lm=lm)(question="hello").answer
        return answer

    def pool(self) -> Ref[ProviderPool]:
        ref = self.rt.registry.whereis(pool_name("scripted"))
        assert ref is not None
        return ref

    def worker(self, lm: LM) -> Ref[LMWorker] | None:
        return self.rt.registry.whereis(worker_name(lm.config))

    def tell_to_retire(self, lm: LM, seconds: float = 0.0) -> Ref[LMWorker]:
        ref = self.worker(lm)
        assert ref is not None
        ref.cast(LMWorker.retire, seconds)
        return ref

    def swept(self, seconds: float = SWEEP_SECONDS) -> None:
        """Let time pass, and the pool sweep as often as it does in it; return once all have heard what it says."""
        for _ in range(round(seconds / SWEEP_SECONDS)):
            self.clock.advance(SWEEP_SECONDS)
            self.pool().within(None).call(ProviderPool.count_children)
            for name in self.rt._tree.layer.roster.of("scripted"):
                ref = self.rt.registry.whereis(name)
                if ref is not None:
                    with suppress(ActorDied):
                        ref.within(None).call(LMWorker.retire, 1e12)

    @property
    def alive(self) -> int:
        return self.pool().within(None).call(ProviderPool.count_children).active

    def settles(self, alive: int) -> None:
        wait_until(lambda: self.alive == alive)

    def health(self, name: str) -> Any:
        return self.rt.health()[name]


def of_user(number: int, **options: Any) -> LM:
    """The LM of one request, with the key of one user."""
    return LM("scripted/m", api_key=f"key of user {number}", cache=False, **options)


# -- settings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [{"keep": -1}, {"keep": 1.5}, {"most": 0}, {"idle_seconds": 0}, {"idle_seconds": float("nan")}, {"most": 10}],
)
def test_settings_that_make_no_sense_are_refused_by_field_and_bound(wrong: dict[str, Any]) -> None:
    with pytest.raises(LMConfigurationError, match=r"PoolSettings.*(or more|more than|at most|a number)"):
        PoolSettings(**wrong)


def test_what_are_no_settings_is_refused() -> None:
    with pytest.raises(LMConfigurationError, match="PoolSettings"):
        Runtime(pools=5)  # type: ignore[arg-type]


# -- bounds -------------------------------------------------------------------------------------------------------


def test_a_service_that_makes_an_lm_a_request_does_not_grow() -> None:
    """300 users' keys in turn, each of them a restart that would have ended the pool, were it one."""
    assert ROOM < 300
    with Service() as service:
        for number in range(300):
            assert [service.call(of_user(number)) for _ in range(2)] == ["hello"] * 2
            service.clock.advance(1.0)
            wait_until(lambda: service.alive <= SMALL.most)
        service.swept(180.0)
        service.settles(SMALL.keep)
        service.swept()
        assert service.health("workers") == {"alive": {"scripted": 2}, "ended": 298}
        assert len(service.health("limiters")) == 2
        assert len(service.rt._tree.layer.gatehouse._held) == 2
        assert len(service.rt._tree.layer.client._finder._found) <= ROOM
        assert service.provider.closed == 298
        numbers = service.rt.numbers()
        assert (numbers.sent, numbers.resubmits, numbers.failures) == (600, 0, 0)


def test_models_and_endpoints_of_a_request_do_not_stay_either() -> None:
    with Service() as service:
        for number in range(30):
            service.call(LM(f"scripted/m{number}", base_url=f"http://127.0.0.1:{number + 1}/v1", cache=False))
            service.clock.advance(GRACE_SECONDS)
        service.swept(180.0)
        service.settles(2)
        service.swept()
        sizes = {name: len(service.health(name)) for name in ("breakers", "limiters", "latencies", "retry_budgets")}
        assert sizes == {"breakers": 4, "limiters": 2, "latencies": 2, "retry_budgets": 2}


def test_those_called_last_stand_for_good() -> None:
    with Service() as service:
        for number in (0, 1, 2, 3, 0):
            service.call(of_user(number))
            service.clock.advance(1.0)
        service.swept(3600.0)
        service.settles(2)
        assert [number for number in range(4) if service.worker(of_user(number)) is not None] == [0, 3]


def test_nobody_is_ended_before_the_time_is_up() -> None:
    with Service() as service:
        for number in range(4):
            service.call(of_user(number))
        service.swept(30.0)
        assert service.alive == 4
        service.swept(30.0)
        service.settles(2)


def test_the_workers_of_a_service_with_a_few_models_never_end() -> None:
    with Service(pools=PoolSettings()) as service:
        refs = []
        for number in range(5):
            service.call(LM(f"scripted/m{number}", cache=False))
        refs = [service.worker(LM(f"scripted/m{number}")) for number in range(5)]
        service.swept(3600.0)
        assert [service.worker(LM(f"scripted/m{number}")) for number in range(5)] == refs
        assert len(service.health("latencies")) == 5


def test_a_worker_that_ended_is_started_again_by_the_next_call() -> None:
    with Service() as service:
        service.call(of_user(0))
        old = service.tell_to_retire(of_user(0))
        service.settles(0)
        assert service.call(of_user(0)) == "hello"
        new = service.worker(of_user(0))
        assert new not in (None, old)
        assert service.rt.numbers().resubmits == 0


def test_the_end_of_an_idle_worker_is_no_crash() -> None:
    with Service() as service:
        for _ in range(50):  # more than a pool's workers may die
            service.call(of_user(0))
            service.tell_to_retire(of_user(0))
            service.settles(0)
        pool = service.pool()
        assert service.call(of_user(0)) == "hello"
        assert service.pool() == pool


# -- calls under way ----------------------------------------------------------------------------------------------


def test_a_worker_with_a_call_under_way_is_not_ended_however_long_it_takes() -> None:
    gate = Gate()
    with Service(gate) as service:
        calls = [begin(service.call, of_user(number, timeout=1e6)) for number in range(4)]
        gate.wait_for(4)
        service.swept(300.0)
        assert service.alive == 4
        gate.open()
        assert [call.get(PATIENCE) for call in calls] == ["hello"] * 4
        service.swept(30.0)
        assert service.alive == 4  # idle for less than a minute
        service.swept(90.0)
        service.settles(2)


def test_more_than_the_most_are_taken_while_all_are_at_work() -> None:
    gate = Gate()
    with Service(gate) as service:
        calls = [begin(service.call, of_user(number)) for number in range(8)]
        gate.wait_for(8)
        assert service.alive == 8
        gate.open()
        assert [call.get(PATIENCE) for call in calls] == ["hello"] * 8
        service.settles(5)


def test_those_above_the_most_end_in_the_moment_of_their_last_answer() -> None:
    """Also where the calls came after they were told; those who stay are no fewer than the most."""
    gate = Gate()
    with Service(gate, by_hand=False) as service:
        first = [begin(service.call, of_user(number)) for number in range(8)]
        gate.wait_for(8)
        more = [begin(service.call, of_user(number)) for number in range(8)]
        gate.wait_for(8)
        gate.open()
        assert [call.get(PATIENCE) for call in first + more] == ["hello"] * 16
        service.settles(5)
        assert [service.call(of_user(number)) for number in range(8)] == ["hello"] * 8
        service.settles(5)


def test_health_tells_of_those_that_left_a_second_later() -> None:
    gate = Gate()
    with Service(gate) as service:
        calls = [begin(service.call, of_user(number)) for number in range(8)]
        gate.wait_for(8)
        service.clock.advance(GRACE_SECONDS)
        assert service.alive == 8
        gate.open()
        assert [call.get(PATIENCE) for call in calls] == ["hello"] * 8
        service.settles(5)
        assert service.health("workers") == {"alive": {"scripted": 8}, "ended": 0}
        service.clock.advance(GRACE_SECONDS)
        assert service.alive == 5
        assert service.health("workers") == {"alive": {"scripted": 5}, "ended": 3}


def test_idle_ones_end_for_a_new_one_and_busy_ones_stay() -> None:
    gate = Gate()

    async def script(request: LMRequest) -> Any:
        return await gate(request) if request.model == "slow" else echo(request)

    with Service(script) as service:
        slow = [LM("scripted/slow", api_key=f"key of user {number}", cache=False) for number in range(4)]
        calls = [begin(service.call, lm) for lm in slow]
        gate.wait_for(4)
        for number in range(10):
            service.call(of_user(number))
            service.settles(5)
        assert service.worker(of_user(9)) is not None
        gate.open()
        assert [call.get(PATIENCE) for call in calls] == ["hello"] * 4
        assert None not in [service.worker(lm) for lm in slow]


def test_a_fresh_worker_is_left_alone_until_its_first_call_can_be_there() -> None:
    with Service() as service:
        service.call(of_user(0))
        fresh = [service.pool().call(ProviderPool.worker, of_user(number).config) for number in range(1, 9)]
        service.settles(8)
        assert service.worker(of_user(0)) is None
        for ref in fresh:
            ref.call(LMWorker.retire, 1e12)  # by now it has heard that it is to leave
        service.clock.advance(GRACE_SECONDS)
        service.settles(5)


def test_a_fresh_worker_that_is_told_to_leave_serves_its_first_call() -> None:
    with Service() as service:
        service.call(of_user(99))
        first, *_ = [service.pool().call(ProviderPool.worker, of_user(number).config) for number in range(6)]
        assert service.worker(of_user(0)) == first
        assert service.call(of_user(0)) == "hello"
        service.settles(5)
        assert not first.is_alive()
        assert service.rt.numbers().resubmits == 0


def test_the_death_of_a_worker_that_is_to_leave_is_no_error_of_the_loop(caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate()
    with Service(gate, by_hand=False) as service:
        running = service.program.using(lm=of_user(0)).submit(question="hello")
        gate.wait_for()
        worker = service.worker(of_user(0))
        assert worker is not None
        worker.call(LMWorker.leave, 0.0)
        worker.fence()
        gate.open()
        assert running.get(PATIENCE).answer == "hello"
    assert [each.getMessage() for each in caplog.records if each.name == "asyncio"] == []


def test_a_stream_under_way_keeps_its_worker() -> None:
    arrived, turn = threading.Event(), Reply[None]()

    async def script(request: LMRequest) -> str:
        arrived.set()
        await turn
        return "hello there"

    with Service(script) as service:
        stream = service.rt.stream("hello", lm=of_user(0))
        pieces: Reply[Any] = begin(list, stream)
        assert arrived.wait(PATIENCE)
        worker = service.tell_to_retire(of_user(0))
        worker.within(None).call(LMWorker.retire, 1e12)  # it has heard what came before this
        turn.set(None)
        assert pieces.get(PATIENCE) == [TextPiece("hello there")]
        assert service.worker(of_user(0)) == worker


# -- a call that meets the end of its worker ----------------------------------------------------------------------


def in_order(service: Service, lm: LM, *steps: Callable[[Ref[LMWorker]], Any]) -> list[Any]:
    """Send to the worker of `lm`, which sees nothing of it before all is sent; what each step gave."""
    ref = service.worker(lm)
    assert ref is not None
    manners.suspend(ref)
    given = [step(ref) for step in steps]
    manners.resume(ref)
    return given


def retires(ref: Ref[LMWorker]) -> None:
    ref.cast(LMWorker.retire, 0.0)


def test_a_call_that_comes_behind_the_word_to_end_goes_to_a_successor() -> None:
    with Service(by_hand=False) as service:
        lm = of_user(0)
        service.call(lm)
        old = service.worker(lm)

        def calls(ref: Ref[LMWorker]) -> Reply[Any]:
            reply = service.program.using(lm=lm).submit(question="again")
            wait_until(lambda: ref.snapshot()["queue"] == 2)
            return reply

        _, reply = in_order(service, lm, retires, calls)
        assert reply.get(PATIENCE).answer == "again"
        assert service.worker(lm) not in (None, old)
        numbers = service.rt.numbers()
        assert (numbers.sent, numbers.resubmits) == (2, 0)


def test_a_call_that_comes_before_it_keeps_the_worker() -> None:
    with Service() as service:
        lm = of_user(0)
        service.call(lm)
        old = service.worker(lm)

        def calls(ref: Ref[LMWorker]) -> Reply[Any]:
            reply = service.program.using(lm=lm).submit(question="again")
            wait_until(lambda: ref.snapshot()["queue"] == 1)
            return reply

        reply, _ = in_order(service, lm, calls, retires)
        assert reply.get(PATIENCE).answer == "again"
        assert service.worker(lm) == old


def test_a_call_before_the_pool_has_heard_of_the_end_waits_for_the_successor() -> None:
    with Service() as service:
        lm = of_user(0)
        service.call(lm)
        pool = service.pool()
        manners.suspend(pool)
        old = service.tell_to_retire(lm)
        wait_until(lambda: service.worker(lm) is None)
        reply = service.program.using(lm=lm).submit(question="again")
        manners.resume(pool)
        assert reply.get(PATIENCE).answer == "again"
        assert service.worker(lm) not in (None, old)


def test_a_search_that_found_a_worker_that_ends_as_it_is_found_searches_again() -> None:
    with Service(by_hand=False) as service:
        lm = of_user(0)
        service.call(lm)
        old = service.worker(lm)
        found = service.pool().call(ProviderPool.worker, lm.config)
        assert found == old
        service.tell_to_retire(lm)
        assert service.call(lm) == "hello"
        assert service.rt.numbers().sent == 2


# -- what is forgotten, and what is not ---------------------------------------------------------------------------


def crowd(service: Service, first: int = 100) -> None:
    """Others, called later, for whom the earlier ones have to go."""
    service.clock.advance(1.0)
    for number in range(first, first + 2):
        service.call(of_user(number))
    service.swept(120.0)
    service.settles(2)
    service.swept()


def test_a_breaker_that_was_opened_by_hand_stays_open() -> None:
    with Service() as service:
        service.call(LM("scripted/other", cache=False))
        service.rt.breakers.force_open("scripted/other")
        crowd(service)
        assert service.health("breakers")["scripted/other"]["state"] == "forced_open"
        service.rt.breakers.reset("scripted/other")
        service.swept()
        assert "scripted/other" not in service.health("breakers")


def test_a_limiter_that_pauses_is_not_forgotten_before_the_pause_is_over() -> None:
    def script(request: LMRequest) -> Any:
        if request.model == "other":
            return LMRateLimitError("later", provider="scripted", model="other", retry_after=600.0)
        return echo(request)

    with Service(script) as service:
        outcome = service.program.using(lm=LM("scripted/other", cache=False, num_retries=0)).safe_call(question="hello")
        assert isinstance(outcome.error, LMRateLimitError)
        crowd(service)
        assert service.health("limiters")["scripted/other"]["paused_seconds"] > 0
        service.swept(600.0 + 60.0)  # the longest jitter is a minute
        assert service.health("limiters")["scripted/other"]["paused_seconds"] == 0
        service.swept(LONGEST_PAUSE)
        assert "scripted/other" not in service.health("limiters")


def test_a_breaker_that_refuses_is_not_forgotten_before_it_would_let_a_probe_through() -> None:
    def script(request: LMRequest) -> Any:
        return LMServerError("down", provider="scripted", model="m") if request.model == "other" else echo(request)

    with Service(script, pools=PoolSettings(keep=0, idle_seconds=1.0, most=5)) as service:
        lm = LM("scripted/other", cache=False, num_retries=0)
        for _ in range(12):
            service.program.using(lm=lm).safe_call(question="hello")
        assert service.health("breakers")["scripted/other"]["state"] == "open"
        service.clock.advance(1.0)
        service.tell_to_retire(lm)
        service.settles(0)
        service.pool().call(ProviderPool.forget_ended)
        assert service.health("breakers")["scripted/other"]["state"] == "open"
        service.swept(90.0)
        assert "scripted/other" not in service.health("breakers")


def test_what_guards_another_worker_too_is_kept() -> None:
    with Service() as service:
        service.call(LM("scripted/a", cache=False))
        for number in range(2):
            service.call(of_user(number))
        service.swept(120.0)
        service.settles(2)
        service.swept()
        assert set(service.health("breakers")) == {"scripted", "scripted/m"}
        assert set(service.health("latencies")) == {"scripted/m"}


class Asks:
    """A key that is asked for."""

    def __call__(self) -> str:
        return "key"


def test_a_callable_key_is_let_go_of_with_its_worker_and_not_before() -> None:
    """Its identity names it, so nobody else may have that while anything is kept under it."""
    with Service(pools=PoolSettings(keep=0, idle_seconds=1.0, most=5)) as service:
        key = Asks()
        gone = weakref.ref(key)
        service.call(LM("scripted/m", api_key=key, cache=False))
        del key
        service.provider.requests.clear()
        service.provider.attempts.clear()
        worker = service.worker(LM("scripted/m", api_key=gone()))
        assert worker is not None
        worker.cast(LMWorker.retire, 0.0)
        service.settles(0)
        gc.collect()
        assert gone() is not None
        assert len(service.health("limiters")) == 1
        service.swept()
        assert service.health("limiters") == {}
        del worker
        service.call(of_user(1))  # the last call's settings go with the next
        wait_until(lambda: gc.collect() >= 0 and gone() is None)


def test_the_workers_of_a_pool_that_died_are_forgotten() -> None:
    with Service() as service:
        for number in range(4):
            service.call(of_user(number))
        pools = service.rt.registry.whereis(POOLS)
        assert pools is not None
        old = service.pool()
        down = old.down()
        pools.call(LMPools.terminate_child, old)
        down.get(PATIENCE)
        assert service.call(of_user(9)) == "hello"
        assert service.health("workers") == {"alive": {"scripted": 1}, "ended": 4}
        service.swept()
        assert len(service.health("limiters")) == 1


def test_the_workers_of_pools_that_all_died_are_forgotten_before_anybody_calls() -> None:
    with Service(by_hand=False) as service:
        for number in range(4):
            service.call(of_user(number))
        pools = service.rt.registry.whereis(POOLS)
        assert pools is not None
        pools.cast(LMPools.init, None)  # type: ignore[arg-type]
        wait_until(lambda: service.rt.registry.whereis(POOLS) not in (None, pools))
        wait_until(lambda: service.health("workers") == {"alive": {"scripted": 0}, "ended": 4})
        manager: Ref[LMPools] | None = service.rt.registry.whereis(POOLS)
        assert manager is not None
        assert len(service.health("limiters")) == 4
        manager.call(LMPools.sweep)
        assert service.health("limiters") == {}
        assert service.call(of_user(0)) == "hello"


def test_what_guarded_the_workers_of_pools_that_all_died_is_forgotten_within_half_a_minute() -> None:
    with Service() as service:
        service.call(of_user(0))
        pools = service.rt.registry.whereis(POOLS)
        assert pools is not None
        pools.cast(LMPools.init, None)  # type: ignore[arg-type]
        wait_until(lambda: service.rt.registry.whereis(POOLS) not in (None, pools))
        successor: Ref[LMPools] | None = service.rt.registry.whereis(POOLS)
        assert successor is not None
        assert successor.within(None).call(LMPools.count_children).active == 0
        for _ in range(2):  # nor is it only the first time
            service.rt._tree.layer.gatehouse.gates(LM("scripted/m").config, "nobody")
            service.rt._tree.layer.gatehouse.dismiss(LM("scripted/m").config, "nobody")
            assert len(service.health("limiters")) > 0
            service.clock.advance(SWEEP_SECONDS)
            successor.within(None).call(LMPools.count_children)
            assert service.health("limiters") == {}


def kill(service: Service) -> None:
    """Let the pool die with all its workers; return once its successor stands."""
    old = service.pool()
    old.fence()
    wait_until(lambda: service.rt.registry.whereis(pool_name("scripted")) not in (None, old))
    assert service.alive == 0


def test_the_death_of_a_pool_gives_no_room_back() -> None:
    with Service(requests_per_minute=10, by_hand=False) as service:
        for _ in range(10):
            service.call(LM("scripted/m", cache=False))
        house = service.rt._tree.layer.gatehouse
        kept = (house.limiters["scripted/m"], house.retry_budgets["scripted"], house.lanes["scripted/m"])
        kill(service)
        assert service.health("workers") == {"alive": {"scripted": 0}, "ended": 1}
        assert (house.limiters["scripted/m"], house.retry_budgets["scripted"], house.lanes["scripted/m"]) == kept


def test_keys_in_turn_get_no_more_room_than_keys_that_stay() -> None:
    """Each call ends the worker of the one before."""
    with Service(pools=PoolSettings(keep=1, most=1), requests_per_minute=10) as service:
        for number in range(6):
            service.call(of_user(number % 2))
            service.clock.advance(GRACE_SECONDS)
            service.tell_to_retire(of_user(number % 2))
            service.settles(0)
            service.pool().call(ProviderPool.forget_ended)
        left = sorted(each["requests_left"] for each in service.health("limiters").values())
        assert left == [7.83, 8.0]  # of ten three are gone, and a sixth of one comes back a second
        service.swept(60.0)
        assert service.health("limiters") == {}


def test_every_worker_that_ended_is_counted_also_where_its_name_is_another_s_by_then() -> None:
    with Service() as service:
        for _ in range(5):
            service.call(of_user(0))
            service.tell_to_retire(of_user(0))
            service.settles(0)
        service.swept()
        assert service.health("workers") == {"alive": {"scripted": 0}, "ended": 5}


# -- fuzz ---------------------------------------------------------------------------------------------------------


def test_callers_and_a_pool_in_random_order_lose_no_call_and_send_none_twice() -> None:
    seed = random.randrange(1_000_000)
    wrong: list[object] = []
    with Service(pools=PoolSettings(keep=1, idle_seconds=0.001, most=3), by_hand=False) as service:

        def calls(number: int) -> None:
            rng = random.Random(f"{seed} {number}")
            for _ in range(60):
                outcome = service.program.using(lm=of_user(rng.randrange(6))).safe_call(question="hello")
                if not outcome.ok or outcome.prediction.answer != "hello":
                    wrong.append(outcome.error)

        def ends() -> None:
            rng = random.Random(f"{seed} ends")
            while any(thread.is_alive() for thread in callers):
                lm = of_user(rng.randrange(6))
                ref = service.worker(lm)
                if ref is not None:
                    ref.cast(LMWorker.retire, 0.0)
                if rng.random() < 0.2:
                    service.pool().within(None).call(ProviderPool.forget_ended)

        service.call(of_user(0))  # there is a pool
        callers = [threading.Thread(target=calls, args=(number,)) for number in range(4)]
        ender = threading.Thread(target=ends)
        for thread in (*callers, ender):
            thread.start()
        for thread in (*callers, ender):
            thread.join()
        numbers = service.rt.numbers()
        ended = service.provider.closed
    assert wrong == [], f"seed {seed}"
    assert (numbers.sent, numbers.resubmits, len(service.provider.requests)) == (241, 0, 241), f"seed {seed}"
    assert ended > 0, f"seed {seed}: nothing to see"
