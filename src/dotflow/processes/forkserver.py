"""The caller's side of the fork server: one for a group of workers, or one that the program keeps between its runs."""

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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final

from dotflow.code.own_code import is_own
from dotflow.core.action import Action
from dotflow.core.masks import hidden
from dotflow.core.outcome import Usage
from dotflow.core.task import Task
from dotflow.cpython import interpreter_flags
from dotflow.processes.forkserver_main import (
    ALL_IMPORTED,
    FORK,
    PRELOAD,
    REAP,
    REPLY,
    REQUEST,
    UNKNOWN_EXIT_CODE,
)
from dotflow.processes.start import StartMethod
from dotflow.worker.interrupts import in_forked_child, interrupts_let_through
from dotflow.worker.programs import own_processes
from dotflow.worker.usage import status_line

PATIENCE: Final = 0.1  # seconds between two moments in which an interrupt ends the wait for the kept server
#: pytest changes it with each test, which would start a server anew.
OF_EACH_TEST: Final = "PYTEST_CURRENT_TEST"


class ForkServerProcess:
    """A fresh interpreter that only forks workers. Any number of threads may use it.

    Attributes:
        pid: Its process id.
        users: How many runs use it, if the program keeps it.
    """

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair()
        self._lock = threading.Lock()
        self._serial = 0
        self._preloaded: set[str] = set()
        try:
            with theirs:
                process = start_interpreter(theirs)
        except BaseException:  # it has not started
            self._control.close()
            raise
        process.returncode = 0  # `close` waits for it; Popen would warn before that
        self.pid = process.pid
        self.users = 0
        own_processes.add(self.pid)
        _open_servers.add(self)

    def preload(self, names: Sequence[str]) -> str | None:
        """Imports modules, each once; returns the name of the first one that makes forking unsafe."""
        new = [name for name in names if name not in self._preloaded]
        if not new:
            return None
        payload = json.dumps(new).encode()
        index = self._request(PRELOAD, len(payload), payload)[0]
        self._preloaded.update(new)
        return None if index == ALL_IMPORTED else new[index]

    def fork(self, sock: int, parent_pipe: int, outputs: Sequence[int]) -> int:
        """Forks a worker, with these outputs or this process's stdout and stderr; returns its process id, or -1."""
        if outputs:
            return self._request(FORK, 1, b"", (sock, parent_pipe, *outputs))[0]
        with _open_or_null(1) as stdout, _open_or_null(2) as stderr:
            return self._request(FORK, 0, b"", (sock, parent_pipe, stdout, stderr))[0]

    def reap(self, pid: int) -> tuple[int | None, Usage]:
        """Waits for a worker's end; returns its exit code, None if that is unknown, and what it has used."""
        try:
            code, microseconds, peak = self._request(REAP, pid)
        except OSError:
            return None, Usage()
        return (None, Usage()) if code == UNKNOWN_EXIT_CODE else (code, Usage(microseconds / 1e6, peak, pid))

    def _request(self, kind: int, number: int, payload: bytes = b"", descriptors: Sequence[int] = ()) -> list[int]:
        """Returns the numbers of the server's reply. Raises ConnectionError when the server has ended."""
        with self._lock:
            self._serial += 1
            socket.send_fds(self._control, [REQUEST.pack(kind, self._serial, number) + payload], descriptors)
            while True:
                data = self._control.recv(REPLY.size, socket.MSG_WAITALL)
                if not data:
                    raise ConnectionResetError("the fork server has ended")
                serial, *reply = REPLY.unpack(data)
                if serial == self._serial:  # an interrupted request's reply comes before
                    return reply

    def detach(self) -> None:
        """Closes this process's connection; the server ends with the last connection."""
        own_processes.discard(self.pid)
        _open_servers.discard(self)
        self._control.close()

    def close(self) -> None:
        """Ends it, also in the middle of an import."""
        self.detach()
        with contextlib.suppress(ChildProcessError):  # the program itself has waited for it
            if not os.waitpid(self.pid, os.WNOHANG)[0]:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)


