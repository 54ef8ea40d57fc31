"""Reading any text returns a value or raises CheckpointUnreadable, without importing or running anything."""

import importlib.util
import json
import sys
from abc import ABCMeta
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, EnumMeta, IntFlag
from fractions import Fraction
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, PrivateAttr, field_validator, model_validator

from dotflow.codec import decode, encode
from dotflow.codec.decoder import TABLE
from dotflow.errors import CheckpointUnreadable
from tests.unit import codec_samples as samples

#: The same examples each time, however busy the machine is.
HERE = __name__


def reason_of(text: str | bytes, **options: Any) -> str:
    with pytest.raises(CheckpointUnreadable) as caught:
        decode(text, **options)
    assert len(caught.value.reason.encode()) < 1000  # short enough for a message, and printable
    return caught.value.reason


NO_JSON: dict[str, str | bytes] = {
    "nothing": "",
    "space": " ",
    "cut off": '{"a": [1, 2',
    "cut off text": '"abc',
    "more": "1 2",
    "comma": "[1,]",
    "single quotes": "['a']",
    "names": "{a: 1}",
    "Python": "None",
    "NaN": "NaN",
    "Infinity": "[Infinity]",
    "-Infinity": '{"a": -Infinity}',
    "control character": '"a\nb"',
    "NUL": "\0",
    "NUL in text": '"a\0b"',
    "byte order mark": "\ufeff1",
    "byte order mark in bytes": b"\xef\xbb\xbf1",
    "no UTF-8": b'"\xff"',
    "half a character": b'"\xc3"',
    "surrogate in UTF-8": b'"\xed\xa0\x80"',
    "UTF-16": "[1]".encode("utf-16"),
    "two things of one key": '{"a": 1, "a": 2}',
    "two things of one key inside": '[{"a": {"b": 1, "b": 1}}]',
    "deep lists": "[" * 100_000,
    "deep lists that end": "[" * 100_000 + "]" * 100_000,
    "deep objects": '{"a":' * 100_000,
    "deep tuples": '{"$tuple":[' * 50_000 + "]}" * 50_000,
    "digits": "9" * 1_000_000,
    "negative digits": "[-" + "9" * 1_000_000 + "]",
}


@pytest.mark.parametrize("text", NO_JSON.values(), ids=NO_JSON)
def test_text_that_is_no_json_is_unreadable(text: str | bytes) -> None:
    """Damaged text of every kind raises one error, at any depth of the stack."""
    reason_of(text)


def test_digits_are_bounded_without_pythons_own_limit() -> None:
    """A program that has switched Python's limit off doesn't spend minutes on a number."""
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        assert "a number of 1000000 digits" in reason_of("9" * 1_000_000)
        assert decode("12345") == 12345
    finally:
        sys.set_int_max_str_digits(before)


