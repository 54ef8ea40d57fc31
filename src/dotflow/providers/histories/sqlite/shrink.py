"""Retention of a history file: forgets old runs at the ends of others, and shrinks the file."""

import contextlib
import sqlite3
from typing import Final

from dotflow import clock
from dotflow.providers.histories.sql.retention import Keep, forget_some
from dotflow.providers.sqlite_file import SQLiteFile

INTERVAL: Final = 3600  # seconds between two sweeps of a file
BUDGET: Final = 0.02  # seconds of a sweep at the end of a run; the rest follows at the end of the next one

PAGES: Final = 500  # that a sweep gives back to the system, at most

CLAIM: Final = "UPDATE meta SET swept = ? WHERE swept < ?"
RESUME: Final = "UPDATE meta SET swept = 0"


def sweep(file: SQLiteFile, keep: Keep) -> None:
    """Forgets runs that are no longer kept, once an hour for each file, or goes on with that. Errors are ignored."""
    if keep is None:
        return
    with contextlib.suppress(sqlite3.Error, OSError):  # busy, full, read-only: another run tries again
        now = int(clock.now().timestamp())
        if not file.transact(lambda connection: connection.execute(CLAIM, (now, now - INTERVAL)).rowcount, patience=0):
            return
        until = clock.ticks() + BUDGET
        is_done = False
        while not is_done and clock.ticks() < until:
            is_done = not file.transact(lambda connection: forget_some(connection, keep), patience=0)
        shrink(file, PAGES, patience=0)
        if not is_done or file.run("PRAGMA freelist_count", ()) != [(0,)]:
            file.run(RESUME, (), patience=0)


def shrink(file: SQLiteFile, pages: int | None = None, *, patience: float | None = None) -> None:
    """Gives free pages back to the system; all of them for None. *patience* is that of `SQLiteFile.use`."""
    statement = "PRAGMA incremental_vacuum" if pages is None else f"PRAGMA incremental_vacuum({pages})"
    # executescript, since execute() would free one page only.
    file.use(lambda connection: connection.executescript(statement), None, False, patience)
