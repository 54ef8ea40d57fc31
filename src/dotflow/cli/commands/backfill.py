"""`dotflow backfill`: a run for each combination of parameters that has not completed."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final, NamedTuple

import click
from rich.text import Text

from dotflow.abc.archive import Archive
from dotflow.abc.operations import Submission
from dotflow.cli.command import Command, Exit, option
from dotflow.cli.commands.orders import pause_line
from dotflow.cli.commands.runs import print_runs
from dotflow.cli.commands.serve import server_arguments
from dotflow.cli.formatting import pluralize
from dotflow.cli.load import convert, load_servable, parse_params
from dotflow.cli.options import HISTORY_OPTION, SERVER_OPTIONS, with_options
from dotflow.cli.running import recording
from dotflow.cli.screen import Column, Screen, local, safe, state_of, styled
from dotflow.codec.json import decode, encode
from dotflow.control import Control, user_of
from dotflow.core.attempt_id import ID_LENGTH
from dotflow.core.ranges import InvalidRange, combinations, expand
from dotflow.core.text import shorten
from dotflow.core.types.run_state import TypeRunState
from dotflow.engine.submission import refuse_secret
from dotflow.errors import NotServable, OrderRefused, UnknownParam
from dotflow.graph.param_types import CONTAINERS, type_of_run_param
from dotflow.graph.params import Params, settings_of, value_text
from dotflow.graph.run_secrets import secret_params
from dotflow.records.record import RunSummary
from dotflow.serving.server import serve_names
from dotflow.workflow import DotFlow


@click.command(cls=Command)
@option(
    "-w", "--workflow", metavar="PATH", required=True, example="-w pipelines:nightly",
    help="The workflow, or a function without required arguments that returns it.",
)  # fmt: skip
@option(
    "--param", multiple=True, metavar="NAME=VALUES", example="--param day=2026-11-01..2026-11-14 --param region=eu,us",
    help="The values of a parameter: days A..B, each seventh day A..B/7d, moments A..B/1h, numbers 1..12, or a,b. Of "
         "several parameters, all combinations.",
)  # fmt: skip
@option(
    "--dry-run", is_flag=True,
    help="Print what it would do with each, and write nothing.",
)  # fmt: skip
@option("--again", is_flag=True, help="Run those that have completed again, from the beginning.")
@option("--once", is_flag=True, help="Run them here, as `dotflow serve --once` with its options.")
@with_options(SERVER_OPTIONS)
@HISTORY_OPTION
def backfill(**options: Any) -> int:
    """Queue a run for each value of a parameter, or combination of values, that has not completed.

    \b
    dotflow backfill -w pipelines:nightly --param day=2026-11-01..2026-11-14 --dry-run
    dotflow backfill -w pipelines:nightly --param day=2026-11-01..2026-11-14
    dotflow backfill -w pipelines:nightly --param day=2026-11-01..2026-11-14 --once

    The last run of each counts, whatever has started it: completed ones are skipped; those that failed, crashed, or
    were paused, cancelled or interrupted go on where they stopped; queued and running ones are left. So the same
    command again goes on. `dotflow serve` runs them, after all that was submitted: their priority is -10.

    Exit code: 0 queued, or nothing to do; 2 refused. With --once: 0 all have completed, 1 one failed or was stopped, 3
    one waits or runs elsewhere.
    """
    if not options["param"]:
        raise click.UsageError("What to backfill? Pass the values of a parameter: --param day=2026-11-01..2026-11-14.")

    with recording(options):
        return run_backfill(options)


PRIORITY: Final = -10  # what people and schedules submit comes first
RECENT: Final = 5  # runs of a name; one that was replaced while it waited may be newer than the one that did it
#: States in which a run waits, or runs elsewhere.
UNFINISHED: Final = (TypeRunState.QUEUED, TypeRunState.RUNNING, TypeRunState.PAUSED)


class Then(StrEnum):
    """What becomes of a name, by its last run."""

    QUEUED = "queued"
    RESUMED = "resumed"
    SKIPPED = "skipped"
    LEFT = "left alone"


class _Name(NamedTuple):
    """A combination of parameters with its last run, what becomes of it, and the run that was queued."""

    params: Params
    wanted: Submission
    last: RunSummary | None
    then: Then
    run_id: str = ""


def run_backfill(options: Mapping[str, Any]) -> Exit:
    """Queues or resumes what has not completed, and prints a table; with --once it runs that here."""
    workflow = load_servable(options["workflow"], {**options, "param": ()}).workflow
    lists = _lists(workflow, parse_params(options["param"]))
    try:
        chosen = combinations(lists)
    except InvalidRange as error:
        raise click.UsageError(f"Can't use these --param together: {error}.") from None
    backfill = _Backfill(workflow, again=options["again"])
    found = backfill.look([(params, workflow.make_submission(params, priority=PRIORITY)) for params in chosen])
    if options["dry_run"]:
        _print(found, is_dry=True)
        click.echo("This was a dry run: nothing was written.", err=True)
        return Exit.COMPLETED
    names: list[_Name] = []
    try:
        names.extend(map(backfill.carry_out, found))
    finally:  # a history that refuses one has the others
        if names:
            _print(names)
    waits = any(name.then is not Then.SKIPPED for name in names)
    control = Control(workflow)
    if waits and (pause := control.pause_of(workflow.workflow_id)) is not None:
        click.echo(pause_line(workflow.workflow_id, pause, options["history"]), err=True)
    elif not options["once"] and any(name.run_id for name in names) and not control.is_served(workflow.workflow_id):
        how = f"Start `dotflow serve {safe(options['workflow'])}`, or run this command again with --once"
        click.echo(f"No process serves '{safe(workflow.workflow_id)}': the runs wait. {how}.", err=True)
    return _work_off(workflow, backfill, found, options) if options["once"] else Exit.COMPLETED


def _lists(workflow: DotFlow, texts: Mapping[str, str]) -> Mapping[str, Sequence[Any]]:
    """Returns the values of parameters that the texts of --param list.

    Raises:
        UsageError: A text lists no values of its parameter's type.
        UnknownParam: The workflow does not declare it.
        InvalidArgument: It is a secret.
    """
    declared, tasks = workflow.params, list(workflow.task)
    lists: dict[str, Sequence[Any]] = {}
    for name, text in texts.items():
        if name not in declared:
            raise UnknownParam(name, tuple(declared))
        if name in secret_params(declared, tasks):
            raise refuse_secret(name)
        kind = type_of_run_param(name, declared[name], tasks)
        if kind is None or kind in CONTAINERS.values() or name in settings_of(declared):  # one value, commas and all
            lists[name] = [convert(name, text, kind)]
            continue
        try:
            lists[name] = expand(text, kind.convert, kind.accepted)
        except InvalidRange as error:
            raise click.UsageError(f"Can't use --param {name}={shorten(text)}: {error}.") from None
    return lists


class _Backfill:
    """Looks at the last runs of names, and queues or resumes what has not completed.

    Raises:
        NotServable: The workflow can't be submitted, or nothing can read its history.
    """

    def __init__(self, workflow: DotFlow, *, again: bool) -> None:
        what = f"The workflow {workflow.workflow_id!r} can't be backfilled"
        self._queue = workflow._queue(what)
        archive: object = workflow.config.history
        if not isinstance(archive, Archive):
            raise NotServable(what, f"{type(archive).__name__} can't be read")
        self._archive = archive
        self._workflow = workflow
        self._again = again

    def last(self, wanted: Iterable[Submission]) -> list[RunSummary | None]:
        """Returns the last run of each name, of those that have its values; None if there is none."""
        names = [str(one.name) for one in wanted]
        recent = self._archive.recent(names, RECENT)
        return [
            next((run for run in recent[name] if run.workflow_id == name and not run.superseded), None)
            for name in names
        ]

    def look(self, chosen: Sequence[tuple[Params, Submission]]) -> list[_Name]:
        """Returns what becomes of each name."""
        last = self.last(wanted for _, wanted in chosen)
        return [self._look(params, wanted, run) for (params, wanted), run in zip(chosen, last, strict=True)]

    def _look(self, params: Params, wanted: Submission, last: RunSummary | None) -> _Name:
        if last is None or last.params_text is None or last.state is TypeRunState.UNKNOWN:
            then = Then.QUEUED  # an earlier dotflow has kept no parameters with which it could go on
        elif last.state is TypeRunState.COMPLETED:
            then = Then.QUEUED if self._again else Then.SKIPPED
        else:
            then = Then.LEFT if last.is_open else Then.RESUMED
        return _Name(params, wanted, last, then)

    def carry_out(self, name: _Name) -> _Name:
        """Queues or resumes a run, and returns the name with its id."""
        if name.then is Then.QUEUED:
            return name._replace(run_id=self._workflow.enqueue(self._queue, name.wanted))
        if name.then is Then.RESUMED and name.last is not None:
            try:
                run, settings = name.last.run_id, self._settings(name)
                resumed = self._queue.resume(run, (), user_of(), "backfill", PRIORITY, settings=settings)
                return name._replace(run_id=resumed.run_id)
            except OrderRefused:
                newest = self._queue.newest(name.last.run_id)
                if not newest.is_open and newest.state is not TypeRunState.COMPLETED:
                    raise
                return name._replace(then=Then.LEFT)  # another process has continued it since
        return name

    def _settings(self, name: _Name) -> str | None:
        """Returns the given values of Settings, for a run that goes on; None if there are none."""
        given = settings_of(self._workflow.params) & name.params.keys()
        values = decode(name.wanted.params) if given else {}
        return encode({param: values[param] for param in sorted(given)}) if given else None


def _work_off(workflow: DotFlow, backfill: _Backfill, names: Sequence[_Name], options: Mapping[str, Any]) -> Exit:
    """Runs what is queued here, and returns the exit code by the last run of each name."""
    ended = serve_names(workflow, {str(name.wanted.name) for name in names}, **server_arguments(options))
    if ended:
        click.echo()
        print_runs(ended, Control(workflow).questions())
    runs = backfill.last(name.wanted for name in names)
    states = Counter(TypeRunState.UNKNOWN if run is None else run.state for run in runs)
    _print_counts(states)
    if states.keys() <= {TypeRunState.COMPLETED}:
        return Exit.COMPLETED
    return Exit.PAUSED if states.keys() <= {TypeRunState.COMPLETED, *UNFINISHED} else Exit.FAILED


def _print(names: Sequence[_Name], *, is_dry: bool = False) -> None:
    columns = [*(Column(safe(param), fits=1) for param in names[0].params), Column("Last run"), Column("Began")]
    rows = [_row(name) for name in names]
    Screen().print_table([*columns, Column("Would be" if is_dry else "Now")], rows)
    _print_counts(Counter(name.then for name in names))


def _row(name: _Name) -> list[Text | str]:
    last = styled(None, "none") if name.last is None else state_of(name.last)
    began = "" if name.last is None else local(name.last.began)
    then = f"{name.then}{name.run_id and f' as {name.run_id[:ID_LENGTH]}'}"
    return [*(safe(value_text(value)) for value in name.params.values()), last, began, then]


def _print_counts(counts: Mapping[Any, int]) -> None:
    total = sum(counts.values())
    parts = ", ".join(f"{count} {str(what).lower()}" for what, count in counts.items())
    click.echo(f"{pluralize(total, 'run')}: {parts}.")
