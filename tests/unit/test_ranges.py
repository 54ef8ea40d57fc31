"""Ranges of run parameters: days, moments, numbers and lists, as values of the declared type."""

import itertools
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dotflow.core.ranges import MOST, InvalidRange, combinations, expand

days = st.dates(date(1900, 1, 1), date(2200, 1, 1))
offsets = st.integers(-14 * 4, 14 * 4).map(lambda quarters: timezone(quarters * timedelta(minutes=15)))
moments = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.none() | offsets)


def read(text: str, kind: type = str) -> list[Any]:
    """The values of a text of a type."""
    convert: Callable[[str], Any] = kind.fromisoformat if issubclass(kind, date) else kind
    return expand(text, convert, f"a {kind.__name__}")


class TestRanges:
    @given(first=days, count=st.integers(1, 800))
    def test_days_have_both_ends_and_all_between(self, first: date, count: int) -> None:
        """Leap days and years included; the list of the same days has the same values, and so has the text's range."""
        last = first + timedelta(count - 1)

        found = read(f"{first}..{last}", date)
        assert (found[0], found[-1], len(found)) == (first, last, count)
        assert {after - before for before, after in itertools.pairwise(found)} <= {timedelta(1)}
        assert read(",".join(map(str, found)), date) == found
        assert read(f"{first}..{last}") == list(map(str, found))

    @given(first=st.integers(-(10**18), 10**18), count=st.integers(1, 800))
    def test_numbers_have_both_ends(self, first: int, count: int) -> None:
        """Negative ones, too."""
        assert read(f"{first}..{first + count - 1}", int) == list(range(first, first + count))

    @given(first=moments, hours=st.integers(0, 100), minutes=st.integers(1, 600))
    def test_moments_are_steps_apart(self, first: datetime, hours: int, minutes: int) -> None:
        """Up to the last one that is not beyond the end. The list of the same moments has the same values."""
        last = first + timedelta(hours=hours)

        found = read(f"{first.isoformat()}..{last.isoformat()}/{minutes}m", datetime)
        assert found[0] == first
        assert last - timedelta(minutes=minutes) < found[-1] <= last
        assert {after - before for before, after in itertools.pairwise(found)} <= {timedelta(minutes=minutes)}
        assert read(",".join(moment.isoformat() for moment in found), datetime) == found
        assert len({moment.isoformat() for moment in found}) == len(found)

    def test_a_night_with_a_dst_change(self) -> None:
        """With an offset each hour is there once, whatever clocks show; without one, the day has its 24 hours."""
        night = read("2026-10-25T00:00Z..2026-10-25T03:00Z/1h", datetime)
        assert [moment.isoformat() for moment in night] == [f"2026-10-25T0{hour}:00:00+00:00" for hour in range(4)]
        assert night[0].utcoffset() == UTC.utcoffset(None)
        assert len(read("2026-10-25T00:00..2026-10-25T23:00/1h", datetime)) == 24
        with pytest.raises(InvalidRange, match=r"different offsets from UTC\. Write both with the same one"):
            read("2026-10-25T00:00+02:00..2026-10-26T00:00+01:00/1h", datetime)
        with pytest.raises(InvalidRange, match="different offsets"):
            read("2026-10-25T00:00..2026-10-26T00:00Z/1h", datetime)

    def test_days_of_a_step(self) -> None:
        """A job of each week has each seventh day."""
        assert read("2026-11-02..2026-11-20/7d", date) == [date(2026, 11, 2), date(2026, 11, 9), date(2026, 11, 16)]

    def test_lists_and_ranges_in_them(self) -> None:
        """Each value is there once, in the order of the text; spaces don't count."""
        assert read("9, 1..3,2", int) == [9, 1, 2, 3]
        assert read("eu,us") == ["eu", "us"]
        assert read("0.5,1", float) == [0.5, 1.0]
        assert read("") == [""]

    def test_a_parameter_without_a_type_has_texts(self) -> None:
        """Days and numbers stay texts, with their zeros. What begins with neither is one text, such as a path."""
        assert read("2026-11-29..2026-12-01") == ["2026-11-29", "2026-11-30", "2026-12-01"]
        assert read("08..11") == ["08", "09", "10", "11"]
        assert read("8..11") == ["8", "9", "10", "11"]
        assert read("../data") == ["../data"]
        assert read("v1..v2") == ["v1..v2"]
        assert read("a/../b", Path) == [Path("a/../b")]