CRAFTED: dict[str, Any] = {
    "no tag": {"$nonsense": 1},
    "empty tag": {"$": 1},
    "long tag": {"$" + "x" * 10_000: 1},
    "surrogate in a tag": {"$\ud800": 1},
    "tag and more": {"$tuple": [1], "a": 1},
    "more and tag": {"a": 1, "$tuple": [1]},
    "two tags": {"$tuple": [1], "$set": [1]},
    "pickle inside": [{"$pickle": "gASVAAAAAAAAAACMBXBvc2l4"}],
    "int": {"$int": 5},
    "int in decimal": {"$int": "5"},
    "int in octal": {"$int": "0o5"},
    "int with spaces": {"$int": " 0x5 "},
    "int with underscores": {"$int": "0x5_5"},
    "int in other digits": {"$int": "0x\u0665"},
    "float": {"$float": "1.5"},
    "float with spaces": {"$float": " nan"},
    "float that is a number": {"$float": "nan:3ff0000000000000"},
    "float of few bits": {"$float": "nan:7ff8"},
    "text": {"$str": "abc"},
    "text of other numbers": {"$str": [65]},
    "text of flags": {"$str": [True]},
    "text of large numbers": {"$str": [10**20]},
    "bytes": {"$bytes": [1]},
    "bytes of no base 64": {"$bytes": "a"},
    "bytes with spaces": {"$bytes": "YW I="},
    "bytes without an end": {"$bytes": "YWI"},
    "bytes of other characters": {"$bytes": "é"},
    "tuple": {"$tuple": {"a": 1}},
    "tuple of text": {"$tuple": "abc"},
    "set with a member twice": {"$set": [1, 1.0]},
    "set of lists": {"$set": [[1]]},
    "set of dicts": {"$frozenset": [{"a": 1}]},
    "dict": {"$dict": {"a": 1}},
    "dict of triples": {"$dict": [[1, 2, 3]]},
    "dict of texts": {"$dict": ["ab"]},
    "dict with a key twice": {"$dict": [[1, 2], [True, 3]]},
    "dict with lists as keys": {"$dict": [[[1], 2]]},
    "dict with a key that has no hash": {"$dict": [[{"$decimal": "sNaN"}, 2]]},
    "datetime": {"$datetime": 5},
    "no datetime": {"$datetime": "yesterday"},
    "datetime of the 13th month": {"$datetime": "2024-13-01T00:00:00"},
    "datetime of another form": {"$datetime": "20240101T000000"},
    "datetime with a Z": {"$datetime": "2024-01-01T00:00:00Z"},
    "datetime before the first": {"$datetime": "0000-01-01T00:00:00"},
    "datetime with an unknown zone": {"$datetime": ["2024-01-01T00:00:00", {"zone": "Mars/Olympus"}]},
    "datetime with a path": {"$datetime": ["2024-01-01T00:00:00", {"zone": "../../etc/passwd"}]},
    "datetime with an absolute path": {"$datetime": ["2024-01-01T00:00:00", {"zone": "/etc/passwd"}]},
    "datetime with a folder": {"$datetime": ["2024-01-01T00:00:00", {"zone": "Europe"}]},
    "datetime with a module": {"$datetime": ["2024-01-01T00:00:00", {"zone": "os.path/join"}]},
    "datetime with NUL": {"$datetime": ["2024-01-01T00:00:00", {"zone": "UTC\0"}]},
    "datetime with an empty zone": {"$datetime": ["2024-01-01T00:00:00", {"zone": ""}]},
    "datetime with a long zone": {"$datetime": ["2024-01-01T00:00:00", {"zone": "a" * 100_000}]},
    "datetime with a zone of numbers": {"$datetime": ["2024-01-01T00:00:00", {"zone": 5}]},
    "datetime with two zones": {"$datetime": ["2024-01-01T00:00:00+01:00", {"zone": "UTC"}]},
    "datetime with another fold": {"$datetime": ["2024-01-01T00:00:00", {"fold": 2}]},
    "datetime with a name only": {"$datetime": ["2024-01-01T00:00:00", {"name": "x"}]},
    "datetime with an offset of days": {"$datetime": ["2024-01-01T00:00:00", {"offset": [5, 0, 0]}]},
    "datetime and more": {"$datetime": ["2024-01-01T00:00:00", {"a": 1}]},
    "datetime and a list": {"$datetime": ["2024-01-01T00:00:00", []]},
    "date": {"$date": "2023-02-29"},
    "date of another form": {"$date": "20230201"},
    "date of a week": {"$date": "2023-W05-1"},
    "time": {"$time": "25:00:00"},
    "time of another form": {"$time": "T01"},
    "counter": {"$counter": [["a", 1]]},
    "ordered": {"$ordered": []},
    "defaultdict of a function": {"$defaultdict": ["eval", {}]},
    "defaultdict of a class": {"$defaultdict": ["tests.unit.codec_samples:Point", {}]},
    "defaultdict of no name": {"$defaultdict": [[], {}]},
    "defaultdict without items": {"$defaultdict": ["list"]},
    "deque beyond its length": {"$deque": [[1, 2], 1]},
    "deque of a negative length": {"$deque": [[], -1]},
    "deque of a flag's length": {"$deque": [[], False]},
    "deque of text": {"$deque": ["abc", None]},
    "range of floats": {"$range": [0.0, 1.0, 1.0]},
    "range of flags": {"$range": [False, True, True]},
    "range without a step": {"$range": [0, 1, 0]},
    "range of two": {"$range": [0, 1]},
    "complex of text": {"$complex": ["1", "2"]},
    "complex of ints": {"$complex": [1, 2]},
    "complex of one": {"$complex": [1.0]},
    "named tuple of a tuple": {"$namedtuple": ["builtins:tuple", {}]},
    "named tuple of a dataclass": {"$namedtuple": ["tests.unit.codec_samples:Point", {"x": 1, "y": 1}]},
    "named tuple of a list": {"$namedtuple": ["tests.unit.codec_samples:Pair", [1, 2]]},
    "named tuple with more": {"$namedtuple": ["tests.unit.codec_samples:Pair", {"left": 1, "right": 2}, {"a": 1}]},
    "span": {"$timedelta": 5},
    "span of floats": {"$timedelta": [1.5, 0, 0]},
    "span of flags": {"$timedelta": [True, 0, 0]},
    "span beyond the last": {"$timedelta": [10**12, 0, 0]},
    "span of huge numbers": {"$timedelta": [{"$int": "0x1" + "0" * 1000}, 0, 0]},
    "span out of range": {"$timedelta": [0, 90_000, 0]},
    "decimal": {"$decimal": 1.5},
    "no decimal": {"$decimal": "one"},
    "decimal with spaces": {"$decimal": " 1"},
    "decimal with underscores": {"$decimal": "1_0"},
    "decimal in other digits": {"$decimal": "\u0665"},
    "decimal with a huge exponent": {"$decimal": "1E+9999999999999999999999"},
    "uuid": {"$uuid": "00000000000000000000000000000005"},
    "no uuid": {"$uuid": "5"},
    "uuid of another safety": {"$uuid": ["00000000-0000-0000-0000-000000000005", "mro"]},
    "path": {"$path": 5},
    "path of no kind": {"$path": ["Path", "a"]},
    "path of the other system": {"$path": ["WindowsPath" if sys.platform != "win32" else "PosixPath", "a"]},
    "path of another form": {"$path": "a//b"},
    "context": {"$context": {"storage": 1}},
    "context of a list": {"$context": [1]},
    "context and more": {"$context": dict.fromkeys(("storage", "task_id", "workflow_id", "time", "step", "more"))},
    "function as a dataclass": {"$dataclass": ["os:system", {"x": "true"}]},
    "function as an enum": {"$enum": ["os:system", "x"]},
    "function as a model": {"$model": ["os:system", {}]},
    "class that is none of these": {"$dataclass": ["subprocess:Popen", {"args": ["true"]}]},
    "built-in": {"$dataclass": ["builtins:int", {}]},
    "built-in function": {"$dataclass": ["builtins:eval", {}]},
    "object": {"$dataclass": ["builtins:object", {}]},
    "type": {"$dataclass": ["builtins:type", {}]},
    "no class": {"$dataclass": ["sys:modules", {}]},
    "module": {"$dataclass": ["sys", {}]},
    "module of a module": {"$dataclass": ["os:path", {}]},
    "method": {"$dataclass": ["tests.unit.codec_samples:Point.__init__", {}]},
    "attribute of a class": {"$dataclass": ["tests.unit.codec_samples:Point.__class__", {}]},
    "attribute of a function": {"$dataclass": ["tests.unit.codec_samples:same.__globals__.Point", {}]},
    "module that was not imported": {"$dataclass": ["antigravity:Row", {}]},
    "module that is in no package": {"$enum": ["no.such.module:Row", "A"]},
    "name without a module": {"$model": [":Row", {}]},
    "name of numbers": {"$dataclass": [5, {}]},
    "name with NUL": {"$dataclass": ["os:\0", {}]},
    "local": {"$dataclass": ["tests.unit.codec_samples:f.<locals>.Row", {}]},
    "dataclass as a model": {"$model": ["tests.unit.codec_samples:Point", {"x": 1, "y": 2}]},
    "model as a dataclass": {"$dataclass": ["tests.unit.codec_samples:Model", {"name": "n"}]},
    "enum as a dataclass": {"$dataclass": ["tests.unit.codec_samples:Colour", {}]},
    "dataclass as an enum": {"$enum": ["tests.unit.codec_samples:Point", "x"]},
    "base of models": {"$model": ["pydantic.main:BaseModel", {"a": 1}]},
    "enum itself": {"$enum": ["enum:Enum", "a"]},
    "long names": {"$dataclass": ["os:" + "x" * 100_000, {}]},
    "long members": {"$enum": ["tests.unit.codec_samples:Colour", "\ud800" * 100_000]},
    "long fields": {"$dataclass": ["tests.unit.codec_samples:Point", {"x" * 100_000: 1}]},
    "surrogates in a name": {"$dataclass": ["os:\ud800", {}]},
    "dataclass alone": {"$dataclass": ["tests.unit.codec_samples:Point"]},
    "dataclass and more": {"$dataclass": ["tests.unit.codec_samples:Point", {"x": 1, "y": 2}, {}, {}]},
    "dataclass of a list": {"$dataclass": ["tests.unit.codec_samples:Point", [1, 2]]},
    "dataclass with a list beside": {"$dataclass": ["tests.unit.codec_samples:Point", {"x": 1, "y": 2}, []]},
    "dataclass without a field": {"$dataclass": ["tests.unit.codec_samples:Point", {"x": 1}]},
    "dataclass with a field too many": {"$dataclass": ["tests.unit.codec_samples:Point", {"x": 1, "y": 2, "z": 3}]},
    "slots with a field beside": {
        "$dataclass": ["tests.unit.codec_samples:Slotted", {"name": "n", "value": 1}, {"more": 1}]
    },
    "enum without a member": {"$enum": ["tests.unit.codec_samples:Colour", "BLUE"]},
    "enum by value": {"$enum": ["tests.unit.codec_samples:Level", 1]},
    "enum by attribute": {"$enum": ["tests.unit.codec_samples:Colour", "__class__"]},
    "flags of an enum": {"$enum": ["tests.unit.codec_samples:Colour", ["RED"]]},
    "flags without a member": {"$enum": ["tests.unit.codec_samples:Mode", ["SLOW"]]},
    "flags of no bits": {"$enum": ["tests.unit.codec_samples:Mode", [0]]},
    "flags of negative bits": {"$enum": ["tests.unit.codec_samples:Mode", [-1]]},
    "flags of unknown bits": {"$enum": ["tests.unit.codec_samples:Right", [64]]},
    "flags of floats": {"$enum": ["tests.unit.codec_samples:Mode", [1.0]]},
    "model without a field": {"$model": ["tests.unit.codec_samples:Model", {"name": "n"}]},
    "model with a strange state": {
        "$model": ["tests.unit.codec_samples:Open", {"name": "n"}, {"__pydantic_private__": 5}]
    },
    "model with strange set fields": {
        "$model": ["tests.unit.codec_samples:Open", {"name": "n"}, {"__pydantic_fields_set__": 5}]
    },
    "model with unhashable set fields": {
        "$model": ["tests.unit.codec_samples:Open", {"name": "n"}, {"__pydantic_fields_set__": [[]]}]
    },
}


