"""Consent: what is run of what a history says."""

import os
import sys
from pathlib import Path
from typing import Any, Final

import click

from dotflow.cli.screen import safe
from dotflow.code.own_code import INSTALLED, file_of, is_own_file, module_of
from dotflow.core.action import action_of
from dotflow.core.callables import unwrapped
from dotflow.workflow import DotFlow

OUTPUT: Final = ".output"  # the folder that runs write to
HOW: Final = "Pass --step MODULE:NAME, or --workflow MODULE:NAME"


class Consent:
    """Asks the user before something runs that only the history names.

    It asks nothing where both the history and the code are the user's own.

    Attributes:
        foreign: Why the history is not the user's own; "" if it is.
    """

    def __init__(self, foreign: str) -> None:
        self.foreign = foreign
        self._answers: dict[str, bool] = {}

    def require(self, what: str, *, is_own: bool, how: str = HOW) -> None:
        """Raises ClickException where the user does not consent, or can't be asked.

        Args:
            what: What would be run.
            is_own: Whether it is the user's own code.
            how: What to pass in place of an answer.
        """
        if is_own and not self.foreign:
            return
        why = f"the history is not your own: {self.foreign}" if self.foreign else "it is not your own code"
        if sys.stdin is None or not sys.stdin.isatty():
            raise click.ClickException(f"Can't run {what}: only the history names it, and {why}. {how}.")
        if what not in self._answers:
            click.echo(f"Only the history names {safe(what)}, and {safe(why)}.")
            self._answers[what] = click.confirm("Run it?", default=False)
        if not self._answers[what]:
            raise click.ClickException(f"Can't run {what}: you did not confirm it. {how}.")


def module_in(path: str) -> str:
    """Returns the module in a dotted path, pkg.mod:name or pkg.mod.name. Imports nothing."""
    module, colon, _ = path.partition(":")
    while not colon and "." in module:
        module = module.rpartition(".")[0]
        if file_of(module) is not None:
            break
    return module


def is_own_module(module: str) -> bool:
    """Returns whether a module is the user's own code. Imports nothing."""
    return is_own_file(file_of(module), module)


def is_own_object(target: Any) -> bool:
    """Returns whether a step, a factory or a workflow is the user's own code, and not imported from elsewhere."""
    if isinstance(target, DotFlow):
        return True
    action = action_of(target)
    value = unwrapped(target if action is None else action.function)
    return hasattr(value, "__module__") and is_own_module(module_of(value))


def is_own_place(path: str | Path) -> bool:
    """Returns whether a program or a folder is in the current folder, neither installed there nor an output of runs."""
    real, here = Path(os.path.realpath(path)), Path(os.path.realpath(os.curdir))
    return real.is_relative_to(here) and (INSTALLED | {OUTPUT}).isdisjoint(real.relative_to(here).parts)
