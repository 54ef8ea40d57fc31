"""Limits: their texts, their names, and the rules of windows."""

from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dotflow import Secret, action, used
from dotflow.core.limit_rules import (
    RUN,
    SLOTS,
    Budget,
    Slot,
    delay_of,
    judge_budget,
    settled,
    wait_for,
    window,
    with_more,
)
from dotflow.core.limits import MAX_NAME, ONE, Part, amounts_by, name_of, parse_limits, seconds_after
from dotflow.errors import InvalidArgument, InvalidPolicy

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
        ("openai: 200_000 tokens/min, 64 gb at once", ["openai: 200000 tokens/min, 64 gb at once"]),
        ("$0.5/min, 1.25 units / 2 h", ["$0.50/min, 1.25 units/2h"]),
        ("5 at once", ["5 at once"]),
        ("5 at/s", ["5 at/s"]),
    ],
)
def test_a_limit_is_read_as_it_is_written(given: Any, shown: list[str]) -> None:
    """Spaces, long forms and underscores are allowed."""
    assert [limit.text for limit in parse_limits(given)] == shown


@pytest.mark.parametrize("text", ["$5/run", "llm: $5/run, $50/day", "50/run", "llm: 100000 tokens/day"])
def test_a_budget_is_read_as_it_is_written(text: str) -> None:
    """It has `/run`, and no places."""
    assert [budget.text for budget in parse_limits(text, "budget")] == [text]
    with pytest.raises(InvalidPolicy, match="budget"):
        parse_limits("5 at once", "budget")


