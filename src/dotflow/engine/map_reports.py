"""MapReports: what log and notifier receive about a mapped task: the task as a whole, and its first failed attempts."""

import math
from collections import Counter
from collections.abc import Callable
from typing import Final

from dotflow import clock
from dotflow.core.events import (
    AttemptFailed,
    AttemptRepeated,
    AttemptStarted,
    TaskCompleted,
    TaskEvent,
    TaskFailed,
)
from dotflow.core.task import Task

PROGRESS_INTERVAL: Final = 10.0  # seconds between two records of the progress of a map
MAX_FAILURES: Final = 20  # failed items of a map that the log receives, and as many attempts that are repeated

FAILURES: Final = frozenset({AttemptFailed, AttemptRepeated, TaskFailed})


class MapReports:
    """Reports the mapped tasks of one run, at a cost that does not depend on the number of items.

    A map begins with its first item that runs, so one that was restored has only an end. Progress is reported when an
    item ends, so no thread and no timer is needed.

    Args:
        begin: Reports a task to log and notifier.
        info: Writes a task into the log.
        error: Writes an item into the log.
        note: Writes a message into the log.
    """

    def __init__(
        self,
        begin: Callable[[Task], None],
        info: Callable[[Task], None],
        error: Callable[[Task], None],
        note: Callable[[str], None],
    ) -> None:
        self._begin = begin
        self._info = info
        self._error = error
        self._note = note
        self._waiting: set[int] = set()  # ids of opened tasks none of whose items has run
        self._running: dict[int, Task] = {}
        self._due = math.inf  # when progress is reported next, on the monotonic clock
        self._failures: Counter[tuple[int, bool]] = Counter()  # by task, and whether the item failed for good

    def open(self, task: Task) -> None:
        """Registers a mapped task whose items are known."""
        self._waiting.add(task.task_id)

    def follow(self, event: TaskEvent, task: Task, item: Task) -> None:
        """Handles an event of an item."""
        kind = event.__class__
        if kind is TaskCompleted:
            if event.tick >= self._due:  # type: ignore[union-attr]
                self._report_progress(event.tick)  # type: ignore[union-attr]
        elif kind is AttemptStarted:
            if task.task_id in self._waiting:
                self._start(task, event.tick)  # type: ignore[union-attr]
        elif kind in FAILURES:
            self._report_failure(task, item, is_final=kind is TaskFailed)
            if (now := clock.monotonic()) >= self._due:
                self._report_progress(now)

    def close(self, task: Task) -> None:
        """Removes a mapped task that has ended. Its end is reported like that of any task."""
        self._waiting.discard(task.task_id)
        if self._running.pop(task.task_id, None) is not None and not self._running:
            self._due = math.inf

    def _start(self, task: Task, now: float) -> None:
        self._waiting.remove(task.task_id)
        self._running[task.task_id] = task
        self._due = min(self._due, now + PROGRESS_INTERVAL)
        self._begin(task)

    def _report_progress(self, now: float) -> None:
        self._due = now + PROGRESS_INTERVAL
        for task in self._running.values():
            self._info(task)

    def _report_failure(self, task: Task, item: Task, *, is_final: bool) -> None:
        key = task.task_id, is_final
        self._failures[key] += 1
        if self._failures[key] <= MAX_FAILURES:
            self._error(item)
        elif self._failures[key] == MAX_FAILURES + 1:
            what = "failed items" if is_final else "failed attempts that are repeated"
            self._note(
                f"{task.workflow_id} task {task.task_id} {task.name}: more than {MAX_FAILURES} {what}; from here on "
                f"they are only counted."
            )
