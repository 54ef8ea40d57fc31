"""A value comes back the same, with the same types at every level."""

import json
import math
import os
import pathlib
import struct
import subprocess
import sys
import uuid
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Context as DecimalContext
from decimal import Decimal, localcontext
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import example, given

from dotflow.codec import decode, encode
from dotflow.codec.encoder import MAX_DEPTH
from dotflow.core.context import Context
from tests.unit import codec_samples as samples
from tests.unit.codec_samples import same

#: The same examples each time, however busy the machine is.


@pytest.fixture
def few_digits() -> Iterator[None]:
    """Limits numbers to 640 digits, the lowest limit that a program can set."""
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(640)
    yield
    sys.set_int_max_str_digits(before)


@given(samples.values())
@example([])
def test_every_value_comes_back_as_it_was(value: Any) -> None:
    """A value that is not refused comes back with its types, order, signs, zones and hidden state."""
    text = encode(value)

    assert "\n" not in text
    assert same(decode(text), value)
    assert same(decode(text.encode()), value)


@given(samples.keys(), samples.keys())
def test_keys_of_every_type_come_back(key: Any, value: Any) -> None:
    """A dict's keys and a set's members keep their types."""
    assert same(decode(encode({key: value, (key,): 1})), {key: value, (key,): 1})
    assert same(decode(encode({key, (value,)})), {key, (value,)})


@given(samples.values())
def test_the_text_is_json_that_others_can_read(value: Any) -> None:
    """The text is strict JSON, without NaN and lone surrogates."""

    def refuse(name: str) -> None:
        raise AssertionError(name)

    json.loads(encode(value).encode().decode(), parse_constant=refuse)


def ordered() -> OrderedDict[str, int]:
    found = OrderedDict(a=1, b=2, c=3)
    found.move_to_end("a")
    return found


@pytest.mark.parametrize(
    "value",
    [
        Counter("abracadabra"),
        Counter({"a": -1, 2: 0, "c": "no number"}),
        ordered(),
        OrderedDict({1: ordered()}),
        defaultdict(list, {"a": [1]}),
        defaultdict(None, {(1, 2): defaultdict(int)}),
        *(defaultdict(kind) for kind in (bool, bytes, complex, dict, float, frozenset, int, list, set, str, tuple)),
        MappingProxyType({"a": (1,), 2: MappingProxyType({})}),
        deque([1, [2], "3"]),
        deque([1, 2], maxlen=2),
        deque(maxlen=0),
        *(range(3), range(5, -5, -2), range(0), range(2, 1), range(2**70, 2**3000, 2**2999)),
        *(1j, complex(-0.0, 0.0), complex(0.0, -0.0), complex(math.nan, -math.inf), complex(math.inf, math.nan)),
        samples.Pair(1, samples.Pair({"a"}, None)),
        samples.Bare([1], "\ud800"),
        {samples.Pair(1, 2): [range(3), {2j}]},
    ],
    ids=ascii,
)
def test_collections_ranges_and_complex_numbers_keep_their_types(value: Any) -> None:
    """The collections module's types, named tuples, ranges and complex numbers are exact, with any items."""
    assert same(decode(encode(value)), value)
    assert same(decode(encode([{"a": value}])), [{"a": value}])


