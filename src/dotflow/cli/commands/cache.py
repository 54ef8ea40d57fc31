"""`dotflow cache`: the values of steps with @action(cache=...)."""

from typing import Any

import click

from dotflow.cli.command import CONTEXT_SETTINGS, Command, Group, option
from dotflow.cli.options import STORAGE_OPTIONS, with_options

STEP = option(
    "--step", metavar="PATH", example="--step jobs.train",
    help="Only the values of this step.",
)  # fmt: skip


@click.group(cls=Group, context_settings=CONTEXT_SETTINGS, invoke_without_command=True)
@click.pass_context
def cache(context: click.Context) -> None:
    """List or delete the values of steps with @action(cache=...).

    The storage is that of the workflow, or of its Config(cache=...).

    \b
    dotflow cache list --storage file
    dotflow cache clear --storage file --step jobs.train --older-than 7d
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@cache.command(name="list", cls=Command)
@with_options(STORAGE_OPTIONS)
@STEP
def list_values(**options: Any) -> None:
    """Print the steps, how many values each has, and the time of the latest.

    \b
    dotflow cache list --storage file
    """
    from dotflow.cli.run.cached import cached_lines, keys_of, storage_of  # not needed for the help

    storage = storage_of(options)
    for line in cached_lines(storage, keys_of(storage, options["step"])):
        click.echo(line)


@cache.command(name="clear", cls=Command)
@with_options(STORAGE_OPTIONS)
@STEP
@option(
    "--older-than", metavar="DURATION", example="--older-than 7d",
    help="Only values older than this: 90s, 12h or 7d, for example.",
)  # fmt: skip
def clear_values(**options: Any) -> None:
    """Delete values: all, or those of a step or an age.

    \b
    dotflow cache clear --storage file --step jobs.train --older-than 7d
    """
    from dotflow.cli.run.cached import clear, keys_of, seconds_of, storage_of  # not needed for the help

    storage, older_than = storage_of(options), seconds_of(options["older_than"])
    for line in clear(storage, keys_of(storage, options["step"]), older_than):
        click.echo(line)
