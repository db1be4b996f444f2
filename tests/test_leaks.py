"""The check that runs after every test sees what it says it sees."""

from __future__ import annotations

import asyncio
import os
import socket
import threading

from supervisors.actor import Actor
from supervisors.kernel import Kernel
from tests.leaks import left, seen


def test_a_thread_that_stays_is_named() -> None:
    before, gate = seen(), threading.Event()
    thread = threading.Thread(target=gate.wait, name="straggler")
    thread.start()
    assert any("straggler" in line for line in left(before, 0.01))
    gate.set()
    thread.join()


def test_a_thread_that_ends_in_time_is_no_leak() -> None:
    before = seen()
    threading.Timer(0.02, int).start()
    assert left(before) == []


def test_an_open_socket_is_named() -> None:
    before = seen()
    with socket.socket():
        assert any("socket:" in line for line in left(before, 0.01))
    assert left(before) == []


def test_a_child_process_is_named() -> None:
    before, (read, write) = seen(), os.pipe()
    child = os.spawnlp(os.P_NOWAIT, "sh", "sh", "-c", f"read x <&{read}")
    found = left(before, 0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    os.close(read)
    os.close(write)
    assert f"child process {child}" in found


def test_a_pending_task_is_named() -> None:
    async def main() -> list[str]:
        before = seen()
        task = asyncio.create_task(asyncio.Event().wait(), name="forgotten")
        found = left(before, 0.01)
        task.cancel()
        return found

    assert any("forgotten" in line for line in asyncio.run(main()))


def test_a_live_actor_is_named() -> None:
    before, kernel = seen(), Kernel(name="forgetful")
    kernel.spawn(Actor)
    found = left(before, 0.01)
    kernel.close()
    assert any("forgetful" in line for line in found)
