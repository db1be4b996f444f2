"""The list of events is that of the source: whatever is told there stands in it, with all that it carries."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pytest

import dspy_actors
from dspy_actors import events
from dspy_actors.quarantine.change import Step
from supervisors.telemetry import Event
from tests.dspy_actors.programs import qa, runtime

ROOT = Path(dspy_actors.__file__).parent
ROW = re.compile(r"    (\(\".*\"\)) +(\S.*?)  +(\S.*)")


class Told(NamedTuple):
    """What the list says of an event."""

    measurements: set[str]
    metadata: set[str]


def names(cell: str) -> set[str]:
    return set() if cell == "-" else set(re.split(r", +", cell))


LIST = re.sub(r"\n {20,}", "  ", events.__doc__ or "")
"""What it says, a row in a line."""

LISTED: dict[Event, Told] = {
    ast.literal_eval(found[1]): Told(names(found[2]), names(found[3])) for found in ROW.finditer(LIST)
}


class Site(NamedTuple):
    """A place in the source that tells events; `module` holds the names that stand there."""

    module: Any
    function: ast.FunctionDef
    call: ast.Call

    def __str__(self) -> str:
        return f"{self.module.__name__}:{self.call.lineno}"


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))  # type: ignore[misc]


def called(call: ast.Call) -> str:
    return ast.unparse(call.func)


def sites(pattern: str) -> list[Site]:
    """Where functions are called whose names, as they are written, match."""
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        text = path.read_text("utf-8")
        if re.search(pattern, text) is None:
            continue
        tree = ast.parse(text)
        module = importlib.import_module(".".join(path.relative_to(ROOT.parent).with_suffix("").parts))
        for function in functions(tree):
            calls = (node for node in ast.walk(function) if isinstance(node, ast.Call))
            found += [Site(module, function, call) for call in calls if re.search(f"{pattern}$", called(call))]
    return found


EXECUTED = sites(r"telemetry\.execute")
HANDED_ON = {"alerts": (r"write_log", 1, ""), "cache.tiers": (r"self\._tell", 0, "dspy_actors.cache.tiers")}
"""By its module, a function that tells an event that it is given: at which place, and which modules call it."""


def assigned(site: Site, name: str) -> list[ast.expr]:
    """What `name` is set to in the function."""
    steps = (node for node in ast.walk(site.function) if isinstance(node, ast.Assign))
    return [step.value for step in steps if any(isinstance(t, ast.Name) and t.id == name for t in step.targets)]


def events_of(site: Site, said: ast.expr) -> set[Event]:
    """The events that an expression stands for."""
    if isinstance(said, ast.IfExp):
        return events_of(site, said.body) | events_of(site, said.orelse)
    if isinstance(said, ast.Tuple) and isinstance(said.elts[1], ast.Attribute):
        first = getattr(site.module, said.elts[0].id)  # type: ignore[attr-defined]
        return {(first, step) for step in get_args(Step)}
    if isinstance(said, ast.Name) and hasattr(site.module, said.id):
        return {getattr(site.module, said.id)}
    if isinstance(said, ast.Name) and assigned(site, said.id):
        return set().union(*(events_of(site, each) for each in assigned(site, said.id)))
    if isinstance(said, ast.Name) and site.module.__name__.removeprefix("dspy_actors.") in HANDED_ON:
        return set()  # its callers are looked at
    pytest.fail(f"{site} tells {ast.unparse(said)}: a constant of the module would say what")


def collected() -> set[Event]:
    found: set[Event] = set()
    for site in EXECUTED:
        found |= events_of(site, site.call.args[0])
    for pattern, place, callers in HANDED_ON.values():
        for site in sites(pattern):
            if site.module.__name__.startswith(callers):
                found |= events_of(site, site.call.args[place])
    return found


def keys_of(site: Site, said: ast.expr) -> set[str]:
    """The names in a dict that is written out, here or where the function sets it."""
    if isinstance(said, ast.Name):
        return set().union(*(keys_of(site, each) for each in assigned(site, said.id)))
    if not isinstance(said, ast.Dict):
        return set()
    return {key.value for key in said.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)}


def test_the_list_and_the_constant_hold_what_the_source_tells() -> None:
    assert set(events.ALL) == set(LISTED) == collected()
    assert (len(events.ALL), list(LISTED)) == (len(LISTED), sorted(LISTED))


@pytest.mark.parametrize("site", EXECUTED, ids=str)
def test_what_an_event_carries_stands_in_the_list(site: Site) -> None:
    source = Path(site.module.__file__).read_text("utf-8")
    for event in events_of(site, site.call.args[0]):
        told = LISTED[event]
        carried, about = (keys_of(site, argument) for argument in site.call.args[1:])
        assert (carried, about - {name.rstrip("?") for name in told.metadata}) == (told.measurements, set())
        assert [name for name in told.metadata if f'"{name.rstrip("?")}"' not in source] == []


def test_a_handler_may_be_attached_to_all_of_them() -> None:
    heard: list[tuple[Event, set[str]]] = []
    with runtime() as rt:
        rt.system.telemetry.attach("test", events.ALL, lambda event, _, about: heard.append((event, set(about))))
        rt.start(qa())(question="x")
        rt.breakers.force_open("scripted/m")
    told = [("cache", "miss"), ("lm", "request"), ("program", "call"), ("breaker", "state")]
    assert heard == [(event, LISTED[event].metadata) for event in told]
