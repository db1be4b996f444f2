"""A tree of 10,000 children: how long it takes to boot, to read and to stop, in order.

    python benchmarks/tree.py [--quick]

Every start is awaited before the next one, and every stop too, in reverse order, as the semantics want it. "in
hundreds" is the same number of children below 100 supervisors. A dynamic supervisor stops its children all at once.
There is no baseline: pykka and asyncio have no trees. Microseconds per child.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks._report import Report, Row, Samples, interleave
from supervisors.actor import Actor
from supervisors.dynamic import DynamicSupervisor
from supervisors.spec import ChildSpec
from supervisors.strategies import Strategy
from supervisors.supervisor import Supervisor
from supervisors.system import System

PATIENCE = 120.0


class Leaf(Actor):
    """Does nothing."""


class InlineLeaf(Leaf):
    inline = True


class LoopLeaf(Leaf):
    dispatcher = "loop"


def top(id: str, children: list[ChildSpec]) -> ChildSpec:
    options = {"strategy": Strategy.ONE_FOR_ONE}
    return ChildSpec(id, Supervisor, (children,), options, start_timeout=PATIENCE)


def leaves(cls: type[Leaf], number: int) -> list[ChildSpec]:
    return [ChildSpec(each, cls) for each in range(number)]


def flat(cls: type[Leaf], children: int) -> ChildSpec:
    """One supervisor over all."""
    return top("top", leaves(cls, children))


def in_hundreds(children: int) -> ChildSpec:
    """100 supervisors under one, each with its share of the children."""
    return top("top", [top(f"group {each}", leaves(Leaf, children // 100)) for each in range(100)])


def static(children: int, spec: ChildSpec) -> tuple[float, float, float]:
    """Seconds to boot the tree, to take a snapshot of it and to stop it."""
    with System() as system:
        began = time.perf_counter()
        system.start_child(spec)
        booted = time.perf_counter()
        system.snapshot()
        seen = time.perf_counter()
        system.root.within(PATIENCE).call(Supervisor.terminate_child, "top")
        return booted - began, seen - booted, time.perf_counter() - seen


def dynamic(children: int) -> tuple[float, float, float]:
    """As `static`, with children started one by one from outside."""
    with System() as system:
        ref = system.start_child(ChildSpec("top", DynamicSupervisor))
        leaf = ChildSpec("leaf", Leaf)
        began = time.perf_counter()
        for _ in range(children):
            ref.call(DynamicSupervisor.start_child, leaf)
        booted = time.perf_counter()
        system.snapshot()
        seen = time.perf_counter()
        system.root.within(PATIENCE).call(Supervisor.terminate_child, "top")
        return booted - began, seen - booted, time.perf_counter() - seen


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true")
    quick = options.parse_args().quick
    children = 2_000 if quick else 10_000
    report = Report("tree", "µs")
    trees: dict[str, Callable[[], tuple[float, float, float]]] = {
        "pool": lambda: static(children, flat(Leaf, children)),
        "inline": lambda: static(children, flat(InlineLeaf, children)),
        "loop": lambda: static(children, flat(LoopLeaf, children)),
        "pool, in hundreds": lambda: static(children, in_hundreds(children)),
        "pool, dynamic": lambda: dynamic(children),
    }
    snapshots, stops = ({name: Row(name) for name in trees} for _ in range(2))

    def boot(name: str) -> Samples:
        seconds = [each / children * 1e6 for each in trees[name]()]
        snapshots[name].rounds.append([seconds[1]])
        stops[name].rounds.append([seconds[2]])
        return [seconds[0]]

    boots = interleave({name: partial(boot, name) for name in trees}, 2 if quick else 3, warm_up=False)
    for title, rows in (("boot", boots), ("snapshot", snapshots), ("stop in order", stops)):
        report.table(f"{title}, {children:,} children", rows, digits=1)
    report.close(children=children)


if __name__ == "__main__":
    main()
