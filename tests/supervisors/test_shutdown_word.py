"""What `System.shutdown` says of how it went."""

from __future__ import annotations

import threading

from supervisors.actor import Actor
from supervisors.spec import BRUTAL_KILL, ChildSpec
from supervisors.system import System
from supervisors.testing import wait_until

PATIENCE = 10.0


class Stuck(Actor):
    def init(self, inside: threading.Event, out: threading.Event) -> None:
        self.inside, self.out = inside, out

    def sit(self) -> None:
        self.inside.set()
        assert self.out.wait(PATIENCE)


def test_a_shutdown_whose_fenced_child_keeps_its_thread_was_not_clean() -> None:
    inside, out = threading.Event(), threading.Event()
    system = System(children=[ChildSpec("stuck", Stuck, (inside, out), shutdown=BRUTAL_KILL)])
    system.start()
    stuck = system.kernel.live()[-1]
    stuck.cast(Stuck.sit)
    assert inside.wait(PATIENCE)
    clean = system.shutdown(timeout=0.5)
    out.set()
    wait_until(lambda: system.kernel.zombies == 0)
    assert clean is False


def test_a_shutdown_whose_killed_child_sat_in_no_code_was_clean() -> None:
    system = System(children=[ChildSpec("idle", Stuck, (None, None), shutdown=BRUTAL_KILL)])
    system.start()
    assert system.shutdown()
