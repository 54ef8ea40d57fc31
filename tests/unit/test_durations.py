"""Durations: numbers of seconds, or texts."""

import math

import pytest

from dotflow.core.durations import as_seconds, format_duration, to_seconds
from dotflow.errors import InvalidArgument


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (0, 0),
        (1.5, 1.5),
        ("90s", 90),
        ("15m", 900),
        ("2h", 7200),
        ("1d", 86_400),
        ("500ms", 0.5),
        ("1.5h", 5400),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("1d2h3m4s5ms", 93_784.005),
        (" 10s ", 10),
        ("0s", 0),
    ],
)
def test_numbers_and_texts(value: object, seconds: float) -> None:
    """A number is in seconds; a text has units, the largest first."""
    assert to_seconds(value) == pytest.approx(seconds)
    assert type(to_seconds(value)) is float


@pytest.mark.parametrize(
    "value",
    [
        *("", "90", "s", "1", "-1s", "1e3s", "1 week", "30m1h", "1h1h", "1hm", "5S", "1,5h", "\u0663s", "9999999d"),
        *(-1, True, None, math.nan, math.inf, 1j, b"5s"),
    ],
    ids=repr,
)
def test_other_values_are_no_duration(value: object) -> None:
    """Neither is a text without a unit, or with units out of order."""
    assert to_seconds(value) is None


@pytest.mark.parametrize(
    ("value", "limits", "said"),
    [
        ("10", {}, "timeout='10' is not accepted. Pass a number of seconds, 0 or more, or a text such as"),
        (0, {"above": 0}, "more than 0"),
        ("1s", {"least": 2}, "2 or more"),
        ("soon", {}, '"90s"'),
    ],
)
def test_the_error(value: object, limits: dict[str, float], said: str) -> None:
    """The message has the value, and the accepted ones."""
    with pytest.raises(InvalidArgument) as caught:
        as_seconds("timeout", value, **limits)

    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("seconds", "text", "compact"),
    [
        (-3, "0.00 s", "0.00 s"),
        (0, "0.00 s", "0.00 s"),
        (0.214, "0.21 s", "0.21 s"),
        (9.99, "9.99 s", "9.99 s"),
        (9.996, "10.0 s", "10.0 s"),
        (59.94, "59.9 s", "59.9 s"),
        (59.96, "1 min", "1:00"),
        (61, "1 min 1 s", "1:01"),
        (245.4, "4 min 5 s", "4:05"),
        (3599.6, "1 h", "1:00:00"),
        (3605, "1 h", "1:00:05"),
        (7_500, "2 h 5 min", "2:05:00"),
        (90_061, "1 d 1 h", "25:01:01"),
        (86_400 * 400 + 60, "400 d", "9600:01:00"),
    ],
)
def test_a_duration_has_its_two_largest_units(seconds: float, text: str, compact: str) -> None:
    """Hundredths below ten seconds, tenths below a minute; no unit is ever full, and one that is 0 is left out."""
    assert format_duration(seconds) == text
    assert format_duration(seconds, compact=True) == compact
