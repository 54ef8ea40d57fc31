"""Scripts in processes of their own: what users run from a terminal, and everything that it started.

Every process that a script starts inherits a mark in its environment, so that what was left behind is found however
far it has wandered: into another process group, or to another parent.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import psutil

import dotflow

MARK: Final = "DOTFLOW_TEST_MARK"
SOURCES: Final = Path(dotflow.__file__).parent.parent
SOON: Final = 30.0  # seconds in which what has been ended must be gone; what is not ended takes a minute
PATIENCE: Final = 45.0  # seconds; what takes longer hangs

#: What every script begins with. `METHOD` is the start method that the tests were asked for.
PRELUDE: Final = """\
import asyncio, functools, hashlib, io, json, os, resource, signal, socket, subprocess, sys, threading, time
from pathlib import Path

from dotflow import Config, Context, DotFlow, action
from dotflow.abc.log import Log
from dotflow.providers import ExecutorProcess, ExecutorThread, LogDefault

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored, where the tests run as a shell's background job
METHOD = {method!r}
HERE = Path({folder!r})


def config(**given):
    given.setdefault("log", LogDefault(output="none"))
    if METHOD is not None:
        given.setdefault("executor", ExecutorProcess(start_method=METHOD))
    return Config(**given)


def told(tasks):
    return [[str(t.status), t.current_context.storage, [[e.exception, e.message] for e in t.errors]] for t in tasks]


def say(**facts):
    print(json.dumps(facts), flush=True)


