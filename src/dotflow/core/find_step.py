"""Finds the task of a past run that a text names."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from dotflow.errors import NotInHistory, close_match

if TYPE_CHECKING:
    from dotflow.core.record import TaskRecord

MAX_NAMES: Final = 8  # in an error


def find_step(run_id: str, tasks: "Sequence[TaskRecord]", step: str) -> "tuple[TaskRecord, int | None]":
    """Returns the task that *step* names, and the index of an item, which may not exist; None for the task itself.

    Raises NotInHistory if there is no such task, or several tasks have the name.
    """
    named, item = _named(tasks, step), None
    name, mark, number = step.rpartition("#")
    if not named and mark and number.isascii() and number.isdigit():
        step, named, item = name, _named(tasks, name), int(number)
    if len(named) == 1:
        return named[0], item
    what = f"Can't find the step '{step}' in the run {run_id[:8]}"
    if named:
        numbers = " and ".join(str(task.task_id) for task in named)
        raise NotInHistory(what, f"the tasks {numbers} have this name. Pass a number")
    names = list(dict.fromkeys(task.name for task in tasks))
    listed = ", ".join(names[:MAX_NAMES]) + (" and others" if len(names) > MAX_NAMES else "")
    if step.isascii() and step.isdigit() and tasks:
        listed += f", with the numbers 0 to {len(tasks) - 1}"
    raise NotInHistory(what, f"it has {listed or 'no tasks'}. {close_match(step, names)}".rstrip(" ."))


def no_item(task: "TaskRecord", item: int) -> NotInHistory:
    """Returns the error about an item that does not exist."""
    has = "it is no map" if task.count is None else f"it has {task.count} items, which count from 0"
    return NotInHistory(f"Can't find item {item} of '{task.name}'", has)


def _named(tasks: "Sequence[TaskRecord]", step: str) -> "list[TaskRecord]":
    is_number = step.isascii() and step.isdigit() and int(step) < len(tasks)
    return [task for task in tasks if task.name == step] or ([tasks[int(step)]] if is_number else [])
