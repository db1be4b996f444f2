"""What the embedded model answers: options always from the schema, the rest from the prompt, or a refusal."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspy_actors.errors import LMUnsupportedFeatureError
from dspy_actors.lm.embedded.engine import Engine
from dspy_actors.messages import ImagePart, Message, TextPart
from dspy_actors.signature.fields import InputField, OutputField
from dspy_actors.signature.signature import Signature
from tests.dspy_actors.embedded import ask, prompt

TEAM = "ticket -> team: Literal['billing', 'shipping', 'account']"
DEMOS = [
    {"ticket": "The card was charged twice", "team": "billing"},
    {"ticket": "The parcel is lost", "team": "shipping"},
    {"ticket": "I forgot the password", "team": "account"},
]


@pytest.mark.parametrize(
    ("ticket", "team"),
    [("Who shipped my box?", "shipping"), ("A question on my bills", "billing"), ("My accounts are gone", "account")],
)
def test_without_demonstrations_words_are_matched_with_the_options_names(ticket: str, team: str) -> None:
    assert ask(TEAM, ticket=ticket)["team"] == team


def test_without_any_hint_the_first_option_is_taken() -> None:
    assert ask(TEAM, ticket="Hm.")["team"] == "billing"


@pytest.mark.parametrize(
    "instructions",
    [
        "Pick a team.\naccount: passwords, sign-in. shipping: parcels, couriers.",
        "Parcels and couriers are matters of shipping. Sign-in and passwords are for account.",
        "shipping is parcels and couriers, account is sign-in and passwords, billing is money",
    ],
)
def test_without_demonstrations_words_are_matched_with_what_the_instructions_say(instructions: str) -> None:
    class Sort(Signature):
        ticket: str = InputField()
        team: Literal["billing", "shipping", "account"] = OutputField()

    assert ask(Sort.with_instructions(instructions), ticket="The password does not work")["team"] == "account"


def test_an_options_description_in_the_field_counts_as_an_instruction() -> None:
    class Sort(Signature):
        ticket: str = InputField()
        team: Literal["red", "green"] = OutputField(desc="red: money; green: parcels")

    assert ask(Sort, ticket="Where is the parcel?")["team"] == "green"


@pytest.mark.parametrize(
    ("ticket", "team"),
    [("They charged me twice", "billing"), ("A lost parcel", "shipping"), ("My password is forgotten", "account")],
)
def test_the_nearest_demonstration_decides(ticket: str, team: str) -> None:
    assert ask(TEAM, DEMOS, ticket=ticket)["team"] == team


def test_a_demonstration_with_the_very_same_input_is_repeated() -> None:
    demos = [*DEMOS, {"ticket": "The parcel account", "team": "billing"}]

    assert ask(TEAM, demos, ticket="The parcel account")["team"] == "billing"


def test_other_labels_in_the_demonstrations_give_other_answers() -> None:
    swapped = [{"ticket": demo["ticket"], "team": "billing"} for demo in DEMOS]

    assert ask(TEAM, swapped, ticket="A lost parcel")["team"] == "billing"


@given(st.text(st.characters(codec="utf-8", exclude_categories=("C",))), st.integers(0, 3))
def test_an_answer_is_one_of_the_options_whatever_the_input(ticket: str, shown: int) -> None:
    assert ask(TEAM, DEMOS[:shown], ticket=ticket)["team"] in ("billing", "shipping", "account")


def test_a_demonstration_whose_label_is_no_option_is_left_out() -> None:
    demos = [{"ticket": "The parcel is lost", "team": "logistics"}, *DEMOS[:1]]

    assert ask(TEAM, demos, ticket="The parcel is lost")["team"] == "billing"


def test_booleans_are_voted_on() -> None:
    demos = [{"text": "buy cheap pills", "spam": True}, {"text": "lunch at noon", "spam": False}]

    assert ask("text -> spam: bool", demos, text="pills to buy")["spam"] is True
    assert ask("text -> spam: bool", demos, text="when is lunch")["spam"] is False


def test_labels_that_only_the_demonstrations_know_are_voted_on() -> None:
    labels = {"pills on sale": "spam", "gold on sale": "spam", "lunch at noon": "ham", "tea at noon": "ham"}
    demos = [{"text": text, "label": label} for text, label in labels.items()]

    assert ask("text -> label", demos, text="shoes on sale")["label"] == "spam"


def test_free_text_without_demonstrations_is_a_sentence_of_the_input() -> None:
    context = "Paris lies on the Seine. Berlin lies on the Spree. Rome has hills."

    assert ask("context, question -> answer", context=context, question="Which river is Berlin on?") == {
        "answer": "Berlin lies on the Spree."
    }


def test_free_text_that_demonstrations_make_up_is_the_nearest_ones_answer() -> None:
    demos = [{"q": "capital of France", "a": "It is Paris."}, {"q": "capital of Italy", "a": "That would be Rome."}]

    assert ask("q -> a", demos, q="Name the capital of Italy!")["a"] == "That would be Rome."


def test_reasoning_that_demonstrations_extract_is_extracted() -> None:
    demos = [{**demo, "reasoning": demo["ticket"]} for demo in DEMOS]
    signature = "ticket -> reasoning, team: Literal['billing', 'shipping', 'account']"

    assert ask(signature, demos, ticket="Hello there. My shipping is late.") == {
        "reasoning": "My shipping is late.",
        "team": "shipping",
    }


def test_an_extract_never_opens_a_section_of_the_answer() -> None:
    assert "[[" not in ask("text -> quote", text="see\n[[ ## quote ## ]] yes")["quote"]


def test_numbers_are_taken_from_the_input_by_the_words_around_them() -> None:
    assert ask("text -> apples: int, people: int", text="We sold to 3 people 1,204 apples") == {
        "apples": 1204,
        "people": 3,
    }


def test_numbers_that_demonstrations_judge_are_voted_on() -> None:
    demos = [{"text": "awful food", "stars": 1}, {"text": "lovely food", "stars": 5}]

    assert ask("text -> stars: int", demos, text="a lovely evening, 40 guests")["stars"] == 5


def test_lists_are_those_of_the_nearest_demonstration() -> None:
    demos = [{"text": "a dog", "tags": ["dog", "pet"]}, {"text": "a car", "tags": ["car"]}]

    assert ask("text -> tags: list[str]", demos, text="my dog")["tags"] == ["dog", "pet"]


@pytest.mark.parametrize(
    ("signature", "inputs"),
    [
        ("text -> tags: list[str]", {"text": "a"}),
        ("text -> stars: int", {"text": "no number"}),
        ("text -> counts: dict[str, int]", {"text": "a 1"}),
        ("text -> quote", {"text": " "}),
        ("task -> code", {"task": "sort a list"}),
        ("basic_instruction -> proposed_instruction", {"basic_instruction": "Sort."}),
        ("question -> next_thought, next_tool_name: Literal['search', 'finish']", {"question": "Why?"}),
    ],
)
def test_what_it_cannot_do_is_an_error_and_never_filler(signature: str, inputs: dict[str, Any]) -> None:
    with pytest.raises(LMUnsupportedFeatureError, match="nearest-neighbour learner"):
        ask(signature, **inputs)


def test_a_refusal_says_what_to_use_instead() -> None:
    with pytest.raises(LMUnsupportedFeatureError, match="openai/gpt-4o-mini") as caught:
        ask("task -> code", task="sort a list")
    assert (caught.value.provider, caught.value.model) == ("embedded", "embedded/knn")


SYSTEM, *_, QUESTION = prompt(TEAM, ticket="Hello?")


@pytest.mark.parametrize(
    "messages",
    [
        (),
        (QUESTION,),
        (SYSTEM,),
        (Message.of("system", "Be short."), Message.of("user", "Hello?")),
        (SYSTEM, Message.of("user", "Hello?")),
        (SYSTEM, QUESTION, QUESTION),
        (SYSTEM, QUESTION, Message.of("assistant", "billing"), QUESTION),
        (SYSTEM, QUESTION, Message.of("tool", "x"), QUESTION),
        (SYSTEM, Message("user", (TextPart(QUESTION.text), ImagePart("https://example.com/a.png")))),
    ],
)
def test_a_prompt_in_another_layout_is_an_error(messages: tuple[Message, ...]) -> None:
    with pytest.raises(LMUnsupportedFeatureError):
        Engine().answer(messages)


def test_an_engine_that_has_read_other_prompts_answers_the_same() -> None:
    engine = Engine()
    tickets = ["A lost parcel", "My password", "charged", "Hm."]
    first = [engine.answer(prompt(TEAM, DEMOS[:shown], ticket=t)) for t in tickets for shown in range(4)]

    assert [engine.answer(prompt(TEAM, DEMOS[:shown], ticket=t)) for t in tickets for shown in range(4)] == first
    assert [Engine().answer(prompt(TEAM, DEMOS[:shown], ticket=t)) for t in tickets for shown in range(4)] == first


def test_demonstrations_add_to_the_size_of_the_prompt() -> None:
    sizes = [Engine().answer(prompt(TEAM, DEMOS[:shown], ticket="x"))[1] for shown in range(3)]

    assert sizes == sorted(set(sizes))
