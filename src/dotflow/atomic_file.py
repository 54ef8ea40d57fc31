"""Files: those that dotflow makes are there as a whole or not at all, and only for those whom a umask permits."""

import contextlib
import errno
import functools
import itertools
import os
import re
import stat
import sys
import threading
from collections import deque
from hashlib import sha256
from typing import Final

PARTIAL_SUFFIX: Final = ".tmp"  # of a file that is being written
COMPARED: Final = 1 << 20  # bytes that link_equal compares at once
NONBLOCK: Final = getattr(os, "O_NONBLOCK", 0)
BINARY: Final = getattr(os, "O_BINARY", 0)

UMASK_VARIABLE: Final = "DOTFLOW_UMASK"
UMASK: Final = "an octal number of up to 077, such as 007"  # what the variable and the arguments take
OWNER_ONLY: Final = 0o077  # the umask without both
STREAMS: Final = ("/dev/stdout", "/dev/stderr", "/dev/fd/", "/proc/self/fd/")  # links by nature, or that logs link to

#: Lines for the log about files and folders of ours that were too open.
tightened: Final[deque[str]] = deque(maxlen=100)

_counter: Final = itertools.count()


class NotPrivate(PermissionError):
    """A file or folder that dotflow does not write to, since another user could have made it."""


class Files:
    """The files and folders that dotflow makes, and who may read and write them.

    Args:
        umask: The permissions that they do not have, in octal. None for those of DOTFLOW_UMASK, or 077 without it.
    """

    def __init__(self, umask: str | None = None) -> None:
        self._umask = umask
        self._source = UMASK_VARIABLE if umask is None else "the argument umask"

    @functools.cached_property  # looking up a variable takes longer than making a file
    def umask(self) -> int:
        """The permissions that they do not have. Raises ValueError for a DOTFLOW_UMASK that a Config refuses."""
        text = self._umask or os.environ.get(UMASK_VARIABLE)
        if not text:
            return OWNER_ONLY
        if not is_umask(text):
            raise ValueError(f"{UMASK_VARIABLE} is not {UMASK}: {text!r}")
        return int(text, 8)

    def write_atomic(self, folder: str, name: str, data: bytes, *, synced: bool) -> None:
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
            self._write(partial, folder, data, synced=synced)
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

    def write_new(self, folder: str, name: str, data: bytes | memoryview, *, synced: bool) -> str:
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
            self._write(path, folder, data, synced=synced)
        except BaseException as error:  # Ctrl-C too
            _undo(path, error, path)
            raise
        finally:
            hashing.join()
        return digest.hexdigest()

    def link_equal(self, source: str, folder: str, name: str, data: bytes | memoryview, *, synced: bool) -> bool:
        """Gives a file that holds *data* a second name, and returns True. Makes the folder if it is missing.

        The content stays until both names are deleted. It returns False if the file has another content or is gone,
        or if the system can't link there: other devices, and file systems without hard links.

        Args:
            source: The file's path. Nothing may change the file later.
            folder: The folder of the second name.
            name: The second name.
            data: The content.
            synced: Whether to wait until the file is on the disk. Its entry in the folder may not be.
        """
        path = f"{folder}{os.sep}{name}"
        try:
            with open(source, "rb", buffering=0, opener=open_plain) as file:
                for start in range(0, len(data), COMPARED):
                    if file.read(COMPARED) != bytes(data[start : start + COMPARED]):
                        return False
                if file.read(1):
                    return False
                try:
                    os.link(source, path)
                except FileNotFoundError:
                    self.make_folder(folder, synced=synced)
                    os.link(source, path)
                if synced:
                    sync(file.fileno())
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(path)
            return False
        return True

    def make_folder(self, folder: str, *, synced: bool) -> None:
        """Makes a folder and its missing parents."""
        parent = os.path.dirname(folder)
        if parent and not os.path.isdir(parent):
            self.make_folder(parent, synced=synced)
        mode = 0o777 & ~self.umask
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, mode)
            if mode & OWNER_ONLY:  # the umask of the process may have taken away more; what a parent passes on stays
                _change_mode(folder, os.stat(folder).st_mode & 0o7000 | mode)
        if synced:
            sync_folder(parent or os.curdir)

    def create(self, path: str, flags: int = os.O_WRONLY | BINARY) -> int:
        """Makes a file, and opens it. Raises FileExistsError for a link, too."""
        mode = 0o666 & ~self.umask
        descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, mode)
        if mode & OWNER_ONLY:  # the umask of the process may have taken away more
            _change_mode(path, mode)
        return descriptor

    def open_private(self, path: str, flags: int) -> int:
        """Opens a file that dotflow writes to, or makes it. Raises NotPrivate as `check_private` does."""
        new = path
        while True:  # another process may rename or make it meanwhile
            with contextlib.suppress(FileExistsError):
                return self.create(new, flags)
            self.check_private(path)
            is_link = os.path.islink(path)
            new = os.path.realpath(path) if is_link else path
            with contextlib.suppress(FileNotFoundError):  # a link may lead to a file that is to be made
                return os.open(path, flags if is_link else flags | getattr(os, "O_NOFOLLOW", 0))

    def check_private(self, path: str, *, is_named: bool = False) -> None:
        """Checks what dotflow is about to write to. Permissions that the umask does not give are taken away.

        Args:
            path: The file or folder. It may be missing.
            is_named: Whether the user chose this folder. It keeps its permissions, and may be a link.

        Raises:
            NotPrivate: It belongs to another user, or is a link to a folder or out of its own folder.
        """
        try:
            status = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return
        if path.startswith(STREAMS):
            return
        is_link = stat.S_ISLNK(status.st_mode)
        if not (is_link and is_named) or _may_be_planted(path):  # a deployment may set links as a user of its own
            self._check_owner(path, status)
        if is_link:
            if os.readlink(path).startswith(STREAMS):
                return
            if not is_named and _leads_out(path):
                raise NotPrivate(
                    errno.EPERM, "it is a link out of its folder, or to a folder, which is not followed", path
                )
            if os.path.exists(path):  # neither dangling nor a circle
                status = os.stat(path)
                self._check_owner(path, status)
        before = stat.S_IMODE(status.st_mode)
        after = before & ~self.umask
        is_ours = status.st_uid == _user() and (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode))
        if before != after and is_ours and not is_named and os.name != "nt" and _change_mode(path, after):
            tightened.append(
                f"The permissions of {path} were {before:04o} and are {after:04o} now. {self._source} can share it."
            )

    def _check_owner(self, path: str, status: os.stat_result) -> None:
        """Raises NotPrivate unless this user or root owns the file, or a user whom the umask lets write to ours."""
        if status.st_uid in (_user(), 0):
            return
        mask = self.umask
        if not mask & stat.S_IWOTH or (not mask & stat.S_IWGRP and status.st_gid in (os.getegid(), *os.getgroups())):
            return
        if _user() or _may_be_planted(path):
            raise NotPrivate(
                errno.EPERM, f"it belongs to user {status.st_uid}, and {self._source} does not share it", path
            )

    def _write(self, path: str, folder: str, data: bytes | memoryview, *, synced: bool) -> None:
        try:
            descriptor = self.create(path)
        except FileNotFoundError:
            self.make_folder(folder, synced=synced)
            descriptor = self.create(path)
        try:
            written = os.write(descriptor, data)
            while written < len(data):  # Linux writes up to 2 GiB at once, a full disk what fits
                written += os.write(descriptor, memoryview(data)[written:])
            if synced:
                sync(descriptor)
        finally:
            close(descriptor)


