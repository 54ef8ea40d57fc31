"""LogDefault: records on stderr and in a file."""

import os
import sys
from copy import copy
from pathlib import Path
from typing import Any, Final

from dotflow import clock
from dotflow.abc.log import Log
from dotflow.atomic_file import UMASK, Files, is_umask
from dotflow.core.events import RunEvent, RunStarted
from dotflow.core.task import Task
from dotflow.core.types.status import TypeStatus
from dotflow.errors import InvalidArgument
from dotflow.providers.logs.formats import JSON, LEVELS, SIMPLE, Format, local_time
from dotflow.providers.logs.rotating_file import RotatingFile

DEFAULT_PATH: Final = ".output/flow.log"
OFF: Final = 100
LEVEL_NUMBERS: Final = LEVELS | {"OFF": OFF}
OUTPUTS: Final = {"both": (True, True), "console": (True, False), "file": (False, True), "none": (False, False)}
FORMATS: Final[dict[str, Format]] = {"simple": SIMPLE, "json": JSON}
WRITE_SIZE: Final = 4_096  # bytes that a pipe takes at once, so that the records of several processes don't mix


class LogDefault(Log):
    """Writes a record for each change of a task's status. It opens nothing before the first record.

    Several processes may write to the same file; each one notices that the file was rotated or deleted. A file that
    can't be written, or a full disk, is one warning on stderr, and the run goes on. When writing works again, a
    record says how many are missing at most.

    Args:
        level: The lowest level that is written: "DEBUG", "INFO", "WARNING", "ERROR"; "OFF" for nothing.
        output: "both" for stderr and the file, "console" for stderr, "file", or "none".
        path: The file. The first record makes its folder. The default file has real time only: nothing that happens
            inside of `virtual_clock()` is written there.
        format: "simple" for people, "json" for one JSON object a line.
        max_bytes: The largest size of the file, in bytes; 0 for no limit. Before a record would exceed it, the file is
            renamed to `<path>.1`, `<path>.1` to `<path>.2`, and so on, and a new file begins.
        backups: How many of these older files are kept. With 0 a full file is deleted.
        umask: The permissions that the files do not have, in octal: "027" lets the group read them. By default those
            of the environment variable DOTFLOW_UMASK, and without it only their owner has any.

    Raises:
        InvalidArgument: One of them is not accepted.
    """

    def __init__(
        self,
        level: str = "INFO",
        output: str = "both",
        path: str | os.PathLike[str] = DEFAULT_PATH,
        format: str = "simple",
        max_bytes: int = 10_000_000,
        backups: int = 5,
        umask: str | None = None,
    ) -> None:
        if not isinstance(level, str) or level.upper() not in LEVEL_NUMBERS:
            raise InvalidArgument("level", level, f"one of {', '.join(LEVEL_NUMBERS)}")
        for name, text, accepted in (("output", output, OUTPUTS), ("format", format, FORMATS)):
            if not isinstance(text, str) or text not in accepted:
                raise InvalidArgument(name, text, f"one of {', '.join(accepted)}")
        for name, value in (("max_bytes", max_bytes), ("backups", backups)):
            if type(value) is not int or value < 0:
                raise InvalidArgument(name, value, "a whole number, 0 or more")
        if not is_umask(umask):
            raise InvalidArgument("umask", umask, UMASK)
        self.path: Path = Path(path)
        self._level = LEVEL_NUMBERS[level.upper()]
        self._to_console, self._to_file = OUTPUTS[output]
        self._in_real_time_only = os.fspath(path) == DEFAULT_PATH
        self._tasks_to_console = self._to_console
        self._head, self._record = FORMATS[format]
        self._heads: dict[str | None, str] = {}  # of the active runs, by id
        self._kept: dict[str | None, list[str]] = {}  # records that `flush_run` will write, after its first call
        self._max_bytes, self._backups = max_bytes, backups
        self._write_size = min(WRITE_SIZE, max_bytes or WRITE_SIZE)  # bytes of several records in one write
        self._files = Files(umask)
        self._absolute_path: str | None = None
        self._file: RotatingFile | None = None
        self._missing = 0
        self._warned = False

    def without_console(self) -> "LogDefault":
        """Returns this log without tasks and notes on stderr; without a file it is silent, but for reports."""
        log = copy(self)
        log._tasks_to_console = False
        return log

    @property
    def is_silent(self) -> bool:
        return self._level == OFF or not (self._tasks_to_console or self._to_file)

    def follow_run(self, event: RunEvent) -> None:
        if isinstance(event, RunStarted):
            self._heads[event.run_id] = self._head(event.workflow_id, event.run_id, event.name)
        else:
            self._heads.pop(event.run_id, None)
            if kept := self._kept.pop(event.run_id, None):
                self._write(kept, to_console=self._tasks_to_console)

    def flush_run(self, run_id: str) -> None:
        kept = self._kept.get(run_id)
        if kept:
            self._kept[run_id] = []
            self._write(kept, to_console=self._tasks_to_console)
        elif kept is None and run_id in self._heads:  # else it has no end, either
            self._kept[run_id] = []

    def info(self, task: Task) -> None:
        self._add("INFO", task)

    def error(self, task: Task) -> None:
        self._add("ERROR" if task.status is TypeStatus.FAILED else "WARNING", task)

    def note(self, message: str) -> None:
        self._write_message("INFO", message, to_console=self._tasks_to_console)

    def report(self, message: str) -> None:
        self._write_message("WARNING", message, to_console=self._to_console)

    def _add(self, level: str, task: Task) -> None:
        """Writes the record of a task, or keeps it for `flush_run`."""
        if self._level <= LEVELS[level]:
            run_id = task.run_id
            record = self._record(level, task, "", self._heads.get(run_id, ""))
            kept = self._kept.get(run_id)
            if kept is not None:
                kept.append(record)
            else:
                self._write([record], to_console=self._tasks_to_console)

    def _write_message(self, level: str, message: str, *, to_console: bool) -> None:
        if self._level <= LEVELS[level]:
            self._write([self._record(level, None, message, "")], to_console=to_console)

    def _write(self, records: list[str], *, to_console: bool) -> None:
        """Writes records at once, or in several parts if they are long."""
        text = records[0] if len(records) == 1 else "".join(records)
        data = text.encode("utf-8", "backslashreplace")
        if len(data) > self._write_size and len(records) > 1:
            half = len(records) // 2
            self._write(records[:half], to_console=to_console)
            self._write(records[half:], to_console=to_console)
            return
        if to_console:
            _write_stderr(text)
        if self._to_file and (clock.source is None or not self._in_real_time_only):
            try:
                file = self._file or self._open()
                if missing := self._missing:
                    note = f"Records are missing here: up to {missing} could not be written"
                    file.append(self._record("WARNING", None, note, "").encode())
                    self._missing -= missing
                file.append(data)
            except OSError as error:
                self._missing += len(records)  # some of them may be there
                if not self._warned:
                    self._warned = True
                    _warn(
                        f"the log file {self.path} can't be written ({error.strerror}); the run goes on without it. "
                        f"Choose another: Config(log=LogDefault(path=...))."
                    )

    def _open(self) -> RotatingFile:
        if self._absolute_path is None:
            self._absolute_path = str(self.path.absolute())  # a step may change the current folder
        # Two threads may open one each at the same moment; both write to the same file.
        self._file = RotatingFile(self._absolute_path, self._max_bytes, self._backups, _warn, self._files)
        return self._file

    def __getstate__(self) -> dict[str, Any]:
        """Returns the state without the open file and kept records; a copy opens its own, and keeps its own."""
        return self.__dict__ | {"_file": None, "_kept": {}}


def _warn(message: str) -> None:
    _write_stderr(f"{local_time(clock.now())} WARNING dotflow: {message}\n")


def _write_stderr(text: str) -> None:
    if sys.stderr is not None:
        try:  # contextlib.suppress takes as long as the write
            sys.stderr.write(text)
        except (OSError, ValueError):  # stderr is closed or broken
            return
