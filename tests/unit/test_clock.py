"""clock: one module reads the system's clocks."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from dotflow import clock
from dotflow.core.context import Context


def test_now_is_aware_and_in_utc() -> None:
    """A moment never depends on the machine's time zone."""
    assert clock.now().tzinfo is UTC
    assert abs(clock.now() - datetime.now(UTC)) < timedelta(minutes=1)


def test_monotonic_never_goes_back() -> None:
    """Spans are measured on a clock that only goes forward."""
    ticks = [clock.monotonic() for _ in range(1000)]

    assert ticks == sorted(ticks)


def test_one_replacement_moves_all_of_dotflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other modules read the time through this one, so a test may replace it in one place."""
    then = datetime(2001, 2, 3, tzinfo=UTC)
    monkeypatch.setattr(clock, "now", lambda: then)

    assert Context(1).time == then


def test_a_kept_moment_is_the_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """In UTC, and exact where the clock is replaced, even in a year in which a float has no microseconds."""
    kept = clock.as_datetime(clock.moment())
    assert kept.tzinfo is UTC
    assert abs(kept - datetime.now(UTC)) < timedelta(minutes=1)

    then = datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    monkeypatch.setattr(clock, "now", lambda: then)
    assert clock.as_datetime(clock.moment()) == then


@pytest.fixture
def frozen_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    """What freezegun does to a module: it replaces each name that is `time.time` itself."""
    for name, value in list(vars(clock).items()):
        if value is time.time:
            monkeypatch.setattr(clock, name, lambda: 0.0)


@pytest.mark.usefixtures("frozen_functions")
def test_a_library_that_freezes_time_does_not_mix_two_times() -> None:
    """A kept moment and `now` stay in the same time, so no record ends before it begins, nor years later."""
    assert abs(clock.as_datetime(clock.moment()) - clock.now()) < timedelta(minutes=1)
