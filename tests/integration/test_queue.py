"""Submissions, orders and claims, in one process."""

import contextlib
import errno
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dotflow import Config, Context, DotFlow, Secret, Setting, action, clock
from dotflow.abc.executor import ExecutorSession, Report
from dotflow.abc.notify import RunMessage
from dotflow.abc.operations import Ending, Submission
from dotflow.control import Control
from dotflow.core.attempt_id import triggered_by
from dotflow.core.events import AttemptStarted, Planned, RunStarted, TaskCompleted
from dotflow.core.task import Task
from dotflow.core.types.run_state import TypeRunState
from dotflow.core.types.status import TypeStatus
from dotflow.engine.run import Run
from dotflow.engine.stop import Stop
from dotflow.errors import (
    ClusterLost,
    HistoryError,
    InvalidArgument,
    MissingParam,
    NotInHistory,
    NotServable,
    OrderRefused,
    UnknownParam,
    WorkflowBusy,
)
from dotflow.providers import (
    ExecutorThread,
    HistoryPostgres,
    HistorySQLite,
    LogDefault,
    NotifyDefault,
    StorageFile,
    sqlite_file,
)
from dotflow.providers.histories.sql.queue import SQLQueue, SQLQueueServer
from dotflow.records.record import RunSummary
from dotflow.serving import Server, serve
from dotflow.serving.duties import Claims
from dotflow.testing import virtual_clock
from tests.histories import take
from tests.queue_model import explore

Make = Callable[..., DotFlow]
OpenServer = Callable[[], SQLQueueServer]


@action
def double(customer: int) -> int:
    return 2 * customer


@action
def add_one(double: int) -> int:
    if double > 100:
        raise ValueError("too many\nof them")
    return double + 1


