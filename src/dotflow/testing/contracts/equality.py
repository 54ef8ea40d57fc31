"""Whether a value came back as it was: equal, and of the same type at every level."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Final

from dotflow.codec import encode
from dotflow.core.context import Context
from dotflow.core.failure import name_of
from dotflow.errors import ValueNotStorable

SHOWN: Final = 200  # characters of a value that a message shows
MISSING: Final = object()


def difference(expected: object, found: object, *, moments: bool = True) -> str:
    """What differs between two values, in a sentence's end; empty where nothing does.

    Args:
        expected: The value as it was.
        found: The value as it came.
        moments: Whether a Context inside has to say of the same time, too.
    """
    return _Comparison(moments).compare(expected, found, "")


def shown(value: object) -> str:
    """The value for a message: its repr, cut."""
    try:
        text = repr(value)
    except Exception as error:  # the value's own method
        text = f"<{name_of(type(value))} whose repr raises {type(error).__name__}>"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}… ({len(text)} characters)"


class _Comparison:
    """One comparison of two values. It remembers where it is, so that a value may hold itself."""

    def __init__(self, moments: bool) -> None:
        self._moments = moments
        self._within: set[tuple[int, int]] = set()

    def compare(self, expected: Any, found: Any, place: str) -> str:
        if type(expected) is not type(found):
            return _told(expected, found, place)
        pair = (id(expected), id(found))
        if pair in self._within:
            return ""
        self._within.add(pair)
        try:
            return self._compare(expected, found, place)
        finally:
            self._within.discard(pair)

    def _compare(self, expected: Any, found: Any, place: str) -> str:
        if isinstance(expected, list | tuple):
            return self._sequence(expected, found, place)
        if isinstance(expected, Mapping):
            return self._mapping(expected, found, place)
        if isinstance(expected, set | frozenset):
            return self._set(expected, found, place)
        parts = self._parts(expected)
        if parts is None:
            return "" if self._is_same(expected, found) else _told(expected, found, place)
        others = self._parts(found) or {}
        for name, part in parts.items():
            told = self.compare(part, others.get(name, MISSING), f"{place}.{name}")
            if told:
                return told
        return "" if parts.keys() == others.keys() else _told(expected, found, place)

    def _sequence(self, expected: Any, found: Any, place: str) -> str:
        if len(expected) != len(found):
            return _told(expected, found, place)
        pairs = enumerate(zip(expected, found, strict=True))
        told = (self.compare(*pair, f"{place}[{number}]") for number, pair in pairs)
        return next(filter(None, told), "")

    def _mapping(self, expected: Any, found: Any, place: str) -> str:
        factories = [getattr(one, "default_factory", None) for one in (expected, found)]
        if len(expected) != len(found) or factories[0] is not factories[1]:
            return _told(expected, found, place)
        known = _index(found)
        for key, value in expected.items():
            other = self._counterpart(key, known)
            if other is MISSING:
                return _told(expected, found, place)
            told = self.compare(value, found[other], f"{place}[{shown(key)}]")
            if told:
                return told
        return ""

    def _set(self, expected: Any, found: Any, place: str) -> str:
        known = _index(found)
        same = len(expected) == len(found) and all(self._counterpart(one, known) is not MISSING for one in expected)
        return "" if same else _told(expected, found, place)

    def _counterpart(self, key: object, known: Mapping[object, object]) -> object:
        """The same key in another mapping or set: 1, 1.0 and True find each other there, but are not the same."""
        likely = known.get((type(key), key), MISSING)
        if likely is not MISSING and not self.compare(key, likely, ""):
            return likely
        return next((other for other in known.values() if not self.compare(key, other, "")), MISSING)

    def _parts(self, value: Any) -> dict[str, Any] | None:
        """What a value is made of, where it is more than one thing and says so."""
        if isinstance(value, Context):
            names = ["storage", "task_id", "workflow_id", "step", *(["time"] if self._moments else [])]
            return {name: getattr(value, name) for name in names}
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {field.name: getattr(value, field.name, MISSING) for field in dataclasses.fields(value)}
        if hasattr(type(value), "model_fields"):  # a Pydantic model
            return {**vars(value), **(getattr(value, "model_extra", None) or {})}
        return None

    def _is_same(self, expected: Any, found: Any) -> bool:
        """Whether two single things are the same. The codec's text tells 1.0 from 1.00, int32 from int64."""
        if expected is found:
            return True
        try:
            if encode(expected) == encode(found):
                return True
        except ValueNotStorable:
            return self._is_equal(expected, found)
        equals = getattr(expected, "equals", None)  # two data frames may be equal and lie in memory differently
        return callable(equals) and bool(equals(found))

    def _is_equal(self, expected: Any, found: Any) -> bool:
        try:
            if expected == found:
                return True
        except Exception:  # the value's own method, or one that has more answers than yes and no
            return False
        if "__eq__" in {name for kind in type(expected).__mro__[:-1] for name in vars(kind)}:
            return False
        try:  # it never equals anything but itself: it is the same if it is made of the same
            parts, others = expected.__reduce_ex__(4), found.__reduce_ex__(4)
        except Exception:  # the value's own method, or nothing that could be taken apart
            return False
        return not self.compare(parts, others, "")


def _index(keys: Iterable[object]) -> dict[object, object]:
    return {(type(key), key): key for key in keys}


def _told(expected: object, found: object, place: str) -> str:
    at = f"at {place} " if place else ""
    if found is MISSING:
        return f"{at}expected {shown(expected)}, and there is nothing"
    kinds = name_of(type(expected)), name_of(type(found))
    if type(expected) is not type(found):
        kinds = (kinds[0], f"another {kinds[1]}" if kinds[0] == kinds[1] else kinds[1])
        return f"{at}expected {shown(expected)} (of type {kinds[0]}), came {shown(found)} (of type {kinds[1]})"
    return f"{at}expected {shown(expected)}, came {shown(found)}"
