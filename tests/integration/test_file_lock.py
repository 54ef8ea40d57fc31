"""FileLock: its errors, and what it leaves behind."""

import errno
import json
import os
import signal
from pathlib import Path
from typing import Any

import filelock
import pytest

from dotflow.atomic_file import Files
from dotflow.errors import StorageError, WorkflowBusy
from dotflow.providers.storages import file_lock
from dotflow.providers.storages.file_lock import FileLock
from tests.integration.children import Scripts


def fail_with(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the system refuse every lock: as root, permissions alone would not."""

    def acquire(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(filelock.FileLock, "acquire", acquire)
    monkeypatch.setattr(Files, "open_private", acquire)


def test_it_names_its_holder(tmp_path: Path) -> None:
    """The lock file names host, process and time, for the errors of other processes."""
    with FileLock(tmp_path, "nightly", data_folder=tmp_path):
        holder = json.loads((tmp_path / ".nightly.lock").read_text())

    assert holder["process"] == os.getpid()
    assert set(holder) == {"host", "process", "since"}


def test_runs_of_one_process_share_it(tmp_path: Path) -> None:
    """Each learns the same name; it is free when the last one has left."""
    with FileLock(tmp_path, "nightly", data_folder=tmp_path) as one:
        with FileLock(tmp_path / ".." / tmp_path.name, "nightly", data_folder=tmp_path) as other:
            assert one == other
        with pytest.raises(filelock.Timeout):
            filelock.FileLock(tmp_path / ".nightly.lock", timeout=0).acquire()
    with filelock.FileLock(tmp_path / ".nightly.lock", timeout=0):
        pass


@pytest.mark.parametrize("method", ["acquire", "release"])
def test_an_interrupt_comes_before_or_after_filelock(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After one within it, the process could neither lock nor fork."""
    original = getattr(filelock.FileLock, method)
    ended = []

    def interrupted(lock: Any) -> None:
        if not ended:
            signal.raise_signal(signal.SIGINT)
        original(lock)
        ended.append(lock)

    monkeypatch.setattr(filelock.FileLock, method, interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), FileLock(tmp_path, "nightly", data_folder=tmp_path):
            pass
    finally:
        signal.signal(signal.SIGINT, before)

    assert ended
    monkeypatch.undo()
    with filelock.FileLock(tmp_path / ".nightly.lock", timeout=0):
        pass


def test_a_lock_without_a_signature_is_a_lock(tmp_path: Path) -> None:
    """Its holder has not written its name yet."""
    with (
        filelock.FileLock(tmp_path / ".nightly.lock", timeout=0),
        pytest.raises(WorkflowBusy, match="another process"),
        FileLock(tmp_path, "nightly", data_folder=tmp_path),
    ):
        pass


def test_another_users_lock_is_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where both could write checkpoints, a lock that can't be taken is a reason not to run."""
    (tmp_path / ".nightly.lock").touch()
    fail_with(errno.EACCES, monkeypatch)

    with (
        pytest.raises(StorageError, match="belongs to another user"),
        FileLock(tmp_path, "nightly", data_folder=tmp_path),
    ):
        pass


def test_another_users_folder_of_locks_is_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What counts is whether values could be written, wherever the lock is."""
    locks = tmp_path / "locks"
    locks.mkdir()
    (locks / ".nightly.lock").touch()
    fail_with(errno.EACCES, monkeypatch)
    monkeypatch.setattr(os, "access", lambda path, mode: path != locks)

    with pytest.raises(StorageError, match="belongs to another user"), FileLock(locks, "nightly", data_folder=tmp_path):
        pass


def test_an_interrupt_in_the_middle_of_entering_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between acquiring it and writing the holder: it is released."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(file_lock, "_write_holder", interrupted)
    with pytest.raises(KeyboardInterrupt), FileLock(tmp_path, "nightly", data_folder=tmp_path):
        pass

    with filelock.FileLock(tmp_path / ".nightly.lock", timeout=0):
        pass


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.EACCES])
def test_where_no_lock_can_be_made_none_is_needed(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be saved there either, so the first checkpoint fails. Existing ones can be read."""
    fail_with(number, monkeypatch)

    with FileLock(tmp_path, "nightly", data_folder=tmp_path):
        pass


def test_any_other_failure_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is unexpected, and nothing is locked."""
    fail_with(errno.EIO, monkeypatch)

    with pytest.raises(OSError, match="Input/output error"), FileLock(tmp_path, "nightly", data_folder=tmp_path):
        pass
    monkeypatch.undo()
    with FileLock(tmp_path, "nightly", data_folder=tmp_path):
        pass


def test_an_interrupt_in_the_middle_of_leaving_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaving can be repeated. Without that, the process can still acquire the lock anew."""
    real = filelock.FileLock.release

    def interrupted(lock: filelock.FileLock, *more: object) -> None:
        real(lock)
        monkeypatch.undo()
        raise KeyboardInterrupt

    lock = FileLock(tmp_path, "nightly", data_folder=tmp_path)
    lock.__enter__()
    monkeypatch.setattr(filelock.FileLock, "release", interrupted)
    with pytest.raises(KeyboardInterrupt):
        lock.__exit__()

    with FileLock(tmp_path, "nightly", data_folder=tmp_path), pytest.raises(filelock.Timeout):
        filelock.FileLock(tmp_path / ".nightly.lock", timeout=0).acquire()
    lock.__exit__()
    with filelock.FileLock(tmp_path / ".nightly.lock", timeout=0):
        pass


def test_a_forked_process_holds_nothing(scripts: Scripts) -> None:
    """Leaving its parent's lock releases nothing, and it is refused as any other process is."""
    source = """
from dotflow.errors import WorkflowBusy
from dotflow.providers.storages import file_lock
from dotflow.providers.storages.file_lock import FileLock

lock = FileLock(HERE, "nightly", data_folder=HERE)
lock.__enter__()
if not os.fork():
    lock.__exit__()
    try:
        FileLock(HERE, "nightly", data_folder=HERE).__enter__()
    except WorkflowBusy:
        os._exit(7)
    os._exit(1)
say(code=os.waitstatus_to_exitcode(os.wait()[1]))
"""

    assert scripts.run(source).facts == {"code": 7}
