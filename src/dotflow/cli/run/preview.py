"""When a schedule fires, in words."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from dotflow.cli.formatting import long_span

if TYPE_CHECKING:
    from dotflow.providers.schedulers.cron_times import FireTime


def moment(at: datetime) -> str:
    """A moment on the clock of its zone, with the zone's name and offset: Sun 2026-11-01 01:30:00 EDT (-04:00)."""
    offset = at.strftime("%z")
    return f"{at:%a %Y-%m-%d %H:%M:%S} {at.tzname()} ({offset[:3]}:{offset[3:5]})"


def preview_lines(firings: "Sequence[FireTime]", now: datetime) -> Iterator[tuple[str, str]]:
    """For each firing, the moment and how far away it is; and what is special about that night, if anything."""
    moments = [moment(firing.at) for firing in firings]
    width = max(map(len, moments), default=0)
    for firing, told in zip(firings, moments, strict=True):
        yield f"{told:{width}}  in {long_span((firing.at - now).total_seconds())}", firing.note
