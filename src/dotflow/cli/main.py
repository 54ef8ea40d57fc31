"""The command `dotflow`: which commands there are, and what becomes of what they raise."""

import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final

import click

from dotflow import __version__
from dotflow.cli.command import CONTEXT_SETTINGS
from dotflow.cli.error_lines import error_line
from dotflow.cli.exit_codes import Exit

#: Name -> where the command stands, in the order of the help.
COMMANDS: Final[dict[str, str]] = {
    "init": "init:init",
    "start": "start:start",
    "schedule": "schedule:schedule",
    "log": "log:log",
}

#: Another name of a command -> its name.
ALIASES: Final = {"logs": "log"}


class Commands(click.Group):
    """The commands, each imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, if there is one."""
        target = COMMANDS.get(ALIASES.get(cmd_name, cmd_name))
        if target is None:
            return None
        module, _, name = target.partition(":")
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

            matches = get_close_matches(args[0], COMMANDS, n=1)
            if not matches:
                raise
            raise click.UsageError(f"{error.message.rstrip('.')}. Did you mean '{matches[0]}'?", ctx) from None


@click.group(cls=Commands, context_settings=CONTEXT_SETTINGS, invoke_without_command=True)
@click.version_option(__version__, message="dotflow %(version)s")
@click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of a mistake, not just a line.")
@click.pass_context
def dotflow(context: click.Context) -> None:
    """Run pipelines of Python functions: now, on a schedule, and again from where they stopped.

    \b
    dotflow init my_project                  make a project that runs at once
    dotflow start --step my_module.extract   run a step
    dotflow log -f                           follow what is written
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line, and returns its exit code; a mistake is one line on stderr.

    Args:
        arguments: Those of the command line; the process's own unless given.
    """
    args = list(sys.argv[1:] if arguments is None else arguments)
    code: Any = Exit.COMPLETED
    try:
        code = dotflow.main(args, prog_name="dotflow", standalone_mode=False)
        _flush()
    except BrokenPipeError:  # whoever read our output has gone: nothing is wrong, and nobody is there to be told
        _discard_stdout()
    except (KeyboardInterrupt, click.Abort):
        return Exit.INTERRUPTED
    except Exception as error:  # a mistake of the user, of their modules or of ours: here each gets its words
        if "--debug" in args:
            traceback.print_exception(error)
        click.echo(error_line(error), err=True)
        return Exit.WRONG_USAGE
    return code if isinstance(code, int) else Exit.COMPLETED


def _flush() -> None:
    if sys.stdout is None:  # the command was started with it closed
        return
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:  # a full disk: it is said, but what was done is done, and the exit code tells of that
        _discard_stdout()
        click.echo(f"dotflow: what was printed could not be written: {error.strerror}.", err=True)


def _discard_stdout() -> None:
    """Python flushes it once more at its end, and would complain there."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
