"""Steps that get stuck, the ways to run them, and their results. For test_timeouts.py and timeout_table.py."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from tests.integration.children import Script, Scripts

K = TypeVar("K")

TIMEOUT: Final = 0.3  # seconds for each attempt
GRACE: Final = 1.0  # seconds until what does not end by itself is killed or left behind
SLACK: Final = 30.0  # seconds, on a busy machine; what is not ended takes a minute


class Victim(NamedTuple):
    """A step that gets stuck.

    Attributes:
        body: Its lines.
        is_coroutine: Whether it is one.
        hard: Whether it uses up the grace in every mode.
        left_in_thread: Whether it is left behind in a thread, where nothing can end it.
        is_c_code: Whether even a signal can't end it.
    """

    body: str
    is_coroutine: bool = False
    hard: bool = False
    left_in_thread: bool = False
    is_c_code: bool = False


VICTIMS: Final[dict[str, Victim]] = {
    "sleep": Victim("time.sleep(60)", left_in_thread=True),
    "socket recv": Victim(
        """
        with socket.create_server(("127.0.0.1", 0)) as server:
            with socket.create_connection(server.getsockname()) as client:
                client.recv(1)
        """,
        left_in_thread=True,
    ),
    "Python loop": Victim(
        """
        n = 0
        while True:
            n += 1
        """
    ),
    "except BaseException": Victim(
        """
        while True:
            try:
                time.sleep(0.01)
                beat()
            except BaseException:
                pass
        """
    ),
    "C call": Victim(
        """
        import ctypes
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        ctypes.CDLL(None).sleep(60)
        """,
        hard=True,
        left_in_thread=True,
        is_c_code=True,
    ),
    "grandchild": Victim(
        """
        child = subprocess.Popen(["sleep", "60"])
        kept.append(child)
        (HERE / "grandchild").write_text(str(child.pid))
        child.wait()
        """
    ),
    "coroutine": Victim("await asyncio.sleep(60)", is_coroutine=True),
    "coroutine, swallows": Victim(
        """
        while True:
            try:
                await asyncio.sleep(0.01)
                beat()
            except asyncio.CancelledError:
                pass
        """,
        is_coroutine=True,
        hard=True,
    ),
    "coroutine, blocks": Victim("time.sleep(60)", is_coroutine=True, hard=True, left_in_thread=True),
}


class Way(NamedTuple):
    """A way to run a step.

    Attributes:
        mode: The mode of start().
        isolate: The option of @action.
        groups: Whether the next step has a group of its own.
    """

    mode: str
    isolate: bool = False
    groups: bool = False

    @property
    def name(self) -> str:
        """A column's title."""
        return ("groups" if self.groups else self.mode) + (", isolate" if self.isolate else "")

    @property
    def in_thread(self) -> bool:
        """Whether a thread makes the attempt, beside the main one."""
        return self.mode == "background" and not self.in_process

    @property
    def in_process(self) -> bool:
        """Whether a worker process makes the attempt, which can be killed."""
        return self.isolate or self.groups or self.mode == "parallel"


WAYS: Final = tuple(
    Way(mode, isolate, groups)
    for isolate in (False, True)
    for mode, groups in (("sequential", False), ("background", False), ("parallel", False), ("sequential", True))
)