"""

#: What the installed command does, with Ctrl-C as a shell in a terminal leaves it.
COMMAND: Final = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); del sys.path[0]; "
    "from dotflow.cli.main import main; sys.exit(main())"
)


class Script:
    """A script or command that is running, and what it started.

    Args:
        command: Python's arguments.
        folder: Where it runs.
        terminal: The descriptor of a terminal that it runs in; none, and pipes, unless given.
        closed: One of its streams, by number, that is closed before it begins.
        stdout: The descriptor of its stdout, where it is neither a terminal nor a pipe of ours.
        **environment: Variables of its environment, beside our own.
    """

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        terminal: int | None = None,
        closed: int | None = None,
        stdout: int | None = None,
        **environment: str,
    ) -> None:
        self._mark = uuid.uuid4().hex
        ours = {MARK: self._mark, "PYTHONPATH": str(SOURCES), "PYTHONUNBUFFERED": ""}
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", *command],
            cwd=folder,
            env=os.environ | ours | environment,
            stdin=subprocess.DEVNULL if terminal is None else terminal,
            stdout=stdout or (subprocess.PIPE if terminal is None else terminal),
            stderr=subprocess.PIPE if terminal is None else terminal,
            text=True,
            start_new_session=True,
            preexec_fn=None if closed is None else lambda: os.close(closed),
        )

    def __enter__(self) -> "Script":
        return self

    def __exit__(self, *raised: object) -> None:
        self.kill_all()
        self.process.communicate()

    def line(self) -> str:
        """The next line that it prints."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def error_line(self) -> str:
        """The next line that it writes to stderr."""
        assert self.process.stderr is not None
        return self.process.stderr.readline().rstrip("\n")

    def send(self, signum: int) -> None:
        """Sends a signal to the script alone, not to what it started."""
        self.process.send_signal(signum)

    def send_all(self, signum: int) -> None:
        """Sends a signal to the script and all that is in its process group, as a terminal does."""
        os.killpg(self.process.pid, signum)

    def end(self, timeout: float = PATIENCE) -> "End":
        """Waits for its end. One that does not end is killed, and the test fails with all that it said."""
        began = time.monotonic()
        try:
            out, err = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.kill_all()
            out, err = self.process.communicate()
            raise AssertionError(f"the script hangs\nstdout: {out}\nstderr: {err}") from None
        return End(self.process.returncode, out, err, time.monotonic() - began, time.time())

    def family(self) -> list[psutil.Process]:
        """Every living process that it started, itself too."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def has_grown_to(self, count: int, within: float = SOON) -> bool:
        """Whether it has that many living processes, itself too, before *within* seconds are over."""
        until = time.monotonic() + within
        while len(self.family()) < count:
            if time.monotonic() > until:
                return False
            time.sleep(0.02)
        return True

    def left_behind(self, within: float = SOON, besides: Collection[int] = ()) -> list[str]:
        """What still lives after *within* seconds, as command lines; without the processes *besides*."""
        until = time.monotonic() + within
        while found := [process for process in self.family() if process.pid not in besides]:
            if time.monotonic() > until:
                return [describe(process) for process in found]
            time.sleep(0.02)
        return []

    def kill_all(self) -> None:
        """Kills it and what it started: only processes with its mark."""
        for process in self.family():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            return f"{MARK}={self._mark}".encode() in Path(f"/proc/{process.pid}/environ").read_bytes()
        except (psutil.NoSuchProcess, OSError):
            return False


class End:
    """How a script ended.

    Attributes:
        code: Its exit code; minus the signal's number where one ended it.
        out: What it printed since the last `line()`.
        err: What it wrote to stderr.
        seconds: How long its end was waited for.
        at: When, by the wall clock.
    """

    def __init__(self, code: int, out: str, err: str, seconds: float, at: float) -> None:
        self.code, self.out, self.err, self.seconds, self.at = code, out, err, seconds, at

    @property
    def facts(self) -> Any:
        """The JSON object that it printed last."""
        assert self.out, f"the script said nothing, exit code {self.code}\n{self.err}"
        return json.loads(self.out.splitlines()[-1])


#: Runs the command with these arguments.
Command = Callable[..., End]


class Scripts:
    """Writes scripts into a folder and starts them.

    Args:
        folder: Where they lie, and where they run.
        start_method: What `METHOD` says in them.
    """

    def __init__(self, folder: Path, start_method: str | None) -> None:
        self.folder = folder
        self._start_method = start_method
        self._started: list[Script] = []

    def start(self, source: str, *arguments: str) -> Script:
        """Starts a script made of the prelude and *source*."""
        path = self.folder / f"script_{len(self._started)}.py"
        path.write_text(PRELUDE.format(method=self._start_method, folder=str(self.folder)) + source)
        return self._keep(Script([str(path), *arguments], self.folder))

    def command(
        self,
        *arguments: str,
        terminal: int | None = None,
        closed: int | None = None,
        stdout: int | None = None,
        **environment: str,
    ) -> Script:
        """Starts the command `dotflow`, in the folder, as a shell would."""
        return self._keep(Script(["-c", COMMAND, *arguments], self.folder, terminal, closed, stdout, **environment))

    def _keep(self, script: Script) -> Script:
        self._started.append(script)
        return script

    def run(self, source: str, *arguments: str, timeout: float = PATIENCE) -> End:
        """Runs a script to its end; it must exit with 0, say nothing on stderr and leave nothing behind."""
        with self.start(source, *arguments) as script:
            end = script.end(timeout)
            assert end.code == 0, f"exit code {end.code}\n{end.out}\n{end.err}"
            assert end.err == ""
            assert script.left_behind() == []
            return end

    def close(self) -> None:
        """Ends what a failed test left running."""
        for script in self._started:
            if script.process.returncode is None:
                script.__exit__()


def describe(process: psutil.Process) -> str:
    """A process for the message of a failed test."""
    try:
        return f"{process.pid} {process.status()} {' '.join(process.cmdline())[:100]}"
    except psutil.NoSuchProcess:
        return f"{process.pid} gone"


def is_alive(pid: int) -> bool:
    """Whether there is such a process, and it is more than a zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextlib.contextmanager
def held_back(signum: int = signal.SIGALRM) -> Iterator[None]:
    """Puts the handler of a signal and the interval timer back afterwards: pytest-timeout uses both."""
    handler = signal.getsignal(signum)
    timer = signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        yield
    finally:
        signal.signal(signum, handler)
        signal.setitimer(signal.ITIMER_REAL, *timer)
