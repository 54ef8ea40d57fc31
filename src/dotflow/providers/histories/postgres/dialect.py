"""The SQL of a history for Postgres: its tables, and the translation of the common statements."""

import functools
import re
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from dotflow.core.types.attempt_state import TypeAttemptState
from dotflow.core.types.call_state import TypeCallState
from dotflow.errors import InvalidArgument
from dotflow.providers.histories.sql.tables import CALL_STATES, CALLS, LIMITS, MICRO, NO_ITEM, STATES, TABLES
from dotflow.providers.text_escape import escape

FORMAT: Final = 8  # the tables are those of a history file of this format
READ_FROM: Final = 6  # the oldest format whose code may read them
WRITE_FROM: Final = 6  # the oldest one whose code may write them

MAX_TEXTS: Final = 2000  # translations that are kept

SCHEMA: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}")
#: What is no schema of a history: tables of users are there, called `orders`, say.
REFUSED: Final = re.compile(r"public|information_schema|pg_.*")

#: Columns of truth values, which SQLite keeps as 0 and 1.
BOOLEANS: Final = ("queued", "resume", "begun", "is_named", "made_up", "resumed", "answer")
#: Settings of tables whose rows come and go.
SETTINGS: Final = {"wanted": "fillfactor = 70", "beats": "fillfactor = 50"}
VACUUM: Final = "autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000"

#: The processes that live: each has a row whose number changes while it does.
BEATS: Final = """CREATE TABLE beats (lock INTEGER NOT NULL PRIMARY KEY, beat INTEGER NOT NULL, at INTEGER NOT NULL,
    process TEXT, host TEXT)"""
#: One row: which history it is, its format, and the oldest formats whose code may read and write it.
META: Final = """CREATE TABLE meta (id TEXT NOT NULL, format INTEGER NOT NULL, read_from INTEGER NOT NULL,
    write_from INTEGER NOT NULL, swept INTEGER NOT NULL)"""

NAMES: Final = tuple(re.findall(r"CREATE TABLE (\w+)", "\n".join((*TABLES, BEATS))))
_TABLE: Final = "|".join(NAMES)
#: A text in quotes, a parameter, a percent sign, a table where it is named first, a function with another name.
PART: Final = re.compile(
    rf"'(?:[^']|'')*'|\?|(?<!:):(?P<name>[A-Za-z_]\w*)|%|\b(?P<verb>FROM|JOIN|INTO|UPDATE)\s+(?P<table>{_TABLE})\b"
    r"(?!\.)|\bINSTR\b"
)
#: Tables whose rows may have many megabytes: an array of them could be longer than the gigabyte that a value may have.
LARGE: Final = frozenset({"copies", "environments"})
#: An insert of one row, which may take the place of another one.
INSERT: Final = re.compile(
    rf"INSERT INTO (?P<table>{_TABLE}) \((?P<columns>[\w, ]+)\)\s+VALUES \((?P<values>\?(?:, \?)*)\)"
    r"(?P<conflict> ON CONFLICT \((?P<key>[\w, ]+)\) DO UPDATE SET (?P<changes>.+))?"
)


@functools.lru_cache(MAX_TEXTS)
def translate(statement: str, schema: str) -> bytes:
    """Returns a statement of the common SQL as psycopg takes it, with the schema before each table."""

    def replace(match: re.Match[str]) -> str:
        text = match[0]
        if match["table"]:
            return f'{match["verb"]} "{schema}".{match["table"]}'
        if match["name"]:
            return f"%({match['name']})s"
        return {"?": "%s", "INSTR": "STRPOS"}.get(text) or text.replace("%", "%%")

    return PART.sub(replace, statement).encode()


class Batch(NamedTuple):
    """A statement that inserts any number of rows, each column of them an array.

    One of a hundred rows takes a fifth of the time of a hundred statements: the server plans one.

    Attributes:
        text: The statement, as psycopg takes it.
        key: Which columns tell two rows apart: the later one counts. Empty where none is there before.
    """

    text: bytes
    key: Sequence[int]

    def columns_of(self, rows: Iterable[Any]) -> list[list[Any]]:
        """Returns the arrays of rows. An upsert can't change a row twice, so of equal keys it has the last one."""
        if self.key:
            rows = {tuple(row[index] for index in self.key): row for row in rows}.values()
        return [[*column] for column in zip(*rows, strict=True)]


