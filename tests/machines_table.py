"""Serves one queue from two machines with a Postgres behind a pooler, harms them, and looks at what is left.

As root each machine is a network namespace, and cutting it off takes its link down. Without, a machine is a proxy
between its processes and the pooler, which swallows all. Each step leaves a mark where it begins and where it ends.
Afterwards each run has completed, no two of a name have run at once, and one page shows all.

Run: [MACHINES_LOGS=FOLDER] python tests/machines_table.py [SUBMISSIONS] [KILLS] [SEED]
     python tests/machines_table.py claims [CLAIMS]
"""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.cookiejar import CookieJar
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

ROOT: Final = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT)]

from dotflow.abc.operations import Ending, Submission  # noqa: E402 (found through the path that was just set)
from dotflow.core.types.run_state import TypeRunState  # noqa: E402
from dotflow.errors import HistoryError  # noqa: E402
from dotflow.providers import HistoryPostgres  # noqa: E402
from dotflow.providers.histories.sql.tables import COMPLETED  # noqa: E402
from tests import machines_flow  # noqa: E402
from tests.clouds.pgbouncer import BINARY, PgBouncer  # noqa: E402
from tests.clouds.postgres import Database, PostgresProcess  # noqa: E402
from tests.clouds.tcp_proxy import TcpProxy  # noqa: E402

SERVERS: Final = 2  # of a machine
LOGS: Final = "MACHINES_LOGS"  # the folder where the output of the servers stays; none for one that is deleted
RUNS_OF_A_NAME: Final = 3
DATABASE: Final = "10.213.0.1"  # the address of the pooler, for the namespaces
RESTART: Final = 1.0  # seconds from the end of a server to its next start, as a supervisor waits
AFTER_THAW: Final = 3.0  # seconds in which a thawed process finds that it was taken over
STARTING: Final = 10.0  # seconds that the start of a server takes at most
AFTER_KILL: Final = 2.0  # seconds in which the workers of a killed process end


class Harm(NamedTuple):
    """What is done to a machine, a server or the database.

    Attributes:
        what: "freeze": SIGSTOP for a server and its workers. "stop": for the server alone. "cut off": its machine loses
            the network. "restart" and "crash": Postgres.
        at: When it begins, in seconds after the start.
        seconds: Until it is over.
    """

    what: str
    at: float
    seconds: float


class Plan(NamedTuple):
    """What happens.

    Attributes:
        submissions: How many runs, three of a name.
        kills: How many servers get SIGKILL. One is spared: nobody takes over what no server has watched for 45 s.
        first: Seconds until the first kill.
        pause: Seconds between two kills.
        harms: What else happens.
        step: Seconds of a step.
        quick: Whether the times of the beats are a tenth, and values are in a folder, whose locks end with a process.
        limit: Seconds after which what is left counts as lost.
    """

    submissions: int = 1_000
    kills: int = 40
    first: float = 12.0
    pause: float = 8.0
    harms: tuple[Harm, ...] = (
        Harm("freeze", 8, 60),
        Harm("stop", 40, 60),
        Harm("cut off", 110, 75),
        Harm("restart", 200, 5),
        Harm("crash", 230, 5),
        Harm("cut off", 250, 20),  # too short for a take-over
    )
    step: float = 1.2
    quick: bool = False
    limit: float = 1_800.0


QUICK: Final = Plan(
    submissions=24,
    kills=3,
    first=4.0,
    pause=1.5,
    harms=(Harm("freeze", 3.5, 6), Harm("cut off", 4, 6), Harm("restart", 10.5, 0.5)),
    step=0.05,
    quick=True,
    limit=45.0,
)


