"""The tables of a history, which may change.

Times are microseconds since 1970 in UTC, spans microseconds. An `item` of -1 is the task itself, and the `input` of
another one shows what it was given; attempt 0 is a task without an attempt: restored, cached or skipped. `files` and
`inputs` are the JSON of a FileRecord. `asked` is how often a step with `poll` was not ready. `round` is that of an item
of a map in rounds, or the index of the outermost item around it, and `items` its own index there; of a map `items` is
their number. Other items in rounds are rounds themselves. `waited` is for how long its limits made an
attempt wait. The `policy` of a step has its `levels`, too. A `value` of `task_notes` is JSON. In `output`, stream 0 is
a gap of `skipped` bytes. A row of `calls` is in a slot of its attempt.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from dotflow.abc.operations import LAST_MOMENT
from dotflow.core.types.attempt_state import TypeAttemptState
from dotflow.core.types.call_state import TypeCallState

NO_ITEM: Final = -1
SHARED_ATTEMPT: Final = 0  # in `copies`, with NO_ITEM: the arguments that all items of a map share
MICRO: Final = 1_000_000  # microseconds of a second

#: The states of attempts as numbers: their place in the enum.
STATES: Final = tuple(TypeAttemptState)
RUNNING, RETRY, COMPLETED, FAILED, RESTORED, CACHED, SKIPPED, CRASHED, UNKNOWN, PAUSED = range(len(STATES))

#: Those of calls, in the same way.
CALL_STATES: Final = (TypeCallState.RUNNING, TypeCallState.MADE, TypeCallState.FAILED, TypeCallState.CACHED)
CALL_RUNNING, CALL_MADE, CALL_FAILED, CALL_CACHED = range(len(CALL_STATES))

#: The columns of a row in `attempts`, without the run: those that most rows have come first.
ATTEMPT_COLUMNS: Final = (
    *("task", "item", "attempt", "state", "began", "took", "cpu", "worker", "peak", "glimpse"),
    *("fallback", "items", "span", "input", "files", "asked", "round", "waited"),
)
TASK, ITEM, ATTEMPT, STATE, BEGAN, TOOK, CPU, WORKER, PEAK, GLIMPSE, *_MORE = range(len(ATTEMPT_COLUMNS))
FALLBACK, ITEMS, SPAN, INPUT, FILES, ASKED, ROUND, WAITED = _MORE

#: The first columns of what belongs to an attempt.
ATTEMPT_KEY: Final = ("run", "task", "item", "attempt")

#: The roles of values. That of the argument NAME is "argument:NAME".
PREVIOUS, INITIAL, ARGUMENT, RETURNED = "previous", "initial", "argument:", "returned"

FIND_RUN: Final = "SELECT run FROM runs WHERE run_id = ?"
#: The runs that another one can continue, or replace.
OPEN: Final = "superseded IS NULL AND state IN ('Queued', 'Paused', 'Failed', 'Cancelled', 'Interrupted', 'Crashed')"

#: The tables of operations, and the indexes of `runs` for them. Those of the queue are partial, with the workflow
#: first: a claim costs the same beside any number of rows that have ended, or can't begin. A schedule's `spec` is JSON;
#: `at_once` is how many of its runs may be Running; `furthest` is the greatest `settled` that it ever had, also where
#: the clock went back; `dropped` counts its firings without a run, and `last_dropped` has the last of them, [planned,
#: reason, name] as JSON; `seen` is when a server of it began, and NULL from when it was reported that none serves it
#: any more. The `schedules` of a server are their ids, as JSON. `wanted.looked_at` is 1 where the alarm has looked at a
#: firing before the clock was set back; of a debounced run that is no firing it is the moment until which submissions
#: put it off. What is `made_up` is in the way of no firing. A workflow was paused last from
#: `paused_from` until `resumed_at`.
QUEUE: Final = (
    "CREATE UNIQUE INDEX runs_continues ON runs (continues) WHERE continues IS NOT NULL",
    "CREATE INDEX runs_origin ON runs (origin) WHERE origin IS NOT NULL",
    "CREATE INDEX runs_base ON runs (workflow, began)",
    "CREATE INDEX runs_running ON runs (workflow_id, workflow) WHERE state = 'Running'",
    f"CREATE INDEX runs_open ON runs (workflow_id) WHERE {OPEN}",
    """CREATE TABLE wanted (
        run INTEGER PRIMARY KEY, workflow TEXT NOT NULL, name TEXT, key TEXT, priority INTEGER NOT NULL,
        due INTEGER NOT NULL, resume INTEGER NOT NULL, rerun TEXT, schedule TEXT, planned INTEGER,
        looked_at INTEGER, tries INTEGER NOT NULL, server TEXT, queued INTEGER NOT NULL,
        made_up INTEGER NOT NULL DEFAULT 0)""",
    "CREATE UNIQUE INDEX wanted_key ON wanted (workflow, key) WHERE key IS NOT NULL",
    "CREATE UNIQUE INDEX wanted_planned ON wanted (schedule, planned) WHERE planned IS NOT NULL",
    "CREATE UNIQUE INDEX wanted_fresh ON wanted (name) WHERE queued AND NOT resume AND name IS NOT NULL",
    "CREATE INDEX wanted_name ON wanted (name) WHERE queued",
    "CREATE INDEX wanted_next ON wanted (workflow, priority DESC, due, run) WHERE queued",
    "CREATE INDEX wanted_server ON wanted (server) WHERE server IS NOT NULL",
    "CREATE INDEX wanted_schedule ON wanted (schedule, planned) WHERE queued AND schedule IS NOT NULL",
    """CREATE TABLE workflows (
        workflow TEXT PRIMARY KEY, params TEXT, seen INTEGER NOT NULL, paused_by TEXT, paused_at INTEGER,
        paused_comment TEXT, paused_from INTEGER, resumed_at INTEGER, resumed_by TEXT, resumed_comment TEXT)
        WITHOUT ROWID""",
    """CREATE TABLE servers (
        server TEXT PRIMARY KEY, process TEXT NOT NULL, lock INTEGER NOT NULL, workflows TEXT NOT NULL,
        schedules TEXT, since INTEGER NOT NULL, beat INTEGER) WITHOUT ROWID""",
    """CREATE TABLE orders (
        run INTEGER NOT NULL, what TEXT NOT NULL, by_whom TEXT NOT NULL, at INTEGER NOT NULL, comment TEXT NOT NULL,
        done INTEGER)""",
    "CREATE INDEX orders_run ON orders (run)",
    "CREATE INDEX orders_open ON orders (run) WHERE done IS NULL",
    """CREATE TABLE schedules (
        schedule TEXT PRIMARY KEY, workflow TEXT NOT NULL, spec TEXT NOT NULL, at_once INTEGER NOT NULL,
        settled INTEGER NOT NULL, furthest INTEGER NOT NULL, alarmed INTEGER, dropped INTEGER NOT NULL DEFAULT 0,
        last_dropped TEXT, seen INTEGER) WITHOUT ROWID""",
    """CREATE TABLE questions (
        origin TEXT NOT NULL, task TEXT NOT NULL, item INTEGER NOT NULL, nth INTEGER NOT NULL, text TEXT NOT NULL,
        asked INTEGER NOT NULL, until INTEGER, answer INTEGER, by_whom TEXT, at INTEGER, comment TEXT, value TEXT,
        PRIMARY KEY (origin, task, item, nth)) WITHOUT ROWID""",
    # Nothing uses it, but an earlier dotflow refuses a file of this format without it.
    "CREATE TABLE grants (name TEXT NOT NULL, at INTEGER NOT NULL, holder TEXT NOT NULL, ended INTEGER)",
    "CREATE INDEX grants_name ON grants (name, at)",
    """CREATE TABLE task_notes (
        run INTEGER NOT NULL, task INTEGER NOT NULL, item INTEGER NOT NULL, attempt INTEGER NOT NULL,
        name TEXT NOT NULL, at INTEGER NOT NULL, value TEXT NOT NULL,
        PRIMARY KEY (run, task, item, attempt, name)) WITHOUT ROWID""",
)

#: What a question is about: a digest, so that a yes counts for the same values only.
ABOUT: Final = "ALTER TABLE questions ADD COLUMN about TEXT"
#: When the notifier has taken the message with a question; NULL before.
SENT: Final = "ALTER TABLE questions ADD COLUMN sent INTEGER"
#: The call that asks a question; NULL where a step does.
CALL: Final = "ALTER TABLE questions ADD COLUMN call TEXT"
#: What a paused run waits for, as a TypeWait; the call; the id of an order, by which its sender finds it again; and
#: what claims look up.
WAITS: Final = (
    "ALTER TABLE runs ADD COLUMN waits TEXT",
    CALL,
    "ALTER TABLE orders ADD COLUMN id TEXT",
    "CREATE UNIQUE INDEX orders_id ON orders (id) WHERE id IS NOT NULL",
    "CREATE INDEX wanted_goes_on ON wanted (name) WHERE queued AND resume",
    "CREATE INDEX wanted_unnamed ON wanted (workflow) WHERE queued AND name IS NULL",
)

#: The calls of durable steps: their keys are `call`, and `depth` is in how many durable calls they are. The `input` of
#: one that failed is the JSON of its arguments.
CALLS: Final = """CREATE TABLE calls (
    run INTEGER NOT NULL, task INTEGER NOT NULL, item INTEGER NOT NULL, attempt INTEGER NOT NULL,
    slot INTEGER NOT NULL, number INTEGER NOT NULL, state INTEGER NOT NULL, began INTEGER NOT NULL, took INTEGER,
    depth INTEGER NOT NULL, call TEXT NOT NULL, name TEXT NOT NULL, arguments TEXT, glimpse TEXT,
    identity TEXT, exception TEXT, message TEXT, traceback TEXT, input TEXT,
    PRIMARY KEY (run, task, item, attempt, slot)) WITHOUT ROWID"""

#: The grants of limits and budgets, counted in slots of a window, whose `period` is in microseconds, or -1 for a run;
#: the attempts that count as those at once, or have estimated what they use; the processes that have waited for a
#: place; what is closed since a service has refused; the texts of limits, by their names with braces; and of which
#: budgets people were told that a level is reached, until when, or NULL for a run. Amounts are millionths. The unit of
#: a budget has '=' before it, and behind it the run, where it is for a run.
LIMITS: Final = (
    """CREATE TABLE slots (name TEXT NOT NULL, unit TEXT NOT NULL, period INTEGER NOT NULL, began INTEGER NOT NULL,
        newest INTEGER NOT NULL, amount INTEGER NOT NULL, PRIMARY KEY (name, unit, period, began)) WITHOUT ROWID""",
    """CREATE TABLE holds (id TEXT NOT NULL, name TEXT NOT NULL, unit TEXT NOT NULL, amount INTEGER NOT NULL,
        lock INTEGER, run_id TEXT NOT NULL, step TEXT NOT NULL, began INTEGER NOT NULL,
        PRIMARY KEY (id, name, unit)) WITHOUT ROWID""",
    "CREATE INDEX holds_name ON holds (name, unit)",
    """CREATE TABLE waits (name TEXT NOT NULL, unit TEXT NOT NULL, amount INTEGER NOT NULL, lock INTEGER NOT NULL,
        priority INTEGER NOT NULL, run_id TEXT NOT NULL, step TEXT NOT NULL, since INTEGER NOT NULL,
        seen INTEGER NOT NULL, PRIMARY KEY (name, unit, lock, priority)) WITHOUT ROWID""",
    """CREATE TABLE closed (name TEXT PRIMARY KEY, at INTEGER NOT NULL, seconds INTEGER NOT NULL,
        refused INTEGER NOT NULL, run_id TEXT NOT NULL, step TEXT NOT NULL) WITHOUT ROWID""",
    """CREATE TABLE texts (name TEXT NOT NULL, text TEXT NOT NULL, seen INTEGER NOT NULL,
        PRIMARY KEY (name, text)) WITHOUT ROWID""",
    """CREATE TABLE told (name TEXT NOT NULL, unit TEXT NOT NULL, part TEXT NOT NULL, level INTEGER NOT NULL,
        until INTEGER, PRIMARY KEY (name, unit, part)) WITHOUT ROWID""",
)

TABLES: Final = (
    """CREATE TABLE runs (
        run INTEGER PRIMARY KEY, run_id TEXT NOT NULL UNIQUE, workflow_id TEXT NOT NULL, name TEXT, state TEXT NOT NULL,
        reason TEXT, mode TEXT, resumed INTEGER, trigger TEXT, began INTEGER NOT NULL, ended INTEGER, tasks INTEGER,
        completed INTEGER, failed INTEGER, restored INTEGER, skipped INTEGER, error TEXT,
        parent_run TEXT, parent_task INTEGER, parent_item INTEGER, parent_attempt INTEGER,
        lock INTEGER, process TEXT, plan INTEGER, environment INTEGER, storage TEXT,
        is_named INTEGER, trace TEXT, workflow TEXT, params TEXT, submitted INTEGER, origin TEXT, continues TEXT,
        begun INTEGER, superseded TEXT, inputs TEXT)""",
    "CREATE INDEX runs_began ON runs (began)",
    "CREATE INDEX runs_workflow ON runs (workflow_id, began)",
    "CREATE INDEX runs_name ON runs (name, began) WHERE name IS NOT NULL",
    "CREATE INDEX runs_state ON runs (state, began)",
    "CREATE INDEX runs_plan ON runs (plan)",
    "CREATE INDEX runs_environment ON runs (environment)",
    "CREATE INDEX runs_parent ON runs (parent_run) WHERE parent_run IS NOT NULL",
    "CREATE TABLE plans (plan INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE)",
    """CREATE TABLE steps (
        plan INTEGER NOT NULL, task INTEGER NOT NULL, name TEXT NOT NULL, identity TEXT, code TEXT, task_group TEXT,
        lane INTEGER, needs TEXT, policy TEXT, PRIMARY KEY (plan, task)) WITHOUT ROWID""",
    """CREATE TABLE environments (
        environment INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, document BLOB NOT NULL)""",
    """CREATE TABLE attempts (
        run INTEGER NOT NULL, task INTEGER NOT NULL, item INTEGER NOT NULL, attempt INTEGER NOT NULL,
        state INTEGER NOT NULL, began INTEGER, took INTEGER, glimpse TEXT, cpu INTEGER, peak INTEGER, worker INTEGER,
        fallback TEXT, items INTEGER, span TEXT, input TEXT, files TEXT, asked INTEGER, round INTEGER, waited INTEGER,
        PRIMARY KEY (run, task, item, attempt)) WITHOUT ROWID""",
    """CREATE TABLE errors (
        run INTEGER NOT NULL, task INTEGER NOT NULL, item INTEGER NOT NULL, attempt INTEGER NOT NULL,
        nth INTEGER NOT NULL, exception TEXT NOT NULL, message TEXT NOT NULL, traceback TEXT NOT NULL, retry_in INTEGER,
        refusal TEXT,
        PRIMARY KEY (run, task, item, attempt, nth)) WITHOUT ROWID""",
    """CREATE TABLE output (
        run INTEGER NOT NULL, task INTEGER NOT NULL, item INTEGER NOT NULL, attempt INTEGER NOT NULL,
        seq INTEGER NOT NULL, at INTEGER NOT NULL, stream INTEGER NOT NULL, data BLOB NOT NULL,
        skipped INTEGER NOT NULL, PRIMARY KEY (run, task, item, attempt, seq)) WITHOUT ROWID""",
    """CREATE TABLE copies (
        run INTEGER NOT NULL, task INTEGER NOT NULL, item INTEGER NOT NULL, attempt INTEGER NOT NULL,
        role TEXT NOT NULL, size INTEGER, digest TEXT, document BLOB, why TEXT,
        PRIMARY KEY (run, task, item, attempt, role)) WITHOUT ROWID""",
    "CREATE TABLE notes (run INTEGER NOT NULL, at INTEGER NOT NULL, text TEXT NOT NULL)",
    "CREATE INDEX notes_run ON notes (run)",
    "CREATE TABLE meta (swept INTEGER NOT NULL)",
    "INSERT INTO meta VALUES (0)",
    *QUEUE,
    ABOUT,
    SENT,
    *WAITS,
    CALLS,
    *LIMITS,
)


def upsert(table: str, key: Sequence[str], columns: Sequence[str], rows: str = "") -> str:
    """Returns the statement that writes rows of a table, in place of those with the same key. By default it is one."""
    rows = rows or f"({', '.join('?' * (len(key) + len(columns)))})"
    changes = ", ".join(f"{column} = excluded.{column}" for column in columns)
    names = ", ".join((*key, *columns))
    return f"INSERT INTO {table} ({names}) VALUES {rows} ON CONFLICT ({', '.join(key)}) DO UPDATE SET {changes}"


def micro(moment: datetime) -> int:
    """Returns the microseconds since 1970 in UTC."""
    return round(moment.timestamp() * MICRO)


def moment(micro: int) -> datetime:
    """Returns the moment of the microseconds since 1970. Raises ValueError."""
    if not 0 <= micro < LAST_MOMENT * MICRO:
        raise ValueError(f"{micro} is no moment")
    return datetime.fromtimestamp(micro / MICRO, UTC)  # exact: the error is below half of one


def moment_or_none(micro: int | None) -> datetime | None:
    """Returns the moment of the microseconds since 1970; None for None. Raises ValueError."""
    return None if micro is None else moment(micro)


def levels_in(policy: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the levels of the items of a task by its policy; empty where they are none, or no names."""
    levels = policy.get("levels", ())
    return tuple(levels) if isinstance(levels, list) and all(isinstance(level, str) for level in levels) else ()
