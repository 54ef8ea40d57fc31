"""A SQLite file of ours: opened late, waited for with patience, closed before a fork."""

import contextlib
import os
import random
import sqlite3
import threading
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from dotflow import clock
from dotflow.providers.storages.atomic_file import make_folder

BUSY_TIMEOUT: Final = 5.0  # seconds that a transaction of somebody else is waited for
RETRY_DELAY: Final = 0.002  # seconds between two tries, on average

APPLICATION_ID: Final = 0x646F7466  # "dotf", in the file's header: sqlite.org/fileformat2.html, 1.3.17
FORMAT_VERSION: Final = 1  # the user version there

# How a file is opened: sqlite.org/uri.html
MODE_CREATE: Final = "rwc"
MODE_READ: Final = "rw"  # even then SQLite writes beside it
MODE_IMMUTABLE: Final = "ro&immutable=1"  # where nothing can be written: it relies on nobody changing the file

SCHEMA: Final = (
    "CREATE TABLE checkpoints (key TEXT NOT NULL PRIMARY KEY, document TEXT NOT NULL, parts BLOB)",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {FORMAT_VERSION}",
)

TOO_LARGE: Final = "the value is too large for SQLite, which takes up to 1 GB (sqlite.org/limits.html); use StorageFile"
#: What SQLite's result codes mean to whoever reads them: sqlite.org/rescode.html
EXPLANATIONS: Final[Mapping[int, str]] = {
    sqlite3.SQLITE_BUSY: "another process keeps a transaction open on it; end that one, or try again",
    sqlite3.SQLITE_CANTOPEN: "it can't be opened; it may be a folder, or be in a folder that is read-only",
    sqlite3.SQLITE_CORRUPT: "it is damaged, or was cut off",
    sqlite3.SQLITE_FULL: "the disk is full; free some space",
    sqlite3.SQLITE_IOERR: "the system could not read or write it; the disk may fail, or a quota be used up",
    sqlite3.SQLITE_NOTADB: "it is no SQLite database; move it away, or give another path",
    sqlite3.SQLITE_READONLY: "it is read-only",
    sqlite3.SQLITE_TOOBIG: TOO_LARGE,
}
#: Those that tell of what is in the file: whoever tries again will meet them again.
UNREADABLE: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR})
#: Those that tell of a place where nothing can be written.
UNWRITABLE: Final = frozenset({sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY})


class ForeignDatabase(sqlite3.DatabaseError):
    """A database that holds something else."""


class UnknownFormat(sqlite3.DatabaseError):
    """A database of checkpoints, in a format that is not known here."""


