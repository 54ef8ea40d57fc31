"""LogDefault: lines on stderr and in a file."""

import os
import sys
from copy import copy
from pathlib import Path
from typing import Any, Final

from dotflow.abc.log import Log
from dotflow.core.events import RunEvent, RunStarted
from dotflow.core.task import Task
from dotflow.core.types.status import TypeStatus
from dotflow.errors import InvalidArgument
from dotflow.providers.logs.formats import JSON, LEVELS, SIMPLE, Format, local_time
from dotflow.providers.logs.rotating_file import RotatingFile

OFF: Final = 100
LEVEL_NUMBERS: Final = LEVELS | {"OFF": OFF}
OUTPUTS: Final = {"both": (True, True), "console": (True, False), "file": (False, True), "none": (False, False)}
FORMATS: Final[dict[str, Format]] = {"simple": SIMPLE, "json": JSON}


class LogDefault(Log):
    """Writes a record for each change of a task's status. Nothing is opened before the first one.

    Several processes may write to the same file, and each finds out when another one has rotated it or somebody has
    deleted it. One that can't be written to, or a disk that is full, is one warning on stderr, and the run goes on;
    when it can be written to again, the log says how many records are missing.

    Args:
        level: The least that is written: "DEBUG", "INFO", "WARNING", "ERROR"; "OFF" for nothing.
        output: "both" for stderr and the file, "console" for stderr, "file", or "none".
        path: The file; its folder is made when the first record is written.
        format: "simple" for lines to read, "json" for one JSON object a line.
        max_bytes: How long the file may become. When the next record would make it longer, it is renamed to
            `<path>.1`, what has that name to `<path>.2`, and so on, and a new one begins; 0 for never.
        backups: How many of these older files are kept. With 0 none is: a full file is deleted.

    Raises:
        InvalidArgument: One of them is not accepted.
    """

    def __init__(
        self,
        level: str = "INFO",
        output: str = "both",
        path: str | os.PathLike[str] = ".output/flow.log",
        format: str = "simple",
        max_bytes: int = 10_000_000,
        backups: int = 5,
    ) -> None:
        if not isinstance(level, str) or level.upper() not in LEVEL_NUMBERS:
            raise InvalidArgument("level", level, f"one of {', '.join(LEVEL_NUMBERS)}")
        if not isinstance(output, str) or output not in OUTPUTS:
            raise InvalidArgument("output", output, f"one of {', '.join(OUTPUTS)}")
        if not isinstance(format, str) or format not in FORMATS:
            raise InvalidArgument("format", format, f"one of {', '.join(FORMATS)}")
        for name, value in (("max_bytes", max_bytes), ("backups", backups)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise InvalidArgument(name, value, "a whole number, 0 or more")
        self.path: Path = Path(path)
        self._level = LEVEL_NUMBERS[level.upper()]
        self._to_console, self._to_file = OUTPUTS[output]
        self._tasks_to_console = self._to_console
        self._format = FORMATS[format]
        self._heads: dict[str | None, str] = {}  # of the runs that go on, by their ids
        self._max_bytes, self._backups = max_bytes, backups
        self._absolute_path: str | None = None
        self._file: RotatingFile | None = None
        self._missing = 0
        self._warned = False

    def without_console(self) -> "LogDefault":
        """The same log without stderr for what is about tasks, for who shows them there already; reports stay.

        Silent, where there is no file either: nothing is written about a task.
        """
        log = copy(self)
        log._tasks_to_console = False
        return log

    @property
    def is_silent(self) -> bool:
        return self._level == OFF or not (self._tasks_to_console or self._to_file)

    def follow_run(self, event: RunEvent) -> None:
        if isinstance(event, RunStarted):
            self._heads[event.run_id] = self._format.head(event.workflow_id, event.run_id, event.name)
        else:
            self._heads.pop(event.run_id, None)

    def info(self, task: Task) -> None:
        if self._level <= LEVELS["INFO"]:
            self._write(self._task_record("INFO", task), to_console=self._tasks_to_console)

    def error(self, task: Task) -> None:
        level = "ERROR" if task.status is TypeStatus.FAILED else "WARNING"
        if self._level <= LEVELS[level]:
            self._write(self._task_record(level, task), to_console=self._tasks_to_console)

    def note(self, message: str) -> None:
        if self._level <= LEVELS["INFO"]:
            self._write(self._message_record("INFO", message), to_console=self._to_console)

    def report(self, message: str) -> None:
        if self._level <= LEVELS["WARNING"]:
            self._write(self._message_record("WARNING", message), to_console=self._to_console)

    def _task_record(self, level: str, task: Task) -> str:
        return self._format.record(level, task, "", self._heads.get(task.run_id, ""))

    def _message_record(self, level: str, message: str) -> str:
        return self._format.record(level, None, message, "")

    def _write(self, record: str, *, to_console: bool) -> None:
        if to_console:
            _write_stderr(record)
        if self._to_file:
            try:
                self._append(record)
            except OSError as error:
                self._missing += 1
                if not self._warned:
                    self._warned = True
                    _warn(
                        f"the log file {self.path} can't be written ({error.strerror}); the run goes on without it. "
                        f"Another place: Config(log=LogDefault(path=...))."
                    )

    def _append(self, record: str) -> None:
        file = self._file
        if file is None:
            file = self._open()
        missing = self._missing
        if missing:
            note = f"Records are missing here: {missing} could not be written"
            record = self._message_record("WARNING", note) + record
        file.append(record.encode("utf-8", "backslashreplace"))
        if missing:
            self._missing -= missing

    def _open(self) -> RotatingFile:
        if self._absolute_path is None:
            self._absolute_path = str(self.path.absolute())  # a step may change the current folder
        # Threads that come here at the same moment may make one each, and write to the same file.
        self._file = RotatingFile(self._absolute_path, self._max_bytes, self._backups, _warn)
        return self._file

    def __getstate__(self) -> dict[str, Any]:
        """An open file doesn't travel; the other process opens its own."""
        return self.__dict__ | {"_file": None}


def _warn(message: str) -> None:
    _write_stderr(f"{local_time()} WARNING dotflow: {message}\n")


def _write_stderr(text: str) -> None:
    if sys.stderr is not None:
        try:  # contextlib.suppress takes as long as the write
            sys.stderr.write(text)
        except (OSError, ValueError):  # a closed or broken stderr leaves nowhere to say so
            return
