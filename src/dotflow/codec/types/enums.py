"""Enums: members by their names, and flags that are several of them."""

import enum
from enum import Enum, Flag
from typing import Any, Final

from dotflow.codec.types.classes import NotEncodable, attribute_of, dict_of, find, inherits, mro_of
from dotflow.errors import CheckpointUnreadable

#: Methods that a new combination of flags would run, where the class or a mixin defines them.
_HOOKS: Final = ("__getattr__", "__getattribute__", "__setattr__")
_STANDARD: Final = (enum.IntFlag, enum.Flag, enum.ReprEnum, enum.Enum, int, object)


def write_member(member: Any) -> str | list[Any]:
    """Returns a member's name; for a combination of flags their names, and then the bits without a name.

    Raises:
        NotEncodable: The member would not be found again.
    """
    cls = type(member)
    members = _members_of(cls)
    name = _attribute(member, "_name_")
    if type(name) is str and members.get(name) is member:
        return name
    rest = _attribute(member, "_value_")
    if not inherits(cls, Flag) or type(rest) is not int or _combine(cls, rest) is not member:
        raise NotEncodable("it is no member of its class")
    parts: list[Any] = []
    for name, single in members.items():
        bit = _attribute(single, "_value_")
        if type(bit) is int and bit > 0 and bit & (bit - 1) == 0 and bit & rest:
            parts.append(name)
            rest ^= bit
    return [*parts, rest] if rest else parts


def read_member(name: object, member: object) -> Any:
    """Returns the member that `write_member` wrote. Neither `_missing_` nor any other code of the class is run."""
    cls = find(name)
    if not inherits(cls, Enum):
        raise CheckpointUnreadable(f"{name} is no Enum")
    members = _members_of(cls)
    if type(member) is str and member in members:
        return members[member]
    if type(member) is not list or not inherits(cls, Flag):
        raise CheckpointUnreadable(f"{name} has no member {member!r} (any more)")
    value = 0
    for part in member:
        bits = _attribute(members[part], "_value_") if type(part) is str and part in members else part
        if type(bits) is not int or bits <= 0:
            raise CheckpointUnreadable(f"{name} has no member {part!r} (any more)")
        value |= bits
    try:
        return _combine(cls, value)
    except NotEncodable as error:
        raise CheckpointUnreadable(f"{name} has no {member!r} (any more): {error}") from error


def _attribute(member: object, name: str) -> Any:
    return object.__getattribute__(member, name)


def _members_of(cls: type) -> dict[str, Any]:
    members = dict_of(cls).get("_member_map_")
    return members if type(members) is dict else {}


def _combine(cls: type, value: int) -> Any:
    """Returns the one object that stands for a combination of flags, which may be new. Raises NotEncodable."""
    known = dict_of(cls).get("_value2member_map_")
    if type(known) is not dict:
        raise NotEncodable("it is no proper Enum")
    if value in known:
        return known[value]
    bases = [base for base in mro_of(cls) if not any(base is standard for standard in _STANDARD)]
    kind = attribute_of(cls, "_member_type_")
    if any(hook in dict_of(base) for base in bases for hook in _HOOKS) or not (kind is object or kind is int):
        raise NotEncodable("making it would run the class's own code")
    try:
        combination: Any = dict_of(Flag)["_missing_"].__func__(cls, value)  # not the class's own _missing_
    except ValueError as error:
        raise NotEncodable(str(error)) from error
    if type(combination) is not cls or _attribute(combination, "_value_") != value:
        raise NotEncodable("the class keeps no such values")
    return combination
