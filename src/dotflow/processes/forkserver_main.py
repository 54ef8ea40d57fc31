"""What the fork server runs.

It has one Python thread and holds no locks. It has the caller's import path, and has imported the
installed modules that the caller's steps need. It serves one request at a time, and ends with the coordinator.
"""

import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import struct
import sys
import threading
from typing import Any, Final

from dotflow.core.masks import hidden
from dotflow.cpython import forget_exit_handlers
from dotflow.processes.channel import dump_by_value
from dotflow.processes.worker_main import run_worker
from dotflow.worker.usage import wait_for

FORK: Final = 1  # number: whether its output is captured, 1 or 0; with DESCRIPTORS descriptors. Reply: the worker's pid
REAP: Final = 2  # number: a pid. Reply: its exit code, its CPU time in microseconds, and its peak memory in bytes
PRELOAD: Final = 3  # number: the size of a JSON list of modules, which follows. Reply: see `_preload`
REQUEST: Final = struct.Struct("!BQq")  # kind, serial number, number
REPLY: Final = struct.Struct("!Qqqq")  # the request's serial number, three numbers
DESCRIPTORS: Final = 4  # the worker's socket, its parent-death pipe, its stdout and stderr
UNKNOWN_EXIT_CODE: Final = 1 << 40  # no process can have this exit code
ALL_IMPORTED: Final = -1  # reply to PRELOAD: forking is still safe

#: Packages whose native threads allow forking, by handlers that they register with pthread_atfork. OpenBLAS ends its
#: threads before a fork and starts them again on demand (blas_server.c). jemalloc takes its locks before a fork and
#: starts its thread anew (jemalloc_prefork, jemalloc_postfork_child).
FORK_SAFE: Final = frozenset({"numpy", "pandas", "pyarrow"})


def become_forkserver(settings: dict[str, Any]) -> None:
    """Makes the fresh interpreter a fork server, which forks workers on request."""
    sys.argv = settings["argv"]
    hidden.update(settings["hidden"])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control = socket.socket(fileno=settings["sock"])
    with contextlib.suppress(ConnectionError):  # the coordinator has ended in the middle of a request
        while True:
            request, descriptors, _, _ = socket.recv_fds(control, REQUEST.size, DESCRIPTORS)
            if not request:
                break
            kind, serial, number = REQUEST.unpack(request)
            if kind == FORK:
                reply = _fork(control, descriptors, number), 0, 0
            elif kind == REAP:
                reply = _reap(number)
            else:
                reply = _preload(json.loads(control.recv(number, socket.MSG_WAITALL))), 0, 0
            control.sendall(REPLY.pack(serial, *reply))
    os._exit(0)


def _fork(control: socket.socket, descriptors: list[int], captured: int) -> int:
    sock, parent_pipe, stdout, stderr = descriptors
    try:
        pid = os.fork()
    except OSError:
        pid = -1
    if pid == 0:
        forget_exit_handlers()
        control.close()
        os.setpgid(0, 0)
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        os.close(stdout)
        os.close(stderr)
        _renew_random_state()
        run_worker(socket.socket(fileno=sock), parent_pipe, dump_by_value, {}, captured=bool(captured))
    if pid > 0:
        os.setpgid(pid, pid)
    for descriptor in descriptors:
        os.close(descriptor)
    return pid


def _reap(pid: int) -> tuple[int, int, int]:
    code, usage = wait_for(pid)
    if code is None or usage.cpu is None:
        return UNKNOWN_EXIT_CODE, 0, 0
    return code, int(usage.cpu * 1e6), usage.peak or 0


def _preload(names: list[str]) -> int:
    """Imports modules; returns the index of the first that has started a thread, which makes forking unsafe.

    A module that can't be imported fails again in the worker, which reports it.
    """
    for index, name in enumerate(names):
        before = _count_threads()
        with contextlib.suppress(BaseException):
            importlib.import_module(name)
        if _count_threads() > before and name.partition(".")[0] not in FORK_SAFE:
            return index
    gc.freeze()  # the workers' garbage collections do not touch, and so not copy, shared pages
    return ALL_IMPORTED


def _count_threads() -> int:
    try:
        return len(os.listdir("/proc/self/task"))  # noqa: PTH208 (only their number is wanted)
    except OSError:
        return threading.active_count()


def _renew_random_state() -> None:
    """Seeds NumPy's global generator, which was seeded at its import: each worker would draw the same numbers.

    Python reseeds its own generator in each fork.
    """
    random = sys.modules.get("numpy.random")
    if random is not None:
        random.seed()
