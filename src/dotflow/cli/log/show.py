"""The output of records: as they are in a pipe, as JSON, or with colours in a terminal."""

import io
import os
import sys
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from dotflow import clock
from dotflow.cli.log.records import Record
from dotflow.core.item_counts import ItemCounts
from dotflow.core.text import escape_controls
from dotflow.providers.logs.formats import COUNTS, INDENT, ORIGINS, simple_head

if TYPE_CHECKING:
    from rich.text import Text

LEVEL_STYLES: Final = {"DEBUG": "dim", "INFO": "blue", "WARNING": "yellow", "ERROR": "bold red"}
STATUS_STYLES: Final = {
    "In progress": "cyan",
    "Completed": "green",
    "Retry": "yellow",
    "Failed": "bold red",
    "Skipped": "dim",
}

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
        from rich.console import Console

        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # for characters that the terminal's encoding lacks
        # Rich alone keeps bold and dim under NO_COLOR.
        colours: Literal["auto"] | None = None if os.environ.get("NO_COLOR") else "auto"
        self._console = Console(color_system=colours, highlight=False, markup=False, emoji=False)
        self._day = f"{clock.now().astimezone():%Y-%m-%d}"

    def show(self, records: Iterable[Record]) -> None:
        """Writes records."""
        for record in records:
            moment = _local_time(record.fields["time"])
            if moment is None:
                self._write(record.text, "dim")
                continue
            if f"{moment:%Y-%m-%d}" != self._day:
                self._day = f"{moment:%Y-%m-%d}"
                self._write(f"── {self._day} ──", "dim")
            if record.fields["task"] is None:
                self._show_message(record.fields, moment)
            else:
                self._show_task(record.fields, moment)

    def _show_message(self, fields: dict[str, Any], moment: datetime) -> None:
        first, _, rest = str(fields["message"] or "").rstrip("\n").partition("\n")
        self._console.print(_head(fields, moment).append(_safe(first)), soft_wrap=True)
        self._write(rest, "dim", INDENT)

    def _show_task(self, fields: dict[str, Any], moment: datetime) -> None:
        status, error = str(fields["status"]), fields["error"]
        style = STATUS_STYLES.get(status, "")
        head = _head(fields, moment)
        head.append(f"{_run_text(fields)} ".lstrip(), "dim")
        item = "" if fields["item"] is None else f"[{_safe(fields['item'])}]"
        head.append(f"task {_safe(fields['task'])} ").append(f"{_safe(fields['step'])}{item}", "bold")
        if fields["group"] not in (None, "default"):
            head.append(f" [{_safe(fields['group'])}]", "magenta")
        head.append(": ").append(_safe(status), style).append(_result(status, fields))
        self._console.print(head, soft_wrap=True)
        if isinstance(error, dict):
            text = f"{error.get('exception')}: {error.get('message')}"
            self._write_wrapped(text, style)
            trace = str(error.get("traceback") or "").rstrip("\n")
            self._write(trace.removesuffix(text), "dim", INDENT)  # most end with the same text

    def _write(self, text: str, style: str, indent: str = "") -> None:
        """Writes text line by line. The terminal breaks long lines, so that they can be copied."""
        for line in text.rstrip("\n").split("\n") if text else ():
            self._console.print(f"{indent}{_safe(line)}", style=style, soft_wrap=True)

    def _write_wrapped(self, text: str, style: str) -> None:
        """Writes text indented, and broken between words."""
        from rich.text import Text

        for line in text.rstrip("\n").split("\n"):
            for part in Text(_safe(line), style).wrap(self._console, max(20, self._console.width - len(INDENT))):
                self._console.print(Text(INDENT).append_text(part), soft_wrap=True)


def _safe(value: object) -> str:
    return escape_controls(str(value))


def _head(fields: dict[str, Any], moment: datetime) -> "Text":
    from rich.text import Text

    level = _safe(fields["level"])
    head = Text(f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03d} ", "dim")
    return Text().append_text(head).append(f"{level:7} ", LEVEL_STYLES.get(level, ""))


def _run_text(fields: dict[str, Any]) -> str:
    """Returns the workflow and run of a record. Text that is escaped already stays as it is."""
    workflow, run, name = (
        None if value is None else str(value) for value in map(fields.get, ("workflow", "run", "name"))
    )
    return simple_head(workflow or "", run, name)


def _result(status: str, fields: dict[str, Any]) -> str:
    attempt, duration = fields["attempt"], fields["duration"]
    if fields["reason"] and fields["error"]:
        return f" (attempt {_safe(attempt)}: {_safe(fields['reason'])})"
    if fields["reason"] and status != "Completed":
        return f": {_safe(fields['reason'])}"
    if isinstance(fields["items"], dict):
        seconds = f" in {duration:.3f} s" if isinstance(duration, float) else ""
        return f"{seconds} ({_items_text(fields['items'])})"
    if status == "Completed":
        origin = fields["reason"] or ORIGINS["checkpoint"]  # older records have none
        return f" in {duration:.3f} s" if isinstance(duration, float) else f" ({_safe(origin)})"
    return f" (attempt {_safe(attempt)})" if fields["error"] or (isinstance(attempt, int) and attempt > 1) else ""


def _items_text(items: dict[str, Any]) -> str:
    counts = (items.get(name) for name in COUNTS)
    return str(ItemCounts(*(count if isinstance(count, int) else 0 for count in counts)))


def _local_time(time: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(time).astimezone()
    except (TypeError, ValueError, OverflowError, OSError):
        return None
