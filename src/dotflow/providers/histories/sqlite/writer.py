"""RunWriter: writes the rows of one run into the file. What goes wrong there never reaches the run."""

import contextlib
import math
import sqlite3
from typing import Any, Final

from dotflow import clock
from dotflow.abc.history import HistoryUnavailable
from dotflow.core.events import AttemptOutput
from dotflow.errors import HistoryError
from dotflow.providers.histories.sql.crashed import mark_ended
from dotflow.providers.histories.sql.database import Connection
from dotflow.providers.histories.sql.output_rows import OutputRows, save_output
from dotflow.providers.histories.sql.rows import RunRows
from dotflow.providers.histories.sql.tables import FIND_RUN
from dotflow.providers.histories.sql.writer import RunGone, register, save_few, write_rows
from dotflow.providers.histories.sqlite.damage import is_damaged, put_aside
from dotflow.providers.histories.sqlite.database import SQLiteDatabase
from dotflow.providers.sqlite_errors import LocksRefused, cause_of, explain, is_busy

PATIENCE: Final = 0.5  # seconds to wait for another process: on a busy machine, one that commits may not run for long
PATIENT_SHARE: Final = 0.2  # of the time since the last wait in vain: a file that stays busy slows a run down by that
LAST_PATIENCE: Final = 5.0  # the same at its end
RETRY_DELAY: Final = 1.0  # seconds until the next attempt after another error
INTERVAL: Final = 0.05  # seconds between two commits while no attempt begins
MAX_ROWS: Final = 100_000  # rows that wait for the file
MAX_BYTES: Final = 50_000_000  # of output and copies that wait for it

MAX_FEW: Final = 16  # rows that are written in one statement


class RunWriter:
    """Writes the rows of one run."""

    def __init__(self, database: SQLiteDatabase, rows: RunRows) -> None:
        self._path = database.path
        self._file = file = database.file
        self._presence = database.presence
        self.rows = rows
        # Before the run is in the file. Of a claimed run the queue holds the lock.
        self._lock = None if rows.started.is_claimed else self._presence.hold()
        self._run: int | None = None
        self._opening = -1  # the file's, when the run was written to it
        self._connections = file.connections
        self._committed_at = 0.0
        self._busy_at: float | None = None  # the end of the last wait in vain
        self._retry_at = 0.0  # after another error
        self._cause = ""  # of the last attempt that failed
        self._refusal: HistoryUnavailable | None = None  # while nothing can be written
        self._missing = 0
        self._noted: list[int] = []  # locks of runs that this one has found ended

    def settle(self, *, begins: bool) -> float | None:
        """Writes the rows, at once or after INTERVAL. The arguments and the result are those of History.settle."""
        rows = self.rows
        if self._run is not None and not rows.attempts and not rows.has_more:  # none at all, without a call
            return None
        if not begins:
            left = self._committed_at + INTERVAL - clock.monotonic()
            if left > 0:
                return left
        if self._retry_at:
            self.commit(0)
        elif self._busy_at is None:
            self.commit()
        else:
            self.commit(min((clock.ticks() - self._busy_at) * PATIENT_SHARE, PATIENCE))
        return INTERVAL if rows.attempts or rows.has_more else None

    def commit(self, patience: float | None = None) -> None:
        """Writes the rows, or keeps them for the next time.

        Args:
            patience: The time to wait for another process, in seconds; None for PATIENCE.

        Raises:
            HistoryUnavailable: The file can't be written.
            HistoryError: Rows were dropped, or the file was put aside.
        """
        self._committed_at = clock.monotonic()
        if self._retry_at and clock.ticks() < self._retry_at and not self.rows.ended:
            self._drop_surplus()
            self._raise_refusal()
            return
        try:
            self._write(PATIENCE if patience is None else patience)
        except RunGone:
            self.rows.drop()
        except (UnicodeError, OverflowError) as error:  # a text or a number that a column can't hold
            self._missing += self.rows.drop()
            self._cause = str(error)
            raise HistoryError(
                f"Rows of the run {self.rows.started.run_id} are not in {self._path}", self._cause
            ) from None
        except (sqlite3.Error, OSError) as error:
            self._drop_surplus()
            self._cause = cause_of(error)
            self._busy_at = clock.ticks() if is_busy(error) else None
            if self._busy_at is None:
                self._handle(error)
            self._raise_refusal()
        else:
            self._busy_at, self._retry_at, self._refusal = None, 0.0, None

    def close(self) -> None:
        """Writes the rest at the end of the run. Raises HistoryError if rows are missing."""
        first_error: HistoryError | None = None
        try:
            self.commit(LAST_PATIENCE)
        except HistoryUnavailable:
            pass  # the rows that are missing are reported
        except HistoryError as error:  # a damaged file was put aside, so that there is a new one now
            first_error = error
            with contextlib.suppress(HistoryUnavailable):
                self.commit(LAST_PATIENCE)
        missing = self._missing + len(self.rows)
        self._missing += self.rows.drop()
        if self._run is not None and self._lock is not None and self.rows.has_end:
            self._presence.note_end(self._lock)
        self._release()
        if missing:
            what = f"{missing} rows of the run {self.rows.started.run_id} are not in {self._path}"
            raise HistoryError(what, self._cause)
        if first_error is not None:
            raise first_error

    def end(self) -> bool:
        """Writes the end of the run, which `close` could not write. Returns whether it is in the file now."""
        with contextlib.suppress(sqlite3.Error, OSError, RunGone):
            self._write(0)
            if self._lock is not None:
                self._presence.forget_ends([self._lock])
            self._release()
        return not self.rows.has_end

    def _release(self) -> None:
        """Releases the lock, unless the run is still Running in the file: it has not crashed."""
        if self._lock is not None and not self.rows.has_end:
            self._presence.release(self._lock)

    def _write(self, patience: float) -> None:
        """Writes the rows, a few in one statement. After an error that may have passed it tries again."""
        rows, run, file = self.rows, self._run, self._file
        attempts, is_known = rows.attempts, run is not None and self._opening == file.openings
        try:
            if not is_known or rows.has_more or len(attempts) > MAX_FEW:
                self._write_more(patience)
            else:
                values: list[Any] = []
                widths: tuple[int, ...] = ()
                for row in attempts.values():
                    values.append(run)
                    values += row
                    widths += (len(row),)
                file.run(save_few(widths), values, create=True, patience=patience, opening=self._opening)
                if self._opening != file.openings:  # it is another file
                    self._write_more(patience)
        except (sqlite3.Error, OSError) as error:
            if self._retry_at or is_busy(error) or isinstance(error, LocksRefused):
                raise
            self._write_more(0)  # with a new connection
        rows.clear()
        if self._connections != file.connections and self._lock is not None:  # after a fork, say
            self._connections = file.connections
            self._presence.hold(self._lock)

    def _write_more(self, patience: float) -> None:
        """Writes all rows in a transaction."""
        self._run = self._file.transact(self._write_all, patience=patience)
        self._opening = self._file.openings
        self._presence.forget_ends(self._noted)
        self._noted = []

    def _write_all(self, connection: Connection) -> int:
        """Writes all rows, and first the run itself if it is not in this file. Returns its number there."""
        rows, run = self.rows, self._run
        if run is None or self._opening != self._file.openings:
            self._noted = mark_ended(connection, self._presence)
            run = register(connection, rows.started, self._lock)
        write_rows(connection, run, rows, has_lost=bool(self._missing))
        return run

    def _handle(self, error: sqlite3.Error | OSError) -> None:
        """Puts a damaged file aside, and raises HistoryError; notes a refusal."""
        cause = explain(error)
        if is_damaged(error, self._path):
            with contextlib.suppress(OSError):
                damaged = put_aside(self._path, self._file)
                self._retry_at = 0.0
                raise HistoryError(
                    f"The history {self._path} is damaged. It is {damaged} now, and a new one begins", cause
                )
        self._retry_at = clock.ticks() + RETRY_DELAY
        what = f"The history {self._path} can't be written, and the run goes on without it"
        self._refusal = HistoryUnavailable(what, cause)

    def _raise_refusal(self) -> None:
        """Raises why nothing can be written, where that is so."""
        if self._refusal is not None:
            raise HistoryUnavailable(self._refusal.what, self._refusal.reason)

    def _drop_surplus(self) -> None:
        if len(self.rows) > MAX_ROWS or self.rows.size > MAX_BYTES:
            self._missing += self.rows.drop()


