"""The history of a program that names none: that of the environment variable DOTFLOW_HISTORY."""

import functools
import os
from pathlib import Path

from dotflow.abc.history import HISTORY_VARIABLE, NO_HISTORY, History


def history_of(given: History | None) -> History | None:
    """Returns the history of a Config: the given one, or that of the environment, whose "0" turns any off."""
    path = os.environ.get(HISTORY_VARIABLE)
    if not path:
        return given
    if path == NO_HISTORY:
        return None
    return history_at(str(Path(path).absolute())) if given is None else given


@functools.cache
def history_at(path: str) -> History:
    """Returns the HistorySQLite of a file, one for each file."""
    from dotflow import providers  # here: most programs have no history

    return providers.HistorySQLite(path)
