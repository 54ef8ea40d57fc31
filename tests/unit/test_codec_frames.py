"""Arrays and frames come back as they were, or are refused at once. A crafted file runs no code and takes no memory."""

import json
import math
import random
import struct
import sys
import zoneinfo
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from dotflow.codec import decode, encode
from dotflow.codec.frames import TAG_OF, ipc
from dotflow.codec.frames import registry as frame_registry
from dotflow.codec.frames.ipc import check_stream, pack
from dotflow.errors import CheckpointUnreadable, ValueNotStorable

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
NAN = float("nan")


# -- a comparison that lets nothing pass -------------------------------------------------------------------------------


def same(one: Any, other: Any) -> bool:
    """Whether the two are the same, down to the types of what is inside and the bits of every number."""
    if type(one) is not type(other):
        return False
    for kinds, compare in COMPARISONS:
        if isinstance(one, kinds):
            return compare(one, other)
    return bool(one == other) or one is other


def same_all(one: Any, other: Any) -> bool:
    one, other = list(one), list(other)
    return len(one) == len(other) and all(map(same, one, other))


def same_dicts(one: dict[Any, Any], other: dict[Any, Any]) -> bool:
    return same_all(one, other) and same_all(one.values(), other.values())


def same_floats(one: float, other: float) -> bool:
    return one.hex() == other.hex()


def same_dtypes(one: Any, other: Any) -> bool:
    """Whether dtypes of NumPy or pandas are the same. NumPy's equality alone passes dtypes of different types."""
    if type(one) is not type(other) or one != other or repr(one) != repr(other):
        return False
    return not isinstance(one, np.dtype) or (one.char, one.type, one.isalignedstruct) == (
        other.char,
        other.type,
        other.isalignedstruct,
    )


def same_arrays(one: Any, other: Any) -> bool:
    if not same_dtypes(one.dtype, other.dtype) or one.shape != other.shape:
        return False
    if _is_fortran(one) != _is_fortran(other) or not other.flags.writeable or not other.flags.owndata:
        return False
    if one.dtype.char in "OT":
        return same_all(one.ravel().tolist(), other.ravel().tolist())
    return same_bytes(one, other)


def same_bytes(one: Any, other: Any) -> bool:
    """Compares field by field, since the bytes between the fields of a structured dtype mean nothing."""
    if one.dtype.names is not None:
        return all(same_bytes(one[name], other[name]) for name in one.dtype.names)
    size = 10 if one.dtype.char == "g" and one.dtype.itemsize == 16 else one.dtype.itemsize
    if one.dtype.char == "G" or size != one.dtype.itemsize:
        return repr(one.tolist()) == repr(other.tolist())  # an x86 long double has 6 bytes that mean nothing
    return bool(one.tobytes() == other.tobytes())


def _is_fortran(array: Any) -> bool:
    return bool(array.flags.f_contiguous and not array.flags.c_contiguous)


def same_scalars(one: Any, other: Any) -> bool:
    return same_dtypes(one.dtype, other.dtype) and same_bytes(np.asarray(one), np.asarray(other))


def same_around(one: Any, other: Any) -> bool:
    """Whether the index, attrs and flags of two frames or series are the same."""
    return (
        same(one.index, other.index)
        and same_dicts(one.attrs, other.attrs)
        and one.flags.allows_duplicate_labels == other.flags.allows_duplicate_labels
    )


def same_frames(one: Any, other: Any) -> bool:
    return (
        same(one.columns, other.columns)
        and same_around(one, other)
        and all(same_columns(one.iloc[:, place], other.iloc[:, place]) for place in range(one.shape[1]))
    )


def same_series(one: Any, other: Any) -> bool:
    return same(one.name, other.name) and same_around(one, other) and same_columns(one, other)


def same_columns(one: Any, other: Any) -> bool:
    if not same_dtypes(one.dtype, other.dtype):
        return False
    if isinstance(one.dtype, pd.CategoricalDtype):
        return same(one.dtype.categories, other.dtype.categories) and same_all(one, other)
    return same_all(one, other)


def same_indexes(one: Any, other: Any) -> bool:
    if isinstance(one, pd.MultiIndex):
        return (
            same_all(one.levels, other.levels)
            and same_all([codes.tolist() for codes in one.codes], [codes.tolist() for codes in other.codes])
            and same_all(one.names, other.names)
            and one.sortorder == other.sortorder
        )
    return (
        same(one.name, other.name)
        and same_columns(one, other)
        and getattr(one, "freq", None) == getattr(other, "freq", None)
        and getattr(one, "unit", None) == getattr(other, "unit", None)
    )


def same_moments(one: Any, other: Any) -> bool:
    units = [getattr(moment, "unit", None) for moment in (one, other)]
    zones = [repr(getattr(moment, "tzinfo", None)) for moment in (one, other)]
    return bool(one == other) and repr(one) == repr(other) and units[0] == units[1] and zones[0] == zones[1]


def same_polars(one: Any, other: Any) -> bool:
    if isinstance(one, pl.DataFrame):
        return one.schema == other.schema and one.shape == other.shape and same_all(one.get_columns(), other)
    return one.dtype == other.dtype and one.name == other.name and same_all(one.to_list(), other.to_list())


def same_arrow(one: Any, other: Any) -> bool:
    if isinstance(one, pa.Table | pa.RecordBatch):
        return one.schema.equals(other.schema, check_metadata=True) and same_all(one.columns, other.columns)
    if isinstance(one, pa.Scalar):
        return one.type == other.type and same(one.as_py(), other.as_py())
    return one.type.equals(other.type, check_metadata=True) and same_all(one.to_pylist(), other.to_pylist())


COMPARISONS: list[tuple[Any, Callable[[Any, Any], bool]]] = [
    (np.ndarray, same_arrays),
    (np.generic, same_scalars),
    (pd.DataFrame, same_frames),
    (pd.Series, same_series),
    (pd.Index, same_indexes),
    (pd.api.extensions.ExtensionArray, same_columns),
    ((pl.DataFrame, pl.Series), same_polars),
    ((pa.Table, pa.RecordBatch, pa.Array, pa.ChunkedArray, pa.Scalar), same_arrow),
    (type(pd.NaT), lambda one, other: one is other),
    (type(pd.NA), lambda one, other: one is other),
    ((datetime, timedelta), same_moments),
    (float, same_floats),
    (complex, lambda one, other: same_floats(one.real, other.real) and same_floats(one.imag, other.imag)),
    ((list, tuple), same_all),
    (dict, same_dicts),
]


def comes_back(value: Any) -> bool:
    """Whether a value is the same after it was encoded and decoded."""
    return same(value, decode(encode(value)))


# -- NumPy -------------------------------------------------------------------------------------------------------------

NESTED = np.dtype([("id", "<i4"), ("at", ">M8[ms]"), ("xy", "<f8", (2, 3)), ("in", [("name", "<U3"), ("raw", "S2")])])
ALIGNED = np.dtype({"names": ["a", "b"], "formats": ["i1", "f8"]}, align=True)
SPREAD = np.dtype({"names": ["b", "a"], "formats": ["f4", "i2"], "offsets": [8, 1], "itemsize": 20})

