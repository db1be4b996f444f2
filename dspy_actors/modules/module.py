"""`Module`: a declared program, a plain value with named sub-modules. It has no thread and does no I/O."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Never, Self

from dspy_actors.errors import DspyActorsError, ModuleError
from dspy_actors.example import Prediction
from dspy_actors.modules.copying import uncopied
from dspy_actors.modules.own_inputs import by_name, check_own_inputs
from dspy_actors.runner import Frame, Shows, drive, refuse_on_loop, require_frame, settle_in
from dspy_actors.state import PredictorState, dump, read_json, restore, write_json_atomic

if TYPE_CHECKING:
    from collections.abc import Coroutine


class Module:
    """A program made of predictors.

    A subclass sets its sub-modules as attributes (also in lists, tuples and dicts) and defines `forward(**inputs)`,
    or `async def aforward(**inputs)`, or both. It is called as `module(**inputs)` or `await module.acall(**inputs)`,
    inside `with Runtime(...)`; `runtime.start(module)` gives a handle that works from any thread and any loop.

    Where its code runs: `forward` in a task thread, so that the call's deadline holds whatever it does; `aforward` on
    the loop that awaits it, or on the runtime's programs loop when the caller blocks. A module called from within
    another one shares that one's call.
    """

    native: ClassVar[bool] = False
    """True for our own modules, whose one body is `steps`: they need no thread."""

    _compiled: bool = False

    def __call__(self, *by_place: Never, **inputs: Any) -> Prediction:
        """Run the program, blocking. Raises `NoRuntime` outside a runtime and `BlockingCall` on a running loop."""
        inputs = by_name(self, by_place, inputs)
        name = type(self).__name__
        frame = require_frame(name)
        refuse_on_loop(name)
        if frame.envelope is None:
            return frame.runner.run(self, inputs, frame.settings)
        return run_blocking(self, inputs, frame)

    async def acall(self, *by_place: Never, **inputs: Any) -> Prediction:
        """Run the program from a coroutine, without blocking its loop."""
        inputs = by_name(self, by_place, inputs)
        frame = require_frame(type(self).__name__, "await program.acall(...)")
        if frame.envelope is None:
            return await frame.runner.arun(self, inputs, frame.settings)
        return await run_awaited(self, inputs, frame)

    def steps(self, inputs: dict[str, Any]) -> Coroutine[Any, Any, Prediction]:
        """The one body of a native module; its only waits are `settle(...)`."""
        raise NotImplementedError

    # -- structure ----------------------------------------------------------------------------------------------

    def named_sub_modules(self) -> Iterator[tuple[str, Module]]:
        """This module as `self` and every module below it, by dotted name, each once, in declaration order."""
        seen: set[int] = set()

        def walk(name: str, module: Module) -> Iterator[tuple[str, Module]]:
            if id(module) in seen:
                return
            seen.add(id(module))
            yield name or "self", module
            for key, child in _children(module):
                yield from walk(f"{name}.{key}" if name else key, child)

        yield from walk("", self)

    def named_predictors(self) -> list[tuple[str, Any]]:
        """The predictors by name (`cot.predict`, `many[0]`, `byname['k']`; a predictor on its own is `self`).

        Predictors below a compiled sub-module are left out: an optimizer must not change them again.
        """
        frozen = [name for name, m in self.named_sub_modules() if m is not self and m._compiled]
        return [
            (name, module)
            for name, module in self.named_sub_modules()
            if getattr(module, "is_predictor", False) and not any(_below(name, f) for f in frozen)
        ]

    def predictors(self) -> list[Any]:
        """The predictors, in declaration order."""
        return [predictor for _, predictor in self.named_predictors()]

    def map_named_predictors(self, function: Callable[[Any], Any]) -> Self:
        """Replace every predictor by `function(predictor)`, in place; returns this module."""
        for name, predictor in self.named_predictors():
            _put(self, name, function(predictor))
        return self

    def set_lm(self, lm: Any) -> None:
        """Give every predictor its own LM; `None` gives it back to the runtime's."""
        for predictor in self.predictors():
            predictor.lm = lm

    def get_lm(self) -> Any:
        """The LM of every predictor; raises `ValueError` where they differ."""
        found = {id(p.lm): p.lm for p in self.predictors()}
        if len(found) != 1:
            msg = f"the predictors of {type(self).__name__} have {len(found)} LMs; read predictor.lm of each"
            raise ValueError(msg)
        return next(iter(found.values()))

    def deepcopy(self) -> Self:
        """A copy that shares nothing that can change, but addresses: handles of started programs, refs and names.

        Raises `ModuleError` where something in it cannot be copied.
        """
        try:
            return copy.deepcopy(self)
        except DspyActorsError:
            raise
        except Exception as error:
            raise uncopied(self, self.named_sub_modules(), error) from error

    def reset_copy(self) -> Self:
        """A copy whose predictors have no demos and no LM of their own."""
        made = self.deepcopy()
        made._compiled = False
        for _, module in made.named_sub_modules():
            if getattr(module, "is_predictor", False):
                module.reset()  # type: ignore[attr-defined]
        return made

    # -- state files --------------------------------------------------------------------------------------------

    def dump_state(self) -> dict[str, PredictorState]:
        """What an optimizer has found: instructions, demos and LM of every predictor, by name."""
        return {name: predictor.dump_state_record() for name, predictor in predictors_of(self)}

    def save(self, path: str | Path) -> None:
        """Write the state as DSPy 3.4.1's JSON, atomically: a crash leaves the old file or the new one."""
        write_json_atomic(Path(path), dump(self.dump_state()))

    def load(self, path: str | Path) -> None:
        """Read a state file of ours or of DSPy's. Raises `StateError` and changes nothing where it does not fit."""
        found = restore(read_json(Path(path)), self.dump_state(), str(path))
        for name, predictor in predictors_of(self):
            predictor.load_state_record(found[name])


