"""StoragePostgres: values and leases in two Postgres tables, for several machines."""

import contextlib
import json
import re
import uuid
from collections.abc import Hashable, Iterable, Sequence
from hashlib import sha256
from typing import Any, Final

from dotflow.abc.storage import Storage, key_of
from dotflow.codec.document import pack, unpack
from dotflow.core.context import Context
from dotflow.core.durations import Duration
from dotflow.core.task import Task
from dotflow.errors import InvalidArgument
from dotflow.providers.optional import require_extra
from dotflow.providers.postgres.dsn import Dsn
from dotflow.providers.storages.joined_parts import JoinedParts
from dotflow.providers.storages.lease import SECONDS, LeaseLock, Register, RegisterText, check_seconds
from dotflow.providers.storages.postgres.pool import RECONNECT_TIMEOUT, PostgresPool
from dotflow.providers.text_escape import escape, unescape

LEASE_TIMEOUT: Final = 5.0  # seconds that a lease waits for an unreachable server
MAX_LENGTH: Final = 300  # characters of up to 4 bytes; a key has two such texts
PREFIX_LENGTH: Final = 100  # characters of a longer text in its key
LEASES_SUFFIX: Final = "_leases"  # of the second table's name
NAME: Final = re.compile(r"(?:[A-Za-z_][A-Za-z0-9_]{0,62}\.)?[A-Za-z_][A-Za-z0-9_]{0,55}")  # 63 bytes with the suffix

CREATE_LOCK: Final = 0x646F7466  # "dotf": an advisory lock for creating the tables
#: One transaction. IF NOT EXISTS alone fails when two sessions do it at once.
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
#: Identifies server (with its replicas and restarts), database and tables.
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

#: A write on the condition that the lease is still the holder's. FOR SHARE locks the lease until the commit.
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


