"""Unknown arguments: the words of other libraries have a hint."""

import inspect
import sys
from typing import Any

import click
import pytest

from dotflow import Config, DotFlow, action
from dotflow.cli.main import dotflow, main
from dotflow.core import hints
from dotflow.core.hints import refuse_unknown
from dotflow.errors import UnknownArgument
from dotflow.graph.builder import ACCEPTED, TaskBuilder
from dotflow.providers import SchedulerCron


@action
def step() -> int:
    return 1


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("depends_on", "needs=[task]"),
        ("wait_for", "after=[task]"),
        ("upstream", "needs={'parameter': task}"),
        ("requires", "needs=[task]"),
        ("inputs", "needs={'parameter': task}"),
        ("for_each", "each=task"),
        ("foreach", "each=task"),
        ("map", "each=task"),
        ("over", "each=task"),
        ("expand", "each=task"),
        ("product", "cross={'city': cities, 'day': [1, 2]}"),
        ("loop", "repeat=8, until=step"),
        ("max_iterations", "repeat=8, until=step"),
        ("concurrency", "max_parallel=10"),
        ("limit", "Give it to the decorator"),
        ("condition", "when=task"),
        ("if_", "unless=task"),
        ("on_error", "fallback=step"),
        ("on_failure", "fallback=step"),
        ("finally_", "always=True"),
        ("cleanup", "always=True"),
        ("id", "name='...'"),
        ("retries", "@action(retry=3"),
        ("retry", "@action(retry=3"),
        ("timeout", "@action(retry=3, timeout=30)"),
        ("args", "initial_context=..."),
        ("param", "DotFlow(params="),
        ("kwargs", "initial_context=..."),
        ("data", "params={'depth': 3}"),
        ("multiple_outputs", "outputs=['train', 'test']"),
        ("context", "initial_context=..."),
        ("group", "group_name='...'"),
        ("resume", "start()"),
        ("max_workers", "ExecutorProcess(max_workers=4)"),
        ("rate", "@action(limit="),
        ("rate_limit", "max_parallel=10"),
        ("tz", "SchedulerCron('30 2 * * *', timezone='Europe/Berlin')"),
        ("catchup", "catch_up='all'"),
        ("calback", "Did you mean 'callback'?"),
        ("nonsense", "no argument 'nonsense'. It takes step"),
    ],
)
def test_add_has_hints(name: str, hint: str) -> None:
    """An unknown argument of add is a TypeError with the accepted names, and nothing is added."""
    builder = TaskBuilder("w")

    with pytest.raises(UnknownArgument) as caught:
        builder.add(step, **{name: 1})  # type: ignore[arg-type]

    assert isinstance(caught.value, TypeError)
    assert f"add has no argument '{name}'" in str(caught.value)
    assert hint in str(caught.value)
    assert "step, callback, initial_context, group_name, name, needs, after, each," in str(caught.value)
    assert len(builder) == 0


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("retries", "Write retry=3: the total number of attempts."),
        ("max_retries", "retry=3"),
        ("attempts", "retry=3"),
        ("delay", "retry_delay=5"),
        ("name", "workflow.task.add"),
        ("max_workers", "Config(executor=ExecutorProcess(max_workers=4))"),
        ("cached", "cache=True"),
        ("depends_on", "workflow.task.add"),
        ("each", "workflow.task.add"),
        ("after", "workflow.task.add"),
        ("rate_limit", "@action(limit="),
        ("tz", "SchedulerCron"),
        ("catchup", "catch_up='all'"),
        ("group_name", "workflow.task.add"),
        ("on_failure", "start()"),
        ("time_out", "Did you mean 'timeout'?"),
        ("nonsense", "no argument 'nonsense'. It takes retry"),
    ],
)
def test_action_has_hints(name: str, hint: str) -> None:
    """An unknown option of @action is a TypeError with the accepted names."""
    options: dict[str, Any] = {name: 1}

    with pytest.raises(UnknownArgument) as caught:
        action(**options)

    assert f"@action has no argument '{name}'" in str(caught.value)
    assert hint in str(caught.value)
    assert "retry, timeout, retry_delay" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("max_workers", "Config(executor=ExecutorProcess(max_workers=4))"),
        ("retries", "@action(retry=3"),
        ("initial_context", "workflow.task.add(step, initial_context=...)"),
        ("name", "DotFlow(config=..., workflow_id=..., name=...)"),
        ("storage", "DotFlow(Config(storage=...))"),
        ("background", "mode='background'"),
        ("on_error", "on_failure"),
        ("args", "params={"),
        ("parameters", "DotFlow(params="),
        ("each", "workflow.task.add"),
        ("cron", "SchedulerCron"),
        ("depends_on", "workflow.task.add"),
        ("rate", "@action(limit="),
        ("tz", "timezone="),
        ("catchup", "catch_up='all'"),
        ("targets", "only='task'"),
        ("resum", "Did you mean 'resume'?"),
    ],
)
@pytest.mark.parametrize("function", ["start", "schedule", "check_start"])
def test_start_has_hints(function: str, name: str, hint: str) -> None:
    """An unknown argument of start is a TypeError with the accepted names, and nothing runs."""
    workflow = DotFlow()
    workflow.task.add(action(pytest.fail))

    with pytest.raises(UnknownArgument) as caught:
        getattr(workflow, function)(**{name: 1})

    assert f"start has no argument '{name}'" in str(caught.value)
    assert hint in str(caught.value)
    accepted = "mode, keep_going, resume, on_success, on_failure, params, rerun, cache, timeout and only"
    assert accepted in str(caught.value)


