"""The list of `dotflow runs`."""

from collections.abc import Sequence
from itertools import groupby
from typing import Final

from rich.text import Text

from dotflow import clock
from dotflow.cli.history.text import Column, Screen, asked_text, local, safe, span, state_of
from dotflow.core.approval import Question
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


def print_runs(runs: Sequence[RunSummary], questions: Sequence[Question] = ()) -> None:
    """Prints a table of runs, the newest first, each with what failed, or with its open questions."""
    screen = Screen()
    is_wide = screen.width >= MIN_WIDTH_FOR_ERRORS
    asked = questions_by_run(questions)
    errors = [asked_text(asked[run.run_id]) if run.run_id in asked else run.error for run in runs]
    rows = [_row(run, error if is_wide else "", is_wide=is_wide) for run, error in zip(runs, errors, strict=True)]
    head, *lines = screen.table(COLUMNS, rows)
    screen.line(head)
    for line, error in zip(lines, errors, strict=True):
        screen.line(line)
        if error and not is_wide:
            text = Text(f"{' ' * (ID_LENGTH + 2)}{safe(error)}", "dim")
            text.truncate(screen.width, overflow="ellipsis")
            screen.line(text)


def questions_by_run(questions: Sequence[Question]) -> dict[str, list[Question]]:
    """Returns open questions by the newest run of their chain, the oldest first."""
    in_order = sorted(questions, key=lambda question: (question.run_id, question.asked))
    return {run: list(asked) for run, asked in groupby(in_order, lambda question: question.run_id)}


def _row(run: RunSummary, error: str, *, is_wide: bool) -> list[Text | str]:
    is_running = run.has_begun and run.ended is None
    took = span((clock.now() - run.began).total_seconds() if is_running else run.duration)
    return [
        run.short_id,
        local(run.began) if is_wide else f"{run.began.astimezone():%m-%d %H:%M:%S}",
        safe(run.workflow) or f"{run.workflow_id[:ID_LENGTH]}…",
        state_of(run),
        took if run.is_end_known or not took else f"> {took}",  # it ran on after its last sign
        f"{run.completed}/{run.tasks}" if run.tasks else "",
        Text(safe(error), "dim"),
    ]