@pytest.mark.parametrize(
    "value",
    [None, True, False, 0, -7, 1.5, -0.0, "", "é 😀", [], {}, [1, [2, "x"]], {"a": {"b": [None, 1.0]}, "": 1}],
    ids=repr,
)
def test_plain_json_stays_plain_json(value: Any) -> None:
    """Values that JSON can hold are readable to people and to any JSON library."""
    text = encode(value)

    assert text == json.dumps(value, ensure_ascii=False)
    assert same(decode(text), value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2**2000, '{"$int": "0x1' + "0" * 500 + '"}'),
        (-(2**2000), '{"$int": "-0x1' + "0" * 500 + '"}'),
        (math.inf, '{"$float": "inf"}'),
        (-math.inf, '{"$float": "-inf"}'),
        (math.nan, '{"$float": "nan"}'),
        ("a\ud800b", '{"$str": ["a", 55296, "b"]}'),
        ("\ud83d\ude00", '{"$str": [55357, 56832]}'),
        (b"\x00ab", '{"$bytes": "AGFi"}'),
        ((1, ("a",)), '{"$tuple": [1, {"$tuple": ["a"]}]}'),
        ({3}, '{"$set": [3]}'),
        (frozenset({3}), '{"$frozenset": [3]}'),
        ({1: "a", "b": 2}, '{"$dict": [[1, "a"], ["b", 2]]}'),
        ({"$int": "0x1"}, '{"$dict": [["$int", "0x1"]]}'),
        (date(2024, 2, 29), '{"$date": "2024-02-29"}'),
        (datetime(2024, 1, 2, 3, 4, 5, 6), '{"$datetime": "2024-01-02T03:04:05.000006"}'),
        (datetime(2024, 1, 2, tzinfo=UTC), '{"$datetime": "2024-01-02T00:00:00+00:00"}'),
        (
            datetime(2024, 10, 27, 2, 30, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"), fold=1),
            '{"$datetime": ["2024-10-27T02:30:00", {"zone": "Europe/Berlin", "fold": 1}]}',
        ),
        (
            time(1, 2, tzinfo=timezone(timedelta(hours=1), "here")),
            '{"$time": ["01:02:00+01:00", {"name": "here"}]}',
        ),
        (timedelta(-1, 2, 3), '{"$timedelta": [-1, 2, 3]}'),
        (Decimal("1.10"), '{"$decimal": "1.10"}'),
        (uuid.UUID(int=5), '{"$uuid": "00000000-0000-0000-0000-000000000005"}'),
        (pathlib.PurePosixPath("a/b"), '{"$path": ["PurePosixPath", "a/b"]}'),
        (pathlib.PureWindowsPath("c:/b"), '{"$path": ["PureWindowsPath", "c:\\\\b"]}'),
        (samples.Colour.CRIMSON, '{"$enum": ["tests.unit.codec_samples:Colour", "RED"]}'),
        (samples.Outer.Inner.ONE, '{"$enum": ["tests.unit.codec_samples:Outer.Inner", "ONE"]}'),
        (samples.Right.READ | samples.Right.RUN, '{"$enum": ["tests.unit.codec_samples:Right", ["READ", "RUN"]]}'),
        (samples.Mode(65), '{"$enum": ["tests.unit.codec_samples:Mode", ["FAST", 64]]}'),
        (samples.Point(1), '{"$dataclass": ["tests.unit.codec_samples:Point", {"x": 1, "y": 0}]}'),
        (
            samples.Model(name="n", value=(1,), rows=[]),
            '{"$model": ["tests.unit.codec_samples:Model", {"name": "n", "value": {"$tuple": [1]}, "rows": []}]}',
        ),
        (samples.Root([1, 2]), '{"$model": ["tests.unit.codec_samples:Root", {"root": [1, 2]}]}'),
        (
            Context(1, 2, "w", datetime(2024, 1, 2, tzinfo=UTC), "m:f"),
            '{"$context": {"storage": 1, "task_id": 2, "workflow_id": "w", "time": {"$datetime": '
            '"2024-01-02T00:00:00+00:00"}, "step": "m:f"}}',
        ),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else type(value).__name__,
)
def test_the_format_is_pinned(value: Any, text: str) -> None:
    """Later versions read the checkpoints of this one, so the text of each type is a promise."""
    assert encode(value) == text
    assert same(decode(text), value)


@pytest.mark.parametrize(
    "value", [2**1999, 2**2000 - 1, 2**2000, -(2**2000) + 1, -(2**2000), 10**3000, -(7**9000)], ids=int.bit_length
)
def test_numbers_of_any_size(value: int, few_digits: None) -> None:
    """Python's lowest limit on the digits of numbers changes nothing."""
    assert decode(encode(value)) == value
    assert decode(encode([value, "x"])) == [value, "x"]
    assert decode(encode([0, value])) == [0, value]
    assert decode(encode({"n": value})) == {"n": value}
    assert decode(encode({value: value})) == {value: value}