def start_interpreter(sock: socket.socket) -> subprocess.Popen[bytes]:
    """Starts a fork server in a process group of its own, with its socket. It can import what this process can."""
    path = [entry or os.getcwd() for entry in sys.path if isinstance(entry, str)]  # noqa: PTH109 (a string is wanted)
    argv = [str(argument) for argument in sys.argv]
    settings = json.dumps({"argv": argv, "path": path, "sock": sock.fileno(), "hidden": sorted(hidden)})
    code = (
        "import sys, json, signal; signal.pthread_sigmask(signal.SIG_SETMASK, ()); "
        "settings = json.load(sys.stdin); sys.path[:] = settings['path']; "
        "from dotflow.processes.forkserver_main import become_forkserver; become_forkserver(settings)"
    )
    process = subprocess.Popen(
        [sys.executable, *interpreter_flags(), "-c", code],
        pass_fds=(sock.fileno(),),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        process_group=0,
    )
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError), process.stdin as pipe:  # its end is noticed elsewhere
        pipe.write(settings.encode())
    return process


#: Those of this process. A fork of it detaches, so that they end with this process.
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
    """Workers begin as copies of a fork server of their own."""

    def __init__(self, tasks: Mapping[int, Task], *, captured: bool = False) -> None:
        super().__init__(tasks, captured=captured)
        self._server: ForkServerProcess | None = None
        self._servers: dict[int, ForkServerProcess] = {}  # by worker

    def launch(self, sock: socket.socket, parent_pipe: int, foreign: Iterable[int], outputs: Sequence[int]) -> int:
        try:
            return self._fork(sock, parent_pipe, outputs)
        except ConnectionError:  # the server was killed; the workers that it has forked live on
            self.replace()
            return self._fork(sock, parent_pipe, outputs)

    def _fork(self, sock: socket.socket, parent_pipe: int, outputs: Sequence[int]) -> int:
        server = self.server()
        pid = server.fork(sock.fileno(), parent_pipe, outputs)
        if pid < 0:
            raise OSError("the fork server could not fork")
        self._servers[pid] = server
        return pid

    def reap(self, pid: int) -> tuple[int | None, Usage]:
        return self._servers.pop(pid).reap(pid)

    def server(self) -> ForkServerProcess:
        """Returns the server that forks the next worker."""
        self._server = self._server or ForkServerProcess()
        return self._server

    def replace(self) -> None:
        """Drops a server that has ended."""
        self.close()

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        self._server = None


class KeptForkServer(ForkServer):
    """Workers begin as copies of the server that the program keeps, which has imported what the run's steps need."""

    def server(self) -> ForkServerProcess:
        self._server = self._server or _kept.take(needed_modules(self.tasks.values()))
        return self._server

    def replace(self) -> None:
        if self._server is not None:
            _kept.retire(self._server)
        self.close()

    def close(self) -> None:
        """Gives the server back; the program keeps it."""
        server, self._server = self._server, None
        if server is not None:
            _kept.release(server)


class _KeptServer:
    """The program's fork server. A new one starts when the state that a child inherits has changed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._server: ForkServerProcess | None = None
        self._inherited_state: Any = None
        self._excluded: set[str] = set()
        atexit.register(self._retire)  # without the lock, which an abandoned thread may hold

    def take(self, names: Sequence[str]) -> ForkServerProcess:
        """Returns the server, after it has imported these modules; `release` gives it back."""
        with self._turn():
            while True:
                inherited = _inherited_state()
                if inherited != self._inherited_state:
                    self._retire()
                if self._server is None:
                    self._server, self._inherited_state = ForkServerProcess(), inherited
                server = self._server
                modules = [name for name in names if name not in self._excluded]
                try:
                    with interrupts_let_through():  # an import may take seconds
                        excluded = server.preload(modules)
                except ConnectionError:  # an import has ended it; it may end only the workers that need it
                    self._excluded.update(modules)
                    self._retire()
                    continue
                except BaseException:  # Ctrl-C: the server may be in the middle of an import
                    self._retire()
                    raise
                if excluded is None:
                    server.users += 1
                    return server
                self._excluded.add(excluded)
                self._retire()

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Holds the lock. Interrupts end the wait for it: the server may import for another thread, for seconds."""
        lock = self._lock
        while not lock.acquire(timeout=PATIENCE):
            with interrupts_let_through():
                pass
        try:
            yield
        finally:
            lock.release()

    def release(self, server: ForkServerProcess) -> None:
        """Ends the use by one run. A retired server ends with its last run."""
        with self._lock:
            server.users -= 1
            if not server.users and server is not self._server:
                server.close()

    def retire(self, server: ForkServerProcess) -> None:
        """Gives the next run another server than this one, unless it has another one already."""
        with self._lock:
            if server is self._server:
                self._retire()

    def reset(self) -> None:
        """Drops the parent's server in a forked child, and its lock, which another thread may have held."""
        self._lock = threading.Lock()
        self._server = None

    def _retire(self) -> None:
        server, self._server = self._server, None
        if server is not None and not server.users:
            server.close()


