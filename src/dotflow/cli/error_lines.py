"""Mistakes in one readable line."""

import click

from dotflow.cli.formatting import one_line
from dotflow.errors import DotflowError

MOST = 2_000  # characters: a mistake is read whole, but a page of text is none


def told(error: Exception) -> str:
    """What to say of an error: what is wrong and what to do, on one line."""
    if isinstance(error, click.UsageError):
        command = error.ctx.command_path if error.ctx is not None else "dotflow"
        return f"{command}: {one_line(error.format_message(), MOST)} See '{command} --help'."
    if isinstance(error, click.ClickException):
        return f"dotflow: {one_line(error.format_message(), MOST)}"
    if isinstance(error, DotflowError | ImportError):
        return f"dotflow: {one_line(str(error), MOST)}"
    return f"dotflow: {type(error).__name__}: {one_line(str(error), MOST)} (--debug shows where)"