class Machine:
    """A machine with servers, which reaches the pooler by an address of its own kind.

    Args:
        number: Which one.
        port: Of the pooler.

    Attributes:
        host, port: Where the pooler is, for its processes.
    """

    host = "127.0.0.1"

    def __init__(self, number: int, port: int) -> None:
        self.name = f"web-{number}"
        self._proxy = TcpProxy(port)
        self.port = self._proxy.port

    def command(self, *words: str) -> list[str]:
        """Returns the command for a process on it."""
        return list(words)

    def cut(self) -> None:
        """Takes its network away: nothing is answered, nothing is refused."""
        self._proxy.mode = "swallow"

    def heal(self) -> None:
        """Gives it back."""
        self._proxy.mode = "forward"
        self._proxy.cut()  # what was swallowed is lost, and no connection goes on without it

    def close(self) -> None:
        """Ends it."""
        self._proxy.close()


class Namespace(Machine):
    """A network namespace of this machine, with a host name of its own."""

    host = DATABASE

    def __init__(self, number: int, port: int) -> None:
        self.name, self.port = f"web-{number}", port
        self._space, self._link = f"dotflow-{os.getpid()}-{number}", f"df{os.getpid() % 100_000}-{number}"
        net = f"10.213.{number}"
        _run("ip", "netns", "add", self._space)
        try:
            _run("ip", "link", "add", self._link, "type", "veth", "peer", "name", "eth0", "netns", self._space)
            _run("ip", "addr", "add", f"{net}.1/24", "dev", self._link)
            _run("ip", "link", "set", self._link, "up")
            _run("ip", "-n", self._space, "addr", "add", f"{net}.2/24", "dev", "eth0")
            _run("ip", "-n", self._space, "link", "set", "lo", "up")
            _run("ip", "-n", self._space, "link", "set", "eth0", "up")
            _run("ip", "-n", self._space, "route", "add", "default", "via", f"{net}.1")
        except BaseException:
            self.close()
            raise

    def command(self, *words: str) -> list[str]:
        script = f'hostname {self.name}; exec "$@"'
        return ["ip", "netns", "exec", self._space, "unshare", "--uts", "sh", "-c", script, "sh", *words]

    def cut(self) -> None:
        _run("ip", "link", "set", self._link, "down")

    def heal(self) -> None:
        _run("ip", "link", "set", self._link, "up")

    def close(self) -> None:
        _run("ip", "netns", "del", self._space)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


