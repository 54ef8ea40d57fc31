"""SQLLimits: the grants of limits and budgets as rows, in a history or in memory."""

import functools
import re
import secrets
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Final, Protocol, TypeVar

from dotflow import clock
from dotflow.abc.limits import Ended, Excess, Held, Holder, LimitStore, LimitUse, PartUse, Reached, Verdict
from dotflow.core.limit_rules import (
    AT_ONCE,
    LEVELS,
    RUN,
    Budget,
    Slot,
    delay_of,
    judge_budget,
    level_of,
    settled,
    wait_for,
    window,
    with_more,
)
from dotflow.core.limits import Part, Wanted, parse_parts, text_of
from dotflow.errors import HistoryError, InvalidPolicy
from dotflow.providers.histories.sql.database import BETWEEN_LOOKS, Connection, Presence, SQLiteConnection
from dotflow.providers.histories.sql.tables import LIMITS, MICRO, micro, moment, upsert

T = TypeVar("T")

TEXT_LIFE: Final = 60.0  # seconds for which a text of a limit counts beside others, once it was asked with
TEXTS_AGE: Final = 5.0  # seconds for which a process remembers the texts
LOOK: Final = 0.05  # seconds between two looks for a place
PATIENCE: Final = 1.0  # seconds that a process waits for a place before one is set aside for it
SEEN: Final = 3.0  # seconds for which it is set aside after its last look
LOCK: Final = "\0limit "  # before a name, among the locks of names

SETTLES: Final = 1.0  # seconds until a window of a unit is asked again, which may free before it says so
BUDGET: Final = "="  # before the units and the texts of budgets

SLOTS_OF: Final = "SELECT began, newest, amount FROM slots WHERE name = ? AND unit = ? AND period = ?"
FORGET: Final = "DELETE FROM slots WHERE name = ? AND unit = ? AND period = ? AND (newest <= ? OR newest > ?)"
COUNT: Final = upsert("slots", ("name", "unit", "period", "began"), ("newest", "amount"))
#: The places that others have, and those that are set aside: for a higher priority, and for processes that have waited
#: for longer with the same one.
HELD: Final = """SELECT (SELECT COALESCE(SUM(amount), 0) FROM holds WHERE name = ? AND unit = ? AND id <> ?),
    (SELECT COALESCE(SUM(amount), 0) FROM waits WHERE name = ? AND unit = ? AND seen > ?
        AND (priority > ? OR priority = ? AND lock <> ? AND since < ?))"""
ESTIMATED: Final = "SELECT COALESCE(SUM(amount), 0) FROM holds WHERE name = ? AND unit = ?"
HOLDERS: Final = "SELECT DISTINCT id, lock FROM holds WHERE name = ? AND lock IS NOT NULL"
HOLD: Final = upsert("holds", ("id", "name", "unit"), ("amount", "lock", "run_id", "step", "began"))
OWN: Final = "SELECT name, unit, amount, began FROM holds WHERE id = ?"
WAIT: Final = upsert("waits", ("name", "unit", "lock", "priority"), ("amount", "run_id", "step", "since", "seen"))
WAIT_OVER: Final = "DELETE FROM waits WHERE name = ? AND unit = ? AND (lock = ? AND priority = ? OR seen <= ?)"
END: Final = "DELETE FROM holds WHERE id = ?"
CLOSED: Final = "SELECT at, seconds, refused FROM closed WHERE name = ?"
CLOSE: Final = upsert("closed", ("name",), ("at", "seconds", "refused", "run_id", "step"))
AGAIN: Final = "UPDATE closed SET at = ? WHERE name = ?"
PASSED: Final = "UPDATE closed SET refused = 0 WHERE name = ?"
OPEN: Final = "UPDATE closed SET seconds = 0 WHERE name = ? AND seconds > 0"
NOTE_TEXT: Final = upsert("texts", ("name", "text"), ("seen",))
TEXTS: Final = "SELECT text FROM texts WHERE name = ? AND seen > ?"
TOLD: Final = (
    "SELECT 1 FROM told WHERE name = ? AND unit = ? AND part = ? AND level >= ? AND (until IS NULL OR until > ?)"
)
TELL: Final = upsert("told", ("name", "unit", "part"), ("level", "until"))
TOLD_OVER: Final = "DELETE FROM told WHERE until <= ?"
#: Deletes what counts no more of the next names after one.
SWEEP: Final = """DELETE FROM slots WHERE newest + period < ? AND period > 0
    AND name IN (SELECT DISTINCT name FROM slots WHERE name > ? ORDER BY name LIMIT 4)"""
