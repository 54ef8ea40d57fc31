"""The options of the commands, and what they stand for."""

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import click

from dotflow.abc.history import HISTORY_VARIABLE, NO_HISTORY, POSTGRES_VARIABLE
from dotflow.cli.command import MAX_CHARS, F, option
from dotflow.cli.fitting import fit_lines
from dotflow.cli.storages import STORAGES
from dotflow.core.durations import TEXTS, to_seconds
from dotflow.core.links import is_tolerance
from dotflow.core.types.execution import TypeExecution, hint_for_mode

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from dotflow.providers.histories.sql.history import SQLHistory


class RunArgument(click.types.StringParamType):
    """A run, as `Archive` finds it. The help of its command has the forms."""

    name = "run"
    forms: Final = (
        ("4f0c9a21", "An id, or the beginning of one, of 4 characters or more."),
        ("last, previous", "The last run that began, and the one before it."),
        ("failed", "The last run that failed or crashed."),
        ("etl", "The last run of the workflow etl."),
        ("etl@day=2026-12-02", "The last one of it with this parameter."),
        ("failed:etl", "The last one of it that failed; previous:etl, last:etl likewise."),
    )

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
        from dotflow.cli.completion import complete_run  # here and below: only shells need it

        return complete_run(open_history(ctx.params.get("history")), incomplete)


class StepArgument(click.types.StringParamType):
    """A task of a run."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
        from dotflow.cli.completion import complete_step

        return complete_step(open_history(ctx.params.get("history")), ctx, incomplete)


class WorkflowArgument(click.types.StringParamType):
    """The id or the name of a workflow that has runs."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
        from dotflow.cli.completion import complete_workflow

        return complete_workflow(open_history(ctx.params.get("history")), incomplete)


