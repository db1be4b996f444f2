"""Saved programs: DSPy 3.4.1's JSON, read and written. Never pickle.

A file holds, by predictor, its demos, the signature's words (instructions, and prefix and description of each field
by position) and the LM without its key. DSPy loads our files and we load DSPy's. Two shapes: a program that is a
single predictor (named `self`) is one object, a composed program one object a predictor, keyed by name (`cot.predict`,
`many[0]`). Beside DSPy's `metadata.dependency_versions` stands our `metadata.dspy_actors` with the field names, which
DSPy's format lacks; so a file of ours is checked by name, a file of DSPy's by number and by the names that show in
its descriptions and demos. A file that does not fit is refused whole, with `StateError`; DSPy loads it silently.
"""

from __future__ import annotations

import json
import os
import platform
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic_core import PydanticSerializationError, to_jsonable_python

from dspy_actors.errors import StateError
from dspy_actors.example import Example
from dspy_actors.put_in_place import put_in_place
from dspy_actors.secret import Secret
from dspy_actors.signature.fields import Field
from dspy_actors.signature.signature import Signature, make_signature

ALONE = "self"
"""The name of the predictor in a program that is one."""
_VERSION = 1
_DSPY_VERSIONS = {"dspy": "3.4.1", "cloudpickle": "3.1"}
"""The release whose format this is. DSPy compares them and warns; it fails on a key it does not know."""
_OUR_KEYS = ("traces", "train", "demos", "signature", "lm")
_SECRET_KEY = re.compile(r"api.?key|authorization|secret|password|credential|(access|auth|ad|bearer).?token", re.I)
_ENDPOINT_KEYS = frozenset({"api_base", "base_url", "model_list"})
_NAMED_DESC = re.compile(r"\$\{(\w+)\}\Z")

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class PredictorState:
    """What is saved of one predictor.

    `lm` is the LM's settings by DSPy's names, or `None` where the runtime's LM is used. `traces` and `train` are kept
    for DSPy's sake; `extra` holds what else its file had for the predictor.
    """

    signature: type[Signature]
    demos: tuple[Mapping[str, Any] | Example, ...] = ()
    lm: Mapping[str, Any] | None = None
    traces: tuple[Any, ...] = ()
    train: tuple[Any, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)


def save(path: str | os.PathLike[str], predictors: Mapping[str, PredictorState]) -> None:
    """Write a program's state to a `.json` file, atomically. Blocks on the disk."""
    write_json_atomic(path, dump(predictors))


def load(
    path: str | os.PathLike[str], expected: Mapping[str, PredictorState], *, allow_endpoints: bool = False
) -> dict[str, PredictorState]:
    """Read a program's state from a `.json` file; see `restore`. Blocks on the disk."""
    return restore(read_json(path), expected, path, allow_endpoints=allow_endpoints)


def dump(predictors: Mapping[str, PredictorState]) -> Json:
    """The state as JSON data in DSPy's shape, without keys and other secrets.

    Raises `StateError` naming the predictor whose demos hold what is no JSON data.
    """
    states = {name: _dumped(name, state) for name, state in predictors.items()}
    alone = set(states) == {ALONE}
    metadata = {
        "dependency_versions": {"python": ".".join(platform.python_version_tuple()[:2]), **_DSPY_VERSIONS},
        "dspy_actors": {
            "version": _VERSION,
            "signatures": {
                name: {"inputs": list(state.signature.input_fields), "outputs": list(state.signature.output_fields)}
                for name, state in predictors.items()
            },
        },
    }
    return {**(states[ALONE] if alone else states), "metadata": metadata}


def restore(
    data: Mapping[str, Any],
    expected: Mapping[str, PredictorState],
    path: str | os.PathLike[str] = "<memory>",
    *,
    allow_endpoints: bool = False,
) -> dict[str, PredictorState]:
    """The predictors of a program with what the file holds: words of the signature, demos, LM.

    `expected` is the program as it stands; nothing in it is changed. Raises `StateError(path, predictor)` where the
    file lacks a predictor, has one more, or was written for other fields. Where requests go is taken from a file only
    with `allow_endpoints=True` (DSPy's `allow_unsafe_lm_state`); else `api_base`, `base_url` and `model_list` are
    dropped with a warning, because a stranger's file could send your key to the stranger's server.
    """
    where = str(path)
    recorded = _recorded(data, where)
    alone = set(expected) == {ALONE}
    if alone != ("signature" in data and "demos" in data):
        shape = "a single predictor" if alone else f"the predictors {', '.join(expected) or 'none'}"
        msg = f"{where} was saved from another kind of program: this one has {shape}; the file has {_shape(data)}"
        raise StateError(msg, path=where)
    states: Mapping[str, Any] = {ALONE: data} if alone else data
    _compare_names(states, expected, where)
    return {
        name: _restored(_Place(where, name), states[name], state, recorded.get(name), allow_endpoints)
        for name, state in expected.items()
    }