NAMES: Final = "SELECT name FROM slots UNION SELECT name FROM holds UNION SELECT name FROM closed"
ALL_SLOTS: Final = "SELECT unit, period, began, newest, amount FROM slots WHERE name = ?"
ALL_HELD: Final = "SELECT DISTINCT run_id, step, began FROM holds WHERE name = ? ORDER BY began"
ALL_AMOUNTS: Final = "SELECT unit, SUM(amount) FROM holds WHERE name = ? GROUP BY unit"
ALL_CLOSED: Final = "SELECT at, seconds, run_id, step FROM closed WHERE name = ?"
ALL_WAITS: Final = "SELECT DISTINCT run_id, step, since FROM waits WHERE name = ? AND seen > ? ORDER BY since"
ALL_TEXTS: Final = "SELECT name, text FROM texts ORDER BY seen"


class LimitTables(Protocol):
    """The database with the tables of limits: that of a history, or one in memory."""

    @property
    def presence(self) -> Presence | None:
        """Which processes live; None where all that count are this one."""

    def transact(self, work: Callable[[Connection], T], lock: str | None, *, durable: bool) -> T:
        """Calls *work* in a transaction, as a Database does."""

    def reading(self) -> AbstractContextManager[Connection]:
        """Returns a connection that only reads."""

    def now(self) -> int:
        """Returns the moment by its clock, in microseconds since 1970."""


