"""A run as one JSON object: what the page draws, `dotflow show --json` prints and the API of `dotflow ui` returns.

docs/run-as-json.md describes it. Moments are ISO 8601 in UTC; durations and moments within a run are seconds.
"""

import codecs
import dataclasses
import json
import os
import re
import sys
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from dotflow import clock
from dotflow.abc.archive import NAMES, Archive
from dotflow.codec.json import encode
from dotflow.core.approval import Question
from dotflow.core.failure import Failure, raised_at, root_cause
from dotflow.core.files import FileRecord
from dotflow.records.record import (
    BAD,
    AttemptRecord,
    CallPage,
    CallRecord,
    ErrorRecord,
    OutputChunk,
    OutputKey,
    RunRecord,
    RunSummary,
    TaskRecord,
    duration_of,
    last_notes,
)
from dotflow.report.next_steps import command_objects, last_completed

VERSION: Final = 1
MAX_TEXT: Final = 50_000  # characters of a message or a traceback; half of the beginning, half of the end
MAX_CALLS: Final = 20  # of a durable step: the last ones
MAX_ERRORS: Final = 20  # attempts of a task or an item with their messages and tracebacks: the last ones

TRACE_VARIABLE: Final = "DOTFLOW_TRACE_URL"
TRACE: Final = "{trace}"  # in its value

_SURROGATES: Final = re.compile("[\ud800-\udfff]")


def load_newest(archive: Archive, run: str) -> RunRecord:
    """Returns the newest run of the chain that an id is of. A name, such as "failed" or "etl", stands for its run."""
    record = archive.load(run)
    is_id = run not in NAMES and record.run_id.startswith(run.lower())
    return archive.load(record.newest) if is_id and record.newest != record.run_id else record


def read_document(archive: Archive, run: str, history: str | None = None) -> dict[str, Any]:
    """Returns a run of an archive as an object, with its output.

    Args:
        archive: The history.
        run: The run.
        history: The value of --history for its commands.
    """
    record = archive.load(run)
    return document(record, output=output_members(archive, record), archive=archive, history=history)


def document(
    run: RunRecord,
    *,
    output: Mapping[str, Any] | None = None,
    archive: Archive | None = None,
    history: str | None = None,
) -> dict[str, Any]:
    """Returns a run as an object.

    Args:
        run: The run.
        output: The members about its output; None for none.
        archive: Its history, for the commands that help, and the run that completed before it; None for neither.
        history: The value of --history for its commands.
    """
    details, earlier = listed_items(run.steps), None if archive is None else last_completed(archive, run)
    items = [(task_id, item) for task_id, listed in details.items() for item in listed]
    calls = {} if archive is None else archive.all_calls(run.run_id, MAX_CALLS, items=items)
    return {
        "version": VERSION,
        "dotflow": sys.modules["dotflow"].__version__,
        "made": moment(clock.now()),
        "run": _record_object(run),
        "tasks": [_task_object(run, task, details[task.task_id], calls) for task in run.steps],
        **(output or {}),
        "commands": [] if archive is None else command_objects(archive, run, history),
        "last_completed": None if earlier is None else {"run_id": earlier.run_id, "ended": moment(earlier.ended)},
    }


def run_object(run: RunSummary) -> dict[str, Any]:
    """Returns the fields of a summary."""
    names = [field.name for field in dataclasses.fields(RunSummary) if field.name != "params_text"]
    fields = {name: getattr(run, name) for name in names}
    return fields | {
        "began": moment(run.began),
        "ended": moment(run.ended),
        "submitted": moment(run.submitted),
        "due": moment(run.due),
        "params": None if run.params is None else json.loads(encode(dict(run.params))),
        "duration": run.duration,
        "is_end_known": run.is_end_known,
        "workflow": run.workflow,
        "parent": None if run.parent is None else run.parent._asdict(),
    }


