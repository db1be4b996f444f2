"""What tells a program or a metric from another: its parameters, its own attributes and its code, as a digest.

What cannot be written canonically has no fingerprint, and nothing that hangs on it is kept: an answer that is asked for
once too often costs money, one that was another program's is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from types import CodeType, FunctionType
from typing import Any
from weakref import WeakKeyDictionary

import msgpack  # type: ignore[import-untyped]

from dspy_actors.cache.keys import canonical
from dspy_actors.modules.module import Module, predictors_of
from dspy_actors.modules.record import Record
from dspy_actors.state import dump

_IN_THE_STATE = frozenset(("signature", "lm", "config", "demos", "_demos", "_kept", "_compiled"))
"""Attributes of a predictor that its state or its signature says already."""

_RUNS = ("forward", "aforward")


def fingerprint(module: Module) -> bytes | None:
    """32 bytes that name a program with its parameters, its attributes and the code of its `forward`.

    `None` where one of these cannot be written canonically, as an open file or a compiled pattern in an attribute.
    Code that `forward` calls elsewhere is not seen: give such a program another name when that changes.
    """
    try:
        return packed([canonical(dump(module.dump_state())), [_one(*each) for each in module.named_sub_modules()]])
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None


_KNOWN: WeakKeyDictionary[Module, bytes | None] = WeakKeyDictionary()


def fingerprint_of(record: Record) -> bytes | None:
    """The fingerprint of a started program's version, whose module nobody changes: computed once."""
    module = record.module
    try:
        return _KNOWN[module]
    except KeyError:
        found = _KNOWN[module] = fingerprint(module)
        return found


def parameters_mark(module: Module) -> bytes | None:
    """32 bytes that name a program's class and what an optimizer may change in it; `None` where that cannot be written.

    For programs that have no fingerprint because they hold a connection, a lock or a pattern.
    """
    try:
        predictors = [
            [name, repr(one.signature.fields), one.signature.instructions, canonical(dict(one.config)), where(one.lm)]
            for name, one in predictors_of(module)
        ]
        kind = type(module)
        return packed([kind.__module__, kind.__qualname__, canonical(dump(module.dump_state())), predictors])
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None


def function_mark(function: object) -> bytes | None:
    """32 bytes that name a function with its code, its defaults and what it closes over; `None` for anything else."""
    try:
        return packed(_code_of(function))
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None


def packed(value: object) -> bytes:
    """The digest of what msgpack writes; raises what it raises."""
    written: bytes = msgpack.packb(value, unicode_errors="surrogatepass")
    return sha256(written).digest()


def where(lm: Any) -> object:
    """What of an LM decides an answer. Never its key."""
    if lm is None:
        return None
    fallbacks = [where(each.lm) for each in lm.fallbacks]
    return [lm.name, lm.base_url, canonical(dict(lm.options)), *([fallbacks] if fallbacks else [])]


def _one(name: str, module: Module) -> list[object]:
    kind = type(module)
    code = [_code_of(getattr(kind, run)) if hasattr(kind, run) else None for run in _RUNS]
    said: list[object] = [name, kind.__module__, kind.__qualname__, code]
    hidden: frozenset[str] = frozenset(("_compiled",))
    if getattr(module, "is_predictor", False):
        one: Any = module
        said += [repr(one.signature.fields), one.signature.instructions, canonical(dict(one.config)), where(one.lm)]
        hidden = _IN_THE_STATE
    own = {attribute: _plain(value) for attribute, value in vars(module).items() if attribute not in hidden}
    return [*said, sorted(own.items(), key=lambda item: item[0])]


def _plain(value: object) -> object:
    """An attribute's value; modules in it have a line of their own."""
    if isinstance(value, Module):
        return [type(value).__qualname__]
    if isinstance(value, FunctionType):
        return _code_of(value)
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, Mapping):
        return {"": [(name, _plain(value[name])) for name in sorted(value)]}
    return canonical(value)


def _code_of(function: object) -> list[object]:
    if not isinstance(function, FunctionType):
        msg = f"{type(function).__name__} is no plain function"
        raise TypeError(msg)
    code = function.__code__
    cells = zip(code.co_freevars, function.__closure__ or (), strict=True)
    closed = [(name, _plain(cell.cell_contents)) for name, cell in cells if name != "__class__"]
    defaults = [_plain(function.__defaults__ or ()), _plain(function.__kwdefaults__ or {})]
    return [function.__module__, function.__qualname__, _written(code), closed, defaults]


def _written(code: CodeType) -> list[object]:
    constants = [_constant(each) for each in code.co_consts]
    return [code.co_code, list(code.co_names), list(code.co_varnames), constants]


def _constant(value: object) -> object:
    """A constant, the same in every process: sets of strings have another order in each."""
    if isinstance(value, CodeType):
        return _written(value)
    if isinstance(value, frozenset):
        return sorted(repr(each) for each in value)
    return repr(value)
