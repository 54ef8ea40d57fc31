"""Submissions that replace the older run of their name, and debounced ones."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dotflow import Config, DotFlow, Setting, action
from dotflow.abc.operations import Claim, Ending, Firing, Schedule
from dotflow.control import Control
from dotflow.core.types.run_state import TypeRunState
from dotflow.errors import InvalidArgument, NotServable, OrderRefused
from dotflow.providers import ExecutorThread, LogDefault, StorageFile
from dotflow.providers.histories.sql.queue import SQLQueueServer
from dotflow.providers.histories.sql.rules import place_after
from dotflow.serving import serve
from dotflow.testing import virtual_clock
from tests.histories import Histories, take

pytestmark = pytest.mark.databases("sqlite", "postgres")

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
Make = Callable[..., DotFlow]


@action
def double(customer: int) -> int:
    return 2 * customer


@pytest.fixture
def make(tmp_path: Path, history: Any) -> Make:
    """Makes the workflow `report`."""

    def make(**more: Any) -> DotFlow:
        config = Config(
            history=history,
            storage=StorageFile(tmp_path / "values"),
            executor=ExecutorThread(),
            log=LogDefault(output="none"),
        )
        workflow = DotFlow(config, workflow_id="report", **{"params": {"customer": 1}, **more})
        workflow.task.add(double)
        return workflow

    return make


@pytest.fixture
def server(history: Any) -> Iterator[SQLQueueServer]:
    """A server of `report`, without its loop."""
    server = history.operations().open_server(["report"])
    assert isinstance(server, SQLQueueServer)
    with contextlib.closing(server):
        yield server


def taken(server: SQLQueueServer) -> Claim:
    claim = take(server, "report")
    assert claim is not None
    return claim


def states(history: Any) -> list[tuple[str, str]]:
    """Returns the id and the state of each run, the oldest first."""
    return [(run.run_id, str(run.state)) for run in reversed(history.runs())]


# Newest wins


def test_a_queued_run_that_is_replaced_is_cancelled_at_once(make: Make, history: Any) -> None:
    """It says by what; the new one has an id of its own, and keeps nothing of the place of the old one."""
    workflow = make()
    older = workflow.submit(at="1h", priority=10)
    newer = workflow.submit(replace=True)

    assert states(history) == [(older, "Cancelled"), (newer, "Queued")]
    found = Control(workflow).run(older)
    assert found.reason.startswith("cancelled by ")
    assert found.reason.endswith(f": the run {newer[:8]} replaces it")
    assert found.superseded == newer
    assert workflow.submit() == newer, "others merge with the new one"


def test_a_running_run_that_is_replaced_is_cancelled_and_the_new_one_begins_when_it_has_ended(
    make: Make, server: SQLQueueServer
) -> None:
    """As by an order: its server heeds it, and the new one waits for that."""
    workflow, control = make(), Control(make())
    older = workflow.submit()
    claim = taken(server)
    server.begin(claim)
    newer = control.submit("report", replace=True, by="anna")

    assert control.run(older).ordered == "cancel"
    assert take(server, "report") is None, "one run of a name at a time"
    newest = control.submit("report", replace=True, by="bob")
    assert control.run(newer).state is TypeRunState.CANCELLED
    assert server.end(claim, Ending(TypeRunState.FAILED)) is TypeRunState.CANCELLED
    assert control.run(older).reason == f"cancelled by anna: the run {newer[:8]} replaces it", "the first order counts"
    assert taken(server).run_id == newest


def test_a_served_run_that_is_replaced_ends_before_its_next_step(make: Make, history: Any) -> None:
    """A whole server: the older run is cancelled, the newer one completes after it."""
    workflow = make()

    @action
    def replace(double: int) -> None:
        if len(history.runs()) == 1:
            Control(history).submit("report", replace=True, by="anna")

    @action
    def publish(replace: None) -> None: ...

    workflow.task.add([replace, publish])
    with virtual_clock():  # each look for orders counts, not only one a second
        older = workflow.submit()
        first, second = serve(workflow, once=True)

    assert (first.run_id, first.state) == (older, TypeRunState.CANCELLED)
    assert second.state is TypeRunState.COMPLETED
    assert first.reason == f"cancelled by anna: the run {second.run_id[:8]} replaces it"
    assert first.ended is not None
    assert first.ended <= second.began


def test_what_continues_another_run_and_what_is_paused_is_replaced_too(make: Make, server: SQLQueueServer) -> None:
    """They would begin before it, or be superseded when it begins."""
    workflow = make()
    control = Control(workflow)
    paused = workflow.submit()
    control.pause(paused)
    first = workflow.submit(replace=True)
    assert control.run(paused).state is TypeRunState.CANCELLED

    claim = taken(server)
    server.begin(claim)
    server.end(claim, Ending(TypeRunState.FAILED))
    goes_on = control.resume(first).run_id
    newer = workflow.submit(replace=True)
    assert control.run(goes_on).state is TypeRunState.CANCELLED
    assert not control.run(goes_on).superseded, "it can be resumed while its values are there"
    assert taken(server).run_id == newer
    assert take(server, "report") is None


def test_other_names_are_left_alone(make: Make, history: Any, server: SQLQueueServer) -> None:
    """A name is the workflow with its parameters, or its key."""
    workflow = make()
    others = [workflow.submit({"customer": 2}), workflow.submit(key="k"), workflow.submit(replace=True)]
    assert states(history) == [(run, "Queued") for run in others]
    claims = server.claim({"report": None}, (), 9)
    assert {claim.run_id for claim in claims} == {*others}
    workflow.submit({"customer": 2}, replace=True)
    assert set(history.operations().orders()) == {others[0]}


def test_a_firing_has_the_run_that_has_replaced_its_own(make: Make, server: SQLQueueServer) -> None:
    """It is not late because its run was cancelled."""
    workflow = make()
    with virtual_clock(start=NOON):
        schedule = Schedule('["report","0 12 * * *",null]', "report", "0 12 * * *", "UTC")
        server.serve_schedules([schedule])
        known, settled = server.settled(schedule)
        until = NOON + timedelta(seconds=1)
        firing = Firing(NOON, workflow.make_submission(None)._replace(due=NOON))
        assert server.fire(known, settled, until, [firing]) == []
        newer = workflow.submit(replace=True)

        (fired,) = workflow.config.history.operations().fired(schedule.schedule, NOON - timedelta(days=1), until, 9)
        assert fired.run is not None
        assert (fired.run.run_id, fired.run.state) == (newer, TypeRunState.QUEUED)


def test_a_key_is_that_of_the_newest_run(make: Make, server: SQLQueueServer) -> None:
    """Its parameters may be others with each one, whatever became of the run before."""
    workflow = make()
    control = Control(workflow)
    first = workflow.submit({"customer": 1}, key="page", replace=True)
    second = workflow.submit({"customer": 2}, key="page", replace=True)
    assert control.run(first).state is TypeRunState.CANCELLED
    assert taken(server).run_id == second
    third = workflow.submit({"customer": 3}, key="page", replace=True)

    assert len({first, second, third}) == 3
    assert workflow.submit({"customer": 3}, key="page") == third
    with pytest.raises(OrderRefused, match="used with other parameters"):
        workflow.submit({"customer": 2}, key="page")
    assert [control.run(run).params for run in (second, third)] == [{"customer": 2}, {"customer": 3}]


def test_a_run_by_hand_is_replaced(make: Make, history: Any) -> None:
    """It is ordered to end as by `dotflow cancel`."""
    workflow = make()

    @action
    def replace(double: int) -> None:
        Control(history).submit("report", replace=True, by="anna")

    @action
    def never(replace: None) -> None:
        raise AssertionError

    workflow.task.add([replace, never])
    with virtual_clock():
        run = workflow.start()

    assert run.state is TypeRunState.CANCELLED
    (newer,) = (one for one in history.runs() if one.run_id != run.run_id)
    assert newer.state is TypeRunState.QUEUED
    reason = Control(history).run(run.run_id).reason
    assert reason == f"the run was cancelled by anna: the run {newer.run_id[:8]} replaces it"


# Debounce


def test_a_debounced_run_begins_when_its_name_was_not_submitted_for_a_while(make: Make, server: SQLQueueServer) -> None:
    """Each submission puts it off, up to the moment after the first one; the last parameters count."""
    workflow = make(params={"customer": 1})
    control = Control(workflow)
    with virtual_clock(start=NOON) as time:
        run = workflow.submit({"customer": 1}, key="page", debounce="2m", within="10m")
        for minute in range(1, 12):
            time.sleep(60)
            assert take(server, "report") is None
            if minute < 10:
                again = workflow.submit({"customer": minute}, key="page", debounce="2m", within="10m")
                assert again == run
                due = NOON + timedelta(minutes=min(minute + 2, 10))
                assert control.run(run).due == server.next_due() == due
            if minute == 9:
                break
        time.sleep(60)
        claim = taken(server)
        assert claim.run_id == run
        assert control.run(run).params == {"customer": 9}

        behind = workflow.submit({"customer": 10}, key="page", debounce="2m")
        assert behind != run, "what runs has its parameters"
        time.sleep(121)
        assert take(server, "report") is None
        server.begin(claim)
        server.end(claim, Ending(TypeRunState.COMPLETED))
        assert taken(server).run_id == behind


def test_without_a_limit_it_waits_for_silence(make: Make, server: SQLQueueServer) -> None:
    workflow = make()
    with virtual_clock(start=NOON) as time:
        for _ in range(50):
            run = workflow.submit(debounce=120)
            time.sleep(119)
            assert take(server, "report") is None
        time.sleep(2)
        assert taken(server).run_id == run


def test_a_plain_submission_begins_what_was_put_off(make: Make, server: SQLQueueServer) -> None:
    """Whatever is submitted after it: a promise to begin is kept."""
    workflow = make()
    with virtual_clock(start=NOON) as time:
        run = workflow.submit(debounce="2m")
        time.sleep(60)
        assert workflow.submit(at="90s") == run
        time.sleep(59)
        assert workflow.submit(debounce="2m") == run
        assert Control(workflow).run(run).due == NOON + timedelta(seconds=150)
        assert workflow.submit() == run
        assert workflow.submit(debounce="2m") == run
        assert taken(server).run_id == run


def test_a_plain_run_is_put_off_no_further_than_it_was_due(make: Make, server: SQLQueueServer) -> None:
    """It may be due later than the debounced submission, which then is the one that counts."""
    workflow = make()
    with virtual_clock(start=NOON) as time:
        run = workflow.submit(at="3m")
        for seconds in (120, 180, 180):
            assert workflow.submit(debounce="2m") == run
            assert Control(workflow).run(run).due == NOON + timedelta(seconds=seconds)
            time.sleep(70)
        assert taken(server).run_id == run


def test_each_submission_keeps_its_limit(make: Make) -> None:
    """One that has none, or a later one, takes it from no other."""
    workflow = make()
    with virtual_clock(start=NOON) as time:
        run = workflow.submit(debounce="2m", within="3m")
        time.sleep(100)
        for more in ({}, {"within": "1h"}):
            assert workflow.submit(debounce="2m", **more) == run
            assert Control(workflow).run(run).due == NOON + timedelta(minutes=3)


def test_a_debounced_run_takes_the_higher_priority_and_the_newest_settings(make: Make) -> None:
    workflow = make(params={"customer": 1, "size": Setting(5)})
    run = workflow.submit(debounce="2m", priority=3)
    assert workflow.submit({"size": 7}, debounce="2m") == run
    found = Control(workflow).run(run)
    assert found.params == {"customer": 1, "size": 7}
    assert workflow.submit({"customer": 2}, debounce="2m") != run, "another name"


def test_a_firing_of_the_name_ends_the_wait(make: Make, server: SQLQueueServer) -> None:
    """A scheduled run takes the queued one of its name, which then is in time for the alarm."""
    workflow = make()
    with virtual_clock(start=NOON):
        schedule = Schedule('["report","0 12 * * *",null]', "report", "0 12 * * *", "UTC")
        server.serve_schedules([schedule])
        run = workflow.submit(debounce="2m")
        firing = Firing(NOON, workflow.make_submission(None)._replace(due=NOON))
        until = NOON + timedelta(seconds=1)
        known, settled = server.settled(schedule)
        assert server.fire(known, settled, until, [firing]) == []
        (fired,) = workflow.config.history.operations().fired(schedule.schedule, NOON - timedelta(days=1), until, 9)
        assert (fired.was_looked_at, fired.run and fired.run.run_id) == (False, run)
        assert workflow.submit(debounce="2m") == run
        (fired,) = workflow.config.history.operations().fired(schedule.schedule, NOON - timedelta(days=1), until, 9)
        assert not fired.was_looked_at
        assert taken(server).run_id == run


def test_a_debounced_key_takes_a_run_that_no_server_has_named(make: Make, history: Any) -> None:
    """It was submitted where the workflow is unknown, and gets its name and the newest parameters."""
    control = Control(history)
    unnamed = control.submit("report", {"customer": "7"}, key="page", at="1h")
    workflow = make()
    assert workflow.submit({"customer": 8}, key="page", debounce="2m") == unnamed
    assert Control(workflow).run(unnamed).params == {"customer": 8}
    serve(workflow, once=True)
    (found,) = history.runs()
    assert (found.workflow_id, found.state) == ("report#page", TypeRunState.QUEUED)

    replaced = Control(workflow).submit("report", {"customer": 9}, key="page", replace=True)
    assert [state for _, state in states(history)] == ["Cancelled", "Queued"]
    assert history.runs()[0].run_id == replaced


@pytest.mark.parametrize(
    ("due", "latest", "again", "again_latest", "after"),
    [
        (5, None, 9, None, (5, None)),  # two plain ones: the earlier moment
        (5, 9, 3, None, (3, 3)),  # a plain one ends the wait
        (5, 9, 20, None, (5, 9)),
        (5, 9, 8, 15, (8, 9)),  # a debounced one puts off, as far as the first limit
        (5, 9, 8, 8, (8, 8)),
        (5, 9, 12, 19, (9, 9)),
        (5, None, 8, 15, (5, 5)),
        (5, "forged", 8, 15, (5, 5)),
    ],
)
@pytest.mark.databases("sqlite")
def test_when_a_run_is_due_that_is_submitted_again(
    due: int, latest: Any, again: int, again_latest: int | None, after: tuple[int, int | None]
) -> None:
    assert place_after(due, latest, again, again_latest) == after


# What goes together


@pytest.mark.parametrize(
    ("arguments", "accepted"),
    [
        ({"within": "10m"}, "within='10m' is not accepted. Pass it with debounce="),
        ({"within": "10m", "replace": True}, "Pass it with debounce="),
        ({"debounce": "2m", "replace": True}, "either debounce= or replace="),
        (
            {"debounce": "2 moons"},
            r"debounce='2 moons' is not accepted. Pass a number of seconds, more than 0, or a text",
        ),
        ({"debounce": 0}, "more than 0"),
        ({"debounce": "10m", "within": "2m"}, "within='2m' is not accepted. Pass at least as long as debounce='10m'"),
        ({"debounce": "2m", "within": "soon"}, "within='soon' is not accepted. Pass a number of seconds"),
        ({"debounce": "2m", "at": "1h"}, "no moment with debounce="),
        ({"replace": True, "at": "1h"}, "no moment with replace="),
        ({"replace": "yes"}, "Pass True or False"),
        ({"replace": True, "connection": 7}, "None with replace=.* touches no other run"),
        ({"debounce": 5, "connection": 7}, "None with debounce="),
    ],
)
def test_what_does_not_go_together_is_refused(
    make: Make, history: Any, arguments: dict[str, Any], accepted: str
) -> None:
    workflow = make()
    workflow.submit({"customer": 3})
    for submit in (workflow.submit, lambda **more: Control(workflow).submit("report", **more)):
        with pytest.raises(InvalidArgument, match=accepted):
            submit(**arguments)
    assert len(history.runs()) == 1


def test_a_name_that_is_unknown_here_is_refused(history: Any) -> None:
    """Only a server could tell whether another run has it."""
    for more in ({"replace": True}, {"debounce": "2m"}):
        with pytest.raises(
            NotServable, match=r"can't be submitted by its id with .*=: this process can't make the name"
        ):
            Control(history).submit("report", {"customer": 1}, **more)
    assert history.runs() == []


# Processes


PROGRAM = """
import sys
from dotflow import Config, DotFlow, action
from dotflow.providers import LogDefault
from dotflow.providers.histories.default import history_at

