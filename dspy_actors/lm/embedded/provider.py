"""The embedded model behind the provider protocol: CPU work on a thread of its own, off the io loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from dspy_actors.errors import LMConfigurationError, LMTimeoutError, LMTransportError, LMUnsupportedModelError
from dspy_actors.lm.embedded.engine import Engine
from dspy_actors.lm.embedded.features import count_pieces, cut_pieces
from dspy_actors.lm.embedded.limits import PROVIDER, check_options
from dspy_actors.lm.providers.base import Attempt, LMConfig, Opening, ProviderStream
from dspy_actors.lm.providers.whole_stream import streamed_whole, words_of
from dspy_actors.messages import LMRequest, LMResponse, Usage

MODELS: tuple[str, ...] = ("knn",)
"""The embedded models there are."""


class EmbeddedProvider:
    """Answers with an in-context learner inside this process: no network, no key, no weights, no randomness.

    It is a nearest-neighbour learner over the words of the prompt, not a language model; the errors it refuses with
    say so. The one thread (two ways to slow Python down are not faster than one) starts with the first request and
    ends with `aclose`.
    """

    name = PROVIDER
    endpoint = "embedded:"

    def __init__(self, config: LMConfig, opening: Opening | None = None) -> None:
        """Open it; `opening` is what every provider is offered, and this one has no use for it.

        Raises `LMUnsupportedModelError` for a model that is not in `MODELS`, and `LMConfigurationError` for a
        `base_url`: there is no server.
        """
        _check_model(config.model)
        if config.base_url is not None:
            msg = f"{PROVIDER}/{config.model} runs in this process and has no server; leave base_url out"
            raise LMConfigurationError(msg, model=config.model, provider=PROVIDER)
        self._engines = {model: Engine(model) for model in MODELS}
        self._pool: ThreadPoolExecutor | None = None
        self._closed = False

    async def complete(self, request: LMRequest, attempt: Attempt) -> LMResponse:
        """Answer one request; `n` choices are the same text `n` times, for sampling has nothing to draw from.

        `attempt.observer` is told on the loop when the request is handed to the thread. Cancelled or past its
        deadline before its turn, a request is never worked on.

        Raises:
            LMUnsupportedModelError: the model is not in `MODELS`.
            LMUnsupportedFeatureError: tools, images, code, proposals, a `response_format`, an unknown layout.
            LMInvalidRequestError: an option has a value that no model accepts.
            LMTimeoutError: the deadline passed while other requests were worked on.
            LMTransportError: the provider is closed.
        """
        _check_model(request.model)
        engine = self._engines[request.model]
        if self._closed:
            msg = "the embedded model is closed; start a new runtime"
            raise LMTransportError(msg, model=request.model, provider=PROVIDER)
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="dspy-actors-embedded")
        work = asyncio.get_running_loop().run_in_executor(self._pool, _answer, engine, request, attempt.deadline)
        attempt.observer.sent()
        return await work

    async def stream(self, request: LMRequest, attempt: Attempt) -> ProviderStream:
        """The answer of `complete`, word by word. Raises as `complete` does."""
        response = await self.complete(request, attempt)
        return streamed_whole(response, words_of(response))

    async def aclose(self) -> None:
        """End the thread. Waits for the request in work, about a millisecond; those behind it are cancelled."""
        self._closed = True
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)


def _check_model(model: str) -> None:
    if model not in MODELS:
        known = ", ".join(f"{PROVIDER}/{name}" for name in MODELS)
        msg = f"there is no embedded model {model!r}; there is {known}"
        raise LMUnsupportedModelError(msg, model=model, provider=PROVIDER)


def _answer(engine: Engine, request: LMRequest, deadline: float | None) -> LMResponse:
    """The whole work for one request; runs in the provider's thread."""
    if deadline is not None and time.monotonic() >= deadline:
        msg = "the deadline passed while the embedded model worked on other requests"
        raise LMTimeoutError(msg, model=request.model, provider=PROVIDER, phase="queue")
    options = request.options
    if options:
        check_options(options, request.model)
    text, prompt_tokens = engine.answer(request.messages)
    finish = "stop"
    if options:
        text = _before_stop(text, options.get("stop"))
        text, finish = _within(text, options.get("max_completion_tokens") or options.get("max_tokens"))
    choices = options.get("n")
    count = choices if isinstance(choices, int) else 1
    usage = Usage(prompt_tokens, count_pieces(text) * count, estimated=True)
    return LMResponse((text,) * count, request.model, usage, (finish,) * count)


def _before_stop(text: str, stop: object) -> str:
    marks = [stop] if isinstance(stop, str) else stop if isinstance(stop, Sequence) else ()
    for mark in marks:
        if isinstance(mark, str) and mark:
            text = text.partition(mark)[0]
    return text


def _within(text: str, limit: object) -> tuple[str, str]:
    if not isinstance(limit, int):
        return text, "stop"
    cut = cut_pieces(text, limit)
    return cut, "stop" if cut == text else "length"
