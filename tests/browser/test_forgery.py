"""Pages of others that send orders with the cookie of a reader who may give them: the run is left untouched."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

import pytest
from playwright.sync_api import Page, Response, expect

from dotflow import Control
from dotflow.core.types.run_state import TypeRunState
from dotflow.providers import HistorySQLite
from tests.browser.conftest import OpenPage
from tests.histories import contents, quick
from tests.served import serving

HEADERS = "{'Content-Type': 'application/json', 'X-Dotflow': '1'}"
BODY = "JSON.stringify({state: 'Queued'})"
#: What a page of another site can try, with the address of the order as `url`.
ATTACKS = {
    "fetch": f"fetch(url, {{method: 'POST', credentials: 'include', headers: {HEADERS}, body: {BODY}}})",
    "fetch without asking": "fetch(url, {method: 'POST', mode: 'no-cors', credentials: 'include', body: " + BODY + "})",
    "beacon": f"navigator.sendBeacon(url, new Blob([{BODY}], {{type: 'text/plain'}}))",
    "form": """(() => {
        const form = Object.assign(document.createElement("form"), {action: url, method: "post", enctype: "text/plain"});
        form.append(Object.assign(document.createElement("input"), {name: '{"state": "Queued", "a": "', value: '"}'}));
        document.body.append(form);
        form.submit();
    })()""",
}


class Victim(NamedTuple):
    """A reader who may give orders, a queued run, and the address of the order that cancels it."""

    page: Page
    history: HistorySQLite
    run: str
    order: str

    def is_untouched(self, before: list[str]) -> bool:
        return contents(self.history.path) == before and Control(self.history).run(self.run).state == "Queued"


@pytest.fixture
def victim(history: HistorySQLite, open_page: OpenPage) -> Iterator[Victim]:
    run = quick(history).submit()
    with serving(history.path, "--port", "0", "--write") as (process, _):
        assert process.stdout is not None
        address = process.stdout.readline().split()[0]
        root = address.partition("?")[0]
        page = open_page(address, tolerates="")
        expect(page.locator(".run")).to_have_count(1)
        page.goto(f"{root}runs/{run}")
        expect(page.get_by_role("region", name="Orders")).to_contain_text("Cancel")
        yield Victim(page, history, run, f"{root}api/runs/{run}/cancel")
        for tab in page.context.pages:
            tab.goto("about:blank")  # before the server ends


@contextmanager
def elsewhere(host: str) -> Iterator[str]:
    """A server on another port of this computer, with a page that has no policy."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><link rel=icon href=data:,><body>elsewhere")

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://{host}:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def attack(page: Page, attempt: str, order: str) -> list[int]:
    """Tries, and returns the statuses of the responses to what was sent. Of a refused preflight there is none."""
    statuses: list[int] = []

    def keep(response: Response) -> None:
        if response.request.method == "POST":
            statuses.append(response.status)

    page.context.on("response", keep)
    page.evaluate(
        "async ([attempt, url]) => { try { await Function('url', `return ${attempt}`)(url) } catch {} }",
        [attempt, order],
    )
    # What was sent before is answered before, and a form leads there.
    page.wait_for_load_state("networkidle")
    page.context.remove_listener("response", keep)
    return statuses


@pytest.mark.parametrize("attempt", ATTACKS)
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_page_of_another_port_or_host_orders_nothing(victim: Victim, host: str, attempt: str) -> None:
    """The browser sends the Strict cookie to all ports of 127.0.0.1, so it is the origin that is refused."""
    before = contents(victim.history.path)
    with elsewhere(host) as address:
        page = victim.page.context.new_page()
        page.goto(address)
        statuses = attack(page, ATTACKS[attempt], victim.order)
        page.goto("about:blank")

    assert set(statuses) <= ({405} if attempt == "fetch" else {403})
    assert statuses or attempt == "fetch"
    assert victim.is_untouched(before)


