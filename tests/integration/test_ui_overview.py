"""What the list of runs opens on: what needs a person, and what begins next."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dotflow import Config, Control, DotFlow, action
from dotflow.providers import HistorySQLite, LogDefault, SchedulerCron, StorageFile
from dotflow.serving.server import Server
from dotflow.testing import VirtualClock, virtual_clock
from dotflow.ui import app
from dotflow.ui.api import LOOK
from dotflow.ui.overview import MAX_FAILED, SHOWN
from dotflow.ui.security import ASGIApp
from tests.asgi import request
from tests.histories import begin, crash, quick
from tests.marks import on_sqlite

pytestmark = pytest.mark.databases("sqlite", "postgres")

START = datetime(2026, 1, 2, 11, tzinfo=UTC)

Make = Callable[..., DotFlow]


@pytest.fixture
def pages(history: HistorySQLite) -> ASGIApp:
    return app(history)


@pytest.fixture
def make(history: HistorySQLite, tmp_path: Path) -> Make:
    """Makes a workflow of one step whose values outlive the process."""

    def make(name: str, work: Callable[..., object] = int, **more: Any) -> DotFlow:
        storage = StorageFile(tmp_path / "values")
        workflow = DotFlow(
            Config(history=history, storage=storage, log=LogDefault(output="none"), **more), workflow_id=name
        )
        workflow.task.add(action(work), name="work")
        return workflow

    return make


@pytest.fixture
def time() -> Iterator[VirtualClock]:
    with virtual_clock(START) as time:
        yield time


def fails() -> None:
    raise ConnectionError("the warehouse is away")


def overview(pages: ASGIApp) -> Any:
    return request(pages, "/api/runs?overview=1").json


def needs(pages: ASGIApp, kind: str) -> Any:
    found = overview(pages)["attention"][kind]
    assert found["count"] >= len(found["shown"]) == min(found["count"], SHOWN)
    return found["shown"]


def test_what_waits_for_an_answer(history: HistorySQLite, pages: ASGIApp, make: Make) -> None:
    """The oldest question first, with its text; once it is answered, it is gone."""
    ids = []
    for name in ("first", "second"):
        workflow = make(name, lambda: 300)
        workflow.task.add(action(approve="Publish?")(lambda: 1), name="publish")
        ids.append(workflow.start().run_id)

    found = needs(pages, "waiting")
    assert [(one["run_id"], one["workflow"], one["step"], one["text"]) for one in found] == [
        (ids[0], "first", "publish", "Publish?"),
        (ids[1], "second", "publish", "Publish?"),
    ]
    assert found[0]["asked"].endswith("Z")

    Control(history).approve(ids[0])
    assert [one["run_id"] for one in needs(pages, "waiting")] == [ids[1]]


def test_what_failed_last_and_was_not_mended(history: HistorySQLite, pages: ASGIApp, make: Make) -> None:
    """A run that failed or crashed, until a newer one of its workflow and parameters is there; the newest first."""
    for work in (fails, int):
        make("mended", work).start()
    make("by_day@day=1", fails).start()
    make("by_day@day=2").start()
    for work in (int, fails, fails):
        make("failing", work).start()
    begin(history, "crashed", "extract")
    crash(history, "crashed")
    make("goes_on", fails).start()
    begin(history, "0e50e50e", "extract")  # of the workflow "shop", as the crashed one

    assert [run["workflow_id"] for run in needs(pages, "failed")] == ["goes_on", "failing", "by_day@day=1"]

    Control(history).resume(make("goes_on", fails).start().run_id)
    assert [run["workflow_id"] for run in needs(pages, "failed")] == ["failing", "by_day@day=1"]


def test_a_crash_is_not_mended(history: HistorySQLite, pages: ASGIApp) -> None:
    """Its run is Running in the file, and its process is gone."""
    begin(history, "crashed", "extract")
    assert needs(pages, "failed") == []
    crash(history, "crashed")

    assert [(run["run_id"], run["state"]) for run in needs(pages, "failed")] == [("crashed", "Crashed")]


def test_failures_of_scratch_and_of_nested_runs_need_nobody(history: HistorySQLite, pages: ASGIApp) -> None:
    """Those of a workflow without an id and a name can't be mended; that of a nested run is its parent's."""

    def inner() -> None:
        workflow = DotFlow(Config(history=history, log=LogDefault(output="none")), workflow_id="inner")
        workflow.task.add(action(fails))
        workflow.start()
        raise ValueError("the inner run failed")

    for more in ({}, {"name": "named"}, {"workflow_id": "outer"}):
        workflow = DotFlow(Config(history=history, log=LogDefault(output="none")), **more)
        workflow.task.add(action(inner if "workflow_id" in more else fails))
        workflow.start()

    assert [run["workflow"] for run in needs(pages, "failed")] == ["outer", "named"]


@on_sqlite
def test_only_the_first_ones_are_listed(history: HistorySQLite, pages: ASGIApp) -> None:
    """Of each kind a few, and how many there are, up to a limit."""
    run_id = quick(history).start().run_id
    with closing(sqlite3.connect(history.path)) as database, database:
        columns = [name for _, name, *_ in database.execute("PRAGMA table_info(runs)")]
        values = dict.fromkeys(columns, None) | {"state": "Failed", "began": 1, "is_named": 1}
        sql = f"INSERT INTO runs ({', '.join(columns)}) VALUES ({', '.join(f':{name}' for name in columns)})"
        for number in range(MAX_FAILED + 20):
            database.execute(sql, values | {"run_id": f"run{number}", "workflow_id": f"job{number}"})

    found = overview(pages)["attention"]["failed"]
    assert (len(found["shown"]), found["count"]) == (SHOWN, MAX_FAILED + 1)
    assert overview(pages)["runs"][0]["run_id"] == run_id


def test_what_is_late_and_what_nobody_serves(
    history: HistorySQLite, pages: ASGIApp, make: Make, time: VirtualClock
) -> None:
    """By the clock alone: a page that has seen all finds it, though nothing was written."""
    workflow = make("nightly", scheduler=SchedulerCron("0 13 * * *", timezone="Europe/Berlin", late_after="15m"))
    server = Server([workflow], options={})
    for _ in range(2):
        time.at(datetime(2026, 1, 2, 11, 30, tzinfo=UTC), server.request_stop)
    server.run()
    Control(history).submit("hourly")
    time.advance(1)
    before = request(pages, "/api/runs?overview=1")
    assert before.json["attention"]["late"] == {"count": 0, "shown": []}
    assert needs(pages, "unserved") == [
        {"workflow": "hourly", "runs": 1, "since": "2026-01-02T11:30:00Z", "schedules": 0},
        {"workflow": "nightly", "runs": 0, "since": None, "schedules": 1},
    ]

    time.advance(LOOK)
    known = {"if_none_match": before.headers["etag"]}
    assert request(pages, "/api/runs?overview=1", **known).status == 304
    time.advance(3600)
    after = request(pages, "/api/runs?overview=1", **known)
    (late,) = after.json["attention"]["late"]["shown"]
    assert (late["workflow"], late["planned"], late["run_id"], late["more"]) == (
        "nightly", "2026-01-02T12:00:00Z", None, 0,
    )  # fmt: skip
    assert "no process serves it" in late["why"] or "begun" in late["why"]


def test_a_late_firing_that_failed_is_listed_once(
    history: HistorySQLite, pages: ASGIApp, make: Make, time: VirtualClock
) -> None:
    """As the run that failed."""
    workflow = make("nightly", fails, scheduler=SchedulerCron("0 13 * * *", timezone="Europe/Berlin"))
    server = Server([workflow], options={})
    for _ in range(2):
        time.at(datetime(2026, 1, 2, 12, 30, tzinfo=UTC), server.request_stop)
    server.run()

    assert [run["workflow_id"] for run in needs(pages, "failed")] == ["nightly"]
    assert needs(pages, "late") == []


def test_what_begins_next(history: HistorySQLite, pages: ASGIApp) -> None:
    """The next ten in the order of claims, the number of all, and none of them among the runs that have begun."""
    control = Control(history)
    begun = quick(history).start().run_id
    ids = [control.submit("etl", key=f"key{number}") for number in range(12)]
    later = control.submit("etl", key="later", at="1h", priority=9)
    first = control.submit("etl", key="first", priority=1)

    found = overview(pages)
    assert [run["run_id"] for run in found["queue"]["runs"]] == [first, *ids[:9]]
    assert found["queue"]["count"] == 14
    assert all(run["duration"] is None and not run["has_begun"] for run in found["queue"]["runs"])
    assert [run["run_id"] for run in found["runs"]] == [begun]
    assert history.queue(20)[0][-1].run_id == later
    assert len(request(pages, "/api/runs").json["runs"]) == 15
    assert "queue" not in request(pages, "/api/runs").json


def test_a_history_without_runs_or_a_queue(tmp_path: Path, history: HistorySQLite) -> None:
    """Needs nothing."""
    nothing = {kind: {"count": 0, "shown": []} for kind in ("waiting", "failed", "late", "unserved")}
    found = overview(app(HistorySQLite(tmp_path / "none.db")))
    assert (found["attention"], found["queue"]) == (nothing, {"runs": [], "count": 0})

    for name, work in (("a", fails), ("b", fails), ("b", int), ("a@day=1", fails)):
        workflow = DotFlow(Config(history=history, log=LogDefault(output="none")), workflow_id=name)
        workflow.task.add(action(work))
        workflow.start()
    Control(history).submit("c")
    failed = history.unmended()
    assert [run.workflow for run in failed] == ["a@day=1", "a"]
    queued, count = history.queue()
    assert ([run.workflow for run in queued], count) == (["c"], 1)
