"""How any text stands in a storage: as a file name that is safe on every system."""

import re
from hashlib import sha256
from typing import Final

PLAIN: Final = re.compile(r"[a-z0-9][a-z0-9_@=,-]{0,63}")
UNSAFE: Final = re.compile(r"[^a-z0-9]+")

#: Names of devices on Windows, in every folder.
DEVICES: Final = frozenset(
    ["con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(10))]
)

MAX_READABLE: Final = 40  # characters of an unsafe text in its name


def safe_name(text: str) -> str:
    """Returns a file name for *text*: the text itself if it is short and plain, otherwise a plain excerpt and a digest.

    Different texts have different names, on systems that ignore case, too. A name has no dot and no slash.
    """
    if is_plain(text):
        return text
    readable = UNSAFE.sub("_", text[: 2 * MAX_READABLE].lower())[:MAX_READABLE].strip("_")
    return f"{readable}~{sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"


def is_plain(text: str) -> bool:
    """Returns whether *text* is its own safe name."""
    return PLAIN.fullmatch(text) is not None and text not in DEVICES
