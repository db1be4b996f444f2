"""Words, stems and the weights of features."""

from __future__ import annotations

import pytest

from dspy_actors.lm.embedded.features import bag, count_pieces, cut_pieces, stem, tokens


@pytest.mark.parametrize(
    "words",
    [
        ["ship", "ships", "shipped", "shipping", "shipment"],
        ["deliver", "delivery", "deliveries", "delivered"],
        ["charge", "charges", "charged", "charging"],
        ["cancel", "cancelled", "cancels", "cancellation"],
        ["return", "returned", "returns"],
        ["billing", "bill", "bills", "billed"],
        ["crash", "crashes", "crashed"],
    ],
)
def test_forms_of_a_word_have_one_stem(words: list[str]) -> None:
    assert len({stem(word) for word in words}) == 1


@pytest.mark.parametrize(("one", "other"), [("bill", "billion"), ("return", "turn"), ("login", "long"), ("is", "i")])
def test_other_words_keep_other_stems(one: str, other: str) -> None:
    assert stem(one) != stem(other)


def test_case_and_apostrophes_do_not_matter() -> None:
    assert tokens("Can\u2019t LOGIN") == tokens("can't login")


def test_short_numbers_are_words_and_long_ones_are_alike() -> None:
    assert tokens("404 48213 99999") == ["404", "#", "#"]


def test_neighbouring_words_count_as_pairs() -> None:
    assert "no rush" in bag("There is no rush")
    assert "there is" not in bag("There is no rush")


def test_words_come_in_the_order_of_the_text() -> None:
    assert list(bag("zebra apple")) == ["zebra", "appl", "zebra appl"]


def test_pieces_are_cut_where_a_model_would_stop() -> None:
    assert count_pieces("one, two") == 3
    assert cut_pieces("one, two", 2) == "one, "
