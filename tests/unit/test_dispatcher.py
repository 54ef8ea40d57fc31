"""Dispatcher: which worker takes which call."""

import itertools
from collections.abc import Iterator

import pytest

from dotflow.processes.dispatcher import Dispatcher


class Starter:
    """Starts workers called A, B, C, ..., up to a limit."""

    def __init__(self, limit: int = 26) -> None:
        self.names: Iterator[str] = itertools.islice((chr(65 + index) for index in range(26)), limit)
        self.started: list[str] = []

    def start(self) -> str:
        name = next(self.names, None)
        if name is None:
            raise OSError("no more can start")
        self.started.append(name)
        return name


def take(dispatcher: Dispatcher[str], *lanes: int, isolated: bool = False) -> list[str | OSError | None]:
    """Returns the workers that calls of these lanes get, in order; None for a call that must wait."""
    return [
        dispatcher.take(lane, isolated=isolated) if dispatcher.make_room(lane, isolated=isolated) else None
        for lane in lanes
    ]


@pytest.fixture
def starter() -> Starter:
    return Starter()


def test_without_a_call_no_worker_starts(starter: Starter) -> None:
    """A worker starts when there is a call for it, not before."""
    dispatcher = Dispatcher(starter.start, 4)

    assert dispatcher.has_room(0)
    assert starter.started == []


def test_a_worker_for_each_lane(starter: Starter) -> None:
    """Calls of different lanes begin at once, each with a worker of its own."""
    dispatcher = Dispatcher(starter.start, 4)

    assert take(dispatcher, 0, 1, 2) == ["A", "B", "C"]


def test_no_more_than_allowed(starter: Starter) -> None:
    """The others wait until a worker is done."""
    dispatcher = Dispatcher(starter.start, 2)

    assert take(dispatcher, 0, 1, 2, 3) == ["A", "B", None, None]
    assert not dispatcher.has_room(2)

    dispatcher.release("B")
    dispatcher.leave(1)
    assert take(dispatcher, 2, 3) == ["B", None]
    assert starter.started == ["A", "B"]


def test_a_worker_that_joins(starter: Starter) -> None:
    """Workers that start elsewhere join when they are up; until then there is no room."""
    dispatcher = Dispatcher(starter.start, 4, growth=lambda isolated: False)

    assert take(dispatcher, 0, 1) == [None, None]
    dispatcher.add("Z")
    assert dispatcher.has_idle
    assert take(dispatcher, 0, 1) == ["Z", None]
    assert starter.started == []


def test_a_lane_comes_back_to_its_worker(starter: Starter) -> None:
    """The next call of a lane goes to the worker that still has its value, and none is started for it."""
    dispatcher = Dispatcher(starter.start, 4)
    take(dispatcher, 0, 1)
    dispatcher.release("A")
    dispatcher.release("B")

    assert take(dispatcher, 1, 0) == ["B", "A"]
    assert starter.started == ["A", "B"]


def test_an_idle_worker_spares_the_start_of_another(starter: Starter) -> None:
    """A worker whose lane is over takes on a new one."""
    dispatcher = Dispatcher(starter.start, 4)
    take(dispatcher, 0)
    dispatcher.release("A")
    dispatcher.leave(0)

    assert take(dispatcher, 1) == ["A"]
    assert starter.started == ["A"]


def test_the_last_one_to_become_idle_comes_first(starter: Starter) -> None:
    """Its memory is warm, and the others may never be needed again."""
    dispatcher = Dispatcher(starter.start, 4)
    take(dispatcher, 0, 1)
    for worker, lane in (("A", 0), ("B", 1)):
        dispatcher.release(worker)
        dispatcher.leave(lane)

    assert take(dispatcher, 2) == ["B"]


def test_an_assigned_worker_is_left_to_its_lane_while_others_can_start(starter: Starter) -> None:
    """A worker whose lane waits out a delay is left to it."""
    dispatcher = Dispatcher(starter.start, 2)
    take(dispatcher, 0)
    dispatcher.release("A")

    assert take(dispatcher, 1) == ["B"]


