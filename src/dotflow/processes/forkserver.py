"""The fork server as its callers see it: one for a group of workers, or one that the program keeps between its runs."""

import atexit
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from dotflow.core.task import Task
from dotflow.processes.forkserver_main import ALL_IMPORTED, FORK, PRELOAD, REAP, REPLY, REQUEST, UNKNOWN_EXIT_CODE
from dotflow.processes.preload import needed_modules
from dotflow.processes.start import StartMethod, start_interpreter
from dotflow.worker.interrupts import interrupts_let_through
from dotflow.worker.programs import own_processes


class ForkServerProcess:
    """A fresh interpreter that does nothing else but fork workers, for any number of threads.

    Attributes:
        pid: Its process id.
        users: How many runs use it, where it is the one that the program keeps.
    """

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair()
        self._lock = threading.Lock()
        self._serial = 0
        self._preloaded: set[str] = set()
        try:
            with theirs:
                process = start_interpreter("become_forkserver", theirs, (), output=subprocess.DEVNULL)
        except BaseException:  # it could not be started
            self._control.close()
            raise
        process.returncode = 0  # it is waited for in `close`, and Popen need not warn before that
        self.pid = process.pid
        self.users = 0
        own_processes.add(self.pid)
        _open_servers.add(self)

    def preload(self, names: Sequence[str]) -> str | None:
        """Imports modules, each once; the name of the one that has made this process unfit to fork."""
        new = [name for name in names if name not in self._preloaded]
        if not new:
            return None
        payload = json.dumps(new).encode()
        index = self._request(PRELOAD, len(payload), payload)
        self._preloaded.update(new)
        return None if index == ALL_IMPORTED else new[index]

    def fork(self, sock: int, lifeline: int, relayed: tuple[bool, bool]) -> int:
        """Forks a worker; its process id, or -1. Its output goes where this process's output goes now."""
        with _open_or_null(1) as stdout, _open_or_null(2) as stderr:
            return self._request(FORK, relayed[0] | relayed[1] << 1, b"", (sock, lifeline, stdout, stderr))

    def reap(self, pid: int) -> int | None:
        """Waits for a worker's end; its exit code, None where that is not known."""
        try:
            code = self._request(REAP, pid)
        except OSError:
            return None
        return None if code == UNKNOWN_EXIT_CODE else code

    def _request(self, kind: int, number: int, payload: bytes = b"", descriptors: Sequence[int] = ()) -> int:
        """Its answer. Raises ConnectionError when it is gone."""
        with self._lock:
            self._serial += 1
            socket.send_fds(self._control, [REQUEST.pack(kind, self._serial, number) + payload], descriptors)
            while True:
                data = self._control.recv(REPLY.size, socket.MSG_WAITALL)
                if not data:
                    raise ConnectionResetError("the process that forks the workers is gone")
                serial, reply = REPLY.unpack(data)
                if serial == self._serial:  # others asked for what they no longer waited for
                    return int(reply)

    def forget(self) -> None:
        """Closes what this process holds of it; it ends when no process holds it."""
        own_processes.discard(self.pid)
        _open_servers.discard(self)
        self._control.close()

    def close(self) -> None:
        """Ends it, be it in the middle of an import."""
        self.forget()
        with contextlib.suppress(ChildProcessError):  # the program has waited for all its children
            if not os.waitpid(self.pid, os.WNOHANG)[0]:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)


#: Those of this process; a fork of it forgets them, so that they end with it alone.
_open_servers: Final[weakref.WeakSet[ForkServerProcess]] = weakref.WeakSet()


@contextlib.contextmanager
def _open_or_null(descriptor: int) -> Iterator[int]:
    try:
        os.fstat(descriptor)
    except OSError:  # this process has closed it
        null = os.open(os.devnull, os.O_RDWR)
        try:
            yield null
        finally:
            os.close(null)
    else:
        yield descriptor


