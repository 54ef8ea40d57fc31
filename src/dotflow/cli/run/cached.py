"""The values in the cache, as `dotflow cache` lists and deletes them."""

from collections.abc import Iterator, Mapping
from typing import Any

import click

from dotflow import clock
from dotflow.abc.storage import Storage
from dotflow.cli.storages import STORAGE_OPTIONS, make_storage
from dotflow.core.durations import as_seconds
from dotflow.engine.cache import PREFIX, prefix_of
from dotflow.errors import CheckpointUnreadable


def storage_of(options: Mapping[str, Any]) -> Storage:
    """Returns the storage of the options. Raises UsageError without one that outlives the process."""
    storage = make_storage(options["storage"], {name: options[name] for name in STORAGE_OPTIONS})
    if storage is None or not storage.outlives_process:
        raise click.UsageError("Which cache? Add --storage file, for example.")
    return storage


def cached_lines(storage: Storage, step: str | None) -> Iterator[str]:
    """Yields a line for each step: its number of values, and the time of the latest."""
    values: dict[str, list[str]] = {}
    for key in storage.list_keys(_prefix(step)):
        values.setdefault(key.removeprefix(PREFIX).rpartition("/")[0], []).append(key)
    width = max(map(len, values), default=0)
    for name, keys in sorted(values.items()):
        times = [context.time for key in keys if (context := _read(storage, key)) is not None]
        latest = f"{max(times).astimezone():%Y-%m-%d %H:%M:%S}" if times else "unreadable"
        yield f"{name:{width}}  {len(keys)}  {latest}"


def clear(storage: Storage, step: str | None, older_than: str | None) -> int:
    """Deletes values and returns how many. One that can't be read is as old as can be."""
    seconds = None if older_than is None else as_seconds("--older-than", older_than)
    count = 0
    for key in list(storage.list_keys(_prefix(step))):
        context = None if seconds is None else _read(storage, key)
        if context is None or seconds is None or (clock.now() - context.time).total_seconds() > seconds:
            storage.delete(key)
            count += 1
    return count


def _prefix(step: str | None) -> str:
    """Returns the beginning of the keys; "jobs.train" is the step "jobs:train"."""
    if step is None:
        return PREFIX
    module, _, name = step.replace(":", ".").rpartition(".")
    return prefix_of(f"{module}:{name}")


def _read(storage: Storage, key: str) -> Any:
    try:
        return storage.get(key)
    except CheckpointUnreadable:
        return None
