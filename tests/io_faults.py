"""Faults of system calls: the nth call on files under a folder fails, once or from then on.

It needs no compiler. The calls of `os` and `fcntl` are replaced, which reaches dotflow and filelock. Those of SQLite
are replaced through its own interface for such tests, xSetSystemCall (sqlite.org/c3ref/vfs.html), in the library that
Python's sqlite3 uses. SQLite's fsync has no place there. Linux only: descriptors are looked up in /proc.
"""

import ctypes
import errno
import fcntl
import os
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_int, c_int64, c_size_t, c_void_p
from pathlib import Path
from typing import Any, Final, NamedTuple

PATH_CALLS: Final = ("open", "mkdir", "rename", "replace", "unlink", "rmdir")
#: Calls of Python, of which the first argument is the path or the descriptor.
CALLS: Final = {os: (*PATH_CALLS, "write", "fsync", "close", "ftruncate"), fcntl: ("flock", "lockf", "fcntl")}

_SIZE, _OFFSET = c_size_t, c_int64
#: SQLite's calls: the name, the result, the arguments. A path is a c_char_p.
SQLITE_CALLS: Final = {
    "open": (c_int, c_char_p, c_int, c_int),
    "close": (c_int, c_int),
    "fcntl": (c_int, c_int, c_int, c_void_p),
    "ftruncate": (c_int, c_int, _OFFSET),
    "pread": (c_int64, c_int, c_void_p, _SIZE, _OFFSET),
    "pread64": (c_int64, c_int, c_void_p, _SIZE, _OFFSET),
    "pwrite": (c_int64, c_int, c_void_p, _SIZE, _OFFSET),
    "pwrite64": (c_int64, c_int, c_void_p, _SIZE, _OFFSET),
    "mmap": (c_void_p, c_void_p, _SIZE, c_int, c_int, c_int, _OFFSET),
    "unlink": (c_int, c_char_p),
}
MAP_FAILED: Final = ctypes.c_void_p(-1).value


class Call(NamedTuple):
    """A call that was made: who made it, its name, and the file."""

    caller: str  # "os", "fcntl" or "sqlite"
    name: str
    path: str  # relative to the folder
    detail: str = ""  # of a lock: what is asked for

    def __str__(self) -> str:
        return f"{self.caller}.{self.name}({self.path}{self.detail and f', {self.detail}'})"


