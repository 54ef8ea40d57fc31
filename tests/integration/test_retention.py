"""keep= of a history: which runs are forgotten, when, and a few rows at a time."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import pytest

from dotflow import Config, Control, DotFlow, action, serve
from dotflow.providers import HistoryPostgres, HistorySQLite, LogDefault
from dotflow.providers.histories.postgres import history as postgres
from dotflow.providers.histories.sql import retention
from dotflow.serving.duties import Retention
from dotflow.testing import virtual_clock
from tests.histories import Histories

pytestmark = pytest.mark.databases("sqlite", "postgres")

AnyHistory = HistorySQLite | HistoryPostgres

ANY_TIME = timedelta(microseconds=1)


@action
def numbers() -> list[int]:
    return [1, 2, 3]


@action
def fails() -> None:
    raise ConnectionError("the warehouse is away")


def workflow_of(history: AnyHistory, *steps: Any, workflow_id: str | None = "nightly") -> DotFlow:
    workflow = DotFlow(Config(history=history, log=LogDefault(output="none")), workflow_id=workflow_id)
    for step in steps or (numbers,):
        workflow.task.add(step)
    return workflow


def read(history: AnyHistory, statement: str, values: Sequence[Any] = ()) -> list[Any]:
    """The rows of a statement; of one column, its values."""
    return [row[0] if len(row) == 1 else tuple(row) for row in history.database.run(statement, values)]


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each end of a run forgets what is not kept, instead of once an hour for a moment."""
    monkeypatch.setattr(retention, "INTERVAL", -1)
    monkeypatch.setattr(postgres, "SWEEP_BUDGET", 30.0)


