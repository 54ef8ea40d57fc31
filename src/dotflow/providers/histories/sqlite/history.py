"""HistorySQLite: every run in one file."""

import contextlib
import os
import sqlite3
import stat
import weakref
from collections import deque
from collections.abc import Hashable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dotflow import clock
from dotflow.abc.archive import LATEST, Archive, NotedNumber, Since, TaskState
from dotflow.abc.history import HISTORY_VARIABLE, NO_HISTORY, History
from dotflow.abc.operations import Operations
from dotflow.atomic_file import UMASK, Files, is_umask
from dotflow.core.attempt_id import ID_LENGTH
from dotflow.core.durations import TEXTS, to_seconds
from dotflow.core.events import AttemptOutput, Event, RunEnded, RunStarted
from dotflow.core.files import NO_STATES
from dotflow.core.text import shorten
from dotflow.core.types.capture import TypeCapture
from dotflow.core.types.run_state import TypeRunState
from dotflow.errors import InvalidArgument, NotInHistory
from dotflow.providers.histories.sqlite import live
from dotflow.providers.histories.sqlite.crashed import mark_ended
from dotflow.providers.histories.sqlite.output_rows import OutputWriter
from dotflow.providers.histories.sqlite.reading import errors_of, reading, revision_of, short_path
from dotflow.providers.histories.sqlite.retention import (
    CHAINS,
    GOES_ON,
    Keep,
    as_keep,
    forget,
    forget_found,
    shrink,
    sweep,
)
from dotflow.providers.histories.sqlite.rows import HANDLERS, RunRows
from dotflow.providers.histories.sqlite.tables import FIND_RUN, FORMAT, micro
from dotflow.providers.histories.sqlite.values import KEPT, Values
from dotflow.providers.histories.sqlite.writer import PATIENCE, RunWriter
from dotflow.providers.sqlite_file import SQLiteFile

if TYPE_CHECKING:  # a run only writes, and imports none of them
    from dotflow.providers.histories.sqlite.queue import SQLiteQueue
    from dotflow.providers.histories.sqlite.records import Records
    from dotflow.records.record import OutputChunk, OutputKey, RunRecord, RunSummary, ValueRecord

DEFAULT_PATH: Final = ".output/history.db"
MAX_DOCUMENT: Final = 64_000_000  # bytes of a copy that is read, unless more are kept
BATCH: Final = 100  # runs that one transaction deletes
ENDED: Final = f"SELECT old.run FROM {CHAINS} WHERE NOT {GOES_ON} AND last.ended <= ? ORDER BY old.run LIMIT ?"
CHAIN: Final = "SELECT run FROM runs WHERE run = :run OR origin = (SELECT origin FROM runs WHERE run = :run)"
NOTE: Final = "INSERT INTO notes VALUES (?, ?, ?)"
WORKFLOWS: Final = """SELECT DISTINCT CASE WHEN is_named THEN IFNULL(NULLIF(workflow, ''), workflow_id) ELSE name END
    AS id FROM (SELECT workflow_id, name, is_named, workflow FROM runs ORDER BY began DESC LIMIT ?)
    WHERE id IS NOT NULL"""
OPEN: Final = f"SELECT last.run_id, last.state FROM {CHAINS} WHERE old.run = ? AND {GOES_ON}"

MAX_OUTPUTS: Final = 1000  # runs of another process whose output is counted
MAX_UNENDED: Final = 1000  # runs whose end is tried again when the next run begins


