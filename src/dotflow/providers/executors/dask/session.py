"""DaskSession: the tasks that one run has with Dask."""

import asyncio
import contextlib
import itertools
import queue
from collections import Counter, deque
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from distributed import KilledWorker

from dotflow import clock
from dotflow.abc.executor import CompletedCall, Report
from dotflow.core.call import Call
from dotflow.core.failure import Failure
from dotflow.core.outcome import Died, Outcome
from dotflow.errors import ClusterError
from dotflow.providers.executors.cluster.protocol import MISSING, REPEATED, STOPPED, RemoteCall, Reply, size_of
from dotflow.providers.executors.cluster.session import RESUME_HINT, ClusterSession, describe_error
from dotflow.providers.executors.dask import remote as dask_remote
from dotflow.providers.executors.dask.events import subscribe, unsubscribe
from dotflow.providers.executors.dask.handshake import INSTALL_HINT, REPLY_TIMEOUT, check_cluster, wait_for
from dotflow.providers.executors.dask.scatter import Scattering
from dotflow.providers.executors.dask.session_events import AttemptBegan, ClusterInfo, ReplyFetched, TaskEnded
from dotflow.providers.executors.dask.threads import Threads
from dotflow.worker.deadline import GRACE
from dotflow.worker.waiting import longest_sleep

if TYPE_CHECKING:
    from distributed import Client, Future

MIN_SCATTER_SIZE: Final = 1 << 20  # bytes from which a remote call is sent as data: Dask expects small tasks
MAX_LOST_WORKERS: Final = 3  # workers; after that, the remote call itself seems to end them
MAX_SCATTERED: Final = 1 << 28  # bytes of such data at once


class _PendingCall(NamedTuple):
    """A remote call that was submitted to Dask."""

    call: Call
    future: "Future[Any]"
    data: "Future[Any] | None"
    size: int


