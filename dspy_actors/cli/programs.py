"""What PROGRAM on the command line means: a signature, a saved program, or `package.module:attribute`."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from dspy_actors.errors import DspyActorsError, SignatureError, StateError
from dspy_actors.modules.chain_of_thought import ChainOfThought
from dspy_actors.modules.module import Module
from dspy_actors.modules.predict import Predict
from dspy_actors.state import read_json


class UnknownProgram(DspyActorsError, ValueError):
    """PROGRAM on the command line names nothing that can be run."""

    kind = "unknown_program"


def open_program(text: str, signature: str | None) -> Module:
    """The module that `text` names.

    Raises `UnknownProgram`, `SignatureError` or `StateError`, each with what to write instead.
    """
    if "->" in text:
        return Predict(text)
    if text.endswith(".json"):
        return _saved(Path(text), signature)
    if ":" in text:
        return _attribute(text)
    msg = (
        f"{text!r} is no program: write a signature ('question -> answer'), a saved .json file, or package.module:name"
    )
    raise UnknownProgram(msg)


def input_names(module: Module) -> list[str]:
    """The inputs a program needs, as far as its first predictor tells; none where it has no predictor."""
    for predictor in module.predictors():
        return [name for name, field in predictor.signature.input_fields.items() if field.required]
    return []


def _saved(path: Path, signature: str | None) -> Module:
    if not path.is_file():
        msg = f"{path}: there is no such file"
        raise StateError(msg, path=str(path))
    if signature is None:
        msg = f"{path}: a saved program does not hold its signature; add --signature 'question -> answer'"
        raise SignatureError(msg)
    module: Module = ChainOfThought(signature) if "predict" in read_json(path) else Predict(signature)
    module.load(path)
    return module


def _attribute(text: str) -> Module:
    where, _, name = text.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found = getattr(importlib.import_module(where), name)
    except ImportError as error:
        msg = f"{text!r}: the module {where!r} cannot be imported ({error})"
        raise UnknownProgram(msg) from error
    except AttributeError as error:
        msg = f"{text!r}: the module {where!r} has no {name!r}"
        raise UnknownProgram(msg) from error
    made = found() if isinstance(found, type) or (callable(found) and not isinstance(found, Module)) else found
    if not isinstance(made, Module):
        msg = f"{text!r} is a {type(made).__name__}; name a Module, a Module class or a function that returns one"
        raise UnknownProgram(msg)
    return made
