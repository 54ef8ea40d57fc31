"""Workflows are killed before each write and effect, edited and resumed: nothing is stale, repeated or forgotten."""

from pathlib import Path
from typing import Any

import pytest

from dotflow import Context
from tests.core_kills import SHAPES, Event, Watched, World, explore, kill_really

MODES = ["sequential", "parallel"]
SHARE = 0.008  # of the sequences of a shape, which is always tried
post = Watched.post
SLICES = 4  # with --exhaustive: of all sequences, by the moment of the first kill


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_resume_after_kills_and_edits_leaves_what_a_new_run_leaves(shape: str, mode: str, tmp_path: Path) -> None:
    """But for what core_kills.py names, nothing finished runs again, and nothing that was to run again is forgotten."""
    assert explore(shape, mode, tmp_path, share=SHARE).problems == {}


@pytest.mark.exhaustive
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", range(SLICES))
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", SHAPES)
def test_so_does_one_after_each_kill(shape: str, mode: str, part: int, tmp_path: Path) -> None:
    """All sequences of two kills with an edit between them, and some of three."""
    assert explore(shape, mode, tmp_path, first=slice(part, None, SLICES)).problems == {}
    assert explore(shape, mode, tmp_path, kills=3, share=0.001, first=slice(part, None, SLICES)).problems == {}


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", ["crawl", "files", "unsaved"])
def test_a_killed_process_leaves_what_the_exploration_assumes(shape: str, mode: str, tmp_path: Path) -> None:
    """SIGKILL and files instead of an exception and memory."""
    for seed in range(2):
        folder = tmp_path / str(seed)
        folder.mkdir()
        assert kill_really(shape, mode, folder, seed) == []


class Fault:
    """A storage that breaks what the exploration checks."""

    def delete_nothing(self, key: str) -> None:
        world: World = self.world  # type: ignore[attr-defined]
        world.tick("delete", key.removeprefix("w/"))
        world.note(Event("delete", key.removeprefix("w/")))

    def keep_the_first(self, key: str, context: Context) -> None:
        if not self.inner.contains(key):  # type: ignore[attr-defined]
            post(self, key, context)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("faults", "kinds"),
    [
        ({"delete": Fault.delete_nothing}, {"outlived", "forgotten"}),
        ({"delete": Fault.delete_nothing, "post": Fault.keep_the_first}, {"stale", "second resume"}),
    ],
)
def test_the_exploration_finds_a_fault(
    faults: dict[str, Any], kinds: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its checks fail with a storage that deletes or replaces nothing."""
    for method, fault in faults.items():
        monkeypatch.setattr(Watched, method, fault)
    assert explore("chain", "sequential", tmp_path, first=slice(-1, None)).problems.keys() >= kinds
