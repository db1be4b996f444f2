"""`Signature`: a class that says what a program is given and what it produces.

```python
class Classify(Signature):
    \"\"\"Say what the customer wants.\"\"\"

    message: str = InputField(desc="the customer's own words")
    intent: Literal["order", "complaint"] = OutputField()

Classify = make_signature("message -> intent: Literal['order', 'complaint']", "Say what the customer wants.")
```

A signature is never instantiated and never changed: each editing method returns a new class. Fields keep the order
they are declared in, inputs before outputs. The rules are DSPy 3.4.1's; where it warns or goes on, this raises.
"""

from __future__ import annotations

import copyreg
import inspect
import sys
import typing
from collections.abc import Iterable, Mapping
from types import FunctionType, MappingProxyType
from typing import Any, ClassVar, get_origin

from dspy_actors.errors import SignatureError
from dspy_actors.signature.arrow import parse_arrow
from dspy_actors.signature.fields import MISSING, Direction, Field
from dspy_actors.types.python_names import python_name

UNNAMED = "StringSignature"
"""The name of the class behind an arrow form, as in DSPy."""

_NOT_FIELDS = (FunctionType, classmethod, staticmethod, property)


class SignatureMeta(type):
    """The class of signatures: collects the declared fields and answers for them."""

    _fields: Mapping[str, Field]
    _inputs: Mapping[str, Field]
    _outputs: Mapping[str, Field]
    _instructions: str
    _own_words: bool
    """Whether the instructions were written by someone, not made from the field names."""

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> SignatureMeta:
        declared = {key: value for key, value in namespace.items() if isinstance(value, Field)}
        kept = {key: value for key, value in namespace.items() if key not in declared}
        made = super().__new__(mcs, name, bases, kept)
        inherited: dict[str, Field] = {}
        words: str | None = None
        for base in reversed(bases):
            if isinstance(base, SignatureMeta):
                inherited.update(base._fields)
                words = base._instructions if base._own_words else words
        annotations = _annotations(made, sys._getframe(1).f_locals) if bases else {}
        _refuse_strays(name, kept, annotations, declared)
        fields = inherited | {key: field.bound(key, annotations.get(key, MISSING)) for key, field in declared.items()}
        doc = kept.get("__doc__") if bases else None
        _fill(made, fields, words if doc is None else inspect.cleandoc(doc))
        return made

    def __call__(cls, *args: Any, **kwargs: Any) -> type[Signature]:
        """`Signature("question -> answer")` is `make_signature`; a signature itself has no instances."""
        if cls is Signature:
            return make_signature(*args, **kwargs)
        msg = f"{cls.label} is a description, not something to call; write Predict({cls.label})(...)"
        raise TypeError(msg)

    @property
    def fields(cls) -> Mapping[str, Field]:
        """All fields by name, inputs first."""
        return cls._fields

    @property
    def input_fields(cls) -> Mapping[str, Field]:
        """Inputs by name, in declaration order."""
        return cls._inputs

    @property
    def output_fields(cls) -> Mapping[str, Field]:
        """Outputs by name, in declaration order."""
        return cls._outputs

    @property
    def instructions(cls) -> str:
        """What the model is told to do: the docstring, or a sentence made of the field names."""
        return cls._instructions

    @property
    def signature(cls) -> str:
        """The names in arrow form: `context, question -> answer`."""
        return f"{', '.join(cls._inputs)} -> {', '.join(cls._outputs)}"

    @property
    def label(cls) -> str:
        """What messages call it: its name, or the arrow form in quotes where it was made without a name."""
        return f"'{cls.signature}'" if cls.__name__ == UNNAMED else cls.__name__

    def __repr__(cls) -> str:
        sides = (
            ", ".join(f"{field.name}: {python_name(field.annotation)}" for field in side.values())
            for side in (cls._inputs, cls._outputs)
        )
        return f"{cls.__name__}({' -> '.join(sides)})"


def _fill(made: SignatureMeta, fields: Mapping[str, Field], instructions: str | None) -> None:
    sides: dict[Direction, dict[str, Field]] = {"input": {}, "output": {}}
    for name, field in fields.items():
        sides[field.direction][name] = field
    made._inputs = MappingProxyType(sides["input"])
    made._outputs = MappingProxyType(sides["output"])
    made._fields = MappingProxyType({**sides["input"], **sides["output"]})
    made._own_words = instructions is not None
    made._instructions = _sentence(sides["input"], sides["output"]) if instructions is None else instructions


def _sentence(inputs: Iterable[str], outputs: Iterable[str]) -> str:
    """The instructions of a signature without any. DSPy's formula: its files and proposals hold it."""
    given, produced = (", ".join(f"`{name}`" for name in side) for side in (inputs, outputs))
    return f"Given the fields {given}, produce the fields {produced}."


def _annotations(made: type, local: Mapping[str, Any]) -> dict[str, Any]:
    """The class's own annotations; those written as text are read in its module and where it is defined."""
    try:
        own = inspect.get_annotations(made)
        scope = vars(sys.modules.get(made.__module__, typing))
        return {
            name: eval(given, dict(scope), dict(local)) if isinstance(given, str) else given
            for name, given in own.items()
        }
    except (NameError, SyntaxError, TypeError, AttributeError) as error:
        msg = f"a type in {made.__name__} cannot be read: {error}; define or import it above the class"
        raise SignatureError(msg) from error


def _refuse_strays(
    name: str, kept: Mapping[str, Any], annotations: Mapping[str, Any], declared: Mapping[str, Field]
) -> None:
    """Only fields, methods and class variables stand in a signature."""
    class_variables = {key for key, kind in annotations.items() if kind is ClassVar or get_origin(kind) is ClassVar}
    for key in [*kept, *annotations]:
        hidden = key.startswith("_") or key in class_variables or key in declared
        if not hidden and not isinstance(kept.get(key), _NOT_FIELDS):
            msg = f"{name}.{key} is no field; write {key}: ... = InputField() or OutputField()"
            raise SignatureError(msg, field=key)


