"""What a line of the log says, in both formats."""

import json
from typing import Any, NoReturn

import pytest

from dotflow import Task, action
from dotflow.core.context import Context
from dotflow.core.events import AttemptFailed, AttemptStarted, TaskCompleted, TaskFailed
from dotflow.core.failure import Failure
from dotflow.providers.log_formats import FIELDS, as_json, quoted, shown, simple

START = AttemptStarted(task_id=3, attempt=1, previous=Context(), **{})


@action
def extract() -> None: ...


def refuse(name: str) -> NoReturn:
    raise ValueError(name)


def strictly(line: str) -> Any:
    """What a line says to a reader that takes nothing but what the standard has."""
    assert line.endswith("\n")
    assert line.count("\n") == 1
    found = json.loads(line, parse_constant=refuse)
    json.dumps(found, ensure_ascii=False).encode()  # a lone surrogate can't be encoded
    return found


def task_with(*events: Any, workflow_id: str = "nightly", **given: Any) -> Task:
    task = Task(3, extract, workflow_id=workflow_id, run_id="run-1", group_name="eu", **given)
    for event in events:
        task.apply(event)
    return task


def failure(message: str = "no", traceback: str = "Traceback ...\n") -> Failure:
    return Failure("ValueError", message, traceback)
