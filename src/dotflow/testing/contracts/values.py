"""The values, workflow ids and keys that StorageContract posts: of every kind, and easily confused."""

import dataclasses
import enum
import importlib
import importlib.util
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Any, Final, NamedTuple
from uuid import UUID

import pydantic

from dotflow.core.context import Context


class Colour(enum.Enum):
    """An enum."""

    RED = "red"


class Level(enum.IntEnum):
    """An enum whose members equal plain numbers, and must not come back as such."""

    HIGH = 3


class Name(str):
    """A subclass of str."""

    __slots__ = ()


class Pair(NamedTuple):
    """A named tuple."""

    left: int
    right: int


@dataclasses.dataclass
class Point:
    """A dataclass."""

    x: int
    tags: tuple[str, ...] = ()
    inner: "Point | None" = None


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    """A frozen dataclass without a __dict__."""

    when: datetime


class Model(pydantic.BaseModel):
    """A Pydantic model."""

    number: int
    note: str | None = None


def _of_library(name: str, library: str, make: Callable[[Any], object]) -> dict[str, Callable[[], Any]]:
    """Returns a value's maker by its name, if the library is installed; importing it is left to the maker."""
    return {name: lambda: make(importlib.import_module(library))} if importlib.util.find_spec(library) else {}


_NESTED: Final = {"rows": [{"id": 1, "tags": [], "score": 0.5}, {"id": 2, "tags": ["a"], "score": None}], "ok": True}

_MOMENT: Final = datetime(2024, 1, 1, tzinfo=UTC)

#: Plain JSON: every storage stores these.
PLAIN: Final[dict[str, object]] = {
    "None": None,
    "zero": 0,
    "one": 1,
    "False": False,
    "True": True,
    "empty text": "",
    "empty list": [],
    "empty dict": {},
    "whole float": 1.0,
    "float": 0.1,
    "minus zero": -0.0,
    "large float": 1.7976931348623157e308,
    "int beyond a float": 2**53 + 1,
    "negative": -(2**31) - 1,
    "text": "text",
    "text like a number": "1",
    "text like JSON": '{"a": [null]}',
    "unicode": "äöü 漢字 😀 \u00e9 e\u0301",
    "quotes and lines": "a\"b'c\\d\ne\r\nf\tg\x7f",
    "blank ends": " a ",
    "long text": "0123456789" * 20_000,
    "nested": _NESTED,
    "deep": [[[[[[[[[[None]]]]]]]]]],
    "list of empties": [None, 0, "", [], {}, False],
    "empties in a dict": {"": None, " ": 0, "a.b": "", "$": [], "__type__": {}},
    "many": list(range(1_000)),
}

