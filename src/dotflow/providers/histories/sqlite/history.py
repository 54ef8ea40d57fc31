"""HistorySQLite: every run in one file."""

import contextlib
import os
import sqlite3
import weakref
from collections import deque
from collections.abc import Hashable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dotflow.abc.history import History
from dotflow.abc.operations import Operations
from dotflow.atomic_file import UMASK, Files, is_umask
from dotflow.core.events import AttemptOutput, Event, RunEnded, RunStarted
from dotflow.core.files import NO_STATES
from dotflow.core.types.capture import TypeCapture
from dotflow.errors import InvalidArgument
from dotflow.providers.histories.sqlite.archive import DEFAULT_PATH, SQLiteArchive
from dotflow.providers.histories.sqlite.output_rows import OutputWriter
from dotflow.providers.histories.sqlite.retention import Keep, as_keep, sweep
from dotflow.providers.histories.sqlite.rows import HANDLERS, RunRows
from dotflow.providers.histories.sqlite.tables import FIND_RUN, FORMAT
from dotflow.providers.histories.sqlite.values import KEPT, Values
from dotflow.providers.histories.sqlite.writer import PATIENCE, RunWriter
from dotflow.providers.sqlite_file import SQLiteFile

if TYPE_CHECKING:
    from dotflow.providers.histories.sqlite.queue import SQLiteQueue

MAX_OUTPUTS: Final = 1000  # runs of another process whose output is counted
MAX_UNENDED: Final = 1000  # runs whose end is tried again when the next run begins


class HistorySQLite(SQLiteArchive, History):
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

    @property
    def store(self) -> Hashable:  # type: ignore[override]
        """The file: any process can record output in it."""
        return "sqlite", str(self.path)

    def _set_file(self) -> None:
        self._file = SQLiteFile(self.path, FORMAT, files=self._files)
        self._watched = SQLiteFile(self.path, FORMAT, read_only=True)
        for file in (self._file, self._watched):
            weakref.finalize(self, file.close)
        self._queue: SQLiteQueue | None = None
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
