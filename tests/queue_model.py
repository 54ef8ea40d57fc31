"""A model of the runs of one name: two servers, a program, and all that may come between two of their steps.

The queue is the real one, on a database in memory. The way of a run through its name's lock and its storage is a list
of steps here, in the order of `Checkpoints.open`. `explore` visits each reachable state once, and checks the rules.

    python -m tests.queue_model --troubles 4
"""

import argparse
import contextlib
import sqlite3
import sys
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from unittest import mock

from dotflow.abc.operations import Claim, Ending, Order, Submission, TypeOrder
from dotflow.core.types.run_state import TypeRunState
from dotflow.errors import HistoryError, OrderRefused
from dotflow.providers.histories.sqlite import live, queue
from dotflow.providers.histories.sqlite.tables import FORMAT
from dotflow.providers.histories.sqlite.writer import LAST_OPEN, SET_ORIGIN, end_others

NAME: Final = "nightly"
STEPS: Final = ("step 0", "step 1")
SERVERS: Final = ("one", "two")
HAND: Final = "hand"  # a program that starts the workflow itself

#: What no other process can see, since the name is locked: nothing but a kill comes before one of them.
UNSEEN: Final = ("forget origin", "void", "write origin")
ANEW: Final = ("supersede", "forget origin", "void", "write origin", "begin", *STEPS, "unlock", "end")
STATES: Final = frozenset(TypeRunState)


@dataclass(frozen=True)
class Process:
    """A process: its byte, and the run that it has.

    Attributes:
        lock: Its byte; a killed process begins again with another one.
        run, origin: The run, and the first run of its chain; "" without one.
        way: What the run has to do yet.
        claim: The claim; None for a run by hand.
        continues: Whether the run by hand is a resume.
        is_unrecorded: Whether the run by hand has no history.
        stops: Whether the server got a signal.
    """

    lock: int
    run: str = ""
    origin: str = ""
    way: tuple[str, ...] = ()
    claim: Claim | None = None
    continues: bool = False
    is_unrecorded: bool = False
    stops: bool = False


@dataclass(frozen=True)
class State:
    """All that counts.

    Attributes:
        database: The history.
        processes: By name.
        origin: Whose values the storage has, as it says itself.
        values: The chain that made the value of each step; "" for none.
        locked_by: The process that has the lock of the name.
        troubles: How many kills, signals, orders and runs by hand there were.
        submissions: How many there were.
        saved: The steps that a chain has finished, unless another chain has voided them since.
        cancelled: The chains that an order has cancelled, and none has resumed since.
        numbers: How many ids and bytes were given out.
        path: How it came to this; not part of the state.
    """

    database: bytes
    processes: dict[str, Process]
    origin: str = ""
    values: tuple[str, ...] = ("",) * len(STEPS)
    locked_by: str = ""
    troubles: int = 0
    submissions: int = 0
    saved: frozenset[tuple[str, str]] = frozenset()
    cancelled: frozenset[str] = frozenset()
    numbers: int = 0
    path: tuple[str, ...] = ()


class Violation(AssertionError):
    """A rule is broken, after the steps in the message."""


class _File:
    """What the queue needs of its file: a database in memory."""

    files = None

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def transact(self, work: Callable[[sqlite3.Connection], Any]) -> Any:
        self.connection.execute("BEGIN")
        try:
            result = work(self.connection)
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")
        return result

    def run(self, statement: str, values: Any) -> list[Any]:
        return self.connection.execute(statement, values).fetchall()


class _Queue(queue.SQLiteQueue):
    """The queue, which returns the id of a run in place of its summary."""

    def newest(self, run: str) -> Any:
        return run


