"""Values that one process writes and another one reads."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.children import SOURCES


@pytest.mark.slow
@pytest.mark.exhaustive  # the codec's own tests know the values, the contract of storages a second reader
def test_no_value_is_changed() -> None:
    """Every kind of value is exact in another process, or was refused, and the table reports no other."""
    script = Path(__file__).parents[1] / "values_table.py"
    ended = subprocess.run(
        [sys.executable, str(script), "--random", "50"],
        env=os.environ | {"PYTHONPATH": str(SOURCES)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "| Polars | " in ended.stdout
    assert "| random, of all of Python's types | 50 | 50 | 0 | 0 |" in ended.stdout
