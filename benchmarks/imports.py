"""What `import dspy_actors` costs: seconds and memory, each in a fresh interpreter, beside its peers.

python benchmarks/imports.py [--rounds 7]

Every package is compiled in a round that does not count, as an installed one is. `every name` is `import dspy_actors`
and all that it exports, each of which is loaded when it is first asked for; `first call` goes on to an answer of the
embedded model.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from functools import partial

from _report import Report, Row, interleave
from _stub import installed

_CHILD = """
import json, resource, sys, time
before = resource.getrusage(resource.RUSAGE_SELF)
began = time.perf_counter()
{statement}
wall = time.perf_counter() - began
used = resource.getrusage(resource.RUSAGE_SELF)
cpu = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps([wall * 1000, cpu * 1000, peak / 1024, len(sys.modules)]))
"""
_FIRST_CALL = """from dspy_actors import Predict, Runtime
with Runtime("embedded/knn"):
    Predict("question -> answer: Literal['yes', 'no']")(question="Is it?")"""
_STATEMENTS = {
    "bare python": "pass",
    "supervisors": "import supervisors",
    "dspy_actors": "import dspy_actors",
    "dspy_actors, every name": "from dspy_actors import *",
    "dspy_actors, first call": _FIRST_CALL,
    "pydantic": "import pydantic",
    "httpx+pydantic": "import httpx, pydantic",
    "dspy": "import dspy",
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=7)
    rounds = arguments.parse_args().rounds
    report = Report("imports", "ms")
    statements = dict(_STATEMENTS)
    if not installed("dspy"):
        statements.pop("dspy")
        report.absent("dspy", "pip install 'dspy-actors[dspy]'")
    seen: dict[str, list[list[float]]] = {name: [] for name in statements}
    with tempfile.TemporaryDirectory() as compiled:
        for text in statements.values():
            _import([], compiled, text)
        runs = {name: partial(_import, seen[name], compiled, text) for name, text in statements.items()}
        rows = interleave(runs, rounds)
    for name, row in rows.items():
        _note(row, seen[name])
    report.table("import, fresh interpreter", rows, "dspy" if "dspy" in rows else "httpx+pydantic", digits=1)
    report.close()


def _import(seen: list[list[float]], compiled: str, statement: str) -> list[float]:
    environment = os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "true", "PYTHONPYCACHEPREFIX": compiled}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-c", _CHILD.format(statement=statement)]
    out = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, cwd="/").stdout
    seen.append(json.loads(out.splitlines()[-1]))
    return [seen[-1][0]]


def _note(row: Row, seen: list[list[float]]) -> None:
    middle = len(seen) // 2
    columns = [sorted(column)[middle] for column in zip(*seen, strict=True)]
    row.notes = {"cpu_ms": round(columns[1], 1), "rss_mb": round(columns[2], 1), "modules": int(columns[3])}


if __name__ == "__main__":
    main()
