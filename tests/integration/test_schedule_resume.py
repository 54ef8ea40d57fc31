"""schedule(resume=True): an unfinished run is finished, and no firing is swallowed."""

import os
import signal
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
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
    """Where the 25th fails again, the run of the 26th replaces it: by id and moment, once."""
    runs: dict[int, str] = {}
    nights.fails = lambda day: day == 25

    def note(tasks: list[Task]) -> None:
        runs.setdefault(nights.time.now().day, str(tasks[0].run_id))

    nights.run(3, overlap, mode=mode, on_failure=note)

    moment = f"{datetime(2026, 11, 25, 2, tzinfo=UTC).astimezone():%Y-%m-%d %H:%M:%S}"
    last_run = f"Run {runs[25][:8]}, whose first value is of {moment}"
    assert nights.logged("given up") == [f"{last_run}, is given up: it is unfinished, and a new run replaces it."]
    assert nights.logged("left unfinished") == [f"{last_run}, was left unfinished and goes on."]
    assert (nights.begun, nights.reports) == ([25, 26, 27], [26, 27])


@pytest.mark.parametrize("overlap", OVERLAPS)
def test_an_unfinished_run_is_finished_at_once_when_the_scheduler_starts(nights: Nights, overlap: str) -> None:
    """The process ends at night and is started again in the morning: it does not wait for the next night."""
    nights.fails = lambda day: nights.time.now().hour == 2
    nights.run(0.5, overlap)
    nights.fails = lambda day: False

    finished: list[datetime] = []
    nights.run(1, overlap, on_success=lambda tasks: finished.append(nights.time.now()))

    assert finished == [EVENING + timedelta(days=0.5), EVENING + timedelta(hours=30)]
    assert nights.reports == [25, 26]


@pytest.mark.parametrize("overlap", OVERLAPS)
def test_a_run_that_fails_at_its_start_is_tried_again_before_it_is_given_up(nights: Nights, overlap: str) -> None:
    """Nothing replaces it at the start, so the next firing finishes it."""
    nights.fails = lambda day: nights.time.now() < EVENING + timedelta(days=1)
    nights.run(0.5, overlap)

    nights.run(1, overlap)

    assert (nights.begun, nights.reports) == ([25, 26], [25, 26])
    assert nights.logged("given up") == []


@pytest.mark.parametrize("overlap", OVERLAPS)
def test_a_firing_while_an_unfinished_run_is_finished_begins_after_it(nights: Nights, overlap: str) -> None:
    """Started at 01:00, the old run takes two hours: the firing of 02:00 is not dropped, whatever `overlap` is."""
    nights.fails = lambda day: nights.time.now().hour == 2
    nights.run(0.5, overlap)
    nights.fails = lambda day: False
    nights.time.advance(17 * 3600)
    nights.work = lambda: nights.time.sleep(7200)

    nights.run(0.5, overlap)

    assert nights.begun == [25, 26]
    assert nights.reports == [25, 26]
    assert nights.logged("dropped") == []


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
    assert nights.logged("dropped") == ["1 run of 2026-11-26 02:00:00+00:00 dropped, since the schedule ends."]


@pytest.mark.parametrize("overlap", OVERLAPS)
def test_a_run_that_can_no_longer_be_resumed_does_not_stop_the_schedule(nights: Nights, overlap: str) -> None:
    """The step was renamed: the log has the error, and the night has its run."""
    nights.fails = lambda day: nights.time.now().day == 25
    nights.run(1, overlap)

    nights.run(1, overlap, linked=True)  # whose second step has another name

    assert nights.reports[-1] == 26
    assert len(nights.logged("given up")) <= 1


@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize("overlap", OVERLAPS)
def test_where_nothing_was_left_each_firing_is_one_run(nights: Nights, overlap: str, linked: bool) -> None:
    """After a completed run nothing is finished."""
    ended: list[int] = []

    nights.run(2, overlap, linked=linked, on_success=lambda tasks: ended.append(nights.time.now().day))

    assert (nights.begun, nights.reports, ended) == ([25, 26], [25, 26], [25, 26])
    assert nights.logged("unfinished") == []