class World:
    """One state that can be moved on: each method is one step of one process."""

    def __init__(self, state: State) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        weakref.finalize(self, self.connection.close)
        self.connection.deserialize(state.database)
        self.state = state
        self.numbers = state.numbers
        self.queue = _Queue(_File(self.connection), Path("history.db"))  # type: ignore[arg-type]

    @classmethod
    def new(cls) -> "World":
        connection = sqlite3.connect(":memory:", isolation_level=None)
        connection.execute("PRAGMA page_size = 512")
        for statement in FORMAT.schema:
            connection.execute(statement)
        processes = {name: Process(number) for number, name in enumerate((*SERVERS, HAND))}
        with contextlib.closing(connection):
            return cls(State(connection.serialize(), processes, numbers=len(processes)))

    def number(self) -> int:
        self.numbers += 1
        return self.numbers

    def server(self, name: str) -> queue.SQLiteServer:
        """Returns the server that a process is: it is named by its byte, so it needs no registration."""
        server = object.__new__(queue.SQLiteServer)
        lock = self.state.processes[name].lock
        vars(server).update(
            _queue=self.queue, _path=self.queue.path, _workflows=(NAME,), _server=f"server {lock}", _lock=lock, _dead={}
        )
        return server

    def change(self, name: str, **values: Any) -> None:
        self.state = replace(self.state, processes={**self.state.processes, name: replace(self.of(name), **values)})

    def of(self, name: str) -> Process:
        return self.state.processes[name]

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        return self.connection.execute(sql, values).fetchall()

    def after(self, step: str) -> State:
        """Returns the state that it has reached by a step."""
        path = (*self.state.path, step)
        return replace(self.state, database=self.connection.serialize(), numbers=self.numbers, path=path)

    def is_alive(self, lock: int) -> bool:
        return any(process.lock == lock for process in self.state.processes.values())

    # What may happen

    def submit(self) -> None:
        self.queue.submit(Submission(NAME, "{}", NAME))
        self.state = replace(self.state, submissions=self.state.submissions + 1)

    def claim(self, name: str) -> bool:
        active = self.rows("SELECT lock, run IN (SELECT run FROM wanted) FROM runs WHERE state = 'Running'")
        before = [lock for lock, is_wanted in active if is_wanted or self.is_alive(lock)]
        going_on = self.rows("SELECT run FROM wanted WHERE queued AND resume")
        claim = self.server(name).claim({NAME: None}, ())
        if claim is None:
            return False
        self.expect(not before, "of a name one run is active, dead or alive")
        taken = (self.number_of(claim.run_id),)
        self.expect(not going_on or taken in going_on, "nothing overtakes what continues a run")
        self.change(name, run=claim.run_id, origin=claim.origin, claim=claim, way=("lock",))
        return True

    def advance(self, name: str) -> None:
        """Does the next thing on the way of a process's run."""
        process = self.of(name)
        step, *way = process.way
        if step in (*STEPS, "unlock") and (ending := self.heed(name)) is not None:
            self.state = replace(self.state, locked_by="")
            self.end(name, *ending)
            return
        self.change(name, way=tuple(way))
        getattr(self, f"_{step.replace(' ', '_')}", self._run_step)(name, *([step] if step in STEPS else []))
        if way and way[0] in UNSEEN:
            self.advance(name)

    def heed(self, name: str) -> tuple[TypeRunState, bool] | None:
        """Returns how a run ends before its next step: by an order, or since its server stops."""
        process = self.of(name)
        orders = {order.what for order in self.queue.orders().get(process.run, ())}
        if TypeOrder.CANCEL in orders:
            return TypeRunState.CANCELLED, False
        if TypeOrder.PAUSE in orders or process.stops:
            return TypeRunState.PAUSED, process.stops
        return None

    def _lock(self, name: str) -> None:
        process = self.of(name)
        if self.state.locked_by:
            if process.claim is not None:
                self.server(name).put_back(process.claim, 0)
            self.change(name, run="", origin="", claim=None, way=(), stops=False)
            return
        self.state = replace(self.state, locked_by=name)
        claim, saved = process.claim, self.state.origin
        if claim is None:
            self.change(name, way=self.way_by_hand(process))
        elif claim.continues and saved == claim.origin:
            self.change(name, way=("begin", *self.steps_left(), "unlock", "end"))
        elif claim.continues and saved and claim.has_begun:
            self.state = replace(self.state, locked_by="")
            self.end(name, TypeRunState.CANCELLED, False)
        else:
            self.change(name, way=ANEW)

    def way_by_hand(self, process: Process) -> tuple[str, ...]:
        if process.continues and any(self.state.values):
            self.change(HAND, origin=self.state.origin or process.origin)
            return ("register", *self.steps_left(), "unlock", "end")
        if process.is_unrecorded:  # without a history
            origin = ("forget origin", "void", "write origin") if self.state.origin else ("void",)
            return (*origin, *STEPS, "unlock", "leave")
        return ("forget origin", "void", "write origin", "register", *STEPS, "unlock", "end")

    def steps_left(self) -> tuple[str, ...]:
        return tuple(step for step, made_by in zip(STEPS, self.state.values, strict=True) if not made_by)

    def _supersede(self, name: str) -> None:
        claim = self.of(name).claim
        assert claim is not None
        self.server(name).supersede(claim)

    def _forget_origin(self, name: str) -> None:
        """From here on the values count as void, even if the process is killed."""
        mine = self.of(name).origin
        self.state = replace(self.state, origin="", saved=frozenset(one for one in self.state.saved if one[0] == mine))

    def _void(self, name: str) -> None:
        self._forget_origin(name)
        self.state = replace(self.state, values=("",) * len(STEPS))

    def _write_origin(self, name: str) -> None:
        self.state = replace(self.state, origin=self.of(name).origin)

    def _begin(self, name: str) -> None:
        claim = self.of(name).claim
        assert claim is not None
        self.server(name).begin(claim)

    def _register(self, name: str) -> None:
        """Writes a run by hand into the history, as `writer.register` does."""
        process = self.of(name)
        origin, continues = process.run, None
        if process.continues:
            origin = process.origin
            for continues, of_last in self.rows(LAST_OPEN, NAME):
                if self.state.origin in ("", of_last):
                    origin = of_last
                    self.connection.execute(SET_ORIGIN, (origin, continues))
                    self.change(name, origin=origin)
                    break
            else:
                continues = None
            self.state = replace(self.state, cancelled=self.state.cancelled - {origin})
            self.state = replace(self.state, cancelled=self.state.cancelled - {origin})
        else:
            end_others(self.connection, NAME, origin, process.run, 0)
        self.connection.execute(
            """INSERT INTO runs (run_id, workflow_id, state, began, is_named, workflow, params, origin, continues,
            begun, lock) VALUES (?, ?, 'Running', 0, 1, ?, '{}', ?, ?, 1, ?)""",
            (process.run, NAME, NAME, origin, continues, process.lock),
        )

    def _run_step(self, name: str, step: str) -> None:
        process = self.of(name)
        self.expect((process.origin, step) not in self.state.saved, "no finished step runs twice")
        values = tuple(
            process.origin if other == step else made_by
            for other, made_by in zip(STEPS, self.state.values, strict=True)
        )
        saved = self.state.saved | {(process.origin, step)}
        self.state = replace(self.state, values=values, saved=saved)

    def _unlock(self, name: str) -> None:
        process = self.of(name)
        if process.claim is not None:
            self.expect(set(self.state.values) == {process.origin}, "a run has the values of its own chain")
        self.state = replace(self.state, locked_by="")

    def _end(self, name: str) -> None:
        self.end(name, TypeRunState.COMPLETED, False)

    def _leave(self, name: str) -> None:
        self.change(name, run="", origin="", way=(), is_unrecorded=False)

    def end(self, name: str, state: TypeRunState, goes_on: bool) -> None:
        process = self.of(name)
        if process.claim is None:
            self.connection.execute(queue.END, (state, 0, None, None, self.number_of(process.run)))
            self.connection.execute("UPDATE orders SET done = 0 WHERE run = ?", (self.number_of(process.run),))
        else:
            self.server(name).end(process.claim, Ending(state, goes_on=goes_on))
        self.change(name, run="", origin="", claim=None, way=(), continues=False, stops=False)

    def number_of(self, run: str) -> int:
        return int(self.rows("SELECT run FROM runs WHERE run_id = ?", run)[0][0])

    def take_over(self, name: str, run: int) -> bool:
        return self.queue.transact(self.server(name)._taking_over(run)) is not None

    # Troubles

    def trouble(self) -> None:
        self.state = replace(self.state, troubles=self.state.troubles + 1)

    def kill(self, name: str) -> None:
        self.trouble()
        if self.state.locked_by == name:
            self.state = replace(self.state, locked_by="")
        self.state = replace(self.state, processes={**self.state.processes, name: Process(self.number())})

    def kill_in(self, name: str, gap: int) -> None:
        """Kills a process after so many of the next things on its way that no other process can see."""
        process = self.of(name)
        first = next(place for place, step in enumerate(process.way) if step in UNSEEN)
        if first:
            self._supersede(name)
        for step in process.way[first : first + gap]:
            getattr(self, f"_{step.replace(' ', '_')}")(name)
        self.kill(name)

    def signal(self, name: str) -> None:
        """The first signal: a run that has not begun goes back to the queue, the others end before their next step."""
        self.trouble()
        self.change(name, stops=True)

    def order(self, what: str, run: str) -> bool:
        self.trouble()
        origin = self.rows("SELECT COALESCE(origin, run_id) FROM runs WHERE run_id = ?", run)[0][0]
        with contextlib.suppress(OrderRefused):
            if what == "resume":
                self.queue.resume(run, (), "me", "")
                self.state = replace(self.state, cancelled=self.state.cancelled - {origin})
            else:
                self.queue.order(run, Order(TypeOrder(what), "me"))
                if what == "cancel":
                    self.state = replace(self.state, cancelled=self.state.cancelled | {origin})
            return True
        return False

    def start_by_hand(self, *, continues: bool = False, is_unrecorded: bool = False) -> None:
        self.trouble()
        claim = self.server(HAND).take_continuation(NAME) if continues else None
        if claim is not None:
            self.change(HAND, run=claim.run_id, origin=claim.origin, claim=claim, way=("lock",))
        else:
            run = f"hand {self.number()}"
            self.change(HAND, run=run, origin=run, way=("lock",), continues=continues, is_unrecorded=is_unrecorded)

    # Rules

    def expect(self, is_so: bool, rule: str) -> None:
        if not is_so:
            raise Violation(f"{rule}: {', '.join(self.state.path)}")

    def check(self) -> None:
        """Checks what holds in each state."""
        for origin in self.state.cancelled:
            chain = self.rows("SELECT state FROM runs WHERE origin = ? ORDER BY run DESC LIMIT 1", origin)
            ordered = self.rows(
                "SELECT 1 FROM orders JOIN runs USING (run) WHERE origin = ? AND what = 'cancel' AND done IS NULL",
                origin,
            )
            self.expect(bool(ordered) or chain[0][0] in ("Cancelled", "Completed"), "a cancel is not undone")
        fresh = self.rows("SELECT COUNT(*) FROM wanted WHERE queued AND NOT resume")
        self.expect(fresh[0][0] <= 1, "of a name one fresh run is queued")

    def check_rest(self) -> None:
        """Checks what holds where nothing can happen any more: nothing that is wanted is left."""
        left = self.rows(
            "SELECT run_id, state FROM runs LEFT JOIN wanted USING (run) WHERE state = 'Queued'"
            " OR state = 'Running' AND wanted.run IS NOT NULL"
        )
        self.expect(not left, f"nothing is left: {left}")


