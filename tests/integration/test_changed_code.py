"""Resumes after the code of a step has changed, and `rerun`."""

import re
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
        "Use resume='changed' or --resume-changed to run them again, with what needs them."
    ]


def test_changed_steps_run_again_with_their_dependents(project: Project) -> None:
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


def test_a_script_and_its_module_have_the_same_code(tmp_path: Path) -> None:
    """With a fallback, too: its name shows that it did not make the value."""

    def load() -> int:
        return 1

    def build(module: str) -> DotFlow:
        load.__module__ = module
        workflow = DotFlow(Config(storage=StorageFile(path=tmp_path)), workflow_id="script")
        workflow.task.add(action(load), fallback=action(lambda: 2))
        return workflow

    build("__main__").start()

    assert build("jobs").plan(resume="changed").tasks[0].decision == "restore"


def test_named_steps_run_again_with_their_dependents(project: Project) -> None:
    """With rerun: the others are restored."""
    project.run()

    assert project.run(rerun="table") == ["table", "total", "last", "broken", "other"]
    assert project.run(rerun=["fetch"], resume=True) == [1, 2, 3, "total", "last"]
    assert project.run(rerun="last") == ["last"]
    assert project.run(resume=True) == []


@pytest.mark.parametrize("how", ["map", "items", "rounds", "unsaved"])
def test_a_rerun_is_kept_where_the_list_fails(how: str, tmp_path: Path) -> None:
    """What was to run again runs again in the next resume, though its items were not known when the run failed."""
    ran: list[str] = []
    red: set[str] = set()

    def note(name: str, value: Any) -> Any:
        ran.append(name)
        if name in red:
            raise ValueError(name)
        return value

    names = action(lambda: note("names", ["a", "b"]))
    work = action(lambda name: note(f"work {name}", name))

    def build() -> DotFlow:
        workflow = DotFlow(
            Config(storage=StorageFile(path=tmp_path), log=LogDefault(output="none")), workflow_id="nightly"
        )
        inner = DotFlow(params={"name": ...} if how == "items" else {"round": 0})
        match how:
            case "map":
                workflow.task.add(names, name="names").add(work, name="work", each={"name": "names"})
            case "items":
                inner.task.add(work, name="work")
                workflow.task.add(names, name="names").add(inner, name="in", each={"name": "names"})
            case "rounds":
                inner.task.add(names, name="names").add(work, name="work", each={"name": "names"})
                workflow.task.add(inner, name="in", repeat=1)
            case _:
                workflow.task.add(action(checkpoint=False)(lambda: note("pool", 1)), name="pool")
                workflow.task.add(names, name="names")
                workflow.task.add(
                    action(lambda name, pool: note(f"work {name}", name)), name="work", each={"name": "names"}
                )
        return workflow

    first, second = {
        "map": ("names", "work"),
        "items": ("names", "in.work"),
        "rounds": ("in.names", "in.work"),
        "unsaved": ("names", "pool"),
    }[how]
    build().start()
    red.add("names")
    build().start(rerun=[first, second])
    red.clear()
    ran.clear()
    run = build().start(resume=True)

    assert str(run.status) == "Completed"
    assert [name for name in ran if name != "pool"] == ["names", "work a", "work b"]


def test_changed_items_run_again_where_their_list_fails(project: Project) -> None:
    """With resume="changed" too: the next resume without it does not go back to values of earlier code."""
    project.run()
    project.edit("changed_helpers", "* 10", "* 100")
    project.edit("changed_steps", "return [1, 2, 3]", "raise OSError")
    project.build().start(resume="changed")
    project.edit("changed_steps", "raise OSError", "return [1, 2, 3]")

    assert [call for call in project.run(resume=True) if isinstance(call, int)] == [1, 2, 3]


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
        "the values, or the code can't be read. They are restored. Use rerun=[...] or --rerun to run them "
        "again."
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


def unsaved_value(offset: int, kind: str) -> Any:
    """Steps of which the second takes a value of the first that has no checkpoint."""

    @action(checkpoint=False)
    def connect() -> list[int]:
        return [offset, offset]

    @action(checkpoint=False)
    def breaks() -> list[int]:
        raise ConnectionError

    @action(checkpoint=False)
    def through(connect: list[int]) -> list[int]:
        return connect

    @action(checkpoint=False)
    def times(number: int) -> int:
        return number * offset

    @action
    def use(connect: list[int]) -> int:
        return sum(connect)

    @action
    def previous(previous_context: Any) -> int:
        return int(sum(previous_context.storage))

    @action
    class Report:
        @action
        def load(self, previous_context: Any) -> int:
            return int(sum(previous_context.storage))

    def add(workflow: DotFlow) -> None:
        task = workflow.task
        if kind == "value":
            task.add(connect).add(use)
        elif kind == "through another":
            task.add(connect).add(through).add(use, needs={"connect": through})
        elif kind == "fallback":
            task.add(breaks, fallback=connect, name="connect").add(use)
        elif kind == "map":
            task.add(times, each=[1, 2], name="connect").add(use)
        else:
            task.add(times, each=[1, 2]).add(previous if kind == "previous" else Report)

    return add


