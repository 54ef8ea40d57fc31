"""The secrets of steps are nowhere in what a run writes or sends, in any mode and in any form."""

import base64
import itertools
import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from dotflow import Config, DotFlow, Secret, action
from dotflow.abc.history import History
from dotflow.cli.main import main
from dotflow.core.events import AttemptStarted, Event
from dotflow.core.masks import forms_of
from dotflow.providers import (
    ExecutorAsync,
    ExecutorProcess,
    ExecutorThread,
    HistorySQLite,
    LogDefault,
    NotifyApprise,
    SchedulerCron,
    StorageFile,
)
from dotflow.testing import virtual_clock
from tests.integration.modes import COMPLETED, MODES, group, start
from tests.loopback import says, serving
from tests.marks import in_any_worker
from tests.spans import Telemetry

TOKEN = 'tok/5f2c"91d0 a7&b3'
PASSWORD = "hunter22-of-the-environment"
KEY = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG\n9w0BAQEFAASCBKcwggSj\n-----END KEY-----\n"
SECRETS = {"API_TOKEN": TOKEN, "SIGNING": KEY}


def spelled(secret: str) -> str:
    """A message with the secret in all forms."""
    basic = base64.b64encode(f"user:{secret}".encode()).decode()
    lines = "\n".join(f"line {line}" for line in secret.splitlines())
    return f"{secret} {secret!r} {json.dumps(secret)} {quote(secret)} {quote(secret, safe='')} {basic} {lines}"


@action(retry=2, retry_delay=0)
def fails(token: str = Secret("API_TOKEN"), key: str = Secret("SIGNING")) -> None:
    print(spelled(token), spelled(key))
    print(spelled(PASSWORD), file=sys.stderr)
    error = ValueError(spelled(token))
    error.add_note(spelled(PASSWORD))
    raise error from KeyError(spelled(key))


@action
class Report:
    def __init__(self, token: str = Secret("API_TOKEN")) -> None:
        self.token = token

    @action(retry=2, retry_delay=0)
    def send(self, key: str = Secret("SIGNING")) -> None:
        raise RuntimeError(spelled(self.token), spelled(key))


@action
def fetch(page: int, token: str = Secret("API_TOKEN")) -> int:
    if page == 2:
        raise ConnectionError(f"https://example.com/{page}?token={quote(token)}")
    return page


@action
def good() -> bool:
    return True


def call_back(task: Any) -> None:
    raise OSError(spelled(TOKEN))


class Recorder(History):
    """Keeps every event, and fails with a secret."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def record(self, run_id: str, event: Event) -> None:
        self.events.append(event)
        raise OSError(spelled(TOKEN))


def workflow_of(config: Config, mode: str = "sequential") -> DotFlow:
    workflow = DotFlow(config, workflow_id="masked")
    workflow.task.add(fails, callback=call_back, group_name=group(mode, 0))
    workflow.task.add(Report, group_name=group(mode, 1)).add(good)
    workflow.task.add(fetch, each=[1, 2, 3], fallback=fails, keep_going=True)
    return workflow


def assert_hidden(left: str) -> None:
    """Fails if a form of a secret is left."""
    for secret in (*SECRETS.values(), PASSWORD):
        assert [form for form in forms_of(secret) if form in left] == []


def files_in(folder: Path) -> str:
    return "".join(path.read_bytes().decode("latin-1") for path in folder.rglob("*") if path.is_file())


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", PASSWORD)
    monkeypatch.setattr(sys, "argv", ["dotflow", f"--token={TOKEN}"])


@pytest.mark.exhaustive(keep_every=4)
@pytest.mark.parametrize("mode", MODES)
def test_a_failing_run_leaves_no_secret(mode: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Not in logs, storage, history, events, records, results, plan, notifications or traces."""
    telemetry = Telemetry()
    with serving(says(200, {"ok": True})) as server:
        config = Config(
            secrets=SECRETS.get,
            storage=StorageFile(path=tmp_path / "storage"),
            log=LogDefault(path=tmp_path / "flow.log", format="json", output="both"),
            history=HistorySQLite(tmp_path / "history.db"),
            notify=NotifyApprise(server.url.replace("http", "json")),
            tracer=telemetry.tracer,
        )
        workflow = workflow_of(config, mode)
        plan = str(workflow.plan())
        run = start(workflow, mode, keep_going=True)

    assert [str(task.status) for task in run.tasks] == ["Failed", "Failed", "Completed", "Failed"]
    errors = [error for task in run.tasks for error in (*task.errors, *(e for item in task.items for e in item.errors))]
    everything = [
        plan,
        files_in(tmp_path),
        repr(run.tasks) + repr(vars(run)),
        *(f"{error!r}{error.message}{error.traceback}" for error in errors),
        workflow.result().model_dump_json(),
        "".join(request.body.decode() for request in server.received),
        "".join(span.to_json() for span in telemetry.spans),
        repr(HistorySQLite(tmp_path / "history.db").load("last")),
    ]
    assert sum("***" in part for part in everything) >= 4
    assert_hidden("".join(everything))


