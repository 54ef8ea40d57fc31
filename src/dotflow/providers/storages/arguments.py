"""What storages in files are told: checked once, in the same words."""

import os
from pathlib import Path
from typing import Final

from dotflow.errors import InvalidArgument

DURABILITIES: Final = ("power", "process")


def check_arguments(path: object, pickle: object, durability: object, *, expected: str) -> Path:
    """The path, absolute, since a step may go to another folder.

    Args:
        path: Of a file or a folder.
        pickle: Whether values may be pickled.
        durability: One of DURABILITIES.
        wanted: What the path is.

    Raises:
        InvalidArgument: One of them means nothing.
    """
    if not isinstance(path, str | os.PathLike) or not os.fspath(path) or "\0" in os.fspath(path):
        raise InvalidArgument("path", path, expected)
    if not isinstance(pickle, bool):
        raise InvalidArgument("pickle", pickle, "True or False")
    if durability not in DURABILITIES:
        raise InvalidArgument("durability", durability, "'power' or 'process'")
    return Path(path).absolute()
