"""The values in the cache, as `dotflow cache` lists and deletes them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from difflib import get_close_matches
from typing import Any

import click

from dotflow import clock
from dotflow.abc.storage import Storage
from dotflow.cli.storages import STORAGE_OPTIONS, make_storage
from dotflow.core.durations import to_seconds
from dotflow.engine.cache import PREFIX, prefix_of
from dotflow.errors import CheckpointUnreadable

NO_VALUES = "The cache is empty. Use the --storage, with its options, that the workflow or its Config(cache=...) has."


def storage_of(options: Mapping[str, Any]) -> Storage:
    """Returns the storage of the options. Raises UsageError without one that outlives the process."""
    storage = make_storage(options["storage"], {name: options[name] for name in STORAGE_OPTIONS})
    if storage is None or not storage.outlives_process:
        raise click.UsageError("The cache needs a storage that outlives the process. Add --storage file, for example.")
    return storage


def keys_of(storage: Storage, step: str | None) -> list[str]:
    """Returns the keys of the values, or of those of one step. Without any, it writes a hint to stderr."""
    keys = list(storage.list_keys(PREFIX if step is None else prefix_of(_identity(step))))
    if not keys:
        names = {_step_of(key) for key in storage.list_keys(PREFIX)}
        click.echo(NO_VALUES if step is None or not names else _hint(step, names), err=True)
    return keys


def cached_lines(storage: Storage, keys: Sequence[str]) -> Iterator[str]:
    """Yields a line for each step: its number of values, and the time of the latest."""
    values: dict[str, list[str]] = {}
    for key in keys:
        values.setdefault(_step_of(key), []).append(key)
    width = max(map(len, values), default=0)
    for name, own in sorted(values.items()):
        times = [context.time for key in own if (context := _read(storage, key)) is not None]
        latest = f"{max(times).astimezone():%Y-%m-%d %H:%M:%S}" if times else "unreadable"
        yield f"{name:{width}}  {len(own)} value{'s' * (len(own) != 1)}, latest {latest}"


def clear(storage: Storage, keys: Sequence[str], older_than: float | None) -> int:
    """Deletes values, those older than some seconds or all, and returns how many. An unreadable one counts as old."""
    before = None if older_than is None else clock.now() - timedelta(seconds=older_than)
    count = 0
    for key in keys:
        context = None if before is None else _read(storage, key)
        if context is None or before is None or context.time < before:
            storage.delete(key)
            count += 1
    return count


def seconds_of(text: str | None) -> float | None:
    """Returns the seconds of --older-than. Raises UsageError if it is no duration."""
    seconds = None if text is None else to_seconds(text)
    if text is not None and seconds is None:
        raise click.UsageError(f"--older-than {text} is no duration. Use a number with a unit: 90s, 12h or 7d.")
    return seconds


def _hint(step: str, names: Iterable[str]) -> str:
    matches = get_close_matches(_identity(step), names, n=1)
    hint = f"Did you mean '{matches[0]}'?" if matches else f"Its steps are: {', '.join(sorted(names))}."
    return f"The cache has no values of '{step}'. {hint}"


def _identity(step: str) -> str:
    """Returns a step's identity, module:qualname; "jobs.train" is "jobs:train"."""
    module, _, name = step.partition(":") if ":" in step else step.rpartition(".")
    return f"{module}:{name}"


def _step_of(key: str) -> str:
    return key.removeprefix(PREFIX).rpartition("/")[0]


def _read(storage: Storage, key: str) -> Any:
    try:
        return storage.get(key)
    except CheckpointUnreadable:
        return None
