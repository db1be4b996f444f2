"""`Preview`: as much of an input as a person needs to recognise it, and no more."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sized
from dataclasses import dataclass
from typing import Any, TypeAlias

from dspy_actors.secret import redacted

SHOWN = 16
"""Characters of a text that are shown."""

_LOOKED_AT = 400
"""Characters that are searched for keys: one that begins in what is shown must be seen as one."""

FIELDS = 50
"""Fields that a preview names; of an input with more the rest is left out."""

_NAME = 60
_TELLING = re.compile(r"(?i)key|token|secret|passw|pwd|credential|auth|cookie|ssn|iban|card|pin\b")


@dataclass(frozen=True, slots=True)
class FieldPreview:
    """One field: its name, type and length (characters, items; `None` for a number), and how its text begins."""

    name: str
    type: str
    length: int | None
    begins: str | None

    def __str__(self) -> str:
        length = "" if self.length is None else f"[{self.length}]"
        return f"{self.name}: {self.type}{length}" + ("" if self.begins is None else f" {self.begins!r}")


Preview: TypeAlias = tuple[FieldPreview, ...]


def preview_of(inputs: Mapping[str, Any]) -> Preview:
    """The fields of `inputs`. A text shows its first characters, redacted; one whose name tells a secret shows none."""
    return tuple(_field(str(name), value) for name, value in list(inputs.items())[:FIELDS])


def _field(name: str, value: object) -> FieldPreview:
    begins = _beginning(value) if isinstance(value, str) and not _TELLING.search(name) else None
    length = len(value) if isinstance(value, Sized) else None
    return FieldPreview(printable(redacted(name[:_LOOKED_AT]))[:_NAME], type(value).__name__, length, begins)


def printable(text: str) -> str:
    """`text` with `?` for what would move a cursor or break a line: names come from callers too."""
    return "".join(each if each.isprintable() else "?" for each in text)


def _beginning(text: str) -> str:
    shown = " ".join(redacted(text[:_LOOKED_AT]).split())
    return shown if len(shown) <= SHOWN and len(text) <= _LOOKED_AT else shown[:SHOWN].rstrip("…") + "…"
