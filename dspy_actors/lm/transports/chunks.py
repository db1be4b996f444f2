"""`ChunkReader`: the chunked transfer coding of HTTP/1.1, read from bytes as they come.

h11 reads it too, at ten times the cost: a streamed answer has a chunk for each of its events. Pure, and stricter: every
line ends in CR LF.
"""

from __future__ import annotations

import re

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\x00-\x08\x0a-\x1f\x7f]*)?")

_TRAILER = re.compile(rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+:[^\x00-\x08\x0a-\x1f\x7f]*")

_SMALL = {b"%x" % size: size for size in range(1, 1024)}
"""The sizes of most chunks, as most servers write them."""

_LINE = 8 * 1024
"""Bytes that the line of a size, and all trailers together, may have."""


class ChunkReader:
    """Bytes in, the body out. Any way of cutting the bytes gives the same body."""

    __slots__ = ("_buffer", "_left", "_room", "_trailing", "ended")

    def __init__(self) -> None:
        self._buffer = b""
        self._left = -2  # of the chunk under way, with the line end after it; -2: its size comes first; -1: trailers
        self._trailing = False
        self._room = _LINE  # for trailers
        self.ended = False
        """Whether the last chunk and its trailers were read."""

    @property
    def unread(self) -> bytes:
        """What came after the end, or is not a whole line yet."""
        return self._buffer

    def feed(self, data: bytes) -> bytes:
        """What `data` adds to the body. Raises `ValueError` for what are no chunks."""
        if self._buffer:
            data = self._buffer + data
        parts: list[bytes] = []
        at, size = self._small(data, parts) if self._left == -2 else 0, len(data)
        while not self.ended:
            if self._left > 2:
                part = data[at : at + self._left - 2]
                if not part:
                    break
                parts.append(part)
                at += len(part)
                self._left -= len(part)
            elif self._left > 0:  # its line end
                if size - at < 2:
                    break
                if data[at : at + 2] != b"\r\n":
                    raise ValueError("a chunk that is longer than its size")
                at += 2
                self._left = -2
            else:
                end = data.find(b"\r\n", at)
                if end < 0:
                    if size - at > _LINE:
                        raise ValueError("a chunk without a size")
                    break
                self._line(data[at:end])
                at = end + 2
        self._buffer = data[at:] if at else data
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _small(self, data: bytes, parts: list[bytes]) -> int:
        """Take chunks from the beginning of `data` as long as they are small and whole; where the others begin."""
        at = 0
        while (end := data.find(b"\r\n", at, at + 5)) > 0:
            size = _SMALL.get(data[at:end])
            if size is None:
                break
            behind = end + 2 + size
            if data[behind : behind + 2] != b"\r\n":
                break
            parts.append(data[end + 2 : behind])
            at = behind + 2
        return at

    def _line(self, line: bytes) -> None:
        """A line that is not of the body: a size, or a trailer after the last chunk, which is thrown away."""
        if self._trailing:
            self.ended = not line
            self._room -= len(line)
            if line and (self._room < 0 or _TRAILER.fullmatch(line) is None):
                raise ValueError("a trailer that is none")
            return
        found = _SIZE.fullmatch(line)
        if found is None:
            raise ValueError("a chunk whose size is no number")
        size = int(found[1], 16)
        if size:
            self._left = size + 2
        else:
            self._trailing = True
            self._left = -1