def moves(state: State, troubles: int, submissions: int) -> Iterator[tuple[str, Callable[[World], object]]]:
    """Yields what may happen in a state, and does it in a world with that state. False means: nothing happened."""
    world = World(state)
    running = world.rows("SELECT run, lock FROM runs JOIN wanted USING (run) WHERE state = 'Running'")
    dead = [run for run, lock in running if not world.is_alive(lock)]
    for name, process in state.processes.items():
        if process.way:
            yield f"{name}: {process.way[0]}", lambda world, name=name: world.advance(name)
        elif name != HAND:
            yield f"{name} claims", lambda world, name=name: world.claim(name)
    for run in dead:
        yield f"one takes {run} over", lambda world, run=run: world.take_over("one", run)
    if state.submissions < submissions:
        yield "submit", World.submit
    if state.troubles >= troubles:
        return
    for name, process in state.processes.items():
        if process.way:
            yield f"kill {name}", lambda world, name=name: world.kill(name)
            gaps = sum(step in UNSEEN for step in process.way) if process.way[0] in ("supersede", *UNSEEN) else 0
            for gap in range(1 - (process.way[0] == "supersede"), gaps):
                yield f"kill {name} in gap {gap}", lambda world, name=name, gap=gap: world.kill_in(name, gap)
            if name != HAND and not process.stops:
                yield f"signal {name}", lambda world, name=name: world.signal(name)
    if not state.processes[HAND].way:
        yield "start by hand", World.start_by_hand
        yield "start again by hand", lambda world: world.start_by_hand(continues=True)
        yield "start unrecorded by hand", lambda world: world.start_by_hand(is_unrecorded=True)
    chains = world.rows("SELECT run_id FROM runs GROUP BY COALESCE(origin, run_id) HAVING run = MAX(run)")
    for (run,) in chains:
        for what in ("cancel", "pause", "resume"):
            yield f"{what} {run}", lambda world, what=what, run=run: world.order(what, run)


