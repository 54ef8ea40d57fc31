"""A client for an ASGI app, which calls it without a server."""

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from dotflow.ui.security import ASGIApp, Message


class Response(NamedTuple):
    """A response; the names of the headers are in small letters."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def request(
    app: ASGIApp,
    path: str,
    *,
    method: str = "GET",
    body: bytes | None = b"",
    has_left: bool = False,
    on_body: Callable[[str], object] = lambda text: None,
    **headers: str,
) -> Response:
    """Sends a request, and returns the response. `if_none_match` is the header If-None-Match.

    A *body* of None never comes, and with *has_left* the client has gone. *on_body* receives the body of the response,
    also of an app that raises an error afterwards.
    """
    names = {name.replace("_", "-").lower(): value for name, value in {"host": "127.0.0.1:8765", **headers}.items()}
    path, _, query = path.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in names.items()],
        "server": ("127.0.0.1", 8765),
        "client": ("127.0.0.1", 50000),
    }
    messages: list[Message] = []

    async def receive() -> Message:
        if has_left:
            return {"type": "http.disconnect"}
        if body is None:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        messages.append(message)
        if message["type"] == "http.response.body":
            on_body(message.get("body", b"").decode())

    async def call() -> None:
        await app(scope, receive, send)

    asyncio.run(call())
    start, *bodies = messages
    fields = {name.decode(): value.decode("latin-1") for name, value in start["headers"]}
    return Response(start["status"], fields, b"".join(message.get("body", b"") for message in bodies))
