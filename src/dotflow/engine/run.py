"""Run: one run of a workflow, as start() returns it."""

import contextlib
import functools
import math
import os
import weakref
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from pathlib import Path
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self, TypeVar, overload

from dotflow import clock
from dotflow.abc.executor import ExecutorSession
from dotflow.abc.history import has_queue
from dotflow.abc.notify import RunMessage
from dotflow.abc.operations import Ending, Order, TypeOrder
from dotflow.abc.storage import Storage
from dotflow.code.fingerprint import fingerprint
from dotflow.core.action import Action
from dotflow.core.attempt_id import current_attempt, trigger
from dotflow.core.context import Context
from dotflow.core.durations import Duration, as_seconds
from dotflow.core.events import Planned, RunEnded, RunStarted
from dotflow.core.files import NO_STATES
from dotflow.core.hints import READ_RUN, no_attribute
from dotflow.core.item_counts import levels_of, rounds_of
from dotflow.core.masks import Masks
from dotflow.core.task import Task
from dotflow.core.text import error_line
from dotflow.core.types.run_state import TypeRunState, TypeWait
from dotflow.core.types.status import TypeStatus
from dotflow.engine.claimed import ClaimedRun
from dotflow.engine.notifier import Notifier
from dotflow.engine.options import RunOptions, chosen_tasks
from dotflow.engine.orders import watch_orders
from dotflow.engine.publisher import Publisher
from dotflow.engine.run_graph import RunGraph
from dotflow.engine.run_log import RunLog, log_line_of
from dotflow.engine.run_providers import RunProviders
from dotflow.engine.runner import Runner
from dotflow.engine.stop import (
    CANCELLED,
    CUT_OFF,
    INTERRUPTED,
    LOST,
    PAUSED,
    SHUTDOWN,
    SHUTDOWN_NOW,
    Stop,
    stop_for,
    timed_out,
)
from dotflow.engine.stops import Stops
from dotflow.errors import ClusterLost, HistoryError, NotServable, RunFailed, RunTimeout, ValueNotStorable
from dotflow.graph.gather import value_of
from dotflow.graph.linked_task import LinkedTask
from dotflow.graph.names import TaskRef, find_task, find_value
from dotflow.graph.params import DIGESTS, Params
from dotflow.graph.plan import Plan
from dotflow.resume.cache import Cache, is_cached
from dotflow.resume.checkpoint import Checkpoints, is_durable
from dotflow.resume.choice import NONE_CHOSEN
from dotflow.worker.deadline_thread import waking
from dotflow.worker.files import reading_until
from dotflow.worker.waiting import Waiters

COMPLETED, SKIPPED = TypeStatus.COMPLETED, TypeStatus.SKIPPED
T = TypeVar("T")
if TYPE_CHECKING:
    from dotflow.abc.archive import Archive
    from dotflow.abc.operations import Operations
    from dotflow.core.approval import Question
    from dotflow.core.events import AttemptHeld
    from dotflow.engine.approvals import Approvals
    from dotflow.engine.call_limits import CallLimits
    from dotflow.engine.limiting import Limiting
    from dotflow.records.record import RunRecord
if TYPE_CHECKING:  # mypy and Pyright have different types for what a coroutine function returns
    AsyncStep = Action[..., Coroutine[Any, Any, T]] | Action[..., CoroutineType[Any, Any, T]]

#: The contexts; the actions of a class step may take both.
CONTEXTS: Final = ("initial_context", "previous_context")

_warned_of: Final[weakref.WeakSet[Storage]] = weakref.WeakSet()

CANCEL_GRACE: Final = 3.0  # seconds for a cancelled run to end its workers before its waiter continues


#: What to do after a resume that restored everything. The command has words of its own.
ANEW: Final = 'Leave out resume to run them anew, or pass resume="unfinished", which begins anew after a completed run.'


