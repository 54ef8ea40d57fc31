"""serve fires schedules: each moment once over all processes, and what is dropped is reported."""

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from dotflow import Config, DotFlow, action
from dotflow.abc.operations import Claim, Ending, Firing, Submission
from dotflow.abc.scheduler import Scheduler
from dotflow.control import Control
from dotflow.core.schedule_rules import MAX_FIRINGS
from dotflow.core.types.run_state import TypeRunState
from dotflow.errors import HistoryError, MissingParam, UnknownParam
from dotflow.providers import ExecutorThread, SchedulerCron
from dotflow.providers.histories.sql import schedules
from dotflow.providers.histories.sql.queue import SQLQueue
from dotflow.records.record import RunSummary
from dotflow.serving.server import Server, serve
from dotflow.testing import VirtualClock, virtual_clock
from tests.dst_table import JOBS, NIGHTS, ZONE
from tests.histories import Histories, take
from tests.integration.test_schedules import FIRED, Lines
from tests.marks import on_sqlite

pytestmark = pytest.mark.databases("sqlite", "postgres", exhaustive=True)

BERLIN = ZoneInfo("Europe/Berlin")
NEW_YEAR = datetime(2026, 1, 1, tzinfo=BERLIN)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def yesterday(planned: datetime) -> dict[str, Any]:
    return {"day": planned.date() - DAY}


def nightly(cron: str = "30 2 * * *", **arguments: Any) -> SchedulerCron:
    """A schedule at 02:30 in Berlin."""
    return SchedulerCron(cron, **{"timezone": "Europe/Berlin", **arguments})


