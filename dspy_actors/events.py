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
    ("lm", "request")                    seconds, prompt_tokens, completion_tokens, cost
                                                         call_id, number, model, tenant, session, priority, status,
                                                         kind, estimated
    ("lm", "truncated")                  -               model, call_id, reason, limit
    ("log", "failure")                   -               event, error, fields
    ("outages", "report", "failure")     -               event, error, fields
    ("program", "call")                  seconds, requests, cached
                                                         call_id, outer, program, version, tenant, session, priority,
                                                         kind, truncated
    ("quarantine", "entered")            faults, times   entry, why
    ("quarantine", "file")               -               path, reason, aside?
    ("quarantine", "probation")          faults, times   entry, why
    ("quarantine", "released")           faults, times   entry, why
    ("quarantine", "renewed")            faults, times   entry, why
    ("quarantine", "report", "failure")  -               event, error, fields
    ("quarantine", "returned")           faults, times   entry, why

The last words `failure` mean a line that the log did not take. The events of actors, supervisors and the telemetry
itself are those of `supervisors`, in the same system.

Every request that was sent has its `("lm", "request")` when it has ended, whatever came of it, and every call of a
program that began has its `("program", "call")`; the predictors of a program are no calls of their own. A call has
begun when it has a `call_id`: one that waits for a place in vain or is refused with `Busy` is told (`version` is
`None`), one that is refused before that, with `ShuttingDown` or for what its caller wrote, is not. An answer from the
cache, or of an equal call under way, is a call without a request. `requests` has those of the calls made inside of a
call too.

`call_id` joins them: the requests of a call have it, its `Outcome` does, and the calls made inside of it have it as
`outer`. It is the first part of the `X-Request-Id` of a request, after which `.` and `number` stand. The handler of
`("program", "call")` finds the context variables of whoever made the call, so a trace id that a service keeps in one is
there; not so for the rows of `rt.map` and `Evaluate`. That of a request runs on the io loop, where no caller's are: it
goes by `call_id`, or by `session`, which `rt.using(session=...)` sets. What the garbage collector ends is told in the
thread in which that happens.
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
from dspy_actors.lm.usage_log import REQUEST
from dspy_actors.modules.outcome import CALL
from dspy_actors.quarantine.change import Step
from dspy_actors.quarantine.manager import ALERT_FAILED, FILE_UNUSABLE, QUARANTINE
from supervisors.telemetry import Event

ALL: tuple[Event, ...] = (
    *(STATE_CHANGED, SET_ASIDE, HIT, MISS, WAITED, FELL_BACK, HEDGED, REQUEST, TRUNCATED, LOG_FAILED, REPORT_FAILED),
    CALL,
    *((QUARANTINE, step) for step in get_args(Step)),
    *(FILE_UNUSABLE, ALERT_FAILED),
)
