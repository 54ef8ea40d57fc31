"""SchedulerCron on the virtual clock: clock changes, drift, corrections of the wall clock, and overlaps."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dotflow import Config, Context, DotFlow, action
from dotflow.abc.log import Log
from dotflow.core.task import Task
from dotflow.errors import AlreadyScheduled
from dotflow.providers import SchedulerCron, StorageDefault
from dotflow.providers.schedulers.runs import ScheduledRuns
from dotflow.testing import VirtualClock, virtual_clock
from tests.dst_table import JOBS, NIGHTS, ZONE, moments_of

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
OVERLAPS = ["skip", "queue", "parallel"]


class Lines(Log):
    """Keeps what is reported."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    @property
    def is_silent(self) -> bool:
        return True

    def info(self, task: Task) -> None:
        """Does nothing."""

    def error(self, task: Task) -> None:
        """Does nothing."""

    def report(self, message: str) -> None:
        self.messages.append(message)


class Schedule:
    """A workflow of one step on a schedule, with the times of its runs."""

    def __init__(
        self, time: VirtualClock, cron: str, work: Callable[[], object] = lambda: None, **arguments: Any
    ) -> None:
        self.time = time
        self.ran: list[datetime] = []
        self.runs: list[str] = []  # their ids
        self.log = Lines()
        self.scheduler = SchedulerCron(cron, timezone=arguments.pop("timezone", "UTC"), **arguments)
        self.workflow = DotFlow(Config(scheduler=self.scheduler, log=self.log))

        def step() -> object:
            self.ran.append(time.now())
            self.runs.append(self.workflow.last.run_id)
            return work()

        self.workflow.task.add(action(step))

    def run(self, seconds: float, **arguments: Any) -> list[str]:
        """Runs the schedule for a time in seconds; returns the times of its runs."""
        self.time.after(seconds, self.scheduler.stop)
        self.workflow.schedule(**arguments)
        return [f"{moment:%H:%M:%S}" for moment in self.ran]


@pytest.fixture
def time() -> Any:
    """Noon, on the first of June 2026."""
    with virtual_clock(NOON) as clock:
        yield clock


@pytest.mark.parametrize("is_away", [False, True])
def test_no_message_has_a_secret(time: VirtualClock, monkeypatch: pytest.MonkeyPatch, is_away: bool) -> None:
    """Of Config(secrets=...), or where its source is away, of the environment."""
    monkeypatch.setenv("OTHER_TOKEN", "horse-battery")

    def secrets(name: str) -> str:
        if is_away:
            raise ConnectionError
        return "correct-staple"

    def refuse(planned: datetime) -> dict[str, Any]:
        raise ValueError("401 for horse-battery" if is_away else "401 for correct-staple")

    log, scheduler = Lines(), SchedulerCron("0 * * * *", timezone="UTC", params=refuse)
    workflow = DotFlow(Config(scheduler=scheduler, log=log, secrets=secrets, mask=["API"]))
    workflow.task.add(action(lambda: 1))
    time.after(3700, scheduler.stop)
    workflow.schedule()

    assert log.messages == [
        "1 scheduled run dropped, 2026-06-01 13:00:00 UTC: its params raised ValueError: 401 for ***."
    ]


# Clock changes

SPRING, AUTUMN = NIGHTS
EST, EDT = timedelta(hours=5), timedelta(hours=4)


def at(day: tuple[int, int], hour: int, minute: int, offset: timedelta) -> datetime:
    return datetime(2026, *day, hour, minute, tzinfo=UTC) + offset


QUARTERS = (0, 15, 30, 45)
MARCH, NOVEMBER = (3, 8), (11, 1)
FIRED = {
    ("30 1 * * *", SPRING): [at(MARCH, 1, 30, EST)],
    ("30 1 * * *", AUTUMN): [at(NOVEMBER, 1, 30, EDT)],
    ("30 2 * * *", SPRING): [at(MARCH, 3, 0, EDT)],
    ("30 2 * * *", AUTUMN): [at(NOVEMBER, 2, 30, EST)],
    ("0 * * * *", SPRING): [at(MARCH, 0, 0, EST), at(MARCH, 1, 0, EST), at(MARCH, 3, 0, EDT)],
    ("0 * * * *", AUTUMN): [
        at(NOVEMBER, 0, 0, EDT),
        at(NOVEMBER, 1, 0, EDT),
        at(NOVEMBER, 1, 0, EST),
        at(NOVEMBER, 2, 0, EST),
        at(NOVEMBER, 3, 0, EST),
    ],
    ("*/15 * * * *", SPRING): [
        *(at(MARCH, hour, minute, EST) for hour in (0, 1) for minute in QUARTERS),
        *(at(MARCH, 3, minute, EDT) for minute in QUARTERS),
    ],
    ("*/15 * * * *", AUTUMN): [
        *(at(NOVEMBER, hour, minute, EDT) for hour in (0, 1) for minute in QUARTERS),
        *(at(NOVEMBER, hour, minute, EST) for hour in (1, 2, 3) for minute in QUARTERS),
    ],
}