def attempt_object(run: RunSummary, attempt: AttemptRecord, *, has_errors: bool = True) -> dict[str, Any]:
    """Returns an attempt with its errors. It began so many seconds after its run."""
    fields = attempt._asdict()
    del fields["item"], fields["files_text"]
    return fields | {
        "began": None if attempt.began is None else round((attempt.began - run.began).total_seconds(), 6),
        "waited": _short(attempt.waited),
        "files": files_object(attempt.files),
        "notes": dict(attempt.notes),
        "errors": [error_object(error) for error in attempt.errors] if has_errors else [],
    }


def calls_object(run: RunSummary, page: CallPage | None) -> dict[str, Any] | None:
    """Returns calls of a durable step; None for none."""
    if page is None or not page.total:
        return None
    return {"total": page.total, "listed": [call_object(run, call) for call in page.calls]}


def call_object(run: RunSummary, call: CallRecord) -> dict[str, Any]:
    """Returns a call. It began so many seconds after its run."""
    names = ("number", "attempt", "name", "arguments", "depth", "state", "duration", "glimpse", "key")
    error = ErrorRecord(call.exception, call.message, call.traceback)
    return {name: getattr(call, name) for name in names} | {
        "began": round((call.began - run.began).total_seconds(), 6),
        "error": failure_object(error) if call.exception else None,
    }


def files_object(files: FileRecord) -> list[dict[str, Any]]:
    """Returns the files of an attempt, or those of a run, with their states then."""
    return [
        {
            "path": path,
            "role": role,
            "size": None if state.is_gone else state.size,
            "modified": moment(state.modified) if state.is_file else None,
            "sha256": state.digest,
        }
        for path, role, state in files.listed()
    ]


def error_object(error: ErrorRecord) -> dict[str, Any]:
    """Returns an error of the history."""
    return error._asdict() | failure_object(error)


def failure_object(error: ErrorRecord | Failure) -> dict[str, Any]:
    """Returns an error with the line that raised it and the one that began it, without the middle of long texts."""
    root = root_cause(error.traceback)
    names = ("exception", "message", "raised_at")
    return {
        "exception": error.exception,
        "message": cut(error.message),
        "traceback": cut(error.traceback),
        "raised_at": raised_at(error.traceback),
        "root_cause": None if root is None else dict(zip(names, map(cut, root), strict=True)),
    }


def question_object(question: Question) -> dict[str, Any]:
    """Returns a question that waits for an answer."""
    asked, until = moment(question.asked), moment(question.until)
    return {"step": question.step, "text": question.text, "asked": asked, "until": until}


