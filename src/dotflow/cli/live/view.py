"""What a terminal shows of a run: the live view, and the summary as a table at the end."""

from collections.abc import Sequence
from itertools import islice
from math import ceil
from typing import Final

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from dotflow.cli.formatting import STYLES, max_attempts, one_line, pluralize
from dotflow.cli.live.progress import ACTIVE, Calls, Items, Progress, Rows, TaskRow
from dotflow.cli.screen import Column, Screen
from dotflow.cli.summary import duration, failures, listed_tasks, note, summary
from dotflow.core.durations import format_duration
from dotflow.core.task import Task
from dotflow.core.text import count_calls
from dotflow.core.types.status import TypeStatus
from dotflow.report.text import SYMBOLS

MIN_GROUP_WIDTH: Final = 38  # characters of a task's line
MAX_GROUP_WIDTH: Final = 76  # characters; longer lines are hard to read
GAP: Final = 2
LINE: Final = "━"  # of a bar
SPINNER: Final = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
SPINS_PER_SECOND: Final = 10.0

MIN_BAR_WIDTH: Final = 6  # of a map; where there is less room, there is none
MIN_CALL_WIDTH: Final = 6  # characters of the last call of a durable step; with less, there is none
STATUS_WIDTH: Final = 11


def symbol(status: TypeStatus, now: float = 0.0) -> Text:
    """Returns the symbol of a status in its style; that of a running task is a spinner."""
    spinner = SPINNER[int(now * SPINS_PER_SECOND) % len(SPINNER)]
    return Text(SYMBOLS.get(status, spinner), STYLES[status])


