"""schedule(resume=True): an unfinished run is finished before the next one, and no scheduled run is swallowed."""

import signal
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from dotflow import Config, DotFlow, action
from dotflow.abc.scheduler import Scheduler
from dotflow.abc.storage import Storage
from dotflow.core.task import Task
from dotflow.providers import SchedulerCron, StorageDefault, StorageFile
from dotflow.testing import VirtualClock, virtual_clock
from tests.integration.children import Scripts
from tests.integration.test_schedules import Lines
from tests.storages import StorageThree

OVERLAPS = ["skip", "queue", "parallel"]
EVENING = datetime(2026, 11, 24, 20, tzinfo=UTC)
DAY = 24 * 3600


class Nights:
    """A report of each night, whose first step finds out which night it is. It notes the nights that ran."""

    def __init__(self, storage: Storage, time: VirtualClock) -> None:
        self.storage = storage
        self.time = time
        self.begun: list[int] = []
        self.reports: list[int] = []
        self.log = Lines()
        self.fails: Callable[[int], bool] = lambda day: False
        self.work: Callable[[], object] = lambda: None

    def workflow(self, scheduler: Scheduler, *, linked: bool = False) -> DotFlow:
        @action
        def today() -> date:
            self.begun.append(self.time.now().day)
            return self.time.now().date()

        @action
        def report(previous_context: Any) -> int:
            return self.report(previous_context.storage)

        @action
        def linked_report(today: date) -> int:
            return self.report(today)

        made = DotFlow(Config(storage=self.storage, log=self.log, scheduler=scheduler), workflow_id="nightly")
        made.task.add(today).add(linked_report if linked else report)
        return made

    def report(self, day: date) -> int:
        self.work()
        if self.fails(day.day):
            raise ConnectionError(f"no mail on {day}")
        self.reports.append(day.day)
        return day.day

    def run(self, days: float, overlap: str = "skip", *, linked: bool = False, **arguments: Any) -> None:
        """Runs a schedule at 02:00 for so many days, as a process of its own would."""
        scheduler = SchedulerCron("0 2 * * *", overlap=overlap, timezone="UTC")
        self.time.after(days * DAY, scheduler.stop)
        self.workflow(scheduler, linked=linked).schedule(resume=True, **arguments)

    def logged(self, words: str) -> list[str]:
        return [line for line in self.log.messages if words in line]


