"""StorageSQLite: all values in one file, with a transaction for each write."""

import contextlib
import os
import sqlite3
import weakref
from collections.abc import Hashable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from dotflow.abc.storage import Storage, key_of
from dotflow.atomic_file import Files, check_writable
from dotflow.codec.document import pack, unpack
from dotflow.core.context import Context
from dotflow.core.task import Task
from dotflow.errors import CheckpointUnreadable, InvalidArgument
from dotflow.providers.sqlite_errors import cause_of, is_unreadable, with_explanation
from dotflow.providers.sqlite_file import DatabaseFormat, SQLiteFile
from dotflow.providers.storages.arguments import check_arguments
from dotflow.providers.storages.file_lock import FileLock
from dotflow.providers.storages.joined_parts import JoinedParts
from dotflow.providers.text_escape import escape, unescape

#: SQLite's setting "synchronous", with WAL: sqlite.org/pragma.html#pragma_synchronous
SYNCHRONOUS: Final[Mapping[str, str]] = {"power": "FULL", "process": "NORMAL"}

CREATE: Final = "CREATE TABLE checkpoints (key TEXT NOT NULL PRIMARY KEY, document TEXT NOT NULL, parts BLOB)"
_UNUSED: Final = (
    "DELETE FROM parts WHERE sha256 = old.sha256 AND NOT EXISTS (SELECT 1 FROM checkpoints WHERE sha256 = old.sha256)"
)
#: Documents with equal parts share a row of them, which is deleted with the last one. Version 1 had them beside each.
SHARE: Final = (
    "CREATE TABLE parts (sha256 TEXT NOT NULL PRIMARY KEY, data BLOB NOT NULL)",
    "ALTER TABLE checkpoints ADD COLUMN sha256 TEXT",
    "CREATE INDEX checkpoints_sha256 ON checkpoints (sha256) WHERE sha256 IS NOT NULL",
    f"CREATE TRIGGER deleted AFTER DELETE ON checkpoints WHEN old.sha256 IS NOT NULL BEGIN {_UNUSED}; END",
    "CREATE TRIGGER replaced AFTER UPDATE OF sha256 ON checkpoints "
    f"WHEN old.sha256 IS NOT NULL AND old.sha256 IS NOT new.sha256 BEGIN {_UNUSED}; END",
)

FORMAT: Final = DatabaseFormat(
    application_id=0x646F7466,  # "dotf"
    version=2,
    schema=(CREATE, *SHARE),
    upgrades={1: SHARE},
    text_factory=bytes,
)

# Each is one statement, and so a transaction that takes the write lock at once, as BEGIN IMMEDIATE does. An interrupt
# comes before or after it. Only SAVE_PARTS and SAVE are together in one.
SAVE: Final = (
    "INSERT INTO checkpoints (key, document, sha256) VALUES (?, CAST(? AS TEXT), ?) "
    "ON CONFLICT (key) DO UPDATE SET document = excluded.document, sha256 = excluded.sha256, parts = NULL"
)
SAVE_PARTS: Final = (  # the same parts are written again only where they are damaged
    "INSERT INTO parts (sha256, data) VALUES (?, ?) "
    "ON CONFLICT (sha256) DO UPDATE SET data = excluded.data WHERE data IS NOT excluded.data"
)
DELETE: Final = "DELETE FROM checkpoints WHERE key = ?"
CLEAR: Final = "DELETE FROM checkpoints WHERE key >= ? AND key < ? AND NOT instr(substr(key, ?), '/')"
FIND: Final = (  # a column takes values of any type
    "SELECT document, CAST(coalesce(parts, (SELECT data FROM parts WHERE parts.sha256 = checkpoints.sha256)) AS BLOB) "
    "FROM checkpoints WHERE key = ?"
)
CONTAINS: Final = "SELECT 1 FROM checkpoints WHERE key = ?"
LIST: Final = "SELECT key FROM checkpoints WHERE key >= ? AND substr(key, 1, ?) = ?"


