"""The two formats of a log record: text for people, and JSON."""

import json
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from math import isfinite
from typing import Final, NamedTuple

from dotflow import clock
from dotflow.core.item_counts import ItemCounts, item_counts
from dotflow.core.task import Task
from dotflow.core.text import escape_controls, escape_lines, escape_surrogates, titled_id
from dotflow.core.types.status import TypeStatus

LEVELS: Final = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40}
INDENT: Final = "    "  # of each line of a record but the first

#: The keys of a JSON record, in this order, whether it is about a task or not.
FIELDS: Final = (
    "time",
    "level",
    "workflow",
    "name",
    "run",
    "group",
    "task",
    "step",
    "status",
    "attempt",
    "duration",
    "item",
    "items",
    "reason",
    "error",
    "message",
)

#: The keys of `items` in a JSON record.
COUNTS: Final = ("count", *ItemCounts._fields[1:])

#: The source of a task's value -> its text; None for a task that ran.
ORIGINS: Final = {None: "", "checkpoint": "from its checkpoint", "cache": "from the cache"}

MESSAGE_TEMPLATE: Final = (
    '{{"time": "{}", "level": "{}", ' + "".join(f'"{field}": null, ' for field in FIELDS[2:-1]) + '"message": {}}}\n'
)
PADDED: Final = {level: f"{level:7}" for level in LEVELS}
MILLISECONDS: Final = tuple(f".{number:03d}" for number in range(1_000))
COMPLETED, IN_PROGRESS = TypeStatus.COMPLETED, TypeStatus.IN_PROGRESS
FAILURES: Final = frozenset({TypeStatus.FAILED, TypeStatus.RETRY})

RUN_ID_LENGTH: Final = 8  # characters of a run's id in text records


class Format(NamedTuple):
    """The two functions that write a format.

    Attributes:
        head: Returns the common part of a run's records, from the workflow's id, the run's id and the workflow's name.
        record: Returns a record, with its line end, from a level, a task or None, a message and a head. An empty head
            stands for that of a workflow without a name.
    """

    head: Callable[[str, str | None, str | None], str]
    record: Callable[[str, Task | None, str, str], str]


_encode: Final = json.JSONEncoder().encode
#: The last second that was formatted: its beginning and its text.
_second: tuple[float, str] = 0.0, ""


def local_time(time: datetime) -> str:
    """Returns a time as local time, to the second."""
    return f"{time.astimezone():%Y-%m-%d %H:%M:%S}"


def simple_head(workflow_id: str, run_id: str | None, name: str | None = None) -> str:
    """Returns the workflow and run for people: `nightly (Load the prices) run 0f0c1a52`.

    A generated id, which no other run has, is left out.
    """
    parts = [titled_id(workflow_id, name), f"run {run_id[:RUN_ID_LENGTH]}" if run_id else ""]
    return escape_controls(" ".join(filter(None, parts)))


def simple(level: str, task: Task | None, message: str, head: str = "") -> str:
    """Returns a record for people: a line with time and level first, and further lines indented."""
    if task is None:
        return f"{_timestamp()} {PADDED[level]} {_indent(message.rstrip())}"
    head = head or simple_head(task.workflow_id, task.run_id)
    status = task.status
    head = (
        f"{_timestamp()} {PADDED[level]} {f'{head} ' if head else ''}task {task.task_id} "
        f"{_name(task.name, task.group_name)}: {status._value_}"
    )
    if task.links is not None and task.is_mapped and (counts := item_counts(task)) is not None:
        return f"{head}{_map_result(task, counts)}"
    if status is IN_PROGRESS:
        attempt = "" if task.attempt < 2 else f" (attempt {task.attempt})"
        return f"{head}{attempt}: {escape_controls(task.reason)}\n" if task.reason else f"{head}{attempt}\n"
    if status is COMPLETED:
        duration = task.duration
        return f"{head} in {duration:.3f} s\n" if duration is not None else f"{head} ({ORIGINS[task.restored_from]})\n"
    if task.reason:  # it was skipped or paused
        return f"{head}: {escape_controls(task.reason)}\n"
    return f"{head}{_error_text(task)}"


