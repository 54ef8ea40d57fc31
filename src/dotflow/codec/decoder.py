"""JSON back into values: each tag has one function in a table. Nothing is imported by name, and nothing is run.

The exception is the `__hash__` and `__eq__` of a class whose instances are keys of a dict or members of a set.
"""

import json
import sys
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime, time
from functools import partial
from types import MappingProxyType
from typing import Any, Final, NoReturn

from dotflow.codec import frames
from dotflow.codec.parts import Parts
from dotflow.codec.types import collections, datetimes, enums, records, scalars
from dotflow.codec.types.collections import expect_dict, expect_list
from dotflow.core.context import Context, Inputs
from dotflow.core.files import FileRecord
from dotflow.errors import CheckpointUnreadable

_ARROW_TAGS: Final = frozenset(frames.TAG_OF.values())  # dotflow.codec.frames.registry is imported for these only

_MAX_DIGITS: Final = 640  # of a number in base 10: the lowest limit that Python can be given
CONTEXT_FIELDS: Final = ("storage", "task_id", "workflow_id", "time", "step")


def read(text: str, parts: Parts | None = None) -> Any:
    """Reads a value from JSON.

    Raises:
        CheckpointUnreadable: A tag, or the value under it, is invalid.
        ValueError: It is not JSON.
        RecursionError: It is nested too deep for the stack.
    """
    if parts is not None:
        return _decoder_with(parts).decode(text)
    # int itself is the quickest, and has a limit, unless the program has switched that off.
    return (_decoder if sys.get_int_max_str_digits() else _bounded_decoder).decode(text)


def make_context(
    storage: Any, task_id: int | None, workflow_id: str | None, time: datetime, step: str | None
) -> Context:
    """Returns a Context with exactly these five fields. The constructor would merge a Context in a Context."""
    context = Context._of(None, task_id, workflow_id, time, step)
    context.storage = storage
    return context


def _object(pairs: list[tuple[str, Any]]) -> Any:
    """Reads a JSON object, whose values have been read already."""
    members = dict(pairs)
    if len(members) != len(pairs):
        raise CheckpointUnreadable("it has a key twice")
    if "$" in "".join(members):
        for key in members:
            if key[:1] == "$":
                return _tagged(key, members)
    return members


def _tagged(tag: str, members: dict[str, Any]) -> Any:
    if len(members) > 1:
        raise CheckpointUnreadable(f"the tag {tag} stands beside other keys")
    payload = members[tag]
    try:
        if tag in _ARROW_TAGS:
            from dotflow.codec.frames import registry as frame_registry

            return frame_registry.decode(tag, payload)
        reader = TABLE.get(tag)
        if reader is None:
            raise CheckpointUnreadable(f"this version of dotflow doesn't know the tag {tag}")
        return reader(payload)
    except (CheckpointUnreadable, RecursionError):
        raise
    except Exception as error:  # of a constructor, about a damaged payload; of the user's own __hash__ and __eq__
        reason = f"the value under {tag} is invalid ({type(error).__name__}: {error})"
        raise CheckpointUnreadable(reason) from error


def _refuse_constant(name: str) -> NoReturn:
    raise CheckpointUnreadable(f"it has a bare {name}, which is not JSON")


def _bounded_int(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _set(payload: object) -> set[Any]:
    members = set(expect_list(payload))
    if len(members) != len(expect_list(payload)):
        raise ValueError("it has a member twice")
    return members


def _dict(payload: object) -> dict[Any, Any]:
    pairs = expect_list(payload)
    members = dict(expect_list(pair, 2) for pair in pairs)
    if len(members) != len(pairs):
        raise ValueError("it has a key twice")
    return members


def _context(payload: object) -> Context:
    fields = expect_dict(payload)
    inputs = fields.pop("inputs", None)
    if fields.keys() != set(CONTEXT_FIELDS):
        raise ValueError("it doesn't have the fields of a Context")
    context = make_context(**fields)
    if inputs is not None:
        context.inputs = Inputs(*inputs[:6], *map(FileRecord.from_plain, inputs[6:]))
    return context


def _record(tag: str) -> Callable[[object], Any]:
    def record(payload: object) -> Any:
        name, fields, *others = expect_list(payload)
        if len(others) > 1:
            raise ValueError("there is more than a class and its attributes")
        return records.rebuild(tag, name, expect_dict(fields), expect_dict(*others) if others else {})

    return record


TABLE: Final[dict[str, Callable[[object], Any]]] = {
    "$int": scalars.read_hex_int,
    "$float": scalars.read_float,
    "$str": scalars.read_surrogates,
    "$bytes": scalars.read_bytes,
    "$tuple": lambda payload: tuple(expect_list(payload)),
    "$set": _set,
    "$frozenset": lambda payload: frozenset(_set(payload)),
    "$dict": _dict,
    "$counter": collections.read_counter,
    "$ordered": lambda payload: OrderedDict(expect_dict(payload)),
    "$defaultdict": collections.read_defaultdict,
    "$mapping": lambda payload: MappingProxyType(expect_dict(payload)),
    "$deque": collections.read_deque,
    "$range": lambda payload: range(*collections.expect_all(expect_list(payload, 3), int)),
    "$complex": lambda payload: complex(*collections.expect_all(expect_list(payload, 2), float)),
    "$datetime": lambda payload: datetimes.read_iso(datetime, payload),
    "$date": datetimes.read_date,
    "$time": lambda payload: datetimes.read_iso(time, payload),
    "$timedelta": datetimes.read_timedelta,
    "$decimal": scalars.read_decimal,
    "$uuid": scalars.read_uuid,
    "$path": scalars.read_path,
    "$context": _context,
    "$enum": lambda payload: enums.read_member(*expect_list(payload, 2)),
    "$dataclass": _record("$dataclass"),
    "$model": _record("$model"),
    "$namedtuple": _record("$namedtuple"),
}

_decoder: Final = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_refuse_constant)
_make_bounded: Final = partial(json.JSONDecoder, parse_constant=_refuse_constant, parse_int=_bounded_int)
_bounded_decoder: Final = _make_bounded(object_pairs_hook=_object)


def _decoder_with(parts: Parts) -> json.JSONDecoder:
    """Returns the decoder for a text beside which parts lie."""

    def read_object(pairs: list[tuple[str, Any]]) -> Any:
        return parts.take(pairs[0][1]) if len(pairs) == 1 and pairs[0][0] == "$part" else _object(pairs)

    return _make_bounded(object_pairs_hook=read_object)
