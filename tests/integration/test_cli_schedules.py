"""`dotflow schedules`: what it lists, and what `--check` and `--expect` find."""

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dotflow import Config, DotFlow, action
from dotflow.control import Control
from dotflow.providers import ExecutorThread, HistorySQLite, SchedulerCron, StorageFile
from dotflow.serving.server import Server
from dotflow.testing import VirtualClock, virtual_clock
from tests.integration.children import Command
from tests.integration.test_schedules import Lines

START = datetime(2026, 1, 2, 11, tzinfo=UTC)
BERLIN = "Europe/Berlin"


def at(hour: int, minute: int = 0, day: int = 2) -> datetime:
    return datetime(2026, 1, day, hour, minute, tzinfo=UTC)


class House:
    """Workflows with a schedule at 13:00 in Berlin, 12:00 UTC, in the history where the commands look for it."""

    def __init__(self, folder: Path, time: VirtualClock, command: Command) -> None:
        self.folder = folder
        self.time = time
        self.command = command
        self.history = HistorySQLite()

    def workflow(self, work: Callable[[], object] = lambda: None, cron: str = "0 13 * * *", **more: Any) -> DotFlow:
        given = {"timezone": BERLIN, "late_after": "15m", **more}
        workflow_id = given.pop("workflow_id", "nightly")
        config = Config(
            history=self.history,
            storage=StorageFile(self.folder / "values"),
            executor=ExecutorThread(),
            log=Lines(),
            scheduler=SchedulerCron(cron, **given),
        )
        workflow = DotFlow(config, workflow_id=workflow_id)
        workflow.task.add(action(work), name="load")
        return workflow

    def serve(self, until: datetime, *workflows: DotFlow) -> None:
        server = Server(workflows, options={})
        self.time.at(until, server.request_stop)
        self.time.at(until, server.request_stop)
        server.run()

    def check(self, *arguments: str) -> int:
        return self.command("schedules", "--check", *arguments).code


@pytest.fixture
def house(tmp_path: Path, command: Command) -> Iterator[House]:
    with virtual_clock(START) as time:
        made = House(tmp_path, time, command)
        yield made
        made.history.close()


@pytest.fixture
def set_zone() -> Iterator[Callable[[str], None]]:
    """Sets the zone of the machine."""
    with pytest.MonkeyPatch.context() as patch:

        def set_zone(name: str) -> None:
            patch.setenv("TZ", name)
            time.tzset()

        yield set_zone
    time.tzset()


def fail() -> None:
    raise ValueError("no such column")


def test_the_table(house: House) -> None:
    """The next and the last firing in the zone of the schedule, and what is to be known below it."""
    house.serve(at(12, 30), house.workflow(fail, overlap="skip"))
    run = house.history.runs()[0].run_id[:8]

    end = house.command("schedules")

    head, line, *details = end.out.splitlines()
    assert end.code == 0
    assert head.split() == ["Workflow", "Cron", "Zone", "Next", "Last", "State"]
    assert line.split() == [
        *("nightly", "0", "13", "*", "*", "*", BERLIN, "2026-01-03", "13:00:00", "2026-01-02", "13:00:00"),
        *("✗", "Failed"),
    ]
    assert details == [
        f"  late: that of 2026-01-02 13:00:00 (run {run}) failed: load: ValueError: no such column",
        "  no process serves it",
    ]