_kept: Final = _KeptServer()


def warm_up(tasks: Iterable[Task]) -> None:
    """Starts the program's fork server with the modules that these tasks need, before a run does."""
    _kept.release(_kept.take(needed_modules(tasks)))


@in_forked_child
def _forget_servers() -> None:
    for server in tuple(_open_servers):
        server.detach()
    _kept.reset()


def _inherited_state() -> tuple[Any, ...]:
    """Returns the state that a worker should have of the caller, as it is now."""
    import resource  # POSIX has it

    limits = [resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name.startswith("RLIMIT_")]
    affinity = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    folder = None
    with contextlib.suppress(OSError):  # it was deleted
        folder = os.getcwd()  # noqa: PTH109 (a string is wanted)
    return (
        {name: value for name, value in os.environ.items() if name != OF_EACH_TEST},
        list(sys.path),
        list(sys.argv),
        folder,
        status_line(b"Umask:"),  # read where that needs no setting, which other threads would notice
        (os.getuid(), os.geteuid(), os.getgid(), os.getegid(), os.getgroups()),
        os.getpriority(os.PRIO_PROCESS, 0),
        limits,
        affinity,
        frozenset(hidden),
    )


def needed_modules(tasks: Iterable[Task]) -> list[str]:
    """Returns the modules that a worker imports for these tasks, without the user's own: those may be edited."""
    search = _Search()
    for task in tasks:
        search.visit(task.step)
        search.visit(task.initial_context.storage)
    return list(search.modules)


class _Search:
    """Searches functions of `__main__` by the names that they use, classes and the user's modules completely."""

    def __init__(self) -> None:
        self.modules: dict[str, None] = {}
        self._seen: set[int] = set()

    def visit(self, value: Any) -> None:
        """Adds the modules that *value* needs."""
        if isinstance(value, Action):
            value = value.function
        if isinstance(value, ModuleType):
            self._add(value.__name__)
        elif isinstance(value, FunctionType | type):
            if value.__module__ != "__main__":
                self._add(value.__module__)
            elif id(value) not in self._seen:
                self._seen.add(id(value))
                for used in _globals_of(value) if isinstance(value, FunctionType) else tuple(vars(value).values()):
                    self.visit(used)
        elif value is not None and type(value) not in (str, int, float, bool, bytes):
            self.visit(type(value))

    def _add(self, name: Any) -> None:
        module = sys.modules.get(name) if isinstance(name, str) else None
        if module is None or name in self.modules or id(module) in self._seen:
            return
        if not is_own(name, ""):
            self.modules[name] = None
        elif name != "__main__":
            self._seen.add(id(module))
            for value in tuple(vars(module).values()):
                if isinstance(value, ModuleType | FunctionType | type | Action):
                    self.visit(value)


def _globals_of(function: FunctionType) -> Iterator[Any]:
    for name in _names_in(function.__code__):
        if name in function.__globals__:
            yield function.__globals__[name]
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # it is empty
            continue


def _names_in(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_in(constant)
