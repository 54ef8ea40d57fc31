"""Histories that no dotflow has written: forged rows, other tables, flipped bytes; all made from a seed.

python -m tests.security.history_fuzz 10000 runs so many cases, and prints what ended in another error than ours.
"""

import contextlib
import functools
import io
import json
import random
import re
import sqlite3
import sys
import tempfile
import time
import traceback
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from dotflow import Config, DotFlow, action
from dotflow.cli.main import main
from dotflow.errors import DotflowError
from dotflow.providers import HistorySQLite, LogDefault
from dotflow.report.document import read_document
from dotflow.report.page import make_page

TABLES: Final = ("runs", "steps", "environments", "attempts", "errors", "output", "copies", "notes", "plans", "meta")
DEEP: Final = "[" * 100_000
VALUES: Final = (
    *(None, -1, 0, 1, 7, 2**31, 2**53, 2**63 - 1, -(2**63), 0.5, 1e308, float("inf")),
    *("", "x", "Running", "Failed", "../../x", "/etc/passwd", "\x1b[2J", "\ud83d\ude00", "9" * 500, "last", "a\nb"),
    *(b"", b"\xff\xfe", b"\x00" * 100, zlib.compress(b"{}"), zlib.compress(b"0" * 20_000_000)[:5000]),
    *("null", "[]", "{}", "[1]", "[-1]", "[99]", '["x"]', '{"a": [1]}', "[1e400]", "NaN", DEEP, "{", '"\\ud800"'),
)
DOCUMENTS: Final = (
    *("null", "[]", "1", '"x"', "{", DEEP, '{"argv": "x"}', '{"argv": [1]}', '{"argv": {}}', '{"packages": []}'),
    *('{"packages": {"a": 1}}', '{"packages": "ab"}', '{"folder": 1}', '{"folder": ["x"]}', '{"commit": {}}'),
    *('{"python": "\\ud800\\u001b"}', '{"argv": ["\\u0000", "\\ud800"], "module": "x", "folder": "\\u0000"}'),
    *('{"sha256": "x"}', '{"value": 1}', '{"value": {"$frame": []}}', '{"value": NaN}', '{"dotflow": 1, "value": 2}'),
)


def make(path: Path) -> None:
    """Makes a history of two runs with all kinds of rows, in tables that take values of any type."""

    @action
    def rows() -> list[int]:
        print("printed")
        return [1, 2, 0]

    @action(retry=2, retry_delay=0)
    def divide(number: int) -> float:
        return 6 / number

    @action
    def outer(rows: list[int]) -> None:
        inner = DotFlow(config(), workflow_id="inner")
        inner.task.add(rows_again)
        inner.start()
        raise LookupError(str(rows))

    @action
    def rows_again() -> int:
        return 1

    history = HistorySQLite(path, values="all", capture="streams")

    def config() -> Config:
        return Config(history=history, log=LogDefault(output="none"))

    for _ in range(2):
        workflow = DotFlow(config(), workflow_id="fuzzed@day=1")
        workflow.task.add(rows)
        workflow.task.add(divide, each="rows")
        workflow.task.add(outer)
        workflow.start(keep_going=True)
    history.note("last", "a note")
    history.close()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.execute("PRAGMA writable_schema = ON")
    for name, sql in connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall():
        loose = re.sub(r" (NOT NULL|TEXT|BLOB|INTEGER(?! PRIMARY))", "", sql)
        with contextlib.suppress(sqlite3.Error):
            connection.execute("UPDATE sqlite_master SET sql = ? WHERE name = ?", (loose, name))
    connection.close()


def forge(path: Path, chance: random.Random) -> str:
    """Changes a history, and returns how."""
    changes = [CHANGES[0]] if chance.random() < 0.6 else [chance.choice(CHANGES)]
    changes += [chance.choice(CHANGES) for _ in range(chance.choice((0, 0, 1, 2)))]
    texts = []
    for change in changes:
        with contextlib.suppress(sqlite3.Error, ValueError):
            texts.append(change(path, chance))
    return "; ".join(texts)


def _cell(path: Path, chance: random.Random) -> str:
    table, value = chance.choice(TABLES), chance.choice(VALUES)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        column = chance.choice(columns or ["missing"])  # an earlier change has dropped the table
        if value == "\x1b[2J":
            expression, values = "CAST(x'fffe41' AS TEXT)", []
        else:
            expression, values = "?", [value]
        where = "" if chance.random() < 0.4 else f"WHERE abs(random()) % 3 = {chance.randrange(3)}"
        connection.execute(f"UPDATE OR IGNORE {table} SET {column} = {expression} {where}", values)
    return f"{table}.{column} = {value!r:.40} {where}"


def _document(path: Path, chance: random.Random) -> str:
    table, text = chance.choice(("environments", "environments", "copies")), chance.choice(DOCUMENTS)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"UPDATE {table} SET document = ?", [zlib.compress(text.encode())])
    return f"{table}.document = {text:.60}"


def _policy(path: Path, chance: random.Random) -> str:
    column, text = chance.choice(("needs", "policy")), chance.choice((*DOCUMENTS, "[0]", "[[0]]", '{"retry": {}}'))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"UPDATE steps SET {column} = ?", [text])
    return f"steps.{column} = {text:.60}"


