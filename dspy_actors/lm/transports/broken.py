"""`Broken`: what the connections of the transports raise among themselves."""

from __future__ import annotations


class Broken(Exception):
    """A connection ended or spoke no HTTP. `code` as in `transport_error`."""

    def __init__(self, what: str, code: str = "cut") -> None:
        super().__init__(what)
        self.code = code


def broken(head: object | None, how: str) -> Broken:
    """A connection that broke; `head` is the answer's, if it had come."""
    where = "before it answered" if head is None else "in the middle of its answer"
    return Broken(f"the connection broke {where}: {how}")
