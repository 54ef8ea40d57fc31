"""Alarms of late firings: the reason in words, once over all servers, whichever of them lives."""

import contextlib
import itertools
import re
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dotflow import Config, DotFlow, Task, action, clock
from dotflow.abc.notify import Notify
from dotflow.abc.operations import QueueServer
from dotflow.control import Control
from dotflow.core.types.run_state import TypeRunState
from dotflow.errors import HistoryError, WorkflowBusy
from dotflow.providers import ExecutorThread, SchedulerCron, StorageFile
from dotflow.providers.histories.sql import database
from dotflow.providers.histories.sql.queue import SQLQueueServer
from dotflow.providers.histories.sql.tables import micro
from dotflow.serving.schedules import Schedules
from dotflow.serving.server import Server
from dotflow.testing import VirtualClock, virtual_clock
from tests.histories import Histories, take
from tests.integration.test_schedules import Lines

pytestmark = pytest.mark.databases("sqlite", "postgres", exhaustive=True)

START = datetime(2026, 1, 2, 11, tzinfo=UTC)  # a Friday
NOON = "0 12 * * *"
FIRING = r"2026-01-02 12:00:00 UTC"


def at(hour: int, minute: int = 0, day: int = 2) -> datetime:
    return datetime(2026, 1, day, hour, minute, tzinfo=UTC)


class Alerts(Notify):
    """Keeps what it is sent."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def send(self, task: Task) -> None: ...

    def alert(self, message: str) -> None:
        self.sent.append(message)


class House:
    """Workflows with a schedule, and servers in virtual time."""

    def __init__(self, folder: Path, time: VirtualClock, histories: Histories) -> None:
        self.folder = folder
        self.time = time
        self.history = histories.open(capture="none")
        self.log, self.alerts = Lines(), Alerts()

    def workflow(self, work: Callable[[], object] = lambda: None, cron: str = NOON, **more: Any) -> DotFlow:
        given = {"late_after": "15m", "timezone": "UTC", **more}
        options = {name: given.pop(name) for name in ("workflow_id", "max_runs", "params") if name in given}
        config = Config(
            history=self.history,
            storage=StorageFile(self.folder / "values"),
            executor=ExecutorThread(),
            log=self.log,
            notify=self.alerts,
            scheduler=SchedulerCron(cron, params=given.pop("of", None), **given),
            secrets={"TOKEN": "tok-1234567"},
        )
        workflow = DotFlow(config, **{"workflow_id": "nightly", **options})
        workflow.task.add(action(work), name="load")
        return workflow

    def serve(self, until: datetime, *workflows: DotFlow, **arguments: Any) -> None:
        """Serves until a moment, as a process that ends then does."""
        server = Server(workflows, options={}, **arguments)
        self.time.at(until, server.request_stop)
        self.time.at(until, server.request_stop)
        server.run()

    @contextlib.contextmanager
    def serving(self, until: datetime, *workflows: DotFlow) -> Iterator[None]:
        """Serves in a second server beside the block."""
        server, participant = Server(workflows, options={}), self.time.hold()
        self.time.at(until, server.request_stop)
        self.time.at(until, server.request_stop)

        def run() -> None:
            with participant:
                server.run()

        thread = threading.Thread(target=run)
        with self.time.hold():  # not until 'until', before the block's own server waits
            thread.start()
            yield
        thread.join()

    def write(self, statement: str, *values: Any) -> None:
        self.history.database.run(statement, values)

    @property
    def reported(self) -> list[str]:
        return [line for line in self.log.messages if "late" in line]


@pytest.fixture
def house(tmp_path: Path, histories: Histories) -> Iterator[House]:
    with virtual_clock(START) as time:
        yield House(tmp_path, time, histories)


def test_a_run_that_completes_in_time_raises_no_alarm(house: House) -> None:
    """Nor does one that was continued, or that is not due yet."""
    house.serve(at(13), house.workflow())

    assert house.alerts.sent == []
    (found,) = Control(house.history).schedules()
    assert (found.late, found.last.run.state) == ([], "Completed")  # type: ignore[union-attr]


def test_a_failed_run(house: House) -> None:
    """Once, by the notifier and in the log, without a secret."""

    def fail() -> None:
        raise ValueError("tok-1234567 is wrong")

    house.serve(at(14), house.workflow(fail))

    (message,) = house.alerts.sent
    run = house.history.runs()[0].run_id[:8]
    assert message == (
        f"A scheduled run of 'nightly' is late. That of {FIRING} (run {run}) failed: load: ValueError: *** is wrong."
    )
    assert house.reported == [message]


def test_a_firing_that_comes_due_while_its_server_starts(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first look is after the first firings, and looks at these, too."""
    register = Schedules.register

    def take_long(schedules: Schedules, server: QueueServer) -> None:
        register(schedules, server)
        house.time.sleep(3630)

    def fail() -> None:
        raise ValueError

    monkeypatch.setattr(Schedules, "register", take_long)
    house.serve(at(14), house.workflow(fail))

    (message,) = house.alerts.sent
    assert FIRING in message


