"""Sizes, which users write as numbers of bytes or texts such as "256 MB"."""

import re
from typing import Final

from dotflow.errors import InvalidArgument

_SIZE: Final = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?)\s*(B|kB|[MGT]B|[KMGT]iB)?")
_UNITS: Final = {None: 1, "B": 1} | {
    f"{prefix}{unit}": base**power
    for unit, base, prefixes in (("B", 1000, "kMGT"), ("iB", 1024, "KMGT"))
    for power, prefix in enumerate(prefixes, 1)
}

#: What is accepted, for errors.
SIZES: Final = 'a number of bytes, or a text such as "64 kB", "256 MB" or "2 GB"'


def to_bytes(value: object) -> int | None:
    """Returns the bytes; None for anything else."""
    text = value if isinstance(value, str) else str(value) if type(value) is int and value.bit_length() < 64 else ""
    match = _SIZE.fullmatch(text.strip())
    return None if match is None else int(float(match[1]) * _UNITS[match[2]])


def as_bytes(name: str, value: object) -> int:
    """Returns the bytes of a public argument. Raises InvalidArgument for anything else."""
    count = to_bytes(value)
    if count is None:
        raise InvalidArgument(name, value, SIZES)
    return count


def size_text(count: int) -> str:
    """Returns a size with three digits: `1.5 GB`."""
    unit, factor = next((one for one in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)) if count >= one[1]), ("kB", 1e3))
    return f"{count / factor:.3g} {unit}"