def to_json(value: Mapping[str, Any]) -> str:
    """Returns an object as JSON on one line. A lone surrogate, which UTF-8 doesn't have, stands there as its escape."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return _SURROGATES.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def moment(at: datetime | None) -> str | None:
    """Returns a moment as a text in UTC."""
    return None if at is None else at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def cut(text: str) -> str:
    """Returns a text without its middle if it is too long."""
    left = len(text) - MAX_TEXT
    half = MAX_TEXT // 2
    return text if left <= 0 else f"{text[:half]}\n[... {left} characters were left out ...]\n{text[-half:]}"


def trace_url(trace: str) -> str | None:
    """Returns the address of a trace, as the environment variable DOTFLOW_TRACE_URL has it; None without one."""
    pattern = os.environ.get(TRACE_VARIABLE, "")
    is_link = pattern.startswith(("https://", "http://")) and TRACE in pattern
    return pattern.replace(TRACE, trace) if trace.isalnum() and is_link else None


def _record_object(run: RunRecord) -> dict[str, Any]:
    return run_object(run) | {
        "process": run.process,
        "storage": run.storage,
        "trace": run.trace,
        "trace_url": trace_url(run.trace),
        "children": list(run.children),
        "chain": list(run.chain),
        "files": files_object(run.files),
        "notes": [{"at": moment(at), "text": text} for at, text in run.notes],
        "questions": [question_object(question) for question in run.open_questions],
        "environment": dict(run.environment),
    }


def _task_object(
    run: RunRecord,
    task: TaskRecord,
    details: Collection[int],
    calls: Mapping[tuple[int, int | None], CallPage],
) -> dict[str, Any]:
    fields = ("task_id", "name", "group", "lane", "identity", "code", "state", "duration", "cpu", "peak", "count")
    return {name: getattr(task, name) for name in fields} | {
        "needs": list(task.needs),
        "policy": dict(task.policy),
        "notes": _notes(task),
        "glimpse": "" if task.last is None else task.last.glimpse,
        "attempts": _attempts(run, task.attempts),
        "counts": dict(task.counts),
        "items": items_object(run, task),
        "levels": list(task.levels),
        "calls": calls_object(run, calls.get((task.task_id, None))),
        "details": [
            {
                "item": item,
                "name": task.name_of(item),
                "attempts": _attempts(run, task.items[item]),
                "calls": calls_object(run, calls.get((task.task_id, item))),
            }
            for item in details
        ],
    }


def _notes(task: TaskRecord) -> dict[str, Any]:
    """Returns what a task has noted last; of a map the range and the mean of the numbers of its items."""
    if task.count is None:
        return dict(last_notes(task.attempts))
    return {
        name: {"items": len(of), "min": min(of), "mean": sum(of) / len(of), "max": max(of)}
        for name, of in task.numbers.items()
    }


def _attempts(run: RunRecord, attempts: Sequence[AttemptRecord]) -> list[dict[str, Any]]:
    first = len(attempts) - MAX_ERRORS
    return [attempt_object(run, attempt, has_errors=index >= first) for index, attempt in enumerate(attempts)]


MAX_DETAILS: Final = 500  # items of a run with their attempts
MB: Final = 1e6


def items_object(run: RunRecord, task: TaskRecord) -> dict[str, Any] | None:
    """Returns the items of a map as columns; None for every other task.

    A column has a value for each item from 0 to the last one that has begun; None for one that has not. A column is
    None if it has no values. Numbers are short: a document with 100,000 items has some 2 MB.
    """
    if task.count is None:
        return None
    rows = [_row(run, task.items.get(item, ())) for item in range(max(task.items, default=-1) + 1)]
    states = [row.get("state") for row in rows]
    names = list(dict.fromkeys(filter(None, states)))
    numbers = {name: number for number, name in enumerate(names)}
    columns = {name: [row.get(name) for row in rows] for name in ("began", "duration", "cpu", "peak_mb", "waited")}
    attempts = [row.get("attempts", 0) for row in rows]
    return {
        "states": names,
        "state": [numbers.get(state) for state in states],
        "attempts": None if all(count == 1 for count in attempts) else attempts,
        "round": [task.item_rounds.get(item) for item in range(len(states))] if task.item_rounds else None,
        "nth": [of and of[1] for of in map(task.path_of, range(len(states)))] if task.levels else None,
        **{name: column if any(value is not None for value in column) else None for name, column in columns.items()},
    }


def listed_items(tasks: Sequence[TaskRecord]) -> dict[int, list[int]]:
    """Returns the items of each task that are shown in full: those that failed, then those that were repeated."""
    ends = [
        (attempts[-1].state not in BAD, task.task_id, item)
        for task in tasks
        for item, attempts in task.items.items()
        if len(attempts) > 1 or attempts[-1].state in BAD
    ]
    items: dict[int, list[int]] = {task.task_id: [] for task in tasks}
    for _, task_id, item in sorted(sorted(ends)[:MAX_DETAILS], key=lambda end: end[1:]):
        items[task_id].append(item)
    return items


def _row(run: RunRecord, attempts: Sequence[AttemptRecord]) -> dict[str, Any]:
    """Returns the columns of an item: its last state, the number of its attempts, and numbers of all of them."""
    if not attempts:
        return {}
    first, last = attempts[0], attempts[-1]
    times = [attempt.cpu for attempt in attempts if attempt.cpu is not None]
    waits = [attempt.waited for attempt in attempts if attempt.waited is not None]
    peak = max((attempt.peak for attempt in attempts if attempt.peak is not None), default=None)
    return {
        "state": last.state,
        "attempts": last.attempt,
        "began": None if first.began is None else round((first.began - run.began).total_seconds(), 3),
        "duration": _short(duration_of(attempts)),
        "cpu": _short(sum(times)) if times else None,
        "peak_mb": _short(None if peak is None else peak / MB),
        "waited": _short(sum(waits)) if waits else None,
    }


def _short(number: float | None) -> float | int | None:
    """Returns a number with three digits."""
    if number is None:
        return None
    short = float(f"{number:.3g}")
    return int(short) if short.is_integer() else short


MAX_OUTPUT: Final = 20_000_000  # bytes in one document
MAX_ATTEMPTS: Final = 10_000  # with output in a document that can't have all of it


def output_members(archive: Archive, run: RunRecord) -> dict[str, Any]:
    """Returns the members of a document about the output.

    If there is too much, failed attempts have theirs first, and of the others the beginnings are left out.
    """
    sizes = archive.output_sizes(run.run_id)
    shares = sizes if sum(sizes.values()) <= MAX_OUTPUT else share_out(run, sizes)
    chunks = archive.output(run.run_id) if shares is sizes else archive.output_tails(run.run_id, shares)
    return {"output": output_objects(run, chunks, sizes), "output_left_out": left_out(sizes, shares)}


def left_out(sizes: Mapping[OutputKey, int], shares: Collection[OutputKey]) -> dict[str, int]:
    """Returns the number of attempts whose output is not in the document, and the bytes of it."""
    others = [size for key, size in sizes.items() if key not in shares]
    return {"attempts": len(others), "size": sum(others)}


def share_out(run: RunRecord, sizes: Mapping[OutputKey, int], limit: int = MAX_OUTPUT) -> dict[OutputKey, int]:
    """Returns the attempts whose output is in a document with a limit, and the number of bytes of each."""
    failed = {
        OutputKey(task.task_id, attempt.item, attempt.attempt)
        for task in run.steps
        for attempt in task.all_attempts
        if attempt.state in BAD
    }
    chosen = sorted(sizes, key=lambda key: key not in failed)[:MAX_ATTEMPTS]
    shares: dict[OutputKey, int] = {}
    for group in (failed.intersection(chosen), set(chosen) - failed):
        # The smallest first: what they don't need is for the others.
        for index, key in enumerate(sorted(group, key=lambda key: (sizes[key], _order(key)))):
            shares[key] = min(sizes[key], limit // (len(group) - index))
            limit -= shares[key]
    return shares


def output_objects(
    run: RunSummary, chunks: Iterable[OutputChunk], sizes: Mapping[OutputKey, int]
) -> list[dict[str, Any]]:
    """Returns the output of each attempt, by task, item and attempt, with its bytes as text.

    Args:
        run: The run. A part was written so many seconds after its beginning.
        chunks: The output, in the order of each attempt.
        sizes: The bytes of the whole output of each attempt; of others those of the chunks.
    """
    attempts: dict[OutputKey, list[OutputChunk]] = defaultdict(list)
    for chunk in chunks:
        attempts[chunk.key].append(chunk)
    entries = []
    for key in sorted(attempts, key=_order):
        parts = attempts[key]
        there = sum(len(chunk.data) for chunk in parts if chunk.stream)
        size = sizes.get(key, there)
        entries.append(key._asdict() | {"size": size, "left_out": size - there, "parts": _parts(run, parts)})
    return entries


def _order(key: OutputKey) -> tuple[int, int, int]:
    return key.task_id, -1 if key.item is None else key.item, key.attempt


def _parts(run: RunSummary, chunks: list[OutputChunk]) -> list[dict[str, Any]]:
    """Returns the parts of an output. The bytes of a character may be in two chunks of a stream."""
    decoders: dict[int, codecs.IncrementalDecoder] = {}
    last = {chunk.stream: chunk for chunk in chunks}
    parts = []
    for chunk in chunks:
        decoder = decoders.setdefault(chunk.stream, codecs.getincrementaldecoder("utf-8")("backslashreplace"))
        text = decoder.decode(chunk.data, final=chunk is last[chunk.stream])
        at = round((chunk.at - run.began).total_seconds(), 3)
        parts.append({"seq": chunk.seq, "stream": chunk.stream, "at": at, "text": text, "skipped": chunk.skipped})
    return parts