@pytest.mark.parametrize("night", NIGHTS)
@pytest.mark.parametrize("cron", JOBS)
def test_it_fires_on_both_nights_as_debians_cron_does(cron: str, night: str) -> None:
    """In New York: a daily job runs once, a job with a star at equal intervals."""
    midnight, hours = NIGHTS[night]

    assert moments_of(cron, midnight, hours) == FIRED[cron, night]


def test_a_year_of_nights_is_a_year_of_runs() -> None:
    """A nightly job at the skipped and repeated hour runs 365 times in a year."""
    ran = moments_of("30 2 * * *", datetime(2026, 1, 1, 5, tzinfo=UTC), 365 * 24)

    assert len(ran) == 365
    assert moments_of("0 30 2 * * *", datetime(2026, 1, 1, 5, tzinfo=UTC), 365 * 24, ZONE) == ran


# No drift


@pytest.mark.exhaustive
def test_hours_of_firings_do_not_drift(time: VirtualClock) -> None:
    """Every five seconds for three hours, with runs that take some time, each is on its second."""
    schedule = Schedule(time, "*/5 * * * * *", lambda: time.sleep(1.7))

    schedule.run(3 * 3600)

    assert schedule.ran == [NOON + timedelta(seconds=5 * number) for number in range(1, 3 * 720)]


# Corrections of the wall clock


def test_set_back_by_an_hour_nothing_is_repeated(time: VirtualClock) -> None:
    """Past firings are not repeated when the wall clock passes them again; then it goes on."""
    schedule = Schedule(time, "*/20 * * * *")
    time.after(3601, lambda: time.jump_wall(-3600))

    assert schedule.run(3 * 3600 + 1) == ["12:20:00", "12:40:00", "13:00:00", "13:20:00", "13:40:00", "14:00:00"]
    assert schedule.log.messages == []


def test_set_forward_missed_firings_are_one_run(time: VirtualClock) -> None:
    """Three hours ahead: one run for all missed firings, at the next check, and a log record."""
    schedule = Schedule(time, "*/20 * * * *")
    time.after(1201, lambda: time.jump_wall(3 * 3600))

    ran = schedule.run(3000)

    assert ran[0] == "12:20:00"
    assert NOON + timedelta(hours=3, seconds=1201) <= schedule.ran[1] <= NOON + timedelta(hours=3, seconds=1231)
    assert ran[2:] == ["15:40:00"]
    missed = "2026-06-01 12:40:00 UTC to 2026-06-01 15:00:00 UTC: it was missed (catch_up='latest')"
    assert schedule.log.messages == [f"8 scheduled runs dropped, {missed}."]


def test_a_moment_that_only_leaves_out_gets_no_run_and_is_reported(time: VirtualClock) -> None:
    schedule = Schedule(time, "*/20 * * * *", only=lambda planned: planned.minute != 20)

    ran = schedule.run(2 * 3600 - 1)

    assert ran == ["12:40:00", "13:00:00", "13:40:00"]
    assert schedule.log.messages == [
        f"1 scheduled run dropped, 2026-06-01 {moment} UTC: only=<lambda> leaves it out."
        for moment in ("12:20:00", "13:20:00")
    ]


def test_the_last_moment_that_only_does_not_leave_out_is_caught_up(time: VirtualClock) -> None:
    """The machine slept until 15:05; 15:00 is left out."""
    schedule = Schedule(time, "0 * * * *", only=lambda planned: planned.hour != 15)
    time.after(60, lambda: time.jump_wall(3 * 3600 + 240))

    ran = schedule.run(600)

    assert [moment[:2] for moment in ran] == ["15"]
    assert schedule.log.messages == [
        "1 scheduled run dropped, 2026-06-01 13:00:00 UTC: it was missed (catch_up='latest').",
        "1 scheduled run dropped, 2026-06-01 15:00:00 UTC: only=<lambda> leaves it out.",
    ]


