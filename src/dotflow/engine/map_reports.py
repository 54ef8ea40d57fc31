"""MapReports: what log and notifier receive about a mapped task: the task as a whole, and its first failed attempts."""

import math
from collections import Counter
from collections.abc import Callable
from typing import Final

from dotflow import clock
from dotflow.core.events import AttemptFailed, AttemptRepeated, AttemptStarted, TaskEvent, TaskFailed
from dotflow.core.task import Task
from dotflow.core.text import GENERATED

PROGRESS_INTERVAL: Final = 10.0  # seconds between two records of the progress of a map
MAX_FAILURES: Final = 20  # failed items of a map that the log receives, and as many attempts that are repeated

FAILURES: Final = frozenset({AttemptFailed, AttemptRepeated, TaskFailed})


class MapReports:
    """Reports the mapped tasks of one run, at a cost that does not depend on the number of items.

    A map begins with its first item that runs, so one that was restored has only an end. Progress is reported when an
    item begins or ends, so no thread and no timer is needed.

    Attributes:
        due: From this moment on, on the monotonic clock, `follow` has something to do at events that are no failures.

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
        self._progress_at = math.inf  # when progress is reported next, on the monotonic clock
        self.due = math.inf
        self._failures: Counter[tuple[int, bool]] = Counter()  # by task, and whether the item failed for good

    def open(self, task: Task) -> None:
        """Registers a mapped task whose items are known."""
        self._waiting.add(task.task_id)
        self._set_due()

    def follow(self, event: TaskEvent, task: Task, item: Task) -> None:
        """Handles an event of an item: any failure, and the beginning or end of an attempt from `due` on."""
        kind = event.__class__
        if kind in FAILURES:
            self._report_failure(task, item, is_final=kind is TaskFailed)
        elif kind is AttemptStarted and task.task_id in self._waiting:
            self._start(task)
        if self._progress_at < math.inf and (now := clock.monotonic()) >= self._progress_at:
            self._progress_at = now + PROGRESS_INTERVAL
            for running in self._running.values():
                self._info(running)
        self._set_due()

    def close(self, task: Task) -> None:
        """Removes a mapped task that has ended. Its end is reported like that of any task."""
        self._waiting.discard(task.task_id)
        if self._running.pop(task.task_id, None) is not None and not self._running:
            self._progress_at = math.inf
        self._set_due()

    def _start(self, task: Task) -> None:
        self._waiting.remove(task.task_id)
        self._running[task.task_id] = task
        self._progress_at = min(self._progress_at, clock.monotonic() + PROGRESS_INTERVAL)
        self._begin(task)

    def _set_due(self) -> None:
        self.due = -math.inf if self._waiting else self._progress_at

    def _report_failure(self, task: Task, item: Task, *, is_final: bool) -> None:
        key = task.task_id, is_final
        self._failures[key] += 1
        if self._failures[key] <= MAX_FAILURES:
            self._error(item)
        elif self._failures[key] == MAX_FAILURES + 1:
            what = "failed items" if is_final else "failed attempts that are repeated"
            workflow = "" if GENERATED.fullmatch(task.workflow_id) else f"{task.workflow_id} "
            self._note(
                f"{workflow}task {task.task_id} {task.name}: more than {MAX_FAILURES} {what}; from here on "
                f"they are only counted."
            )
