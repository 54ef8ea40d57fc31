"""The arguments that the storages in files share."""

import os
from pathlib import Path
from typing import Final

from dotflow.atomic_file import UMASK, is_umask
from dotflow.errors import InvalidArgument

DURABILITIES: Final = ("power", "process")


def check_arguments(path: object, pickle: object, durability: object, umask: object, *, expected: str) -> Path:
    """Checks the arguments, and returns the absolute path, since a step may change the current folder.

    Args:
        path: The path of a file or a folder.
        pickle: Whether values may be pickled.
        durability: One of DURABILITIES.
        umask: A umask, or None.
        expected: What the path is, for the error.

    Raises:
        InvalidArgument: One of the arguments is invalid.
    """
    if not isinstance(path, str | os.PathLike) or not os.fspath(path) or "\0" in os.fspath(path):
        raise InvalidArgument("path", path, expected)
    if not isinstance(pickle, bool):
        raise InvalidArgument("pickle", pickle, "True or False")
    if durability not in DURABILITIES:
        raise InvalidArgument("durability", durability, "'power' or 'process'")
    if not is_umask(umask):
        raise InvalidArgument("umask", umask, UMASK)
    return Path(path).absolute()
