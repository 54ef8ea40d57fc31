"""The summary of a run as a table in the terminal."""

from collections.abc import Sequence
from typing import Final, TextIO

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from dotflow.cli.formatting import STYLES, max_attempts, one_line
from dotflow.cli.live.view import symbol
from dotflow.cli.run.details import failures, note
from dotflow.cli.run.summary import duration, listed_tasks, summary
from dotflow.core.task import Task
from dotflow.core.types.status import TypeStatus

GAP: Final = 2  # characters between two columns
FIXED_WIDTH: Final = 27  # characters of the symbol, status and duration columns, with their gaps
ATTEMPTS_WIDTH: Final = 10  # with its gap


def print_summary(stream: TextIO, status: str, tasks: Sequence[Task], seconds: float, hint: str) -> None:
    """Prints the table, the errors, the counts and the hint."""
    console = Console(file=stream, highlight=False)
    console.print()
    if listed_tasks(tasks)[0]:
        console.print(_table(tasks, console.width))
    for task, lines in failures(tasks):
        console.print()
        heading = Text.assemble(
            symbol(task.status),
            " ",
            (f"task {task.task_id} {one_line(task.name)}", "bold"),
            *([f" ({one_line(task.group_name)})"] if task.group_name != "default" else []),
            *([f", {note(task)}"] if task.status is not TypeStatus.FAILED else []),
        )
        console.print(heading)
        for line in lines:
            style = "dim" if line.is_location else STYLES[task.status]
            console.print(Padding(Text(line.text, style), (0, 0, 0, 2 + 4 * line.depth)))
    console.print()
    styles: dict[str, str] = {TypeStatus.COMPLETED: "bold green", TypeStatus.PAUSED: "bold yellow"}
    style = styles.get(status, "bold red")
    console.print(Text.assemble((status, style), f": {summary(tasks, seconds)}"))
    if hint:
        console.print(Text(hint, "dim"))


def _table(tasks: Sequence[Task], width: int) -> Table:
    grouped = len({task.group_name for task in tasks}) > 1
    listed, omitted = listed_tasks(tasks)
    retried = any(max_attempts(task) > 1 and not task.is_mapped for task in tasks)
    notes = {task.task_id: note(task) for task in listed}
    room = width - FIXED_WIDTH - (ATTEMPTS_WIDTH if retried else 0)  # for names and notes
    note_width = min(max(map(len, notes.values()), default=0), max(8, room * 3 // 5 - GAP))
    names_width = room - (note_width + GAP if note_width else 0)
    max_width = max(8, names_width // (2 if grouped else 1) - GAP)  # names are cut, other columns are not
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", expand=False)
    table.add_column("", width=1, no_wrap=True)
    table.add_column("Task", no_wrap=True, overflow="ellipsis", max_width=max_width)
    if grouped:
        table.add_column("Group", no_wrap=True, overflow="ellipsis", max_width=max_width)
    table.add_column("Status", no_wrap=True)
    if retried:
        table.add_column("Attempts", justify="right", no_wrap=True)
    table.add_column("Duration", justify="right", no_wrap=True)
    if note_width:
        table.add_column("", max_width=note_width)
    for task in listed:
        table.add_row(
            symbol(task.status),
            Text.assemble((f"{task.task_id} ", "dim"), one_line(task.name)),
            *([Text(one_line(task.group_name))] if grouped else []),
            Text(str(task.status), STYLES[task.status]),
            *([_attempts(task)] if retried else []),
            duration(task),
            *([Text(notes[task.task_id])] if note_width else []),
        )
    if omitted:
        table.add_row("", Text(f"and {omitted} more", "dim"))
    return table


def _attempts(task: Task) -> str:
    """Returns the last attempt of those allowed; "" where there is only one, and for a map, whose items have theirs."""
    allowed = max_attempts(task)
    return f"{task.attempt}/{allowed}" if allowed > 1 and task.attempt and not task.is_mapped else ""
