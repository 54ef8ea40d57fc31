"""Retention of a history file: forgets old runs, and shrinks the file."""

import contextlib
import sqlite3
from functools import partial
from typing import Final

from dotflow import clock
from dotflow.providers.histories.sql import retention
from dotflow.providers.histories.sql.tables import micro
from dotflow.providers.sqlite_file import SQLiteFile

BUDGET: Final = 0.02  # seconds of a sweep; the rest follows at the end of the next run, or at the next look of a server
PAGES: Final = 500  # that a sweep gives back to the system, at most


def sweep(file: SQLiteFile, keep: retention.Keep) -> None:
    """Forgets runs that are no longer kept, as `retention.sweep`. Errors are ignored."""
    with contextlib.suppress(sqlite3.Error, OSError):  # busy, full, read-only: another sweep tries again
        if retention.sweep(file.run, partial(file.transact, patience=0), keep, BUDGET, micro(clock.now())):
            shrink(file, PAGES, patience=0)
            if file.run("PRAGMA freelist_count", ()) != [(0,)]:
                file.run(retention.RESUME, (), patience=0)


def shrink(file: SQLiteFile, pages: int | None = None, *, patience: float | None = None) -> None:
    """Gives free pages back to the system; all of them for None. *patience* is that of `SQLiteFile.use`."""
    statement = "PRAGMA incremental_vacuum" if pages is None else f"PRAGMA incremental_vacuum({pages})"
    # executescript, since execute() would free one page only.
    file.use(lambda connection: connection.executescript(statement), None, False, patience)
