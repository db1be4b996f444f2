"""`StatusMessageProvider`: what a stream says of how far a call is. DSPy's names."""

from __future__ import annotations

from typing import Any


class StatusMessageProvider:
    """To be derived from: each method says something, or nothing. They run where the call runs and must not block.

    The text comes as a `StatusMessage` in the stream. What a method raises ends the call.
    """

    def module_start_status_message(self, instance: Any, inputs: dict[str, Any]) -> str | None:
        """A module or predictor is about to run."""
        return None

    def module_end_status_message(self, outputs: Any) -> str | None:
        """A module or predictor has answered."""
        return None

    def lm_start_status_message(self, instance: Any, inputs: Any) -> str | None:
        """The `LM` `instance` is about to be asked; `inputs` is the `LMRequest`."""
        return None

    def lm_end_status_message(self, outputs: Any) -> str | None:
        """A model has answered; `outputs` is the `LMResponse`."""
        return None

    def words(self, moment: str, *told: Any) -> str | None:
        """What to say at a moment, as `module_start`."""
        said: str | None = getattr(self, f"{moment}_status_message")(*told)
        return said
