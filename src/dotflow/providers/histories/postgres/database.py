"""PostgresDatabase: a schema with the tables of a history, and connections by use."""

import contextlib
import threading
import weakref
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future
from typing import Any, Final, TypeVar

from dotflow import clock
from dotflow.core.text import shorten
from dotflow.errors import DotflowError, HistoryError, InvalidArgument
from dotflow.providers.histories.postgres.link import (
    HistorySchema,
    Link,
    PostgresConnection,
    PostgresFailed,
    UsersConnection,
)
from dotflow.providers.histories.postgres.presence import PostgresPresence, PostgresWatch
from dotflow.providers.histories.sql.database import (
    CLAIMS,
    FORGED,
    Connection,
    Database,
    Statements,
    Values,
    Watch,
    without_runs,
)
from dotflow.providers.postgres.dsn import Dsn
from dotflow.worker.interrupts import in_forked_child

T = TypeVar("T")

GLANCE: Final = 1.0  # seconds that a running run waits for an answer, of a server that answers in milliseconds
SYNCHRONOUS: Final = "a psycopg.Connection, which has the transaction"
DRIVERS: Final = "That of Django is connection.connection, that of SQLAlchemy connection.connection.driver_connection."


class PostgresDatabase(Database):
    """A schema of a database. Queue, events and readers have a connection each, opened when they need it.

    Args:
        dsn: The server and the database.
        schema: The schema, of this history alone.

    Attributes:
        queue: The connection of the queue.
        events: That of events.
        presence: Which processes live.
        schema: The schema, and which history is there.
    """

    def __init__(self, dsn: Dsn, schema: str) -> None:
        self.schema = HistorySchema(dsn, schema)
        self.store: Hashable = ("postgres", dsn.location(), schema)
        self.queue, self.events = Link(self.schema), Link(self.schema)
        self._readers: list[Link] = []  # idle ones, which a beat closes
        self.presence: PostgresPresence = PostgresPresence(self.schema, self.events, self.queue, self._readers)
        self._is_asking, self._is_silent = threading.Lock(), False  # a look of a run; whether that was given up
        _databases.add(self)

    @property
    def place(self) -> str:
        return self.schema.place

    def transact(self, work: Callable[[Connection], T], lock: str | None = CLAIMS, *, durable: bool = True) -> T:
        with forged(self.schema):
            self.schema.prepare(self.queue)
            return self.queue.transact(work, lock, durable=durable)

    def join(self, connection: object) -> Statements | None:
        from psycopg import AsyncConnection
        from psycopg import Connection as Psycopg
        from psycopg.pq import TransactionStatus

        if not isinstance(connection, Psycopg):
            given = "an AsyncConnection can't be used. " if isinstance(connection, AsyncConnection) else ""
            raise InvalidArgument("connection", type(connection).__name__, SYNCHRONOUS, f"{given}{DRIVERS}")
        if connection.autocommit and connection.info.transaction_status == TransactionStatus.IDLE:
            return None
        self.schema.prepare(self.queue)
        joined = UsersConnection(connection, self.schema)
        if not joined.has_history():
            raise InvalidArgument("connection", type(connection).__name__, f"one to the database of {self.place}")
        return joined

    def now(self) -> int:
        if clock.source is None and self.schema.ahead is None:
            self.transact(lambda connection: connection.now, None, durable=False)
        return self.schema.now()

    def run(self, statement: str, values: Values = ()) -> list[Any]:
        return self.run_on(self.queue, statement, values)

    def glance(self, statement: str, values: Values = ()) -> list[Any]:
        """Runs it in a thread, since a network that swallows all gives neither an answer nor an error for seconds."""
        rows: Future[list[Any]] = Future()

        def work() -> None:
            with is_asking:
                try:
                    rows.set_result(self.run_on(self.queue, statement, values, patience=0))
                except BaseException as error:  # raised where the run waits
                    rows.set_exception(error)
                self._is_silent = False

        is_asking = self._is_asking
        if not (self._is_silent and is_asking.locked()):
            threading.Thread(target=work, name="dotflow-look", daemon=True).start()
            with contextlib.suppress(TimeoutError):
                return rows.result(GLANCE)
            self._is_silent = True
        raise HistoryError(self.schema.title, "it does not answer")

    def run_on(self, link: Link, statement: str, values: Values = (), patience: float | None = None) -> list[Any]:
        """Runs one statement on a connection. What only reads is tried again while the server is away."""

        def work(connection: PostgresConnection) -> list[Any]:
            if self.schema.history_id is None:
                self.schema.identify(connection)
            if self.schema.history_id is None:
                return []
            cursor: Any = connection.execute(statement, values)
            return list(cursor.fetchall()) if cursor.description else []

        return link.use(work, is_repeated=statement.lstrip().startswith("SELECT"), patience=patience)

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        link = self._reader()
        with forged(self.schema):
            link.use(self._look, is_repeated=True)
            if self.schema.history_id is None:
                link.close()
                with contextlib.closing(without_runs()) as connection:
                    yield connection
                return
            try:
                opened = link.open()
                yield opened
                if opened.raw.info.transaction_status:
                    opened.native("ROLLBACK")
            except BaseException:  # Ctrl-C too
                link.close()
                raise
        if self._readers:
            link.close()
        else:
            self._readers.append(link)

    def _reader(self) -> Link:
        with contextlib.suppress(IndexError):  # a beat was faster
            return self._readers.pop()
        return Link(self.schema)

    def _look(self, connection: PostgresConnection) -> None:
        """Asks the server for something: an idle connection may be lost, and a new one takes its place."""
        self.schema.identify(connection)

    def freeze(self, connection: Connection) -> None:
        if isinstance(connection, PostgresConnection):
            connection.freeze()

    def watch(self) -> Watch:
        return PostgresWatch(self.presence, self.schema.title)

    def revision(self) -> str:
        """Returns a text that changes with each commit of the server, and while that is away; "" without a history.

        It changes while a process gives no sign of life, too.
        """
        try:
            with self.reading() as connection:
                if not isinstance(connection, PostgresConnection):
                    return ""
                return self.presence.revision(connection)
        except PostgresFailed:  # what is read next says why, and is tried again
            return f"unknown at {clock.ticks()}"

    def close(self) -> None:
        """Closes the connections. The next use opens them again."""
        for link in (self.queue, self.events, *self._readers):
            link.close()
        self.presence.close()

    def abandon(self) -> None:
        """Drops the parent's connections in a forked process."""
        self._is_asking, self._is_silent = threading.Lock(), False
        for link in (self.queue, self.events, *self._readers):
            link.abandon()


@contextlib.contextmanager
def forged(schema: HistorySchema) -> Iterator[None]:
    """Turns errors of values that no dotflow has written into HistoryError."""
    try:
        yield
    except DotflowError:
        raise
    except FORGED as error:
        cause = shorten(f"it is damaged, or dotflow did not write it ({type(error).__name__}: {error})")
        raise HistoryError(schema.title, cause) from error


_databases: Final[weakref.WeakSet[PostgresDatabase]] = weakref.WeakSet()


@in_forked_child
def _after_fork_in_child() -> None:
    for database in list(_databases):
        database.abandon()