def test_a_run_that_takes_too_long(house: House) -> None:
    """The alarm comes while it runs."""
    house.serve(at(14), house.workflow(lambda: house.time.sleep(3600)))

    (message,) = house.alerts.sent
    assert message.endswith("is running since 2026-01-02 12:00:00 UTC.")


def test_a_firing_that_was_dropped(house: House) -> None:
    """With what blocked it. The alarm for the run that blocks it is its own."""
    house.serve(at(13), house.workflow(lambda: house.time.sleep(3 * 3600), cron="0,30 12 * * *"))

    first, second = house.alerts.sent
    assert "That of 2026-01-02 12:00:00 UTC" in first
    run = house.history.runs()[-1].run_id[:8]
    assert second.endswith(f"That of 2026-01-02 12:30:00 UTC was dropped: run {run} is running since 12:00.")


def test_a_run_that_has_not_begun(house: House) -> None:
    """It waits for a run that is no firing."""
    workflow = house.workflow(lambda: house.time.sleep(7200), max_runs=1, params={"day": 1})
    workflow.submit({"day": 2})

    house.serve(at(12, 30), workflow)

    (message,) = house.alerts.sent
    assert message.endswith("has not begun: its run waits in the queue.")


def test_a_run_whose_process_was_killed(house: House) -> None:
    """A server that can't run it takes it over; the alarm says how it ended, and that nothing continues it."""
    house.serve(at(11, 30), house.workflow())
    kill_a_run(house, "nightly")
    house.serve(at(13), house.workflow(workflow_id="other", cron="0 0 1 1 *"))

    (message,) = house.alerts.sent
    assert message.endswith("crashed: the process of the run ended between two steps.")


def test_a_run_that_waits_for_an_answer(house: House) -> None:
    """It names the task that asks."""
    house.time.at(at(12, 1), lambda: pause(house, "nightly"))
    house.serve(at(13), house.workflow())

    (message,) = house.alerts.sent
    assert message.endswith("waits for 'publish'.")


def kill_a_run(house: House, workflow_id: str) -> None:
    """Leaves the run of the firing at noon as the end of its server does."""
    dead = house.history.operations().open_server([workflow_id])
    house.workflow(workflow_id=workflow_id).submit()
    assert take(dead, workflow_id) is not None
    fired = "schedule = (SELECT schedule FROM schedules WHERE workflow = ?), planned = ?"
    house.write(f"UPDATE wanted SET {fired} WHERE workflow = ?", workflow_id, micro(at(12)), workflow_id)
    house.write("UPDATE schedules SET settled = ? WHERE workflow = ?", micro(at(12)), workflow_id)
    dead._presence.release(dead._watch.lock)  # type: ignore[attr-defined]


