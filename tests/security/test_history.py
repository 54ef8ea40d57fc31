"""A history that another person made is read, or refused in one line: no bomb, no loop, no error but ours."""

import sqlite3
import zlib
from collections.abc import Sequence
from contextlib import closing
from itertools import product
from pathlib import Path
from uuid import UUID

import pytest

from dotflow import Config, DotFlow, action, serve
from dotflow.abc.operations import Submission
from dotflow.errors import HistoryError
from dotflow.providers import ExecutorThread, HistorySQLite, LogDefault, SchedulerCron, StorageFile, sqlite_file
from dotflow.providers.histories.sql import database
from dotflow.providers.histories.sql.rules import FORGED
from dotflow.serving.server import Server
from tests.histories import take
from tests.security import history_fuzz
from tests.security.forged import Victim, execute

MB = 1_000_000


def bomb(size: int, beginning: bytes = b"") -> bytes:
    """Returns a small document that unpacks to *size* bytes."""
    zipper = zlib.compressobj(9)
    parts = [zipper.compress(beginning)]
    parts += [zipper.compress(b" " * MB) for _ in range(size // MB + 1)]
    return b"".join([*parts, zipper.flush()])


@pytest.mark.exhaustive
def test_a_document_that_unpacks_to_too_much_is_refused(victim: Victim) -> None:
    """Of an environment, and of a copy, which is bounded by 64 MB unless the history keeps larger ones."""
    history = HistorySQLite(victim.history)
    execute(victim.history, "UPDATE copies SET document = ? WHERE role LIKE 'argument%'", bomb(65 * MB))
    with pytest.raises(HistoryError, match="has more than 64000000 bytes"):
        history.copies("last", "load")
    larger = HistorySQLite(victim.history, value_limit=100 * MB)
    assert len(larger.copies("last", "load")[0].document or b"") >= 65 * MB
    assert history.copies("last", "load", documents=False)

    execute(victim.history, "UPDATE environments SET document = ?", bomb(17 * MB))
    ended = victim.dotflow("show", "last")
    assert (ended.code, len(ended.err.splitlines())) == (2, 1)
    assert "The history .output/history.db can't be read" in ended.err


@pytest.mark.exhaustive
def test_many_documents_are_bounded_together(victim: Victim) -> None:
    """Each below the limit, and all of them above eight times that."""
    execute(victim.history, "DELETE FROM copies")
    document = bomb(60 * MB)
    for number in range(9):
        execute(victim.history, "INSERT INTO copies VALUES (1, 1, -1, 1, ?, 1, '', ?, '')", f"r{number}", document)

    with pytest.raises(HistoryError, match="a document has more than"):
        HistorySQLite(victim.history).copies("last", "load")


DEEP = "[" * 900 + "]" * 900


@pytest.mark.parametrize(
    "text", ["[" * 100_000, f'{{"value": {DEEP}}}', "{}", "null", '{"value": ', "\ud800", '{"value": NaN}']
)
def test_a_copy_that_is_no_document_is_one_line(victim: Victim, text: str) -> None:
    """Also one that is nested too deep, as JSON lines and as a value."""
    document = zlib.compress(text.encode(errors="surrogatepass"))
    execute(victim.history, "UPDATE copies SET document = ?", document)

    for more in [], ["--json"]:
        ended = victim.dotflow("show", "last", "load", "--input", *more)
        assert len(ended.err.splitlines()) <= 1
        assert "--debug" not in ended.err


ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x AS run, 'a' AS run_id FROM c"
HIDDEN = ENDLESS.replace("'", "''")
FOREIGN = {
    "a view": ["ALTER TABLE runs RENAME TO others", f"CREATE VIEW runs AS {ENDLESS}"],
    "a view of another case": ["ALTER TABLE runs RENAME TO others", f"CREATE VIEW RUNS AS {ENDLESS}"],
    "a hidden view": [
        "CREATE TABLE z (x)",
        "DROP VIEW error_list",
        "PRAGMA writable_schema = ON",
        f"UPDATE sqlite_master SET sql = 'CREATE VIEW runs AS {HIDDEN}' WHERE name = 'z'",
        "UPDATE sqlite_master SET sql = 'CREATE TABLE z (x)' WHERE name = 'runs'",
    ],
    "a trigger": ["CREATE TRIGGER bad AFTER INSERT ON notes BEGIN DELETE FROM runs; END"],
    "a virtual table": ["DROP TABLE notes", "CREATE VIRTUAL TABLE notes USING fts5(run, at, text)"],
    "a generated column": ["ALTER TABLE notes ADD COLUMN more GENERATED ALWAYS AS (zeroblob(1000000000)) VIRTUAL"],
    "no table": ["DROP TABLE attempts"],
}  # fmt: skip


@pytest.mark.parametrize("schema", FOREIGN)
def test_only_plain_tables_are_read(victim: Victim, schema: str) -> None:
    """All else is refused at once, by reading, and by a run, which goes on without the history."""
    connection = sqlite3.connect(victim.history, isolation_level=None)
    for statement in FOREIGN[schema]:
        connection.execute(statement)
    connection.close()

    for command in (["show", "last"], ["forget", "--all", "--yes"]):
        ended = victim.dotflow(*command)
        assert (ended.code, len(ended.err.splitlines())) == (2, 1), ended
    (victim.folder / "mine.py").write_text("from dotflow import action\nstep = action(lambda: 1)\n")
    assert victim.dotflow("start", "--step", "mine:step").code == 0


def test_a_query_that_takes_too_many_steps_ends(victim: Victim, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables without their keys make a join of their sizes' product; the connection that writes is bounded, too."""
    monkeypatch.setattr(sqlite_file, "STEPS", 1000)
    monkeypatch.setattr(sqlite_file, "MAX_STEPS", 20_000)
    execute(victim.history, "DROP TABLE output")
    execute(victim.history, "CREATE TABLE output (run, task, item, attempt, seq, at, stream, data, skipped)")
    numbers = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 20000) SELECT x FROM c"
    execute(victim.history, f"INSERT INTO output SELECT 1, 1, 1, 1, x, 1, 1, x'', 0 FROM ({numbers})")
    history = HistorySQLite(victim.history)

    with pytest.raises(HistoryError, match="a query has taken too many steps"):
        history.output("last")
    with pytest.raises(HistoryError, match="a query has taken too many steps"):
        history.forget("last")


def test_schemas_are_not_trusted(victim: Victim) -> None:
    """Neither by the connection that reads nor by the one that writes."""
    history = HistorySQLite(victim.history)
    settings: list[tuple[int]] = []
    for file in (history.database.file, history.database.watched):
        file.use(lambda connection: settings.extend(connection.execute("PRAGMA trusted_schema")), None, False)
    assert settings == [(0,), (0,)]


@pytest.mark.parametrize(
    ("statement", "cause"),
    [
        ("UPDATE runs SET run_id = '/../../x'", "is no id of a run"),
        ("UPDATE runs SET run_id = 'a' || char(27) || '[2J'", "is no id of a run"),
        ("UPDATE runs SET state = 'Great'", "is not a valid TypeRunState"),
        ("UPDATE runs SET began = 9223372036854775807", "is no moment"),
        ("UPDATE runs SET resumed = 'x'", "the column 'resumed' has a value of the type str"),
        ("UPDATE steps SET task = 7 WHERE task = 1", "not numbered from 0"),
        ("UPDATE steps SET needs = '[5]'", "IndexError"),
        ("UPDATE attempts SET state = 99", "KeyError"),
        ("UPDATE attempts SET item = 1000000000000 WHERE task = 1", "but not those before it"),
        ("UPDATE steps SET name = CAST(x'fffe' AS TEXT)", "UTF-8"),
    ],
)
def test_a_forged_row_is_one_line_with_the_cause(victim: Victim, statement: str, cause: str) -> None:
    """It names the file."""
    execute(victim.history, statement)

    with pytest.raises(HistoryError, match=r"The history .*history\.db can't be read: ") as raised:
        HistorySQLite(victim.history).load("last")

    assert cause in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("fuzzed") / "template.db"
    history_fuzz.make(path)
    return path.read_bytes()


@pytest.mark.exhaustive(keep_every=4)
@pytest.mark.parametrize(
    "seed", [*range(10), *(pytest.param(seed, marks=pytest.mark.exhaustive) for seed in range(10, 40))]
)
def test_forged_and_damaged_histories_raise_no_error_but_ours(fuzzed: bytes, tmp_path: Path, seed: int) -> None:
    """Whatever reads or changes them; `python -m tests.security.history_fuzz 10000` tries more."""
    assert list(history_fuzz.failures(fuzzed, tmp_path, seed)) == []


#: Rows that no dotflow has written, and whether the run of the first row fails for it.
FORGED_ROWS = {
    "UPDATE wanted SET rerun = '{' WHERE run = 1": True,
    "UPDATE wanted SET rerun = '[5]' WHERE run = 1": True,
    "UPDATE wanted SET priority = 'high' WHERE run = 1": True,
    "UPDATE wanted SET priority = 'high', name = NULL WHERE run = 1": True,
    "UPDATE wanted SET due = 'x', name = NULL WHERE run = 1": True,
    "UPDATE wanted SET due = 'x' WHERE run = 1": True,
    "UPDATE wanted SET due = x'00' WHERE run = 1": True,
    "UPDATE wanted SET name = x'00ff' WHERE run = 1": True,
    "UPDATE wanted SET name = x'00ff', due = 'x' WHERE run = 1": True,
    "UPDATE wanted SET due = -5, name = NULL WHERE run = 1": False,
    "UPDATE runs SET params = '{' WHERE run = 1": True,
    "INSERT INTO wanted (run, workflow, name, priority, due, resume, tries, queued) "
    "VALUES (99, 'served', 'other', 0, 0, 0, 0, 1)": False,
    "INSERT INTO orders (run, what, by_whom, at, comment) VALUES (1, 'dance', 'x', 1, '')": False,
    "INSERT INTO orders (run, what, by_whom, at, comment) VALUES (1, x'00', 'x', 1, '')": False,
    "INSERT INTO workflows (workflow, seen, paused_at, paused_by) VALUES ('other', 1, 'x', x'00')": False,
}


def servable(folder: Path) -> DotFlow:
    """Returns a workflow with one quick step and one parameter, whose schedule fires every few years."""
    history, log = HistorySQLite(folder / "history.db"), LogDefault(output="none")
    scheduler, executor = SchedulerCron("0 0 29 2 *"), ExecutorThread()
    config = Config(StorageFile(folder / "values"), history=history, log=log, executor=executor, scheduler=scheduler)
    workflow = DotFlow(config, workflow_id="served", params={"number": 0})
    workflow.task.add(action(lambda number: number), name="same")
    return workflow


@pytest.mark.parametrize("statement", FORGED_ROWS)
def test_a_forged_row_fails_alone_and_the_server_serves_the_rest(statement: str, tmp_path: Path) -> None:
    """Any process that can write the history may have written it."""
    workflow = servable(tmp_path)
    for number in range(3):
        workflow.submit(params={"number": number})
    execute(tmp_path / "history.db", statement)

    serve(workflow, once=True)

    states = [state for (state,) in execute(tmp_path / "history.db", "SELECT state FROM runs ORDER BY run")]
    assert states == ["Failed" if FORGED_ROWS[statement] else "Completed", "Completed", "Completed"]


#: Values that no dotflow writes into most columns, as SQL; the last one is a text that is no UTF-8.
FORGED_VALUES = ("NULL", "'x'", "x'00ff'", "9223372036854775807", "-5", "0.5", "'{'", "CAST(x'fffe' AS TEXT)")
DEAD = 77  # a byte of the live file that no process holds
QUEUED = """INSERT INTO runs (run, run_id, workflow_id, state, began, submitted, is_named, workflow, params, origin)
    VALUES (:run, :id, 'served@number=' || :run, 'Queued', 1, 1, 1, 'served', '{"number": ' || :run || '}', :id)"""
WANTED = """INSERT INTO wanted (run, workflow, name, priority, due, resume, tries, queued)
    VALUES (:run, 'served', 'served@number=' || :run, 0, 1, 0, 0, 1)"""
TAKE = (
    f"UPDATE runs SET state = 'Running', begun = 1, lock = {DEAD} WHERE run = :run",
    "UPDATE wanted SET server = 'gone', queued = 0 WHERE run = :run",
)
#: The columns in which another value means no run of the queue, or one of another workflow or server.
MOVING = ("run", "workflow", "queued", "server")


@pytest.mark.parametrize("statements", [(QUEUED, WANTED), (QUEUED, WANTED, *TAKE)], ids=["queued", "of a dead server"])
def test_a_forged_row_of_the_queue_keeps_no_other_run_from_its_server(
    statements: Sequence[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each column with each value: the run fails or is taken. None waits for ever."""
    monkeypatch.setattr(database, "BETWEEN_LOOKS", 0.0)
    history = HistorySQLite(tmp_path / "history.db")
    history.operations().submit(Submission("served", '{"number": 0}', "served@number=0"))
    forged: dict[int, str] = {}
    with closing(sqlite3.connect(history.path)) as file, file:
        columns = [name for _, name, *_ in file.execute("PRAGMA table_info(wanted)") if name not in MOVING]
        for run, (column, value) in enumerate(product(columns, FORGED_VALUES), 100):
            forged[run] = f"{column} = {value}"
            for statement in (*statements, f"UPDATE OR IGNORE wanted SET {column} = {value} WHERE run = :run"):
                file.execute(statement, {"run": run, "id": str(UUID(int=run))})

    server = history.operations().open_server(["served"])
    server.take_over()
    for run_id, submission in server.unnamed():
        server.name(run_id, f"served@run={run_id}", submission.params)
    taken = list(iter(lambda: take(server, "served"), None))
    server.close()

    assert all(isinstance(claim.name, str) for claim in taken)
    assert "served@number=0" in [claim.name for claim in taken]
    rows = execute(history.path, "SELECT run, state, error FROM runs")
    assert [forged.get(run) for run, state, _ in rows if state == "Queued"] == []
    assert {forged[run].split(" = ")[0] for run, _, error in rows if error == FORGED} <= {
        *("name", "priority", "due", "rerun")
    }


#: A row of each table beside the queue, which a server reads, too.
BESIDE: dict[str, dict[str, object]] = {
    "servers": {"server": "'sN'", "process": "'p'", "lock": DEAD, "workflows": "'[]'", "schedules": "'[]'", "since": 1},
    "orders": {"run": 1, "what": "'dance'", "by_whom": "'x'", "at": 1, "comment": "''"},
    "workflows": {"workflow": "'wN'", "seen": 1, "paused_at": 1, "paused_by": "'x'"},
    "schedules": {"schedule": "'sN'", "workflow": "'served'", "spec": "'{}'", "at_once": 1, "settled": 1, "furthest": 1}
    | {"seen": 1},
    "questions": {"origin": "(SELECT origin FROM runs)", "task": "'t'", "item": -1, "nth": "N", "text": "'sure?'"}
    | {"asked": 1, "until": 5},
    "task_notes": {"run": 1, "task": 0, "item": -1, "attempt": "N", "name": "'x'", "at": 1, "value": "'1'"},
}


@pytest.mark.parametrize("table", BESIDE)
def test_a_forged_row_of_another_table_keeps_no_run_from_its_server(table: str, tmp_path: Path) -> None:
    """Each column with each value, all at once: the server serves what is queued, and ends."""
    workflow = servable(tmp_path)
    workflow.submit(params={"number": 0})
    row = BESIDE[table]
    with closing(sqlite3.connect(tmp_path / "history.db")) as file, file:
        columns = [name for _, name, *_ in file.execute(f"PRAGMA table_info({table})")]
        for number, (column, value) in enumerate(product(columns, FORGED_VALUES)):
            values = {name: str(one).replace("N", str(number)) for name, one in row.items()} | {column: value}
            file.execute(f"INSERT OR IGNORE INTO {table} ({', '.join(values)}) VALUES ({', '.join(values.values())})")
    assert len(execute(tmp_path / "history.db", f"SELECT 1 FROM {table}")) > len(columns)

    Server([workflow], once=True, options={}).run()  # `serve` reads the run then, which a forged row may refuse

    assert execute(tmp_path / "history.db", "SELECT state FROM runs") == [("Completed",)]


def test_a_schedule_with_a_forged_row_begins_anew(tmp_path: Path) -> None:
    """Until when it was caught up is unknown then: it fires from now on. Beside a server, an error has the words."""
    workflow = servable(tmp_path)
    path = tmp_path / "history.db"
    serve(workflow, once=True)
    ((settled,),) = execute(path, "SELECT settled FROM schedules")
    for forged in ("settled = 'x'", "settled = 9223372036854775807", "furthest = -5", "furthest = x'00ff'"):
        execute(path, f"UPDATE schedules SET {forged}")
        serve(workflow, once=True)
        ((now, furthest),) = execute(path, "SELECT settled, furthest FROM schedules")
        assert settled < now == furthest, forged

    server = HistorySQLite(path).operations().open_server(["served"])
    execute(path, "UPDATE schedules SET furthest = -5")
    with pytest.raises(HistoryError, match=r"no dotflow has written -5, .*\. Start the server again"):
        server.settled(SchedulerCron("0 0 29 2 *").as_schedule("served"))
    server.close()
