"""A disk whose power can be cut: what was not synced may be lost, in every way that POSIX allows.

The operations are real, in a real folder, and recorded. `states` makes the folders that a machine may find after a
power cut. Each change of a folder that was not synced is there or not, independently of the others. A file that was not
synced is empty, torn or whole.
"""

import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest


@dataclass
class File:
    """What is in a file, as the processes see it, and how much of it is on the disk for sure."""

    content: bytes = b""
    synced: bytes = b""

    def may_be(self) -> list[bytes]:
        """The possible contents after a power cut."""
        if self.content == self.synced:
            return [self.content]
        torn = self.content[: len(self.content) // 2]
        return [self.synced, torn, self.content]


@dataclass
class Folder:
    """A folder's entries on the disk, and the changes of it that are still on their way."""

    entries: dict[str, "File | Folder"] = field(default_factory=dict)
    pending: list[tuple[str, str, Any]] = field(default_factory=list)

    def now(self) -> dict[str, "File | Folder"]:
        """What the processes see."""
        return changed(self.entries, self.pending)

    def may_be(self) -> Iterator[dict[str, "File | Folder"]]:
        """The possible contents after a power cut."""
        for kept in itertools.product((True, False), repeat=len(self.pending)):
            yield changed(self.entries, [change for change, is_kept in zip(self.pending, kept, strict=True) if is_kept])


def changed(entries: dict[str, Any], changes: list[tuple[str, str, Any]]) -> dict[str, Any]:
    found = dict(entries)
    for kind, name, what in changes:
        if kind == "put":
            found[name] = what
        elif kind == "drop":
            found.pop(name, None)
        else:  # a rename: the old name goes and the new one comes, at once
            old, moved = what
            found.pop(old, None)
            found[name] = moved
    return found


class Disk:
    """Records the operations under one folder.

    Args:
        root: The folder.
        monkeypatch: Replaces functions of `os` by recording ones.

    Attributes:
        after_each: Called after each change, to check what a power cut would leave.
    """

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.top = Folder()
        self.after_each: Callable[[], None] = lambda: None
        self._descriptors: dict[int, File | Folder] = {}
        self._real: dict[str, Callable[..., Any]] = {}
        for name in ("open", "write", "fsync", "close", "replace", "rename", "unlink", "mkdir", "rmdir"):
            self._real[name] = getattr(os, name)
            monkeypatch.setattr(os, name, getattr(self, f"on_{name}"))

    def states(self, scratch: Path) -> Iterator[Path]:
        """Yields each folder that a power cut at this moment may leave. The next one replaces it."""
        for number, tree in enumerate(_trees(self.top)):
            place = scratch / str(number)
            self._make(tree, place)
            yield place
            for folder, _, names in os.walk(place, topdown=False):
                for name in names:
                    self._real["unlink"](Path(folder, name))
                self._real["rmdir"](folder)

    def _make(self, tree: dict[str, Any], place: Path) -> None:
        self._real["mkdir"](place)
        for name, found in tree.items():
            if isinstance(found, dict):
                self._make(found, place / name)
            else:
                descriptor = self._real["open"](place / name, os.O_WRONLY | os.O_CREAT)
                self._real["write"](descriptor, found)
                self._real["close"](descriptor)

    def _folder_of(self, path: str) -> Folder | None:
        """The folder that a path's last part is in; None for what is not under the root."""
        place = Path(path).absolute()
        if place == self.root or not place.is_relative_to(self.root):
            return None
        return self._walk(place.parent)

    def _walk(self, place: Path) -> Folder:
        found: File | Folder = self.top
        for part in place.relative_to(self.root).parts:
            assert isinstance(found, Folder)
            found = found.now()[part]
        assert isinstance(found, Folder)
        return found

    def _change(self, path: str, kind: str, what: object = None) -> None:
        folder = self._folder_of(path)
        if folder is not None:
            folder.pending.append((kind, Path(path).name, what))
            self.after_each()

    def on_open(self, path: Any, flags: int, mode: int = 0o777, **more: Any) -> int:
        descriptor: int = self._real["open"](path, flags, mode, **more)
        if isinstance(path, str) and Path(path).absolute().is_relative_to(self.root):
            if flags & os.O_CREAT:
                assert flags & os.O_EXCL, "a file that may be there already is opened for writing"
                self._descriptors[descriptor] = file = File()
                self._change(path, "put", file)
            elif Path(path).is_dir():
                self._descriptors[descriptor] = self._walk(Path(path))
        return descriptor

    def on_write(self, descriptor: int, data: Any) -> int:
        written: int = self._real["write"](descriptor, data)
        found = self._descriptors.get(descriptor)
        if isinstance(found, File):
            found.content += bytes(data[:written])
            self.after_each()
        return written

    def on_fsync(self, descriptor: int) -> None:
        found = self._descriptors.get(descriptor)
        if isinstance(found, File):
            found.synced = found.content
        elif found is not None:
            found.entries, found.pending = found.now(), []
        self.after_each()

    def on_close(self, descriptor: int) -> None:
        self._descriptors.pop(descriptor, None)
        self._real["close"](descriptor)

    def on_rename(self, old: str, new: str) -> None:
        self._real["rename"](old, new)
        here, there = self._folder_of(old), self._folder_of(new)
        assert here is there, "a rename between two folders is not understood"
        if here is not None:
            self._change(new, "rename", (Path(old).name, here.now()[Path(old).name]))

    on_replace = on_rename

    def on_unlink(self, path: str, **more: Any) -> None:
        self._real["unlink"](path, **more)
        self._change(path, "drop")

    def on_mkdir(self, path: str, *rest: Any) -> None:
        self._real["mkdir"](path, *rest)
        self._change(path, "put", Folder())

    def on_rmdir(self, path: str) -> None:
        self._real["rmdir"](path)
        self._change(path, "drop")


def _trees(folder: Folder) -> Iterator[dict[str, Any]]:
    """Whatever may become of a folder with all that is in it; no state twice."""
    seen = set()
    for entries in folder.may_be():
        choices = [list(_trees(found)) if isinstance(found, Folder) else found.may_be() for found in entries.values()]
        for chosen in itertools.product(*choices):
            tree = dict(zip(entries, chosen, strict=True))
            if repr(sorted(tree.items())) not in seen:
                seen.add(repr(sorted(tree.items())))
                yield tree
