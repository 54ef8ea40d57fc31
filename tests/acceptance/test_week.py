"""The tutorial of eight jobs: its files and commands, in their order, do and print what the page shows."""

import http.cookiejar
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import HTTPCookieProcessor, build_opener

import pytest

from tests.acceptance.test_documents import PATHS
from tests.acceptance.test_site import BLOCK, ROOT

PAGE = (ROOT / "docs/tutorial/week.md").read_text()
#: The lines that install what the tests have.
NOT_HERE = re.compile(r"^(mkdir shop|python3 -m venv|pip install).*\n", re.MULTILINE)
OWN_TESTS = "pytest\n"  # of the project, which are the README's: in make test-all only
#: What differs from run to run.
CHANGES = (
    (re.compile(r"\d+(?:\.\d+)? (?:d|h|min|s)\b(?: \d+ (?:h|min|s)\b)?"), "(duration)"),
    (re.compile(r"\b[0-9a-f]{8}\b"), "(run)"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"), "(moment)"),
    (re.compile(r" +"), " "),
)
WORKFLOWS = {"daily", "inbox", "nightly", "pages", "release", "scratch", "shop"}
LATE = """
    from datetime import UTC, datetime
    from dotflow.serving import serve
    from dotflow.testing import virtual_clock
    from nightly import nightly

    with virtual_clock(datetime(2026, 11, 29, 12, tzinfo=UTC)) as clock:
        serve(nightly, once=True)  # from now on it is known
        for passed in ("14h31m", "15m"):
            clock.advance(passed)
            serve(nightly, once=True)
"""


def steady(text: str) -> str:
    """Returns a text without what differs from run to run."""
    for pattern, word in CHANGES:
        text = pattern.sub(word, text)
    return text


def until(condition: Callable[[], bool]) -> bool:
    """Waits until a condition holds, for half a minute at most."""
    deadline = time.monotonic() + 30
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


class Folder:
    """The folder of the tutorial, and a second terminal in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.printed = ""  # by the last commands
        self.server: subprocess.Popen[str] | None = None
        places = [str(Path(sys.executable).parent), os.environ["PATH"]]
        self.settings = os.environ | {"PATH": os.pathsep.join(places), "PYTHONPATH": f"src{os.pathsep}{PATHS}"}

    def call(self, commands: str) -> None:
        ended = subprocess.run(
            ["sh", "-ec", commands], cwd=self.path, env=self.settings, capture_output=True, text=True, timeout=60
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        self.printed = ended.stdout

    def begin(self, command: str) -> "subprocess.Popen[str]":
        with (self.path / "server.txt").open("w") as file:
            return subprocess.Popen(
                command.split(), cwd=self.path, env=self.settings, stdout=file, stderr=subprocess.DEVNULL, text=True
            )

    def server_printed(self) -> str:
        return (self.path / "server.txt").read_text() if self.server else ""

    def will_print(self, text: str) -> bool:
        """Whether the last commands have printed a text, or the server does so soon."""
        return until(lambda: any(steady(text) in steady(shown) for shown in (self.printed, self.server_printed())))

    def end_server(self) -> None:
        if self.server is not None:
            self.server.send_signal(signal.SIGINT)
            self.server.wait(30)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    (tmp_path / "shop").mkdir()
    folder = Folder(tmp_path / "shop")
    yield folder
    folder.end_server()


def look_at_page(folder: Folder) -> None:
    """Opens the address that `dotflow ui` prints, and looks whether the page has the runs of all jobs."""
    command = ["dotflow", "ui", "--no-browser", "--port", "0"]
    pages = subprocess.Popen(
        command, cwd=folder.path, env=folder.settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert pages.stdout is not None
        address = pages.stdout.readline().strip()
        browser = build_opener(HTTPCookieProcessor(http.cookiejar.CookieJar()))
        browser.open(address, timeout=20).close()
        with browser.open(f"{address.partition('?')[0]}api/runs", timeout=20) as answer:
            assert {run["workflow"].partition("@")[0] for run in json.load(answer)["runs"]} == WORKFLOWS
    finally:
        pages.send_signal(signal.SIGINT)
        pages.communicate(timeout=30)


@pytest.mark.slow
@pytest.mark.timeout(180)  # some twenty commands, and a server
def test_the_tutorial_of_eight_jobs_runs_as_written(folder: Folder, request: pytest.FixtureRequest) -> None:
    """From `dotflow init` to a nightly job with approval, alarm and page; each shown output is printed.

    The server has a terminal of its own. For the alarm, the night passes on a virtual clock.
    """
    left_out = "" if request.config.getoption("--exhaustive") else OWN_TESTS
    for block in BLOCK.finditer(PAGE):
        language, text = block["language"], block["text"]
        if block["title"]:
            (folder.path / block["title"]).write_text(text)
        elif text == "dotflow ui\n":
            look_at_page(folder)
        elif text.startswith("dotflow serve nightly:nightly\n"):
            folder.server = folder.begin(text)
            assert until(lambda: is_known(folder))
        elif language == "sh":
            folder.call(NOT_HERE.sub("", text).replace(left_out, ""))
        else:
            if text.startswith("Alert: "):
                folder.end_server()
                folder.server = None
                folder.call(f"cat > late.py <<'EOF'\n{textwrap.dedent(LATE)}EOF\npython late.py")
            assert folder.will_print(text), f"{text}\n{folder.printed}{folder.server_printed()}"


def is_known(folder: Folder) -> bool:
    """Whether the server has its schedule in the history, so that it takes runs."""
    folder.call("dotflow schedules || true")
    return "nightly" in folder.printed
