"""Ports: code that must be killable for certain runs in a process of its own, behind an actor.

A thread cannot be killed, a process can. A `Port` is supervised like any other child; its process starts with it,
ends with it, and is killed at the deadline of the call that it runs.

    >>> from supervisors import System
    >>> from supervisors.ports import Port, call
    >>> with System() as system:
    ...     port = system.spawn(Port, modules=("math",))
    ...     five = call(port, "math:isqrt", 25, timeout=10)
    >>> five
    5
"""

from __future__ import annotations

from supervisors.ports.calls import acall, call
from supervisors.ports.errors import CallFailed, FrameTooLarge, PortExited, PortProtocol, PortTimeout
from supervisors.ports.port import Port

__all__ = ["CallFailed", "FrameTooLarge", "Port", "PortExited", "PortProtocol", "PortTimeout", "acall", "call"]
