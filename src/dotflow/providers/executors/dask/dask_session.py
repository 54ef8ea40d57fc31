"""DaskSession: the tasks that one run has with Dask, and what they need of the cluster.

That is the checks before the run, events of the workers, their threads, and large data.
"""

import asyncio
import atexit
import contextlib
import math
import threading
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence, Set
from concurrent import futures
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from distributed import KilledWorker
from distributed.versions import get_versions

from dotflow import clock
from dotflow.abc.executor import Report
from dotflow.core.call import Call
from dotflow.core.failure import Failure
from dotflow.core.outcome import Died, NotBegun, Outcome, Timed
from dotflow.errors import ClusterError, ClusterLost
from dotflow.processes.channel import keep_shared
from dotflow.processes.encoding import SharedArguments
from dotflow.providers.executors.cluster import protocol
from dotflow.providers.executors.cluster.cluster_session import (
    RESUME_HINT,
    ClusterSession,
    Lane,
    ReadyPack,
    SentPack,
    WorkerTimes,
    describe_error,
    unusable,
)
from dotflow.providers.executors.cluster.conversation import Answer
from dotflow.providers.executors.cluster.journal import take_journals
from dotflow.providers.executors.cluster.protocol import MIN_KEPT_SIZE, PackReply
from dotflow.providers.executors.dask import connection as dask_connection
from dotflow.providers.executors.dask import remote as dask_remote
from dotflow.providers.executors.dask.connection import Link
from dotflow.worker.deadline import GRACE

if TYPE_CHECKING:
    from distributed import Client, Future

REPLY_TIMEOUT: Final = 10.0  # seconds
EXIT_TIMEOUT: Final = 1.0  # seconds that the interpreter's exit waits for the ends of runs
SCATTER_TIMEOUT: Final = 10.0  # seconds to wait for a worker that takes data
MIN_SCATTER_SIZE: Final = 1 << 20  # bytes from which a pack is sent as data: Dask expects small tasks
MAX_SCATTERED: Final = 1 << 28  # bytes of such data; while there is as much, no further call is sent
JOURNAL_TIMEOUT: Final = 5.0  # seconds to wait for another worker on the machine of a lost one
RETURN_TIMEOUT: Final = 30.0  # seconds, as Dask waits for a scheduler; after its return, for workers on each machine
CONVERSE_DELAY: Final = 0.1  # seconds until an answer that may not have arrived is sent again
RETURN_POLL: Final = 0.1  # seconds between two looks whether it is
MAX_LOST_WORKERS: Final = 3  # workers; after that, the call itself seems to end them
EXTRA_PACKS: Final = 1  # packs beyond the free threads, so that Dask sees that some wait
EXTRA_PACKS_ADAPTIVE: Final = 32  # for each thread, on a cluster that grows with the waiting work
REFRESH_INTERVAL: Final = 1.0  # seconds between two refreshes, while calls wait for room

EXTRA: Final = "dask"  # the extra that workers need
EXTRA_PACKAGES: Final = ["dotflow"]  # of which Dask does not report the versions unless asked to
PACKAGES: Final = (*EXTRA_PACKAGES, "cloudpickle", "distributed")  # that are compared


