"""ChildProcesses: forks processes, waits for their end, and ends those that they leave behind."""

import contextlib
import os
import signal
import sys
import time
import warnings
from pathlib import Path
from typing import Final

from dotflow import clock

ABORT_GRACE: Final = 2.0  # seconds that a process has to write its stacks
POLL_INTERVAL: Final = 0.002  # seconds, where the system has no sigtimedwait
PR_SET_CHILD_SUBREAPER: Final = 36  # <linux/prctl.h>


class ChildProcesses:
    """The children of this process. On Linux it adopts their orphans too.

    It waits for any child, so no other code in the process may have one.

    Attributes:
        exit_codes: Those of children that ended since the last fork, by pid; minus the signal's number if one did it.
    """

    def __init__(self) -> None:
        self.exit_codes: dict[int, int] = {}
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # the parent may have ignored it
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})  # sigtimedwait needs it blocked
        if sys.platform == "linux":
            import ctypes

            ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def fork(self) -> int:
        """Forks; returns the child's pid here, and 0 in the child."""
        self.exit_codes.clear()
        # Python warns of threads, which an imported library may have. The child uses none of their locks.
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            pid = os.fork()
        if not pid:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        return pid

    def wait(self, pid: int | None, timeout: float) -> bool:
        """Waits for the end of a child, or of all; returns whether it came within *timeout* seconds."""
        deadline = clock.ticks() + timeout
        while True:
            if self._reap() or pid in self.exit_codes:
                return True
            left = deadline - clock.ticks()
            if left <= 0:
                return False
            if hasattr(signal, "sigtimedwait"):
                signal.sigtimedwait({signal.SIGCHLD}, left)
            else:  # macOS
                time.sleep(min(left, POLL_INTERVAL))

    def abort(self, pid: int) -> None:
        """Ends a child that hangs, by SIGABRT, at which `faulthandler` writes its stacks, or else by SIGKILL."""
        for signum in (signal.SIGABRT, signal.SIGKILL):
            os.kill(pid, signum)
            if self.wait(pid, ABORT_GRACE):
                return

    def end_all(self, grace: float) -> list[str]:
        """Kills the children that still run after *grace* seconds; returns their pids and commands (Linux)."""
        if self.wait(None, grace):
            return []
        commands = _child_commands()
        for pid in commands:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.wait(None, grace)
        return [f"{pid} {command}" for pid, command in commands.items()]

    def _reap(self) -> bool:
        """Takes the exit codes of ended children; returns whether no child is left."""
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return False
                self.exit_codes[pid] = os.waitstatus_to_exitcode(status)
        except ChildProcessError:
            return True


def _child_commands() -> dict[int, str]:
    """Returns the command lines of this process's children, by pid; none without /proc."""
    commands = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has just ended
            parent = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[1]
            if parent == str(os.getpid()):
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
                commands[int(folder.name)] = command.decode(errors="replace").strip()[:200]
    return commands
