"""PostgresPool: connections to a Postgres server, opened on first use and reopened after a restart."""

import contextlib
import time
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from dotflow import clock
from dotflow.errors import StorageError
from dotflow.providers.postgres.connection import abandon, close, connect
from dotflow.providers.postgres.dsn import Dsn
from dotflow.providers.postgres.errors import explain, is_transient
from dotflow.worker.interrupts import in_forked_child

#: By SQLSTATE: www.postgresql.org/docs/current/errcodes-appendix.html
ADVICE: Final[Mapping[str, str]] = {
    "22P05": "Create a database with the encoding UTF8, which can hold every text",
    "25006": "Connect to the primary, or add target_session_attrs=read-write",
    "3F000": "Create the schema, or name another one in StoragePostgres(table=...)",
    "42501": "Grant the role SELECT, INSERT, UPDATE and DELETE on both tables. It also needs to create tables in the "
    "schema, unless the owner creates them as the docs describe",
    "42703": "Give StoragePostgres(table=...) another name: this table belongs to another program",
    "42P01": "Start anew: the tables were dropped while they were in use",
    "53100": "Free some space on the server's disk",
    "53300": "Raise the server's limit of connections, or close some",
    "54000": "Keep the value elsewhere and return its location: Postgres takes up to 1 GB",
    "57014": "Raise statement_timeout for this role, if that cancelled the statement",
}
RESUME: Final = "Start again with resume=True when the server is back"


def storage_error(error: Any, dsn: Dsn, *, is_connected: bool) -> StorageError:
    """Returns an exception of psycopg as a StorageError.

    Args:
        error: A psycopg.Error.
        dsn: The server.
        is_connected: Whether the server was reachable before.
    """
    title = f"The database at {dsn.location()} can't be used"
    reason = explain(error, dsn, ADVICE, is_connected=RESUME if is_connected else "", pickled="pickled storages")
    return StorageError(dsn.hide(title), reason)


RECONNECT_TIMEOUT: Final = 30.0  # seconds; for the restart or failover of a server that was reachable
MAX_IDLE: Final = 2  # idle connections: one for a run and one for the renewal of its lease
RETRY_DELAYS: Final = (0.0, 0.05, 0.1, 0.2, 0.5)  # seconds before each retry; the last one repeats


class _Failure(NamedTuple):
    """A failed attempt.

    Attributes:
        error: The error, to raise after the last attempt.
        is_retryable: Whether another attempt may succeed.
    """

    error: StorageError
    is_retryable: bool


class PostgresPool:
    """Runs statements in any thread, each as a transaction of its own.

    No state of a session is used, so a pooler in transaction mode may be between.

    Args:
        dsn: The server.
    """

    def __init__(self, dsn: Dsn) -> None:
        self.dsn = dsn
        self._idle: list[Any] = []  # append and pop are atomic, so threads need no lock
        self._has_connected = False
        _pools.add(self)
        weakref.finalize(self, _close_all, self._idle)

    def run(
        self, statement: str, values: Sequence[object] | None = None, timeout: float = RECONNECT_TIMEOUT
    ) -> list[tuple[Any, ...]]:
        """Runs an idempotent statement, and returns its rows. When the connection is lost, it is run again.

        Args:
            statement: SQL. Without values it may be several statements, which form one transaction.
            values: For the placeholders.
            timeout: Seconds to wait for a server that was reachable before.

        Raises:
            StorageError: The statement failed, or the server did not come back.
        """
        deadline = clock.ticks() + timeout
        delays = iter(RETRY_DELAYS)
        while not isinstance(result := self._try(statement, values), list):
            delay = next(delays, RETRY_DELAYS[-1])
            if not result.is_retryable or clock.ticks() + delay > deadline:
                raise result.error  # outside of an except: psycopg's frames hold the password
            time.sleep(delay)
        return result

    def _try(self, statement: str, values: Sequence[object] | None) -> list[tuple[Any, ...]] | _Failure:
        from psycopg import Error

        connection = None
        try:
            connection = self._check_out()
            cursor = connection.execute(statement.encode(), values, binary=values is not None)
            rows: list[tuple[Any, ...]] = cursor.fetchall() if cursor.description else []
        except Error as error:
            is_retryable = self._has_connected if connection is None else is_transient(error, connection)
            close(connection)
            return _Failure(storage_error(error, self.dsn, is_connected=self._has_connected), is_retryable)
        except BaseException:  # an interrupt: the state of the connection is unknown
            close(connection)
            raise
        if len(self._idle) < MAX_IDLE:
            self._idle.append(connection)
        else:
            connection.close()
        return rows

    def close(self) -> None:
        """Closes the idle connections. The next statement connects again."""
        _close_all(self._idle)

    def _check_out(self) -> Any:
        with contextlib.suppress(IndexError):
            return self._idle.pop()
        connection = connect(self.dsn.parameters())
        self._has_connected = True
        return connection

    def _abandon(self) -> None:
        """Drops the parent's connections in a forked process. Closing them would end the parent's sessions."""
        while self._idle:
            abandon(self._idle.pop())

    def __reduce__(self) -> tuple[Any, ...]:
        """Leaves the connections out: a copy makes its own."""
        return type(self), (self.dsn,)


def _close_all(connections: list[Any]) -> None:
    while connections:
        connections.pop().close()


_pools: Final[weakref.WeakSet[PostgresPool]] = weakref.WeakSet()


@in_forked_child
def _after_fork_in_child() -> None:
    for pool in list(_pools):
        pool._abandon()
