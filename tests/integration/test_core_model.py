"""The model of the core and dotflow do the same, in random workflows that are killed, changed and resumed."""

from pathlib import Path

import pytest

from tests.core_fuzz import scenario

SEEDS = 12  # of each kind; tests/core_fuzz.py tries thousands


@pytest.mark.parametrize("level", [1, 2, 4])
@pytest.mark.parametrize("storage", ["memory", "file"])
def test_dotflow_does_what_the_model_does(
    level: int, storage: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Calls, keys, values, states and plans are equal, but for the differences that core_fuzz.py names."""
    seeds = SEEDS * (20 if request.config.getoption("--exhaustive") else 1)
    for seed in range(1000 * level, 1000 * level + seeds):
        assert scenario(seed, level, str(tmp_path / str(seed)) if storage == "file" else None) == []


@pytest.mark.parametrize(
    ("level", "seed"),
    [
        pytest.param(2, 502157, id="a map over a workflow whose unsaved code has changed"),
        pytest.param(4, 8013422, id="a map in an item goes through the value of a cleanup"),
        pytest.param(4, 2800078, id="what items take is decided in the run, and so are they"),
        pytest.param(4, 2097, id="an empty map in an item takes nothing of what is decided in the run"),
    ],
)
def test_a_workflow_in_which_they_once_differed(level: int, seed: int) -> None:
    """Each one is named by what it found."""
    assert scenario(seed, level) == []
