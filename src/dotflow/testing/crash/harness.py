"""Stage: a process that does nothing but fork others, in which a workflow is run, killed and resumed.

It has imported everything once, so that a round takes milliseconds, and it has one thread, so that forking it is safe.
"""

import atexit
import contextlib
import faulthandler
import gc
import importlib
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from dotflow.core.failure import Failure
from dotflow.processes.channel import dump_whole
from dotflow.testing.crash import journal
from dotflow.testing.crash.children import ChildProcesses
from dotflow.testing.crash.trial import Pipeline, RunResult, TrialOptions, run_trial

FILES: Final = ("journal", "result", "wrong", "last-out", "last-err", "stacks")
WORKER_GRACE: Final = 5.0  # seconds in which the workers of a killed process have to be gone
PRELOADED: Final = frozenset({"annotated_types", "cloudpickle", "dotflow", "filelock", "pydantic", "typing_extensions"})


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialOutcome:
    """What became of a round.

    Attributes:
        result: What came of it; None where it was killed, and where it went wrong.
        killed: Whether it was killed where it was to be.
        error: What went wrong, for readers; empty where nothing did.
        lines: What it wrote into its journal.
    """

    result: RunResult | None
    killed: bool
    error: str
    lines: list[list[Any]]

    @property
    def began(self) -> set[int]:
        """The tasks that ran in it."""
        return self._tasks("began")

    @property
    def posting(self) -> set[int]:
        """The tasks whose checkpoints were written in it, perhaps not to the end."""
        return self._tasks("posting")

    @property
    def posted(self) -> set[int]:
        """The tasks whose checkpoints were written in it."""
        return self._tasks("posted")

    @property
    def started(self) -> bool:
        """Whether it got as far as its first step: then no older checkpoint counts any more, unless it resumed."""
        return ["started"] in self.lines

    def _tasks(self, word: str) -> set[int]:
        return {line[1] for line in self.lines if line[0] == word and line[1] >= 0}


class Harness:
    """Where rounds of one pipeline are played, one after the other. The process has to be its own.

    Args:
        pipeline: What is played.
        folder: Where rounds write down what they do, and what they print: `last-out` and `last-err`.
        timeout: Seconds that a round may take.
        before_each: Called before each round.
        closed: Descriptors that a round must not hold.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        folder: Path,
        timeout: float,
        before_each: Callable[[], None] = lambda: None,
        closed: Sequence[int] = (),
    ) -> None:
        self._pipeline = pipeline
        self._folder = folder
        self._timeout = timeout
        self._worker_grace = min(WORKER_GRACE, timeout)
        self._before_each = before_each
        self._closed = closed
        self._children = ChildProcesses()

    def run(self, options: TrialOptions, kill_after: float | None = None) -> TrialOutcome:
        """Plays one round, in a process of its own.

        Args:
            options: What it is to do.
            kill_after: Seconds after which it is killed, unless it is over by then.
        """
        self._before_each()
        for name in FILES:
            (self._folder / name).unlink(missing_ok=True)
        process = self._start(options)
        killed = kill_after is not None and not self._children.wait(process, kill_after)
        if killed:
            os.kill(process, signal.SIGKILL)
        hung = not self._children.wait(process, self._timeout)
        if hung:
            self._children.abort(process)
        lines = journal.read(self._folder / "journal")
        killed = killed or any(line[0] == "killed" for line in lines)
        error = self._hang(lines) if hung else self._end(process, killed)
        left = self._children.kill_remaining(self._worker_grace)
        if left and not error:
            error = f"left processes behind that still ran {self._worker_grace:g} s after its end: {'; '.join(left)}"
        result = pickle.loads(self._read("result")) if not killed and not error else None
        return TrialOutcome(result=result, killed=killed and not error, error=error, lines=lines)

    def preload(self, modules: Iterable[str]) -> None:
        """Imports what every round would, but no module that may be the user's: that is part of what is proved."""
        for name in modules:
            top = name.partition(".")[0]
            if name not in sys.modules and (top in PRELOADED or top in sys.stdlib_module_names):
                with contextlib.suppress(Exception):  # somebody else's code: the rounds will see what it raises
                    importlib.import_module(name)
        gc.collect()

    def set_prints_aside(self) -> None:
        """What the last round printed is kept as that of the first; later rounds print the same."""
        for ending in ("out", "err"):
            with contextlib.suppress(FileNotFoundError):
                (self._folder / f"last-{ending}").replace(self._folder / f"first-{ending}")

    def drop_prints(self) -> None:
        """What the last round printed is of no interest."""
        for ending in ("out", "err"):
            (self._folder / f"last-{ending}").unlink(missing_ok=True)

    def _start(self, options: TrialOptions) -> int:
        sys.stdout.flush()
        sys.stderr.flush()
        gc.freeze()  # or each round would copy what it only looks at
        process = self._children.fork()
        if not process:
            self._run_in_child(options)
        return process

    def _run_in_child(self, options: TrialOptions) -> NoReturn:
        try:
            atexit._clear()
            for descriptor in self._closed:
                os.close(descriptor)
            for descriptor, name in ((0, os.devnull), (1, "last-out"), (2, "last-err")):
                opened = os.open(self._folder / name, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
                os.dup2(opened, descriptor)
                os.close(opened)
            faulthandler.enable(os.open(self._folder / "stacks", os.O_WRONLY | os.O_CREAT, 0o600))
            _shuffle()
            try:
                result = run_trial(self._pipeline, options, journal.Journal(self._folder / "journal"))
                (self._folder / "result").write_bytes(_dump(result))
            except BaseException as raised:  # somebody else's code: their function, storage, executor, values
                (self._folder / "wrong").write_text(Failure.of(raised).traceback, "utf-8", "backslashreplace")
            getattr(threading, "_shutdown", lambda: None)()  # as at an interpreter's end: threads are waited for
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(0)  # whatever happens, it never runs the stage's lines

    def _hang(self, lines: list[list[Any]]) -> str:
        last = next((line[1] for line in reversed(lines) if line[0] in ("at", "killed")), "nothing yet")
        return f"did not end within {self._timeout:g} s and was ended. Its last news was {last}.\n{self._stacks()}"

    def _end(self, process: int, killed: bool) -> str:
        """How it ended, if it should not have ended so."""
        code = self._children.pop_exit_code(process)
        if killed:
            return ""
        error = self._read("wrong").decode()
        if error:
            return f"raised {error.rstrip().splitlines()[-1]}\n{error}"
        if code == 0 and (self._folder / "result").exists():
            return ""
        how = f"was ended by {signal.Signals(-code).name}" if code and code < 0 else f"exited with {code}"
        return f"{how} before its end.\n{self._stacks()}"

    def _stacks(self) -> str:
        return self._read("stacks").decode(errors="replace")

    def _read(self, name: str) -> bytes:
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError:
            return b""


def _dump(result: RunResult) -> bytes:
    """The result for the stage, of which this process is a copy: by value only what can't be found by its name."""
    try:
        return pickle.dumps(result, protocol=5)
    except Exception:  # pickling runs the value's own methods
        return dump_whole(result)


def _shuffle() -> None:
    """Each round draws other random numbers, as another interpreter would. Python's own do so by themselves."""
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()
