"""Ports: code in a process of its own, killed for certain, with nothing left behind."""

from __future__ import annotations

import asyncio
import doctest
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisors import ports
from supervisors.cell import IGNORE
from supervisors.clock import ManualClock
from supervisors.deadline import deadline_at
from supervisors.errors import ActorDied, CallTimeout, MailboxFull, SpecError, StartFailed
from supervisors.exits import Crash, Killed, Normal, Shutdown
from supervisors.kernel import Kernel
from supervisors.ports.calls import acall, call, path_of
from supervisors.ports.errors import CallFailed, FrameTooLarge, PortExited, PortProtocol, PortTimeout
from supervisors.ports.port import Port
from supervisors.ports.process import Frames
from supervisors.ref import Ref
from supervisors.registry import Registry
from supervisors.reply import Reply
from supervisors.spec import ChildSpec
from supervisors.strategies import Strategy
from supervisors.supervisor import Supervisor
from supervisors.testing import wait_until
from tests.supervisors import ported
from tests.supervisors.actors import Background


def here(name: str) -> str:
    return f"tests.supervisors.ported:{name}"


@pytest.fixture
def port(kernel: Kernel) -> Iterator[Ref[Port]]:
    """A port whose functions are imported already."""
    ref = kernel.spawn(Port, modules=("tests.supervisors.ported",))
    yield ref
    stop(ref)


@pytest.fixture
def timed(still: Kernel) -> Iterator[Ref[Port]]:
    """A port for which the time is what the test says."""
    ref = still.spawn(Port, modules=("tests.supervisors.ported",), timeout=10)
    yield ref
    ref.fence()


def stop(ref: Ref[Any]) -> None:
    ref.exit(Shutdown())
    ref.down().get(5)


def request(ref: Ref[Any], name: str, *args: Any, timeout: float | None = None) -> Reply[Any]:
    """A call that is not waited for."""
    return ref.send_request(Port.run, here(name), args, None, timeout)


def failure(reply: Reply[Any]) -> BaseException:
    """The error that a call ends in."""
    with pytest.raises(Exception) as caught:
        reply.get(5)
    return caught.value


def cause(ref: Ref[Any]) -> Any:
    """The error that the port ends in."""
    ended = ref.down().get(5)
    assert isinstance(ended, Crash)
    return ended.error


def is_gone(pid: int) -> Callable[[], bool]:
    def look() -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return False

    return look


# --- calls ------------------------------------------------------------------------------------------------------------


def test_a_function_runs_in_a_process_of_its_own(port: Ref[Port]) -> None:
    assert os.getpid() != call(port, "os:getpid") == port.call(Port.pid)


def test_arguments_and_answers_travel(port: Ref[Port]) -> None:
    sent = [None, True, -3, 2.5, "ü", b"\x00\xff", [1, [2]], {"a": {"b": 1}, 7: "seven"}]
    assert call(port, ported.echo, *sent, key="value") == [sent, {"key": "value"}]


def test_a_tuple_arrives_as_a_list(port: Ref[Port]) -> None:
    assert call(port, ported.echo, (1, (2,))) == [[[1, [2]]], {}]


def test_what_a_function_raises_is_an_answer(port: Ref[Port]) -> None:
    with pytest.raises(CallFailed, match="math:sqrt raised ValueError: math domain error") as caught:
        call(port, "math:sqrt", -1)

    assert (caught.value.kind, "Traceback" in caught.value.traceback) == ("ValueError", True)
    assert call(port, "math:isqrt", 25) == 5


@pytest.mark.parametrize(("name", "kind"), [("no.such:thing", "ModuleNotFoundError"), ("math:no", "AttributeError")])
def test_a_function_that_is_not_there_is_an_answer_too(port: Ref[Port], name: str, kind: str) -> None:
    with pytest.raises(CallFailed) as caught:
        call(port, name)

    assert caught.value.kind == kind


@pytest.mark.parametrize("name", ["math", ":sqrt", "math:", 7])
def test_what_cannot_name_a_function_is_refused(port: Ref[Port], name: Any) -> None:
    with pytest.raises(SpecError) as caught:
        port.call(Port.run, name)

    assert caught.value.field == "function"


def test_a_function_is_named_after_its_module() -> None:
    assert path_of(ported.echo) == here("echo")


@pytest.mark.parametrize("function", [ported.local(), lambda: None])
def test_a_function_that_no_other_process_finds_is_refused(function: Callable[[], None]) -> None:
    with pytest.raises(SpecError):
        path_of(function)


