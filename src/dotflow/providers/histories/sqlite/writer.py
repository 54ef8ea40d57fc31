"""RunWriter: writes the rows of one run into the file. What goes wrong there never reaches the run."""

import contextlib
import functools
import hashlib
import itertools
import json
import marshal
import sqlite3
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from dotflow import clock
from dotflow.core.attempt_id import ID_LENGTH
from dotflow.core.events import Planned, RunStarted
from dotflow.core.files import FileRecord
from dotflow.core.masks import Masks
from dotflow.core.policy import Policy
from dotflow.core.text import escape_surrogates
from dotflow.errors import HistoryError
from dotflow.providers.histories.sqlite import live
from dotflow.providers.histories.sqlite.crashed import MARK_ATTEMPTS, mark_ended
from dotflow.providers.histories.sqlite.output_rows import save_output
from dotflow.providers.histories.sqlite.rows import RunRows, widened
from dotflow.providers.histories.sqlite.tables import (
    ATTEMPT_COLUMNS,
    COMPLETED,
    FAILED,
    FIND_RUN,
    FORMAT,
    OPEN,
    RESTORED,
    SKIPPED,
    UNKNOWN,
    micro,
)
from dotflow.providers.sqlite_errors import LocksRefused, cause_of, code_of, explain, is_busy
from dotflow.providers.sqlite_file import SQLiteFile
from dotflow.records.environment import process_name, read_environment

FIND_PLAN: Final = "SELECT plan FROM plans WHERE digest = ?"
FIND_ENVIRONMENT: Final = "SELECT environment FROM environments WHERE digest = ?"
SAVE_PLAN: Final = "INSERT INTO plans (digest) VALUES (?)"
SAVE_STEP: Final = f"INSERT INTO steps VALUES ({', '.join('?' * 9)})"
SAVE_ENVIRONMENT: Final = "INSERT INTO environments (digest, document) VALUES (?, ?)"
SAVE_RUN: Final = f"""INSERT INTO runs (run_id, workflow_id, name, state, mode, resumed, trigger, began, tasks,
    parent_run, parent_task, parent_attempt, parent_item, lock, process, plan, environment, storage, is_named,
    workflow, params, origin, continues, inputs, begun) VALUES ({", ".join("?" * 24)}, 1)"""
BEGIN_CLAIMED: Final = """UPDATE runs SET mode = ?, resumed = ?, began = ?, tasks = ?, plan = ?, environment = ?,
    storage = ?, inputs = ? WHERE run = ?"""
#: The last run of a name whose chain has begun and can go on.
LAST_OPEN: Final = f"""SELECT run_id, COALESCE(origin, run_id) FROM runs AS last WHERE workflow_id = ? AND {OPEN}
    AND state <> 'Queued' AND NOT EXISTS (SELECT 1 FROM runs WHERE continues = last.run_id)
    AND EXISTS (SELECT 1 FROM runs WHERE begun AND (run = last.run OR origin = last.origin))
    ORDER BY run DESC LIMIT 1"""
SET_ORIGIN: Final = "UPDATE runs SET origin = ? WHERE run_id = ?"
#: The newest runs of the other chains of a name that had begun, unless they have completed.
OTHERS: Final = f"""SELECT run, run_id, state FROM runs WHERE workflow_id = :name AND {OPEN}
    AND COALESCE(origin, run_id) <> :origin AND EXISTS (SELECT 1 FROM runs AS of_chain
        WHERE of_chain.begun AND (of_chain.run = runs.run OR of_chain.origin = runs.origin))
    AND NOT EXISTS (SELECT 1 FROM runs AS newer WHERE newer.origin = runs.origin AND newer.run > runs.run)"""
SUPERSEDE: Final = "UPDATE runs SET superseded = ? WHERE run = ?"
CANCEL: Final = "UPDATE runs SET state = 'Cancelled', ended = ?, reason = ?, error = ? WHERE run = ?"
DEQUEUE: Final = "UPDATE wanted SET queued = 0 WHERE run = ?"


class RunGone(Exception):
    """The file does not have a claimed run: it is another one now, and the run is unknown there."""


