"""Values as JSON has them: plain where JSON has a word for it, and else tagged, `{"$tag": payload}`.

Each type has one function in a table, found by the exact type: a subclass of int, str or dict may hold and mean more.
A refusal says where in the value it stands. The path is built while the exception passes upwards, at no cost to a
value that is kept.
"""

import pathlib
import uuid
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from enum import Enum
from math import isfinite
from typing import Any, Final

from dotflow.codec import frames
from dotflow.codec.decoder import CONTEXT_FIELDS
from dotflow.codec.parts import BYTES, LARGE, STREAM, Raw
from dotflow.codec.plain import BOUND, dump, is_key, is_plain
from dotflow.codec.refusals import hint_for
from dotflow.codec.types import collections, datetimes, records, scalars
from dotflow.codec.types.classes import NotEncodable, inherits, name_for, unmarked
from dotflow.codec.types.enums import write_member
from dotflow.codec.types.value_path import TooDeep, pass_on, step_to
from dotflow.core.context import Context
from dotflow.core.failure import name_of
from dotflow.core.text import is_utf8, split_surrogates
from dotflow.errors import ValueNotStorable

MAX_DEPTH: Final = 200  # levels of a value in a value; a reader needs about 900 levels of recursion for it


class Writer:
    """What one value is written with.

    Args:
        careful: Whether to look for floats that are no numbers, and for text that is no UTF-8: only after JSON refused.
        is_sorted: Whether the same is written in every process: members of sets sorted, scripts by their own names.
        parts: Takes the large buffers, so that the JSON has only their numbers. None: all stays in the JSON.
    """

    __slots__ = ("careful", "is_sorted", "kinds", "parts")

    def __init__(self, *, careful: bool, is_sorted: bool = False, parts: list[Raw] | None = None) -> None:
        self.careful = careful
        self.is_sorted = is_sorted
        self.parts = parts
        self.kinds: dict[type, Callable[[Any, Writer, int], Any]] = {}

    def write(self, value: Any, depth: int = 0) -> Any:
        """The value, as it can be given to a JSON encoder. Raises ValueNotStorable."""
        return TABLE[type(value)](value, self, depth)

    def put_aside(self, data: bytes | memoryview, suffix: str) -> dict[str, int] | None:
        """What stands for large data in the JSON; None for data that belongs there itself."""
        if self.parts is None or len(data) <= LARGE:
            return None
        self.parts.append(Raw(memoryview(data), suffix, type(data) is bytes or suffix == STREAM))
        return {"$part": len(self.parts) - 1}


Write = Callable[[Any, Writer, int], Any]


def _as_it_is(value: Any, writer: Writer, depth: int) -> Any:
    return value


def _int(value: int, writer: Writer, depth: int) -> Any:
    return value if -BOUND < value < BOUND else {"$int": hex(value)}


def _float(value: float, writer: Writer, depth: int) -> Any:
    return {"$float": scalars.write_float(value)} if writer.careful and not isfinite(value) else value


def _str(value: str, writer: Writer, depth: int) -> Any:
    return {"$str": split_surrogates(value)} if writer.careful and not is_utf8(value) else value


def _list(value: list[Any], writer: Writer, depth: int) -> Any:
    return _items(value, writer, depth, "[{}]")


def _tuple(value: tuple[Any, ...], writer: Writer, depth: int) -> Any:
    return {"$tuple": _items(value, writer, depth, "[{}]")}


def _unordered(tag: str) -> Write:
    def unordered(value: set[Any] | frozenset[Any], writer: Writer, depth: int) -> Any:
        if not writer.is_sorted:
            return {tag: _items(list(value), writer, depth, "<member {}>", value)}
        parts, writer.parts = writer.parts, None  # the numbers of parts would depend on the order
        written = _items(list(value), writer, depth, "<member {}>", value)
        writer.parts = parts
        return {tag: sorted(written, key=dump)}

    return unordered


def _bytes(value: bytes, writer: Writer, depth: int) -> Any:
    return writer.put_aside(value, BYTES) or {"$bytes": scalars.write_bytes(value)}


def _items(values: Any, writer: Writer, depth: int, step: str, holder: object = None) -> Any:
    if depth >= MAX_DEPTH:
        raise TooDeep(values if holder is None else holder, MAX_DEPTH)
    if is_plain(values, careful=writer.careful):
        return values
    written: list[Any] = []
    try:
        for value in values:
            written.append(TABLE[type(value)](value, writer, depth + 1))
    except ValueNotStorable as error:
        pass_on(error, values if holder is None else holder, step.format(len(written)))
        raise
    return written


def _dict(value: dict[Any, Any], writer: Writer, depth: int) -> Any:
    if depth >= MAX_DEPTH:
        raise TooDeep(value, MAX_DEPTH)
    for key in value:
        if type(key) is not str or key[:1] == "$" or (writer.careful and not is_utf8(key)):  # is_key, but quicker
            return {"$dict": _pairs(value, writer, depth + 1)}
    if is_plain(value.values(), careful=writer.careful):
        return value
    return _members(value, writer, depth, value, step_to)


def _dict_more(value: dict[Any, Any], writer: Writer, depth: int) -> Any:
    """The items of a value that is more than a dict."""
    written = _dict(value, writer, depth)
    return dict(value) if written is value else written


def _bare(tag: str) -> Write:
    def bare(value: Any, writer: Writer, depth: int) -> Any:
        _check(collections.check_bare, value)
        return {tag: _dict_more(value, writer, depth)}

    return bare


def _defaultdict(value: defaultdict[Any, Any], writer: Writer, depth: int) -> Any:
    return {"$defaultdict": [_check(collections.name_of_factory, value), _dict_more(value, writer, depth)]}