@pytest.mark.parametrize(
    ("function", "name", "hint"),
    [
        (DotFlow, "storage", "DotFlow(Config(storage=...))"),
        (DotFlow, "depends_on", "workflow.task.add"),
        (DotFlow, "rate", "@action(limit="),
        (DotFlow, "tz", "SchedulerCron('30 2 * * *', timezone='Europe/Berlin')"),
        (DotFlow, "catchup", "catch_up='all'"),
        (DotFlow, "resume", "start(resume=True)"),
        (DotFlow, "retries", "@action(retry=3"),
        (DotFlow, "id", "workflow_id='nightly'"),
        (DotFlow, "tasks", "workflow.task.add(step)"),
        (DotFlow, "nam", "Did you mean 'name'?"),
        (Config, "tz", "timezone='Europe/Berlin'"),
        (Config, "rate_limit", "@action(limit="),
        (Config, "catchup", "catch_up='all'"),
        (Config, "depends_on", "workflow.task.add"),
        (Config, "max_workers", "ExecutorProcess(max_workers=4)"),
        (Config, "workflow_id", "DotFlow(config=..., workflow_id=..., name=...)"),
        (Config, "logger", "log=LogDefault(...)"),
        (Config, "storge", "Did you mean 'storage'?"),
        (SchedulerCron, "tz", "timezone='Europe/Berlin'"),
        (SchedulerCron, "catchup", "catch_up='latest', 'all'"),
        (SchedulerCron, "rate", "@action(limit="),
        (SchedulerCron, "max_instances", "max_parallel=3"),
        (SchedulerCron, "resume", "workflow.schedule(resume=True)"),
        (SchedulerCron, "overlaps", "Did you mean 'overlap'?"),
    ],
)
def test_classes_have_hints(function: Any, name: str, hint: str) -> None:
    """DotFlow, Config and SchedulerCron refuse unknown arguments as functions do."""
    arguments = ("@daily",) if function is SchedulerCron else ()

    with pytest.raises(UnknownArgument) as caught:
        function(*arguments, **{name: 1})

    assert f"{function.__name__} has no argument '{name}'" in str(caught.value)
    assert hint in str(caught.value)


def test_a_run_parameter_has_a_hint() -> None:
    """`start(day=...)` is not `start(params={"day": ...})`."""
    with pytest.raises(UnknownArgument, match=r"start has no argument 'day'\. Write start\(params=\{'day': \.\.\.\}\)"):
        DotFlow(params={"day": 1}).start(day=2)  # type: ignore[arg-type]


def test_the_accepted_names_are_those_of_the_functions() -> None:
    """The accepted names of an error are the real ones, and no hint is for one of them."""

    from dotflow.engine.options import START_ARGUMENTS
    from dotflow.graph import builder as builder_module

    def names(function: Any) -> list[str]:
        return [name for name in inspect.signature(function).parameters if name not in ("self", "function", "unknown")]

    assert names(TaskBuilder.add) == list(builder_module.ACCEPTED)
    assert names(action) == list(action.__kwdefaults__)
    assert names(DotFlow.start) == list(START_ARGUMENTS)
    assert not set(hints.START) & set(START_ARGUMENTS)
    assert not set(hints.WORKFLOW) & set(names(DotFlow))
    assert not set(hints.CONFIG) & set(names(Config))
    assert not set(hints.CRON) & set(names(SchedulerCron))
    assert not set(hints.ADD) & set(builder_module.ACCEPTED)
    assert not set(hints.ACTION) & set(action.__kwdefaults__)


def test_each_argument_has_a_hint_to_its_own_place() -> None:
    """`add(cache=True)` and `start(retry_on=...)` name the decorator, not a word that only looks similar."""
    from dotflow.engine.options import START_ARGUMENTS

    for known, taken in ((hints.ADD, ()), (hints.START, START_ARGUMENTS), (hints.WORKFLOW, ())):
        names = set(action.__kwdefaults__) - set(taken)
        assert {name for name in names if "@action(" not in known.get(name, "")} == set()
    assert set(ACCEPTED) - {"step"} - set(hints.ACTION) == set()


