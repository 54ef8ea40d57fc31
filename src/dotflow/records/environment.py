"""What a run ran in: Python, packages, folder, command and commit. No program is started, no package imported."""

import contextlib
import functools
import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from dotflow.atomic_file import open_plain
from dotflow.core.masks import NO_MASKS, Masks

DIST_INFO: Final = ".dist-info"
COMMIT: Final = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")  # SHA-1, SHA-256
MAX_GIT_FILE: Final = 10_000_000  # bytes
MAX_ARGUMENT: Final = 2000  # characters of an argument of the command


def read_environment(masks: Masks = NO_MASKS) -> bytes:
    """Returns the environment of this process as JSON. Its arguments are masked."""
    return json.dumps(describe_environment(masks), sort_keys=True).encode(errors="backslashreplace")


def describe_environment(masks: Masks = NO_MASKS) -> dict[str, Any]:
    """Returns the environment of this process."""
    folder = None
    with contextlib.suppress(OSError):  # it was deleted
        folder = Path.cwd()
    return {
        "python": sys.version.partition(" ")[0],
        "dotflow": sys.modules["dotflow"].__version__,
        "system": f"{sys.platform} {os.uname().release} {os.uname().machine}" if hasattr(os, "uname") else sys.platform,
        "executable": sys.executable,
        "folder": None if folder is None else str(folder),
        "argv": [masks.mask(argument)[:MAX_ARGUMENT] for argument in sys.argv],
        "module": getattr(getattr(sys.modules.get("__main__"), "__spec__", None), "name", None),  # of `python -m`
        "commit": None if folder is None else commit_of(folder),
        "packages": packages(tuple(sys.path)),
    }


@functools.cache
def packages(path: tuple[str, ...]) -> Mapping[str, str]:
    """Returns the versions of the installed packages in the folders of *path*, read off the names of their folders."""
    versions: dict[str, str] = {}
    for folder in reversed(path):  # the first one wins, as in an import
        with contextlib.suppress(OSError):
            for name in os.listdir(folder or os.curdir):  # noqa: PTH208 (twice as fast)
                if name.endswith(DIST_INFO):
                    package, _, version = name[: -len(DIST_INFO)].partition("-")
                    versions[package] = version
    return versions


def commit_of(folder: Path) -> str | None:
    """Returns the commit that is checked out in the folder or above it; None if there is none that can be read."""
    for parent in (folder, *folder.parents):
        git = parent / ".git"
        try:
            if git.is_file():  # of a worktree or a submodule
                git = parent / _read(git).removeprefix("gitdir:").strip()
            head = _read(git / "HEAD")
        except (OSError, ValueError):
            continue
        with contextlib.suppress(OSError, ValueError):
            commit = _commit(git, head)
            return commit if COMMIT.fullmatch(commit) else None
        return None
    return None


def _commit(git: Path, head: str) -> str:
    name = head.removeprefix("ref:").strip()
    if name == head:
        return head
    if not name.startswith("refs/") or ".." in name:  # a file of another folder, in whose place no commit stands
        return ""
    common = git
    with contextlib.suppress(OSError):
        common = git / _read(git / "commondir")
    for folder in (git, common):
        with contextlib.suppress(OSError):
            return _read(folder / name)
    packed = (line.partition(" ") for line in _read(common / "packed-refs").splitlines())
    return next((commit for commit, _, ref in packed if ref == name), "")


def _read(path: Path) -> str:
    """Returns the text of a file of git, which another user may have made: a folder above may be /tmp."""
    with open(path, "rb", opener=open_plain) as file:
        return file.read(MAX_GIT_FILE).decode().strip()


def process_name() -> str:
    """Returns the host and the id of this process: `host:1234`."""
    return f"{host_name()}:{os.getpid()}"


def host_name() -> str:
    """Returns the name of this machine."""
    if hasattr(os, "uname"):
        return os.uname().nodename
    import socket  # here: it takes milliseconds

    return socket.gethostname()