def _deque(value: deque[Any], writer: Writer, depth: int) -> Any:
    return {"$deque": [_items(list(value), writer, depth, "[{}]", value), value.maxlen]}


def _pairs(value: dict[Any, Any], writer: Writer, depth: int) -> Any:
    written: list[Any] = []
    step = ""
    try:
        for key, item in value.items():
            step = f"<key {len(written)}>"
            pair = [TABLE[type(key)](key, writer, depth), None]
            step = ""
            pair[1] = TABLE[type(item)](item, writer, depth)
            written.append(pair)
    except ValueNotStorable as error:
        pass_on(error, value, step or step_to(key, len(written)))
        raise
    return written


def _tagged(tag: str, write: Callable[[Any], Any], *, inner: bool = False) -> Write:
    """For a type with a payload of its own. *inner*: whether there may be any text or number in it."""

    def tagged(value: Any, writer: Writer, depth: int) -> Any:
        payload = _check(write, value)
        return {tag: writer.write(payload) if inner else payload}

    return tagged


def _check(describe: Callable[[Any], Any], value: Any) -> Any:
    try:
        return describe(value)
    except NotEncodable as error:
        raise ValueNotStorable(name_of(type(value)), "", str(error)) from error


def _context(value: Context, writer: Writer, depth: int) -> Any:
    fields = {name: getattr(value, name) for name in CONTEXT_FIELDS}
    if value.inputs is not None:  # it is a checkpoint, of a storage that keeps contexts as values
        fields["inputs"] = list(value.inputs)
    return {"$context": _attributes(value, fields, writer, depth)}


def _attributes(holder: object, fields: dict[Any, Any], writer: Writer, depth: int) -> Any:
    """What an object holds, by name."""
    if depth >= MAX_DEPTH:
        raise TooDeep(holder, MAX_DEPTH)
    if not all(is_key(name, careful=writer.careful) for name in fields):
        return _dict(fields, writer, depth)
    return _members(fields, writer, depth, holder, lambda name, _: f".{name}")


def _members(
    members: dict[str, Any], writer: Writer, depth: int, holder: object, step: Callable[[object, int], str]
) -> Any:
    """A JSON object. *step*: how one would write the way to a member of the holder, by its name and number."""
    written: dict[str, Any] = {}
    name = ""
    try:
        for name, value in members.items():
            written[name] = TABLE[type(value)](value, writer, depth + 1)
    except ValueNotStorable as error:
        pass_on(error, holder, step(name, len(written)))
        raise
    return written


def _enum_writer(cls: type, writer: Writer) -> Write:
    name = unmarked(name_for(cls)) if writer.is_sorted else name_for(cls)
    return _tagged("$enum", lambda value: [name, write_member(value)], inner=True)


def _record_writer(tag: str, cls: type, writer: Writer) -> Write:
    name, layout = records.describe(tag, cls)
    name = unmarked(name) if writer.is_sorted else name

    def record(value: Any, writer: Writer, depth: int) -> Any:
        fields, others = records.get_state(tag, layout, value)
        payload = [writer.write(name), _attributes(value, fields, writer, depth)]
        if others:
            payload.append(_attributes(value, others, writer, depth))
        return {tag: payload}

    return record


def _other(value: Any, writer: Writer, depth: int) -> Any:
    """For what is not in the table: a class of the user's, or of another package."""
    cls = type(value)
    write = writer.kinds.get(cls)
    if write is None:
        write = writer.kinds[cls] = _writer_for(cls, writer)
    return write(value, writer, depth)


def _writer_for(cls: type, writer: Writer) -> Write:
    if scalars.is_decimal(cls):
        return _tagged("$decimal", str)
    if inherits(cls, Enum):
        return _enum_writer(cls, writer)
    tag = records.tag_for(cls)
    if tag:
        return _record_writer(tag, cls, writer)
    if frames.tag_for(cls):  # a subclass is refused there
        return _frame
    raise ValueNotStorable(name_of(cls), "", hint_for(cls))


def _frame(value: Any, writer: Writer, depth: int) -> Any:
    from dotflow.codec.frames import registry as frame_registry

    return frame_registry.encode(value, lambda inner: writer.write(inner, depth + 1), writer.put_aside)


class _Table(dict[type, Write]):
    def __missing__(self, kind: type) -> Write:
        return _other


_WRITERS: Final[dict[type, Write]] = {
    type(None): _as_it_is,
    bool: _as_it_is,
    int: _int,
    float: _float,
    str: _str,
    list: _list,
    dict: _dict,
    tuple: _tuple,
    set: _unordered("$set"),
    frozenset: _unordered("$frozenset"),
    Counter: _bare("$counter"),
    OrderedDict: _bare("$ordered"),
    defaultdict: _defaultdict,
    deque: _deque,
    range: _tagged("$range", lambda value: [value.start, value.stop, value.step], inner=True),
    complex: _tagged("$complex", lambda value: [value.real, value.imag], inner=True),
    bytes: _bytes,
    datetime: _tagged("$datetime", datetimes.write_moment, inner=True),
    date: _tagged("$date", date.isoformat),
    time: _tagged("$time", datetimes.write_moment, inner=True),
    timedelta: _tagged("$timedelta", datetimes.write_span),
    uuid.UUID: _tagged("$uuid", scalars.write_uuid),
    pathlib.PosixPath: _tagged("$path", scalars.write_path, inner=True),
    pathlib.WindowsPath: _tagged("$path", scalars.write_path, inner=True),
    pathlib.PurePosixPath: _tagged("$path", scalars.write_path, inner=True),
    pathlib.PureWindowsPath: _tagged("$path", scalars.write_path, inner=True),
    Context: _context,
}

TABLE: Final = _Table(_WRITERS)
