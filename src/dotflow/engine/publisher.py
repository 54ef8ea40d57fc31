"""Publisher: passes an event to the storage, the record, history and tracer, log, notifier and callback."""

import contextlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from dotflow import clock
from dotflow.abc.executor import ExecutorSession
from dotflow.abc.history import History, HistoryUnavailable, Listener
from dotflow.abc.tracer import Tracer
from dotflow.atomic_file import tightened
from dotflow.capture.capturing_session import CapturingSession
from dotflow.core.attempt_id import AttemptId
from dotflow.core.call import Call, Carrier, Watch, plain_carrier
from dotflow.core.capture import Capture
from dotflow.core.context import Context
from dotflow.core.events import (
    AttemptHeld,
    AttemptRuns,
    AttemptStarted,
    CallEvent,
    Detail,
    Event,
    MapEnded,
    RunEnded,
    RunEvent,
    RunStarted,
    TaskCompleted,
    TaskEvent,
    TaskFailed,
    Traced,
    masked,
)
from dotflow.core.masks import NO_MASKS, Masks
from dotflow.core.outcome import Usage
from dotflow.core.task import Task
from dotflow.core.text import count_calls
from dotflow.core.types.capture import TypeCapture
from dotflow.engine.outage import Outage
from dotflow.engine.run_log import LogLine, RunLog, reraise_interrupt
from dotflow.errors import HistoryError

ENDS: Final = (TaskFailed, MapEnded)  # beside TaskCompleted
new: Final = tuple.__new__  # makes a named tuple in half the time: there are two for every attempt
LOOK: Final = "The look for orders"
AGAIN: Final = 1.0  # seconds until a history that can't be used is called again
Settle = tuple[str, Callable[[str, bool], float | None]]  # a name and a listener's settle()
MAX_REPORTS: Final = 20  # exceptions of a listener that are logged in a run; more are counted