DTYPES = [
    *"?bBhHiIlLqQefdgFDG",
    ">i2", ">i8", ">u4", ">f2", ">f8", ">g", ">c16", "S3", "U4", ">U4", "V5",
    "M8[ns]", "M8[us]", "M8[D]", "M8[Y]", "M8[25s]", ">M8[ms]", "M8", "m8[ns]", "m8[W]", "m8", "m8[7h]",
    NESTED, ALIGNED, SPREAD, np.dtype([(("a title", "a"), "i1"), ("b", "i1")]),
    np.dtype([("\ud800", "i1"), ("", "i1")]), np.dtype([("x", "q", 2), ("y", "g")]),
]  # fmt: skip

ARRAYS = [
    np.array(5.5),
    np.array("x"),
    np.arange(24).reshape(2, 3, 4),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.arange(24).reshape(2, 3, 4).transpose(2, 0, 1),
    np.arange(10)[::-2],
    np.arange(12).reshape(3, 4)[:, 1:3],
    np.broadcast_to(np.arange(3), (2, 3)),
    np.zeros((0,)),
    np.zeros((0, 3), "M8[s]"),
    np.zeros((3, 0), order="F"),
    np.zeros((1,) * 20),
    np.array([0.0, -0.0, NAN, -NAN, math.inf, 5e-324]),
    np.array([0x7FF0000000000001, 0xFFF8000000000123], "u8").view("f8"),
    np.array(["2024-02-29", "NaT"], "M8[D]"),
    np.array(["a\0b", "\ud800", ""]),
    np.array([b"a\0b", b""]),
    np.frombuffer(bytes(range(8)), "V4"),
    np.frombuffer(bytes(range(8)), "?") == 3,
]

SCALARS = [
    np.float64(0.1), np.float64(NAN), np.float64(-0.0), np.float64(math.inf), np.float32(0.1), np.float16(65504),
    np.array([0x7FF0000000000001], "u8").view("f8")[0], np.longdouble(1) / 3, np.clongdouble(1 + 2j) / 3,
    np.int64(-(2**63)), np.uint64(2**64 - 1), np.int8(-128), np.longlong(7), np.ulonglong(7), np.bool_(True),
    np.complex64(1 - 2j), np.complex128(complex(NAN, -0.0)), np.str_("x\0"), np.str_(""), np.str_("\ud800"),
    np.bytes_(b"x\0"), np.bytes_(b""), np.datetime64("2024-02-29T12:00", "ns"), np.datetime64("NaT", "s"),
    np.datetime64("2024", "25Y"), np.timedelta64(5, "h"), np.void(b"\0ab"), np.zeros(1, NESTED)[0],
]  # fmt: skip


def named(values: list[Any]) -> list[Any]:
    """Parameters with their number and type as the name."""
    return [pytest.param(value, id=f"{place}-{type(value).__name__}") for place, value in enumerate(values)]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_arrays_of_every_dtype(dtype: Any) -> None:
    """An array comes back with its dtype, byte order and bits, whatever it is made of."""
    size = np.dtype(dtype).itemsize
    array = np.frombuffer(bytes(i % 2 for i in range(size * 3)), "u1").view(dtype).copy()

    assert comes_back(array)
    assert comes_back(np.zeros((0, 2), dtype))


@pytest.mark.parametrize("array", named(ARRAYS))
def test_arrays_of_every_shape(array: Any) -> None:
    """Its shape and its order, C or Fortran, come back; it can be written to, and owns its memory."""
    assert comes_back(array)


@pytest.mark.parametrize("scalar", named(SCALARS))
def test_numpy_scalars(scalar: Any) -> None:
    """A NumPy scalar doesn't become a Python number."""
    assert comes_back(scalar)


def test_a_scalar_can_be_read_in_the_file_and_needs_no_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """People look for numbers such as the mean of a column in a checkpoint."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    assert encode(np.float64(0.5)) == '{"$numpy": {"dtype": "<f8", "value": 0.5}}'
    assert comes_back(np.float64(0.5))


@pytest.mark.skipif(not hasattr(np.dtypes, "StringDType"), reason="NumPy before 2 has no strings of any width")
@pytest.mark.parametrize(
    "options", [{}, {"na_object": NAN}, {"na_object": None}, {"na_object": pd.NA}, {"coerce": False}]
)
def test_numpy_strings_of_any_width(options: dict[str, Any]) -> None:
    """They come back with the object that stands for a missing string."""
    missing = [options["na_object"]] if "na_object" in options else []
    array = np.array([["a", "a much longer text, beyond what fits in", ""], ["ä", "\0", *(missing or ["z"])]], object)
    strings = array.astype(np.dtypes.StringDType(**options))

    assert comes_back(strings)
    assert comes_back(np.asfortranarray(strings))
    assert comes_back(strings[:0])


@given(st.data())
def test_any_array(data: st.DataObject) -> None:
    """Arrays that Hypothesis makes come back, too."""
    dtypes = st.one_of(npst.scalar_dtypes(), npst.array_dtypes(), npst.nested_dtypes())
    shapes = npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
    array = data.draw(npst.arrays(data.draw(dtypes), data.draw(shapes)))
    assume(array.dtype.itemsize)

    assert comes_back(array)
    assert comes_back(array.T)
    assert all(comes_back(scalar) for scalar in array.ravel()[:1])


# -- pandas ------------------------------------------------------------------------------------------------------------

DAYS = pd.date_range("2024-03-30", periods=3, freq="D")

OBJECTS: list[Any] = [
    None, NAN, pd.NA, pd.NaT, np.datetime64("NaT", "s"), (1, "a"), [1, [2]], [], {"a": None}, 1, True, 1.5, "a",
    "\ud800", b"b", {1, 2}, Decimal("1.50"), date(2024, 2, 29), datetime(2024, 2, 29, tzinfo=BERLIN), np.float64(1.5),
    np.array(5), np.array([1, 2]), pd.Timestamp(5), pd.Series([1]), 10**30,
]  # fmt: skip


def objects(*values: Any) -> Any:
    """An array of objects that NumPy doesn't look into."""
    return np.fromiter(values, object, len(values))


def column(*values: Any) -> pd.Series:
    return pd.Series(objects(*values), dtype=object)


