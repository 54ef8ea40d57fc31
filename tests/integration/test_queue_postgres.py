"""The queue in Postgres: who is taken over, and who goes on; each history here is that of a machine of its own."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from datetime import timedelta
from functools import partial
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from dotflow import Config, Context, DotFlow, action, clock
from dotflow.abc.operations import Claim, Ending, Order, RunLost, Submission, TypeOrder
from dotflow.cli.commands import orders
from dotflow.cli.screen import state_of
from dotflow.control import Control
from dotflow.core.events import AttemptStarted, Planned, RunEnded, RunStarted, TaskCompleted
from dotflow.core.types.run_state import TypeRunState
from dotflow.core.types.status import TypeStatus
from dotflow.errors import HistoryError, OrderRefused
from dotflow.providers import ExecutorThread, HistoryPostgres, LogDefault, StorageFile
from dotflow.providers.histories.postgres import link
from dotflow.providers.histories.postgres.link import PostgresConnection
from dotflow.providers.histories.postgres.presence import PostgresPresence
from dotflow.providers.histories.sql import queue
from dotflow.providers.histories.sql.queue import SQLQueueServer
from dotflow.report.document import run_object
from dotflow.report.orders import order_text
from dotflow.serving import Server, serve
from dotflow.serving.duties import Machines, TakeOvers
from dotflow.serving.reports import Reports
from dotflow.serving.runs import Runs
from dotflow.ui.actions import Actions
from tests.clouds.postgres import PostgresProcess
from tests.histories import begin, quick, take

DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"


@action
def double(customer: int) -> int:
    return 2 * customer


class Machine:
    """A process on a machine of its own: a history, a server and beats, which are sent when a test wants them."""

    def __init__(self, dsn: str, folder: Path) -> None:
        self.history = HistoryPostgres(dsn, late=0)
        config = Config(
            history=self.history,
            storage=StorageFile(folder),
            executor=ExecutorThread(),
            log=LogDefault(output="none"),
        )
        self.workflow = DotFlow(config, workflow_id="report", params={"customer": 1})
        self.workflow.task.add(double)
        self.presence = self.history.database.presence
        server = self.history.operations().open_server(["report"])
        assert isinstance(server, SQLQueueServer)
        self.server = server
        self.presence._stop.set()

    def take(self) -> Claim:
        """Takes the next run. A claim estimates the database's clock, and may be some milliseconds behind."""
        until = time.monotonic() + 5
        while (claim := take(self.server, "report")) is None and time.monotonic() < until:
            time.sleep(0.01)
        assert claim is not None
        return claim


