"""The text of a lease: who holds a workflow, and what a storage keeps beside that."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from dotflow.core.durations import is_seconds
from dotflow.errors import StorageError

SECONDS: Final = 30.0  # that a lease lasts, unless told otherwise: so long a dead machine keeps others off


class Entry(NamedTuple):
    """The text as it was found.

    Attributes:
        text: What was written last.
        version: Of this very text: the condition of the next write.
        age: Seconds since it was written, by the clock of where it is kept.
    """

    text: str
    version: str
    age: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRecord:
    """What the text says.

    Attributes:
        holder: Who holds the workflow: host, process, since, and what makes that process the only one; None if nobody.
        token: Of this holding, and nobody else's.
        beat: Counts the writes, so that no two texts are the same.
        seconds: That it lasts, once written.
        more: What the storage keeps here.
    """

    holder: Mapping[str, Any] | None = None
    token: str = ""
    revision: int = 0
    seconds: float = SECONDS
    extra: Mapping[str, Any] = field(default_factory=dict)

    def text(self) -> str:
        """As it is written: JSON, one field a line."""
        own = {"holder": self.holder, "lease": self.seconds, "beat": self.revision, "token": self.token}
        fields = {**self.extra, **own}
        return json.dumps(fields, indent=2) + "\n"


def read_record(entry: Entry | None, location: str) -> LeaseRecord:
    """What an entry says. Raises StorageError where it says nothing that a lease says."""
    if entry is None:
        return LeaseRecord()
    try:
        extra = json.loads(entry.text)
        holder, seconds, revision, token = (extra.pop(name) for name in ("holder", "lease", "beat", "token"))
        if not (holder is None or isinstance(holder, dict)) or not is_seconds(seconds) or type(revision) is not int:
            raise ValueError("its fields are not what they should be")
    except (ValueError, KeyError, AttributeError, TypeError):
        message = f"{location} is not what dotflow has written there"
        raise StorageError(message, "put it in order, or delete it: then the workflow's checkpoints are void") from None
    return LeaseRecord(holder=holder, token=str(token), revision=revision, seconds=float(seconds), extra=extra)