class House:
    """A nightly job, and the servers that come and go. It notes the days, or else the moments, that ran."""

    def __init__(self, time: VirtualClock, histories: Histories) -> None:
        self.time = time
        self.history = histories.open(capture="none")
        self.log = Lines()
        self.ran: list[Any] = []
        self.work: Callable[[], object] = lambda: None

    def workflow(self, scheduler: Any = None, workflow_id: str = "nightly", **more: Any) -> DotFlow:
        @action
        def publish(day: date) -> None:
            self.ran.append(day)
            self.work()

        @action
        def note() -> None:
            self.ran.append(self.time.now())
            self.work()

        config = Config(history=self.history, executor=ExecutorThread(), log=self.log, scheduler=scheduler)
        made = DotFlow(config, workflow_id=workflow_id, **more)
        made.task.add(publish if "day" in more.get("params", ()) else note)
        return made

    def daily(self, scheduler: Any = None) -> DotFlow:
        """A workflow of a day."""
        return self.workflow(scheduler, params={"day": ...})

    def serve(self, until: datetime | timedelta, *workflows: DotFlow, **arguments: Any) -> None:
        """Serves until a moment, at which the process ends with its runs."""
        server = Server(workflows, options={}, **arguments)
        for _ in range(2):
            self.time.at(self.time.now() + until if isinstance(until, timedelta) else until, server.request_stop)
        server.run()

    def sleep_until(self, moment: datetime) -> None:
        self.time.advance((moment - self.time.now()).total_seconds())

    def logged(self, words: str) -> list[str]:
        return [line for line in self.log.messages if words in line]

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = self.history.database.run(statement, values)
        return rows

    def dropped(self) -> int:
        ((count,),) = self.rows("SELECT SUM(dropped) FROM schedules")
        return int(count)

    def runs(self) -> list[RunSummary]:
        return self.history.runs(limit=None)[::-1]

    def names(self) -> list[str]:
        return [run.workflow_id for run in self.runs()]


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch, histories: Histories) -> Iterator[House]:
    """New Year's Eve in Berlin, midnight."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # a year has 10,000 commits, and no power cut
    with virtual_clock(NEW_YEAR) as time:
        yield House(time, histories)


# Each moment once


@on_sqlite
@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("catch_up", "lost"),
    [
        ("all", 0),
        ("6h", 3),
        *(pytest.param(*case, marks=pytest.mark.exhaustive) for case in [("latest", 2), ("8h", 2), ("none", 3)]),
    ],
)
def test_a_year_of_nights_with_weekends_off(house: House, catch_up: str, lost: int) -> None:
    """A process ends each Friday evening and another one begins on Monday at nine: each night runs once, or is dropped.

    Both nights of the clock changes are Sundays.
    """
    nights = [date(2026, 1, 1) + number * DAY for number in range(365)]
    end = NEW_YEAR + 365 * DAY
    while house.time.now() < end:
        here = house.time.now().astimezone(BERLIN)
        friday = here.replace(hour=19, minute=0, second=0) + (4 - here.weekday()) % 7 * DAY
        house.serve(min(friday, end), house.daily(nightly(catch_up=catch_up, params=lambda at: {"day": at.date()})))
        if house.time.now() < end:
            house.sleep_until(friday.replace(hour=9) + 3 * DAY)

    off = [night for night in nights if night.weekday() in (5, 6, 0)[:lost] and night > date(2026, 1, 2)]
    assert house.ran == [night for night in nights if night not in off]
    assert house.dropped() == len(off)
    assert sum(len(re.findall(r":00 CES?T[,:]", line)) for line in house.logged("dropped")) == len(off)
    assert not off or off[0] == date(2026, 1, 3)


@pytest.mark.exhaustive(keep_every=4)
@pytest.mark.parametrize("night", NIGHTS)
@pytest.mark.parametrize("cron", JOBS)
def test_both_nights_of_the_clock_changes_with_a_restart_in_each_hour(house: House, cron: str, night: str) -> None:
    """In New York: the same moments as without one."""
    midnight, hours = NIGHTS[night]
    house.sleep_until(midnight - timedelta(seconds=1))
    for hour in range(hours):
        until = midnight + timedelta(hours=hour, minutes=20) if hour < hours - 1 else midnight + timedelta(hours=hours)
        house.serve(until, house.workflow(nightly(cron, timezone=ZONE)))

    assert house.ran == FIRED[cron, night]


def test_two_processes_settle_a_firing_once(house: House) -> None:
    """The second one finds that another process was faster, and looks again."""
    operations = house.history.operations()
    schedule = nightly().as_schedule("nightly")
    one, two = operations.open_server(["nightly"]), operations.open_server(["nightly"])
    one.serve_schedules([schedule])
    two.serve_schedules([schedule])
    _, settled = one.settled(schedule)
    firings = [Firing(settled + HOUR, Submission("nightly", "{}", "nightly"))]

    assert settled == two.settled(schedule)[1] == NEW_YEAR
    assert one.fire(schedule, settled, settled + HOUR, firings) == []
    assert two.fire(schedule, settled, settled + HOUR, firings) is None
    assert two.settled(schedule) == (schedule, settled + HOUR)
    assert two.fire(schedule, settled + HOUR, settled + 2 * HOUR, firings) == []  # it has its run
    assert len(house.runs()) == 1
    one.close()
    two.close()


def test_nothing_is_made_up_for_before_the_first_start(house: House) -> None:
    """A new schedule begins now."""
    house.serve(2 * HOUR, house.daily(nightly(params=yesterday)))

    assert house.ran == []
    assert house.dropped() == 0


@on_sqlite
def test_the_run_of_a_firing_is_in_the_history(house: House) -> None:
    """With its moment; and the server does not take it for one of another schedule."""
    house.work = lambda: house.time.sleep("10s")
    house.serve(3 * HOUR, house.daily(nightly(params=yesterday)))

    (run,) = house.runs()
    assert (run.workflow_id, run.trigger, run.state) == ("nightly@day=2025-12-31", "schedule", TypeRunState.COMPLETED)
    ((planned, began),) = house.rows("SELECT planned, began FROM run_list")
    assert planned == "2026-01-01T01:30:00.000000Z"
    assert began[:19] == planned[:19]
    assert house.logged("A schedule of its own") == []


def test_once_decides_and_runs_what_is_due(house: House) -> None:
    """As from a timer: what fired since the last time runs, and then it ends."""
    workflow = house.daily(nightly(catch_up="all", params=yesterday))
    Server([workflow], once=True, options={}).run()
    assert house.ran == []
    house.sleep_until(NEW_YEAR + 2 * DAY + 3 * HOUR)
    Server([workflow], once=True, options={}).run()

    assert house.ran == [date(2025, 12, 31), date(2026, 1, 1), date(2026, 1, 2)]


@pytest.mark.parametrize("overlap", ["skip", "queue"])
def test_once_decides_what_has_come_due_at_its_start(house: House, overlap: str) -> None:
    """Else one whose runs take longer than their period would never end. The next one makes up for the rest."""
    workflow = house.workflow(nightly("* * * * *", overlap=overlap))
    house.serve(timedelta(seconds=1), workflow)
    house.work = lambda: house.time.sleep("70s") if len(house.ran) < 10 else house.time.sleep(0)
    house.sleep_until(NEW_YEAR + HOUR)
    Server([workflow], once=True, options={}).run()
    ran, ended = len(house.ran), house.time.now()
    Server([workflow], once=True, options={}).run()

    assert (ran, ended) == (1, NEW_YEAR + HOUR + timedelta(seconds=70))
    assert len(house.ran) == 2


@on_sqlite
def test_more_firings_than_are_decided_at_once(house: House) -> None:
    """They are decided one part after the other; the newest one runs."""
    workflow = house.workflow(nightly("* * * * *"))
    house.serve(HOUR + timedelta(seconds=1), workflow)
    ran = len(house.ran)
    house.sleep_until(NEW_YEAR + 40 * HOUR + timedelta(seconds=1))
    Server([workflow], once=True, options={}).run()

    assert ran == 60
    assert len(house.ran) == 61
    assert house.dropped() == 39 * 60 - 1 > 2 * MAX_FIRINGS
    assert len(house.logged("dropped")) == 3
    assert house.logged("dropped")[0].startswith(
        "1000 scheduled runs of 'nightly' (* * * * * Europe/Berlin) dropped, 2026-01-01 01:01:00 CET to "
        "2026-01-01 17:40:00 CET: "
    )


def test_making_up_for_many_firings_reads_none_of_their_runs(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """No active run blocks them. To read all of them for each one more would take the square of the time."""
    workflow = house.workflow(nightly("*/5 * * * *", catch_up="all", overlap="parallel"))
    house.serve(timedelta(seconds=1), workflow)
    house.sleep_until(NEW_YEAR + HOUR - timedelta(minutes=1))
    monkeypatch.setattr(schedules, "_active", lambda *given: pytest.fail("it looked"))
    Server([workflow], once=True, options={}).run()

    assert len(house.ran) == 11


def test_the_log_has_all_moments_that_were_dropped(house: House) -> None:
    """Many in a row by the first and the last one. Another that has a run is in no such row."""

    workflow = house.daily(nightly(catch_up="6d", params=yesterday))
    house.serve(HOUR, workflow)
    house.sleep_until(NEW_YEAR + 59 * DAY + HOUR)
    house.serve(HOUR, workflow)

    def odd(planned: datetime) -> dict[str, Any]:
        if planned.day != 5:
            raise ValueError("no numbers")
        return {"day": planned.date()}

    house.sleep_until(NEW_YEAR + 69 * DAY + HOUR)
    house.serve(HOUR, house.daily(nightly(catch_up="all", params=odd)))

    of = "scheduled runs of 'nightly' (30 2 * * * Europe/Berlin) dropped, "
    assert [line.partition(": ")[0] for line in house.logged(" dropped, ")] == [
        f"58 {of}2026-01-01 02:30:00 CET to 2026-02-27 02:30:00 CET",
        f"4 {of}2026-03-01 02:30:00 CET to 2026-03-04 02:30:00 CET",
        f"5 {of}2026-03-06 02:30:00 CET to 2026-03-10 02:30:00 CET",
    ]


# Parameters


def test_a_firing_whose_parameters_fail_is_dropped(house: House) -> None:
    """It is reported, and the next one runs."""

    def workday(planned: datetime) -> dict[str, Any]:
        if planned.day == 2:
            raise ValueError("no numbers on holidays")
        return {"day": planned.date()} if planned.day != 3 else {"date": planned.date()}

    house.serve(4 * DAY, house.daily(nightly(params=workday)))

    assert house.ran == [date(2026, 1, 1), date(2026, 1, 4)]
    assert house.logged("dropped") == [
        "1 scheduled run of 'nightly' (30 2 * * * Europe/Berlin) dropped, 2026-01-02 02:30:00 CET: its params raised "
        "ValueError: no numbers on holidays.",
        *house.logged("2026-01-03 02:30:00 CET: its params raised UnknownParam: "),
    ]
    assert house.dropped() == 2
    ((last,),) = house.rows("SELECT last_dropped FROM schedules")
    assert "no numbers on holidays" in last


@pytest.mark.parametrize(
    ("params", "error"),
    [(None, MissingParam), ({"date": 1}, UnknownParam)],
)
def test_parameters_that_can_not_be_right_are_refused_at_once(
    house: House, params: Any, error: type[Exception]
) -> None:
    """Not at the first firing."""
    with pytest.raises(error):
        Server([house.daily(nightly(params=params))], options={})


def test_parameters_of_the_next_firing_that_are_wrong(house: House) -> None:
    """They may be those of one day: the server starts, and its log names them at once. An exit ends no server."""
    answers: list[Any] = [[1], {"date": 1}, {"day": date(2025, 1, 1)}]

    def of_the_day(planned: datetime) -> Any:
        if planned.day == 4:
            sys.exit("no numbers")
        return answers[planned.day - 1]

    for _ in range(4):
        house.serve(house.time.now() + DAY, house.daily(nightly(params=of_the_day)))

    (first, second, third) = house.logged("would be dropped")
    assert first.startswith(
        "The next scheduled run of 'nightly' (30 2 * * * Europe/Berlin), 2026-01-01 02:30:00 CET, would be "
    )
    assert "dropped: its params raised InvalidArgument: " in first
    assert "dropped: its params raised UnknownParam: " in second
    assert "dropped: its params raised SystemExit: no numbers." in third
    assert (house.ran, house.dropped()) == ([date(2025, 1, 1)], 3)


def test_a_second_signal_ends_a_function_that_hangs(house: House) -> None:
    """The server ends as always, and its firing remains for the next one."""
    calls = []

    def hang(planned: datetime) -> dict[str, Any]:
        calls.append(planned)
        if len(calls) == 2:  # the first one is a check
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)
            pytest.fail("It hangs.")
        return {"day": planned.date()}

    workflow = house.daily(nightly(params=hang))
    assert serve(workflow) == []
    assert (house.ran, house.dropped()) == ([], 0)
    house.serve(HOUR, workflow)
    assert house.ran == [date(2026, 1, 1)]


def test_a_mapping_is_for_all_firings(house: House) -> None:
    """And names their runs."""
    house.serve(2 * DAY, house.daily(nightly(params={"day": date(2025, 1, 1)})))

    assert house.names() == ["nightly@day=2025-01-01"] * 2


# Overlap


def test_skip_drops_a_firing_during_a_run(house: House) -> None:
    """And names the run that is in its way."""
    house.work = lambda: house.time.sleep("80m")
    house.serve(NEW_YEAR + 4 * HOUR + timedelta(minutes=30), house.workflow(nightly("0 * * * *")))

    first, second = house.runs()
    assert [moment.astimezone(BERLIN).hour for moment in house.ran] == [1, 3]
    assert [line.partition("dropped, ")[2] for line in house.logged("dropped")] == [
        f"2026-01-01 02:00:00 CET: run {first.run_id[:8]} is running since 01:00.",
        f"2026-01-01 04:00:00 CET: run {second.run_id[:8]} is running since 03:00.",
    ]


def test_queue_keeps_one(house: House) -> None:
    """A further firing is dropped, and names the one that waits."""
    house.work = lambda: house.time.sleep("100m")
    house.serve(NEW_YEAR + 5 * HOUR + timedelta(minutes=50), house.workflow(nightly("0 * * * *", overlap="queue")))

    third = house.runs()[2]
    assert [moment.astimezone(BERLIN).hour for moment in house.ran] == [1, 2, 4]
    assert [line.partition("dropped, ")[2] for line in house.logged("dropped")] == [
        f"2026-01-01 04:00:00 CET: run {third.run_id[:8]} is queued since 03:00."
    ]


def test_parallel_runs_have_names_of_their_moments(house: House) -> None:
    """Up to the maximum; further firings are dropped."""
    house.work = lambda: house.time.sleep("150m")
    scheduler = nightly("0 * * * *", overlap="parallel", max_parallel=2)
    house.serve(NEW_YEAR + 4 * HOUR + timedelta(minutes=15), house.workflow(scheduler))

    assert [run.workflow_id for run in house.runs() if run.trigger == "schedule"] == [
        f"nightly#2026-01-01T0{hour}:00:00Z" for hour in (0, 1, 3)
    ]
    (line,) = house.logged("dropped")
    assert "2026-01-01 03:00:00 CET: 2 runs are active (max_parallel=2): run " in line


def test_parallel_runs_that_parameters_name(house: House) -> None:
    """A function of the moment names them; what is made up for begins so many at once."""
    workflow = house.daily(nightly(overlap="parallel", max_parallel=2, catch_up="all", params=yesterday))
    house.serve(HOUR, workflow)
    house.sleep_until(NEW_YEAR + 3 * DAY)
    house.work = lambda: house.time.sleep("1h")
    house.serve(HOUR + HOUR / 2, workflow)

    began = {run.workflow_id: run.began.astimezone(BERLIN).hour for run in house.runs() if run.trigger == "schedule"}
    assert began == {
        "nightly@day=2025-12-31": 0,
        "nightly@day=2026-01-01": 0,
        "nightly@day=2026-01-02": 1,
    }


@pytest.mark.parametrize("overlap", ["skip", "queue"])
def test_what_is_made_up_for_runs_in_turn(house: House, overlap: str) -> None:
    """No overlap drops it, its runs begin one after the other, the oldest first, and it costs no night meanwhile."""
    workflow = house.daily(nightly(catch_up="all", params=yesterday, overlap=overlap))
    house.serve(HOUR, workflow)
    house.sleep_until(NEW_YEAR + 3 * DAY)
    house.work = lambda: house.time.sleep("10h")
    house.serve(3 * DAY, workflow, max_runs=3)

    assert house.ran == [date(2025, 12, 31), *(date(2026, 1, day) for day in range(1, 6))]
    assert all(first.ended <= second.began for first, second in zip(house.runs(), house.runs()[1:], strict=False))
    assert house.dropped() == 0


def test_what_is_made_up_for_does_not_cost_the_firing_that_is_on_time(house: House) -> None:
    """Back 20 seconds after tonight's firing: it runs after the missed ones."""
    workflow = house.daily(nightly(catch_up="all", params=yesterday))
    house.serve(HOUR, workflow)
    house.sleep_until(NEW_YEAR + 2 * DAY + timedelta(hours=2, minutes=30, seconds=20))
    house.serve(HOUR, workflow)

    assert house.ran == [date(2025, 12, 31), date(2026, 1, 1), date(2026, 1, 2)]
    assert house.dropped() == 0