CASE: Final = """\
began, ended, kept = HERE / "began", [], []


def beat():
    (HERE / "beat").touch()


class Clock(Log):
    def info(self, task):
        pass

    def error(self, task):
        ended.append(time.time())


@action(timeout={timeout}, retry=20, retry_delay=0, isolate={isolate})
{define} stuck():
    if began.exists() and began.read_text():  # it may be interrupted while it writes
        return "again"
    began.write_text(str(time.time()))
    try:
{body}
        (HERE / "later").touch()
    except ValueError:
        pass
    (HERE / "later").touch()
    return "survived"


@action
def following(previous_context):
    for _ in range(20):
        time.sleep(0.01)
    return previous_context.storage


workflow = DotFlow(Config(log=Clock(), executor=ExecutorProcess(start_method=METHOD) if METHOD else None))
workflow.task.add(stuck)
workflow.task.add(following, group_name={group!r})
workflow.start(mode={mode!r}).wait()



def grandchild_lives():
    try:
        stat = Path("/proc", (HERE / "grandchild").read_text(), "stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


until = time.monotonic() + {patience}  # for what must be gone
while (threading.active_count() > 1 or grandchild_lives()) and time.monotonic() < until:
    time.sleep(0.01)
grandchild = grandchild_lives()
first_end = next(end for end in ended if end > float(began.read_text()))
threads = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
for child in kept:  # those of steps that ran in this very process
    child.kill()
    child.wait()
say(
    seconds=first_end - float(began.read_text()),
    tasks=told(workflow.result_task()),
    threads=threads,
    grandchild=grandchild,
    later=(HERE / "later").exists(),
    beat_after=(HERE / "beat").exists() and (HERE / "beat").stat().st_mtime > first_end + 0.1,
    left=time.time(),
)
"""


class Fate(NamedTuple):
    """How a victim ended.

    Attributes:
        seconds: How long its first attempt took.
        tasks: Status, value and errors of the victim and of the step after it.
        threads: The names of threads that it left behind.
        processes: What it left running after the interpreter's end.
        grandchild: Whether the process that it started still lived when the run was over.
        later: Whether its later lines ran.
        exit_seconds: How long the interpreter took to exit.
        code: Its exit code.
        err: What it wrote to stderr.
    """

    seconds: float
    tasks: Any
    threads: list[str]
    processes: list[str]
    grandchild: bool
    later: bool
    exit_seconds: float
    code: int
    err: str


def start_case(scripts: Scripts, victim: Victim, way: Way, timeout: float = TIMEOUT) -> Script:
    """Starts one victim in one way."""
    body = textwrap.indent(textwrap.dedent(victim.body).strip("\n"), " " * 8)
    source = CASE.format(
        timeout=timeout,
        isolate=way.isolate,
        define="async def" if victim.is_coroutine else "def",
        body=body,
        group="other" if way.groups else "default",
        mode=way.mode,
        patience=SLACK if is_all_gone(victim, way) else 0,
    )
    return scripts.start(source)


def is_all_gone(victim: Victim, way: Way) -> bool:
    """Returns whether neither a thread nor a process of a victim is left: programs end with workers and threads."""
    return way.in_process or (way.in_thread and not victim.left_in_thread)


def fate_of(script: Script) -> Fate:
    """Waits for the case's end."""
    with script:
        end = script.end()
        facts = end.facts
        return Fate(
            seconds=facts["seconds"],
            tasks=facts["tasks"],
            threads=facts["threads"],
            processes=script.left_behind(),
            grandchild=facts["grandchild"],
            later=facts["later"] or facts["beat_after"],
            exit_seconds=end.at - facts["left"],
            code=end.code,
            err=end.err,
        )


def fates_of(cases: Mapping[K, Script]) -> dict[K, Fate]:
    """Waits for several cases at once: each interpreter's end is seen when it comes."""
    with ThreadPoolExecutor(len(cases)) as pool:
        return dict(zip(cases, pool.map(fate_of, cases.values()), strict=True))


def start_cases(folder: Path, victim: Victim, ways: Iterable[Way], start_method: str | None) -> dict[Way, Script]:
    """Starts one victim in several ways, each in a folder of its own."""
    cases = {}
    for way in ways:
        place = folder / way.name.replace(", ", "_")
        place.mkdir()
        cases[way] = start_case(Scripts(place, start_method), victim, way)
    return cases


def ways_for(start_method: str | None) -> Sequence[Way]:
    """Returns all ways, or those that depend on the start method."""
    return WAYS if start_method is None else [way for way in WAYS if way.mode == "parallel" or way.groups]


def can_end(victim: Victim, way: Way) -> bool:
    """Returns whether anything can end it: not C code in the caller's own thread."""
    return way.in_process or way.mode == "background" or not victim.is_c_code