def test_only_that_raises_drops_its_run_and_the_schedule_goes_on(time: VirtualClock) -> None:
    def is_workday(planned: datetime) -> bool:
        if planned.hour == 13:
            raise LookupError("no calendar for 2026")
        return True

    schedule = Schedule(time, "0 * * * *", only=is_workday)

    assert schedule.run(2.5 * 3600) == ["14:00:00"]
    assert schedule.log.messages == [
        "1 scheduled run dropped, 2026-06-01 13:00:00 UTC: only=is_workday raised LookupError: no calendar for 2026."
    ]


@pytest.mark.parametrize(("catch_up", "days"), [("none", [2, 6]), ("all", [2, 3, 4, 5, 6]), ("10h", [2, 5, 6])])
def test_missed_runs_are_caught_up_as_in_serve(catch_up: str, days: list[int], time: VirtualClock) -> None:
    """The machine slept over three nights, until the morning of the third one."""
    ran: list[int] = []
    scheduler = SchedulerCron("0 2 * * *", timezone="UTC", catch_up=catch_up, params=lambda at: {"day": at.day})
    workflow = DotFlow(Config(scheduler=scheduler, log=Lines()), params={"day": ...})
    workflow.task.add(action(lambda day: ran.append(day)))
    time.after(15 * 3600, lambda: time.jump_wall(3 * 86_400 + 8 * 3600))
    time.after(40 * 3600, scheduler.stop)

    workflow.schedule()

    assert ran == days


def test_a_suspend_is_noticed_soon(time: VirtualClock) -> None:
    """The monotonic clock stops while the machine sleeps: the run is late by half a minute."""
    schedule = Schedule(time, "0 13 * * *")
    time.after(600, lambda: time.jump_wall(3600))

    schedule.run(700)

    assert len(schedule.ran) == 1
    assert timedelta(hours=1, seconds=600) <= schedule.ran[0] - NOON <= timedelta(hours=1, seconds=630)
    assert time.now() == NOON + timedelta(seconds=4300)
    assert schedule.log.messages == []  # it was one moment


def test_it_follows_a_wrong_clock_that_is_corrected(time: VirtualClock) -> None:
    """A clock that was a year ahead goes back: the schedule follows the new time and logs that."""
    time.jump_wall(365 * 86_400)
    schedule = Schedule(time, "*/20 * * * *")
    time.after(1201, lambda: time.jump_wall(-365 * 86_400))

    assert schedule.run(3601) == ["12:20:00", "12:40:00", "13:00:00"]
    assert ["went back by 36" in line for line in schedule.log.messages] == [True]


def test_small_steps_of_the_clock_make_no_second_run(time: VirtualClock) -> None:
    """A clock that is corrected by half a second right after a firing does not fire twice."""
    schedule = Schedule(time, "* * * * *", lambda: time.jump_wall(-0.5))

    assert schedule.run(200) == ["12:01:00", "12:02:00", "12:03:00"]


# A run that is longer than the period


def test_skip_drops_firings_during_a_run(time: VirtualClock) -> None:
    """Runs of 150 seconds every minute: two are dropped each time, and logged."""
    schedule = Schedule(time, "* * * * *", lambda: time.sleep(150), overlap="skip")

    assert schedule.run(500) == ["12:01:00", "12:04:00", "12:07:00"]
    assert schedule.log.messages == [
        f"2 scheduled runs dropped, 2026-06-01 12:0{minute + 1}:00 UTC, 2026-06-01 12:0{minute + 2}:00 UTC: "
        f"run {run[:8]} is running since 12:0{minute}."
        for minute, run in zip((1, 4, 7), schedule.runs, strict=True)
    ]


def test_queue_keeps_one(time: VirtualClock) -> None:
    """The first firing meanwhile runs right after; the others are dropped, and logged."""
    schedule = Schedule(time, "* * * * *", lambda: time.sleep(150), overlap="queue")

    assert schedule.run(400) == ["12:01:00", "12:03:30", "12:06:00"]
    assert schedule.log.messages[:2] == [
        "1 scheduled run dropped, 2026-06-01 12:03:00 UTC: another run is queued since 12:02.",
        "2 scheduled runs dropped, 2026-06-01 12:05:00 UTC, 2026-06-01 12:06:00 UTC: another run is queued since "
        "12:04.",
    ]