@pytest.mark.parametrize("kind", ["value", "through another", "fallback", "map", "previous", "class"])
def test_the_code_of_values_without_checkpoints_counts(kind: str, tmp_path: Path) -> None:
    """What was made from such a value runs again, since nothing else shows how that was made."""
    lines: list[str] = []

    def run(offset: int, resume: Any) -> Any:
        log = LogDefault(output="none")
        log.report = lines.append  # type: ignore[method-assign]
        lines.clear()
        workflow = DotFlow(Config(storage=StorageFile(path=tmp_path), log=log), workflow_id="u")
        unsaved_value(offset, kind)(workflow)
        plan = workflow.plan(resume=resume)
        run = workflow.start(resume=resume)
        assert (plan.tasks[-1].decision == "restore") is (run.tasks[-1].restored_from == "checkpoint")
        value = run.tasks[-1].current_context.storage
        return value[0].storage if isinstance(value, list) else value

    first, other = run(1, False), run(2, False)
    assert run(2, "changed") == other
    assert lines == []
    assert run(1, True) == other
    assert len(lines) == 1
    assert re.search(r"The code of '\w+' \(or of '\w+'\) has changed since the values were made", lines[0])
    assert run(1, "changed") == first
    assert "its code has changed, or that of" in lines[0]


def test_items_of_an_unsaved_list_are_compared_by_themselves(tmp_path: Path) -> None:
    """Other code makes another list. Items that it has again are restored, but for those that are known by index."""
    ran = []

    @action
    def double(item: Any) -> int:
        ran.append(item)
        return 2

    def run(count: int, *more: Any) -> list[Any]:
        @action(checkpoint=False)
        def entries() -> list[Any]:
            return [*range(count), *more]

        ran.clear()
        workflow = DotFlow(Config(storage=StorageDefault(), log=LogDefault(output="none")), workflow_id="l")
        workflow.config.storage = storage
        workflow.task.add(entries).add(double, each=entries)
        workflow.start(resume="changed")
        return list(ran)

    storage = StorageDefault()
    lock = object()  # no codec keeps it
    assert run(2, lock) == [0, 1, lock]
    assert run(2, lock) == []
    assert run(3, lock) == [2, lock]


@pytest.mark.parametrize("inside", ["step", "map", "workflow"])
def test_items_of_nested_lists_are_compared_by_themselves(inside: str) -> None:
    """Where the outer list is unsaved: those of entries that it has again are restored, but those known by index."""
    ran = list[Any]()
    storage = StorageDefault()

    @action
    def double(item: Any, word: str = "") -> int:
        ran.append(item)
        return 2

    def run(count: int, *more: Any) -> list[Any]:
        @action(checkpoint=False)
        def entries() -> list[Any]:
            return [*range(count), *more]

        ran.clear()
        page, part = DotFlow(params={"item": ...}), DotFlow(params={"item": ..., "word": ...})
        part.task.add(double)
        if inside == "workflow":
            page.task.add(part, name="part", each={"word": ["a"]})
        else:
            page.task.add(double, each={"word": ["a"]} if inside == "map" else None)
        workflow = DotFlow(Config(storage=storage, log=LogDefault(output="none")), workflow_id="l")
        workflow.task.add(entries).add(page, name="page", each={"item": entries})
        workflow.start(resume="changed")
        return list(ran)

    lock = object()  # no codec keeps it
    assert run(2, lock) == [0, 1, lock]
    assert run(2, lock) == []
    assert run(3, lock) == [2, lock]


def test_a_resume_names_changed_maps_once(tmp_path: Path) -> None:
    """Those of which some items run, and those whose items are known only in the run."""
    lines: list[str] = []
    bad = {2}

    def run(offset: int, **options: Any) -> list[str]:
        @action
        def entries() -> list[int]:
            return [1, 2]

        @action
        def one(item: int) -> int:
            if item in bad:
                raise ConnectionError
            return item + offset

        log = LogDefault(output="none")
        log.report = lines.append  # type: ignore[method-assign]
        lines.clear()
        workflow = DotFlow(Config(storage=StorageFile(path=tmp_path), log=log), workflow_id="m")
        workflow.task.add(entries).add(one, each=entries, keep_going=True)
        workflow.start(resume=True, **options)
        return [line for line in lines if "has changed since" in line]

    run(1)
    bad.clear()
    assert len(run(2)) == 1
    assert len(run(3, rerun="entries")) == 1
