"""`dotflow forget`: deletes runs of the past."""

import click

from dotflow.cli.command import Command, option
from dotflow.cli.formatting import pluralize
from dotflow.cli.options import HISTORY_OPTION, RunArgument, open_history, seconds_of


@click.command(cls=Command)
@click.argument("runs", nargs=-1, type=RunArgument(), metavar="[RUN]...")
@option(
    "--older-than", metavar="AGE", example="dotflow forget --older-than 30d",
    help="All runs that ended longer ago than that.",
)  # fmt: skip
@option("--all", "everything", is_flag=True, help="All runs that have ended.")
@option("-y", "--yes", is_flag=True, example="dotflow forget --all --yes", help="Don't ask.")
@HISTORY_OPTION
def forget(runs: tuple[str, ...], older_than: str | None, everything: bool, yes: bool, history: str | None) -> None:
    """Delete runs of the past, with all that is kept of them, and shrink the file.

    \b
    dotflow forget 4f0c9a21 failed
    dotflow forget --older-than 30d

    A run that has not ended is refused. Without --yes, --older-than and --all ask first.
    """
    if (bool(runs), older_than is not None, everything).count(True) != 1:
        raise click.UsageError("What to forget? Pass runs, or --older-than 30d, or --all.")
    age = seconds_of(older_than)
    archive = open_history(history)
    if not runs and not yes:
        which = "all runs that have ended" if everything else f"all runs that ended more than {older_than} ago"
        click.confirm(f"Delete {which}?", abort=True, err=True)
    count = archive.forget(*runs, older_than=0 if everything else age)
    reuse = " The database reuses the space." if count and archive.reuses_space else ""
    click.echo(f"{pluralize(count, 'run')} deleted.{reuse}")
