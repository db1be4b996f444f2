"""Kill workers, guards and io loops at random while 200 calls are under way, half of them streams; count everything.

    python -m tests.chaos.lm_layer [--seconds 60] [--seed 1] [--transport aiohttp]

Every call must end, in a value or in an error of ours, within its deadline; the server must have seen exactly the
requests that are reported, and each has its usage record; no stream may mix what two workers have read; no connection
may be left. When the killing is over, every call must come through, as fast as before it. Each kind of actor is killed
no more often than its supervisor puts up with, else the layer would rightly give up.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import quote

import structlog

from dspy_actors.cache.manager import CacheManager
from dspy_actors.errors import LMTransportError
from dspy_actors.lm.guard_actors import BreakerManager, BudgetManager, LimiterManager, UsageStore
from dspy_actors.lm.guarding import Guarding
from dspy_actors.lm.io_loop import IOLoop
from dspy_actors.lm.limiter import LimiterSettings
from dspy_actors.lm.lm import LM
from dspy_actors.lm.pools import ProviderPool
from dspy_actors.lm.worker import LMWorker
from dspy_actors.modules.predict import Predict
from dspy_actors.modules.program import Program
from dspy_actors.runtime import Runtime
from supervisors.clock import SystemClock
from supervisors.exits import Crash
from supervisors.reply import Reply
from supervisors.testing import wait_until
from tests.chaos.reading import Reading, dropped
from tests.server.client import StubServer

AT_ONCE = 200
IN_FLIGHT = 100
"""So few beside the calls that there always is a line before the limiter, also when the last of them end."""

DEADLINE = 30.0
VICTIMS: dict[str, tuple[tuple[type, ...], int]] = {
    "worker": ((LMWorker,), 15),
    "guard": ((BreakerManager, LimiterManager, CacheManager, UsageStore, BudgetManager), 3),
    "io loop": ((IOLoop,), 2),
    "pool": ((ProviderPool,), 1),
}
"""Who may be killed, and how often in half a minute."""

WINDOW = 30.0
_SAID = quote("[[ ## answer ## ]]\nsix of one, half a dozen of the other\n\n[[ ## completed ## ]]", safe="")
_CLOCK = SystemClock()


@dataclass
class Outcome:
    """What a trial has shown. `complaints` is empty when all is well."""

    before: float = 0.0
    after: float = 0.0
    ends: Counter[str] = field(default_factory=Counter)
    ends_settled: Counter[str] = field(default_factory=Counter)
    kills: Counter[str] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [
            f"calls a second: {self.before:.0f} before, {self.after:.0f} after",
            f"ends: {dict(self.ends)}, of those begun after the killing {dict(self.ends_settled)}",
            f"kills: {dict(self.kills)}",
            f"counts: {self.numbers}",
            *(f"WRONG: {complaint}" for complaint in self.complaints),
        ]
        return "\n".join(lines)


class Load:
    """Keeps `AT_ONCE` calls under way from a thread of its own; every second one is a stream.

    Of the streams one in ten is read slowly, and one in fifty is dropped unread.
    """

    def __init__(self, rt: Runtime, program: Program) -> None:
        self._rt = rt
        self._clock = rt.system.kernel.clock
        self._program = program
        self._places = threading.Semaphore(AT_ONCE)
        self._lock = threading.Lock()
        self._open: dict[Reply[Any], float] = {}
        self._number = 0
        self._going = True
        self._settled_from: int | None = None
        self.ends: Counter[str] = Counter()
        self.ends_settled: Counter[str] = Counter()
        self._thread = threading.Thread(target=self._run, name="chaos-load")
        self._thread.start()

    def _run(self) -> None:
        """Begin calls, and leave one in forty while it is under way."""
        impatient: Reply[Any] = Reply()
        while self._going:
            if self._places.acquire(timeout=0.1):
                self._number += 1
                reply = self._begin(self._number)
                with self._lock:
                    self._open[reply] = time.monotonic()
                reply.add_done_callback(partial(self._ended, self._number))
                if self._number % 37 == 0:
                    impatient.cancel()
                if self._number % 37 == 20:
                    impatient = reply

    def _begin(self, number: int) -> Reply[Any]:
        if number % 2:
            return self._program.submit(question=f"question {number}")
        stream = self._rt.stream(f"question {number}")
        if number % 100 == 0:
            return dropped(stream)
        return Reading(stream, self._clock, pause=0.02 if number % 20 == 2 else 0.0).reply

    def _ended(self, number: int, reply: Reply[Any]) -> None:
        error = reply.exception()
        kind = "ok" if error is None else "lm_transport" if isinstance(error, LMTransportError) else repr(error)
        kind = "left" if reply.cancelled() else kind
        with self._lock:
            took = time.monotonic() - self._open.pop(reply, time.monotonic())
            self.ends[kind] += 1
            if self._settled_from is not None and number > self._settled_from:
                self.ends_settled[kind] += 1
            if took > DEADLINE + 2.0:
                self.ends["late"] += 1
        self._places.release()

    def settled(self) -> None:
        """The killing is over: calls that begin from now on are counted in `ends_settled` too."""
        self._settled_from = self._number

    def rate(self, seconds: float) -> float:
        """Good answers a second, over so many seconds from now."""
        began, good = time.monotonic(), self.ends["ok"]
        threading.Event().wait(seconds)
        return (self.ends["ok"] - good) / (time.monotonic() - began)

    def stop(self) -> tuple[int, int]:
        """Begin no more calls, wait for those under way: how many began, and how many never ended."""
        self._going = False
        self._thread.join()
        for reply in list(self._open):
            reply.wait(DEADLINE + 5.0, _CLOCK)
        with self._lock:
            return self._number, len(self._open)


def kill_at_random(rt: Runtime, rng: random.Random, seconds: float) -> Counter[str]:
    """Kill for so many seconds; who was killed how often."""
    kills: Counter[str] = Counter()
    recent: dict[str, deque[float]] = {kind: deque() for kind in VICTIMS}
    pause = threading.Event()
    until = time.monotonic() + seconds
    while (now := time.monotonic()) < until:
        kind = rng.choice(list(VICTIMS))
        classes, most = VICTIMS[kind]
        while recent[kind] and recent[kind][0] < now - WINDOW - 1.0:
            recent[kind].popleft()
        if len(recent[kind]) < most and _kill(rt, rng, classes):
            recent[kind].append(now)
            kills[kind] += 1
        pause.wait(rng.uniform(0.01, min(0.5, seconds / 10)))
    return kills


def _kill(rt: Runtime, rng: random.Random, classes: tuple[type, ...]) -> bool:
    names = {cls.__name__ for cls in classes}
    live = rt.system.kernel.live()  # one whose start is made to fail looks as if its provider could not be opened
    found = [ref for ref in live if ref.mailbox.started and ref.snapshot()["class"] in names]
    if not found:
        return False
    ref = rng.choice(found)
    if rng.random() < 0.5:
        ref.fence()
    else:
        ref.exit(Crash(RuntimeError("killed by chaos")))
    return True


def trial(stub: StubServer, seconds: float, seed: int, transport: str = "aiohttp") -> Outcome:
    """One trial: load, killing for `seconds`, load again."""
    stub.control(fault=f"delay=20,pieces=6,gap=4,text={_SAID}", keep=1)
    found = Outcome()
    measured = min(3.0, max(1.0, seconds / 5))
    model = LM("openai/m", base_url=stub.base_url, api_key="sk-chaos-0123456789")
    guarding = Guarding(limiter=LimiterSettings(max_in_flight=IN_FLIGHT))
    with Runtime(model, transport=transport, deadline=DEADLINE, guarding=guarding) as rt:
        load = Load(rt, rt.start(Predict("question -> answer")))
        load.rate(0.5)
        found.before = load.rate(measured)
        found.kills = kill_at_random(rt, random.Random(seed), seconds)
        load.rate(0.5)
        load.settled()
        found.after = load.rate(measured)
        began, never = load.stop()
        found.ends, found.ends_settled = load.ends, load.ends_settled
        _check(found, stub, rt, began, never)
    try:
        stub.wait("open==0")
    except TimeoutError:
        found.complaints.append(f"{stub.stats()['open']} connections are open after the end")
    return found


def _check(found: Outcome, stub: StubServer, rt: Runtime, began: int, never: int) -> None:
    complain = found.complaints.append
    ended = sum(count for kind, count in found.ends.items() if kind != "late")
    if never or ended != began:
        complain(f"{began} calls began, {ended} ended, {never} hang")
    if strange := set(found.ends) - {"ok", "left", "lm_transport"}:
        complain(f"calls ended in {strange}")
    if not found.ends_settled["ok"] or set(found.ends_settled) - {"ok", "left"}:
        complain(f"calls begun after the killing ended in {dict(found.ends_settled)}")
    seen = stub.wait("in_flight==0")
    numbers = rt.numbers()
    found.numbers = {"seen": seen["requests"], "sent": numbers.sent, "resubmits": numbers.resubmits}
    found.numbers |= {"unanswered": numbers.unanswered, "retries": numbers.retries}
    if seen["requests"] != numbers.sent:
        complain(f"the server saw {seen['requests']} requests, {numbers.sent} are reported")
    wait_until(lambda: rt.numbers().open == 0)
    found.numbers |= {"streams": numbers.streams, "rows": rt.usage().attempts}
    if rt.usage().attempts != numbers.sent:
        complain(f"{numbers.sent} requests were sent, {rt.usage().attempts} are in the usage log")
    if rt.numbers().open_streams:
        complain(f"{rt.numbers().open_streams} streams are open")
    health: Any = rt.health()
    for name, reading in health["limiters"].items():
        if (reading["in_flight"], reading["waiting"]) != (0, 0):
            complain(f"limiter {name} still holds {reading}")
    for name, reading in health["breakers"].items():
        if reading["state"] != "closed":
            complain(f"breaker {name} is {reading['state']}")
    try:
        wait_until(lambda: rt.system.kernel.zombies == 0)
    except AssertionError:
        complain(f"{rt.system.kernel.zombies} fenced actors still have a thread")


def slower(found: Outcome) -> list[str]:
    """What a quiet machine shows besides: few calls die with two workers, and the speed comes back.

    A death that takes a worker with it may break all the streams that had begun, which are half of what it holds.
    """
    complaints = []
    began = found.ends.total() - found.ends["late"]
    broken = (found.kills.total() - found.kills["guard"]) * IN_FLIGHT / 2
    if found.ends["ok"] + broken < 0.9 * began:
        complaints.append(f"only {found.ends['ok']} of {began} calls came through")
    if found.after < 0.5 * found.before:
        complaints.append(f"{found.after:.0f} calls a second after the killing, {found.before:.0f} before it")
    return complaints


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=float, default=60.0)
    arguments.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    arguments.add_argument("--transport", choices=("aiohttp", "httpx"), default="aiohttp")
    options = arguments.parse_args()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL)
    )  # deaths are no news here
    print(f"seed {options.seed}, {options.seconds:g} s, {options.transport}", flush=True)
    with StubServer() as stub:
        found = trial(stub, options.seconds, options.seed, options.transport)
    found.complaints += slower(found)
    print(found)
    return 1 if found.complaints else 0


if __name__ == "__main__":
    sys.exit(main())
