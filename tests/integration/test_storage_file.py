"""StorageFile: what lies in the folder, what never gets there, and what becomes of files that were touched."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from dotflow import Context, DotFlow, action
from dotflow.core.types.status import TypeStatus
from dotflow.errors import CheckpointUnreadable, InvalidArgument
from dotflow.providers import StorageFile
from tests.integration.children import Scripts

MakeWorkflow = Callable[..., DotFlow]

KEYS = {
    "dots": "../../escaped",
    "absolute": "/etc/escaped",
    "NUL": "a\0b/0",
    "long": "x" * 5000 + "/0",
    "emoji": "🦀/0",
    "lone surrogate": "\ud800/0",
    "device": "con/aux",
    "empty": "",
    "slashes": "///",
    "backslashes": "..\\..\\escaped",
    "trailing dot": "a./0.",
    "spaces": "  / ",
    "percent": "%2e%2e/%s",
    "newline": "a\nb/0",
}


def files_in(folder: Path) -> list[str]:
    """Every file below the folder, by its path from there."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@action
def first() -> dict[str, object]:
    return {"rows": [1, 2.5, None, True], "name": "Zürich"}


@action
def second(previous_context: Context) -> list[object]:
    return [previous_context.storage["name"]]


class TestFolder:
    def test_a_file_for_each_task_under_the_workflows_name(self, tmp_path: Path, make_workflow: MakeWorkflow) -> None:
        """The folder holds readable JSON with the plain value, and nothing else."""
        workflow = make_workflow(storage=StorageFile(path=tmp_path), workflow_id="nightly")
        workflow.task.add([first, second])
        workflow.start()

        kept = tmp_path / "nightly.checkpoints"
        found = json.loads((kept / "0.json").read_text())
        assert files_in(kept) == ["0.json", "1.json"]
        assert found["value"] == {"rows": [1, 2.5, None, True], "name": "Zürich"}
        assert (found["task_id"], found["workflow_id"], found["step"]) == (0, "nightly", first.identity)
        assert "Zürich" in (kept / "0.json").read_text(encoding="utf-8")

    @pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
    def test_nothing_lands_outside(self, key: str, tmp_path: Path) -> None:
        """Whatever text a key is, its file is in the folder, under a name that every system takes."""
        storage = StorageFile(path=tmp_path / "in" / "kept")
        storage.post(key, Context("value", task_id=0))

        assert storage.get(key).storage == "value"
        assert list(storage.list_keys()) == [key]
        (name,) = files_in(tmp_path)
        assert name.startswith("in/kept/")
        assert all(part.isascii() and len(part) < 100 for part in name.split("/"))

    def test_nothing_is_made_before_the_first_value(self, tmp_path: Path) -> None:
        """A storage that is only read leaves no trace."""
        storage = StorageFile(path=tmp_path / "kept")
        storage.get("w/0"), storage.contains("w/0"), storage.delete("w/0"), storage.clear("w"), storage.list_keys()

        assert files_in(tmp_path) == []
        assert not (tmp_path / "kept").exists()

    def test_a_relative_path_begins_at_the_folder_of_its_creation(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A step that goes to another folder does not take the checkpoints along."""
        monkeypatch.chdir(tmp_path)
        storage = StorageFile(path="kept")
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        storage.post("w/0", Context(1, task_id=0))

        assert files_in(tmp_path) == ["kept/w.checkpoints/0.json"]

    def test_what_a_kill_leaves_of_a_cached_value_is_removed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """No lock shows when another process has ended, so what is half-written stays for an hour."""
        StorageFile(path=tmp_path).post("@cache/step/1", Context(bytes(100_000)))
        (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
        before = {path.name for path in folder.iterdir()}
        for name in (".1.json.99.0.tmp", "2.5f0c9a2104e7d8b1.bin", "mine.txt"):
            (folder / name).write_text("{")

        StorageFile(path=tmp_path).post("@cache/step/3", Context(3))
        assert (folder / ".1.json.99.0.tmp").exists()
        monkeypatch.setattr("dotflow.providers.storages.file.ABANDONED", -1.0)
        StorageFile(path=tmp_path).post("@cache/step/3", Context(3))

        assert {path.name for path in folder.iterdir()} == {*before, "3.json", "mine.txt"}

    def test_files_of_others_stay(self, tmp_path: Path) -> None:
        """A new run empties the folder of its workflow of what is ours, and touches nothing beside it."""
        storage = StorageFile(path=tmp_path)
        storage.post("src/0", Context(1, task_id=0))
        (tmp_path / "src").mkdir()
        for name in ("src/0.json", "package.json", "src.checkpoints/notes.txt"):
            (tmp_path / name).write_text("{}")

        storage.clear("src")

        assert files_in(tmp_path) == ["package.json", "src.checkpoints/notes.txt", "src/0.json"]
        assert list(storage.list_keys()) == []

    def test_a_folder_of_others_is_no_obstacle(self, tmp_path: Path) -> None:
        """Whatever it is called: it stays, and what is ours goes."""
        storage = StorageFile(path=tmp_path)
        storage.post("w/0", Context(1, task_id=0))
        (tmp_path / "w.checkpoints" / "strange.json").mkdir()
        (tmp_path / "w.checkpoints" / "strange.json" / "notes.txt").write_text("mine")

        storage.clear("w")

        assert files_in(tmp_path) == ["w.checkpoints/strange.json/notes.txt"]

    def test_keys_are_listed_in_order(self, tmp_path: Path) -> None:
        """Of one workflow, or of all, or by any beginning."""
        storage = StorageFile(path=tmp_path)
        for key in ("b/1", "a/1", "a/0", "Ä/0", "loose"):
            storage.post(key, Context(key, task_id=0))

        assert list(storage.list_keys()) == ["a/0", "a/1", "b/1", "loose", "Ä/0"]
        assert list(storage.list_keys("a/")) == ["a/0", "a/1"]
        assert list(storage.list_keys("Ä")) == ["Ä/0"]


class TestArguments:
    @pytest.mark.parametrize("path", ["", None, 5, b"bytes", "a\0b"])
    def test_a_path_is_a_path(self, path: object) -> None:
        """Refused by the constructor."""
        with pytest.raises(InvalidArgument, match="the path of a folder"):
            StorageFile(path=path)  # type: ignore[arg-type]

    def test_wrong_arguments_are_refused(self) -> None:
        """Refused with what is accepted."""
        with pytest.raises(InvalidArgument, match="'power' or 'process'"):
            StorageFile(durability="none")
        with pytest.raises(InvalidArgument, match="True or False"):
            StorageFile(pickle="yes")  # type: ignore[arg-type]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "truncated": lambda data: data[: len(data) // 2],
    "its last byte is missing": lambda data: data[:-1],
    "a flipped bit": lambda data: data[:-10] + bytes([data[-10] ^ 1]) + data[-9:],
    "garbage": lambda data: b"\xff\xfe\0garbage",
    "zeros": lambda data: b"\0" * len(data),
    "edited by hand": lambda data: data.replace("Zürich".encode(), b"Berne"),
    "something appended": lambda data: data + b"{}",
}


class TestDamage:
    @pytest.fixture
    def workflow(self, tmp_path: Path, make_workflow: MakeWorkflow) -> DotFlow:
        workflow = make_workflow(storage=StorageFile(path=tmp_path), workflow_id="nightly")
        workflow.task.add([first, second])
        workflow.start()
        return workflow

    @pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
    def test_a_damaged_file_stops_resume(
        self, damage: Callable[[bytes], bytes], workflow: DotFlow, tmp_path: Path
    ) -> None:
        """The error names file and task, and nothing is overwritten; deleted, that task and its follower run again."""
        path = tmp_path / "nightly.checkpoints" / "0.json"
        path.write_bytes(damaged := damage(path.read_bytes()))

        with pytest.raises(CheckpointUnreadable) as raised:
            workflow.start(resume=True)

        assert str(path) in str(raised.value)
        assert "task 0 " in str(raised.value)
        assert path.read_bytes() == damaged
        path.unlink()
        assert workflow.start(resume=True).status is TypeStatus.COMPLETED
        assert [task.started_at is None for task in workflow.result_task()] == [False, False]

    def test_a_file_that_cannot_be_opened_stops_resume(self, workflow: DotFlow, tmp_path: Path) -> None:
        """A folder instead, or a file without rights, is no missing checkpoint."""
        path = tmp_path / "nightly.checkpoints" / "0.json"
        path.unlink()
        path.mkdir()

        with pytest.raises(CheckpointUnreadable, match="IsADirectoryError"):
            workflow.start(resume=True)

    def test_a_file_of_another_task_stops_resume(self, workflow: DotFlow, tmp_path: Path) -> None:
        """A checkpoint that was copied or renamed does not pass for another one."""
        kept = tmp_path / "nightly.checkpoints"
        (kept / "1.json").write_bytes((kept / "0.json").read_bytes())

        with pytest.raises(CheckpointUnreadable, match="nightly/0"):
            workflow.start(resume=True)

    def test_a_new_run_ignores_it(self, workflow: DotFlow, tmp_path: Path) -> None:
        """A new run needs no old checkpoint."""
        (tmp_path / "nightly.checkpoints" / "0.json").write_text("garbage")

        assert workflow.start().status is TypeStatus.COMPLETED


#: Kills itself at the N-th system call of a post, for each N, and then runs once more.
KILLED = """
from dotflow.providers import StorageFile

at, storage = int(sys.argv[1]), StorageFile(path=HERE / "kept")
with storage.lock("w"):
    if at:
        calls = 0

        def counted(real):
            def call(*args, **kwargs):
                global calls
                calls += 1
                if calls == at:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*args, **kwargs)
            return call

        for name in ("open", "write", "fsync", "close", "replace", "rename", "unlink", "rmdir"):
            setattr(os, name, counted(getattr(os, name)))
        storage.clear("w")
        storage.post("w/0", Context("new", task_id=0))
        sys.exit(7)
