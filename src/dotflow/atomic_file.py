"""Atomic writes: a file is there as a whole or not at all."""

import contextlib
import errno
import itertools
import os
import sys
import threading
from hashlib import sha256
from typing import Final

PARTIAL_SUFFIX: Final = ".tmp"  # of a file that is being written
COMPARED: Final = 1 << 20  # bytes that link_equal compares at once
CREATE_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)

_counter: Final = itertools.count()


def write_atomic(folder: str, name: str, data: bytes, *, synced: bool) -> None:
    """Writes a file and replaces an earlier one. Makes the folder if it is missing.

    The data is written to a temporary file, which is renamed. After an exception, the earlier file is unchanged; if
    the folder could not be synced, neither file is there. An OSError has the path of the file.

    Args:
        folder: The folder's path.
        name: The file's name.
        data: The content.
        synced: Whether to wait until file and folder are on the disk. Otherwise a power cut may undo the write.
    """
    partial = f"{folder}{os.sep}.{name}.{os.getpid()}.{next(_counter)}{PARTIAL_SUFFIX}"
    path = f"{folder}{os.sep}{name}"
    try:
        _write(partial, folder, data, synced=synced)
        os.replace(partial, path)
    except BaseException as error:  # Ctrl-C too
        _undo(partial, error, path)
        raise
    if synced:
        try:
            sync_folder(folder)
        except OSError as error:  # for the caller nothing was written, so no reader may find it
            _undo(path, error, path)
            raise


def write_new(folder: str, name: str, data: bytes | memoryview, *, synced: bool) -> str:
    """Writes a new, large file, and returns its SHA-256. Makes the folder if it is missing.

    The file is visible while it is written. After an exception it is gone.

    Args:
        folder: The folder's path.
        name: The file's name.
        data: The content.
        synced: Whether to wait until the file is on the disk. Its entry in the folder may not be.
    """
    path = f"{folder}{os.sep}{name}"
    digest = sha256()
    hashing = threading.Thread(target=digest.update, args=(data,), name="dotflow checksum", daemon=True)
    hashing.start()  # hashing takes as long as writing, and both release the GIL
    try:
        _write(path, folder, data, synced=synced)
    except BaseException as error:  # Ctrl-C too
        _undo(path, error, path)
        raise
    finally:
        hashing.join()
    return digest.hexdigest()


def link_equal(source: str, folder: str, name: str, data: bytes | memoryview, *, synced: bool) -> bool:
    """Gives a file that holds *data* a second name, and returns True. Makes the folder if it is missing.

    The content stays until both names are deleted. It returns False if the file has another content or is gone, or if
    the system can't link there: other devices, and file systems without hard links.

    Args:
        source: The file's path. Nothing may change the file later.
        folder: The folder of the second name.
        name: The second name.
        data: The content.
        synced: Whether to wait until the file is on the disk. Its entry in the folder may not be.
    """
    path = f"{folder}{os.sep}{name}"
    try:
        with open(source, "rb", buffering=0) as file:
            for start in range(0, len(data), COMPARED):
                if file.read(COMPARED) != bytes(data[start : start + COMPARED]):
                    return False
            if file.read(1):
                return False
            try:
                os.link(source, path)
            except FileNotFoundError:
                make_folder(folder, synced=synced)
                os.link(source, path)
            if synced:
                sync(file.fileno())
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(path)
        return False
    return True


def _undo(written: str, error: BaseException, path: str) -> None:
    """Removes what was written. Raises an OSError with the path: that of a write has none."""
    with contextlib.suppress(OSError):
        os.unlink(written)
    if isinstance(error, OSError) and error.errno:
        raise OSError(error.errno, error.strerror, path) from error


def _write(path: str, folder: str, data: bytes | memoryview, *, synced: bool) -> None:
    descriptor = _open_new(path, folder, synced=synced)
    try:
        written = os.write(descriptor, data)
        while written < len(data):  # Linux writes up to 2 GiB at once, a full disk what fits
            written += os.write(descriptor, memoryview(data)[written:])
        if synced:
            sync(descriptor)
    finally:
        with contextlib.suppress(InterruptedError):  # close(2): the descriptor is closed all the same
            os.close(descriptor)


def _open_new(path: str, folder: str, *, synced: bool) -> int:
    try:
        return os.open(path, CREATE_FLAGS, 0o666)
    except FileNotFoundError:
        make_folder(folder, synced=synced)
        return os.open(path, CREATE_FLAGS, 0o666)


def make_folder(folder: str, *, synced: bool) -> None:
    """Makes a folder and its missing parents."""
    parent = os.path.dirname(folder)
    if parent and not os.path.isdir(parent):
        make_folder(parent, synced=synced)
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder)
    if synced:
        sync_folder(parent or os.curdir)


def check_writable(path: str) -> None:
    """Raises an OSError if the file or folder can't be written to; for a missing one, if it can't be made."""
    while not os.path.lexists(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    if not os.access(path, os.W_OK):
        is_frozen = hasattr(os, "statvfs") and os.statvfs(path).f_flag & os.ST_RDONLY
        number = errno.EROFS if is_frozen else errno.EACCES
        raise OSError(number, os.strerror(number), path)


def sync(descriptor: int) -> None:
    """Waits until the file behind *descriptor* is on the disk."""
    if sys.platform == "darwin":
        import fcntl

        # On macOS, fsync leaves the data in the disk's cache: developer.apple.com, "Reducing Disk Writes".
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fsync(descriptor)


def sync_folder(folder: str) -> None:
    """Waits until the folder's entries are on the disk, renamed ones included."""
    if os.name == "nt":  # NTFS has a journal for entries, and folders can't be opened
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        with contextlib.suppress(OSError):  # nothing was written through it
            os.close(descriptor)
