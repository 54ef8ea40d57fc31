"""The moments of a cron expression: fields, zones, and clock changes."""

import os
import time
import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from dotflow.errors import InvalidSchedule
from dotflow.providers import SchedulerCron
from dotflow.providers.schedulers.cron_times import CronTimes, LocalZone, local_name

START = datetime(2026, 1, 1, tzinfo=UTC)  # a Thursday


#: Clock changes in 2026, in New York, Berlin, Cairo and on Lord Howe, where they are half an hour.
CHANGES = [
    "2026-03-08",
    "2026-11-01",
    "2026-03-29",
    "2026-10-25",
    "2026-04-24",
    "2026-10-30",
    "2026-04-05",
    "2026-10-04",
]


def next_ones(cron: str, count: int, after: datetime = START, zone: str | None = "UTC") -> list[str]:
    return [f"{firing.at:%m-%d %H:%M:%S}" for firing in CronTimes(cron, zone).firings(count, after)]


@pytest.fixture
def local() -> Iterator[None]:
    """Sets the machine's zone to New York, by the rules in TZ."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "EST5EDT,M3.2.0,M11.1.0"
    time.tzset()
    yield
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


@pytest.mark.parametrize(
    ("cron", "moments"),
    [
        ("30 2 * * *", ["01-01 02:30:00", "01-02 02:30:00"]),
        ("*/20 * * * *", ["01-01 00:20:00", "01-01 00:40:00"]),
        ("0 9 * * MON-FRI", ["01-01 09:00:00", "01-02 09:00:00", "01-05 09:00:00"]),
        ("0 0 L * *", ["01-31 00:00:00", "02-28 00:00:00"]),
        ("*/30 * * * * *", ["01-01 00:00:30", "01-01 00:01:00"]),
        ("15 30 2 * * *", ["01-01 02:30:15", "01-02 02:30:15"]),
        ("@hourly", ["01-01 01:00:00"]),
        ("@daily", ["01-02 00:00:00"]),
        (" @Midnight ", ["01-02 00:00:00"]),
        ("@weekly", ["01-04 00:00:00"]),
        ("@monthly", ["02-01 00:00:00"]),
        ("@yearly", ["01-01 00:00:00"]),
        ("@annually", ["01-01 00:00:00"]),
    ],
)
def test_an_expression_gives_its_moments(cron: str, moments: list[str]) -> None:
    """Five fields, six with seconds first, or an alias."""
    assert next_ones(cron, len(moments)) == moments


@pytest.mark.parametrize("cron", ["30 1 * * *", "0 30 1 * * *", "30 2 * * *", "0 30 2 * * *", "0 0 2 * * *"])
@pytest.mark.parametrize(
    "zone", ["America/New_York", "Europe/Berlin", "Africa/Cairo", "Australia/Lord_Howe", "America/St_Johns", "UTC"]
)
def test_a_daily_job_runs_once_on_each_day_of_the_year(cron: str, zone: str) -> None:
    """Also on days with a clock change, and with a field of seconds; the moments are ascending."""
    times = CronTimes(cron, zone)
    moment, days = START, []
    for _ in range(365):
        at = times.after(moment)
        assert at.astimezone(UTC) > moment
        moment = at.astimezone(UTC)
        days.append(at.date())

    assert days == [days[0] + timedelta(days=number) for number in range(365)]


@pytest.mark.parametrize("day", CHANGES)
@pytest.mark.parametrize("zone", ["America/New_York", "Europe/Berlin", "Africa/Cairo", "Australia/Lord_Howe", None])
@pytest.mark.parametrize("minutes", [15, 60])
@pytest.mark.usefixtures("local")
def test_a_job_with_a_star_follows_elapsed_time(minutes: int, zone: str | None, day: str) -> None:
    """A moment that the clocks repeat counts twice, and none is missing or invented."""
    cron = "0 * * * *" if minutes == 60 else f"*/{minutes} * * * *"
    times = CronTimes(cron, zone)
    start = datetime.fromisoformat(day).replace(tzinfo=UTC) - timedelta(days=1)

    found = [firing.at.astimezone(UTC) for firing in times.firings(50 if minutes == 60 else 150, start)]

    quarters = (start + timedelta(minutes=15 * number) for number in range(1, 4 * 24 * 4))
    assert (
        found == [quarter for quarter in quarters if quarter.astimezone(times.zone).minute % minutes == 0][: len(found)]
    )


@pytest.mark.parametrize("day", CHANGES)
@pytest.mark.parametrize("zone", ["America/New_York", "Africa/Cairo", "Australia/Lord_Howe"])
@pytest.mark.parametrize(
    ("cron", "hours", "minutes"),
    [
        ("*/15 2 * * *", {2}, {0, 15, 30, 45}),
        ("0 */2 * * *", set(range(0, 24, 2)), {0}),
        ("*/30 0 * * *", {0}, {0, 30}),
    ],
)
def test_a_star_beside_fixed_hours_follows_the_clocks(
    cron: str, hours: set[int], minutes: set[int], zone: str, day: str
) -> None:
    """Also for changes of half an hour, or at midnight: a moment fires as often as the clocks show it."""
    times = CronTimes(cron, zone)
    start = datetime.fromisoformat(day).replace(tzinfo=UTC) - timedelta(days=1)

    found = [firing.at.astimezone(UTC) for firing in times.firings(8, start)]

    shown = [(start + timedelta(minutes=15 * number)).astimezone(times.zone) for number in range(1, 4 * 24 * 8)]
    wanted = [moment.astimezone(UTC) for moment in shown if moment.hour in hours and moment.minute in minutes]
    assert found == wanted[:8]


@pytest.mark.parametrize("zone", ["America/New_York", None])
@pytest.mark.usefixtures("local")
def test_in_a_repeated_hour_the_next_moment_is_later(zone: str | None) -> None:
    """At the second 01:10, the first 01:30 is over, so it does not fire."""
    second_ten_past_one = datetime(2026, 11, 1, 6, 10, tzinfo=UTC)

    assert next_ones("30 1 * * *", 1, second_ten_past_one, zone) == ["11-02 01:30:00"]


@pytest.mark.usefixtures("local")
def test_without_a_zone_it_is_the_machines() -> None:
    """With its rules, not only the offset of the day on which the program began."""
    assert isinstance(CronTimes("@daily", None).zone, LocalZone)
    for cron in ("30 1 * * *", "30 2 * * *", "0 * * * *", "*/15 * * * *", "0 30 2 * * *"):
        for after in (datetime(2026, 3, 7, 12, tzinfo=UTC), datetime(2026, 10, 31, 12, tzinfo=UTC)):
            here = [firing.at.astimezone(UTC) for firing in CronTimes(cron, None).firings(100, after)]
            there = [firing.at.astimezone(UTC) for firing in CronTimes(cron, "America/New_York").firings(100, after)]
            assert here == there


@pytest.mark.usefixtures("local")
def test_the_machines_zone_distinguishes_the_two_hours() -> None:
    """A repeated local time is two moments, in both directions."""
    first, second = datetime(2026, 11, 1, 5, 30, tzinfo=UTC), datetime(2026, 11, 1, 6, 30, tzinfo=UTC)
    zone = LocalZone()

    assert [moment.astimezone(zone).fold for moment in (first, second)] == [0, 1]
    assert [moment.astimezone(zone).astimezone(UTC) for moment in (first, second)] == [first, second]
    assert first.astimezone(zone).tzname() == "EDT"
    assert zone.utcoffset(None) is zone.tzname(None) is zone.dst(None) is None
    assert "machine" in repr(zone)


@pytest.mark.parametrize(
    ("variable", "name"),
    [
        *(
            ("Europe/Berlin", "Europe/Berlin"),
            (":Europe/Berlin", "Europe/Berlin"),
            ("", "UTC"),
            ("Etc/GMT-3", "Etc/GMT-3"),
        ),
        *(("CET-1CEST", None), ("/nowhere", None), ("..", None)),
    ],
)
def test_the_name_of_the_machines_zone(monkeypatch: pytest.MonkeyPatch, variable: str, name: str | None) -> None:
    """None where it has none."""
    monkeypatch.setenv("TZ", variable)

    assert local_name() == name


def test_the_system_names_its_zone_by_a_link(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without TZ, /etc/localtime leads to it."""
    monkeypatch.delenv("TZ", raising=False)
    for file, name in (("Europe/Berlin", "Europe/Berlin"), ("Etc/UTC", "UTC"), ("", None)):
        monkeypatch.setattr(os.path, "realpath", lambda path, file=file: f"/usr/share/zoneinfo/{file}")
        assert local_name() == name


