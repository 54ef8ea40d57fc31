"""Dispatcher: which worker takes which call."""

import itertools
from collections.abc import Iterator

import pytest

from dotflow.processes.dispatcher import Dispatcher


class Agency:
    """Hires workers called A, B, C, ..., as many as there are."""

    def __init__(self, there_are: int = 26) -> None:
        self.names: Iterator[str] = itertools.islice((chr(65 + place) for place in range(26)), there_are)
        self.hired: list[str] = []

    def start(self) -> str:
        name = next(self.names, None)
        if name is None:
            raise OSError("there are no more")
        self.hired.append(name)
        return name


def given(dispatcher: Dispatcher[str], *lanes: int, apart: bool = False) -> list[str | OSError | None]:
    """The workers that calls of these lanes get, in order; None for a call that must wait."""
    return [dispatcher.take(lane, apart=apart) if dispatcher.make_room(lane, apart=apart) else None for lane in lanes]


@pytest.fixture
def agency() -> Agency:
    return Agency()


def test_nobody_is_hired_without_work(agency: Agency) -> None:
    """A worker starts when there is a call for it, not before."""
    dispatcher = Dispatcher(agency.start, 4)

    assert dispatcher.has_room(0)
    assert agency.hired == []


def test_a_worker_for_each_lane(agency: Agency) -> None:
    """Calls of different lanes begin at once, each with a worker of its own."""
    dispatcher = Dispatcher(agency.start, 4)

    assert given(dispatcher, 0, 1, 2) == ["A", "B", "C"]


def test_no_more_than_allowed(agency: Agency) -> None:
    """The others wait until a worker is done."""
    dispatcher = Dispatcher(agency.start, 2)

    assert given(dispatcher, 0, 1, 2, 3) == ["A", "B", None, None]
    assert not dispatcher.has_room(2)

    dispatcher.release("B")
    dispatcher.leave(1)
    assert given(dispatcher, 2, 3) == ["B", None]
    assert agency.hired == ["A", "B"]


def test_one_that_comes_by_itself(agency: Agency) -> None:
    """Where workers start elsewhere, they join when they are up; until then there is no room."""
    dispatcher = Dispatcher(agency.start, 4, should_grow=lambda apart: False)

    assert given(dispatcher, 0, 1) == [None, None]
    dispatcher.add("Z")
    assert dispatcher.has_idle
    assert given(dispatcher, 0, 1) == ["Z", None]
    assert agency.hired == []


def test_a_lane_comes_back_to_its_worker(agency: Agency) -> None:
    """The next call of a lane goes to the worker that has its value still, and none is hired for it."""
    dispatcher = Dispatcher(agency.start, 4)
    given(dispatcher, 0, 1)
    dispatcher.release("A")
    dispatcher.release("B")

    assert given(dispatcher, 1, 0) == ["B", "A"]
    assert agency.hired == ["A", "B"]


def test_an_idle_worker_spares_the_start_of_another(agency: Agency) -> None:
    """A worker whose lane is over takes on a new one."""
    dispatcher = Dispatcher(agency.start, 4)
    given(dispatcher, 0)
    dispatcher.release("A")
    dispatcher.leave(0)

    assert given(dispatcher, 1) == ["A"]
    assert agency.hired == ["A"]


def test_the_one_that_rested_least_comes_first(agency: Agency) -> None:
    """Its memory is warm; the others may as well never be needed again."""
    dispatcher = Dispatcher(agency.start, 4)
    given(dispatcher, 0, 1)
    for worker, lane in (("A", 0), ("B", 1)):
        dispatcher.release(worker)
        dispatcher.leave(lane)

    assert given(dispatcher, 2) == ["B"]


def test_a_home_is_kept_free_while_others_can_be_hired(agency: Agency) -> None:
    """A worker whose lane waits out a delay is left to it."""
    dispatcher = Dispatcher(agency.start, 2)
    given(dispatcher, 0)
    dispatcher.release("A")

    assert given(dispatcher, 1) == ["B"]


