"""PostgresPool: connections to a Postgres server, opened on first use and reopened after a restart."""

import contextlib
import itertools
import os
import time
import weakref
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from dotflow import clock
from dotflow.errors import StorageError
from dotflow.providers.storages.postgres.dsn import Dsn
from dotflow.providers.storages.postgres.errors import is_transient, storage_error

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
        for delay in itertools.chain(RETRY_DELAYS, itertools.repeat(RETRY_DELAYS[-1])):
            result = self._try(statement, values)
            if isinstance(result, list):
                return result
            if not result.is_retryable or clock.ticks() + delay > deadline:
                raise result.error  # outside of an except: psycopg's frames hold the password
            time.sleep(delay)
        raise AssertionError("unreachable")

    def _try(self, statement: str, values: Sequence[object] | None) -> list[tuple[Any, ...]] | _Failure:
        from psycopg import Error

        connection = None
        try:
            connection = self._check_out()
            cursor = connection.execute(statement.encode(), values, binary=values is not None)
            rows: list[tuple[Any, ...]] = cursor.fetchall() if cursor.description else []
        except Error as error:
            is_retryable = self._may_reconnect(error) if connection is None else is_transient(error, connection)
            _close(connection)
            return _Failure(storage_error(error, self.dsn, is_connected=self._has_connected), is_retryable)
        except BaseException:  # an interrupt: the state of the connection is unknown
            _close(connection)
            raise
        self._check_in(connection)
        return rows

    def close(self) -> None:
        """Closes the idle connections. The next statement connects again."""
        _close_all(self._idle)

    def _check_out(self) -> Any:
        with contextlib.suppress(IndexError):
            return self._idle.pop()
        import psycopg

        # No prepared statements: behind a pooler, the next session does not have them.
        connection = psycopg.connect(**self.dsn.parameters(), autocommit=True, prepare_threshold=None)  # type: ignore[arg-type]
        self._has_connected = True
        return connection

    def _check_in(self, connection: Any) -> None:
        if len(self._idle) < MAX_IDLE:
            self._idle.append(connection)
        else:
            _close(connection)

    def _may_reconnect(self, error: Any) -> bool:
        """Returns whether an unreachable server was reachable before, or is starting."""
        from psycopg import conninfo, errors, pq

        if self._has_connected or isinstance(error, errors.ConnectionTimeout):  # no second timeout
            return self._has_connected
        parameters = conninfo.make_conninfo(**self.dsn.parameters())
        return pq.PGconn.ping(parameters.encode()) == pq.Ping.REJECT

    def _abandon(self) -> None:
        """Drops the parent's connections in a forked process. Closing them would end the parent's sessions."""
        while self._idle:
            connection = self._idle.pop()
            with contextlib.suppress(Exception), open(os.devnull, "rb+", buffering=0) as null:  # noqa: PTH123
                os.dup2(null.fileno(), connection.fileno(), inheritable=False)
                connection.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """Leaves the connections out: a copy makes its own."""
        return type(self), (self.dsn,)


def _close(connection: Any) -> None:
    if connection is not None:
        connection.close()


def _close_all(connections: list[Any]) -> None:
    while connections:
        connections.pop().close()


_pools: Final[weakref.WeakSet[PostgresPool]] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for pool in list(_pools):
        pool._abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
