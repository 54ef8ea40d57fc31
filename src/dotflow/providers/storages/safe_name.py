"""File names that are safe on every system, for any text."""

import re
from hashlib import sha256
from typing import Final

PLAIN: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
UNSAFE: Final = re.compile(r"[^a-z0-9]+")

#: Windows takes these for devices, whatever folder they stand in.
DEVICES: Final = frozenset(
    ["con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(10))]
)

MAX_READABLE: Final = 40  # characters of a text that isn't safe which its name still shows


def safe_name(text: str) -> str:
    """A file name for *text*: the text itself if it is short and plain, else what is plain in it and a digest.

    Different texts have different names, on systems too that don't tell capitals from small letters. A name has no dot
    and no slash, so it can't lead anywhere, and any ending makes a kind of its own.
    """
    if is_plain(text):
        return text
    readable = UNSAFE.sub("_", text[: 2 * MAX_READABLE].lower())[:MAX_READABLE].strip("_")
    return f"{readable}~{sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"


def is_plain(text: str) -> bool:
    """Whether *text* is its own safe name."""
    return PLAIN.fullmatch(text) is not None and text not in DEVICES
