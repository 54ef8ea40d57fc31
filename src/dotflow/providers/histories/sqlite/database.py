"""SQLiteDatabase: a history file, its live file, and what a server looks at."""

import contextlib
import sqlite3
import weakref
from collections.abc import Callable, Hashable, Iterator, Mapping
from pathlib import Path
from types import NoneType
from typing import Any, Final, TypeVar

from dotflow import clock
from dotflow.atomic_file import Files
from dotflow.core.text import shorten
from dotflow.errors import DotflowError, HistoryError, NotServable
from dotflow.providers.histories.sql.crashed import find_ended
from dotflow.providers.histories.sql.database import (
    CLAIMS,
    FORGED,
    Connection,
    Database,
    SQLiteConnection,
    Values,
    Watch,
    without_runs,
)
from dotflow.providers.histories.sql.reading import find_served
from dotflow.providers.histories.sql.tables import micro
from dotflow.providers.histories.sqlite.damage import DAMAGES
from dotflow.providers.histories.sqlite.formats import FORMAT, MISSING, QUEUE_FORMAT
from dotflow.providers.histories.sqlite.live import Live
from dotflow.providers.sqlite_errors import UNWRITABLE, cause_of, code_of
from dotflow.providers.sqlite_file import (
    SQLiteFile,
    check_beside,
    file_id_of,
    opening,
    protect,
    uri_of,
    version_of,
)

T = TypeVar("T")

TIMEOUT: Final = 5.0  # seconds to wait for a process that recovers the file after a crash
#: Types -> the columns with values of them. In SQLite each value has a type of its own.
COLUMNS: Final[Mapping[tuple[type, ...], str]] = {
    (str,): """run_id workflow_id step exception message traceback role text paused_by
        spec note noted what""",
    (str, NoneType): """id name reason mode trigger error process storage trace identity code task_group needs policy
        glimpse fallback span input refusal digest why parent_run workflow params origin continues superseded key
        server rerun schedule schedules last_dropped paused_comment by_whom comment waits call arguments""",
    (int,): """run task item attempt seq at stream settled dropped nth number depth call_state of_attempt total
        period newest amount refused seconds since""",
    (int, NoneType): """began ended took cpu peak worker items size retry_in tasks completed failed restored skipped
        resumed parent_task parent_item parent_attempt plan environment lane submitted begun due priority
        alarmed seen planned paused_at resumed_at looked_at until answer answered asked round sent""",
    (bytes,): "data",
    (bytes, NoneType): "document",
}
TYPES: Final = {name: types for types, names in COLUMNS.items() for name in names.split()}


class SQLiteDatabase(Database):
    """A history file. The queue has a connection of its own, which waits until the disk has each of its commits.

    Those of events are not synced, and wait for no disk.

    Args:
        path: The file.
        files: Makes it.

    Attributes:
        file: The connection of events.
        queue: That of the queue.
        watched: One that only reads, for the number of commits.
        is_damaged: Whether the queue has found the file damaged.
    """

    def __init__(self, path: Path, files: Files) -> None:
        self.path = path
        self.store: Hashable = ("sqlite", str(path))
        self.presence: Live = Live(path, files)
        self.file = SQLiteFile(path, FORMAT, files=files)
        self.queue = SQLiteFile(path, FORMAT, files=files, is_synced=True)
        self.watched = SQLiteFile(path, FORMAT, read_only=True)
        self.is_damaged = False
        for file in (self.file, self.queue, self.watched):
            weakref.finalize(self, file.close)

    @property
    def place(self) -> str:
        return short_path(self.path)

    def close(self) -> None:
        """Closes the connections. The next use opens them again."""
        for file in (self.file, self.queue, self.watched):
            file.close()

    def transact(self, work: Callable[[Connection], T], lock: str | None = CLAIMS, *, durable: bool = True) -> T:
        with self.using():
            return self.queue.transact(work, durable=durable)

    def erase(self, work: Callable[[Connection], T], lock: str | None = CLAIMS) -> T:
        self.run("PRAGMA secure_delete = ON")
        result = self.transact(work, lock)
        self.run("PRAGMA wal_checkpoint(TRUNCATE)")  # beside a reader it does nothing: the log is overwritten later
        return result

    def now(self) -> int:
        return micro(clock.now())

    def run(self, statement: str, values: Values = ()) -> list[Any]:
        with self.using():
            return self.queue.run(statement, values)

    @contextlib.contextmanager
    def using(self) -> Iterator[None]:
        """Turns errors of the file into HistoryError, and notices that it is damaged."""
        with errors_of(self.path, "used"):
            try:
                yield
            except sqlite3.Error as error:
                self.is_damaged = self.is_damaged or code_of(error) in DAMAGES
                raise

    @contextlib.contextmanager
    def reading(self) -> Iterator[SQLiteConnection]:
        with errors_of(self.path), contextlib.closing(_open(self.path) or without_runs()) as connection:
            yield connection

    def freeze(self, connection: Connection) -> None:
        connection.execute("BEGIN")

    def watch(self) -> Watch:
        return SQLiteWatch(self)

    def revision(self) -> str:
        """Returns a text that changes with each commit of others, and with the death of a process that matters.

        It is "" if there is no history. SQLite counts the commits for a connection that stays open.
        """

        def work(connection: Connection) -> tuple[object, ...]:
            ((version,),) = connection.execute("PRAGMA data_version")
            ((written,),) = connection.execute("PRAGMA user_version")
            served = find_served(connection, self.presence) if written >= QUEUE_FORMAT else ()
            return version, *find_ended(connection, self.presence), *sorted(served)

        with errors_of(self.path):
            facts = self.watched.use(work, None, False)
            if facts is None:
                return ""
            # The time is for read-only folders, where SQLite does not look for changes.
            changed = self.path.stat().st_mtime_ns if self.path.exists() else 0
            return "-".join(map(str, (self.watched.connections, changed, *facts)))


