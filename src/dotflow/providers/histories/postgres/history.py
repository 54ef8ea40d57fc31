"""HistoryPostgres: every run in a schema of a Postgres database."""

import contextlib
import math
import os
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from dotflow import clock
from dotflow.abc.archive import Since
from dotflow.abc.history import POSTGRES, POSTGRES_VARIABLE
from dotflow.abc.limits import LimitStore
from dotflow.abc.operations import Operations
from dotflow.core.events import AttemptOutput, Event, RunEnded, RunStarted
from dotflow.core.files import NO_STATES
from dotflow.core.masks import Masks, hide_all
from dotflow.core.types.capture import TypeCapture
from dotflow.errors import HistoryError, InvalidArgument
from dotflow.providers.histories.postgres.database import PostgresDatabase
from dotflow.providers.histories.postgres.dialect import check_schema
from dotflow.providers.histories.postgres.late import LateWriter, OutputWriter
from dotflow.providers.histories.postgres.link import SHARED
from dotflow.providers.histories.sql.crashed import mark_ended
from dotflow.providers.histories.sql.database import Connection
from dotflow.providers.histories.sql.history import NOTE, SQLHistory, as_moment, check_arguments
from dotflow.providers.histories.sql.retention import (
    ENDED,
    Keep,
    as_keep,
    forget,
    forget_all,
    forget_found,
    sweep,
)
from dotflow.providers.histories.sql.rows import RunRows
from dotflow.providers.histories.sql.tables import FIND_RUN, micro
from dotflow.providers.histories.sql.values import Values
from dotflow.providers.optional import require_extra
from dotflow.providers.postgres.dsn import Dsn

if TYPE_CHECKING:
    from dotflow.providers.histories.sql.queue import SQLQueue

MAX_LATE: Final = 0.2  # seconds
WRITING: Final = 0.1  # seconds within which a batch is written
MAX_OUTPUTS: Final = 1000  # runs of another process whose output is counted
SWEEP_BUDGET: Final = 0.02  # seconds of a sweep at the end of a run; the rest follows at the end of the next one


