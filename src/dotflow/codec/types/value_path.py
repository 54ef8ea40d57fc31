"""Where in a value something stands that can't be kept, as one would write it: `['rows'][3].conn`.

The place is put together while the refusal passes upwards, so that a value that is kept pays nothing for it.
"""

from datetime import date, datetime, time, timedelta
from typing import Final

from dotflow.core.failure import name_of
from dotflow.errors import ValueNotStorable

_SHOWN: Final = 80  # characters of a key, and of a place that is hundreds of steps deep

#: Keys that are shown. The __repr__ of another may be the user's own.
_SHOWABLE: Final = frozenset({type(None), bool, int, float, str, bytes, date, datetime, time, timedelta})


class TooDeep(ValueNotStorable):
    """A value is nested too deep, perhaps because it contains itself."""

    def __init__(self, value: object, limit: int) -> None:
        super().__init__(name_of(type(value)), "", f"it is nested more than {limit} levels deep")
        self.way: list[tuple[object, str]] = []  # what it passed through, and by which step: from the inside out


def pass_on(error: ValueNotStorable, holder: object, step: str) -> None:
    """Notes that a refusal has come one level further up, from where *step* leads within *holder*."""
    error.place = step + error.place
    if isinstance(error, TooDeep):
        error.way.append((holder, step))


def at_the_top(error: ValueNotStorable) -> ValueNotStorable:
    """What is told of a refusal that has come all the way up."""
    told = ValueNotStorable(error.kind, error.place, error.reason)
    if isinstance(error, TooDeep):
        told = _cycle_in(error) or ValueNotStorable(error.kind, f"{error.place[:_SHOWN]}...", error.reason)
    told.__cause__ = error.__cause__
    return told


def step_to(key: object, number: int) -> str:
    """How one would write the way to the value of a dict's key; by the key's number where it can't be shown."""
    try:
        text = repr(key) if type(key) in _SHOWABLE else ""
    except ValueError:  # a number of more digits than Python is willing to print
        text = ""
    return f"[{text}]" if 0 < len(text) <= _SHOWN else f"[<key {number}>]"


def _cycle_in(error: TooDeep) -> ValueNotStorable | None:
    """Where the value comes to something that it came through before; None if it doesn't."""
    place = ""
    seen: set[int] = set()
    for holder, step in reversed(error.way):
        if id(holder) in seen:
            return ValueNotStorable(name_of(type(holder)), place, "it contains itself")
        seen.add(id(holder))
        place += step
    return None
