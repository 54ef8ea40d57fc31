"""CronTimes: when a cron expression fires, in its zone."""

import contextlib
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any, Final

from dotflow.errors import InvalidSchedule
from dotflow.providers.optional import require_extra
from dotflow.providers.schedulers.time_zone import SECOND, changes_on_day_of, exists, find_zone, next_change, offset_at

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
#: What each field takes, by what CronSim calls it in its errors.
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
        at: When, in the schedule's zone.
        note: What is unusual about that day: "the clocks go forward at 02:00 (to 03:00) this night"; else empty.
    """

    at: datetime
    note: str = ""


class CronTimes:
    """The moments of a cron expression.

    A job at fixed hours and minutes runs once on each of its days, as with Debian's cron: a time that the clocks leave
    out is made up for right after the gap, one that they show twice is taken the first time. A job whose hour or minute
    begins with a star goes by what has really passed. CronSim does this for five fields and clocks that are set by an
    hour; with seconds first it would fire twice or never. So it is asked without a zone, and the zone comes in here.

    Args:
        cron: The expression.
        timezone: The zone's name; None for the machine's.

    Raises:
        InvalidSchedule: One of them means nothing, or the expression never fires.
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
        self._check(cron)

    def _check(self, cron: str) -> None:
        try:
            self.after(datetime(2000, 1, 1, tzinfo=UTC))
        except self._cronsim_error as error:
            raise InvalidSchedule("cron", cron, _explain(str(error))) from None
        except StopIteration:
            raise InvalidSchedule("cron", cron, f"no day is ever like that, so it would never fire. {SYNTAX}") from None

    def after(self, moment: datetime) -> datetime:
        """The first moment later than that one."""
        return self._after_fixed(moment) if self._is_fixed else self._after_elapsed(moment)

    def _after_fixed(self, moment: datetime) -> datetime:
        for local in self._cronsim(self.cron, moment.astimezone(self.zone).replace(tzinfo=None)):
            due: datetime = local.replace(tzinfo=self.zone)
            while not exists(due):
                due = (due + timedelta(minutes=1)).replace(second=0)
            if due.astimezone(UTC) > moment:  # after the clocks went back it may have been before
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
            # That was by clocks that are set before. From then on they show something else.
            moment, offset, since = change - SECOND, offset_at(change, self.zone), change

    def between(self, after: datetime, until: datetime, limit: int) -> int:
        """How often it fires after one moment and until another; no more than *most* are counted."""
        count, moment = 0, self.after(after)
        while moment.astimezone(UTC) <= until and count < limit:
            count, moment = count + 1, self.after(moment.astimezone(UTC))
        return count

    def firings(self, count: int, after: datetime) -> list[FireTime]:
        """The next ones; fewer where the calendar ends, with the year 9999."""
        times: list[FireTime] = []
        notes: dict[date, str] = {}
        with contextlib.suppress(OverflowError):  # there is no later date
            while len(times) < count:
                at = self.after(after)
                after = at.astimezone(UTC)
                if at.date() not in notes:
                    notes[at.date()] = "; ".join(map(str, changes_on_day_of(at)))
                times.append(FireTime(at=at, note=notes[at.date()]))
        return times


def _checked_expression(cron: object) -> str:
    if not isinstance(cron, str):
        raise InvalidSchedule("cron", cron, f"it is a text. {SYNTAX}")
    text = cron.strip()
    if text.startswith("@"):
        if text.lower() not in ALIASES:
            is_reboot = text.lower() == "@reboot"
            reason = "nothing is known of the machine's start" if is_reboot else "there is no such alias"
            raise InvalidSchedule("cron", cron, f"{reason}. {SYNTAX}")
        return ALIASES[text.lower()]
    if (count := len(text.split())) not in (5, 6):
        raise InvalidSchedule("cron", cron, f"it has {count} fields. {SYNTAX}")
    return text


def _explain(error: str) -> str:
    """CronSim says which field is wrong; what it would take instead is ours to say."""
    match = re.fullmatch(r"Bad (.+)", error)
    name = match[1] if match else ""
    if name not in FIELDS:
        return f"{error}. {SYNTAX}"
    return f"its {name} means nothing. It takes {FIELDS[name]}, in lists (1,2), ranges (1-5) and steps (*/5). {SYNTAX}"
