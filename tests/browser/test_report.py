"""The report of a run in a browser: what a reader sees, opens, copies, prints, and reaches without a mouse."""

import contextlib
import json
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from dotflow.core.files import GONE, FileRecord, FileState
from dotflow.core.types.attempt_state import TypeAttemptState as State
from dotflow.core.types.run_state import TypeRunState
from dotflow.providers import HistorySQLite
from dotflow.report.document import document
from dotflow.report.page import make_page
from tests.browser import reports
from tests.browser.conftest import OpenPage, violations
from tests.histories import begin, crash, write
from tests.unit.run_samples import FAILED, a_run, a_task, an_attempt

WIDTHS = (1400, 390)
SCHEMES = ("light", "dark")


@pytest.fixture(scope="package")
def failed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run that failed."""
    folder = tmp_path_factory.mktemp("failed")
    with contextlib.chdir(folder):  # a history of one's own: all commands are offered
        history = HistorySQLite()
        reports.fail(history)
        return reports.write_report(folder / "run.html", history)


@pytest.fixture(scope="package")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run with 10,000 items."""
    path = tmp_path_factory.mktemp("large") / "run.html"
    return reports.write(path, reports.map_of(10_000))


@pytest.fixture(scope="package")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run whose texts are all hostile."""
    path = tmp_path_factory.mktemp("hostile") / "run.html"
    path.write_text(make_page(reports.hostile()))
    return path


@pytest.fixture(scope="package")
def durable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run with a durable step of 43 calls."""
    folder = tmp_path_factory.mktemp("durable")
    history = HistorySQLite(folder / "history.db")
    reports.search_on(history, 40)
    return reports.write_report(folder / "run.html", history)


def open_all(page: Page) -> None:
    """Opens every row and everything that is folded."""
    page.evaluate("document.querySelectorAll('[data-open][aria-expanded=false]').forEach((each) => each.click())")
    page.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true))")


def test_the_failure_comes_first(failed: Path, open_page: OpenPage) -> None:
    """A failed run begins with what stopped it: message, place, traceback, last output and the command to replay it."""
    page = open_page(failed)

    expect(page).to_have_title(re.compile("Failed.*nightly-orders"))
    expect(page.locator("h1")).to_contain_text("nightly-orders")
    expect(page.locator("h1")).to_contain_text("Failed")
    expect(page.locator("link[rel=icon]")).to_have_attribute("href", re.compile("^data:image/svg"))
    expect(page.locator(".headline")).to_contain_text(
        "load failed after 2 attempts: ConnectionError: warehouse-2 closed the connection after 4096 rows"
    )
    expect(page.locator("h2").first).to_have_text("What went wrong")
    first = page.locator(".failure").first
    expect(first.get_by_role("heading")).to_contain_text("load")
    expect(first.locator(".message")).to_have_text("ConnectionError: warehouse-2 closed the connection after 4096 rows")
    expect(first.locator(".raised-at")).to_contain_text(re.compile(r"in load, .*reports\.py:\d+"))
    expect(first.get_by_role("region", name="Traceback of load")).to_contain_text("Traceback (most recent call last)")
    output = first.get_by_role("region", name="Output of load")
    expect(output).to_contain_text("connecting to warehouse-2")
    expect(output.locator(".err")).to_have_text("warning: the server closed the connection")
    items = page.locator(".failure").nth(1)
    expect(items).to_contain_text("convert#4")
    expect(items).to_contain_text("1 more item failed in the same way: #11 11.")
    expect(items).to_contain_text("The run went on with the other items.")


def test_what_a_map_may_lack_is_named(tmp_path: Path, open_page: OpenPage) -> None:
    """A run that completed has the failed items that the map's keep_going allows, with the command that shows one."""
    history = HistorySQLite(path=tmp_path / "runs.db")
    reports.tolerate(history)
    page = open_page(reports.write_report(tmp_path / "run.html", history))

    expect(page).to_have_title(re.compile("Completed.*nightly-orders"))
    expect(page.locator(".headline")).to_contain_text("2 items of convert failed, as keep_going allows.")
    expect(page.locator("h2").first).to_have_text("What failed, as keep_going allows")
    items = page.locator(".failure")
    expect(items).to_contain_text("convert#4")
    expect(items).to_contain_text("1 more item failed in the same way: #11 11.")
    expect(items.get_by_role("button", name=re.compile("^Copy: dotflow show .* convert#4$"))).to_have_count(1)


