"""Dataclasses, Pydantic models and named tuples: read and built without running their code."""

import dataclasses
import sys
from types import SimpleNamespace
from typing import Any, Final

from dotflow.codec.types.classes import NotEncodable, attribute_of, dict_of, find, inherits, name_for, qualname_of
from dotflow.codec.types.layout import Layout, TupleLayout
from dotflow.core.failure import name_of
from dotflow.errors import CheckpointUnreadable, ValueNotStorable

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


def get_state(tag: str, layout: Layout | TupleLayout, instance: Any) -> tuple[dict[str, Any], dict[Any, Any]]:
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
        known = _layouts[tag, name] = _make_layout(tag, cls)
    return known


def _make_layout(tag: str, cls: type) -> Layout | TupleLayout:
    if tag == NAMED_TUPLE:
        return TupleLayout(cls)
    return Layout(cls, _model_fields(cls) if tag == MODEL else _dataclass_fields(cls))


def _dataclass_fields(cls: type) -> tuple[str, ...]:
    known = attribute_of(cls, "__dataclass_fields__")
    if type(known) is not dict or not all(type(field) is dataclasses.Field for field in known.values()):
        raise NotEncodable("it is not a dataclass")
    # A stand-in, since the class's metaclass might run code. fields() leaves ClassVar and InitVar out.
    stand_in: Any = SimpleNamespace(__dataclass_fields__=known)
    return tuple(field.name for field in dataclasses.fields(stand_in))


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
    return others | {name: value for name, value in known.items() if name in others or layout.has_slot(name)}


def _expect(state: Any, *kinds: type) -> Any:
    if type(state) not in kinds:
        raise CheckpointUnreadable("the state of a model beside its fields is invalid")
    return state
