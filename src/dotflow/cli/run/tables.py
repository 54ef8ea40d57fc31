"""The summary of a run as a table in the terminal."""

from collections.abc import Sequence
from typing import Final

from rich.text import Text

from dotflow.cli.formatting import STYLES, max_attempts, one_line, pluralize
from dotflow.cli.history.text import Column, Screen
from dotflow.cli.live.view import symbol
from dotflow.cli.run.details import failures, note
from dotflow.cli.run.summary import duration, listed_tasks, summary
from dotflow.core.task import Task
from dotflow.core.types.status import TypeStatus

COLUMNS: Final = (
    Column(""),
    Column("Task", fits=1),
    Column("Group", fits=1),
    Column("Status"),
    Column("Attempts", is_right=True),
    Column("Duration", is_right=True),
    Column("", fits=1, wraps=True),  # a question or a reason, which stands nowhere else
)


def print_summary(status: str, tasks: Sequence[Task], seconds: float, hint: str) -> None:
    """Prints the table, the errors, the counts and the hint."""
    screen = Screen()
    listed, omitted = listed_tasks(tasks)
    grouped = len({task.group_name for task in tasks}) > 1
    screen.line()
    if listed:
        screen.print_table(COLUMNS, [_row(task, grouped=grouped) for task in listed])
        if omitted:
            screen.line((f"and {pluralize(omitted, 'more task')}", "dim"))
    for task, lines in failures(tasks):
        group = f" ({one_line(task.group_name)})" if task.group_name != "default" else ""
        more = f", {note(task)}" if task.status is not TypeStatus.FAILED else ""
        screen.line()
        screen.line(symbol(task.status), " ", (f"task {task.task_id} {one_line(task.name)}", "bold"), group, more)
        for line in lines:
            style = "dim" if line.is_location else STYLES[task.status]
            screen.line(" " * (2 + 4 * line.depth), (line.text, style))
    screen.line()
    styles: dict[str, str] = {TypeStatus.COMPLETED: "bold green", TypeStatus.PAUSED: "bold yellow"}
    screen.line((status, styles.get(status, "bold red")), f": {summary(tasks, seconds)}")
    if hint:
        screen.line((hint, "dim"))


def _row(task: Task, *, grouped: bool) -> list[Text | str]:
    allowed = max_attempts(task)
    has_attempts = allowed > 1 and task.attempt and not task.is_mapped  # the items of a map have theirs
    return [
        symbol(task.status),
        Text.assemble((f"{task.task_id} ", "dim"), one_line(task.name)),
        one_line(task.group_name) if grouped else "",
        Text(str(task.status), STYLES[task.status]),
        f"{task.attempt}/{allowed}" if has_attempts else "",
        duration(task),
        note(task),
    ]
