"""`dotflow.ui.app`: the JSON that the page draws, and what it says of a history that can't be read."""

import json
import runpy
import sqlite3
from base64 import b64encode
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from dotflow import Config, Control, DotFlow, action, clock, note, serve
from dotflow.core.events import CallBegan, CallEnded
from dotflow.errors import InvalidArgument
from dotflow.providers import HistorySQLite, LogDefault, sqlite_file
from dotflow.providers.histories.sqlite import database
from dotflow.report.document import document, output_members
from dotflow.ui import app
from dotflow.ui.security import ASGIApp
from tests.asgi import request
from tests.extras import ROOT
from tests.histories import begin, crash, nightly, quick, write
from tests.marks import on_sqlite

pytestmark = pytest.mark.databases("sqlite", "postgres", exhaustive=True)

HOSTILE = "</script><img src=x onerror=alert(1)>\u2028\x00\"'&%2F../☃\ud800"


@pytest.fixture
def pages(history: HistorySQLite) -> ASGIApp:
    return app(history)


@action
def talkative() -> None:
    print("first words")
    print("last words")


# Lists


def test_runs_are_listed_with_the_durations_of_their_workflows(history: HistorySQLite, pages: ASGIApp) -> None:
    """The newest run first, and of its workflow with any parameters the durations, the oldest first."""
    ids = [quick(history, name=name).start().run_id for name in ("quick", "quick@day=1", "quick")]
    nightly(history).start()

    found = request(pages, "/api/runs").json

    assert [run["run_id"] for run in found["runs"]][1:] == ids[::-1]
    assert (found["runs"][0]["state"], found["runs"][0]["name"], found["has_more"]) == ("Failed", "Nights", False)
    assert found["workflows"] == ["nightly", "quick"]
    assert [(run_id, state) for run_id, state, _ in found["durations"]["quick"]] == [
        (run_id, "Completed") for run_id in ids
    ]
    assert list(request(pages, "/api/runs?workflow=quick@day=1").json["durations"]) == ["quick"]


