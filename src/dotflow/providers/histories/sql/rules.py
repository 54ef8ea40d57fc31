"""The rules of the queue, as functions of its rows: what orders, ends and dead processes make of a run."""

import math
from collections.abc import Collection, Iterable, Sequence
from enum import Enum, auto
from typing import Any, Final, NamedTuple

from dotflow.abc.operations import LAST_MOMENT, MAX_TRIES, Ending, Order, TypeOrder
from dotflow.core.approval import ANSWERABLE, Question
from dotflow.core.attempt_id import ID_LENGTH
from dotflow.core.durations import format_duration
from dotflow.core.types.run_state import TypeRunState, TypeWait
from dotflow.providers.histories.sql.database import SILENCE

MICRO: Final = 1_000_000  # microseconds of a second

STATES: Final = {TypeOrder.CANCEL: TypeRunState.CANCELLED, TypeOrder.PAUSE: TypeRunState.PAUSED}
ORDERS: Final = frozenset(TypeOrder)

#: The states from which a run goes on, the completed one only to run tasks again; and what people call them.
ENDED: Final = {
    TypeRunState.COMPLETED: "completed",
    TypeRunState.FAILED: "failed",
    TypeRunState.CANCELLED: "was cancelled",
    TypeRunState.PAUSED: "was paused",
    TypeRunState.INTERRUPTED: "was interrupted",
    TypeRunState.CRASHED: "crashed",
}

#: Why a run was queued that continues another one.
TAKE_OVER, ANSWER, RESUME = "take-over", "answer", "resume"

#: What has cut a run off from its steps.
DIED, LOST = "its process ended", "its cluster was lost"

FORGED: Final = "its row in the queue is damaged, or was not written by dotflow. Submit it again"


class FoundRun(NamedTuple):
    """The newest run of a chain. Of a running one, `is_wanted` says whether the queue has it."""

    run: int
    run_id: str
    name: str
    state: TypeRunState
    origin: str | None
    superseded: str | None
    ended: int | None
    is_named: int
    workflow: str | None
    lock: int | None
    params: str | None
    is_wanted: int

    @property
    def can_go_on(self) -> bool:
        """Whether any process can continue it: it has its parameters and values, and an id that is not generated."""
        return bool(self.is_named and not self.superseded) and self.params is not None and self.workflow is not None


class Fate(NamedTuple):
    """How a run ends.

    Attributes:
        state: Its state.
        reason: Why it was stopped, for people.
        error: What failed.
        continued: Why a run is queued that continues it; "" for none.
        tries: Of that run, how many processes have ended in a row before it.
        waits: What it waits for.
    """

    state: TypeRunState
    reason: str = ""
    error: str = ""
    continued: str = ""
    tries: int = 0
    waits: TypeWait | None = None


class Effect(Enum):
    """What an order does to a run."""

    ENDS = auto()
    IS_TAKEN_OVER = auto()
    WAITS = auto()  # for the process that has the run
    NOTHING = auto()  # the same one waits already
    IS_REFUSED = auto()


# Orders


def known_orders(rows: Iterable[Sequence[Any]]) -> list[Order]:
    """Returns the orders of rows; those that no dotflow has written are none."""
    return [Order(TypeOrder(what), str(by), str(comment)) for what, by, comment in rows if what in ORDERS]


def counting(orders: Collection[Order]) -> Order | None:
    """Returns the open order that counts: a cancel before a pause."""
    return next((order for what in STATES for order in orders if order.what is what), None)


def reason_of(order: Order) -> str:
    """Returns why a run has ended, for people."""
    return f"{STATES[order.what].lower()} by {order.by}{order.comment and f': {order.comment}'}"


def effect_of(order: Order, found: FoundRun, waiting: Collection[Order], *, is_dead: bool) -> Effect:
    """Returns what an order does, given those that a running run has not heeded yet."""
    if found.state is TypeRunState.RUNNING:
        if is_dead:
            return Effect.IS_TAKEN_OVER
        return Effect.NOTHING if any(other.what is order.what for other in waiting) else Effect.WAITS
    if found.state is TypeRunState.QUEUED or (found.state is TypeRunState.PAUSED and order.what is TypeOrder.CANCEL):
        return Effect.ENDS
    return Effect.IS_REFUSED