@pytest.mark.exhaustive
def test_a_command_is_copied(failed: Path, open_page: OpenPage) -> None:
    """The button of a command copies exactly the command, also where the page may not use the clipboard's interface."""
    for grant in (["clipboard-read", "clipboard-write"], []):
        page = open_page(failed, permissions=grant)
        button = page.get_by_role("button", name=re.compile("^Copy: dotflow replay")).first
        command = button.get_attribute("data-copy")
        button.click()
        expect(button).to_have_text("Copied")
        page.context.grant_permissions(["clipboard-read"])

        assert page.evaluate("navigator.clipboard.readText()").replace("$ ", "") == command
        assert re.fullmatch(r"dotflow replay [0-9a-f]{8} load", command or "")


def test_a_row_opens(failed: Path, open_page: OpenPage) -> None:
    """A task's row, bar and node lead to its step, attempts, errors and output; again closes the row."""
    page = open_page(failed)
    button = page.locator("[data-open=task-2]")
    cell = page.locator("#task-2 td").first
    for link in (button, cell, page.locator(".row", has_text="load"), page.locator(".node", has_text="load")):
        link.click()
        expect(button).to_have_attribute("aria-expanded", "true")
        detail = page.locator("#detail-2")
        expect(detail).to_contain_text("tests.browser.reports:load")
        expect(detail).to_contain_text("Attempt 1: failed, tried again")
        expect(detail.get_by_role("region", name="Output of attempt 2 of load")).to_contain_text("connecting")
        button.click()
        expect(button).to_have_attribute("aria-expanded", "false")
    page.locator("[data-open=task-1]").click()
    page.locator("#item-1-11 > summary").click()
    expect(page.locator("#item-1-11")).to_contain_text("ValueError: order 11: unknown currency 'XBT'")


def test_a_durable_step_lists_its_last_calls(durable: Path, open_page: OpenPage) -> None:
    """As `dotflow show` does: number, call, value, state and duration; it says how many came before."""
    page = open_page(durable)
    page.locator("[data-open=task-0]").click()
    calls = page.locator(".calls")

    expect(calls.locator("summary")).to_have_text("43 calls")
    expect(calls.locator("li")).to_have_count(21)
    expect(calls.locator("li").first).to_have_text("23 earlier calls, which dotflow show --all lists")
    expect(calls.locator("li").nth(1)).to_have_text(re.compile(r"^24search\('23'\)'23'made(< 1|\d+) ms$"))
    insets = [page.locator(f"[id='call-0/-{number}'] code").first.bounding_box() for number in (41, 42)]
    assert [box and box["x"] for box in insets] == [insets[0] and insets[0]["x"], insets[0] and insets[0]["x"] + 18]


def test_a_failed_call_has_its_traceback(tmp_path: Path, open_page: OpenPage) -> None:
    """Below its error."""
    history = HistorySQLite(tmp_path / "history.db")
    reports.search_on(history, 3)
    page = open_page(reports.write_report(tmp_path / "run.html", history))
    page.locator("[data-open=task-0]").click()
    call = page.locator("[id='call-0/-2']")

    expect(call).to_contain_text("ConnectionError: the search engine is down")
    expect(call).to_contain_text("failed")
    call.locator("summary").click()
    expect(page.get_by_role("region", name="Traceback of call 2 of agent")).to_contain_text("in search")


def test_everything_is_reached_by_keyboard(failed: Path, open_page: OpenPage) -> None:
    """Tab reaches every link, button and scrolled region in the order of the page, and Enter opens a row."""
    page = open_page(failed)
    reached = []
    name = "const name = (each) => each.getAttribute('aria-label') ?? each.textContent;"
    expected = page.evaluate(
        f"""() => {{ {name} return [...document.querySelectorAll("a, button, summary, [tabindex='0']")]
        .filter((each) => each.checkVisibility()).map(name) }}"""
    )
    for _ in expected:
        page.keyboard.press("Tab")
        reached.append(page.evaluate(f"() => {{ {name} return name(document.activeElement) }}"))
    assert reached == expected
    assert any("Timeline" in text for text in expected)
    assert any("Graph" in text for text in expected)
    page.locator(".row", has_text="load").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#task-2 button")).to_be_focused()
    expect(page.locator("#detail-2")).to_be_visible()


