"""What became of a run, in plain lines, as a pipe, a file or a screen reader wants it."""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from dotflow.cli.formatting import many, one_line, span, spot_of
from dotflow.core.task import Task
from dotflow.core.types.status import TypeStatus

MOST: Final = 50  # tasks that are told of one by one; of more, only those that did not complete
MOST_FAILURES: Final = 20


class Verdict(NamedTuple):
    """A run in one line.

    Attributes:
        status: The run's.
        text: The counts and the time.
    """

    status: str
    text: str

    def __str__(self) -> str:
        return f"{self.status}: {self.text}"


def verdict(status: str, tasks: Sequence[Task], seconds: float) -> Verdict:
    """How many tasks completed, failed, were restored or never began, and how long it took."""
    completed = sum(task.status is TypeStatus.COMPLETED for task in tasks)
    restored = sum(task.status is TypeStatus.COMPLETED and task.attempt == 0 for task in tasks)
    failed = sum(task.status is TypeStatus.FAILED for task in tasks)
    idle = sum(task.status is TypeStatus.NOT_STARTED for task in tasks)
    parts = [f"{completed} of {many(len(tasks), 'task')} completed" if tasks else "there are no tasks"]
    if restored:
        parts[0] += f" ({restored} restored)"
    if failed:
        parts.append(f"{failed} failed")
    if idle:
        parts.append(f"{idle} not started")
    return Verdict(status, f"{', '.join(parts)}, in {span(seconds)}")


def told_tasks(tasks: Sequence[Task]) -> tuple[Sequence[Task], int]:
    """The tasks to tell of one by one, and how many are left out."""
    if len(tasks) <= MOST:
        return tasks, 0
    told = [task for task in tasks if task.status is not TypeStatus.COMPLETED][:MOST]
    return told, len(tasks) - len(told)


def took(task: Task) -> str:
    """How long it took, in words."""
    if task.status is TypeStatus.COMPLETED and not task.attempt:
        return "restored"
    return "" if task.duration is None else span(task.duration)


def failures(tasks: Sequence[Task]) -> Iterator[tuple[Task, str, str]]:
    """Each failed task, with its error in a line, and where it was raised."""
    failed = [task for task in tasks if task.status is TypeStatus.FAILED and task.error is not None]
    for task in failed[:MOST_FAILURES]:
        error = task.error
        assert error is not None
        spot = spot_of(error.traceback)
        where = "" if spot is None else f"{spot}: {spot.code}" if spot.code else str(spot)
        yield task, one_line(f"{error.exception}: {error.message}"), one_line(where)


def plain(status: str, tasks: Sequence[Task], seconds: float, hint: str) -> Iterator[str]:
    """The lines: one for each task, what went wrong and where, and the verdict."""
    grouped = len({task.group_name for task in tasks}) > 1
    errors = {task.task_id: lines for task, *lines in failures(tasks)}
    shown, left = told_tasks(tasks)
    for task in shown:
        group = f" ({one_line(task.group_name)})" if grouped else ""
        attempts = f" after {many(task.attempt, 'attempt')}" if task.attempt > 1 else ""
        time = f", {took(task)}" if took(task) else ""
        yield f"task {task.task_id} {one_line(task.name)}{group}: {task.status}{attempts}{time}"
        yield from (f"    {line}" for line in errors.get(task.task_id, ()) if line)
    if left:
        yield f"and {many(left, 'more task')}"
    yield str(verdict(status, tasks, seconds))
    if hint:
        yield hint