class Faults:
    """Makes calls on the files of a folder fail.

    Args:
        folder: The folder.
        number: The errno.
        nth: The number of the first call that fails, from 0; None for none.
        count: How many calls fail from there on; None for all.
        matches: Which calls count.
        is_done: Whether a failing `close` or unlock has its effect all the same, as a `close` with EINTR has.

    Attributes:
        calls: The calls that counted, in order.
        failed: Those that failed.
    """

    def __init__(
        self,
        folder: Path,
        number: int = errno.EIO,
        nth: int | None = None,
        count: int | None = 1,
        matches: Callable[[Call], bool] = lambda call: True,
        *,
        is_done: bool = True,
    ) -> None:
        self.calls: list[Call] = []
        self.failed: list[Call] = []
        self._folder = os.path.realpath(folder)
        self._errno = number
        self._first = sys.maxsize if nth is None else nth
        self._end = sys.maxsize if count is None else self._first + count
        self._matches = matches
        self._is_done = is_done

    def fails(self, caller: str, name: str, target: Any, detail: str = "") -> bool:
        """Counts a call on a path or a descriptor, and returns whether it fails."""
        path = self._path(target)
        if path is None:
            return False
        call = Call(caller, name, path, detail)
        if not self._matches(call):
            return False
        self.calls.append(call)
        if not self._first <= len(self.calls) - 1 < self._end:
            return False
        self.failed.append(call)
        return True

    def _path(self, target: Any) -> str | None:
        if hasattr(target, "fileno"):
            target = target.fileno()
        if isinstance(target, int):
            try:
                target = os.readlink(f"/proc/self/fd/{target}")  # noqa: PTH115 (a name such as "x (deleted)" is no path)
            except OSError:
                return None
        path = os.path.abspath(os.fsdecode(target))  # noqa: PTH100 (as the caller wrote it: links are not followed)
        if path != self._folder and not path.startswith(self._folder + os.sep):
            return None
        return os.path.relpath(path, self._folder)

    @contextmanager
    def injected(self) -> Iterator["Faults"]:
        """Replaces the calls."""
        undo: list[Callable[[], object]] = []
        try:
            for module, names in CALLS.items():
                self._replace(module, names, undo)
            self._replace_in_sqlite(undo)
            yield self
        finally:
            for step in reversed(undo):
                step()

    def _replace(self, module: Any, names: tuple[str, ...], undo: list[Callable[[], object]]) -> None:
        for name in names:
            real = getattr(module, name)

            def call(target: Any, *arguments: Any, _real: Any = real, _name: str = name, **more: Any) -> Any:
                if more.get("dir_fd") is None and self.fails(module.__name__, _name, target, _detail(_name, arguments)):
                    if self._is_done and _name == "close":
                        _real(target)
                    raise OSError(self._errno, os.strerror(self._errno), *([target] if _name in PATH_CALLS else []))
                return _real(target, *arguments, **more)

            setattr(module, name, call)
            undo.append(lambda module=module, name=name, real=real: setattr(module, name, real))  # type: ignore[misc]

    def _replace_in_sqlite(self, undo: list[Callable[[], object]]) -> None:
        vfs = find_vfs()
        assert vfs is not None
        for name, (result, *arguments) in SQLITE_CALLS.items():
            address = vfs.contents.get_system_call(vfs, name.encode())
            if not address:
                continue
            kind = CFUNCTYPE(result, *arguments, use_errno=True)
            real = kind(address)
            index = 4 if name == "mmap" else 0

            def call(*given: Any, _real: Any = real, _name: str = name, _index: int = index) -> Any:
                detail = _lock_detail(given) if _name == "fcntl" else ""
                if self.fails("sqlite", _name, given[_index], detail):
                    if self._is_done and _name == "close":
                        _real(*given)
                    ctypes.set_errno(self._errno)
                    return MAP_FAILED if _name == "mmap" else -1
                return _real(*given)

            replacement = kind(call)
            vfs.contents.set_system_call(vfs, name.encode(), ctypes.cast(replacement, c_void_p))
            _alive.append(replacement)  # a thread may be about to call it

            def restore(name: str = name, address: int = address) -> None:
                vfs.contents.set_system_call(vfs, name.encode(), address)

            undo.append(restore)


_alive: Final[list[Any]] = []


class _VFS(ctypes.Structure):
    """`struct sqlite3_vfs`, version 3."""


_VFS_POINTER = POINTER(_VFS)
_VFS._fields_ = [
    ("version", c_int),
    ("file_size", c_int),
    ("max_path", c_int),
    ("next", c_void_p),
    ("name", c_char_p),
    ("data", c_void_p),
    *((f"method{number}", c_void_p) for number in range(13)),  # xOpen ... xCurrentTimeInt64
    ("set_system_call", CFUNCTYPE(c_int, _VFS_POINTER, c_char_p, c_void_p)),
    ("get_system_call", CFUNCTYPE(c_void_p, _VFS_POINTER, c_char_p)),
    ("next_system_call", c_void_p),
]


def find_vfs() -> Any:
    """Returns SQLite's interface to the system; None where Python does not show it, or it has no such calls."""
    import _sqlite3

    try:
        find = ctypes.CDLL(_sqlite3.__file__).sqlite3_vfs_find
    except (AttributeError, OSError):
        return None
    find.restype, find.argtypes = _VFS_POINTER, [c_char_p]
    vfs = find(b"unix")
    return vfs if vfs and vfs.contents.version >= 3 else None


def _detail(name: str, arguments: tuple[Any, ...]) -> str:
    if name in ("flock", "lockf"):
        return "unlock" if arguments[0] & fcntl.LOCK_UN else "lock"
    return ""


class _Flock(ctypes.Structure):
    _fields_ = [("kind", ctypes.c_short), ("whence", ctypes.c_short), ("start", _OFFSET), ("length", _OFFSET)]


def _lock_detail(given: tuple[Any, ...]) -> str:
    if given[1] not in (fcntl.F_SETLK, fcntl.F_SETLKW):
        return "other"
    lock = ctypes.cast(given[2], POINTER(_Flock)).contents
    return f"{'unlock' if lock.kind == fcntl.F_UNLCK else 'lock'} {lock.start}"


if __name__ == "__main__":
    print(sqlite3.sqlite_version, find_vfs())
