"""Files of an attempt: finds paths in values, and takes the states of the files that they name."""

import contextlib
import dataclasses
import hashlib
import io
import os
import stat
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextvars import ContextVar
from datetime import date, datetime, time, timedelta
from functools import lru_cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from dotflow import clock
from dotflow.core.context import Context
from dotflow.core.files import FOLDER, GONE, LOOSE, YOUNG, FileRecord, FileState, FileWatch
from dotflow.worker.deadline import DeadlinePassed

#: Types whose instances hold no path.
SCALARS: Final = frozenset(
    {type(None), bool, int, float, complex, str, bytes, date, datetime, time, timedelta, range, bytearray}
)
are_scalars: Final = SCALARS.issuperset
PATH: Final = type(Path())

CHUNK: Final = 1 << 20  # bytes: reading a larger file takes long enough to be interrupted
SQLITE_PAGE: Final = 512  # bytes: all databases of SQLite are multiples of it; sqlite.org/fileformat.html
SECOND: Final = 10**9  # nanoseconds
YOUNG_FOR: Final = 2 * SECOND  # since the last change; the times of FAT are even seconds
#: Nanoseconds since the last change, after which any other change has another time on every file system that counts
#: them: Linux counts ticks of at most 10 ms.
SETTLED_AFTER: Final = SECOND // 20
MAX_DIGESTS: Final = 20_000  # that are remembered
A_FOLDER: Final = FileState(0, mark=FOLDER)

Members = Callable[[Any], Iterable[Any]]


def find_paths(value: Any) -> Collection[Path]:
    """Returns the paths in a value: in collections, dataclasses, named tuples, Pydantic models and contexts."""
    found: dict[Path, None] = {}
    seen: set[int] = set()
    ahead = [value]
    try:
        for value in ahead:  # the list grows meanwhile
            kind = type(value)
            if kind is dict:
                members = value.values()
                if not are_scalars(map(type, value)):
                    members = (*value, *members)
            elif kind is list or kind is tuple:
                members = value
            elif kind in SCALARS:
                continue
            elif kind is PATH:
                found[value] = None
                continue
            else:
                members = _members_of(kind, value)
            if not are_scalars(map(type, members)) and id(value) not in seen:
                seen.add(id(value))
                ahead += members
    except TypeError:  # a class without a hash: what is beside its instances is not looked for
        return ()
    return found


def _members_of(kind: type, value: Any) -> Collection[Any]:
    try:
        members_of = _reader_of(kind)
        return () if members_of is None else list(members_of(value))
    except (KeyboardInterrupt, DeadlinePassed):
        raise
    except BaseException:  # of the user's own type: its metaclass, or a field that is a property
        return ()


@lru_cache(maxsize=1000)
def _reader_of(kind: type) -> Members | None:
    """Returns what yields the members of a type's instances; None for a type that is not looked into."""
    if kind in (set, frozenset, deque):
        return list
    if kind in (Counter, OrderedDict, defaultdict, MappingProxyType):
        return lambda value: (*value, *value.values())
    if issubclass(kind, Context):
        return lambda context: [context.storage]
    if issubclass(kind, tuple) and isinstance(vars(kind).get("_fields"), tuple):
        return tuple.__iter__
    if dataclasses.is_dataclass(kind):
        names = [field.name for field in dataclasses.fields(kind)]
        return lambda value: [getattr(value, name, None) for name in names]
    base = getattr(sys.modules.get("pydantic"), "BaseModel", None)
    if isinstance(base, type) and issubclass(kind, base):
        return lambda model: [*vars(model).values(), *(model.__pydantic_extra__ or {}).values()]
    return None


# States


def state_of(path: str | Path, limit: int, *, known: FileState | None = None) -> FileState | None:
    """Returns the state of a file or folder, GONE where there is none; None for anything else, such as a socket.

    Args:
        path: Links are followed.
        limit: The size in bytes up to which the file is read for a digest; -1 for no digest.
        known: An earlier state. Where size and times are the same, its digest is taken.
    """
    try:
        found = os.stat(path)  # noqa: PTH116 (making a Path takes longer than the call)
    except (FileNotFoundError, NotADirectoryError):
        return GONE
    except (OSError, ValueError):  # a circle of links, no permission, or a null byte
        return None
    if not stat.S_ISREG(found.st_mode):
        return A_FOLDER if stat.S_ISDIR(found.st_mode) else None
    size, mtime, ctime = found.st_size, found.st_mtime_ns, found.st_ctime_ns
    mark = ""
    if not size % SQLITE_PAGE and os.path.lexists(f"{path}-wal"):
        mark = LOOSE
    elif not mtime % SECOND and clock.real_time_ns() - mtime < YOUNG_FOR:
        mark = YOUNG
    digest = ""
    if size <= limit and mark != LOOSE:
        if known is not None and known.digest and known.mark != YOUNG and known[:3] == (size, mtime, ctime):
            digest = known.digest
        else:
            digest = _digest_of(path, found)
    return FileState(size, mtime, ctime, digest, mark)


def is_untouched(path: str, state: FileState) -> bool:
    """Returns whether size and times of a file are those of an earlier state, without making a state of now."""
    try:
        found = os.stat(path)  # noqa: PTH116 (as in state_of)
    except (OSError, ValueError):
        return False
    return (found.st_size, found.st_mtime_ns, found.st_ctime_ns) == state[:3]