class HistoryPostgres(SQLHistory):
    """Keeps every run in a schema of a Postgres database, for any number of machines.

    The tables are made by the first run, in a schema of their own. Events are written *late* seconds after they
    happen, so that no step waits for the server: when a process is killed, the last 0.2 s of its run may be missing.
    Where the server is away, a run goes on, and what it keeps for the server is written later. Any tool can read the
    views `run_list`, `attempt_list`, `call_list`, `error_list` and `note_list`. Poolers such as PgBouncer may be
    between, in transaction mode too. Needs `pip install 'dotflow[postgres]'`.

    Args:
        dsn: The database: a URL, `host=... dbname=...`, or '' for that of the environment. Better keep the password in
            `PGPASSWORD` or `~/.pgpass`. It is neither shown nor pickled.
        schema: The schema, which has nothing but the history.
        keep: Which runs are kept, beside the last run and the last failed one of each workflow with a workflow_id: a
            text such as "30 days" or "200 runs", a timedelta; None for all.
        late: The seconds that events wait for others, at most 0.2; 0 writes an attempt before its step runs.
        capture: How the output of the steps is captured: "auto", "streams", "fd" or "none".
        values: "failed": copies of the inputs of failed tasks, and short texts of all other values. "all": copies of
            all values. "none": nothing.
        output_limit: The number of bytes that are kept of an attempt's output, half of its beginning and half of its
            end.
        value_limit: The maximum size of the copy of a value, in bytes. All copies of a run have ten times as many.
        pickle: Whether to pickle values that the codec refuses. Reading a pickle can run any program. So use it only
            for databases that only you can write to.

    Raises:
        InvalidArgument: One of the arguments is invalid.
        MissingExtra: psycopg, or its libpq, is missing.
    """

    measures_usage = True
    reuses_space = True
    database: PostgresDatabase
    _queue: "SQLQueue | None"
    _limits: "LimitStore | None"

    def __init__(
        self,
        dsn: str = "",
        schema: str = "dotflow",
        keep: str | timedelta | None = "30 days",
        late: float = 0.1,
        capture: str | TypeCapture = TypeCapture.AUTO,
        values: str = "failed",
        output_limit: int = 1_000_000,
        value_limit: int = 10_000_000,
        pickle: bool = False,
    ) -> None:
        require_extra("psycopg", type(self).__name__, "postgres")
        check_arguments(capture, values, output_limit, value_limit, pickle)
        if type(late) not in (int, float) or not 0 <= late <= MAX_LATE or math.isnan(late):
            raise InvalidArgument("late", late, f"a number of seconds, from 0 to {MAX_LATE}")
        self._dsn, self._schema = Dsn(dsn, type(self).__name__), check_schema(schema)
        hide_all(Masks(self._dsn.secrets))
        self.keep: Keep = as_keep(keep)
        self._wait = float(late)
        self.late = self._wait + WRITING if late else 0.0
        self.capture = TypeCapture(capture)
        self.values = values
        self.output_limit = output_limit
        self.value_limit = value_limit
        self.pickle = pickle
        self._connect()

    def _connect(self) -> None:
        self.database = PostgresDatabase(self._dsn, self._schema)
        self.store = self.database.store  # any process can record output in it
        self._queue = None
        self._limits = None
        self._late = LateWriter(self.database, self._wait)
        self._outputs: dict[str, OutputWriter] = {}  # of runs of another process

    def operations(self) -> Operations:
        if self._queue is None:
            from dotflow.providers.histories.sql import queue  # here: most runs never need it

            self._queue = queue.SQLQueue(self.database)
        return self._queue

    def limits(self) -> LimitStore:
        if self._limits is None:
            from dotflow.providers.histories.sql.limits import SQLLimits  # here: few runs have limits

            self._limits = SQLLimits(self.database)
        return self._limits

    def record(self, run_id: str, event: Event) -> None:
        writer = self._late.get(run_id)
        if writer is not None:
            self._late.record(writer, event)
            if event.__class__ is RunEnded:
                try:
                    self._late.end(run_id)
                finally:
                    self.sweep()
        elif event.__class__ is RunStarted:
            self._begin(run_id, event)
        elif event.__class__ is AttemptOutput:
            self._add_output(run_id, event)

    def _begin(self, run_id: str, event: Any) -> None:
        if self.values == "none":
            event = event._replace(files=NO_STATES)
        values = Values(self.values, self.value_limit, self.pickle, event)
        self._late.begin(run_id, RunRows(event, values, self.output_limit))

    def _add_output(self, run_id: str, event: Any) -> None:
        writer = self._outputs.pop(run_id, None) or OutputWriter(self.database, run_id, self.output_limit)
        self._outputs[run_id] = writer  # the last used ones are last
        if len(self._outputs) > MAX_OUTPUTS:
            del self._outputs[next(iter(self._outputs))]
        writer.add(event)

    def settle(self, run_id: str, begins: bool) -> float | None:
        if (output := self._outputs.get(run_id)) is not None:
            output.write()
        self._late.settle(run_id)
        return None

    def sweep(self) -> None:
        with contextlib.suppress(HistoryError):  # busy, away, read-only: another sweep tries again
            run = partial(self.database.run_on, self.database.events, patience=0)
            sweep(run, self._forgetting, self.keep, SWEEP_BUDGET, self.database.schema.now())

    def _forgetting(self, work: Callable[[Connection], Any]) -> Any:
        return self.database.events.transact(work, SHARED, durable=False, patience=0)

    def contains(self, run_id: str) -> bool:
        with contextlib.suppress(HistoryError):
            return bool(self.database.run_on(self.database.events, FIND_RUN, (run_id,), patience=0))
        return False

    def upgrade(self) -> bool:
        """Makes the tables, or upgrades those of an older format. Returns whether it has. Raises HistoryError."""
        return self.database.schema.upgrade(self.database.queue)

    def upgrade_sql(self) -> str:
        """Returns the statements that do this, for an owner that dotflow is not. Raises HistoryError."""
        statements = self.database.schema.statements(self.database.queue)
        return "".join(f"{' '.join(statement.split())};\n" for statement in statements)

    def close(self) -> None:
        """Closes the connections. The next call opens them again."""
        self.database.close()

    def __getstate__(self) -> dict[str, Any]:
        """Leaves the connections out: another process opens its own."""
        own = ("database", "_queue", "_limits", "_late", "_outputs")
        return {name: value for name, value in self.__dict__.items() if name not in own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if (named := _named()) is not None:
            self._dsn = self._dsn.with_secrets_of(named)
        self._connect()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.database.place}>"

    def why_foreign(self) -> str:
        return "it is in a database, which others may write to"

    @property
    def option(self) -> str | None:
        named = _named()
        return POSTGRES if named is not None and named.url == self._dsn.url else self._dsn.url

    def revision(self) -> str:
        return self.database.revision()

    def note(self, run: str, text: str) -> None:
        with self._records() as records:
            number = records.find(run)
        values = (number, micro(clock.now()), text)
        self.database.transact(lambda connection: connection.execute(NOTE, values), None)

    def forget(self, *runs: str, older_than: Since | None = None) -> int:
        until = None if older_than is None else as_moment("older_than", older_than)
        with self._records() as records:
            numbers = list(dict.fromkeys(map(records.find, runs)))
            if not records.has_runs:
                return 0
        transact = partial(self.database.transact, lock=SHARED)
        named = transact(lambda connection: self._forgettable(connection, numbers))
        count = forget_all(transact, lambda connection: forget(connection, named))
        if until is not None:
            count += forget_all(transact, lambda connection: forget_found(connection, ENDED, (until,)))
        return count

    def _forgettable(self, connection: Connection, numbers: list[int]) -> list[int]:
        mark_ended(connection, self.database.presence)
        return self.forgettable(connection, numbers)


def _named() -> Dsn | None:
    """Returns the database of the environment variable; None without one, or where it can't be parsed."""
    text = os.environ.get(POSTGRES_VARIABLE)
    with contextlib.suppress(InvalidArgument):
        return Dsn(text, HistoryPostgres.__name__) if text else None
    return None
