"""Fixtures for users' tests with pytest: `pytest_plugins = "dotflow.testing.fixtures"` in conftest.py.

- `failing` is a function with the arguments of `dotflow.testing.failing`; what it plans ends with the test.
- `empty_config` is a Config with an empty storage and an empty history in the test's `tmp_path`, and without a log.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dotflow.config import Config
from dotflow.providers.histories.sqlite.history import HistorySQLite
from dotflow.providers.logs.default import LogDefault
from dotflow.providers.storages.file import StorageFile
from dotflow.testing import step_failures


@pytest.fixture
def failing() -> Iterator[Callable[..., None]]:
    """Has the first attempts of a step fail until the end of the test: `failing(step, times=2, error=TimeoutError)`."""
    with contextlib.ExitStack() as stack:

        def plan(
            step: Callable[..., Any], times: int | None = 1, error: Exception | type[Exception] = RuntimeError
        ) -> None:
            stack.enter_context(step_failures.failing(step, times, error))

        yield plan


@pytest.fixture
def empty_config(tmp_path: Path) -> Config:
    """A Config with an empty storage and an empty history in `tmp_path`, and without a log."""
    return Config(
        storage=StorageFile(path=tmp_path / "values"),
        history=HistorySQLite(path=tmp_path / "history.db"),
        log=LogDefault(output="none"),
    )