COLUMNS: dict[str, Any] = {
    **{
        kind: pd.Series([1, 0, 1], dtype=kind) for kind in ("bool", "int8", "uint64", "float16", "float32", "complex64")
    },
    "float": pd.Series([0.0, -0.0, NAN]),
    "bits": pd.Series(np.array([0x7FF0000000000001, 0xFFF8000000000123], "u8").view("f8")),
    "big-endian": pd.Series(np.array([1, 2], ">i4")),
    "longdouble": pd.Series(np.array([1, 2], "g") / 3),
    **{f"datetime {unit}": pd.Series(["2024-02-29", None], dtype=f"M8[{unit}]") for unit in ("s", "ms", "us", "ns")},
    "timedelta": pd.Series([timedelta(1), None], dtype="m8[ms]"),
    **{f"zone {zone}": pd.Series(DAYS.tz_localize(zone)) for zone in (UTC, BERLIN, zoneinfo.ZoneInfo("UTC"))},
    "offset": pd.Series(DAYS.tz_localize(timezone(timedelta(hours=-3, seconds=-1)))),
    "named offset": pd.Series(DAYS.tz_localize(timezone(timedelta(hours=5), "here"))),
    "objects": column(*OBJECTS),
    "one list": column([5]),
    "lists of one length": column([1, 2], [3, 4]),
    "arrays of one length": column(np.array([1, 2]), np.array([3, 4])),
    "only None": column(None, None),
    "only nan": column(NAN, NAN),
    "booleans": column(True, None, False),
    "numbers": column(1, 2),
    "moments": column(pd.Timestamp(5), datetime(2024, 1, 1)),
    "words": column("a", None, NAN, pd.NA),
    "str": pd.Series(["a", None, "ä", ""], dtype="string"),
    "python str": pd.Series(["a", None, ""], dtype=pd.StringDtype("python")),
    "much text": pd.Series([f"text {number}" for number in range(100)], dtype="string"),
    "much python text": pd.Series([*map(str, range(100)), None], dtype=pd.StringDtype("python")),
    **{kind: pd.Series([1, None, 3], dtype=kind) for kind in ("Int8", "Int64", "UInt16", "Float32", "Float64")},
    "boolean": pd.Series([True, None, False], dtype="boolean"),
    "categories": pd.Series(["b", "a", None], dtype=pd.CategoricalDtype(["b", "a", "unused"], ordered=True)),
    "categories of numbers": pd.Series([1.5, NAN], dtype="category"),
    "categories of objects": pd.Series(pd.Categorical([(1, 2), "x"], categories=[(1, 2), "x"])),
    "categories of days": pd.Series(pd.Categorical([DAYS[0], None], categories=DAYS)),
    "no categories": pd.Series(pd.Categorical([None, None])),
    "many categories": pd.Series(range(300)).astype("category"),
    "cut": pd.cut(pd.Series([1, 5, 9]), 3),
    "period": pd.Series(pd.PeriodIndex(["2024-01", "NaT"], freq="M")),
    "periods of two weeks": pd.Series(pd.period_range("2024", periods=2, freq="2W")),
    "interval": pd.Series(pd.arrays.IntervalArray.from_tuples([(0, 1), (2, 3)], closed="both")),
    "interval of floats": pd.Series(pd.arrays.IntervalArray.from_tuples([(0, 1.5), None], closed="left")),
    "interval of days": pd.Series(pd.interval_range(DAYS[0], periods=2)),
    "interval with zones": pd.Series(pd.interval_range(DAYS[0].tz_localize(BERLIN), periods=2)),
    "arrow": pd.Series([[1], None, []], dtype=pd.ArrowDtype(pa.list_(pa.int8()))),
    "arrow text": pd.Series(["a", None], dtype=pd.ArrowDtype(pa.string())),
    "arrow time": pd.Series([time(1, 2), None], dtype=pd.ArrowDtype(pa.time64("us"))),
    "arrow nan": pd.Series(pa.array([NAN, None, 1.0]), dtype=pd.ArrowDtype(pa.float64())),
    "arrow decimal": pd.Series([Decimal("1.50"), None], dtype=pd.ArrowDtype(pa.decimal128(10, 2))),
    "arrow dictionary": pd.Series(["a", None], dtype=pd.ArrowDtype(pa.dictionary(pa.int8(), pa.string()))),
    "arrow null": pd.Series([None, None], dtype=pd.ArrowDtype(pa.null())),
}
if hasattr(pd.StringDtype(), "na_value") and int(pd.__version__.split(".")[0]) > 2:
    COLUMNS["nan str"] = pd.Series(["a", None, ""], dtype="str")
    COLUMNS["nan python str"] = pd.Series(["a", None, ""], dtype=pd.StringDtype("python", na_value=NAN))

INDEXES: dict[str, Any] = {
    "range": pd.RangeIndex(3),
    "range with a step": pd.RangeIndex(10, 0, -3, name="down"),
    "numbers": pd.Index([1, 2, 2], name=("a", 1)),
    "small numbers": pd.Index([1, 2], dtype="int8", name=0),
    "floats": pd.Index([1.0, NAN], name=NAN),
    "booleans": pd.Index([True, False]),
    "text": pd.Index(["a", "b"], name=datetime(2024, 1, 1)),
    "objects": pd.Index(objects("a", 1, None, NAN, (1, 2)), dtype=object, tupleize_cols=False),
    "tuples": pd.Index(objects((1, 2), (3, 4)), dtype=object, tupleize_cols=False),
    "booleans as objects": pd.Index(objects(True, False), dtype=object),
    "empty": pd.Index([]),
    "days": DAYS,
    "days without freq": pd.DatetimeIndex(["2024-01-01", "2024-01-05"], name="d"),
    "days with zone": pd.date_range("2024-03-30", periods=3, freq="D", tz=BERLIN),
    "hours over the change": pd.date_range("2024-10-27", periods=30, freq="30min", tz=BERLIN),
    "months": pd.date_range("2024", periods=3, freq="MS"),
    "no days": pd.date_range("2024", periods=0, freq="2h"),
    "business days": pd.bdate_range("2024", periods=10),
    "spans": pd.timedelta_range("1h", periods=3, freq="90min"),
    "periods": pd.period_range("2024", periods=3, freq="Q"),
    "intervals": pd.interval_range(0, 3, name="i"),
    "categories": pd.CategoricalIndex(["x", "y", "x"], categories=["y", "x"], ordered=True, name="c"),
    "nullable": pd.Index([1, None], dtype="Int64"),
    "arrow": pd.Index(["a"], dtype=pd.ArrowDtype(pa.string())),
    "levels": pd.MultiIndex.from_product([range(2), DAYS], names=["n", None]),
    "levels with missing ones": pd.MultiIndex.from_arrays([["a", None], [1.5, NAN]], names=["x", "x"]),
    "unused levels": pd.MultiIndex.from_product([[1, 2], ["a", "b"]])[:1],
    "sorted levels": pd.MultiIndex(levels=[[1, 2], ["a"]], codes=[[0, 1], [0, 0]], sortorder=1),
    "no levels left": pd.MultiIndex.from_product([[], ["a"]]),
}

FRAMES: dict[str, Any] = {
    "nothing": pd.DataFrame(),
    "only rows": pd.DataFrame(index=range(3)),
    "only columns": pd.DataFrame(columns=["a", "b"]),
    "no rows": pd.DataFrame({"a": pd.Series([], dtype="i4"), "b": pd.Series([], dtype=object)}),
    "one label twice": pd.DataFrame([[1, "a"]], columns=["x", "x"]),
    "labels of all kinds": pd.DataFrame([[1, 2, 3, 4, 5]], columns=pd.Index([1, "1", (1,), None, 1.0], dtype=object)),
    "whole labels": pd.DataFrame([[1, 2]], columns=[10, 20]),
    "days as labels": pd.DataFrame([[1, 2, 3]], columns=DAYS),
    "levels of labels": pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_product([["a"], [1, 2]], names=["k", None])),
    "everything": pd.concat({name: values.iloc[:2] for name, values in COLUMNS.items()}, axis=1),
    "many of one kind": pd.DataFrame(np.arange(60.0).reshape(3, 20)),
    "attrs": pd.DataFrame({"a": [1]}),
    "flags": pd.DataFrame({"a": [1]}).set_flags(allows_duplicate_labels=False),
    "part of another": pd.DataFrame({"a": range(10), "b": list("abcdefghij")}).iloc[2:8:2],
}
FRAMES["attrs"].attrs = {"source": "x", 5: (1, [NAN]), "when": date(2024, 1, 1)}


