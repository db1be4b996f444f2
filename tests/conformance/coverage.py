"""Which rows of the catalogue have a test, which depart from OTP on purpose, and which are missing.

    python tests/conformance/coverage.py

`rows.json` lists the rows: D applies to us as it is, A with an adaptation, N not at all. A test has the id of its row
in its name. A row of `missing.json` does not hold, and says why. A departure is a line of the table in the docstring
of `supervisors`. The exit code is 1 when a D or A row has neither test nor departure.
"""

from __future__ import annotations

import ast
import json
import re
import sys
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


def departures() -> dict[str, str]:
    """What departs from OTP, by row: the table in the package's docstring, which has the rows in its first column."""
    doc = ast.get_docstring(ast.parse(FACE.read_text(encoding="utf-8"))) or ""
    table = doc.partition(HEADING)[2].split("\n\n")[1]
    lines = [re.split(r"\s{2,}", line.strip()) for line in table.splitlines() if line.strip()]
    return {row: line[1] for line in lines for row in line[0].split()}


def problems(known: dict[str, dict[str, str]]) -> list[str]:
    """What does not fit together."""
    tested, told, gone = tests(), departures(), missing()
    wrong = [
        f"{row} is tested by {names[0]} and is not in rows.json" for row, names in tested.items() if row not in known
    ]
    wrong += [f"{row} is missing and tested" for row in gone if row in tested and "partly" not in gone[row]]
    wrong += [f"{row} is in the docstring of supervisors and not in rows.json" for row in told if row not in known]
    return wrong


def main() -> int:
    known, tested, gone = rows(), tests(), missing()
    wanted = {row: fact for row, fact in known.items() if fact["class"] in ("D", "A")}
    told = departures()
    by_word = [row for row in wanted if row in told]
    without = [row for row in wanted if row not in tested and row not in told]
    number = sum(len(names) for names in tested.values())
    print(f"{len(known)} rows, {len(wanted)} of them for us")
    print(f"{len([row for row in wanted if row in tested])} have a test ({number} tests)")
    print(f"{len(by_word)} depart on purpose:")
    for row in by_word:
        print(f"  {row}  {told[row]}{'' if row in tested else '  (no test)'}")
    print(f"{len(without)} are missing:")
    for row in without:
        print(f"  {row}  {known[row]['situation']}: {gone.get(row, 'no test and no reason')}")
    partly = [row for row in gone if row in tested]
    print(f"{len(partly)} hold only in part:")
    for row in partly:
        print(f"  {row}  {known[row]['situation']}: {gone[row]}")
    wrong = problems(known)
    for problem in wrong:
        print(f"wrong: {problem}")
    return 1 if without or wrong else 0


if __name__ == "__main__":
    sys.exit(main())