@pytest.mark.parametrize("should_grow", [True, False])
def test_an_assigned_worker_takes_other_calls_when_no_more_can_start(starter: Starter, should_grow: bool) -> None:
    """A retry delay never keeps a worker from working."""
    allowed = [True]
    dispatcher = Dispatcher(starter.start, 1 if should_grow else 2, growth=lambda isolated: allowed[0])
    take(dispatcher, 0)
    dispatcher.release("A")
    allowed[0] = should_grow

    assert dispatcher.has_room(1)
    assert take(dispatcher, 1) == ["A"]


def test_a_lane_whose_worker_is_busy_with_another_waits_for_any(starter: Starter) -> None:
    """Its call is like any other, and goes to another worker."""
    dispatcher = Dispatcher(starter.start, 2)
    take(dispatcher, 0, 1)
    dispatcher.release("A")
    take(dispatcher, 2)

    assert take(dispatcher, 0) == [None]
    dispatcher.release("B")
    assert take(dispatcher, 0) == ["B"]


def test_an_isolated_call_gets_an_unused_worker(starter: Starter) -> None:
    """At the limit, an idle worker that has made a call ends for it; workers of other lanes are not touched."""
    ended: list[str] = []
    dispatcher = Dispatcher(
        starter.start, 2, remove_for_isolated=lambda worker: (ended.append(worker), dispatcher.remove(worker))
    )
    take(dispatcher, 0)
    dispatcher.release("A")

    assert take(dispatcher, 0, isolated=True) == ["B"]
    assert ended == []
    assert take(dispatcher, 1, isolated=True) == ["C"]
    assert ended == ["A"]
    assert not dispatcher.has_room(2, isolated=True)
    assert take(dispatcher, 2, isolated=True) == [None]


def test_an_isolated_call_does_not_wait_for_free_workers(starter: Starter) -> None:
    """It can't take one that has made a call."""
    dispatcher = Dispatcher(starter.start, 4, growth=lambda isolated: isolated)

    assert take(dispatcher, 0) == [None]
    assert take(dispatcher, 0, isolated=True) == ["A"]


def test_a_removed_worker_is_replaced(starter: Starter) -> None:
    """The lane of a worker that died goes on with a new one."""
    dispatcher = Dispatcher(starter.start, 1)
    take(dispatcher, 0)
    dispatcher.remove("A")

    assert take(dispatcher, 0) == ["B"]


def test_a_removed_worker_is_never_taken_again(starter: Starter) -> None:
    """Neither as an idle one nor through its lane."""
    dispatcher = Dispatcher(starter.start, 2)
    take(dispatcher, 0)
    dispatcher.release("A")
    dispatcher.remove("A")

    assert not dispatcher.has_worker(0)
    assert take(dispatcher, 0) == ["B"]


def test_when_no_more_can_start_the_others_do_the_work() -> None:
    """A system that lets us start two workers of eight runs the work on two."""
    starter = Starter(limit=2)
    dispatcher = Dispatcher(starter.start, 8)

    assert take(dispatcher, 0, 1, 2) == ["A", "B", None]
    assert not dispatcher.room_to_grow
    dispatcher.release("A")
    dispatcher.leave(0)
    assert take(dispatcher, 2) == ["A"]


def test_without_any_worker_the_error_is_returned() -> None:
    """With no worker to wait for, each call gets the error."""
    dispatcher = Dispatcher(Starter(limit=0).start, 8)

    assert [type(result) for result in take(dispatcher, 0, 1)] == [OSError, OSError]


def test_leaving_twice_or_never_having_come_is_harmless(starter: Starter) -> None:
    """A lane that was restored from its checkpoints never had a worker."""
    dispatcher = Dispatcher(starter.start, 1)

    dispatcher.leave(5)
    take(dispatcher, 0)
    dispatcher.leave(0)
    dispatcher.leave(0)
    dispatcher.release("A")

    assert take(dispatcher, 1) == ["A"]