def pause(house: House, workflow_id: str) -> None:
    """Makes the completed run one that was paused by a question."""
    (run,) = house.history.runs(workflow=workflow_id)
    house.write("UPDATE runs SET state = 'Paused' WHERE run_id = ?", run.run_id)
    house.write(
        "INSERT INTO questions (origin, task, item, nth, text, asked) VALUES (?, 'publish', -1, 0, '?', 0)", run.origin
    )


def test_what_was_missed_is_one_message(house: House) -> None:
    """After a weekend without a process: two nights were dropped, and the last one is made up for."""
    workflow = house.workflow()
    house.serve(at(13), workflow)
    house.time.advance(timedelta(days=3, hours=-2).total_seconds())

    house.serve(at(13, day=5), workflow)

    message, *more = house.alerts.sent
    assert message.startswith(
        "2 scheduled runs of 'nightly' are late. That of 2026-01-03 12:00:00 UTC was dropped: it was missed"
    )
    assert more == []


def test_the_name_that_was_run_by_hand_since(house: House) -> None:
    """By hand and by firing one day has one name: the firing has completed with that run."""
    fails = [True]

    def fail() -> None:
        if fails:
            raise ValueError

    workflow = house.workflow(fail)
    house.serve(at(12, 5), workflow)
    fails.clear()
    (found,) = Control(house.history).schedules()
    assert [late.why for late in found.late] == ["failed: load: ValueError"]
    workflow.start()

    house.serve(at(13), workflow)

    assert house.alerts.sent == []
    (found,) = Control(house.history).schedules()
    assert found.late == []


@pytest.mark.parametrize("is_run_since", [False, True])
def test_a_dropped_day_that_was_run_by_hand(house: House, is_run_since: bool) -> None:
    """It was missed. A run of its name that began later and has completed settles it, an earlier one does not."""
    workflow = house.workflow(catch_up="none", params={"day": ...}, of=lambda planned: {"day": planned.day})
    workflow.submit({"day": 2})
    house.serve(at(11, 30), workflow)
    house.time.advance(timedelta(minutes=35).total_seconds())
    house.serve(at(12, 10), workflow)
    if is_run_since:
        workflow.submit({"day": 2})
    house.serve(at(13), workflow)

    assert [message[-45:] for message in house.alerts.sent] == (
        [] if is_run_since else ["was dropped: it was missed (catch_up='none')."]
    )
    (found,) = Control(house.history).schedules()
    assert (len(found.late), found.dropped, len(found.drops)) == (0 if is_run_since else 1, 1, 1)


def test_the_run_of_another_firing_settles_no_dropped_one(house: House) -> None:
    """Without parameters all firings have one name, and each is to run."""
    naps = iter(["35m", "1s"])
    house.serve(at(13), house.workflow(lambda: house.time.sleep(next(naps)), cron="0,30,40 12 * * *"))

    assert [message.partition("That of ")[2][:16] for message in house.alerts.sent] == [
        "2026-01-02 12:00",
        "2026-01-02 12:30",
    ]


@pytest.mark.parametrize("late_after", [None, "15m"])
def test_a_firing_whose_params_raise_has_one_alarm(house: House, late_after: str | None) -> None:
    """At once, and not again when it is late."""

    def raising(planned: datetime) -> dict[str, Any]:
        raise ValueError("no numbers")

    house.serve(at(13), house.workflow(late_after=late_after, of=raising))

    (message,) = house.alerts.sent
    assert message.startswith("1 scheduled run of 'nightly' (0 12 * * * UTC) dropped, 2026-01-02 12:00:00")
    warning, *others = [line for line in house.log.messages if "no numbers" in line]
    assert "would be dropped" in warning
    assert others == [message]


