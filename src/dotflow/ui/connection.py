"""A connection to `dotflow ui`: clients that hang on don't keep others from being answered."""

import asyncio
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from dotflow.ui.security import HAS_TOKEN

MAX_CONNECTIONS: Final = 50  # a browser has up to six
REQUEST_TIMEOUT: Final = 10.0  # seconds for a whole request, also for one that comes byte by byte


class Connection(H11Protocol):
    """uvicorn's HTTP/1.1 with a limit for the time of a request and one for the number of connections.

    Of more connections, the oldest one is closed that has not shown the token, so that a new client is answered.
    uvicorn's `limit_concurrency` would refuse the new one, and its `timeout_keep_alive` begins with the first response.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._began = self.loop.time()
        self._had_token = False  # in an earlier request: the scope of the present one is new
        self._expiry = self._expect_request()
        if len(self.connections) > MAX_CONNECTIONS:
            others: list[Any] = [other for other in self.connections if other is not self]
            min(others, key=Connection._rank).close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._expiry.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        try:
            super().data_received(data)
        except h11.LocalProtocolError:  # the rest of the request is invalid, and the response to it is sent
            self.close()

    def on_response_complete(self) -> None:
        self._expiry.cancel()
        self._expiry = self._expect_request()
        self._had_token = self._has_token()
        super().on_response_complete()

    def close(self) -> None:
        """Closes the connection at once."""
        self.connections.discard(self)
        self.transport.abort()

    def _expect_request(self) -> asyncio.TimerHandle:
        return self.loop.call_later(REQUEST_TIMEOUT, self._expire)

    def _expire(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.close()

    def _has_token(self) -> bool:
        return self._had_token or (self.scope is not None and HAS_TOKEN in self.scope)

    def _rank(self) -> tuple[bool, float]:
        return self._has_token(), self._began
