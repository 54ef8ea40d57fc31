"""The SQL of the history is one text for all databases: each statement is prepared by SQLite and by Postgres."""

import ast
import importlib
import inspect
import pkgutil
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from itertools import product
from pathlib import Path
from typing import Any, Final

import pytest

from dotflow import Control, clock
from dotflow.core.types.run_state import TypeRunState
from dotflow.providers import HistorySQLite
from dotflow.providers.histories import sql
from dotflow.providers.histories.postgres.dialect import as_table
from dotflow.providers.histories.sql import records
from dotflow.providers.histories.sql.tables import TABLES
from dotflow.providers.histories.sql.writer import save_few
from dotflow.providers.histories.sqlite.database import SQLiteDatabase
from dotflow.providers.histories.sqlite.formats import FORMAT
from tests.clouds.postgres import PostgresProcess
from tests.histories import begin, crash, nightly

psycopg = pytest.importorskip("psycopg")

STATEMENT: Final = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b")
#: What a statement without its parts has in their place.
PARTS: Final = {"where": "", "document": "document", "crashed": "NULL", "state": "", "runs": "NULL"}
#: A text in quotes, or a parameter. Those with a name are the same wherever it stands.
PARAMETER: Final = re.compile(r"'(?:[^']|'')*'|\?|:(\w+)")


def statements() -> Iterator[tuple[str, str]]:
    """Each statement that is a constant, with its name, and each within a function, with its line."""
    for module in pkgutil.iter_modules(sql.__path__, f"{sql.__name__}."):
        tree = ast.parse(inspect.getsource(importlib.import_module(module.name)))
        parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
            for node in ast.walk(function):
                if not isinstance(node, ast.Constant) or not isinstance(node.value, str) or id(node) in parts:
                    continue
                if STATEMENT.match(node.value):
                    yield f"{module.name.rpartition('.')[2]}:{node.lineno}", node.value
        for name, value in vars(importlib.import_module(module.name)).items():
            texts = value if isinstance(value, tuple) else (value,)
            for number, text in enumerate(texts if name.isupper() and not name.startswith("_") else ()):
                if isinstance(text, str) and STATEMENT.match(text):
                    found = f"{module.name.rpartition('.')[2]}.{name}{f'[{number}]' if len(texts) > 1 else ''}"
                    yield found, text.format(**PARTS) if "{" in text else text


def numbered(text: str) -> str:
    """The same with the parameters of Postgres."""
    names: list[object] = []

    def number(match: re.Match[str]) -> str:
        if match[0].startswith("'"):
            return match[0]
        key = match[1] or object()
        names.extend([key] if key not in names else [])
        return f"${names.index(key) + 1}"

    return PARAMETER.sub(number, text).replace("INSTR(", "STRPOS(")


STATEMENTS: Final = dict(statements())


def without_alias(text: str) -> list[str]:
    """The subqueries that no alias follows, which Postgres before 16 refuses."""
    found = []
    for match in re.finditer(r"\b(?:FROM|JOIN)\s*\(", text):
        depth, end = 1, match.end()
        while depth:
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
        if not re.match(r"\s+AS\s+\w+", text[end:]):
            found.append(text[match.start() : end])
    return found


@pytest.mark.parametrize("name", STATEMENTS)
def test_each_subquery_has_an_alias(name: str) -> None:
    """Postgres 15 and earlier need it; the one of the tests may be newer."""
    assert without_alias(STATEMENTS[name]) == []


@pytest.mark.parametrize("name", STATEMENTS)
def test_sqlite_prepares_each_statement(name: str) -> None:
    """It knows the tables, the columns, and what is around them."""
    with closing(sqlite3.connect(":memory:")) as connection:
        for statement in FORMAT.schema:
            connection.execute(statement)
        named = re.findall(r":(\w+)", STATEMENTS[name])
        values = dict.fromkeys(named) if named else (None,) * numbered(STATEMENTS[name]).count("$")
        connection.execute(f"EXPLAIN {STATEMENTS[name]}", values)


@pytest.fixture(scope="module")
def postgres(postgres_server: PostgresProcess) -> Iterator["psycopg.Connection[tuple[object, ...]]"]:
    """A connection to a schema with the tables."""
    with postgres_server.schema() as dsn, psycopg.connect(dsn, autocommit=True) as connection:
        for statement in TABLES:
            connection.execute(as_table(statement).encode())
        yield connection