#: The files without a umask of their own.
FILES: Final = Files()


def is_umask(value: object) -> bool:
    """Returns whether a value is the text of a umask that leaves all permissions to the owner, or None."""
    return value is None or (isinstance(value, str) and re.fullmatch("0*[0-7]{1,2}", value) is not None)


def close(descriptor: int) -> None:
    """Closes a file. A call that is interrupted has closed it all the same: close(2)."""
    try:  # noqa: SIM105 (for each checkpoint)
        os.close(descriptor)
    except InterruptedError:
        pass


def open_plain(path: str, flags: int = os.O_RDONLY) -> int:
    """Opens a file that another person may have made; `open` takes this as its opener.

    Raises OSError for what is no file: opening a FIFO waits for its other end, and a device may never end.
    """
    return _open_plain(path, flags)[0]


def read_plain(path: str) -> bytes:
    """Returns the content of a file that another person may have made. Raises OSError as `open_plain` does."""
    descriptor, size = _open_plain(path, os.O_RDONLY | BINARY)
    try:
        data = os.read(descriptor, size + 1)
        if len(data) == size:
            return data
        chunks = [data]  # it grows, or the system reads less at once
        while data:
            data = os.read(descriptor, COMPARED)
            chunks.append(data)
        return b"".join(chunks)
    finally:
        close(descriptor)


def _open_plain(path: str, flags: int) -> tuple[int, int]:
    """Returns the descriptor and the file's size."""
    descriptor = os.open(path, flags | NONBLOCK)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        is_folder = stat.S_ISDIR(status.st_mode)
        number, cause = (errno.EISDIR, "it is a folder") if is_folder else (errno.EINVAL, "it is no file")
        raise OSError(number, cause, path)
    return descriptor, status.st_size


def _undo(written: str, error: BaseException, path: str) -> None:
    """Removes what was written. Raises an OSError with the path: that of a write has none."""
    with contextlib.suppress(OSError):
        os.unlink(written)
    if isinstance(error, OSError) and error.errno:
        raise OSError(error.errno, error.strerror, path) from error


def _change_mode(path: str, mode: int) -> bool:
    """Returns whether the permissions are these now: some file systems have none."""
    with contextlib.suppress(OSError):
        os.chmod(path, mode)
    return stat.S_IMODE(os.stat(path).st_mode) == mode


def _leads_out(link: str) -> bool:
    """Returns whether a link leads to a folder, or to a file in another folder. Devices and pipes are in none."""
    target = os.path.realpath(link)
    if os.path.lexists(target) and not os.path.isfile(target):
        return os.path.isdir(target)
    return os.path.dirname(target) != os.path.realpath(os.path.dirname(link))


def _user() -> int:
    return getattr(os, "geteuid", int)()  # 0 on Windows, which has no such owners


def _may_be_planted(path: str) -> bool:
    """Returns whether any user could have made this, for root, who may work in a home or a mounted volume."""
    folder = os.path.realpath(os.path.dirname(path))
    while (status := os.stat(folder)).st_uid and folder != os.path.dirname(folder):
        folder = os.path.dirname(folder)
    return bool(status.st_mode & stat.S_IWOTH)


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
        try:  # noqa: SIM105 (for each checkpoint)
            os.close(descriptor)
        except OSError:  # nothing was written through it
            pass
