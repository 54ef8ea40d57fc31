"""What a description of a value leaves to others: Python values of any type, and bytes that may lie beside the JSON."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

from dotflow.codec.types.scalars import write_bytes
from dotflow.codec.types.value_path import add_step
from dotflow.errors import ValueNotStorable

#: A description of a value, in the types of JSON, with what is left to others.
Description = dict[str, Any]


class Pending(NamedTuple):
    """A Python value inside a description, which is still to be encoded. The path leads to it from the value."""

    value: Any
    path: str = ""


class Blob(NamedTuple):
    """Bytes inside a description: base 64, or a part of its own, whose file name ends in the suffix."""

    value: memoryview
    suffix: str


def fill_in(description: Any, encode_inner: Callable[[Any], Any], put_part: Callable[[memoryview, str], Any]) -> Any:
    """Returns the description as JSON. Raises ValueNotStorable for a value inside that can't be kept."""

    def encode(part: Pending | Blob) -> Any:
        if isinstance(part, Blob):
            return put_part(*part) or write_bytes(part.value)
        try:
            return encode_inner(part.value)
        except ValueNotStorable as error:
            add_step(error, part, part.path)
            raise

    return _replace(description, encode)


def decoded(description: Any) -> Any:
    """Returns the description as it will be when it has been written and read."""
    return _replace(description, lambda part: part.value)


def same(one: Any, other: Any) -> bool:
    """Whether two descriptions are the same: values inside too, as objects, or as equal numbers, text or zones."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if type(one) is Pending:
        return same(one.value, other.value)
    if type(one) is list:
        return len(one) == len(other) and all(map(same, one, other))
    if type(one) is dict:
        return list(one) == list(other) and all(same(part, other[key]) for key, part in one.items())
    if type(one) is datetime:
        return one.tzinfo is other.tzinfo and one == other
    return type(one) in (str, int) and bool(one == other)


def _replace(description: Any, replace: Callable[[Any], Any]) -> Any:
    if type(description) is dict:
        return {key: _replace(part, replace) for key, part in description.items()}
    if type(description) is list:
        return [_replace(part, replace) for part in description]
    return replace(description) if type(description) in (Pending, Blob) else description