@pytest.fixture(params=["sqlite", "postgres"])
def history(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[HistorySQLite]:
    """A history without runs, on both databases."""
    if request.param == "sqlite":
        found: Any = HistorySQLite(tmp_path / "history.db")
    else:
        found = HistoryPostgres(request.getfixturevalue("postgres_history"), late=0)
    with closing(found):
        yield found


#: It opens the file, or its locks.
on_sqlite = pytest.mark.parametrize("history", ["sqlite"], indirect=True)


@pytest.fixture
def make(tmp_path: Path, history: HistorySQLite) -> Make:
    """Makes the workflow `report`; its steps run in threads, which begin at once."""

    def make(**more: Any) -> DotFlow:
        config = Config(
            history=history,
            storage=StorageFile(tmp_path / "values"),
            executor=more.pop("executor", None) or ExecutorThread(),
            log=LogDefault(output="none"),
            secrets={"TOKEN": "tok-1234567"},
        )
        workflow = DotFlow(config, workflow_id="report", **{"params": {"customer": 1}, **more})
        workflow.task.add([double, add_one])
        return workflow

    return make


@pytest.fixture
def open_server(history: HistorySQLite) -> Iterator[OpenServer]:
    """Opens servers of `report`, without their loop."""
    opened: list[SQLQueueServer] = []

    def open_server() -> SQLQueueServer:
        server = history.operations().open_server(["report"])
        assert isinstance(server, SQLQueueServer)
        opened.append(server)
        return server

    yield open_server
    for server in opened:
        with contextlib.suppress(HistoryError):  # its file was lost
            server.close()


def states(history: HistorySQLite) -> list[str]:
    return [str(run.state) for run in reversed(history.runs())]


# Submissions


def test_a_submission_is_a_queued_run(make: Make, history: HistorySQLite) -> None:
    """Its id is returned at once, and the history lists it with its parameters."""
    run = make(name="Reports").submit(params={"customer": 7})

    (found,) = history.runs()
    assert (found.run_id, found.state, found.workflow_id) == (run, TypeRunState.QUEUED, "report@customer=7")
    assert (found.name, found.params, found.trigger) == ("Reports", {"customer": 7}, "submit")
    assert found.submitted == found.began == found.due
    assert history.load(run).steps == []


@on_sqlite
def test_a_submission_uses_the_open_file(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a process serves the workflow is looked up there, too: to open it takes longer than all the rest."""
    opened: list[Any] = []
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *given, **more: (opened.append(given), connect(*given, **more))[1])
    workflow = make()
    for customer in range(3):
        workflow.submit({"customer": customer})

    assert len(opened) == 1


def test_a_second_submission_of_a_queued_run_returns_its_id(make: Make) -> None:
    """It takes the earlier moment and the higher priority of both."""
    workflow = make()
    first = workflow.submit(at="1h", priority=1)

    assert workflow.submit(at=timedelta(hours=2)) == first
    assert workflow.submit(priority=-1) == first
    due = Control(workflow).run(first).due
    assert due is not None
    assert due <= clock.now()
    assert workflow.submit(params={"customer": 1}) == first  # the default
    assert workflow.submit(params={"customer": 2}) != first  # its name says it: another run


def test_a_key_whose_name_a_queued_run_has_is_that_run(history: HistorySQLite) -> None:
    """As that of a scheduled run, which is named by its moment. The key is known from then on."""
    queue = history.operations()
    run = queue.submit(Submission("report", "{}", "report#click"))
    for _ in range(2):
        assert queue.submit(Submission("report", "{}", "report#click", key="click")) == run
    assert len(history.runs()) == 1


def test_a_run_with_parameters_that_only_a_newer_server_knows_waits_for_that_one(
    make: Make, history: HistorySQLite
) -> None:
    """While two versions serve, it goes back for 30 s, and no try is counted. Where none is newer, it fails."""
    newer = make(params={"customer": 1, "day": 1})
    run = newer.submit({"day": 2})
    older = Server([make()], options={})
    history.operations().declare([newer.declared()])  # after the older one has
    with pytest.MonkeyPatch.context() as deploy:
        deploy.setattr(type(history.operations()), "declare", lambda queue, workflows: None)
        with older.start():
            while (waiting := Control(history).run(run)).due in (None, waiting.submitted):
                clock.sleep(0.01)
    assert waiting.state is TypeRunState.QUEUED
    assert waiting.due is not None
    assert waiting.due - clock.now() > timedelta(seconds=20)
    assert history.database.run("SELECT tries FROM wanted") == [(0,)]

    history.database.run("UPDATE wanted SET due = 1")
    serve(make(), once=True)
    assert Control(history).run(run).state is TypeRunState.FAILED


def test_a_key_names_a_run(make: Make) -> None:
    """The same key returns the same run, when it has ended, too; with other parameters it is refused."""
    workflow = make()
    run = workflow.submit({"customer": 2}, key="click/17")
    serve(workflow, once=True)

    assert workflow.submit({"customer": 2}, key="click/17") == run
    assert Control(workflow).run(run).workflow_id == 'report#"click/17"'
    with pytest.raises(OrderRefused, match="the key 'click/17' was used with other parameters"):
        workflow.submit({"customer": 3}, key="click/17")
    assert workflow.value(run, "add_one") == 5


def test_names_that_no_index_takes_are_refused(make: Make, history: HistorySQLite) -> None:
    """By their bytes, however a run is submitted. Parameters are a digest where they are long."""
    workflow, control = make(), Control(history)
    with pytest.raises(InvalidArgument, match=r"key='éé.* Pass a shorter one: the names of the run have 2,4\d\d bytes"):
        workflow.submit(key="é" * 1_200)
    with pytest.raises(InvalidArgument, match=r"workflow_id='ww.*bytes, and may have 2,400"):
        control.submit("w" * 2_401)
    assert history.runs() == []
    assert control.submit("unknown", {"customer": "x" * 3_000}, key="k" * 1_100)


def test_parameters_are_checked_as_by_start(make: Make, history: HistorySQLite) -> None:
    """Names, types and those that are missing; nothing is queued."""
    workflow = make(params={"customer": ..., "day": date(2026, 11, 25)})

    with pytest.raises(UnknownParam):
        workflow.submit({"costumer": 1})
    with pytest.raises(MissingParam):
        workflow.submit()
    with pytest.raises(InvalidArgument, match="a date"):
        workflow.submit({"customer": 1, "day": "tomorrow"})
    assert history.runs() == []
    run = workflow.submit({"customer": 1, "day": "2026-11-26"})
    assert Control(workflow).run(run).params == {"customer": 1, "day": date(2026, 11, 26)}


def test_a_secret_is_not_queued(make: Make, history: HistorySQLite) -> None:
    """Neither one that is declared, nor a value that is one."""

    @action
    def send(customer: str, token: str = Secret("TOKEN")) -> None: ...

    workflow = make(params={"customer": ..., "key": Secret("TOKEN")})
    workflow.task.add(send)

    for params in ({"customer": "a", "key": "another"}, {"customer": "is tok-1234567"}):
        with pytest.raises(InvalidArgument, match="no secret, since the queue keeps it as clear text") as refused:
            workflow.submit(params)
        assert "tok-1234567" not in str(refused.value)
    assert history.runs() == []


@pytest.mark.parametrize(
    ("arguments", "accepted"),
    [({"key": ""}, "a text"), ({"priority": 1.5}, "a whole number"), ({"at": datetime(2026, 11, 25)}, "a time zone")],
)
def test_other_arguments_are_checked(make: Make, arguments: dict[str, Any], accepted: str) -> None:
    with pytest.raises(InvalidArgument, match=accepted):
        make().submit(**arguments)


@on_sqlite
def test_what_can_not_be_served_is_refused(make: Make, tmp_path: Path, history: HistorySQLite) -> None:
    """A generated id, no history, and two histories; the error says what to write."""
    with pytest.raises(NotServable, match="DotFlow\\(workflow_id='nightly'\\)"):
        DotFlow(Config(history=history)).submit()
    without = DotFlow(Config(), workflow_id="other")
    with pytest.raises(NotServable, match=r"HistorySQLite\(.*\), or DOTFLOW_HISTORY=/path/history\.db\.$"):
        without.submit()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("DOTFLOW_HISTORY", "0")
        with pytest.raises(NotServable, match="DOTFLOW_HISTORY=0 turns"):
            without.submit()
    with pytest.raises(NotServable, match="DOTFLOW_HISTORY is not set"):
        Control()
    other = DotFlow(Config(history=HistorySQLite(tmp_path / "other.db")), workflow_id="other")
    with pytest.raises(NotServable, match=r"several histories, .*history\.db.* and .*other\.db"):
        serve(make(), other)
    with pytest.raises(InvalidArgument, match="for one run"):
        serve(make(), params={"customer": 1})


def test_a_process_without_the_workflow_names_the_same_run(make: Make) -> None:
    """It knows the declared parameters, as the workflow's own submission wrote them: names, types and defaults."""
    workflow = make(params={"customer": 1, "day": date(2026, 11, 25), "dry": False})
    run = workflow.submit({"customer": 7})
    control = Control(workflow.config.history)

    assert control.submit("report", {"customer": 7}) == run
    assert control.submit("report", {"customer": "7"}) == run
    assert control.submit("report", {"customer": 7, "day": "2026-11-26"}) == workflow.submit(
        {"customer": 7, "day": date(2026, 11, 26)}
    )
    with pytest.raises(UnknownParam):
        control.submit("report", {"costumer": 7})
    with pytest.raises(InvalidArgument, match="an int"):
        control.submit("report", {"customer": "seven"})


def test_an_unknown_workflow_is_named_by_its_server(make: Make, history: HistorySQLite) -> None:
    """What is wrong with its parameters fails the run, in the words of `start`."""
    control = Control(history)
    right = control.submit("report", {"customer": 4})
    wrong = control.submit("report", {"costumer": 4})
    workflow = make()
    serve(workflow, once=True)

    assert control.run(right).workflow_id == "report@customer=4"
    assert workflow.value(right, "add_one") == 9
    assert control.run(wrong).state is TypeRunState.FAILED
    assert "UnknownParam" in control.run(wrong).error


def test_a_run_that_its_server_names_has_the_parameters_of_a_submission(make: Make, history: HistorySQLite) -> None:
    """With their types, and the defaults of its day: whoever resumes it after a deploy finds its values."""
    control = Control(history)
    run = control.submit("report", {"customer": "9", "day": "2026-11-25"})
    declared = {"customer": 1, "day": date(2026, 11, 25), "limit": 5, "key": Secret("TOKEN")}
    serve(make(params=declared), once=True)
    shown = control.run(run)
    again = control.resume(run, rerun="double")
    serve(make(params={**declared, "limit": 6}), once=True)

    assert shown.params == {"customer": 9, "day": date(2026, 11, 25), "limit": 5}
    assert shown.workflow_id == "report@customer=9"
    ended = control.run(again.run_id)
    assert (ended.workflow_id, ended.state, ended.params) == (shown.workflow_id, TypeRunState.COMPLETED, shown.params)


class Color(Enum):
    RED = 1


@dataclass
class Customer:
    name: str


@pytest.mark.parametrize("value", [Color.RED, Customer("Ada")])
def test_values_of_classes_are_listed_where_the_class_is_unknown(
    make: Make, history: HistorySQLite, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list, a record and a report show their JSON; the process that has the class runs it and finds its values."""
    workflow = make(params={"of": value, "customer": 1})
    workflow.start()
    run = workflow.submit({"of": value, "customer": 2})
    with monkeypatch.context() as elsewhere:
        elsewhere.delattr(sys.modules[__name__], type(value).__name__)
        (queued, _) = history.runs()
        shown = history.load(run).params
        assert queued.params is not None
        assert queued.params == shown == {"of": queued.params["of"], "customer": 2}
        assert type(value).__name__ in queued.params["of"]
        assert queued.workflow_id == Control(history).run(run).workflow_id
        other = Control(history).submit("report", {"customer": 3})  # its server names it
    (ended, third) = serve(workflow, once=True, max_runs=1)

    assert (ended.run_id, third.run_id, third.state) == (run, other, TypeRunState.COMPLETED)
    assert workflow.value(run, "add_one") == 5


@on_sqlite
def test_what_is_damaged_in_parameters_is_shown(make: Make, history: HistorySQLite) -> None:
    """A list of runs never fails for it."""
    workflow = make()
    runs = [workflow.submit({"customer": number}) for number in range(3)]
    with closing(sqlite3.connect(history.path)) as file, file:
        texts = ('{"customer": {"$new": 1}, "day": {"$date": "2026-11-25"}}', '{"customer": ', "[1]")
        file.executemany("UPDATE runs SET params = ? WHERE run_id = ?", zip(texts, runs, strict=True))

    first, *others = reversed(history.runs())
    assert first.params == {"customer": '{"$new": 1}', "day": date(2026, 11, 25)}
    assert [run.params for run in others] == [None, None]


@pytest.mark.parametrize("value", [Color.RED, [Customer("Ada")], object()])
def test_control_takes_plain_data(make: Make, history: HistorySQLite, value: Any) -> None:
    """Other processes need not have its classes."""
    with pytest.raises(InvalidArgument, match="plain data"):
        Control(history).submit("report", {"customer": value})
    assert history.runs() == []


@pytest.mark.parametrize("at", [datetime.min, datetime(1960, 1, 1), timedelta(seconds=-5), timedelta.min])
def test_a_moment_that_has_passed_is_now(make: Make, at: datetime | timedelta) -> None:
    workflow = make()
    before = clock.now()
    run = workflow.submit(at=at.replace(tzinfo=UTC) if isinstance(at, datetime) else at)

    due = Control(workflow).run(run).due
    assert due is not None
    assert before <= due <= clock.now()


@pytest.mark.parametrize("at", [datetime.max, datetime(2300, 1, 1), timedelta(days=1_000_000), timedelta.max])
def test_a_moment_that_no_history_keeps_is_refused(
    make: Make, history: HistorySQLite, at: datetime | timedelta
) -> None:
    with pytest.raises(InvalidArgument, match="before the year 2255"):
        make().submit(at=at.replace(tzinfo=UTC) if isinstance(at, datetime) else at)
    assert history.runs() == []


@pytest.mark.parametrize("is_by_control", [False, True])
def test_a_queued_run_keeps_the_defaults_that_name_it(make: Make, history: HistorySQLite, is_by_control: bool) -> None:
    """A deploy that declares other ones changes neither the run nor its name."""

    @action
    def take(customer: int, limit: int) -> int:
        return customer + limit

    def deployed(limit: int) -> DotFlow:
        more = {} if is_by_control else {"note": "tok-1234567"}
        workflow = make(params={"customer": ..., "limit": limit, "key": Secret("TOKEN"), **more})
        workflow.task.add(take)
        return workflow

    before = deployed(100)
    run = before.submit({"customer": 7})
    kept = Control(history).run(run)
    if is_by_control:
        Control(history).cancel(run)
        run = Control(history).submit("report", {"customer": 7})
    after = deployed(200)
    (ended,) = serve(after, once=True)

    assert kept.params == {"customer": 7, "limit": 100}  # no secrets
    assert "tok-1234567" not in str(history.operations().declared("report"))
    assert (ended.run_id, ended.workflow_id, ended.state) == (run, kept.workflow_id, TypeRunState.COMPLETED)
    assert after.value(run, "take") == 107


@pytest.mark.parametrize("by_id", [False, True], ids=["of the workflow", "by its id"])
def test_a_submission_keeps_the_defaults_of_its_day(make: Make, history: HistorySQLite, *, by_id: bool) -> None:
    """And its name, whatever they become until it runs; the same key returns it, with the parameters that it gave."""
    before, after = make(params={"customer": 1, "day": 7}), make(params={"customer": 20, "day": 7})
    before.enqueue(before._queue(""), before.make_submission(None, key="first"))  # which declares it

    def submit(of: DotFlow, params: dict[str, Any] | None = None, key: str | None = None) -> str:
        if not by_id:
            return of.submit(params, key=key)
        history.operations().declare([of.declared()])
        return Control(history).submit("report", params, key=key)

    runs = [submit(before), submit(before, key="click"), submit(before, {"day": 8}, key="click 2")]
    again = [submit(after, key="click"), submit(after, {"day": 8}, key="click 2")]
    with pytest.raises(OrderRefused, match="the key 'click 2' was used with other parameters"):
        submit(after, {"day": 9}, key="click 2")
    serve(after, once=True)

    assert again == runs[1:]
    control = Control(history)
    assert [control.run(run).workflow_id for run in runs] == ["report", "report#click", "report#click 2"]
    assert [dict(control.run(run).params or {}) for run in runs] == [{"customer": 1, "day": day} for day in (7, 7, 8)]
    assert [after.value(run, "double") for run in runs] == [2, 2, 2]


def test_a_default_that_is_given_names_nothing(make: Make, history: HistorySQLite) -> None:
    """By hand, in a submission and by an id: one run, whose steps are not run twice. Nor does a new one rename it."""
    workflow = make()
    workflow.start()
    newer = make(params={"customer": 1, "limit": 100, "rate": 1.0})
    newer.start(params={"customer": 1, "limit": 100, "rate": 1}, resume=True)

    assert newer.last.workflow_id == "report"
    assert [task.status for task in newer.last.tasks] == [TypeStatus.COMPLETED] * 2
    assert [run.restored for run in history.runs()] == [2, 0]
    assert newer.id_of_run({"limit": 101}) == "report@limit=101"
    run = newer.submit({"limit": 100})
    assert Control(history).submit("report", {"limit": "100", "customer": 1}) == run
    assert Control(history).run(run).workflow_id == "report"


@pytest.mark.parametrize("key", [None, "click"])
def test_texts_are_converted_when_the_workflow_is_declared(make: Make, history: HistorySQLite, key: str | None) -> None:
    """A submission by its id does not know their types, whatever names its run."""
    run = Control(history).submit("report", {"customer": "9"}, key=key)
    workflow = make()
    serve(workflow, once=True)

    found = Control(history).run(run)
    assert (found.params, found.state) == ({"customer": 9}, TypeRunState.COMPLETED)
    assert found.workflow_id == ("report@customer=9" if key is None else "report#click")
    assert workflow.value(run, "double") == 18
    assert key is None or Control(history).submit("report", {"customer": "9"}, key=key) == run


def test_the_last_submission_of_a_queued_run_has_the_word(make: Make, history: HistorySQLite) -> None:
    """It begins later, so it sees what the second caller wants, of the parameters that do not name it, too."""
    run = make(params={"customer": 1, "limit": 5}).submit()
    assert make(params={"customer": 1, "limit": 6}).submit() == run

    assert Control(history).run(run).params == {"customer": 1, "limit": 6}


def test_equal_parameters_are_equal_in_any_order(make: Make, history: HistorySQLite) -> None:
    """The same key with the same parameters returns the same run."""
    workflow = make(params={"customer": 1, "day": 2})
    run = workflow.submit({"customer": 5, "day": 3}, key="click")

    assert workflow.submit({"day": 3, "customer": 5}, key="click") == run
    assert Control(history).submit("report", {"day": 3, "customer": 5}, key="click") == run


def test_a_key_with_a_secret_is_refused(make: Make, history: HistorySQLite, monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue would keep it as clear text, and the name of the run would show it."""
    monkeypatch.setenv("SHOP_TOKEN", "another-1234567")
    for key in ("tok-1234567", "order tok-1234567"):
        with pytest.raises(InvalidArgument, match=r"key='\*\*\*' is not accepted. Pass no secret"):
            make().submit(key=key)
    with pytest.raises(InvalidArgument, match="Pass no secret"):
        Control(history).submit("report", key="another-1234567")
    assert history.runs() == []


def test_texts_without_utf_8_are_refused_or_escaped(make: Make, history: HistorySQLite) -> None:
    """A key and a workflow's id are refused, since they name something; who ordered what is escaped."""
    workflow, control = make(), Control(history)
    for submit in (workflow.submit, partial(control.submit, "report")):
        with pytest.raises(InvalidArgument, match="key="):
            submit(key="\ud800")
    with pytest.raises(InvalidArgument, match="workflow_id="):
        control.submit("\ud800")
    with pytest.raises(InvalidArgument, match="workflow_id="):
        DotFlow(Config(history=history), workflow_id="\ud800").submit()
    with pytest.raises(InvalidArgument, match="comment=None"):
        control.cancel(workflow.submit(), comment=None)  # type: ignore[arg-type]

    cancelled = control.cancel(workflow.submit(), by="a\ud800", comment="b\udfff")
    assert cancelled.reason == r"cancelled by a\ud800: b\udfff"


# Serving


def test_queued_runs_are_run_by_priority_and_moment(make: Make, history: HistorySQLite) -> None:
    """What is not due yet waits, and `once` leaves it."""
    workflow = make()
    late = workflow.submit({"customer": 1}, at="1d", priority=9)
    second = workflow.submit({"customer": 2})
    first = workflow.submit({"customer": 3}, priority=1)

    ended = serve(workflow, once=True, max_runs=1)

    assert [run.run_id for run in ended] == [first, second]
    assert {run.state for run in ended} == {TypeRunState.COMPLETED}
    assert Control(workflow).run(late).state is TypeRunState.QUEUED
    assert [run.trigger for run in ended] == ["submit", "submit"]
    assert (ended[0].completed, ended[0].tasks) == (2, 2)


def test_a_failed_run_is_continued(make: Make, history: HistorySQLite) -> None:
    """What has finished is restored. Any id of the chain means its newest run."""
    workflow = make()
    run = workflow.submit({"customer": 60})
    (failed,) = serve(workflow, once=True)
    control = Control(workflow)

    assert failed.error == "add_one: ValueError: too many"
    queued = control.resume(run, by="ann", comment="once more")
    assert (queued.state, queued.continues, queued.origin) == (TypeRunState.QUEUED, run, run)
    assert control.run(run).run_id == queued.run_id
    (again,) = serve(workflow, once=True)
    assert (again.state, again.restored, again.resumed) == (TypeRunState.FAILED, 1, True)
    assert workflow.value(run, "double") == 120


def test_a_completed_run_is_continued_only_to_run_something_again(make: Make) -> None:
    """The steps that run again are named, and what takes their values runs again, too."""
    workflow = make()
    run = workflow.submit()
    serve(workflow, once=True)
    control = Control(workflow)

    with pytest.raises(OrderRefused, match=r"it completed .* ago\. Name the steps that run again\.$"):
        control.resume(run)
    control.resume(run, rerun="add_one")
    (again,) = serve(workflow, once=True)
    assert (again.completed, again.restored) == (2, 1)


def test_a_run_that_was_just_paused_is_resumed_when_it_has_ended(make: Make, open_server: OpenServer) -> None:
    """The refusal says what it waits for."""
    control = Control(make())
    run = make().submit()
    server = open_server()
    assert take(server, "report") is not None
    control.pause(run, by="ann")

    with pytest.raises(OrderRefused, match="it is running, and ann has just asked it to pause"):
        control.resume(run)


@pytest.mark.parametrize(
    ("state", "is_submitted", "superseded", "is_over"),
    [
        *((state, True, "", False) for state in ("Queued", "Running", "Paused", "Crashed")),
        *((state, True, "", True) for state in ("Completed", "Failed", "Cancelled", "Interrupted", "Unknown")),
        ("Crashed", False, "", True),
        ("Crashed", True, "2", True),
        ("Paused", False, "", False),
    ],
)
def test_a_run_is_over_when_only_a_resume_would_go_on_with_it(
    state: str, is_submitted: bool, superseded: str, is_over: bool
) -> None:
    submitted = clock.now() if is_submitted else None
    run = RunSummary(
        run_id="1",
        workflow_id="report",
        state=TypeRunState(state),
        began=clock.now(),
        submitted=submitted,
        superseded=superseded,
    )

    assert run.is_over is is_over


def test_a_queued_run_is_cancelled_at_once(make: Make) -> None:
    """It never begins; a second order is refused, and a resume queues it again."""
    workflow = make()
    run = workflow.submit()
    control = Control(workflow)

    cancelled = control.cancel(run, by="ann", comment="a mistake")
    assert (cancelled.state, cancelled.reason) == (TypeRunState.CANCELLED, "cancelled by ann: a mistake")
    assert serve(workflow, once=True) == []
    with pytest.raises(OrderRefused, match="it was cancelled"):
        control.cancel(run)
    control.resume(run)
    (done,) = serve(workflow, once=True)
    assert (done.state, done.restored) == (TypeRunState.COMPLETED, 0)


def test_a_run_that_is_cancelled_while_it_is_paused_names_the_cancel(make: Make) -> None:
    """In lists, too, in place of why it was paused."""
    workflow = make()
    run = workflow.submit()
    control = Control(workflow)

    assert control.pause(run, by="ann").error == "paused by ann"
    assert control.cancel(run, by="bo", comment="not needed").error == "cancelled by bo: not needed"


def test_unknown_runs_are_refused(make: Make) -> None:
    """Only whole ids are accepted: a beginning could be another run's."""
    workflow = make()
    run = workflow.submit()
    control = Control(workflow)

    for unknown in ("last", run[:8], "nothing"):
        with pytest.raises(NotInHistory, match="Can't find the run"):
            control.cancel(unknown)
    with pytest.raises(NotInHistory, match="it has not completed"):
        workflow.value(run, "add_one")


def test_a_run_by_hand_supersedes_what_waits(make: Make, history: HistorySQLite) -> None:
    """The queued run of the same name ends and names its successor. Nothing returns its values any more."""
    workflow = make()
    run = workflow.submit({"customer": 60})
    serve(workflow, once=True)
    control = Control(workflow)
    queued = control.resume(run)

    newer = workflow.start(params={"customer": 60})

    found = control.run(run)
    assert (found.run_id, found.state) == (queued.run_id, TypeRunState.CANCELLED)
    assert (found.superseded, found.reason) == (newer.run_id, f"superseded by {newer.run_id[:8]}")
    assert found.error == found.reason
    with pytest.raises(OrderRefused, match=f"the run {newer.run_id[:8]} has replaced its values"):
        control.resume(run)
    with pytest.raises(NotInHistory, match="a newer run has replaced its values"):
        workflow.value(run, "double")


def test_a_resume_by_hand_takes_the_queued_run(make: Make) -> None:
    """It has the id of that run, which no server runs again."""
    workflow = make()
    run = workflow.submit({"customer": 60})
    serve(workflow, once=True)
    control = Control(workflow)
    queued = control.resume(run)

    by_hand = workflow.start(params={"customer": 60}, resume=True)

    assert by_hand.run_id == queued.run_id
    assert [task.restored_from for task in by_hand.tasks] == ["checkpoint", None]
    assert control.run(run).state is TypeRunState.FAILED
    assert serve(workflow, once=True) == []


def test_a_claimed_run_yields_to_a_resume_by_hand(make: Make, open_server: OpenServer) -> None:
    """A program goes on with the chain before the claimed run begins: what becomes of it there is not undone."""
    workflow = make()
    run = workflow.submit({"customer": 60})
    serve(workflow, once=True)
    Control(workflow).resume(run)
    server = open_server()
    claim = take(server, "report")
    assert claim is not None
    by_hand = workflow.start(params={"customer": 60}, resume=True)

    server.put_back(claim, 0)
    (ended,) = serve(workflow, once=True)

    assert (ended.run_id, ended.state) == (by_hand.run_id, TypeRunState.FAILED)  # the newest of the chain
    (yielded,) = [one for one in workflow.runs() if one.run_id == claim.run_id]
    assert (yielded.state, yielded.reason) == (TypeRunState.CANCELLED, f"superseded by {by_hand.run_id[:8]}")


def test_a_resume_by_hand_heeds_what_is_to_run_again(make: Make) -> None:
    """The steps that `Control.resume` names, as a server does."""
    workflow = make()
    run = workflow.submit({"customer": 4})
    serve(workflow, once=True)
    queued = Control(workflow).resume(run, rerun="add_one")

    by_hand = workflow.start(params={"customer": 4}, resume=True)

    assert by_hand.run_id == queued.run_id
    assert [task.restored_from for task in by_hand.tasks] == ["checkpoint", None]


def test_a_resume_by_hand_ends_a_queued_run_whose_values_are_gone(make: Make, history: HistorySQLite) -> None:
    """It names the newer run that has replaced them, and this one goes on with the values of that."""
    workflow = make()
    run = workflow.submit({"customer": 4})
    serve(workflow, once=True)
    queued = Control(workflow).resume(run, rerun="double")
    workflow.config.history = None
    newer = workflow.start(params={"customer": 4})
    workflow.config.history = history

    by_hand = workflow.start(params={"customer": 4}, resume=True)

    assert [task.restored_from for task in by_hand.tasks] == ["checkpoint", "checkpoint"]
    ended = history.load(queued.run_id)
    assert (ended.state, ended.reason) == (TypeRunState.CANCELLED, f"superseded by {newer.run_id[:8]}")


@pytest.mark.parametrize(
    ("method", "failure"),
    [
        ((SQLQueue, "take_continuation"), NotServable("The history has no queue", "it is read-only")),
        ((SQLQueueServer, "begin"), HistoryError("The history can't be used", "it is read-only")),
    ],
)
def test_a_history_that_fails_does_not_reach_a_resume_by_hand(
    make: Make, method: tuple[type, str], failure: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on with the saved values, as without a queue, and the queued run waits."""
    workflow = make()
    run = workflow.submit({"customer": 60})
    serve(workflow, once=True)
    queued = Control(workflow).resume(run)

    def fail(*arguments: object) -> None:
        raise failure

    with monkeypatch.context() as patched:
        patched.setattr(*method, fail)
        by_hand = workflow.start(params={"customer": 60}, resume=True)

    assert [task.restored_from for task in by_hand.tasks] == ["checkpoint", None]
    assert by_hand.run_id != queued.run_id


@pytest.mark.parametrize("is_first", [True, False], ids=["by hand first", "served first"])
def test_a_served_run_and_one_by_hand_exclude_each_other(make: Make, is_first: bool) -> None:
    """In the process of the server, too: the run by hand is refused, and the served one waits for its turn."""
    begun, may_end = threading.Event(), threading.Event()

    @action
    def wait_here() -> int:
        begun.set()
        assert may_end.wait(60)
        return 7

    workflow = make()
    workflow.task.add(wait_here)
    if is_first:
        hand = make()  # its run is not in the history, so the queue does not know of it
        hand.task.add(wait_here)
        hand.config.history = None
        by_hand = hand.start(mode="background")
        assert begun.wait(60)
        run = workflow.submit()
        with serve(workflow, wait=False) as server:
            while not server._runs.waits:
                by_hand.wait(0.01)
            may_end.set()
            Control(workflow).wait(run)
        assert by_hand.state is TypeRunState.COMPLETED
    else:
        run = workflow.submit()
        with serve(workflow, wait=False):
            assert begun.wait(60)
            with pytest.raises(WorkflowBusy, match=rf"run by this process \(run {run[:8]}\)"):
                workflow.start()
            may_end.set()
            Control(workflow).wait(run)
    assert workflow.value(run, "wait_here") == 7
    assert workflow.start().state is TypeRunState.COMPLETED


def test_a_run_by_hand_is_resumed_from_outside(make: Make) -> None:
    """The history has its parameters, and the storage says whose its values are."""
    workflow = make()
    run = workflow.start(params={"customer": 60}).run_id

    Control(workflow).resume(run)
    (again,) = serve(workflow, once=True)

    assert (again.continues, again.restored, again.state) == (run, 1, TypeRunState.FAILED)


def test_a_run_without_a_history_replaces_the_values(make: Make, history: HistorySQLite) -> None:
    """The storage itself says so: the older chain ends, and completes with no value of another run."""
    workflow = make()
    run = workflow.submit({"customer": 60})
    serve(workflow, once=True)
    Control(workflow).resume(run)
    workflow.config.history = None
    workflow.start(params={"customer": 60})
    workflow.config.history = history

    (ended,) = serve(workflow, once=True)

    assert ended.state is TypeRunState.CANCELLED
    assert ended.reason.startswith("superseded by")


def test_a_definition_that_has_changed_fails_the_run(make: Make) -> None:
    """In the words of `start`; it is not tried again."""
    make().submit({"customer": 3})

    @action
    def other(client: int) -> int:
        return client

    workflow = DotFlow(make().config, workflow_id="report", params={"client": 1})
    workflow.task.add(other)

    (failed,) = serve(workflow, once=True)

    assert (failed.state, failed.completed) == (TypeRunState.FAILED, 0)
    assert failed.error == (
        "UnknownParam: The workflow has no parameter 'customer'. The run was submitted with it. Declare it again and"
        " resume the run, or submit one without it."
    )
    Control(make()).resume(failed.run_id)
    (done,) = serve(make(), once=True)
    assert (done.state, done.completed) == (TypeRunState.COMPLETED, 2)


def test_max_runs_counts_over_all_processes(make: Make, open_server: OpenServer) -> None:
    """A run by hand counts as well."""
    workflow = make(max_runs=1)
    workflow.submit({"customer": 2})
    one, two = open_server(), open_server()
    first = take(one, "report", 1)
    workflow.submit({"customer": 3})

    assert first is not None
    assert take(two, "report", 1) is None
    one.end(first, Ending(TypeRunState.COMPLETED))
    assert take(two, "report", 1) is not None


def test_a_claim_takes_as_many_runs_as_there_is_room_for(make: Make, open_server: OpenServer) -> None:
    """In their order over all workflows, up to the maximum of each; none of those that run in this process."""
    workflow, server = make(), open_server()
    control = Control(workflow)
    for customer in range(9):
        workflow.submit({"customer": customer}, priority=customer // 8)
    control.submit("others", {"number": 1}, priority=2)
    server.name(control.submit("other", {}), "other", "{}")

    def claimed(room: int, most: int | None = None) -> list[str]:
        return [claim.name for claim in server.claim({"report": most, "other": None}, {"report"}, room)]

    assert claimed(3) == ["report@customer=8", "report@customer=0", "report@customer=2"]
    assert claimed(9, 5) == ["report@customer=3", "report@customer=4", "other"]
    assert claimed(9, 5) == []
    assert claimed(1) == ["report@customer=5"]
    assert claimed(9) == ["report@customer=6", "report@customer=7"]


@on_sqlite
def test_a_claim_waits_for_no_disk_and_the_beginning_of_its_run_does(
    make: Make, open_server: OpenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut may put a claimed run back into the queue: nothing of it has happened."""
    make().submit()
    server, synced = open_server(), list[int]()
    monkeypatch.setattr(sqlite_file, "sync", synced.append)
    claim = take(server, "report")
    assert claim is not None
    assert synced == []
    server.begin(claim)
    assert len(synced) == 1


def test_a_claim_reads_on_behind_many_that_may_not_begin(make: Make, open_server: OpenServer) -> None:
    """More rows each time, until it finds one that may."""
    workflow, server = make(), open_server()
    for customer in range(2, 40):
        workflow.submit({"customer": customer})
    busy = [f"report@customer={customer}" for customer in range(39)]
    assert [claim.name for claim in server.claim({"report": None}, busy, 1)] == ["report@customer=39"]


def test_runs_of_one_name_run_one_after_the_other(make: Make, open_server: OpenServer) -> None:
    """A submission behind a running run is queued. It begins when that has ended."""
    workflow = make()
    run = workflow.submit()
    server = open_server()
    first = take(server, "report")
    second = workflow.submit()

    assert first is not None
    assert first.run_id == run != second
    assert take(server, "report") is None
    server.end(first, Ending(TypeRunState.COMPLETED))
    again = take(server, "report")
    assert again is not None
    assert again.run_id == second


def test_a_run_that_was_put_back_keeps_its_place(make: Make, history: HistorySQLite, open_server: OpenServer) -> None:
    """With a fresh submission of its name since, it goes first."""
    workflow = make()
    run = workflow.submit()
    server = open_server()
    claim = take(server, "report")
    assert claim is not None
    second = workflow.submit()
    server.put_back(claim, 0)

    assert [str(run.state) for run in history.runs()] == ["Queued", "Queued"]
    again = take(server, "report")
    assert again is not None
    assert again.run_id == run
    server.end(again, Ending(TypeRunState.COMPLETED))
    last = take(server, "report")
    assert last is not None
    assert last.run_id == second


class SlowStorage(StorageFile):
    """Is locked for the runs of customer 1 only when it may go on."""

    begun, may_go_on = threading.Event(), threading.Event()

    def lock(self, workflow_id: str) -> Any:
        if workflow_id == "report":  # 1 is the default
            self.begun.set()
            assert self.may_go_on.wait(45)
        return super().lock(workflow_id)


@pytest.fixture
def slow(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DotFlow:
    """A workflow with a storage that hangs while a run of customer 1 begins."""
    monkeypatch.setattr(SlowStorage, "begun", threading.Event())
    monkeypatch.setattr(SlowStorage, "may_go_on", threading.Event())
    workflow = make()
    workflow.config.storage = SlowStorage(tmp_path / "values")
    return workflow


def test_a_storage_that_hangs_delays_no_other_run(slow: DotFlow) -> None:
    """Its run has a place, and no other server takes it. It goes on when the storage does."""
    control = Control(slow)
    hanging = slow.submit({"customer": 1})
    with serve(slow, wait=False, max_runs=2):
        assert SlowStorage.begun.wait(45)
        others = [slow.submit({"customer": number}) for number in (2, 3)]
        states = [control.wait(run, 45).state for run in others]
        waiting = control.run(hanging).state
        SlowStorage.may_go_on.set()
        ended = control.wait(hanging, 45)

    assert states == [TypeRunState.COMPLETED] * 2
    assert (waiting, ended.state, ended.completed) == (TypeRunState.RUNNING, TypeRunState.COMPLETED, 2)


def test_a_run_that_begins_has_its_place(slow: DotFlow, open_server: OpenServer) -> None:
    """`max_runs` counts it."""
    slow.submit({"customer": 1})
    server = serve(slow, wait=False, max_runs=1)
    assert SlowStorage.begun.wait(45)
    other = slow.submit({"customer": 2})
    taker = open_server()
    Claims(taker, {slow.workflow_id: slow}, server._runs, 1, None, server._reports).look()
    state = Control(slow).run(other).state
    SlowStorage.may_go_on.set()
    server.stop()

    assert state is TypeRunState.QUEUED


@pytest.mark.parametrize("signals", [1, 2])
def test_a_server_that_stops_while_a_run_begins_puts_it_back(slow: DotFlow, signals: int) -> None:
    """None of its steps runs here, and nothing is lost."""
    run = slow.submit({"customer": 1})
    server = serve(slow, wait=False)
    assert SlowStorage.begun.wait(45)
    for _ in range(signals):
        server.request_stop()
    while server._runs.heeded < signals:
        clock.sleep(0.01)
    SlowStorage.may_go_on.set()
    server.stop()

    queued = Control(slow).run(run)
    assert (queued.state, queued.continues) == (TypeRunState.QUEUED, run)
    (ended,) = serve(slow, once=True)
    assert (ended.state, ended.completed) == (TypeRunState.COMPLETED, 2)


def test_once_waits_for_a_run_by_hand_of_the_same_name(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """It begins when that has ended, however seldom the database is looked at: the next timer might be a day away."""
    monkeypatch.setattr("dotflow.providers.histories.postgres.presence.SELDOM", 3600.0)
    monkeypatch.setattr("dotflow.providers.histories.postgres.presence.OFTEN", 3600.0)
    begun, may_end = threading.Event(), threading.Event()

    def wait_here() -> int:
        begun.set()
        assert may_end.wait(60)
        return 7

    workflow = make()
    workflow.task.clear()
    workflow.task.add(action(wait_here), name="wait_here")
    by_hand = workflow.start(mode="background")
    assert begun.wait(60)
    run = workflow.submit()
    server = Server([workflow], once=True, options={})
    ended: list[RunSummary] = []
    thread = threading.Thread(target=lambda: ended.extend(server.run_here()))
    thread.start()
    while not server.left:
        clock.sleep(0.01)
    waited = thread.is_alive()
    may_end.set()
    thread.join()
    by_hand.wait()

    assert waited
    assert [(one.run_id, one.state) for one in ended] == [(run, TypeRunState.COMPLETED)]
    assert server.left == []


def test_once_names_what_is_due_and_left(make: Make, open_server: OpenServer) -> None:
    """With what it waits for: another process, room, or the end of a pause."""
    workflow = make()
    workflow.submit({"customer": 1})
    other = open_server()
    claim = take(other, "report")
    assert claim is not None
    same = workflow.submit({"customer": 1})
    workflow.submit({"customer": 2}, at="1h")

    def left() -> list[tuple[str, str]]:
        server = Server([workflow], once=True, options={})
        assert server.run_here() == []
        return [(run.run_id, run.why) for run in server.left]

    assert left() == [(same, f"the run {claim.run_id[:8]} of the same name runs in another process")]
    room = workflow.submit({"customer": 3})
    workflow.max_runs = 1
    assert left()[1:] == [(room, "1 of at most 1 runs of its workflow are active")]
    Control(workflow).pause_workflow("report", by="anna")
    assert [why.partition(" since ")[0] for _, why in left()] == ["its workflow is paused by anna"] * 2


def test_once_waits_for_what_begins(slow: DotFlow) -> None:
    """Also where it can't begin, and another one of its name waits behind it."""
    slow.submit({"customer": 1})
    ended: list[Any] = []
    thread = threading.Thread(target=lambda: ended.extend(serve(slow, once=True)))
    thread.start()
    assert SlowStorage.begun.wait(45)
    slow.submit({"customer": 1})
    SlowStorage.may_go_on.set()
    thread.join()

    assert [run.state for run in ended] == [TypeRunState.COMPLETED] * 2


def test_once_takes_what_waits_behind_a_run_that_ends_at_once(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server has no room when it looks, and all the room when it has looked."""

    def take(claims: Claims, look: Callable[[Claims], None] = Claims.look) -> None:
        look(claims)
        while claims._runs.active:
            clock.sleep(0.01)

    monkeypatch.setattr(Claims, "look", take)
    workflow = make()
    runs = [workflow.submit({"customer": number}) for number in range(3)]

    assert [run.run_id for run in serve(workflow, once=True, max_runs=1)] == runs


# Take-over


def kill(server: Any) -> None:
    """Ends a server as a kill does: its byte is free."""
    server._presence.release(server._watch.lock)


@on_sqlite
def test_the_run_of_a_killed_process_is_continued(
    make: Make, history: HistorySQLite, open_server: OpenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In two looks, a second apart; the older run is Crashed, and nothing of its name comes before the newer one."""
    now = 100.0
    monkeypatch.setattr(clock, "ticks", lambda: now)
    workflow = make()
    run = workflow.submit()
    dead, server = open_server(), open_server()
    assert take(dead, "report") is not None
    fresh = workflow.submit()
    kill(dead)

    assert server.take_over() == []
    now += 1
    (taken,) = server.take_over()
    assert (taken.run_id, taken.state) == (run, TypeRunState.CRASHED)
    assert server.take_over() == []
    again = take(server, "report")
    assert again is not None
    assert (again.run_id, again.continues, again.origin) == (taken.continued_by, True, run)
    assert [found.trigger for found in history.runs()] == ["take-over", "submit", "submit"]
    server.end(again, Ending(TypeRunState.COMPLETED))
    last = take(server, "report")
    assert last is not None
    assert last.run_id == fresh


def take_all(server: SQLQueueServer) -> list[str]:
    """Takes what is queued, one run after the other, and returns the names."""
    names = []
    while (claim := take(server, "report")) is not None:
        names.append(claim.name)
        server.end(claim, Ending(TypeRunState.COMPLETED))
    return names


@on_sqlite
@pytest.mark.parametrize("at", [None, datetime(2026, 1, 1, tzinfo=UTC)], ids=["as submitted", "at one moment"])
@pytest.mark.parametrize("how", ["stopped", "killed", "given up"])
def test_a_run_whose_server_ended_keeps_its_place(
    make: Make, open_server: OpenServer, monkeypatch: pytest.MonkeyPatch, how: str, at: datetime | None
) -> None:
    """It comes before what is queued with its priority, and after what has a higher one. Nothing waits since then."""
    now = 100.0
    monkeypatch.setattr(clock, "ticks", lambda: now)
    workflow = make(params={"customer": ...})
    for customer in range(1, 6):
        workflow.submit({"customer": customer}, at=at)
    first, server = open_server(), open_server()
    one, two = take(first, "report"), take(first, "report")
    assert one is not None
    assert two is not None
    first.end(one, Ending(TypeRunState.COMPLETED))
    if how == "stopped":
        first.end(two, Ending(TypeRunState.INTERRUPTED, "shutdown", goes_on=True))
    elif how == "given up":
        first.put_back(two, 0)
    else:
        kill(first)
        server.take_over()
        now += 1
        server.take_over()
    workflow.submit({"customer": 9}, priority=1)

    assert how == "given up" or not Control(workflow).long_queued()
    assert take_all(server) == [f"report@customer={customer}" for customer in (9, 2, 3, 4, 5)]


def test_a_clock_that_is_set_back_delays_no_submission(
    make: Make, open_server: OpenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was submitted without a moment begins now, in its order; what has one waits for it."""
    workflow = make(params={"customer": ...})
    with virtual_clock(start=datetime(2026, 11, 25, 12, tzinfo=UTC)) as time:
        server = open_server()
        for customer in (1, 2, 3):
            workflow.submit({"customer": customer}, at="2h" if customer == 1 else None)
            time.sleep(1)
        time.jump_wall(-3600)

        server.take_over()
        assert take_all(server) == ["report@customer=2", "report@customer=3"]
        assert server.next_due() == datetime(2026, 11, 25, 14, tzinfo=UTC)


@on_sqlite
def test_once_goes_on_with_the_run_of_a_killed_process(make: Make, open_server: OpenServer) -> None:
    """Though nothing is queued when it begins: a job that works a queue off continues what the last one left."""
    workflow = make()
    run = workflow.submit()
    dead = open_server()
    assert take(dead, "report") is not None
    kill(dead)

    (ended,) = serve(workflow, once=True)

    assert (ended.origin, ended.state) == (run, TypeRunState.COMPLETED)
    assert ended.run_id != run


@on_sqlite
def test_a_run_that_ends_its_process_each_time_fails(
    make: Make, history: HistorySQLite, open_server: OpenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third time before anything was saved."""
    now = 100.0
    monkeypatch.setattr(clock, "ticks", lambda: now)
    workflow = make()
    run = workflow.submit()
    server = open_server()
    for _ in range(3):
        dead = open_server()
        assert take(dead, "report") is not None
        kill(dead)
        server.take_over()
        now += 1
        server.take_over()

    found = Control(workflow).run(run)
    assert (found.state, len(history.runs())) == (TypeRunState.FAILED, 3)
    assert "its process ended 3 times before anything was saved" in found.error


def test_a_run_that_has_lost_its_cluster_goes_on(make: Make, history: HistorySQLite, open_server: OpenServer) -> None:
    """Another one continues it, as if its process had ended; the third time before anything was saved it fails."""
    workflow = make()
    run = workflow.submit()
    server = open_server()
    ended = []
    for _ in range(3):
        claim = take(server, "report")
        assert claim is not None
        server.begin(claim)
        ended.append(server.end(claim, Ending(TypeRunState.FAILED, error="Dask is lost", is_lost=True)))

    assert ended == ["Crashed", "Crashed", "Failed"] == states(history)
    assert take(server, "report") is None
    error = "its cluster was lost 3 times before anything was saved; the last time: Dask is lost"
    assert (Control(workflow).run(run).error, history.runs()[-1].error) == (error, "Dask is lost")


class Away(ExecutorThread):
    """A cluster that can't be reached by the first *times* sessions."""

    is_remote = True

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def open(self, tasks: Mapping[int, Task], report: Report) -> ExecutorSession:
        self.times -= 1
        if self.times >= 0:
            raise ClusterLost("Dask", "can't be reached", "Wait.")
        return super().open(tasks, report)


def test_a_run_waits_until_its_cluster_is_there(
    make: Make, history: HistorySQLite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays in the queue and has not begun; the server says once what it waits for."""
    monkeypatch.setattr("dotflow.serving.runs.LATER", 0)
    cluster = Away(2)
    workflow = make(executor=cluster)
    lines: list[str] = []
    monkeypatch.setattr(workflow.config.log, "report", lines.append)
    run = workflow.submit()

    serve(workflow, once=True)

    assert (cluster.times, states(history)) == (-1, ["Completed"]), "one session of a run that has begun"
    assert [line for line in lines if "Dask" in line] == [
        f"The run {run} of 'report' waits: Dask can't be reached. Wait."
    ]


@on_sqlite
@pytest.mark.parametrize(("order", "state"), [("cancel", "Cancelled"), ("pause", "Paused")])
def test_an_order_to_a_killed_process_is_carried_out(
    make: Make, history: HistorySQLite, open_server: OpenServer, monkeypatch: pytest.MonkeyPatch, order: str, state: str
) -> None:
    """The take-over does what was ordered, and no more: a cancel is not undone."""
    now = 100.0
    monkeypatch.setattr(clock, "ticks", lambda: now)
    workflow = make()
    run = workflow.submit()
    control = Control(workflow)
    dead, server = open_server(), open_server()
    assert take(dead, "report") is not None
    assert getattr(control, order)(run).ordered == order
    kill(dead)
    server.take_over()
    now += 1
    (taken,) = server.take_over()

    assert (taken.state, taken.continued_by) == (state, None)
    assert control.run(run).state == state
    assert take(server, "report") is None


@on_sqlite
def test_an_order_finds_the_process_dead(make: Make, open_server: OpenServer) -> None:
    """No server has to live: the order itself ends the run."""
    workflow = make()
    run = workflow.submit()
    dead = open_server()
    assert take(dead, "report") is not None
    kill(dead)

    assert Control(workflow).cancel(run, by="ann").state is TypeRunState.CANCELLED


@on_sqlite
def test_a_server_that_lost_its_run_ends_nothing(make: Make, open_server: OpenServer) -> None:
    """Its run was taken over: the newer one's state stays."""
    workflow = make()
    run = workflow.submit()
    server = open_server()
    claim = take(server, "report")
    assert claim is not None
    kill(server)
    Control(workflow).cancel(run)

    assert server.end(claim, Ending(TypeRunState.COMPLETED)) is None
    assert Control(workflow).run(run).state is TypeRunState.CANCELLED


@on_sqlite
def test_a_run_that_another_process_has_ends(make: Make, history: HistorySQLite) -> None:
    """Its server asks once a second. What its steps return afterwards is not saved, and no message has its end."""
    sent: list[str] = []

    class Kept(NotifyDefault):
        def send_run(self, message: RunMessage) -> None:
            sent.append(message.title)

    begun, may_end = threading.Event(), threading.Event()

    @action
    def first() -> int:
        begun.set()
        assert may_end.wait(60)
        return 7

    @action
    def second(first: int) -> int:
        return first

    workflow = make()
    workflow.config.notify = Kept()
    workflow.task.add([first, second])
    run = workflow.submit()
    with serve(workflow, wait=False) as server:
        assert begun.wait(60)
        while not server._runs.begun:
            clock.sleep(0.01)
        (active,) = server._runs.begun.values()
        with closing(sqlite3.connect(history.path)) as file, file:
            file.execute("UPDATE wanted SET server = 'another'")
        while active._stops.runner is None or not active._stops.runner.is_halted:
            active.wait(0.01)
        may_end.set()
        active.wait()

    assert (active.state, active.reason) == (TypeRunState.CANCELLED, "another process has the run")
    assert active.task("second").status is TypeStatus.NOT_STARTED
    assert sent == []
    assert Control(history).run(run).state is TypeRunState.CRASHED  # the server wrote no end, and is gone
    with pytest.raises(NotInHistory):
        workflow.value(run, "first")


def test_a_look_for_orders_that_fails_is_repeated(
    make: Make, history: HistorySQLite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order is carried out a second later, though the step goes on meanwhile."""
    begun = threading.Event()
    looks: list[int] = []
    look = SQLQueue.orders

    def fail_once(queue: SQLQueue) -> Any:
        looks.append(1)
        if len(looks) == 1:
            raise HistoryError("The history can't be used", "it is locked")
        return look(queue)

    @action
    def wait_here() -> None:
        begun.set()
        while True:
            time.sleep(0.01)

    monkeypatch.setattr(SQLQueue, "orders", fail_once)
    workflow = make()
    workflow.task.add(wait_here)
    run = workflow.start(mode="background")
    assert begun.wait(60)
    Control(history).cancel(run.run_id, by="ann")
    run.wait()

    assert (run.state, run.reason) == (TypeRunState.CANCELLED, "the run was cancelled by ann")
    assert len(looks) > 1


def test_orders_are_heeded_in_virtual_time(make: Make) -> None:
    """At the latest before the next step: time does not pass meanwhile."""

    @action
    def cancel_this() -> None:
        (run,) = server._runs.active
        Control(workflow).cancel(run, by="ann")

    @action
    def never(cancel_this: None) -> None: ...

    with virtual_clock():
        workflow = make()
        workflow.task.add([cancel_this, never])
        server = serve(workflow, wait=False)
        with server:
            ended = Control(workflow).wait(workflow.submit(), "1h")

    assert (ended.state, ended.reason) == (TypeRunState.CANCELLED, "cancelled by ann")


@pytest.mark.parametrize(
    ("troubles", "submissions", "states"),
    [
        (2, 1, 2_000),
        pytest.param(2, 2, 10_000, marks=[pytest.mark.exhaustive, pytest.mark.timeout(900)]),
        pytest.param(3, 1, 16_000, marks=[pytest.mark.exhaustive, pytest.mark.timeout(900)]),
        pytest.param(4, 1, 124_000, marks=[pytest.mark.exhaustive, pytest.mark.timeout(3_600)]),
    ],
)
def test_the_rules_hold_whatever_comes_between_two_steps(troubles: int, submissions: int, states: int) -> None:
    """Two servers and a program, with kills, signals, orders and runs by hand anywhere: each reachable state once."""
    assert explore(troubles, submissions) > states


# The file


@on_sqlite
def test_claims_stay_fast_behind_many_that_can_not_begin(make: Make, history: HistorySQLite) -> None:
    """The first one is found by steps through an index, not by reading what waits: SQLite's own plan shows it."""
    from dotflow.providers.histories.sql import queue

    make().submit()
    with closing(sqlite3.connect(history.path)) as database:
        for statement, values in (
            (queue.IS_DUE, {"workflow": "w", "now": 1}),
            (queue.NEXT_DUE, ("w", 1)),
            (queue.RUNNING_NOW, ("w",)),
            (queue.PRIORITIES, {"workflow": "w"}),
            (queue.CANDIDATES, {"workflow": "w", "priority": 0, "now": 1, "due": 0, "run": 0, "room": 4}),
            (queue.FRESH, ("w",)),
            (queue.BY_KEY, ("w", "k")),
            (queue.RUNNING_OF, ("w",)),
            (queue.WAITING_OF, {"name": "w"}),
            (queue.REPLACE, ("w", 1)),
            (queue.ALL_ORDERS, ()),
        ):
            plan = "\n".join(row[-1] for row in database.execute(f"EXPLAIN QUERY PLAN {statement}", values))
            for scan in ("SCAN orders USING INDEX orders_open", "SCAN priorities"):  # what is open, and what comes next
                plan = plan.replace(scan, "")
            assert "SCAN" not in plan, (statement, plan)
            assert "FOR ORDER BY" not in plan, (statement, plan)


@on_sqlite
def test_a_slow_disk_delays_only_what_waits_for_it(
    make: Make, history: HistorySQLite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a submission waits for the disk, runs are recorded, by other processes too, and the program forks."""
    begun, may_end = threading.Event(), threading.Event()

    def wait(descriptor: int) -> None:
        begun.set()
        may_end.wait(45)

    make().submit()
    monkeypatch.setattr(sqlite_file, "sync", wait)
    submission = threading.Thread(target=lambda: make().submit({"customer": 2}))
    submission.start()
    try:
        assert begun.wait(45)
        run = make().start(params={"customer": 3})
        with closing(sqlite3.connect(history.path, timeout=0)) as database, database:
            database.execute("UPDATE runs SET reason = NULL")
        child = os.fork()
        if not child:
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert submission.is_alive()
    finally:
        may_end.set()
        submission.join()

    assert (history.summary(run.run_id).completed, len(history.runs())) == (2, 3)


@on_sqlite
def test_a_disk_that_may_have_lost_a_commit_ends_the_server(
    make: Make, open_server: OpenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second attempt would succeed and prove nothing. Another server continues its runs."""

    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    server = open_server()
    server.check()
    monkeypatch.setattr(sqlite_file, "sync", fail)

    with pytest.raises(HistoryError, match="can't be used: Input/output error"):
        make().submit()
    with pytest.raises(HistoryError, match="the disk may have lost what was written: Input/output error"):
        server.check()


@on_sqlite
def test_a_deleted_history_ends_its_server(make: Make, history: HistorySQLite, open_server: OpenServer) -> None:
    """It can't know what other processes have done."""
    make().submit()
    server = open_server()
    server.check()
    history.path.unlink()

    with pytest.raises(Exception, match="it was deleted or replaced while it was served"):
        server.check()


@action
def write_and_wait(customer: int, folder: str) -> None:
    (Path(folder) / "begun").touch()
    time.sleep(60)


def damage(path: Path, how: str) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    if how == "overwritten":
        path.write_bytes(os.urandom(path.stat().st_size))
    elif how == "cut off":
        os.truncate(path, path.stat().st_size // 2)
    elif how == "emptied":
        os.truncate(path, 0)
    else:
        path.with_name(f"{path.name}-live").unlink()


@on_sqlite
@pytest.mark.parametrize("how", ["overwritten", "cut off", "emptied", "without -live"])
def test_a_damaged_history_ends_its_server_and_its_steps(
    make: Make, history: HistorySQLite, open_server: OpenServer, tmp_path: Path, how: str
) -> None:
    """Also while it has nothing to write. The error says what to do."""
    config = make().config
    config = Config(storage=config.storage, history=history, log=config.log)  # its steps run in processes
    workflow = DotFlow(config, workflow_id="report", params={"customer": 1, "folder": str(tmp_path)})
    workflow.task.add(write_and_wait)
    workflow.submit()
    server = serve(workflow, wait=False)
    while not (tmp_path / "begun").exists():
        clock.sleep(0.02)
    damage(history.path, how)

    assert server._thread is not None
    server._thread.join(30)  # the step takes longer
    with pytest.raises(HistoryError, match=r"the runs of other processes are unknown.* [Ss]tart the server again"):
        server.stop()

    history.close()
    for file in tmp_path.glob("history.db*"):
        file.unlink()
    open_server().check()  # in the same process


@on_sqlite
def test_an_emptied_history_that_is_opened_again_ends_its_server(
    make: Make, history: HistorySQLite, open_server: OpenServer
) -> None:
    """A fork closes its connections, and the next one makes a new database in the empty file."""
    make().submit()
    server = open_server()
    damage(history.path, "emptied")
    if pid := os.fork():
        os.waitpid(pid, 0)
    else:
        os._exit(0)
    server.take_over()

    with pytest.raises(HistoryError, match="it was emptied, or another server has taken this one for dead"):
        server.check()


@on_sqlite
@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_a_history_that_goes_on_in_its_log_alone_ends_its_server(
    make: Make, history: HistorySQLite, open_server: OpenServer, suffix: str
) -> None:
    """SQLite has all pages in the log that it holds open, but no other process finds what is written there."""
    make().submit()
    server = open_server()
    server.check()
    path = history.path.with_name(f"{history.path.name}{suffix}")
    if suffix:
        path.unlink()
    else:
        os.truncate(path, 0)

    with pytest.raises(HistoryError, match="it was emptied, or its log was deleted, while it was served"):
        server.check()


@pytest.mark.parametrize(("order", "state"), [("pause", TypeRunState.PAUSED), ("cancel", TypeRunState.CANCELLED)])
def test_an_order_during_a_step_comes_before_the_next_one(
    make: Make, history: HistorySQLite, order: str, state: TypeRunState
) -> None:
    """In the program's own thread, too: a task that is In progress would run, and might take hours."""

    @action
    def give_order() -> None:
        getattr(Control(history), order)(history.runs()[0].run_id, by="ann")

    @action
    def never(give_order: None) -> None:
        raise AssertionError

    with virtual_clock():  # each look counts, not only one a second
        workflow = make()
        workflow.config.executor = None
        workflow.task.clear()
        workflow.task.add([give_order, never])
        run = workflow.start()

    assert run.state is state
    assert [task.status for task in run.tasks] == [TypeStatus.COMPLETED, TypeStatus.NOT_STARTED]


def test_the_values_of_a_queued_run_are_not_those_of_an_earlier_one(make: Make) -> None:
    """Nor has a newer run replaced them."""
    workflow = make()
    workflow.start()
    run = workflow.submit()

    with pytest.raises(NotInHistory, match="it has not completed"):
        workflow.value(run, "double")


def test_moments_are_aware(make: Make) -> None:
    """A datetime with a zone is the moment, wherever it is."""
    workflow = make()
    at = datetime(2030, 1, 1, 12, tzinfo=UTC)

    assert Control(workflow).run(workflow.submit(at=at)).due == at


# What was found by attacking it


def dying_claims(
    make: Make, open_server: OpenServer, monkeypatch: pytest.MonkeyPatch, work: Callable[[Any, Any], None]
) -> Any:
    """Takes the run of a name again and again, does some of its work, and dies; returns its last state."""
    now = 100.0
    monkeypatch.setattr(clock, "ticks", lambda: now)
    server = open_server()
    for _ in range(6):
        dead = open_server()
        claim = take(dead, "report")
        if claim is None:
            dead.close()
            break
        work(dead, claim)
        kill(dead)
        server.take_over()
        now += 1
        server.take_over()


@on_sqlite
def test_what_no_later_run_restores_is_no_progress(
    make: Make, history: HistorySQLite, open_server: OpenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A storage that ends with its process: the first step completes each time, and the run fails all the same."""
    workflow = make()
    run = workflow.submit()

    def complete_one_step(server: Any, claim: Any) -> None:
        server.begin(claim)
        begin_task(history, claim)

    dying_claims(make, open_server, monkeypatch, complete_one_step)

    found = Control(workflow).run(run)
    assert found.state is TypeRunState.FAILED
    assert "before anything was saved" in found.error


def begin_task(history: HistorySQLite, claim: Any) -> None:
    """Records a step that has completed, and another one that runs, as a process does before it is killed."""
    steps = [Planned("double", "default"), Planned("add_one", "default")]
    started = RunStarted(claim.name, claim.run_id, 2, clock.now(), steps=steps, workflow="report", is_claimed=True)
    history.record(claim.run_id, started)
    history.record(claim.run_id, AttemptStarted(0, 1, Context(), clock.now(), 0.0))
    history.record(claim.run_id, TaskCompleted(0, Context(1), 0.0))
    history.record(claim.run_id, AttemptStarted(1, 1, Context(), clock.now(), 0.0))
    history._writers.pop(claim.run_id).commit()


def test_an_order_to_a_run_that_is_put_back_is_carried_out(make: Make, open_server: OpenServer) -> None:
    """It was claimed, its name was busy, and meanwhile it was cancelled: it never begins."""
    workflow = make()
    run = workflow.submit()
    server = open_server()
    claim = take(server, "report")
    assert claim is not None
    assert Control(workflow).cancel(run, by="ann").ordered == "cancel"

    server.put_back(claim, 0)

    found = Control(workflow).run(run)
    assert (found.state, found.reason) == (TypeRunState.CANCELLED, "cancelled by ann")
    assert take(server, "report") is None


@pytest.mark.parametrize("state", [TypeRunState.PAUSED, TypeRunState.INTERRUPTED])
def test_a_pause_during_a_shutdown_is_carried_out(make: Make, open_server: OpenServer, state: TypeRunState) -> None:
    """Whether the running steps end by themselves or with the second signal: no other run continues it."""
    workflow = make()
    run = workflow.submit()
    server = open_server()
    claim = take(server, "report")
    assert claim is not None
    server.begin(claim)
    Control(workflow).pause(run, by="ann")

    assert server.end(claim, Ending(state, "its process was shut down", goes_on=True)) is TypeRunState.PAUSED

    found = Control(workflow).run(run)
    assert (found.run_id, found.state, found.reason) == (run, TypeRunState.PAUSED, "paused by ann")


def test_a_chain_that_has_completed_keeps_its_history(
    make: Make, history: HistorySQLite, open_server: OpenServer
) -> None:
    """A shutdown paused its first run, another server completed it: the next run of the name changes neither."""
    workflow = make()
    run = workflow.submit()
    server = open_server()
    claim = take(server, "report")
    assert claim is not None
    server.begin(claim)
    server.end(claim, Ending(TypeRunState.PAUSED, goes_on=True))
    serve(workflow, once=True)
    before = history.summary(run)

    workflow.start()

    assert (before.state, history.summary(run)) == (TypeRunState.PAUSED, before)


def test_runs_go_back_to_the_queue_when_their_server_fails(
    make: Make, history: HistorySQLite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the server's own loop ends the runs here; nobody has cancelled them, and others continue them."""
    begun, may_end = threading.Event(), threading.Event()

    @action
    def wait(customer: int) -> int:
        begun.set()
        may_end.wait(45)
        return customer

    workflow = DotFlow(make().config, workflow_id="report", params={"customer": 1})
    workflow.task.add([wait, wait])
    run = workflow.submit()
    server = serve(workflow, wait=False)
    assert begun.wait(45)

    def fail(self: Any) -> None:
        raise RuntimeError("a fault of the server")

    def cancel(self: Run, stop: Stop, cancel: Callable[[Run, Stop], None] = Run.cancel_for) -> None:
        cancel(self, stop)
        may_end.set()

    monkeypatch.setattr(Run, "cancel_for", cancel)
    monkeypatch.setattr(SQLQueueServer, "check", fail)
    with pytest.raises(RuntimeError, match="a fault of the server"):
        server.stop()
    monkeypatch.undo()

    assert Control(workflow).run(run).state is TypeRunState.QUEUED
    (again,) = serve(workflow, once=True)
    assert (again.state, again.continues) == (TypeRunState.COMPLETED, run)


@on_sqlite
def test_a_new_file_in_place_of_a_deleted_one_has_no_dead_run(
    make: Make, history: HistorySQLite, open_server: OpenServer
) -> None:
    """What is recorded of a claimed run goes nowhere: no row blocks its name in the new file."""
    workflow = make()
    workflow.submit()
    server = open_server()
    claim = take(server, "report")
    assert claim is not None
    history.close()
    for path in history.path.parent.glob("history.db*"):
        path.unlink()
    begin_task(history, claim)

    assert history.runs() == []
    workflow.submit()
    (done,) = serve(workflow, once=True)
    assert done.state is TypeRunState.COMPLETED


def test_a_served_process_keeps_no_list_of_its_runs(make: Make) -> None:
    """It may run for months: only `once` returns what has ended."""
    workflow = make()
    with serve(workflow, wait=False) as server:
        Control(workflow).wait(workflow.submit(), timeout=45)

    assert server.ended == []


def test_a_schedule_beside_the_server_is_reported(make: Make) -> None:
    """Once: a run of a schedule is in no queue, and both may do the same work."""
    lines: list[str] = []

    class Lines(LogDefault):
        def report(self, message: str) -> None:
            lines.append(message)

    def found() -> list[str]:
        return [line for line in lines if "A schedule of its own runs 'report', too" in line]

    may_end = threading.Event()

    @action
    def wait(customer: int) -> bool:
        return may_end.wait(45)

    config = make().config
    config.log = Lines(output="none")
    workflow = DotFlow(config, workflow_id="report", params={"customer": 1})
    workflow.task.add(wait)
    with triggered_by("schedule"):
        run = workflow.start(mode="background", params={"customer": 2})
    with serve(workflow, wait=False):
        until = clock.ticks() + 45
        while not found() and clock.ticks() < until:
            clock.sleep(0.05)
    may_end.set()
    run.wait()

    assert len(found()) == 1


@on_sqlite
def test_a_run_that_an_earlier_dotflow_has_called_crashed_is_continued(
    make: Make, history: HistorySQLite, open_server: OpenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process of the format before may have the file open during a deploy: it knows no queue."""
    now = 100.0
    monkeypatch.setattr(clock, "ticks", lambda: now)
    workflow = make()
    run = workflow.submit()
    dead, server = open_server(), open_server()
    assert take(dead, "report") is not None
    kill(dead)
    history.close()
    with closing(sqlite3.connect(history.path)) as database, database:
        database.execute("UPDATE runs SET state = 'Crashed', ended = began WHERE run_id = ?", (run,))

    server.take_over()
    now += 1
    (taken,) = server.take_over()
    again = take(server, "report")

    assert again is not None
    assert (again.run_id, again.continues) == (taken.continued_by, True)


# Secrets


@action
def call(token: str) -> int:
    if broken:
        raise ValueError("not yet")
    return len(token)


@action
def knows(customer: int, day: str = "", secret: str = Secret("STRIPE")) -> int:
    return customer


broken: list[bool] = []
STRIPE = "sk-live-0123456789"


def written(history: HistorySQLite) -> str:
    """Returns all that the history has."""
    with closing(sqlite3.connect(history.path)) as connection:
        return "\n".join(connection.iterdump())


@on_sqlite
@pytest.mark.parametrize("given", [True, False], ids=["as a parameter", "in the environment"])
@pytest.mark.parametrize("how", ["resume", "approve"])
def test_a_run_goes_on_with_the_secret_that_it_was_given(
    make: Make, history: HistorySQLite, monkeypatch: pytest.MonkeyPatch, how: str, *, given: bool
) -> None:
    """Another value under its name is refused in words; one that only comes from the environment may be rotated."""
    monkeypatch.setattr(sys.modules[__name__], "broken", [True] if how == "resume" else [])

    def build() -> DotFlow:
        workflow = make(params={"customer": 1, "token": Secret("STRIPE")})
        workflow.task.add(asks if how == "approve" else call)
        if how == "approve":
            workflow.task.add(call)
        return workflow

    monkeypatch.setenv("STRIPE", STRIPE)
    first = build().start(params={"token": "A-secret-of-1-run"} if given else None)
    control = Control(history)
    order = control.approve if how == "approve" else control.resume
    order(first.run_id)
    broken.clear()
    monkeypatch.setenv("STRIPE", "B-secret-of-others")
    serve(build(), once=True)
    found = control.run(first.run_id)

    if not given:
        assert found.state is TypeRunState.COMPLETED, found.error
        return
    assert found.state is TypeRunState.FAILED
    assert found.error.startswith(
        "SecretChanged: The run can't go on: 'token' was given as a parameter, and STRIPE has"
    )
    monkeypatch.setenv("STRIPE", "A-secret-of-1-run")
    for rerun in ((), ("call",)):  # what goes on is compared again
        control.resume(first.run_id, rerun=rerun)
        serve(build(), once=True)
        assert control.run(first.run_id).state is TypeRunState.COMPLETED
    monkeypatch.delenv("STRIPE")
    control.resume(first.run_id, rerun="call")
    serve(build(), once=True)
    missing = control.run(first.run_id).error
    cure = "Set STRIPE to the value that the run was given, or start a new run."
    assert missing == f"SecretMissing: Secrets are missing: STRIPE for the run parameter 'token'. {cure}"
    assert control.run(first.run_id).params == {"customer": 1}
    assert "A-secret" not in written(history)


@action(approve="Go on?")
def asks() -> None:
    pass


@pytest.mark.parametrize("name", ["customer", "key"])
def test_a_secret_is_refused_where_it_is_submitted_by_an_id(
    make: Make, history: HistorySQLite, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """That of a step, too, whose name the workflow has declared."""
    monkeypatch.setenv("STRIPE", STRIPE)
    workflow = make()
    workflow.task.add(knows)
    history.operations().declare([workflow.declared()])
    params, key = ({"customer": f"Bearer {STRIPE}"}, None) if name == "customer" else ({}, f"click {STRIPE}")

    with pytest.raises(InvalidArgument, match=r"='\*\*\*' is not accepted. Pass no secret"):
        Control(history).submit("report", params, key=key)
    assert Control(history).params("report") == {"customer": 1}
    assert history.runs() == []


@on_sqlite
@pytest.mark.parametrize("is_declared", [True, False])
@pytest.mark.parametrize("name", ["day", "key"])
def test_a_server_conceals_a_secret_that_was_submitted(
    make: Make, history: HistorySQLite, monkeypatch: pytest.MonkeyPatch, name: str, *, is_declared: bool
) -> None:
    """Who submitted it did not know it. The run is refused in words; its name, the log and the history have none."""
    workflow = make(params={"customer": 1, "day": ...})
    workflow.task.add(knows)
    if is_declared:
        history.operations().declare([workflow.declared()])
    params, key = ({"day": STRIPE}, None) if name == "day" else ({"day": "x"}, STRIPE)
    run = Control(history).submit("report", params, key=key)
    assert STRIPE in written(history)
    monkeypatch.setenv("STRIPE", STRIPE)
    lines: list[str] = []
    monkeypatch.setattr(workflow.config.log, "report", lines.append)

    serve(workflow, once=True)

    found = Control(history).run(run)
    assert (found.state, found.params) == (TypeRunState.FAILED, None)
    assert "Pass no secret, since the queue keeps it as clear text" in found.error
    assert STRIPE not in "\n".join([written(history), found.workflow_id, *lines])
    files = [*history.path.parent.glob(f"{history.path.name}*")]
    assert len(files) > 1
    assert not [file.name for file in files if STRIPE.encode() in file.read_bytes()]


@on_sqlite
def test_who_orders_what_and_why_is_masked(make: Make, history: HistorySQLite, monkeypatch: pytest.MonkeyPatch) -> None:
    """The history keeps it: with the secrets of the environment, and those of a workflow that is there."""
    monkeypatch.setenv("SHOP_TOKEN", "another-1234567")
    for control, secret in ((Control(history), "another-1234567"), (Control(make()), "tok-1234567")):
        run = control.submit("report", by=f"ann {secret}")
        control.cancel(run, by=f"bob {secret}", comment=f"had {secret}")
        control.pause_workflow("report", by=f"cid {secret}", comment=f"of {secret}")
        control.resume_workflow("report", by=f"dan {secret}", comment=f"no {secret}")

    assert history.runs()[0].reason == "cancelled by bob ***: had ***"
    kept = written(history)
    assert not [secret for secret in ("another-1234567", "tok-1234567") if secret in kept]


@on_sqlite
def test_what_a_beginning_raises_is_masked(make: Make, history: HistorySQLite, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the log and in the history: of a storage, of the workflow, and of a name that can't be made."""
    workflow = make()
    lines: list[str] = []
    monkeypatch.setattr(workflow.config.log, "report", lines.append)
    errors = [OSError("tok-1234567"), RuntimeError("tok-1234567")]

    def launch(*_: Any, **__: Any) -> Any:
        raise errors.pop(0)

    monkeypatch.setattr(workflow, "launch_claimed", launch)
    monkeypatch.setattr("dotflow.serving.runs.LATER", 0)
    run = workflow.submit()
    serve(workflow, once=True)
    assert Control(history).run(run).error == "RuntimeError: ***"

    def named(submission: Any) -> Any:
        raise RuntimeError("tok-1234567")

    other = Control(history).submit("unknown")
    with closing(sqlite3.connect(history.path)) as connection:
        connection.execute("UPDATE wanted SET name = NULL, workflow = 'report' WHERE queued")
        connection.commit()
    monkeypatch.setattr(workflow, "name_submission", named)
    serve(workflow, once=True)

    assert Control(history).run(other).error == "RuntimeError: ***"
    text = "\n".join([*lines, written(history)])
    assert "could not begin" in text
    assert "tok-1234567" not in text


@pytest.mark.parametrize("by_id", [False, True], ids=["of the workflow", "by its id"])
def test_a_setting_is_no_part_of_a_key(make: Make, history: HistorySQLite, *, by_id: bool) -> None:
    """The same key with another Setting returns the run, which takes the newest while it waits."""
    workflow = make(params={"customer": ..., "day": 7, "budget": Setting(50)})
    history.operations().declare([workflow.declared()])

    def submit(params: dict[str, Any]) -> str:
        return Control(history).submit("report", params, key="click") if by_id else workflow.submit(params, key="click")

    run = submit({"customer": 1})
    again = [submit({"customer": 1, "budget": 70}), submit({"customer": 1, "budget": 80}), submit({"customer": 1})]
    with pytest.raises(OrderRefused, match="the key 'click' was used with other parameters"):
        submit({"customer": 2, "budget": 80})
    serve(workflow, once=True)
    again.append(submit({"customer": 1, "budget": 90}))

    assert again == [run] * 4
    ended = Control(history).run(run)
    assert (ended.workflow_id, ended.state) == ("report#click", TypeRunState.COMPLETED)
    assert dict(ended.params or {}) == {"customer": 1, "day": 7, "budget": 80}
