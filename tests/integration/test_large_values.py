"""Large values in files beside their document, and in a database, are complete, and leave nothing behind."""

import contextlib
import errno
import os
import signal
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from dotflow import Context
from dotflow.codec.document import pack
from dotflow.providers import StorageFile, StorageSQLite
from dotflow.providers.sqlite_file import SQLiteFile
from dotflow.providers.storages.joined_parts import JoinedParts
from dotflow.providers.storages.sqlite import CREATE, FIND, FORMAT
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


def test_a_document_reads_no_file_of_another_key(storage: StorageFile, tmp_path: Path) -> None:
    """A crafted name is refused."""
    from dotflow.codec.parts import Blob
    from dotflow.providers.storages.part_files import PartFiles

    post(storage, OLD)
    post(storage, OLD, "w/1")
    folder = str(storage.path / "w.checkpoints")
    other = next(path.name for path in parts_of(storage) if path.name.startswith("1."))
    (tmp_path / "0.0123456789abcdef.bin").write_text("secret")

    for name in (other, "1.json", "0.json", "../../0.0123456789abcdef.bin", str(tmp_path / "0.0123456789abcdef.bin")):
        assert PartFiles(folder, "0.json", synced=False).fetch(Blob(name, 6, ""), 0) is None


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

def replace_and_delete():
    storage.post("w/0", Context(b"new" * 40_000, task_id=0))
    storage.delete("w/0")

def share_and_delete():
    storage.post("@cache/jobs:train/1", Context(storage.get("w/0").storage, task_id=0))
    storage.delete("w/0")

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

        for name in ("open", "write", "fsync", "close", "replace", "unlink", "link"):
            setattr(os, name, counted(getattr(os, name)))
        globals()[sys.argv[2]]()
        sys.exit(7)
value = storage.get("w/0").storage
cached = storage.get("@cache/jobs:train/1").storage
say(value=None if value is None else value[:3].decode(), parts=len(list((HERE / "kept").glob("w.*/*.bin"))),
    cached=None if cached is None else cached[:3].decode(),
    litter=[path.name for path in (HERE / "kept").glob("w.*/*.tmp")])
"""


@pytest.mark.exhaustive
@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.parametrize("first", [1, pytest.param(2, marks=pytest.mark.exhaustive)])
def test_killed_at_any_system_call_no_part_is_lost_or_left(
    scripts: Scripts, tmp_path: Path, first: int, stride: int
) -> None:
    """While a large value replaces another one, and while it is deleted."""
    storage, values = StorageFile(path=tmp_path / "kept"), []
    for at in range(first, 100, 2 * stride):
        post(storage, OLD)
        with scripts.start(KILLED, str(at), "replace_and_delete") as script:
            code = script.end().code
        facts = scripts.run(KILLED, "0").facts
        assert facts["litter"] == []
        assert facts["parts"] == (facts["value"] is not None)
        values.append(facts["value"])
        if code == 7:
            break
        assert code == -signal.SIGKILL

    assert [*dict.fromkeys(values)] == ["old", "new", None]


CACHED = "@cache/jobs:train/1"


def test_a_value_with_two_keys_is_one_file(storage: StorageFile) -> None:
    """As a checkpoint and in the cache, in either order. Neither is lost with the other."""
    post(storage, NEW)
    post(storage, NEW, CACHED)
    assert [path.stat().st_nlink for path in parts_of(storage)] == [2, 2]

    post(storage, OLD)  # replaced
    assert (storage.get("w/0").storage, storage.get(CACHED).storage) == (OLD, NEW)
    again = StorageFile(path=storage.path)
    post(again, again.get(CACHED).storage)  # restored from the cache
    assert [path.stat().st_nlink for path in parts_of(storage)] == [2, 2]
    storage.clear("w")  # a new run
    assert (storage.contains("w/0"), storage.get(CACHED).storage) == (False, NEW)
    post(storage, storage.get(CACHED).storage)
    storage.delete(CACHED)
    assert storage.get("w/0").storage == NEW
    assert [path.stat().st_nlink for path in parts_of(storage)] == [1]


@pytest.mark.parametrize("code", [errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOTSUP, errno.ENOSPC])
def test_without_hard_links_a_value_with_two_keys_is_written_twice(
    storage: StorageFile, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """On file systems without them, on another device, and with too many of them."""

    def refuses(source: str, path: str) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refuses)
    post(storage, NEW)
    post(storage, NEW, CACHED)

    assert [path.stat().st_nlink for path in parts_of(storage)] == [1, 1]
    assert storage.get("w/0").storage == storage.get(CACHED).storage == NEW


def test_a_damaged_file_is_not_shared(storage: StorageFile) -> None:
    """Saving the value again mends it."""
    post(storage, NEW)
    (part,) = parts_of(storage)
    part.write_bytes(b"x" + NEW[1:])

    post(storage, NEW, CACHED)
    post(storage, NEW)

    assert storage.get("w/0").storage == storage.get(CACHED).storage == NEW


def test_a_link_is_on_the_disk_before_its_document(storage: StorageFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a power cut no document lacks the content that it shares, whichever document it was written for."""
    post(StorageFile(path=storage.path, durability="process"), NEW)
    calls, real = list[str](), os.fsync
    storage.get("w/0")
    monkeypatch.setattr(
        os, "fsync", lambda file: (calls.append(Path(f"/proc/self/fd/{file}").readlink().name), real(file))
    )

    post(storage, NEW, CACHED)

    (cached,) = [path for path in parts_of(storage) if not path.is_relative_to(storage.path / "w.checkpoints")]
    assert cached.stat().st_nlink == 2
    written = next(number for number, name in enumerate(calls) if name.startswith(".1.json"))
    assert {part.name for part in parts_of(storage)} & set(calls[:written])
    assert cached.parent.name in calls[:written]