@lru_cache(1_000)  # most tasks share their step's name
def _name(name: str, group: str) -> str:
    return escape_controls(name if group == "default" else f"{name} [{group}]")


def _map_result(task: Task, counts: ItemCounts) -> str:
    seconds = f" in {task.duration:.3f} s" if task.duration is not None else ""
    if task.status is TypeStatus.FAILED:
        return f"{seconds} ({counts}){_error_text(task)}"
    allowed = f": {escape_controls(task.reason)}" if task.reason and task.status is COMPLETED else ""
    return f"{seconds} ({counts}){allowed}\n"


def _error_text(task: Task) -> str:
    """Returns the last error, and the end of the record's line."""
    error = task.error
    if error is None:
        return "\n"
    failure = error.failure
    if failure.refusal:
        attempt = f" (attempt {error.attempt} of {task.step.policy.attempts}: {escape_controls(failure.refusal)})"
    else:
        attempt = "" if task.is_mapped else f" (attempt {error.attempt})"
    details = _indent(f"{failure.message}\n{failure.traceback}".rstrip("\n"))
    return f"{attempt}: {escape_controls(failure.exception)}: {details}"


def json_head(workflow_id: str, run_id: str | None, name: str | None = None) -> str:
    """Returns the same for programs: three members of an object."""
    run, workflow_name = (None if text is None else quoted(text) for text in (run_id, name))
    return f'"workflow": {quoted(workflow_id)}, "name": {workflow_name or "null"}, "run": {run or "null"}'


def as_json(level: str, task: Task | None, message: str, head: str = "") -> str:
    """Returns a record for programs: one object on one line, strict JSON in ASCII, always with the same keys."""
    time = clock.now().isoformat(timespec="microseconds")
    if task is None:
        return MESSAGE_TEMPLATE.format(time, level, quoted(message))
    error, duration = task.error, task.duration
    error_json, reason = "null", task.reason or ("" if task.is_mapped else ORIGINS[task.restored_from])
    if error is not None and task.status in FAILURES:
        error_json = (
            f'{{"exception": {quoted(error.exception)}, "message": {quoted(error.message)}, '
            f'"traceback": {quoted(error.traceback)}}}'
        )
        reason = reason or error.failure.refusal
    item, name = task.item, task.name
    return (
        f'{{"time": "{time}", "level": "{level}", {head or json_head(task.workflow_id, task.run_id)}, '
        f'"group": {quoted(task.group_name)}, "task": {task.task_id}, '
        f'"step": {quoted(name if item is None else name.removesuffix(f"[{item}]"))}, '
        f'"status": "{task.status.value}", "attempt": {task.attempt}, '
        f'"duration": {"null" if duration is None or not isfinite(duration) else f"{duration:.6f}"}, '
        f'"item": {"null" if item is None else item}, "items": {_items_json(task) if task.is_mapped else "null"}, '
        f'"reason": {quoted(reason) if reason else "null"}, '
        f'"error": {error_json}, "message": null}}\n'
    )


def _items_json(task: Task) -> str:
    counts = item_counts(task)
    if counts is None:
        return "null"
    return "{" + ", ".join(f'"{name}": {number}' for name, number in zip(COUNTS, counts, strict=True)) + "}"


def quoted(text: str) -> str:
    """Returns a text as JSON."""
    return _encode(escape_surrogates(text))


def _indent(text: str) -> str:
    escaped = escape_lines(text)
    return f"{escaped}\n".replace("\n", f"\n{INDENT}", escaped.count("\n"))


def _timestamp() -> str:
    """Returns the local time with milliseconds. Most records fall into the second of the one before."""
    global _second
    now = clock.moment()
    if not isinstance(now, float):  # of a virtual clock
        return local_time(now) + MILLISECONDS[now.microsecond // 1_000]
    begin, text = _second
    past = now - begin
    if not 0.0 <= past < 1.0:
        begin = now // 1
        past, text = now - begin, local_time(clock.as_datetime(begin))
        _second = begin, text
    return text + MILLISECONDS[int(past * 1_000)]


SIMPLE: Final = Format(simple_head, simple)
JSON: Final = Format(json_head, as_json)
