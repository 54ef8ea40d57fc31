"""The buttons of `dotflow ui --write` in a browser: by mouse and by keyboard, for two readers, and for attackers."""

import re
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from dotflow import Control, DotFlow, action, serve
from dotflow.core.types.run_state import TypeRunState
from dotflow.providers import HistorySQLite
from tests.browser.conftest import OpenPage, violations
from tests.browser.site import Site
from tests.histories import asking, begin, rows

FAILED = "Failed to load resource"  # Chromium's own message about a response that is an error
MAX_TABS = 60
#: Keeps the title of the page after each look at the server.
LOOKS = """() => {
    const look = refresh;
    looks = [];
    refresh = async () => { await look(); looks.push(document.querySelector("h1").textContent); };
}"""
Hand = Callable[[Page, Locator], None]


@pytest.fixture
def report(history: HistorySQLite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DotFlow:
    """A workflow that fails, and after that asks."""
    monkeypatch.chdir(tmp_path)
    return asking(history, top=3)


@pytest.fixture
def address(site: Site, history: HistorySQLite) -> str:
    """The address of the pages of the history, whose readers have the name in a header."""
    return site.add(history, lambda scope: dict(scope["headers"]).get(b"x-user", b"").decode() or None)


def button(page: Page, name: str) -> Locator:
    return page.get_by_role("region", name="Orders").get_by_role("button", name=name, exact=True)


def confirmed(page: Page, name: str) -> Locator:
    return page.locator("#ask").get_by_role("button", name=name, exact=True)


def confirm(page: Page, name: str) -> None:
    confirmed(page, name).click()


def as_user(name: str) -> dict[str, Any]:
    return {"extra_http_headers": {"X-User": name}}


# What they do


def by_mouse(page: Page, target: Locator) -> None:
    """Clicks something."""
    target.click()


def by_keyboard(page: Page, target: Locator) -> None:
    """Goes to something with Tab, and presses Enter on what is no field."""
    for _ in range(MAX_TABS):
        if target.evaluate("(element) => element === document.activeElement"):
            break
        page.keyboard.press("Tab")
    expect(target).to_be_focused()
    if target.evaluate("(element) => !element.matches('input')"):
        page.keyboard.press("Enter")


def write_into(page: Page, hand: Hand, label: str, text: str) -> None:
    """Replaces the text of a field."""
    hand(page, page.get_by_label(label))
    page.keyboard.press("Control+A")
    page.keyboard.type(text)


def follows(page: Page, report: DotFlow, run: str, state: str) -> None:
    """Waits until a run is in a state; the page shows it within two looks, which are a second apart."""
    assert Control(report).wait(run, 30).state == state
    seen = page.evaluate("looks.length")
    page.wait_for_function("(state) => looks.some((title) => title.includes(state))", arg=state)
    titles = page.evaluate("looks")
    assert any(state in title for title in titles[: seen + 2])


@pytest.mark.exhaustive(keep_every=2)
@pytest.mark.parametrize("hand", [by_mouse, by_keyboard])
def test_a_run_fails_is_retried_asks_is_approved_by_another_reader_and_completes(
    report: DotFlow, address: str, open_page: OpenPage, tmp_path: Path, hand: Hand
) -> None:
    """The first page follows each step within two seconds, and shows in the end who did what."""
    with serve(report, wait=False):
        run = report.submit()
        page = open_page(f"{address}runs/{run}", **as_user("anna"))
        page.evaluate(LOOKS)
        follows(page, report, run, "Failed")
        expect(page.locator(".headline")).to_contain_text("1 item of load failed")

        (tmp_path / "mended").touch()
        hand(page, button(page, "Retry what failed"))
        expect(page.locator("#ask")).to_contain_text("1 of 3 items of 'load' runs again. 1 more item follows.")
        write_into(page, hand, "Comment", "the warehouse is back")
        hand(page, confirmed(page, "Retry what failed"))
        expect(page.locator("#answer")).to_contain_text("is queued, and continues")
        follows(page, report, run, "Paused")
        expect(page.locator(".why")).to_contain_text("publish asks: Publish [0, 1, 2] rows?")

        other = open_page(address, **as_user("berta"))
        hand(other, other.locator("#needs-waiting").get_by_role("link", name="report"))
        hand(other, button(other, "Approve"))
        expect(other.locator("#ask")).to_contain_text("Yes to: Publish [0, 1, 2] rows?")
        write_into(other, hand, "Value as JSON", "not json")
        hand(other, confirmed(other, "Approve"))
        expect(other.get_by_role("alert")).to_contain_text("The value is no JSON")
        write_into(other, hand, "Value as JSON", "300")
        write_into(other, hand, "Comment", "looks right")
        hand(other, confirmed(other, "Approve"))
        expect(other.locator("#answer")).to_contain_text(re.compile("is queued to go on|is running, and takes"))

        follows(page, report, run, "Completed")
        expect(page.locator(".notes li")).to_contain_text(
            ["anna resumed it: the warehouse is back", "berta approved 'publish': looks right"]
        )
        expect(page.get_by_role("row", name=re.compile("publish"))).to_contain_text("['berta', 300, 'looks right']")


@pytest.mark.exhaustive
def test_items_that_ask_are_answered_one_by_one(report: DotFlow, open_page: OpenPage, address: str) -> None:
    """Each has its buttons; the answered one goes, the run goes on with its item, and the other ones still wait."""
    page_of = DotFlow(params={"row": ...})
    page_of.task.add(action(approve="Load row {row}?")(lambda row: row), name="load")
    workflow = DotFlow(report.config, workflow_id="pages")
    workflow.task.add(rows).add(page_of, name="page", each=rows)
    run = workflow.start().run_id
    page = open_page(f"{address}runs/{run}", **as_user("anna"))

    expect(button(page, "Approve 'page[2].load'")).to_be_visible()
    button(page, "Approve 'page[1].load'").click()
    expect(page.locator("#ask-says")).to_contain_text("Yes to: Load row 1? 'page[1].load' runs then.")
    confirm(page, "Approve 'page[1].load'")
    expect(page.locator("#answer")).to_contain_text("Approved. The run ")
    (ended,) = serve(workflow, once=True)
    page.goto(f"{address}runs/{ended.run_id}")

    expect(button(page, "Approve 'page[0].load'")).to_be_visible()
    expect(button(page, "Approve 'page[1].load'")).to_have_count(0)
    assert violations(page) == []


def test_a_run_is_cancelled_by_keyboard(report: DotFlow, address: str, open_page: OpenPage) -> None:
    """Enter asks, Escape leaves it and leads back, and Enter in a field sends the order."""
    run = report.submit()
    page = open_page(f"{address}runs/{run}", **as_user("anna"))

    button(page, "Cancel").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_label("Comment")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#ask")).to_have_count(0)
    expect(button(page, "Cancel")).to_be_focused()
    assert Control(report).run(run).state is TypeRunState.QUEUED
    page.keyboard.press("Enter")
    page.keyboard.type("wrong day")
    page.keyboard.press("Enter")

    expect(page.locator("#answer")).to_contain_text(f"The run {run[:8]} of")
    expect(page.locator("#answer")).to_be_focused()
    expect(page.locator("h1")).to_contain_text("Cancelled")
    expect(page.locator(".notes")).to_contain_text("anna ordered it to cancel: wrong day")


def test_an_answer_keeps_the_focus_when_what_stands_before_it_goes(
    report: DotFlow, address: str, open_page: OpenPage
) -> None:
    """The form goes with the next look, and the buttons when the run ends: the keyboard stays at the answer."""
    page = open_page(f"{address}runs/{report.submit()}", **as_user("anna"))
    button(page, "Cancel").click()
    page.locator("#answer").focus()

    page.evaluate("orders.asking = null; redraw()")
    expect(page.locator("#ask")).to_have_count(0)
    expect(page.locator("#answer")).to_be_focused()
    page.evaluate("orders.answer = { text: 'It is over.', at: 0 }; state.doc.buttons = []; redraw()")
    expect(page.locator("#orders")).to_have_count(0)
    expect(page.locator("#answer")).to_be_focused()


@pytest.mark.exhaustive
def test_what_is_typed_stays_while_the_page_follows(history: HistorySQLite, address: str, open_page: OpenPage) -> None:
    """A page that is drawn again each second keeps the field, its text and the focus."""
    begin(history, "running", "extract", "train")
    page = open_page(f"{address}runs/running", **as_user("anna"))
    button(page, "Pause").click()
    page.keyboard.type("for lu")
    for _ in range(2):
        with page.expect_response("**/api/runs/running*"):
            pass
    page.keyboard.type("nch")

    expect(page.get_by_label("Comment")).to_have_value("for lunch")
    page.keyboard.press("Enter")
    expect(page.locator("#answer")).to_contain_text("pauses within about a second")
    expect(button(page, "Pause")).to_have_attribute("aria-disabled", "true")
    expect(page.get_by_role("region", name="Orders")).to_contain_text("Pause: It was ordered to pause.")


def test_where_no_process_serves_resume_is_grey(report: DotFlow, address: str, open_page: OpenPage) -> None:
    """It says what to type, and does nothing."""
    run = report.submit()
    serve(report, once=True)
    page = open_page(f"{address}runs/{run}", **as_user("anna"))

    expect(page.get_by_role("region", name="Orders")).to_contain_text(
        "Retry what failed and Submit again: No process serves 'report'. Type dotflow serve MODULE:WORKFLOW."
    )
    button(page, "Retry what failed").click(force=True)
    expect(page.locator("#ask")).to_have_count(0)


@pytest.mark.exhaustive
def test_a_workflow_is_paused_and_submitted_again(report: DotFlow, address: str, open_page: OpenPage) -> None:
    """From the page of a run, and from its own."""
    with closing(report.config.history.operations().open_server(["report"])):
        run = report.submit()
        page = open_page(f"{address}workflow?id=report", **as_user("anna"))
        button(page, "Pause workflow").click()
        confirm(page, "Pause workflow")
        expect(page.locator("#answer")).to_contain_text("The workflow 'report' is paused by anna since")

        page.goto(f"{address}runs/{run}")
        button(page, "Resume workflow").click()
        confirm(page, "Resume workflow")
        expect(page.locator("#answer")).to_contain_text("The workflow 'report' goes on: it was paused by anna")
        button(page, "Submit again").click()
        page.get_by_label("top").fill("5")
        confirm(page, "Submit again")
        expect(page.locator("#answer")).to_contain_text("of report@top=5 is queued.")


def test_a_reader_has_no_buttons(report: DotFlow, address: str, open_page: OpenPage) -> None:
    """Without a name, there is nothing to press."""
    run = report.submit()
    page = open_page(f"{address}runs/{run}")

    expect(page.locator("h1")).to_contain_text("Queued")
    expect(page.get_by_role("region", name="Orders")).to_have_count(0)


def test_a_page_that_is_old_hears_what_it_missed(report: DotFlow, address: str, open_page: OpenPage) -> None:
    """The run is left as it is by now, and the page says how that is."""
    run = report.submit()
    page = open_page(f"{address}runs/{run}", tolerates=FAILED, **as_user("anna"))
    button(page, "Cancel").click()
    page.route("**/api/runs/*", lambda route: route.abort() if route.request.method == "GET" else route.continue_())
    paused = Control(report).pause(run)

    confirm(page, "Cancel")

    expect(page.get_by_role("alert")).to_contain_text("you saw it queued, and by now it was paused")
    assert Control(report).run(run).state is paused.state is TypeRunState.PAUSED


def test_a_double_click_is_one_order(report: DotFlow, address: str, open_page: OpenPage) -> None:
    """The button is pressed twice before the first answer."""
    with closing(report.config.history.operations().open_server(["report"])):
        run = report.submit()
        page = open_page(f"{address}runs/{run}", **as_user("anna"))
        button(page, "Submit again").click()
        page.get_by_label("top").fill("5")
        page.locator("#ask").get_by_role("button", name="Submit again").dblclick()
        expect(page.locator("#answer")).to_contain_text("is queued.")

    assert len(report.config.history.runs()) == 2


def test_an_order_without_an_answer_is_reported(report: DotFlow, address: str, open_page: OpenPage) -> None:
    """What became of the order is not known."""
    run = report.submit()
    page = open_page(f"{address}runs/{run}", tolerates=FAILED, **as_user("anna"))
    button(page, "Cancel").click()
    page.route("**/api/**", lambda route: route.abort())
    confirm(page, "Cancel")

    expect(page.get_by_role("alert")).to_contain_text("what became of the order is not known")


# For everyone


@pytest.mark.exhaustive(keep_every=4)
@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (390, "dark"), (1400, "dark"), (390, "light")])
def test_buttons_are_accessible(
    report: DotFlow, address: str, width: int, scheme: str, open_page: OpenPage, tmp_path: Path
) -> None:
    """Axe finds nothing, on a phone as on a screen: buttons, grey ones, a question, an answer, a refusal."""
    (tmp_path / "mended").touch()
    run = report.submit()
    serve(report, once=True)
    page = open_page(f"{address}runs/{run}", width=width, scheme=scheme, tolerates=FAILED, **as_user("anna"))

    def check() -> None:
        assert violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    button(page, "Approve").click()
    check()
    confirm(page, "Approve")
    expect(page.locator("#answer")).to_contain_text("Approved")
    button(page, "Cancel").click()
    Control(report).cancel(run)
    confirm(page, "Cancel")
    expect(page.get_by_role("alert")).to_be_visible()
    check()
