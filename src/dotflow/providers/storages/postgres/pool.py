"""Connections to a Postgres server: made late, kept for the next statement, made again when the server was away."""

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

RECONNECT_TIMEOUT: Final = 30.0  # seconds that a server which has answered before is waited for: a restart, a failover
MAX_IDLE: Final = 2  # connections while nobody uses them: a run and the renewing of its lease need no more
RETRY_DELAYS: Final = (0.0, 0.05, 0.1, 0.2, 0.5)  # seconds before each further try; the last one goes on


class _Failure(NamedTuple):
    """What came of one try.

    Attributes:
        told: What is raised, if it is the last one.
        passes: Whether another one may go better.
    """

    error: StorageError
    is_retryable: bool


class PostgresPool:
    """Runs statements, each of them a transaction of its own, in any thread. Nothing is kept of a session.

    So a pooler may stand between, which gives each transaction to another session.

    Args:
        dsn: The server.
    """

    def __init__(self, dsn: Dsn) -> None:
        self.dsn = dsn
        self._idle: list[Any] = []  # taken and given back by one operation each, so that threads need no lock
        self._has_connected = False
        _pools.add(self)
        weakref.finalize(self, _close_all, self._idle)

    def run(
        self, statement: str, values: Sequence[object] | None = None, timeout: float = RECONNECT_TIMEOUT
    ) -> list[tuple[Any, ...]]:
        """Runs one statement, which has to come to the same if it is run twice; its rows.

        A connection that is lost in the middle of it is made again, and then it is repeated.

        Args:
            statement: SQL; several ones are one transaction where there are no values.
            values: For its placeholders.
            patience: Seconds that a server which was there before is waited for.

        Raises:
            StorageError: It can't be done, or the server did not come back.
        """
        deadline = clock.ticks() + timeout
        for delay in itertools.chain(RETRY_DELAYS, itertools.repeat(RETRY_DELAYS[-1])):
            result = self._try(statement, values)
            if isinstance(result, list):
                return result
            if not result.is_retryable or clock.ticks() + delay > deadline:
                raise result.error  # not from there: what psycopg has at hand when it fails is nobody else's business
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
        except BaseException:  # an interrupt: nobody knows what the connection is in the middle of
            _close(connection)
            raise
        self._check_in(connection)
        return rows

    def close(self) -> None:
        """Closes what nobody uses now; the next statement connects again."""
        _close_all(self._idle)

    def _check_out(self) -> Any:
        with contextlib.suppress(IndexError):
            return self._idle.pop()
        import psycopg

        # A statement that a session has prepared is unknown to the next one, where a pooler stands between.
        connection = psycopg.connect(**self.dsn.parameters(), autocommit=True, prepare_threshold=None)  # type: ignore[arg-type]
        self._has_connected = True
        return connection

    def _check_in(self, connection: Any) -> None:
        if len(self._idle) < MAX_IDLE:
            self._idle.append(connection)
        else:
            _close(connection)

    def _may_reconnect(self, error: Any) -> bool:
        """Whether a server that can't be connected to was there before, or is about to start."""
        from psycopg import conninfo, errors, pq

        if self._has_connected or isinstance(error, errors.ConnectionTimeout):  # it would be waited for once more
            return self._has_connected
        parameters = conninfo.make_conninfo(**self.dsn.parameters())
        return pq.PGconn.ping(parameters.encode()) == pq.Ping.REJECT

    def _abandon(self) -> None:
        """In a forked process: gives up what is the parent's, without a word to the server, which would end it."""
        while self._idle:
            connection = self._idle.pop()
            with contextlib.suppress(Exception), open(os.devnull, "rb+", buffering=0) as null:  # noqa: PTH123
                os.dup2(null.fileno(), connection.fileno(), inheritable=False)
                connection.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """Connections don't travel; a copy makes its own."""
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
