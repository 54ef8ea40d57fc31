"""Mistakes in one readable line."""

import click

from dotflow.errors import DotflowError


def told(error: Exception) -> str:
    """What to say of an error: what is wrong and what to do, on one line."""
    if isinstance(error, click.UsageError):
        command = error.ctx.command_path if error.ctx is not None else "dotflow"
        return f"{command}: {_on_one_line(error.format_message())} See '{command} --help'."
    if isinstance(error, click.ClickException):
        return f"dotflow: {_on_one_line(error.format_message())}"
    if isinstance(error, DotflowError | ImportError):
        return f"dotflow: {_on_one_line(str(error))}"
    return f"dotflow: {type(error).__name__}: {_on_one_line(str(error))} (--debug shows where)"


def _on_one_line(text: str) -> str:
    return " ".join(text.split())
