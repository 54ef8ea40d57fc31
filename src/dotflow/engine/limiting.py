"""Limiting: the lines of attempts that wait for the limits of their steps, and the refusals of budgets."""

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any, Final

from dotflow import clock
from dotflow.abc.limits import Ended, Holder, LimitStore, LimitUse, PlaceStore, Reached, Verdict
from dotflow.core.action import RESOURCES, AnyAction
from dotflow.core.attempt_id import ID_LENGTH, AttemptId
from dotflow.core.call import Call, Watch
from dotflow.core.durations import format_duration
from dotflow.core.events import AttemptHeld
from dotflow.core.failure import Failure
from dotflow.core.limit_rules import AT_ONCE, LEVELS, RUN, delay_of
from dotflow.core.limits import Wanted, as_amount, wanted_by
from dotflow.core.masks import Masks
from dotflow.core.resources import Resources, environ_of
from dotflow.core.task import Task
from dotflow.engine.ready import Ready
from dotflow.errors import BudgetExceeded, HistoryError, LimitTooSmall

REPORT_AFTER: Final = 60.0  # seconds that a line waits before the log says so
REPORT_AGAIN: Final = 600.0  # seconds until it says so again
NAMED: Final = 3  # holders that it names
SHOWN_AFTER: Final = 1.0  # seconds that an attempt waits before listeners are told, and until they are again
AGAIN: Final = 2.0  # seconds until a history is asked again that could not be used
DAY: Final = 86_400.0  # seconds
REFUSES: Final = 10.0  # seconds for which the answer of a budget holds in a process

Names = tuple[tuple[str, bool], ...]  # each with whether it is something of the machine


class NeverBegins(Exception):
    """An attempt never begins, since a budget has no room for it, or its limits can't be asked.

    Args:
        failure: The failure of its task.
    """

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure


class _Line:
    """The attempts that wait for the same names. Only the first one asks.

    Attributes:
        names: The names.
        waiting: Those that wait.
        asking: The number of the one that is on its way to ask; None for none.
        due: When the first one asks next, on the monotonic clock.
        since: When the line began.
        report_at: When the log says that it waits.
        tell_at: When listeners are told so.
        reason: What of which limit they are told the next time; None for nothing.
    """

    def __init__(self, names: Names, now: float) -> None:
        self.names = names
        self.waiting: deque[Ready] = deque()
        self.asking: int | None = None
        self.due = now
        self.since = now
        self.report_at = now + REPORT_AFTER
        self.tell_at = now
        self.reason: tuple[str, str] | None = None


