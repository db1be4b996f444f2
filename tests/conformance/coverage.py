"""Which rows of the catalogue have a test, which depart from OTP on purpose, and which are missing.

    python tests/conformance/coverage.py

`rows.json` lists the rows: D applies to us as it is, A with an adaptation, N not at all. A test has the id of its row
in its name. A row of `missing.json` does not hold, and says why. A departure is a line of the table in the docstring
of `supervisors`. Exit code 1 when a D or A row has neither test nor departure.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).resolve().parent
FACE = HERE.parents[1] / "supervisors" / "__init__.py"
HEADING = "**Where this departs from OTP**"


def rows() -> dict[str, dict[str, str]]:
    """The catalogue."""
    found: dict[str, dict[str, str]] = json.loads((HERE / "rows.json").read_text(encoding="utf-8"))
    return found


def missing() -> dict[str, str]:
    """Rows that do not hold, and what is seen instead."""
    found: dict[str, str] = json.loads((HERE / "missing.json").read_text(encoding="utf-8"))
    return found


def tests() -> dict[str, list[str]]:
    """The tests of each row."""
    found: dict[str, list[str]] = {}
    for path in sorted(HERE.glob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                match = re.match(r"test_([a-z]\d\d)_", node.name)
                if match:
                    found.setdefault(match.group(1).upper(), []).append(f"{path.name}::{node.name}")
    return found


def compared() -> set[str]:
    """The rows whose tests look into what real Erlang or Elixir did."""
    sources = "".join(path.read_text(encoding="utf-8") for path in sorted(HERE.glob("test_*.py")))
    return set(re.findall(r"recorded\([\"']([A-Z]\d\d)[\"']\)", sources))


def departures() -> dict[str, str]:
    """The table in the package's docstring: what is said of each row that it names."""
    doc = ast.get_docstring(ast.parse(FACE.read_text(encoding="utf-8"))) or ""
    table = doc.partition(HEADING)[2].split("\n\n")[1]
    found: dict[str, str] = {}
    for line in table.splitlines():
        names, what, *_ = re.split(r"\s{2,}", line.strip())
        found |= dict.fromkeys(names.split(), what)
    return found


def problems(known: dict[str, dict[str, str]]) -> list[str]:
    """What does not fit together."""
    named: dict[str, Iterable[str]] = {
        "tests": tests(),
        "missing.json": missing(),
        "the docstring of supervisors": departures(),
    }
    wrong = [f"{row} of {where} is no row" for where, rows in named.items() for row in rows if row not in known]
    return wrong + [f"{row} is in missing.json and has a test" for row in missing() if row in tests()]


def main() -> int:
    known, tested, told, gone = rows(), tests(), departures(), missing()
    wanted = [row for row, fact in known.items() if fact["class"] in ("D", "A")]
    without = [row for row in wanted if row not in tested and row not in told]
    number = sum(len(names) for names in tested.values())
    print(f"{len(known)} rows, {len(wanted)} of them for us (D and A)")
    print(f"{sum(row in tested for row in wanted)} have a test ({number} tests)")
    print(f"{sum(row in compared() for row in wanted)} are compared with what Erlang or Elixir did, as recorded")
    print(f"{sum(row in told for row in wanted)} depart from OTP as the docstring of supervisors says:")
    for row in filter(told.__contains__, wanted):
        print(f"  {row}  {told[row]}{'' if row in tested else '  (no test)'}")
    print(f"{len(without)} are missing{':' if without else ''}")
    for row in without:
        print(f"  {row}  {known[row]['situation']}: {gone.get(row, 'no test and no reason')}")
    wrong = problems(known)
    for problem in wrong:
        print(f"wrong: {problem}")
    return 1 if without or wrong else 0


if __name__ == "__main__":
    sys.exit(main())
