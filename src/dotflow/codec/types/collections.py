"""The types of the collections module, ranges and complex numbers: what they have beside their items."""

from collections import Counter, OrderedDict, defaultdict, deque
from types import MappingProxyType
from typing import Any, Final

from dotflow.codec.types.classes import NotEncodable
from dotflow.cpython import mapping_behind

#: The factories of defaultdicts that are kept.
_FACTORIES: Final[dict[str, type]] = {
    kind.__name__: kind
    for kind in (bool, bytes, complex, dict, float, frozenset, int, list, set, str, tuple)
}  # fmt: skip


def check_no_attributes(value: Counter[Any] | OrderedDict[Any, Any]) -> None:
    """Raises NotEncodable for a value with attributes, since only the items are written."""
    if vars(value):
        raise NotEncodable("it has attributes of its own; return it without them")


def dict_behind(value: MappingProxyType[Any, Any]) -> dict[Any, Any]:
    """Returns the dict that a read-only mapping shows. Raises NotEncodable if it shows another type."""
    shown = mapping_behind(value)
    if type(shown) is not dict:
        raise NotEncodable(f"it shows a {type(shown).__qualname__}; return one of a plain dict")
    return shown


def name_of_factory(value: defaultdict[Any, Any]) -> str | None:
    """Returns the name of a defaultdict's factory; None if it has no factory. Raises NotEncodable."""
    factory: Any = value.default_factory
    if factory is None:
        return None
    if type(factory) is not type or _FACTORIES.get(factory.__name__) is not factory:
        raise NotEncodable("its default_factory is code, not data; return dict(...), or take one such as list or int")
    return factory.__name__


def read_counter(payload: object) -> Counter[Any]:
    """Builds a Counter, whose counts may be of any type."""
    counter: Counter[Any] = Counter()
    dict.update(counter, expect_dict(payload))
    return counter


def read_defaultdict(payload: object) -> defaultdict[Any, Any]:
    """Builds a defaultdict from the name of its factory, and its items."""
    name, items = expect_list(payload, 2)
    return defaultdict(None if name is None else _FACTORIES[name], expect_dict(items))


def read_deque(payload: object) -> deque[Any]:
    """Builds a deque from its items and its maximum length."""
    items, maxlen = expect_list(payload, 2)
    if maxlen is not None and (type(maxlen) is not int or len(expect_list(items)) > maxlen):
        raise ValueError("it has more items than its maximum length")
    return deque(expect_list(items), maxlen)


def expect_dict(payload: object) -> dict[Any, Any]:
    """Returns the payload, which is a dict. Raises TypeError."""
    if type(payload) is not dict:
        raise TypeError("it is not an object")
    return payload


def expect_list(payload: object, length: int | None = None) -> list[Any]:
    """Returns the payload, which is a list of this length. Raises TypeError."""
    if type(payload) is not list or (length is not None and len(payload) != length):
        raise TypeError("it is not a list of the right length")
    return payload


def expect_all(values: list[Any], kind: type) -> list[Any]:
    """Returns the values, which are of one type. Raises TypeError."""
    if not all(type(value) is kind for value in values):
        raise TypeError("its numbers are of another type")
    return values
