"""Values to JSON text and back, without loss.

What JSON has a word for stays as it is, and a person can read it; everything else is tagged, `{"$tag": payload}`. What
was written can be read on any stack: where the caller stands so deep already that Python's limit of recursion is in
the way, a thread with a stack of its own does the work.
"""

import json
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

from dotflow.codec.decoder import read
from dotflow.codec.encoder import Writer
from dotflow.codec.parts import Parts, Raw
from dotflow.codec.pickled import read_pickle, write_pickle
from dotflow.codec.plain import dump
from dotflow.codec.types.value_path import at_the_top
from dotflow.core.failure import name_of
from dotflow.core.text import shorten
from dotflow.errors import CheckpointUnreadable, ValueNotStorable

T = TypeVar("T")

_PICKLE: Final = '{"$pickle"'


def encode(value: Any, *, pickle: bool = False) -> str:
    """The value as one line of JSON, from which `decode` makes the same value again.

    Args:
        value: Plain data, as deep as 200 levels; see dotflow.codec.encoder for the types.
        pickle: Whether a value that can't be kept so is pickled.

    Raises:
        ValueNotStorable: It would not come back as it was. Says what stands in the way, and where.
    """
    return encode_bytes(value, pickle=pickle).decode()


def encode_bytes(value: Any, *, pickle: bool = False, parts: list[Raw] | None = None, is_sorted: bool = False) -> bytes:
    """Encodes as `encode` does, in UTF-8.

    Args:
        value: The value.
        pickle: Whether a value that can't be kept as JSON is pickled.
        parts: Takes the large buffers, which are then missing in the JSON. None: the JSON has everything.
        is_sorted: Whether the members of sets are sorted, so that equal values have equal bytes in every process.
    """
    try:
        return _with_room(lambda value: _write(value, parts, is_sorted), value)
    except RecursionError:
        refusal = ValueNotStorable(name_of(type(value)), "", "it is nested too deep for Python's limit of recursion")
    except ValueNotStorable as error:
        refusal = at_the_top(error)
    except TypeError as error:  # a metaclass can make its classes unhashable, and then no table can tell them apart
        refusal = ValueNotStorable(name_of(type(value)), "", str(error))
    if pickle:
        if parts:
            parts.clear()
        return b'{"$pickle": "%b"}' % write_pickle(value, refusal)
    raise refusal


def decode(text: str | bytes | memoryview, *, pickle: bool = False, parts: Parts | None = None) -> Any:
    """The value that was encoded, of the same types at every level.

    Imports nothing by a name from the text and executes nothing, unless it is a pickle and *pickle* is true.

    Args:
        text: What `encode` gave; bytes are UTF-8.
        pickle: Whether to read pickles. Whoever can write them can run any program here.
        parts: What lies beside the text.

    Raises:
        CheckpointUnreadable: It can't be read, or means something that is not there.
    """
    try:
        if not isinstance(text, str):
            text = str(text, "utf-8")
        if text.startswith(_PICKLE):
            return _unpickle(text, pickle)
        return _with_room(lambda found: read(found, parts), text)
    except CheckpointUnreadable as error:
        raise CheckpointUnreadable(shorten(error.reason)) from error.__cause__
    except json.JSONDecodeError as error:
        reason = f"it is no JSON ({error.msg}, character {error.pos})"
    except UnicodeDecodeError as error:
        reason = f"it is no UTF-8 ({error.reason}, byte {error.start})"
    except RecursionError:
        reason = "it is nested too deep"
    except (ValueError, OverflowError, MemoryError) as error:
        reason = f"a part of it is too large ({error})"
    raise CheckpointUnreadable(reason)


def _write(value: Any, parts: list[Raw] | None, is_sorted: bool) -> bytes:
    try:
        return _write_once(value, parts, careful=False, is_sorted=is_sorted)
    except ValueError:  # a float that is no number, or text that is no UTF-8
        return _write_once(value, parts, careful=True, is_sorted=is_sorted)


def _write_once(value: Any, parts: list[Raw] | None, *, careful: bool, is_sorted: bool) -> bytes:
    if parts:  # those of an attempt before
        parts.clear()
    return dump(Writer(careful=careful, is_sorted=is_sorted, parts=parts).write(value)).encode()


def _unpickle(text: str, allowed: bool) -> Any:
    if not allowed:
        raise CheckpointUnreadable(
            "it was saved with pickle=True, and this storage was not told to read pickles, which can run any program; "
            "if nobody but you can write to it, give it pickle=True, too"
        )
    pairs = json.loads(text, object_pairs_hook=list)
    if len(pairs) != 1:
        raise CheckpointUnreadable("there is more beside its pickle")
    return read_pickle(pairs[0][1])


def _with_room(function: Callable[[Any], T], argument: Any) -> T:
    """Calls the function here; on a stack of its own if there is too little left of this one."""
    try:
        return function(argument)
    except RecursionError:
        pass
    outcome: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(function(argument))
        except BaseException as error:  # it is raised again below, where the caller is
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
