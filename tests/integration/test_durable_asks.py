"""Durable steps that ask people: the run waits without a worker, and the answer is a value of the body."""

import asyncio
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import cloudpickle
import pytest

import dotflow
from dotflow import Approval, Config, Control, DotFlow, Run, Secret, action, serve
from dotflow.cli.main import main
from dotflow.core.task import Task
from dotflow.core.types.status import TypeStatus
from dotflow.errors import CallRefused, OrderRefused
from dotflow.providers import (
    ExecutorAsync,
    ExecutorInline,
    ExecutorProcess,
    ExecutorThread,
    HistorySQLite,
    LogDefault,
    StorageFile,
)
from dotflow.testing import virtual_clock

EXECUTORS: Final[dict[str, Callable[..., Any]]] = {
    "sequential": ExecutorInline,
    "threads": ExecutorThread,
    "loop": ExecutorAsync,
    "processes": ExecutorProcess,
}
COMPLETED, FAILED, PAUSED = TypeStatus.COMPLETED, TypeStatus.FAILED, TypeStatus.PAUSED
HERE: Final = ("--history", "history.sqlite")
PATIENCE: Final = 15.0  # seconds


@pytest.fixture(autouse=True)
def _by_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@pytest.fixture(params=EXECUTORS)
def executor(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def flow(*steps: Any, executor: str = "sequential", **more: Any) -> DotFlow:
    log = LogDefault(output="file", path="log")
    more.setdefault("history", HistorySQLite(path="history.sqlite"))
    config = Config(storage=StorageFile(path="values"), executor=EXECUTORS[executor](), log=log, **more)
    workflow = DotFlow(config, workflow_id="w")
    for step in steps:
        workflow.task.add(step)
    return workflow


def note(text: object) -> None:
    with Path("made").open("a") as file:
        file.write(f"{text}\n")


def made() -> list[str]:
    """What has happened since it was asked last."""
    file = Path("made")
    lines = file.read_text().split() if file.exists() else []
    file.unlink(missing_ok=True)
    return lines


def texts(run: Run) -> list[str]:
    return sorted(question.text for question in run.questions)


@action
def draft(name: str) -> str:
    note(f"draft_{name}")
    return f"Dear {name}"


@action
async def send(text: str) -> str:
    note("send")
    return f"sent: {text}"


@action(durable=True)
async def mail() -> str:
    text = draft("Ann")
    answer = await dotflow.aask("Send {text!r}?".replace("!r", ""), text=text)
    return await send(text) if answer.is_approved else f"{answer.by} said no: {answer.comment}"


@action
def send_now(text: str) -> str:
    note("send")
    return f"sent: {text}"


@action(durable=True)
def letter() -> str:
    text = draft("Ann")
    answer = dotflow.ask("Send {text}?", text=text)
    return send_now(text) if answer.is_approved else f"{answer.by} said no: {answer.comment}"


@pytest.mark.parametrize("step", [letter, mail], ids=["sync", "async"])
def test_a_step_goes_on_with_the_answer(executor: str, step: Any) -> None:
    """What came before the question is given back, and so is the answer, in each later attempt."""
    workflow = flow(step, executor=executor)
    run = workflow.start()
    assert (run.status, texts(run)) == (PAUSED, ["Send Dear Ann?"])
    assert run.reason.startswith(f"it waits for '{step.name}@")
    assert made() == ["draft_Ann"]

    Control(workflow).approve(run.run_id, by="ann")
    run = workflow.start(resume=True)

    assert run.value(step) == "sent: Dear Ann"
    assert made() == ["send"]
    assert Control(workflow).questions() == []


def test_a_no_is_returned() -> None:
    """With who gave it, and why; the body decides."""
    workflow = flow(letter)
    run = workflow.start()

    Control(workflow).reject(run.run_id, by="bob", comment="too short")

    assert workflow.start(resume=True).value("letter") == "bob said no: too short"


@action(durable=True)
def order() -> Any:
    answer = dotflow.ask("How many?")
    dotflow.sleep(0)
    return [answer, dotflow.ask("Really {count}?", count=answer.value)]


def test_an_answer_has_a_value_and_the_next_question_comes_after_it() -> None:
    workflow = flow(order)
    control = Control(workflow)
    run = workflow.start()
    control.approve(run.run_id, by="ann", value=12)
    run = workflow.start(resume=True)
    assert texts(run) == ["Really 12?"]
    control.approve(run.run_id, by="bob")

    first, second = workflow.start(resume=True).value("order")

    assert (first.value, first.by, first.is_approved, type(first)) == (12, "ann", True, Approval)
    assert (second.value, second.by) == (None, "bob")


@action(durable=True)
async def both() -> list[bool]:
    async def one(name: str) -> bool:
        answer = await dotflow.aask("Charge {name}?", name=name)
        note(name)
        return answer.is_approved

    return list(await asyncio.gather(one("ann"), one("bob")))


@action(durable=True)
async def grouped() -> list[bool]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(dotflow.aask("Charge {name}?", name=name)) for name in ("ann", "bob")]
    return [task.result().is_approved for task in tasks]


