"""Durable steps that are killed, paused, timed out and taken over: each answer is paid for once."""

import contextlib
import importlib
import os
import random
import signal
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dotflow import Config, DotFlow
from dotflow.core.types.run_state import TypeRunState
from dotflow.core.types.status import TypeStatus
from dotflow.providers import ExecutorAsync, ExecutorProcess, ExecutorThread, HistorySQLite, LogDefault, StorageFile
from tests.integration.children import PATIENCE, Command, Scripts

AGENT = """
import asyncio
import os
import time
from contextlib import suppress
from pathlib import Path
from dotflow import Config, DotFlow, action
from dotflow.providers import StorageFile

HERE = Path({folder!r})
ANSWERS = {answers}
SECONDS = {seconds}  # for each answer


def pay(messages, key):
    # A provider that charges once for each idempotency key.
    with (HERE / "asked").open("a") as file:
        file.write(f"{{len(messages)}}\\n")
    time.sleep(SECONDS)
    with suppress(FileExistsError):
        (HERE / "paid" / key).touch(exist_ok=False)
    return f"DONE {{len(messages)}}" if len(messages) == 2 * ANSWERS - 1 else f"answer {{len(messages)}}"


@action
def ask_model(messages, idempotency_key):
    return pay(messages, idempotency_key)


@action
async def ask_model_async(messages, idempotency_key):
    await asyncio.sleep(0)
    return pay(messages, idempotency_key)


@action
def search(query):
    return [f"found {{query}}"]


@action(durable=True, retry=200, retry_delay=0, timeout={timeout})
def agent(goal):
    (HERE / "began").touch()
    messages = [goal]
    while True:
        answer = ask_model(messages)
        if answer.startswith("DONE"):
            return [*messages, answer]
        messages = [*messages, answer, *search(answer)]


@action(durable=True, retry=200, retry_delay=0, timeout={timeout})
async def agent_async(goal):
    (HERE / "began").touch()
    messages = [goal]
    while True:
        answer = await ask_model_async(messages)
        if answer.startswith("DONE"):
            return [*messages, answer]
        messages = [*messages, answer, *search(answer)]


job = DotFlow(Config(storage=StorageFile("values", durability="process")), workflow_id="job", params={{"goal": "tea"}})
job.task.add(agent, name="agent")
"""

KILLS = 20


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder from which modules are imported."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


#: How a durable step runs: its executor, and whether it is a coroutine.
MODES: dict[str, Callable[[], Any]] = {
    "sequential": lambda: None,
    "threads": lambda: ExecutorThread(max_workers=2),
    "event loop": ExecutorAsync,
    "processes": lambda: ExecutorProcess(max_workers=1),
}


class Agent:
    """An agent, and what it has done to the world.

    Args:
        folder: Where both are.
        answers: How many answers it asks for.
        seconds: How long each takes.
        timeout: The maximum time of an attempt.
    """

    def __init__(self, folder: Path, answers: int, seconds: float, timeout: float = 0) -> None:
        self.folder, self.answers = folder, answers
        (folder / "paid").mkdir()
        sys.modules.pop("agents", None)
        text = AGENT.format(folder=str(folder), answers=answers, seconds=seconds, timeout=timeout)
        (folder / "agents.py").write_text(text)

    def workflow(self, mode: str, **config: Any) -> DotFlow:
        """Makes its workflow in a mode."""
        module = importlib.import_module("agents")
        config.setdefault("storage", StorageFile(self.folder / "values", durability="process"))
        config["log"] = LogDefault(output="none")
        workflow = DotFlow(Config(executor=MODES[mode](), **config), workflow_id="job", params={"goal": "tea"})
        workflow.task.add(module.agent_async if mode == "event loop" else module.agent, name="agent")
        return workflow

    @property
    def asked(self) -> list[str]:
        path = self.folder / "asked"
        return path.read_text().split() if path.exists() else []

    def check(self, interruptions: int) -> None:
        """Checks that each answer was paid for once, and asked for again only where it was interrupted."""
        assert len(list((self.folder / "paid").iterdir())) == self.answers
        assert sorted(set(self.asked), key=int) == [str(2 * number + 1) for number in range(self.answers)]
        assert len(self.asked) <= self.answers + interruptions


def began(agent: Agent) -> bool:
    return (agent.folder / "began").exists()


def wait_until(is_so: Callable[[], Any]) -> None:
    """Waits for what other processes do."""
    until = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < until, "it does not happen"
        time.sleep(0.001)


def value_of(workflow: DotFlow) -> Any:
    (task,) = workflow.result_task()
    assert task.status is TypeStatus.COMPLETED, task.errors
    return task.current_context.storage


