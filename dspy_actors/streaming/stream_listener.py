"""`StreamListener`: a wish for one output of one predictor. DSPy's name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from dspy_actors.errors import InputError
from dspy_actors.modules.module import Module, predictors_of
from dspy_actors.modules.selection import Selection


@dataclass(frozen=True, slots=True)
class StreamListener:
    """Which output is to be streamed, and of which predictor, given itself or by its name.

    Left out, the predictor is the only one of the program that has such an output. A listener is a value and keeps
    nothing of a stream, so any number of calls may share it; `allow_reuse` is DSPy's word and changes nothing.
    """

    signature_field_name: str
    predict: Any = None
    predict_name: str | None = None
    allow_reuse: bool = False

    def wish(self, module: Module) -> str:
        """The output as `Selection` names it. Raises `InputError` where it is no output of one predictor."""
        field = self.signature_field_name
        found = [
            name
            for name, one in predictors_of(module)
            if field in one.signature.output_fields
            and (self.predict is None or one is self.predict)
            and (self.predict_name is None or name == self.predict_name)
        ]
        if len(found) == 1:
            return f"{found[0]}.{field}"
        if found:
            msg = f"the predictors {', '.join(found)} all have an output {field!r}; give predict_name"
        else:
            asked = self.predict_name or ("that predictor" if self.predict is not None else "no predictor")
            msg = f"{asked} of this program has an output {field!r}; a started program's predictors go by predict_name"
        raise InputError(msg, field=field)


def chosen_by(listeners: Iterable[StreamListener] | None, module: Module) -> Selection:
    """What `listeners` wish for; everything where there are none. Raises `InputError`."""
    wishes = [listener.wish(module) for listener in listeners or ()]
    return Selection(wishes or None)
