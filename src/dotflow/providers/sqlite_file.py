"""SQLiteFile: a connection to a SQLite file, opened on first use, with retries, closed before a fork."""

import contextlib
import itertools
import os
import re
import sqlite3
import stat
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeVar

from dotflow import clock
from dotflow.atomic_file import FILES, Files, close, sync, sync_folder
from dotflow.cpython import never_free, sqlite_without_sleep
from dotflow.own_descriptor import FileId, OwnDescriptor, file_of, have_marks, mark, open_files
from dotflow.providers.sqlite_errors import (
    UNWRITABLE,
    DescriptorsTaken,
    ForeignDatabase,
    UnknownFormat,
    check_locks,
    code_of,
    is_busy,
    lacks_lock,
    not_a_file,
)

BUSY_TIMEOUT: Final = 5.0  # seconds to wait for another transaction
#: Codes for a failure of the system. Its connection may be unusable from then on: locked, or read-only.
PASSING: Final = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY})
RENEWAL: Final = 0.25  # seconds to wait until the lock may be one of this process
RETRY_DELAY: Final = 0.002  # seconds between two attempts, on average; a transaction takes far less
FIRST_DELAY: Final = 0.0001  # the same before the second attempt; it doubles

STEPS: Final = 1_000_000  # of SQLite's virtual machine, between two looks at the limit
#: What one use of a connection may take, some 9 s: the list of 100,000 runs takes 8 million. sqlite.org/opcode.html
MAX_STEPS: Final = 500 * STEPS

TABLE: Final = re.compile(r"CREATE TABLE (?:IF NOT EXISTS )?(\w+)")
#: What has the name of a table, and how many of them are plain ones, by the text that SQLite goes by.
PLAIN: Final = """SELECT COUNT(*), TOTAL(type = 'table' AND rootpage > 0 AND sql LIKE 'CREATE TABLE ' || name || '%')
    FROM sqlite_master WHERE name COLLATE NOCASE IN ({tables})"""
#: Other triggers, virtual tables and generated columns: sqlite.org/pragma.html#pragma_table_xinfo
ACTIVE: Final = """SELECT COUNT(*) FROM sqlite_master
    WHERE (type = 'trigger' OR sql LIKE 'CREATE TRIGGER%') AND sql NOT IN ({triggers})
    OR (type = 'table' AND rootpage = 0)
    UNION ALL SELECT COUNT(*) FROM sqlite_master AS tables, pragma_table_xinfo(tables.name) AS columns
    WHERE tables.type = 'table' AND columns.hidden > 0"""

T = TypeVar("T")
Work = Callable[[Any], T]  # with the connection, of the class that the format names

# Modes of opening: sqlite.org/uri.html
MODE_CREATE: Final = "rwc"
MODE_READ: Final = "rw"  # with WAL, reading writes beside the file, too
MODE_READ_ONLY: Final = "ro"
MODE_IMMUTABLE: Final = "ro&immutable=1"  # for read-only folders; SQLite assumes that the file does not change


class DatabaseFormat(NamedTuple):
    """What stands in a database, and how it is set up.

    Attributes:
        application_id: The id in the file's header: sqlite.org/fileformat2.html, 1.3.17.
        version: The user version in the header.
        schema: The statements that set up a new database.
        upgrades: The statements that turn an older version into the next one, by that older version.
        first: The statements that SQLite needs before anything else in a new file.
        settings: The statements for each connection.
        text_factory: What a text is read as: str, bytes, or what this returns for its bytes.
        oldest: The oldest version that can be read without an upgrade; by default the present one.
        factory: The class of its connections.
    """

    application_id: int
    version: int
    schema: Sequence[str]
    upgrades: Mapping[int, Sequence[str]] = MappingProxyType({})
    first: Sequence[str] = ()
    settings: Sequence[str] = ()
    text_factory: Callable[[bytes], Any] = str
    oldest: int | None = None
    factory: type[sqlite3.Connection] = sqlite3.Connection

    def check(self, connection: sqlite3.Connection, version: int) -> None:
        """Raises ForeignDatabase unless all that is read and written is plain tables, in which nothing is computed."""
        tables = TABLE.findall("\n".join(self.schema))
        triggers = [statement for statement in self.schema if statement.startswith("CREATE TRIGGER")]
        ((count, plain),) = connection.execute(PLAIN.format(tables=_marks(tables)), tables)
        if count != plain or (version == self.version and count != len(tables)):
            raise ForeignDatabase("it is damaged, or dotflow did not make it: one of its tables is missing, or is none")
        if any(count for (count,) in connection.execute(ACTIVE.format(triggers=_marks(triggers)), triggers)):
            raise ForeignDatabase("dotflow did not make it: it has a trigger, a virtual table or a generated column")


