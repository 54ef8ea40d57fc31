"""Numbers, texts and errors as the command line prints them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import click

from dotflow.errors import DotflowError, MissingParam

if TYPE_CHECKING:
    from dotflow.core.task import Task


#: State or status -> its style in a terminal.
STYLES: Final[Mapping[str | None, str]] = {
    **dict.fromkeys((None, "Not started", "Queued", "Skipped"), "dim"),
    **dict.fromkeys(("Running", "In progress"), "cyan"),
    **dict.fromkeys(("Completed", "Restored", "Cached"), "green"),
    **dict.fromkeys(("Paused", "Retry", "Cancelled", "Interrupted", "Unknown"), "yellow"),
    **dict.fromkeys(("Failed", "Crashed"), "bold red"),
    "Missing": "bold yellow",
}
#: The source of a task's value -> its word.
RESTORED: Final = {"checkpoint": "restored", "cache": "cached"}


def max_attempts(task: "Task") -> int:
    """Returns how many attempts the policy of a task's step allows, and that of one of its fallbacks."""
    fallbacks = () if task.links is None else task.links.fallbacks
    return task.step.policy.attempts + max((one.step.policy.attempts for one in fallbacks), default=0)


def pluralize(count: int, noun: str) -> str:
    """Returns a count and its noun: 1 task, 2 tasks."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def one_line(text: str, max_length: int = 300) -> str:
    """Returns text on one line, cut to *max_length* characters, without control characters."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= max_length else f"{line[: max_length - 1]}…"


MAX_LENGTH = 2_000  # characters


def error_line(error: Exception) -> str:
    """Returns the line that reports an error on stderr."""
    if isinstance(error, click.UsageError):
        command = error.ctx.command_path if error.ctx is not None else "dotflow"
        return f"{command}: {one_line(error.format_message(), MAX_LENGTH)} See '{command} --help'."
    if isinstance(error, click.ClickException):
        return f"dotflow: {one_line(error.format_message(), MAX_LENGTH)}"
    if isinstance(error, MissingParam) and error.who == "run":
        names = " and ".join(f"'{name}'" for name in error.names)
        return f"dotflow: The run needs {names}. Pass {' '.join(f'--param {name}=VALUE' for name in error.names)}."
    if isinstance(error, DotflowError | ImportError):
        return f"dotflow: {one_line(str(error), MAX_LENGTH)}"
    return f"dotflow: {type(error).__name__}: {one_line(str(error), MAX_LENGTH)} (--debug shows where)"