@pytest.fixture
def nothing_imported() -> Iterator[None]:
    """Fails if a module was imported meanwhile."""
    reason_of(json.dumps(CRAFTED["no decimal"]))  # for these, Python's own modules are imported
    reason_of(json.dumps(CRAFTED["datetime with a folder"]))
    before = set(sys.modules)
    yield
    assert set(sys.modules) == before


@pytest.mark.usefixtures("nothing_imported")
@pytest.mark.parametrize("crafted", CRAFTED.values(), ids=CRAFTED)
def test_crafted_tags_are_unreadable(crafted: Any) -> None:
    """Tags of every kind with payloads that don't fit, alone and deep inside a value."""
    reason_of(json.dumps(crafted))
    reason_of(json.dumps({"a": [1, {"b": crafted}]}))
    reason_of(json.dumps({"$tuple": [crafted]}))


def test_a_module_that_was_not_imported_says_so() -> None:
    """The reason names the module and what to do. Nothing is imported."""
    reason = reason_of('{"$dataclass": ["antigravity:Row", {}]}')

    assert "'antigravity'" in reason
    assert "import it before start()" in reason
    assert "antigravity" not in sys.modules


def test_a_class_that_has_changed_says_how() -> None:
    """The reason names removed and added fields."""
    text = encode(samples.Point(1, 2)).replace('"y"', '"why"')
    reason = reason_of(text)
    assert "the class Point has changed since: it no longer has 'why' and now has 'y'" in reason

    reason = reason_of(encode(samples.Model(name="n")).replace('"rows": []', '"lines": []'))
    assert "the class Model has changed since: it no longer has 'lines' and now has 'rows'" in reason

    reason = reason_of('{"$namedtuple": ["tests.unit.codec_samples:Pair", {"left": 1, "middle": 2}]}')
    assert "the class Pair has changed since: it no longer has 'middle' and now has 'right'" in reason

    assert "has no member 'BLUE' (any more)" in reason_of(encode(samples.Colour.RED).replace("RED", "BLUE"))


