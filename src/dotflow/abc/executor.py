"""Executor: where attempts are made."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence

from dotflow.core.action import AnyAction
from dotflow.core.call import Call
from dotflow.core.outcome import NotBegun, Outcome, Running, Timed
from dotflow.core.task import Task

Report = Callable[[str], None]
CompletedCall = tuple[Call, Outcome]
ArrivedCall = tuple[Call, Outcome | Timed | Running | NotBegun]


class ExecutorSession(ABC):
    """Makes the attempts of one run. Only `wake` may be called from several threads.

    It decides no order, retry or delay. It guarantees a step's `isolate` and its timeout: `dotflow.worker.attempt` ends
    what can be ended from inside, the session ends the rest.

    `Call.number` names a call's task or item in the run. All items of a mapped task have its task_id.

    Ready calls wait in the runner, which calls `make_room` before each `submit`. A task starts when its call is
    submitted. A session without limits overrides neither `pool_of` nor `make_room`.

    Attributes:
        pools_share_room: Whether all pools together have the room that `room_left` returns for each.
    """

    pools_share_room: bool = False

    def pool_of(self, step: AnyAction) -> Hashable:
        """Returns a key for the pool of workers that *step* needs. A full pool does not hold up other pools."""
        return None

    def make_room(self, pool: Hashable, lane: int, waiting: int) -> bool:
        """Returns whether the next call would begin at once, or a moment after those that it goes with.

        It may start a worker for the call.

        After False, `wait` also returns when there is room.

        Args:
            pool: The key of the call's pool.
            lane: The call's lane.
            waiting: How many calls are ready for the pool, this one included.
        """
        return True

    def room_left(self, pool: Hashable) -> float:
        """Returns how many more calls the limit of a pool allows, whether or not their workers are up yet.

        After a failure, so many of the tasks that were ready begin, and no other task. By default none does.
        """
        return 0

    @abstractmethod
    def submit(self, call: Call) -> Outcome | None:
        """Makes an attempt. Returns its outcome if that is known at once, else None: `wait` will return it."""

    @abstractmethod
    def wait(self, timeout: float | None) -> Sequence[ArrivedCall]:
        """Waits for outcomes and returns them; at least one, unless it was woken or *timeout* seconds have passed.

        NotBegun gives a call back that waits behind others for too long: it is submitted again. Where calls wait behind
        others, Running brings the beginning of one that goes on for long, and Timed an outcome with its own times.
        """

    @abstractmethod
    def wake(self) -> None:
        """Makes `wait` return soon, from any thread."""

    def leave(self, lane: int) -> None:  # noqa: B027 (most have nothing to do)
        """Notes that the lane has no more calls."""

    @abstractmethod
    def close(self) -> None:
        """Ends everything that it has started, running attempts included.

        After an interrupt within it, it is called again.
        """

    def last_outcomes(self) -> Sequence[CompletedCall]:
        """Returns the outcomes that came in while it was closed, of steps that had returned. By default none."""
        return ()


class Executor(ABC):
    """Where a workflow's steps run. It has settings only: each run opens a session of its own.

    Attributes:
        shares_memory: Whether steps get the run's own objects, which they may change, and not copies.
        offers_resources: Whether it gives steps the resources of `@action(resources=...)`. Otherwise `start` refuses
            such steps.
        keeps_calls: Whether its attempts have a way to the coordinator while they run, as `Call.port`, which the calls
            of durable steps need. Otherwise `start` refuses such steps.
    """

    shares_memory: bool = True
    offers_resources: bool = False
    keeps_calls: bool = False

    @property
    def is_remote(self) -> bool:
        """Whether its workers are on a cluster, whose machines may join and leave."""
        return False

    @abstractmethod
    def open(self, tasks: Mapping[int, Task], report: Report) -> ExecutorSession:
        """Returns a session for one run.

        Args:
            tasks: The run's tasks, by id.
            report: Writes a line into the run's log, for what users should know during the run. Any thread may call it.
        """
