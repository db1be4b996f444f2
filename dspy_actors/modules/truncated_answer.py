"""`read_truncated`: what can be read of an answer that the provider cut off before its end."""

from __future__ import annotations

from dspy_actors.adapters.base import Adapter
from dspy_actors.adapters.own_adapter import read
from dspy_actors.call_record import CallRecord
from dspy_actors.envelope import Scope
from dspy_actors.errors import AdapterParseError
from dspy_actors.example import Completions, Prediction
from dspy_actors.lm.truncations import in_words
from dspy_actors.lm.work import Answer
from dspy_actors.messages import Truncation
from dspy_actors.signature.signature import Signature


def read_truncated(adapter: Adapter, signature: type[Signature], answer: Answer, scope: Scope) -> Prediction:
    """The outputs of every choice, those of `scope`'s call; the last one of a choice cut off may end in the middle.

    Raises `AdapterParseError` for the first choice that does not hold them; where that is one that was cut off, the
    error says so, at what limit, and what to do.
    """
    response, found = answer.response, []
    cuts = [response.truncation(choice) for choice in range(len(response.texts))]
    for text, cut in zip(response.texts, cuts, strict=True):
        try:
            found.append(read(adapter, signature, text))
        except AdapterParseError as error:
            if cut is None:
                raise
            scope.note_truncated(cut)
            raise _told(error, answer, cut) from error
    truncated = response.truncated
    assert truncated is not None
    scope.note_truncated(truncated)
    completions = Completions(found, cuts) if len(found) > 1 else None
    return Prediction.of(found[0], call=CallRecord(truncated=truncated), completions=completions)


def _told(error: AdapterParseError, answer: Answer, cut: Truncation) -> AdapterParseError:
    """`error` of a choice that was cut off, which says so."""
    msg = f"{error.message}; the answer was {in_words(cut, answer.response, answer.limit)}"
    return AdapterParseError(
        msg, field=error.field, text=error.text, adapter=error.adapter, truncated=cut, limit=answer.limit
    )
