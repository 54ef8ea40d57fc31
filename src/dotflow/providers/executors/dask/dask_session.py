"""DaskSession: the tasks that one run has with Dask."""

import asyncio
import contextlib
import itertools
import math
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from distributed import KilledWorker

from dotflow.abc.executor import Report
from dotflow.core.call import Call
from dotflow.core.failure import Failure
from dotflow.core.outcome import Died, Outcome
from dotflow.errors import ClusterError
from dotflow.providers.executors.cluster.cluster_session import RESUME_HINT, ClusterSession, describe_error
from dotflow.providers.executors.cluster.protocol import MISSING, REPEATED, STOPPED, Reply, size_of
from dotflow.providers.executors.dask import remote as dask_remote
from dotflow.providers.executors.dask.cluster import (
    INSTALL_HINT,
    REPLY_TIMEOUT,
    Scattering,
    Threads,
    check_cluster,
    subscribe,
    unsubscribe,
    wait_for,
)
from dotflow.worker.deadline import GRACE

if TYPE_CHECKING:
    from distributed import Client, Future

MIN_SCATTER_SIZE: Final = 1 << 20  # bytes from which a call is sent as data: Dask expects small tasks
MAX_LOST_WORKERS: Final = 3  # workers; after that, the call itself seems to end them


class _PendingCall(NamedTuple):
    """A call that was submitted to Dask."""

    call: Call
    future: "Future[Any]"
    data: "Future[Any] | None"  # kept until the task has ended


