"""What other libraries log about a request with secrets in it goes nowhere, as long as it comes from its own thread."""

import contextlib
import logging
import re
import threading
from collections.abc import Iterator
from typing import Final

#: They name URLs, hosts and payloads, and in those are the secrets.
TALKERS: Final = (
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


class _Listening(threading.local):
    """What a thread has heard since it began to listen; None while it does not."""

    heard: list[str] | None = None


_here = _Listening()


@contextlib.contextmanager
def hushed() -> Iterator[list[str]]:
    """Inside, this thread's log lines of those libraries are kept from all handlers; they are in the list instead."""
    for name in TALKERS:
        logging.getLogger(name).addFilter(_is_free)  # no more than once: a logger looks for it first
    before, _here.heard = _here.heard, []
    try:
        yield _here.heard
    finally:
        _here.heard = before


def http_status_in(heard: list[str]) -> str:
    """The HTTP status that one of the lines tells, which is no secret; empty where none does."""
    for line in reversed(heard):
        if found := _STATUS.search(line):
            return found[1]
    return ""


def _is_free(record: logging.LogRecord) -> bool:
    if _here.heard is None:
        return True
    with contextlib.suppress(Exception):  # somebody else's arguments, put into words
        _here.heard.append(record.getMessage())
    return False
