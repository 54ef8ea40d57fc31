"""Posts the status of tasks to a URL, as JSON."""

import json
import threading
import urllib.request
from collections.abc import Collection
from http.server import BaseHTTPRequestHandler, HTTPServer

from dotflow import Config, DotFlow, Task, action
from dotflow.abc.notify import Notify
from dotflow.core.types.status import TypeStatus


class NotifyWebhook(Notify):
    def __init__(self, url: str, statuses: Collection[TypeStatus], timeout: float = 3) -> None:
        self.url, self.statuses, self.timeout = url, statuses, timeout

    def send(self, task: Task) -> None:
        if task.status not in self.statuses:
            return
        message = {"workflow": task.workflow_id, "task": task.name, "status": str(task.status)}
        if task.error:
            message["error"] = f"{task.error.exception}: {task.error.message}"
        request = urllib.request.Request(self.url, json.dumps(message).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=self.timeout):  # what it raises is logged
            pass


class Receiver(BaseHTTPRequestHandler):
    """The receiver of the messages."""

    def do_POST(self) -> None:
        print(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.send_response(204)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Logs nothing."""


@action
def load() -> None:
    raise ConnectionError("the database is away")


if __name__ == "__main__":
    with HTTPServer(("127.0.0.1", 0), Receiver) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        notify = NotifyWebhook(f"http://127.0.0.1:{server.server_port}/", {TypeStatus.FAILED})
        workflow = DotFlow(Config(notify=notify), workflow_id="nightly")
        workflow.task.add(load)

        workflow.start()
        server.shutdown()
