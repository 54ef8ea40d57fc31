"""Calls of a user's method with the task, for any signature."""

import functools
from collections.abc import Callable
from typing import Any

import pytest

from dotflow import Task, action
from dotflow.engine.run_log import as_task_method

TASK = Task(0, action(lambda: None))


def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


class Mine:
    def by_place(self, task: Task) -> object:
        return task

    def by_place_and_more(self, task: Task, **more: Any) -> object:
        return None if more else task

    def any_places(self, *tasks: Task) -> object:
        return tasks[0]

    def by_any_name(self, **kwargs: Any) -> object:
        return kwargs["task"]

    def by_whatever_comes(self, *args: Any, **kwargs: Any) -> object:
        return kwargs["task"]

    def by_name(self, *, task: Task) -> object:
        return task

    @wrapped
    def wrapped_by_name(self, **kwargs: Any) -> object:
        return kwargs["task"]

    @wrapped
    def wrapped_by_place(self, task: Task) -> object:
        return task

    @staticmethod
    def of_nobody(**kwargs: Any) -> object:
        return kwargs["task"]


@pytest.mark.parametrize("name", [name for name in vars(Mine) if not name.startswith("_")])
def test_every_signature_gets_the_task(name: str) -> None:
    """By position where possible, by name otherwise."""
    assert as_task_method(getattr(Mine(), name))(TASK) is TASK


def test_one_that_takes_none_raises_when_it_is_called() -> None:
    """A run reports the error."""

    class Forgetful:
        def info(self) -> None: ...

    with pytest.raises(TypeError):
        as_task_method(Forgetful().info)(TASK)


def test_a_method_without_a_signature_is_called_unchanged() -> None:
    """A method written in C has no signature to read."""
    kept: list[Task] = []

    as_task_method(kept.append)(TASK)

    assert kept == [TASK]
