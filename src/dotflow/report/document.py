"""A run as one JSON object: what the page draws, `dotflow show --json` prints and the API of `dotflow ui` returns.

docs/run-as-json.md describes it. Moments are ISO 8601 in UTC; durations and moments within a run are seconds.
"""

import dataclasses
import json
import os
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from dotflow import clock
from dotflow.abc.archive import Archive
from dotflow.records.record import AttemptRecord, ErrorRecord, RunRecord, RunSummary, TaskRecord
from dotflow.report.items import items_object, listed_items
from dotflow.report.next_steps import command_objects
from dotflow.report.output import output_members

VERSION: Final = 1
MAX_TEXT: Final = 50_000  # characters of a message or a traceback; half of the beginning, half of the end
MAX_ERRORS: Final = 20  # attempts of a task or an item with their messages and tracebacks: the last ones

TRACE_VARIABLE: Final = "DOTFLOW_TRACE_URL"
TRACE: Final = "{trace}"  # in its value

_SURROGATES: Final = re.compile("[\ud800-\udfff]")


def read_document(archive: Archive, run: str, history: str | None = None) -> dict[str, Any]:
    """Returns a run of an archive as an object, with its output.

    Args:
        archive: The history.
        run: The run.
        history: The value of --history for its commands.
    """
    record = archive.load(run)
    output, commands = output_members(archive, record), command_objects(archive, record, history)
    return document(record, output=output, commands=commands)


def document(
    run: RunRecord, *, output: Mapping[str, Any] | None = None, commands: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """Returns a run as an object.

    Args:
        run: The run.
        output: The members about its output; None for none.
        commands: The commands that help with the run.
    """
    details = listed_items(run.steps)
    return {
        "version": VERSION,
        "dotflow": sys.modules["dotflow"].__version__,
        "made": moment(clock.now()),
        "run": _record_object(run),
        "tasks": [_task_object(run, task, details[task.task_id]) for task in run.steps],
        **(output or {}),
        "commands": list(commands),
    }


def run_object(run: RunSummary) -> dict[str, Any]:
    """Returns the fields of a summary."""
    fields = {field.name: getattr(run, field.name) for field in dataclasses.fields(RunSummary)}
    return fields | {
        "began": moment(run.began),
        "ended": moment(run.ended),
        "duration": run.duration,
        "is_end_known": run.is_end_known,
        "workflow": run.workflow,
        "parent": None if run.parent is None else run.parent._asdict(),
    }


def attempt_object(run: RunSummary, attempt: AttemptRecord, *, has_errors: bool = True) -> dict[str, Any]:
    """Returns an attempt with its errors. It began so many seconds after its run."""
    errors = attempt.errors if has_errors else ()
    return {
        "attempt": attempt.attempt,
        "state": attempt.state,
        "began": None if attempt.began is None else round((attempt.began - run.began).total_seconds(), 6),
        "duration": attempt.duration,
        "cpu": attempt.cpu,
        "peak": attempt.peak,
        "worker": attempt.worker,
        "glimpse": attempt.glimpse,
        "fallback": attempt.fallback,
        "span": attempt.span,
        "input": attempt.input,
        "errors": [error_object(error) for error in errors],
    }


def error_object(error: ErrorRecord) -> dict[str, Any]:
    """Returns an error, without the middle of long texts."""
    return error._asdict() | {"message": cut(error.message), "traceback": cut(error.traceback)}


def to_json(value: Mapping[str, Any]) -> str:
    """Returns an object as JSON on one line. A lone surrogate, which UTF-8 doesn't have, stands there as its escape."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return _SURROGATES.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def moment(at: datetime | None) -> str | None:
    """Returns a moment as a text in UTC."""
    return None if at is None else at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def cut(text: str) -> str:
    """Returns a text without its middle if it is too long."""
    left = len(text) - MAX_TEXT
    half = MAX_TEXT // 2
    return text if left <= 0 else f"{text[:half]}\n[... {left} characters were left out ...]\n{text[-half:]}"


def trace_url(trace: str) -> str | None:
    """Returns the address of a trace, as the environment variable DOTFLOW_TRACE_URL has it; None without one."""
    pattern = os.environ.get(TRACE_VARIABLE, "")
    is_link = pattern.startswith(("https://", "http://")) and TRACE in pattern
    return pattern.replace(TRACE, trace) if trace.isalnum() and is_link else None


def _record_object(run: RunRecord) -> dict[str, Any]:
    return run_object(run) | {
        "process": run.process,
        "storage": run.storage,
        "trace": run.trace,
        "trace_url": trace_url(run.trace),
        "children": list(run.children),
        "notes": [{"at": moment(at), "text": text} for at, text in run.notes],
        "environment": dict(run.environment),
    }


def _task_object(run: RunRecord, task: TaskRecord, details: Collection[int]) -> dict[str, Any]:
    fields = ("task_id", "name", "group", "lane", "identity", "code", "state", "duration", "cpu", "peak", "count")
    return {name: getattr(task, name) for name in fields} | {
        "needs": list(task.needs),
        "policy": dict(task.policy),
        "glimpse": "" if task.last is None else task.last.glimpse,
        "attempts": _attempts(run, task.attempts),
        "counts": dict(task.counts),
        "items": items_object(run, task),
        "details": [{"item": item, "attempts": _attempts(run, task.items[item])} for item in details],
    }


def _attempts(run: RunRecord, attempts: Sequence[AttemptRecord]) -> list[dict[str, Any]]:
    first = len(attempts) - MAX_ERRORS
    return [attempt_object(run, attempt, has_errors=index >= first) for index, attempt in enumerate(attempts)]
