"""The README's programs run as they stand, and print what it says they print."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", (ROOT / "README.md").read_text("utf-8"), re.M | re.S)


def block_after(words: str, kind: str) -> str:
    """The first block of `kind` at or after the python block that contains `words`."""
    start = next(i for i, (_, text) in enumerate(BLOCKS) if words in text)
    return next(text for language, text in BLOCKS[start:] if language == kind)


def output_of(program: str, folder: Path) -> str:
    """What `program` prints, run in a process of its own inside `folder`."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "words",
    [
        "class Triage",
        "optimizer = BootstrapFewShot",
        "class Provider",
        "class Support",
        "class Reader",
        "prices = {",
        "for piece in stream",
        "def told",
        "class Mailer",
    ],
)
def test_a_program_prints_what_the_readme_says(words: str, tmp_path: Path) -> None:
    program = next(text for language, text in BLOCKS if language == "python" and words in text)

    assert output_of(program, tmp_path) == block_after(words, "text")


def test_the_web_service_answers_what_the_readme_says(tmp_path: Path) -> None:
    service = next(text for language, text in BLOCKS if language == "python" and "JSONResponse(" in text)
    asking = """
import asyncio, httpx
async def ask():
    async with lifespan(app):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            print((await client.get("/triage?ticket=My+billing+address+changed")).text)
asyncio.run(ask())
"""

    assert output_of(service + asking, tmp_path).strip() == block_after("JSONResponse(", "json").strip()


@pytest.mark.parametrize(("block", "path"), [("JSONResponse(", "/triage"), ("StreamingResponse(", "/sort")])
def test_an_input_that_the_provider_refuses_is_not_answered_as_an_outage(block: str, path: str, tmp_path: Path) -> None:
    service = next(text for language, text in BLOCKS if language == "python" and block in text)
    asking = """
import asyncio, httpx
from dspy_actors.testing.providers import ScriptedProvider
Starting = Runtime
def Runtime(lm, **options):
    refusal = LMInvalidRequestError("the prompt cannot be read", status=400)
    return Starting(lm="scripted/m", open_provider=lambda config: ScriptedProvider(lambda request: refusal), **options)
async def ask():
    async with lifespan(app):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            answer = await client.get(PATH + "?ticket=My+billing+address+changed")
            print(answer.status_code, answer.text)
asyncio.run(ask())
""".replace("PATH", repr(path))

    assert output_of(service + asking, tmp_path).strip() == '422 {"error":"lm_invalid_request"}'


def test_the_streaming_web_service_sends_the_pieces_and_the_prediction(tmp_path: Path) -> None:
    service = next(text for language, text in BLOCKS if language == "python" and "StreamingResponse(" in text)
    asking = """
import asyncio, httpx, json
async def ask():
    async with lifespan(app):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            events = (await client.get("/sort?ticket=My+billing+address+changed")).text.split("\\n\\n")
            told = [json.loads(event.removeprefix("data: ")) for event in events[:-2]]
            print("".join(each["chunk"]["chunk"] for each in told[:-1]), told[-1], events[-2:])
            print((await client.get("/sort")).status_code)
asyncio.run(ask())
"""

    assert output_of(service + asking, tmp_path).strip() == (
        "billing {'prediction': {'team': 'billing'}} ['data: [DONE]', '']\n400"
    )


def test_the_two_commands_of_the_readme_are_those_ci_runs() -> None:
    commands = [text.strip() for language, text in BLOCKS if language == "sh"]
    ci = (ROOT / ".ci" / "run").read_text("utf-8")

    assert commands[1] == "python3 -m venv .venv && .venv/bin/pip install -e '.[test]' && .venv/bin/pytest"
    assert "pip install" in ci
    assert "'.[test]'" in ci or '".[test]"' in ci


def test_the_replay_of_the_readme_names_the_model_that_is_asked() -> None:
    commands = [text.replace("\\\n", " ").splitlines() for language, text in BLOCKS if language == "sh"]
    (replay,) = [line for lines in commands for line in lines if line.startswith("dspy-actors quarantine replay")]

    assert " --lm openai/" in replay


def test_the_shipped_package_has_the_console_script_of_the_first_command() -> None:
    first = next(text for language, text in BLOCKS if language == "sh")

    assert "dspy-actors demo" in first
    assert 'dspy-actors = "dspy_actors.cli.main:main"' in (ROOT / "pyproject.toml").read_text("utf-8")
