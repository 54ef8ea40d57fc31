"""Errors of Postgres as StorageErrors with advice and without secrets."""

from collections.abc import Mapping
from typing import Any, Final

from dotflow.errors import StorageError
from dotflow.providers.storages.postgres.dsn import Dsn
from dotflow.providers.storages.redact import redact, with_advice

CONNECT: Final = "Check host, port, database, user and password, and that the server runs and accepts this machine"
NO_PASSWORD: Final = (
    "Set PGPASSWORD, or put the password into ~/.pgpass: this process has none, since pickled storages carry none"
)
LOST: Final = "Start again with resume=True when the server is back"
FOREIGN_TABLE: Final = "Give StoragePostgres(table=...) another name: this table belongs to another program"
PERMISSIONS: Final = (
    "Grant the role SELECT, INSERT, UPDATE and DELETE on both tables. It also needs to create tables in the schema, "
    "unless the owner creates them as the docs describe"
)
UTF8: Final = "Create a database with the encoding UTF8, which can hold every text"
TOO_LARGE: Final = "Keep the value elsewhere and return its location: Postgres takes up to 1 GB"

#: By SQLSTATE: www.postgresql.org/docs/current/errcodes-appendix.html
ADVICE: Final[Mapping[str, str]] = {
    "22P05": UTF8,
    "25006": "Connect to the primary, or add target_session_attrs=read-write",
    "3F000": "Create the schema, or name another one in StoragePostgres(table=...)",
    "42501": PERMISSIONS,
    "42703": FOREIGN_TABLE,
    "42P01": "Start anew: the tables were dropped while they were in use",
    "53100": "Free some space on the server's disk",
    "53300": "Raise the server's limit of connections, or close some",
    "54000": TOO_LARGE,
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
    # libpq's second line is a question or a hint, and the first has no full stop.
    message = error.diag.message_primary or str(error).replace("\n\t", ". ") or type(error).__name__
    advice = ADVICE.get(error.sqlstate or "") or _connection_advice(error, is_connected)
    title = f"The database at {dsn.location()} can't be used"
    return StorageError(dsn.hide(title), with_advice(redact(dsn.hide(message)), advice))


def _connection_advice(error: Any, is_connected: bool) -> str:
    if error.sqlstate and error.sqlstate not in TRANSIENT and not error.sqlstate.startswith(CONNECTION_CLASS):
        return "Look that up in Postgres' documentation"
    if getattr(error.pgconn, "needs_password", False):
        return NO_PASSWORD
    return LOST if is_connected else CONNECT