@pytest.mark.parametrize("values", COLUMNS.values(), ids=COLUMNS)
def test_columns_of_every_kind(values: Any) -> None:
    """A column comes back with its dtype, and each value in it with its own type: None, nan and NA are three things."""
    assert comes_back(values)
    assert comes_back(values.iloc[:0])
    assert comes_back(pd.DataFrame({"a": values, 1: values}))


@pytest.mark.parametrize("values", [values for values in COLUMNS.values() if not isinstance(values.dtype, np.dtype)])
def test_arrays_that_stand_alone(values: Any) -> None:
    """The array of a column is a value of its own, too."""
    assert comes_back(values.array)


@pytest.mark.parametrize("index", INDEXES.values(), ids=INDEXES)
def test_indexes_of_every_kind(index: Any) -> None:
    """An index comes back with its type, names and freq."""
    assert comes_back(index)
    assert comes_back(pd.Series(range(len(index)), index=index))
    assert comes_back(pd.DataFrame({"a": range(len(index))}, index=index))
    assert comes_back(pd.DataFrame([range(len(index))], columns=index))


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_frames_of_every_kind(frame: Any) -> None:
    """A frame comes back with its labels and their types, its attrs and its flags."""
    assert comes_back(frame)


@pytest.mark.parametrize("name", [None, 0, "", ("a", 1), NAN, date(2024, 1, 1), pd.Timestamp(5), Decimal(1)], ids=repr)
def test_names_of_every_type(name: Any) -> None:
    """A name may be anything that has a hash."""
    assert comes_back(pd.Series([1], name=name))
    assert comes_back(pd.Index([1], name=name))
    assert comes_back(pd.DataFrame([[1]], columns=pd.MultiIndex.from_tuples([(1, 2)], names=[name, "b"])))


def test_restored_frames_and_arrays_are_writable() -> None:
    """Columns, series and arrays are writable, and columns of one dtype share one block."""
    # Arrow's own arrays can't be written to: pandas makes new ones.
    columns = [values for values in COLUMNS.values() if not isinstance(values.dtype, pd.ArrowDtype) and len(values) > 1]
    frame = decode(encode(pd.concat([values.iloc[:2] for values in columns], axis=1)))

    for place in range(frame.shape[1]):
        frame.iloc[:1, place] = frame.iloc[1:, place].array
    for values in decode(encode(columns)):
        values.iloc[:1] = values.iloc[-1:].array
    for array in decode(encode([values.array for values in columns if not isinstance(values.dtype, np.dtype)])):
        array[:1] = array[-1:]
    assert len(decode(encode(pd.DataFrame(np.zeros((2, 50)))))._mgr.blocks) == 1


@pytest.mark.parametrize(
    "value",
    named([
        pd.NaT, pd.NA, pd.Timestamp("2024-02-29"), pd.Timestamp(5),
        pd.Timestamp(1729992600, unit="s", tz=BERLIN), pd.Timestamp(1729989000, unit="s", tz=BERLIN),
        pd.Timestamp("0001-01-01").as_unit("s"), pd.Timestamp("2024", tz="UTC").as_unit("ms"),
        pd.Timestamp("2024", tz=timezone(timedelta(hours=1), "x")), pd.Timedelta(5), pd.Timedelta("-1D").as_unit("s"),
        pd.Period("2024", "Y"), pd.Period("2024-02-29 12:00", "15min"), pd.Period("2024", "Q-NOV"), pd.Interval(0, 1),
        pd.Interval(0.5, 1.5, "both"), pd.Interval(DAYS[0], DAYS[1], "neither"),
    ]),
)  # fmt: skip
def test_pandas_scalars(value: Any) -> None:
    """A Timestamp keeps its unit, its zone, and which of two equal wall clock times it is."""
    assert comes_back(value)


@given(st.data())
def test_any_frame(data: st.DataObject) -> None:
    """Frames that Hypothesis makes of objects, missing values and unusual labels come back, too."""
    rows = data.draw(st.integers(0, 4))
    values = st.lists(st.sampled_from(OBJECTS), min_size=rows, max_size=rows)
    arrays = st.one_of(
        values.map(lambda drawn: objects(*drawn)),
        st.sampled_from(["f4", "i8", "u1", "?", "M8[ns]", "m8[s]", "c8", ">f8"]).flatmap(
            lambda kind: npst.arrays(kind, rows)
        ),
        st.lists(st.none() | st.text(), min_size=rows, max_size=rows).map(
            lambda drawn: pd.array(drawn, dtype="object")
        ),
        st.lists(st.none() | st.integers(0, 99), min_size=rows, max_size=rows).map(
            lambda drawn: pd.array(drawn, "Int64")
        ),
        st.lists(st.none() | st.booleans(), min_size=rows, max_size=rows).map(pd.Categorical),
    )
    drawn = data.draw(st.lists(arrays, max_size=3))
    frame = pd.DataFrame({place: pd.Series(array, dtype=array.dtype) for place, array in enumerate(drawn)}, range(rows))
    labels = data.draw(
        st.lists(st.none() | st.integers() | st.text(max_size=3), min_size=len(drawn), max_size=len(drawn))
    )
    frame.columns = pd.Index(labels, name=data.draw(st.sampled_from([None, "n", (1,)])))

    assert comes_back(frame)


def test_pandas_zones_of_pytz() -> None:
    """pandas before 3 makes zones of pytz from names."""
    pytz = pytest.importorskip("pytz")
    zone = pytz.timezone("Europe/Berlin")

    assert comes_back(pd.Series(DAYS.tz_localize(zone)))
    assert comes_back(pd.Timestamp("2024-07-01", tz=zone))
    assert comes_back(pd.Timestamp("2024-01-01", tz=zone))
    with pytest.raises(CheckpointUnreadable):
        frame_registry.decode(
            "$pandas", {"kind": "Timestamp", "utc": "2024-01-01", "unit": "s", "zone": {"pytz": "../x"}}
        )


# -- Polars ------------------------------------------------------------------------------------------------------------

