"""CronTimes: the moments of a cron expression in a time zone."""

import contextlib
import difflib
import os
import re
import zoneinfo
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any, Final

from dotflow.errors import InvalidSchedule
from dotflow.providers.optional import require_extra

ALIASES: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
SYNTAX: Final = (
    "Write five fields, 'minute hour day month weekday' ('30 2 * * *' is daily at 02:30), six with seconds first, or "
    f"one of {', '.join(ALIASES)}."
)
#: The greatest step of each field, from the last field on: a greater one would leave only its first value.
MAX_STEPS: Final = {"day-of-week": 7, "month": 12, "day-of-month": 31, "hour": 24, "minute": 60, "second": 60}
YEAR: Final = timedelta(days=366)
MOST_BEFORE: Final = 100_000  # firings; a span twice as long as one with a few has no more
#: The name of a field in CronSim's errors -> its values.
FIELDS: Final = {
    "second": "0 to 59",
    "minute": "0 to 59",
    "hour": "0 to 23",
    "day-of-month": "1 to 31, if the month has it, L (the last) or LW (the last working day)",
    "month": "1 to 12 or JAN to DEC",
    "day-of-week": "0 to 7 or SUN to SAT (0 and 7 are Sunday), 5L (the last Friday), 1#2 (the second Monday)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FireTime:
    """One moment at which a schedule fires.

    Attributes:
        at: The moment, in the schedule's zone.
        note: The clock change on that day, such as "the clocks go forward at 02:00 (to 03:00) this night"; or "".
    """

    at: datetime
    note: str = ""


class CronTimes:
    """The moments of a cron expression.

    As with Debian's cron, a job at fixed hours and minutes runs once on each of its days: a skipped time runs right
    after the gap, a repeated time runs once. A job whose hour or minute begins with a star runs at equal intervals of
    elapsed time. CronSim does that for five fields and clock changes of an hour; with seconds it would fire twice or
    never. So it computes without a zone, and the zone is applied here.

    Args:
        cron: The expression.
        timezone: The zone's name; None for the machine's.

    Raises:
        InvalidSchedule: One of them is not valid, or the expression never fires.
        MissingExtra: CronSim is not installed.
    """

    def __init__(self, cron: str, timezone: str | None) -> None:
        require_extra("cronsim", "SchedulerCron", "scheduler")
        import cronsim

        self._cronsim: Any = cronsim.CronSim
        self._cronsim_error: Any = cronsim.CronSimError
        self.cron = _checked_expression(cron)
        self.zone: tzinfo = find_zone(timezone)
        fields = self.cron.split()
        self._is_fixed = not any(field.startswith("*") for field in fields[-5:-3])
        try:
            self.after(datetime(2000, 1, 1, tzinfo=UTC))
        except self._cronsim_error as error:
            raise InvalidSchedule("cron", cron, _explain(str(error))) from None
        except StopIteration:
            raise InvalidSchedule("cron", cron, f"it matches no calendar date. {SYNTAX}") from None

    def after(self, moment: datetime) -> datetime:
        """Returns the first moment after another."""
        return self._after_fixed(moment) if self._is_fixed else self._after_elapsed(moment)

    def _after_fixed(self, moment: datetime) -> datetime:
        for local in self._cronsim(self.cron, moment.astimezone(self.zone).replace(tzinfo=None)):
            due: datetime = local.replace(tzinfo=self.zone)
            while not exists(due):
                due = (due + timedelta(minutes=1)).replace(second=0)
            if due.astimezone(UTC) > moment:  # it may be earlier, after the clocks went back
                return due
        raise StopIteration

    def _after_elapsed(self, moment: datetime) -> datetime:
        offset, since = offset_at(moment, self.zone), moment
        while True:
            local = (moment + offset).replace(tzinfo=None)
            due: datetime = next(self._cronsim(self.cron, local)).replace(tzinfo=UTC) - offset
            change = next_change(self.zone, since, due)
            if change is None:
                return due.astimezone(self.zone)
            # The clocks change before that moment, so the search goes on with the new offset.
            moment, offset, since = change - SECOND, offset_at(change, self.zone), change

    def between(self, after: datetime, until: datetime, limit: int) -> list[datetime]:
        """Returns the firings after one moment and up to another, the first *limit* at most."""
        found: list[datetime] = []
        moment = self.after(after)
        while moment.astimezone(UTC) <= until and len(found) < limit:
            found.append(moment)
            moment = self.after(moment.astimezone(UTC))
        return found

    def before(self, moment: datetime, count: int) -> list[datetime]:
        """Returns the firings up to a moment, the newest first: *count* at most, and none older than about a year."""
        span = timedelta(minutes=1)
        while True:
            found = self.between(moment - span, moment, MOST_BEFORE)
            if len(found) >= count or span > YEAR:
                return found[: -count - 1 : -1]
            span *= 2

    def firings(self, count: int, after: datetime) -> list[FireTime]:
        """Returns the next firings; fewer at the end of the calendar, the year 9999."""
        times: list[FireTime] = []
        with contextlib.suppress(OverflowError):  # beyond the last date
            while len(times) < count:
                at = self.after(after)
                after = at.astimezone(UTC)
                times.append(FireTime(at=at, note="; ".join(changes_on_day_of(at))))
        return times


def _checked_expression(cron: object) -> str:
    if not isinstance(cron, str):
        raise InvalidSchedule("cron", cron, f"it is no text. {SYNTAX}")
    text = cron.strip()
    if text.startswith("@"):
        if text.lower() not in ALIASES:
            raise InvalidSchedule("cron", cron, f"there is no such alias. {SYNTAX}")
        return ALIASES[text.lower()]
    if (count := len(text.split())) not in (5, 6):
        raise InvalidSchedule("cron", cron, f"it has {count} fields. {SYNTAX}")
    for (name, most), field in zip(MAX_STEPS.items(), reversed(text.split()), strict=False):
        for step in re.findall(r"/(\d+)", field):
            if int(step) > most:
                raise InvalidSchedule("cron", cron, f"its {name} has the step {step}, and {most} at most. {SYNTAX}")
    return text


def _explain(error: str) -> str:
    """Returns CronSim's error, which names a field, with the values that the field takes."""
    name = error.removeprefix("Bad ")
    if name not in FIELDS:
        return f"{error}. {SYNTAX}"
    return f"its {name} is not valid. It takes {FIELDS[name]}, in lists (1,2), ranges (1-5) and steps (*/5). {SYNTAX}"


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


def local_name() -> str | None:
    """Returns the name of the machine's zone; None where it is unknown, such as that of a rule in TZ."""
    name = os.environ.get("TZ", "/etc/localtime").removeprefix(":") or "UTC"
    if Path(name).is_absolute():
        name = os.path.realpath(name).rpartition("/zoneinfo/")[2].replace("Etc/UTC", "UTC")
    try:
        return zoneinfo.ZoneInfo(name).key if name else None
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return None


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
    cities = {zone.rpartition("/")[2].lower(): zone for zone in sorted(names)}
    known = {**cities, **{zone.lower(): zone for zone in names}}
    matches = difflib.get_close_matches(name.strip().lower().replace(" ", "_"), known, 1, 0.7)
    examples = "Such names are 'Europe/Berlin', 'America/New_York', 'UTC'."
    suggestion = f"Did you mean {known[matches[0]]!r}?" if matches else examples
    return f"there is no time zone of that name. {suggestion}"


def exists(moment: datetime) -> bool:
    """Returns whether the clocks of its zone ever show a moment."""
    return moment.replace(fold=0) == moment.astimezone(UTC).astimezone(moment.tzinfo).replace(fold=0)


def changes_on_day_of(moment: datetime) -> Iterator[str]:
    """Yields a note on each clock change of a moment's day in its own zone."""
    zone = moment.tzinfo
    assert zone is not None
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0, fold=0).astimezone(UTC)
    start, end = midnight - HOUR, midnight + 26 * HOUR
    while (at := next_change(zone, start, end)) is not None:
        before, after = ((at + offset_at(when, zone)).replace(tzinfo=None) for when in (at - SECOND, at))
        if moment.date() in (before.date(), after.date()):
            direction = "forward" if after > before else "back"
            night = "this night" if before.hour < 6 else "this day"
            yield f"the clocks go {direction} at {before:%H:%M} (to {after:%H:%M}) {night}"
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