def test_calls_are_made_one_after_the_other_in_their_order(port: Ref[Port]) -> None:
    replies = [request(port, "note", name) for name in "abc"]
    assert [reply.get(5) for reply in replies] == [["a"], ["a", "b"], ["a", "b", "c"]]


def test_the_example_of_the_package_runs() -> None:
    failed, tried = doctest.testmod(ports)
    assert (failed, tried > 0) == (0, True)


def test_modules_are_imported_ahead_and_are_no_list_of_what_is_allowed(kernel: Kernel) -> None:
    port = kernel.spawn(Port, modules=("math",))
    assert call(port, "os:getpid", timeout=10) == port.call(Port.pid)
    stop(port)


def test_a_call_is_awaited_on_a_loop(port: Ref[Port]) -> None:
    assert asyncio.run(acall(port, "math:isqrt", 25, timeout=5)) == 5


def test_what_a_function_prints_does_not_disturb_the_answers(port: Ref[Port]) -> None:
    assert [call(port, "builtins:print", "noise"), call(port, "math:isqrt", 4)] == [None, 2]


def test_what_no_frame_carries_is_refused(port: Ref[Port]) -> None:
    refused = [failure(request(port, "echo", object())), failure(port.send_request(Port.run, "builtins:object"))]
    assert [type(error) for error in refused] == [SpecError, SpecError]


def test_a_frame_too_large_is_refused_either_way(kernel: Kernel) -> None:
    port = kernel.spawn(Port, max_frame=1000)
    refused = [failure(request(port, "echo", bytes(2000))), failure(request(port, "fill", 2000))]

    assert [type(error) for error in refused] == [FrameTooLarge, FrameTooLarge]
    assert len(call(port, here("fill"), 500)) == 500


def test_a_large_frame_travels(port: Ref[Port]) -> None:
    assert len(call(port, "builtins:bytes", bytes(5_000_000))) == 5_000_000


def test_only_so_many_calls_wait(kernel: Kernel) -> None:
    port = kernel.spawn(Port, max_queue=1)
    running, waiting, refused = [request(port, "wait") for _ in range(3)]

    assert isinstance(failure(refused), MailboxFull)
    port.fence()
    assert [isinstance(failure(reply), ActorDied) for reply in (running, waiting)] == [True, True]


def test_a_call_that_is_cancelled_while_it_waits_is_not_made(port: Ref[Port]) -> None:
    first, second, third = [
        request(port, name, *args) for name, *args in (("wait", 0.05), ("note", "a"), ("note", "b"))
    ]
    port.call(Port.pid)
    second.cancel()

    assert (first.get(5), third.get(5)) == (None, ["b"])


# --- deadlines --------------------------------------------------------------------------------------------------------


def test_a_call_is_killed_at_its_deadline(timed: Ref[Port], clock: ManualClock) -> None:
    spinning = request(timed, "spin", timeout=3)
    timed.call(Port.pid)
    clock.advance(3)
    error = cause(timed)

    assert isinstance(error, PortTimeout)
    assert (error.function, error.seconds) == (here("spin"), 3)
    assert isinstance(failure(spinning), ActorDied)


def test_the_port_has_a_deadline_for_calls_without_one(timed: Ref[Port], clock: ManualClock) -> None:
    request(timed, "spin")
    timed.call(Port.pid)
    clock.advance(9.9)
    alive = timed.is_alive()
    clock.advance(0.1)

    assert (alive, type(cause(timed))) == (True, PortTimeout)


def test_a_call_that_waits_too_long_harms_nobody(timed: Ref[Port], clock: ManualClock) -> None:
    running, waiting = request(timed, "wait", 0.1, timeout=9), request(timed, "note", "late", timeout=1)
    timed.call(Port.pid)
    clock.advance(1)

    assert isinstance(failure(waiting), CallTimeout)
    assert (running.get(5), request(timed, "note", "next").get(5)) == (None, ["next"])


def test_a_call_in_time_is_not_killed_later(timed: Ref[Port], clock: ManualClock) -> None:
    first = request(timed, "note", "a", timeout=1).get(5)
    clock.advance(5)

    assert (first, request(timed, "note", "b").get(5)) == (["a"], ["a", "b"])


def test_an_answered_call_leaves_no_timer(timed: Ref[Port]) -> None:
    request(timed, "note", "a").get(5)
    timed.call(Port.pid)

    assert not timed.mailbox.timers


class Crossing(Port):
    """Lets a deadline and the answer to the same call cross."""

    def cross(self) -> None:
        self.expired(1)
        self.answered(msgpack.packb(("answer", "just in time")))