class SQLiteWatch(Watch):
    """What a server looks at: the counter of commits, and whether the files are still those of its start."""

    def __init__(self, database: SQLiteDatabase) -> None:
        self._database = database
        self._file = SQLiteFile(database.path, FORMAT, read_only=True)
        weakref.finalize(self, self._file.close)
        self._seen: object = None
        lock = database.presence.hold()
        if lock is None:
            reason = "it can't show whether a process lives: this needs POSIX locks and a folder of this user's own"
            raise NotServable(f"The history {database.place} has no queue", reason)
        self._lock = lock
        # What ended a server before: its file may be mended.
        database.is_damaged, database.queue.sync_error = False, None
        self._files: tuple[object, ...] = ()

    def _file_ids(self) -> tuple[object, ...]:
        return file_id_of(str(self._database.path)), self._database.presence.file_id()

    @property
    def lock(self) -> int:
        return self._lock

    def begin(self) -> None:
        self._files = self._file_ids()

    def check(self) -> None:
        unknown = "so the runs of other processes are unknown"
        database = self._database
        if self._file_ids() != self._files:
            reason = f"it was deleted or replaced while it was served, {unknown}. Start the server again"
        elif database.queue.is_cut_off():
            reason = f"it was emptied, or its log was deleted, while it was served, {unknown}. Start the server again"
        elif database.is_damaged:
            reason = f"it is damaged, {unknown}. Restore it or move it away, then start the server again"
        elif (error := database.queue.sync_error) is not None:
            reason = f"the disk may have lost what was written: {error.strerror}. Check it, then start the server again"
        else:
            return
        raise HistoryError(f"The history {database.place} can't be used", reason)

    def has_news(self, *, at_once: bool = False) -> bool:
        try:
            with self._database.using():
                version = self._file.run("PRAGMA data_version", ())
        except HistoryError:
            self.check()  # has better words
            raise
        seen = (self._file.connections, version)
        is_new, self._seen = seen != self._seen, seen
        return is_new

    def renew(self) -> None:
        self._database.presence.hold(self._lock)
        self._database.run("PRAGMA shrink_memory")  # reads the file, and not what SQLite knows of it

    def close(self) -> None:
        self._database.presence.release(self._lock)
        self._file.close()


@contextlib.contextmanager
def errors_of(path: Path, verb: str = "read") -> Iterator[None]:
    """Turns the errors of the file, and those of what it holds, into HistoryError."""
    try:
        yield
    except DotflowError:
        raise
    except (sqlite3.Error, OSError) as error:
        raise HistoryError(f"The history {short_path(path)} can't be {verb}", shorten(cause_of(error))) from error
    except FORGED as error:
        import traceback  # here, since it takes longer to import than this module

        traceback.clear_frames(error.__traceback__)  # a cursor in them would keep a closed connection's lock
        cause = shorten(f"it is damaged, or dotflow did not write it ({type(error).__name__}: {error})")
        raise HistoryError(f"The history {short_path(path)} can't be {verb}", cause) from error


def check_types(cursor: sqlite3.Cursor, row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Returns the first row of a statement, with the types of its columns; the others are checked, too.

    A column of SQLite takes values of any type. Raises TypeError.
    """
    names = [description[0] for description in cursor.description]
    known: set[tuple[type, ...]] = set()

    def check(cursor: sqlite3.Cursor, row: tuple[Any, ...]) -> tuple[Any, ...]:
        types = tuple(map(type, row))
        if types not in known:
            for name, kind in zip(names, types, strict=True):
                if name in TYPES and kind not in TYPES[name]:
                    raise TypeError(f"the column '{name}' has a value of the type {kind.__name__}")
            known.add(types)
        return row

    cursor.row_factory = check
    return check(cursor, row)


def short_path(path: Path) -> str:
    """Returns the path as it is seen from the current folder."""
    with contextlib.suppress(OSError, ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


def _open(path: Path) -> SQLiteConnection | None:
    """Opens the file; returns None if it does not exist, or is empty."""
    if file_id_of(str(path)) is None:
        return None
    try:
        return _connect(path, "ro")
    except sqlite3.OperationalError as error:
        # A read-only folder: SQLite can't make the files beside it, and needs none if they are not there.
        if code_of(error) not in UNWRITABLE or path.with_name(f"{path.name}-wal").exists():
            raise
        return _connect(path, "ro&immutable=1")


def _connect(path: Path, mode: str) -> SQLiteConnection | None:
    check_beside(path)
    uri = f"{uri_of(path)}?mode={mode}"
    connection = sqlite3.connect(uri, uri=True, timeout=TIMEOUT, isolation_level=None, factory=SQLiteConnection)
    try:
        protect(connection)
        connection.row_factory = check_types
        with opening():
            connection.execute("SELECT 1 FROM sqlite_master").fetchall()  # opens the file
        version = version_of(connection, FORMAT)
        connection.execute("PRAGMA temp_store = MEMORY")
        for older in range(version or FORMAT.version, FORMAT.version):
            for statement in MISSING[older]:
                connection.execute(statement)
        connection.execute("PRAGMA query_only = ON")
    except BaseException:  # Ctrl-C too
        connection.close()
        raise
    if version:
        return connection
    connection.close()
    return None
