"""Text as a column of a database can hold it, and back."""

import re
from typing import Final

#: What no column of text can hold, or no function on text can handle, and what stands for it.
UNSTORABLE: Final = re.compile("[\0\ud800-\udfff\uffff]")
ESCAPED: Final = re.compile("\uffff([0-9a-f]{4})")


def escape(text: str) -> str:
    """The text as a column can hold it: itself, unless there is in it what none can hold. No two look the same."""
    if text.isascii() and "\0" not in text:  # most are, and this is seen sooner
        return text
    return UNSTORABLE.sub(lambda match: f"\uffff{ord(match[0]):04x}", text)


def unescape(escaped: str) -> str:
    """The text that was fitted."""
    return ESCAPED.sub(lambda match: chr(int(match[1], 16)), escaped)
