"""The presence of processes in Postgres: a row for each, whose number changes while it lives."""

import contextlib
import random
import secrets
import socket
import threading
import weakref
from collections.abc import Callable, Iterable
from typing import Any, Final

from dotflow.errors import HistoryError
from dotflow.providers.histories.postgres.link import HistorySchema, Link, PostgresConnection
from dotflow.providers.histories.sql.database import Presence, Watch
from dotflow.records.environment import process_name
from dotflow.worker.interrupts import in_forked_child

INTERVAL: Final = 10.0  # seconds between two beats
JITTER: Final = 0.1  # of that
AFTER_FAILURE: Final = 2.0  # seconds
SILENCE: Final = 60  # seconds without a beat, by the clock of the database, after which a process is shown as dead

LOCK_SIZE: Final = 7  # bytes of a number that no two processes have
BEAT_SIZE: Final = 6

#: The clock of the database: it is the same for all that read a row.
CLOCK: Final = "(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::BIGINT"
#: Again where the row is missing: somebody took the process for dead.
BEAT: Final = f"""INSERT INTO "{{schema}}".beats AS own (lock, beat, at, process, host)
    VALUES (%s, %s, {CLOCK}, %s, %s) ON CONFLICT (lock) DO UPDATE SET beat = excluded.beat, at = excluded.at"""
LIVES: Final = f"""SELECT 1 FROM "{{schema}}".beats WHERE lock = %s AND at > {CLOCK} - {SILENCE} * 1000000"""
LEAVE: Final = 'DELETE FROM "{schema}".beats WHERE lock = %s'


class PostgresPresence(Presence):
    """The row of this process. Its lock is a number at random, and all runs of the process hold the same.

    A process is dead where its row is gone, or has not changed for SILENCE.

    Args:
        schema: The schema of the history.
        events: The connection that a run has anyway. Beats have one of their own.
    """

    def __init__(self, schema: HistorySchema, events: Link) -> None:
        self._schema, self._events = schema, events
        self._link = Link(schema)
        self._looks = Link(schema)
        self._reset()
        _presences.add(self)

    def _reset(self) -> None:
        self._mutex = threading.Lock()
        self._lock: int | None = None
        self._holders = 0
        self._stop = threading.Event()

    def hold(self, lock: int | None = None) -> int | None:
        with self._mutex:
            if lock is not None:
                return lock if lock == self._lock else None
            if self._lock is None:
                number = int.from_bytes(secrets.token_bytes(LOCK_SIZE), "big") or 1
                self._beat(self._events, number)
                self._lock = number
                self._stop = threading.Event()
                beating = threading.Thread(
                    target=_beat_on, args=(weakref.ref(self), self._stop), name="dotflow-beat", daemon=True
                )
                beating.start()
            self._holders += 1
            return self._lock

    def release(self, lock: int) -> None:
        with self._mutex:
            if lock != self._lock:
                return
            self._holders -= 1
            if self._holders > 0:
                return
            self._lock = None
            self._stop.set()
        with contextlib.suppress(HistoryError):  # it is shown as dead after SILENCE
            self._execute(self._events, LEAVE, (lock,))
        self._link.close()

    def is_held(self, lock: int) -> bool:
        if not self.is_lock(lock):
            return False
        if lock == self._lock:
            return True
        return self._looks.use(lambda connection: self._lives(connection, lock), is_repeated=True)

    def _lives(self, connection: PostgresConnection, lock: int) -> bool:
        if self._schema.history_id is None:
            return False
        return bool(connection.native(LIVES.format(schema=self._schema.name), (lock,)).fetchall())

    def is_lock(self, value: object) -> bool:
        return type(value) is int and 0 < value < 256**LOCK_SIZE

    def note_end(self, lock: int) -> None:
        """Does nothing: the database that can't take the end can't take a note."""

    def has_noted_end(self, lock: int) -> bool:
        return False

    def forget_ends(self, locks: Iterable[int]) -> None:
        """Does nothing."""

    def beat(self) -> float:
        """Changes the number of this process. Returns the seconds until the next time."""
        lock = self._lock
        if lock is None:
            return INTERVAL
        try:
            self._beat(self._link, lock, patience=0)
        except HistoryError:  # the events of the runs say it
            return AFTER_FAILURE
        return INTERVAL * random.uniform(1 - JITTER, 1 + JITTER)

    def _beat(self, link: Link, lock: int, patience: float = 5.0) -> None:
        number = int.from_bytes(secrets.token_bytes(BEAT_SIZE), "big")
        self._execute(link, BEAT, (lock, number, process_name(), socket.gethostname()), patience)

    def _execute(self, link: Link, statement: str, values: tuple[Any, ...], patience: float = 5.0) -> None:
        self._schema.prepare(link)
        text = statement.format(schema=self._schema.name)
        link.transact(lambda connection: connection.native(text, values), None, durable=False, patience=patience)

    def close(self) -> None:
        """Closes its connections. The next use opens them again."""
        self._link.close()
        self._looks.close()

    def abandon(self) -> None:
        """Forgets the parent's number in a forked process: this is another one."""
        self._link.abandon()
        self._looks.abandon()
        self._reset()


def _beat_on(of: "weakref.ref[PostgresPresence]", stop: threading.Event) -> None:
    pause = INTERVAL
    while not stop.wait(pause):
        presence = of()
        if presence is None:
            return
        pause = presence.beat()
        del presence


class PostgresWatch(Watch):
    """What a server looks at: the number of the last commit, and whether the tables are still those of its start."""

    def __init__(self, presence: PostgresPresence, revision: Callable[[], str]) -> None:
        self._presence, self._find_revision = presence, revision
        lock = presence.hold()
        assert lock is not None
        self.lock = lock
        self._revision = ""

    def begin(self) -> None:
        """Does nothing: each connection looks whether it is the same history."""

    def check(self) -> None:
        self._find_revision()  # raises

    def has_news(self) -> bool:
        revision = self._find_revision()
        is_new, self._revision = revision != self._revision, revision
        return is_new

    def renew(self) -> None:
        """Does nothing: a thread does."""

    def close(self) -> None:
        self._presence.release(self.lock)


_presences: Final[weakref.WeakSet[PostgresPresence]] = weakref.WeakSet()


@in_forked_child
def _after_fork_in_child() -> None:
    for presence in list(_presences):
        presence.abandon()
