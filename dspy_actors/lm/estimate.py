"""How many tokens a request will take, before anybody has counted them."""

from __future__ import annotations

from dataclasses import replace

from dspy_actors.errors import LMError, LMTimeoutError
from dspy_actors.lm.limiter import Need
from dspy_actors.messages import LMRequest, LMResponse, TextPart, Usage

BYTES_A_TOKEN = 4.0
ANSWER_TOKENS = 256
"""Tokens assumed for an answer whose request does not bound it."""

WEIGHT = 0.1
"""How much one answer changes the estimates for those that follow."""


def prompt_tokens(request: LMRequest) -> int:
    """Tokens of the prompt: its characters over four."""
    size = 0
    for message in request.messages:  # asked several times a call: no text is joined for it
        for part in message.parts:
            if type(part) is TextPart:
                size += len(part.text)
    return int(size / BYTES_A_TOKEN) + 1


def is_for_vectors(request: LMRequest) -> bool:
    """Whether vectors are asked for, of which nobody counts or bills tokens."""
    return request.options.get("model_type") == "embeddings"


def said_tokens(request: LMRequest, response: LMResponse) -> int:
    """Tokens of an answer that nobody has counted: its characters over four. Vectors are none."""
    if is_for_vectors(request):
        return 0
    size = sum(map(len, response.texts))
    for choice in response.tool_calls:
        size += sum(len(call.name) + len(call.arguments) for call in choice)
    return -int(-size // BYTES_A_TOKEN)


def is_unanswered(failure: LMError | None) -> bool:
    """Whether a request that was sent, and of which nothing is known, had no answer: it was given up, or took too long.

    The provider has worked for it, and will bill that; what it refused or failed it does not.
    """
    return failure is None or (isinstance(failure, LMTimeoutError) and failure.status is None)


def with_lacking(request: LMRequest, response: LMResponse, told: Usage) -> LMResponse:
    """An answer for whose prompt or output it was `told` 0 tokens, that part estimated: no budget is to run free."""
    prompt = prompt_tokens(request) if told.prompt_tokens == 0 else told.prompt_tokens
    said = told.completion_tokens or said_tokens(request, response)
    if prompt == told.prompt_tokens and said == told.completion_tokens:  # there is no output
        return response
    return replace(response, usage=replace(told, prompt_tokens=prompt, completion_tokens=said, estimated=True))


def answer_bound(request: LMRequest) -> int | None:
    """Tokens the answer may have at most, where the request says so, by whichever name."""
    options = request.options
    most = options.get("max_tokens") or options.get("max_completion_tokens") or options.get("max_output_tokens")
    return most if isinstance(most, int) and not isinstance(most, bool) else None


def answer_tokens(request: LMRequest, unbounded: int) -> int:
    """Tokens the answers may have together, one for every choice asked for, each as long as allowed. Vectors have none.

    `unbounded` is the length assumed for an answer that the request does not bound.
    """
    if not request.options:
        return unbounded
    if is_for_vectors(request):
        return 0
    choices = request.options.get("n")
    count = choices if isinstance(choices, int) and choices > 0 else 1
    bound = answer_bound(request)
    return count * (unbounded if bound is None else bound)


def likely_usage(request: LMRequest) -> Usage:
    """What a request may use: its prompt, and its answers."""
    return Usage(prompt_tokens(request), answer_tokens(request, ANSWER_TOKENS), estimated=True)


class Estimator:
    """What requests to one model need, put right by what its answers have told. Lives on the io loop, outlives it."""

    __slots__ = ("_answer", "_ratio")

    def __init__(self) -> None:
        self._ratio = 1.0  # tokens counted over tokens estimated
        self._answer = float(ANSWER_TOKENS)

    def need(self, request: LMRequest, prompt: int) -> Need:
        """The tokens to reserve for `request`, as providers do: its prompt, and the longest answer it asks for.

        `prompt` is what `prompt_tokens` makes of it.
        """
        return Need(int(prompt * self._ratio) + 1, answer_tokens(request, int(self._answer)))

    def learn(self, prompt: int, usage: Usage) -> None:
        """An answer took `usage`; `prompt` is what `prompt_tokens` had made of its request."""
        told = usage.prompt_tokens / prompt
        if usage.estimated or told <= 0:
            return
        self._ratio += WEIGHT * (min(max(told, 0.1), 10.0) - self._ratio)
        self._answer += WEIGHT * (usage.completion_tokens - self._answer)