def register(connection: sqlite3.Connection, started: RunStarted, lock: int | None) -> int:
    """Writes a run that begins, unless it is there, with the offset of its lock. Returns its number."""
    plan, environment = _plan(connection, started.steps), _environment(connection, started.masks)
    files = FileRecord(taken=started.files).as_text(started.masks) if started.files else None
    for (run,) in connection.execute(FIND_RUN, (_as_text(started.run_id),)):
        if started.is_claimed:
            values = (started.mode, started.resumed, micro(started.at), started.tasks, plan, environment)
            connection.execute(BEGIN_CLAIMED, (*values, _as_text(started.storage), files, run))
        return int(run)
    if started.is_claimed:
        raise RunGone
    name, origin, continues = _as_text(started.workflow_id), None, None
    if started.is_named and (started.resumed or started.goes_on):
        origin = started.origin or None
        for last, of_last in connection.execute(LAST_OPEN, (name,)).fetchall():
            if origin in (None, of_last):
                continues, origin = last, of_last
                connection.execute(SET_ORIGIN, (origin, continues))
    elif started.is_named:
        end_others(connection, name, started.run_id, started.run_id, micro(started.at))
    values = (
        started.run_id,
        started.workflow_id,
        started.name,
        "Running",
        started.mode,
        started.resumed,
        started.trigger or None,
        micro(started.at),
        started.tasks,
        *(started.parent or (None,) * 4),
        lock,
        process_name(),
        plan,
        environment,
        started.storage,
        started.is_named,
        started.workflow,
        started.params,
        origin or (started.run_id if started.is_named else None),
        continues,
        files,
    )
    return int(connection.execute(SAVE_RUN, tuple(map(_as_text, values))).lastrowid or 0)


def end_others(connection: sqlite3.Connection, name: str, origin: str, by: str, now: int) -> list[str]:
    """Ends the other chains of a name that had begun, within a transaction: their values are void.

    Returns the ids of their runs that were to go on.
    """
    ended = []
    for run, run_id, state in connection.execute(OTHERS, {"name": name, "origin": origin}).fetchall():
        connection.execute(SUPERSEDE, (by, run))
        if state in ("Queued", "Paused"):
            reason = f"superseded by {by[:ID_LENGTH]}"
            connection.execute(CANCEL, (now, reason, reason, run))  # in place of why it was paused
            connection.execute(DEQUEUE, (run,))
            ended.append(run_id)
    return ended


def _as_text(value: Any) -> Any:
    """Returns a value for a column: ids, names and paths may have lone surrogates."""
    return escape_surrogates(value) if isinstance(value, str) else value


def _plan(connection: sqlite3.Connection, steps: Sequence[Planned]) -> int:
    """Returns the number of the plan in the file. By columns, since a run of thousands of steps looks for it, too."""
    fields: list[Any] = [*zip(*steps, strict=True)] or [()] * len(Planned._fields)
    names, groups, lanes, identities, needs, policies, codes, _, rounds = fields
    described = {key: _describe(policy) for key, policy in {id(policy): policy for policy in policies}.items()}
    of_step = zip(policies, rounds, strict=True)  # many steps share one
    texts = [_describe(policy, count) if count else described[id(policy)] for policy, count in of_step]
    columns = [*map(str, names)], identities, codes, [*map(str, groups)], lanes, [*map(tuple, needs)], texts
    digest = _digest(marshal.dumps(columns, 0))  # the version without references, so that equal ones are equal bytes
    for (plan,) in connection.execute(FIND_PLAN, (digest,)):
        return int(plan)
    plan = int(connection.execute(SAVE_PLAN, (digest,)).lastrowid or 0)
    rows = []
    for task, (name, identity, code, group, lane, need, text) in enumerate(zip(*columns, strict=True)):
        values = (name, identity, code or None, group, lane, json.dumps(need) if need else None, text)
        rows.append((plan, task, *map(_as_text, values)))
    connection.executemany(SAVE_STEP, rows)
    return plan


def _describe(policy: Policy | None, rounds: int = 0) -> str | None:
    """Returns what differs from the default policy as JSON; None if nothing does."""
    changed = None if policy is None else policy.changed(rounds)
    return json.dumps(changed) if changed else None


def _environment(connection: sqlite3.Connection, masks: Masks) -> int:
    text = read_environment(masks)
    digest = _digest(text)
    for (number,) in connection.execute(FIND_ENVIRONMENT, (digest,)):
        return int(number)
    return int(connection.execute(SAVE_ENVIRONMENT, (digest, zlib.compress(text))).lastrowid or 0)


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


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


