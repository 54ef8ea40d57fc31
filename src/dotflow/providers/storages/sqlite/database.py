"""SQLiteFile: a connection to a SQLite file, opened on first use, with retries, closed before a fork."""

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

BUSY_TIMEOUT: Final = 5.0  # seconds to wait for another transaction
RETRY_DELAY: Final = 0.002  # seconds between two attempts, on average

APPLICATION_ID: Final = 0x646F7466  # "dotf", in the file's header: sqlite.org/fileformat2.html, 1.3.17
FORMAT_VERSION: Final = 1  # the user version in the header

# Modes of opening: sqlite.org/uri.html
MODE_CREATE: Final = "rwc"
MODE_READ: Final = "rw"  # with WAL, reading writes beside the file, too
MODE_IMMUTABLE: Final = "ro&immutable=1"  # for read-only folders; SQLite assumes that the file does not change

SCHEMA: Final = (
    "CREATE TABLE checkpoints (key TEXT NOT NULL PRIMARY KEY, document TEXT NOT NULL, parts BLOB)",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {FORMAT_VERSION}",
)

#: Cause and advice by SQLite's result code: sqlite.org/rescode.html
EXPLANATIONS: Final[Mapping[int, tuple[str, str]]] = {
    sqlite3.SQLITE_BUSY: ("another process keeps a transaction open on it", "End that process, or try again"),
    sqlite3.SQLITE_CANTOPEN: ("it can't be opened: it may be a folder, or its folder may be read-only", ""),
    sqlite3.SQLITE_CORRUPT: ("it is damaged, or was cut off", ""),
    sqlite3.SQLITE_FULL: ("the disk is full", "Free some space"),
    sqlite3.SQLITE_IOERR: ("the system could not read or write it", "Check the disk and its quota"),
    sqlite3.SQLITE_NOTADB: ("it is not a SQLite database", "Move it away, or give another path"),
    sqlite3.SQLITE_READONLY: ("it is read-only", ""),
    sqlite3.SQLITE_TOOBIG: ("the value is larger than SQLite's limit of 1 GB", "Use StorageFile"),
}
#: Codes for the content of a file, which trying again does not change.
UNREADABLE: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR})
#: Codes for a folder that can't be written to.
UNWRITABLE: Final = frozenset({sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY})


class ForeignDatabase(sqlite3.DatabaseError):
    """The database of another program."""


class UnknownFormat(sqlite3.DatabaseError):
    """A database of checkpoints in an unknown format."""


