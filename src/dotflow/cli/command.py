"""What every command of ours shares."""

import shutil
import textwrap
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

MAX_WIDTH: Final = 100  # columns of help: beyond that the eye loses the line
HELP_INDENT: Final = 34  # columns that click leaves for an option's names, and the gaps around them

#: For every command: -h as well as --help.
CONTEXT_SETTINGS: Final = {"help_option_names": ["-h", "--help"], "max_content_width": MAX_WIDTH}

#: What has to be said to commands that run something.
RUN_HINT: Final = "say what to run: --step my_module.my_step, or --workflow my_module:my_factory"

#: A shell takes an expression apart, and puts the names of files in place of its stars.
CRON_HINT: Final = "a cron expression stands in quotes: --cron '30 2 * * *'"


class Command(click.Command):
    """A click command with -h and --debug."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["context_settings"] = CONTEXT_SETTINGS | (kwargs.get("context_settings") or {})
        super().__init__(*args, **kwargs)
        self.params.append(
            click.Option(
                ["--debug"], is_flag=True, expose_value=False, help="Show the traceback of a mistake, not just a line."
            )
        )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does, but that each mistake knows its command: click forgets it where an option lacks its value.

        Commands that run something let other arguments in (allow_extra_args), to say here what was meant.
        """
        try:
            rest = super().parse_args(ctx, args)
            if ctx.args:
                hint = CRON_HINT if ctx.params.get("cron") else RUN_HINT
                raise click.UsageError(f"{ctx.args[0]!r} belongs to no option; {hint}.")
            return rest
        except click.UsageError as error:
            error.ctx = error.ctx or ctx
            raise

    def invoke(self, ctx: click.Context) -> Any:
        """As click does, but that a reader of ours who has gone is no failure: main() says what it is."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise BrokenPipeError from None  # without its number, by which click knows it and would exit with 1


class Option(click.Option):
    """An option with an example, which stands on a line of its own in the help.

    Args:
        example: What one would type.
    """

    def __init__(self, *args: Any, example: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.example = example

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """As click does, and the example."""
        record = super().get_help_record(ctx)
        if record is None:
            return None
        width = max(50, min(shutil.get_terminal_size().columns, MAX_WIDTH) - 2) - HELP_INDENT
        lines = [*textwrap.wrap(record[1], width), f"E.g. {self.example}"]
        return record[0], "\b\n" + "\n".join(lines)  # \b: click leaves the lines as they are


def option(*names: str, example: str, **settings: Any) -> Callable[[F], F]:
    """An option whose help ends with an example."""
    return click.option(*names, cls=Option, example=example, **settings)