def check_cluster(link: Link, cluster: str, say: Callable[[str], object]) -> str:
    """Checks that the cluster can run the steps, logs the versions that differ, and returns the id of the scheduler.

    Args:
        link: The connection.
        cluster: The name of the cluster, for messages.
        say: Writes a line into the run's log.

    Raises:
        ClusterError: The cluster can't be used, has other versions, or does not answer.
    """
    client, here = link.client, versions_of(get_versions(EXTRA_PACKAGES))
    try:
        known = _versions.get(link.comm)
        if known is None:  # by an operation of Dask's: another Python does not understand code by value
            asked = client.scheduler.versions(packages=EXTRA_PACKAGES)
            there = {"Python": versions_of(wait_for(client, asked, REPLY_TIMEOUT))["Python"]}
            protocol.check_versions(cluster, here, {"the scheduler": there}, say, EXTRA)
            client.register_plugin(dask_remote.make_once_plugin())
        survey = client.run_on_scheduler(dask_remote.make_survey(), asynchronous=True)
        scheduler, workers = wait_for(client, survey, REPLY_TIMEOUT)
        described = {name: known[name] for name in workers.values() if known and name in known}
        new = [address for address, name in workers.items() if name not in described]
        try:
            if new:
                found = wait_for(client, request_versions(client, new), REPLY_TIMEOUT)
                described |= {workers[address]: versions for address, versions in found.items()}
        except TimeoutError:  # one worker that hangs must not stop the others
            say(f"Not all workers have answered within {REPLY_TIMEOUT:g} s: what is installed there is not known.")
        _versions[link.comm] = described
    except (OSError, TimeoutError, RuntimeError, ValueError) as error:
        hint = f"It has to take plugins (distributed.scheduler.pickle) and to answer within {REPLY_TIMEOUT:g} s."
        raise unusable(cluster, "can't be used", error, hint) from error
    places = {address: described[name] for address, name in workers.items() if name in described}
    protocol.check_versions(cluster, here, places, say, EXTRA)
    return str(scheduler)


async def request_versions(client: "Client", workers: Collection[str]) -> dict[str, protocol.Versions]:
    """Returns the versions of workers, by address, by an operation of Dask's own."""
    message = {"op": "versions", "packages": EXTRA_PACKAGES}
    found = await client.scheduler.broadcast(msg=message, workers=list(workers), on_error="ignore")
    return {address: versions_of(versions) for address, versions in found.items()}


def versions_of(found: Mapping[str, Any]) -> protocol.Versions:
    """Returns the versions that are compared, of those that Dask has found."""
    python = ".".join(found["host"]["python"].split(".")[:2])
    packages = {name: found["packages"].get(name) or "not installed" for name in PACKAGES}
    return {"Python": python, **packages}


@atexit.register
def _finish_ending() -> None:
    futures.wait(tuple(_ending), EXIT_TIMEOUT)


def wait_for(client: "Client", asked: Any, seconds: float) -> Any:
    """Returns the result of a call that was made with asynchronous=True. Raises TimeoutError."""
    return asyncio.run_coroutine_threadsafe(asyncio.wait_for(asked, seconds), client.loop.asyncio_loop).result()


Listener = Callable[[Any], object]

_lock: Final = threading.Lock()
#: By connection, of those whose scheduler has the plugin: the versions of its workers, by their ids.
_versions: "Final[WeakKeyDictionary[Any, Mapping[str, protocol.Versions]]]" = WeakKeyDictionary()
#: The ends of runs that no run waits for any more.
_ending: Final[set[futures.Future[Any]]] = set()
#: By connection, which has one subscription for all of its runs: by run, what takes the events that workers log.
_listeners: "Final[WeakKeyDictionary[Any, dict[str, Listener]]]" = WeakKeyDictionary()


def subscribe(link: Link, run: str, listener: Listener) -> None:
    """Calls *listener* with each event of a run, in a thread of Dask's."""
    with _lock:
        listeners = _listeners.setdefault(link.comm, {})
        is_first = not listeners
        listeners[run] = listener
        if is_first:
            link.client.subscribe_topic(dask_remote.TOPIC, lambda event: _dispatch(listeners, event))


def unsubscribe(link: Link, run: str) -> None:
    """Ends the subscription of a run, if there is one."""
    with _lock:
        listeners = {} if link.comm is None else _listeners.get(link.comm, {})
        was_last = listeners.pop(run, None) is not None and not listeners
        if was_last and link.is_whole:  # under the lock: another run may be about to subscribe
            link.client.unsubscribe_topic(dask_remote.TOPIC)


def _machine_of(address: str) -> str:
    return address.rpartition(":")[0]


def _dispatch(listeners: dict[str, Listener], event: tuple[float, Any]) -> None:
    _, message = event  # the first is the time
    listener = listeners.get(message["run"])
    if listener is not None:
        listener(message)


