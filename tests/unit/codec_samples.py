"""Classes, values of every type and a strict comparison, which the codec's tests share."""

import collections
import math
import pathlib
import struct
import types
import uuid
import zoneinfo
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag, IntEnum, IntFlag, StrEnum
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, PrivateAttr, RootModel

from dotflow.codec.decoder import CONTEXT_FIELDS
from dotflow.core.context import Context

T = TypeVar("T")


class Colour(Enum):
    RED = "r"
    GREEN = "g"
    CRIMSON = "r"  # noqa: PIE796 (another name of RED)


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Word(StrEnum):
    YES = "yes"
    NO = "no"


class Right(Flag):
    READ = 1
    WRITE = 2
    RUN = 4
    BOTH = 3


class Mode(IntFlag):
    FAST = 1
    SAFE = 4


class Pair(NamedTuple):
    left: Any
    right: Any = None


Bare = collections.namedtuple("Bare", "a _1", rename=True)


class Outer:
    class Inner(Enum):
        ONE = 1

    @dataclass
    class Nested:
        value: Any = None


@dataclass
class Point:
    x: Any
    y: Any = 0
    count: ClassVar[int] = 3


@dataclass(frozen=True)
class Key:
    name: Any
    part: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Slotted:
    name: str
    value: Any = None


@dataclass
class Derived(Point):
    z: Any = None
    made: Any = field(init=False, default_factory=list)


class Undecorated(Point):
    """Inherits from a dataclass without being one."""


@dataclass
class Box(Generic[T]):
    content: T


class Model(BaseModel):
    name: str
    value: Any = None
    rows: list[Any] = []


class Open(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)
    name: str
    _seen: Any = PrivateAttr(default_factory=list)
    _unset: int = PrivateAttr()


class Page(BaseModel, Generic[T]):
    items: list[T]


PageOfModels = Page[Model]


class Root(RootModel[list[int]]):
    pass


