"""Approvals: a task waits for a person, costs nothing meanwhile, and goes on with the first answer."""

import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dotflow import Approval, Config, Control, DotFlow, Run, Secret, Task, action, clock, serve
from dotflow.abc.notify import Notify
from dotflow.core.types.attempt_state import TypeAttemptState
from dotflow.core.types.run_state import TypeRunState
from dotflow.core.types.status import TypeStatus
from dotflow.engine.approvals import Approvals
from dotflow.errors import (
    ApprovalExpired,
    HistoryError,
    InvalidArgument,
    InvalidLink,
    InvalidPolicy,
    NotServable,
    OrderRefused,
    Rejected,
)
from dotflow.providers import ExecutorThread, LogDefault, StorageFile
from dotflow.providers.histories.sql.queue import SQLQueue
from dotflow.providers.notifiers.message import details
from dotflow.serving.server import Server
from dotflow.testing import virtual_clock
from tests.histories import Histories
from tests.integration.test_schedules import Lines

pytestmark = pytest.mark.databases("sqlite", "postgres")

PAUSED, COMPLETED, FAILED, SKIPPED = TypeStatus.PAUSED, TypeStatus.COMPLETED, TypeStatus.FAILED, TypeStatus.SKIPPED
NOT_STARTED = TypeStatus.NOT_STARTED

Make = Callable[..., DotFlow]

_ran: list[Any] = []


@action
def rows() -> list[int]:
    _ran.append("rows")
    return [1, 2, 3]


@action(approve="Publish {rows} rows?")
def publish(rows: list[int], approval: Approval) -> Any:
    _ran.append("publish")
    return [approval.by, approval.value, approval.comment]


@action
def beside() -> str:
    _ran.append("beside")
    return "beside"


@pytest.fixture(autouse=True)
def _anew() -> None:
    _ran.clear()


@pytest.fixture
def make(tmp_path: Path, histories: Histories) -> Make:
    """Returns a function that makes a workflow with a history and the given steps, by default two."""

    def make(*steps: Any, **options: Any) -> DotFlow:
        history = histories.open()
        storage = StorageFile(str(tmp_path / "values"))
        config = Config(storage=storage, history=history, log=LogDefault(output="none"), executor=ExecutorThread())
        workflow = DotFlow(config, workflow_id="report", **options)
        for step in steps or (rows, publish):
            workflow.task.add(step)
        return workflow

    return make


def change(workflow: DotFlow, statement: str) -> None:
    """Executes a statement in the tables of the workflow's history."""
    history: Any = workflow.config.history
    history.database.transact(lambda connection: connection.execute(statement))


def statuses(run: Run) -> dict[str, TypeStatus]:
    return {task.name: task.status for task in run.tasks}


@pytest.mark.parametrize("mode", ["sequential", "background", "parallel"])
def test_a_task_that_asks_is_paused_and_so_is_its_run(make: Make, mode: Any) -> None:
    run = make().start(mode=mode)
    run.wait()
    assert (run.status, run.state) == (PAUSED, TypeRunState.PAUSED)
    assert statuses(run) == {"rows": COMPLETED, "publish": PAUSED}
    (question,) = run.questions
    assert question.text == "Publish [1, 2, 3] rows?"
    assert run["publish"].question == question
    assert run["publish"].reason == f"waits for an approval: {question.text}"
    assert _ran == ["rows"]


def test_a_yes_to_a_paused_run_is_continued_by_a_server(make: Make) -> None:
    workflow = make()
    run_id = workflow.start().run_id
    queued = Control(workflow).approve(run_id, value={"limit": 5}, by="anna", comment="fine")
    assert (queued.state, queued.continues, queued.trigger) == (TypeRunState.QUEUED, run_id, "answer")
    (ended,) = serve(workflow, once=True)
    assert ended.state is TypeRunState.COMPLETED
    assert workflow.value(run_id, "publish") == ["anna", {"limit": 5}, "fine"]
    assert _ran == ["rows", "publish"]


@pytest.mark.parametrize("value", ["hunter2hunter2", {"notes": ["it is hunter2hunter2"]}], ids=["text", "nested"])
def test_a_secret_is_no_value_of_an_answer(make: Make, monkeypatch: pytest.MonkeyPatch, *, value: Any) -> None:
    """The history would keep it as clear text; the question stays open."""
    monkeypatch.setenv("API_TOKEN", "hunter2hunter2")
    workflow = make()
    run_id = workflow.start().run_id
    with pytest.raises(InvalidArgument, match=r"value='\*\*\*' is not accepted. Pass no secret"):
        Control(workflow).approve(run_id, value=value, by="anna")
    assert [question.is_yes for question in Control(workflow).questions()] == [None]