@pytest.fixture(params=["memory", "three methods", "file"])
def nights(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """The evening of the 24th; the next night is the 25th."""
    makers: dict[str, Callable[[], Storage]] = {
        "memory": StorageDefault,
        "three methods": StorageThree,
        "file": lambda: StorageFile(tmp_path),
    }
    with virtual_clock(EVENING) as time:
        yield Nights(makers[request.param](), time)


@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize("overlap", OVERLAPS)
def test_a_night_that_failed_is_finished_and_the_next_one_runs(nights: Nights, overlap: str, linked: bool) -> None:
    """The 25th fails; the 26th finishes it with its own date, and then has a run of its own."""
    nights.fails = lambda day: nights.time.now().day == 25

    nights.run(3, overlap, linked=linked)

    assert nights.begun == [25, 26, 27]
    assert nights.reports == [25, 26, 27]
    assert nights.logged("given up") == []


@pytest.mark.parametrize("mode", ["sequential", "background"])
@pytest.mark.parametrize("overlap", OVERLAPS)
def test_the_log_names_the_run_that_is_given_up(nights: Nights, overlap: str, mode: str) -> None:
    """Where the 25th fails again, the run of the 26th replaces it, and the log has its id, once."""
    given_up: list[str] = []
    nights.fails = lambda day: day == 25

    def note(tasks: list[Task]) -> None:
        if nights.time.now().day == 26:
            given_up.append(f"Run {tasks[0].run_id} is given up: it is unfinished, and a new run replaces it.")

    nights.run(3, overlap, mode=mode, on_failure=note)

    assert nights.logged("given up") == given_up
    assert len(given_up) == 1
    assert (nights.begun, nights.reports) == ([25, 26, 27], [26, 27])


@pytest.mark.parametrize("overlap", OVERLAPS)
def test_a_stop_while_an_unfinished_run_is_finished_drops_the_firing(nights: Nights, overlap: str) -> None:
    """The active run ends, and no other begins."""
    nights.fails = lambda day: nights.time.now().day == 25
    nights.run(1, overlap)
    scheduler = SchedulerCron("0 2 * * *", overlap=overlap, timezone="UTC")
    nights.fails = lambda day: nights.time.now().hour != 2
    nights.work = lambda: scheduler.stop() if nights.time.now().hour == 2 else None

    nights.workflow(scheduler).schedule(resume=True)

    assert (nights.begun, nights.reports) == ([25], [25])
    assert nights.logged("dropped") == ["1 scheduled run dropped, 2026-11-26 02:00:00 UTC: the schedule ends."]


@pytest.mark.parametrize("overlap", OVERLAPS)
def test_a_run_that_can_no_longer_be_resumed_does_not_stop_the_schedule(nights: Nights, overlap: str) -> None:
    """The step was renamed: the log has the error, and the night has its run."""
    nights.fails = lambda day: nights.time.now().day == 25
    nights.run(1, overlap)

    nights.run(1, overlap, linked=True)  # whose second step has another name

    assert nights.reports[-1] == 26
    assert nights.logged("given up") == []


@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize("overlap", OVERLAPS)
def test_where_nothing_was_left_each_firing_is_one_run(nights: Nights, overlap: str, linked: bool) -> None:
    """After a completed run nothing is finished."""
    ended: list[int] = []

    nights.run(2, overlap, linked=linked, on_success=lambda tasks: ended.append(nights.time.now().day))

    assert (nights.begun, nights.reports, ended) == ([25, 26], [25, 26], [25, 26])
    assert nights.logged("unfinished") == []


class SchedulerTwice(Scheduler):
    """Fires on two nights, as a user's scheduler might."""

    def __init__(self, time: VirtualClock) -> None:
        self.time = time

    def start(self, workflow: Any, **kwargs: Any) -> None:
        for _ in range(2):
            self.time.advance(DAY)
            workflow.start(**kwargs).wait()

    def stop(self) -> None: ...


@pytest.mark.parametrize("mode", ["sequential", "background"])
def test_a_scheduler_of_ones_own_goes_on_with_an_unfinished_run(nights: Nights, mode: str) -> None:
    """Each call of `start` is one run: of what is unfinished, or else a new one."""
    nights.fails = lambda day: nights.time.now().day == 25

    nights.workflow(SchedulerTwice(nights.time)).schedule(resume=True, mode=mode)

    assert (nights.begun, nights.reports) == ([25], [25])


JOB = """
import os, pathlib
from datetime import date
from dotflow import action

@action
def today():
    print("today", flush=True)
    return 25

@action
def report(previous_context):
    if not pathlib.Path("go").exists():
        print("began", flush=True)
        os.kill(os.getpid(), 9)
    print("report of", previous_context.storage, flush=True)
"""


def test_a_run_that_fails_before_its_first_value_leaves_nothing(nights: Nights) -> None:
    """There is nothing to go on with: each firing is one run."""
    ends: list[int] = []
    scheduler = SchedulerCron("0 2 * * *", timezone="UTC")
    nights.time.after(2 * DAY, scheduler.stop)

    @action
    def fails() -> None:
        raise ValueError

    made = DotFlow(Config(storage=nights.storage, log=nights.log, scheduler=scheduler), workflow_id="nightly")
    made.task.add(fails)
    made.schedule(resume=True, on_failure=lambda tasks: ends.append(nights.time.now().day))

    assert ends == [25, 26]
    assert nights.logged("unfinished") == nights.logged("cut off") == []


def test_after_a_kill_the_next_process_finishes_the_run(scripts: Scripts, tmp_path: Path) -> None:
    """`kill -9` in the middle of a run, then the same command again: before its next scheduled run."""
    (tmp_path / "jobs.py").write_text(JOB)
    step = ("schedule", "--step", "jobs.today", "--step", "jobs.report", "--storage", "file", "--resume", "--cron")
    with scripts.command(*step, "* * * * * *") as command:
        assert [command.line(), command.line()] == ["today", "began"]
        assert command.end().code == -signal.SIGKILL
    (tmp_path / "go").touch()

    with scripts.command(*step, "* * * * * *") as command:
        lines = [command.line()]
        while "today" not in lines:
            lines.append(command.line())
        command.send(signal.SIGTERM)
        end = command.end()

    assert lines[0] == "report of 25"
    assert "task 0 today: Completed, restored" in lines
    assert end.code == 0


@pytest.mark.parametrize("overlap", OVERLAPS)
def test_a_firing_whose_parameters_fail_is_dropped(nights: Nights, overlap: str) -> None:
    """It is reported, and the schedule goes on."""

    def workday(planned: datetime) -> dict[str, Any]:
        if planned.day == 26:
            raise ValueError("a holiday")
        return {"day": planned.date()}

    ran: list[int] = []
    scheduler = SchedulerCron("0 2 * * *", overlap, "UTC", params=workday)
    made = DotFlow(Config(storage=nights.storage, log=nights.log, scheduler=scheduler), params={"day": ...})
    made.task.add(action(lambda day: ran.append(day.day)))
    nights.time.after(3 * DAY, scheduler.stop)
    made.schedule()

    assert ran == [25, 27]
    assert nights.logged("1 scheduled run dropped, 2026-11-26 02:00:00 UTC: its params raised ValueError: a holiday.")
