"""`Results`: what programs answered and how examples were scored, kept for equal parameters and equal inputs.

Two tables beside the models' answers: a program's results, for programs started with `cached=True`, and evaluations,
for `Evaluate(reuse=True)`. Both are asked for, never on by themselves: a program may do more than compute. Keys hold
everything that decides an answer: the program's fingerprint, the model and its options, the adapter, the tenant, the
sample number and the inputs. What cannot be written canonically has no key and is not kept.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from dspy_actors.cache.keys import canonical
from dspy_actors.cache.watched import WatchedTable
from dspy_actors.example import Example, Prediction
from dspy_actors.modules.fingerprint import fingerprint_of, packed, where
from dspy_actors.modules.record import Record
from dspy_actors.runner import Frame, Settings
from supervisors.clock import Clock
from supervisors.telemetry import Telemetry

SECONDS = 1800.0
"""How long a result and a score are good."""


class Results:
    """The two tables of one runtime, published. Safe from any thread.

    What is kept and what is given are copies: nobody who changes a prediction changes another's.
    """

    def __init__(self, clock: Clock, telemetry: Telemetry) -> None:
        self.predictions: WatchedTable[bytes, Prediction] = WatchedTable(
            clock, telemetry, "module_result", max_entries=20_000, ttl=SECONDS
        )
        self.scores: WatchedTable[bytes, tuple[Prediction, float]] = WatchedTable(
            clock, telemetry, "evaluation", max_entries=200_000, ttl=SECONDS
        )

    def prediction(self, key: bytes | None) -> Prediction | None:
        """What a program answered to these inputs."""
        found = None if key is None else self.predictions.get(key)
        return None if found is None else copy.deepcopy(found)

    def keep_prediction(self, key: bytes | None, prediction: Prediction) -> None:
        """Keep what a program answered; `None` has no place."""
        own = None if key is None else _own(prediction)
        if key is None or own is None:
            self.predictions.note_uncacheable()
        else:
            self.predictions.put(key, own, _size(own))

    def score(self, key: bytes | None) -> tuple[Prediction, float] | None:
        """The prediction and the score of an example."""
        found = None if key is None else self.scores.get(key)
        return None if found is None else copy.deepcopy(found)

    def keep_score(self, key: bytes | None, prediction: Prediction, score: float) -> None:
        """Keep how an example was scored; `None` has no place."""
        own = None if key is None else _own(prediction)
        if key is None or own is None:
            self.scores.note_uncacheable()
        else:
            self.scores.put(key, (own, score), _size(own))


def result_key(program: bytes | None, inputs: Mapping[str, Any], settings: Settings) -> bytes | None:
    """The key of one call of a program; `None` where it has none."""
    if program is None:
        return None
    try:
        return packed(
            (
                program,
                canonical(dict(inputs)),
                where(settings.lm),
                canonical(dict(settings.options)),
                settings.adapter.name,
                settings.tenant,
                settings.sample,
            )
        )
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None


def score_key(result: bytes | None, example: Example, metric: bytes | None) -> bytes | None:
    """The key of one example's score by the metric of this mark; `None` where it has none."""
    if result is None or metric is None:
        return None
    try:
        return packed((result, canonical(example.toDict()), metric))
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None


def call_key(record: Record, inputs: Mapping[str, Any], settings: Settings) -> bytes | None:
    """The key of a call of a started program; `None` where it has none."""
    return result_key(fingerprint_of(record), inputs, settings)


def known(results: Results, key: bytes | None, frame: Frame) -> Prediction | None:
    """What is kept for the call of `frame`, as a prediction of that."""
    assert frame.envelope is not None
    found = results.prediction(key)
    return None if found is None else found.with_call(call_id=frame.envelope.call_id)


def keep(results: Results, key: bytes | None, prediction: Prediction, frame: Frame) -> None:
    """Keep `prediction` of the call of `frame`.

    What came of a call that met an outage, by a fallback or as the program's way out, is not: it would outlast it. Nor
    is what came of an answer that was cut off.
    """
    assert frame.scope is not None
    if frame.scope.fault is None and frame.scope.truncated is None:
        results.keep_prediction(key, prediction)


def _own(prediction: Prediction) -> Prediction | None:
    """A copy that says what a kept prediction says of its call; `None` where a value cannot be copied."""
    try:
        return copy.deepcopy(prediction.with_call(usage=None, attempts=0, cached=True, call_id=None))
    except (TypeError, ValueError, copy.Error, RecursionError):
        return None


def _size(prediction: Prediction) -> int:
    """About how many bytes a prediction takes."""
    return 512 + sum(len(str(value)) for value in prediction.values())
