"""`Field`: one input or output of a signature, and the two functions that declare one."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final, Literal, get_args, get_origin

import pydantic
from pydantic.fields import FieldInfo

from dspy_actors.errors import SignatureError

Direction = Literal["input", "output"]


class _Missing:
    """The type of `MISSING`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "MISSING"

    def __reduce__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()
"""Stands where a field has no default and where no type was written."""

_WORD_BREAK = re.compile(
    r"(?<=.)(?=[A-Z][a-z])"  # before a capitalised word
    r"|(?<=[a-z0-9])(?=[A-Z])"  # before a run of capitals
    r"|(?<=[a-zA-Z])(?=\d)|(?<=\d)(?=[a-zA-Z])"  # round a number
)

_LIMITS: tuple[tuple[str, str], ...] = (
    ("gt", "more than {}"),
    ("ge", "at least {}"),
    ("lt", "less than {}"),
    ("le", "at most {}"),
    ("multiple_of", "a multiple of {}"),
    ("min_length", "length at least {}"),
    ("max_length", "length at most {}"),
    ("pattern", "matching the regular expression {}"),
)


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a signature.

    `annotation` is its type without `Annotated`; `metadata` are pydantic's constraints on it and `limits` the same
    in words. `typed` says whether a type was written down: a field without one is a `str` that also takes other
    values as inputs. `desc` is `${name}` where none was given, as in DSPy's files; `shown_desc` is empty then.
    `prefix` is in no prompt; DSPy's files hold it and optimizers vary it.
    """

    direction: Direction
    name: str = ""
    annotation: Any = MISSING
    typed: bool = True
    desc: str = ""
    prefix: str = ""
    limits: str = ""
    metadata: tuple[Any, ...] = ()
    default: Any = MISSING
    default_factory: Callable[[], Any] | None = None

    @property
    def required(self) -> bool:
        """Whether the field has no default."""
        return self.default is MISSING and self.default_factory is None

    @property
    def shown_desc(self) -> str:
        """The description as a prompt shows it."""
        return "" if self.desc == f"${{{self.name}}}" else self.desc

    @property
    def json_schema_extra(self) -> dict[str, str]:
        """The entries of DSPy's field objects, for code written for them."""
        extra = {"__dspy_field_type": self.direction, "desc": self.desc, "prefix": self.prefix}
        return {**extra, "constraints": self.limits} if self.limits else extra

    def get_default(self) -> Any:
        """The default value; a factory is called each time."""
        return self.default_factory() if self.default_factory is not None else self.default

    def bound(self, name: str, annotation: Any = MISSING) -> Field:
        """The field under `name`, with its type; raises `SignatureError` for a name that cannot be one."""
        if not isinstance(name, str) or not name.isidentifier() or name.startswith("_"):
            msg = f"{name!r} cannot name a field; use letters, digits and underscores, beginning with a letter"
            raise SignatureError(msg, field=str(name))
        if annotation is MISSING:
            annotation, typed = (str, False) if self.annotation is MISSING else (self.annotation, self.typed)
        else:
            typed = True
        annotation, metadata = _without_annotated(annotation)
        metadata += tuple(item for item in self.metadata if item not in metadata)
        return replace(
            self,
            name=name,
            annotation=annotation,
            typed=typed,
            metadata=metadata,
            limits=_in_words(metadata),
            desc=self.desc or f"${{{name}}}",
            prefix=self.prefix or f"{infer_prefix(name)}:",
        )

    def changed(self, **changes: Any) -> Field:
        """The field with other `desc` or `prefix`, or any other of its attributes."""
        unknown = set(changes) - set(Field.__slots__)
        if unknown:
            msg = f"a field has no {sorted(unknown)[0]!r}; it has {', '.join(Field.__slots__)}"
            raise SignatureError(msg, field=self.name)
        return replace(self, **changes)


def InputField(**options: Any) -> Any:  # noqa: N802 - DSPy's name
    """Declare an input: `question: str = InputField(desc="…")`.

    `desc` (or `description`) tells the model what the field is. `default` and `default_factory` make it optional.
    `gt ge lt le multiple_of min_length max_length pattern` and pydantic's other constraints are checked on inputs and
    told to the model; a validator of the type's that raises, whatever it raises, refuses the input. `prefix` is kept
    for DSPy's files; `format` and `parser` have no effect, there as here.
    """
    return _declare("input", options)


def OutputField(**options: Any) -> Any:  # noqa: N802 - DSPy's name
    """Declare an output. Options as for `InputField`; constraints are told to the model, and its answer is checked.

    An answer outside of them is asked for again once, with what was wrong, then an `AdapterParseError`. DSPy only tells
    them; what the model should aim at and may miss is written into `desc`. So is an answer for which a validator of the
    type's (pydantic's `AfterValidator` and the like) raises, whatever it raises: the error names output and validator.

    An output with a default, or whose type admits `None`, may be missing from the model's answer.
    """
    return _declare("output", options)


def _declare(direction: Direction, options: dict[str, Any]) -> Field:
    rest = dict(options)
    for name in ("format", "parser"):
        if name in rest:
            del rest[name]
            warnings.warn(f"{name}= has no effect on a field; leave it out", DeprecationWarning, stacklevel=3)
    described = rest.pop("description", None)
    desc = rest.pop("desc", described)
    prefix = rest.pop("prefix", "")
    default = rest.pop("default", MISSING)
    factory = rest.pop("default_factory", None)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            metadata = tuple(pydantic.Field(**rest).metadata)
    except (TypeError, Warning) as error:
        msg = f"{direction.capitalize()}Field does not take these options: {', '.join(rest)} ({error})"
        raise SignatureError(msg) from error
    return Field(
        direction,
        desc=desc or "",
        prefix=prefix or "",
        limits=_in_words(metadata),
        metadata=metadata,
        default=MISSING if default is ... else default,
        default_factory=factory,
    )


def _in_words(metadata: tuple[Any, ...]) -> str:
    """The constraints that have words, whether they stand in the declaration or in the type's `Annotated`."""
    single = [part for item in metadata for part in (item.metadata if isinstance(item, FieldInfo) else (item,))]
    found = ((words, [getattr(part, name, None) for part in single]) for name, words in _LIMITS)
    return ", ".join(words.format(value) for words, values in found for value in values if value is not None)


def _without_annotated(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    if annotation is None:
        return type(None), ()
    if get_origin(annotation) is Annotated:
        inner, *metadata = get_args(annotation)
        return inner, tuple(metadata)
    return annotation, ()


def infer_prefix(name: str) -> str:
    """The prefix DSPy's files hold for a field name: `text2number` is `Text 2 Number`, `HTMLParser` `HTML Parser`."""
    words = _WORD_BREAK.sub("_", name).split("_")
    return " ".join(word if word.isupper() else word.capitalize() for word in words)
