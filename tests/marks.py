"""Marks that several test files share."""

from collections.abc import Callable
from typing import Any, TypeVar

import pytest

Test = TypeVar("Test", bound=Callable[..., Any])


def in_any_worker(test: Test) -> Test:
    """Marks a test whose steps depend on nothing of this process: on a cluster, too, they do the same.

    How a fork server's workers run a graph is in the executors' contract.
    """
    return pytest.mark.processes(test)