class SQLiteFile:
    """A database, with one connection for all threads of a process, opened on first use.

    Args:
        path: The file.
        file_format: What stands in it.
        synchronous: SQLite's setting of that name. With "NORMAL" and WAL, a commit survives the end of the process,
            kill -9 included; a power cut may lose the last ones. sqlite.org/pragma.html#pragma_synchronous
        files: Makes the file.
        read_only: Whether the connection only reads.
        is_synced: Whether `transact` returns when its commit is on the disk. It waits for the disk after the commit,
            without any lock: SQLite itself would keep all other writers waiting, and this the other files, too.

    Attributes:
        sync_error: Why a commit may not be on the disk; None if all are. What was not written once may be lost, even
            if a later attempt succeeds: wiki.postgresql.org/wiki/Fsync_Errors.
        openings: How often another file was opened: more than one after the file was deleted or replaced.
        connections: The number of connections so far, without those of a read-only folder.
    """

    def __init__(
        self,
        path: Path,
        file_format: DatabaseFormat,
        *,
        synchronous: str = "NORMAL",
        files: Files = FILES,
        read_only: bool = False,
        is_synced: bool = False,
    ) -> None:
        self._is_synced = is_synced
        self._synced_connection = 0  # the number of the one since which the folder was synced
        self.sync_error: OSError | None = None
        self._format = file_format
        self.files = files
        self.openings = self.connections = 0
        self._path, self._name = path, str(path)
        self._uri = uri_of(path)
        self._synchronous = synchronous
        self._connection: sqlite3.Connection | None = None
        self._file_id: FileId | None = None
        self._descriptors: dict[str, OwnDescriptor] = {}  # of the connection, by path
        self._numbers: list[int] = []  # of these
        self._marks: list[int] = []  # and their marks
        self._process = 0
        self._is_checked = False  # whether the open file may be written to
        self._reading = MODE_READ_ONLY if read_only else MODE_READ
        self._mode = self._reading
        _files.add(self)

    def run(
        self,
        statement: str,
        values: Sequence[Any] | Mapping[str, Any],
        *,
        create: bool = False,
        patience: float | None = None,
        opening: int | None = None,
    ) -> list[tuple[Any, ...]]:
        """Runs one statement as a transaction, and returns its rows. Without *create*, a missing file is empty.

        With *opening*, it does nothing in another file than that of this opening.
        """
        try:
            with _lock:  # without the calls of `use`, which take time, and within the limit of its last one
                connection = self._connection if self._is_usable(create) else self._connect(create)
                if connection is None or opening not in (None, self.openings):
                    return []
                return connection.execute(statement, values).fetchall()
        except sqlite3.OperationalError:
            pass

        def work(connection: sqlite3.Connection) -> list[tuple[Any, ...]]:
            return connection.execute(statement, values).fetchall() if opening in (None, self.openings) else []

        return self.use(work, [], create, patience)

    def transact(self, work: Work[T], *, patience: float | None = None, durable: bool = True) -> T:
        """Calls *work* with the connection in a transaction with the write lock, which an exception undoes.

        Where the file is synced, *durable* is whether this commit is; if not, the next one takes it to the disk.
        """

        log = -1

        def guarded(connection: sqlite3.Connection) -> T:
            nonlocal log
            try:
                connection.execute("BEGIN IMMEDIATE")
                if self._is_synced and durable:  # before anything is written, since there may be no descriptor left
                    log = os.open(f"{self._name}-wal", os.O_RDWR)
                before = connection.total_changes
                result = work(connection)
                connection.execute("COMMIT")
                if log >= 0 and connection.total_changes == before:
                    os.close(log)
                    log = -1
            except BaseException:  # Ctrl-C too
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                if log >= 0:
                    os.close(log)
                    log = -1
                raise
            return result

        result: T = self.use(guarded, None, True, patience)  # type: ignore[assignment]
        if log >= 0:
            try:
                sync(log)
                if self._synced_connection != self.connections:  # it may have made the log
                    sync_folder(str(self._path.parent))
                    self._synced_connection = self.connections
            except OSError as error:
                self.sync_error = error
                raise
            finally:
                os.close(log)
        return result

    def use(self, work: Work[T], missing: T, create: bool, patience: float | None = None) -> T:
        """Calls *work* with the connection, again and again while another process writes.

        SQLite's own busy handler is not used: it sleeps for up to 100 ms, so that one of eight busy writers waits in
        vain for more than 5 s. It is also skipped while a new file is turned to WAL, and Ctrl-C can't end it. Nor are
        SQLite's sleeps where the system refuses a lock, which take 10 s.

        Args:
            work: It may be called several times.
            missing: The result if there is no file, and *create* is False.
            create: Whether to make a missing file.
            patience: Seconds to wait for another transaction; BUSY_TIMEOUT unless given.
        """
        began: float | None = None
        is_renewed = False
        delay = FIRST_DELAY
        while True:
            try:
                with _lock:
                    connection = self._connect(create)
                    if connection is None:
                        return missing
                    limit_steps(connection)
                    return work(connection)
            except sqlite3.OperationalError as error:
                now = clock.ticks()
                began = now if began is None else began
                if not lacks_lock(error):
                    if code_of(error) in PASSING:
                        self._renew()
                    raise
                if not is_renewed and now - began > RENEWAL:
                    is_renewed = True
                    self._renew()
                    check_locks(self._path.parent)
                limit = BUSY_TIMEOUT if patience is None else patience
                if not is_busy(error):  # locks fail, and no other process has to end anything
                    limit = min(limit, 2 * RENEWAL)
                if now - began + delay > limit:
                    raise
            time.sleep(2 * delay * os.urandom(1)[0] / 255)  # a fork might interrupt the import of `random`
            delay = min(2 * delay, RETRY_DELAY)

    def close(self) -> None:
        """Closes the connection."""
        with _lock:
            if self._connection is None:
                return
            is_own = self._process == os.getpid()
            can_close = is_own and self._own_all()
            connection, self._connection, self._descriptors = self._connection, None, {}
            if can_close:
                connection.close()
            elif is_own:  # SQLite would read, write and close what its numbers lead to now
                never_free(connection)
                _taken.add(self._file_id)
            else:
                _inherited.append(connection)  # the parent's: closing it would delete its files

    def _own_all(self) -> bool:
        """Opens the descriptors again that a step has closed. Returns False where another file has one of them."""
        flags = os.O_RDWR if self._mode in (MODE_CREATE, MODE_READ) else os.O_RDONLY
        try:
            return all(own.is_open() or own.open_again(path, flags) for path, own in self._descriptors.items())
        except OSError:  # the file was deleted, too
            return False

    def is_cut_off(self) -> bool:
        """Returns whether the file was emptied, or one of the open files deleted or replaced.

        SQLite goes on in its log then, which no other process finds.
        """
        with _lock:
            if any(file_of(path) != own.file for path, own in self._descriptors.items()):
                return True
            try:
                return self._connection is not None and not self._path.stat().st_size
            except OSError:
                return True

    def _renew(self) -> None:
        """Closes this process's connections to the file: a lock that it could not release ends with the last one."""
        with _lock:
            for file in list(_files):
                if file._name == self._name:
                    file.close()

    def _is_usable(self, create: bool) -> bool:
        """Returns whether the connection can be used as it is: what `_connect` finds out, in less time."""
        if self._connection is None or self._process != os.getpid() or (create and not self._is_checked):
            return False
        try:
            is_same = os.stat(self._name)[1:3] == self._file_id  # noqa: PTH116 (as in file_id_of)
        except OSError:
            return False
        return is_same and have_marks(self._numbers, self._marks)

    def _connect(self, create: bool) -> sqlite3.Connection | None:
        file_id = file_id_of(self._name)
        is_current = self._file_id == file_id and self._process == os.getpid()
        for own in self._descriptors.values():
            if not own.is_open():  # a step has closed it: all are closed, so that none takes the numbers of another one
                for file in list(_files):
                    file.close()
                break
        if self._connection is None or not is_current or self._mode == MODE_IMMUTABLE:
            self.close()  # the open file may be deleted or replaced
            if file_id in _taken:  # SQLite shares some descriptors of a file with its next connection
                raise DescriptorsTaken("a step has closed its descriptors, and opened other files in their place")
            self._is_checked = create
            if create:
                self.files.make_folder(str(self._path.parent), synced=self._is_synced or self._synchronous == "FULL")
                self._make_file()
                self._connection = self._open(MODE_CREATE)
            elif file_id is not None:
                self._connection = self._open_for_reading()
            before, self._file_id, self._process = self._file_id, file_id_of(self._name), os.getpid()
            self.openings += file_id is None or self._file_id != before  # the number of a deleted one may come again
        if create and not self._is_checked:  # it was opened for reading
            self.check_private()
            self._is_checked = True
        return self._connection

    def check_private(self) -> None:
        """Checks the file, and those that SQLite has beside it, before a write."""
        self.files.check_private(str(self._path.parent), is_named=True)
        for suffix in ("", "-wal", "-shm"):
            self.files.check_private(f"{self._name}{suffix}")

    def _make_file(self) -> None:
        """Makes an empty file; the permissions of SQLite's other files follow it."""
        self.check_private()
        with contextlib.suppress(FileExistsError, NotADirectoryError):  # SQLite has an error for the latter
            close(self.files.create(os.path.realpath(self._name)))

    def _open_for_reading(self) -> sqlite3.Connection | None:
        """Opens the file for reading; in a read-only folder without a log, as immutable, for one statement."""
        try:
            return self._open(self._reading)
        except sqlite3.OperationalError as error:
            if code_of(error) not in UNWRITABLE or file_id_of(f"{self._name}-wal") is not None:
                raise
            with contextlib.suppress(sqlite3.OperationalError):  # another reason, so raise the first error
                return self._open(MODE_IMMUTABLE)
            raise

    def _open(self, mode: str) -> sqlite3.Connection | None:
        """Returns a connection; None if the file is empty and the mode does not create it."""
        vfs = sqlite_without_sleep()
        uri = f"{self._uri}?mode={mode}{vfs and f'&vfs={vfs}'}"
        check_beside(self._path)
        before = dict(open_files())
        settings: dict[str, Any] = {"uri": True, "timeout": 0, "isolation_level": None, "check_same_thread": False}
        connection = sqlite3.connect(uri, **settings, factory=self._format.factory)
        try:
            protect(connection)
            connection.text_factory = self._format.text_factory
            connection.execute("BEGIN")  # for a consistent read
            version = version_of(connection, self._format)
            connection.execute("COMMIT")
            if not version and mode != MODE_CREATE:
                connection.close()
                return None
            if version < (self._format.oldest or self._format.version) and mode in (MODE_READ_ONLY, MODE_IMMUTABLE):
                raise UnknownFormat(f"it was written by an earlier dotflow (format {version}), and is read-only here")
            if mode == MODE_READ_ONLY:
                connection.execute("PRAGMA query_only = ON")
            else:
                self._set_options(connection, version, mode)
            paths = {file_id_of(path): path for path in (self._name, f"{self._name}-wal", f"{self._name}-shm")}
            opened = [number for number, file in open_files() if file in paths and before.get(number) != file]
            self._descriptors = {paths[own.file]: own for own in map(OwnDescriptor, opened)}
            self._numbers = [own.number for own in self._descriptors.values()]
            self._marks = [*map(mark, self._numbers)] if mode != MODE_IMMUTABLE else [-1]
        except BaseException:  # Ctrl-C too
            connection.close()
            raise
        self._mode = mode
        self.connections += mode != MODE_IMMUTABLE
        return connection

    def _set_options(self, connection: sqlite3.Connection, version: int, mode: str) -> None:
        (journal,) = connection.execute("PRAGMA journal_mode").fetchone()
        for statement in self._format.first if not version and journal != "wal" else ():  # a kill leaves it empty
            connection.execute(statement)
        if mode != MODE_IMMUTABLE:
            connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        connection.execute("PRAGMA fullfsync = ON")  # on macOS, fsync leaves data in the disk's cache
        for statement in self._format.settings:
            connection.execute(statement)
        if version < self._format.version and mode != MODE_IMMUTABLE:
            self._set_up(connection)

    def _set_up(self, connection: sqlite3.Connection) -> None:
        """Sets up a new database, or upgrades an older one, unless another process was faster."""
        connection.execute("BEGIN IMMEDIATE")
        version = version_of(connection, self._format)
        if not version:
            for statement in self._format.schema:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {self._format.application_id}")
        for older in range(version or self._format.version, self._format.version):
            for statement in self._format.upgrades[older]:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {self._format.version}")
        connection.execute("COMMIT")


