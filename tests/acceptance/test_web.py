"""The web application of examples/web, its servers, and kills of both."""

import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from dotflow.control import Control

WEB = Path(__file__).parents[2] / "examples" / "web"
SERVE = [sys.executable, "-m", "dotflow", "serve", "pipelines:report", "--max-runs", "4"]

Start = Callable[[], "Application"]


class Application:
    """The application with four workers, and servers that are started again after each kill."""

    def __init__(self, data: Path, servers: int) -> None:
        self.data = data
        self._environment = os.environ | {"SHOP_DATA": str(data), "PYTHONPATH": os.pathsep.join(sys.path)}
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        uvicorn = [sys.executable, "-m", "uvicorn", "app:app", "--workers", "4", "--port", str(self.port)]
        self._web = self._run(*uvicorn, "--log-level", "warning")
        self.servers = [self._run(*SERVE) for _ in range(servers)]

    def _run(self, *command: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(command, cwd=WEB, env=self._environment, start_new_session=True, stderr=subprocess.PIPE)

    def request(self, method: str, path: str, *, patience: float = 60.0) -> tuple[int, Any]:
        """Returns status and body. A worker that was killed answers nothing: the client asks again."""
        until = time.monotonic() + patience
        while True:
            request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method)
            try:
                with urllib.request.urlopen(request, timeout=30) as response:
                    return response.status, json.load(response)
            except urllib.error.HTTPError as error:
                return error.code, json.load(error)
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)

    def kill_one(self, chosen: random.Random) -> None:
        """Kills a worker of the application, which uvicorn replaces, or a server."""
        workers = [child for child in psutil.Process(self._web.pid).children() if is_worker(child)]
        victim = chosen.randrange(len(self.servers) + 1)
        if victim == len(self.servers):
            if workers:
                chosen.choice(workers).kill()
            return
        self.servers[victim].kill()
        self.servers[victim].communicate()
        self.servers[victim] = self._run(*SERVE)

    def close(self) -> None:
        for process in (self._web, *self.servers):
            for child in psutil.Process(process.pid).children(recursive=True) if process.poll() is None else ():
                child.kill()
            process.kill()
            process.communicate()


def is_worker(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):  # it was killed before, and uvicorn has not replaced it yet
        return "spawn_main" in " ".join(process.cmdline())
    return False


@pytest.fixture
def application(tmp_path: Path) -> Iterator[Application]:
    found = Application(tmp_path / "data", servers=2)
    yield found
    found.close()


@pytest.mark.exhaustive
@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("posts", "kills"), [(30, 6), pytest.param(200, 30, marks=[pytest.mark.exhaustive, pytest.mark.timeout(900)])]
)
def test_no_report_is_lost_and_none_is_sent_twice(application: Application, posts: int, kills: int) -> None:
    """While workers of the application and servers are killed, all runs complete, and every id answers."""
    chosen = random.Random(7)

    def post(customer: int) -> str:
        _, body = application.request("POST", f"/reports?customer={customer}&click=c{customer}")
        return str(body["id"])

    with ThreadPoolExecutor(4) as pool:
        pending = [pool.submit(post, customer) for customer in range(posts)]
        for _ in range(kills):
            time.sleep(0.3)
            application.kill_one(chosen)
        ids = [each.result() for each in pending]
    control = Control(application.data / "history.db")
    states = [str(control.wait(run, timeout=120).state) for run in ids]

    assert states == ["Completed"] * posts
    assert len(set(ids)) == posts
    sent = sorted(path.read_text() for path in (application.data / "sent").iterdir())
    assert sent == sorted(f"{customer}: {3 * customer}\n" for customer in range(posts))
    for customer in (0, posts - 1):
        assert application.request("GET", f"/reports/{ids[customer]}") == (
            200,
            {"state": "Completed", "is_over": True, "error": ""},
        )
        assert application.request("GET", f"/reports/{ids[customer]}/total") == (200, {"total": 3 * customer})
    assert application.request("GET", "/reports/nothing")[0] == 404
    assert application.request("POST", "/reports?customer=1&click=c0")[0] == 409
    status, refused = application.request("DELETE", f"/reports/{ids[0]}")
    assert status == 409
    assert "completed" in refused["detail"]