class SQLLimits(LimitStore):
    """Counts grants in the tables of a history.

    Args:
        database: The database.
    """

    def __init__(self, database: LimitTables) -> None:
        self._database = database
        self._presence = database.presence
        self._mutex = threading.Lock()
        self._lock: int | None = None  # of this process, while attempts of it count as those at once
        self._held_at = -BETWEEN_LOOKS
        self._texts: dict[str, tuple[float, tuple[Part, ...]]] = {}
        self._free: dict[str, Mapping[str, float]] = {}  # by name: since when the locks of its holders were free
        self._looked: dict[str, float] = {}  # by name: when its holders were looked at
        #: By name, unit and priority: since when it waits for a place, and when it said so.
        self._waits: dict[tuple[str, str, int], tuple[int, float]] = {}

    def ask(self, wanted: Sequence[Wanted], holder: Holder, *, must: bool = False) -> Verdict:
        lock = self._hold() if any(_is_held(part) for one in wanted for part in one.parts) else None

        def work(connection: Connection) -> Verdict:
            connection.lock(LOCK + one.name for one in wanted)
            refused, found, place = 0, [], None
            for one in wanted:
                parts = self._parts(connection, one)
                closed = (0, 0) if one.run else _closed(connection, one.name)
                refused = max(refused, closed[1])
                slots = {part: _slots(connection, one, part) for part in parts if part.period != AT_ONCE}
                if not must:
                    judge = _judge_budget if one.run else _judge
                    verdict = judge(connection, one, parts, slots, closed[0])
                    if verdict is not None:  # before a place, of which none is set aside then
                        return verdict
                    place = place or self._judge_places(connection, one, parts, holder, lock)
                found.append((one, slots, parts))
            if place is not None:
                return place
            reached: tuple[Reached, ...] = ()
            now = connection.now
            for one, slots, parts in found:
                self._count(connection, one, slots, now)
                self._hold_parts(connection, one, filter(_is_held, parts), holder, lock, now)
                if one.run:  # an attempt has used what has no unit, once it begins
                    for part in parts:
                        if not part.unit:
                            used = sum(slot.amount for slot in slots[part]) + one.needs(part)
                            reached += _reached(connection, one, part, used)
            return Verdict(refused=refused, reached=reached)

        verdict = self._database.transact(work, None, durable=False)
        if verdict.wait is not None:
            self._bury(verdict.name)
        return verdict

    def _judge_places(
        self, connection: Connection, wanted: Wanted, parts: Iterable[Part], holder: Holder, lock: int | None
    ) -> Verdict | None:
        """Returns which place an attempt has to wait for; None for none.

        The highest priority is next, and of several the one that has waited for longer.
        """
        now, ticks, name, priority = connection.now, clock.ticks(), wanted.name, holder.priority
        for part in parts:
            if part.period != AT_ONCE:
                continue
            key, waiting = (name, part.unit), (name, part.unit, priority)
            since, said = self._waits.get(waiting, (now, 0.0))
            if said and ticks - said > SEEN:  # who waited then has given up
                since, said = now, 0.0
            seen, needs = now - round(SEEN * MICRO), wanted.needs(part)
            found = connection.execute(
                HELD, (*key, holder.id, *key, seen, priority, priority, lock or 0, since)
            ).fetchall()
            if sum(found[0]) + (needs or 1) <= part.amount:
                continue
            if lock is not None and now - since >= PATIENCE * MICRO and ticks - said >= PATIENCE:
                said = ticks
                connection.execute(WAIT, (*key, lock, priority, needs, holder.run, holder.task, since, now))
            self._waits[waiting] = min(since, now), said  # the clock may have been set back
            return Verdict(LOOK, name, part.text, is_place=True)
        return None

    def _parts(self, connection: Connection, wanted: Wanted) -> tuple[Part, ...]:
        """Returns the parts that count for a name: the stricter ones of all texts that were asked with of late.

        Of a budget its own ones do: who raises it goes on at once.
        """
        mark = BUDGET if wanted.run else ""
        known = self._texts.get(mark + wanted.shared)
        ticks = clock.ticks()
        if known is None or ticks - known[0] >= TEXTS_AGE or not set(wanted.parts) <= set(known[1]):
            now = connection.now
            connection.execute(NOTE_TEXT, (wanted.shared, mark + text_of(wanted.parts), now))
            parts = {(part.unit, part.period): part for part in wanted.parts}
            rows = connection.execute(TEXTS, (wanted.shared, now - round(TEXT_LIFE * MICRO))).fetchall()
            for (text,) in () if mark else rows:
                if text.startswith(BUDGET):
                    continue
                with suppress(InvalidPolicy):  # of a newer dotflow
                    for part in parse_parts(text):
                        key = part.unit, part.period
                        parts[key] = min(part, parts.get(key, part))
            known = ticks, tuple(parts.values())
            self._texts[mark + wanted.shared] = known
        return known[1]

    def _count(self, connection: Connection, wanted: Wanted, slots: Mapping[Part, list[Slot]], now: int) -> None:
        """Counts a grant in its windows."""
        name = wanted.name
        for part, counted in slots.items():
            if not counted and name != wanted.shared:
                connection.execute(SWEEP, (now, wanted.shared.partition("{")[0] + secrets.token_hex(1)))
            if needs := wanted.needs(part):
                newest = with_more(counted, needs, part.period, now)
                connection.execute(COUNT, (name, _unit_of(wanted, part), part.period, *newest))

    def _hold_parts(
        self, connection: Connection, wanted: Wanted, parts: Iterable[Part], holder: Holder, lock: int | None, now: int
    ) -> None:
        """Notes what an attempt has while it runs: places, and what it is estimated to use."""
        name = wanted.name
        for part in parts:
            unit = _unit_of(wanted, part)
            row = (holder.id, name, unit, wanted.needs(part), lock, holder.run, holder.task, now)
            connection.execute(HOLD, row)
            if part.period == AT_ONCE and self._waits.pop((name, unit, holder.priority), (0, 0.0))[1]:
                connection.execute(WAIT_OVER, (name, unit, lock, holder.priority, now - round(SEEN * MICRO)))

    def _hold(self) -> int | None:
        """Returns the lock of this process, which shows that it lives."""
        if self._presence is None:
            return None
        with self._mutex:
            ticks = clock.ticks()
            if ticks - self._held_at >= BETWEEN_LOOKS:  # a step may have closed the file with the lock
                self._held_at = ticks
                self._lock = self._presence.hold(self._lock) or self._presence.hold()
            if self._lock is None:
                reason = "this system, or its folder, can't show whether a process lives, which '3 at once' needs"
                raise HistoryError("A limit can't be used", reason)
            return self._lock

    def _bury(self, name: str) -> None:
        """Ends the attempts of processes that have ended."""
        ticks = clock.ticks()
        if self._presence is None or ticks - self._looked.get(name, -BETWEEN_LOOKS) < BETWEEN_LOOKS:
            return
        self._looked[name] = ticks
        with self._database.reading() as connection:
            rows = connection.execute(HOLDERS, (name,)).fetchall()
        dead, self._free[name] = self._presence.find_dead(rows, self._free.get(name, {}))
        if dead:
            self.end([Ended(one) for one in dead])

    def end(self, attempts: Sequence[Ended]) -> Sequence[Reached]:
        def work(connection: Connection) -> tuple[Reached, ...]:
            budgets = {
                (wanted.name, part): wanted
                for one in attempts
                for wanted in one.wanted
                if wanted.run
                for part in wanted.parts
                if part.unit
            }
            settling = [one for one in attempts if one.used]
            names = {wanted.name for one in settling for wanted in one.wanted}
            connection.lock(LOCK + name for name in names.union(name for name, _ in budgets))
            for one in settling:
                self._settle(connection, one)
            connection.executemany(END, [(one.id,) for one in attempts])
            reached: tuple[Reached, ...] = ()
            for (name, part), wanted in budgets.items():
                used = sum(slot.amount for slot in _slots(connection, wanted, part))
                if level_of(used, part.amount):
                    ((estimated,),) = connection.execute(ESTIMATED, (name, _unit_of(wanted, part))).fetchall()
                    reached += _reached(connection, wanted, part, used - estimated)
            return reached

        return self._write(work)

    def _settle(self, connection: Connection, ended: Ended) -> None:
        """Counts what an attempt has used instead of what it was estimated to."""
        rows = connection.execute(OWN, (ended.id,)).fetchall()
        held = {(name, unit): (amount, began) for name, unit, amount, began in rows}
        for wanted in ended.wanted:
            for part in self._parts(connection, wanted):
                key = wanted.name, _unit_of(wanted, part)
                if part.period == AT_ONCE or part.unit not in ended.used or key not in held:
                    continue
                amount, began = held[key]
                difference = ended.used[part.unit] - amount
                slots = _slots(connection, wanted, part) if difference else []
                changed = settled(slots, difference, began, part.period, connection.now)
                if difference and changed is not None:
                    connection.execute(COUNT, (*key, part.period, *changed))

    def throttle(self, names: Sequence[str], after: float | None, holder: Holder) -> tuple[float, int]:
        def work(connection: Connection) -> tuple[float, int]:
            connection.lock(LOCK + name for name in names)
            now, ends, count = connection.now, 0.0, 0
            for name in names:
                until, refused = _closed(connection, name)
                seconds = max(delay_of(after, refused), (until - now) / MICRO)
                row = (name, now, round(seconds * MICRO), refused + 1, holder.run, holder.task)
                connection.execute(CLOSE, row)
                ends, count = max(ends, seconds), max(count, refused + 1)
            return ends, count

        return self._database.transact(work, None, durable=False)

    def note_passed(self, names: Sequence[str]) -> None:
        self._write(lambda connection: connection.executemany(PASSED, [(name,) for name in names]))

    def open(self, name: str) -> bool:
        return self._write(lambda connection: connection.execute(OPEN, (name,)).rowcount > 0)

    def uses(self) -> list[LimitUse]:
        with self._database.reading() as connection:
            return _uses(connection, self._database.now())

    def _write(self, work: Callable[[Connection], T]) -> T:
        return self._database.transact(work, None, durable=False)


