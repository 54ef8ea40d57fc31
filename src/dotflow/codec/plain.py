"""Values that JSON can hold as they are, and the JSON that is written."""

import json
from typing import Any, Final

from dotflow.codec.types.scalars import MAX_DECIMAL_BITS
from dotflow.core.text import is_utf8

INT_LIMIT: Final = 1 << MAX_DECIMAL_BITS  # an int from here on is written in base 16

_PLAIN: Final = frozenset({type(None), bool, int, float, str})
_INTS: Final = frozenset({int})

#: Writes JSON. Raises ValueError for floats that are not finite.
dump: Final = json.JSONEncoder(
    ensure_ascii=False, check_circular=False, allow_nan=False, separators=(", ", ": ")
).encode


def is_plain(values: Any, *, careful: bool) -> bool:
    """Whether JSON can hold each of these as it is. *careful*: as in a Writer."""
    kinds = set(map(type, values))
    if careful or not kinds <= _PLAIN:
        return False
    if int not in kinds:
        return True
    if kinds == _INTS:
        return bool(min(values) > -INT_LIMIT and max(values) < INT_LIMIT)
    return all(-INT_LIMIT < value < INT_LIMIT for value in values if type(value) is int)


def is_key(name: object, *, careful: bool) -> bool:
    """Whether a key can stand in a JSON object, where it is not taken for a tag."""
    return type(name) is str and name[:1] != "$" and not (careful and not is_utf8(name))
