"""The house stands: imports point down, faces face outwards, files stay small, heavy parts wait until they are used."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.floors import arrows, circle, is_face, sources

ROOMS = {
    "supervisors": [
        (
            "errors exits published_lock callback hearer unsettled clock telemetry deadline steps blocking awaiting "
            "current cycles beside lineage hashing tracebacks"
        ),
        (
            "reply dispatchers holding mailbox pause ending cell watched timers calls ref links monitors "
            "birth kernel actor"
        ),
        "keylock registry via brief lastwords stopping zombies",
        "spec strategies intensity backoff",
        "reports child writer starter answering children supervisor dynamic partition tasks task_stream many_tasks",
        "sys tree system leaks testing stages ports pytest_plugin",
    ],
    "dspy_actors": [
        (
            "error_root no_runtime errors quick_init old_pickles messages pieces channel stream_reader secret "
            "arguments sqlite_file put_in_place call_record example envelope alerts"
        ),
        "types signature adapters state",
        "cache quarantine lm",
        "runner modules evaluation batch",
        "optimizers streaming",
        "events tree hosting direct_stream using runtime_tree own_system runtime testing demo cli __main__",
    ],
}
"""Lowest room first. A name stands for a file or a folder, a dotted one for a part of it; within a room: no circle."""

HEAVY = [
    "aiohttp",
    "click",
    "httpx",
    "json_repair",
    "opentelemetry",
    "ray",
    "rich",
    "sqlalchemy",
    "sqlite3",
    "starlette",
    "structlog",
]


def floor(module: str) -> int | None:
    """The number of a module's room, by the longest name in the table that it begins with; a face is above all."""
    package, _, inner = module.partition(".")
    if not inner:
        return len(ROOMS[package])
    named = {name: number for number, room in enumerate(ROOMS[package]) for name in room.split()}
    parts = inner.split(".")
    prefixes = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((named[prefix] for prefix in prefixes if prefix in named), None)


def test_supervisors_knows_nothing_of_language_models() -> None:
    found = {(m, t) for m, targets in arrows().items() for t in targets if m.startswith("supervisors")}
    assert [(module, target) for module, target in found if not target.startswith("supervisors")] == []


def test_nobody_imports_a_face_from_inside() -> None:
    found = [(m, t) for m, targets in arrows().items() if not is_face(m) for t in targets if is_face(t)]
    assert found == []


def test_there_is_no_import_circle() -> None:
    assert circle() == []


def test_every_file_has_a_room() -> None:
    assert [module for module in sources() if floor(module) is None] == []


def test_every_folder_says_what_it_is() -> None:
    folders = {path.parent for path in sources().values()}
    assert [folder.name for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


def test_imports_only_point_down() -> None:
    up = [
        f"{module} -> {target}"
        for module, targets in arrows().items()
        for target in targets
        if module.split(".")[0] == target.split(".")[0] and (floor(target) or 0) > (floor(module) or 0)
    ]
    assert sorted(up) == []


def test_policy_leans_on_the_ground_only() -> None:
    policy = {f"supervisors.{name}" for name in ROOMS["supervisors"][3].split()}
    above = {(m, t) for m in policy for t in arrows()[m] if t not in policy and floor(t) != 0}
    assert above == set()


def test_the_table_names_only_what_exists() -> None:
    names = {f"{package}.{name}" for package, rooms in ROOMS.items() for room in rooms for name in room.split()}
    assert sorted(names - set(sources())) == []


def test_no_file_is_longer_than_400_lines() -> None:
    lengths = {module: len(path.read_text(encoding="utf-8").splitlines()) for module, path in sources().items()}
    assert {module: length for module, length in lengths.items() if length > 400} == {}


@pytest.mark.parametrize("package", ["dspy_actors", "supervisors"])
def test_an_import_loads_nothing_heavy(package: str) -> None:
    code = f"import sys; from {package} import *; print(*[name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == []
