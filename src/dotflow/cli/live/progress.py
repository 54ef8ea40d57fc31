"""Progress: the state of the tasks of a run, updated by its events."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, NamedTuple

from dotflow import clock
from dotflow.abc.history import Listener
from dotflow.cli.formatting import RESTORED, max_attempts, one_line
from dotflow.core import events
from dotflow.core.task import STATUS_AFTER, Task
from dotflow.core.text import waiting
from dotflow.core.types.status import TypeStatus

#: Of tasks that have ended, and of those that run.
DONE: Final = (TypeStatus.COMPLETED, TypeStatus.FAILED, TypeStatus.SKIPPED)
ACTIVE: Final = (TypeStatus.IN_PROGRESS, TypeStatus.RETRY)
SHORT: Final = 2.0  # seconds of a wait whose end is not shown
SHOWN_FOR: Final = 1.5  # seconds that a wait is shown after its end, when there may be the next one


@dataclass(slots=True)
class Items:
    """The items of a mapped task in numbers.

    Attributes:
        count: How many there are.
        counts: How often an item has changed to a status: of RETRY how many attempts were repeated.
        restored: How many of the completed ones were.
    """

    count: int
    counts: Counter[TypeStatus] = field(default_factory=Counter)
    restored: int = 0

    @property
    def done(self) -> int:
        """How many have ended."""
        return sum(self.counts[status] for status in DONE)

    def apply(self, event: events.Event) -> None:
        """Counts an event of an item."""
        if isinstance(event, events.AttemptRuns):
            return
        self.counts[STATUS_AFTER[type(event)]] += 1
        self.restored += isinstance(event, events.TaskRestored)


class Calls(NamedTuple):
    """The calls of the attempt of a durable step that runs.

    Attributes:
        made: How many have begun.
        given: How many were given back.
        number: The number of the last one that has begun.
        shown: That one as a line shows it: `search('weather')`.
        began: When it began, on the monotonic clock; None once it has ended.
        waits: What it waits for, if it asks again.
    """

    made: int = 0
    given: int = 0
    number: int = 0
    shown: str = ""
    began: float | None = None
    waits: str = ""


@dataclass(slots=True)
class TaskRow:
    """The state of one task. Times are on the monotonic clock.

    Attributes:
        name: The name of the step.
        group: The group of the task.
        attempts: The number of attempts that are allowed.
        status: The status.
        attempt: The number of the last attempt, from 1; 0 before.
        restored: "restored" or "cached" if its value was; "" for a task that runs.
        retry_at: The time of the next attempt; only while the status is RETRY.
        started: The time of the first attempt.
        ended: The time of its end.
        reason: Why it was skipped or paused, or what it waits for.
        items: Its items, once a mapped task has opened.
        calls: Its calls, if it is a durable step that has made any in this attempt.
        held: What an attempt of it waits for, and until when that is shown.
    """

    name: str
    group: str
    attempts: int
    status: TypeStatus = TypeStatus.NOT_STARTED
    attempt: int = 0
    restored: str = ""
    retry_at: float = 0.0
    started: float | None = None
    ended: float | None = None
    reason: str = ""
    items: Items | None = None
    calls: Calls | None = None
    held: tuple[str, float] | None = None

    @property
    def is_done(self) -> bool:
        """Whether it has completed or failed, or was skipped."""
        return self.status in DONE

    def seconds(self, now: float) -> float | None:
        """Returns its duration so far; None before the first attempt, and for a restored task."""
        if self.started is None:
            return None
        return (now if self.ended is None else self.ended) - self.started

    def apply(self, event: Any) -> None:
        """Updates it by an event of its task."""
        if event.item is not None:
            if self.items is not None:
                self.items.apply(event)
            return
        self.status = STATUS_AFTER[type(event)]
        match event:
            case events.AttemptStarted():
                self.attempt, self.calls = event.attempt, None
                self.started = event.tick if self.started is None else self.started
            case events.AttemptRuns():
                self.reason = ""
                self.started = event.tick if event.attempt == 1 else self.started
            case events.AttemptWaits():
                self.reason = one_line(waiting(event.asked, event.note))
            case events.AttemptFailed():
                self.retry_at, self.reason = clock.monotonic() + event.retry_in, ""
            case events.TaskCompleted() | events.TaskFailed():
                self.ended, self.reason = event.tick, ""
            case events.TaskRestored():
                self.restored = RESTORED[event.source]
            case events.TaskSkipped():
                self.reason = one_line(event.reason)
            case events.TaskPaused():
                self.ended, self.reason = event.tick, one_line(event.reason)
            case events.MapOpened() if self.items is not None:  # a map in rounds, in a further one
                self.items.count = event.items
            case events.MapOpened():
                self.items, self.started = Items(event.items), event.tick
            case events.MapEnded():
                self.ended = event.tick
                if self.items is not None and event.items is not None:
                    self.items.count = event.items
                self.status = TypeStatus.COMPLETED if event.failure is None else TypeStatus.FAILED

    def hold(self, event: events.AttemptHeld) -> None:
        """Shows that an attempt waits for a limit, until soon after it asks again: an answer makes no event."""
        seconds, many = event.due - event.tick, event.waiting if event.item is not None else 0
        again = f", next {event.at.astimezone() + timedelta(seconds=seconds):%H:%M:%S}" if seconds > SHORT else ""
        who = f"{many:,} wait" if many > 1 else "waits"
        self.held = one_line(f"{who} for {event.name} ({event.reason}){again}"), event.due + SHOWN_FOR

    def follow_call(self, event: events.CallEvent) -> None:
        """Updates its calls. The view reads them meanwhile, so they are replaced."""
        if event.item is not None:
            return
        calls = self.calls or Calls()
        match event:
            case events.CallsCounted():
                self.calls = calls._replace(given=event.given)
            case events.CallBegan():
                shown = one_line(f"{event.name}({event.arguments})")
                self.reason = ""  # what it has waited for
                self.calls = Calls(calls.made + 1, calls.given, event.number, shown, event.tick)
            case events.CallWaits() if event.number == calls.number:
                self.reason = ""
                self.calls = calls._replace(waits=one_line(waiting(event.asked, event.note)))
            case events.CallEnded() if event.number == calls.number:
                self.calls = calls._replace(began=None, waits="")


@dataclass(slots=True)
class Rows:
    """Rows with their counts, so that a frame need not look at each of 100,000.

    Attributes:
        rows: The rows, in order.
        done: How many have ended.
        failed: How many of these have failed.
        active: Those that run, in the order of their beginning.
    """

    rows: list[TaskRow] = field(default_factory=list)
    done: int = 0
    failed: int = 0
    active: dict[int, TaskRow] = field(default_factory=dict)
    _first_left: int = 0

    def update(self, task_id: int, row: TaskRow) -> None:
        """Counts the new status of one of the rows, which has just changed."""
        if row.status in ACTIVE:
            self.active[task_id] = row
        else:
            self.active.pop(task_id, None)
            self.done += row.is_done
            self.failed += row.status is TypeStatus.FAILED

    @property
    def first_left(self) -> int:
        """The index of the first row that has not ended; their number if all have."""
        while self._first_left < len(self.rows) and self.rows[self._first_left].is_done:
            self._first_left += 1
        return self._first_left


class Progress(Listener):
    """The state of all tasks of a run.

    Attributes:
        rows: A TaskRow for each task, in order.
        all: The same with their counts.
        groups: Name of a group -> its rows, in the order of their first tasks.

    Args:
        tasks: The tasks of the workflow.
    """

    def __init__(self, tasks: Iterable[Task]) -> None:
        self.rows = [TaskRow(one_line(task.name), one_line(task.group_name), max_attempts(task)) for task in tasks]
        self.all = Rows(self.rows)
        self.groups: dict[str, Rows] = {}
        for row in self.rows:
            self.groups.setdefault(row.group, Rows()).rows.append(row)
        self._started: float | None = None

    def record(self, run_id: str, event: events.Event) -> None:
        if isinstance(event, events.RunStarted):
            self._started = clock.monotonic()
        elif isinstance(event, events.CallEvent):
            self.rows[event.task_id].follow_call(event)
        elif isinstance(event, events.AttemptHeld):
            self.rows[event.task_id].hold(event)
        elif (task_id := getattr(event, "task_id", None)) is not None:
            self._update(task_id, event)

    def _update(self, task_id: int, event: events.Event) -> None:
        row = self.rows[task_id]
        status = row.status
        row.apply(event)
        if row.status is not status:
            self.all.update(task_id, row)
            self.groups[row.group].update(task_id, row)

    def seconds(self, now: float) -> float:
        """Returns the duration of the run so far."""
        return 0.0 if self._started is None else now - self._started
