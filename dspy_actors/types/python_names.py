"""What a type is called in a prompt: Python notation, in the spelling DSPy prints."""

from __future__ import annotations

from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin


def python_name(annotation: Any) -> str:
    """`list[int]` for `typing.List[int]`, `Union[str, NoneType]` for `str | None`, `Literal['a', 'b']`."""
    origin = get_origin(annotation)
    if origin is None:
        return str(getattr(annotation, "__name__", annotation))
    if origin is Literal:
        return f"Literal[{', '.join(_option(option) for option in get_args(annotation))}]"
    name = "Union" if origin is UnionType or origin is Union else python_name(origin)
    return f"{name}[{', '.join(python_name(argument) for argument in get_args(annotation))}]"


def _option(option: Any) -> str:
    if not isinstance(option, str):
        return python_name(option)
    if "'" not in option:
        return f"'{option}'"
    if '"' not in option:
        return f'"{option}"'
    return "'" + option.replace("'", "\\'") + "'"