def test_the_json(house: House) -> None:
    """One object a line, as docs/run-as-json.md has it."""
    house.serve(at(12, 5), house.workflow(fail))
    house.time.advance(timedelta(days=2).total_seconds())
    house.serve(at(12, 10, day=4), house.workflow(fail))
    Control(house.history).pause_workflow("nightly", by="anna", comment="moving")
    run, first = house.history.runs()
    why, missed = "failed: load: ValueError: no such column", "it was missed (catch_up='latest')"

    (line,) = house.command("schedules", "--json").out.splitlines()

    assert json.loads(line) == {
        "schedule": '["nightly", "0 13 * * *", "Europe/Berlin"]',
        "workflow": "nightly",
        "cron": "0 13 * * *",
        "timezone": BERLIN,
        "overlap": "skip",
        "max_parallel": 10,
        "catch_up": "latest",
        "late_after": 900.0,
        "next": "2026-01-05T12:00:00Z",
        "last": {"planned": "2026-01-04T12:00:00Z", "run_id": run.run_id, "state": "Failed", "dropped": ""},
        "dropped": 1,
        "drops": [{"planned": "2026-01-03T12:00:00Z", "reason": missed}],
        "is_served": False,
        "paused": {"by": "anna", "since": "2026-01-04T12:10:00Z", "comment": "moving"},
        "late": [
            {"planned": "2026-01-04T12:00:00Z", "run_id": run.run_id, "why": why},
            {"planned": "2026-01-03T12:00:00Z", "run_id": None, "why": f"was dropped: {missed}"},
            {"planned": "2026-01-02T12:00:00Z", "run_id": first.run_id, "why": why},
        ],
        "error": "",
    }


def test_a_check_of_what_runs_on_time(house: House) -> None:
    """It prints the same, and exits with 0."""
    house.serve(at(12, 30), house.workflow())

    assert house.check() == 0
    assert house.check("--expect", "nightly") == 0


def test_a_check_of_a_failure(house: House) -> None:
    """Until a later firing has completed."""
    house.serve(at(12, 5), house.workflow(fail))
    assert house.check() == 1
    assert house.command("schedules").code == 0

    house.serve(at(12, 5, day=3), house.workflow())
    assert house.check() == 0


def test_a_check_where_no_process_lives(house: House) -> None:
    """It computes what should have run since: a dead man's switch."""
    house.serve(at(12, 5), house.workflow())
    assert house.check() == 0

    house.time.advance(timedelta(days=1).total_seconds())
    assert house.check() == 0  # it has a quarter of an hour
    house.time.advance(timedelta(minutes=10).total_seconds())
    assert house.check() == 1
    assert "has not begun: no process has fired it" in house.command("schedules").out
    house.time.advance(timedelta(days=1).total_seconds())
    assert house.command("schedules").out.count("has not begun") == 2


def test_a_check_without_late_after(house: House) -> None:
    """A firing has to begin until the next one, and may take as long as it does."""
    house.serve(at(12, 5), house.workflow(late_after=None))

    house.time.advance(timedelta(hours=47).total_seconds())
    assert house.check() == 0
    house.time.advance(timedelta(hours=1).total_seconds())
    assert house.check() == 1


def test_what_is_expected_and_unknown(house: House) -> None:
    """A server that no longer has the schedule, or never had, is no reason to be quiet."""
    house.serve(at(12, 5), house.workflow())

    end = house.command("schedules", "--check", "--expect", "nightly", "--expect", "hour\nly", "--expect", "\udcff")

    assert end.code == 1
    assert end.err.splitlines() == [r"No schedule of 'hour\nly' is known.", r"No schedule of '\udcff' is known."]
    end = house.command("schedules", "--expect", "nightly")
    assert end.code == 2
    assert "--expect is for --check" in end.err


def test_nothing_to_check_is_wrong(house: House) -> None:
    """A wrong path would be quiet for ever. The list alone says it, and is no failure."""
    assert house.command("schedules").code == 0
    end = house.command("schedules", "--check")

    assert (end.code, end.out) == (1, "")
    assert end.err.startswith("No schedules in .output/history.db: ")
    assert not (house.folder / ".output").exists()


def test_only_schedules_that_are_served_count(house: House) -> None:
    """What new code has replaced is neither late nor listed; where no server lives, the last one counts."""
    house.serve(at(11, 5), house.workflow())
    house.serve(at(11, 10), house.workflow(cron="0 14 * * *"))
    house.time.advance(timedelta(hours=1).total_seconds())

    assert house.check() == 0
    (found,) = Control(house.history).schedules()
    assert (found.schedule.cron, found.is_served) == ("0 14 * * *", False)