@pytest.mark.parametrize("gap", [30, 90])
def test_what_comes_due_together_does_not_block_each_other(house: House, gap: int) -> None:
    """With "all", however many more than may run at once."""
    workflow = house.workflow(nightly("* * * * * *", overlap="parallel", catch_up="all"))
    Server([workflow], once=True, options={}).run()
    house.time.advance(gap)
    Server([workflow], once=True, options={}).run()

    assert len(house.ran) == gap
    assert house.dropped() == 0


def test_what_people_resume_costs_no_firing(house: House) -> None:
    """A backfill of failed nights just before tonight's: it runs beside them."""

    def fail() -> None:
        raise ValueError("no source")

    workflow = house.daily(nightly(params=yesterday))
    house.work = fail
    house.serve(NEW_YEAR + 2 * DAY, workflow)
    for run in house.runs():
        Control(workflow).resume(run.run_id, comment="backfill")
    house.work = lambda: house.time.sleep("4h")
    house.serve(4 * HOUR + HOUR / 2, workflow)

    assert sorted(house.ran[2:]) == [date(2025, 12, 31), date(2026, 1, 1), date(2026, 1, 2)]
    assert house.dropped() == 0


def test_a_firing_whose_name_waits_is_dropped(house: House) -> None:
    """That run is an earlier firing's, and the log names it: no firing vanishes."""
    workflow = house.daily(nightly("0 * * * *", catch_up="all", params=lambda planned: {"day": planned.date()}))
    house.serve(HOUR / 2, workflow)
    house.sleep_until(NEW_YEAR + 3 * HOUR + HOUR / 2)
    house.serve(HOUR / 4, workflow)

    (run,) = house.runs()
    assert house.dropped() == 2
    assert (
        f"dropped, 2026-01-01 02:00:00 CET, 2026-01-01 03:00:00 CET: run {run.run_id[:8]} of the same name waits."
        in house.logged("2 scheduled runs")[0]
    )


