"""The part of ExecutorDask that runs on Dask's scheduler and workers."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from distributed import Worker, get_worker
from distributed.diagnostics.plugin import SchedulerPlugin, WorkerPlugin

from dotflow import clock
from dotflow.providers.executors.cluster.conversation import Answer, Request
from dotflow.providers.executors.cluster.journal import delete_journals
from dotflow.providers.executors.cluster.protocol import REPEATED, STOPPED, PackReply
from dotflow.providers.executors.cluster.step_thread import Stop
from dotflow.providers.executors.cluster.worker_host import WorkerHost

TOPIC: Final = "dotflow"  # of the events that workers log when a pack begins, or asks
PREFIX: Final = "dotflow:"  # of the keys of our tasks, which Dask's dashboard shows
REPEATED_ANNOTATION: Final = "dotflow-again"  # the annotation of a task that Dask has sent to a worker before
ENDED_STATES: Final = ("cancelled", "released", "forgotten")  # states of a task on a worker
CLOSED: Final = ("closing", "closed", "failed")  # statuses of a worker
IDLE_TIMEOUT: Final = 60.0  # seconds after which an idle process is ended
#: Seconds that a run waits for the next request of a pack. Meanwhile it takes one of the scheduler's 512 connections.
LINGER: Final = 0.2

_lock: Final = threading.Lock()
_worker_hosts: Final[dict[str, WorkerHost]] = {}
_wakeups: Final[dict[str, Stop]] = {}
_forget: Final[dict[str, Callable[[], object]]] = {}  # by key: called when the run has the result of the task
_ended: Final[deque[str]] = deque(maxlen=100)  # runs whose queued tasks may still arrive


def make_remote_pack(run: str) -> Callable[..., Sequence[Any]]:
    """Returns the function that Dask runs, pickled by value: the scheduler loads it, and may not have dotflow.

    Args:
        run: The name of the run. Runs share no processes.
    """

    def make(key: str, name: str, packed: Sequence[Any], numbers: Sequence[int], *shared: Any) -> Sequence[Any]:
        from dotflow.providers.executors.dask.remote import run_remote_pack

        return run_remote_pack(run, key, name, packed, dict(zip(numbers, shared, strict=True)))

    return make


def make_survey() -> Callable[..., tuple[str, dict[str, str]]]:
    """Returns a function that returns the id of the scheduler, and those of its workers by address, pickled by value.

    A worker or a scheduler that is started again has another id.
    """

    def survey(dask_scheduler: Any) -> tuple[str, dict[str, str]]:
        workers = dask_scheduler.workers.items()
        return str(dask_scheduler.id), {address: str(worker.server_id) for address, worker in workers}

    return survey


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
    """Ends the attempts of a run that was cancelled, or whose process is gone, and all when the worker closes."""

    name = "dotflow-released"
    idempotent = True

    def transition(self, key: Any, start: str, finish: str, **kwargs: Any) -> None:
        """Sets the wakeup of a pack whose task has ended. Dask calls this for each change of state."""
        if finish in ENDED_STATES and isinstance(key, str) and key.startswith(PREFIX):
            with _lock:
                wakeup, forget = _wakeups.get(key), _forget.pop(key, None)
                if wakeup is not None:
                    wakeup.set()
            if forget is not None:
                forget()

    def teardown(self, worker: Worker) -> None:
        """Ends what runs on a worker that retires, or has lost its scheduler.

        Dask would wait 30 s for it, and somewhere else it may be repeated already.
        """
        with _lock:
            for key in _wakeups.keys() & worker.state.tasks.keys():
                _wakeups[key].set()


def run_remote_pack(
    run: str, key: str, name: str, packed: Sequence[Any], shared: dict[int, Sequence[Any]]
) -> list[Any]:
    """Makes the attempts of a pack on a worker; returns the packed reply.

    Args:
        run: As in `make_remote_pack`.
        key: The key of Dask's task.
        name: The name of the pack.
        packed: The packed pack.
        shared: The parts of shared arguments, by number.
    """
    worker = get_worker()
    wakeup = Stop()
    with _lock:  # before the state is read: later changes set the wakeup
        _wakeups[key] = wakeup
    reply = None
    try:
        kind = _refusal(key, worker)
        worker_host = None if kind else _worker_host_of(run, worker)
        if worker_host is not None:
            worker.log_event(TOPIC, {"run": run, "key": key, "worker": worker.address, "at": clock.real_time()})
            reply = worker_host.make(packed, wakeup, shared)
            with _lock:
                _forget[key] = partial(worker_host.forget, name)
    finally:
        with _lock:
            del _wakeups[key]
            wakeup.close()
    return (reply or PackReply({}, kind=kind or STOPPED))._replace(worker=worker.address).pack()


def take_part(run: str, name: str) -> list[Any] | None:
    """Ends a pack after the call that runs, and returns the packed reply of what has ended; None if it is over."""
    with _lock:
        worker_host = _worker_hosts.get(run)
    reply = None if worker_host is None else worker_host.take(name)
    return None if reply is None else [bytes(part) for part in reply.pack()]


async def converse(run: str, name: str, answer: Answer | None) -> Request | None:
    """Takes an answer of the run, and returns the next request of a pack; None if none comes for a while."""
    with _lock:
        worker_host = _worker_hosts.get(run)
    conversation = None if worker_host is None else worker_host.conversation(name)
    if conversation is None:
        return None
    try:
        return await asyncio.wait_for(asyncio.wrap_future(conversation.next(answer)), LINGER)
    except TimeoutError:
        return conversation.leave()


def _announce(run: str, worker: Worker, name: str) -> None:
    """Lets the run know that an attempt of a pack asks."""
    worker.log_event(TOPIC, {"run": run, "asks": name})


def _refusal(key: str, worker: Worker) -> str:
    """Returns why a task must not run here, as in PackReply; "" if it may."""
    task = worker.state.tasks.get(key)
    if task is None or task.state in ENDED_STATES or worker.status.name in CLOSED:
        return STOPPED
    return REPEATED if (task.annotations or {}).get(REPEATED_ANNOTATION) else ""


def end_run(run: str) -> None:
    """Ends the processes of a run on this worker. Dask calls it when the run ends."""
    with _lock:
        _ended.append(run)
        worker_host = _worker_hosts.pop(run, None)
    if worker_host is not None:
        worker_host.close()
    delete_journals(run)


def _worker_host_of(run: str, worker: Worker) -> WorkerHost | None:
    """Returns the run's worker host; None if the run has ended."""
    with _lock:
        if run in _ended:
            return None
        worker_host = _worker_hosts.get(run)
        if worker_host is None:
            worker_host = _worker_hosts[run] = WorkerHost(2 * worker.state.nthreads, partial(_announce, run, worker))
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
