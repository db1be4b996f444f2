"""What PROGRAM on the command line means: a signature, a saved program, or `package.module:attribute`."""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path

from dspy_actors.errors import DspyActorsError, SignatureError, StateError
from dspy_actors.modules.chain_of_thought import ChainOfThought
from dspy_actors.modules.embedder import Embedder
from dspy_actors.modules.module import Module
from dspy_actors.modules.predict import Predict
from dspy_actors.state import read_json

_FORMS = "write a signature ('question -> answer'), a saved .json file, or package.module:name"


class UnknownProgram(DspyActorsError, ValueError):
    """PROGRAM on the command line names nothing that can be run."""

    kind = "unknown_program"


@dataclass(frozen=True, slots=True)
class Inputs:
    """Columns that a program needs, and those it takes: `None` for every one there is."""

    needed: tuple[str, ...]
    taken: tuple[str, ...] | None


def open_program(text: str, signature: str | None) -> Module:
    """The module that `text` names.

    Raises `UnknownProgram`, `SignatureError` or `StateError`, each with what to write instead.
    """
    is_saved = "->" not in text and text.endswith(".json")
    if signature is not None and not is_saved:
        msg = f"--signature says what a saved .json PROGRAM takes and gives; {text!r} is none, leave it out"
        raise UnknownProgram(msg)
    if is_saved:
        return _saved(Path(text), signature)
    if "->" in text:
        return _checked(Predict(text), text)
    where, colon, name = text.partition(":")
    if colon and name.isidentifier() and all(part.isidentifier() for part in where.split(".")):
        return _attribute(text, where, name)
    msg = f"{text!r} is no program: {_FORMS}"
    raise UnknownProgram(msg)


def inputs_of(module: Module) -> Inputs:
    """What `module` takes of a row, as its `forward` says; where that takes `**anything`, its first predictor."""
    body = None if module.native else getattr(module, "aforward", None) or getattr(module, "forward", None)
    if body is not None:
        parameters = inspect.signature(body).parameters.values()
        if all(p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) for p in parameters):
            return Inputs(tuple(p.name for p in parameters if p.default is p.empty), tuple(p.name for p in parameters))
    for predictor in module.predictors():
        fields = predictor.signature.input_fields
        return Inputs(tuple(name for name, field in fields.items() if field.required), tuple(fields))
    return Inputs(("texts",), ("texts",)) if isinstance(module, Embedder) else Inputs((), None)


def _saved(path: Path, signature: str | None) -> Module:
    if not path.is_file():
        msg = f"{path}: there is no such file"
        raise StateError(msg, path=str(path))
    if signature is None:
        msg = f"{path}: a saved program does not hold its signature; add --signature 'question -> answer'"
        raise SignatureError(msg)
    module: Module = ChainOfThought(signature) if "predict" in read_json(path) else Predict(signature)
    module.load(path)
    return _checked(module, signature)


def _checked(module: Module, text: str) -> Module:
    fields = module.predictors()[0].signature
    for side, found in (("input", fields.input_fields), ("output", fields.output_fields)):
        if not found:
            msg = f"the signature {text!r} has no {side}; write 'question -> answer'"
            raise SignatureError(msg)
    return module


def _attribute(text: str, where: str, name: str) -> Module:
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        module = importlib.import_module(where)
    except ModuleNotFoundError as error:
        msg = f"{text!r}: {error}; run the command where it lies, or install it"
        raise UnknownProgram(msg) from error
    except Exception as error:  # the user's own code: whatever it raises means that there is no program
        raise _raised(f"{text!r}: importing {where}", error) from error
    found = getattr(module, name, None)
    if found is None:
        msg = f"{text!r}: the module {where!r} has no {name!r}"
        raise UnknownProgram(msg)
    try:
        made = found() if callable(found) and not isinstance(found, Module) else found
    except Exception as error:  # as above
        raise _raised(f"{text!r}: {name}()", error) from error
    if not isinstance(made, Module):
        msg = f"{text!r} is a {type(made).__name__}; name a Module, a Module class or a function that returns one"
        raise UnknownProgram(msg)
    return made


def _raised(what: str, error: Exception) -> UnknownProgram:
    """The error of somebody else's code in one line, with the place it came from."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    is_theirs = last.filename != __file__ and not last.filename.startswith("<frozen")
    place = f" ({last.filename}, line {last.lineno})" if is_theirs else ""
    return UnknownProgram(f"{what} raised {type(error).__name__}: {error}{place}")