@pytest.mark.parametrize("late_after", ["15m", "12h"])
def test_what_only_leaves_out_is_reported_and_not_late(house: House, late_after: str) -> None:
    """However many there are: each five minutes of a day but 12:00."""
    workflow = house.workflow(
        cron="*/5 * * * *", late_after=late_after, only=lambda at: (at.hour, at.minute) == (12, 0)
    )

    house.serve(at(22, 59), workflow)

    assert house.alerts.sent == []
    assert [run.state for run in house.history.runs()] == ["Completed"]
    assert len([line for line in house.log.messages if "only=<lambda> leaves it out" in line]) > 100
    (schedule,) = Control(house.history).schedules()
    assert (schedule.late, schedule.dropped, schedule.drops) == ([], 0, [])
    assert schedule.last is not None
    assert schedule.last.planned == at(12)


def test_only_that_raises_is_an_alarm_at_once(house: House) -> None:
    def is_workday(planned: datetime) -> bool:
        raise LookupError("no calendar")

    house.serve(at(13), house.workflow(only=is_workday))

    (message,) = house.alerts.sent
    assert message.endswith("2026-01-02 12:00:00 UTC: only=is_workday raised LookupError: no calendar.")


def test_a_clock_that_goes_back_by_a_day_repeats_no_alarm(house: House) -> None:
    """A firing that has its run was looked at. What had none, and runs now, is looked at anew."""

    def fail() -> None:
        raise ValueError

    workflow = house.workflow(fail, cron="0 12,13 * * *")
    house.time.at(at(12, 30), lambda: Control(house.history).pause_workflow("nightly", by="anna"))
    house.serve(at(14), workflow)
    Control(house.history).resume_workflow("nightly")
    house.time.jump_wall(-timedelta(days=1).total_seconds())
    del house.alerts.sent[:]
    house.serve(at(14), workflow)

    moments = [message.partition("That of ")[2][8:16] for message in house.alerts.sent]
    assert moments == ["02 13:00"]


def test_more_late_firings_than_are_looked_at_at_once(house: House) -> None:
    """All are counted, one part after the other."""
    workflow = house.workflow(cron="* * * * *", late_after="30s", catch_up="none")
    house.serve(at(11, 0) + timedelta(seconds=30), workflow)
    house.time.advance(timedelta(days=2).total_seconds())

    (found,) = Control(house.history).schedules()
    assert found.last is not None
    assert found.last.planned == found.late[0].planned == at(11, day=4)
    assert len(found.late) == 1000
    house.serve(at(11, 1, day=4), workflow)

    counts = [int(message.partition(" ")[0]) for message in house.alerts.sent]
    assert counts == [1000, 1000, 880]


def test_two_servers_raise_each_alarm_once(house: House) -> None:
    """A server of another workflow raises those that come due when the first one is gone, with its own notifier."""

    def fail() -> None:
        raise ValueError

    nightly, alerts = house.workflow(fail, cron="0 * * * *"), Alerts()
    other = house.workflow(workflow_id="other", cron="0 0 1 1 *")
    other.config.notify = alerts
    with house.serving(at(16, 30), other):
        house.serve(at(14, 5), nightly)
        house.time.sleep("3h")

    moments = [message.partition("That of ")[2][:16] for message in house.alerts.sent + alerts.sent]
    assert sorted(moments) == [f"2026-01-02 {hour}:00" for hour in (12, 13, 14, 15, 16)]
    assert "has not begun: no process has fired it" in alerts.sent[-1]


