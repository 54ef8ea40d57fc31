"""The live view: each task with its status, attempt and time, groups side by side, fitted to the terminal."""

from collections.abc import Sequence
from itertools import islice
from math import ceil
from typing import Final

from rich.cells import cell_len
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from dotflow.cli.formatting import one_line
from dotflow.cli.live.progress import ACTIVE, Items, Progress, Rows, TaskRow
from dotflow.core.durations import format_duration
from dotflow.core.types.status import TypeStatus

MIN_GROUP_WIDTH: Final = 38  # characters of a task's line
MAX_GROUP_WIDTH: Final = 76  # characters; longer lines are hard to read
GAP: Final = 2
SPINNER: Final = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
ASCII_SPINNER: Final = "|/-\\"
SPINS_PER_SECOND: Final = 10.0

#: Status -> its symbol, the symbol in ASCII, and its style.
SYMBOLS: Final = {
    TypeStatus.NOT_STARTED: ("·", ".", "dim"),
    TypeStatus.IN_PROGRESS: ("", "", "cyan"),
    TypeStatus.COMPLETED: ("✓", "+", "green"),
    TypeStatus.PAUSED: ("‖", "=", "yellow"),
    TypeStatus.RETRY: ("↻", "~", "yellow"),
    TypeStatus.FAILED: ("✗", "x", "bold red"),
    TypeStatus.SKIPPED: ("–", "-", "dim"),
}
MIN_BAR_WIDTH: Final = 6  # of a map; where there is less room, there is none
STATUS_WIDTH: Final = 11


def symbol(status: TypeStatus, *, ascii_only: bool, now: float = 0.0) -> Text:
    """Returns the symbol of a status in its style; that of a running task is a spinner."""
    character, plain, style = SYMBOLS[status]
    if not character:
        spinner = ASCII_SPINNER if ascii_only else SPINNER
        return Text(spinner[int(now * SPINS_PER_SECOND) % len(spinner)], style)
    return Text(plain if ascii_only else character, style)


