"""Connections to a schema with the tables of a history, each for one use."""

import contextlib
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, TypeVar

from dotflow import clock
from dotflow.abc.operations import HistoryReplaced
from dotflow.errors import HistoryError
from dotflow.providers.histories.postgres.dialect import (
    FORMAT,
    as_batch,
    lock_key,
    schema_statements,
    translate,
    upgrade_statements,
)
from dotflow.providers.histories.sql.database import CLAIMS, AnswerLost, Cursor, Values
from dotflow.providers.histories.sql.tables import MICRO, micro
from dotflow.providers.postgres.connection import abandon, close, connect
from dotflow.providers.postgres.dsn import Dsn
from dotflow.providers.postgres.errors import STATEMENT_MODE, explain, is_transient, state_of
from dotflow.providers.postgres.watchdog import Watched

T = TypeVar("T")

PATIENCE: Final = 15.0  # seconds that a call tries again while the server is away, and that one answer may take
RETRY_DELAYS: Final = (0.0, 0.0, 0.05, 0.2, 0.5, 1.0)  # seconds before each retry; the last one repeats
#: Where the DSN sets none. By libpq's own, a host that is gone takes hours.
DEFAULTS: Final[Mapping[str, str]] = {"connect_timeout": "5", "tcp_user_timeout": "15000"}

#: The first message of a transaction. What relies on the lock follows in others: they see what was committed before.
BEGIN: Final = """BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
SET LOCAL statement_timeout = '10s'; SET LOCAL lock_timeout = '10s';
SET LOCAL idle_in_transaction_session_timeout = '5s';
"""
SYNCED: Final = """SELECT set_config('synchronous_commit', 'on', true)
    WHERE current_setting('synchronous_commit') IN ('off', 'local', 'remote_write');
"""
NOT_SYNCED: Final = "SET LOCAL synchronous_commit = off;\n"
LOCK: Final = "SELECT pg_advisory_xact_lock({}, {});\n"
NOW: Final = "SELECT (EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::BIGINT"
TRY_LOCK: Final = "SELECT pg_try_advisory_xact_lock(%s::INTEGER, %s::INTEGER)"
SHARE: Final = "SELECT pg_advisory_xact_lock_shared(%s::INTEGER, %s::INTEGER)"
#: What several runs share is found and used under this lock, and deleted by those that have it alone.
SHARED: Final = "\0shared"
FREEZE: Final = """BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = '10s';
SET LOCAL idle_in_transaction_session_timeout = '60s'"""

IDENTITY: Final = 'SELECT id, format, read_from, write_from FROM "{}".meta'
HAS_META: Final = "SELECT to_regclass(%s) IS NOT NULL"
HAS_SCHEMA: Final = "SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = %s)"

#: Statements that wait for others, and rows of one, so that a call takes a short time.
MAX_WAITING: Final = 100

REPLACED: Final = "it is another history than at the start. Start the program again"
MISSING: Final = frozenset({"42P01", "3F000"})  # undefined_table, invalid_schema_name
FOREIGN: Final = frozenset({"42703", "42804"})  # undefined_column, datatype_mismatch
DATA: Final = "22"  # the class of data exceptions
#: What passes, beside what `is_transient` knows: lock_not_available; unique_violation, where another transaction has
#: written the same row just before: the next attempt finds it.
PASSING: Final = frozenset({"55P03", "23505"})

#: Of a server that is no longer the primary: read_only_sql_transaction, and feature_not_supported, which a standby
#: gives to BEGIN READ WRITE.
READ_ONLY: Final = frozenset({"25006", "0A000"})
ON_PRIMARY: Final = "It is read-only: connect to the primary, or name all hosts"

#: By SQLSTATE: www.postgresql.org/docs/current/errcodes-appendix.html
ADVICE: Final[Mapping[str, str]] = {
    "22P05": "Create a database with the encoding UTF8, which can hold every text",
    **dict.fromkeys(READ_ONLY, ON_PRIMARY),
    "42501": "Grant the role USAGE on the schema and SELECT, INSERT, UPDATE and DELETE on its tables. Without the "
    "right to create the schema, its owner runs what `dotflow history upgrade --sql` prints",
    STATEMENT_MODE: "It can't be used behind a pooler in statement mode: use session or transaction mode",
    "42P01": "Its tables were dropped while they were in use. Start again",
    "53100": "Free some space on the server's disk",
    "53300": "Raise the server's limit of connections, or close some",
    "54000": "A name or a key is too long for an index: shorten it",
    "57014": "The server is too busy, or the timeout of this role is too short",
}
AWAY: Final = "It is tried again until the server is back"


