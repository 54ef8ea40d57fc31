"""A checkpoint as a whole: the value, what it belongs to, and a checksum, as JSON that a person can read.

    {"sha256": "5f0c...",
    "dotflow": 1,
    "key": "nightly/3",
    "task_id": 3,
    "workflow_id": "nightly",
    "step": "app.steps:total",
    "time": "2024-05-01T02:00:00.000000+00:00",
    "initial": "",
    "previous": 2,
    "run": "4f0c9a215e7d/4",
    "source": "4f0c9a215e7d/4",
    "code": "3.11:7ab0c4...",
    "files": {"made": {"total.csv": [1200, 1714521600000000000, 1714521600000000000, "5d3f...", ""]}},
    "parts": [{"name": "3.5f0c9a2104e7d8b1.bin", "size": 24000000, "sha256": "9c1e..."}],
    "value": {"rows": 1200}}

The checksum covers every byte after the first line. `jq .value` shows the value. Large values may lie beside the
document, as dotflow.codec.parts says.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from io import BytesIO
from json.encoder import encode_basestring
from operator import contains
from pathlib import Path
from types import NoneType
from typing import IO, Any, Final

from dotflow.atomic_file import open_plain
from dotflow.codec.decoder import make_context
from dotflow.codec.json import decode, encode, encode_bytes
from dotflow.codec.parts import Fetch, Parts, Put, Raw, describe, names_in
from dotflow.core.context import Context, Origin, shared_origin
from dotflow.core.failure import name_of
from dotflow.core.files import FileRecord
from dotflow.core.text import shorten
from dotflow.errors import CheckpointUnreadable, ValueNotStorable

VERSION: Final = 1  # of the format; a reader refuses a later one

_PREFIX: Final = b'{"sha256": "'
_SEPARATOR: Final = b'",\n'
_CHECKSUM: Final = slice(len(_PREFIX), len(_PREFIX) + 64)
_HEAD_SIZE: Final = _CHECKSUM.stop + len(_SEPARATOR)  # bytes of the first line
_VALUE: Final = b'\n"value": '
_PARTS: Final = b'\n"parts": '
_SUFFIX: Final = b"}\n"
_CODE: Final = '\n"code": '
_TEXT: Final = (str, NoneType)
_NUMBER: Final = (int, NoneType)
_FIELDS: Final = {"task_id": _NUMBER, "workflow_id": _TEXT, "step": _TEXT}
_INPUTS: Final = {"initial": (str,), "previous": _NUMBER, "run": (str,), "source": (str,), "code": (str,)}

_KEY: Final = b'"key": '
_MAX_LINE: Final = 1 << 20  # bytes that key_in reads of a line


def pack(key: str, context: Context, *, pickle: bool = False, put: Put | None = None) -> bytes:
    """Returns the checkpoint of *context* under *key*, as a file or a database holds it.

    Args:
        key: Any text.
        context: The value, and what it belongs to. A time without a zone is local time.
        pickle: Whether a value that JSON can't keep is pickled.
        put: Keeps a large part of the value outside of the document. None keeps everything in the document.

    Raises:
        ValueNotStorable: The value would not come back as it was.
    """
    parts: list[Raw] | None = None if put is None else []
    value = encode_bytes(context.storage, pickle=pickle, parts=parts)
    try:
        head = _head(key, context, encode_basestring).encode()
    except UnicodeEncodeError:  # of a lone surrogate
        head = _head(key, context, encode).encode()
    if put is not None and parts:
        head += _PARTS + describe(list(map(put, parts))).encode() + b","
    checksum = sha256(head + _VALUE)
    checksum.update(value)
    checksum.update(_SUFFIX)
    return b"".join((_PREFIX, checksum.hexdigest().encode(), _SEPARATOR, head, _VALUE, value, _SUFFIX))


def unpack(data: bytes, key: str, where: str = "", *, pickle: bool = False, fetch: Fetch | None = None) -> Context:
    """Returns the context that was packed under *key*.

    Args:
        data: The result of `pack`.
        key: The key that was packed.
        where: The place of the data, for errors.
        pickle: Whether to load pickles. A pickle can run any program.
        fetch: Reads a part that `put` kept.

    Raises:
        CheckpointUnreadable: It is damaged, belongs to another key, or names a class that is not there. The error has
            the time of a value that alone can't be read.
    """
    try:
        return _unpack(data, key, pickle, fetch)
    except CheckpointUnreadable as error:
        raise error.at(where) from error.__cause__


def _unpack(data: bytes, key: str, pickle: bool, fetch: Fetch | None) -> Context:
    if not (data.startswith(_PREFIX) and data.startswith(_SEPARATOR, _CHECKSUM.stop)):
        raise CheckpointUnreadable("it doesn't begin as a checkpoint does" if data else "it is empty")
    view = memoryview(data)  # values may be large: slices of a view copy nothing
    if sha256(view[_HEAD_SIZE:]).hexdigest().encode() != data[_CHECKSUM]:
        raise CheckpointUnreadable("its checksum is wrong: it was cut off, damaged or changed")
    end = data.find(_VALUE, _HEAD_SIZE)
    if end < 0 or not data.endswith(_SUFFIX):
        raise CheckpointUnreadable("it has no value")
    fields = decode(b"{%b}" % data[_HEAD_SIZE : end - 1])
    if type(fields) is not dict:
        raise CheckpointUnreadable("its beginning is not that of a checkpoint")
    if fields.get("key") != key or fields.get("dotflow") != VERSION:
        raise CheckpointUnreadable(_mismatch(fields))
    time = _read_time(fields)
    try:
        parts = Parts(fields["parts"], fetch) if fetch is not None and "parts" in fields else None
        value = decode(view[end + len(_VALUE) : -len(_SUFFIX)], pickle=pickle, parts=parts)
        if parts is not None:
            parts.check_all_taken()
    except CheckpointUnreadable as error:
        raise error.at(time=time) from error.__cause__
    task_id, workflow_id, step = _expect(fields, _FIELDS)
    context = make_context(value, task_id, workflow_id, time, step)
    files = _read_files(fields["files"]) if "files" in fields else None
    if files is not None:
        context._origin = Origin(None, files=files)
    if "initial" in fields:
        fields.setdefault("code", "")
        initial, context._previous, run, context._source, code = _expect(fields, _INPUTS)
        context._origin = shared_origin(initial, run, code) if files is None else Origin(initial, run, code, files)
        context._links = _read_links(fields) if "links" in fields else None
    return context


def key_in(path: Path) -> str:
    """Returns the key in a checkpoint's file, of which only the beginning is read.

    Raises:
        CheckpointUnreadable: It is not a checkpoint.
        OSError: The file can't be opened.
    """
    with open(path, "rb", opener=open_plain) as file:
        return _read_key(file)


def parts_in(path: Path) -> list[str]:
    """Returns the names of a checkpoint's parts, from the beginning of its file.

    Raises:
        CheckpointUnreadable: It is not a checkpoint.
        OSError: The file can't be opened.
    """
    with open(path, "rb", opener=open_plain) as file:
        _read_key(file)
        while (line := file.readline(_MAX_LINE)) and not line.startswith(_VALUE[1:]):
            if line.startswith(_PARTS[1:]):
                return names_in(decode(line[len(_PARTS) - 1 : -2]))
    return []


def key_at(beginning: bytes) -> str:
    """Returns the key in a checkpoint, of which the beginning is enough.

    Raises:
        CheckpointUnreadable: It is not a checkpoint, or too little of one.
    """
    return _read_key(BytesIO(beginning))


def _read_key(file: IO[bytes]) -> str:
    lines = [file.readline(_MAX_LINE) for _ in range(3)]
    if not lines[0].startswith(_PREFIX) or not lines[2].startswith(_KEY) or not lines[2].endswith(b",\n"):
        raise CheckpointUnreadable("it doesn't begin as a checkpoint does")
    key = decode(lines[2][len(_KEY) : -2])
    if type(key) is not str:
        raise CheckpointUnreadable("its key is not text")
    return key


def _head(key: str, context: Context, quote: Callable[[str], str]) -> str:
    time, task_id, workflow_id, step = context.time, context.task_id, context.workflow_id, context.step
    if not (isinstance(workflow_id, _TEXT) and isinstance(step, _TEXT)):
        name, text = ("step", step) if isinstance(workflow_id, _TEXT) else ("workflow_id", workflow_id)
        raise ValueNotStorable(name_of(type(text)), f".{name}", "it is text, or None")
    if not (task_id is None or type(task_id) is int):
        raise ValueNotStorable(name_of(type(task_id)), ".task_id", "it is an int, or None")
    head = (
        f'"dotflow": {VERSION},\n'
        f'"key": {quote(key)},\n'
        f'"task_id": {"null" if task_id is None else task_id},\n'
        f'"workflow_id": {"null" if workflow_id is None else quote(workflow_id)},\n'
        f'"step": {"null" if step is None else quote(step)},\n'
        f'"time": {_write_time(time)},'
    )
    initial, run, code, files = context._origin
    kept = "" if files is None else f'\n"files": {encode(files.as_plain())},'
    if initial is None:  # only the value is kept, not what it was made from
        return f"{head}{kept}"
    previous, links = context._previous, context._links
    return (
        f'{head}\n"initial": {quote(initial)},\n"previous": {"null" if previous is None else previous},'
        f'\n"run": {quote(run)},\n"source": {quote(context._source)},'
        f"{_write_links(links, quote) if links else ''}"
        f"{f'{_CODE}{quote(code)},' if code else ''}"
        f"{kept}"
    )


def _write_links(links: Mapping[str, str], quote: Callable[[str], str]) -> str:
    return f'\n"links": {{{", ".join(f"{quote(name)}: {quote(token)}" for name, token in links.items())}}},'


def _read_links(fields: dict[str, Any]) -> dict[str, str]:
    links = fields["links"]
    if type(links) is not dict or not all(type(text) is str for pair in links.items() for text in pair):
        raise CheckpointUnreadable("its links are not those of a checkpoint")
    return links


def _read_files(plain: Any) -> FileRecord:
    try:
        return FileRecord.from_plain(plain)
    except (TypeError, ValueError) as error:
        raise CheckpointUnreadable("its files are not those of a checkpoint") from error


def _write_time(time: datetime) -> str:
    if time.tzinfo is not UTC or time.fold:
        if time.tzinfo is not None:
            try:
                return encode(time)
            except ValueNotStorable:  # another package's time zone: then only the moment is kept
                pass
        try:
            time = time.astimezone(UTC)
        except (ValueError, OverflowError):  # at the very ends of the calendar there is no such moment
            time = time.replace(tzinfo=UTC)
    return f'"{time.isoformat()}"'


def _read_time(fields: dict[str, Any]) -> datetime:
    time = fields.get("time")
    if type(time) is str:
        try:
            time = datetime.fromisoformat(time)
        except ValueError as error:
            raise CheckpointUnreadable("its time is invalid") from error
    if type(time) is not datetime or time.tzinfo is None:
        raise CheckpointUnreadable("its time is invalid, or has no time zone")
    return time


def _expect(fields: dict[str, Any], kinds: Mapping[str, tuple[type, ...]]) -> list[Any]:
    found = [*map(fields.get, kinds)]
    if not (fields.keys() >= kinds.keys() and all(map(contains, kinds.values(), map(type, found)))):
        name = next(name for name, allowed in kinds.items() if type(fields.get(name, fields)) not in allowed)
        raise CheckpointUnreadable(f"its {name} is missing or invalid")
    return found


def _mismatch(fields: dict[str, Any]) -> str:
    """Returns why a format or a key is the wrong one."""
    version, key = fields.get("dotflow"), fields.get("key")
    if type(version) is int and version > VERSION:
        return f"it was written by a later dotflow (format {version}; this one reads {VERSION}); upgrade dotflow"
    if type(version) is not int or version != VERSION or type(key) is not str:
        return "its beginning is not that of a checkpoint"
    return shorten(f"it was renamed or copied: it belongs to the key {key!r}")
