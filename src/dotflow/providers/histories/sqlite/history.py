"""HistorySQLite: every run in one file."""

import contextlib
import os
import sqlite3
import stat
from collections import deque
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dotflow import clock
from dotflow.abc.archive import Since
from dotflow.abc.history import HISTORY_VARIABLE, NO_HISTORY
from dotflow.abc.limits import LimitStore
from dotflow.abc.operations import Operations
from dotflow.atomic_file import UMASK, Files, is_umask
from dotflow.core.events import AttemptOutput, Event, RunEnded, RunStarted
from dotflow.core.files import NO_STATES
from dotflow.core.types.capture import TypeCapture
from dotflow.errors import InvalidArgument
from dotflow.providers.histories.sql.crashed import mark_ended
from dotflow.providers.histories.sql.database import Connection
from dotflow.providers.histories.sql.history import NOTE, SQLHistory, as_moment, check_arguments
from dotflow.providers.histories.sql.retention import ENDED, Keep, as_keep, forget, forget_all, forget_found
from dotflow.providers.histories.sql.rows import HANDLERS, RunRows
from dotflow.providers.histories.sql.tables import FIND_RUN, micro
from dotflow.providers.histories.sql.values import Values
from dotflow.providers.histories.sqlite.database import SQLiteDatabase, errors_of, short_path
from dotflow.providers.histories.sqlite.shrink import shrink, sweep
from dotflow.providers.histories.sqlite.writer import PATIENCE, OutputWriter, RunWriter

if TYPE_CHECKING:
    from dotflow.providers.histories.sql.queue import SQLQueue

DEFAULT_PATH: Final = ".output/history.db"

MAX_OUTPUTS: Final = 1000  # runs of another process whose output is counted
MAX_UNENDED: Final = 1000  # runs whose end is tried again when the next run begins


class HistorySQLite(SQLHistory):
    """Keeps every run in one SQLite file, which any number of processes may write to at the same time.

    An attempt is in the file before the first line of its step runs. What goes wrong with the file is logged once a
    run, and never reaches the run. Any SQLite tool can read the views `run_list`, `attempt_list`, `call_list`,
    `error_list` and `note_list`. Beside the file, `-wal`, `-shm` and `-live` belong to it.

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
    database: SQLiteDatabase
    _queue: "SQLQueue | None"
    _limits: "LimitStore | None"

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
        check_arguments(capture, values, output_limit, value_limit, pickle)
        _check("umask", umask, is_umask(umask), UMASK)
        self.path: Path = Path(path).absolute()
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
            from dotflow.providers.histories.sql import queue  # here: most runs never need it

            self._queue = queue.SQLQueue(self.database)
        return self._queue

    def limits(self) -> LimitStore:
        if self._limits is None:
            from dotflow.providers.histories.sql.limits import SQLLimits  # here: few runs have limits

            self._limits = SQLLimits(self.database)
        return self._limits

    def _set_file(self) -> None:
        self.database = SQLiteDatabase(self.path, self._files)
        self.store = self.database.store  # any process can record output in it
        self._queue = None
        self._limits = None
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
        writer = self._outputs.pop(run_id, None) or OutputWriter(self.database, run_id, self.output_limit)
        self._outputs[run_id] = writer  # the last used ones are last
        if len(self._outputs) > MAX_OUTPUTS:
            del self._outputs[next(iter(self._outputs))]
        writer.add(event)

    def _begin(self, run_id: str, event: RunStarted) -> None:
        if self.values == "none":
            event = event._replace(files=NO_STATES)
        values = Values(self.values, self.value_limit, self.pickle, event)
        writer = self._writers[run_id] = RunWriter(self.database, RunRows(event, values, self.output_limit))
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
        self.sweep()

    def sweep(self) -> None:
        sweep(self.database.file, self.keep)

    def settle(self, run_id: str, begins: bool) -> float | None:
        if (writer := self._writers.get(run_id)) is not None:
            return writer.settle(begins=begins)
        if (output := self._outputs.get(run_id)) is not None:
            output.write()
        return None

    def contains(self, run_id: str) -> bool:
        with contextlib.suppress(sqlite3.Error, OSError):
            return bool(self.database.file.run(FIND_RUN, (run_id,), patience=PATIENCE))
        return False

    def close(self) -> None:
        """Closes the file, so that it can be copied, moved or deleted. The next call opens it again."""
        self.database.close()

    def __getstate__(self) -> dict[str, Any]:
        """Leaves the connection out: another process opens its own."""
        own = ("database", "_queue", "_limits", "_writers", "_outputs", "_unended")
        return {name: value for name, value in self.__dict__.items() if name not in own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._set_file()

    def __repr__(self) -> str:
        return f"HistorySQLite({str(self.path)!r})"

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

    def revision(self) -> str:
        return self.database.revision()

    def note(self, run: str, text: str) -> None:
        with self._records() as records:
            number = records.find(run)
        with errors_of(self.path, "changed"):
            self.database.file.check_private()
            self.database.file.run(NOTE, (number, micro(clock.now()), text))

    def forget(self, *runs: str, older_than: Since | None = None) -> int:
        until = None if older_than is None else as_moment("older_than", older_than)
        with self._records() as records:
            numbers = list(dict.fromkeys(map(records.find, runs)))
            if not records.has_runs:
                return 0
        with errors_of(self.path, "changed"):
            noted, file = list[int](), self.database.file
            named = file.transact(lambda connection: self._forgettable(connection, numbers, noted))
            self.database.presence.forget_ends(noted)
            count = forget_all(file.transact, lambda connection: forget(connection, named))
            if until is not None:
                count += forget_all(file.transact, lambda connection: forget_found(connection, ENDED, (until,)))
            shrink(file)
            file.run("PRAGMA wal_checkpoint(TRUNCATE)", ())
        return count

    def _forgettable(self, connection: Connection, numbers: list[int], noted: list[int]) -> list[int]:
        noted[:] = mark_ended(connection, self.database.presence)
        return self.forgettable(connection, numbers)


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


def _check(name: str, value: object, is_valid: bool, accepted: str) -> None:
    if not is_valid:
        raise InvalidArgument(name, value, accepted)
