"""Offspring: the processes that a process has forked, and those that they left to it."""

import contextlib
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from dotflow import clock

ABORT_GRACE: Final = 2.0  # seconds that a process which hangs has to say where
POLL_INTERVAL: Final = 0.002  # seconds between two looks, where the system has no call that waits
PR_SET_CHILD_SUBREAPER: Final = 36  # <linux/prctl.h>


class ChildProcesses:
    """Forks processes and waits for their end. On Linux their orphans come to this process, so that it sees them too.

    It waits for any child, so nobody else in the process may have one.
    """

    def __init__(self) -> None:
        self._codes: dict[int, int] = {}
        self._is_alone = True
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # whoever started this process may have ignored it
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})  # it is waited for, not handled
        if sys.platform == "linux":
            import ctypes

            ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def fork(self) -> int:
        """Forks: the child's pid here, 0 in the child."""
        with warnings.catch_warnings():  # a library that was imported may have threads: they don't take part
            warnings.simplefilter("ignore", DeprecationWarning)
            process = os.fork()
        if process:
            self._is_alone = False
        else:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        return process

    def wait(self, process: int, within: float) -> bool:
        """Waits for its end, *within* seconds; whether it came."""
        return self._wait(lambda: process in self._codes, within)

    def pop_exit_code(self, process: int) -> int | None:
        """How a process ended, minus the signal's number where one ended it. It is forgotten then."""
        return self._codes.pop(process, None)

    def abort(self, process: int) -> None:
        """Ends one that hangs. First it may say where: `faulthandler` does so at SIGABRT."""
        for signum in (signal.SIGABRT, signal.SIGKILL):
            os.kill(process, signum)
            if self.wait(process, ABORT_GRACE):
                return

    def kill_remaining(self, after: float) -> list[str]:
        """What still runs *after* so many seconds, for readers; then it is ended. Where that can't be seen, nothing."""
        if self._wait(lambda: self._is_alone, after):
            return []
        found = list(_children())
        told = [f"{process} {_command(process)}" for process in found]
        for process in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self._wait(lambda: self._is_alone, after)
        return told

    def _wait(self, is_over: Callable[[], bool], seconds: float) -> bool:
        until = clock.ticks() + seconds
        while True:
            self._collect()
            if is_over():
                return True
            left = until - clock.ticks()
            if left <= 0:
                return False
            if hasattr(signal, "sigtimedwait"):
                signal.sigtimedwait({signal.SIGCHLD}, left)
            else:  # macOS has none
                time.sleep(min(left, POLL_INTERVAL))

    def _collect(self) -> None:
        try:
            while True:
                process, status = os.waitpid(-1, os.WNOHANG)
                if not process:
                    return
                self._codes[process] = os.waitstatus_to_exitcode(status)
        except ChildProcessError:
            self._is_alone = True


def _children() -> Iterable[int]:
    """The processes that this one has to wait for."""
    ours = str(os.getpid())
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if path.read_text(errors="replace").rpartition(")")[2].split()[1] == ours:
                yield int(path.parent.name)


def _command(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()[:200]
    except OSError:
        return "?"