def test_a_restart_costs_no_firing_of_queue(house: House) -> None:
    """The run that goes on has begun: the firing that comes due meanwhile waits for it."""
    workflow = house.workflow(nightly("0 * * * *", overlap="queue"))
    house.work = lambda: house.time.sleep("50m")
    house.serve(NEW_YEAR + HOUR + HOUR / 3, workflow)
    house.sleep_until(NEW_YEAR + 2 * HOUR + timedelta(seconds=10))
    house.work = lambda: None
    house.serve(HOUR / 2, workflow)

    assert len(house.ran) == 3
    assert house.dropped() == 0


def test_the_runs_of_a_schedule_keep_their_order(house: House) -> None:
    """One that was put back, or that was cut off and goes on, is not overtaken; other runs of the workflow are free."""
    server = house.history.operations().open_server(["nightly"])
    schedule = nightly(catch_up="all", params=yesterday).as_schedule("nightly")
    server.serve_schedules([schedule])
    _, settled = server.settled(schedule)
    moments = [settled + hours * HOUR for hours in (1, 2, 3)]
    names = [f"nightly@day={number}" for number in (1, 2, 3)]
    submissions = [Submission("nightly", "{}", name, due=at) for name, at in zip(names, moments, strict=True)]
    firings = [Firing(at, one, is_made_up=True) for at, one in zip(moments, submissions, strict=True)]
    house.sleep_until(moments[-1])
    assert server.fire(schedule, settled, moments[-1], firings) == []

    def claim() -> Claim | None:
        return take(server, "nightly")

    first = claim()
    assert first is not None
    assert first.name == names[0]
    assert claim() is None
    server.put_back(first, 30)
    assert claim() is None
    house.workflow().submit()
    free = claim()
    assert free is not None
    assert free.name == "nightly"
    house.time.advance(30)
    again = claim()
    assert again is not None
    assert again.run_id == first.run_id
    server.end(again, Ending(TypeRunState.INTERRUPTED, goes_on=True))
    then = claim()
    assert then is not None
    assert (then.name, then.continues) == (names[0], True)
    server.end(then, Ending(TypeRunState.FAILED))
    next_one = claim()
    assert next_one is not None
    assert next_one.name == names[1]
    server.close()