@dataclass(frozen=True, slots=True)
class _Place:
    path: str
    predictor: str

    def refuse(self, why: str) -> StateError:
        return StateError(f"{self.path}, predictor {self.predictor}: {why}", path=self.path, predictor=self.predictor)


def _dumped(name: str, state: PredictorState) -> Json:
    fields = [{"prefix": f.prefix, "description": f.desc} for f in state.signature.fields.values()]
    lm = None
    if state.lm is not None:
        lm = {"_dspy_lm_class": "dspy.clients.lm.LM", **_without_secrets(state.lm)}
    try:
        return {
            "traces": to_jsonable_python(list(state.traces)),
            "train": [to_jsonable_python(_as_dict(item)) for item in state.train],
            "demos": [to_jsonable_python(_as_dict(demo)) for demo in state.demos],
            "signature": {"instructions": state.signature.instructions, "fields": fields},
            **to_jsonable_python(dict(state.extra)),
            "lm": to_jsonable_python(lm),
        }
    except (PydanticSerializationError, UnicodeDecodeError, ValueError) as error:
        msg = f"predictor {name} cannot be saved as JSON: {error}; keep to data, pydantic models and dataclasses"
        raise StateError(msg, predictor=name) from error


def _as_dict(item: Any) -> Any:
    if isinstance(item, Example):
        return item.toDict()
    return Example(item).toDict() if isinstance(item, Mapping) else item


def _without_secrets(value: Any) -> Any:
    """`value` without anything that is a key by its type or by its name, at any depth."""
    if isinstance(value, Mapping):
        return {
            key: _without_secrets(item)
            for key, item in value.items()
            if not isinstance(item, Secret) and not _SECRET_KEY.search(str(key))
        }
    if isinstance(value, (list, tuple)):
        return [_without_secrets(item) for item in value if not isinstance(item, Secret)]
    return value


def _recorded(data: Mapping[str, Any], path: str) -> dict[str, Json]:
    """The field names by predictor where we wrote the file; empty for DSPy's."""
    metadata = data.get("metadata")
    ours = metadata.get("dspy_actors") if isinstance(metadata, Mapping) else None
    if not isinstance(ours, Mapping):
        return {}
    version = ours.get("version")
    signatures = ours.get("signatures")
    if not isinstance(version, int) or version > _VERSION or not isinstance(signatures, Mapping):
        msg = f"{path} was written by a later release (format {version}, this one reads {_VERSION}); upgrade"
        raise StateError(msg, path=path)
    return dict(signatures)


def _is_predictor(state: object) -> bool:
    return isinstance(state, Mapping) and "signature" in state and "demos" in state


def _shape(data: Mapping[str, Any]) -> str:
    if _is_predictor(data):
        return "a single predictor"
    return f"the predictors {', '.join(n for n, s in data.items() if _is_predictor(s)) or 'none'}"


def _compare_names(states: Mapping[str, Any], expected: Mapping[str, PredictorState], path: str) -> None:
    for name in expected:
        if not _is_predictor(states.get(name)):
            msg = f"{path} has no predictor {name}: it has {_shape(states)}, the program has {', '.join(expected)}"
            raise StateError(msg, path=path, predictor=name)
    for name, state in states.items():
        if name not in expected and name != "metadata" and _is_predictor(state):
            msg = f"{path} has the predictor {name}, which the program lacks: it has {', '.join(expected) or 'none'}"
            raise StateError(msg, path=path, predictor=name)


def _restored(
    place: _Place, data: Json, state: PredictorState, names: Json | None, allow_endpoints: bool
) -> PredictorState:
    signature = _signature(place, data["signature"], state.signature, names)
    demos = data["demos"]
    if not isinstance(demos, list) or not all(isinstance(demo, Mapping) for demo in demos):
        raise place.refuse("its demos are no list of objects")
    for demo in demos:
        if demo and not any(name in demo for name in signature.fields):
            held, wanted = ", ".join(demo), ", ".join(signature.fields)
            raise place.refuse(f"a demo with the fields {held} does not fit the signature's {wanted}")
    return replace(
        state,
        signature=signature,
        demos=tuple(demos),
        lm=_lm(place, data.get("lm"), allow_endpoints),
        traces=tuple(data.get("traces") or ()),
        train=tuple(data.get("train") or ()),
        extra={key: value for key, value in data.items() if key not in _OUR_KEYS and key != "metadata"},
    )


