"""Reads a history file: without changing it, and with no transaction left open."""

import contextlib
import json
import sqlite3
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from types import NoneType
from typing import Any, Final, NamedTuple

from dotflow.abc.operations import LAST_MOMENT, WorkflowPause
from dotflow.core.text import shorten
from dotflow.core.types.run_state import TypeRunState
from dotflow.errors import DotflowError, HistoryError, NotInHistory
from dotflow.providers.histories.sqlite import live
from dotflow.providers.histories.sqlite.crashed import find_ended
from dotflow.providers.histories.sqlite.tables import FORMAT, MICRO, MISSING, QUEUE_FORMAT, moment
from dotflow.providers.sqlite_errors import UNWRITABLE, cause_of, code_of
from dotflow.providers.sqlite_file import (
    SQLiteFile,
    check_beside,
    file_id_of,
    opening,
    protect,
    uri_of,
    version_of,
)

TIMEOUT: Final = 5.0  # seconds to wait for a process that recovers the file after a crash
MIN_BEGINNING: Final = 4  # characters of a run's id
MAX_LISTED: Final = 3  # ids in an error

HOW_TO_RECORD: Final = (
    "Run `dotflow start`, or set Config(history=HistorySQLite()) in a program; for another file, use --history or "
    "$DOTFLOW_HISTORY"
)

HAS_RUNS: Final = "SELECT 1 FROM runs LIMIT 1"
#: Of the runs that have begun.
LAST: Final = """SELECT run FROM runs WHERE parent_run IS NULL AND (begun OR state = 'Running')
    ORDER BY began DESC, run DESC LIMIT 1"""
SERVED: Final = "SELECT lock, workflows FROM servers"
LATEST_PAUSE: Final = LAST_MOMENT * MICRO - 1
#: A workflow is paused, too, whose moment no dotflow has written.
PAUSES: Final = f"""SELECT workflow, CAST(paused_by AS TEXT), MAX(0, MIN(CAST(paused_at AS INTEGER), {LATEST_PAUSE})),
    CAST(paused_comment AS TEXT) FROM workflows WHERE paused_at IS NOT NULL"""
LAST_FAILED: Final = """SELECT run FROM runs WHERE (state IN ('Failed', 'Crashed') OR run IN ({crashed}))
    AND parent_run IS NULL ORDER BY began DESC, run DESC LIMIT 1"""
BY_ID: Final = "SELECT run, run_id FROM runs WHERE run_id >= ? AND run_id < ? ORDER BY run_id LIMIT 9"
#: The errors of values that no dotflow has written.
FORGED: Final = (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError, zlib.error)

#: Types -> the columns with values of them. In SQLite each value has a type of its own.
COLUMNS: Final[Mapping[tuple[type, ...], str]] = {
    (str,): """run_id workflow_id step exception message traceback role text workflows paused_by
        spec note noted what""",
    (str, NoneType): """name reason mode trigger error process storage trace identity code task_group needs policy
        glimpse fallback span input refusal digest why parent_run workflow params origin continues superseded key
        server rerun schedule schedules last_dropped paused_comment by_whom comment""",
    (int,): "run task item attempt seq at stream settled dropped nth",
    (int, NoneType): """began ended took cpu peak worker items size retry_in tasks completed failed restored skipped
        resumed parent_task parent_item parent_attempt plan environment lane submitted begun due priority
        alarmed seen planned paused_at resumed_at looked_at until answer answered asked round sent""",
    (bytes,): "data",
    (bytes, NoneType): "document",
}
TYPES: Final = {name: types for types, names in COLUMNS.items() for name in names.split()}
END: Final = "\U0010ffff"  # after all other characters