def test_questions_of_a_task_group_pause_the_run(executor: str) -> None:
    """The group raises what parks the step in a group of its own, which is no failure."""
    workflow = flow(grouped, executor=executor)
    run = workflow.start()
    assert (run.status, texts(run)) == (PAUSED, ["Charge ann?", "Charge bob?"])
    for question in run.questions:
        Control(workflow).approve(run.run_id, question.step)

    assert workflow.start(resume=True).value("grouped") == [True, True]


def test_two_questions_at_once_are_named_by_their_calls(executor: str) -> None:
    """Each has its own answer, in any order; an answer to one of them leaves the other one open."""
    workflow = flow(both, executor=executor)
    control = Control(workflow)
    run = workflow.start()
    assert texts(run) == ["Charge ann?", "Charge bob?"]
    with pytest.raises(OrderRefused, match=r"'both@\w+', 'both@\w+' wait for an answer. Name one of them"):
        control.approve(run.run_id, by="eve")
    first, second = sorted(run.questions, key=lambda question: question.text)
    control.reject(run.run_id, second.step, by="eve")

    run = workflow.start(resume=True)
    assert texts(run) == ["Charge ann?"]
    control.approve(run.run_id, first.step, by="eve")

    assert workflow.start(resume=True).value("both") == [True, False]
    assert sorted(made()) == ["ann", "bob", "bob"]


@action(durable=True, retry=2)
def asker() -> bool:
    note("asks")
    is_approved = dotflow.ask("Go on?").is_approved
    if not Path("failed").exists():
        Path("failed").touch()
        raise ConnectionError
    note("goes_on")
    return is_approved


@action
def answerer() -> None:
    """Answers in the run of the question, and ends after what followed from it."""
    control, until = Control(HistorySQLite(path="history.sqlite")), time.monotonic() + PATIENCE
    while not control.questions():
        assert time.monotonic() < until
        time.sleep(0.02)
    control.approve(control.questions()[0].run_id, by="ann")
    while "goes_on" not in Path("made").read_text():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_it_goes_on_in_the_same_run(executor: str) -> None:
    """While other tasks run; what follows is an attempt more, which `retry` does not count."""
    run = flow(asker, answerer, executor=executor).start(mode="parallel")

    assert run.value("asker") is True
    assert made() == ["asks", "asks", "asks", "goes_on"]
    states = [attempt.state.value for attempt in HistorySQLite(path="history.sqlite").load("last").steps[0].attempts]
    assert states == ["Paused", "Retry", "Completed"]


@action(durable=True)
async def waits_and_asks() -> str:
    async def remind() -> None:
        await dotflow.asleep("1d")
        note("remind")

    reminds = asyncio.ensure_future(remind())
    answer = await dotflow.aask("Pay?", within="3d")
    await reminds
    return answer.comment or "paid"


@pytest.mark.parametrize("executor", ["sequential", "threads"])
def test_a_question_has_its_time(executor: str) -> None:
    """A sleep beside it goes on; once its time is up, it has a no of nobody."""
    with virtual_clock() as clock:
        workflow = flow(waits_and_asks, executor=executor)
        run = workflow.start()
        assert made() == ["remind"]
        assert run.status is PAUSED
        assert clock.monotonic() == 86_400
        clock.advance("2d")

        run = workflow.start(resume=True)

    assert run.value("waits_and_asks") == "it was not approved within 3 d"


@action
def pages() -> list[str]:
    return ["a", "b", "c"]


@action(durable=True)
def check(page: str) -> str:
    note(f"check_{page}")
    return f"{page} {dotflow.ask('Publish {page}?', page=page).is_approved}"


@pytest.mark.parametrize("executor", ["sequential", "threads", "processes"])
def test_items_of_a_map_ask_one_by_one(executor: str) -> None:
    """One that waits gives its place to others."""
    workflow = flow(pages, executor=executor)
    workflow.task.add(check, each="pages", max_parallel=1)
    run = workflow.start()
    assert [(question.step.partition("@")[0], question.text) for question in run.questions] == [
        ("check[0]", "Publish a?"),
        ("check[1]", "Publish b?"),
        ("check[2]", "Publish c?"),
    ]
    control = Control(workflow)
    control.approve(run.run_id, "check[1]", by="ann")
    for number in (0, 2):
        control.reject(run.run_id, f"check[{number}]", by="ann")

    run = workflow.start(resume=True)

    assert run.value("check") == ["a False", "b True", "c False"]


@action(durable=True)
def edited() -> bool:
    text = "Really send?" if Path("edited").exists() else "Send?"
    return dotflow.ask(text).is_approved


