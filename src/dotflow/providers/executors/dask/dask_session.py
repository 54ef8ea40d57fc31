"""DaskSession: the tasks that one run has with Dask, and what they need of the cluster.

That is the checks before the run, events of the workers, their threads, and large data.
"""

import asyncio
import atexit
import contextlib
import math
import threading
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent import futures
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from distributed import KilledWorker

from dotflow import clock
from dotflow.abc.executor import Report
from dotflow.core.call import Call
from dotflow.core.failure import Failure
from dotflow.core.outcome import Died, NotBegun, Outcome
from dotflow.errors import ClusterError
from dotflow.processes.channel import keep_shared
from dotflow.processes.encoding import SharedArguments
from dotflow.providers.executors.cluster import protocol
from dotflow.providers.executors.cluster.cluster_session import (
    RESUME_HINT,
    ClusterSession,
    Lane,
    ReadyPack,
    SentPack,
    describe_error,
)
from dotflow.providers.executors.cluster.journal import take_journal
from dotflow.providers.executors.cluster.protocol import MIN_KEPT_SIZE, PackReply
from dotflow.providers.executors.dask import connection as dask_connection
from dotflow.providers.executors.dask import remote as dask_remote
from dotflow.worker.deadline import GRACE

if TYPE_CHECKING:
    from distributed import Client, Future

REPLY_TIMEOUT: Final = 10.0  # seconds
EXIT_TIMEOUT: Final = 1.0  # seconds that the interpreter's exit waits for the ends of runs
HERE: Final = ""  # the id of this process
SCATTER_TIMEOUT: Final = 10.0  # seconds to wait for a worker that takes data
MIN_SCATTER_SIZE: Final = 1 << 20  # bytes from which a pack is sent as data: Dask expects small tasks
MAX_SCATTERED: Final = 1 << 28  # bytes of such data; while there is as much, no further call is sent
JOURNAL_TIMEOUT: Final = 5.0  # seconds to wait for another worker on the machine of a lost one
MAX_LOST_WORKERS: Final = 3  # workers; after that, the call itself seems to end them
EXTRA_PACKS: Final = 1  # packs beyond the free threads, so that Dask sees that some wait
EXTRA_PACKS_ADAPTIVE: Final = 32  # for each thread, on a cluster that grows with the waiting work
REFRESH_INTERVAL: Final = 1.0  # seconds between two refreshes, while calls wait for room

#: No command to paste: a package index may have another package of that name.
INSTALL_HINT: Final = "Install it there, in the same version as here and from the same place, with its extra [dask]."


def check_cluster(client: "Client", cluster: str, say: Callable[[str], object]) -> None:
    """Checks that the cluster can run the steps, and logs the versions that differ.

    Args:
        client: The client.
        cluster: The name of the cluster, for messages.
        say: Writes a line into the run's log.

    Raises:
        ClusterError: The cluster can't be used, or does not answer.
    """
    describe = protocol.make_describe("distributed")
    try:
        survey = client.run_on_scheduler(dask_remote.make_survey(), asynchronous=True)
        scheduler, workers = wait_for(client, survey, REPLY_TIMEOUT)
        known = _versions.get(scheduler)
        if known is None:
            client.register_plugin(dask_remote.make_once_plugin())
            there = wait_for(client, client.run_on_scheduler(describe, asynchronous=True), REPLY_TIMEOUT)
            known = {HERE: describe(), scheduler: there}
        described = {name: known[name] for name in (HERE, scheduler, *workers.values()) if name in known}
        new = [address for address, name in workers.items() if name not in known]
        try:
            if new:
                asked = client.run(describe, workers=new, on_error="ignore", asynchronous=True)
                for address, versions in wait_for(client, asked, REPLY_TIMEOUT).items():
                    described[workers[address]] = versions
        except TimeoutError:  # one worker that hangs must not stop the others
            say(f"Not all workers have answered within {REPLY_TIMEOUT:g} s: what is installed there is not known.")
        _versions[scheduler] = described
    except (OSError, TimeoutError, RuntimeError, ValueError) as error:
        hint = f"It has to take plugins (distributed.scheduler.pickle) and to answer within {REPLY_TIMEOUT:g} s."
        raise ClusterError(cluster, f"can't be used: {describe_error(error)}", hint) from error
    here = described[HERE]
    places = {address: described[name] for address, name in workers.items() if name in described}
    without = sorted(address for address, versions in places.items() if versions["dotflow"] == "not installed")
    if without:
        raise ClusterError(cluster, f"has workers without dotflow: {', '.join(without)}", INSTALL_HINT)
    of_scheduler = described[scheduler]
    if of_scheduler["dotflow"] == "not installed":  # the scheduler doesn't need it
        of_scheduler = {**of_scheduler, "dotflow": here["dotflow"]}
    for sentence in protocol.differences(here, {"the scheduler": of_scheduler, **places}):
        say(sentence)


@atexit.register
def _finish_ending() -> None:
    futures.wait(tuple(_ending), EXIT_TIMEOUT)


