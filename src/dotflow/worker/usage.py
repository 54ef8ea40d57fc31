"""What an attempt uses: CPU time and peak memory.

An attempt that has its process to itself is measured by the process, child processes included. Attempts in threads and
coroutines share theirs: of them only the CPU time of their own thread is known.
"""

import os
import sys
import threading
from collections.abc import Coroutine, Generator
from os import getpid, pwrite
from pathlib import Path
from time import process_time, thread_time
from types import coroutine
from typing import Any, Final

from dotflow import clock
from dotflow.core.outcome import Usage
from dotflow.own_descriptor import OwnDescriptor
from dotflow.worker.interrupts import in_forked_child

try:
    import resource
except ImportError:  # not POSIX: there attempts are measured by their threads
    resource = None  # type: ignore[assignment]

new: Final = tuple.__new__  # makes a named tuple in half the time: there is one for every attempt

SELF: Final = 0  # <sys/resource.h>
CHILDREN: Final = -1
#: Returns user time, system time and peak first.
getrusage: Final[Any] = getattr(resource, "getrusage", None)

RESET_PEAK: Final = b"5"  # proc_pid_clear_refs(5): sets the peak of the resident memory to what it is now
KIB: Final = 1024  # bytes
MAXRSS: Final = 2  # in what getrusage returns, after user and system time
MAXRSS_UNIT: Final = 1 if sys.platform == "darwin" else KIB  # bytes; getrusage(2)


class ProcessMeter:
    """Measures an attempt by its process, from its construction on."""

    __slots__ = ("_began",)

    def __init__(self) -> None:
        _peak.reset()
        children = getrusage(CHILDREN)
        self._began = process_time() + children[0] + children[1]

    def add(self, seconds: float) -> None:
        """Does nothing: the process's time has it."""

    def read(self) -> Usage:
        own, children = getrusage(SELF), getrusage(CHILDREN)
        cpu = own[0] + own[1] + children[0] + children[1] - self._began
        cpu = cpu if cpu > 0.0 else 0.0  # its clock may be 2 µs behind
        return new(Usage, (cpu, _peak.read(own[MAXRSS]), _peak.pid, None, None))


class ThreadMeter:
    """Measures an attempt by its thread."""

    __slots__ = ("_added", "_began")

    def __init__(self) -> None:
        self._added = 0.0
        self._began = thread_time()

    def add(self, seconds: float) -> None:
        self._added += seconds

    def read(self) -> Usage:
        return Usage(thread_time() - self._began + self._added, None, getpid())


class CoroutineMeter(ThreadMeter):
    """Measures an attempt by what `metered` adds: its thread runs other attempts, too."""

    __slots__ = ()

    def read(self) -> Usage:
        return Usage(self._added, None, getpid())


#: `add` takes the CPU time of the attempt in other threads, `read` returns the usage so far.
Meter = ProcessMeter | ThreadMeter


def begin() -> Meter:
    """Returns the meter of an attempt that begins in the calling thread."""
    threads = clock.attempt_threads
    is_alone = resource is not None and not (threads and threading.get_ident() in threads)
    return ProcessMeter() if is_alone else ThreadMeter()


@coroutine
def metered(awaited: Coroutine[Any, Any, Any], meter: Meter) -> Generator[Any, Any, Any]:
    """Awaits a coroutine, and adds the CPU time of its own steps to the meter, not that of others in its loop."""
    value: Any = None
    error: BaseException | None = None
    while True:
        began = thread_time()
        try:
            yielded = awaited.send(value) if error is None else awaited.throw(error)
        except StopIteration as end:
            return end.value
        finally:
            meter.add(thread_time() - began)
        value = error = None
        try:
            value = yield yielded
        except GeneratorExit:
            awaited.close()
            raise
        except BaseException as raised:  # thrown in, for the coroutine
            error = raised


def wait_for(pid: int) -> tuple[int | None, Usage]:
    """Waits for the end of a child process; returns its exit code, None if that is unknown, and all that it used."""
    try:
        _, status, usage = os.wait4(pid, 0)
    except ChildProcessError:  # other code of this process has waited for it
        return None, Usage()
    cpu = usage.ru_utime + usage.ru_stime
    return os.waitstatus_to_exitcode(status), Usage(cpu, usage.ru_maxrss * MAXRSS_UNIT, pid)


class _Peak:
    """The peak of this process's resident memory since the last reset. None where the system has no /proc."""

    def __init__(self) -> None:
        self.pid = 0  # of the process whose peak it is; 0 before its first attempt
        self._file: OwnDescriptor | None = None
        self._floor = 0

    def reset(self) -> None:
        file = self._file
        if not self.pid or (file is not None and not file.is_open()):  # a step has closed it
            self._open()
            file = self._file
        if file is not None:
            try:
                pwrite(file.number, RESET_PEAK, 0)
            except OSError:
                self._file = None

    def read(self, maxrss: int) -> int | None:
        """Returns the peak in bytes, given the `ru_maxrss` of now."""
        if self._file is None:
            return None
        peak = maxrss * MAXRSS_UNIT
        return peak if peak > self._floor else _high_water_mark()

    def forget_process(self) -> None:
        """Makes the next attempt open the file of its own process: a forked child's descriptor is its parent's."""
        self.pid = 0

    def _open(self) -> None:
        """Opens the file, and finds out whether ru_maxrss began with the memory of the process that started this one.

        It does after vfork, as subprocess uses it (exec_mmap in fs/exec.c): then it says nothing up to there.
        """
        self.pid, self._floor = getpid(), 0
        try:
            self._file = OwnDescriptor(os.open("/proc/self/clear_refs", os.O_WRONLY | os.O_CLOEXEC))
            pwrite(self._file.number, RESET_PEAK, 0)
            peak, own = getrusage(SELF)[MAXRSS] * MAXRSS_UNIT, _high_water_mark()
        except OSError:
            self._file = None
            return
        if own is not None and peak > own:
            self._floor = peak


def _high_water_mark() -> int | None:
    """Returns the peak since the last reset as /proc/self/status has it, which takes longer than ru_maxrss."""
    line = status_line(b"VmHWM:")
    return None if line is None else int(line.split()[1]) * KIB


def status_line(field: bytes) -> bytes | None:
    """Returns the line of /proc/self/status that begins with a field; None where there is none."""
    try:
        status = Path("/proc/self/status").read_bytes()
    except OSError:
        return None
    return next((line for line in status.splitlines() if line.startswith(field)), None)


_peak: Final = _Peak()
in_forked_child(_peak.forget_process)
