"""Messages that repeat what a file says."""

from typing import Final

MAX_SHOWN: Final = 300  # characters of a message that may repeat what the text says


def shortened(text: str, length: int = MAX_SHOWN) -> str:
    """Return a message of a bearable length, which can be printed whatever it repeats."""
    shown = text if len(text) <= length else f"{text[:length]}..."
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in shown)
