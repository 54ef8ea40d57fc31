"""What is known of files: their states, which of them an attempt made, and which it was given."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from dotflow.core.masks import NO_MASKS, Masks

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
FAR: Final = 6 * 10**16  # microseconds: 1900 years
#: A file that its program has not closed: it is written once more when the process ends, so it may grow.
LOOSE: Final = "loose"
#: A file that may change once more without another time, since its file system counts whole seconds.
YOUNG: Final = "young"
#: A folder, of which only counts that it is there.
FOLDER: Final = "folder"


class FileState(NamedTuple):
    """What shows whether a file has changed.

    Attributes:
        size: Its size in bytes; -1 if there is no file.
        mtime: The time of its last change, in nanoseconds.
        ctime: The time of the last change of its status, in nanoseconds.
        digest: The SHA-256 of its content; "" where it was not read.
        mark: LOOSE, YOUNG, FOLDER or "".
    """

    size: int
    mtime: int = 0
    ctime: int = 0
    digest: str = ""
    mark: str = ""

    @property
    def is_gone(self) -> bool:
        """Whether there is no file."""
        return self.size < 0

    @property
    def is_file(self) -> bool:
        """Whether there is a file, and no folder."""
        return self.size >= 0 and self.mark != FOLDER

    @property
    def modified(self) -> datetime:
        """The moment of its last change; of times that no calendar has, the nearest that it shows."""
        return EPOCH + timedelta(microseconds=max(-FAR, min(self.mtime // 1000, FAR)))

    def is_same(self, now: "FileState", digest: Callable[[], str] | None = None) -> bool:
        """Returns whether the file is the same in a later state.

        Args:
            now: The later state.
            digest: Returns the digest of the file now, "" where it can't be read; by default that of *now*.
        """
        size, mtime, _, was, mark = self
        if self.is_gone or now.is_gone:
            return size == now.size
        if FOLDER in (mark, now.mark):
            return mark == now.mark
        if mark == LOOSE:
            return now.size >= size
        if mark != YOUNG and now[:3] == self[:3]:
            return True
        if now.size != size:
            return False
        digest_now = (digest() if digest is not None else now.digest) if was else ""
        return was == digest_now if digest_now else now.mtime == mtime


GONE: Final = FileState(-1)

MAX_KEPT: Final = 1000  # files of an attempt that a history keeps

States = Mapping[str, FileState]
NO_STATES: Final[States] = MappingProxyType({})


class FileRecord(NamedTuple):
    """The files of one attempt, by the text of their paths.

    Attributes:
        made: In its value, or written by `atomic_path`.
        changed: Given to it, and other after it than before it. Their contents were not read.
        taken: Given to it, and the same after it: from outside, in the entry of its own that an item has, or in its
            value. One that is not there counts, too.
    """

    made: States = NO_STATES
    changed: States = NO_STATES
    taken: States = NO_STATES

    def names(self) -> set[str]:
        """Returns all paths."""
        return {*self.made, *self.changed, *self.taken}

    def new(self) -> set[str]:
        """Returns the paths of files that it has made without being given them."""
        return self.made.keys() - self.changed.keys() - self.taken.keys()

    def as_plain(self) -> dict[str, dict[str, list[Any]]]:
        """Returns it as plain data, without what is empty."""
        fields = self._asdict().items()
        return {name: {path: list(state) for path, state in states.items()} for name, states in fields if states}

    @classmethod
    def from_plain(cls, plain: Any) -> "FileRecord":
        """Returns what `as_plain` has made plain. Raises TypeError or ValueError for anything else."""
        if type(plain) is not dict or not all(type(states) is dict for states in plain.values()):
            raise TypeError("it is not the record of an attempt")
        if not all(type(path) is str for states in plain.values() for path in states):
            raise TypeError("a path is no text")
        of = {name: {path: state_from(state) for path, state in states.items()} for name, states in plain.items()}
        return cls(**of)

    def listed(self) -> list[tuple[str, str, FileState]]:
        """Returns each path with what the attempt did, "made", "changed" or "taken", and the state."""
        roles: dict[str, tuple[str, str, FileState]] = {}
        for role, states in self._asdict().items():
            for path, state in states.items():
                roles.setdefault(path, (path, role, state))
        return list(roles.values())

    def as_text(self, masks: Masks = NO_MASKS) -> str:
        """Returns it as a text for a history, without secrets, and without what exceeds MAX_KEPT files."""
        plain: dict[str, dict[str, FileState]] = {}
        for path, role, state in self.listed()[:MAX_KEPT]:
            plain.setdefault(role, {})[masks.mask(path)] = state
        return json.dumps(plain, separators=(",", ":"))

    @classmethod
    def from_text(cls, text: str) -> "FileRecord":
        """Returns what `as_text` has written; an empty one for any other text, such as that of a damaged history."""
        try:
            return cls.from_plain(json.loads(text)) if text else NO_FILES
        except (TypeError, ValueError, RecursionError):
            return NO_FILES


NO_FILES: Final = FileRecord()
_KINDS: Final = [int, int, int, str, str]


def state_from(plain: Any) -> FileState:
    """Returns the state that `list` has made plain. Raises TypeError or ValueError for anything else."""
    if [*map(type, plain)] != _KINDS:
        raise TypeError("it is not the state of a file")
    return tuple.__new__(FileState, plain)  # in half the time: a resume reads one for each file


class FileWatch(NamedTuple):
    """What an attempt records of files.

    Attributes:
        limit: The size in bytes up to which files are read for a digest.
        given: The paths in its arguments.
        own: Those of them that come from outside, or are in the entry that an item has of its own.
        is_repeated: Whether an attempt before it has failed, and may have changed what is given.
        known: The states that files among *given* had: those from outside when the run began, and large ones. They have
            digests, so that no other process reads them again.
    """

    limit: int
    given: tuple[str, ...] = ()
    own: tuple[str, ...] = ()
    is_repeated: bool = False
    known: tuple[tuple[str, FileState], ...] = ()
