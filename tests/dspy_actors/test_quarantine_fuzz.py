"""Many threads at one quarantine: never two probes of one input at once, and every change told once, in its order."""

from __future__ import annotations

import random
import sys
import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from dspy_actors.errors import QuarantinedInput
from dspy_actors.quarantine.change import Fault
from dspy_actors.quarantine.names import Scope
from dspy_actors.quarantine.settings import QuarantineSettings
from dspy_actors.quarantine.state import Quarantine
from supervisors.clock import ManualClock

SCOPE: Scope = ("t", "p", b"v")
NAMES = [bytes([number]) * 4 for number in range(3)]
THREADS, CALLS = 8, 400
NEVER = 1e12


@pytest.fixture
def threads_switch_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


class Callers:
    """Threads that call with a few inputs, each call ending at random, while time goes on."""

    def __init__(self, seed: int, inputs: int) -> None:
        self.clock = ManualClock()
        self.quarantine = Quarantine(QuarantineSettings(threshold=2, seconds=2.0), self.clock)
        self.seed = seed
        self.names = NAMES[:inputs]
        self.complaints: list[str] = []
        self.ends: Counter[str] = Counter()
        self._probing: dict[bytes, int] = {}
        self._lock = threading.Lock()

    def run(self) -> None:
        threads = [threading.Thread(target=self._call, args=(self.seed + number,)) for number in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _call(self, seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(CALLS):
            name = rng.choice(self.names)
            began = self.clock.now()
            try:
                lease = self.quarantine.check(SCOPE, name, NEVER)
            except QuarantinedInput:
                self._note("refused")
                continue
            finally:
                self._pass_time(rng)
            if lease:
                self._begin(name, lease)
                for _ in range(2000):  # a while, in which others come by
                    self.clock.now()
            end = rng.choice(["failed", "failed", "failed", "succeeded", "undecided"])
            if lease:
                self._end(name, lease)
            self._note(f"probe {end}" if lease else end)
            if end == "failed":
                self.quarantine.failed(SCOPE, name, Fault(began, "parse", "E", tuple), lease)
            elif end == "succeeded":
                self.quarantine.answered(SCOPE)
                self.quarantine.succeeded(SCOPE, name, lease)
            elif lease:
                self.quarantine.undecided(SCOPE, name, lease)

    def _pass_time(self, rng: random.Random) -> None:
        with self._lock:
            self.clock.advance(rng.choice([0.0, 0.0, 0.0, 0.5]))

    def _begin(self, name: bytes, lease: int) -> None:
        with self._lock:
            other = self._probing.get(name)
            if other is not None:
                self.complaints.append(f"probe {lease} while {other} is out")
            self._probing[name] = lease

    def _end(self, name: bytes, lease: int) -> None:
        with self._lock:
            if self._probing.pop(name, None) != lease:
                self.complaints.append(f"probe {lease} was not the only one")

    def _note(self, end: str) -> None:
        with self._lock:
            self.ends[end] += 1


def test_threads_in_random_order_never_probe_twice_at_once(threads_switch_often: None) -> None:
    """Of two inputs: where three fail it is everybody's bad day, which frees them, also from under a probe."""
    seed = random.randrange(1_000_000)
    callers = Callers(seed, 2)
    callers.run()
    assert callers.complaints == [], f"seed {seed}"
    assert callers.ends.total() == THREADS * CALLS
    stats = callers.quarantine.stats()
    assert stats.refused == callers.ends["refused"]
    assert stats.probes == sum(count for end, count in callers.ends.items() if end.startswith("probe"))
    assert min(stats.refused, stats.probes, stats.entered, stats.released) > 0, f"seed {seed}: nothing to see"


def test_every_change_is_told_once_and_in_its_order(threads_switch_often: None) -> None:
    seed = random.randrange(1_000_000)
    callers = Callers(seed, len(NAMES))
    callers.run()
    held: set[str] = set()
    told: Counter[str] = Counter()
    for change in callers.quarantine.take_changes():
        told[change.step] += 1
        is_held = change.entry.id in held
        assert is_held == (change.step != "entered"), f"seed {seed}: {change.step}"
        (held.discard if change.step == "released" else held.add)(change.entry.id)
    stats = callers.quarantine.stats()
    assert held == {entry.id for entry in callers.quarantine.entries()}
    assert (told["entered"], told["released"], told["probation"]) == (stats.entered, stats.released, stats.probes)
    assert stats.entered - stats.released == stats.held
