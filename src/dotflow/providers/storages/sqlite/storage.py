"""StorageSQLite: one file, in which every write is a transaction."""

import contextlib
import os
import sqlite3
import weakref
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from dotflow.abc.storage import Storage, key_of
from dotflow.codec.document import pack, unpack
from dotflow.core.context import Context
from dotflow.core.task import Task
from dotflow.errors import CheckpointUnreadable, InvalidArgument
from dotflow.providers.storages.arguments import check_arguments
from dotflow.providers.storages.file_lock import FileLock
from dotflow.providers.storages.joined_parts import JoinedParts
from dotflow.providers.storages.sqlite.database import SQLiteFile, explanation_of, is_unreadable, with_explanation
from dotflow.providers.storages.text_escape import escape, unescape

#: How much of a commit SQLite waits for, with WAL: sqlite.org/pragma.html#pragma_synchronous
SYNCHRONOUS: Final[Mapping[str, str]] = {"power": "FULL", "process": "NORMAL"}

# Each is one statement, so SQLite makes a transaction of it that takes the write lock at once, as BEGIN IMMEDIATE does,
# and whatever interrupts Python comes before or after it.
SAVE: Final = (
    "INSERT INTO checkpoints (key, document, parts) VALUES (?, CAST(? AS TEXT), ?) "
    "ON CONFLICT (key) DO UPDATE SET document = excluded.document, parts = excluded.parts"
)
DELETE: Final = "DELETE FROM checkpoints WHERE key = ?"
CLEAR: Final = "DELETE FROM checkpoints WHERE key >= ? AND key < ? AND NOT instr(substr(key, ?), '/')"
FIND: Final = "SELECT document, parts FROM checkpoints WHERE key = ?"
CONTAINS: Final = "SELECT 1 FROM checkpoints WHERE key = ?"
LIST: Final = "SELECT key FROM checkpoints WHERE key >= ? AND substr(key, 1, ?) = ?"


class StorageSQLite(Storage):
    """Keeps all values in one SQLite file, which any number of processes may write to at once.

    While it is in use, two files stand beside it that belong to it, `-wal` and `-shm`. Its documents can be read with
    any SQLite tool: `SELECT key, document FROM checkpoints`. Bytes, arrays and frames of more than 64 KB are
    in the column `parts` instead, one after the other as they are.

    Args:
        path: The file; made at the first checkpoint, with its folder. A relative one is meant from where the process is
            now. A database of another program is refused: it would be turned to WAL, and tables could clash.
        pickle: Whether values that the codec refuses are pickled. Whoever can write to the file can then run any
            program when a checkpoint is read: choose it for files only that nobody else can write to. A pickle also
            depends on the versions of what is in it.
        durability: "power": a checkpoint survives a power cut and costs an fsync. "process": it survives the death of
            the process (kill -9 too) and is several times as fast; after a power cut the last ones may be missing,
            but none is torn.

    Raises:
        InvalidArgument: One of them means nothing.
    """

    is_local = True

    def __init__(
        self, path: str | os.PathLike[str] = ".output/dotflow.db", pickle: bool = False, durability: str = "power"
    ) -> None:
        self.path: Path = check_arguments(path, pickle, durability, expected="the path of a file")
        if os.fspath(path) == ":memory:":
            raise InvalidArgument("path", path, "the path of a file; to keep values in memory, use StorageDefault()")
        self.durability = durability
        self._pickle = pickle
        self._set_file()

    def _set_file(self) -> None:
        self._file = SQLiteFile(self.path, SYNCHRONOUS[self.durability])
        weakref.finalize(self, self._file.close)

    def post(self, key: str, context: Context) -> None:
        """As Storage says; it is committed when this returns."""
        parts = JoinedParts()
        document = pack(key, context, pickle=self._pickle, put=parts.put)
        self._write(SAVE, escape(key), document, parts.data(), create=True)

    def get(self, key: str) -> Context:
        rows = self._read(FIND, key)
        if not rows:
            return Context()
        try:
            document, data = rows[0]
            return unpack(document, key, pickle=self._pickle, fetch=JoinedParts(data).fetch)
        except CheckpointUnreadable as error:
            raise error.at(where=self._where(key)) from error.__cause__

    def key(self, task: Task) -> str:
        """As Storage says: `workflow_id/task_id`."""
        return key_of(task)

    def contains(self, key: str) -> bool:
        """As Storage says; a document that can't be read is contained."""
        return bool(self._read(CONTAINS, key))

    def delete(self, key: str) -> None:
        self._write(DELETE, escape(key))

    def list_keys(self, prefix: str = "") -> Iterable[str]:
        """As Storage says, in order."""
        start = escape(prefix)
        return sorted(unescape(key.decode()) for (key,) in self._read(LIST, prefix, start, len(start), start))

    def clear(self, workflow_id: str) -> bool:
        """As Storage says; a crash leaves all of it or nothing."""
        name = escape(workflow_id)
        self._write(CLEAR, f"{name}/", f"{name}0", len(name) + 2)  # "0" comes next after "/"
        return True

    def lock(self, workflow_id: str) -> contextlib.AbstractContextManager[Hashable]:
        """As Storage says, by a lock in a folder beside the file."""
        locks = self.path.with_name(f"{self.path.name}.locks")
        return FileLock(locks, workflow_id, data_folder=self.path.parent)

    def close(self) -> None:
        """Closes the file, so that it can be copied, moved or deleted; the next call opens it again.

        It is closed by itself when the storage is no longer used, and at the end of the program.
        """
        self._file.close()

    def _write(self, statement: str, *values: Any, create: bool = False) -> None:
        try:
            self._file.run(statement, values, create=create)
        except (sqlite3.Error, OverflowError) as error:
            raise with_explanation(error, self.path) from error

    def _read(self, statement: str, key: str, *values: Any) -> list[tuple[Any, ...]]:
        try:
            return self._file.run(statement, values or (escape(key),))
        except sqlite3.Error as error:
            if is_unreadable(error):
                raise CheckpointUnreadable(explanation_of(error), self._where(key)) from error
            raise with_explanation(error, self.path) from error

    def _where(self, key: str) -> str:
        return f"{self.path}, key {key!r}"

    def __getstate__(self) -> dict[str, Any]:
        """A connection doesn't travel; the other process makes its own."""
        return {name: value for name, value in self.__dict__.items() if name != "_file"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._set_file()
