"""`dotflow show`: one run of the past, or one of its steps, or one part of it alone."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click

from dotflow.abc.archive import Archive
from dotflow.cli.calls import RETURNED, FoundCall, find_call, kept_call
from dotflow.cli.command import Command, option
from dotflow.cli.load import make_folder_importable
from dotflow.cli.log.files import POLL_INTERVAL, pause
from dotflow.cli.options import HISTORY_OPTION, JSON_OPTIONS, RunArgument, StepArgument, open_history, print_json
from dotflow.cli.storages import local_storage
from dotflow.code.definition import definition_of
from dotflow.codec.document import pack
from dotflow.core.text import escape_lines
from dotflow.core.types.attempt_state import TypeAttemptState
from dotflow.errors import CheckpointUnreadable, HistoryError, NotInHistory
from dotflow.records.record import AttemptRecord, OutputChunk, RunRecord, RunSummary, TaskRecord, ValueRecord
from dotflow.report.document import (
    MAX_CALLS,
    attempt_object,
    call_object,
    calls_object,
    document,
    error_object,
    load_newest,
    moment,
)

PARTS = ("output", "error", "input", "value")


@click.command(cls=Command)
@click.argument("run", type=RunArgument(), default="last")
@click.argument("step", type=StepArgument(), required=False)
@option("--attempt", type=click.IntRange(1), metavar="N", example="--attempt 1", help="One attempt of the step.")
@option("--output", is_flag=True, example="dotflow show last load --output", help="Only what it printed.")
@option("-f", "--follow", is_flag=True, example="--output -f", help="Go on with new output until the run has ended.")
@option("--error", is_flag=True, example="dotflow show last load --error", help="Only its last traceback.")
@option("--input", is_flag=True, example="--input > input.json", help="Only its inputs, as JSON.")
@option("--value", is_flag=True, example="--value | jq .", help="Only the value that it returned, as JSON.")
@option("--all", "has_all", is_flag=True, example="dotflow show last agent --all", help="All calls of a durable step.")
@option(
    "--this", is_flag=True, example="dotflow show 4f0c9a21 --this", help="This run, though another one continues it."
)
@JSON_OPTIONS
@HISTORY_OPTION
def show(run: str, step: str | None, attempt: int | None, as_json: bool, history: str | None, **options: Any) -> None:
    """Show a run of the past, or one of its steps.

    \b
    STEP  a name, the number of a task, or an item: fetch#411; in an added workflow page[411].fetch,
          or page[411] for that item of all its tasks; agent@12 is a call of a durable step

    Without RUN, it is the last one. The id of a run that others continue stands for the newest of them.

    \b
    dotflow show
    dotflow show failed load
    dotflow show etl@day=2026-12-02
    dotflow show last fetch#411 --error
    dotflow show last --output -f
    """
    parts = [part for part in PARTS if options[part]]
    if len(parts) > 1:
        raise click.UsageError(f"Can't use --{parts[0]} with --{parts[1]}. Remove one of them.")
    if options["follow"] and parts != ["output"]:
        raise click.UsageError("--follow needs --output. Add it.")
    if step is None and (attempt is not None or parts not in ([], ["output"])):
        name = parts[0] if parts and attempt is None else "attempt"
        raise click.UsageError(f"--{name} needs a step. Add its name or number after the run.")
    archive = open_history(history)
    if parts:
        _show_part(archive, run, step, attempt, parts[0], follow=options["follow"], as_json=as_json)
    else:
        limit = None if options["has_all"] else MAX_CALLS
        _show_record(archive, run, step, attempt, history, limit, is_exact=options["this"], as_json=as_json)


def _show_record(
    archive: Archive,
    run: str,
    step: str | None,
    attempt: int | None,
    history: str | None,
    limit: int | None,
    *,
    is_exact: bool,
    as_json: bool,
) -> None:
    """Prints a run, a step or a call; as JSON, the run or the call as an object, or each attempt of the step.

    Without a step, the id of a run stands for the newest one of its chain, unless *is_exact*. Of a durable step the
    last calls are listed, at most *limit*.
    """
    record = archive.load(run) if is_exact or step is not None else load_newest(archive, run)
    if step is not None and (call := find_call(archive, record, step)) is not None:
        _show_call(archive, call, as_json=as_json)
    elif step is not None:
        for task, item in record.find_all(step):
            if as_json:
                attempts = task.attempts_of(item, attempt) if item is not None or attempt else task.all_attempts
                print_json(_attempt_line(archive, record, task, one, limit) for one in attempts)
            else:
                from dotflow.cli.pages import print_step  # here: JSON needs no rich

                print_step(archive, record, task, item, attempt, history, limit)
    elif as_json:
        print_json([document(record, archive=archive, history=history)])
    else:
        from dotflow.cli.pages import print_run  # here: JSON needs no rich

        print_run(archive, record, history)


def _show_call(archive: Archive, found: FoundCall, *, as_json: bool) -> None:
    """Prints a call with its arguments and its value, as far as the storage has them, and its failure."""
    kept = kept_call(archive, found)
    if not as_json:
        from dotflow.cli.pages import print_call  # here: JSON needs no rich

        print_call(found, kept)
        return
    address = {"run_id": found.run.run_id, "address": found.address}
    members = {"kept": kept._asdict(), "call": call_object(found.run, found.call)}
    print_json([address | _task_of(found.task) | {"item": found.item} | members])


def _print_part_of_call(archive: Archive, found: FoundCall, part: str, *, as_json: bool) -> None:
    """Prints the traceback of a call, its arguments or its value as JSON, and nothing else."""
    if part == "output":
        raise click.UsageError(f"The output of {found.address} is that of its step. Name the step alone.")
    if part == "error":
        if not found.call.exception:
            raise NotInHistory(f"Can't find an error of '{found.address}'", "it has none")
        error = {name: getattr(found.call, name) for name in ("exception", "message", "traceback")}
        print_json([error]) if as_json else click.echo(escape_lines(error["traceback"].rstrip("\n")))
        return
    kept = kept_call(archive, found)
    is_there = kept.arguments is not None if part == "input" else kept.has_value
    if not is_there:
        what = "the arguments" if part == "input" else "the value"
        raise NotInHistory(f"Can't find {what} of '{found.address}'", kept.note or "it returned none")
    value = kept.arguments if part == "input" else kept.value
    _print_value(value) if not as_json else print_json([{part: value}])


def _show_part(
    archive: Archive, run: str, step: str | None, attempt: int | None, part: str, *, follow: bool, as_json: bool
) -> None:
    """Prints the output, the error, the inputs or the value of a step, and nothing else."""
    if part == "output":
        _print_output(archive, run, step, attempt, follow=follow, as_json=as_json)
        return
    assert step is not None
    record = archive.load(run)
    if (call := find_call(archive, record, step)) is not None:
        _print_part_of_call(archive, call, part, as_json=as_json)
        return
    task, item = record.find(step)
    if part == "error":
        is_round = bool(task.round_name) and attempt is None
        attempts = task.all_attempts if is_round else task.attempts_of(item, attempt)
        _print_error(record, task, item, attempts, as_json=as_json)
        return
    copies = archive.copies(record.run_id, step, attempt=attempt)
    is_own = not archive.why_foreign()  # so that its word on where its storage is counts
    if part == "value" and is_own and not any(copy.role == RETURNED and copy.document for copy in copies):
        kept = _checkpoint_of(record, task, item, attempt)
        copies = copies if kept is None else [kept]
    _print_copies(copies, step, inputs=part == "input", as_json=as_json)


KEEPS_VALUES: Final = (
    "A history with values='all' keeps them, of a map by item. Those of other completed tasks are also in StorageFile "
    "and StorageSQLite until the next run"
)


def _print_output(
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
        print_json(map(_chunk_line, chunks))
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


def _print_error(
    run: RunRecord, task: TaskRecord, item: int | None, attempts: Sequence[AttemptRecord], *, as_json: bool
) -> None:
    """Writes the traceback of the last error of the attempts; as JSON, all their errors."""
    objects = _error_lines(run, task, attempts)
    if as_json:
        print_json(objects)
        return
    if not objects:
        raise NotInHistory(f"Can't find an error of '{task.name_of(item)}'", "it has none")
    last = objects[-1]
    text = last["traceback"].rstrip("\n") or f"{last['exception']}: {last['message']}"
    click.echo(escape_lines(text))  # also in a pipe, whose other end may be a terminal


def _checkpoint_of(run: RunRecord, task: TaskRecord, item: int | None, attempt: int | None) -> ValueRecord | None:
    """Returns the value of an attempt as the run's files or SQLite database still have it; None if they don't.

    A mapped task has no checkpoint of its own, and those of its items are known by their inputs.

    Raises:
        NotInHistory: The checkpoint can't be read. A pickle can run any program, so it is not loaded.
    """
    storage = local_storage(run)
    if storage is None or task.count is not None or item is not None or task.last is None:
        return None
    if attempt not in (None, task.last.attempt):
        return None
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


def _print_copies(copies: Sequence[ValueRecord], step: str, *, inputs: bool, as_json: bool) -> None:
    """Writes the inputs or the value of a step as JSON: one alone as it is, several as an object by role.

    A text alone is written as it is. As JSON lines, each is an object with its role and the codec's whole document.
    """
    chosen = [copy for copy in copies if (copy.role != RETURNED) is inputs]
    if not as_json:
        _check_kept(chosen, step, inputs=inputs)
    try:
        if as_json:
            print_json(map(_copy_line, chosen))
            return
        values: Mapping[str, Any] = {copy.role: json.loads(copy.document or b"{}")["value"] for copy in chosen}
        _print_value(next(iter(values.values())) if len(values) == 1 else values)
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        what = f"The copies of '{step}' can't be read"
        raise HistoryError(what, f"they are damaged, or dotflow did not write them ({type(error).__name__})") from error


def _print_value(value: Any) -> None:
    """Writes a value as JSON; a text alone as it is."""
    text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
    click.echo(escape_lines(text.replace("\r\n", "\n")) if sys.stdout.isatty() else text)


def _check_kept(chosen: Sequence[ValueRecord], step: str, *, inputs: bool) -> None:
    what = f"Can't find {'the inputs' if inputs else 'the value'} of '{step}'"
    for copy in chosen:
        if copy.document is None:
            raise NotInHistory(what, f"'{copy.role}' was not kept: {copy.note}")
    if not chosen:
        keeps = "those of failed steps are kept" if inputs else KEEPS_VALUES
        raise NotInHistory(what, f"the history has none: {keeps}")


def _attempt_line(
    archive: Archive, run: RunSummary, task: TaskRecord, attempt: AttemptRecord, limit: int | None
) -> dict[str, Any]:
    """Returns an attempt with its errors and its calls, and what it is an attempt of."""
    address = {"item": attempt.item, "address": task.name_of(attempt.item)}
    page = archive.calls(run.run_id, task.number_of(attempt.item), attempt=attempt.attempt, limit=limit)
    return _task_of(task) | address | attempt_object(run, attempt) | {"calls": calls_object(run, page)}


def _error_lines(run: RunRecord, task: TaskRecord, attempts: Sequence[AttemptRecord]) -> list[dict[str, Any]]:
    """Returns the errors of attempts, with the attempt of each, and where the step is defined."""
    folder, argv = run.environment.get("folder") or "", run.environment.get("argv") or [""]
    make_folder_importable()
    step_at = definition_of(task.identity, str(Path(folder, argv[0])))
    return [
        _task_of(task) | {"item": attempt.item, "attempt": attempt.attempt, "step_at": step_at} | error_object(error)
        for attempt in attempts
        for error in attempt.errors
    ]


def _chunk_line(chunk: OutputChunk) -> dict[str, Any]:
    """Returns a part of the output, with its bytes as text."""
    return chunk._replace(data=b"")._asdict() | {
        "at": moment(chunk.at),
        "data": chunk.data.decode(errors="backslashreplace"),
    }


def _copy_line(copy: ValueRecord) -> dict[str, Any]:
    """Returns the copy of a value, as the codec wrote it."""
    return copy._asdict() | {"document": None if copy.document is None else json.loads(copy.document)}


def _task_of(task: TaskRecord) -> dict[str, Any]:
    return {"task_id": task.task_id, "name": task.name}
