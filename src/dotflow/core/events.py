"""The events of a task and a run, one class each.

Named tuples, not frozen dataclasses, which cost three times as much: there are two for every task.
`item` is the index of an item of a mapped task; None in an event of the task itself.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from dotflow.core.context import Context
from dotflow.core.failure import Failure
from dotflow.core.types.status import TypeStatus


class AttemptStarted(NamedTuple):
    """An attempt of the task begins; `attempt` counts from 1. `fallback` names the step that makes it instead."""

    task_id: int
    attempt: int
    previous: Context
    at: datetime
    tick: float  # the same time on the monotonic clock, in seconds
    item: int | None = None
    fallback: str | None = None


class AttemptRepeated(NamedTuple):
    """One of the actions of a class failed and is tried again, within the same attempt."""

    task_id: int
    attempt: int
    failure: Failure
    item: int | None = None


class AttemptFailed(NamedTuple):
    """An attempt failed, and there will be another one in `retry_in` seconds."""

    task_id: int
    attempt: int
    failure: Failure
    retry_in: float
    item: int | None = None


class TaskCompleted(NamedTuple):
    """The step returned; `context.time` is the time of its return."""

    task_id: int
    context: Context
    tick: float
    item: int | None = None


class TaskRestored(NamedTuple):
    """The task's value was restored from its checkpoint, so the task does not run."""

    task_id: int
    context: Context
    previous: Context
    item: int | None = None
    source: str = "checkpoint"


class TaskFailed(NamedTuple):
    """The last attempt failed."""

    task_id: int
    attempt: int
    failure: Failure
    at: datetime
    tick: float
    item: int | None = None


class TaskSkipped(NamedTuple):
    """The task does not run, which is no failure."""

    task_id: int
    reason: str
    item: int | None = None


class MapOpened(NamedTuple):
    """The list of a mapped task is known, with this number of items."""

    task_id: int
    items: int
    at: datetime
    tick: float
    item: None = None


class MapEnded(NamedTuple):
    """A mapped task has ended; `failure` is None if it completed."""

    task_id: int
    context: Context
    failure: Failure | None
    at: datetime
    tick: float
    item: None = None


class Planned(NamedTuple):
    """A task at the beginning of a run: the name of its step, and its group."""

    name: str
    group: str


class RunStarted(NamedTuple):
    """A run begins. A `task_id` in its events is an index into `steps`."""

    workflow_id: str
    run_id: str
    tasks: int
    at: datetime
    name: str | None = None  # of the workflow
    steps: Sequence[Planned] = ()


class RunEnded(NamedTuple):
    """A run has ended: COMPLETED, or FAILED."""

    workflow_id: str
    run_id: str
    status: TypeStatus
    at: datetime


TaskEvent = (
    AttemptStarted
    | AttemptRepeated
    | AttemptFailed
    | TaskCompleted
    | TaskRestored
    | TaskFailed
    | TaskSkipped
    | MapOpened
    | MapEnded
)
RunEvent = RunStarted | RunEnded
Event = TaskEvent | RunEvent