def nothing_ran(tasks: Sequence[Task]) -> str:
    """Returns what a resume restored if no step of the run made an attempt; "" if one did."""
    if any(any(item.attempt for item in task.items) if task.is_mapped else task.attempt for task in tasks):
        return ""
    restored = sum(task.restored_from == "checkpoint" for task in tasks)
    if not restored:
        return ""
    some = f"{restored} of {len(tasks)} tasks were" if restored < len(tasks) else f"all {restored} tasks were"
    return f"Nothing ran: {'its task was' if len(tasks) == 1 else some} restored from an earlier run"


class RunEnd:
    """The end of one run.

    Attributes:
        is_over: Whether the run has ended.
    """

    def __init__(self) -> None:
        self.is_over = False
        self._waiters = Waiters()

    def set(self) -> None:
        """Ends the run."""
        self.is_over = True
        clock.about_to_wake(self.notify)
        self.notify()

    def wait(self, timeout: float | None) -> bool:
        """Waits for at most *timeout* seconds, None for no limit, and returns whether the run has ended."""
        deadline = math.inf if timeout is None else clock.monotonic() + timeout

        def pause(seconds: float | None) -> None:
            # The second condition is for a virtual clock that has reached the deadline already.
            self._waiters.wait_until(lambda: self.is_over or clock.monotonic() >= deadline, seconds)

        if not self.is_over:
            clock.wait(pause, timeout, self.notify)
        return self.is_over

    def wait_real(self, seconds: float | None) -> None:
        """Waits for at most *seconds* of real time, None for no limit. A virtual clock does not change it."""
        self._waiters.wait_until(lambda: self.is_over, seconds)

    def notify(self) -> None:
        """Wakes the waiters."""
        self._waiters.wake()