ARMED: list[None] = []


def spring(*given: Any, **named: Any) -> Any:
    """Springs as soon as the traps are armed."""
    if ARMED:
        raise AssertionError("code of a class was run")


@pytest.fixture
def armed() -> Iterator[None]:
    """The traps spring from here on."""
    ARMED.append(None)
    yield
    ARMED.clear()


class TrapMeta(ABCMeta):
    def __call__(cls, *given: Any, **named: Any) -> Any:
        spring()
        return super().__call__(*given, **named)

    def __getattribute__(cls, name: str) -> Any:
        spring()
        return super().__getattribute__(name)

    def __instancecheck__(cls, instance: Any) -> bool:
        spring()
        return super().__instancecheck__(instance)

    def __subclasscheck__(cls, subclass: Any) -> bool:
        spring()
        return super().__subclasscheck__(subclass)

    def __eq__(cls, other: object) -> bool:
        spring()
        return cls is other

    def __hash__(cls) -> int:
        spring()
        return 1

    def mro(cls) -> list[type]:
        spring()
        return super().mro()


@dataclass
class Trap(metaclass=TrapMeta):
    a: Any
    b: Any = 1

    def __new__(cls, *given: Any, **named: Any) -> Any:
        spring()
        return super().__new__(cls)

    def __post_init__(self) -> None:
        spring()

    def __init_subclass__(cls) -> None:
        spring()

    def __setattr__(self, name: str, value: Any) -> None:
        spring()
        super().__setattr__(name, value)

    def __getattribute__(self, name: str) -> Any:
        spring()
        return super().__getattribute__(name)

    def __getattr__(self, name: str) -> Any:
        raise AssertionError

    __eq__ = __repr__ = __setstate__ = __getstate__ = __reduce_ex__ = spring  # type: ignore[assignment]

    @property
    def c(self) -> int:
        raise AssertionError

    @c.setter
    def c(self, value: int) -> None:
        raise AssertionError


