"""A history that another person made: one of a real run, in which any row may be another."""

import importlib
import json
import sqlite3
import sys
import zlib
from pathlib import Path
from typing import Any, Final

import pytest

from dotflow.codec.document import pack
from dotflow.core.context import Context
from dotflow.providers.histories.sqlite.history import DEFAULT_PATH
from tests.integration.children import COMMAND, Command, End, Script

JOBS: Final = """\
import subprocess
from dotflow import DotFlow, action

@action
def extract():
    return [1, 2, 0]

@action
def load(extract):
    print("loading", extract)
    return [6 / number for number in extract]

def build():
    workflow = DotFlow(workflow_id="mine")
    workflow.task.add(extract)
    workflow.task.add(load)
    return workflow
"""


class Victim:
    """A user's folder with code and a history of its own, and a folder with what came by mail.

    Attributes:
        folder: The current folder of the commands.
        history: The history of a run in it, whose task 1 failed.
        mail: The other folder.
        marker: The file that code of the attacker makes.
    """

    def __init__(self, folder: Path, command: Command) -> None:
        self._command = command
        self.folder, self.mail, self.marker = folder / "work", folder / "mail", folder / "PWNED"
        self.attack = f"open({str(self.marker)!r}, 'w').close()\n"
        self.history = self.folder / DEFAULT_PATH

    def dotflow(self, *arguments: str, **environment: str) -> End:
        """Runs the command `dotflow` in the folder, without a terminal, and with none of its modules imported."""
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            patch.setattr(sys, "path", sys.path[:])
            for variable, text in environment.items():
                patch.setenv(variable, text)
            forget_modules(self.folder.parent)
            return self._command(*arguments)

    def send(self) -> Path:
        """Puts a copy of the history into the mail, and returns its path."""
        path = self.mail / "history.db"
        path.write_bytes(self.history.read_bytes())
        return path


def make_template(folder: Path) -> Path:
    """Makes the folders, in which a run fails, and returns the folder of both."""
    (folder / "work").mkdir()
    (folder / "mail").mkdir()
    (folder / "work" / "mine.py").write_text(JOBS)
    with Script(["-c", COMMAND, "start", "--workflow", "mine:build"], folder / "work", DOTFLOW_HISTORY="") as script:
        assert script.end().code == 1
    return folder


def forget_modules(folder: Path) -> None:
    """Makes the next import read the modules of a folder again, as a new process does."""
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(folder)):
            del sys.modules[name]
    importlib.invalidate_caches()


def execute(history: Path, statement: str, *values: Any) -> list[Any]:
    """Runs a statement in a history, and closes it."""
    connection = sqlite3.connect(history, isolation_level=None)
    try:
        return connection.execute(statement, values).fetchall()
    finally:
        connection.close()


def forge(history: Path, *, identity: str = "__main__:<lambda>", trigger: str = "", **environment: Any) -> None:
    """Changes what the history says of its run: the identity of its tasks, and how it was started."""
    execute(history, "UPDATE steps SET identity = ?", identity)
    execute(history, "UPDATE runs SET trigger = ?", trigger)
    ((document,),) = execute(history, "SELECT document FROM environments")
    changed = json.loads(zlib.decompress(document)) | environment
    execute(history, "UPDATE environments SET document = ?", zlib.compress(json.dumps(changed).encode()))


def forge_copy(history: Path, value: object, *, pickle: bool = False) -> None:
    """Changes the copy of the input of its task 1."""
    document = zlib.compress(pack("argument:extract", Context(value), pickle=pickle))
    execute(history, "UPDATE copies SET document = ? WHERE role = 'argument:extract'", document)