def test_a_workflow_that_is_forgotten_meanwhile(
    history: HistorySQLite, pages: ASGIApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no durations."""
    quick(history).start()
    monkeypatch.setattr(history, "workflows", lambda: ["gone", "quick"])

    assert list(request(pages, "/api/runs").json["durations"]) == ["quick"]


def test_lists_are_narrowed(history: HistorySQLite, pages: ASGIApp) -> None:
    """By state, workflow, age, text and number; `before` gives the next page."""
    for workflow in (quick(history), nightly(history), quick(history, name="quick@day=1")):
        workflow.start()

    def names(query: str) -> list[str]:
        return [run["workflow_id"] for run in request(pages, f"/api/runs?{query}").json["runs"]]

    assert names("state=failed,crashed") == names("workflow=nightly") == names("search=ITEMSFAILED") == ["nightly"]
    assert names("workflow=quick&state=&since=2h&search=") == ["quick@day=1", "quick"]
    assert names(f"state={'failed,' * 1000}") == ["nightly"]
    assert names("since=2999-01-01") == names("state=running") == []
    assert names("limit=0") == names("limit=-7") == ["quick@day=1"]
    first = request(pages, "/api/runs?limit=2").json
    assert (len(first["runs"]), first["has_more"]) == (2, True)
    assert names(f"limit=2&before={first['runs'][-1]['began']}") == ["quick"]


@pytest.mark.parametrize(
    "path",
    [
        "/api/runs?state=dead",
        "/api/runs?since=yesterday",
        "/api/runs?limit=many",
        "/api/runs?before=2d",
        "/api/runs/last/output?task=x",
        "/api/runs/last/calls?before=x",
        "/api/diff?a=last",
        "/api/workflow",
    ],
)
def test_a_wrong_query_is_refused(history: HistorySQLite, pages: ASGIApp, path: str) -> None:
    """With words."""
    quick(history).start()

    response = request(pages, path)

    assert (response.status, list(response.json)) == (400, ["error"])
    assert "is not accepted" in response.json["error"]


# A run


def test_a_run_is_its_document_without_the_output(history: HistorySQLite, pages: ASGIApp) -> None:
    """Of its output the page learns whose it is, and how much."""
    run_id = quick(history, talkative).start().run_id
    run = history.load(run_id)

    found = request(pages, f"/api/runs/{run_id[:8]}").json

    expected = json.loads(json.dumps(document(run, output=output_members(history, run))))
    assert found["run"] == expected["run"]
    assert found["tasks"] == expected["tasks"]
    (output,), (whole,) = found["output"], expected["output"]
    assert output == whole | {"left_out": whole["size"], "parts": []}


@on_sqlite
def test_commands_name_the_history(history: HistorySQLite, pages: ASGIApp) -> None:
    """They work in any folder."""
    nightly(history).start()

    commands = request(pages, "/api/runs/last").json["commands"]

    assert commands
    assert all(command["command"].endswith(f"--history {history.path}") for command in commands)


def test_calls_are_read_in_pages(history: HistorySQLite, pages: ASGIApp) -> None:
    """The last ones before a number, as the run's document has them; of what is no durable step none."""
    begin(history, "running", "agent", "crawl")
    for number in range(3, 8):
        fields = (1, 1, number, "search", f"'{number}'", 0, f"{number:024x}", clock.now(), clock.monotonic())
        history.record("running", CallBegan(*fields))
        history.record("running", CallEnded(1, 1, number, f"'{number}'", None, clock.monotonic()))
    history.settle("running", begins=True)

    document = request(pages, "/api/runs/running").json["tasks"][1]["calls"]
    page = request(pages, "/api/runs/running/calls?task=1&item=&before=6&limit=2").json

    assert page == {"total": 5, "calls": document["listed"][1:3]}
    assert [call["number"] for call in request(pages, "/api/runs/running/calls?task=1").json["calls"]] == [
        3,
        4,
        5,
        6,
        7,
    ]
    assert request(pages, "/api/runs/running/calls?task=1&before=3").json["calls"] == []
    assert request(pages, "/api/runs/running/calls?task=0").json == {"total": 0, "calls": []}
    assert request(pages, "/api/runs/running/calls?task=2").status == 404


def test_output_is_followed(history: HistorySQLite, pages: ASGIApp) -> None:
    """First all of it, and then what is new."""
    begin(history, "running", "extract")
    write(history, "running", 0, b"one\n")

    first = request(pages, "/api/runs/running/output?task=0&attempt=1").json
    write(history, "running", 0, "zwei ☃\n".encode(), stream=2)
    second = request(pages, f"/api/runs/running/output?task=0&attempt=1&after={first['last']}").json
    third = request(pages, f"/api/runs/running/output?task=0&attempt=1&after={second['last']}").json

    assert [(part["stream"], part["text"]) for part in first["output"][0]["parts"]] == [(1, "one\n")]
    assert [(part["stream"], part["text"]) for part in second["output"][0]["parts"]] == [(2, "zwei ☃\n")]
    assert (third["output"], third["last"]) == ([], second["last"])
    assert request(pages, "/api/runs/running/output?task=7&item=3").json == {"output": [], "last": -1}


@on_sqlite
def test_a_crash_is_seen_without_a_write(history: HistorySQLite, pages: ASGIApp) -> None:
    """The next request has it, though nothing has changed in the file."""
    begin(history, "running", "extract")
    before = request(pages, "/api/runs/running")
    content = history.path.read_bytes()

    crash(history, "running")
    after = request(pages, "/api/runs/running", if_none_match=before.headers["etag"])

    assert (before.json["run"]["state"], after.json["run"]["state"]) == ("Running", "Crashed")
    assert after.json["tasks"][0]["state"] == "Crashed"
    assert history.path.read_bytes() == content


# A workflow, and two runs


def test_a_workflow_is_a_grid_of_its_last_runs(history: HistorySQLite, pages: ASGIApp) -> None:
    """Of each task the states in the runs, the oldest first; None where a run does not have it."""
    for name in ("shop", "shop@day=1"):
        quick(history, talkative, name=name).start()
    begin(history, "running", "extract", "load", "load")

    found = request(pages, "/api/workflow?id=shop").json

    assert [run["workflow_id"] for run in found["runs"]] == ["shop", "shop@day=1", "shop"]
    cells = {task["name"]: [cell and cell[0] for cell in task["cells"]] for task in found["tasks"]}
    assert cells == {
        "extract": [None, None, "Completed"],
        "load (1)": [None, None, "Completed"],
        "load (2)": [None, None, "Running"],
        "talkative": ["Completed", "Completed", None],
    }


def test_a_workflow_has_the_numbers_of_its_steps(history: HistorySQLite, pages: ASGIApp) -> None:
    """What they noted, with a value for each run; of a map the mean."""

    def load(number: int) -> None:
        note(rows=number, text="no number")

    for number in (1, 2):
        workflow = DotFlow(Config(history=history, log=LogDefault(output="none")), workflow_id="shop")
        workflow.task.add(action(load), name="load", each={"number": [number, number + 2]})
        if number == 2:
            workflow.task.add(action(lambda: note(score=0.5)), name="fit")
        workflow.start()

    assert request(pages, "/api/workflow?id=shop").json["notes"] == [
        {"task": "load", "name": "rows", "of_items": True, "values": [2, 3]},
        {"task": "fit", "name": "score", "of_items": False, "values": [None, 0.5]},
    ]


def test_a_workflow_has_its_days(history: HistorySQLite, pages: ASGIApp) -> None:
    """Those that are missing, too. Of a parameter with other values, those that have not completed are first."""
    config = Config(history=history, log=LogDefault(output="none"))
    workflow = DotFlow(config, workflow_id="shop", params={"day": ..., "region": "eu"})
    workflow.task.add(talkative)
    for day in (1, 3):
        workflow.start(params={"day": f"2020-11-0{day}", "region": "eu"})
    waiting = workflow.submit({"day": "2020-11-03", "region": "us"})

    days, regions = request(pages, "/api/workflow?id=shop").json["params"]
    assert (days["param"], days["is_days"], days["left_out"]) == ("day", True, 0)
    assert [(value["value"], value["state"], value["names"]) for value in days["values"]] == [
        ("2020-11-01", "Completed", 1),
        ("2020-11-02", None, 0),
        ("2020-11-03", "Queued", 2),
    ]
    assert days["values"][2]["run_id"] == waiting
    assert [(value["value"], value["state"]) for value in regions["values"]] == [("us", "Queued"), ("eu", "Completed")]


def test_two_runs_are_compared(history: HistorySQLite, pages: ASGIApp) -> None:
    """As by `dotflow diff --json`."""
    nightly(history).start()
    nightly(history).start(keep_going=True)
    newest, oldest = history.runs()

    found = request(pages, f"/api/diff?a={oldest.run_id}&b=last").json

    assert (found["before"]["run_id"], found["after"]["run_id"]) == (oldest.run_id, newest.run_id)
    assert {"kind": "state", "name": "load", "before": None, "after": "Failed"} in found["differences"]


# What has not changed is not sent again


@pytest.mark.parametrize("path", ["/api/runs", "/api/runs/last", "/api/workflow?id=quick", "/api/diff?a=last&b=last"])
def test_an_unchanged_document_is_not_sent_again(history: HistorySQLite, pages: ASGIApp, path: str) -> None:
    """With the tag of what it has, the page gets 304, until a run changes; a proxy may weaken the tag."""
    quick(history).start()
    tag = request(pages, path).headers["etag"]

    again = [request(pages, path, if_none_match=known) for known in (tag, f"W/{tag}", f'"other", {tag}')]
    quick(history).start()
    later = request(pages, path, if_none_match=tag)

    assert [(response.status, response.body, response.headers["etag"]) for response in again] == [(304, b"", tag)] * 3
    assert later.status == 200


def test_a_run_is_not_sent_again_if_another_one_changes(history: HistorySQLite, pages: ASGIApp) -> None:
    """Its tag is new then, so that the next request is answered in a moment."""
    path = f"/api/runs/{quick(history).start().run_id}"
    first = request(pages, path)
    begin(history, "other", "extract")

    second = request(pages, path, if_none_match=first.headers["etag"])

    assert (second.status, second.body) == (304, b"")
    assert second.headers["etag"] != first.headers["etag"]


@on_sqlite
def test_no_transaction_outlives_a_request(history: HistorySQLite, pages: ASGIApp) -> None:
    """A reader that stays would make the log of the file grow for ever."""
    begin(history, "running", "extract")
    for path in ("/api/runs", "/api/runs/running", "/api/runs/running/output?task=0", "/api/workflow?id=shop"):
        request(pages, path)
    write(history, "running", 0, b"text")

    with closing(sqlite3.connect(history.path)) as connection:
        assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    assert history.path.with_name("history.db-wal").stat().st_size == 0


# A history that can't be read


def broken(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)


def foreign(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE songs (title)")


def newer(path: Path) -> None:
    with closing(HistorySQLite(path)) as history:
        quick(history).start()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 999")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (broken, "can't be read"),
        (foreign, "another program, with the tables songs"),
        (newer, "another version of dotflow"),
        (Path.mkdir, "can't be read"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_history_that_can_not_be_read(tmp_path: Path, make: Any, words: str) -> None:
    """The page has words; it still loads, and shows the runs once they can be read."""
    make(tmp_path / "history.db")
    with closing(HistorySQLite(tmp_path / "history.db")) as history:
        pages = app(history)
        for path in ("/api/runs", "/api/runs/last", "/api/workflow?id=x"):
            response = request(pages, path)
            assert response.status == 503
            assert words in response.json["error"]
        assert request(pages, "/").status == 200


@on_sqlite
def test_a_history_that_is_busy(history: HistorySQLite, pages: ASGIApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page says so, and shows the runs when the other program has ended."""
    quick(history).start()
    history.close()
    monkeypatch.setattr(database, "TIMEOUT", 0.01)
    monkeypatch.setattr(sqlite_file, "BUSY_TIMEOUT", 0.01)
    with closing(sqlite3.connect(history.path)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN IMMEDIATE")
        for path in ("/api/runs", "/api/runs/last"):
            response = request(pages, path)
            assert (response.status, "another process keeps a transaction open" in response.text) == (503, True)

    assert request(pages, "/api/runs").status == 200


def test_a_path_that_can_not_be_read(tmp_path: Path) -> None:
    """An error of the system has its words, too."""
    pages = app(HistorySQLite(tmp_path / ("x" * 300)))

    assert "File name too long" in request(pages, "/api/runs").json["error"]


@on_sqlite
def test_a_damaged_row(history: HistorySQLite, pages: ASGIApp) -> None:
    """It is an error with the file and the cause."""
    run_id = quick(history).start().run_id
    with closing(sqlite3.connect(history.path)) as connection:
        connection.execute("UPDATE environments SET document = x'00'")
        connection.commit()

    response = request(pages, f"/api/runs/{run_id}")

    assert response.status == 503
    assert "can't be read: it is damaged, or dotflow did not write it" in response.json["error"]


@on_sqlite
def test_a_history_begins_while_the_page_is_open(history: HistorySQLite, pages: ASGIApp) -> None:
    """Before, the list is empty, and says where the history would be."""
    before = request(pages, "/api/runs").json
    assert (before["runs"], before["history"]) == ([], str(history.path))

    quick(history).start()

    assert len(request(pages, "/api/runs").json["runs"]) == 1


def test_a_run_that_is_not_there(history: HistorySQLite, pages: ASGIApp) -> None:
    """It is 404, with words."""
    quick(history).start()

    for path in ("/api/runs/nope", "/api/runs/nope/output", "/api/diff?a=last&b=nope"):
        assert request(pages, path).status == 404
    assert "Can't find the run 'nope'" in request(pages, "/api/runs/nope").json["error"]


def test_any_text_is_data(history: HistorySQLite, pages: ASGIApp) -> None:
    """Names, workflows, output and queries may hold anything."""
    begin(history, "hostile", HOSTILE)
    write(history, "hostile", 0, HOSTILE.encode(errors="surrogatepass"))
    quick(history, name=HOSTILE.replace("\ud800", "")).start()

    run = request(pages, "/api/runs/hostile").json
    name = quote(HOSTILE.replace("\ud800", ""))

    assert run["tasks"][0]["name"] == HOSTILE.replace("\ud800", "\\ud800")
    assert len(request(pages, f"/api/workflow?id={name}").json["runs"]) == 1
    assert len(request(pages, f"/api/runs?search={name}").json["runs"]) == 1
    assert "onerror" in request(pages, "/api/runs/hostile/output?task=0").json["output"][0]["parts"][0]["text"]


# Mounting


@pytest.mark.parametrize(("path", "root"), [("/", ""), ("/runs/last", "../"), ("/workflow", ""), ("/diff", "")])
def test_it_is_mounted_anywhere(history: HistorySQLite, pages: ASGIApp, path: str, root: str) -> None:
    """Its page finds the style, the script and the JSON from wherever it is."""
    quick(history).start()
    site = Starlette(routes=[Mount("/behind/login", app=pages)])

    page = request(site, f"/behind/login{path}").text

    assert f'src="{root}page.js?' in page
    assert "<noscript>This page needs JavaScript" in page
    assert f'href="{root}page.css?' in page
    assert request(site, "/behind/login/page.js").headers["content-type"].startswith("text/javascript")
    assert len(request(site, "/behind/login/api/runs").json["runs"]) == 1


def test_it_is_mounted_behind_a_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As docs/how-to/runs-in-a-browser.md shows it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RUNS_PASSWORD", "open sesame")
    site = runpy.run_path(str(ROOT / "docs_src/history/mounted.py"))["application"]
    right = f"Basic {b64encode(b'admin:open sesame').decode()}"

    for wrong in ("", "Basic", "Basic YWRtaW46", f"Bearer {right.split()[1]}", "Basic \xff"):
        for path in ("/history/", "/history/api/runs", "/history/page.js"):
            assert request(site, path, authorization=wrong).status == 401
    assert "<title>dotflow" in request(site, "/history/", authorization=right).text
    assert request(site, "/history/api/runs", authorization=right).json["runs"] == []
    with closing(HistorySQLite(tmp_path / ".output/history.db")) as history:
        run = quick(history).submit()
        orders = {"host": "runs.example", "origin": "https://runs.example", "x_dotflow": "1"}
        orders |= {"content_type": "application/json", "method": "POST"}
        path, body = f"/history/api/runs/{run}/cancel", b'{"state": "Queued"}'
        assert request(site, path, body=body, **orders).status == 401
        assert request(site, path, body=body, authorization=right, **orders).status == 200
        assert history.load(run).reason == "cancelled by admin"


def test_it_needs_a_history_that_can_be_read() -> None:
    """A path is none."""
    with pytest.raises(InvalidArgument, match="such as HistorySQLite"):
        app("history.db")  # type: ignore[arg-type]


def test_old_pages_follow(history: HistorySQLite, pages: ASGIApp) -> None:
    """Runs that began before a moment are another page, also where many began at once."""
    for _ in range(5):
        quick(history).start()
    began = history.runs()[2].began

    later = request(pages, f"/api/runs?before={quote((began + timedelta(microseconds=1)).isoformat())}").json

    assert [run["run_id"] for run in later["runs"]] == [run.run_id for run in history.runs()[2:]]


@on_sqlite
@pytest.mark.parametrize("count", [2, 9])
def test_runs_that_began_at_the_same_moment_are_on_one_page(history: HistorySQLite, pages: ASGIApp, count: int) -> None:
    """Else those after the last run of a page are on no page."""
    for _ in range(count + 2):
        quick(history).start()
    with closing(sqlite3.connect(history.path)) as connection, connection:
        same = "UPDATE runs SET began = (SELECT began FROM runs WHERE run = 2) WHERE run BETWEEN 2 AND ?"
        connection.execute(same, (count + 1,))

    first = request(pages, "/api/runs?limit=2").json
    second = request(pages, f"/api/runs?limit=2&before={first['runs'][-1]['began']}").json

    assert [(len(page["runs"]), page["has_more"]) for page in (first, second)] == [(count + 1, True), (1, False)]
    assert [run["run_id"] for run in first["runs"] + second["runs"]] == [run.run_id for run in history.runs()]


def test_a_queued_run_and_those_that_it_continues(history: HistorySQLite, pages: ASGIApp) -> None:
    """The id of any run of a chain leads to the newest one, unless `this` is asked for."""
    workflow, control = quick(history), Control(history)
    first = workflow.submit()
    control.pause(first)
    newest = control.resume(first).run_id

    found = request(pages, f"/api/runs/{first}").json["run"]

    assert (found["run_id"], found["state"], found["duration"]) == (newest, "Queued", None)
    assert (found["chain"], found["continues"], found["is_served"]) == ([first, newest], first, False)
    assert request(pages, f"/api/runs/{first}?this=1").json["run"]["state"] == "Paused"
    listed = request(pages, "/api/runs?state=queued,paused").json["runs"]
    assert [run["run_id"] for run in listed] == [newest]  # what is continued waits for nothing


def test_a_page_learns_that_a_server_has_begun(history: HistorySQLite, pages: ASGIApp) -> None:
    """The tag of a response differs then."""
    workflow = quick(history)
    run = workflow.submit(at="1h")
    before = request(pages, "/api/runs")
    assert before.json["runs"][0]["is_served"] is False

    with serve(workflow, wait=False):
        while not Control(history).is_served(workflow.workflow_id):
            clock.sleep(0.01)
        after = request(pages, "/api/runs", if_none_match=before.headers["etag"])

    assert after.status == 200
    assert [(run["run_id"], run["is_served"]) for run in after.json["runs"]] == [(run, True)]