def predictors_of(module: Module) -> list[tuple[str, Any]]:
    """The predictors of `module` by name, those below a compiled module too."""
    return [(name, one) for name, one in module.named_sub_modules() if getattr(one, "is_predictor", False)]


def run_blocking(module: Module, inputs: dict[str, Any], frame: Frame) -> Prediction:
    """Run `module` as part of the call of `frame`, in this thread."""
    if frame.sink is None:
        return _run_blocking(module, inputs, frame)
    frame.sink.notes("module_start", module, inputs)
    prediction = _run_blocking(module, inputs, frame)
    frame.sink.notes("module_end", prediction)
    return prediction


def _run_blocking(module: Module, inputs: dict[str, Any], frame: Frame) -> Prediction:
    if module.native:
        return drive(module.steps(inputs), frame)
    forward = getattr(module, "forward", None)
    if forward is not None:
        check_own_inputs(module, forward, inputs)
        return as_prediction(forward(**inputs), module)
    aforward = getattr(module, "aforward", None)
    if aforward is None:
        raise _no_forward(module)
    check_own_inputs(module, aforward, inputs)
    running = frame.runner.run_on_loop(_coroutine(module, aforward(**inputs)))
    return as_prediction(drive(settle_in(frame, running, "aforward"), frame), module)


def run_awaited(module: Module, inputs: dict[str, Any], frame: Frame) -> Coroutine[Any, Any, Prediction]:
    """Run `module` as part of the call of `frame`, from a coroutine."""
    if frame.sink is not None:
        return _noted(module, inputs, frame, frame.sink)
    return module.steps(inputs) if module.native else _run_foreign(module, inputs, frame)


async def _noted(module: Module, inputs: dict[str, Any], frame: Frame, sink: Shows) -> Prediction:
    sink.notes("module_start", module, inputs)
    prediction = await (module.steps(inputs) if module.native else _run_foreign(module, inputs, frame))
    sink.notes("module_end", prediction)
    return prediction


async def _run_foreign(module: Module, inputs: dict[str, Any], frame: Frame) -> Prediction:
    aforward = getattr(module, "aforward", None)
    if aforward is not None:
        check_own_inputs(module, aforward, inputs)
        return as_prediction(await _coroutine(module, aforward(**inputs)), module)
    forward = getattr(module, "forward", None)
    if forward is None:
        raise _no_forward(module)
    check_own_inputs(module, forward, inputs)
    body = lambda: as_prediction(forward(**inputs), module)  # noqa: E731 - a name would say no more
    return await settle_in(frame, frame.runner.run_in_thread(body, type(module).__name__), "forward")


def _coroutine(module: Module, running: Any) -> Any:
    """What `aforward` returned; raises `ModuleError` where that cannot be awaited."""
    if inspect.isawaitable(running):
        return running
    name = type(module).__name__
    msg = f"{name}.aforward is called with await: write `async def aforward(...)`, or name it `forward`"
    raise ModuleError(msg, module=name, attribute="aforward")


def as_prediction(value: Any, module: Module) -> Prediction:
    """What `forward` returned; anything but a `Prediction` is refused."""
    if isinstance(value, Prediction):
        return value
    if inspect.iscoroutine(value):
        value.close()
        msg = f"{type(module).__name__}.forward returned a coroutine; an async one is called `async def aforward(...)`"
        raise TypeError(msg)
    msg = f"{type(module).__name__}.forward returned {type(value).__name__}; return Prediction(field=value, ...)"
    raise TypeError(msg)


def _no_forward(module: Module) -> TypeError:
    return TypeError(f"{type(module).__name__} defines neither forward(**inputs) nor async aforward(**inputs)")


def _children(module: Module) -> Iterator[tuple[str, Module]]:
    for name, value in vars(module).items():
        if isinstance(value, Module):
            yield name, value
        elif isinstance(value, (list, tuple)):
            yield from ((f"{name}[{i}]", item) for i, item in enumerate(value) if isinstance(item, Module))
        elif isinstance(value, dict):
            yield from ((f"{name}[{key!r}]", item) for key, item in value.items() if isinstance(item, Module))


def _below(name: str, root: str) -> bool:
    return name == root or name.startswith((f"{root}.", f"{root}["))


def _put(root: Module, name: str, value: Any) -> None:
    for holder_name, holder in list(root.named_sub_modules()):
        for key, _ in _children(holder):
            full = key if holder_name == "self" else f"{holder_name}.{key}"
            if full != name:
                continue
            attribute, bracket, rest = key.partition("[")
            if not bracket:
                setattr(holder, attribute, value)
                return
            items = getattr(holder, attribute)
            if isinstance(items, dict):
                setattr(holder, attribute, {k: value if f"{k!r}]" == rest else v for k, v in items.items()})
            else:
                position = int(rest[:-1])
                setattr(holder, attribute, type(items)([*items[:position], value, *items[position + 1 :]]))
            return
