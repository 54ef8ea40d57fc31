"""A run in a notebook: its state, its timeline and what failed, as a piece of HTML.

It has no script and no style sheet, which would reach the rest of the notebook. Texts have the colour of the notebook,
and the bars can be seen on light and dark.
"""

from collections.abc import Iterator
from typing import Final

from dotflow import clock
from dotflow.core.durations import format_duration
from dotflow.core.text import shorten
from dotflow.records.record import BAD, AttemptRecord, RunRecord, TaskRecord
from dotflow.report.text import escape, escape_block, state_text

MAX_TASKS: Final = 30  # rows
MAX_ERRORS: Final = 3
MAX_MESSAGE: Final = 500  # characters
MIN_WIDTH: Final = 0.5  # percent of the timeline

COLOURS: Final = {"Completed": "#2da44e", "Failed": "#d1242f", "Crashed": "#d1242f", "Retry": "#bf8700"}
OTHER_COLOUR: Final = "#218bff"

TRACK: Final = "position:relative;height:0.9em;width:22em;border-left:1px solid #8c959f"
BAR: Final = "position:absolute;top:0;height:100%;border-radius:2px"
CELL: Final = "text-align:left;padding:0.1em 1em 0.1em 0;white-space:nowrap"
TEXT: Final = "white-space:pre-wrap;margin:0.3em 0 0.3em 1em"


def notebook_html(run: RunRecord) -> str:
    """Returns a run as a piece of HTML."""
    return f"<div>{''.join(_parts(run))}</div>"


def _parts(run: RunRecord) -> Iterator[str]:
    took = (clock.now() - run.began).total_seconds() if run.duration is None else run.duration
    least = "" if run.is_end_known else "at least "
    done = f"{run.completed} of {run.tasks} tasks completed, {least}{format_duration(took)}"
    name = f"{escape(run.name or run.workflow)}, " if run.name or run.workflow else ""
    yield f"<p><b>{escape(state_text(run.state))}</b> {name}run {escape(run.short_id)}: {done}</p>"
    yield '<table style="border-collapse:collapse">'
    for task in run.steps[:MAX_TASKS]:
        yield _row(run, task, max(took, 1e-6))
    yield "</table>"
    if len(run.steps) > MAX_TASKS:
        yield f"<p>and {len(run.steps) - MAX_TASKS} more tasks</p>"
    failed = [task for task in run.steps if task.state in BAD]
    for task in failed[:MAX_ERRORS]:
        yield from _failure(task)
    if len(failed) > MAX_ERRORS:
        yield f"<p>and {len(failed) - MAX_ERRORS} more tasks that failed</p>"


def _row(run: RunRecord, task: TaskRecord, took: float) -> str:
    bars = "".join(_bar(run, attempt, took) for attempt in task.attempts if attempt.attempt)
    name = task.name if task.count is None else f"{task.name} ×{task.count}"
    duration = "" if task.duration is None else format_duration(task.duration)
    cells = (escape(name), f'<div style="{TRACK}">{bars}</div>', escape(duration), escape(state_text(task.state)))
    columns = "".join(f'<td style="{CELL}">{cell}</td>' for cell in cells)
    return f"<tr>{columns}</tr>"


def _bar(run: RunRecord, attempt: AttemptRecord, took: float) -> str:
    if attempt.began is None:
        return ""
    left = min((attempt.began - run.began).total_seconds() / took, 1) * 100
    width = 100 - left if attempt.duration is None else min(attempt.duration / took * 100, 100 - left)
    left = min(left, 100 - MIN_WIDTH)
    colour = COLOURS.get(attempt.state, OTHER_COLOUR)
    return f'<div style="{BAR};background:{colour};left:{left:.2f}%;width:{max(width, MIN_WIDTH):.2f}%"></div>'


def _failure(task: TaskRecord) -> Iterator[str]:
    failed = next((attempts for attempts in task.items.values() if attempts[-1].state in BAD), task.attempts)
    name = f"{task.name_of(failed[-1].item)} {failed[-1].input}".rstrip()
    for error in failed[-1].errors[-1:]:
        message = shorten(f"{error.exception}: {error.message}".rstrip(": "), MAX_MESSAGE)
        yield f"<p><b>{escape(name)}</b></p>"
        yield f'<pre style="{TEXT}">{escape_block(message)}</pre>'
        if error.traceback:
            traceback = f'<pre style="{TEXT}">{escape_block(error.traceback)}</pre>'
            yield f'<details style="margin-left:1em"><summary>Traceback</summary>{traceback}</details>'
