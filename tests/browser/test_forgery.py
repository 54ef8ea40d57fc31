"""Pages of others that send orders with the cookie of a reader who may give them: the run is left untouched."""

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

import pytest
import uvicorn
from playwright.sync_api import Frame, Page, expect

from dotflow import Control
from dotflow.core.types.run_state import TypeRunState
from dotflow.providers import HistorySQLite
from dotflow.ui.security import Message, Receive, Scope, Send
from dotflow.ui.server import UiServer
from tests.browser.conftest import REPLY_TIMEOUT, OpenPage
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
        const form = document.createElement("form");
        Object.assign(form, {action: url, method: "post", enctype: "text/plain"});
        form.append(Object.assign(document.createElement("input"), {name: '{"state": "Queued", "a": "', value: '"}'}));
        document.body.append(form);
        form.submit();
    })()""",
}


class Sent(NamedTuple):
    """A request that reached the server: with the cookie of the reader or not, and the status of the response."""

    method: str
    status: int
    has_cookie: bool


class Victim(NamedTuple):
    """A reader who may give orders, a queued run, the address of the order that cancels it, and what was sent."""

    page: Page
    history: HistorySQLite
    run: str
    order: str
    sent: "queue.Queue[Sent]"

    def is_untouched(self, before: list[str]) -> bool:
        return contents(self.history) == before and Control(self.history).run(self.run).state == "Queued"


@contextmanager
def writing(history: HistorySQLite) -> Iterator[tuple[UiServer, "queue.Queue[Sent]"]]:
    """The server of `dotflow ui --write` in a thread, and what reaches it beside GET."""
    server, sent = UiServer(history, None, port=0, may_write=True), queue.Queue[Sent]()

    async def recording(scope: Scope, receive: Receive, send: Send) -> None:
        async def keep(message: Message) -> None:
            if message["type"] == "http.response.start" and scope["method"] != "GET":
                sent.put(
                    Sent(scope["method"], message["status"], any(name == b"cookie" for name, _ in scope["headers"]))
                )
            await send(message)

        await server._app(scope, receive, keep)

    config = uvicorn.Config(recording, log_config=None, log_level="warning", lifespan="off", ws="none")
    loop = uvicorn.Server(config)
    thread = threading.Thread(target=loop.run, kwargs={"sockets": [server._socket]})
    thread.start()
    try:
        yield server, sent
    finally:
        loop.should_exit = True
        thread.join()


@pytest.fixture
def victim(history: HistorySQLite, open_page: OpenPage) -> Iterator[Victim]:
    run = quick(history).submit()
    with writing(history) as (server, sent):
        page = open_page(server.writing_address, tolerates="")
        expect(page.locator(".run")).to_have_count(1)
        page.goto(f"{server._root}runs/{run}")
        expect(page.get_by_role("region", name="Orders")).to_contain_text("Cancel")
        yield Victim(page, history, run, f"{server._root}api/runs/{run}/cancel", sent)
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


def attack(frame: Frame, attempt: str, victim: Victim) -> Sent:
    """Tries, and returns what has reached the server."""
    frame.evaluate(
        "async ([attempt, url]) => { try { await Function('url', `return ${attempt}`)(url) } catch {} }",
        [ATTACKS[attempt], victim.order],
    )
    return victim.sent.get(timeout=REPLY_TIMEOUT / 1000)


@pytest.mark.exhaustive(keep_every=9)
@pytest.mark.parametrize("attempt", ATTACKS)
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_page_of_another_port_or_host_orders_nothing(victim: Victim, host: str, attempt: str) -> None:
    """The browser sends the Strict cookie to all ports of 127.0.0.1, so it is the origin that is refused."""
    before = contents(victim.history)
    with elsewhere(host) as address:
        page = victim.page.context.new_page()
        page.goto(address)
        sent = attack(page.main_frame, attempt, victim)
        if attempt == "form":
            page.wait_for_url(victim.order)  # Chromium may hang where a page is closed on its way
        page.close()

    asks_first = attempt == "fetch"
    assert sent == Sent("OPTIONS", 405, False) if asks_first else Sent("POST", 403, host == "127.0.0.1")
    assert victim.sent.empty()
    assert victim.is_untouched(before)


@pytest.mark.exhaustive(keep_every=4)
@pytest.mark.parametrize("attempt", ATTACKS)
def test_a_page_without_an_origin_orders_nothing(victim: Victim, attempt: str) -> None:
    """A frame in a sandbox, whose origin is `null`."""
    before = contents(victim.history)
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
        assert page.frames[1].evaluate("origin") == "null"
        sent = attack(page.frames[1], attempt, victim)
        page.close()

    assert (sent.method, sent.status) == (("OPTIONS", 405) if attempt == "fetch" else ("POST", 403))
    assert victim.sent.empty()
    assert victim.is_untouched(before)


@pytest.mark.exhaustive(keep_every=6)
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
    before = contents(victim.history)

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
    before = contents(history)
    with writing(history) as (server, sent):
        page = open_page(server.address, tolerates="")
        expect(page.locator(".run")).to_have_count(1)
        page.goto(f"{server._root}runs/{run}")
        expect(page.locator("h1")).to_contain_text("Queued")
        page.evaluate(
            f"fetch('{server._root}api/runs/{run}/cancel', {{method: 'POST', headers: {HEADERS}, body: {BODY}}})"
        )
        expect(page.get_by_role("region", name="Orders")).to_have_count(0)
        page.goto("about:blank")

    assert sent.get_nowait() == Sent("POST", 403, True)
    assert contents(history) == before


def test_without_the_option_nothing_takes_orders(history: HistorySQLite, open_page: OpenPage) -> None:
    """There is no address that writes."""
    run = quick(history).submit()
    before = contents(history)
    with serving(history.path, "--port", "0") as (_, line):
        page = open_page(line.strip(), tolerates="")
        expect(page.locator(".run")).to_have_count(1)
        found = page.evaluate(
            f"fetch('api/runs/{run}/cancel', {{method: 'POST', headers: {HEADERS}, body: {BODY}}})"
            ".then((found) => found.status)"
        )
        page.goto("about:blank")

    assert found == 405
    assert contents(history) == before
