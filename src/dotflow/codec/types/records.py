"""Dataclasses, Pydantic models and named tuples: read and built without running their code."""

import dataclasses
import sys
from types import GetSetDescriptorType, MemberDescriptorType, SimpleNamespace
from typing import Any, Final

from dotflow.codec.types.classes import (
    NotEncodable,
    attribute_of,
    dict_of,
    find,
    inherits,
    is_built_in,
    mro_of,
    name_for,
    qualname_of,
    size_of,
)
from dotflow.core.failure import name_of
from dotflow.errors import CheckpointUnreadable, ValueNotStorable

#: The fields of an instance, and its other attributes.
State = tuple[dict[str, Any], dict[Any, Any]]

_UNSET: Final = object()
_POINTER: Final = object.__basicsize__ // 2  # bytes: an object's body is a count and a type


class Layout:
    """The slots, the dictionary and the fields of a class's instances.

    Attributes:
        cls: The class.
        slots: The attributes that have a slot.
    """

    __slots__ = ("_dict", "_fields", "_hidden", "_names", "cls", "slots")

    def __init__(self, cls: type, fields: tuple[str, ...]) -> None:
        """Raises NotEncodable if the instances are more than their attributes."""
        self.cls = cls
        self._fields = fields
        self._names = frozenset(fields)
        self.slots: dict[str, MemberDescriptorType] = {}
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
                if name in self.slots:
                    self._hidden.append(self.slots.pop(name))
                if type(member) is MemberDescriptorType:
                    self.slots[name] = member
            if type(members.get("__dict__")) is GetSetDescriptorType:
                self._dict = members["__dict__"]
        # A base written in C keeps its state in the instance's body. object.__reduce_ex__ checks this, too.
        slots = _POINTER * (2 + len(self.slots) + len(self._hidden))  # 2: for a __dict__ and a __weakref__
        if not 0 <= size_of(cls) <= object.__basicsize__ + slots:
            raise NotEncodable("a part of its state is hidden in C code")

    def get_state(self, instance: object) -> State:
        """Returns the instance's fields and its other attributes. Raises NotEncodable for a field without a value."""
        if _values_of(dict(enumerate(self._hidden)), instance):
            raise NotEncodable("it has a slot that another attribute hides")
        state = _values_of(self.slots, instance)
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
                if name in self.slots:
                    self.slots[name].__set__(instance, value)
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

    def get_state(self, instance: tuple[Any, ...]) -> State:
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


DATACLASS: Final = "$dataclass"
MODEL: Final = "$model"
NAMED_TUPLE: Final = "$namedtuple"

_FIELDS_SET: Final = "__pydantic_fields_set__"
_EXTRA: Final = "__pydantic_extra__"
_PRIVATE: Final = "__pydantic_private__"

#: The layouts of classes, by tag and name. A name may lead to another class later, so check before use.
_layouts: Final[dict[tuple[str, str], Layout | TupleLayout]] = {}
_MAX_LAYOUTS: Final = 1000  # each keeps its class alive


def tag_for(cls: type) -> str:
    """Returns the tag of a class's instances; empty for other classes than dataclasses, models and named tuples."""
    if is_model(cls):
        return MODEL
    if inherits(cls, tuple) and "_fields" in dict_of(cls):
        return NAMED_TUPLE
    return DATACLASS if attribute_of(cls, "__dataclass_fields__") is not None else ""


def describe(tag: str, cls: type) -> tuple[str, Layout | TupleLayout]:
    """Returns the name of a class, and the layout of its instances.

    Raises:
        ValueNotStorable: The instances can't be kept.
    """
    name = name_for(cls)
    try:
        return name, _layout_of(tag, name, cls)
    except NotEncodable as error:
        raise ValueNotStorable(name_of(cls), "", str(error)) from error


def get_state(tag: str, layout: Layout | TupleLayout, instance: Any) -> State:
    """Returns an instance's fields, and the attributes that not every instance has. Raises ValueNotStorable."""
    try:
        fields, others = layout.get_state(instance)
    except NotEncodable as error:
        raise ValueNotStorable(name_of(layout.cls), "", str(error)) from error
    if tag == MODEL:
        return fields, _without_defaults(fields, others)
    if "__orig_class__" in others:  # typing sets it at instances of a generic class
        name = qualname_of(layout.cls)
        raise ValueNotStorable(name_of(layout.cls), "", f"it was made as a {name}[...]; make it as a plain {name}(...)")
    return fields, others


