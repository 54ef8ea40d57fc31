"""The rules of the queue: what orders, ends and dead processes make of a run, without a database."""

from collections.abc import Sequence
from typing import Any

import pytest

from dotflow.abc.operations import MAX_TRIES, Ending, Order, TypeOrder
from dotflow.core.types.run_state import TypeRunState
from dotflow.providers.histories.sql import rules
from dotflow.providers.histories.sql.rules import ANSWER, TAKE_OVER, Candidate, Effect, Fate, Firings, FoundRun

CANCEL = Order(TypeOrder.CANCEL, "anna", "too late")
PAUSE = Order(TypeOrder.PAUSE, "ben")
RUN = FoundRun(1, "4f0c", "report", TypeRunState.RUNNING, "4f0c", None, None, 1, "report", 7, "{}", 1)


@pytest.mark.parametrize(
    ("state", "goes_on", "orders", "is_settled", "fate"),
    [
        ("Completed", False, [CANCEL], False, Fate(TypeRunState.COMPLETED)),
        ("Completed", False, [PAUSE], False, Fate(TypeRunState.COMPLETED)),
        ("Failed", False, [PAUSE, CANCEL], False, Fate(TypeRunState.CANCELLED, "cancelled by anna: too late")),
        ("Failed", False, [PAUSE], False, Fate(TypeRunState.FAILED)),
        ("Interrupted", True, [PAUSE], False, Fate(TypeRunState.PAUSED, "paused by ben")),
        ("Interrupted", True, [], False, Fate(TypeRunState.INTERRUPTED, continued=TAKE_OVER)),
        ("Paused", False, [], False, Fate(TypeRunState.PAUSED)),
        ("Paused", False, [], True, Fate(TypeRunState.PAUSED, continued=ANSWER)),
        ("Paused", False, [PAUSE], True, Fate(TypeRunState.PAUSED, "paused by ben")),
        ("Failed", False, [], True, Fate(TypeRunState.FAILED)),
    ],
)
def test_at_its_end_a_completion_wins_then_a_cancel_then_a_pause(
    state: str, goes_on: bool, orders: Sequence[Order], is_settled: bool, fate: Fate
) -> None:
    """Only what goes on, or waits for an answer that has come, is continued, and no order is lost."""
    ending = Ending(TypeRunState(state), goes_on=goes_on)
    assert rules.fate_at_end(ending, orders, is_settled=is_settled) == fate


@pytest.mark.parametrize(
    ("ordered", "tries", "has_saved", "is_newest", "fate"),
    [
        (None, 0, False, True, Fate(TypeRunState.CRASHED, "", "why", TAKE_OVER, 1)),
        (None, 1, True, True, Fate(TypeRunState.CRASHED, "", "why", TAKE_OVER, 1)),
        (None, 0, False, False, Fate(TypeRunState.CRASHED, "", "why", "", 1)),
        (CANCEL, MAX_TRIES, False, True, Fate(TypeRunState.CANCELLED, "cancelled by anna: too late", "why")),
        (PAUSE, 0, True, True, Fate(TypeRunState.PAUSED, "paused by ben", "why")),
    ],
)
def test_a_run_whose_process_is_dead_obeys_its_order_or_goes_on(
    ordered: Order | None, tries: int, has_saved: bool, is_newest: bool, fate: Fate
) -> None:
    """An order that it had not heeded is carried out, and that is all; one that a program has resumed is left."""
    assert rules.fate_of_dead(ordered, "why", tries, has_saved=has_saved, is_newest=is_newest) == fate


def test_a_run_is_given_up_when_its_last_processes_have_saved_nothing() -> None:
    """The error counts them, and says what the last one was doing."""
    fate = rules.fate_of_dead(None, "why", MAX_TRIES - 1, has_saved=False, is_newest=True)
    assert (fate.state, fate.continued) == (TypeRunState.FAILED, "")
    assert fate.error == f"its process ended {MAX_TRIES} times before anything was saved; the last time: why"
    fate = rules.fate_of_dead(None, "why", MAX_TRIES - 1, has_saved=False, is_newest=True, what=rules.LOST)
    assert fate.error == f"its cluster was lost {MAX_TRIES} times before anything was saved; the last time: why"