# Ends


def fate_at_end(ending: Ending, orders: Collection[Order], *, is_settled: bool) -> Fate:
    """Returns how a claimed run ends: a completion counts more than an order, and a cancel more than a pause.

    Args:
        ending: Its end, as its process has it.
        orders: Those that it has not heeded.
        is_settled: Whether one of the questions that it has asked has its answer.
    """
    state, reason, error, goes_on, _, waits, _ = ending
    of_kind = {order.what: order for order in orders}
    if state is not TypeRunState.COMPLETED and TypeOrder.CANCEL in of_kind:
        return Fate(TypeRunState.CANCELLED, reason_of(of_kind[TypeOrder.CANCEL]), error)
    if (goes_on or state is TypeRunState.PAUSED) and TypeOrder.PAUSE in of_kind:
        return Fate(TypeRunState.PAUSED, reason_of(of_kind[TypeOrder.PAUSE]), error)
    continued = TAKE_OVER if goes_on else ANSWER if state is TypeRunState.PAUSED and is_settled else ""
    return Fate(state, reason, error, continued, waits=waits)


def fate_of_dead(
    ordered: Order | None, error: str, tries: int, *, has_saved: bool, is_newest: bool, what: str = DIED
) -> Fate:
    """Returns how a claimed run ends whose process has ended, or that has lost what its steps ran on.

    Args:
        ordered: The order that counts.
        error: What it was doing.
        tries: How many runs in a row have ended so before anything was saved.
        has_saved: Whether it has saved something.
        is_newest: Whether no program has resumed it.
        what: What has happened to it.
    """
    tries = tries if has_saved else tries + 1
    if ordered is not None:
        return Fate(STATES[ordered.what], reason_of(ordered), error)
    if tries >= MAX_TRIES:
        error = f"{what} {tries} times before anything was saved; the last time: {error}"
        return Fate(TypeRunState.FAILED, "", error)
    return Fate(TypeRunState.CRASHED, "", error, TAKE_OVER if is_newest else "", tries)


def tries_of(tries: int, before: int, restored: int, of_all: int, restored_before: int) -> int:
    """Returns how many processes have ended in a row before a run without saving anything.

    What the one before has finished counts only if this one has restored it: its storage may have ended with it.

    Args:
        tries: The number of the run, as its row has it.
        before: That of the run that it continues.
        restored: How many tasks and items it has restored.
        of_all: How many rows it has.
        restored_before: What the one before has restored.
    """
    return max(tries, before + 1) if of_all and restored <= restored_before else tries


# Claims


def is_place(priority: object, due: object) -> bool:
    """Returns whether a row has a place in the queue: any process that can write the file may have written it."""
    return type(priority) is int and type(due) is int and abs(due) < LAST_MOMENT * MICRO - 1


def place_after(due: int, latest: object, again: int, again_latest: int | None) -> tuple[int, int | None]:
    """Returns when a queued run is due that is submitted again, and the moment until which submissions put it off.

    Args:
        due: When it is due.
        latest: The moment until which it was put off; None where it is not debounced.
        again: When the new submission is due.
        again_latest: The moment at which that has to begin at the latest; None where it is not debounced.
    """
    known = latest if type(latest) is int else None
    if again_latest is None:
        return min(due, again), None if known is None else min(known, again)
    until = min(due if known is None else known, again_latest)
    return min(again, until), until


class Candidate(NamedTuple):
    """A queued run that is due, and that no other run of its name is in the way of."""

    run: int
    workflow: str
    name: str
    priority: int
    due: int
    schedule: str | None
    planned: int | None
    resume: int

    @property
    def turn(self) -> tuple[float, int, int]:
        """Its place in the queue, the first one the least. One without a place is the first: it fails."""
        if not is_place(self.priority, self.due):
            return -math.inf, 0, self.run
        return -self.priority, self.due, self.run


