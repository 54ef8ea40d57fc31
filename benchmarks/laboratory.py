"""A folder and an environment in which a contender's program runs, is watched, and is killed with all it started."""

import contextlib
import ctypes
import functools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from contenders import PROGRAMS, Contender

LIMIT: Final = 150  # seconds that one program may take
PATIENCE: Final = 12  # seconds for what a program left behind: the steps that should be stopped take ten
AN_ERROR: Final = re.compile(r"[\w.]+(Error|Exception): ").match
PR_SET_CHILD_SUBREAPER: Final = 36  # linux/prctl.h


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What was seen of one program.

    Args:
        began: When it was started.
        ended: When its process was gone.
        returncode: What it ended with.
        answer: What it said itself, if anything.
        trace: What its steps left: the time and the words of each line.
        left: How many processes it left behind.
        last_words: The last error it printed, or else the last line.
    """

    began: float
    ended: float
    returncode: int
    answer: dict[str, Any]
    trace: list[tuple[float, str]]
    left: int
    last_words: str

    @property
    def seconds(self) -> float:
        """From its start to its exit."""
        return self.ended - self.began

    def times(self, words: str) -> list[float]:
        """When the steps left these words."""
        return [at for at, said in self.trace if said == words]

    def said(self) -> dict[str, Any]:
        """Its answer.

        Raises:
            RuntimeError: It ended without one.
        """
        if self.answer:
            return self.answer
        raise RuntimeError(self.last_words or f"it ended with {self.returncode}")


class Laboratory:
    """Runs programs of one contender in one folder. Needs Linux: orphans come to the harness, and are ended there."""

    def __init__(self, contender: Contender, folder: Path, **variables: str) -> None:
        self.contender = contender
        self.folder = folder
        self.variables = variables
        self.kept: set[int] = set()  # processes that outlive the programs: the broker

    def environment(self) -> dict[str, str]:
        """Ours, with every home in the folder, and telemetry off."""
        home = str(self.folder / "home")
        return {
            **os.environ,
            "HOME": home,
            "COMPARED_FOLDER": str(self.folder),
            "PYTHONPATH": str(PROGRAMS),
            "PREFECT_HOME": f"{home}/prefect",
            "DAGSTER_HOME": home,
            "AIRFLOW_HOME": home,
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(PROGRAMS),
            "DO_NOT_TRACK": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
            "SCARF_ANALYTICS": "false",
            **self.variables,
        }

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Starts its Python with these arguments in the folder."""
        with (self.folder / "output").open("ab") as output:
            return subprocess.Popen(
                [self.contender.python, *arguments],
                cwd=self.folder,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def run(self, *arguments: str, keep: bool = False) -> Observed:
        """Runs its program to the end, waits for what it left behind, and ends the rest."""
        if not keep:
            for name in ("answer", "trace", "output"):
                (self.folder / name).unlink(missing_ok=True)
        began = time.time()
        process = self.start(str(PROGRAMS / f"with_{self.contender.program}.py"), *arguments)
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(LIMIT)
            ended = time.time()
            left = len(self.descendants() - {process.pid})
            deadline = time.monotonic() + PATIENCE
            while left and self.descendants() and time.monotonic() < deadline:
                time.sleep(0.1)
        finally:
            self.kill()
        return self._observed(began, ended, process.wait(), left)

    def run_until_killed(self, *arguments: str) -> None:
        """Runs its program until a step asks for it, then kills all processes at once, as a power cut would."""
        asked = self.folder / "kill-me"
        process = self.start(str(PROGRAMS / f"with_{self.contender.program}.py"), *arguments)
        deadline = time.monotonic() + LIMIT
        while not asked.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        self.kill()
        process.wait()
        if not asked.exists():
            raise RuntimeError(self.last_words() or "it never came to the step in which it should be killed")
        (self.folder / "killed").touch()

    def kill(self) -> None:
        """Sends SIGKILL to all that the programs started, until nobody is left."""
        while found := self.descendants():
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)

    def descendants(self) -> set[int]:
        """The living processes that stem from this one."""
        children: dict[int, set[int]] = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                state, parent = stat.read_text().rpartition(")")[2].split()[:2]
                if state not in "ZX":
                    children.setdefault(int(parent), set()).add(int(stat.parent.name))
        found: set[int] = set()
        front = children.get(os.getpid(), set()) - self.kept
        while front:
            found |= front
            front = set().union(*(children.get(pid, set()) for pid in front))
        return found

    def last_words(self) -> str:
        """The last line that names an error; where there is none, the last that was printed."""
        output = self.folder / "output"
        lines = output.read_text(errors="replace").strip().splitlines() if output.exists() else []
        return next(filter(AN_ERROR, reversed(lines)), lines[-1] if lines else "").strip()[:200]

    def _observed(self, began: float, ended: float, returncode: int, left: int) -> Observed:
        answer, trace = self.folder / "answer", self.folder / "trace"
        lines = [line.partition(" ") for line in trace.read_text().splitlines()] if trace.exists() else []
        return Observed(
            began=began,
            ended=ended,
            returncode=returncode,
            answer=json.loads(answer.read_text()) if answer.exists() else {},
            trace=[(float(at), words) for at, _, words in lines],
            left=left,
            last_words=self.last_words(),
        )


@functools.cache
def adopt_orphans() -> None:
    """Makes whoever loses its parent a child of this process, so that nothing gets away."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


@contextlib.contextmanager
def laboratory(contender: Contender, **variables: str) -> Iterator[Laboratory]:
    """A laboratory in a folder that is thrown away, with a Redis server where the contender needs one.

    Raises:
        RuntimeError: Something that is needed can't be had.
    """
    adopt_orphans()
    with tempfile.TemporaryDirectory(prefix="dotflow-compared-", ignore_cleanup_errors=True) as name:
        lab = Laboratory(contender, Path(name), **variables)
        (lab.folder / "home").mkdir()
        with contextlib.ExitStack() as stack:
            if contender.redis:
                lab.variables["COMPARED_REDIS"] = stack.enter_context(_redis(lab))
            try:
                if contender.prepare and lab.start(*contender.prepare).wait(LIMIT):
                    raise RuntimeError(lab.last_words())
                yield lab
            finally:
                lab.kill()


@contextlib.contextmanager
def _redis(lab: Laboratory) -> Iterator[str]:
    if not (command := shutil.which("redis-server")):
        raise RuntimeError("there is no redis-server here")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options: Sequence[str] = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(lab.folder)]
    server = subprocess.Popen([command, *options], stdout=subprocess.DEVNULL)
    lab.kept.add(server.pid)
    try:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.05)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.wait()
