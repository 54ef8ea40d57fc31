"""Connections to Postgres."""

import contextlib
import os
from collections.abc import Mapping
from typing import Any


def connect(parameters: Mapping[str, str]) -> Any:
    """Returns a psycopg.Connection, each statement of which is a transaction of its own."""
    import psycopg

    # No prepared statements: behind a pooler, the next session does not have them.
    return psycopg.connect(**parameters, autocommit=True, prepare_threshold=None)  # type: ignore[arg-type]


def close(connection: Any) -> None:
    """Closes a connection, or None."""
    if connection is not None:
        connection.close()


def abandon(connection: Any) -> None:
    """Drops a connection of the parent in a forked process. Closing it would end the parent's session."""
    with contextlib.suppress(Exception), open(os.devnull, "rb+", buffering=0) as null:  # noqa: PTH123
        os.dup2(null.fileno(), connection.fileno(), inheritable=False)
        connection.close()
