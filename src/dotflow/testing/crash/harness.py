"""Harness: a process that only forks trials.

It imports everything once, so that a trial takes milliseconds, and has one thread, so that forking is safe.
"""

import contextlib
import faulthandler
import gc
import importlib
import os
import pickle
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

from dotflow import clock
from dotflow.core.failure import Failure
from dotflow.cpython import forget_exit_handlers, join_threads, run_exit_handlers
from dotflow.processes.channel import dump_by_reference
from dotflow.testing.crash.kill_points import Records, StepId, read_journal
from dotflow.testing.crash.trial import Pipeline, RunResult, TrialOptions, run_trial
from dotflow.worker.programs import children_of

ABORT_GRACE: Final = 2.0  # seconds that a process has to print its stacks
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
        """Ends a child that hangs, by SIGABRT, at which `faulthandler` prints its stacks, or else by SIGKILL."""
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
    for pid in children_of(os.getpid()):
        with contextlib.suppress(OSError):  # it has just ended
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
            commands[pid] = command.decode(errors="replace").strip()[:200]
    return commands


WORKER_GRACE: Final = 5.0  # seconds after the end of a trial in which its workers have to end
#: Packages that are imported ahead, like the standard library. The import of a user's module is part of the trial.
PRELOADED: Final = frozenset({"annotated_types", "cloudpickle", "dotflow", "filelock", "pydantic", "typing_extensions"})


class TrialOutcome(NamedTuple):
    """What a trial did."""

    result: RunResult | None  # None if it was killed, or if there is an error
    killed: bool  # where or when it was to be
    error: str  # what went wrong, for readers; empty if nothing did
    began: set[StepId]  # the tasks and items that ran
    operations: list[tuple[Any, ...]]  # what it has done with the storage, as the Ledger takes it


class Harness:
    """Runs trials of one pipeline, one after the other, each in a fork. It needs a process of its own.

    Args:
        pipeline: What they run.
        folder: Where they write, into `first` and `last`: `out`, `err`, and files for the harness.
        timeout: Seconds that a trial may take.
        parent: The harness exits when this process has ended; its parent unless given.
    """

    def __init__(self, pipeline: Pipeline, folder: Path, timeout: float, parent: int | None = None) -> None:
        self._pipeline = pipeline
        self._folder = folder / "first"
        self._timeout = timeout
        self._parent = parent or os.getppid()
        self._children = ChildProcesses()

    def run(self, options: TrialOptions, kill_after: float | None = None) -> TrialOutcome:
        """Runs one trial.

        Args:
            options: How it runs.
            kill_after: Seconds after which it is killed, unless it has ended by then.
        """
        pid = self._fork(options)
        killed = kill_after is not None and not self._children.wait(pid, kill_after)
        if killed:
            os.kill(pid, signal.SIGKILL)
        hung = not self._children.wait(pid, self._timeout)
        if hung:
            self._children.abort(pid)
        journal = read_journal(self._folder / "journal")
        killed = killed or "killed" in journal
        code = self._children.exit_codes.get(pid)
        grace = min(WORKER_GRACE, self._timeout)
        left = self._children.end_all(grace)
        result, error = self._hang(journal) if hung else (None, "") if killed else self._result(code)
        if left and not error:
            result, error = None, f"left processes behind that still ran {grace:g} s after its end: {'; '.join(left)}"
        return TrialOutcome(
            result=result,
            killed=killed and not error,
            error=error,
            began=set(journal["began"]),
            operations=journal["storage"],
        )

    def preload(self, modules: Iterable[str]) -> None:
        """Imports modules that every trial would import, unless they may be the user's."""
        for name in modules:
            if name not in sys.modules and name.partition(".")[0] in PRELOADED | sys.stdlib_module_names:
                with contextlib.suppress(Exception):  # a library's own code: the trials will raise the same
                    importlib.import_module(name)
        gc.collect()

    def _fork(self, options: TrialOptions) -> int:
        if os.getppid() != self._parent:  # the test was killed
            os._exit(1)
        if self._folder.exists():
            self._folder = self._folder.with_name("last")
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir()
        (self._folder / "journal").touch()
        gc.freeze()  # or a collection in the fork would copy the memory of both
        pid = self._children.fork()
        if not pid:
            self._run_in_child(options)
        return pid

    def _run_in_child(self, options: TrialOptions) -> NoReturn:
        try:
            import resource  # only POSIX has it

            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a trial that is aborted leaves no core file
            forget_exit_handlers()
            for descriptor, name in enumerate((os.devnull, "out", "err")):
                opened = os.open(self._folder / name, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
                os.dup2(opened, descriptor)
                os.close(opened)
            faulthandler.enable(2)
            try:
                result = run_trial(self._pipeline, options, self._folder / "journal")
                parts = dump_by_reference(result)
            except BaseException as error:  # the user's function, storage, executor, values
                parts = dump_by_reference(Failure.of(error).traceback)
            (self._folder / "result").write_bytes(pickle.dumps([bytes(part) for part in parts]))
            join_threads()  # the orderly end of an interpreter
            run_exit_handlers()
        finally:
            os._exit(0)  # the fork must never return into the harness

    def _result(self, code: int | None) -> tuple[RunResult | None, str]:
        """Returns the result of a trial that ended by itself, and what went wrong."""
        result: RunResult | str | None = None
        with contextlib.suppress(FileNotFoundError):
            pickled, *buffers = pickle.loads((self._folder / "result").read_bytes())
            result = pickle.loads(pickled, buffers=buffers)
        if isinstance(result, str):
            return None, f"raised {result.rstrip().splitlines()[-1]}\n{result}"
        if code == 0 and result is not None:
            return result, ""
        how = f"was ended by {signal.Signals(-code).name}" if code and code < 0 else f"exited with {code}"
        return None, f"{how} before its end.\n{self._stderr()}"

    def _hang(self, journal: Records) -> tuple[None, str]:
        last = journal["at"][-1] if "at" in journal else "none"
        return None, f"did not end within {self._timeout:g} s and was ended. Its last event: {last}.\n{self._stderr()}"

    def _stderr(self) -> str:
        return (self._folder / "err").read_text(errors="replace")
