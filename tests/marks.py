"""Marks that several test files share."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import pytest

Test = TypeVar("Test", bound=Callable[..., Any])


def in_any_worker(test: Test) -> Test:
    """Marks a test whose steps depend on nothing of this process: on a cluster, too, they do the same.

    How a fork server's workers run a graph is in the executors' contract.
    """
    return pytest.mark.processes(test)


def each_once(*values: Sequence[Any]) -> list[Any]:
    """Returns all combinations as parameters: a few have each value once, and the others are exhaustive.

    A tuple among the values is several parameters.
    """
    count = max(map(len, values))
    typical = [tuple(some[number % len(some)] for some in values) for number in range(count)]
    return [
        pytest.param(
            *itertools.chain.from_iterable(one if isinstance(one, tuple) else (one,) for one in combination),
            marks=() if combination in typical else pytest.mark.exhaustive,
        )
        for combination in itertools.product(*values)
    ]


#: Opens the file of its history, or is about one.
on_sqlite = pytest.mark.databases("sqlite")
