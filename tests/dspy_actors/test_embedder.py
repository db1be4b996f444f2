"""Embeddings: the dialect, the order of vectors, and the way through a runtime."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from typing import Any

import pytest

from dspy_actors.errors import (
    InputError,
    LMConfigurationError,
    LMInvalidRequestError,
    LMRateLimitError,
    LMUnexpectedError,
    LMUnsupportedFeatureError,
    NoRuntime,
)
from dspy_actors.example import Prediction
from dspy_actors.lm.budget import Budget
from dspy_actors.lm.estimate import Estimator
from dspy_actors.lm.guarding import Guarding
from dspy_actors.lm.limiter import LimiterSettings, Need
from dspy_actors.lm.providers.base import Attempt
from dspy_actors.lm.providers.vectors import Embeddings
from dspy_actors.lm.vector_text import unpack
from dspy_actors.messages import LMRequest, LMResponse, Message, Usage
from dspy_actors.modules.embedder import MAX_CHARACTERS, Embedder
from dspy_actors.modules.module import Module
from dspy_actors.runtime import Runtime
from dspy_actors.testing.peer import Peer, reply
from dspy_actors.testing.providers import ScriptedProvider
from tests.dspy_actors.programs import PATIENCE
from tests.dspy_actors.providing import ask, opened
from tests.server.client import StubServer

OPTIONS: dict[str, object] = {"model_type": "embeddings"}


def request(*texts: str, **options: object) -> LMRequest:
    return LMRequest("m", tuple(Message.of("user", text) for text in texts), {**OPTIONS, **options})


def embedder(stub: StubServer, name: str = "openai", **options: Any) -> Embedder:
    return Embedder(f"{name}/m", base_url=stub.base_url, **options)


def packed(*numbers: float) -> str:
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


def said(data: object, *texts: str) -> LMResponse:
    async def once() -> LMResponse:
        async with Peer(reply(200, json.dumps(data).encode())) as peer:
            provider = opened("openai", peer.url)
            try:
                return await provider.complete(request(*texts), Attempt("c.1"))
            finally:
                await provider.aclose()

    return asyncio.run(once())


def test_the_vectors_come_in_the_order_of_the_texts(stub: StubServer) -> None:
    with Runtime():
        assert embedder(stub)(["a", "bb", "ccc"]) == [[1.0, 0.0], [2.0, 1.0], [3.0, 2.0]]


def test_the_request_goes_out_as_the_api_has_it(stub: StubServer) -> None:
    with Runtime():
        embedder(stub, dimensions=3)(["a", "b"])
    (seen,) = stub.bodies()
    assert (seen["target"], seen["body"]) == (
        "/v1/embeddings",
        {"model": "m", "input": ["a", "b"], "encoding_format": "base64", "dimensions": 3},
    )


@pytest.mark.parametrize("name", ["openai", "local"])
def test_every_provider_of_this_dialect_embeds(stub: StubServer, name: str) -> None:
    with Runtime():
        assert embedder(stub, name)(["a"]) == [[1.0, 0.0]]
    assert stub.stats()["invalid"] == 0


def test_it_can_be_awaited(stub: StubServer) -> None:
    async def once() -> list[list[float]]:
        async with Runtime():
            return await embedder(stub).acall(["a", "bb"])

    assert asyncio.run(once()) == [[1.0, 0.0], [2.0, 1.0]]


def test_many_texts_are_sent_in_several_requests(stub: StubServer) -> None:
    texts = ["x" * (number + 1) for number in range(10)]
    with Runtime():
        vectors = embedder(stub, batch_size=4)(texts)
    assert [vector[0] for vector in vectors] == [float(number + 1) for number in range(10)]
    assert sorted(len(seen["body"]["input"]) for seen in stub.bodies()) == [2, 4, 4]


def test_long_texts_get_requests_of_their_own() -> None:
    long = "x" * (MAX_CHARACTERS - 1)
    sizes = [len(one.messages) for one in Embedder("openai/m").requests(["a", "b", long, "c", long])]
    assert sizes == [2, 2, 1]


def test_no_texts_are_no_request(stub: StubServer) -> None:
    with Runtime():
        assert embedder(stub)([]) == []
    assert stub.stats()["requests"] == 0


def test_texts_may_come_from_a_generator(stub: StubServer) -> None:
    """It was read by the look at its texts, and no text was left to embed."""
    with Runtime():
        assert embedder(stub)(text for text in ("a", "b")) == embedder(stub)(["a", "b"])
        assert len(asyncio.run(embedder(stub).acall(map(str, range(3))))) == 3


def test_vectors_are_cached(stub: StubServer) -> None:
    with Runtime():
        assert embedder(stub)(["a"]) == embedder(stub)(["a"])
    assert stub.stats()["requests"] == 1


def test_where_one_request_fails_the_others_are_not_paid_for_a_second_time(stub: StubServer) -> None:
    plan = [{"match": '"bad"', "times": 1, "fault": "status=400,hold"}, {"times": 2, "fault": "delay=300"}]
    stub.control(plan=plan)
    with Runtime() as rt:
        embed = embedder(stub, batch_size=1)
        failing = rt.start(embed).submit(texts=["bad", "a", "b"])
        stub.wait("requests>=3")
        stub.release()
        with pytest.raises(LMInvalidRequestError):
            failing.get(PATIENCE)
        assert stub.stats()["answered"] == 3
        stub.control()
        assert embed(["a", "b"]) == [[1.0, 0.0], [1.0, 0.0]]
        assert (stub.stats()["requests"], rt.numbers().sent) == (0, 3)


def test_where_one_request_fails_those_that_wait_are_not_sent(stub: StubServer) -> None:
    stub.control(fault="status=400")
    with Runtime(guarding=Guarding(limiter=LimiterSettings(requests_per_minute=1))) as rt:
        with pytest.raises(LMInvalidRequestError):
            embedder(stub, batch_size=1)(["bad", "a", "b"])
        assert rt.numbers().sent == stub.stats()["requests"] == 1


def test_an_attempt_that_failed_is_tried_again(stub: StubServer) -> None:
    stub.control(plan=[{"times": 1, "fault": "status=429,retry_after=0"}])
    with Runtime():
        assert embedder(stub)(["a"]) == [[1.0, 0.0]]


def test_an_error_is_that_of_the_call(stub: StubServer) -> None:
    stub.control(fault="status=429")
    with Runtime(), pytest.raises(LMRateLimitError):
        embedder(stub, num_retries=0)(["a"])


class Nearest(Module):
    """A program with an embedder in it."""

    def __init__(self, embed: Embedder) -> None:
        self.embed = embed

    def forward(self, text: str, others: list[str]) -> Prediction:
        mine, *rest = self.embed([text, *others])
        return Prediction(nearest=min(zip(rest, others, strict=True), key=lambda pair: abs(pair[0][0] - mine[0]))[1])


def test_it_is_a_part_of_a_program(stub: StubServer) -> None:
    with Runtime():
        found = Nearest(embedder(stub))(text="abc", others=["a", "abcd", "abcdefgh"])
    assert (found.nearest, found.usage.prompt_tokens) == ("abcd", 4)


def test_a_handle_of_it_answers_with_a_prediction(stub: StubServer) -> None:
    with Runtime() as rt:
        assert rt.start(embedder(stub))(texts=["a"]).vectors == [[1.0, 0.0]]


def test_a_handle_of_it_says_by_which_name_it_takes_texts(stub: StubServer) -> None:
    with Runtime("embedded/knn") as rt:
        started: Any = rt.start(embedder(stub))
        with pytest.raises(InputError, match=r"write program\(texts=\.\.\.\)") as caught:
            started(["a"])
    assert caught.value.field == "texts"


@pytest.mark.parametrize(
    ("inputs", "told", "field"),
    [({}, "needs the input 'texts'", "texts"), ({"texts": ["a"], "ticket": "b"}, "has no input 'ticket'", "ticket")],
)
def test_inputs_that_are_missing_or_not_known_are_the_callers_mistake(
    stub: StubServer, inputs: dict[str, Any], told: str, field: str
) -> None:
    with Runtime("embedded/knn") as rt, pytest.raises(InputError, match=told) as caught:
        rt.start(embedder(stub))(**inputs)
    assert caught.value.field == field


@pytest.mark.parametrize("texts", ["a", [""], ["a", 7], [None], None, 7, b"a"])
def test_what_is_no_list_of_texts_is_refused(stub: StubServer, texts: Any) -> None:
    with Runtime(), pytest.raises(InputError, match="none of them empty"):
        embedder(stub)(texts)


@pytest.mark.parametrize(
    "options", [{"batch_size": 0}, {"batch_size": 2049}, {"batch_size": "5"}, {"dimensions": 0}, {"dimensions": 1.5}]
)
def test_arguments_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(LMConfigurationError):
        Embedder("openai/m", **options)


def test_outside_a_runtime_it_says_so() -> None:
    with pytest.raises(NoRuntime):
        Embedder("openai/m")(["a"])


@pytest.mark.parametrize(
    ("name", "error"), [("anthropic", LMConfigurationError), ("embedded", LMUnsupportedFeatureError)]
)
def test_a_provider_without_embeddings_says_so(stub: StubServer, name: str, error: type[Exception]) -> None:
    url = stub.base_url if name == "anthropic" else None
    model = "m" if name == "anthropic" else "knn"
    with Runtime(), pytest.raises(error, match=r"no embeddings|cannot turn texts into vectors; write Embedder\("):
        Embedder(f"{name}/{model}", base_url=url, num_retries=0)(["a"])


def test_usage_counts_the_texts(stub: StubServer) -> None:
    assert ask("openai", stub.base_url, request("a", "b")).usage == Usage(prompt_tokens=2)


def test_a_server_that_knows_no_base64_is_read_too() -> None:
    answer = said({"data": [{"embedding": [1, 2.5]}, {"embedding": [3, 4]}]}, "a", "b")
    assert [unpack(text) for text in answer.texts] == [[1.0, 2.5], [3.0, 4.0]]


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"data": []},
        {"data": [{"index": 0, "embedding": [1.0]}]},
        {"data": [{"index": 0, "embedding": [1.0]}, {"index": 0, "embedding": [1.0]}]},
        {"data": [{"index": 0, "embedding": [1.0]}, {"index": 2, "embedding": [1.0]}]},
        {"data": [{"index": 0, "embedding": [1.0]}, {"index": "1", "embedding": [1.0]}]},
        {"data": [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [1.0, 2.0]}]},
        {"data": [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": []}]},
        {"data": [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": ["x"]}]},
        {"data": [{"index": 0, "embedding": "AAAA"}, {"index": 1, "embedding": "AAAA"}]},
        {"data": [{"index": 0, "embedding": "!"}, {"index": 1, "embedding": "!"}]},
        {"data": [{"index": 0, "embedding": [float("nan")]}, {"index": 1, "embedding": [1.0]}]},
        {"data": [{"index": 0, "embedding": packed(1.0, float("nan"))}, {"index": 1, "embedding": packed(1.0, 2.0)}]},
        {"data": [{"index": 0, "embedding": packed(float("inf"))}, {"index": 1, "embedding": packed(1.0)}]},
        {"data": [{"index": 0, "embedding": [1e300]}, {"index": 1, "embedding": [1.0]}]},
    ],
)
def test_anything_but_one_vector_for_each_text_is_no_answer(data: object) -> None:
    with pytest.raises(LMUnexpectedError) as caught:
        said(data, "a", "b")
    assert caught.value.provider == "openai"


def test_more_texts_than_a_request_may_hold_are_refused_before_it_is_sent() -> None:
    with pytest.raises(LMConfigurationError, match="2048"):
        Embeddings().body(request(*["a"] * 2049))


def test_a_vector_survives_packing() -> None:
    assert unpack(packed(1.5, -2.0)) == [1.5, -2.0]


def test_texts_whose_vectors_fit_the_budget_are_not_refused_for_an_answer_that_has_no_tokens(stub: StubServer) -> None:
    """256 tokens were set aside for it, by budget and limiter."""
    with Runtime(budgets={"": Budget(tokens=20)}) as rt:
        assert len(embedder(stub, cache=False)(["a short text"])) == 1
        assert rt.usage().tokens == 1
    assert Estimator().need(request("a short text"), 4) == Need(5, 0)


def embedded_by(*answers: LMResponse, texts: int) -> list[list[float]]:
    provider = ScriptedProvider([*answers])
    with Runtime(open_provider=lambda config: provider):
        for _ in answers[1:]:
            with pytest.raises(LMUnexpectedError):
                Embedder("own/m")(["a"] * texts)
        return Embedder("own/m")(["a"] * texts)


@pytest.mark.parametrize("said", [("no vector",), (packed(1.0)[:-4],), ("é",), ("",), (packed(1.0), packed(2.0)), ()])
def test_what_a_provider_of_ones_own_gives_in_place_of_vectors_is_an_error_of_its(said: tuple[str, ...]) -> None:
    with pytest.raises(LMUnexpectedError, match=r"own/m gave no vector for each of 1 texts.*vector_text") as caught:
        embedded_by(LMResponse(said, "m"), texts=1)
    assert (caught.value.provider, caught.value.model) == ("own", "m")


def test_an_answer_that_is_no_vector_is_not_given_again() -> None:
    wrong, right = LMResponse(("no vector",), "m"), LMResponse((packed(1.0),), "m")
    assert embedded_by(wrong, right, texts=1) == [[1.0]]
