"""Runs: the runs that a server has taken, from their claims until their ends are in the history."""

import contextlib
import contextvars
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

from dotflow import clock
from dotflow.abc.history import HistoryUnavailable
from dotflow.abc.operations import MAX_TRIES, Ending, Order, RunLost
from dotflow.abc.workflow import ServedWorkflow, Superseded
from dotflow.core.types.run_state import TypeRunState
from dotflow.engine.claimed import ClaimedRun, superseded_by
from dotflow.engine.orders import watch_orders
from dotflow.engine.run import Run
from dotflow.engine.stop import SHUTDOWN, SHUTDOWN_NOW
from dotflow.engine.submission import find_secret
from dotflow.errors import (
    ClusterLost,
    DotflowError,
    HistoryError,
    InvalidArgument,
    MissingParam,
    NotServable,
    StorageError,
    UnknownParam,
    WorkflowBusy,
)
from dotflow.serving.reports import Reports
from dotflow.worker.files import ReadingEnded, reading_until

BUSY_DELAY: Final = 1.0  # seconds until a run is tried again whose name runs elsewhere
GIVEN_UP: Final = f"{MAX_TRIES} times before anything was saved: it is given up."
ANEW: Final = "was declared with other parameters by a newer server"
LATER: Final = 30.0  # the same from the second time on, and for a storage or a cluster that can't be used


class Ends:
    """Writes how runs have left this process: now, or when the history accepts it."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._unwritten: list[tuple[str, Callable[[], object]]] = []

    def __len__(self) -> int:
        """The number of those that the history has refused."""
        return len(self._unwritten)

    def runs(self) -> list[str]:
        """Returns the ids of the runs of which they are."""
        return [run_id for run_id, _ in tuple(self._unwritten)]

    def write(self, work: Callable[[], object], run_id: str) -> bool:
        """Writes one. Returns False where the run is another process's."""
        try:
            work()
        except RunLost as error:
            self._report(str(error))
            return False
        except HistoryError as error:
            self._unwritten.append((run_id, work))
            self._report(f"The end of the run {run_id} waits: {error}")
        return True

    def look(self) -> None:
        """Writes those that the history has refused. Raises HistoryError if it still does."""
        while self._unwritten:
            with contextlib.suppress(RunLost):
                self._unwritten[0][1]()
            self._unwritten.pop(0)


