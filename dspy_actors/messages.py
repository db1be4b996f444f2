"""What travels between programs and models: messages, requests, responses and usage, all frozen.

A message is a tuple of content parts, never a bare string, so that an image or a file stands where its value stood.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from json import loads
from typing import Literal, TypeAlias, get_args

from dspy_actors.errors import AdapterParseError
from dspy_actors.old_pickles import reads_old_pickles
from dspy_actors.quick_init import quick_init

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]


@quick_init
@dataclass(frozen=True, slots=True)
class TextPart:
    """A piece of text."""

    text: str


@dataclass(frozen=True, slots=True)
class ImagePart:
    """An image by URL: `https:` or `data:image/…;base64,…`. `detail` is the provider's hint (`low`, `high`, `auto`)."""

    url: str
    detail: str | None = None


Part: TypeAlias = TextPart | ImagePart


@reads_old_pickles
@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool that the model wants called; a part of the assistant's turn.

    `arguments` is JSON as the model wrote it, which is not always JSON. `id` ties the `ToolResult` to it.
    """

    id: str
    name: str
    arguments: str = "{}"

    def read(self) -> dict[str, object]:
        """The arguments as data. Raises `AdapterParseError` where the model wrote no JSON object."""
        try:
            read = loads(self.arguments or "{}")
        except (ValueError, RecursionError):
            read = None
        if isinstance(read, dict):
            return read
        msg = f"the arguments of the call of tool {self.name!r} are no JSON object"
        raise AdapterParseError(msg, field=self.name, text=self.arguments)


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a called tool answered; a part of a `tool` turn. `error` says that it failed and `text` says how."""

    call_id: str
    text: str
    error: bool = False


TurnPart: TypeAlias = Part | ToolCall | ToolResult


@quick_init
@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation. Tool calls stand in assistant turns, their results in `tool` turns."""

    role: Role
    parts: tuple[TurnPart, ...]

    @classmethod
    def of(cls, role: Role, text: str) -> Message:
        """A turn of one text part."""
        return cls(role, (TextPart(text),))

    @classmethod
    def results(cls, *results: ToolResult) -> Message:
        """The `tool` turn that answers the calls of the assistant's turn before it."""
        return cls("tool", results)

    @property
    def text(self) -> str:
        """The text parts joined; other parts are left out."""
        if len(self.parts) == 1 and isinstance(self.parts[0], TextPart):
            return self.parts[0].text
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))


CALLING = "Message('assistant', (ToolCall(id, name, arguments),))"
ANSWERING = "Message.results(ToolResult(id, 'text'))"
"""How the turns of tools are written."""


def wrong_turn(given: object) -> str | None:
    """What is wrong with a turn of the user's own making, to stand behind its name; `None` where it is a message."""
    if not isinstance(given, Message):
        return f"is a {type(given).__name__}; write Message.of('user', 'text')"
    parts: object = given.parts
    if given.role not in get_args(Role):
        return f"has the role {given.role!r:.40}; it is one of {', '.join(get_args(Role))}"
    if not isinstance(parts, tuple) or not all(isinstance(part, get_args(TurnPart)) for part in parts):
        return (
            f"has as its parts {type(parts).__name__}, not a tuple of parts; write Message.of({given.role!r}, 'text')"
        )
    for part in given.parts:
        if _is_out_of_place(given.role, part):
            write = CALLING if isinstance(part, ToolCall) else ANSWERING
            return f"has a {type(part).__name__} in a {given.role} turn; write {write}"
    return None


def _is_out_of_place(role: Role, part: TurnPart) -> bool:
    """Whether a provider would leave the part out, for there is no word for it in such a turn."""
    if isinstance(part, ToolCall):
        return role != "assistant"
    return isinstance(part, ToolResult) != (role == "tool")


ResponseFormat: TypeAlias = Literal["json_object", "json_schema"]
"""What an answer can be held to: some JSON object, or one that fits a schema. OpenAI's words."""


@quick_init
@dataclass(frozen=True, slots=True)
class LMRequest:
    """One question to one model, whole: whatever can change the answer is in here.

    `model` is the name without its provider. `options` are sampling options by the names of OpenAI's chat
    completions (`temperature`, `max_tokens`, `n`, `stop`, `seed`, `response_format`, `tools`, `tool_choice`, …); each
    provider writes them in its own dialect. `sample` tells repeated sampling apart: requests that differ in it are
    different questions (DSPy's `rollout_id`).
    """

    model: str
    messages: tuple[Message, ...]
    options: Mapping[str, object] = field(default_factory=dict)
    sample: int = 0


@reads_old_pickles
@quick_init
@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer, as the provider counted them; `estimated` where we did, all of them or the output alone."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False

    @property
    def total_tokens(self) -> int:
        """Prompt and completion tokens together."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
            self.estimated or other.estimated,
        )


Truncation: TypeAlias = Literal["length", "content_filter"]
"""What cut an answer off before its end: a limit of tokens, or the provider's content filter. OpenAI's words."""


@reads_old_pickles
@quick_init
@dataclass(frozen=True, slots=True)
class LMResponse:
    """The answers to one request: a text for each of the `n` choices asked for.

    `usage` is `None` where the provider sent none. `finish_reasons` has one entry a choice, in OpenAI's words
    (`stop`, `length`, `content_filter`, `tool_calls`). `tool_calls` has one entry a choice too, or none at all where
    no choice calls a tool; the text of a choice that only calls tools is empty.
    """

    texts: tuple[str, ...]
    model: str
    usage: Usage | None = None
    finish_reasons: tuple[str, ...] = ()
    request_id: str | None = None
    tool_calls: tuple[tuple[ToolCall, ...], ...] = ()

    @property
    def truncated(self) -> Truncation | None:
        """What cut a choice off, a limit of tokens before all else; `None` where every choice is whole."""
        reasons = self.finish_reasons
        if "length" in reasons:
            return "length"
        return "content_filter" if "content_filter" in reasons else None

    def truncation(self, choice: int) -> Truncation | None:
        """What cut this choice off; `None` where it is whole."""
        reason = self.finish_reasons[choice] if choice < len(self.finish_reasons) else ""
        if reason == "length":
            return "length"
        return "content_filter" if reason == "content_filter" else None

    def turn(self, choice: int = 0) -> Message:
        """The choice as the assistant's turn, to go on with the conversation after it."""
        calls = self.tool_calls[choice] if self.tool_calls else ()
        text = (TextPart(self.texts[choice]),) if self.texts[choice] or not calls else ()
        return Message("assistant", (*text, *calls))