@pytest.mark.parametrize("bits", [0x7FF8000000000000, 0xFFF8000000000000, 0x7FF00000000007A2, 0x7FF8DEADBEEF0001])
def test_not_a_number_keeps_its_bits(bits: int) -> None:
    """R's NA, for instance, is a NaN with a meaning."""
    (value,) = struct.unpack(">d", struct.pack(">Q", bits))

    assert struct.pack(">d", decode(encode([value]))[0]) == struct.pack(">Q", bits)


@pytest.mark.parametrize(
    "text",
    ["0", "-0", "0E+3", "1.000", "1E+999999", "-1E-999999", "NaN", "-NaN12", "sNaN", "sNaN99", "Infinity", "9" * 5000],
)
@pytest.mark.parametrize("capitals", [0, 1])
def test_decimals_are_exact(text: str, capitals: int, few_digits: None) -> None:
    """All digits, the exponent and the payload of a NaN come back, under any decimal context of the program."""
    value = Decimal(text)
    with localcontext(DecimalContext(prec=3, capitals=capitals, traps=[])):
        found = decode(encode(value))

    assert found.as_tuple() == value.as_tuple()


def test_an_enum_member_is_the_member() -> None:
    """It is neither a copy nor the value, so `is` works."""
    for member in (*samples.Colour, *samples.Level, *samples.Word, *samples.Right, samples.Mode(0), samples.Right(7)):
        assert decode(encode(member)) is member


def test_a_dataclass_keeps_attributes_beside_its_fields() -> None:
    """Attributes that are not fields come back, as do fields with init=False and class-level defaults."""
    derived = samples.Derived(1)
    derived.made.append(2)
    derived.extra = {"x": (1,)}  # type: ignore[attr-defined]
    vars(derived)["$odd"] = 1
    vars(derived)["\ud800"] = 2

    assert same(decode(encode(derived)), derived)
    assert same(decode(encode(samples.Undecorated(1, 2))), samples.Undecorated(1, 2))


@dataclass
class LeftToTheClass:
    a: int = field(init=False, default=5)


def test_the_default_of_a_field_is_written() -> None:
    """A field that has its class's default keeps that value when the default changes."""
    text = encode(LeftToTheClass())
    LeftToTheClass.a = 6

    found = decode(text)

    LeftToTheClass.a = 5
    assert vars(found) == {"a": 5}


@dataclass(slots=True)
class OldPlace:
    name: str


@dataclass
class NewPlace(OldPlace):
    value: int = 1


def test_slots_and_attributes_in_one() -> None:
    """A class may have both."""
    value = NewPlace("a", 2)
    value.more = 3  # type: ignore[attr-defined]

    found = decode(encode(value))

    assert (found.name, found.value, found.more) == ("a", 2, 3)
    assert found == value


def test_a_model_keeps_its_hidden_state() -> None:
    """Private attributes, extra ones, and which fields were set."""
    value = samples.Open(name="n", more=(1,))
    value._seen.append(b"x")
    found = decode(encode(value))

    assert same(found, value)
    assert found.model_extra == {"more": (1,)}
    assert found.model_fields_set == {"name", "more"}
    assert found._seen == [b"x"]
    assert decode(encode(samples.Model(name="n"))).model_fields_set == {"name"}
    assert decode(encode(samples.Model(name="n"))).model_dump(exclude_unset=True) == {"name": "n"}


def test_root_and_generic_models() -> None:
    """Models of one value, with private attributes too, and models of a type parameter under a name."""
    page = samples.PageOfModels(items=[samples.Model(name="n")])
    root = samples.RootWithPrivate([1])
    root._seen = 9

    assert same(decode(encode(page)), page)
    assert decode(encode(root)) == root
    assert decode(encode(root))._seen == 9


def test_models_that_were_not_validated_stay_as_they_are() -> None:
    """A wrong value stays, and no validator runs."""
    value = samples.Model.model_construct(name=5, value=None, rows="?")  # type: ignore[arg-type]

    assert same(decode(encode(value)), value)


def test_a_context_keeps_one_layer_or_two() -> None:
    """All five fields come back, and a Context in a Context stays one."""
    context = Context([1], 3, "w", datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=2))), "m:f")
    outer = Context(None, 4)
    outer.storage = context

    assert same(decode(encode([outer])), [outer])


