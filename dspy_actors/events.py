"""Every event that `dspy_actors` tells the telemetry of its system, what each carries, and `ALL` of them.

`rt.system.telemetry.attach("my service", events.ALL, handler)` hears of all. A handler is called with the event, its
measurements and its metadata in the thread where it happens, and must not block. `seconds` are those of the system's
clock; `-` stands for nothing, and what has a `?` may be missing. What the values are is said where the events are made.

    event                                measurements    metadata
    ("breaker", "state")                 -               name, before, after
    ("cache", "disk", "set_aside")       -               path, aside, reason
    ("cache", "hit")                     -               table, tier
    ("cache", "miss")                    -               table
    ("limiter", "wait")                  seconds         name, tenant, priority
    ("lm", "fallback")                   -               call_id, model, to, kind
    ("lm", "hedge")                      -               model, call_id
    ("lm", "truncated")                  -               model, call_id, reason, limit
    ("log", "failure")                   -               event, error, fields
    ("outages", "report", "failure")     -               event, error, fields
    ("quarantine", "entered")            faults, times   entry, why
    ("quarantine", "file")               -               path, reason, aside?
    ("quarantine", "probation")          faults, times   entry, why
    ("quarantine", "released")           faults, times   entry, why
    ("quarantine", "renewed")            faults, times   entry, why
    ("quarantine", "report", "failure")  -               event, error, fields
    ("quarantine", "returned")           faults, times   entry, why

The last words `failure` mean a line that the log did not take. The events of actors, supervisors and the telemetry
itself are those of `supervisors`, in the same system.
"""

from __future__ import annotations

from typing import get_args

from dspy_actors.alerts import LOG_FAILED
from dspy_actors.cache.cache_file import SET_ASIDE
from dspy_actors.cache.watched import HIT, MISS
from dspy_actors.lm.gatehouse import STATE_CHANGED
from dspy_actors.lm.gates import HEDGED, WAITED
from dspy_actors.lm.in_turn import FELL_BACK
from dspy_actors.lm.outage_reporter import REPORT_FAILED
from dspy_actors.lm.truncations import TRUNCATED
from dspy_actors.quarantine.change import Step
from dspy_actors.quarantine.manager import ALERT_FAILED, FILE_UNUSABLE, QUARANTINE
from supervisors.telemetry import Event

ALL: tuple[Event, ...] = (
    *(STATE_CHANGED, SET_ASIDE, HIT, MISS, WAITED, FELL_BACK, HEDGED, TRUNCATED, LOG_FAILED, REPORT_FAILED),
    *((QUARANTINE, step) for step in get_args(Step)),
    *(FILE_UNUSABLE, ALERT_FAILED),
)
