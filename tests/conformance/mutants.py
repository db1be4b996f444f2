"""Break one line of `supervisors` at a time and see that the tests notice.

    python tests/conformance/mutants.py [word ...]

Each mutant is applied to a copy of the package in a temporary folder, and the tests named beside it run against the
copy; given words, only mutants whose name has one of them. Exit code 1 when one survives, 2 when one does not fit
the source any more. A mutant that makes the tests hang is killed too: a minute is more than any of them takes.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
NEEDED = ("supervisors", "dspy_actors", "tests", "pyproject.toml")
PATIENCE = 60.0


class Mutant(NamedTuple):
    """One entry of `mutants.toml`."""

    name: str
    file: str
    old: str
    new: str
    tests: str


def mutants() -> list[Mutant]:
    """The list of `mutants.toml`."""
    text = (Path(__file__).parent / "mutants.toml").read_text(encoding="utf-8")
    return [Mutant(**fields) for fields in tomllib.loads(text)["mutant"]]


@contextmanager
def copied() -> Iterator[Path]:
    """A folder with what the tests need, to be broken."""
    with tempfile.TemporaryDirectory() as folder:
        for name in NEEDED:
            source, target = ROOT / name, Path(folder) / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
            else:
                shutil.copy(source, target)
        yield Path(folder)


def complaint(folder: Path, tests: str, seconds: float = PATIENCE) -> str:
    """What these tests say in `folder` if one of them fails; nothing if all pass."""
    files = [f"tests/{name}.py" if "/" in name else f"tests/conformance/test_{name}.py" for name in tests.split()]
    command = [sys.executable, "-B", "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *files]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return "they hang"
    return done.stdout[-3000:] + done.stderr[-1000:] if done.returncode else ""


def broken(source: str, old: str, new: str) -> str | None:
    """`source` with `new` for `old`; None where `old` is not there exactly once, or what comes of it is no Python."""
    if source.count(old) != 1:
        return None
    made = source.replace(old, new)
    try:
        compile(made, "<mutant>", "exec")
    except SyntaxError:
        return None
    return made


def tried(folder: Path, mutant: Mutant) -> str:
    """`killed`, `SURVIVED`, or `does not fit`: it is not to be had from the source as it is now."""
    path = folder / "supervisors" / f"{mutant.file}.py"
    source = path.read_text(encoding="utf-8")
    made = broken(source, mutant.old, mutant.new)
    if made is None:
        return "does not fit"
    path.write_text(made, encoding="utf-8")
    try:
        return "killed" if complaint(folder, mutant.tests) else "SURVIVED"
    finally:
        path.write_text(source, encoding="utf-8")


def main(words: list[str]) -> int:
    chosen = [mutant for mutant in mutants() if not words or any(word in mutant.name for word in words)]
    results: dict[str, list[str]] = {"killed": [], "SURVIVED": [], "does not fit": []}
    with copied() as folder:
        everything = " ".join(sorted({name for mutant in chosen for name in mutant.tests.split()}))
        said = complaint(folder, everything, PATIENCE * 5)
        if said:
            print(said, "\nthe tests fail without any mutant")
            return 2
        for mutant in chosen:
            result = tried(folder, mutant)
            results[result].append(mutant.name)
            print(f"{result:12} {mutant.file}: {mutant.name}", flush=True)
    print(", ".join(f"{len(names)} {result}" for result, names in results.items()))
    return 2 if results["does not fit"] else 1 if results["SURVIVED"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
