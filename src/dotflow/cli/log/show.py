"""The output of records: as they are in a pipe, as JSON, or with colours in a terminal."""

import sys
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Final

from dotflow import clock
from dotflow.cli.formatting import STYLES
from dotflow.cli.log.records import TASK, Record
from dotflow.core.item_counts import ItemCounts
from dotflow.core.text import escape_controls
from dotflow.providers.logs.formats import COUNTS, INDENT, ORIGINS, simple_head

LEVEL_STYLES: Final = {"DEBUG": "dim", "INFO": "blue", "WARNING": "yellow", "ERROR": "bold red"}

Show = Callable[[Iterable[Record]], None]


def show_function(as_json: bool) -> Show:
    """Returns the function that shows records on stdout."""
    if as_json:
        return show_json
    if sys.stdout.isatty():
        return Terminal().show
    return show_raw


def show_json(records: Iterable[Record]) -> None:
    """Writes one object a line."""
    for record in records:
        sys.stdout.write(f"{record.as_json()}\n")
    sys.stdout.flush()


def show_raw(records: Iterable[Record]) -> None:
    """Writes exactly what is in the file."""
    sys.stdout.flush()
    for record in records:
        sys.stdout.buffer.write(record.raw)
    sys.stdout.buffer.flush()


class Terminal:
    """Shows records with colours, or without them if NO_COLOR is set, and a line at the start of each day."""

    def __init__(self) -> None:
        from dotflow.cli.history.text import Screen  # here: other outputs need no rich

        self._screen = Screen()
        self._day = f"{clock.now().astimezone():%Y-%m-%d}"

    def show(self, records: Iterable[Record]) -> None:
        """Writes records."""
        from rich.text import Text

        for record in records:
            moment, level = _local_time(record.fields["time"]), escape_controls(str(record.fields["level"]))
            if moment is None:
                self._write_dim(record.text)
                continue
            if f"{moment:%Y-%m-%d}" != self._day:
                self._day = f"{moment:%Y-%m-%d}"
                self._write_dim(f"── {self._day} ──")
            first, _, rest = _message(record.fields).rstrip("\n").partition("\n")
            line = Text(escape_controls(first))
            if task := TASK.match(line.plain):
                line.stylize("bold", *task.span("step"))
                line.stylize(STYLES[task["status"]], *task.span("status"))
            time = f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03d} "
            self._screen.line((time, "dim"), (f"{level:7} ", LEVEL_STYLES.get(level, "")), line)
            self._write_dim(rest, INDENT)

    def _write_dim(self, text: str, indent: str = "") -> None:
        """Writes text line by line."""
        for line in text.split("\n") if text else ():
            self._screen.line((f"{indent}{escape_controls(line)}", "dim"))


def _message(fields: dict[str, Any]) -> str:
    """Returns what the simple format has behind the level. Text that is escaped already stays as it is."""
    if fields["task"] is None:
        return str(fields["message"] or "")
    workflow, run, name = (None if fields[key] is None else str(fields[key]) for key in ("workflow", "run", "name"))
    item = "" if fields["item"] is None else f"[{fields['item']}]"
    group = "" if fields["group"] in (None, "default") else f" [{fields['group']}]"
    task = f"{simple_head(workflow or '', run, name)} task {fields['task']} {fields['step']}{item}{group}".lstrip()
    head = escape_controls(f"{task}: {fields['status']}{_result(fields)}")
    error = fields["error"]
    if not isinstance(error, dict):
        return head
    return f"{head}: {error.get('exception')}: {error.get('message')}\n{error.get('traceback')}"


def _result(fields: dict[str, Any]) -> str:
    attempt, duration, items = fields["attempt"], fields["duration"], fields["items"]
    seconds = f" in {duration:.3f} s" if isinstance(duration, float) else ""
    if fields["reason"] and fields["status"] != "Completed":
        if fields["error"]:
            return f" (attempt {attempt}: {fields['reason']})"
        is_later = fields["status"] == "In progress" and isinstance(attempt, int) and attempt > 1
        return f"{f' (attempt {attempt})' if is_later else ''}: {fields['reason']}"
    if isinstance(items, dict):
        counts = (items.get(name) for name in COUNTS)
        return f"{seconds} ({ItemCounts(*(count if isinstance(count, int) else 0 for count in counts))})"
    if fields["status"] == "Completed":
        return seconds or f" ({fields['reason'] or ORIGINS['checkpoint']})"  # older records have no reason
    return f" (attempt {attempt})" if fields["error"] or (isinstance(attempt, int) and attempt > 1) else ""


def _local_time(time: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(time).astimezone()
    except (TypeError, ValueError, OverflowError, OSError):
        return None
