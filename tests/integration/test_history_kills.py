"""Runs that are killed at random moments: no step that has begun is missing in their history."""

from pathlib import Path

import pytest

from tests.kill_table import EXECUTORS, kill_many


@pytest.mark.parametrize(
    "place",
    ["inline", *(pytest.param(place, marks=pytest.mark.exhaustive) for place in EXECUTORS if place != "inline")],
)
@pytest.mark.processes
def test_no_begun_step_is_missing(place: str, tmp_path: Path) -> None:
    """Several processes write to one file and are killed. Nothing is missing or damaged, and the next run records.

    All 200 rounds: python tests/kill_table.py
    """
    found = kill_many(tmp_path, 4, seed=17, place=place)

    assert (found.missing, found.integrity) == (0, "ok")
    assert found.begun > 0
    assert found.runs["Completed"] > 0
    assert "Running" not in found.runs
