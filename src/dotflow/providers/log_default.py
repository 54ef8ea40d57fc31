"""LogDefault: lines on stderr and in a file."""

import contextlib
import json
import os
import sys
import threading
import weakref
from pathlib import Path
from typing import Any, Final

from dotflow import clock
from dotflow.abc.log import Log
from dotflow.core.task import Task
from dotflow.core.types.status import TypeStatus
from dotflow.errors import InvalidArgument

LEVELS: Final = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "OFF": 100}
OUTPUTS: Final = {"both": (True, True), "console": (True, False), "file": (False, True), "none": (False, False)}
FORMATS: Final = ("simple", "json")


class LogDefault(Log):
    """Writes a line for each change of a task's status. Nothing is opened before the first line.

    Args:
        level: The least that is written: "DEBUG", "INFO", "WARNING", "ERROR"; "OFF" for nothing.
        output: "both" for stderr and the file, "console" for stderr, "file", or "none".
        path: The file; its folder is made when the first line is written. One that can't be written to is one
            warning, and the run goes on.
        format: "simple" for lines to read, "json" for one JSON object a line.

    Raises:
        InvalidArgument: One of them is not accepted.
    """

    def __init__(
        self,
        level: str = "INFO",
        output: str = "both",
        path: str | os.PathLike[str] = ".output/flow.log",
        format: str = "simple",
    ) -> None:
        if not isinstance(level, str) or level.upper() not in LEVELS:
            raise InvalidArgument("level", level, f"one of {', '.join(LEVELS)}")
        if not isinstance(output, str) or output not in OUTPUTS:
            raise InvalidArgument("output", output, f"one of {', '.join(OUTPUTS)}")
        if format not in FORMATS:
            raise InvalidArgument("format", format, f"one of {', '.join(FORMATS)}")
        self.path = Path(path)
        self._least = LEVELS[level.upper()]
        self._to_console, self._to_file = OUTPUTS[output]
        self._format = _simple if format == "simple" else _json
        self._lock = threading.Lock()
        self._file: int | None = None

    @property
    def is_silent(self) -> bool:
        """As Log says."""
        return self._least > LEVELS["ERROR"] or not (self._to_console or self._to_file)

    def info(self, task: Task) -> None:
        """As Log says."""
        if self._least <= LEVELS["INFO"]:
            self._write(self._format("INFO", task, ""))

    def error(self, task: Task) -> None:
        """As Log says."""
        level = "ERROR" if task.status is TypeStatus.FAILED else "WARNING"
        if self._least <= LEVELS[level]:
            self._write(self._format(level, task, ""))

    def report(self, message: str) -> None:
        """As Log says."""
        if self._least <= LEVELS["WARNING"]:
            self._write(self._format("WARNING", None, message))

    def _write(self, line: str) -> None:
        if self._to_console and sys.stderr is not None:
            with contextlib.suppress(OSError, ValueError):  # a closed or broken stderr leaves nowhere to say so
                sys.stderr.write(line)
        if self._to_file:
            try:
                self._append(line.encode("utf-8", "backslashreplace"))
            except OSError as error:
                self._to_file = False
                self._say_unwritable(error)

    def _append(self, data: bytes) -> None:
        """One write for one line: with O_APPEND, lines of several processes don't mix."""
        if self._file is None:
            with self._lock:
                if self._file is None:
                    self.path.parent.mkdir(parents=True, exist_ok=True)
                    opened = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
                    weakref.finalize(self, os.close, opened)
                    self._file = opened
        os.write(self._file, data)

    def _say_unwritable(self, error: OSError) -> None:
        if sys.stderr is not None:
            sys.stderr.write(
                f"{_now()} WARNING dotflow: the log file {self.path} can't be written ({error.strerror}); the run "
                f"goes on without it. Another place: Config(log=LogDefault(path=...)).\n"
            )

    def __getstate__(self) -> dict[str, Any]:
        """A file and a lock don't travel; the other process opens its own."""
        return self.__dict__ | {"_file": None, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()


def _now() -> str:
    return f"{clock.now().astimezone():%Y-%m-%d %H:%M:%S}"


_second: tuple[int, str] = (0, "")  # the last second that was put into words


def _stamp() -> str:
    """The local time with milliseconds. Most lines fall into the second of the line before."""
    global _second
    now = clock.now().timestamp()
    second = int(now)
    if _second[0] != second:
        _second = (second, _now())
    return f"{_second[1]}.{int((now - second) * 1000):03d}"


def _simple(level: str, task: Task | None, message: str) -> str:
    if task is None:
        return f"{_stamp()} {level:7} {message.rstrip()}\n"
    head = f"{_stamp()} {level:7} {task.workflow_id[:8]} task {task.task_id} {task.name}: {task.status.value}"
    if task.status is TypeStatus.IN_PROGRESS:
        return f"{head}\n" if task.attempt < 2 else f"{head} (attempt {task.attempt})\n"
    if task.status is TypeStatus.COMPLETED:
        return f"{head} in {task.duration:.3f} s\n" if task.duration is not None else f"{head} (from its checkpoint)\n"
    error = task.error
    if error is None:
        return f"{head}\n"
    told = f"{head} (attempt {error.attempt}): {error.exception}: {error.message}\n"
    return told + "".join(f"    {line}\n" for line in error.traceback.splitlines())


def _json(level: str, task: Task | None, message: str) -> str:
    line: dict[str, Any] = {"time": clock.now().isoformat(), "level": level}
    if task is None:
        line["message"] = message
    else:
        line |= {
            "workflow": task.workflow_id,
            "run": task.run_id,
            "task": task.task_id,
            "step": task.name,
            "status": task.status.value,
            "attempt": task.attempt,
            "duration": task.duration,
            "error": None,
        }
        if task.error is not None and task.status in (TypeStatus.FAILED, TypeStatus.RETRY):
            line["error"] = {
                "exception": task.error.exception,
                "message": task.error.message,
                "traceback": task.error.traceback,
            }
    return json.dumps(line) + "\n"