class Reader(NamedTuple):
    """A connection in a read transaction.

    Attributes:
        ended: The runs that are Running in the file, but CRASHED or UNKNOWN.
        served: The workflows that living processes serve.
        pauses: The pauses by workflow.
    """

    path: Path
    connection: sqlite3.Connection
    ended: Mapping[int, TypeRunState]
    served: Collection[str]
    pauses: Mapping[str, WorkflowPause]

    @property
    def has_runs(self) -> bool:
        """Whether the history has any runs."""
        return bool(self.connection.execute(HAS_RUNS).fetchall())

    def find(self, run: str) -> int:
        """Returns the number of a run. Raises NotInHistory."""
        what, where = f"Can't find the run '{run}'", short_path(self.path)
        if not self.has_runs:
            raise NotInHistory(what, f"{where} has no runs yet. {HOW_TO_RECORD}")
        if run == "last":
            for (number,) in self.connection.execute(LAST):
                return int(number)
            reason = f"{where} has only runs that steps have started, or that wait in the queue. Pass an id"
            raise NotInHistory(what, reason)
        if run == "failed":
            crashed = in_list(self.ended_as(TypeRunState.CRASHED))
            for (number,) in self.connection.execute(LAST_FAILED.format(crashed=crashed)):
                return int(number)
            raise NotInHistory(what, f"no run in {where} has failed")
        beginning = run.lower()
        rows = self.connection.execute(BY_ID, (beginning, beginning + END)).fetchall()
        if rows and (rows[0][1] == beginning or (len(rows) == 1 and len(run) >= MIN_BEGINNING)):
            return int(rows[0][0])
        if len(run) < MIN_BEGINNING:
            reason = f"the beginning of an id needs {MIN_BEGINNING} characters. Pass an id, `last` or `failed`"
        elif rows:
            ids = [run_id for _, run_id in rows]
            more = ", and more" if len(ids) > MAX_LISTED else ""
            reason = f"several ids begin with it: {', '.join(ids[:MAX_LISTED])}{more}. Pass more characters"
        else:
            reason = f"{where} has no id that begins so. `dotflow runs` lists them"
        raise NotInHistory(what, reason)

    def is_running(self, run: int) -> bool:
        """Returns whether a run has neither ended nor crashed; it may wait in the queue."""
        still = self.connection.execute("SELECT 1 FROM runs WHERE run = ? AND state IN ('Queued', 'Running')", (run,))
        return bool(still.fetchall()) and run not in self.ended

    def ended_as(self, state: TypeRunState) -> list[int]:
        """Returns the numbers of the runs that have ended so, but are Running in the file."""
        return [run for run, ended in self.ended.items() if ended is state]


@contextlib.contextmanager
def reading(path: Path) -> Iterator[Reader]:
    """Opens the file for a moment; one that does not exist yet has no runs. Raises HistoryError if it can't be read."""
    with errors_of(path), contextlib.closing(_open(path) or _without_runs()) as connection:
        # Outside of the transaction, in which a second look would see the same.
        ended, served = find_ended(connection, path), find_served(connection, path)
        connection.execute("BEGIN")
        yield Reader(path, connection, ended, served, pauses_of(connection.execute(PAUSES)))


def pauses_of(rows: Iterable[tuple[str, str, int, str | None]]) -> dict[str, WorkflowPause]:
    """Returns the pauses by workflow. The rows are those of PAUSES."""
    return {workflow: WorkflowPause(by, moment(at), comment or "") for workflow, by, at, comment in rows}


def find_served(connection: sqlite3.Connection, path: Path, statement: str = SERVED) -> set[str]:
    """Returns the workflows that living processes serve, or what else the statement finds of servers."""
    ((version,),) = connection.execute("PRAGMA user_version")
    return served_of(connection.execute(statement).fetchall() if version >= QUEUE_FORMAT else (), path)


def served_of(rows: Iterable[tuple[int, str]], path: Path) -> set[str]:
    """Returns the ids that are listed beside the locks of living processes."""
    return {served for lock, ids in rows if live.is_held(path, lock) for served in json.loads(ids)}


