"""StoragePostgres: a table of a Postgres database, for several machines."""

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
from dotflow.providers.storages.leases.lease import Lease, check_seconds
from dotflow.providers.storages.leases.lease_lock import LeaseLock
from dotflow.providers.storages.leases.lease_record import SECONDS
from dotflow.providers.storages.postgres.dsn import Dsn
from dotflow.providers.storages.postgres.pool import PostgresPool
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
    """Keeps each value in a row of a Postgres table: runs go on on another machine.

    The documents can be read with any tool: `SELECT key, document::json -> 'value' FROM dotflow_checkpoints`. Bytes,
    arrays and frames of more than 64 KB are in the column `parts` instead, one after the other as they are. A server
    that restarts is waited for. Poolers such as PgBouncer may stand between, in their transaction mode too. Needs
    `pip install 'dotflow[postgres]'`.

    Args:
        dsn: The database: a URL, `host=... dbname=...`, or '' for what the environment says. A password is better kept
            in `PGPASSWORD` or `~/.pgpass`. It is shown nowhere, and doesn't travel: a pickled copy has none.
        table: The table, made by the first run or value; `schema.name` where that is not the first schema of the search
            path. A second one, whose name ends in `_leases`, says who runs which workflow.
        lease: How long a workflow stays taken after the machine that ran it is gone: seconds, or a text such as "2m".
            It is renewed three times in that time.
        pickle: Whether values that the codec refuses are pickled. Whoever can write to the table can then run any
            program when a checkpoint is read. A pickle also depends on the versions of what is in it.

    Raises:
        InvalidArgument: One of them means nothing.
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
        """As Storage says; it is committed when this returns. While the workflow is held, only its holder can."""
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
        """As Storage says: `workflow_id/task_id`."""
        return key_of(task)

    def contains(self, key: str) -> bool:
        """As Storage says; a document that can't be read is contained."""
        return bool(self._tables.query(CONTAINS, _row_key(key)))

    def delete(self, key: str) -> None:
        """As Storage says. While the workflow is held, only its holder can."""
        if self._tables.identity():
            self._write(DELETE, _row_key(key), workflow=_workflow(key))

    def list_keys(self, prefix: str = "") -> Iterable[str]:
        """As Storage says, in order."""
        return sorted(unescape(key) for (key,) in self._tables.query(LIST, escape(prefix)))

    def clear(self, workflow_id: str) -> bool:
        """As Storage says; a crash leaves all of it or nothing. While the workflow is held, only its holder can.

        It makes the tables: what a run isn't allowed to write, it learns before its steps.
        """
        name = shorten_key(workflow_id)
        self._write(CLEAR, f"{name}/", f"{name}0", len(name) + 2, workflow=name)  # "0" comes next after "/"
        return True

    def lock(self, workflow_id: str) -> contextlib.AbstractContextManager[Hashable]:
        """As Storage says, by a lease, which is renewed from a thread while it is held."""
        return LeaseLock(RowRegister(self._tables, shorten_key(workflow_id)), workflow_id, self._seconds)

    def close(self) -> None:
        """Closes the connections that nobody uses now; the next call connects again.

        They are closed by themselves when the storage is no longer used, and at the end of the program.
        """
        self._tables.pool.close()

    def _write(self, statement: str, *values: object, workflow: str) -> None:
        lease: Lease | None = LeaseLock.held((self._tables.identity(create=True), workflow))
        self._tables.write(statement, *values, workflow=workflow, lease=lease)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._tables.pool.dsn.location()}, table {self._tables.name}>"


def _row_key(key: str) -> str:
    """The key as the table has it. The workflow and the task are shortened each for itself."""
    workflow_id, slash, task = key.rpartition("/")
    return f"{shorten_key(workflow_id)}{slash}{shorten_key(task)}"


def _workflow(key: str) -> str:
    return shorten_key(key.rpartition("/")[0])
