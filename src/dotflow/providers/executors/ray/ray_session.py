"""RaySession: the actors that one run has with Ray."""

import contextlib
import math
import uuid
from collections.abc import Hashable, Iterable
from concurrent.futures import Future
from functools import partial
from typing import Any, Final

import ray
from ray.exceptions import ObjectLostError, OutOfMemoryError, RayActorError, RaySystemError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from dotflow import clock
from dotflow.abc.executor import Report
from dotflow.core.failure import Failure
from dotflow.core.outcome import Died, NotBegun
from dotflow.errors import ClusterLost
from dotflow.processes.channel import keep_shared
from dotflow.processes.dispatcher import Dispatcher
from dotflow.processes.encoding import SharedArguments
from dotflow.providers.executors.cluster.cluster_session import (
    RESUME_HINT,
    ClusterSession,
    ReadyCall,
    ReadyPack,
    SentPack,
    describe_error,
)
from dotflow.providers.executors.cluster.conversation import Answer, Request
from dotflow.providers.executors.cluster.journal import take_journal
from dotflow.providers.executors.cluster.protocol import (
    MIN_KEPT_SIZE,
    PackReply,
    check_versions,
    size_of,
    versions_here,
)
from dotflow.providers.executors.ray import connection as ray_connection
from dotflow.providers.executors.ray.actor import CONCURRENCY, WorkerActor, out_of_band

HEAD_CHECK_INTERVAL: Final = 5.0  # seconds between two checks of the head
MAX_HEAD_SILENCE: Final = 10.0  # seconds without an answer; a head may restart in that time
MAX_FAILED_STARTS: Final = 3  # in a row
END_TIMEOUT: Final = 0.5  # seconds
IDLE_TIMEOUT: Final = 1.0  # seconds; idle actors are ended when another pool has waited that long

#: The errors of a lost actor, or of a reply that was lost with its machine.
LOST_ERRORS: Final = (RayActorError, ObjectLostError, OutOfMemoryError)

#: Resources that Ray has options of its own for, see ray.remote.
RAY_OPTIONS: Final = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory"}


class ActorHandle:
    """An actor and its pack."""

    def __init__(self, actor_pool: "_ActorPool", actor: Any) -> None:
        self.actor_pool = actor_pool
        self.actor = actor
        self.started_at = clock.ticks()
        self.sent: SentPack | None = None
        self.node = ""  # the id of Ray's node
        self.name = uuid.uuid4().hex


class _ActorPool:
    """The actors with the same resources."""

    def __init__(self, pool: Hashable, max_actors: int) -> None:
        self.pool = pool
        given = {"CPU": 1.0, **dict(pool)}  # type: ignore[call-overload]  # as pool_of makes it
        options: dict[str, Any] = {RAY_OPTIONS[name]: given.pop(name) for name in RAY_OPTIONS if name in given}
        self.options = {**options, "resources": given} if given else options
        self.max_actors = max_actors
        self.dispatcher: Dispatcher[ActorHandle] = Dispatcher(_start_none, max_actors, growth=lambda apart: 0)
        self.actors: set[ActorHandle] = set()
        self.starting: dict[ActorHandle, None] = {}


