"""Journal: what a run has done so far, in a place that outlives it."""

import json
import os
from pathlib import Path
from typing import Any


class Journal:
    """A file that a run writes down in what it does; each line is there before the run goes on.

    A line is a word and what belongs to it: `started` (the older checkpoints are void), `began 2 1` (task, attempt),
    `posting 2`, `posted 2`, `at ...`, `killed ...`.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, *facts: str | int) -> None:
        """Adds a line, in one call to the system: a kill leaves all of it or nothing."""
        os.write(self._descriptor, json.dumps(facts).encode() + b"\n")


def read(path: Path) -> list[list[Any]]:
    """The lines of a journal; none where the run did not get that far."""
    try:
        return [json.loads(line) for line in path.read_bytes().splitlines()]
    except FileNotFoundError:
        return []