PATIENCE: Final = 0.5  # seconds to wait for another process: on a busy machine, one that commits may not run for long
PATIENT_SHARE: Final = 0.2  # of the time since the last wait in vain: a file that stays busy slows a run down by that
LAST_PATIENCE: Final = 5.0  # the same at its end
RETRY_DELAY: Final = 1.0  # seconds until the next attempt after another error
INTERVAL: Final = 0.05  # seconds between two commits while no attempt begins
MAX_ROWS: Final = 100_000  # rows that wait for the file
MAX_BYTES: Final = 50_000_000  # of output and copies that wait for it

MAX_FEW: Final = 16  # rows that are written in one statement
SAVE_ATTEMPTS: Final = f"INSERT OR REPLACE INTO attempts (run, {', '.join(ATTEMPT_COLUMNS)}) VALUES"
SAVE_ATTEMPT: Final = f"{SAVE_ATTEMPTS} ({', '.join('?' * (1 + len(ATTEMPT_COLUMNS)))})"
SAVE_ERROR: Final = f"INSERT OR REPLACE INTO errors VALUES ({', '.join('?' * 10)})"
SAVE_COPY: Final = f"INSERT OR REPLACE INTO copies VALUES ({', '.join('?' * 9)})"
SAVE_NOTE: Final = f"INSERT OR REPLACE INTO task_notes VALUES ({', '.join('?' * 7)})"
TRACE_RUN: Final = "UPDATE runs SET trace = ? WHERE run = ?"
END_CLAIMED: Final = """UPDATE runs SET completed = ?, failed = ?, restored = ?, skipped = ?, error = ? WHERE run = ?"""
END_RUN: Final = """UPDATE runs SET state = ?, reason = ?, ended = ?, completed = ?, failed = ?, restored = ?,
    skipped = ?, error = ? WHERE run = ?"""