class DaskSession(ClusterSession):
    """The tasks that one run has with Dask.

    Futures end in a thread of Dask's, and results are fetched, many at once, in the client's event loop.
    """

    def __init__(self, client: "Client", report: Report, *, is_ours: bool) -> None:
        super().__init__(f"Dask's scheduler at {getattr(client.scheduler, 'address', '?')}", report)
        self._client = client
        self._is_ours = is_ours
        self._attempt: Any = None  # the function that Dask runs: one, since Dask keeps its pickle
        self._numbers = itertools.count()
        self._pending: dict[str, _PendingCall] = {}
        self._lost_workers: Counter[int] = Counter()  # by number: the workers that were lost before they began it
        self._workers: dict[str, str] = {}  # by key: the worker that began its attempt; set by a thread of Dask's
        self._has_begun = False  # whether a worker has begun an attempt
        self._scattering = Scattering(client)
        self._ended: set[str] = set()  # keys of tasks whose results are not fetched yet
        self._threads = Threads(client, lambda identity: self.events.put(partial(self._threads.update, identity)))
        try:
            check_cluster(client, self.cluster, self.report_once)
            self._threads.refresh()
            subscribe(client, self.run, self._on_event)
        except BaseException:  # there is no runner yet that would close it
            self.close()
            raise

    def has_free_worker(self, pool: Hashable) -> bool:
        """On a shared cluster, a call may still wait for its worker."""
        return self.room_left(pool) > 0

    def room_left(self, pool: Hashable) -> float:
        resources = dict(pool)  # type: ignore[call-overload]  # as pool_of makes it
        return self._threads.capacity(resources) + self._threads.extra() - self.count_busy(pool)

    def submit(self, call: Call, *, whole: bool = False) -> Outcome | None:
        packed = self.pack(call, whole=whole)
        if not isinstance(packed, list):
            return packed
        self.add_waiting(call)
        self._send(call, packed)
        return None

    def prepare(self) -> float:
        if not any(self.ready.values()):
            return math.inf
        self._threads.refresh()
        return self._threads.until_refresh()

    def handle(self, events: Sequence[Callable[[], object] | None]) -> None:
        """The results of all tasks that have ended are fetched together."""
        super().handle(events)
        ended = self._ended & self._pending.keys()
        self._ended.clear()  # not another set: events that are queued add to this one
        finished = {key: future for key in ended if (future := self._pending[key].future).status == "finished"}
        for key in ended - finished.keys():
            self._handle_end(key, None)
        if finished:
            asyncio.run_coroutine_threadsafe(self._gather(finished), self._client.loop.asyncio_loop)

    def describe(self) -> str:
        threads = self._client.nthreads()
        return f"{len(threads)} worker(s) with {sum(threads.values())} thread(s)"

    def close(self) -> None:
        pending, self._pending = self._pending, {}
        client, timeout = self._client, REPLY_TIMEOUT  # cancelling thousands of tasks takes seconds
        try:
            unsubscribe(client, self.run)
            if client.status == "running":
                if pending:
                    client.cancel([pending_call.future for pending_call in pending.values()], force=True)
                if pending or self._has_begun:
                    end = client.run(dask_remote.end_run, self.run, on_error="return", asynchronous=True)
                    wait_for(client, end, timeout)
        except Exception as error:  # the cluster is lost: its part of the run ends by itself
            timeout = GRACE
            self.report(f"{self.cluster} did not end its part of the run: {describe_error(error)}")
        finally:
            if self._is_ours:
                with contextlib.suppress(TimeoutError):  # it must not hide what ended the run
                    client.close(timeout=timeout)

    def _on_event(self, event: Any) -> None:
        """Notes which worker has begun an attempt, before the events that depend on it are handled."""
        self._has_begun = True
        self._workers[event["key"]] = event["worker"]
        self.events.put(partial(self._mark_begun, event["key"]))

    def _mark_begun(self, key: str) -> None:
        if key in self._pending:
            self.mark_running(self._pending[key].call.number)

    def _send(self, call: Call, packed: list[Any]) -> None:
        key = f"{dask_remote.PREFIX}{call.step.name.replace('-', '_')}-{self.run}-{call.number}-{next(self._numbers)}"
        try:
            self._pending[key] = self._submit_task(key, call, packed)
        except Exception as error:  # Dask raises many types when its scheduler is lost
            raise self._connection_lost(error) from error
        self._pending[key].future.add_done_callback(lambda done: self.events.put(partial(self._ended.add, done.key)))

    def _submit_task(self, key: str, call: Call, packed: list[Any]) -> _PendingCall:
        lane, wants = self.lanes.get(call.lane), call.step.resources
        address = lane.worker if lane is not None else ""
        where: dict[str, Any] = {}
        if wants:
            where = {"resources": dict(wants)}
        elif address:  # a preference; with resources, Dask would put it above them
            where = {"workers": [address], "allow_other_workers": True}
        data = self._scattering.scatter(packed, address) if size_of(packed) >= MIN_SCATTER_SIZE else None
        sent = [bytes(part) for part in packed] if data is None else data
        shared = self._scattering.shared(self.shared_of(call))
        self._attempt = self._attempt or dask_remote.make_remote_attempt(self.run, self._capture is not None)
        future = self._client.submit(self._attempt, key, sent, shared, key=key, pure=False, **where)
        return _PendingCall(call, future, data)

    def _connection_lost(self, error: BaseException | None = None) -> ClusterError:
        if error is None or self._client.status != "running":
            return ClusterError(self.cluster, "is lost", RESUME_HINT)
        return ClusterError(self.cluster, f"can't continue: {describe_error(error)}", RESUME_HINT)

    async def _gather(self, finished: "dict[str, Future[Any]]") -> None:
        found: dict[str, Any] = {}
        try:
            found = await self._client.gather(finished, errors="skip", asynchronous=True)
        finally:
            for key in finished:
                self.events.put(partial(self._handle_end, key, found.get(key)))

    def _handle_end(self, key: str, packed: Sequence[Any] | None) -> None:
        """Handles the end of a task, with or without a reply."""
        pending_call = self._pending.pop(key, None)
        if pending_call is None:
            return
        call = pending_call.call
        address = self._workers.pop(key, "")
        reply = None if packed is None else Reply.unpack(packed)
        if reply is None:
            self._handle_lost(call, pending_call.future, address)
        elif reply.kind == MISSING or (reply.kind in (REPEATED, STOPPED) and not address):  # no worker began it
            self._resend(call)
        elif reply.kind in (REPEATED, STOPPED):
            self.answer(call, self.lost(call, address))
        else:
            self.answer(call, self.outcome(call, reply))

    def _handle_lost(self, call: Call, future: "Future[Any]", address: str) -> None:
        if self._client.status != "running":
            raise self._connection_lost()
        error = future.exception() if future.status == "error" else None
        if error is None or isinstance(error, KilledWorker):
            self._lost_workers[call.number] += not address
            if address or self._lost_workers[call.number] > MAX_LOST_WORKERS:
                where = address or f"{MAX_LOST_WORKERS + 1} workers, each before it began"
                self.answer(call, self.lost(call, where))
                return
            self.report(f"Step '{call.step.name}' lost its worker before it began. It is sent to another one.")
            self._resend(call)
        elif isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == "dotflow":
            raise ClusterError(self.cluster, f"has a worker without dotflow: {error}", INSTALL_HINT)
        else:
            self.answer(call, Died(Failure.of(error)))

    def answer(self, call: Call, outcome: Outcome) -> None:
        super().answer(call, outcome)
        self._lost_workers.pop(call.number, None)

    def _resend(self, call: Call) -> None:
        """Sends a call that no worker began again, with all of its values."""
        outcome = self.submit(call, whole=True)
        if outcome is not None:
            self.answer(call, outcome)
