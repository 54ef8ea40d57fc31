"""A server on this machine with the runs of any number of histories, each below a path of its own."""

import socket
import threading
from typing import Final

import uvicorn
from starlette.applications import Starlette

from dotflow.providers import HistorySQLite
from dotflow.ui import app
from dotflow.ui.application import Write
from tests.browser import reports
from tests.histories import begin, crash, quick, write

STOP_TIMEOUT: Final = 10  # seconds


class Site:
    """The server, in a thread, from `start` to `stop`."""

    def __init__(self) -> None:
        self._site = Starlette()
        self._socket = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(self._site, log_config=None, log_level="warning", lifespan="off", ws="none")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]})
        self._count = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(STOP_TIMEOUT)

    def add(self, history: HistorySQLite, write: Write | None = None) -> str:
        """Returns the address of the pages of a history."""
        self._count += 1
        self._site.mount(f"/{self._count}", app(history, write))
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}/{self._count}/"


def fill(history: HistorySQLite) -> None:
    """Makes runs of every kind: completed, failed, crashed and running ones, of three workflows."""
    for _ in range(3):
        quick(history, name="hourly").start()
    quick(history, name="hourly@day=2026-11-25").start()
    reports.fail(history)
    begin(history, "crashed", "extract", "train")
    write(history, "crashed", 1, b"epoch 1\n")
    crash(history, "crashed")
    begin(history, "running", "extract", "train")
    write(history, "running", 1, b"epoch 1\n")
