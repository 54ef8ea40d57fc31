"""Values as JSON can hold them: plain where that is possible, else tagged, `{"$tag": payload}`.

Each type has one function in a table, found by the exact type: a subclass of int, str or dict may hold and mean more.
A refusal has the path inside the value. The path is built while the exception passes upwards, so that a value that
is kept pays nothing for it. It also says what to return instead, for the types that are common in steps.
"""

import functools
import io
import pathlib
import types
import uuid
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import AsyncIterator, Callable, Coroutine, ItemsView, Iterator, KeysView, ValuesView
from datetime import date, datetime, time, timedelta, tzinfo
from enum import Enum
from math import isfinite
from typing import Any, Final

from dotflow.codec import frames
from dotflow.codec.decoder import CONTEXT_FIELDS
from dotflow.codec.parts import BYTES_SUFFIX, LARGE, Raw
from dotflow.codec.plain import INT_LIMIT, are_keys, dump, is_plain
from dotflow.codec.types import collections, datetimes, records, scalars
from dotflow.codec.types.classes import NotEncodable, inherits, module_of, name_for, without_prefix
from dotflow.codec.types.enums import write_member
from dotflow.codec.types.value_path import TooDeep, add_step, step_to
from dotflow.core.context import Context
from dotflow.core.failure import name_of
from dotflow.core.text import is_utf8, split_surrogates
from dotflow.errors import ValueNotStorable

#: The first entry that the type inherits from, or is registered with, counts.
_HINTS: Final[tuple[tuple[tuple[type, ...], str], ...]] = (
    ((io.IOBase,), "it is an open file; return its path"),
    ((types.GeneratorType, Iterator), "it can be read only once; return a list"),
    ((Coroutine, AsyncIterator), "it has not been awaited; await it in the step, and return its result"),
    ((KeysView, ValuesView, ItemsView), "it is a view of a dict; return a list"),
    (
        (types.FunctionType, types.BuiltinFunctionType, types.MethodType, functools.partial, types.ModuleType),
        "it is code, not data",
    ),
    ((type, types.GenericAlias, types.UnionType), "it is a class, not data; return its name"),
    ((BaseException,), "it is an exception; raise it, or return its text"),
    ((bytearray, memoryview), "it can be changed; return bytes(...)"),
    ((tzinfo,), "return its name"),
)

#: Types that are kept, though their subclasses are not: these may hold and mean more.
_KEPT: Final = (
    bool, int, float, complex, str, bytes, list, tuple, set, frozenset, date, time, timedelta, Counter, OrderedDict,
    defaultdict, deque, dict,
)  # fmt: skip


def hint_for(cls: type) -> str:
    """Returns why the codec refuses a type; empty where there is nothing to add to its name."""
    for kinds, hint in _HINTS:
        if issubclass(cls, kinds):
            return hint
    for kind in _KEPT:
        if inherits(cls, kind):
            return f"it is a subclass of {name_of(kind)}; return a plain {name_of(kind)}"
    if module_of(cls) in ("_thread", "threading", "_multiprocessing", "socket", "_socket", "ssl", "sqlite3"):
        return "it belongs to this process"
    return ""


MAX_DEPTH: Final = 200  # levels of a value in a value; a reader needs about 900 levels of recursion for it


class Writer:
    """The state of writing one value.

    Args:
        careful: Whether to look for floats that are not finite and for lone surrogates: only after JSON refused.
        is_sorted: Whether every process writes the same: members of sets sorted, scripts by their own names.
        parts: Takes the large buffers, so that the JSON has only their numbers. None keeps everything in the JSON.
    """

    __slots__ = ("careful", "is_sorted", "kinds", "parts")

    def __init__(self, *, careful: bool, is_sorted: bool = False, parts: list[Raw] | None = None) -> None:
        self.careful = careful
        self.is_sorted = is_sorted
        self.parts = parts
        self.kinds: dict[type, Callable[[Any, Writer, int], Any]] = {}

    def write(self, value: Any, depth: int = 0) -> Any:
        """Returns the value as a JSON encoder takes it. Raises ValueNotStorable."""
        return TABLE[type(value)](value, self, depth)

    def put_part(self, data: bytes | memoryview, suffix: str) -> dict[str, int] | None:
        """Puts large data beside the JSON and returns the reference to it; None for data that stay in the JSON."""
        if self.parts is None or len(data) <= LARGE:
            return None
        self.parts.append(Raw(memoryview(data), suffix))
        return {"$part": len(self.parts) - 1}


