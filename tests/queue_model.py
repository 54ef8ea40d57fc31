"""A model of the runs of one name: two servers, a program, and all that may come between two of their steps.

The queue is the real one, on a database in memory. The way of a run through its name's lock and its storage is a list
of steps here, in the order of `Checkpoints.open`. `explore` visits each reachable state once, and checks the rules.

    python -m tests.queue_model --troubles 4

One database goes along: a move is a savepoint, which is rolled back to come to the next one.
"""

import argparse
import contextlib
import sys
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any, Final, NamedTuple
from unittest import mock

from dotflow.abc.operations import Claim, Ending, Order, Submission, TypeOrder
from dotflow.abc.workflow import Superseded
from dotflow.core.types.run_state import TypeRunState
from dotflow.errors import HistoryError, OrderRefused
from dotflow.providers.histories.sql import database, queue
from dotflow.providers.histories.sql.database import SQLiteConnection
from dotflow.providers.histories.sql.writer import LAST_OPEN, SET_ORIGIN, end_others
from dotflow.providers.histories.sqlite.formats import FORMAT
from tests.histories import take

NAME: Final = "nightly"
STEPS: Final = ("step 0", "step 1")
SERVERS: Final = ("one", "two")
HAND: Final = "hand"  # a program that starts the workflow itself

#: What no other process can see, since the name is locked: nothing but a kill comes before one of them.
UNSEEN: Final = ("forget origin", "void", "write origin")
ANEW: Final = ("supersede", "forget origin", "void", "write origin", "begin", *STEPS, "unlock", "end")
#: What may never happen: a state in which nothing else can is one of rest.
OPTIONAL: Final = ("submit", "kill", "signal", "start", "cancel", "pause", "resume")


class Process(NamedTuple):
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


