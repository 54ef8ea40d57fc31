"""A model of one run on two machines: what may come between a beat, a look, a take-over and a step of the run.

Beats and looks are the real ones, `histories.postgres.beats`, in a time of 10 s a tick. The database, the lease of the
name's storage and the way of a run are rows of this module, as the queue and the storages treat them. `explore` visits
each reachable state once, checks the promises, and that the run ends once all is mended.

    python -m tests.beat_model --troubles 2 --states 120000
    python -m tests.beat_model --without "the number again"
"""

import argparse
import math
import sys
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, NamedTuple

from dotflow.providers.histories.postgres.beats import RHYTHM, Found, Heartbeat, Rhythm, Watcher

TICK: Final = 10.0
SERVERS: Final = (0, 1)
STEPS: Final = 2
OVER: Final = ("Completed", "Cancelled")
#: Ticks after which a lease that its holder did not renew may be taken.
EXPIRES: Final = 3
#: Ticks without a beat, before which nothing of a process may be taken. A failover may lose a beat before them.
SILENT: Final = 3
#: Ages beyond it, in seconds, are one.
LONG: Final = 50.0

#: What each server can do by itself. `stand` stops its clock, too.
ALONE: Final = ("kill", "freeze", "stand", "cut off", "cut off from all")
TROUBLES: Final = (*ALONE, "outage", "jump", "lost claim", "lost end", "lost beat", "failover", "cancel")
#: The rules, each of which may be taken away.
RULES: Final = (
    "no clock of the database",
    "answered time only",
    "the number again",
    "nothing begins after 30 s",
    "the lease is released",
    "restores with the lease",
    "reconcile",
    "the beats that it sent",
    "no row, a new one",
    "claims hold their row",
    "a new number",
    "the token of the lease",
    "orders in the take-over",
    "an end needs its row",
)


class Beat(NamedTuple):
    """A row of `beats`."""

    beat: int
    at: int


class Rows(NamedTuple):
    """The database: the newest run of the chain, and the beats.

    Attributes:
        number: Which run of the chain is the newest; the others have ended.
        state: Its state.
        server: The process that has it.
        lock: The key of that process's beats.
        begun: Whether it has begun.
        ordered: Whether a cancel waits for it.
        beats: By lock.
    """

    number: int = 0
    state: str = "Queued"
    server: tuple[int, int] | None = None
    lock: int | None = None
    begun: bool = False
    ordered: bool = False
    beats: tuple[tuple[int, Beat], ...] = ()

    def beat(self, lock: int) -> int | None:
        return next((row.beat for key, row in self.beats if key == lock), None)

    def with_beat(self, lock: int, beat: Beat | None) -> "Rows":
        others = tuple(row for row in self.beats if row[0] != lock)
        return self._replace(beats=others if beat is None else (*others, (lock, beat)))


class Lease(NamedTuple):
    """The lease of the name: who has it for which run, and for how many ticks it was not renewed."""

    holder: tuple[int, int, int] | None = None
    age: int = 0


class Process(NamedTuple):
    """A server.

    Attributes:
        life: Which of the processes of its machine it is.
        state: "runs", "killed", "frozen" (its clock goes on) or "stands" (it does not).
        behind: The seconds for which its clock stood.
        is_cut: Whether it can't reach the database.
        is_alone: Whether it can't reach the storage either.
        heart, watcher: Its beats, and what it knows of others.
        run: The run that it has; None without one.
        phase: Where that is: "claimed", "leased", "begun", "step" or "ending".
        step: Which step runs, or comes next.
        dead: The locks of which it has decided that their process is dead, with the beats.
        has_turned: Whether it has beaten and looked in this tick.
        stood: Whether its clock stood at some time.
        silent: For how many ticks it did not beat while the database was there; -1 since it has, in this one.
    """

    life: int
    heart: Heartbeat
    watcher: Watcher
    state: str = "runs"
    behind: float = 0.0
    is_cut: bool = False
    is_alone: bool = False
    run: int | None = None
    phase: str = ""
    step: int = 0
    dead: tuple[tuple[int, int | None], ...] = ()
    has_turned: bool = False
    stood: bool = False
    silent: int = 0


