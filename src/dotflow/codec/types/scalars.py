"""Numbers, text, bytes, ids and paths that JSON can't hold as they are."""

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

#: A longer int is written in base 16. The lowest limit that Python can be given, 640 decimal digits, takes 2126 bits
#: (sys.set_int_max_str_digits).
MAX_DECIMAL_BITS: Final = 2000

_HEX: Final = re.compile(r"-?0x[0-9a-f]+")
_DECIMAL: Final = re.compile(r"-?(?:[0-9]+(?:\.[0-9]+)?(?:[Ee][+-][0-9]+)?|Infinity|s?NaN[0-9]*)")

_FLOATS: Final = frozenset({"nan", "inf", "-inf"})
_NAN: Final = struct.pack(">d", math.nan)

_PATHS: Final = {
    kind.__name__: kind
    for kind in (pathlib.PosixPath, pathlib.WindowsPath, pathlib.PurePosixPath, pathlib.PureWindowsPath)
}
_FOREIGN: Final = "PosixPath" if os.name == "nt" else "WindowsPath"


def read_hex_int(payload: object) -> int:
    """Reads a number in base 16, as hex() writes it."""
    return int(_text(payload, _HEX), 16)


def write_float(value: float) -> str:
    """Writes an infinity or a nan, the latter with its bits where these are unusual."""
    if value != value and struct.pack(">d", value) != _NAN:
        return f"nan:{struct.pack('>d', value).hex()}"
    return repr(value)


def read_float(payload: object) -> float:
    """Reads what `write_float` wrote."""
    text = _text(payload)
    if text in _FLOATS:
        return float(text)  # a new one each time: two NaNs are two keys of a dict, but one NaN is one
    prefix, _, bits = text.partition(":")
    value: float = struct.unpack(">d", bytes.fromhex(bits))[0]
    if prefix != "nan" or value == value or bits != bits.lower():
        raise ValueError("it is not a nan")
    return value


def read_surrogates(payload: object) -> str:
    """Joins what `split_surrogates` returned."""
    if type(payload) is not list:
        raise TypeError("it is not a list")
    if not all(type(part) is str or (type(part) is int and 0xD800 <= part <= 0xDFFF) for part in payload):
        raise ValueError("it is not made of text and surrogates")
    return "".join(chr(part) if type(part) is int else part for part in payload)


def write_bytes(value: bytes | memoryview) -> str:
    """Writes bytes in base 64."""
    return binascii.b2a_base64(value, newline=False).decode("ascii")


def read_bytes(payload: object) -> bytes:
    """Reads what `write_bytes` wrote."""
    return binascii.a2b_base64(_text(payload), strict_mode=True)


def read_buffer(payload: object) -> bytes | memoryview:
    """Reads base 64, or returns the bytes of a part that lay beside the document."""
    return payload if isinstance(payload, bytes | memoryview) else read_bytes(payload)


def read_decimal(payload: object) -> Any:
    """Reads a Decimal with all of its digits, as str() writes it."""
    import decimal

    # A context of its own, since the program's may ignore invalid numbers.
    return decimal.Decimal(_text(payload, _DECIMAL), decimal.Context(traps=[decimal.InvalidOperation]))


def write_uuid(value: uuid.UUID) -> str | list[str]:
    """Writes a UUID in its usual form; with its safety, where that is known."""
    safe = value.is_safe
    return str(value) if safe is uuid.SafeUUID.unknown else [str(value), safe.name]


def read_uuid(payload: object) -> uuid.UUID:
    """Reads what `write_uuid` wrote."""
    text, safe = payload if type(payload) is list and len(payload) == 2 else (payload, "unknown")
    value = uuid.UUID(_text(text), is_safe=uuid.SafeUUID[_text(safe)])
    if str(value) != text:
        raise ValueError("its form is not the usual one")
    return value


def write_path(value: pathlib.PurePath) -> str | list[str]:
    """Writes a PosixPath as text, other paths with their kind. Raises NotEncodable if the text is another path."""
    kind, text = type(value), str(value)
    again = kind(text)
    if str(again) != text or again.parts != value.parts:
        raise NotEncodable("its text means another path")
    return text if kind is pathlib.PosixPath else [kind.__name__, text]


def read_path(payload: object) -> pathlib.PurePath:
    """Reads what `write_path` wrote."""
    name, text = payload if type(payload) is list and len(payload) == 2 else ("PosixPath", payload)
    if name == _FOREIGN:
        raise ValueError(f"it is a {name} of another operating system")
    value = _PATHS[_text(name)](_text(text))
    if str(value) != text:
        raise ValueError("its form is not the usual one")
    return value


def is_decimal(kind: type) -> bool:
    """Whether a type is Decimal. If it is, its module has been imported."""
    module = sys.modules.get("decimal")
    return module is not None and kind is module.Decimal


def _text(payload: object, form: re.Pattern[str] | None = None) -> str:
    if type(payload) is not str:
        raise TypeError("it is not text")
    if form is not None and form.fullmatch(payload) is None:
        raise ValueError("its form is not the usual one")
    return payload