def test_parallel_runs_up_to_its_limit(time: VirtualClock) -> None:
    """Two at once; the third is dropped, and logged."""
    schedule = Schedule(time, "* * * * *", lambda: time.sleep(150), overlap="parallel", max_parallel=2)

    assert schedule.run(400) == ["12:01:00", "12:02:00", "12:04:00", "12:05:00"]
    assert [line for line in schedule.log.messages if "max_parallel" in line] == [
        f"1 scheduled run dropped, 2026-06-01 12:0{minute}:00 UTC: 2 runs are active (max_parallel=2): "
        f"run {schedule.runs[number][:8]} is running since 12:0{minute - 2}."
        for minute, number in ((3, 0), (6, 2))
    ]


@pytest.mark.parametrize("overlap", ["skip", "queue"])
def test_a_run_in_the_background_is_active_until_it_is_over(overlap: str, time: VirtualClock) -> None:
    """mode="background" returns at once, but the run is active until its end."""
    schedule = Schedule(time, "* * * * *", lambda: time.sleep(90), overlap=overlap)

    ran = schedule.run(250, mode="background")

    assert ran == (["12:01:00", "12:03:00"] if overlap == "skip" else ["12:01:00", "12:02:30", "12:04:00"])


@pytest.mark.parametrize("overlap", OVERLAPS)
def test_retries_take_no_time_on_the_virtual_clock(overlap: str, time: VirtualClock) -> None:
    """A delay of an hour between attempts is an hour of the schedule."""
    attempts: list[str] = []

    @action(retry=3, retry_delay=3600)
    def failing() -> None:
        attempts.append(f"{time.now():%d %H:%M}")
        raise ValueError

    schedule = Schedule(time, "0 0 * * *", overlap=overlap)
    schedule.workflow.task.clear().add(failing)
    schedule.run(86_400)

    assert attempts == ["02 00:00", "02 01:00", "02 02:00"]


# A run that raises


class BrokenStorage(StorageDefault):
    """Can't be cleared on the first day."""

    def __init__(self) -> None:
        super().__init__()
        self.is_broken = True

    def clear(self, workflow_id: str) -> bool:
        if self.is_broken:
            self.is_broken = False
            raise OSError("the disk is gone")
        return super().clear(workflow_id)

    def post(self, key: str, context: Context) -> None:
        super().post(key, context)


@pytest.mark.parametrize("mode", ["sequential", "background"])
@pytest.mark.parametrize("overlap", OVERLAPS)
def test_a_run_that_raises_does_not_end_the_schedule(overlap: str, mode: str, time: VirtualClock) -> None:
    """It is reported with its traceback, and the next one runs."""
    schedule = Schedule(time, "* * * * *", overlap=overlap)
    schedule.workflow.config.storage = BrokenStorage()

    assert schedule.run(130, mode=mode) == ["12:02:00"]
    assert ["the disk is gone" in line and "Traceback" in line for line in schedule.log.messages] == [True]
    assert "2026-06-01 12:01:00+00:00" in schedule.log.messages[0]


@pytest.mark.parametrize("overlap", OVERLAPS)
@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_another_exception_ends_it(error: type[BaseException], overlap: str, time: VirtualClock) -> None:
    """sys.exit() in on_success ends it, as does a KeyboardInterrupt without a signal."""

    def end(tasks: list[Task]) -> None:
        raise error(3)

    schedule = Schedule(time, "* * * * *", overlap=overlap)

    with pytest.raises(error):
        schedule.run(600, on_success=end)
    assert len(schedule.ran) == 1
    assert schedule.run(130)  # and it may be started again


def test_a_log_that_raises_does_not_end_it(time: VirtualClock, caplog: pytest.LogCaptureFixture) -> None:
    """The message goes to Python's own logging."""
    schedule = Schedule(time, "* * * * *", lambda: time.sleep(90))

    def refuse(message: str) -> None:
        raise OSError("full")

    schedule.log.report = refuse  # type: ignore[method-assign]

    assert schedule.run(250) == ["12:01:00", "12:03:00"]
    assert "1 scheduled run dropped, " in caplog.text
    assert "OSError: full" in caplog.text


# Stopping and starting


@pytest.mark.parametrize("overlap", OVERLAPS)
def test_stop_in_a_step_lets_the_run_end(overlap: str, time: VirtualClock) -> None:
    """There is no deadlock, and the run completes."""
    schedule = Schedule(time, "* * * * *", overlap=overlap)
    schedule.workflow.task.clear().add(action(schedule.scheduler.stop)).add(action(lambda: "whole"))

    schedule.workflow.schedule()

    assert schedule.workflow.result_storage() == [None, "whole"]
    assert time.now() == NOON + timedelta(minutes=1)


