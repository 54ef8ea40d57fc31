"""A Chromium without a network, and pages in it that fail a test when they ask for anything or report an error."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

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

OpenPage = Callable[..., Page]


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """The Chromium of this machine. Without one, tests are skipped on a laptop and fail under CI=true.

    It ends with these tests: as long as Playwright is open, asyncio finds a running loop in this thread.
    """
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        missing = "There is no Chromium. Install it: apt-get install chromium fonts-dejavu-core"
        pytest.fail(missing) if os.environ.get("CI") == "true" else pytest.skip(missing)
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
