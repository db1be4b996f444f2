"""Parking a thread at a step of the kernel, so that another one passes it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from supervisors import steps


class Gate:
    """Holds the first thread that passes a step until it is opened."""

    def __init__(self) -> None:
        self._here, self._go = threading.Event(), threading.Event()
        self._taken = threading.Lock()

    def hold(self) -> None:
        if self._taken.acquire(False):
            self._here.set()
            self._go.wait(10)

    def reached(self) -> None:
        assert self._here.wait(5), "nobody came to this step"

    def open(self) -> None:
        self._go.set()


@contextmanager
def all_parked(names: tuple[str, ...], subject: object = None) -> Iterator[list[Gate]]:
    """Park the first thread that comes to each of the steps (about `subject`)."""
    gates = {name: Gate() for name in names}

    def check(name: str, about: object) -> None:
        if name in gates and (subject is None or about is subject):
            gates[name].hold()

    with steps.installed(check):
        try:
            yield list(gates.values())
        finally:
            for gate in gates.values():
                gate.open()


@contextmanager
def parked(step: str, subject: object = None) -> Iterator[Gate]:
    """As `all_parked`, for one step."""
    with all_parked((step,), subject) as gates:
        yield gates[0]
