"""Power cuts: at every moment, whatever the disk had not synced by then is lost or not."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dotflow import Context
from dotflow.errors import CheckpointUnreadable
from dotflow.providers import StorageFile
from tests.integration.disk import Disk

LOST = "lost"
UNREADABLE = "unreadable"


def found_in(folder: Path, keys: list[str]) -> dict[str, object]:
    """What a new process finds there."""
    storage = StorageFile(path=folder)
    found: dict[str, object] = {}
    for key in keys:
        try:
            context = storage.get(key)
        except CheckpointUnreadable:
            found[key] = UNREADABLE
        else:
            found[key] = LOST if context.task_id is None else context.storage
    return found


class Machine:
    """A storage on a disk: what was found after each power cut, and what was allowed."""

    def __init__(self, root: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch, durability: str) -> None:
        root.mkdir()
        scratch.mkdir()
        self.storage = StorageFile(path=root, durability=durability)
        self.allowed: dict[str, set[object]] = {}
        self.cuts = 0
        self.wrong: list[tuple[str, object]] = []
        self._disk = Disk(root, monkeypatch)
        self._disk.after_each = lambda: self.look(scratch)

    def look(self, scratch: Path) -> None:
        """Cuts the power now, in every way, and looks."""
        for place in self._disk.states(scratch):
            self.cuts += 1
            for key, value in found_in(place, list(self.allowed)).items():
                if value not in self.allowed[key]:
                    self.wrong.append((key, value))

    def do(self, work: Callable[[], object], *, before: dict[str, object], after: dict[str, object]) -> None:
        """Does something that may be seen as not yet done while it goes on, and must be seen as done from then on."""
        self.allowed |= {key: {before[key], after[key]} for key in before}
        work()
        self.allowed |= {key: {value} for key, value in after.items()}
        self._disk.after_each()

    def post(self, key: str, value: object, before: object = LOST) -> None:
        self.do(
            lambda: self.storage.post(key, Context(value, task_id=0)),
            before={key: before},
            after={key: value},
        )


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Machine]:
    return lambda durability: Machine(tmp_path / "disk", tmp_path / "scratch", monkeypatch, durability)


def test_posted_checkpoints_survive(machine: Callable[[str], Machine]) -> None:
    """A checkpoint whose post returned is there and exact; one that was on its way is there or not, never half."""
    disk = machine("power")

    disk.post("w/0", "first")
    disk.post("w/1", "second")
    disk.post("v/0", "of another workflow")
    disk.post("loose", "of none")

    assert disk.wrong == []
    assert disk.cuts > 30


def test_an_overwritten_value_is_the_old_or_the_new_one(machine: Callable[[str], Machine]) -> None:
    """Never neither, never a mixture."""
    disk = machine("power")

    disk.post("w/0", "old" * 10)
    disk.post("w/0", "new" * 100, before="old" * 10)

    assert disk.wrong == []


def test_large_values_survive_with_their_parts(machine: Callable[[str], Machine]) -> None:
    """A document is never there without what lies beside it, whichever names the disk has kept."""
    disk = machine("power")
    old, new = b"old" * 30_000, b"new" * 40_000

    disk.post("w/0", old)
    disk.post("w/0", new, before=old)
    disk.post("w/0", "small", before=new)
    disk.post("w/0", old, before="small")
    disk.do(lambda: disk.storage.delete("w/0"), before={"w/0": old}, after={"w/0": LOST})

    assert disk.wrong == []


def test_deleted_checkpoints_stay_away(machine: Callable[[str], Machine]) -> None:
    """A task whose checkpoint was deleted is not skipped after a power cut."""
    disk = machine("power")
    disk.post("w/0", "first")

    disk.do(lambda: disk.storage.delete("w/0"), before={"w/0": "first"}, after={"w/0": LOST})

    assert disk.wrong == []


def test_a_new_run_voids_all_or_nothing(machine: Callable[[str], Machine]) -> None:
    """No mixture of an older run's checkpoints is left, which a resume would take for one run's."""
    disk = machine("power")
    whole = {"w/0": "a", "w/1": "b", "w/2": "c"}
    for key, value in whole.items():
        disk.post(key, value)
    gone = dict.fromkeys(whole, LOST)
    mixed: list[dict[str, object]] = []

    def look(scratch: Path) -> None:
        for place in disk._disk.states(scratch):
            found = found_in(place, list(whole))
            if found not in (whole, gone):
                mixed.append(found)

    disk._disk.after_each = lambda: look(disk.storage.path.parent / "scratch")
    disk.storage.clear("w")
    assert mixed == []

    disk.allowed = {key: {LOST} for key in whole}
    disk.look(disk.storage.path.parent / "scratch")
    assert disk.wrong == []


def test_without_syncing_the_same_cuts_do_harm(machine: Callable[[str], Machine]) -> None:
    """durability="process" promises nothing about power cuts, and this disk finds out: values are lost or torn."""
    disk = machine("process")

    disk.post("w/0", "first")

    assert {value for _, value in disk.wrong} == {LOST, UNREADABLE}