class TrapEnumMeta(EnumMeta):
    def __call__(cls, *given: Any, **named: Any) -> Any:
        spring()
        return super().__call__(*given, **named)

    def __getitem__(cls, name: str) -> Any:
        raise AssertionError

    def __contains__(cls, value: object) -> bool:
        raise AssertionError


class TrapEnum(Enum, metaclass=TrapEnumMeta):
    A = 1

    def __init__(self, value: int) -> None:
        spring()

    def __getattribute__(self, name: str) -> Any:
        spring()
        return super().__getattribute__(name)

    @classmethod
    def _missing_(cls, value: object) -> Any:
        raise AssertionError


class TrapFlag(IntFlag):
    A = 1
    B = 2

    @classmethod
    def _missing_(cls, value: object) -> Any:
        raise AssertionError

    def __setattr__(self, name: str, value: Any) -> None:
        spring()
        super().__setattr__(name, value)


class TrapModel(BaseModel):
    a: Any
    b: Any = 1
    _c: Any = PrivateAttr(default_factory=spring)

    def __init__(self, **given: Any) -> None:
        spring()
        super().__init__(**given)

    def __new__(cls, *given: Any, **named: Any) -> Any:
        spring()
        return super().__new__(cls)

    def __setattr__(self, name: str, value: Any) -> None:
        spring()
        super().__setattr__(name, value)

    def __getattribute__(self, name: str) -> Any:
        spring()
        return super().__getattribute__(name)

    def model_post_init(self, context: Any, /) -> None:
        spring()
        super().model_post_init(context)

    @field_validator("a")
    @classmethod
    def check(cls, value: Any) -> Any:
        spring()
        return value

    @model_validator(mode="after")
    def check_all(self) -> Any:
        spring()
        return self

    def __setstate__(self, state: Any) -> None:
        raise AssertionError


