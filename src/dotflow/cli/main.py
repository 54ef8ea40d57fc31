"""The command `dotflow`: which commands there are, and what becomes of what they raise."""

import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final

import click

from dotflow import __version__
from dotflow.cli.command import SETTINGS
from dotflow.cli.exits import Exit
from dotflow.cli.mistakes import told

#: Name -> where the command stands, in the order of the help.
COMMANDS: Final[dict[str, str]] = {
    "init": "init:init",
    "start": "start:start",
    "schedule": "schedule:schedule",
    "log": "log:log",
}


class Commands(click.Group):
    """The commands, each imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, if there is one."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(f"dotflow.cli.commands.{module}"), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with a guess at what was meant."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from difflib import get_close_matches

            near = get_close_matches(args[0], COMMANDS, n=1)
            if not near:
                raise
            raise click.UsageError(f"{error.message.rstrip('.')}. Did you mean '{near[0]}'?", ctx) from None


@click.group(cls=Commands, context_settings=SETTINGS)
@click.version_option(__version__, message="dotflow %(version)s")
@click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of a mistake, not just a line.")
def dotflow() -> None:
    """Run pipelines of Python functions: now, on a schedule, and again from where they stopped.

    \b
    dotflow init my_project                  make a project that runs at once
    dotflow start --step my_module.extract   run a step
    dotflow log -f                           follow what is written
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line, and returns its exit code; a mistake is one line on stderr.

    Args:
        arguments: Those of the command line; the process's own unless given.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    code: Any = Exit.COMPLETED
    try:
        code = dotflow.main(given, prog_name="dotflow", standalone_mode=False)
        if sys.stdout is not None:  # it is None where the command was started with it closed
            sys.stdout.flush()
    except BrokenPipeError:  # whoever read our output has gone: nothing is wrong, and nobody is there to be told
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (KeyboardInterrupt, click.Abort):
        return Exit.INTERRUPTED
    except Exception as error:  # a mistake of the user, of their modules or of ours: here each gets its words
        if "--debug" in given:
            traceback.print_exception(error)
        click.echo(told(error), err=True)
        return Exit.WRONG_USAGE
    return code if isinstance(code, int) else Exit.COMPLETED