def key_of(world: World) -> Any:
    """Returns what two equal states share: ids and bytes count by what they are, and the servers are alike."""
    rows = [
        world.rows("SELECT run_id, state, origin, continues, begun, superseded, lock FROM runs ORDER BY run"),
        world.rows("SELECT run, resume, queued, tries, server FROM wanted ORDER BY run"),
        world.rows("SELECT run, what FROM orders WHERE done IS NULL ORDER BY rowid"),
    ]
    state = world.state
    runs = {run_id: number for number, (run_id, *_) in enumerate(rows[0])}

    def seen_by(names: tuple[str, ...]) -> tuple[Any, ...]:
        processes = [state.processes[name] for name in names]
        locks = {process.lock: place for place, process in enumerate(processes)}
        known = {None: None, "": ""} | runs | {f"server {lock}": place for lock, place in locks.items()}

        def plain(value: Any) -> Any:
            return known.get(value, value if value in STATES else "gone")

        return (
            tuple((*(plain(value) for value in row[:6]), locks.get(row[6])) for row in rows[0]),
            tuple((*row[:4], plain(row[4])) for row in rows[1]),
            tuple(rows[2]),
            tuple(
                (
                    *(plain(one.run), plain(one.origin), one.way, one.claim and one.claim[5:7], one.continues),
                    *(one.is_unrecorded, one.stops),
                )
                for one in processes
            ),
            names.index(state.locked_by) if state.locked_by else None,
            tuple(map(plain, (state.origin, *state.values))),
            tuple(sorted((str(plain(origin)), step) for origin, step in state.saved)),
            tuple(sorted(str(plain(origin)) for origin in state.cancelled)),
        )

    order = (*SERVERS, HAND)
    mirrored = (*reversed(SERVERS), HAND)
    return min(map(repr, (seen_by(order), seen_by(mirrored)))), state.troubles, state.submissions


