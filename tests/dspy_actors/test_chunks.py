"""The chunked coding is read as h11 reads it, however the bytes are cut."""

from __future__ import annotations

import h11
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dspy_actors.lm.transports.chunks import ChunkReader

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def read(*reads: bytes) -> tuple[bytes, bool, bytes] | None:
    """The body, whether it has ended, and what came after it; `None` where it is none."""
    reader = ChunkReader()
    body = b""
    try:
        for data in reads:
            body += reader.feed(data)
    except ValueError:
        return None
    return body, reader.ended, reader.unread if reader.ended else b""


def read_by_h11(data: bytes) -> tuple[bytes, bool, bytes] | None:
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("host", "a")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(HEAD + data)
    body, ended = b"", False
    try:
        while (event := connection.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
            if isinstance(event, h11.Data):
                body += event.data
            ended = ended or isinstance(event, h11.EndOfMessage)
            if ended:
                break
    except h11.RemoteProtocolError:
        return None
    return body, ended, connection.trailing_data[0] if ended else b""


PARTS = st.sampled_from(
    b"3\r\nabc\r\n|0\r\n|\r\n|0\r\n\r\n|A\r\n0123456789\r\n|00f|1;x=y\r\na\r\n|Name: value\r\n|5|abc|\r|\n|"
    b"-1\r\n|0x1\r\n|1 \r\nb\r\n|g\r\n".split(b"|")
)


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(PARTS, max_size=10), st.data())
def test_any_cut_of_any_bytes_gives_what_h11_gives(parts: list[bytes], draw: st.DataObject) -> None:
    text = b"".join(parts)
    places = sorted(draw.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    reads = [text[begin:end] for begin, end in zip([0, *places], [*places, len(text)], strict=True)]
    expected = read_by_h11(text)
    assert read(text) == read(*reads) == read(*(text[at : at + 1] for at in range(len(text))))
    found = read(text)
    bare = b"\n" in text.replace(b"\r\n", b"")  # a line that ends in LF alone, which h11 takes in places
    if expected is not None and expected[1] and not bare:
        assert found == expected
    if found is not None and found[1]:
        assert expected == found


@pytest.mark.parametrize(
    "data",
    [
        b"x" * 9000,
        b"0\r\n" + b"x" * 9000,
        b"0\r\n" + b"a: b\r\n" * 9000,
        b"0\r\nno trailer\r\n",
        b"3\r\nabcd\r\n",
        b"\r\n",
        b" 1\r\na\r\n",
        b"ffffffffffffffffff\r\n",
    ],
)
def test_what_are_no_chunks_is_refused(data: bytes) -> None:
    assert read(data) is None


def test_trailers_are_thrown_away_and_what_follows_is_not() -> None:
    assert read(b"1\r\na\r\n0\r\nA: b\r\nC: d\r\n\r\nHTTP/1.1 200") == (b"a", True, b"HTTP/1.1 200")
