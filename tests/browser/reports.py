"""Reports of runs for the tests in a browser."""

import contextlib
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from dotflow import Config, DotFlow, action
from dotflow.core.types.attempt_state import TypeAttemptState as State
from dotflow.core.types.run_state import TypeRunState
from dotflow.providers import HistorySQLite, LogDefault
from dotflow.records.record import AttemptRecord, ErrorRecord, OutputChunk, RunRecord, TaskRecord
from dotflow.report.document import document, failure_object, output_objects, read_document
from dotflow.report.page import make_page

BEGAN: Final = datetime(2026, 11, 24, 2, tzinfo=UTC)

#: What becomes markup, a script, a link or an end of the data where a page is put together carelessly.
HOSTILE: Final = (
    "<script>window.attacked = 1</script>",
    "<img src=x onerror='window.attacked = 2'>",
    "</script><script>window.attacked = 3</script>",
    "<!--<script>window.attacked = 4",
    "\"><svg onload='window.attacked = 5'>",
    "javascript:window.attacked=6//",
    "{{constructor.constructor('window.attacked = 7')()}} ${window.attacked = 8} `${window.attacked = 9}`",
    "</title><style>*{display:none}</style>",
    "&lt;b&gt; &amp; &#60;",
    "\u202egnp.exe\u2066 \u2028 \x1b[31mred\x1b[0m \x07\x00",
    "😀 ÄÖ 漢字 " + "x" * 300,
)


@action
def orders() -> list[int]:
    print("reading orders")
    return list(range(20))


@action
def convert(order: int) -> int:
    if order in (4, 11):
        raise ValueError(f"order {order}: unknown currency 'XBT'")
    return order


@action(retry=2, retry_delay=0)
def load(convert: list[int]) -> None:
    print("connecting to warehouse-2")
    print("warning: the server closed the connection", file=sys.stderr)
    raise ConnectionError("warehouse-2 closed the connection after 4096 rows")


@action
def notify(load: None) -> None: ...


def fail(history: HistorySQLite) -> None:
    """Makes a run that fails: two items of `convert`, which it goes on without, and then `load`, twice."""
    workflow = DotFlow(Config(history=history, log=LogDefault(output="none")), workflow_id="nightly-orders")
    workflow.task.add(orders).add(convert, each=orders, keep_going=True).add(load).add(notify)
    workflow.start()


def tolerate(history: HistorySQLite) -> None:
    """Makes a run that completes, though two items of `convert` fail."""
    workflow = DotFlow(Config(history=history, log=LogDefault(output="none")), workflow_id="nightly-orders")
    workflow.task.add(orders).add(convert, each=orders, keep_going=2)
    workflow.start()


@action
def search(query: str) -> str:
    if query == "1":
        raise ConnectionError("the search engine is down")
    return query


@action(durable=True)
def look(query: str) -> str:
    return search(query) + search(query)


@action(durable=True)
def agent(count: int) -> int:
    for number in range(count):
        with contextlib.suppress(ConnectionError):
            search(str(number))
    look("nested")
    return count


def search_on(history: HistorySQLite, count: int) -> str:
    """Makes a run of a durable step with three calls more, two of them nested, and returns its id."""
    workflow = DotFlow(Config(history=history, log=LogDefault(output="none")), workflow_id="storks")
    workflow.task.add(agent, params={"count": count})
    return workflow.start().raise_for_failure().run_id


def write_report(path: Path, history: HistorySQLite, run: str = "last") -> Path:
    """Writes the report of a run of a history."""
    path.write_text(make_page(read_document(history, run)))
    return path


def record(steps: Sequence[TaskRecord], **more: Any) -> RunRecord:
    """Returns a run of tasks."""
    ended = BEGAN + timedelta(seconds=240)
    fields: Mapping[str, Any] = {"state": TypeRunState.COMPLETED, "ended": ended, "environment": {}} | more
    return RunRecord(
        run_id="7f3a9c12-0000", workflow_id="nightly", began=BEGAN, tasks=len(steps), steps=steps, **fields
    )


def task(number: int, name: str, **more: Any) -> TaskRecord:
    """Returns a task that took a second."""
    fields: Mapping[str, Any] = {"attempts": [attempt(None, number)], "policy": {}, "items": {}} | more
    return TaskRecord(task_id=number, name=name, **fields)


def attempt(item: int | None, second: float, state: State = State.COMPLETED, *, number: int = 1) -> AttemptRecord:
    """Returns an attempt of a second; one that failed has an error, one that runs no end."""
    error = ErrorRecord("ValueError", f"item {item} is refused", "Traceback (most recent call last):\nValueError\n")
    errors = [error] if state in (State.FAILED, State.RETRY) else []
    took = None if state is State.RUNNING else 1.0
    began = BEGAN + timedelta(seconds=second)
    return AttemptRecord(item, number, state, began, took, 0.5, 10_000_000, 42, "", "", errors)


def map_of(count: int) -> RunRecord:
    """Returns a run with a map, every thousandth item of which failed."""
    items = {
        item: [attempt(item, 240 * item / count, State.FAILED if item % 1000 == 411 else State.COMPLETED)]
        for item in range(count)
    }
    whole = AttemptRecord(None, 1, State.FAILED, BEGAN, 240.0)
    tasks = [task(0, "orders"), task(1, "convert", needs=[0], attempts=[whole], items=items, count=count)]
    return record(tasks, state=TypeRunState.FAILED)


def calls(texts: Sequence[str]) -> dict[str, Any]:
    """Returns the calls of a durable step as a document has them. Each text is an action, an argument and an error."""
    error = ErrorRecord("", "", "Traceback (most recent call last):\nValueError: no\n")
    listed = [
        {"number": number, "attempt": 1, "name": text, "arguments": text, "depth": 0, "state": "Failed", "began": 0.5}
        | {"duration": 0.8, "glimpse": "", "key": "k", "error": failure_object(error._replace(message=text))}
        for number, text in enumerate(texts, 41)
    ]
    return {"total": 40 + len(texts), "listed": listed}


def hostile() -> dict[str, Any]:
    """Returns the document of a run whose texts are all hostile: names, messages, output, values, the environment."""
    whole = " ".join(HOSTILE)
    steps = []
    for number, text in enumerate(HOSTILE):
        errors = [ErrorRecord(text, text, text)]
        attempt = AttemptRecord(None, 1, State.FAILED, BEGAN, 1.0, glimpse=text, fallback=text, errors=errors)
        steps.append(task(number, text, group=text, identity=text, code=text, attempts=[attempt]))
    names = ("python", "dotflow", "system", "folder", "commit")
    environment = dict.fromkeys(names, whole) | {"packages": {whole: whole}, "argv": list(HOSTILE)}
    texts = dict.fromkeys(("name", "reason", "error", "mode", "trigger", "process", "storage"), whole)
    notes = [(BEGAN, whole)]
    run = record(steps, state=TypeRunState.FAILED, notes=notes, children=[whole], environment=environment, **texts)
    chunks = [
        OutputChunk(number, None, 1, stream, BEGAN, stream, text.encode())
        for number, text in enumerate(HOSTILE)
        for stream in (1, 2)
    ]
    commands = [{"task_id": None, "item": None, "command": text, "purpose": text} for text in HOSTILE]
    shown = document(run, output={"output": output_objects(run, chunks, {})}) | {"commands": commands}
    shown["tasks"][0]["calls"] = calls(HOSTILE)
    shown["run"]["trace_url"] = "javascript:window.attacked=10"
    return shown


def write(path: Path, run: RunRecord) -> Path:
    """Writes the report of a record."""
    path.write_text(make_page(document(run)))
    return path