def test_a_submitted_run_waits_for_its_answer_without_a_process(make: Make) -> None:
    workflow = make()
    run_id = workflow.submit()
    (paused,) = serve(workflow, once=True)
    assert (paused.run_id, paused.state) == (run_id, TypeRunState.PAUSED)
    assert serve(workflow, once=True) == []
    Control(workflow).approve(run_id, by="anna")
    (ended,) = serve(workflow, once=True)
    assert (ended.state, ended.origin) == (TypeRunState.COMPLETED, run_id)
    assert _ran == ["rows", "publish"]


def test_a_resume_by_hand_takes_the_answer(make: Make) -> None:
    run_id = make().start().run_id
    assert make().start(resume=True).status is PAUSED  # no answer yet
    Control(make()).approve(run_id, "publish", by="anna")
    run = make().start(resume=True)
    assert run.value("publish") == ["anna", None, ""]
    assert _ran == ["rows", "publish"]


def test_a_no_fails_the_task_without_retry_and_fallback(make: Make) -> None:
    calls: list[str] = []

    @action(approve=True, retry=3)
    def deploy() -> None:
        calls.append("deploy")

    @action
    def other() -> None:
        calls.append("other")

    def build() -> DotFlow:
        workflow = make(rows)
        workflow.task.add(deploy, fallback=other)
        return workflow

    run = build().start()
    assert [question.text for question in run.questions] == ["Run 'deploy'?"]
    Control(build()).reject(run.run_id, by="ben", comment="not on a Friday")
    run = build().start(resume=True)
    error = run["deploy"].error
    assert error is not None
    assert error.exception == "Rejected"
    assert error.message == (
        "Step 'deploy' did not run: ben rejected it: not on a Friday. Pass rerun='deploy' to ask again."
    )
    assert (run.status, calls) == (FAILED, [])


@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize("names", ["Rejected", "ApprovalExpired", "both", "Exception"])
def test_a_fallback_that_names_the_no_follows_it(make: Make, names: str, is_late: bool) -> None:
    """The more specific name wins; Exception is for what was tried and failed."""
    calls: list[Any] = []

    @action(approve=True, approve_within="2d", retry=3)
    def deploy(rows: list[int]) -> None:
        calls.append("deploy")

    @action
    def withdraw(rows: list[int], error: Any) -> str:
        calls.append(error.exception)
        return f"withdrew {rows}"

    @action
    def remind() -> str:
        return "reminded"

    def build() -> DotFlow:
        workflow = make(rows)
        fallbacks: dict[str, Any] = {
            "Rejected": {Rejected: withdraw},
            "ApprovalExpired": {ApprovalExpired: withdraw},
            "both": {Rejected: withdraw, ApprovalExpired: remind},
            "Exception": {Exception: withdraw},
        }
        workflow.task.add(deploy, fallback=fallbacks[names])
        return workflow

    with virtual_clock() as time:
        run = build().start()
        if is_late:
            time.advance(2 * 86_400 + 1)
        else:
            Control(build()).reject(run.run_id, by="ben")
        run = build().start(resume=True)
        again = build().start(resume=True)

    task = run["deploy"]
    if names == "Exception" or (names == "ApprovalExpired" and not is_late):
        assert (task.status, calls) == (FAILED, [])
        return
    kind = "ApprovalExpired" if is_late else "Rejected"
    expected = "reminded" if names == "both" and is_late else "withdrew [1, 2, 3]"
    assert (task.status, task.value, again["deploy"].value) == (COMPLETED, expected, expected)
    assert calls == ([] if expected == "reminded" else [kind])
    assert [error.exception for error in task.errors] == [kind]
    history: Any = build().config.history
    attempts = history.load(run.run_id).steps[1].attempts
    assert [(one.attempt, bool(one.fallback), one.state) for one in attempts] == [
        (1, False, TypeAttemptState.RETRY),
        (2, True, TypeAttemptState.COMPLETED),
    ]


def test_a_no_to_a_map_is_one_to_each_item(make: Make) -> None:
    @action(approve="Send {row}?")
    def send(row: int) -> None:
        raise AssertionError("not reached")

    @action
    def withdraw(row: int) -> int:
        return -row

    def build() -> DotFlow:
        workflow = make(rows)
        workflow.task.add(send, each={"row": "rows"}, fallback={Rejected: withdraw})
        return workflow

    Control(build()).reject(build().start().run_id, by="ben")
    run = build().start(resume=True)
    assert (run.status, run.value(send)) == (COMPLETED, [-1, -2, -3])