def _schema(path: Path, chance: random.Random) -> str:
    table = chance.choice(TABLES)
    statement = chance.choice(
        (
            f"DELETE FROM {table}",
            f"DROP TABLE {table}",
            f"ALTER TABLE {table} RENAME TO other",
            f"ALTER TABLE {table} ADD COLUMN more TEXT",
            f"ALTER TABLE {table} ADD COLUMN more TEXT GENERATED ALWAYS AS (1) VIRTUAL",
            f"CREATE TRIGGER bad AFTER UPDATE ON {table} BEGIN DELETE FROM runs; END",
            "CREATE VIRTUAL TABLE more USING fts5(text)",
            "DROP INDEX runs_began",
            f"PRAGMA user_version = {chance.choice((0, 3, -1, 2**31 - 1))}",
            f"INSERT OR IGNORE INTO {table} SELECT * FROM {table} LIMIT 1",
        )
    )
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(statement)
    return statement


def _bytes(path: Path, chance: random.Random) -> str:
    data = bytearray(path.read_bytes())
    places = [chance.randrange(len(data)) for _ in range(chance.choice((1, 1, 4, 40)))]
    for place in places:
        data[place] = chance.randrange(256)
    path.write_bytes(data)
    return f"bytes {places[:4]}"


def _cut(path: Path, chance: random.Random) -> str:
    data = path.read_bytes()
    length = chance.randrange(len(data))
    path.write_bytes(data[:length])
    return f"cut to {length}"


CHANGES: Final[tuple[Callable[[Path, random.Random], str], ...]] = (
    *(_cell, _cell, _cell, _document, _policy, _schema, _bytes, _bytes, _cut),
)


def uses(path: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yields all that reads or changes a history."""
    history = HistorySQLite(path)
    option = ["--history", str(path)]
    for run in ("last", "failed"):
        yield f"report {run}", functools.partial(_report, history, run)
        yield f"copies {run}", functools.partial(history.copies, run)
        yield f"follow {run}", functools.partial(_follow, history, run)
    yield "value", functools.partial(history.value, "last", "rows")
    yield "recent", lambda: history.recent(history.workflows())
    yield "states", lambda: history.task_states([run.run_id for run in history.runs()])
    yield "revision", history.revision
    for words in (
        *(["runs"], ["runs", "--json"], ["show", "last"], ["show", "last", "1"], ["show", "last", "--json"]),
        *(["show", "last", "2", "--error"], ["show", "last", "--output"], ["diff", "last", "failed"]),
        *(["show", "failed", "2", "--input"], ["show", "failed", "2", "--input", "--json"]),
        *(["show", "last", "0", "--value"], ["replay", "failed", "2", "--step", "json:loads"]),
    ):
        yield " ".join(words), functools.partial(_command, [*words, *option])
    yield "note", functools.partial(history.note, "last", "x")
    yield "run", functools.partial(_run, path)
    yield "forget", functools.partial(history.forget, "last", older_than=0)
    history.close()


def _report(history: HistorySQLite, run: str) -> str:
    return make_page(read_document(history, run, None))


def _follow(history: HistorySQLite, run: str) -> object:
    return next(history.follow(run))


def _command(words: list[str]) -> None:
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        main(["--debug", *words])
    lines = err.getvalue().splitlines()
    if lines and "(--debug shows where)" in lines[-1]:
        raise AssertionError(err.getvalue())


def _run(path: Path) -> None:
    workflow = DotFlow(Config(history=HistorySQLite(path), log=LogDefault(output="none")))
    workflow.task.add(action(lambda: 1))
    workflow.start()


def failures(template: bytes, folder: Path, seed: int) -> Iterator[str]:
    """Makes a case, and yields what ended in another error than one of ours."""
    path = folder / f"{seed}.db"
    path.write_bytes(template)
    how = forge(path, random.Random(seed))
    for name, use in uses(path):
        began = time.process_time()
        try:
            use()
        except DotflowError as error:
            if "\n" in str(error):
                yield f"{seed} {name}: {how}\nlines: {error}"
        except BaseException:
            yield f"{seed} {name}: {how}\n{traceback.format_exc()}"
        if (took := time.process_time() - began) > 5:
            yield f"{seed} {name}: {how}\ntook {took:.1f} s"
    for left in folder.glob(f"{seed}.*"):
        left.unlink()


if __name__ == "__main__":
    count, first = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    with tempfile.TemporaryDirectory() as name:
        make(Path(name, "template.db"))
        data = Path(name, "template.db").read_bytes()
        seen: dict[str, int] = {}
        for seed in range(first, first + count):
            for failure in failures(data, Path(name), seed):
                key = failure.rstrip().rpartition("\n")[2][:90] + failure.split(" ")[1].split(":")[0]
                seen[key] = seen.get(key, 0) + 1
                if seen[key] == 1:
                    print(failure, flush=True)
        print(json.dumps(seen, indent=1))
        print(f"{count} cases, {sum(seen.values())} failures")