@pytest.mark.exhaustive
@pytest.mark.processes
@pytest.mark.slow
def test_killed_at_any_system_call_a_shared_value_is_whole(scripts: Scripts, tmp_path: Path, stride: int) -> None:
    """While it gets its second key, and while the first one is deleted, each key has all of it or nothing."""
    storage, values = StorageFile(path=tmp_path / "kept"), []
    for at in range(1, 100, max(2, stride)):
        storage.clear("@cache/jobs:train")
        post(storage, OLD)
        with scripts.start(KILLED, str(at), "share_and_delete") as script:
            code = script.end().code
        facts = scripts.run(KILLED, "0").facts
        assert facts["parts"] == (facts["value"] is not None)
        values.append((facts["value"], facts["cached"]))
        if code == 7:
            break
        assert code == -signal.SIGKILL

    assert [*dict.fromkeys(values)] == [("old", None), ("old", "old"), (None, "old")]


def test_a_database_keeps_them_in_a_table(tmp_path: Path) -> None:
    """The document and its parts change at once, equal parts are one row, and deleted values take no space."""
    storage = StorageSQLite(path=tmp_path / "flow.db")

    def rows(select: str) -> list[Any]:
        with contextlib.closing(sqlite3.connect(tmp_path / "flow.db")) as connection:
            return [row[0] for row in connection.execute(select)]

    post(storage, [OLD, NEW, "text"])
    post(storage, OLD, "w/1")
    post(storage, OLD, CACHED)

    assert storage.get("w/0").storage == [OLD, NEW, "text"]
    assert storage.get("w/1").storage == storage.get(CACHED).storage == OLD
    assert sorted(rows("SELECT data FROM parts")) == sorted([OLD + NEW, OLD])
    assert max(map(len, rows("SELECT document FROM checkpoints"))) < 1_000
    post(storage, "small")
    storage.delete("w/1")
    assert rows("SELECT data FROM parts") == [OLD]
    post(storage, OLD)
    storage.clear("w")
    assert storage.get(CACHED).storage == OLD
    post(storage, NEW, CACHED)
    assert rows("SELECT data FROM parts") == [NEW]
    storage.delete(CACHED)
    assert rows("SELECT count(*) FROM parts") == rows("SELECT count(*) FROM checkpoints") == [0]
    storage.close()


def test_a_damaged_row_is_mended_by_the_next_write(tmp_path: Path) -> None:
    """Also where another key has the same parts."""
    storage = StorageSQLite(path=tmp_path / "flow.db")
    post(storage, OLD)
    with contextlib.closing(sqlite3.connect(tmp_path / "flow.db", isolation_level=None)) as connection:
        connection.execute("UPDATE parts SET data = x'00'")

    post(storage, OLD, CACHED)

    assert storage.get("w/0").storage == storage.get(CACHED).storage == OLD
    storage.close()


def test_a_database_of_the_first_format_is_read_and_upgraded(tmp_path: Path) -> None:
    """Its parts lay beside each document. Where it can't be upgraded, the error names the format."""
    parts = JoinedParts()
    document = pack("w/0", Context([OLD, NEW], 0), put=parts.put)
    with contextlib.closing(sqlite3.connect(tmp_path / "flow.db", isolation_level=None)) as connection:
        connection.execute(CREATE)
        connection.execute("INSERT INTO checkpoints VALUES (?, CAST(? AS TEXT), ?)", ("w/0", document, parts.data()))
        connection.execute(f"PRAGMA application_id = {FORMAT.application_id}")
        connection.execute("PRAGMA user_version = 1")
    with pytest.raises(sqlite3.DatabaseError, match=r"an earlier dotflow \(format 1\)"):
        SQLiteFile(tmp_path / "flow.db", FORMAT, read_only=True).run(FIND, ("w/0",))
    storage = StorageSQLite(path=tmp_path / "flow.db")

    assert storage.get("w/0").storage == [OLD, NEW]
    post(storage, OLD)
    assert storage.get("w/0").storage == OLD
    storage.close()
