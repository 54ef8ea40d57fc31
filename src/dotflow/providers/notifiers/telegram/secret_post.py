"""One POST to a URL whose path is a secret: within a time limit, and without the path in any log, error or traceback.

`urllib.request` and `http.client` log nothing. `http.client` prints requests if a program has set its debuglevel;
connections here ignore that. The frames of an exception hold the path, so `post` returns the reason of a failure.
"""

import io
import json
import socket
import ssl
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, IncompleteRead
from typing import Any, Final, NamedTuple
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import AbstractHTTPHandler, OpenerDirector, ProxyHandler, Request, getproxies, proxy_bypass

from dotflow import clock

MAX_BODY: Final = 256 * 1024  # bytes of a response that are read; the Bot API sends a few hundred
PROXY_FAILED: Final = "the proxy that the environment names can't be used"


class HttpResponse(NamedTuple):
    """A response: its status, its header Retry-After, and its body up to MAX_BODY."""

    status: int
    retry_after: str | None
    body: bytes


def post(base_url: str, path: str, document: object, timeout: float) -> HttpResponse | str:
    """Sends a document as JSON. Redirects are not followed: they could lead the secret elsewhere.

    Args:
        base_url: The public part of the URL. The environment's proxy for it is used.
        path: The secret part.
        document: The document.
        timeout: Seconds to connect to each address of the host, and for the whole exchange.

    Returns:
        The response; without one the reason, which names no address.
    """
    url, proxies = urlsplit(base_url), getproxies()
    proxy = None if proxy_bypass(url.netloc) else proxies.get(url.scheme) or proxies.get("all")
    request = Request(f"{base_url}{path}", json.dumps(document).encode(), {"Content-Type": "application/json"})
    opener = OpenerDirector()  # without the handlers of redirects and errors
    try:
        if proxy:
            parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
            if parts.scheme != "http":
                return PROXY_FAILED
            # Without a port, urllib would take 443 for HTTPS.
            proxy = (parts if parts.port is not None else parts._replace(netloc=f"{parts.netloc}:80")).geturl()
        opener.add_handler(ProxyHandler({url.scheme: proxy} if proxy else {}))
        opener.add_handler(_Connections(debuglevel=0))
        with opener.open(request, timeout=timeout) as response:
            content = response.read(MAX_BODY)
            if len(content) < MAX_BODY and response.length:
                raise IncompleteRead(b"")
            return HttpResponse(response.status, response.headers["Retry-After"], content)
    except (HTTPException, OSError, ValueError) as error:
        match error.reason if isinstance(error, URLError) else error:
            case TimeoutError():
                return f"no answer within {timeout:g} s"
            case ssl.SSLError() as reason:
                return f"no secure connection ({reason})"
            case _ if proxy and isinstance(error, URLError | ValueError):  # it was not reached, or has no valid address
                return PROXY_FAILED
            case reason:
                return f"the connection failed ({getattr(reason, 'strerror', None) or type(reason).__name__})"


class _Connection(HTTPConnection):
    """A connection whose response arrives within its timeout."""

    def connect(self) -> None:
        self.deadline = clock.ticks() + float(self.timeout or 0)
        super().connect()
        self.deadline = clock.ticks() + float(self.timeout or 0)

    def response_class(self, sock: socket.socket, **kwargs: Any) -> HTTPResponse:  # type: ignore[override]
        response = HTTPResponse(sock, **kwargs)
        response.fp = io.BufferedReader(_DeadlineReader(response.fp.detach(), sock, self.deadline))
        return response


class _SecureConnection(_Connection, HTTPSConnection):
    """The same with TLS."""


class _Connections(AbstractHTTPHandler):
    """Sends requests. It verifies certificates even if a program has turned that off for http.client."""

    http_request = https_request = AbstractHTTPHandler.do_request_

    def http_open(self, request: Request) -> HTTPResponse:
        return self.do_open(_Connection, request)

    def https_open(self, request: Request) -> HTTPResponse:
        return self.do_open(_SecureConnection, request, context=ssl.create_default_context())


class _DeadlineReader(io.RawIOBase):
    """Reads from a socket until a deadline. A socket's own timeout starts again with each byte."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, deadline: float) -> None:
        self._raw, self._sock, self._deadline = raw, sock, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        seconds = self._deadline - clock.ticks()
        if seconds <= 0:
            raise TimeoutError
        self._sock.settimeout(seconds)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()
