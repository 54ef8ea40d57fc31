"""The text of a lease: who holds a workflow, and what else the storage keeps there."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from dotflow.core.durations import is_seconds
from dotflow.errors import StorageError

SECONDS: Final = 30.0  # the default duration of a lease: a dead machine blocks a workflow for as long


class Entry(NamedTuple):
    """The text as it was read.

    Attributes:
        text: The text.
        version: Its version, the condition of the next write.
        age: Seconds since it was written, by the service's clock.
    """

    text: str
    version: str
    age: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRecord:
    """The content of the text.

    Attributes:
        holder: The process that holds the workflow: host, process, since, and its identity; None if free.
        token: Identifies the holder's lease.
        revision: Counts the writes, so that no two texts are equal.
        seconds: How long the lease lasts from this write on.
        extra: What the storage keeps in the text.
    """

    holder: Mapping[str, Any] | None = None
    token: str = ""
    revision: int = 0
    seconds: float = SECONDS
    extra: Mapping[str, Any] = field(default_factory=dict)

    def text(self) -> str:
        """Returns the text: JSON, one field a line."""
        own = {"holder": self.holder, "lease": self.seconds, "beat": self.revision, "token": self.token}
        fields = {**self.extra, **own}
        return json.dumps(fields, indent=2) + "\n"


def read_record(entry: Entry | None, location: str) -> LeaseRecord:
    """Returns the record in a text; an empty record without one.

    Raises:
        StorageError: The text is not a lease record.
    """
    if entry is None:
        return LeaseRecord()
    try:
        extra = json.loads(entry.text)
        holder, seconds, revision, token = (extra.pop(name) for name in ("holder", "lease", "beat", "token"))
        if not (holder is None or isinstance(holder, dict)) or not is_seconds(seconds) or type(revision) is not int:
            raise ValueError("wrong fields")
    except (ValueError, KeyError, AttributeError, TypeError):
        raise invalid_record(location) from None
    return LeaseRecord(holder=holder, token=str(token), revision=revision, seconds=float(seconds), extra=extra)


def invalid_record(location: str) -> StorageError:
    """Returns the error for a text that is not a lease record."""
    advice = "Repair it, or delete it to void the workflow's checkpoints"
    return StorageError(f"{location} can't be read", f"it is not a lease record of dotflow. {advice}")
