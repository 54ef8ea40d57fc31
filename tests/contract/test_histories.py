"""The histories keep the promises of HistoryContract."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dotflow.providers import HistorySQLite
from dotflow.testing import HistoryContract


class TestHistorySQLite(HistoryContract):
    @pytest.fixture
    def history(self, tmp_path: Path) -> Iterator[HistorySQLite]:
        history = HistorySQLite(tmp_path / "history.db", keep=None)
        yield history
        history.close()
