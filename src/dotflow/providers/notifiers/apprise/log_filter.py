"""Keeps back what libraries log in one thread while it sends a request that holds secrets."""

import contextlib
import logging
import re
import threading
from collections.abc import Iterator
from typing import Final

#: Loggers that log URLs, hosts and payloads, which hold the secrets.
LOGGERS: Final = (
    "apprise",
    "requests",
    "requests_oauthlib.oauth1_session",
    "requests_oauthlib.oauth2_session",
    "urllib3.connection",
    "urllib3.connectionpool",
    "urllib3.poolmanager",
    "urllib3.response",
    "urllib3.util.retry",
)

_STATUS: Final = re.compile(r"\berror=(\d{3})\b")


class _Capture(threading.local):
    """The messages of this thread; None while nothing is kept back."""

    messages: list[str] | None = None


_thread = _Capture()


@contextlib.contextmanager
def suppressed_logs() -> Iterator[list[str]]:
    """Keeps this thread's records of LOGGERS from all handlers. Their messages are in the list instead."""
    for name in LOGGERS:
        logging.getLogger(name).addFilter(_passes)  # a logger adds the same filter only once
    outer, _thread.messages = _thread.messages, []
    try:
        yield _thread.messages
    finally:
        _thread.messages = outer


def http_status_in(messages: list[str]) -> str:
    """Returns the last HTTP status in the messages, which is no secret; "" if there is none."""
    for line in reversed(messages):
        if match := _STATUS.search(line):
            return match[1]
    return ""


def _passes(record: logging.LogRecord) -> bool:
    if _thread.messages is None:
        return True
    with contextlib.suppress(Exception):  # formatting a library's own arguments may fail
        _thread.messages.append(record.getMessage())
    return False