class SQLiteFile:
    """A database of checkpoints, with one connection for all threads of a process, opened on first use.

    Args:
        path: The file.
        synchronous: SQLite's setting of that name.
    """

    def __init__(self, path: Path, synchronous: str) -> None:
        self._path, self._name = path, str(path)
        self._uri = path.as_uri()  # no character of the path is special in it
        self._synchronous = synchronous
        self._connection: sqlite3.Connection | None = None
        self._file_id: tuple[int, int] | None = None
        self._process = 0
        self._mode = MODE_READ
        _files.add(self)

    def run(self, statement: str, values: tuple[Any, ...], *, create: bool = False) -> list[tuple[Any, ...]]:
        """Runs one statement as a transaction, and returns its rows. Without *create*, a missing file is empty.

        SQLite's own busy handler is not used: it sleeps for up to 100 ms, so that one of eight busy writers waits in
        vain for more than 5 s. It is also skipped while a new file is turned to WAL, and Ctrl-C can't end it.
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
        """Closes the connection."""
        with _lock:
            connection, self._connection = self._connection, None
            if connection is not None and self._process != os.getpid():
                _inherited.append(connection)  # the parent's: closing it would delete its files
            elif connection is not None:
                connection.close()

    def _connect(self, create: bool) -> sqlite3.Connection | None:
        file_id = _file_id(self._name)
        is_current = self._file_id == file_id and self._process == os.getpid()
        if self._connection is None or not is_current or self._mode == MODE_IMMUTABLE:
            self.close()  # the open file may be deleted or replaced
            if create:
                make_folder(str(self._path.parent), synced=self._synchronous == "FULL")
                self._connection = self._open(MODE_CREATE)
            elif file_id is not None:
                self._connection = self._open_for_reading()
            self._file_id, self._process = _file_id(self._name), os.getpid()
        return self._connection

    def _open_for_reading(self) -> sqlite3.Connection | None:
        """Opens the file for reading; in a read-only folder without a log, as immutable, for one statement."""
        try:
            return self._open(MODE_READ)
        except sqlite3.OperationalError as error:
            if _code(error) not in UNWRITABLE or _file_id(f"{self._name}-wal") is not None:
                raise
            with contextlib.suppress(sqlite3.OperationalError):  # another reason, so raise the first error
                return self._open(MODE_IMMUTABLE)
            raise

    def _open(self, mode: str) -> sqlite3.Connection | None:
        """Returns a connection; None if the file is empty and the mode does not create it."""
        connection = sqlite3.connect(
            f"{self._uri}?mode={mode}", uri=True, timeout=0, isolation_level=None, check_same_thread=False
        )
        try:
            connection.text_factory = bytes
            connection.execute("BEGIN")  # for a consistent read
            is_new = _is_new(connection)
            connection.execute("COMMIT")
            if is_new and mode != MODE_CREATE:
                connection.close()
                return None
            if mode != MODE_IMMUTABLE:
                connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA synchronous = {self._synchronous}")
            connection.execute("PRAGMA fullfsync = ON")  # on macOS, fsync leaves data in the disk's cache
            if is_new:
                connection.execute("BEGIN IMMEDIATE")
                if _is_new(connection):  # no other process was faster
                    for statement in SCHEMA:
                        connection.execute(statement)
                connection.execute("COMMIT")
        except BaseException:  # Ctrl-C too
            connection.close()
            raise
        self._mode = mode
        return connection


def _file_id(path: str) -> tuple[int, int] | None:
    """Returns the identity of the file at a path; None if there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116 (each statement needs it, and a Path takes longer)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_dev, status.st_ino


def _is_new(connection: sqlite3.Connection) -> bool:
    """Returns whether the database is empty. Raises ForeignDatabase or UnknownFormat if it is not ours."""
    ((application,),) = connection.execute("PRAGMA application_id")
    ((version,),) = connection.execute("PRAGMA user_version")
    tables = [name.decode() for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    if application == APPLICATION_ID and version != FORMAT_VERSION:
        formats = f"format {version}; this one reads {FORMAT_VERSION}"
        raise UnknownFormat(f"it was written by another version of dotflow ({formats})")
    if application != APPLICATION_ID and (application or tables):
        table_list = f", with the tables {', '.join(tables[:5])}" if tables else ""
        raise ForeignDatabase(f"it is the database of another program{table_list}. Give a path where nothing is yet")
    return not application


def is_unreadable(error: sqlite3.Error) -> bool:
    """Returns whether the file may hold checkpoints that can't be read."""
    return isinstance(error, UnknownFormat) or _code(error) in UNREADABLE


def with_explanation(error: sqlite3.Error | OverflowError, path: Path) -> sqlite3.Error:
    """Returns the same error with the path, cause and advice."""
    kind = sqlite3.DataError if isinstance(error, OverflowError) else type(error)
    _, advice = EXPLANATIONS.get(_code(error), ("", ""))
    return kind(f"{path}: {cause_of(error)}" + (f". {advice}" if advice else ""))


def cause_of(error: sqlite3.Error | OverflowError) -> str:
    """Returns the cause of an error, with SQLite's own message."""
    cause, _ = EXPLANATIONS.get(_code(error), ("", ""))
    return f"{cause} ({error})" if cause else str(error)


def _code(error: BaseException) -> int:
    """Returns SQLite's primary result code; 0 if the error has none."""
    if isinstance(error, OverflowError):  # a value of more than 2 GB
        return sqlite3.SQLITE_TOOBIG
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


#: Held during each statement and each fork; one lock for all files, so that none is opened during a fork.
_lock = threading.RLock()
_files: Final[weakref.WeakSet[SQLiteFile]] = weakref.WeakSet()
_inherited: Final[list[sqlite3.Connection]] = []


def _before_fork() -> None:
    """Closes all connections: with an inherited one, SQLite in the child assumes that it holds the parent's locks.

    Even on a connection of its own, the child would then write without locks. When the parent closes its connection,
    the child's write-ahead log would be deleted with all commits in it.
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
