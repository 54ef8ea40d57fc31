"""Places: who has what of this machine, in a file that its processes share."""

import contextlib
import functools
import os
import sqlite3
import stat
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from dotflow import clock
from dotflow.abc.limits import Ended, Holder, LimitUse, PlaceStore, Reached, Verdict
from dotflow.atomic_file import Files
from dotflow.core.limit_rules import AT_ONCE
from dotflow.core.limits import ONE, Part, Wanted, as_amount, shown
from dotflow.core.resources import Offered
from dotflow.errors import HistoryError
from dotflow.providers.histories.sql.database import Connection, SQLiteConnection
from dotflow.providers.histories.sql.limits import (
    HOLD,
    LOOK,
    NOTE_TEXT,
    TEXTS_AGE,
    LimitTables,
    MemoryTables,
    SQLLimits,
)
from dotflow.providers.histories.sql.tables import LIMITS, micro
from dotflow.providers.histories.sqlite.live import Live
from dotflow.providers.sqlite_errors import cause_of
from dotflow.providers.sqlite_file import DatabaseFormat, SQLiteFile

T = TypeVar("T")

VARIABLE: Final = "DOTFLOW_PLACES"
FORMAT: Final = DatabaseFormat(0x646F7470, 1, LIMITS, factory=SQLiteConnection)  # "dotp"
ID: Final = "#"  # before an id, in the column of units
TAKEN: Final = "SELECT unit FROM holds WHERE name = ? AND unit LIKE '#%' AND id <> ?"
ROWS: Final = "SELECT id, name, unit, amount, lock, run_id, step, began FROM holds WHERE id = ?"


class Places(SQLLimits, PlaceStore):
    """Counts what attempts have of a machine. A process counts within what it offers itself.

    Args:
        tables: The file of the machine, or memory.
        offer: What this process offers, by name.
    """

    def __init__(self, tables: "PlacesFile | MemoryTables", offer: Mapping[str, Offered]) -> None:
        super().__init__(tables)
        self._tables = tables
        self._offer = offer
        self._opened = 0  # the number of the file that has the rows of this process
        self._rows: dict[str, list[Any]] = {}  # its rows, by attempt: the file may be deleted, or replaced

    def wanted(self, resources: Mapping[str, float]) -> tuple[Wanted, ...]:
        found = []
        for name, amount in sorted(resources.items()):
            key, offered = name.lower(), self._offer[name.lower()]
            most = len(offered) * ONE if isinstance(offered, tuple) else as_amount(offered)
            found.append(Wanted(key, key, (Part(most, AT_ONCE, key),), {key: as_amount(amount)}, is_place=True))
        return tuple(found)

    def ask(self, wanted: Sequence[Wanted], holder: Holder, *, must: bool = False) -> Verdict:
        verdict = super().ask(wanted, holder, must=must)
        if verdict.wait is not None or verdict.excess is not None:
            return verdict
        with self._tables.reading() as connection:
            rows = self._rows[holder.id] = connection.execute(ROWS, (holder.id,)).fetchall()
        ids: dict[str, tuple[str, ...]] = {}
        for _, name, unit, *_ in rows:
            if unit.startswith(ID):
                ids[name] = (*ids.get(name, ()), unit[1:])
        return verdict._replace(ids=ids)

    def end(self, attempts: Sequence[Ended]) -> Sequence[Reached]:
        for one in attempts:
            self._rows.pop(one.id, None)
        return super().end(attempts)

    def _judge_places(
        self, connection: Connection, wanted: Wanted, parts: Iterable[Part], holder: Holder, lock: int | None
    ) -> Verdict | None:
        if self._tables.openings != self._opened:
            self._opened = self._tables.openings
            rows = [(*row[:4], lock, *row[5:]) for of_one in self._rows.values() for row in of_one]
            connection.executemany(HOLD, rows)
        verdict = super()._judge_places(connection, wanted, parts, holder, lock)
        if verdict is None and len(self._ids(connection, wanted, holder)) < self._needs(wanted):
            return Verdict(LOOK, wanted.name, wanted.parts[0].text, is_place=True)  # another offer has others
        return verdict

    def _hold_parts(
        self, connection: Connection, wanted: Wanted, parts: Iterable[Part], holder: Holder, lock: int | None, now: int
    ) -> None:
        super()._hold_parts(connection, wanted, parts, holder, lock, now)
        ids = self._ids(connection, wanted, holder)[: self._needs(wanted)]
        row = lock, holder.run, holder.task, now
        connection.executemany(HOLD, [(holder.id, wanted.name, f"{ID}{one}", ONE, *row) for one in ids])

    def _needs(self, wanted: Wanted) -> int:
        """Returns how many ids an attempt needs."""
        return wanted.amounts[wanted.name] // ONE if isinstance(self._offer[wanted.name], tuple) else 0

    def _ids(self, connection: Connection, wanted: Wanted, holder: Holder) -> list[str]:
        """Returns the ids that this process offers, and no other attempt has."""
        offered = self._offer[wanted.name]
        if not isinstance(offered, tuple):
            return []
        taken = {unit[1:] for (unit,) in connection.execute(TAKEN, (wanted.name, holder.id)).fetchall()}
        return [one for one in offered if one not in taken]

    def _parts(self, connection: Connection, wanted: Wanted) -> tuple[Part, ...]:
        """Returns the parts of this process's own offer: another one may offer other ids."""
        known = self._texts.get(wanted.shared)
        if known is None or clock.ticks() - known[0] >= TEXTS_AGE:
            text = f"{shown(wanted.parts[0].amount)} {wanted.name} at once"
            connection.execute(NOTE_TEXT, (wanted.shared, text, connection.now))
            self._texts[wanted.shared] = clock.ticks(), wanted.parts
        return wanted.parts


