"""The support tickets that ship with the package: 288 of them, written for this project, fixed split.

They are the mail of a made-up shop for smart indoor gardens: boxes with lamps, pumps and sensors, an app, a seed
subscription. `tickets.csv` has the columns `ticket`, `category`, `urgency` and `split` (`train`, 192 rows; `heldout`,
96 rows). Each category has 32 train and 16 held-out rows. No held-out ticket repeats a train ticket: they share at
most half of their distinct words, and in fact less than a third.

Labels follow these rules:

- `category`, by what has to be dealt with: `account` is sign-in, profile, members and rights; `billing` is payments,
  invoices and prices; `delivery` is parcels on their way to the customer; `feature` is a wish for something that the
  product does not do; `returns` is goods on their way back, exchanges and their refunds; `technical` is a device or
  the app that misbehaves, and questions on how it works.
- `urgency`, by what happens if nobody looks at it today: `high` where somebody is in danger, locked out of what they
  need now, losing money, or faces a deadline within about a day; `medium` where something is wrong or missing and can
  wait some days; `low` where nothing is wrong: questions, ideas, praise, blemishes.
"""

from __future__ import annotations

import csv
import io
from importlib import resources

from dspy_actors.example import Example

INSTRUCTIONS = "Sort a support ticket of a shop for smart indoor gardens."
"""What the demo's program is told; it names no option, so all that a model knows of them is their names."""

CATEGORIES = ("account", "billing", "delivery", "feature", "returns", "technical")
URGENCIES = ("low", "medium", "high")


def read_tickets() -> list[dict[str, str]]:
    """The rows of `tickets.csv` in file order, each with `ticket`, `category`, `urgency` and `split`."""
    text = (resources.files("dspy_actors.demo") / "tickets.csv").read_text("utf-8")
    return list(csv.DictReader(io.StringIO(text, newline="")))


def load_tickets() -> tuple[list[Example], list[Example]]:
    """The train and the held-out tickets, as examples whose input is `ticket`."""
    sides: dict[str, list[Example]] = {"train": [], "heldout": []}
    for row in read_tickets():
        split = row.pop("split")
        sides[split].append(Example(row).with_inputs("ticket"))
    return sides["train"], sides["heldout"]
