"""The message about the end of a run: what failed and where, how long since it last worked, and how to go on."""

import re
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dotflow import Config, Control, DotFlow, Run, Secret, action, serve
from dotflow.abc.notify import Notify, RunMessage
from dotflow.core.task import Task
from dotflow.core.types.run_state import TypeRunState
from dotflow.core.types.status import TypeStatus
from dotflow.providers import ExecutorThread, HistorySQLite, LogDefault, NotifyTelegram, StorageFile
from dotflow.testing import virtual_clock
from tests.loopback import TOKEN, serving, silence

Make = Callable[..., DotFlow]
_fails: set[str] = set()


@action
def fetch() -> list[int]:
    return [1, 2, 3]


@action(retry=2, retry_delay=0)
def load(fetch: list[int]) -> int:
    if "load" in _fails:
        raise KeyError("price")
    return len(fetch)


@action
def publish() -> None: ...


class Kept(Notify):
    """Keeps the messages about runs as texts, and the tasks that wait for an answer."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.asked: list[str] = []

    def wants(self, message: Task | RunMessage) -> bool:
        return isinstance(message, RunMessage) or message.question is not None

    def send(self, task: Task) -> None:
        self.asked.append(task.name)

    def send_run(self, message: RunMessage) -> None:
        self.texts.append(f"{message.title}\n{message.text}")


@pytest.fixture
def notify() -> Kept:
    return Kept()


@pytest.fixture
def make(tmp_path: Path, notify: Kept, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes workflows over the same default history, in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    _fails.clear()

    def make(*steps: Any, history: Any = ..., workflow_id: str | None = "nightly", **config: Any) -> DotFlow:
        config = {"storage": StorageFile("values"), "notify": notify, "executor": ExecutorThread()} | config
        given = HistorySQLite() if history is ... else history
        workflow = DotFlow(Config(history=given, log=LogDefault(output="none"), **config), workflow_id=workflow_id)
        for step in steps or (fetch, load):
            workflow.task.add(step)
        return workflow

    return make


def short(run: Run) -> str:
    return run.run_id[:8]


def test_a_failed_run_has_what_failed_where_since_when_and_the_command_to_go_on(make: Make, notify: Kept) -> None:
    """As its page has it, on lines short enough for a phone."""
    with virtual_clock() as clock:
        make().start()
        clock.sleep(93_600)
        _fails.add("load")
        run = make().start()

    line = load.function.__code__.co_firstlineno + 3
    assert notify.texts[1].splitlines() == [
        "Failed: nightly",
        f"run {short(run)}: 1 of 2 tasks completed, took 0.00 s",
        "load failed after 2 attempts: KeyError: 'price'",
        f'{__file__}:{line} in load: raise KeyError("price")',
        "last completed 1 d 2 h ago",
        f"dotflow show {short(run)} load",
    ]


def test_a_submitted_run_has_the_command_that_goes_on(make: Make, notify: Kept) -> None:
    """Its end is not in the history yet, since only its server writes it, but the command is right."""
    _fails.add("load")
    workflow = make()
    run_id = workflow.submit()[:8]
    serve(workflow, once=True)

    (text,) = notify.texts
    assert text.splitlines()[-3:] == [
        "no earlier run in the history completed",
        f"dotflow show {run_id} load",
        f"dotflow resume {run_id}",
    ]


def test_a_run_of_the_command_has_the_command_that_goes_on(tmp_path: Path) -> None:
    """With its options and parameters."""
    (tmp_path / "jobs.py").write_text(
        textwrap.dedent(
            """
            from dotflow import Config, DotFlow, action
            from dotflow.abc.notify import Notify
            from dotflow.providers import HistorySQLite, LogDefault, StorageFile

            class NotifyPrint(Notify):
                def send(self, task): ...

                def send_run(self, message):
                    print(message.text)

            @action
            def load(day): raise KeyError(day)

            def build():
                config = Config(
                    StorageFile("values"), NotifyPrint(), LogDefault(output="none"), history=HistorySQLite("runs.db")
                )
                workflow = DotFlow(config, workflow_id="sales", params={"day": "monday"})
                workflow.task.add(load)
                return workflow
            """
        )
    )
    command = [sys.executable, "-m", "dotflow", "start", "--workflow", "jobs:build"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=20)

    assert ended.returncode == 1, ended.stderr
    assert re.findall(r"^dotflow show \w+ load --history runs.db$", ended.stdout, re.M), ended.stdout


def test_a_completed_run_has_its_tasks_and_its_duration(make: Make, notify: Kept) -> None:
    """And nothing else."""
    run = make().start()

    assert notify.texts == [f"Completed: nightly\nrun {short(run)}: 2 of 2 tasks completed, took {took(notify)}"]


def took(notify: Kept) -> str:
    return notify.texts[-1].rpartition("took ")[2].partition("\n")[0]


def test_a_failed_map_has_its_first_failed_item(make: Make, notify: Kept) -> None:
    """With its error and its line; the command shows this item."""

    @action
    def half(number: int) -> float:
        return 1 / (number - 2)

    workflow = make(fetch)
    workflow.task.add(half, each=fetch)
    run = workflow.start()

    (text,) = notify.texts
    assert "half failed: ItemsFailed: 1 of 3 items failed: [1] 2 ZeroDivisionError\n" in text
    assert re.search(r"half#1 failed: ZeroDivisionError: .*\n.* in half: return 1 / \(number - 2\)\n", text)
    assert f"dotflow show {short(run)} half#1" in text


def test_many_failures_are_three_and_a_number(make: Make, notify: Kept) -> None:
    """Long messages are cut, and are on one line each: a phone shows some ten lines."""

    @action
    def fails() -> None:
        raise ValueError("long\n" * 1000)

    make(*[fails] * 5).start(mode="parallel", keep_going=True)

    (text,) = notify.texts
    assert text.count("fails failed: ValueError: long long") == 3
    assert "\nand 2 more that failed\n" in text
    assert len(text) < 2000
    assert len(text.splitlines()) <= 12


def test_a_cancelled_run_has_who_cancelled_it_and_no_error_of_a_stopped_task(make: Make, notify: Kept) -> None:
    """Its status is Failed, its state is Cancelled."""
    begun, over = threading.Event(), threading.Event()

    @action
    def waits() -> None:
        begun.set()
        over.wait(20)

    run = make(waits).start(mode="background")
    begun.wait(20)
    run.cancel()
    run.wait()
    over.set()

    (text,) = notify.texts
    assert text.startswith(f"Cancelled: nightly\nrun {short(run)}: 0 of 1 task completed, took ")
    assert text.splitlines()[2] == "the run was cancelled"
    assert " failed" not in text


def test_a_history_that_cant_be_read_takes_nothing_but_its_own_lines(
    make: Make, notify: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What failed is known without it, and the message says why the rest is missing."""
    _fails.add("load")
    history = HistorySQLite()

    def breaks(*args: object, **kwargs: object) -> None:
        raise OSError("the disk is away")

    monkeypatch.setattr(history, "load", breaks)
    run = make(history=history).start()

    assert run.status is TypeStatus.FAILED
    (text,) = notify.texts
    assert "KeyError: 'price'" in text
    assert text.splitlines()[-1] == "The history can't be read: the disk is away"


