"""The server of `dotflow ui`: a socket on this computer, its address with the token, and a browser."""

import errno
import ipaddress
import os
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from dotflow.abc.archive import Archive
from dotflow.control import user_of
from dotflow.providers.optional import require_extra
from dotflow.ui.application import make_app
from dotflow.ui.security import CODE_LIFETIME, MAY_WRITE, AccessTokens, Gate, Guard, Scope

DEFAULT_PORT: Final = 8765
PORTS: Final = 20  # that are tried, if none is given
BACKLOG: Final = 1024  # clients that wait to be accepted
ACCEPTED: Final = 16  # clients at once: asyncio accepts so many before one of them counts as a connection
STOP_TIMEOUT: Final = 1  # seconds for the requests that are open at Ctrl-C
#: Where none of them is set, on Linux, there is no browser with a window.
DISPLAYS: Final = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
FOLDER: Final = "dotflow-ui-"
REDIRECT: Final = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="0;url={0}">'
    '<title>dotflow</title><a href="{0}">Show the runs</a></html>'
)


class UiServer:
    """A socket that listens, and what it will answer.

    Args:
        history: The history.
        option: The value of --history in the commands on the page.
        host: The name or the address to listen on.
        port: The port; 0 for any that is free, None for the first free one from 8765 on.
        may_write: Whether there is a second address, whose pages give orders, as the user of the system.

    Raises:
        NotServable: The history has no queue, which `may_write` needs.
        OSError, UnicodeError: It can't listen there.
        MissingExtra: Starlette or uvicorn is not installed.
    """

    def __init__(
        self,
        history: Archive,
        option: str | None,
        host: str = "127.0.0.1",
        port: int | None = None,
        *,
        may_write: bool = False,
    ) -> None:
        require_extra("uvicorn", "dotflow ui", "ui")
        user = user_of()

        def write(scope: Scope) -> str | None:
            return user if scope.get(MAY_WRITE) else None

        app = make_app(history, option, write if may_write else None)
        self._socket = _listen(host, port)
        address, number = self._socket.getsockname()[:2]
        listening = ipaddress.ip_address(address)
        self.is_local = listening.is_loopback
        name = socket.gethostname() if listening.is_unspecified else host
        self._root = f"http://{f'[{name}]' if ':' in name else name}:{number}/"
        self._tokens = AccessTokens(may_write)
        self._folder = ""  # with the page that a browser is opened with
        gate = Gate(app, self._tokens, [host, address], cookie=f"dotflow-{number}")
        self._app = Guard(gate, takes_orders=may_write)

    @property
    def address(self) -> str:
        """The address with the token that reads."""
        return f"{self._root}?token={self._tokens.token}"

    @property
    def writing_address(self) -> str:
        """The address with the token that writes."""
        return f"{self._root}?token={self._tokens.writing}"

    def open_browser(self) -> None:
        """Opens the pages in a browser, in a thread, unless there is none with a window.

        Other users of the computer can see the arguments of the browser. So it opens a file that only this user can
        read, which leads to the address. The file is deleted once the browser has come, after a minute and at the end.
        """
        if sys.platform.startswith("linux") and not any(map(os.environ.get, DISPLAYS)):
            return
        try:
            self._folder = _make_folder()
            page = Path(self._folder, "open.html")
            page.touch(0o600)
            page.write_text(REDIRECT.format(f"{self._root}?token={self._tokens.make_code()}"), "utf-8")
        except OSError:  # a full disk: the printed address is there
            self._delete_folder()
            return
        import webbrowser

        threading.Thread(target=webbrowser.open, args=(page.as_uri(),), daemon=True).start()
        threading.Thread(target=self._wait_for_browser, daemon=True).start()

    def _wait_for_browser(self) -> None:
        self._tokens.is_spent.wait(CODE_LIFETIME)
        self._delete_folder()

    def _delete_folder(self) -> None:
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    def run(self, on_start: Callable[[], None]) -> None:
        """Answers requests until Ctrl-C, which it raises, or SIGTERM.

        Args:
            on_start: Called when it does. Ctrl-C is safe from then on.
        """
        import uvicorn

        from dotflow.ui.connection import Connection

        listening, delete_folder = self._socket, self._delete_folder

        class Uvicorn(uvicorn.Server):
            async def startup(self, sockets: list[socket.socket] | None = None) -> None:
                await super().startup(sockets)
                listening.listen(BACKLOG)  # asyncio has asked for ACCEPTED
                on_start()

            async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
                delete_folder()  # SIGTERM ends the process after this
                await super().shutdown(sockets)

        config = uvicorn.Config(
            self._app,
            access_log=False,
            backlog=ACCEPTED,
            http=Connection,
            lifespan="off",
            log_config=None,
            log_level="error",  # a warning is a line for each invalid request
            loop="asyncio",
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=STOP_TIMEOUT,
            ws="none",
        )
        Uvicorn(config).run(sockets=[self._socket])


def _make_folder() -> str:
    """Makes a folder that only this user can read.

    It is in the home folder, by a name without a dot: browsers that are installed as snaps can read nothing else.
    """
    try:
        return tempfile.mkdtemp(prefix=FOLDER, dir=Path.home())
    except (OSError, RuntimeError):  # there is no home, or it is read-only
        return tempfile.mkdtemp(prefix=FOLDER)


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
