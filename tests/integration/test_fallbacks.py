"""fallback={error: step}: which step follows which error, in every mode, and what a resume makes of it."""

from pathlib import Path
from typing import Any

import pytest

from dotflow import Config, DotFlow, Run, Secret, action
from dotflow.core.failure import Failure
from dotflow.core.types import TypeStatus
from dotflow.errors import (
    AttemptError,
    BudgetExceeded,
    DotflowError,
    InvalidLink,
    MemoryExceeded,
    NotPicklable,
    PollTimeout,
    StepTimeout,
    WorkerDied,
)
from dotflow.providers import ExecutorAsync, ExecutorInline, ExecutorProcess, ExecutorThread, LogDefault, StorageFile

EXECUTORS = (ExecutorInline, ExecutorThread, ExecutorProcess, ExecutorAsync)
FAILED, COMPLETED = TypeStatus.FAILED, TypeStatus.COMPLETED


class Declined(ValueError):
    """An error of a script."""


class Lost(Declined):
    """A more specific one."""


KINDS: dict[str, type[Exception]] = {
    "declined": Declined,
    "lost": Lost,
    "value": ValueError,
    "key": KeyError,
    "zero": ZeroDivisionError,
}


@action
def fails(kind: str) -> str:
    raise KINDS[kind](kind)


@action
def own(kind: str, error: Any) -> str:
    return f"own {error.exception} {error.message}"


@action
def base(kind: str) -> str:
    return f"base {kind}"


@action
def other(error: Any) -> str:
    return f"other {error.exception}"


def flow(executor: Any = None, **options: Any) -> DotFlow:
    return DotFlow(Config(executor=executor, log=LogDefault(output="none"), **options), workflow_id="pay")


def start(step: Any, fallback: Any, kind: str | None = None, executor: Any = None, **options: Any) -> Run:
    workflow = flow(executor)
    workflow.task.add(step, name="pay", fallback=fallback, params=None if kind is None else {"kind": kind}, **options)
    return workflow.start(mode="parallel")


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("declined", "own Declined declined"),
        ("lost", "own Lost lost"),
        ("value", "base value"),
        ("key", "own KeyError 'key'"),
        ("zero", None),
    ],
)
def test_the_nearest_name_counts(executor: Any, kind: str, expected: str | None) -> None:
    """The name of the error itself, or of the nearest of its bases; one step may have several names."""
    run = start(fails, {ValueError: base, (Declined, KeyError): own}, kind, executor())

    assert run.task("pay").status is (FAILED if expected is None else COMPLETED)
    assert run.task("pay").value == expected


def test_the_order_of_the_names_does_not_count() -> None:
    for fallback in ({Exception: other, Declined: own}, {Declined: own, Exception: other}):
        assert start(fails, fallback, "declined").value("pay") == "own Declined declined"
        assert start(fails, fallback, "zero").value("pay") == "other ZeroDivisionError"


def test_a_name_wins_over_what_retry_on_refuses() -> None:
    """What is not worth another attempt of the same step may be worth one of another."""
    step = action(retry=5, retry_delay=0, retry_on=ConnectionError)(fails.function)
    run = start(step, {ZeroDivisionError: other}, "zero")

    assert run.value("pay") == "other ZeroDivisionError"
    assert run.task("pay").attempt == 2


def sleeps() -> None:
    import time

    time.sleep(30)


def dies() -> None:
    import os

    os._exit(3)


def returns_a_lock() -> object:
    import threading

    return threading.Lock()


@pytest.mark.processes
@pytest.mark.parametrize(
    ("function", "name"),
    [
        (sleeps, StepTimeout),
        (sleeps, TimeoutError),
        (dies, WorkerDied),
        (dies, AttemptError),
        (dies, DotflowError),
        (returns_a_lock, NotPicklable),
        (returns_a_lock, TypeError),
    ],
)
def test_errors_that_no_step_has_raised(function: Any, name: type[Exception]) -> None:
    """They have the names of their classes, as in `except`."""
    step = action(timeout=0.2, checkpoint=False)(function)
    run = start(step, {name: other, KeyError: action(lambda: "no")}, None, ExecutorProcess())

    assert run.task("pay").value.startswith("other ")


