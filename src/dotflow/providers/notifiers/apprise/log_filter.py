"""What other libraries log about a request with secrets in it goes nowhere, as long as it comes from its own thread."""

import contextlib
import logging
import re
import threading
from collections.abc import Iterator
from typing import Final

#: They name URLs, hosts and payloads, and in those are the secrets.
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
    """What a thread has heard since it began to listen; None while it does not."""

    messages: list[str] | None = None


_thread = _Capture()


@contextlib.contextmanager
def suppressed_logs() -> Iterator[list[str]]:
    """Inside, this thread's log lines of those libraries are kept from all handlers; they are in the list instead."""
    for name in LOGGERS:
        logging.getLogger(name).addFilter(_passes)  # no more than once: a logger looks for it first
    outer, _thread.messages = _thread.messages, []
    try:
        yield _thread.messages
    finally:
        _thread.messages = outer


def http_status_in(messages: list[str]) -> str:
    """The HTTP status that one of the lines tells, which is no secret; empty where none does."""
    for line in reversed(messages):
        if found := _STATUS.search(line):
            return found[1]
    return ""


def _passes(record: logging.LogRecord) -> bool:
    if _thread.messages is None:
        return True
    with contextlib.suppress(Exception):  # somebody else's arguments, put into words
        _thread.messages.append(record.getMessage())
    return False