@pytest.mark.exhaustive(keep_every=2)
@pytest.mark.timeout(60)  # axe reads the large report for seconds
@pytest.mark.parametrize(
    ("width", "scheme", "names"),
    [
        (1400, "light", ("failed", "large")),
        (390, "dark", ("failed", "hostile", "durable")),
        pytest.param(1400, "light", ("hostile",), marks=pytest.mark.exhaustive),
        pytest.param(390, "dark", ("large",), marks=pytest.mark.exhaustive),
        pytest.param(1400, "dark", ("failed", "durable"), marks=pytest.mark.exhaustive),
        pytest.param(390, "light", ("failed",), marks=pytest.mark.exhaustive),
    ],
)
def test_axe_finds_nothing(
    request: pytest.FixtureRequest, open_page: OpenPage, width: int, scheme: str, names: tuple[str, ...]
) -> None:
    """The pages break none of axe's rules for accessibility, with everything open; no text is under 12 px."""
    for name in names:
        page = open_page(request.getfixturevalue(name), width=width, scheme=scheme)
        open_all(page)
        assert violations(page) == [], name
        sizes = page.evaluate(
            """[...document.querySelectorAll('#page *')].filter((each) => each.checkVisibility() &&
            [...each.childNodes].some((child) => child.nodeType === 3 && child.data.trim()))
            .map((each) => parseFloat(getComputedStyle(each).fontSize))"""
        )
        assert min(sizes) >= 12
        assert page.evaluate("document.documentElement.scrollWidth") == width


def test_a_node_is_called_by_its_text(failed: Path, open_page: OpenPage) -> None:
    """Its name for a screen reader begins with the text that is seen, and has the state."""
    page = open_page(failed)

    for name in (r"orders .*: Completed", r"convert Failed: 20 items.*", r"load Failed: .*", "notify Not started"):
        expect(page.locator("svg.graph").get_by_role("link", name=re.compile(f"^{name}$"))).to_have_count(1)


def test_texts_of_a_run_are_no_markup(hostile: Path, open_page: OpenPage) -> None:
    """No name, message, output or value is markup, whatever it contains: nothing runs, and all of it is shown."""
    page = open_page(hostile)
    open_all(page)

    assert page.evaluate("window.attacked") is None
    assert page.locator("script").count() == 2
    assert page.locator("#page :is(img, script, style, iframe, object, b > svg)").count() == 0
    assert page.locator("style").count() == 1
    text = page.locator("#page").inner_text()
    for hostile_text in reports.HOSTILE[:8]:
        assert hostile_text in text
    assert "\\u202egnp.exe" in text
    links = page.locator("a").evaluate_all("(links) => links.map((each) => each.getAttribute('href'))")
    assert all(re.fullmatch(r"#task-\d+", link) for link in links)


def test_a_long_message_hides_nothing(tmp_path: Path, open_page: OpenPage) -> None:
    """Its beginning is shown, and all of it in the traceback."""
    message = f"{'x' * 5000} the end"
    error = reports.ErrorRecord("ValueError", message, f"Traceback (most recent call last):\nValueError: {message}\n")
    failed = reports.attempt(None, 0, State.FAILED)._replace(errors=[error])
    run = reports.record([reports.task(0, "load", attempts=[failed])], state=TypeRunState.FAILED)
    page = open_page(reports.write(tmp_path / "run.html", run))

    expect(page.locator(".headline")).to_have_text(re.compile(r"^\w+ failed: ValueError: x{160} …\.$"))
    expect(page.locator("#wrong .message")).to_have_text(re.compile(r"^ValueError: x{1000} …$"))
    expect(page.locator("#wrong .traceback")).to_contain_text("the end")


@pytest.mark.exhaustive
def test_10000_items_are_one_bar(large: Path, open_page: OpenPage) -> None:
    """A run of 10,000 items is a file under 1 MB and few elements, also when its row is open."""
    page = open_page(large)
    page.locator("[data-open=task-1]").click()

    assert large.stat().st_size < 1_000_000
    assert page.evaluate("document.querySelectorAll('*').length") < 1000
    expect(page.locator(".density path.failed")).to_have_count(1)
    expect(page.locator("#detail-1")).to_contain_text("9,990 completed, 10 failed")
    expect(page.locator("#detail-1 .item")).to_have_count(10)
    expect(page.get_by_role("img", name="Each dot is an item")).to_be_visible()


