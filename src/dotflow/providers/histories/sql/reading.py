"""Reads a history: without changing it, and with no transaction left open."""

import contextlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from dotflow.abc.operations import LAST_MOMENT, WorkflowPause
from dotflow.core.types.run_state import TypeRunState
from dotflow.errors import NotInHistory
from dotflow.providers.histories.sql.crashed import find_ended
from dotflow.providers.histories.sql.database import Connection, Database, Presence
from dotflow.providers.histories.sql.tables import MICRO, moment

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
LATEST: Final = LAST_MOMENT * MICRO - 1
PAUSES: Final = """SELECT workflow, paused_by AS pauser, paused_at AS pause, paused_comment AS words FROM workflows
    WHERE paused_at IS NOT NULL"""
LAST_FAILED: Final = """SELECT run FROM runs WHERE (state IN ('Failed', 'Crashed') OR run IN ({crashed}))
    AND parent_run IS NULL ORDER BY began DESC, run DESC LIMIT 1"""
BY_ID: Final = "SELECT run, run_id FROM runs WHERE run_id >= ? AND run_id < ? ORDER BY run_id LIMIT 9"
END: Final = "\U0010ffff"  # after all other characters


class Reader(NamedTuple):
    """A connection in a read transaction.

    Attributes:
        ended: The runs that are Running in the file, but CRASHED or UNKNOWN.
        served: The workflows that living processes serve.
        pauses: The pauses by workflow.
    """

    database: Database
    connection: Connection
    ended: Mapping[int, TypeRunState]
    served: Collection[str]
    pauses: Mapping[str, WorkflowPause]

    @property
    def has_runs(self) -> bool:
        """Whether the history has any runs."""
        return bool(self.connection.execute(HAS_RUNS).fetchall())

    def find(self, run: str) -> int:
        """Returns the number of a run. Raises NotInHistory."""
        what, where = f"Can't find the run '{run}'", self.database.place
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


def pauses_of(rows: Iterable[tuple[object, ...]]) -> dict[str, WorkflowPause]:
    """Returns the pauses by workflow, of the rows of PAUSES. One that no dotflow has written is a pause, too."""
    return {
        str(workflow): WorkflowPause(
            as_text(by), moment(max(0, min(at, LATEST)) if isinstance(at, int) else 0), as_text(comment)
        )
        for workflow, by, at, comment in rows
    }


def as_text(value: object) -> str:
    """Returns a value as text: a column of SQLite takes values of any type."""
    return value.decode(errors="replace") if isinstance(value, bytes) else "" if value is None else str(value)


@contextlib.contextmanager
def reading(database: Database) -> Iterator[Reader]:
    """Opens the database for a moment. Raises HistoryError if it can't be read."""
    with database.reading() as connection:
        # Before its state is frozen, in which a second look would see the same.
        ended, served = find_ended(connection, database.presence), find_served(connection, database.presence)
        database.freeze(connection)
        yield Reader(database, connection, ended, served, pauses_of(connection.execute(PAUSES)))


def find_served(connection: Connection, presence: Presence, statement: str = SERVED) -> set[str]:
    """Returns the workflows that living processes serve, or what else the statement finds of servers."""
    return served_of(connection.execute(statement).fetchall(), presence)


def served_of(rows: Iterable[tuple[int, str]], presence: Presence) -> set[str]:
    """Returns the ids that are listed beside the locks of living processes."""
    return {served for lock, ids in rows if presence.is_held(lock) for served in _ids_in(ids)}


def _ids_in(text: str) -> list[str]:
    """Returns the ids that a server has written as JSON; none where it was no dotflow."""
    try:
        ids = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return []
    return [one for one in ids if isinstance(one, str)] if isinstance(ids, list) else []


def in_list(numbers: Iterable[int]) -> str:
    """Returns numbers for SQL's IN, which takes no empty list."""
    return ", ".join(map(str, sorted(numbers))) or "NULL"
