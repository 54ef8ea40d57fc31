"""Arrays and frames in a checkpoint that was damaged or forged."""

import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).parents[1] / "frames_fuzz.py"


@pytest.mark.parametrize("cases", [500, pytest.param(10_000, marks=pytest.mark.exhaustive)])
def test_forged_arrays_and_frames_are_unreadable_or_other_values(cases: int) -> None:
    """No case raises another error than ours, ends the process, or takes more memory than the limit."""
    program = [sys.executable, str(FUZZ), "--cases", str(cases), "--first", str(cases)]
    result = subprocess.run(program, capture_output=True, check=False)

    assert result.returncode == 0, (result.stdout, result.stderr[-2000:])