def test_without_scripts_it_is_a_table(failed: Path, open_page: OpenPage) -> None:
    """Where no script runs, the tasks are a table, and the errors stand below."""
    page = open_page(failed, java_script_enabled=False)

    expect(page.locator("tbody tr")).to_have_count(4)
    expect(page.locator("pre").last).to_contain_text("ConnectionError: warehouse-2 closed the connection")
    expect(page.locator("h1")).to_contain_text("Failed")


def test_it_prints(failed: Path, open_page: OpenPage) -> None:
    """On paper nothing is cut off or dark."""
    page = open_page(failed, scheme="dark", width=800)
    page.emulate_media(media="print", color_scheme="dark")

    cut = (
        "[...document.querySelectorAll('.scroll, .table')].filter((each) => each.scrollHeight > each.clientHeight + 1)"
    )
    assert page.evaluate(f"{cut}.length") == 0
    assert page.evaluate("document.documentElement.scrollWidth") == 800
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.querySelector('h2')).color") == "rgb(27, 35, 48)"
    assert len(page.pdf()) > 10_000


@pytest.mark.exhaustive
def test_a_graph_of_700_tasks_has_all_of_them_apart(tmp_path: Path, open_page: OpenPage) -> None:
    """Each task is a node that covers no other one, and each need an arrow."""
    needs = [[number - 25, 7 * number % (number - number % 25)] if number >= 25 else [] for number in range(700)]
    steps = [reports.task(number, f"task_{number}", needs=needs[number]) for number in range(700)]
    page = open_page(reports.write(tmp_path / "run.html", reports.record(steps)))

    boxes = page.locator(".node > rect").evaluate_all(
        "(all) => all.map((each) => each.getBoundingClientRect()).map((box) => [box.x, box.y, box.width, box.height])"
    )
    assert len(boxes) == 700
    assert page.locator("path.edge").count() == sum(len(step.needs) for step in steps)
    for index, (x, y, w, h) in enumerate(boxes):
        for other_x, other_y, _, _ in boxes[index + 1 :]:
            assert abs(x - other_x) >= w or abs(y - other_y) >= h


def test_a_completed_run_has_nothing_wrong(tmp_path: Path, open_page: OpenPage) -> None:
    """It has no box of failures."""
    run = reports.record([reports.task(0, "extract"), reports.task(1, "load", needs=[0])])
    page = open_page(reports.write(tmp_path / "run.html", run))

    expect(page.locator("h1")).to_contain_text("Completed")
    expect(page.locator("#wrong")).to_have_count(0)
    expect(page.locator(".headline")).to_contain_text("All completed")


def test_a_crashed_run_shows_its_steps_and_their_last_output(tmp_path: Path, open_page: OpenPage) -> None:
    """The page of a run whose process was killed says so, and what ran and was printed last."""
    history = HistorySQLite(path=tmp_path / "history.db")
    begin(history, "crashed-run", "extract", "load")
    write(history, "crashed-run", 1, b"allocating 40 GB\n")
    crash(history, "crashed-run")
    page = open_page(reports.write_report(tmp_path / "run.html", history))

    expect(page.locator(".headline")).to_have_text("The process ended while load was running.")
    expect(page.locator("h2").first).to_have_text("Why it stopped")
    expect(page.locator(".failure")).to_contain_text("load")
    expect(page.get_by_role("region", name="Output of load")).to_contain_text("allocating 40 GB")


def test_a_running_run_shows_how_far_it_is(tmp_path: Path, open_page: OpenPage) -> None:
    """It says what runs, how far its items are and how to follow it; a bar of what runs ends now."""
    states = [State.COMPLETED] * 3 + [State.FAILED, State.RUNNING]
    items = {number: [reports.attempt(number, 1, state)] for number, state in enumerate(states)}
    whole = reports.attempt(None, 1, State.RUNNING)
    steps = [reports.task(0, "orders"), reports.task(1, "convert", attempts=[whole], items=items, count=10)]
    later = reports.attempt(None, 2, State.RETRY)
    steps.append(reports.task(2, "load", attempts=[later]))
    run = reports.record(steps, state=TypeRunState.RUNNING, ended=None)
    commands = [{"task_id": None, "item": None, "command": "dotflow show 7f3a9c12 --output -f", "purpose": "follow it"}]
    path = tmp_path / "run.html"
    path.write_text(make_page(document(run) | {"commands": commands, "made": "2026-11-24T02:01:41Z"}))
    page = open_page(path)

    expect(page.locator(".headline")).to_have_text(
        "convert is running: 3 of 10 items completed. 1 item of convert failed."
    )
    expect(page.locator("h2").first).to_have_text("What went wrong so far")
    expect(page.locator(".failure")).to_contain_text("ValueError: item 3 is refused")
    expect(page.locator("#task-1")).to_contain_text("1 min 40 s")
    expect(page.locator("#task-2")).to_contain_text("Waiting")
    expect(page.locator(".shell")).to_contain_text("dotflow show 7f3a9c12 --output -f")
    right, now = page.evaluate(
        """['.density', '.track'].map((each) => document.querySelectorAll(each)).map(([first, second]) =>
        (second ?? first).getBoundingClientRect().right)"""
    )
    assert right == pytest.approx(now, abs=1)