@pytest.fixture
def pass_time(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """Lets seconds pass, each with a look of a machine that beats. Returns what it has taken over."""
    now = 1_000.0
    monkeypatch.setattr(clock, "elapsed", lambda: now)

    def pass_time(seconds: int, machine: Machine | None = None, *others: Machine) -> list[Any]:
        nonlocal now
        taken: list[Any] = []
        for second in range(seconds):
            now += 1
            for one in (machine, *others) if second % 10 == 0 else ():
                if one is not None:
                    one.presence.beat()
            if machine is not None:
                taken += machine.server.take_over()
        return taken

    return pass_time


@pytest.fixture
def machines(
    postgres_history: str, tmp_path: Path, pass_time: Callable[..., list[Any]]
) -> Iterator[tuple[Machine, Machine]]:
    """Two of them, with one database and one storage."""
    with ExitStack() as stack:
        found = []
        for _ in range(2):
            machine = Machine(postgres_history, tmp_path / "values")
            stack.enter_context(closing(machine.history))
            stack.callback(machine.server.close)
            found.append(machine)
        yield found[0], found[1]


PassTime = Callable[..., list[Any]]
TwoMachines = tuple[Machine, Machine]


def test_a_process_whose_beat_stands_still_for_45_seconds_is_taken_over(
    machines: TwoMachines, pass_time: PassTime
) -> None:
    """Not before; its run is Crashed and continued, its server and its row are gone."""
    dead, server = machines
    run = dead.workflow.submit()
    dead.take()

    assert pass_time(45, server) == []
    (taken,) = pass_time(2, server)
    assert (taken.run_id, taken.state) == (run, TypeRunState.CRASHED)
    assert server.take().run_id == taken.continued_by
    assert len(server.history.database.run("SELECT lock FROM beats")) == 1
    assert len(server.history.database.run("SELECT server FROM servers")) == 1


def test_a_server_reports_the_process_that_gave_no_sign_of_life(
    machines: TwoMachines, pass_time: PassTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its machine and number, and for how long; and what becomes of its run."""
    dead, server = machines
    dead.workflow.submit()
    run = dead.take()
    server.history.database.run("UPDATE runs SET process = 'web-3:4711' WHERE run_id = ?", (run.run_id,))
    lines: list[str] = []
    reports = Reports({"report": server.workflow})
    monkeypatch.setattr(reports, "report", lines.append)
    duty = TakeOvers(server.server, Runs({}, {}, str, reports, lambda: None, once=False), reports)

    for second in range(47):
        pass_time(1)
        if second % 10 == 0:
            server.presence.beat()
        duty.look()

    (newest,) = server.history.runs(state="queued")
    process = f"The process of the run {run.run_id} of 'report' (web-3, 4711)"
    assert lines == [f"{process} gave no sign of life for 45 s: {newest.run_id} continues it."]


def grow_silent(machine: Machine, seconds: int) -> None:
    """Sets the last beat of a machine back, by the clock of the database."""
    values = (machine.presence.lock,)
    machine.history.database.run(f"UPDATE beats SET at = at - {seconds} * 1000000 WHERE lock = ?", values)


def test_a_run_whose_process_is_silent_is_shown_so_before_it_counts_as_crashed(machines: TwoMachines) -> None:
    """From 20 s to 60 s, in lists, on pages and as JSON; readers write nothing."""
    silent, reader = machines
    run = silent.workflow.submit()
    silent.take()
    reader.server.close()  # who watches decides by that
    assert reader.history.summary(run).silence is None

    reader.presence.beat()
    before = reader.history.revision()
    grow_silent(silent, 52)
    first = reader.history.revision()
    (found,) = reader.history.runs()
    assert (found.state, found.silence is not None and 52 <= found.silence < 60) == (TypeRunState.RUNNING, True)
    text = state_of(found).plain
    assert re.fullmatch(r". Running, no sign of life for 5\d s", text)
    assert run_object(reader.history.load(run))["silence"] >= 52

    grow_silent(silent, 10)
    found = reader.history.summary(run)
    assert (found.state, found.silence) == (TypeRunState.CRASHED, None)
    assert reader.history.database.run("SELECT state FROM runs") == [("Running",)]
    silences = [int(one.rpartition(" ")[2]) for one in (before, first, reader.history.revision())]
    assert silences == [0, 5, 6]  # so pages read again, though nothing was committed


def test_orders_to_a_silent_run_say_what_becomes_of_them(machines: TwoMachines) -> None:
    """A cancel waits for the process, or for the server that takes over; a resume has to wait."""
    silent, person = machines
    run = silent.workflow.submit()
    silent.take()
    person.server.close()
    control = Control(person.history)
    grow_silent(silent, 30)

    why = r"but its process gave no sign of life for 3\d s\. Wait (29|30) s: without one it is crashed then"
    with pytest.raises(OrderRefused, match=why):
        control.resume(run)
    assert control.seconds_to_look(run) == 0
    text = order_text("cancel", control.cancel(run))
    assert re.search(r"is ordered to cancel\. Its process gave no sign of life for 3\d s: if it has ended, the ", text)


def test_a_run_of_a_silent_process_is_resumed_after_a_watch(
    machines: TwoMachines, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command says so first. What beats meanwhile lives, whatever the clock of the database said."""
    silent, person = machines
    run = silent.workflow.submit()
    silent.take()
    person.server.close()
    grow_silent(silent, 61)
    slept: list[float] = []

    def beat(seconds: float) -> None:
        slept.append(seconds)
        silent.presence.beat()

    monkeypatch.setattr(queue, "time", SimpleNamespace(sleep=beat))  # its own: a connection waits, too
    with pytest.raises(OrderRefused, match="it is running: its process has just given a sign of life"):
        Control(person.history).resume(run)

    grow_silent(silent, 61)
    buttons = {
        one["label"]: one["says"] for one in Actions(person.history, lambda _: "ann").of_run(person.history.load(run))
    }
    assert buttons["Resume"].endswith("Its process is watched for 12 s first.")
    monkeypatch.setattr(queue, "time", SimpleNamespace(sleep=slept.append))
    monkeypatch.setattr(orders, "open_history", lambda _: person.history)
    assert orders.resume.main([run], standalone_mode=False) in (0, None)
    newest = Control(person.history).run(run)
    assert (newest.state, newest.continues) == (TypeRunState.QUEUED, run)
    assert slept == [12.0, 12.0]
    watched = f"The process of the run {newest.continues[:8]} gave no sign of life for a minute. Looks at it for 12 s."
    assert watched in capsys.readouterr().err


def test_a_run_that_is_taken_over_while_its_process_stands_still_ends_its_steps(
    machines: TwoMachines, pass_time: PassTime, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once that goes on: the log says why, and the run that continues it has the values."""
    frozen, server = machines
    thawed = threading.Event()

    @action
    def freeze() -> None:
        pass_time(46, server)
        thawed.set()
        while True:
            time.sleep(0.01)

    config = Config(history=frozen.history, storage=frozen.workflow.config.storage, executor=ExecutorThread())
    workflow = DotFlow(config, workflow_id="report")
    workflow.task.add(freeze)
    run = workflow.submit()
    with Server([workflow], options={}).start() as serving:
        assert thawed.wait(60)
        while run in serving._runs.active:
            time.sleep(0.01)
        serving.request_stop()

    written = capsys.readouterr()
    line = f"The run {run} was taken over while this process stood still or was cut off. Its steps end."
    assert line in written.out + written.err
    assert server.history.summary(run).state is TypeRunState.CRASHED


def test_a_process_that_beats_keeps_its_runs(machines: TwoMachines, pass_time: PassTime) -> None:
    """However long they take."""
    one, server = machines
    run = one.workflow.submit()
    one.take()

    assert pass_time(200, server, one) == []
    assert Control(one.workflow).run(run).state is TypeRunState.RUNNING


def test_a_thawed_process_keeps_what_was_not_taken_yet(
    machines: TwoMachines, pass_time: PassTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It beats between the decision of another process and its transaction, which finds another number."""
    one, server = machines
    run = one.workflow.submit()
    claim = one.take()
    pass_time(45, server)
    find_dead = type(server.presence).find_dead

    def thaw_then(*given: Any) -> Any:
        found = find_dead(*given)
        one.presence.beat()
        return found

    monkeypatch.setattr(type(server.presence), "find_dead", thaw_then)

    assert pass_time(2, server) == []
    one.server.begin(claim)
    assert Control(one.workflow).run(run).state is TypeRunState.RUNNING


def test_what_a_thawed_process_records_of_a_run_that_was_taken_over_is_dropped(
    machines: TwoMachines, pass_time: PassTime
) -> None:
    """Its running step ends with a value that no run has: the history keeps that it was cut off, and why."""
    one, server = machines
    one.workflow.submit()
    claim = one.take()
    one.server.begin(claim)
    steps = (Planned("double", "default"),)
    started = RunStarted(claim.name, claim.run_id, 1, clock.now(), steps=steps, workflow="report", is_claimed=True)
    one.history.record(claim.run_id, started)
    one.history.record(claim.run_id, AttemptStarted(0, 1, Context(), clock.now(), clock.ticks()))
    one.history.settle(claim.run_id, begins=True)
    pass_time(47, server)
    ask = server.history.database.run
    rows = "SELECT runs.state, runs.error, completed, attempts.state FROM runs JOIN attempts USING (run)"
    crashed = ask(rows)

    one.history.record(claim.run_id, TaskCompleted(0, Context(2), clock.ticks()))
    one.history.record(claim.run_id, RunEnded(claim.name, claim.run_id, TypeStatus.FAILED, clock.now()))

    assert ask(rows) == crashed
    assert crashed[0][0] == "Crashed"


def test_a_process_that_was_taken_over_serves_on_with_a_new_row(machines: TwoMachines, pass_time: PassTime) -> None:
    """What it writes of the run is refused, it claims nothing by its old row, and others know its new one."""
    one, server = machines
    one.workflow.submit()
    claim = one.take()
    lock = one.presence.lock
    pass_time(47, server)
    taken = server.take()

    with pytest.raises(RunLost):
        one.server.begin(claim)
    assert one.server.end(claim, Ending(TypeRunState.COMPLETED)) is None
    server.server.end(taken, Ending(TypeRunState.COMPLETED))
    again = one.workflow.submit()
    assert take(one.server, "report") is None

    pass_time(1, one)

    assert one.presence.lock != lock
    assert one.take().run_id == again
    one.server.check()
    assert pass_time(40, server) == []
    assert len(server.history.database.run("SELECT server FROM servers")) == 2


def test_a_process_without_an_answered_beat_for_30_seconds_claims_nothing(
    machines: TwoMachines, pass_time: PassTime
) -> None:
    """And one for 15 s takes no run over: it may be the one that is cut off."""
    one, server = machines
    one.workflow.submit()
    assert one.presence.may_begin()

    pass_time(30)

    assert not one.presence.may_begin()
    assert take(one.server, "report") is None
    one.presence.beat()
    assert one.take()
    assert server.server.take_over() == []


def test_an_answer_that_was_lost_ends_no_server(machines: TwoMachines, pass_time: PassTime) -> None:
    """The row has a beat that this process has sent: it goes on from there."""
    one, _ = machines
    heart = one.presence._heart
    assert heart is not None
    one.presence.beat()
    newer = one.presence._heart
    assert newer is not None
    one.presence._heart = heart.sending(newer.beat, clock.elapsed())  # as if no answer had come
    one.presence.beat()
    one.presence.beat()

    one.server.check()
    assert one.presence.lock == heart.lock


def test_a_look_for_news_while_postgres_is_away_ends_no_server(
    machines: TwoMachines, postgres_server: PostgresProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There may be some: the claim that follows reports what is wrong, and is tried again."""
    monkeypatch.setattr(link, "PATIENCE", 0.1)
    _, server = machines
    postgres_server.order("stop")
    try:
        assert server.server.has_news()
        news = {server.history.revision(), server.history.revision()}
    finally:
        postgres_server.order("start")

    assert len(news) == 2
    until = time.monotonic() + 10  # a server that has just started has transactions of its own for a while
    while server.history.revision() != server.history.revision():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_cloned_process_ends_its_server(machines: TwoMachines, pass_time: PassTime) -> None:
    """Its row has a beat that it has not sent: both would run the same."""
    one, _ = machines
    one.history.database.run("UPDATE beats SET beat = 5 WHERE lock = ?", (one.presence.lock,))
    one.presence.beat()

    with pytest.raises(HistoryError, match="another process beats as this one"):
        one.server.check()


def test_a_row_that_is_gone_is_that_of_a_dead_process(machines: TwoMachines, pass_time: PassTime) -> None:
    """At once: a process removes its row when it ends, and a take-over does."""
    one, server = machines
    run = one.workflow.submit()
    one.take()
    server.history.database.run("DELETE FROM beats WHERE lock = ?", (one.presence.lock,))

    (taken,) = pass_time(1, server)
    assert taken.run_id == run


def test_a_claim_whose_answer_was_lost_is_taken_over_by_its_own_server(
    machines: TwoMachines, pass_time: PassTime
) -> None:
    """At once: the history has the run as this server's, which does not have it. What it has, it keeps."""
    one, _ = machines
    run = one.workflow.submit()
    claim = one.take()

    assert one.server.take_over(lambda: [run]) == []
    (taken,) = one.server.take_over(list)
    assert (taken.run_id, taken.state) == (claim.run_id, TypeRunState.CRASHED)
    assert one.take().run_id == taken.continued_by


def test_a_run_of_a_process_that_is_cut_off_ends_after_its_step(machines: TwoMachines, pass_time: PassTime) -> None:
    """Another process may have the run: its running step is saved, the next one begins in a run that continues it."""
    one, _ = machines
    one.presence._stop.set()

    @action
    def lose_contact() -> str:
        if one.presence.may_begin() and not began:
            pass_time(31)
        began.append("first")
        return "saved"

    @action
    def go_on(lose_contact: str) -> str:
        began.append("second")
        return lose_contact

    began: list[str] = []
    workflow = DotFlow(one.workflow.config, workflow_id="cut-off")
    workflow.task.add([lose_contact, go_on])
    run = workflow.submit()

    with Server([workflow], options={}).start():
        while len(one.history.runs(workflow="cut-off")) < 2:
            clock.sleep(0.01)
        first = list(began)
        one.presence.beat()
        ended = Control(workflow).wait(run, "60s")

    assert first == ["first"]
    assert (ended.state, began) == (TypeRunState.COMPLETED, ["first", "second"])
    assert one.history.summary(run).reason == "its process could not reach the history for too long"


def test_no_item_begins_in_a_process_that_is_cut_off(machines: TwoMachines, pass_time: PassTime) -> None:
    """The one that runs is saved, the others run in the run that continues it."""
    one, _ = machines
    began: list[int] = []

    @action
    def numbers() -> list[int]:
        return [0, 1, 2]

    @action
    def lose_contact(number: int) -> int:
        began.append(number)
        if len(began) == 1:
            pass_time(31)
        return number

    workflow = DotFlow(one.workflow.config, workflow_id="cut-off")
    workflow.task.add(numbers)
    workflow.task.add(lose_contact, each=numbers)
    run = workflow.submit()

    with Server([workflow], options={}).start() as serving:
        while run in serving._runs.active or not began:
            clock.sleep(0.01)
        first = list(began)
        one.presence.beat()
        ended = Control(workflow).wait(run, "60s")

    assert first == [0]
    assert (ended.state, began) == (TypeRunState.COMPLETED, [0, 1, 2])


def test_a_cut_off_run_without_a_running_step_gives_its_name_up_without_the_history(
    machines: TwoMachines, pass_time: PassTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though its end can't be written: another machine goes on with it, and the late end is refused."""
    cut_off, server = machines
    end, lines, failed = SQLQueueServer.end, list[str](), list[str]()
    is_away = True

    def refuse(of: SQLQueueServer, claim: Claim, ending: Ending) -> TypeRunState | None:
        if is_away and of._presence is cut_off.presence:
            raise HistoryError("The history can't be used", "it is away")
        return end(of, claim, ending)

    @action(retry=2, retry_delay=3600)
    def fail_once() -> str:
        if not failed:
            failed.append("first")
            pass_time(31)
            raise ValueError("try again")
        return "done"

    monkeypatch.setattr(SQLQueueServer, "end", refuse)
    flows = []
    for machine in machines:
        flows.append(DotFlow(machine.workflow.config, workflow_id="report"))
        flows[-1].task.add(fail_once)
    run = flows[0].submit()

    with Server(flows[:1], options={}).start() as serving:
        monkeypatch.setattr(serving._reports, "report", lambda line, *_: lines.append(line))
        while run in serving._runs.active or not failed:
            clock.sleep(0.01)
        assert len(serving._runs.ends) == 1
        (taken,) = [one for one in pass_time(46, server) if one.run_id == run]
        (found,) = serve(flows[1], once=True)
        is_away = False

    assert (found.run_id, found.state) == (taken.continued_by, TypeRunState.COMPLETED)
    assert server.history.summary(run).state is TypeRunState.CRASHED
    assert lines[-1] == f"The run {run} of 'report' was another process's at its end."


def test_a_plain_run_beats_and_is_crashed_for_a_process_that_watches(
    machines: TwoMachines, pass_time: PassTime, postgres_history: str
) -> None:
    """Its row of beats is there as long as the run, and another machine writes that it has ended."""
    _, server = machines
    beats = "SELECT COUNT(*) FROM beats"
    ((before,),) = server.history.database.run(beats)
    during: list[Any] = []
    with closing(HistoryPostgres(postgres_history, late=0)) as history:
        quick(history, action(lambda: during.extend(server.history.database.run(beats)))).start()
    assert (during, server.history.database.run(beats)) == ([(before + 1,)], [(before,)])

    with closing(HistoryPostgres(postgres_history, late=0)) as frozen:
        begin(frozen, "a" * 32, "load")
        lock = frozen.database.presence.lock
        frozen.database.presence._stop.set()
        pass_time(44, server)
        assert server.history.database.run("SELECT state FROM runs WHERE lock = ?", (lock,)) == [("Running",)]
        pass_time(3, server)
        assert server.history.summary("a" * 32).state is TypeRunState.CRASHED
        assert server.history.database.run("SELECT state FROM runs WHERE lock = ?", (lock,)) == [("Crashed",)]


def test_processes_that_submit_claim_cancel_and_end_at_once_lose_nothing(postgres_history: str) -> None:
    """Four of them, three runs a name: a run is claimed once, none that was cancelled, and its end finds it."""
    with psycopg.connect(postgres_history) as connection:
        before = connection.execute(DEADLOCKS).fetchone()
    dealt, submitted, claimed, lost = count(), list[str](), list[str](), list[str]()

    def work() -> None:
        with closing(HistoryPostgres(postgres_history)) as history:
            queue = history.operations()
            server = queue.open_server(["report"])
            while (number := next(dealt)) < 100:
                submitted.append(queue.submit(Submission("report", "{}", f"report@customer={number % 20}")))
                with suppress(OrderRefused):  # it has ended
                    queue.order(submitted[-1], Order(TypeOrder.CANCEL, "anna"))  # which another one may claim
                claims = server.claim({"report": None}, (), 2)
                claimed.extend(claim.run_id for claim in claims)
                for claim in claims:
                    server.begin(claim)
                    if server.end(claim, Ending(TypeRunState.COMPLETED)) is None:
                        lost.append(claim.run_id)
            server.close()

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work) for _ in range(4)]:
            done.result()
    with closing(HistoryPostgres(postgres_history)) as history:
        assert [run.run_id for run in history.runs() if run.state is TypeRunState.RUNNING] == []
        at_once = history.database.run("SELECT run_id FROM orders JOIN runs USING (run) WHERE done = at")
    assert (len(claimed), lost) == (len(set(claimed)), [])
    assert not {run for (run,) in at_once} & {*claimed}, "what was cancelled in the queue was claimed"
    with psycopg.connect(postgres_history) as connection:
        assert connection.execute(DEADLOCKS).fetchone() == before


def test_the_clock_of_the_database_says_what_is_due(machines: TwoMachines, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not that of a machine, which may be wrong by hours: neither of one that submits, nor of one that claims."""
    one, server = machines
    right = clock.now
    monkeypatch.setattr(clock, "now", lambda: right() + timedelta(hours=5))
    later = one.workflow.submit(params={"customer": 2}, at="1h")
    first = one.workflow.submit()

    assert server.take().run_id == first
    assert take(server.server, "report") is None
    moments = [run.submitted for run in one.history.runs() if run.submitted is not None]
    assert max(moments) < right() + timedelta(minutes=1)
    assert later in [run.run_id for run in one.history.runs()]
    monkeypatch.setattr(clock, "now", lambda: right() - timedelta(hours=5))
    assert server.history.operations().now() > right() - timedelta(minutes=1)
    assert server.server.next_due() is not None


def test_a_server_reports_where_it_serves_and_what_other_machines_can_not_restore(
    machines: TwoMachines, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once: a folder of one machine has no values for a run that another one takes over."""
    one, server = machines
    one.history.database.run("UPDATE servers SET process = 'web-9:1' WHERE server = ?", (one.server.server_id,))
    lines: list[str] = []
    workflow = DotFlow(
        Config(
            history=server.history,
            storage=StorageFile(server.workflow.config.storage.path),  # type: ignore[attr-defined]
            log=LogDefault(level="info"),
        ),
        workflow_id="report",
        params={"customer": 1},
    )
    workflow.task.add(double)
    duty = Machines(server.server, {"report": workflow}, lines.append)
    for _ in range(2):
        duty.look()

    (line,) = lines
    assert line.startswith("'report' keeps its values on this machine (/")
    assert line.endswith("Use StoragePostgres, StorageS3 or StorageGCS.")

    with Server([workflow], options={}).start():
        pass
    written = capsys.readouterr()
    assert re.search(r"Serves report on .*schema 'dotflow', as \S+ \(2 other servers\)\.", written.out + written.err)


def test_each_operation_of_the_queue_takes_few_messages(machines: TwoMachines, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many runs a claim takes: what does not depend on each other is sent in one message, with the commit."""
    one, _ = machines
    sent = 0
    call = PostgresConnection.call

    def counted(connection: PostgresConnection, work: Callable[[], Any]) -> Any:
        nonlocal sent
        sent += 1
        return call(connection, work)

    def messages(work: Callable[[], object]) -> int:
        nonlocal sent
        sent = 0
        work()
        return sent

    operations = one.history.operations()
    submit = [Submission("report", "{}", f"report@customer={number}") for number in range(8)]
    operations.submit(submit[0])
    monkeypatch.setattr(PostgresConnection, "call", counted)
    counts = [messages(partial(operations.submit, wanted)) for wanted in submit[1:]]
    claims = list[Claim]()

    assert counts == [3] * 7
    assert messages(lambda: claims.extend(one.server.claim({"report": None}, (), 8))) == 6
    assert len(claims) == 8
    assert messages(lambda: one.server.begin(claims[0])) == 3
    assert messages(lambda: one.server.end(claims[0], Ending(TypeRunState.COMPLETED))) == 4


def test_only_a_list_with_a_running_run_asks_for_signs_of_life(
    machines: TwoMachines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once for all of its runs: of queued and ended ones no process has to live."""
    one, reader = machines
    asked: list[object] = []
    silences = PostgresPresence.silences
    monkeypatch.setattr(
        PostgresPresence, "silences", lambda *arguments: asked.append(arguments) or silences(*arguments)
    )
    for customer in range(4):
        one.workflow.submit(params={"customer": customer})
    one.server.end(one.take(), Ending(TypeRunState.COMPLETED))
    states = {run.state for run in reader.history.runs()}
    assert (states, asked) == ({TypeRunState.COMPLETED, TypeRunState.QUEUED}, [])

    running = [one.take().run_id for _ in range(2)]
    assert len(reader.history.runs()) == 4
    assert len(asked) == 1
    reader.history.runs(state=["queued", "completed"])
    assert len(asked) == 1
    reader.history.load(running[0])
    assert len(asked) == 2


def test_an_error_within_a_message_has_its_own_words(machines: TwoMachines, caplog: pytest.LogCaptureFixture) -> None:
    """Those after it, which only follow from it, are in no error and no log, and nothing of the message is kept."""
    one, _ = machines

    def work(connection: Any) -> None:
        connection.execute("UPDATE runs SET state = ?", ("Queued",))
        connection.execute("INSERT INTO wanted (run) VALUES (?)", (1,))
        connection.execute("UPDATE runs SET state = ?", ("Failed",))

    run = one.workflow.submit()
    with pytest.raises(HistoryError, match='null value in column "workflow"'):
        one.history.database.transact(work)

    assert one.history.summary(run).state is TypeRunState.QUEUED
    assert one.workflow.submit(params={"customer": 2}) != run
    assert caplog.records == []
