"""Journal: records what a trial has done, in a file that outlives its process."""

import json
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

Records = defaultdict[str, list[Any]]


class Journal:
    """A file of records, each written before the trial goes on.

    A record is a word and, where it has one, its object: `started`, `began` (a task id), `posting`, `posted`, `at`
    (a kill point), `killed`.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, word: str, value: str | int = "") -> None:
        """Appends a record in one system call: a kill leaves all of it or nothing."""
        os.write(self._descriptor, json.dumps([word, value]).encode() + b"\n")


def read_journal(path: Path) -> Records:
    """Returns the objects of a journal's records, by word."""
    records: Records = defaultdict(list)
    for line in path.read_bytes().splitlines():
        word, value = json.loads(line)
        records[word].append(value)
    return records