class State(NamedTuple):
    """All that counts beside the history.

    Attributes:
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


class _Connection(SQLiteConnection):
    """A connection for which no time passes."""

    now = 0


class _Database:
    """What the queue needs of a database, in memory; and which processes live."""

    store = "history.db"
    patience = 0.0

    def __init__(self, connection: _Connection, is_alive: Callable[[int], bool]) -> None:
        self.connection = connection
        self.presence = self
        self.is_held = is_alive

    def is_dead(self, connection: _Connection, lock: int) -> bool:
        return not self.is_held(lock)

    def bury(self) -> None:
        """Nothing is left of dead processes."""

    def silences(self, connection: _Connection) -> dict[int, float]:
        return {}

    def silence(self, lock: int) -> float | None:
        return None

    def may_begin(self) -> bool:
        return True

    def may_claim(self, connection: _Connection) -> bool:
        return True

    def now(self) -> int:
        return 0

    def transact(self, work: Callable[[_Connection], Any], lock: str | None = None, *, durable: bool = True) -> Any:
        self.connection.execute("SAVEPOINT work")
        try:
            return work(self.connection)
        except BaseException:
            self.connection.execute("ROLLBACK TO work")
            raise
        finally:
            self.connection.execute("RELEASE work")

    def run(self, statement: str, values: Any = ()) -> list[Any]:
        return self.connection.execute(statement, values).fetchall()

    glance = run


class _Queue(queue.SQLQueue):
    """The queue, which returns the id of a run in place of its summary."""

    def newest(self, run: str) -> Any:
        return run


class World:
    """A state that is moved on: each method is one step of one process."""

    def __init__(self, connection: _Connection) -> None:
        self.connection = connection
        for statement in FORMAT.schema:
            connection.execute(statement)
        processes = {name: Process(number) for number, name in enumerate((*SERVERS, HAND))}
        self.state = State(processes, numbers=len(processes))
        self.queue = _Queue(_Database(connection, self.is_alive))  # type: ignore[arg-type]

    def number(self) -> int:
        self.state = self.state._replace(numbers=self.state.numbers + 1)
        return self.state.numbers

    def server(self, name: str) -> queue.SQLQueueServer:
        """Returns the server that a process is: it is named by its byte, so it needs no registration."""
        server = object.__new__(queue.SQLQueueServer)
        lock = self.state.processes[name].lock
        vars(server).update(
            _queue=self.queue,
            _database=self.queue.database,
            _presence=self.queue.database.presence,
            _workflows=(NAME,),
            _server=f"server {lock}",
            _watch=SimpleNamespace(lock=lock, hurry=lambda: None),
            _dead={},
        )
        return server

    def change(self, name: str, **values: Any) -> None:
        self.state = self.state._replace(processes={**self.state.processes, name: self.of(name)._replace(**values)})

    def of(self, name: str) -> Process:
        return self.state.processes[name]

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        return self.connection.execute(sql, values).fetchall()

    def is_alive(self, lock: int) -> bool:
        return any(process.lock == lock for process in self.state.processes.values())

    # What may happen

    def submit(self) -> None:
        self.queue.submit(Submission(NAME, "{}", NAME))
        self.state = self.state._replace(submissions=self.state.submissions + 1)

    def claim(self, name: str) -> bool:
        active = self.rows("SELECT lock, run IN (SELECT run FROM wanted) FROM runs WHERE state = 'Running'")
        before = [lock for lock, is_wanted in active if is_wanted or self.is_alive(lock)]
        going_on = self.rows("SELECT run FROM wanted WHERE queued AND resume")
        claim = take(self.server(name), NAME)
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
        last = "end" if process.claim is None else "unlock"  # the end of a run by hand is recorded before its lock ends
        if step in (*STEPS, last) and (ending := self.heed(name)) is not None:
            self.state = self.state._replace(locked_by="")
            self.end(name, *ending)
            return
        self.change(name, way=tuple(way))
        getattr(self, f"_{step.replace(' ', '_')}", self._run_step)(name, *([step] if step in STEPS else []))
        if self.of(name).way[:1] and self.of(name).way[0] in UNSEEN:
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
        self.state = self.state._replace(locked_by=name)
        claim, saved = process.claim, self.state.origin
        if claim is None:
            self.change(name, way=self.way_by_hand(process))
        elif claim.continues and saved == claim.origin:
            self.change(name, way=("supersede", "begin", *self.steps_left(), "unlock", "end"))
        elif claim.continues and saved and claim.has_begun:
            self._replaced(name)
        else:
            self.change(name, way=ANEW)

    def way_by_hand(self, process: Process) -> tuple[str, ...]:
        if process.continues and any(self.state.values):
            self.change(HAND, origin=self.state.origin or process.origin)
            return ("register", *self.steps_left(), "end")
        if process.is_unrecorded:  # without a history
            origin = ("forget origin", "void", "write origin") if self.state.origin else ("void",)
            return (*origin, *STEPS, "unlock", "leave")
        return ("forget origin", "void", "write origin", "register", *STEPS, "end")

    def steps_left(self) -> tuple[str, ...]:
        return tuple(step for step, made_by in zip(STEPS, self.state.values, strict=True) if not made_by)

    def _supersede(self, name: str) -> None:
        claim = self.of(name).claim
        assert claim is not None
        try:
            self.server(name).supersede(claim)
        except Superseded:
            self._replaced(name)

    def _replaced(self, name: str) -> None:
        self.state = self.state._replace(locked_by="")
        self.end(name, TypeRunState.CANCELLED, False)

    def _forget_origin(self, name: str) -> None:
        """From here on the values count as void, even if the process is killed."""
        mine = self.of(name).origin
        self.state = self.state._replace(origin="", saved=frozenset(one for one in self.state.saved if one[0] == mine))

    def _void(self, name: str) -> None:
        self._forget_origin(name)
        self.state = self.state._replace(values=("",) * len(STEPS))

    def _write_origin(self, name: str) -> None:
        self.state = self.state._replace(origin=self.of(name).origin)

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
            self.state = self.state._replace(cancelled=self.state.cancelled - {origin})
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
        self.state = self.state._replace(values=values, saved=saved)

    def _unlock(self, name: str) -> None:
        process = self.of(name)
        if process.claim is not None:
            self.expect(set(self.state.values) == {process.origin}, "a run has the values of its own chain")
        self.state = self.state._replace(locked_by="")

    def _end(self, name: str) -> None:
        is_by_hand = self.of(name).claim is None
        self.end(name, TypeRunState.COMPLETED, False)
        if is_by_hand:
            self.change(name, way=("unlock",))

    def _leave(self, name: str) -> None:
        self.change(name, run="", origin="", way=(), is_unrecorded=False)

    def end(self, name: str, state: TypeRunState, goes_on: bool) -> None:
        process = self.of(name)
        if process.claim is None:
            self.connection.execute(queue.END, (state, 0, None, None, None, self.number_of(process.run)))
            self.connection.execute("UPDATE orders SET done = 0 WHERE run = ?", (self.number_of(process.run),))
        else:
            self.server(name).end(process.claim, Ending(state, goes_on=goes_on))
        if state is TypeRunState.COMPLETED:  # which wins over a cancel
            self.state = self.state._replace(cancelled=self.state.cancelled - {process.origin})
        self.change(name, run="", origin="", claim=None, way=(), continues=False, stops=False)

    def number_of(self, run: str) -> int:
        return int(self.rows("SELECT run FROM runs WHERE run_id = ?", run)[0][0])

    def take_over(self, name: str, run: int) -> bool:
        return self.queue.transact(partial(self.server(name)._take_over, run)) is not None

    # Troubles

    def trouble(self) -> None:
        self.state = self.state._replace(troubles=self.state.troubles + 1)

    def kill(self, name: str) -> None:
        self.trouble()
        if self.state.locked_by == name:
            self.state = self.state._replace(locked_by="")
        lock = self.number()
        self.state = self.state._replace(processes={**self.state.processes, name: Process(lock)})

    def kill_in(self, name: str, gap: int) -> None:
        """Kills a process after so many of the next things on its way that no other process can see."""
        process = self.of(name)
        first = next(place for place, step in enumerate(process.way) if step in UNSEEN)
        if first:
            self._supersede(name)
            if self.of(name).claim is None:  # replaced
                return
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
                self.state = self.state._replace(cancelled=self.state.cancelled - {origin})
            else:
                self.queue.order(run, Order(TypeOrder(what), "me"))
                if what == "cancel":
                    self.state = self.state._replace(cancelled=self.state.cancelled | {origin})
            return True
        return False

    def replace(self) -> None:
        """A submission that cancels the older runs of the name."""
        self.trouble()
        sql = """SELECT DISTINCT origin FROM runs WHERE state IN ('Queued', 'Running', 'Paused') AND superseded IS NULL
            AND run_id NOT IN (SELECT continues FROM runs WHERE continues IS NOT NULL)"""
        older = {origin for (origin,) in self.rows(sql)}
        newer = self.queue.submit(Submission(NAME, "{}", NAME, replaced_by="me"))
        waiting = self.rows("SELECT run_id FROM wanted JOIN runs USING (run) WHERE queued")
        self.expect(waiting == [(newer,)], "what replaces the others waits alone")
        self.state = self.state._replace(cancelled=self.state.cancelled | older)

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


def moves(world: World, troubles: int, submissions: int) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yields what may happen in a state, and does it. False means: nothing happened."""
    state = world.state
    running = world.rows("SELECT run, lock FROM runs JOIN wanted USING (run) WHERE state = 'Running'")
    dead = [run for run, lock in running if not world.is_alive(lock)]
    for name, process in state.processes.items():
        if process.way:
            yield f"{name}: {process.way[0]}", partial(world.advance, name)
        elif name != HAND:
            yield f"{name} claims", partial(world.claim, name)
    for run in dead:
        yield f"one takes {run} over", partial(world.take_over, "one", run)
    by_hand = world.rows("SELECT lock FROM runs WHERE state = 'Running' AND run NOT IN (SELECT run FROM wanted)")
    if not all(world.is_alive(lock) for (lock,) in by_hand):
        yield "one finds a run by hand dead", partial(_mark_ended, world.connection, world.queue.database.presence)
    if state.submissions < submissions:
        yield "submit", world.submit
    if state.troubles >= troubles:
        return
    for name, process in state.processes.items():
        if process.way:
            yield f"kill {name}", partial(world.kill, name)
            gaps = sum(step in UNSEEN for step in process.way) if process.way[0] in ("supersede", *UNSEEN) else 0
            for gap in range(1 - (process.way[0] == "supersede"), gaps):
                yield f"kill {name} in gap {gap}", partial(world.kill_in, name, gap)
            if name != HAND and not process.stops:
                yield f"signal {name}", partial(world.signal, name)
    yield "submit in place of the older ones", world.replace
    if not state.processes[HAND].way:
        yield "start by hand", world.start_by_hand
        yield "start again by hand", partial(world.start_by_hand, continues=True)
        yield "start unrecorded by hand", partial(world.start_by_hand, is_unrecorded=True)
    chains = world.rows("SELECT run_id FROM runs GROUP BY COALESCE(origin, run_id) HAVING run = MAX(run)")
    for (run,) in chains:
        for what in ("cancel", "pause", "resume"):
            yield f"{what} {run}", partial(world.order, what, run)


