"""The events in the queue of a run on Dask."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class AttemptBegan(NamedTuple):
    """An attempt has begun."""

    number: int
    worker: str


class TaskEnded(NamedTuple):
    """A task of Dask's has ended."""

    key: str


class ReplyFetched(NamedTuple):
    """A worker's reply; None if it could not be fetched."""

    key: str
    reply: Sequence[Any] | None


class ClusterInfo(NamedTuple):
    """The workers, as the scheduler describes them."""

    identity: Mapping[str, Any]
