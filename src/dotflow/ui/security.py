"""What keeps a history from strangers: headers, methods, hosts, and the token of `dotflow ui`."""

import ipaddress
import json
import re
import secrets
import socket
import threading
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final
from urllib.parse import parse_qs

from dotflow import clock

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = Iterable[tuple[str, str]]


def header(scope: Scope, name: bytes) -> str:
    """Returns a header of the request; "" if it has none, the first one if it has several."""
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")


async def respond(send: Send, status: int, text: str, headers: Headers = (), content_type: str = "text/plain") -> None:
    """Sends a response."""
    body = text.encode()
    fields = [("content-type", f"{content_type}; charset=utf-8"), ("content-length", str(len(body))), *headers]
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in fields]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})


METHODS: Final = ("GET", "HEAD")
#: The page loads its own three files, and nothing else; no other page frames it.
HEADERS: Final = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        b"frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    ),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
PORT: Final = re.compile(r":\d*$")
TOKEN_SIZE: Final = 24  # bytes
CODE_LIFETIME: Final = 60.0  # seconds
HAS_TOKEN: Final = "dotflow.has_token"  # of a scope, for the connection

NO_TOKEN: Final = "This page needs the token of `dotflow ui`. Open the address that it printed."
#: Loaded from this page, the next one gets the cookie, which is Strict, even if another site has led here. Its address
#: takes the place of that with the token, in the history of the browser, too.
WELCOME: Final = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="0;url=./">'
    '<title>dotflow</title><link rel="icon" href="data:,"><a href="./">Show the runs</a></html>'
)


class ReadOnly:
    """Passes on what only reads, and adds the headers to every response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *HEADERS]}
            await send(message)

        if scope["method"] not in METHODS:
            await respond(send_with_headers, 405, "Only GET and HEAD.", [("allow", ", ".join(METHODS))])
        else:
            await self._app(scope, receive, send_with_headers)


class AccessTokens:
    """The token that is printed, and a code for the browser that is opened, which counts once and for a minute."""

    def __init__(self) -> None:
        self.token = secrets.token_urlsafe(TOKEN_SIZE)
        self.is_spent = threading.Event()  # the code
        self._code = ""
        self._expiry = 0.0

    def make_code(self) -> str:
        """Returns a new code, in the place of an earlier one."""
        self._code = secrets.token_urlsafe(TOKEN_SIZE)
        self._expiry = clock.ticks() + CODE_LIFETIME
        return self._code

    def accept(self, text: str) -> bool:
        """Returns whether the text is the token or the code, which is spent by that."""
        if self._code and _is_equal(text, self._code):
            self._code = ""
            self.is_spent.set()
            return clock.ticks() < self._expiry
        return self.is_token(text)

    def is_token(self, text: str) -> bool:
        """Returns whether the text is the token."""
        return _is_equal(text, self.token)


class Gate:
    """Passes on requests to the right host that have the token: first in the address, then in a cookie.

    Args:
        app: The app.
        tokens: Its tokens.
        hosts: The names by which it can be reached, as in a Host header without the port. With the name of all
            addresses of this computer, 0.0.0.0, these are all addresses and the computer's name.
        cookie: The name of the cookie. Browsers don't keep those of several ports apart.
    """

    def __init__(self, app: ASGIApp, tokens: AccessTokens, hosts: Iterable[str], cookie: str) -> None:
        self._app = app
        self._tokens = tokens
        self._hosts = frozenset(host.lower() for host in (*LOOPBACK, *hosts))
        self._takes_addresses = any(_is_any(host) for host in self._hosts)
        if self._takes_addresses:
            name = socket.gethostname().lower()
            self._hosts |= {name, f"{name}.local"}
        self._cookie = cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return  # no lifespan, no web sockets
        if not self._is_ours(host_name(header(scope, b"host"))):
            await respond(send, 400, "This is not the address of dotflow ui.")
        elif scope["path"] == "/" and (tokens := parse_qs(scope["query_string"].decode("latin-1")).get("token")):
            await self._let_in(scope, send, tokens[0])
        elif self._has_token(scope):
            scope[HAS_TOKEN] = True
            await self._app(scope, receive, send)
        else:
            await _refuse(scope, send)

    async def _let_in(self, scope: Scope, send: Send, token: str) -> None:
        is_valid = self._tokens.accept(token) if scope["method"] == "GET" else self._tokens.is_token(token)
        if not is_valid:
            await _refuse(scope, send)
            return
        scope[HAS_TOKEN] = True
        cookie = f"{self._cookie}={self._tokens.token}; Path=/; HttpOnly; SameSite=Strict"
        await respond(send, 200, WELCOME, [("set-cookie", cookie)], "text/html")

    def _is_ours(self, host: str) -> bool:
        return host in self._hosts or (self._takes_addresses and _is_address(host))

    def _has_token(self, scope: Scope) -> bool:
        """Returns whether a cookie is the token. A server on another port may have set one of the same name."""
        pairs = (pair.strip().partition("=") for pair in header(scope, b"cookie").split(";"))
        return any(name == self._cookie and self._tokens.is_token(value) for name, _, value in pairs)


def host_name(host: str) -> str:
    """Returns the name in a Host header, without the port and the brackets of IPv6."""
    return PORT.sub("", host).strip("[]").rstrip(".").lower()


async def _refuse(scope: Scope, send: Send) -> None:
    if scope["path"].startswith("/api/"):
        await respond(send, 403, json.dumps({"error": NO_TOKEN}), content_type="application/json")
    else:
        await respond(send, 403, NO_TOKEN)


def _is_equal(text: str, secret: str) -> bool:
    return secrets.compare_digest(text.encode(errors="replace"), secret.encode())


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_any(host: str) -> bool:
    return _is_address(host) and ipaddress.ip_address(host).is_unspecified
