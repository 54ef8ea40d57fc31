"""`dotflow ui` in a browser: lists, filters, a run that goes on, and what is shown when something is wrong."""

import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from dotflow import Config, Control, DotFlow, action, clock, note
from dotflow.core.context import Context
from dotflow.core.events import CallBegan, CallEnded, RunEnded, TaskCompleted
from dotflow.core.types.run_state import TypeRunState
from dotflow.core.types.status import TypeStatus
from dotflow.providers import HistorySQLite, LogDefault
from dotflow.providers.histories.sql import call_rows
from tests.browser import reports
from tests.browser.conftest import OpenPage, violations
from tests.browser.site import Site, fill
from tests.histories import begin, numbers, quick, write
from tests.served import make_browser, path_of, serving

FAILED = "Failed to load resource"  # Chromium's own message about a response that is an error
POLL = 1000  # milliseconds between two requests of a page
#: A program whose run goes on until it is killed.
ENDLESS = """
import sys, time
from dotflow import Config, DotFlow, action
from dotflow.providers import HistorySQLite
@action
def endless(): print("still here", flush=True); time.sleep(600)
workflow = DotFlow(Config(history=HistorySQLite(sys.argv[1])), workflow_id="endless")
workflow.task.add(endless)
workflow.start()
"""


@pytest.fixture
def address(site: Site, history: HistorySQLite) -> str:
    """The address of the pages of the history."""
    return site.add(history)


