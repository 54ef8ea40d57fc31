"""LateWriter: writes the rows of runs a little later, in a thread of its own, so that no step waits for the server."""

import copy
import threading
import weakref
from collections.abc import Callable
from typing import Final

from dotflow import clock
from dotflow.abc.history import HistoryUnavailable
from dotflow.core.events import AttemptOutput, Event
from dotflow.errors import HistoryError
from dotflow.providers.histories.postgres.database import PostgresDatabase
from dotflow.providers.histories.postgres.link import DATA, SHARED, PostgresConnection, PostgresFailed
from dotflow.providers.histories.sql.crashed import mark_ended
from dotflow.providers.histories.sql.database import AnswerLost, Connection
from dotflow.providers.histories.sql.output_rows import OutputRows, save_output
from dotflow.providers.histories.sql.rows import HANDLERS, RunRows, widened
from dotflow.providers.histories.sql.tables import FIND_RUN
from dotflow.providers.histories.sql.writer import IS_OWNED, RunGone, register, write_rows
from dotflow.worker.interrupts import in_forked_child

RETRY_DELAY: Final = 1.0  # seconds until the next attempt after an error
RETRY_SHARE: Final = 10  # times as long as an attempt took that failed, during which the run waited for its output
LAST_PATIENCE: Final = 5.0  # seconds that the end of a run waits for its rows
MAX_ROWS: Final = 100_000  # rows that wait for the server
MAX_BYTES: Final = 50_000_000  # of output and copies that wait for it
IDLE: Final = 1.0  # seconds without a run after which the thread ends


