"""Digests of values, which are the same in every process: what a resumed run compares."""

from hashlib import blake2b
from typing import Any

from dotflow.codec.json import encode_bytes


def digest(value: Any) -> str:
    """Return a short text that is the same for the same value. Raises ValueNotStorable."""
    return blake2b(encode_bytes(value), digest_size=16).hexdigest()
