"""The page of a run where no script runs: what it was, its tasks as a table, and its errors, as HTML."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from dotflow.core.attempt_id import ID_LENGTH
from dotflow.core.durations import format_duration
from dotflow.records.record import BAD
from dotflow.report.text import escape, escape_block, size_text, state_text, took_text

MAX_TASKS: Final = 1000  # rows
MAX_ERRORS: Final = 50

HEADINGS: Final = ("Task", "State", "Attempts", "Duration", "CPU", "Memory", "Value")


def title_of(document: Mapping[str, Any]) -> str:
    """Returns the title of the page: `✗ Failed: nightly, run 7f3a9c12`."""
    run = document["run"]
    workflow = f"{run['workflow']}, " if run["workflow"] else ""
    return f"{state_text(run['state'])}: {workflow}run {run['run_id'][:ID_LENGTH]}"


def plain_page(document: Mapping[str, Any]) -> str:
    """Returns the run as HTML without a script."""
    return "\n".join(_lines(document))


def _lines(document: Mapping[str, Any]) -> Iterator[str]:
    run, tasks = document["run"], document["tasks"]
    yield f"<h1>{escape(title_of(document))}</h1>"
    took = ""
    if run["duration"] is not None:
        took = f", {took_text(run['duration'], is_end_known=run['is_end_known'])}"
    began = run["began"][:19].replace("T", " ")
    verb = "Began" if run["has_begun"] else "Queued"
    yield f"<p>{verb} {began} UTC{took}. The page shows more where scripts may run.</p>"
    if run["reason"]:
        yield f"<p>{escape(run['reason'])}</p>"
    yield "<table>"
    yield f"<thead><tr>{''.join(f'<th>{heading}</th>' for heading in HEADINGS)}</tr></thead>"
    yield "<tbody>"
    for task in tasks[:MAX_TASKS]:
        yield f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in _cells(task))}</tr>"
    yield "</tbody>"
    yield "</table>"
    if len(tasks) > MAX_TASKS:
        yield f"<p>and {len(tasks) - MAX_TASKS} more tasks</p>"
    errors = list(_errors(document))
    for name, error in errors[:MAX_ERRORS]:
        yield f"<h2>{escape(name)}</h2>"
        yield f"<pre>{escape_block(error['traceback'] or '{exception}: {message}'.format(**error))}</pre>"
    if len(errors) > MAX_ERRORS:
        yield f"<p>and {len(errors) - MAX_ERRORS} more errors</p>"


def _cells(task: Mapping[str, Any]) -> tuple[str, ...]:
    items = ", ".join(f"{count} {state.lower()}" for state, count in sorted(task["counts"].items()))
    return (
        f"{task['task_id']} {task['name']}",
        state_text(task["state"]),
        str(sum(attempt["attempt"] > 0 for attempt in task["attempts"]) or ""),
        *("" if task[name] is None else format_duration(task[name]) for name in ("duration", "cpu")),
        "" if task["peak"] is None else size_text(task["peak"]),
        items if task["count"] is not None else task["glimpse"],
    )


def _errors(document: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields the last errors of failed tasks and items."""
    for task in document["tasks"]:
        ends = [(task["name"], task["attempts"])]
        for detail in task["details"]:
            given = detail["attempts"][-1]["input"] if detail["attempts"] else ""
            ends.append((f"{task['name']}#{detail['item']} {given}".rstrip(), detail["attempts"]))
        for name, attempts in ends:
            if attempts and attempts[-1]["state"] in BAD:
                yield from ((name, error) for error in attempts[-1]["errors"][-1:])
