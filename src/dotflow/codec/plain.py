"""What JSON has a word for, and the JSON that is written."""

import json
from typing import Any, Final

from dotflow.codec.types.scalars import LONG
from dotflow.core.text import is_utf8

BOUND: Final = 1 << LONG  # an int from here on is written in base 16

_PLAIN: Final = frozenset({type(None), bool, int, float, str})
_WHOLE: Final = frozenset({int})

#: What was written, as JSON. Raises ValueError for floats that are no numbers.
dump: Final = json.JSONEncoder(
    ensure_ascii=False, check_circular=False, allow_nan=False, separators=(", ", ": ")
).encode


def is_plain(values: Any, *, careful: bool) -> bool:
    """Whether JSON has a word for each of these. *careful*: as a Writer has it."""
    kinds = set(map(type, values))
    if careful or not kinds <= _PLAIN:
        return False
    if int not in kinds:
        return True
    if kinds == _WHOLE:
        return bool(min(values) > -BOUND and max(values) < BOUND)
    return all(-BOUND < value < BOUND for value in values if type(value) is int)


def is_key(name: object, *, careful: bool) -> bool:
    """Whether a key can stand in a JSON object, and is not taken for a tag there."""
    return type(name) is str and name[:1] != "$" and not (careful and not is_utf8(name))