@contextlib.contextmanager
def opening() -> Iterator[None]:
    """Lets another connection be opened: no SQLiteFile of this process takes its descriptors for its own meanwhile."""
    with _lock:
        yield


def uri_of(path: Path) -> str:
    """Returns the URI of an absolute path, without the characters that end a path: sqlite.org/uri.html."""
    text = path.as_posix().replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    return f"file://{'' if text.startswith('/') else '/'}{text}"  # a drive needs a slash before it


def file_id_of(path: str) -> FileId | None:
    """Returns the identity of the file at a path; None if there is none. Raises NotAFile."""
    try:
        status = os.stat(path)  # noqa: PTH116 (each statement needs it, and a Path takes longer)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISREG(status.st_mode):
        raise not_a_file(status.st_mode)
    return status[1:3]


def check_beside(path: Path) -> None:
    """Raises NotAFile unless what SQLite opens beside a database are files: it would wait for a FIFO."""
    for suffix in ("-wal", "-shm", "-journal"):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            beside = path.with_name(path.name + suffix)
            if not stat.S_ISREG(mode := beside.stat().st_mode):
                raise not_a_file(mode, beside.name)


def protect(connection: sqlite3.Connection) -> None:
    """Keeps a file that another person made from running functions through its schema, or for ever."""
    connection.execute("PRAGMA trusted_schema = OFF")
    limit_steps(connection)


