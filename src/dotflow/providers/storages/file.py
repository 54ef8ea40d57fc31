"""StorageFile: readable files."""

import contextlib
import itertools
import os
from collections.abc import Hashable, Iterable, Iterator
from pathlib import Path
from typing import Final

from dotflow.abc.storage import Storage, key_of
from dotflow.codec.document import key_in, pack, unpack
from dotflow.core.context import Context
from dotflow.core.task import Task
from dotflow.errors import CheckpointUnreadable
from dotflow.providers.storages.arguments import check_arguments
from dotflow.providers.storages.atomic_file import PARTIAL_SUFFIX, sync_folder, write_atomic
from dotflow.providers.storages.file_lock import FileLock
from dotflow.providers.storages.part_files import PartFiles, remove_orphans, stem_of
from dotflow.providers.storages.safe_name import is_plain, safe_name

SUFFIX: Final = ".json"
FOLDER_SUFFIX: Final = ".checkpoints"  # how the folder of a workflow ends, so that it can't be mistaken for another one
VOID_SUFFIX: Final = ".void"  # how it ends when what is in it no longer counts

_counter: Final = itertools.count()


class StorageFile(Storage):
    """Keeps each value in a readable JSON file, which is there as a whole or not at all, and comes back as it was.

    `path/nightly.checkpoints/3.json` is the value of task 3 of the workflow "nightly". Bytes, arrays and frames of more
    than 64 KB lie beside it as they are, in `3.5f0c9a2104e7d8b1.bin` (or `.arrows`, an Arrow IPC stream). Ids and keys
    that can't be file names are given safe ones, and nothing ever lands outside *path*.

    Args:
        path: The folder; made at the first checkpoint. A relative one is meant from where the process is now.
        pickle: Whether values that the codec refuses are pickled. Whoever can write to the folder can then run any
            program when a checkpoint is read: choose it for folders only that nobody else can write to. A pickle also
            depends on the versions of what is in it.
        durability: "power": a checkpoint survives a power cut and costs an fsync of the file and its folder.
            "process": it survives the death of the process (kill -9 too) and is several times as fast; after a power
            cut it may be missing, or be reported as unreadable.

    Raises:
        InvalidArgument: One of them means nothing.
    """

    is_local = True

    def __init__(
        self, path: str | os.PathLike[str] = ".output", pickle: bool = False, durability: str = "power"
    ) -> None:
        self.path: Path = check_arguments(path, pickle, durability, expected="the path of a folder")
        self.durability = durability
        self._pickle = pickle
        self._root = str(self.path)
        self._synced = durability == "power"
        self._last_folder = ("", self._folder(""))  # the workflow that was asked for last, and its folder

    def post(self, key: str, context: Context) -> None:
        """As Storage says; the file is on the disk when it returns."""
        folder, name = self._location(key)
        with PartFiles(folder, name, synced=self._synced) as parts:
            document = pack(key, context, pickle=self._pickle, put=parts.put)
            parts.sync()
            write_atomic(folder, name, document, synced=self._synced)

    def get(self, key: str) -> Context:
        folder, name = self._location(key)
        path = f"{folder}{os.sep}{name}"
        try:
            with open(path, "rb", buffering=0) as file:
                data = file.read()
        except (FileNotFoundError, NotADirectoryError):
            return Context()
        except OSError as error:
            raise CheckpointUnreadable(f"{type(error).__name__}: {error.strerror}", path) from error
        try:
            return unpack(data, key, pickle=self._pickle, fetch=PartFiles(folder, name, synced=False).fetch)
        except CheckpointUnreadable as error:
            raise error.at(where=path) from error.__cause__

    def key(self, task: Task) -> str:
        """As Storage says: `workflow_id/task_id`."""
        return key_of(task)

    def contains(self, key: str) -> bool:
        """As Storage says; a file that can't be read is contained."""
        return os.path.lexists(os.sep.join(self._location(key)))

    def delete(self, key: str) -> None:
        folder, name = self._location(key)
        with PartFiles(folder, name, synced=self._synced), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(f"{folder}{os.sep}{name}")
            if self._synced:
                sync_folder(folder)

    def list_keys(self, prefix: str = "") -> Iterable[str]:
        """As Storage says, in order."""
        return sorted(key for key in self._keys() if key.startswith(prefix))

    def clear(self, workflow_id: str) -> bool:
        """As Storage says. The folder is renamed first, so that a crash leaves all of it or nothing."""
        folder = self._folder(workflow_id)
        void = f"{self._root}{os.sep}.{os.path.basename(folder)}.{os.getpid()}.{next(_counter)}{VOID_SUFFIX}"
        try:
            os.rename(folder, void)
        except FileNotFoundError:
            return True
        if self._synced:
            sync_folder(self._root)
        _remove_void(void)
        with contextlib.suppress(OSError):  # somebody put files of their own there: they stay where they were
            os.rename(void, folder)
        return True

    def lock(self, workflow_id: str) -> contextlib.AbstractContextManager[Hashable]:
        """As Storage says, by a lock in the folder. What a process that was killed left half-written is removed."""
        return FileLock(self.path, workflow_id, data_folder=self.path, on_acquired=lambda: self._clean_up(workflow_id))

    def _folder(self, workflow_id: str) -> str:
        return f"{self._root}{os.sep}{safe_name(workflow_id)}{FOLDER_SUFFIX}"

    def _location(self, key: str) -> tuple[str, str]:
        """The folder and the name of a key's file."""
        workflow_id, slash, task = key.rpartition("/")
        if not slash:
            return self._root, safe_name(task) + SUFFIX
        last, folder = self._last_folder  # together, since other threads do the same
        if workflow_id != last:
            folder = self._folder(workflow_id)
            self._last_folder = workflow_id, folder
        return folder, safe_name(task) + SUFFIX

    def _keys(self) -> Iterator[str]:
        for entry in _entries(self._root):
            name, suffix = os.path.splitext(entry.name)
            if suffix == FOLDER_SUFFIX:
                yield from self._keys_in(entry.path, f"{name}/")
            elif suffix == SUFFIX:
                with contextlib.suppress(OSError, CheckpointUnreadable):  # none of ours, or gone by now
                    yield key_in(Path(entry.path))

    def _keys_in(self, folder: str, prefix: str) -> Iterator[str]:
        """The keys in a workflow's folder. Only a safe name that is not the text itself has to be looked up."""
        for entry in _entries(folder):
            name, suffix = os.path.splitext(entry.name)
            if suffix != SUFFIX:
                continue
            if is_plain(prefix[:-1]) and is_plain(name):
                yield prefix + name
            else:
                with contextlib.suppress(OSError, CheckpointUnreadable):  # damaged, or gone by now
                    yield key_in(Path(entry.path))

    def _clean_up(self, workflow_id: str) -> None:
        folder = self._folder(workflow_id)
        entries = _entries(folder)
        for entry in entries:
            if entry.name.endswith(PARTIAL_SUFFIX):
                os.unlink(entry.path)
        remove_orphans(folder, (entry.name for entry in entries), SUFFIX)
        void = f".{os.path.basename(folder)}."
        for entry in _entries(self._root):
            if entry.name.startswith(void) and entry.name.endswith(VOID_SUFFIX):
                _remove_void(entry.path)


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _remove_void(void: str) -> None:
    """Removes what no longer counts. What isn't ours stays, and so does its folder then."""
    for entry in _entries(void):
        if entry.name.endswith((SUFFIX, PARTIAL_SUFFIX)) or stem_of(entry.name):
            with contextlib.suppress(OSError):  # gone already, or a folder: that is none of ours
                os.unlink(entry.path)
    with contextlib.suppress(OSError):
        os.rmdir(void)
