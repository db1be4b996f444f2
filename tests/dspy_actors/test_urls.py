"""A mistyped base URL is refused where it is written, by whom it is given to, and never by a client's codec."""

from __future__ import annotations

import asyncio

import pytest

from dspy_actors.errors import LMConfigurationError, LMTransportError
from dspy_actors.lm.lm import LM
from dspy_actors.lm.providers.base import LMConfig, checked_base_url
from dspy_actors.lm.transports.base import HTTPRequest
from dspy_actors.lm.transports.slotted import Head, SlottedTransport
from dspy_actors.lm.transports.trip import Trip
from dspy_actors.lm.transports.urls import NO_URL, fault_of

FAULTS = {
    "https://api..example.com/v1": "nothing between two dots",
    "http://.a/": "before the first",
    "http://./": "before the first",
    "http://a../": "nothing between two dots",
    f"http://{'a' * 64}.com/": "longer than 63",
    f"http://{'.'.join(['a' * 63] * 4)}/": "longer than 253",
    "http://xn--é/": "not ASCII",
    "http://xn--a/": "no name can be read",
    "http://。/": "not ASCII",
    "http://ß.example/": "not ASCII",
    "http://a.example/v1/é": "percent-encoded",
    "http://a%2eb/": "no host name has",
    "http://[v1.x]/": "no IPv6 address",
}
FINE = (
    "http://localhost:8000/v1",
    "https://a./v1",
    "http://a_b.example/v1",
    "http://[::1]:9/",
    "http://[fe80::1%25lo]:9/",
    "HTTP://A.example/v1/%C3%A9",
    "http://xn--bcher-kva.example/",
    f"http://{'a' * 63}.com/",
    f"http://{'.'.join(['a' * 63] * 3)}.{'a' * 61}/",
    f"http://{'.'.join(['a' * 63] * 3)}.{'a' * 61}./",
)


@pytest.mark.parametrize("url", FAULTS)
def test_a_url_that_nobody_could_ask_is_told_what_is_wrong_with_it(url: str) -> None:
    assert FAULTS[url] in (fault_of(url) or "")


@pytest.mark.parametrize("url", FINE)
def test_a_url_that_can_be_asked_has_no_fault(url: str) -> None:
    assert fault_of(url) is None


@pytest.mark.parametrize(
    "url", ["ftp://a/", "a/v1", "http://", "http://[::1", "http://a:0/", "http://a b/", "http://a/\n"]
)
def test_what_is_no_url_is_called_so(url: str) -> None:
    assert fault_of(url) == NO_URL


@pytest.mark.parametrize("url", FAULTS)
def test_a_provider_refuses_a_base_url_that_nobody_could_ask(url: str) -> None:
    with pytest.raises(LMConfigurationError, match=FAULTS[url]):
        checked_base_url(LMConfig("openai", "m", url), "http://localhost/v1")


@pytest.mark.parametrize("url", FAULTS)
def test_an_lm_is_not_made_with_a_base_url_that_nobody_could_ask(url: str) -> None:
    for word in ("base_url", "api_base"):
        with pytest.raises(LMConfigurationError, match=FAULTS[url]):
            LM("openai/m", **{word: url})  # type: ignore[arg-type]


def test_a_base_url_that_is_refused_tells_no_password() -> None:
    with pytest.raises(LMConfigurationError) as refused:
        LM("openai/m", base_url="http://me:marker@api..example.com/v1?key=marker")
    assert "marker" not in str(refused.value)


def test_an_lm_may_name_a_place_that_only_its_provider_knows() -> None:
    assert LM("local/m", base_url="ollama").base_url == "ollama"


class Stumbling(SlottedTransport):
    """A client whose codec stumbles, before or after the request was sent; its words hold the key."""

    def __init__(self, *, sent: bool = False, base_url: str = "http://a.example/v1") -> None:
        super().__init__(base_url, None)
        self._sent = sent

    async def _begun(self, request: HTTPRequest, trip: Trip) -> Head:
        if self._sent:
            trip.written()
        raise UnicodeEncodeError("ascii", "sk-marker", 0, 1, "not for me")

    async def aclose(self) -> None:
        await self._end_all()


@pytest.mark.parametrize(("sent", "code"), [(False, "url"), (True, "encoding")])
def test_what_a_codec_says_is_a_typed_error_that_is_not_tried_again(sent: bool, code: str) -> None:
    async def once() -> list[LMTransportError]:
        transport = Stumbling(sent=sent)
        request = HTTPRequest("POST", "http://a.example/v1", {})
        told = []
        for ask in (transport.send, transport.open):
            with pytest.raises(LMTransportError) as stumbled:
                await ask(request)
            told.append(stumbled.value)
        await transport.aclose()
        return told

    for error in asyncio.run(once()):
        assert (error.provider_code, error.__context__) == (code, None)
        assert "UnicodeEncodeError" in str(error)
        assert "marker" not in str(error)


@pytest.mark.parametrize("url", [*FAULTS, "http://[::1/"])
def test_no_kind_of_transport_is_made_for_a_url_that_nobody_could_ask(url: str) -> None:
    async def once() -> None:
        with pytest.raises(LMTransportError) as refused:
            Stumbling(base_url=url)
        assert refused.value.provider_code == "url"

    asyncio.run(once())
