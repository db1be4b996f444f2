"""`reads_old_pickles`: for values that users keep, in files that outlive a release."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any, TypeVar

T = TypeVar("T")


def reads_old_pickles(cls: type[T]) -> type[T]:
    """Put above `@dataclass(frozen=True, slots=True)`: a pickle of a release in which the last fields were not there
    yet is read, and they have their defaults. New fields of such a class go to its end, with a default.

    A dataclass with slots sets what the pickle holds and leaves the others unset: reading one is an `AttributeError`.
    """
    known: Any = fields(cls)  # type: ignore[arg-type]  # for mypy a `type[T]` is no dataclass
    own: Any = cls.__setstate__  # type: ignore[attr-defined]

    def __setstate__(self: T, state: list[Any]) -> None:  # noqa: N807 - pickle's name
        own(self, state)
        for field in known[len(state) :]:
            if field.default is not MISSING:
                object.__setattr__(self, field.name, field.default)
            elif field.default_factory is not MISSING:
                object.__setattr__(self, field.name, field.default_factory())

    cls.__setstate__ = __setstate__  # type: ignore[attr-defined]
    return cls