def digest_of(path: str | Path, limit: int) -> str:
    """Returns the digest of a file; "" where it is larger than *limit*, can't be read, or is no regular file."""
    state = state_of(path, limit)
    return "" if state is None else state.digest


def change_since(path: str | Path, was: FileState) -> str:
    """Returns "same", "other" or "gone": what a file is now beside an earlier state."""
    now = state_of(path, -1)
    if now is not None and was.is_same(now, partial(digest_of, path, was.size)):  # a digest counts for the same size
        return "same"
    return "gone" if now is not None and now.is_gone else "other"


_digests: dict[tuple[int, int, int, int, int], str] = {}  # by device, inode, size and times


def _digest_of(path: str | Path, found: os.stat_result) -> str:
    """Returns the SHA-256 of a file as sha256sum shows it; "" if it can't be read, or changes meanwhile."""
    key = found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
    digest = _digests.get(key)
    if digest is not None:
        return digest
    try:
        with open(path, "rb", buffering=0, opener=_open_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):  # it was replaced meanwhile
                return ""
            beginning = _Beginning(file, found.st_size + 1)
            digest = hashlib.file_digest(beginning, "sha256").hexdigest()
            after = os.fstat(file.fileno())
    except OSError:
        return ""
    if beginning.left != 1 or (after.st_size, after.st_mtime_ns) != (found.st_size, found.st_mtime_ns):
        return ""
    # Just after a change another one may have the same time.
    if clock.real_time_ns() - max(found.st_mtime_ns, found.st_ctime_ns) > SETTLED_AFTER:
        if len(_digests) >= MAX_DIGESTS:
            _digests.clear()
        _digests[key] = digest
    return digest


def _open_at_once(path: str, flags: int) -> int:
    """Opens a file; a pipe would be waited for."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


class ReadingEnded(BaseException):
    """The time for reading a file is up, or its run is being stopped."""


_ends: Final[ContextVar[tuple[Callable[[], bool], ...]]] = ContextVar("dotflow_reading_ends", default=())


@contextlib.contextmanager
def reading_until(is_over: Callable[[], bool]) -> Iterator[None]:
    """Within, reading a file raises ReadingEnded when *is_over*, which is called before each piece of it."""
    token = _ends.set((*_ends.get(), is_over))
    try:
        yield
    finally:
        _ends.reset(token)


class _Beginning(io.RawIOBase):
    """The beginning of a file: /proc has files without an end, whose size is 0."""

    def __init__(self, file: io.FileIO, left: int) -> None:
        self._file = file
        self.left = left

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        for is_over in _ends.get():
            if is_over():
                raise ReadingEnded
        count = self._file.readinto(memoryview(buffer)[: self.left])
        self.left -= count
        return count


def remember(name: str, state: FileState) -> None:
    """Remembers the digest that another process has taken of a file, if the file is still the same."""
    with contextlib.suppress(OSError):
        now = os.stat(name)  # noqa: PTH116
        if (now.st_size, now.st_mtime_ns, now.st_ctime_ns) == state[:3]:
            _digests[now.st_dev, now.st_ino, *state[:3]] = state.digest


# The record of an attempt


class Maker:
    """Makes attempts, one after the other."""


#: Who makes the attempts of this context; None outside of attempts.
MAKER: Final[ContextVar[Maker | None]] = ContextVar("dotflow_maker", default=None)
#: The files that `atomic_path` has written, by maker, until the end of the attempt.
WRITTEN: Final[dict[object, list[Path]]] = {}


def note_written(path: Path) -> None:
    """Notes that the running attempt has written a file as a whole; outside of attempts nothing happens."""
    maker = MAKER.get()
    if maker is not None:
        WRITTEN.setdefault(maker, []).append(path)


def take_written() -> Collection[Path]:
    """Returns what the attempt that has just ended here has written, and forgets it."""
    return WRITTEN.pop(MAKER.get(), ())


def states_before(watch: FileWatch) -> Mapping[str, FileState | None]:
    """Returns the states of the given files before an attempt, without digests."""
    for name, state in watch.known:
        if state.digest and not state.mark:
            remember(name, state)
    return {name: state_of(name, -1) for name in watch.given}


def record(
    watch: FileWatch, found: Collection[Path], before: Mapping[str, FileState | None], written: Collection[Path] = ()
) -> FileRecord | None:
    """Returns the record of an attempt that has returned; None if its value has no path, and it has changed no file.

    Args:
        watch: What is recorded.
        found: The paths in its value.
        before: The states of the given files before it.
        written: What it has written by `atomic_path`.
    """
    made: dict[str, FileState] = {}
    for name in dict.fromkeys(map(str, (*found, *written))):
        state = state_of(name, watch.limit)
        if state is not None and not state.is_gone:
            made[name] = state
    changed: dict[str, FileState] = {}
    taken: dict[str, FileState] = {}
    own, known = set(watch.own), dict(watch.known)
    for name, was in before.items():
        now = made.get(name) or state_of(name, -1)
        if watch.is_repeated:  # an attempt before may have changed it
            was = known.get(name)
        if now is not None and (was is None or now[:3] != was[:3]):
            changed[name] = now
        elif was is not None and (name in own or name in made):
            taken[name] = made.get(name) or state_of(name, watch.limit, known=was) or was
    return FileRecord(made, changed, taken) if found or made or changed or taken else None