class _Task(NamedTuple):
    """A task of Dask's, which is a pack.

    Attributes:
        sent: The pack.
        future: The future of its task.
        data: What was scattered for it, which is kept until the task has ended; None if it went with the task.
        size: The number of bytes of that.
    """

    sent: SentPack
    future: "Future[Any]"
    data: "Future[Any] | None"
    size: int


class _LostPack(NamedTuple):
    """A pack that has not come back, and will not.

    Attributes:
        sent: The pack.
        address: The worker that is lost with it; "" if that is not known.
        has_begun: Whether it has begun there, or may have.
    """

    sent: SentPack
    address: str
    has_begun: bool


class DaskSession(ClusterSession):
    """The tasks that one run has with Dask.

    Futures end in a thread of Dask's, and results are fetched, many at once, in the client's event loop.

    When the scheduler is lost, the client tries to connect again, and the session waits until it has, or gives up. Then
    it is with the tasks as after the loss of all workers.
    """

    def __init__(self, client: "Client", report: Report, *, is_ours: bool) -> None:
        super().__init__(f"Dask's scheduler at {getattr(client.scheduler, 'address', '?')}", report, announces=True)
        self._link = Link(client)
        self._client = client
        self._is_ours = is_ours
        self._scheduler_id = ""
        self._lost_until: float | None = None  # when a lost scheduler should be back, in ticks; None while it is there
        self._make: Any = None  # the function that Dask runs: one, since Dask keeps its pickle
        self._pending: dict[str, _Task] = {}  # by key
        self._scattered_size = 0  # of all that are pending
        self._lost_workers: Counter[int] = Counter()  # by number: the workers that were lost before they began it
        self._lost_packs: dict[str, _LostPack] = {}  # by name: those of which it is asked what has begun
        self._workers: dict[str, str] = {}  # by key: the worker that began its pack; set by a thread of Dask's
        self._has_begun = False  # whether a worker has begun a pack
        self._shared: dict[int, Future[Any]] = {}  # by number: shared arguments on the workers
        self._ended: set[str] = set()  # keys of tasks whose results are not fetched yet
        self._known_workers: Mapping[str, Mapping[str, Any]] = {}  # by address: with their threads and resources
        self._refresh_at = 0.0  # when they are requested again
        try:
            self._join()
        except BaseException:  # there is no runner yet that would close it
            self.close()
            raise

    def _join(self) -> None:
        """Prepares the cluster for the run. Raises ClusterError."""
        if not self._link.is_whole:
            raise ClusterLost(self.cluster, "is lost", RESUME_HINT)
        self._refresh()
        self._scheduler_id = check_cluster(self._link, self.cluster, self.report_once)
        subscribe(self._link, self.run, self._on_event)

    def has_free_worker(self, pool: Hashable) -> bool:
        """On a shared cluster, a call may still wait for its worker."""
        return self._link.is_whole and self._scattered_size < MAX_SCATTERED and self.room_left(pool) > 0

    def room_left(self, pool: Hashable) -> float:
        resources = dict(pool)  # type: ignore[call-overload]  # as pool_of makes it
        return self._capacity(resources) + self._extra_packs() - self.count_busy(pool)

    def _capacity(self, resources: Mapping[str, float]) -> int:
        """Returns how many packs that need these resources the cluster can run at once."""
        of_each = (
            [worker["nthreads"], *(worker["resources"].get(name, 0) // want for name, want in resources.items())]
            for worker in self._running_workers()
        )
        return int(sum(map(min, of_each)))

    def _extra_packs(self) -> int:
        """Returns the number of packs to send beyond the free threads."""
        cluster = getattr(self._client, "cluster", None)
        if getattr(cluster, "_adaptive", None) is None:  # Dask has no public attribute for it
            return EXTRA_PACKS
        return EXTRA_PACKS_ADAPTIVE * max(1, self._capacity({}))

    def prepare(self) -> float:
        if not self._link.is_whole:
            self._await_scheduler()
            return RETURN_POLL
        if not any(self.ready.values()) and all(sent.begun_at is not None for sent in self.packs.values()):
            return math.inf
        if clock.ticks() >= self._refresh_at:
            self._refresh()
        return max(0.0, self._refresh_at - clock.ticks())

    def describe(self) -> str:
        threads = [worker["nthreads"] for worker in self._running_workers()]
        return f"{len(threads)} worker(s) with {sum(threads)} thread(s)"

    def _await_scheduler(self) -> None:
        """Takes up the tasks again if the client has connected again. Raises ClusterError if it has given up."""
        client = self._client
        if self._lost_until is None:
            seconds = getattr(client, "_timeout", RETURN_TIMEOUT)  # Dask has no public attribute for it
            self._lost_until = clock.ticks() + seconds
            self.report(f"{self.cluster} is lost. The run waits up to {seconds:g} s for it to come back.")
        # Dask ends its own waiting by itself, unless it fails in an unexpected way.
        if client.status == "closed" or clock.ticks() > self._lost_until + REPLY_TIMEOUT:
            raise ClusterLost(self.cluster, "is lost", RESUME_HINT)
        if client.status == "running":
            self._rejoin()

    def _rejoin(self) -> None:
        """Takes up the tasks with a scheduler that is back. It and its workers know none of them."""
        before, machines = self._scheduler_id, set(map(_machine_of, self._known_workers))
        link = self._link = Link(self._client)
        try:
            self._join()
        except ClusterError:
            if link.is_whole:
                raise
            self._lost_until = None  # it is lost again
            return
        self._lost_until = None
        self.report(f"{self.cluster} is back.")
        # The same scheduler has had the workers forget what has ended, and a second loss may have lost journals.
        is_known = before != self._scheduler_id
        packs = [lost._replace(has_begun=True) for lost in self._lost_packs.values()]
        for key, task in self._pending.items():
            address = self._workers.get(key, "")
            packs.append(_LostPack(task.sent, address, has_begun=bool(address) or not is_known))
            self.packs.pop(task.sent.name, None)
        with contextlib.suppress(OSError):  # those that were sent at that moment may have arrived
            self._client.cancel([task.future for task in self._pending.values()], force=True)
        for forgotten in (self._pending, self._workers, self._ended, self._shared, self.lanes):
            forgotten.clear()
        self._scattered_size = 0
        is_anywhere = any(not lost.address for lost in packs)
        self._ask_journals(packs, (machines or {""}) if is_anywhere else set(), RETURN_TIMEOUT)

    def _refresh(self) -> None:
        """Requests the workers from the scheduler, in Dask's event loop."""
        self._refresh_at = clock.ticks() + REFRESH_INTERVAL
        asyncio.run_coroutine_threadsafe(self._request_workers(), self._client.loop.asyncio_loop)

    async def _request_workers(self) -> None:
        are_compared = bool(self._scheduler_id)  # those of before, by check_cluster
        identity = await self._client.scheduler.identity()
        joined = identity["workers"].keys() - self._known_workers.keys()
        self.events.put(partial(self._set_workers, identity["workers"]))
        if joined and are_compared:
            versions = await request_versions(self._client, joined)
            self.events.put(partial(self._compare_versions, versions))

    def _set_workers(self, workers: Mapping[str, Mapping[str, Any]]) -> None:
        self._known_workers = workers

    def _compare_versions(self, versions: Mapping[str, protocol.Versions]) -> None:
        """Raises ClusterError if workers that have joined have another Python or dotflow."""
        here = versions_of(get_versions(EXTRA_PACKAGES))
        protocol.check_versions(self.cluster, here, versions, self.report_once, EXTRA)

    def _running_workers(self) -> list[Mapping[str, Any]]:
        return [worker for worker in self._known_workers.values() if worker["status"] == "running"]

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

    def close(self) -> None:
        pending, self._pending = self._pending, {}
        self.packs.clear()  # nothing is sent to their workers any more
        client, timeout = self._client, REPLY_TIMEOUT  # cancelling thousands of tasks takes seconds
        try:
            unsubscribe(self._link, self.run)
            if client.status == "running":
                if pending:
                    client.cancel([task.future for task in pending.values()], force=True)
                if pending or self._has_begun:
                    end = client.run(dask_remote.end_run, self.run, on_error="return", asynchronous=True)
                    ending = asyncio.run_coroutine_threadsafe(asyncio.wait_for(end, timeout), client.loop.asyncio_loop)
                    if pending or self._is_ours:
                        ending.result()
                    else:  # nothing of it runs there; a client that stays open ends the idle processes
                        _ending.add(ending)
                        ending.add_done_callback(_ending.discard)
        except Exception as error:  # the cluster is lost: its part of the run ends by itself
            timeout = GRACE
            self.report(f"{self.cluster} did not end its part of the run: {describe_error(error)}")
        finally:
            self._shared.clear()  # a client that stays open would keep them on the workers
            dask_connection.disconnect(client, timeout)
            if self._is_ours:
                with contextlib.suppress(TimeoutError):  # it must not hide what ended the run
                    client.close(timeout=timeout)

    def _on_event(self, event: Any) -> None:
        """Notes which worker has begun a pack, before the events that depend on it are handled."""
        if name := event.get("asks"):
            self.events.put(lambda: self.talk(self.packs[name]) if name in self.packs else None)
            return
        self._has_begun = True
        self._workers[event["key"]] = event["worker"]
        self.events.put(partial(self._mark_begun, event["key"], event["at"]))

    def _mark_begun(self, key: str, began: float) -> None:
        if key in self._pending:
            sent = self._pending[key].sent
            self.mark_begun(sent)
            sent.first_began = WorkerTimes(sent, PackReply({}, running=(0, began))).tick(began)

    def send(self, pack: ReadyPack, sent: SentPack) -> None:
        key = f"{dask_remote.PREFIX}{pack.calls[0].call.step.name.replace('-', '_')}-{pack.name}"
        try:
            task = self._pending[key] = self._submit_task(key, pack, sent)
        except Exception as error:  # Dask raises many types when its scheduler is lost
            if self._link.is_whole:
                reason = f"can't continue: {describe_error(error)}"
                raise ClusterError(self.cluster, reason, RESUME_HINT) from error
            del self.packs[pack.name]
            for call in sent.calls.values():
                self.answer(call, NotBegun())
            return
        self._scattered_size += task.size
        task.future.add_done_callback(lambda done: self.events.put(partial(self._ended.add, done.key)))

    def _submit_task(self, key: str, pack: ReadyPack, sent: SentPack) -> _Task:
        last = pack.calls[-1]
        is_bound = len(pack.calls) == 1 or last.packed.placement.process
        address, wants = self.lanes.get(last.call.lane, Lane()).worker if is_bound else "", last.call.step.resources
        where: dict[str, Any] = {}
        if wants:
            where = {"resources": dict(wants)}
        elif address:  # a preference; with resources, Dask would put it above them
            where = {"workers": [address], "allow_other_workers": True}
        packed = pack.pack()
        size = protocol.size_of(packed)
        data = self._scatter(packed, address) if size >= MIN_SCATTER_SIZE else None
        parts = [bytes(part) for part in packed] if data is None else data
        shared = {number: self._shared_data(arguments) for number, arguments in pack.shared.items()}
        self._make = self._make or dask_remote.make_remote_pack(self.run)
        arguments = (key, pack.name, parts, list(shared), *shared.values())
        future = self._client.submit(self._make, *arguments, key=key, pure=False, **where)
        return _Task(sent, future, data, 0 if data is None else size)

    def take(self, sent: SentPack) -> None:
        worker = self._worker_of(sent)
        if worker is not None:
            asyncio.run_coroutine_threadsafe(self._take(sent, worker), self._client.loop.asyncio_loop)

    def _worker_of(self, sent: SentPack) -> str | None:
        return next((self._workers.get(key) for key, task in self._pending.items() if task.sent is sent), None)

    async def _take(self, sent: SentPack, worker: str) -> None:
        """Takes what has ended of a pack. If that does not arrive, the reply of the task has it, too."""
        found = await self._run_there(dask_remote.take_part, self.run, sent.name, workers=[worker])
        for packed in filter(None, found.values()):
            self.events.put(partial(self.receive, sent, PackReply.unpack(packed)))

    def converse(self, sent: SentPack) -> None:
        worker = self._worker_of(sent)
        assert worker is not None, "it has announced that it asks"
        asking = self._converse(sent, sent.answer, worker)
        asyncio.run_coroutine_threadsafe(asking, self._client.loop.asyncio_loop)

    async def _converse(self, sent: SentPack, answer: Answer | None, worker: str) -> None:
        """Sends an answer until the next request arrives, or the pack has come back, or is lost."""
        while self._link.is_whole and sent.name in self.packs:
            asked = (dask_remote.converse, self.run, sent.name, answer)
            found = await self._run_there(*asked, workers=[worker], timeout=None)  # a large value may take long
            if worker in found:
                self.events.put(partial(self.hear, sent, found[worker]))
                return
            await asyncio.sleep(CONVERSE_DELAY)

    async def _run_there(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        workers: Sequence[str],
        timeout: float | None = REPLY_TIMEOUT,
    ) -> dict[str, Any]:
        """Returns what a function returns on workers, by address."""
        asked = self._client.run(function, *arguments, workers=workers, on_error="ignore", asynchronous=True)
        try:
            return dict(await asyncio.wait_for(asked, timeout))
        except Exception:  # of many types, where a worker or the scheduler has just been lost
            return {}

    def _scatter(self, parts: Sequence[Any], address: str = "") -> "Future[Any] | None":
        """Sends parts to a worker, that at *address* if it exists. Returns None if no worker takes them."""
        workers = self._client.nthreads()
        if not workers:
            return None
        there = [address] if address in workers else None
        try:
            return self._client.scatter([parts], workers=there, hash=False, timeout=SCATTER_TIMEOUT)[0]
        except (OSError, TimeoutError, KeyError):  # the worker has just been lost
            if not self._link.is_whole:
                raise
            return None

    def _shared_data(self, shared: SharedArguments) -> "Sequence[bytes] | Future[Any]":
        """Returns what a task takes as shared arguments; large ones as data, which each worker gets once."""
        if protocol.size_of(shared.parts) < MIN_KEPT_SIZE:
            return shared.parts
        future = self._shared.get(shared.number)
        if future is None or future.status != "finished":  # lost with its worker
            future = self._scatter(shared.parts)
            if future is None:
                return shared.parts
            keep_shared(self._shared, shared.number, future)
        return future

    async def _gather(self, finished: "dict[str, Future[Any]]") -> None:
        found: dict[str, Any] = {}
        try:
            found = await self._client.gather(finished, errors="skip", asynchronous=True)
        finally:
            for key in finished:
                self.events.put(partial(self._handle_end, key, found.get(key)))

    def _handle_end(self, key: str, packed: Sequence[Any] | None) -> None:
        """Handles the end of a task, with or without a reply."""
        if packed is None and not self._link.is_whole:  # all that is pending is taken up when the scheduler is back
            return
        task = self._pending.pop(key, None)
        if task is None:
            return
        sent = task.sent
        del self.packs[sent.name]
        self._scattered_size -= task.size
        address = self._workers.pop(key, "")
        reply = None if packed is None else PackReply.unpack(packed)
        if reply is None:
            self._handle_lost(sent, task.future, address)
        elif not reply.kind:
            self.receive(sent, reply)
        elif address:  # the worker that began it is lost, and another one refuses it
            self._ask_journals([_LostPack(sent, address, has_begun=True)])
        else:  # no worker began it
            self._resend(sent, is_lost=False)

    def _handle_lost(self, sent: SentPack, future: "Future[Any]", address: str) -> None:
        error = future.exception() if future.status == "error" else None
        if error is None or isinstance(error, KilledWorker):
            worker = address or getattr(getattr(error, "last_worker", None), "address", "")
            self._ask_journals([_LostPack(sent, worker, has_begun=bool(address))])
        elif isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == "dotflow":
            hint = "Install it there, in the same version as here and from the same place, with its extra [dask]."
            raise ClusterError(self.cluster, f"has a worker without dotflow: {error}", hint)
        else:
            for call in sent.calls.values():
                self.answer(call, Died(Failure.of(error)))

    def _ask_journals(
        self, packs: Sequence[_LostPack], machines: Set[str] = frozenset(), timeout: float = JOURNAL_TIMEOUT
    ) -> None:
        """Asks which calls of lost packs have begun, and what came of them.

        Args:
            packs: The packs.
            machines: The machines that may have the packs whose worker is not known; none if these have not begun.
            timeout: Seconds to wait for workers on these machines, and on those of the workers that are known.
        """
        self._lost_packs |= {lost.sent.name: lost for lost in packs}
        taking = self._take_journals(self._link, packs, machines, timeout)
        asyncio.run_coroutine_threadsafe(taking, self._client.loop.asyncio_loop)

    async def _take_journals(self, link: Link, packs: Sequence[_LostPack], machines: Set[str], timeout: float) -> None:
        machines = machines | {_machine_of(lost.address) for lost in packs if lost.address}
        until, there = clock.ticks() + timeout, list[str]()
        found: dict[str, dict[str, list[Any]]] = {}
        try:
            while machines and link.is_whole:
                identity = await self._client.scheduler.identity()
                there = [address for address in identity["workers"] if _machine_of(address) in machines]
                if machines == set(map(_machine_of, there)) or clock.ticks() >= until:
                    break
                await asyncio.sleep(0.1)  # a nanny starts another one
            names = [lost.sent.name for lost in packs]
            found = await self._run_there(take_journals, names, workers=there) if there else {}
        finally:  # if the scheduler is lost, they are asked again when it is back
            missing = machines - set(map(_machine_of, found))
            known = {name: packed for taken in found.values() for name, packed in taken.items()}
            self.events.put(partial(self._handle_journals, link, packs, known, missing))

    def _handle_journals(
        self, link: Link, packs: Sequence[_LostPack], found: Mapping[str, Sequence[Any]], missing: Set[str]
    ) -> None:
        """Ends the calls of lost packs that have begun, by the journals; without one, each may have begun."""
        if not self._link.is_whole or link is not self._link:
            return
        for lost in packs:
            del self._lost_packs[lost.sent.name]
            if lost.sent.name in found:
                self.receive(lost.sent, PackReply.unpack(found[lost.sent.name])._replace(worker=lost.address))
            elif lost.has_begun or (missing and not lost.address):
                for call in lost.sent.calls.values():
                    self.answer(call, self.lost(call, lost.address))
                continue
            self._resend(lost.sent, is_lost=not lost.has_begun)

    def answer(self, call: Call, outcome: Outcome | Timed | NotBegun) -> None:
        super().answer(call, outcome)
        if not isinstance(outcome, NotBegun):
            self._lost_workers.pop(call.number, None)

    def _resend(self, sent: SentPack, *, is_lost: bool) -> None:
        """Gives back the calls that no worker began. Those that end each worker before they begin fail."""
        begins = list(sent.calls.values())
        for call in sent.calls.values():
            self.lanes.pop(call.lane, None)  # all of its values are sent
            self._lost_workers[call.number] += is_lost
            if self._lost_workers[call.number] > MAX_LOST_WORKERS:
                begins.remove(call)
                where = f"{MAX_LOST_WORKERS + 1} workers, each before it began"
                self.answer(call, self.lost(call, where))
            else:
                self.answer(call, NotBegun())
        if is_lost and begins:
            name, others = begins[0].step.name, f" and {len(begins) - 1} more" if len(begins) > 1 else ""
            self.report(f"Step '{name}'{others} lost its worker before it began. It is sent to another one.")