def wait_for(client: "Client", asked: Any, seconds: float) -> Any:
    """Returns the result of a call that was made with asynchronous=True. Raises TimeoutError."""
    return asyncio.run_coroutine_threadsafe(asyncio.wait_for(asked, seconds), client.loop.asyncio_loop).result()


Listener = Callable[[Any], object]

_lock: Final = threading.Lock()
#: By the id of a scheduler, which has the plugin: the versions HERE and there, by the id of a process.
_versions: Final[dict[str, Mapping[str, protocol.Versions]]] = {}
#: The ends of runs that no run waits for any more.
_ending: Final[set[futures.Future[Any]]] = set()
#: By client, which subscribes once for all of its runs: by run, what takes the events that workers log.
_listeners: "Final[WeakKeyDictionary[Client, dict[str, Listener]]]" = WeakKeyDictionary()


def subscribe(client: "Client", run: str, listener: Listener) -> None:
    """Calls *listener* with each event of a run, in a thread of Dask's."""
    with _lock:
        listeners = _listeners.setdefault(client, {})
        is_first = not listeners
        listeners[run] = listener
        if is_first:
            client.subscribe_topic(dask_remote.TOPIC, lambda event: _dispatch(listeners, event))


def unsubscribe(client: "Client", run: str) -> None:
    """Ends the subscription of a run, if there is one."""
    with _lock:
        listeners = _listeners.get(client, {})
        was_last = listeners.pop(run, None) is not None and not listeners
        if was_last and client.status == "running":  # under the lock: another run may be about to subscribe
            client.unsubscribe_topic(dask_remote.TOPIC)


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


