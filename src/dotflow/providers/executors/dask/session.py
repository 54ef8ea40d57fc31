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
from dotflow.providers.executors.cluster.session import RESUME, ClusterSession, in_one_line
from dotflow.providers.executors.dask import remote as dask_remote
from dotflow.providers.executors.dask.events import listen, silence
from dotflow.providers.executors.dask.handshake import INSTALL, PATIENCE, ask, meet
from dotflow.providers.executors.dask.news import Began, Brought, Ended, Had
from dotflow.providers.executors.dask.threads import Threads
from dotflow.worker.deadline import GRACE

if TYPE_CHECKING:
    from distributed import Client, Future

SCATTERED: Final = 1 << 20  # bytes from which a remote call is sent as data: Dask means tasks themselves to be small
MOST_LOST_IN_VAIN: Final = 3  # workers; one more, and it is the remote call itself that ends them
MOST_UNDERWAY: Final = 1 << 28  # bytes of such data that are out there at once
SCATTER_TIMEOUT: Final = 10.0  # seconds for a worker to be there that takes data


class _Flight(NamedTuple):
    """A remote call that Dask has."""

    call: Call
    future: "Future[Any]"
    data: "Future[Any] | None"
    size: int


class DaskSession(ClusterSession):
    """The tasks that one run has with Dask.

    Futures tell of their end in a thread of Dask's, and results are fetched, many at once, in the client's event loop;
    all that is new comes in through one queue.
    """

    def __init__(self, client: "Client", report: Report, *, is_ours: bool) -> None:
        super().__init__(f"Dask's scheduler at {_address(client)}", report)
        self._client = client
        self._is_ours = is_ours
        self._attempt = dask_remote.messenger()
        self._numbers = itertools.count()
        self._flights: dict[str, _Flight] = {}
        self._held: deque[tuple[Call, RemoteCall, int]] = deque()  # until less data is underway
        self._underway = 0
        self._lost_in_vain: Counter[int] = Counter()  # by task: workers that were lost before they began it
        self._places: dict[int, str] = {}  # task -> the worker that its attempt began on
        self._visited: set[str] = set()
        self._news: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._threads = Threads(client, lambda identity: self._news.put(Had(identity)))
        try:
            meet(client, self.cluster, self.say_once)
            self._threads.look()
            listen(client, self.run, self._hear)
        except BaseException:  # the runner closes it, but there is none yet
            self.close()
            raise

    def has_room(self, pool: Hashable) -> bool:
        """As ClusterSession says. Where others use the cluster too, a call may still wait there for its worker."""
        if self._held or not self._news.empty():  # what has come is heard first: after a failure nothing begins
            return False
        wants = dict(pool)  # type: ignore[call-overload]  # as pool_of makes it
        busy = self.count_out(pool) if wants else self.count_running_or_of(pool)
        return busy < self._threads.for_calls(wants) + self._threads.beyond()

    def submit(self, call: Call) -> Outcome | None:
        remote_call = self.remote_call(call)
        if not isinstance(remote_call, RemoteCall):
            return remote_call
        self.begins_to_wait(call)
        self._send(call, remote_call)
        return None

    def wait(self, timeout: float | None) -> Sequence[CompletedCall]:
        end = None if timeout is None else clock.ticks() + timeout
        answers: list[CompletedCall] = []
        while not answers:
            news = self._next(end)
            for part in news:  # first, since what follows asks whether a call has begun
                if isinstance(part, Began):
                    self.began(part.task_id)
                    self._places[part.task_id] = part.place
                    self._visited.add(part.place)
                elif isinstance(part, Had):
                    self._threads.take(part.identity)
            self._fetch({part.key for part in news if isinstance(part, Ended)}, answers)
            for part in news:
                if isinstance(part, Brought):
                    self._take(part.key, part.reply, answers)
            if None in news or (end is not None and clock.ticks() >= end) or self._has_room_now():
                break
        self.ready.clear()
        return answers

    def _has_room_now(self) -> bool:
        return any(waiting and self.has_room(pool) for pool, waiting in self.ready.items())

    def wake(self) -> None:
        self._news.put(None)

    def close(self) -> None:
        flights, self._flights = self._flights, {}
        client, patience = self._client, PATIENCE  # a scheduler that is told to cancel thousands of tasks takes seconds
        try:
            silence(client, self.run)
            if client.status == "running":
                if flights:
                    client.cancel([flight.future for flight in flights.values()], force=True)
                if flights or self._visited:
                    end = client.run(dask_remote.end_run, self.run, on_error="return", asynchronous=True)
                    ask(client, end, patience)
        except Exception as error:  # a cluster that goes away: what it has of the run ends by itself
            patience = GRACE
            self.report(f"{self.cluster} could not be told of the run's end: {in_one_line(error)}")
        finally:
            if self._is_ours:
                with contextlib.suppress(TimeoutError):  # what ended the run is not to be hidden by that
                    client.close(timeout=patience)

    def _hear(self, event: Any) -> None:
        self._news.put(Began(event["task"], event["worker"]))

    def _next(self, end: float | None) -> list[Any]:
        """All news there is, at least one piece unless the time is over."""
        while True:
            patience = self.until_patience_ends()
            left = None if end is None else max(0.0, end - clock.ticks())
            look = None
            if any(self.ready.values()):
                self._threads.look()
                look = self._threads.until_look()
            seconds = min((limit for limit in (patience, left, look) if limit is not None), default=None)
            try:
                news = [self._news.get(timeout=seconds)]
                break
            except queue.Empty:
                if end is not None and clock.ticks() >= end:
                    return []
                if self.until_patience_ends() == 0.0:
                    self.say_who_waits(self._describe())
        with contextlib.suppress(queue.Empty):
            while True:
                news.append(self._news.get_nowait())
        return news

    def _describe(self) -> str:
        threads = self._client.nthreads()
        return f"{len(threads)} worker(s) with {sum(threads.values())} thread(s)"

    def _send(self, call: Call, remote_call: RemoteCall) -> None:
        size = size_of(remote_call.parts)
        if size >= SCATTERED and self._underway and self._underway + size > MOST_UNDERWAY:
            self._held.append((call, remote_call, size))
            return
        key = f"{dask_remote.PREFIX}{call.step.name.replace('-', '_')}-{self.run}-{call.task_id}-{next(self._numbers)}"
        try:
            self._flights[key] = self._hand_over(key, call, remote_call.packed(), size)
        except Exception as error:  # whatever Dask says when its scheduler is gone
            raise self._gone(error) from error
        self._flights[key].future.add_done_callback(lambda done: self._news.put(Ended(done.key)))

    def _hand_over(self, key: str, call: Call, packed: list[Any], size: int) -> _Flight:
        lane, wants = self.lanes.get(call.lane), call.step.resources
        place = lane.place if lane is not None else ""
        where: dict[str, Any] = {}
        if wants:
            where = {"resources": dict(wants)}
        elif place:  # a wish; together with resources, Dask would put the wish above them
            where = {"workers": [place], "allow_other_workers": True}
        data: Future[Any] | None = None
        if size >= SCATTERED and (data := self._scattered(packed, place)) is not None:
            self._underway += size
        sent = [bytes(part) for part in packed] if data is None else data
        future = self._client.submit(self._attempt, key, sent, key=key, pure=False, **where)
        return _Flight(call, future, data, 0 if data is None else size)

    def _scattered(self, packed: list[Any], place: str) -> "Future[Any] | None":
        """The remote call as data on a worker, at *place* if that is there; None where no worker takes it."""
        for wanted in dict.fromkeys((place, "")):
            workers = self._client.nthreads()
            if not workers:
                break
            try:
                there = [wanted] if wanted in workers else None
                return self._client.scatter([packed], workers=there, hash=False, timeout=SCATTER_TIMEOUT)[0]
            except (OSError, TimeoutError, KeyError):  # the worker that was to take it has just been lost
                if self._client.status != "running":
                    raise
        return None

    def _gone(self, error: BaseException | None = None) -> ClusterError:
        if self._client.status != "running":
            return ClusterError(self.cluster, "is gone, and the run with it", RESUME)
        return ClusterError(self.cluster, f"refuses to go on: {in_one_line(error) if error else 'no reason'}", RESUME)

    def _fetch(self, keys: set[str], answers: list[CompletedCall]) -> None:
        """Has the results of tasks that have ended fetched; what ended otherwise is taken as it is."""
        finished = {}
        for key in keys & self._flights.keys():
            future = self._flights[key].future
            if future.status == "finished":
                finished[key] = future
            else:
                self._take(key, None, answers)
        if finished:
            asyncio.run_coroutine_threadsafe(self._bring(finished), self._client.loop.asyncio_loop)

    async def _bring(self, finished: "dict[str, Future[Any]]") -> None:
        found: dict[str, Any] = {}
        try:
            found = await self._client.gather(finished, errors="skip", asynchronous=True)
        finally:
            for key in finished:
                self._news.put(Brought(key, found.get(key)))

    def _take(self, key: str, packed: Sequence[Any] | None, answers: list[CompletedCall]) -> None:
        """What has come of a task: of a reply, or of none."""
        flight = self._flights.pop(key, None)
        if flight is None:
            return
        call = flight.call
        place = self._places.pop(call.task_id, "")
        self._underway -= flight.size
        reply = None if packed is None else Reply.unpacked(packed)
        if reply is None:
            self._take_none(call, flight.future, place, answers)
        elif reply.kind == MISSING or (reply.kind in (REPEATED, STOPPED) and not place):  # nobody has begun it
            self._again(call, answers)
        elif reply.kind in (REPEATED, STOPPED):
            self._answer(call, self.lost(call, place), answers)
        else:
            self._answer(call, self.outcome(call, reply), answers)
        while self._held and not (self._underway and self._underway + self._held[0][2] > MOST_UNDERWAY):
            self._send(*self._held.popleft()[:2])

    def _take_none(self, call: Call, future: "Future[Any]", place: str, answers: list[CompletedCall]) -> None:
        if self._client.status != "running":
            raise self._gone()
        error = future.exception() if future.status == "error" else None
        if error is None or isinstance(error, KilledWorker):
            self._lost_in_vain[call.task_id] += not place
            if place or self._lost_in_vain[call.task_id] > MOST_LOST_IN_VAIN:
                where = place or f"{MOST_LOST_IN_VAIN + 1} workers, each before it began"
                self._answer(call, self.lost(call, where), answers)
                return
            self.report(f"Step '{call.step.name}' lost its worker before it began, and is sent to another one.")
            self._again(call, answers)
        elif isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == "dotflow":
            raise ClusterError(self.cluster, f"has a worker without dotflow: {error}", INSTALL)
        else:
            self._answer(call, Died(Failure.of(error)), answers)

    def _answer(self, call: Call, outcome: Outcome, answers: list[CompletedCall]) -> None:
        self.ended(call.task_id)
        self._lost_in_vain.pop(call.task_id, None)
        answers.append((call, outcome))

    def _again(self, call: Call, answers: list[CompletedCall]) -> None:
        """Sends a call that nobody has begun once more, with all that belongs to it."""
        remote_call = self.remote_call(call, whole=True)
        if isinstance(remote_call, RemoteCall):
            self.begins_to_wait(call)
            self._send(call, remote_call)
        else:
            self._answer(call, remote_call, answers)


def _address(client: "Client") -> str:
    scheduler = client.scheduler
    return str(scheduler.address) if scheduler is not None else "?"