@pytest.mark.exhaustive
def test_rounds_are_counted_as_rounds(tmp_path: Path, open_page: OpenPage) -> None:
    """How many there are at most, and in a run that failed no other rounds that it went on with."""
    whole = reports.attempt(None, 1, State.RUNNING)
    rounds = {number: [reports.attempt(number, number, State.COMPLETED)] for number in range(3)}
    task = reports.task(0, "refine", attempts=[whole], policy={"repeat": 8}, items=rounds, count=8)
    page = open_page(reports.write(tmp_path / "running.html", reports.record([task], state=TypeRunState.RUNNING)))

    expect(page.locator(".headline")).to_have_text("refine is running: 3 of at most 8 rounds completed.")
    page.locator("#task-0 button").click()
    expect(page.locator("#detail-0")).to_contain_text("Rounds8: 3 completed")
    expect(page.locator("#detail-0")).to_contain_text("at most 8 rounds")
    expect(page.locator("#detail-0")).to_contain_text("Each dot is a round")
    expect(page.locator(".tiles")).not_to_contain_text("items")
    rounds[2] = [reports.attempt(2, 2, State.FAILED)]
    end = [reports.attempt(None, 2, State.FAILED)]
    failed = reports.task(0, "refine", attempts=end, policy={"repeat": 8}, items=rounds, count=3)
    steps = [failed, reports.task(1, "good", needs=[0], attempts=end)]
    page = open_page(reports.write(tmp_path / "failed.html", reports.record(steps, state=TypeRunState.FAILED)))
    expect(page.locator(".headline")).to_contain_text("1 round of refine failed")
    expect(page.locator(".failure").first).not_to_contain_text("went on")


@pytest.mark.exhaustive(keep_every=2)
@pytest.mark.parametrize("state", [TypeRunState.CANCELLED, TypeRunState.INTERRUPTED])
def test_a_stopped_run_says_why(tmp_path: Path, open_page: OpenPage, state: TypeRunState) -> None:
    """A cancelled or interrupted run begins with the reason."""
    steps = [reports.task(0, "extract"), reports.task(1, "load", attempts=[])]
    run = reports.record(steps, state=state, reason="Ctrl-C")
    page = open_page(reports.write(tmp_path / "run.html", run))

    expect(page.locator("#wrong")).to_contain_text("Ctrl-C")
    expect(page.locator(".headline")).to_have_text("Ctrl-C. load did not start.")