class HistoryName(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.2
    """The name of a history. A password in it is refused, since other users can see the command line."""

    name = "history"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from dotflow.providers.histories.default import has_password

        if value == "":
            raise click.UsageError("--history needs the path of a file, 'postgres' or a DSN.")
        if has_password(value):
            raise click.UsageError(
                "--history has a password, which every user of this machine can see. "
                f"Put it into {POSTGRES_VARIABLE}, PGPASSWORD or ~/.pgpass."
            )
        return value


class Mode(click.Choice):  # type: ignore[type-arg]  # generic since click 8.2
    """The modes; an unknown one gets a hint."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            self.fail(f"{error.message} {hint_for_mode(value)}".rstrip(), param, ctx)


def duration(text: str) -> float:
    """Returns the seconds of a duration such as 4h. A plain number is one of seconds."""
    seconds = to_seconds(text)
    if seconds is None:
        with contextlib.suppress(ValueError):
            seconds = to_seconds(float(text))
    if not seconds:
        raise click.BadParameter(f"{text!r} is no time. Use a number of seconds, or {TEXTS}.")
    return seconds


class KeepGoing(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.2
    """What `keep_going` takes: a share, a number of items, or nothing more."""

    name = "keep going"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bool | float:
        if isinstance(value, bool):
            return value
        with contextlib.suppress(ValueError):
            number = int(value) if value.isdecimal() else float(value)
            if is_tolerance(number):
                return number
        what = "no share of items that must complete, such as 0.95, and no number that may fail, such as 3"
        return self.fail(f"{value!r} is {what}.", param, ctx)


DEFAULT_HISTORY: Final = ".output/history.db"
MIN_CHARS: Final = 1000  # less has no room for the marks of what is left out

# fmt: off
#: Which workflow it is.
DEFINITION_OPTIONS: Final = (
    option("-s", "--step", multiple=True, metavar="PATH", example="--step jobs.extract",
           help="An action, by its dotted path; given again, the steps run in this order."),
    option("-w", "--workflow", metavar="PATH", example="--workflow jobs.nightly:build",
           help="A function that returns a DotFlow, or a DotFlow."),
    option("--param", multiple=True, metavar="NAME=VALUE", example="--param day=2026-11-25 --param limit=100",
           help="A parameter of the workflow, its function or the steps; one option for each. It has the type of its "
                "default or annotation, and names the run: nightly@day=2026-11-25."),
)
#: Where values are stored.
STORAGE_OPTIONS: Final = (
    option("-o", "--storage", type=click.Choice(list(map(str, STORAGES))), example="--storage file",
           help="Where the values of finished steps are stored; default is memory. postgres takes its database from "
                "$DOTFLOW_POSTGRES_DSN, or from $PGHOST and the other variables of libpq."),
    option("-p", "--path", metavar="PATH", example="--path .storage",
           help="The folder, or database, of --storage file or sqlite."),
    option("--pickle", is_flag=True, example="--storage file --pickle",
           help="Pickle what the storage would refuse, with file, sqlite or postgres. Reading a pickle can run any "
                "program, so use it only for a storage that only you can write to."),
    option("--bucket", metavar="NAME", example="--bucket my-bucket",
           help="The bucket of --storage s3 or gcs; $DOTFLOW_BUCKET by default. Credentials come from the "
                "environment."),
    option("--prefix", metavar="PREFIX", example="--prefix jobs/", help="The prefix of its keys; dotflow/ by default."),
    option("--region", metavar="REGION", example="--region eu-central-1", help="The bucket's region, with s3."),
    option("--project", metavar="PROJECT", example="--project my-project", help="The bucket's project, with gcs."),
)
MODE_OPTION: Final = option(
    "-m", "--mode", type=Mode(list(map(str, TypeExecution))), default=str(TypeExecution.SEQUENTIAL),
    example="--mode parallel", help="How the steps run: in order, in order in a thread, or all at once.",
)
#: Which steps run.
NO_CACHE_OPTION: Final = option(
    "--no-cache", is_flag=True,
    help="Run steps with @action(cache=...) though their value is in the cache, and replace it.",
)
KEEP_GOING_OPTION: Final = option(
    "--keep-going", is_flag=False, flag_value=True, default=False, type=KeepGoing(), metavar="[NUMBER]",
    example="--keep-going 0.95",
    help="Go on with the others after a failure. With a number, only with the other items of a map: the share that "
         "must complete, or how many may fail.",
)
WORKFLOW_OPTIONS: Final = (
    *DEFINITION_OPTIONS,
    option("-i", "--initial-context", metavar="VALUE", example="--initial-context '{\"day\": 3}'",
           help="The initial_context of the steps: JSON, or any other text."),
    option("-c", "--callback", metavar="PATH", example="--callback jobs.notify",
           help="Called as callback(task=task) when a step has ended."),
    MODE_OPTION,
    *STORAGE_OPTIONS,
    option("--workflow-id", metavar="ID", example="--workflow-id nightly",
           help="The id of the workflow, by which --resume finds it; derived from --step or --workflow by default."),
    option("--resume", is_flag=True, help="Skip the steps that an earlier run has finished."),
    option("--resume-changed", is_flag=True,
           help="As --resume, but steps whose code has changed run again, and what needs them."),
    option("--resume-unfinished", is_flag=True,
           help="As --resume if the last run left a step unfinished; after a completed run, everything runs anew."),
    option("--rerun", multiple=True, metavar="NAME", example="--rerun table",
           help="As --resume, but this task runs again, and what needs it; agent@12 is a durable step from its twelfth "
                "call on. One option for each."),
    option("--only", multiple=True, metavar="NAME", example="--only summary",
           help="This task, what it needs and what cleans up after it; the others are skipped and keep their values. "
                "With --resume, only what is not up to date. One option for each."),
    NO_CACHE_OPTION,
    KEEP_GOING_OPTION,
)
#: How long a run may take.
TIMEOUT_OPTION: Final = option(
    "--timeout", metavar="TIME", type=duration, example="--timeout 4h",
    help="The maximum time of a run, such as 90s, 15m or 1h30m. Then it is cancelled, and Failed.",
)
#: How a server runs what it takes.
SERVER_OPTIONS: Final = (
    option("--max-runs", type=click.IntRange(1), metavar="N", default=4, show_default=True, example="--max-runs 2",
           help="How many runs at once in this process."),
    MODE_OPTION,
    NO_CACHE_OPTION,
    option("--keep-going", is_flag=True, help="Go on with the others after a failure."),  # paths may follow it
    TIMEOUT_OPTION,
    *STORAGE_OPTIONS,
)
#: Where runs are recorded.
RECORDING_OPTIONS: Final = (
    option("--history", metavar="PATH", type=HistoryName(), example="--history logs/history.db",
           help=f"The file or Postgres database that keeps the run, for dotflow runs and show; {DEFAULT_HISTORY} by "
                "default, unless the workflow has its own."),
    option("--no-history", is_flag=True, help="Keep nothing of the run."),
)
# fmt: on


def with_options(options: Sequence[Callable[[F], F]]) -> Callable[[F], F]:
    """Returns a decorator that adds options to a command, in their order."""

    def add_all(function: F) -> F:
        for add in reversed(options):
            function = add(function)
        return function

    return add_all


# fmt: off
HISTORY_OPTION: Final = option(
    "--history", metavar="PATH", type=HistoryName(), example="--history logs/history.db",
    help=f"The file of the runs, 'postgres' for the database of ${POSTGRES_VARIABLE}, or a DSN without a password; "
         f"${HISTORY_VARIABLE} or {DEFAULT_HISTORY} by default.",
)
JSON_OPTIONS: Final = with_options((
    option("--json", "as_json", is_flag=True, example="--json | jq .state", help="Print JSON, one object a line."),
    option(MAX_CHARS, metavar="N", type=click.IntRange(MIN_CHARS), example="--json --max-chars 8000",
           help="Print at most so many characters of JSON: what is too long lacks its middle, and says so."),
))
# fmt: on


def parse_time(option: str, text: str | None, accepted: str) -> datetime | str | None:
    """Returns a span such as "2d" as it is, and a time as a moment, in the local zone if it has none.

    Raises UsageError with what is *accepted*.
    """
    if text is None or to_seconds(text) is not None:
        return text
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError, OSError):
        raise click.UsageError(f"{option} {text} is no time. Use {accepted}.") from None


def open_history(name: str | None) -> "SQLHistory":
    """Returns the history of --history, or the default one."""
    from dotflow.providers.histories.default import history_at

    variable = os.environ.get(HISTORY_VARIABLE, NO_HISTORY)
    return history_at(name or (variable if variable not in ("", NO_HISTORY) else DEFAULT_HISTORY))


def print_json(records: Iterable[Mapping[str, Any]]) -> None:
    """Prints objects, each on one line without the characters that a terminal would act on, within --max-chars."""
    room = click.get_current_context().meta.get(MAX_CHARS)
    for record in records if room is None else fit_lines(list(records), room):
        click.echo(json.dumps(record))


def seconds_of(text: str | None) -> float | None:
    """Returns the seconds of --older-than. Raises UsageError if it is no duration."""
    seconds = None if text is None else to_seconds(text)
    if text is not None and seconds is None:
        raise click.UsageError(f"--older-than {text} is no duration. Use a number with a unit: 90s, 12h or 7d.")
    return seconds
