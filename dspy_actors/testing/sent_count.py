"""`SentCount`: how often a provider says that the request of one attempt is on its way."""

from __future__ import annotations

from dspy_actors.lm.transports.observer import Observer


class SentCount(Observer):
    """An attempt's observer that counts `sent`, and how often it was asked before one was sent again."""

    __slots__ = ("_again", "_count")

    def __init__(self) -> None:
        self._count = 0
        self._again = 0

    def sent(self) -> None:
        """See `Observer.sent`."""
        self._count += 1

    def again(self) -> None:
        """See `Observer.again`: nothing is against it."""
        self._again += 1

    def check(self, asked: str) -> None:
        """Raise `AssertionError` unless it was told of each request: one that is never told counts as never sent."""
        assert self._count > 0, (
            f"{asked} gave an answer, and the attempt's observer was never told that a request was sent: it would not"
            " be counted, booked or held to the rate limit; hand attempt.observer to the transport, as in"
            " transport.send(..., observer=attempt.observer), or call attempt.observer.sent() when the whole request is"
            " on its way"
        )
        assert self._count <= 1 + self._again, (
            f"{asked} told the attempt's observer {self._count} times that a request was sent, of which there"
            f" were {1 + self._again}; call attempt.observer.sent() once a request, and leave it to the transport where"
            " that was handed the observer"
        )