def test_a_question_that_is_asked_no_more_is_taken_back() -> None:
    """The edited body asks another one. When the edit is taken back, the first one is open again."""
    workflow = flow(edited)
    control = Control(workflow)
    workflow.start()
    Path("edited").touch()
    run = workflow.start(resume=True)

    assert texts(run) == ["Really send?"]
    assert [question.text for question in control.questions()] == ["Really send?"]

    Path("edited").unlink()
    workflow.start(resume=True)
    assert [question.text for question in control.questions()] == ["Send?"]


@action(durable=True)
def forgets() -> bool:
    return Path("edited").exists() or dotflow.ask("Send?").is_approved


def test_a_step_that_completes_without_its_question_takes_it_back() -> None:
    workflow = flow(forgets)
    workflow.start()
    Path("edited").touch()

    assert workflow.start(resume=True).value("forgets") is True
    assert Control(workflow).questions() == []


def test_a_rerun_asks_again() -> None:
    """From the call on, or the whole step: an old answer does not count."""
    workflow = flow(letter)
    control = Control(workflow)
    for rerun in (None, "letter", "letter@2"):
        run = workflow.start(resume=True, rerun=rerun) if rerun else workflow.start()
        assert texts(run) == ["Send Dear Ann?"], rerun
        control.approve(run.run_id, by="ann")
        assert workflow.start(resume=True).status is COMPLETED


def test_a_server_goes_on_after_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer queues the run that continues; nothing more is queued after a second question."""
    workflow = flow(order)
    control = Control(workflow)
    workflow.submit()
    for _ in range(2):
        serve(workflow, once=True)
        (question,) = control.questions()
        control.approve(question.run_id, by="ann", value=3)
    serve(workflow, once=True)

    history = HistorySQLite(path="history.sqlite")
    assert [run.state.value for run in history.runs()] == ["Completed", "Paused", "Paused"]
    serve(workflow, once=True)
    assert len(history.runs()) == 3


def test_the_command_answers(capsys: pytest.CaptureFixture[str]) -> None:
    """`runs` and `show` list it, and `approve` takes the name that they give it."""
    workflow = flow(letter)
    run = workflow.start()
    (question,) = run.questions

    assert main(["runs", *HERE]) == 0
    assert f"{question.step} asks since" in capsys.readouterr().out
    assert main(["show", run.run_id, *HERE]) == 0
    shown = capsys.readouterr().out
    assert "Send Dear Ann?" in shown
    assert f"dotflow approve {run.run_id[:8]}" in shown
    assert main(["approve", run.run_id, question.step, *HERE]) == 0
    assert workflow.start(resume=True).value("letter") == "sent: Dear Ann"
    (ask,) = [call for call in HistorySQLite(path="history.sqlite").calls("last", "letter").calls if "ask" in call.name]
    assert ask.shown == "ask('Send {text}?', {'text': 'Dear Ann'})"


class Sent(list[str]):
    """A notifier that keeps the questions."""

    def send(self, task: Task) -> None:
        if task.question is not None:
            self.append(task.question.text)

    def close(self) -> None: ...


@action(durable=True)
def hides(password: str = Secret("PASSWORD")) -> bool:  # type: ignore[assignment]
    return dotflow.ask("Use {password}?", password=password).is_approved


def test_a_question_shows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSWORD", "hunter2-hunter2")

    (text,) = texts(flow(hides).start())

    assert "hunter2" not in text


@action(durable=True)
def calls_one_that_asks() -> bool:
    return asks_inside()


@action
def asks_inside() -> bool:
    return dotflow.ask("Inside?").is_approved


@action(durable=True)
async def blocks() -> bool:
    return dotflow.ask("Blocks?").is_approved


@action(durable=True)
def misspelt() -> bool:
    return dotflow.ask("Send {draft}?", text="x").is_approved


REFUSALS: Final = {
    calls_one_that_asks: "The call of 'ask' can't be kept: only the body of a durable step can ask. Call it there, "
    "outside of its actions.",
    blocks: "The call of 'ask' can't be kept: it would block the loop of its coroutine. Await dotflow.aask.",
    misspelt: "question='Send {draft}?' is not accepted. Pass a text whose braces name values that are passed: not "
    "{draft}.",
}


@pytest.mark.parametrize("step", REFUSALS, ids=lambda step: step.name)
def test_what_can_not_ask_is_refused(step: Any) -> None:
    error = flow(step).start().tasks[0].error

    assert error is not None
    assert error.message == REFUSALS[step]


def test_outside_of_a_durable_step_it_is_refused() -> None:
    with pytest.raises(CallRefused, match="only the body of a durable step can ask"):
        dotflow.ask("Now?")


def test_without_a_history_nothing_can_answer() -> None:
    """The step fails with what it needs."""
    error = flow(letter, history=None).start().tasks[0].error

    assert error is not None
    assert (error.exception, "can't wait for an approval" in error.message) == ("NotServable", True)