def test_each_reason_once_over_two_servers(house: House) -> None:
    """A firing of each workflow is late for its own reason, and both servers serve all of them."""

    def fail() -> None:
        raise ValueError

    def nap() -> None:
        house.time.sleep("4h")

    def workflows() -> list[DotFlow]:
        return [
            house.workflow(fail, workflow_id="fails"),
            house.workflow(nap, workflow_id="naps", cron="0,30 12 * * *"),
            house.workflow(nap, workflow_id="queued", max_runs=1, params={"day": 1}),
            house.workflow(workflow_id="asks"),
        ]

    house.serve(at(11, 5), house.workflow(workflow_id="killed"))
    kill_a_run(house, "killed")
    workflows()[2].submit({"day": 2})
    house.time.at(at(12, 1), lambda: pause(house, "asks"))
    with house.serving(at(14), *workflows()):
        house.serve(at(14), *workflows())

    left_out = r" \(run \w+\)|run [0-9a-f]{8} |waits to go on, since its run waits in the queue: it "
    found = sorted(re.sub(left_out, "", message) for message in house.alerts.sent)
    late = "A scheduled run of '{}' is late. That of 2026-01-02 12:{}:00 UTC {}."
    assert found == [
        late.format("asks", "00", "waits for 'publish'"),
        late.format("fails", "00", "failed: load: ValueError"),
        late.format("killed", "00", "crashed: the process of the run ended between two steps"),
        late.format("naps", "00", "is running since 2026-01-02 12:00:00 UTC"),
        late.format("naps", "30", "was dropped: is running since 12:00"),
        late.format("queued", "00", "has not begun: its run waits in the queue"),
    ]


def test_a_firing_whose_params_raise_is_alarmed_at_once(house: House) -> None:
    """Without late_after, too: it is dropped, and there is no run that shows it."""

    def params(planned: datetime) -> dict[str, Any]:
        raise ValueError("tok-1234567 is wrong")

    workflow = house.workflow(late_after=None)
    workflow.config.scheduler = SchedulerCron("0 14 * * *", timezone="UTC", params=params)
    house.serve(at(15), workflow)

    (message,) = house.alerts.sent
    assert message == (
        "1 scheduled run of 'nightly' (0 14 * * * UTC) dropped, 2026-01-02 14:00:00 UTC: "
        "its params raised ValueError: *** is wrong."
    )
    assert message in house.log.messages
    (found,) = Control(house.history).schedules()
    assert [drop.reason for drop in found.drops] == ["its params raised ValueError: *** is wrong"]


