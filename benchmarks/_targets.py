"""Named targets: what a benchmark is to reach, printed beside what it reached and kept in the JSON line."""

from __future__ import annotations

from typing import Any


class Targets:
    """Collects targets. A ratio is always to the baseline named with it, measured in the same run."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, Any]] = {}

    def at_most(self, name: str, found: float, limit: float, unit: str = "x") -> None:
        """`found` is to be `limit` or less."""
        self._keep(name, found, limit, unit, "<=", found <= limit)

    def at_least(self, name: str, found: float, limit: float, unit: str = "x") -> None:
        """`found` is to be `limit` or more."""
        self._keep(name, found, limit, unit, ">=", found >= limit)

    def _keep(self, name: str, found: float, limit: float, unit: str, word: str, met: bool) -> None:
        self.found[name] = {"found": round(found, 4), "target": f"{word} {limit}", "unit": unit, "met": met}

    def show(self) -> dict[str, dict[str, Any]]:
        """Print them; give them for the JSON line."""
        print("\ntargets")
        for name, each in self.found.items():
            verdict = "met" if each["met"] else "MISSED"
            print(f"  {name}: {each['found']:g} {each['unit']}  (target {each['target']})  {verdict}")
        return self.found
