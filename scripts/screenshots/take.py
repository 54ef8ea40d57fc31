"""Takes the pictures of the README and the documentation: docs/assets/*.webp. It needs Chromium."""

import base64
import dataclasses
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from playwright.sync_api import Page, sync_playwright

from dotflow.providers import HistorySQLite
from dotflow.report.document import document, output_members
from dotflow.report.page import write_page

HERE: Final = Path(__file__).parent
ASSETS: Final = HERE.parent.parent / "docs/assets"
WIDTH: Final = 1400
MARGIN: Final = 20
QUALITY: Final = 90  # percent
SERVER: Final = (sys.executable, "-m", "dotflow", "ui", "--no-browser", "--port", "0", "--history")


def record(program: str, folder: Path) -> Path:
    """Runs a program, which writes a history."""
    path = folder / f"{program}.db"
    subprocess.run([sys.executable, f"{program}.py", path], cwd=HERE, check=True, capture_output=True)
    return path


def write_report(folder: Path) -> Path:
    """Writes the report of the run of orders.py, without what is this computer's own."""
    history = HistorySQLite(path=record("orders", folder))
    run = history.load("last")
    environment = {"commit": "4f0c2b9ad1", "folder": str(HERE)}
    shown = dataclasses.replace(run, process="etl-1:4242", environment=environment)
    return write_page(folder / "run.html", document(shown, output=output_members(history, run), archive=history))


def take(page: Page, picture: Path, end: str) -> None:
    """Saves a page down to the end of an element."""
    height = page.evaluate("(end) => document.querySelector(end).getBoundingClientRect().bottom", end) + MARGIN
    page.set_viewport_size({"width": WIDTH, "height": round(height)})
    options = {"format": "webp", "quality": QUALITY}  # which Playwright's own screenshots don't know
    answer = page.context.new_cdp_session(page).send("Page.captureScreenshot", options)
    picture.write_bytes(base64.b64decode(answer["data"]))
    print(f"{picture}: {picture.stat().st_size // 1000} kB")


def take_run(page: Page, folder: Path, assets: Path) -> None:
    """Takes a run that failed."""
    page.goto(write_report(folder).as_uri())
    take(page, assets / "run-page.webp", "#timeline")


def take_runs(page: Page, folder: Path, assets: Path) -> None:
    """Takes the list of runs of `dotflow ui`."""
    path = record("nights", folder).rename(folder / "history.db")
    with subprocess.Popen([*SERVER, path.name], cwd=folder, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            page.goto(server.stdout.readline().strip())
            page.wait_for_selector("tr.run")
            page.evaluate("delete state.doc.history")  # its path on this computer
            take(page, assets / "runs-page.webp", "tr.run:nth-child(12)")
        finally:
            server.terminate()


if __name__ == "__main__":
    assets = Path(sys.argv[1]) if len(sys.argv) > 1 else ASSETS
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": 900}, timezone_id="UTC")
        for take_one in (take_run, take_runs):
            take_one(page, Path(name), assets)
        browser.close()
