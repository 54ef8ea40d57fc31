"""Large values of a checkpoint in files of their own beside its document: `3.5f0c9a2104e7d8b1.bin` beside `3.json`.

They are written first, and removed last. Which of them count, the document says.
"""

import contextlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from dotflow.codec.document import parts_in
from dotflow.codec.parts import BYTES_SUFFIX, STREAM_SUFFIX, Part, Raw
from dotflow.errors import CheckpointUnreadable
from dotflow.providers.storages.atomic_file import sync_folder, write_new

_NAME: Final = re.compile(rf"(.+)\.[0-9a-f]{{16}}(?:{re.escape(BYTES_SUFFIX)}|{re.escape(STREAM_SUFFIX)})", re.DOTALL)


class PartFiles:
    """The parts of one document. Within it the document may be written or removed; what no longer counts goes then.

    Args:
        folder: The folder of the document.
        name: The document's name.
        synced: Whether they have to be on the disk before the document is.
    """

    __slots__ = ("_folder", "_name", "_new_parts", "_old_parts", "_path", "_synced")

    def __init__(self, folder: str, name: str, *, synced: bool) -> None:
        self._folder = folder
        self._name = name
        self._path = f"{folder}{os.sep}{name}"
        self._synced = synced
        self._new_parts: list[str] = []

    def __enter__(self) -> "PartFiles":
        self._old_parts = self.referenced() if os.path.lexists(self._path) else None
        return self

    def __exit__(self, *raised: object) -> None:
        if self._new_parts or self._old_parts:
            referenced = self.referenced()
            if referenced is not None:  # else nobody can tell what the document needs
                remove(self._folder, {*self._new_parts, *(self._old_parts or ())} - referenced)

    def put(self, raw: Raw) -> Part:
        """Writes a part, as dotflow.codec.parts says."""
        name = new_part_name(self._stem, raw.suffix)
        self._new_parts.append(name)
        return Part(name, raw.data.nbytes, write_new(self._folder, name, raw.copy(), synced=self._synced))

    @property
    def _stem(self) -> str:
        return os.path.splitext(self._name)[0]

    def sync(self) -> None:
        """Waits until the names of the parts are on the disk: a disk may keep the document's name and lose theirs."""
        if self._new_parts and self._synced:
            sync_folder(self._folder)

    def fetch(self, part: Part, before: int) -> bytes | None:
        """Reads a part, as dotflow.codec.parts says. No file is opened that is not beside the document."""
        if stem_of(part.name) != self._stem or os.sep in part.name:
            return None
        try:
            with open(f"{self._folder}{os.sep}{part.name}", "rb", buffering=0) as file:
                return file.read() if os.fstat(file.fileno()).st_size == part.size else b""
        except FileNotFoundError:
            return None

    def referenced(self) -> set[str] | None:
        """The parts that the document names; none where there is no document, None where it can't be read."""
        try:
            return {name for name in parts_in(Path(self._path)) if stem_of(name) == self._stem}
        except (FileNotFoundError, NotADirectoryError):
            return set()
        except (OSError, CheckpointUnreadable):
            return None


def new_part_name(stem: str, suffix: str) -> str:
    """A name that no part had before."""
    return f"{stem}.{os.urandom(8).hex()}{suffix}"


def stem_of(name: str) -> str | None:
    """The document that a part belongs to, without its suffix; None if it is not the name of a part."""
    match = _NAME.fullmatch(name)
    return match and match[1]


def remove(folder: str, names: Iterable[str]) -> None:
    """Removes parts. What can't be removed stays until the next run looks."""
    for name in names:
        with contextlib.suppress(OSError):
            os.unlink(f"{folder}{os.sep}{name}")


def remove_orphans(folder: str, names: Iterable[str], suffix: str) -> None:
    """Removes the parts that no document names: a process was killed before it wrote the document, or after.

    Args:
        folder: The folder.
        names: What is in it.
        suffix: How the names of documents end.
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