class Runs:
    """The runs that this process has taken.

    Args:
        workflows: The workflows by id.
        options: Arguments of `start` for all runs.
        declared: Returns the parameters of a workflow as the history has them.
        reports: What people should know.
        wake: Wakes the loop.
        once: Whether it keeps the ids of those that have ended.

    Attributes:
        active: Those that have not left this process, by id.
        begun: Those of them that have begun.
        waits: How often a run was put back that is still in the queue.
        ended: With `once`, the ids of those that have ended here, in the order of their ends.
        ends: Writes their ends.
        stops: How often they were asked to stop.
        heeded: How often they have heeded that.
        has_left: Whether one of them has ended since the loop has looked.
    """

    def __init__(
        self,
        workflows: Mapping[str, ServedWorkflow],
        options: dict[str, Any],
        declared: Callable[[str], str | None],
        reports: Reports,
        wake: Callable[[], None],
        *,
        once: bool,
    ) -> None:
        self._workflows = workflows
        self._options = options
        self._declared = declared
        self._reports = reports
        self._wake = wake
        self._once = once
        self.active: dict[str, ClaimedRun] = {}
        self.begun: dict[str, Run] = {}
        self.waits: dict[str, int] = {}
        self.ended: list[str] = []
        self.ends = Ends(reports.report)
        self.stops = self.heeded = 0
        self.has_left = False

    def names(self) -> list[str]:
        """Returns the names that run here."""
        return [claimed.claim.name for claimed in tuple(self.active.values())]

    def held(self) -> set[str]:
        """Returns the ids of those that are here, and of those whose end is not written."""
        return {*tuple(self.active), *self.ends.runs()}

    def begin(self, claimed: ClaimedRun) -> None:
        """Begins a run in a thread of its own: a storage that is slow, or hangs, keeps no other run waiting."""
        self.active[claimed.claim.run_id] = claimed
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

    def look(self) -> None:
        """Heeds the stops that have come: after the first one the runs pause, after the second one they are ended."""
        while self.heeded < min(self.stops, 2):
            self.heeded += 1
            self._heed_all()

    def end_all(self) -> None:
        """Ends the runs after an error of the loop; they go back to the queue."""
        self.stops = self.stops or 1
        self.heeded = 2
        self._heed_all()

    def _heed_all(self) -> None:
        for run in tuple(self.begun.values()):
            self._heed(run)

    def _heed(self, run: Run) -> None:
        """Ends a run as the stops that have been heeded say; one that is about to begin is ended then."""
        if self.heeded == 1:
            run.pause_for(SHUTDOWN)
        elif self.heeded > 1:
            run.cancel_for(SHUTDOWN_NOW)

    def _launch(self, claimed: ClaimedRun) -> None:
        claim, reports = claimed.claim, self._reports

        def begin(run: Run) -> None:
            self.begun[claim.run_id] = run
            self.waits.pop(claim.run_id, None)
            self._heed(run)

        refused = None
        try:
            workflow = self._workflows[claim.workflow]
            if (refused := find_secret(claim.params, claim.name, reports.masks)) is not None:
                claimed.conceal(reports.masks.mask_id(claim.name))
                claim = claimed.claim
                raise refused
            with reading_until(self._stopping(claim.run_id, workflow)):
                workflow.launch_claimed(claimed, begin, lambda: self._on_end(claimed), **self._options)
        except ReadingEnded:
            reports.report(f"The run {claim.run_id} of {claim.name!r} was stopped while its files were read.")
            self._write(lambda: claimed.put_back(0.0), claim.run_id)
        except WorkflowBusy as error:
            self._put_back(claimed, error, BUSY_DELAY)
        except Superseded as error:
            why = f"the run {error} has replaced its values"
            reports.alert(claim.workflow, f"The run {claim.run_id} of {claim.name!r} ends unfinished: {why}.")
            self._end(claimed, superseded_by(error))
        except (StorageError, HistoryError, ClusterLost, OSError) as error:
            self._put_back(claimed, error, LATER)
        except (UnknownParam, MissingParam, InvalidArgument) as error:
            if refused is None and self._is_declared_anew(claim.workflow):
                anew = NotServable(f"This server can't run it ({reports.text_of(error)})", f"{claim.workflow!r} {ANEW}")
                self._put_back(claimed, anew, LATER)
            else:
                self._end(claimed, Ending(TypeRunState.FAILED, error=reports.text_of(error)))
        except BaseException as error:  # of its definition, or of dotflow itself
            if not isinstance(error, DotflowError):
                reports.report(f"The run {claim.run_id} of {claim.name!r} could not begin", error)
            self._end(claimed, Ending(TypeRunState.FAILED, error=reports.text_of(error)))
        else:
            return
        self._leave(claimed)

    def _is_declared_anew(self, workflow_id: str) -> bool:
        """Returns whether the parameters of a workflow are others in the history than in this process."""
        with contextlib.suppress(HistoryError):
            return self._declared(workflow_id) != self._workflows[workflow_id].declared().params
        return False

    def _stopping(self, run_id: str, workflow: ServedWorkflow) -> Callable[[], bool]:
        """Returns what says whether a run that is about to begin, and reads files for it, has to leave this process."""
        ordered: list[Order] = []
        history = workflow.config.history
        assert history is not None, "a server has one"
        look = watch_orders(ordered.append, history, lambda: None, lambda: None)

        def is_stopping() -> bool:
            with contextlib.suppress(HistoryUnavailable):  # the server reports it
                look(run_id, False)
            return bool(self.stops or ordered)

        return is_stopping

    def _leave(self, claimed: ClaimedRun) -> None:
        """Makes room for the next run."""
        self.has_left = True
        self.begun.pop(claimed.claim.run_id, None)
        del self.active[claimed.claim.run_id]
        self._wake()

    def _put_back(self, claimed: ClaimedRun, error: Exception, delay: float) -> None:
        claim = claimed.claim
        count = self.waits[claim.run_id] = self.waits.get(claim.run_id, 0) + 1
        if count == 1:
            self._reports.report(f"The run {claim.run_id} of {claim.name!r} waits: {error}")
        if claimed.has_begun:
            self._end(claimed, Ending(TypeRunState.INTERRUPTED, self._reports.masks.mask(str(error)), goes_on=True))
        else:
            self._write(lambda: claimed.put_back(delay if count == 1 else LATER), claim.run_id)

    def _on_end(self, claimed: ClaimedRun) -> None:
        """Called at the end of a run, in its thread."""
        run = self.begun[claimed.claim.run_id]
        goes_on = bool(self.stops or claimed.was_cut_off) and run.state not in (
            TypeRunState.COMPLETED,
            TypeRunState.FAILED,
        )
        self._end(claimed, run.ending(goes_on=goes_on))
        self._leave(claimed)

    def _end(self, claimed: ClaimedRun, ending: Ending) -> None:
        claim = claimed.claim

        def end() -> None:
            state = claimed.end(ending)
            self.waits.pop(claim.run_id, None)
            if self._once:
                self.ended.append(claim.run_id)
            run = f"The run {claim.run_id} of {claim.name!r}"
            if state is None:
                self._reports.report(f"{run} was another process's at its end.")
            elif ending.is_lost and state is TypeRunState.FAILED:
                self._reports.alert(claim.workflow, f"{run} has lost its cluster {GIVEN_UP}")
            elif ending.is_lost and state is TypeRunState.CRASHED:
                self._reports.report(f"{run} has lost its cluster. Another one goes on when that is back.")

        self._write(end, claim.run_id)

    def _write(self, work: Callable[[], object], run_id: str) -> None:
        if not self.ends.write(work, run_id):
            self.waits.pop(run_id, None)
