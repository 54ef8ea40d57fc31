"""Large values in files beside their document, and in a database, are complete, and leave nothing behind."""

import contextlib
import os
import signal
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from dotflow import Context
from dotflow.errors import CheckpointUnreadable
from dotflow.providers import StorageFile, StorageSQLite
from tests.integration.children import Scripts

OLD, NEW = b"old" * 30_000, b"new" * 40_000


@pytest.fixture
def storage(tmp_path: Path) -> StorageFile:
    return StorageFile(path=tmp_path / "kept")


def files_of(storage: StorageFile) -> list[str]:
    """The files in the folder, without the number that makes a part's name unique."""
    found = [path.relative_to(storage.path).as_posix() for path in storage.path.rglob("*") if path.is_file()]
    return sorted(".".join(part for part in name.split(".") if len(part) != 16) for name in found)


def parts_of(storage: StorageFile) -> list[Path]:
    return sorted(storage.path.rglob("*.bin"))


def post(storage: Any, value: Any, key: str = "w/0") -> None:
    storage.post(key, Context(value, task_id=0))


def test_a_large_value_lies_beside_its_document(storage: StorageFile) -> None:
    """It is raw bytes, and the storage lists only the keys of documents."""
    post(storage, [OLD, {"b": NEW}])
    post(storage, OLD, "of no workflow")

    assert files_of(storage) == [
        "of_no_workflow~" + files_of(storage)[0].split("~")[1],
        "of_no_workflow~" + files_of(storage)[1].split("~")[1],
        "w.checkpoints/0.bin",
        "w.checkpoints/0.bin",
        "w.checkpoints/0.json",
    ]
    assert sorted(path.read_bytes() for path in (storage.path / "w.checkpoints").glob("*.bin")) == sorted([OLD, NEW])
    assert list(storage.list_keys()) == ["of no workflow", "w/0"]
    assert storage.get("w/0").storage == [OLD, {"b": NEW}]
    assert storage.get("of no workflow").storage == OLD


def test_parts_that_no_longer_count_are_deleted(storage: StorageFile) -> None:
    """Overwriting, deleting and a new run leave no part behind, and keep the parts of other keys."""
    post(storage, NEW, "w/1")
    post(storage, NEW, "w/0.1")
    for value in (OLD, [NEW, OLD], "small", OLD):
        post(storage, value)
        assert storage.get("w/0").storage == value
        assert len(parts_of(storage)) == 2 + (0 if value == "small" else 2 if isinstance(value, list) else 1)

    storage.delete("w/0")
    assert len(parts_of(storage)) == 2
    assert (storage.get("w/1").storage, storage.get("w/0.1").storage) == (NEW, NEW)
    storage.clear("w")
    assert files_of(storage) == []


def test_the_next_lock_of_the_workflow_removes_orphaned_parts(storage: StorageFile) -> None:
    """A process was killed between a part and its document. The parts of documents and the user's files stay."""
    post(storage, OLD)
    post(storage, OLD, "w/1")
    folder = storage.path / "w.checkpoints"
    stays = {path.name for path in folder.iterdir()} | {"data.bin", "0.bin", "0.0123456789abcdef.csv", "2.json"}
    for name in ("data.bin", "0.bin", "0.0123456789abcdef.csv", "2.json"):
        (folder / name).write_text("a user's")
    for name in ("0.0123456789abcdef.bin", "0.fedcba9876543210.arrows", "5.0123456789abcdef.bin"):
        (folder / name).write_text("orphan")
    (folder / "2.0123456789abcdef.bin").write_text("its document can't be read, which may be mended")

    with StorageFile(path=storage.path).lock("w"):
        assert {path.name for path in folder.iterdir()} - {".lock"} - stays <= {"2.0123456789abcdef.bin", "w.lock"}

    assert storage.get("w/0").storage == storage.get("w/1").storage == OLD


@pytest.mark.parametrize("damage", ["missing", "cut off", "changed", "longer", "a folder"])
def test_a_damaged_part_is_unreadable(storage: StorageFile, damage: str) -> None:
    """The error names the document and the part."""
    post(storage, OLD)
    (part,) = parts_of(storage)
    data = part.read_bytes()
    part.unlink()
    match damage:
        case "cut off":
            part.write_bytes(data[:-1])
        case "changed":
            part.write_bytes(b"x" + data[1:])
        case "longer":
            part.write_bytes(data + b"x")
        case "a folder":
            part.mkdir()

    with pytest.raises(CheckpointUnreadable) as caught:
        storage.get("w/0")
    assert part.name in str(caught.value)
    assert str(storage.path / "w.checkpoints" / "0.json") in str(caught.value)
    assert storage.contains("w/0")

    if damage != "a folder":
        post(storage, NEW)
        assert storage.get("w/0").storage == NEW
        assert len(parts_of(storage)) == 1


