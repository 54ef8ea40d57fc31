"""Previews: short texts that show values without running code of the user's."""

import sys
from collections.abc import Iterable, Mapping
from enum import Enum
from itertools import islice
from pathlib import PurePath
from types import FunctionType, GetSetDescriptorType, MappingProxyType, MemberDescriptorType
from typing import Any, Final

from dotflow.core.masks import NO_MASKS, Masks
from dotflow.cpython import mapping_behind

MAX_PREVIEW: Final = 200  # characters
MAX_INPUT: Final = 80  # characters of the text that shows what an item was given
MAX_ENTRIES: Final = 5  # of a list or a mapping
MAX_DEPTH: Final = 2
MAX_MASKED: Final = 10_000  # characters of a long text that are searched for secrets; none is longer
MAX_BITS: Final = 400  # of a number
WORD: Final = 64  # bits of a number that is short in any case

#: Types of containers, with their brackets.
BRACKETS: Final[Mapping[type, tuple[str, str]]] = {
    list: ("[", "]"),
    tuple: ("(", ")"),
    set: ("{", "}"),
    frozenset: ("{", "}"),
    dict: ("{", "}"),
}
#: Modules of the standard library whose own types are shown as text.
PLAIN: Final = ("datetime", "decimal", "pathlib", "uuid")
ZONES: Final = ("datetime", "zoneinfo")  # the modules of their time zones
#: Modules whose types have a `shape`.
SHAPED: Final = ("pandas", "polars", "numpy", "pyarrow", "scipy", "torch", "xarray")


def preview(value: Any, masks: Masks = NO_MASKS, length: int = MAX_PREVIEW) -> str:
    """Returns a text of up to *length* characters, such as `[1, 2, ...] (10000 items)` or `DataFrame 9997 × 14`.

    It is no repr, which would run the value's own code and may be endless: it shows a value's beginning, or its type.
    Of a value that only pretends to have another type, such as a mock, it may be the name of its type alone.
    """
    kind = type(value)
    if kind is float or kind is bool or (kind is int and value.bit_length() <= WORD):  # of most steps this is all
        return masks.mask(repr(value))
    try:
        text = masks.mask(_preview(value, 0, masks))
        count = f" ({len(value)} items)" if value.__class__ in BRACKETS and len(value) > MAX_ENTRIES else ""
    except Exception:  # of a type that pretends to be another one
        return masks.mask(f"<{kind.__name__}>")
    if len(text) > length:
        text = f"{text[: length - 3]}..."
    return f"{text[: length - len(count)]}{count}" if count else text


def _preview(value: Any, depth: int, masks: Masks) -> str:
    kind = type(value)
    if kind is MappingProxyType:
        value = mapping_behind(value)
        kind = type(value)
    if kind is str or kind is bytes:
        if len(value) > MAX_PREVIEW:
            unit = "characters" if kind is str else "bytes"
            return f"{_beginning(value, masks)!r}... ({len(value)} {unit})"
        return repr(value)
    if kind is int and value.bit_length() > MAX_BITS:
        return f"<int of {value.bit_length()} bits>"
    if value is None or kind in (bool, int, float, complex):
        return repr(value)
    if kind in BRACKETS:
        return _entries(kind, value, depth, masks)
    module = kind.__module__.partition(".")[0]
    if module in SHAPED:
        shape = getattr(value, "shape", None)
        if type(shape) is tuple:
            return f"{kind.__name__} {' × '.join(map(str, shape))}".rstrip()
    if module in PLAIN and getattr(sys.modules.get(kind.__module__), kind.__name__, None) is kind:
        return _plain(value, masks)
    if isinstance(value, Enum):
        return f"{kind.__qualname__}.{value._name_}"
    if (fields := _fields_of(value)) is not None:
        return _instance(kind, fields, depth, masks)
    return f"<{kind.__module__}.{kind.__qualname__}>".replace("<builtins.", "<")


def _plain(value: Any, masks: Masks) -> str:
    """Returns the text of an object of the standard library. The time zone of a datetime may be the user's class."""
    if isinstance(value, PurePath):
        return _preview(str(value), MAX_DEPTH, masks)
    zone = getattr(value, "tzinfo", None)
    return str(value if zone is None or type(zone).__module__ in ZONES else value.replace(tzinfo=None))


def _fields_of(value: Any) -> Mapping[str, Any] | None:
    """Returns the fields of a dataclass that its repr shows; None for another object, and one with its own repr."""
    kind = type(value)
    fields = kind.__dict__.get("__dataclass_fields__")
    written = getattr(kind.__dict__.get("__repr__"), "__wrapped__", None)  # by the module dataclasses
    if type(fields) is not dict or type(written) is not FunctionType or written.__code__.co_filename != "<string>":
        return None
    attributes = _member(kind, "__dict__")
    state: dict[str, Any] = {}
    if type(attributes) is GetSetDescriptorType:
        state.update(attributes.__get__(value))
    for name in fields:
        if type(slot := _member(kind, name)) is MemberDescriptorType:
            state[name] = slot.__get__(value)
    return {name: state[name] for name, field in fields.items() if field.repr and name in state}


def _member(kind: type, name: str) -> object:
    return next((base.__dict__[name] for base in kind.__mro__ if name in base.__dict__), None)


def _instance(kind: type, fields: Mapping[str, Any], depth: int, masks: Masks) -> str:
    name = kind.__qualname__.rpartition("<locals>.")[2]
    if depth == MAX_DEPTH and fields:
        return f"{name}(...)"
    entries = (f"{field}={_preview(value, depth + 1, masks)}" for field, value in islice(fields.items(), MAX_ENTRIES))
    return f"{name}({', '.join(entries)}{', ...' if len(fields) > MAX_ENTRIES else ''})"


def _beginning(value: Any, masks: Masks) -> Any:
    """Returns the beginning of a long str or bytes. It is masked, then cut, so that no part of a secret is left."""
    beginning = value[:MAX_MASKED]
    masked = masks.mask(beginning) if type(value) is str else masks.mask_bytes(beginning)
    return masked[: MAX_PREVIEW // 2]


def _entries(kind: type, value: Any, depth: int, masks: Masks) -> str:
    opening, closing = BRACKETS[kind]
    if not value:
        return f"{opening}{closing}" if kind not in (set, frozenset) else f"{kind.__name__}()"
    if depth == MAX_DEPTH:
        return f"{opening}...{closing}"
    count = MAX_ENTRIES if depth == 0 else MAX_ENTRIES - 2
    entries: Iterable[str]
    if kind is dict:
        pairs = islice(value.items(), count)
        entries = (f"{_preview(key, depth + 1, masks)}: {_preview(entry, depth + 1, masks)}" for key, entry in pairs)
    else:
        entries = (_preview(entry, depth + 1, masks) for entry in islice(value, count))
    text = ", ".join(entries)
    more = ", ..." if len(value) > count else "," if kind is tuple and len(value) == 1 else ""
    return f"{opening}{text}{more}{closing}"
