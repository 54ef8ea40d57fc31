"""The live view: every task with its status, attempt and time, groups side by side, fitted to the terminal."""

from collections.abc import Sequence
from itertools import islice
from math import ceil
from typing import Final

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from dotflow.cli.formatting import one_line, span
from dotflow.cli.live.progress import Progress, Row
from dotflow.core.types.status import TypeStatus

NARROWEST: Final = 38  # columns that a group needs for all that is told of a task
WIDEST: Final = 76  # beyond that the eye loses the line
GAP: Final = 2
SPINNER: Final = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
ASCII_SPINNER: Final = "|/-\\"
SPINS: Final = 10.0  # a second

#: Status -> its sign, the same where the terminal knows ASCII only, and its style.
SIGNS: Final = {
    TypeStatus.NOT_STARTED: ("·", ".", "dim"),
    TypeStatus.IN_PROGRESS: ("", "", "cyan"),
    TypeStatus.COMPLETED: ("✓", "+", "green"),
    TypeStatus.PAUSED: ("‖", "=", "yellow"),
    TypeStatus.RETRY: ("↻", "~", "yellow"),
    TypeStatus.FAILED: ("✗", "x", "bold red"),
}
ACTIVE: Final = (TypeStatus.IN_PROGRESS, TypeStatus.RETRY)


def sign(status: TypeStatus, *, ascii_only: bool, now: float = 0.0) -> Text:
    """One character for a status, in its colour; a running one turns."""
    symbol, plain, style = SIGNS[status]
    if not symbol:
        turning = ASCII_SPINNER if ascii_only else SPINNER
        return Text(turning[int(now * SPINS) % len(turning)], style)
    return Text(plain if ascii_only else symbol, style)


