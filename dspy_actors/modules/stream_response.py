"""What a program's stream brings: pieces of outputs, and words on how far it is. DSPy's names."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias


class StreamResponse(NamedTuple):
    """The next characters of an output. `predict_name` is the predictor's, as in `Module.named_predictors`.

    `is_last_chunk` is true once for each output of each call of a predictor, on a chunk that may be empty.
    """

    predict_name: str
    signature_field_name: str
    chunk: str
    is_last_chunk: bool


class StatusMessage(NamedTuple):
    """What a `StatusMessageProvider` said."""

    message: str


Shown: TypeAlias = StreamResponse | StatusMessage