def test_the_order_of_a_dict_is_kept() -> None:
    """With plain keys and with others."""
    assert list(decode(encode({"b": 1, "a": 2, "c": 3}))) == ["b", "a", "c"]
    assert list(decode(encode({"b": 1, 3: 2, "a": 3, None: 4}))) == ["b", 3, "a", None]


def test_equal_keys_that_are_not_the_same_stay_apart() -> None:
    """Two NaNs are two keys."""
    found = decode(encode({math.nan: 1, float("nan"): 2}))

    assert list(found.values()) == [1, 2]


@pytest.mark.parametrize("value", [datetime(2024, 3, 31, 2, 30, fold=fold) for fold in (0, 1)], ids=["first", "second"])
@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "UTC", "Etc/GMT-14"])
def test_wall_clock_times_keep_their_zone(value: datetime, zone: str) -> None:
    """The zone is the same object, so its rules still apply, in gaps and folds too."""
    value = value.replace(tzinfo=zoneinfo.ZoneInfo(zone))

    found = decode(encode(value))

    assert found.tzinfo is value.tzinfo
    assert (found.utcoffset(), found.fold) == (value.utcoffset(), value.fold)


def nested(levels: int, shell: Any, core: Any = 1) -> Any:
    for _ in range(levels):
        core = shell(core)
    return core


SHELLS = {
    "list": lambda inner: [inner],
    "tuple": lambda inner: (inner, 1),
    "dict": lambda inner: {"a": inner},
    "keys": lambda inner: {1: inner},
    "frozenset": lambda inner: frozenset({inner}),
    "key": lambda inner: {(1,): inner},
    "dataclass": samples.Point,
    "slots": lambda inner: samples.Slotted(name="n", value=inner),
    "extra": lambda inner: samples.Open(name="n", more=inner),
}


def at_depth(frames: int, function: Any) -> Any:
    return function() if frames == 0 else at_depth(frames - 1, function)


@pytest.mark.parametrize("shell", SHELLS.values(), ids=SHELLS)
@pytest.mark.parametrize("frames", [0, 500, 750])
def test_written_values_can_be_read_on_any_stack(shell: Any, frames: int) -> None:
    """200 levels are written and read at any depth of the caller's stack."""
    levels = MAX_DEPTH - (1 if shell is SHELLS["key"] else 0) - (1 if shell is SHELLS["extra"] else 0)
    value = nested(levels // (2 if shell is SHELLS["extra"] else 1), shell)

    text = at_depth(frames, lambda: encode(value))
    found = at_depth(frames, lambda: decode(text))

    assert encode(found) == text


def test_careful_writing_is_the_same_writing() -> None:
    """A NaN or a lone surrogate doesn't change the text of the rest of the value."""
    rest = [{"a": [1, 2.5, None, True, "é"], "$b": {1: 2}}, samples.Point([1], {"x": samples.Colour.RED})]

    assert encode([rest, math.nan]) == encode([rest, 0]).removesuffix("0]") + '{"$float": "nan"}]'
    assert same(decode(encode([rest, "\ud800", {"\ud800": 1}])), [rest, "\ud800", {"\ud800": 1}])


def test_paths_of_bytes_that_are_not_utf8() -> None:
    """The name of a file that is not UTF-8 has lone surrogates in Python."""
    path = pathlib.Path(os.fsdecode(b"/tmp/\xff\xfe"))

    assert same(decode(encode([path])), [path])


def test_a_uuid_keeps_its_safety() -> None:
    """`is_safe` is a part of the value."""
    value = uuid.UUID(int=1, is_safe=uuid.SafeUUID.safe)

    assert same(decode(encode(value)), value)


def test_classes_of_a_script_are_found_again(tmp_path: pathlib.Path) -> None:
    """A class of the program is written with __main__, and is found when the program runs again."""
    program = (
        "import sys, dataclasses\n"
        "from dotflow.codec import decode, encode\n"
        "@dataclasses.dataclass\n"
        "class Row:\n"
        "    a: int\n"
        "print(encode(Row(1)) if len(sys.argv) == 1 else decode(sys.argv[1]))\n"
    )
    path = os.pathsep.join(entry for entry in sys.path if entry)

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        return done.stdout.strip()

    assert run(run()) == "Row(a=1)"
