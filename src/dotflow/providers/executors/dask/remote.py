"""The part of ExecutorDask that runs on Dask's scheduler and workers."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from distributed import Worker, get_worker
from distributed.diagnostics.plugin import SchedulerPlugin, WorkerPlugin

from dotflow import clock
from dotflow.providers.executors.cluster.protocol import REPEATED, STOPPED, Reply
from dotflow.providers.executors.cluster.worker_host import WorkerHost
from dotflow.worker.waiting import WakeupPipe

TOPIC: Final = "dotflow"  # of the events that workers log when an attempt begins
PREFIX: Final = "dotflow:"  # of the keys of our tasks, which Dask's dashboard shows
REPEATED_ANNOTATION: Final = "dotflow-again"  # the annotation of a task that Dask has sent to a worker before
ENDED_STATES: Final = ("cancelled", "released", "forgotten")  # states of a task on a worker
IDLE_TIMEOUT: Final = 60.0  # seconds after which an idle process is ended

_lock: Final = threading.Lock()
_worker_hosts: Final[dict[str, WorkerHost]] = {}
_wakeups: Final[dict[str, WakeupPipe]] = {}
_ended: Final[deque[str]] = deque(maxlen=100)  # runs whose queued tasks may still arrive


def make_remote_attempt(run: str) -> Callable[[str, Sequence[Any], Sequence[Any]], Sequence[Any]]:
    """Returns the function that Dask runs, pickled by value: the scheduler loads it, and may not have dotflow.

    Args:
        run: The name of the run. Runs share no processes.
    """

    def attempt(key: str, packed: Sequence[Any], shared: Sequence[Any]) -> Sequence[Any]:
        from dotflow.providers.executors.dask.remote import run_remote_call

        return run_remote_call(run, key, packed, shared)

    return attempt


def make_once_plugin() -> SchedulerPlugin:
    """Keeps Dask from repeating an attempt on its own: the step's policy decides that.

    Dask sends a task of a lost worker to another one, and computes a lost result again, each up to
    `distributed.scheduler.allowed-failures` times. The plugin fails our tasks at the first loss, and marks those that
    are sent again. It is pickled by value, stays with the scheduler, and ignores other tasks.
    """
    prefix, again = PREFIX, REPEATED_ANNOTATION

    class DotflowOnce(SchedulerPlugin):  # type: ignore[misc]  # distributed is Any to mypy
        name = "dotflow-once"
        idempotent = True

        async def start(self, scheduler: Any) -> None:
            self.scheduler = scheduler

        def transition(self, key: Any, start: str, finish: str, *args: Any, **kwargs: Any) -> None:
            if not isinstance(key, str) or not key.startswith(prefix):
                return
            task = self.scheduler.tasks.get(key)
            if task is None:
                return
            if finish == "processing":
                task.suspicious = 1 << 30  # above any allowed number of failures
            elif finish == "released" and start in ("processing", "memory"):
                task.annotations = {**(task.annotations or {}), again: True}

    return DotflowOnce()


class ReleasePlugin(WorkerPlugin):  # type: ignore[misc]  # distributed is Any to mypy
    """Ends the attempts of a run that was cancelled, or whose process is gone."""

    name = "dotflow-released"
    idempotent = True

    def transition(self, key: Any, start: str, finish: str, **kwargs: Any) -> None:
        """Sets the wakeup of an attempt whose task has ended. Dask calls this for each change of state."""
        if finish in ENDED_STATES and isinstance(key, str) and key.startswith(PREFIX):
            with _lock:
                wakeup = _wakeups.get(key)
                if wakeup is not None:
                    wakeup.set()


def run_remote_call(run: str, key: str, packed: Sequence[Any], shared: Sequence[Any]) -> list[Any]:
    """Makes an attempt on a worker; returns the packed reply. The arguments are those of `make_remote_attempt`."""
    worker = get_worker()
    wakeup = WakeupPipe()
    with _lock:  # before the state is read: later changes set the wakeup
        _wakeups[key] = wakeup
    try:
        reply = _refusal(key, worker)
        worker_host = None if reply else _worker_host_of(run, worker)
        if worker_host is not None:
            worker.log_event(TOPIC, {"run": run, "key": key, "worker": worker.address})
            reply = worker_host.make(packed, wakeup, shared)
    finally:
        with _lock:
            del _wakeups[key]
            wakeup.close()
    return (reply or Reply(STOPPED))._replace(worker=worker.address).pack()


def _refusal(key: str, worker: Worker) -> Reply | None:
    """Returns the reply for a task that must not run here."""
    task = worker.state.tasks.get(key)
    if task is None or task.state in ENDED_STATES:
        return Reply(STOPPED)
    return Reply(REPEATED) if (task.annotations or {}).get(REPEATED_ANNOTATION) else None


def end_run(run: str) -> None:
    """Ends the processes of a run on this worker. Dask calls it when the run ends."""
    with _lock:
        _ended.append(run)
        worker_host = _worker_hosts.pop(run, None)
    if worker_host is not None:
        worker_host.close()


def _worker_host_of(run: str, worker: Worker) -> WorkerHost | None:
    """Returns the run's worker host; None if the run has ended."""
    with _lock:
        if run in _ended:
            return None
        worker_host = _worker_hosts.get(run)
        if worker_host is None:
            worker_host = _worker_hosts[run] = WorkerHost(2 * worker.state.nthreads)
            worker.loop.add_callback(_schedule_cleanup, run, worker)
    return worker_host


async def _schedule_cleanup(run: str, worker: Worker) -> None:
    if ReleasePlugin.name not in worker.plugins:
        await worker.plugin_add(ReleasePlugin(), ReleasePlugin.name)
    worker.loop.call_later(IDLE_TIMEOUT, _end_idle, run, worker)


def _end_idle(run: str, worker: Worker) -> None:
    """Ends idle processes: a run whose process is gone never calls end_run."""
    with _lock:
        worker_host = _worker_hosts.get(run)
        if worker_host is None:
            return
        if worker_host.end_idle(clock.ticks() - IDLE_TIMEOUT):
            del _worker_hosts[run]
    if run in _worker_hosts:
        worker.loop.call_later(IDLE_TIMEOUT, _end_idle, run, worker)
    else:
        worker_host.close()
