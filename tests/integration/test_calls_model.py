"""Random programs with a durable step do what the contract says of their calls: killed, edited and resumed."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from dotflow.calls import body
from dotflow.calls.body import Body
from dotflow.resume import calls
from tests.calls_model.explore import MODES, STORAGES, scenario

ROOT = Path(__file__).parents[2]
PROGRAMS = 3
ALL = 140  # programs; with four edits each, and two kills
SLICES = 4


def problems_of(seeds: range, mode: str, storage: str, folder: Path) -> list[str]:
    """Explores programs until one does not do what it should."""
    figures: Counter[str] = Counter()
    for seed in seeds:
        place = folder / str(seed)
        place.mkdir()
        problems = scenario(seed, mode, storage, place, figures)
        if problems:
            return [f"{mode} {storage} {seed}", *problems]
    return []


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "storage",
    [one if one in ("file", "memory") else pytest.param(one, marks=pytest.mark.exhaustive) for one in STORAGES],
)
@pytest.mark.parametrize("mode", MODES)
def test_no_finished_call_is_made_again_and_no_stale_value_is_given(mode: str, storage: str, tmp_path: Path) -> None:
    """Failures are kept or let go as the body treats them, keys stay or change, and each orphan is named."""
    first = 1000 * (1 + STORAGES.index(storage))
    problems = problems_of(range(first, first + PROGRAMS), mode, storage, tmp_path)
    assert not problems, "\n".join(problems)


@pytest.mark.exhaustive
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", range(SLICES))
@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("mode", MODES)
def test_so_it_is_after_500_edits(mode: str, storage: str, part: int, tmp_path: Path) -> None:
    """In each mode, with each storage."""
    problems = problems_of(range(part, ALL, SLICES), mode, storage, tmp_path)
    assert not problems, "\n".join(problems)


@pytest.mark.slow
@pytest.mark.clusters
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("count", [2, pytest.param(ALL, marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("kind", ["dask", "ray"])
def test_so_it_is_on_a_cluster(kind: str, count: int, request: pytest.FixtureRequest) -> None:
    """In a program of its own, which forks before it connects."""
    address = request.getfixturevalue(f"{kind}_cluster").address
    variable = {"dask": "DASK_SCHEDULER_ADDRESS", "ray": "RAY_ADDRESS"}[kind]
    paths = os.pathsep.join((str(ROOT), *sys.path))
    explored = subprocess.run(
        [sys.executable, "-m", "tests.calls_model.explore", "--mode", kind, "--count", str(count)],
        env={**os.environ, variable: address, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert explored.returncode == 0, explored.stdout + explored.stderr


def key_without_number(root: str, base: str, asked: Any, number: int) -> str:
    return key_of(root, base, asked, 0)


key_of = body.key_of


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("place", "name", "fault"),
    [
        pytest.param(body, "key_of", key_without_number, id="equal calls are one"),
        pytest.param(Body, "_let_go", lambda self, error: None, id="no failure is let go"),
        pytest.param(Body, "_caught", lambda self, by: [], id="no failure is kept"),
        pytest.param(calls, "can_compare", lambda saved, now: False, id="changed code counts"),
    ],
)
def test_a_fault_is_found(place: Any, name: str, fault: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a few programs."""
    monkeypatch.setattr(place, name, fault)
    assert problems_of(range(2000, 2016), "sequential", "memory", tmp_path)
