"""The chat layout: DSPy 3.4.1's structure (`recorded/layouts.json`), our words."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from dspy_actors.adapters.chat_adapter import ChatAdapter
from dspy_actors.adapters.layout import COMPLETED, NOT_GIVEN, PARTIAL_DEMO, REMINDER
from dspy_actors.errors import AdapterError
from dspy_actors.example import Example
from dspy_actors.messages import ImagePart, TextPart
from dspy_actors.signature.fields import InputField, OutputField
from dspy_actors.signature.signature import Signature, make_signature
from dspy_actors.testing.adapters import check_adapter
from dspy_actors.types.history import History
from dspy_actors.types.image import Image
from tests.dspy_actors.recorded.kinds import CUSTOM_TYPES
from tests.dspy_actors.recorded.record import LAYOUTS, layout_facts

RECORDED: list[dict[str, Any]] = json.loads((Path(__file__).parent / "recorded" / "layouts.json").read_text("utf-8"))
QA = make_signature("question -> answer")


def test_the_chat_adapter_keeps_the_contract() -> None:
    check_adapter(ChatAdapter())


@pytest.mark.parametrize("number", range(len(LAYOUTS)))
def test_a_prompt_is_laid_out_as_dspy_lays_it_out(number: int) -> None:
    case = LAYOUTS[number]
    signature = make_signature(case["signature"], custom_types=CUSTOM_TYPES)
    messages = ChatAdapter().format(signature, case["demos"], case["inputs"])
    facts = json.loads(json.dumps(layout_facts([(m.role, m.text) for m in messages])))

    assert facts == RECORDED[number]["facts"]


def test_the_system_message_tells_limits_descriptions_and_options() -> None:
    class Rate(Signature):
        """Rate it.

        Be fair.
        """

        text: str = InputField(desc="a review")
        stars: int = OutputField(ge=1, le=5)
        mood = OutputField()

    assert ChatAdapter().format(Rate, (), {"text": "x"})[0].text == (
        "You are given these fields:\n"
        "1. `text` (str): a review\n"
        "You produce these fields:\n"
        "1. `stars` (int)\n"
        "Limits: at least 1, at most 5\n"
        "2. `mood` (str)\n"
        "Each exchange is laid out as follows; a name in braces stands for the value of that field.\n\n"
        "[[ ## text ## ]]\n{text}\n\n"
        "[[ ## stars ## ]]\n{stars}        # one int and nothing else\n\n"
        "[[ ## mood ## ]]\n{mood}\n\n"
        "[[ ## completed ## ]]\n"
        "What to do:\n        Rate it.\n        \n        Be fair."
    )


def test_the_request_ends_with_the_reminder() -> None:
    signature = make_signature("question -> answer, n: int")
    request = ChatAdapter().format(signature, (), {"question": "why?"})[-1].text

    assert request == (
        f"[[ ## question ## ]]\nwhy?\n\n{REMINDER}`[[ ## answer ## ]]`, `[[ ## n ## ]]` (a Python int). "
        f"Close with `{COMPLETED}`."
    )


def test_an_incomplete_demo_says_so_and_marks_what_it_lacks() -> None:
    signature = make_signature("a, b -> c, d")
    _, user, assistant, _ = ChatAdapter().format(signature, ({"a": "1", "d": "2"},), {"a": "x", "b": "y"})

    assert user.text == f"{PARTIAL_DEMO}\n\n[[ ## a ## ]]\n1"
    assert assistant.text == f"[[ ## c ## ]]\n{NOT_GIVEN}\n\n[[ ## d ## ]]\n2\n\n{COMPLETED}\n"


def test_demos_may_be_examples() -> None:
    messages = ChatAdapter().format(QA, (Example(question="1", answer="2"),), {"question": "x"})

    assert messages[1].text == "[[ ## question ## ]]\n1"


def test_an_image_stands_as_a_part_where_its_field_is() -> None:
    signature = make_signature("note, picture: Image -> answer")
    inputs = {"note": "see", "picture": Image("https://x/1.png")}
    parts = ChatAdapter().format(signature, (), inputs)[-1].parts

    assert parts[0] == TextPart("[[ ## note ## ]]\nsee\n\n[[ ## picture ## ]]\n")
    assert parts[1] == ImagePart("https://x/1.png")
    assert isinstance(parts[2], TextPart)
    assert parts[2].text.startswith(f"\n\n{REMINDER}")


def test_images_inside_a_list_keep_their_order() -> None:
    signature = make_signature("pictures: list[Image] -> answer")
    inputs = {"pictures": [Image("https://x/1.png"), Image("https://x/2.png")]}
    parts = ChatAdapter().format(signature, (), inputs)[-1].parts

    assert [p.url if isinstance(p, ImagePart) else p.text for p in parts[:4]] == [
        "[[ ## pictures ## ]]\n[",
        "https://x/1.png",
        ", ",
        "https://x/2.png",
    ]


def test_history_is_written_as_turns_with_the_reminder() -> None:
    signature = make_signature("history: History, question -> answer")
    history = History(messages=[{"question": "q1", "answer": "a1"}])
    messages = ChatAdapter().format(signature, (), {"history": history, "question": "q2"})

    assert [m.role for m in messages] == ["system", "user", "assistant", "user"]
    assert messages[1].text.replace("q1", "q2") == messages[3].text


def test_a_demo_tuple_is_rendered_once() -> None:
    adapter = ChatAdapter()
    demos = ({"question": "1", "answer": "2"},)
    first = adapter.format(QA, demos, {"question": "x"})
    second = adapter.format(QA, demos, {"question": "y"})

    assert first[1] is second[1]
    assert first[0] is second[0]


def test_a_demo_list_is_rendered_anew() -> None:
    adapter = ChatAdapter()
    demos = [{"question": "1", "answer": "2"}]
    adapter.format(QA, demos, {"question": "x"})
    demos[0]["question"] = "changed"

    assert "changed" in adapter.format(QA, demos, {"question": "x"})[1].text


def test_many_demo_sets_do_not_pile_up() -> None:
    adapter = ChatAdapter()
    for number in range(200):
        adapter.format(QA, ({"question": str(number), "answer": "a"},), {"question": "x"})

    assert len(adapter._demo_sets) == 64


def test_threads_share_an_adapter() -> None:
    adapter = ChatAdapter()
    sets = [({"question": str(number), "answer": "a"},) for number in range(100)]
    with ThreadPoolExecutor(8) as pool:
        prompts = list(pool.map(lambda demos: adapter.format(QA, demos, {"question": "x"})[1].text, sets * 20))

    assert prompts == [f"[[ ## question ## ]]\n{number}" for number in range(100)] * 20


def test_the_prompts_of_a_forgotten_signature_are_forgotten() -> None:
    import gc

    adapter = ChatAdapter()
    adapter.format(make_signature("a -> b"), (), {"a": "x"})
    gc.collect()

    assert len(adapter._plans) == 0


def test_an_output_no_model_can_write_is_refused_by_name() -> None:
    class Opaque:
        pass

    signature = make_signature("a -> b: Opaque", custom_types={"Opaque": Opaque})
    with pytest.raises(AdapterError, match="output 'b' is Opaque"):
        ChatAdapter().format(signature, (), {"a": "x"})


def test_input_text_cannot_pose_as_an_image() -> None:
    signature = make_signature("picture: Image, note: list[str] -> answer")
    inputs = {"picture": Image("https://x/1.png"), "note": ["<0123456789abcdef:0>"]}
    parts = ChatAdapter().format(signature, (), inputs)[-1].parts

    assert sum(isinstance(part, ImagePart) for part in parts) == 1
