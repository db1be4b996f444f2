"""The inputs of a module: given by name, and those of the user's own checked against `forward` before it runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import FunctionType
from typing import Any

from dspy_actors.errors import InputError
from dspy_actors.lm.options import is_option


def check_own_inputs(module: object, run: Callable[..., Any], inputs: Mapping[str, Any]) -> None:
    """Raise `InputError` for the first input that `run` needs and is not given, or is given and does not take.

    What Python cannot tell of its parameters is left to the call itself.
    """
    function = getattr(run, "__func__", run)
    known = _parameters(function, function is not run) if isinstance(function, FunctionType) else None
    if known is None:
        return
    needed, taken = known
    missing = next((name for name in needed if name not in inputs), None)
    if missing is not None:
        raise _wrong(module, f"needs the input {missing!r}", taken or needed, missing)
    extra = None if taken is None else next((name for name in inputs if name not in taken), None)
    if extra is not None:
        raise _wrong(module, f"has no input {extra!r}", taken or (), extra)


def by_name(module: Any, by_place: tuple[object, ...], inputs: dict[str, Any]) -> dict[str, Any]:
    """`inputs`. Raises `InputError` where some are given without their names."""
    if not by_place:
        return inputs
    names = _names(module)
    write = f"program({', '.join(f'{name}=...' for name in names)})"
    msg = f"{type(module).__name__} takes its inputs by name: write {write}"
    raise InputError(msg, field=names[0] if names else None)


def check_successor(name: str, old: Any, new: Any) -> None:
    """Raise `InputError` where who calls `old`, the version of `name` that runs, could not call `new` in the same way.

    `new` may need fewer inputs and take more. Where one of the two does not name its inputs nothing can be told.
    """
    before, after = _declared(old), _declared(new)
    if before is None or after is None:
        return
    (had_to, could), (must, may) = before, after
    more = [one for one in must if one not in had_to]
    gone = [] if may is None else [one for one in (had_to if could is None else could) if one not in may]
    if more or gone:
        wrong = [f"needs {', '.join(more)}"] if more else []
        wrong += [f"does not take {', '.join(gone)}"] if gone else []
        msg = (
            f"{name} is called with the inputs {', '.join(could or had_to) or 'none'}, and this {type(new).__name__} "
            f"{' and '.join(wrong)}; start it as a program of its own"
        )
        raise InputError(msg, field=[*more, *gone][0])


def elsewhere(error: InputError, taken: Mapping[str, object]) -> InputError | None:
    """`error` of a predictor that takes the inputs `taken`, with where to give what is no input; `None`: nowhere.

    DSPy's predictors take models, options and demonstrations with a call.
    """
    name = error.field
    if name is None or name in taken:
        return None
    if name == "lm":
        where = "write `with rt.using(lm=...):` round the call, started.using(lm=...)(...), or Predict(..., lm=...)"
    elif name == "demos":
        where = "demonstrations are the predictor's: write predictor.demos = [...]"
    elif name in ("signature", "new_signature"):
        where = "a signature is the predictor's: write Predict(signature)(...)"
    elif name == "config" or is_option(name):
        option = "temperature" if name == "config" else name
        using = f"using(options={{{option!r}: ...}})"
        where = f"write `with rt.{using}:` round the call, started.{using}(...), or Predict(..., {option}=...)"
    else:
        return None
    return InputError(f"{error.message}; {where}", field=name)


def _declared(module: Any) -> tuple[tuple[str, ...], tuple[str, ...] | None] | None:
    """As `_parameters`, of a module; a native one's are those of its predictor, or of its call where it has none."""
    if module.native:
        fields = next((one.signature.input_fields for one in module.predictors()), None)
        if fields is not None:
            return tuple(n for n, one in fields.items() if one.required), tuple(fields)
        run = module.__call__
    else:
        run = getattr(module, "forward", None) or getattr(module, "aforward", None)
    function = getattr(run, "__func__", run)
    return _parameters(function, function is not run) if isinstance(function, FunctionType) else None


def _names(module: Any) -> tuple[str, ...]:
    """The inputs of a module, as far as its predictor or its own code names them."""
    known = _declared(module)
    return () if known is None else known[1] or known[0]


@lru_cache(maxsize=1024)
def _parameters(function: Callable[..., Any], bound: bool) -> tuple[tuple[str, ...], tuple[str, ...] | None] | None:
    """The names that must be given and, unless any may be, those that may; `None` where nobody can tell."""
    own = inspect.signature(function, follow_wrapped=False)  # a wrapper may give what the wrapped one needs
    parameters = list(own.parameters.values())[int(bound) :]
    if any(one.kind is one.POSITIONAL_ONLY for one in parameters):
        return None
    named = [one for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
    needed = tuple(one.name for one in named if one.default is one.empty)
    takes_any = any(one.kind is one.VAR_KEYWORD for one in parameters)
    return needed, None if takes_any else tuple(one.name for one in named)


def _wrong(module: object, what: str, taken: tuple[str, ...], field: str) -> InputError:
    return InputError(f"{type(module).__name__} {what}; it takes {', '.join(taken) or 'none'}", field=field)
