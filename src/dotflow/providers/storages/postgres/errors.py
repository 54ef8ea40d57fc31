"""What Postgres' errors mean to whoever runs a workflow: what to do, and nothing that is secret."""

from collections.abc import Mapping
from typing import Any, Final

from dotflow.errors import StorageError
from dotflow.providers.storages.postgres.dsn import Dsn
from dotflow.providers.storages.redact import redact

CONNECT: Final = (
    "see that host, port, database, user and password are right, and that the server runs and lets this machine in"
)
NO_PASSWORD: Final = (
    "the server wants a password, and this process has none (pickled storages carry none): set PGPASSWORD, or put it "
    "into ~/.pgpass"
)
LOST: Final = "the server went away, and did not come back in time; start again with resume=True"
FOREIGN_TABLE: Final = "a table of this name belongs to something else: give StoragePostgres(table=...) another one"
PERMISSIONS: Final = (
    "the role needs SELECT, INSERT, UPDATE and DELETE on both tables, and, where they are not there yet, the right to "
    "create tables in the schema; or let the owner create them: the docs say how"
)
UTF8: Final = "the database can't hold every text: create one with the encoding UTF8"
TOO_LARGE: Final = "the value is too large for Postgres, which takes up to 1 GB; keep it elsewhere, and return where"

#: By SQLSTATE: www.postgresql.org/docs/current/errcodes-appendix.html
ADVICE: Final[Mapping[str, str]] = {
    "22P05": UTF8,
    "25006": "it is a standby, or set to read only: name the primary, or add target_session_attrs=read-write",
    "3F000": "create the schema, or name another one in StoragePostgres(table=...)",
    "42501": PERMISSIONS,
    "42703": FOREIGN_TABLE,
    "42P01": "the tables were dropped while they were in use; start anew",
    "53100": "the server's disk is full; free some space",
    "53300": "let the server take more connections, or stop some",
    "54000": TOO_LARGE,
    "57014": "it was cancelled; raise statement_timeout for this role if it took too long",
}
#: Those that pass: whoever tries again may not meet them.
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
CONNECTION_CLASS: Final = "08"  # the class of what befell the connection


def is_transient(error: Any, connection: Any) -> bool:
    """Whether a statement may be tried again, on another connection.

    Args:
        error: A psycopg.Error.
        connection: Where it was met.
    """
    state = error.sqlstate or ""
    return bool(connection.closed) or state in TRANSIENT or state.startswith(CONNECTION_CLASS)


def storage_error(error: Any, dsn: Dsn, *, is_connected: bool) -> StorageError:
    """What failed, what was said, and what to do about it.

    Args:
        error: A psycopg.Error. Of what it says only the message: its details may quote values.
        dsn: Whose server it is.
        is_connected: Whether the server has answered before.
    """
    # libpq puts its guess at the cause on a line of its own, without a full stop before it.
    message = error.diag.message_primary or str(error).replace("\n\t", ". ") or type(error).__name__
    advice = ADVICE.get(error.sqlstate or "") or _connection_advice(error, is_connected)
    title = f"The database at {dsn.location()} can't be used"
    return StorageError(dsn.hide(title), f"{redact(dsn.hide(message)).rstrip('. ')}; {advice}")


def _connection_advice(error: Any, is_connected: bool) -> str:
    if error.sqlstate and error.sqlstate not in TRANSIENT and not error.sqlstate.startswith(CONNECTION_CLASS):
        return "see what that means in Postgres' documentation"
    if getattr(error.pgconn, "needs_password", False):
        return NO_PASSWORD
    return LOST if is_connected else CONNECT
