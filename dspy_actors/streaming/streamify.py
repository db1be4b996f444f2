"""`streamify`: a program as a function that streams, in DSPy's form."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import Any, Self

from dspy_actors.arguments import a
from dspy_actors.errors import CallCancelled, DspyActorsError
from dspy_actors.example import Prediction
from dspy_actors.modules.module import Module
from dspy_actors.modules.program import Program
from dspy_actors.modules.program_stream import ProgramStream, open_stream
from dspy_actors.modules.stream_response import Shown, StatusMessage, StreamResponse
from dspy_actors.runner import Shows, require_frame
from dspy_actors.streaming.status_messages import StatusMessageProvider
from dspy_actors.streaming.stream_listener import StreamListener, chosen_by
from dspy_actors.types.base import to_jsonable


def streamify(
    program: Module | Program,
    status_message_provider: StatusMessageProvider | None = None,
    stream_listeners: Iterable[StreamListener] | None = None,
    include_final_prediction_in_output_stream: bool = True,
    is_async_program: bool = False,
    async_streaming: bool = True,
) -> Callable[..., Any]:
    """A function of the program's inputs that gives an async generator: `StreamResponse`s, then the `Prediction`.

    Args:
        program: a module, which is run in the runtime that is in force when the function is called, or a handle.
        status_message_provider: puts `StatusMessage`s between the chunks.
        stream_listeners: which outputs are streamed; all of every predictor if left out.
        include_final_prediction_in_output_stream: if not, the prediction comes only where nothing was streamed.
        is_async_program: DSPy's; how a program runs is seen from the program.
        async_streaming: if not, the generator is an ordinary one, for a thread without a running loop.

    Every call of the function is a call of the program with a state of its own; calls may run at once. Leaving a
    generator early cancels its call. Raises `InputError` for a listener that no predictor fulfils, and
    `LMConfigurationError` for what is no program.
    """
    a((Module, Program), "streamify", "program", program, "a module, or the handle of a started one")
    module = program.module if isinstance(program, Program) else program
    chosen = chosen_by(stream_listeners, module)

    def begin(inputs: dict[str, Any]) -> ProgramStream:
        if isinstance(program, Program):
            return program.open_stream(inputs, chosen, status_message_provider)
        frame = require_frame("streamify", "streamify(program)(...)")

        async def call(sink: Shows) -> Prediction:
            return await frame.runner.arun(program, inputs, frame.settings, sink=sink)

        return open_stream(frame.runner, call, chosen, status_message_provider)

    async def astreamer(**inputs: Any) -> AsyncIterator[Shown | Prediction]:
        shown = False
        with begin(inputs) as stream:
            async for item in stream:
                shown = shown or isinstance(item, StreamResponse)
                yield item
            if include_final_prediction_in_output_stream or not shown:
                yield stream.prediction

    def streamer(**inputs: Any) -> Iterator[Shown | Prediction]:
        shown = False
        with begin(inputs) as stream:
            for item in stream:
                shown = shown or isinstance(item, StreamResponse)
                yield item
            if include_final_prediction_in_output_stream or not shown:
                yield stream.prediction

    return astreamer if async_streaming else streamer


LOOK = 0.25
"""Seconds between two looks whether a client that waits for its first event is still there."""


class ServerSentEvents(AsyncIterator[str]):
    """A stream as server-sent events; see `streaming_response`. Iterate once, on one loop."""

    def __init__(self, streamer: AsyncIterable[Shown | Prediction | str]) -> None:
        self._source = _events(streamer)
        self._first: str | None = None

    async def begun(self, is_gone: Callable[[], Awaitable[bool]] | None = None) -> Self:
        """Wait for the first event: what the call ends in before it is raised here, where a status can be chosen.

        A web server does not tell a handler that its client has left. It is asked by `is_gone`, Starlette's
        `request.is_disconnected` for instance, every `LOOK` seconds; then the call is ended and `CallCancelled` raised.
        """
        if self._first is None and is_gone is None:
            self._first = await anext(self._source)
        elif self._first is None and is_gone is not None:
            self._first = await self._unless(is_gone)
        return self

    async def _unless(self, is_gone: Callable[[], Awaitable[bool]]) -> str:
        first = asyncio.create_task(self._next())
        try:
            while not first.done():
                await asyncio.wait((first,), timeout=LOOK)
                if not first.done() and await is_gone() and not first.done():
                    raise CallCancelled("the client was gone before the first event")
            return first.result()
        finally:
            if first.cancel():
                await asyncio.wait((first,))

    async def _next(self) -> str:
        return await anext(self._source)

    async def __anext__(self) -> str:
        first, self._first = self._first, None
        return await anext(self._source) if first is None else first

    async def aclose(self) -> None:
        """End the call."""
        await self._source.aclose()


def streaming_response(streamer: AsyncIterable[Shown | Prediction | str]) -> ServerSentEvents:
    """A stream as server-sent events, for the body of a web service's answer, ending with `data: [DONE]`.

    A chunk is `{"chunk": {...}}` with the fields of `StreamResponse`, a status `{"status": ...}`, the prediction
    `{"prediction": {...}}`. An error before the first event is raised, by `await events.begun()` if that is called;
    after it a `DspyActorsError` is the last event, `{"error": kind}`, and `[DONE]` does not come.
    """
    return ServerSentEvents(streamer)


async def _events(streamer: AsyncIterable[Shown | Prediction | str]) -> AsyncGenerator[str, None]:
    begun = False
    try:
        async for item in streamer:
            yield _event(_data(item))
            begun = True
    except DspyActorsError as error:
        if not begun:
            raise
        yield _event({"error": error.kind})
        return
    yield "data: [DONE]\n\n"


def _data(item: Shown | Prediction | str) -> dict[str, Any]:
    if isinstance(item, Prediction):
        return {"prediction": to_jsonable(item.toDict())}
    if isinstance(item, StatusMessage):
        return {"status": item.message}
    return {"chunk": item._asdict() if isinstance(item, StreamResponse) else item}


def _event(data: dict[str, Any]) -> str:
    text = json.dumps(data, ensure_ascii=False)
    if not text.isascii():  # half a surrogate, as JSON escapes it: no web server could send it otherwise
        text = text.encode("utf-8", "backslashreplace").decode()
    return f"data: {text}\n\n"
