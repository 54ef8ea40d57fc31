"""From the options of the command line to a workflow, and what is said of those that make none."""

import sys
from typing import Any

import click
import pytest

from dotflow import Config, Context, DotFlow, Task, action
from dotflow.cli.error_lines import error_line
from dotflow.cli.main import dotflow
from dotflow.cli.run.derived_id import MAX_LENGTH, derived_id
from dotflow.cli.run.load import RunRequest, build, load, parse_value
from dotflow.cli.storages import STORAGES, make_storage
from dotflow.core.failure import Failure
from dotflow.core.types import TypeStorage
from dotflow.errors import InvalidPath, InvalidStep
from dotflow.providers import LogDefault, StorageDefault, StorageFile, StorageSQLite

JOBS = """
from dotflow import Config, DotFlow, action
from dotflow.providers import StorageFile

@action
def extract(initial_context): return initial_context.storage

@action
def load(): ...

def tell(task): ...

def plain(): ...

def factory(name="nightly"):
    return DotFlow(name=name)

def named(): return DotFlow(workflow_id="mine")

def kept():
    workflow = DotFlow(Config(storage=StorageFile()))
    workflow.task.add(load)
    return workflow

def nothing(): ...

def needy(day): ...

def leaves(): raise SystemExit(5)

async def later(): ...

def broken(): raise RuntimeError("no database")

workflow = DotFlow(name="made before")
"""