@functools.lru_cache(MAX_TEXTS)
def as_batch(statement: str, schema: str) -> Batch | None:
    """Returns the same for any number of rows; None where it is no insert of a row of which several fit in an array."""
    match = INSERT.fullmatch(statement)
    if match is None or match["table"] in LARGE:
        return None
    columns = match["columns"].split(", ")
    key = match["key"].split(", ") if match["key"] else []
    others = re.findall(r"(\w+) = excluded\.\1(?=, |$)", match["changes"] or "")
    if len(match["values"].split(", ")) != len(columns) or (key and {*key, *others} != {*columns}):
        return None
    types = _types_of(match["table"])
    arrays = ", ".join(f"?::{types[column]}[]" for column in columns)
    text = f"INSERT INTO {match['table']} ({match['columns']}) SELECT * FROM unnest({arrays}){match['conflict'] or ''}"
    return Batch(translate(text, schema), [columns.index(column) for column in key])


@functools.cache
def _types_of(table: str) -> dict[str, str]:
    """Returns the types of the columns of a table."""
    made = next(as_table(text) for text in TABLES if re.match(rf"CREATE TABLE {table}\b", text))
    return dict(re.findall(r"(\w+) (BIGINT|BOOLEAN|BYTEA|TEXT)\b", made))


def as_table(statement: str, schema: str = "") -> str:
    """Returns a statement that makes a table or an index, for Postgres."""
    text = re.sub(r"\bINTEGER PRIMARY KEY\b", "BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY", statement)
    text = re.sub(rf"\b({'|'.join(BOOLEANS)}) INTEGER", r"\1 BOOLEAN", text).replace("DEFAULT 0)", "DEFAULT FALSE)")
    text = re.sub(r"\bINTEGER\b", "BIGINT", text).replace("BLOB", "BYTEA").replace("WITHOUT ROWID", "")
    text = re.sub(r"\bTEXT\b", 'TEXT COLLATE "C"', text)
    text = text.replace("TABLE orders (", "TABLE orders (rowid BIGINT GENERATED BY DEFAULT AS IDENTITY,")
    place = f'"{schema}".' if schema else ""
    text = re.sub(r"\b(CREATE TABLE|ALTER TABLE|INSERT INTO|DROP VIEW|CREATE VIEW) (\w+)", rf"\1 {place}\2", text)
    text = re.sub(r"\bON (\w+) \(", rf"ON {place}\1 (", text)
    name = re.match(r'CREATE TABLE (?:"\w+"\.)?(\w+)', text)
    if name is None:
        return text
    settings = ", ".join(filter(None, (SETTINGS.get(name[1]), VACUUM)))
    return f"{text} WITH ({settings})"


