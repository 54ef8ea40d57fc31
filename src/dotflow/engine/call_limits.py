"""CallLimits: asks for what the calls of durable steps need of their limits, in any thread."""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from dotflow import clock
from dotflow.abc.limits import Ended, Holder, LimitStore, Reached
from dotflow.core.attempt_id import ID_LENGTH
from dotflow.core.calls import CallAnswer, TypeRequest
from dotflow.core.durations import format_duration
from dotflow.core.events import AttemptHeld
from dotflow.core.limit_rules import MAX_THROTTLES, delay_of
from dotflow.core.limits import Wanted, as_amount
from dotflow.core.masks import Masks
from dotflow.core.task import Task
from dotflow.engine.limiting import AGAIN, SHOWN_AFTER, closed_by, is_held, refusal_of, shown_reached
from dotflow.errors import HistoryError, Throttled

MAKE: Final = CallAnswer(TypeRequest.MAKE)
DONE: Final = CallAnswer(TypeRequest.DONE)


class CallLimits:
    """Asks for what calls need right before they are made. A call waits in its body, which asks again.

    Args:
        find_store: Returns where it is counted.
        run_id: The run.
        origin: The first of the runs that it goes on with, or itself: what shares a budget for a run.
        priority: The priority of the run.
        masks: The secrets.
        log_line: Writes a line into the run's log.
        alert: Tells people that a budget is nearly used up.
    """

    def __init__(
        self,
        find_store: Callable[[], LimitStore],
        run_id: str,
        origin: str,
        priority: int,
        masks: Masks,
        log_line: Callable[..., None],
        alert: Callable[[str], None],
    ) -> None:
        self._find_store = find_store
        self._run_id = run_id
        self._origin = origin
        self._priority = priority
        self._masks = masks
        self._log_line = log_line
        self._alert = alert
        self._store: LimitStore | None = None
        self._granted: dict[str, tuple[tuple[Wanted, ...], int]] = {}  # by id, with the refusals before
        self._tell_at: dict[tuple[int, int | None], float] = {}  # by task and item: when listeners are told again
        self._mutex = threading.Lock()
        self._is_away = False  # whether the store could not be used

    def _find(self) -> LimitStore:
        with self._mutex:
            if self._store is None:
                self._store = self._find_store()
            return self._store

    def grant(
        self, task: Task, number: str, action: str, wanted: Sequence[Wanted], tell: Callable[[AttemptHeld], None] | None
    ) -> CallAnswer:
        """Grants a call what it needs: MAKE. Or WAIT, with the seconds and what for; or FAIL, with the error.

        Args:
            task: The task or the item.
            number: An id of the call.
            action: The name of its action.
            wanted: What it needs; `run` is anything for what it needs of budgets.
            tell: Tells listeners that it waits; None for a cleanup, which begins in any case.
        """
        needs = tuple(
            one._replace(name=self._masks.mask(one.name), run=self._origin if one.run else "") for one in wanted
        )
        try:
            verdict = self._find().ask(needs, self._holder(task, number), must=tell is None)
        except HistoryError as error:  # who limits wants no more than that: nothing begins
            if tell is None:
                return MAKE
            if not self._is_away:
                self._is_away = True
                self._log_line(f"Nothing under a limit begins, and it is tried again: {error}")
            return CallAnswer(TypeRequest.WAIT, (AGAIN, f"waits for {needs[0].name} (the history can't be used)"))
        self._is_away = False
        self._say_reached(verdict.reached)
        if verdict.excess is not None:
            return CallAnswer(TypeRequest.FAIL, refusal_of(action, verdict))
        if verdict.wait is None:
            self._granted[number] = needs, verdict.refused
            return MAKE
        if tell is not None:
            self._show(task, verdict.name, verdict.reason, verdict.wait, tell)
        return CallAnswer(TypeRequest.WAIT, (verdict.wait, f"waits for {verdict.name} ({verdict.reason})"))

    def end(
        self,
        task: Task,
        number: str,
        used: Mapping[str, float],
        refused: tuple[float | None, str] | None = None,
        *,
        has_passed: bool = False,
    ) -> CallAnswer:
        """Notes that a call has ended. Of one that a service has refused: WAIT, or FAIL where it was too often.

        Args:
            task: The task or the item.
            number: The id of the call.
            used: What it has used, by unit; what is missing counts as it was estimated.
            refused: The seconds that a service has named, None for none; and the limit, "" for all of the call.
            has_passed: Whether no service has refused it.
        """
        wanted, before = self._granted.pop(number, ((), 0))
        holder = self._holder(task, number)
        try:
            if is_held(wanted):
                amounts = {unit: as_amount(amount) for unit, amount in used.items()}
                self._say_reached(self._find().end([Ended(holder.id, wanted, amounts)]))
            if before and has_passed:
                self._find().note_passed([one.name for one in wanted if not one.run])
        except HistoryError as error:
            self._log_line(f"A limit could not be written: {error}")
        return DONE if refused is None else self._close(closed_by(wanted, refused[1]), *refused, holder)

    def _close(self, names: list[str], after: float | None, name: str, holder: Holder) -> CallAnswer:
        seconds, count = delay_of(after, 0), 1
        try:
            if names:
                seconds, count = self._find().throttle(names, after, holder)
        except HistoryError as error:
            self._log_line(f"A limit could not be written: {error}")
        shown = self._masks.mask(", ".join(names))
        if count >= MAX_THROTTLES:
            return CallAnswer(TypeRequest.FAIL, Throttled(after, name or shown, count))
        return CallAnswer(TypeRequest.WAIT, (seconds, f"{shown} is closed for {format_duration(seconds)}, waits"))

    def close(self) -> None:
        """Ends all calls of a run that is over."""
        with self._mutex:
            ended = [Ended(f"{self._run_id} {number}", wanted) for number, (wanted, _) in self._granted.items()]
            self._granted.clear()
        if ended:
            try:
                self._find().end([one._replace(wanted=()) for one in ended])
            except HistoryError as error:
                self._log_line(f"A limit could not be written: {error}")

    def _say_reached(self, reached: Iterable[Reached]) -> None:
        for one in reached:
            self._alert(shown_reached(one, self._run_id))

    def _holder(self, task: Task, number: str) -> Holder:
        return Holder(f"{self._run_id} {number}", self._run_id[:ID_LENGTH], task.name, self._priority)

    def _show(self, task: Task, name: str, reason: str, wait: float, tell: Callable[[AttemptHeld], None]) -> None:
        """Tells listeners that a call waits, at most once a second for its task."""
        now, key = clock.monotonic(), (task.task_id, task.item)
        if now >= self._tell_at.get(key, now):
            self._tell_at[key] = now + SHOWN_AFTER
            at = clock.as_datetime(clock.moment_at(now))
            tell(AttemptHeld(task.task_id, task.attempt, name, reason, 1, now + wait, at, now, task.item))
