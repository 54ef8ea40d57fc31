"""Server: takes wanted runs from the queue, runs them, and goes on with those whose process has ended."""

import contextlib
import os
import threading
from collections.abc import Collection, Sequence
from typing import Any, Final, Literal, Self, overload

from dotflow import clock
from dotflow.abc.history import History
from dotflow.abc.operations import LeftRun, QueueServer
from dotflow.abc.workflow import ServedWorkflow
from dotflow.core.attempt_id import triggered_by
from dotflow.engine.outage import Outage
from dotflow.engine.submission import queue_of, why_no_history
from dotflow.errors import HistoryError, InvalidArgument, NotInHistory, NotServable
from dotflow.providers.schedulers.runs import ShutdownSignals
from dotflow.records.environment import host_name
from dotflow.records.record import RunSummary
from dotflow.serving.alarms import Alarms
from dotflow.serving.duties import (
    Answers,
    Claiming,
    Claims,
    Duty,
    Machines,
    Neighbours,
    Pauses,
    Retention,
    TakeOvers,
)
from dotflow.serving.reports import Reports
from dotflow.serving.runs import Runs
from dotflow.serving.schedules import Schedules
from dotflow.serving.storages import Storages
from dotflow.worker.waiting import WakeupEvent

MAX_RUNS: Final = 4
POLL: Final = 0.05  # seconds between two looks for what other processes have written
TAKE_OVER: Final = 1.0  # seconds between two looks for processes that have ended
GRACE: Final = 20.0  # seconds of stop(); gunicorn ends a worker after 30: docs.gunicorn.org/en/stable/settings.html

NOTICE: Final = (
    b"dotflow: running steps end first, then the runs go back to the queue. Press Ctrl-C again to end the steps.\n"
)
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
        self._history = _shared_history(workflows)
        self._queue = queue_of("The workflows can't be served", self._history)
        self._workflows = {workflow.workflow_id: workflow for workflow in workflows}
        for workflow in workflows:
            workflow.check_servable(**options)
        self._reports = Reports(self._workflows)
        self._wakeup = WakeupEvent()
        self._runs = Runs(self._workflows, options, self._queue.declared, self._reports, self._wake, once=once)
        self._signals = ShutdownSignals(self.request_stop, NOTICE)
        fired = workflows if names is None else ()
        self._schedules = Schedules(fired, self._reports, self._signals, self._queue.now, once=once)
        self._names = names
        self._max_runs = max_runs
        self._once = once
        self.left: list[LeftRun] = []
        self._thread: threading.Thread | None = None
        self._process = os.getpid()
        self._error: BaseException | None = None

    @property
    def ended(self) -> list[str]:
        """With `once`, the ids of the runs that have ended here, in the order of their ends."""
        return self._runs.ended

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
            self._queue.declare([workflow.declared() for workflow in self._workflows.values()])
            if self._names is None:
                self._schedules.register(server)
            tasks = [task for one in self._workflows.values() if one.config.executor is None for task in one.task]
            if tasks:
                from dotflow.processes.forkserver import warm_up  # here: `from dotflow import *` needs no cloudpickle

                warm_up(tasks)
            for workflow in self._workflows.values():
                if not workflow.config.storage.outlives_process:
                    self._reports.report(f"{workflow.workflow_id!r}: {NOT_KEPT}")
            if (neighbours := server.neighbours()) is not None:
                others = len(neighbours)
                beside = f"{others} other server{'' if others == 1 else 's'}"
                self._reports.report(
                    f"Serves {', '.join(self._workflows)} on {server.location}, as {host_name()} ({beside})."
                )
            fired = () if self._names is not None else tuple(self._workflows.values())
            storages = Storages(fired, self._history, server, self._reports.report)
            with triggered_by("queue"), clock.join(), contextlib.closing(storages):
                self._serve(server, storages)
        finally:
            try:
                self._runs.end_all()
                while self._runs.active:
                    clock.wait(self._wakeup.wait, POLL, self._wakeup.set)
            finally:
                with contextlib.suppress(HistoryError):  # the next server removes what this one leaves
                    server.close()
                self._reports.close()

    def _serve(self, server: QueueServer, storages: Storages) -> None:
        runs, report = self._runs, self._reports.report
        alarms = Alarms(self._queue, self._reports)
        outage = Outage(report, "Nothing new begins until it can.", server.location, each_cause=True)
        seldom = [Duty(one.look, outage) for one in (storages, runs.ends)]
        on_news = [
            Duty(one.look, outage)
            for one in (
                TakeOvers(server, self._runs, self._reports),
                Answers(server, report),
                Neighbours(server, report),
                Machines(server, self._workflows, report),
                Pauses(self._queue, self._workflows, report),
                Retention(self._history, report),
            )
        ]
        firings, late = Duty(lambda: self._schedules.look(server), outage), Duty(alarms.look, outage)
        claims = Claims(server, self._workflows, runs, self._max_runs, self._names, self._reports)
        claiming = Claiming(claims.look, outage)
        others = (*seldom, *on_news, firings, late)
        look_at = 0.0
        is_idle, has_news = False, True
        while True:
            runs.look()
            if runs.has_left:  # another one may begin now
                runs.has_left = is_idle = False
            server.check()
            if clock.monotonic() >= look_at:
                look_at = clock.monotonic() + TAKE_OVER
                for duty in seldom:
                    duty.look()
                if has_news or clock.monotonic() >= claims.rest_until:
                    is_idle = False
                    looked = [duty.look() for duty in on_news]
                    has_news = not all(looked)
            if not runs.stops:
                firings.look()
            late.look()  # after the firings, which say why they were dropped
            if is_idle and not runs.stops and (any(duty.has_refusal() for duty in others) or server.has_news()):
                is_idle, has_news = False, True
                alarms.note_news()
            if not is_idle and not runs.stops:
                is_idle = claiming.look()
            for duty in others:
                duty.report()
            is_done = self._once and is_idle and not runs.waits and not server.may_take_over
            is_done = is_done and not self._schedules.is_due()
            has_written = not runs.ends or runs.stops > 1  # what is left, another server continues
            is_empty = not runs.active and not runs.has_left  # in this order
            if is_done and is_empty and not runs.stops:
                self.left = self._left(server)
                if self.left and server.has_news(at_once=True):  # one of them may begin by now
                    is_idle = False
                is_done = is_idle and not any(run.is_behind_hand for run in self.left)
            if is_empty and has_written and (runs.stops or is_done):
                return
            seconds = POLL
            if clock.source is not None and is_idle:  # in virtual time no other process writes
                moments = (server.next_due(), self._schedules.next(), alarms.next)
                first = min((moment for moment in moments if moment is not None), default=None)
                seconds = TAKE_OVER if first is None else max(0.0, (first - self._queue.now()).total_seconds())
            clock.wait(self._wakeup.wait, seconds, self._wakeup.set, recheck=TAKE_OVER)

    def _left(self, server: QueueServer) -> list[LeftRun]:
        """Returns what is due, and can't begin."""
        left = server.left({workflow_id: workflow.max_runs for workflow_id, workflow in self._workflows.items()})
        return [run for run in left if self._names is None or run.name in self._names]

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
            self._reports.report("The server has ended", error)

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
        self._runs.stops += 1
        self._wake()

    def _wake(self) -> None:
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
