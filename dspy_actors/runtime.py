"""`Runtime`: the one handle. It starts the supervision tree, runs programs on it and stops it in reverse order."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from contextvars import Token
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from dspy_actors.adapters.base import Adapter
from dspy_actors.adapters.chat_adapter import ChatAdapter
from dspy_actors.arguments import a, named, names_of, number, tables_of, wholes
from dspy_actors.batch import AnyRow, Mapped, map_rows
from dspy_actors.direct_stream import Prompt, stream_prompt
from dspy_actors.envelope import Priority
from dspy_actors.errors import NoRuntime, ShuttingDown
from dspy_actors.lm.budget import Budget
from dspy_actors.lm.guarding import Guarding
from dspy_actors.lm.layer_settings import LayerSettings
from dspy_actors.lm.lm import LM
from dspy_actors.lm.lm_stream import LMStream
from dspy_actors.lm.pool_settings import PoolSettings
from dspy_actors.lm.prices import Price, check_prices
from dspy_actors.lm.providers.opening import OpenProvider, opener
from dspy_actors.lm.providers.servers import Servers
from dspy_actors.lm.providers.set_aside import SetAside
from dspy_actors.lm.stream_settings import StreamSettings
from dspy_actors.lm.usage import LMNumbers
from dspy_actors.modules.admission import Limits
from dspy_actors.modules.module import Module
from dspy_actors.modules.program import Program
from dspy_actors.own_system import OwnSystem
from dspy_actors.quarantine.settings import QuarantineSettings
from dspy_actors.runner import FRAME, Frame, Settings, current_frame, refuse_on_loop
from dspy_actors.runtime_tree import RuntimeTree
from dspy_actors.using import Using
from supervisors.clock import Clock
from supervisors.registry import Registry
from supervisors.spec import ChildSpec, ChildType
from supervisors.system import System

if TYPE_CHECKING:  # what stands in the tree is loaded when a runtime starts
    from dspy_actors.hosting import RuntimeHost
    from dspy_actors.lm.breaker_book import BreakerBook
    from dspy_actors.lm.layer import LMLayer
    from dspy_actors.lm.limiter_book import LimiterBook
    from dspy_actors.lm.usage_log import UsageTotals
    from dspy_actors.modules.quarantine_book import QuarantineBook

_NUMBERS = itertools.count(1)


class Runtime:
    """Programs, models and their supervision tree, from `start_up` to `shutdown`.

    Used as `with Runtime(lm=...) as rt:` or `async with`, inside which a plain `module(...)` finds it; or through
    handles from `rt.start(module)`, which work from any thread and any loop. Two runtimes live side by side. No
    signal handler is installed. In a service's own tree, hang `rt.child_spec()` under a supervisor instead.

    Args:
        lm: the model of every predictor without one of its own; an `LM` or its name.
        adapter: how prompts are written and answers read; `ChatAdapter()` if left out.
        deadline: seconds a call may take, everything included.
        tenant: whose calls these are; part of the cache's key.
        tenants: all there are; a budget, a weight or `using(tenant=...)` that names another is then refused.
        priority: the class of all calls; else `interactive`, `batch` (`map`, `Evaluate`) or `optimizer` (optimizers').
        transport: `"httpx"`, `"aiohttp"` (the extra `[fast]`), or `"auto"`: aiohttp where it is installed.
        cache_seconds, cache_bytes, cache_entries: bounds of the memory cache.
        cache_path: a file that keeps answers across restarts, each for `cache_disk_seconds`; none if left out.
        max_inflight, max_queue: how many calls of one program run at once, and how many may wait.
        max_zombies: abandoned threads beyond which blocking programs are refused with `Busy`.
        parse_retries: how often an answer that is unreadable, but whole, is asked for again.
        guarding: breakers, rate limits and the retry budget; `Guarding()` if left out.
        streaming: clocks and buffer of streams; `StreamSettings()` if left out.
        prices: what tokens cost, by `provider/model`; without one a cost is `None` and budgets of money refuse calls.
        budgets, session_budgets: what each tenant, each session may spend; refused before anything is sent.
        quarantine: when inputs that break things are set aside, and where that is kept; `QuarantineSettings()` if left
            out. It holds for `safe_call`, and for every call of programs started with `quarantine=True`.
        pools: how many idle workers a provider keeps, of one for each model and key; `PoolSettings()` if left out.
        open_provider: replaces the providers by name, for models of your own.
        clock: what tells the time.
    """

    def __init__(
        self,
        lm: LM | str | None = None,
        *,
        adapter: Adapter | None = None,
        deadline: float = 600.0,
        tenant: str = "",
        tenants: Iterable[str] | None = None,
        priority: Priority | None = None,
        transport: str = "auto",
        cache_seconds: float = 1800.0,
        cache_bytes: int = 64 * 1024 * 1024,
        cache_entries: int = 100_000,
        cache_path: str | Path | None = None,
        cache_disk_seconds: float = 7 * 86_400.0,
        max_inflight: int = 1024,
        max_queue: int = 100_000,
        max_zombies: int = 32,
        parse_retries: int = 1,
        guarding: Guarding | None = None,
        streaming: StreamSettings | None = None,
        prices: Mapping[str, Price] | None = None,
        budgets: Mapping[str, Budget] | None = None,
        session_budgets: Mapping[str, Budget] | None = None,
        quarantine: QuarantineSettings | None = None,
        pools: PoolSettings | None = None,
        open_provider: OpenProvider | None = None,
        name: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        number("Runtime", "deadline", deadline, above=0)
        wholes("Runtime", least=1, max_inflight=max_inflight)
        wholes("Runtime", least=0, max_queue=max_queue, max_zombies=max_zombies)
        check_prices("Runtime", prices)
        tables_of(Budget, "Runtime", budgets=budgets, session_budgets=session_budgets)
        a((Guarding, type(None)), "Runtime", "guarding", guarding, "a Guarding")
        a((Clock, type(None)), "Runtime", "clock", clock, "a Clock, or None")
        named("Runtime", "name", name)
        self.name = name or f"dspy-actors-{next(_NUMBERS)}"
        self.settings = Settings(
            lm=LM(lm) if isinstance(lm, str) else lm,
            adapter=adapter or ChatAdapter(),
            deadline=deadline,
            tenant=tenant,
            priority=priority,
            parse_retries=parse_retries,
            tenants=None if tenants is None else names_of("Runtime", "tenants", tenants),
        )
        guarding = guarding or Guarding()
        self.settings.check_tenants("budgets", *(budgets or ()))
        self.settings.check_tenants("weights", *guarding.fairness.weights)
        set_aside = SetAside() if clock is None else SetAside(clock.now)
        servers = Servers() if clock is None else Servers(clock.now)
        layer_settings = LayerSettings(
            open_provider=open_provider or opener(transport, set_aside, servers),
            knows_keys=open_provider is None,
            set_aside=set_aside,
            servers=servers,
            guarding=guarding,
            streaming=streaming or StreamSettings(),
            prices=dict(prices or {}),
            budgets=dict(budgets or {}),
            session_budgets=dict(session_budgets or {}),
            cache_entries=cache_entries,
            cache_bytes=cache_bytes,
            cache_seconds=cache_seconds,
            cache_path=cache_path,
            cache_disk_seconds=cache_disk_seconds,
            quarantine=quarantine or QuarantineSettings(),
            pools=pools or PoolSettings(),
        )
        limits = Limits(max_inflight, max_queue)
        self._tree = RuntimeTree(self.name, self.settings, layer_settings, limits, max_zombies)
        self._own = OwnSystem(self.name, clock)
        self._ended = False
        self._tokens: list[Token[Frame | None]] = []

    # -- life ---------------------------------------------------------------------------------------------------

    def start_up(self) -> Self:
        """Start the tree; returns when it is up. Raises `StartFailed`, `LMConfigurationError`, `BlockingCall`."""
        self._refuse_ended()
        if self._tree.host is not None and not self._own.is_starting:
            return self
        refuse_on_loop("Runtime", "`async with Runtime(...)`")
        self._own.start(self.child_spec, self._refuse_ended)
        return self

    def shutdown(self, timeout: float = 10.0) -> None:
        """Let no more calls in, then stop the tree in reverse order, within `timeout` seconds. Ends the runtime.

        Calls that are still under way end with `ShuttingDown`; `drain` first to let them finish. A `forward` in a
        thread has five seconds; what has not ended after `timeout` is cut off. Raises `BlockingCall` on a running event
        loop. A runtime in another's tree is stopped by that one.
        """
        refuse_on_loop("Runtime.shutdown", "`await asyncio.to_thread(rt.shutdown)`, or `async with Runtime(...)`")
        self._ended = True
        if self._tree.host is not None:
            self._tree.host.shut_door()
        self._own.stop(timeout)

    def drain(self, seconds: float) -> bool:
        """Let no more calls in and wait for those under way; whether all ended within `seconds`.

        New calls but theirs raise `ShuttingDown` from then on. Raises `BlockingCall` on a running event loop.
        """
        refuse_on_loop("Runtime.drain", "`await asyncio.to_thread(rt.drain, seconds)`")
        host = self._running()
        return host.close_door().wait(seconds, host.clock)

    def ready(self) -> bool:
        """Whether a call would be sent within its deadline, as far as can be told: see the README. Asks nobody."""
        return self._tree.is_ready(self.settings.lm)

    def child_spec(self) -> ChildSpec:
        """The runtime as a child of a service's own supervisor; it is then started and stopped by that one."""
        self._refuse_ended()
        return ChildSpec(self.name, self._tree.start, shutdown=30.0, type=ChildType.SUPERVISOR)

    def _refuse_ended(self) -> None:
        if self._ended:
            msg = "this runtime has ended; make a new Runtime(...)"
            raise ShuttingDown(msg)

    def _running(self) -> RuntimeHost:
        if self._tree.host is None or self._ended:
            self._refuse_ended()
            raise NoRuntime(message="this Runtime has not started: use it as `with rt:`, or call rt.start_up()")
        return self._tree.host

    @property
    def _layer(self) -> LMLayer | None:
        return self._tree.layer

    def _running_layer(self) -> LMLayer:
        self._running()
        assert self._layer is not None
        return self._layer

    def __enter__(self) -> Self:
        self.start_up()
        self._tokens.append(FRAME.set(Frame(self._running(), self.settings)))
        return self

    def __exit__(self, *exc: object) -> None:
        self._leave()
        if not self._tokens:
            self.shutdown()

    async def __aenter__(self) -> Self:
        starting = asyncio.create_task(asyncio.to_thread(self.start_up))
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:  # a thread cannot be cancelled: what it starts is stopped again
            await asyncio.wait((starting,))
            await asyncio.to_thread(self.shutdown)
            raise
        self._tokens.append(FRAME.set(Frame(self._running(), self.settings)))
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._leave()
        if not self._tokens:
            await asyncio.to_thread(self.shutdown)

    def _leave(self) -> None:
        with suppress(ValueError):  # entered in another context, as test fixtures do: what was set there ends with it
            FRAME.reset(self._tokens.pop())

    # -- programs -----------------------------------------------------------------------------------------------

    def start(
        self,
        module: Module,
        *,
        name: str | None = None,
        max_inflight: int | None = None,
        max_queue: int | None = None,
        cached: bool = False,
        quarantine: bool = False,
    ) -> Program:
        """Start an actor for a private copy of `module` and give its handle, good for any thread and any loop.

        With `cached`, what the program answers is kept for half an hour and given again for equal parameters, model
        and inputs; only for programs that do nothing but compute. With `quarantine`, an input over which calls fail
        again and again is set aside and every call with it raises `QuarantinedInput`; without, only `safe_call` looks.
        Raises `NameTaken`; on a running event loop this does not wait, and the first call raises why a start failed.
        """
        limits = self._tree.limits.but(max_inflight, max_queue)
        program = self._running().start(
            module, name=name, settings=self._in_force(), limits=limits, cached=cached, quarantine=quarantine
        )
        if asyncio._get_running_loop() is None:
            program.wait_started()
        return program

    def program(self, name: str) -> Program:
        """The handle that `start` gave of the program of that name; `UnknownProgram`, a `KeyError`, lists all names."""
        return self._running().program(name)

    def using(self, **changes: Any) -> Using:
        """Settings for a while: `with rt.using(lm=..., deadline=...):` (DSPy's `context`). In a call, part of that."""
        settings = self._in_force().bind(**changes)
        return Using(lambda: Frame(self._running(), settings), self.start)

    def map(
        self,
        program: Module | Program,
        rows: Iterable[AnyRow],
        *,
        concurrency: int = 16,
        inputs: Sequence[str] | None = None,
        ordered: bool = True,
    ) -> Iterator[Mapped]:
        """Run `program` on each row, lazily: at most `concurrency` rows are under way and few more are read ahead.

        `inputs` names the fields of a row that the program is given; `None` gives it the inputs of an `Example` that
        knows them (`with_inputs`), and of others the whole row.
        Yields `Mapped(index, row, outcome)` for every row; a row that fails has its error in the outcome. None is
        tried again: in an outage rows end at once in `CircuitOpen`; give those with an `outcome.fault` to another `map`
        later. Leaving early cancels what is under way. Its first step raises `ShuttingDown` where the runtime drains.
        """
        wholes("Runtime.map", least=1, concurrency=concurrency)
        host = self._running()
        settings = program.in_force() if isinstance(program, Program) else self._in_force()
        return map_rows(host, program, rows, settings, concurrency, inputs=inputs, ordered=ordered)

    def stream(self, prompt: Prompt, lm: LM | str | None = None, **options: Any) -> LMStream:
        """Ask a model directly and read its answer as it is written: `for piece in rt.stream("..."):`, or `async for`.

        `prompt` is a text or a conversation, `lm` the runtime's if left out, `options` are the model's. Never blocks.
        See `LMStream`; leaving the loop gives the request up.
        """
        return stream_prompt(self._running(), self._in_force(), prompt, lm, options)

    def _in_force(self) -> Settings:
        frame = current_frame()
        return frame.settings if frame is not None and frame.runner is self._tree.host else self.settings

    # -- looking ------------------------------------------------------------------------------------------------

    def numbers(self) -> LMNumbers:
        """The LM layer's counts: calls, cache hits, requests sent, retries, tokens."""
        return self._tree.counters.read()

    def health(self) -> dict[str, object]:
        """Every number in one reading, as plain data: of the programs and their threads, and of the way to the models.

        `programs`: what is `started`, and its calls that have a place (`inflight`) and that wait for one (`queued`);
        `waits`: by tenant who waits (see `Waits.reading`); then counts, cache, keys, breakers, limiters and budgets.
        """
        return {**self._running_layer().health(self.settings.lm), **self._running().health()}

    def usage(self, *, tenant: str | None = None, session: str | None = None) -> UsageTotals:
        """Attempts, tokens and cost so far: of a tenant, a session, or everything.

        The 10,000 sessions booked last are told apart, and as many tenants; earlier ones are in the sums above theirs.
        """
        self.settings.check_tenants("tenant", tenant or "")
        return self._running_layer().usage.totals(tenant=tenant, session=session)

    def set_budget(
        self,
        budget: Budget | None,
        *,
        tenant: str | None = None,
        session: str | None = None,
        idle_seconds: float | None = None,
    ) -> None:
        """Bound what a tenant or a session may spend from now on; what was spent stays spent. See `BudgetBook.set`.

        `None` takes that back and forgets what was spent; so does time, where no call is held to it for `idle_seconds`.
        Raises `LMConfigurationError` for what is no `Budget`, and unless one of the two is named.
        """
        if isinstance(tenant, str):  # else the book says what is wrong
            self.settings.check_tenants("tenant", tenant)
        self._running_layer().book.set(budget, tenant=tenant, session=session, idle_seconds=idle_seconds)

    @property
    def quarantine(self) -> QuarantineBook:
        """The inputs that are set aside: list, show, release, export, replay."""
        return self._running().quarantine

    @property
    def breakers(self) -> BreakerBook:
        """The breakers, to be read, opened and reset by name."""
        return self._running().breakers

    @property
    def limiters(self) -> LimiterBook:
        """The rate limiters, to be read by name, and sent on after a pause."""
        return self._running().limiters

    @property
    def system(self) -> System:
        """The actor system this runtime started for itself; raises `NoRuntime` where it hangs in another's tree.

        It tells its events and is drawn there: `system.telemetry.attach(...)`, `system.draw()` of that one's `System`.
        """
        if self._own.system is None:
            msg = "this runtime has no system now: it has not started, or has ended"
            if self._tree.host is not None:
                msg = "this hangs in another's tree: use the `System` whose tree that is, its `telemetry` and `draw()`"
            raise NoRuntime(message=msg)
        return self._own.system

    @property
    def registry(self) -> Registry:
        """The names of this runtime's actors; a started program's key is `("module", name)`. See `program`."""
        return self._tree.registry

    def draw(self) -> str:
        """The supervision tree as text."""
        return self.system.draw()