def test_building_objects_runs_none_of_their_code(armed: None) -> None:
    """No __init__, __new__, __setattr__, validator, property, metaclass or any other code of the class's author."""
    found = decode(f'{{"$dataclass": ["{HERE}:Trap", {{"a": [1], "b": null}}, {{"c": 5}}]}}')
    assert object.__getattribute__(found, "__dict__") == {"a": [1], "b": None, "c": 5}

    found = decode(f'{{"$model": ["{HERE}:TrapModel", {{"a": 1, "b": 2}}, {{"__pydantic_private__": {{"_c": 3}}}}]}}')
    assert object.__getattribute__(found, "__dict__") == {"a": 1, "b": 2}

    assert type(decode(f'{{"$enum": ["{HERE}:TrapEnum", "A"]}}')) is TrapEnum
    reason_of(f'{{"$enum": ["{HERE}:TrapEnum", "B"]}}')
    reason_of(f'{{"$enum": ["{HERE}:TrapFlag", ["A", "B"]]}}')
    reason_of(f'{{"$dataclass": ["{HERE}:Trap", {{"a": 1}}]}}')


def test_reading_the_state_of_objects_runs_none_of_their_code() -> None:
    """Their state is read as it is, past properties and __getattribute__."""
    values = [Trap(1), TrapModel(a=1), TrapEnum.A]
    ARMED.append(None)
    try:
        with pytest.raises(AssertionError):  # the table of types is a dict, which calls the hash of a metaclass
            encode(values[0])
        texts = [encode(value) for value in values[1:]]
    finally:
        ARMED.clear()

    assert '"TrapModel", {"a": 1, "b": 1}' in texts[0].replace(f"{HERE}:", "")


class WithDel:
    def __del__(self) -> None:
        spring()


@dataclass
class HasDel(WithDel):
    a: int = 1


def test_no_object_with_a_finalizer_is_built(armed: None) -> None:
    """A class with a __del__ is refused: its instances would run it."""
    assert "__del__" in reason_of(f'{{"$dataclass": ["{HERE}:HasDel", {{"a": 1}}]}}')


class TrapModule(ModuleType):
    def __getattribute__(self, name: str) -> Any:
        raise AssertionError

    def __getattr__(self, name: str) -> Any:
        raise AssertionError

    @property
    def __dict__(self) -> Any:  # type: ignore[override]
        raise AssertionError


def test_no_code_of_a_module_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are looked up in a module's dictionary, without its __getattr__ or that of another object."""
    module = TrapModule("trap_module")
    ModuleType.__dict__["__dict__"].__get__(module)["Point"] = samples.Point
    monkeypatch.setitem(sys.modules, "trap_module", module)

    assert decode('{"$dataclass": ["trap_module:Point", {"x": 1, "y": 2}]}') == samples.Point(1, 2)
    assert "no such class" in reason_of('{"$dataclass": ["trap_module:Other", {}]}')

    class NoModule:
        def __getattribute__(self, name: str) -> Any:
            raise AssertionError

    monkeypatch.setitem(sys.modules, "trap_module", NoModule())
    assert "has not imported" in reason_of('{"$dataclass": ["trap_module:Point", {}]}')
    monkeypatch.setitem(sys.modules, "trap_module", None)
    assert "has not imported" in reason_of('{"$dataclass": ["trap_module:Point", {}]}')


