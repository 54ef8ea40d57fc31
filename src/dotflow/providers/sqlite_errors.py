"""The errors of SQLite files, with causes and advice."""

import contextlib
import sqlite3
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

NO_LOCKS: Final = "Give a path on a file system with locks, such as a local disk"
#: Cause and advice by SQLite's result code: sqlite.org/rescode.html
EXPLANATIONS: Final[Mapping[int, tuple[str, str]]] = {
    sqlite3.SQLITE_BUSY: ("another process keeps a transaction open on it", "End that process, or try again"),
    sqlite3.SQLITE_CANTOPEN: ("it can't be opened: it may be a folder, or its folder may be read-only", ""),
    sqlite3.SQLITE_CORRUPT: ("it is damaged, or was cut off", ""),
    sqlite3.SQLITE_FULL: ("the disk is full", "Free some space"),
    sqlite3.SQLITE_INTERRUPT: ("a query has taken too many steps: it is damaged, or was made so", ""),
    sqlite3.SQLITE_IOERR: ("the system could not read or write it", "Check the disk and its quota"),
    sqlite3.SQLITE_NOTADB: ("it is not a SQLite database", "Move it away, or give another path"),
    sqlite3.SQLITE_PROTOCOL: ("the system does not lock it", NO_LOCKS),
    sqlite3.SQLITE_READONLY: ("it is read-only", ""),
    sqlite3.SQLITE_TOOBIG: ("the value is larger than SQLite's limit of 1 GB", "Use StorageFile"),
}
#: Codes for the content of a file, which trying again does not change.
UNREADABLE: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR})
#: Extended codes for a lock that the system did not acquire or release.
LOCK_ERRORS: Final = frozenset({sqlite3.SQLITE_IOERR_LOCK, sqlite3.SQLITE_IOERR_RDLOCK, sqlite3.SQLITE_IOERR_UNLOCK})
#: Codes for a folder that can't be written to.
UNWRITABLE: Final = frozenset({sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY})


class ForeignDatabase(sqlite3.DatabaseError):
    """The database of another program."""


class LocksRefused(sqlite3.OperationalError):
    """The system acquires no locks where the file is."""


class UnknownFormat(sqlite3.DatabaseError):
    """A database of the same content in an unknown format."""


class NotAFile(sqlite3.DatabaseError):
    """Something else than a file: SQLite would wait for a FIFO, and take an empty device for a new database."""


class DescriptorsTaken(sqlite3.DatabaseError):
    """Users' code has closed descriptors of the database, and their numbers lead to other files now."""


def not_a_file(mode: int, beside: str = "") -> NotAFile:
    """Returns the error for what has this mode: the file itself, or one of SQLite's files *beside* it."""
    kinds = ((stat.S_ISDIR, "folder"), (stat.S_ISFIFO, "FIFO"), (stat.S_ISSOCK, "socket"))
    kind = next((name for is_kind, name in kinds if is_kind(mode)), "device")
    return NotAFile(f"{beside} beside it is a {kind}" if beside else f"it is a {kind}. Give the path of a file")


def is_busy(error: BaseException) -> bool:
    """Returns whether another connection holds a lock."""
    return code_of(error) == sqlite3.SQLITE_BUSY


def lacks_lock(error: sqlite3.Error) -> bool:
    """Returns whether a lock was not acquired: another connection holds it, or the system refused it."""
    if getattr(error, "sqlite_errorcode", 0) in LOCK_ERRORS:
        return True
    return is_busy(error) or code_of(error) == sqlite3.SQLITE_PROTOCOL


def check_locks(folder: Path) -> None:
    """Raises LocksRefused if the system acquires no locks on files of a folder.

    SQLite takes most such refusals for a lock of another process.
    """
    if fcntl is None:
        return
    import tempfile  # here, since it takes longer to import than this module

    with contextlib.suppress(OSError), tempfile.TemporaryFile(dir=folder) as file:  # it may be read-only
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise LocksRefused(f"the system does not lock files there ({error.strerror}). {NO_LOCKS}") from error


def is_unreadable(error: sqlite3.Error) -> bool:
    """Returns whether the file may hold content that can't be read."""
    return isinstance(error, UnknownFormat) or code_of(error) in UNREADABLE


def with_explanation(error: sqlite3.Error | OverflowError, path: Path) -> sqlite3.Error:
    """Returns the same error with the path, cause and advice."""
    kind = sqlite3.DataError if isinstance(error, OverflowError) else type(error)
    return kind(f"{path}: {explain(error)}")


def explain(error: sqlite3.Error | OverflowError | OSError) -> str:
    """Returns the cause of an error, and the advice."""
    _, advice = EXPLANATIONS.get(code_of(error), ("", ""))
    return cause_of(error) + (f". {advice}" if advice else "")


def cause_of(error: sqlite3.Error | OverflowError | OSError) -> str:
    """Returns the cause of an error, with SQLite's or the system's own message."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    cause, _ = EXPLANATIONS.get(code_of(error), ("", ""))
    return f"{cause} ({error})" if cause else str(error)


def code_of(error: BaseException) -> int:
    """Returns SQLite's primary result code; 0 if the error has none."""
    if isinstance(error, OverflowError):  # a value of more than 2 GB
        return sqlite3.SQLITE_TOOBIG
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