def explore(troubles: int, submissions: int, limit: int | None = None) -> int:
    """Visits all states with so many troubles and submissions, and returns their number. Raises Violation."""
    with mock.patch.multiple(queue, _now=lambda: 0, mark_ended=_mark_ended):
        world = World.new()
        seen, waiting = {key_of(world)}, [world.state]
        while waiting:
            state = waiting.pop()
            is_over = True
            for step, move in moves(state, troubles, submissions):
                world = World(state)
                with (
                    mock.patch.object(live, "is_held", lambda path, lock, world=world: world.is_alive(lock)),
                    mock.patch.object(queue.uuid, "uuid4", lambda world=world: f"run {world.number()}"),
                ):
                    try:
                        happened = move(world) is not False
                    except HistoryError as error:
                        raise Violation(f"{error}: {', '.join((*state.path, step))}") from error
                if not happened:
                    continue
                if not step.startswith(("submit", "kill", "signal", "start", "cancel", "pause", "resume")):
                    is_over = False
                world.state = following = world.after(step)
                world.check()
                key = key_of(world)
                if key not in seen:
                    seen.add(key)
                    waiting.append(following)
                    if limit is not None and len(seen) >= limit:
                        return len(seen)
            if is_over:
                World(state).check_rest()
    return len(seen)


def _mark_ended(connection: sqlite3.Connection, path: Path) -> list[int]:
    """Marks runs by hand whose process has ended, as `crashed.mark_ended`."""
    for run, lock in connection.execute(
        "SELECT run, lock FROM runs WHERE state = 'Running' AND run NOT IN (SELECT run FROM wanted)"
    ).fetchall():
        if not live.is_held(path, lock):
            connection.execute("UPDATE runs SET state = 'Crashed', ended = 0 WHERE run = ?", (run,))
    return []


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--troubles", type=int, default=2)
    parser.add_argument("--submissions", type=int, default=2)
    options = parser.parse_args(arguments)
    print(explore(options.troubles, options.submissions), "states")


if __name__ == "__main__":
    main(sys.argv[1:])
