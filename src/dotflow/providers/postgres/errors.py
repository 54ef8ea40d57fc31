"""Errors of Postgres in words, and which of them may pass."""

import re
from collections.abc import Mapping
from typing import Any, Final

from dotflow.providers.postgres.dsn import Dsn
from dotflow.providers.redact import redact, with_advice

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
STATEMENT_MODE: Final = "statement mode"  # no SQLSTATE: pgbouncer gives 08P01 to everything

#: A refused connection has no SQLSTATE: libpq keeps the text alone.
TOO_MANY: Final = re.compile(r"too many (?:connections|clients)|remaining connection slots")


def state_of(error: Any) -> str:
    """Returns the SQLSTATE of a psycopg.Error; "" for none."""
    if "statement pooling mode" in str(error):
        return STATEMENT_MODE
    return error.sqlstate or ("53300" if TOO_MANY.search(str(error)) else "")


def is_transient(error: Any, connection: Any) -> bool:
    """Returns whether a statement may succeed on another connection.

    Args:
        error: A psycopg.Error.
        connection: The connection that raised it.
    """
    state = state_of(error)
    if state == STATEMENT_MODE:  # the pooler closes the connection, and will do so again
        return False
    return bool(connection.closed) or state in TRANSIENT or state.startswith(CONNECTION_CLASS)


def explain(error: Any, dsn: Dsn, advice: Mapping[str, str], *, is_connected: str, pickled: str) -> str:
    """Returns the message of an exception of psycopg with advice, and without secrets.

    Args:
        error: A psycopg.Error. Only its message is used, since its details may quote values.
        dsn: The server.
        advice: What to do, by SQLSTATE.
        is_connected: What to do where the server was reachable before; "" where it was not.
        pickled: What carries no password when it is pickled.
    """
    # libpq's second line is a question or a hint, and the first has no full stop. A third one goes on with the second.
    message = error.diag.message_primary or re.sub(r"\n\t(?=[A-Z])", ". ", str(error)) or type(error).__name__
    what_to_do = advice.get(state_of(error)) or _connection_advice(error, is_connected, pickled)
    return with_advice(redact(dsn.hide(message)), what_to_do)


def _connection_advice(error: Any, is_connected: str, pickled: str) -> str:
    if error.sqlstate and error.sqlstate not in TRANSIENT and not error.sqlstate.startswith(CONNECTION_CLASS):
        return "Look that up in Postgres' documentation"
    if getattr(error.pgconn, "needs_password", False):
        advice = "Set PGPASSWORD, or put the password into ~/.pgpass"
        return f"{advice}: this process has none, since {pickled} carry none"
    return (
        is_connected
        or "Check host, port, database, user and password, and that the server runs and accepts this machine"
    )
