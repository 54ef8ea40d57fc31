"""One POST to a URL whose path is a secret: within a time limit, and without the path in any log, error or traceback.

`http.client` logs nothing. It prints requests if a program has set its debuglevel; connections here ignore that.
The frames of an exception hold the path, so `post` returns the reason of a failure instead of raising it.
"""

import base64
import io
import json
import selectors
import socket
import ssl
from collections import deque
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, IncompleteRead
from typing import Any, Final, NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from dotflow import clock
from dotflow.providers.notifiers.hidden import Hidden
from dotflow.providers.optional import PerProcess

MAX_BODY: Final = 256 * 1024  # bytes of a response that are read; the Bot API sends a few hundred
PROXY_FAILED: Final = "the proxy that the environment names can't be used"


class HttpResponse(NamedTuple):
    """A response: its status, its header Retry-After, and its body up to MAX_BODY."""

    status: int
    retry_after: str | None
    body: bytes


class SecretAddress:
    """An address to post to, from any thread and in any process. One idle connection is kept in each process.

    Args:
        base_url: The public part. The environment's proxy for it is used.
        path: The secret part.
        timeout: Seconds to connect to each address of the host, and then for the whole exchange.
    """

    def __init__(self, base_url: str, path: Hidden, timeout: float) -> None:
        self._url = urlsplit(base_url)
        self._path = path
        self._timeout = timeout
        self._idle: PerProcess[deque[_Connection]] = PerProcess()

    def post(self, document: object) -> HttpResponse | str:
        """Sends a document as JSON. Redirects are not followed: they could lead the secret elsewhere.

        Returns:
            The response; without one the reason, which names no address.
        """
        idle = self._idle.get(partial(deque, maxlen=1))
        try:
            connection = _reusable(idle) or _connection_to(self._url, self._timeout)
        except (HTTPException, ValueError):  # from the proxy's address; base_url has been checked
            return PROXY_FAILED
        try:
            response = self._exchange(connection, json.dumps(document).encode())
        except (HTTPException, OSError, UnicodeError) as error:
            return self._reason(error, connection)
        if connection.sock is not None:
            idle.append(connection)
        return response

    def _exchange(self, connection: "_Connection", body: bytes) -> HttpResponse:
        connection.deadline = clock.ticks() + self._timeout
        if connection.sock is None:
            connection.connect()
        connection.sock.settimeout(_seconds_until(connection.deadline))
        prefix = self._url.path if connection.proxy_headers is None else self._url.geturl()
        connection.putrequest("POST", f"{prefix}{self._path.reveal()}")
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        for name, value in {**headers, **(connection.proxy_headers or {})}.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        with connection.getresponse() as response:
            content = response.read(MAX_BODY)
            if len(content) < MAX_BODY and response.length:
                raise IncompleteRead(b"")
            if not response.isclosed():
                connection.close()
            return HttpResponse(response.status, response.getheader("Retry-After"), content)

    def _reason(self, error: Exception, connection: "_Connection") -> str:
        match error:
            case TimeoutError():
                return f"no answer within {self._timeout:g} s"
            case ssl.SSLError():
                return f"no secure connection ({error})"
            case OSError() if connection.sock is None and connection.host != self._url.hostname:
                return PROXY_FAILED
            case socket.gaierror() | UnicodeError():
                return "its host name can't be resolved"
        return f"the connection failed ({getattr(error, 'strerror', None) or type(error).__name__})"


class _Connection(HTTPConnection):
    """A connection whose responses arrive by its deadline, and which closes its socket when it is collected."""

    debuglevel = 0
    deadline = 0.0
    proxy_headers: dict[str, str] | None = None  # for requests that go to a proxy themselves

    def response_class(self, sock: socket.socket, **kwargs: Any) -> HTTPResponse:  # type: ignore[override]
        response = HTTPResponse(sock, **kwargs)
        response.fp = io.BufferedReader(_DeadlineReader(response.fp.detach(), sock, self.deadline))
        return response

    def __del__(self) -> None:
        self.close()


class _SecureConnection(_Connection, HTTPSConnection):
    """The same with TLS. It verifies certificates even if a program has turned that off for http.client."""

    def __init__(self, host: str, port: int, timeout: float) -> None:
        super().__init__(host, port, timeout=timeout, context=ssl.create_default_context())


class _DeadlineReader(io.RawIOBase):
    """Reads from a socket until a deadline. A socket's own timeout starts again with each byte."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, deadline: float) -> None:
        self._raw, self._sock, self._deadline = raw, sock, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(_seconds_until(self._deadline))
        return self._raw.readinto(buffer)


def _seconds_until(deadline: float) -> float:
    seconds = deadline - clock.ticks()
    if seconds <= 0:
        raise TimeoutError
    return seconds


def _reusable(idle: deque[_Connection]) -> _Connection | None:
    """Returns the idle connection, unless the server has closed it, which makes it readable."""
    try:
        connection = idle.pop()
    except IndexError:
        return None
    with selectors.DefaultSelector() as selector:
        selector.register(connection.sock, selectors.EVENT_READ)
        return None if selector.select(0) else connection


def _connection_to(url: SplitResult, timeout: float) -> _Connection:
    """Returns a connection that is not open yet. Raises ValueError for a proxy that can't be used."""
    kind = _SecureConnection if url.scheme == "https" else _Connection
    host, port = str(url.hostname), url.port or kind.default_port
    proxy = _proxy_for(url.scheme, host)
    if proxy is None:
        return kind(host, port, timeout=timeout)
    connection = kind(str(proxy.hostname), proxy.port or 80, timeout=timeout)
    user = f"{unquote(proxy.username or '')}:{unquote(proxy.password or '')}".encode()
    headers = {"Proxy-Authorization": f"Basic {base64.b64encode(user).decode()}"} if proxy.username else {}
    if url.scheme == "https":
        connection.set_tunnel(host, port, headers)
    else:
        connection.proxy_headers = headers
    return connection


def _proxy_for(scheme: str, host: str) -> SplitResult | None:
    """Returns the environment's proxy for a host, if any. Raises ValueError unless it is one for plain HTTP."""
    proxies = getproxies()
    proxy = proxies.get(scheme) or proxies.get("all")
    if not proxy or proxy_bypass(host):
        return None
    url = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    if url.scheme != "http" or not url.hostname:
        raise ValueError
    return url
