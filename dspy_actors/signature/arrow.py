"""The arrow form of a signature: `"context: list[str], question -> answer, confident: bool"`.

Both sides are read through Python's own grammar as parameters of a function; nothing is executed or imported
(a few modules of the standard library excepted, see `_MODULES`). Types are looked up in `custom_types`, then among
our field types, the builtins and `typing`. DSPy also searches the caller's frames for names; here they are given.
"""

from __future__ import annotations

import ast
import importlib
import re
import typing
from collections.abc import Mapping
from typing import Any

import pydantic

from dspy_actors.errors import SignatureError
from dspy_actors.signature.fields import Direction, Field
from dspy_actors.types.history import History
from dspy_actors.types.image import Image

_BUILTINS: dict[str, Any] = {
    kind.__name__: kind
    for kind in (str, int, float, bool, complex, bytes, bytearray, list, tuple, dict, set, frozenset, object)
}
_FIELD_TYPES: dict[str, Any] = {"Image": Image, "History": History}
_PACKAGES = ("dspy", "dspy_actors")
"""`dspy.Image` in a signature written for DSPy is our `Image`."""
_MODULES = frozenset({"typing", "datetime", "decimal", "uuid", "fractions", "pathlib", "collections"})
_ARROW = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|(->)""")


def parse_arrow(text: str, custom_types: Mapping[str, Any] | None = None) -> dict[str, Field]:
    """The fields of an arrow form, inputs first, in the order written.

    Raises `SignatureError` where it does not parse, a name comes twice or a type is unknown.
    """
    arrows = [match.start() for match in _ARROW.finditer(text) if match.group(1)]
    if len(arrows) != 1:
        msg = f"a signature has one arrow between inputs and outputs, as in 'question -> answer'; got {text!r}"
        raise SignatureError(msg)
    names = _Names(dict(custom_types or {}))
    fields: dict[str, Field] = {}
    sides: tuple[tuple[Direction, str], ...] = (("input", text[: arrows[0]]), ("output", text[arrows[0] + 2 :]))
    for direction, side in sides:
        for argument in _arguments(side):
            name = argument.arg
            if name in fields:
                msg = f"field {name!r} comes twice in {text!r}; each field needs a name of its own"
                raise SignatureError(msg, field=name)
            declared = Field(direction)
            if argument.annotation is None:
                fields[name] = declared.bound(name)
            else:
                fields[name] = declared.bound(name, names.type_of(argument.annotation, name))
    return fields


def _arguments(side: str) -> list[ast.arg]:
    """One side as the parameters of a function; anything but plain parameters is refused."""
    try:
        tree = ast.parse(f"def f({side}\n): pass")
    except SyntaxError as error:
        msg = f"cannot read the fields {side.strip()!r}: {error.msg}"
        raise SignatureError(msg) from error
    function = tree.body[0]
    if len(tree.body) != 1 or not isinstance(function, ast.FunctionDef) or not isinstance(function.body[0], ast.Pass):
        msg = f"cannot read the fields {side.strip()!r}: only names, types and commas belong there"
        raise SignatureError(msg)
    given = function.args
    if given.vararg or given.kwarg or given.kwonlyargs or given.posonlyargs or given.defaults or len(function.body) > 1:
        msg = f"cannot read the fields {side.strip()!r}: no defaults and no stars; write a Signature class for defaults"
        raise SignatureError(msg)
    return given.args


class _Names:
    """Types by name, for one signature."""

    def __init__(self, custom: dict[str, Any]) -> None:
        self._custom = custom

    def type_of(self, node: ast.expr, field: str) -> Any:
        """The type a node of the syntax tree names. Raises `SignatureError` naming `field`."""
        try:
            found = self._resolve(node)
        except SignatureError as error:
            raise SignatureError(f"field {field!r}: {error.message}", field=field) from error
        except (TypeError, AttributeError) as error:
            msg = f"field {field!r}: {ast.unparse(node)!r} is no type ({error})"
            raise SignatureError(msg, field=field) from error
        if isinstance(found, (str, int, float, bytes, tuple)):
            msg = f"field {field!r}: {ast.unparse(node)!r} is no type; options are written Literal['a', 'b']"
            raise SignatureError(msg, field=field)
        return found

    def _resolve(self, node: ast.expr) -> Any:
        match node:
            case ast.Name(id=name):
                return self._named(name)
            case ast.Attribute():
                return self._dotted(ast.unparse(node), node)
            case ast.Subscript(value=value, slice=ast.Tuple(elts=items)):
                return self._resolve(value)[tuple(self._resolve(item) for item in items)]
            case ast.Subscript(value=value, slice=item):
                return self._resolve(value)[self._resolve(item)]
            case ast.BinOp(left=left, op=ast.BitOr(), right=right):
                return typing.Union[self._resolve(left), self._resolve(right)]  # noqa: UP007 - built at run time
            case ast.Constant(value=value):
                return value
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
                return -number
            case ast.List(elts=items):
                return [self._resolve(item) for item in items]
            case ast.Call(func=ast.Name(id="Field"), args=[], keywords=options):
                return pydantic.Field(**{str(option.arg): self._resolve(option.value) for option in options})
        msg = f"{ast.unparse(node)!r} cannot stand in a type; write a Signature class for it"
        raise SignatureError(msg)

    def _named(self, name: str) -> Any:
        for known in (self._custom, _FIELD_TYPES, _BUILTINS):
            if name in known:
                return known[name]
        if name == "NoneType":
            return type(None)
        if name in typing.__all__:
            return getattr(typing, name)
        raise _unknown(name, name)

    def _dotted(self, path: str, node: ast.Attribute) -> Any:
        if path in self._custom:
            return self._custom[path]
        package, _, name = path.rpartition(".")
        if package in self._custom or isinstance(node.value, ast.Attribute):
            return getattr(self._resolve(node.value), name)
        if package in _PACKAGES and name in _FIELD_TYPES:
            return _FIELD_TYPES[name]
        if package in _MODULES:
            return getattr(importlib.import_module(package), name)
        raise _unknown(path, name)


def _unknown(path: str, name: str) -> SignatureError:
    return SignatureError(f"type {path!r} is unknown; write Signature('...', custom_types={{{path!r}: {name}}})")