class RunWriter:
    """Collects the rows of one run in its thread, and writes them in another one.

    Args:
        database: The history.
        rows: The rows.
    """

    def __init__(self, database: PostgresDatabase, rows: RunRows) -> None:
        self._database = database
        self._rows = rows
        # Before the run is in the database. Of a claimed run the queue holds the lock.
        self._lock = None if rows.started.is_claimed else database.presence.hold()
        self._collecting = threading.Lock()  # for the rows
        self._writing = threading.Lock()
        self._waiting: list[RunRows] = []  # what was taken, and is not written yet
        self._run: int | None = None
        self._missing = 0
        self._retry_at = 0.0
        self._cause = ""  # of the last attempt that failed
        self._dropped = ""  # why rows were dropped, to raise in the thread of the run
        self._refusal = ""  # why nothing can be written now
        self.is_over = False  # nothing more comes, and all is written
        self.is_hopeless = False  # the last error does not pass by itself

    @property
    def has_rows(self) -> bool:
        """Whether rows are not in the database yet."""
        return self._run is None or bool(self._rows.attempts) or self._rows.has_more or bool(self._waiting)

    def add(self, handler: Callable[[RunRows, Event], None], event: Event) -> None:
        """Adds the rows of an event."""
        with self._collecting:
            handler(self._rows, event)

    def raise_error(self) -> None:
        """Raises what is wrong in the other thread: dropped rows once, a refusal while there is one."""
        dropped, self._dropped = self._dropped, ""
        if dropped:
            raise HistoryError(
                f"Rows of the run {self._rows.started.run_id} are not in {self._database.place}", dropped
            )
        if self._refusal:
            what = f"The history at {self._database.place} can't be written, and the run goes on without it"
            raise HistoryUnavailable(what, self._refusal)

    def write(self, patience: float = 0.0) -> None:
        """Writes the rows that there are, or keeps them for the next time. Raises nothing."""
        with self._writing:
            if self.is_over:
                return
            if self._retry_at and clock.ticks() < self._retry_at:
                return
            self._take()
            try:
                self._write(patience)
            except RunGone:  # what it did is another process's to tell
                self._waiting.clear()
                self._end()
            except HistoryError as error:
                self._handle(error)
            except (UnicodeError, OverflowError) as error:
                self._drop(str(error))
            else:
                self._retry_at, self.is_hopeless, self._refusal = 0.0, False, ""

    def _write(self, patience: float) -> None:
        database, is_new = self._database, self._run is None
        if is_new:
            database.schema.prepare(database.events)
        started = self._rows.started
        # The first row of a plain run is durable, and beside no other run of its name.
        lock = started.workflow_id if is_new and started.is_named and not started.is_claimed else None
        self._run = database.events.transact(
            self._write_all, lock, durable=is_new and not started.is_claimed, patience=patience
        )
        has_ended = any(batch.has_end for batch in self._waiting)
        self._waiting.clear()
        if has_ended:
            self._end()

    def _write_all(self, connection: PostgresConnection) -> int:
        run, started = self._run, self._rows.started
        if run is None:
            if not started.is_claimed:
                mark_ended(connection, self._database.presence)
            connection.share(SHARED)
            run = register(connection, started, self._lock)
        for batch in self._waiting:
            write_rows(connection, run, batch, has_lost=bool(self._missing))
        # Last, since it may be taken over meanwhile.
        if started.is_claimed and not connection.execute(IS_OWNED, (run,)).fetchall():
            raise RunGone
        return run

    def _take(self) -> None:
        """Takes the rows, so that the run can go on collecting."""
        with self._collecting:
            rows = self._rows
            if not rows.attempts and not rows.has_more:
                return
            taken = copy.copy(rows)
            # A row changes until it is written: so this is a copy of it.
            taken.attempts = {key: widened([*row]) for key, row in rows.attempts.items()}
            taken.errors, taken.copies, taken.notes = [*rows.errors], [*rows.copies], [*rows.notes]
            taken.calls = copy.copy(rows.calls)
            taken.calls.rows = dict(rows.calls.rows)
            taken.output = copy.copy(rows.output)
            taken.output.rows = dict(rows.output.rows)
            rows.clear()
        self._waiting.append(taken)

    def _handle(self, error: HistoryError) -> None:
        self._retry_at = clock.ticks() + RETRY_DELAY
        self.is_hopeless = not _passes(error)
        self._cause = error.reason
        if isinstance(error, PostgresFailed) and error.state.startswith(DATA):
            self._drop(error.reason)
            return
        self._refusal = error.reason
        if sum(map(len, self._waiting)) > MAX_ROWS or sum(batch.size for batch in self._waiting) > MAX_BYTES:
            self._missing += sum(batch.drop() for batch in self._waiting)
            self._waiting = [batch for batch in self._waiting if batch.has_end]

    def _drop(self, cause: str) -> None:
        """Drops rows that a column can't hold."""
        self._missing += sum(batch.drop() for batch in self._waiting)
        self._waiting = [batch for batch in self._waiting if batch.has_end]
        self._cause = self._dropped = cause

    def _end(self) -> None:
        if not self.is_over:
            self.is_over = True
            if self._lock is not None:
                self._database.presence.release(self._lock)

    def check_end(self) -> None:
        """Raises HistoryError if rows are missing at the end of the run."""
        missing = self._missing + sum(map(len, self._waiting)) + (0 if self.is_over else len(self._rows))
        if missing:
            what = f"{missing} rows of the run {self._rows.started.run_id} are not in {self._database.place}"
            raise HistoryError(what, self._cause or "the server does not answer")
        self.raise_error()


