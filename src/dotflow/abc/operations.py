"""Operations: the queue of wanted runs in a history, the schedules that fill it, and the orders to runs."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from dotflow import clock
from dotflow.core.approval import Question, QuestionId
from dotflow.core.schedule_rules import CatchUp, Fired, Late
from dotflow.core.types.overlap import TypeOverlap
from dotflow.core.types.run_state import TypeRunState, TypeWait
from dotflow.errors import HistoryError, InvalidArgument

if TYPE_CHECKING:  # a run needs none of them
    from dotflow.records.record import RunSummary

NO_TRANSACTION: Final = "None: only HistoryPostgres writes in the transaction of another connection"
MAX_TRIES: Final = 3  # processes that may end in a row before a run has saved anything
LAST_MOMENT: Final = 9_000_000_000  # seconds since 1970: in the year 2255; no run of a history begins later


class Submission(NamedTuple):
    """A wanted run.

    Attributes:
        workflow: The id of the workflow.
        params: The values of its parameters without its secrets, as text of the codec.
        name: The id of its checkpoints: `report@customer=17`, or `report#click-17` with a key. None where the caller
            does not know the defaults of the workflow: a server fills it in.
        key: The same key returns the same run.
        priority: Higher ones begin first.
        due: The moment before which it does not begin, or the time from now by the clock of the history; None for now.
        title: The name of the workflow for readers.
        by: Who wants it, for the notes of the run; "" for no note.
        latest: Where it is debounced, the time from now at which it begins at the latest; else None.
        replaced_by: Who cancels the older runs of its name with it; "" where it replaces none.
    """

    workflow: str
    params: str
    name: str | None
    key: str | None = None
    priority: int = 0
    due: datetime | timedelta | None = None
    title: str | None = None
    by: str = ""
    latest: timedelta | None = None
    replaced_by: str = ""


class Declared(NamedTuple):
    """A workflow as those know it that can't import it: its id, and the defaults of its parameters with their types."""

    workflow: str
    params: str


class Claim(NamedTuple):
    """A queued run that a process has taken.

    Attributes:
        run_id: The run.
        workflow: The id of the workflow.
        name: The id of its checkpoints.
        params: The values of its parameters, as text of the codec.
        origin: The first run of its chain.
        continues: Whether it continues another run.
        has_begun: Whether a run of its chain has begun.
        rerun: The tasks that run again.
        priority: Which of those that wait for a place of a limit is next: that with the highest one.
    """

    run_id: str
    workflow: str
    name: str
    params: str
    origin: str
    continues: bool
    has_begun: bool
    rerun: Sequence[str]
    priority: int = 0


class Ending(NamedTuple):
    """The end of a claimed run: its state, why it was stopped, and the first error.

    With `goes_on`, a run that continues it is queued in the same transaction. So it is where one of the questions that
    it has *asked* has its answer by then. *waits* is what a paused one waits for. One that *is_lost* has lost what its
    steps ran on: it ends, and goes on, as one whose process has ended.
    """

    state: TypeRunState
    reason: str = ""
    error: str = ""
    goes_on: bool = False
    asked: Sequence[QuestionId] = ()
    waits: TypeWait | None = None
    is_lost: bool = False


class TypeOrder(StrEnum):
    """What a run can be ordered to do."""

    CANCEL = "cancel"
    PAUSE = "pause"


class Order(NamedTuple):
    """An order to a run: what, by whom, and a comment."""

    what: TypeOrder
    by: str
    comment: str = ""


class WorkflowPause(NamedTuple):
    """The pause of a workflow: who has paused it, since when, and why.

    Its queued runs wait, and servers drop its scheduled runs. What has begun goes on.
    """

    by: str
    since: datetime
    comment: str = ""

    def __str__(self) -> str:
        """Returns it for people, in local time: `paused by anna since 2026-11-25 10:00:00: the warehouse moves`."""
        why = f": {self.comment}" if self.comment else ""
        return f"paused by {self.by} since {self.since.astimezone():%Y-%m-%d %H:%M:%S}{why}"