class Limiting:
    """Asks for what attempts need of their limits right before they begin, and lets them wait.

    Args:
        store: Where it is counted.
        places: What counts what attempts have of this machine; None where none needs it, or a cluster decides.
        run_id: The run.
        origin: The first of the runs that it goes on with, or itself: what shares a budget for a run.
        priority: The priority of the run.
        masks: The secrets.
        log_line: Writes a line into the run's log.
        alert: Tells people that a budget is nearly used up.
        tell: Tells listeners that an attempt waits.
    """

    def __init__(
        self,
        store: LimitStore,
        places: PlaceStore | None,
        run_id: str,
        origin: str,
        priority: int,
        masks: Masks,
        log_line: Callable[..., None],
        alert: Callable[[str], None],
        tell: Callable[[AttemptHeld], None],
    ) -> None:
        self._store = store
        self._places = places
        self._ids: dict[int, Mapping[str, tuple[str, ...]]] = {}  # by number: what those have that run
        self._run_id = run_id
        self._origin = origin
        self._priority = priority
        self._masks = masks
        self._log_line = log_line
        self._alert = alert
        self._tell = tell
        self._lines: dict[Names, _Line] = {}
        self._due: list[tuple[float, int, _Line]] = []
        self._order = itertools.count()
        self._wanted: dict[int, tuple[AnyAction, tuple[Wanted, ...]]] = {}  # by number, with the step of the attempt
        self._since: dict[int, float] = {}  # by number: since when those wait that have not begun
        self._granted: set[int] = set()  # the numbers of those that run, or are about to
        self._held: set[int] = set()  # the numbers of those that have places, or have estimated what they use
        self._refused: set[int] = set()  # the numbers of those whose service had refused before
        self._ended: list[Ended] = []  # those that have ended, until the store knows it
        self._exceeded: dict[tuple[Any, ...], tuple[float, Verdict]] = {}  # the refusals of budgets, by what was asked
        self._is_away = False  # whether the store could not be used

    @property
    def is_waiting(self) -> bool:
        """Whether an attempt waits."""
        return bool(self._lines)

    def must_wait(self, ready: Ready, *, must: bool) -> bool:
        """Returns whether an attempt has to wait, which it then does here. Raises NeverBegins.

        Args:
            ready: The attempt.
            must: Whether it begins in any case, and is only counted.
        """
        wanted = self._wanted_of(ready)
        if not wanted:  # a cluster decides about its resources
            return False
        names = names_of(wanted)
        line = self._lines.get(names)
        if line is not None and not must and line.asking != ready.number:
            line.waiting.append(ready)
            self._since.setdefault(ready.number, clock.monotonic())
            return True
        if ready.number in self._granted:  # its session has given it back
            return False
        verdict = self._ask(ready, wanted, must=must)
        now = clock.monotonic()
        if verdict.excess is not None:
            if line is not None and line.asking == ready.number:
                line.asking = None
                self._set_due(line, now)
            self._wanted.pop(ready.number, None)
            self._since.pop(ready.number, None)
            raise NeverBegins(Failure.of(refusal_of(ready.task.name, verdict)))
        if verdict.wait is None:
            self._granted.add(ready.number)
            if verdict.ids:
                self._ids[ready.number] = verdict.ids
            if is_held(wanted):
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
        self._since.setdefault(ready.number, now)
        self._set_due(line, now + verdict.wait)
        if line.due >= self._since[ready.number] + SHOWN_AFTER:
            line.reason = verdict.name, verdict.reason
        self._report(line, ready, verdict, now)
        return True

    def waited(self, number: int) -> float:
        """Returns for how many seconds an attempt has waited that begins now."""
        since = self._since.pop(number, None) if self._since else None
        return 0.0 if since is None else clock.monotonic() - since

    def _wanted_of(self, ready: Ready) -> tuple[Wanted, ...]:
        """Returns what an attempt needs: budgets first, since nobody waits for what is refused then."""
        known = self._wanted.get(ready.number)
        if known is not None and known[0] is ready.step:  # a fallback has other ones
            return known[1]
        step = ready.step
        own, shared = (ready.inputs or (None, None))[:2] if ready.call is None else ready.call[8:10]
        try:
            found = wanted_by(step, {**(shared or {}), **(own or {})}, self._origin)
            places = () if self._places is None else self._places.wanted(step.resources)
            wanted = (*places, *(one._replace(name=self._masks.mask(one.name)) for one in found))
        except Exception as error:  # of the user's own function, or of a value that tells nothing apart
            error.add_note(f"It was raised for the limits of '{step.name}', before the attempt.")
            raise NeverBegins(Failure.of(error).masked(self._masks)) from None
        self._wanted[ready.number] = step, wanted
        return wanted

    def _holder(self, ready: Ready) -> Holder:
        return Holder(f"{self._run_id} {ready.number}", self._run_id[:ID_LENGTH], ready.task.name, self._priority)

    def _ask(self, ready: Ready, wanted: tuple[Wanted, ...], *, must: bool) -> Verdict:
        asked = tuple((one.name, one.run, *sorted(one.amounts.items())) for one in wanted)
        known = self._exceeded.get(asked)
        if known is not None and not must and clock.monotonic() < known[0]:
            return known[1]
        try:
            self._flush()
            verdict = self._ask_both(wanted, self._holder(ready), must=must)
        except HistoryError as error:  # who limits wants no more than that: nothing begins
            if not self._is_away:
                self._is_away = True
                self._log_line(f"Nothing under a limit begins, and it is tried again: {error}")
            return Verdict(None if must else AGAIN, wanted[0].name, "the history can't be used")
        if self._is_away:
            self._is_away = False
            self._log_line("The history can be used again: what waits under a limit begins.")
        self._say_reached(verdict.reached)
        if verdict.excess is not None:
            self._exceeded[asked] = clock.monotonic() + REFUSES, verdict
        return verdict

    def _ask_both(self, wanted: tuple[Wanted, ...], holder: Holder, *, must: bool) -> Verdict:
        """Asks for what the attempt needs of the machine first, and puts it back if its limits refuse."""
        places = [one for one in wanted if one.is_place]
        if not places:
            return self._store.ask(wanted, holder, must=must)
        assert self._places is not None
        verdict = self._places.ask(places, holder, must=must)
        if len(places) == len(wanted) or verdict.wait is not None:
            return verdict
        refused = True
        try:
            limits = self._store.ask(wanted[len(places) :], holder, must=must)
            refused = limits.wait is not None or limits.excess is not None
        finally:
            if refused:
                self._places.end([Ended(holder.id)])
        return limits._replace(ids=verdict.ids)

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

    def end(self, ready: Ready, used: Mapping[str, float] | None, *, has_passed: bool) -> None:
        """Notes that an attempt has ended, and makes those due that wait for its place.

        Args:
            ready: The attempt.
            used: What it has used, by unit; what is missing counts as it was estimated.
            has_passed: Whether no service has refused it.
        """
        number = ready.number
        if number not in self._granted:
            return
        self._granted.discard(number)
        _, wanted = self._wanted.pop(number, (None, ()))
        self._ids.pop(number, None)
        if number in self._held:
            self._held.discard(number)
            amounts = {unit: as_amount(amount) for unit, amount in (used or {}).items()}
            self._ended.append(Ended(self._holder(ready).id, wanted, amounts))
            names = {*names_of(wanted)}
            now = clock.monotonic()
            for line in self._lines.values():
                if line.asking is None and not names.isdisjoint(line.names) and line.due > now:
                    self._set_due(line, now)
        if number in self._refused:
            self._refused.discard(number)
            if has_passed:
                self._try(lambda: self._store.note_passed([one.name for one in wanted if is_limit(one)]))

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
        names = closed_by(self._wanted_of(ready), name)
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
        names, now = names_of(self._wanted_of(ready)), clock.monotonic()
        line = self._lines.get(names)
        if line is None:
            line = self._lines[names] = _Line(names, now)
        line.waiting.appendleft(ready)
        if line.asking is None:
            self._set_due(line, now + seconds)

    def prepared(self, call: Call, task: Task) -> Call:
        """Returns the call of an attempt that knows what it has of the machine, and says what it has used."""
        step = call.step
        if self._places is not None and step.resources:
            ids = self._ids.get(call.number, {})
            had = {name.lower(): ids.get(name.lower(), amount) for name, amount in step.resources.items()}
            if step.takes_resources:
                call = call._replace(arguments={**(call.arguments or {}), RESOURCES: Resources(had)})
            if step.is_apart:
                call = call._replace(environ=environ_of(had))
        if call.watch is not None or not any(
            part.unit for one in (*call.step.policy.limits, *call.step.policy.budgets) for part in one.parts
        ):
            return call
        return call._replace(watch=Watch(AttemptId(self._run_id, task.task_id, task.attempt, task.item)))

    def take_all(self) -> list[Ready]:
        """Removes all that wait, and returns it."""
        taken = [ready for line in self._lines.values() for ready in line.waiting]
        self._lines.clear()
        self._due.clear()
        for ready in taken:
            self._wanted.pop(ready.number, None)
            self._since.pop(ready.number, None)
        return taken

    def flush(self) -> None:
        """Writes which attempts have ended, and tells listeners who waits, before the run waits."""
        if self._ended:
            self._try(self._flush)
        now = clock.monotonic()
        for line in self._lines.values():
            if line.reason is not None and line.asking is None and line.tell_at <= now:
                task, at = line.waiting[0].task, clock.as_datetime(clock.moment_at(now))
                what = (*line.reason, len(line.waiting), line.due, at, now)
                line.reason, line.tell_at = None, now + SHOWN_AFTER
                self._tell(AttemptHeld(task.task_id, task.attempt + 1, *what, task.item))

    def close(self) -> None:
        """Ends all attempts of a session that was closed."""
        self.take_all()
        self._ended += [Ended(f"{self._run_id} {number}") for number in self._held]
        for one in (self._held, self._granted, self._refused, self._wanted, self._since, self._ids):
            one.clear()
        self.flush()

    def _flush(self) -> None:
        if self._ended:
            if self._places is not None:
                self._places.end([Ended(one.id) for one in self._ended])
            limits = [one for one in self._ended if not (one.wanted and all(each.is_place for each in one.wanted))]
            reached = self._store.end(limits) if limits else ()
            self._ended.clear()
            self._say_reached(reached)

    def _say_reached(self, reached: Iterable[Reached]) -> None:
        for one in reached:
            self._alert(shown_reached(one, self._run_id))

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
        holders = self._holders(line.names, verdict.name) if verdict.is_place else ""
        self._log_line(f"{ready.task.name}{more} has waited {since} for {verdict.name} ({verdict.reason}){holders}.")

    def _holders(self, names: Names, name: str) -> str:
        """Returns which attempts are those at once: `, held by 4c1e77aa call[2] and 2 more`."""
        uses: list[LimitUse] = []
        store = self._places if self._places is not None and (name, True) in names else self._store
        self._try(lambda: uses.extend(store.uses()))
        held = [f"{one.run} {one.task}" for use in uses if use.name == name for one in use.held]
        more = f" and {len(held) - NAMED} more" if len(held) > NAMED else ""
        return f", held by {', '.join(held[:NAMED])}{more}" if held else ""


