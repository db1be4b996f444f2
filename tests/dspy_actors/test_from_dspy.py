"""The README's table for who comes from DSPy: what stands in the place of DSPy's words works as it says."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

import dspy_actors as dspy
from dspy_actors.lm.providers.opening import opener
from dspy_actors.lm.providers.set_aside import SetAside
from dspy_actors.messages import LMRequest
from dspy_actors.testing.adapters import check_adapter
from dspy_actors.testing.providers import ScriptedProvider
from tests.dspy_actors.programs import echo, runtime

README = (Path(__file__).resolve().parents[2] / "README.md").read_text("utf-8")


def qa() -> dspy.Predict:
    return dspy.Predict("question -> answer", temperature=0.7)


def test_what_the_readme_calls_absent_is_absent() -> None:
    names = re.findall(r"`(\w+)`", README.split("\nAbsent: ")[1].split("\n\n")[0])

    assert len(names) > 10
    assert [name for name in names if hasattr(dspy, name)] == []


def test_options_stand_with_the_predictor_or_are_in_force_in_a_block() -> None:
    seen: list[object] = []

    def noting(request: LMRequest) -> str:
        seen.append((request.model, request.options["temperature"]))
        return echo(request)

    with runtime(noting) as rt:
        program = qa()
        program(question="one")
        with rt.using(lm="scripted/other", options={"temperature": 0.2}):
            program(question="two")
        with pytest.raises(dspy.InputError):
            program(question="three", config={"temperature": 0.1})

    assert seen == [("m", 0.7), ("other", 0.2)]


def test_a_program_is_awaited_where_asyncify_stood() -> None:
    async def main() -> object:
        async with runtime():
            return (await qa().acall(question="blue")).answer

    assert asyncio.run(main()) == "blue"


def test_rows_are_mapped_where_parallel_stood_and_other_columns_are_refused_unless_inputs_are_named() -> None:
    rows = [{"question": "a", "gold": "a"}]
    with runtime() as rt:
        (whole,) = rt.map(qa(), rows)
        (named,) = rt.map(qa(), rows, inputs=["question"])

    assert isinstance(whole.outcome.error, dspy.InputError)
    assert named.outcome.prediction == dspy.Prediction(answer="a")


def test_a_model_is_asked_directly() -> None:
    with runtime(lambda request: "hello") as rt:
        pieces = rt.stream("hi", dspy.LM("scripted/m"))

        assert "".join(piece.text for piece in pieces if isinstance(piece, dspy.TextPiece)) == "hello"


def test_a_saved_state_is_taken_over_in_service(tmp_path: Path) -> None:
    program, loaded = qa(), qa()
    program.demos = (*program.demos, dspy.Example(question="red", answer="colour"))
    program.save(tmp_path / "x.json")
    loaded.load(tmp_path / "x.json")
    with runtime() as rt:
        handle = rt.start(qa())
        handle.activate(loaded)

        assert (handle(question="blue").version, [dict(demo) for demo in loaded.demos]) == (
            2,
            [{"question": "red", "answer": "colour"}],
        )


def test_the_prompt_of_a_predictor_can_be_looked_at() -> None:
    program = qa()
    messages = dspy.ChatAdapter().format(program.signature, program.demos, {"question": "what was asked"})

    assert "what was asked" in messages[-1].text


def test_json_under_the_chat_adapter_is_asked_for_once_more_and_read_at_once_by_the_json_adapter() -> None:
    requests: list[LMRequest] = []

    def script(request: LMRequest) -> str:
        requests.append(request)
        return '{"answer": "blue"}'

    with runtime(script) as rt:
        with pytest.raises(dspy.AdapterParseError) as caught:
            rt.start(qa())(question="one")
        with rt.using(adapter=dspy.JSONAdapter()):
            answer = qa()(question="two").answer

    assert (caught.value.text, len(requests), answer) == ('{"answer": "blue"}', 3, "blue")


def test_a_provider_of_ones_own_stands_beside_ours() -> None:
    ours = opener("auto", SetAside())
    mine = ScriptedProvider(echo)
    with dspy.Runtime(
        lm="mine/m", open_provider=lambda config: mine if config.provider == "mine" else ours(config)
    ) as rt:
        own = rt.start(qa())(question="blue").answer
        with rt.using(lm="embedded/knn"):
            embedded = dspy.Predict("question -> answer: Literal['yes', 'no']")(question="blue").answer

    assert own == "blue"
    assert embedded in ("yes", "no")


def test_an_adapter_is_checked_by_its_contract() -> None:
    check_adapter(dspy.JSONAdapter())
