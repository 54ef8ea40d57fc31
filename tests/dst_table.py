"""Prints the firings of schedules on the nights of New York's clock changes in 2026. Run: python tests/dst_table.py

Each line is a schedule that runs on the virtual clock. tests/integration/test_schedules.py asserts the same.
"""

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

sys.path[:0] = [str(Path(__file__).parent.parent / "src")]

from dotflow import Config, DotFlow, action  # noqa: E402 (found through the path that was just set)
from dotflow.providers import LogDefault, SchedulerCron  # noqa: E402
from dotflow.testing import virtual_clock  # noqa: E402

ZONE: Final = "America/New_York"
JOBS: Final = ("30 1 * * *", "30 2 * * *", "0 * * * *", "*/15 * * * *")
#: From midnight until 04:00 on the wall clock: three hours and five.
NIGHTS: Final = {
    "8 March, 02:00 becomes 03:00": (datetime(2026, 3, 8, 5, tzinfo=UTC), 3),
    "1 November, 02:00 becomes 01:00": (datetime(2026, 11, 1, 4, tzinfo=UTC), 5),
}


def moments_of(cron: str, midnight: datetime, hours: float, zone: str | None = ZONE) -> list[datetime]:
    """Returns the times of a schedule's runs, from midnight on, for a number of hours."""
    ran: list[datetime] = []
    with virtual_clock(midnight - timedelta(seconds=1)) as time:
        scheduler = SchedulerCron(cron, timezone=zone)
        workflow = DotFlow(Config(scheduler=scheduler, log=LogDefault(output="none")))
        workflow.task.add(action(lambda: ran.append(time.now())))
        time.at(midnight + timedelta(hours=hours), scheduler.stop)
        workflow.schedule()
    return ran


def cell(moments: list[datetime]) -> str:
    """Returns a night in a few characters: the first letter of the zone's name distinguishes the two 01:30."""
    local = [moment.astimezone(ZoneInfo(ZONE)) for moment in moments]
    if len(local) > 6:
        return f"{len(local)} times, every {(local[1] - local[0]).seconds // 60} minutes"
    return ", ".join(f"{moment:%H:%M %Z}" for moment in local) or "never"


def main() -> None:
    """Prints the table."""
    print(f"| cron | {' | '.join(NIGHTS)} |")
    print(f"|---|{'---|' * len(NIGHTS)}")
    for job in JOBS:
        print(f"| `{job}` | {' | '.join(cell(moments_of(job, *night)) for night in NIGHTS.values())} |")


if __name__ == "__main__":
    main()