class TakenOver(NamedTuple):
    """A run whose process has ended, or seems to.

    Attributes:
        run_id: The run.
        workflow: The id of its workflow.
        state: Its state now.
        continued_by: The run that continues it, if there is one.
        title: Its name, for people.
        process: Its process, as `host:1234`; "" where that is unknown.
        silence: For how many seconds that gave no sign of life; None where it has ended for sure.
        is_own: Whether the process is the server itself, which did not know that it has the run.
    """

    run_id: str
    workflow: str
    state: TypeRunState
    continued_by: str | None
    title: str
    process: str = ""
    silence: float | None = None
    is_own: bool = False


class LeftRun(NamedTuple):
    """A queued run that is due, and that a server can't take now.

    Attributes:
        run_id: The run.
        name: Its name, that of its workflow with parameters.
        why: What it waits for, for people.
        is_behind_hand: Whether that is the end of a run of the same name that no server has taken.
    """

    run_id: str
    name: str
    why: str
    is_behind_hand: bool


class Schedule(NamedTuple):
    """A schedule, as others know it that can't import its workflow.

    Attributes:
        schedule: Its id: workflow, cron expression and zone as JSON. Another expression is another schedule.
        workflow: The id of the workflow.
        cron: The expression.
        timezone: The name of its zone; None for that of a machine which has no name for it.
        overlap: What becomes of a firing during a run.
        max_parallel: The maximum number of active runs with "parallel".
        catch_up: Which missed firings are made up for: "latest", "all", "none", or the seconds of a span.
        late_after: The seconds after which a firing that has not completed is late; None for no alarm.
    """

    schedule: str
    workflow: str
    cron: str
    timezone: str | None
    overlap: TypeOverlap = TypeOverlap.SKIP
    max_parallel: int = 10
    catch_up: CatchUp = "latest"
    late_after: float | None = None


class Firing(NamedTuple):
    """A firing that came due.

    Attributes:
        planned: Its moment, in the zone of the schedule.
        wanted: The run that it gets, or would have got. None for one that is dropped and has no name.
        is_made_up: Whether it was missed and is made up for: no active run drops it.
        dropped: Why it is dropped.
        has_raised: Whether that is since its parameters could not be made.
        is_left_out: Whether that is since `only` leaves it out.
    """

    planned: datetime
    wanted: Submission | None
    is_made_up: bool = False
    dropped: str = ""
    has_raised: bool = False
    is_left_out: bool = False


class Dropped(NamedTuple):
    """A firing that gets no run, and why.

    The name is that which its run would have: "" where it is unknown, None where its parameters could not be made.
    What `only` has left out is no trouble.
    """

    planned: datetime
    reason: str
    name: str | None = ""
    is_left_out: bool = False


class ServedSchedule(NamedTuple):
    """A schedule as it stands.

    Attributes:
        schedule: What it is.
        settled: The moment until which its firings are settled.
        alarmed: The moment until which its firings were looked at for the alarm; None before the first look.
        dropped: The number of its firings that got no run.
        drops: The last of them, the newest first.
        is_served: Whether a living process serves it.
        pause: The pause of its workflow; None where it is not paused.
    """

    schedule: Schedule
    settled: datetime
    alarmed: datetime | None
    dropped: int
    drops: Sequence[Dropped]
    is_served: bool
    pause: WorkflowPause | None


class ScheduleSummary(NamedTuple):
    """A schedule for readers. Moments are in its zone.

    Attributes:
        schedule: What it is.
        next: Its next firing; None where it can't be computed.
        last: Its last firing, with its run or why it was dropped; None where none is known.
        dropped: The number of its firings that got no run.
        drops: The last of them, the newest first, with the reasons.
        is_served: Whether a living process serves it.
        pause: The pause of its workflow; None where it is not paused.
        late: The firings since the last one that has completed which are late or have failed, the newest first.
        error: Why its firings can't be computed here, such as a zone that this machine does not have; or "".
    """

    schedule: Schedule
    next: datetime | None
    last: Fired | None
    dropped: int
    drops: Sequence[Dropped]
    is_served: bool
    pause: WorkflowPause | None
    late: Sequence[Late]
    error: str = ""


