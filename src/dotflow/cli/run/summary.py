"""The summary of a run in plain lines, for a pipe, a file or a screen reader."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from dotflow.cli.formatting import RESTORED, one_line, pluralize
from dotflow.cli.run.details import failures, note
from dotflow.core.durations import format_duration
from dotflow.core.task import Task
from dotflow.core.types.status import TypeStatus

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