@pytest.fixture(scope="package")
def filled(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a history with runs of every kind."""
    history = HistorySQLite(tmp_path_factory.mktemp("filled") / "history.db")
    fill(history)
    yield site.add(history)
    history.close()


def end(history: HistorySQLite, run_id: str) -> None:
    """Completes a run of `begin` whose second task runs."""
    history.record(run_id, TaskCompleted(1, Context("done"), clock.monotonic()))
    history.record(run_id, RunEnded("shop", run_id, TypeStatus.COMPLETED, clock.now(), TypeRunState.COMPLETED, ""))


def look(page: Page) -> None:
    """Has the page ask at once, as it does when it becomes visible."""
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


def names(page: Page) -> list[str]:
    """The workflows in the list."""
    return page.locator(".run-link").all_text_contents()


# The list


def test_a_failed_run_is_seen_and_opened(filled: str, open_page: OpenPage) -> None:
    """The list shows what failed; its link leads to the run, and from there to the workflow and back."""
    page = open_page(filled)
    row = page.locator(".run", has_text="nightly-orders")

    expect(row).to_contain_text("Failed")
    expect(row).to_contain_text("convert: ItemsFailed: 2 of 20 items failed")
    row.locator("td.right").click()
    expect(page.locator(".failure").first).to_contain_text("ConnectionError: warehouse-2 closed the connection")
    expect(page.get_by_role("region", name="Output of load").first).to_contain_text("connecting to warehouse-2")
    expect(page.get_by_role("button", name=re.compile("Copy: dotflow show"))).not_to_have_count(0)
    page.get_by_role("link", name="nightly-orders", exact=True).click()
    expect(page.get_by_role("region", name="Grid of runs and tasks").get_by_role("rowheader")).to_have_text(
        ["orders", "convert", "load", "notify"]
    )
    page.get_by_role("link", name="Runs", exact=True).click()
    expect(page.locator(".run")).to_have_count(7)


@pytest.mark.exhaustive
def test_runs_are_filtered(filled: str, open_page: OpenPage) -> None:
    """By state, workflow, age and text. The address keeps the filters."""
    page = open_page(filled)
    expect(page.locator(".run")).to_have_count(7)

    page.get_by_role("button", name="Failed").click()
    expect(page.locator(".run")).to_have_count(2)
    assert names(page) == ["shop", "nightly-orders"]
    page.get_by_label("Search").fill("ITEMSFAILED")
    expect(page.locator(".run")).to_have_count(1)
    page.reload()
    expect(page.locator(".run")).to_have_count(1)
    expect(page.get_by_role("button", name="Failed")).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_label("Search")).to_have_value("ITEMSFAILED")
    page.get_by_label("Search").fill("")
    page.get_by_role("button", name="All").click()
    page.get_by_role("combobox", name="Workflow").select_option("hourly")
    expect(page.locator(".run")).to_have_count(4)
    expect(page.locator(".cards > li")).to_have_count(1)
    page.get_by_role("button", name="Stopped").click()
    expect(page.get_by_text("No such runs.")).to_be_visible()
    page.get_by_role("link", name="Show all").click()
    page.get_by_role("combobox", name="Began").select_option("1h")
    expect(page).to_have_url(re.compile("since=1h"))
    expect(page.locator(".run")).to_have_count(7)


def test_what_waits_is_in_the_list_and_has_a_page(history: HistorySQLite, address: str, open_page: OpenPage) -> None:
    """Queued runs say what they wait for, and have no duration; the runs of a chain lead to each other."""
    workflow, control = quick(history), Control(history)
    first = workflow.submit()
    control.pause(first)
    newest = control.resume(first).run_id
    page = open_page(address)

    page.get_by_role("button", name="Waiting").click()
    expect(page.locator(".run")).to_have_count(1)
    row = page.locator(".run", has_text=newest[:8])
    expect(row).to_contain_text("Queued, no process serves it")
    expect(row.locator("td.right")).to_have_text("")
    row.locator(".run-link").click()
    expect(page.get_by_text("It waits in the queue, no process serves it.")).to_be_visible()
    expect(page.get_by_text(f"dotflow cancel {newest[:8]}")).to_be_visible()
    page.get_by_role("listitem").filter(has_text="continues").get_by_role("link").click()
    expect(page.locator("h1")).to_contain_text("Paused")
    page.get_by_role("listitem").filter(has_text="goes on as").get_by_role("link").click()
    expect(page.locator("h1")).to_contain_text("Queued")
    assert violations(page) == []


@pytest.mark.exhaustive(keep_every=2)
@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (390, "dark")])
def test_the_list_opens_on_what_needs_a_person(
    history: HistorySQLite, address: str, open_page: OpenPage, width: int, scheme: str
) -> None:
    """In one sentence, then in rows that the keyboard reaches first; then what begins next, then the rest."""
    quick(history, name="hourly").start()
    reports.fail(history)
    workflow = quick(history, name="nightly")
    workflow.task.add(action(approve="Publish 300 rows?")(lambda: 1), name="publish")
    asked = workflow.start().run_id
    for number in range(12):
        Control(history).submit("etl", key=f"key{number}")
    page = open_page(address, width=width, scheme=scheme)

    sentence = "1 waits for an answer; 1 failed, and has not run again; 1 workflow is served by no process."
    expect(page.locator("header .headline")).to_have_text(sentence)
    rows = page.locator(".needs li")
    expect(rows).to_have_count(3)
    expect(rows.nth(0)).to_contain_text("publish asks: Publish 300 rows?")
    expect(rows.nth(1)).to_contain_text("convert: ItemsFailed: 2 of 20 items failed")
    expect(rows.nth(2)).to_contain_text("12 runs in the queue · start dotflow serve")
    assert all(box is not None and box["y"] < 900 for box in (rows.nth(row).bounding_box() for row in range(3)))
    queue = page.locator("#queue")
    expect(queue.locator(".run")).to_have_count(10)
    expect(queue.get_by_text("and 2 more in the queue")).to_be_visible()
    expect(queue.locator("td.right").first).to_have_text("")
    expect(page.locator("#runs .run")).to_have_count(3)
    assert violations(page) == []

    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("link", name="nightly", exact=True).first).to_be_focused()
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{address}runs/{asked}")
    expect(page.locator(".headline")).to_have_text("publish waits for an approval: Publish 300 rows?")
    expect(page.locator(".why")).to_contain_text("publish asks: Publish 300 rows?")
    waiting = page.get_by_role("region", name="Waiting for an answer")
    expect(waiting).to_have_count(0)
    page.goto(f"{address}workflow?id=hourly")
    expect(waiting).to_contain_text("1 waits for an answer")
    Control(history).approve(asked)
    page.get_by_role("link", name="Runs", exact=True).click()
    expect(page.locator("header .headline")).not_to_contain_text("an answer")
    queue.get_by_role("link", name="show all").click()
    expect(page.locator(".run")).to_have_count(13)


def test_nothing_needs_attention(history: HistorySQLite, address: str, open_page: OpenPage) -> None:
    """The list says so."""
    quick(history, name="hourly").start()
    page = open_page(address)

    expect(page.locator("header .headline")).to_have_text("Nothing needs attention.")
    expect(page.locator(".needs")).to_have_count(0)


@pytest.mark.exhaustive
@pytest.mark.parametrize(("width", "scheme"), [(1400, "dark"), (390, "light")])
def test_numbers_are_plotted_over_runs(
    history: HistorySQLite, address: str, open_page: OpenPage, width: int, scheme: str
) -> None:
    """The durations of the steps, and what they noted; the page of a run has its notes."""

    def load(rows: int) -> None:
        note(rows=rows, score=rows / 3000, source="crm")

    for rows in (1000, 1200, 12):
        workflow = DotFlow(Config(history=history, log=LogDefault(output="none")), workflow_id="etl")
        workflow.task.add(action(partial(load, rows)), name="load")
        run_id = workflow.start().run_id
    page = open_page(f"{address}workflow?id=etl", width=width, scheme=scheme)

    expect(page.locator("#durations li")).to_have_count(1)
    notes = page.locator("#notes li")
    expect(notes).to_contain_text(["load rows12usually 1,000, 12 to 1,200 in 3 runs", "load score0.004"])
    expect(notes.first.locator("a")).to_have_count(3)
    assert violations(page) == []
    notes.first.locator("a").nth(2).click()
    expect(page).to_have_url(f"{address}runs/{run_id}")
    expect(page.get_by_role("row", name=re.compile("load"))).to_contain_text("rows 12, score 0.004, source crm")
    page.get_by_role("button", name="load").click()
    expect(page.get_by_text("Noted")).to_be_visible()
    assert violations(page) == []


def test_the_list_is_used_by_keyboard(filled: str, open_page: OpenPage) -> None:
    """A slash leads to the search, arrows to the runs, Enter into one."""
    page = open_page(filled)
    expect(page.locator(".run")).to_have_count(7)

    page.keyboard.press("/")
    expect(page.get_by_label("Search")).to_be_focused()
    page.keyboard.type("k/j")
    expect(page.get_by_label("Search")).to_have_value("k/j")
    expect(page.locator(".run")).to_have_count(0)
    page.get_by_label("Search").fill("")
    expect(page.locator(".run")).to_have_count(7)
    for key, row in (("ArrowDown", 0), ("ArrowDown", 1), ("j", 2), ("k", 1), ("ArrowUp", 0)):
        page.keyboard.press(key)
        expect(page.locator(".run .run-link").nth(row)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/runs/running$"))


@pytest.mark.exhaustive
def test_runs_are_compared(filled: str, open_page: OpenPage) -> None:
    """Two runs are chosen in the list; the page of their differences names both."""
    page = open_page(filled)

    page.get_by_label("Compare crashed").check()
    page.get_by_label("Compare running").check()
    page.get_by_role("link", name="Show what differs").click()

    differences = page.get_by_role("region", name="Differences")
    expect(differences.get_by_role("columnheader")).to_contain_text(["crashed", "running"])
    expect(differences.get_by_role("row", name=re.compile("^state"))).to_contain_text("Crashed")
    page.get_by_role("link", name="The other way round").click()
    expect(differences.get_by_role("columnheader")).to_contain_text(["running", "crashed"])


@pytest.mark.exhaustive
def test_a_failed_run_is_compared_with_the_last_good_one(
    history: HistorySQLite, address: str, open_page: OpenPage
) -> None:
    """The page of the run has links to it and to the differences; that of the workflow says since when it fails."""
    good = quick(history, name="nightly-orders").start().run_id
    reports.fail(history)

    page = open_page(f"{address}workflow?id=nightly-orders")
    expect(page.locator(".why")).to_contain_text("convert: ItemsFailed: 2 of 20 items failed")
    expect(page.locator(".why")).to_contain_text(f"ago, {good[:8]}")
    page.goto(f"{address}runs/last")
    expect(page.locator(".about li", has_text="last completed").get_by_role("link")).to_have_text(good[:8])
    page.get_by_role("link", name="Compare with the last run that completed").click()

    differences = page.get_by_role("region", name="Differences")
    expect(differences.get_by_role("columnheader")).to_contain_text([good[:8], "Failed"])


@pytest.mark.exhaustive
def test_older_runs_are_other_pages(history: HistorySQLite, address: str, open_page: OpenPage) -> None:
    """A page has 50 runs."""
    for _ in range(53):
        quick(history).start()

    page = open_page(address)
    expect(page.locator(".run")).to_have_count(50)
    page.get_by_role("link", name="Older runs").click()
    expect(page.locator(".run")).to_have_count(3)
    page.get_by_role("link", name="Newest runs").click()
    expect(page.locator(".run")).to_have_count(50)


@pytest.mark.exhaustive
def test_a_grid_shows_where_tasks_fail(history: HistorySQLite, address: str, open_page: OpenPage) -> None:
    """Of each task its state in the last runs, in words, too; a column leads to its run."""
    reports.fail(history)
    begin(history, "running", "extract", "train")

    page = open_page(f"{address}workflow?id=nightly-orders")
    grid = page.get_by_role("region", name="Grid of runs and tasks")

    expect(page.locator(".why")).to_contain_text("none of these runs completed")
    expect(grid.get_by_role("row", name=re.compile("^load"))).to_contain_text("Failed")
    expect(grid.get_by_role("row", name=re.compile("^orders"))).to_contain_text("Completed")
    expect(grid.get_by_role("row", name=re.compile("^notify"))).to_contain_text("Not started")
    grid.get_by_role("columnheader").nth(1).get_by_role("link").click()
    expect(page.locator("h1")).to_contain_text("nightly-orders")


YEARS = """INSERT INTO runs (run_id, workflow_id, workflow, state, began, ended, begun, is_named, tasks, completed,
        failed, restored, skipped)
    WITH RECURSIVE days (day) AS (SELECT 0 UNION ALL SELECT day + 1 FROM days WHERE day < 399)
    SELECT 'day-' || day, 'nightly@day=' || date('2025-11-01', day || ' days'), 'nightly',
        IIF(day % 30 = 7, 'Failed', 'Completed'), 1e12 + day, 1e12 + day, 1, 1, 0, 0, 0, 0, 0
    FROM days WHERE day % 50 <> 20"""


@pytest.fixture
def days(history: HistorySQLite) -> None:
    """400 days of a workflow, of which some have failed, and 8 are missing; one of them has run since."""
    config = Config(history=history, log=LogDefault(output="none"))
    workflow = DotFlow(config, workflow_id="nightly", params={"day": ..., "region": "eu"})
    workflow.task.add(numbers)
    for region in ("eu", "us"):
        workflow.start(params={"day": "2026-12-05", "region": region})
    with closing(sqlite3.connect(history.path)) as connection:
        connection.execute(YEARS)
        connection.commit()


@pytest.mark.exhaustive
@pytest.mark.usefixtures("days")
def test_missing_and_failed_days_are_seen(address: str, open_page: OpenPage) -> None:
    """Each day of a parameter has a cell that leads to its run. Other parameters are a table."""
    page = open_page(f"{address}workflow?id=nightly")
    calendar = page.get_by_role("region", name="Calendar of day")

    expect(page.locator("#by-day .legend")).to_have_text("378 completed 14 failed 8 missing")
    expect(calendar.get_by_role("link")).to_have_count(392)
    expect(calendar.get_by_role("row", name=re.compile("^Fr"))).to_contain_text("2025-11-21: Missing")
    expect(page.get_by_role("region", name="Values of region").get_by_role("row")).to_have_count(3)
    calendar.get_by_role("link", name="2026-11-03: Failed").click()
    expect(page.locator("h1")).to_contain_text("nightly")
    expect(page).to_have_url(f"{address}runs/day-367")


@pytest.mark.exhaustive(keep_every=2)
@pytest.mark.usefixtures("days")
@pytest.mark.parametrize(
    ("width", "scheme"), [(1400, "light"), pytest.param(390, "dark", marks=pytest.mark.exhaustive)]
)
def test_a_calendar_is_accessible(address: str, open_page: OpenPage, width: int, scheme: str) -> None:
    """On a phone as on a screen. It shows the last day first, and the keyboard reaches days that have not completed."""
    page = open_page(f"{address}workflow?id=nightly", width=width, scheme=scheme)
    calendar = page.get_by_role("region", name="Calendar of day")
    expect(calendar.get_by_role("link", name=re.compile("^2026-12-05"))).to_be_in_viewport()

    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    calendar.get_by_role("link", name=re.compile("^2026-11-03")).focus()
    page.keyboard.press("Shift+Tab")
    assert "Failed" in page.evaluate("document.activeElement.textContent")


# What goes on


def test_a_run_is_followed_to_its_end(history: HistorySQLite, address: str, open_page: OpenPage) -> None:
    """Output, tasks and the end appear as they come."""
    begin(history, "running", "extract", "train")
    write(history, "running", 1, b"epoch 1\n")

    page = open_page(f"{address}runs/running")
    output = page.get_by_role("region", name="Output of train so far")
    expect(output).to_have_text("epoch 1")
    expect(page.locator("h1")).to_contain_text("Running")
    write(history, "running", 1, b"epoch 2\n")
    write(history, "running", 1, b"warning\n", stream=2)
    expect(output).to_contain_text("epoch 1\nepoch 2")
    expect(output.locator(".err")).to_have_text("warning")
    end(history, "running")
    look(page)

    expect(page.locator("h1")).to_contain_text("Completed")
    expect(output).to_have_count(0)
    page.locator("[data-open=task-1]").click()
    expect(page.get_by_role("region", name="Output of attempt 1 of train")).to_contain_text("epoch 1\nepoch 2")


@pytest.mark.exhaustive
def test_the_readers_view_stays(history: HistorySQLite, address: str, open_page: OpenPage) -> None:
    """Rows, folds, scrolled blocks, the focus and what is selected, while the run goes on around them."""
    begin(history, "running", "extract", "train")
    write(history, "running", 1, b"".join(b"line %d\n" % number for number in range(200)))
    page = open_page(f"{address}runs/running")
    page.locator("[data-open=task-1]").click()
    block = page.get_by_role("region", name="Output of attempt 1 of train")
    expect(block).to_contain_text("line 199")
    follows = page.get_by_role("region", name="Output of train so far")
    page.locator("summary", has_text="packages").click()
    page.evaluate(
        """() => {
        const [follows, block] = document.querySelectorAll("[data-output]");
        follows.scrollTop = follows.scrollHeight;
        block.scrollTop = 100;
        getSelection().setBaseAndExtent(block.querySelector("span").firstChild, 0,
            block.querySelector("span").firstChild, 6);
        window.node = block;
        }"""
    )

    write(history, "running", 1, b"the last line\n")
    look(page)
    expect(block).to_contain_text("the last line")

    assert page.evaluate("getSelection().toString()") == "line 0"
    assert page.evaluate("node.isConnected && node.scrollTop") == 100
    assert follows.evaluate("each => each.scrollTop + each.clientHeight >= each.scrollHeight - 2")
    expect(page.locator("summary", has_text="packages").locator("..")).to_have_attribute("open", "")
    expect(page.locator("summary", has_text="packages")).to_be_focused()


def call_many(history: HistorySQLite, *numbers: int) -> None:
    """Makes calls of the run `running`; 7 goes on."""
    for number in numbers:
        fields = (1, 1, number, "search", f"'{number}'", 0, f"{number:024x}", clock.now(), clock.monotonic())
        history.record("running", CallBegan(*fields))
        if number != 7:
            history.record("running", CallEnded(1, 1, number, f"'value {number}'", None, clock.monotonic()))
    history.settle("running", begins=True)


def shown_calls(page: Page) -> list[str]:
    """The numbers of the calls that are shown, and the words between them."""
    return page.locator(".calls li").evaluate_all(
        "(all) => all.map((each) => each.querySelector('.number')?.textContent ?? each.textContent)"
    )


def test_earlier_calls_are_read_as_they_are_asked_for(
    history: HistorySQLite, address: str, open_page: OpenPage
) -> None:
    """What was seen stays, also while others are made, and one that has ended meanwhile has its end."""
    begin(history, "running", "extract", "agent")
    call_many(history, *range(1, 91))
    page = open_page(f"{address}runs/running")
    page.locator("[data-open=task-1]").click()
    page.get_by_role("button", name="Show 50 of 70 earlier calls").click()
    page.get_by_role("button", name="Show 20 earlier calls").click()
    expect(page.locator(".calls li")).to_have_count(90)
    expect(page.locator("[id='call-1/-7']")).to_contain_text("running")

    call_many(history, *range(91, 131))
    history.record("running", CallEnded(1, 1, 7, "'late'", None, clock.monotonic()))
    history.settle("running", begins=True)

    expect(page.locator("[id='call-1/-7']")).to_contain_text("'late'made")
    assert shown_calls(page) == [*map(str, range(1, 91)), "Show 20 earlier calls", *map(str, range(111, 131))]
    page.get_by_role("button", name="Show 20 earlier calls").click()
    expect(page.locator(".calls li")).to_have_count(130)
    assert shown_calls(page) == [*map(str, range(1, 131))]


def test_calls_without_a_row_are_counted(
    history: HistorySQLite, address: str, open_page: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The history keeps the first and the last ones."""
    monkeypatch.setattr(call_rows, "FIRST", 3)
    monkeypatch.setattr(call_rows, "LAST", 20)
    begin(history, "running", "extract", "agent")
    call_many(history, *range(10, 60))
    page = open_page(f"{address}runs/running")
    page.locator("[data-open=task-1]").click()

    page.get_by_role("button", name="Show 30 earlier calls").click()

    expect(page.locator(".calls li")).to_have_count(24)
    assert shown_calls(page) == [
        "10",
        "11",
        "12",
        "27 earlier calls, of which there is no row",
        *map(str, range(40, 60)),
    ]
    expect(page.locator(".calls summary")).to_have_text("50 calls")


@pytest.mark.exhaustive
def test_of_a_long_output_the_end_is_shown(site: Site, tmp_path: Path, open_page: OpenPage) -> None:
    """With the number of bytes that are left out; what comes later is added."""
    with closing(HistorySQLite(tmp_path / "long.db", output_limit=4_000_000)) as history:
        begin(history, "running", "extract", "train")
        for number in range(30):
            write(history, "running", 1, b"line %02d" % number + b" " * 49_992 + b"\n")
        page = open_page(f"{site.add(history)}runs/running")
        output = page.get_by_role("region", name="Output of train so far")

        expect(output.locator(".gap")).to_have_text("… 500,000 bytes left out …")
        expect(output.locator(".out")).to_contain_text("line 29")
        write(history, "running", 1, b"the end\n")
        look(page)
        expect(output.locator(".out")).to_contain_text("the end")
        expect(output.locator(".gap")).to_have_text("… 500,000 bytes left out …")


@pytest.mark.exhaustive
def test_a_killed_run_is_shown_as_crashed(history: HistorySQLite, address: str, open_page: OpenPage) -> None:
    """Its process can't say so, but its lock is gone. How long it ran is known until its last event only."""
    with subprocess.Popen([sys.executable, "-c", ENDLESS, str(history.path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        page = open_page(f"{address}runs/last")
        expect(page.locator("h1")).to_contain_text("Running")
        process.kill()

        expect(page.locator("h1")).to_contain_text("Crashed")
        expect(page.locator(".headline")).to_contain_text("The process ended while endless was running")
        expect(page.locator(".tiles li").first).to_contain_text("at least")
        expect(page).to_have_title(re.compile("Crashed"))
        page.goto(address)
        expect(page.get_by_role("row", name=re.compile("Crashed"))).to_contain_text("at least")


@pytest.mark.exhaustive
def test_the_first_run_appears_on_an_empty_page(history: HistorySQLite, address: str, open_page: OpenPage) -> None:
    """Without a history, the page says how to make one, and shows the runs as they begin."""
    page = open_page(address)
    expect(page.locator("h1")).to_have_text("No runs yet")
    expect(page.get_by_text("dotflow start --step my_module.my_step")).to_be_visible()
    expect(page.get_by_text(str(history.path))).to_be_visible()

    begin(history, "running", "extract", "train")
    expect(page.locator(".run")).to_contain_text(["Running"])
    end(history, "running")
    look(page)
    expect(page.locator(".run")).to_contain_text(["Completed"])


@pytest.mark.exhaustive
def test_only_a_visible_page_asks(history: HistorySQLite, address: str, open_page: OpenPage) -> None:
    """Once a second; what has not changed is not sent again."""
    quick(history).start()
    statuses: list[int] = []
    page = open_page(address, before=lambda page: page.clock.install())
    expect(page.locator(".run")).to_have_count(1)
    page.on("response", lambda response: statuses.append(response.status))

    for _ in range(3):
        with page.expect_response("**/api/runs*"):
            page.clock.run_for(POLL)
    assert set(statuses) == {304}
    page.evaluate(
        "Object.defineProperty(document, 'hidden', { get: () => window.isHidden ?? true, configurable: true })"
    )
    page.clock.run_for(20 * POLL)
    seen = len(statuses)
    page.clock.run_for(20 * POLL)
    assert len(statuses) == seen
    with page.expect_response("**/api/runs*"):
        page.evaluate("window.isHidden = false; document.dispatchEvent(new Event('visibilitychange'))")


# What is wrong


def test_a_run_that_is_not_there(history: HistorySQLite, address: str, open_page: OpenPage) -> None:
    """The page has words."""
    quick(history).start()

    page = open_page(f"{address}runs/nope", tolerates=FAILED)

    expect(page.get_by_role("status")).to_contain_text("Can't find the run 'nope'")


@pytest.mark.exhaustive
def test_a_page_outlives_its_server(history: HistorySQLite, address: str, open_page: OpenPage) -> None:
    """It shows what it has, says that it can't be reached, and goes on when it can."""
    begin(history, "running", "extract", "train")
    page = open_page(address, tolerates=FAILED)
    expect(page.locator(".run")).to_contain_text(["Running"])

    page.route("**/api/**", lambda route: route.abort())
    look(page)
    expect(page.get_by_role("status")).to_contain_text("dotflow ui can't be reached")
    expect(page.locator(".run")).to_contain_text(["Running"])
    end(history, "running")
    page.unroute("**/api/**")
    look(page)

    expect(page.locator(".run")).to_contain_text(["Completed"])
    expect(page.get_by_role("status")).to_have_text("")


@pytest.mark.exhaustive
def test_a_page_that_can_not_be_drawn_asks_again(history: HistorySQLite, address: str, open_page: OpenPage) -> None:
    """A response that makes no sense is not its last one."""
    page = open_page(address, tolerates="Cannot read properties of null")
    expect(page.locator("h1")).to_have_text("No runs yet")

    page.route("**/api/**", lambda route: route.fulfill(json={"runs": None}))
    with page.expect_event("pageerror"), page.expect_response("**/api/**"):
        pass
    page.unroute("**/api/**")
    quick(history).start()

    expect(page.locator(".run")).to_contain_text(["Completed"])


def test_a_damaged_history(history: HistorySQLite, address: str, open_page: OpenPage) -> None:
    """The page has words."""
    history.path.write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)

    page = open_page(address, tolerates=FAILED)

    expect(page.get_by_role("status")).to_contain_text("can't be read")


def test_the_token_lets_in(history: HistorySQLite, open_page: OpenPage) -> None:
    """The printed address leads to a clean one, which needs the cookie; going back does not bring the token back."""
    quick(history).start()
    with serving(history.path, "--port", "0") as (_, line):
        address, token = line.strip().split("?token=")
        strange = open_page(f"{address}?token=wrong", tolerates=FAILED)
        expect(strange.locator("body")).to_contain_text("Open the address that it printed")

        page = open_page(line.strip())
        elsewhere = open_page(
            f"data:text/html,<link rel=icon href=data:,><a href='{line.strip()}'>runs</a>", offline=False
        )
        elsewhere.get_by_role("link").click()

        expect(elsewhere.locator(".run")).to_have_count(1)
        expect(page.locator(".run")).to_have_count(1)
        expect(page).to_have_url(address)
        assert page.evaluate("history.length") <= 2
        assert page.evaluate("document.cookie") == ""
        (cookie,) = page.context.cookies()
        assert (cookie["value"], cookie["httpOnly"], cookie["sameSite"]) == (token, True, "Strict")
        for tab in (page, elsewhere):
            tab.goto("about:blank")  # before the server ends


@pytest.mark.exhaustive
def test_the_page_that_a_browser_is_opened_with_lets_in(
    history: HistorySQLite, open_page: OpenPage, tmp_path: Path
) -> None:
    """It is a file, which leads to the clean address."""
    quick(history).start()
    pipe, variables = make_browser(tmp_path)
    with serving(history.path, "--port", "0", **variables) as (_, line):
        page = open_page(path_of(pipe.read_text()), offline=False)

        expect(page.locator(".run")).to_have_count(1)
        expect(page).to_have_url(line.partition("?")[0])
        page.goto("about:blank")  # before the server ends


# For everyone


@pytest.mark.exhaustive(keep_every=2)
@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (390, "dark"),
        pytest.param(1400, "light", marks=pytest.mark.exhaustive),
        pytest.param(1400, "dark", marks=pytest.mark.exhaustive),
        pytest.param(390, "light", marks=pytest.mark.exhaustive),
    ],
)
def test_pages_are_accessible(filled: str, width: int, scheme: str, open_page: OpenPage) -> None:
    """Axe finds nothing, on a phone as on a screen, and nothing is wider than the page."""
    page = open_page(filled, width=width, scheme=scheme)
    views = [
        "",
        "?search=nothing",
        "runs/running",
        "workflow?id=hourly",
        "workflow?id=nightly-orders",
        "diff?a=crashed&b=running",
    ]
    for view in views:
        page.goto(filled + view)
        page.locator("h1", has_not_text="Reading").wait_for()
        assert violations(page) == [], view
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), view


