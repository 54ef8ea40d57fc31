"""StoragePostgres: values in a Postgres table, for several machines."""

import contextlib
from collections.abc import Hashable, Iterable

from dotflow.abc.storage import Storage, key_of
from dotflow.codec.document import pack, unpack
from dotflow.core.context import Context
from dotflow.core.durations import Duration
from dotflow.core.task import Task
from dotflow.errors import CheckpointUnreadable, InvalidArgument
from dotflow.providers.optional import require_extra
from dotflow.providers.storages.joined_parts import JoinedParts
from dotflow.providers.storages.leases.lease import SECONDS, Lease, LeaseLock, check_seconds
from dotflow.providers.storages.postgres.pool import Dsn, PostgresPool
from dotflow.providers.storages.postgres.tables import (
    CLEAR,
    CONTAINS,
    DELETE,
    FIND,
    LIST,
    SAVE,
    PostgresTables,
    RowRegister,
    check_table,
    shorten_key,
)
from dotflow.providers.storages.text_escape import escape, unescape


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
        self._tables = PostgresTables(PostgresPool(Dsn(dsn)), check_table(table))

    def post(self, key: str, context: Context) -> None:
        """Saves the value. While the workflow is locked, only the holder's process can."""
        parts = JoinedParts()
        document = pack(key, context, pickle=self._pickle, put=parts.put)
        name, escaped = _row_key(key), escape(key)
        self._write(SAVE, name, None if name == escaped else escaped, document, parts.data(), workflow=_workflow(key))

    def get(self, key: str) -> Context:
        rows = self._tables.query(FIND, _row_key(key))
        if not rows:
            return Context()
        try:
            document, data = rows[0]
            return unpack(document, key, pickle=self._pickle, fetch=JoinedParts(data).fetch)
        except CheckpointUnreadable as error:
            where = f"{self._tables.pool.dsn.location()}, table {self._tables.name}, key {key!r}"
            raise error.at(where=where) from error.__cause__

    def key(self, task: Task) -> str:
        return key_of(task)

    def contains(self, key: str) -> bool:
        return bool(self._tables.query(CONTAINS, _row_key(key)))

    def delete(self, key: str) -> None:
        """Deletes the value. While the workflow is locked, only the holder's process can."""
        if self._tables.identity():
            self._write(DELETE, _row_key(key), workflow=_workflow(key))

    def list_keys(self, prefix: str = "") -> Iterable[str]:
        """Returns the keys in order."""
        return sorted(unescape(key) for (key,) in self._tables.query(LIST, escape(prefix)))

    def clear(self, workflow_id: str) -> bool:
        """Deletes all values in one transaction. While the workflow is locked, only the holder's process can.

        It also creates the tables, so that missing permissions show before the first step runs.
        """
        name = shorten_key(workflow_id)
        self._write(CLEAR, f"{name}/", f"{name}0", len(name) + 2, workflow=name)  # "0" comes next after "/"
        return True

    def lock(self, workflow_id: str) -> contextlib.AbstractContextManager[Hashable]:
        """Locks the workflow by a lease, which a thread renews."""
        return LeaseLock(RowRegister(self._tables, shorten_key(workflow_id)), workflow_id, self._seconds)

    def close(self) -> None:
        """Closes the idle connections. The next call connects again.

        They are also closed when the storage is garbage-collected, and at the end of the program.
        """
        self._tables.pool.close()

    def _write(self, statement: str, *values: object, workflow: str) -> None:
        lease: Lease | None = LeaseLock.held((self._tables.identity(create=True), workflow))
        self._tables.write(statement, *values, workflow=workflow, lease=lease)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._tables.pool.dsn.location()}, table {self._tables.name}>"


def _row_key(key: str) -> str:
    """Returns the key of a row, in which workflow and task are shortened separately."""
    workflow_id, slash, task = key.rpartition("/")
    return f"{shorten_key(workflow_id)}{slash}{shorten_key(task)}"


def _workflow(key: str) -> str:
    return shorten_key(key.rpartition("/")[0])