class RaySession(ClusterSession):
    """The actors that one run has with Ray. There is room for a pack when an actor is up and free."""

    def __init__(self, job: str, max_workers: int | None, keep: float, report: Report) -> None:
        super().__init__("Ray", report, announces=False)
        self._job = job
        self._keep = keep
        self._checked_at = self._answered_at = clock.ticks()  # when the head was checked, and has answered
        self._versions = versions_here("ray")
        self._max_actors = max_workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        self._actor = ray.remote(max_restarts=0, max_task_retries=0, max_concurrency=CONCURRENCY)(WorkerActor)
        self._actor_pools: dict[Hashable, _ActorPool] = {}
        self._failed_starts = 0
        self._failed_at = 0.0  # the time of the last failed start
        self._shared: dict[int, Any] = {}  # by number: shared arguments in Ray's object store
        self._is_open = True
        for pool, actor in ray_connection.take_actors(job):  # all, since they take what others may need
            if len(self._pool(pool).actors) < self._max_actors:
                self._add_starting(self._pool(pool), actor)
            else:
                ray_connection.end_actor(actor)

    def has_free_worker(self, pool: Hashable) -> bool:
        return self._pool(pool).dispatcher.has_idle

    def room_left(self, pool: Hashable) -> float:
        actor_pool = self._pool(pool)
        return actor_pool.max_actors - sum(handle.sent is not None for handle in actor_pool.actors)

    def send(self, pack: ReadyPack, sent: SentPack) -> None:
        last = pack.calls[-1]
        handle = self._pool(pack.pool).dispatcher.take(last.call.lane)
        assert isinstance(handle, ActorHandle), "make_room was asked before, and none is hired by the dispatcher"
        lane = self.lanes.get(last.call.lane)
        if last.packed.placement.process and (lane is None or lane.worker != handle.name):
            del self.lanes[last.call.lane]  # another actor has its value
            whole = self.pack(last.call)
            if not isinstance(whole, ReadyCall):  # it can't be sent a second time
                del sent.calls[len(pack.calls) - 1]
                self.answer(last.call, whole)
                pack.calls.pop()
            else:
                pack.calls[-1] = whole
        if not pack.calls:
            del self.packs[sent.name]
            handle.actor_pool.dispatcher.release(handle)
            return
        self.mark_begun(sent)
        handle.sent = sent
        shared = {number: self._shared_data(arguments) for number, arguments in pack.shared.items()}
        try:
            made = handle.actor.make.remote(pack.name, out_of_band(pack.pack()), list(shared), *shared.values())
            made.future().add_done_callback(lambda done: self.events.put(partial(self._handle_reply, handle, done)))
            if any(call.port is not None for call in sent.calls.values()):
                self.talk(sent)
        except Exception as error:  # Ray raises many types when it is lost
            raise _connection_lost(error) from error

    def _handle_of(self, sent: SentPack) -> ActorHandle:
        actors = (handle for actor_pool in self._actor_pools.values() for handle in actor_pool.actors)
        return next(handle for handle in actors if handle.sent is sent)

    def take(self, sent: SentPack) -> None:
        handle = self._handle_of(sent)
        taken = handle.actor.take.remote(sent.name).future()
        taken.add_done_callback(lambda done: self.events.put(partial(self._handle_part, handle, sent, done)))

    def _handle_part(self, handle: ActorHandle, sent: SentPack, future: "Future[Any]") -> None:
        """Handles what has ended of a pack. If that is lost, the reply of the pack has it, too."""
        if future.exception() is None and (packed := future.result()) is not None:
            self.receive(sent, PackReply.unpack(packed)._replace(worker=handle.name))

    def converse(self, sent: SentPack) -> None:
        answer = sent.answer and Answer(sent.answer.number, out_of_band(sent.answer.parts))
        asked = self._handle_of(sent).actor.converse.remote(sent.name, answer).future()
        asked.add_done_callback(lambda done: self.events.put(partial(self._handle_request, sent, done)))

    def _handle_request(self, sent: SentPack, future: "Future[Any]") -> None:
        """Handles the next request of a pack. One that was lost is sent again. With its actor, the pack is lost."""
        error = future.exception()
        if isinstance(error, RayActorError):
            return
        found = None if error is not None else future.result()
        self.hear(sent, found and Request(*found))

    def prepare(self) -> float:
        self._check_head()
        for pool, waiting in self.ready.items():
            actor_pool = self._pool(pool)
            starting = len(actor_pool.starting)
            for _ in range(min(waiting, actor_pool.max_actors - len(actor_pool.actors) + starting) - starting):
                self._start(actor_pool)
        seconds = self._until_idle_end()
        if seconds == 0.0:
            for handle in self._idle_elsewhere():
                self._remove_actor(handle)
        return min(seconds, HEAD_CHECK_INTERVAL)

    def describe(self) -> str:
        """Returns the resources, without those that Ray keeps for itself."""
        found = ray.cluster_resources().items()
        return ", ".join(f"{name}: {amount:g}" for name, amount in found if ":" not in name and "memory" not in name)

    def leave(self, lane: int) -> None:
        super().leave(lane)
        for actor_pool in self._actor_pools.values():
            actor_pool.dispatcher.leave(lane)

    def close(self) -> None:
        if not self._is_open:
            return
        try:
            if ray_connection.is_connected(self._job):
                handles = {handle for actor_pool in self._actor_pools.values() for handle in actor_pool.actors}
                ready = self._end_run(handles)
                for handle in handles:
                    if self._keep and handle in ready:
                        ray_connection.leave_actor(self._job, handle.actor_pool.pool, handle.actor)
                    else:
                        ray_connection.end_actor(handle.actor)
        finally:
            self._is_open = False
            ray_connection.disconnect(self._keep)

    def _end_run(self, handles: Iterable[ActorHandle]) -> set[ActorHandle]:
        """Has the idle actors end the run's processes and journals; returns those that have."""
        idle = [handle for handle in handles if handle.sent is None and handle not in handle.actor_pool.starting]
        with contextlib.suppress(Exception):  # Ray is lost, or an actor: old journals are deleted later
            ends = {handle.actor.end_run.remote(): handle for handle in idle}
            done, _ = ray.wait(list(ends), num_returns=len(ends), timeout=END_TIMEOUT)
            return {ends[end] for end in done}
        return set()

    def _pool(self, pool: Hashable) -> _ActorPool:
        if pool not in self._actor_pools:
            self._actor_pools[pool] = _ActorPool(pool, self._max_actors)
        return self._actor_pools[pool]

    def _start(self, actor_pool: _ActorPool) -> None:
        self._check_connection()
        self._add_starting(actor_pool, self._actor.options(**actor_pool.options).remote())

    def _add_starting(self, actor_pool: _ActorPool, actor: Any) -> None:
        handle = ActorHandle(actor_pool, actor)
        actor_pool.actors.add(handle)
        actor_pool.starting[handle] = None
        future = handle.actor.describe.remote().future()
        future.add_done_callback(lambda done: self.events.put(partial(self._add_actor, handle, done)))

    def _check_connection(self) -> None:
        """Raises ClusterLost if the program has ended the connection."""
        if not ray_connection.is_connected(self._job):
            raise ClusterLost("Ray", "was disconnected during the run, by ray.shutdown()", RESUME_HINT)

    def _check_head(self) -> None:
        """Checks every few seconds, and raises ClusterLost if the head has been silent for too long."""
        now = clock.ticks()
        if now - self._checked_at < HEAD_CHECK_INTERVAL:
            return
        self._checked_at = now
        self._check_connection()
        if ray_connection.is_head_reachable():
            self._answered_at = now
        elif now - self._answered_at >= MAX_HEAD_SILENCE:
            raise _connection_lost()

    def _idle_elsewhere(self) -> list[ActorHandle]:
        """Returns the idle actors of pools without waiting calls."""
        return [
            handle
            for pool, actor_pool in self._actor_pools.items()
            if not self.ready.get(pool)
            for handle in actor_pool.actors
            if handle.sent is None and handle not in actor_pool.starting
        ]

    def _until_idle_end(self) -> float:
        """Returns the seconds until idle actors are ended for another pool; infinity if none waits or none is idle."""
        started_at = [handle.started_at for actor_pool in self._actor_pools.values() for handle in actor_pool.starting]
        if not started_at or not self._idle_elsewhere():
            return math.inf
        return max(0.0, min(started_at) + IDLE_TIMEOUT - clock.ticks())

    def _shared_data(self, shared: SharedArguments) -> Any:
        """Returns shared arguments; large ones as an object of Ray's, which each machine gets once."""
        if size_of(shared.parts) < MIN_KEPT_SIZE:
            return shared.parts
        if shared.number not in self._shared:
            keep_shared(self._shared, shared.number, ray.put(out_of_band(shared.parts)))
        return self._shared[shared.number]

    def _add_actor(self, handle: ActorHandle, future: "Future[Any]") -> None:
        handle.actor_pool.starting.pop(handle, None)
        error = future.exception()
        if error is not None:
            handle.actor_pool.actors.discard(handle)
            if handle.started_at < self._failed_at:  # lost together with a counted one, for example with a machine
                return
            self._failed_at = clock.ticks()
            self._failed_starts += 1
            if self._failed_starts >= MAX_FAILED_STARTS:
                raise _connection_lost(error)
            return
        self._failed_starts = 0
        versions, handle.node = future.result()
        if versions != self._versions:
            machines = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes()}
            check_versions("Ray", self._versions, {machines[handle.node]: versions}, self.report_once, "ray")
        handle.actor_pool.dispatcher.add(handle)

    def _handle_reply(self, handle: ActorHandle, future: "Future[Any]") -> None:
        sent, handle.sent = handle.sent, None
        assert sent is not None
        del self.packs[sent.name]
        error = future.exception()
        if error is None:
            reply = PackReply.unpack(future.result())
            handle.actor_pool.dispatcher.release(handle)
            self.receive(sent, reply._replace(worker=handle.name))
        elif isinstance(error, LOST_ERRORS):
            self._check_connection()
            if not ray_connection.is_head_reachable():
                raise _connection_lost()
            self._remove_actor(handle)
            self._ask_journal(handle, sent, describe_error(error))
        elif isinstance(error, RaySystemError):
            raise _connection_lost(error)
        else:
            self._remove_actor(handle)
            for call in sent.calls.values():
                self.answer(call, Died(Failure.of(error)))

    def _ask_journal(self, handle: ActorHandle, sent: SentPack, reason: str) -> None:
        """Asks the node of a lost actor which calls of its pack have begun, and what came of them."""
        there = NodeAffinitySchedulingStrategy(handle.node, soft=False)
        taking = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=there)(take_journal)
        found = taking.remote(sent.name).future()
        found.add_done_callback(lambda done: self.events.put(partial(self._handle_journal, sent, reason, done)))

    def _handle_journal(self, sent: SentPack, reason: str, future: "Future[Any]") -> None:
        """Ends the calls that have begun, by the journal. If the node is lost too, each may have begun."""
        is_known = future.exception() is None
        if is_known and (found := future.result()) is not None:
            self.receive(sent, PackReply.unpack(found)._replace(worker=reason))
        for call in sent.calls.values():
            self.lanes.pop(call.lane, None)
            self.answer(call, NotBegun() if is_known else self.lost(call, reason))

    def _remove_actor(self, handle: ActorHandle) -> None:
        handle.actor_pool.actors.discard(handle)
        handle.actor_pool.dispatcher.remove(handle)
        ray_connection.end_actor(handle.actor)


def _connection_lost(error: BaseException | None = None) -> ClusterLost:
    """Returns the error that ends the run."""
    if error is None:
        return ClusterLost("Ray", "is lost: its head does not answer", RESUME_HINT)
    return ClusterLost("Ray", f"can't go on: {describe_error(error)}", RESUME_HINT)


def _start_none() -> ActorHandle:
    raise AssertionError("actors join when they are up")