def test_a_run_that_is_given_up(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process has ended three times before anything was saved."""
    monkeypatch.setattr(database, "BETWEEN_LOOKS", 0.0)
    workflow = house.workflow()
    workflow.submit()
    house.write("UPDATE wanted SET tries = 2")
    dead = house.history.operations().open_server(["nightly"])
    assert take(dead, "nightly") is not None
    dead._presence.release(dead._watch.lock)  # type: ignore[attr-defined]

    house.serve(at(12, 5), workflow)

    (message,) = house.alerts.sent
    assert message.endswith("of 'nightly' has ended 3 times before anything was saved: it is given up.")
    assert message in house.log.messages


def test_a_continuation_whose_values_were_replaced(house: House) -> None:
    """What it was to finish will not be finished."""

    def fail() -> None:
        raise ValueError

    workflow = house.workflow(fail)
    run = workflow.submit()
    house.serve(at(11, 5), workflow)
    Control(workflow).resume(run)
    workflow.config.history = None
    newer = workflow.start()
    workflow.config.history = house.history

    house.serve(at(11, 10), workflow)

    (message,) = house.alerts.sent
    assert message.endswith(f"of 'nightly' ends unfinished: the run {newer.run_id} has replaced its values.")


def test_a_notifier_that_fails_or_hangs_delays_no_server(house: House) -> None:
    """Its errors are in the log, and the server ends after the grace."""
    hangs, go_on, runs = threading.Event(), threading.Event(), list[int]()

    def hang(message: str) -> None:
        house.alerts.sent.append(message)
        if len(house.alerts.sent) == 1:
            raise OSError("no network")
        hangs.set()
        go_on.wait(60)

    def fail() -> None:
        runs.append(1)
        if len(runs) == 3:
            hangs.wait(60)  # so that the grace does not end before the first one was sent
        raise ValueError

    house.alerts.alert = hang  # type: ignore[method-assign]
    workflow = house.workflow(fail, cron="0 * * * *")
    workflow.config.notify_grace = 0.05
    house.serve(at(14, 30), workflow)
    go_on.set()

    assert len(house.reported) == 3
    assert [line for line in house.log.messages if "Alerts.alert raised" in line and "no network" in line]
    left = [line for line in house.log.messages if "did not finish within" in line][-1]
    assert left.startswith(
        "Alerts did not finish within 0.05 s of the server's end: one notification still hangs, 1 more"
    )


def test_a_schedule_whose_zone_is_unknown_here(house: House) -> None:
    """Its own server has the zone. The others say once that they raise no alarm for it."""
    house.serve(at(11, 5), house.workflow())
    spec = """{"cron": "0 12 * * *", "timezone": "Moon/Tycho", "overlap": "skip", "max_parallel": 1,
        "catch_up": "latest", "late_after": 60}"""
    house.write("UPDATE schedules SET spec = ?", spec)

    house.serve(at(13), house.workflow(workflow_id="other"))

    (line,) = [line for line in house.log.messages if "Moon/Tycho" in line]
    assert line.startswith("No alarm for the schedule of 'nightly' (0 12 * * *) from here: ")


def test_an_alarm_that_is_turned_off_starts_anew(house: House) -> None:
    """What failed meanwhile raises none when late_after is there again."""

    def fail() -> None:
        raise ValueError

    house.serve(at(11, 5), house.workflow(fail, cron="0 * * * *"))
    house.serve(at(14, 5), house.workflow(fail, cron="0 * * * *", late_after=None))
    house.serve(at(15, 5), house.workflow(fail, cron="0 * * * *"))

    assert house.alerts.sent == []
    house.serve(at(15, 30), house.workflow(fail, cron="0 * * * *"))
    assert len(house.alerts.sent) == 1


def test_an_outage_of_the_history_is_reported_once_and_when_it_is_over(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The duties that fail beside the claims say nothing of their own, and a run begins when it is over."""
    claim, look, ends = SQLQueueServer.claim, SQLQueueServer.take_over, at(11, 5)

    def check() -> None:
        if clock.now() < ends:
            raise HistoryError("The history at db can't be used", "it is away")

    def claim_later(*given: Any) -> Any:
        check()
        return claim(*given)

    def look_later(*given: Any) -> Any:
        check()
        return look(*given)

    monkeypatch.setattr(SQLQueueServer, "claim", claim_later)
    monkeypatch.setattr(SQLQueueServer, "take_over", look_later)
    workflow = house.workflow()
    run = workflow.submit()
    house.serve(at(11, 6), workflow)

    about = [line for line in house.log.messages if "be used" in line]
    assert about[0] == "The history at db can't be used: it is away. Nothing new begins until it can."
    assert re.fullmatch(r"The history at .+ can be used again \(away for 5 min( \d s)?\)\.", about[1])
    assert len(about) == 2
    assert house.history.summary(run).state is TypeRunState.COMPLETED


def test_a_run_whose_name_is_locked_elsewhere_goes_back_for_a_second_and_then_for_30(house: House) -> None:
    """It begins only with the lock in hand, and is not failed."""
    looks: list[datetime] = []

    class Locked(StorageFile):
        def lock(self, workflow_id: str) -> Any:
            looks.append(clock.now())
            if len(looks) < 4:
                raise WorkflowBusy(workflow_id, "a lock", "process 7 on host web-3")
            return super().lock(workflow_id)

    storage = Locked(house.folder / "values")
    config = Config(history=house.history, storage=storage, executor=ExecutorThread(), log=house.log)
    workflow = DotFlow(config, workflow_id="nightly")
    workflow.task.add(action(lambda: None), name="load")
    run = workflow.submit()
    house.serve(at(11, 5), workflow)

    waits = [round((later - before).total_seconds()) for before, later in itertools.pairwise(looks)]
    assert waits == [1, 30, 30]
    assert house.history.summary(run).state is TypeRunState.COMPLETED
    about = f"The run {run} of 'nightly' waits: "
    assert len([line for line in house.log.messages if line.startswith(about)]) == 1