@action
def whoami(prefix: str = "I am", token: str = Secret("API_TOKEN")) -> str:
    return f"{prefix} {token}"


@action
async def whoami_async(token: str = Secret("API_TOKEN")) -> str:
    return f"I am {token}"


@pytest.mark.exhaustive(keep_every=4)
@pytest.mark.parametrize("mode", MODES)
@in_any_worker
def test_secrets_reach_steps_in_every_mode(mode: str, quiet: Callable[..., Config]) -> None:
    """Functions, coroutines, items, fallbacks and steps of other workflows; a worker's environment need not have it."""
    config = quiet(secrets={"API_TOKEN": "tok-1234"})
    other = DotFlow()
    other.task.add(whoami)
    workflow = DotFlow(config)
    workflow.task.add(whoami, name="plain", group_name=group(mode, 0))
    workflow.task.add(whoami_async, group_name=group(mode, 1))
    workflow.task.add(whoami, name="mapped", each={"prefix": ["a", "b"]})
    workflow.task.add(good, name="bad", when="plain", fallback=whoami)
    workflow.task.add(other, name="other")
    run = start(workflow, mode)

    assert {str(task.status) for task in run.tasks} == {str(COMPLETED)}
    assert [task.current_context.storage for task in run.tasks] == [
        "I am tok-1234",
        "I am tok-1234",
        ["a tok-1234", "b tok-1234"],
        True,
        "I am tok-1234",
    ]


@pytest.mark.parametrize(
    "make",
    [
        lambda: ExecutorProcess(start_method="fork"),
        lambda: ExecutorProcess(start_method="forkserver"),
        ExecutorThread,
        ExecutorAsync,
    ],
    ids=["fork", "forkserver", "thread", "async"],
)
def test_failures_of_all_executors_are_masked(make: Callable[[], Any], quiet: Callable[..., Config]) -> None:
    """Wherever the attempt is made, its failure is masked where the coordinator takes it."""
    workflow = DotFlow(quiet(executor=make(), secrets=SECRETS))
    workflow.task.add(fails)

    task = start(workflow, "sequential").tasks[0]

    assert len(task.errors) == 2
    assert_hidden("".join(f"{error.message}{error.traceback}" for error in task.errors))
    assert "***" in task.error.message


def test_a_history_that_raises_is_reported_without_secrets(quiet: Callable[..., Config]) -> None:
    """What dotflow logs about providers and callbacks that raise is masked, too."""
    lines: list[str] = []
    log = LogDefault(output="none")
    log.report = lines.append  # type: ignore[method-assign]
    workflow = DotFlow(Config(secrets=SECRETS, log=log, history=Recorder()))
    workflow.task.add(fails, callback=call_back)
    workflow.start(on_failure=lambda tasks: call_back(tasks))

    assert sum("***" in line for line in lines) >= 3
    assert_hidden("".join(lines))