OUTPUT_PATIENCE: Final = 2.0  # seconds to wait for another process; nothing but the output waits meanwhile
OUTPUT_SHARE: Final = 0.1  # of the time since the last wait in vain: the run waits for its output at its end
MAX_OUTPUT: Final = 50_000_000  # that wait for the file


class OutputWriter:
    """Writes the output of one run, which has begun in the file."""

    def __init__(self, database: SQLiteDatabase, run_id: str, limit: int) -> None:
        self._path = database.path
        self._file = database.file
        self._run_id = run_id
        self._rows = OutputRows(limit)
        self._failed_at = -math.inf  # the end of the last wait in vain

    def add(self, event: AttemptOutput) -> None:
        """Writes a part of the output. Where that fails, it is written with the next one."""
        self._rows.add(event, is_open=True)
        self.write(min((clock.ticks() - self._failed_at) * OUTPUT_SHARE, OUTPUT_PATIENCE))

    def write(self, patience: float = OUTPUT_PATIENCE) -> None:
        """Writes what there is. Raises HistoryUnavailable where it is kept, HistoryError where it is dropped."""
        if not self._rows.rows:
            return
        try:
            self._file.transact(self._write, patience=patience)
        except (sqlite3.Error, OSError) as error:
            self._failed_at = clock.ticks()
            is_kept = self._rows.size <= MAX_OUTPUT
            if not is_kept:
                self._rows.clear()
            refusal = HistoryUnavailable if is_kept else HistoryError
            raise refusal(f"The history {self._path} can't be written", cause_of(error)) from None
        self._failed_at = -math.inf
        self._rows.clear()

    def _write(self, connection: Connection) -> None:
        for (run,) in connection.execute(FIND_RUN, (self._run_id,)).fetchall():
            save_output(connection, run, self._rows)
