"""Section Q: the partition supervisor."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Hashable
from typing import Any, cast

import pytest

from supervisors.actor import Actor
from supervisors.errors import ActorDied, SpecError, StartFailed
from supervisors.exits import Exit, NoProc, Normal
from supervisors.hashing import stable_hash
from supervisors.kernel import Kernel
from supervisors.partition import PartitionSupervisor
from supervisors.ref import Ref
from supervisors.registry import Registry
from supervisors.spec import ChildSpec, ChildType, Restart
from supervisors.testing import Log
from tests.conformance.words import CRASH, recorded


class Part(Actor):
    """Says which arguments it got."""

    def init(self, *args: Any) -> None:
        self.args = args
        self.value = 0

    def given(self) -> tuple[Any, ...]:
        return self.args

    def add(self, n: int) -> int:
        self.value += n
        return self.value


def parts(kernel: Kernel, partitions: int | None = 3, child: Any = Part, **options: Any) -> Ref[PartitionSupervisor]:
    return kernel.spawn(PartitionSupervisor, child, partitions=partitions, **options)


def place(sup: Ref[PartitionSupervisor], key: Any) -> Hashable:
    """The number of the partition for `key`."""
    ref = PartitionSupervisor.via(sup, key).whereis()
    return next(line.id for line in sup.call(PartitionSupervisor.which_children) if line.ref is ref)


def end(sup: Ref[PartitionSupervisor], key: Any, exit: Any = CRASH) -> Ref[Any]:
    """End the partition for `key`, and wait until the supervisor has seen it: the ref that was."""
    ref = PartitionSupervisor.via(sup, key).whereis()
    assert ref is not None
    ref.exit(exit)
    ref.down().get(5)
    sup.call(PartitionSupervisor.count_children)
    return ref


def refusal(kernel: Kernel, *args: Any, **options: Any) -> str:
    """The field that the start was refused for."""
    with pytest.raises(StartFailed) as caught:
        kernel.spawn(PartitionSupervisor, *args, **options)
    assert isinstance(caught.value.cause, SpecError)
    return caught.value.cause.field


@pytest.mark.parametrize("key", [0, 1, 2, 3, 7, -1, -3, -5])
def test_q01_an_int_goes_to_its_remainder(kernel: Kernel, key: int) -> None:
    assert place(parts(kernel), key) == recorded("Q01")[str(key)]


@pytest.mark.parametrize("key", ["user", b"user", 1.5, None, ("user", 7)])
def test_q01_any_other_key_goes_by_its_hash(kernel: Kernel, key: Any) -> None:
    assert place(parts(kernel), key) == stable_hash(key) % 3


def test_q01_the_hash_is_the_same_in_every_process() -> None:
    code = "from supervisors.hashing import stable_hash; print(stable_hash(('user', 7, None, 1.5, b'x')))"
    environment = {**os.environ, "PYTHONHASHSEED": "1234"}
    command = [sys.executable, "-c", code]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60).stdout
    assert int(said) == stable_hash(("user", 7, None, 1.5, b"x"))


def test_q01_the_hash_spreads_keys_evenly() -> None:
    counts = [0] * 8
    for number in range(8000):
        counts[stable_hash(f"user{number}") % 8] += 1
    assert all(800 < count < 1200 for count in counts)


def test_q01_keys_do_not_run_together() -> None:
    keys = [("ab", "c"), ("a", "bc"), "abc", b"abc", ("abc",), (("a",), "bc"), 1, "1", 1.0, True, None, "None"]
    assert len({stable_hash(key) for key in keys}) == len(keys)


def test_q01_a_key_without_a_value_of_its_own_is_refused(kernel: Kernel) -> None:
    with pytest.raises(SpecError):
        PartitionSupervisor.via(parts(kernel), cast("Any", object()))


def test_q02_a_crashed_partition_comes_back_in_its_place(kernel: Kernel) -> None:
    sup = parts(kernel)
    before = [line.ref for line in sup.call(PartitionSupervisor.which_children)]
    end(sup, 1)
    after = sup.call(PartitionSupervisor.which_children)

    same = [line.ref is old for line, old in zip(after, before, strict=True)]
    assert {"ids": [line.id for line in after], "same": same} == recorded("Q02")


def test_q02_who_has_its_address_comes_to_the_new_one(kernel: Kernel) -> None:
    sup = parts(kernel)
    address = PartitionSupervisor.via(sup, "user")
    address.call(Part.add, 5)
    end(sup, "user")

    assert address.call(Part.add, 1) == 1


def test_q03_there_are_as_many_partitions_as_processors(kernel: Kernel) -> None:
    assert parts(kernel, None).call(PartitionSupervisor.partitions) == os.cpu_count()


@pytest.mark.parametrize("partitions", [0, -1, 1.5, True, "3"])
def test_q04_a_number_without_sense_is_refused(kernel: Kernel, partitions: Any) -> None:
    assert refusal(kernel, Part, partitions=partitions) == "partitions"


def test_q04_other_options_without_sense_are_refused(kernel: Kernel) -> None:
    named = ChildSpec("part", Part, name=Registry().via("part"))
    said = [
        refusal(kernel, Part, auto_shutdown="often"),
        refusal(kernel, Part, strategy="one"),
        refusal(kernel, Part, with_arguments=3),
        refusal(kernel, 42),
        refusal(kernel, named),
        refusal(kernel, ChildSpec("part", Part, restart=Restart.TEMPORARY)),
    ]
    assert said == ["auto_shutdown", "strategy", "with_arguments", "start", "name", "restart"]


def test_q04_a_missing_child_spec_is_refused(kernel: Kernel) -> None:
    with pytest.raises(StartFailed) as caught:
        kernel.spawn(PartitionSupervisor)
    assert isinstance(caught.value.cause, TypeError)


def test_q05_every_partition_has_arguments_of_its_own(kernel: Kernel) -> None:
    sup = parts(kernel, 3, ChildSpec("part", Part, ("all",)), with_arguments=lambda args, number: [*args, number])
    given = [PartitionSupervisor.via(sup, number).call(Part.given) for number in range(3)]

    assert given == [("all", 0), ("all", 1), ("all", 2)]


def test_q05_it_has_them_after_a_restart_too(kernel: Kernel) -> None:
    sup = parts(kernel, 2, with_arguments=lambda args, number: (number,))
    end(sup, 1)

    assert PartitionSupervisor.via(sup, 1).call(Part.given) == (1,)


def test_q06_fewer_partitions_keep_their_specs(kernel: Kernel) -> None:
    sup = parts(kernel)
    before = sup.call(PartitionSupervisor.resize, 1)

    assert (before, sup.call(PartitionSupervisor.count_children)) == (3, (3, 1, 0, 3))
    assert {place(sup, key) for key in range(6)} == {0}


class Leaving(Part):
    """Logs its own end."""

    def terminate(self, exit: Exit) -> None:
        self.args[0].add(self.args[1])


def test_q06_the_last_one_is_stopped_first(kernel: Kernel) -> None:
    log = Log()
    sup = parts(kernel, 3, ChildSpec("part", Leaving, (log,)), with_arguments=lambda args, number: (*args, number))
    sup.call(PartitionSupervisor.resize, 0)

    assert log == [2, 1, 0]


def test_q06_stopped_partitions_come_back(kernel: Kernel) -> None:
    sup = parts(kernel)
    sizes = [sup.call(PartitionSupervisor.resize, size) for size in (1, 3, 3)]

    assert (sizes, [place(sup, key) for key in range(3)]) == ([3, 1, 3], [0, 1, 2])


@pytest.mark.parametrize("size", [4, -1, 1.5])
def test_q06_more_than_there_were_is_refused(kernel: Kernel, size: Any) -> None:
    sup = parts(kernel)
    with pytest.raises(SpecError) as caught:
        sup.call(PartitionSupervisor.resize, size)

    assert (caught.value.field, sup.call(PartitionSupervisor.partitions)) == ("partitions", 3)


def test_q06_without_partitions_every_look_up_raises(kernel: Kernel) -> None:
    sup = parts(kernel)
    sup.call(PartitionSupervisor.resize, 0)
    for key in (1, "user"):
        with pytest.raises(SpecError):
            PartitionSupervisor.via(sup, key).whereis()


def test_q07_a_supervisor_that_is_not_there_is_noproc(kernel: Kernel) -> None:
    nobody = PartitionSupervisor.via(Registry().via("counters"), 1)
    with pytest.raises(ActorDied) as caught:
        nobody.call(Part.given)

    assert (caught.value.name, caught.value.exit) == ("counters[1]", NoProc())


def test_q07_a_supervisor_that_has_ended_is_noproc(kernel: Kernel) -> None:
    sup = parts(kernel)
    address = PartitionSupervisor.via(sup, 1)
    sup.exit(Normal())
    sup.down().get(5)

    assert address.whereis() is None


def test_a_partition_is_reached_through_the_name_of_its_supervisor(kernel: Kernel) -> None:
    name = Registry().via("counters")
    sup = kernel.spawn(PartitionSupervisor, Part, partitions=2, name=name)
    address = PartitionSupervisor.via(name, 1)
    first = address.call(Part.add, 1)
    sup.exit(Normal())
    sup.down().get(5)
    kernel.spawn(PartitionSupervisor, Part, partitions=2, name=name)

    assert (first, address.call(Part.add, 1)) == (1, 1)


def test_partitions_are_named_after_their_supervisor(kernel: Kernel) -> None:
    sup = kernel.spawn(PartitionSupervisor, Part, partitions=2, name=Registry().via("counters"))
    assert [str(line.ref) for line in sup.call(PartitionSupervisor.which_children)] == ["counters/0", "counters/1"]


def test_it_is_a_supervisor_to_its_own_supervisor() -> None:
    assert ChildSpec("parts", PartitionSupervisor, (Part,)).type is ChildType.SUPERVISOR


def test_nobody_else_can_take_the_place_of_a_partition(kernel: Kernel) -> None:
    sup = parts(kernel)
    with pytest.raises(SpecError):
        kernel.spawn(Part, name=PartitionSupervisor.via(sup, 1))
