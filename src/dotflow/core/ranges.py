"""Ranges of run parameters: the values that a text lists, and all combinations of several lists."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from dotflow.core.durations import to_seconds
from dotflow.core.text import shorten

MOST: Final = 10_000  # runs of one backfill
SHOWN: Final = 60  # characters of a wrong value
DAY: Final = timedelta(days=1)

Convert = Callable[[str], Any]


class InvalidRange(ValueError):
    """A text lists no values, or too many: why, in words."""


def expand(text: str, convert: Convert, accepted: str) -> list[Any]:
    """Returns the values that a text lists, each once, in its order.

    `a,b` are two values. `A..B` are days or whole numbers, both ends included, `A..B/7d` each seventh day, and
    `A..B/1h` moments. Where the values are texts, days and numbers stay texts.

    Args:
        text: The text.
        convert: Makes a value of a text; raises ValueError for a wrong one.
        accepted: What it accepts, for errors: "a date, such as 2026-11-25".

    Raises:
        InvalidRange: A value is wrong, a range is empty, or there are too many values.
    """
    values: dict[Any, None] = {}
    parts = [part.strip() for part in text.split(",")]
    for part in parts:
        if not part and len(parts) > 1:
            raise InvalidRange("a value is empty. Remove a comma")
        values.update(dict.fromkeys(_values(part, convert, accepted)))
        _check_count(len(values))
    return list(values)


def combinations(values: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """Returns all combinations, one after the other; the last parameter changes first. Raises InvalidRange."""
    _check_count(math.prod(map(len, values.values())))
    return (dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values()))


def _check_count(count: int) -> None:
    if count > MOST:
        raise InvalidRange(f"these are {count:,} values, of {MOST:,} at most. Split them up")


def _values(part: str, convert: Convert, accepted: str) -> Sequence[Any]:
    first, dots, rest = part.partition("..")
    if not dots:
        return [_convert(part, convert, accepted)]
    value = _convert(first, convert, accepted)
    if isinstance(value, str):
        return _texts(part, first, rest)
    return [convert(part)] if isinstance(value, Path) else _range(value, rest, convert, accepted)


def _texts(part: str, first: str, rest: str) -> Sequence[str]:
    """Returns the texts of a range of days or numbers; a text that begins with neither is one value."""
    if first.isascii() and first.isdigit():
        width = len(first) if first.startswith("0") else 0
        start: Any = _convert(first, int, "a whole number")
        return [str(number).zfill(width) for number in _range(start, rest, int, "a whole number")]
    for kind in (date, datetime):
        try:
            start = kind.fromisoformat(first)
        except ValueError:
            continue
        if kind is date:
            return [str(day) for day in _range(start, rest, date.fromisoformat, "a date, such as 2026-11-25")]
        raise InvalidRange("moments need the type datetime. Annotate the parameter of a step that takes it")
    return [part]


def _range(first: Any, rest: str, convert: Convert, accepted: str) -> list[Any]:
    text, slash, every = rest.partition("/")
    last = _convert(text, convert, accepted)
    step: Any = 1
    if isinstance(first, datetime):
        step = _step(every, "A..B/1h")
        if first.utcoffset() != last.utcoffset():
            raise InvalidRange("its ends have different offsets from UTC. Write both with the same one")
    elif isinstance(first, date):
        step = _step(every, "A..B/7d") if slash else DAY
        if step % DAY:
            raise InvalidRange(f"the step '{shorten(every, SHOWN)}' is no number of days. Write one, such as A..B/7d")
    elif type(first) is not int:
        raise InvalidRange("only dates, datetimes and whole numbers have ranges. List the values: a,b")
    elif slash:
        raise InvalidRange("a range of numbers has no step. Write A..B")
    if last < first:
        raise InvalidRange("it ends before it begins. Write the earlier end first")
    count = (last - first) // step + 1
    _check_count(count)  # before they are made
    return [first + step * number for number in range(count)]


def _step(text: str, example: str) -> timedelta:
    step = timedelta(seconds=to_seconds(text) or 0)
    if not step:
        why = f"the step '{shorten(text, SHOWN)}' is no duration" if text else "it has no step"
        raise InvalidRange(f"{why}. Write one, such as {example}")
    return step


def _convert(text: str, convert: Convert, accepted: str) -> Any:
    try:
        return convert(text)
    except (ValueError, RecursionError):
        raise InvalidRange(f"'{shorten(text, SHOWN)}' is not accepted. Write {accepted}") from None
