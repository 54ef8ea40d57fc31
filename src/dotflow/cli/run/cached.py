"""The values in the cache, as `dotflow cache` lists and deletes them."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import click

from dotflow import clock
from dotflow.abc.storage import Storage
from dotflow.cli.formatting import pluralize
from dotflow.cli.storages import STORAGE_OPTIONS, make_storage
from dotflow.core.durations import to_seconds
from dotflow.errors import CheckpointUnreadable
from dotflow.resume.cache import PREFIX, prefix_of

NO_VALUES = "The cache is empty. Use the --storage, with its options, that the workflow or its Config(cache=...) has."


def storage_of(options: Mapping[str, Any]) -> Storage:
    """Returns the storage of the options. Raises UsageError without one that outlives the process.

    It loads no pickle, whatever --pickle says: the time of a value can be read without.
    """
    storage = make_storage(options["storage"], {name: options[name] for name in STORAGE_OPTIONS if name != "pickle"})
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


def seconds_of(text: str | None) -> float | None:
    """Returns the seconds of --older-than. Raises UsageError if it is no duration."""
    seconds = None if text is None else to_seconds(text)
    if text is not None and seconds is None:
        raise click.UsageError(f"--older-than {text} is no duration. Use a number with a unit: 90s, 12h or 7d.")
    return seconds


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
