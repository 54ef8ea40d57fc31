"""The histories keep the promises of HistoryContract."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from dotflow.providers import HistoryPostgres, HistorySQLite
from dotflow.testing import HistoryContract


class TestHistorySQLite(HistoryContract):
    @pytest.fixture
    def history(self, tmp_path: Path) -> Iterator[HistorySQLite]:
        with closing(HistorySQLite(tmp_path / "history.db", keep=None)) as history:
            yield history


class TestHistoryPostgres(HistoryContract):
    @pytest.fixture
    def history(self, postgres_history: str) -> Iterator[HistoryPostgres]:
        with closing(HistoryPostgres(postgres_history, keep=None)) as history:
            yield history
