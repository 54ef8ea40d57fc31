"""How any text stands in a text column of a database."""

import re
from typing import Final

#: Characters that text columns or SQL functions can't handle, and the escape character.
UNSTORABLE: Final = re.compile("[\0\ud800-\udfff\uffff]")
ESCAPED: Final = re.compile("\uffff([0-9a-f]{4})")


def escape(text: str) -> str:
    """Returns a text without those characters. Different texts stay different."""
    if text.isascii() and "\0" not in text:  # quick, for most texts
        return text
    return UNSTORABLE.sub(lambda match: f"\uffff{ord(match[0]):04x}", text)


def unescape(escaped: str) -> str:
    """Returns the text that was escaped."""
    return ESCAPED.sub(lambda match: chr(int(match[1], 16)), escaped)
