"""The tree as it is now: a JSON-able `Snapshot`, and `draw` to read it.

A snapshot is put together from what actors and supervisors publish anyway. It sends no message, so a stuck actor
neither delays it nor is missing from it. Taken from any thread; the moments of two lines may differ a little.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

from supervisors.brief import brief
from supervisors.child import Entry
from supervisors.children import published
from supervisors.exits import describe
from supervisors.ref import Ref

Node: TypeAlias = dict[str, Any]
"""One actor: `id`, `type` (worker or supervisor), `state`, `restarts`, what `Ref.snapshot` says, and for a
supervisor `strategy`, `recent_restarts`, `max_restarts`, `max_seconds` and its `children`."""

Snapshot: TypeAlias = dict[str, Any]
"""A system: `name`, `state`, `restarts` (so far), `zombies`, `tree` (the root's `Node` or None) and `others` (a
`Node` for each actor that no supervisor looks after)."""


def node_of(ref: Ref[Any], id: object, restarts: int = 0) -> Node:
    """The `Node` of a running actor and of everything below it."""
    facts = ref.snapshot()
    facts["exit"] = None if facts["exit"] is None else describe(facts["exit"])
    node: Node = {"id": _json_id(id), "type": "worker", "state": "running", "restarts": restarts, **facts}
    below = published(ref)
    if below is not None:
        node["type"] = "supervisor"
        node |= below.facts()
        node["children"] = [_child(entry) for entry in below.entries()]
    return node


def _child(entry: Entry) -> Node:
    ref = entry.ref
    if ref is not None:
        return node_of(ref, entry.spec.id, entry.restarts)
    state = "stopped" if entry.state == "running" else entry.state  # it ended; its supervisor does not know yet
    return {"id": _json_id(entry.spec.id), "type": entry.kind.value, "state": state, "restarts": entry.restarts}


def refs_below(node: Node) -> Iterator[int]:
    """The incarnations in `node` and below it."""
    if "incarnation" in node:
        yield node["incarnation"]
    for child in node.get("children", ()):
        yield from refs_below(child)


def draw(snapshot: Snapshot) -> str:
    """`snapshot` as lines of text: name, class, state, restarts and queue length of each actor."""
    restarts, zombies = snapshot["restarts"], snapshot["zombies"]
    head = f"{snapshot['name']}  {snapshot['state']}, {_many(restarts, 'restart')}, {_many(zombies, 'zombie')}"
    nodes = [snapshot["tree"]] if snapshot["tree"] else []
    return "\n".join([head, *_lines([*nodes, *snapshot["others"]], "")])


def _lines(nodes: list[Node], indent: str) -> Iterator[str]:
    for node in nodes:
        last = node is nodes[-1]
        yield f"{indent}{'└─ ' if last else '├─ '}{_line(node)}"
        yield from _lines(node.get("children", []), indent + ("   " if last else "│  "))


def _line(node: Node) -> str:
    words = [str(node["id"])]
    if "class" in node:
        words.append(node["class"])
    if "strategy" in node:
        words.append(node["strategy"])
    words.append(node["state"])
    if node["restarts"]:
        words.append(_many(node["restarts"], "restart"))
    if "queue" in node:
        words.append(f"queue {node['queue']}")
    return "  ".join(words)


def _many(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _json_id(id: object) -> str | int:
    return id if isinstance(id, str | int) else brief(id)