def render(progress: Progress, title: str, now: float, width: int, height: int, ascii_only: bool = False) -> Table:
    """Returns the view at the time *now* (monotonic) for a terminal of *width* columns and *height* lines."""
    groups = len(progress.groups)
    columns = max(1, min(groups, (width + GAP) // (MIN_GROUP_WIDTH + GAP)))
    group_width = min(MAX_GROUP_WIDTH, (width - GAP * (columns - 1)) // columns)
    total_width = min(width, group_width * columns + GAP * (columns - 1))
    max_rows = (height - 5) // max(1, ceil(groups / columns)) - (2 if groups > 1 else 0)
    elapsed = format_duration(progress.seconds(now), compact=True)
    done = f"{progress.all.done}/{len(progress.rows)} done  {elapsed}"
    view = Table.grid(expand=False)
    view.add_row("")  # between the output and the view
    view.add_row(_heading(one_line(title), done, total_width, 26))
    view.add_row(_run_bar(progress.all, total_width, ascii_only))
    if max_rows < 2 and groups > 1:
        view.add_row(_active_groups(progress, now, min(width, MAX_GROUP_WIDTH), height - 5, ascii_only))
        return view
    blocks: list[RenderableType] = [
        _group(name if groups > 1 else "", rows, now, group_width, max(2, max_rows), ascii_only)
        for name, rows in progress.groups.items()
    ]
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


def _run_bar(rows: Rows, width: int, ascii_only: bool) -> Text:
    """Returns the bar of the run, to which each task adds the same, and a running map what it has done so far."""
    begun = sum(row.items.done / row.items.count for row in list(rows.active.values()) if row.items and row.items.count)
    parts = ((rows.done - rows.failed + begun, "green"), (rows.failed, "red"))
    return bar(width, parts, len(rows.rows), ascii_only=ascii_only)


def bar(width: int, parts: Sequence[tuple[float, str]], count: int, *, ascii_only: bool) -> Text:
    """Returns a bar of *count*, begun with parts of so many in these styles."""
    line = "=" if ascii_only else "━"
    text = Text()
    total = 0.0
    for size, style in parts:
        begin = int(width * total / max(1, count))
        total += size
        text.append(line * (int(width * total / max(1, count)) - begin), style)
    return text.append((" " if ascii_only else line) * (width - len(text)), "bright_black")


def _group(group: str, rows: Rows, now: float, width: int, max_rows: int, ascii_only: bool) -> Table:
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
        lines.add_row(
            symbol(row.status, ascii_only=ascii_only, now=now), *_cells(row, now, width - 29, ascii_only=ascii_only)
        )
    if after:
        lines.add_row("", Text(f"… {after} more", "dim"))
    block.add_row(lines)
    return block


def _cells(row: TaskRow, now: float, width: int, *, ascii_only: bool) -> tuple[Text, Text, Text, Text]:
    """Returns name, status, attempt and time; of a map, a bar beside the name, and how many of its items are done."""
    name = Text(row.name, "dim" if row.status in (TypeStatus.NOT_STARTED, TypeStatus.SKIPPED) else "")
    status = Text(str(row.status), SYMBOLS[row.status][2])
    attempt = f"{row.attempt}/{row.attempts}" if row.attempts > 1 and row.attempt else ""
    if row.reason:
        name.append(f"  {row.reason}")
    if row.items is not None:
        name.append(_map_bar(row.items, width - cell_len(row.name), ascii_only=ascii_only))
        status = Text(_of(row.items.done, row.items.count), "bold red" if row.items.failed else status.style)
    return name, status, Text(attempt, "dim"), Text(_time(row, now), "" if row.status in ACTIVE else "dim")


def _map_bar(items: Items, width: int, *, ascii_only: bool) -> Text:
    """Returns the bar of a map and its counts, in words or else symbols, as far as they fit in *width* characters."""
    counts = [
        (items.failed, "failed", symbol(TypeStatus.FAILED, ascii_only=ascii_only)),
        (items.retries, "retry" if items.retries == 1 else "retries", symbol(TypeStatus.RETRY, ascii_only=ascii_only)),
        (items.skipped, "skipped", symbol(TypeStatus.SKIPPED, ascii_only=ascii_only)),
        (items.restored if items.restored < items.count else 0, "restored", Text()),
    ]
    words = ", ".join(f"{count} {word}" for count, word, _ in counts if count)
    short = " ".join(f"{sign}{count}" for count, _, sign in counts if count and sign)
    notes = next(
        (text for text in (words, short, short.partition(" ")[0]) if len(text) + MIN_BAR_WIDTH + 5 <= width), ""
    )
    length = width - 3 - (len(notes) + 2 if notes else 0)
    if length < MIN_BAR_WIDTH:
        return Text()
    parts = ((items.completed, "green"), (items.failed, "red"), (items.skipped, "yellow"))
    line = bar(length, parts, items.count, ascii_only=ascii_only)
    return Text.assemble("  ", line, (f"  {notes}" if notes else "", "dim"))


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


def _active_groups(progress: Progress, now: float, width: int, max_rows: int, ascii_only: bool) -> Table:
    """Returns a line for each group with a running task, and the count of the other groups."""
    lines = _grid(1, (width - 22) // 2, 7, (width - 22) // 2, 8, right=(2, 4))
    active = ((name, rows, row) for name, rows in progress.groups.items() for row in list(rows.active.values())[:1])
    visible = list(islice(active, max(1, max_rows - 1)))
    for name, rows, row in visible:
        lines.add_row(
            symbol(row.status, ascii_only=ascii_only, now=now),
            Text(name, "bold"),
            Text(f"{rows.done}/{len(rows.rows)}", "dim"),
            Text(row.name),
            Text(_time(row, now)),
        )
    if others := len(progress.groups) - len(visible):
        lines.add_row("", Text(f"… {others} other groups", "dim"))
    return lines
