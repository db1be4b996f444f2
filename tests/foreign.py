"""Ask a server that was not written here, in every dialect and over every transport: plain, options, tools, images,
schemas, streams, errors.

    python -m tests.foreign http://127.0.0.1:8000/v1 --dialects chat responses
    python -m tests.foreign http://127.0.0.1:8000/anthropic/v1 --dialects messages --faults http://127.0.0.1:8000

Any server will do that checks what it is sent and answers by itself; nothing of ours is tested on the other side.
Those that this was last run against, each installed apart from the project, and all that they had not:

- `llmock` (PyPI, 0.2.2): `llmock serve`; chat and responses at `/v1`, messages at `/anthropic/v1`. It also judges how a
  client takes faults: `--faults` names its root, and its verdict must have no finding. Its responses take any body, and
  its messages know structured output by the name of an older beta only: `--skip "responses: a request that is refused"
  "messages: structured output"`.
- `@copilotkit/aimock` (npm, 1.43): `AIMOCK_API_KEYS=sk-foreign llmock --strict -f tests/foreign_aimock.json -p 4010`;
  everything at `/v1`, with `--refuses-keys`; `--chunk-size 3` for streams of several pieces. It takes any option,
  answers 503 where no fixture fits, and counts tokens in chat only: `--skip "a request that is refused"
  "responses: a count of tokens" "messages: a count of tokens"`.
- the proxy of `litellm` (PyPI, 1.108) before `llmock`: all three dialects at `/v1`. It puts messages to OpenAI's models
  as responses, and so takes any body in both.
- `llm-mock-api` (PyPI, 0.1.2; all dialects; it takes any body) and `openai-mock-api` (npm, 0.4; chat,
  `--refuses-keys`), with rules for the questions below: the first gives its replies to one question in turn, so that
  the call of a tool and what follows it are there as often as they are asked for.

Exit code 1 when something differs. `--skip` leaves out what a server does not have, by the words of the output.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sys
import traceback
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dspy_actors.adapters.base import Adapter, Demo
from dspy_actors.errors import LMAuthError, LMError, LMInvalidRequestError
from dspy_actors.lm.lm import LM
from dspy_actors.lm.providers.base import Attempt
from dspy_actors.messages import ImagePart, LMRequest, LMResponse, Message, TextPart, ToolResult
from dspy_actors.modules.predict import Predict
from dspy_actors.pieces import ToolCallPiece
from dspy_actors.runtime import Runtime
from dspy_actors.signature.signature import Signature
from tests.dspy_actors.providing import DIALECTS, ask_in, opened
from tests.dspy_actors.streaming import Streamed, stream_in

PLAIN = (Message.of("system", "Be short."), Message.of("user", "say hello"))
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {
    "type": "function",
    "function": {"name": "get_weather", "description": "The weather of a city.", "parameters": CITY},
}
SUM = {
    "type": "object",
    "properties": {"total": {"type": "integer"}, "unit": {"type": "string", "enum": ["eur", "usd"]}},
    "required": ["total", "unit"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "sum", "schema": SUM, "strict": True}}
PNG = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="
)
TRANSPORTS = ("httpx", "aiohttp", "h11")
REASONS = {"stop", "length", "tool_calls", "content_filter"}


@dataclass(frozen=True)
class Server:
    """Where a server is, how it is asked, and what is known of it."""

    base_url: str
    dialect: str
    transport: str
    model: str
    key: str
    refuses_keys: bool

    def __str__(self) -> str:
        return f"{self.dialect} over {self.transport}"

    def ask(self, turns: tuple[Message, ...], **options: Any) -> LMResponse:
        key = options.pop("key", self.key)
        return ask_in(
            self.dialect, self.base_url, turns, key=lambda: key, transport=self.transport, model=self.model, **options
        )

    def stream(self, turns: tuple[Message, ...], **options: Any) -> Streamed:
        went = stream_in(
            self.dialect,
            self.base_url,
            turns=turns,
            key=lambda: self.key,
            transport=self.transport,
            model=self.model,
            limits={"deadline": 30.0},
            **options,
        )
        if went.error is not None:
            raise went.error
        return went

    def lm(self, **options: Any) -> LM:
        name, choosing = DIALECTS[self.dialect]
        return LM(f"{name}/{self.model}", base_url=self.base_url, api_key=self.key, **choosing, **options)


def plain(server: Server) -> None:
    answer = server.ask(PLAIN)
    assert answer.texts[0].strip(), "no text"
    assert set(answer.finish_reasons) <= REASONS, answer.finish_reasons


def a_count_of_tokens(server: Server) -> None:
    usage = server.ask(PLAIN).usage
    assert usage is not None, "the server counts none"
    assert usage.prompt_tokens, usage
    assert usage.completion_tokens, usage


def options(server: Server) -> None:
    assert server.ask(PLAIN, temperature=0.2, top_p=0.9, max_tokens=64, user="u-1").texts[0]


def a_conversation(server: Server) -> None:
    turns = (*PLAIN, Message.of("assistant", "Hello."), Message.of("user", "say hello again"))
    assert server.ask(turns).texts[0]


def an_image(server: Server) -> None:
    turn = Message("user", (TextPart("say hello to what you see"), ImagePart(PNG)))
    assert server.ask((turn,)).texts[0]


def a_tool_and_its_result(server: Server) -> None:
    question = Message.of("user", "what is the weather in Paris")
    answer = server.ask((question,), tools=[WEATHER], tool_choice="auto")
    ((call,),) = answer.tool_calls
    assert (call.name, list(call.read())) == ("get_weather", ["city"])
    turns = (question, answer.turn(), Message.results(ToolResult(call.id, "21 degrees")))
    assert server.ask(turns, tools=[WEATHER]).texts[0].strip()


def structured_output(server: Server) -> None:
    answer = json.loads(server.ask((Message.of("user", "give me the sum as JSON"),), response_format=FORMAT).texts[0])
    assert type(answer["total"]) is int, answer
    assert answer["unit"] in ("eur", "usd"), answer


def a_stream(server: Server) -> None:
    """In pieces, and the same as in one."""
    whole = server.ask(PLAIN)
    went = server.stream(PLAIN)
    assert went.answer is not None
    assert went.text == went.answer.texts[0] == whole.texts[0], (went, whole)
    assert went.answer.finish_reasons == whole.finish_reasons, (went.answer, whole)
    print(f"       {len(went.pieces)} pieces, {went.usage}")


def a_stream_of_a_tool_call(server: Server) -> None:
    question = Message.of("user", "what is the weather in Paris")
    went = server.stream((question,), tools=[WEATHER], tool_choice="auto")
    assert went.answer is not None
    ((call,),) = went.answer.tool_calls
    assert (call.name, list(call.read()), bool(call.id)) == ("get_weather", ["city"], True), call
    pieces = [piece for piece in went.pieces if isinstance(piece, ToolCallPiece)]
    assert (pieces[0].name, pieces[0].id) == (call.name, call.id), pieces
    assert json.loads("".join(piece.arguments for piece in pieces)) == call.read(), pieces
    turns = (question, went.answer.turn(), Message.results(ToolResult(call.id, "21 degrees")))
    assert server.stream(turns, tools=[WEATHER]).text.strip()


def a_stream_that_is_left(server: Server) -> None:
    """Ten streams closed after their first piece; the server goes on."""
    name, choosing = DIALECTS[server.dialect]

    async def leave() -> None:
        provider = opened(name, server.base_url, lambda: server.key, server.transport)
        try:
            for _ in range(10):
                stream = await provider.stream(LMRequest(server.model, PLAIN, choosing), Attempt("c.1"))
                assert await stream.read()
                await stream.aclose()
        finally:
            await provider.aclose()

    asyncio.run(leave())
    assert server.ask(PLAIN).texts[0]


def a_request_that_is_refused(server: Server) -> None:
    asks = (lambda: server.ask(PLAIN, max_tokens="many", temperature="warm"), lambda: server.ask(()))
    refusals = [error for ask in asks if (error := _error(ask)) is not None]
    assert refusals, "the server takes anything"
    assert all(isinstance(error, LMInvalidRequestError) for error in refusals), refusals
    assert {error.status for error in refusals} <= {400, 422}, refusals
    streamed = _error(lambda: server.stream((), max_tokens="many", temperature="warm"))
    assert isinstance(streamed, LMInvalidRequestError), repr(streamed)


def a_key_that_is_refused(server: Server) -> None:
    if server.refuses_keys:
        error = _error(lambda: server.ask(PLAIN, key="sk-wrong-0123456789"))
        assert isinstance(error, LMAuthError), repr(error)
        assert "sk-wrong" not in str(error), "the error shows the key"


CHECKS: tuple[Callable[[Server], None], ...] = (
    plain,
    a_count_of_tokens,
    options,
    a_conversation,
    an_image,
    a_tool_and_its_result,
    structured_output,
    a_stream,
    a_stream_of_a_tool_call,
    a_stream_that_is_left,
    a_request_that_is_refused,
    a_key_that_is_refused,
)


class Verbatim(Adapter):
    """An adapter for servers that do not follow prompts: the question is the prompt, all text is the answer."""

    name = "verbatim"

    def format(
        self, signature: type[Signature], demos: Sequence[Demo], inputs: Mapping[str, Any]
    ) -> tuple[Message, ...]:
        return (Message.of("user", str(inputs["question"])),)

    def parse(self, signature: type[Signature], text: str) -> dict[str, Any]:
        return {"answer": text}


def _error(ask: Callable[[], object]) -> LMError | None:
    try:
        ask()
    except LMError as error:
        return error
    return None


def _post(url: str, body: object) -> None:
    data = json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, {"content-type": "application/json"})) as answer:
        answer.read()


FAULTS: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("429 twice with Retry-After", {"type": "fail", "status": 429, "retry_after": 1, "times": 2}, "ok"),
    ("503 twice", {"type": "fail", "status": 503, "times": 2}, "ok"),
    ("500 once", {"type": "fail", "status": 500, "times": 1}, "ok"),
    ("529 once", {"type": "fail", "status": 529, "times": 1}, "ok"),
    ("400", {"type": "fail", "status": 400, "times": 1}, "lm_invalid_request"),
    ("401 twice", {"type": "fail", "status": 401, "times": 2}, "lm_auth"),
    ("403", {"type": "fail", "status": 403, "times": 1}, "lm_auth"),
    ("404", {"type": "fail", "status": 404, "times": 1}, "lm_unsupported_model lm_configuration"),
    ("422", {"type": "fail", "status": 422, "times": 1}, "lm_invalid_request"),
)
"""What `llmock` is told to do, and what the call must end in."""


def faults(server: Server, root: str) -> list[str]:
    """Every fault once, through a whole runtime; what went wrong, the server's own verdict included."""
    wrong = []
    for number, (name, behaviour, ends) in enumerate(FAULTS):
        _post(f"{root}/_llmock/reset", {})
        _post(f"{root}/_llmock/scenario", {"behaviors": [behaviour]})
        with Runtime(server.lm(), adapter=Verbatim(), deadline=30, transport=server.transport) as rt:
            try:
                rt.start(Predict("question -> answer"))(question=f"say hello ({number})")
                end = "ok"
            except LMError as error:
                end = error.kind
        with urllib.request.urlopen(f"{root}/_llmock/verdict") as answer:
            verdict = json.load(answer)
        findings = verdict["findings"]
        print(f"{'ok' if end in ends.split() and not findings else 'WRONG':6} {server}: {name} -> {end}")
        if end not in ends.split() or findings:
            wrong.append(f"{server}: {name}: {end}, {findings}")
    return wrong


