"""`dotflow backfill`: what becomes of each combination of parameters, and the table of it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Final, NamedTuple

import click
from rich.text import Text

from dotflow.abc.archive import Archive
from dotflow.abc.operations import Submission
from dotflow.cli.control.serve import serve_arguments
from dotflow.cli.control.workflows import load_workflow
from dotflow.cli.exit_codes import Exit
from dotflow.cli.history.run_list import print_runs
from dotflow.cli.history.text import Column, Screen, local, safe, state_of
from dotflow.cli.run.params import convert, parse_params
from dotflow.cli.storages import STORAGE_OPTIONS
from dotflow.control import Control
from dotflow.core.attempt_id import ID_LENGTH
from dotflow.core.ranges import InvalidRange, combinations, expand
from dotflow.core.text import shorten
from dotflow.core.types.run_state import TypeRunState
from dotflow.engine.submission import queue_of, refuse_secret
from dotflow.errors import NotServable, OrderRefused, UnknownParam
from dotflow.graph.param_types import CONTAINERS, type_of_run_param
from dotflow.graph.params import Params
from dotflow.graph.run_secrets import secret_params
from dotflow.records.record import RunSummary
from dotflow.serving import serve
from dotflow.workflow import DotFlow

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
    storage = {name: options[name] for name in ("storage", *STORAGE_OPTIONS)}
    workflow = load_workflow(options["workflow"], storage).workflow
    lists = _lists(workflow, parse_params(options["param"]))
    try:
        chosen = combinations(lists)
    except InvalidRange as error:
        raise click.UsageError(f"Can't use these --param together: {error}.") from None
    backfill = _Backfill(workflow, again=options["again"])
    wanted = [(params, workflow._submission(params, priority=PRIORITY)) for params in chosen]
    names: list[_Name] = []
    try:
        for params, submission in wanted:
            name = backfill.look(params, submission)
            names.append(name if options["dry_run"] else backfill.carry_out(name))
    finally:  # a history that refuses one has the others
        if names:
            _print(names, is_dry=options["dry_run"])
    if options["dry_run"]:
        click.echo("This was a dry run: nothing was written.", err=True)
    elif options["once"]:
        return _work_off(workflow, backfill, wanted, options)
    elif any(name.run_id for name in names) and not backfill.is_served:
        how = f"Start `dotflow serve {safe(options['workflow'])}`, or run this command again with --once"
        click.echo(f"No process serves '{safe(workflow.workflow_id)}': the runs wait. {how}.", err=True)
    return Exit.COMPLETED


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
        if kind is None or kind in CONTAINERS.values():  # whose text is JSON, with commas of its own
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
        self._queue = queue_of(what, workflow.config.history)
        archive: object = workflow.config.history
        if not isinstance(archive, Archive):
            raise NotServable(what, f"{type(archive).__name__} can't be read")
        self._archive = archive
        self._workflow = workflow
        self._control = Control(workflow)
        self._again = again
        self._is_declared = False

    @property
    def is_served(self) -> bool:
        """Whether a living process serves the workflow."""
        return self._queue.is_served(self._workflow.workflow_id)

    def last(self, wanted: Submission) -> RunSummary | None:
        """Returns the last run of a name, of those that have its values; None if there is none."""
        name = str(wanted.name)
        runs = self._archive.recent([name], RECENT)[name]
        return next((run for run in runs if run.workflow_id == name and not run.superseded), None)

    def look(self, params: Params, wanted: Submission) -> _Name:
        """Returns what becomes of a name."""
        last = self.last(wanted)
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
            if not self._is_declared:
                self._queue.declare([self._workflow._declared()])
                self._is_declared = True
            return name._replace(run_id=self._queue.submit(name.wanted))
        if name.then is Then.RESUMED and name.last is not None:
            try:
                return name._replace(run_id=self._control.resume(name.last.run_id, comment="backfill").run_id)
            except OrderRefused:
                if not self._control.run(name.last.run_id).is_open:
                    raise
                return name._replace(then=Then.LEFT)  # a server has continued it since
        return name


def _work_off(
    workflow: DotFlow, backfill: _Backfill, wanted: Sequence[tuple[Params, Submission]], options: Mapping[str, Any]
) -> Exit:
    """Runs what is queued here, and returns the exit code by the last run of each name."""
    ended = serve(workflow, once=True, **serve_arguments(options))
    if ended:
        click.echo()
        print_runs(ended)
    runs = [backfill.last(submission) for _, submission in wanted]
    states = Counter(TypeRunState.UNKNOWN if run is None else run.state for run in runs)
    _print_counts(states)
    if states.keys() <= {TypeRunState.COMPLETED}:
        return Exit.COMPLETED
    return Exit.PAUSED if states.keys() <= {TypeRunState.COMPLETED, *UNFINISHED} else Exit.FAILED


def _print(names: Sequence[_Name], *, is_dry: bool) -> None:
    screen = Screen()
    columns = [*(Column(safe(param), fits=1) for param in names[0].params), Column("Last run"), Column("Began")]
    rows = [_row(screen, name) for name in names]
    screen.lines(screen.table([*columns, Column("Would be" if is_dry else "Now")], rows))
    _print_counts(Counter(name.then for name in names))


def _row(screen: Screen, name: _Name) -> list[Text | str]:
    last = screen.state(None, "none") if name.last is None else state_of(screen, name.last)
    began = "" if name.last is None else local(name.last.began)
    then = f"{name.then}{name.run_id and f' as {name.run_id[:ID_LENGTH]}'}"
    return [*(safe(value) for value in name.params.values()), last, began, then]


def _print_counts(counts: Mapping[Any, int]) -> None:
    total = sum(counts.values())
    parts = ", ".join(f"{count} {str(what).lower()}" for what, count in counts.items())
    click.echo(f"{total} {'run' if total == 1 else 'runs'}: {parts}.")
