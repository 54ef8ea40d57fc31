"""Digests of values, which are the same in every process. A resumed run compares them."""

from hashlib import blake2b
from json.encoder import encode_basestring
from typing import Any, Final

from dotflow.codec.json import encode_bytes
from dotflow.codec.parts import Raw
from dotflow.codec.plain import INT_LIMIT
from dotflow.core.text import is_utf8

_SIZE: Final = 16  # bytes


def digest(value: Any) -> str:
    """Returns a short text that is the same for the same value, in every process.

    Two values are the same if the codec writes the same text: 1, True, 1.0 and "1" are four values. The members of
    sets are sorted, at any depth. The order of a dict's keys counts. A class is known by its import path, so the digest
    changes when the class moves.

    Raises:
        ValueNotStorable: The codec refuses the value. Pickle is never used.
    """
    text = _write_plain(value)
    if text is not None:
        return blake2b(text, digest_size=_SIZE).hexdigest()
    parts: list[Raw] = []
    result = blake2b(encode_bytes(value, parts=parts, is_sorted=True), digest_size=_SIZE)
    for part in parts:
        result.update(b"%d:" % part.data.nbytes)
        result.update(part.data)
    return result.hexdigest()


def _write_plain(value: Any) -> bytes | None:
    """Writes the commonest values as the codec would, but sooner; None for others."""
    kind = type(value)
    if kind is str:
        return encode_basestring(value).encode() if is_utf8(value) else None
    if kind is int and -INT_LIMIT < value < INT_LIMIT:
        return b"%d" % value
    return b"null" if value is None else None
