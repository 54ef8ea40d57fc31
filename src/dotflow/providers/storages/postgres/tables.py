"""The two tables of a StoragePostgres: values and leases; and all that is said to the server about them."""

import json
import re
import uuid
from collections.abc import Hashable, Sequence
from hashlib import sha256
from typing import Any, Final

from dotflow.errors import InvalidArgument, LeaseLost
from dotflow.providers.storages.leases.lease import Lease, Register
from dotflow.providers.storages.leases.lease_record import Entry
from dotflow.providers.storages.postgres.pool import RECONNECT_TIMEOUT, PostgresPool
from dotflow.providers.storages.text_escape import escape

LEASE_TIMEOUT: Final = 5.0  # seconds that a lease waits for a server; the next renewal comes, and a write waits longer
MAX_LENGTH: Final = 300  # characters, of up to 4 bytes, and two of them in a key
PREFIX_LENGTH: Final = 100  # characters of what is longer
LEASES_SUFFIX: Final = "_leases"  # what the second table's name ends with
NAME: Final = re.compile(r"(?:[A-Za-z_][A-Za-z0-9_]{0,62}\.)?[A-Za-z_][A-Za-z0-9_]{0,55}")  # 63 bytes, with the ending

CREATE_LOCK: Final = 0x646F7466  # "dotf": the advisory lock of whoever creates tables
#: One transaction. IF NOT EXISTS alone fails where two do it at once.
SCHEMA: Final = f"""\
SELECT pg_advisory_xact_lock({CREATE_LOCK});
CREATE TABLE IF NOT EXISTS {{table}} (
    key text COLLATE "C" PRIMARY KEY,
    document text NOT NULL,
    long_key text,
    parts bytea
);
CREATE TABLE IF NOT EXISTS {{leases}} (
    workflow_id text COLLATE "C" PRIMARY KEY,
    note text NOT NULL,
    token text NOT NULL,
    version text NOT NULL,
    written timestamptz NOT NULL
)"""
#: Which server this is (its copies and restarts are the same one), which database, and which tables.
IDENTITY: Final = """\
SELECT system_identifier, (SELECT oid FROM pg_database WHERE datname = current_database()),
    to_regclass(%s)::oid, to_regclass(%s)::oid FROM pg_control_system()"""

SAVE: Final = """\
INSERT INTO {table} (key, long_key, document, parts)
    SELECT %s::text, %s::text, convert_from(%b, 'UTF8'), %b::bytea WHERE {held}
    ON CONFLICT (key) DO UPDATE SET document = excluded.document, parts = excluded.parts"""
DELETE: Final = "DELETE FROM {table} WHERE key = %s AND {held}"
CLEAR: Final = "DELETE FROM {table} WHERE key >= %s AND key < %s AND position('/' IN substr(key, %s)) = 0 AND {held}"
FIND: Final = "SELECT convert_to(document, 'UTF8'), parts FROM {table} WHERE key = %s"
CONTAINS: Final = "SELECT 1 FROM {table} WHERE key = %s"
LIST: Final = "SELECT coalesce(long_key, key) FROM {table} WHERE starts_with(coalesce(long_key, key), %s)"

#: A write by the holder of a lease, in one with seeing to it that the lease is still its own. FOR SHARE lets nobody
#: take it over in the middle.
FENCED: Final = """\
WITH held AS (SELECT FROM {leases} WHERE workflow_id = %s AND token = %s FOR SHARE), done AS ({write})
SELECT 1 FROM held"""

READ_LEASE: Final = """\
SELECT note, version, extract(epoch FROM clock_timestamp() - written)::float8 FROM {leases} WHERE workflow_id = %s"""
INSERT_LEASE: Final = """\
INSERT INTO {leases} (workflow_id, note, token, version, written) VALUES (%s, %s, %s, %s, clock_timestamp())
    ON CONFLICT DO NOTHING RETURNING 1"""
UPDATE_LEASE: Final = """\
UPDATE {leases} SET note = %s, token = %s, version = %s, written = clock_timestamp()
    WHERE workflow_id = %s AND version = %s RETURNING 1"""

Values = Sequence[object] | None