def test_a_no_to_an_item_of_a_workflow_is_one_to_that_item(make: Make) -> None:
    @action(approve="Send {entry}?")
    def send(entry: int) -> int:
        return entry

    @action
    def withdraw(entry: int) -> int:
        return -entry

    def build() -> DotFlow:
        page = DotFlow(params={"entry": ...})
        page.task.add(send, fallback={Rejected: withdraw})
        workflow = make(rows)
        workflow.task.add(page.task, name="page", each="rows")
        return workflow

    run_id = build().start().run_id
    control = Control(build())
    control.approve(run_id, step="page[0].send", by="anna")
    control.reject(run_id, step="page[1].send", by="ben")
    control.approve(run_id, step="page[2].send", by="anna")
    run = build().start(resume=True)
    assert (run.status, run.task("page.send").value) == (COMPLETED, [1, -2, 3])


def test_after_a_no_other_tasks_go_on_with_keep_going(make: Make) -> None:
    def build() -> DotFlow:
        workflow = make(rows)
        workflow.task.add(publish).add(beside, after=[publish])
        return workflow

    run_id = build().start().run_id
    Control(build()).reject(run_id)
    assert build().start(resume=True, keep_going=True)["beside"].status is COMPLETED


def test_a_rerun_asks_again_and_the_old_answer_stays(make: Make) -> None:
    workflow = make()
    run_id = workflow.start().run_id
    control = Control(workflow)
    control.reject(run_id, by="ben")
    assert make().start(resume=True).status is FAILED
    assert make().start(resume=True).status is FAILED  # asked once, however many runs continue it
    asked = make().start(resume=True, rerun="publish")
    assert [question.id.nth for question in asked.questions] == [1]
    control.approve(run_id, by="anna")
    assert make().start(resume=True).value("publish") == ["anna", None, ""]
    again = make().start(resume=True, rerun="publish")
    assert [question.id.nth for question in again.questions] == [2]


def test_another_text_is_another_question(make: Make) -> None:
    """A yes to 3 rows is no yes to 5,000 of them."""
    count = [3]

    @action
    def found() -> int:
        return count[0]

    @action(approve="Publish {found} rows?")
    def send(found: int) -> None:
        raise OSError("the service is away")

    run = make(found, send).start()
    Control(make()).approve(run.run_id)
    assert make(found, send).start(resume=True)["send"].status is FAILED
    assert make(found, send).start(resume=True)["send"].status is FAILED  # with the same yes
    count[0] = 5000
    run = make(found, send).start(resume=True, rerun="found")
    assert [question.text for question in run.questions] == ["Publish 5000 rows?"]


def test_a_yes_counts_for_the_values_that_were_shown_only(make: Make) -> None:
    """The text of 10,000 rows is the same for others, and that of approve=True always."""
    count = [10_000]

    @action
    def found() -> list[int]:
        return list(range(count[0]))

    @action(approve=True)
    def send(found: list[int]) -> int:
        if len(found) == 10_000:
            raise OSError("the service is away")
        return len(found)

    run = make(found, send).start()
    Control(make()).approve(run.run_id)
    assert make(found, send).start(resume=True)["send"].status is FAILED
    count[0] = 20_000
    run = make(found, send).start(resume=True, rerun="found")
    assert (run.status, [question.id.nth for question in run.questions]) == (PAUSED, [1])