def test_a_document_reads_no_file_of_another_key(storage: StorageFile, tmp_path: Path) -> None:
    """A crafted name is refused."""
    from dotflow.codec.parts import Part
    from dotflow.providers.storages.part_files import PartFiles

    post(storage, OLD)
    post(storage, OLD, "w/1")
    folder = str(storage.path / "w.checkpoints")
    other = next(path.name for path in parts_of(storage) if path.name.startswith("1."))
    (tmp_path / "0.0123456789abcdef.bin").write_text("secret")

    for name in (other, "1.json", "0.json", "../../0.0123456789abcdef.bin", str(tmp_path / "0.0123456789abcdef.bin")):
        assert PartFiles(folder, "0.json", synced=False).fetch(Part(name, 6, ""), 0) is None


@pytest.mark.parametrize("call", ["write", "fsync", "replace", "close"])
@pytest.mark.parametrize("number", range(1, 6))
def test_an_error_at_any_call_leaves_the_old_or_the_new_value(
    storage: StorageFile, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    """After a full disk or Ctrl-C, the document has its parts, and there are no others."""
    post(storage, OLD)
    real, calls = getattr(os, call), 0

    def failing(*args: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        done = real(*args, **more) if call in ("replace", "close") else None  # at the worst moment: it has happened
        if calls == number:
            raise KeyboardInterrupt
        return real(*args, **more) if done is None and call not in ("replace", "close") else done

    monkeypatch.setattr(os, call, failing)
    with contextlib.suppress(KeyboardInterrupt):
        post(storage, NEW)
    monkeypatch.undo()

    assert storage.get("w/0").storage in (OLD, NEW)
    assert files_of(storage) == ["w.checkpoints/0.bin", "w.checkpoints/0.json"]


#: Kills itself at the N-th system call, for each N; then the next one looks.
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

        for name in ("open", "write", "fsync", "close", "replace", "unlink"):
            setattr(os, name, counted(getattr(os, name)))
        storage.post("w/0", Context(b"new" * 40_000, task_id=0))
        storage.delete("w/0")
        sys.exit(7)
value = storage.get("w/0").storage
say(value=None if value is None else value[:3].decode(), parts=len(list((HERE / "kept").rglob("*.bin"))),
    litter=[path.name for path in (HERE / "kept").rglob("*.tmp")])
"""


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.parametrize("first", [1, pytest.param(2, marks=pytest.mark.exhaustive)])
def test_killed_at_any_system_call_no_part_is_lost_or_left(
    scripts: Scripts, tmp_path: Path, first: int, stride: int
) -> None:
    """While a large value replaces another one, and while it is deleted."""
    storage, values = StorageFile(path=tmp_path / "kept"), []
    for at in range(first, 100, max(2, stride)):
        post(storage, OLD)
        with scripts.start(KILLED, str(at)) as script:
            code = script.end().code
        facts = scripts.run(KILLED, "0").facts
        assert facts["litter"] == []
        assert facts["parts"] == (facts["value"] is not None)
        values.append(facts["value"])
        if code == 7:
            break
        assert code == -signal.SIGKILL

    assert [*dict.fromkeys(values)] == ["old", "new", None]


def test_a_database_keeps_them_in_a_column(tmp_path: Path) -> None:
    """The document and its parts change at once, and deleted values take no space."""
    storage = StorageSQLite(path=tmp_path / "flow.db")
    post(storage, [OLD, NEW, "text"])
    post(storage, OLD, "w/1")

    assert storage.get("w/0").storage == [OLD, NEW, "text"]
    with contextlib.closing(sqlite3.connect(tmp_path / "flow.db")) as connection:
        rows = dict(connection.execute("SELECT key, parts FROM checkpoints").fetchall())
        documents = [len(text) for (text,) in connection.execute("SELECT document FROM checkpoints")]
    assert rows == {"w/0": OLD + NEW, "w/1": OLD}
    assert max(documents) < 1_000
    post(storage, "small")
    storage.delete("w/1")
    with contextlib.closing(sqlite3.connect(tmp_path / "flow.db")) as connection:
        assert connection.execute("SELECT key, parts FROM checkpoints").fetchall() == [("w/0", None)]
    storage.close()


@pytest.mark.parametrize("change", ["parts = NULL", "parts = substr(parts, 2)", "parts = x'00'", "parts = 'text'"])
def test_damaged_parts_in_a_database_are_unreadable(tmp_path: Path, change: str) -> None:
    """The error names the key and the part."""
    storage = StorageSQLite(path=tmp_path / "flow.db")
    post(storage, [OLD, NEW])
    with contextlib.closing(sqlite3.connect(tmp_path / "flow.db", isolation_level=None)) as connection:
        connection.execute(f"UPDATE checkpoints SET {change}")

    with pytest.raises(CheckpointUnreadable, match=r"flow\.db, key 'w/0'.*its part"):
        storage.get("w/0")
    storage.close()
