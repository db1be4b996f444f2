"""`uncopied`: what is told of a module that cannot be copied, by the attribute that keeps it from that."""

from __future__ import annotations

import copy
from collections.abc import Iterable

from dspy_actors.errors import ModuleError


def uncopied(module: object, parts: Iterable[tuple[str, object]], error: Exception) -> ModuleError:
    """The error for `module`, whose copy failed with `error`; `parts` are it and the modules below it, by dotted name.

    It names the attribute of the innermost part, found by copying one after the other.
    """
    root = type(module).__name__
    found: tuple[str, str, Exception] | None = None
    for name, part in parts:
        above = root if part is module else f"{root}.{name}"
        for attribute, value in vars(part).items():
            failure = _failure(value)
            if failure is not None:  # what is below comes later, and says more
                found = f"{above}.{attribute}", type(part).__name__, failure
    if found is None:
        msg = f"{root} cannot be copied, as a module is when it is started: {error!r}; see its __deepcopy__"
        return ModuleError(msg, module=root)
    attribute, owner, failure = found
    msg = (
        f"{attribute} cannot be copied, as a module is with all it holds when it is started: {failure}. Make it in "
        f"forward, keep it in an actor and hold that one's ref, or share it: write {owner}.__deepcopy__"
    )
    return ModuleError(msg, module=root, attribute=attribute)


def _failure(value: object) -> Exception | None:
    try:
        copy.deepcopy(value)
    except Exception as error:
        return error
    return None
