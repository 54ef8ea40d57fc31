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
    "parts": [{"name": "3.5f0c9a2104e7d8b1.bin", "size": 24000000, "sha256": "9c1e..."}],
    "value": {"rows": 1200}}

The checksum is that of every byte after the first line. `jq .value` shows the value. Large values may
lie beside the document: see dotflow.codec.parts.
"""

from datetime import UTC, datetime
from hashlib import sha256
from io import BytesIO
from json.encoder import encode_basestring
from pathlib import Path
from typing import IO, Any, Final

from dotflow.codec.decoder import make_context
from dotflow.codec.json import decode, encode, encode_bytes
from dotflow.codec.parts import Fetch, Parts, Put, Raw, describe, names_in
from dotflow.core.context import Context, Inputs
from dotflow.core.failure import name_of
from dotflow.core.text import is_utf8, shorten
from dotflow.errors import CheckpointUnreadable, ValueNotStorable

VERSION: Final = 1  # of the format; a reader refuses a later one

_BEGIN: Final = b'{"sha256": "'
_AFTER: Final = b'",\n'
_HEAD: Final = len(_BEGIN) + 64 + len(_AFTER)  # bytes of the first line
_VALUE: Final = b'\n"value": '
_PARTS: Final = b'\n"parts": '
_END: Final = b"}\n"

_KEY: Final = b'"key": '
_LONGEST_LINE: Final = 1 << 20  # bytes that key_in reads of a line


def pack(key: str, context: Context, *, pickle: bool = False, put: Put | None = None) -> bytes:
    """The checkpoint of *context* under *key*, as it stands in a file or a database.

    Args:
        key: Any text.
        context: The value, and what it belongs to. A time without a zone is taken for local time.
        pickle: Whether a value that can't be kept as JSON is pickled.
        put: Keeps a large part of the value, which is then not in the document. None: all is in the document.

    Raises:
        ValueNotStorable: The value would not come back as it was.
    """
    parts: list[Raw] | None = None if put is None else []
    value = encode_bytes(context.storage, pickle=pickle, parts=parts)
    head = _head(key, context).encode()
    if put is not None and parts:
        head += _PARTS + describe(list(map(put, parts))).encode() + b","
    checksum = sha256(head + _VALUE)
    checksum.update(value)
    checksum.update(_END)
    return b"".join((_BEGIN, checksum.hexdigest().encode(), _AFTER, head, _VALUE, value, _END))


def unpack(data: bytes, key: str, *, pickle: bool = False, fetch: Fetch | None = None) -> Context:
    """The context that was packed under *key*.

    Args:
        data: What `pack` gave.
        key: What it was given.
        pickle: Whether to read pickles. A pickle can run any program.
        fetch: Gets a part that `put` kept.

    Raises:
        CheckpointUnreadable: It is damaged, or belongs to another key, or means something that is not there.
    """
    if data[: len(_BEGIN)] != _BEGIN or data[_HEAD - len(_AFTER) : _HEAD] != _AFTER:
        raise CheckpointUnreadable("it is empty" if not data else "it doesn't begin as a checkpoint does")
    view = memoryview(data)  # values may be large: nothing is copied without need
    if sha256(view[_HEAD:]).hexdigest().encode() != data[len(_BEGIN) : _HEAD - len(_AFTER)]:
        raise CheckpointUnreadable("its checksum is wrong: it was cut off, damaged or changed")
    cut = data.find(_VALUE, _HEAD)
    if cut < 0 or data[-len(_END) :] != _END:
        raise CheckpointUnreadable("it has no value")
    fields = decode(b"{%b}" % data[_HEAD : cut - 1])
    if type(fields) is not dict:
        raise CheckpointUnreadable("its beginning is not that of a checkpoint")
    if fields.get("key") != key or fields.get("dotflow") != VERSION:
        raise CheckpointUnreadable(_mistake(fields))
    parts = Parts(fields["parts"], fetch) if fetch is not None and "parts" in fields else None
    context = make_context(
        storage=decode(view[cut + len(_VALUE) : -len(_END)], pickle=pickle, parts=parts),
        task_id=_expect(fields, "task_id", int, type(None)),
        workflow_id=_expect(fields, "workflow_id", str, type(None)),
        time=_read_time(fields),
        step=_expect(fields, "step", str, type(None)),
    )
    if parts is not None:
        parts.check_all_taken()
    if "initial" in fields:
        context.inputs = Inputs(
            _expect(fields, "initial", str),
            _expect(fields, "previous", int, type(None)),
            _expect(fields, "run", str),
            _expect(fields, "source", str),
        )
    return context


def key_in(path: Path) -> str:
    """The key in a checkpoint's file, of which no more is read than its beginning.

    Raises:
        CheckpointUnreadable: It is no checkpoint.
        OSError: It can't be opened.
    """
    with path.open("rb") as file:
        return _read_key(file)


def parts_in(path: Path) -> list[str]:
    """The names of the parts of a checkpoint, from the beginning of its file.

    Raises:
        CheckpointUnreadable: It is no checkpoint.
        OSError: It can't be opened.
    """
    with path.open("rb") as file:
        _read_key(file)
        while (line := file.readline(_LONGEST_LINE)) and not line.startswith(_VALUE[1:]):
            if line.startswith(_PARTS[1:]):
                return names_in(decode(line[len(_PARTS) - 1 : -2]))
    return []


def key_at(beginning: bytes) -> str:
    """The key in a checkpoint, or in what it begins with.

    Raises:
        CheckpointUnreadable: It is no checkpoint, or this is too little of it.
    """
    return _read_key(BytesIO(beginning))


def _read_key(file: IO[bytes]) -> str:
    lines = [file.readline(_LONGEST_LINE) for _ in range(3)]
    if not lines[0].startswith(_BEGIN) or not lines[2].startswith(_KEY) or not lines[2].endswith(b",\n"):
        raise CheckpointUnreadable("it doesn't begin as a checkpoint does")
    key = decode(lines[2][len(_KEY) : -2])
    if type(key) is not str:
        raise CheckpointUnreadable("its key is no text")
    return key


def _head(key: str, context: Context) -> str:
    time, task_id, workflow_id, step = context.time, context.task_id, context.workflow_id, context.step
    for name, found in (("workflow_id", workflow_id), ("step", step)):
        if not (found is None or isinstance(found, str)):
            raise ValueNotStorable(name_of(type(found)), f".{name}", "it is text, or None")
    if not (task_id is None or type(task_id) is int):
        raise ValueNotStorable(name_of(type(task_id)), ".task_id", "it is a whole number, or None")
    return (
        f'"dotflow": {VERSION},\n'
        f'"key": {_quote(key)},\n'
        f'"task_id": {"null" if task_id is None else task_id},\n'
        f'"workflow_id": {_quote(workflow_id)},\n'
        f'"step": {_quote(step)},\n'
        f'"time": {_write_time(time)},'
        f"{_inputs(context.inputs)}"
    )


def _inputs(inputs: Inputs | None) -> str:
    """What it was made from; nothing, where only the value is kept."""
    if inputs is None:
        return ""
    previous = "null" if inputs.previous is None else inputs.previous
    return (
        f'\n"initial": {_quote(inputs.initial)},\n"previous": {previous},'
        f'\n"run": {_quote(inputs.run)},\n"source": {_quote(inputs.source)},'
    )


def _quote(text: str | None) -> str:
    if text is None:
        return "null"
    return encode_basestring(text) if is_utf8(text) else encode(text)


def _write_time(time: datetime) -> str:
    if time.tzinfo is not UTC or time.fold:
        if time.tzinfo is not None:
            try:
                return encode(time)
            except ValueNotStorable:  # a time zone of some other package: then the moment is what counts
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
            raise CheckpointUnreadable("its time is none") from error
    if type(time) is not datetime or time.tzinfo is None:
        raise CheckpointUnreadable("its time is none, or has no time zone")
    return time


def _expect(fields: dict[str, Any], name: str, *kinds: type) -> Any:
    found = fields.get(name, fields)
    if type(found) not in kinds:
        raise CheckpointUnreadable(f"its {name} is missing, or is not what it should be")
    return found


def _mistake(fields: dict[str, Any]) -> str:
    """What is wrong with a format or a key."""
    version, key = fields.get("dotflow"), fields.get("key")
    if type(version) is int and version > VERSION:
        return f"it was written by a later dotflow (format {version}; this one reads {VERSION}); upgrade dotflow"
    if type(version) is not int or version != VERSION or type(key) is not str:
        return "its beginning is not that of a checkpoint"
    return shorten(f"it was renamed or copied: it belongs to the key {key!r}")
