"""The terminal: states with their symbols, moments, sizes, and tables that fit it."""

import io
import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final, Literal, NamedTuple

from rich.console import Console
from rich.text import Text

from dotflow import clock
from dotflow.cli.formatting import STYLES
from dotflow.core.approval import Question
from dotflow.core.durations import format_duration
from dotflow.core.text import escape_controls
from dotflow.core.types.run_state import TypeRunState
from dotflow.records.record import RunSummary
from dotflow.report.text import SYMBOLS, size_text

GAP: Final = 2
LONG_WAIT: Final = 600  # seconds that a run that is due may wait unmentioned
MIN_WIDTH: Final = 8  # of a column that is cut

MISSING: Final = "Missing"  # the state of a day without a run


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        title: Its head.
        is_right: Whether its texts stand on the right.
        fits: The order in which columns are made narrower where there is too little room; 0: never.
        wraps: Whether its texts go on in further lines then; otherwise they are cut.
    """

    title: str
    is_right: bool = False
    fits: int = 0
    wraps: bool = False


class Screen:
    """Stdout: with colours and cut to its width if it is a terminal, otherwise plain and uncut."""

    def __init__(self) -> None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # for characters that its encoding lacks
        self.is_terminal = sys.stdout.isatty()
        # Rich alone keeps bold and dim under NO_COLOR.
        colours: Literal["auto"] | None = "auto" if self.is_terminal and not os.environ.get("NO_COLOR") else None
        self._console = Console(
            file=sys.stdout, color_system=colours, highlight=False, markup=False, emoji=False, soft_wrap=True
        )
        self.width = self._console.width if self.is_terminal else sys.maxsize

    def line(self, *parts: str | tuple[str, str] | Text) -> None:
        """Writes a line of texts, or texts with a style. The terminal breaks what is too long, so it can be copied."""
        self._console.print(Text.assemble(*parts), soft_wrap=True)

    def fact(self, label: str, text: object) -> None:
        """Writes a line with a label."""
        self.line((f"{label:8} ", "dim"), safe(text))

    def print_table(self, columns: Sequence[Column], rows: Sequence[Sequence[Text | str]]) -> None:
        """Writes a table."""
        for line in self.table(columns, rows):
            self.line(line)

    def table(self, columns: Sequence[Column], rows: Sequence[Sequence[Text | str]]) -> Iterator[Text]:
        """Yields the lines of a table, the head first. Columns without any content are left out."""
        kept = [index for index in range(len(columns)) if any(str(row[index]) for row in rows)]
        columns = [columns[index] for index in kept]
        lines = [[Text(column.title, "dim") for column in columns]]
        lines += [[cell.copy() if isinstance(cell := row[i], Text) else Text(cell) for i in kept] for row in rows]
        widths = [max(cell.cell_len for cell in cells) for cells in zip(*lines, strict=True)]
        self._fit(columns, widths)
        for texts in lines:
            parts = [
                cell.wrap(self._console, width) if column.wraps else [cell]
                for cell, column, width in zip(texts, columns, widths, strict=True)
            ]
            for cells in itertools.zip_longest(*parts):
                line = Text(" " * GAP).join(map(_fitted, cells, columns, widths))
                line.rstrip()
                yield line

    def _fit(self, columns: Sequence[Column], widths: list[int]) -> None:
        """Makes columns narrower until the table fits: those that are cut first, of several the widest one."""
        for order in sorted({column.fits for column in columns} - {0}):
            indexes = [index for index, column in enumerate(columns) if column.fits == order]
            while sum(widths) + GAP * (len(widths) - 1) > self.width:
                widest = max(indexes, key=widths.__getitem__)
                if widths[widest] <= MIN_WIDTH:
                    break
                widths[widest] -= 1


def _fitted(cell: Text | None, column: Column, width: int) -> Text:
    """Returns a cell of this width, cut or filled up with spaces."""
    cell = cell or Text()
    cell.truncate(width, overflow="ellipsis")
    cell.align("right" if column.is_right else "left", width)
    return cell


def styled(state: str | None, text: str = "") -> Text:
    """Returns a state with its symbol, in its style; or another text in place of its name."""
    return Text(f"{SYMBOLS[state]} {text or state or 'Not started'}", STYLES[state])


def state_of(run: RunSummary) -> Text:
    """Returns the state of a run, with what it waits for, or was ordered to do."""
    waits = run.state is TypeRunState.QUEUED
    parts = (
        str(run.state),
        "" if not waits or run.due is None else _waiting(run.due),
        f"{safe(run.workflow_paused_by)} paused its workflow" if run.workflow_paused_by else "",
        "no process serves it" if waits and not run.is_served else "",
        f"{run.ordered} ordered" if run.ordered else "",
        "" if run.silence is None else f"no sign of life for {run.silence:.0f} s",
    )
    return styled(run.state, ", ".join(filter(None, parts)))


def _waiting(due: datetime) -> str:
    """Returns when a queued run is due, or how long it has been if that is long."""
    waited = (clock.now() - due).total_seconds()
    if waited < 0:
        return f"due {local(due)}"
    return f"for {format_duration(waited)}" if waited > LONG_WAIT else ""


def asked_text(questions: Sequence[Question]) -> str:
    """Returns what a run asks, and since when: the oldest question, and how many there are beside it."""
    first, *others = questions
    more = f", and {len(others)} more" if others else ""
    return f"{first.step} asks since {local(first.asked)}: {first.text}{more}"


def safe(text: object) -> str:
    """Returns text for one line of a terminal, with control characters escaped."""
    return escape_controls(str(text))


def local(moment: datetime) -> str:
    """Returns a moment in local time, to the second."""
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"


def span(seconds: float | None) -> str:
    """Returns a duration for a column; "" for None."""
    return "" if seconds is None else format_duration(seconds, compact=True)


def size(count: int | None) -> str:
    """Returns a number of bytes; "" for None."""
    return "" if count is None else size_text(count)
