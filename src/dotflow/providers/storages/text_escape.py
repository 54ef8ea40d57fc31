"""Text as a column of a database can hold it, and back."""

import re
from typing import Final

#: What no column of text can hold, or no function on text can handle, and what stands for it.
UNFIT: Final = re.compile("[\0\ud800-\udfff\uffff]")
FITTED: Final = re.compile("\uffff([0-9a-f]{4})")


def fit(text: str) -> str:
    """The text as a column can hold it: itself, unless there is in it what none can hold. No two look the same."""
    if text.isascii() and "\0" not in text:  # most are, and this is seen sooner
        return text
    return UNFIT.sub(lambda found: f"\uffff{ord(found[0]):04x}", text)


def unfit(fitted: str) -> str:
    """The text that was fitted."""
    return FITTED.sub(lambda found: chr(int(found[1], 16)), fitted)