@pytest.mark.parametrize("overlap", OVERLAPS)
def test_it_has_whether_the_run_of_the_firing_follows(nights: Nights, overlap: str) -> None:
    """During the unfinished run another one begins right after it, with each `overlap`."""
    nights.fails = lambda day: nights.time.now().day == 25
    scheduler = SchedulerCron("0 2 * * *", overlap=overlap, timezone="UTC")
    follows: list[bool] = []
    nights.time.after(2 * DAY, scheduler.stop)

    nights.workflow(scheduler).schedule(
        resume=True, on_success=lambda tasks: follows.append(scheduler.has_queued), on_failure=lambda tasks: None
    )

    assert follows == [True, False]


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
@pytest.mark.parametrize("fails_again", [False, True])
def test_a_scheduler_of_ones_own_swallows_no_firing(nights: Nights, mode: str, fails_again: bool) -> None:
    """Each call of `start` finishes what is unfinished, and then begins a new run."""
    nights.fails = lambda day: day == 25 and (fails_again or nights.time.now().day == 25)

    nights.workflow(SchedulerTwice(nights.time)).schedule(resume=True, mode=mode)

    assert nights.begun == [25, 26]
    assert nights.reports == ([26] if fails_again else [25, 26])
    assert len(nights.logged("given up")) == fails_again


async def both(workflow: DotFlow) -> list[Any]:
    await workflow.astart(resume="then_anew")
    return workflow.result_storage()


def test_in_an_event_loop_it_is_the_same(nights: Nights) -> None:
    """`astart` finishes and begins without blocking the loop."""
    import asyncio

    nights.fails = lambda day: nights.time.now().day == 24
    workflow = nights.workflow(SchedulerTwice(nights.time))
    workflow.start()
    nights.time.advance(DAY)

    assert asyncio.run(both(workflow))[1] == 25
    assert nights.reports == [24, 25]


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


def test_after_a_kill_before_the_first_value_the_next_process_runs_it_again_once(
    scripts: Scripts, tmp_path: Path
) -> None:
    """Nothing was saved, so it begins again at once. A step that kills each process does not stop the schedule.

    The log names the run that is given up then.
    """
    (tmp_path / "jobs.py").write_text(JOB.replace("previous_context)", ")").replace("previous_context.storage", "25"))
    step = ("schedule", "--step", "jobs.report", "--storage", "file", "--resume", "--cron")
    for cron in ("* * * * * *", "0 0 29 2 *"):
        with scripts.command(*step, cron) as command:
            assert command.line() == "began"
            end = command.end()
            assert end.code == -signal.SIGKILL
    assert end.err.count(", was cut off before its first value: it runs again.") == 1

    with scripts.command(*step, "* * * * * *") as command:  # tried once: the firing's own run is next
        assert command.line() == "began"
        end = command.end()
    assert "it runs again" not in end.err
    assert end.err.count(", is given up: it was cut off before its first value, and a new run replaces it.") == 1
    (tmp_path / "go").touch()

    with scripts.command(*step, "0 0 29 2 *") as command:
        lines = [command.line(), command.line(), command.line()]
        command.send(signal.SIGTERM)
        command.end()
    assert lines[0] == "report of 25"
    assert lines[2].startswith("Completed: ")
    with scripts.command(*step, "0 0 29 2 *") as command:
        while not command.error_line().startswith("Next: "):
            pass
        command.send(signal.SIGTERM)
        assert command.end().out == ""


def test_a_finished_run_of_cached_steps_is_not_repeated(tmp_path: Path) -> None:
    """It was killed after its first value, and finished by hand. A schedule has nothing to finish then."""
    log, parent = Lines(), os.getpid()

    @action(cache=True)
    def today() -> int:
        return 25

    @action(cache=True)
    def report(today: int) -> int:
        if os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return today

    made = DotFlow(Config(storage=StorageFile(tmp_path), log=log), workflow_id="nightly")
    made.task.add([today, report])
    if not (child := os.fork()):
        made.start(resume="anew")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    made.start(resume=True)
    del log.messages[:]

    made.start(resume="then_anew")

    assert log.messages == []


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