@pytest.mark.parametrize("overlap", OVERLAPS)
def test_stop_right_before_a_run_begins(overlap: str, time: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run does not begin, and the log says so."""
    schedule = Schedule(time, "* * * * *", overlap=overlap)
    arguments_of = ScheduledRuns._arguments_of

    def stop_and(runs: ScheduledRuns, due: datetime) -> object:
        schedule.scheduler.stop()
        return arguments_of(runs, due)

    monkeypatch.setattr(ScheduledRuns, "_arguments_of", stop_and)

    assert schedule.run(250) == []
    assert schedule.log.messages == ["1 scheduled run dropped, 2026-06-01 12:01:00 UTC: the schedule ends."]


@pytest.mark.parametrize("overlap", OVERLAPS)
def test_stop_from_another_thread_waits_for_the_run(overlap: str) -> None:
    """In real time: stop() returns at once, start() after the run, and no further one begins."""
    begun, go_on = threading.Event(), threading.Event()

    def work() -> str:
        begun.set()
        assert go_on.wait(60)
        return "whole"

    scheduler = SchedulerCron("* * * * * *", overlap=overlap)
    workflow = DotFlow(Config(scheduler=scheduler, log=Lines()))
    workflow.task.add(action(work))
    thread = threading.Thread(target=workflow.schedule)
    thread.start()
    assert begun.wait(60)
    scheduler.stop()
    scheduler.stop()  # again: nothing more
    alive = thread.is_alive()
    go_on.set()
    thread.join(45)

    assert alive
    assert not thread.is_alive()
    assert workflow.result_storage() == ["whole"]


def test_stop_ends_a_wait_at_once() -> None:
    """In real time: a schedule that fires once a year ends at once."""
    scheduler = SchedulerCron("@yearly")
    workflow = DotFlow(Config(scheduler=scheduler, log=Lines()))
    thread = threading.Thread(target=workflow.schedule)
    thread.start()
    while thread.is_alive():  # until the schedule is active: an earlier stop() has no effect
        scheduler.stop()
        thread.join(0.01)

    assert not thread.is_alive()


def test_a_second_start_is_refused(time: VirtualClock) -> None:
    """A scheduler has one schedule at a time, and may be started again."""
    refused: list[BaseException] = []
    schedule = Schedule(time, "* * * * *")

    @action
    def start_it_again() -> None:
        try:
            schedule.workflow.schedule()
        except AlreadyScheduled as error:
            refused.append(error)

    schedule.workflow.task.clear().add(start_it_again)
    schedule.run(70)
    schedule.run(60)

    assert len(refused) == 2
    assert "SchedulerCron('* * * * *') is already running" in str(refused[0])


def test_stop_before_start_has_no_effect(time: VirtualClock) -> None:
    """It ends an active schedule; a later start() is not affected."""
    schedule = Schedule(time, "* * * * *")
    schedule.scheduler.stop()

    assert schedule.run(70) == ["12:01:00"]


@pytest.mark.parametrize("overlap", OVERLAPS)
def test_nothing_is_queued_beyond_the_end(overlap: str, time: VirtualClock) -> None:
    """The run that is active at the stop is the last, even if others came due."""
    schedule = Schedule(time, "* * * * *", lambda: time.sleep(600), overlap=overlap, max_parallel=1)

    assert schedule.run(300) == ["12:01:00"]
    assert time.now() == NOON + timedelta(minutes=11)
    ended = "1 scheduled run dropped, 2026-06-01 12:02:00 UTC: the schedule ends."
    assert (ended in schedule.log.messages) is (overlap == "queue")


@pytest.mark.parametrize(
    ("overlap", "queued", "ended"),
    [("skip", [False] * 2, 1), ("queue", [True, True, False], 1), ("parallel", [False] * 4, 2)],
)
def test_it_has_whether_another_run_begins(overlap: str, queued: list[bool], ended: int, time: VirtualClock) -> None:
    """At the end of each run it has whether one is queued, and, after a stop, that none begins."""
    schedule = Schedule(time, "* * * * *", lambda: time.sleep(90), overlap=overlap)
    scheduler, told = schedule.scheduler, []

    def note(tasks: list[Task]) -> None:
        told.append((scheduler.has_queued, scheduler.is_ending))

    before = scheduler.is_ending
    schedule.run(250, on_success=note)

    assert [has_queued for has_queued, _ in told] == queued
    assert [is_ending for _, is_ending in told].count(True) == ended
    assert [before, scheduler.is_ending, scheduler.has_queued] == [False, False, False]