def test_no_unknown_argument_is_no_error() -> None:
    """A call without unknown arguments goes through."""
    refuse_unknown("start", {}, ["mode", "resume"], {})


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("list", "Did you mean 'runs'?"),
        ("status", "Did you mean 'runs' or 'show'?"),
        ("retry", "Did you mean 'resume' or 'start'?"),
        ("run", "Did you mean 'start'?"),
        ("worker", "Did you mean 'serve'?"),
        ("delete", "Did you mean 'forget'?"),
        ("cache delete", "Did you mean 'clear'?"),
        ("cache ls", "Did you mean 'list'?"),
        ("help", "Did you mean '--help'?"),
        ("start --retries 3", "@action(retry=3, timeout=30)"),
        ("schedule --retries=3", "@action(retry=3, timeout=30)"),
        ("start --cron x", "`dotflow schedule` has it"),
        ("start --dry-run", "`dotflow plan` prints what would run"),
        ("start --id nightly", "Did you mean '--workflow-id'?"),
        ("start -v", "Did you mean '--debug'?"),
        ("start --workers 3", "Config(executor=ExecutorProcess(max_workers=4))"),
        ("serve --workers 3", "Did you mean '--max-runs'?"),
        ("schedule --tz UTC", "Did you mean '--timezone'?"),
        ("log --tail 3", "Did you mean '--lines'?"),
        ("runs --last 3", "Did you mean '--limit'?"),
        ("start --parm a=1", "Did you mean '--param'?"),
    ],
)
def test_commands_and_options_of_other_tools(line: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The error names the command or option that does it here, and nothing runs."""
    assert main(line.split()) == 2

    assert hint in capsys.readouterr().err


@pytest.mark.parametrize(
    "line", ["serve --cron x", "start --out x", "show --tail 3", "log --retries 3", "graph --force", "submit --name x"]
)
def test_an_option_that_is_not_close_to_any_gets_no_hint(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong word is worse than none: `--cron` is no `--region`, and to `log` no step is repeated."""
    command, option, *_ = line.split()
    assert main(line.split()) == 2

    assert capsys.readouterr().err == f"dotflow {command}: No such option '{option}'. See 'dotflow {command} --help'.\n"


def test_each_hint_leads_to_a_command_or_an_option() -> None:
    """None of the words is one that dotflow has itself, and each replacement exists."""
    context = click.Context(dotflow)
    groups = {name: dotflow.get_command(context, name) for name in dotflow.list_commands(context)}
    commands = {*groups, "list", "clear", "--help", "--version"}
    options = {name for command in groups.values() if command for param in command.params for name in param.opts}

    assert {name for names in hints.COMMANDS.values() for name in names.split()} <= commands
    assert {name for names in hints.OPTIONS.values() for name in names.split()} <= options
    assert not hints.COMMANDS.keys() & groups.keys()
    assert not [name for name in hints.READ_WORKFLOW if hasattr(DotFlow, name)]


@pytest.mark.parametrize(
    ("name", "right"), [("task", "action"), ("step", "action"), ("Workflow", "DotFlow"), ("Dotflow", "DotFlow")]
)
def test_names_that_other_libraries_export(name: str, right: str) -> None:
    """The import names what it is called here; Python would propose the class of the records, Task."""
    with pytest.raises(ImportError, match=f"{name} is called {right} here: from dotflow import {right}"):
        exec(f"from dotflow import {name}")
    with pytest.raises(AttributeError, match=f"{name} is called {right} here"):  # pickle looks in all modules
        getattr(sys.modules["dotflow"], name)


@pytest.mark.parametrize("name", ["tasks", "steps", "step", "wait", "cancel", "resume"])
def test_attributes_of_a_workflow_that_are_elsewhere(name: str) -> None:
    with pytest.raises(AttributeError, match=f"'DotFlow' object has no attribute '{name}': it is workflow."):
        getattr(DotFlow(), name)


@pytest.mark.parametrize(("name", "right"), [("append", "workflow.task.add"), ("start", "workflow.start")])
def test_attributes_of_the_builder_that_are_elsewhere(name: str, right: str) -> None:
    with pytest.raises(AttributeError, match=f"'TaskBuilder' object has no attribute '{name}': it is {right}"):
        getattr(DotFlow().task.add(step), name)


@pytest.mark.parametrize(("name", "right"), [("id", "run.run_id"), ("ok", "run.raise_for_failure")])
def test_attributes_of_a_run_that_have_another_name(name: str, right: str) -> None:
    with pytest.raises(AttributeError, match=f"'Run' object has no attribute '{name}': .*{right}"):
        getattr(DotFlow().start(), name)
