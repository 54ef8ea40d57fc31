"""Server: takes wanted runs from the queue, runs them, and goes on with those whose process has ended."""

import contextlib
import contextvars
import os
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, Literal, Self, overload

from dotflow import clock
from dotflow.abc.history import History
from dotflow.abc.operations import MAX_TRIES, Ending, LeftRun, QueueServer, RunLost, WorkflowPause
from dotflow.abc.workflow import ServedWorkflow, Superseded
from dotflow.core.attempt_id import triggered_by
from dotflow.core.masks import Masks, environment_masks
from dotflow.core.types.run_state import TypeRunState
from dotflow.engine.claimed import ClaimedRun, superseded_by
from dotflow.engine.notifier import Notifier
from dotflow.engine.run import Run
from dotflow.engine.run_log import log_line_of
from dotflow.engine.stop import SHUTDOWN, SHUTDOWN_NOW
from dotflow.engine.submission import find_secret, queue_of, why_no_history
from dotflow.errors import (
    DotflowError,
    HistoryError,
    InvalidArgument,
    NotInHistory,
    NotServable,
    StorageError,
    WorkflowBusy,
)
from dotflow.providers.schedulers.runs import ShutdownSignals
from dotflow.records.record import RunSummary
from dotflow.serving.alarms import Alarms
from dotflow.serving.schedules import Schedules
from dotflow.worker.waiting import WakeupEvent

MAX_RUNS: Final = 4
POLL: Final = 0.05  # seconds between two looks for what other processes have written
TAKE_OVER: Final = 1.0  # seconds between two looks for processes that have ended
RETRY: Final = 5.0  # seconds until a write that failed is tried again
BUSY_DELAY: Final = 1.0  # seconds until a run is tried again whose name runs elsewhere
LATER: Final = 30.0  # the same from the second time on, and for a storage that can't be used
GRACE: Final = 20.0  # seconds of stop(); gunicorn ends a worker after 30: docs.gunicorn.org/en/stable/settings.html

NOTICE: Final = (
    b"dotflow: running steps end first, then the runs go back to the queue. Press Ctrl-C again to end the steps.\n"
)
SCHEDULED: Final = "`dotflow schedule` promises nothing over restarts, and the queue does not count its scheduled runs."
NOT_KEPT: Final = "its storage ends with this process, so a run whose process is killed begins anew."
ELSEWHERE: Final = "it to submit() or to Control(), for one run"
#: Arguments of `start` that a server refuses -> where they belong.
REFUSED: Final = {**dict.fromkeys(("params", "resume", "rerun"), ELSEWHERE), "only": "it to start(), for one run"}