@pytest.mark.parametrize("name", STATEMENTS)
def test_postgres_prepares_each_statement(name: str, postgres: "psycopg.Connection[tuple[object, ...]]") -> None:
    """No statement has to be written twice."""
    postgres.execute(f"PREPARE one AS {numbered(STATEMENTS[name])}".encode())
    postgres.execute("DEALLOCATE one")


class Spy:
    """A connection that keeps the statements which are executed with it."""

    def __init__(self, connection: Any, seen: set[str]) -> None:
        self._connection = connection
        self._seen = seen
        self.now = connection.now

    def execute(self, statement: str, values: Any = ()) -> Any:
        self._seen.add(statement)
        return self._connection.execute(statement, values)


def test_a_list_of_queued_runs_asks_once_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for each: a list of 100 would wait for 200 answers of a database."""
    reading = SQLiteDatabase.reading
    seen: set[str] = set()
    asked: list[str] = []

    class Counted(Spy):
        def execute(self, statement: str, values: Any = ()) -> Any:
            asked.append(statement)
            return super().execute(statement, values)

    @contextmanager
    def spied(database: SQLiteDatabase) -> Iterator[Any]:
        with reading(database) as connection:
            yield Counted(connection, seen)

    def statements_of(count: int) -> int:
        asked.clear()
        runs = history.runs()
        assert [(run.state, run.completed, run.due) for run in runs] == [
            (TypeRunState.QUEUED, 0, run.submitted) for run in runs
        ]
        assert len(runs) == count == len(history.queue()[0])
        return len(asked)

    history = HistorySQLite(tmp_path / "history.db")
    monkeypatch.setattr(SQLiteDatabase, "reading", spied)
    with closing(history):
        nightly(history).submit()
        few = statements_of(1)
        for number in range(9):
            nightly(history).submit(key=f"{number}")
        assert statements_of(10) == few


def test_postgres_prepares_what_readers_put_together(
    tmp_path: Path, postgres: "psycopg.Connection[tuple[object, ...]]", monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lists with each filter, and the output and the values of a step, an item, a round and an attempt."""
    seen: set[str] = set()
    reading = SQLiteDatabase.reading

    @contextmanager
    def spied(database: SQLiteDatabase) -> Iterator[Any]:
        with reading(database) as connection:
            yield Spy(connection, seen)

    history = HistorySQLite(tmp_path / "history.db", values="all")
    run = nightly(history).start(keep_going=True).run_id
    Control(history).submit("nightly", {"customer": 1})
    for name in ("running", "crashed"):
        begin(history, name, "extract", "load")
    crash(history, "crashed")
    monkeypatch.setattr(SQLiteDatabase, "reading", spied)
    since = timedelta(days=1)
    for count, states, workflow in product((1, 0), (None, [*TypeRunState]), (None, "nightly")):
        monkeypatch.setattr(records, "MANY_RUNS", count)
        history.runs(state=states, workflow=workflow)
        history.runs(state=states, workflow=workflow, since=since, before=clock.now(), search="x", newest=True)
    history.unmended()
    history.queue()
    history.recent(["nightly"])
    history.summary("failed")
    history.task_states([run])
    history.noted_numbers([run])
    history.load(run)
    history.output_tails(run, history.output_sizes(run))
    for step, attempt in ((None, None), ("load", None), ("load", 1), ("double#1", None)):
        history.output(run, step, attempt=attempt)
        list(history.follow(run, step, attempt=attempt))
        history.copies(run, step, attempt=attempt)
        history.copies(run, step, attempt=attempt, documents=False)
    where, _ = records.Selection(task=1, round=2).where()
    seen |= {records.CHUNKS.format(where=where), records.LAST.format(where=where), save_few((3, 5))}
    history.close()

    put_together = {text for text in seen - {*STATEMENTS.values()} if STATEMENT.match(text)}
    assert len(put_together) > 20
    for text in put_together:
        assert without_alias(text) == []
        postgres.execute(f"PREPARE one AS {numbered(text)}".encode())
        postgres.execute("DEALLOCATE one")