Write = Callable[[Any, Writer, int], Any]


def _plain(value: Any, writer: Writer, depth: int) -> Any:
    return value


def _int(value: int, writer: Writer, depth: int) -> Any:
    return value if -INT_LIMIT < value < INT_LIMIT else {"$int": hex(value)}


def _float(value: float, writer: Writer, depth: int) -> Any:
    return {"$float": scalars.write_float(value)} if writer.careful and not isfinite(value) else value


def _str(value: str, writer: Writer, depth: int) -> Any:
    return {"$str": split_surrogates(value)} if writer.careful and not is_utf8(value) else value


def _unordered(tag: str) -> Write:
    def unordered(value: set[Any] | frozenset[Any], writer: Writer, depth: int) -> Any:
        if not writer.is_sorted:
            return {tag: _items(value, writer, depth, "<member {}>")}
        parts, writer.parts = writer.parts, None  # the numbers of parts would depend on the order
        written = _items(value, writer, depth, "<member {}>")
        writer.parts = parts
        return {tag: sorted(written, key=dump)}

    return unordered


def _items(holder: Any, writer: Writer, depth: int, step: str) -> Any:
    if depth >= MAX_DEPTH:
        raise TooDeep(holder, MAX_DEPTH)
    values = holder if type(holder) in (list, tuple) else list(holder)  # another thread may change it meanwhile
    if is_plain(values, careful=writer.careful):
        return values
    written: list[Any] = []
    try:
        for value in values:
            written.append(TABLE[type(value)](value, writer, depth + 1))
    except ValueNotStorable as error:
        add_step(error, holder, step.format(len(written)))
        raise
    return written


def _dict(value: dict[Any, Any], writer: Writer, depth: int) -> Any:
    if depth >= MAX_DEPTH:
        raise TooDeep(value, MAX_DEPTH)
    if not are_keys(value, careful=writer.careful):
        return {"$dict": _pairs(value, writer, depth + 1)}
    if is_plain(value.values(), careful=writer.careful):
        return value
    return _members(value, value, writer, depth, step_to)


def _subclass_of_dict(tag: str) -> Write:
    def subclass_of_dict(value: Any, writer: Writer, depth: int) -> Any:
        _call(collections.check_no_attributes, value)
        return {tag: _dict(value, writer, depth)}

    return subclass_of_dict


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
        add_step(error, value, step or step_to(key, len(written)))
        raise
    return written


def _tagged(tag: str, write: Callable[[Any], Any], *, inner: bool = False) -> Write:
    """Returns the function for a type with a payload of its own. *inner*: whether that may hold any text or number."""

    def tagged(value: Any, writer: Writer, depth: int) -> Any:
        payload = _call(write, value)
        return {tag: writer.write(payload) if inner else payload}

    return tagged


def _call(write: Callable[[Any], Any], value: Any) -> Any:
    """Calls a function that may refuse the value. Raises ValueNotStorable."""
    try:
        return write(value)
    except NotEncodable as error:
        raise ValueNotStorable(name_of(type(value)), "", str(error)) from error


def _context(value: Context, writer: Writer, depth: int) -> Any:
    fields = {name: getattr(value, name) for name in CONTEXT_FIELDS}
    if value.inputs is not None:  # it is a checkpoint, of a storage that keeps contexts as values
        *inputs, files = value.inputs
        fields["inputs"] = inputs if files is None else [*inputs, files.as_plain()]
    return {"$context": _attributes(value, fields, writer, depth)}


def _attributes(holder: object, fields: dict[Any, Any], writer: Writer, depth: int) -> Any:
    """Writes the attributes of an object, by name."""
    if depth >= MAX_DEPTH:
        raise TooDeep(holder, MAX_DEPTH)
    if not are_keys(fields, careful=writer.careful):
        return _dict(fields, writer, depth)
    return _members(holder, fields, writer, depth, lambda name, _: f".{name}")