def test_without_a_history_a_failed_run_has_its_errors(make: Make, notify: Kept) -> None:
    """No command would find it."""
    _fails.add("load")
    make(history=None, workflow_id=None).start()

    (text,) = notify.texts
    assert text.startswith("Failed: a run\nrun ")
    assert "KeyError: 'price'" in text
    last = text.rpartition("\n")[2]
    assert "dotflow" not in last.replace(str(Path(__file__).parents[2]), "")  # the clone's folder may have that name


def test_a_question_is_sent_at_once_and_the_pause_of_its_run_is_not(make: Make, notify: Kept) -> None:
    """The person has one message to answer."""

    @action(approve=True)
    def deploy() -> None: ...

    workflow = make(publish, deploy)
    paused = workflow.start()
    assert (paused.state, notify.asked, notify.texts) == (TypeRunState.PAUSED, ["deploy"], [])

    Control(workflow).approve(paused.run_id, by="anna")
    serve(workflow, once=True)
    assert [text.splitlines()[0] for text in notify.texts] == ["Completed: nightly"]


def test_a_run_that_was_paused_by_an_order_says_so(make: Make, notify: Kept) -> None:
    """It waits for no answer, so no other message has told of it."""
    begun, go_on = threading.Event(), threading.Event()

    @action
    def waits() -> None:
        begun.set()
        go_on.wait(20)

    run = make(waits, publish).start(mode="background")
    begun.wait(20)
    run.pause()
    go_on.set()
    run.wait()

    (text,) = notify.texts
    assert text.splitlines()[0] == "Paused: nightly"
    assert text.splitlines()[2] == "the run was paused"


@pytest.mark.parametrize("signals", [1, 2])
def test_a_run_that_its_server_leaves_to_the_next_one_sends_nothing(make: Make, notify: Kept, signals: int) -> None:
    """The run goes on by itself, and sends a message about its own end."""
    begun, go_on = threading.Event(), threading.Event()

    @action
    def waits() -> None:
        begun.set()
        go_on.wait(20)

    workflow = make(waits, publish)
    run_id = workflow.submit()
    server = serve(workflow, wait=False)
    assert begun.wait(20)
    for _ in range(signals):
        server.request_stop()
    while not (
        (run := server._runs.begun.get(run_id)) and (run._stops.pause if signals == 1 else run._stops.is_cancelled)
    ):
        time.sleep(0.005)  # else its last step may end before the server looks
    go_on.set()
    server.stop()
    assert notify.texts == []
    assert Control(workflow).run(run_id).state is TypeRunState.QUEUED

    serve(workflow, once=True)
    assert [text.splitlines()[0] for text in notify.texts] == ["Completed: nightly"]


def test_secrets_are_masked_in_it(make: Make, notify: Kept) -> None:
    """In errors and code lines as in what the history says."""

    @action
    def login(token: str = Secret("API_TOKEN")) -> None:
        raise ValueError(f"{token} was refused")

    make(login, secrets={"API_TOKEN": "hunter22secret"}).start()

    (text,) = notify.texts
    assert "hunter22secret" not in text
    assert "ValueError: *** was refused" in text


def test_one_that_hangs_or_raises_changes_nothing(make: Make) -> None:
    """The run ends after the grace; the log names what was not sent, or what was raised."""
    reports: list[str] = []

    class Reports(LogDefault):
        def report(self, message: str) -> None:
            reports.append(message)

    class Breaks(Kept):
        def send_run(self, message: RunMessage) -> None:
            raise OSError("no network")

    def run_with(notify: Notify, grace: float) -> Run:
        workflow = make(publish, notify=notify, notify_grace=grace)
        workflow.config.log = Reports(output="none")
        return workflow.start()

    with serving(silence) as server:
        run = run_with(NotifyTelegram(TOKEN, 1, timeout=20, base_url=server.url, by="run"), 0.05)
    assert run.status is run_with(Breaks(), 20).status is TypeStatus.COMPLETED
    hangs, *later = reports  # with the error of the one that hung, if that ends soon enough
    assert "one notification still hangs, 0 more were not sent" in hangs
    assert len([line for line in later if "Breaks.send_run raised for run " in line]) == 1
