"""What every benchmark shares: interleaved rounds, medians, ratios against a baseline of the same run, one JSON line.

Cases run in turn within each round, the order turned by one each round, so that a busy moment of the machine does not
fall on one case alone. A ratio is the median of the rounds' own ratios, for the same reason.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Samples = list[float]
Case = Callable[[], Samples]
"""Runs one round; returns what it measured, in the report's unit, lower is better."""


@dataclass
class Row:
    """One case: its samples round by round, and more to print about it."""

    name: str
    rounds: list[Samples] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def samples(self) -> Samples:
        return sorted(sample for samples in self.rounds for sample in samples)

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    def percentile(self, share: float) -> float:
        """Nearest rank; `share` from 0 to 1."""
        samples = self.samples
        return samples[min(len(samples) - 1, int(share * len(samples)))]

    def ratio(self, baseline: Row) -> float:
        """Median over the rounds of this row's median divided by the baseline's in the same round."""
        pairs = zip(self.rounds, baseline.rounds, strict=True)
        return statistics.median(statistics.median(mine) / statistics.median(theirs) for mine, theirs in pairs)


def interleave(cases: Mapping[str, Case], rounds: int, warm_up: bool = True) -> dict[str, Row]:
    """Run every case once per round; a first round warms up and is not kept."""
    rows = {name: Row(name) for name in cases}
    names = list(cases)
    for number in range(-1 if warm_up else 0, rounds):
        turn = number % len(names) if names else 0
        for name in names[turn:] + names[:turn]:
            samples = cases[name]()
            if number >= 0:
                rows[name].rounds.append(samples)
    return rows


class Report:
    """Collects tables and what is absent; `close` prints the JSON line, the last of the output."""

    def __init__(self, benchmark: str, unit: str) -> None:
        self.benchmark, self.unit = benchmark, unit
        self.missing: dict[str, str] = {}
        self.tables: dict[str, dict[str, Any]] = {}
        self.began = time.monotonic()
        print(f"{benchmark}: Python {platform.python_version()}, {os.cpu_count()} cores, unit {unit}")

    def absent(self, peer: str, why: str) -> None:
        """Name a peer that is not measured, and why."""
        self.missing[peer] = why
        print(f"absent: {peer} ({why})")

    def table(self, title: str, rows: Mapping[str, Row], baseline: str | None = None, digits: int = 3) -> None:
        """Print and keep one table; ratios are against the row called `baseline`."""
        base = rows.get(baseline or "")
        extras = list(dict.fromkeys(key for row in rows.values() for key in row.notes))
        head = ["", "median", "min", "p99", *(["ratio"] if base else []), *extras]
        lines, kept = [head], {}
        for name, row in rows.items():
            numbers = {"median": row.median, "min": row.samples[0], "p50": row.median, "p99": row.percentile(0.99)}
            shown = [f"{numbers[key]:.{digits}f}" for key in ("median", "min", "p99")]
            if base:
                numbers["ratio"] = row.ratio(base)
                shown.append(f"{numbers['ratio']:.2f}x")
            shown += [_shown(row.notes.get(key, "")) for key in extras]
            lines.append([name, *shown])
            kept[name] = {key: round(value, 6) for key, value in numbers.items()} | row.notes
        self.tables[title] = kept
        print(f"\n{title}" + (f" (ratio to {baseline})" if base else ""))
        _print(lines)

    def close(self, **more: Any) -> None:
        """Print everything once more as one JSON object on the last line."""
        print()
        print(
            json.dumps(
                {
                    "benchmark": self.benchmark,
                    "unit": self.unit,
                    "python": platform.python_version(),
                    "cores": os.cpu_count(),
                    "load": round(os.getloadavg()[0], 2),
                    "seconds": round(time.monotonic() - self.began, 1),
                    "tables": self.tables,
                    "absent": self.missing,
                    **more,
                }
            )
        )
        sys.stdout.flush()


def _shown(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def _print(lines: list[list[str]]) -> None:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        cells = [
            line[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)),
        ]
        print("  ".join(cells).rstrip())
