"""Glimpses: short texts that show values without running code of the user's."""

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, Final

from dotflow.core.masks import NO_MASKS, Masks

MAX_GLIMPSE: Final = 200  # characters
MAX_ENTRIES: Final = 5  # of a list or a mapping
MAX_DEPTH: Final = 2
MAX_MASKED: Final = 10_000  # characters of a long text that are searched for secrets; none is longer
MAX_BITS: Final = 400  # of a number

#: Types of containers, with their brackets.
BRACKETS: Final[Mapping[type, tuple[str, str]]] = {
    list: ("[", "]"),
    tuple: ("(", ")"),
    set: ("{", "}"),
    frozenset: ("{", "}"),
    dict: ("{", "}"),
}
#: Modules whose types have a `shape`.
SHAPED: Final = ("pandas", "polars", "numpy", "pyarrow", "scipy", "torch", "xarray")


def glimpse(value: Any, masks: Masks = NO_MASKS) -> str:
    """Returns a text of up to MAX_GLIMPSE characters, such as `[1, 2, ...] (10000 items)` or `DataFrame 9997 × 14`."""
    text = masks.mask(_glimpse(value, 0, masks))
    if len(text) > MAX_GLIMPSE:
        text = f"{text[: MAX_GLIMPSE - 3]}..."
    if value.__class__ in BRACKETS and len(value) > MAX_ENTRIES:
        count = f" ({len(value)} items)"
        text = f"{text[: MAX_GLIMPSE - len(count)]}{count}"
    return text


def _glimpse(value: Any, depth: int, masks: Masks) -> str:
    kind = type(value)
    if kind is str or kind is bytes:
        if len(value) > MAX_GLIMPSE:
            unit = "characters" if kind is str else "bytes"
            return f"{_beginning(value, masks)!r}... ({len(value)} {unit})"
        return repr(value)
    if kind is int and value.bit_length() > MAX_BITS:
        return f"<int of {value.bit_length()} bits>"
    if value is None or kind in (bool, int, float, complex):
        return repr(value)
    if kind in BRACKETS:
        return _entries(kind, value, depth, masks)
    if kind.__module__.partition(".")[0] in SHAPED:
        shape = getattr(value, "shape", None)
        if type(shape) is tuple:
            return f"{kind.__name__} {' × '.join(map(str, shape))}".rstrip()
    return f"<{kind.__module__}.{kind.__qualname__}>".replace("<builtins.", "<")


def _beginning(value: Any, masks: Masks) -> Any:
    """Returns the beginning of a long str or bytes. It is masked, then cut, so that no part of a secret is left."""
    beginning = value[:MAX_MASKED]
    masked = masks.mask(beginning) if type(value) is str else masks.mask_bytes(beginning)
    return masked[: MAX_GLIMPSE // 2]


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
        entries = (f"{_glimpse(key, depth + 1, masks)}: {_glimpse(entry, depth + 1, masks)}" for key, entry in pairs)
    else:
        entries = (_glimpse(entry, depth + 1, masks) for entry in islice(value, count))
    text = ", ".join(entries)
    more = ", ..." if len(value) > count else "," if kind is tuple and len(value) == 1 else ""
    return f"{opening}{text}{more}{closing}"
