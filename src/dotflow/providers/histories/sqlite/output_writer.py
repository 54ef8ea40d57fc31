"""OutputWriter: writes the output of a run whose other events another process records."""

import math
import sqlite3
from typing import Final

from dotflow import clock
from dotflow.core.events import AttemptOutput
from dotflow.providers.histories.sqlite.output_rows import OutputRows
from dotflow.providers.sqlite_file import SQLiteFile

SAVE_OUTPUT: Final = f"INSERT OR REPLACE INTO output VALUES ({', '.join('?' * 9)})"
DROP_OUTPUT: Final = "DELETE FROM output WHERE run = ? AND task = ? AND item = ? AND attempt = ? AND seq = ?"
FIND_RUN: Final = "SELECT run FROM runs WHERE run_id = ?"
PATIENCE: Final = 2.0  # seconds to wait for another process; nothing but the output waits meanwhile
PATIENT_SHARE: Final = 0.1  # of the time since the last wait in vain: the run waits for its output at its end
MAX_BYTES: Final = 50_000_000  # that wait for the file


class OutputWriter:
    """Writes the output of one run, which has begun in the file."""

    def __init__(self, file: SQLiteFile, run_id: str, limit: int) -> None:
        self._file = file
        self._run_id = run_id
        self._rows = OutputRows(limit)
        self._failed_at = -math.inf  # the end of the last wait in vain

    def add(self, event: AttemptOutput) -> None:
        """Writes a part of the output. Where that fails, it is written with the next one."""
        self._rows.add(event, is_open=True)
        try:
            patience = min((clock.ticks() - self._failed_at) * PATIENT_SHARE, PATIENCE)
            self._file.transact(self._write, patience=patience)
        except (sqlite3.Error, OSError):
            self._failed_at = clock.ticks()
            if self._rows.size > MAX_BYTES:
                self._rows.clear()
            raise
        self._failed_at = -math.inf
        self._rows.clear()

    def _write(self, connection: sqlite3.Connection) -> None:
        for (run,) in connection.execute(FIND_RUN, (self._run_id,)).fetchall():
            save_output(connection, run, self._rows)


def save_output(connection: sqlite3.Connection, run: int, rows: OutputRows) -> None:
    """Writes rows of output, and deletes those that are dropped."""
    kept = [(run, *row) for row in rows.rows.values() if row is not None]
    dropped = [(run, *key) for key, row in rows.rows.items() if row is None]
    for statement, values in ((SAVE_OUTPUT, kept), (DROP_OUTPUT, dropped)):
        if values:
            connection.executemany(statement, values)