class State(NamedTuple):
    """All there is.

    Attributes:
        now: The seconds since the start.
        rows, before: The database, and how it was before its last commit.
        is_away: Whether there is an outage.
        offset: By how many ticks the database's clock has jumped.
        lease: The lease of the name.
        saved: How many steps have a value.
        processes: The servers.
        numbers: How many random numbers were given out.
        troubles: How many there were.
        path: How it came to this; not part of the state.
    """

    now: float
    rows: Rows
    before: Rows
    is_away: bool
    offset: int
    lease: Lease
    saved: int
    processes: tuple[Process, ...]
    numbers: int
    troubles: int = 0
    path: tuple[str, ...] = ()


class Violation(AssertionError):
    """A promise is broken, after the steps in the message."""


Move = tuple[str, Callable[[], State | None]]


class World:
    """The moves from a state to the next ones; each of them is one step of one process, or a trouble.

    Args:
        without: A rule that does not hold; "" for none.
        troubles: What may go wrong.
    """

    def __init__(self, without: str = "", troubles: tuple[str, ...] = TROUBLES) -> None:
        self.without = without
        self.troubles = troubles
        rhythm = RHYTHM._replace(apart=TICK)  # it looks once a tick
        self.rhythm: Rhythm = {
            "answered time only": rhythm._replace(apart=math.inf),
            "nothing begins after 30 s": rhythm._replace(quiet=math.inf),
            "the lease is released": rhythm._replace(released=math.inf),
        }.get(without, rhythm)

    def start(self) -> State:
        processes, rows, numbers = [], Rows(), 0
        before = rows
        for _ in SERVERS:
            heart = Heartbeat.new(numbers, numbers + 1, 0.0, self.rhythm)
            processes.append(Process(0, heart, Watcher(rhythm=self.rhythm)))
            before, rows = rows, rows.with_beat(heart.lock, Beat(heart.beat, 0))
            numbers += 2
        return State(0.0, rows, before, False, 0, Lease(), 0, tuple(processes), numbers)

    # The world of a process

    def fail(self, state: State, promise: str) -> None:
        raise Violation(f"{promise}: {', '.join(state.path)}")

    def change(self, state: State, which: int, /, **changes: Any) -> State:
        processes = list(state.processes)
        processes[which] = processes[which]._replace(**changes)
        return state._replace(processes=tuple(processes))

    def commit(self, state: State, rows: Rows) -> State:
        return state._replace(rows=rows, before=state.rows)

    def reaches(self, state: State, which: int) -> bool:
        one = state.processes[which]
        return one.state == "runs" and not (one.is_cut or one.is_alone or state.is_away)

    def stores(self, state: State, which: int) -> bool:
        one = state.processes[which]
        return one.state == "runs" and not one.is_alone

    def own_time(self, state: State, which: int) -> float:
        return state.now - state.processes[which].behind

    def is_mine(self, state: State, which: int) -> bool:
        one, rows = state.processes[which], state.rows
        return rows.state == "Running" and rows.server == (which, one.life) and rows.number == one.run

    def number(self, state: State) -> tuple[State, int]:
        return state._replace(numbers=state.numbers + 1), state.numbers

    def drop(self, state: State, which: int) -> State:
        """Gives a run up, and releases the lease where the storage can be reached."""
        one = state.processes[which]
        if self.stores(state, which) and state.lease.holder == (which, one.life, one.run):
            state = state._replace(lease=Lease())
        return self.change(state, which, run=None, phase="", step=0)

    # What a process does in each tick

    def turn(self, which: int, state: State) -> State | None:
        one = state.processes[which]
        if one.has_turned or one.state != "runs":
            return None
        state = self.change(state, which, has_turned=True)
        state = self.beat(which, state)
        if state.processes[which].state != "runs":
            return state
        if self.reaches(state, which):
            state = self.look(which, state)
            one = state.processes[which]
            if one.run is not None and not self.is_mine(state, which) and one.phase != "ending":
                state = self.drop(state, which)  # is_mine, once a second
            one = state.processes[which]
            if one.run is not None and self.is_mine(state, which) and state.rows.ordered and one.phase != "ending":
                state = self.change(state, which, phase="ending")
            own = state.rows.server == (which, one.life) and state.rows.state == "Running"
            if own and one.run is None and self.without != "reconcile":
                state = self.continue_run(state)
        one = state.processes[which]
        now = self.own_time(state, which)
        if one.run is not None and one.phase != "step" and one.heart.is_released(now):
            state = self.drop(state, which)
        one = state.processes[which]
        if self.stores(state, which) and one.run is not None and state.lease.holder == (which, one.life, one.run):
            state = state._replace(lease=state.lease._replace(age=0))
        return state

    def beat(self, which: int, state: State, *, is_lost: bool = False) -> State:
        now = self.own_time(state, which)
        state, number = self.number(state)
        heart = state.processes[which].heart
        if self.without == "the beats that it sent":  # it counts up, and knows its last answered beat only
            number = heart.beat + 1_000_000
        heart = heart.sending(number, now)
        if self.reaches(state, which) and heart.pending is not None:
            row = state.rows.beat(heart.lock)
            if row == heart.beat:
                written = state.rows.with_beat(heart.lock, Beat(heart.pending.beat, self.clock(state)))
                state = self.change(self.commit(state, written), which, silent=-1)
                heart = heart if is_lost else heart.changed()
            elif not is_lost:
                return self.find(which, state, heart, row)
        return self.change(state, which, heart=heart)

    def find(self, which: int, state: State, heart: Heartbeat, row: int | None) -> State:
        """Finds another row than the beat was for."""
        now = self.own_time(state, which)
        found, heart = heart.unchanged(row, now)
        if self.without == "the beats that it sent" and row is not None:
            found = Found.TWIN
        if found is Found.TWIN or (found is Found.NONE and self.without == "no row, a new one"):
            self.fail(state, "a living server ends itself")
        if found is Found.OWN:
            return self.beat(which, self.change(state, which, heart=heart))
        if self.without == "a new number":
            heart = Heartbeat.new(heart.lock, heart.beat, now, self.rhythm)
        else:
            lock = state.numbers
            heart = Heartbeat.new(lock, lock + 1, now, self.rhythm)
            state = state._replace(numbers=lock + 2)
        state = self.commit(state, state.rows.with_beat(heart.lock, Beat(heart.beat, self.clock(state))))
        return self.change(state, which, heart=heart)

    def clock(self, state: State) -> int:
        return round(state.now / TICK) + state.offset

    def look(self, which: int, state: State) -> State:
        now, rows = self.own_time(state, which), state.rows
        one = state.processes[which]
        beats = {lock: row.beat for lock, row in rows.beats if lock != one.heart.lock}
        watcher = one.watcher.look(beats, now, now)
        dead: dict[int, int | None] = dict(watcher.dead())
        if self.without == "no clock of the database":
            old = self.clock(state) - RHYTHM.dead / TICK
            dead = {lock: row.beat for lock, row in rows.beats if lock != one.heart.lock and row.at <= old}
        if rows.state == "Running" and rows.lock is not None and rows.beat(rows.lock) is None:
            dead[rows.lock] = None
        if rows.server == (which, one.life):
            dead.pop(-1 if rows.lock is None else rows.lock, None)
        return self.change(state, which, watcher=watcher, dead=tuple(sorted(dead.items())))

    # What a process may do then

    def continue_run(self, state: State) -> State:
        """Ends the run in the database, and queues one that continues it, or does as its order wants."""
        rows = state.rows
        if rows.ordered and self.without != "orders in the take-over":
            return self.commit(state, rows._replace(state="Cancelled", server=None, lock=None, ordered=False))
        if rows.ordered:
            self.fail(state, "a cancelled run goes on")
        new = Rows(rows.number + 1, beats=rows.beats)
        return self.commit(state, new)

    def take_over(self, which: int, state: State) -> State | None:
        one = state.processes[which]
        if not one.dead or not self.reaches(state, which):
            return None
        if not one.heart.may_take_over(self.own_time(state, which)):
            return None
        (lock, beat), *others = one.dead
        state = self.change(state, which, dead=tuple(others))
        row = state.rows.beat(lock)
        if row is not None and row != beat and self.without != "the number again":
            return state
        if row is not None and beat is None:
            return state
        before = state
        if state.rows.state == "Running" and state.rows.lock == lock:
            self.check_silent(state, which)
            state = self.continue_run(state)
        return self.commit(state, state.rows.with_beat(lock, None))._replace(before=before.rows)

    def check_silent(self, state: State, which: int) -> None:
        assert state.rows.server is not None
        owner, life = state.rows.server
        if owner == which:
            return
        one = state.processes[owner]
        if one.life == life and one.state != "killed" and one.silent < SILENT:
            self.fail(state, "a run is taken from a server that lives and is answered")

    def claim(self, which: int, state: State, *, is_lost: bool = False) -> State | None:
        one, rows = state.processes[which], state.rows
        now = self.own_time(state, which)
        if one.run is not None or rows.state != "Queued" or not self.reaches(state, which):
            return None
        if not one.heart.may_begin(now):
            return None
        if rows.beat(one.heart.lock) is None and self.without != "claims hold their row":
            return None
        server = which, one.life
        state = self.commit(state, rows._replace(state="Running", server=server, lock=one.heart.lock, begun=False))
        return state if is_lost else self.change(state, which, run=rows.number, phase="claimed", step=0)

    def take_lease(self, which: int, state: State) -> State | None:
        one = state.processes[which]
        if one.phase != "claimed" or not self.stores(state, which) or one.run is None:
            return None
        holder = state.lease.holder
        if holder is not None and state.lease.age < EXPIRES:
            return self.change(state, which, phase="leased") if self.without == "restores with the lease" else None
        return self.change(state._replace(lease=Lease((which, one.life, one.run))), which, phase="leased")

    def put_back(self, which: int, state: State) -> State | None:
        one = state.processes[which]
        if one.phase != "claimed" or not self.reaches(state, which) or state.lease.holder is None:
            return None
        if self.is_mine(state, which):
            ended = "Cancelled" if state.rows.ordered else "Queued"
            state = self.commit(state, state.rows._replace(state=ended, server=None, lock=None, ordered=False))
        return self.change(state, which, run=None, phase="")

    def begin(self, which: int, state: State) -> State | None:
        one = state.processes[which]
        if one.phase != "leased" or not self.reaches(state, which):
            return None
        if not self.is_mine(state, which):
            return self.drop(state, which)
        return self.change(self.commit(state, state.rows._replace(begun=True)), which, phase="begun", step=state.saved)

    def begin_step(self, which: int, state: State) -> State | None:
        one = state.processes[which]
        if one.phase != "begun" or one.state != "runs":
            return None
        if one.step == STEPS:
            return self.change(state, which, phase="ending")
        if not one.heart.may_begin(self.own_time(state, which)):
            return None
        is_taken = one.run is not None and state.rows.number > one.run
        if is_taken and not one.stood:
            self.fail(state, "a server begins a step of a run that was taken over")
        return self.change(state, which, phase="step")

    def save(self, which: int, state: State) -> State | None:
        one = state.processes[which]
        if one.phase != "step" or not self.stores(state, which) or one.run is None:
            return None
        holder = state.lease.holder
        if holder != (which, one.life, one.run):
            if self.without != "the token of the lease":
                return self.change(state, which, run=None, phase="", step=0)  # LeaseLost
            if holder is not None and holder[2] > one.run:
                self.fail(state, "a value counts, though a newer run has the lease")
        elif state.rows.number > one.run and state.rows.begun:
            self.fail(state, "a value counts, though a newer run has begun without it")
        state = state._replace(saved=max(state.saved, one.step + 1))
        return self.change(state, which, phase="begun", step=one.step + 1)

    def end(self, which: int, state: State, *, is_lost: bool = False) -> State | None:
        one, rows = state.processes[which], state.rows
        if one.phase != "ending" or not self.reaches(state, which):
            return None
        ended = "Cancelled" if rows.ordered else "Completed"
        if self.is_mine(state, which):
            new = rows._replace(state=ended, server=None, lock=None, ordered=False)
            state = self.commit(state, new)
        elif is_lost:
            return None
        elif self.without == "an end needs its row" and rows.state not in OVER:
            self.fail(state, "an end that came late counts")
        return state if is_lost else self.drop(state, which)

    def steps(self, which: int, state: State) -> Iterator[Move]:
        """What a process may do next."""
        for name, move in (
            ("turns", self.turn),
            ("takes over", self.take_over),
            ("claims", self.claim),
            ("takes the lease", self.take_lease),
            ("puts back", self.put_back),
            ("begins", self.begin),
            ("begins a step", self.begin_step),
            ("saves", self.save),
            ("ends", self.end),
        ):
            yield f"{which} {name}", partial(move, which, state)

    def tick(self, state: State) -> State | None:
        if any(one.state == "runs" and not one.has_turned for one in state.processes):
            return None
        for which, one in enumerate(state.processes):
            silent = max(one.silent, 0) if state.is_away else min(one.silent + 1, SILENT)
            behind = one.behind + (TICK if one.state == "stands" else 0.0)
            state = self.change(state, which, has_turned=False, silent=silent, behind=behind)
        lease = state.lease._replace(age=min(state.lease.age + 1, EXPIRES))
        return state._replace(now=state.now + TICK, lease=lease)

    # What goes wrong, and is mended

    def trouble(self, state: State) -> Iterator[Move]:
        def lost_beat(which: int) -> State | None:
            if state.processes[which].has_turned or not self.reaches(state, which):
                return None
            return self.change(self.beat(which, state, is_lost=True), which, has_turned=True)

        for which in SERVERS:
            one = state.processes[which]
            if one.state != "runs":
                continue
            changes: dict[str, dict[str, Any]] = {
                "kill": {"state": "killed", "run": None, "phase": "", "step": 0, "dead": ()},
                "freeze": {"state": "frozen"},
                "stand": {"state": "stands", "stood": True},
                "cut off": {"is_cut": True},
                "cut off from all": {"is_alone": True},
            }
            for name, change in changes.items():
                yield f"{name} {which}", partial(self.change, state, which, **change)
            yield f"lost claim {which}", partial(self.claim, which, state, is_lost=True)
            yield f"lost end {which}", partial(self.end, which, state, is_lost=True)
            yield f"lost beat {which}", partial(lost_beat, which)
        if not state.is_away:
            yield "outage", lambda: state._replace(is_away=True)
        yield "jump", lambda: state._replace(offset=state.offset + 20)
        if state.before != state.rows:
            yield "failover", lambda: state._replace(rows=state.before)
        rows = state.rows
        if rows.state == "Queued":
            yield "cancel", lambda: self.commit(state, rows._replace(state="Cancelled"))
        if rows.state == "Running" and not rows.ordered:
            yield "cancel", lambda: self.commit(state, rows._replace(ordered=True))

    def mends(self, state: State) -> Iterator[Move]:
        if state.is_away:
            ended = state._replace(is_away=False)
            for which in SERVERS:  # they try again each two seconds
                ended = self.change(ended, which, has_turned=False)
            yield "the outage ends", lambda: ended
            for which in SERVERS:
                mended = self.change(ended, 1 - which, is_cut=True)
                yield f"the outage ends for {which}", partial(lambda mended: mended, mended)
        for which, one in enumerate(state.processes):
            if one.state in ("frozen", "stands"):
                yield f"thaw {which}", partial(self.change, state, which, state="runs", has_turned=False)
            if one.is_cut or one.is_alone:
                yield (
                    f"reconnect {which}",
                    partial(self.change, state, which, is_cut=False, is_alone=False, has_turned=False),
                )

    def moves(self, state: State, most: int) -> Iterator[Move]:
        for which in SERVERS:
            yield from self.steps(which, state)
        yield "tick", partial(self.tick, state)
        yield from self.mends(state)
        if state.troubles < most:
            for name, move in self.trouble(state):
                if name.rstrip(" 01") in self.troubles:
                    yield name, partial(self.with_trouble, move)

    def with_trouble(self, move: Callable[[], State | None]) -> State | None:
        state = move()
        return None if state is None else state._replace(troubles=state.troubles + 1)

    # From every state, mended, the run ends

    def mended(self, state: State, cut: int | None) -> State:
        state = state._replace(is_away=False)
        for which, one in enumerate(state.processes):
            if one.state == "killed":
                state = self.restart(which, state)
            else:
                is_cut = which == cut
                state = self.change(state, which, state="runs", is_cut=is_cut, is_alone=False, has_turned=False)
        return state

    def restart(self, which: int, state: State) -> State:
        lock = state.numbers
        heart = Heartbeat.new(lock, lock + 1, self.own_time(state, which), self.rhythm)
        process = Process(
            state.processes[which].life + 1, heart, Watcher(rhythm=self.rhythm), behind=state.processes[which].behind
        )
        processes = list(state.processes)
        processes[which] = process
        state = state._replace(processes=tuple(processes), numbers=lock + 2)
        return self.commit(state, state.rows.with_beat(lock, Beat(heart.beat, self.clock(state))))

    def settle(self, state: State) -> State:
        """Lets each process do what it can, and a tick pass."""
        for which in SERVERS:
            for _ in range(3):
                for name in ("turn", "take_over", "claim", "take_lease", "begin"):
                    state = getattr(self, name)(which, state) or state
                for _ in range(STEPS + 1):
                    for name in ("begin_step", "save"):
                        state = getattr(self, name)(which, state) or state
                for name in ("end", "put_back"):
                    state = getattr(self, name)(which, state) or state
        return self.tick(state) or state

    def check_ends(self, state: State, cut: int | None, known: set[object]) -> None:
        """Raises Violation if the run does not end, with all mended but a server cut off from the database."""
        here, seen = self.mended(state, cut), list[object]()
        for _ in range(60):
            key = cut, key_of(here, is_mended=True)
            if key in known or here.rows.state in OVER:
                known.update(seen)
                return
            seen.append(key)
            here = self.settle(here)
        self.fail(state, "a run never ends")


