"""`Results`: what programs answered and how examples were scored, kept for equal parameters and equal inputs.

Two tables beside the models' answers: a program's results, for programs started with `cached=True`, and evaluations,
for `Evaluate(reuse=True)`. Both are asked for, never on by themselves: a program may do more than compute. Keys hold
everything that decides an answer: the parameters of every predictor, the model and its options, the adapter, the
tenant, the sample number and the inputs. What cannot be written canonically has no key and is not kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any
from weakref import WeakKeyDictionary

import msgpack  # type: ignore[import-untyped]

from dspy_actors.cache.keys import canonical
from dspy_actors.cache.table import Table
from dspy_actors.example import Example, Prediction
from dspy_actors.modules.module import Module
from dspy_actors.modules.record import Record
from dspy_actors.runner import Settings
from dspy_actors.state import dump
from supervisors.clock import Clock

SECONDS = 1800.0
"""How long a result and a score are good."""


class Results:
    """The two tables of one runtime, published. Safe from any thread."""

    def __init__(self, clock: Clock) -> None:
        self.predictions: Table[bytes, Prediction] = Table(clock, max_entries=20_000, ttl=SECONDS)
        self.scores: Table[bytes, tuple[Prediction, float]] = Table(clock, max_entries=200_000, ttl=SECONDS)

    def sweep(self) -> None:
        """Drop what has expired."""
        self.predictions.sweep()
        self.scores.sweep()

    @staticmethod
    def size(prediction: Prediction) -> int:
        """About how many bytes a prediction takes."""
        return 512 + sum(len(str(value)) for value in prediction.values())


def fingerprint(module: Module) -> bytes | None:
    """32 bytes that name a program with its parameters; `None` where they cannot be written canonically."""
    try:
        state = dump(module.dump_state())
        predictors: list[tuple[str, Any]] = [
            (name, one) for name, one in module.named_sub_modules() if getattr(one, "is_predictor", False)
        ]
        signatures = [
            [name, repr(one.signature.fields), one.signature.instructions, dict(one.config), where(one.lm)]
            for name, one in predictors
        ]
        named = f"{type(module).__module__}.{type(module).__qualname__}"
        packed: bytes = msgpack.packb((named, canonical(state), canonical(signatures)), unicode_errors="surrogatepass")
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None
    return sha256(packed).digest()


_KNOWN: WeakKeyDictionary[Module, bytes | None] = WeakKeyDictionary()


def fingerprint_of(record: Record) -> bytes | None:
    """The fingerprint of a started program's version, whose module nobody changes: computed once."""
    module = record.module
    try:
        return _KNOWN[module]
    except KeyError:
        found = _KNOWN[module] = fingerprint(module)
        return found


def result_key(program: bytes | None, inputs: Mapping[str, Any], settings: Settings) -> bytes | None:
    """The key of one call of a program; `None` where it has none."""
    if program is None:
        return None
    lm = settings.lm
    try:
        packed: bytes = msgpack.packb(
            (
                program,
                canonical(dict(inputs)),
                where(lm),
                canonical(dict(settings.options)),
                settings.adapter.name,
                settings.tenant,
                settings.sample,
            ),
            unicode_errors="surrogatepass",
        )
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None
    return sha256(packed).digest()


def score_key(result: bytes | None, example: Example, metric: object) -> bytes | None:
    """The key of one example's score by one metric; `None` where it has none."""
    if result is None:
        return None
    named = f"{getattr(metric, '__module__', '')}.{getattr(metric, '__qualname__', '')}"
    if named == "." or "<lambda>" in named:  # two different lambdas of one place have one name
        return None
    try:
        packed: bytes = msgpack.packb((result, canonical(example.toDict()), named), unicode_errors="surrogatepass")
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None
    return sha256(packed).digest()


def where(lm: Any) -> object:
    """What of a model decides its answers, as plain data. Raises `TypeError` for options that are none."""
    return None if lm is None else [lm.name, lm.base_url, canonical(dict(lm.options))]


def key_in(results: Results | None, record: Record, inputs: Mapping[str, Any], settings: Settings) -> bytes | None:
    """The key of a call of a started program; `None` where its results are not kept."""
    return None if results is None else result_key(fingerprint_of(record), inputs, settings)


def kept(results: Results | None, key: bytes | None) -> Prediction | None:
    """What the program answered to an equal call, if it is kept."""
    found = None if key is None or results is None else results.predictions.get(key)
    return None if found is None else found.with_call(usage=None, attempts=0, cached=True)


def keep(results: Results | None, key: bytes | None, prediction: Prediction) -> Prediction:
    """Keep `prediction`, where results are kept; gives it back."""
    if key is not None and results is not None:
        results.predictions.put(key, prediction, results.size(prediction))
    return prediction
