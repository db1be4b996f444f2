"""`made_by`: what a line of a result file says of the program and the model that made it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dspy_actors.cache.keys import canonical
from dspy_actors.lm.lm import LM
from dspy_actors.modules.fingerprint import fingerprint, packed, parameters_mark
from dspy_actors.modules.module import Module

DIGITS = 12


def made_by(module: Module, lm: LM) -> dict[str, str]:
    """The `model` that is asked, and 12 hex digits for the `program`: its parameters, its code, the model's options.

    Where the model is served is no part of it. A program that cannot be named, as one that an open file is part of, has
    none. Code that `forward` calls elsewhere is not seen.
    """
    said = {"model": lm.name}
    program = fingerprint(module) or parameters_mark(module)
    if program is not None:
        options = [[each.name, canonical(dict(each.options))] for each in (lm, *(one.lm for one in lm.fallbacks))]
        said["program"] = packed([program, options]).hex()[:DIGITS]
    return said


def is_by_another(record: Mapping[str, Any], made: Mapping[str, str]) -> bool:
    """Whether the line `record` says that it was not made as `made` says; one that says nothing may have been."""
    return any(name in record and record[name] != value for name, value in made.items())