def test_after_a_deadline_nothing_more_is_sent_to_the_process(kernel: Kernel) -> None:
    port = kernel.spawn(Crossing)
    first, second = request(port, "spin"), request(port, "note", "a")
    port.cast(Crossing.cross)
    error = failure(second)

    assert first.get(5) == "just in time"
    assert isinstance(error, ActorDied)
    assert (error.maybe_handled, type(cause(port))) == (False, PortTimeout)


def test_calls_behind_one_that_is_killed_were_not_handled(timed: Ref[Port], clock: ManualClock) -> None:
    running, waiting = request(timed, "spin", timeout=1), request(timed, "note", "a", timeout=5)
    timed.call(Port.pid)
    clock.advance(1)
    errors = failure(running), failure(waiting)

    assert [error.maybe_handled for error in errors if isinstance(error, ActorDied)] == [True, False]


def test_the_deadline_of_the_caller_holds(port: Ref[Port], kernel: Kernel) -> None:
    with deadline_at(kernel.clock.now() + 0.05), pytest.raises(ActorDied) as caught:
        call(port, here("spin"), timeout=60)

    assert isinstance(caught.value.__cause__, PortTimeout)


def test_a_call_after_the_deadline_of_the_caller_is_not_made(port: Ref[Port], kernel: Kernel) -> None:
    with deadline_at(kernel.clock.now() - 1), pytest.raises(CallTimeout):
        call(port, here("note"), "late")

    assert call(port, here("note"), "next") == ["next"]


# --- the end of the process -------------------------------------------------------------------------------------------


def test_the_exit_code_and_the_last_words_are_in_the_crash(port: Ref[Port]) -> None:
    with pytest.raises(ActorDied):
        call(port, here("say"), "farewell", 3)
    error = cause(port)

    assert (type(error), error.code, error.last_words) == (PortExited, 3, "out farewell\nerr farewell")
    assert "ended with exit code 3; its last words:\nout farewell" in str(error)


def test_only_the_last_of_the_words_are_kept(kernel: Kernel) -> None:
    port = kernel.spawn(Port, max_words=8)
    failure(request(port, "say", "farewell", 0))

    assert cause(port).last_words == "farewell"


def test_a_process_that_dies_of_a_signal_says_which(port: Ref[Port]) -> None:
    pid = port.call(Port.pid)
    os.kill(pid, signal.SIGTERM)
    error = cause(port)

    assert (error.code, str(error)) == (-15, f"the process of {port} ended by SIGTERM")


def test_a_function_that_ends_the_process_ends_the_port(port: Ref[Port]) -> None:
    with pytest.raises(ActorDied):
        call(port, "sys:exit", "enough")

    assert (cause(port).code, cause(port).last_words) == (1, "enough")


def test_a_process_that_talks_nonsense_is_killed(port: Ref[Port]) -> None:
    with pytest.raises(ActorDied):
        call(port, here("write_nonsense"))
    error = cause(port)

    assert (type(error), "frame of 4294967295 bytes" in error.problem) == (PortProtocol, True)


def test_a_module_that_cannot_be_imported_fails_the_start(kernel: Kernel) -> None:
    with pytest.raises(StartFailed) as caught:
        kernel.spawn(Port, modules=("no.such",))

    assert isinstance(caught.value.cause, PortExited)
    assert "ModuleNotFoundError: No module named 'no'" in caught.value.cause.last_words


def test_a_process_that_does_not_come_up_is_killed(kernel: Kernel, tmp_path: Path) -> None:
    (tmp_path / "never_ready.py").write_text("import threading\nthreading.Event().wait()\n")
    environment = {"PYTHONPATH": str(tmp_path)}
    with pytest.raises(StartFailed) as caught:
        kernel.spawn(Port, modules=("never_ready",), env=environment, start_timeout=0.2)

    assert isinstance(caught.value.cause, CallTimeout)


@pytest.mark.parametrize(
    "options",
    [{"timeout": 0}, {"max_frame": 0}, {"max_frame": 1 << 32}, {"max_words": -1}, {"max_queue": -1}, {"modules": "os"}],
)
def test_an_option_without_sense_is_refused(kernel: Kernel, options: dict[str, Any]) -> None:
    with pytest.raises(StartFailed) as caught:
        kernel.spawn(Port, **options)

    assert isinstance(caught.value.cause, SpecError)
    assert caught.value.cause.field in options


# --- the end of the actor ---------------------------------------------------------------------------------------------