class LongQueued(NamedTuple):
    """The runs of a workflow that wait in the queue for long: their number, and the moment since when."""

    workflow: str
    runs: int
    since: datetime


class HistoryReplaced(HistoryError):
    """The history is another one than at the start: what other processes have done is unknown."""


class RunLost(HistoryError):
    """A claimed run is another process's now, or has been ended."""


class Operations(ABC):
    """The queue of a history. All methods raise HistoryError where it can't be read or written.

    Users' ids are whole: a beginning of an id could be another run's. Any run of a chain stands for the newest one.
    """

    def now(self) -> datetime:
        """Returns the moment by the clock of the history, which says what is due: by default that of this machine."""
        return clock.now()

    @abstractmethod
    def submit(self, submission: Submission) -> str:
        """Writes a wanted run, and returns its id.

        Where a fresh run of the same name is queued, it returns the id of that one, which takes the earlier moment and
        the higher priority of both. For a key that is known it returns the run of that key.

        A debounced one puts a debounced run that is queued off, up to the moment at which one of the submissions of
        that one has to begin at the latest. One that replaces the older runs of its name cancels them, and is a new
        run. Both have the word about the parameters of a key, which stands for the newest run from then on.

        Raises:
            OrderRefused: The run of the key has other parameters.
        """

    def submit_within(self, connection: object, submission: Submission) -> str:
        """Writes a wanted run in the transaction that a connection has open, and returns its id.

        It has an id of its own, merges with no queued run, and gets its name from a server. A known key returns the id
        of its run. Outside of a transaction it is as `submit`.

        Raises:
            InvalidArgument: This history can't use the connection. By default none can.
            OrderRefused: The run of the key has other parameters.
        """
        raise InvalidArgument("connection", type(connection).__name__, NO_TRANSACTION)

    @abstractmethod
    def declare(self, workflows: Sequence[Declared]) -> None:
        """Writes what is known of workflows."""

    @abstractmethod
    def declared(self, workflow: str) -> str | None:
        """Returns the parameters of a workflow as they were declared last; None where it is unknown."""

    @abstractmethod
    def is_served(self, name: str) -> bool:
        """Returns whether a living process serves a workflow, by its id or the name of one of its runs."""

    @abstractmethod
    def ask(self, asked: QuestionId, text: str, about: str, within: float | None, item: int | None = None) -> Question:
        """Writes the question of a task, once, and returns it as it stands, maybe with its answer.

        It is a new one, to which there is no answer yet, if it is about something else than the last one.

        Args:
            asked: What tells it apart.
            text: The question.
            about: A digest of what it is about; "" where only the text shows that.
            within: The seconds for an answer; None for no limit.
            item: The index of the item that asks; None for a task.
        """

    @abstractmethod
    def note_sent(self, question: Question) -> None:
        """Notes when a question was sent, so that no run that continues this one sends it again.

        If the item that asks has another index now, nothing is noted: what was sent names another item.
        """

    @abstractmethod
    def place(self, origin: str, task: str, items: Mapping[str, int]) -> None:
        """Writes where the items of a task stand in its list now. Those that it has no more wait for no answer.

        What was sent names another item now, so a question that has moved is sent again.

        Args:
            origin: The first run of the chain.
            task: The task, as in their QuestionId.
            items: Their indices, by key.
        """

    @abstractmethod
    def withdraw(self, asked: QuestionId, calls: Collection[str]) -> None:
        """Takes back the questions without an answer of the calls of a durable step, but those of *calls*.

        Args:
            asked: One of its questions; of which call, and how often it was asked, does not count.
            calls: The keys of the calls that still wait.
        """

    @abstractmethod
    def answered(self, origin: str) -> Collection[QuestionId]:
        """Returns the questions of a chain that have an answer, or whose time is up."""

    @abstractmethod
    def questions(self) -> Sequence[Question]:
        """Returns the questions that can be answered now, the oldest first."""

    @abstractmethod
    def answer(
        self,
        run: str,
        step: str | None,
        is_yes: bool,
        by: str,
        comment: str,
        value: str | None = None,
        seen: TypeRunState | None = None,
        nth: int | None = None,
    ) -> "RunSummary":
        """Answers the question of a run. Where the run is paused, a run that continues it is queued.

        Args:
            run: Any run of the chain.
            step: The task that waits, by its name, or an item such as `page[3].check`; None if there is one only.
            is_yes: The answer.
            by: Who answers.
            comment: Why.
            value: What the step takes with a yes, as text of the codec.
            seen: As in `order`.
            nth: How often the question that the caller saw was asked before; None for the present one.

        Returns:
            The newest run of the chain.

        Raises:
            NotInHistory: There is no such run.
            OrderRefused: The run can't be answered, the step waits for no answer, or has one.
        """

    @abstractmethod
    def settle(self, run: str, asked: Sequence[QuestionId]) -> None:
        """Queues a run that continues a paused one of which a question was answered before its end was written."""

    @abstractmethod
    def pause_workflow(self, workflow: str, by: str, comment: str) -> WorkflowPause:
        """Pauses a workflow, and returns its pause. Where it is paused already, that pause remains.

        Raises:
            NotInHistory: The history does not know the workflow.
        """

    @abstractmethod
    def resume_workflow(self, workflow: str, by: str, comment: str) -> WorkflowPause | None:
        """Ends the pause of a workflow, and returns it; None where it was not paused. Raises as `pause_workflow`."""

    @abstractmethod
    def resumed_by(self, workflow: str) -> str:
        """Returns who has ended the last pause of a workflow, and why, for people; "" where it had none."""

    @abstractmethod
    def pauses(self) -> Mapping[str, WorkflowPause]:
        """Returns the pauses by workflow."""

    def waiting(self, name: str) -> tuple[str, str] | None:
        """Returns the paused run of a name that waits for an answer, and for that to which task; None if none does."""
        of_name = (one for one in self.questions() if one.workflow_id == name and one.state is TypeRunState.PAUSED)
        return next(((one.run_id, one.step) for one in of_name), None)

    @abstractmethod
    def schedules(self) -> Sequence[ServedSchedule]:
        """Returns the schedules that living processes serve; of a workflow that none serves, that of the last one."""

    @abstractmethod
    def fired(self, schedule: str, since: datetime, until: datetime, limit: int) -> Sequence[Fired]:
        """Returns what is known of the firings of a schedule between two moments, the newest first.

        At most *limit*, and between them what `only` leaves out.
        """

    @abstractmethod
    def move_alarm(self, schedule: str, alarmed: datetime | None, until: datetime) -> bool:
        """Writes that the firings of a schedule were looked at for the alarm; False where another process was first.

        With an earlier moment than before, those in between that have a run are not looked at again.

        Args:
            schedule: The schedule.
            alarmed: The moment until which they were looked at before.
            until: That until which they are looked at now.
        """

    @abstractmethod
    def long_queued(self, before: datetime) -> Sequence[LongQueued]:
        """Returns what waits in the queue that was due before a moment, by workflow."""

    @abstractmethod
    def seconds_to_look(self, run: str) -> float:
        """Returns for how long `order` and `resume` would watch whether the process of a run has ended; mostly 0.

        Raises:
            NotInHistory: There is no such run.
        """

    @abstractmethod
    def order(self, run: str, order: Order, seen: TypeRunState | None = None) -> "RunSummary":
        """Gives a run an order, and returns the run afterwards. What is queued or paused is cancelled at once.

        Args:
            run: The run.
            order: What it is to do.
            seen: The state in which the caller saw this very run; None if any will do.

        Raises:
            NotInHistory: There is no such run.
            OrderRefused: It has ended, is in another state than *seen*, or a newer run goes on with it.
        """

    @abstractmethod
    def resume(
        self,
        run: str,
        rerun: Sequence[str],
        by: str,
        comment: str,
        priority: int | None = None,
        seen: TypeRunState | None = None,
        settings: str | None = None,
    ) -> "RunSummary":
        """Queues a run that continues another one, and returns it. It has the same priority, if no other is given.

        *seen* is as in `order`. *settings* are new values of its Settings, as text of the codec; it keeps its others.

        Raises:
            NotInHistory: There is no such run.
            OrderRefused: It can't be continued, or has completed and nothing is to run again.
        """

    @abstractmethod
    def newest(self, run: str) -> "RunSummary":
        """Returns the newest run of the chain of a run. Raises NotInHistory."""

    @abstractmethod
    def orders(self) -> Mapping[str, Sequence[Order]]:
        """Returns the open orders by run."""

    @abstractmethod
    def open_server(self, workflows: Sequence[str], wake: Callable[[], None] | None = None) -> "QueueServer":
        """Returns a server of these workflows, which this process is.

        Args:
            workflows: Their ids.
            wake: Called in virtual time when this process has written to the queue, from any thread; None for nothing.

        Raises:
            NotServable: This system or file can't show whether a process lives.
        """

    @abstractmethod
    def take_continuation(self, name: str) -> "tuple[QueueServer, Claim] | None":
        """Takes the queued continuation of a name for a run in this process; None if there is none."""


