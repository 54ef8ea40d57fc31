"""Damage: a file that SQLite finds damaged is put aside, and a new one begins."""

import contextlib
import itertools
import sqlite3
from pathlib import Path
from typing import Final

from dotflow.providers.histories.sqlite.formats import FORMAT
from dotflow.providers.sqlite_errors import code_of
from dotflow.providers.sqlite_file import SQLiteFile

DAMAGES: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

# The header: sqlite.org/fileformat2.html, 1.3
MAGIC: Final = b"SQLite format 3\0"
HEADER_SIZE: Final = 100
APPLICATION: Final = slice(68, 72)


def is_damaged(error: BaseException, path: Path) -> bool:
    """Returns whether the error says that the file is damaged, and the file is a history, or has lost its beginning."""
    if code_of(error) not in DAMAGES:
        return False
    with contextlib.suppress(OSError), path.open("rb") as file:
        header = file.read(HEADER_SIZE)
        is_ours = header.startswith(MAGIC) and header[APPLICATION] == FORMAT.application_id.to_bytes(4, "big")
        return is_ours or not any(header)
    return False


def put_aside(path: Path, file: SQLiteFile) -> Path:
    """Renames the file to the first free name such as `history.db.damaged-1`, and returns that."""
    file.close()
    for number in itertools.count(1):
        damaged = path.with_name(f"{path.name}.damaged-{number}")
        if not damaged.exists():
            break
    path.rename(damaged)
    for suffix in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(f"{path.name}{suffix}").rename(f"{damaged}{suffix}")
    return damaged
