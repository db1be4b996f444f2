"""`Breaker`: stops asking a model that fails, and finds out with one probe at a time when it is back. Pure.

It gives permits and takes reports; it never runs a call and holds nothing while one runs, so a closed breaker lets
calls through in parallel. Every permit carries the generation it was given in: what arrives after the state has
changed says nothing about the present and is ignored.

Only what the provider did counts. A refusal that is the request's fault, a rate limit (the limiter's matter) and a
cancelled call are neither a success nor a failure; a cancelled probe gives its lease back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from random import Random
from typing import TypeAlias

from dspy_actors.errors import CircuitOpen
from dspy_actors.lm.breaker_settings import BreakerSettings
from dspy_actors.lm.window import Window
from supervisors.published_lock import PublishedLock

BEGUN = -1
"""The number of a probe whose answer has begun: it holds no lease any more, and only what breaks it off counts."""

LEASE_SECONDS = 60.0
"""How long a probe without a deadline keeps the others waiting; one with a deadline does until a second after it."""


class State(Enum):
    """What a breaker does with a call."""

    CLOSED = "closed"
    """Lets it through."""
    OPEN = "open"
    """Refuses it, until `open_seconds` are over."""
    HALF_OPEN = "half_open"
    """Lets one through as a probe and refuses the others."""
    FORCED_OPEN = "forced_open"
    """Refuses it until somebody resets the breaker."""


class Verdict(Enum):
    """What a call says of its provider."""

    SUCCESS = "success"
    SLOW = "slow"
    """It answered, but took longer than `slow_seconds`."""
    FAILURE = "failure"
    NOTHING = "nothing"
    """The request's own fault, a rate limit, or cancelled by its caller."""


SUCCESS, SLOW, FAILURE, NOTHING = Verdict
"""By these names where every call comes by: an enum's member costs a call in Python 3.11 to read off its class."""