def refusal_of(step: str, verdict: Verdict) -> BudgetExceeded | LimitTooSmall:
    """Returns the error of an attempt, or of a call, that never begins."""
    excess, name = verdict.excess, verdict.name
    assert excess is not None
    part, needs = excess.part, excess.part.shown(excess.needs) if excess.needs else ""
    if not excess.is_budget:
        return LimitTooSmall(step, name, part.text, needs)
    again = ""
    if excess.again is not None:
        moment = clock.now() + timedelta(seconds=excess.again)
        again = f"{moment.astimezone():%H:%M}" if excess.again < DAY else f"{moment.astimezone():%Y-%m-%d %H:%M}"
    return BudgetExceeded(step, name, part.text, part.shown(excess.used), needs, again)


def shown_reached(reached: Reached, run_id: str) -> str:
    """Returns what people are told of a budget."""
    name, part, used, level = reached
    where = f" in run {run_id[:ID_LENGTH]}" if part.period == RUN else ""
    more = " What needs more is refused." if level == LEVELS[0] else ""
    return f"{name} has used {part.shown(used)} of {part.text}{where} ({used * 100 // part.amount} %).{more}"


def names_of(wanted: Iterable[Wanted]) -> Names:
    """Returns what an attempt waits for: those that wait for the same are one line."""
    return tuple((one.name, one.is_place) for one in wanted)


def is_limit(wanted: Wanted) -> bool:
    """Returns whether something is a limit, and neither a budget nor something of the machine."""
    return not wanted.run and not wanted.is_place


def is_held(wanted: Iterable[Wanted]) -> bool:
    """Returns whether what is granted counts until it ends: it is a place, or was estimated."""
    return any(part.period == AT_ONCE or part.unit for one in wanted for part in one.parts)


def closed_by(wanted: Iterable[Wanted], name: str) -> list[str]:
    """Returns the names that a refusal closes.

    Args:
        wanted: What was granted.
        name: The limit that the step has named; "" for all of the step.
    """
    limits = [one for one in wanted if is_limit(one)]
    return [one.name for one in limits if name in ("", one.name, one.shared)] or [name] * bool(name)
