"""`Broken`: what the connections of the transports raise among themselves, and what they refuse alike."""

from __future__ import annotations

from collections.abc import Mapping


class Broken(Exception):
    """A connection ended or spoke no HTTP. `code` as in `transport_error`."""

    def __init__(self, what: str, code: str = "cut") -> None:
        super().__init__(what)
        self.code = code


def broken(head: object | None, how: str) -> Broken:
    """A connection that broke; `head` is the answer's, if it had come."""
    where = "before it answered" if head is None else "in the middle of its answer"
    return Broken(f"the connection broke {where}: {how}")


def untrusted(why: object) -> Broken:
    """A connection that was not made, for the server's certificate was refused."""
    what = f"the certificate is not trusted: {why} (a CA of your own: name the file that holds it in SSL_CERT_FILE)"
    return Broken(what, "certificate")


def check_head(status: int, headers: Mapping[str, str], coded_twice: bool = False) -> None:
    """Refuse a head that is no answer's, or of whose body two readers would disagree. Raises `Broken`.

    The parsers differ in it: one reads chunks where a length is said too, another takes packed chunks for plain ones.
    RFC 9112, 6.1 and 6.3, leaves it to us; a proxy on the way may have read the other half.
    """
    if status == 101:
        raise Broken("the server changed to another protocol, which was not asked for")
    coding = headers.get("transfer-encoding")
    if coding is None:
        return
    if coded_twice or coding.strip().lower() != "chunked":
        raise Broken(f"the server answered in the transfer coding {coding!r}, which was not asked for", "encoding")
    if "content-length" in headers:
        raise Broken("the answer says both that it comes in chunks and how long it is")
