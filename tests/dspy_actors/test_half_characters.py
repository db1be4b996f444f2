"""Half an emoji, wherever a server writes one, ends neither the cache's writer nor a log line nor a file of results."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from dspy_actors.cli.results import as_line
from dspy_actors.errors import LMError
from dspy_actors.lm.lm import LM
from dspy_actors.modules.predict import Predict
from dspy_actors.runtime import Runtime
from dspy_actors.testing.peer import Peer, reply
from tests.dspy_actors.programs import says
from tests.dspy_actors.providing import DIALECTS

HALF = "\ud83d"
TEXT = says(answer=f"x{HALF}")
HEAD = {"id": f"i{HALF}", "model": f"m{HALF}"}
CUT = {"status": "incomplete", "incomplete_details": {"reason": f"r{HALF}"}}

PLAIN: dict[str, dict[str, Any]] = {
    "chat": {**HEAD, "choices": [{"message": {"content": TEXT}, "finish_reason": f"s{HALF}"}]},
    "responses": {**HEAD, **CUT, "output": [{"type": "message", "content": [{"type": "output_text", "text": TEXT}]}]},
    "messages": {**HEAD, "content": [{"type": "text", "text": TEXT}], "stop_reason": f"s{HALF}"},
}
STREAMED: dict[str, list[dict[str, Any]]] = {
    "chat": [{**HEAD, "choices": [{"delta": {"content": TEXT}, "finish_reason": f"s{HALF}"}]}],
    "responses": [
        {"type": "response.output_text.delta", "output_index": 0, "delta": TEXT},
        {"type": "response.completed", "response": {**HEAD, **CUT, "output": []}},
    ],
    "messages": [
        {"type": "message_start", "message": HEAD},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": TEXT}},
        {"type": "message_delta", "delta": {"stop_reason": f"s{HALF}"}},
    ],
}
REFUSED: dict[str, dict[str, Any]] = {
    "chat": {"choices": [{"message": {"content": None, "refusal": f"no{HALF}"}, "finish_reason": "stop"}]},
    "responses": {"output": [{"type": "message", "content": [{"type": "refusal", "refusal": f"no{HALF}"}]}]},
    "messages": {"type": "error", "error": {"type": f"t{HALF}", "message": f"no{HALF}"}},
}


def runtime(dialect: str, url: str, cache: Path) -> Runtime:
    name, options = DIALECTS[dialect]
    return Runtime(lm=LM(f"{name}/m", base_url=url, api_key="key-0123456789", **options), cache_path=cache)


async def asked(rt: Runtime, *, stream: bool) -> object:
    predict = Predict("question -> answer")
    if not stream:
        return (await predict.acall(question="why?")).answer
    pieces = rt.start(predict).stream(question="why?")
    async for _ in pieces:
        pass
    return pieces.prediction.answer


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("dialect", PLAIN)
def test_an_answer_with_half_an_emoji_in_all_of_it_is_given_kept_and_shown(
    dialect: str, stream: bool, tmp_path: Path
) -> None:
    events = b"".join(f"data: {json.dumps(event)}\n\n".encode() for event in STREAMED[dialect])
    body = events if stream else json.dumps(PLAIN[dialect]).encode()

    async def twice() -> None:
        async with Peer(reply(200, body)) as peer:
            for _ in range(2):
                async with runtime(dialect, peer.url, tmp_path / "cache.db") as rt:
                    assert await asked(rt, stream=stream) == f"x{HALF}"
                    assert json.dumps(rt.health(), default=str, ensure_ascii=False).encode()
            assert len(peer.seen) == 1

    asyncio.run(twice())


def lines(rt: Runtime) -> list[bytes]:
    return [as_line(mapped, {}) for mapped in rt.map(Predict("question -> answer"), [{"question": "why?"}])]


@pytest.mark.parametrize("dialect", PLAIN)
def test_an_answer_with_half_an_emoji_has_its_line_in_a_file_of_results(dialect: str, tmp_path: Path) -> None:
    async def written() -> list[bytes]:
        peer = Peer(reply(200, json.dumps(PLAIN[dialect]).encode()))
        async with peer, runtime(dialect, peer.url, tmp_path / "cache.db") as rt:
            return await asyncio.to_thread(lines, rt)

    (line,) = asyncio.run(written())
    assert json.loads(line)["outputs"] == {"answer": f"x{HALF}"}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize("dialect", REFUSED)
def test_a_refusal_with_half_an_emoji_in_it_can_be_logged_and_written(
    dialect: str, status: int, stream: bool, tmp_path: Path
) -> None:
    async def refused() -> LMError:
        peer = Peer(reply(status, json.dumps(REFUSED[dialect]).encode()))
        async with peer, runtime(dialect, peer.url, tmp_path / "cache.db") as rt:
            with pytest.raises(LMError) as caught:
                await asked(rt, stream=stream)
        return caught.value

    error = asyncio.run(refused())
    log = logging.FileHandler(tmp_path / "log", encoding="utf-8")
    log.emit(logging.LogRecord("app", logging.ERROR, "", 0, "%s (%s)", (error, error.provider_code), None))
    log.close()
    told = (tmp_path / "log").read_text("utf-8")
    assert str(error) in told