class PlacesFile(LimitTables):
    """The file of the machine. Nothing in it is synced: after a crash of the machine no attempt runs.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = SQLiteFile(path, FORMAT, synchronous="OFF", files=Files())
        self._presence = Live(path, Files())
        weakref.finalize(self, self._file.close)

    @property
    def presence(self) -> Live:
        return self._presence

    @property
    def openings(self) -> int:
        """How often another file was opened: more than one after it was deleted or replaced."""
        return self._file.openings

    def transact(self, work: Callable[[Connection], T], lock: str | None, *, durable: bool) -> T:
        with self._errors():
            return self._file.transact(work, durable=False)

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        with self._errors():
            yield self._file.use(lambda connection: connection, None, True)

    def now(self) -> int:
        return micro(clock.now())

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise HistoryError(f"The places in {self._path} can't be used", cause_of(error)) from error


def places_path() -> Path:
    """Returns the path of the machine's file. Raises HistoryError where its folder is not of this user alone."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named).absolute()
    folder = Path(f"/tmp/dotflow-{os.getuid()}")
    with contextlib.suppress(FileExistsError):
        folder.mkdir(0o700)
    check_folder(folder)
    return folder / "places.db"


def check_folder(folder: Path) -> None:
    """Raises HistoryError for a folder that is not of this user alone."""
    status = folder.lstat()
    why = ""
    if status.st_uid != os.getuid():
        why = "belongs to another user"
    elif not stat.S_ISDIR(status.st_mode):
        why = "is no folder"
    elif status.st_mode & 0o077:
        why = "is open to other users"
    if why:
        raise HistoryError("What this machine has can't be counted", f"{folder} {why}. Name a file: {VARIABLE}=...")


@functools.lru_cache(maxsize=8)
def _places(path: Path | None, source: object, offer: tuple[tuple[str, Offered], ...]) -> Places:
    return Places(_tables(path, source), dict(offer))


@functools.lru_cache(maxsize=8)
def _tables(path: Path | None, source: object) -> PlacesFile | MemoryTables:
    return MemoryTables() if path is None else PlacesFile(path)


def find_places(offer: Mapping[str, Offered]) -> Places:
    """Returns what counts the places of this machine; on a virtual clock, those of a test. Raises HistoryError."""
    path = places_path() if clock.source is None else None
    return _places(path, clock.source, tuple(offer.items()))  # type: ignore[arg-type]  # it has a hash, as any object


def place_uses() -> list[LimitUse]:
    """Returns what attempts have of this machine now. Raises HistoryError."""
    path = places_path()
    uses = SQLLimits(PlacesFile(path)).uses() if path.exists() else []
    return [use._replace(is_place=True) for use in uses]