class Run:
    """One run of a workflow, during the run and afterwards.

    Attributes:
        workflow_id: The workflow.
        run_id: The id of this run; each call of start() makes a new one.
        name: The workflow's name; None without one.
        tasks: The records of the tasks, in the order of `add`.
        status: NOT_STARTED, IN_PROGRESS, then COMPLETED, FAILED or PAUSED.
        state: RUNNING, then COMPLETED, FAILED, CANCELLED, INTERRUPTED or PAUSED.
    """

    def __init__(
        self,
        workflow_id: str,
        run_id: str,
        tasks: Sequence[Task],
        plan: Plan,
        providers: RunProviders,
        options: RunOptions,
        name: str | None,
        params: Params,
        *,
        is_named: bool,
        workflow: str,
        claimed: ClaimedRun | None,
        digests: Mapping[str, str],
    ) -> None:
        self.params = params
        self._digests = digests
        self.workflow_id = workflow_id
        self.run_id = run_id
        self.tasks: list[Task] = list(tasks)
        self._linked = [task for task in tasks if type(task) is LinkedTask]
        self.status: TypeStatus = TypeStatus.NOT_STARTED
        self.state: TypeRunState = TypeRunState.RUNNING
        self.name = name
        self._is_named = is_named
        self._workflow = workflow  # the id without parameters
        self._claimed = claimed
        self._plan = plan
        self._providers = providers
        self._masks = providers.secrets.masks
        self._options = options
        self._log_line: Callable[..., None] = log_line_of(providers.log, self._masks)
        self._checkpoints = Checkpoints(
            providers.storage,
            workflow_id,
            exclusive=is_named,
            log_line=self._log_line,
            run_id=run_id,
            has_queue=is_named and has_queue(providers.history),
            digest_limit=providers.digest_limit,
        )
        self._chosen = NONE_CHOSEN
        self._session: ExecutorSession | None = None  # of a cluster, until it runs
        self._approvals: Approvals | None = None
        self._stops = Stops()
        self._end = RunEnd()
        self._started: RunStarted | None = None
        self._ended: RunEnded | None = None
        self._error: BaseException | None = None

    def wait(self, timeout: Duration | None = None) -> bool:
        """Waits for the end of the run, when its results are complete.

        An interruption of the wait (Ctrl-C, the timeout of a step that calls it) cancels the run.

        Args:
            timeout: The maximum time, in seconds or as a text such as "90s"; None for no limit.

        Returns:
            Whether the run has ended.

        Raises:
            KeyboardInterrupt: The run was interrupted.
        """
        seconds = None if timeout is None else as_seconds("timeout", timeout)
        try:
            with waking(self._end.notify):
                is_over = self._end.wait(seconds)
        except BaseException as error:  # Ctrl-C, or the end of a step that waits for this run
            if isinstance(error, KeyboardInterrupt):
                self.interrupt_and_wait()
            else:
                self.cancel_for(CANCELLED)
                self._end.wait_real(CANCEL_GRACE)
            raise
        if is_over and self._error is not None:
            raise self._error
        return is_over

    def interrupt_and_wait(self) -> None:
        """Ends the run as Ctrl-C in `wait` does, and waits for its end."""
        interrupt_and_wait((self,), self._end.wait_real)

    def task(self, ref: TaskRef) -> Task:
        """Returns the task that has the name or the step: `run.task("report")`.

        Raises:
            UnknownTask: No task has it.
            AmbiguousTask: Several tasks have it.
        """
        return find_task(self._masks.mask_ref(ref), self.tasks)

    def __getitem__(self, ref: TaskRef) -> Task:
        """Returns the task that has the name or the step, as `task` does: `run["report"]`.

        The name of an added workflow is that of its last task.
        """
        return self.task(ref)

    __iter__ = None  # without it, Python would ask for the tasks 0, 1, ...

    @overload
    def value(self, ref: "AsyncStep[T]") -> T: ...
    @overload
    def value(self, ref: Action[..., T]) -> T: ...
    @overload
    def value(self, ref: TaskRef) -> Any: ...
    def value(self, ref: TaskRef) -> Any:
        """Returns the value of the task that has the name or the step: `run.value("report")`.

        The name of an output returns that part of the value. With a step, type checkers know the type of the value.
        That of a mapped task is a list of such values: of one with failed items, those that came. A task that was
        skipped, or has not ended, has None.

        Raises:
            UnknownTask: No task has it.
            AmbiguousTask: Several tasks have it.
            RunFailed: The task failed, and has no value.
        """
        task, part = find_value(self._masks.mask_ref(ref), self.tasks)
        if task.status is TypeStatus.FAILED and not task.has_value:
            raise RunFailed(self.workflow_id, self.run_id, [task], len(self.tasks))
        return value_of(task, part)

    if not TYPE_CHECKING:  # type checkers report unknown names by themselves

        def __getattr__(self, name: str) -> NoReturn:
            raise no_attribute(self, name, READ_RUN)

    @property
    def questions(self) -> list["Question"]:
        """The questions of the tasks and items that wait for an approval, in the order of `add`."""
        asking = (task for task in self._linked if task.step.approve is not None or is_durable(task))
        return [question for task in asking for record in (task, *task.items) for question in record.questions]

    @property
    def cleans_up(self) -> bool:
        """Whether there are tasks with `always=True`: they have all the time they take."""
        return any(task.is_cleanup for task in self.tasks)

    def raise_for_failure(self) -> Self:
        """Waits for the end of the run, and returns the run if it completed.

        Raises:
            RunFailed: It did not complete; it may be paused.
            RunTimeout: The timeout of `start` ended it.
        """
        self.wait()
        if self.status is not TypeStatus.COMPLETED:
            failed = [task for task in self.tasks if task.status is TypeStatus.FAILED]
            error = RunTimeout if self._is_out_of_time else RunFailed
            stop, is_paused = self._stops.why, self.state is TypeRunState.PAUSED
            reason = "" if stop is None else stop.reason
            raise error(self.workflow_id, self.run_id, failed, len(self.tasks), reason, is_paused)
        return self

    @property
    def has_restored(self) -> bool:
        """Whether it goes on with values of an earlier run."""
        items = (item for task in self.tasks for item in task.items or ())
        return self._checkpoints.goes_on and any(record.restored_from for record in (*self.tasks, *items))

    @property
    def _is_out_of_time(self) -> bool:
        """Whether its timeout has ended it."""
        return self._stops.is_timeout and self.status is not COMPLETED

    def cancel(self) -> None:
        """Stops the run: ends the workers and fails the running tasks. The others stay NOT_STARTED.

        Returns at once; `wait` waits for the end. After the end of the run it does nothing.
        """
        self.cancel_for(CANCELLED)

    def pause(self) -> None:
        """Pauses the run: running steps end and are saved, and nothing else begins. `start(resume=True)` goes on.

        Tasks that wait for a retry, and maps with items left, become PAUSED, the others stay NOT_STARTED. Tasks with
        `always=True` run. If nothing is left to begin, the run completes or fails as it would without a pause.

        Returns at once; `wait` waits for the end. After the end of the run, and after `cancel`, it does nothing.
        """
        self.pause_for(PAUSED)

    def pause_for(self, stop: Stop) -> None:
        """Pauses the run for a reason."""
        self._stops.order_pause(stop)

    def _obey(self, order: Order) -> None:
        """Carries out an order from outside."""
        by = f" by {order.by}{order.comment and f': {order.comment}'}"
        if order.what is TypeOrder.CANCEL:
            self.cancel_for(CANCELLED._replace(reason=f"{CANCELLED.reason}{by}"))
        else:
            self.pause_for(PAUSED._replace(reason=f"{PAUSED.reason}{by}"))

    def _check_claim(self) -> None:
        """Ends the run if another process has it, which its queue decides: nothing more is saved."""
        if self._claimed is not None and not self._claimed.is_mine() and not self._stops.is_cancelled:
            self._checkpoints.give_up()
            line = f"{LOST.reason.capitalize()}: {self.run_id} ends here, and saves nothing more."
            if self._claimed.was_taken_over():
                why = "while this process stood still or was cut off"
                line = f"The run {self.run_id} was taken over {why}. Its steps end."
            self._log_line(line, None)
            self.cancel_for(LOST)

    def _check_contact(self) -> None:
        """Pauses a claimed run whose process may be taken for dead: running steps end and are saved."""
        if self._claimed is not None and not self._claimed.may_begin():
            self.pause_for(CUT_OFF)

    @property
    def reason(self) -> str:
        """The reason why it was stopped, such as "the run was cancelled by ann"; "" if it was not."""
        return "" if self._ended is None else self._ended.reason

    def _interrupt(self) -> None:
        """Stops the run as Ctrl-C does, otherwise as `cancel`."""
        self.cancel_for(INTERRUPTED)

    def cancel_for(self, stop: Stop, *, only_running: bool = False) -> None:
        """Stops the run for a reason. With *only_running*, a run that was stopped before goes on with its cleanup."""
        self._stops.order_cancel(stop, only_running=only_running)

    def ending(self, *, goes_on: bool = False) -> Ending:
        """Returns its end for the queue. With *goes_on*, another run continues it."""
        errors = (error_line(task.name, task.error.exception, task.error.message) for task in self.tasks if task.error)
        asked = [question.id for question in self.questions]
        waits = None if self._ended is None else self._ended.waits
        is_lost = isinstance(self._error, ClusterLost)
        return Ending(self.state, self.reason, next(errors, ""), goes_on, asked, waits, is_lost)

    def restored_with_other_code(self) -> list[str]:
        """Returns the tasks that were restored though their code has changed since their values were made."""
        return self._checkpoints.restored_with_other_code()

    def _waiting(self) -> Stop:
        """Returns the pause of a run of which only tasks and items are left that wait for an approval."""
        from dotflow.core.approval import names_of  # here: few workflows ask

        return PAUSED._replace(reason=f"it waits for {names_of(self.questions)}", waits=TypeWait.ANSWER)

    def prepare(self) -> None:
        """Restores or voids the checkpoints, before anything runs. Either `execute` or `release` has to follow.

        A run of the queue waits there while its cluster is away: it raises ClusterLost.
        """
        asks = any(task.step.approve is not None for task in self._linked)
        if asks or any(map(is_durable, self._linked)):
            self._approvals = self._make_approvals()
            if asks:
                self._approvals.check()
        if self._options.rerun or self._options.only:
            self._chosen = chosen_tasks(self._options, self.tasks, self._plan, self._masks)
        if self._claimed is not None and self._providers.executor.is_remote:
            self._session = self._open_session()
        try:
            self._checkpoints.open(
                self.tasks,
                resume=self._options.resume,
                sources=self._plan.previous,
                params=self.params,
                chosen=self._chosen,
                chain=None if self._claimed is None else self._claimed.chain,
            )
            if self._claimed is not None:
                self._claimed.begin()
        except BaseException:  # Ctrl-C too
            self.release()
            raise

    def _open_session(self) -> ExecutorSession:
        """Returns the session that `prepare` has opened, or else a new one."""
        session, self._session = self._session, None
        return session or self._providers.executor.open(dict(enumerate(self.tasks)), lambda line: self._log_line(line))

    def _make_approvals(self) -> "Approvals":
        """Returns what asks for the approvals of its tasks, and the questions of its durable steps."""
        from dotflow.engine.approvals import Approvals  # here: few workflows ask
        from dotflow.engine.submission import NO_ID, queue_of

        def queue() -> "Operations":
            what = f"The tasks of {self.workflow_id!r} can't wait for an approval"
            if not self._is_named:
                raise NotServable(what, NO_ID)
            return queue_of(what, self._providers.history)

        option = None if self._archive is None else self._archive.option
        return Approvals(queue, self._checkpoints, self._masks, option)

    def release(self) -> None:
        """Releases what `prepare` has taken. Does nothing after `execute`."""
        self._checkpoints.close()
        if self._session is not None:
            self._session.close()

    def execute(self, recorded: Callable[[], None] | None = None) -> None:
        """Runs the workflow in the calling thread, once. Raises KeyboardInterrupt after an interrupt.

        *recorded* is called when the history has saved that the run has begun.
        """
        self.status = TypeStatus.IN_PROGRESS
        try:
            with clock.join():
                self._run_and_publish(recorded)
        except BaseException as error:  # for the waiters
            self._error = error
            raise
        finally:
            if self.status is TypeStatus.IN_PROGRESS:
                self.status, self.state = TypeStatus.FAILED, TypeRunState.FAILED
            try:
                self.release()
                if self._claimed is not None and self._claimed.is_alone:
                    self._claimed.end_alone(self.ending(), self._log_line)
            finally:
                self._end.set()

    def _run_and_publish(self, recorded: Callable[[], None] | None) -> None:
        providers, begins = self._providers, clock.monotonic()
        log_line = self._log_line
        tasks = dict(enumerate(self.tasks))
        notifier = None
        if not providers.notify.is_silent:
            note_sent = None if self._approvals is None else self._approvals.note_sent
            notifier = Notifier(providers.notify, providers.notify_grace, log_line, note_sent=note_sent)
        log, masks = None if providers.log.is_silent else providers.log, self._masks
        run_log = None
        if log is not None or notifier is not None:
            run_log = RunLog(tasks, log, None if notifier is None else notifier.send, log_line, masks)
            self._log_line = log_line = run_log.report
        cache = None
        if self._checkpoints.has_durable or any(map(is_cached, self._linked)):
            cache = self._checkpoints.cache = Cache(
                providers.cache,
                self._checkpoints.save,
                log_line,
                reads=self._options.cache,
                rerun={*self._chosen.rerun, *self._chosen.calls},
                shares_memory=providers.executor.shares_memory,
                digest_limit=providers.digest_limit,
            )
        save: Callable[[Task, Context], None] = self._checkpoints.save if cache is None else cache.save
        if run_log is not None and (cache is not None or not providers.saves_at_once):
            save = run_log.flushed_before(save)
        history = providers.history
        look = None
        if history is not None and has_queue(history):
            look = watch_orders(self._obey, history, self._check_claim, self._check_contact)
        publisher = Publisher(
            self.run_id,
            tasks,
            save,
            history=history,
            look=look,
            listeners=providers.listeners,
            tracer=providers.tracer,
            run_log=run_log,
            log_line=log_line,
            masks=masks,
        )
        self._started = self._start_event()
        is_complete = is_paused = False
        try:
            publisher.publish_run(self._started)
            if recorded is not None:
                publisher.settle(begins=True)
                recorded()
            if providers.executor.is_remote and providers.storage.is_local:
                warn_of_local(providers.storage, log_line)
            try:
                is_paused = self._make_runner(publisher, cache, begins, log_line, notifier).run(self._open_session)
            finally:
                self._stops.leave()
            if is_paused:
                self._stops.why = self._stops.pause or self._waiting()
            else:
                states = {task.status for task in self.tasks}
                is_complete = not self._stops.is_cancelled or states <= {COMPLETED, SKIPPED}
        except BaseException as error:  # an interrupt, or an error of dotflow itself
            self._stops.why = self._stops.why or stop_for(error)
            raise
        finally:
            failed = TypeStatus.FAILED in {task.status for task in self.tasks}
            self.status = TypeStatus.COMPLETED if is_complete and not failed else TypeStatus.FAILED
            self.state = TypeRunState(self.status) if is_complete or self._stops.why is None else self._stops.why.state
            if is_paused:
                self.status = TypeStatus.PAUSED
            elif self._is_out_of_time:  # maybe between two tasks
                failed = True
            try:
                try:
                    self._checkpoints.note_cleanups()
                    if self._checkpoints.files is not None:
                        with reading_until(lambda: self._stops.is_cancelled):
                            self._checkpoints.close_files()
                    if cache is not None:
                        cache.close()
                finally:
                    self._publish_end(publisher, run_log, notifier, failed, is_complete)
            finally:
                if notifier is not None:
                    notifier.close()

    def _start_event(self) -> RunStarted:
        """Returns the event of its beginning; without the tasks where no listener and no tracer receives it."""
        parent, providers, storage = current_attempt.get(), self._providers, self._providers.storage
        path = getattr(storage, "path", None)
        has_history = providers.history is not None
        is_followed = has_history or providers.tracer is not None or bool(providers.listeners)
        is_queues = self._claimed is not None and not self._claimed.is_alone  # which has its parameters already
        has_params = has_history and self._is_named and not is_queues
        return RunStarted(
            self.workflow_id,
            self.run_id,
            len(self.tasks),
            clock.now(),
            self.name,
            _planned(self.tasks, self._plan, has_code=has_history) if is_followed else (),
            mode=str(self._options.mode),
            resumed=self._checkpoints.goes_on and not self._chosen.anew,
            parent=parent,
            trigger="" if parent is not None else trigger.get(),
            storage=type(storage).__name__ if path is None else f"{type(storage).__name__}({path})",
            saved=functools.partial(_find_saved, storage, self.tasks) if storage.outlives_process else None,
            is_named=self._is_named,
            masks=self._masks,
            workflow=self._workflow,
            params=_params_text(self.params, self._masks, self._digests) if has_params else None,
            origin=self._checkpoints.origin,
            is_claimed=self._claimed is not None,
            goes_on=self._checkpoints.goes_on,
            files=NO_STATES if self._checkpoints.files is None else self._checkpoints.files.inputs,
        )

    def _publish_end(
        self, publisher: Publisher, run_log: RunLog | None, notifier: Notifier | None, failed: bool, is_complete: bool
    ) -> None:
        stop = None if is_complete else self._stops.why
        reason, waits = ("", None) if stop is None else (stop.reason, stop.waits)
        self._ended = RunEnded(self.workflow_id, self.run_id, self.status, clock.now(), self.state, reason, waits)
        # The command has a line of its own in its summary.
        if is_complete and run_log is not None and trigger.get() != "command" and (restored := nothing_ran(self.tasks)):
            run_log.note(f"{restored}." if trigger.get() else f"{restored}. {ANEW}")
        publisher.publish_run(self._ended)
        if self._approvals is not None and self._claimed is None and (asked := self.questions):
            self._approvals.settle(self.run_id, asked, self._log_line)
        # Where a run only waits for answers, the questions have been sent. One that was lost, or shut down, goes on.
        is_over = self._stops.why not in (LOST, SHUTDOWN, SHUTDOWN_NOW)
        is_sent = is_over and (self.state is not TypeRunState.PAUSED or self._stops.pause is not None)
        if notifier is not None and is_sent:
            label = self.workflow_id if self._is_named else self.name or ""
            notifier.send_run(RunMessage(self.run_id, label, self.status, self.state, self._message_text))
        if self.state is TypeRunState.PAUSED:
            return
        if failed and self._options.on_failure is not None:
            publisher.end("on_failure", self._options.on_failure, self.tasks)
        elif is_complete and not failed and self._options.on_success is not None:
            publisher.end("on_success", self._options.on_success, self.tasks)

    def _message_text(self) -> str:
        """Returns what people are sent about its end. It reads the history."""
        from dotflow.engine.run_message import message_text  # here: few runs send messages

        assert self._started is not None
        assert self._ended is not None
        text = message_text(self._started, self._ended, self.tasks, self._archive)
        return self._masks.mask(text)

    @property
    def _archive(self) -> "Archive | None":
        """The history, if it can be read; None for none."""
        from dotflow.abc.archive import Archive  # here: few runs read it

        history = self._providers.history
        return history if isinstance(history, Archive) else None

    def _make_runner(
        self,
        publisher: Publisher,
        cache: Cache | None,
        begins: float,
        log_line: Callable[..., None],
        notifier: Notifier | None,
    ) -> Runner:
        def alert(message: str) -> None:
            log_line(message)
            if notifier is not None:
                notifier.alert(message)

        graph = RunGraph(
            self.tasks,
            self._plan,
            self.params,
            self._checkpoints,
            keep_going=self._options.keep_going,
            cache=cache,
            secrets=self._providers.secrets,
            approvals=self._approvals,
            flush=publisher.flush,
            log_line=log_line,
        )
        session = self._open_session()
        try:
            seconds = self._options.timeout
            limiting = self._make_limiting(log_line, alert, publisher.record_call)
            limits = limiting, self._make_call_limits(log_line, alert) if self._checkpoints.has_durable else None
            if seconds is None:
                runner = Runner(graph, session, publisher, math.inf, int, *limits)
            else:
                out_of_time = functools.partial(self.cancel_for, timed_out(seconds), only_running=True)
                runner = Runner(graph, session, publisher, begins + seconds, out_of_time, *limits)
            self._stops.follow(runner)
        except BaseException:  # later, the runner closes it
            session.close()
            raise
        return runner

    def _make_limiting(
        self, log_line: Callable[..., None], alert: Callable[[str], None], tell: "Callable[[AttemptHeld], None]"
    ) -> "Limiting | None":
        """Returns what lets attempts wait for the limits of their steps; None where no step has one."""
        fallbacks = (handler.step for task in self._linked for handler in task.links.fallbacks)
        steps = [*(task.step for task in self.tasks), *fallbacks]
        limits = [limit for step in steps for limit in (*step.policy.limits, *step.policy.budgets)]
        is_ours = not self._providers.executor.offers_resources and any(step.resources for step in steps)
        if not limits and not is_ours:
            return None
        from dotflow.engine.limiting import Limiting  # here: few runs have limits

        store = self._providers.find_limits()
        if not store.is_shared and clock.source is None and any(limit.name for limit in limits):
            log_line("Without a history, limits count in this process alone: Config(history=...) shares them.")
        places = self._providers.find_places() if is_ours else None
        return Limiting(store, places, *self._shares, self._masks, log_line, alert, tell)

    def _make_call_limits(self, log_line: Callable[..., None], alert: Callable[[str], None]) -> "CallLimits":
        """Returns what asks for what the calls of durable steps need of their limits."""
        from dotflow.engine.call_limits import CallLimits  # here: few runs have durable steps

        return CallLimits(self._providers.find_limits, *self._shares, self._masks, log_line, alert)

    @property
    def _shares(self) -> tuple[str, str, int]:
        """What limits need to know of it: the run, the first one of its chain, and its priority."""
        priority = 0 if self._claimed is None else self._claimed.claim.priority
        return self.run_id, self._checkpoints.origin or self.run_id, priority

    def report(self, path: str | os.PathLike[str]) -> Path:
        """Writes the run as one HTML file, to look at or to mail: as a whole or not at all. Returns the path.

        The file has what the history knows of the run. Without a history, it lacks the output of the steps and the
        times of single attempts, and says so. Secrets are masked.

        Raises:
            OSError: The file can't be written.
        """
        from dotflow.records.run_record import NO_ARCHIVE, NO_HISTORY  # here: a run does not need them
        from dotflow.report.document import document
        from dotflow.report.page import write_page

        note = NO_HISTORY if self._providers.history is None else NO_ARCHIVE
        if (archive := self._archive) is not None:
            try:
                return archive.report(self.run_id, path)
            except HistoryError as error:
                note = str(error)
        return write_page(path, document(self._record(note), output={"output": None}))

    def _repr_html_(self) -> str:
        """Shows its state, its timeline and what failed in a notebook."""
        from dotflow.report.notebook import notebook_html  # here: only a notebook needs it

        return notebook_html(self._record(""))

    def _record(self, note: str) -> "RunRecord":
        from dotflow.records.run_record import run_record

        started = self._started or RunStarted(self.workflow_id, self.run_id, len(self.tasks), clock.now())
        return run_record(started, self._ended, self.state, self.tasks, self._plan, note)

    def __repr__(self) -> str:
        return f"<run {self.run_id} of {self.workflow_id}: {self.status}>"


