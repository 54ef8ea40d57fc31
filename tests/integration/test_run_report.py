"""`run.report()` and a run in a notebook: from its history, and without one from its tasks."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from dotflow import Config, DotFlow, Secret, action
from dotflow.abc.history import History
from dotflow.core.events import Event
from dotflow.core.types.attempt_state import TypeAttemptState
from dotflow.engine.run import Run
from dotflow.providers import HistoryPostgres, HistorySQLite, LogDefault, StorageFile
from dotflow.records.record import RunRecord
from dotflow.records.run_record import NO_ARCHIVE, NO_HISTORY
from tests.histories import nightly
from tests.unit.run_samples import Parsed


def data_of(path: Path) -> dict[str, Any]:
    """The document in a report."""
    (data,) = re.findall('<script type="application/json" id="data">(.*)</script>', path.read_text())
    read: dict[str, Any] = json.loads(data)
    return read


def outline(record: RunRecord) -> list[Any]:
    """What a history and the tasks both know."""

    def of(attempts: Any) -> list[Any]:
        return [
            (attempt.attempt, attempt.state, attempt.glimpse, [error[:3] for error in attempt.errors])
            for attempt in attempts
        ]

    return [
        (record.state, record.error, record.completed, record.failed, record.restored, record.skipped, record.mode),
        *(
            (task.name, task.group, task.lane, task.identity, list(task.needs), task.policy, task.count)
            for task in record.steps
        ),
        *(of(task.attempts) for task in record.steps),
        *({item: of(attempts) for item, attempts in task.items.items()} for task in record.steps),
    ]


@action
def is_large(numbers: list[int]) -> bool:
    return len(numbers) > 10


@action
def total(numbers: list[int]) -> int:
    return sum(numbers)


@pytest.mark.databases("sqlite", "postgres")
def test_the_tasks_have_the_facts_of_a_history(history: HistorySQLite | HistoryPostgres, tmp_path: Path) -> None:
    """All but the output, and the times of single attempts."""
    workflow = nightly(history, storage=StorageFile(tmp_path / "values"))
    workflow.task.add(is_large)
    workflow.task.add(total, when=is_large)

    runs = [workflow.start(keep_going=True), workflow.start(keep_going=True, resume=True)]

    for run in runs:
        assert outline(run._record("")) == outline(history.load(run.run_id))
    states = [task.state for task in runs[1]._record("").steps]
    restored, failed, skipped = TypeAttemptState.RESTORED, TypeAttemptState.FAILED, TypeAttemptState.SKIPPED
    assert states == [restored, failed, failed, restored, skipped]


@pytest.mark.parametrize("mode", ["sequential", "background", "parallel"])
def test_a_report_needs_no_history(mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It lacks the output, and says so."""
    monkeypatch.delenv("DOTFLOW_HISTORY", raising=False)
    run = nightly(None).start(mode, keep_going=True)
    run.wait()

    path = run.report(tmp_path / "run.html")

    document = data_of(path)
    assert (document["run"]["run_id"], document["run"]["state"], document["output"]) == (run.run_id, "Failed", None)
    assert [note["text"] for note in document["run"]["notes"]] == [NO_HISTORY]
    assert document["tasks"][2]["duration"] is not None
    assert [len(attempt["errors"]) for attempt in document["tasks"][2]["attempts"]] == [1, 1]


@pytest.mark.databases("sqlite", "postgres")
def test_a_report_with_a_history_has_the_output(history: HistorySQLite | HistoryPostgres, tmp_path: Path) -> None:
    """The commands name the file of the history."""
    workflow = DotFlow(Config(history=history, log=LogDefault(output="none")), workflow_id="prints")
    workflow.task.add(action(lambda: print("hello")))
    run = workflow.start()

    document = data_of(run.report(tmp_path / "run.html"))

    assert document["output"][0]["parts"][0]["text"] == "hello\n"
    assert document["run"]["notes"] == []
    assert data_of(history.report("last", tmp_path / "same.html"))["tasks"] == document["tasks"]


@pytest.mark.databases("sqlite", "postgres")
def test_a_history_that_can_not_be_read_is_no_obstacle(
    history: HistorySQLite | HistoryPostgres, tmp_path: Path
) -> None:
    """The report says why it has no output."""
    run = nightly(history).start()
    history.forget(run.run_id)

    document = data_of(run.report(tmp_path / "run.html"))

    assert (document["output"], [task["state"] for task in document["tasks"]]) == (None, ["Completed", "Failed", None])
    assert run.run_id[:8] in document["run"]["notes"][0]["text"]


class Forgetful(History):
    def record(self, run_id: str, event: Event) -> None: ...


def test_a_history_that_is_no_archive(tmp_path: Path) -> None:
    """The report says what is missing."""
    run = nightly(Forgetful()).start()  # type: ignore[arg-type]

    document = data_of(run.report(tmp_path / "run.html"))

    assert document["run"]["notes"][0]["text"] == NO_ARCHIVE


def test_secrets_are_in_no_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in values nor in errors."""
    monkeypatch.delenv("DOTFLOW_HISTORY", raising=False)
    monkeypatch.setenv("REPORT_KEY", "hunter2-hunter2")

    @action
    def leak(key: str = Secret("REPORT_KEY")) -> str:
        return f"the key is {key}"

    @action
    def fail(key: str = Secret("REPORT_KEY")) -> None:
        raise ValueError(key)

    workflow = DotFlow(Config(log=LogDefault(output="none")))
    workflow.task.add([leak, fail])
    run = workflow.start()

    text = run.report(tmp_path / "run.html").read_text()

    assert "hunter2" not in text + run._repr_html_()
    assert "the key is ***" in text


def notebook(run: Run) -> Parsed:
    return Parsed(run._repr_html_())


def test_a_notebook_shows_a_run() -> None:
    """Its state, a bar for each task, and what failed."""
    shown = notebook(nightly(None).start(keep_going=True))

    assert shown.texts["b"] == ["✗ Failed", "double#1 2", "load"]
    assert [text for text in shown.texts["td"] if "." not in text] == [
        *("numbers", "✓ Completed", "double ×3", "✗ Failed", "load", "✗ Failed")
    ]
    assert sum("background" in (attributes.get("style") or "") for _, attributes in shown.tags) == 3
    assert not {"script", "style", "link", "img"} & {tag for tag, _ in shown.tags}


def test_a_notebook_shows_a_run_that_goes_on() -> None:
    """And one that has not begun."""
    workflow = nightly(None)
    seen: list[str] = []
    workflow.task.add(action(lambda: seen.append(workflow_run()._repr_html_())))

    def workflow_run() -> Run:
        assert workflow._last is not None
        return workflow._last

    workflow.start(keep_going=True)

    assert "▸ Running" in seen[0]
