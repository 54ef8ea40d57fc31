"""What the integration tests share: scripts in processes of their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.children import Scripts


@pytest.fixture
def scripts(tmp_path: Path, start_method: str | None) -> Iterator[Scripts]:
    """Writes scripts and runs them; none outlives the test."""
    found = Scripts(tmp_path, start_method)
    yield found
    found.close()
