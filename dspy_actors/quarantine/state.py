"""`Quarantine`: which inputs are set aside, published, so that no crash forgets it and a check takes no message.

An input over which calls fail again and again is set aside for a while. Then exactly one call is let through as a
probe, under a lease, as a breaker's is: a success releases the input, a fault that speaks against it sets it aside
again, anything else gives the probe back. Everything is decided under one short lock, except for the way of an input
that is not set aside, which is two look-ups in dicts.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from math import inf

from dspy_actors.errors import QuarantinedInput, QuarantineError
from dspy_actors.quarantine.change import Change, Fault, QuarantineStats, instant
from dspy_actors.quarantine.entry import Entry
from dspy_actors.quarantine.held import Held
from dspy_actors.quarantine.names import Scope, entry_id
from dspy_actors.quarantine.settings import QuarantineSettings
from dspy_actors.quarantine.shelf import Shelf
from dspy_actors.quarantine.streaks import Streaks
from dspy_actors.quarantine.suspect import Suspect
from supervisors.clock import Clock
from supervisors.published_lock import PublishedLock
from supervisors.reply import Reply

ASK_AGAIN = 2.0
"""Seconds after which it is asked again whether the probe that another process has out is over."""


class Quarantine:
    """The inputs of one runtime that are set aside. Safe from any thread.

    `wake` is called after a change, outside the lock, in the thread that caused it; `take_changes` has what there is.
    `ask` is there where other processes share the entries: it asks for the right to send the probe of an entry for some
    seconds, and the answer to come is how long another has it, 0 if nobody; `None` where nobody can be asked.
    """

    def __init__(
        self,
        settings: QuarantineSettings,
        clock: Clock,
        *,
        wake: Callable[[], object] = lambda: None,
        ask: Callable[[Entry, float], Reply[float] | None] | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self._clock = clock
        self._wall = wall
        self._wake = wake
        self._ask = ask
        self._lock = PublishedLock()
        self.held: Shelf[Held] = Shelf(settings.entries)
        self.suspects: Shelf[Suspect] = Shelf(settings.entries)
        self.streaks = Streaks(settings.entries, settings.fault_seconds)
        self._places: dict[str, tuple[Scope, bytes]] = {}
        self._changes: deque[Change] = deque()
        self._woken = False
        self._leases = 0
        self._entered = self._released = self._refused = self._probes = 0
        self.unfiled = 0

    @property
    def shared(self) -> bool:
        """Whether other processes have the same entries, so that a probe must be granted."""
        return self._ask is not None

    # -- the way of a call --------------------------------------------------------------------------------------

    def check(self, scope: Scope, name: bytes, until: float | None = None) -> int:
        """0 lets a call with these inputs pass; another number makes it the probe under that lease.

        Where the entries are shared, the probe is sent once it is `granted`. `until` is when the call ends at the
        latest. Raises `QuarantinedInput` where the inputs are set aside.
        """
        return 0 if self.held.get(scope, name) is None else self._admit(scope, name, until)

    def claim(self, scope: Scope, name: bytes, lease: int) -> Reply[float] | None:
        """Ask the other processes for this probe; the answer goes to `granted`. `None` where nobody can be asked."""
        assert self._ask is not None
        with self._lock:
            held = self.held.get(scope, name)
            if held is None or held.lease != lease:
                return None
            entry, seconds = held.entry, held.lease_until - self._clock.now()
        return self._ask(entry, seconds)

    def granted(self, scope: Scope, name: bytes, lease: int, wait: float = 0.0) -> None:
        """The probe may be sent, unless somebody else has it for `wait` seconds: then `QuarantinedInput` is raised.

        It is also raised where the inputs were set aside anew meanwhile; released ones are an ordinary call's.
        """
        refusal = None
        with self._lock:
            held = self.held.get(scope, name)
            if held is not None and held.lease == lease and wait <= 0:
                self._send(held)
            elif held is not None:
                now = self._clock.now()
                if held.lease == lease:
                    held.lease = 0
                    held.others = now + min(wait, ASK_AGAIN)
                self._refused += 1
                refusal = self._refusal(held.entry, max(wait, held.wait(now)))
        if refusal is not None:
            raise refusal
        self._tell()

    def succeeded(self, scope: Scope, name: bytes, lease: int = 0) -> None:
        """A call with these inputs has succeeded: they are forgotten, or released where it was the probe."""
        with self._lock:
            held = self.held.get(scope, name)
            if held is None:
                self.suspects.pop(scope, name)
            elif lease and lease == held.lease:
                self._let_go(scope, name, held, "success")
        self._tell()

    def failed(self, scope: Scope, name: bytes, fault: Fault, lease: int = 0) -> None:
        """A call with these inputs has failed in a way that speaks against them.

        Calls that ran at the same time count once: they may have shared one answer. One that began before the inputs
        were set aside adds nothing. Nor does any while other inputs fail too and none succeeds: see `Streaks`.
        """
        with self._lock:
            held = self.held.get(scope, name)
            began = self.streaks.fail(scope, name, self._clock.now())
            if began is not None:
                self._doubt(scope, name, lease, began)
            elif held is None:
                self._count(scope, name, fault)
            elif lease and lease == held.lease:
                self._hold(scope, name, held.entry, fault)
        self._tell()

    def answered(self, scope: Scope) -> None:
        """Some call of the program has succeeded and was no answer from a cache: the model answers, the code works."""
        with self._lock:
            self.streaks.end(scope)

    def undecided(self, scope: Scope, name: bytes, lease: int) -> None:
        """The probe came to nothing that says anything: the next call may be one."""
        with self._lock:
            held = self.held.get(scope, name)
            if held is not None and held.lease == lease:
                self._give_back(held)
        self._tell()

    # -- looking and releasing ----------------------------------------------------------------------------------

    def entries(self) -> list[Entry]:
        """What is set aside, the one that nobody has asked for longest first."""
        with self._lock:
            return [held.entry for _, _, held in self.held.items()]

    def entry(self, entry_id: str) -> Entry:
        """One entry. Raises `QuarantineError` where there is none of this id."""
        with self._lock:
            return self._found(entry_id)[2].entry

    def release(self, entry_id: str, why: str = "by_hand") -> Entry:
        """Let calls with these inputs through again, with nothing remembered against them."""
        with self._lock:
            scope, name, held = self._found(entry_id)
            self._let_go(scope, name, held, why)
        self._tell()
        return held.entry

    def adopt(self, entry: Entry) -> None:
        """Set aside what another process, or this one before its restart, has set aside. It is not announced again."""
        left = min(entry.until - self._wall(), self.settings.seconds)  # a clock that was put back holds nobody longer
        until = self._clock.now() + max(0.0, left)
        with self._lock:
            place = self._places.get(entry.id)
            held = None if place is None else self.held.get(*place)
            if held is None:
                scope = (entry.tenant, entry.program, bytes.fromhex(entry.version))
                self._put(scope, Held(entry, -inf, until))
            elif entry.until > held.entry.until:
                held.entry, held.until, held.lease = entry, until, 0
        self._tell()

    def sweep(self) -> None:
        """Forget faults that no longer count, and entries that nobody has asked for since they were due."""
        with self._lock:
            now = self._clock.now()
            self.streaks.sweep(now)
            for scope, name, suspect in list(self.suspects.items()):
                if suspect.is_old(now, self.settings.fault_seconds):
                    self.suspects.pop(scope, name)
            for scope, name, held in list(self.held.items()):
                if held.is_over(now, self.settings.seconds):
                    self._let_go(scope, name, held, "forgotten")
        self._tell()

    def probing(self) -> list[tuple[str, float]]:
        """The entries that have their probe out, by id, and for how many seconds it may yet be."""
        with self._lock:
            now = self._clock.now()
            left = [(each.entry.id, each.out(now)) for _, _, each in self.held.items()]
        return [each for each in left if each[1] > 0]

    def take_changes(self) -> list[Change]:
        """The changes since the last time, in order; each is given once."""
        with self._lock:
            changes = list(self._changes)
            self._changes.clear()
            self._woken = False
            return changes

    def stats(self) -> QuarantineStats:
        """One consistent reading."""
        with self._lock:
            now = self._clock.now()
            probing = sum(held.out(now) > 0 for _, _, held in self.held.items())
            return QuarantineStats(
                len(self.held),
                probing,
                len(self.suspects),
                self._entered,
                self._released,
                self._refused,
                self._probes,
                self.unfiled,
            )

    # -- within, under the lock ---------------------------------------------------------------------------------

    def _admit(self, scope: Scope, name: bytes, until: float | None) -> int:
        with self._lock:
            held = self.held.get(scope, name)
            if held is None:  # released as we looked
                return 0
            self.held.touch(scope, name)
            now = self._clock.now()
            wait = held.wait(now)
            if wait > 0:
                self._refused += 1
                refusal = self._refusal(held.entry, wait)
            else:
                refusal = None
                self._leases += 1
                lease = self._leases
                held.lend(lease, now, until)
                if self._ask is None:
                    self._send(held)
        if refusal is not None:
            raise refusal
        self._tell()
        return lease

    def _send(self, held: Held) -> None:
        self._probes += 1
        self._changes.append(Change("probation", held.entry))

    def _give_back(self, held: Held) -> None:
        held.lease = 0
        self._changes.append(Change("returned", held.entry))

    def _doubt(self, scope: Scope, name: bytes, lease: int, began: float) -> None:
        """Everybody fails: nothing is held against the inputs of the streak, and a probe has said nothing."""
        for each in {name, *self.streaks.names(scope)}:
            self.suspects.pop(scope, each)
            held = self.held.get(scope, each)
            if held is not None and held.entry.times == 1 and held.since >= began:
                self._let_go(scope, each, held, "general")
            elif held is not None and each == name and lease and held.lease == lease:
                self._give_back(held)

    def _count(self, scope: Scope, name: bytes, fault: Fault) -> None:
        now, seconds = self._clock.now(), self.settings.fault_seconds
        suspect = self.suspects.get(scope, name)
        if suspect is None or suspect.is_old(now, seconds):
            suspect = Suspect(self._wall())
        elif fault.began < suspect.at[-1]:
            return
        if suspect.add(now, seconds) < self.settings.threshold:
            self.suspects.put(scope, name, suspect)
            return
        wall = self._wall()
        tenant, program, version = scope
        made = Entry(
            id=entry_id(scope, name),
            tenant=tenant,
            program=program,
            version=version.hex(),
            input_hash=name.hex(),
            reason="",
            error="",
            faults=suspect.total - 1,
            times=0,
            first_at=suspect.first_at,
            last_at=wall,
            until=wall,
            preview=fault.preview(),
        )
        self._hold(scope, name, made, fault)

    def _hold(self, scope: Scope, name: bytes, entry: Entry, fault: Fault) -> None:
        """Set the inputs of `entry` aside, for the first time or once more."""
        wall, seconds = self._wall(), self.settings.seconds
        made = replace(
            entry,
            reason=fault.reason,
            error=fault.error,
            faults=entry.faults + 1,
            times=entry.times + 1,
            last_at=wall,
            until=wall + seconds,
        )
        self._entered += made.times == 1
        self._changes.append(Change("entered" if made.times == 1 else "renewed", made))
        now = self._clock.now()
        self._put(scope, Held(made, now, now + seconds))

    def _put(self, scope: Scope, held: Held) -> None:
        name = bytes.fromhex(held.entry.input_hash)
        self.suspects.pop(scope, name)
        self._places[held.entry.id] = (scope, name)
        for gone in self.held.put(scope, name, held):
            self._gone(gone, "evicted")

    def _let_go(self, scope: Scope, name: bytes, held: Held, why: str) -> None:
        self.held.pop(scope, name)
        self._gone(held, why)

    def _gone(self, held: Held, why: str) -> None:
        del self._places[held.entry.id]
        self._released += 1
        self._changes.append(Change("released", held.entry, why))

    def _found(self, entry_id: str) -> tuple[Scope, bytes, Held]:
        place = self._places.get(entry_id)
        held = None if place is None else self.held.get(*place)
        if place is None or held is None:
            msg = f"no input is set aside under {entry_id!r}; list the entries to see what is"
            raise QuarantineError(msg, entry=entry_id)
        return (*place, held)

    # -- within, outside it -------------------------------------------------------------------------------------

    def _tell(self) -> None:
        with self._lock:
            wakes = bool(self._changes) and not self._woken
            self._woken = self._woken or wakes
        if wakes:
            self._wake()

    def _refusal(self, entry: Entry, wait: float) -> QuarantinedInput:
        until = self._wall() + wait
        msg = (
            f"this input of {entry.program} is set aside until {instant(until)}: {entry.faults} calls with it failed "
            f"({entry.reason}: {entry.error}); nothing was sent. Its entry is {entry.id}: show, release or replay it"
        )
        return QuarantinedInput(msg, entry=entry.id, until=until, reason=entry.reason, retry_after=wait)
