"""Task: what is known of a task. TaskDefinition: before a run. RunTask: in a run."""

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Self

from dotflow import clock
from dotflow.core.action import AnyAction
from dotflow.core.context import NOTHING, Context
from dotflow.core.events import (
    AttemptFailed,
    AttemptRepeated,
    AttemptRuns,
    AttemptStarted,
    AttemptWaits,
    MapEnded,
    MapOpened,
    TaskCompleted,
    TaskEvent,
    TaskFailed,
    TaskPaused,
    TaskRestored,
    TaskSkipped,
)
from dotflow.core.failure import Failure, TaskError
from dotflow.core.hints import READ_TASK, Absent
from dotflow.core.text import waiting
from dotflow.core.types.status import TypeStatus

if TYPE_CHECKING:
    from dotflow.core.approval import Question
    from dotflow.core.links import Links

STATUS_AFTER: Final[Mapping[type, TypeStatus]] = {
    AttemptStarted: TypeStatus.IN_PROGRESS,
    AttemptRuns: TypeStatus.IN_PROGRESS,
    AttemptRepeated: TypeStatus.RETRY,
    AttemptWaits: TypeStatus.IN_PROGRESS,
    AttemptFailed: TypeStatus.RETRY,
    TaskCompleted: TypeStatus.COMPLETED,
    TaskRestored: TypeStatus.COMPLETED,
    TaskFailed: TypeStatus.FAILED,
    TaskSkipped: TypeStatus.SKIPPED,
    TaskPaused: TypeStatus.PAUSED,
    MapOpened: TypeStatus.IN_PROGRESS,
    MapEnded: TypeStatus.COMPLETED,
}

NOT_STARTED: Final = TypeStatus.NOT_STARTED
IN_PROGRESS: Final = TypeStatus.IN_PROGRESS  # as the two below, once: members of an enum are slow to find
COMPLETED: Final = TypeStatus.COMPLETED

#: A kept moment or duration that nothing has set, of a record that has the other one of the two.
UNKNOWN: Final = -math.inf

#: The fields of a definition. A record has those of RunTask, too.
DEFINED: Final = ("_initial", "callback", "group_name", "step", "task_id", "workflow_id")


#: What is called at the end of a task as `callback(task=task)`; None for nothing.
Callback = Callable[..., Any] | None


