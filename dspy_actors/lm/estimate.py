"""How many tokens a request will take, before anybody has counted them. Pure."""

from __future__ import annotations

from dspy_actors.messages import LMRequest, Usage

BYTES_A_TOKEN = 4.0
ANSWER_TOKENS = 256
"""Tokens assumed for an answer whose request does not bound it."""


def prompt_tokens(request: LMRequest) -> int:
    """Tokens of the prompt: its characters over four."""
    return int(sum(len(message.text) for message in request.messages) / BYTES_A_TOKEN) + 1


def answer_bound(request: LMRequest) -> int | None:
    """Tokens the answer may have at most, where the request says so."""
    most = request.options.get("max_tokens") or request.options.get("max_completion_tokens")
    return most if isinstance(most, int) and not isinstance(most, bool) else None


def likely_usage(request: LMRequest) -> Usage:
    """What a request may use: its prompt, and an answer as long as allowed, for every choice asked for."""
    choices = request.options.get("n")
    count = choices if isinstance(choices, int) and choices > 0 else 1
    bound = answer_bound(request)
    return Usage(prompt_tokens(request), count * (ANSWER_TOKENS if bound is None else bound), estimated=True)
