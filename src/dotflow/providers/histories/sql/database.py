"""Database: what the histories need of a database. Presence: which processes live. Watch: what a server looks at."""

import sqlite3
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol, TypeVar

from dotflow import clock
from dotflow.abc.operations import NO_TRANSACTION
from dotflow.errors import HistoryError, InvalidArgument
from dotflow.providers.histories.sql.tables import TABLES, micro

T = TypeVar("T")
Values = Sequence[Any] | Mapping[str, Any]

BETWEEN_LOOKS: Final = 1.0  # seconds between the two looks that find a process dead
SILENCE: Final = 60  # seconds without a sign of life after which a process is shown as dead, where it may be another's
#: The lock that claims and scheduled runs take.
CLAIMS: Final = "\0claims"
#: The errors of values that no dotflow has written.
FORGED: Final = (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError, zlib.error)


class Cursor(Protocol):
    """The rows of a statement."""

    @property
    def rowcount(self) -> int:
        """How many rows it has changed."""

    def fetchone(self) -> Any:
        """Returns the next row; None without one."""

    def fetchall(self) -> list[Any]:
        """Returns all of them."""

    def __iter__(self) -> Iterator[Any]: ...


class AnswerLost(HistoryError):
    """The connection was lost while a transaction was committed: it may have been."""


class Statements(Protocol):
    """A transaction of a database, in which statements are executed."""

    @property
    def now(self) -> int:
        """The moment by the clock of the database, in microseconds since 1970, read after the lock was taken."""

    def execute(self, statement: str, values: Values = ..., /) -> Cursor:
        """Executes a statement.

        A database that is far away executes it when its rows are asked for, or at the commit, in one message with those
        before it. So what does not depend on each other is executed first, and read then.
        """


class Connection(Statements, Protocol):
    """A connection to a database, in a transaction."""

    def lock(self, names: Iterable[str], /) -> None:
        """Takes the locks of the names of runs, too, in their order, until the transaction ends."""

    def try_lock(self, name: str, /) -> Cursor:
        """Takes the lock of a name until the transaction ends. Its row has False where another transaction has it."""

    def executemany(self, statement: str, rows: Iterable[Values], /) -> object:
        """Executes a statement for each of several rows. A database that is far away inserts many at once."""


class SQLiteConnection(sqlite3.Connection):
    """A connection to SQLite: its write lock is the lock of claims, and that of each name."""

    @property
    def now(self) -> int:
        return micro(clock.now())

    def lock(self, names: Iterable[str], /) -> None:
        """Does nothing: a transaction has it."""

    def try_lock(self, name: str, /) -> Cursor:
        return self.execute("SELECT TRUE")


def without_runs() -> SQLiteConnection:
    """Returns a history without runs: the statements are the same for each database."""
    connection = sqlite3.connect(":memory:", isolation_level=None, factory=SQLiteConnection)
    for statement in TABLES:
        connection.execute(statement)
    return connection


class Presence(ABC):
    """Which processes live: each active run, and each server, has a lock that ends with its process.

    Attributes:
        patience: Seconds after which a second look shows for sure that a process is dead.
    """

    patience: float = BETWEEN_LOOKS

    @abstractmethod
    def hold(self, lock: int | None = None) -> int | None:
        """Takes a lock of this process, a new one or again a known one; None where that is not possible."""

    @abstractmethod
    def release(self, lock: int) -> None:
        """Releases a lock of this process."""

    @abstractmethod
    def is_held(self, lock: int) -> bool:
        """Returns whether a living process holds a lock; also True where that can't be found out.

        None holds what can be no lock.
        """

    @abstractmethod
    def is_lock(self, value: object) -> bool:
        """Returns whether a value can be a lock: any process that can write the rows may have written it."""

    @abstractmethod
    def note_end(self, lock: int) -> None:
        """Notes that a run has ended whose end could not be written: it has not crashed."""

    @abstractmethod
    def has_noted_end(self, lock: int) -> bool:
        """Returns whether there is such a note."""

    @abstractmethod
    def forget_ends(self, locks: Iterable[int]) -> None:
        """Removes notes, once the rows say how the runs have ended."""

    def is_dead(self, connection: Connection, lock: int) -> bool:
        """Returns whether a process is dead that was found so, within the transaction that takes its runs over."""
        return not self.is_held(lock)

    def silence(self, lock: int) -> float | None:
        """Returns for how many seconds this process saw no sign of life of a dead one; None where it ended for sure."""
        return None

    def silences(self, connection: Connection) -> Mapping[int, float]:
        """Returns the runs whose process may be dead, with the seconds since its last sign of life.

        It is called dead after SILENCE of them. Where that is seen at once, there are none.
        """
        return {}

    def bury(self) -> None:  # noqa: B027 (optional)
        """Removes what is left of dead processes of which no run is Running."""

    def may_claim(self, connection: Connection) -> bool:
        """Returns whether this process is still known to live, until the transaction ends."""
        return True

    def may_begin(self) -> bool:
        """Returns whether this process may claim a run, or begin a step of one: others don't take it for dead."""
        return True

    def find_dead(self, holders: Iterable[tuple[T, int]], before: Mapping[T, float]) -> tuple[list[T], dict[T, float]]:
        """Returns whose lock was free at two looks, and since when it is of others: a step may have closed its file.

        Args:
            holders: Who should hold which lock.
            before: Since when locks were free at the last look.
        """
        now = clock.ticks()
        free = {holder: before.get(holder, now) for holder, lock in holders if not self.is_held(lock)}
        dead = [holder for holder, since in free.items() if now - since >= BETWEEN_LOOKS]
        return dead, {holder: since for holder, since in free.items() if holder not in dead}


