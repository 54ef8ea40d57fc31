"""Which processes live, on many machines: the rules of beats, as values without a clock, a thread or a connection.

A process lives while its beat changes. One whose beat stood still for 45 s of a watcher's answered time has ended, or
is cut off; it begins no step since 15 s then. No clock is compared with one of another machine.

The times are those of `clock.elapsed`: they count the time that the machine sleeps.
"""

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final, NamedTuple, Self


class Rhythm(NamedTuple):
    """Seconds.

    Attributes:
        beat: From one beat to the next one.
        retry: After one that failed.
        apart: Between two looks that count the time between them.
        dead: Of a beat that does not change.
        quiet: After the last answered beat, when a process begins nothing any more.
        released: After it, when a process gives up its runs without a running step, and the locks of their names.
        delay: By which a beat may be late before its process takes no run over.
        remembered: Before its last answered beat, for how long a process knows the beats that it has sent.
    """

    beat: float = 10.0
    retry: float = 2.0
    apart: float = 3.0
    dead: float = 45.0
    quiet: float = 30.0
    released: float = 45.0
    delay: float = 5.0
    remembered: float = 300.0


RHYTHM: Final = Rhythm()


class Sent(NamedTuple):
    """A beat that a process has sent, and when."""

    beat: int
    at: float


class Found(Enum):
    """What a process finds in place of the row that its beat was to change."""

    OWN = "own"  #: A beat that it has sent: an answer was lost, or a failover lost the last ones.
    TWIN = "twin"  #: A beat of another process, which has the memory of this one: a machine was cloned.
    NONE = "none"  #: No row: its runs were taken over.


class Heartbeat(NamedTuple):
    """The beats of a process.

    A beat is a random number. One that counts up would be that of another process after a lost answer.

    Attributes:
        lock: The key of its row.
        beat: The number that the row has, as far as it is known.
        answered: When the last answered beat was sent: the row did not change before it.
        due: When the next one is sent.
        sent: The beats that the row may have or had, the newest last.
        pending: The one that may have come, though its answer did not. It is sent again, when it was sent last.
        rhythm: The times.
    """

    lock: int
    beat: int
    answered: float
    due: float
    sent: tuple[Sent, ...]
    pending: Sent | None = None
    rhythm: Rhythm = RHYTHM

    @classmethod
    def new(cls, lock: int, beat: int, now: float, rhythm: Rhythm = RHYTHM) -> Self:
        """Returns the first beat, with which the row is made. *now* is before that is sent."""
        return cls(lock, beat, now, now + rhythm.beat, (Sent(beat, now),), rhythm=rhythm)

    def sending(self, beat: int, now: float) -> Self:
        """Returns what is known while a beat is on its way, or was lost on it: `pending`.

        It is *beat*, or the one before where that got no answer: however long the database is away, there is one.
        """
        due = now + self.rhythm.retry
        if self.pending is not None:
            return self._replace(pending=Sent(self.pending.beat, now), due=due)
        known = tuple(sent for sent in self.sent if self.answered - sent.at <= self.rhythm.remembered)
        pending = Sent(beat, now)
        return self._replace(sent=(*known, pending), pending=pending, due=due)

    def changed(self) -> Self:
        """Returns what is known once the row was changed by the pending beat."""
        if self.pending is None:
            return self
        beat, at = self.pending
        return self._replace(beat=beat, answered=at, due=at + self.rhythm.beat, pending=None)

    def unchanged(self, row: int | None, now: float) -> tuple[Found, Self]:
        """Returns what stands in the way of the pending beat, and what is known then.

        From a beat of its own it goes on, at once, by a new one, and has to look what else it does not know.

        Args:
            row: The beat that the row has; None without a row.
            now: The time.
        """
        if row is None:
            return Found.NONE, self
        for beat, at in self.sent:
            if beat == row:
                return Found.OWN, self._replace(beat=beat, answered=at, due=now, pending=None)
        return Found.TWIN, self

    def may_begin(self, now: float) -> bool:
        """Returns whether the process may claim runs, and begin a step of one that it has claimed."""
        return now - self.answered < self.rhythm.quiet

    def is_released(self, now: float) -> bool:
        """Returns whether it gives up the runs that have no running step, since others may have them."""
        return now - self.answered >= self.rhythm.released

    def may_take_over(self, now: float) -> bool:
        """Returns whether it may take over runs of others."""
        return now - self.answered <= self.rhythm.beat + self.rhythm.delay


class Still(NamedTuple):
    """A beat of another process, and for how long it has not changed, as far as a watcher knows."""

    beat: int
    seconds: float = 0.0


class Watcher(NamedTuple):
    """What a process knows of the beats of others.

    It counts the time between two answered looks that are close to each other. So the time in which the database is
    away, or the watcher itself stands still, does not count.

    Attributes:
        looked: When the last answered look was sent, and when its answer came; None before the first one.
        beats: By lock.
        rhythm: The times.
    """

    looked: tuple[float, float] | None = None
    beats: Mapping[int, Still] = MappingProxyType({})
    rhythm: Rhythm = RHYTHM

    def look(self, rows: Mapping[int, int], sent: float, answered: float) -> Self:
        """Returns what it knows after an answered look.

        Args:
            rows: The beats by lock.
            sent: When the look was sent.
            answered: When its answer came.
        """
        seconds = 0.0
        if self.looked is not None and answered - self.looked[0] <= self.rhythm.apart:
            seconds = max(sent - self.looked[1], 0.0)
        known = self.beats if self.looked is not None else {}
        beats = {}
        for lock, beat in rows.items():
            before = known.get(lock)
            beats[lock] = Still(beat, before.seconds + seconds if before and before.beat == beat else 0.0)
        return self._replace(looked=(sent, answered), beats=beats)

    def follows(self, before: Self, old: str, new: str) -> bool:
        """Returns whether nothing was committed since a look before, but beats.

        A snapshot of Postgres has the number behind the last transaction, and those that are not over. Where all are,
        at both looks, and as many numbers are new as beats have changed, they are those of the beats.

        Args:
            before: What was known.
            old: The snapshot of that look, as text; "" for none.
            new: That of this one.
        """
        if old == new or not old or self.beats.keys() != before.beats.keys():
            return old == new
        changed = sum(before.beats[lock].beat != still.beat for lock, still in self.beats.items())
        (_, begun, unended), (_, last, open_now) = old.split(":"), new.split(":")
        return not (unended or open_now) and int(last) - int(begun) == changed

    def late(self) -> dict[int, float]:
        """Returns the locks whose beats are late, and the seconds for which they stood still."""
        most = self.rhythm.beat + self.rhythm.delay
        return {lock: still.seconds for lock, still in self.beats.items() if still.seconds > most}

    def dead(self) -> dict[int, int]:
        """Returns the locks whose beats stood still too long, and these beats: a take-over has to find them again."""
        return {lock: still.beat for lock, still in self.beats.items() if still.seconds >= self.rhythm.dead}
