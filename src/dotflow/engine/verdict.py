"""Verdict: whether a task runs, and with which arguments. A run and a plan of it ask the same functions."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from dotflow.core.links import PARAM, TRUE, VALUE, Bind, Condition, Constant, Links
from dotflow.core.params import Params
from dotflow.core.task import Task
from dotflow.core.text import shorten
from dotflow.core.types.status import TypeStatus

MAX_SHOWN: Final = 60  # characters of a value in a reason

FATES: Final[Mapping[TypeStatus, str]] = {
    TypeStatus.FAILED: "failed",
    TypeStatus.SKIPPED: "was skipped",
}


UNFINISHED: Final = (TypeStatus.IN_PROGRESS, TypeStatus.RETRY)


class Skip(NamedTuple):
    """The task does not run: *reason* says why, as in "good_enough was False"."""

    reason: str


Arguments = dict[str, Any]


def decide(links: Links, tasks: Sequence[Task], params: Params) -> Arguments | Skip:
    """Returns the arguments that a task's step is given beside its contexts, or why the task is skipped.

    The tasks that it needs have ended. Comparing their values runs the values' own code, which may raise.
    """
    for condition in links.conditions:
        if isinstance(condition.source, int) and not has_value(tasks[condition.source]):
            return Skip(f"it depends on '{condition.name}', which {fate(tasks[condition.source])}")
        value = _value_at(condition.source, tasks, params)
        if _holds(condition, value) is condition.negated:
            return Skip(f"{condition.name} was {shorten(repr(value), MAX_SHOWN)}")
    for each in links.each:
        if isinstance(each.source, int) and not _has_items(tasks[each.source]):
            return Skip(f"it needs '{tasks[each.source].name}', which {fate(tasks[each.source])}")
    for bind in links.binds:
        if bind.required and isinstance(bind.source, int) and not has_value(tasks[bind.source]):
            return Skip(f"it needs '{tasks[bind.source].name}', which {fate(tasks[bind.source])}")
    return arguments(links.binds, tasks, params)


def arguments(binds: Sequence[Bind], tasks: Sequence[Task], params: Params) -> Arguments:
    """Returns the value of each parameter, without those whose task has none."""
    found: Arguments = {}
    for parameter, kind, source, _ in binds:
        if isinstance(source, int):
            task = tasks[source]
            if not has_value(task):
                continue
            found[parameter] = value_of(task) if kind == VALUE else task.current_context
        elif kind == PARAM:
            found[parameter] = _value_at(source, tasks, params)
        else:
            found[parameter] = params
    return found


def _value_at(source: int | str | Constant, tasks: Sequence[Task], params: Params) -> Any:
    if isinstance(source, int):
        return value_of(tasks[source])
    return params[source] if isinstance(source, str) else source.value


def has_value(task: Task) -> bool:
    """Returns whether others may take the task's value: it completed, or some of its items did."""
    return task.status is TypeStatus.COMPLETED or task.has_values


def _has_items(task: Task) -> bool:
    """Whether a map over the task can open: a mapped one may still run."""
    return has_value(task) or (task.is_mapped and task.status in UNFINISHED)


def value_of(task: Task) -> Any:
    """Returns the task's value; of a mapped task those that there are."""
    value = task.current_context.storage
    if task.is_mapped and task.status is not TypeStatus.COMPLETED:
        return [item.current_context.storage for item in task.items if item.status is TypeStatus.COMPLETED]
    return value


def fate(task: Task) -> str:
    """Returns what became of a task that has no value."""
    return FATES.get(task.status, "did not run")


def _holds(condition: Condition, value: Any) -> bool:
    return bool(value) if condition.expected is TRUE else bool(value == condition.expected)
