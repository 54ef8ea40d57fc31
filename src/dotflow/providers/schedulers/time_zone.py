"""Time zones: by name, or the machine's own; and when their clocks are set."""

import difflib
import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final, NamedTuple

from dotflow.errors import InvalidSchedule

HOUR: Final = timedelta(hours=1)
SECOND: Final = timedelta(seconds=1)
STEP: Final = 12 * HOUR  # no zone sets its clocks twice in so short a time


class LocalZone(tzinfo):
    """The machine's zone, as the C library knows it: the variable TZ, else what the system is set to.

    A datetime's own `astimezone()` gives the offset of one moment only; a schedule needs that of any.
    """

    def utcoffset(self, moment: datetime | None) -> timedelta | None:
        """As tzinfo says."""
        return None if moment is None else moment.replace(tzinfo=None).astimezone().utcoffset()

    def dst(self, moment: datetime | None) -> timedelta | None:
        """As tzinfo says: the system tells no more than the offset."""
        return None

    def tzname(self, moment: datetime | None) -> str | None:
        """As tzinfo says."""
        return None if moment is None else moment.replace(tzinfo=None).astimezone().tzname()

    def fromutc(self, moment: datetime) -> datetime:
        """As tzinfo says."""
        local = moment.replace(tzinfo=UTC).astimezone()
        first = local.replace(tzinfo=self, fold=0)
        return first if first.utcoffset() == local.utcoffset() else first.replace(fold=1)

    def __repr__(self) -> str:
        return "the machine's local time zone"


def find_zone(name: object) -> tzinfo:
    """The zone of that name; the machine's own for None. Raises InvalidSchedule."""
    if name is None:
        return LocalZone()
    if not isinstance(name, str):
        raise InvalidSchedule("timezone", name, "it is the name of a time zone, such as 'Europe/Berlin', or None.")
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):  # by the name: unknown, no name at all, a folder
        raise InvalidSchedule("timezone", name, _cure(name)) from None


def _cure(name: str) -> str:
    known = zoneinfo.available_timezones()
    if not known:
        return "this machine has no database of time zones. Install one for Python: pip install tzdata."
    lowered = {zone.lower(): zone for zone in known}
    cities = {zone.rpartition("/")[2]: zone for zone in sorted(lowered)}
    wanted = name.strip().lower().replace(" ", "_")
    near = difflib.get_close_matches(wanted, lowered, 1, 0.7) or [
        cities[city] for city in difflib.get_close_matches(wanted.rpartition("/")[2], cities, 1, 0.75)
    ]
    meant = (
        f"Did you mean {lowered[near[0]]!r}?" if near else "Such names are 'Europe/Berlin', 'America/New_York', 'UTC'."
    )
    return f"there is no time zone of that name. {meant}"


def exists(moment: datetime) -> bool:
    """Whether the clocks of its zone ever show it."""
    return moment.replace(fold=0) == moment.astimezone(UTC).astimezone(moment.tzinfo).replace(fold=0)


class Change(NamedTuple):
    """The clocks of a zone are set: `shown` is what they would show, `instead` what they show."""

    shown: datetime
    instead: datetime

    def __str__(self) -> str:
        way = "forward" if self.instead > self.shown else "back"
        night = "this night" if self.shown.hour < 6 else "this day"
        return f"the clocks go {way} at {_time(self.shown)} (to {_time(self.instead)}) {night}"


def changes_on_day_of(moment: datetime) -> Iterator[Change]:
    """What happens to the clocks on the day, in its own zone, that the moment is in."""
    zone = moment.tzinfo
    assert zone is not None
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0, fold=0).astimezone(UTC)
    at, end = midnight - HOUR, midnight + 26 * HOUR
    while (found := next_change(zone, at, end)) is not None:
        change = Change(*((found + offset_at(when, zone)).replace(tzinfo=None) for when in (found - SECOND, found)))
        if moment.date() in (change.shown.date(), change.instead.date()):
            yield change
        at = found


def next_change(zone: tzinfo, after: datetime, until: datetime) -> datetime | None:
    """The first moment, later than the one and not later than the other, from which on the offset is another."""
    old = offset_at(after, zone)
    while after < until:
        later = min(after + STEP, until)
        if offset_at(later, zone) != old:
            while later - after > SECOND:
                middle = after + (later - after) // 2
                after, later = (middle, later) if offset_at(middle, zone) == old else (after, middle)
            return later.replace(microsecond=0)
        after = later
    return None


def offset_at(moment: datetime, zone: tzinfo) -> timedelta:
    """How far the zone's clocks are ahead of UTC."""
    return moment.astimezone(zone).utcoffset() or timedelta(0)


def _time(moment: datetime) -> str:
    return f"{moment:%H:%M:%S}" if moment.second else f"{moment:%H:%M}"
