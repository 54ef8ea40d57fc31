"""One POST to an address that is itself a secret, within a given time, and without a trace of it anywhere.

urllib3 logs paths and names them in its errors, and `http.client` prints them where somebody has set its debuglevel.
So none of them is ever told: the path they know is three stars, and the connection itself puts the true one in its
place when it writes the request's first line.
"""

import io
import json
import os
from dataclasses import dataclass
from http.client import HTTPResponse
from socket import socket
from typing import Any, Final
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import (
    HTTPError,
    LocationParseError,
    NameResolutionError,
    NewConnectionError,
    ProxyError,
    SSLError,
    URLSchemeUnknown,
)
from urllib3.exceptions import TimeoutError as NoAnswerInTime

from dotflow import clock
from dotflow.providers.notifiers.secret import STARS, Secret

HIDDEN: Final = f"/{STARS}"
MOST_READ: Final = 256 * 1024  # bytes of an answer; far more than any that is meant


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back: the status, the header Retry-After, and the body as far as it was read."""

    status: int
    retry_after: str | None
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class NoAnswer:
    """Nothing came back, and why, in words that name no address."""

    reason: str


class SecretAddress:
    """An address that can be posted to, from any thread, and after a fork too.

    Args:
        base_url: What everybody may know of it; the proxies of the environment are used for it.
        path: The rest.
        timeout: Seconds for one request, from the connection to the answer's last byte.
    """

    def __init__(self, base_url: str, path: Secret, timeout: float) -> None:
        self._base_url = base_url
        self._path = path
        self._timeout = timeout
        self._manager: urllib3.PoolManager | None = None
        self._process = 0

    def post(self, document: object) -> Answer | NoAnswer:
        """Sends *document* as JSON. Redirects are not followed: they could lead the secret elsewhere."""
        try:
            response = self._pools().request(
                "POST",
                f"{self._base_url}{HIDDEN}",
                body=json.dumps(document).encode(),
                headers={"Content-Type": "application/json"},
                timeout=urllib3.Timeout(total=self._timeout),
                retries=False,
                redirect=False,
                preload_content=False,
                decode_content=False,
            )
            return self._read(response)
        except (HTTPError, OSError) as error:
            return NoAnswer(reason=self._reason_of(error))

    def _read(self, response: urllib3.BaseHTTPResponse) -> Answer:
        whole = False
        try:
            body = response.read(MOST_READ)
            whole = len(body) < MOST_READ
        finally:
            if whole:
                response.release_conn()
            else:
                response.close()
        return Answer(status=response.status, retry_after=response.headers.get("Retry-After"), body=body)

    def _reason_of(self, error: Exception) -> str:
        match error:
            case NameResolutionError():
                return "the name of its host can't be resolved"
            case NewConnectionError():
                return f"no connection ({_system_words(error)})"
            case NoAnswerInTime() | TimeoutError():
                return f"no answer within {self._timeout:g} s"
            case SSLError():
                return f"no secure connection ({error})"
            case LocationParseError():
                return "its address, or its proxy's, can't be one"
            case ProxyError() | URLSchemeUnknown():
                return "the proxy that the environment names can't be used"
            case _:
                return f"the connection was lost ({type(error).__name__})"

    def _pools(self) -> urllib3.PoolManager:
        """Connections, made on first use, and anew in a forked process: two must not speak over one."""
        manager = self._manager
        if manager is None or self._process != os.getpid():
            manager = _manager_for(self._base_url)
            plain, secure = self._hiding(HTTPConnection), self._hiding(HTTPSConnection)
            manager.pool_classes_by_scheme = {
                "http": type("Pool", (urllib3.HTTPConnectionPool,), {"ConnectionCls": plain}),
                "https": type("Pool", (urllib3.HTTPSConnectionPool,), {"ConnectionCls": secure}),
            }
            self._manager, self._process = manager, os.getpid()
        return manager

    def _hiding(self, kind: type[HTTPConnection]) -> type[HTTPConnection]:
        path = self._path

        def putrequest(self: HTTPConnection, method: str, url: str, *args: Any, **given: Any) -> None:
            kind.putrequest(self, method, url.removesuffix(HIDDEN) + path.reveal(), *args, **given)

        return type("Connection", (kind,), {"putrequest": putrequest, "response_class": _InTime, "debuglevel": 0})


class _InTime(HTTPResponse):
    """A response that has come within the socket's timeout as a whole: without it, each byte would have that long."""

    def __init__(self, sock: socket, *args: Any, **given: Any) -> None:
        super().__init__(sock, *args, **given)
        seconds = sock.gettimeout()
        if seconds is not None:
            self.fp.close()
            self.fp = io.BufferedReader(_Until(sock, clock.ticks() + seconds))


class _Until(io.RawIOBase):
    """What a socket brings, until the time is up."""

    def __init__(self, sock: socket, until: float) -> None:
        self._sock = sock
        self._file = sock.makefile("rb", buffering=0)
        self._until = until

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._until - clock.ticks()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()


def _manager_for(base_url: str) -> urllib3.PoolManager:
    """With the proxy that the environment names for this address, if any."""
    url = urllib3.util.parse_url(base_url)
    proxies = getproxies()
    proxy = proxies.get(url.scheme or "") or proxies.get("all")
    if not proxy or proxy_bypass(url.host or ""):
        return urllib3.PoolManager()
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    auth = urllib3.util.parse_url(proxy).auth
    headers = urllib3.make_headers(proxy_basic_auth=auth) if auth else None
    return urllib3.ProxyManager(proxy, proxy_headers=headers)


def _system_words(error: BaseException) -> str:
    """What the system said, as "Connection refused"."""
    cause = error.__cause__ or error.__context__
    return (isinstance(cause, OSError) and cause.strerror) or type(error).__name__
