"""PostgresPool: connections to a Postgres server, opened on first use and reopened after a restart.

The secrets of its connection string are neither shown, nor pickled, nor in an error.
"""

import contextlib
import os
import re
import time
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from dotflow import clock
from dotflow.errors import InvalidArgument, MissingExtra, StorageError
from dotflow.providers.storages.redact import redact, with_advice
from dotflow.worker.interrupts import in_forked_child

EXPECTED: Final = (
    "a URL such as 'postgresql://user@host:5432/database', or 'host=... dbname=...', or '' for that of the environment "
    "(PGHOST, PGSERVICE, ~/.pgpass); special characters of a password in a URL must be percent-encoded, and a value "
    "with spaces after '=' be in single quotes"
)
MASK: Final = "…"  # replaces a password, and a DSN that can't be parsed

#: libpq's mark of secret options: www.postgresql.org/docs/current/libpq-connect.html, PQconninfoParse
PASSWORD_MARK: Final = b"*"

#: Options that the DSN does not set. By libpq's defaults, waiting for a host that is gone takes hours.
DEFAULTS: Final[Mapping[str, str]] = {
    "keepalives_idle": "30",  # seconds of silence before the first probe
    "keepalives_interval": "10",  # seconds
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",  # milliseconds without an acknowledgement
    "fallback_application_name": "dotflow",
}


class Dsn:
    """A parsed connection string.

    Args:
        text: As libpq reads it: www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING

    Raises:
        InvalidArgument: It can't be parsed. The error does not quote it, since any part may be the password.
        MissingExtra: libpq is missing.
    """

    def __init__(self, text: object) -> None:
        try:
            from psycopg import OperationalError, pq
        except ImportError:  # psycopg without libpq
            raise MissingExtra("StoragePostgres", "libpq", "postgres") from None
        if not isinstance(text, str):
            raise InvalidArgument("dsn", type(text), EXPECTED)
        options = None
        if "\0" not in text:  # libpq stops reading there
            with contextlib.suppress(OperationalError, UnicodeEncodeError):  # the message may quote the password
                options = pq.Conninfo.parse(text.encode())
        if options is None:
            raise InvalidArgument("dsn", MASK, EXPECTED)
        self._options = {option.keyword.decode(): option.val.decode() for option in options if option.val is not None}
        secrets = [option for option in options if option.dispchar == PASSWORD_MARK]
        self._secret_names = frozenset(option.keyword.decode() for option in secrets)
        if self._exposes_password(is_url=text.startswith(("postgresql://", "postgres://"))):
            raise InvalidArgument("dsn", MASK, EXPECTED)

    def _exposes_password(self, *, is_url: bool) -> bool:
        """Returns whether a part of an unescaped password, with an @ or a / in it, was read as another option."""
        values = [self._options.get("host", ""), self._options.get("dbname", "") if is_url else ""]
        ports = self._options.get("port", "").split(",")
        return any("@" in value for value in values) or not all(port == "" or port.isdecimal() for port in ports)

    def parameters(self) -> dict[str, str]:
        """Returns the options for libpq."""
        connect_timeout = os.environ.get("PGCONNECT_TIMEOUT") or "10"  # seconds
        return {**DEFAULTS, "connect_timeout": connect_timeout, **self._options, "client_encoding": "UTF8"}

    def location(self) -> str:
        """Returns host, port and database, for messages."""
        if "service" in self._options and "host" not in self._options:
            return f"service {self._options['service']!r}"
        from psycopg import pq

        options = pq.Conninfo.get_defaults()
        values = {option.keyword.decode(): option.val.decode() for option in options if option.val} | self._options
        host = values.get("host") or values.get("hostaddr") or "the local socket"
        return f"{host}, port {values.get('port')}, database {values.get('dbname') or values.get('user')!r}"

    def hide(self, text: str) -> str:
        """Returns a text without passwords."""
        secrets = [value for name, value in self._options.items() if name in self._secret_names]
        for secret in (*secrets, os.environ.get("PGPASSWORD", "")):
            text = text.replace(secret, MASK) if secret else text
        return text

    def __repr__(self) -> str:
        return f"Dsn({self.location()})"

    def __deepcopy__(self, memo: object) -> "Dsn":
        return self  # immutable

    def __getstate__(self) -> dict[str, Any]:
        """Leaves the secrets out: a pickle may be stored anywhere."""
        public = {name: value for name, value in self._options.items() if name not in self._secret_names}
        return {"_options": public, "_secret_names": self._secret_names}

    def __copy__(self) -> "Dsn":
        return self


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
#: Errors that may not come again.
TRANSIENT: Final = frozenset(
    {
        "40001",  # serialization_failure
        "40P01",  # deadlock_detected
        "53300",  # too_many_connections
        "57P01",  # admin_shutdown
        "57P02",  # crash_shutdown
        "57P03",  # cannot_connect_now
    }
)
CONNECTION_CLASS: Final = "08"  # the class of connection exceptions


def is_transient(error: Any, connection: Any) -> bool:
    """Returns whether a statement may succeed on another connection.

    Args:
        error: A psycopg.Error.
        connection: The connection that raised it.
    """
    state = error.sqlstate or ""
    return bool(connection.closed) or state in TRANSIENT or state.startswith(CONNECTION_CLASS)


def storage_error(error: Any, dsn: Dsn, *, is_connected: bool) -> StorageError:
    """Returns an exception of psycopg as a StorageError.

    Args:
        error: A psycopg.Error. Only its message is used, since its details may quote values.
        dsn: The server.
        is_connected: Whether the server was reachable before.
    """
    # libpq's second line is a question or a hint, and the first has no full stop. A third one goes on with the second.
    message = error.diag.message_primary or re.sub(r"\n\t(?=[A-Z])", ". ", str(error)) or type(error).__name__
    advice = ADVICE.get(error.sqlstate or "") or _connection_advice(error, is_connected)
    title = f"The database at {dsn.location()} can't be used"
    return StorageError(dsn.hide(title), with_advice(redact(dsn.hide(message)), advice))


def _connection_advice(error: Any, is_connected: bool) -> str:
    if error.sqlstate and error.sqlstate not in TRANSIENT and not error.sqlstate.startswith(CONNECTION_CLASS):
        return "Look that up in Postgres' documentation"
    if getattr(error.pgconn, "needs_password", False):
        advice = "Set PGPASSWORD, or put the password into ~/.pgpass"
        return f"{advice}: this process has none, since pickled storages carry none"
    if is_connected:
        return "Start again with resume=True when the server is back"
    return "Check host, port, database, user and password, and that the server runs and accepts this machine"


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
            _close(connection)
            return _Failure(storage_error(error, self.dsn, is_connected=self._has_connected), is_retryable)
        except BaseException:  # an interrupt: the state of the connection is unknown
            _close(connection)
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
        import psycopg

        # No prepared statements: behind a pooler, the next session does not have them.
        connection = psycopg.connect(**self.dsn.parameters(), autocommit=True, prepare_threshold=None)  # type: ignore[arg-type]
        self._has_connected = True
        return connection

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


@in_forked_child
def _after_fork_in_child() -> None:
    for pool in list(_pools):
        pool._abandon()
