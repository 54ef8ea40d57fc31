"""The buttons of the pages: what they say, what their orders do, and whose orders are refused."""

import json
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dotflow import Config, Control, DotFlow, Secret, action, serve
from dotflow.abc.history import History
from dotflow.core.types.run_state import TypeRunState
from dotflow.errors import InvalidArgument, NotInHistory, NotServable, OrderRefused
from dotflow.providers import ExecutorThread, HistorySQLite, LogDefault, StorageFile
from dotflow.testing import virtual_clock
from dotflow.ui import actions, app
from dotflow.ui.security import MAX_BODY, ASGIApp
from tests.asgi import Response, request
from tests.histories import asking, begin, contents, crash, nightly, rows
from tests.marks import on_sqlite

pytestmark = pytest.mark.databases("sqlite", "postgres", exhaustive=True)

HOST = "runs.example:8765"
HEADERS = {
    "host": HOST,
    "origin": f"https://{HOST}",
    "x_dotflow": "1",
    "content_type": "application/json",
    "sec_fetch_site": "same-origin",
}
ORDERS = ["cancel", "pause", "resume", "approve", "reject"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def report(history: HistorySQLite) -> DotFlow:
    """A workflow with a map of which an item fails, and a question."""
    return asking(history, day="today", top=3, token=Secret("TOKEN", default="hush-hush-1"))


@pytest.fixture
def served(report: DotFlow, history: HistorySQLite) -> Iterator[None]:
    """A living process serves the workflow, and takes no run."""
    with closing(history.operations().open_server(["report"])):
        report.submit()
        yield


@pytest.fixture
def pages(history: HistorySQLite) -> ASGIApp:
    return app(history, write=lambda scope: "anna")


def order(pages: ASGIApp, path: str, given: Any = None, body: bytes | None = None, **headers: str) -> Response:
    """Sends what a page of this address sends."""
    text = json.dumps(given or {}).encode() if body is None else body
    sent = {name: value for name, value in (HEADERS | headers).items() if value}
    return request(pages, f"/api/{path}", method="POST", body=text, **sent)


def seen(pages: ASGIApp, run: str, label: str) -> dict[str, Any]:
    """A button on the page of a run."""
    buttons = request(pages, f"/api/runs/{run}").json["buttons"]
    return next(button for button in buttons if button["label"] == label)


def press(pages: ASGIApp, run: str, label: str, **more: Any) -> Response:
    """Presses a button on the page of a run."""
    button = seen(pages, run, label)
    assert button["grey"] == ""
    return order(pages, button["path"], button["sends"] | more)


def notes(history: HistorySQLite, run: str) -> list[str]:
    return [text for _, text in history.load(run).notes]


# What they do


def test_what_is_queued_is_cancelled(report: DotFlow, pages: ASGIApp, history: HistorySQLite) -> None:
    """Who, what and why are notes of the run."""
    run = report.submit()

    response = press(pages, run, "Cancel", comment="wrong day")

    assert response.json == {"text": f"The run {run[:8]} of {history.load(run).workflow} is cancelled.", "run": run}
    assert history.load(run).state is TypeRunState.CANCELLED
    assert notes(history, run) == ["anna ordered it to cancel: wrong day"]


def test_a_question_whose_time_is_up_has_no_button_any_more(history: HistorySQLite, pages: ASGIApp) -> None:
    """By the clock alone: a page that has seen all finds it, though nothing was written."""
    config = Config(StorageFile("values"), log=LogDefault(output="none"), history=history, executor=ExecutorThread())
    workflow = DotFlow(config, workflow_id="late")
    for within in ("1h", "2h"):
        workflow.task.add(action(approve=True, approve_within=within)(lambda: None), name=f"within_{within}", needs=[])

    def answers(page: Response) -> list[str]:
        return [button["label"].split()[0] for button in page.json["buttons"]][:2]

    with virtual_clock() as time:
        run = workflow.start(mode="parallel")
        paths = [f"/api/runs/{run.run_id}", "/api/workflow?id=late"]
        for left in (1, 0):
            before = [request(pages, path) for path in paths]
            tags = [page.headers["etag"] for page in before]
            unchanged = [request(pages, path, if_none_match=tag) for path, tag in zip(paths, tags, strict=True)]
            assert [page.status for page in unchanged] == [304, 304]
            time.advance(3600)
            after = [request(pages, path, if_none_match=tag) for path, tag in zip(paths, tags, strict=True)]
            assert [page.json["waiting_count"] for page in (*before, *after)] == [left + 1, left + 1, left, left]
            assert answers(before[0]) == ["Approve", "Reject"]
            assert (answers(after[0]) == ["Approve", "Reject"]) is bool(left)


def test_what_runs_is_ordered_to_pause_or_to_cancel(pages: ASGIApp, history: HistorySQLite) -> None:
    """The run carries it out within a second. The button of an order that was given is grey."""
    begin(history, "running", "extract", "train")

    paused, grey = press(pages, "running", "Pause"), seen(pages, "running", "Pause")["grey"]
    cancelled = press(pages, "running", "Cancel")

    assert "pauses within about a second" in paused.json["text"]
    assert grey == "It was ordered to pause."
    assert "ends within about a second" in cancelled.json["text"]
    assert history.load("running").ordered == "cancel"


def test_what_failed_is_retried_asks_and_is_answered(
    report: DotFlow, pages: ASGIApp, history: HistorySQLite, tmp_path: Path
) -> None:
    """From the failure to the end by buttons, with a server that works off what they queue."""
    first = report.submit()
    serve(report, once=True)
    with closing(history.operations().open_server(["report"])):
        retry = seen(pages, first, "Retry what failed")
        (tmp_path / "mended").touch()
        again = press(pages, first, "Retry what failed").json["run"]
    serve(report, once=True)
    approved = press(pages, again, "Approve", value={"rows": 3}, comment="looks right")
    serve(report, once=True)
    last = history.load(approved.json["run"])

    assert retry["says"].startswith(
        "1 of 3 items of 'load' runs again. 1 more item follows. 1 task follows that has not begun. "
    )
    assert last.state is TypeRunState.COMPLETED
    assert last.steps[2].last is not None
    assert "'looks right'" in last.steps[2].last.glimpse
    assert (
        notes(history, first)
        == notes(history, last.run_id)
        == [
            "anna resumed it",
            "anna approved 'publish': looks right",
        ]
    )


def test_a_question_is_rejected(report: DotFlow, pages: ASGIApp, history: HistorySQLite, tmp_path: Path) -> None:
    """Its task fails then, with the name and the comment."""
    (tmp_path / "mended").touch()
    run = report.submit()
    serve(report, once=True)

    response = press(pages, run, "Reject", comment="the day is not over")
    serve(report, once=True)

    assert response.json["text"].startswith("Rejected. The run ")
    assert "No process serves 'report'" in response.json["text"]
    assert "anna rejected it: the day is not over" in history.load(response.json["run"]).error


def test_each_item_that_asks_has_buttons(report: DotFlow, history: HistorySQLite) -> None:
    """They name the item, and no more than ten items have them at once: the next ones follow."""
    page = DotFlow(params={"row": ...})
    page.task.add(action(approve="Load {row}?")(lambda row: row), name="load")
    workflow = DotFlow(report.config, workflow_id="pages")
    workflow.task.add(rows, params={"top": 12}).add(page, name="page", each=rows)
    pages, run = app(history, write=lambda scope: "anna"), workflow.start().run_id
    buttons = [button["label"] for button in request(pages, f"/api/runs/{run}").json["buttons"]]

    first = press(pages, run, "Approve 'page[0].load'")
    second = press(pages, first.json["run"], "Reject 'page[1].load'")
    later = [button["label"] for button in request(pages, f"/api/runs/{second.json['run']}").json["buttons"]]

    assert buttons[:2] == ["Approve 'page[0].load'", "Reject 'page[0].load'"]
    assert buttons[18:21] == ["Approve 'page[9].load'", "Reject 'page[9].load'", "Cancel"]
    assert later[:2] == ["Approve 'page[2].load'", "Reject 'page[2].load'"]
    assert "Reject 'page[11].load'" in later
    serve(workflow, once=True)
    items = history.load(first.json["run"]).steps[1].counts
    assert {state.value: count for state, count in items.items() if count}["Failed"] == 1


def test_a_workflow_is_paused_and_goes_on(pages: ASGIApp, history: HistorySQLite, served: None) -> None:
    """Its page has the button, too; the second click hears who was first."""
    run = history.runs()[0].run_id
    paused = press(pages, run, "Pause workflow", comment="the warehouse moves")
    late = order(pages, "workflows/report/pause")
    waits = seen(pages, run, "Resume workflow")["says"]
    resumed, again = (order(pages, "workflows/report/resume") for _ in range(2))

    assert "paused by anna since" in paused.json["text"]
    assert (late.status, "is paused by anna" in late.json["error"]) == (409, True)
    assert "the warehouse moves" in waits
    assert (resumed.status, again.status) == (200, 409)
    assert Control(history).pause_of("report") is None


def test_a_workflow_is_submitted_with_other_parameters(
    pages: ASGIApp, history: HistorySQLite, report: DotFlow, served: None
) -> None:
    """A text becomes what the parameter is; one that was left alone stays; secrets are no fields."""
    report.submit({"day": "2026-11-25"})
    run = next(run.run_id for run in history.runs() if "2026-11-25" in run.workflow_id)
    button = seen(pages, run, "Submit again")
    fields = {field["name"]: field["value"] for field in button["fields"]}

    response = press(pages, run, "Submit again", click="c1", params=fields | {"top": "5"})

    assert fields == {"day": "2026-11-25", "top": "3"}
    submitted = history.load(response.json["run"])
    assert submitted.params == {"day": "2026-11-25", "top": 5}
    assert submitted.workflow_id == "report@day=2026-11-25,top=5"
    assert notes(history, submitted.run_id) == ["anna submitted it"]


@pytest.mark.parametrize(
    "params", [{"top": "many"}, {"month": "11"}, {"token": "secret"}, {"day": 1}, [], {"day": None}]
)
def test_wrong_parameters_are_refused(pages: ASGIApp, history: HistorySQLite, served: None, params: Any) -> None:
    """With words, and nothing is queued."""
    (run,) = history.runs()

    response = order(pages, "workflows/report/submit", {"run": run.run_id, "click": "c1", "params": params})

    assert response.status == 400
    assert response.json["error"]
    assert len(history.runs()) == 1
    mended = order(pages, "workflows/report/submit", {"run": run.run_id, "click": "c1", "params": {"top": "5"}})
    assert mended.status == 200


# What they say


def test_where_no_process_serves_a_button_says_what_to_type(report: DotFlow, pages: ASGIApp) -> None:
    """It is grey. What needs no server is not."""
    run = report.submit()
    serve(report, once=True)

    assert seen(pages, run, "Retry what failed")["grey"].startswith("No process serves 'report'. Type `dotflow serve ")
    assert seen(pages, run, "Submit again")["grey"].startswith("No process serves 'report'.")
    assert seen(pages, run, "Pause workflow")["grey"] == ""


def test_retry_says_how_much_runs_again(report: DotFlow, pages: ASGIApp) -> None:
    """Of a map the items that have not completed, and whether all of them had failed."""
    run = report.start(keep_going=True, params={"top": 300}).run_id
    failed = nightly(report.config.history).start(keep_going=True).run_id
    of_run, of_failed = (seen(pages, one, "Retry what failed")["says"] for one in (run, failed))

    assert of_run.startswith("1 of 300 items of 'load' and 'publish' run. What has completed does not run again")
    assert of_failed.startswith("1 of 3 items of 'double' and 'load' run again. ")


@pytest.mark.parametrize("name", ["state", "step", "comment", "value", "click", "params", "run"])
def test_half_a_character_is_refused_in_words(report: DotFlow, pages: ASGIApp, name: str) -> None:
    """JSON can have one, and no column of a database: it is the fault of who sent it."""
    run = report.submit()
    given: dict[str, Any] = {"state": "Queued", "step": "publish", "nth": 0, "run": run, "click": "1"}
    given[name] = {"day": "\ud800"} if name == "params" else "\ud800"

    responses = [order(pages, path, given) for path in (f"runs/{run}/approve", "workflows/report/submit")]

    assert [response.status for response in responses] == [400, 400]
    assert all("with whole characters" in response.json["error"] for response in responses)


def test_an_order_to_no_run_makes_no_file(tmp_path: Path) -> None:
    """Whatever is ordered: a page, or a program, with the wrong path finds nothing."""
    history = HistorySQLite(tmp_path / "missing" / "history.db")
    pages = app(history, write=lambda scope: "anna")

    for what in ORDERS:
        given = {"state": "Queued", "step": "publish", "nth": 0}
        assert order(pages, f"runs/4f0c9a21-0000/{what}", given).status == 404
    for control in (Control(history).cancel, Control(history).resume, Control(history).reject):
        with pytest.raises(NotInHistory, match="no run with this id"):
            control("4f0c9a21-0000")

    assert not (tmp_path / "missing").exists()


def test_retry_counts_the_rounds_that_may_follow(report: DotFlow, pages: ASGIApp) -> None:
    """It is not known how many of them there will be."""
    inner = DotFlow(params={"row": 0})
    inner.task.add(action(lambda row: row + 1 // (1 - row)), name="load")
    workflow = DotFlow(report.config, workflow_id="rounds")
    workflow.task.add(inner, name="round", repeat=8, carry={"row": "load"})
    run = workflow.start().run_id

    says = seen(pages, run, "Retry what failed")["says"]

    assert says.startswith("1 of at most 8 rounds of 'round.load' runs again. At most 6 more rounds follow. ")


def test_each_state_has_its_buttons(report: DotFlow, pages: ASGIApp, history: HistorySQLite, tmp_path: Path) -> None:
    """A completed run can't be resumed, and one that waits for an answer needs one."""

    def labels(run: str) -> list[str]:
        return [button["label"] for button in request(pages, f"/api/runs/{run}").json["buttons"]]

    begin(history, "running", "extract", "train")
    queued = report.submit()
    of_queued = labels(queued)
    serve(report, once=True)
    failed = labels(queued)
    (tmp_path / "mended").touch()
    Control(report).resume(queued)
    serve(report, once=True)
    asks = labels(queued)
    Control(report).approve(queued)
    serve(report, once=True)

    assert labels("running") == ["Pause", "Cancel"]
    assert of_queued == ["Cancel", "Submit again", "Pause workflow"]
    assert failed == ["Retry what failed", "Submit again", "Pause workflow"]
    assert asks == ["Approve", "Reject", "Cancel", "Submit again", "Pause workflow"]
    assert labels(queued) == ["Submit again", "Pause workflow"]


def test_each_response_says_what_waits_for_an_answer(report: DotFlow, pages: ASGIApp, tmp_path: Path) -> None:
    """So each page shows it, also one that only reads."""
    (tmp_path / "mended").touch()
    assert request(pages, "/api/runs").json["waiting"] == []
    run = report.start().run_id

    for path in ("runs", f"runs/{run}", "workflow?id=report", f"diff?a={run}&b={run}"):
        for made in (pages, app(report.config.history)):
            found = request(made, f"/api/{path}").json
            assert found["waiting_count"] == 1
            (question,) = found["waiting"]
            assert question.pop("asked")[:2] == "20"
            assert question == {
                "run_id": run,
                "workflow": "report",
                "step": "publish",
                "text": "Publish [0, 1, 2] rows?",
                "until": None,
            }


# Who may


def test_without_the_right_there_are_no_buttons_and_no_orders(report: DotFlow, history: HistorySQLite) -> None:
    """By default no address takes orders; with *write*, it decides for each request."""
    run = report.submit()
    before = contents(history)
    reads = app(history)
    asked: list[Any] = []
    decides = app(history, write=lambda scope: asked.append(scope["path"]))

    for what in ORDERS:
        given = {"state": "Queued", "step": "publish", "nth": 0}
        assert order(reads, f"runs/{run}/{what}", given).status == 405
        assert order(decides, f"runs/{run}/{what}", given).status == 403
    for pages in (reads, decides):
        assert "buttons" not in request(pages, f"/api/runs/{run}").json
        assert "buttons" not in request(pages, "/api/workflow?id=report").json
    assert request(reads, "/api/me").json == request(decides, "/api/me").json == {"by": None}
    assert len(asked) == len(ORDERS) + 3
    assert contents(history) == before


def test_the_name_of_who_may_is_kept(report: DotFlow, history: HistorySQLite) -> None:
    """The function reads it from the request."""
    pages = app(history, write=lambda scope: dict(scope["headers"]).get(b"x-user", b"").decode() or None)
    run = report.submit()

    assert request(pages, "/api/me", x_user="berta").json == {"by": "berta"}
    assert order(pages, f"runs/{run}/cancel", {"state": "Queued"}, x_user="berta").status == 200
    assert notes(history, run) == ["berta ordered it to cancel"]


async def _async(scope: Any) -> str:
    return "anna"


@pytest.mark.parametrize("write", [True, "anna", _async])
def test_what_decides_is_a_plain_function(history: HistorySQLite, write: Any) -> None:
    """A coroutine would count as a name."""
    with pytest.raises(InvalidArgument, match="write="):
        app(history, write=write)


def test_a_name_that_is_no_text_is_none(report: DotFlow, history: HistorySQLite) -> None:
    """Nothing is done on behalf of a user with a number."""
    run = report.submit()
    response = order(app(history, write=lambda scope: 17), f"runs/{run}/cancel", {"state": "Queued"})

    assert response.status == 400
    assert history.load(run).state is TypeRunState.QUEUED


@on_sqlite
def test_a_history_without_a_queue_takes_no_orders(history: HistorySQLite, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says so before the first page."""
    monkeypatch.setattr(HistorySQLite, "operations", History.operations)

    with pytest.raises(NotServable, match="HistorySQLite has no queue"):
        app(history, write=lambda scope: "anna")
    assert request(app(history), "/api/runs").json["waiting"] == []


# Whose orders are refused


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": ""}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "https://runs.example"}, 403),
        ({"origin": "https://runs.example:9000"}, 403),
        ({"origin": "https://evil.runs.example:8765"}, 403),
        ({"origin": f"file://{HOST}"}, 403),
        ({"origin": HOST}, 403),
        ({"host": ""}, 403),
        ({"x_dotflow": ""}, 403),
        ({"x_dotflow": "2"}, 403),
        ({"sec_fetch_site": "same-site"}, 403),
        ({"sec_fetch_site": "cross-site"}, 403),
        ({"sec_fetch_site": "none"}, 403),
        ({"content_type": ""}, 415),
        ({"content_type": "text/plain"}, 415),
        ({"content_type": "application/x-www-form-urlencoded"}, 415),
        ({"content_type": "multipart/form-data; boundary=application/json"}, 415),
        ({"content_length": "20000"}, 413),
        ({"content_length": "9" * 5000}, 413),
    ],
    ids=lambda value: ", ".join(f"{k}={v[:40]}" for k, v in value.items()) if isinstance(value, dict) else None,
)
def test_what_another_site_sends_is_refused(
    report: DotFlow, pages: ASGIApp, history: HistorySQLite, headers: dict[str, str], status: int
) -> None:
    """Each line of defence by itself, with all others passed; the run is untouched."""
    run = report.submit()
    before = contents(history)

    response = order(pages, f"runs/{run}/cancel", {"state": "Queued"}, **headers)

    assert response.status == status
    assert response.json["error"]
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert "access-control-allow-origin" not in response.headers
    assert contents(history) == before


@pytest.mark.parametrize("method", ["OPTIONS", "PUT", "DELETE", "PATCH"])
def test_a_preflight_is_refused(report: DotFlow, pages: ASGIApp, method: str) -> None:
    """A browser asks before another site's page may send X-Dotflow."""
    run = report.submit()
    asks = {"access_control_request_method": "POST", "access_control_request_headers": "x-dotflow"}
    response = request(pages, f"/api/runs/{run}/cancel", method=method, **(HEADERS | asks))

    assert response.status == 405
    assert not any(name.startswith("access-control") for name in response.headers)


def test_old_browsers_and_proxies_that_end_tls_are_served(report: DotFlow, pages: ASGIApp) -> None:
    """The first send no Sec-Fetch-Site; behind the others, the origin is https where the request is http."""
    for headers in ({"sec_fetch_site": ""}, {"origin": f"http://{HOST}"}, {"content_type": "Application/JSON; a=b"}):
        run = report.submit()
        assert order(pages, f"runs/{run}/cancel", {"state": "Queued"}, **headers).status == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"state": "Queued", "comment": "' + b"a" * 20_000 + b'"}', 413),
        (b"", 400),
        (b"[]", 400),
        (b"{", 400),
        (b'"Queued"', 400),
        (b"{}", 400),
        (b'{"state": null}', 400),
        (b'{"state": "Sleeping"}', 400),
        (b'{"state": "Queued", "comment": 1}', 400),
        (b'{"state": "Queued", "value": NaN}', 400),
        (b"\xff\xfe", 400),
        (b'state=Queued&comment={"', 400),
    ],
    ids=lambda value: value[:40] if isinstance(value, bytes) else None,
)
def test_a_body_that_is_no_order_is_refused(
    report: DotFlow, pages: ASGIApp, history: HistorySQLite, body: bytes, status: int
) -> None:
    """Also one that does not say how long it is; the run is untouched."""
    run = report.submit()
    before = contents(history)

    response = order(pages, f"runs/{run}/cancel", body=body)

    assert (response.status, "error" in response.json) == (status, True)
    assert contents(history) == before


@pytest.mark.parametrize("value", ["[" * 4900 + "]" * 4900, "1e999"])
def test_a_value_that_can_not_be_kept_is_refused(
    report: DotFlow, pages: ASGIApp, history: HistorySQLite, tmp_path: Path, value: str
) -> None:
    """The question stays open."""
    (tmp_path / "mended").touch()
    run = report.start().run_id
    before = contents(history)
    body = f'{{"state": "Paused", "step": "publish", "nth": 0, "value": {value}}}'.encode()

    assert order(pages, f"runs/{run}/approve", body=body).status == 400
    assert contents(history) == before


@pytest.mark.parametrize("has_left", [False, True])
def test_an_order_that_does_not_arrive_is_given_up(
    report: DotFlow, pages: ASGIApp, history: HistorySQLite, monkeypatch: pytest.MonkeyPatch, has_left: bool
) -> None:
    """A client that hangs on, or has left in the middle, holds nothing and raises nothing."""
    monkeypatch.setattr(actions, "BODY_TIMEOUT", 0.01)
    run = report.submit()
    before = contents(history)

    response = request(pages, f"/api/runs/{run}/cancel", method="POST", body=None, has_left=has_left, **HEADERS)

    assert response.status == 408
    assert contents(history) == before


def test_an_order_of_the_maximum_size_is_taken(report: DotFlow, pages: ASGIApp, history: HistorySQLite) -> None:
    run = report.submit()
    body = json.dumps({"state": "Queued", "comment": ""}).encode()
    body = body[:-2] + b"a" * (MAX_BODY - len(body)) + body[-2:]

    assert order(pages, f"runs/{run}/cancel", body=body, content_length=str(len(body))).status == 200
    assert history.load(run).state is TypeRunState.CANCELLED


# Pages that are old


@pytest.mark.parametrize("state", ["Running", "Paused", "Failed"])
@pytest.mark.parametrize("what", ORDERS)
def test_a_button_that_saw_another_state_does_nothing(
    report: DotFlow, pages: ASGIApp, history: HistorySQLite, what: str, state: str
) -> None:
    """The answer says what it is by now."""
    run = report.submit()
    before = contents(history)

    response = order(pages, f"runs/{run}/{what}", {"state": state, "step": "publish", "nth": 0})

    assert response.status == 409
    assert response.json["error"] == (
        f"Can't {what} the run {run}: you saw it {state.lower()}, and by now it is queued."
    )
    assert contents(history) == before


@pytest.mark.parametrize("what", ORDERS)
def test_a_button_of_an_older_run_does_nothing(
    report: DotFlow, pages: ASGIApp, history: HistorySQLite, what: str
) -> None:
    """Its id stands for the newest run of the chain elsewhere, which its reader has not seen."""
    run = report.submit()
    serve(report, once=True)
    newer = Control(report).resume(run).run_id
    before = contents(history)

    response = order(pages, f"runs/{run}/{what}", {"state": "Failed", "step": "publish", "nth": 0})

    assert response.status == 409
    assert f"the run {newer[:8]} goes on with it, and is queued" in response.json["error"]
    assert contents(history) == before


def test_an_answer_counts_for_the_question_that_was_seen(
    report: DotFlow, pages: ASGIApp, history: HistorySQLite, tmp_path: Path
) -> None:
    """A step may ask again in the same run: no one has seen that question yet."""
    (tmp_path / "mended").touch()
    run = report.start().run_id
    button = seen(pages, run, "Approve")
    queue, (asked,) = history.operations(), Control(history).questions()
    queue.ask(asked.id._replace(nth=1), "Publish 300 rows?", "other", None)
    before = contents(history)

    for what in ("approve", "reject"):
        response = order(pages, f"runs/{run}/{what}", button["sends"])
        assert response.status == 409
        assert response.json["error"].endswith("'publish' asks anew by now: 'Publish 300 rows?'.")
    assert order(pages, f"runs/{run}/approve", button["sends"] | {"nth": True}).status == 400
    assert contents(history) == before
    assert press(pages, run, "Approve").status == 200


def test_an_older_run_of_a_chain_has_no_buttons_of_its_own(report: DotFlow, pages: ASGIApp) -> None:
    """What it was is over."""
    run = report.submit()
    Control(report).pause(run)
    Control(report).resume(run)

    buttons = request(pages, f"/api/runs/{run}?this=1").json["buttons"]

    assert [button["label"] for button in buttons] == ["Submit again", "Pause workflow"]


def test_a_run_whose_process_was_killed_is_seen_as_crashed(
    report: DotFlow, pages: ASGIApp, history: HistorySQLite
) -> None:
    """The file has it as running until the next server looks."""
    begin(history, "killed", "extract", "train")
    crash(history, "killed")

    running = order(pages, "runs/killed/cancel", {"state": "Running"})

    assert running.status == 409
    assert "by now it is crashed" in running.json["error"]


def test_a_double_click_counts_once(report: DotFlow, pages: ASGIApp, history: HistorySQLite, tmp_path: Path) -> None:
    """Of eight orders at once one is carried out, and seven hear why not."""

    def at_once(path: str, given: dict[str, Any]) -> list[Response]:
        barrier, responses = threading.Barrier(8), list[Response]()

        def click() -> None:
            barrier.wait()
            responses.append(order(pages, path, given))

        threads = [threading.Thread(target=click) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return responses

    def check(path: str, given: dict[str, Any]) -> None:
        responses = at_once(path, given)
        assert sorted(response.status for response in responses) == [200] + [409] * 7
        assert all(response.json.get("error", "words") for response in responses)

    first = report.submit()
    serve(report, once=True)
    check(f"runs/{first}/resume", {"state": "Failed"})
    (tmp_path / "mended").touch()
    serve(report, once=True)
    asks = Control(report).run(first).run_id
    check(f"runs/{asks}/approve", {"state": "Paused", "step": "publish", "nth": 0})
    queued = Control(report).run(first).run_id
    check(f"runs/{queued}/cancel", {"state": "Queued"})
    check("workflows/report/submit", {"run": queued, "click": "c1", "params": {"top": "9"}})

    assert len(history.load(first).chain) == 3
    assert len(history.runs(limit=None)) == 4


def test_control_leaves_a_run_that_is_not_as_it_was_seen(report: DotFlow) -> None:
    """The same for programs."""
    control, run = Control(report), report.submit()

    with pytest.raises(OrderRefused, match="you saw it running, and by now it is queued"):
        control.cancel(run, seen=TypeRunState.RUNNING)
    with pytest.raises(InvalidArgument, match=r"seen='sleeping' is not accepted. Pass a state of a run"):
        control.pause(run, seen="sleeping")
    assert control.cancel(run, seen="Queued").state is TypeRunState.CANCELLED


def test_the_history_is_read_only_without_the_right(tmp_path: Path) -> None:
    """A page that reads makes no file, and opens none to write."""
    pages = app(HistorySQLite(tmp_path / "none.db"))

    assert request(pages, "/api/runs").status == 200
    assert [file.name for file in tmp_path.glob("none*")] == []