#: Other values come back the same, or post() raises. They are made on use, since some import a library.
OTHERS: Final[dict[str, Callable[[], Any]]] = {
    "infinity": lambda: float("inf"),
    "not a number": lambda: float("nan"),
    "huge int": lambda: 10**5_000,
    "zero byte": lambda: "a\0b",
    "lone surrogate": lambda: "a\ud800b",
    "bytes": lambda: b"\x00\xff",
    "bytearray": lambda: bytearray(b"abc"),
    "empty tuple": lambda: (),
    "tuple": lambda: (1, (2, [3])),
    "tuple in a dict": lambda: {"a": (1, 2)},
    "set": lambda: {1, 2, 3},
    "frozenset": lambda: frozenset({"a", ("b", 1)}),
    "dict with numbers": lambda: {0: "a", 2.5: "b", None: "c", True: "d"},
    "dict with tuples": lambda: {(1, 2): "a", b"k": "b"},
    "dict like a tag": lambda: {"$type": "tuple", "value": [1]},
    "moment": lambda: datetime(2024, 2, 29, 12, 30, 15, 123456, tzinfo=UTC),
    "moment in a zone": lambda: datetime(2024, 7, 1, tzinfo=timezone(timedelta(hours=-3, minutes=-30))),
    "moment without zone": lambda: datetime(1, 1, 1),
    "date": lambda: date(2024, 2, 29),
    "time of day": lambda: time(23, 59, 59, 999999),
    "span": lambda: timedelta(days=-1, microseconds=1),
    "decimal": lambda: Decimal("1.00"),
    "UUID": lambda: UUID(int=1),
    "path": lambda: Path("a/b"),
    "pure path": lambda: PurePosixPath("/a"),
    "enum": lambda: Colour.RED,
    "enum like a number": lambda: Level.HIGH,
    "text of its own type": lambda: Name("name"),
    "named tuple": lambda: Pair(1, 2),
    "ordered dict": lambda: OrderedDict(b=1, a=2),
    "counter": lambda: Counter("abracadabra"),
    "default dict": lambda: defaultdict(list, {1: ["a"]}),
    "deque": lambda: deque([1, (2,)], maxlen=3),
    "complex": lambda: 1 + 2j,
    "range": lambda: range(3),
    "dataclass": lambda: Point(1, ("a",), Point(2)),
    "frozen dataclass": lambda: Frozen(datetime(2024, 1, 1, tzinfo=UTC)),
    "dataclasses in a list": lambda: [Point(1), {"p": Point(2)}],
    "class": lambda: Point,
    "function": lambda: len,
    "object": object,
    "contexts": lambda: [Context(1, 0, "w", _MOMENT, "m:f"), Context(None, None, None, _MOMENT)],
    "mixed": lambda: {"a": [(1, {2}), b"x", None, Decimal("0.10")], "b": {Colour.RED: Point(1)}},
    "Pydantic model": lambda: Model(number=1, note="x"),
    **_of_library("NumPy array", "numpy", lambda numpy: numpy.arange(6, dtype="int16").reshape(2, 3)),
    **_of_library("pandas frame", "pandas", lambda pandas: pandas.DataFrame({"a": [1, 2], "b": ["x", None]})),
    **_of_library("Polars frame", "polars", lambda polars: polars.DataFrame({"a": [1, None], "b": ["x", "y"]})),
    **_of_library("Arrow table", "pyarrow", lambda pyarrow: pyarrow.table({"a": [1, None], "b": ["x", "y"]})),
}

#: Values of the size that steps often return. They come back the same, or post() raises.
LARGE: Final[dict[str, Callable[[], Any]]] = {
    "100 KB of bytes": lambda: bytes(range(250)) * 400,
    "1 MB of bytes twice": lambda: {"a": [b"0123456789" * 100_000, 1], "b": (b"abcdefghij" * 100_000,)},
    "1 MB of text": lambda: "0123456789" * 100_000,
    **_of_library("1 MB of floats", "numpy", lambda numpy: numpy.arange(125_000) / 3),
}

#: Ids of workflows that are easily confused.
IDS: Final = (
    "a", "A", "b", "ab", "a1", "a/b", "a/0", "0", "/", "a/", "/a", "a|b", "a@b", "a%2Fb", "a:0", "a-0", "a_0", "a.0",
    "a 0", " a", "a ", ".", "..", "../a", "*", "a*", "%", "_", "\u00e9", "e\u0301", "漢字", "😀", "a\nb", "a" * 5_000,
    "a@day=2026-11-25", 'a@q="a/b c",x=1', "a@q=é,x=\"'\\\"",
)  # fmt: skip

#: Keys that are easily confused, or hard to store: any text may be one.
KEYS: Final = (
    "", " ", ".", "..", "../x", "x", "X", "x.", "x..", "x ", " x", "/x", "x/", "x/y", "x\\y", "x//y", "x%2Fy", "%2F",
    "/etc/passwd", "C:\\x", "CON", "con", "NUL.json", "a\0b", "a\nb", "a'b", 'a"b', "a;b", "a*b", "a?b", "$HOME",
    "~", "-rf", "\u00e9", "e\u0301", "ß", "ss", "漢字", "😀", "a\ud800b", "a\ud801b", ".hidden",
    "x.json", "x.tmp", "__proto__", "x/y-03007d22d38704c1a9be", "x/y-03007d22d38704c1a9be-2", "x/y-at0", "x/y-items",
    "k" * 5_000, "k" * 4_999 + "l", "K" * 5_000, "漢" * 1_000,
)  # fmt: skip