class HistorySQLite(Archive, History):
    """Keeps every run in one SQLite file, which any number of processes may write to at the same time.

    An attempt is in the file before the first line of its step runs. What goes wrong with the file is logged once a
    run, and never reaches the run. Any SQLite tool can read the views `run_list`,
    `attempt_list` and `error_list`. Beside the file, `-wal`, `-shm` and `-live` belong to it.

    Args:
        path: The file, made with its folder by the first run. A relative path counts from the current folder. A
            database of another program is refused.
        keep: Which runs are kept, beside the last run and the last failed one of each workflow with a workflow_id: a
            text such as "30 days" or "200 runs", a timedelta; None for all.
        capture: How the output of the steps is captured: "auto", "streams", "fd" or "none".
        values: "failed": copies of the inputs of failed tasks, and short texts of all other values. "all": copies of
            all values. "none": nothing.
        output_limit: The number of bytes that are kept of an attempt's output, half of its beginning and half of its
            end.
        value_limit: The maximum size of the copy of a value, in bytes. All copies of a run have ten times as many.
        pickle: Whether to pickle values that the codec refuses. Reading a pickle can run any program. So use it only
            for files that only you can write to.
        umask: The permissions that the files and folders do not have, in octal: "027" lets the group read them. By
            default those of the environment variable DOTFLOW_UMASK, and without it only their owner has any.

    Raises:
        InvalidArgument: One of the arguments is invalid.
    """

    measures_usage = True
    _queue: "SQLiteQueue | None"

    def __init__(
        self,
        path: str | os.PathLike[str] = DEFAULT_PATH,
        keep: str | timedelta | None = "30 days",
        capture: str | TypeCapture = TypeCapture.AUTO,
        values: str = "failed",
        output_limit: int = 1_000_000,
        value_limit: int = 10_000_000,
        pickle: bool = False,
        umask: str | None = None,
    ) -> None:
        _check("path", path, _is_path(path), "the path of a file")
        _check("capture", capture, capture in tuple(TypeCapture), '"auto", "streams", "fd" or "none"')
        _check("values", values, values in KEPT, '"failed", "all" or "none"')
        _check("output_limit", output_limit, _is_size(output_limit), "a number of bytes, 0 or more")
        _check("value_limit", value_limit, _is_size(value_limit), "a number of bytes, 0 or more")
        _check("pickle", pickle, isinstance(pickle, bool), "True or False")
        _check("umask", umask, is_umask(umask), UMASK)
        self.path: Path = Path(path).absolute()
        self.store: Hashable = ("sqlite", str(self.path))  # any process can record output in it
        self.keep: Keep = as_keep(keep)
        self.capture = TypeCapture(capture)
        self.values = values
        self.output_limit = output_limit
        self.value_limit = value_limit
        self.pickle = pickle
        self._files = Files(umask)
        self._set_file()

    def operations(self) -> Operations:
        if self._queue is None:
            from dotflow.providers.histories.sqlite import queue  # here: most runs never need it

            file = SQLiteFile(self.path, FORMAT, files=self._files, is_synced=True)
            self._queue = queue.SQLiteQueue(file, self.path)
            weakref.finalize(self._queue, file.close)  # it may outlive the history
        return self._queue

    def _set_file(self) -> None:
        self._file = SQLiteFile(self.path, FORMAT, files=self._files)
        self._watched = SQLiteFile(self.path, FORMAT, read_only=True)
        for file in (self._file, self._watched):
            weakref.finalize(self, file.close)
        self._queue = None
        self._writers: dict[str, RunWriter] = {}  # of the active runs, each in its own thread
        self._outputs: dict[str, OutputWriter] = {}  # of runs of another process
        self._unended = deque[RunWriter](maxlen=MAX_UNENDED)  # of runs whose end could not be written

    def record(self, run_id: str, event: Event) -> None:
        writer = self._writers.get(run_id)
        if writer is not None:
            handler = HANDLERS.get(event.__class__)
            if handler is not None:
                handler(writer.rows, event)
            if event.__class__ is RunEnded:
                del self._writers[run_id]
                self._end(writer)
        elif event.__class__ is RunStarted:
            self._begin(run_id, event)
        elif event.__class__ is AttemptOutput:
            self._add_output(run_id, event)

    def _add_output(self, run_id: str, event: Any) -> None:
        writer = self._outputs.pop(run_id, None) or OutputWriter(self._file, run_id, self.output_limit)
        self._outputs[run_id] = writer  # the last used ones are last
        if len(self._outputs) > MAX_OUTPUTS:
            del self._outputs[next(iter(self._outputs))]
        writer.add(event)

    def _begin(self, run_id: str, event: RunStarted) -> None:
        if self.values == "none":
            event = event._replace(files=NO_STATES)
        values = Values(self.values, self.value_limit, self.pickle, event)
        writer = self._writers[run_id] = RunWriter(self.path, self._file, RunRows(event, values, self.output_limit))
        writer.commit()
        with contextlib.suppress(IndexError):  # there is none, or another thread was quicker
            while (unended := self._unended.popleft()).end():
                pass
            self._unended.appendleft(unended)

    def _end(self, writer: RunWriter) -> None:
        try:
            writer.close()
        finally:
            if writer.rows.has_end:
                self._unended.append(writer)
        sweep(self._file, self.keep)

    def settle(self, run_id: str, begins: bool) -> float | None:
        writer = self._writers.get(run_id)
        return None if writer is None else writer.settle(begins=begins)

    def contains(self, run_id: str) -> bool:
        """Returns whether a run is in the file; False where that can't be read."""
        with contextlib.suppress(sqlite3.Error, OSError):
            return bool(self._file.run(FIND_RUN, (run_id,), patience=PATIENCE))
        return False

    def close(self) -> None:
        """Closes the file, so that it can be copied, moved or deleted. The next call opens it again."""
        self._file.close()
        self._watched.close()
        if self._queue is not None:
            self._queue.file.close()

    def __getstate__(self) -> dict[str, Any]:
        """Leaves the connection out: another process opens its own."""
        own = ("_file", "_watched", "_queue", "_writers", "_outputs", "_unended")
        return {name: value for name, value in self.__dict__.items() if name not in own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._set_file()

    def __repr__(self) -> str:
        return f"HistorySQLite({str(self.path)!r})"

    # What readers see: each call opens the file for a moment, and only `note` and `forget` change it.

    def why_foreign(self) -> str:
        # Its own is a file in the current folder, or of the environment, that only this user can have written.
        try:
            here = Path.cwd()
        except FileNotFoundError:  # the current folder was removed
            return "there is no current folder"
        named = os.environ.get(HISTORY_VARIABLE, NO_HISTORY)
        own = {here / DEFAULT_PATH, *([here / named] if named not in ("", NO_HISTORY) else [])}
        if self.path not in own:
            return f"it is neither {DEFAULT_PATH} of the current folder nor that of {HISTORY_VARIABLE}"
        if self.path != here / DEFAULT_PATH and (why := _why_exchangeable(self.path)):
            return why
        beside = (self.path.with_name(f"{self.path.name}{suffix}") for suffix in ("-wal", "-shm", "-journal"))
        for path in (self.path.parent, self.path, *beside):
            try:
                status = path.lstat()
            except FileNotFoundError:
                continue
            if not (stat.S_ISDIR if path == self.path.parent else stat.S_ISREG)(status.st_mode):
                return f"{short_path(path)} is a link, or not a file"
            if hasattr(os, "geteuid") and status.st_uid != os.geteuid():
                return f"{short_path(path)} belongs to another user"
            if os.name == "posix" and status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                return f"other users can write to {short_path(path)} (`chmod go-w` ends that)"
        return ""

    @property
    def option(self) -> str | None:
        name = short_path(self.path)
        return None if name == DEFAULT_PATH else name

    def runs(
        self,
        *,
        state: str | Sequence[str] | None = None,
        workflow: str | None = None,
        since: Since | None = None,
        before: datetime | None = None,
        search: str = "",
        limit: int | None = 50,
        newest: bool = False,
    ) -> "list[RunSummary]":
        from dotflow.providers.histories.sqlite.records import RunFilter

        if limit is not None and (type(limit) is not int or limit < 0):
            raise InvalidArgument("limit", limit, "a number of runs, 0 or more, or None for all")
        number = -1 if limit is None else limit
        wanted = RunFilter(_states(state), workflow, search=search, limit=number, is_newest=newest)
        if since is not None:
            wanted = wanted._replace(since=_moment("since", since))
        if before is not None:
            wanted = wanted._replace(before=micro(before))
        with self._records() as records:
            return list(records.runs(wanted))

    @contextlib.contextmanager
    def _records(self) -> "Iterator[Records]":
        from dotflow.providers.histories.sqlite.records import Records  # here: a run only writes

        with reading(self.path) as reader:
            yield Records(*reader)

    def summary(self, run: str) -> "RunSummary":
        with self._records() as records:
            return records.summary(records.find(run))

    def unmended(self, limit: int = 50) -> "list[RunSummary]":
        with self._records() as records:
            return records.unmended(limit)

    def queue(self, limit: int = 10) -> "tuple[list[RunSummary], int]":
        with self._records() as records:
            return records.next(limit)

    def recent(self, workflows: Sequence[str], limit: int = 20) -> "dict[str, list[RunSummary]]":
        with self._records() as records:
            return records.recent(workflows, limit)

    def workflows(self) -> list[str]:
        with reading(self.path) as reader:
            rows = reader.connection.execute(WORKFLOWS, (LATEST,)).fetchall()
        return list(dict.fromkeys(workflow.partition("@")[0] for (workflow,) in rows))

    def task_states(self, runs: Sequence[str]) -> list[list[TaskState]]:
        with self._records() as records:
            return [records.task_states(records.find(run)) for run in runs]

    def noted_numbers(self, runs: Sequence[str]) -> list[list[NotedNumber]]:
        with self._records() as records:
            return [records.noted_numbers(records.find(run)) for run in runs]

    def revision(self) -> str:
        return revision_of(self._watched, self.path)

    def load(self, run: str = "last") -> "RunRecord":
        with self._records() as records:
            return records.load(records.find(run))

    def output(self, run: str, step: str | None = None, *, attempt: int | None = None) -> "list[OutputChunk]":
        with self._records() as records:
            return records.output(*records.select(run, step, attempt))

    def output_sizes(self, run: str) -> "dict[OutputKey, int]":
        with self._records() as records:
            return records.sizes(records.find(run))

    def output_tails(self, run: str, sizes: "Mapping[OutputKey, int]") -> "list[OutputChunk]":
        with self._records() as records:
            return records.tails(records.find(run), sizes)

    def follow(self, run: str, step: str | None = None, *, attempt: int | None = None) -> "Iterator[list[OutputChunk]]":
        with self._records() as records:
            number, selection = records.select(run, step, attempt)
        seen: dict[tuple[int, int, int], int] = {}
        is_running = True
        while is_running:
            with self._records() as records:
                is_running = records.is_running(number)
                chunks = records.new_output(number, selection, seen)
            yield chunks

    def report(self, run: str, path: str | os.PathLike[str]) -> Path:
        from dotflow.report.document import read_document
        from dotflow.report.page import write_page

        return write_page(path, read_document(self, run, self.option))

    def copies(
        self, run: str, step: str | None = None, *, attempt: int | None = None, documents: bool = True
    ) -> "list[ValueRecord]":
        with self._records() as records:
            number, found = records.select(run, step, attempt)
            if found.round is not None:
                raise NotInHistory(f"Can't find the values of '{step}'", f"it is a map. Name an item: {found.example}")
            limit = max(self.value_limit, MAX_DOCUMENT) if documents else None
            return records.copies(number, found, limit)

    def value(self, run: str, step: str, role: str = "returned", *, attempt: int | None = None) -> Any:
        from dotflow.codec.document import unpack

        copies = self.copies(run, step, attempt=attempt)
        what = f"Can't find the value '{role}' of '{step}'"
        for copy in copies:
            if copy.role != role:
                continue
            if copy.document is None:
                raise NotInHistory(what, f"it was not kept: {copy.note}")
            return unpack(copy.document, role, pickle=self.pickle).storage
        kept = shorten(", ".join(copy.role for copy in copies)) or "no values of this step"
        raise NotInHistory(what, f"the history has {kept}. HistorySQLite(values='all') keeps all values")

    def note(self, run: str, text: str) -> None:
        with reading(self.path) as reader:
            number = reader.find(run)
        with errors_of(self.path, "changed"):
            self._file.check_private()
            self._file.run(NOTE, (number, micro(clock.now()), text))

    def forget(self, *runs: str, older_than: Since | None = None) -> int:
        until = None if older_than is None else _moment("older_than", older_than)
        with reading(self.path) as reader:
            numbers = list(dict.fromkeys(map(reader.find, runs)))
            if not reader.has_runs:
                return 0
        with errors_of(self.path, "changed"):
            noted: list[int] = []
            count = self._file.transact(lambda connection: self._forget(connection, numbers, noted))
            live.forget_ends(self.path, noted)
            while until is not None and (
                deleted := self._file.transact(lambda connection: forget_found(connection, ENDED, (until, BATCH)))
            ):
                count += deleted
            shrink(self._file)
            self._file.run("PRAGMA wal_checkpoint(TRUNCATE)", ())
        return count

    def _forget(self, connection: sqlite3.Connection, numbers: list[int], noted: list[int]) -> int:
        noted[:] = mark_ended(connection, self.path)
        for number in numbers:
            for run_id, state in connection.execute(OPEN, (number,)):
                reason = "it is still running. Stop it first"
                if state != TypeRunState.RUNNING:
                    reason = f"it is {state.lower()}. Cancel it first"
                raise NotInHistory(f"Can't forget the run {run_id[:ID_LENGTH]}", reason)
        chains = (connection.execute(CHAIN, {"run": number}).fetchall() for number in numbers)
        return forget(connection, list(dict.fromkeys(number for chain in chains for (number,) in chain)))


def _why_exchangeable(path: Path) -> str:
    """Returns why another user could put a file in the place of this one; "" if none can, its own folder aside."""
    for folder in (*path.parent.parents, *Path(os.path.realpath(path.parent)).parents):
        status = folder.lstat()
        is_open = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not status.st_mode & stat.S_ISVTX
        if hasattr(os, "geteuid") and status.st_uid not in (0, os.geteuid()):
            return f"{folder} belongs to another user"
        if os.name == "posix" and is_open and not stat.S_ISLNK(status.st_mode):
            return f"other users can write to {folder}"
    return ""


def _is_path(value: object) -> bool:
    if not isinstance(value, str | os.PathLike):
        return False
    path = os.fspath(value)
    return path not in ("", ":memory:") and "\0" not in path


def _is_size(value: object) -> bool:
    return type(value) is int and value >= 0


def _check(name: str, value: object, is_valid: bool, accepted: str) -> None:
    if not is_valid:
        raise InvalidArgument(name, value, accepted)


def _states(state: str | Sequence[str] | None) -> list[TypeRunState]:
    if state is None:
        return []
    known = {str(member).lower(): member for member in TypeRunState}
    names = [state] if isinstance(state, str) else list(state)
    if not all(isinstance(name, str) and name.lower() in known for name in names):
        raise InvalidArgument("state", state, f"one of {', '.join(TypeRunState)}, or several of them")
    return [known[name.lower()] for name in names]


def _moment(name: str, since: Since) -> int:
    """Returns a moment, or the one of an age, in microseconds since 1970. Raises InvalidArgument."""
    if isinstance(since, datetime):
        return micro(since)
    if isinstance(since, timedelta):
        return micro(clock.now() - since)
    seconds = to_seconds(since)
    if seconds is None:
        raise InvalidArgument(name, since, f"a datetime, a timedelta, a number of seconds, or {TEXTS}")
    return micro(clock.now() - timedelta(seconds=seconds))
