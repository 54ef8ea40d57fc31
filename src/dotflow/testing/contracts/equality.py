"""Whether a value came back the same: equal, and of the same type at every level."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Final

from dotflow.codec import encode
from dotflow.core.context import Context
from dotflow.core.failure import name_of
from dotflow.core.text import safe_repr, shorten
from dotflow.errors import ValueNotStorable

MAX_LENGTH: Final = 200  # characters of a value that a message shows
MISSING: Final = object()


def difference(expected: object, actual: object, *, moments: bool = True) -> str:
    """Returns what differs between two values, for the end of a sentence; an empty text if nothing does.

    Args:
        expected: The value before.
        actual: The value after.
        moments: Whether the times of two Contexts count.
    """
    return _Comparison(moments).compare(expected, actual, "")


def _shown(value: object) -> str:
    return shorten(safe_repr(value), MAX_LENGTH)


class _Comparison:
    """A comparison of two values, which may contain themselves."""

    def __init__(self, moments: bool) -> None:
        self._moments = moments
        self._within: set[tuple[int, int]] = set()

    def compare(self, expected: Any, actual: Any, path: str) -> str:
        if type(expected) is not type(actual):
            return _describe(expected, actual, path)
        pair = (id(expected), id(actual))
        if pair in self._within:
            return ""
        self._within.add(pair)
        try:
            return self._compare(expected, actual, path)
        finally:
            self._within.discard(pair)

    def _compare(self, expected: Any, actual: Any, path: str) -> str:
        if isinstance(expected, Mapping):
            return self._mapping(expected, actual, path)
        if isinstance(expected, set | frozenset):
            return self._set(expected, actual, path)
        parts, actual_parts = self._parts(expected), self._parts(actual)
        if parts is None or actual_parts is None:
            return "" if self._is_same(expected, actual) else _describe(expected, actual, path)
        if parts.keys() != actual_parts.keys():
            return _describe(expected, actual, path)
        texts = (self.compare(part, actual_parts[name], f"{path}{name}") for name, part in parts.items())
        return next(filter(None, texts), "")

    def _mapping(self, expected: Any, actual: Any, path: str) -> str:
        factories = [getattr(item, "default_factory", None) for item in (expected, actual)]
        if len(expected) != len(actual) or factories[0] is not factories[1]:
            return _describe(expected, actual, path)
        by_key = _index(actual)
        for key, value in expected.items():
            other = self._counterpart(key, by_key)
            if other is MISSING:
                return _describe(expected, actual, path)
            text = self.compare(value, actual[other], f"{path}[{_shown(key)}]")
            if text:
                return text
        return ""

    def _set(self, expected: Any, actual: Any, path: str) -> str:
        by_key = _index(actual)
        same = len(expected) == len(actual) and all(self._counterpart(item, by_key) is not MISSING for item in expected)
        return "" if same else _describe(expected, actual, path)

    def _counterpart(self, key: object, by_key: Mapping[object, object]) -> object:
        """Returns the same key of another mapping or set, which takes 1 for 1.0 and True; this does not."""
        candidate = by_key.get((type(key), key), MISSING)
        if candidate is not MISSING and not self.compare(key, candidate, ""):
            return candidate
        return next((other for other in by_key.values() if not self.compare(key, other, "")), MISSING)

    def _parts(self, value: Any) -> dict[str, Any] | None:
        """Returns the parts of a value by their paths in it; None for a value without parts."""
        if isinstance(value, list | tuple):
            return {f"[{index}]": item for index, item in enumerate(value)}
        if isinstance(value, Context):
            names = ["storage", "task_id", "workflow_id", "step", *(["time"] if self._moments else [])]
            return {f".{name}": getattr(value, name) for name in names}
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {f".{field.name}": getattr(value, field.name, MISSING) for field in dataclasses.fields(value)}
        if hasattr(type(value), "model_fields"):  # a Pydantic model
            fields = {**vars(value), **(getattr(value, "model_extra", None) or {})}
            return {f".{name}": field for name, field in fields.items()}
        return None

    def _is_same(self, expected: Any, actual: Any) -> bool:
        """Returns whether two values without parts are the same. Their encoded text tells int32 from int64."""
        if expected is actual:
            return True
        try:
            if encode(expected) == encode(actual):
                return True
        except ValueNotStorable:
            return self._is_equal(expected, actual)
        equals = getattr(expected, "equals", None)  # equal data frames may have other buffers
        return callable(equals) and bool(equals(actual))

    def _is_equal(self, expected: Any, actual: Any) -> bool:
        try:
            if expected == actual:
                return True
        except Exception:  # the value's own method, which may return no bool
            return False
        kind: Any = type(expected)
        if kind.__eq__ is not object.__eq__:
            return False
        try:  # it equals only itself, so its state decides
            parts, actual_parts = expected.__reduce_ex__(4), actual.__reduce_ex__(4)
        except Exception:  # the value's own method, or no picklable state
            return False
        return not self.compare(parts, actual_parts, "")


def _index(keys: Iterable[object]) -> dict[object, object]:
    return {(type(key), key): key for key in keys}


def _describe(expected: object, actual: object, path: str) -> str:
    at = f"at {path} " if path else ""
    if actual is MISSING:
        return f"{at}expected {_shown(expected)}, and there is nothing"
    types = name_of(type(expected)), name_of(type(actual))
    if type(expected) is not type(actual):
        types = (types[0], f"another {types[1]}" if types[0] == types[1] else types[1])
        return f"{at}expected {_shown(expected)} (of type {types[0]}), came {_shown(actual)} (of type {types[1]})"
    return f"{at}expected {_shown(expected)}, came {_shown(actual)}"
