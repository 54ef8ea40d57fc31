"""StorageFile: readable files."""

import contextlib
import errno
import itertools
import os
from collections import deque
from collections.abc import Hashable, Iterable, Iterator
from pathlib import Path
from typing import Final

from dotflow.abc.storage import Storage, key_of
from dotflow.atomic_file import PARTIAL_SUFFIX, Files, NotPrivate, check_writable, read_plain, sync_folder
from dotflow.codec.document import key_in, pack, unpack
from dotflow.codec.parts import Blob
from dotflow.core.context import Context
from dotflow.core.task import Task
from dotflow.errors import CheckpointUnreadable
from dotflow.providers.storages.arguments import check_arguments
from dotflow.providers.storages.file_lock import FileLock
from dotflow.providers.storages.part_files import PartFiles, Recent, remove_orphans, stem_of
from dotflow.providers.storages.safe_name import is_plain, safe_name

SUFFIX: Final = ".json"
FOLDER_SUFFIX: Final = ".checkpoints"  # of a workflow's folder, so that it is no folder of others
VOID_SUFFIX: Final = ".void"  # of a workflow's folder whose values are void
MAX_RECENT: Final = 16  # parts; a checkpoint and its value in the cache are saved one after the other

ABANDONED: Final = 3600.0  # seconds after which a file that is half-written is no longer another process's

_counter: Final = itertools.count()


