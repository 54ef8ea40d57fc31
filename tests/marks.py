"""Marks that several test files share."""

from collections.abc import Callable
from typing import Any, TypeVar

import pytest

Test = TypeVar("Test", bound=Callable[..., Any])


def in_any_worker(test: Test) -> Test:
    """Marks a test whose steps depend on nothing of this process: make runs it in all kinds of workers."""
    return pytest.mark.start_method(pytest.mark.processes(test))