def _closed(connection: Connection, name: str) -> tuple[int, int]:
    """Returns the moment until which a name is closed, and how often its service has refused of late."""
    for at, seconds, refused in connection.execute(CLOSED, (name,)).fetchall():
        if at > connection.now:  # the clock was set: it keeps its seconds, not its end
            at = connection.now
            connection.execute(AGAIN, (at, name))
        return at + seconds, refused
    return 0, 0


def _unit_of(wanted: Wanted, part: Part) -> str:
    """Returns what counts a part of a name: its unit, and of a budget what tells it from a limit."""
    if not wanted.run:
        return part.unit
    return f"{BUDGET}{part.unit} {wanted.run}" if part.period == RUN else f"{BUDGET}{part.unit}"


def _is_held(part: Part) -> bool:
    """Returns whether an attempt has a row while it runs: for its place, or for what it will have used."""
    return part.period == AT_ONCE or bool(part.unit)


def _slots(connection: Connection, wanted: Wanted, part: Part) -> list[Slot]:
    """Returns what counts in a window. What the clock has made later than now is written as of now."""
    now, key = connection.now, (wanted.name, _unit_of(wanted, part), part.period)
    rows = [Slot(*row) for row in connection.execute(SLOTS_OF, key).fetchall()]
    found = window(rows, part.period, now)
    if part.period != RUN and (len(found) < len(rows) or any(slot.newest > now for slot in rows)):
        connection.execute(FORGET, (*key, now - part.period, now))
        connection.executemany(COUNT, [(*key, *slot) for slot in found if slot.newest == now])
    return found