def test_the_process_has_ended_when_its_port_is_down(port: Ref[Port]) -> None:
    pid = port.call(Port.pid)
    port.exit(Normal())
    port.down().get(5)

    assert is_gone(pid)()


def test_an_idle_process_may_end_by_itself(kernel: Kernel, tmp_path: Path) -> None:
    said = tmp_path / "said"
    (tmp_path / "leaves_word.py").write_text(
        f"import atexit, pathlib\natexit.register(lambda: pathlib.Path({str(said)!r}).write_text('bye'))\n"
    )
    stop(kernel.spawn(Port, modules=("leaves_word",), env={"PYTHONPATH": str(tmp_path)}))

    assert said.read_text() == "bye"


def test_a_busy_process_is_killed_with_its_port(port: Ref[Port]) -> None:
    pid = port.call(Port.pid)
    spinning = request(port, "spin")
    port.call(Port.pid)
    stop(port)

    assert is_gone(pid)()
    assert isinstance(failure(spinning), ActorDied)


def test_a_fenced_port_takes_its_process_along(port: Ref[Port]) -> None:
    pid = port.call(Port.pid)
    request(port, "spin")
    port.fence()

    assert port.down().get(5) == Killed()
    wait_until(is_gone(pid))


def test_what_a_process_has_started_ends_with_it(port: Ref[Port]) -> None:
    pid = call(port, here("start_another"))
    assert not is_gone(pid)()
    os.kill(port.call(Port.pid), signal.SIGKILL)
    cause(port)

    wait_until(lambda: is_gone(pid)() or "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2])


def test_the_process_dies_with_ours_however_that_ends() -> None:
    code = (
        "import os\n"
        "from supervisors.kernel import Kernel\n"
        "from supervisors.ports.port import Port\n"
        f"ref = Kernel().spawn(Port, modules=('tests.supervisors.ported',))\n"
        f"ref.send_request(Port.run, {here('spin')!r})\n"
        "print(ref.call(Port.pid), flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE, timeout=30, check=False)

    assert done.returncode == -9
    wait_until(lambda: is_gone(int(done.stdout))())


# --- supervised -------------------------------------------------------------------------------------------------------


def test_a_call_that_waited_is_made_by_the_next_process(kernel: Kernel) -> None:
    name = Registry().via("sandbox")
    spec = ChildSpec("sandbox", Port, kwargs={"modules": ("tests.supervisors.ported",)}, name=name)
    sup = kernel.spawn(Supervisor, [spec], strategy=Strategy.ONE_FOR_ONE)
    first, pid = name.whereis(), name.call(Port.pid)
    assert first is not None
    name.cast(Port.run, here("spin"))
    waiting = Background(call, name, here("note"), "again")
    wait_until(lambda: first.snapshot()["pending"] == 2)
    os.kill(pid, signal.SIGKILL)

    assert (waiting.value(), name.call(Port.pid) != pid) == (["again"], True)
    stop(sup)


def test_a_call_to_a_port_that_comes_back_keeps_the_callers_deadline(kernel: Kernel) -> None:
    name, go, began = Registry().via("sandbox"), threading.Event(), threading.Event()

    def slow(_: Kernel) -> Any:
        began.set()
        go.wait(10)
        return IGNORE

    sup = kernel.spawn(Supervisor, [ChildSpec("sandbox", Port, name=name)], strategy=Strategy.ONE_FOR_ONE)
    first = name.whereis()
    assert first is not None
    starting = sup.send_request(Supervisor.start_child, ChildSpec("slow", slow))  # it restarts nobody meanwhile
    assert began.wait(5)
    down = first.down()
    first.exit(Crash(ValueError()))
    down.get(5)
    with deadline_at(0.0), pytest.raises(CallTimeout):
        call(name, here("note"), "late")
    go.set()
    starting.get(5)
    stop(sup)


# --- frames -----------------------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=20), max_size=5), st.integers(1, 9))
def test_frames_come_out_as_they_went_in_however_they_are_cut(frames: list[bytes], size: int) -> None:
    stream = b"".join(len(frame).to_bytes(4, "big") + frame for frame in frames)
    reader = Frames(20)
    pieces = [stream[start : start + size] for start in range(0, len(stream), size)]

    assert [frame for piece in pieces for frame in reader.feed(piece)] == frames


def test_a_frame_that_is_too_large_is_seen_before_it_has_come() -> None:
    with pytest.raises(ValueError, match="a frame of 21 bytes where 20 are allowed"):
        Frames(20).feed((21).to_bytes(4, "big"))