def test_items_of_a_map_in_rounds_have_their_rounds(tmp_path: Path, open_page: OpenPage) -> None:
    """How many there are in each, and beside an item that failed its own, after which no other round began."""
    states = [State.COMPLETED, State.COMPLETED, State.FAILED]
    items = {
        item: [reports.attempt(item, item, state)._replace(round=(item + 1) // 2)] for item, state in enumerate(states)
    }
    task = reports.task(0, "level.fetch", attempts=[reports.attempt(None, 2, State.FAILED)], items=items, count=3)
    steps = [task, reports.task(1, "level.found", needs=[0], attempts=[reports.attempt(None, 4, State.FAILED)])]
    page = open_page(reports.write(tmp_path / "failed.html", reports.record(steps, state=TypeRunState.FAILED)))

    expect(page.locator(".failure").first).to_contain_text("level.fetch#2 round 1", use_inner_text=True)
    expect(page.locator(".failure").first).not_to_contain_text("went on")
    page.locator("#task-0 button").click()
    expect(page.locator("#detail-0")).to_contain_text("Items by round1 in round 0 and 2 in round 1")
    expect(page.locator("#item-0-2 > summary")).to_contain_text("round 1")


def test_restored_cached_and_skipped_tasks_differ(tmp_path: Path, open_page: OpenPage) -> None:
    """Each has its word in the timeline, the graph and the table."""
    states = [State.RESTORED, State.CACHED, State.SKIPPED]
    earlier = reports.BEGAN - timedelta(hours=1)
    ends = [reports.AttemptRecord(None, 0, state, earlier) for state in states]
    steps = [reports.task(number, f"task_{number}", attempts=[end]) for number, end in enumerate(ends)]
    run = reports.record([*steps, reports.task(3, "last")])
    page = open_page(reports.write(tmp_path / "run.html", run))

    for number, state in enumerate(states):
        for part in (".row", ".node", ".task"):
            expect(page.locator(part).nth(number)).to_contain_text(re.compile(state, re.IGNORECASE))
    expect(page.locator(".row .bar")).to_have_count(1)


@pytest.mark.exhaustive
def test_a_page_that_changes_keeps_the_readers_view(failed: Path, open_page: OpenPage) -> None:
    """A newer document leaves rows, folds, the focus, the selection and the scrolled position as they are."""
    page = open_page(failed)
    page.locator("[data-open=task-2]").click()
    page.locator("#wrong summary").first.click()
    page.locator("#detail-2 summary").first.click()
    page.evaluate("getSelection().selectAllChildren(document.querySelector('.headline'))")
    page.evaluate("window.kept = document.querySelector('#detail-2')")
    page.locator("#detail-2 summary").first.focus()
    page.evaluate("scrollTo(0, 700)")
    top = "document.querySelector('#detail-2').getBoundingClientRect().top"
    before = page.evaluate(top)
    page.evaluate(
        """() => {
            const doc = structuredClone(state.doc);
            doc.tasks[3].state = 'Running';
            doc.tasks[3].attempts = [{ ...doc.tasks[0].attempts[0], state: 'Running', duration: null }];
            doc.run.duration = null;
            show(runView, doc);
        }"""
    )

    expect(page.locator("#task-3")).to_contain_text("Running")
    assert page.evaluate("window.kept === document.querySelector('#detail-2')")
    assert page.evaluate("document.querySelector('#wrong details').open") is False
    assert page.evaluate("document.querySelector('#detail-2 details').open") is True
    assert page.evaluate("document.activeElement === document.querySelector('#detail-2 summary')")
    assert page.evaluate("getSelection().toString()").startswith("load failed")
    assert page.evaluate(top) == pytest.approx(before, abs=1)


@pytest.mark.exhaustive
def test_the_files_of_a_step_are_listed(tmp_path: Path, open_page: OpenPage) -> None:
    """In its row: the path as text, what the attempt did, size and time then. Of many, the others are counted."""
    states = {f"{number:02}.csv": FileState(4096, 10**18) for number in range(21)}
    files = FileRecord(made={"<b>.csv": FileState(12, 10**18)}, changed={"raw": GONE}, taken=states)
    attempt = an_attempt()._replace(files_text=files.as_text())
    item = an_attempt(FAILED, item=0)._replace(files_text=FileRecord(made={"item.csv": GONE}).as_text())
    run = a_run(a_task(0, attempt), a_task(1, an_attempt(FAILED), items={0: [item]}, count=1))
    page = open_page(reports.write(tmp_path / "run.html", run))

    open_all(page)

    listed = page.locator("#detail-0 ul li")
    expect(listed).to_have_count(21)
    expect(listed.nth(0)).to_contain_text("<b>.csv made · 12 B")
    expect(listed.nth(0)).to_contain_text("9 Sept 2001")
    expect(listed.nth(1)).to_have_text("raw changed · gone")
    expect(listed.nth(20)).to_have_text("and 3 more files")
    expect(page.locator("#item-1-0")).to_contain_text("item.csv made · gone")


@pytest.mark.exhaustive
@pytest.mark.usefixtures("chromium")
def test_the_pictures_of_the_documentation_can_be_taken_again(tmp_path: Path) -> None:
    """`make screenshots` takes them."""
    program = Path(__file__).parent.parent.parent / "scripts/screenshots/take.py"
    subprocess.run([sys.executable, program, tmp_path], check=True, timeout=18)

    for picture in ("run-page.webp", "runs-page.webp"):
        assert 50_000 < (tmp_path / picture).stat().st_size < 200_000


def test_the_document_in_the_page_is_the_documented_one(failed: Path) -> None:
    """What the page draws can be read from it as JSON."""
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', failed.read_text(), re.DOTALL)
    assert data is not None
    assert json.loads(data[1])["run"]["workflow_id"] == "nightly-orders"
