"""Files that are there as a whole or not at all, whatever happens while they are written."""

import contextlib
import itertools
import os
import sys
import threading
from hashlib import sha256
from typing import Final

PARTIAL_SUFFIX: Final = ".tmp"  # how the name of a file ends while it is being written
CREATE_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)

_counter: Final = itertools.count()


def write_atomic(folder: str, name: str, data: bytes, *, synced: bool) -> None:
    """Puts *data* into *folder* as *name*, in place of what was there; makes the folder if need be.

    Written beside, and renamed. Where it raises, what was there before is still there, and nothing else is.

    Args:
        folder: The folder's path.
        name: The file's name.
        data: All of it.
        synced: Whether it has reached the disk when this returns, the folder's entry too, so that a power cut can't
            undo it. Otherwise it outlives the process, but perhaps not the system.
    """
    partial = f"{folder}{os.sep}.{name}.{os.getpid()}.{next(_counter)}{PARTIAL_SUFFIX}"
    try:
        _write(partial, folder, data, synced=synced)
        os.replace(partial, f"{folder}{os.sep}{name}")
    except BaseException:  # Ctrl-C too: half a file is of no use to anybody
        with contextlib.suppress(OSError):
            os.unlink(partial)
        raise
    if synced:
        sync_folder(folder)


def write_new(folder: str, name: str, data: bytes | memoryview, *, synced: bool) -> str:
    """Puts large *data* into *folder* as *name*, where nothing is yet; makes the folder if need be. Its SHA-256.

    The file is there while it is written. Where this raises, it is not there.

    Args:
        folder: The folder's path.
        name: The file's name.
        data: All of it.
        synced: Whether it has reached the disk when this returns. The folder's entry may not have.
    """
    path = f"{folder}{os.sep}{name}"
    digest = sha256()
    hashing = threading.Thread(target=digest.update, args=(data,), name="dotflow checksum", daemon=True)
    hashing.start()  # it takes as long as the disk, and neither needs Python meanwhile
    try:
        _write(path, folder, data, synced=synced)
    except BaseException:  # Ctrl-C too: half a file is of no use to anybody
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise
    finally:
        hashing.join()
    return digest.hexdigest()


def _write(path: str, folder: str, data: bytes | memoryview, *, synced: bool) -> None:
    descriptor = _open_new(path, folder, synced=synced)
    try:
        written = os.write(descriptor, data)
        while written < len(data):  # Linux writes no more than 2 GiB at once, and a full disk what still fits
            written += os.write(descriptor, memoryview(data)[written:])
        if synced:
            sync(descriptor)
    finally:
        os.close(descriptor)


def _open_new(path: str, folder: str, *, synced: bool) -> int:
    try:
        return os.open(path, CREATE_FLAGS, 0o666)
    except FileNotFoundError:
        make_folder(folder, synced=synced)
        return os.open(path, CREATE_FLAGS, 0o666)


def make_folder(folder: str, *, synced: bool) -> None:
    """Makes a folder, and those that it stands in, as far as they are missing."""
    parent = os.path.dirname(folder)
    if parent and not os.path.isdir(parent):
        make_folder(parent, synced=synced)
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder)
    if synced:
        sync_folder(parent or os.curdir)


def sync(descriptor: int) -> None:
    """Waits until what was written through *descriptor* is on the disk."""
    if sys.platform == "darwin":
        import fcntl

        # There fsync leaves it in the disk's own cache: developer.apple.com, "Reducing Disk Writes".
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fsync(descriptor)


def sync_folder(folder: str) -> None:
    """Waits until the folder's entries are on the disk: what was renamed into it is then found there."""
    if os.name == "nt":  # there a folder can't be opened, and NTFS keeps its entries in a journal
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
