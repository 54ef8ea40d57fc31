"""A Dask cluster on this machine: a scheduler and worker processes, as they would run on several."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

ROOT = Path(__file__).parents[2]
QUIET = {"DASK_DISTRIBUTED__LOGGING__DISTRIBUTED": "critical"}


async def _identity(address: str) -> dict[str, Any]:
    from distributed.core import rpc

    async with rpc(address) as scheduler:
        return dict(await scheduler.identity())


def other_python() -> str:
    """Returns a Python of another minor version that has Dask: one of those that `make` has prepared."""
    here = "{}.{}".format(*sys.version_info)
    others = [str(path) for path in sorted(ROOT.glob(".venv/3.*/bin/python")) if path.parts[-3] != here]
    assert others, "a venv with another Python is needed: make .venv/3.11/.ready"
    return others[0]


class DaskProcesses:
    """A scheduler and two workers with two threads each, all processes of their own; workers that die are replaced.

    Args:
        workers: How many workers.
        threads: How many threads each of them has.
        certificate: A file with a certificate and its key, which all ends must show; None for no encryption.
        python: The Python of the scheduler.
    """

    def __init__(
        self, workers: int = 2, threads: int = 2, certificate: Path | None = None, python: str = sys.executable
    ) -> None:
        self._tls = [f"--tls-{part}={certificate}" for part in ("ca-file", "cert", "key") if certificate]
        self._folder = tempfile.TemporaryDirectory(prefix="dotflow-dask-")
        self._file = Path(self._folder.name) / "scheduler.json"
        self._processes: list[subprocess.Popen[bytes]] = []
        self._threads = threads
        self._python = python
        self._host = "tls://127.0.0.1" if certificate else "127.0.0.1"
        self._start_scheduler("0")
        for _ in range(workers):
            self.add_worker()

    def _start_scheduler(self, port: str) -> None:
        self.scheduler = self._start(self._python, "scheduler", "--host", self._host, "--port", port)
        until = time.monotonic() + 20
        while not self._file.exists() or not self._file.read_text().endswith("}"):
            assert self.scheduler.poll() is None, "the scheduler did not start"
            assert time.monotonic() < until, "the scheduler did not start in time"
            time.sleep(0.02)
        self.address: str = json.loads(self._file.read_text())["address"]

    def restart_scheduler(self) -> None:
        """Kills the scheduler, and starts another one at its address, with a new worker."""
        self.scheduler.kill()
        self.scheduler.wait()
        self._file.unlink()
        self._start_scheduler(self.address.rpartition(":")[2])
        self.add_worker()

    def add_worker(self, *options: str, python: str = sys.executable, **environment: str) -> None:
        """One more worker, under a nanny that replaces it."""
        given = ("--host", "127.0.0.1", "--nthreads", str(self._threads), *options)
        self._start(python, "worker", *given, "--local-directory", self._folder.name, **environment)

    def worker_count(self) -> int:
        """Returns how many workers have registered, without a client, which would warn of another Python."""
        return len(asyncio.run(_identity(self.address))["workers"])

    def _start(self, python: str, part: str, *words: str, **environment: str) -> subprocess.Popen[bytes]:
        # A program that a test starts may call functions of this folder's modules.
        paths = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(ROOT))))
        process = subprocess.Popen(
            [python, "-mdask", part, f"--scheduler-file={self._file}", "--no-dashboard", *self._tls, *words],
            env={**os.environ, **QUIET, "PYTHONPATH": paths, **environment},
            cwd=self._folder.name,
        )
        self._processes.append(process)
        return process

    def close(self) -> None:
        """Ends it all."""
        family: list[Any] = []
        for process in self._processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                family += psutil.Process(process.pid).children(recursive=True)
            process.kill()
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        for process in self._processes:
            process.wait()
        psutil.wait_procs(family, timeout=5)
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
