"""Decisions: whether a task runs, and with which arguments. Runs and resumes use the same functions."""

from collections.abc import Container, Mapping, Sequence
from typing import Any, Final, NamedTuple

from dotflow.core.links import PARAM, TRUE, VALUE, Bind, Condition, Constant, Group, Links, Source
from dotflow.core.masks import NO_MASKS, Masks
from dotflow.core.outputs import Part, take
from dotflow.core.task import Task
from dotflow.core.text import safe_repr, shorten
from dotflow.core.types.status import TypeStatus
from dotflow.graph.params import Params

MAX_SHOWN: Final = 60  # characters of a value in a reason

COMPLETED, FAILED = TypeStatus.COMPLETED, TypeStatus.FAILED
ENDINGS: Final[Mapping[TypeStatus, str]] = {
    FAILED: "failed",
    TypeStatus.SKIPPED: "was skipped",
    TypeStatus.PAUSED: "was paused",
}
UNFINISHED: Final = (TypeStatus.IN_PROGRESS, TypeStatus.RETRY)
NOT_ENDED: Final = (TypeStatus.NOT_STARTED, *UNFINISHED, TypeStatus.PAUSED)


class Skip(NamedTuple):
    """The task does not run, for a reason such as "good_enough was False"."""

    reason: str


Arguments = dict[str, Any]
#: What a task gets, or why it does not run.
Decision = Arguments | Skip


def decide(links: Links, tasks: Sequence[Task], params: Params, masks: Masks = NO_MASKS) -> Decision:
    """Returns the arguments of a task beside its contexts, or a Skip, by the values that it depends on.

    The tasks that it needs have ended. Comparing their values may raise any error. The reason of a Skip is masked.
    Of a mapped task they are what all items share; ItemInputs has what goes by item.
    """
    for condition in links.conditions:
        if condition.by_item:
            continue
        if isinstance(condition.source, int):
            skip = unmet_condition(condition, tasks[condition.source], masks)
        else:
            skip = unmet_value(condition, _value_at(condition.source, params), masks)
        if skip is not None:
            return skip
    for link in links.each:
        if links.nest is not None and links.nest.has(link.source):
            continue  # each round has its own list
        if isinstance(link.source, int) and not _has_items(tasks[link.source], is_whole=links.is_cross):
            return Skip(f"it needs '{tasks[link.source].name}', which {ending(tasks[link.source])}")
    return arguments(links.binds if links.nest is None else links.whole().binds, tasks, params)


def unmet_condition(condition: Condition, source: Task, masks: Masks) -> Skip | None:
    """Returns a Skip if a condition does not hold for what its source, a task or an item, ended with."""
    if not source.has_value:
        return Skip(f"it depends on '{condition.name}', which {ending(source)}")
    return unmet_value(condition, value_of(source, condition.part), masks)


def unmet_value(condition: Condition, value: Any, masks: Masks) -> Skip | None:
    """Returns a Skip if a condition does not hold for a value."""
    holds = bool(value) if condition.expected is TRUE else bool(value == condition.expected)
    if holds is not condition.negated:
        return None
    return Skip(f"{condition.name} was {shorten(masks.mask(safe_repr(value)), MAX_SHOWN)}")


def unmet_need(needs: Sequence[Group], tasks: Sequence[Task], not_needed: Container[int] = ()) -> Skip | None:
    """Returns a Skip if a task that must have completed has not; None if all have.

    Of an added workflow the last task must have completed, and none may have failed. Order does not count where
    checkpoints are judged: what is restored stays, whatever becomes of its needs in this run.

    Args:
        needs: The order edges of a task.
        tasks: The tasks. Those that it needs have ended.
        not_needed: The tasks that a resume leaves out, since they have nothing to do.
    """
    for group in needs:
        skip = unmet_group([tasks[task_id] for task_id in group], is_left_out=group[-1] in not_needed)
        if skip is not None:
            return skip
    return None


def unmet_group(records: Sequence[Task], *, is_left_out: bool = False) -> Skip | None:
    """Returns a Skip if one of the tasks or items of an order edge has failed, or the last one has not completed."""
    last = records[-1]
    is_met = is_left_out or last.status is COMPLETED
    unmet = next((record for record in records if record.status is FAILED), None if is_met else last)
    return None if unmet is None else Skip(f"it needs '{unmet.name}', which {ending(unmet)}")


def arguments(binds: Sequence[Bind], tasks: Sequence[Task], params: Params) -> Decision:
    """Returns the argument of each parameter whose task has a value; a Skip if one without is required."""
    values: Arguments = {}
    for parameter, kind, source, required, part in binds:
        if isinstance(source, int):
            task = tasks[source]
            if task.has_value:
                value = task.value if kind == VALUE else task.current_context
                values[parameter] = value if part is None else take(value, part, is_mapped=task.gives_list)
            elif required:
                return Skip(f"it needs '{task.name}', which {ending(task)}")
        elif kind == PARAM:
            values[parameter] = _value_at(source, params)
        else:
            values[parameter] = params
    return values


def value_of(task: Task, part: Part | None) -> Any:
    """Returns the value of a task, or the part of it; of a mapped task the list of its items' parts."""
    return take(task.value, part, is_mapped=task.gives_list)


def _value_at(source: Source, params: Params) -> Any:
    if isinstance(source, str):
        return params[source]
    assert isinstance(source, Constant), "tasks and items have been asked before"
    return source.value


def _has_items(task: Task, *, is_whole: bool) -> bool:
    """Returns whether a map over the task can open. A mapped source may still run, unless it is needed as a whole."""
    return task.has_value or (task.gives_items and task.status in UNFINISHED and not is_whole)


def ending(task: Task) -> str:
    """Returns how a task without a value ended, for a reason."""
    return ENDINGS.get(task.status, "did not run")
