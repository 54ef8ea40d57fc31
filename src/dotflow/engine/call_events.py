"""CallEvents: the events of the calls of durable steps, on their way to the thread of the run."""

from collections import deque
from collections.abc import Callable
from threading import get_ident
from typing import Any, Final

from dotflow import clock
from dotflow.calls.keys import shown_arguments
from dotflow.core.approval import Answer
from dotflow.core.calls import CallAnswer, CallFollower, CallRequest
from dotflow.core.events import AttemptHeld, CallBegan, CallEnded, CallEvent, CallsCounted, CallWaits
from dotflow.core.failure import Failure
from dotflow.core.masks import Masks
from dotflow.core.task import Task
from dotflow.engine.approvals import Approvals
from dotflow.engine.call_limits import CallLimits
from dotflow.engine.publisher import Publisher
from dotflow.records.preview import preview

INTERVAL: Final = 0.05  # seconds between two looks for what other threads have noted


class CallEvents(CallFollower):
    """Follows the calls of the durable steps of a run. Bodies in other threads don't wait for it.

    Args:
        publisher: Passes the events to history, listeners and tracer.
        masks: The secrets, which no event shows.
        approvals: Asks people.
        limits: Asks for what calls need of their limits.
        is_pausing: Returns whether the run pauses.
        wake: Wakes the thread of the run.
    """

    def __init__(
        self,
        publisher: Publisher,
        masks: Masks,
        approvals: Approvals | None,
        limits: CallLimits,
        is_pausing: Callable[[], bool],
        wake: Callable[[], object],
    ) -> None:
        self.is_following = publisher.has_listeners
        self._publisher = publisher
        self._masks = masks
        self._approvals = approvals
        self._limits = limits
        self._is_pausing = is_pausing
        self._wake = wake
        self._thread = get_ident()
        self._waiting: deque[CallEvent | AttemptHeld] = deque()  # of bodies in other threads
        self._has_woken = False
        self._due = 0.0  # when what waits is recorded, by `clock.monotonic`

    @property
    def is_pausing(self) -> bool:
        return self._is_pausing()

    def begin_attempt(self, task: Task, kept: int) -> None:
        self._publisher.log_goes_on(task, kept)

    def end_attempt(self, task: Task, made: int, given: int, cached: int) -> None:
        self._publisher.log_calls(task, made, given, cached)

    def count_calls(self, task: Task, kept: int, given: int) -> None:
        self._pass(CallsCounted(task.task_id, task.attempt, kept, given, task.item))

    def begin_call(self, task: Task, number: int, request: CallRequest) -> None:
        arguments = shown_arguments(self._masks.mask_end(request.beginning))
        name = request.name.rpartition(":")[2].rpartition(".")[2]
        at, tick = clock.now(), clock.monotonic()
        fields = (task.task_id, task.attempt, number, name, arguments, request.depth, request.key, at, tick, task.item)
        self._pass(CallBegan(*fields, request.name))

    def end_call(
        self, task: Task, number: int, tick: float, end: Any, text: str = "", *, is_cached: bool = False
    ) -> None:
        failure = end.masked(self._masks) if isinstance(end, Failure) else None
        shown = "" if failure is not None or end is None else preview(end, self._masks)
        self._pass(CallEnded(task.task_id, task.attempt, number, shown, failure, tick, task.item, text, is_cached))

    def wait_call(self, task: Task, number: int, asked: int, note: str) -> None:
        self._pass(CallWaits(task.task_id, task.attempt, number, asked, self._masks.mask(note), task.item))

    def grant(self, task: Task, request: CallRequest, *, must: bool) -> CallAnswer:
        name = request.name.rpartition(":")[2].rpartition(".")[2]
        return self._limits.grant(task, request.key, name, request.value, None if must else self._pass)

    def free(self, task: Task, request: CallRequest) -> CallAnswer:
        used, has_passed, refused = request.value
        return self._limits.end(task, request.key, used, refused, has_passed=has_passed)

    def close(self) -> None:
        """Ends what calls were granted, in a run that is over."""
        self._limits.close()

    def ask(self, task: Task, request: CallRequest, nth: int) -> Answer:
        assert self._approvals is not None, "durable steps may ask"
        return self._approvals.ask_call(task, request, nth)

    def _pass(self, event: CallEvent | AttemptHeld) -> None:
        """Passes an event. In the thread of the run, which waits for the body, no call begins unrecorded."""
        if get_ident() != self._thread:
            self._waiting.append(event)
            if not self._has_woken:
                self._has_woken = True
                self._wake()
            return
        self._publisher.record_call(event)
        if not isinstance(event, CallEnded | CallWaits | AttemptHeld):
            self._publisher.settle(begins=True)

    def settle(self) -> None:
        if self._has_woken and get_ident() == self._thread:
            self.collect(is_due=True)
            self._publisher.settle(begins=True)

    def collect(self, *, is_due: bool = False) -> float | None:
        """Records what other threads have noted, if it is time for it or an attempt has ended, in the run's thread.

        Returns the seconds until it is time; None while nothing waits.
        """
        if not self._has_woken:
            return None
        left = self._due - clock.monotonic()
        if left > 0 and not is_due:
            return left
        self._has_woken = False  # first: what is noted from now on sets it again
        self._due = clock.monotonic() + INTERVAL
        while self._waiting:
            self._publisher.record_call(self._waiting.popleft())
        return None
