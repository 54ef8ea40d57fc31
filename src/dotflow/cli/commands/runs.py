"""`dotflow runs`: the runs of the past."""

from typing import Any

import click
from click.core import ParameterSource

from dotflow.cli.command import Command, option
from dotflow.cli.history.options import HISTORY_OPTION, JSON_OPTION


@click.command(cls=Command, short_help="List the runs of the past.")
@option("--failed", is_flag=True, help="Only runs that failed or crashed.")
@option("--running", is_flag=True, help="Only runs that have begun, and not ended.")
@option("--queued", is_flag=True, help="Only runs that wait for a process.")
@option("--paused", is_flag=True, help="Only runs that are paused, with what they ask, and since when.")
@option(
    "--workflow", metavar="ID", example="--workflow nightly",
    help="Only runs of this workflow, by its id, with all parameters, or by its name.",
)  # fmt: skip
@option(
    "--since", metavar="AGE", example="--since 2d, --since 2026-11-25",
    help="Only runs that are not older than that, or began on this day or later.",
)  # fmt: skip
@option(
    "--by", metavar="PARAM", example="dotflow runs --workflow nightly --by day",
    help="The values of this parameter and the state of the last run of each, days as a calendar with those that are "
         "missing. It needs --workflow, and counts all runs; --since is a day, then.",
)  # fmt: skip
@option(
    "-n", "--limit", type=click.IntRange(1), metavar="N", default=20, show_default=True, example="-n 100",
    help="How many of the newest.",
)  # fmt: skip
@JSON_OPTION
@HISTORY_OPTION
def runs(failed: bool, as_json: bool, history: str | None, **options: Any) -> None:
    """List the runs of the past, the newest first.

    \b
    dotflow runs --failed --since 2d
    dotflow runs --workflow nightly --by day
    dotflow runs --workflow nightly --json | jq .duration

    A run and those that continue it are one line, that of the newest; `dotflow show` names the others. A run whose
    process was killed is Crashed. Runs that wait in the queue, and those that steps have started, are in the list, too.
    """
    from dotflow.abc.archive import FAILURES
    from dotflow.cli.history.as_json import print_json
    from dotflow.cli.history.options import open_history, parse_time
    from dotflow.cli.history.run_list import print_runs, questions_by_run
    from dotflow.core.types.run_state import TypeRunState
    from dotflow.providers.histories.sqlite.reading import HOW_TO_RECORD, short_path

    archive = open_history(history)
    accepted = "an age, such as 90s, 12h or 2d, or a local time, such as 2026-11-25 or '2026-11-25 14:30'"
    since = parse_time("--since", options["since"], accepted)
    if options["by"] is not None:
        from dotflow.cli.history.by_param import print_by_param

        _check_by(failed=failed, **options)
        print_by_param(archive, options["workflow"], options["by"], since, as_json=as_json)
        return
    states = [state for state in TypeRunState if options.get(state.lower()) or (failed and state in FAILURES)]
    records = archive.runs(
        state=states or None,
        workflow=options["workflow"],
        since=since,
        limit=options["limit"],
        newest=True,
    )
    questions = archive.operations().questions() if records else ()
    if as_json:
        from dotflow.report.document import question_object, run_object

        asked = questions_by_run(questions)
        print_json(
            run_object(run) | {"questions": [question_object(one) for one in asked.get(run.run_id, ())]}
            for run in records
        )
    elif records:
        print_runs(records, questions)
    elif archive.runs(limit=1):
        click.echo("No such runs.", err=True)
    else:
        click.echo(f"No runs yet in {short_path(archive.path)}. {HOW_TO_RECORD}.", err=True)


def _check_by(**options: Any) -> None:
    """Raises UsageError for options that --by does not go with."""
    if options["workflow"] is None:
        raise click.UsageError(f"--by {options['by']} needs a workflow. Add --workflow ID.")
    for name in ("failed", "running", "queued", "paused"):
        if options[name]:
            raise click.UsageError(f"Can't use --{name} with --by, which shows all states. Remove --{name}.")
    if click.get_current_context().get_parameter_source("limit") is not ParameterSource.DEFAULT:
        raise click.UsageError("Can't use -n with --by, which counts all runs. Remove -n.")
