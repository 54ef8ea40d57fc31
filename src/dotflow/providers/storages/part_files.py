"""Parts of a checkpoint as files beside its document: `3.5f0c9a2104e7d8b1.bin` beside `3.json`.

Parts are written before the document and removed after it. Only those that it refers to are valid. Two documents with
the same large value, such as a checkpoint and the same value in the cache, have names of one file each (hard links).
"""

import contextlib
import os
import re
from collections import deque
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Final

from dotflow.atomic_file import FILES, Files, open_plain, sync_folder
from dotflow.codec.document import parts_in
from dotflow.codec.parts import BYTES_SUFFIX, PICKLE_SUFFIX, STREAM_SUFFIX, Blob, Raw
from dotflow.errors import CheckpointUnreadable

_SUFFIXES: Final = "|".join(map(re.escape, (BYTES_SUFFIX, STREAM_SUFFIX, PICKLE_SUFFIX)))
_NAME: Final = re.compile(rf"(.+)\.[0-9a-f]{{16}}(?:{_SUFFIXES})", re.DOTALL)

#: The sizes and paths of the last parts that a storage has written or read, which may be linked.
Recent = deque[tuple[int, str]]


class PartFiles:
    """The parts of one document. On leaving it, parts that the document does not refer to are removed.

    Args:
        folder: The document's folder.
        name: The document's name.
        synced: Whether the parts must be on the disk before the document.
        recent: Takes the parts, and has those of other documents; an equal one is linked instead of written.
        files: Makes the parts.
    """

    __slots__ = ("_files", "_folder", "_name", "_new_parts", "_old_parts", "_path", "_recent", "_synced")

    def __init__(
        self, folder: str, name: str, *, synced: bool, recent: Recent | None = None, files: Files = FILES
    ) -> None:
        self._folder = folder
        self._name = name
        self._path = f"{folder}{os.sep}{name}"
        self._synced = synced
        self._files = files
        self._new_parts: list[str] = []
        self._recent: Recent = deque() if recent is None else recent

    def __enter__(self) -> "PartFiles":
        self._old_parts = self.referenced() if os.access(self._path, os.F_OK) else None  # sooner than lexists
        return self

    def __exit__(self, *raised: object) -> None:
        if self._new_parts or self._old_parts:
            referenced = self.referenced()
            if referenced is not None:  # None: an unreadable document may need any of them
                remove(self._folder, {*self._new_parts, *(self._old_parts or ())} - referenced)

    def put(self, raw: Raw) -> Blob:
        """Writes a part; see dotflow.codec.parts."""
        name = new_part_name(self._stem, raw.suffix)
        self._new_parts.append(name)
        data = raw.copy()
        equal = (path for size, path in tuple(self._recent) if size == len(data))
        if any(self._files.link_equal(path, self._folder, name, data, synced=self._synced) for path in equal):
            checksum = sha256(data).hexdigest()
        else:
            checksum = self._files.write_new(self._folder, name, data, synced=self._synced)
        self._recent.append((len(data), f"{self._folder}{os.sep}{name}"))
        return Blob(name, len(data), checksum)

    @property
    def _stem(self) -> str:
        return os.path.splitext(self._name)[0]

    def sync(self) -> None:
        """Waits until the entries of the parts are on the disk, which may otherwise keep the document's alone."""
        if self._new_parts and self._synced:
            sync_folder(self._folder)

    def fetch(self, part: Blob, before: int) -> bytes | None:
        """Reads a part, if it is beside the document; see dotflow.codec.parts."""
        if stem_of(part.name) != self._stem or os.sep in part.name:
            return None
        path = f"{self._folder}{os.sep}{part.name}"
        try:
            with open(path, "rb", buffering=0, opener=open_plain) as file:
                self._recent.append((part.size, path))
                return file.read() if os.fstat(file.fileno()).st_size == part.size else b""
        except FileNotFoundError:
            return None

    def referenced(self) -> set[str] | None:
        """Returns the parts that the document refers to, an empty set without one; None if it can't be read."""
        try:
            return {name for name in parts_in(Path(self._path)) if stem_of(name) == self._stem}
        except (FileNotFoundError, NotADirectoryError):
            return set()
        except (OSError, CheckpointUnreadable):
            return None


def new_part_name(stem: str, suffix: str) -> str:
    """Returns a unique name for a part."""
    return f"{stem}.{os.urandom(8).hex()}{suffix}"


def stem_of(name: str) -> str | None:
    """Returns the name of a part's document without its suffix; None if *name* is not that of a part."""
    match = _NAME.fullmatch(name)
    return match and match[1]


def remove(folder: str, names: Iterable[str]) -> None:
    """Removes parts. The next run tries again those that can't be removed."""
    for name in names:
        with contextlib.suppress(OSError):
            os.unlink(f"{folder}{os.sep}{name}")


def remove_orphans(folder: str, names: Iterable[str], suffix: str) -> None:
    """Removes the parts that no document refers to, left by a killed process.

    Args:
        folder: The folder.
        names: The names of all files in it.
        suffix: The suffix of documents.
    """
    parts: dict[str, set[str]] = {}
    for name in names:
        stem = stem_of(name)
        if stem is not None:
            parts.setdefault(stem, set()).add(name)
    for stem, present in parts.items():
        referenced = PartFiles(folder, stem + suffix, synced=False).referenced()
        if referenced is not None:
            remove(folder, present - referenced)
