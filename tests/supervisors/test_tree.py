"""The snapshot is JSON and asks nobody; the drawing is readable."""

from __future__ import annotations

import json
import threading
from typing import Any

from supervisors.dynamic import DynamicSupervisor
from supervisors.ref import Ref
from supervisors.spec import ChildSpec
from supervisors.strategies import Strategy
from supervisors.supervisor import Supervisor
from supervisors.system import System
from supervisors.testing import Log
from supervisors.tree import draw
from tests.supervisors.workers import TRANSIENT, Worker, child, end, ids, spec

NESTED = ChildSpec("in", Supervisor, ([spec("x", Log())],), {"strategy": Strategy.ONE_FOR_ALL})


def names(node: dict[str, Any]) -> Any:
    return node["id"] if "children" not in node else {node["id"]: [names(each) for each in node["children"]]}


def test_a_snapshot_is_json(system: System) -> None:
    system.start_child(NESTED)
    system.spawn(Worker, "lone", Log())

    assert json.loads(json.dumps(system.snapshot())) == system.snapshot()


def test_a_snapshot_has_the_whole_tree(system: System) -> None:
    system.start_child(spec("a", Log()))
    system.start_child(NESTED)

    assert names(system.snapshot()["tree"]) == {"root": ["a", {"in": ["x"]}]}


def test_a_snapshot_shows_actors_without_a_supervisor_apart(system: System) -> None:
    system.spawn(Worker, "lone", Log(), name="hermit")

    assert [node["id"] for node in system.snapshot()["others"]] == ["hermit"]


def test_a_snapshot_does_not_wait_for_a_stuck_actor(system: System) -> None:
    let_go, began = threading.Event(), threading.Event()
    ref = system.start_child(spec("a", Log()))
    ref.cast(Worker.hang, let_go, began)
    began.wait(5)
    ref.cast(Worker.hello)
    (node,) = system.snapshot()["tree"]["children"]
    let_go.set()

    assert (node["state"], node["queue"]) == ("running", 1)


def test_a_snapshot_does_not_wait_for_a_supervisor_that_starts_a_child(system: System) -> None:
    let_go, began = threading.Event(), threading.Event()

    def start(kernel: object) -> Any:
        began.set()
        let_go.wait(10)
        return system.kernel.spawn(Worker, "slow", Log())

    asked = system.root.send_request(Supervisor.start_child, ChildSpec("slow", start))
    began.wait(5)
    seen = names(system.snapshot()["tree"])
    let_go.set()

    assert seen == {"root": []}
    assert isinstance(asked.get(5), Ref)


def test_a_child_that_is_not_running_is_shown_as_stopped(system: System) -> None:
    ref = system.start_child(spec("a", Log(), restart=TRANSIENT))
    system.root.call(Supervisor.terminate_child, "a")
    (node,) = system.snapshot()["tree"]["children"]

    assert (node["id"], node["state"], ref.is_alive()) == ("a", "stopped", False)


def test_restarts_are_counted_per_child_and_for_the_system(system: System) -> None:
    system.start_child(spec("a", Log()))
    system.start_child(spec("b", Log()))
    for _ in range(2):
        end(child(system.root, "a"))
    ids(system.root)
    snapshot = system.snapshot()

    assert [node["restarts"] for node in snapshot["tree"]["children"]] == [2, 0]
    assert (snapshot["restarts"], system.restarts, snapshot["tree"]["recent_restarts"]) == (2, 2, 2)


def test_the_drawing_shows_the_tree(system: System) -> None:
    system.start_child(spec("a", Log()))
    system.start_child(NESTED)
    system.start_child(ChildSpec("many", DynamicSupervisor))
    end(child(system.root, "a"))
    ids(system.root)

    assert system.draw().splitlines() == [
        "system  running, 1 restart, 0 zombies",
        "└─ root  Supervisor  one_for_one  running  queue 0",
        "   ├─ a  Worker  running  1 restart  queue 0",
        "   ├─ in  Supervisor  one_for_all  running  queue 0",
        "   │  └─ x  Worker  running  queue 0",
        "   └─ many  DynamicSupervisor  dynamic  running  queue 0",
    ]


def test_the_drawing_of_an_ended_system_is_one_line() -> None:
    with System("done") as system:
        pass

    assert draw(system.snapshot()) == "done  stopped, 0 restarts, 0 zombies"
