"""ReadyTasks: which task begins next."""

from collections.abc import Hashable

import pytest

from dotflow import Context, Task, action
from dotflow.engine.lifecycle import first_call
from dotflow.engine.ready import Ready, ReadyTasks

STEP = action(print)


def ready_task(number: int, *, continues: bool = False) -> Ready:
    return Ready(number, number, Task(number, STEP), Context(), STEP, continues, ())


class Workers:
    """A number of workers of each pool."""

    def __init__(self, **free: int) -> None:
        self.free = free
        self.calls: list[tuple[Hashable, int]] = []

    def make_room(self, pool: Hashable, lane: int, waiting: int) -> bool:
        self.calls.append((pool, waiting))
        room = self.free[str(pool)] > 0
        self.free[str(pool)] -= room
        return room


@pytest.fixture
def ready() -> ReadyTasks:
    return ReadyTasks()


def taken(ready: ReadyTasks, workers: Workers) -> list[int]:
    """Returns the tasks that begin."""
    numbers: list[int] = []
    while (task := ready.take(workers.make_room)) is not None:
        assert isinstance(task, Ready)
        numbers.append(task.number)
    return numbers


def test_in_the_order_in_which_they_came(ready: ReadyTasks) -> None:
    """As many as there is room for."""
    for number in range(5):
        ready.add("a", ready_task(number))

    assert taken(ready, Workers(a=3)) == [0, 1, 2]
    assert taken(ready, Workers(a=3)) == [3, 4]
    assert not ready.queues


def test_the_next_of_a_lane_goes_first(ready: ReadyTasks) -> None:
    """Among these, the first to become ready."""
    for number, continues in ((0, False), (1, True), (2, False), (3, True)):
        ready.add("a", ready_task(number, continues=continues))

    assert taken(ready, Workers(a=9)) == [1, 3, 0, 2]


def test_others_pass_one_that_there_is_no_room_for(ready: ReadyTasks) -> None:
    """Where they need another pool; in the same one they wait."""
    for number, pool in enumerate("abab"):
        ready.add(pool, ready_task(number))

    assert taken(ready, Workers(a=0, b=9)) == [1, 3]
    assert taken(ready, Workers(a=9, b=0)) == [0, 2]


def test_pools_take_turns_by_their_first_tasks(ready: ReadyTasks) -> None:
    """Where pools share their workers, none starves."""
    for number, pool in enumerate("aabba"):
        ready.add(pool, ready_task(number))

    assert taken(ready, Workers(a=9, b=9)) == [0, 1, 2, 3, 4]


def test_make_room_gets_the_number_of_waiting_calls(ready: ReadyTasks) -> None:
    """So that a cluster's workers can be started for all of them."""
    for number in range(3):
        ready.add("a", ready_task(number, continues=number == 2))
    workers = Workers(a=2)
    taken(ready, workers)

    assert workers.calls == [("a", 3), ("a", 2), ("a", 1)]


def test_one_that_becomes_ready_waits_behind_others(ready: ReadyTasks) -> None:
    """But the next task of a lane waits only for others of this kind."""
    assert not ready.must_wait("a", continues=False)
    ready.add("a", ready_task(0))

    assert ready.must_wait("a", continues=False)
    assert not ready.must_wait("a", continues=True)
    assert not ready.must_wait("b", continues=False)
    ready.add("a", ready_task(1, continues=True))
    assert ready.must_wait("a", continues=True)


def test_after_a_failure_only_those_are_left_that_have_begun(ready: ReadyTasks) -> None:
    """A next attempt is made; a lane's next task is not."""
    begun = ready_task(2, continues=True)
    begun = begun._replace(call=first_call(*begun[:5], begun.inputs))
    ready.add("a", ready_task(0))
    ready.add("a", ready_task(1, continues=True))
    ready.add("a", begun)
    ready.add("b", ready_task(3, continues=True))
    ready.drop_new(lambda pool: False)

    assert taken(ready, Workers(a=9, b=9)) == [2]
    assert not ready.queues


def test_after_a_failure_the_tasks_of_a_pool_may_stay(ready: ReadyTasks) -> None:
    """Those of the others are dropped."""
    for number, pool in enumerate("abab"):
        ready.add(pool, ready_task(number))
    ready.drop_new(lambda pool: pool == "b")

    assert taken(ready, Workers(a=9, b=9)) == [1, 3]
    assert not ready.queues


def test_ten_thousand_that_wait(ready: ReadyTasks) -> None:
    """Each is considered only in its turn."""
    for number in range(10_000):
        ready.add("a", ready_task(number))
    workers = Workers(a=1)

    for _ in range(10_000):
        workers.free["a"] = 1
        assert len(taken(ready, workers)) == 1

    assert len(workers.calls) < 20_001
