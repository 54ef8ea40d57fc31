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
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.request import HTTPCookieProcessor, Request, build_opener

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


class Pages:
    """The pages of `dotflow ui`, as a browser that has opened the last printed address sees them."""

    def __init__(self, folder: Folder, *options: str) -> None:
        command = ["dotflow", "ui", *options, "--no-browser", "--port", "0"]
        self._process = subprocess.Popen(
            command, cwd=folder.path, env=folder.settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        address = [self._process.stdout.readline().split()[0] for _ in range(1 + ("--write" in options))][-1]
        self._origin = address.partition("/?")[0]
        self._browser = build_opener(HTTPCookieProcessor(http.cookiejar.CookieJar()))
        self._browser.open(address, timeout=20).close()

    def __enter__(self) -> "Pages":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGINT)
        self._process.communicate(timeout=30)

    def ask(self, path: str, given: Mapping[str, Any] | None = None) -> Any:
        """Returns what the page reads at a path, or what becomes of an order."""
        headers = {"Origin": self._origin, "X-Dotflow": "1", "Content-Type": "application/json"}
        data = None if given is None else json.dumps(given).encode()
        with self._browser.open(Request(f"{self._origin}/api/{path}", data, headers), timeout=20) as answer:
            return json.load(answer)


def look_at_page(folder: Folder) -> None:
    """Looks whether the page has the runs of all jobs."""
    with Pages(folder) as pages:
        assert {run["workflow"].partition("@")[0] for run in pages.ask("runs")["runs"]} == WORKFLOWS


def approve_on_page(folder: Folder) -> None:
    """Presses Approve on the page of the run that waits for an answer."""
    with Pages(folder, "--write") as pages:
        (waiting,) = pages.ask("runs")["waiting"]
        buttons = pages.ask(f"runs/{waiting['run_id']}")["buttons"]
        button = next(button for button in buttons if button["label"] == "Approve")
        folder.printed = f"{button['says']}\n"
        answer = pages.ask(button["path"], button["sends"] | {"comment": "seen on the page"})
        assert answer["text"].startswith("Approved. The run ")


@pytest.mark.exhaustive
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
        elif text == "dotflow ui --write\n":
            approve_on_page(folder)
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