@pytest.mark.parametrize(
    ("of_all", "restored", "restored_before", "tries"),
    [(0, 0, 0, 1), (3, 0, 0, 3), (3, 1, 2, 3), (3, 2, 1, 1)],
)
def test_what_the_run_before_has_finished_counts_if_it_was_restored(
    of_all: int, restored: int, restored_before: int, tries: int
) -> None:
    """A storage that ended with its process has saved nothing."""
    assert rules.tries_of(1, 2, restored, of_all, restored_before) == tries


@pytest.mark.parametrize(
    ("order", "state", "waiting", "is_dead", "effect"),
    [
        (CANCEL, "Queued", [], False, Effect.ENDS),
        (PAUSE, "Queued", [], False, Effect.ENDS),
        (CANCEL, "Paused", [], False, Effect.ENDS),
        (PAUSE, "Paused", [], False, Effect.IS_REFUSED),
        (CANCEL, "Running", [], False, Effect.WAITS),
        (CANCEL, "Running", [PAUSE], False, Effect.WAITS),
        (CANCEL, "Running", [CANCEL], False, Effect.NOTHING),
        (CANCEL, "Running", [CANCEL], True, Effect.IS_TAKEN_OVER),
        (CANCEL, "Completed", [], False, Effect.IS_REFUSED),
    ],
)
def test_an_order_ends_a_waiting_run_and_waits_for_a_running_one(
    order: Order, state: str, waiting: Sequence[Order], is_dead: bool, effect: Effect
) -> None:
    """One whose process is dead is taken over, and one that has ended refuses it."""
    found = RUN._replace(state=TypeRunState(state))
    assert rules.effect_of(order, found, waiting, is_dead=is_dead) is effect


@pytest.mark.parametrize(
    ("changes", "rerun", "reason"),
    [
        ({}, (), "it is running"),
        ({"state": "Failed"}, (), ""),
        ({"state": "Completed", "ended": 0}, (), "it completed 3.00 s ago. Name the steps that run again"),
        ({"state": "Completed", "ended": 0}, ("load",), ""),
        ({"state": "Failed", "is_named": 0}, (), "its workflow has a generated id"),
        ({"state": "Failed", "superseded": "a81c"}, (), "the run a81c has replaced its values"),
        ({"state": "Failed", "params": None}, (), "the history does not have its parameters"),
    ],
)
def test_a_resume_needs_an_ended_run_with_its_values_and_parameters(
    changes: dict[str, Any], rerun: Sequence[str], reason: str
) -> None:
    """A refusal says which of them is missing."""
    found = RUN._replace(**{**changes, "state": TypeRunState(changes.get("state", "Running"))})
    why = rules.why_not_resumed(found, rerun, None, 3_000_000)
    assert why.startswith(reason)
    assert bool(why) == bool(reason)


def test_the_first_one_has_the_highest_priority_then_the_earliest_moment() -> None:
    """One whose row no dotflow has written comes before all others, since it fails."""
    rows = [candidate(1, 0, 5), candidate(2, 9, 7), candidate(3, 9, 6)]
    assert min(rows, key=lambda one: one.turn).run == 3
    forged: Any = "noon"
    assert min([*rows, candidate(4, 9, forged)], key=lambda one: one.turn).run == 4


@pytest.mark.parametrize(
    ("firings", "goes_on", "planned", "may_begin"),
    [
        (Firings(5, 0, 1, 0), False, 5, True),
        (Firings(5, 0, 1, 0), False, 6, False),  # an older one is queued
        (Firings(5, 1, 1, 0), False, 5, False),  # one that continues a run comes first
        (Firings(5, 1, 1, 0), True, None, True),
        (Firings(5, 0, 1, 1), False, 5, False),  # one is Running
        (Firings(5, 0, 3, 2), False, 6, True),  # three may run at once
        (Firings(5, 0, 3, 3), True, None, False),
        (Firings(None, 1, 0, 0), True, None, True),  # no dotflow has written 0
    ],
)
def test_of_a_schedule_runs_begin_one_by_one_as_they_were_planned(
    firings: Firings, goes_on: bool, planned: int | None, may_begin: bool
) -> None:
    """With overlap="parallel", as many at once as it may have."""
    found = candidate(1, 0, 5)._replace(schedule="nightly", planned=planned, resume=int(goes_on))
    assert firings.may_begin(found) is may_begin
    assert firings.with_one_more().active == firings.active + 1


def candidate(run: int, priority: int, due: int) -> Candidate:
    """A queued run that no schedule has fired."""
    return Candidate(run, "report", f"report@{run}", priority, due, None, None, 0)