class Publisher:
    """Publishes the events of one run. Only the storage can change the outcome of a task.

    Args:
        run_id: The run.
        tasks: The run's records, by id.
        save: Saves the value of a task or an item.
        history: The history; None for none. It is the first listener.
        look: Looks for orders where listeners settle; it may end the run. None for none.
        listeners: Others that receive the events, after it.
        tracer: The tracer, which comes next; None for none.
        run_log: Log and notifier, which come last; None for none.
        log_line: Writes a line into the log, with the traceback of an error where there is one.
        masks: The secrets, which no event and record shows.

    Attributes:
        look: Looks for orders before another attempt begins, since one that is In progress runs; None for none.
    """

    def __init__(
        self,
        run_id: str,
        tasks: Mapping[int, Task],
        save: Callable[[Task, Context], None],
        *,
        history: History | None = None,
        look: Callable[[str, bool], float | None] | None = None,
        listeners: Sequence[Listener] = (),
        tracer: Tracer | None = None,
        run_log: RunLog | None = None,
        log_line: LogLine,
        masks: Masks = NO_MASKS,
    ) -> None:
        self._run_id = run_id
        self._tasks = tasks
        self._save = save
        self._history = history
        self._tracer = tracer
        self._log_line = log_line
        self._masks = masks
        self.look: Callable[[], object] | None = None
        followers: list[tuple[str, Callable[[str, Event], None]]] = []
        settling: list[Settle] = []
        for listener in (*([] if history is None else [history]), *listeners):
            name = "The history" if listener is history else type(listener).__name__
            followers.append((name, listener.record))
            settling.append((f"{name}'s settle()", listener.settle))
        self._settling = settling
        self._settling_waits = settling if look is None else [*settling, (LOOK, look)]
        if look is not None:
            self.look = partial(self.settle, begins=True, only=[(LOOK, look)])
        if tracer is not None:
            followers.append(("The tracer", tracer.trace))
        self._run_log = run_log
        self._begin: Callable[[], None] | None = None
        self._gathered: list[Task] = []  # that `_begin` begins
        self._listeners = [*followers]  # that need an event for each attempt, beside the log
        if run_log is not None:
            followers.append(("The log", run_log.record))
        self._followers = followers
        self._settles_calls = bool(settling)  # unless the session does
        self._watch: tuple[TypeCapture, int] | None = None  # of each attempt
        if history is not None:
            mode = history.capture if history.output_limit > 0 else TypeCapture.NONE
            if history.measures_usage or mode is not TypeCapture.NONE:
                self._watch = mode, history.output_limit
        self._has_traces = tracer is not None and history is not None and type(tracer).trace_ids is not Tracer.trace_ids
        self._outage = Outage(lambda line: log_line(line, None))
        self._failures: Counter[str] = Counter()  # how often each listener has raised

    @property
    def has_listeners(self) -> bool:
        """Whether anything receives what `record_call` passes."""
        return bool(self._listeners)

    def follow_session(self, session: ExecutorSession) -> bool:
        """Asks a new session for what the history wants. Returns whether attempts need `prepare`.

        Where no code of users runs between two events, beside the steps, the session may gather attempts that begin,
        and the log records. `flush` writes the records, then begins the attempts.
        """
        self._begin = None
        if (
            not self._listeners
            and isinstance(session, CapturingSession)
            and (self._run_log is None or self._run_log.keep())
        ):
            self._begin = session.gather and session.gather()
            if self._run_log is not None:
                self._run_log.gathers = self._begin is not None
        if self._settling and isinstance(session, CapturingSession):
            mode, limit = self._watch or (TypeCapture.NONE, 0)
            settle = partial(self.settle, begins=True)
            capture = Capture(mode, limit, self.record, settle, self._masks, self._history)
            self._settles_calls = not session.capture_output(capture)
        return bool(self._settling) or self._tracer is not None

    def prepare(self, call: Call, task: Task, is_begun: bool = False) -> Call:
        """Returns an attempt's call with what tracer and history add; settles listeners, unless the session does.

        *is_begun* is whether it is a further call of an attempt that waits.
        """
        if self._tracer is not None:
            call = call._replace(carrier=self.carrier(task.task_id, task.item))
            if self._has_traces and not is_begun:
                self._record_trace(task.task_id, task.item, task.attempt)
        if self._settles_calls:
            self.settle(begins=True)
        if self._watch is None:
            return call
        attempt = new(AttemptId, (self._run_id, task.task_id, task.attempt, task.item))
        return new(Call, (*call[:-1], new(Watch, (attempt, *self._watch))))  # a `_replace` takes ten times as long

    def settle(self, *, begins: bool, only: Sequence[Settle] | None = None) -> float | None:
        """Lets the listeners, or *only* some, save what they have collected, by Listener.settle."""
        if not begins:
            self.flush()
        soonest = None
        for name, settle in only or (self._settling if begins else self._settling_waits):
            try:
                seconds = settle(self._run_id, begins)
            except HistoryUnavailable as error:
                self._outage.begin(name, error)
                seconds = AGAIN
            except BaseException as error:  # the user's code: logged, and the run continues
                self._report_failure(name, "an attempt" if begins else "a wait", error)
                continue
            else:
                if self._outage.refused:
                    self._outage.end(name)
            if seconds is not None and (soonest is None or seconds < soonest):
                soonest = seconds
        return soonest

    def begin(self, task: Task, previous: Context, call: Call, waited: float = 0.0) -> None:
        """Publishes that an attempt of a task or an item begins, after it *waited* for so many seconds for limits."""
        attempt, at, tick = task.attempt + 1, clock.moment(), clock.monotonic()
        task._begin(attempt, previous, at, tick)
        if self._begin is not None:
            self._gathered.append(task)
        if self._listeners:
            fallback = call.step.name if call.fallback else None
            shown = call if call.secrets is None else call._replace(secrets=None, port=None)  # an event may be written
            fields = (task.task_id, attempt, previous, clock.as_datetime(at), tick, task.item, fallback, shown, waited)
            self._follow(new(AttemptStarted, fields), self._listeners)
        if self._run_log is not None:
            self._run_log.follow_attempt(task, tick, AttemptStarted)

    def run(self, task: Task, tick: float) -> None:
        """Publishes since when an attempt runs that began later than it was submitted."""
        at = clock.moment_at(tick)
        task._begin_later(at, tick)
        if self._listeners:
            fields = (task.task_id, task.attempt, clock.as_datetime(at), tick, task.item)
            self._follow(new(AttemptRuns, fields), self._listeners)

    def complete(self, task: Task, context: Context, usage: Usage | None, ended: float | None = None) -> None:
        """Publishes that a task or an item completed. Raises what `save` raises, before anything else.

        *ended* is the time of its end on the monotonic clock; None for now.
        """
        tick = clock.monotonic() if ended is None else ended
        self._save(task, context)
        task._complete(context, tick)
        if self._listeners:
            self._follow(new(TaskCompleted, (task.task_id, context, tick, task.item, usage)), self._listeners)
        if self._run_log is not None:
            self._run_log.follow_attempt(task, tick, TaskCompleted)
        if task.callback is not None:  # an item has none
            self._call_back(task.callback, task)

    def flush(self) -> None:
        """Writes the records that the log keeps, then begins the attempts that the session has gathered.

        Called before anything that may take long.
        """
        if self._run_log is not None:
            self._run_log.flush()
        if self._begin is None:
            return
        if self._gathered:
            at, tick = clock.moment(), clock.monotonic()
            for task in self._gathered:  # they begin now, not before the records of all of them were written
                task._begin_later(at, tick)
            self._gathered.clear()
        self._begin()

    def leave_session(self) -> None:
        """Writes the records that the log keeps. What the session has gathered never begins."""
        self._begin = None
        self._gathered.clear()
        self.flush()

    def publish(self, event: TaskEvent) -> None:
        """Publishes any other event of a task or an item."""
        task = self._tasks[event.task_id]
        item = event.item
        if self._masks:
            event = masked(event, self._masks)
        (task if item is None else task.items[item])._apply(event)
        self._follow(event, self._followers)
        callback, kind = task.callback, event.__class__
        if callback is not None and item is None and kind in ENDS and not (kind is MapEnded and task.restored_from):
            self._call_back(callback, task)

    def publish_run(self, event: RunEvent) -> None:
        """Publishes the beginning or the end of the run."""
        if isinstance(event, RunEnded):
            event = event._replace(reason=self._masks.mask(event.reason))
        self._follow(event, self._followers)
        if self._has_traces and isinstance(event, RunStarted):
            self._record_trace()
        if isinstance(event, RunEnded):
            for name, count in self._failures.items():
                if count > MAX_REPORTS:
                    self._log_line(
                        f"{name} raised {count} times in this run; the first {MAX_REPORTS} are logged.", None
                    )
        with contextlib.suppress(IndexError):  # none is left, or another run was quicker
            while True:  # permissions that dotflow took away, at the end from the log's own file, too
                self._log_line(tightened.popleft(), None)

    def record(self, event: Detail) -> None:
        """Passes an event that only the history receives."""
        if self._history is not None:
            self._follow(event, self._followers[:1])

    def record_call(self, event: CallEvent | AttemptHeld) -> None:
        """Passes an event of a call of a durable step, or of a wait for a limit, to history, listeners and tracer."""
        self._follow(event, self._listeners)

    def log_goes_on(self, task: Task, calls: int) -> None:
        """Logs that an attempt of a durable step goes on with so many calls. That of an item is not logged."""
        if self._run_log is not None and task.item is None:
            self._run_log.note_of(task, f"goes on with {count_calls(calls)}")

    def log_calls(self, task: Task, made: int, given: int, cached: int) -> None:
        """Logs how many calls an attempt of a durable step has made, was given back, and took from the cache."""
        if self._run_log is not None:
            self._run_log.count_calls(task, made, given, cached)

    def _follow(self, event: Event, followers: Sequence[tuple[str, Callable[[str, Event], None]]]) -> None:
        for name, follower in followers:
            try:
                follower(self._run_id, event)
            except HistoryUnavailable as error:
                self._outage.begin(f"{name}'s settle()", error)
            except BaseException as error:  # the user's code: logged, and the run continues
                self._report_failure(name, type(event).__name__, error)

    def carrier(self, task_id: int, item: int | None = None) -> Carrier | None:
        """Returns a copy of the tracer's carrier for the attempt that has just begun."""
        assert self._tracer is not None
        try:
            if item is None:
                return plain_carrier(self._tracer.carrier(self._run_id, task_id))
            return plain_carrier(self._tracer.item_carrier(self._run_id, task_id, item))
        except BaseException as error:  # the user's code: logged, and the attempt begins without
            self._report_failure("The tracer's carrier()", f"task {task_id}", error)
            return None

    def _record_trace(self, task_id: int | None = None, item: int | None = None, attempt: int = 0) -> None:
        """Passes the trace of an attempt that has just begun, or of the run, to the history."""
        assert self._tracer is not None
        try:
            if (ids := self._tracer.trace_ids(self._run_id, task_id, item)) is not None:
                trace, span = map(str, ids)
                self.record(Traced(-1 if task_id is None else task_id, attempt, trace, span, item))
        except BaseException as error:  # the user's code: logged, and the run continues without
            where = "the run" if task_id is None else f"task {task_id}"
            self._report_failure("The tracer's trace_ids()", where, error)

    def _report_failure(self, name: str, where: str, error: BaseException) -> None:
        reraise_interrupt(error)
        self._failures[name] += 1
        if self._failures[name] > MAX_REPORTS:
            return
        if isinstance(error, HistoryError):  # a line for users
            self._log_line(str(error), None)
        else:
            self._log_line(f"{name} raised at {where}", error)

    def _call_back(self, callback: Callable[..., Any], task: Task) -> None:
        self.flush()
        try:
            callback(task=task)
        except BaseException as error:  # the user's code: logged, and the run continues
            reraise_interrupt(error)
            self._log_line(f"The callback of task {task.task_id} {task.name} raised", error)

    def end(self, name: str, callback: Callable[..., Any], tasks: Sequence[Task]) -> None:
        """Calls on_success or on_failure at the end of the run, where sys.exit() passes through."""
        try:
            callback(tasks=tasks)
        except Exception as error:  # the user's code: logged, and the run stays what it was
            self._log_line(f"{name} raised", error)