def test_the_order_of_a_set_makes_no_other_question(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    @action
    def names() -> set[str]:
        return {"a", "b", "c"}

    @action(approve="Write to {names}?")
    def write(names: set[str]) -> int:
        return len(names)

    run = make(names, write).start()
    Control(make()).approve(run.run_id)
    monkeypatch.setattr("dotflow.engine.approvals.preview", lambda value, masks: "in another order")
    assert make(names, write).start(resume=True).value("write") == 3


def test_a_map_over_a_map_asks_when_that_has_ended(make: Make) -> None:
    @action
    def double(row: int) -> int:
        return 2 * row

    @action(approve="Send {number}?")
    def send(number: int) -> int:
        return number

    def build() -> DotFlow:
        workflow = make(rows)
        workflow.task.add(double, each={"row": rows}).add(send, each=double)
        return workflow

    run = build().start(mode="parallel")
    assert [question.text for question in run.questions] == ["Send [2, 4, 6]?"]
    Control(build()).approve(run.run_id)
    assert build().start(mode="parallel", resume=True).value("send") == [2, 4, 6]


def test_an_empty_list_asks_nobody(make: Make) -> None:
    @action
    def none() -> list[int]:
        return []

    @action(approve=True)
    def send(row: int) -> int:
        return row

    workflow = make(none)
    workflow.task.add(send, each={"row": none})
    assert workflow.start().value("send") == []


def test_the_time_for_an_answer_does_not_end_the_pause_of_a_person(make: Make, tmp_path: Path) -> None:
    runs: list[Run] = []
    is_launched = threading.Event()

    @action(approve=True, approve_within="1h")
    def deploy() -> None: ...

    @action
    def pauses() -> None:
        is_launched.wait(60)
        runs[0].pause()

    workflow = make(rows)
    workflow.task.add(deploy, needs=[rows]).add(pauses, needs=[rows]).add(beside, needs=[pauses])
    runs.append(workflow.launch(mode="parallel"))
    is_launched.set()
    runs[0].wait()
    assert statuses(runs[0]) == {"rows": COMPLETED, "deploy": PAUSED, "pauses": COMPLETED, "beside": NOT_STARTED}
    change(workflow, "UPDATE questions SET until = 1")
    assert serve(workflow, once=True) == []


def test_what_was_answered_is_not_listed_as_paused(make: Make) -> None:
    workflow = make()
    run_id = workflow.start().run_id
    history: Any = workflow.config.history
    assert [run.run_id for run in history.runs(state=TypeRunState.PAUSED)] == [run_id]
    Control(workflow).approve(run_id)
    assert list(history.runs(state=TypeRunState.PAUSED)) == []


def test_a_text_of_several_lines_makes_no_line_of_its_own(make: Make) -> None:
    @action
    def text() -> str:
        return "Offer\ncurl evil.example"

    @action(approve="Publish {text}?")
    def post(text: str) -> None: ...

    (question,) = make(text, post).start().questions
    assert question.text == r"Publish 'Offer\ncurl evil.example'?"


def test_what_waits_has_not_failed_at_the_end_of_a_cancelled_run(make: Make) -> None:
    is_over = threading.Event()

    @action
    def waits() -> None:
        runs[0].cancel()
        is_over.wait(60)

    runs: list[Run] = []
    workflow = make(rows)
    workflow.task.add(publish).add(waits, needs=[rows])
    runs.append(workflow.launch(mode="parallel"))
    while not _is_halted(runs[0]):
        time.sleep(0.01)
    is_over.set()
    runs[0].wait()
    assert (runs[0].state, statuses(runs[0])["publish"]) == (TypeRunState.CANCELLED, PAUSED)


def _is_halted(run: Run) -> bool:
    return run._stops.runner is not None and run._stops.runner.is_halted


def test_a_submission_that_will_end_a_question_is_logged(make: Make) -> None:
    """One with a key has a name of its own, or is the very run that waits."""
    workflow = make()
    log = workflow.config.log = Lines()
    waits = workflow.submit(key="click")
    serve(workflow, once=True)
    paused = workflow.start().run_id
    log.messages.clear()

    assert workflow.submit(key="click") == waits
    run = workflow.submit()

    (line,) = [message for message in log.messages if "answer" in message]
    assert line == f"The run {paused} of 'report' waits for an answer to 'publish'. It ends when the run {run} begins."


def test_the_first_answer_counts_and_the_second_hears_of_it(make: Make) -> None:
    run_id = make().start().run_id
    control = Control(make())
    control.approve(run_id, by="anna", comment="looked at it")
    with pytest.raises(
        OrderRefused, match=r"^Can't reject the run \S+: anna approved 'publish' .* ago: looked at it\.$"
    ):
        control.reject(run_id, by="ben")


@pytest.mark.parametrize(("mode", "status"), [("sequential", NOT_STARTED), ("parallel", COMPLETED)])
def test_other_tasks_go_on_meanwhile_where_nothing_orders_them(make: Make, mode: Any, status: TypeStatus) -> None:
    workflow = make(rows)
    workflow.task.add(publish).add(beside, needs=[rows])
    run = workflow.start(mode=mode)
    assert statuses(run) == {"rows": COMPLETED, "publish": PAUSED, "beside": status}
    assert run.status is PAUSED


def test_a_failure_beside_it_fails_the_run_and_a_resume_asks_on(make: Make) -> None:
    is_broken = [True]

    @action
    def fragile() -> None:
        if is_broken[0]:
            raise OSError("away")

    def build() -> DotFlow:
        workflow = make(rows)
        workflow.task.add(publish).add(fragile, needs=[rows])
        return workflow

    run = build().start(mode="parallel")
    assert (run.status, statuses(run)["publish"]) == (FAILED, PAUSED)
    answered = Control(build()).approve(run.run_id, by="anna")
    assert answered.state is TypeRunState.FAILED  # the answer waits for a resume
    is_broken[0] = False
    run = build().start(mode="parallel", resume=True)
    assert (run.status, run.value("publish")) == (COMPLETED, ["anna", None, ""])


def test_an_answer_during_the_run_is_found_when_only_waiting_is_left(make: Make) -> None:
    @action
    def approves() -> None:
        (question,) = Control(make()).questions()
        Control(make()).approve(question.run_id, by="a step")

    workflow = make(rows)
    workflow.task.add(publish).add(approves, needs=[rows])
    run = workflow.start(mode="parallel")
    assert (run.status, run.value("publish")) == (COMPLETED, ["a step", None, ""])
    assert Control(workflow).run(run.run_id).run_id == run.run_id  # no run continues it


def test_an_answer_is_taken_while_other_tasks_run(make: Make, tmp_path: Path) -> None:
    is_published = threading.Event()

    @action(approve=True)
    def quick() -> None:
        is_published.set()

    @action
    def waits() -> bool:
        (question,) = Control(make()).questions()
        Control(make()).approve(question.run_id)
        return is_published.wait(60)

    workflow = make(rows)
    workflow.task.add(quick, needs=[rows]).add(waits, needs=[rows])
    assert workflow.start(mode="parallel").value("waits") is True


def test_a_cleanup_runs_before_the_run_waits(make: Make) -> None:
    closed: list[str] = []

    @action
    def close() -> None:
        closed.append("closed")

    workflow = make()
    workflow.task.add(close, always=True)
    run = workflow.start()
    assert (run.status, closed) == (PAUSED, ["closed"])


def test_a_map_asks_once_before_its_items(make: Make) -> None:
    seen: list[Any] = []

    @action(approve="Send {row}?")
    def send(row: int, approval: Approval) -> int:
        seen.append(approval.by)
        return row

    def build() -> DotFlow:
        workflow = make(rows)
        workflow.task.add(send, each=rows)
        return workflow

    run = build().start()
    assert [question.text for question in run.questions] == ["Send [1, 2, 3]?"]
    Control(build()).approve(run.run_id, by="anna")
    assert build().start(resume=True).value("send") == [1, 2, 3]
    assert seen == ["anna"] * 3


def test_a_rerun_of_a_map_asks_again(make: Make) -> None:
    @action(approve="Send {row}?")
    def send(row: int) -> int:
        return row

    def build() -> DotFlow:
        workflow = make(rows)
        workflow.task.add(send, each={"row": rows})
        return workflow

    run = build().start()
    Control(build()).approve(run.run_id)
    assert build().start(resume=True).status is COMPLETED
    assert [question.id.nth for question in build().start(resume=True, rerun="send").questions] == [1]


def test_a_map_asks_only_if_an_item_is_not_in_the_cache(make: Make) -> None:
    """Nothing would run after the yes."""
    found = [[1, 2]]

    @action
    def numbers() -> list[int]:
        return found[0]

    @action(approve="Send {number}?", cache=True)
    def send(number: int) -> int:
        return number * 2

    def build() -> DotFlow:
        workflow = make(numbers)
        workflow.task.add(send, each={"number": numbers})
        return workflow

    run = build().start()
    Control(build()).approve(run.run_id)
    assert build().start(resume=True).status is COMPLETED
    assert build().start().value("send") == [2, 4]
    found[0] = [1, 2, 3]
    assert [question.text for question in build().start().questions] == ["Send [1, 2, 3]?"]


def test_what_is_cached_or_skipped_asks_nobody(make: Make, tmp_path: Path) -> None:
    @action(approve=True, cache=True)
    def heavy() -> int:
        return 1

    @action
    def wants() -> Any:
        return False

    run = make(heavy).start()
    Control(make(heavy)).approve(run.run_id)
    assert make(heavy).start(resume=True).status is COMPLETED
    assert make(heavy).start().status is COMPLETED  # anew, from the cache
    workflow = make(wants)
    workflow.task.add(publish, needs={"rows": wants}, when=wants)
    assert workflow.start()["publish"].status is SKIPPED


def test_an_answer_that_comes_too_late_is_refused_and_the_task_fails(make: Make) -> None:
    @action(approve=True, approve_within="2d")
    def deploy() -> None:
        _ran.append("deploy")

    with virtual_clock() as time:
        workflow = make(deploy)
        run = workflow.start()
        (question,) = run.questions
        assert question.until == question.asked + timedelta(days=2)
        time.advance(2 * 86_400 + 1)
        with pytest.raises(OrderRefused, match=r"the time for an answer to 'deploy' was up .* ago"):
            Control(workflow).approve(run.run_id)
        assert Control(workflow).questions() == []
        serve(workflow, once=True)  # it queues the run that fails the task
        (ended,) = serve(workflow, once=True) or [Control(workflow).run(run.run_id)]
        assert ended.state is TypeRunState.FAILED
        assert ended.error.startswith(
            "deploy: ApprovalExpired: Step 'deploy' did not run: it was not approved within 2 d."
        )
    assert _ran == []


def test_the_words_of_a_reason_decide_nothing(make: Make) -> None:
    """What a paused run waits for has a column of its own."""

    @action(approve=True, approve_within="2d")
    def deploy() -> None:
        _ran.append("deploy")

    with virtual_clock() as time:
        workflow = make(deploy)
        workflow.start()
        history = workflow.config.history
        change(workflow, "UPDATE runs SET reason = 'in other words'")
        time.advance(2 * 86_400 + 1)
        server = history.operations().open_server([workflow.workflow_id])
        (queued,) = server.end_waits()
        server.close()
    assert history.summary(queued).state is TypeRunState.QUEUED


def test_in_virtual_time_a_server_takes_what_its_own_process_answers_and_submits(make: Make) -> None:
    """At once, though the next moment that it knows of is days away."""
    began: list[Any] = []

    @action(approve=True, approve_within="7d")
    def deploy() -> None:
        began.append(time.now())

    with virtual_clock() as time:
        workflow, first = make(deploy), time.now()
        run_id, server = workflow.submit(), Server([workflow], options={})
        time.after("10s", lambda: Control(workflow).approve(run_id))
        time.after("20s", workflow.submit)
        time.after("30s", lambda: Control(workflow).approve(Control(workflow).questions()[0].run_id))
        for _ in range(2):
            time.after("40s", server.request_stop)
        server.run()
    assert [moment - first for moment in began] == [timedelta(seconds=10), timedelta(seconds=30)]


def test_what_was_cancelled_or_replaced_takes_no_answer(make: Make) -> None:
    workflow = make()
    control = Control(workflow)
    run_id = workflow.start().run_id
    control.cancel(run_id)
    with pytest.raises(OrderRefused, match="it was cancelled"):
        control.approve(run_id)
    run_id = make().start().run_id
    newer = make().start()  # anew
    with pytest.raises(OrderRefused, match=r"it was cancelled|has replaced its values"):
        control.approve(run_id)
    assert [question.run_id for question in control.questions()] == [newer.run_id]


def test_an_answer_names_one_of_several_tasks(make: Make) -> None:
    @action(approve=True)
    def first() -> int:
        return 1

    @action(approve=True)
    def second() -> int:
        return 2

    def build() -> DotFlow:
        workflow = make(rows)
        workflow.task.add(first, needs=[rows]).add(second, needs=[rows])
        return workflow

    run_id = build().start(mode="parallel").run_id
    control = Control(build())
    with pytest.raises(OrderRefused, match=r"'first', 'second' wait for an answer\. Name one"):
        control.approve(run_id)
    with pytest.raises(OrderRefused, match=r"no task 'secnd' waits for an answer\. Did you mean"):
        control.approve(run_id, "secnd")
    control.approve(run_id, "second")
    run = build().start(mode="parallel", resume=True)
    assert statuses(run) == {"rows": COMPLETED, "first": PAUSED, "second": COMPLETED}
    with pytest.raises(OrderRefused, match="no task of it waits for an answer"):
        control.approve(make(rows).start().run_id)


def test_no_question_shows_a_secret(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "hunter2hunter2")

    @action
    def text() -> str:
        return "post with hunter2hunter2"

    @action(approve="{text}?")
    def post(text: str, token: str = Secret("TOKEN")) -> None: ...

    assert [question.text for question in make(text, post).start().questions] == ["post with ***?"]


def test_a_notification_has_the_question_and_the_commands(make: Make) -> None:
    sent: list[str] = []

    class Kept(Notify):
        def send(self, task: Task) -> None:
            if task.status is PAUSED:
                sent.append(details(task))

    workflow = make()
    workflow.config.notify = Kept()
    run = workflow.start()
    history = workflow.config.history.option  # type: ignore[union-attr]
    assert sent == [
        "workflow report\nwaits for an approval: Publish [1, 2, 3] rows?\n"
        f"dotflow approve {run.run_id[:8]} publish --history {history}\n"
        f"dotflow reject {run.run_id[:8]} publish --history {history}"
    ]


class NotifyOutbox(Notify):
    """Keeps the names of the tasks whose questions it sends, and raises after that while it is away."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.is_away = False

    def send(self, task: Task) -> None:
        if task.question is not None:
            self.sent.append(task.name)
            if self.is_away:
                raise OSError("the network is away")


def test_a_question_is_sent_once_by_all_runs_of_a_chain(make: Make) -> None:
    """Each run that continues it sends the questions that are new, and that of a rerun."""

    @action(approve=True)
    def archive() -> None: ...

    outbox = NotifyOutbox()

    def start(**options: Any) -> Run:
        workflow = make(rows, publish, archive)
        workflow.config.notify = outbox
        run = workflow.start(mode="parallel", **options)
        run.wait()
        return run

    run = start()
    assert sorted(outbox.sent) == ["archive", "publish"]
    assert [question.sent is not None for question in start(resume=True).questions] == [True, True]
    Control(make()).approve(run.run_id, "publish", by="anna")
    assert [question.step for question in start(resume=True).questions] == ["archive"]
    assert sorted(outbox.sent) == ["archive", "publish"]
    start(resume=True, rerun="publish")
    assert sorted(outbox.sent) == ["archive", "publish", "publish"]


def test_a_question_that_was_not_sent_is_sent_by_the_next_run(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The notifier raised, or the history could not be written afterwards: then it may come twice, but is not lost."""
    outbox = NotifyOutbox()

    def start(**options: Any) -> Run:
        workflow = make()
        workflow.config.notify = outbox
        return workflow.start(**options)

    def refuse(*_: Any) -> None:
        raise HistoryError("The history can't be used", "the disk is full")

    outbox.is_away = True
    assert start().questions[0].sent is None
    outbox.is_away = False
    with monkeypatch.context() as patched:
        patched.setattr(SQLQueue, "note_sent", refuse)
        start(resume=True)
    assert start(resume=True).questions[0].sent is None
    assert start(resume=True).questions[0].sent is not None
    assert outbox.sent == ["publish"] * 3


def test_without_a_history_or_an_id_nothing_begins() -> None:
    config = Config(log=LogDefault(output="none"))
    for name, reason in (("report", "it has no history"), (None, "it has no workflow_id")):
        workflow = DotFlow(config, workflow_id=name)
        workflow.task.add(rows)
        workflow.task.add(publish)
        with pytest.raises(NotServable, match=f"can't wait for an approval: {reason}"):
            workflow.start()
    assert _ran == []


@pytest.mark.parametrize("text", ["{rows.name}?", "{rows[0]}?", "{rows!r}?", "{rows:>10}?", "{row}?", "{", "", "{}?"])
def test_a_question_has_names_of_parameters_in_its_braces_only(text: str) -> None:
    with pytest.raises(InvalidPolicy, match="approve is True, or a text such as"):

        @action(approve=text)
        def publish(rows: list[int]) -> None: ...


@pytest.mark.parametrize("within", ["soon", 0, -1, True])
def test_the_time_for_an_answer_is_a_duration(within: Any) -> None:
    with pytest.raises(InvalidPolicy, match="approve_within is the time for an answer"):
        action(approve=True, approve_within=within)
    with pytest.raises(InvalidPolicy, match="approve_within is the time for an answer"):
        action(approve_within="2d")


def test_cleanups_and_fallbacks_ask_nobody(make: Make) -> None:
    with pytest.raises(InvalidLink, match="always=True excludes approve"):
        make(rows).task.add(publish, always=True)
    with pytest.raises(InvalidLink, match="asks for no approval"):
        make(rows).task.add(beside, fallback=publish)


def test_a_parameter_named_approval_is_an_ordinary_one_without_approve(make: Make) -> None:
    @action
    def approval() -> int:
        return 7

    @action
    def takes(approval: int) -> int:
        return approval

    assert make(approval, takes).start().value("takes") == 7


ANSWERS = """
import sys
from dotflow import Control
from dotflow.errors import OrderRefused
sys.stdin.readline()
try:
    Control(sys.argv[1]).approve(sys.argv[2], by=sys.argv[3])
    print("counted")
except OrderRefused as error:
    print(error.reason)
"""


@pytest.mark.databases("sqlite")
def test_of_eight_processes_one_answers_and_seven_hear_who(make: Make, tmp_path: Path) -> None:
    run_id = make().start().run_id
    path = str(tmp_path / "history.db")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ANSWERS, path, run_id, f"person {number}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(8)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    heard = [process.communicate()[0].strip() for process in processes]
    assert heard.count("counted") == 1
    winner = f"person {heard.index('counted')} approved 'publish'"
    assert [line for line in heard if line != "counted" and not line.startswith(winner)] == []
    assert len(serve(make(), once=True)) == 1


def test_an_answer_counts_though_the_process_was_killed_at_the_end_of_the_run(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the end of the run in the history and its last look: a server sees to it."""

    @action
    def answers() -> None:
        (question,) = Control(make()).questions()
        Control(make()).approve(question.run_id, by="anna")

    def build() -> DotFlow:
        workflow = make(rows)
        workflow.task.add(publish).add(answers, needs=[rows])
        return workflow

    with monkeypatch.context() as killed:
        killed.setattr(Approvals, "answered", lambda self, origin: ())  # it came after the last look
        killed.setattr(Approvals, "settle", lambda *arguments: None)
        run = build().start(mode="parallel")
    assert run.status is PAUSED
    serve(build(), once=True)  # queues a run that goes on
    while serve(build(), once=True):
        pass
    newest = Control(build()).run(run.run_id)
    assert (newest.state, newest.continues) == (TypeRunState.COMPLETED, run.run_id)
    assert _ran.count("publish") == 1


def test_an_answer_that_the_run_itself_has_taken_makes_no_other_run(make: Make) -> None:
    @action(approve="Really?")
    def later() -> None: ...

    @action
    def answers() -> None:
        (question, *_) = [one for one in Control(make()).questions() if one.step == "publish"]
        Control(make()).approve(question.run_id, "publish", by="anna")

    workflow = make(rows)
    workflow.task.add(publish).add(later, needs=[rows]).add(answers, needs=[rows])
    run = workflow.start(mode="parallel")
    assert (run["publish"].status, [question.step for question in run.questions]) == (COMPLETED, ["later"])
    assert serve(workflow, once=True) == serve(workflow, once=True) == []
    assert Control(workflow).run(run.run_id).run_id == run.run_id


@pytest.mark.exhaustive(keep_every=2)
@pytest.mark.parametrize("is_submitted", [True, False])
def test_no_answer_is_lost_at_the_end_of_a_run_and_none_counts_twice(make: Make, is_submitted: bool) -> None:
    """An answer at any moment of a run's end: the run itself, or one run that continues it, takes it."""
    for seed in range(30):
        workflow = make()
        control, chance = Control(workflow), random.Random(seed)
        if is_submitted:
            run_id = workflow.submit()
            thread = threading.Thread(target=serve, args=(workflow,), kwargs={"once": True})
        else:
            thread = threading.Thread(target=workflow.start)
        thread.start()
        while not (questions := control.questions()):
            time.sleep(0.0005)
        run_id = questions[0].run_id
        time.sleep(chance.random() * 0.03)
        control.approve(run_id, by="anna")
        thread.join()
        while serve(workflow, once=True):
            pass
        newest = control.run(run_id)
        assert newest.state is TypeRunState.COMPLETED, seed
        assert _ran.count("publish") == 1, seed
        _ran.clear()
        workflow.config.history.close()  # each one of Postgres has connections of its own
        clock.sleep(0)


@pytest.mark.databases("sqlite")
@pytest.mark.parametrize("answer", ["none", "no", "late", "yes", "asked again"])
def test_a_replay_runs_only_with_a_recorded_yes(answer: str, make: Make, command: Any, tmp_path: Path) -> None:
    """It is the real step, which publishes: a step that waits, or was refused, is neither run nor offered."""
    workflow = make()
    run_id = workflow.start().run_id
    control = Control(workflow)
    if answer == "no":
        control.reject(run_id, by="anna")
    elif answer == "late":
        change(workflow, "UPDATE questions SET until = 1")
    elif answer != "none":
        control.approve(run_id, by="anna")
    if answer != "none":
        workflow.start(resume=True)
    if answer == "asked again":
        change(workflow, "UPDATE questions SET answer = NULL")
    _ran.clear()
    history = ("--history", str(tmp_path / "history.db"))
    (tmp_path / "rows.json").write_text('{"role": "argument:rows", "document": {"value": [1]}}')
    shown = command("show", "last", "publish", *history)

    step = ("--step", f"{__name__}:publish", "--input", str(tmp_path / "rows.json"))
    ended = command("replay", "last", "publish", *step, *history)

    if answer == "yes":
        assert (ended.code, _ran) == (0, ["publish"]), ended.err
    else:
        assert (ended.code, _ran) == (2, []), ended
        assert "dotflow replay" not in shown.out


@pytest.mark.parametrize("kind", ["a run parameter", "a parameter of the task", "a value"])
def test_a_yes_counts_for_the_contents_of_the_files_that_were_shown(kind: str, make: Make, tmp_path: Path) -> None:
    """The name of a file stays the same: who approved one text has not approved another one."""
    file = tmp_path / "letter.txt"
    file.write_text("Dear all")

    @action
    def letter() -> Path:
        return file

    @action(approve="Send {letter}?")
    def send(letter: Path) -> str:
        _ran.append(letter.read_text())
        return "sent"

    def workflow() -> DotFlow:
        if kind == "a run parameter":
            return make(send, params={"letter": file})
        if kind == "a value":
            return make(action(files=False)(letter.function), send)
        made = make(rows)
        made.task.add(send, params={"letter": file})
        return made

    first = workflow()
    Control(first).approve(first.start().run_id, by="anna")
    file.write_text("Dear nobody")
    again = workflow().start(resume=True)

    assert again.state is TypeRunState.PAUSED
    assert "Dear nobody" not in _ran
    Control(first).approve(again.run_id, by="anna")
    assert workflow().start(resume=True).state is TypeRunState.COMPLETED
    assert _ran[-1] == "Dear nobody"
