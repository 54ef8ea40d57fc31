"""The format of a history file: its views, which are public, and what older formats lack."""

from typing import Final

from dotflow.core.types.run_state import TypeWait
from dotflow.providers.histories.sql.database import SQLiteConnection
from dotflow.providers.histories.sql.tables import (
    ABOUT,
    CALL,
    CALL_STATES,
    CALLS,
    LIMITS,
    MICRO,
    NO_ITEM,
    QUEUE,
    SENT,
    STATES,
    TABLES,
    WAITS,
)
from dotflow.providers.sqlite_file import DatabaseFormat

_STATE_NAME: Final = " ".join(f"WHEN {code} THEN '{state}'" for code, state in enumerate(STATES))
_CALL_STATE: Final = " ".join(f"WHEN {code} THEN '{state}'" for code, state in enumerate(CALL_STATES))

QUEUE_FORMAT: Final = 4  # the oldest one whose queue can be read as it is


def _iso(column: str) -> str:
    """Returns an SQL expression for a time such as 2026-11-25T02:00:00.000000Z."""
    date = f"strftime('%Y-%m-%dT%H:%M:%S', {column} / {MICRO}, 'unixepoch')"
    return f"{date} || printf('.%06dZ', {column} % {MICRO})"


def _seconds(column: str) -> str:
    return f"({column}) / {MICRO}.0"


ATTEMPT_LIST: Final = f"""CREATE VIEW attempt_list AS SELECT run_id, workflow_id, task, steps.name AS step,
    NULLIF(item, {NO_ITEM}) AS item, attempt, CASE attempts.state {_STATE_NAME} END AS state,
    {_iso("attempts.began")} AS began, {_seconds("took")} AS seconds, {_seconds("cpu")} AS cpu_seconds,
    peak AS peak_bytes, worker, glimpse, fallback, items, span, input, files, asked, round,
    {_seconds("waited")} AS waited_seconds
    FROM attempts JOIN runs USING (run) LEFT JOIN steps USING (plan, task)"""
ERROR_LIST: Final = f"""CREATE VIEW error_list AS SELECT run_id, workflow_id, task, steps.name AS step,
    NULLIF(item, {NO_ITEM}) AS item, attempt, nth, exception, message, traceback,
    {_seconds("retry_in")} AS retry_in, refusal FROM errors JOIN runs USING (run) LEFT JOIN steps USING (plan, task)"""
RUN_LIST: Final = f"""CREATE VIEW run_list AS SELECT run_id, workflow_id, runs.name AS name, state, reason, mode,
    resumed, trigger, {_iso("began")} AS began, {_iso("ended")} AS ended, {_seconds("ended - began")} AS seconds,
    tasks, completed, failed, restored, skipped, error, parent_run, process, storage, trace,
    {_iso("submitted")} AS submitted, origin, schedule, {_iso("planned")} AS planned
    FROM runs LEFT JOIN wanted USING (run)"""
NOTE_LIST: Final = f"""CREATE VIEW note_list AS SELECT run_id, workflow_id, task, steps.name AS step,
    NULLIF(item, {NO_ITEM}) AS item, attempt, task_notes.name AS name, {_iso("at")} AS at, value,
    IIF(value GLOB '[-0-9]*', CAST(value AS REAL), NULL) AS number
    FROM task_notes JOIN runs USING (run) LEFT JOIN steps USING (plan, task)"""
CALL_LIST: Final = f"""CREATE VIEW call_list AS SELECT run_id, workflow_id, task, steps.name AS step,
    NULLIF(item, {NO_ITEM}) AS item, attempt, number, calls.name AS name, arguments,
    CASE calls.state {_CALL_STATE} END AS state, {_iso("calls.began")} AS began, {_seconds("took")} AS seconds,
    depth, glimpse, exception, message, traceback, call, calls.identity AS identity
    FROM calls JOIN runs USING (run) LEFT JOIN steps USING (plan, task)"""
VIEWS: Final = (RUN_LIST, ATTEMPT_LIST, ERROR_LIST, NOTE_LIST, CALL_LIST)

