"""How a fresh interpreter becomes a worker, or the nursery that forks workers.

The nursery has one thread, holds no locks and has seen nothing of the caller but its import path, so forking it
is always safe. It does what the coordinator asks, one request at a time, and ends when the coordinator is gone.
"""

import atexit
import contextlib
import os
import signal
import socket
import struct
import sys
from typing import Any, Final

from dotflow.worker.channel import dump_by_value
from dotflow.worker.process import run_worker

FORK: Final = b"F"  # with two descriptors: the worker's socket and lifeline. Answer: its pid
REAP: Final = b"R"  # with a pid. Answer: its exit code
NUMBER: Final = struct.Struct("!q")
UNKNOWN: Final = 1 << 40  # no exit code looks like this: nobody knows


def become_worker(told: dict[str, Any]) -> None:
    """Called by a spawned interpreter: it is a worker."""
    sys.argv = told["argv"]
    run_worker(socket.socket(fileno=told["sock"]), told["lifeline"], dump_by_value, tuple(told["relayed"]), {})


def become_nursery(told: dict[str, Any]) -> None:
    """Called by a spawned interpreter: it forks workers on request."""
    sys.argv = told["argv"]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control = socket.socket(fileno=told["sock"])
    with contextlib.suppress(ConnectionError):  # whoever asked was killed in the middle of it
        while True:
            request, descriptors, _, _ = socket.recv_fds(control, 1 + NUMBER.size, 2)
            if not request:
                break
            if request[:1] == FORK:
                control.sendall(NUMBER.pack(_fork(control, descriptors, told["relayed"])))
            else:
                control.sendall(NUMBER.pack(_reap(NUMBER.unpack(request[1:])[0])))
    os._exit(0)


def _fork(control: socket.socket, descriptors: list[int], relayed: list[bool]) -> int:
    sock, lifeline = descriptors
    try:
        pid = os.fork()
    except OSError:
        pid = -1
    if pid == 0:
        atexit._clear()
        control.close()
        os.setpgid(0, 0)
        run_worker(socket.socket(fileno=sock), lifeline, dump_by_value, (relayed[0], relayed[1]), {})
    if pid > 0:
        os.setpgid(pid, pid)
    os.close(sock)
    os.close(lifeline)
    return pid


def _reap(pid: int) -> int:
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:
        return UNKNOWN