history, options = sys.argv[1], eval(sys.argv[2])

@action
def page(number: int) -> int:
    return number

config = Config(history=history_at(history), log=LogDefault(output="none"))
workflow = DotFlow(config, workflow_id="report", params={"number": 0})
workflow.task.add(page)
sys.stdin.readline()
for number in range(20):
    print(workflow.submit({"number": number}, key="page", **options))
"""


@pytest.fixture
def submit_at_once(histories: Histories, tmp_path: Path) -> Iterator[Callable[[dict[str, Any]], list[Any]]]:
    """Starts two programs that submit twenty runs of a name each, at once."""
    found: list[subprocess.Popen[str]] = []

    def start(options: dict[str, Any]) -> list[Any]:
        command = [sys.executable, "-c", PROGRAM, histories.where(), repr(options)]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        found.extend(subprocess.Popen(command, cwd=tmp_path, **pipes) for _ in range(2))
        for process in found:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.close()
        return found

    yield start
    for process in found:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


SubmitAtOnce = Callable[[dict[str, Any]], list[Any]]


def test_programs_that_submit_at_once_share_one_debounced_run(history: Any, submit_at_once: SubmitAtOnce) -> None:
    """Its parameters are those of the last submission."""
    printed = [process.stdout.read() for process in submit_at_once({"debounce": "1h", "within": "2h"})]

    (run,) = history.runs()
    assert [text.split() for text in printed] == [[run.run_id] * 20] * 2
    assert (run.state, run.params) == (TypeRunState.QUEUED, {"number": 19})


def test_programs_that_replace_at_once_leave_one_run(history: Any, submit_at_once: SubmitAtOnce) -> None:
    """That of the last submission; each of the others says what has replaced it."""
    printed = [process.stdout.read() for process in submit_at_once({"replace": True})]

    runs = {run.run_id: run for run in history.runs()}
    assert {run for text in printed for run in text.split()} == {*runs}
    assert len(runs) == 40
    (last,) = (run for run in runs.values() if run.state is TypeRunState.QUEUED)
    assert last.params == {"number": 19}
    by = {reason.split()[-3] for run in runs.values() if (reason := run.reason)}
    assert len(by) == 39
    assert by <= {run[:8] for run in runs}


def test_a_debounced_run_that_is_taken_meanwhile_loses_no_parameters(
    history: Any, server: SQLQueueServer, submit_at_once: SubmitAtOnce
) -> None:
    """What is submitted after a claim has a run of its own, which is never beside another one that waits."""
    processes, numbers = submit_at_once({"debounce": "1ms"}), list[int]()
    is_over = False
    while True:
        if (claim := take(server, "report")) is not None:
            server.begin(claim)
            waiting = [run for run in history.runs() if run.state is TypeRunState.QUEUED]
            assert len(waiting) <= 1
            numbers.append(json.loads(claim.params)["number"])
            server.end(claim, Ending(TypeRunState.COMPLETED))
        elif is_over and all(run.state is not TypeRunState.QUEUED for run in history.runs()):
            break
        else:
            is_over = all(process.poll() is not None for process in processes)
            time.sleep(0.005)
    assert numbers[-1] == 19
    ids = {run for process in processes for run in process.stdout.read().split()}
    assert ids == {run.run_id for run in history.runs()}
    assert len(ids) == len(numbers)
