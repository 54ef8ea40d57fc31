"""RaySession: the actors that one run has with Ray."""

import contextlib
import queue
import uuid
from collections.abc import Hashable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Final, NamedTuple

import ray
from ray.exceptions import ObjectLostError, OutOfMemoryError, RayActorError, RaySystemError

from dotflow import clock
from dotflow.abc.executor import CompletedCall, Report
from dotflow.core.call import Call
from dotflow.core.failure import Failure
from dotflow.core.outcome import Died, Outcome
from dotflow.processes.dispatcher import Dispatcher
from dotflow.providers.executors.cluster.protocol import MISSING, RemoteCall, Reply
from dotflow.providers.executors.cluster.session import ClusterSession, in_one_line
from dotflow.providers.executors.cluster.versions import describer, differences
from dotflow.providers.executors.ray import connection as ray_connection
from dotflow.providers.executors.ray.actor import Seat, out_of_band
from dotflow.providers.executors.ray.health import HEARTBEAT, Watch, gone

MOST_FAILED_STARTS: Final = 3  # in a row; then it is no accident
MAKE_ROOM_AFTER: Final = 1.0  # seconds that an actor has been waiting for room before idle ones are ended for it

#: How a call ends whose actor is lost, or whose reply is, with the machine that kept it.
LOST: Final = (RayActorError, ObjectLostError, OutOfMemoryError)

#: What Ray has options of its own for: ray.remote's documentation.
OPTIONS: Final = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory"}


class _Seat:
    """An actor, seen from here."""

    def __init__(self, kind: "_Kind", actor: Any) -> None:
        self.kind = kind
        self.actor = actor
        self.began = clock.ticks()
        self.call: Call | None = None
        self.name = uuid.uuid4().hex


class _Kind:
    """The actors that have the same resources, and the calls that ask for these."""

    def __init__(self, resources: Mapping[str, float], most: int) -> None:
        given = {"CPU": 1.0, **resources}
        options: dict[str, Any] = {OPTIONS[name]: given.pop(name) for name in OPTIONS if name in given}
        self.options = {**options, "resources": given} if given else options
        self.most = most
        self.dispatcher: Dispatcher[_Seat] = Dispatcher(_nobody, most, should_grow=lambda apart: False)
        self.seats: set[_Seat] = set()
        self.starting: dict[_Seat, None] = {}


class _Ready(NamedTuple):
    """News: an actor is up; or it is not, and why."""

    seat: _Seat
    future: "Future[Any]"


class _Done(NamedTuple):
    """News: what an actor replied; or why it did not."""

    seat: _Seat
    future: "Future[Any]"


