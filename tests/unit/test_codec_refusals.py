"""A value that would not come back as it was is refused at once, with its type, its path and what to return instead."""

import collections
import contextlib
import functools
import io
import pickle
import threading
import types
import typing
import zoneinfo
from abc import ABC
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, make_dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from pydantic import BaseModel, create_model

from dotflow.codec import decode, encode
from dotflow.core.context import Context
from dotflow.errors import ValueNotStorable
from tests.unit import codec_samples as samples


def refusal_of(value: Any, **options: Any) -> ValueNotStorable:
    with pytest.raises(ValueNotStorable) as caught:
        encode(value, **options)
    return caught.value


class Thing:
    """An object of the user's that is not data."""

    def __repr__(self) -> str:
        raise AssertionError("its repr was called")

    __str__ = __repr__
    __hash__ = object.__hash__


class MyInt(int):
    pass


class MyStr(str):
    __slots__ = ()


class MyDict(dict[str, int]):
    pass


class MyList(list[int]):
    pass


class MyFloat(float):
    pass


class MyBytes(bytes):
    pass


class MyDate(date):
    pass


class MyMoment(datetime):
    pass


class MyDecimal(Decimal):
    pass


class MyUUID(UUID):
    pass


class MyPath(PurePosixPath):
    pass


class MyContext(Context):
    pass


class Row(NamedTuple):
    a: int


class MyRow(Row):
    pass


class RowWithDel(collections.namedtuple("Bare", "a")):  # type: ignore[misc]
    _fields = ("a",)


class MyCounter(collections.Counter[str]):
    pass


class MyOrdered(collections.OrderedDict[str, int]):
    pass


class MyDefault(collections.defaultdict[str, int]):
    pass


class MyDeque(collections.deque[int]):
    pass


class MyComplex(complex):
    pass


def local_named_tuple() -> Any:
    return collections.namedtuple("Local", "a", module="nowhere")(1)  # type: ignore[call-arg]


def short_named_tuple() -> Any:
    return tuple.__new__(Row, [])


def with_attribute(value: Any) -> Any:
    value.colour = "red"
    return value


class OtherZone(tzinfo):
    def utcoffset(self, moment: datetime | None) -> timedelta:
        return timedelta(hours=1)


def from_file() -> zoneinfo.ZoneInfo:
    key = "Europe/Berlin"
    for folder in zoneinfo.TZPATH:
        path = Path(folder, key)
        if path.exists():
            return zoneinfo.ZoneInfo.from_file(io.BytesIO(path.read_bytes()), key=key)
    from importlib.resources import files

    return zoneinfo.ZoneInfo.from_file(io.BytesIO(files("tzdata").joinpath("zoneinfo", key).read_bytes()), key=key)


@dataclass
class HasDel:
    a: int = 1

    def __del__(self) -> None:
        pass


@dataclass
class IsDict(dict[str, int]):
    a: int = 1


@dataclass
class IsError(ValueError):
    a: int = 1


@dataclass
class IsLocal(threading.local):
    a: int = 1


@dataclass
class Incomplete:
    a: int = field(init=False)


@dataclass(slots=True)
class IncompleteSlots:
    a: int = field(init=False)


@dataclass
class Described:
    a: int

    @property  # type: ignore[no-redef]
    def a(self) -> int:
        return 1

    @a.setter
    def a(self, value: int) -> None:
        pass


@dataclass(slots=True)
class HiddenSlot:
    a: int


class HidesSlot(HiddenSlot):
    a = 5  # type: ignore[assignment]

    def __init__(self) -> None:
        HiddenSlot.__dict__["a"].__set__(self, 1)


class ModelWithDel(BaseModel):
    a: int = 1

    def __del__(self) -> None:
        pass


def local_dataclass() -> Any:
    @dataclass
    class Local:
        a: int = 1

    return Local()


def local_enum() -> Any:
    return Enum("Local", "ONE", qualname="local_enum.<locals>.Local").ONE  # type: ignore[attr-defined]


