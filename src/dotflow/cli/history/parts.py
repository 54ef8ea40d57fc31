"""One thing of a run without anything around it: output, an error, inputs, a value."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click

from dotflow.abc.archive import Archive
from dotflow.cli.history.as_json import chunk_line, copy_line, error_lines, print_json
from dotflow.cli.log.follow import POLL_INTERVAL, pause
from dotflow.codec.document import pack
from dotflow.core.text import escape_lines
from dotflow.core.types.attempt_state import TypeAttemptState
from dotflow.errors import CheckpointUnreadable, HistoryError, NotInHistory
from dotflow.records.record import AttemptRecord, OutputChunk, RunRecord, TaskRecord, ValueRecord

RETURNED: Final = "returned"
LOCAL_STORAGES: Final = ("StorageFile", "StorageSQLite")
KEEPS_VALUES: Final = (
    "HistorySQLite(values='all') keeps them, of a map by item. Those of other completed tasks are also in StorageFile "
    "and StorageSQLite until the next run"
)


def print_output(
    archive: Archive, run: str, step: str | None, attempt: int | None, *, follow: bool, as_json: bool
) -> None:
    """Writes the output: in a pipe exactly its bytes, in a terminal without what it would act on.

    Gaps go to stderr, and where there is none, the reason.
    """
    if not follow:
        chunks = archive.output(run, step, attempt=attempt)
        _write(chunks, as_json=as_json)
        if not chunks:
            click.echo(_why_no_output(archive, run, step), err=True)
        return
    for chunks in archive.follow(run, step, attempt=attempt):
        _write(chunks, as_json=as_json)
        if not chunks:
            pause(POLL_INTERVAL)


def _why_no_output(archive: Archive, run: str, step: str | None) -> str:
    record = archive.load(run)
    if step is None:
        return f"The history has no output of the run {record.short_id}."
    task, item = record.find(step)
    name, attempts = f"'{task.name_of(item)}' (task {task.task_id})", task.attempts_of(item)
    if not attempts and task.state is TypeAttemptState.UNKNOWN:
        return f"Whether {name} has run is unknown: the history could not be written."
    if not attempts and not task.round_name:
        return f"{name} has not started."
    if task.round_name or attempts[-1].attempt:
        return f"The history has no output of {name}."
    return f"{name} did not run: {attempts[-1].state.lower()}."


def _write(chunks: Iterable[OutputChunk], *, as_json: bool) -> None:
    if as_json:
        print_json(map(chunk_line, chunks))
        return
    sys.stdout.flush()
    is_terminal = sys.stdout.isatty()
    for chunk in chunks:
        if chunk.skipped:
            gap = chunk.data.decode() if not chunk.stream else f"[... {chunk.skipped} bytes were dropped ...]\n"
            sys.stdout.buffer.flush()
            click.echo(gap, nl=False, err=True)
        if chunk.stream:
            sys.stdout.buffer.write(escape_output(chunk.data) if is_terminal else chunk.data)
    sys.stdout.buffer.flush()


def escape_output(data: bytes) -> bytes:
    r"""Returns output for a terminal: control characters but line ends and tabs as \x1b and the like."""
    return escape_lines(data.decode(errors="backslashreplace").replace("\r\n", "\n")).encode()


def print_error(task: TaskRecord, item: int | None, attempts: Sequence[AttemptRecord], *, as_json: bool) -> None:
    """Writes the traceback of the last error of the attempts; as JSON, all their errors."""
    objects = error_lines(task, attempts)
    if as_json:
        print_json(objects)
        return
    if not objects:
        raise NotInHistory(f"Can't find an error of '{task.name_of(item)}'", "it has none")
    last = objects[-1]
    text = last["traceback"].rstrip("\n") or f"{last['exception']}: {last['message']}"
    click.echo(escape_lines(text))  # also in a pipe, whose other end may be a terminal


def checkpoint_of(run: RunRecord, task: TaskRecord, item: int | None, attempt: int | None) -> ValueRecord | None:
    """Returns the value of an attempt as the run's files or SQLite database still have it; None if they don't.

    A mapped task has no checkpoint of its own, and those of its items are known by their inputs.

    Raises:
        NotInHistory: The checkpoint can't be read. A pickle can run any program, so it is not loaded.
    """
    from dotflow import providers

    kind, _, path = run.storage.removesuffix(")").partition("(")
    if kind not in LOCAL_STORAGES or task.count is not None or item is not None or task.last is None:
        return None
    if attempt not in (None, task.last.attempt):
        return None
    storage = getattr(providers, kind)(Path(run.environment.get("folder") or "", path))
    for name in (str(task.task_id), task.name):
        try:
            context = storage.get(f"{run.workflow_id}/{name}")
        except CheckpointUnreadable as error:
            what = f"Can't show the value of '{task.name}'"
            where = f": {error.where}" if error.where else ""
            cause = f"its checkpoint is damaged, or a pickle, which is not loaded here{where}"
            raise NotInHistory(what, cause) from error
        is_of_run = context.inputs is not None and context.inputs.is_of(run.run_id)
        if is_of_run or (task.last.attempt == 0 and context.time == task.last.began):
            document = pack(RETURNED, context)
            return ValueRecord(task.task_id, RETURNED, None, task.last.attempt, len(document), "", document, "")
    return None


def print_copies(copies: Sequence[ValueRecord], step: str, *, inputs: bool, as_json: bool) -> None:
    """Writes the inputs or the value of a step as JSON: one alone as it is, several as an object by role.

    A text alone is written as it is. As JSON lines, each is an object with its role and the codec's whole document.
    """
    chosen = [copy for copy in copies if (copy.role != RETURNED) is inputs]
    if not as_json:
        _check_kept(chosen, step, inputs=inputs)
    try:
        if as_json:
            print_json(map(copy_line, chosen))
            return
        values: Mapping[str, Any] = {copy.role: json.loads(copy.document or b"{}")["value"] for copy in chosen}
        value = next(iter(values.values())) if len(values) == 1 else values
        text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
        click.echo(escape_lines(text.replace("\r\n", "\n")) if sys.stdout.isatty() else text)
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        what = f"The copies of '{step}' can't be read"
        raise HistoryError(what, f"they are damaged, or dotflow did not write them ({type(error).__name__})") from error


def _check_kept(chosen: Sequence[ValueRecord], step: str, *, inputs: bool) -> None:
    what = f"Can't find {'the inputs' if inputs else 'the value'} of '{step}'"
    for copy in chosen:
        if copy.document is None:
            raise NotInHistory(what, f"'{copy.role}' was not kept: {copy.note}")
    if not chosen:
        keeps = "those of failed steps are kept" if inputs else KEEPS_VALUES
        raise NotInHistory(what, f"the history has none: {keeps}")
