"""`dotflow log`: what the runs wrote, as it is in a pipe, as JSON, or with colours in a terminal."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import click

from dotflow import clock
from dotflow.cli.command import Command, option
from dotflow.cli.formatting import STYLES
from dotflow.cli.log.files import (
    POLL_INTERVAL,
    RECORD_DELAY,
    Follower,
    absolute_path,
    all_records,
    end_of_lines,
    last_records,
    open_all,
    pause,
)
from dotflow.cli.log.records import TASK, Filter, Record
from dotflow.cli.options import WorkflowArgument
from dotflow.core.item_counts import ItemCounts
from dotflow.core.text import escape_controls
from dotflow.providers.logs.formats import COUNTS, INDENT, LEVELS, ORIGINS, simple_head

ALL: Final = -1


def count(value: str | int) -> int:
    """How many records: a number, or `all`, which is ALL."""
    text = str(value)
    if text.lower() == "all":
        return ALL
    if not (text.isascii() and text.isdigit()):
        raise click.BadParameter(f"{text!r} is neither a number, 0 or more, nor 'all'.")
    return int(text)


@click.command(cls=Command)
@option(
    "-f", "--follow", is_flag=True, example="dotflow log -f",
    help="Go on with new records as they come, until Ctrl-C.",
)  # fmt: skip
@option(
    "-n", "--lines", type=count, metavar="N", default=20, show_default=True, example="-n 50, -n all",
    help="How many of the last records; with 0 and -f only new ones.",
)  # fmt: skip
@option(
    "--level", type=click.Choice(list(LEVELS), case_sensitive=False), metavar="LEVEL", example="--level warning",
    help=f"Only what is at least that serious: {', '.join(LEVELS)}.",
)  # fmt: skip
@option(
    "--json", "as_json", is_flag=True, example="dotflow log --json | jq .level",
    help="One JSON object a line, whatever the log's format is.",
)  # fmt: skip
@option(
    "--path", type=click.Path(path_type=Path), metavar="FILE", default=".output/flow.log",
    show_default=True, example="--path logs/nightly.log", help="The log, if it isn't at its usual place.",
)  # fmt: skip
@option(
    "--workflow", type=WorkflowArgument(), metavar="ID", example="--workflow nightly",
    help="Only what is about this workflow, by its id or its name.",
)  # fmt: skip
@option(
    "--step", metavar="NAME", example="--step extract", help="Only what is about this step.",
)  # fmt: skip
def log(
    follow: bool, lines: int, level: str | None, as_json: bool, path: Path, workflow: str | None, step: str | None
) -> None:
    """Show the last records of a log, oldest first, and with -f those that come.

    A record is a line with what belongs to it: an error comes with its traceback. Older files (flow.log.1, ...) are
    read where the newest doesn't have enough. Both formats are read.
    """
    path = absolute_path(path)
    wanted = Filter(None if level is None else LEVELS[level], workflow, step)
    with contextlib.ExitStack() as opened:
        files = [opened.enter_context(file) for file in open_all(path)]
        if not files and not follow:
            raise click.ClickException(
                f"there is no log at {path} yet. A run writes it there; --path FILE looks elsewhere, "
                f"--follow waits for it."
            )
        if sys.stdout is None:  # closed, as after >&-
            return
        show = show_function(as_json)
        known = [(file, end_of_lines(file) if follow else file.seek(0, os.SEEK_END)) for file in files]
        show(all_records(known, wanted) if lines == ALL else last_records(known, lines, wanted))
        if not follow:
            return
        if not files:
            click.echo(f"dotflow log: waiting for {path}; there is none yet. Ctrl-C ends it.", err=True)
        follower = opened.enter_context(contextlib.closing(Follower(path, known)))
        while True:
            show(record for record in follower.records() if wanted.matches(record))
            pause(POLL_INTERVAL if follower.is_at_rest else RECORD_DELAY)


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
        from dotflow.cli.screen import Screen  # here: other outputs need no rich

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
