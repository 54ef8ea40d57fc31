"""Records of runs as JSON, one object a line."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from dotflow.core.record import AttemptRecord, OutputChunk, RunRecord, RunSummary, TaskRecord, ValueRecord


def to_line(record: Mapping[str, Any]) -> str:
    """Returns an object as one line, without the characters that a terminal would act on."""
    return json.dumps(record, default=_encode)


def run_object(run: RunSummary) -> dict[str, Any]:
    """Returns the fields of a summary, without tasks."""
    fields = {field.name: getattr(run, field.name) for field in dataclasses.fields(RunSummary)}
    return fields | {"duration": run.duration, "parent": None if run.parent is None else run.parent._asdict()}


def record_object(run: RunRecord) -> dict[str, Any]:
    """Returns a run with its tasks; attempts and items are counted."""
    return run_object(run) | {
        "process": run.process,
        "storage": run.storage,
        "children": list(run.children),
        "environment": dict(run.environment),
        "notes": [{"at": at, "text": text} for at, text in run.notes],
        "steps": [task_object(task) for task in run.steps],
    }


def task_object(task: TaskRecord) -> dict[str, Any]:
    """Returns a task; its attempts and items are counted."""
    fields = ("task_id", "name", "group", "identity", "code", "needs", "policy", "state", "duration", "cpu", "peak")
    last = task.last
    return {name: getattr(task, name) for name in fields} | {
        "attempts": len(task.attempts),
        "items": None if task.count is None else {"count": task.count} | {str(k): n for k, n in task.counts.items()},
        "glimpse": "" if last is None else last.glimpse,
        "errors": [] if last is None else [error._asdict() for error in last.errors],
    }


def attempt_object(task: TaskRecord, attempt: AttemptRecord) -> dict[str, Any]:
    """Returns an attempt with its errors."""
    errors = [error._asdict() for error in attempt.errors]
    return {"task_id": task.task_id, "step": task.name} | attempt._asdict() | {"errors": errors}


def error_objects(task: TaskRecord, attempts: Sequence[AttemptRecord]) -> list[dict[str, Any]]:
    """Returns the errors of attempts, with the attempt of each."""
    return [
        {"task_id": task.task_id, "step": task.name, "item": attempt.item, "attempt": attempt.attempt} | error._asdict()
        for attempt in attempts
        for error in attempt.errors
    ]


def chunk_object(chunk: OutputChunk) -> dict[str, Any]:
    """Returns a part of the output, with its bytes as text."""
    return chunk._replace(data=b"")._asdict() | {"data": chunk.data.decode(errors="backslashreplace")}


def copy_object(copy: ValueRecord) -> dict[str, Any]:
    """Returns the copy of a value, as the codec wrote it."""
    return copy._asdict() | {"document": None if copy.document is None else json.loads(copy.document)}


def _encode(value: object) -> str:
    assert isinstance(value, datetime)
    return value.isoformat()
