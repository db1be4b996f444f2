"""The console script as a user runs it: in a process of its own, with an environment that holds no key."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dspy_actors.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0


@dataclass(frozen=True)
class Ended:
    """How a run of the command ended."""

    code: int
    out: str
    err: str

    @property
    def summary(self) -> dict[str, Any]:
        """Standard output as the one JSON object it is with `--json`."""
        return dict(json.loads(self.out))

    @property
    def complaint(self) -> str:
        """Standard error as the one line it is when the exit code is 2."""
        return self._line(2)

    @property
    def postponement(self) -> str:
        """Standard error as the one line it is when the exit code is 75."""
        return self._line(75)

    def _line(self, code: int) -> str:
        lines = self.err.splitlines()
        assert self.code == code, f"exit code {self.code}: {self.err}"
        assert len(lines) == 1, f"not one line: {self.err!r}"
        assert lines[0].startswith("dspy-actors: "), lines[0]
        return lines[0].removeprefix("dspy-actors: ")


def environment(**changes: str) -> dict[str, str]:
    """This process's environment without keys and proxies, with the package found from any directory."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI", "http", "HTTP"))}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **changes}


def dspy_actors(*arguments: object, cwd: Path, **env: str) -> Ended:
    """`dspy-actors ARGUMENTS` run to its end in `cwd`."""
    with beginning(*arguments, cwd=cwd, **env) as process:
        return end_of(process)


def inside(capsys: pytest.CaptureFixture[str], *arguments: object) -> Ended:
    """The same in this process, which is faster: for what ends before much has begun."""
    with pytest.raises(SystemExit) as ending:
        main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return Ended(int(ending.value.code or 0), said.out, said.err)


@contextmanager
def beginning(*arguments: object, cwd: Path, **env: str) -> Iterator[subprocess.Popen[str]]:
    """`dspy-actors ARGUMENTS` under way; it is gone when the block ends."""
    command = [sys.executable, "-m", "dspy_actors", *map(str, arguments)]
    pipe = subprocess.PIPE
    with hanging_up():
        begun = subprocess.Popen(command, cwd=cwd, env=environment(**env), stdout=pipe, stderr=pipe, text=True)
    with begun as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def hanging_up() -> Iterator[None]:
    """A process begun in here is ended by SIGHUP also where that is ignored, as it is under `nohup`."""
    if threading.current_thread() is not threading.main_thread():  # nobody hangs up on those
        yield
        return
    ours = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, ours)


def end_of(process: subprocess.Popen[str], *signals: signal.Signals) -> Ended:
    """Send the signals, read what the process says and wait for its end."""
    for number in signals:
        process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE)
    return Ended(process.returncode, out, err)


def write_rows(path: Path, rows: Iterable[Mapping[str, object]]) -> Path:
    """A `.jsonl` file of `rows`."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def tickets(path: Path, count: int) -> Path:
    """`count` rows with a text and a column that programs do not need."""
    return write_rows(path, ({"ticket": f"ticket number {n}", "id": n} for n in range(count)))


def results(path: Path) -> list[dict[str, Any]]:
    """The lines of a result file, each of which has to be whole."""
    text = path.read_text(encoding="utf-8")
    assert text.endswith("\n"), "the last line is not whole"
    return [json.loads(line) for line in text.splitlines()]
