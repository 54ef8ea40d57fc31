"""What comes in through the queue of a run on Dask."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Began(NamedTuple):
    """An attempt has begun."""

    task_id: int
    place: str


class Ended(NamedTuple):
    """Dask is done with a task."""

    key: str


class Brought(NamedTuple):
    """What a worker replied; None where it could not be fetched."""

    key: str
    reply: Sequence[Any] | None


class Had(NamedTuple):
    """What the scheduler says of its workers."""

    identity: Mapping[str, Any]
