"""`fault_of`: what keeps a URL from being asked, told before a client stumbles over it. Pure; any thread."""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import urlsplit

NO_URL = "this is no http(s) URL"

_LONGEST_HOST = 253
_LONGEST_LABEL = 63
"""Characters, by the rules of the DNS."""

_NAME = re.compile(r"[a-z0-9._-]+")


@lru_cache(maxsize=256)
def fault_of(url: str) -> str | None:
    """Why no transport can ask `url`, in words to show; `None` for one that can be asked.

    Only what is ASCII is taken: the clients write the same other host in different ways (`ß` is `ss` to one of them),
    and a key must not go to whom another client would not have asked.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        known = parts.scheme in ("http", "https") and host and (parts.port is None or parts.port > 0)
    except ValueError:
        known = False
    if not known or " " in url or not url.isprintable():
        return NO_URL
    if not host.isascii():
        return f"the host {host!r:.80} is not ASCII; write it as the DNS has it, as 'xn--bcher-kva.example'"
    if not url.isascii():
        return "it is not ASCII; write other characters of its path percent-encoded, as '%C3%A9'"
    return _fault_of_address(host) if "[" in parts.netloc else _fault_of_name(host)


def _fault_of_name(host: str) -> str | None:
    if not _NAME.fullmatch(host):
        return f"the host {host!r:.80} holds a character that no host name has"
    labels = host.removesuffix(".").split(".")
    if "" in labels:
        return f"the host {host!r:.80} has nothing between two dots, or before the first"
    longest = max(labels, key=len)
    if len(longest) > _LONGEST_LABEL:
        return f"the part {longest!r:.80} of the host is longer than {_LONGEST_LABEL} characters"
    if len(host.removesuffix(".")) > _LONGEST_HOST:
        return f"the host is longer than {_LONGEST_HOST} characters"
    if any(label.startswith("xn--") for label in labels) and not _is_idna(host):
        return f"the host {host!r:.80} begins a part with 'xn--', but no name can be read from it"
    return None


def _is_idna(host: str) -> bool:
    import idna  # here, and `ipaddress` below: what `import dspy_actors` need not load

    try:
        idna.decode(host)
    except UnicodeError:
        return False
    return True


def _fault_of_address(host: str) -> str | None:
    import ipaddress

    try:
        ipaddress.IPv6Address(host.partition("%")[0])
    except ValueError:
        return f"[{host:.80}] is no IPv6 address"
    return None