class Server:
    """Serves workflows, in the thread that calls `run`, or in one of its own from `start` to `stop`.

    Args:
        workflows: The workflows, of one history.
        max_runs: The maximum number of runs at once in this process.
        once: Whether it ends when nothing that is due can be taken, and its own runs have ended. It waits for runs by
            hand that are in the way of one. Firings that come due after its start wait for the next server.
        names: It takes only runs of these names, and fires no schedule; None for all.
        options: Arguments of `start` for all runs.

    Attributes:
        ended: With `once`, the ids of the runs that have ended here, in the order of their ends.
        left: With `once`, the runs that are due and could not begin, when it ended.

    Raises:
        NotServable: A workflow has no `workflow_id`, or no history with a queue; or they have several histories.
        InvalidArgument, UnknownArgument: As in `start`.
    """

    def __init__(
        self,
        workflows: Sequence[ServedWorkflow],
        max_runs: int = MAX_RUNS,
        *,
        once: bool = False,
        names: Collection[str] | None = None,
        options: dict[str, Any],
    ) -> None:
        if type(max_runs) is not int or max_runs < 1:
            raise InvalidArgument("max_runs", max_runs, "a number of runs, 1 or more")
        for name, accepted in REFUSED.items():
            if name in options:
                raise InvalidArgument(name, options[name], accepted)
        self._queue = queue_of("The workflows can't be served", _shared_history(workflows))
        self._workflows = {workflow.workflow_id: workflow for workflow in workflows}
        self._known: Masks = environment_masks()  # and the secrets of its workflows
        for workflow in workflows:
            workflow.check_servable(**options)
            self._known |= workflow.masks()
        self._log = workflows[0].config.log
        self._signals = ShutdownSignals(self.request_stop, NOTICE)
        fired = workflows if names is None else ()
        self._schedules = Schedules(fired, self._report, self._alert, self._signals, once=once)
        self._names = names
        self._max_runs = max_runs
        self._once = once
        self._options = options
        self.ended: list[str] = []
        self.left: list[LeftRun] = []
        self._active: dict[str, ClaimedRun] = {}
        self._runs: dict[str, Run] = {}  # those of them that have begun
        self._has_left = False  # whether one of these has ended since the last look
        self._unwritten: list[Callable[[], object]] = []  # what the history has refused at the end of a run
        self._stops = self._heeded = 0  # how often it was asked to stop; how often it has heeded that
        self._wakeup = WakeupEvent()
        self._thread: threading.Thread | None = None
        self._process = os.getpid()
        self._error: BaseException | None = None
        self._troubles: dict[str, tuple[str, float]] = {}  # what failed: why, and when it is tried again
        self._scheduled: set[str] = set()  # workflows whose own schedule was reported
        self._pauses: Mapping[str, WorkflowPause] = {}  # those of its workflows that were reported
        self._waits: dict[str, int] = {}  # how often a run was put back that is still in the queue
        self._notifiers: dict[int, Notifier] = {}  # by the id of the provider
        self._alarms = Alarms(self._queue, self._alert, self._report)

    def run(self) -> None:
        """Serves until `stop`, or with `once` until nothing is left. Raises HistoryError if the history is lost."""
        self._run(self._open())

    def run_here(self) -> list[RunSummary]:
        """Serves as `run`, with the signals of this process. Returns the runs that have ended, with `once`."""
        with self._signals as signals:
            signals.parallel = 1
            self.run()
        ended: list[RunSummary] = []
        for run in dict.fromkeys(self.ended):
            with contextlib.suppress(NotInHistory):  # it was forgotten
                ended.append(self._queue.newest(run))
        return ended

    def _open(self) -> QueueServer:
        return self._queue.open_server(list(self._workflows), self._wakeup.set)

    def _run(self, server: QueueServer) -> None:
        try:
            self._declare()
            if self._names is None:
                self._schedules.register(server)
            tasks = [task for one in self._workflows.values() if one.config.executor is None for task in one.task]
            if tasks:
                from dotflow.processes.forkserver import warm_up  # here: `from dotflow import *` needs no cloudpickle

                warm_up(tasks)
            for workflow in self._workflows.values():
                if not workflow.config.storage.outlives_process:
                    self._report(f"{workflow.workflow_id!r}: {NOT_KEPT}")
            with triggered_by("queue"), clock.join():
                self._serve(server)
        finally:
            try:
                self._end_all()
            finally:
                with contextlib.suppress(HistoryError):  # the next server removes what this one leaves
                    server.close()
                for notifier in self._notifiers.values():
                    notifier.close()

    def _serve(self, server: QueueServer) -> None:
        look_at = 0.0
        is_idle = False
        while True:
            self._heed_stops()
            if self._has_left:  # another one may begin now
                self._has_left = is_idle = False
            server.check()
            if clock.monotonic() >= look_at:
                look_at = clock.monotonic() + TAKE_OVER
                is_idle = False
                self._try("take-over", lambda: self._take_over(server))
                self._try("questions", lambda: self._end_waits(server))
                self._try("schedules", lambda: self._report_schedules(server))
                self._try("pauses", self._report_pauses)
                self._try("ends", self._write_ends)
            if not self._stops:
                self._try("firings", lambda: self._fire(server))
            self._try("alarms", self._alarms.look)  # after the firings, which say why they were dropped
            if not self._stops and (not is_idle or server.has_news()):
                is_idle = self._try("claims", lambda: self._take(server))
            is_done = self._once and is_idle and not self._waits and not server.may_take_over()
            is_done = is_done and not self._schedules.is_due()
            has_written = not self._unwritten or self._stops > 1  # what is left, another server continues
            is_empty = not self._active and not self._has_left  # in this order
            if is_done and is_empty and not self._stops:
                self.left = self._left(server)
                if self.left and server.has_news():  # one of them may begin by now
                    is_idle = False
                is_done = is_idle and not any(run.is_behind_hand for run in self.left)
            if is_empty and has_written and (self._stops or is_done):
                return
            self._wait(server, is_idle)

    def _left(self, server: QueueServer) -> list[LeftRun]:
        """Returns what is due, and can't begin."""
        left = server.left({workflow_id: workflow.max_runs for workflow_id, workflow in self._workflows.items()})
        return [run for run in left if self._names is None or run.name in self._names]

    def _wait(self, server: QueueServer, is_idle: bool) -> None:
        seconds = POLL
        if clock.source is not None and is_idle:  # in virtual time no other process writes
            moments = (server.next_due(), self._schedules.next(), self._alarms.next)
            first = min((moment for moment in moments if moment is not None), default=None)
            seconds = TAKE_OVER if first is None else max(0.0, (first - clock.now()).total_seconds())
        clock.wait(self._wakeup.wait, seconds, self._wakeup.set, recheck=TAKE_OVER)

    def _take(self, server: QueueServer) -> None:
        """Takes runs while there is room, and any that may begin."""
        for run, wanted in server.unnamed():
            workflow = self._workflows[wanted.workflow]
            try:
                server.name(run, *workflow.name_submission(wanted))
            except Exception as error:  # of its definition, or of what the queue has
                if find_secret(wanted.params, wanted.key or "", self._known):
                    server.conceal(run, wanted.workflow)
                server.name(run, None, error=self._text_of(error))
        while len(self._active) < self._max_runs and not self._stops:
            most = {workflow_id: workflow.max_runs for workflow_id, workflow in self._workflows.items()}
            busy = [claimed.claim.name for claimed in tuple(self._active.values())]
            claim = server.claim(most, busy, self._names)
            if claim is None:
                return
            self._begin(ClaimedRun(server, claim))

    def _begin(self, claimed: ClaimedRun) -> None:
        """Begins a run in a thread of its own: a storage that is slow, or hangs, keeps no other run waiting."""
        self._active[claimed.claim.run_id] = claimed
        participant = clock.join()

        def work() -> None:
            with participant:
                self._launch(claimed)

        try:
            threading.Thread(
                target=contextvars.copy_context().run, args=(work,), name="dotflow-begin", daemon=True
            ).start()
        except RuntimeError as error:  # too many threads
            with participant:
                self._put_back(claimed, error, LATER)
                self._leave(claimed)

    def _launch(self, claimed: ClaimedRun) -> None:
        claim = claimed.claim

        def begin(run: Run) -> None:
            self._runs[claim.run_id] = run
            self._waits.pop(claim.run_id, None)
            self._heed(run)

        try:
            workflow = self._workflows[claim.workflow]
            if (refused := find_secret(claim.params, claim.name, self._known)) is not None:
                claimed.conceal(self._known.mask_id(claim.name))
                claim = claimed.claim
                raise refused
            workflow.launch_claimed(claimed, begin, lambda: self._on_end(claimed), **self._options)
        except WorkflowBusy as error:
            self._put_back(claimed, error, BUSY_DELAY)
        except Superseded as error:
            why = f"the run {error} has replaced its values"
            self._alert(claim.workflow, f"The run {claim.run_id} of {claim.name!r} ends unfinished: {why}.")
            self._end(claimed, superseded_by(error))
        except (StorageError, HistoryError, OSError) as error:
            self._put_back(claimed, error, LATER)
        except BaseException as error:  # of its definition, or of dotflow itself
            if not isinstance(error, DotflowError):
                self._report(f"The run {claim.run_id} of {claim.name!r} could not begin", error)
            self._end(claimed, Ending(TypeRunState.FAILED, error=self._text_of(error)))
        else:
            return
        self._leave(claimed)

    def _leave(self, claimed: ClaimedRun) -> None:
        """Makes room for the next run."""
        self._has_left = True
        self._runs.pop(claimed.claim.run_id, None)
        del self._active[claimed.claim.run_id]
        clock.about_to_wake(self._wakeup.set)
        self._wakeup.set()

    def _put_back(self, claimed: ClaimedRun, error: Exception, delay: float) -> None:
        claim = claimed.claim
        count = self._waits[claim.run_id] = self._waits.get(claim.run_id, 0) + 1
        if count == 1:
            self._report(f"The run {claim.run_id} of {claim.name!r} waits: {error}")
        if claimed.has_begun:
            self._end(claimed, Ending(TypeRunState.INTERRUPTED, self._known.mask(str(error)), goes_on=True))
        else:
            self._write(lambda: claimed.put_back(delay if count == 1 else LATER), claim.run_id)

    def _on_end(self, claimed: ClaimedRun) -> None:
        """Called at the end of a run, in its thread."""
        run = self._runs[claimed.claim.run_id]
        goes_on = bool(self._stops) and run.state not in (TypeRunState.COMPLETED, TypeRunState.FAILED)
        self._end(claimed, run.ending(goes_on=goes_on))
        self._leave(claimed)

    def _end(self, claimed: ClaimedRun, ending: Ending) -> None:
        claim = claimed.claim

        def end() -> None:
            state = claimed.end(ending)
            self._waits.pop(claim.run_id, None)
            if self._once:
                self.ended.append(claim.run_id)
            if state is None:
                self._report(f"The run {claim.run_id} of {claim.name!r} was another process's at its end.")

        self._write(end, claim.run_id)

    def _write(self, work: Callable[[], object], run_id: str) -> None:
        """Writes how a run has left this process: now, or when the history accepts it."""
        try:
            work()
        except RunLost as error:
            self._waits.pop(run_id, None)
            self._report(str(error))
        except HistoryError as error:
            self._unwritten.append(work)
            self._report(f"The end of the run {run_id} waits: {error}")

    def _write_ends(self) -> None:
        while self._unwritten:
            with contextlib.suppress(RunLost):
                self._unwritten[0]()
            self._unwritten.pop(0)

    def _take_over(self, server: QueueServer) -> None:
        for taken in server.take_over():
            what = f"The process of the run {taken.run_id} of {taken.title!r} has ended"
            if taken.state is TypeRunState.FAILED:
                self._alert(taken.workflow, f"{what} {MAX_TRIES} times before anything was saved: it is given up.")
            else:
                then = f"{taken.continued_by} continues it" if taken.continued_by else f"it is {taken.state} now"
                self._report(f"{what}: {then}.")

    def _end_waits(self, server: QueueServer) -> None:
        for run_id in server.end_waits():
            self._report(f"A question is answered, or the time for an answer is up: the run {run_id} is queued.")

    def _fire(self, server: QueueServer) -> None:
        try:
            self._schedules.fire(server)
        except KeyboardInterrupt:  # the second signal has ended a function that hangs: its firing remains undecided
            if self._stops < 2:
                raise

    def _report_schedules(self, server: QueueServer) -> None:
        for workflow in set(server.scheduled_elsewhere()) - self._scheduled:
            self._scheduled.add(workflow)
            self._report(f"A schedule of its own runs {workflow!r}, too: {SCHEDULED}")

    def _report_pauses(self) -> None:
        pauses = {one: pause for one, pause in self._queue.pauses().items() if one in self._workflows}
        for workflow in pauses.keys() - self._pauses.keys():
            self._report(f"The workflow {workflow!r} is {pauses[workflow]}. Its runs wait in the queue.")
        for workflow in self._pauses.keys() - pauses.keys():
            self._report(f"The workflow {workflow!r} goes on: resumed by {self._queue.resumed_by(workflow)}.")
        self._pauses = pauses

    def _declare(self) -> None:
        self._queue.declare([workflow.declared() for workflow in self._workflows.values()])

    def _heed_stops(self) -> None:
        while self._heeded < min(self._stops, 2):
            self._heeded += 1
            self._heed_all()

    def _heed_all(self) -> None:
        for run in tuple(self._runs.values()):
            self._heed(run)

    def _heed(self, run: Run) -> None:
        """Ends a run as the signals that have been heeded say; one that is about to begin is ended then."""
        if self._heeded == 1:
            run.pause_for(SHUTDOWN)
        elif self._heeded > 1:
            run.cancel_for(SHUTDOWN_NOW)

    def _end_all(self) -> None:
        """Ends the runs and waits for them, after an error of the loop; they go back to the queue."""
        self._stops = self._stops or 1
        self._heeded = 2
        self._heed_all()
        while self._active:
            clock.wait(self._wakeup.wait, POLL, self._wakeup.set)

    def _try(self, what: str, work: Callable[[], object]) -> bool:
        """Does what the history may refuse; returns whether it did. A refusal is reported once, and holds for RETRY."""
        before, again_at = self._troubles.get(what, ("", 0.0))
        if clock.monotonic() < again_at:
            return False
        try:
            work()
        except HistoryError as error:
            self._troubles[what] = str(error), clock.monotonic() + RETRY
            if str(error) != before:
                self._report(f"{error} The server takes no run until it can." if what == "claims" else str(error))
            return False
        self._troubles.pop(what, None)
        return True

    def _alert(self, workflow_id: str, message: str) -> None:
        """Reports what people should know at once: in the log, and through the notifier of the workflow.

        That of the first workflow sends it where the workflow is another server's.
        """
        message = self._known.mask(message)
        self._report(message)
        config = self._workflows.get(workflow_id, next(iter(self._workflows.values()))).config
        if not config.notify.is_silent:
            notifier = self._notifiers.get(id(config.notify))
            if notifier is None:
                log_line = log_line_of(config.log)
                notifier = Notifier(config.notify, config.notify_grace, log_line, sender="server")
                self._notifiers[id(config.notify)] = notifier
            notifier.alert(message)

    def _report(self, message: str, error: BaseException | None = None) -> None:
        log_line_of(self._log, self._known)(message, error)

    def _text_of(self, error: BaseException) -> str:
        return self._known.mask(f"{type(error).__name__}: {error}")

    def start(self) -> Self:
        """Serves in a thread of its own, until `stop`. Raises what the history refuses."""
        self._check_process()
        server = self._open()  # here: from now on, submissions find the workflows served
        self._thread = threading.Thread(target=self._run_in_thread, args=(server,), name="dotflow-serve", daemon=True)
        self._thread.start()
        return self

    def _run_in_thread(self, server: QueueServer) -> None:
        try:
            self._run(server)
        except BaseException as error:  # for `stop`
            self._error = error
            self._report("The server has ended", error)

    def stop(self, grace: float = GRACE) -> None:
        """Ends the server: its runs end after their running steps, and go back to the queue.

        Args:
            grace: Seconds after which the running steps are ended.

        Raises:
            HistoryError: The history was lost while it was served.
        """
        self._check_process()
        self.request_stop()
        if self._thread is not None:
            self._thread.join(grace)
            if self._thread.is_alive():
                self.request_stop()
                self._thread.join()
        if self._error is not None:
            raise self._error

    def request_stop(self) -> None:
        """Asks it to end, from any thread or signal handler; the second time its steps end, too."""
        self._stops += 1
        clock.about_to_wake(self._wakeup.set)
        self._wakeup.set()

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            reason = "it was made before a fork, and its runs are the other process's. Start it after the fork"
            raise NotServable("The server can't be used in this process", reason)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


