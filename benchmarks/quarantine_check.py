"""What the quarantine costs a call whose input is not set aside: µs on one thread, no network.

`check` is the question itself, `Quarantine.check`, once the input has its hash. `guard` is everything that a call
passes on its way in and out, `InputGuard.watch` entered and left with a good end: the version's name, the look whether
anything is set aside for the program at all, and only then the hash and the check. `hash` is what the caller pays for
the name of its input, which is asked for only where the program has something set aside. The bare baseline is one
uncontended `threading.Lock` taken and given back.

Reach: check <= 2 us, with nothing set aside and with 10,000 others; the guard too, where no hash is needed.

    python benchmarks/quarantine_check.py [--rounds 9] [--calls 5000]
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable
from functools import partial

from _report import Report, Row, interleave
from _targets import Targets

from dspy_actors.adapters.chat_adapter import ChatAdapter
from dspy_actors.envelope import Envelope, Scope, new_call_id
from dspy_actors.hosting import RuntimeHost
from dspy_actors.lm.lm import LM
from dspy_actors.modules.input_guard import InputGuard
from dspy_actors.modules.predict import Predict
from dspy_actors.modules.record import Record
from dspy_actors.quarantine.change import Fault
from dspy_actors.quarantine.names import hash_inputs
from dspy_actors.quarantine.preview import preview_of
from dspy_actors.quarantine.settings import QuarantineSettings
from dspy_actors.quarantine.state import Quarantine
from dspy_actors.runner import Frame, Settings
from dspy_actors.runtime import Runtime
from supervisors.clock import SystemClock

CLOCK = SystemClock()
ENTRIES = 10_000
SHORT = {"question": "How many parcels did the customer send back last year?"}
LONG = {"document": "All parcels that were sent back. " * 125, "question": "How many?"}
BARE = "a lock, taken and given back"
SETTINGS = Settings(lm=LM("openai/m"), adapter=ChatAdapter(), tenant="t")
RECORD = Record(1, Predict("question -> answer"))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=9)
    arguments.add_argument("--calls", type=int, default=5000)
    options = arguments.parse_args()
    report = Report("quarantine_check", "us")
    with Runtime() as rt:
        work = _cases(rt._running())
        cases = {name: partial(_timed, each, options.calls) for name, each in work.items()}
        rows = interleave(cases, options.rounds)
    report.table(f"one call, {options.calls} in a row", rows, BARE)
    report.close(targets=_targets(rows).show(), entries=ENTRIES)


def _timed(work: Callable[[], object], calls: int) -> list[float]:
    """Mean µs a call, of one stretch of calls: the thread's own time, whatever else the machine does."""
    began = time.thread_time()
    for _ in range(calls):
        work()
    return [(time.thread_time() - began) / calls * 1e6]


def _cases(host: RuntimeHost) -> dict[str, Callable[[], object]]:
    lock = threading.Lock()

    def bare() -> None:
        with lock:
            pass

    return {
        BARE: bare,
        "check, nothing set aside": _check(0, "p"),
        "check, 10,000 of other programs": _check(ENTRIES, "others"),
        "check, 10,000 of this program": _check(ENTRIES, "p"),
        "guard, nothing set aside": _guard(host, 0, "p"),
        "guard, 10,000 of other programs": _guard(host, ENTRIES, "others"),
        "guard, 10,000 of this program, with the hash": _guard(host, ENTRIES, "p"),
        "hash of 54 characters": partial(hash_inputs, SHORT),
        "hash of 4 KB": partial(hash_inputs, LONG),
    }


def _filled(count: int, program: str) -> Quarantine:
    quarantine = Quarantine(QuarantineSettings(threshold=1), CLOCK)
    scope = InputGuard(quarantine, program, lambda lm: True, always=True).scope(SETTINGS, RECORD)
    assert scope is not None
    for number in range(count):
        name = hash_inputs({"question": f"question {number}"})
        assert name is not None
        fault = Fault(CLOCK.now(), "parse", "AdapterParseError", lambda: preview_of(SHORT))
        quarantine.failed(scope, name, fault)
        quarantine.answered(scope)  # another input succeeds: this one is to blame
    assert len(quarantine.held) == count
    return quarantine


def _check(count: int, program: str) -> Callable[[], object]:
    quarantine = _filled(count, program)
    scope = InputGuard(quarantine, "p", lambda lm: True, always=True).scope(SETTINGS, RECORD)
    name = hash_inputs(SHORT)
    assert scope is not None
    assert name is not None
    return partial(quarantine.check, scope, name, None)


def _guard(host: RuntimeHost, count: int, program: str) -> Callable[[], object]:
    guard = InputGuard(_filled(count, program), "p", lambda lm: True, always=True)
    frame = Frame(host, SETTINGS, Envelope(new_call_id(), deadline=CLOCK.now() + 600.0, tenant="t"), Scope())

    def work() -> None:
        with guard.watch(frame, RECORD, SHORT):
            pass

    return work


def _targets(rows: dict[str, Row]) -> Targets:
    targets = Targets()
    for name, row in rows.items():
        if name.startswith(("check", "guard")) and "hash" not in name:
            targets.at_most(name, row.median, 2.0, "us")
    return targets


if __name__ == "__main__":
    main()
