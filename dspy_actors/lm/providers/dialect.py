"""What a dialect is: how one API writes a request and how its answers read. Pure functions over JSON data.

A reader's errors say what is wrong with the answer and nothing of where it came from: `wire.Wire` fills in provider,
model, status and request id.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from json import dumps
from typing import Protocol, TypeAlias

from dspy_actors.errors import (
    LMConfigurationError,
    LMContentFilterError,
    LMError,
    LMUnexpectedError,
    LMUnsupportedFeatureError,
)
from dspy_actors.lm.classify import classify
from dspy_actors.lm.providers.json_text import parsed
from dspy_actors.lm.sse import Event
from dspy_actors.messages import LMRequest, LMResponse, ToolCall, Usage
from dspy_actors.pieces import Piece

JSONObject: TypeAlias = dict[str, object]

Read: TypeAlias = Callable[[Mapping[str, object], LMRequest, str | None], LMResponse]
"""A dialect's `read`, which an assembler gives what it has put together."""


class Assembler(Protocol):
    """One streamed answer in the making: events in, pieces out, and in the end the answer as `Dialect.read` has it."""

    @property
    def size(self) -> int:
        """Characters that have come, of texts and of arguments."""
        ...

    @property
    def done(self) -> bool:
        """Whether the server has said its last word: nothing of the answer comes after it."""
        ...

    @property
    def ended(self) -> bool:
        """Whether the answer is whole; what may still come is a count of tokens."""
        ...

    @property
    def usage(self) -> Usage | None:
        """Tokens, as far as the server has told."""
        ...

    @property
    def text(self) -> str:
        """The text of the first choice, as far as it has come."""
        ...

    def take(self, event: Event) -> Sequence[Piece]:
        """What the event adds, often nothing. Raises `LMUnexpectedError` for what is no event of this dialect.

        An error that the server sent is raised as `classify` reads it.
        """
        ...

    def response(self, request_id: str | None) -> LMResponse:
        """The whole answer, as `Dialect.read` makes it of the same answer in one piece, and with its errors.

        Raises `LMStreamAssemblyError` where the stream is not `ended` or its pieces do not fit together.
        """
        ...


class Dialect(Protocol):
    """One API. `path` is where its requests go, below the base URL."""

    path: str

    def body(self, request: LMRequest) -> JSONObject:
        """The request as JSON data. Raises `LMConfigurationError` and `LMUnsupportedFeatureError`."""
        ...

    def read(self, data: Mapping[str, object], request: LMRequest, request_id: str | None) -> LMResponse:
        """The answer. Raises `LMUnexpectedError` where it is none, `LMContentFilterError` where it was withheld."""
        ...

    def stream_body(self, request: LMRequest) -> JSONObject:
        """The request for a streamed answer as JSON data. Raises as `body` does."""
        ...

    def assembler(self, request: LMRequest) -> Assembler:
        """What puts the streamed answer to `request` together."""
        ...


def options_of(request: LMRequest, own: Collection[str]) -> JSONObject:
    """The request's options that are to be sent: those that are `None` and `model_type`, which is ours, left out.

    `own` are the names of what the dialect itself writes. Raises `LMConfigurationError` for an option of such a name
    and `LMUnsupportedFeatureError` for `stream`.
    """
    options: JSONObject = {}
    for name, value in request.options.items():
        if name in own:
            msg = f"option {name!r} is a part of the request itself and cannot be set as an option"
            raise LMConfigurationError(msg)
        if value is not None and name != "model_type":
            options[name] = value
    if options.get("stream"):
        msg = "stream=True is no option of a request: a stream is asked for with rt.stream(...) or program.stream(...)"
        raise LMUnsupportedFeatureError(msg)
    return options


def refuse_options(options: JSONObject, names: Collection[str], api: str) -> None:
    """Raise `LMUnsupportedFeatureError` for the first option that `api` has no word for; `n=1` asks for nothing."""
    if options.get("n") == 1:
        del options["n"]
    for name in names:
        if name in options:
            more = ": ask once for each choice" if name == "n" else ""
            msg = f"{api} has nothing like the option {name}={options[name]!r:.60}; leave it out{more}"
            raise LMUnsupportedFeatureError(msg)


def unexpected(what: str) -> LMUnexpectedError:
    """The answer is `what` (`a completion without choices`), which is no answer."""
    return LMUnexpectedError(what)


def withheld(what: str, code: str) -> LMContentFilterError:
    """The answer was refused by the model or taken away by the provider's filter."""
    return LMContentFilterError(what, provider_code=code)


def event_data(event: Event) -> dict[str, object]:
    """The JSON object that an event holds; one without data, a sign of life of some relays, is an empty one.

    Raises `LMUnexpectedError` for anything else.
    """
    try:
        data = parsed(event.data)
    except (ValueError, RecursionError):
        data = None if event.data.strip() else {}
    if not isinstance(data, dict):
        raise unexpected("an event that is no JSON object")
    return data


