"""`dotflow cache`: the values of steps with @action(cache=...)."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import click

from dotflow import clock
from dotflow.abc.storage import Storage
from dotflow.calls.cached import PREFIX, prefix_of
from dotflow.cli.command import CONTEXT_SETTINGS, Command, Group, option
from dotflow.cli.formatting import pluralize
from dotflow.cli.options import STORAGE_OPTIONS, seconds_of, with_options
from dotflow.cli.storages import STORAGE_ARGUMENTS, make_storage
from dotflow.errors import CheckpointUnreadable

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
    storage, older_than = storage_of(options), seconds_of(options["older_than"])
    for line in clear(storage, keys_of(storage, options["step"]), older_than):
        click.echo(line)


NO_VALUES = "The cache is empty. Use the --storage, with its options, that the workflow or its Config(cache=...) has."


def storage_of(options: Mapping[str, Any]) -> Storage:
    """Returns the storage of the options. Raises UsageError without one that outlives the process.

    It loads no pickle, whatever --pickle says: the time of a value can be read without.
    """
    storage = make_storage(options["storage"], {name: options[name] for name in STORAGE_ARGUMENTS if name != "pickle"})
    if storage is None or not storage.outlives_process:
        raise click.UsageError("The cache needs a storage that outlives the process. Add --storage file, for example.")
    return storage


def keys_of(storage: Storage, step: str | None) -> list[str]:
    """Returns the keys of the values, or of those of one step. Without any, it writes a hint to stderr."""
    keys = list(storage.list_keys(PREFIX if step is None else prefix_of(_identity(step))))
    if not keys:
        names = sorted({_step_of(key) for key in storage.list_keys(PREFIX)})
        others = f"The cache has no values of '{step}'. Its steps are: {', '.join(names)}."
        click.echo(others if names else NO_VALUES, err=True)
    return keys


def cached_lines(storage: Storage, keys: Sequence[str]) -> Iterator[str]:
    """Yields a line for each step: its number of values, the time of the latest, and how many have no readable time."""
    values: dict[str, list[datetime | None]] = {}
    for key in keys:
        values.setdefault(_step_of(key), []).append(_time_of(storage, key))
    width = max(map(len, values), default=0)
    for name, times in sorted(values.items()):
        known = [time for time in times if time is not None]
        latest = f", latest {max(known).astimezone():%Y-%m-%d %H:%M:%S}" if known else ""
        unknown = f", {len(times) - len(known)} without a readable time" if len(known) < len(times) else ""
        yield f"{name:{width}}  {pluralize(len(times), 'value')}{latest}{unknown}"


def clear(storage: Storage, keys: Sequence[str], older_than: float | None) -> Iterator[str]:
    """Deletes all values, or those older than some seconds, and yields a line for those that are gone or stay.

    A value without a readable time is deleted with all others only.
    """
    before = None if older_than is None else clock.now() - timedelta(seconds=older_than)
    deleted = unknown = 0
    for key in keys:
        time = None if before is None else _time_of(storage, key)
        if before is None or (time is not None and time < before):
            storage.delete(key)
            deleted += 1
        elif time is None:
            unknown += 1
    yield f"{pluralize(deleted, 'value')} deleted."
    if unknown:
        yield f"{pluralize(unknown, 'value')} kept: no time can be read. Omit --older-than to delete values of any age."


def _identity(step: str) -> str:
    """Returns a step's identity, module:qualname; "jobs.train" is "jobs:train"."""
    module, _, name = step.partition(":") if ":" in step else step.rpartition(".")
    return f"{module}:{name}"


def _step_of(key: str) -> str:
    return key.removeprefix(PREFIX).rpartition("/")[0]


def _time_of(storage: Storage, key: str) -> datetime | None:
    """Returns when a value was made; None if that can't be read."""
    try:
        time: datetime = storage.get(key).time
    except CheckpointUnreadable as error:
        return error.time
    return time
