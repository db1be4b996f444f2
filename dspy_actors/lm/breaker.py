"""`Breaker`: stops asking a model that fails, and finds out with one probe at a time when it is back. Pure.

It gives permits and takes reports; it never runs a call and holds nothing while one runs, so a closed breaker lets
calls through in parallel. Every permit carries the generation it was given in: what arrives after the state has
changed says nothing about the present and is ignored.

Only what the provider did counts. A refusal that is the request's fault, a rate limit (the limiter's matter) and a
cancelled call are neither a success nor a failure; a cancelled probe gives its lease back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from random import Random
from threading import Lock

from dspy_actors.errors import CircuitOpen, LMConfigurationError


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


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """When a breaker opens, and for how long. Seconds everywhere.

    It opens when, of at least `minimum` calls in the last `window_seconds`, `failure_ratio` failed or `slow_ratio`
    took longer than `slow_seconds`; with `consecutive` set, after that many failures in a row instead. It stays open
    for `open_seconds`, twice as long each time a probe fails, up to `longest_open_seconds`, each give or take
    `jitter`. `probes_to_close` successes in a row close it.

    Raises `LMConfigurationError` for a value that makes no sense.
    """

    window_seconds: float = 30.0
    buckets: int = 10
    minimum: int = 10
    failure_ratio: float = 0.5
    slow_ratio: float = 0.8
    slow_seconds: float = 120.0
    open_seconds: float = 5.0
    longest_open_seconds: float = 60.0
    jitter: float = 0.2
    probes_to_close: int = 2
    consecutive: int | None = None

    def __post_init__(self) -> None:
        bounds: tuple[tuple[str, bool, str], ...] = (
            ("window_seconds", self.window_seconds > 0, "more than 0"),
            ("buckets", 1 <= self.buckets <= 1000, "1 to 1000"),
            ("minimum", self.minimum >= 1, "at least 1"),
            ("failure_ratio", 0 < self.failure_ratio <= 1, "above 0, at most 1"),
            ("slow_ratio", 0 < self.slow_ratio <= 1, "above 0, at most 1"),
            ("slow_seconds", self.slow_seconds > 0, "more than 0"),
            ("open_seconds", self.open_seconds > 0, "more than 0"),
            ("longest_open_seconds", self.longest_open_seconds >= self.open_seconds, "at least open_seconds"),
            ("jitter", 0 <= self.jitter < 1, "0 to below 1"),
            ("probes_to_close", self.probes_to_close >= 1, "at least 1"),
            ("consecutive", self.consecutive is None or self.consecutive >= 1, "None, or at least 1"),
        )
        for name, fits, allowed in bounds:
            if not fits:
                msg = f"BreakerSettings({name}={getattr(self, name)!r}): {allowed}"
                raise LMConfigurationError(msg)


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave to make one call. `probe` is the number of the lease of a half-open breaker's one call, 0 otherwise."""

    generation: int
    probe: int = 0


@dataclass(frozen=True, slots=True)
class BreakerReading:
    """A breaker at one instant. `retry_after` is in seconds, 0 where calls are let through."""

    state: State
    generation: int
    calls: int
    failures: int
    slow: int
    retry_after: float


class Window:
    """Calls, failures and slow calls of the last seconds, in buckets that fall out one by one."""

    __slots__ = ("_counts", "_number", "_width")

    def __init__(self, seconds: float, buckets: int) -> None:
        self._width = seconds / buckets
        self._counts = [[0, 0, 0] for _ in range(buckets)]
        self._number = 0

    def add(self, verdict: Verdict, now: float) -> None:
        """Count one call."""
        counts = self._turn(now)
        counts[0] += 1
        counts[1] += verdict is Verdict.FAILURE
        counts[2] += verdict is Verdict.SLOW

    def totals(self, now: float) -> tuple[int, int, int]:
        """Calls, failures and slow calls."""
        self._turn(now)
        calls, failures, slow = (sum(column) for column in zip(*self._counts, strict=True))
        return calls, failures, slow

    def clear(self) -> None:
        """Forget everything."""
        for counts in self._counts:
            counts[:] = (0, 0, 0)

    def _turn(self, now: float) -> list[int]:
        number = int(now / self._width)
        behind = number - self._number
        if behind > 0:
            for step in range(min(behind, len(self._counts))):
                self._counts[(number - step) % len(self._counts)][:] = (0, 0, 0)
            self._number = number
        return self._counts[self._number % len(self._counts)]