def test_old_runs_are_forgotten(histories: Histories, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end of a run, except for the last run and the last failed one of each workflow."""
    history = histories.open(keep=ANY_TIME)
    workflow_of(history, numbers, fails).start()
    for _ in range(3):
        workflow_of(history).start()
    assert read(history, "SELECT COUNT(*) FROM runs") == [4]  # once an hour

    monkeypatch.setattr(retention, "INTERVAL", -1)
    monkeypatch.setattr(postgres, "SWEEP_BUDGET", 30.0)
    workflow_of(history).start()

    assert read(history, "SELECT state FROM runs ORDER BY began") == ["Failed", "Completed"]
    assert read(history, "SELECT COUNT(DISTINCT run) FROM attempts") == [2]
    assert read(history, "SELECT COUNT(*) FROM plans") == [2]


@pytest.mark.usefixtures("at_once")
def test_runs_of_workflows_without_an_id_are_forgotten(histories: Histories) -> None:
    """Each has a generated id, so none of them is the last one of a workflow that matters."""
    history = histories.open(keep="2 runs")
    for _ in range(4):
        workflow_of(history, workflow_id=None).start()

    assert read(history, "SELECT COUNT(*) FROM runs") == [2]


@pytest.mark.usefixtures("at_once")
def test_a_number_of_runs_is_kept(histories: Histories) -> None:
    """The last ones of the history. A file has no free pages then."""
    history = histories.open(keep="3 runs")
    for _ in range(6):
        workflow_of(history).start()

    assert read(history, "SELECT COUNT(*) FROM runs") == [3]
    if histories.kind == "sqlite":
        assert read(history, "PRAGMA freelist_count") == [0]


@pytest.mark.usefixtures("at_once")
def test_a_chain_is_kept_by_its_last_run(histories: Histories) -> None:
    """What is queued or paused stays, with the runs that it continues, however old these are."""
    history = histories.open(keep=ANY_TIME)
    workflow = workflow_of(history)
    control = Control(history)
    queued, paused = (workflow.submit(key=key) for key in ("queued", "paused"))
    control.pause(queued)
    control.resume(queued)
    control.pause(paused)
    ended = workflow.submit(key="ended")
    control.pause(ended)
    control.resume(ended)
    control.cancel(ended)
    for _ in range(2):
        workflow_of(history).start()

    states = "SELECT state FROM runs ORDER BY submitted IS NULL, submitted, run"
    assert read(history, states) == ["Paused", "Paused", "Queued", "Completed"]


def test_a_server_forgets_old_runs(histories: Histories, at_once: None) -> None:
    """Also one that has nothing to run."""
    workflow = workflow_of(histories.open(keep=None))
    for _ in range(3):
        workflow.start()

    history = histories.open(keep=ANY_TIME)
    serve(workflow_of(history), once=True)

    assert read(history, "SELECT COUNT(*) FROM runs") == [1]


def test_a_server_reports_once_a_day_that_it_forgets_too_slowly(
    histories: Histories, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With how far the oldest run is over its limit."""
    reports: list[str] = []
    with virtual_clock() as time:
        history = histories.open(keep="2 days")
        monkeypatch.setattr(type(history), "sweep", lambda history: None)
        for _ in range(2):
            workflow_of(history).start()
            time.advance(1)
        duty = Retention(history, reports.append)
        for _ in range(9):
            time.advance(43_200)
            duty.look()
    assert reports == [f"The history keeps runs that are {count} d over its limit." for count in (1, 2)]
    assert histories.open(keep="1 run").overdue() == 0


#: Rows of a run, of which each has many.
CHILDREN = {
    "output": ("run, task, item, attempt, seq, at, stream, data, skipped", (0, -1, 1, None, 0, 1, b"\0", 0)),
    "copies": ("run, task, item, attempt, role, size", (0, -1, 1, None, 1)),
    "errors": (
        "run, task, item, attempt, nth, exception, message, traceback",
        (0, -1, 1, None, "ValueError", "", ""),
    ),
    "task_notes": ("run, task, item, attempt, name, at, value", (0, -1, 1, None, 0, "1")),
    "notes": ("run, at, text", (None, "a note")),
}
NAMED = ("copies", "task_notes")  # the fourth part of their keys is a text


def rows_of(table: str, run: int, count: int) -> Iterator[tuple[Any, ...]]:
    """Rows that differ in the part of the key that is None."""
    _, values = CHILDREN[table]
    for number in range(count):
        part = f"{number:04}" if table in NAMED else number
        yield (run, *(part if value is None else value for value in values))


def test_a_sweep_that_is_killed_anywhere_leaves_no_orphans(histories: Histories) -> None:
    """A transaction deletes few rows, and a run after what belongs to it: the next sweep finishes."""
    history = histories.open(keep=None)
    workflow, control = workflow_of(history), Control(history)
    submitted = workflow.submit(key="ended")
    control.pause(submitted)
    control.resume(submitted)
    control.cancel(submitted)
    for _ in range(2):
        workflow.start()
    first, second, *_ = read(history, "SELECT run FROM runs ORDER BY run")
    with_rows = [first, second]
    for table, (columns, values) in CHILDREN.items():
        insert = f"INSERT INTO {table} ({columns}) VALUES ({', '.join('?' * (len(values) + 1))})"
        rows = [row for run in with_rows for row in rows_of(table, run, 1_300)]
        history.database.transact(lambda connection, insert=insert, rows=rows: connection.executemany(insert, rows))

    looks, before = 0, 13_000
    while True:
        done = history.database.transact(lambda connection: retention.forget_some(connection, ANY_TIME))
        for table in (*CHILDREN, "attempts", "orders", "wanted"):
            assert read(history, f"SELECT COUNT(*) FROM {table} WHERE run NOT IN (SELECT run FROM runs)") == [0]
        left_of = read(history, "SELECT run FROM runs WHERE run <= ? ORDER BY run", (second,))
        assert left_of in ([first, second], [second], [])  # the last one is the last
        left = sum(read(history, f"SELECT COUNT(*) FROM {table}")[0] for table in CHILDREN)
        assert before - left < 3 * retention.ROWS
        looks, before = looks + 1, left
        if done.is_done:
            break
    assert looks > 8
    assert read(history, "SELECT state FROM runs") == ["Completed"]


@pytest.mark.usefixtures("at_once")
def test_the_last_run_of_a_workflow_stays_whatever_its_parameters(histories: Histories) -> None:
    """Else the last run of every customer stayed for ever."""
    history = histories.open(keep=ANY_TIME)
    workflow = workflow_of(history)
    workflow.params = {"customer": 0}
    for customer in range(4):
        workflow.start(params={"customer": customer})

    assert read(history, "SELECT workflow_id FROM runs") == ["nightly@customer=3"]


@pytest.mark.usefixtures("at_once")
def test_queued_runs_crowd_no_run_of_the_past_out(histories: Histories) -> None:
    """A number of runs counts those that have begun."""
    history = histories.open(keep="2 runs")
    workflow = workflow_of(history)
    for _ in range(2):
        workflow.start()
    for key in ("one", "two", "three"):
        workflow.submit(key=key)
    workflow.start()

    assert sorted(read(history, "SELECT state FROM runs")) == ["Completed"] * 2 + ["Queued"] * 3


@pytest.mark.usefixtures("at_once")
def test_a_time_in_words_counts_from_the_end_of_a_run(histories: Histories) -> None:
    """Of a chain, from the end of its last run."""
    with virtual_clock() as time:
        history = histories.open(keep="2 days")
        for _ in range(3):
            workflow_of(history).start()
            time.advance(86_400)
        assert read(history, "SELECT COUNT(*) FROM runs") == [3]
        workflow_of(history).start()
        assert read(history, "SELECT COUNT(*) FROM runs") == [3]