def key_of(world: World, *, is_last: bool) -> int:
    """Returns what two equal states share, as 128 bits: ids and bytes count by what they are, and servers are alike.

    *is_last*: No trouble is left. Then a chain that has ended counts no more: only an order or a resume could find it.
    """
    state = world.state
    runs = world.rows("SELECT run_id, state, origin, continues, begun, superseded, lock, run FROM runs ORDER BY run")
    by_hand = state.processes[HAND]
    if is_last and not (by_hand.way and by_hand.continues):
        open_chains = {row[2] or row[0] for row in runs if row[1] in ("Queued", "Running")}
        open_chains.update(process.origin for process in state.processes.values())
        runs = [row for row in runs if (row[2] or row[0]) in open_chains]
    places = {row[7]: place for place, row in enumerate(runs)}
    wanted = world.rows("SELECT run, resume, queued, tries, server FROM wanted ORDER BY run")
    orders = world.rows("SELECT run, what FROM orders WHERE done IS NULL ORDER BY rowid")
    ids = {None: None, "": ""} | {row[0]: place for place, row in enumerate(runs)}

    def seen_by(names: tuple[str, ...]) -> int:
        processes = [state.processes[name] for name in names]
        locks = {process.lock: place for place, process in enumerate(processes)}
        known = ids | {f"server {lock}": place for lock, place in locks.items()}

        def plain(value: Any) -> Any:
            return known.get(value, "gone")

        return hash(
            (
                tuple((row[1], plain(row[2]), plain(row[3]), row[4], plain(row[5]), locks.get(row[6])) for row in runs),
                tuple((places[row[0]], *row[1:4], plain(row[4])) for row in wanted if row[0] in places),
                tuple((places[run], what) for run, what in orders if run in places),
                tuple(
                    (
                        *(plain(one.run), plain(one.origin), one.way, one.claim and one.claim[5:7], one.continues),
                        *(one.is_unrecorded, one.stops),
                    )
                    for one in processes
                ),
                names.index(state.locked_by) if state.locked_by else None,
                tuple(map(plain, (state.origin, *state.values))),
                frozenset((plain(origin), step) for origin, step in state.saved),
                frozenset(map(plain, state.cancelled)),
                state.submissions,
                is_last,
            )
        )

    one, two = sorted((seen_by((*SERVERS, HAND)), seen_by((*reversed(SERVERS), HAND))))
    return (one << 64) + two