def checked(server: Server, skip: Sequence[str]) -> list[str]:
    """Every check that `skip` does not name, by its words or with the dialect before them; those that went wrong."""
    wrong = []
    for check in CHECKS:
        words = check.__name__.replace("_", " ")
        if words in skip or f"{server.dialect}: {words}" in skip:
            continue
        name = f"{server}: {words}"
        try:
            check(server)
        except (AssertionError, LMError, ValueError) as error:
            wrong.append(name)
            print(f"WRONG  {name}: {type(error).__name__}: {error}")
            traceback.print_exc(limit=-2)
        else:
            print(f"ok     {name}")
    return wrong


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("base_url")
    arguments.add_argument("--dialects", nargs="+", choices=list(DIALECTS), default=["chat"])
    arguments.add_argument("--transports", nargs="+", choices=TRANSPORTS, default=TRANSPORTS)
    arguments.add_argument("--model", default="gpt-4o-mini")
    arguments.add_argument("--key", default="sk-foreign")
    arguments.add_argument("--refuses-keys", action="store_true", help="the server refuses other keys")
    arguments.add_argument("--faults", metavar="ROOT", help="where llmock takes its orders")
    arguments.add_argument("--skip", nargs="*", default=[], metavar="CHECK")
    given = arguments.parse_args()
    wrong: list[str] = []
    for dialect, transport in itertools.product(given.dialects, given.transports):
        server = Server(given.base_url.rstrip("/"), dialect, transport, given.model, given.key, given.refuses_keys)
        wrong += checked(server, given.skip)
        if given.faults:
            wrong += faults(server, given.faults.rstrip("/"))
    print(*(wrong or ["all as expected"]), sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
