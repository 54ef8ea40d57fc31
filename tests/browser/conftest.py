"""A Chromium without a network, and pages in it that fail a test when they ask for anything or report an error."""

import functools
import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NoReturn

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

from tests.browser.site import Site

FLAGS: Final = (
    "--no-sandbox",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
LOCAL: Final = ("file:", "data:", "http://127.0.0.1:", "http://localhost:", "ws://127.0.0.1:")
VIEWPORT: Final = (1400, 900)
REPLY_TIMEOUT: Final = 12_000  # milliseconds, on a busy machine

#: The package with axe-core, and the oldest Python that it supports.
AXE: Final = "pytest_playwright_axe"
AXE_PYTHON: Final = (3, 12)

OpenPage = Callable[..., Page]


def miss(what: str) -> NoReturn:
    """Skips a test for lack of something on a laptop, and fails it under CI=true."""
    if os.environ.get("CI") == "true":
        pytest.fail(what)
    pytest.skip(what)


@functools.cache
def axe_script() -> str:
    """The text of axe-core. Only its file is used: the package is not imported, nor its plugin loaded."""
    if sys.version_info < AXE_PYTHON:
        pytest.skip(
            f"The package of axe-core needs Python {'.'.join(map(str, AXE_PYTHON))}. A newer one runs this test."
        )
    spec = importlib.util.find_spec(AXE)
    if spec is None or spec.origin is None:
        miss("There is no axe-core. Install it: pip install --group test")
    return (Path(spec.origin).parent / "resources" / "axe.min.js").read_text(encoding="utf-8")


def violations(page: Page) -> list[tuple[str, list[str]]]:
    """What axe finds on a page: each rule that is broken, with the elements that break it."""
    page.evaluate(axe_script())
    found = page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
    return [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found]


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """The Chromium of this machine. Without one, tests are skipped on a laptop and fail under CI=true.

    It ends with these tests: as long as Playwright is open, asyncio finds a running loop in this thread.
    """
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        miss("There is no Chromium. Install it: apt-get install chromium fonts-dejavu-core")
    expect.set_options(timeout=REPLY_TIMEOUT)
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=path, args=FLAGS)


@pytest.fixture
def open_page(chromium: Browser) -> Iterator[OpenPage]:
    """Opens an address or a file, after a call of `before`. Other options are those of Playwright's `new_context`.

    The test fails if a page asks for anything beyond this machine, or if its script or its policy reports an error
    without the text `tolerates`.
    """
    contexts = []
    refused: list[str] = []
    reported: list[str] = []

    def check(request: Request) -> None:
        if not request.url.startswith(LOCAL):
            refused.append(request.url)

    def report(text: str, tolerated: str) -> None:
        if tolerated not in text:
            reported.append(text)

    def report_message(message: ConsoleMessage, tolerated: str) -> None:
        if message.type in ("error", "warning"):
            report(message.text, tolerated)

    def open_page(
        address: str | Path,
        *,
        width: int = VIEWPORT[0],
        scheme: str = "light",
        before: Callable[[Page], object] = lambda page: None,
        tolerates: str = "\0",
        **options: object,
    ) -> Page:
        context = chromium.new_context(
            viewport={"width": width, "height": VIEWPORT[1]},
            color_scheme=scheme,
            timezone_id="UTC",
            **{"offline": not str(address).startswith("http"), "reduced_motion": "reduce"} | options,
        )
        contexts.append(context)
        context.set_default_timeout(REPLY_TIMEOUT)
        context.on("request", check)
        page = context.new_page()
        page.on("pageerror", lambda error: report(str(error), tolerates))
        page.on("console", lambda message: report_message(message, tolerates))
        before(page)
        page.goto(address.as_uri() if isinstance(address, Path) else address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert refused == []
    assert reported == []


@pytest.fixture(scope="package")
def site() -> Iterator[Site]:
    """A server for all tests."""
    site = Site()
    site.start()
    yield site
    site.stop()