class LateWriter:
    """Writes the rows of all runs of a process, in a thread that ends when there is no run any more.

    Args:
        database: The history.
        late: Seconds that rows wait for others; 0 writes them before an attempt begins.
    """

    def __init__(self, database: PostgresDatabase, late: float) -> None:
        self._database, self._late = database, late
        self._writers: dict[str, RunWriter] = {}  # of active runs
        self._ending: list[RunWriter] = []  # of runs that have ended, but are not in the database
        self.reset()
        _writers.add(self)

    def reset(self) -> None:
        """Begins anew in a forked process, where there is no thread."""
        self._changing = threading.Lock()
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()  # there are rows
        self._hurry = threading.Event()  # a run waits for its rows
        self._written = threading.Condition()

    def get(self, run_id: str) -> RunWriter | None:
        """Returns the writer of an active run."""
        return self._writers.get(run_id)

    def begin(self, run_id: str, rows: RunRows) -> None:
        """Writes the first row of a run, at once. Raises HistoryError."""
        writer = RunWriter(self._database, rows)
        self._writers[run_id] = writer
        writer.write(patience=LAST_PATIENCE)
        writer.raise_error()

    def record(self, writer: RunWriter, event: Event) -> None:
        """Adds the rows of an event."""
        handler = HANDLERS.get(event.__class__)
        if handler is None:
            return
        writer.add(handler, event)
        if not self._wake.is_set():
            self._wake.set()
            if self._thread is None or not self._thread.is_alive():
                self._start()

    def settle(self, run_id: str) -> None:
        """Waits until the rows of a run are written, where they are not late."""
        writer = self._writers.get(run_id)
        if writer is None:
            return
        if not self._late:
            writer.write()
        writer.raise_error()

    def end(self, run_id: str) -> None:
        """Waits for the rows of a run that has ended. Raises HistoryError if they are not in the database then."""
        writer = self._writers.pop(run_id)
        self._ending.append(writer)
        self._hurry.set()
        self._wake.set()
        self._start()
        with self._written:
            self._written.wait_for(lambda: writer.is_over or writer.is_hopeless, LAST_PATIENCE)
        writer.check_end()

    def _start(self) -> None:
        with self._changing:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=_write_on, args=(weakref.ref(self),), name="dotflow-history", daemon=True
                )
                self._thread.start()

    def write(self) -> bool:
        """Writes what there is. Returns whether the thread goes on."""
        if not self._wake.wait(IDLE):
            with self._changing:
                if self._writers or self._ending or self._wake.is_set():
                    return True
                self._thread = None
                return False
        self._hurry.wait(self._late)
        self._wake.clear()
        self._hurry.clear()
        has_left = False
        for writer in (*self._ending, *tuple(self._writers.values())):
            writer.write()
            has_left = has_left or writer.has_rows
        with self._written:
            self._ending = [writer for writer in self._ending if not writer.is_over]
            self._written.notify_all()
        if has_left:
            self._wake.set()
        return True


class OutputWriter:
    """Writes the output of one run, which has begun in the database.

    Args:
        database: The history.
        run_id: The run.
        limit: The bytes that are kept of an attempt.
    """

    def __init__(self, database: PostgresDatabase, run_id: str, limit: int) -> None:
        self._database, self._run_id, self._rows = database, run_id, OutputRows(limit)
        self._retry_at = 0.0

    def add(self, event: AttemptOutput) -> None:
        """Writes a part of the output. Where that fails, it is written with the next one."""
        self._rows.add(event, is_open=True)
        if clock.ticks() < self._retry_at:
            raise self._refusal("it did not answer just before")
        self.write()

    def write(self) -> None:
        """Writes what there is. Raises HistoryUnavailable where it is kept for later, else HistoryError."""
        if not self._rows.rows:
            return
        began = clock.ticks()
        try:
            self._database.schema.prepare(self._database.events)
            self._database.events.transact(self._write, None, durable=False, patience=0)
        except HistoryError as error:
            self._retry_at = clock.ticks() + RETRY_SHARE * (clock.ticks() - began)
            if not _passes(error):
                raise
            raise self._refusal(error.reason) from None
        self._rows.clear()

    def _refusal(self, cause: str) -> HistoryError:
        what = f"The history at {self._database.place} can't be written"
        if self._rows.size <= MAX_BYTES:
            return HistoryUnavailable(what, cause)
        self._rows.clear()
        return HistoryError(what, cause)

    def _write(self, connection: Connection) -> None:
        for (run,) in connection.execute(FIND_RUN, (self._run_id,)).fetchall():
            save_output(connection, run, self._rows)


def _passes(error: HistoryError) -> bool:
    """Returns whether the history can be written later, without anything done about it."""
    return isinstance(error, AnswerLost) or (isinstance(error, PostgresFailed) and error.is_passing)


def _write_on(of: "weakref.ref[LateWriter]") -> None:
    while True:
        writer = of()
        if writer is None or not writer.write():
            return
        del writer


_writers: Final[weakref.WeakSet[LateWriter]] = weakref.WeakSet()


@in_forked_child
def _after_fork_in_child() -> None:
    for writer in list(_writers):
        writer.reset()
