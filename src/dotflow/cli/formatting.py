"""Numbers, texts and lines of code as the command line prints them."""

import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from dotflow.core.task import Task

#: The source of a task's value -> its word.
RESTORED: Final = {"checkpoint": "restored", "cache": "cached"}
#: A frame of a traceback: file, line, function, and the code if Python has it.
FRAME: Final = re.compile(r'^  File "(.+)", line (\d+), in (.+)\n(?:    (\S.*)\n)?', re.M)


def raised_at(traceback: str) -> str:
    """Returns the line that raised an error: the last one outside of libraries, "" if the traceback has none."""
    frames = FRAME.findall(traceback)
    own = [frame for frame in frames if not frame[0].startswith((*_library_paths(), "<"))] or frames
    if not own:
        return ""
    file, line, function, code = own[-1]
    return f"{_relative(file)}:{line} in {function}" + (f": {code}" if code else "")


@functools.cache
def _library_paths() -> tuple[str, ...]:
    import sysconfig  # only failures need it

    return tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})


def _relative(file: str) -> str:
    try:
        return str(Path(file).relative_to(Path.cwd()))
    except (OSError, ValueError):  # it is elsewhere, or the current folder was removed
        return file


def max_attempts(task: "Task") -> int:
    """Returns how many attempts the policy of a task's step allows, and that of its fallback."""
    fallback = None if task.links is None else task.links.fallback
    return task.step.policy.attempts + (0 if fallback is None else fallback.policy.attempts)


def pluralize(count: int, noun: str) -> str:
    """Returns a count and its noun: 1 task, 2 tasks."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def one_line(text: str, max_length: int = 300) -> str:
    """Returns text on one line, cut to *max_length* characters, without control characters."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= max_length else f"{line[: max_length - 1]}…"