POLARS: dict[str, Any] = {
    "numbers": pl.Series("n", [1, None, 3], dtype=pl.UInt8),
    "floats": pl.Series("f", [0.0, -0.0, NAN, None]),
    "booleans": pl.Series("b", [True, None]),
    "text": pl.Series("t", ["a", None, "", "a longer text, beyond twelve bytes"]),
    "bytes": pl.Series("b", [b"a", None, b""]),
    "decimals": pl.Series("d", [Decimal("1.50"), None], dtype=pl.Decimal(10, 2)),
    "days": pl.Series("d", [date(2024, 2, 29), None]),
    "times": pl.Series("t", [time(1, 2, 3, 4), None]),
    "spans": pl.Series("s", [timedelta(1), None], dtype=pl.Duration("ms")),
    "moments": pl.Series("m", [datetime(2024, 2, 29), None], dtype=pl.Datetime("ns")),
    "zones": pl.Series("z", [datetime(2024, 2, 29), None], dtype=pl.Datetime("us", "Europe/Berlin")),
    "categories": pl.Series("c", ["x", "y", None, "x"], dtype=pl.Categorical),
    "enum": pl.Series("e", ["x", None], dtype=pl.Enum(["y", "x"])),
    "lists": pl.Series("l", [[1, None], [], None]),
    "lists of nan": pl.Series("l", [[NAN], None, [1.0]]),
    "lists of categories": pl.Series("l", [["x"], ["y", "x"]], dtype=pl.List(pl.Categorical)),
    "arrays": pl.Series("a", [[[1, 2]], [[3, None]]], dtype=pl.Array(pl.Int16, (1, 2))),
    "structs": pl.Series("s", [{"a": 1, "b": ["x"]}, {"a": None, "b": None}]),
    "nothing": pl.Series("n", [None, None]),
    "no name": pl.Series([1]),
    "empty": pl.Series("e", [], dtype=pl.List(pl.Enum(["x"]))),
    "no columns": pl.DataFrame(),
    "no rows": pl.DataFrame(schema={"a": pl.Int8, "b": pl.Datetime("ms", "UTC")}),
    "strange labels": pl.DataFrame({"": [1], "ä": [2], "$tag": [3]}),
    "a part": pl.DataFrame({"a": range(10), "b": list("abcdefghij")})[2:8:2],
    "chunks": pl.concat([pl.DataFrame({"a": ["x"]}), pl.DataFrame({"a": ["y", None]})], rechunk=False),
}


@pytest.mark.parametrize("value", POLARS.values(), ids=POLARS)
def test_polars_values_of_every_kind(value: Any) -> None:
    """A series and a frame come back with their dtypes, in a table or alone."""
    assert comes_back(value)
    if isinstance(value, pl.Series):
        assert comes_back(pl.DataFrame({"a": value, "b": value}))


# -- Arrow -------------------------------------------------------------------------------------------------------------

ARROW: dict[str, Any] = {
    "array": pa.array([1, None, 3], pa.int8()),
    "nan": pa.array([NAN, None, -0.0]),
    "part": pa.array(["a", None, "b", "c"])[1:3],
    "part of booleans": pa.array([True, None, False, True] * 5)[3:17],
    "nested": pa.array([{"a": [1, None], "b": "x"}, None]),
    "nested names": pa.array([], pa.struct([pa.field("a", pa.int8(), nullable=False, metadata={"k": "v"})])),
    "dictionary": pa.array(["a", None, "a"]).dictionary_encode(),
    "ordered dictionary": pa.DictionaryArray.from_arrays([0, 1], ["b", "a"], ordered=True),
    "map": pa.array([[("a", 1)], None, []], pa.map_(pa.string(), pa.int8())),
    "union": pa.UnionArray.from_sparse(pa.array([0, 1], pa.int8()), [pa.array([1, 2]), pa.array(["a", "b"])]),
    "runs": pa.RunEndEncodedArray.from_arrays([2, 3], ["a", None]),
    "decimal": pa.array([Decimal("1.50"), None], pa.decimal256(50, 2)),
    "moments": pa.array([datetime(2024, 2, 29), None], pa.timestamp("ms", "Europe/Berlin")),
    "views": pa.array(["a", None, "a longer text, beyond twelve bytes"]).cast(pa.string_view())
    if int(pa.__version__.split(".")[0]) > 20
    else pa.array([1]),
    "null": pa.nulls(3),
    "chunks": pa.chunked_array([["a"], [], ["b", None]]),
    "no chunks": pa.chunked_array([], pa.int8()),
    "dictionaries": pa.chunked_array([pa.array(["a"]).dictionary_encode(), pa.array(["b"]).dictionary_encode()]),
    "scalar": pa.scalar(1.5),
    "null scalar": pa.scalar(None, pa.string()),
    "nan scalar": pa.scalar(NAN),
    "nested scalar": pa.scalar({"a": [1]}),
    "table": pa.table({"a": [1, 2], "b": ["x", None]}),
    "chunked table": pa.table({"a": pa.chunked_array([[1], [2, 3]]), "b": pa.chunked_array([["x", "y"], ["z"]])}),
    "schema": pa.table([[1]], pa.schema([pa.field("a", pa.int8(), False, {"k": b"\xff"})], {"about": "it", "": ""})),
    "one label twice": pa.table([[1], ["x"]], names=["a", "a"]),
    "no rows": pa.table({"a": pa.array([], pa.list_(pa.int8()))}),
    "no columns": pa.table({}),
    "batch": pa.RecordBatch.from_pydict({"a": [NAN, None]}, metadata={"k": "v"}),
    "batch without columns": pa.RecordBatch.from_struct_array(pa.array([{}, {}], pa.struct([]))),
}


@pytest.mark.parametrize("value", ARROW.values(), ids=ARROW)
def test_arrow_values_of_every_kind(value: Any) -> None:
    """Arrays, tables and scalars come back with their types and the metadata of their fields."""
    assert comes_back(value)


# -- what is refused ---------------------------------------------------------------------------------------------------


class Table(pd.DataFrame):
    """A frame that may mean more than one."""


class Numbers(np.ndarray):
    """An array that may mean more than one."""


class Stranger(pa.ExtensionType):
    """An extension type whose class would run when pyarrow reads a file."""

    ran = False

    def __init__(self) -> None:
        super().__init__(pa.int8(), "somebody.else")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type: Any, serialized: bytes) -> "Stranger":
        cls.ran = True
        return cls()


@pytest.fixture
def stranger() -> Iterator[Any]:
    """An array of an extension type that this program has registered."""
    pa.register_extension_type(Stranger())
    Stranger.ran = False
    yield pa.ExtensionArray.from_storage(Stranger(), pa.array([1], pa.int8()))
    pa.unregister_extension_type("somebody.else")


FRAME_OF_LISTS = pd.DataFrame({"a": [1], "b": [{"x": object()}]})

REFUSED: dict[str, tuple[Any, str]] = {
    "array of objects": (np.array([None]), "it holds Python objects; return a list"),
    "objects in an array": (np.zeros(1, [("a", "i1"), ("b", "O")]), "it holds Python objects"),
    "matrix": (np.zeros((1, 1)).view(np.matrix), "np.asarray"),
    "masked": (np.ma.masked_array([1]), "np.asarray"),
    "records": (np.rec.array([(1,)], dtype=[("a", "i1")]), "np.asarray"),
    "nothing in items": (np.zeros(3, []), "nothing in its items"),
    "metadata": (np.zeros(1, np.dtype("i4", metadata={"unit": "m"})), "metadata"),
    "metadata inside": (np.zeros(1, [("a", np.dtype("i4", metadata={"unit": "m"}))]), "metadata"),
    "generator": (np.random.default_rng(0), "arrays and scalars"),
    "dtype": (np.dtype("f8"), "arrays and scalars"),
    "sparse": (pd.DataFrame({"a": pd.arrays.SparseArray([0, 1])}), "column 'a': it is sparse; use .sparse.to_dense()"),
    "freq": (pd.date_range("2024", periods=2, freq=pd.offsets.CDay(holidays=["2024-01-01"])), "set .freq to None"),
    "offset": (pd.offsets.Day(), "frames, series"),
    "grouped": (pd.DataFrame({"a": [1]}).groupby("a"), "frames, series"),
    "lazy": (pl.LazyFrame({"a": [1]}), "return .collect()"),
    "objects of polars": (
        pl.DataFrame({"a": [1], "o": pl.Series([object()], dtype=pl.Object)}),
        "column 'o' holds Python",
    ),
    "expression": (pl.col("a"), "frames and series"),
    "schema": (pa.schema([]), "tables"),
    "type": (pa.int8(), "tables"),
    "field": (pa.table({"a": pa.array([1])}).schema.field("a"), "tables"),
    "extension": (pa.array(pd.period_range("2024", periods=2, freq="M")), "extension type"),
}