def render(progress: Progress, title: str, now: float, width: int, height: int) -> Table:
    """Returns the view at the time *now* (monotonic) for a terminal of *width* columns and *height* lines."""
    groups = progress.groups
    columns = max(1, min(len(groups), (width + GAP) // (MIN_GROUP_WIDTH + GAP)))
    max_rows = (height - 5) // max(1, ceil(len(groups) / columns)) - 2  # below the name of the group
    if len(groups) < 2 or max_rows < 2:
        groups, columns, max_rows = {"": progress.all}, 1, height - 5
    group_width = min(MAX_GROUP_WIDTH, (width - GAP * (columns - 1)) // columns)
    total_width = group_width * columns + GAP * (columns - 1)
    elapsed = format_duration(progress.seconds(now), compact=True)
    done = f"{progress.all.done}/{len(progress.rows)} done  {elapsed}"
    view = Table.grid(expand=False)
    view.add_row("")  # between the output and the view
    view.add_row(_heading(one_line(title), done, total_width, 26))
    view.add_row(_run_bar(progress.all, total_width))
    blocks = [_group(name, rows, now, group_width, max(2, max_rows)) for name, rows in groups.items()]
    side_by_side = Table.grid(padding=(0, GAP, 0, 0))
    for start in range(0, len(blocks), columns):
        side_by_side.add_row(*blocks[start : start + columns])
    view.add_row(side_by_side)
    return view


def _heading(name: str, right: str, width: int, right_width: int) -> Table:
    line = _grid(max(1, width - right_width - 1), right_width, right=(1,))
    line.add_row(Text(name, "bold"), Text(right, "dim"))
    return line


def _grid(*widths: int, right: tuple[int, ...]) -> Table:
    """Returns an empty grid with columns of these widths; *right* has the indexes of those that align right."""
    grid = Table.grid(padding=(0, 1, 0, 0), expand=False)
    for index, width in enumerate(widths):
        grid.add_column(width=width, justify="right" if index in right else "left", no_wrap=True, overflow="ellipsis")
    return grid


def _run_bar(rows: Rows, width: int) -> Text:
    """Returns the bar of the run, to which each task adds the same, and a running map what it has done so far."""
    begun = sum(row.items.done / row.items.count for row in list(rows.active.values()) if row.items and row.items.count)
    parts = ((rows.done - rows.failed + begun, "green"), (rows.failed, "red"))
    return bar(width, parts, len(rows.rows))


def bar(width: int, parts: Sequence[tuple[float, str]], count: int) -> Text:
    """Returns a bar of *count*, begun with parts of so many in these styles."""
    text = Text()
    total = 0.0
    for size, style in parts:
        begin = int(width * total / max(1, count))
        total += size
        text.append(LINE * (int(width * total / max(1, count)) - begin), style)
    return text.append(LINE * (width - len(text)), "bright_black")


def _group(group: str, rows: Rows, now: float, width: int, max_rows: int) -> Table:
    """Returns the tasks of a group, in *max_rows* lines at most, below its name."""
    block = Table.grid(expand=False)
    if group:
        block.add_row("")
        block.add_row(_heading(group, f"{rows.done}/{len(rows.rows)}", width, 8))
    lines = _grid(1, width - 29, STATUS_WIDTH, 4, 8, right=(3, 4))
    before, visible, after = window(rows.rows, rows.first_left, max_rows)
    if sum(row.status in ACTIVE for row in visible) < len(rows.active):  # others run further down
        visible = list(islice(list(rows.active.values()), max(1, max_rows - 1)))
        before, after = 0, len(rows.rows) - len(visible)
    if before:
        lines.add_row("", Text(f"… {before} before", "dim"))
    for row in visible:
        lines.add_row(symbol(row.status, now=now), *_cells(row, now, width - 29))
    if after:
        lines.add_row("", Text(f"… {after} more", "dim"))
    block.add_row(lines)
    return block


def _cells(row: TaskRow, now: float, width: int) -> tuple[Text, Text, Text, Text]:
    """Returns name, status, attempt and time; of a map, a bar beside the name, and how many of its items are done."""
    name = Text(row.name, "dim" if row.status in (TypeStatus.NOT_STARTED, TypeStatus.SKIPPED) else "")
    status = Text(str(row.status), STYLES[row.status])
    attempt = f"{row.attempt}/{row.attempts}" if row.attempts > 1 and row.attempt else ""
    if row.reason:
        name.append(f"  {row.reason}")
    elif row.held is not None and now < row.held[1] and not row.is_done:
        name.append(f"  {row.held[0]}")
    if row.calls is not None and row.status is TypeStatus.IN_PROGRESS:
        name.append(f"  {_calls(row.calls, now, width - cell_len(row.name) - 2)}", "dim")
    if row.items is not None:
        name.append(_map_bar(row.items, width - cell_len(name.plain)))
        status = Text(
            _of(row.items.done, row.items.count), "bold red" if row.items.counts[TypeStatus.FAILED] else status.style
        )
    return name, status, Text(attempt, "dim"), Text(_time(row, now), "" if row.status in ACTIVE else "dim")


def _calls(calls: Calls, now: float, width: int) -> str:
    """Returns the calls of a durable step, as in "12 calls, search('weather') 8 s": the last one where it fits."""
    counts = f"{count_calls(calls.made)}{f', {calls.given:,} given back' if calls.given else ''}"
    seconds = "" if calls.began is None else f" {format_duration(max(0.0, now - calls.began), compact=True)}"
    room = width - len(counts) - len(", ") - len(seconds)
    shown = f"{calls.shown} {calls.waits}".rstrip()
    return f"{counts}, {one_line(shown, room)}{seconds}" if calls.shown and room >= MIN_CALL_WIDTH else counts


def _map_bar(items: Items, width: int) -> Text:
    """Returns the bar of a map and, where they fit in *width* characters, too, its counts."""
    counts = items.counts
    failed, retries, skipped = (counts[status] for status in (TypeStatus.FAILED, TypeStatus.RETRY, TypeStatus.SKIPPED))
    restored = items.restored if items.restored < items.count else 0
    known = {
        "failed": failed,
        "retry" if retries == 1 else "retries": retries,
        "skipped": skipped,
        "restored": restored,
    }
    notes = ", ".join(f"{count} {word}" for word, count in known.items() if count)
    if len(notes) + MIN_BAR_WIDTH + 5 > width:
        notes = ""
    length = width - 3 - (len(notes) + 2 if notes else 0)
    if length < MIN_BAR_WIDTH:
        return Text()
    parts = ((counts[TypeStatus.COMPLETED], "green"), (failed, "red"), (skipped, "yellow"))
    return Text.assemble("  ", bar(length, parts, items.count), (f"  {notes}" if notes else "", "dim"))


def _of(done: int, count: int) -> str:
    """Returns how many are done, in eleven characters at most."""
    text = f"{done}/{count}"
    return text if len(text) <= STATUS_WIDTH else f"{100 * done // count} %"


def _time(row: TaskRow, now: float) -> str:
    if row.status is TypeStatus.RETRY:
        return f"in {max(0, ceil(row.retry_at - now))} s"
    if row.restored:
        return row.restored
    if row.items and row.items.restored and row.items.restored == row.items.count:
        return "restored"
    seconds = row.seconds(now)
    return "" if seconds is None else format_duration(seconds, compact=True)


def window(rows: Sequence[TaskRow], first: int, max_rows: int) -> tuple[int, Sequence[TaskRow], int]:
    """Returns how many rows of a long list to omit before, the rows that fit in *max_rows* lines, and how many after.

    They begin with the last row that is done, if it fits, and include that with the index *first*, the first that is
    not. The count of omitted rows takes a line, so two or more are omitted before, or none.
    """
    if len(rows) <= max_rows:
        return 0, rows, 0
    start = first - 1 if max_rows > 3 else first
    if start < 2:
        start = 0
    elif start > len(rows) - (max_rows - 1):
        start = len(rows) - max(1, max_rows - 1)
    size = max_rows - (1 if start == 0 or start + max_rows - 1 >= len(rows) else 2)
    end = min(len(rows), start + max(1, size))
    return start, rows[start:end], len(rows) - end


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