class StorageSQLite(Storage):
    """Saves all values in one SQLite file, which any number of processes may write to at the same time.

    While it is in use, the files `-wal` and `-shm` beside it belong to it. Any SQLite tool can read its documents:
    `SELECT key, document FROM checkpoints`. Bytes, arrays and frames of more than 64 KB are in the table `parts`, one
    after the other. Documents with the same ones, such as a cached value and its checkpoint, share a row there.

    Args:
        path: The file, made with its folder at the first checkpoint. A relative path counts from the current folder.
            A database of another program is refused.
        pickle: Whether to pickle values that the codec refuses. Reading a pickle can run any program. So use it only
            for files that only you can write to. A pickle depends on the versions of the packages in it.
        durability: "power": a checkpoint survives a power cut, and costs an fsync. "process": it survives the end of
            the process, kill -9 included, and is several times as fast. After a power cut the last ones may be
            missing, but none is damaged.
        umask: The permissions that the files and folders do not have, in octal: "027" lets the group read them. By
            default those of the environment variable DOTFLOW_UMASK, and without it only their owner has any.

    Raises:
        InvalidArgument: One of the arguments is invalid.
    """

    is_local = True

    def __init__(
        self,
        path: str | os.PathLike[str] = ".output/dotflow.db",
        pickle: bool = False,
        durability: str = "power",
        umask: str | None = None,
    ) -> None:
        self.path: Path = check_arguments(path, pickle, durability, umask, expected="the path of a file")
        if os.fspath(path) == ":memory:":
            raise InvalidArgument("path", path, "the path of a file; to keep values in memory, use StorageDefault()")
        self.durability = durability
        self._pickle = pickle
        self._files = Files(umask)
        self._set_file()

    def _set_file(self) -> None:
        self._file = SQLiteFile(self.path, FORMAT, synchronous=SYNCHRONOUS[self.durability], files=self._files)
        weakref.finalize(self, self._file.close)

    def post(self, key: str, context: Context) -> None:
        parts = JoinedParts()
        document = pack(key, context, pickle=self._pickle, put=parts.put)
        data = parts.data()
        if data is None:
            self._write(SAVE, escape(key), document, None, create=True)
            return
        checksum = parts.checksum()

        def save(connection: sqlite3.Connection) -> None:
            connection.execute(SAVE_PARTS, (checksum, data))
            connection.execute(SAVE, (escape(key), document, checksum))

        with self._explained():
            self._file.transact(save)

    def get(self, key: str) -> Context:
        rows = self._read(FIND, key)
        if not rows:
            return Context()
        document, data = rows[0]
        return unpack(document, key, self._where(key), pickle=self._pickle, fetch=JoinedParts(data).fetch)

    def key(self, task: Task) -> str:
        return key_of(task)

    def contains(self, key: str) -> bool:
        return bool(self._read(CONTAINS, key))

    def delete(self, key: str) -> None:
        self._write(DELETE, escape(key))

    def list_keys(self, prefix: str = "") -> Iterable[str]:
        """Returns the keys in order."""
        start = escape(prefix)
        return sorted(
            unescape(key.decode(errors="replace")) for (key,) in self._read(LIST, prefix, start, len(start), start)
        )

    def clear(self, workflow_id: str) -> bool:
        """Deletes all values of the workflow in one transaction."""
        name = escape(workflow_id)
        self._write(CLEAR, f"{name}/", f"{name}0", len(name) + 2)  # "0" comes next after "/"
        return True

    def check_writable(self, workflow_id: str) -> None:
        self._file.check_private()
        check_writable(str(self.path))
        if not os.path.lexists(f"{self.path}-wal"):  # made at the first write
            check_writable(str(self.path.parent))

    def lock(self, workflow_id: str) -> contextlib.AbstractContextManager[Hashable]:
        """Locks a file in a folder beside the database."""
        self._file.check_private()
        locks = self.path.with_name(f"{self.path.name}.locks")
        return FileLock(locks, workflow_id, data_folder=self.path.parent, files=self._files)

    def close(self) -> None:
        """Closes the file, so that it can be copied, moved or deleted. The next call opens it again.

        The file is also closed when the storage is garbage-collected, and at the end of the program.
        """
        self._file.close()

    def _write(self, statement: str, *values: Any, create: bool = False) -> None:
        if not create:  # which checks it, too
            self._file.check_private()
        with self._explained():
            self._file.run(statement, values, create=create)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OverflowError) as error:
            raise with_explanation(error, self.path) from error

    def _read(self, statement: str, key: str, *values: Any) -> list[tuple[Any, ...]]:
        try:
            return self._file.run(statement, values or (escape(key),))
        except sqlite3.Error as error:
            if is_unreadable(error):
                raise CheckpointUnreadable(cause_of(error), self._where(key)) from error
            raise with_explanation(error, self.path) from error

    def _where(self, key: str) -> str:
        return f"{self.path}, key {key!r}"

    def __getstate__(self) -> dict[str, Any]:
        """Leaves the connection out: another process opens its own."""
        return {name: value for name, value in self.__dict__.items() if name != "_file"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._set_file()
