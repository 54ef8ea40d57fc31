"""A server on the loopback address with given responses, to test errors of services."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple


class Response(NamedTuple):
    """A response.

    Attributes:
        status: The status; 0 for no response.
        body: The body.
        headers: Further headers.
    """

    status: int
    body: str = ""
    headers: dict[str, str] = {}  # noqa: RUF012 (never changed)


class FakeServer:
    """A server with chosen responses.

    Args:
        choose: Returns the response to a request, given its method and path.

    Attributes:
        url: Its address.
        requests: The requests so far: method and path.
    """

    def __init__(self, choose: Callable[[str], Response]) -> None:
        self.requests: list[str] = []
        self._silent = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"  # with 100-continue, for which boto3 would wait a second

            def respond(self) -> None:
                outer.requests.append(f"{self.command} {self.path}")
                response = choose(outer.requests[-1])
                if not response.status:
                    outer._silent.wait()
                    self.close_connection = True
                    return
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.send_response(response.status)
                for name, value in {
                    "Content-Type": "application/xml",
                    "Connection": "close",
                    **response.headers,
                }.items():
                    self.send_header(name, value)
                body = b"" if self.command == "HEAD" else response.body.encode()
                if "Content-Length" not in response.headers:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = respond  # noqa: N815

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        """Stops the server."""
        self._silent.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextmanager
def serve_responses(*responses: Response | Callable[[str], Response]) -> Iterator[FakeServer]:
    """Sends each response in turn, then the last one repeatedly. A function chooses by method and path."""
    remaining = list(responses)

    def choose(line: str) -> Response:
        response = remaining.pop(0) if len(remaining) > 1 else remaining[0]
        return response if isinstance(response, Response) else response(line)

    server = FakeServer(choose)
    try:
        yield server
    finally:
        server.close()