def test_a_lazy_module_stays_unloaded(modules: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that is loaded on first use is not used for reading."""
    modules["lazy_rows"] = "raise AssertionError('loaded')"
    spec = importlib.util.find_spec("lazy_rows")
    assert spec is not None
    assert spec.loader is not None
    spec.loader = importlib.util.LazyLoader(spec.loader)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "lazy_rows", module)
    spec.loader.exec_module(module)

    assert "no such class" in reason_of('{"$dataclass": ["lazy_rows:Row", {"a": 1}]}')


def test_a_false_class_attribute_is_ignored() -> None:
    """An object's own __class__ doesn't count."""

    class Liar:
        @property  # type: ignore[misc]
        def __class__(self) -> type:
            return type

    globals()["LIAR"] = Liar()

    assert "no such class" in reason_of(f'{{"$dataclass": ["{HERE}:LIAR", {{}}]}}')


@dataclass(frozen=True)
class BadKey:
    a: int

    def __hash__(self) -> int:
        raise RuntimeError("not today")


@dataclass(frozen=True)
class DeepKey:
    a: int

    def __hash__(self) -> int:
        return hash(self) + 1


def test_a_key_that_cannot_be_one_is_unreadable() -> None:
    """A key's __hash__ is the user's code, and may fail in any way."""
    member = f'{{"$dataclass": ["{HERE}:BadKey", {{"a": 1}}]}}'

    assert "not today" in reason_of(f'{{"$set": [{member}]}}')
    assert "not today" in reason_of(f'{{"$dict": [[{member}, 1]]}}')
    assert "too deep" in reason_of(f'{{"$set": [{member.replace("BadKey", "DeepKey")}]}}')


def test_pickles_are_loaded_only_where_this_was_chosen() -> None:
    """Otherwise the reason names the argument and the option. A damaged pickle is unreadable, too."""
    text = encode(Fraction(1, 3), pickle=True)

    assert decode(text, pickle=True) == Fraction(1, 3)
    assert decode(text.encode(), pickle=True) == Fraction(1, 3)
    assert "it is a pickle" in reason_of(text)
    assert "give it pickle=True, or --pickle on the command line" in reason_of(text)
    assert "unpickling failed" in reason_of('{"$pickle": "AAAA"}', pickle=True)
    assert "unpickling failed" in reason_of('{"$pickle": 5}', pickle=True)
    assert "more beside" in reason_of('{"$pickle": "AAAA", "a": 1}', pickle=True)
    assert "more beside" in reason_of('{"$pickle": "AAAA", "$pickle": "AAAA"}', pickle=True)
    reason_of('{"$pickle": "AAAA"', pickle=True)
    reason_of('{"$pickle": ' + "[" * 100_000, pickle=True)
    reason_of(f"[{text}]", pickle=True)
    reason_of(f" {text}", pickle=True)


tags = st.sampled_from([*TABLE, "$", "$nonsense", "a", "zone", "fold", "name", "offset"])
words = st.sampled_from(
    [
        "nan",
        "0x1f",
        "YWI=",
        "2024-01-01",
        "2024-01-01T00:00:00+01:00",
        "12:00:00",
        "1E+5",
        "00000000-0000-0000-0000-000000000005",
        "PurePosixPath",
        "a/b",
        "Europe/Berlin",
        "tests.unit.codec_samples:Point",
        "tests.unit.codec_samples:Mode",
        "tests.unit.codec_samples:Model",
        "tests.unit.codec_samples:Slotted",
        "os:system",
        "RED",
        "x",
        "y",
    ]
)
crafted_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats(allow_nan=False, allow_infinity=False)
    | words
    | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(tags | words, inner, max_size=2),
    max_leaves=8,
)


@given(crafted_values)
def test_any_tags_with_anything_under_them(crafted: Any) -> None:
    """Any combination is a value or raises CheckpointUnreadable, and a value can be written again."""
    try:
        found = decode(json.dumps(crafted))
    except CheckpointUnreadable:
        return
    assert samples.same(decode(encode(found)), found)


@given(samples.values(), st.data())
def test_damaged_text_is_a_value_or_unreadable(value: Any, data: st.DataObject) -> None:
    """Without a checksum, damage may give another value, but never another error."""
    text = encode(value).encode()
    place = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(place, min(len(text), place + 8)))
    damaged = (
        text[:place]
        + data.draw(st.binary(max_size=4) | st.sampled_from([b"[", b'{"$tuple":', b'"', b"\\u"]))
        + text[end:]
    )
    try:
        decode(damaged)
        decode(text[:place])
    except CheckpointUnreadable:
        pass


def test_a_message_holds_no_control_characters() -> None:
    """A crafted text reaches a terminal only with escapes."""
    with pytest.raises(CheckpointUnreadable) as caught:
        decode(json.dumps({"$x\x1b[31m\x07": 1}))

    assert "$x\\x1b[31m\\x07" in str(caught.value)
    assert str(caught.value).isprintable()
