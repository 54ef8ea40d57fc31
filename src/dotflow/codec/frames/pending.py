"""What a description of a value leaves to others: Python values, which may be anything, and Arrow arrays."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from dotflow.codec.frames.ipc import same_arrays
from dotflow.codec.types.scalars import write_bytes
from dotflow.codec.types.value_path import pass_on
from dotflow.errors import ValueNotStorable


class Inner:
    """A value inside a description, which is still to be encoded.

    Args:
        value: The value.
        place: Where it stands, as one would write it.
    """

    __slots__ = ("place", "value")

    def __init__(self, value: Any, place: str = "") -> None:
        self.value = value
        self.place = place


class Blob:
    """The bytes of a value inside a description, which stand in base 64 or lie beside the document.

    Args:
        data: The bytes.
        suffix: How the name of a file ends that holds them.
    """

    __slots__ = ("data", "suffix")

    def __init__(self, data: memoryview, suffix: str) -> None:
        self.data = data
        self.suffix = suffix


class Stored:
    """An Arrow array inside a description, which goes into an Arrow IPC stream."""

    __slots__ = ("array",)

    def __init__(self, array: Any) -> None:
        self.array = array


def number(description: Any, store: list[Any]) -> Any:
    """The description with numbers in place of the Arrow arrays, which are added to *store*."""

    def put(stored: Stored) -> int:
        store.append(stored.array)
        return len(store) - 1

    return _replaced(description, Stored, put)


def fill_in(
    description: Any,
    encode_inner: Callable[[Any], Any],
    put_aside: Callable[[memoryview, str], Any] = lambda data, suffix: None,
) -> Any:
    """The description as JSON. Raises ValueNotStorable for a value inside that can't be kept."""

    def encode(inner: Inner) -> Any:
        try:
            return encode_inner(inner.value)
        except ValueNotStorable as error:
            pass_on(error, inner.value, inner.place)
            raise

    def encode_blob(blob: Blob) -> Any:
        return put_aside(blob.data, blob.suffix) or write_bytes(blob.data)

    return _replaced(_replaced(description, Inner, encode), Blob, encode_blob)


def decoded(description: Any) -> Any:
    """The description as it will be when it has been written and read."""
    return _replaced(_replaced(description, Inner, lambda inner: inner.value), Blob, lambda blob: blob.data)


def same(one: Any, other: Any) -> bool:
    """Whether two descriptions say the same. What they leave to others must be the same objects, or say the same."""
    if type(one) is not type(other):
        return False
    if type(one) is Stored:
        return same_arrays(one.array, other.array)
    if type(one) is Inner:
        return _same_values(one.value, other.value)
    if type(one) is dict:
        return one.keys() == other.keys() and all(same(part, other[key]) for key, part in one.items())
    if type(one) is list:
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def _replaced(description: Any, kind: type, replace: Callable[[Any], Any]) -> Any:
    """The description with something else in place of each part of one kind."""
    if type(description) is dict:
        return {key: _replaced(part, kind, replace) for key, part in description.items()}
    if type(description) is list:
        return [_replaced(part, kind, replace) for part in description]
    return replace(description) if type(description) is kind else description


def _same_values(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if type(one) is list:
        return len(one) == len(other) and all(map(_same_values, one, other))
    if type(one) is dict:
        return list(one) == list(other) and all(_same_values(one[key], other[key]) for key in one)
    if type(one) is datetime:
        return one.tzinfo is other.tzinfo and one == other
    return type(one) is str and one == other