def _iso(column: str) -> str:
    """Returns an SQL expression for a time such as 2026-11-25T02:00:00.000000Z."""
    moment = f"TIMESTAMP 'epoch' + {column} * INTERVAL '1 microsecond'"
    return f"""to_char({moment}, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""


def _seconds(column: str) -> str:
    return f"({column}) / {MICRO}.0"


def views(schema: str) -> tuple[str, ...]:
    """Returns the statements that make the views, which are public."""
    steps = f'JOIN "{schema}".runs USING (run) LEFT JOIN "{schema}".steps USING (plan, task)'
    of_step = f"run_id, workflow_id, task, steps.name AS step, NULLIF(item, {NO_ITEM}) AS item, attempt"
    return (
        f"""CREATE VIEW "{schema}".run_list AS SELECT run_id, workflow_id, runs.name AS name, state, reason, mode,
            resumed, trigger, {_iso("began")} AS began, {_iso("ended")} AS ended,
            {_seconds("ended - began")} AS seconds, tasks, completed, failed, restored, skipped, error, parent_run,
            process, storage, trace,
            {_iso("submitted")} AS submitted, origin, schedule, {_iso("planned")} AS planned
            FROM "{schema}".runs LEFT JOIN "{schema}".wanted USING (run)""",
        _attempt_list(schema),
        f"""CREATE VIEW "{schema}".error_list AS SELECT {of_step}, nth, exception, message, traceback,
            {_seconds("retry_in")} AS retry_in, refusal FROM "{schema}".errors {steps}""",
        f"""CREATE VIEW "{schema}".note_list AS SELECT {of_step}, task_notes.name AS name, {_iso("at")} AS at, value,
            CASE WHEN value ~ '^-?[0-9]' THEN CAST(value AS DOUBLE PRECISION) END AS number
            FROM "{schema}".task_notes {steps}""",
        _call_list(schema),
    )


def _attempt_list(schema: str) -> str:
    names = " ".join(f"WHEN {code} THEN '{TypeAttemptState(state)}'" for code, state in enumerate(STATES))
    return f"""CREATE VIEW "{schema}".attempt_list AS SELECT run_id, workflow_id, task, steps.name AS step,
        NULLIF(item, {NO_ITEM}) AS item, attempt, CASE attempts.state {names} END AS state,
        {_iso("attempts.began")} AS began, {_seconds("took")} AS seconds, {_seconds("cpu")} AS cpu_seconds,
        peak AS peak_bytes, worker, glimpse, fallback, items, span, input, files, asked, round,
        {_seconds("waited")} AS waited_seconds
        FROM "{schema}".attempts JOIN "{schema}".runs USING (run) LEFT JOIN "{schema}".steps USING (plan, task)"""


def _call_list(schema: str) -> str:
    names = " ".join(f"WHEN {code} THEN '{TypeCallState(state)}'" for code, state in enumerate(CALL_STATES))
    return f"""CREATE VIEW "{schema}".call_list AS SELECT run_id, workflow_id, task, steps.name AS step,
        NULLIF(item, {NO_ITEM}) AS item, attempt, number, calls.name AS name, arguments,
        CASE calls.state {names} END AS state, {_iso("calls.began")} AS began, {_seconds("took")} AS seconds, depth,
        glimpse, exception, message, traceback, call, calls.identity AS identity
        FROM "{schema}".calls JOIN "{schema}".runs USING (run) LEFT JOIN "{schema}".steps USING (plan, task)"""


def schema_statements(schema: str, history_id: str) -> list[str]:
    """Returns the statements that make all tables and views of a new history."""
    own = [statement for statement in TABLES if "meta" not in statement.split("(")[0]]
    return [
        *(as_table(statement, schema) for statement in (*own, META, BEATS)),
        *views(schema),
        f"""INSERT INTO "{schema}".meta (id, format, read_from, write_from, swept)
            VALUES ('{history_id}', {FORMAT}, {READ_FROM}, {WRITE_FROM}, 0)""",
    ]


def upgrade_statements(schema: str, written: int) -> list[str]:
    """Returns the statements that make tables of an older format those of this one. They only add, once."""
    following = {
        6: (as_table(CALLS, schema), _call_list(schema)),
        7: (
            *(as_table(one, schema) for one in LIMITS),
            f'ALTER TABLE "{schema}".attempts ADD COLUMN IF NOT EXISTS waited BIGINT',
            _attempt_list(schema),
        ),
    }
    added = [statement for older in range(written, FORMAT) for statement in following[older]]
    added = [re.sub("^CREATE (TABLE|INDEX)", r"CREATE \1 IF NOT EXISTS", statement) for statement in added]
    added = [re.sub("^CREATE VIEW", "CREATE OR REPLACE VIEW", statement) for statement in added]
    return [*added, f'UPDATE "{schema}".meta SET format = {FORMAT}']


def lock_key(text: str) -> int:
    """Returns the number of an advisory lock, never 0: they take two, those of the schema and of a name."""
    return int.from_bytes(blake2b(escape(text).encode(), digest_size=4).digest(), "big", signed=True) or 1


def check_schema(schema: object) -> str:
    """Returns the name of a schema. Raises InvalidArgument."""
    if not isinstance(schema, str) or SCHEMA.fullmatch(schema) is None or REFUSED.fullmatch(schema):
        accepted = "a name of the history's own such as 'dotflow': small letters, digits and _, and not 'public'"
        raise InvalidArgument("schema", schema, accepted)
    return schema