def refusal_in(event: Event, error: object) -> LMError:
    """The error that a server sent in an event, after its 200."""
    said = event.data if error is None else dumps({"error": error})
    return classify(200, {}, said.encode("utf-8", "replace"))


def check_choice(choice: Mapping[str, object]) -> None:
    """Raise the error that a choice ended in: so OpenRouter tells of a provider that failed in the middle of it."""
    error = choice.get("error")
    if error or choice.get("finish_reason") == "error":
        said = {"error": error or {"message": "the choice ended in an error", "type": "api_error"}}
        raise classify(200, {}, dumps(said).encode("utf-8", "replace"))


def objects(value: object) -> Sequence[Mapping[str, object]] | None:
    """The value, if it is a list of JSON objects."""
    if not isinstance(value, list):
        return None
    for one in value:
        if not isinstance(one, dict):
            return None
    return value


_NO_COUNT = 10**10


def count(value: object) -> int:
    """A count of tokens; what is none reads as 0, also one that no model writes in a year."""
    if type(value) is int:
        return value if 0 <= value < _NO_COUNT else 0
    if type(value) is float and value.is_integer():  # as some gateways write whole numbers
        return count(int(value))
    return 0


def counted(usage: Usage, total: int = 0) -> Usage | None:
    """The usage, where the server has counted: no prompt has 0 tokens, and such a one would be free of any budget.

    What the server counts in `total` and in neither part is the part that lacks: a prompt, or of one alone that. Where
    there are both it is output: some leave what a model thinks out of that, and bill it.
    """
    prompt, completion = usage.prompt_tokens, usage.completion_tokens
    more = total - prompt - completion
    if more > 0 and prompt:
        usage = replace(usage, completion_tokens=completion + more)
    elif more > 0:
        usage = replace(usage, prompt_tokens=more)
    return usage if usage.prompt_tokens or usage.completion_tokens else None


def count_in(value: object, name: str) -> int:
    """The count called `name` in what may be an object."""
    return count(value.get(name)) if isinstance(value, dict) else 0


def text_or(value: object, other: str) -> str:
    """The value, if it is a text with something in it."""
    return value if isinstance(value, str) and value else other


def tool_call(call_id: object, name: object, arguments: object) -> ToolCall:
    """A call as the server sent it. Raises `LMUnexpectedError` where it names no tool; some servers send no id."""
    if not isinstance(name, str) or not name:
        raise unexpected("a tool call that names no tool")
    return ToolCall(call_id if isinstance(call_id, str) else "", name, arguments_text(arguments) or "{}")


def arguments_text(arguments: object) -> str:
    """The arguments of a call as JSON text, also of servers that send the object itself; empty where there are none."""
    if isinstance(arguments, str):
        return arguments
    if arguments is None:
        return ""
    if not isinstance(arguments, dict):
        raise unexpected("a tool call whose arguments are no object")
    return dumps(arguments, ensure_ascii=False)


def schema_of(response_format: object) -> Mapping[str, object] | None:
    """The `json_schema` part of OpenAI's `response_format`; `None` for one that is no schema.

    Raises `LMConfigurationError` for what is no response format.
    """
    if isinstance(response_format, Mapping):
        kind, schema = response_format.get("type"), response_format.get("json_schema")
        if kind in ("text", "json_object"):
            return None
        if kind == "json_schema" and isinstance(schema, Mapping) and isinstance(schema.get("schema"), Mapping):
            return schema
    msg = (
        "response_format is {'type': 'json_schema', 'json_schema': {'name': ..., 'schema': {...}}}, "
        "{'type': 'json_object'} or {'type': 'text'}"
    )
    raise LMConfigurationError(msg)


def function_of(tool: object) -> Mapping[str, object] | None:
    """The function of one of OpenAI's `tools`; `None` for a tool that is none, which the server may know itself."""
    if isinstance(tool, Mapping):
        function = tool.get("function")
        if tool.get("type") != "function":
            return None
        if isinstance(function, Mapping) and isinstance(function.get("name"), str):
            return function
    msg = "a tool is {'type': 'function', 'function': {'name': ..., 'description': ..., 'parameters': {...}}}"
    raise LMConfigurationError(msg)


def tools_of(options: JSONObject) -> Sequence[object]:
    """The option `tools`, taken out. Raises `LMConfigurationError` where it is no list."""
    tools = options.pop("tools", None)
    if tools is None:
        return ()
    if not isinstance(tools, Sequence) or isinstance(tools, str):
        msg = f"tools is a list of tools, not a {type(tools).__name__}"
        raise LMConfigurationError(msg)
    return tools


def chosen_tool(choice: object) -> str | None:
    """The tool that OpenAI's `tool_choice` demands by name; `None` for `auto`, `none` and `required`."""
    if choice in ("auto", "none", "required"):
        return None
    function = choice.get("function") if isinstance(choice, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if isinstance(name, str):
        return name
    msg = "tool_choice is 'auto', 'none', 'required' or {'type': 'function', 'function': {'name': ...}}"
    raise LMConfigurationError(msg)