@pytest.fixture(autouse=True)
def jobs(modules: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's module, and an import path that is as it was before afterwards."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    modules["jobs"] = JOBS


@pytest.fixture(autouse=True)
def notes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the log is given to note; no file is written."""
    noted: list[str] = []
    monkeypatch.setattr(LogDefault, "note", lambda _, message: noted.append(message))
    return noted


def command_of(name: str) -> click.Command:
    """A command of ours, by what is typed for it."""
    command = dotflow.get_command(click.Context(dotflow), name)
    assert command is not None
    return command


def request_of(**given: Any) -> RunRequest:
    """What the command line would be given, and nothing for the rest."""
    nothing: dict[str, Any] = dict.fromkeys(("workflow", "initial_context", "callback", "workflow_id", "storage"))
    options = nothing | {"step": (), "storage_options": {}, "resume": False} | given
    return RunRequest(**options)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("abc", "abc"),
        ("3", 3),
        ("1.5", 1.5),
        ('"3"', "3"),
        ('{"day": [1, null]}', {"day": [1, None]}),
        ("true", True),
        ("True", "True"),
        ("null", None),
        ("", ""),
        ("NaN", "NaN"),
        ("[1, Infinity]", "[1, Infinity]"),
        ("{'day': 3}", "{'day': 3}"),
        ("2026-11-01", "2026-11-01"),
        ("[" * 100_000, "[" * 100_000),
    ],
)
def test_an_initial_context_is_json_where_it_is_json(text: str, value: object) -> None:
    """And the text itself otherwise; Python's own additions to JSON are no JSON."""
    assert parse_value(text) == value
    assert type(parse_value(text)) is type(value)


class TestSteps:
    def test_they_run_in_the_order_in_which_they_were_given(self) -> None:
        """With the context, the callback and the id that were given."""
        workflow = build(
            request_of(
                step=("jobs.extract", "jobs:load"), initial_context="[1]", callback="jobs.tell", workflow_id="nightly"
            )
        )

        tasks: list[Task] = list(workflow.task)
        assert [task.name for task in tasks] == ["extract", "load"]
        assert [task.initial_context.storage for task in tasks] == [[1], [1]]
        assert [getattr(task.callback, "__name__", "") for task in tasks] == ["tell", "tell"]
        assert workflow.workflow_id == "nightly"

    def test_the_current_folder_is_importable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """An installed command does not have it on its path by itself."""
        monkeypatch.setattr(sys, "path", ["/somewhere"])

        build(request_of(step=("jobs.load",)))

        assert len(sys.path) == 2

    @pytest.mark.parametrize(
        ("path", "kind", "words"),
        [
            ("jobs.extrct", InvalidPath, "Did you mean 'jobs.extract'? Its actions are: extract, load."),
            ("jobs.nonsense", InvalidPath, "Its actions are: extract, load."),
            ("jbs.extract", InvalidPath, "there is no module 'jbs'"),
            ("jsn.loads", InvalidPath, "Did you mean 'json'?"),
            ("json.decodr.x", InvalidPath, "Did you mean 'json.decoder'?"),
            ("jobs.plain", InvalidStep, "@action above 'plain'"),
        ],
    )
    def test_a_path_that_leads_nowhere_says_what_was_meant(self, path: str, kind: type, words: str) -> None:
        """The nearest name where there is one, else what there is."""
        with pytest.raises(kind) as caught:
            build(request_of(step=(path,)))

        assert words in error_line(caught.value)
        assert "\n" not in error_line(caught.value)

    def test_a_callback_need_not_be_an_action(self) -> None:
        """So no actions are listed for one that is not there."""
        with pytest.raises(InvalidPath) as caught:
            build(request_of(step=("jobs.load",), callback="jobs.nonsense"))

        assert str(caught.value) == "Can't import 'jobs.nonsense': 'jobs' has no 'nonsense'."


class TestFactories:
    @pytest.mark.parametrize(("path", "name"), [("jobs:factory", "nightly"), ("jobs.workflow", "made before")])
    def test_a_function_that_returns_a_workflow_or_a_workflow_itself(self, path: str, name: str) -> None:
        """Its own arguments must have defaults."""
        assert build(request_of(workflow=path)).name == name

    @pytest.mark.parametrize(
        ("path", "words"),
        [
            ("jobs.nothing", "returned None (NoneType)"),
            ("jobs.needy", "without 'day'. Give each parameter a default"),
            ("jobs.load", "is a step. Use --step jobs.load"),
            ("jobs.__name__", "is 'jobs' (str)"),
            ("jobs.later", "is a coroutine function. Remove its async"),
        ],
    )
    def test_what_makes_no_workflow_is_refused(self, path: str, words: str) -> None:
        """It says what came instead."""
        with pytest.raises(click.UsageError) as caught:
            build(request_of(workflow=path))

        assert words in caught.value.format_message()

    @pytest.mark.parametrize("path", ["jobs.leaves", "jobs:leaves"])
    def test_a_factory_that_exits_is_a_mistake_too(self, path: str) -> None:
        """Its exit code would be taken for one of ours."""
        with pytest.raises(click.ClickException, match="raised SystemExit: 5"):
            build(request_of(workflow=path))

    def test_what_a_factory_raises_is_told_with_its_cause(self) -> None:
        """One line, and the traceback for --debug."""
        with pytest.raises(click.ClickException) as caught:
            build(request_of(workflow="jobs.broken"))

        assert error_line(caught.value) == (
            "dotflow: --workflow jobs.broken raised RuntimeError: no database (--debug shows where)"
        )
        assert isinstance(caught.value.__cause__, RuntimeError)

    @pytest.mark.parametrize("option", ["initial_context", "callback", "workflow_id"])
    def test_what_a_factory_decides_is_not_given_beside_it(self, option: str) -> None:
        """It would be ignored, and nobody would know."""
        with pytest.raises(click.UsageError, match=f"Can't use --{option.replace('_', '-')} with --workflow"):
            build(request_of(workflow="jobs.factory", **{option: "x"}))


@pytest.mark.parametrize("given", [{}, {"step": ("jobs.load",), "workflow": "jobs.factory"}])
def test_either_steps_or_a_factory(given: dict[str, Any]) -> None:
    """Neither and both are refused."""
    with pytest.raises(click.UsageError, match="run"):
        build(request_of(**given))


class TestStorages:
    def test_every_word_makes_its_storage(self) -> None:
        """Each is the provider of that name, with the options that were given."""
        made = {str(name): make_storage(name, dict.fromkeys(kind.options, "xyz")) for name, kind in STORAGES.items()}

        assert {name: type(storage).__name__ for name, storage in made.items()} == {
            str(name): kind.provider for name, kind in STORAGES.items()
        }

    def test_the_storage_takes_the_place_of_the_workflows_own(self) -> None:
        """In a workflow of steps, and in a factory's."""
        for given in ({"step": ("jobs.load",)}, {"workflow": "jobs.factory"}):
            workflow = build(request_of(storage="sqlite", storage_options={"path": "x.db"}, **given))
            assert isinstance(workflow.config.storage, StorageSQLite)
        assert isinstance(build(request_of(step=("jobs.load",))).config.storage, StorageDefault)

    @pytest.mark.parametrize(
        ("name", "given", "words"),
        [
            (None, {"path": "x"}, "--path needs a storage. Add --storage file or sqlite"),
            (TypeStorage.DEFAULT, {"path": "x"}, "Can't use --path with --storage default, which takes no options"),
            (TypeStorage.S3, {"path": "x"}, "Can't use --path with --storage s3, which takes --bucket, --prefix"),
            (TypeStorage.GCS, {"bucket": "b", "region": "x"}, "Can't use --region with --storage gcs"),
            (TypeStorage.S3, {"prefix": "x"}, r"--storage s3 needs --bucket, or \$DOTFLOW_BUCKET"),
            (TypeStorage.POSTGRES, {"path": "x"}, "Can't use --path with --storage postgres, which takes no options"),
            (None, {"bucket": "x"}, "--bucket needs a storage. Add --storage s3 or gcs"),
        ],
    )
    def test_options_of_another_storage_are_refused(
        self, name: str | None, given: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What would be ignored is a mistake."""
        monkeypatch.delenv("DOTFLOW_BUCKET", raising=False)
        with pytest.raises(click.UsageError, match=words):
            make_storage(name, given)

    @pytest.mark.parametrize(("given", "expected"), [({}, "theirs"), ({"bucket": "mine"}, "mine")])
    def test_the_bucket_may_come_from_the_environment(
        self, given: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The option goes before it, and storages without a bucket do not mind."""
        monkeypatch.setenv("DOTFLOW_BUCKET", "theirs")
        taken: list[str] = []
        for provider in ("StorageS3", "StorageGCS"):
            monkeypatch.setattr(f"dotflow.providers.{provider}", lambda bucket: taken.append(bucket), raising=False)

        for name in (TypeStorage.S3, TypeStorage.GCS):
            make_storage(name, given)

        assert taken == [expected, expected]
        assert isinstance(make_storage(TypeStorage.FILE, {}), StorageFile)


class TestOptions:
    @pytest.mark.parametrize("command", ["start", "schedule"])
    def test_each_short_option_is_its_long_one(self, command: str) -> None:
        """-s -w -i -c -m -o -p, as people type them."""
        options = {short: option for option in command_of(command).params for short in option.opts if len(short) == 2}

        assert {short: option.name for short, option in options.items()} == {
            "-s": "step",
            "-w": "workflow",
            "-i": "initial_context",
            "-c": "callback",
            "-m": "mode",
            "-o": "storage",
            "-p": "path",
        }

    def test_logs_is_log(self) -> None:
        """People type either; the help lists one."""
        assert command_of("logs") is command_of("log")
        assert "logs" not in dotflow.list_commands(click.Context(dotflow))


class TestIds:
    @pytest.mark.parametrize(
        ("steps", "workflow", "expected"),
        [
            (["my_module.my_task"], None, "my_module.my_task"),
            (["my_module:my_task"], None, "my_module.my_task"),
            (["jobs.extract", "jobs:load"], None, "jobs.extract+jobs.load"),
            (["jobs:Report.load"], None, "jobs.Report.load"),
            ([], "jobs:nightly", "jobs:nightly"),
            ([], "pkg.jobs.nightly", "pkg.jobs:nightly"),
            ([], "jobs:Flows.nightly", "jobs.Flows:nightly"),
            ([], "jobs.Flows.nightly", "jobs.Flows:nightly"),
        ],
    )
    def test_an_id_is_made_of_the_paths(self, steps: list[str], workflow: str | None, expected: str) -> None:
        """The same step has the same id, whether its path has a colon or a dot."""
        assert derived_id(steps, workflow) == expected

    def test_a_long_one_is_cut_and_stays_its_own(self) -> None:
        """Every storage takes it, and workflows that begin alike are told apart."""
        steps = [f"package.module.step_number_{number}" for number in range(100)]

        made = {derived_id(steps, None), derived_id(steps[:-1], None), derived_id(steps[::-1], None)}

        assert {len(each) for each in made} == {MAX_LENGTH}
        assert len(made) == 3
        assert derived_id(steps, None).startswith("package.module.step_number_0+package.module.step_number_1+")

    @pytest.mark.parametrize(
        ("given", "expected", "note"),
        [
            (
                {"step": ("jobs.extract", "jobs.load"), "storage": "file"},
                "jobs.extract+jobs.load",
                "Workflow id: jobs.extract+jobs.load (derived from --step; --workflow-id sets another one).",
            ),
            (
                {"workflow": "jobs:factory", "storage": "sqlite"},
                "jobs:factory",
                "Workflow id: jobs:factory (derived from --workflow; DotFlow(workflow_id=...) sets another one).",
            ),
            (
                {"workflow": "jobs.kept"},
                "jobs:kept",
                "Workflow id: jobs:kept (derived from --workflow; DotFlow(workflow_id=...) sets another one).",
            ),
        ],
    )
    def test_where_values_last_the_id_does_too(
        self, given: dict[str, Any], expected: str, note: str, notes: list[str]
    ) -> None:
        """Its tasks have it as well, and the log names it once."""
        workflow = build(request_of(**given))

        assert workflow.is_named
        assert workflow.workflow_id == expected
        assert {task.workflow_id for task in workflow.task} <= {expected}
        assert workflow.task.schema().workflow_id == expected
        assert notes == [note]

    @pytest.mark.parametrize(
        "given",
        [{"step": ("jobs.load",)}, {"step": ("jobs.load",), "storage": "default"}, {"workflow": "jobs:factory"}],
    )
    def test_without_a_storage_that_lasts_none_is_made(self, given: dict[str, Any], notes: list[str]) -> None:
        """Two such runs at once need not keep each other off."""
        assert not build(request_of(**given)).is_named
        assert notes == []

    @pytest.mark.parametrize(
        ("given", "expected"),
        [({"step": ("jobs.load",), "workflow_id": "mine"}, "mine"), ({"workflow": "jobs:named"}, "mine")],
    )
    def test_an_id_that_was_given_is_kept(self, given: dict[str, Any], expected: str, notes: list[str]) -> None:
        """By the option, or by the factory; nothing is said of it."""
        assert build(request_of(storage="file", **given)).workflow_id == expected
        assert notes == []

    def test_a_preview_makes_none(self, notes: list[str]) -> None:
        """It runs nothing, so it writes nothing either."""
        assert not load(request_of(step=("jobs.load",), storage="file")).is_named
        assert notes == []


class TestResume:
    def test_it_needs_a_storage_that_lasts(self) -> None:
        """Else it would run everything, and nobody would know why."""
        for given in ({"step": ("jobs.load",), "workflow_id": "x"}, {"workflow": "jobs.factory"}):
            with pytest.raises(click.UsageError, match="Add --storage file"):
                build(request_of(resume=True, **given))

    @pytest.mark.parametrize("given", [{"step": ("jobs.load",)}, {"workflow": "jobs.factory"}])
    def test_with_one_it_is_let_through(self, given: dict[str, Any]) -> None:
        """No id has to be given for it."""
        assert isinstance(build(request_of(resume=True, storage="file", **given)).config.storage, StorageFile)


def test_an_error_keeps_to_one_line() -> None:
    """Whatever is in it: lines, an escape for the terminal."""
    assert error_line(RuntimeError("a\nb\x1b[2J")) == "dotflow: RuntimeError: a b [2J (--debug shows where)"


def test_a_summary_tells_of_failures_and_leaves_many_successes_out() -> None:
    """Up to fifty tasks each have a line; of more, only those that did not complete."""
    from dotflow.cli.run.summary import summary_lines
    from dotflow.core.events import AttemptStarted, TaskCompleted, TaskFailed

    def step() -> None: ...

    step.__qualname__ = "step\nFAKE: Completed"
    step = action(step)
    tasks = [Task(number, step) for number in range(60)]
    now = Context().time
    for task in tasks:
        task._apply(AttemptStarted(task.task_id, 1, Context(), now, 1.0))
        task._apply(TaskCompleted(task.task_id, Context(), 1.5))
    trace = (
        'Traceback (most recent call last):\n  File "/jobs/a.py", line 3, in step\n    1 / 0\nZeroDivisionError: no\n'
    )
    tasks[7]._apply(AttemptStarted(7, 1, Context(), now, 1.0))
    tasks[7]._apply(TaskFailed(7, 1, Failure("ZeroDivisionError", "no", trace), now, 2.0))

    assert list(summary_lines("Failed", tasks, 3.0, "Try again.")) == [
        "task 7 step FAKE: Completed: Failed, 1.00 s",
        "    ZeroDivisionError: no",
        "    /jobs/a.py:3 in step: 1 / 0",
        "and 59 more tasks",
        "Failed: 59 of 60 tasks completed, 1 failed, in 3.00 s",
        "Try again.",
    ]
    assert list(summary_lines("Completed", [], 0.0, "")) == ["Completed: there are no tasks, in 0.00 s"]


def test_a_workflow_knows_whether_its_id_was_given() -> None:
    """A fresh UUID is known to nobody else."""
    assert DotFlow(workflow_id="x").is_named
    assert not DotFlow(Config()).is_named
