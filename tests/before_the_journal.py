"""What dotflow kept beside the values before it had a journal, in four storages: a shop that was cut off, and a night.

The storages in before_the_journal.json were written by `write_all` with the dotflow of commit 5e7849ff.
"""

import contextlib
import json
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from dotflow import Config, Context, DotFlow, Task, action
from dotflow.abc.storage import Storage
from dotflow.providers import LogDefault, StorageFile, StorageSQLite

PRAGMAS: Final = ("application_id", "user_version")  # which are not in a dump
WRITTEN: Final = Path(__file__).with_suffix(".json")
CUTS: Final = "BEFORE_THE_JOURNAL"  # the variable that names the step which ends its process


class ThreeMethods(Storage):
    """A storage that has only what each one needs, with what a StorageFile keeps."""

    def __init__(self, folder: Path) -> None:
        self.inner = StorageFile(folder, durability="process")

    def post(self, key: str, context: Context) -> None:
        self.inner.post(key, context)

    def get(self, key: str) -> Context:
        return self.inner.get(key)

    def key(self, task: Task) -> str:
        return self.inner.key(task)


class ValuesOnly(Storage):
    """Three methods, which keep nothing but the value."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def _read(self) -> dict[str, Any]:
        kept: dict[str, Any] = json.loads(self.path.read_text()) if self.path.exists() else {}
        return kept

    def post(self, key: str, context: Context) -> None:
        self.path.write_text(json.dumps({**self._read(), key: context.storage}, indent=0))

    def get(self, key: str) -> Context:
        return Context(self._read().get(key))

    def key(self, task: Task) -> str:
        return f"{task.workflow_id}/{task.key_name}"


STORAGES: Final[dict[str, Callable[[Path], Storage]]] = {
    "file": lambda folder: StorageFile(folder / "kept", durability="process"),
    "sqlite": lambda folder: StorageSQLite(folder / "kept.db", durability="process"),
    "three methods": lambda folder: ThreeMethods(folder / "kept"),
    "values only": lambda folder: ValuesOnly(folder / "kept.json"),
}


def _note(line: str) -> None:
    with Path("ran.txt").open("a") as file:
        file.write(f"{line}\n")


def _cut(step: str) -> None:
    if os.environ.get(CUTS) == step:
        os._exit(0)


@action
def prices(source: Path) -> str:
    _note("prices")
    return source.read_text()


@action
def charge(prices: str, idempotency_key: str) -> str:
    _note(f"charge {idempotency_key}")
    _cut("charge")
    return f"{prices} paid"


@action
def mail(prices: str) -> str:
    _note("mail")
    return f"mail {prices}"


@action
def stop(prices: str) -> None:
    _note("stop")
    if os.environ.get(CUTS):
        raise ConnectionError


@action
def tonight() -> str:
    _note("tonight")
    _cut("tonight")
    return "done"


def shop(storage: Storage) -> DotFlow:
    """Returns the workflow of the storages."""
    config = Config(storage=storage, log=LogDefault(output="none"))
    made = DotFlow(config, workflow_id="shop", params={"source": Path("in.txt")})
    made.task.add(prices, name="prices").add(charge, name="charge").add(mail, name="mail")
    made.task.add(stop, name="stop", always=True, needs=[prices])
    return made


def night(storage: Storage) -> DotFlow:
    """Returns the workflow of which a run was cut off before its first value."""
    made = DotFlow(Config(storage=storage, log=LogDefault(output="none")), workflow_id="night")
    made.task.add(tonight, name="tonight")
    return made


def _in_a_child(cut: str, run: Callable[[], object]) -> None:
    """Runs in a process that the step ends."""
    child = os.fork()
    if not child:
        try:
            os.environ[CUTS] = cut
            run()
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0


def write_all() -> None:
    """Writes the storages, below the working directory first."""
    written = {}
    for name, make in STORAGES.items():
        folder = Path(name)
        folder.mkdir()
        os.chdir(folder)
        Path("in.txt").write_text("9.99")
        os.environ[CUTS] = "none"
        shop(make(Path())).start()
        # The prices are made anew, the mail is not asked for, and the charge is cut off.
        _in_a_child("charge", lambda make=make: shop(make(Path())).start(only="charge", rerun="prices"))
        _in_a_child("tonight", lambda make=make: night(make(Path())).start(resume="then_anew"))
        kept = {str(path): path.read_text() for path in sorted(Path().glob("kept*/*/*.json"))}
        if Path("kept.json").exists():
            kept["kept.json"] = Path("kept.json").read_text()
        if Path("kept.db").exists():
            with contextlib.closing(sqlite3.connect("kept.db")) as connection:
                pragmas = [f"PRAGMA {name} = {connection.execute(f'PRAGMA {name}').fetchone()[0]};" for name in PRAGMAS]
                kept["kept.db"] = "\n".join([*pragmas, *connection.iterdump()])
        written[name] = {"files": kept, "ran": Path("ran.txt").read_text().splitlines()}
        os.chdir("..")
    WRITTEN.write_text(json.dumps(written, indent=1) + "\n")


def unpack(name: str) -> list[str]:
    """Writes a storage into the working directory, and returns what the steps have noted before."""
    written = json.loads(WRITTEN.read_text())[name]
    Path("in.txt").write_text("9.99")
    for path, text in written["files"].items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        if path.endswith(".db"):
            with contextlib.closing(sqlite3.connect(path)) as connection:
                connection.executescript(text)
        else:
            Path(path).write_text(text)
    ran: list[str] = written["ran"]
    return ran