def frame(board: Progress, title: str, now: float, width: int, height: int, ascii_only: bool = False) -> Table:
    """What is shown at the moment *now* (monotonic) in a terminal of *width* columns and *height* lines."""
    groups = len(board.groups)
    blocks_a_row = max(1, min(groups, (width + GAP) // (NARROWEST + GAP)))
    block_width = min(WIDEST, (width - GAP * (blocks_a_row - 1)) // blocks_a_row)
    head_width = min(width, block_width * blocks_a_row + GAP * (blocks_a_row - 1))
    room = (height - 5) // max(1, ceil(groups / blocks_a_row)) - (2 if groups > 1 else 0)
    done = f"{_over(board.rows)}/{len(board.rows)} done  {span(board.seconds(now))}"
    whole = Table.grid(expand=False)
    whole.add_row("")  # between what is printed and the picture
    whole.add_row(_head(one_line(title), done, head_width, 26))
    whole.add_row(_bar(board, head_width, ascii_only))
    if room < 2 and groups > 1:
        whole.add_row(_groups_in_short(board, now, min(width, WIDEST), height - 5, ascii_only))
        return whole
    blocks: list[RenderableType] = [
        _block(name if groups > 1 else "", rows, now, block_width, max(2, room), ascii_only)
        for name, rows in board.groups.items()
    ]
    side_by_side = Table.grid(padding=(0, GAP, 0, 0))
    for start in range(0, len(blocks), blocks_a_row):
        side_by_side.add_row(*blocks[start : start + blocks_a_row])
    whole.add_row(side_by_side)
    return whole


def _over(rows: Sequence[Row]) -> int:
    return sum(row.is_over for row in rows)


def _active(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.status in ACTIVE]


def _head(name: str, right: str, width: int, right_width: int) -> Table:
    line = Table.grid(expand=False)
    line.add_column(width=max(1, width - right_width), no_wrap=True, overflow="ellipsis")
    line.add_column(width=right_width, justify="right", no_wrap=True)
    line.add_row(Text(name, "bold"), Text(right, "dim"))
    return line


def _bar(board: Progress, width: int, ascii_only: bool) -> Text:
    """How far it has come: what completed, what failed, what is left."""
    failed = sum(row.status is TypeStatus.FAILED for row in board.rows)
    over = _over(board.rows)
    count = max(1, len(board.rows))
    ends = (width * (over - failed) // count, width * over // count, width)
    line = "=" if ascii_only else "━"
    return Text.assemble(
        (line * ends[0], "green"),
        (line * (ends[1] - ends[0]), "red"),
        ((" " if ascii_only else line) * (width - ends[1]), "bright_black"),
    )


def _block(group: str, rows: Sequence[Row], now: float, width: int, room: int, ascii_only: bool) -> Table:
    """The tasks of one group, in *room* lines at the most, below its name."""
    block = Table.grid(expand=False)
    if group:
        block.add_row("")
        block.add_row(_head(group, f"{_over(rows)}/{len(rows)}", width, 8))
    lines = Table.grid(padding=(0, 1, 0, 0), expand=False)
    lines.add_column(width=1)
    lines.add_column(width=width - 29, no_wrap=True, overflow="ellipsis")
    lines.add_column(width=11, no_wrap=True)
    lines.add_column(width=4, justify="right", no_wrap=True, overflow="ellipsis")
    lines.add_column(width=8, justify="right", no_wrap=True)
    before, shown, after = window(rows, room)
    if before:
        lines.add_row("", Text(f"… {before} before", "dim"))
    for row in shown:
        lines.add_row(sign(row.status, ascii_only=ascii_only, now=now), *_told(row, now))
    if after:
        lines.add_row("", Text(f"… {after} more", "dim"))
    block.add_row(lines)
    return block


def _told(row: Row, now: float) -> tuple[Text, Text, Text, Text]:
    style = SIGNS[row.status][2]
    attempt = f"{row.attempt}/{row.attempts}" if row.attempts > 1 and row.attempt else ""
    time = _time(row, now)
    name = Text(row.name, "dim" if row.status is TypeStatus.NOT_STARTED else "")
    return name, Text(str(row.status), style), Text(attempt, "dim"), Text(time, "" if row.status in ACTIVE else "dim")


def _time(row: Row, now: float) -> str:
    if row.status is TypeStatus.RETRY:
        return f"in {max(0, ceil(row.retry_at - now))} s"
    if row.restored:
        return "restored"
    seconds = row.seconds(now)
    return "" if seconds is None else span(seconds)


def window(rows: Sequence[Row], room: int) -> tuple[int, Sequence[Row], int]:
    """What of a long list is shown in *room* lines: how many are left out before, the rows, how many after.

    It begins with the first that is not over yet, and the one before it where there is room. A line that says how many
    are left out stands in for two or more before.
    """
    if len(rows) <= room:
        return 0, rows, 0
    first = next((place for place, row in enumerate(rows) if not row.is_over), len(rows))
    start = first - 1 if room > 3 else first
    if start < 2:
        start = 0
    elif start > len(rows) - (room - 1):
        start = len(rows) - max(1, room - 1)
    size = room - (1 if start == 0 or start + room - 1 >= len(rows) else 2)
    end = min(len(rows), start + max(1, size))
    return start, rows[start:end], len(rows) - end


def _groups_in_short(board: Progress, now: float, width: int, room: int, ascii_only: bool) -> Table:
    """Many groups: a line for each that is at work, and how many others there are."""
    lines = Table.grid(padding=(0, 1, 0, 0), expand=False)
    lines.add_column(width=1)
    lines.add_column(width=(width - 22) // 2, no_wrap=True, overflow="ellipsis")
    lines.add_column(width=7, justify="right", no_wrap=True)
    lines.add_column(width=(width - 22) // 2, no_wrap=True, overflow="ellipsis")
    lines.add_column(width=8, justify="right", no_wrap=True)
    active = ((name, rows, row) for name, rows in board.groups.items() for row in _active(rows)[:1])
    shown = list(islice(active, max(1, room - 1)))
    for name, rows, row in shown:
        lines.add_row(
            sign(row.status, ascii_only=ascii_only, now=now),
            Text(name, "bold"),
            Text(f"{_over(rows)}/{len(rows)}", "dim"),
            Text(row.name),
            Text(_time(row, now)),
        )
    if left := len(board.groups) - len(shown):
        lines.add_row("", Text(f"… {left} other groups", "dim"))
    return lines
