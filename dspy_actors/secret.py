"""`Secret`: a provider's key that prints redacted wherever it turns up; `redacted`: a text without one."""

from __future__ import annotations

import hashlib
import re
from typing import NoReturn

from dspy_actors.errors import LMConfigurationError

_ASSIGNED = re.compile(
    r"""(?ix) ( \b [\w-]* (?: api[_-]?key | token | secret | passw(?:or)?d | passphrase | authorization ) [\w-]* \b
              ["']? \s* (?: [:=] | \b is \b ) \s* ["']? (?: bearer \s+ | basic \s+ )? ) [^\s"',;&]+""",
)
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{6,}")
_IN_URL = re.compile(r"(?i)(\w://)[^\s/@]+@")
_PREFIXED = re.compile(
    r"\b(?:(?:sk|pk|rk|glpat|xox[a-z])-|(?:sk|pk|rk|ghp|gho|ghs|github_pat|hf)_|AKIA|ASIA|AIza|eyJ)[\w.~+/=-]{6,}"
)
_RANDOM = re.compile(r"(?=[\w+/=.~-]*\d)(?=[\w+/=.~-]*[A-Za-z])[\w+/=.~-]{20,}|\d(?:[ -]?\d){11,}")


def redacted(text: str) -> str:
    """`text` with `…` for what looks like a key, a password or a card number. A net, no proof: keep texts short too."""
    text = _IN_URL.sub(r"\1…@", _ASSIGNED.sub(r"\1…", text))
    return _RANDOM.sub("…", _PREFIXED.sub("…", _BEARER.sub(r"\1 …", text)))


def may_blot(key: str) -> bool:
    """Whether `key` is blotted out of errors: one of fewer than 8 characters is not, it would garble their words."""
    return len(key) >= 8


UNSENDABLE = "holds characters that an HTTP header cannot hold; was it cut or pasted with its line break?"


def may_be_sent(key: str) -> bool:
    """Whether `key` may stand in an HTTP header: printable ASCII without a blank."""
    return key.isascii() and key.isprintable() and " " not in key


class Secret:
    """A key, shown as its last four characters at most.

    `repr`, `str`, f-strings, logs, crash reports and snapshots print `Secret('…wxyz')`; pickling and copying into
    a file is refused. The value itself is read in one place only, `reveal()`, at the moment a request's headers are
    built. Raises `LMConfigurationError` for what is no string, or an empty one.
    """

    __slots__ = ("_value", "key_id")
    key_id: str
    """Eight hex digits that identify the key in names, events and snapshots without revealing it."""

    def __init__(self, value: str) -> None:
        if not isinstance(value, str) or not value.strip():
            msg = "a Secret needs a non-empty string; leave the key out or set the provider's environment variable"
            raise LMConfigurationError(msg)
        self._value = value.strip()
        named = self._value.encode("utf-8", "surrogatepass")  # whether it can be sent is asked elsewhere
        self.key_id = hashlib.sha256(b"dspy-actors key id\0" + named).hexdigest()[:8]

    def reveal(self) -> str:
        """The key in plain text. Call it where a header is written and nowhere else."""
        return self._value

    def __repr__(self) -> str:
        shown = self._value[-4:] if len(self._value) >= 12 else ""
        return f"Secret('…{shown}')"

    __str__ = __repr__

    def __format__(self, format_spec: str) -> str:
        return format(repr(self), format_spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> NoReturn:
        msg = "a Secret does not leave its process: hand over a callable or an environment variable's name instead"
        raise TypeError(msg)