class PostgresFailed(HistoryError):
    """A statement or a connection failed.

    Attributes:
        state: The SQLSTATE; "" for none.
        is_passing: Whether it may succeed later, on another connection.
    """

    state: str = ""
    is_passing: bool = False


class OldFormat(HistoryError):
    """The tables have an older format, which is written there."""

    written: int = 0


class LaterCursor:
    """The rows of a statement, which is sent when they are asked for.

    Args:
        send: Sends it, with those before it.
        cursor: The psycopg.Cursor that has its rows then.
    """

    def __init__(self, send: Callable[[], None], cursor: Any) -> None:
        self._send, self._cursor = send, cursor

    def __getattr__(self, name: str) -> Any:
        self._send()
        return getattr(self._cursor, name)

    def __iter__(self) -> Iterator[Any]:
        self._send()
        return iter(self._cursor)


class PostgresConnection:
    """A connection in use, for statements of the common SQL. It is one of the common contract.

    Attributes:
        now: The moment by the clock of the database, in microseconds since 1970, read once the transaction had its
            locks.
    """

    def __init__(self, link: "Link", raw: Any, watched: Watched) -> None:
        self._link, self.raw, self._watched = link, raw, watched
        self.now = 0  # until there is a transaction
        self._is_begun = False  # a transaction that writes
        self._waiting: list[tuple[Any, bytes, Any]] = []  # statements that are not sent yet, in their order

    def execute(self, statement: str, values: Values = (), /) -> Cursor:
        return self._later(translate(statement, self._link.schema.name), values)

    def executemany(self, statement: str, rows: Iterable[Values], /) -> None:
        batch, rows = as_batch(statement, self._link.schema.name), [*rows]
        if batch is None:
            for row in rows:
                self.execute(statement, row)
            return
        for start in range(0, len(rows), MAX_WAITING):
            part = rows[start : start + MAX_WAITING]
            self._later(batch.text, batch.columns_of(part))
            if len(part) == MAX_WAITING:
                self._send()

    def _later(self, text: bytes, values: Any) -> Cursor:
        """Returns the rows of a statement. In a transaction it is sent when they are asked for, with those before."""
        cursor = self.raw.cursor()
        self._waiting.append((cursor, text, values))
        if not self._is_begun or len(self._waiting) >= MAX_WAITING:
            self._send()
        return LaterCursor(self._send, cursor)

    def _send(self) -> None:
        """Sends what waits, in one message."""
        if self._waiting:
            waiting = [*self._waiting]
            self._waiting.clear()
            self.call(lambda: _execute(self.raw, waiting))

    def commit(self) -> None:
        """Ends the transaction, in one message with what waits."""
        self._later(b"COMMIT", ())
        self._send()
        self._is_begun = False

    def rollback(self) -> None:
        """Ends the transaction without what it has done, and what waits."""
        self._waiting.clear()
        self._is_begun = False
        self.native("ROLLBACK")

    def native(self, text: str, values: Any = None) -> Any:
        """Executes SQL of Postgres: several statements where there are no values. Returns the cursor of the last."""
        if values is not None:
            return self._later(text.encode(), values)
        self._send()

        def run() -> Any:
            cursor = self.raw.execute(text.encode())
            while cursor.nextset():
                pass
            return cursor

        return self.call(run)

    def lock(self, names: Iterable[str], /) -> None:
        if keys := sorted({lock_key(name) for name in names}):
            locks = (LOCK.format(self._link.schema.lock, key) for key in keys)
            self._look_at_clock("".join((*locks, NOW)))

    def try_lock(self, name: str, /) -> Cursor:
        return self.native(TRY_LOCK, (self._link.schema.lock, lock_key(name)))  # type: ignore[no-any-return]

    def share(self, lock: str) -> None:
        """Takes a lock for the rest of the transaction, which others may share, but none has for itself alone."""
        self.native(SHARE, (self._link.schema.lock, lock_key(lock)))

    def begin(self, lock: str | None, *, durable: bool) -> None:
        """Begins a transaction, and waits for a lock."""
        parts = [BEGIN, SYNCED if durable else NOT_SYNCED]
        if lock is not None:
            parts.append(LOCK.format(self._link.schema.lock, 0 if lock == CLAIMS else lock_key(lock)))
        self._look_at_clock("".join((*parts, NOW)))
        self._is_begun = True

    def freeze(self) -> None:
        """Begins a transaction that only reads, and sees one state."""
        self._look_at_clock(f"{FREEZE}; {NOW}")

    def _look_at_clock(self, text: str) -> None:
        """Executes statements of which the last one is NOW."""
        self._link.schema.note_clock(self.native(text).fetchone()[0])
        self.now = self._link.schema.now()

    def call(self, work: Callable[[], T]) -> T:
        """Calls what waits for the server. Raises PostgresFailed."""
        from psycopg import Error

        try:
            with self._watched:
                return work()
        except Error as error:
            failed = self._link.schema.failed(error, self.raw)
        raise failed  # outside of the except: psycopg's frames hold the password


