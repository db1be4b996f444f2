"""Break one line of the LM layer, the programs, the streams or the quarantine at a time and see that the tests notice.

    python -m tests.chaos.mutants [word ...]

Each mutant is applied to a copy of the package in a temporary folder, and the tests named beside it run against the
copy; given words, only mutants whose file or name has one of them. Exit code 1 when one survives, 2 when one does not
fit the source any more. A mutant that makes the tests hang is killed too.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

from tests.conformance.mutants import broken, copied

PATIENCE = 90.0


class Mutant(NamedTuple):
    """In `<folder>/<file>.py`, `old` becomes `new`; `tests/dspy_actors/test_<tests>.py` must notice."""

    name: str
    file: str
    old: str
    new: str
    tests: str
    folder: str


LISTS = {
    "mutants.toml": "dspy_actors/lm",
    "stream_mutants.toml": "dspy_actors",
    "quarantine_mutants.toml": "dspy_actors",
    "program_mutants.toml": "dspy_actors",
    "transport_mutants.toml": "dspy_actors/lm/transports",
}
"""Each list, and the folder that its files are in."""


def mutants() -> list[Mutant]:
    """All of them, in order."""
    texts = {(Path(__file__).parent / name).read_text(encoding="utf-8"): folder for name, folder in LISTS.items()}
    return [Mutant(**each, folder=folder) for text, folder in texts.items() for each in tomllib.loads(text)["mutant"]]


def complaint(folder: Path, tests: str) -> str:
    """What these tests say in `folder` if one of them fails; nothing if all pass."""
    files = [f"tests/dspy_actors/test_{name}.py" for name in tests.split()]
    command = [sys.executable, "-B", "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *files]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        return "they hang"
    return done.stdout[-3000:] + done.stderr[-1000:] if done.returncode else ""


def tried(folder: Path, mutant: Mutant) -> str:
    """`killed`, `SURVIVED`, or `does not fit`: it is not to be had from the source as it is now."""
    path = folder / mutant.folder / f"{mutant.file}.py"
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
    chosen = [each for each in mutants() if not words or any(word in f"{each.file}: {each.name}" for word in words)]
    results: dict[str, list[str]] = {"killed": [], "SURVIVED": [], "does not fit": []}
    with copied() as folder:
        for tests in sorted({mutant.tests for mutant in chosen}):
            if said := complaint(folder, tests):
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
