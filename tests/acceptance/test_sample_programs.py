"""The sample programs of examples/ do what they say, in every mode."""

import importlib
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Barrier, Thread
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest

from dotflow import Run
from dotflow.core.types import TypeExecution
from dotflow.providers import ExecutorThread

EXAMPLES = Path(__file__).parents[2] / "examples"
PROGRAMS = sorted(path.stem for path in EXAMPLES.glob("*.py"))
PAGES = 300
MISSING = [13, 113, 213]


class Site(BaseHTTPRequestHandler):
    """300 pages of four words: every tenth is busy at first, and three do not exist."""

    requests: ClassVar[Counter[int]] = Counter()

    def do_GET(self) -> None:
        number = int(self.path.removeprefix("/"))
        self.requests[number] += 1
        is_busy = number % 10 == 3 and self.requests[number] == 1
        self.send_response(503 if is_busy else 404 if number in MISSING else 200)
        self.end_headers()
        self.wfile.write(f"page {number} of {PAGES}".encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Logs nothing."""


@contextmanager
def site() -> Iterator[str]:
    """The address of a fresh site."""
    Site.requests.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(params=list(TypeExecution), ids=str)
def mode(request: pytest.FixtureRequest) -> TypeExecution:
    return TypeExecution(request.param)


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """Imports a program, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(EXAMPLES))
    yield importlib.import_module
    for name in PROGRAMS:
        sys.modules.pop(name, None)


def start(program: ModuleType, mode: TypeExecution, **params: Any) -> Run:
    run: Run = program.workflow.start(mode, params=params)
    run.wait()
    return run


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_is_short(name: str) -> None:
    """Under 40 lines, with a sentence at its beginning."""
    lines = (EXAMPLES / f"{name}.py").read_text().splitlines()
    assert len(lines) < 40
    assert lines[0].startswith('"""')


@pytest.mark.exhaustive(keep_every=3)
@pytest.mark.processes
def test_five_sources_and_a_join(load: Any, mode: TypeExecution) -> None:
    """The join has the values of all five."""
    run = start(load("sales"), mode)

    assert run.status == "Completed"
    assert run.tasks[-1].current_context.storage == {"GB": 193.2, "FI": 180.0}


def test_the_sources_are_read_at_once(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """All five have begun before one of them has ended: they wait for each other."""
    program, all_five = load("sales"), Barrier(5)
    monkeypatch.setattr(program, "time", SimpleNamespace(sleep=lambda seconds: all_five.wait(45)))
    program.workflow.config.executor = ExecutorThread()

    assert start(program, TypeExecution.PARALLEL).status == "Completed"


@pytest.mark.exhaustive
@pytest.mark.processes
@pytest.mark.slow
def test_a_crawl(load: Any, mode: TypeExecution) -> None:
    """Busy pages are asked again, missing ones are not, and the report has the other 297."""
    with site() as address:
        run = start(load("crawl"), mode, site=address)

        assert run.status == "Failed"  # it says so, although the report is there
        fetch, report = run.tasks[1:]
        assert [item.item for item in fetch.items if item.status == "Failed"] == MISSING
        assert report.status == "Completed"
        assert report.current_context.storage == {
            "words": 4 * (PAGES - len(MISSING)),
            "missing": [f"{address}/{number}" for number in MISSING],
        }
        assert set(Site.requests) == set(range(PAGES))
        assert {number for number, count in Site.requests.items() if count == 2} == set(range(3, PAGES, 10))


@pytest.mark.slow
def test_an_agent_that_asks_is_killed_twice_and_pays_once(tmp_path: Path) -> None:
    """The person is asked once, too."""

    def run(*command: str) -> tuple[int, str]:
        ended = subprocess.run([sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, timeout=50)
        return ended.returncode, ended.stdout

    program = str(EXAMPLES / "refund.py")
    assert run(program) == (0, "Paused\n")
    assert run("-m", "dotflow", "approve", "last")[0] == 0
    assert run(program) == (-signal.SIGKILL, "")
    assert run(program) == (-signal.SIGKILL, "")
    assert run(program) == (0, "Completed\n")

    (payment,) = tmp_path.glob("paid-*")
    assert payment.read_text() == "20 for A-7"


@pytest.mark.exhaustive(keep_every=3)
@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.parametrize(("limit", "ran", "skipped"), [(2.2, "deploy", "tell"), (2.0, "tell", "deploy")])
def test_a_grid_and_a_branch(load: Any, mode: TypeExecution, limit: float, ran: str, skipped: str) -> None:
    """The best model is deployed if it is good enough; a person is told otherwise, and only otherwise."""
    run = start(load("models"), mode, limit=limit)

    assert run.status == "Completed"
    statuses = {task.name: task.status for task in run.tasks}
    assert statuses[ran] == "Completed"
    assert statuses[skipped] == "Skipped"
    assert len(run.tasks[1].items) == 16
