"""Where the instances of a class have their state, which is read and written without running any of their code."""

from types import GetSetDescriptorType, MemberDescriptorType
from typing import Any, Final

from dotflow.codec.types.classes import NotEncodable, attribute_of, dict_of, is_built_in, mro_of, qualname_of, size_of
from dotflow.core.failure import name_of
from dotflow.errors import CheckpointUnreadable

_UNSET: Final = object()
_POINTER: Final = object.__basicsize__ // 2  # bytes: an object's body is a count and a type


class Layout:
    """The slots, the dictionary and the fields of a class's instances.

    Attributes:
        cls: The class.
    """

    __slots__ = ("_dict", "_fields", "_hidden", "_names", "_slots", "cls")

    def __init__(self, cls: type, fields: tuple[str, ...]) -> None:
        """Raises NotEncodable if the instances are more than their attributes."""
        self.cls = cls
        self._fields = fields
        self._names = frozenset(fields)
        self._slots: dict[str, MemberDescriptorType] = {}
        self._hidden: list[MemberDescriptorType] = []  # by an attribute of the same name further down
        self._dict: GetSetDescriptorType | None = None
        bases = mro_of(cls)[:-1]
        for base in bases:
            if is_built_in(base):
                raise NotEncodable(f"it is a {name_of(base)} too, which has a state of its own")
            if "__del__" in dict_of(base):
                raise NotEncodable("it has a __del__, so it is more than its attributes")
        for base in reversed(bases):
            members = dict_of(base)
            for name, member in members.items():
                if name in self._slots:
                    self._hidden.append(self._slots.pop(name))
                if type(member) is MemberDescriptorType:
                    self._slots[name] = member
            if type(members.get("__dict__")) is GetSetDescriptorType:
                self._dict = members["__dict__"]
        # A base written in C keeps its state in the instance's body. object.__reduce_ex__ checks this, too.
        slots = _POINTER * (2 + len(self._slots) + len(self._hidden))  # 2: for a __dict__ and a __weakref__
        if not 0 <= size_of(cls) <= object.__basicsize__ + slots:
            raise NotEncodable("a part of its state is hidden in C code")

    def has_slot(self, name: str) -> bool:
        """Whether the attribute has a slot."""
        return name in self._slots

    def get_state(self, instance: object) -> tuple[dict[str, Any], dict[Any, Any]]:
        """Returns the instance's fields and its other attributes. Raises NotEncodable for a field without a value."""
        if _values_of(dict(enumerate(self._hidden)), instance):
            raise NotEncodable("it has a slot that another attribute hides")
        state = _values_of(self._slots, instance)
        if self._dict is not None:
            state |= self._dict.__get__(instance)
        fields = {name: state.pop(name, _UNSET) for name in self._fields}
        for name, value in fields.items():
            if value is _UNSET:
                fields[name] = self._default_of(name)
        return fields, state

    def from_state(self, fields: dict[Any, Any], others: dict[Any, Any]) -> object:
        """Builds an instance with this state. Raises CheckpointUnreadable if the class has other fields now."""
        if fields.keys() != self._names:
            raise CheckpointUnreadable(_difference(self.cls, fields, self._fields))
        instance: object = object.__new__(self.cls)
        attributes = None if self._dict is None else self._dict.__get__(instance)
        for part in (fields, others):
            for name, value in part.items():
                if name in self._slots:
                    self._slots[name].__set__(instance, value)
                elif attributes is not None:
                    attributes[name] = value
                else:
                    raise CheckpointUnreadable(f"the class {qualname_of(self.cls)} can't have {name!r} any more")
        return instance

    def _default_of(self, name: str) -> Any:
        """Returns the value of a field that the instance has from its class."""
        default = attribute_of(self.cls, name, _UNSET)
        if default is _UNSET or type(default) is MemberDescriptorType:
            raise NotEncodable(f"its field {name!r} was never set")
        if attribute_of(type(default), "__get__") is not None:
            raise NotEncodable(f"its field {name!r} is a descriptor, and only that knows where the value is")
        return default


def _values_of(slots: dict[Any, MemberDescriptorType], instance: object) -> dict[Any, Any]:
    """Returns the values of those slots that have one."""
    values = {}
    for name, slot in slots.items():
        try:
            values[name] = slot.__get__(instance)
        except AttributeError:  # not set
            continue
    return values


class TupleLayout:
    """The names of a named tuple's items.

    Attributes:
        cls: The class.
    """

    __slots__ = ("_fields", "cls")

    def __init__(self, cls: type) -> None:
        """Raises NotEncodable if the instances are more than named items."""
        self.cls = cls
        members = dict_of(cls)
        self._fields: tuple[str, ...] = members.get("_fields", ())
        if type(self._fields) is not tuple or not all(type(name) is str for name in self._fields):
            raise NotEncodable("it is not a named tuple")
        if mro_of(cls) != (cls, tuple, object) or not members.keys().isdisjoint({"__dict__", "__del__"}):
            raise NotEncodable("it is more than a named tuple; return a plain one, or a dataclass")

    def get_state(self, instance: tuple[Any, ...]) -> tuple[dict[str, Any], dict[Any, Any]]:
        """Returns the instance's items by name, and no other attributes. Raises NotEncodable if one has no name."""
        if tuple.__len__(instance) != len(self._fields):
            raise NotEncodable("it doesn't have one item for each of its class's names")
        return dict(zip(self._fields, tuple.__iter__(instance), strict=True)), {}

    def from_state(self, fields: dict[Any, Any], others: dict[Any, Any]) -> object:
        """Builds an instance with these items. Raises CheckpointUnreadable if the class has other names now."""
        if others or fields.keys() != set(self._fields):
            raise CheckpointUnreadable(_difference(self.cls, fields, self._fields))
        return tuple.__new__(self.cls, [fields[name] for name in self._fields])


def _difference(cls: type, then: dict[Any, Any], now: tuple[str, ...]) -> str:
    removed = ", ".join(repr(name) for name in then if name not in now)
    added = ", ".join(repr(name) for name in now if name not in then)
    changes = [f"no longer has {removed}"] if removed else []
    changes += [f"now has {added}"] if added else []
    return f"the class {qualname_of(cls)} has changed since: it {' and '.join(changes)}"