class DaskSession(ClusterSession):
    """The tasks that one run has with Dask.

    Futures end in a thread of Dask's, and results are fetched, many at once, in the client's event loop. All events go
    through one queue.
    """

    def __init__(self, client: "Client", report: Report, *, is_ours: bool) -> None:
        super().__init__(f"Dask's scheduler at {_address(client)}", report)
        self._client = client
        self._is_ours = is_ours
        self._attempt = dask_remote.make_remote_attempt()
        self._numbers = itertools.count()
        self._pending: dict[str, _PendingCall] = {}
        self._delayed: deque[tuple[Call, RemoteCall, int]] = deque()  # until less data is scattered
        self._scattered_size = 0
        self._lost_workers: Counter[int] = Counter()  # by number: the workers that were lost before they began it
        self._workers: dict[int, str] = {}  # by number: the worker that began its attempt
        self._scattering = Scattering(client)
        self._used_workers: set[str] = set()
        self._events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._threads = Threads(client, lambda identity: self._events.put(ClusterInfo(identity)))
        try:
            check_cluster(client, self.cluster, self.report_once)
            self._threads.refresh()
            subscribe(client, self.run, self._on_event)
        except BaseException:  # there is no runner yet that would close it
            self.close()
            raise

    def has_room(self, pool: Hashable) -> bool:
        """Returns whether a call would begin at once. On a shared cluster, it may still wait for its worker."""
        if self._delayed or not self._events.empty():  # handled first: a failure decides what still begins
            return False
        return self.room_left(pool) > 0

    def room_left(self, pool: Hashable) -> float:
        resources = dict(pool)  # type: ignore[call-overload]  # as pool_of makes it
        busy = self.count_calls(pool) if resources else self.count_busy(pool)
        return self._threads.capacity(resources) + self._threads.extra() - busy

    def submit(self, call: Call) -> Outcome | None:
        remote_call = self.remote_call(call)
        if not isinstance(remote_call, RemoteCall):
            return remote_call
        self.add_waiting(call)
        self._send(call, remote_call)
        return None

    def wait(self, timeout: float | None) -> Sequence[CompletedCall]:
        end = None if timeout is None else clock.ticks() + timeout
        answers: list[CompletedCall] = []
        while not answers:
            events = self._next(end)
            for part in events:  # first: the rest depends on which calls have begun
                if isinstance(part, AttemptBegan):
                    self.mark_running(part.number)
                    self._workers[part.number] = part.worker
                    self._used_workers.add(part.worker)
                elif isinstance(part, ClusterInfo):
                    self._threads.update(part.identity)
            self._fetch({part.key for part in events if isinstance(part, TaskEnded)}, answers)
            for part in events:
                if isinstance(part, ReplyFetched):
                    self._handle_end(part.key, part.reply, answers)
            if None in events or (end is not None and clock.ticks() >= end) or self._has_room_now():
                break
        self.ready.clear()
        return answers

    def _has_room_now(self) -> bool:
        return any(waiting and self.has_room(pool) for pool, waiting in self.ready.items())

    def wake(self) -> None:
        self._events.put(None)

    def close(self) -> None:
        pending, self._pending = self._pending, {}
        client, timeout = (
            self._client,
            REPLY_TIMEOUT,
        )  # cancelling thousands of tasks takes seconds
        try:
            unsubscribe(client, self.run)
            if client.status == "running":
                if pending:
                    client.cancel([pending_call.future for pending_call in pending.values()], force=True)
                if pending or self._used_workers:
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
        self._events.put(AttemptBegan(event["number"], event["worker"]))

    def _next(self, end: float | None) -> list[Any]:
        """Returns the new events, at least one unless the time is over."""
        while True:
            timeout = self.until_wait_report()
            left = None if end is None else max(0.0, end - clock.ticks())
            look = None
            if any(self.ready.values()):
                self._threads.refresh()
                look = self._threads.until_refresh()
            seconds = min(limit for limit in (timeout, left, look, longest_sleep()) if limit is not None)
            try:
                events = [self._events.get(timeout=seconds)]
                break
            except queue.Empty:
                if end is not None and clock.ticks() >= end:
                    return []
                if self.until_wait_report() == 0.0:
                    self.report_waiting(self._describe())
        with contextlib.suppress(queue.Empty):
            while True:
                events.append(self._events.get_nowait())
        return events

    def _describe(self) -> str:
        threads = self._client.nthreads()
        return f"{len(threads)} worker(s) with {sum(threads.values())} thread(s)"

    def _send(self, call: Call, remote_call: RemoteCall) -> None:
        size = size_of(remote_call.parts)
        if size >= MIN_SCATTER_SIZE and self._scattered_size and self._scattered_size + size > MAX_SCATTERED:
            self._delayed.append((call, remote_call, size))
            return
        key = f"{dask_remote.PREFIX}{call.step.name.replace('-', '_')}-{self.run}-{call.number}-{next(self._numbers)}"
        try:
            self._pending[key] = self._submit_task(key, call, remote_call.pack(), size)
        except Exception as error:  # Dask raises many types when its scheduler is lost
            raise self._connection_lost(error) from error
        self._pending[key].future.add_done_callback(lambda done: self._events.put(TaskEnded(done.key)))

    def _submit_task(self, key: str, call: Call, packed: list[Any], size: int) -> _PendingCall:
        lane, wants = self.lanes.get(call.lane), call.step.resources
        address = lane.worker if lane is not None else ""
        where: dict[str, Any] = {}
        if wants:
            where = {"resources": dict(wants)}
        elif address:  # a preference; with resources, Dask would put it above them
            where = {"workers": [address], "allow_other_workers": True}
        data: Future[Any] | None = None
        if size >= MIN_SCATTER_SIZE and (data := self._scattering.scatter(packed, address)) is not None:
            self._scattered_size += size
        sent = [bytes(part) for part in packed] if data is None else data
        shared = self._scattering.shared(self.shared_of(call))
        future = self._client.submit(self._attempt, key, sent, shared, key=key, pure=False, **where)
        return _PendingCall(call, future, data, 0 if data is None else size)

    def _connection_lost(self, error: BaseException | None = None) -> ClusterError:
        if self._client.status != "running":
            return ClusterError(self.cluster, "is lost", RESUME_HINT)
        return ClusterError(
            self.cluster, f"can't continue: {describe_error(error) if error else 'no reason'}", RESUME_HINT
        )

    def _fetch(self, keys: set[str], answers: list[CompletedCall]) -> None:
        """Begins to fetch the results of finished tasks, and handles the other ends."""
        finished = {}
        for key in keys & self._pending.keys():
            future = self._pending[key].future
            if future.status == "finished":
                finished[key] = future
            else:
                self._handle_end(key, None, answers)
        if finished:
            asyncio.run_coroutine_threadsafe(self._gather(finished), self._client.loop.asyncio_loop)

    async def _gather(self, finished: "dict[str, Future[Any]]") -> None:
        found: dict[str, Any] = {}
        try:
            found = await self._client.gather(finished, errors="skip", asynchronous=True)
        finally:
            for key in finished:
                self._events.put(ReplyFetched(key, found.get(key)))

    def _handle_end(self, key: str, packed: Sequence[Any] | None, answers: list[CompletedCall]) -> None:
        """Handles the end of a task, with or without a reply."""
        pending_call = self._pending.pop(key, None)
        if pending_call is None:
            return
        call = pending_call.call
        address = self._workers.pop(call.number, "")
        self._scattered_size -= pending_call.size
        reply = None if packed is None else Reply.unpack(packed)
        if reply is None:
            self._handle_lost(call, pending_call.future, address, answers)
        elif reply.kind == MISSING or (reply.kind in (REPEATED, STOPPED) and not address):  # no worker began it
            self._resend(call, answers)
        elif reply.kind in (REPEATED, STOPPED):
            self._answer(call, self.lost(call, address), answers)
        else:
            self._answer(call, self.outcome(call, reply), answers)
        while self._delayed and not (
            self._scattered_size and self._scattered_size + self._delayed[0][2] > MAX_SCATTERED
        ):
            self._send(*self._delayed.popleft()[:2])

    def _handle_lost(self, call: Call, future: "Future[Any]", address: str, answers: list[CompletedCall]) -> None:
        if self._client.status != "running":
            raise self._connection_lost()
        error = future.exception() if future.status == "error" else None
        if error is None or isinstance(error, KilledWorker):
            self._lost_workers[call.number] += not address
            if address or self._lost_workers[call.number] > MAX_LOST_WORKERS:
                where = address or f"{MAX_LOST_WORKERS + 1} workers, each before it began"
                self._answer(call, self.lost(call, where), answers)
                return
            self.report(f"Step '{call.step.name}' lost its worker before it began. It is sent to another one.")
            self._resend(call, answers)
        elif isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == "dotflow":
            raise ClusterError(self.cluster, f"has a worker without dotflow: {error}", INSTALL_HINT)
        else:
            self._answer(call, Died(Failure.of(error)), answers)

    def _answer(self, call: Call, outcome: Outcome, answers: list[CompletedCall]) -> None:
        self.remove(call.number)
        self._lost_workers.pop(call.number, None)
        answers.append((call, outcome))

    def _resend(self, call: Call, answers: list[CompletedCall]) -> None:
        """Sends a call that no worker began again, with all of its values."""
        remote_call = self.remote_call(call, whole=True)
        if isinstance(remote_call, RemoteCall):
            self.add_waiting(call)
            self._send(call, remote_call)
        else:
            self._answer(call, remote_call, answers)


def _address(client: "Client") -> str:
    scheduler = client.scheduler
    return str(scheduler.address) if scheduler is not None else "?"
