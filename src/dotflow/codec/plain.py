"""Values that JSON can hold as they are, and the JSON that is written."""

from typing import Any, Final

from dotflow import cpython
from dotflow.codec.types.scalars import MAX_DECIMAL_BITS
from dotflow.core.text import is_utf8

INT_LIMIT: Final = 1 << MAX_DECIMAL_BITS  # an int from here on is written in base 16

_PLAIN: Final = frozenset({type(None), bool, int, float, str})
_NUMBERS: Final = frozenset({bool, int, float})
_TEXT: Final = frozenset({str})

#: Writes JSON. Raises ValueError for floats that are not finite.
dump: Final = cpython.json_writer()


def is_plain(values: Any, *, careful: bool) -> bool:
    """Whether JSON can hold each of these as it is. *careful*: as in a Writer."""
    kinds = set(map(type, values))
    if careful or not kinds <= _PLAIN:
        return False
    if int not in kinds:
        return True
    if kinds <= _NUMBERS:
        return bool(min(values) > -INT_LIMIT and max(values) < INT_LIMIT)
    return all(-INT_LIMIT < value < INT_LIMIT for value in values if type(value) is int)


def are_keys(names: Any, *, careful: bool) -> bool:
    """Whether each of these can be a key of a JSON object, where none is taken for a tag."""
    if not set(map(type, names)) <= _TEXT:
        return False
    text = "".join(names)
    return not ("$" in text and any(name[:1] == "$" for name in names)) and not (careful and not is_utf8(text))