def _judge(
    connection: Connection, wanted: Wanted, parts: Iterable[Part], slots: Mapping[Part, list[Slot]], closed: int
) -> Verdict | None:
    """Returns why an attempt has to wait for the time of a name; None where it has come."""
    now, name = connection.now, wanted.name
    for part in parts:
        if wanted.needs(part) > part.amount:
            return Verdict(None, name, part.text, excess=Excess(part, wanted.needs(part)))
    if closed > now:
        return Verdict((closed - now) / MICRO, name, f"closed until {moment(closed).astimezone():%H:%M:%S}")
    for part, counted in slots.items():
        if wait := wait_for(counted, wanted.needs(part), part.amount, part.period, now):
            seconds = wait / MICRO
            return Verdict(min(seconds, SETTLES) if part.unit else seconds, name, part.text)
    return None


def _judge_budget(
    connection: Connection, wanted: Wanted, parts: Iterable[Part], slots: Mapping[Part, list[Slot]], _: int
) -> Verdict | None:
    """Returns why a budget refuses an attempt, or lets it wait; None where it fits."""
    for part in parts:
        used, needs, estimated = sum(slot.amount for slot in slots[part]), wanted.needs(part), 0
        if part.unit:
            ((estimated,),) = connection.execute(ESTIMATED, (wanted.name, _unit_of(wanted, part))).fetchall()
        said = judge_budget(used, estimated, needs, part.amount)
        if said is Budget.WAITS:
            return Verdict(LOOK, wanted.name, f"{part.text}, of which {part.shown(estimated)} are estimated", True)
        if said is Budget.EXCEEDED:
            again = None
            if part.period != RUN and needs <= part.amount:
                again = wait_for(slots[part], needs, part.amount, part.period, connection.now) / MICRO
            used -= estimated
            excess = Excess(part, needs if part.unit else 0, used, again, is_budget=True)
            reached = _reached(connection, wanted, part, used, is_refused=True)
            return Verdict(None, wanted.name, part.text, excess=excess, reached=reached)
    return None