class StorageFile(Storage):
    """Saves each value in a readable JSON file, which is written atomically.

    `path/nightly.checkpoints/3.json` is the value of task 3 of the workflow "nightly". Bytes, arrays and frames of more
    than 64 KB are files beside it: `3.5f0c9a2104e7d8b1.bin`, `.arrows` for an Arrow IPC stream, or `.pickle`. A cached
    value and its checkpoint share them as hard links, where the file system has those. Ids and keys that can't be file
    names get safe ones, so nothing is written outside of *path*.

    Args:
        path: The folder, made at the first checkpoint. A relative path counts from the current folder.
        pickle: Whether to pickle values that the codec refuses. Reading a pickle can run any program. So use it only
            for folders that only you can write to. A pickle depends on the versions of the packages in it.
        durability: "power": a checkpoint survives a power cut, and costs an fsync of the file and its folder.
            "process": it survives the end of the process, kill -9 included, and is several times as fast. After a
            power cut it may be missing or unreadable.
        umask: The permissions that the files and folders do not have, in octal: "027" lets the group read them. By
            default those of the environment variable DOTFLOW_UMASK, and without it only their owner has any.

    Raises:
        InvalidArgument: One of the arguments is invalid.
    """

    is_local = True

    def __init__(
        self,
        path: str | os.PathLike[str] = ".output",
        pickle: bool = False,
        durability: str = "power",
        umask: str | None = None,
    ) -> None:
        self.path: Path = check_arguments(path, pickle, durability, umask, expected="the path of a folder")
        self.durability = durability
        self._pickle = pickle
        self._files = Files(umask)
        self._root = str(self.path)
        self._synced = durability == "power"
        self._last_folder = ("", self._folder(""))  # the last workflow and its folder
        self._recent: Recent = deque(maxlen=MAX_RECENT)
        self._checked: set[str] = set()  # folders that are ours

    def post(self, key: str, context: Context) -> None:
        folder, name = self._location(key)
        is_first = folder not in self._checked
        if is_first:
            if not os.path.isdir(folder):
                self._files.make_folder(folder, synced=self._synced)
            self._check(folder)
        with PartFiles(folder, name, synced=self._synced, recent=self._recent, files=self._files) as parts:
            document = pack(key, context, pickle=self._pickle, put=parts.put)
            parts.sync()
            self._files.write_atomic(folder, name, document, synced=self._synced)
        if is_first:
            _remove_abandoned(folder, name)

    def get(self, key: str) -> Context:
        folder, name = self._location(key)
        path = f"{folder}{os.sep}{name}"
        try:
            data = read_plain(path)
        except (FileNotFoundError, NotADirectoryError):
            return Context()
        except (OSError, MemoryError) as error:
            cause = error.strerror if isinstance(error, OSError) else "it is larger than the memory"
            raise CheckpointUnreadable(f"{type(error).__name__}: {cause}", path) from error

        def fetch(part: Blob, before: int) -> bytes | None:
            return PartFiles(folder, name, synced=False, recent=self._recent).fetch(part, before)

        return unpack(data, key, path, pickle=self._pickle, fetch=fetch)

    def key(self, task: Task) -> str:
        return key_of(task)

    def contains(self, key: str) -> bool:
        return os.path.lexists(os.sep.join(self._location(key)))

    def delete(self, key: str) -> None:
        folder, name = self._location(key)
        self._check(folder)
        with PartFiles(folder, name, synced=self._synced), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(f"{folder}{os.sep}{name}")
            if self._synced:
                sync_folder(folder)

    def list_keys(self, prefix: str = "") -> Iterable[str]:
        """Returns the keys in order."""
        if self.path.is_file():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), self._root)
        return sorted(key for key in self._keys() if key.startswith(prefix))

    def clear(self, workflow_id: str) -> bool:
        """Renames the workflow's folder first, so a crash leaves all values or none."""
        folder = self._folder(workflow_id)
        self._check(folder)
        void = f"{self._root}{os.sep}.{os.path.basename(folder)}.{os.getpid()}.{next(_counter)}{VOID_SUFFIX}"
        try:
            os.rename(folder, void)
        except FileNotFoundError:
            return True
        if self._synced:
            try:
                sync_folder(self._root)
            except OSError:  # the new run does not begin, so the values stay
                with contextlib.suppress(OSError):
                    os.rename(void, folder)
                raise
        self._remove_void(void)
        with contextlib.suppress(OSError):  # still there if it holds files of others, which stay
            os.rename(void, folder)
        return True

    def check_writable(self, workflow_id: str) -> None:
        folder = self._folder(workflow_id)
        self._check(folder)
        check_writable(folder)

    def lock(self, workflow_id: str) -> contextlib.AbstractContextManager[Hashable]:
        """Locks a file in the folder, and then removes what a killed process left half-written."""
        return FileLock(
            self.path,
            workflow_id,
            data_folder=self.path,
            files=self._files,
            on_acquired=lambda: self._clean_up(workflow_id),
        )

    def _remove_void(self, void: str) -> None:
        """Removes the files of a void folder, and the folder unless it holds files of others."""
        with contextlib.suppress(NotPrivate):  # another user could lead it elsewhere meanwhile
            self._files.check_private(void)
            for entry in _entries(void):
                if entry.name.endswith((SUFFIX, PARTIAL_SUFFIX)) or stem_of(entry.name):
                    with contextlib.suppress(OSError):  # deleted already, or a folder
                        os.unlink(entry.path)
            with contextlib.suppress(OSError):
                os.rmdir(void)

    def _check(self, folder: str) -> None:
        """Raises NotPrivate if another user could have made the folder."""
        self._files.check_private(self._root, is_named=True)
        if folder != self._root:
            self._files.check_private(folder)
        if os.path.isdir(folder):
            self._checked.add(folder)

    def _folder(self, workflow_id: str) -> str:
        return f"{self._root}{os.sep}{safe_name(workflow_id)}{FOLDER_SUFFIX}"

    def _location(self, key: str) -> tuple[str, str]:
        """Returns the folder and the name of a key's file."""
        workflow_id, slash, task = key.rpartition("/")
        if not slash:
            return self._root, safe_name(task) + SUFFIX
        last, folder = self._last_folder  # read together, since threads share it
        if workflow_id != last:
            folder = self._folder(workflow_id)
            self._last_folder = workflow_id, folder
        return folder, safe_name(task) + SUFFIX

    def _keys(self) -> Iterator[str]:
        yield from self._keys_in(self._root, "")
        for entry in _entries(self._root):
            name, suffix = os.path.splitext(entry.name)
            if suffix == FOLDER_SUFFIX:
                yield from self._keys_in(entry.path, f"{name}/")

    def _keys_in(self, folder: str, prefix: str) -> Iterator[str]:
        """Yields the keys in a folder. A key is read from its file only if the names do not show it."""
        for entry in _entries(folder):
            name, suffix = os.path.splitext(entry.name)
            if suffix != SUFFIX:
                continue
            if is_plain(prefix[:-1]) and is_plain(name):
                yield prefix + name
            else:
                with contextlib.suppress(OSError, CheckpointUnreadable):  # no checkpoint, damaged, or deleted meanwhile
                    yield key_in(Path(entry.path))

    def _clean_up(self, workflow_id: str) -> None:
        folder = self._folder(workflow_id)
        self._check(folder)
        entries = _entries(folder)
        for entry in entries:
            if entry.name.endswith(PARTIAL_SUFFIX):
                os.unlink(entry.path)
        remove_orphans(folder, (entry.name for entry in entries), SUFFIX)
        void = f".{os.path.basename(folder)}."
        for entry in _entries(self._root):
            if entry.name.startswith(void) and entry.name.endswith(VOID_SUFFIX):
                self._remove_void(entry.path)


def _remove_abandoned(folder: str, new: str) -> None:
    """Removes what killed processes left half-written in a folder without a lock: that of cached values.

    Args:
        folder: The folder.
        new: The name of a file that was just written. Its time is that of the file system, which may be another one's.
    """
    entries = _entries(folder)
    names = {entry.name for entry in entries}
    for entry in entries:
        stem = stem_of(entry.name)
        if entry.name.endswith(PARTIAL_SUFFIX) or (stem is not None and f"{stem}{SUFFIX}" not in names):
            with contextlib.suppress(OSError):  # removed meanwhile, or of another user
                now = os.lstat(f"{folder}{os.sep}{new}").st_ctime  # a link to a part that is older has a new one, too
                if now - os.lstat(entry.path).st_ctime > ABANDONED:
                    os.unlink(entry.path)


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []
