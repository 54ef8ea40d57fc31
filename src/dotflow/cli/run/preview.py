"""The lines of `dotflow schedule --preview`."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from dotflow.core.durations import format_duration

if TYPE_CHECKING:
    from dotflow.providers.schedulers.cron_times import FireTime


def format_time(at: datetime) -> str:
    """Returns a time with the name and offset of its zone: Sun 2026-11-01 01:30:00 EDT (-04:00)."""
    offset = at.strftime("%z")
    return f"{at:%a %Y-%m-%d %H:%M:%S} {at.tzname()} ({offset[:3]}:{offset[3:5]})"


def preview_lines(fire_times: "Sequence[FireTime]", now: datetime) -> Iterator[tuple[str, str]]:
    """Yields for each fire time a line with the time until then, and its note, if any."""
    times = [format_time(fire.at) for fire in fire_times]
    width = max(map(len, times), default=0)
    for fire, time in zip(fire_times, times, strict=True):
        yield f"{time:{width}}  in {format_duration((fire.at - now).total_seconds())}", fire.note