def _reached(
    connection: Connection, wanted: Wanted, part: Part, used: int, *, is_refused: bool = False
) -> tuple[Reached, ...]:
    """Returns of what people are told now, once in the period of a budget: where it refuses, that it is used up."""
    level = level_of(used, part.amount)
    if not level:
        return ()
    level, key, now = (
        LEVELS[0] if is_refused else level,
        (wanted.name, _unit_of(wanted, part), part.text),
        connection.now,
    )
    if connection.execute(TOLD, (*key, level, now)).fetchall():
        return ()
    connection.execute(TOLD_OVER, (now,))
    connection.execute(TELL, (*key, level, None if part.period == RUN else now + part.period))
    return (Reached(wanted.name, part, used, level),)


def _uses(connection: Connection, now: int) -> list[LimitUse]:
    texts = [(_pattern(name), text) for name, text in reversed(connection.execute(ALL_TEXTS).fetchall())]
    found = []
    for (name,) in sorted(connection.execute(NAMES).fetchall()):
        held = [Held(run, task, moment(began)) for run, task, began in connection.execute(ALL_HELD, (name,))]
        waits = connection.execute(ALL_WAITS, (name, now - round(SEEN * MICRO))).fetchall()
        of_name = [text for pattern, text in texts if pattern.fullmatch(name)]
        uses = _part_uses(connection, name, of_name, now)
        use = LimitUse(name, uses, held, [Held(run, task, moment(since)) for run, task, since in waits])
        for at, seconds, run, task in connection.execute(ALL_CLOSED, (name,)).fetchall():
            if min(at, now) + seconds > now:
                use = use._replace(closed=moment(min(at, now) + seconds), closed_by=f"{run} {task}")
        found.append(use)
    return found


def _part_uses(connection: Connection, name: str, texts: Sequence[str], now: int) -> list[PartUse]:
    """Returns the parts of a limit, and then those of the budget of its name, by the newest of the texts of each."""
    slots: dict[tuple[str, int], list[Slot]] = {}
    for unit, period, *slot in connection.execute(ALL_SLOTS, (name,)).fetchall():
        slots.setdefault((unit, period), []).append(Slot(*slot))
    held = {unit: int(amount) for unit, amount in connection.execute(ALL_AMOUNTS, (name,)).fetchall()}
    uses = []
    for mark, option in (("", "limit"), (BUDGET, "budget")):
        text = next((text for text in texts if text.startswith(BUDGET) is bool(mark)), None)
        for part in () if text is None else parse_parts(text.removeprefix(mark), option):
            unit = mark + part.unit
            units = [one for one, period in slots if period == RUN and one.startswith(f"{unit} ")]
            for one in units if part.period == RUN else [unit]:
                counted = window(slots.get((one, part.period), ()), part.period, now)
                estimated = held.get(one, 0)
                used = estimated if part.period == AT_ONCE else sum(slot.amount for slot in counted)
                run = one.partition(" ")[2]
                uses.append(PartUse(part, used, estimated if part.unit else 0, run, bool(mark)))
    return uses


def _pattern(shared: str) -> re.Pattern[str]:
    """Returns what matches the names that a name with braces has been filled to."""
    return re.compile(".*".join(map(re.escape, re.split(r"\{[^{}]*\}", shared))), re.DOTALL)


class MemoryTables:
    """The tables in the memory of this process."""

    presence = None
    openings = 0

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._connection = sqlite3.connect(
            ":memory:", isolation_level=None, factory=SQLiteConnection, check_same_thread=False
        )
        weakref.finalize(self, self._connection.close)
        for statement in LIMITS:
            self._connection.execute(statement)

    def transact(self, work: Callable[[Connection], T], lock: str | None, *, durable: bool) -> T:
        with self._mutex:
            return work(self._connection)

    def now(self) -> int:
        return micro(clock.now())

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        with self._mutex:
            yield self._connection


class MemoryLimits(SQLLimits):
    """Counts the grants of this process in memory."""

    is_shared = False

    def __init__(self) -> None:
        super().__init__(MemoryTables())


@functools.lru_cache(maxsize=8)
def memory_limits(source: object) -> MemoryLimits:
    """Returns what counts the grants of this process, on the clock of the machine, or on a virtual one."""
    return MemoryLimits()
