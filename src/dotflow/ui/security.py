"""What keeps a history from strangers: headers, methods, hosts, origins, and the tokens of `dotflow ui`."""

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
SAME: Final = ("", "same-origin")  # of Sec-Fetch-Site, which old browsers don't send
MARK: Final = "1"  # of the header X-Dotflow, which a page of another site can't send without asking first
MAX_BODY: Final = 10_000  # bytes of an order
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
MAY_WRITE: Final = "dotflow.may_write"  # of a scope: whether the token is that which writes

JSON: Final = "application/json"
TOO_LONG: Final = f"An order has up to {MAX_BODY} bytes."
NO_TOKEN: Final = "This page needs the token of `dotflow ui`. Open the address that it printed."
#: Loaded from this page, the next one gets the cookie, which is Strict, even if another site has led here. Its address
#: takes the place of that with the token, in the history of the browser, too.
WELCOME: Final = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="0;url=./">'
    '<title>dotflow</title><link rel="icon" href="data:,"><a href="./">Show the runs</a></html>'
)


class Guard:
    """Passes on what reads, and the orders that a page of this very address sends. Adds the headers to every response.

    Args:
        app: The app.
        takes_orders: Whether the app has POST routes. If not, only GET and HEAD pass.
    """

    def __init__(self, app: ASGIApp, takes_orders: bool = False) -> None:
        self._app = app
        self._takes_orders = takes_orders

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = list(message.get("headers", ()))
                names = {name for name, _ in given}
                message = {**message, "headers": [*given, *(pair for pair in HEADERS if pair[0] not in names)]}
            await send(message)

        if scope["method"] == "POST" and self._takes_orders:
            refused = why_refused(scope)
            if refused is None:
                await self._app(scope, receive, send_with_headers)
            else:
                status, text = refused
                await respond(send_with_headers, status, json.dumps({"error": text}), content_type=JSON)
        elif scope["method"] in METHODS:
            await self._app(scope, receive, send_with_headers)
        else:
            await respond(send_with_headers, 405, "Only GET and HEAD.", [("allow", ", ".join(METHODS))])


def why_refused(scope: Scope) -> tuple[int, str] | None:
    """Returns the status and the words for an order that no page of this address has sent; None for one of its own.

    The ports of a computer share cookies, so a SameSite cookie is not enough: the origin has to be the host asked.
    """
    scheme, _, host = header(scope, b"origin").lower().partition("://")
    schemes = ("https",) if scope["scheme"] == "https" else ("http", "https")  # a proxy may end TLS
    if not host or host != header(scope, b"host").lower() or scheme not in schemes:
        return 403, "Another site has sent this: its origin is not the address of this page."
    if header(scope, b"sec-fetch-site") not in SAME:
        return 403, "Another site has sent this: Sec-Fetch-Site is not same-origin."
    if header(scope, b"x-dotflow") != MARK:
        return 403, f"The header X-Dotflow: {MARK} is missing."
    if header(scope, b"content-type").partition(";")[0].strip().lower() != JSON:
        return 415, f"An order is {JSON}."
    length = header(scope, b"content-length")
    if len(length) > len(str(MAX_BODY)) or (length.isdecimal() and int(length) > MAX_BODY):
        return 413, TOO_LONG
    return None


class AccessTokens:
    """The tokens that are printed, and a code for the browser that is opened, which counts once and for a minute.

    Args:
        may_write: Whether there is a token that writes. The code stands for it then.

    Attributes:
        token: The token that reads.
        writing: That which reads and writes; "" without one.
    """

    def __init__(self, may_write: bool = False) -> None:
        self.token = secrets.token_urlsafe(TOKEN_SIZE)
        self.writing = secrets.token_urlsafe(TOKEN_SIZE) if may_write else ""
        self.is_spent = threading.Event()  # the code
        self._code = ""
        self._expiry = 0.0

    def make_code(self) -> str:
        """Returns a new code, in the place of an earlier one."""
        self._code = secrets.token_urlsafe(TOKEN_SIZE)
        self._expiry = clock.ticks() + CODE_LIFETIME
        return self._code

    def accept(self, text: str) -> str:
        """Returns the token that a text is or stands for, "" for none. A code is spent by that."""
        if self._code and _is_equal(text, self._code):
            self._code = ""
            self.is_spent.set()
            return (self.writing or self.token) if clock.ticks() < self._expiry else ""
        return self.find(text)

    def find(self, text: str) -> str:
        """Returns the token that a text is; "" for none."""
        return next((token for token in (self.token, self.writing) if token and _is_equal(text, token)), "")


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
        elif _is_entry(scope) and (tokens := parse_qs(scope["query_string"].decode("latin-1")).get("token")):
            await self._let_in(scope, send, tokens[0])
        elif token := self._token_of(scope):
            scope[HAS_TOKEN], scope[MAY_WRITE] = True, token == self._tokens.writing
            await self._app(scope, receive, send)
        else:
            await _refuse(scope, send)

    async def _let_in(self, scope: Scope, send: Send, text: str) -> None:
        token = self._tokens.accept(text) if scope["method"] == "GET" else self._tokens.find(text)
        if not token:
            await _refuse(scope, send)
            return
        scope[HAS_TOKEN] = True
        cookie = f"{self._cookie}={token}; Path=/; HttpOnly; SameSite=Strict"
        await respond(send, 200, WELCOME, [("set-cookie", cookie)], "text/html")

    def _is_ours(self, host: str) -> bool:
        return host in self._hosts or (self._takes_addresses and _is_address(host))

    def _token_of(self, scope: Scope) -> str:
        """Returns the token in a cookie; "" for none. A server on another port may have set one of the same name."""
        pairs = (pair.strip().partition("=") for pair in header(scope, b"cookie").split(";"))
        found = (self._tokens.find(value) for name, _, value in pairs if name == self._cookie)
        return next(filter(None, found), "")


def host_name(host: str) -> str:
    """Returns the name in a Host header, without the port and the brackets of IPv6."""
    return PORT.sub("", host).strip("[]").rstrip(".").lower()


def _is_entry(scope: Scope) -> bool:
    return scope["path"] == "/" and scope["method"] in METHODS


async def _refuse(scope: Scope, send: Send) -> None:
    if scope["path"].startswith("/api/"):
        await respond(send, 403, json.dumps({"error": NO_TOKEN}), content_type=JSON)
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
