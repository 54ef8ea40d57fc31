"""The journal of a pack on its worker's machine: which of its calls have begun, and what came of them.

A worker that is killed takes the memory of its process along, and messages about an attempt may be on the way. What the
kernel has of a file stays. Another worker of the machine takes the journal, so a call counts as an attempt exactly if
it has begun, and one that has ended is not made again. Without large values: they would be written twice.
"""

import contextlib
import math
import os
import pickle
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from dotflow import clock
from dotflow.providers.executors.cluster import protocol
from dotflow.providers.executors.cluster.protocol import PackReply, Reply

MAX_KEPT: Final = 1 << 17  # bytes of an outcome
MAX_AGE: Final = 86_400.0  # seconds since the last attempt of a pack has begun or ended
TAKEN: Final = ".taken"  # the end of the name of an empty file: the journal was taken


def _create(path: Path) -> int:
    return os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600)


def _path_of(name: str) -> Path:
    return Path(tempfile.gettempdir()) / f"dotflow-pack-{os.getuid()}-{name}"


class Journal:
    """The journal of a pack that a worker makes.

    Args:
        name: The name of the pack.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._descriptor: int | None = None
        with contextlib.suppress(OSError):  # a full disk keeps no journal, and hinders no step
            self._descriptor = _create(_path_of(name))
        self._is_late = _path_of(name + TAKEN).exists()

    def begin(self, place: int) -> bool:
        """Notes that a call begins. Returns False if it must not, since the journal was taken: this worker is lost."""
        if self._is_late:
            return False
        if self._descriptor is None:
            return True
        self._write((place, clock.real_time()))
        return os.fstat(self._descriptor).st_nlink > 0

    def end(self, place: int, reply: Reply) -> None:
        """Notes what came of a call."""
        if self._descriptor is not None and protocol.size_of(reply.parts) <= MAX_KEPT:
            self._write((place, reply.plain()))

    def _write(self, record: tuple[int, float | tuple[Any, ...]]) -> None:
        assert self._descriptor is not None
        with contextlib.suppress(OSError):
            os.write(self._descriptor, pickle.dumps(record, protocol=5))

    def close(self) -> None:
        """Closes it. It stays until the run has the reply of the pack."""
        if self._descriptor is not None:
            os.close(self._descriptor)


def delete_journal(name: str) -> None:
    """Deletes the journal of a pack of this worker, if there is one: the run has the reply."""
    with contextlib.suppress(OSError):
        _path_of(name).unlink()


def delete_journals(run: str) -> None:
    """Deletes the journals of the packs of a run that has ended, also those of workers that were killed."""
    _delete(_path_of(f"{run}-*"))


def delete_old_journals() -> None:
    """Deletes journals that killed workers have left, of runs whose processes are gone."""
    _delete(_path_of("*"), clock.now().timestamp() - MAX_AGE)


def _delete(pattern: Path, before: float = math.inf) -> None:
    for path in pattern.parent.glob(pattern.name):
        with contextlib.suppress(OSError):
            if path.lstat().st_mtime < before:
                path.unlink()


def take_journals(names: Sequence[str]) -> dict[str, list[Any]]:
    """Takes the journals of packs; returns the packed replies of those that are here, by name."""
    return {name: packed for name in names if (packed := take_journal(name)) is not None}


def take_journal(name: str) -> list[Any] | None:
    """Takes the journal of a pack whose worker is lost; returns its packed reply, or None if there is none here.

    It is deleted before it is read, and the pack can't begin here later. So a worker that was only out of reach begins
    no call that is not in it.
    """
    try:
        os.close(_create(_path_of(name + TAKEN)))
    except FileExistsError:
        return None
    except OSError:  # a full disk
        pass
    try:
        descriptor = os.open(_path_of(name), os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        if os.fstat(descriptor).st_uid != os.getuid():
            return None
        delete_journal(name)
        replies = {
            place: Reply(protocol.LOST, began=record) if isinstance(record, float) else Reply(*record)
            for place, record in _records(file)
        }
    return [bytes(part) for part in PackReply(replies, made=clock.real_time()).pack()]


def _records(file: Any) -> Iterator[tuple[int, float | tuple[Any, ...]]]:
    """Yields the records that are whole."""
    with contextlib.suppress(EOFError, pickle.UnpicklingError):
        while True:
            yield pickle.load(file)
