"""The path to what can't be kept in a value, as one would write it: `['rows'][3].conn`.

The path is built while the refusal passes upwards, so that a value that is kept pays nothing for it.
"""

from datetime import date, datetime, time, timedelta
from typing import Final

from dotflow.core.failure import name_of
from dotflow.errors import ValueNotStorable

_MAX_SHOWN: Final = 80  # characters of a key
_MAX_PATH: Final = 200  # characters of a path, which may be hundreds of steps deep

#: Keys whose repr is shown. That of another type may be the user's own.
_SHOWABLE: Final = frozenset({type(None), bool, int, float, str, bytes, date, datetime, time, timedelta})


class TooDeep(ValueNotStorable):
    """A value is nested too deep, perhaps because it contains itself."""

    def __init__(self, value: object, limit: int) -> None:
        super().__init__(name_of(type(value)), "", f"it is nested more than {limit} levels deep")
        self.steps: list[tuple[object, str]] = []  # each holder, and the step from there: from the inside out


def add_step(error: ValueNotStorable, holder: object, step: str) -> None:
    """Adds the step that leads from *holder* to where the refusal comes from."""
    error.place = step + error.place
    if isinstance(error, TooDeep):
        error.steps.append((holder, step))


def finish(error: ValueNotStorable) -> ValueNotStorable:
    """Returns the refusal to raise, for one that has passed all the way up."""
    if isinstance(error, TooDeep):
        path, seen = "", set[int]()
        for holder, step in reversed(error.steps):
            if id(holder) in seen:
                return ValueNotStorable(name_of(type(holder)), path, "it contains itself")
            seen.add(id(holder))
            path += step
    place, half = error.place, _MAX_PATH // 2
    place = place if len(place) <= _MAX_PATH else f"{place[:half]}...{place[-half:]}"
    refusal = ValueNotStorable(error.kind, place, error.reason)
    refusal.__cause__ = error.__cause__
    return refusal


def step_to(key: object, number: int) -> str:
    """Returns the step to the value of a dict's key; with the key's number where its repr can't be shown."""
    try:
        text = repr(key) if type(key) in _SHOWABLE else ""
    except ValueError:  # an int of more digits than Python converts
        text = ""
    return f"[{text}]" if 0 < len(text) <= _MAX_SHOWN else f"[<key {number}>]"
