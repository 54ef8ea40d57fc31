"""A server on the loopback address with the responses of the Bot API, or of the test."""

import contextlib
import json
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

CERTIFICATE = Path(__file__).with_name("loopback.pem")
TOKEN = "123456:AAE-secret_token_of_the_bot"


@dataclass
class Received:
    """A request."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Handler(BaseHTTPRequestHandler):
    """Answers each request with the next answer of the script, and repeats the last one."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes
    server: "Server"

    def setup(self) -> None:
        self.server.connections += 1
        super().setup()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.received.append(Received(self.path, headers, body, time.monotonic()))
        with contextlib.suppress(ConnectionError):  # the client may be gone
            self.server.next_answer()(self)

    def do_CONNECT(self) -> None:
        """Tunnels a connection, as a proxy does."""
        host, _, port = self.path.rpartition(":")
        self.server.received.append(Received(self.path, {}, b"", time.monotonic()))
        with socket.create_connection((host, int(port))) as there:
            self.connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            ways = {self.connection: there, there: self.connection}
            while True:
                for ready in select.select(list(ways), [], [])[0]:
                    if not (data := ready.recv(65536)):
                        return
                    ways[ready].sendall(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Logs nothing: tests check the program's output."""


Answer = Callable[[Handler], None]


class Server(ThreadingHTTPServer):
    """Keeps the requests and the number of connections."""

    daemon_threads = True

    def __init__(self, *answers: Answer, tls: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.scheme = "https" if tls else "http"
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(CERTIFICATE)
            # The handler does the handshake: here it would block other connections.
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.answers = list(answers) or [ok]
        self.received: list[Received] = []
        self.connections = 0
        self.over = threading.Event()
        self.lock = threading.Lock()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def texts(self) -> list[str]:
        return [received.json["text"] for received in self.received]

    def next_answer(self) -> Answer:
        with self.lock:
            return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Logs nothing, as above."""


@contextlib.contextmanager
def serving(*answers: Answer, tls: bool = False) -> Iterator[Server]:
    """Runs a server during the block."""
    server = Server(*answers, tls=tls)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        thread.join()
        server.server_close()


def says(status: int, body: bytes, **headers: str) -> Answer:
    """Returns an answer with this status, body and headers."""

    def answer(handler: Handler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def refuses(status: int, description: str, **parameters: object) -> Answer:
    """Returns an error response of the Bot API."""
    document: dict[str, Any] = {"ok": False, "error_code": status, "description": description}
    if parameters:
        document["parameters"] = parameters
    return says(status, json.dumps(document).encode())


def ok(handler: Handler) -> None:
    """Sends the response of sendMessage."""
    says(200, json.dumps({"ok": True, "result": {"message_id": 7, "date": 1}}).encode())(handler)


def silence(handler: Handler) -> None:
    """Sends nothing until the end of the test."""
    handler.server.over.wait(60)
    handler.close_connection = True


def hangs_up(handler: Handler) -> None:
    """Closes the connection without a response."""
    handler.close_connection = True


def drips(first: bytes, byte: bytes = b"x") -> Answer:
    """Returns an answer that sends a byte every 50 ms, so that no single wait is long."""

    def answer(handler: Handler) -> None:
        handler.wfile.write(first)
        handler.wfile.flush()
        while not handler.server.over.wait(0.05):
            handler.wfile.write(byte)
            handler.wfile.flush()

    return answer


def pours(handler: Handler) -> None:
    """Sends a body of a gigabyte."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(1 << 30))
    handler.end_headers()
    while not handler.server.over.is_set():
        handler.wfile.write(b" " * 65536)