class Signature(metaclass=SignatureMeta):
    """Base of all signatures; `Signature("question -> answer", "Be brief.")` makes one from text, as in DSPy.

    Type checkers do not follow a class that makes classes; `make_signature` is the same and typed.
    """

    @classmethod
    def with_instructions(cls, instructions: str) -> type[Signature]:
        """The same fields under other instructions."""
        return _made(cls.__name__, cls.fields, instructions)

    @classmethod
    def append_instructions(cls, instructions: str) -> type[Signature]:
        """The instructions, a blank line, then `instructions`."""
        return _made(cls.__name__, cls.fields, f"{cls.instructions}\n\n{instructions}")

    @classmethod
    def with_updated_fields(cls, name: str, type_: Any = None, **changes: Any) -> type[Signature]:
        """The field `name` with another type, `desc` or `prefix`. Raises `SignatureError` for an unknown name."""
        if name not in cls.fields:
            msg = f"{cls.label} has no field {name!r}; it has {', '.join(cls.fields) or 'none'}"
            raise SignatureError(msg, field=name)
        field = cls.fields[name].changed(**changes)
        fields = {**cls.fields, name: field if type_ is None else field.bound(name, type_)}
        return _made(cls.__name__, fields, cls.instructions)

    @classmethod
    def prepend(cls, name: str, field: Any, type_: Any = None) -> type[Signature]:
        """The field before the other inputs or outputs."""
        return cls.insert(0, name, field, type_)

    @classmethod
    def append(cls, name: str, field: Any, type_: Any = None) -> type[Signature]:
        """The field behind the other inputs or outputs."""
        return cls.insert(-1, name, field, type_)

    @classmethod
    def insert(cls, index: int, name: str, field: Any, type_: Any = None) -> type[Signature]:
        """The field at `index` among the inputs or the outputs; negative counts from behind, -1 is the end.

        `field` is made by `InputField()` or `OutputField()`. Raises `SignatureError` where `index` is out of range.
        """
        if not isinstance(field, Field):
            msg = f"field {name!r} needs InputField() or OutputField(), not {type(field).__name__}"
            raise SignatureError(msg, field=name)
        section = cls.input_fields if field.direction == "input" else cls.output_fields
        side = [item for item in section.items() if item[0] != name]
        place = index + len(side) + 1 if index < 0 else index
        if not 0 <= place <= len(side):
            msg = f"cannot insert {name!r} at {index}: {cls.label} has {len(side)} {field.direction} fields"
            raise SignatureError(msg, field=name)
        side.insert(place, (name, field.bound(name, MISSING if type_ is None else type_)))
        others = [item for item in cls.fields.items() if item[1].direction != field.direction and item[0] != name]
        return _made(cls.__name__, dict(side + others), cls.instructions)

    @classmethod
    def delete(cls, name: str) -> type[Signature]:
        """Without the field `name`; the same fields where there is none."""
        return _made(cls.__name__, {key: f for key, f in cls.fields.items() if key != name}, cls.instructions)

    @classmethod
    def equals(cls, other: object) -> bool:
        """Whether instructions and fields are the same, in the same order."""
        if not isinstance(other, SignatureMeta):
            return False
        return cls.instructions == other.instructions and list(cls.fields.values()) == list(other.fields.values())


def make_signature(
    signature: str | Mapping[str, Any],
    instructions: str | None = None,
    signature_name: str = UNNAMED,
    custom_types: Mapping[str, Any] | None = None,
) -> type[Signature]:
    """A signature from its arrow form, or from a mapping of names to fields or `(type, field)` pairs.

    `custom_types` gives the types whose names the arrow form uses. Raises `SignatureError`.
    """
    if isinstance(signature, str):
        return _made(signature_name, parse_arrow(signature, custom_types), instructions)
    fields: dict[str, Field] = {}
    for name, given in signature.items():
        type_, field = given if isinstance(given, tuple) and len(given) == 2 else (MISSING, given)
        if not isinstance(field, Field):
            msg = f"field {name!r} is given as InputField(), OutputField() or (type, InputField()); got {given!r}"
            raise SignatureError(msg, field=str(name))
        fields[name] = field.bound(name, type_)
    return _made(signature_name, fields, instructions)


def ensure_signature(signature: object, instructions: str | None = None) -> type[Signature]:
    """`signature` itself if it is one, else made of its arrow form. Raises `SignatureError`."""
    if isinstance(signature, str):
        return make_signature(signature, instructions)
    if not isinstance(signature, SignatureMeta):
        msg = f"a signature is a string such as 'question -> answer' or a Signature class; got {signature!r}"
        raise SignatureError(msg)
    given = typing.cast("type[Signature]", signature)
    return given if instructions is None else given.with_instructions(instructions)


def _made(name: str, fields: Mapping[str, Field], instructions: str | None) -> type[Signature]:
    made = type.__new__(SignatureMeta, name, (Signature,), {"__module__": __name__, "__doc__": instructions})
    _fill(made, fields, None if instructions is None else inspect.cleandoc(instructions))
    return typing.cast("type[Signature]", made)


def _reduce(signature: SignatureMeta) -> Any:
    """How a signature is pickled: by name where it can be imported, else by its fields."""
    module = sys.modules.get(signature.__module__)
    found: Any = module
    for part in signature.__qualname__.split("."):
        found = getattr(found, part, None)
    if found is signature:
        return signature.__qualname__
    return (_made, (signature.__name__, dict(signature.fields), signature.instructions))


copyreg.pickle(SignatureMeta, _reduce)
