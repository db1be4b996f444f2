"""A provider for tests that answers from a script, and the contract that every provider keeps."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from inspect import isawaitable
from typing import TypeAlias

from dspy_actors.errors import LMError, LMTimeoutError, LMUnexpectedError
from dspy_actors.lm.providers.base import Attempt, Provider
from dspy_actors.lm.providers.whole_stream import pieces_of
from dspy_actors.messages import LMRequest, LMResponse, Usage
from dspy_actors.testing.provider_streams import check_streams
from dspy_actors.testing.scripted_stream import Line, ScriptedStream
from dspy_actors.testing.sent_count import SentCount

Scripted: TypeAlias = str | LMResponse | BaseException | Sequence[Line]
"""An answer's text, a whole answer, what is raised, or the lines of a stream: see `scripted_stream.Line`."""

Script: TypeAlias = Callable[[LMRequest], Scripted | Awaitable[Scripted]] | Iterable[Scripted]


class ScriptedProvider:
    """Answers from a function or from a list, without network; remembers what it was asked.

    A list that is used up raises `LMUnexpectedError`; an iterator such as `itertools.repeat("yes")` goes on. A function
    may be a coroutine function that waits for whatever the test holds back. `requests` and `attempts` are in the order
    of arrival; `open` is how many are being answered now. Asked for a stream, it says a list line by line and anything
    else in one piece, and keeps it in `streams`; asked for a whole answer, it joins the lines of a list.
    """

    def __init__(self, script: Script, *, name: str = "scripted", endpoint: str = "scripted:") -> None:
        self.name = name
        self.endpoint = endpoint
        self.requests: list[LMRequest] = []
        self.attempts: list[Attempt] = []
        self.streams: list[ScriptedStream] = []
        self.open = 0
        self.closed = 0
        self._script = script if callable(script) else None
        self._rest = iter(()) if callable(script) else iter(script)

    async def complete(self, request: LMRequest, attempt: Attempt) -> LMResponse:
        """See `Provider.complete`."""
        self.open += 1
        try:
            said = await self._said(request, attempt)
            if isinstance(said, LMResponse):
                return said
            lines = self._stream(said, request, attempt)
            while await lines.read():
                pass
            return lines.response()
        finally:
            self.open -= 1

    async def stream(self, request: LMRequest, attempt: Attempt) -> ScriptedStream:
        """See `Provider.stream`."""
        self.open += 1
        try:
            said = await self._said(request, attempt)
        except BaseException:
            self._one_less()
            raise
        lines = [*pieces_of(said), said] if isinstance(said, LMResponse) else said
        stream = self._stream(lines, request, attempt, self._one_less)
        self.streams.append(stream)
        return stream

    async def aclose(self) -> None:
        """See `Provider.aclose`; `closed` counts."""
        self.closed += 1

    async def _said(self, request: LMRequest, attempt: Attempt) -> LMResponse | Sequence[Line]:
        """What the script says to a request: a whole answer, or lines. Raises what it says is raised."""
        self.requests.append(request)
        self.attempts.append(attempt)
        try:
            async with asyncio.timeout_at(attempt.deadline) as timer:
                attempt.observer.sent()
                said = await self._next(request)
        except TimeoutError:
            if not timer.expired():
                raise
            msg = "the script did not answer before the attempt's deadline"
            raise LMTimeoutError(msg, phase="total", provider=self.name, model=request.model) from None
        if isinstance(said, BaseException):
            raise said.fresh() if isinstance(said, LMError) else said
        return scripted_response(request, said) if isinstance(said, str) else said

    def _stream(
        self,
        lines: Sequence[Line],
        request: LMRequest,
        attempt: Attempt,
        on_end: Callable[[], None] = lambda: None,
    ) -> ScriptedStream:
        return ScriptedStream(lines, request, attempt, provider=self.name, on_end=on_end)

    def _one_less(self) -> None:
        self.open -= 1

    async def _next(self, request: LMRequest) -> Scripted:
        if self._script is not None:
            said = self._script(request)
            return await said if isawaitable(said) else said
        for said in self._rest:
            return said
        msg = f"the script was over at request {len(self.requests)}; give it more answers"
        return LMUnexpectedError(msg, provider=self.name, model=request.model)


def scripted_response(request: LMRequest, text: str) -> LMResponse:
    """A whole answer that says `text`, with a count of words for tokens."""
    asked = sum(len(message.text.split()) for message in request.messages)
    return LMResponse((text,), request.model, Usage(asked, len(text.split())), ("stop",))


async def check_provider(open_provider: Callable[[], Provider], request: LMRequest) -> None:
    """Check that a provider keeps the contract of `Provider` for a `request` that it can answer.

    `open_provider` is called on the running loop, several times. Raises `AssertionError` at the first breach.
    """
    provider = open_provider()
    try:
        assert provider.name, "a provider has a name"
        assert provider.endpoint, "a provider has an endpoint, which keeps its cache entries apart"
        await _check_answer(provider, request)
        await _check_many_at_once(provider, request)
        await _check_deadline(provider, request)
        await _check_cancel(provider, request)
        await check_streams(provider, request)
    finally:
        await provider.aclose()
        await provider.aclose()


async def _check_answer(provider: Provider, request: LMRequest) -> None:
    sent = SentCount()
    response = await provider.complete(request, Attempt("check.1", observer=sent))
    assert isinstance(response, LMResponse), f"complete returned a {type(response).__name__}"
    assert response.texts, "an answer has a text for each choice"
    assert all(isinstance(text, str) for text in response.texts), "an answer's texts are strings"
    assert len(response.finish_reasons) in (0, len(response.texts)), "a finish reason for each text, or none"
    assert response.model, "an answer names its model"
    sent.check("complete()")
    if response.usage is not None:
        assert min(response.usage.prompt_tokens, response.usage.completion_tokens) >= 0, "tokens are not negative"


async def _check_many_at_once(provider: Provider, request: LMRequest) -> None:
    """Each attempt has an observer of its own, which hears of its request and of no other."""
    counts = [SentCount() for _ in range(20)]
    attempts = (
        provider.complete(request, Attempt(f"check.many.{number}", observer=sent)) for number, sent in enumerate(counts)
    )
    answers = await asyncio.gather(*attempts)
    assert len(answers) == 20
    for sent in counts:
        sent.check("complete(), asked 20 times at once,")


async def _check_deadline(provider: Provider, request: LMRequest) -> None:
    """A deadline that has passed ends in `LMTimeoutError`, or in an answer that needed no waiting."""
    passed = asyncio.get_running_loop().time() - 1.0
    late = provider.complete(request, Attempt("check.late", deadline=passed))
    (end,) = await asyncio.gather(late, return_exceptions=True)
    if isinstance(end, LMResponse):
        return
    assert isinstance(end, LMTimeoutError), f"a deadline that passed ended in {end!r}"
    assert end.provider == provider.name, "an error names its provider"
    assert end.model == request.model, "an error names its model"


async def _check_cancel(provider: Provider, request: LMRequest) -> None:
    """A cancelled attempt ends as cancelled or with its answer, and the provider goes on."""
    task = asyncio.create_task(provider.complete(request, Attempt("check.cancel")))
    await asyncio.sleep(0)
    task.cancel()
    (end,) = await asyncio.gather(task, return_exceptions=True)
    assert isinstance(end, (LMResponse, asyncio.CancelledError)), f"a cancelled attempt ended in {end!r}"
    await provider.complete(request, Attempt("check.after"))
