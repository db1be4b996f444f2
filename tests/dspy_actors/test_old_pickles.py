"""What a user has pickled under an older release, in which the last fields were not there yet, is read under this."""

from __future__ import annotations

import copyreg
import io
import pickle
from dataclasses import MISSING, fields
from decimal import Decimal
from typing import Any, NamedTuple

import pytest

from dspy_actors.call_record import CallRecord
from dspy_actors.evaluation.result import EvaluationResult, Scored
from dspy_actors.example import Example, Prediction
from dspy_actors.lm.usage_log import UsageRecord, UsageTotals
from dspy_actors.messages import LMResponse, ToolCall, Usage
from dspy_actors.modules.outcome import Outcome

CALL = CallRecord(Usage(1, 2), 0.5, 3, True, "m", 4, "length")
OUTCOME = Outcome("c", Prediction(answer="yes"), None, None, 1.0, 2, 3, Usage(4, 5), None, "length")
SCORED = Scored(0, Example(question="why?"), "scored", 1.0, OUTCOME, ValueError("x"))
VALUES = [
    CALL,
    OUTCOME,
    Usage(1, 2, 3, 4, True),
    LMResponse(("yes",), "m", Usage(1, 2), ("stop",), "r", ((ToolCall("c", "f", "[]"),),)),
    ToolCall("c", "f", "[]"),
    SCORED,
    EvaluationResult(50.0, (), 1.0, 2.0, "why", 7),
    UsageTotals(1, 2, 3, Decimal(4), 5),
]


class Older(pickle.Pickler):
    """Writes `value` as it was while its class had only the first `count` fields."""

    def __init__(self, file: io.BytesIO, value: Any, count: int) -> None:
        super().__init__(file)
        self.value, self.count = value, count

    def reducer_override(self, obj: Any) -> Any:
        if obj is not self.value:
            return NotImplemented
        return (copyreg.__newobj__, (type(obj),), obj.__getstate__()[: self.count])  # type: ignore[attr-defined]


def from_older(value: Any, count: int) -> Any:
    file = io.BytesIO()
    Older(file, value, count).dump(value)
    return pickle.loads(file.getvalue())


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_field_that_a_pickle_does_not_know_has_its_default(value: Any) -> None:
    known = fields(value)
    required = [field for field in known if field.default is MISSING and field.default_factory is MISSING]
    for count in range(len(required), len(known) + 1):
        read = from_older(value, count)
        told = {field.name: getattr(read, field.name) for field in known}
        assert [told[field.name] for field in known[count:]] == [field.default for field in known[count:]]
        assert repr([told[field.name] for field in known[:count]]) == repr(value.__getstate__()[:count])
        assert repr(read)


def test_a_prediction_of_an_older_release_says_that_nothing_was_cut_off() -> None:
    read = from_older(CALL, 6)
    prediction = pickle.loads(pickle.dumps(Prediction.of({"answer": "yes"}, call=read)))
    assert (prediction.answer, prediction.truncated, prediction.version) == ("yes", None, 4)


class OlderRecord(NamedTuple):
    call_id: str
    attempt: int
    tenant: str
    session: str
    model: str
    status: str
    seconds: float


def test_a_usage_record_of_an_older_release_has_the_defaults() -> None:
    """Pickled as a class and its values in order; the name of the class is written once."""
    written = pickle.dumps(OlderRecord("c", 1, "t", "s", "m", "ok", 0.5), 2)
    here = f"{OlderRecord.__module__}\n{OlderRecord.__name__}\n".encode()
    assert written.count(here) == 1
    read = pickle.loads(written.replace(here, f"{UsageRecord.__module__}\n{UsageRecord.__name__}\n".encode()))
    assert (type(read), read.seconds, read.usage, read.priority) == (UsageRecord, 0.5, None, "interactive")