class RaySession(ClusterSession):
    """The actors that one run has with Ray. There is room for a call when an actor is up and free."""

    def __init__(self, job: str, max_workers: int | None, report: Report) -> None:
        super().__init__("Ray", report)
        self._watch = Watch(job)
        self._here = describer("ray")()
        self._most = max_workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        self._actor = ray.remote(max_restarts=0, max_task_retries=0)(Seat)
        self._kinds: dict[Hashable, _Kind] = {}
        self._failed_starts = 0
        self._failed = 0.0  # when the last one did that was counted
        self._answers: list[CompletedCall] = []
        self._news: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._is_open = True

    def has_room(self, pool: Hashable) -> bool:
        if self._answers or not self._news.empty():  # what has come is heard first: after a failure nothing begins
            return False
        return self._kind_of(pool).dispatcher.has_idle

    def submit(self, call: Call) -> None:
        self.begins_to_wait(call)
        seat = self._kind_of(self.pool_of(call.step)).dispatcher.take(call.lane)
        assert isinstance(seat, _Seat), "make_room was asked before, and none is hired by the dispatcher"
        self._send(seat, call)

    def wait(self, timeout: float | None) -> Sequence[CompletedCall]:
        end = None if timeout is None else clock.ticks() + timeout
        while True:
            self._start_what_lacks()
            if self._answers:
                break
            news = self._next(end)
            for part in news:
                if isinstance(part, _Ready):
                    self._join(part.seat, part.future)
                elif isinstance(part, _Done):
                    self._take(part.seat, part.future)
            if None in news or (end is not None and clock.ticks() >= end) or self._has_room_now():
                break
        answers, self._answers = self._answers, []
        self.ready.clear()
        return answers

    def _has_room_now(self) -> bool:
        return any(waiting and self.has_room(pool) for pool, waiting in self.ready.items())

    def wake(self) -> None:
        self._news.put(None)

    def leave(self, lane: int) -> None:
        super().leave(lane)
        for kind in self._kinds.values():
            kind.dispatcher.leave(lane)

    def close(self) -> None:
        if not self._is_open:
            return
        try:
            if self._watch.is_connected:
                for kind in self._kinds.values():
                    for seat in kind.seats:
                        _end(seat)
        finally:
            self._is_open = False
            ray_connection.disconnect()

    def _kind_of(self, pool: Hashable) -> _Kind:
        if pool not in self._kinds:
            resources = dict(pool)  # type: ignore[call-overload]  # as pool_of makes it
            self._kinds[pool] = _Kind(resources, self._most)
        return self._kinds[pool]

    def _start_what_lacks(self) -> None:
        for pool, waiting in self.ready.items():
            kind = self._kind_of(pool)
            lacking = min(waiting, kind.most - len(kind.seats) + len(kind.starting)) - len(kind.starting)
            for _ in range(lacking):
                self._start(kind)
        self._end_idle()

    def _start(self, kind: _Kind) -> None:
        self._watch.check_connection()
        seat = _Seat(kind, self._actor.options(**kind.options).remote())
        kind.seats.add(seat)
        kind.starting[seat] = None
        future = seat.actor.describe.remote().future()
        future.add_done_callback(lambda done: self._news.put(_Ready(seat, done)))

    def _end_idle(self) -> None:
        """Ends idle actors that nobody waits for, where one of another kind has waited for their room."""
        if self._until_room() != 0.0:
            return
        for pool, kind in self._kinds.items():
            if not self.ready.get(pool):
                for seat in [seat for seat in kind.seats if seat.call is None and seat not in kind.starting]:
                    self._dismiss(seat)

    def _until_room(self) -> float | None:
        """Seconds until idle actors are ended for those that wait; None where nobody waits, or nobody is idle."""
        began = [next(iter(kind.starting)).began for kind in self._kinds.values() if kind.starting]
        idle = any(
            seat.call is None and seat not in kind.starting
            for pool, kind in self._kinds.items()
            if not self.ready.get(pool)
            for seat in kind.seats
        )
        return max(0.0, min(began) + MAKE_ROOM_AFTER - clock.ticks()) if began and idle else None

    def _send(self, seat: _Seat, call: Call) -> None:
        lane = self.lanes.get(call.lane)
        remote_call = self.remote_call(call, whole=lane is None or lane.place != seat.name)
        if not isinstance(remote_call, RemoteCall):
            self._answer(call, remote_call)
            seat.kind.dispatcher.release(seat)
            return
        self.began(call.task_id)
        seat.call = call
        try:
            future = seat.actor.make.remote(out_of_band(remote_call.packed())).future()
        except Exception as error:  # whatever Ray says when it is gone
            raise gone(error) from error
        future.add_done_callback(lambda done: self._news.put(_Done(seat, done)))

    def _join(self, seat: _Seat, future: "Future[Any]") -> None:
        seat.kind.starting.pop(seat, None)
        error = future.exception()
        if error is not None:
            seat.kind.seats.discard(seat)
            if seat.began < self._failed:  # lost together with one that was counted: a machine is gone, say
                return
            self._failed = clock.ticks()
            self._failed_starts += 1
            if self._failed_starts >= MOST_FAILED_STARTS:
                raise gone(error)
            return
        self._failed_starts = 0
        for sentence in differences(self._here, {f"the actor {seat.name}": future.result()}):
            self.say_once(sentence.replace(f"the actor {seat.name}", "a worker"))
        seat.kind.dispatcher.add(seat)

    def _take(self, seat: _Seat, future: "Future[Any]") -> None:
        call, seat.call = seat.call, None
        assert call is not None
        error = future.exception()
        if error is None:
            reply = Reply.unpacked(future.result())._replace(place=seat.name)
            seat.kind.dispatcher.release(seat)
            if reply.kind == MISSING:
                self.lanes.pop(call.lane, None)
                self.submit(call)
            else:
                self._answer(call, self.outcome(call, reply))
        elif isinstance(error, LOST):
            self._watch.check_head()
            self._dismiss(seat)
            self._answer(call, self.lost(call, in_one_line(error)))
        elif isinstance(error, RaySystemError):
            raise gone(error)
        else:
            self._dismiss(seat)
            self._answer(call, Died(Failure.of(error)))

    def _dismiss(self, seat: _Seat) -> None:
        seat.kind.seats.discard(seat)
        seat.kind.dispatcher.remove(seat)
        _end(seat)

    def _answer(self, call: Call, outcome: Outcome) -> None:
        self.ended(call.task_id)
        self._answers.append((call, outcome))

    def _next(self, end: float | None) -> list[Any]:
        """All news there is; none when it is time to look around."""
        left = None if end is None else max(0.0, end - clock.ticks())
        limits = (left, self.until_patience_ends(), self._until_room(), HEARTBEAT)
        news: list[Any] = []
        try:
            news.append(self._news.get(timeout=min(limit for limit in limits if limit is not None)))
            while True:
                news.append(self._news.get_nowait())
        except queue.Empty:
            if not news and self.until_patience_ends() == 0.0:
                self.say_who_waits(", ".join(f"{name}: {amount:g}" for name, amount in _had().items()))
        self._watch.look()
        return news


def _nobody() -> _Seat:
    raise AssertionError("actors join when they are up")


def _end(seat: _Seat) -> None:
    with contextlib.suppress(Exception):  # Ray is gone, and the actor with it
        ray.kill(seat.actor, no_restart=True)


def _had() -> dict[str, float]:
    """What the cluster has, without what Ray keeps for itself."""
    return {
        name: amount for name, amount in ray.cluster_resources().items() if ":" not in name and "memory" not in name
    }
