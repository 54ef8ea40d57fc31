"""The presence of processes in Postgres: a row for each, whose number changes while it lives."""

import contextlib
import random
import secrets
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

from dotflow import clock
from dotflow.errors import HistoryError
from dotflow.providers.histories.postgres.beats import RHYTHM, Found, Heartbeat, Watcher
from dotflow.providers.histories.postgres.link import (
    HistorySchema,
    Link,
    PostgresConnection,
    PostgresFailed,
)
from dotflow.providers.histories.sql.database import SILENCE, AnswerLost, Connection, Presence, Watch
from dotflow.records.environment import host_name, process_name
from dotflow.worker.interrupts import in_forked_child

T = TypeVar("T")

JITTER: Final = 0.1  # of the time between two beats
UNUSUAL: Final = 20  # seconds without a beat, by the clock of the database, after which that is said
BETWEEN_LOOKS: Final = 0.1  # seconds, less than OFTEN; several servers of a process share what they see

SELDOM: Final = 1.0  # seconds between two looks for news
OFTEN: Final = 0.2  # the same for BUSY seconds after a claim
BUSY: Final = 10.0
JUMP: Final = 1_000_000  # microseconds by which the clock of the database is set, so that other runs may be due

LOCK_SIZE: Final = 7  # bytes of a number that no two processes have
BEAT_SIZE: Final = 6

#: The clock of the database: it is the same for all that read a row.
CLOCK: Final = "(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::BIGINT"
FIRST_BEAT: Final = f"""INSERT INTO "{{schema}}".beats (lock, beat, at, process, host)
    VALUES (%s, %s, {CLOCK}, %s, %s) ON CONFLICT (lock) DO NOTHING"""
BEAT: Final = f"""UPDATE "{{schema}}".beats SET beat = %s, at = {CLOCK} WHERE lock = %s AND beat = %s"""
BEAT_OF: Final = 'SELECT beat FROM "{schema}".beats WHERE lock = %s'
#: What a server looks at: which history it is, what was committed, the time, and all beats.
LOOK: Final = f"""SELECT id, pg_current_snapshot()::TEXT, {CLOCK}, lock, beat
    FROM "{{schema}}".meta LEFT JOIN "{{schema}}".beats ON TRUE"""
LIVES: Final = f"""SELECT beat, at > {CLOCK} - {SILENCE} * 1000000 FROM "{{schema}}".beats WHERE lock = %s"""
SILENCES: Final = f"""SELECT run, ({CLOCK} - at) / 1000000.0 FROM "{{schema}}".beats JOIN "{{schema}}".runs USING (lock)
    WHERE state = 'Running' AND at <= {CLOCK} - {UNUSUAL} * 1000000"""
#: It changes with each commit, and with each that is begun meanwhile: xmax alone stays where an earlier one ends last.
#: Without a commit, it changes each ten seconds in which a process is silent, until that counts as dead.
REVISION: Final = f"""SELECT pg_current_snapshot() || ' '
    || COALESCE(SUM(LEAST(({CLOCK} - at) / 10000000, {SILENCE} / 10)), 0)
    FROM "{{schema}}".beats WHERE at <= {CLOCK} - {UNUSUAL} * 1000000"""
LEAVE: Final = 'DELETE FROM "{schema}".beats WHERE lock = %s'
BURY: Final = """DELETE FROM "{schema}".beats WHERE lock = %s AND beat = %s
    AND NOT EXISTS (SELECT 1 FROM "{schema}".runs WHERE runs.lock = beats.lock AND state = 'Running')"""


