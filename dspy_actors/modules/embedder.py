"""`Embedder`: texts in, vectors out, on the same way to the model as every other call."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from dspy_actors.arguments import is_count
from dspy_actors.errors import DeadlineExceeded, InputError, LMConfigurationError, LMError, LMUnexpectedError
from dspy_actors.example import Prediction
from dspy_actors.lm.lm import LM
from dspy_actors.lm.providers.base import KeySource
from dspy_actors.lm.vector_text import MAX_TEXTS, unpack
from dspy_actors.lm.work import Answer
from dspy_actors.messages import LMRequest, Message
from dspy_actors.modules.module import Module
from dspy_actors.modules.own_inputs import check_own_inputs
from dspy_actors.runner import Frame, require_frame, settle
from dspy_actors.secret import Secret
from supervisors.reply import Reply

MAX_CHARACTERS = 300_000
"""How many characters go into one request: OpenAI takes 300,000 tokens, and a character is seldom more than one."""


class Embedder(Module):
    """An embedding model: `Embedder("openai/text-embedding-3-small")(["a text", "another"])`.

    It is called inside a runtime, or as a part of a program: cached, limited, retried and counted as any call of a
    model. Many texts are sent in several requests at once. Where one of them fails the call does, once
    those are answered that the model has already; the cache keeps their vectors.

    Args:
        model: `"provider/model"`; the provider speaks OpenAI's embeddings (`openai`, `local`).
        batch_size: texts in one request, at most 2048.
        dimensions: the length of the vectors, for models that can shorten theirs.
        api_key, base_url, cache, num_retries, timeout: as for `LM`.

    Raises `LMConfigurationError` where an argument makes no sense.
    """

    native = True

    def __init__(
        self,
        model: str,
        *,
        batch_size: int = 512,
        dimensions: int | None = None,
        api_key: str | KeySource | Sequence[str | Secret] = None,
        base_url: str | None = None,
        cache: bool = True,
        num_retries: int = 3,
        timeout: float | None = None,
    ) -> None:
        if not is_count(batch_size) or batch_size > MAX_TEXTS:
            msg = f"Embedder(batch_size={batch_size!r:.80}): 1 to {MAX_TEXTS}"
            raise LMConfigurationError(msg, model=model)
        if dimensions is not None and not is_count(dimensions):
            msg = f"Embedder(dimensions={dimensions!r:.80}): 1 or more, or None for the model's own"
            raise LMConfigurationError(msg, model=model)
        self.batch_size = batch_size
        options: dict[str, object] = {"model_type": "embeddings"}
        if dimensions is not None:
            options["dimensions"] = dimensions
        self.lm = LM(
            model,
            api_key=api_key,
            base_url=base_url,
            cache=cache,
            num_retries=num_retries,
            timeout=timeout,
            **options,  # type: ignore[arg-type]
        )

    def __call__(self, texts: Iterable[str]) -> list[list[float]]:  # type: ignore[override]
        """A vector for each text, in their order, blocking. Raises `InputError` for an empty text, else as a module."""
        return self._vectors(super().__call__(texts=texts))

    async def acall(self, texts: Iterable[str]) -> list[list[float]]:  # type: ignore[override]
        """As a call, from a coroutine, without blocking its loop."""
        return self._vectors(await super().acall(texts=texts))

    async def steps(self, inputs: dict[str, Any]) -> Prediction:
        frame = require_frame("Embedder")
        assert frame.envelope is not None
        assert frame.scope is not None
        check_own_inputs(self, self.requests, inputs)
        requests = self.requests(inputs["texts"])
        replies = [frame.runner.complete(self.lm, request, frame.envelope) for request in requests]
        vectors: list[list[float]] = []
        try:
            for place, reply in enumerate(replies):
                try:
                    answer = await self._settled(reply, frame)
                    vectors += self._read(answer, len(requests[place].messages), frame)
                except LMError:
                    await self._land(replies[place + 1 :], frame)
                    raise
        finally:
            for reply in replies:
                reply.cancel()  # what is settled stays so
        return Prediction(vectors=vectors)

    async def _settled(self, reply: Reply[Answer], frame: Frame) -> Answer:
        assert frame.scope is not None
        answer = await settle(reply, "embedding")
        usage = answer.response.usage if answer.source == "model" else None
        frame.scope.book(self.lm.name, attempts=answer.attempts, cached=answer.source == "cache", usage=usage)
        return answer

    def _read(self, answer: Answer, wanted: int, frame: Frame) -> list[list[float]]:
        """The vectors of one answer; what our own providers gave was looked at there, another's may be anything."""
        texts = answer.response.texts
        with suppress(ValueError):
            vectors = [unpack(text) for text in texts]
            if len(vectors) == wanted:
                return vectors
        frame.runner.forget(answer)
        msg = f"{self.lm.name} gave no vector for each of {wanted} texts, as dspy_actors.lm.vector_text has them"
        raise LMUnexpectedError(msg, provider=self.lm.provider, model=self.lm.model)

    async def _land(self, replies: Sequence[Reply[Answer]], frame: Frame) -> None:
        """One request has failed, and with it the call: wait for those that the model has, and send no more.

        They will be paid for, and the cache keeps their vectors for the next call.
        """
        if not self.lm.cache:
            return
        under_way = [reply for reply in replies if reply.done() or frame.runner.phase_of(reply) in ("model", None)]
        for reply in replies:
            if reply not in under_way:
                reply.cancel()
        for reply in under_way:
            with suppress(LMError, DeadlineExceeded):  # the first error is the call's
                await self._settled(reply, frame)

    def requests(self, texts: Iterable[str]) -> list[LMRequest]:
        """What is sent for `texts`, in order: `batch_size` of them in each, fewer where they are long."""
        may_be = isinstance(texts, Iterable) and not isinstance(texts, str)
        given = list(texts) if may_be else []  # a generator can be read once
        if not may_be or not all(isinstance(text, str) and text for text in given):
            msg = "an Embedder takes a list of texts, none of them empty"
            raise InputError(msg, field="texts")
        batches: list[list[str]] = []
        room = 0
        for text in given:
            if not batches or len(batches[-1]) == self.batch_size or len(text) > room:
                batches.append([])
                room = MAX_CHARACTERS
            batches[-1].append(text)
            room -= len(text)
        options = self.lm.options
        return [
            LMRequest(self.lm.model, tuple(Message.of("user", text) for text in batch), options) for batch in batches
        ]

    @staticmethod
    def _vectors(prediction: Prediction) -> list[list[float]]:
        found: list[list[float]] = prediction.vectors
        return found

    def __repr__(self) -> str:
        return f"Embedder({self.lm.name!r})"