@pytest.mark.parametrize("name", [PollTimeout, MemoryExceeded, StepTimeout, WorkerDied])
def test_an_error_known_by_its_name_has_its_bases(name: type[Exception]) -> None:
    assert Failure(name.__name__, "").kinds[0] == f"dotflow.errors.{name.__name__}"
    assert "builtins.Exception" in Failure(name.__name__, "").kinds
    assert Failure("TimeoutError", "").kinds[0] == "dotflow.errors.StepTimeout"
    assert Failure("Unknown", "").kinds[0] == "builtins.Exception"


def test_a_refusal_in_a_step_has_no_fallback_for_any_error() -> None:
    """BudgetExceeded has one only by its name, wherever it is raised."""

    @action
    def refused() -> None:
        raise BudgetExceeded("llm", "$1/run", "$1", "pay", "$1", "")

    for fallback in (other, {Exception: other}, {AttemptError: other}):
        assert start(refused, fallback).task("pay").status is FAILED
    assert start(refused, {BudgetExceeded: other}).value("pay") == "other BudgetExceeded"


def test_each_item_takes_its_own() -> None:
    run = start(fails, {KeyError: other, ValueError: base}, each={"kind": ["key", "lost", "zero"]}, keep_going=True)

    assert run.task("pay").value == ["other KeyError", "base lost"]
    assert [item.status for item in run.task("pay").items] == [COMPLETED, COMPLETED, FAILED]


def test_each_item_of_a_workflow_takes_its_own() -> None:
    page = DotFlow(params={"kind": ...})
    page.task.add(fails, fallback={KeyError: other, ValueError: own})
    workflow = flow()
    workflow.task.add(page.task, name="page", each={"kind": ["key", "lost"]})

    assert workflow.start().task("page.fails").value == ["other KeyError", "own Lost lost"]


def test_a_resume_takes_the_value_of_any_of_them(tmp_path: Path) -> None:
    """And makes it again when the code of the one that made it has changed, but not that of another one."""
    made: list[str] = []

    def build(version: str) -> DotFlow:
        @action(version=version)
        def mends(error: Any) -> str:
            made.append("mends")
            return "mended"

        @action(version=version)
        def skips() -> str:
            return "skipped"

        workflow = flow(storage=StorageFile(str(tmp_path / "values")))
        mended = {KeyError: mends, ValueError: action(version="1")(skips.function)}
        workflow.task.add(fails, params={"kind": "key"}, fallback=mended)
        workflow.task.add(fails, name="second", params={"kind": "lost"}, fallback=dict(mended))
        return workflow

    first = build("1").start()
    assert [task.value for task in first.tasks] == ["mended", "skipped"]
    assert build("1").start(resume=True).tasks[0].value == "mended"
    assert made == ["mends"]

    changed = build("2").start(resume="changed")
    assert [task.value for task in changed.tasks] == ["mended", "skipped"]
    assert made == ["mends", "mends"]
    assert [task.attempt for task in changed.tasks] == [2, 0], "the other one was restored"


def test_each_takes_its_own_values_and_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "s3cret-value")

    @action
    def rows() -> int:
        return 3

    @action
    def with_rows(rows: int, error: Any) -> str:
        return f"{rows} {error.exception}"

    @action
    def with_token(token: str = Secret("TOKEN")) -> int:
        return len(token)

    for kind, expected in (("key", "3 KeyError"), ("value", 12)):
        workflow = flow()
        workflow.task.add(rows)
        workflow.task.add(fails, params={"kind": kind}, fallback={KeyError: with_rows, ValueError: with_token})
        assert workflow.start().value(fails) == expected


def test_they_are_in_the_picture() -> None:
    workflow = flow()
    workflow.task.add(fails, params={"kind": "key"}, fallback={(KeyError, Lost): other, Exception: base})
    assert "fallback other on KeyError, Lost" in workflow.task.graph()
    assert "fallback base on Exception" in workflow.task.graph()


@pytest.mark.parametrize(
    ("fallback", "message"),
    [
        ({}, "fallback={} names no exception"),
        ({"KeyError": other}, "'KeyError' (str) is no exception"),
        ({KeyboardInterrupt: other}, "'KeyboardInterrupt' is no exception that a step fails with"),
        ({(KeyError, 3): other}, "3 (int) is no exception"),
        ({KeyError: [other, base]}, "one step, or one for each exception"),
        ({KeyError: action(approve=True)(other.function)}, "asks for no approval"),
    ],
)
def test_what_names_no_error_is_refused(fallback: Any, message: str) -> None:
    with pytest.raises(InvalidLink) as caught:
        flow().task.add(fails, fallback=fallback)
    assert message in str(caught.value)
