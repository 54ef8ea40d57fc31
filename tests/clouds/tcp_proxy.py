"""A network between a client and a Postgres server that delays, swallows and cuts."""

import contextlib
import re
import socket
import struct
import threading
from typing import Final, Literal, Self

COMMIT: Final = re.compile(rb"COMMIT(?!TED)")
COMMITTED: Final = b"COMMIT\0"  # the server's CommandComplete
RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER: close() sends RST, and what was not sent is gone

Mode = Literal["forward", "swallow", "cut behind commit"]


class TcpProxy:
    """Forwards each connection to a port, in the way that the test asks for.

    Args:
        port: Of the server, on the loopback address.
        host: The address on which it listens.

    Attributes:
        port: Where it listens.
        server: Where new connections go.
        mode: "forward"; "swallow", which accepts connections and data and never answers; or "cut behind commit", which
            drops the answer of the next COMMIT and cuts its connection, once.
        delay: Seconds before each message of a client goes on.
        cuts: How many answers of a commit were dropped.
        accepted: How many connections there were.
    """

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.server = port
        self._listener = socket.create_server((host, 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self.mode: Mode = "forward"
        self.delay = 0.0
        self.cuts = 0
        self.accepted = 0
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._threads = [threading.Thread(target=self._accept, name="proxy", daemon=True)]
        self._threads[0].start()

    def cut(self) -> None:
        """Cuts all connections, as a network does that goes away: what is on its way is lost."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                _cut(end)

    def close(self) -> None:
        """Ends it, with its connections."""
        self._closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            try:
                server = socket.create_connection(("127.0.0.1", self.server))
            except OSError:  # it is stopped
                _cut(client)
                continue
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pair, cutting = (client, server), threading.Event()
            with self._lock:
                self._pairs.append(pair)
            for run in (self._carry_requests, self._carry_answers):
                thread = threading.Thread(target=run, args=(client, server, cutting), name="proxy", daemon=True)
                self._threads.append(thread)
                thread.start()

    def _carry_requests(self, client: socket.socket, server: socket.socket, cutting: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                if self._closing.wait(self.delay) or self.mode == "swallow":
                    continue
                with self._lock:
                    if self.mode == "cut behind commit" and COMMIT.search(data):
                        self.mode = "forward"
                        cutting.set()
                server.sendall(data)
        _end(server)

    def _carry_answers(self, client: socket.socket, server: socket.socket, cutting: threading.Event) -> None:
        dropped = b""
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                if cutting.is_set():
                    dropped += data
                    if COMMITTED in dropped:
                        self.cuts += 1
                        _cut(client)
                        break
                elif self.mode != "swallow":
                    client.sendall(data)
        _end(client)
        _end(server)


def _cut(end: socket.socket) -> None:
    """Ends a connection with a reset, which also wakes the thread that reads it."""
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        end.shutdown(socket.SHUT_RDWR)
    end.close()


def _end(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
