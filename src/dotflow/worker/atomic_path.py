"""atomic_path: a file or folder that a step writes is there as a whole, or not at all.

The block writes in a hidden folder beside the target. The folder has a lock that ends with its process, so the next
block on the same target knows which folders were left behind, and removes them.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

from dotflow.atomic_file import sync, sync_folder
from dotflow.errors import InvalidArgument
from dotflow.worker.files import note_written

GAP: Final = 4  # numbers in a row without a folder, after which no leftover is looked for
ASIDE: Final = "old-of-atomic-path"  # in the hidden folder: the old one, where the system can't exchange two
AT_FDCWD: Final = -100  # <fcntl.h>
RENAME_EXCHANGE: Final = 2  # <linux/fs.h>
MAX_LINKS: Final = 40  # that the system follows, too
NO_EXCHANGE: Final = frozenset({errno.ENOSYS, errno.EINVAL, errno.ENOTSUP})


@contextlib.contextmanager
def atomic_path(target: str | os.PathLike[str], mode: Literal["w", "a"] = "w") -> Iterator[Path]:
    """Gives a path to write to, and replaces *target* by what is there when the block ends: as a whole, or not at all.

    The path has the target's name, in a hidden folder beside it. To write a folder, make it: `path.mkdir()`. After an
    exception, a timeout or a kill, the target is as it was. The new one is on the disk when the block has ended. It
    keeps the permissions of the old one, without setuid, setgid and sticky; where it can't keep the owner or the group,
    or was a sticky folder, others may not write to it. A link stays, and the file behind it is replaced. Of several
    writers at once, the last one to end wins. It works in steps and elsewhere, on POSIX.

    Args:
        target: The file or folder. Missing folders above it are made.
        mode: "w" begins with nothing; "a" with a copy of the target, if there is one.

    Yields:
        The path, which does not exist yet, unless it is a copy.

    Raises:
        InvalidArgument: The mode is another one, or the target has no name.
        OSError: Of the system; or the target is no file or folder, or another user's link, a SQLite journal lies beside
            it, or the block has written nothing, a link, more than the target, or a file in place of a folder or a
            folder of a file.
    """
    if mode not in ("w", "a"):
        raise InvalidArgument("mode", mode, '"w" or "a"')
    given = Path(target)
    if given.name in ("", ".."):
        raise InvalidArgument("target", os.fspath(target), "the path of a file or folder, with its name")
    with _naming(given):
        place = _resolved(os.fspath(given))
        parent, name = os.path.split(place)
        _make_folder(parent)
    old = _status(place)
    if old is not None and not (stat.S_ISREG(old.st_mode) or stat.S_ISDIR(old.st_mode)):
        raise OSError(errno.EINVAL, "it is no file or folder", str(given))
    for suffix in ("-wal", "-journal"):
        if os.access(place + suffix, os.F_OK):
            raise OSError(errno.EBUSY, f"'{name}{suffix}' lies beside it. Close the database first", str(given))
    with hidden_folder(parent, name, given) as folder:
        path = f"{folder}{os.sep}{name}"
        if mode == "a" and old is not None:
            with _naming(given):
                _copy(place, path, is_folder=stat.S_ISDIR(old.st_mode))
        yield Path(path)
        with _naming(given):
            made = _check(folder, name, given, old)
            put_in_place(path, place, made)
    sync_folder(parent)  # after the removal of the hidden folder, so that the disk writes both at once
    note_written(given)


@contextlib.contextmanager
def _naming(given: Path) -> Iterator[None]:
    """Makes an OSError name the target, as no reader knows the hidden folder."""
    try:
        yield
    except OSError as error:
        if error.errno is None and error.args and isinstance(error.args[0], list):  # of shutil: all that went wrong
            raise OSError(errno.EIO, f"{len(error.args[0])} of its files can't be copied", str(given)) from error
        raise OSError(error.errno, error.strerror, str(given)) from error


def _resolved(path: str) -> str:
    """Returns the path without links. Raises OSError for one that another user made: it leads where that user wants.

    Above the target, a user may lead the way within the user's own folders.
    """
    place, links = os.sep, 0
    parts = _parts(os.path.join(os.getcwd(), path))
    while parts:
        part = parts.pop()
        step = os.path.dirname(place) if part == ".." else os.path.join(place, part)
        status = _status(step)
        if status is None or not stat.S_ISLNK(status.st_mode):
            place = step
            continue
        if status.st_uid not in (os.geteuid(), 0) and not (parts and status.st_uid == os.lstat(place).st_uid):
            raise PermissionError(errno.EPERM, f"it is a link of user {status.st_uid}. Name the file itself", step)
        links += 1
        if links > MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        leads_to = os.readlink(step)
        place = os.sep if leads_to.startswith(os.sep) else place
        parts += _parts(leads_to)
    return place


def _parts(path: str) -> list[str]:
    """Returns the names in a path, the last one first."""
    return [part for part in reversed(path.split(os.sep)) if part not in ("", os.curdir)]


def _make_folder(folder: str) -> None:
    if not os.path.isdir(folder):
        parent = os.path.dirname(folder)
        _make_folder(parent)
        with contextlib.suppress(FileExistsError):  # another writer's
            os.mkdir(folder)
        sync_folder(parent)


def _status(path: str) -> os.stat_result | None:
    """Returns the status of what is there itself, also of a link; None where there is nothing."""
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _copy(source: str, copy: str, *, is_folder: bool) -> None:
    import shutil  # here, as most runs copy nothing

    if is_folder:
        shutil.copytree(source, copy, symlinks=True)
    else:
        shutil.copyfile(source, copy, follow_symlinks=False)


def _check(folder: str, name: str, given: Path, old: os.stat_result | None) -> os.stat_result:
    """Returns what the block has written. Raises OSError unless it is one file, or one folder, as the old one is."""
    names = os.listdir(folder)
    if name not in names:
        raise OSError(errno.ENOENT, "the block of atomic_path wrote nothing", str(given))
    made = os.lstat(f"{folder}{os.sep}{name}")
    is_folder = stat.S_ISDIR(made.st_mode)
    if not (is_folder or stat.S_ISREG(made.st_mode)):
        raise OSError(errno.EINVAL, "the block of atomic_path made a link or a pipe. Copy the file", str(given))
    if len(names) > 1:
        more = ", ".join(sorted(set(names) - {name})[:3])
        hint = "Close what still writes, such as a database, or write a folder: path.mkdir()"
        raise OSError(errno.ENOTEMPTY, f"the block of atomic_path left more: {more}. {hint}", str(given))
    if old is not None and stat.S_ISDIR(old.st_mode) != is_folder:
        number, what = (errno.ENOTDIR, "a folder, and a file") if is_folder else (errno.EISDIR, "a file, and a folder")
        raise OSError(number, f"the block of atomic_path wrote {what} is there. Remove that first", str(given))
    return made


def put_in_place(path: str, place: str, made: os.stat_result) -> None:
    """Puts what is at *path* on the disk, and in the place of the target, with its permissions."""
    old = _status(place)
    if not stat.S_ISDIR(made.st_mode):
        descriptor = os.open(path, os.O_RDONLY)  # first, as the permissions may forbid it
        try:
            _adopt(descriptor, made, old)  # before the sync: a change after it would be one more write
            sync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(path, place)
        return
    for folder, _, names in os.walk(path):
        for name in names:
            _sync_file(os.path.join(folder, name))
        sync_folder(folder)
    _adopt(path, made, old)
    if old is None:
        os.replace(path, place)
        return
    if not _exchange(path, place):
        os.rename(place, os.path.join(os.path.dirname(path), ASIDE))
        os.rename(path, place)
    sync_folder(os.path.dirname(place))  # before the removal of the old folder


def _adopt(path: str | int, made: os.stat_result, old: os.stat_result | None) -> None:
    """Gives what the block has made the owner and the permissions of the old one, as far as they differ.

    Bits such as setuid are never taken over. Others may not write where owner or group can't be, or to a folder in
    which the sticky bit kept them off the files of others.
    """
    if old is None or made[:1] + made[4:6] == old[:1] + old[4:6]:  # mode, owner and group
        return
    mode = stat.S_IMODE(old.st_mode) & 0o777
    if stat.S_ISDIR(old.st_mode) and old.st_mode & stat.S_ISVTX:
        mode &= ~(stat.S_IWOTH | stat.S_IWGRP)
    try:
        os.chown(path, old.st_uid, old.st_gid)
    except PermissionError:  # only root may give a file away
        mode &= ~stat.S_IWOTH
        try:
            os.chown(path, -1, old.st_gid)
        except PermissionError:  # the group is another one, too
            mode &= ~stat.S_IWGRP
    if stat.S_ISDIR(made.st_mode):
        mode |= made.st_mode & stat.S_ISGID  # which it has from the folder above
    os.chmod(path, mode)


def _sync_file(path: str) -> None:
    if not stat.S_ISREG(os.lstat(path).st_mode):
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def _exchange(one: str, other: str) -> bool:
    """Exchanges two entries in one step; returns False where the system or the file system can't."""
    import ctypes  # here, as few replace folders

    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):  # not Linux, or an older C library
        return False
    if renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in NO_EXCHANGE:
        return False
    raise OSError(number, os.strerror(number), other)