def rebuild(tag: str, name: object, fields: dict[Any, Any], others: dict[Any, Any]) -> object:
    """Builds an instance of the class that a checkpoint names, with this state. None of the class's code is run.

    Raises:
        CheckpointUnreadable: There is no such class, or it has changed.
    """
    cls = find(name)
    try:
        layout = _layout_of(tag, str(name), cls)
    except NotEncodable as error:
        raise CheckpointUnreadable(f"{name} can't be restored: {error}") from error
    if tag == MODEL and isinstance(layout, Layout):
        others = _with_defaults(layout, fields, others)
    return layout.from_state(fields, others)


def is_model(cls: type) -> bool:
    """Whether a class is a Pydantic model. If it is, Pydantic has been imported."""
    main = sys.modules.get("pydantic.main")
    base = None if main is None else vars(main).get("BaseModel")
    return base is not None and inherits(cls, base)


def _layout_of(tag: str, name: str, cls: type) -> Layout | TupleLayout:
    known = _layouts.get((tag, name))
    if known is None or known.cls is not cls:
        if len(_layouts) >= _MAX_LAYOUTS:
            _layouts.clear()
        if tag == NAMED_TUPLE:
            known = TupleLayout(cls)
        else:
            known = Layout(cls, _model_fields(cls) if tag == MODEL else _dataclass_fields(cls))
        _layouts[tag, name] = known
    return known


def _dataclass_fields(cls: type) -> tuple[str, ...]:
    known = attribute_of(cls, "__dataclass_fields__")
    if type(known) is not dict or not all(type(field) is dataclasses.Field for field in known.values()):
        raise NotEncodable("it is not a dataclass")
    # A plain object in its place, since the class's metaclass might run code. fields() leaves ClassVar and InitVar out.
    plain: Any = SimpleNamespace(__dataclass_fields__=known)
    return tuple(field.name for field in dataclasses.fields(plain))


def _model_fields(cls: type) -> tuple[str, ...]:
    if not is_model(cls):
        raise NotEncodable("it is not a Pydantic model")
    known = attribute_of(cls, "__pydantic_fields__")
    if known is None:
        known = attribute_of(cls, "model_fields")  # Pydantic before 2.10
    if type(known) is not dict:
        raise NotEncodable("its fields are not known yet")
    return tuple(known)


def _without_defaults(fields: dict[str, Any], others: dict[Any, Any]) -> dict[Any, Any]:
    """Returns a model's other attributes, without the values that most models have."""
    kept = {name: value for name, value in others.items() if value is not None or name not in (_EXTRA, _PRIVATE)}
    if kept.get(_PRIVATE):
        undefined = sys.modules["pydantic_core"].PydanticUndefined  # of an attribute without a value
        kept[_PRIVATE] = {name: value for name, value in kept[_PRIVATE].items() if value is not undefined}
    fields_set = kept.pop(_FIELDS_SET, None)
    if fields_set is not None and fields_set != fields.keys():
        kept[_FIELDS_SET] = sorted(fields_set, key=str)  # a set's order differs between processes
    return kept


def _with_defaults(layout: Layout, fields: dict[str, Any], others: dict[Any, Any]) -> dict[Any, Any]:
    """Returns what `_without_defaults` was given."""
    fields_set = set(_expect(others.get(_FIELDS_SET, list(fields)), list))
    known = {
        _FIELDS_SET: fields_set,
        _EXTRA: _expect(others.get(_EXTRA), dict, type(None)),
        _PRIVATE: _expect(others.get(_PRIVATE), dict, type(None)),
    }
    return others | {name: value for name, value in known.items() if name in others or name in layout.slots}


def _expect(state: Any, *kinds: type) -> Any:
    if type(state) not in kinds:
        raise CheckpointUnreadable("the state of a model beside its fields is invalid")
    return state
