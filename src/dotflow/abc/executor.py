"""Executor: where attempts are made."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from dotflow.core.action import Action
from dotflow.core.call import Call
from dotflow.core.outcome import Outcome
from dotflow.core.task import Task

Report = Callable[[str], None]
CompletedCall = tuple[Call, Outcome]


class ExecutorSession(ABC):
    """Makes the attempts of one run. One thread uses it, but for `wake`.

    It decides nothing: no order, no retry, no delay. What it must keep of a step is its timeout
    (`dotflow.worker.attempt` ends what can be ended from inside; the session ends the rest) and `isolate`.

    Calls that are ready wait in the runner, which asks for room before each `submit`: a task has started when its call
    is submitted. A session that limits nothing leaves `pool_of` and `make_room` as they are.
    """

    def pool_of(self, step: Action[..., Any]) -> Hashable:
        """Name the pool of workers that attempts of *step* need. A full pool keeps no call of another pool waiting."""
        return None

    def make_room(self, pool: Hashable, lane: int, waiting: int) -> bool:
        """Return whether a call that is submitted next would begin at once. A worker may be started for it.

        After False, `wait` returns also when there is room.

        Args:
            pool: As `pool_of` names it.
            lane: The call's.
            waiting: How many calls are ready for the pool, this one included.
        """
        return True

    @abstractmethod
    def submit(self, call: Call) -> Outcome | None:
        """Takes on an attempt: its outcome, where that is known at once; None where `wait` will bring it."""

    @abstractmethod
    def wait(self, timeout: float | None) -> Sequence[CompletedCall]:
        """Outcomes that have come, at least one unless woken or *timeout* seconds (None = no limit) have passed."""

    @abstractmethod
    def wake(self) -> None:
        """Makes `wait` return soon. May be called from any thread."""

    def leave(self, lane: int) -> None:  # noqa: B027 (most have nothing to do)
        """No more calls will come for this lane."""

    @abstractmethod
    def close(self) -> None:
        """Ends everything that was started, what is still running too. Nothing is left behind.

        An interrupt may come in the middle of it; then it is called again.
        """


class Executor(ABC):
    """Where a workflow's steps run. It remembers settings and holds nothing: each run opens a session of its own."""

    @property
    def is_remote(self) -> bool:
        """Whether its workers are those of a cluster, whose machines may come and go. By default not."""
        return False

    @abstractmethod
    def open(self, tasks: Mapping[int, Task], report: Report) -> ExecutorSession:
        """A session for one run.

        Args:
            tasks: The run's tasks by their id.
            report: Writes a line into the run's log; for what a user should know while it happens. May be called
                from any thread.
        """


#: The earlier names, for executors that were written with them.
Crew = ExecutorSession
Answer = CompletedCall
