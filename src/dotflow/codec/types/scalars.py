"""Numbers, text, bytes, ids and paths that JSON has no word for."""

import binascii
import math
import os
import pathlib
import re
import struct
import sys
import uuid
from typing import Any, Final

from dotflow.codec.types.classes import NotEncodable

#: Bits. Beyond, a number is written in base 16: Python may be told to refuse numbers of more than 640 decimal digits
#: (sys.set_int_max_str_digits), which takes 2126 bits.
LONG: Final = 2000

_HEX: Final = re.compile(r"-?0x[0-9a-f]+")
_DECIMAL: Final = re.compile(r"-?(?:[0-9]+(?:\.[0-9]+)?(?:[Ee][+-][0-9]+)?|Infinity|s?NaN[0-9]*)")

_FLOATS: Final = frozenset({"nan", "inf", "-inf"})
_NAN: Final = struct.pack(">d", math.nan)

_PATHS: Final = {
    kind.__name__: kind
    for kind in (pathlib.PosixPath, pathlib.WindowsPath, pathlib.PurePosixPath, pathlib.PureWindowsPath)
}
_FOREIGN: Final = "PosixPath" if os.name == "nt" else "WindowsPath"


def read_long(payload: object) -> int:
    """A number in base 16, as hex() writes it."""
    return int(_text(payload, _HEX), 16)


def write_float(value: float) -> str:
    """An infinity, or what is no number: with its bits, where these are unusual."""
    if value != value and struct.pack(">d", value) != _NAN:
        return f"nan:{struct.pack('>d', value).hex()}"
    return repr(value)


def read_float(payload: object) -> float:
    """The opposite of `write_float`."""
    text = _text(payload)
    if text in _FLOATS:
        return float(text)  # a new one each time: two NaNs are two keys of a dict, but one NaN is one
    prefix, _, bits = text.partition(":")
    value: float = struct.unpack(">d", bytes.fromhex(bits))[0]
    if prefix != "nan" or value == value or bits != bits.lower():
        raise ValueError("it is no such number")
    return value


def read_surrogates(payload: object) -> str:
    """Joins what `split_surrogates` returned."""
    if type(payload) is not list:
        raise TypeError("it is not a list")
    if not all(type(piece) is str or (type(piece) is int and 0xD800 <= piece <= 0xDFFF) for piece in payload):
        raise ValueError("it is not made of text and surrogates")
    return "".join(chr(piece) if type(piece) is int else piece for piece in payload)


def write_bytes(value: bytes | memoryview) -> str:
    """In base 64."""
    return binascii.b2a_base64(value, newline=False).decode("ascii")


def read_bytes(payload: object) -> bytes:
    """The opposite of `write_bytes`."""
    return binascii.a2b_base64(_text(payload), strict_mode=True)


def read_buffer(payload: object) -> bytes | memoryview:
    """What stands in base 64, or was taken from a part beside the document."""
    return payload if isinstance(payload, bytes | memoryview) else read_bytes(payload)


def read_decimal(payload: object) -> Any:
    """A Decimal with all of its digits, as str() writes it."""
    import decimal

    # Its own context: the program's may be set to pass over what can't be read.
    return decimal.Decimal(_text(payload, _DECIMAL), decimal.Context(traps=[decimal.InvalidOperation]))


def write_uuid(value: uuid.UUID) -> str | list[str]:
    """As it is usually written; with a word for whether it was made safely, where that is known."""
    safe = value.is_safe
    return str(value) if safe is uuid.SafeUUID.unknown else [str(value), safe.name]


def read_uuid(payload: object) -> uuid.UUID:
    """The opposite of `write_uuid`."""
    text, safe = payload if type(payload) is list and len(payload) == 2 else (payload, "unknown")
    value = uuid.UUID(_text(text), is_safe=uuid.SafeUUID[_text(safe)])
    if str(value) != text:
        raise ValueError("it is not written as UUIDs are here")
    return value


def write_path(value: pathlib.PurePath) -> str | list[str]:
    """A POSIX system's path as text; others with their kind. Raises NotEncodable if the text leads elsewhere."""
    kind, text = type(value), str(value)
    again = kind(text)
    if str(again) != text or again.parts != value.parts:
        raise NotEncodable("what it is written as means another path")
    return text if kind is pathlib.PosixPath else [kind.__name__, text]


def read_path(payload: object) -> pathlib.PurePath:
    """The opposite of `write_path`."""
    name, text = payload if type(payload) is list and len(payload) == 2 else ("PosixPath", payload)
    if name == _FOREIGN:
        raise ValueError(f"it is a {name}, and this system is another")
    value = _PATHS[_text(name)](_text(text))
    if str(value) != text:
        raise ValueError("it is not written as paths are here")
    return value


def is_decimal(kind: type) -> bool:
    """Whether a type is Decimal; if it is, its module has been imported."""
    module = sys.modules.get("decimal")
    return module is not None and kind is module.Decimal


def _text(payload: object, form: re.Pattern[str] | None = None) -> str:
    if type(payload) is not str:
        raise TypeError("it is not text")
    if form is not None and form.fullmatch(payload) is None:
        raise ValueError("it is not written as it would be here")
    return payload