say(value=storage.get("w/0").storage, keys=list(storage.list_keys()),
    litter=[path.name for path in (HERE / "kept").rglob("*") if path.suffix in (".tmp", ".void")])
"""


@pytest.mark.exhaustive
@pytest.mark.slow
def test_killed_at_any_system_call_it_leaves_no_litter(scripts: Scripts, tmp_path: Path, stride: int) -> None:
    """At each moment of clear and post: the old value, none or the new one. The next holder finds no litter."""
    storage, values = StorageFile(path=tmp_path / "kept"), []
    for at in range(1, 100, stride):
        storage.post("w/0", Context("old", task_id=0))
        with scripts.start(KILLED, str(at)) as script:
            code = script.end().code
        facts = scripts.run(KILLED, "0").facts
        assert facts["litter"] == []
        values.append(facts["value"])
        if code == 7:
            break
        assert code == -signal.SIGKILL

    assert values[0] == "old"
    assert values[-1] == "new"
    assert [*dict.fromkeys(values)] == ["old", None, "new"]
    assert len(values) > 10 / stride


def test_ctrl_c_in_the_middle_of_a_write_leaves_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is half-written is taken away at once where that is possible."""
    storage = StorageFile(path=tmp_path)
    storage.post("w/0", Context("old", task_id=0))

    def interrupted(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        storage.post("w/0", Context("new", task_id=0))

    assert files_in(tmp_path) == ["w.checkpoints/0.json"]
    assert storage.get("w/0").storage == "old"


def test_ctrl_c_while_the_file_is_opened_leaves_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be there already when the interrupt comes."""
    storage = StorageFile(path=tmp_path)
    real = os.open

    def interrupted(path: str, *more: int) -> int:
        os.close(real(path, *more))
        monkeypatch.undo()
        raise KeyboardInterrupt

    storage.post("w/0", Context("old", task_id=0))
    monkeypatch.setattr(os, "open", interrupted)
    with pytest.raises(KeyboardInterrupt):
        storage.post("w/0", Context("new", task_id=0))

    assert files_in(tmp_path) == ["w.checkpoints/0.json"]
