"""Run the scenarios of `source/` on real Erlang and Elixir and write what happened to `*.json`.

    python tests/conformance/recorded/record.py

Needs `erlc`, `erl` and `elixir` (Debian: erlang-base, erlang-dev, elixir). The tests read the files and need neither.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCE = HERE / "source"


def run(*command: str) -> None:
    subprocess.run(command, check=True, timeout=600)


def tidy(path: Path) -> None:
    """One row a line, so that a change is read in a diff."""
    seen = json.loads(path.read_text(encoding="utf-8"))
    rows = ",\n".join(f"  {json.dumps(row)}: {json.dumps(told, sort_keys=True)}" for row, told in seen["rows"].items())
    path.write_text(f'{{"engine": {json.dumps(seen["engine"])}, "rows": {{\n{rows}\n}}}}\n', encoding="utf-8")


def main() -> None:
    with tempfile.TemporaryDirectory() as beams:
        run("erlc", "-o", beams, *map(str, sorted(SOURCE.glob("*.erl"))))
        erlang, elixir = HERE / "erlang.json", HERE / "elixir.json"
        run("erl", "-noshell", "-pa", beams, "-run", "record", "main", str(erlang))
        run("elixir", "-pa", beams, str(SOURCE / "record.exs"), str(elixir))
    for path in (erlang, elixir):
        tidy(path)
        print(path.name, len(json.loads(path.read_text(encoding="utf-8"))["rows"]), "rows")


if __name__ == "__main__":
    main()