class Neighbour(NamedTuple):
    """Another server of a history: its host, and the ids of its workflows."""

    host: str
    workflows: Collection[str]


class QueueServer(ABC):
    """A process that takes runs from a queue. It writes the states of these runs only while they are its own.

    Attributes:
        server_id: What the history calls it; no other history has a server of this id.
        location: Where the history is, for people.
        may_take_over: Whether the last look has found a process dead for the first time.
    """

    server_id: str
    location: str = ""
    may_take_over: bool = False

    def check(self) -> None:  # noqa: B027 (optional)
        """Raises HistoryError if the history was deleted or replaced: what other processes have done is unknown."""

    def neighbours(self) -> Sequence[Neighbour] | None:
        """Returns the living servers beside this one; None where all of a history are on one machine."""
        return None

    @abstractmethod
    def knows(self, server_id: str) -> bool:
        """Returns whether a server of this id is one of this history."""

    def has_news(self, *, at_once: bool = False) -> bool:
        """Returns whether another connection may have written since the last call, quickly. By default it may have.

        A database that is far away is asked seldom, unless *at_once* is given.
        """
        return True

    def rest(self) -> float:
        """Returns for how many seconds a server that has looked at everything needs no look, unless there is news.

        By default none: processes may end without news.
        """
        return 0.0

    @abstractmethod
    def next_due(self) -> datetime | None:
        """Returns the next moment at which a queued run of its workflows is due; None if there is none."""

    @abstractmethod
    def serve_schedules(self, served: Sequence[Schedule]) -> Sequence[tuple[Schedule, datetime]]:
        """Writes that this process serves these schedules. What fired before a schedule was ever served is settled.

        Returns:
            Other schedules of its workflows that no living process serves, each with the moment until which its firings
            are settled. Each is returned once, until a process serves it again.
        """

    @abstractmethod
    def known_schedules(self) -> Collection[str]:
        """Returns the schedules that a process has served at some time."""

    @abstractmethod
    def settled(self, schedule: Schedule) -> tuple[Schedule, datetime]:
        """Returns a schedule that it serves, as the server that began last has it, and until when it is settled.

        After a wall clock that was wrong for a while, that is at least the moment before.
        """

    @abstractmethod
    def fire(
        self, schedule: Schedule, settled: datetime, until: datetime, firings: Sequence[Firing]
    ) -> Sequence[Dropped] | None:
        """Queues the runs of the firings in (settled, until], and settles them.

        A firing whose run the history has gets no second one. Where a fresh run of the same name is queued, that is the
        run of the firing, if it has none yet. The firings during a pause of the workflow are dropped, and so are those
        that the overlap drops.

        Returns:
            The firings that were dropped. None where another process has settled some meanwhile, or has changed the
            schedule; then it does nothing.
        """

    @abstractmethod
    def unnamed(self) -> Sequence[tuple[str, Submission]]:
        """Returns the queued runs of its workflows that have no name yet, with their ids."""

    @abstractmethod
    def name(self, run: str, name: str | None, params: str = "", error: str = "") -> None:
        """Gives a queued run its name, and its parameters as text of the codec; without a name, it fails."""

    @abstractmethod
    def conceal(self, run: str, name: str) -> None:
        """Gives a run another name, and removes its parameters and its key, which have a secret."""

    @abstractmethod
    def end_waits(self) -> Sequence[str]:
        """Queues runs that continue those of its workflows whose wait for an answer is over, and returns these.

        Its time is up, or their process was killed at its end, and the answer came just before.
        """

    @abstractmethod
    def take_over(self, held: Callable[[], Collection[str]] | None = None) -> Sequence[TakenOver]:
        """Takes over the runs of this history whose process has ended, in two looks.

        Called about once a second, unless the server may `rest`.

        Args:
            held: Returns the runs that this server has, or whose end it has yet to write. One that the history has as
                this server's, and that is none of them, is taken over, too: the answer of its claim was lost.
        """

    @abstractmethod
    def may_begin(self) -> bool:
        """Returns whether this server may claim a run, or begin a step: others don't take its process for dead."""

    def scheduled_elsewhere(self) -> Collection[str]:
        """Returns those of its workflows that a schedule of their own, outside of the queue, is running now.

        They are reported. By default there are none.
        """
        return ()

    @abstractmethod
    def claim(
        self,
        workflows: Mapping[str, int | None],
        busy: Collection[str],
        room: int,
        names: Collection[str] | None = None,
    ) -> Sequence[Claim]:
        """Takes the first queued runs that are due and may begin; none of two of a name.

        A power cut may undo it, until `begin`: nothing of a run may happen before that.

        Args:
            workflows: The workflows, with the maximum of their runs over all processes.
            busy: The names that run in this process.
            room: How many runs it takes at most.
            names: The names of which a run may be taken; None for all.
        """

    @abstractmethod
    def left(self, workflows: Mapping[str, int | None]) -> "Sequence[LeftRun]":
        """Returns the queued runs of workflows that are due, with what they wait for; at most a hundred."""

    @abstractmethod
    def put_back(self, claim: Claim, delay: float) -> None:
        """Returns a claimed run that has not begun to the queue, due in some seconds, or carries out its orders.

        Raises:
            RunLost: The run is not this server's any more.
        """

    @abstractmethod
    def supersede(self, claim: Claim) -> Sequence[str]:
        """Ends the other chains of the name that had begun. Returns the ids of those of their runs that were to go on.

        Raises:
            RunLost: The run is not this server's any more.
            Superseded: A newer run goes on with its chain.
        """

    @abstractmethod
    def is_mine(self, claim: Claim) -> bool:
        """Returns whether a claimed run is still this server's, and has not ended. Called once a second for each."""

    @abstractmethod
    def was_taken_over(self, claim: Claim) -> bool:
        """Returns whether another process has taken a claimed run over, since this one seemed to have ended."""

    @abstractmethod
    def begin(self, claim: Claim) -> None:
        """Writes that the values of the name are the run's from now on. Raises as `supersede`."""

    @abstractmethod
    def end(self, claim: Claim, ending: Ending) -> TypeRunState | None:
        """Writes the end of a claimed run with its open orders. Returns its state; None if it was not this server's."""

    @abstractmethod
    def close(self) -> None:
        """Ends the server. Its claims must have ended."""