class SQLiteFile:
    """A database of checkpoints, opened when it is first needed: by one connection for all threads of a process.

    Args:
        path: Where it is.
        synchronous: How much of a commit is waited for.
    """

    def __init__(self, path: Path, synchronous: str) -> None:
        self._path, self._name = path, str(path)
        self._uri = path.as_uri()  # by it, no character of the path means anything to SQLite
        self._synchronous = synchronous
        self._connection: sqlite3.Connection | None = None
        self._file_id: tuple[int, int] | None = None
        self._process = 0
        self._mode = MODE_READ
        _files.add(self)

    def run(self, statement: str, values: tuple[Any, ...], *, create: bool = False) -> list[tuple[Any, ...]]:
        """Runs one statement, as a transaction; its rows. Without *create*, a file that isn't there is empty.

        SQLite's own waiting isn't used: it sleeps for up to 100 ms at a time, so that one of eight busy writers waits
        for more than 5 s in vain; it is skipped where a new file is turned to WAL; and Ctrl-C can't end it.
        """
        deadline: float | None = None
        while True:
            try:
                with _lock:
                    connection = self._connect(create)
                    return [] if connection is None else connection.execute(statement, values).fetchall()
            except sqlite3.OperationalError as error:
                now = clock.ticks()
                deadline = now + BUSY_TIMEOUT if deadline is None else deadline
                if _code(error) != sqlite3.SQLITE_BUSY or now > deadline:
                    raise
            time.sleep(random.uniform(0, 2 * RETRY_DELAY))

    def close(self) -> None:
        """Closes the connection, if there is one."""
        with _lock:
            connection, self._connection = self._connection, None
            if connection is not None and self._process != os.getpid():
                _inherited.append(connection)  # it is the parent's: closing it would take its files away
            elif connection is not None:
                connection.close()

    def _connect(self, create: bool) -> sqlite3.Connection | None:
        file_id = _file_id(self._name)
        is_current = self._file_id == file_id and self._process == os.getpid()
        if self._connection is None or not is_current or self._mode == MODE_IMMUTABLE:
            self.close()  # what it has open has been deleted or replaced: written there, it would be lost
            if create:
                make_folder(str(self._path.parent), synced=self._synchronous == "FULL")
                self._connection = self._open(MODE_CREATE)
            elif file_id is not None:
                self._connection = self._open_for_reading()
            self._file_id, self._process = _file_id(self._name), os.getpid()
        return self._connection

    def _open_for_reading(self) -> sqlite3.Connection | None:
        """As _open; frozen, and then for one statement only, where nothing can be written, nor is anybody writing."""
        try:
            return self._open(MODE_READ)
        except sqlite3.OperationalError as error:
            if _code(error) not in UNWRITABLE or _file_id(f"{self._name}-wal") is not None:
                raise
            with contextlib.suppress(sqlite3.OperationalError):  # then it isn't for this reason
                return self._open(MODE_IMMUTABLE)
            raise

    def _open(self, mode: str) -> sqlite3.Connection | None:
        """A connection that is ready for use; None where nothing has been saved yet and the mode doesn't create it."""
        connection = sqlite3.connect(
            f"{self._uri}?mode={mode}", uri=True, timeout=0, isolation_level=None, check_same_thread=False
        )
        try:
            connection.text_factory = bytes
            connection.execute("BEGIN")  # all that is read is then of one moment
            is_new = _is_new(connection)
            connection.execute("COMMIT")
            if is_new and mode != MODE_CREATE:
                connection.close()
                return None
            if mode != MODE_IMMUTABLE:
                connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA synchronous = {self._synchronous}")
            connection.execute("PRAGMA fullfsync = ON")  # for macOS, where fsync leaves it in the disk's own cache
            if is_new:
                connection.execute("BEGIN IMMEDIATE")
                if _is_new(connection):  # nobody was faster
                    for statement in SCHEMA:
                        connection.execute(statement)
                connection.execute("COMMIT")
        except BaseException:  # Ctrl-C too: neither the file nor a transaction stays open
            connection.close()
            raise
        self._mode = mode
        return connection


def _file_id(path: str) -> tuple[int, int] | None:
    """Which file is at the path; None where there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116 (each statement begins with it, and a Path takes longer)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_dev, status.st_ino


def _is_new(connection: sqlite3.Connection) -> bool:
    """Whether the database is empty. Raises ForeignDatabase or UnknownFormat where it is neither empty nor ours."""
    ((application,),) = connection.execute("PRAGMA application_id")
    ((version,),) = connection.execute("PRAGMA user_version")
    tables = [name.decode() for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    if application == APPLICATION_ID and version != FORMAT_VERSION:
        formats = f"format {version}; this one knows {FORMAT_VERSION}"
        raise UnknownFormat(f"it was written by another version of dotflow ({formats})")
    if application != APPLICATION_ID and (application or tables):
        table_list = f", with the tables {', '.join(tables[:5])}" if tables else ""
        raise ForeignDatabase(f"it is the database of another program{table_list}; give a path where nothing is yet")
    return not application


def is_unreadable(error: sqlite3.Error) -> bool:
    """Whether there are, or were, checkpoints in the file that can't be read, today or tomorrow."""
    return isinstance(error, UnknownFormat) or _code(error) in UNREADABLE


def with_explanation(error: sqlite3.Error | OverflowError, path: Path) -> sqlite3.Error:
    """The same error in words that help, SQLite's own at their end."""
    kind = sqlite3.DataError if isinstance(error, OverflowError) else type(error)
    return kind(f"{path}: {explanation_of(error)}")


def explanation_of(error: BaseException) -> str:
    """What an error means to whoever reads it, and in SQLite's own words."""
    explanation = TOO_LARGE if isinstance(error, OverflowError) else EXPLANATIONS.get(_code(error))
    return f"{explanation} ({error})" if explanation else str(error)


def _code(error: BaseException) -> int:
    """SQLite's primary result code; 0 where the error isn't SQLite's own."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


#: Held for each statement and for each fork. One for all files: none can be opened while the process forks.
_lock = threading.RLock()
_files: Final[weakref.WeakSet[SQLiteFile]] = weakref.WeakSet()
_inherited: Final[list[sqlite3.Connection]] = []


def _before_fork() -> None:
    """Closes what is open. A child in which SQLite remembers open files believes that it has their locks, too.

    Even with a connection of its own it would have none, and when the parent closes its, the child's write-ahead log is
    deleted with all that it commits.
    """
    _lock.acquire()
    for file in list(_files):
        file.close()


def _after_fork() -> None:
    _lock.release()


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)
