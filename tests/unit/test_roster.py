"""Roster: which worker takes which call."""

import itertools
from collections.abc import Iterator

import pytest

from dotflow import Context, action
from dotflow.core.call import Call
from dotflow.providers.roster import Roster


@action
def step() -> None: ...


def call(task_id: int, lane: int) -> Call:
    return Call(task_id, lane, step, Context(), Context(), "w")


class Agency:
    """Hires workers called A, B, C, ..., as many as there are."""

    def __init__(self, there_are: int = 26) -> None:
        self.names: Iterator[str] = itertools.islice((chr(65 + place) for place in range(26)), there_are)
        self.hired: list[str] = []

    def hire(self) -> str:
        name = next(self.names, None)
        if name is None:
            raise OSError("there are no more")
        self.hired.append(name)
        return name


def given(roster: Roster[str], *calls: Call) -> list[tuple[int, str | OSError]]:
    """Who gets which task, when these calls come and all that can begin does."""
    found: list[tuple[int, str | OSError]] = []
    for each in calls:
        at_once = roster.add(each)
        if at_once is not None:
            found.append((each.task_id, at_once))
    while (pair := roster.next()) is not None:
        found.append((pair[0].task_id, pair[1]))
    return found


@pytest.fixture
def agency() -> Agency:
    return Agency()


def test_nobody_is_hired_without_work(agency: Agency) -> None:
    """A worker starts when there is a call for it, not before."""
    roster = Roster(agency.hire, 4)

    assert roster.next() is None
    assert agency.hired == []


def test_a_worker_for_each_lane(agency: Agency) -> None:
    """Calls of different lanes begin at once, each with a worker of its own."""
    roster = Roster(agency.hire, 4)

    assert given(roster, call(0, 0), call(1, 1), call(2, 2)) == [(0, "A"), (1, "B"), (2, "C")]


def test_no_more_than_allowed(agency: Agency) -> None:
    """The rest waits, in order, until a worker is done."""
    roster = Roster(agency.hire, 2)

    assert given(roster, *(call(place, place) for place in range(4))) == [(0, "A"), (1, "B")]

    roster.rest("B")
    roster.leave(1)
    assert given(roster) == [(2, "B")]
    assert agency.hired == ["A", "B"]


def test_one_that_comes_by_itself(agency: Agency) -> None:
    """Where workers start elsewhere, they join when they are up; calls wait for them, and are counted."""
    roster = Roster(agency.hire, 4, may_hire=lambda: False)

    assert given(roster, call(0, 0), call(1, 1)) == []
    assert roster.waiting == 2
    roster.join("Z")
    assert given(roster) == [(0, "Z")]
    assert roster.waiting == 1
    assert agency.hired == []


def test_a_lane_comes_back_to_its_worker(agency: Agency) -> None:
    """The next call of a lane goes to the worker that has its value still, at once."""
    roster = Roster(agency.hire, 4)
    given(roster, call(0, 0), call(1, 1))
    roster.rest("A")
    roster.rest("B")

    assert roster.add(call(2, 1)) == "B"
    assert roster.add(call(3, 0)) == "A"


def test_an_idle_worker_spares_the_start_of_another(agency: Agency) -> None:
    """A worker whose lane is over takes on a new one."""
    roster = Roster(agency.hire, 4)
    given(roster, call(0, 0))
    roster.rest("A")
    roster.leave(0)

    assert given(roster, call(1, 1)) == [(1, "A")]
    assert agency.hired == ["A"]


def test_the_one_that_rested_least_comes_first(agency: Agency) -> None:
    """Its memory is warm; the others may as well never be needed again."""
    roster = Roster(agency.hire, 4)
    given(roster, call(0, 0), call(1, 1))
    for worker, lane in (("A", 0), ("B", 1)):
        roster.rest(worker)
        roster.leave(lane)

    assert given(roster, call(2, 2)) == [(2, "B")]


def test_a_home_is_kept_free_while_others_can_be_hired(agency: Agency) -> None:
    """A worker whose lane waits out a delay is left to it."""
    roster = Roster(agency.hire, 2)
    given(roster, call(0, 0))
    roster.rest("A")

    assert given(roster, call(1, 1)) == [(1, "B")]


def test_a_home_is_lent_when_no_more_can_be_hired(agency: Agency) -> None:
    """A retry delay never keeps a worker from working."""
    roster = Roster(agency.hire, 1)
    given(roster, call(0, 0))
    roster.rest("A")

    assert given(roster, call(1, 1)) == [(1, "A")]


def test_a_lane_whose_worker_was_lent_waits_for_whoever_is_free(agency: Agency) -> None:
    """Its call is queued like any other and moves to another worker."""
    roster = Roster(agency.hire, 2)
    given(roster, call(0, 0), call(1, 1))
    roster.rest("A")
    given(roster, call(2, 2))

    assert given(roster, call(3, 0)) == []
    roster.rest("B")
    assert given(roster) == [(3, "B")]


def test_a_dismissed_worker_is_replaced(agency: Agency) -> None:
    """The lane of a worker that died goes on with a new one."""
    roster = Roster(agency.hire, 1)
    given(roster, call(0, 0))
    roster.dismiss("A")

    assert given(roster, call(1, 0)) == [(1, "B")]


def test_a_dismissed_worker_is_never_found_again(agency: Agency) -> None:
    """Not while it was idle, and not through its lane."""
    roster = Roster(agency.hire, 2)
    given(roster, call(0, 0))
    roster.rest("A")
    roster.dismiss("A")

    assert roster.add(call(1, 0)) is None
    assert given(roster) == [(1, "B")]


def test_when_no_more_can_be_had_those_that_are_there_do_it() -> None:
    """A system that lets us start two workers of eight runs the work on two."""
    agency = Agency(there_are=2)
    roster = Roster(agency.hire, 8)

    assert given(roster, *(call(place, place) for place in range(3))) == [(0, "A"), (1, "B")]
    roster.rest("A")
    roster.leave(0)
    assert given(roster) == [(2, "A")]


def test_when_there_is_nobody_the_error_is_handed_out() -> None:
    """With no worker to wait for, each waiting call learns why."""
    roster = Roster(Agency(there_are=0).hire, 8)

    found = given(roster, call(0, 0), call(1, 1))

    assert [task_id for task_id, _ in found] == [0, 1]
    assert all(isinstance(error, OSError) for _, error in found)


def test_leaving_twice_or_never_having_come_is_harmless(agency: Agency) -> None:
    """A lane that was restored from its checkpoints never had a worker."""
    roster = Roster(agency.hire, 1)

    roster.leave(5)
    given(roster, call(0, 0))
    roster.leave(0)
    roster.leave(0)
    roster.rest("A")

    assert given(roster, call(1, 1)) == [(1, "A")]
