"""From the options of the command line to a workflow, and the errors on the way."""

import sys
from typing import Any

import click
import pytest

from dotflow import Config, Context, DotFlow, Task, action
from dotflow.cli import load as loading
from dotflow.cli.formatting import error_line
from dotflow.cli.load import MAX_LENGTH, derived_id, parse_value
from dotflow.cli.main import dotflow
from dotflow.cli.storages import STORAGES, make_storage
from dotflow.core.failure import Failure
from dotflow.core.task import RunTask
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

def notify(task): ...

def plain(): ...

def factory(name="nightly"):
    return DotFlow(name=name)

def named(): return DotFlow(workflow_id="mine")

def kept():
    workflow = DotFlow(Config(storage=StorageFile()))
    workflow.task.add(load)
    return workflow

def nothing(): ...

def positional(day, /): ...

def leaves(): raise SystemExit(5)

async def later(): ...

def broken(): raise RuntimeError("no database")

workflow = DotFlow(name="made before")
"""


@pytest.fixture(autouse=True)
def jobs(modules: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's module; the import path is restored."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    modules["jobs"] = JOBS


@pytest.fixture(autouse=True)
def notes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The notes that the log receives; no file is written."""
    noted: list[str] = []
    monkeypatch.setattr(LogDefault, "note", lambda _, message: noted.append(message))
    return noted


def build(request: dict[str, Any]) -> DotFlow:
    """Returns the workflow to run."""
    return loading.build(request).workflow


def load(request: dict[str, Any]) -> DotFlow:
    """Returns the workflow of a preview."""
    return loading.load(request).workflow


def command_of(name: str) -> click.Command:
    """Returns a command by its name."""
    command = dotflow.get_command(click.Context(dotflow), name)
    assert command is not None
    return command


def request_of(**given: Any) -> dict[str, Any]:
    """Returns the options, with the defaults of the command line."""
    nothing: dict[str, Any] = dict.fromkeys(("workflow", "initial_context", "callback", "workflow_id", "storage"))
    return nothing | {"step": (), "param": (), "resume": False} | given


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
def test_an_initial_context_is_json_if_possible(text: str, value: object) -> None:
    """Otherwise it is the text itself; Python's additions to JSON are not JSON."""
    assert parse_value(text) == value
    assert type(parse_value(text)) is type(value)


