"""Digests of values, which are the same in every process: what a resumed run compares."""

from hashlib import blake2b
from json.encoder import encode_basestring
from typing import Any, Final

from dotflow.codec.json import encode_bytes
from dotflow.codec.parts import Raw
from dotflow.codec.plain import BOUND
from dotflow.core.text import is_utf8

_SIZE: Final = 16  # bytes


def digest(value: Any) -> str:
    """Returns a short text that is the same for the same value, in every process.

    Two values are the same if the codec writes the same of them: 1, True, 1.0 and "1" are four values. The members of
    sets are sorted first, wherever the sets stand. The order of a dict's keys is a part of its value. The place of a
    class is its import path, so the digest changes when the class moves.

    Raises:
        ValueNotStorable: The codec refuses the value. Pickle is never used.
    """
    text = _write_plain(value)
    if text is not None:
        return blake2b(text, digest_size=_SIZE).hexdigest()
    parts: list[Raw] = []
    found = blake2b(encode_bytes(value, parts=parts, is_sorted=True), digest_size=_SIZE)
    for part in parts:
        found.update(b"%d:" % part.data.nbytes)
        found.update(part.data)
    return found.hexdigest()


def _write_plain(value: Any) -> bytes | None:
    """Writes the commonest values as the codec would, but sooner; None for others."""
    kind = type(value)
    if kind is str:
        return encode_basestring(value).encode() if is_utf8(value) else None
    if kind is int and -BOUND < value < BOUND:
        return b"%d" % value
    return b"null" if value is None else None