@overload
def serve(
    *workflows: ServedWorkflow, max_runs: int = ..., once: bool = ..., wait: Literal[True] = ..., **start_arguments: Any
) -> list[RunSummary]: ...
@overload
def serve(
    *workflows: ServedWorkflow, max_runs: int = ..., once: bool = ..., wait: Literal[False], **start_arguments: Any
) -> Server: ...
def serve(
    *workflows: ServedWorkflow, max_runs: int = MAX_RUNS, once: bool = False, wait: bool = True, **start_arguments: Any
) -> list[RunSummary] | Server:
    """Runs what is queued and due, until SIGINT or SIGTERM.

    Any number of processes may serve the same workflows: each run is taken once. Where a process is killed, another one
    continues its runs: no finished step runs again. The first signal lets the running steps end; their runs go back to
    the queue. The second one ends the steps, too. Steps run in processes, unless the Config has an executor.

    A `Config(scheduler=SchedulerCron(...))` is fired: each moment has one run over all processes, and firings that were
    missed are made up for as its `catch_up` says.

    Args:
        *workflows: The workflows. They have a `workflow_id`, and one history with a queue.
        max_runs: The maximum number of runs at once in this process.
        once: Whether to return when nothing that is due can be taken, and the runs of this process have ended. It also
            waits for a run by hand whose name a run has that is due. Firings that come due after its start wait for the
            next process.
        wait: With False, it serves in a thread, handles no signal, and returns a `Server` at once.
        **start_arguments: Arguments of `start` for all runs, such as `keep_going` or `timeout`.

    Returns:
        With `once` the runs that have ended here, else an empty list; or the Server.

    Raises:
        NotServable: A workflow has no `workflow_id`, or no history with a queue; or they have several histories.
        InvalidArgument, UnknownArgument: As in `start`.
        MissingParam, UnknownParam: The parameters of a schedule are not those of its workflow.
        HistoryError: The history can't be used, or was deleted or replaced.
    """
    server = Server(workflows, max_runs, once=once, options=start_arguments)
    if not wait:
        return server.start()
    return server.run_here()


