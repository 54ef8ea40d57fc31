"""What can happen to a task or a run, one class each.

Named tuples, not dataclasses: two are made for every task, and a frozen dataclass costs three times as much.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from dotflow.core.context import Context
from dotflow.core.failure import Failure
from dotflow.core.types.status import TypeStatus


class AttemptStarted(NamedTuple):
    """An attempt of the task begins; `attempt` counts from 1."""

    task_id: int
    attempt: int
    previous: Context
    at: datetime
    tick: float  # the same moment on the monotonic clock, in seconds


class AttemptRepeated(NamedTuple):
    """Inside the attempt that goes on, one of the actions of a class failed and is tried again."""

    task_id: int
    attempt: int
    failure: Failure


class AttemptFailed(NamedTuple):
    """An attempt failed, and there will be another one in `retry_in` seconds."""

    task_id: int
    attempt: int
    failure: Failure
    retry_in: float


class TaskCompleted(NamedTuple):
    """The task's value is here; `context.time` is when."""

    task_id: int
    context: Context
    tick: float


class TaskRestored(NamedTuple):
    """The task's value was found in the storage, so it does not run."""

    task_id: int
    context: Context
    previous: Context


class TaskFailed(NamedTuple):
    """The last attempt failed."""

    task_id: int
    attempt: int
    failure: Failure
    at: datetime
    tick: float


class Planned(NamedTuple):
    """A task as a run begins: the name of its step, and its group."""

    name: str
    group: str


class RunStarted(NamedTuple):
    """A run begins. Its events name tasks by their place in `steps`."""

    workflow_id: str
    run_id: str
    tasks: int
    at: datetime
    name: str | None = None  # the workflow's, if it has one
    steps: Sequence[Planned] = ()


class RunEnded(NamedTuple):
    """A run is over: COMPLETED, or FAILED if any of its tasks is."""

    workflow_id: str
    run_id: str
    status: TypeStatus
    at: datetime


TaskEvent = AttemptStarted | AttemptRepeated | AttemptFailed | TaskCompleted | TaskRestored | TaskFailed
RunEvent = RunStarted | RunEnded
Event = TaskEvent | RunEvent