@pytest.mark.parametrize("should_grow", [True, False])
def test_a_home_is_lent_when_no_more_can_be_hired(agency: Agency, should_grow: bool) -> None:
    """A retry delay never keeps a worker from working."""
    allowed = [True]
    dispatcher = Dispatcher(agency.start, 1 if should_grow else 2, should_grow=lambda apart: allowed[0])
    given(dispatcher, 0)
    dispatcher.release("A")
    allowed[0] = should_grow

    assert dispatcher.has_room(1)
    assert given(dispatcher, 1) == ["A"]


def test_a_lane_whose_worker_was_lent_waits_for_any(agency: Agency) -> None:
    """Its call is like any other, and moves to another worker."""
    dispatcher = Dispatcher(agency.start, 2)
    given(dispatcher, 0, 1)
    dispatcher.release("A")
    given(dispatcher, 2)

    assert given(dispatcher, 0) == [None]
    dispatcher.release("B")
    assert given(dispatcher, 0) == ["B"]


def test_a_call_apart_gets_a_worker_that_is_new(agency: Agency) -> None:
    """An idle one that has made a call is ended for it, where there may be no more; others' homes are not touched."""
    ended: list[str] = []
    dispatcher = Dispatcher(
        agency.start, 2, dismiss_for_isolated=lambda worker: (ended.append(worker), dispatcher.remove(worker))
    )
    given(dispatcher, 0)
    dispatcher.release("A")

    assert given(dispatcher, 0, apart=True) == ["B"]
    assert ended == []
    assert given(dispatcher, 1, apart=True) == ["C"]
    assert ended == ["A"]
    assert not dispatcher.has_room(2, apart=True)
    assert given(dispatcher, 2, apart=True) == [None]


def test_for_a_call_apart_it_need_not_be_quiet(agency: Agency) -> None:
    """However fast others end: it can't take a worker that has become free."""
    dispatcher = Dispatcher(agency.start, 4, should_grow=lambda apart: apart)

    assert given(dispatcher, 0) == [None]
    assert given(dispatcher, 0, apart=True) == ["A"]


def test_a_dismissed_worker_is_replaced(agency: Agency) -> None:
    """The lane of a worker that died goes on with a new one."""
    dispatcher = Dispatcher(agency.start, 1)
    given(dispatcher, 0)
    dispatcher.remove("A")

    assert given(dispatcher, 0) == ["B"]


def test_a_dismissed_worker_is_never_found_again(agency: Agency) -> None:
    """Not while it was idle, and not through its lane."""
    dispatcher = Dispatcher(agency.start, 2)
    given(dispatcher, 0)
    dispatcher.release("A")
    dispatcher.remove("A")

    assert not dispatcher.has_free(0)
    assert given(dispatcher, 0) == ["B"]


def test_when_no_more_can_be_had_those_that_are_there_do_it() -> None:
    """A system that lets us start two workers of eight runs the work on two."""
    agency = Agency(there_are=2)
    dispatcher = Dispatcher(agency.start, 8)

    assert given(dispatcher, 0, 1, 2) == ["A", "B", None]
    assert not dispatcher.can_grow
    dispatcher.release("A")
    dispatcher.leave(0)
    assert given(dispatcher, 2) == ["A"]


def test_when_there_is_nobody_the_error_is_handed_out() -> None:
    """With no worker to wait for, each call gets the reason."""
    dispatcher = Dispatcher(Agency(there_are=0).start, 8)

    assert [type(found) for found in given(dispatcher, 0, 1)] == [OSError, OSError]


def test_leaving_twice_or_never_having_come_is_harmless(agency: Agency) -> None:
    """A lane that was restored from its checkpoints never had a worker."""
    dispatcher = Dispatcher(agency.start, 1)

    dispatcher.leave(5)
    given(dispatcher, 0)
    dispatcher.leave(0)
    dispatcher.leave(0)
    dispatcher.release("A")

    assert given(dispatcher, 1) == ["A"]
