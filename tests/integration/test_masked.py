"""The secrets of steps are nowhere in what a run writes or sends, in any mode and in any form."""

import base64
import json
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from dotflow import Config, DotFlow, Secret, action
from dotflow.abc.history import History
from dotflow.core.events import Event
from dotflow.core.masks import forms_of
from dotflow.providers import (
    HistorySQLite,
    LogDefault,
    NotifyApprise,
    StorageFile,
)
from tests.integration.modes import MODES, group, start
from tests.loopback import says, serving
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
