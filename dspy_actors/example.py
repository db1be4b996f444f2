"""`Example`, `Prediction` and `Completions`: the records that programs read and return.

All three are plain values: no thread, no I/O. Names and rules are DSPy's, so that its trainsets, metrics and
programs work on them; `Prediction` adds what the call cost (see there).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self, TypeAlias

from dspy_actors.call_record import CallRecord
from dspy_actors.messages import Truncation, Usage

_SLOTS = frozenset({"_store", "_input_keys", "_call", "_completions"})
_set = object.__setattr__
_SHOWN = 60
"""Characters of a value that a repr shows."""


class Example:
    """A record with named fields, read as `example.question` or `example["question"]`.

    `base` is a mapping or another example to begin with; keywords win over it. `with_inputs` says which fields a
    program is given; the others are labels. Two examples are equal when their fields are. Fields whose name begins
    with `dspy_` are kept but hidden from `keys`, `values`, `items` and `len`, as in DSPy.
    """

    __slots__ = ("_input_keys", "_store")
    _store: dict[str, Any]
    _input_keys: frozenset[str] | None

    def __init__(self, base: Mapping[str, Any] | Example | None = None, **fields: Any) -> None:
        keys: frozenset[str] | None = None
        store = fields
        if isinstance(base, Example):
            store = base._store | fields
            keys = base._input_keys
        elif base is not None:
            store = dict(base)
            store.update(fields)
        _set(self, "_store", store)
        _set(self, "_input_keys", keys)

    def __getattr__(self, name: str) -> Any:
        if name in _SLOTS:  # an object whose __init__ did not run
            raise AttributeError(name)
        if name in self._store and not name.startswith("__"):
            return self._store[name]
        msg = f"{type(self).__name__} has no field {name!r}; it has {', '.join(self._shown()) or 'none'}"
        raise AttributeError(msg)

    def __setattr__(self, name: str, value: Any) -> None:
        if hasattr(type(self), name):
            msg = f"{name!r} is a method of {type(self).__name__}; write example[{name!r}] = ... to set a field"
            raise AttributeError(msg)
        self._store[name] = value

    def __delattr__(self, name: str) -> None:
        if name not in self._store:
            raise AttributeError(name)
        del self._store[name]

    def __getitem__(self, name: str) -> Any:
        return self._store[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._store[name] = value

    def __delitem__(self, name: str) -> None:
        del self._store[name]

    def __contains__(self, name: object) -> bool:
        return name in self._store

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._store))

    def __len__(self) -> int:
        return len(self._shown())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Example) and self._store == other._store

    def __hash__(self) -> int:
        return hash(frozenset(self._store.items()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={_short(v)}' for k, v in self.items())})"

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self._store, self._input_keys))

    def _shown(self) -> list[str]:
        return [name for name in self._store if not name.startswith("dspy_")]

    def keys(self, include_dspy: bool = False) -> list[str]:
        """Field names in order."""
        return list(self._store) if include_dspy else self._shown()

    def values(self, include_dspy: bool = False) -> list[Any]:
        """Field values in order."""
        return [value for _, value in self.items(include_dspy)]

    def items(self, include_dspy: bool = False) -> list[tuple[str, Any]]:
        """Pairs of name and value in order."""
        if include_dspy:
            return list(self._store.items())
        return [item for item in self._store.items() if not item[0].startswith("dspy_")]

    def get(self, name: str, default: Any = None) -> Any:
        """The field, or `default`."""
        return self._store.get(name, default)

    def with_inputs(self, *names: str) -> Self:
        """A copy whose inputs are `names`; the other fields are its labels."""
        copied = self.copy()
        _set(copied, "_input_keys", frozenset(names))
        return copied

    @property
    def input_keys(self) -> frozenset[str] | None:
        """The names given to `with_inputs`, or `None` where it was not called."""
        return self._input_keys

    def inputs(self) -> Example:
        """The fields a program is given. Raises `ValueError` where `with_inputs` was not called."""
        keys = self._input_keys
        if keys is None:
            msg = "this example does not know its inputs; write example.with_inputs('question') first"
            raise ValueError(msg)
        found = Example({name: value for name, value in self._store.items() if name in keys})
        _set(found, "_input_keys", keys)
        return found

    def labels(self) -> Example:
        """The fields that are no inputs. Raises `ValueError` where `with_inputs` was not called."""
        given = self.inputs()
        return Example({name: value for name, value in self._store.items() if name not in given})

    def copy(self, **fields: Any) -> Self:
        """A shallow copy with `fields` set."""
        copied: Self = _rebuild(type(self), {**self._store, **fields}, self._input_keys)
        return copied

    def without(self, *names: str) -> Self:
        """A copy without the fields `names`. Raises `KeyError` for a name that is not there."""
        copied = self.copy()
        for name in names:
            del copied[name]
        return copied

    def toDict(self) -> dict[str, Any]:  # noqa: N802 - DSPy's name
        """The fields as plain data: nested examples and pydantic models become dicts."""
        return {name: _plain(value) for name, value in self._store.items()}


_NO_CALL = CallRecord()
_CALL_NAMES = frozenset(CallRecord.__slots__)


class Prediction(Example):
    """The outputs of a program, plus what the call was, by the names of `CallRecord`: `usage`, `model`, `truncated`, …

    Keywords are fields. The eight names of the call are no fields: they are set by `of` and `with_call`, read as
    attributes, and left out of items, equality and files. Where a program has an output field of the same name, the
    attribute is the field, and `call_record` still has the other. `completions` holds all samples where several were
    asked for. `float`, comparisons, `+` and `/` act on the field `score` (`ValueError` without one).
    """

    __slots__ = ("_call", "_completions")
    _call: CallRecord
    _completions: Completions | None

    usage: Usage | None
    cost: float | None
    attempts: int
    cached: bool
    model: str | None
    version: int | None
    truncated: Truncation | None
    call_id: str | None

    def __init__(self, base: Mapping[str, Any] | Example | None = None, **fields: Any) -> None:
        super().__init__(base, **fields)
        _set(self, "_input_keys", None)
        if isinstance(base, Prediction):
            _set(self, "_call", base._call)
            _set(self, "_completions", base._completions)
        else:
            _set(self, "_call", _NO_CALL)
            _set(self, "_completions", None)

    @classmethod
    def of(
        cls,
        fields: Mapping[str, Any] | Example,
        *,
        call: CallRecord | None = None,
        completions: Completions | None = None,
    ) -> Self:
        """A prediction with its call's record."""
        store = dict(fields._store if isinstance(fields, Example) else fields)
        return cls._made(store, call or _NO_CALL, completions)

    @classmethod
    def _made(cls, store: dict[str, Any], call: CallRecord, completions: Completions | None) -> Self:
        """One that owns `store`: each of its slots is set once, which `__init__` cannot do."""
        made = cls.__new__(cls)
        _put_store(made, store)
        _put_input_keys(made, None)
        _put_call(made, call)
        _put_completions(made, completions)
        return made

    @classmethod
    def from_completions(
        cls, samples: Sequence[Mapping[str, Any]] | Mapping[str, list[Any]], *, call: CallRecord | None = None
    ) -> Self:
        """The first of several samples, with all of them in `completions`."""
        completions = Completions(samples)
        first = {name: values[0] for name, values in completions.items() if values}
        return cls.of(first, call=call, completions=completions)

    def with_call(self, **changes: Any) -> Self:
        """A copy whose call record is changed: `prediction.with_call(cost=0.002, cached=False)`."""
        return self.with_record(replace(self._call, **changes))

    def with_record(self, call: CallRecord) -> Self:
        """A copy with this call record."""
        return self._made(self._store.copy(), call, self._completions)

    def __getattr__(self, name: str) -> Any:
        if name in _CALL_NAMES and name not in self._store:
            return getattr(self._call, name)
        return super().__getattr__(name)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild_prediction, (type(self), self._store, self._call, self._completions))

    @property
    def call_record(self) -> CallRecord:
        """What the call was, whatever the output fields are called."""
        return self._call

    @property
    def completions(self) -> Completions | None:
        """All samples of the call, where more than one was asked for."""
        return self._completions

    def copy(self, **fields: Any) -> Self:
        """A shallow copy with `fields` set; call record and completions stay."""
        return type(self).of({**self._store, **fields}, call=self._call, completions=self._completions)

    def get_lm_usage(self) -> dict[str, dict[str, int]] | None:
        """Tokens by model in DSPy's form; `None` where no provider counted."""
        usage = self._call.usage
        if usage is None:
            return None
        names = ("prompt_tokens", "completion_tokens", "total_tokens")
        return {self._call.model or "unknown": {name: getattr(usage, name) for name in names}}

    def __float__(self) -> float:
        if "score" not in self._store:
            msg = "this prediction has no field 'score' to count with; return Prediction(score=...)"
            raise ValueError(msg)
        return float(self._store["score"])

    def __add__(self, other: Number) -> float:
        return float(self) + float(other)

    def __radd__(self, other: Number) -> float:
        return float(other) + float(self)

    def __truediv__(self, other: Number) -> float:
        return float(self) / float(other)

    def __rtruediv__(self, other: Number) -> float:
        return float(other) / float(self)

    def __lt__(self, other: Number) -> bool:
        return float(self) < float(other)

    def __le__(self, other: Number) -> bool:
        return float(self) <= float(other)

    def __gt__(self, other: Number) -> bool:
        return float(self) > float(other)

    def __ge__(self, other: Number) -> bool:
        return float(self) >= float(other)


