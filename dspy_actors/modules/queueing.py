"""How a call gets its place: at once where one is free, else in the queue of the program's actor."""

from __future__ import annotations

from contextvars import Context
from typing import Any, Protocol

from dspy_actors.envelope import Envelope
from dspy_actors.errors import CallCancelled, DeadlineExceeded, ShuttingDown
from dspy_actors.lm.waits import Waits
from dspy_actors.modules.instance import InstancePlan, ModuleInstance
from dspy_actors.runner import Frame, settle_in
from supervisors.errors import ActorDied, Fenced, SupervisorsError
from supervisors.reply import Reply
from supervisors.via import Via

RESTART_PAUSE = 0.005
"""Seconds a queued call waits before it asks the successor of an actor that died."""


class Doorkeeper(Protocol):
    """What the queue needs of the runtime. `waits` knows by tenant who waits."""

    waits: Waits

    def pause(self, seconds: float) -> Reply[None]:
        """Settles after `seconds`; fails with `ShuttingDown` at the runtime's end."""
        ...


async def take_place(host: Doorkeeper, plan: InstancePlan, instance: Via, frame: Frame) -> None:
    """Wait until the call of `frame` has a place, within its deadline. Native code: see `runner.drive`.

    A queue that dies with its actor is joined again at the successor. Raises `Busy` and `ShuttingDown`.
    """
    assert frame.envelope is not None
    call_id, urgent = frame.envelope.call_id, frame.envelope.priority == "interactive"
    while not plan.admission.enter(call_id, urgent=urgent):
        turn: Reply[None] | None = None
        try:
            turn = _queued(instance, frame.envelope)
            turn.on_settled(host.waits.begin(frame.envelope.tenant))
            await settle_in(frame, turn, "admission")
        except ActorDied:
            plan.admission.leave(call_id)
            await settle_in(frame, host.pause(RESTART_PAUSE), "admission")
        except BaseException as error:
            if turn is not None:  # also where the call was dropped: else its turn would come when nobody is there
                turn.cancel()
            free_place(plan, instance, call_id)
            if isinstance(error, DeadlineExceeded):
                places = f"a place of {plan.name}, which has max_inflight={plan.admission.limits.max_inflight}"
                msg = f"{error.message}: {places}; calls of a program within its own calls need places too"
                raise DeadlineExceeded(msg, phase=error.phase, seconds=error.seconds) from None
            raise
        else:
            return


def free_place(plan: InstancePlan, instance: Via, call_id: str) -> None:
    """Give a place back, or leave the queue; the actor is told if somebody waits."""
    if plan.admission.leave(call_id):
        try:  # whoever waits must hear of it, also from the thread of a call that was given up: not in its name
            Context().run(instance.cast, ModuleInstance.let_in)
        except SupervisorsError:  # the system has ended, and with it the queue
            return


def watched(reply: Reply[Any]) -> Reply[None]:
    """Settles when `reply` does; cancelling it leaves `reply`, which others wait for too, alone."""
    seen: Reply[None] = Reply()
    reply.add_done_callback(lambda _: seen.set(None))
    return seen


def _queued(instance: Via, envelope: Envelope) -> Reply[None]:
    try:
        return instance.send_request(ModuleInstance.admit, envelope.call_id, envelope.priority, envelope.tenant)
    except Fenced as error:
        msg = "the call that this code belongs to is over, so it may not begin another"
        raise CallCancelled(msg) from error
    except SupervisorsError as error:
        msg = f"{instance.label} was called as its runtime ended; make the call on another one"
        raise ShuttingDown(msg) from error