class TestRefused:
    @pytest.mark.parametrize(
        ("text", "kind", "why"),
        [
            ("2026-11-14..2026-11-01", date, "it ends before it begins. Write the earlier end first"),
            ("3..1", int, "it ends before it begins. Write the earlier end first"),
            ("2026-11-31", date, "'2026-11-31' is not accepted. Write a date"),
            ("2026-11-01..2026-11-31", date, "'2026-11-31' is not accepted. Write a date"),
            ("2026-11-01..2026-11-31", str, "'2026-11-31' is not accepted. Write a date, such as 2026-11-25"),
            ("1..x", str, "'x' is not accepted. Write a whole number"),
            ("2026-11-01..", date, "'' is not accepted. Write a date"),
            ("x" * 500, date, f"'{'x' * 60}...' is not accepted. Write a date"),
            ("1,,2", int, "a value is empty. Remove a comma"),
            ("eu,", str, "a value is empty. Remove a comma"),
            ("2026-11-01..2026-11-03/1h", date, "the step '1h' is no number of days. Write one, such as A..B/7d"),
            *(
                (
                    f"2026-11-01..2026-11-03/{step}",
                    kind,
                    f"the step '{step}' is no duration. Write one, such as A..B/7d",
                )
                for step in ("0d", "-1d", "7", "xx")
                for kind in (date, str)
            ),
            ("2026-11-01..2026-11-03/", date, "it has no step. Write one, such as A..B/7d"),
            ("2026-11-01T00:00..2026-11-03T00:00", datetime, "it has no step. Write one, such as A..B/1h"),
            (
                *("2026-11-01T00:00..2026-11-03T00:00/7", datetime),
                "the step '7' is no duration. Write one, such as A..B/1h",
            ),
            ("1..10/2", int, "a range of numbers has no step. Write A..B"),
            ("0.1..0.5", float, "only dates, datetimes and whole numbers have ranges. List the values: a,b"),
            (
                *("2026-11-01T00:00..2026-11-03T00:00/1h", str),
                "moments need the type datetime. Annotate the parameter of a step that takes it",
            ),
        ],
    )
    def test_what_is_wrong_is_in_the_error(self, text: str, kind: type, why: str) -> None:
        """A day that does not exist, a range without a step, and a range that is upside down."""
        with pytest.raises(InvalidRange) as caught:
            read(text, kind)
        assert str(caught.value).startswith(why)

    @pytest.mark.timeout(30)
    @pytest.mark.parametrize(
        ("text", "kind"),
        [
            (f"1..{10**4000}", int),
            (f"1..{10**4000}", str),
            ("1900-01-01..9999-12-31", date),
            ("1900-01-01T00:00..9999-12-31T00:00/1ms", datetime),
            (",".join(["1..9999"] * 3 + ["20000..30000"]), int),
        ],
    )
    def test_a_huge_range_is_refused_before_it_is_made(self, text: str, kind: type) -> None:
        """The error has the maximum."""
        with pytest.raises(InvalidRange, match=r"values, of 10,000 at most\. Split them up"):
            read(text, kind)

    def test_the_maximum_is_in_reach(self) -> None:
        """One value more is refused."""
        assert len(read(f"1..{MOST}", int)) == MOST
        with pytest.raises(InvalidRange, match="these are 10,001 values"):
            read(f"1..{MOST + 1}", int)


class TestCombinations:
    def test_all_of_several_parameters(self) -> None:
        """The last parameter changes first."""
        found = combinations({"day": [1, 2], "region": ["eu", "us"]})

        assert [(chosen["day"], chosen["region"]) for chosen in found] == [(1, "eu"), (1, "us"), (2, "eu"), (2, "us")]

    def test_too_many_are_refused_before_they_are_made(self) -> None:
        """The error has their number."""
        with pytest.raises(InvalidRange, match="these are 1,000,000,000,000 values, of 10,000 at most"):
            combinations(dict.fromkeys("abc", range(MOST)))