#: From the first format to the second one.
SECOND: Final = (
    *("ALTER TABLE attempts ADD COLUMN input TEXT", "ALTER TABLE errors ADD COLUMN refusal TEXT"),
    *("DROP VIEW attempt_list", "DROP VIEW error_list", ATTEMPT_LIST, ERROR_LIST),
)
#: From the second one to the third one: the queue, attempts that are Paused, and files. Runs that are there have begun.
THIRD: Final = (
    *(
        f"ALTER TABLE runs ADD COLUMN {column}"
        for column in (
            *("workflow TEXT", "params TEXT", "submitted INTEGER", "origin TEXT", "continues TEXT", "begun INTEGER"),
            *("superseded TEXT", "inputs TEXT"),
        )
    ),
    "ALTER TABLE attempts ADD COLUMN files TEXT",
    "UPDATE runs SET begun = 1",
    *QUEUE,
    *("DROP VIEW run_list", "DROP VIEW attempt_list", RUN_LIST, ATTEMPT_LIST),
)
#: From the third one to the fourth one: attempts that wait, what questions are about, and a view of notes.
FOURTH: Final = (
    *("ALTER TABLE attempts ADD COLUMN asked INTEGER", "DROP VIEW attempt_list", ATTEMPT_LIST),
    *(ABOUT, NOTE_LIST),
)
#: From the fourth one to the fifth one: the rounds of items, and which questions were sent.
FIFTH: Final = (
    *("ALTER TABLE attempts ADD COLUMN round INTEGER", "DROP VIEW attempt_list", ATTEMPT_LIST),
    SENT,
)
#: From the fifth one to the sixth one: what paused runs wait for. Until then only the reason, for people, had it.
SIXTH: Final = (
    *WAITS,
    f"UPDATE runs SET waits = '{TypeWait.ANSWER}' WHERE state = 'Paused' AND reason LIKE 'it waits for %'",
)
#: From the sixth one to the seventh one: the calls of durable steps.
SEVENTH: Final = (CALLS, CALL_LIST)
#: From the seventh one to the eighth one: limits.
EIGHTH: Final = (*LIMITS, "ALTER TABLE attempts ADD COLUMN waited INTEGER", "DROP VIEW attempt_list", ATTEMPT_LIST)
_NO_WAITS: Final = "NULL AS waited FROM main.attempts"
_NO_ROUNDS: Final = f"NULL AS round, {_NO_WAITS}"
#: What a file of an older format that is read, but not written, lacks: views in place of its tables.
MISSING: Final = {
    1: (
        f"CREATE TEMP VIEW attempts AS SELECT *, NULL AS input, NULL AS files, NULL AS asked, {_NO_ROUNDS}",
        "CREATE TEMP VIEW errors AS SELECT *, NULL AS refusal FROM main.errors",
    ),
    2: (
        """CREATE TEMP VIEW runs AS SELECT *, NULL AS workflow, NULL AS params, NULL AS submitted, NULL AS origin,
            NULL AS continues, 1 AS begun, NULL AS superseded, NULL AS inputs FROM main.runs""",
        f"CREATE TEMP VIEW IF NOT EXISTS attempts AS SELECT *, NULL AS files, NULL AS asked, {_NO_ROUNDS}",
    ),
    3: (
        f"CREATE TEMP VIEW IF NOT EXISTS attempts AS SELECT *, NULL AS asked, {_NO_ROUNDS}",
        # An empty queue: that of the third format was another one.
        *(one.replace("CREATE TABLE", "CREATE TEMP TABLE") for one in QUEUE if one.startswith("CREATE TABLE")),
        *(ABOUT, SENT, CALL),
    ),
    4: (
        f"CREATE TEMP VIEW IF NOT EXISTS attempts AS SELECT *, {_NO_ROUNDS}",
        "CREATE TEMP VIEW IF NOT EXISTS questions AS SELECT *, NULL AS sent, NULL AS call FROM main.questions",
    ),
    5: ("CREATE TEMP VIEW IF NOT EXISTS questions AS SELECT *, NULL AS call FROM main.questions",),
    6: (CALLS.replace("CREATE TABLE", "CREATE TEMP TABLE"),),
    7: (
        *(one.replace("CREATE TABLE", "CREATE TEMP TABLE") for one in LIMITS if one.startswith("CREATE TABLE")),
        f"CREATE TEMP VIEW IF NOT EXISTS attempts AS SELECT *, {_NO_WAITS}",
    ),
}


def _text_or_blob(text: bytes) -> str | bytes:
    """Returns a text. One that is no UTF-8 is a blob: no dotflow has written it, and an error would stop all rows."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text


FORMAT: Final = DatabaseFormat(
    application_id=0x646F7448,  # "dotH"
    version=8,
    schema=(*TABLES, *VIEWS),
    upgrades={1: SECOND, 2: THIRD, 3: FOURTH, 4: FIFTH, 5: SIXTH, 6: SEVENTH, 7: EIGHTH},
    oldest=1,
    # Before the switch to WAL, after which SQLite ignores them. A commit writes whole pages, of a row or two each.
    # Until then the file has one page, which is written as a whole: a journal on the disk would be synced for nothing.
    first=("PRAGMA journal_mode = MEMORY", "PRAGMA page_size = 2048", "PRAGMA auto_vacuum = INCREMENTAL"),
    settings=("PRAGMA journal_size_limit = 64000000",),
    text_factory=_text_or_blob,
    factory=SQLiteConnection,
)