class DaskSession(ClusterSession):
    """The tasks that one run has with Dask.

    Futures end in a thread of Dask's, and results are fetched, many at once, in the client's event loop.
    """

    def __init__(self, client: "Client", report: Report, *, is_ours: bool) -> None:
        super().__init__(f"Dask's scheduler at {getattr(client.scheduler, 'address', '?')}", report)
        self._client = client
        self._is_ours = is_ours
        self._make: Any = None  # the function that Dask runs: one, since Dask keeps its pickle
        self._pending: dict[str, _Task] = {}  # by key
        self._scattered_size = 0  # of all that are pending
        self._lost_workers: Counter[int] = Counter()  # by number: the workers that were lost before they began it
        self._workers: dict[str, str] = {}  # by key: the worker that began its pack; set by a thread of Dask's
        self._has_begun = False  # whether a worker has begun a pack
        self._shared: dict[int, Future[Any]] = {}  # by number: shared arguments on the workers
        self._ended: set[str] = set()  # keys of tasks whose results are not fetched yet
        self._running_workers: list[Mapping[str, Any]] = []  # with their threads and resources
        self._refresh_at = 0.0  # when they are requested again
        try:
            self._refresh()
            check_cluster(client, self.cluster, self.report_once)
            subscribe(client, self.run, self._on_event)
        except BaseException:  # there is no runner yet that would close it
            self.close()
            raise

    def has_free_worker(self, pool: Hashable) -> bool:
        """On a shared cluster, a call may still wait for its worker."""
        return self._scattered_size < MAX_SCATTERED and self.room_left(pool) > 0

    def room_left(self, pool: Hashable) -> float:
        resources = dict(pool)  # type: ignore[call-overload]  # as pool_of makes it
        return self._capacity(resources) + self._extra_packs() - self.count_busy(pool)

    def _capacity(self, resources: Mapping[str, float]) -> int:
        """Returns how many packs that need these resources the cluster can run at once."""
        of_each = (
            [worker["nthreads"], *(worker["resources"].get(name, 0) // want for name, want in resources.items())]
            for worker in self._running_workers
        )
        return int(sum(map(min, of_each)))

    def _extra_packs(self) -> int:
        """Returns the number of packs to send beyond the free threads."""
        cluster = getattr(self._client, "cluster", None)
        if getattr(cluster, "_adaptive", None) is None:  # Dask has no public attribute for it
            return EXTRA_PACKS
        return EXTRA_PACKS_ADAPTIVE * max(1, self._capacity({}))

    def prepare(self) -> float:
        if not any(self.ready.values()):
            return math.inf
        if clock.ticks() >= self._refresh_at:
            self._refresh()
        return max(0.0, self._refresh_at - clock.ticks())

    def describe(self) -> str:
        threads = self._client.nthreads()
        return f"{len(threads)} worker(s) with {sum(threads.values())} thread(s)"

    def _refresh(self) -> None:
        """Requests the workers from the scheduler, in Dask's event loop."""
        self._refresh_at = clock.ticks() + REFRESH_INTERVAL
        asyncio.run_coroutine_threadsafe(self._request_workers(), self._client.loop.asyncio_loop)

    async def _request_workers(self) -> None:
        identity = await self._client.scheduler.identity()  # if it is lost, the run's futures fail
        self.events.put(partial(self._set_workers, identity["workers"]))

    def _set_workers(self, workers: Mapping[str, Mapping[str, Any]]) -> None:
        self._running_workers = [worker for worker in workers.values() if worker["status"] == "running"]

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
        client, timeout = self._client, REPLY_TIMEOUT  # cancelling thousands of tasks takes seconds
        try:
            unsubscribe(client, self.run)
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
        self._has_begun = True
        self._workers[event["key"]] = event["worker"]
        self.events.put(partial(self._mark_begun, event["key"]))

    def _mark_begun(self, key: str) -> None:
        if key in self._pending:
            self.mark_begun(self._pending[key].sent)

    def send(self, pack: ReadyPack, sent: SentPack) -> None:
        key = f"{dask_remote.PREFIX}{pack.calls[0].call.step.name.replace('-', '_')}-{pack.name}"
        try:
            task = self._pending[key] = self._submit_task(key, pack, sent)
        except Exception as error:  # Dask raises many types when its scheduler is lost
            raise self._connection_lost(error) from error
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
        worker = next((self._workers.get(key) for key, task in self._pending.items() if task.sent is sent), None)
        if worker is not None:
            asyncio.run_coroutine_threadsafe(self._take(sent, worker), self._client.loop.asyncio_loop)

    async def _take(self, sent: SentPack, worker: str) -> None:
        """Takes what has ended of a pack. If that does not arrive, the reply of the task has it, too."""
        for packed in await self._run_there(dask_remote.take_part, self.run, sent.name, workers=[worker]):
            self.events.put(partial(self.receive, sent, PackReply.unpack(packed)))

    async def _run_there(self, function: Callable[..., Any], *arguments: Any, workers: Sequence[str]) -> list[Any]:
        """Returns what a function returns on workers, but None."""
        asked = self._client.run(function, *arguments, workers=workers, on_error="ignore", asynchronous=True)
        try:
            found = await asyncio.wait_for(asked, REPLY_TIMEOUT)
        except Exception:  # of many types, where a worker or the scheduler has just been lost
            return []
        return [value for value in found.values() if value is not None]

    def _scatter(self, parts: Sequence[Any], address: str = "") -> "Future[Any] | None":
        """Sends parts to a worker, that at *address* if it exists. Returns None if no worker takes them."""
        workers = self._client.nthreads()
        if not workers:
            return None
        there = [address] if address in workers else None
        try:
            return self._client.scatter([parts], workers=there, hash=False, timeout=SCATTER_TIMEOUT)[0]
        except (OSError, TimeoutError, KeyError):  # the worker has just been lost
            if self._client.status != "running":
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
            self._ask_journal(sent, address, is_begun=True)
        else:  # no worker began it
            self._resend(sent, is_lost=False)

    def _handle_lost(self, sent: SentPack, future: "Future[Any]", address: str) -> None:
        if self._client.status != "running":
            raise self._connection_lost()
        error = future.exception() if future.status == "error" else None
        if error is None or isinstance(error, KilledWorker):
            worker = address or getattr(getattr(error, "last_worker", None), "address", "")
            self._ask_journal(sent, worker, is_begun=bool(address))
        elif isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == "dotflow":
            raise ClusterError(self.cluster, f"has a worker without dotflow: {error}", INSTALL_HINT)
        else:
            for call in sent.calls.values():
                self.answer(call, Died(Failure.of(error)))

    def _ask_journal(self, sent: SentPack, address: str, *, is_begun: bool) -> None:
        """Asks the machine of a lost worker which calls of its pack have begun, and what came of them."""
        asyncio.run_coroutine_threadsafe(self._take_journal(sent, address, is_begun), self._client.loop.asyncio_loop)

    async def _take_journal(self, sent: SentPack, address: str, is_begun: bool) -> None:
        machine, until = address.rpartition(":")[0], clock.ticks() + JOURNAL_TIMEOUT
        found: list[Any] = []
        try:
            while machine and clock.ticks() < until:
                identity = await self._client.scheduler.identity()
                there = [worker for worker in identity["workers"] if worker.rpartition(":")[0] == machine]
                there = [worker for worker in there if worker != address]
                if there:
                    found = await self._run_there(take_journal, sent.name, workers=there)
                    break
                await asyncio.sleep(0.1)  # a nanny starts another one
        finally:  # if the scheduler is lost, the run's other futures fail, or the next call does
            self.events.put(partial(self._handle_journal, sent, address, is_begun, found))

    def _handle_journal(self, sent: SentPack, address: str, is_begun: bool, found: Sequence[Any]) -> None:
        """Ends the calls that have begun, by the journal; without one, each may have begun."""
        if self._client.status != "running":
            raise self._connection_lost()
        if found:
            self.receive(sent, PackReply.unpack(found[0])._replace(worker=address))
        elif is_begun:
            for call in sent.calls.values():
                self.answer(call, self.lost(call, address))
            return
        self._resend(sent, is_lost=not is_begun)

    def answer(self, call: Call, outcome: Outcome | NotBegun) -> None:
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
