"""Limiting: the lines of attempts that wait for the limits of their steps."""

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

from dotflow import clock
from dotflow.abc.limits import Holder, LimitStore, Verdict, Wanted
from dotflow.core.attempt_id import ID_LENGTH
from dotflow.core.durations import format_duration
from dotflow.core.limit_rules import delay_of
from dotflow.core.limits import AT_ONCE, name_of
from dotflow.core.masks import Masks
from dotflow.engine.ready import Ready
from dotflow.errors import HistoryError

REPORT_AFTER: Final = 60.0  # seconds that a line waits before the log says so
REPORT_AGAIN: Final = 600.0  # seconds until it says so again
AGAIN: Final = 2.0  # seconds until a history is asked again that could not be used

Names = tuple[str, ...]


class _Line:
    """The attempts that wait for the same names. Only the first one asks.

    Attributes:
        names: The names.
        waiting: Those that wait.
        asking: The number of the one that is on its way to ask; None for none.
        due: When the first one asks next, on the monotonic clock.
        since: When the line began.
        report_at: When the log says that it waits.
    """

    def __init__(self, names: Names, now: float) -> None:
        self.names = names
        self.waiting: deque[Ready] = deque()
        self.asking: int | None = None
        self.due = now
        self.since = now
        self.report_at = now + REPORT_AFTER