class PostgresPresence(Presence):
    """The row of this process. Its lock is a number at random, and all runs of the process hold the same.

    A process that serves watches the beats of the others; `beats` has the rules. Others call a process dead whose row
    is gone, or has not changed for SILENCE, and decide nothing by it before they have watched it for `patience`.

    Args:
        schema: The schema of the history.
        events: The connection that a run has anyway. Beats have one of their own.
        queue: That of the queue, which looks for the others.
        readers: Those that nothing reads from now. A beat closes them: a server reads seldom.

    Attributes:
        news: How often it has found that another process, or time, may have changed what a server looks at.
    """

    patience = 12.0
    rhythm = RHYTHM

    def __init__(self, schema: HistorySchema, events: Link, queue: Link, readers: list[Link]) -> None:
        self._schema, self._events, self._queue, self._readers = schema, events, queue, readers
        self._link = Link(schema)
        self._reset()
        _presences.add(self)

    def _reset(self) -> None:
        self._mutex = threading.Lock()
        self._heart: Heartbeat | None = None
        self._own: set[int] = set()  # the keys that its row had
        self._holders = 0
        self._stop = threading.Event()
        self._watches = 0
        self._watcher = Watcher(rhythm=self.rhythm)
        self._snapshot = ""  # of the last look
        self.news = 0
        self._suspects: dict[int, int] = {}  # beats that looked old to a process that does not watch
        self.has_twin = False

    @property
    def lock(self) -> int | None:
        """The key of the row; None while nothing holds it."""
        return None if self._heart is None else self._heart.lock

    def hold(self, lock: int | None = None) -> int | None:
        with self._mutex:
            if lock is not None:
                return self.lock if lock in self._own else None
            if self._heart is None:
                self._heart = self._first_beat(self._events)
                self._stop = threading.Event()
                beating = threading.Thread(
                    target=_beat_on, args=(weakref.ref(self), self._stop), name="dotflow-beat", daemon=True
                )
                beating.start()
            self._holders += 1
            return self._heart.lock

    def release(self, lock: int) -> None:
        with self._mutex:
            if lock not in self._own or self._heart is None:
                return
            self._holders -= 1
            if self._holders > 0:
                return
            last = self._heart.lock
            self._heart = None
            self._own.clear()
            self._stop.set()
        with contextlib.suppress(HistoryError):  # it is shown as dead after SILENCE
            self._call(self._events, lambda connection: connection.native(LEAVE.format(schema=self._name), (last,)))
        self._link.close()

    def is_held(self, lock: int) -> bool:
        if not self.is_lock(lock):
            return False
        if lock == self.lock:
            return True
        row = self._queue.use(lambda connection: self._find(connection, lock), is_repeated=True)
        if row is None:
            return False
        beat, is_young = row
        if self._watches:
            return self._watcher.dead().get(lock) != beat
        if not is_young:
            self._suspects[lock] = beat
        return bool(is_young)

    def _find(self, connection: PostgresConnection, lock: int) -> tuple[int, bool] | None:
        if self._schema.history_id is None:
            return None
        found: tuple[int, bool] | None = connection.native(LIVES.format(schema=self._name), (lock,)).fetchone()
        return found

    def is_lock(self, value: object) -> bool:
        return type(value) is int and 0 < value < 256**LOCK_SIZE

    def find_dead(self, holders: Iterable[tuple[T, int]], before: Mapping[T, float]) -> tuple[list[T], dict[T, float]]:
        """Returns whose beat stood still for 45 answered seconds, or is gone, and whose may be dead."""
        self.look()
        heart, watcher = self._heart, self._watcher
        if heart is None or not heart.may_take_over(clock.elapsed()):
            return [], {}
        silent, late, dead, doubtful = watcher.dead(), watcher.late(), list[T](), dict[T, float]()
        for holder, lock in holders:
            if lock == heart.lock:
                continue
            if lock not in watcher.beats or lock in silent:
                dead.append(holder)
            elif lock in late:
                doubtful[holder] = late[lock]
        return dead, doubtful

    def look(self, *, at_once: bool = False) -> None:
        """Looks for the others, unless it did just before, or *at_once*.

        Raises:
            HistoryReplaced: The database has another history than at the start.
        """
        before, sent = self._watcher, clock.elapsed()
        if before.looked is not None and sent - before.looked[0] < BETWEEN_LOOKS and not at_once:
            return
        rows = self._queue.use(
            lambda connection: connection.native(LOOK.format(schema=self._name), ()).fetchall(), is_repeated=True
        )
        self._schema.check_same(rows[0][0] if rows else None)
        (_, snapshot, now, *_), ahead = rows[0], self._schema.ahead
        self._schema.note_clock(now)
        beats = {lock: beat for *_, lock, beat in rows if lock is not None}
        self._watcher = before.look(beats, sent, clock.elapsed())
        has_jumped = ahead is None or self._schema.ahead is None or abs(self._schema.ahead - ahead) > JUMP
        is_unchanged = self._watcher.follows(before, self._snapshot, snapshot)
        self.news += has_jumped or not is_unchanged or not self._own.issuperset(self._watcher.late())
        self._snapshot = snapshot

    def is_dead(self, connection: Connection, lock: int) -> bool:
        """Returns whether the row is gone, or has the very beat that was watched: a thawed process has changed it."""
        if lock == self.lock:
            return False
        row = _native(connection, f"{BEAT_OF.format(schema=self._name)} FOR UPDATE", (lock,))
        return row is None or row[0] in (self._watcher.dead().get(lock), self._suspects.get(lock))

    def silences(self, connection: Connection) -> dict[int, float]:
        if not isinstance(connection, PostgresConnection):  # of a history that is not there yet
            return {}
        rows = connection.native(SILENCES.format(schema=self._name), ()).fetchall()
        return {run: round(float(seconds), 1) for run, seconds in rows}

    def revision(self, connection: PostgresConnection) -> str:
        """Returns a text that changes with each commit of the server, and while a process is silent."""
        ((revision,),) = connection.native(REVISION.format(schema=self._name), ()).fetchall()
        return str(revision)

    def silence(self, lock: int) -> float | None:
        still = self._watcher.beats.get(lock)
        return None if still is None else still.seconds

    def bury(self) -> None:
        dead = self._watcher.dead()
        if dead:
            text = BURY.format(schema=self._name)
            self._call(self._queue, lambda connection: [connection.native(text, beat) for beat in dead.items()])

    def may_claim(self, connection: Connection) -> bool:
        """Returns whether its own row is there, which stays until the transaction ends."""
        return _native(connection, f"{BEAT_OF.format(schema=self._name)} FOR SHARE", (self.lock,)) is not None

    def may_begin(self) -> bool:
        heart = self._heart
        return heart is None or heart.may_begin(clock.elapsed())

    def note_end(self, lock: int) -> None:
        """Does nothing: the database that can't take the end can't take a note."""

    def has_noted_end(self, lock: int) -> bool:
        return False

    def forget_ends(self, locks: Iterable[int]) -> None:
        """Does nothing."""

    @property
    def _name(self) -> str:
        return self._schema.name

    def beat(self) -> float:
        """Changes the number of this process. Returns the seconds until the next time."""
        heart = self._heart
        if heart is None:
            return self.rhythm.beat
        with contextlib.suppress(IndexError):  # there is none
            self._readers.pop().close()
        heart = self._heart = heart.sending(_number(BEAT_SIZE), clock.elapsed())
        try:
            heart = self._beat(heart)
        except HistoryError:  # the events of the runs say it
            return self.rhythm.retry
        with self._mutex:
            if self._heart is not None:  # it was not released meanwhile
                self._heart = heart
                self._own.add(heart.lock)
        return max(heart.due - clock.elapsed(), 0.0) * random.uniform(1 - JITTER, 1)

    def _beat(self, heart: Heartbeat) -> Heartbeat:
        def work(connection: PostgresConnection) -> tuple[bool, int | None]:
            assert heart.pending is not None
            values = (heart.pending.beat, heart.lock, heart.beat)
            if connection.native(BEAT.format(schema=self._name), values).rowcount:
                return True, None
            row = connection.native(BEAT_OF.format(schema=self._name), (heart.lock,)).fetchone()
            return False, None if row is None else row[0]

        is_changed, row = self._call(self._link, work, patience=0)
        if is_changed:
            return heart.changed()
        found, heart = heart.unchanged(row, clock.elapsed())
        self.has_twin = self.has_twin or found is Found.TWIN
        return self._first_beat(self._link) if found is Found.NONE else heart

    def _first_beat(self, link: Link) -> Heartbeat:
        """Makes the row, with a new key: the watchers of an old one go on with what they know of it."""
        heart = Heartbeat.new(_number(LOCK_SIZE) or 1, _number(BEAT_SIZE), clock.elapsed(), self.rhythm)
        values = (heart.lock, heart.beat, process_name(), host_name())
        self._call(link, lambda connection: connection.native(FIRST_BEAT.format(schema=self._name), values))
        self._own.add(heart.lock)
        return heart

    def _call(self, link: Link, work: Callable[[PostgresConnection], T], patience: float = 5.0) -> T:
        self._schema.prepare(link)
        try:
            return link.transact(work, None, durable=False, patience=patience)
        except AnswerLost:  # done twice, it is the same
            return link.transact(work, None, durable=False, patience=patience)

    def begin_watch(self) -> None:
        """Begins to watch the others."""
        if not self._watches:
            self._watcher = Watcher(rhythm=self.rhythm)
        self._watches += 1

    def end_watch(self) -> None:
        """Ends that."""
        self._watches -= 1

    def close(self) -> None:
        """Closes its connections. The next use opens them again."""
        self._link.close()

    def abandon(self) -> None:
        """Forgets the parent's number in a forked process: this is another one."""
        self._link.abandon()
        self._reset()


