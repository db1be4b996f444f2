"""The tickets that ship with the package, and what the embedded model learns from them and from another subject."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from dspy_actors.demo.data import CATEGORIES, INSTRUCTIONS, URGENCIES, load_tickets, read_tickets
from dspy_actors.evaluation.evaluate import Evaluate
from dspy_actors.example import Example, Prediction
from dspy_actors.modules.predict import Predict
from dspy_actors.runtime import Runtime
from tests.dspy_actors.embedded import Subject, courses, shuffled

ROWS = read_tickets()
TICKETS = Subject(ROWS, INSTRUCTIONS)
COURSES = courses()
SUBJECTS = [pytest.param(TICKETS, id="tickets"), pytest.param(COURSES, id="courses")]


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z0-9]+", text.lower()))


def likeness(one: str, other: str) -> float:
    """Jaccard's: the share of their distinct words that two texts have in common."""
    return len(words(one) & words(other)) / len(words(one) | words(other))


def test_there_are_enough_tickets_of_each_kind() -> None:
    assert len(ROWS) >= 240
    assert set(Counter(row["category"] for row in ROWS).values()) == {48}
    assert min(Counter(row["urgency"] for row in ROWS).values()) > 70


def test_labels_are_the_documented_ones() -> None:
    assert {row["category"] for row in ROWS} == set(CATEGORIES)
    assert {row["urgency"] for row in ROWS} == set(URGENCIES)


def test_no_ticket_comes_twice() -> None:
    assert len({" ".join(sorted(words(row["ticket"]))) for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_no_held_out_text_is_nearly_a_train_text(subject: Subject) -> None:
    name = subject.input
    most = max(likeness(one[name], other[name]) for one in subject.held_out for other in subject.train)

    assert most < 0.5


def test_the_split_is_the_files() -> None:
    train, held_out = load_tickets()

    assert (len(train), len(held_out)) == (192, 96)
    assert held_out[0].toDict() == {k: v for k, v in TICKETS.held_out[0].items() if k != "split"}


def test_an_examples_input_is_the_ticket() -> None:
    train, _ = load_tickets()

    assert list(train[0].inputs().keys()) == ["ticket"]


@pytest.mark.parametrize("subject", SUBJECTS)
def test_without_demonstrations_it_is_no_worse_than_the_majority(subject: Subject) -> None:
    assert subject.score([]) >= subject.majority()


@pytest.mark.parametrize("subject", SUBJECTS)
def test_demonstrations_raise_the_score_by_far(subject: Subject) -> None:
    assert subject.score(subject.drawn()) >= subject.score([]) + 25


@pytest.mark.parametrize("subject", SUBJECTS)
def test_demonstrations_with_shuffled_labels_do_not_help(subject: Subject) -> None:
    scores = [subject.score(shuffled(subject.drawn(), subject.labels, seed)) for seed in range(4)]

    assert sum(scores) / 4 <= subject.score([]) + 3


@pytest.mark.parametrize("concurrency", [1, 64])
def test_scores_do_not_depend_on_how_many_are_asked_at_once(concurrency: int) -> None:
    program = Predict(COURSES.signature)
    program.demos = COURSES.drawn()
    rows = [Example(row).with_inputs(COURSES.input) for row in COURSES.held_out]
    with Runtime(lm="embedded/knn"):
        result = Evaluate(devset=rows, metric=right_labels, num_threads=concurrency)(program)

    assert (result.score, result.coverage) == (pytest.approx(COURSES.score(COURSES.drawn()), abs=0.01), 1.0)


def right_labels(example: Example, prediction: Prediction, trace: object = None) -> float:
    return sum(prediction[label] == example[label] for label in COURSES.labels) / len(COURSES.labels)


SCORES = """
from dspy_actors.evaluation.evaluate import Evaluate
from dspy_actors.example import Example, Prediction
from dspy_actors.modules.predict import Predict
from dspy_actors.runtime import Runtime
from tests.dspy_actors.embedded import courses
subject = courses()
print(subject.score(subject.drawn()))
"""


def test_scores_do_not_depend_on_the_hash_seed() -> None:
    root = Path(__file__).parents[2]
    printed = [
        subprocess.run(
            [sys.executable, "-c", SCORES],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]

    assert printed == [f"{COURSES.score(COURSES.drawn())}\n"] * 2