@pytest.mark.parametrize(
    "wrong",
    [
        *("5/run", "$5/run", "$5 usd/min", "5 Tokens/min", "1.1234567 usd/min", "0 tokens/min", "5 tokensat once"),
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


def granted(slots: list[Slot], amount: int, period: int, now: int) -> list[Slot]:
    """Returns the slots after a grant, as a table has them."""
    newest = with_more(slots, amount, period, now)
    return [*(slot for slot in slots if slot.began != newest.began), newest]


@given(
    most=st.integers(1, 20),
    period=st.integers(SLOTS, 10 * SECOND),
    steps=st.lists(st.tuples(st.integers(0, 3 * SECOND), st.integers(1, 20)), min_size=1, max_size=200),
)
def test_no_span_of_a_period_has_more_than_the_limit(most: int, period: int, steps: list[tuple[int, int]]) -> None:
    """And a refusal says when the next one may begin: not before, and then it does. Some need several."""
    slots: list[Slot] = []
    grants: list[tuple[int, int]] = []
    now = 0
    for step, amount in steps:
        now += step
        needs = min(amount, most)
        slots = window(slots, period, now)
        wait = wait_for(slots, needs, most, period, now)
        if wait:
            assert sum(used for at, used in grants if at > now - period) + needs > most or len(slots) > 1
            later = now + wait
            assert not wait_for(window(slots, period, later), needs, most, period, later)
            assert wait <= period
        else:
            slots = granted(slots, needs, period, now)
            grants.append((now, needs))
        assert len(slots) <= SLOTS + 1
    for index, (began, _) in enumerate(grants):
        assert sum(used for at, used in grants[index:] if at < began + period) <= most


@given(st.integers(1, 20), st.integers(SLOTS, SECOND), st.lists(st.integers(1, 50), min_size=1, max_size=50))
def test_a_limit_is_used_but_for_a_64th(most: int, period: int, steps: list[int]) -> None:
    """Whoever asks again when it was told to is granted: no window is closed for longer than a period and a 64th."""
    slots: list[Slot] = []
    grants: list[int] = []
    now = 0
    for _ in steps:
        slots = window(slots, period, now)
        if wait := wait_for(slots, 1, most, period, now):
            now += wait
            slots = window(slots, period, now)
        slots = granted(slots, 1, period, now)
        grants.append(now)
    for index in range(len(grants) - most):
        assert grants[index + most] - grants[index] <= period + period // SLOTS


def test_what_is_later_than_now_counts_as_of_now() -> None:
    """The clock went back by an hour: the window is closed for one period, not for an hour."""
    slots = window([Slot(3600 * SECOND, 3600 * SECOND, 10)], SECOND, 5)

    assert slots == [Slot(5, 5, 10)]
    assert wait_for(slots, 1, 10, SECOND, 5) == SECOND
    assert Part(10 * ONE, SECOND).text == "10/s"


def test_what_is_settled_changes_the_slot_of_its_beginning() -> None:
    """More than the estimate counts as of now where that slot is over, and less is of no use then."""
    slots = [Slot(0, 10, 100), Slot(60, 60, 5)]

    assert settled(slots, -40, 10, 100, 99) == Slot(0, 10, 60)
    assert settled(slots, 7, 60, 100, 99) == Slot(60, 60, 12)
    assert settled(slots[1:], 7, 10, 100, 150) == Slot(150, 150, 7)
    assert settled(slots[1:], -7, 10, 100, 150) is None
    assert settled([Slot(5, 50, 9)], -4, 80, RUN, 99) == Slot(5, 50, 5), "a run has one slot, whatever the clock says"
    assert settled([], 4, 80, RUN, 99) == Slot(99, 99, 4)
    assert settled([Slot(0, 10, 3)], -4, 5, 100, 99) == Slot(0, 10, 0)


@pytest.mark.parametrize(
    ("used", "estimated", "needs", "said"),
    [
        (0, 0, 500, Budget.FITS),
        (400, 400, 200, Budget.WAITS),  # others may use less than they have estimated
        (400, 0, 200, Budget.EXCEEDED),
        (400, 100, 200, Budget.WAITS),
        (500, 0, 0, Budget.EXCEEDED),  # who estimates nothing begins while there is anything left
        (499, 0, 0, Budget.FITS),
        (700, 300, 0, Budget.WAITS),
        (0, 0, 501, Budget.EXCEEDED),
    ],
)
def test_a_budget_refuses_by_what_is_used_and_waits_for_what_is_estimated(
    used: int, estimated: int, needs: int, said: Budget
) -> None:
    """Of 500."""
    assert judge_budget(used, estimated, needs, 500) is said


def test_uses_is_a_function_of_the_parameters() -> None:
    """It is checked at the decorator, and so is what counts it."""

    def ask(text: str, size: int = 3, key: str = Secret("KEY")) -> None: ...

    limit = "openai: 100 tokens/min"
    assert action(limit=limit, uses=lambda text: {"tokens": 1})(ask).policy.uses is not None
    assert action(limit=limit, uses=lambda size, scale=2: {"tokens": 1})(ask).policy.uses is not None
    for wrong in (lambda other: {}, lambda key: {}, lambda **values: {}):
        with pytest.raises(InvalidPolicy, match="it takes text, size"):
            action(limit=limit, uses=wrong)(ask)
    for kind in ({"tokens": 5}, dict):
        with pytest.raises(InvalidPolicy, match="plain function"):
            action(limit=limit, uses=kind)(ask)  # type: ignore[arg-type]
    with pytest.raises(InvalidPolicy, match="with a unit"):
        action(limit="3/s", uses=lambda text: {})(ask)


def test_the_amounts_are_exact_in_millionths() -> None:
    """Ten times 0.1 is 1; what nothing counts is left out; what is no amount is refused."""
    assert 10 * amounts_by(lambda: {"usd": 0.1, "tokens": 5}, {}, ["usd"])["usd"] == ONE
    for wrong in (None, [], {"usd": -1}, {"usd": "1"}, {"usd": True}, {"usd": float("nan")}, {"US": 1}, {1: 1}):
        with pytest.raises(TypeError, match="uses returned"):
            amounts_by(lambda value: value, {"value": wrong}, ["usd"])


def test_used_takes_amounts_by_unit() -> None:
    """Outside of an attempt it records nothing, so that a step can be called."""
    used(tokens=5, usd=0.25)
    for wrong in ({"tokens": -1}, {"tokens": "5"}, {"Tokens": 5}, {"tokens": float("inf")}):
        with pytest.raises(InvalidArgument):
            used(**wrong)  # type: ignore[arg-type]