@pytest.mark.parametrize("attempt", ATTACKS)
def test_a_page_without_an_origin_orders_nothing(victim: Victim, attempt: str) -> None:
    """A frame in a sandbox, whose origin is `null`."""
    before = contents(victim.history.path)
    with elsewhere("127.0.0.1") as address:
        page = victim.page.context.new_page()
        page.goto(address)
        page.evaluate(
            """() => new Promise((loaded) => {
                const frame = document.createElement("iframe");
                frame.sandbox = "allow-scripts allow-forms";
                frame.srcdoc = "<body>sandbox";
                frame.onload = loaded;
                document.body.append(frame);
            })"""
        )
        frame = page.frames[1]
        assert frame.evaluate("origin") == "null"
        statuses: list[int] = []
        page.context.on("response", lambda response: statuses.append(response.status))
        frame.evaluate(
            "async ([attempt, url]) => { try { await Function('url', `return ${attempt}`)(url) } catch {} }",
            [ATTACKS[attempt], victim.order],
        )
        page.wait_for_load_state("networkidle")
        page.goto("about:blank")

    assert 200 not in statuses
    assert victim.is_untouched(before)


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ("{'Content-Type': 'application/json'}", BODY, 403),
        ("{'Content-Type': 'text/plain', 'X-Dotflow': '1'}", BODY, 415),
        ("{'Content-Type': 'application/x-www-form-urlencoded', 'X-Dotflow': '1'}", BODY, 415),
        (HEADERS, "JSON.stringify({state: 'Queued', comment: 'a'.repeat(20000)})", 413),
        (HEADERS, "JSON.stringify({state: 'Running'})", 409),
        (HEADERS, "'{}'", 400),
    ],
    ids=["no header", "text/plain", "a form", "20 KB", "a stale page", "no state"],
)
def test_even_its_own_page_has_to_ask_properly(victim: Victim, headers: str, body: str, status: int) -> None:
    """Each line of defence by itself: the origin is right, and so is the cookie."""
    before = contents(victim.history.path)

    found = victim.page.evaluate(
        f"fetch({victim.order!r}, {{method: 'POST', headers: {headers}, body: {body}}}).then((found) => found.status)"
    )

    assert found == status
    assert victim.is_untouched(before)


def test_its_own_page_may(victim: Victim) -> None:
    """What the attacks lack is all that they lack."""
    found = victim.page.evaluate(
        f"fetch({victim.order!r}, {{method: 'POST', headers: {HEADERS}, body: {BODY}}}).then((found) => found.status)"
    )

    assert found == 200
    assert Control(victim.history).run(victim.run).state is TypeRunState.CANCELLED


def test_the_address_that_reads_orders_nothing(history: HistorySQLite, open_page: OpenPage) -> None:
    """Its page has no buttons, and its cookie is not that of the other one."""
    run = quick(history).submit()
    before = contents(history.path)
    with serving(history.path, "--port", "0", "--write") as (_, line):
        address = line.split()[0]
        root = address.partition("?")[0]
        page = open_page(address, tolerates="")
        expect(page.locator(".run")).to_have_count(1)
        page.goto(f"{root}runs/{run}")
        expect(page.locator("h1")).to_contain_text("Queued")
        found = page.evaluate(
            f"fetch('{root}api/runs/{run}/cancel', {{method: 'POST', headers: {HEADERS}, body: {BODY}}})"
            ".then((found) => found.status)"
        )
        expect(page.get_by_role("region", name="Orders")).to_have_count(0)
        page.goto("about:blank")

    assert found == 403
    assert contents(history.path) == before


def test_without_the_option_nothing_takes_orders(history: HistorySQLite, open_page: OpenPage) -> None:
    """There is no address that writes."""
    run = quick(history).submit()
    before = contents(history.path)
    with serving(history.path, "--port", "0") as (_, line):
        page = open_page(line.strip(), tolerates="")
        expect(page.locator(".run")).to_have_count(1)
        found = page.evaluate(
            f"fetch('api/runs/{run}/cancel', {{method: 'POST', headers: {HEADERS}, body: {BODY}}})"
            ".then((found) => found.status)"
        )
        page.goto("about:blank")

    assert found == 405
    assert contents(history.path) == before