class PostgresTables:
    """Both tables. The first write creates them, unless they exist.

    Args:
        pool: The server.
        name: The table of values, with its schema and a dot unless that is the first of the search path.
    """

    def __init__(self, pool: PostgresPool, name: str) -> None:
        self.pool = pool
        self.name = name
        self._names = {"table": quoted(name), "leases": quoted(name + LEASES_SUFFIX)}
        self._identity: Hashable | None = None

    def identity(self, *, create: bool = False) -> Hashable | None:
        """Returns what identifies the tables; None if they don't exist and are not to be created."""
        if self._identity is None:
            self._identity = self._read_identity() or (self._create() if create else None)
        return self._identity

    def query(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Returns the rows of a query; none without tables."""
        return self._run(statement, values) if self.identity() else []

    def execute(self, statement: str, *values: object, timeout: float = RECONNECT_TIMEOUT) -> list[tuple[Any, ...]]:
        """Creates the tables if they are missing, runs a statement, and returns its rows."""
        self.identity(create=True)
        return self._run(statement, values, timeout)

    def write(self, statement: str, *values: object, workflow: str) -> None:
        """Runs a write; where this process has a lease, only if that is still its own.

        Args:
            statement: SAVE, DELETE or CLEAR.
            *values: For the placeholders.
            workflow: The workflow's key in the table of leases.

        Raises:
            StorageError: The write failed, or another process holds the workflow now.
        """
        lease = LeaseLock.held((self.identity(create=True), workflow))
        if lease is None:
            self.execute(statement.replace("{held}", "true"), *values)
            return
        fenced = FENCED.replace("{write}", statement.replace("{held}", "EXISTS (SELECT FROM held)"))
        for _ in range(2):
            if self.execute(fenced, workflow, lease.token, *values):
                return
            lease.update()  # raises if the lease is lost; otherwise writes the row again
        raise lease.lost_error("another process keeps changing its row")

    def _read_identity(self) -> Hashable | None:
        ((*server, table, leases),) = self._run(IDENTITY, (self._names["table"], self._names["leases"]))
        return None if table is None or leases is None else (*server, table, leases)

    def _create(self) -> Hashable | None:
        self._run(SCHEMA, None)
        return self._read_identity()

    def _run(
        self, statement: str, values: Sequence[object] | None, timeout: float = RECONNECT_TIMEOUT
    ) -> list[tuple[Any, ...]]:
        for name, quoted_name in self._names.items():
            statement = statement.replace(f"{{{name}}}", quoted_name)
        return self.pool.run(statement, values, timeout)

    def __getstate__(self) -> dict[str, Any]:
        """Leaves the identity out: a copy may reach another server."""
        return self.__dict__ | {"_identity": None}


class RowRegister(Register):
    """The text of a workflow as a row.

    Args:
        tables: The tables.
        workflow: The workflow's key.
    """

    def __init__(self, tables: PostgresTables, workflow: str) -> None:
        self._tables = tables
        self._workflow = workflow
        self.key = (tables.identity(create=True), workflow)
        self.location = f"{tables.pool.dsn.location()}, table {tables.name}{LEASES_SUFFIX}"

    def read(self) -> RegisterText | None:
        rows = self._tables.execute(READ_LEASE, self._workflow, timeout=LEASE_TIMEOUT)
        return RegisterText(rows[0][0], rows[0][1], max(0.0, rows[0][2])) if rows else None

    def write(self, text: str, version: str | None) -> str | None:
        token, new = json.loads(text)["token"], uuid.uuid4().hex
        if version is None:
            rows = self._tables.execute(INSERT_LEASE, self._workflow, text, token, new, timeout=LEASE_TIMEOUT)
        else:
            rows = self._tables.execute(UPDATE_LEASE, text, token, new, self._workflow, version, timeout=LEASE_TIMEOUT)
        return new if rows else None


def check_table(name: object) -> str:
    """Returns the name of a table. Raises InvalidArgument."""
    if not isinstance(name, str) or NAME.fullmatch(name) is None:
        accepted = "a name such as 'dotflow_checkpoints' or 'schema.name': letters, digits and _, at most 56 characters"
        raise InvalidArgument("table", name, accepted)
    return name


def quoted(name: str) -> str:
    """Returns a checked name in quotes, so that its case counts."""
    return ".".join(f'"{part}"' for part in name.split("."))


def shorten_key(text: str) -> str:
    """Returns a text as a key. A long one becomes a prefix and a digest, since an index takes up to 2,704 bytes."""
    escaped = escape(text)
    if len(escaped) <= MAX_LENGTH:
        return escaped
    # No escaped text contains U+FFFF and a tilde.
    return f"{escaped[:PREFIX_LENGTH]}\uffff~{sha256(escaped.encode()).hexdigest()}"


class StoragePostgres(Storage):
    """Saves each value in a row of a Postgres table. Any machine can resume the workflow.

    Any tool can read the documents: `SELECT key, document::json -> 'value' FROM dotflow_checkpoints`. Bytes, arrays and
    frames of more than 64 KB are in the column `parts`, one after the other. Writes are retried for 30 s while the
    server restarts. Poolers such as PgBouncer may be between, in transaction mode too. Needs
    `pip install 'dotflow[postgres]'`.

    Args:
        dsn: The database: a URL, `host=... dbname=...`, or '' for that of the environment. Better keep the password in
            `PGPASSWORD` or `~/.pgpass`. It is neither shown nor pickled.
        table: The table, created by the first run or value; `schema.name` unless its schema is the first of the search
            path. A second table, whose name ends in `_leases`, holds the leases.
        lease: How long a workflow stays locked after its machine is gone: seconds, or a text such as "2m". It is
            renewed three times in that time.
        pickle: Whether to pickle values that the codec refuses. Reading a pickle can run any program. So use it only
            for tables that only you can write to. A pickle depends on the versions of the packages in it.

    Raises:
        InvalidArgument: One of the arguments is invalid.
        MissingExtra: psycopg, or its libpq, is missing.
    """

    def __init__(
        self, dsn: str, *, table: str = "dotflow_checkpoints", lease: Duration = SECONDS, pickle: bool = False
    ) -> None:
        require_extra("psycopg", type(self).__name__, "postgres")
        if not isinstance(pickle, bool):
            raise InvalidArgument("pickle", pickle, "True or False")
        self._seconds = check_seconds(lease)
        self._pickle = pickle
        self._tables = PostgresTables(PostgresPool(Dsn(dsn, type(self).__name__)), check_table(table))

    def post(self, key: str, context: Context) -> None:
        """Saves the value. While the workflow is locked, only the holder's process can."""
        parts = JoinedParts()
        document = pack(key, context, pickle=self._pickle, put=parts.put)
        name, escaped = _row_key(key), escape(key)
        self._tables.write(
            SAVE, name, None if name == escaped else escaped, document, parts.data(), workflow=_workflow(key)
        )

    def get(self, key: str) -> Context:
        rows = self._tables.query(FIND, _row_key(key))
        if not rows:
            return Context()
        document, data = rows[0]
        where = f"{self._tables.pool.dsn.location()}, table {self._tables.name}, key {key!r}"
        return unpack(document, key, where, pickle=self._pickle, fetch=JoinedParts(data).fetch)

    def key(self, task: Task) -> str:
        return key_of(task)

    def contains(self, key: str) -> bool:
        return bool(self._tables.query(CONTAINS, _row_key(key)))

    def delete(self, key: str) -> None:
        """Deletes the value. While the workflow is locked, only the holder's process can."""
        if self._tables.identity():
            self._tables.write(DELETE, _row_key(key), workflow=_workflow(key))

    def list_keys(self, prefix: str = "") -> Iterable[str]:
        """Returns the keys in order."""
        return sorted(unescape(key) for (key,) in self._tables.query(LIST, escape(prefix)))

    def clear(self, workflow_id: str) -> bool:
        """Deletes all values in one transaction. While the workflow is locked, only the holder's process can.

        It also creates the tables, so that missing permissions show before the first step runs.
        """
        name = shorten_key(workflow_id)
        self._tables.write(CLEAR, f"{name}/", f"{name}0", len(name) + 2, workflow=name)  # "0" comes next after "/"
        return True

    def lock(self, workflow_id: str) -> contextlib.AbstractContextManager[Hashable]:
        """Locks the workflow by a lease, which a thread renews."""
        return LeaseLock(RowRegister(self._tables, shorten_key(workflow_id)), workflow_id, self._seconds)

    def close(self) -> None:
        """Closes the idle connections. The next call connects again.

        They are also closed when the storage is garbage-collected, and at the end of the program.
        """
        self._tables.pool.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._tables.pool.dsn.location()}, table {self._tables.name}>"


def _row_key(key: str) -> str:
    """Returns the key of a row, in which workflow and task are shortened separately."""
    workflow_id, slash, task = key.rpartition("/")
    return f"{shorten_key(workflow_id)}{slash}{shorten_key(task)}"


def _workflow(key: str) -> str:
    return shorten_key(key.rpartition("/")[0])