@on_sqlite
def test_a_run_that_was_cut_off_goes_on_before_the_next_firing_runs(house: House) -> None:
    """It counts as a run of the schedule, which begins one run after the other."""
    workflow = house.daily(nightly(overlap="queue", params=yesterday))
    house.work = lambda: house.time.sleep("2h")
    house.serve(NEW_YEAR + 3 * HOUR, workflow)
    house.work = lambda: None
    house.sleep_until(NEW_YEAR + DAY + 2 * HOUR)
    submitted = workflow.submit({"day": date(2026, 1, 1)}, at="5h")  # the firing of that day takes it
    house.serve(HOUR, workflow)

    assert [run.state for run in house.runs()] == [
        TypeRunState.CANCELLED,
        TypeRunState.COMPLETED,
        TypeRunState.COMPLETED,
    ]
    assert house.ran == [date(2025, 12, 31), date(2025, 12, 31), date(2026, 1, 1)]
    assert house.rows("SELECT run_id FROM run_list WHERE submitted < planned") == [(submitted,)]


@pytest.mark.parametrize("is_made_up", [False, True])
def test_a_paused_run_keeps_only_its_own_name_from_running(house: House, is_made_up: bool) -> None:
    """Its question would be lost. The night of another day runs, and so does what is made up for."""
    workflow = house.daily(nightly(params=lambda planned: {"day": planned.date().replace(day=1 + planned.day // 4)}))
    house.serve(NEW_YEAR + HOUR, workflow)
    run = workflow.submit({"day": date(2026, 1, 1)})
    Control(workflow).pause(run, by="ann")
    house.rows("INSERT INTO questions (origin, task, item, nth, text, asked) VALUES (?, 'publish', -1, 0, '?', 0)", run)
    if is_made_up:
        house.sleep_until(NEW_YEAR + 3 * HOUR)
    house.serve(NEW_YEAR + 4 * HOUR, workflow)
    house.sleep_until(NEW_YEAR + 4 * DAY - HOUR)
    house.serve(NEW_YEAR + 4 * DAY - HOUR / 2, workflow)

    assert house.ran == [date(2026, 1, 2)]
    assert f"2026-01-01 02:30:00 CET: run {run[:8]} waits for 'publish' since 01:00." in house.logged("dropped")[0]
    assert Control(workflow).run(run).state is TypeRunState.PAUSED


def test_firings_of_a_paused_workflow_are_dropped(house: House) -> None:
    """Nothing of it begins, and nothing is made up for."""
    workflow = house.daily(nightly(catch_up="all", params=yesterday))
    house.serve(HOUR, workflow)
    workflow.submit({"day": date(2025, 1, 1)})
    house.rows("UPDATE workflows SET paused_by = 'ann', paused_at = ?", int(NEW_YEAR.timestamp()) * 1_000_000)
    house.serve(NEW_YEAR + 2 * DAY + 12 * HOUR, workflow)
    reported = len(house.logged("the workflow was paused by ann (00:00)")), house.logged("(Thursday 00:00)")
    house.rows("UPDATE workflows SET paused_at = NULL")
    house.serve(NEW_YEAR + 3 * DAY, workflow)

    assert (reported[0], len(reported[1]), house.dropped()) == (1, 2, 3)
    assert house.ran == [date(2025, 1, 1)]


def test_what_fired_during_a_pause_is_not_made_up_for(house: House) -> None:
    """It was dropped, though no process served its workflow meanwhile."""
    workflow = house.daily(nightly(catch_up="all", params=yesterday))
    house.serve(HOUR, workflow)
    Control(workflow).pause_workflow(workflow.workflow_id, by="ann")
    house.sleep_until(NEW_YEAR + 2 * DAY + 12 * HOUR)
    Control(workflow).resume_workflow(workflow.workflow_id)
    house.sleep_until(NEW_YEAR + 3 * DAY + 12 * HOUR)
    house.serve(NEW_YEAR + 4 * DAY, workflow)

    assert house.dropped() == 3
    assert "the workflow was paused until Saturday 12:00" in house.logged("dropped")[0]
    assert house.ran == [date(2026, 1, 3)]


@pytest.mark.parametrize("is_over", [False, True])
def test_a_pause_drops_nothing_that_was_missed_before_it(house: House, is_over: bool) -> None:
    """Two nights were missed, then people pause the workflow for a minute: both run when it goes on."""
    workflow = house.daily(nightly(catch_up="all", params=yesterday))
    house.serve(HOUR, workflow)
    house.sleep_until(NEW_YEAR + 2 * DAY)
    Control(workflow).pause_workflow(workflow.workflow_id, by="ann")
    if not is_over:
        house.serve(timedelta(minutes=1), workflow)
        assert house.ran == []
    Control(workflow).resume_workflow(workflow.workflow_id)
    house.serve(HOUR, workflow)

    assert house.ran == [date(2025, 12, 31), date(2026, 1, 1)]
    assert house.dropped() == 0


# Clocks, and other code


@pytest.mark.parametrize(("back", "is_wrong"), [(2, False), (5, True)])
def test_a_clock_that_goes_back(house: House, back: int, is_wrong: bool) -> None:
    """By three hours at most it was corrected. By more it was wrong before, but no moment gets a second run."""
    workflow = house.workflow(nightly())
    house.serve(NEW_YEAR + 4 * HOUR, workflow)
    house.time.jump_wall(-back * 3600)
    house.serve(NEW_YEAR + 4 * HOUR, workflow)

    assert len(house.ran) == 1
    assert bool(house.logged("The wall clock went back by 3:30:00; 'nightly'")) == is_wrong
    house.serve(NEW_YEAR + 27 * HOUR, workflow)
    assert len(house.ran) == 2


def test_a_clock_that_goes_back_while_it_is_served(house: House) -> None:
    """The moments in between are not repeated, or those that had no run come again."""
    house.time.after(4 * 3600, lambda: house.time.jump_wall(-2 * 3600))
    house.serve(timedelta(hours=30), house.workflow(nightly()))

    assert [moment.astimezone(BERLIN).strftime("%d %H:%M") for moment in house.ran] == ["01 02:30", "02 02:30"]


def test_a_clock_that_is_set_forward_while_it_is_served(house: House) -> None:
    """The server reads it within a second, and not only when it would have been due."""
    house.time.after(3600, lambda: house.time.jump_wall(86_400))
    house.serve(timedelta(hours=2), house.workflow(nightly()))

    assert [moment.astimezone(BERLIN).strftime("%d %H:%M") for moment in house.ran] == ["02 01:00"]


def test_a_clock_that_was_wrong_at_the_boot_repeats_nothing(house: House) -> None:
    """1970 until the network corrects it: the nights since then were settled, and only those after them are missing."""
    workflow = house.daily(nightly(catch_up="all", params=yesterday))
    house.serve(3 * HOUR, workflow)
    house.time.jump_wall(-56 * 365 * 86400)
    house.serve(HOUR, workflow)
    house.time.jump_wall(56 * 365 * 86400)
    house.sleep_until(NEW_YEAR + DAY + 3 * HOUR)
    house.serve(HOUR, workflow)

    assert house.ran == [date(2025, 12, 31), date(2026, 1, 1)]
    assert house.dropped() == 0


def test_a_clock_that_was_ahead_costs_no_night(house: House) -> None:
    """A year ahead for an hour: the nights until then are missed and made up for as ever."""
    workflow = house.daily(nightly(catch_up="all", params=yesterday))
    house.serve(3 * HOUR, workflow)
    house.time.jump_wall(400 * 86400)
    house.serve(HOUR, house.daily(nightly(catch_up="none", params=yesterday)))
    house.time.jump_wall(-400 * 86400)
    house.serve(HOUR, workflow)
    house.sleep_until(NEW_YEAR + 2 * DAY + 3 * HOUR)
    house.serve(HOUR, workflow)

    assert house.ran == [date(2025, 12, 31), date(2026, 1, 1), date(2026, 1, 2)]


def test_the_code_that_began_last_decides(house: House) -> None:
    """Old code beside it, with the same moments, makes up for them by the same rule."""
    old = Server([house.daily(nightly(catch_up="none", overlap="queue", params=yesterday))], options={})
    new = Server([house.daily(nightly(catch_up="all", params=yesterday))], options={})
    servers = [one._open() for one in (old, new)]
    for one, server in zip((old, new), servers, strict=True):
        one._schedules.register(server)
    house.sleep_until(NEW_YEAR + 2 * DAY)
    old._schedules.look(servers[0])

    assert house.names() == ["nightly@day=2025-12-31", "nightly@day=2026-01-01"]
    assert house.dropped() == 0
    for server in servers:
        server.close()


def test_a_schedule_that_changes_during_a_decision_is_decided_anew(house: House) -> None:
    """By its new rules."""
    server = house.history.operations().open_server(["nightly"])
    old, new = (nightly(overlap=overlap).as_schedule("nightly") for overlap in ("skip", "queue"))
    server.serve_schedules([old])
    _, settled = server.settled(old)
    server.serve_schedules([new])

    assert server.fire(old, settled, settled + HOUR, []) is None
    assert server.settled(old) == (new, settled)
    assert server.fire(new, settled, settled + HOUR, []) == []
    server.close()


def test_dropped_firings_of_the_hour_that_is_repeated(house: House) -> None:
    """Their moments have the name of the offset."""
    house.sleep_until(datetime(2026, 10, 25, 1, 30, tzinfo=BERLIN))
    workflow = house.workflow(nightly("0 * * * *", catch_up="none"))
    house.serve(HOUR / 6, workflow)
    house.sleep_until(datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=BERLIN))
    house.serve(HOUR / 6, workflow)

    (line,) = house.logged("dropped")
    assert "2026-10-25 02:00:00 CEST, 2026-10-25 02:00:00 CET" in line


def test_another_expression_is_another_schedule(house: House) -> None:
    """Old and new code beside each other fire their own; what old code leaves behind is reported once."""
    old, new = house.workflow(nightly("0 1 * * *")), house.workflow(nightly("0 2 * * *"))
    house.serve(HOUR / 2, old)
    house.sleep_until(NEW_YEAR + 2 * DAY + HOUR / 2)
    house.serve(HOUR, new)
    house.serve(HOUR, new)
    house.serve(HOUR, old)

    assert house.logged("any more") == [
        "No process serves 'nightly' (0 1 * * * Europe/Berlin) any more. "
        "A server that has it gets 2 scheduled runs since 2026-01-01 01:00:00 CET."
    ]
    assert [moment.astimezone(BERLIN).strftime("%d %H:%M") for moment in house.ran] == [
        "03 02:00",
        "03 02:30",  # the old code has come back, and makes up for its last firing
    ]


def test_no_two_schedules_share_an_id(house: House) -> None:
    """Whatever blanks an id has; those of the expression don't count."""
    one = nightly("0 2 * * * *").as_schedule("x")
    assert one.schedule == nightly(" 0 2  * * * *").as_schedule("x").schedule
    assert one.schedule != nightly("2 * * * *").as_schedule("x 0").schedule


@on_sqlite
def test_a_schedule_that_is_new_to_the_history(house: House) -> None:
    """The log has since when its firings are known, once; also after the history was deleted."""
    for _ in range(2):
        house.serve(HOUR, house.workflow(nightly()))
    house.history.close()
    for path in house.history.path.parent.glob("history.db*"):
        path.unlink()
    house.serve(HOUR, house.workflow(nightly()))

    assert house.logged("Nothing is known") == [
        f"Nothing is known of 'nightly' (30 2 * * * Europe/Berlin) before 2026-01-01 0{hour}:00:00 CET."
        for hour in (0, 2)
    ]


def test_the_schedule_of_a_living_process_is_not_left_behind(house: House) -> None:
    """Two versions of the code may be served at once."""
    operations = house.history.operations()
    one, two = operations.open_server(["nightly"]), operations.open_server(["nightly"])
    old, new = nightly("0 1 * * *").as_schedule("nightly"), nightly("0 2 * * *").as_schedule("nightly")

    assert one.serve_schedules([old]) == two.serve_schedules([new]) == []
    one.close()
    assert two.serve_schedules([new]) == [(old, NEW_YEAR)]
    assert two.serve_schedules([new]) == []
    two.close()


@on_sqlite
@pytest.mark.parametrize(
    ("change", "is_computed"),
    [
        ("json_set(spec, '$.cron', 'every night', '$.jitter', 5)", False),
        ("json_remove(spec, '$.cron')", False),
        ("json_remove(spec, '$.late_after', '$.timezone')", True),
        ("json_set(spec, '$.overlap', 'cancel')", True),
    ],
)
def test_a_schedule_of_another_dotflow_is_no_trouble(house: House, change: str, is_computed: bool) -> None:
    """What it has added is left out, and what it lacks has its default. One that can't be computed is reported."""
    house.serve(HOUR, house.workflow(nightly()), house.workflow(nightly(late_after="15m"), workflow_id="other"))
    house.rows(f"UPDATE schedules SET spec = {change} WHERE workflow = 'nightly'")

    house.serve(DAY + HOUR, house.workflow(nightly("0 1 * * *")))

    assert len(house.ran) == 1
    assert len(Control(house.history).schedules()) == 2
    assert len(house.logged("can't be computed here")) == (not is_computed)
    assert house.logged("damaged") == []


@on_sqlite
@pytest.mark.exhaustive
def test_a_server_without_cronsim(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """It needs none, though its workflow had a schedule once: that is reported without its moments."""
    house.serve(HOUR, house.workflow(nightly()))
    monkeypatch.setitem(sys.modules, "cronsim", None)
    workflow = house.workflow()
    workflow.submit()
    house.serve(HOUR, workflow)

    assert len(house.ran) == 1
    (line,) = house.logged("can't be computed here")
    assert line.startswith(
        "No process serves 'nightly' (30 2 * * * Europe/Berlin) any more, and its scheduled runs since "
        "2025-12-31 23:00:00 UTC can't be computed here: "
    )


@on_sqlite
@pytest.mark.exhaustive
def test_only_what_can_not_be_claimed_stops_the_claims(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log says so of nothing else."""

    def refuse(self: SQLQueue) -> None:
        raise HistoryError("The history can't be read", "no row")

    workflow = house.workflow()
    workflow.submit()
    monkeypatch.setattr(SQLQueue, "schedules", refuse)
    house.serve(HOUR, workflow)
    assert len(house.ran) == 1
    assert [line for line in house.log.messages if "no row" in line] == ["The history can't be read: no row."]


def test_only_cron_schedules_are_fired(house: House) -> None:
    """Another scheduler is reported."""

    class Hourly(Scheduler):
        def start(self, workflow: Any, **kwargs: Any) -> None: ...

        def stop(self) -> None: ...

    house.serve(timedelta(seconds=1), house.workflow(Hourly()))

    assert house.logged("'nightly' is not fired here: serve takes a SchedulerCron, not a Hourly.")