class RunWriter:
    """Writes the rows of one run."""

    def __init__(self, path: Path, file: SQLiteFile, rows: RunRows) -> None:
        self._path = path
        self._file = file
        self.rows = rows
        # Before the run is in the file. Of a claimed run the queue holds the lock.
        self._lock = None if rows.started.is_claimed else live.hold(path, files=file.files)
        self._run: int | None = None
        self._opening = -1  # the file's, when the run was written to it
        self._connections = file.connections
        self._committed_at = 0.0
        self._busy_at: float | None = None  # the end of the last wait in vain
        self._retry_at = 0.0  # after another error
        self._cause = ""  # of the last attempt that failed
        self._is_reported = False
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
        """Writes the rows, or keeps them for the next time. Raises HistoryError for the run's first error.

        *patience* is the time to wait for another process, in seconds; PATIENCE unless given.
        """
        self._committed_at = clock.monotonic()
        if self._retry_at and clock.ticks() < self._retry_at and not self.rows.ended:
            self._drop_surplus()
            return
        try:
            self._write(PATIENCE if patience is None else patience)
        except RunGone:
            self.rows.drop()
        except (UnicodeError, OverflowError) as error:  # a text or a number that a column can't hold
            self._missing += self.rows.drop()
            self._report(f"Rows of the run {self.rows.started.run_id} are not in {self._path}", str(error))
        except (sqlite3.Error, OSError) as error:
            self._drop_surplus()
            self._cause = cause_of(error)
            self._busy_at = clock.ticks() if is_busy(error) else None
            if self._busy_at is None:
                self._handle(error)
        else:
            self._busy_at, self._retry_at = None, 0.0

    def close(self) -> None:
        """Writes the rest at the end of the run. Raises HistoryError if rows are missing."""
        first_error: HistoryError | None = None
        try:
            self.commit(LAST_PATIENCE)
        except HistoryError as error:  # a damaged file was put aside, so that there is a new one now
            first_error = error
            self.commit(0 if self._retry_at else LAST_PATIENCE)
        missing = self._missing + len(self.rows)
        self._missing += self.rows.drop()
        if self._run is not None and self._lock is not None and self.rows.has_end:
            live.note_end(self._path, self._lock, self._file.files)
        self._release()
        if missing:
            cause = "see above" if self._is_reported else self._cause
            raise HistoryError(f"{missing} rows of the run {self.rows.started.run_id} are not in {self._path}", cause)
        if first_error is not None:
            raise first_error

    def end(self) -> bool:
        """Writes the end of the run, which `close` could not write. Returns whether it is in the file now."""
        with contextlib.suppress(sqlite3.Error, OSError, RunGone):
            self._write(0)
            if self._lock is not None:
                live.forget_ends(self._path, [self._lock])
            self._release()
        return not self.rows.has_end

    def _release(self) -> None:
        """Releases the lock, unless the run is still Running in the file: it has not crashed."""
        if self._lock is not None and not self.rows.has_end:
            live.release(self._path, self._lock)

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
                file.run(_save_few(widths), values, create=True, patience=patience, opening=self._opening)
                if self._opening != file.openings:  # it is another file
                    self._write_more(patience)
        except (sqlite3.Error, OSError) as error:
            if self._retry_at or is_busy(error) or isinstance(error, LocksRefused):
                raise
            self._write_more(0)  # with a new connection
        rows.clear()
        if self._connections != file.connections and self._lock is not None:  # after a fork, say
            self._connections = file.connections
            live.hold(self._path, self._lock, file.files)

    def _write_more(self, patience: float) -> None:
        """Writes all rows in a transaction."""
        self._run = self._file.transact(self._write_all, patience=patience)
        self._opening = self._file.openings
        live.forget_ends(self._path, self._noted)
        self._noted = []

    def _write_all(self, connection: sqlite3.Connection) -> int:
        """Writes all rows, and first the run itself if it is not in this file. Returns its number there."""
        rows, run = self.rows, self._run
        if run is None or self._opening != self._file.openings:
            self._noted = mark_ended(connection, self._path)
            run = register(connection, rows.started, self._lock)
        for statement, values in (
            (SAVE_ATTEMPT, [*map(widened, rows.attempts.values())]),
            (SAVE_ERROR, rows.errors),
            (SAVE_COPY, rows.copies),
            (SAVE_NOTE, rows.notes),
        ):
            if values:
                connection.executemany(statement, [(run, *row) for row in values])
        if rows.trace is not None:
            connection.execute(TRACE_RUN, (rows.trace, run))
        if rows.output.rows:
            save_output(connection, run, rows.output)
        if rows.ended is not None:
            if self._missing:
                connection.execute(MARK_ATTEMPTS, (UNKNOWN, run))
            ending = _ending(rows)
            if rows.started.is_claimed:  # the queue writes its state
                connection.execute(END_CLAIMED, (*ending[3:], run))
            else:
                connection.execute(END_RUN, (*ending, run))
        return run

    def _handle(self, error: sqlite3.Error | OSError) -> None:
        """Puts a damaged file aside. Raises HistoryError for the first error of the run."""
        self._retry_at = clock.ticks() + RETRY_DELAY
        what = f"The history {self._path} can't be written, and the run goes on without it"
        if is_damaged(error, self._path):
            with contextlib.suppress(OSError):
                damaged = put_aside(self._path, self._file)
                what = f"The history {self._path} is damaged. It is {damaged} now, and a new one begins"
                self._retry_at = 0.0
        self._report(what, explain(error))

    def _report(self, what: str, cause: str) -> None:
        """Raises HistoryError, once."""
        if not self._is_reported:
            self._is_reported = True
            raise HistoryError(what, cause)

    def _drop_surplus(self) -> None:
        if len(self.rows) > MAX_ROWS or self.rows.size > MAX_BYTES:
            self._missing += self.rows.drop()


@functools.lru_cache
def _save_few(widths: tuple[int, ...]) -> str:
    """Returns the statement for rows with values in so many columns. NULL in it takes less time than a None for it."""
    rows = [f"(?{', ?' * width}{', NULL' * (len(ATTEMPT_COLUMNS) - width)})" for width in widths]
    return f"{SAVE_ATTEMPTS} {', '.join(rows)}"


def _ending(rows: RunRows) -> tuple[Any, ...]:
    ended, counts = rows.ended, rows.counts
    assert ended is not None
    numbers = (counts[COMPLETED], counts[FAILED], counts[RESTORED], counts[SKIPPED])
    return (str(ended.state), escape_surrogates(ended.reason) or None, micro(ended.at), *numbers, rows.error)
