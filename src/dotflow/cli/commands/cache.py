"""`dotflow cache`: the values of steps with @action(cache=...)."""

from typing import Any

import click

from dotflow.cli.command import CONTEXT_SETTINGS, Command, option
from dotflow.cli.options import storage_options

STEP = option(
    "--step", metavar="PATH", example="--step jobs.train",
    help="Only the values of this step.",
)  # fmt: skip


@click.group(context_settings=CONTEXT_SETTINGS)
def cache() -> None:
    """List or delete the values of steps with @action(cache=...).

    \b
    dotflow cache list --storage file
    dotflow cache clear --storage file --step jobs.train --older-than 7d
    """


@cache.command(name="list", cls=Command)
@storage_options
@STEP
def list_values(**options: Any) -> None:
    """Print how many values each step has in the cache, and the time of the latest."""
    from dotflow.cli.run.cached import cached_lines, storage_of  # not needed for the help

    for line in cached_lines(storage_of(options), options["step"]):
        click.echo(line)


@cache.command(name="clear", cls=Command)
@storage_options
@STEP
@option(
    "--older-than", metavar="DURATION", example="--older-than 7d",
    help="Only values of this age, such as 90s, 12h or 7d.",
)  # fmt: skip
def clear_values(**options: Any) -> None:
    """Delete values from the cache; without options all of them."""
    from dotflow.cli.run.cached import clear, storage_of  # not needed for the help

    count = clear(storage_of(options), options["step"], options["older_than"])
    click.echo(f"{count} {'value' if count == 1 else 'values'} deleted.")