@dataclass
class Shadowed:
    a: int


OLD = Shadowed(1)


@dataclass
class Shadowed:  # type: ignore[no-redef]  # as in a notebook, where a cell runs again
    a: int


def with_name(module: str, name: str) -> Any:
    made = make_dataclass(name, ["a"])
    made.__module__ = module
    return made(1)


def page_of(kind: Any) -> Any:
    return samples.Page[kind]


def generator() -> Iterator[int]:
    yield 1


async def coroutine() -> None:
    pass


@contextlib.contextmanager
def closed() -> Iterator[Any]:
    running = coroutine()
    yield running
    running.close()


REFUSED: dict[str, tuple[Any, str, str]] = {
    "object": (Thing(), f"{__name__}.Thing", ""),
    "int": (MyInt(1), f"{__name__}.MyInt", "it is a subclass of int; return a plain int"),
    "str": (MyStr("a"), f"{__name__}.MyStr", "return a plain str"),
    "float": (MyFloat(1), f"{__name__}.MyFloat", "return a plain float"),
    "bytes": (MyBytes(b""), f"{__name__}.MyBytes", "return a plain bytes"),
    "dict": (MyDict(), f"{__name__}.MyDict", "return a plain dict"),
    "list": (MyList(), f"{__name__}.MyList", "return a plain list"),
    "date": (MyDate(2024, 1, 1), f"{__name__}.MyDate", "return a plain datetime.date"),
    "datetime": (MyMoment(2024, 1, 1), f"{__name__}.MyMoment", "return a plain datetime.date"),
    "decimal": (MyDecimal(1), f"{__name__}.MyDecimal", ""),
    "uuid": (MyUUID(int=1), f"{__name__}.MyUUID", ""),
    "path": (MyPath("a"), f"{__name__}.MyPath", ""),
    "context": (MyContext(1), f"{__name__}.MyContext", ""),
    "what inherits from a named tuple": (MyRow(1), f"{__name__}.MyRow", "return a plain tuple"),
    "more than a named tuple": (RowWithDel(1), f"{__name__}.RowWithDel", "it is more than a named tuple"),
    "a named tuple of no module": (local_named_tuple(), "nowhere.Local", "nowhere:Local leads elsewhere"),
    "a named tuple without its items": (short_named_tuple(), f"{__name__}.Row", "it doesn't have one item for each"),
    "ordered": (MyOrdered(), f"{__name__}.MyOrdered", "return a plain collections.OrderedDict"),
    "defaultdict": (MyDefault(), f"{__name__}.MyDefault", "return a plain collections.defaultdict"),
    "counter": (MyCounter("a"), f"{__name__}.MyCounter", "return a plain collections.Counter"),
    "deque": (MyDeque(), f"{__name__}.MyDeque", "return a plain collections.deque"),
    "complex": (MyComplex(1j), f"{__name__}.MyComplex", "return a plain complex"),
    "defaultdict of a lambda": (
        collections.defaultdict(lambda: 1),
        "collections.defaultdict",
        "its default_factory is code, not data; return dict(...), or take one such as list or int",
    ),
    "defaultdict of a class": (collections.defaultdict(Thing), "collections.defaultdict", "is code, not data"),
    "counter with an attribute": (
        with_attribute(collections.Counter()),
        "collections.Counter",
        "attributes of its own",
    ),
    "ordered with an attribute": (
        with_attribute(collections.OrderedDict()),
        "collections.OrderedDict",
        "attributes of its own",
    ),
    "a read-only mapping of a class of the user's": (
        types.MappingProxyType(MyDict()),
        "mappingproxy",
        "it shows a MyDict; return one of a plain dict",
    ),
    "bytearray": (bytearray(b"a"), "bytearray", "return bytes(...)"),
    "memoryview": (memoryview(b"a"), "memoryview", "return bytes(...)"),
    "fraction": (Fraction(1, 3), "fractions.Fraction", ""),
    "generator": (generator(), "generator", "it can be read only once; return a list"),
    "map": (map(str, []), "map", "return a list"),
    "iterator": (iter([1]), "list_iterator", "return a list"),
    "keys": ({}.keys(), "dict_keys", "return a list"),
    "values": ({}.values(), "dict_values", "return a list"),
    "function": (generator, "function", "it is code, not data"),
    "lambda": (lambda: 1, "function", "it is code, not data"),
    "built-in": (len, "builtin_function_or_method", "it is code, not data"),
    "method": (Thing().__hash__, "", ""),
    "partial": (functools.partial(len), "functools.partial", "it is code, not data"),
    "class": (Thing, "type", "it is a class, not data"),
    "enum class": (samples.Colour, "enum.EnumType", "it is a class, not data"),
    "alias": (list[int], "types.GenericAlias", "it is a class, not data"),
    "module": (typing, "module", "it is code, not data"),
    "file": (io.StringIO(), "_io.StringIO", "it is an open file; return its path"),
    "lock": (threading.Lock(), "_thread.lock", "it belongs to this process"),
    "exception": (ValueError("a"), "ValueError", "it is an exception; raise it, or return its text"),
    "zone": (zoneinfo.ZoneInfo("UTC"), "zoneinfo.ZoneInfo", "return its name"),
    "moment with a zone of another kind": (
        datetime(2024, 1, 1, tzinfo=OtherZone()),
        "datetime.datetime",
        f"its time zone is a {__name__}.OtherZone; use zoneinfo.ZoneInfo or datetime.timezone",
    ),
    "time with a zone of another kind": (time(1, tzinfo=OtherZone()), "datetime.time", "use zoneinfo.ZoneInfo"),
    "moment with a zone from a file": (
        datetime(2024, 1, 1, tzinfo=from_file()),
        "datetime.datetime",
        "its time zone was made from a file, and no key leads to it",
    ),
    "local dataclass": (
        local_dataclass(),
        f"{__name__}.local_dataclass.<locals>.Local",
        "its class is defined inside a function and can't be found again; define it at the top of a module",
    ),
    "local enum": (local_enum(), f"{__name__}.local_enum.<locals>.Local", "its class is defined inside a function"),
    "local model": (create_model("Local", __module__="nowhere")(), "nowhere.Local", "nowhere:Local leads elsewhere"),
    "a class that was defined again": (OLD, f"{__name__}.Shadowed", f"{__name__}:Shadowed leads elsewhere, or nowhere"),
    "a class under another name": (
        with_name(__name__, "Elsewhere"),
        f"{__name__}.Elsewhere",
        "leads elsewhere, or nowhere",
    ),
    "a class of no module": (
        with_name("no.such.module", "NoModule"),
        "no.such.module.NoModule",
        "leads elsewhere, or nowhere",
    ),
    "__del__": (HasDel(), f"{__name__}.HasDel", "it has a __del__"),
    "model with __del__": (ModelWithDel(), f"{__name__}.ModelWithDel", "it has a __del__"),
    "dataclass of dict": (IsDict(), f"{__name__}.IsDict", "it is a dict too, which has a state of its own"),
    "dataclass of an exception": (IsError(), f"{__name__}.IsError", "it is a ValueError too"),
    "dataclass with a hidden state": (IsLocal(), f"{__name__}.IsLocal", "a part of its state is hidden in C code"),
    "unset field": (Incomplete(), f"{__name__}.Incomplete", "its field 'a' was never set"),
    "unset slot": (IncompleteSlots(), f"{__name__}.IncompleteSlots", "its field 'a' was never set"),
    "descriptor": (Described(1), f"{__name__}.Described", "its field 'a' is a descriptor, and only that knows"),
    "hidden slot": (HidesSlot(), f"{__name__}.HidesSlot", "it has a slot that another attribute hides"),
    "generic with arguments": (samples.Box[int](1), "tests.unit.codec_samples.Box", "make it as a plain Box(...)"),
    "model of an argument": (
        page_of(int)(items=[1]),
        "tests.unit.codec_samples.Page[int]",
        "made at the top of a module",
    ),
    "model without a field": (
        samples.Model.model_construct(value=1),
        "tests.unit.codec_samples.Model",
        "its field 'name' was never set",
    ),
}