NOTES = [
    (
        "America/New_York",
        datetime(2026, 3, 7, 12),
        "03-08 03:00",
        "the clocks go forward at 02:00 (to 03:00) this night",
    ),
    (
        "America/New_York",
        datetime(2026, 10, 31, 12),
        "11-01 02:30",
        "the clocks go back at 02:00 (to 01:00) this night",
    ),
    ("America/New_York", datetime(2026, 3, 8, 12), "03-09 02:30", ""),
    ("Europe/Berlin", datetime(2026, 3, 28, 12), "03-29 03:00", "the clocks go forward at 02:00 (to 03:00) this night"),
    ("Africa/Cairo", datetime(2026, 4, 23, 12), "04-24 02:30", "the clocks go forward at 00:00 (to 01:00) this night"),
    ("UTC", datetime(2026, 3, 8), "03-08 02:30", ""),
]


@pytest.mark.parametrize(("zone", "after", "at", "note"), NOTES)
def test_a_day_with_a_clock_change_has_a_note(zone: str, after: datetime, at: str, note: str) -> None:
    """preview() has a note for an unusual time."""
    firing = SchedulerCron("30 2 * * *", timezone=zone).preview(1, after.replace(tzinfo=UTC))[0]

    assert (f"{firing.at:%m-%d %H:%M}", firing.note) == (at, note)