@contextlib.contextmanager
def hidden_folder(parent: str, name: str, given: Path) -> Iterator[str]:
    """Makes the folder that the block writes to, and removes it in the end."""
    base = os.path.join(parent, f".{name}.partial")
    number = 0
    with _naming(given):
        while (lock := _claim(folder := _numbered(base, number), parent, name)) is None:
            number += 1
        _remove_leftovers(base, number, parent, name)
    try:
        yield folder
    finally:
        try:
            with _naming(given):
                _remove(folder)
        finally:
            os.close(lock)


def _numbered(base: str, number: int) -> str:
    return f"{base}-{number}" if number else base


def _claim(folder: str, parent: str, name: str) -> int | None:
    """Makes and locks a hidden folder; returns the lock, or None if the folder is another writer's.

    A folder without a lock was left behind: it is removed first. One that can't be removed, as it is another user's,
    or where the file system has no locks, counts as that of a writer.
    """
    import fcntl

    while True:
        is_new = False
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o700)
            is_new = True
        with contextlib.ExitStack() as undo:
            try:
                lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
                undo.callback(os.close, lock)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError as error:  # a writer has it; or the file system has no locks
                    if isinstance(error, BlockingIOError) or not is_new:
                        return None
                if not os.path.samestat(os.stat(folder), os.fstat(lock)):
                    continue
                if is_new:
                    undo.pop_all()
                    return lock
                old, place = os.path.join(folder, ASIDE), os.path.join(parent, name)
                if os.path.lexists(old) and not os.path.lexists(place):  # killed between two renames
                    os.rename(old, place)
                _remove(folder)
            except FileNotFoundError:  # its writer, or one that took it for a leftover, has removed it
                continue
            except OSError:
                if is_new:
                    raise
                return None


def _remove_leftovers(base: str, number: int, parent: str, name: str) -> None:
    """Removes what killed writers have left behind the folder of this number."""
    last = number + GAP
    while number < last:
        number += 1
        folder = _numbered(base, number)
        if os.access(folder, os.F_OK):
            last = number + GAP
            if (lock := _claim(folder, parent, name)) is not None:
                os.rmdir(folder)
                os.close(lock)


def _remove(folder: str) -> None:
    with contextlib.suppress(OSError):
        os.rmdir(folder)  # nearly always it is empty
        return
    import shutil

    try:
        shutil.rmtree(folder)
    except PermissionError:  # it has a folder that is read-only
        for place, names, _ in os.walk(folder):
            for name in names:
                if not os.path.islink(os.path.join(place, name)):
                    os.chmod(os.path.join(place, name), 0o700)
        shutil.rmtree(folder)