class Limiting:
    """Asks for what attempts need of their limits right before they begin, and lets them wait.

    Args:
        store: Where it is counted.
        run_id: The run.
        masks: The secrets.
        log_line: Writes a line into the run's log.
    """

    def __init__(self, store: LimitStore, run_id: str, masks: Masks, log_line: Callable[..., None]) -> None:
        self._store = store
        self._run_id = run_id
        self._masks = masks
        self._log_line = log_line
        self._lines: dict[Names, _Line] = {}
        self._due: list[tuple[float, int, _Line]] = []
        self._order = itertools.count()
        self._wanted: dict[int, tuple[Wanted, ...]] = {}  # of attempts that wait or run, by number
        self._granted: set[int] = set()  # the numbers of those that run, or are about to
        self._held: set[int] = set()  # the numbers of those that count as attempts at once
        self._refused: set[int] = set()  # the numbers of those whose service had refused before
        self._ended: list[str] = []  # the ids of those that have ended, until the store knows it
        self._is_away = False  # whether the store could not be used

    @property
    def is_waiting(self) -> bool:
        """Whether an attempt waits."""
        return bool(self._lines)

    def must_wait(self, ready: Ready, *, must: bool) -> bool:
        """Returns whether an attempt has to wait, which it then does here. Raises TypeError for a name.

        Args:
            ready: The attempt.
            must: Whether it begins in any case, and is only counted.
        """
        wanted = self._wanted_of(ready)
        names = tuple(one.name for one in wanted)
        line = self._lines.get(names)
        if line is not None and not must and line.asking != ready.number:
            line.waiting.append(ready)
            return True
        if ready.number in self._granted:  # its session has given it back
            return False
        verdict = self._ask(ready, wanted, must=must)
        now = clock.monotonic()
        if verdict.wait is None:
            self._granted.add(ready.number)
            if any(part.period == AT_ONCE for one in wanted for part in one.parts):
                self._held.add(ready.number)
            if verdict.refused:
                self._refused.add(ready.number)
            if line is not None and line.asking == ready.number:
                line.asking = None
                self._set_due(line, now)
            return False
        if line is None:
            line = self._lines[names] = _Line(names, now)
        line.asking = None
        line.waiting.appendleft(ready)
        self._set_due(line, now + verdict.wait)
        self._report(line, ready, verdict, now)
        return True

    def _wanted_of(self, ready: Ready) -> tuple[Wanted, ...]:
        wanted = self._wanted.get(ready.number)
        if wanted is None or ready.call is not None:  # a fallback has other ones
            own, shared = (ready.inputs or (None, None))[:2] if ready.call is None else ready.call[8:10]
            arguments: Mapping[str, Any] = {**(shared or {}), **(own or {})}
            wanted = tuple(
                Wanted(self._masks.mask(name_of(one, step.identity, arguments)), one.name or step.identity, one.parts)
                for step in (ready.step,)
                for one in step.policy.limits
            )
            self._wanted[ready.number] = wanted
        return wanted

    def _holder(self, ready: Ready) -> Holder:
        return Holder(f"{self._run_id} {ready.number}", self._run_id[:ID_LENGTH], ready.task.name)

    def _ask(self, ready: Ready, wanted: tuple[Wanted, ...], *, must: bool) -> Verdict:
        try:
            self._flush()
            verdict = self._store.ask(wanted, self._holder(ready), must=must)
        except HistoryError as error:  # who limits wants no more than that: nothing begins
            if not self._is_away:
                self._is_away = True
                self._log_line(f"Nothing under a limit begins, and it is tried again: {error}")
            return Verdict(None if must else AGAIN, wanted[0].name, "the history can't be used")
        if self._is_away:
            self._is_away = False
            self._log_line("The history can be used again: what waits under a limit begins.")
        return verdict

    def _set_due(self, line: _Line, due: float) -> None:
        if not line.waiting:
            del self._lines[line.names]
            return
        line.due = due
        heapq.heappush(self._due, (due, next(self._order), line))

    def next_due(self) -> float:
        """Returns when the next attempt asks, on the monotonic clock; infinity where none waits."""
        while self._due:
            due, _, line = self._due[0]
            if line.due == due and line.asking is None and self._lines.get(line.names) is line:
                return due
            heapq.heappop(self._due)
        return math.inf

    def take_due(self, now: float) -> list[Ready]:
        """Returns the attempts that ask now, once there is room for them."""
        taken = []
        while self.next_due() <= now:
            line = heapq.heappop(self._due)[2]
            ready = line.waiting.popleft()
            line.asking = ready.number
            taken.append(ready)
        return taken

    def end(self, ready: Ready, *, has_passed: bool) -> None:
        """Notes that an attempt has ended, and makes those due that wait for its place."""
        number = ready.number
        if number not in self._granted:
            return
        self._granted.discard(number)
        wanted = self._wanted.pop(number, ())
        if number in self._held:
            self._held.discard(number)
            self._ended.append(self._holder(ready).id)
            names = {one.name for one in wanted}
            now = clock.monotonic()
            for line in self._lines.values():
                if line.asking is None and not names.isdisjoint(line.names) and line.due > now:
                    self._set_due(line, now)
        if number in self._refused:
            self._refused.discard(number)
            if has_passed:
                self._try(lambda: self._store.note_passed([one.name for one in wanted]))

    def throttle(self, ready: Ready, after: float | None, name: str) -> tuple[float, int, str] | None:
        """Closes what has refused an attempt.

        Args:
            ready: The attempt.
            after: The seconds that the service has named; None for none.
            name: The limit that the step has named; "" for all of the step.

        Returns:
            For how many seconds, how often it has refused since an attempt got through, and a note for people; None
            where there is nothing to close.
        """
        wanted = self._wanted_of(ready)
        names = [one.name for one in wanted if name in ("", one.name, one.shared)] or [name] * bool(name)
        self._refused.discard(ready.number)
        if not names:
            return None
        closed: list[tuple[float, int]] = []
        self._try(lambda: closed.append(self._store.throttle(names, after, self._holder(ready))))
        seconds, refused = closed[0] if closed else (delay_of(after, 0), 1)
        shown = self._masks.mask(", ".join(names))
        return seconds, refused, f"{shown} is closed for {format_duration(seconds)}"

    def put_back(self, ready: Ready, seconds: float) -> None:
        """Lets an attempt wait, the first of its line, that has begun and was refused."""
        names, now = tuple(one.name for one in self._wanted_of(ready)), clock.monotonic()
        line = self._lines.get(names)
        if line is None:
            line = self._lines[names] = _Line(names, now)
        line.waiting.appendleft(ready)
        if line.asking is None:
            self._set_due(line, now + seconds)

    def take_all(self) -> list[Ready]:
        """Removes all that wait, and returns it."""
        taken = [ready for line in self._lines.values() for ready in line.waiting]
        self._lines.clear()
        self._due.clear()
        for ready in taken:
            self._wanted.pop(ready.number, None)
        return taken

    def flush(self) -> None:
        """Writes which attempts have ended, before the run waits."""
        if self._ended:
            self._try(self._flush)

    def close(self) -> None:
        """Ends all attempts of a session that was closed."""
        self.take_all()
        self._ended += [f"{self._run_id} {number}" for number in self._held]
        for one in (self._held, self._granted, self._refused, self._wanted):
            one.clear()
        self.flush()

    def _flush(self) -> None:
        if self._ended:
            self._store.end(self._ended)
            self._ended.clear()

    def _try(self, work: Callable[[], object]) -> None:
        try:
            work()
        except HistoryError as error:
            self._log_line(f"A limit could not be written: {error}")

    def _report(self, line: _Line, ready: Ready, verdict: Verdict, now: float) -> None:
        """Writes a line into the log, once the attempts have waited for long."""
        if now < line.report_at:
            return
        line.report_at = now + REPORT_AGAIN
        more = f" and {len(line.waiting) - 1} more" if len(line.waiting) > 1 else ""
        since = format_duration(now - line.since)
        self._log_line(f"{ready.task.name}{more} has waited {since} for {verdict.name} ({verdict.reason}).")