class PostgresTables:
    """Both tables. They are made by the first write, or may be there already, made by somebody else.

    Args:
        pool: The server.
        name: Of the table of values, after its schema and a dot where that is not the first of the search path.
    """

    def __init__(self, pool: PostgresPool, name: str) -> None:
        self.pool = pool
        self.name = name
        self._names = {"table": quoted(name), "leases": quoted(name + LEASES_SUFFIX)}
        self._identity: Hashable | None = None

    def identity(self, *, create: bool = False) -> Hashable | None:
        """What makes the tables the only ones in the world; None where they are not there and not to be made."""
        if self._identity is None:
            self._identity = self._read_identity() or (self._create() if create else None)
        return self._identity

    def query(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """The rows that are found; none where there are no tables."""
        return self._run(statement, values) if self.identity() else []

    def execute(self, statement: str, *values: object, timeout: float = RECONNECT_TIMEOUT) -> list[tuple[Any, ...]]:
        """Runs any statement, as the pool does; its rows."""
        self.identity(create=True)
        return self._run(statement, values, timeout)

    def write(self, statement: str, *values: object, workflow: str, lease: Lease | None) -> None:
        """Writes: where this process holds the workflow, then only if that is still so.

        Args:
            statement: SAVE, DELETE or CLEAR.
            *values: For its placeholders.
            workflow: Whose values they are, as the table of leases names it.
            lease: That this process has on it, if any.

        Raises:
            StorageError: It can't be written, or another process holds the workflow now.
        """
        if lease is None:
            self.execute(statement.replace("{held}", "true"), *values)
            return
        fenced = FENCED.replace("{write}", statement.replace("{held}", "EXISTS (SELECT FROM held)"))
        for _ in range(2):
            if self.execute(fenced, workflow, lease.token, *values):
                return
            lease.update()  # says who has it; where it is this process after all, it is written once more
        raise LeaseLost(f"The lease on {workflow!r} is gone", "nothing was written; start again with resume=True")

    def _read_identity(self) -> Hashable | None:
        ((*server, table, leases),) = self._run(IDENTITY, (self._names["table"], self._names["leases"]))
        return None if table is None or leases is None else (*server, table, leases)

    def _create(self) -> Hashable | None:
        self._run(SCHEMA, None)
        return self._read_identity()

    def _run(self, statement: str, values: Values, timeout: float = RECONNECT_TIMEOUT) -> list[tuple[Any, ...]]:
        for name, quoted_name in self._names.items():
            statement = statement.replace(f"{{{name}}}", quoted_name)
        return self.pool.run(statement, values, timeout)

    def __getstate__(self) -> dict[str, Any]:
        """A copy may be used with another server: it looks for itself."""
        return self.__dict__ | {"_identity": None}


class RowRegister(Register):
    """The text of a workflow, as a row.

    Args:
        tables: Where it is.
        workflow: The workflow, as the table names it.
    """

    def __init__(self, tables: PostgresTables, workflow: str) -> None:
        self._tables = tables
        self._workflow = workflow
        self.key = (tables.identity(create=True), workflow)
        self.location = f"{tables.pool.dsn.location()}, table {tables.name}{LEASES_SUFFIX}"

    def read(self) -> Entry | None:
        rows = self._tables.execute(READ_LEASE, self._workflow, timeout=LEASE_TIMEOUT)
        return Entry(rows[0][0], rows[0][1], max(0.0, rows[0][2])) if rows else None

    def write(self, text: str, version: str | None) -> str | None:
        token, new = json.loads(text)["token"], uuid.uuid4().hex
        if version is None:
            rows = self._tables.execute(INSERT_LEASE, self._workflow, text, token, new, timeout=LEASE_TIMEOUT)
        else:
            rows = self._tables.execute(UPDATE_LEASE, text, token, new, self._workflow, version, timeout=LEASE_TIMEOUT)
        return new if rows else None


def check_table(name: object) -> str:
    """The name of a table. Raises InvalidArgument."""
    if not isinstance(name, str) or NAME.fullmatch(name) is None:
        accepted = "a name such as 'dotflow_checkpoints' or 'schema.name': letters, digits and _, at most 56 characters"
        raise InvalidArgument("table", name, accepted)
    return name


def quoted(name: str) -> str:
    """A checked name, so that capitals count."""
    return ".".join(f'"{part}"' for part in name.split("."))


def shorten_key(text: str) -> str:
    """Text as a key: an index takes up to 2,704 bytes. What is too long is its beginning, and a digest."""
    escaped = escape(text)
    if len(escaped) <= MAX_LENGTH:
        return escaped
    # No escaped text contains U+FFFF and a tilde.
    return f"{escaped[:PREFIX_LENGTH]}\uffff~{sha256(escaped.encode()).hexdigest()}"
