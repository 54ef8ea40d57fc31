"""A server on the loopback address with given responses, to test errors of services."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple


class Answer(NamedTuple):
    """What is answered.

    Attributes:
        status: The status; 0 for silence.
        body: What follows.
        headers: Beside the usual ones.
    """

    status: int
    body: str = ""
    headers: dict[str, str] = {}  # noqa: RUF012 (never changed)


class Answering:
    """The server.

    Args:
        choose: Returns the response to a request, given its method and path.

    Attributes:
        url: Its address.
        asked: The requests so far: method and path.
    """

    def __init__(self, choose: Callable[[str], Answer]) -> None:
        self.asked: list[str] = []
        self._silent = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"  # with 100-continue, for which boto3 would wait a second

            def answer(self) -> None:
                outer.asked.append(f"{self.command} {self.path}")
                answer = choose(outer.asked[-1])
                if not answer.status:
                    outer._silent.wait()
                    self.close_connection = True
                    return
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.send_response(answer.status)
                for name, value in {"Content-Type": "application/xml", "Connection": "close", **answer.headers}.items():
                    self.send_header(name, value)
                body = b"" if self.command == "HEAD" else answer.body.encode()
                if "Content-Length" not in answer.headers:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer  # noqa: N815

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        """Ends it."""
        self._silent.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextmanager
def answering(*answers: Answer | Callable[[str], Answer]) -> Iterator[Answering]:
    """Answers with each in turn, then with the last one again and again; a function chooses by method and path."""
    left = list(answers)

    def choose(line: str) -> Answer:
        answer = left.pop(0) if len(left) > 1 else left[0]
        return answer if isinstance(answer, Answer) else answer(line)

    server = Answering(choose)
    try:
        yield server
    finally:
        server.close()
