"""Both transports against the same contract, and what only one of them has."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import pytest

from dspy_actors.errors import LMConfigurationError, LMTransportError
from dspy_actors.lm.transports.base import (
    HTTPRequest,
    HTTPResponse,
    Take,
    TransportFactory,
    TransportSettings,
    proxy_from_environment,
)
from dspy_actors.lm.transports.choose import choose
from dspy_actors.lm.transports.refusal import RefusalBody
from dspy_actors.lm.transports.slots import Slots
from dspy_actors.testing.incoming import INCOMING_CHECKS
from dspy_actors.testing.incoming_ends import END_CHECKS
from dspy_actors.testing.peer import Peer, Reaction, reply
from dspy_actors.testing.transports import TRANSPORT_CHECKS, Check
from tests.dspy_actors.pouring import pouring
from tests.server.client import StubServer

TRANSPORTS = ("httpx", "aiohttp", "h11")


@pytest.fixture(params=TRANSPORTS)
def factory(request: pytest.FixtureRequest) -> TransportFactory:
    return choose(request.param)


@pytest.mark.parametrize("check", TRANSPORT_CHECKS, ids=lambda check: check.__name__)
def test_a_transport_keeps_its_contract(factory: TransportFactory, check: Check) -> None:
    asyncio.run(check(factory))


@pytest.mark.parametrize("check", INCOMING_CHECKS + END_CHECKS, ids=lambda check: check.__name__)
def test_an_answer_that_is_poured_keeps_the_contract_of_reads(factory: TransportFactory, check: Check) -> None:
    asyncio.run(check(pouring(factory)))


@pytest.mark.parametrize("name", ["aiohttp", "h11"])
def test_half_a_status_line_forbids_the_second_try(name: str) -> None:
    """It may be the beginning of an answer that was paid for. httpx does not tell it from silence."""

    async def once() -> int:
        async with Peer(reply(), Reaction(b"HTTP/1.1 2", close=True)) as peer:
            transport = choose(name)(peer.url, TransportSettings())
            request = HTTPRequest("POST", peer.url, {}, b"{}")
            await transport.send(request)
            with pytest.raises(LMTransportError):
                await transport.send(request)
            await transport.aclose()
            return len(peer.seen)

    assert asyncio.run(once()) == 2


@pytest.mark.parametrize("name", TRANSPORTS)
def test_a_proxy_of_the_environment_is_used_for_other_hosts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def once() -> tuple[HTTPResponse, str]:
        async with Peer(reply(200, b"from the proxy")) as proxy:
            monkeypatch.setenv("http_proxy", proxy.url)
            transport = choose(name)("http://model.invalid/v1", TransportSettings())
            monkeypatch.delenv("http_proxy")
            try:
                answer = await transport.send(HTTPRequest("POST", "http://model.invalid/v1/chat", {}, b"{}"))
            finally:
                await transport.aclose()
            return answer, proxy.seen[0].head

    answer, head = asyncio.run(once())
    assert answer.body == b"from the proxy"
    assert head.startswith("POST http://model.invalid/v1/chat HTTP/1.1")


@pytest.mark.parametrize(
    ("url", "variables", "proxy"),
    [
        ("http://a.example/v1", {"http_proxy": "http://p:1"}, "http://p:1"),
        ("https://a.example/v1", {"http_proxy": "http://p:1"}, None),
        ("https://a.example/v1", {"all_proxy": "http://p:1"}, "http://p:1"),
        ("https://a.example/v1", {"https_proxy": "http://p:1", "no_proxy": "a.example"}, None),
        ("http://127.0.0.1:8000/v1", {"http_proxy": "http://p:1"}, None),
        ("http://localhost/v1", {"http_proxy": "http://p:1"}, None),
        ("http://[::1]/v1", {"http_proxy": "http://p:1"}, None),
    ],
)
def test_the_proxy_is_the_one_the_environment_names(
    url: str, variables: dict[str, str], proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert proxy_from_environment(url, TransportSettings()) == proxy
    assert proxy_from_environment(url, TransportSettings(trust_env=False)) is None


def test_auto_is_a_transport_that_is_installed() -> None:
    assert choose("auto") is choose("aiohttp")


def test_an_unknown_transport_names_the_known_ones() -> None:
    with pytest.raises(LMConfigurationError, match="httpx"):
        choose("curl")


def test_aiohttp_without_its_extra_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['aiohttp'] = None\n"
        "from dspy_actors.lm.transports.choose import choose\n"
        "assert choose('auto') is choose('httpx')\n"
        "choose('aiohttp')"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'dspy-actors[fast]'" in ended.stderr.splitlines()[-1]


def test_choosing_loads_no_client() -> None:
    code = (
        "import sys; from dspy_actors.lm.transports.choose import choose; choose('auto'); choose('httpx')\n"
        "print(*{'httpx', 'aiohttp'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("name", TRANSPORTS)
def test_a_thousand_requests_at_once_are_a_thousand_at_the_server(name: str, stub: StubServer) -> None:
    stub.control(fault="hold")

    async def all_at_once() -> set[int]:
        transport = choose(name)(stub.base_url, TransportSettings())
        body = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'
        request = HTTPRequest("POST", f"{stub.base_url}/chat/completions", {"content-type": "application/json"}, body)
        try:
            tasks = [asyncio.create_task(transport.send(request)) for _ in range(1000)]
            await asyncio.to_thread(stub.wait, "in_flight>=1000", timeout=30.0)
            stub.release()
            return {(await task).status for task in tasks}
        finally:
            await transport.aclose()

    assert asyncio.run(all_at_once()) == {200}
    assert stub.stats()["peak"] == 1000


def test_slots_are_given_first_come_first_served() -> None:
    async def turns() -> list[int]:
        slots, order = Slots(1), list[int]()
        assert slots.take()

        async def wait(number: int) -> None:
            await slots.wait()
            order.append(number)
            slots.give_back()

        tasks = [asyncio.create_task(wait(number)) for number in range(5)]
        await asyncio.sleep(0)
        slots.give_back()
        await asyncio.gather(*tasks)
        return [*order, slots.held]

    assert asyncio.run(turns()) == [0, 1, 2, 3, 4, 0]


def test_a_slot_handed_to_a_waiter_that_is_cancelled_is_passed_on() -> None:
    async def handed() -> int:
        slots = Slots(1)
        slots.take()
        first, second = (asyncio.create_task(slots.wait()) for _ in range(2))
        await asyncio.sleep(0)
        slots.give_back()
        first.cancel()
        await second
        return slots.waiting

    assert asyncio.run(handed()) == 0


@pytest.mark.parametrize("connections", [0, -1])
def test_a_transport_without_connections_is_refused(connections: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Slots(connections)


class TenBytes:
    """A body of ten bytes, and whether its connection was kept."""

    def __init__(self) -> None:
        self.rest = [b"hello", b"hello", b""]
        self.kept: list[bool] = []

    async def next(self) -> bytes:
        return self.rest.pop(0)

    async def pour(self, take: Take) -> bool:
        raise NotImplementedError

    async def release(self, clean: bool) -> None:
        self.kept.append(clean)


@pytest.mark.parametrize(("bound", "body", "kept"), [(20, b"hellohello", True), (7, b"hellohe", False)])
def test_the_connection_of_a_refusal_is_kept_only_where_its_end_was_read(bound: int, body: bytes, kept: bool) -> None:
    source = TenBytes()

    async def read() -> bytes:
        refusal, found = RefusalBody(source, bound), b""
        while piece := await refusal.next():
            found += piece
        await refusal.release(True)
        return found

    assert (asyncio.run(read()), source.kept) == (body, [kept])


def test_the_connection_of_a_refusal_that_broke_off_is_not_kept() -> None:
    class Breaks(TenBytes):
        async def next(self) -> bytes:
            raise LMTransportError("the connection broke", provider_code="cut")

    source = Breaks()

    async def read() -> bytes:
        refusal = RefusalBody(source, 20)
        found = await refusal.next()
        await refusal.release(True)
        return found

    assert (asyncio.run(read()), source.kept) == (b"", [False])