def test_the_events_of_attempts_have_no_secrets(quiet: Callable[..., Config]) -> None:
    """A history or a tracer may write them as they are."""
    history = Recorder()
    workflow = DotFlow(quiet(secrets=SECRETS, history=history))
    workflow.task.add(good).add(fetch, each=[1, 2], fallback=fails, keep_going=True)
    workflow.start()

    calls = [event.call for event in history.events if isinstance(event, AttemptStarted)]
    assert len(calls) > 3
    assert_hidden("".join(pickle.dumps(call and call.secrets).decode("latin-1") for call in calls))


def test_a_cached_value_does_not_depend_on_the_secret(tmp_path: Path) -> None:
    """Another token makes no other key, and the storage has neither."""
    ran = []

    @action(cache=True)
    def count(token: str = Secret("API_TOKEN")) -> int:
        ran.append(token)
        return len(ran)

    for token in ("tok-first", "tok-second"):
        config = Config(secrets={"API_TOKEN": token}, storage=StorageFile(path=tmp_path), log=LogDefault(output="none"))
        workflow = DotFlow(config, workflow_id="cached")
        workflow.task.add(count)
        workflow.start()

    assert ran == ["tok-first"]
    assert "tok-" not in files_in(tmp_path)
    assert not any("tok-" in str(path) for path in tmp_path.rglob("*"))


def test_a_schedule_finds_secrets_at_each_firing() -> None:
    """A new token counts from the next firing on; the first one is needed when the schedule begins."""
    numbers = itertools.count()
    seen: list[str] = []

    def step(token: str = Secret("API_TOKEN")) -> None:
        seen.append(token)
        if len(seen) == 2:
            scheduler.stop()

    with virtual_clock():
        scheduler = SchedulerCron("* * * * *", timezone="UTC")
        config = Config(scheduler=scheduler, secrets=lambda name: f"tok-{next(numbers)}", log=LogDefault(output="none"))
        workflow = DotFlow(config)
        workflow.task.add(action(step))
        workflow.schedule()

    assert len(set(seen)) == 2


def test_a_skipped_task_has_a_masked_reason(quiet: Callable[..., Config]) -> None:
    """A value in a reason is masked before it is cut, in the plan and in the run."""
    workflow = DotFlow(quiet(mask="DB_PASSWORD"), params={"where": f"{'x' * 40} {PASSWORD}"})
    workflow.task.add(good, when={"where": PASSWORD})

    shown = f"{workflow.plan()}{workflow.start().tasks[0].reason}"

    assert shown.count("***") >= 2
    assert PASSWORD[:8] not in shown


def test_the_command_line_shows_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Not in the summary, with the inputs of failed items, and not in errors of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "masked_steps.py").write_text(
        "from dotflow import DotFlow, Secret, action\n"
        "@action\n"
        "def fetch(url, token=Secret('DB_PASSWORD')):\n"
        "    raise ConnectionError(f'{url} {token}')\n"
        "def make():\n"
        "    workflow = DotFlow()\n"
        f"    workflow.task.add(fetch, each=['https://a.example/{'x' * 30}?token={PASSWORD}'])\n"
        "    return workflow\n"
        "def broken():\n"
        f"    raise OSError('{PASSWORD}')\n"
        "@action\n"
        "def needs(token=Secret('NOT_THERE')):\n"
        "    pass\n"
    )

    codes = [
        main(["start", "--workflow", "masked_steps:make"]),
        main(["--debug", "start", "--workflow", "masked_steps:broken"]),
        main(["start", "--step", "masked_steps:needs"]),
    ]

    printed = "".join(capfd.readouterr())
    assert codes == [1, 2, 2]
    assert printed.count("***") >= 3
    assert "NOT_THERE for 'token' of step 'needs'" in printed
    assert PASSWORD[:8] not in printed
    assert PASSWORD not in files_in(tmp_path / ".output")
