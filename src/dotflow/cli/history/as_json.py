"""Records of runs as JSON, one object a line, by the shapes of report/document.py."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

from dotflow.records.record import AttemptRecord, OutputChunk, RunSummary, TaskRecord, ValueRecord
from dotflow.report.document import attempt_object, error_object, moment


def print_json(records: Iterable[Mapping[str, Any]]) -> None:
    """Prints objects, each on one line without the characters that a terminal would act on."""
    for record in records:
        click.echo(json.dumps(record))


def attempt_line(run: RunSummary, task: TaskRecord, attempt: AttemptRecord) -> dict[str, Any]:
    """Returns an attempt with its errors, and what it is an attempt of."""
    return _task_of(task) | {"item": attempt.item} | attempt_object(run, attempt)


def error_lines(task: TaskRecord, attempts: Sequence[AttemptRecord]) -> list[dict[str, Any]]:
    """Returns the errors of attempts, with the attempt of each."""
    return [
        _task_of(task) | {"item": attempt.item, "attempt": attempt.attempt} | error_object(error)
        for attempt in attempts
        for error in attempt.errors
    ]


def chunk_line(chunk: OutputChunk) -> dict[str, Any]:
    """Returns a part of the output, with its bytes as text."""
    return chunk._replace(data=b"")._asdict() | {
        "at": moment(chunk.at),
        "data": chunk.data.decode(errors="backslashreplace"),
    }


def copy_line(copy: ValueRecord) -> dict[str, Any]:
    """Returns the copy of a value, as the codec wrote it."""
    return copy._asdict() | {"document": None if copy.document is None else json.loads(copy.document)}


def _task_of(task: TaskRecord) -> dict[str, Any]:
    return {"task_id": task.task_id, "name": task.name}
