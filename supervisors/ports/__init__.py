"""Ports: code that must be killable for certain runs in a process of its own, behind an actor.

A thread cannot be killed, a process can. A `Port` is supervised like any other child; its process starts with it,
ends with it, and is killed at the deadline of the call that it runs.

    >>> from supervisors import ActorDied, ChildSpec, System
    >>> from supervisors.ports import Port, call
    >>> with System() as system:
    ...     port = system.via("sandbox")
    ...     ref = system.start_child(ChildSpec("sandbox", Port, kwargs={"modules": ("math",)}, name=port))
    ...     try:
    ...         call(port, "time:sleep", 60, timeout=0.1)
    ...     except ActorDied as died:
    ...         print(type(died.exit.error).__name__)
    ...     ref = system.registry.arrival("sandbox").get(10)  # the next process, which the supervisor starts
    ...     call(port, "math:isqrt", 25, timeout=10)
    PortTimeout
    5

Each deadline that comes is a restart, and counts in the supervisor's window (`max_restarts`). A port from
`system.spawn` has no supervisor: after its first deadline it is dead. A port is no prison: what is called in it may
do all that the user of the process may.
"""

from __future__ import annotations

from supervisors.ports.calls import acall, call
from supervisors.ports.errors import CallFailed, FrameTooLarge, PortExited, PortProtocol, PortTimeout
from supervisors.ports.port import Port

__all__ = ["CallFailed", "FrameTooLarge", "Port", "PortExited", "PortProtocol", "PortTimeout", "acall", "call"]