def key_of(state: State, *, fails_over: bool = False, reads_clock: bool = False, is_mended: bool = False) -> object:
    """A state without what makes no difference: the time, the numbers themselves and the path.

    Args:
        state: The state.
        fails_over: Whether the last commit may still be lost.
        reads_clock: Whether something depends on the clock of the database.
        is_mended: Whether no trouble comes any more.
    """
    names: dict[int, int] = {}

    def name(number: int | None) -> int | None:
        return None if number is None else names.setdefault(number, len(names))

    def rows_of(rows: Rows) -> object:
        now = round(state.now / TICK) + state.offset
        beats = tuple((name(lock), name(row.beat), reads_clock and min(now - row.at, 7)) for lock, row in rows.beats)
        run = rows.number - state.rows.number, rows.state, rows.server, name(rows.lock), rows.begun, rows.ordered
        return run, beats

    newest = state.rows.number
    rows = rows_of(state.rows), fails_over and rows_of(state.before)
    processes = []
    for one in state.processes:
        now = state.now - one.behind
        heart, watcher = one.heart, one.watcher
        stills = tuple(
            (name(lock), name(still.beat), min(still.seconds, LONG)) for lock, still in sorted(watcher.beats.items())
        )
        looked = watcher.looked and (now - watcher.looked[0] if now - watcher.looked[0] <= TICK else LONG)
        pending = heart.pending and name(heart.pending.beat)
        beats = name(heart.lock), name(heart.beat), min(now - heart.answered, LONG), pending
        processes.append((one, beats, stills, looked))
    parts = []
    for one, beats, stills, looked in processes:
        now = state.now - one.behind
        sent = tuple(  # what no row and no watcher has, makes no difference
            (names[sent.beat], min(now - sent.at, LONG)) for sent in one.heart.sent if sent.beat in names
        )
        run = None if one.run is None else one.run - newest
        dead = tuple((name(lock), name(beat)) for lock, beat in one.dead)
        plain = one.state, one.is_cut, one.is_alone, one.phase, one.step, one.has_turned, one.stood, one.silent
        parts.append((plain, one.life, beats, sent, stills, looked, run, dead))
    holder = state.lease.holder and (*state.lease.holder[:2], state.lease.holder[2] - newest)
    troubles = 0 if is_mended else state.troubles
    return rows, tuple(parts), holder, state.lease.age, state.saved, state.is_away, troubles


