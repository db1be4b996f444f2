"""Ctrl-C and SIGTERM while `dspy-actors run` works: rows under way finish, finished results stay."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from dspy_actors.cli.bars import VanishingBar
from dspy_actors.cli.stopping import Hurry, Stopping
from dspy_actors.cli.telling import tell
from tests.dspy_actors.command import PATIENCE, beginning, end_of, results, tickets
from tests.server.client import StubServer

BOTH = pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
ALL = pytest.mark.parametrize(("number", "code"), [(signal.SIGHUP, 129), (signal.SIGINT, 130), (signal.SIGTERM, 143)])

STUCK = """
import threading
from dspy_actors import Module, Prediction

class Stuck(Module):
    def forward(self, ticket):
        if "number 2" in ticket:
            open("stuck", "w").close()
            threading.Event().wait()
        return Prediction(category="fine")
"""


def arguments(stub: StubServer, *more: object) -> tuple[object, ...]:
    """`run` at the test server, four rows at once."""
    where = ("--lm", "openai/stub", "--base-url", stub.base_url)
    return (
        "run",
        "ticket -> category",
        "--data",
        "rows.jsonl",
        "--out",
        "out.jsonl",
        "--concurrency",
        4,
        *where,
        *more,
    )


def interrupt(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """Send the signal and read the note that says it has come: two that follow too closely are one."""
    process.send_signal(number)
    assert process.stderr is not None
    lines = (line for line in process.stderr if line.strip())
    assert "finishing the rows under way" in next(lines)


@ALL
def test_a_signal_lets_the_rows_under_way_finish_and_takes_no_more(
    tmp_path: Path, stub: StubServer, number: signal.Signals, code: int
) -> None:
    tickets(tmp_path / "rows.jsonl", 50)
    stub.control(plan=[{"times": 6}, {"times": 4, "fault": "hold"}, {"fault": "hang"}])
    with beginning(*arguments(stub, "--json"), cwd=tmp_path) as process:
        stub.wait("held>=4", timeout=20)
        interrupt(process, number)
        stub.release()
        ended = end_of(process)
    assert ended.code == code
    assert [line["index"] for line in results(tmp_path / "out.jsonl")] == list(range(10))
    assert (ended.summary["rows"], ended.summary["succeeded"], ended.summary["of"]) == (10, 10, 50)
    assert stub.stats()["requests"] == 10


@BOTH
def test_a_second_signal_ends_at_once_and_keeps_what_is_finished(
    tmp_path: Path, stub: StubServer, number: signal.Signals, code: int
) -> None:
    tickets(tmp_path / "rows.jsonl", 50)
    stub.control(plan=[{"match": "number 3", "fault": "hang"}, {"times": 9}, {"fault": "hang"}])
    with beginning(*arguments(stub), cwd=tmp_path) as process:
        stub.wait("answered>=9", "in_flight>=4", timeout=20)
        interrupt(process, number)
        ended = end_of(process, number)
    assert ended.code == code
    assert [line["index"] for line in results(tmp_path / "out.jsonl")] == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert "9 of 50 rows" in ended.out


@ALL
def test_a_signal_after_which_nobody_reads_what_is_said_loses_no_row(
    tmp_path: Path, stub: StubServer, number: signal.Signals, code: int
) -> None:
    tickets(tmp_path / "rows.jsonl", 50)
    stub.control(plan=[{"match": "number 3", "times": 1, "fault": "hold"}, {"times": 9}, {"times": 3, "fault": "hold"}])
    with beginning(*arguments(stub), cwd=tmp_path) as process:
        stub.wait("held>=4", timeout=20)
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()
        process.send_signal(number)
        stub.release()
        assert process.wait(PATIENCE) == code
    indexes = [line["index"] for line in results(tmp_path / "out.jsonl")]
    assert indexes == list(range(stub.stats()["requests"]))


def test_a_hangup_that_is_ignored_ends_nothing() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Stopping() as stopping, stopping.draining():
            signal.raise_signal(signal.SIGHUP)
            assert not stopping.asked
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_line_and_a_bar_that_nobody_reads_any_more_end_nothing() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", buffering=1) as gone, contextlib.redirect_stderr(gone):
        tell("rows wait for the model")
        with VanishingBar("run", 2) as bar:
            bar.say("rows wait for the model")
            bar.at(2)
        with pytest.raises(BrokenPipeError):
            gone.write("a line\n")
        with open(os.devnull, "w") as nothing:  # what is left in its buffer would fail its end
            os.dup2(nothing.fileno(), writer)


def test_a_server_that_hangs_holds_the_end_up_until_the_alarm_only(tmp_path: Path, stub: StubServer) -> None:
    tickets(tmp_path / "rows.jsonl", 20)
    stub.control(plan=[{"times": 5}, {"fault": "hang"}])
    with beginning(*arguments(stub, "--json"), cwd=tmp_path) as process:
        stub.wait("requests>=9", timeout=20)
        interrupt(process, signal.SIGTERM)
        ended = end_of(process, signal.SIGALRM)
    assert (ended.code, ended.summary["rows"]) == (143, 5)
    assert len(results(tmp_path / "out.jsonl")) == 5


def test_the_alarm_of_the_rows_under_way_rings_after_ten_seconds() -> None:
    with Stopping() as stopping, stopping.draining():
        assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
        signal.raise_signal(signal.SIGTERM)
        assert 9 < signal.getitimer(signal.ITIMER_REAL)[0] <= 10


def test_the_end_has_its_own_deadline_and_ignores_more_signals() -> None:
    with Stopping() as stopping:
        with pytest.raises(Hurry):
            signal.raise_signal(signal.SIGINT)
        assert 14 < signal.getitimer(signal.ITIMER_REAL)[0] <= 15
        signal.raise_signal(signal.SIGTERM)
    assert stopping.exit_code == 130
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_a_few_lines_are_not_cut_in_two_by_a_signal() -> None:
    done = []

    def lines(stopping: Stopping) -> None:
        with stopping.held():
            signal.raise_signal(signal.SIGINT)
            done.append("the rest of them")

    with Stopping() as stopping, pytest.raises(Hurry):
        lines(stopping)
    assert done == ["the rest of them"]


def test_a_signal_on_the_way_out_sets_the_exit_code_and_nothing_else() -> None:
    with Stopping() as stopping:
        with stopping.draining():
            pass
        signal.raise_signal(signal.SIGTERM)
    assert stopping.exit_code == 143


def test_a_program_that_blocks_its_thread_for_ever_does_not_hold_up_the_end(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(STUCK)
    tickets(tmp_path / "rows.jsonl", 3)
    options = ("--data", "rows.jsonl", "--out", "out.jsonl", "--concurrency", 1, "--json")
    with beginning("run", "mine:Stuck", *options, cwd=tmp_path) as process:
        _until_there(tmp_path / "stuck")
        interrupt(process, signal.SIGINT)
        ended = end_of(process, signal.SIGINT)
    assert ended.code == 130
    assert [json.loads(line)["index"] for line in (tmp_path / "out.jsonl").read_text().splitlines()] == [0, 1]


def test_a_signal_before_the_first_answer_leaves_no_file(tmp_path: Path, stub: StubServer) -> None:
    tickets(tmp_path / "rows.jsonl", 20)
    stub.control(fault="hang")
    with beginning(*arguments(stub), cwd=tmp_path) as process:
        stub.wait("requests>=4", timeout=20)
        interrupt(process, signal.SIGINT)
        ended = end_of(process, signal.SIGINT)
    assert ended.code == 130
    assert "0 of 20 rows" in ended.out
    assert "nothing written" in ended.out
    assert not (tmp_path / "out.jsonl").exists()


def _until_there(path: Path) -> None:
    for _ in range(2000):
        if path.exists():
            return
        threading.Event().wait(0.01)
    pytest.fail(f"{path} was not made")