class TestSteps:
    def test_they_run_in_the_order_of_the_options(self) -> None:
        """They have the context, the callback and the id of the options."""
        workflow = build(
            request_of(
                step=("jobs.extract", "jobs:load"), initial_context="[1]", callback="jobs.notify", workflow_id="nightly"
            )
        )

        tasks: list[Task] = list(workflow.task)
        assert [task.name for task in tasks] == ["extract", "load"]
        assert [task.initial_context.storage for task in tasks] == [[1], [1]]
        assert [getattr(task.callback, "__name__", "") for task in tasks] == ["notify", "notify"]
        assert workflow.workflow_id == "nightly"

    def test_the_current_folder_is_importable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is not on the import path of an installed command by default."""
        monkeypatch.setattr(sys, "path", ["/somewhere"])

        build(request_of(step=("jobs.load",)))

        assert len(sys.path) == 2

    @pytest.mark.parametrize(
        ("path", "kind", "message"),
        [
            ("jobs.extrct", InvalidPath, "Did you mean 'jobs.extract'? Its actions are: extract, load."),
            ("jobs.nonsense", InvalidPath, "Its actions are: extract, load."),
            ("jbs.extract", InvalidPath, "there is no module 'jbs'"),
            ("jsn.loads", InvalidPath, "Did you mean 'json'?"),
            ("json.decodr.x", InvalidPath, "Did you mean 'json.decoder'?"),
            ("jobs.plain", InvalidStep, "@action above 'plain'"),
        ],
    )
    def test_a_path_that_leads_nowhere_has_a_suggestion(self, path: str, kind: type, message: str) -> None:
        """The nearest name, or else a list of names."""
        with pytest.raises(kind) as caught:
            build(request_of(step=(path,)))

        assert message in error_line(caught.value)
        assert "\n" not in error_line(caught.value)

    def test_a_callback_need_not_be_an_action(self) -> None:
        """So the error for a missing one lists no actions."""
        with pytest.raises(InvalidPath) as caught:
            build(request_of(step=("jobs.load",), callback="jobs.nonsense"))

        assert str(caught.value) == "Can't import 'jobs.nonsense': 'jobs' has no 'nonsense'."


class TestFactories:
    @pytest.mark.parametrize(("path", "name"), [("jobs:factory", "nightly"), ("jobs.workflow", "made before")])
    def test_a_function_that_returns_a_workflow_or_a_workflow_itself(self, path: str, name: str) -> None:
        """Its own arguments must have defaults."""
        assert build(request_of(workflow=path)).name == name

    @pytest.mark.parametrize(
        ("path", "message"),
        [
            ("jobs.nothing", "returned None (NoneType)"),
            ("jobs.positional", "missing a required argument: 'day'. Give each parameter a default"),
            ("jobs.load", "is a step. Use --step jobs.load"),
            ("jobs.__name__", "is 'jobs' (str)"),
            ("jobs.later", "is a coroutine function. Remove its async"),
        ],
    )
    def test_a_path_without_a_workflow_is_refused(self, path: str, message: str) -> None:
        """The error shows the value."""
        with pytest.raises(click.UsageError) as caught:
            build(request_of(workflow=path))

        assert message in caught.value.format_message()

    @pytest.mark.parametrize("path", ["jobs.leaves", "jobs:leaves"])
    def test_a_factory_that_exits_is_an_error(self, path: str) -> None:
        """Its exit code could be confused with one of ours."""
        with pytest.raises(click.ClickException, match="raised SystemExit: 5"):
            build(request_of(workflow=path))

    def test_an_error_of_a_factory_is_the_cause_of_ours(self) -> None:
        """The message is one line; --debug shows the traceback."""
        with pytest.raises(click.ClickException) as caught:
            build(request_of(workflow="jobs.broken"))

        assert error_line(caught.value) == (
            "dotflow: --workflow jobs.broken raised RuntimeError: no database (--debug shows where)"
        )
        assert isinstance(caught.value.__cause__, RuntimeError)

    @pytest.mark.parametrize("option", ["initial_context", "callback", "workflow_id"])
    def test_options_that_a_factory_sets_are_refused(self, option: str) -> None:
        """They would be ignored."""
        with pytest.raises(click.UsageError, match=f"Can't use --{option.replace('_', '-')} with --workflow"):
            build(request_of(workflow="jobs.factory", **{option: "x"}))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "Nothing to run"),
        ({"step": ("jobs.load",), "workflow": "jobs.factory"}, "Can't use --step with --workflow"),
    ],
)
def test_either_steps_or_a_factory(given: dict[str, Any], message: str) -> None:
    """Neither and both are refused."""
    with pytest.raises(click.UsageError, match=message):
        build(request_of(**given))


class TestStorages:
    def test_every_name_has_its_storage(self) -> None:
        """Each name leads to its provider, with the options as arguments."""
        values = {"pickle": True}
        made = {
            str(name): make_storage(name, {option: values.get(option, "xyz") for option in kind.options})
            for name, kind in STORAGES.items()
        }

        assert {name: type(storage).__name__ for name, storage in made.items()} == {
            str(name): kind.provider for name, kind in STORAGES.items()
        }

    def test_the_storage_replaces_the_workflows_own(self) -> None:
        """In a workflow of steps, and in that of a factory."""
        for given in ({"step": ("jobs.load",)}, {"workflow": "jobs.factory"}):
            workflow = build(request_of(storage="sqlite", path="x.db", **given))
            assert isinstance(workflow.config.storage, StorageSQLite)
        assert isinstance(build(request_of(step=("jobs.load",))).config.storage, StorageDefault)

    @pytest.mark.parametrize(
        ("name", "given", "message"),
        [
            (None, {"path": "x"}, "--path needs a storage. Add --storage file or sqlite"),
            (TypeStorage.DEFAULT, {"path": "x"}, "Can't use --path with --storage default, which takes no options"),
            (None, {"pickle": True}, "--pickle needs a storage. Add --storage file or sqlite or postgres"),
            (TypeStorage.S3, {"pickle": True}, "Can't use --pickle with --storage s3, which takes --bucket, --prefix"),
            (TypeStorage.S3, {"path": "x"}, "Can't use --path with --storage s3, which takes --bucket, --prefix"),
            (TypeStorage.GCS, {"bucket": "b", "region": "x"}, "Can't use --region with --storage gcs"),
            (TypeStorage.S3, {"prefix": "x"}, r"--storage s3 needs --bucket, or \$DOTFLOW_BUCKET"),
            (TypeStorage.POSTGRES, {"path": "x"}, "Can't use --path with --storage postgres, which takes --pickle"),
            (None, {"bucket": "x"}, "--bucket needs a storage. Add --storage s3 or gcs"),
        ],
    )
    def test_options_of_another_storage_are_refused(
        self, name: str | None, given: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """They would be ignored."""
        monkeypatch.delenv("DOTFLOW_BUCKET", raising=False)
        with pytest.raises(click.UsageError, match=message):
            make_storage(name, given)

    @pytest.mark.parametrize(("given", "expected"), [({}, "theirs"), ({"bucket": "mine"}, "mine")])
    def test_the_bucket_may_come_from_the_environment(
        self, given: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The option takes precedence, and storages without a bucket ignore it."""
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
        """-s -w -i -c -m -o -p."""
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
        """Both names work; the help lists one."""
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
    def test_an_id_is_derived_from_the_paths(self, steps: list[str], workflow: str | None, expected: str) -> None:
        """The same step has the same id, whether its path has a colon or a dot."""
        assert derived_id(steps, workflow) == expected

    def test_a_long_one_is_cut_and_unique(self) -> None:
        """Every storage accepts it, and paths with the same beginning have different ids."""
        steps = [f"package.module.step_number_{number}" for number in range(100)]

        made = {derived_id(steps, None), derived_id(steps[:-1], None), derived_id(steps[::-1], None)}

        assert {len(text) for text in made} == {MAX_LENGTH}
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
    def test_with_a_lasting_storage_the_id_lasts(
        self, given: dict[str, Any], expected: str, note: str, notes: list[str]
    ) -> None:
        """Its tasks have it, and the log names it once."""
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
    def test_without_a_lasting_storage_there_is_none(self, given: dict[str, Any], notes: list[str]) -> None:
        """Two such runs can go on at the same time."""
        assert not build(request_of(**given)).is_named
        assert notes == []

    @pytest.mark.parametrize(
        ("given", "expected"),
        [({"step": ("jobs.load",), "workflow_id": "mine"}, "mine"), ({"workflow": "jobs:named"}, "mine")],
    )
    def test_an_explicit_id_is_kept(self, given: dict[str, Any], expected: str, notes: list[str]) -> None:
        """From the option or the factory; the log has no note."""
        assert build(request_of(storage="file", **given)).workflow_id == expected
        assert notes == []

    def test_a_preview_has_none(self, notes: list[str]) -> None:
        """It runs nothing and writes nothing."""
        assert not load(request_of(step=("jobs.load",), storage="file")).is_named
        assert notes == []


