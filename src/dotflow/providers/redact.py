"""Messages of services in our errors: one line without secrets."""

import re
from typing import Final

LOGIN: Final = re.compile(r"(?<=//)[^/\s@]*@")
QUERY: Final = re.compile(r"\?[^\s\"'<>()\[\].,;:?!][^\s\"'<>]*")  # not a question mark in a sentence
MAX_LENGTH: Final = 300  # characters


def redact(text: str) -> str:
    """Returns a message in one line, shortened, and without the logins and queries of URLs."""
    line = " ".join(QUERY.sub("", LOGIN.sub("", text)).split())
    return line if len(line) <= MAX_LENGTH else f"{line[:MAX_LENGTH]}…"


def with_advice(message: str, advice: str) -> str:
    """Returns a message and what to do about it, as two sentences."""
    message = message.rstrip(". ")
    return f"{message} {advice}" if message.endswith("?") else f"{message}. {advice}"
