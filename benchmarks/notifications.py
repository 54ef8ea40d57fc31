"""What it costs a run that somebody is told of it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Final

from measure import Row, best, environment, fresh, seconds_of
from workflows import completed, no_op, workflow_of

from dotflow import Config
from dotflow.core.types.status import TypeStatus
from dotflow.providers import LogDefault, NotifyTelegram

MESSAGES: Final = 2  # for each step: in progress, completed
TOKEN: Final = "1:benchmark"


def rows(quick: bool) -> Iterator[Row]:
    """A step that does nothing, with and without NotifyTelegram: the difference, for each change of a status.

    In the first row nothing is worth a message; in the second everything is, but the server never answers, and the
    run does not wait at its end: what is left is what the run itself pays. Who writes the call into the step waits for
    the answer. Here that comes over the loopback address and a connection that is kept: it is the least there can be.
    """
    count = 1_000 if quick else 4_000
    found = fresh(measure, count, 3 if quick else 9)
    plain, direct = found.pop("without"), found.pop("direct call")
    for name, taken in found.items():
        ours = max(taken - plain, 1e-9) / MESSAGES
        peers = {"the call itself, loopback": direct}
        yield Row(what=f"a notification, {name}", ours=ours, peers=peers, budget="20 µs", within=ours < 20e-6)


def measure(count: int, repeats: int) -> dict[str, float]:
    """Seconds for each step, and for each direct call."""
    with answering() as url, answering("silent") as silent_url:
        failures = NotifyTelegram(TOKEN, 1, notification_type=TypeStatus.FAILED, base_url=url)
        everything = NotifyTelegram(TOKEN, 1, timeout=60, base_url=silent_url)
        workflows = {
            "without": workflow_of(no_op, count, Config(log=LogDefault(output="none"))),
            "failures only": workflow_of(no_op, count, Config(log=LogDefault(output="none"), notify=failures)),
            "a server that hangs": workflow_of(
                no_op, count, Config(log=LogDefault(output="none"), notify=everything, notify_grace=0)
            ),
        }
        connection = HTTPConnection(url.removeprefix("http://"))
        body = json.dumps({"chat_id": 1, "text": "✅ Completed: task 0 nothing"})

        def direct() -> None:
            for _ in range(100):
                connection.request("POST", f"/bot{TOKEN}/sendMessage", body=body.encode())
                connection.getresponse().read()

        timed = {
            name: lambda workflow=workflow: seconds_of(lambda: completed(workflow)) / count
            for name, workflow in workflows.items()
        }
        return best({**timed, "direct call": lambda: seconds_of(direct) / 100}, repeats)


@contextmanager
def answering(how: str = "at once") -> Iterator[str]:
    """The address of a server in a process of its own."""
    server = subprocess.Popen(
        [sys.executable, __file__, how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    try:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{server.stdout.readline().strip()}"
    finally:
        server.kill()
        server.communicate()


class Telegram(BaseHTTPRequestHandler):
    """Says yes to everything."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = b'{"ok": true}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Silent."""


def _serve() -> None:
    server = HTTPServer(("127.0.0.1", 0), Telegram)  # from here on the system accepts connections
    print(server.server_address[1], flush=True)
    if sys.argv[1] == "silent":
        sys.stdin.read()  # until whoever started it is gone
    server.serve_forever()


if __name__ == "__main__":
    _serve()