class TestResume:
    def test_it_needs_a_lasting_storage(self) -> None:
        """Otherwise it would run everything again."""
        for given in ({"step": ("jobs.load",), "workflow_id": "x"}, {"workflow": "jobs.factory"}):
            with pytest.raises(click.UsageError, match="Add --storage file"):
                build(request_of(resume=True, **given))

    @pytest.mark.parametrize("given", [{"step": ("jobs.load",)}, {"workflow": "jobs.factory"}])
    def test_with_one_it_is_accepted(self, given: dict[str, Any]) -> None:
        """It needs no --workflow-id."""
        assert isinstance(build(request_of(resume=True, storage="file", **given)).config.storage, StorageFile)


def test_an_error_is_one_line() -> None:
    """Even if it has line breaks or escape sequences."""
    assert error_line(RuntimeError("a\nb\x1b[2J")) == "dotflow: RuntimeError: a b [2J (--debug shows where)"


def test_a_summary_lists_failures_and_omits_many_successes() -> None:
    """Up to fifty tasks have a line each; of more, only those that did not complete."""
    from dotflow.cli.summary import summary_lines
    from dotflow.core.events import AttemptStarted, TaskCompleted, TaskFailed

    def step() -> None: ...

    step.__qualname__ = "step\nFAKE: Completed"
    step = action(step)
    tasks = [RunTask(number, step) for number in range(60)]
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


def test_a_workflow_is_named_by_an_explicit_id() -> None:
    """A generated one does not count."""
    assert DotFlow(workflow_id="x").is_named
    assert not DotFlow(Config()).is_named