def may_make_namespaces() -> bool:
    """Returns whether machines are namespaces: only root may, and not in each container."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return False
    try:
        machine = Namespace(9, 0)
    except (OSError, subprocess.CalledProcessError):
        return False
    machine.close()
    return True


@dataclass
class Server:
    """One `dotflow serve` after another, as a supervisor starts them.

    Attributes:
        machine: Where.
        name: Of this place.
        life: Which of its processes this is, from 1.
        process: The process.
        started: When.
        ended: When it was seen to have ended; None while it runs.
    """

    machine: Machine
    name: str
    life: int = 0
    started: float = 0.0
    process: "subprocess.Popen[bytes] | None" = None
    ended: float | None = None

    @property
    def title(self) -> str:
        return f"{self.name}.{self.life}"


@dataclass
class Trouble:
    """What was done, by the name of a process, with moments of `time.monotonic`."""

    killed: dict[str, float] = field(default_factory=dict)
    stopped: dict[str, tuple[float, float]] = field(default_factory=dict)
    away: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    exits: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


class Mark(NamedTuple):
    """A line of a step."""

    at: float
    what: str
    run: str
    step: str
    server: str


class Outcome(NamedTuple):
    """What was found.

    Attributes:
        states: The newest runs of all chains, by state.
        submitted: Ids that `submit` has returned.
        unanswered: Chains whose `submit` raised, though they were queued.
        lost: Ids of which no run completed.
        taken_over: Runs that continue one of a process that has ended.
        begun: Steps that began.
        begun_again: Steps of a chain that began more than once.
        ended_again: Those that reached their end more than once.
        repeated: Those that began though the history has them as completed before, in the same chain.
        overlaps: Steps that began while one of another run of their name ran.
        thawed: Those of them beside a process that had just been thawed.
        listed: Chains that `dotflow runs` lists.
        paged: Chains that the page of `dotflow ui` shows.
        exits: Servers that ended without a kill.
        notes: A line for each anomaly.
        seconds: How long it took.
    """

    states: dict[str, int]
    submitted: int
    unanswered: int
    lost: list[str]
    taken_over: int
    begun: int
    begun_again: int
    ended_again: int
    repeated: int
    overlaps: int
    thawed: int
    listed: int
    paged: int
    exits: list[str]
    notes: list[str]
    seconds: float

    @property
    def is_right(self) -> bool:
        """Whether the promises were kept."""
        total = self.submitted + self.unanswered
        is_complete = self.states == {"Completed": total} and not self.lost and not self.exits
        return is_complete and not self.overlaps and not self.repeated and self.listed == self.paged == total


#: Whom it hits, what begins it, and what ends it.
Harming = tuple[str, Callable[[], object], Callable[[], object]]


class Fleet:
    """The machines, their servers, and who submits.

    Args:
        plan: What happens.
        seed: Of what is random.
        server: The Postgres server; None for one of its own.
        namespaces: Whether the machines are namespaces, which needs root, and pgbouncer.
        report: Is called with a line for each event.
    """

    def __init__(
        self,
        plan: Plan,
        seed: int = 1,
        *,
        server: PostgresProcess | None = None,
        namespaces: bool = False,
        report: Callable[[str], None] = print,
    ) -> None:
        self._given = server
        self._plan, self._random, self._report = plan, random.Random(seed), report
        self._kind = Namespace if namespaces else Machine
        self._stack = ExitStack()
        self._ids: dict[int, list[str]] = defaultdict(list)
        self._refused = 0
        self._submitting: BaseException | None = None
        self.trouble = Trouble()

    def __enter__(self) -> Self:
        try:
            self._open()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _open(self) -> None:
        enter = self._stack.enter_context
        folder = Path(enter(tempfile.TemporaryDirectory(prefix="dotflow-machines-")))
        self.marks = folder / "marks"
        self.marks.touch()
        self.logs = Path(os.environ.get(LOGS) or folder / "logs")
        self.logs.mkdir(parents=True, exist_ok=True)
        self._postgres = enter(_server(self._given))
        self.database: Database = enter(self._postgres.database())
        port, host = self._postgres.port, "127.0.0.1"
        if self._kind is Namespace:
            _run("ip", "addr", "replace", f"{DATABASE}/32", "dev", "lo")
            self._stack.callback(_run, "ip", "addr", "del", f"{DATABASE}/32", "dev", "lo")
            host = DATABASE
        if BINARY is not None:
            pooler = enter(PgBouncer(self._postgres, "transaction", host=host))
            pooler.admit(self.database.name, self.database.name)
            port = pooler.port
        self.machines = [self._kind(number, port) for number in (1, 2)]
        for machine in self.machines:
            self._stack.callback(machine.close)
        self._environment = os.environ | {
            machines_flow.MARKS: str(self.marks),
            machines_flow.SECONDS: str(self._plan.step),
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
            "DOTFLOW_HISTORY": "postgres",
        }
        if self._plan.quick:
            self._environment |= {machines_flow.QUICK: "1", machines_flow.FOLDER: str(folder / "values")}
        self._history = HistoryPostgres(self.dsn(self.machines[0]))
        self._stack.callback(self._history.close)
        self._queue = self._history.operations()
        self._history.upgrade()
        names = [(machine, f"{machine.name}/{number}") for number in range(SERVERS) for machine in self.machines]
        self.servers = [Server(machine, name) for machine, name in names]
        self._spared = self.servers[2]  # on the machine that is not cut off
        self._stopped: dict[str, Server] = {}
        self._stack.callback(self._end_servers)

    def dsn(self, machine: Machine) -> str:
        """Returns how a machine reaches the database."""
        return self.database.dsn(machine.port, machine.host)

    def run(self) -> Outcome:
        """Serves, harms, waits, and looks."""
        began = self._began = time.monotonic()
        submitting = threading.Thread(target=self._submit_all, name="submit", daemon=True)
        submitting.start()
        for server in self.servers:
            self._start(server)
        troubles = self._schedule()
        due = next(troubles, None)
        while True:
            now = time.monotonic() - began
            if now > self._plan.limit:
                self._report(f"after {now:.0f} s there are still {self._left()} runs")
                break
            self._supervise()
            while due is not None and due[0] <= now:
                self._report(f"{now:6.1f} s: {due[1]}")
                self.trouble.lines.append(f"{now:6.1f} s: {due[1]}")
                due[2]()
                due = next(troubles, None)
            if due is None and not submitting.is_alive() and not self._left():
                break
            time.sleep(0.1)
        if self._submitting is not None:
            raise self._submitting
        outcome = self._look(time.monotonic() - began)
        self._end_servers()
        return outcome

    def _schedule(self) -> Iterator[tuple[float, str, Callable[[], object]]]:
        """Yields what happens, and when: kills, and beside them the harms."""
        plan, order = self._plan, self._postgres.order
        events: list[tuple[float, str, Callable[[], object]]] = []
        for number in range(plan.kills):
            events.append((plan.first + number * plan.pause, "kill -9", self._kill))
        machine = self.machines[1]

        def away(name: str, begin: Callable[[], object], end: Callable[[], object]) -> Harming:
            return name, lambda: self._take_away(name, begin), lambda: self._give_back(name, end)

        actions: dict[str, Harming] = {
            "freeze": ("a server and its workers", lambda: self._stop("freeze"), lambda: self._go_on("freeze")),
            "stop": ("a server alone", lambda: self._stop("stop"), lambda: self._go_on("stop")),
            "cut off": away(machine.name, machine.cut, machine.heal),
            "restart": away("Postgres", lambda: order("stop"), lambda: order("start")),
            "crash": away("Postgres", lambda: order("crash"), lambda: order("start")),
        }
        for what, at, seconds in plan.harms:
            whom, begin, end = actions[what]
            events += [(at, f"{what} {whom}", begin), (at + seconds, f"end of {what} {whom}", end)]
        return iter(sorted(events, key=lambda event: event[0]))

    # ------------------------------------------------------------------ servers

    def _start(self, server: Server) -> None:
        server.life += 1
        server.started = time.monotonic()
        server.ended = None
        environment = self._environment | {
            "DOTFLOW_POSTGRES_DSN": self.dsn(server.machine),
            machines_flow.SERVER: server.title,
        }
        words = (sys.executable, "-m", "dotflow", "serve", "tests.machines_flow:report")
        command = server.machine.command(*words)
        with self._log_of(server).open("wb") as log:
            server.process = subprocess.Popen(
                command, stdout=log, stderr=log, env=environment, cwd=ROOT, start_new_session=True
            )

    def _log_of(self, server: Server) -> Path:
        return self.logs / server.title.replace("/", "-")

    def _supervise(self) -> None:
        for server in self.servers:
            if server.process is None or server.process.poll() is None:
                continue
            if server.ended is None:
                server.ended = time.monotonic()
                if server.title not in self.trouble.killed and not self._was_refused(server):
                    text = self._log_of(server).read_text().strip().splitlines()
                    exit_code = f"exit {server.process.returncode} at {server.ended - self._began:.1f} s"
                    self.trouble.exits.append(f"{server.title}: {exit_code}: {' | '.join(text[-5:])}")
            elif time.monotonic() - server.ended > RESTART:
                self._start(server)

    def _was_refused(self, server: Server) -> bool:
        """Returns whether a process did not find the database at its start, while that was away."""
        spans = [*self.trouble.away["Postgres"], *self.trouble.away[server.machine.name]]
        is_away = any(began - STARTING < server.started < healed for began, healed in spans)
        assert server.process is not None
        return is_away and server.process.returncode == 2

    def _running(self) -> list[Server]:
        """Returns the servers that may be harmed, the oldest process first."""
        harmed = [one for one in self.servers if one is not self._spared and one not in self._stopped.values()]
        running = [one for one in harmed if one.process is not None and one.process.poll() is None]
        return sorted(running, key=lambda server: server.started)

    def _kill(self) -> None:
        running = self._running()
        if not running:
            return
        server = self._random.choice(running)
        assert server.process is not None
        self.trouble.killed[server.title] = time.monotonic()
        server.process.kill()

    def _stop(self, what: str) -> None:
        """Stops the oldest process, which has runs; with "freeze" its workers, too."""
        server = self._stopped[what] = self._running()[0]
        assert server.process is not None
        for pid in _family(server.process.pid) if what == "freeze" else [server.process.pid]:
            _signal(pid, signal.SIGSTOP)
        if what == "freeze":
            self.trouble.stopped[server.title] = (time.monotonic(), float("inf"))

    def _go_on(self, what: str) -> None:
        server = self._stopped.pop(what)
        assert server.process is not None
        for pid in _family(server.process.pid):
            _signal(pid, signal.SIGCONT)
        if what == "freeze":
            self.trouble.stopped[server.title] = (self.trouble.stopped[server.title][0], time.monotonic())

    def _take_away(self, name: str, how: Callable[[], object]) -> None:
        """Takes a machine, or the database, from the others."""
        self.trouble.away[name].append((time.monotonic(), float("inf")))
        how()

    def _give_back(self, name: str, how: Callable[[], object]) -> None:
        how()
        began, _ = self.trouble.away[name].pop()
        self.trouble.away[name].append((began, time.monotonic()))

    def _end_servers(self) -> None:
        for what in list(self._stopped):
            self._go_on(what)
        running = [one for one in self.servers if one.process is not None and one.process.poll() is None]
        for server in running:
            assert server.process is not None
            server.process.terminate()
        for server in running:
            assert server.process is not None
            try:
                server.process.wait(30)
            except subprocess.TimeoutExpired:
                self.trouble.exits.append(f"{server.title}: did not end within 30 s after SIGTERM")
                server.process.kill()
                server.process.wait()

    # ------------------------------------------------------------------ submissions

    def _submit_all(self) -> None:
        """Submits the first run of each name, and the next one when the last one has begun."""
        try:
            names = -(-self._plan.submissions // RUNS_OF_A_NAME)
            left = dict.fromkeys(range(names), RUNS_OF_A_NAME)
            left[names - 1] -= names * RUNS_OF_A_NAME - self._plan.submissions
            while any(left.values()):
                queued = self._queued()
                for name, count in left.items():
                    if count and queued is not None and not (self._ids[name] and self._ids[name][-1] in queued):
                        left[name] -= self._submit(name)
                time.sleep(0.2)
        except BaseException as error:
            self._submitting = error

    def _submit(self, name: int) -> bool:
        assert self._queue is not None
        params = json.dumps({"customer": name})
        try:
            run = self._queue.submit(Submission("report", params, f"report@customer={name}"))
        except HistoryError:
            self._refused += 1
            return False
        if run in self._ids[name]:
            return False
        self._ids[name].append(run)
        return True

    def _queued(self) -> set[str] | None:
        with contextlib.suppress(Exception):  # it is stopped
            return {run for (run,) in self._ask("SELECT run_id FROM dotflow.runs WHERE state = 'Queued'")}
        return None

    def _left(self) -> int:
        try:
            return int(self._ask("SELECT COUNT(*) FROM dotflow.runs WHERE state IN ('Queued', 'Running')")[0][0])
        except Exception:  # it is stopped
            return -1

    def _ask(self, statement: str) -> list[tuple[Any, ...]]:
        return self.database.run(statement)

    # ------------------------------------------------------------------ what is left

    def _look(self, seconds: float) -> Outcome:
        runs = self._ask("SELECT run_id, COALESCE(origin, run_id), state, workflow_id FROM dotflow.runs ORDER BY run")
        origins, names = {run: origin for run, origin, *_ in runs}, {run: name for run, *_, name in runs}
        newest = {origin: state for _, origin, state, _ in runs}
        submitted = {run for ids in self._ids.values() for run in ids}
        marks = [Mark(float(at), *rest) for at, *rest in map(str.split, self.marks.read_text().splitlines())]
        begun = Counter((origins[mark.run], mark.step) for mark in marks if mark.what == "begin")
        ended = Counter((origins[mark.run], mark.step) for mark in marks if mark.what == "end")
        notes = list(self._judge(marks, origins))
        repeated = list(self._repeated(marks, origins))
        overlaps = list(find_overlaps(marks, names, self.trouble))
        return Outcome(
            states=dict(Counter(newest.values())),
            submitted=len(submitted),
            unanswered=len(newest.keys() - submitted),
            lost=sorted(run for run in submitted if newest.get(run) != "Completed"),
            taken_over=sum(run != origin for run, origin, *_ in runs),
            begun=sum(begun.values()),
            begun_again=sum(count > 1 for count in begun.values()),
            ended_again=sum(count > 1 for count in ended.values()),
            repeated=len(repeated),
            overlaps=sum(not is_thawed for is_thawed, _ in overlaps),
            thawed=sum(is_thawed for is_thawed, _ in overlaps),
            listed=len(self._listed()),
            paged=len(self._paged()),
            exits=self.trouble.exits,
            notes=[*notes, *repeated, *(text for _, text in overlaps)],
            seconds=seconds,
        )

    def _judge(self, marks: list[Mark], origins: dict[str, str]) -> Iterator[str]:
        """Yields why each step that began twice did so."""
        before: dict[tuple[str, str], Mark] = {}
        ends = {(mark.run, mark.step): mark.at for mark in marks if mark.what == "end"}
        for mark in marks:
            if mark.what == "end":
                continue
            key = (origins[mark.run], mark.step)
            if (first := before.get(key)) is not None:
                end = ends.get((first.run, first.step))
                how = "without an end" if end is None or end > mark.at else f"ended {mark.at - end:.2f} s before"
                where = f"{how} in {first.server}, {self._fate(first)}"
                yield f"again: {mark.step} of {key[0][:8]} in {mark.server}, {where}"
            before[key] = mark

    def _fate(self, mark: Mark) -> str:
        """Returns what happened to the process of a step."""
        fates = []
        if (killed := self.trouble.killed.get(mark.server)) is not None:
            fates.append(f"killed {killed - mark.at:.2f} s later")
        if (stopped := self.trouble.stopped.get(mark.server)) is not None:
            fates.append(f"stopped {stopped[0] - mark.at:.2f} s later")
        for began, healed in self.trouble.away[mark.server.partition("/")[0]]:
            if mark.at < healed:
                fates.append(f"cut off {began - mark.at:.2f} s later")
        return ", ".join(fates) or "it lives"

    def _repeated(self, marks: list[Mark], origins: dict[str, str]) -> Iterator[str]:
        """Yields the steps that began though a run of the chain had completed them, as the history says."""
        steps = ("extract", "transform", "load")
        of_runs = "dotflow.attempts JOIN dotflow.runs USING (run)"
        rows = self._ask(f"SELECT run_id, task FROM {of_runs} WHERE attempts.state = {COMPLETED}")
        completed = {(run, steps[task]) for run, task in rows}
        first: dict[tuple[str, str], Mark] = {}
        for mark in marks:
            if mark.what == "begin":
                before = first.get((origins[mark.run], mark.step))
                if before is not None and before.run != mark.run and (before.run, mark.step) in completed:
                    yield f"repeated: {mark.step} of {mark.run} in {mark.server}, completed in {before.run}"
                first[origins[mark.run], mark.step] = mark

    def _listed(self) -> set[str]:
        """Returns the chains that the command lists."""
        words = [sys.executable, "-m", "dotflow", "runs", "--history", "postgres", "--json", "-n", "1000000"]
        environment = self._environment | {"DOTFLOW_POSTGRES_DSN": self.dsn(self.machines[0])}
        found = subprocess.run(words, check=True, capture_output=True, text=True, env=environment, cwd=ROOT)
        return {json.loads(line)["run_id"] for line in found.stdout.splitlines()}

    def _paged(self) -> set[str]:
        """Returns the chains that the page shows, which asks for more as its reader scrolls."""
        words = [sys.executable, "-m", "dotflow", "ui", "--history", "postgres"]
        environment = self._environment | {"DOTFLOW_POSTGRES_DSN": self.dsn(self.machines[0])}
        process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT)
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
            browser.open(address, timeout=30).read()
            base, found, before = address.partition("?")[0], set[str](), ""
            while True:
                with browser.open(f"{base}api/runs?limit=500{before}", timeout=60) as response:
                    page = json.load(response)
                found |= {run["run_id"] for run in page["runs"]}
                if not page["has_more"]:
                    return found
                before = f"&before={page['runs'][-1]['began']}".replace("+", "%2B")
        finally:
            process.kill()
            process.communicate()


def find_overlaps(marks: list[Mark], names: dict[str, str], trouble: Trouble) -> Iterator[tuple[bool, str]]:
    """Yields the steps that began while another of their name ran, and whether that one had just been thawed.

    One without an end, whose process was not killed, was ended with its run: it took as long as others at most.
    """
    ends = {(mark.run, mark.step): mark.at for mark in marks if mark.what == "end"}
    spans: dict[str, list[tuple[float, float, bool, Mark]]] = defaultdict(list)
    begun = [mark for mark in marks if mark.what == "begin"]
    took = [ends[mark.run, mark.step] - mark.at for mark in begun if (mark.run, mark.step) in ends]
    for mark in begun:
        end = ends.get((mark.run, mark.step), mark.at + max(took, default=0.0))
        killed = trouble.killed.get(mark.server, float("inf"))
        end = min(end, max(killed, mark.at) + AFTER_KILL)
        stopped, thawed = trouble.stopped.get(mark.server, (float("inf"), float("inf")))
        if mark.at < stopped < end:  # it stands still, and goes on
            spans[names[mark.run]].append((thawed, end, True, mark))
            end = stopped
        spans[names[mark.run]].append((mark.at, end, False, mark))
    for name, found in spans.items():
        found.sort(key=lambda span: span[0])
        for index, (began, ended, is_thawed, mark) in enumerate(found):
            for other_began, _, other_thawed, other in found[index + 1 :]:
                if other_began >= ended:
                    break
                text = f"at once: {name}: {mark.step} in {mark.server} from {began:.2f} to {ended:.2f} and "
                text += f"{other.step} in {other.server} from {other_began:.2f}"
                yield is_thawed or other_thawed, text


def _family(pid: int) -> list[int]:
    """Returns a process, and all that it has started: proc(5)."""
    children: dict[int, list[int]] = defaultdict(list)
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            children[int(stat.read_text().rpartition(")")[2].split()[1])].append(int(stat.parent.name))
    family = [pid]
    for one in family:
        family += children[one]
    return family


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


class Claims(NamedTuple):
    """What processes that only claim, begin and end have found.

    Attributes:
        claimed: By each process.
        double: Claims of a name that another process held, or the same one.
        left: Runs that were not claimed.
        seconds: How long it took.
        is_pooled: Whether pgbouncer was between.
    """

    claimed: list[int]
    double: int
    left: int
    seconds: float
    is_pooled: bool


def race(claims: int, processes: int = 4, server: PostgresProcess | None = None) -> Claims:
    """Lets processes claim runs at once, three of each name: the next one is submitted while the last one is held.

    Args:
        claims: How many for each process.
        processes: How many.
        server: The Postgres server; None for one of its own.
    """
    names = -(-claims * processes // RUNS_OF_A_NAME)
    with ExitStack() as stack:
        postgres = stack.enter_context(_server(server))
        database, port = stack.enter_context(postgres.database()), postgres.port
        if BINARY is not None:
            pooler = stack.enter_context(PgBouncer(postgres, "transaction"))
            pooler.admit(database.name, database.name)
            port = pooler.port
        held = stack.enter_context(tempfile.TemporaryDirectory(prefix="dotflow-claims-"))
        history = HistoryPostgres(database.dsn(port))
        stack.callback(history.close)
        queue = history.operations()
        for number in range(names):
            queue.submit(Submission("report", "{}", f"report@customer={number}"))
        context = get_context("spawn")
        pipes = [context.Pipe() for _ in range(processes)]
        workers = [context.Process(target=_claim, args=(database.dsn(port), held, pipe)) for _, pipe in pipes]
        began = time.monotonic()
        for worker in workers:
            worker.start()
        found = [pipe.recv() for pipe, _ in pipes]
        seconds = time.monotonic() - began
        for worker in workers:
            worker.join()
        ((left,),) = database.run("SELECT COUNT(*) FROM dotflow.runs WHERE state <> 'Completed'")
    return Claims([one for one, _ in found], sum(double for _, double in found), left, seconds, BINARY is not None)


@contextlib.contextmanager
def _server(server: PostgresProcess | None) -> Iterator[PostgresProcess]:
    """Yields a server that runs: the given one, or one of its own."""
    if server is not None:
        server.order("start")
        yield server
        return
    made = PostgresProcess()
    try:
        yield made
    finally:
        made.close()


def _claim(dsn: str, folder: str, pipe: Any) -> None:
    history = HistoryPostgres(dsn)
    queue = history.operations()
    server = queue.open_server(["report"])
    claimed = double = idle = 0
    while idle < 50:
        claims = server.claim({"report": None}, (), 4)
        idle = 0 if claims else idle + 1
        for claim in claims:
            path = Path(folder) / claim.name
            try:
                path.open("x").close()
            except FileExistsError:
                double += 1
            server.begin(claim)
            claimed += 1
            if _next_of(path) < RUNS_OF_A_NAME:
                queue.submit(Submission("report", "{}", claim.name))
            path.unlink(missing_ok=True)
            server.end(claim, Ending(TypeRunState.COMPLETED))
        if not claims:
            time.sleep(0.02)
    server.close()
    history.close()
    pipe.send((claimed, double))


def _next_of(path: Path) -> int:
    """Counts the claims of a name, and returns their number. Only who holds the name does."""
    count = path.with_name(f"{path.name}.count")
    number = int(count.read_text()) + 1 if count.exists() else 1
    count.write_text(str(number))
    return number


def main() -> None:
    """Prints what happens, and what was found. Exits with 1 where a promise was not kept."""
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    if sys.argv[1:2] == ["claims"]:
        claims = race(int(sys.argv[2]) if sys.argv[2:] else 2_000)
        for name, value in claims._asdict().items():
            print(f"{name:12} {value}")
        raise SystemExit(bool(claims.double or claims.left))
    submissions, kills, seed, *_ = [*map(int, sys.argv[1:]), *(1_000, 40, 1)[len(sys.argv) - 1 :]]
    namespaces = BINARY is not None and may_make_namespaces()
    print(f"Two machines: {'network namespaces' if namespaces else 'proxies, without root or pgbouncer'}")
    print(f"Postgres: {'behind pgbouncer in transaction mode' if BINARY else 'without pgbouncer'}; seed {seed}")
    with Fleet(Plan(submissions, kills), seed, namespaces=namespaces) as fleet:
        outcome = fleet.run()
        for line in outcome.notes:
            print(line)
        for name, value in outcome._asdict().items():
            if name != "notes":
                print(f"{name:12} {value}")
    raise SystemExit(not outcome.is_right)


if __name__ == "__main__":
    main()