def explore(
    most: int, states: int | None = None, without: str = "", troubles: tuple[str, ...] = TROUBLES, *, ends: bool = True
) -> int:
    """Visits the states that can be reached with so many troubles, the nearest first. Returns how many there are.

    Args:
        most: How many troubles there may be.
        states: After how many states it stops.
        without: A rule that does not hold.
        troubles: What may go wrong.
        ends: Whether it checks that each run ends.

    Raises:
        Violation: A promise is broken.
    """
    world = World(without, troubles)

    def key_of_any(state: State) -> object:
        fails_over = state.troubles < most and "failover" in troubles
        return key_of(state, fails_over=fails_over, reads_clock=without == RULES[0])

    first = world.start()
    waiting, seen, known = deque([first]), {key_of_any(first)}, set[object]()
    while waiting:
        state = waiting.popleft()
        if ends:
            for cut in (None, *SERVERS):
                world.check_ends(state, cut, known)
        for step, move in world.moves(state, most):
            try:
                new = move()
            except Violation as error:
                raise Violation(f"{error}, {step}") from None
            if new is None:
                continue
            new = new._replace(path=(*state.path, step))
            key = key_of_any(new)
            if key not in seen:
                if states is not None and len(seen) >= states:
                    return len(seen)
                seen.add(key)
                waiting.append(new)
    return len(seen)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--troubles", type=int, default=1)
    parser.add_argument("--states", type=int)
    parser.add_argument("--without", choices=RULES, default="")
    parser.add_argument("--of", nargs="*", choices=TROUBLES, default=TROUBLES)
    options = parser.parse_args(arguments)
    print(explore(options.troubles, options.states, options.without, tuple(options.of)), "states")


if __name__ == "__main__":
    main(sys.argv[1:])