class RootWithPrivate(RootModel[Any]):
    _seen: int = PrivateAttr(default=5)


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same in every respect: types at every level, order, signs, zones, hidden state."""
    if type(one) is not type(other):
        return False
    compare = _COMPARE.get(type(one))
    if compare is not None:
        return compare(one, other)
    if isinstance(one, Enum):
        return one is other
    if isinstance(one, BaseModel):
        return all(same(_state(one, name), _state(other, name)) for name in _MODEL_STATE)
    if hasattr(one, "__dataclass_fields__"):
        return same(_attributes(one), _attributes(other))
    return bool(one == other)


_MODEL_STATE = ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")


def _state(model: BaseModel, name: str) -> Any:
    found = getattr(model, name)
    if isinstance(found, dict):  # some ways of making a model store attributes without a value
        return {key: value for key, value in found.items() if type(value).__name__ != "PydanticUndefinedType"}
    return found


def _attributes(instance: Any) -> dict[str, Any]:
    names = {name for base in type(instance).__mro__ for name in getattr(base, "__slots__", ())}
    slots = {name: getattr(instance, name) for name in sorted(names) if hasattr(instance, name)}
    return slots | dict(sorted(getattr(instance, "__dict__", {}).items()))


def _same_items(one: Any, other: Any) -> bool:
    return len(one) == len(other) and all(map(same, one, other))


def _same_mappings(one: Any, other: Any) -> bool:
    return _same_items(list(one.items()), list(other.items()))


def _same_members(one: Any, other: Any) -> bool:
    rest = list(other)
    for member in one:
        place = next((number for number, found in enumerate(rest) if same(member, found)), None)
        if place is None:
            return False
        del rest[place]
    return not rest


def _same_moments(one: Any, other: Any) -> bool:
    zones = [None if tz is None else tz.__reduce__()[1] for tz in (one.tzinfo, other.tzinfo)]
    return (
        one.isoformat() == other.isoformat()
        and one.fold == other.fold
        and type(one.tzinfo) is type(other.tzinfo)
        and zones[0] == zones[1]
    )


_COMPARE: dict[type, Callable[[Any, Any], bool]] = {
    float: lambda one, other: struct.pack(">d", one) == struct.pack(">d", other),
    list: _same_items,
    tuple: _same_items,
    set: _same_members,
    frozenset: _same_members,
    dict: _same_mappings,
    datetime: _same_moments,
    time: _same_moments,
    Decimal: lambda one, other: str(one) == str(other) and one.as_tuple() == other.as_tuple(),
    uuid.UUID: lambda one, other: one == other and one.is_safe is other.is_safe,
    pathlib.PosixPath: lambda one, other: str(one) == str(other) and one.parts == other.parts,
    pathlib.PurePosixPath: lambda one, other: str(one) == str(other) and one.parts == other.parts,
    pathlib.PureWindowsPath: lambda one, other: str(one) == str(other) and one.parts == other.parts,
    complex: lambda one, other: same((one.real, one.imag), (other.real, other.imag)),
    range: lambda one, other: same((one.start, one.stop, one.step), (other.start, other.stop, other.step)),
    Pair: _same_items,
    Bare: _same_items,
    collections.Counter: _same_mappings,
    collections.OrderedDict: _same_mappings,
    collections.defaultdict: lambda one, other: (
        one.default_factory is other.default_factory and _same_mappings(one, other)
    ),
    types.MappingProxyType: _same_mappings,
    collections.deque: lambda one, other: one.maxlen == other.maxlen and _same_items(one, other),
    Context: lambda one, other: all(
        same(getattr(one, name), getattr(other, name)) for name in (*CONTEXT_FIELDS, "inputs")
    ),
}


#: Any text: lone surrogates, NUL, and what is one character in other encodings.
texts = st.text(st.characters(exclude_categories=()), max_size=8) | st.sampled_from(
    ["\ud83d\ude00", "\ude00\ud83d", "$int", "$", "\0", "\x7f\x85\u2028", '"\\', "\ud800"]
)
zones = st.one_of(
    st.none(),
    st.just(UTC),
    st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(timezone),
    st.builds(timezone, st.timedeltas(timedelta(hours=-23), timedelta(hours=23)), texts),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Etc/GMT+5"]).map(zoneinfo.ZoneInfo),
)
datetimes = st.builds(datetime.replace, st.datetimes(), tzinfo=zones, fold=st.integers(0, 1)) | st.sampled_from(
    [datetime.min, datetime.max]
)
times = st.builds(time.replace, st.times(), tzinfo=zones, fold=st.integers(0, 1))
decimals = st.decimals() | st.sampled_from(
    [Decimal(text) for text in ("-0", "0E+10", "1.10", "-sNaN12", "NaN007", "-Infinity", "1E+999999", "1E-99999")]
)
hashable_decimals = decimals.filter(lambda value: not value.is_snan())
integers = st.integers() | st.builds(
    lambda bits, more, sign: sign * (2**bits + more),
    st.integers(1998, 2130),
    st.integers(-1, 1),
    st.sampled_from([1, -1]),
)
floats = st.floats() | st.sampled_from([-0.0, math.inf, -math.inf, math.nan, -math.nan, 5e-324, 1e308])
complexes = st.builds(complex, floats, floats)
ranges = st.builds(range, integers, integers, integers.filter(bool))
paths = st.builds(pathlib.PurePosixPath, texts) | st.builds(pathlib.PosixPath, texts)

_hashable_scalars = st.one_of(
    st.none(),
    st.booleans(),
    integers,
    floats,
    texts,
    st.binary(max_size=8),
    datetimes,
    st.dates(),
    times,
    st.timedeltas(),
    hashable_decimals,
    st.uuids(allow_nil=True),
    paths,
    complexes,
    ranges,
    st.sampled_from(["", "a", "c:", "c:/", "C:\\a b", "\\\\host\\share\\x", "..\\a", "/a"]).map(
        pathlib.PureWindowsPath
    ),
    st.sampled_from(
        [*Colour, *Level, *Word, *Right, *Mode, Outer.Inner.ONE, Right(0), Mode(0), Mode(64 | 1), ~Mode.SAFE]
    ),
)


# Functions, as the strategies themselves would be many pages wherever Hypothesis prints one.
@st.composite
def scalars(draw: st.DrawFn) -> Any:
    """Values of every type without items."""
    return draw(_hashable_scalars)


_keys = st.recursive(
    scalars(),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(tuple),
        st.frozensets(inner, max_size=3),
        st.builds(Key, inner, inner),
        st.builds(Pair, inner, inner),
    ),
    max_leaves=4,
)


@st.composite
def keys(draw: st.DrawFn) -> Any:
    """Values of every type that is kept and can be a key."""
    return draw(_keys)


def _counter(items: dict[Any, Any]) -> Any:
    found: Any = collections.Counter()
    found.update(items)  # the first time, as they are: counts needn't be numbers
    return found


def _ordered(items: dict[Any, Any]) -> Any:
    found = collections.OrderedDict(items)
    if found:
        found.move_to_end(next(iter(found)))  # an order that a plain dict of the same items doesn't have
    return found


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.sets(keys(), max_size=4),
        st.frozensets(keys(), max_size=4),
        st.dictionaries(texts, inner, max_size=4),
        st.dictionaries(keys(), inner, max_size=4),
        st.dictionaries(keys(), inner, max_size=4).map(_counter),
        st.dictionaries(keys(), inner, max_size=4).map(_ordered),
        st.builds(collections.defaultdict, st.sampled_from([None, list, int, dict]), st.dictionaries(keys(), inner)),
        st.dictionaries(keys(), inner, max_size=4).map(types.MappingProxyType),
        st.builds(collections.deque, st.lists(inner, max_size=4), st.none() | st.integers(0, 5)),
        st.builds(Pair, inner, inner),
        st.builds(Bare, inner, inner),
        st.builds(Point, inner, inner),
        st.builds(Slotted, name=texts, value=inner),
        st.builds(Derived, inner, inner, inner),
        st.builds(Box, inner),
        st.builds(Outer.Nested, inner),
        st.builds(Model, name=st.just("m"), value=inner),
        st.builds(Open, name=st.just("o"), more=inner),
        st.builds(Context, inner, st.none() | st.integers(0, 9), st.none() | texts, datetimes, st.none() | texts),
    )


_values = st.recursive(scalars() | decimals, _containers, max_leaves=8)


@st.composite
def values(draw: st.DrawFn) -> Any:
    """Values of every type that is kept, nested in each other."""
    return draw(_values)
