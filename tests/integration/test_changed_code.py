"""Resumes after the code of a step has changed, and `rerun`."""

import sys
from pathlib import Path
from typing import Any

import pytest

from dotflow import Config, DotFlow, action
from dotflow.errors import InvalidArgument, UnknownTask
from dotflow.providers import LogDefault, StorageDefault, StorageFile

STEPS = """\
from dotflow import action
import changed_helpers

@action
def urls():
    ran.append("urls")
    return [1, 2, 3]

@action
def table():
    ran.append("table")
    return 10

@action
def fetch(url):
    ran.append(url)
    return changed_helpers.scale(url)

@action
def total(fetch, table):
    ran.append("total")
    return sum(fetch) + table

@action
def last(previous_context):
    ran.append("last")
    return previous_context.storage

@action
def broken(table):
    ran.append("broken")
    raise ConnectionError

@action
def other(table):
    ran.append("other")
    return table

ran = []
"""

HELPERS = """\
def scale(value):
    return value * 10
"""


class Project:
    """Two modules that can be edited, and a workflow of their steps in a storage."""

    def __init__(self, folder: Path, storage: Any) -> None:
        self.folder = folder
        self.storage = storage
        self.lines: list[str] = []
        self.files = {"changed_steps": STEPS, "changed_helpers": HELPERS}

    def edit(self, module: str, old: str, new: str) -> None:
        assert old in self.files[module]
        self.files[module] = self.files[module].replace(old, new)

    def build(self) -> DotFlow:
        for name, text in self.files.items():
            (self.folder / f"{name}.py").write_text(text)
            sys.modules.pop(name, None)
        import changed_steps as steps  # type: ignore[import-not-found]

        log = LogDefault(output="none")
        log.report = self.lines.append  # type: ignore[method-assign]
        workflow = DotFlow(Config(storage=self.storage, log=log), workflow_id="nightly")
        workflow.task.add(steps.urls).add(steps.table).add(steps.fetch, each=steps.urls)
        workflow.task.add(steps.total).add(steps.last).add(steps.broken, fallback=steps.other, keep_going=True)
        self.ran: list[Any] = steps.ran
        return workflow

    def run(self, **arguments: Any) -> list[Any]:
        """Returns what ran. The plan before it must agree."""
        self.lines.clear()
        workflow = self.build()
        plan = workflow.plan(**arguments)
        workflow.start(**arguments)
        restored = [task.restored_from is not None for task in workflow.result_task()]
        assert [task.decision == "restore" for task in plan.tasks] == restored
        return self.ran


@pytest.fixture(params=["memory", "file"])
def project(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield Project(tmp_path, StorageDefault() if request.param == "memory" else StorageFile(path=tmp_path / "out"))
    for name in ("changed_steps", "changed_helpers"):
        sys.modules.pop(name, None)


ALL = ["urls", "table", 1, 2, 3, "total", "last", "broken", "other"]


def test_a_resume_restores_changed_steps_and_says_so(project: Project) -> None:
    """With resume=True all is restored; one line of the log names the steps whose code has changed."""
    assert project.run() == ALL
    project.edit("changed_helpers", "* 10", "* 100")
    project.edit("changed_steps", "return 10", "return 20")

    assert project.run(resume=True) == []
    assert [line for line in project.lines if "has changed" in line] == [
        "The code of 'table', 'fetch' has changed since the values were made, which are restored all the same. "
        "resume='changed' runs changed steps again, and what needs them."
    ]


def test_changed_steps_run_again_with_what_needs_them(project: Project) -> None:
    """With resume="changed": the helper of a map, then one step, then nothing."""
    project.run()
    project.edit("changed_helpers", "* 10", "* 100")
    assert project.run(resume="changed") == [1, 2, 3, "total", "last"]
    project.edit("changed_steps", "return 10", "return 20")
    assert project.run(resume="changed") == ["table", "total", "last", "broken", "other"]
    project.edit("changed_steps", "return 20", "# a comment\n    return 20")
    assert project.run(resume="changed") == []
    project.edit("changed_steps", "return previous_context.storage", "return previous_context.storage + 1")
    assert project.run(resume="changed") == ["last"]
    assert project.lines == ["Task 4 last runs again: its code has changed."]


def test_the_fallback_that_made_a_value_is_compared(project: Project) -> None:
    """And the step that failed: it may not fail any more."""
    project.run()
    project.edit("changed_steps", "raise ConnectionError", "raise ValueError")
    assert project.run(resume="changed") == ["broken", "other"]
    project.edit("changed_steps", "return table\n", "return table + 1\n")
    assert project.run(resume="changed") == ["broken", "other"]


def test_named_steps_run_again_with_what_needs_them(project: Project) -> None:
    """With rerun: the others are restored."""
    project.run()

    assert project.run(rerun="table") == ["table", "total", "last", "broken", "other"]
    assert project.run(rerun=["fetch"], resume=True) == [1, 2, 3, "total", "last"]
    assert project.run(rerun="last") == ["last"]
    assert project.run(resume=True) == []


def test_a_rerun_of_a_chain(tmp_path: Path) -> None:
    """Of plain steps, too."""
    ran = []

    @action
    def one() -> int:
        ran.append("one")
        return 1

    @action
    def two(previous_context: Any) -> Any:
        ran.append("two")
        return previous_context.storage

    @action
    def three() -> None:
        ran.append("three")

    workflow = DotFlow(Config(storage=StorageFile(path=tmp_path)), workflow_id="chain")
    workflow.task.add(one).add(two).add(three)
    workflow.start()
    ran.clear()
    plan = workflow.plan(rerun=one)
    workflow.start(rerun=one)

    assert ran == ["one", "two"]
    assert [str(task.decision) for task in plan.tasks] == ["run", "run", "restore"]
    assert plan.tasks[0].reason == "rerun names it"


def test_a_rerun_of_no_task_is_refused(project: Project) -> None:
    """Before anything is voided."""
    project.run()

    with pytest.raises(UnknownTask, match="Did you mean 'total'"):
        project.build().start(rerun="totl")
    with pytest.raises(InvalidArgument, match="changed"):
        project.build().start(resume="edited")  # type: ignore[arg-type]
    assert project.run(resume=True) == []


@pytest.mark.parametrize("resume", [True, "changed"])
def test_code_of_an_earlier_dotflow_or_another_python_is_unknown(project: Project, resume: Any) -> None:
    """Such values are restored, and the log says so."""
    project.run()
    storage = project.storage
    for key, code in (("nightly/0", ""), ("nightly/1", "3.10:00ff")):
        context = storage.get(key)
        context.inputs = context.inputs._replace(code=code)
        storage.post(key, context)

    assert project.run(resume=resume) == []
    assert [line for line in project.lines if "unknown" in line] == [
        "Whether the code of 'urls', 'table' has changed is unknown, since another Python or an earlier dotflow made "
        "the values, or the code can't be read. They are restored. rerun=[...] runs steps again."
    ]


def test_a_version_stands_for_the_code(tmp_path: Path) -> None:
    """Then only a new version is a change."""

    def build(version: str, value: int) -> DotFlow:
        @action(version=version)
        def step() -> int:
            return value

        workflow = DotFlow(Config(storage=StorageFile(path=tmp_path)), workflow_id="v")
        workflow.task.add(step)
        return workflow

    assert build("1", 1).start().tasks[0].current_context.storage == 1
    assert build("1", 2).start(resume="changed").tasks[0].current_context.storage == 1
    assert build("2", 2).start(resume="changed").tasks[0].current_context.storage == 2
