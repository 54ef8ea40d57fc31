"""Run parameters, and the id of a run that they name."""

import datetime
import enum
from pathlib import PurePosixPath
from typing import Any

import pytest

from dotflow.errors import InvalidArgument, MissingParam, UnknownParam
from dotflow.graph.params import check_declared, resolve, run_id_of


class Region(enum.Enum):
    NORTH = "north"


def test_defaults_and_values() -> None:
    """A value replaces a default, and the mapping can't be changed."""
    declared = check_declared({"day": ..., "limit": 100})

    values = resolve(declared, {"day": "2026-11-25"})

    assert values == {"day": "2026-11-25", "limit": 100}
    with pytest.raises(TypeError):
        values["day"] = "2026-11-26"  # type: ignore[index]


def test_values_that_are_missing_or_unknown() -> None:
    """All that is missing is named; an unknown name has a hint."""
    declared = check_declared({"day": ..., "hour": ..., "limit": 100})

    with pytest.raises(MissingParam, match="'day' and 'hour'"):
        resolve(declared, None)
    with pytest.raises(UnknownParam, match="Did you mean 'day'"):
        resolve(declared, {"dya": 1})
    with pytest.raises(InvalidArgument, match="a dict of values"):
        resolve(declared, ["day"])  # type: ignore[arg-type]


def test_the_declaration_is_a_copy() -> None:
    """A change of the user's dict changes no workflow."""
    params = {"day": 1}
    declared = check_declared(params)
    params["limit"] = 2

    assert dict(declared) == {"day": 1}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"limit": 100, "day": "2026-11-25"}, "nightly@day=2026-11-25,limit=100"),
        ({"day": datetime.date(2026, 11, 25)}, "nightly@day=2026-11-25"),
        ({"region": Region.NORTH}, "nightly@region=north"),
        ({"n": 5}, "nightly@n=5"),
        ({"n": "5"}, 'nightly@n="5"'),
        ({"n": None}, "nightly@n=null"),
        ({"n": "null"}, 'nightly@n="null"'),
        ({"full": True}, "nightly@full=true"),
        ({"text": ""}, 'nightly@text=""'),
        ({"ids": [1, 2]}, "nightly@ids=[1,2]"),
    ],
)
def test_the_id_of_a_run(values: dict[str, Any], expected: str) -> None:
    """The names in order, and texts that differ for values that do."""
    assert run_id_of("nightly", values) == expected


@pytest.mark.parametrize("value", ["a,b=c", "a/b", "a@b", 'a"b', "a\nb"])
def test_a_text_never_looks_like_more_parameters(value: str) -> None:
    """What stands for itself in an id is quoted, so two runs never share one."""
    assert run_id_of("nightly", {"a": value}) != run_id_of("nightly", {"a": value.partition(",")[0], "b": "c"})
    assert run_id_of("nightly", {"a": value}).startswith("nightly@a=")


def test_a_long_id_is_a_digest() -> None:
    """Over 80 characters; it is the same for the same values."""
    values = {"text": "x" * 100}

    assert run_id_of("nightly", values) == run_id_of("nightly", dict(values))
    assert len(run_id_of("nightly", values)) < 60
    assert run_id_of("nightly", values) != run_id_of("nightly", {"text": "x" * 101})


def test_paths() -> None:
    """A path is its text; with a slash, that is quoted."""
    assert run_id_of("nightly", {"file": PurePosixPath("orders.csv")}).startswith("nightly@file=")
