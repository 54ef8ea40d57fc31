"""Makes each attempt in a program of your choice: `nice`, `sudo -u`, `docker run -i`, `ssh`."""

import os
import pickle
import queue
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from dotflow import Config, Context, DotFlow, Task, action
from dotflow.abc.executor import CompletedCall, Executor, ExecutorSession, Report
from dotflow.core.call import Call
from dotflow.core.failure import Failure
from dotflow.core.outcome import Died, Outcome, Raised, TimedOut
from dotflow.errors import StepTimeout, WorkerDied
from dotflow.processes.channel import dump_whole

GRACE = 5.0  # seconds for the interpreter to begin, and for a step whose time is up to end by itself

#: What is run over there: a call comes in by stdin, its outcome goes out by stdout. What steps print goes to stderr.
WORKER = """
import os, pickle, sys
from dotflow.core.failure import Failure
from dotflow.core.outcome import Interrupted, Raised
from dotflow.worker.attempt import attempt
from dotflow.processes.channel import dump_whole
from dotflow.worker.loops import Loops

answer = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)
try:
    outcome = dump_whole(attempt(pickle.load(sys.stdin.buffer), Loops()))
except KeyboardInterrupt:  # it ends the run
    outcome = dump_whole(Interrupted())
except Exception as error:  # the step or its value could not travel
    outcome = dump_whole(Raised(Failure.of(error)))
answer.write(outcome)
"""


class ExecutorCommand(Executor):
    def __init__(self, *command: str, max_workers: int = 4) -> None:
        self.command = (*command, "-c", WORKER)
        self.max_workers = max_workers

    def open(self, tasks: Mapping[int, Task], report: Report) -> ExecutorSession:
        return CommandSession(self.command, self.max_workers)


class CommandSession(ExecutorSession):
    """The programs of one run. A thread waits for each of them."""

    def __init__(self, command: Sequence[str], max_workers: int) -> None:
        self._command = command
        self._threads = ThreadPoolExecutor(max_workers)
        self._answers: queue.SimpleQueue[CompletedCall | None] = queue.SimpleQueue()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._closed = False

    def submit(self, call: Call) -> None:
        self._threads.submit(self._work, call)

    def wait(self, timeout: float | None) -> Sequence[CompletedCall]:
        answers: list[CompletedCall] = []
        try:
            while (answer := self._answers.get(timeout=0 if answers else timeout)) is not None:
                answers.append(answer)
        except queue.Empty:
            pass
        return answers

    def wake(self) -> None:
        self._answers.put(None)

    def close(self) -> None:
        self._closed = True
        for process in tuple(self._running):
            process.kill()
        self._threads.shutdown(cancel_futures=True)

    def _work(self, call: Call) -> None:
        try:
            outcome = self._make(call)
        except Exception as error:  # no such command; a context that can't travel. An answer has to come
            outcome = Raised(Failure.of(error))
        self._answers.put((call, outcome))

    def _make(self, call: Call) -> Outcome:
        step, seconds = call.step.name, call.step.policy.timeout
        data = dump_whole(call)  # what this script defines travels as it is
        with subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            self._running.add(process)
            try:
                if self._closed:
                    process.kill()  # the run was over before it had begun
                answer, _ = process.communicate(data, timeout=seconds + GRACE if seconds else None)
            except subprocess.TimeoutExpired:  # C code that never returns, for instance
                process.kill()
                return TimedOut(Failure("TimeoutError", str(StepTimeout(step, seconds, "It was killed."))))
            finally:
                self._running.discard(process)
        if process.returncode or not answer:
            return Died(Failure("WorkerDied", str(WorkerDied(step, process.returncode))))
        outcome: Outcome = pickle.loads(answer)
        return outcome


@action
def niceness() -> int:
    return os.nice(0)  # of the process that this runs in


@action
def more(previous_context: Context) -> int:
    niceness: int = previous_context.storage
    return niceness + 1


if __name__ == "__main__":
    workflow = DotFlow(Config(executor=ExecutorCommand("nice", "-n", "5", sys.executable)))
    workflow.task.add([niceness, more])
    run = workflow.start()
    print(run.status, [value - os.nice(0) for value in workflow.result_storage()])
