"""How a worker process begins: as a copy of this one, of a fork server, or as a fresh interpreter.

None of them imports the caller's `__main__` again. A worker leads a process group of its own, so that it can be
ended with everything it started.
"""

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, Final

from dotflow.core.task import Task
from dotflow.cpython import forget_exit_handlers, forget_running_loop, interpreter_flags
from dotflow.processes.channel import Channel, Dump, dump_by_reference, dump_by_value
from dotflow.processes.worker_main import run_worker
from dotflow.worker.programs import own_processes

START_METHODS: Final = ("fork", "forkserver")

#: Descriptors of this process that keep a worker's lifeline open: a forked worker closes them.
_lifelines: Final[set[int]] = set()


def default_start_method() -> str:
    """fork where it is safe: on Linux, in a process with one thread, native ones counted."""
    try:
        return "fork" if sys.platform == "linux" and len(os.listdir("/proc/self/task")) == 1 else "forkserver"  # noqa: PTH208
    except OSError:  # no /proc to count threads in
        return "forkserver"


class WorkerProcess:
    """One worker process, seen from the coordinator.

    Attributes:
        channel: To talk to it; does not block.
        pid: Its process id, and that of its group.
        ended: A descriptor that is readable once the process has ended; None where the system has none.
    """

    def __init__(self, start: "StartMethod", pid: int, channel: Channel, lifeline: int) -> None:
        self._start = start
        self._lifeline = lifeline
        self.pid = pid
        self.channel = channel
        self.sentinel = _pidfd(pid)
        own_processes.add(pid)

    def has_ended(self) -> bool:
        """Whether it is known to have ended; not where the system does not tell."""
        if self.sentinel is None:
            return False
        with selectors.DefaultSelector() as selector:
            selector.register(self.sentinel, selectors.EVENT_READ)
            return bool(selector.select(0))

    def kill(self) -> None:
        """Ends it and everything it started, at once."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def reap(self) -> int | None:
        """Ends it and its group, waits for it; its exit code, minus the signal's number where one ended it.

        The group outlives its leader, and until the leader is waited for nobody else can have its number.
        """
        self.kill()
        code = self._start.reap(self.pid)
        self.close()
        return code

    def close(self) -> None:
        """Closes what this process holds of it."""
        self.channel.close()
        _close_lifeline(self._lifeline)
        if self.sentinel is not None:
            os.close(self.sentinel)
        own_processes.discard(self.pid)


def _close_lifeline(descriptor: int) -> None:
    os.close(descriptor)
    _lifelines.discard(descriptor)


def _pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):  # no such call on this system, or none that is allowed
        return None


class StartMethod:
    """A way to start workers for one run.

    Args:
        tasks: The run's tasks, by id.
        relayed: Whether the workers' stdout and stderr go through the channel. Unless given: where this process's go
            elsewhere than to the descriptor that a child inherits.
    """

    #: How values are pickled for its workers.
    dump: Dump = staticmethod(dump_by_value)
    #: Whether its workers are born with the run's tasks.
    inherits_tasks = False

    def __init__(self, tasks: Mapping[int, Task], relayed: tuple[bool, bool] | None = None) -> None:
        self.tasks = tasks
        self.relayed = relayed or (_is_redirected(sys.stdout, 1), _is_redirected(sys.stderr, 2))

    def worker(self) -> WorkerProcess:
        """Starts one. Raises OSError when the system can't give it."""
        for stream in (sys.stdout, sys.stderr):  # what waits in a buffer would come late or, after a fork, twice
            if stream is not None:
                with contextlib.suppress(OSError, ValueError):
                    stream.flush()
        ours, theirs = socket.socketpair()
        with theirs, contextlib.ExitStack() as undo:
            undo.callback(ours.close)
            reading, writing = os.pipe()
            undo.callback(_close_lifeline, writing)
            _lifelines.add(writing)
            try:
                pid = self.launch(theirs, reading, (ours.fileno(), writing))
            finally:
                os.close(reading)
            undo.pop_all()
        ours.setblocking(False)
        return WorkerProcess(self, pid, Channel(ours), writing)

    def launch(self, sock: socket.socket, lifeline: int, ours: tuple[int, int]) -> int:
        """Starts the process; its pid."""
        raise NotImplementedError

    def reap(self, pid: int) -> int | None:
        """Waits for the process's end; its exit code."""
        try:
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        except ChildProcessError:  # somebody else in this process has waited for it
            return None

    def close(self) -> None:
        """Ends what was needed to start workers."""


class Fork(StartMethod):
    """The worker begins as a copy of this process: nothing needs to travel to it."""

    dump = staticmethod(dump_by_reference)
    inherits_tasks = True

    def launch(self, sock: socket.socket, lifeline: int, ours: tuple[int, int]) -> int:
        coordinator = os.getpid()
        try:
            pid = os.fork()
            if pid:
                with contextlib.suppress(OSError):  # the child does the same; whoever is first
                    os.setpgid(pid, pid)
                return pid
            os.setpgid(0, 0)
            forget_exit_handlers()
            signal.set_wakeup_fd(-1)
            os.close(ours[0])
            for descriptor in tuple(_lifelines):
                os.close(descriptor)
            _lifelines.clear()
            forget_running_loop()
            run_worker(sock, lifeline, dump_by_reference, self.relayed, self.tasks)
        finally:
            if os.getpid() != coordinator:  # whatever happens, the child never runs the caller's lines
                os._exit(1)


class FreshInterpreter(StartMethod):
    """The worker begins as a fresh interpreter: for a single one, where no fork server is kept."""

    def __init__(self, tasks: Mapping[int, Task], relayed: tuple[bool, bool] | None = None) -> None:
        super().__init__(tasks, relayed)
        self._started: dict[int, subprocess.Popen[bytes]] = {}

    def launch(self, sock: socket.socket, lifeline: int, ours: tuple[int, int]) -> int:
        process = start_interpreter("become_worker", sock, (lifeline,), relayed=self.relayed, lifeline=lifeline)
        self._started[process.pid] = process
        return process.pid

    def reap(self, pid: int) -> int | None:
        return self._started.pop(pid).wait()


def start_interpreter(
    function: str, sock: socket.socket, descriptors: tuple[int, ...], output: int | None = None, **more: Any
) -> subprocess.Popen[bytes]:
    """Starts a fresh interpreter, in a process group of its own, that sees the modules that this one sees."""
    path = [entry or os.getcwd() for entry in sys.path if isinstance(entry, str)]  # noqa: PTH109 (a string is wanted)
    argv = [str(argument) for argument in sys.argv]
    settings = json.dumps({"argv": argv, "path": path, "sock": sock.fileno(), **more})
    code = (
        "import sys, json, signal; signal.pthread_sigmask(signal.SIG_SETMASK, ()); "
        "settings = json.load(sys.stdin); sys.path[:] = settings['path']; "
        f"from dotflow.processes.forkserver_main import {function}; {function}(settings)"
    )
    process = subprocess.Popen(
        [sys.executable, *interpreter_flags(), "-c", code],
        pass_fds=(sock.fileno(), *descriptors),
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=output,
        process_group=0,
    )
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError), process.stdin as pipe:  # its end is told in other ways
        pipe.write(settings.encode())
    return process


def _is_redirected(stream: Any, descriptor: int) -> bool:
    """Whether prints of this process go elsewhere than to the descriptor that a child inherits."""
    try:
        return bool(stream.fileno() != descriptor)
    except (AttributeError, OSError, ValueError):
        return stream is not None
