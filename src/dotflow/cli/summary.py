"""The summary of a run in plain lines, for a pipe, a file or a screen reader, with the details of its tasks."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from dotflow.cli.formatting import RESTORED, one_line, pluralize
from dotflow.core.durations import format_duration
from dotflow.core.failure import TaskError, raised_at
from dotflow.core.item_counts import ItemCounts, item_counts, levels_of
from dotflow.core.task import Task
from dotflow.core.text import safe_repr, shorten
from dotflow.core.types.status import TypeStatus
from dotflow.engine.stop import STOPPED
from dotflow.errors import ItemsFailed

MAX_LISTED: Final = 50  # tasks with a line each; of more, only those that did not complete


def summary(tasks: Sequence[Task], seconds: float) -> str:
    """Returns the counts of tasks that have completed (also restored and cached) and of others, and the duration."""
    by_status = Counter(task.status for task in tasks)
    by_source = Counter(task.restored_from for task in tasks)
    restored = [f"{by_source[source]} {word}" for source, word in RESTORED.items() if by_source[source]]
    completed = f"{by_status[TypeStatus.COMPLETED]} of {pluralize(len(tasks), 'task')} completed"
    parts = [completed if tasks else "there are no tasks"]
    if restored:
        parts[0] += f" ({', '.join(restored)})"
    for status in (TypeStatus.FAILED, TypeStatus.PAUSED, TypeStatus.SKIPPED, TypeStatus.NOT_STARTED):
        if by_status[status]:
            parts.append(f"{by_status[status]} {str(status).lower()}")
    return f"{', '.join(parts)}, in {format_duration(seconds, compact=True)}"


def listed_tasks(tasks: Sequence[Task]) -> tuple[Sequence[Task], int]:
    """Returns the tasks with a line each, and the count of the others."""
    if len(tasks) <= MAX_LISTED:
        return tasks, 0
    listed = [task for task in tasks if task.status is not TypeStatus.COMPLETED][:MAX_LISTED]
    return listed, len(tasks) - len(listed)


def duration(task: Task) -> str:
    """Returns the duration of a task as text."""
    if task.restored_from is not None:
        return RESTORED[task.restored_from]
    return "" if task.duration is None else format_duration(task.duration, compact=True)


def summary_lines(status: str, tasks: Sequence[Task], seconds: float, hint: str = "") -> Iterator[str]:
    """Yields a line for each task, the errors, the counts and the hint."""
    grouped = len({task.group_name for task in tasks}) > 1
    errors = {task.task_id: lines for task, lines in failures(tasks)}
    listed, omitted = listed_tasks(tasks)
    for task in listed:
        group = f" ({one_line(task.group_name)})" if grouped else ""
        attempts = f"after {pluralize(task.attempt, 'attempt')}" if task.attempt > 1 else ""
        parts = [" ".join(filter(None, [str(task.status), attempts])), note(task), duration(task)]
        yield f"task {task.task_id} {one_line(task.name)}{group}: {', '.join(filter(None, parts))}"
        for line in errors.get(task.task_id, ()):
            yield f"    {'    ' * line.depth}{line.text}"
    if omitted:
        yield f"and {pluralize(omitted, 'more task')}"
    yield f"{status}: {summary(tasks, seconds)}"
    if hint:
        yield hint


MAX_FAILURES: Final = 20  # tasks
MAX_ITEMS: Final = 5  # failed items of one task
MAX_INPUT: Final = 60  # characters


class ErrorLine(NamedTuple):
    """A line about an error.

    Attributes:
        text: The error, or the line of code that raised it.
        depth: How deep it is indented, from 0.
        is_location: Whether it is the line of code.
    """

    text: str
    depth: int = 0
    is_location: bool = False


def note(task: Task) -> str:
    """Returns the counts of a map's items, why the task was skipped or paused, or the fallback of its value; or ""."""
    counts = item_counts(task)
    if counts is not None:
        return _counts(counts, task)
    if task.reason:
        return one_line(task.reason)
    fallback = made_by_fallback(task, task)
    return f"by its fallback {fallback}" if fallback else ""


def made_by_fallback(record: Task, task: Task) -> str:
    """Returns the name of the fallback that has made the value of a task, or of an item of it; "" for none.

    Args:
        record: The task or the item.
        task: The task.
    """
    made_by = record.current_context.step
    if task.links is None or made_by == task.step.identity:
        return ""
    steps = (handler.step for handler in task.links.fallbacks)
    return next((one_line(step.name) for step in steps if step.identity == made_by), "")


def has_allowed(task: Task) -> bool:
    """Returns whether it is a map that completed though items failed, as its `keep_going` allows."""
    return task.is_mapped and task.status is TypeStatus.COMPLETED and bool(task.reason)


def failures(tasks: Sequence[Task]) -> Iterator[tuple[Task, list[ErrorLine]]]:
    """Yields each failed task, each that completed by its fallback or in spite of failed items, with its errors.

    The lines that raised them follow.
    """
    with_error = [task for task in tasks if task.error is not None or has_allowed(task)]
    failed = [
        task
        for task in with_error
        if task.status is TypeStatus.FAILED or has_allowed(task) or made_by_fallback(task, task)
    ]
    for task in failed[:MAX_FAILURES]:
        yield task, list(_error_lines(task))


def _counts(counts: ItemCounts, task: Task) -> str:
    text = str(counts._replace(restored=0) if counts.restored == counts.total else counts)
    counts_of = Counter(made_by_fallback(item, task) for item in task.items)
    named = (f"{count} by its fallback {name}" for name, count in counts_of.items() if name)
    return ", ".join((text, *named))


def _error_lines(task: Task) -> Iterator[ErrorLine]:
    own = task.error
    if own is not None and own.exception != ItemsFailed.__name__:  # which would repeat what follows
        yield ErrorLine(_shown(own))
        if where := _where(own):
            yield ErrorLine(where, is_location=True)
    failed = [(item, error) for item in task.items if (error := _failure_of(item)) is not None]
    previous = ""
    for item, error in failed[:MAX_ITEMS]:
        value = shorten(error.failure.masks.mask(safe_repr(item.input)), MAX_INPUT)
        where = item.name if levels_of(task) else f"[{item.item}]"
        yield ErrorLine(f"{where} {one_line(value)}: {_shown(error)}")
        where = _where(error)
        if where and where != previous:
            yield ErrorLine(where, 1, is_location=True)
        previous = where
    if len(failed) > MAX_ITEMS:
        yield ErrorLine(f"and {pluralize(len(failed) - MAX_ITEMS, 'more failed item')}")


def _failure_of(item: Task) -> TaskError | None:
    """Returns the error of an item that failed by itself; None for one that was stopped with the run."""
    error = item.error if item.status is TypeStatus.FAILED else None
    return None if error is None or error.exception in STOPPED else error


def _shown(error: TaskError) -> str:
    return one_line(f"{error.exception}: {error.message}")


def _where(error: TaskError) -> str:
    return one_line(raised_at(error.traceback))
