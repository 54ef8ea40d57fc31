"""The list of `dotflow runs`."""

from collections.abc import Sequence
from typing import Final

from rich.text import Text

from dotflow import clock
from dotflow.cli.history.text import Column, Screen, local, safe, span, state_of
from dotflow.core.attempt_id import ID_LENGTH
from dotflow.records.record import RunSummary

MIN_WIDTH_FOR_ERRORS: Final = 110  # columns; in a narrower terminal, what failed is a line of its own
COLUMNS: Final = (
    Column("Run"),
    Column("Began"),
    Column("Workflow", fits=1),
    Column("State"),
    Column("Duration", is_right=True),
    Column("Tasks", is_right=True),
    Column("What failed", fits=2),
)


def print_runs(runs: Sequence[RunSummary]) -> None:
    """Prints a table of runs, the newest first."""
    screen = Screen()
    is_wide = screen.width >= MIN_WIDTH_FOR_ERRORS
    rows = [_row(run, is_wide=is_wide) for run in runs]
    head, *lines = screen.table(COLUMNS, rows)
    screen.line(head)
    for run, line in zip(runs, lines, strict=True):
        screen.line(line)
        if run.error and not is_wide:
            text = Text(f"{' ' * (ID_LENGTH + 2)}{safe(run.error)}", "dim")
            text.truncate(screen.width, overflow="ellipsis")
            screen.line(text)


def _row(run: RunSummary, *, is_wide: bool) -> list[Text | str]:
    is_running = run.has_begun and run.ended is None
    took = span((clock.now() - run.began).total_seconds() if is_running else run.duration)
    return [
        run.short_id,
        local(run.began) if is_wide else f"{run.began.astimezone():%m-%d %H:%M:%S}",
        safe(run.workflow) or f"{run.workflow_id[:ID_LENGTH]}…",
        state_of(run),
        took if run.is_end_known or not took else f"> {took}",  # it ran on after its last sign
        f"{run.completed + run.restored}/{run.tasks}" if run.tasks else "",
        Text(safe(run.error), "dim") if is_wide else "",
    ]