def interrupt_and_wait(runs: Collection[Run], wait: Callable[[float | None], None]) -> None:
    """Stops runs as Ctrl-C does, and waits for their end. A second interrupt stops the tasks that clean up.

    Args:
        runs: The runs. Those that have ended may leave it meanwhile.
        wait: Waits for the end of all for at most some seconds; None for no limit.
    """
    begun = tuple(runs)
    for run in begun:
        run._interrupt()
    try:
        wait(None if any(run.cleans_up for run in begun) else CANCEL_GRACE)
    except KeyboardInterrupt:
        for run in tuple(runs):
            run._interrupt()
        wait(CANCEL_GRACE)
        raise


def _params_text(params: Params, masks: Masks, digests: Mapping[str, str]) -> str | None:
    """Returns run parameters as text of the codec; None where it can't keep them, or they have a secret.

    Of the secrets that the run was given it has digests: a run that continues it compares its own secrets with them.
    """
    if not params and not digests:
        return "{}"
    from dotflow.codec.json import encode  # here: most runs have none

    with contextlib.suppress(ValueNotStorable):
        text = encode({**params, DIGESTS: dict(digests)} if digests else dict(params))
        return text if masks.mask(text) == text else None
    return None


def _find_saved(storage: Storage, tasks: Sequence[Task], value: Any) -> Context | None:
    for task in tasks:
        if task._current is not None and task._current.storage is value:
            saved_context = storage.get(storage.key(task))
            if saved_context.time == task._current.time:
                return saved_context
    return None


def _planned(tasks: Sequence[Task], plan: Plan, *, has_code: bool) -> tuple[Planned, ...]:
    return tuple(
        Planned(
            task.name,
            task.group_name,
            lane,
            task.step.identity,
            plan.needs_of(task.task_id),
            task.step.policy,
            fingerprint(task.step) if has_code else "",
            CONTEXTS if isinstance(task.step.function, type) else tuple(task.step.context_params),
            rounds_of(task),
            levels_of(task),
        )
        for task, lane in zip(tasks, plan.lanes, strict=True)
    )


def warn_of_local(storage: Storage, log_line: Callable[..., None]) -> None:
    """Warns once for each storage that a resume on another machine does not find its checkpoints."""
    if storage not in _warned_of:
        _warned_of.add(storage)
        log_line(
            f"The steps run on a cluster, but {type(storage).__name__} keeps their checkpoints on this machine, where "
            f"another one can't resume them. Use a storage that all machines reach, or put its path on a shared disk."
        )
