"""Demonstrations that contradict one another are not followed."""

from __future__ import annotations

from itertools import cycle, islice

from dspy_actors.lm.embedded.features import bag
from dspy_actors.lm.embedded.trust import ENOUGH, clearly_common, teach
from tests.dspy_actors.embedded import ask

FRUIT = ["apple", "pear", "plum", "cherry"]
TEXTS = [f"{fruit} {colour} {place}" for fruit in FRUIT for colour in ("red", "pale") for place in "abcdef"]
LABEL = "text -> label: Literal['no', 'yes']"


def teaches(answers: list[str], texts: list[str] = TEXTS) -> bool:
    return teach([bag(text) for text in texts], answers, sharpness=2.0, most=16)


def test_answers_that_follow_from_a_word_teach() -> None:
    assert teaches([str(text.startswith(("apple", "pear"))) for text in TEXTS])


def test_answers_dealt_out_in_turn_do_not() -> None:
    assert not teaches(list(islice(cycle(["yes", "no", "no", "yes", "no"]), len(TEXTS))))


def test_texts_without_a_word_in_common_do_not() -> None:
    assert not teaches(["yes", "no"] * 20, [f"word{number}x" for number in range(40)])


def test_a_few_demonstrations_are_always_followed() -> None:
    few = ENOUGH - 1

    assert teaches((["yes", "no"] * few)[:few], [f"word{number}x" for number in range(few)])


def test_one_answer_for_all_is_always_followed() -> None:
    assert teaches(["yes"] * len(TEXTS))


def test_an_answer_is_clearly_common_far_above_its_equal_share() -> None:
    assert clearly_common(["no"] * 36 + ["yes"] * 4, options=2) == "no"
    assert clearly_common(["no"] * 22 + ["yes"] * 18, options=2) is None


def test_contradicting_demonstrations_change_nothing() -> None:
    demos = [{"text": f"word{number}x", "label": label} for number, label in enumerate(["yes", "no"] * 20)]

    assert ask(LABEL, demos, text="word0x!")["label"] == ask(LABEL, text="word0x!")["label"] == "no"


def test_a_clearly_common_answer_is_learned_even_so() -> None:
    labels = (["yes"] * 9 + ["no"]) * 4
    demos = [{"text": f"word{number}x", "label": label} for number, label in enumerate(labels)]

    assert ask(LABEL, demos, text="something else")["label"] == "yes"