_put_store, _put_input_keys = Example.__dict__["_store"].__set__, Example.__dict__["_input_keys"].__set__
_put_call, _put_completions = Prediction.__dict__["_call"].__set__, Prediction.__dict__["_completions"].__set__
"""Set the slots of a prediction past its `__setattr__`: two are made for every call."""

Number: TypeAlias = float | Prediction


class Completions:
    """Several samples of one call: `completions[0]` is a `Prediction`, `completions.answer` a list.

    Made of a list of samples or of a mapping from field to list, and of what cut each sample off, if anything did;
    raises `ValueError` where the lists differ in length.
    """

    __slots__ = ("_columns", "_truncated")

    def __init__(
        self,
        samples: Sequence[Mapping[str, Any]] | Mapping[str, list[Any]],
        truncated: Sequence[Truncation | None] = (),
    ) -> None:
        columns: dict[str, list[Any]] = {}
        if isinstance(samples, Mapping):
            columns.update({name: list(values) for name, values in samples.items()})
        else:
            for sample in samples:
                for name, value in sample.items():
                    columns.setdefault(name, []).append(value)
        if len({len(values) for values in columns.values()}) > 1:
            msg = "each sample must have the same fields: " + ", ".join(f"{k} x {len(v)}" for k, v in columns.items())
            raise ValueError(msg)
        self._columns = columns
        self._truncated = tuple(truncated)

    def items(self) -> Iterable[tuple[str, list[Any]]]:
        """Pairs of field and its values over the samples."""
        return self._columns.items()

    def __len__(self) -> int:
        return len(next(iter(self._columns.values()), ()))

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def __iter__(self) -> Iterator[Prediction]:
        return (self._row(index) for index in range(len(self)))

    def _row(self, index: int) -> Prediction:
        call = CallRecord(truncated=self._truncated[index]) if self._truncated else None
        return Prediction.of({name: values[index] for name, values in self._columns.items()}, call=call)

    def __getitem__(self, key: int | str) -> Any:
        if isinstance(key, str):
            return self._columns[key]
        if not 0 <= key < len(self):
            msg = f"sample {key} of {len(self)}"
            raise IndexError(msg)
        return self._row(key)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._columns:
            msg = f"Completions has no field {name!r}"
            raise AttributeError(msg)
        return self._columns[name]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Completions) and self._columns == other._columns

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return (Completions, (self._columns, self._truncated))

    def __repr__(self) -> str:
        return f"Completions({len(self)} x {', '.join(self._columns)})"


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= _SHOWN else f"{shown[: _SHOWN - 1]}…"


def _plain(value: Any) -> Any:
    if isinstance(value, Example):
        return value.toDict()
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    dump = getattr(type(value), "model_dump", None)
    return dump(value) if dump is not None else value


def _rebuild(cls: type[Any], store: Mapping[str, Any], keys: frozenset[str] | None) -> Any:
    made = cls(store)
    _set(made, "_input_keys", keys)
    return made


def _rebuild_prediction(
    cls: type[Prediction], store: Mapping[str, Any], call: CallRecord, completions: Completions | None
) -> Prediction:
    return cls.of(store, call=call, completions=completions)
