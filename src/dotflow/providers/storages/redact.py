"""A service's own words, in an error of ours: in one line, and without what a URL may hide."""

import re
from typing import Final

LOGIN: Final = re.compile(r"(?<=//)[^/\s@]*@")
QUERY: Final = re.compile(r"\?[^\s\"'<>()\[\].,;:?!][^\s\"'<>]*")  # a question's mark has no text behind it
MAX_LENGTH: Final = 300  # characters of somebody else's message


def redact(text: str) -> str:
    """Somebody else's message, without logins and queries of URLs, and not too long."""
    line = " ".join(QUERY.sub("", LOGIN.sub("", text)).split())
    return line if len(line) <= MAX_LENGTH else f"{line[:MAX_LENGTH]}…"
