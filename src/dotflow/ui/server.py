"""The server of `dotflow ui`: a socket on this computer, its address with the token, and a browser."""

import errno
import ipaddress
import os
import socket
import sys
import threading
from collections.abc import Callable
from typing import Final

from dotflow.abc.archive import Archive
from dotflow.providers.optional import require_extra
from dotflow.ui.application import make_app
from dotflow.ui.security import Gate, ReadOnly, Tokens

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 8765
PORTS: Final = 20  # that are tried, if none is given
BACKLOG: Final = 128
STOP_TIMEOUT: Final = 1  # seconds for the requests that are open at Ctrl-C
#: Where none of them is set, on Linux, there is no browser with a window.
DISPLAYS: Final = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")


class Server:
    """A socket that listens, and what it will answer.

    Args:
        history: The history.
        option: The value of --history in the commands on the page.
        host: The name or the address to listen on.
        port: The port; 0 for any that is free, None for the first free one from 8765 on.

    Raises:
        OSError, UnicodeError: It can't listen there.
        MissingExtra: Starlette or uvicorn is not installed.
    """

    def __init__(self, history: Archive, option: str | None, host: str = DEFAULT_HOST, port: int | None = None) -> None:
        require_extra("uvicorn", "dotflow ui", "ui")
        app = make_app(history, option)
        self._socket = _listen(host, port)
        address, number = self._socket.getsockname()[:2]
        listening = ipaddress.ip_address(address)
        self.is_local = listening.is_loopback
        name = socket.gethostname() if listening.is_unspecified else host
        self._root = f"http://{f'[{name}]' if ':' in name else name}:{number}/"
        self._tokens = Tokens()
        self._app = ReadOnly(Gate(app, self._tokens, [host, address], cookie=f"dotflow-{number}"))

    @property
    def address(self) -> str:
        """The address with the token."""
        return f"{self._root}?token={self._tokens.token}"

    def open_browser(self) -> None:
        """Opens the address in a browser, in a thread, unless there is none with a window."""
        if sys.platform.startswith("linux") and not any(map(os.environ.get, DISPLAYS)):
            return
        import webbrowser

        address = f"{self._root}?token={self._tokens.code}"
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()

    def run(self, on_start: Callable[[], None]) -> None:
        """Answers requests until Ctrl-C, which it raises, or SIGTERM.

        Args:
            on_start: Called when it does. Ctrl-C is safe from then on.
        """
        import uvicorn

        class Uvicorn(uvicorn.Server):
            async def startup(self, sockets: list[socket.socket] | None = None) -> None:
                await super().startup(sockets)
                on_start()

        config = uvicorn.Config(
            self._app,
            access_log=False,
            http="h11",
            lifespan="off",
            log_config=None,
            log_level="warning",
            loop="asyncio",
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=STOP_TIMEOUT,
            ws="none",
        )
        Uvicorn(config).run(sockets=[self._socket])


def _listen(host: str, port: int | None) -> socket.socket:
    """Returns a socket that listens, on the first free port if none is given."""
    if port is not None:
        return _bind(host, port)
    for number in range(DEFAULT_PORT, DEFAULT_PORT + PORTS):
        try:
            return _bind(host, number)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    return _bind(host, 0)


def _bind(host: str, port: int) -> socket.socket:
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    *kind, _, address = addresses[0]
    listening = socket.socket(*kind)  # with the protocol, without which asyncio sets no TCP_NODELAY: 40 ms a response
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
    except BaseException:  # Ctrl-C too
        listening.close()
        raise
    return listening