def _number(size: int) -> int:
    return int.from_bytes(secrets.token_bytes(size), "big")


def _native(connection: Connection, text: str, values: tuple[object, ...]) -> Any:
    """Returns the first row of a statement of Postgres, in the transaction of the queue."""
    assert isinstance(connection, PostgresConnection)
    return connection.native(text, values).fetchone()


def _beat_on(of: "weakref.ref[PostgresPresence]", stop: threading.Event) -> None:
    presence = of()
    pause = 0.0 if presence is None else presence.rhythm.beat
    del presence
    while not stop.wait(pause):
        presence = of()
        if presence is None:
            return
        pause = presence.beat()
        del presence


class PostgresWatch(Watch):
    """What a server looks at: the beats and commits of all, and whether the tables are still those of its start."""

    goes_on = True

    def __init__(self, presence: PostgresPresence, title: str) -> None:
        self._presence, self._title = presence, title
        lock = presence.hold()
        assert lock is not None
        self._held = lock
        self._news: int | None = None
        self._look_at = self._busy_until = 0.0
        presence.begin_watch()

    @property
    def lock(self) -> int:
        """The key of its beats: a process that was taken over, and goes on, has another one."""
        return self._held if self._presence.lock is None else self._presence.lock

    def begin(self) -> None:
        """Does nothing: each connection looks whether it is the same history."""

    def check(self) -> None:
        if self._presence.has_twin:
            reason = "another process beats as this one: its machine was cloned while it ran. Start the server again"
            raise HistoryError(self._title, reason)

    def has_news(self, *, at_once: bool = False) -> bool:
        """Looks once a second, and five times a second for a while after a claim. A failed look is news, too."""
        now, at_once = clock.ticks(), at_once or clock.source is not None  # virtual time takes no time
        if now < self._look_at and not at_once:
            return False
        before, self._news = self._news, None
        with contextlib.suppress(PostgresFailed):  # what is asked next says why, and is tried again
            self._presence.look(at_once=at_once)
            self._news = self._presence.news
        pause = SELDOM if now >= self._busy_until else OFTEN
        self._look_at = now + pause * random.uniform(1 - JITTER, 1 + JITTER)
        return self._news is None or self._news != before

    def hurry(self) -> None:
        self._busy_until = clock.ticks() + BUSY
        self._look_at = 0.0

    def renew(self) -> None:
        """Does nothing: a thread does."""

    def close(self) -> None:
        self._presence.end_watch()
        self._presence.release(self._held)


_presences: Final[weakref.WeakSet[PostgresPresence]] = weakref.WeakSet()


@in_forked_child
def _after_fork_in_child() -> None:
    for presence in list(_presences):
        presence.abandon()
