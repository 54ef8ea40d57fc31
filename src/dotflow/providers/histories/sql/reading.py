"""Reads a history: without changing it, and with no transaction left open."""

import contextlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from dotflow.abc.operations import LAST_MOMENT, WorkflowPause
from dotflow.core.types.run_state import TypeRunState
from dotflow.providers.histories.sql.crashed import find_ended
from dotflow.providers.histories.sql.database import Connection, Database, Presence
from dotflow.providers.histories.sql.tables import MICRO, moment

HOW_TO_RECORD: Final = (
    "Run `dotflow start`, or set Config(history=HistorySQLite()) in a program; for another file, use --history or "
    "$DOTFLOW_HISTORY"
)

HAS_RUNS: Final = "SELECT 1 FROM runs LIMIT 1"
SERVED: Final = "SELECT lock, workflows FROM servers"
LATEST: Final = LAST_MOMENT * MICRO - 1
PAUSES: Final = """SELECT workflow, paused_by AS pauser, paused_at AS pause, paused_comment AS words FROM workflows
    WHERE paused_at IS NOT NULL"""


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