def _signature(place: _Place, words: Any, signature: type[Signature], names: Json | None) -> type[Signature]:
    """The signature with the file's words, after every check that the file was written for these fields."""
    if not isinstance(words, Mapping) or not isinstance(words.get("instructions"), str):
        raise place.refuse("its signature has no instructions")
    saved = words.get("fields")
    if not isinstance(saved, list) or not all(_is_field(item) for item in saved):
        raise place.refuse("its signature's fields are not pairs of prefix and description")
    if names is not None:
        _compare_fields(place, names, signature)
    if len(saved) != len(signature.fields):
        raise place.refuse(f"it was saved with {len(saved)} fields, the signature has {signature.signature}")
    fields: dict[str, Field] = {}
    for item, (name, own) in zip(saved, signature.fields.items(), strict=True):
        told = _NAMED_DESC.match(item["description"])
        if told is not None and told.group(1) != name and item["description"] != own.desc:
            raise place.refuse(f"it was saved for a field {told.group(1)!r} where the signature has {name!r}")
        fields[name] = own.changed(prefix=item["prefix"], desc=item["description"])
    return make_signature(fields, words["instructions"], signature.__name__)


def _is_field(item: Any) -> bool:
    keys = ("prefix", "description")
    return isinstance(item, Mapping) and all(isinstance(item.get(key), str) for key in keys)


def _compare_fields(place: _Place, names: Json, signature: type[Signature]) -> None:
    for side, own in (("inputs", list(signature.input_fields)), ("outputs", list(signature.output_fields))):
        if names.get(side) != own:
            held = ", ".join(names.get(side) or ()) or "none"
            raise place.refuse(f"it was saved with the {side} {held}, the signature has {', '.join(own) or 'none'}")


def _lm(place: _Place, lm: Any, allow_endpoints: bool) -> Mapping[str, Any] | None:
    if lm is None:
        return None
    if not isinstance(lm, Mapping):
        raise place.refuse("its lm is no object")
    kept: Json = _without_secrets(lm)
    dropped = sorted(_ENDPOINT_KEYS & set(kept))
    if dropped and not allow_endpoints:
        warnings.warn(
            f"{place.path}, predictor {place.predictor}: {', '.join(dropped)} of the saved LM was left out; "
            "load with allow_endpoints=True if you trust the file",
            stacklevel=2,
        )
        kept = {key: value for key, value in kept.items() if key not in _ENDPOINT_KEYS}
    return kept


def write_json_atomic(path: str | os.PathLike[str], data: Mapping[str, Any]) -> None:
    """Write JSON so that the file holds the old content or the new one, whatever happens in between.

    Raises `StateError` for a suffix other than `.json` and for data that is no JSON (`nan` included), `OSError` where
    the disk refuses.
    """
    target = Path(os.path.realpath(path))
    _needs_json_suffix(target)
    try:
        text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)
        content = (text + "\n").encode("utf-8", "backslashreplace")  # half a surrogate, as JSON escapes it
    except (TypeError, ValueError) as error:
        msg = f"{path} was not written, the state is no JSON: {error}"
        raise StateError(msg, path=str(path)) from error
    with put_in_place(target) as file:
        file.write(content)


def read_json(path: str | os.PathLike[str]) -> Json:
    """The JSON object in a file. Raises `StateError` where it is missing, cut, no JSON or no object."""
    _needs_json_suffix(Path(path))
    try:
        data = json.loads(Path(path).read_bytes())
    except FileNotFoundError as error:
        msg = f"there is no file {path}; save a program first: program.save({str(path)!r})"
        raise StateError(msg, path=str(path)) from error
    except (OSError, ValueError, RecursionError) as error:
        msg = f"{path} cannot be read as JSON: {error}"
        raise StateError(msg, path=str(path)) from error
    if not isinstance(data, dict):
        msg = f"{path} holds {type(data).__name__}, not the object a saved program is"
        raise StateError(msg, path=str(path))
    return data


def _needs_json_suffix(path: Path) -> None:
    if path.suffix != ".json":
        msg = f"{path} should end in .json; pickle is neither read nor written, because reading it runs its code"
        raise StateError(msg, path=str(path))
