"""RunLog: what the log and the notifier of a run receive: its tasks, of a map the first failures, and other lines."""

import inspect
import math
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

from dotflow import clock
from dotflow.abc.log import Log
from dotflow.core.context import Context
from dotflow.core.events import (
    AttemptFailed,
    AttemptRepeated,
    AttemptStarted,
    AttemptWaits,
    MapEnded,
    MapOpened,
    RunEnded,
    RunEvent,
    RunStarted,
    TaskFailed,
    TaskPaused,
)
from dotflow.core.failure import Failure
from dotflow.core.masks import NO_MASKS, Masks
from dotflow.core.task import Task
from dotflow.core.text import counted_calls, known_id
from dotflow.core.types.status import TypeStatus
from dotflow.worker.deadline import DeadlinePassed
from dotflow.worker.deadline_thread import Stopped

PROGRESS_INTERVAL: Final = 10.0  # seconds between two records of the progress of a map
WAIT_INTERVAL: Final = 600.0  # seconds between two records of what a task waits for
MAX_FAILURES: Final = 20  # failed items of a map that the log receives, and as many attempts that are repeated
FAILURES: Final = (AttemptFailed, AttemptRepeated, TaskFailed)
FAILED: Final = (TypeStatus.FAILED, TypeStatus.RETRY)
BY_POSITION: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)

TaskMethod = Callable[[Task], Any]
LogLine = Callable[[str, BaseException | None], None]


def reraise_interrupt(error: BaseException) -> None:
    """Raises *error* where it is no error of a listener: Ctrl-C, or the end of a step that runs this run."""
    if isinstance(error, KeyboardInterrupt | DeadlinePassed | Stopped):
        raise error


def log_line_of(log: Log, masks: Masks = NO_MASKS) -> LogLine:
    """Returns a function that writes masked lines into *log*, or into Python's own logging where the log raises.

    With an error it adds the traceback.
    """

    def log_line(message: str, error: BaseException | None = None) -> None:
        if error is not None:
            message = f"{message}, which changes nothing in the run:\n{Failure.of(error).traceback}"
        message = masks.mask(message)
        try:
            log.report(message)
        except (Exception, SystemExit) as broken:  # the user's code, and the last chance to report it
            own = f"The log's own report raised {type(broken).__name__}: {broken}"
            Log.report(log, f"{message}\n{masks.mask(own)}")

    return log_line