def serve_names(workflow: ServedWorkflow, names: Collection[str], max_runs: int, **options: Any) -> list[RunSummary]:
    """Runs what is queued of a workflow under these names, as `serve` with `once`, and fires no schedule."""
    return Server([workflow], max_runs, once=True, names=names, options=options).run_here()


def _shared_history(workflows: Sequence[ServedWorkflow]) -> History:
    """Returns the one history of workflows, which those without one get. Raises NotServable."""
    if not workflows:
        raise InvalidArgument("workflows", (), "at least one workflow")
    for workflow in workflows:
        if not hasattr(workflow, "check_servable"):
            raise InvalidArgument("workflows", workflow, "workflows, such as DotFlow objects")
    found: list[History] = [one.config.history for one in workflows if one.config.history is not None]
    histories = {history.store: history for history in found}
    if not histories:
        raise NotServable(f"The workflow {workflows[0].workflow_id!r} can't be served", why_no_history())
    first, *others = histories.values()
    reason = ""
    if others:
        reason = f"they have several histories, {first!r} and {others[0]!r}. Serve each one in a process of its own"
    by_id = {workflow.workflow_id: workflow for workflow in workflows}
    for workflow in workflows:
        if by_id[workflow.workflow_id] is not workflow:
            reason = f"two of them have the workflow_id {workflow.workflow_id!r}. Give each its own"
    if reason:
        raise NotServable("The workflows can't be served together", reason)
    (history,) = histories.values()
    for workflow in workflows:
        workflow.config.history = workflow.config.history or history
    return history