def limit_steps(connection: sqlite3.Connection) -> None:
    """Ends what takes more than MAX_STEPS from now on, with SQLITE_INTERRUPT."""
    # Written in C, since Ctrl-C in a callback in Python would be lost.
    is_over = itertools.chain(itertools.repeat(0, MAX_STEPS // STEPS), itertools.repeat(1)).__next__
    connection.set_progress_handler(is_over, STEPS)


def version_of(connection: sqlite3.Connection, expected: DatabaseFormat) -> int:
    """Returns the version of the database, 0 if it is empty. Raises ForeignDatabase or UnknownFormat."""
    ((application,),) = connection.execute("PRAGMA application_id")
    ((version,),) = connection.execute("PRAGMA user_version")
    if application == expected.application_id:
        if version != expected.version and version not in expected.upgrades:
            formats = f"format {version}; this one reads {expected.version}"
            raise UnknownFormat(f"it was written by another version of dotflow ({formats})")
        expected.check(connection, version)
        return int(version)
    names = connection.execute("SELECT CAST(name AS BLOB) FROM sqlite_master WHERE type = 'table'")
    tables = [name.decode(errors="replace") for (name,) in names]
    if application or tables:
        table_list = f", with the tables {', '.join(tables[:5])}" if tables else ""
        raise ForeignDatabase(f"it is the database of another program{table_list}. Give a path where nothing is yet")
    return 0


def _marks(values: Sequence[str]) -> str:
    return ", ".join("?" * len(values))


#: Held during each statement and each fork; one lock for all files, so that none is opened during a fork.
_lock = threading.RLock()
_files: Final[weakref.WeakSet[SQLiteFile]] = weakref.WeakSet()
_inherited: Final[list[sqlite3.Connection]] = []
_taken: Final[set[FileId | None]] = set()  # files whose connection can be neither used nor closed


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
