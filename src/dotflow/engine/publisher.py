"""Publisher: passes an event to the storage, the record, history and tracer, log, notifier and callback."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from dotflow.abc.executor import ExecutorSession
from dotflow.abc.history import History
from dotflow.abc.log import Log
from dotflow.abc.tracer import Tracer
from dotflow.core.attempt_id import AttemptId
from dotflow.core.call import Call, Carrier, Watch
from dotflow.core.capture import Capture
from dotflow.core.context import Context
from dotflow.core.events import (
    AttemptFailed,
    AttemptRepeated,
    AttemptStarted,
    Detail,
    Event,
    MapEnded,
    MapOpened,
    RunEnded,
    RunEvent,
    RunStarted,
    TaskCompleted,
    TaskEvent,
    TaskFailed,
    masked,
)
from dotflow.core.masks import NO_MASKS, Masks
from dotflow.core.task import Task
from dotflow.core.types.capture import TypeCapture
from dotflow.core.types.status import TypeStatus
from dotflow.engine.listeners import Listener, as_listener, carrier_of, trace_of
from dotflow.engine.map_reports import MapReports
from dotflow.engine.notifier import Notifier
from dotflow.errors import HistoryError
from dotflow.resume.checkpoint import Checkpoints
from dotflow.worker.deadline import DeadlinePassed
from dotflow.worker.deadline_thread import Stopped

FAILURES = (AttemptFailed, AttemptRepeated, TaskFailed)
ENDS = (TaskCompleted, TaskFailed, MapEnded)
new: Final = tuple.__new__  # makes a named tuple in half the time: there is one for every attempt
MAX_REPORTS: Final = 20  # exceptions of a run's history, and of its tracer, that are logged; more are counted


def reraise_interrupt(error: BaseException) -> None:
    """Raises *error* where it is no error of a listener: Ctrl-C, or the end of a step that runs this run."""
    if isinstance(error, KeyboardInterrupt | DeadlinePassed | Stopped):
        raise error


class Publisher:
    """Publishes the events of one run. Only the storage can change the outcome of a task.

    Args:
        run_id: The run.
        tasks: The run's records, by id.
        checkpoints: Save the values.
        log: The log; None for none.
        notifier: The notifier; None for none.
        history: The history; None for none.
        tracer: The tracer; None for none.
        report: Writes a line into the log, with the traceback of an error where there is one.
        masks: The secrets, which no event, record or note shows.

    Attributes:
        save: Saves the value of a task or an item.
    """

    def __init__(
        self,
        run_id: str,
        tasks: Mapping[int, Task],
        checkpoints: Checkpoints,
        *,
        log: Log | None,
        notifier: Notifier | None,
        history: History | None,
        tracer: Tracer | None,
        report: Callable[[str, BaseException | None], None],
        masks: Masks = NO_MASKS,
    ) -> None:
        self._masks = masks
        self._run_id = run_id
        self._tasks = tasks
        self.save: Callable[[Task, Context], None] = checkpoints.save
        self._log = log
        self._info: Listener | None = None if log is None else as_listener(log.info)
        self._error: Listener | None = None if log is None else as_listener(log.error)
        self._notifier = notifier
        self._followers: Sequence[tuple[str, Callable[[str, Event], None]]] = [
            *([("history", history.record)] if history is not None else []),
            *([("tracer", tracer.trace)] if tracer is not None else []),
        ]
        self._has_listeners = bool(self._followers) or log is not None or notifier is not None
        self._tracer = tracer
        self._has_traces = tracer is not None and history is not None and type(tracer).trace_ids is not Tracer.trace_ids
        self._history = history
        self._capture = TypeCapture.NONE if history is None else history.capture
        self._output_limit = 0 if history is None else history.output_limit
        self._watches = history is not None and (history.measures_usage or self._capture is not TypeCapture.NONE)
        self._settles_calls = True  # unless the session does
        self._report = report
        self._maps: MapReports | None = None  # made where a map is opened
        self._failures: Counter[str] = Counter()  # how often history and tracer have raised

    @property
    def prepares_calls(self) -> bool:
        """Whether `prepare` has to be called before each attempt."""
        return bool(self._followers)

    def prepare(self, call: Call, task: Task) -> Call:
        """Returns an attempt's call with what tracer and history add; settles the history, unless the session does."""
        if self._tracer is not None:
            call = call._replace(carrier=self.carrier(task.task_id, task.item))
            if self._has_traces:
                self._record_trace(task.task_id, task.item, task.attempt)
        if self._history is None:
            return call
        if self._settles_calls:
            self.settle(begins=True)
        if not self._watches:
            return call
        attempt = new(AttemptId, (self._run_id, task.task_id, task.attempt, task.item))
        watch = new(Watch, (attempt, self._capture, self._output_limit))
        return new(Call, (*call[:-1], watch))

    def settle(self, *, begins: bool) -> float | None:
        """Lets the history save what it has collected. The arguments and the result are those of History.settle."""
        if self._history is None:
            return None
        try:
            return self._history.settle(self._run_id, begins)
        except BaseException as error:  # the user's code: logged, and the run continues
            self._report_failure("The history's settle()", "an attempt" if begins else "a wait", error)
            return None

    def follow_session(self, session: ExecutorSession) -> None:
        """Asks a new session for what the history wants: the output, and to be settled before attempts begin."""
        if self._history is None:
            return
        settle = partial(self.settle, begins=True)
        self._settles_calls = not session.settle_before_calls(settle)
        if self._capture is not TypeCapture.NONE and self._output_limit > 0:
            limit = self._output_limit
            session.capture_output(Capture(self._capture, limit, self.record, settle, self._masks, self._history))

    def record(self, event: Detail) -> None:
        """Passes an event that only the history receives."""
        if self._history is not None:
            try:
                self._history.record(self._run_id, event)
            except BaseException as error:  # the user's code: logged, and the run continues
                self._report_failure("The history", type(event).__name__, error)

    def carrier(self, task_id: int, item: int | None = None) -> Carrier | None:
        """Returns the tracer's carrier for the attempt that has just begun."""
        return self._ask_tracer("carrier()", carrier_of, task_id, item)  # type: ignore[no-any-return]

    def _record_trace(self, task_id: int = -1, item: int | None = None, attempt: int = 0) -> None:
        """Passes the trace of an attempt that has just begun, or of the run, to the history."""
        if (event := self._ask_tracer("trace_ids()", trace_of, task_id, item, attempt)) is not None:
            self.record(event)

    def _ask_tracer(self, name: str, function: Callable[..., Any], task_id: int, *arguments: int | None) -> Any:
        try:
            return function(self._tracer, self._run_id, task_id, *arguments)
        except BaseException as error:  # the user's code: logged, and the run continues without
            self._report_failure(f"The tracer's {name}", "the run" if task_id < 0 else f"task {task_id}", error)
            return None

    def publish(self, event: TaskEvent) -> None:
        """Publishes an event. Raises what `save` raises, before anything else, for a value."""
        task = self._tasks[event.task_id]
        if event.item is not None:
            self._publish_item(event, task)
            return
        kind = event.__class__
        if kind is TaskCompleted:
            self.save(task, event.context)  # type: ignore[union-attr]
        elif kind is not AttemptStarted:
            event = masked(event, self._masks)
        task._apply(event)
        if self._has_listeners:
            self._call_listeners(event, task)
        if task.callback is not None and kind in ENDS and not (kind is MapEnded and task.restored_from):
            self._call_back(f"The callback of task {task.task_id} {task.name}", task.callback, task)

    def _publish_item(self, event: Any, task: Task) -> None:  # Any: on the hot path, comparing classes is fastest
        """Saves and records an item. Log and notifier receive the task as a whole, and the first failures."""
        item = task.items[event.item]
        kind = event.__class__
        if kind is TaskCompleted:
            self.save(item, event.context)
        elif kind is not AttemptStarted:
            event = masked(event, self._masks)
        item._apply(event)
        if self._followers:
            self.follow(event)
        maps = self._maps
        if maps is not None and ((kind is not TaskCompleted and kind is not AttemptStarted) or event.tick >= maps.due):
            maps.follow(event, task, item)

    def _call_listeners(self, event: TaskEvent, task: Task) -> None:
        if self._followers:
            self.follow(event)
        kind = event.__class__
        if kind is MapOpened:
            self._open_map(task)
        elif kind is MapEnded:
            if self._maps is not None:
                self._maps.close(task)
            self._report_status(task, has_failed=task.status is TypeStatus.FAILED)
        else:  # as _report_status, without the call
            self._write(self._error if kind in FAILURES else self._info, task)
            if self._notifier is not None:
                self._notifier.send(task)

    def _open_map(self, task: Task) -> None:
        if self._maps is None and (self._log is not None or self._notifier is not None):
            info, error = partial(self._write, self._info), partial(self._write, self._error)
            self._maps = MapReports(partial(self._report_status, has_failed=False), info, error, self.note)
        if self._maps is not None:
            self._maps.open(task)

    def _report_status(self, task: Task, *, has_failed: bool) -> None:
        self._write(self._error if has_failed else self._info, task)
        if self._notifier is not None:
            self._notifier.send(task)

    def follow_run(self, event: RunEvent) -> None:
        """Passes the beginning or end of the run to log, history and tracer."""
        if isinstance(event, RunEnded):
            event = event._replace(reason=self._masks.mask(event.reason))
        if self._log is not None:
            try:
                self._log.follow_run(event)
            except BaseException as error:  # the user's code: logged, and the run continues
                reraise_interrupt(error)
                self._report(f"The log raised at {type(event).__name__}", error)
        self.follow(event)
        if self._has_traces and isinstance(event, RunStarted):
            self._record_trace()
        if isinstance(event, RunEnded):
            for name, count in self._failures.items():
                if count > MAX_REPORTS:
                    self._report(f"{name} raised {count} times in this run; the first {MAX_REPORTS} are logged.", None)

    def follow(self, event: Event) -> None:
        """Passes an event to history and tracer."""
        for name, follower in self._followers:
            try:
                follower(self._run_id, event)
            except BaseException as error:  # the user's code: logged, and the run continues
                self._report_failure(f"The {name}", type(event).__name__, error)

    def _report_failure(self, name: str, where: str, error: BaseException) -> None:
        reraise_interrupt(error)
        self._failures[name] += 1
        if self._failures[name] > MAX_REPORTS:
            return
        if isinstance(error, HistoryError):  # a line for users
            self._report(str(error), None)
        else:
            self._report(f"{name} raised at {where}", error)

    def end(self, name: str, callback: Callable[..., Any], tasks: Sequence[Task]) -> None:
        """Calls on_success or on_failure at the end of the run, where sys.exit() passes through."""
        try:
            callback(tasks=tasks)
        except Exception as error:  # the user's code: logged, and the run stays what it was
            self._report(f"{name} raised", error)

    def _call_back(self, name: str, callback: Callable[..., Any], task: Task) -> None:
        try:
            callback(task=task)
        except BaseException as error:  # the user's code: logged, and the run continues
            reraise_interrupt(error)
            self._report(f"{name} raised", error)

    def note(self, message: str) -> None:
        if self._log is not None:
            try:
                self._log.note(self._masks.mask(message))
            except BaseException as error:  # the user's code: logged, and the run continues
                reraise_interrupt(error)
                self._report("The log raised at a note", error)

    def _write(self, listener: Listener | None, task: Task) -> None:
        if listener is None:
            return
        try:
            listener(task)
        except BaseException as error:  # the user's code: logged, and the run continues
            reraise_interrupt(error)
            self._report(f"The log raised at task {task.task_id} {task.name}", error)