@pytest.mark.exhaustive
def test_an_empty_page_is_accessible(address: str, open_page: OpenPage) -> None:
    """So is the first page that most people see."""
    page = open_page(address)
    page.get_by_text("How to record runs").wait_for()

    assert violations(page) == []


@pytest.mark.exhaustive
def test_texts_of_runs_are_text(history: HistorySQLite, address: str, open_page: OpenPage) -> None:
    """In every view, whatever a workflow, a task, an error or output contains."""
    workflow = " ".join(reports.HOSTILE)
    other = quick(history, name=workflow).start().run_id
    begin(history, "hostile", *reports.HOSTILE)
    write(history, "hostile", len(reports.HOSTILE) - 1, workflow.encode())
    page = open_page(address)
    expect(page.locator(".run")).to_have_count(2)
    quoted = page.evaluate("encodeURIComponent", workflow)

    page.goto(f"{address}workflow?id={quoted}")
    expect(page.locator(".matrix tbody tr")).to_have_count(1)
    page.goto(f"{address}runs/hostile")
    expect(page.locator(".output").first).to_contain_text(reports.HOSTILE[0])
    page.goto(f"{address}?search={quoted}&workflow={quoted}")
    expect(page.locator(".run")).to_have_count(1)
    page.goto(f"{address}diff?a=hostile&b={other}")
    expect(page.locator(".diff")).to_contain_text(reports.HOSTILE[0])

    assert page.evaluate("window.attacked") is None
