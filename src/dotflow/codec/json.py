"""Values to JSON text and back, without loss.

Values that JSON can hold stay as they are, and a person can read them. All others are tagged, `{"$tag": payload}`.
Deep in the caller's stack, where Python's recursion limit is near, a thread with a stack of its own does the work.
"""

import contextlib
import json
import re
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

from dotflow.codec.decoder import TABLE, read
from dotflow.codec.encoder import Writer
from dotflow.codec.parts import LARGE, PICKLE_SUFFIX, Parts, Raw
from dotflow.codec.plain import dump
from dotflow.codec.types.scalars import read_buffer, write_bytes
from dotflow.codec.types.value_path import finish
from dotflow.core.failure import name_of
from dotflow.core.text import shorten
from dotflow.errors import CheckpointUnreadable, ValueNotStorable

T = TypeVar("T")

_PICKLE: Final = '{"$pickle"'

_TAG: Final = re.compile(r'"(\$\w+)": ')
#: The tags of the standard library's plain data.
_PLAIN_TAGS: Final = TABLE.keys() - {"$context", "$enum", "$dataclass", "$model", "$namedtuple"}


def encode(value: Any, *, pickle: bool = False) -> str:
    """Encodes a value as one line of JSON, from which `decode` builds the same value.

    Args:
        value: Plain data of up to 200 levels. dotflow.codec.encoder has the types.
        pickle: Whether a value that JSON can't keep is pickled.

    Raises:
        ValueNotStorable: The value would not come back as it was. The error names the cause and its path.
    """
    return encode_bytes(value, pickle=pickle).decode()


def encode_bytes(value: Any, *, pickle: bool = False, parts: list[Raw] | None = None, is_sorted: bool = False) -> bytes:
    """Encodes as `encode` does, in UTF-8.

    Args:
        value: The value.
        pickle: Whether a value that JSON can't keep is pickled.
        parts: Takes the large buffers, to which the JSON then refers. None keeps everything in the JSON.
        is_sorted: Whether the members of sets are sorted, so that equal values have equal bytes in every process.
    """
    try:
        return _on_a_stack(_write, value, parts, is_sorted)
    except RecursionError:
        refusal = ValueNotStorable(name_of(type(value)), "", "it is nested too deep for Python's recursion limit")
    except ValueNotStorable as error:
        refusal = finish(error)
    except TypeError as error:  # a metaclass can make its classes unhashable, so that no table can hold them
        refusal = ValueNotStorable(name_of(type(value)), "", str(error))
    if pickle:
        if parts:
            parts.clear()
        data = write_pickle(value, refusal)
        if parts is None or len(data) <= LARGE:
            return b'{"$pickle": "%b"}' % write_bytes(data).encode()
        parts.append(Raw(memoryview(data), PICKLE_SUFFIX))
        return b'{"$pickle": {"$part": 0}}'
    raise refusal


def decode(text: str | bytes | memoryview, *, pickle: bool = False, parts: Parts | None = None) -> Any:
    """Decodes a value, with the same types at every level.

    Imports nothing by a name from the text and runs nothing, unless the text is a pickle and *pickle* is true.

    Args:
        text: The result of `encode`; bytes are UTF-8.
        pickle: Whether to load pickles. The author of a pickle can run any program here.
        parts: The large buffers beside the text.

    Raises:
        CheckpointUnreadable: The text is damaged, or names a class that is not there.
    """
    try:
        if not isinstance(text, str):
            text = str(text, "utf-8")
        if text.startswith(_PICKLE):
            return _unpickle(text, pickle, parts)
        return _on_a_stack(read, text, parts)
    except CheckpointUnreadable as error:
        raise CheckpointUnreadable(shorten(error.reason)) from error.__cause__
    except json.JSONDecodeError as error:
        reason = f"it is not JSON ({error.msg}, character {error.pos})"
    except UnicodeDecodeError as error:
        reason = f"it is not UTF-8 ({error.reason}, byte {error.start})"
    except RecursionError:
        reason = "it is nested too deep"
    except (ValueError, OverflowError, MemoryError) as error:
        reason = f"a part of it is too large ({error})"
    raise CheckpointUnreadable(reason)


def decode_plain(member: Any) -> Any:
    """Returns the value of a part of a text of the codec, as `json.loads` has read it.

    Where only a class of a program or a library could build the value, or nothing can, it returns its JSON, shortened.
    """
    text = json.dumps(member)
    if _has_plain_tags(text):
        with contextlib.suppress(CheckpointUnreadable):
            return decode(text)
    return shorten(text)


def is_plain_data(text: str) -> bool:
    """Returns whether every process can decode a text of `encode`: it has no values of a program's classes."""
    return _has_plain_tags(json.dumps(json.loads(text)))


def _has_plain_tags(text: str) -> bool:
    return _PLAIN_TAGS.issuperset(_TAG.findall(text))


def _write(value: Any, parts: list[Raw] | None, is_sorted: bool, careful: bool = False) -> bytes:
    try:
        return dump(Writer(careful=careful, is_sorted=is_sorted, parts=parts).write(value)).encode()
    except ValueError:  # a float that is not finite, or a lone surrogate
        if careful:
            raise
    if parts:
        parts.clear()
    return _write(value, parts, is_sorted, careful=True)


def _unpickle(text: str, allowed: bool, parts: Parts | None) -> Any:
    if not allowed:
        raise CheckpointUnreadable(
            "it is a pickle, which can run any program, and this storage loads none; "
            "if only you can write to the storage, give it pickle=True, or --pickle on the command line"
        )
    pairs = json.loads(text, object_pairs_hook=list)
    if len(pairs) != 1:
        raise CheckpointUnreadable("there is more beside its pickle")
    match pairs[0][1]:
        case [("$part", number)] if parts is not None:
            return read_pickle(parts.take(number))
        case payload:
            return read_pickle(payload)


def _on_a_stack(function: Callable[..., T], *arguments: Any) -> T:
    """Calls the function here, or on a stack of its own if too little of this one is left."""
    try:
        return function(*arguments)
    except RecursionError:
        pass
    outcome: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(function(*arguments))
        except BaseException as error:  # it is raised again in the caller's thread
            failure.append(error)

    thread = threading.Thread(target=run, name="dotflow codec")
    try:
        thread.start()
    except RuntimeError as error:  # too many threads, or Python is ending
        raise RecursionError("no thread with a stack of its own could be started") from error
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


_PROTOCOL: Final = 5  # every Python that dotflow supports has it


def write_pickle(value: Any, refusal: ValueNotStorable) -> bytes:
    """Returns the pickle of a value. Raises ValueNotStorable if pickle refuses it, too.

    Args:
        value: The value.
        refusal: Why the codec refused it.
    """
    import pickle

    try:
        return pickle.dumps(value, _PROTOCOL)
    except Exception as error:  # the user's own __reduce__ and __getstate__
        cause = shorten(f"{type(error).__name__}: {error}")
        reason = f"{refusal.reason}; pickle can't keep it either: {cause}".removeprefix("; ")
        raise ValueNotStorable(refusal.kind, refusal.place, reason) from error


def read_pickle(payload: object) -> Any:
    """Loads a pickle, in base 64 or as bytes, which runs any code that is in it. Raises CheckpointUnreadable."""
    import pickle

    try:
        return pickle.loads(read_buffer(payload))
    except Exception as error:  # the user's own __setstate__ and __init__
        cause = shorten(f"{type(error).__name__}: {error}")
        raise CheckpointUnreadable(f"it is a pickle, and unpickling failed: {cause}") from error