class UsersConnection:
    """The psycopg.Connection of a program, in its transaction, for statements of the common SQL.

    Cursors are of dotflow's own, whatever rows and texts the program wants. Errors are psycopg's.

    Args:
        raw: The connection.
        schema: The schema of the history.
    """

    def __init__(self, raw: Any, schema: "HistorySchema") -> None:
        self._raw, self._schema = raw, schema
        self.now: int = self._native(NOW).fetchone()[0]

    def has_history(self) -> bool:
        """Returns whether the tables of the history are there. It asks for the table first: an error would end all."""
        if self._native(HAS_META, (f'"{self._schema.name}".meta',)).fetchone()[0]:
            found: str = self._native(IDENTITY.format(self._schema.name)).fetchone()[0]
            return found == self._schema.history_id
        return False

    def _native(self, text: str, values: Any = None) -> Any:
        from psycopg import Cursor
        from psycopg.rows import tuple_row

        from dotflow.providers.postgres.adapters import register

        cursor = Cursor(self._raw, row_factory=tuple_row)
        register(cursor)
        return cursor.execute(text.encode(), values, prepare=False)

    def execute(self, statement: str, values: Values = (), /) -> Cursor:
        return self._native(translate(statement, self._schema.name).decode(), values)  # type: ignore[no-any-return]


class Link:
    """One connection, for one use, opened when it is needed. Its threads wait for each other."""

    def __init__(self, schema: "HistorySchema") -> None:
        self.schema = schema
        self._mutex = threading.RLock()
        self._open: list[tuple[Any, Watched]] = []  # one, or none
        self._begun: PostgresConnection | None = None  # its transaction that writes
        weakref.finalize(self, _close_all, self._open)

    def transact(
        self, work: Callable[[PostgresConnection], T], lock: str | None, *, durable: bool, patience: float | None = None
    ) -> T:
        """Calls *work* in a transaction, again while the server is away. Raises PostgresFailed."""
        return self._repeat(lambda: self._transact(work, lock, durable=durable), patience)

    def _transact(self, work: Callable[[PostgresConnection], T], lock: str | None, *, durable: bool) -> T:
        with self._mutex:
            connection = self.open()
            is_committing = False
            try:
                connection.begin(lock, durable=durable)
                self._begun = connection
                result = work(connection)
                is_committing = True
                connection.commit()
                self.schema.has_committed = True
            except PostgresFailed as failed:
                self._undo(connection)
                if is_committing and connection.raw.closed:
                    raise AnswerLost(failed.what, failed.reason) from None
                raise
            except BaseException:  # also Ctrl-C, which leaves the state of the connection unknown
                self._undo(connection)
                raise
            finally:
                self._begun = None
            return result

    def use(self, work: Callable[[PostgresConnection], T], *, is_repeated: bool, patience: float | None = None) -> T:
        """Calls *work*, whose statements are transactions of their own. Raises PostgresFailed.

        Within a transaction of this connection, they belong to that, and are not repeated.
        """
        with self._mutex:
            if self._begun is not None:  # of this thread, since it has the mutex
                return work(self._begun)

        def attempt() -> T:
            with self._mutex:
                connection = self.open()
                try:
                    return work(connection)
                except PostgresFailed as failed:
                    failed.is_passing = failed.is_passing and is_repeated
                    self._undo(connection)
                    raise
                except BaseException:  # Ctrl-C too
                    self._undo(connection)
                    raise

        return self._repeat(attempt, patience)

    @staticmethod
    def _repeat(attempt: Callable[[], T], patience: float | None) -> T:
        deadline, delays = clock.ticks() + (PATIENCE if patience is None else patience), iter(RETRY_DELAYS)
        while True:
            try:
                return attempt()
            except PostgresFailed as failed:
                delay = next(delays, RETRY_DELAYS[-1])
                if not failed.is_passing or (delay and clock.ticks() + delay > deadline):
                    raise
            time.sleep(delay)

    def _undo(self, connection: PostgresConnection) -> None:
        from psycopg.pq import TransactionStatus

        status = connection.raw.info.transaction_status
        if status == TransactionStatus.INTRANS or status == TransactionStatus.INERROR:
            with contextlib.suppress(HistoryError):
                connection.rollback()
                return
        if connection.raw.closed or status != TransactionStatus.IDLE:
            self.close()

    def open(self) -> PostgresConnection:
        """Returns the open connection, or a new one. Raises PostgresFailed, and HistoryReplaced."""
        if self._open and self._open[0][0].closed:
            self.close()
        if not self._open:
            raw = self.schema.connect()
            self._open.append((raw, Watched(raw, PATIENCE)))
            try:
                self.schema.identify(PostgresConnection(self, *self._open[0]))
            except BaseException:  # Ctrl-C too
                self.close()
                raise
        return PostgresConnection(self, *self._open[0])

    def close(self) -> None:
        """Closes the connection. The next use opens it again."""
        with self._mutex:
            _close_all(self._open)

    def abandon(self) -> None:
        """Drops the parent's connection in a forked process."""
        self._mutex = threading.RLock()
        while self._open:
            raw, watched = self._open.pop()
            watched.close()
            abandon(raw)


