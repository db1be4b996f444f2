"""A hash that is the same in every process and every run, for routing by key."""

from __future__ import annotations

import struct
import zlib

from supervisors.errors import SpecError


def stable_hash(key: object) -> int:
    """A number of 32 bits, from the value of `key` alone: Python's own `hash` of a str is another in every process.

    Values that are not equal may be told apart even where Python finds them equal (1, 1.0 and True). Raises
    `SpecError` for a key of another type: what it prints as, or where it lies, is no value to route by.
    """
    return zlib.crc32(_bytes(key))


def _bytes(key: object) -> bytes:
    """`key` as bytes with its type and its length, so that no two keys run together."""
    if isinstance(key, bool) or key is None:
        return repr(key).encode()
    if isinstance(key, str):
        return b"s%d:" % len(key) + key.encode("utf-8", "surrogatepass")
    if isinstance(key, bytes):
        return b"b%d:" % len(key) + key
    if isinstance(key, int):
        return b"i%d" % key
    if isinstance(key, float):
        return b"f" + struct.pack(">d", key)
    if isinstance(key, tuple):
        return b"t%d:" % len(key) + b",".join(map(_bytes, key))
    raise SpecError("key", key, "an int, str, bytes, float, bool, None, or a tuple of these")