def test_what_waits_for_long_is_shown(house: House) -> None:
    """It is no failure: many runs may be queued at once, and one after the other begins."""
    house.serve(at(12, 5), house.workflow())
    Control(house.history).submit("rep\nort")
    Control(house.history).submit("rep\nort", key="1", at="1h")
    house.time.advance(601)

    end = house.command("schedules", "--check")

    assert end.code == 0
    assert end.err.startswith(r"A run of 'rep\nort' waits in the queue for over 10 minutes, since 2026-01-02 ")


def test_a_paused_workflow(house: House) -> None:
    """Its firings are dropped, and named as late: a pause that was forgotten is an outage."""
    workflow = house.workflow()
    house.serve(at(11, 5), workflow)
    Control(house.history).pause_workflow("nightly", by="an\x1bna")
    house.serve(at(12, 30), workflow)

    end = house.command("schedules", "--check")

    assert end.code == 1
    assert r"paused by an\x1bna since" in end.out
    assert r"was dropped: the workflow was paused by an\x1bna" in end.out


@pytest.mark.parametrize(("name", "value"), [("timezone", "Mars/Phobos"), ("cron", "H 13 * * *"), ("cron", None)])
def test_a_schedule_that_can_not_be_computed_here(house: House, name: str, value: str | None) -> None:
    """It counts as late, and the others are shown. A machine without its zone can't say that it is on time."""
    house.serve(at(12, 5), house.workflow(), house.workflow(workflow_id="other"))
    change = "json_remove(spec, ?)" if value is None else "json_set(spec, ?, ?)"
    with closing(sqlite3.connect(house.history.path)) as file, file:
        values = (f"$.{name}",) if value is None else (f"$.{name}", value)
        file.execute(f"UPDATE schedules SET spec = {change} WHERE workflow = 'nightly'", values)

    end = house.command("schedules", "--check")

    assert end.code == 1
    assert "  can't be computed here: " in end.out
    assert "2026-01-03 13:00:00" in end.out  # of the other one
    assert '"next": null' in house.command("schedules", "--json").out


def test_a_schedule_in_the_zone_of_the_machine(house: House, set_zone: Callable[[str], None]) -> None:
    """The name of that zone is kept: a check from cron, without TZ, computes the same moments."""
    set_zone("Asia/Tokyo")
    house.serve(at(11, 5), house.workflow(timezone=None, cron="0 21 * * *"))
    set_zone("UTC")
    house.time.advance(timedelta(hours=1, minutes=15).total_seconds())

    (found,) = Control(house.history).schedules()
    assert (found.schedule.timezone, found.next) == ("Asia/Tokyo", at(12, day=3))
    assert house.check() == 1
    other = house.workflow(timezone=None, cron="0 21 * * *").config.scheduler.as_schedule("nightly")
    assert other.schedule == '["nightly", "0 21 * * *", "UTC"]' != found.schedule.schedule


def test_names_with_line_ends(house: House) -> None:
    """They stay on their line, also in the alarm of the log."""
    house.serve(at(12, 30), house.workflow(fail, workflow_id="of the\nnight"))

    out = house.command("schedules").out
    assert r"of the\nnight" in out
    assert len(out.splitlines()) == 4


def test_a_history_of_an_earlier_dotflow(house: House) -> None:
    """It has no schedules."""
    path = house.folder / "old.db"
    house.history.close()
    workflow = house.workflow()
    workflow.start()
    house.history.close()
    with closing(sqlite3.connect(house.history.path)) as file, file:
        for table in ("schedules", "wanted", "workflows", "servers", "questions", "orders", "task_notes"):
            file.execute(f"DROP TABLE {table}")
        file.execute("PRAGMA user_version = 2")
    house.history.path.rename(path)

    end = house.command("schedules", "--history", str(path))

    assert (end.code, end.out) == (0, "")
    assert "No schedules in old.db" in end.err