@pytest.mark.parametrize(("value", "kind", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_refusal_names_the_type_and_the_reason(value: Any, kind: str, reason: str) -> None:
    """No value is silently turned into a similar one, and the reason says more than the type where it can."""
    error = refusal_of(value)

    assert error.kind == kind or not kind
    assert reason in error.reason
    assert error.place == ""
    assert isinstance(pickle.loads(pickle.dumps(error)), ValueNotStorable)


def test_the_refusal_of_a_coroutine_names_await() -> None:
    """The reason says to await it in the step."""
    with closed() as running:
        assert "await it in the step" in refusal_of(running).reason


@pytest.mark.parametrize(
    ("make", "place"),
    [
        (lambda bad: [1, bad], "[1]"),
        (lambda bad: (bad,), "[0]"),
        (lambda bad: {"rows": [1, 2, 3, {"conn": bad}]}, "['rows'][3]['conn']"),
        (lambda bad: {"a": 1, "b": bad}, "['b']"),
        (lambda bad: {1: 1, 2: bad}, "[2]"),
        (lambda bad: {None: [bad]}, "[None][0]"),
        (lambda bad: {b"k": bad}, "[b'k']"),
        (lambda bad: {date(2024, 1, 2): bad}, "[datetime.date(2024, 1, 2)]"),
        (lambda bad: {(1, 2): bad}, "[<key 0>]"),
        (lambda bad: {"x" * 1000: bad}, "[<key 0>]"),
        (lambda bad: {"a": 1, "x" * 1000: bad}, "[<key 1>]"),
        (lambda bad: {10**5000: bad}, "[<key 0>]"),
        (lambda bad: {Key(1): 1, bad: 1}, "<key 1>"),
        (lambda bad: {"a": 1, (1, (bad,)): 1}, "<key 1>[1][0]"),
        (lambda bad: {bad}, "<member 0>"),
        (lambda bad: frozenset({(5, bad)}), "<member 0>[1]"),
        (lambda bad: [samples.Point(1, [bad])], "[0].y[0]"),
        (lambda bad: samples.Slotted(name="n", value=bad), ".value"),
        (lambda bad: samples.Outer.Nested(samples.Box(bad)), ".value.content"),
        (lambda bad: samples.Model(name="n", value={"a": bad}), ".value['a']"),
        (lambda bad: samples.Open(name="n", more=bad), ".__pydantic_extra__['more']"),
        (lambda bad: Context(bad), ".storage"),
        (lambda bad: [Context([bad])], "[0].storage[0]"),
        (lambda bad: ["\ud800", {"\ud800": 1, "b": bad}], "[1]['b']"),
        (lambda bad: [float("nan"), samples.Point(bad)], "[1].x"),
    ],
)
def test_a_refusal_says_where(make: Callable[[Any], Any], place: str) -> None:
    """The path is written as an expression that leads there."""
    error = refusal_of(make(Thing()))

    assert error.place == place
    assert error.kind == f"{__name__}.Thing"
    assert f"holds a {__name__}.Thing at {place}, " in str(error)


Key = samples.Key


def test_a_value_that_contains_itself_is_refused() -> None:
    """The path ends where the cycle closes."""
    loop: list[Any] = [1, {"a": []}]
    loop[1]["a"].append(loop)
    mapping: dict[str, Any] = {}
    mapping["self"] = mapping
    point = samples.Point(1)
    point.y = [point]
    queue: collections.deque[Any] = collections.deque()
    queue.append(queue)

    error = refusal_of({"x": loop})
    assert (error.kind, error.place, error.reason) == ("list", "['x'][1]['a'][0]", "it contains itself")
    error = refusal_of(mapping)
    assert (error.kind, error.place, error.reason) == ("dict", "['self']", "it contains itself")
    error = refusal_of(point)
    assert (error.place, error.reason) == (".y[0]", "it contains itself")
    error = refusal_of(queue)
    assert (error.kind, error.place, error.reason) == ("collections.deque", "[0]", "it contains itself")


TOO_DEEP = "it is nested more than 200 levels deep"


def test_a_value_that_is_nested_too_deep_is_refused() -> None:
    """A value of more than 200 levels might not be readable on a small stack."""
    value: Any = []
    for _ in range(200):
        value = [value]

    error = refusal_of(value)
    assert error.reason == TOO_DEEP
    assert error.place.startswith("[0][0][0]")
    assert len(error.place) == 203
    assert decode(encode(value[0])) == value[0]
    for _ in range(100_000):
        value = [value]
    assert refusal_of(value).reason == TOO_DEEP


def test_wide_values_that_contain_themselves_end_too() -> None:
    """Every path through such a value is endless, and the first is enough."""
    wide: list[Any] = []
    wide.extend([wide] * 50)

    assert refusal_of(wide).reason == "it contains itself"


def test_a_large_key_or_attribute_is_named_without_running_anything() -> None:
    """Attributes whose names are not identifiers appear as keys."""
    point = samples.Point(1)
    vars(point)["$x"] = Thing()

    assert refusal_of(point).place == "['$x']"


def test_a_refusal_leaves_no_trace_of_the_value() -> None:
    """The error holds names only, not the value and its frames' chain."""
    error = refusal_of([Thing()])

    assert error.__context__ is None
    assert error.__cause__ is None


class Reduced:
    """Can be pickled, and is not data."""

    def __init__(self, value: Any) -> None:
        self.value = value


class Unpicklable:
    def __reduce__(self) -> Any:
        raise RuntimeError("not me")


def test_pickle_is_for_refused_values_only() -> None:
    """With pickle=True, values that the codec keeps stay readable, and others are pickled as a whole."""
    text = encode([1, Reduced((2,))], pickle=True)

    assert encode({"a": (1,)}, pickle=True) == encode({"a": (1,)})
    assert text.startswith('{"$pickle": "')
    found = decode(text, pickle=True)
    assert found[1].value == (2,)
    assert decode(encode(samples.Point(1), pickle=True), pickle=False) == samples.Point(1)


def test_pickle_keeps_cycles_and_deep_values() -> None:
    """Cycles and deep values can be pickled."""
    loop: list[Any] = []
    loop.append(loop)

    found = decode(encode(loop, pickle=True), pickle=True)

    assert found[0] is found


def test_a_value_that_pickle_refuses_too_has_both_reasons() -> None:
    """The path of the codec's refusal, and the reason of pickle's."""
    error = refusal_of({"a": Unpicklable()}, pickle=True)

    assert error.place == "['a']"
    assert error.kind == f"{__name__}.Unpicklable"
    assert error.reason == "pickle can't keep it either: RuntimeError: not me"
    assert "it is code, not data; pickle can't keep it either" in refusal_of([lambda: 1], pickle=True).reason


class Abstract(ABC):  # noqa: B024
    pass


@dataclass
class OfAbstract(Abstract):
    a: int


def test_bases_without_a_state_are_no_hindrance() -> None:
    """ABC, Generic, Protocol and the like."""
    assert decode(encode(OfAbstract(1))) == OfAbstract(1)


def test_a_moment_is_not_refused_for_its_offset() -> None:
    """Offsets of seconds, and of less."""
    from datetime import timezone

    for offset in (timedelta(seconds=1), timedelta(microseconds=-1), timedelta(hours=-5, seconds=3, microseconds=7)):
        value = datetime(2024, 1, 1, tzinfo=timezone(offset, "x"))
        assert decode(encode(value)).utcoffset() == offset
        assert decode(encode(value)).tzname() == "x"
    assert decode(encode(datetime(2024, 1, 1, tzinfo=UTC))).tzinfo is UTC
