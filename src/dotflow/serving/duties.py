"""The duties of a server: each is an object whose `look` its loop calls."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from dotflow import clock
from dotflow.abc.history import History
from dotflow.abc.operations import Claim, HistoryReplaced, Operations, QueueServer, TakenOver, WorkflowPause
from dotflow.abc.workflow import ServedWorkflow
from dotflow.core.durations import format_duration
from dotflow.core.types.run_state import TypeRunState
from dotflow.engine.claimed import ClaimedRun
from dotflow.engine.outage import Outage
from dotflow.engine.submission import find_secret
from dotflow.errors import HistoryError
from dotflow.providers.storages.file import StorageFile
from dotflow.providers.storages.sqlite import StorageSQLite
from dotflow.records.environment import host_name
from dotflow.serving.reports import Reports
from dotflow.serving.runs import GIVEN_UP, Runs

DAY: Final = 86_400.0  # seconds
RETRY: Final = 5.0  # seconds until what the history has refused is tried again

CLAIMS: Final = "claims"

LOCAL: Final = (StorageFile, StorageSQLite)
ON_ONE: Final = (
    "if another machine takes a run over, it begins anew, and finished steps run again. Use StoragePostgres, StorageS3 "
    "or StorageGCS."
)
SCHEDULED: Final = "`dotflow schedule` promises nothing over restarts, and the queue does not count its scheduled runs."


class Duty:
    """A duty that the history may refuse: a refusal holds for RETRY, and is reported once, unless there is an outage.

    Args:
        work: Does it.
        outage: Whether the history refuses claims.
    """

    def __init__(self, work: Callable[[], object], outage: Outage) -> None:
        self._work = work
        self._outage = outage
        self._refusal = self._reported = ""
        self._again_at = self._asked = 0.0

    def look(self) -> bool:
        """Does it, and returns whether it did. Raises HistoryReplaced, which ends the server."""
        since = clock.monotonic()
        if since < self._again_at:
            return False
        try:
            self._work()
        except HistoryReplaced:
            raise
        except HistoryError as error:
            self._again_at = clock.monotonic() + RETRY
            self._refuse(error, since)
            return False
        self._accept()
        return True

    def _refuse(self, error: HistoryError, since: float) -> None:
        self._refusal, self._asked = str(error), since

    def _accept(self) -> None:
        self._refusal = self._reported = ""

    def has_refusal(self) -> bool:
        """Returns whether it was refused since the last report: a claim shows then whether that is an outage."""
        return bool(self._refusal)

    def report(self) -> None:
        """Reports the refusal, unless it is that of an outage or was reported."""
        if self._refusal and not self._outage.covers(self._asked) and self._refusal != self._reported:
            self._reported = self._refusal
            self._outage.report(self._refusal)
        self._refusal = ""


class Claiming(Duty):
    """The claims: whether the history takes them decides whether there is an outage."""

    def _refuse(self, error: HistoryError, since: float) -> None:
        self._outage.begin(CLAIMS, error, since)

    def _accept(self) -> None:
        self._outage.end(CLAIMS)


class Claims:
    """Takes runs that may begin, while there is room.

    Args:
        server: Takes them.
        workflows: The workflows by id.
        runs: The runs of this process.
        max_runs: The maximum number of them.
        names: The names of which runs are taken; None for all.
        reports: Masks the errors of their definitions.

    Attributes:
        rest_until: Without news, nothing has to be looked at before.
    """

    def __init__(
        self,
        server: QueueServer,
        workflows: Mapping[str, ServedWorkflow],
        runs: Runs,
        max_runs: int,
        names: Collection[str] | None,
        reports: Reports,
    ) -> None:
        self._server = server
        self._workflows = workflows
        self._runs = runs
        self._max_runs = max_runs
        self._names = names
        self._reports = reports
        self.rest_until = 0.0

    def look(self) -> None:
        """Names what was submitted without a name, and takes what may begin."""
        self._name()
        most = {workflow_id: workflow.max_runs for workflow_id, workflow in self._workflows.items()}
        is_last, self.rest_until = False, 0.0  # after a claim there is more to look at
        claims: Sequence[Claim] = ()
        while not is_last and (room := self._max_runs - len(self._runs.active)) > 0 and not self._runs.stops:
            claims = self._server.claim(most, self._runs.names(), room, self._names)
            for claim in claims:
                self._runs.begin(ClaimedRun(self._server, claim))
            is_last = len(claims) < room
        if not claims:
            self.rest_until = clock.monotonic() + self._server.rest()

    def _name(self) -> None:
        for run, wanted in self._server.unnamed():
            workflow = self._workflows[wanted.workflow]
            try:
                self._server.name(run, *workflow.name_submission(wanted))
            except Exception as error:  # of its definition, or of what the queue has
                if find_secret(wanted.params, wanted.key or "", self._reports.masks):
                    self._server.conceal(run, wanted.workflow)
                self._server.name(run, None, error=self._reports.text_of(error))


class TakeOvers:
    """Continues the runs whose process has ended."""

    def __init__(self, server: QueueServer, runs: Runs, reports: Reports) -> None:
        self._server = server
        self._runs = runs
        self._reports = reports

    def look(self) -> None:
        """Takes them over, and reports what becomes of them."""
        for taken in self._server.take_over(self._runs.held):
            if taken.state is TypeRunState.FAILED:
                process = f"The process of the run {taken.run_id} of {taken.title!r}"
                self._reports.alert(taken.workflow, f"{process} has ended {GIVEN_UP}")
            else:
                then = f"{taken.continued_by} continues it" if taken.continued_by else f"it is {taken.state} now"
                self._reports.report(f"{_cause(taken)}: {then}.")


def _cause(taken: TakenOver) -> str:
    """Returns why a run was taken over."""
    run = f"the run {taken.run_id} of {taken.title!r}"
    if taken.is_own:
        return f"The history has {run} here, where it does not run"
    host, _, number = taken.process.rpartition(":")
    ended = "has ended" if taken.silence is None else f"gave no sign of life for {taken.silence:.0f} s"
    return f"The process of {run}{host and f' ({host}, {number})'} {ended}"


class Answers:
    """Continues the runs whose wait for an answer is over."""

    def __init__(self, server: QueueServer, report: Callable[[str], None]) -> None:
        self._server = server
        self._report = report

    def look(self) -> None:
        """Queues the runs that continue them."""
        for run_id in self._server.end_waits():
            self._report(f"A question is answered, or the time for an answer is up: the run {run_id} is queued.")


class Neighbours:
    """Reports the schedules outside of the queue that run its workflows, too: each once."""

    def __init__(self, server: QueueServer, report: Callable[[str], None]) -> None:
        self._server = server
        self._report = report
        self._reported: set[str] = set()

    def look(self) -> None:
        """Reports those that run now."""
        for workflow in set(self._server.scheduled_elsewhere()) - self._reported:
            self._reported.add(workflow)
            self._report(f"A schedule of its own runs {workflow!r}, too: {SCHEDULED}")


class Machines:
    """Reports the workflows that another machine serves, too, and whose values are on this one: each once."""

    def __init__(
        self, server: QueueServer, workflows: Mapping[str, ServedWorkflow], report: Callable[[str], None]
    ) -> None:
        self._server = server
        self._report = report
        storages = {one: workflow.config.storage for one, workflow in workflows.items()}
        self._paths = {one: storage.path for one, storage in storages.items() if isinstance(storage, LOCAL)}

    def look(self) -> None:
        """Reports those that another machine serves now."""
        host = host_name()
        for neighbour in (self._server.neighbours() or ()) if self._paths else ():
            for workflow in self._paths.keys() & neighbour.workflows if neighbour.host != host else ():
                self._report(f"{workflow!r} keeps its values on this machine ({self._paths.pop(workflow)}): {ON_ONE}")


class Retention:
    """Forgets the runs that the history no longer keeps, a few at a time; reports once a day if that is too slow."""

    def __init__(self, history: History, report: Callable[[str], None]) -> None:
        self._history = history
        self._report = report
        self._report_at = clock.monotonic() + DAY

    def look(self) -> None:
        """Forgets some of them."""
        self._history.sweep()
        if clock.monotonic() >= self._report_at:
            self._report_at = clock.monotonic() + DAY
            if (over := self._history.overdue()) >= DAY:
                self._report(f"The history keeps runs that are {format_duration(over)} over its limit.")


class Pauses:
    """Reports when workflows are paused, and when they are resumed."""

    def __init__(self, queue: Operations, workflows: Collection[str], report: Callable[[str], None]) -> None:
        self._queue = queue
        self._workflows = workflows
        self._report = report
        self._reported: Mapping[str, WorkflowPause] = {}

    def look(self) -> None:
        """Reports what has changed."""
        pauses = {one: pause for one, pause in self._queue.pauses().items() if one in self._workflows}
        for workflow in pauses.keys() - self._reported.keys():
            self._report(f"The workflow {workflow!r} is {pauses[workflow]}. Its runs wait in the queue.")
        for workflow in self._reported.keys() - pauses.keys():
            self._report(f"The workflow {workflow!r} goes on: resumed by {self._queue.resumed_by(workflow)}.")
        self._reported = pauses