class HistorySchema:
    """A schema of a database, and which history is in it.

    Args:
        dsn: The server and the database.
        name: The schema.

    Attributes:
        lock: The first number of its advisory locks.
        history_id: The id of the history that is there; None where none is known yet.
        ahead: By how many microseconds the clock of the database is ahead of `clock.ticks`; None where it is unknown.
        has_committed: Whether this process has found the primary.
    """

    def __init__(self, dsn: Dsn, name: str) -> None:
        self.dsn, self.name = dsn, name
        self.lock = lock_key(name)
        self.history_id: str | None = None
        self._is_writable = True
        self._has_connected = False
        self.ahead: int | None = None
        self.has_committed = False

    def note_clock(self, now: int) -> None:
        """Notes what the clock of the database said just before."""
        self.ahead = now - round(clock.ticks() * MICRO)

    def now(self) -> int:
        """Returns the moment by the clock of the database. In virtual time, that is its clock."""
        if clock.source is not None or self.ahead is None:
            return micro(clock.now())
        return self.ahead + round(clock.ticks() * MICRO)

    @property
    def place(self) -> str:
        """What messages call it."""
        return f"{self.dsn.location()}, schema {self.name!r}"

    @property
    def title(self) -> str:
        """What errors begin with."""
        return self.dsn.hide(f"The history at {self.place} can't be used")

    def connect(self) -> Any:
        """Returns a new psycopg.Connection. Raises PostgresFailed."""
        from psycopg import Error

        parameters = self.dsn.parameters(**DEFAULTS)
        if self.dsn.has_several_hosts:
            parameters.setdefault("target_session_attrs", "read-write")
        try:
            raw = connect(parameters)
        except Error as error:
            failed = self.failed(error, None)
        else:
            from dotflow.providers.postgres.adapters import register

            self._has_connected = True
            register(raw)
            return raw
        raise failed

    def failed(self, error: Any, raw: Any) -> PostgresFailed:
        """Returns an exception of psycopg in words. Without a connection, none was made."""
        state = state_of(error)
        reason = explain(
            error, self.dsn, ADVICE, is_connected=AWAY if self._has_connected else "", pickled="pickled histories"
        )
        failed = PostgresFailed(self.title, reason)
        failed.state = state
        failed.is_passing = self._has_connected if raw is None else is_transient(error, raw) or state in PASSING
        if state in READ_ONLY and raw is not None:  # a failover: the next connection may be to the new primary
            close(raw)
            failed.is_passing = self.has_committed
        if state in MISSING and raw is not None and self.history_id is not None:  # the next connection looks why
            close(raw)
        return failed

    def check_same(self, history_id: str | None) -> None:
        """Raises HistoryReplaced if that is another history than before."""
        if history_id is None or self.history_id not in (None, history_id):
            raise HistoryReplaced(self.title, REPLACED)

    def identify(self, connection: PostgresConnection) -> None:
        """Looks which history is there. Raises HistoryError where it is another one than before, or unreadable."""
        try:
            rows = connection.native(IDENTITY.format(self.name), ()).fetchall()
        except PostgresFailed as failed:
            if failed.state in FOREIGN:
                raise HistoryError(self.title, "dotflow did not make its tables. Choose another schema") from None
            if failed.state not in MISSING:
                raise
            rows = []
        if not rows and self.history_id is None:
            return
        self.check_same(rows[0][0] if rows else None)
        found, written, read_from, write_from = rows[0]
        if read_from > FORMAT:
            raise HistoryError(self.title, f"it has format {written}, and needs a newer dotflow")
        self._is_writable = write_from <= FORMAT
        if written < FORMAT:
            reason = f"it has format {written}, and this dotflow uses {FORMAT}. Run `dotflow history upgrade`"
            refusal = OldFormat(self.title, reason)
            refusal.written = written
            raise refusal
        self.history_id = found

    def prepare(self, link: Link) -> bool:
        """Makes the tables unless they are there. Returns whether it has. Raises HistoryError."""

        def make(connection: PostgresConnection) -> bool:
            self.identify(connection)
            if self.history_id is not None:
                return False
            self._make(connection)
            return True

        is_made = self.history_id is None and link.use(make, is_repeated=True)
        if not self._is_writable:
            raise HistoryError(self.title, "a newer dotflow has upgraded it, which this one can read but not write")
        return is_made

    def upgrade(self, link: Link) -> bool:
        """Makes the tables, or upgrades those of an older format. Returns whether it has. Raises HistoryError."""
        written = self._old_format(link)
        if written is None:
            return self.prepare(link)
        self._execute(upgrade_statements(self.name, written))
        return True

    def statements(self, link: Link) -> list[str]:
        """Returns the statements that make the tables, or upgrade those that are there. Raises HistoryError."""
        if (written := self._old_format(link)) is not None:
            return upgrade_statements(self.name, written)
        if self.history_id is not None:
            return []
        return [f'CREATE SCHEMA IF NOT EXISTS "{self.name}"', *schema_statements(self.name, uuid.uuid4().hex)]

    def _old_format(self, link: Link) -> int | None:
        """Returns the format of the tables, as a new connection finds it; None for this one, and for no tables."""
        link.close()
        try:
            link.open()
        except OldFormat as old:
            return old.written
        return None

    def _execute(self, statements: Iterable[str]) -> None:
        """Executes statements in one transaction, which no other process makes meanwhile."""
        from psycopg import Error

        raw = self.connect()
        try:
            lock = LOCK.format(self.lock, 0)
            cursor = raw.execute(f"{BEGIN}{lock}{';'.join(statements)}; COMMIT".encode())
            while cursor.nextset():
                pass
            return
        except Error as error:
            failed = self.failed(error, raw)
        finally:
            close(raw)
        raise failed  # outside of the except: psycopg's frames hold the password

    def _make(self, connection: PostgresConnection) -> None:
        connection.begin(None, durable=True)
        connection.native(LOCK.format(self.lock, 0).rstrip(";\n"))
        self._identify_again(connection)
        if self.history_id is None:
            if not connection.native(HAS_SCHEMA, (self.name,)).fetchone()[0]:
                connection.native(f'CREATE SCHEMA "{self.name}"')  # IF NOT EXISTS needs the right, too
            history_id = uuid.uuid4().hex
            connection.native(";\n".join(schema_statements(self.name, history_id)))
            connection.commit()
            self.history_id = history_id
        else:
            connection.rollback()

    def _identify_again(self, connection: PostgresConnection) -> None:
        """Looks in a transaction, which an error would end, whether another process was quicker."""
        if connection.native(HAS_META, (f'"{self.name}".meta',)).fetchone()[0]:
            self.identify(connection)


def _execute(raw: Any, waiting: list[tuple[Any, bytes, Any]]) -> None:
    """Executes statements, each for a cursor, in one message. Raises the first error: others only follow from it."""
    from psycopg import Error, Pipeline

    if len(waiting) == 1 or not Pipeline.is_supported():
        for cursor, text, values in waiting:
            cursor.execute(text, values)
        return
    first: Error | None = None
    try:
        with raw.pipeline():
            try:
                for cursor, text, values in waiting:
                    cursor.execute(text, values)
            except Error as error:  # the end of the pipeline raises again, and would log it
                first = error
    except Error as error:
        first = first or error
    if first is not None:
        raise first


def _close_all(opened: list[tuple[Any, Watched]]) -> None:
    while opened:
        raw, watched = opened.pop()
        watched.close()
        close(raw)