def revision_of(file: SQLiteFile, path: Path) -> str:
    """Returns a text that changes with each commit of another connection, and with the death of a process that matters.

    It is "" if there is no history.

    Args:
        file: The history, opened read-only: SQLite counts the commits for a connection that stays open.
        path: Its path.
    """

    def work(connection: sqlite3.Connection) -> tuple[object, ...]:
        ((version,),) = connection.execute("PRAGMA data_version")
        return version, *find_ended(connection, path), *sorted(find_served(connection, path))

    with errors_of(path):
        facts = file.use(work, None, False)
        if facts is None:
            return ""
        # The time is for read-only folders, where SQLite does not look for changes.
        changed = path.stat().st_mtime_ns if path.exists() else 0
        return "-".join(map(str, (file.connections, changed, *facts)))


@contextlib.contextmanager
def errors_of(path: Path, verb: str = "read") -> Iterator[None]:
    """Turns the errors of the file, and those of what it holds, into HistoryError."""
    try:
        yield
    except DotflowError:
        raise
    except (sqlite3.Error, OSError) as error:
        raise HistoryError(f"The history {short_path(path)} can't be {verb}", shorten(cause_of(error))) from error
    except FORGED as error:
        import traceback  # here, since it takes longer to import than this module

        traceback.clear_frames(error.__traceback__)  # a cursor in them would keep a closed connection's lock
        cause = shorten(f"it is damaged, or dotflow did not write it ({type(error).__name__}: {error})")
        raise HistoryError(f"The history {short_path(path)} can't be {verb}", cause) from error


def check_types(cursor: sqlite3.Cursor, row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Returns the first row of a statement, with the types of its columns; the others are checked, too.

    A column of SQLite takes values of any type. Raises TypeError.
    """
    names = [description[0] for description in cursor.description]
    known: set[tuple[type, ...]] = set()

    def check(cursor: sqlite3.Cursor, row: tuple[Any, ...]) -> tuple[Any, ...]:
        types = tuple(map(type, row))
        if types not in known:
            for name, kind in zip(names, types, strict=True):
                if name in TYPES and kind not in TYPES[name]:
                    raise TypeError(f"the column '{name}' has a value of the type {kind.__name__}")
            known.add(types)
        return row

    cursor.row_factory = check
    return check(cursor, row)


def in_list(numbers: Iterable[int]) -> str:
    """Returns numbers for SQL's IN."""
    return ", ".join(map(str, sorted(numbers)))


def short_path(path: Path) -> str:
    """Returns the path as it is seen from the current folder."""
    with contextlib.suppress(OSError, ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


def _open(path: Path) -> sqlite3.Connection | None:
    """Opens the file; returns None if it does not exist, or is empty."""
    if file_id_of(str(path)) is None:
        return None
    try:
        return _connect(path, "ro")
    except sqlite3.OperationalError as error:
        # A read-only folder: SQLite can't make the files beside it, and needs none if they are not there.
        if code_of(error) not in UNWRITABLE or path.with_name(f"{path.name}-wal").exists():
            raise
        return _connect(path, "ro&immutable=1")


def _connect(path: Path, mode: str) -> sqlite3.Connection | None:
    check_beside(path)
    connection = sqlite3.connect(f"{uri_of(path)}?mode={mode}", uri=True, timeout=TIMEOUT, isolation_level=None)
    try:
        protect(connection)
        connection.row_factory = check_types
        with opening():
            connection.execute("SELECT 1 FROM sqlite_master").fetchall()  # opens the file
        version = version_of(connection, FORMAT)
        connection.execute("PRAGMA temp_store = MEMORY")
        for older in range(version or FORMAT.version, FORMAT.version):
            for statement in MISSING[older]:
                connection.execute(statement)
        connection.execute("PRAGMA query_only = ON")
    except BaseException:  # Ctrl-C too
        connection.close()
        raise
    if version:
        return connection
    connection.close()
    return None


def _without_runs() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    for statement in FORMAT.schema:
        connection.execute(statement)
    return connection