def test_after_a_kill_the_next_process_finishes_the_run_at_once(scripts: Scripts, tmp_path: Path) -> None:
    """`kill -9` in the middle of a run, then the same command again: it does not wait for the next firing."""
    (tmp_path / "jobs.py").write_text(JOB)
    step = ("schedule", "--step", "jobs.today", "--step", "jobs.report", "--storage", "file", "--resume", "--cron")
    with scripts.command(*step, "* * * * * *") as command:
        assert [command.line(), command.line()] == ["today", "began"]
        assert command.end().code == -signal.SIGKILL
    (tmp_path / "go").touch()

    with scripts.command(*step, "0 0 29 2 *") as command:
        lines = [command.line()]
        while not lines[-1].startswith("Completed: "):
            lines.append(command.line())
        command.send(signal.SIGTERM)
        end = command.end()

    assert lines[0] == "report of 25"
    assert "task 0 today: Completed, restored" in lines
    assert " was left unfinished and goes on." in end.err
    assert end.code == 0


class Days:
    """A report of the day before each night, by its parameter. It notes the days that completed, and the moments."""

    def __init__(self, nights: Nights) -> None:
        self.nights = nights
        self.done: list[tuple[int, int]] = []
        self.fails: Callable[[date], bool] = lambda day: False
        self.is_late = False  # whether it fails after its first value is saved

    def run(self, days: float, overlap: str = "skip", **arguments: Any) -> None:
        """Runs a schedule at 02:00 for so many days, as a process of its own would."""

        @action
        def load(day: date) -> date:
            if self.fails(day) and not self.is_late:
                raise ConnectionError(f"no mail on {day}")
            return day

        @action
        def report(load: date) -> None:
            if self.fails(load):
                raise ConnectionError(f"no mail on {load}")
            self.done.append((load.day, self.nights.time.now().day))

        scheduler = SchedulerCron("0 2 * * *", overlap, "UTC", params=lambda at: {"day": at.date() - timedelta(days=1)})
        config = Config(storage=self.nights.storage, log=self.nights.log, scheduler=scheduler)
        made = DotFlow(config, workflow_id="nightly", params={"day": ...})
        made.task.add([load, report])
        self.nights.time.after(days * DAY, scheduler.stop)
        made.schedule(**{"resume": True, **arguments})


@pytest.mark.exhaustive(keep_every=12)
@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize("mode", ["sequential", "background"])
@pytest.mark.parametrize("overlap", OVERLAPS)
def test_a_day_that_failed_is_finished_before_the_next_one_runs(
    nights: Nights, overlap: str, mode: str, is_late: bool
) -> None:
    """With its own parameters, whether it has saved a value or not; once, and then it stays as it is."""
    days = Days(nights)
    days.is_late = is_late
    days.fails = lambda day: nights.time.now().day == 26 or day.day == 27

    days.run(5, overlap, mode=mode)

    assert days.done == [(24, 25), (25, 27), (26, 27), (28, 29)]


@pytest.mark.exhaustive(keep_every=3)
@pytest.mark.parametrize("overlap", OVERLAPS)
def test_a_process_that_begins_days_later_finishes_the_last_day(nights: Nights, overlap: str) -> None:
    """At once, with the parameters of that day, though other nights were missed since."""
    days = Days(nights)
    days.is_late = True
    days.fails = lambda day: day.day == 25
    days.run(2, overlap)
    nights.time.advance(3 * DAY)
    days.fails = lambda day: False

    days.run(1, overlap)

    assert days.done == [(24, 25), (25, 29), (29, 30)]


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
    assert nights.logged("1 run of 2026-11-26 02:00:00+00:00 dropped: its params raised ValueError: a holiday")
