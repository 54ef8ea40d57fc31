"""Errors as one readable line."""

import click

from dotflow.cli.formatting import one_line
from dotflow.errors import DotflowError, MissingParam

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