class Task:
    """One step of a workflow: its definition, which has not started, or its record in a run.

    `Task(0, step)` makes a record, to test a Log, a Notify or a Storage with: its attributes can be set.
    `retry_count` follows from its errors. `workflow.task` yields definitions before the first run: a TaskDefinition.

    Attributes:
        task_id: The position in the order of `add`, from 0.
        step: The action that it runs.
        callback: Called as `callback(task=task)` at the end; None for no callback.
        initial_context: The value passed to `add`.
        has_initial: Whether `add` got an initial context.
        group_name: The group.
        workflow_id: The workflow.
        run_id: The run of this record; None in a definition.
        status: The status.
        previous_context: The result of the previous step, once this task has begun.
        current_context: The result; a Context with storage None before.
        errors: One TaskError for each failed attempt, the last one too.
        attempt: The number of the last attempt, from 1; 0 before the first.
        retry_count: The number of repeated attempts.
        started_at: The beginning of the first attempt, aware, in UTC; None before.
        finished_at: The end, aware, in UTC; None before, and for a task restored from its checkpoint.
        duration: Seconds from the beginning of the first attempt to the end; None before the end.
        items: One Task for each item of a mapped task, once its list is known; empty for every other task.
        item: The index of an item of a mapped task; None for every other task.
        input: The item itself; None for every other task.
        has_value: Whether it has a value.
        value: The value that a parameter called like the task receives; None for none.
        reason: The reason why the task was SKIPPED, as in "good_enough was False", or PAUSED. What it waits for while
            a step with `poll` is IN_PROGRESS: "waits: 3 of 5 files, asked 37 times". Which items failed of a map that
            COMPLETED within its `keep_going`. Empty otherwise.
        restored_from: "checkpoint" or "cache" if the value was restored from there; None if the task ran.
    """

    #: Defaults of what only LinkedTask and Item have, so that a plain task pays nothing for them.
    links: "Links | None" = None
    items: "Sequence[Task]" = ()
    depth: int = 0
    nodes: "Sequence[Task]" = ()
    item: int | None = None

    #: Defaults of what only a record has.
    run_id: str | None = None
    status: TypeStatus = NOT_STARTED
    attempt: int = 0
    reason: str = ""
    _previous: Context | None = None
    _current: Context | None = None
    _errors: list[TaskError] | None = None
    _started: clock.Moment | None = None
    _finished: clock.Moment | None = None
    _tick: float = 0.0  # of the beginning; after the end, the duration

    __slots__ = DEFINED

    def __new__(cls, *arguments: Any, **more: Any) -> Self:
        """Makes a record of a Task: only those have room for what happens in a run."""
        return object.__new__(RunTask if cls is Task else cls)  # type: ignore[return-value]

    def __init__(
        self,
        task_id: int,
        step: AnyAction,
        callback: Callback = None,
        initial_context: Context | None = None,
        group_name: str = "default",
        workflow_id: str = "",
        run_id: str | None = None,
    ) -> None:
        self.task_id: int = task_id
        self.step: AnyAction = step
        self.callback: Callback = callback
        self._initial: Context | None = initial_context
        self.group_name: str = group_name
        self.workflow_id: str = workflow_id
        self.run_id = run_id
        self.status = NOT_STARTED
        self.attempt = 0
        self.reason = ""
        self._previous = self._current = self._errors = self._started = self._finished = None
        self._tick = 0.0

    @property
    def name(self) -> str:
        """The `name` passed to `add`, or the step's name."""
        return self.step.name

    @property
    def key_name(self) -> str:
        """The last part of the checkpoint's key: the `name` passed to `add`, or the task's id."""
        return str(self.task_id)

    @property
    def is_mapped(self) -> bool:
        """Whether the step runs for each item of a list, or again and again in rounds."""
        return False

    @property
    def gives_list(self) -> bool:
        """Whether its value is the list of its items' values; that of a task in rounds is the last round's."""
        return False

    @property
    def gives_items(self) -> bool:
        """Whether a map over it goes on item by item. One over a task in rounds goes through the last round's value."""
        return False

    @property
    def is_repeated(self) -> bool:
        """Whether it runs in rounds."""
        return False

    @property
    def is_cleanup(self) -> bool:
        """Whether it was added with `always=True`: it runs however the tasks before it ended."""
        return self.links is not None and self.links.always

    @property
    def has_value(self) -> bool:
        """Whether the task has a value: it completed, or is a map whose items have ended."""
        return self.status is TypeStatus.COMPLETED

    @property
    def value(self) -> Any:
        """The value that a parameter called like the task receives; None where `has_value` is False.

        Of a map with failed or skipped items it is the list of the values of those that completed.
        """
        return self.current_context.storage if self.has_value else None

    @property
    def input(self) -> Any:
        """The entry of a mapped task's list; None for a task that is no item."""
        return None

    @property
    def question(self) -> "Question | None":
        """The question whose answer it waits for; None if it waits for none."""
        return None

    @property
    def restored_from(self) -> str | None:
        """The source of a restored value; None if the task ran, or has no value."""
        return "checkpoint" if self.status is TypeStatus.COMPLETED and not self.attempt else None

    @property
    def initial_context(self) -> Context:
        """The value passed to `add`; an empty Context, made on first access, where there was none."""
        if self._initial is None:
            self._initial = Context()
        return self._initial

    @property
    def has_initial(self) -> bool:
        """Whether `add` got an initial context."""
        return self._initial is not None

    @property
    def previous_context(self) -> Context:
        """The result of the previous step; an empty Context before the task begins."""
        return Context()

    @property
    def current_context(self) -> Context:
        """The result; an empty Context before there is one."""
        return Context()

    @property
    def errors(self) -> list[TaskError]:
        """The failed attempts. A record makes the list on first access: most tasks never need one."""
        return []

    @property
    def retry_count(self) -> int:
        """The number of repeated attempts."""
        return 0 if not self._errors else len(self._errors) - (self.status is TypeStatus.FAILED)

    @property
    def started_at(self) -> datetime | None:
        """The beginning of the first attempt, aware, in UTC; None before."""
        return None if self._started is None else clock.as_datetime(self._started)

    @started_at.setter
    def started_at(self, moment: datetime | None) -> None:
        self._started = moment

    @property
    def finished_at(self) -> datetime | None:
        """The end, aware, in UTC; None before, and for a task restored from its checkpoint."""
        finished = self._finished
        return None if finished is None or finished == UNKNOWN else clock.as_datetime(finished)

    @finished_at.setter
    def finished_at(self, moment: datetime | None) -> None:
        if self.duration is None:
            self._tick = UNKNOWN
            self._finished = moment
        else:
            self._finished = UNKNOWN if moment is None else moment

    @property
    def duration(self) -> float | None:
        """Seconds from the beginning of the first attempt to the end; None before the end."""
        return None if self._finished is None or self._tick == UNKNOWN else self._tick

    @duration.setter
    def duration(self, seconds: float | None) -> None:
        self._tick = UNKNOWN if seconds is None else seconds
        if self._finished is None:
            self._finished = UNKNOWN

    @property
    def error(self) -> TaskError | None:
        """The last failed attempt."""
        return self._errors[-1] if self._errors else None

    @property
    def _steps(self) -> list[AnyAction]:
        """The step, and its fallbacks."""
        return [self.step] if self.links is None else [self.step, *(one.step for one in self.links.fallbacks)]

    def __dir__(self) -> list[str]:
        return [name for name in super().__dir__() if name not in READ_TASK]

    def _new_record(self, workflow_id: str, run_id: str | None, task_id: int | None = None) -> "RunTask":
        """Returns a new record, for a run or another position, with a new Context of the initial value."""
        context = self._initial
        initial = None if context is None else Context(context.storage, time=context.time)
        number = self.task_id if task_id is None else task_id
        record = object.__new__(RunTask)  # as RunTask(...), without the call of __new__
        Task.__init__(record, number, self.step, self.callback, initial, self.group_name, workflow_id, run_id)
        return record

    def _snapshot(self) -> "Task":
        """Returns a copy of the record, for later readers."""
        copy = object.__new__(self.__class__)
        for cls in self.__class__.__mro__:
            for name in vars(cls).get("__slots__", ()):
                setattr(copy, name, getattr(self, name))
        copy._errors = None if self._errors is None else list(self._errors)
        return copy

    # Nothing but these methods writes to a record. A definition has no slots for what they write.

    def _begin(self, attempt: int, previous: Context, at: clock.Moment, tick: float) -> None:
        """Records that an attempt begins."""
        self.status = IN_PROGRESS
        self.attempt = attempt
        self._previous = previous
        if attempt == 1:
            self._started = at
            self._tick = tick

    def _begin_later(self, at: clock.Moment, tick: float) -> None:
        """Records that the attempt that has just been recorded begins only now."""
        self.reason = ""  # of its wait for a worker
        if self.attempt == 1:
            self._started = at
            self._tick = tick

    def _complete(self, context: Context, tick: float) -> None:
        """Records that it completed."""
        self.status = COMPLETED
        self.reason = ""  # of a wait
        self._current = context
        self._finished = context._time  # as _end, without the call
        self._tick = tick - self._tick if self._started else 0.0

    def _apply(self, event: TaskEvent) -> None:
        """Records an event."""
        if isinstance(event, AttemptStarted):
            self._begin(event.attempt, event.previous, event.at, event.tick)
        elif isinstance(event, TaskCompleted):
            self._complete(event.context, event.tick)
        else:
            self.status = STATUS_AFTER[event.__class__]
            self._apply_rare(event)

    def _apply_rare(self, event: TaskEvent) -> None:
        match event:
            case TaskRestored():  # first: of a resume these are most
                self._previous = event.previous
                self._current = event.context
            case AttemptFailed() | AttemptRepeated() | TaskFailed():
                self._add_error(event.attempt, event.failure)
                self.reason = ""  # of a pause or a wait before
                if isinstance(event, TaskFailed):
                    self._end(event.at, event.tick)
            case AttemptRuns():
                self._begin_later(event.at, event.tick)
            case AttemptWaits():
                self.reason = waiting(event.asked, event.note)
            case TaskSkipped() | TaskPaused():
                self.reason = event.reason

    def _add_error(self, attempt: int, failure: Failure) -> None:
        if self._errors is None:
            self._errors = []
        self._errors.append(TaskError(attempt, failure))

    def _end(self, at: clock.Moment, tick: float) -> None:
        self._finished = at
        self._tick = tick - self._tick if self._started else 0.0

    def __repr__(self) -> str:
        return f"<task {self.task_id} {self.name}: {self.status}>"


for _name in READ_TASK:
    setattr(Task, _name, Absent(_name, READ_TASK))


class TaskDefinition(Task):
    """A task before its first run."""

    __slots__ = ()

    def __init__(
        self,
        task_id: int,
        step: AnyAction,
        callback: Callback,
        initial_context: Context | None,
        group_name: str,
        workflow_id: str,
    ) -> None:
        self.task_id = task_id
        self.step = step
        self.callback = callback
        self._initial = initial_context
        self.group_name = group_name
        self.workflow_id = workflow_id


class RunTask(Task):
    """The record of a task in a run."""

    __slots__ = (
        "_current",
        "_errors",
        "_finished",
        "_previous",
        "_started",
        "_tick",
        "attempt",
        "reason",
        "run_id",
        "status",
    )

    @property
    def previous_context(self) -> Context:
        if self._previous is None or self._previous is NOTHING:
            self._previous = Context()
        return self._previous

    @property
    def current_context(self) -> Context:
        if self._current is None:
            self._current = Context()
        return self._current

    @property
    def errors(self) -> list[TaskError]:
        if self._errors is None:
            self._errors = []
        return self._errors