_ANSWERS = (SUCCESS, SLOW)


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave to make one call. `probe` is the number of the lease of a half-open breaker's one call, 0 otherwise.

    It is `BEGUN` where that call has its first success already.
    """

    generation: int
    probe: int = 0


@dataclass(frozen=True, slots=True)
class BreakerReading:
    """A breaker at one instant. `retry_after` is in seconds, 0 where a call would be let through.

    `since_answer` is how many seconds ago a permitted call was answered, `None` where none was yet; `last_failure`
    says what the last failure was that counted since the breaker was last closed.
    """

    state: State
    generation: int
    calls: int
    failures: int
    slow: int
    retry_after: float
    since_answer: float | None = None
    last_failure: str | None = None


Changed: TypeAlias = Callable[[str, State, State], object]


class Breaker:
    """One breaker. Safe from any thread: a short lock, held for a decision and never for a call.

    `changed(name, before, after)` is called after each change of state, outside the lock, in the thread that caused
    it; it must not block.
    """

    __slots__ = (
        "_answered",
        "_changed",
        "_changes",
        "_failures_in_row",
        "_last_failure",
        "_lease",
        "_lease_until",
        "_leases",
        "_lock",
        "_open_for",
        "_open_until",
        "_random",
        "_successes",
        "_window",
        "free",
        "generation",
        "name",
        "settings",
        "state",
    )

    def __init__(
        self,
        name: str,
        settings: BreakerSettings | None = None,
        *,
        rng: Random | None = None,
        changed: Changed | None = None,
    ) -> None:
        self.name = name
        self.settings = settings or BreakerSettings()
        self.state = State.CLOSED
        self.generation = 1
        self.free: Permit | None = Permit(1)
        """What everybody gets while the breaker is closed, and `None` while it is not."""
        self._random = rng or Random()
        self._changed = changed
        self._changes: list[tuple[State, State]] = []
        self._lock = PublishedLock()
        self._window = Window(self.settings.window_seconds, self.settings.buckets)
        self._failures_in_row = 0
        self._successes = 0
        self._open_for = self.settings.open_seconds
        self._open_until = 0.0
        self._leases = 0
        self._lease = 0
        self._lease_until = 0.0
        self._answered: float | None = None
        self._last_failure: str | None = None

    def permit(self, now: float, until: float | None = None) -> Permit:
        """Leave for one call, which ends by `until` (an instant; a probe's lease runs out a second later).

        Raises `CircuitOpen`, with the seconds after which it is worth coming back.
        """
        free = self.free
        if free is not None:
            return free
        with self._lock:
            permit = self._decide(now, until)
            refusal = self._refusal(now) if permit is None else None
            changes = self._take_changes()
        self._tell(changes)
        if refusal is not None:
            raise refusal
        assert permit is not None
        return permit

    def check(self, now: float) -> None:
        """Raise `CircuitOpen` where a permit would be refused now; takes nothing."""
        if self.free is not None:
            return
        with self._lock:
            refusal = None if self._lets_through(now) else self._refusal(now)
        if refusal is not None:
            raise refusal

    def answered(self, permit: Permit, seconds: float, now: float) -> None:
        """A permitted call was answered, after `seconds`; as `report` has it."""
        if seconds > self.settings.slow_seconds:
            self.report(permit, SLOW, now, f"it took {seconds:.1f} s")
        elif permit.probe:
            self.report(permit, SUCCESS, now)
        else:
            with self._lock:
                self._answered = now
                if permit.generation == self.generation:
                    self._window.add(now)
                    self._failures_in_row = 0

    def begun(self, permit: Permit, seconds: float, now: float) -> Permit:
        """The answer to a permitted call began, after `seconds`; the permit to report its end with.

        A probe has its success with that, and keeps nobody waiting until the answer is whole and read.
        """
        if not self._has_lease(permit):
            return permit
        self.answered(permit, seconds, now)
        return self._after(permit)

    def report(self, permit: Permit, verdict: Verdict, now: float, failure: str | None = None) -> None:
        """What came of a permitted call. One of an earlier generation, or whose lease another has, is ignored.

        `failure` says what went wrong, for whoever is refused because of it; it must hold no secret.
        """
        with self._lock:
            if verdict in _ANSWERS:
                self._answered = now
            if permit.generation == self.generation:
                if failure is not None and verdict is not SUCCESS:
                    self._last_failure = failure
                if permit.probe:
                    self._probed(permit, verdict, now)
                elif verdict is SUCCESS:
                    self._window.add(now)
                    self._failures_in_row = 0
                elif verdict is not NOTHING:
                    self._count(verdict, now)
            changes = self._take_changes()
        self._tell(changes)

    def force_open(self) -> None:
        """Refuse every call until `reset`."""
        with self._lock:
            if self.state is not State.FORCED_OPEN:
                self._go(State.FORCED_OPEN)
            changes = self._take_changes()
        self._tell(changes)

    def reset(self) -> None:
        """Closed, with nothing remembered; reports of calls under way are ignored."""
        with self._lock:
            self._open_for = self.settings.open_seconds
            self._go(State.CLOSED)
            changes = self._take_changes()
        self._tell(changes)

    def reading(self, now: float) -> BreakerReading:
        """The breaker now."""
        with self._lock:
            calls, failures, slow = self._window.totals(now)
            since = None if self._answered is None else now - self._answered
            after, failure = self._retry_after(now), self._last_failure
            return BreakerReading(self.state, self.generation, calls, failures, slow, after, since, failure)

    def is_at_rest(self, now: float) -> bool:
        """Whether a new one would do as well: it is closed and its window empty, or it opened too long ago to tell.

        One that waits for a probe that nobody makes is believed for `longest_open_seconds` more; one opened by hand is
        for good.
        """
        with self._lock:
            if self.state is State.CLOSED:  # then the open time is the ordinary one
                return not self._window.totals(now)[0]
            ready = max(self._open_until, self._lease_until)
            return self.state is not State.FORCED_OPEN and now >= ready + self.settings.longest_open_seconds

    def _lets_through(self, now: float) -> bool:
        if self.state is State.OPEN:
            return now >= self._open_until
        if self.state is State.HALF_OPEN:
            return self._lease == 0 or now >= self._lease_until
        return self.state is State.CLOSED

    def _decide(self, now: float, until: float | None) -> Permit | None:
        if not self._lets_through(now):
            return None
        if self.state is State.CLOSED:
            return self.free
        if self.state is State.OPEN:
            self._go(State.HALF_OPEN)
        self._leases += 1
        self._lease = self._leases
        self._lease_until = now + LEASE_SECONDS if until is None else until + 1.0
        return Permit(self.generation, self._lease)

    def _has_lease(self, permit: Permit) -> bool:
        with self._lock:
            return permit.probe != 0 and permit.probe == self._lease and permit.generation == self.generation

    def _after(self, permit: Permit) -> Permit:
        """What a probe goes on with that has told of its success."""
        with self._lock:
            return self.free or Permit(permit.generation, BEGUN)

    def _probed(self, permit: Permit, verdict: Verdict, now: float) -> None:
        if permit.probe == BEGUN:
            if verdict is not Verdict.FAILURE:
                return
        elif permit.probe != self._lease:
            return
        self._lease = 0
        if verdict is Verdict.SUCCESS:
            self._successes += 1
            if self._successes >= self.settings.probes_to_close:
                self._open_for = self.settings.open_seconds
                self._go(State.CLOSED)
        elif verdict is not Verdict.NOTHING:
            self._open_for = min(self._open_for * 2, self.settings.longest_open_seconds)
            self._open(now)

    def _count(self, verdict: Verdict, now: float) -> None:
        """A failure, or an answer that was slow."""
        if verdict is FAILURE:
            self._window.add_failure(now)
            self._failures_in_row += 1
        else:
            self._window.add_slow(now)
            self._failures_in_row = 0
        if self._is_too_much(now):
            self._open(now)

    def _is_too_much(self, now: float) -> bool:
        settings = self.settings
        if settings.consecutive is not None:
            return self._failures_in_row >= settings.consecutive
        calls, failures, slow = self._window.totals(now)
        if calls < settings.minimum:
            return False
        return failures >= settings.failure_ratio * calls or slow >= settings.slow_ratio * calls

    def _open(self, now: float) -> None:
        spread = self.settings.jitter * (2.0 * self._random.random() - 1.0)
        self._open_until = now + self._open_for * (1.0 + spread)
        self._go(State.OPEN)

    def _go(self, state: State) -> None:
        before, self.state = self.state, state
        self.generation += 1
        self.free = Permit(self.generation) if state is State.CLOSED else None
        if state is State.CLOSED:
            self._last_failure = None
        self._successes = 0
        self._failures_in_row = 0
        self._lease = 0
        self._window.clear()
        if before is not state:
            self._changes.append((before, state))

    def _take_changes(self) -> list[tuple[State, State]]:
        changes, self._changes = self._changes, []
        return changes

    def _tell(self, changes: Sequence[tuple[State, State]]) -> None:
        """Report changes of state, outside the lock: whoever listens may ask the breaker."""
        if self._changed is not None:
            for before, after in changes:
                self._changed(self.name, before, after)

    def _retry_after(self, now: float) -> float:
        if self._lets_through(now):
            return 0.0
        if self.state is State.OPEN:
            return self._open_until - now
        if self.state is State.HALF_OPEN:
            return min(self._lease_until - now, self.settings.open_seconds)
        return self.settings.longest_open_seconds

    def _refusal(self, now: float) -> CircuitOpen:
        after = self._retry_after(now)
        why = {State.OPEN: "it failed too often", State.HALF_OPEN: "a probe is under way"}.get(self.state, "by hand")
        msg = f"{self.name} is not asked: its breaker is {self.state.value} ({why}); try again in {after:.1f} s"
        last = self._last_failure
        if last is not None:
            msg += f"; its last failure was {last}"
        return CircuitOpen(msg, retry_after=after, last_failure=last)
