"""Text from anywhere: with lone surrogates, which UTF-8 doesn't have, or too long for a message."""

import re
from typing import Final

MAX_MESSAGE: Final = 300  # characters of a message that repeats what a file or a library says

_SURROGATE: Final = re.compile("([\ud800-\udfff])")


def is_utf8(text: str) -> bool:
    """Whether a text is free of lone surrogates."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def escape_surrogates(text: str) -> str:
    r"""Returns the text with a lone surrogate as the six characters of its escape, such as \ud800."""
    return text if is_utf8(text) else text.encode("utf-8", "backslashreplace").decode()


def split_surrogates(text: str) -> list[str | int]:
    """Returns the parts of a text: lone surrogates as numbers, between the rest."""
    return [ord(part) if "\ud800" <= part <= "\udfff" else part for part in _SURROGATE.split(text) if part]


def shorten(text: str, length: int = MAX_MESSAGE) -> str:
    """Returns the text cut to a number of characters, with escapes for what can't be printed."""
    cut = text if len(text) <= length else f"{text[:length]}..."
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in cut)


def safe_repr(value: object) -> str:
    """Returns the repr of a value, or a text in its place where the value's own code raises."""
    try:
        return str(repr(value))
    except Exception as error:  # the user's own __repr__, or one that never ends
        return f"<{type(value).__qualname__}: its repr raised {type(error).__name__}>"
