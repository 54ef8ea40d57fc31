"""Takes the picture of a run's page for the README: docs/assets/run-page.webp. It needs Chromium."""

import base64
import dataclasses
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from playwright.sync_api import sync_playwright

from dotflow.providers import HistorySQLite
from dotflow.report.document import document
from dotflow.report.next_steps import command_objects
from dotflow.report.output import output_members
from dotflow.report.page import write_page

HERE: Final = Path(__file__).parent
PICTURE: Final = HERE.parent.parent / "docs/assets/run-page.webp"
WIDTH: Final = 1400
MARGIN: Final = 20
QUALITY: Final = 90  # percent


def write_report(folder: Path) -> Path:
    """Runs orders.py and writes its report, without what is this computer's own."""
    path = folder / "history.db"
    subprocess.run([sys.executable, "orders.py", path], cwd=HERE, check=True, capture_output=True)
    history = HistorySQLite(path=path)
    run = history.load("last")
    commands = command_objects(history, run, None)
    environment = {"commit": "4f0c2b9ad1", "folder": str(HERE)}
    shown = dataclasses.replace(run, process="etl-1:4242", environment=environment)
    return write_page(folder / "run.html", document(shown, output=output_members(history, run), commands=commands))


def take(report: Path, picture: Path) -> None:
    """Saves a page down to its timeline."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": 900}, timezone_id="UTC")
        page.goto(report.as_uri())
        height = page.evaluate("document.getElementById('timeline').getBoundingClientRect().bottom") + MARGIN
        page.set_viewport_size({"width": WIDTH, "height": round(height)})
        options = {"format": "webp", "quality": QUALITY}  # which Playwright's own screenshots don't know
        answer = page.context.new_cdp_session(page).send("Page.captureScreenshot", options)
        picture.write_bytes(base64.b64decode(answer["data"]))


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURE
    with tempfile.TemporaryDirectory() as folder:
        take(write_report(Path(folder)), target)
    print(f"{target}: {target.stat().st_size // 1000} kB")
