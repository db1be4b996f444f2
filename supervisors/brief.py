"""Values in one line of bounded length, for reports: a state may hold a million rows."""

from __future__ import annotations

import dataclasses
import reprlib
from typing import Any

LIMIT = 300
"""Characters of one value."""


class _Brief(reprlib.Repr):
    """As `repr`, but it looks at a few members of each container only, and of a dataclass too."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 4
        self.maxdict = self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = self.maxdeque = 6
        self.maxstring = self.maxother = self.maxlong = 120

    def repr_instance(self, x: Any, level: int) -> str:
        kind = type(x)
        # A `__repr__` that somebody wrote, perhaps to hide something, is asked; a generated one is imitated.
        if not dataclasses.is_dataclass(x) or not hasattr(kind.__repr__, "__wrapped__"):
            return super().repr_instance(x, level)
        if level <= 0:
            return f"{kind.__qualname__}(...)"
        shown = [field.name for field in dataclasses.fields(x) if field.repr]
        inner = ", ".join(f"{name}={self.repr1(getattr(x, name), level - 1)}" for name in shown[: self.maxdict])
        return f"{kind.__qualname__}({inner}{', ...' if len(shown) > self.maxdict else ''})"


_BRIEF = _Brief()


def brief(value: object) -> str:
    """`value` as `repr` shows it, shortened to `LIMIT` characters. Never raises; another's `__repr__` may."""
    try:
        text = _BRIEF.repr(value)
    except BaseException as error:  # a stranger's __repr__ must not keep a report from being written
        text = f"<{type(value).__qualname__}, whose repr raised {type(error).__name__}>"
    return text if len(text) <= LIMIT else f"{text[: LIMIT - 3]}..."
