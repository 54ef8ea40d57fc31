"""The Pydantic models behind `result()` and `schema()`; imported on first use.

Their JSON never fails: other types than those of JSON appear as their repr.
"""

import math
from collections.abc import Iterable
from datetime import datetime
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Final, Self

from pydantic import BaseModel, ConfigDict, PlainSerializer

from dotflow.core.context import Context
from dotflow.core.item_counts import ItemCounts, item_counts
from dotflow.core.task import Task
from dotflow.core.text import escape_surrogates, safe_repr
from dotflow.core.types.status import TypeStatus
from dotflow.cpython import mapping_behind

MAX_BITS: Final = 14_000  # Python's own json reads no number of more than 4,300 digits
MAX_DEPTH: Final = 50  # levels of a value; deeper ones, and circles, appear as their repr


def jsonable(value: object, outer: tuple[int, ...] = ()) -> Any:
    """Returns *value* in the types of JSON, others as their repr. *outer* are the ids of its containers."""
    if type(value) is MappingProxyType:
        value = mapping_behind(value)
    if value is None or type(value) is bool:
        return value
    if type(value) is int:
        return value if value.bit_length() <= MAX_BITS else f"<int of {value.bit_length()} bits>"
    if type(value) is str:
        return escape_surrogates(value)
    if type(value) is float:
        return value if math.isfinite(value) else repr(value)
    if len(outer) < MAX_DEPTH and id(value) not in outer:
        inner = (*outer, id(value))
        if type(value) in (list, tuple):
            return [jsonable(member, inner) for member in value]  # type: ignore[attr-defined]
        if type(value) is dict and all(type(key) is str for key in value):
            return {jsonable(key): jsonable(member, inner) for key, member in value.items()}
        if issubclass(type(value), Context):
            return jsonable(value.storage, inner)  # type: ignore[attr-defined]
    return escape_surrogates(safe_repr(value))


def _callable_name(function: object) -> str:
    return getattr(function, "__qualname__", None) or escape_surrogates(safe_repr(function))


def _names_of(retry_on: object) -> list[str] | None:
    if retry_on is None:
        return None
    return [_callable_name(kind) for kind in (retry_on if isinstance(retry_on, tuple) else (retry_on,))]


Value = Annotated[Any, PlainSerializer(jsonable, when_used="json")]
Text = Annotated[str, PlainSerializer(jsonable, when_used="json")]


class FrozenModel(BaseModel):
    """The base of the models."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    @classmethod
    def read(cls, source: object, **others: Any) -> Self:
        """Returns the model of an object: its attributes of the same names, and *others*. Checks no value."""
        names = cls.model_fields.keys() - others.keys()
        return cls.model_construct(**{name: getattr(source, name) for name in names}, **others)


class ErrorResult(FrozenModel):
    """One failed attempt."""

    attempt: int
    exception: Text
    message: Text
    traceback: Text


class ItemResult(FrozenModel):
    """One failed item of a mapped task: its index, its input and its failed attempts."""

    item: int
    input: Value
    errors: list[ErrorResult]


class ItemsResult(FrozenModel):
    """The counts of a mapped task's items, and the failed ones."""

    count: int
    completed: int
    failed: int
    skipped: int
    failures: list[ItemResult]

    @classmethod
    def of(cls, task: Task) -> "ItemsResult":
        """Returns the counts of the items of *task*."""
        counts = item_counts(task) or ItemCounts(0, 0)
        failed = [item for item in task.items if item.status is TypeStatus.FAILED]
        failures = [ItemResult.read(item, errors=_errors_of(item)) for item in failed]
        return cls.read(counts, count=counts.total, failures=failures)


def _errors_of(task: Task) -> list[ErrorResult]:
    return [ErrorResult.read(error) for error in task.errors]


class TaskResult(FrozenModel):
    """The result of one task. Times are aware and in UTC, the duration is in seconds.

    `items` counts the items of a mapped task; None for every other task. `reason` is that of a skipped or paused task.
    """

    task_id: int
    name: Text
    group_name: Text
    status: TypeStatus
    value: Value
    errors: list[ErrorResult]
    attempt: int
    retry_count: int
    started_at: datetime | None
    finished_at: datetime | None
    duration: float | None
    reason: Text = ""
    items: ItemsResult | None = None

    @classmethod
    def of(cls, task: Task) -> "TaskResult":
        """Returns the model of *task*."""
        value, items = task.current_context.storage, ItemsResult.of(task) if task.is_mapped else None
        return cls.read(task, value=value, errors=_errors_of(task), items=items)


class WorkflowResult(FrozenModel):
    """The result of a run."""

    workflow_id: Text
    run_id: Text | None
    name: Text | None
    status: TypeStatus
    tasks: list[TaskResult]

    @classmethod
    def of(
        cls, workflow_id: str, run_id: str | None, name: str | None, status: TypeStatus, tasks: Iterable[Task]
    ) -> "WorkflowResult":
        """Returns the model of a run."""
        return cls.model_construct(
            workflow_id=workflow_id,
            run_id=run_id,
            name=name,
            status=status,
            tasks=[TaskResult.of(task) for task in tasks],
        )


class PolicySchema(FrozenModel):
    """A step's attempts, timeout and delays, in seconds."""

    retry: int
    timeout: float
    retry_delay: float
    backoff: bool
    retry_on: list[Text] | None
    max_delay: float | None
    jitter: float
    poll: float | None
    poll_timeout: float | None
    isolate: bool
    resources: dict[str, float]


class TaskSchema(FrozenModel):
    """A task's definition."""

    task_id: int
    name: Text
    step: Text
    group_name: Text
    callback: Text | None
    initial_context: Value
    policy: PolicySchema

    @classmethod
    def of(cls, task: Task) -> "TaskSchema":
        """Returns the model of *task*."""
        step, policy = task.step, task.step.policy
        return cls.read(
            task,
            step=step.identity,
            callback=None if task.callback is None else _callable_name(task.callback),
            initial_context=task.initial_context.storage,
            policy=PolicySchema.read(
                policy,
                retry=policy.attempts,
                retry_delay=policy.delay,
                retry_on=_names_of(policy.retry_on),
                isolate=bool(step.isolate),
                resources=dict(step.resources),
            ),
        )


class WorkflowSchema(FrozenModel):
    """A workflow's definition."""

    workflow_id: Text
    name: Text | None
    tasks: list[TaskSchema]

    @classmethod
    def of(cls, workflow_id: str, name: str | None, tasks: Iterable[Task]) -> "WorkflowSchema":
        """Returns the model of a workflow."""
        return cls.model_construct(workflow_id=workflow_id, name=name, tasks=[TaskSchema.of(task) for task in tasks])
