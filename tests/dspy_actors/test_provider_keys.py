"""What a refusal does to a key, and that no key is ever seen anywhere but in its header."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import pickle
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dspy_actors.errors import LMAuthError, LMBillingError, LMConfigurationError, LMError, LMNotConfiguredError
from dspy_actors.lm.lm import LM
from dspy_actors.lm.providers.base import Attempt, KeySource, LMConfig, Provider
from dspy_actors.lm.providers.keys import KeyRing
from dspy_actors.lm.providers.set_aside import SetAside
from dspy_actors.messages import LMRequest
from dspy_actors.runtime import Runtime
from dspy_actors.secret import Secret
from supervisors.clock import ManualClock
from supervisors.testing import wait_until
from tests.dspy_actors.over_http import ends, lm
from tests.dspy_actors.programs import PATIENCE, SOON, qa
from tests.dspy_actors.providing import TURNS, opened
from tests.server.client import StubServer

KEY, OTHER = "sk-marker-0123456789abcdef", "sk-other-0123456789abcdef"
REQUEST = LMRequest("m", TURNS)
NO_MONEY = "status=429,code=insufficient_quota"
VARIABLES = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}
HEADERS = {"openai": "authorization", "anthropic": "x-api-key", "local": "authorization"}


@pytest.fixture(autouse=True)
def no_key_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES.values():
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture(params=HEADERS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Asking:
    """A provider, asked one call after the other."""

    def __init__(self, name: str, stub: StubServer, key: KeySource) -> None:
        self.clock = ManualClock()
        self.set_aside = SetAside(self.clock.now)
        self.name, self.stub, self.key = name, stub, key

    def all(self, *steps: Callable[[], object] | None) -> list[str]:
        """Do each step, then ask; how each call ended."""
        return asyncio.run(self._all(steps))

    async def _all(self, steps: tuple[Callable[[], object] | None, ...]) -> list[str]:
        provider = opened(self.name, self.stub.base_url, self.key, set_aside=self.set_aside)
        ends: list[str] = []
        try:
            for step in steps:
                if step is not None:
                    step()
                ends.append(await end_of(provider))
        finally:
            await provider.aclose()
        return ends

    def keys(self) -> list[str]:
        """The keys that the server has seen, in order."""
        header = HEADERS[self.name]
        return [seen["headers"].get(header, "").removeprefix("Bearer ") for seen in self.stub.bodies()]


async def end_of(provider: Provider) -> str:
    try:
        await provider.complete(REQUEST, Attempt("c.1"))
    except LMError as error:
        return error.kind
    return "ok"


def test_a_refused_key_is_set_aside_and_nothing_more_is_sent(stub: StubServer, name: str) -> None:
    stub.control(keys=[KEY])
    asking = Asking(name, stub, Secret(OTHER))
    assert asking.all(None, None, None) == ["lm_auth"] * 3
    assert asking.keys() == [OTHER]


def test_a_key_without_money_is_set_aside_and_nothing_more_is_sent(stub: StubServer, name: str) -> None:
    stub.control(fault=NO_MONEY if name != "anthropic" else "status=429,code=enforced_spend_limit_reached")
    asking = Asking(name, stub, Secret(KEY))
    assert asking.all(None, None) == ["lm_billing"] * 2
    assert asking.keys() == [KEY]


def test_after_a_minute_the_key_is_tried_again(stub: StubServer, name: str) -> None:
    stub.control(plan=[{"times": 1, "fault": "status=402"}])
    asking = Asking(name, stub, Secret(KEY))
    late, in_time = lambda: asking.clock.advance(59.0), lambda: asking.clock.advance(1.5)
    assert asking.all(None, late, in_time) == ["lm_billing", "lm_billing", "ok"]


def test_the_error_of_a_key_set_aside_says_for_how_long(stub: StubServer) -> None:
    stub.control(fault=NO_MONEY)

    async def once() -> LMError:
        provider = opened("openai", stub.base_url, Secret(KEY))
        try:
            await end_of(provider)
            with pytest.raises(
                LMBillingError, match="key of openai is set aside for 60 s more, nothing was sent"
            ) as caught:
                await provider.complete(REQUEST, Attempt("c.2"))
        finally:
            await provider.aclose()
        return caught.value

    error = asyncio.run(once())
    assert (error.provider, error.model, error.status, error.provider_code) == (
        "openai",
        "m",
        429,
        "insufficient_quota",
    )
    assert 59 < (error.retry_after or 0) <= 60


@pytest.mark.parametrize("fault", ["status=429", "status=403", "status=500", "status=400", "reset"])
def test_any_other_error_leaves_the_key_where_it_is(stub: StubServer, fault: str) -> None:
    stub.control(plan=[{"times": 1, "fault": fault}])
    assert Asking("openai", stub, Secret(KEY)).all(None, None)[1] == "ok"


def test_of_several_keys_the_next_takes_the_place_of_a_refused_one(stub: StubServer, name: str) -> None:
    stub.control(keys=[KEY])
    asking = Asking(name, stub, (Secret("first-key"), Secret(OTHER), Secret(KEY)))
    assert asking.all(None, None) == ["ok", "ok"]
    assert asking.keys() == ["first-key", OTHER, KEY, KEY]


def test_the_first_key_is_used_again_when_its_minute_is_over(stub: StubServer) -> None:
    stub.control(plan=[{"times": 1, "fault": NO_MONEY}])
    asking = Asking("openai", stub, (Secret(KEY), Secret(OTHER)))
    assert asking.all(None, None, lambda: asking.clock.advance(61.0)) == ["ok"] * 3
    assert asking.keys() == [KEY, OTHER, OTHER, KEY]


def test_where_all_keys_are_set_aside_nothing_is_sent(stub: StubServer) -> None:
    stub.control(keys=[])
    asking = Asking("openai", stub, (Secret(KEY), Secret(OTHER)))
    assert asking.all(None, None) == ["lm_auth", "lm_auth"]
    assert asking.keys() == [KEY, OTHER]


def test_a_callable_is_asked_once_more_and_its_new_key_is_used(stub: StubServer, name: str) -> None:
    stub.control(keys=[KEY])
    keys = iter([OTHER, KEY])
    asking = Asking(name, stub, lambda: next(keys))
    assert asking.all(None, None) == ["ok", "ok"]
    assert (asking.keys(), asking.set_aside.snapshot()) == ([OTHER, KEY, KEY], [])


def test_a_callable_is_asked_once_more_where_a_403_says_that_its_token_has_expired(stub: StubServer) -> None:
    """It was kept until the process ended."""
    stub.control(plan=[{"times": 1, "fault": "status=403,message=Invalid access token"}])
    keys = iter([OTHER, KEY])
    asking = Asking("openai", stub, lambda: next(keys))
    assert asking.all(None, None) == ["ok", "ok"]
    assert (asking.keys(), asking.set_aside.snapshot()) == ([OTHER, KEY, KEY], [])


def test_a_callable_that_has_no_other_key_is_not_asked_again_within_a_second(stub: StubServer) -> None:
    stub.control(keys=[KEY])
    asked: list[str] = []
    asking = Asking("openai", stub, lambda: asked.append("") or OTHER)
    assert asking.all(None, None, None) == ["lm_auth"] * 3
    assert (len(asked), asking.keys()) == (2, [OTHER])


def test_a_callable_that_lags_behind_a_rotation_is_asked_again_after_a_second(stub: StubServer, name: str) -> None:
    """It was not for a minute, although it had a key that nobody had refused."""
    stub.control(keys=[KEY])
    asked: list[str] = []
    asking = Asking(name, stub, lambda: asked.append("") or (OTHER if len(asked) < 4 else KEY))
    second = lambda: asking.clock.advance(1.0)  # noqa: E731
    assert asking.all(None, None, second, None, second) == ["lm_auth"] * 4 + ["ok"]
    assert (len(asked), asking.keys()) == (4, [OTHER, KEY])


def test_calls_at_once_ask_a_callable_once_whose_key_is_set_aside(stub: StubServer) -> None:
    stub.control(keys=[])
    asked: list[str] = []
    clock = ManualClock()

    async def many() -> list[str]:
        provider = opened("openai", stub.base_url, lambda: asked.append("") or OTHER, set_aside=SetAside(clock.now))
        try:
            await end_of(provider)
            clock.advance(1.0)
            return await asyncio.gather(*(end_of(provider) for _ in range(20)))
        finally:
            await provider.aclose()

    assert asyncio.run(many()) == ["lm_auth"] * 20
    assert len(asked) == 3


def test_a_key_that_a_callable_gave_without_money_is_replaced_by_its_next(stub: StubServer) -> None:
    stub.control(plan=[{"times": 1, "fault": NO_MONEY}])
    keys = iter([OTHER, KEY])
    asking = Asking("openai", stub, lambda: next(keys))
    assert asking.all(None, lambda: asking.clock.advance(1.0)) == ["lm_billing", "ok"]
    assert asking.keys() == [OTHER, KEY]


def test_a_new_key_of_the_environment_is_sent_at_once(stub: StubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", OTHER)
    stub.control(keys=[KEY])
    asking = Asking("openai", stub, None)
    assert asking.all(None, lambda: monkeypatch.setenv("OPENAI_API_KEY", KEY)) == ["lm_auth", "ok"]
    assert asking.keys() == [OTHER, KEY]


def test_a_callable_that_has_run_dry_is_a_missing_key(stub: StubServer) -> None:
    asking = Asking("openai", stub, iter(()).__next__)
    assert asking.all(None) == ["lm_not_configured"]


def test_callables_that_hang_hold_up_no_other_model_and_no_end(stub: StubServer) -> None:
    over = threading.Event()
    with Runtime(lm(stub), transport="aiohttp", deadline=PATIENCE) as rt:
        program = rt.start(qa())
        stuck = [lm(stub).copy(api_key=lambda: str(over.wait())) for _ in range(50)]
        waiting = [program.using(lm=each, deadline=SOON).submit(question="stuck") for each in stuck]
        big = program.using(lm=lm(stub, "pad=2000000"))
        assert big(question="a big answer is read in a helper thread").answer
        assert ends(waiting) == ["deadline"] * 50
    over.set()
    wait_until(lambda: not any(thread.name == "api_key" for thread in threading.enumerate()))


def test_a_callable_is_asked_again_when_the_minute_is_over(stub: StubServer) -> None:
    stub.control(keys=[KEY])
    keys = iter([OTHER, OTHER, KEY])
    asking = Asking("openai", stub, lambda: next(keys))
    assert asking.all(None, None, lambda: asking.clock.advance(61.0)) == ["lm_auth", "lm_auth", "ok"]
    assert asking.keys() == [OTHER, KEY]


def test_a_callable_is_asked_again_also_when_nobody_called_in_between(stub: StubServer) -> None:
    stub.control(keys=[KEY])
    keys = iter([OTHER, OTHER, KEY])
    asking = Asking("openai", stub, lambda: next(keys))
    assert asking.all(None, lambda: asking.clock.advance(61.0)) == ["lm_auth", "ok"]
    assert asking.keys() == [OTHER, KEY]


def test_a_callable_with_ever_new_keys_is_asked_once_more_and_not_for_ever(stub: StubServer) -> None:
    stub.control(keys=[])
    keys = (f"key-{number}" for number in itertools.count())
    asking = Asking("openai", stub, lambda: next(keys))
    assert asking.all(None) == ["lm_auth"]
    assert asking.keys() == ["key-0", "key-1"]


def test_a_key_without_money_is_not_read_again_within_a_second(stub: StubServer) -> None:
    stub.control(fault=NO_MONEY)
    asked: list[str] = []
    assert Asking("openai", stub, lambda: asked.append("") or KEY).all(None, None) == ["lm_billing"] * 2
    assert len(asked) == 1


def test_where_all_keys_are_set_aside_the_error_says_when_the_first_comes_back(stub: StubServer) -> None:
    stub.control(plan=[{"times": 1, "fault": NO_MONEY}, {"times": 1}, {"fault": NO_MONEY}])
    asking = Asking("openai", stub, (Secret(KEY), Secret(OTHER)))
    asking.all(None, lambda: asking.clock.advance(40.0))

    async def after() -> float | None:
        provider = opened("openai", stub.base_url, asking.key, set_aside=asking.set_aside)
        try:
            with pytest.raises(LMBillingError, match="all 2 keys") as caught:
                await provider.complete(REQUEST, Attempt("c.1"))
        finally:
            await provider.aclose()
        return caught.value.retry_after

    assert asyncio.run(after()) == 20.0


def refusal(stub: StubServer, name: str, key: str, said: str) -> str:
    """The error of a request with that key, which the server refused with those words."""
    stub.control(fault=f"status=400,message={said}")

    async def once() -> str:
        provider = opened(name, stub.base_url, Secret(key))
        try:
            with pytest.raises(LMError) as caught:
                await provider.complete(REQUEST, Attempt("c.1"))
        finally:
            await provider.aclose()
        return str(caught.value)

    return asyncio.run(once())


def test_a_key_of_any_form_that_a_server_repeats_is_blotted_out(stub: StubServer, name: str) -> None:
    said = refusal(stub, name, "plainmarker77", "we do not know plainmarker77 here")
    assert "we do not know [key] here" in said


def test_a_key_too_short_to_be_a_secret_garbles_no_error(stub: StubServer, name: str) -> None:
    assert "ask your company" in refusal(stub, name, "any", "ask your company")


def test_the_environment_is_read_again_too(stub: StubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", OTHER)
    stub.control(keys=[KEY, OTHER])
    asking = Asking("openai", stub, None)

    def rotate() -> None:
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        stub.control(keys=[KEY])

    assert asking.all(None, rotate) == ["ok", "ok"]
    assert asking.keys() == [OTHER, KEY]


def test_calls_at_once_read_a_rotated_key_once(stub: StubServer) -> None:
    stub.control(keys=[KEY])
    keys = iter([OTHER, KEY])

    async def many() -> list[str]:
        provider = opened("openai", stub.base_url, lambda: next(keys))
        try:
            return await asyncio.gather(*(end_of(provider) for _ in range(20)))
        finally:
            await provider.aclose()

    assert asyncio.run(many()) == ["ok"] * 20
    assert next(keys, "none left") == "none left"


def test_calls_that_are_refused_together_ask_a_callable_once_that_has_no_other_key() -> None:
    """Each of them asked again, one after the other: 40 calls waited for 40 answers of a slow callable."""
    asked: list[str] = []

    async def many() -> list[bool]:
        config = LMConfig("openai", "m", None, lambda: asked.append("") or KEY)
        ring = KeyRing(config, "http://here", SetAside(ManualClock().now), variable=None, required=True)
        key = await ring.current()
        return await asyncio.gather(*(ring.refused(key, LMAuthError("no", status=401)) for _ in range(20)))

    assert asyncio.run(many()) == [False] * 20
    assert len(asked) == 2


def test_a_key_is_set_aside_at_its_endpoint_only_and_for_all_models_there(stub: StubServer) -> None:
    stub.control(plan=[{"times": 1, "fault": NO_MONEY}])
    set_aside = SetAside()

    async def three() -> list[str]:
        urls = [stub.base_url, stub.base_url, stub.at("delay=0")]
        providers = [opened("openai", url, Secret(KEY), set_aside=set_aside) for url in urls]
        try:
            return [await end_of(provider) for provider in providers]
        finally:
            for provider in providers:
                await provider.aclose()

    assert asyncio.run(three()) == ["lm_billing", "lm_billing", "ok"]


def test_keys_set_aside_are_published_by_their_id() -> None:
    set_aside = SetAside(ManualClock().now)
    set_aside.add("https://a/v1", Secret(KEY).key_id, LMAuthError("no"))
    assert set_aside.snapshot() == [
        {"endpoint": "https://a/v1", "key_id": Secret(KEY).key_id, "kind": "lm_auth", "seconds_left": 60.0}
    ]


def test_after_a_top_up_every_key_can_be_used_at_once() -> None:
    set_aside = SetAside()
    set_aside.add("https://a/v1", "1", LMBillingError("no"))
    set_aside.clear()
    assert (set_aside.find("https://a/v1", "1"), set_aside.snapshot()) == (None, [])


def test_old_entries_do_not_pile_up() -> None:
    clock = ManualClock()
    set_aside = SetAside(clock.now)
    for number in range(100):
        set_aside.add("e", str(number), LMAuthError("no"))
        clock.advance(30.0)
    assert len(set_aside._keys) <= 3


def test_a_runtime_shows_the_keys_it_has_set_aside(stub: StubServer) -> None:
    stub.control(fault=NO_MONEY)
    with Runtime(lm=LM("openai/m", base_url=stub.base_url, api_key=KEY)) as rt:
        for question in ("a", "b"):
            with pytest.raises(LMBillingError):
                qa()(question=question)
        (shown,) = rt.health()["keys_set_aside"]  # type: ignore[misc]
    assert (shown["key_id"], shown["kind"], stub.stats()["requests"]) == (Secret(KEY).key_id, "lm_billing", 1)


def test_a_list_of_keys_is_an_lms_key(stub: StubServer) -> None:
    stub.control(keys=[KEY])
    with Runtime(lm=LM("openai/m", base_url=stub.base_url, api_key=[OTHER, KEY])):
        assert qa()(question="a").answer
    assert stub.stats()["requests"] == 2


@pytest.mark.parametrize("key", [7, [], [7], {"a": "b"}, [None]])
def test_what_is_no_key_is_refused_when_the_lm_is_written(key: Any) -> None:
    with pytest.raises(LMConfigurationError, match="api_key"):
        LM("openai/m", api_key=key)


def test_a_copy_of_an_lm_hides_its_new_key_too() -> None:
    assert "marker" not in repr(vars_of(LM("openai/m").copy(api_key=KEY)))


def vars_of(lm: LM) -> list[object]:
    return [lm, lm.config, lm.api_key, lm.to_state()]


@pytest.fixture
def everything_logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """All that the clients log about their requests, at the lowest level."""
    with caplog.at_level(logging.DEBUG):
        for logger in ("httpx", "httpcore", "aiohttp", "aiohttp.client", "asyncio"):
            logging.getLogger(logger).setLevel(logging.DEBUG)
        yield caplog
    for logger in ("httpx", "httpcore", "aiohttp", "aiohttp.client", "asyncio"):
        logging.getLogger(logger).setLevel(logging.NOTSET)


FAULTS = ["", "status=401", "status=402", "status=429", "status=500", "reset", "html", "malformed", "cut=3", "error"]


@pytest.mark.parametrize("transport", ["httpx", "aiohttp", "h11"])
def test_a_marker_key_is_seen_nowhere(
    stub: StubServer, name: str, transport: str, everything_logged: pytest.LogCaptureFixture
) -> None:
    said: list[str] = []

    async def use(fault: str) -> None:
        stub.control(fault=f"{fault},message=you sent {KEY}" if "status" in fault else fault)
        provider = opened(name, stub.base_url, Secret(KEY), transport)
        said.append(f"{provider!r} {vars(provider)}")
        try:
            said.append(repr(await provider.complete(REQUEST, Attempt("c.1"))))
        except LMError as error:
            said.extend(["".join(traceback.format_exception(error)), json.dumps(error.to_wire()), chain(error)])
            said.append(str(pickle.dumps(error)))
        finally:
            await provider.aclose()

    for fault in FAULTS:
        asyncio.run(use(fault))
    sent = stub.bodies()[0]["headers"][HEADERS[name]]
    assert (KEY in sent, "marker" in "".join(said), "marker" in everything_logged.text) == (True, False, False)


def chain(error: BaseException | None) -> str:
    """Every error that led to this one, with its attributes."""
    links = []
    while error is not None:
        links.append(f"{error!r} {vars(error)}")
        error = error.__cause__ or error.__context__
    return "\n".join(links)


def test_a_callable_that_gives_no_key_is_told_also_where_none_is_needed() -> None:
    config = LMConfig("local", "m", None, lambda: "", None)

    async def current() -> Secret | None:
        return await KeyRing(config, "http://here/v1", SetAside(), variable=None, required=False).current()

    with pytest.raises(LMNotConfiguredError, match="returned an empty string"):
        asyncio.run(current())


def test_what_a_callable_raises_is_told_without_what_looks_like_a_key() -> None:
    def fails() -> str:
        raise OSError(f"the vault is sealed, it had {KEY}")

    config = LMConfig("local", "m", None, fails, None)

    async def current() -> Secret | None:
        return await KeyRing(config, "http://here/v1", SetAside(), variable=None, required=False).current()

    with pytest.raises(LMNotConfiguredError, match=r"raised OSError: the vault is sealed, it had …$"):
        asyncio.run(current())
