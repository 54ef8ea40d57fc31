"""The base of all commands and of their options, and the exit codes."""

from collections import Counter
from collections.abc import Callable
from enum import IntEnum
from typing import Any, Final, TypeVar

import click


class Exit(IntEnum):
    """The exit codes."""

    COMPLETED = 0
    FAILED = 1  #: a task failed
    WRONG_USAGE = 2  #: wrong usage, or a refused run: nothing was run
    PAUSED = 3  #: the run waits: it is paused, and no task failed
    NOT_REPLAYED = 3  #: `dotflow replay` has imported or run code, but not the step
    INTERRUPTED = 130  #: Ctrl-C: 128 + SIGINT, as in shells
    TERMINATED = 143  #: 128 + SIGTERM


F = TypeVar("F", bound=Callable[..., Any])

MAX_WIDTH: Final = 100  # columns of help; longer lines are hard to read
HELP_INDENT: Final = 34  # columns before the help of an option, set by click

#: The option that limits the JSON of a command.
MAX_CHARS: Final = "--max-chars"

#: -h as well as --help.
CONTEXT_SETTINGS: Final = {"help_option_names": ["-h", "--help"], "max_content_width": MAX_WIDTH}

DEBUG_OPTION: Final[dict[str, Any]] = {
    "is_flag": True,
    "expose_value": False,
    "help": "Show the traceback of an error, not only a line.",
}

RUN_HINT: Final = "Use --step my_module.my_step, or --workflow my_module:my_factory."
CRON_HINT: Final = "Quote the cron expression: --cron '30 2 * * *'."  # a shell splits it and expands its stars


class Command(click.Command):
    """A click command with -h and --debug, which refuses an option that is there twice."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["context_settings"] = CONTEXT_SETTINGS | (kwargs.get("context_settings") or {})
        super().__init__(*args, **kwargs)
        self.params.append(click.Option(["--debug"], **DEBUG_OPTION))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Adds the command to each usage error, since click omits it if an option lacks its value.

        Commands that run a workflow accept extra arguments (allow_extra_args), so that this error has a hint.
        """
        try:
            self._refuse_repeated(ctx, args)
            rest = super().parse_args(ctx, args)
            if ctx.args and not ctx.resilient_parsing:  # a shell completes an option that lacks its value
                hint = CRON_HINT if ctx.params.get("cron") else RUN_HINT
                raise click.UsageError(f"Unexpected argument {ctx.args[0]!r}. {hint}")
            self._keep_max_chars(ctx)
            return rest
        except click.NoSuchOption as error:
            hint = self._hint(ctx, error.option_name)
            raise click.UsageError(f"No such option '{error.option_name}'. {hint}".strip(), ctx) from None
        except click.UsageError as error:
            error.ctx = error.ctx or ctx
            raise

    def _keep_max_chars(self, ctx: click.Context) -> None:
        """Keeps --max-chars where print_json finds it, so that no command passes it on."""
        ctx.meta[MAX_CHARS] = limit = ctx.params.pop("max_chars", None)
        if limit is not None and not ctx.params["as_json"]:
            raise click.UsageError(f"{MAX_CHARS} needs --json. Add it.")
        if limit is not None and ctx.params.get("follow"):
            raise click.UsageError(f"Can't use {MAX_CHARS} with --follow. Remove one of them.")

    def _hint(self, ctx: click.Context, option: str) -> str:
        """Returns what to use in place of an unknown option."""
        from dotflow.core.hints import OPTIONS, RUN_OPTIONS, instead_of  # here: only errors need it

        known = [name for param in self.get_params(ctx) for name in param.opts if name.startswith("-")]
        return instead_of(option, OPTIONS, known, RUN_OPTIONS.get(option, "") if "--only" in known else "")

    def _refuse_repeated(self, ctx: click.Context, args: list[str]) -> None:
        """Raises UsageError for an option that is there twice, and may not be: click would use the last one alone."""
        given = self.make_parser(ctx).parse_args(list(args))[2]
        for param, count in Counter(given).items():
            if count == 1 or not isinstance(param, click.Option) or param.multiple or param.count or param.is_eager:
                continue
            instead = "Remove one." if param.is_flag else "It takes one value: remove one, or run a command for each."
            raise click.UsageError(f"{max(param.opts, key=len)} is there {count} times. {instead}")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes what a RUN may be, if the command takes one, before the options."""
        forms = next((forms for param in self.get_params(ctx) if (forms := getattr(param.type, "forms", ()))), ())
        if forms:
            with formatter.section("RUN"):
                formatter.write_dl(forms)
        super().format_options(ctx, formatter)

    def invoke(self, ctx: click.Context) -> Any:
        """Passes a closed pipe on to main(): it is no failure, but click would exit with 1."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise BrokenPipeError from None  # without the errno that click looks for


class Group(click.Group):
    """A click group that suggests another command for an unknown one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Suggests what to use in place of an unknown command."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            from dotflow.core.hints import COMMANDS, instead_of  # here: only errors need it

            known = [*self.list_commands(ctx), *(name for param in self.get_params(ctx) for name in param.opts)]
            hint = instead_of(args[0], COMMANDS, known)
            raise click.UsageError(f"No such command '{args[0]}'. {hint}".strip(), ctx) from None


class Option(click.Option):
    """An option whose help ends with an example, on a line of its own: broken, it could not be copied."""

    def __init__(self, *args: Any, example: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.example = example

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        import shutil  # only the help needs them
        import textwrap

        record = super().get_help_record(ctx)
        if record is None:
            return None
        width = max(50, min(shutil.get_terminal_size().columns, MAX_WIDTH) - 2) - HELP_INDENT
        lines = [*textwrap.wrap(record[1], width), f"E.g. {self.example}"]
        return record[0], "\b\n" + "\n".join(lines)  # \b: keeps the lines


def option(*names: str, example: str = "", **settings: Any) -> Callable[[F], F]:
    """Returns a decorator that adds an option to a command. Its help ends with the example, if it has one."""
    if not example:
        return click.option(*names, **settings)
    return click.option(*names, cls=Option, example=example, **settings)
