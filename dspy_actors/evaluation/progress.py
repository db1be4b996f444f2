"""`ProgressBar`: an evaluation's progress on standard error, drawn by rich."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any, Self, TextIO, cast


class NoBar:
    """Shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        return None

    def __call__(self, progress: Any) -> None:
        return None


class _Screen:
    """A file for rich, standard error. One that nobody reads any more, for its terminal was closed, shows nothing.

    At a broken pipe rich would end the process, and its standard output.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._file.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._file.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class ProgressBar:
    """A bar with rows done, the score so far and the errors. rich is imported when the bar is made.

    Called with `evaluate.Progress`; used in the thread that evaluates.
    """

    def __init__(self, title: str, total: int | None, *, console: Any = None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=console or Console(stderr=True, file=cast("Any", sys.stderr and _Screen(sys.stderr))),
        )
        self._task = self._bar.add_task(title, total=total, note="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.stop()

    def __call__(self, progress: Any) -> None:
        score = "" if progress.score is None else f"score {progress.score:.1f} %"
        errors = f"  {progress.errors} errors" if progress.errors else ""
        self._bar.update(self._task, completed=progress.done, note=score + errors)

    def at(self, done: int, note: str = "") -> None:
        """Set the bar to `done` rows."""
        self._bar.update(self._task, completed=done, note=note)

    def say(self, text: str) -> None:
        """Print a line above the bar, as it is."""
        self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
