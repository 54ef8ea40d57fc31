"""What comes in through the queue of a run on Dask."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class AttemptBegan(NamedTuple):
    """An attempt has begun."""

    task_id: int
    worker: str


class TaskEnded(NamedTuple):
    """Dask is done with a task."""

    key: str


class ReplyFetched(NamedTuple):
    """What a worker replied; None where it could not be fetched."""

    key: str
    reply: Sequence[Any] | None


class ClusterInfo(NamedTuple):
    """What the scheduler says of its workers."""

    identity: Mapping[str, Any]
