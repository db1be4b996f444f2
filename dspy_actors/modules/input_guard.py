"""`InputGuard`: keeps inputs that are set aside from one program, and reports what comes of its calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self

from dspy_actors.cache.keys import canonical
from dspy_actors.lm.lm import LM
from dspy_actors.modules.fingerprint import fingerprint_of, parameters_mark, where
from dspy_actors.modules.module import Module
from dspy_actors.modules.record import Record
from dspy_actors.quarantine.change import Fault
from dspy_actors.quarantine.faults import fault_reason
from dspy_actors.quarantine.names import Scope, digest_of, hash_inputs
from dspy_actors.quarantine.preview import preview_of
from dspy_actors.quarantine.state import Quarantine
from dspy_actors.runner import Frame, Settings, fault_of, settle_in
from supervisors.errors import SupervisorsError


class _Unguarded:
    """Does nothing. Its methods are static, so `with` binds none of them: that would be one more object a call."""

    @staticmethod
    def __enter__() -> None:
        return None

    @staticmethod
    def __exit__(*raised: object) -> None:
        return None


UNGUARDED: AbstractContextManager[None] = _Unguarded()
"""Around a call that nothing is asked of."""

_FIXED = frozenset((str, int, float, bool, type(None), bytes))


class InputGuard:
    """Stands before the calls of one program. Safe from any thread; sends no message.

    `always` says whether every call passes it, or only `safe_call` and `asafe_call`. `breakers_closed` tells of a model
    whether it is in good standing. `keeps` says whether the program's results are kept and given again.
    """

    def __init__(
        self,
        quarantine: Quarantine,
        program: str,
        breakers_closed: Callable[[LM | None], bool],
        *,
        always: bool,
        keeps: bool = False,
    ) -> None:
        self.quarantine = quarantine
        self.always = always
        self.keeps = keeps
        self._program = program
        self._breakers_closed = breakers_closed
        self._known: tuple[Module, Any, Any, Any, bytes | None] | None = None

    def watch(self, frame: Frame, record: Record, inputs: dict[str, Any]) -> AbstractContextManager[Visit]:
        """Around the running of one call. Entering raises `QuarantinedInput` where its inputs are set aside."""
        return Visit(self, frame, record, inputs)

    def scope(self, settings: Settings, record: Record) -> Scope | None:
        """Whose, which program's and which version's inputs a call has; `None` where the version has no name."""
        version = self._version(settings, record)
        return None if version is None else (settings.tenant, self._program, version)

    def speaks_well(self, settings: Settings, module: Module) -> bool:
        """Whether the breakers of every model that the program asks are closed."""
        return all(self._breakers_closed(lm) for lm in _models(settings, module))

    def _version(self, settings: Settings, record: Record) -> bytes | None:
        """A digest of the parameters and of what they run with: an input that is too long for one model is not for all.

        Remembered for the last call, by identity, since all of it is frozen.
        """
        known = self._known
        if (
            known is not None
            and known[0] is record.module
            and known[1] is settings.lm
            and known[2] is settings.options
            and known[3] is settings.adapter
        ):
            return known[4]
        version = _version_of(settings, record)
        self._known = (record.module, settings.lm, settings.options, settings.adapter, version)
        return version


class Visit(AbstractContextManager["Visit"]):
    """One call under the guard. One that `asks` is a probe that must be `granted` before anything is done for it."""

    __slots__ = ("_began", "_frame", "_guard", "_hash", "_inputs", "_is_named", "_lease", "_record", "_scope")

    @property
    def asks(self) -> bool:
        return self._lease != 0 and self._guard.quarantine.shared

    async def granted(self) -> None:
        """Ask those who share the entries for the probe. Raises `QuarantinedInput` where somebody else has it."""
        assert self._scope is not None
        assert self._hash is not None
        quarantine, wait = self._guard.quarantine, 0.0
        answer = quarantine.claim(self._scope, self._hash, self._lease)
        if answer is not None:
            try:
                wait = await settle_in(self._frame, answer, "quarantine")
            except SupervisorsError:  # who answers has died
                wait = 0.0
        quarantine.granted(self._scope, self._hash, self._lease, wait)

    def __init__(self, guard: InputGuard, frame: Frame, record: Record, inputs: dict[str, Any]) -> None:
        self._guard = guard
        self._frame = frame
        self._record = record
        self._inputs = inputs
        self._hash: bytes | None = None
        self._is_named = False
        self._scope: Scope | None = None
        self._lease = 0
        self._began = frame.runner.clock.now()

    def __enter__(self) -> Self:
        if not (self._record.module.native or all(type(value) in _FIXED for value in self._inputs.values())):
            self._name()  # the user's code could change what it is given: later would be too late
        held = self._guard.quarantine.held.scopes
        if not held:
            return self
        self._scope = self._guard.scope(self._frame.settings, self._record)
        if self._scope is None or self._scope not in held:
            return self
        name = self._name()
        if name is not None:
            envelope = self._frame.envelope
            until = None if envelope is None else envelope.deadline
            self._lease = self._guard.quarantine.check(self._scope, name, until)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        quarantine = self._guard.quarantine
        if error is None:
            if self._lease or quarantine.suspects.scopes or quarantine.streaks.scopes:
                self._report_success(quarantine)
            return
        reason = self._reason(error)
        if reason is None and not self._lease:
            return
        scope = self._scope or self._guard.scope(self._frame.settings, self._record)
        name = None if scope is None else self._name()
        if scope is None or name is None:
            return
        if reason is not None:
            fault = Fault(self._began, reason, type(error).__name__, lambda: preview_of(self._inputs))
            quarantine.failed(scope, name, fault, self._lease)
        else:
            quarantine.undecided(scope, name, self._lease)

    def _report_success(self, quarantine: Quarantine) -> None:
        scope = self._scope or self._guard.scope(self._frame.settings, self._record)
        if scope is None:
            return
        if scope in quarantine.streaks.scopes and self._was_answered():
            quarantine.answered(scope)
        if not (self._lease or scope in quarantine.suspects.scopes):
            return
        name = self._name()
        if name is not None:
            quarantine.succeeded(scope, name, self._lease)

    def _was_answered(self) -> bool:
        """Whether something answered this call just now; what a cache gave says nothing of whether all is well."""
        scope = self._frame.scope
        return scope is not None and (scope.attempts > 0 or (scope.lm_calls == 0 and not self._guard.keeps))

    def _reason(self, error: BaseException) -> str | None:
        scope = self._frame.scope
        if scope is None:
            return None
        fault = fault_of(error) or fault_of(scope.fault)
        if fault is not None:
            return None
        closed = self._guard.speaks_well(self._frame.settings, self._record.module)
        return fault_reason(error, attempts=scope.attempts, breakers_closed=closed)

    def _name(self) -> bytes | None:
        if not self._is_named:
            self._hash = hash_inputs(self._inputs)
            self._is_named = True
        return self._hash


def _version_of(settings: Settings, record: Record) -> bytes | None:
    parameters = fingerprint_of(record) or parameters_mark(record.module)
    if parameters is None:
        return None
    try:
        ways = canonical(dict(settings.options)) if settings.options else None
        return digest_of([parameters, where(settings.lm), ways, settings.adapter.name])
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None


def _models(settings: Settings, module: Module) -> Iterator[LM]:
    """What the program asks, fallbacks too."""
    own = (getattr(each, "lm", None) for _, each in module.named_sub_modules() if getattr(each, "is_predictor", False))
    for lm in (settings.lm, *own):
        if lm is not None:
            yield lm
            yield from (each.lm for each in lm.fallbacks)
