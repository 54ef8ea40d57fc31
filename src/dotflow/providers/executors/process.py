"""ExecutorProcess: attempts in worker processes, which can always be killed."""

import os
import sys
from collections.abc import Mapping

from dotflow.abc.executor import Executor, ExecutorSession, Report
from dotflow.core.task import Task
from dotflow.errors import InvalidArgument, ProcessesUnsupported
from dotflow.processes.dispatcher import check_workers
from dotflow.processes.process_session import STARTS, ProcessSession


class ExecutorProcess(Executor):
    """Makes attempts in worker processes. Steps that get stuck are killed, and dead workers are reported.

    Args:
        max_workers: The maximum number of processes; max(32, 4 x cores) unless given.
        start_method: "fork" or "forkserver". By default fork where it is safe (on Linux, in a process with one thread),
            else forkserver.

    Raises:
        InvalidArgument: An argument is not accepted.

    `open` raises ProcessesUnsupported where the system is not POSIX.
    """

    shares_memory = False
    keeps_calls = True

    def __init__(self, max_workers: int | None = None, start_method: str | None = None) -> None:
        self.max_workers: int = check_workers(max_workers)
        if start_method not in (None, *STARTS):
            raise InvalidArgument("start_method", start_method, f"one of {', '.join(STARTS)}")
        self.start_method = start_method

    def open(self, tasks: Mapping[int, Task], report: Report) -> ExecutorSession:
        if os.name != "posix":
            raise ProcessesUnsupported(sys.platform)
        return ProcessSession(tasks, self.max_workers, self.start_method)
