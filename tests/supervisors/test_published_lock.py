"""What is published bears that the thread which writes it comes in once more, as the garbage collector makes it do."""

from __future__ import annotations

from collections.abc import Callable

from supervisors.clock import ManualClock


class Meddling(float):
    """An instant that does something when it is compared, as a collection may at any moment."""

    meddle: Callable[[], object]

    def __eq__(self, other: object) -> bool:
        self.meddle()
        return super().__eq__(other)

    __hash__ = float.__hash__


def test_a_timer_is_taken_back_in_the_middle_of_setting_another() -> None:
    clock = ManualClock()
    called: list[str] = []
    dropped = clock.call_at(1.0, lambda: called.append("dropped"))
    when = Meddling(2.0)
    when.meddle = dropped.cancel
    clock.call_at(when, lambda: called.append("kept"))
    clock.advance(3.0)
    assert called == ["kept"]
