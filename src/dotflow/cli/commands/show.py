"""`dotflow show`: one run of the past, or one of its steps."""

from typing import Any

import click

from dotflow.cli.command import Command, option
from dotflow.cli.history.options import HISTORY_OPTION, JSON_OPTION

PARTS = ("output", "error", "input", "value")


@click.command(cls=Command, short_help="Show a run: its tasks, what went wrong, what it printed.")
@click.argument("run", default="last")
@click.argument("step", required=False)
@option("--attempt", type=click.IntRange(1), metavar="N", example="--attempt 1", help="One attempt of the step.")
@option("--output", is_flag=True, example="dotflow show last load --output", help="Only what it printed.")
@option("-f", "--follow", is_flag=True, example="--output -f", help="Go on with new output until the run has ended.")
@option("--error", is_flag=True, example="dotflow show last load --error", help="Only its last traceback.")
@option("--input", is_flag=True, example="--input > input.json", help="Only its inputs, as JSON.")
@option("--value", is_flag=True, example="--value | jq .", help="Only the value that it returned, as JSON.")
@option(
    "--this", is_flag=True, example="dotflow show 4f0c9a21 --this", help="This run, though another one continues it."
)
@JSON_OPTION
@HISTORY_OPTION
def show(run: str, step: str | None, attempt: int | None, as_json: bool, history: str | None, **options: Any) -> None:
    """Show a run of the past, or one of its steps.

    \b
    RUN   an id, the beginning of one, last (the default), or failed: the last one that failed;
          the id of a run that others continue stands for the newest of them
    STEP  a name, the number of a task, or an item: fetch#411; in an added workflow page[411].fetch,
          or page[411] for that item of all its tasks

    \b
    dotflow show
    dotflow show failed load
    dotflow show last fetch#411 --error
    dotflow show last --output -f
    """
    from dotflow.cli.history.options import open_history
    from dotflow.cli.history.show import show_part, show_record

    parts = [part for part in PARTS if options[part]]
    if len(parts) > 1:
        raise click.UsageError(f"Can't use --{parts[0]} with --{parts[1]}. Remove one of them.")
    if options["follow"] and parts != ["output"]:
        raise click.UsageError("--follow needs --output. Add it.")
    if step is None and (attempt is not None or parts not in ([], ["output"])):
        name = parts[0] if parts and attempt is None else "attempt"
        raise click.UsageError(f"--{name} needs a step. Add its name or number after the run.")
    archive = open_history(history)
    if parts:
        show_part(archive, run, step, attempt, parts[0], follow=options["follow"], as_json=as_json)
    else:
        show_record(archive, run, step, attempt, history, is_exact=options["this"], as_json=as_json)