class Breaker:
    """One breaker. Safe from any thread: a short lock, held for a decision and never for a call.

    `changed(name, before, after)` is called after a change of state, outside the lock, in the thread that caused it.
    """

    __slots__ = (
        "_changed",
        "_changes",
        "_failures_in_row",
        "_lease",
        "_lease_until",
        "_leases",
        "_lock",
        "_open_for",
        "_open_until",
        "_random",
        "_successes",
        "_window",
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
        changed: Callable[[str, State, State], object] | None = None,
    ) -> None:
        self.name = name
        self.settings = settings or BreakerSettings()
        self.state = State.CLOSED
        self.generation = 1
        self._random = rng or Random()
        self._changed = changed
        self._changes: list[tuple[State, State]] = []
        self._lock = Lock()
        self._window = Window(self.settings.window_seconds, self.settings.buckets)
        self._failures_in_row = 0
        self._successes = 0
        self._open_for = self.settings.open_seconds
        self._open_until = 0.0
        self._leases = 0
        self._lease = 0
        self._lease_until = 0.0

    def permit(self, now: float, until: float | None = None) -> Permit:
        """Leave for one call, which ends by `until` (an instant; a probe's lease runs out a second later).

        Raises `CircuitOpen`, with the seconds after which it is worth coming back.
        """
        with self._lock:
            permit = self._decide(now, until)
            refusal = self._refusal(now) if permit is None else None
        self._tell()
        if permit is None:
            assert refusal is not None
            raise refusal
        return permit

    def check(self, now: float) -> None:
        """Raise `CircuitOpen` where a permit would be refused now; takes nothing."""
        if self.state is State.CLOSED:
            return
        with self._lock:
            is_due = self.state is State.OPEN and now >= self._open_until
            is_free = self.state is State.HALF_OPEN and (self._lease == 0 or now >= self._lease_until)
            refusal = None if is_due or is_free else self._refusal(now)
        if refusal is not None:
            raise refusal

    def report(self, permit: Permit, verdict: Verdict, now: float) -> None:
        """What came of a permitted call. One of an earlier generation, or whose lease ran out, is ignored."""
        with self._lock:
            if permit.generation == self.generation:
                if permit.probe:
                    self._probed(permit, verdict, now)
                elif verdict is not Verdict.NOTHING:
                    self._count(verdict, now)
        self._tell()

    def force_open(self) -> None:
        """Refuse every call until `reset`."""
        with self._lock:
            if self.state is not State.FORCED_OPEN:
                self._go(State.FORCED_OPEN)
        self._tell()

    def reset(self) -> None:
        """Closed, with nothing remembered; reports of calls under way are ignored."""
        with self._lock:
            self._open_for = self.settings.open_seconds
            self._go(State.CLOSED)
        self._tell()

    def reading(self, now: float) -> BreakerReading:
        """The breaker now."""
        with self._lock:
            calls, failures, slow = self._window.totals(now)
            return BreakerReading(self.state, self.generation, calls, failures, slow, self._retry_after(now))

    def _decide(self, now: float, until: float | None) -> Permit | None:
        if self.state is State.CLOSED:
            return Permit(self.generation)
        if self.state is State.OPEN and now >= self._open_until:
            self._go(State.HALF_OPEN)
        if self.state is State.HALF_OPEN and (self._lease == 0 or now >= self._lease_until):
            self._leases += 1
            self._lease = self._leases
            self._lease_until = now + 60.0 if until is None else until + 1.0
            return Permit(self.generation, self._lease)
        return None

    def _tell(self) -> None:
        """Report the changes of state, outside the lock: whoever listens may ask the breaker."""
        while self._changes:
            before, after = self._changes.pop(0)
            if self._changed is not None:
                self._changed(self.name, before, after)

    def _probed(self, permit: Permit, verdict: Verdict, now: float) -> None:
        if permit.probe != self._lease:
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
        self._window.add(verdict, now)
        self._failures_in_row = self._failures_in_row + 1 if verdict is Verdict.FAILURE else 0
        if verdict is not Verdict.SUCCESS and self._is_too_much(now):
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
        self._successes = 0
        self._failures_in_row = 0
        self._lease = 0
        self._window.clear()
        if before is not state:
            self._changes.append((before, state))

    def _retry_after(self, now: float) -> float:
        if self.state is State.OPEN:
            return max(0.0, self._open_until - now)
        if self.state is State.HALF_OPEN and self._lease:
            return max(0.0, min(self._lease_until - now, self.settings.open_seconds))
        return self.settings.longest_open_seconds if self.state is State.FORCED_OPEN else 0.0

    def _refusal(self, now: float) -> CircuitOpen:
        after = self._retry_after(now)
        why = {State.OPEN: "it failed too often", State.HALF_OPEN: "a probe is under way"}.get(self.state, "by hand")
        msg = f"{self.name} is not asked: its breaker is {self.state.value} ({why}); try again in {after:.1f} s"
        return CircuitOpen(msg, retry_after=after)