class ForkServer(StartMethod):
    """The worker begins as a copy of a fresh interpreter that does nothing else."""

    def __init__(self, tasks: Mapping[int, Task], relayed: tuple[bool, bool] | None = None) -> None:
        super().__init__(tasks, relayed)
        self._server: ForkServerProcess | None = None
        self._servers: dict[int, ForkServerProcess] = {}  # by worker

    def launch(self, sock: socket.socket, lifeline: int, ours: tuple[int, int]) -> int:
        try:
            server = self.server()
            pid = server.fork(sock.fileno(), lifeline, self.relayed)
        except ConnectionError:  # it was killed; the workers that it has forked live on
            self.replace()
            server = self.server()
            pid = server.fork(sock.fileno(), lifeline, self.relayed)
        if pid < 0:
            raise OSError("the system does not let us fork")
        self._servers[pid] = server
        return pid

    def reap(self, pid: int) -> int | None:
        return self._servers.pop(pid).reap(pid)

    def server(self) -> ForkServerProcess:
        """The one that forks the next worker."""
        self._server = self._server or ForkServerProcess()
        return self._server

    def replace(self) -> None:
        """The server has ended: the next worker needs another one."""
        self.close()

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        self._server = None


class KeptForkServer(ForkServer):
    """The same with the server that the program keeps, which has imported what the run's steps need."""

    def server(self) -> ForkServerProcess:
        self._server = self._server or _kept.take(needed_modules(self.tasks.values()))
        return self._server

    def replace(self) -> None:
        _kept.retire()
        self.close()

    def close(self) -> None:
        """As Start says; the program keeps the server."""
        server, self._server = self._server, None
        if server is not None:
            _kept.release(server)


class _KeptServer:
    """The program's fork server. It starts with the first need, and again when what a child inherits has changed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._server: ForkServerProcess | None = None
        self._inherited_state: Any = None
        self._excluded: set[str] = set()
        atexit.register(self._retire)  # without the lock: a thread that was left behind may hold it

    def take(self, names: Sequence[str]) -> ForkServerProcess:
        """The server, with these modules imported; `release` gives it back."""
        with self._lock:
            while True:
                server = self._current_server()
                modules = [name for name in names if name not in self._excluded]
                try:
                    with interrupts_let_through():  # an import may take seconds
                        excluded = server.preload(modules)
                except ConnectionError:  # an import has ended it; only a worker that needs that module may end by it
                    self._excluded.update(modules)
                    self._retire()
                    continue
                except BaseException:  # Ctrl-C; what it has imported is not known
                    self._retire()
                    raise
                if excluded is None:
                    server.users += 1
                    return server
                self._excluded.add(excluded)
                self._retire()

    def release(self, server: ForkServerProcess) -> None:
        """A run has ended. A server that was retired ends with its last run."""
        with self._lock:
            server.users -= 1
            if not server.users and server is not self._server:
                server.close()

    def retire(self) -> None:
        """The next run gets another server."""
        with self._lock:
            self._retire()

    def forget(self) -> None:
        """This process is a fork: the server is its parent's, and another thread of that may have held the lock."""
        self._lock = threading.Lock()
        self._server = None

    def _current_server(self) -> ForkServerProcess:
        inherited = _inherited_state()
        if inherited != self._inherited_state:
            self._retire()
        if self._server is None:
            self._server, self._inherited_state = ForkServerProcess(), inherited
        return self._server

    def _retire(self) -> None:
        server, self._server = self._server, None
        if server is not None and not server.users:
            server.close()


_kept: Final = _KeptServer()


def _forget_servers() -> None:
    for server in tuple(_open_servers):
        server.forget()
    _kept.forget()


if hasattr(os, "register_at_fork"):  # worker processes need POSIX, but this is imported elsewhere too
    os.register_at_fork(after_in_child=_forget_servers)


def _inherited_state() -> tuple[Any, ...]:
    """What a process has of its parent, and a worker should have of the caller as it is now."""
    import resource  # POSIX has it

    limits = [resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name.startswith("RLIMIT_")]
    affinity = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    return (
        dict(os.environ),
        list(sys.path),
        list(sys.argv),
        _working_folder(),
        _umask(),
        (os.getuid(), os.geteuid(), os.getgid(), os.getegid(), os.getgroups()),
        os.getpriority(os.PRIO_PROCESS, 0),
        limits,
        affinity,
    )


def _working_folder() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109 (a string is wanted)
    except OSError:  # it was deleted
        return None


def _umask() -> bytes | None:
    """Read where that is possible without setting it, which other threads would notice."""
    try:
        status = Path("/proc/self/status").read_bytes()
    except OSError:
        return None
    return next((line for line in status.splitlines() if line.startswith(b"Umask:")), None)