def test_preview_returns_the_number_of_firings() -> None:
    """In the schedule's zone, after the given moment, or after now."""
    scheduler = SchedulerCron("0 12 * * *", timezone="America/New_York")

    found = scheduler.preview(after=datetime(2026, 1, 1, 17, tzinfo=UTC))

    assert [f"{firing.at.isoformat()}" for firing in found][:1] == ["2026-01-02T12:00:00-05:00"]
    assert len(found) == 5
    assert scheduler.preview(0) == []
    assert scheduler.preview(1)[0].at > datetime.now(UTC)


@pytest.mark.parametrize(
    ("cron", "words"),
    [
        ("61 * * * *", ["minute", "0 to 59"]),
        ("* 24 * * *", ["hour", "0 to 23"]),
        ("* * 0 * *", ["day-of-month", "1 to 31"]),
        ("* * * 13 *", ["month", "1 to 12"]),
        ("* * * * FOO", ["day-of-week", "SUN to SAT"]),
        ("60 * * * * *", ["second", "0 to 59"]),
        ("*/0 * * * *", ["minute"]),
        ("5-1 * * * *", ["minute"]),
        ("1,,2 * * * *", ["minute"]),
        ("* * *", ["3 fields", "five fields"]),
        ("", ["0 fields"]),
        ("*/61 * * * *", ["minute has the step 61, and 60 at most"]),
        ("0,5-50/99 * * * *", ["minute has the step 99"]),
        ("0 */25 * * *", ["hour has the step 25, and 24 at most"]),
        ("*/61 * * * * *", ["second has the step 61"]),
        ("0 0 1 */13 *", ["month has the step 13, and 12 at most"]),
        ("@dayly", ["no such alias", "@daily"]),
        ("@reboot", ["no such alias", "@daily"]),
        ("0 0 30 2 *", ["day-of-month", "if the month has it"]),
        ("0 0 31 4,6,9,11 *", ["day-of-month"]),
        (5, ["it is no text"]),
        (None, ["it is no text"]),
    ],
)
def test_an_invalid_expression_is_refused_at_once(cron: object, words: list[str]) -> None:
    """The error has the value, the invalid field, its values, and the syntax."""
    with pytest.raises(InvalidSchedule) as caught:
        SchedulerCron(cron)  # type: ignore[arg-type]

    assert [word for word in [f"cron={cron!r}", *words, "30 2 * * *"] if word not in str(caught.value)] == []


def test_one_that_never_fires_is_refused_though_each_field_is_right() -> None:
    """The second Monday of a month is neither its 1st nor its 31st."""
    with pytest.raises(InvalidSchedule, match="matches no calendar date"):
        SchedulerCron("0 0 */30 * MON#2")


@pytest.mark.parametrize(
    ("zone", "meant"),
    [
        ("Europe/Berlinn", "Europe/Berlin"),
        ("berlin", "Europe/Berlin"),
        ("america/new york", "America/New_York"),
        ("new_york", "America/New_York"),
        ("utc ", "UTC"),
        ("", "Such names are"),
        ("Mars", "Such names are"),
        ("../passwd", "Such names are"),
        ("a\0b", "Such names are"),
    ],
)
def test_an_unknown_zone_is_refused_with_a_close_one(zone: str, meant: str) -> None:
    """A misspelt name, a city alone, or no name."""
    with pytest.raises(InvalidSchedule, match="there is no time zone of that name") as caught:
        SchedulerCron("@daily", timezone=zone)

    assert meant in str(caught.value)


def test_a_zone_is_a_name() -> None:
    """An offset is no zone: it has no clock changes."""
    with pytest.raises(InvalidSchedule, match="the name of a time zone"):
        SchedulerCron("@daily", timezone=3)  # type: ignore[arg-type]


def test_the_error_without_zones_names_the_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some images have no database of time zones."""
    monkeypatch.setattr(zoneinfo, "ZoneInfo", lambda name: (_ for _ in ()).throw(zoneinfo.ZoneInfoNotFoundError(name)))
    monkeypatch.setattr(zoneinfo, "available_timezones", set)

    with pytest.raises(InvalidSchedule, match="pip install tzdata"):
        SchedulerCron("@daily", timezone="Europe/Berlin")


def test_counting_stops_at_the_limit() -> None:
    """After a long sleep, counting stops before millions of seconds."""
    times = CronTimes("* * * * * *", "UTC")

    assert times.between(START, START + timedelta(seconds=10), 1000) == [
        START + timedelta(seconds=second) for second in range(1, 11)
    ]
    assert len(times.between(START, START + timedelta(days=3650), 50)) == 50
    assert times.between(START, START, 50) == []