class Watch(ABC):
    """What a server looks at: whether others have written, and whether the database is still that of its start.

    Attributes:
        goes_on: Whether the server may go on when it was taken for dead, with a new lock.
    """

    goes_on: bool = False

    @property
    @abstractmethod
    def lock(self) -> int:
        """The lock of the server."""

    @abstractmethod
    def begin(self) -> None:
        """Called when the server is in the database: from now on, that has to be the same."""

    @abstractmethod
    def check(self) -> None:
        """Raises HistoryError if what other processes have done is unknown."""

    @abstractmethod
    def has_news(self, *, at_once: bool = False) -> bool:
        """Returns whether another connection may have written since the last call, quickly.

        One that is far away is asked seldom, unless *at_once* is given. Where the server `goes_on`, it is also news
        that a process may be dead, or that the clock was set.
        """

    def hurry(self) -> None:  # noqa: B027 (optional)
        """Called after a claim: others may follow. For a while, has_news asks more often."""

    @abstractmethod
    def renew(self) -> None:
        """Takes the lock again, which a step may have released. Called about once a second."""

    @abstractmethod
    def close(self) -> None:
        """Releases the lock."""


class Database(ABC):
    """A database with the tables of a history. All methods raise HistoryError.

    Attributes:
        store: What tells it apart from others.
        presence: Which processes live.
    """

    store: Hashable
    presence: Presence

    @property
    @abstractmethod
    def place(self) -> str:
        """What messages call it, such as the path of a file from the current folder."""

    @abstractmethod
    def transact(self, work: Callable[[Connection], T], lock: str | None = CLAIMS, *, durable: bool = True) -> T:
        """Calls *work* in a transaction.

        Args:
            work: What reads and writes. It may be called again.
            lock: No other transaction with the same lock is beside it: CLAIMS, or the name of runs; None for none. A
                database with one lock for all that write takes that one. Who has the lock of a name never waits for
                CLAIMS, so a transaction with that one may wait for names.
            durable: Whether its commit survives all. Else a power cut may undo it, until the next durable one.
        """

    def join(self, connection: object) -> Statements | None:
        """Returns the open transaction of a connection of a program; None where it has none.

        Raises:
            InvalidArgument: It is no connection to this database. By default none is.
        """
        raise InvalidArgument("connection", type(connection).__name__, NO_TRANSACTION)

    def erase(self, work: Callable[[Connection], T], lock: str | None = CLAIMS) -> T:
        """Does what `transact` does, and keeps no copy of what is overwritten, as far as the database can."""
        return self.transact(work, lock)

    @abstractmethod
    def now(self) -> int:
        """Returns the moment by its clock as far as that is known without a lock, in microseconds since 1970."""

    @abstractmethod
    def run(self, statement: str, values: Values = ()) -> list[Any]:
        """Runs one statement, and returns its rows; none where there is no database yet."""

    def glance(self, statement: str, values: Values = ()) -> list[Any]:
        """Does what `run` does, for a statement that reads and a run whose steps wait for it: it gives up soon."""
        return self.run(statement, values)

    @abstractmethod
    def reading(self) -> AbstractContextManager[Connection]:
        """Returns a connection that only reads. A database that does not exist yet has no runs."""

    @abstractmethod
    def freeze(self, connection: Connection) -> None:
        """Lets a connection that reads see one state from now on."""

    @abstractmethod
    def watch(self) -> Watch:
        """Returns what a server looks at. Raises NotServable where it can't be seen whether a process lives."""
