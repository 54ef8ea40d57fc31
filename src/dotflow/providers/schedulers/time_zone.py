"""Time zones, by name or the machine's own, and their clock changes."""

import difflib
import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final, NamedTuple

from dotflow.errors import InvalidSchedule

HOUR: Final = timedelta(hours=1)
SECOND: Final = timedelta(seconds=1)
STEP: Final = 12 * HOUR  # no zone changes its clocks twice within this time


class LocalZone(tzinfo):
    """The machine's zone: the variable TZ, or the system's setting.

    A datetime's own `astimezone()` has the offset of one moment only; a schedule needs that of any.
    """

    def utcoffset(self, moment: datetime | None) -> timedelta | None:
        return None if moment is None else moment.replace(tzinfo=None).astimezone().utcoffset()

    def dst(self, moment: datetime | None) -> timedelta | None:
        return None  # unknown

    def tzname(self, moment: datetime | None) -> str | None:
        return None if moment is None else moment.replace(tzinfo=None).astimezone().tzname()

    def fromutc(self, moment: datetime) -> datetime:
        local = moment.replace(tzinfo=UTC).astimezone()
        first = local.replace(tzinfo=self, fold=0)
        return first if first.utcoffset() == local.utcoffset() else first.replace(fold=1)

    def __repr__(self) -> str:
        return "the machine's local time zone"


def find_zone(name: object) -> tzinfo:
    """Returns the zone of that name; the machine's own for None. Raises InvalidSchedule."""
    if name is None:
        return LocalZone()
    if not isinstance(name, str):
        raise InvalidSchedule("timezone", name, "Pass the name of a time zone, such as 'Europe/Berlin', or None.")
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):  # unknown, not a name at all, a folder
        raise InvalidSchedule("timezone", name, _hint(name)) from None


def _hint(name: str) -> str:
    names = zoneinfo.available_timezones()
    if not names:
        return "this machine has no database of time zones. Install one for Python: pip install tzdata."
    by_lower_name = {zone.lower(): zone for zone in names}
    cities = {zone.rpartition("/")[2]: zone for zone in sorted(by_lower_name)}
    text = name.strip().lower().replace(" ", "_")
    matches = difflib.get_close_matches(text, by_lower_name, 1, 0.7) or [
        cities[city] for city in difflib.get_close_matches(text.rpartition("/")[2], cities, 1, 0.75)
    ]
    examples = "Such names are 'Europe/Berlin', 'America/New_York', 'UTC'."
    suggestion = f"Did you mean {by_lower_name[matches[0]]!r}?" if matches else examples
    return f"there is no time zone of that name. {suggestion}"


def exists(moment: datetime) -> bool:
    """Returns whether the clocks of its zone ever show a moment."""
    return moment.replace(fold=0) == moment.astimezone(UTC).astimezone(moment.tzinfo).replace(fold=0)


class Change(NamedTuple):
    """A clock change, as local times: `before` is replaced by `after`."""

    before: datetime
    after: datetime

    def __str__(self) -> str:
        direction = "forward" if self.after > self.before else "back"
        night = "this night" if self.before.hour < 6 else "this day"
        return f"the clocks go {direction} at {_time(self.before)} (to {_time(self.after)}) {night}"


def changes_on_day_of(moment: datetime) -> Iterator[Change]:
    """Yields the clock changes of a moment's day in its own zone."""
    zone = moment.tzinfo
    assert zone is not None
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0, fold=0).astimezone(UTC)
    start, end = midnight - HOUR, midnight + 26 * HOUR
    while (at := next_change(zone, start, end)) is not None:
        change = Change(*((at + offset_at(when, zone)).replace(tzinfo=None) for when in (at - SECOND, at)))
        if moment.date() in (change.before.date(), change.after.date()):
            yield change
        start = at


def next_change(zone: tzinfo, start: datetime, end: datetime) -> datetime | None:
    """Returns the first moment after *start* and up to *end* with another offset than *start*."""
    offset = offset_at(start, zone)
    while start < end:
        later = min(start + STEP, end)
        if offset_at(later, zone) != offset:
            while later - start > SECOND:
                middle = start + (later - start) // 2
                start, later = (middle, later) if offset_at(middle, zone) == offset else (start, middle)
            return later.replace(microsecond=0)
        start = later
    return None


def offset_at(moment: datetime, zone: tzinfo) -> timedelta:
    """Returns how far the zone's clocks are ahead of UTC."""
    return moment.astimezone(zone).utcoffset() or timedelta(0)


def _time(moment: datetime) -> str:
    return f"{moment:%H:%M:%S}" if moment.second else f"{moment:%H:%M}"