def as_task_method(method: Callable[..., Any]) -> TaskMethod:
    """Returns a function of a task: *method*, or `method(task=task)` where it takes the task by name only.

    Called once for each run, since reading a signature takes longer than writing a line.
    """
    code = getattr(getattr(method, "__func__", None), "__code__", None)
    if code is not None and code.co_argcount > 1:  # self and one more: most methods
        return method
    try:
        parameters = inspect.signature(method).parameters.values()
    except (TypeError, ValueError):  # written in C: the call itself may fail
        return method
    if any(parameter.kind in BY_POSITION for parameter in parameters):
        return method
    if not any(parameter.name == "task" or parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return method  # the call itself fails
    return lambda task: method(task=task)


class RunLog:
    """Passes the tasks of one run to its log and its notifier.

    Of a mapped task they receive the task as a whole, and the log its first failures, at a cost that does not depend on
    the number of items. A map begins with its first item that runs, so one that was restored has only an end. Progress
    is logged when an item begins or ends, so no thread and no timer is needed.

    Args:
        tasks: The run's records, by id.
        log: The log; None for none.
        notify: Sends a notification of a task; None for none.
        log_line: Writes a line about an error of the log.
        masks: The secrets, which no note shows.

    Attributes:
        gathers: Whether attempts begin after the next `flush`, and not as soon as they are recorded.
    """

    def __init__(
        self,
        tasks: Mapping[int, Task],
        log: Log | None,
        notify: TaskMethod | None,
        log_line: LogLine,
        masks: Masks = NO_MASKS,
    ) -> None:
        self._tasks = tasks
        self._log = log
        self._info = None if log is None else as_task_method(log.info)
        self._error = None if log is None else as_task_method(log.error)
        self._notify = notify
        self._log_line = log_line
        self._masks = masks
        self._waiting: set[int] = set()  # ids of opened maps none of whose items has run
        self._running: dict[int, Task] = {}  # maps
        self._progress_at = math.inf  # when progress is logged next, on the monotonic clock
        self._due = math.inf  # from then on, an item that begins or completes has to be looked at
        self._failures: Counter[tuple[int, bool]] = Counter()  # by map, and whether the item failed for good
        self._waits: dict[int, float] = {}  # by task, when what it waits for was logged, on the monotonic clock
        self._calls: dict[int, tuple[int, int, int]] = {}  # by map, those of its items: made, given back, and cached
        self._run_id = ""
        self._thread = threading.get_ident()
        self._may_keep = self._has_kept = False
        self.gathers = False

    def keep(self) -> bool:
        """Lets the log keep records until `flush`. Returns whether it does: others write each record at once.

        A log keeps records only if its own class defines `flush_run`. A subclass that inherits it may do more in `info`
        than keep a record, and expects a written one.

        The caller flushes before anything that may take long but an attempt, before which `record` does.
        """
        log = self._log
        if log is not None and self._notify is None and "flush_run" in vars(type(log)):
            self._may_keep = self._has_kept = True
            self.flush()
        return self._may_keep

    def flush(self) -> None:
        """Has the log write the records that it keeps."""
        if self._has_kept:
            self._has_kept = False
            assert self._log is not None
            try:
                self._log.flush_run(self._run_id)
            except BaseException as error:  # the user's code: logged, and the run continues
                reraise_interrupt(error)
                self._log_line("The log raised at flush_run", error)

    def flushed_before(self, save: Callable[[Task, Context], None]) -> Callable[[Task, Context], None]:
        """Returns *save*, which may take long, after a `flush`."""

        def flush_and_save(task: Task, context: Context) -> None:
            self.flush()
            save(task, context)

        return flush_and_save

    def report(self, message: str, error: BaseException | None = None) -> None:
        """Writes a line into the log, from any thread; from that of the run, after the records that the log keeps."""
        if threading.get_ident() == self._thread:
            self.flush()
        self._log_line(message, error)

    def record(self, run_id: str, event: Any) -> None:  # Any: on the hot path, comparing classes is fastest
        """Passes an event but those of `follow_attempt` to log and notifier, after the task's record was updated."""
        kind = event.__class__
        if kind is RunStarted or kind is RunEnded:
            self._run_id = run_id
            if self._log is not None:
                self._call(self._log.follow_run, event)
        elif kind is AttemptWaits:
            self._log_wait(event)
        elif event.item is not None:
            asks = kind is TaskPaused and event.question is not None
            self._follow_item(self._tasks[event.task_id], event.item, kind, asks=asks)
        elif kind is MapOpened:
            if event.task_id not in self._running:  # a map in rounds opens again in each
                self._waiting.add(event.task_id)
                self._due = -math.inf
        else:
            if kind is MapEnded or kind is TaskPaused:
                self._close_map(event.task_id)
            task = self._tasks[event.task_id]
            self._show(task, self._error if task.status in FAILED else self._info)

    def follow_attempt(self, task: Task, tick: float, kind: type) -> None:
        """Passes the beginning or the completion of a task or an item, as `record` does, without an event."""
        item = task.item
        if item is None:
            self._show(task, self._info)
        elif tick >= self._due:
            self._follow_item(self._tasks[task.task_id], item, kind)
        if self._has_kept and kind is AttemptStarted and not self.gathers:
            self.flush()

    def count_calls(self, task: Task, made: int, given: int, cached: int) -> None:
        """Notes how many calls an attempt of a durable step has made, was given back, and took from the cache.

        Those of items are shown at the end of their map.
        """
        if task.item is None:
            self.note_of(task, counted_calls(made, given, cached))
        else:
            before = self._calls.get(task.task_id, (0, 0, 0))
            self._calls[task.task_id] = before[0] + made, before[1] + given, before[2] + cached

    def note_of(self, task: Task, message: str) -> None:
        """Writes a message about a task as `note` does."""
        workflow = f"{known_id(task.workflow_id)} ".lstrip()
        self.note(f"{workflow}task {task.task_id} {task.name}: {message}")

    def note(self, message: str) -> None:
        """Writes a message that is no cause for worry into the log."""
        if self._log is not None:
            self.flush()
            self._call(self._log.note, self._masks.mask(message))

    def _show(self, task: Task, method: TaskMethod | None) -> None:
        if method is not None:
            self._has_kept = self._may_keep
            try:  # as _call, without the call
                method(task)
            except BaseException as error:  # the user's code: logged, and the run continues
                self._report_error(task, error)
        if self._notify is not None:
            self._notify(task)

    def _call(self, method: Callable[[Any], Any] | None, argument: Task | RunEvent | str) -> None:
        if method is None:
            return
        self._has_kept = self._may_keep
        try:
            method(argument)
        except BaseException as error:  # the user's code: logged, and the run continues
            self._report_error(argument, error)

    def _report_error(self, argument: Task | RunEvent | str, error: BaseException) -> None:
        reraise_interrupt(error)
        where = "a note" if isinstance(argument, str) else type(argument).__name__
        if isinstance(argument, Task):
            where = f"task {argument.task_id} {argument.name}"
        self.report(f"The log raised at {where}", error)

    def _follow_item(self, task: Task, item: int, kind: type, *, asks: bool = False) -> None:
        """Logs a failed attempt or a question of an item, the beginning of its map, and the progress of all maps."""
        if kind is AttemptStarted and task.task_id in self._waiting:
            self._waiting.remove(task.task_id)
            self._running[task.task_id] = task
            self._progress_at = min(self._progress_at, clock.monotonic() + PROGRESS_INTERVAL)
            self._show(task, self._info)
        elif kind in FAILURES:
            self._log_failure(task, task.items[item], is_final=kind is TaskFailed)
        elif asks:
            self._show(task.items[item], self._info)
        if self._progress_at < math.inf and (now := clock.monotonic()) >= self._progress_at:
            self._progress_at = now + PROGRESS_INTERVAL
            for running in self._running.values():
                self._call(self._info, running)
        self._due = -math.inf if self._waiting else self._progress_at

    def _log_wait(self, event: AttemptWaits) -> None:
        """Logs the first wait of an attempt, of a map that of its first item, and one each ten minutes."""
        task, item = self._tasks[event.task_id], event.item
        last = self._waits.get(event.task_id)
        if last is None or event.tick >= last + WAIT_INTERVAL or (item is None and event.asked == 1):
            self._waits[event.task_id] = event.tick
            self._call(self._info, task if item is None else task.items[item])

    def _close_map(self, task_id: int) -> None:
        self._waiting.discard(task_id)
        if self._running.pop(task_id, None) is not None and not self._running:
            self._progress_at = math.inf
        self._due = -math.inf if self._waiting else self._progress_at
        if (calls := self._calls.pop(task_id, None)) is not None:
            self.note_of(self._tasks[task_id], counted_calls(*calls))

    def _log_failure(self, task: Task, item: Task, *, is_final: bool) -> None:
        key = task.task_id, is_final
        self._failures[key] += 1
        if self._failures[key] <= MAX_FAILURES:
            self._call(self._error, item)
        elif self._failures[key] == MAX_FAILURES + 1:
            what = "failed items" if is_final else "failed attempts that are repeated"
            self.note_of(task, f"more than {MAX_FAILURES} {what}; from here on they are only counted.")
