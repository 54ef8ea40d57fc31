"""Limits: their texts, their names, and the rules of windows."""

from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dotflow import Secret, action
from dotflow.core.limit_rules import SLOTS, Slot, delay_of, wait_for, window, with_one_more
from dotflow.core.limits import MAX_NAME, Part, name_of, parse_limits, seconds_after
from dotflow.errors import InvalidPolicy

SECOND = 1_000_000


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("10/s", ["10/s"]),
        ("10/s, 5 at once", ["10/s, 5 at once"]),
        ("crm: 10/min, 1_000/day,3 at  once", ["crm: 10/min, 1000/day, 3 at once"]),
        ("100 / 15 min", ["100/15min"]),
        ("5/2h", ["5/2h"]),
        ("5/seconds", ["5/s"]),
        ("7/120s", ["7/2min"]),
        (["crm/{customer}: 10/s", "crm: 50/s"], ["crm/{customer}: 10/s", "crm: 50/s"]),
    ],
)
def test_a_limit_is_read_as_it_is_written(given: Any, shown: list[str]) -> None:
    """Spaces, long forms and underscores are allowed."""
    assert [limit.text for limit in parse_limits(given)] == shown


@pytest.mark.parametrize(
    "wrong",
    [
        *("", "10", "10 per second", "0/s", "10/0s", "-1/s", "1.5/s", "٣/s", "10/week", "10/S", "at once", "10/s,"),
        *("a b: 1/s", ": 1/s; 2/s", "a:b: 1/s", "c{: 1/s", 10, [], [""], ["1/s", 2], ["a: 1/s", "a: 2/s"]),
    ],
)
def test_another_text_is_refused(wrong: Any) -> None:
    """At the decorator, with what it can be."""
    with pytest.raises(InvalidPolicy, match=r"limit"):
        action(limit=wrong)(lambda: None)


def test_the_braces_name_parameters() -> None:
    """No attribute, no index, no secret: names are in the history."""

    def fetch(customer: str, token: str = Secret("TOKEN")) -> None: ...

    assert action(limit="crm/{customer}: 1/s")(fetch).policy.limits[0].name == "crm/{customer}"
    for name in ("{other}", "{customer.name}", "{customer[0]}", "{customer!r}", "{}"):
        with pytest.raises(InvalidPolicy, match="it takes customer"):
            action(limit=f"crm/{name}: 1/s")(fetch)
    with pytest.raises(InvalidPolicy, match="no secret"):
        action(limit="crm/{token}: 1/s")(fetch)


def test_an_action_of_a_class_has_none() -> None:
    """It would ask within the attempt. The class may have one."""

    class Report:
        @action(limit="1/s")
        def load(self) -> None: ...

    with pytest.raises(InvalidPolicy, match="an action of a class asks within its attempt"):
        action(Report)


def test_a_name_is_filled_with_plain_values() -> None:
    """The text around is parsed before, so a value with a ':' is only a name. Another type could differ each time."""
    (limit,) = parse_limits("crm/{customer}/{day}: 1/s")

    assert name_of(limit, "shop:fetch", {"customer": "a: 9/s", "day": date(2026, 12, 3)}) == "crm/a: 9/s/2026-12-03"
    assert name_of(parse_limits("1/s")[0], "shop:fetch", {}) == "shop:fetch"
    with pytest.raises(TypeError, match=r"\{customer\} is a list"):
        name_of(limit, "shop:fetch", {"customer": [], "day": 1})
    long, other = (name_of(limit, "", {"customer": "x" * 300 + end, "day": 1}) for end in "ab")
    assert long != other
    assert max(len(long), len(other)) <= MAX_NAME


@pytest.mark.parametrize(
    ("after", "seconds"),
    [
        (None, None),
        ("30", 30.0),
        (30, 30.0),
        (0, None),
        ("0", None),
        (-3, None),
        ("2m", 120.0),
        (timedelta(minutes=1), 60.0),
        ("soon", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", None),
        (True, None),
        (float("nan"), None),
    ],
)
def test_retry_after_is_read_as_it_came(after: Any, seconds: float | None) -> None:
    """What names no time, or one that is over, counts as none."""
    assert seconds_after(after) == seconds


def test_without_a_time_the_delay_doubles_up_to_a_minute() -> None:
    """A service that says "0" would be stormed."""
    assert [delay_of(None, refused) for refused in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert delay_of(5.0, 7) == 5.0


@given(
    most=st.integers(1, 20),
    period=st.integers(SLOTS, 10 * SECOND),
    steps=st.lists(st.integers(0, 3 * SECOND), min_size=1, max_size=200),
)
def test_no_span_of_a_period_has_more_than_the_limit(most: int, period: int, steps: list[int]) -> None:
    """And a refusal says when the next one may begin: not before, and then it does."""
    slots: list[Slot] = []
    granted: list[int] = []
    now = 0
    for step in steps:
        now += step
        slots = window(slots, period, now)
        wait = wait_for(slots, most, period, now)
        if wait:
            assert sum(1 for at in granted if at > now - period) <= most
            later = now + wait
            assert not wait_for(window(slots, period, later), most, period, later)
            assert wait <= period
        else:
            slots = with_one_more(slots, period, now)
            granted.append(now)
        assert len(slots) <= SLOTS + 1
    for index in range(len(granted) - most):
        assert granted[index + most] - granted[index] >= period


@given(st.integers(1, 20), st.integers(SLOTS, SECOND), st.lists(st.integers(1, 50), min_size=1, max_size=50))
def test_a_limit_is_used_but_for_a_64th(most: int, period: int, steps: list[int]) -> None:
    """Whoever asks again when it was told to is granted: no window is closed for longer than a period and a 64th."""
    slots: list[Slot] = []
    granted: list[int] = []
    now = 0
    for _ in steps:
        slots = window(slots, period, now)
        if wait := wait_for(slots, most, period, now):
            now += wait
            slots = window(slots, period, now)
        slots = with_one_more(slots, period, now)
        granted.append(now)
    for index in range(len(granted) - most):
        assert granted[index + most] - granted[index] <= period + period // SLOTS


def test_what_is_later_than_now_counts_as_of_now() -> None:
    """The clock went back by an hour: the window is closed for one period, not for an hour."""
    slots = window([Slot(3600 * SECOND, 3600 * SECOND, 10)], SECOND, 5)

    assert slots == [Slot(5, 5, 10)]
    assert wait_for(slots, 10, SECOND, 5) == SECOND
    assert Part(10, SECOND).text == "10/s"