def _members(
    holder: object, members: dict[str, Any], writer: Writer, depth: int, step: Callable[[object, int], str]
) -> Any:
    """Writes a JSON object. *step* returns the step from the holder to a member, by its name and number."""
    written: dict[str, Any] = {}
    name = ""
    try:
        for name, value in members.items():
            written[name] = TABLE[type(value)](value, writer, depth + 1)
    except ValueNotStorable as error:
        add_step(error, holder, step(name, len(written)))
        raise
    return written


def _record_writer(tag: str, cls: type, writer: Writer) -> Write:
    name, layout = records.describe(tag, cls)
    name = without_prefix(name) if writer.is_sorted else name

    def record(value: Any, writer: Writer, depth: int) -> Any:
        fields, others = records.get_state(tag, layout, value)
        payload = [writer.write(name), _attributes(value, fields, writer, depth)]
        if others:
            payload.append(_attributes(value, others, writer, depth))
        return {tag: payload}

    return record


def _other(value: Any, writer: Writer, depth: int) -> Any:
    """Writes a value of a class that is not in the table: the user's, or another package's."""
    cls = type(value)
    write = writer.kinds.get(cls)
    if write is None:
        write = writer.kinds[cls] = _writer_for(cls, writer)
    return write(value, writer, depth)


def _writer_for(cls: type, writer: Writer) -> Write:
    if scalars.is_decimal(cls):
        return _tagged("$decimal", str)
    if inherits(cls, Enum):
        name = without_prefix(name_for(cls)) if writer.is_sorted else name_for(cls)
        return _tagged("$enum", lambda value: [name, write_member(value)], inner=True)
    tag = records.tag_for(cls)
    if tag:
        return _record_writer(tag, cls, writer)
    if frames.tag_for(cls):  # a subclass is refused there
        return _frame
    raise ValueNotStorable(name_of(cls), "", hint_for(cls))


def _frame(value: Any, writer: Writer, depth: int) -> Any:
    from dotflow.codec.frames import registry as frame_registry

    return frame_registry.encode(value, lambda inner: writer.write(inner, depth + 1), writer.put_part)


class _Table(dict[type, Write]):
    def __missing__(self, kind: type) -> Write:
        return _other


_path = _tagged("$path", scalars.write_path, inner=True)

_WRITERS: Final[dict[type, Write]] = {
    type(None): _plain,
    bool: _plain,
    int: _int,
    float: _float,
    str: _str,
    list: lambda value, writer, depth: _items(value, writer, depth, "[{}]"),
    dict: _dict,
    tuple: lambda value, writer, depth: {"$tuple": _items(value, writer, depth, "[{}]")},
    set: _unordered("$set"),
    frozenset: _unordered("$frozenset"),
    Counter: _subclass_of_dict("$counter"),
    OrderedDict: _subclass_of_dict("$ordered"),
    defaultdict: lambda value, writer, depth: {
        "$defaultdict": [_call(collections.name_of_factory, value), _dict(value, writer, depth)]
    },
    types.MappingProxyType: lambda value, writer, depth: {
        "$mapping": _dict(_call(collections.dict_behind, value), writer, depth)
    },
    deque: lambda value, writer, depth: {"$deque": [_items(value, writer, depth, "[{}]"), value.maxlen]},
    range: _tagged("$range", lambda value: [value.start, value.stop, value.step], inner=True),
    complex: _tagged("$complex", lambda value: [value.real, value.imag], inner=True),
    bytes: lambda value, writer, depth: writer.put_part(value, BYTES_SUFFIX) or {"$bytes": scalars.write_bytes(value)},
    datetime: _tagged("$datetime", datetimes.write_datetime, inner=True),
    date: _tagged("$date", date.isoformat),
    time: _tagged("$time", datetimes.write_datetime, inner=True),
    timedelta: _tagged("$timedelta", datetimes.write_timedelta),
    uuid.UUID: _tagged("$uuid", scalars.write_uuid),
    pathlib.PosixPath: _path,
    pathlib.WindowsPath: _path,
    pathlib.PurePosixPath: _path,
    pathlib.PureWindowsPath: _path,
    Context: _context,
}

TABLE: Final = _Table(_WRITERS)