def live(agent: Agent, mode: str) -> int:
    """Runs an agent in a child process, and returns its id."""
    (agent.folder / "began").unlink(missing_ok=True)
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # pytest may have threads
        child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            agent.workflow(mode).start(resume=True)
            os._exit(0)
        os._exit(1)
    return child


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_an_agent_that_is_killed_at_random_moments_pays_for_each_answer_once(mode: str, folder: Path) -> None:
    """Twenty times by SIGKILL. Only the answer that it waits for is asked for again, with the same key."""
    agent = Agent(folder, answers=60, seconds=0.005)
    pick = random.Random(mode)
    kills = 0
    for _ in range(KILLS):
        child = live(agent, mode)
        wait_until(lambda: began(agent))
        time.sleep(pick.uniform(0, 0.03))
        os.kill(child, signal.SIGKILL)
        kills += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    workflow = agent.workflow(mode)
    workflow.start(resume=True)

    assert len(value_of(workflow)) == 2 * agent.answers
    assert kills
    agent.check(kills)


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_an_agent_that_is_cut_off_by_its_timeout_pays_for_each_answer_once(mode: str, folder: Path) -> None:
    """Again and again after 0.12 s."""
    agent = Agent(folder, answers=60, seconds=0.005, timeout=0.12)
    workflow = agent.workflow(mode)
    workflow.start()

    assert len(value_of(workflow)) == 2 * agent.answers
    (task,) = workflow.result_task()
    assert {error.exception for error in task.errors} <= {"TimeoutError"}
    agent.check(len(task.errors))


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_an_agent_that_is_paused_at_random_moments_asks_for_each_answer_once(mode: str, folder: Path) -> None:
    """A pause waits for the call that runs, and for no other one."""
    agent = Agent(folder, answers=60, seconds=0.005)
    pick = random.Random(mode)
    workflow = agent.workflow(mode)
    for _ in range(KILLS):
        (agent.folder / "began").unlink(missing_ok=True)
        run = workflow.launch(resume=True)
        wait_until(lambda: began(agent))
        time.sleep(pick.uniform(0, 0.015))
        run.pause()
        run.wait()
        if run.state is TypeRunState.COMPLETED:
            break
        assert run.state is TypeRunState.PAUSED
    workflow.start(resume=True)

    assert len(value_of(workflow)) == 2 * agent.answers
    agent.check(0)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_an_agent_whose_server_is_stopped_at_random_moments_asks_for_each_answer_once(
    scripts: Scripts, command: Command, folder: Path, request: pytest.FixtureRequest
) -> None:
    """SIGTERM stops it at its next call. The next server goes on."""
    agent = Agent(folder, answers=120, seconds=0.02)
    pick = random.Random(0)
    command("submit", "job")
    for _ in range(KILLS if request.config.getoption("--exhaustive") else 3):
        (agent.folder / "began").unlink(missing_ok=True)
        with scripts.command("serve", "agents:job") as server:
            wait_until(lambda: began(agent))
            time.sleep(pick.uniform(0, 0.1))
            server.send(signal.SIGTERM)
            assert server.end().code == 0
    states = {run.state for run in HistorySQLite().runs()}
    assert states == {TypeRunState.PAUSED, TypeRunState.QUEUED}
    with scripts.command("serve", "agents:job", "--once") as server:
        assert server.end().code == 0
    assert HistorySQLite().runs()[0].state is TypeRunState.COMPLETED
    agent.check(0)


HOUR = """

@action
def load(part):
    with (HERE / "asked").open("a") as file:
        file.write(f"{part}\\n")


@action(durable=True)
def long():
    for part in range(6):
        load(part)
        until = time.monotonic() + 600
        while part == 2 and not (HERE / "go").exists():  # ten minutes between two calls
            (HERE / "began").touch()
            if time.monotonic() > until:
                raise TimeoutError
            time.sleep(0.01)


hour = DotFlow(Config(storage=StorageFile("values")), workflow_id="hour")
hour.task.add(long)
"""


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_another_server_goes_on_with_the_next_call_of_a_killed_one(
    scripts: Scripts, command: Command, folder: Path
) -> None:
    """It is killed between two calls of a long step, and nothing that was kept is made again."""
    agent = Agent(folder, answers=0, seconds=0)
    with (folder / "agents.py").open("a") as file:
        file.write(HOUR)
    command("submit", "hour")
    with scripts.command("serve", "agents:hour") as first:
        wait_until(lambda: began(agent))
        assert agent.asked == ["0", "1", "2"]
        first.send(signal.SIGKILL)
        first.end()
    (folder / "go").touch()
    with scripts.command("serve", "agents:hour", "--once") as second:
        assert second.end().code == 0
    assert agent.asked == ["0", "1", "2", "3", "4", "5"]
    assert TypeRunState.COMPLETED in {run.state for run in HistorySQLite().runs()}