@pytest.mark.parametrize(("value", "reason"), REFUSED.values(), ids=REFUSED)
def test_frames_that_would_not_come_back_are_refused(value: Any, reason: str) -> None:
    """The refusal names the cause, and what to return instead, if anything."""
    with pytest.raises(ValueNotStorable) as caught:
        encode(value)

    assert reason in str(caught.value)
    assert caught.value.kind == f"{type(value).__module__}.{type(value).__qualname__}"


def test_a_value_that_is_nested_too_deep_in_a_frame_does_not_contain_itself() -> None:
    """One that does is refused for that."""
    deep: list[Any] = []
    for _ in range(250):
        deep = [deep]
    loop: list[Any] = []
    loop.append(loop)

    for value, reason in ((deep, "it is nested more than 200 levels deep"), (loop, "it contains itself")):
        with pytest.raises(ValueNotStorable) as caught:
            encode(pd.Series([value], dtype=object))
        assert caught.value.reason == reason


def test_a_subclass_is_refused_as_a_subclass() -> None:
    """The registry refuses it even when it is called directly."""
    with pytest.raises(ValueNotStorable, match="of pandas, plain frames"):
        frame_registry.encode(Table({"a": [1]}), encode, lambda data, suffix: None)
    with pytest.raises(ValueNotStorable, match=r"more than an array.*np.asarray"):
        frame_registry.encode(np.zeros(1).view(Numbers), encode, lambda data, suffix: None)


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (pd.DataFrame({"a": [1, 2], "b": [{"x": 1}, {"x": object()}]}), "['b'][1]['x']"),
        (pd.Series([1, object()]), "[1]"),
        (pd.Index([object()]), "[0]"),
        (pd.DataFrame({"a": [1]}, index=[object()]), ".index[0]"),
        (pd.DataFrame({object(): [1]}), ".columns[0]"),
        (pd.DataFrame([[object()]], columns=[(1, "x" * 100)]), "[<key 0>][0]"),
        (pd.Series([1], name=object()), ".name"),
        (pd.Series(pd.Categorical([object()])), ".categories[0]"),
        ([{"f": pd.DataFrame({"a": [object()]})}], "[0]['f']['a'][0]"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_refusal_inside_says_where(value: Any, place: str) -> None:
    """The path is written as an expression that leads there."""
    with pytest.raises(ValueNotStorable) as caught:
        encode(value)

    assert (caught.value.kind, caught.value.place) == ("object", place)


def test_attrs_that_cannot_be_kept_are_refused() -> None:
    """They are a part of the frame."""
    frame = pd.DataFrame({"a": [1]})
    frame.attrs = {"connection": object()}

    with pytest.raises(ValueNotStorable, match=r"\.attrs\['connection'\]"):
        encode(frame)


def test_text_that_is_no_utf8_is_refused_where_arrow_keeps_it() -> None:
    """Arrow has no lone surrogates. A column of plain objects may have them."""
    text = pd.Series(["\ud800"] * 100, dtype=pd.StringDtype("python"))

    with pytest.raises(ValueNotStorable, match="surrogates"):
        encode(text)
    with pytest.raises(ValueNotStorable, match=r"column 'a': .*surrogates"):
        encode(pd.DataFrame({"a": text}))
    assert comes_back(text.astype(object))


def test_an_extension_type_runs_no_code_when_a_file_is_read(stranger: Any) -> None:
    """Its class could run any code on the bytes from the file."""
    with pytest.raises(ValueNotStorable, match="extension type"):
        encode(stranger)
    data = stream_of(pa.schema([pa.field("a", pa.list_(pa.struct([pa.field("inner", stranger.type)])))]))

    for tag, kind in (("$arrow", "Table"), ("$polars", "DataFrame")):
        assert "extension type" in reason_of(data, tag, kind)
    assert not Stranger.ran


# -- what is missing ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [pd.DataFrame({"a": [1]}), pd.Series([1]), pa.array([1]), pl.Series([1])], ids=type)
def test_without_pyarrow_the_step_fails_with_the_package_to_install(
    value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error comes when the step returns the value, not when it is read later."""
    text = encode(value)
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    with pytest.raises(ValueNotStorable, match=r"pip install 'dotflow\[arrow\]'"):
        encode(value)
    with pytest.raises(CheckpointUnreadable, match=r"pip install 'dotflow\[arrow\]'"):
        decode(text)


def test_numpy_needs_no_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """An array is kept as its bytes."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    assert same(decode(encode(np.arange(3))), np.arange(3))


@pytest.mark.parametrize(
    ("package", "value"),
    [("numpy", np.float64(1)), ("numpy", np.arange(3)), ("pandas", pd.Timestamp(1)), ("polars", pl.Series([1]))],
    ids=str,
)
def test_without_its_package_a_value_is_not_read(package: str, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the library and the package to install."""
    text = encode(value)
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(CheckpointUnreadable, match=f"it holds a value of {package}.*pip install {package}"):
        decode(text)


def test_a_pyarrow_that_could_unpickle_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before 14.0.1, reading was enough to run code (CVE-2023-47248)."""
    text = encode(pa.array([1]))
    monkeypatch.setattr(pa, "__version__", "14.0.0")

    with pytest.raises(ValueNotStorable, match=r"pyarrow 14\.0\.0 may run code.*pip install 'dotflow\[arrow\]'"):
        encode(pa.array([1]))
    with pytest.raises(CheckpointUnreadable, match=r"pyarrow 14\.0\.0 may run code"):
        decode(text)


# -- what is damaged or crafted ----------------------------------------------------------------------------------------


def written(value: Any) -> tuple[str, Any]:
    """A value's tag and payload, whose inner values are plain."""
    ((tag, payload),) = json.loads(encode(value)).items()
    return tag, payload


#: A value, and what is put in place of parts of its payload, one after the other.
CRAFTED: list[tuple[Any, list[dict[str, Any]]]] = [
    (np.arange(6), [{"dtype": dtype} for dtype in (
        "O", "|O8", "<f4", "i4,i4", "<i8\n", "(3)<i8", "f8", "|V0", "|S0", "|S999999999", "<M8[99999999999999999999s]",
        "float64", "<g/7", "", None, 5, [], {}, ["<i8"], [["a", "O"]],
        {"base": "O", "shape": [1]},
        {"base": "<i8", "shape": [2**40]},
        {"base": "|V0", "shape": [2**62]},
        {"base": "<i8", "shape": [-1]},
        {"names": ["a"], "formats": ["O"], "offsets": [0], "itemsize": 8},
        {"names": ["a"], "formats": ["<i8"], "offsets": [2**40], "itemsize": 8},
        {"names": ["a"], "formats": ["<i8"], "offsets": [-8], "itemsize": 8},
        {"names": ["a", "a"], "formats": ["<i4", "<i4"], "offsets": [0, 4], "itemsize": 8},
        {"names": ["a"], "formats": ["<i8"], "offsets": [0], "itemsize": 8, "titles": [5]},
    )]),
    (np.arange(6), [{"shape": shape} for shape in (
        [7], [-6], [2**63], [2**40, 2**40], [-2, -3], [6.0], [True] * 6, "6", 6, None, {}, [6] + [1] * 100, [[6]], [],
    )]),
    (np.arange(6), [{"data": text} for text in ("", "AAAA", "????", "\ud800", None, 5, [], {"a": 1}, "A" * 68)]),
    (np.arange(6), [{"order": "K"}, {"order": []}, {"items": [1]}]),
    (np.float64(1), [{"value": value} for value in ("1", 1, None, [1.0])]),
    (np.float64(1), [{"dtype": "O"}, {"dtype": "<i8"}]),
    (np.int8(1), [{"value": 128}, {"value": 10**30}, {"value": True}]),
    (np.datetime64(1, "s"), [{"bytes": ""}, {"bytes": "AAAA"}, {"bytes": 5}, {"dtype": "|V0"}]),
    (pd.DataFrame({"a": [1, 2]}), [{"data": data} for data in (
        None, {"a": 1}, [], [{}], [{"items": ["a"]}], [{"items": "ab"}] * 2,
        [{"dtype": "<i8", "at": 1}],
        [{"dtype": "<i8", "at": -1}],
        [{"dtype": "<i8", "at": True}],
        [{"dtype": "<i8", "at": None}],
        [{"arrow": True, "at": 5}],
        [{"masked": "Int64Dtype", "at": 0}],
        [{"masked": "read_pickle", "at": 0}],
        [{"text": "pyarrow", "missing": "x", "items": ["a", "b"]}],
        [{"text": "pyarrow", "missing": "NA", "items": [1, 2]}],
        [{"text": "x", "missing": "NA", "items": ["a", "b"]}],
        [{"categories": {"range": [0, 2**40, 1]}, "ordered": False, "codes": {"dtype": "<i8", "at": 0}}],
        [{"categories": {"range": [0, 1, 1]}, "ordered": False, "codes": {"dtype": "<i8", "at": 0}}],
        [{"utc": {"dtype": "<M8[ns]", "at": 0}, "zone": "Europe/Berlin"}],
        [{"period": "X", "ordinals": {"dtype": "<i8", "at": 0}}],
        [{"closed": "x", "left": {"dtype": "<i8", "at": 0}, "right": {"dtype": "<i8", "at": 0}}],
    )]),
    (pd.DataFrame({"a": [1, 2]}), [{"index": index} for index in (
        None, {},
        {"range": [0, 2**40, 1]},
        {"range": [0, 10**30, 1]},
        {"range": [0, 2, 0]},
        {"range": [0.0, 2.0, 1.0]},
        {"values": {"items": ["a", "b"]}, "name": []},
        {"values": {"dtype": "<i8", "at": 0}, "freq": "D"},
        {"values": {"dtype": "<M8[ns]", "at": 0}, "freq": "D"},
        {"levels": [{"range": [0, 2**40, 1]}], "codes": [{"dtype": "<i8", "at": 0}], "names": [None]},
        {"levels": [{"range": [0, 2, 1]}], "codes": [{"dtype": "<i8", "at": 0}], "names": [None]},
    )]),
    (pd.DataFrame({"a": [1, 2]}), [
        {"columns": {"range": [0, 2**40, 1]}}, {"columns": {"items": ["a"]}}, {"ipc": ""}, {"attrs": [1]},
        {"index": {"values": {"items": ["a", "a"]}}, "unique_labels": True},
        {"kind": "Panel"}, {"kind": "read_pickle"}, {"kind": None}, {"kind": []},
    ]),
    (pd.Timestamp(1, tz=UTC), [
        {"utc": "now"}, {"utc": "today"}, {"utc": 5}, {"unit": "D"}, {"unit": "25s"}, {"zone": "UTC"}, {"zone": None},
        {"zone": {}}, {"utc": "99999-01-01", "unit": "ns"},
    ]),
    (pd.Timedelta(1), [{"count": 2**70}, {"count": "1"}]),
    (pd.Period("2024"), [{"freq": "!"}, {"ordinal": "2024"}]),
    (pd.Interval(0, 1), [{"left": 2}, {"closed": "x"}]),
    *((value, [
        {"kind": "Series"}, {"kind": "Array"}, {"kind": "Scalar"}, {"kind": "LazyFrame"}, {"kind": None},
        {"ipc": ""}, {"ipc": "AAAA"}, {"ipc": None}, {"ipc": {}},
    ]) for value in (pl.DataFrame({"a": [1], "b": ["x"]}), pa.table({"a": [1], "b": ["x"]}))),
]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "change"),
    [pytest.param(value, change, id=repr(change)[:60]) for value, changes in CRAFTED for change in changes],
)
def test_a_crafted_payload_is_unreadable(value: Any, change: dict[str, Any]) -> None:
    """Decoding raises CheckpointUnreadable, and builds no object that could run code."""
    tag, payload = written(value)

    with pytest.raises(CheckpointUnreadable):
        frame_registry.decode(tag, {**payload, **change})


@pytest.mark.parametrize("payload", [None, 5, "x", [], [1], {}, {"kind": "x"}, {"ipc": ""}, {"dtype": "<f8"}], ids=repr)
@pytest.mark.parametrize("tag", TAG_OF.values())
def test_a_payload_of_another_shape_is_unreadable(tag: str, payload: Any) -> None:
    """The payload may be of any JSON type."""
    with pytest.raises(CheckpointUnreadable):
        frame_registry.decode(tag, payload)


STREAMS: dict[str, Any] = {
    "pandas": pd.DataFrame({"a": pd.array([1, None], "Int64"), "b": pd.Series(range(2), dtype="category")}),
    "polars": pl.DataFrame({"a": ["x", "a longer text, beyond twelve bytes"], "b": [[1], None], "c": [{"x": 1}, None]}),
    "polars categories": pl.Series(["x", "y"], dtype=pl.Categorical),
    "arrow": pa.table({"a": ["x", None], "b": [[1], None], "c": pa.array(["x", "y"]).dictionary_encode()}),
}


@pytest.mark.parametrize("value", STREAMS.values(), ids=STREAMS)
def test_a_stream_that_claims_too_much_takes_no_memory(value: Any) -> None:
    """A library would reserve the memory that a stream claims, and Polars would abort the process."""
    tag, payload = written(value)
    data = a2b_base64(payload["ipc"])
    for place in range(0, len(data), 4):
        for claim in (b"\xff" * 4, b"\xff\xff\xff\x7f", (2**60).to_bytes(8, "little"), (2**40).to_bytes(8, "little")):
            crafted = data[:place] + claim + data[place + len(claim) :]
            try:
                frame_registry.decode(tag, {**payload, "ipc": b2a_base64(crafted, newline=False).decode()})
            except CheckpointUnreadable:
                pass


@pytest.mark.parametrize("value", STREAMS.values(), ids=STREAMS)
def test_a_damaged_stream_is_unreadable_or_another_value(value: Any) -> None:
    """Random damage never ends the process."""
    tag, payload = written(value)
    dice = random.Random(0)
    for _ in range(300):
        data = bytearray(a2b_base64(payload["ipc"]))
        for _ in range(dice.randint(1, 4)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        try:
            repr(frame_registry.decode(tag, {**payload, "ipc": b2a_base64(data, newline=False).decode()}))
        except CheckpointUnreadable:
            pass


@pytest.mark.parametrize("value", STREAMS.values(), ids=STREAMS)
def test_a_stream_that_is_cut_off_is_unreadable(value: Any) -> None:
    """At each byte, and with a byte too many."""
    tag, payload = written(value)
    data = a2b_base64(payload["ipc"])
    for cut in (*(data[:end] for end in range(len(data))), data + b"\0"):
        with pytest.raises(CheckpointUnreadable):
            frame_registry.decode(tag, {**payload, "ipc": b2a_base64(cut, newline=False).decode()})


def stream_of(schema: Any, *batches: Any, about: dict[str, str] | None = None, **options: Any) -> bytes:
    """A stream as pyarrow writes it with options that dotflow doesn't use."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        for batch in batches:
            writer.write_batch(batch, custom_metadata=about)
    return sink.getvalue().to_pybytes()


def reason_of(data: bytes, tag: str, kind: str) -> str:
    """Why a stream is unreadable."""
    with pytest.raises(CheckpointUnreadable) as caught:
        frame_registry.decode(tag, {"kind": kind, "ipc": b2a_base64(data, newline=False).decode()})
    return caught.value.reason


BOTH = pytest.mark.parametrize(("tag", "kind"), [("$polars", "DataFrame"), ("$arrow", "Table")])


@BOTH
def test_a_compressed_stream_is_refused(tag: str, kind: str) -> None:
    """It may unfold to any size, and dotflow never writes one."""
    batch = pa.RecordBatch.from_pydict({"a": ["x" * 1000]})

    assert "compressed" in reason_of(stream_of(batch.schema, batch, compression="zstd"), tag, kind)
    assert "compressed" in reason_of(stream_of(batch.schema, batch, compression="lz4"), tag, kind)
    # As Arrow 0.17 did: pyarrow still reads it.
    old = {"ARROW:experimental_compression": "zstd"}
    data = stream_of(batch.schema, batch, about=old, metadata_version=pa.ipc.MetadataVersion.V4)
    assert "compressed" in reason_of(data, tag, kind)


@BOTH
def test_a_dictionary_that_grows_is_refused(tag: str, kind: str) -> None:
    """pyarrow would keep a copy for each batch: a thousand additions take a hundred times the size of the file."""
    words = pa.array(map(str, range(20)))
    batches = [
        pa.record_batch([pa.DictionaryArray.from_arrays([0], words[:end])], names=["a"]) for end in range(1, len(words))
    ]

    data = stream_of(batches[0].schema, *batches, emit_dictionary_deltas=True)
    assert "a dictionary in it grows" in reason_of(data, tag, kind)


@BOTH
def test_columns_that_share_their_bytes_are_refused(tag: str, kind: str) -> None:
    """A library that copies them would need more memory than the file is large."""
    batch = pa.RecordBatch.from_pydict({"a": range(100), "b": range(100)})
    crafted = stream_of(batch.schema, batch)
    before, _, rest = crafted.rpartition(struct.pack("<qq", 800, 800))  # where the second column's bytes are
    crafted = before + struct.pack("<qq", 0, 800) + rest
    crafted = crafted.replace(struct.pack("<q", 1600), struct.pack("<q", 800))  # the size of the body

    assert "more values" in reason_of(crafted, tag, kind)


def test_one_arrow_array_is_used_once() -> None:
    """A thousand columns that name the same array would take a thousand times its memory."""
    tag, payload = written(pd.DataFrame({"a": [1, 2]}))

    with pytest.raises(CheckpointUnreadable):
        frame_registry.decode(tag, {**payload, "columns": {"range": [0, 2, 1]}, "data": payload["data"] * 2})


@BOTH
def test_rows_without_bytes_are_limited(tag: str, kind: str) -> None:
    """Nulls take no bytes in a stream; Polars would reserve a bit for each."""
    rows = 123_457
    batch = pa.RecordBatch.from_pydict({"a": pa.nulls(rows)})
    honest = stream_of(batch.schema, batch)
    crafted = honest.replace(rows.to_bytes(8, "little"), (2**40).to_bytes(8, "little"))

    assert len(frame_registry.decode(tag, {"kind": kind, "ipc": b2a_base64(honest, newline=False).decode()})) == rows
    assert "more rows" in reason_of(crafted, tag, kind)


@BOTH
def test_fields_nested_too_deep_are_refused(tag: str, kind: str) -> None:
    """Polars would overflow its stack."""
    dtype = pa.int8()
    for _ in range(1000):
        dtype = pa.list_(dtype)

    assert reason_of(stream_of(pa.schema([("a", dtype)])), tag, kind)


@pytest.mark.parametrize("value", [*POLARS.values(), *ARROW.values()], ids=[*POLARS, *ARROW])
def test_honest_streams_pass_the_check(value: Any) -> None:
    """The check passes every stream that dotflow writes."""
    check_stream(a2b_base64(written(value)[1]["ipc"]))


@pytest.mark.parametrize(
    "description",
    [
        {"masked": "Int64", "at": 0},
        {"text": "pyarrow", "missing": "NA", "at": 0},
        {"dtype": "|u1", "at": 0},
    ],
    ids=lambda description: next(iter(description)),
)
@pytest.mark.parametrize(
    "array",
    [
        pa.RunEndEncodedArray.from_arrays([2**31], [1]),
        pa.RunEndEncodedArray.from_arrays([2**31], ["x" * 1000]),
        pa.array(["x" * 1000]).dictionary_encode(),
        pa.nulls(5),
    ],
    ids=lambda array: str(array.type),
)
def test_folded_data_is_not_unfolded(array: Any, description: dict[str, Any]) -> None:
    """A few bytes of Arrow can stand for a terabyte."""
    payload = {"kind": "array", "array": description, "ipc": pack([array])}

    with pytest.raises(CheckpointUnreadable):
        frame_registry.decode("$pandas", payload)


@pytest.mark.parametrize(("number", "text"), [(1, 0), (2, 1)], ids=["fields", "metadata"])
def test_a_schema_whose_parts_are_shared_is_refused(number: int, text: int) -> None:
    """A reader would copy the one part for each of its owners: megabytes for each kilobyte of the stream."""
    large = "x" * 10_000
    fields = [*(pa.field(f"c{index}", pa.int8()) for index in range(1000)), pa.field(large, pa.int8())]
    metadata = {**{f"key{index}": "" for index in range(1000)}, "z": large}
    stream = bytearray(ipc.write_stream(pa.schema(fields, metadata=metadata), []))
    ipc.check_stream(bytes(stream))

    schema = ipc._follow(stream, ipc._field(stream, ipc._follow(stream, 8), 2))
    start = ipc._follow(stream, ipc._field(stream, schema, number)) + 4
    positions = range(start, start + 4 * 1001, 4)
    tables = [ipc._follow(stream, position) for position in positions]
    largest = max(tables, key=lambda table: len(ipc._vector(stream, table, text, "<B")))
    for position in positions:
        if position < largest:
            struct.pack_into("<I", stream, position, largest - position)

    with pytest.raises(ValueError, match="more than there is in it"):
        ipc.check_stream(bytes(stream))
