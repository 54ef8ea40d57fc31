"""`dotflow log`: what the runs wrote."""

import contextlib
import os
import sys
from pathlib import Path
from typing import Final

import click

from dotflow.cli.command import Command, option

LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")
ALL: Final = -1


def count(value: str | int) -> int:
    """How many records: a number, or `all`, which is ALL."""
    text = str(value)
    if text.lower() == "all":
        return ALL
    if not (text.isascii() and text.isdigit()):
        raise click.BadParameter(f"{text!r} is neither a number, 0 or more, nor 'all'.")
    return int(text)


@click.command(cls=Command, short_help="Show what runs have written, and follow it.")
@option(
    "-f", "--follow", is_flag=True, example="dotflow log -f",
    help="Go on with new records as they come, until Ctrl-C.",
)  # fmt: skip
@option(
    "-n", "--lines", type=count, metavar="N", default=20, show_default=True, example="-n 50, -n all",
    help="How many of the last records; with 0 and -f only new ones.",
)  # fmt: skip
@option(
    "--level", type=click.Choice(LEVELS, case_sensitive=False), metavar="LEVEL", example="--level warning",
    help=f"Only what is at least that serious: {', '.join(LEVELS)}.",
)  # fmt: skip
@option(
    "--json", "as_json", is_flag=True, example="dotflow log --json | jq .level",
    help="One JSON object a line, whatever the log's format is.",
)  # fmt: skip
@option(
    "--path", type=click.Path(path_type=Path), metavar="FILE", default=".output/flow.log",
    show_default=True, example="--path logs/nightly.log", help="The log, if it isn't at its usual place.",
)  # fmt: skip
@option(
    "--workflow", metavar="ID", example="--workflow nightly",
    help="Only what is about this workflow, by its id or its name.",
)  # fmt: skip
@option(
    "--step", metavar="NAME", example="--step extract", help="Only what is about this step.",
)  # fmt: skip
def log(
    follow: bool, lines: int, level: str | None, as_json: bool, path: Path, workflow: str | None, step: str | None
) -> None:
    """Show the last records of a log, oldest first, and with -f those that come.

    A record is a line with what belongs to it: an error comes with its traceback. Older files (flow.log.1, ...) are
    read where the newest doesn't have enough. Both formats are read.
    """
    from dotflow.cli.log.files import absolute_path, all_records, end_of_lines, last_records, open_all
    from dotflow.cli.log.records import Filter
    from dotflow.cli.log.show import show_function
    from dotflow.providers.logs.formats import LEVELS as LEVEL_NUMBERS

    path = absolute_path(path)
    wanted = Filter(None if level is None else LEVEL_NUMBERS[level], workflow, step)
    with contextlib.ExitStack() as opened:
        files = [opened.enter_context(file) for file in open_all(path)]
        if not files and not follow:
            raise click.ClickException(
                f"there is no log at {path} yet. A run writes it there; --path FILE looks elsewhere, "
                f"--follow waits for it."
            )
        if sys.stdout is None:  # closed, as after >&-
            return
        show = show_function(as_json)
        end = 0
        if files:
            end = end_of_lines(files[0]) if follow else files[0].seek(0, os.SEEK_END)
            show(all_records(files, end, wanted) if lines == ALL else last_records(files, end, lines, wanted))
        if not follow:
            return
        from dotflow.cli.log.follow import POLL_INTERVAL, RECORD_DELAY, Follower, pause

        if not files:
            click.echo(f"dotflow log: waiting for {path}; there is none yet. Ctrl-C ends it.", err=True)
        follower = opened.enter_context(contextlib.closing(Follower(path, files, end)))
        while True:
            show(record for record in follower.records() if wanted.matches(record))
            pause(POLL_INTERVAL if follower.is_at_rest else RECORD_DELAY)