def explore(troubles: int, submissions: int) -> int:
    """Visits all states with so many troubles and submissions, and returns their number. Raises Violation.

    What a state with fewer troubles before it has led to, it need not lead to again.
    """
    connection = _Connection(":memory:", isolation_level=None, cached_statements=1_000)
    with contextlib.closing(connection), mock.patch.object(queue, "mark_ended", _mark_ended):
        world = World(connection)
        with mock.patch.object(uuid, "uuid4", side_effect=lambda: f"run {world.number()}"):
            return _explore(world, troubles, submissions)


def _explore(world: World, troubles: int, submissions: int) -> int:
    seen = {key_of(world, is_last=not troubles): 0}  # the fewest troubles before each state
    way = [_Visit(world, troubles, submissions)]
    while way:
        visit = way[-1]
        world.state = visit.state
        step, move = next(visit.moves, ("", None))
        if move is None:
            if visit.is_over:
                world.check_rest()
            way.pop()
            if way:
                world.connection.execute("ROLLBACK TO visit")
                world.connection.execute("RELEASE visit")
            continue
        world.connection.execute("SAVEPOINT visit")
        world.state = world.state._replace(path=(*world.state.path, step))
        try:
            happened = move() is not False
        except HistoryError as error:
            raise Violation(f"{error}: {', '.join(world.state.path)}") from error
        if happened:
            visit.is_over = visit.is_over and step.startswith(OPTIONAL)
            world.check()
            before = world.state.troubles
            key = key_of(world, is_last=before == troubles)
            if seen.get(key, troubles + 1) > before:
                seen[key] = before
                way.append(_Visit(world, troubles, submissions))
                continue
        world.connection.execute("ROLLBACK TO visit")
        world.connection.execute("RELEASE visit")
    return len(seen)


class _Visit:
    """A state on the way, with what may happen in it yet. It is over if nothing but what is optional can happen."""

    def __init__(self, world: World, troubles: int, submissions: int) -> None:
        self.state = world.state
        self.moves = iter(list(moves(world, troubles, submissions)))
        self.is_over = True


def _mark_ended(connection: _Connection, presence: database.Presence) -> list[int]:
    """Marks runs by hand whose process has ended, as `crashed.mark_ended`."""
    for run, lock in connection.execute(
        "SELECT run, lock FROM runs WHERE state = 'Running' AND run NOT IN (SELECT run FROM wanted)"
    ).fetchall():
        if not presence.is_held(lock):
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