class Firings(NamedTuple):
    """What a schedule has queued and running.

    Attributes:
        first: The moment of the first firing that is queued; None where there is none.
        going_on: How many runs are queued that continue one of its runs.
        at_once: How many of its runs may be Running.
        active: How many are.
    """

    first: int | None
    going_on: int
    at_once: int
    active: int

    def may_begin(self, candidate: Candidate) -> bool:
        """Returns whether a run of it may begin: one by one, as they were planned; or with "parallel" several."""
        if self.active >= max(self.at_once, 1):
            return False
        is_next = not self.going_on and candidate.planned in (None, self.first)
        return bool(candidate.resume) or self.at_once > 1 or is_next

    def with_one_more(self) -> "Firings":
        """Returns what it has once one more of its runs has begun. Where that is the only one, no other one may."""
        return self._replace(active=self.active + 1)


def why_left(pause: object | None, other: str | None, active: int, most: int | None, *, is_by_hand: bool) -> str:
    """Returns why a run that is due can't begin.

    Args:
        pause: The pause of its workflow.
        other: The run of its name that is active.
        active, most: How many runs of its workflow are active, and may be.
        is_by_hand: Whether no server has taken the other one.
    """
    if pause is not None:
        return f"its workflow is {pause}"
    if other is not None:
        return f"the run {other[:ID_LENGTH]} of the same name runs {'by hand' if is_by_hand else 'in another process'}"
    if most is not None and active >= most:
        return f"{active} of at most {most} runs of its workflow are active"
    return "other runs of its name or its schedule come first"


def due_after(trigger: str, was_due: int | None, now: int) -> int:
    """Returns when a run is due that continues another one.

    One whose server has ended keeps its place: it was taken before what is queued, and so stands before it.
    """
    return now if trigger != TAKE_OVER or was_due is None else min(max(was_due, 1) - 1, now)


# Refusals


def since(found: FoundRun, now: int) -> str:
    """Returns the state of a run that refuses an order."""
    if found.ended is None:
        return f"it is {found.state.lower()}"
    return f"it {ENDED.get(found.state, 'ended')} {format_duration((now - found.ended) / MICRO)} ago"


def why_unlike(found: FoundRun, run: str, seen: TypeRunState, now: int) -> str:
    """Returns why the newest run is not what the caller of an order saw; "" if it is."""
    if found.run_id != run:
        return f"the run {found.run_id[:ID_LENGTH]} goes on with it, and is {found.state.lower()}"
    return "" if found.state is seen else f"you saw it {seen.lower()}, and by now {since(found, now)}"


def why_still(silence: float | None, *, was_dead: bool) -> str:
    """Returns why a running run can't be resumed; "" where its process just runs.

    Args:
        silence: For how many seconds that gave no sign of life, where that is unusual.
        was_dead: Whether it seemed to be dead before it was watched.
    """
    if silence is not None:
        wait = (
            f"Wait {max(SILENCE - silence, 1):.0f} s: without one it is crashed then, if no server continues it before"
        )
        return f"it is running, but its process gave no sign of life for {silence:.0f} s. {wait}"
    return "it is running: its process has just given a sign of life" if was_dead else ""


def why_not_resumed(found: FoundRun, rerun: Collection[str], ordered: Order | None, now: int) -> str:
    """Returns why no run can continue another one; "" if one can."""
    if not found.is_named:
        return "its workflow has a generated id, so no other process has its values. Give it a workflow_id"
    if found.superseded:
        return f"the run {found.superseded[:ID_LENGTH]} has replaced its values. Resume that one"
    if not found.can_go_on:
        return "the history does not have its parameters. Use `dotflow start --resume`"
    if found.state in ENDED and (found.state is not TypeRunState.COMPLETED or rerun):
        return ""
    if found.state is TypeRunState.COMPLETED:
        return f"{since(found, now)}. Name the steps that run again"
    if ordered is not None:
        order = f"{ordered.by} has just asked it to {ordered.what}"
        return f"{since(found, now)}, and {order}. Resume it when it has ended"
    return since(found, now)


def why_unanswered(newest: FoundRun, question: Question, nth: int | None, now: int) -> str:
    """Returns why a question takes no answer from who saw it asked the *nth* time; "" if it does."""
    if nth is not None and question.id.nth != nth:
        return f"'{question.step}' asks anew by now: '{question.text}'"
    if newest.superseded:
        return f"the run {newest.superseded[:ID_LENGTH]} has replaced its values"
    return "" if newest.state in ANSWERABLE else since(newest, now)
