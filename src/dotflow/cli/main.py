"""The command `dotflow`: its commands, and the one place that turns their errors into a line and an exit code."""

import gc
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import click

from dotflow import __version__
from dotflow.cli.command import CONTEXT_SETTINGS, DEBUG_OPTION, Exit, Group
from dotflow.cli.formatting import error_line

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

#: Name of a command, and of its function -> its module, and its line in the help, in order.
COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "init": ("init", "Make a project: a pipeline with its tests, ready to run."),
    "start": ("start", "Run steps or a workflow, and wait for the end."),
    "schedule": ("schedule", "Run steps or a workflow whenever they are due, until Ctrl-C or SIGTERM."),
    "serve": ("serve", "Run what is queued, in any number of processes."),
    "schedules": ("schedules", "List the schedules, and check that their runs are on time."),
    "submit": ("submit", "Queue a run for a process that serves its workflow."),
    "backfill": ("backfill", "Queue a run for each day of a range that has not completed."),
    "approve": ("orders", "Answer yes to a task that waits for an approval."),
    "reject": ("orders", "Answer no to a task that waits for an approval."),
    "cancel": ("orders", "Cancel a run that is queued, running or paused."),
    "pause": ("orders", "Pause a run that is queued or running, or a workflow."),
    "resume": ("orders", "Queue a run that continues another one, or resume a workflow."),
    "plan": ("plan", "Print what `start` with the same options would do, and why."),
    "graph": ("plan", "Print the diagram of a workflow, and run nothing."),
    "runs": ("runs", "List the runs of the past."),
    "show": ("show", "Show a run: its tasks, what went wrong, what it printed."),
    "diff": ("diff", "Compare two runs."),
    "replay": (
        "replay",
        "Run a step of a past run again: one attempt, here, with the inputs that it had and today's code.",
    ),
    "skill": ("skill", "Print what a coding agent should know to find out why a run failed."),
    "report": ("report", "Write a run as one HTML file, to look at or to mail."),
    "ui": ("ui", "Show the runs in a browser, also while they go on."),
    "forget": ("forget", "Delete runs of the past."),
    "history": ("history", "Make or upgrade the tables of a history."),
    "limits": ("limits", "List the limits of steps, and what is used of them."),
    "cache": ("cache", "List or delete the values of steps with @action(cache=...)."),
    "log": ("log", "Show what runs have written, and follow it."),
    "completion": ("completion", "Print the tab completion for bash, zsh or fish, or install it."),
}

#: Another name of a command -> its name.
ALIASES: Final = {"logs": "log"}


class Commands(Group):
    """The commands, each imported on first use: `dotflow --help` imports none."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> "list[CompletionItem]":
        """Completes commands without importing them."""
        from click.shell_completion import CompletionItem

        if not incomplete.isalpha() and incomplete:
            return click.Command.shell_complete(self, ctx, incomplete)
        found = {name: line for name, (_, line) in COMMANDS.items() if name.startswith(incomplete)}
        return [CompletionItem(name, help=line) for name, line in found.items()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = ALIASES.get(cmd_name, cmd_name)
        if name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"dotflow.cli.commands.{COMMANDS[name][0]}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        room = (
            max(formatter.width, 78) - 6 - max(map(len, COMMANDS))
        )  # in a narrow terminal, lines are wrapped, not cut
        with formatter.section("Commands"):
            formatter.write_dl(
                [
                    (name, click.Command(name, help=line).get_short_help_str(room))
                    for name, (_, line) in COMMANDS.items()
                ]
            )


@click.group(cls=Commands, context_settings=CONTEXT_SETTINGS, invoke_without_command=True)
@click.version_option(__version__, message="dotflow %(version)s")
@click.option("--debug", **DEBUG_OPTION)
@click.pass_context
def dotflow(context: click.Context) -> None:
    """Run pipelines of Python functions: now, on a schedule, and again from where they stopped.

    \b
    dotflow init my_project                  make a project that runs at once
    dotflow start --step my_module.extract   run a step
    dotflow plan --step my_module.extract    list what that would do, and why
    dotflow show failed                      show what went wrong
    dotflow log -f                           follow the log
    dotflow serve my_module:workflow         run what is queued
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code. An error becomes one line on stderr.

    Args:
        arguments: The arguments of the command line; by default those of the process.
    """
    if arguments is None:  # the process is the command's own
        gc.freeze()  # what is loaded by now lives until its end, which would otherwise look at all of it
    if arguments is None and "_DOTFLOW_COMPLETE" in os.environ:
        from dotflow.cli.completion import complete

        return complete(dotflow)
    args = list(sys.argv[1:] if arguments is None else arguments)
    code: Any = Exit.COMPLETED
    try:
        code = dotflow.main(args, prog_name="dotflow", standalone_mode=False)
        _flush()
    except BrokenPipeError:  # the reader of our output has ended, which is no error
        _discard_stdout()
    except (KeyboardInterrupt, click.Abort):
        return Exit.INTERRUPTED
    except Exception as error:  # of the user, of their modules or of ours
        from dotflow.core.masks import environment_masks  # here, since most commands end without an error

        masks = environment_masks()
        if "--debug" in args:
            click.echo(masks.mask("".join(traceback.format_exception(error))), err=True, nl=False)
        click.echo(masks.mask(error_line(error)), err=True)
        return Exit.NOT_REPLAYED if getattr(error, "exit_code", None) == Exit.NOT_REPLAYED else Exit.WRONG_USAGE
    return code if isinstance(code, int) else Exit.COMPLETED


def _flush() -> None:
    if sys.stdout is None:  # closed before the start
        return
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:  # a full disk, say: the exit code still reports the run
        _discard_stdout()
        click.echo(f"dotflow: Can't write the output: {error.strerror}.", err=True)


def _discard_stdout() -> None:
    """Redirects stdout to /dev/null, since Python flushes it once more at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
