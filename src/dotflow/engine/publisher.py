"""Publisher: what an event sets off, in order: storage, record, history, log, notify, callback."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dotflow.abc.history import History
from dotflow.abc.log import Log
from dotflow.abc.tracer import Tracer
from dotflow.core.call import Carrier
from dotflow.core.events import AttemptFailed, AttemptRepeated, Event, RunEvent, TaskCompleted, TaskEvent, TaskFailed
from dotflow.core.failure import Failure
from dotflow.core.task import Task
from dotflow.engine.checkpoint import Checkpoints
from dotflow.engine.listeners import Listener, as_listener
from dotflow.engine.notifier import Notifier
from dotflow.worker.deadline import DeadlinePassed
from dotflow.worker.deadline_thread import Stopped

FAILURES = (AttemptFailed, AttemptRepeated, TaskFailed)
ENDS = (TaskCompleted, TaskFailed)


def pass_on(error: BaseException) -> None:
    """Raises what is not the listener's own: Ctrl-C, and the end of a step that this run is in."""
    if isinstance(error, KeyboardInterrupt | DeadlinePassed | Stopped):
        raise error


class Publisher:
    """Everybody who is concerned by what happens in one run. Only the storage can change what becomes of it.

    Args:
        run_id: The run.
        tasks: Its records.
        checkpoints: Where values are kept.
        log: What is written; None for nothing.
        notifier: Who is told; None for nobody.
        history: What keeps events; None for nothing.
        tracer: What follows events; None for nothing.
        report: Writes a line into the log, with the traceback of an error where there is one.
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
    ) -> None:
        self._run_id = run_id
        self._tasks = tasks
        self._checkpoints = checkpoints
        self._log = log
        self._info: Listener | None = None if log is None else as_listener(log.info)
        self._error: Listener | None = None if log is None else as_listener(log.error)
        self._notifier = notifier
        self._followers: Sequence[tuple[str, Callable[[str, Event], None]]] = [
            *([("history", history.record)] if history is not None else []),
            *([("tracer", tracer.trace)] if tracer is not None else []),
        ]
        self._is_heard = bool(self._followers) or log is not None or notifier is not None
        self._tracer = tracer
        self._report = report

    @property
    def has_carriers(self) -> bool:
        """Whether attempts take something along."""
        return self._tracer is not None

    def carrier(self, task_id: int) -> Carrier | None:
        """What the attempt that has just begun takes along."""
        assert self._tracer is not None
        try:
            return _checked(self._tracer.carrier(self._run_id, task_id))
        except BaseException as error:  # somebody else's code: it is reported, and the attempt goes without
            pass_on(error)
            self._report(f"The tracer's carrier() raised at task {task_id}", error)
            return None

    def publish(self, event: TaskEvent) -> None:
        """Lets everybody know. Raises as Checkpoints.save does, before anything else, when a value can't be kept."""
        task = self._tasks[event.task_id]
        kind = event.__class__
        if kind is TaskCompleted:
            self._checkpoints.save(task, event.context)  # type: ignore[union-attr]
        task._apply(event)
        if self._is_heard:
            self._tell(event, task)
        if task.callback is not None and kind in ENDS:
            self._call_back(f"The callback of task {task.task_id} {task.name}", task.callback, task=task)

    def _tell(self, event: TaskEvent, task: Task) -> None:
        if self._followers:
            self.follow(event)
        listener = self._error if event.__class__ in FAILURES else self._info
        if listener is not None:
            self._write(listener, task)
        if self._notifier is not None:
            self._notifier.send(task)

    def follow_run(self, event: RunEvent) -> None:
        """Tells log, history and tracer that the run begins or is over."""
        if self._log is not None:
            try:
                self._log.follow_run(event)
            except BaseException as error:  # somebody else's code: it is reported, and the run goes on
                pass_on(error)
                self._report(f"The log raised at {type(event).__name__}", error)
        self.follow(event)

    def follow(self, event: Event) -> None:
        """Tells history and tracer."""
        for name, follower in self._followers:
            try:
                follower(self._run_id, event)
            except BaseException as error:  # somebody else's code: it is reported, and the run goes on
                pass_on(error)
                self._report(f"The {name} raised at {type(event).__name__}", error)

    def end(self, name: str, callback: Callable[..., Any], tasks: Sequence[Task]) -> None:
        """Calls on_success or on_failure, when all is over: there sys.exit() is meant, and goes through."""
        try:
            callback(tasks=tasks)
        except Exception as error:  # somebody else's code: it is reported, and the run is what it was
            self._report(f"{name} raised", error)

    def _call_back(self, whose: str, callback: Callable[..., Any], **told: Any) -> None:
        try:
            callback(**told)
        except BaseException as error:  # somebody else's code: it is reported, and the run goes on
            pass_on(error)
            self._report(f"{whose} raised", error)

    def _write(self, listener: Listener, task: Task) -> None:
        try:
            listener(task)
        except BaseException as error:  # somebody else's code: it is reported, and the run goes on
            pass_on(error)
            self._report(f"The log raised at task {task.task_id} {task.name}", error)


def _checked(carrier: Carrier | None) -> Carrier | None:
    """The same as plain text, so that it fails here if it is something else, and not in the step's worker."""
    if carrier is None:
        return None
    entry, headers = carrier
    for text in (entry, *headers, *headers.values()):
        if text.__class__ is not str:
            raise TypeError(f"a Carrier is made of plain str, but this one holds a {type(text).__name__}")
    return Carrier(entry, dict(headers))


def reporter(log: Log) -> Callable[[str, BaseException | None], None]:
    """Writes lines into *log*; into Python's own logging, should that raise too."""

    def report(message: str, error: BaseException | None = None) -> None:
        if error is not None:
            message = f"{message}, which changes nothing in the run:\n{Failure.of(error).traceback}"
        try:
            log.report(message)
        except (Exception, SystemExit) as broken:  # somebody else's code, and the last place to say so
            Log.report(log, f"{message}\nThe log's own report raised {type(broken).__name__}: {broken}")

    return report
