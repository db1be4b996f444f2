"""`streamify`: a program as a function that streams, in DSPy's form."""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from typing import Any

from dspy_actors.arguments import a
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
        frame = require_frame("streamify")

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


async def streaming_response(streamer: AsyncIterable[Shown | Prediction | str]) -> AsyncIterator[str]:
    """A stream as server-sent events, for the body of a web service's answer, ending with `data: [DONE]`.

    A chunk is `{"chunk": {...}}` with the fields of `StreamResponse`, a status `{"status": ...}`, the prediction
    `{"prediction": {...}}`. An error is raised: the answer then breaks off without its end, which tells the client.
    """
    async for item in streamer:
        if isinstance(item, Prediction):
            data: dict[str, Any] = {"prediction": to_jsonable(item.toDict())}
        elif isinstance(item, StatusMessage):
            data = {"status": item.message}
        else:
            data = {"chunk": item._asdict() if isinstance(item, StreamResponse) else item}
        yield f"data: {json.dumps(data, ensure_ascii=False)}\n\n"
    yield "data: [DONE]\n\n"
