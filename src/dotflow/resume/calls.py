"""Kept: the calls of durable steps in the storage of a run, which a later attempt or run is given back."""

import contextlib
import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from dotflow import clock
from dotflow.abc.storage import Storage
from dotflow.calls.keys import root_of, shown
from dotflow.calls.port import LocalPort
from dotflow.code.fingerprint import can_compare
from dotflow.core.call import KEY_BASE, Call
from dotflow.core.calls import Asking, CallAnswer, CallFollower, CallRequest, Polling, TypeRequest
from dotflow.core.context import NOTHING, Context, Origin
from dotflow.core.failure import Failure
from dotflow.core.faults import ACTIVE, next_failures, node_of
from dotflow.core.outcome import Parked, TypePark
from dotflow.core.task import Task
from dotflow.core.text import count_calls
from dotflow.errors import CheckpointUnreadable, HistoryError, LeaseLost, NotServable, StorageError, ValueNotStorable
from dotflow.resume.cache import Cache
from dotflow.resume.checkpoint_keys import CALL, OF_CALL
from dotflow.resume.journal import Journal
from dotflow.resume.turns import Turn
from dotflow.worker.files import change_since

if TYPE_CHECKING:  # few steps ask
    from dotflow.core.approval import Answer, Question

VOIDED: Final = "call "  # begins the name of a call in the journal, where its idempotency keys are counted
AGAIN: Final = "@calls "  # begins that of a step of which calls were voided by their numbers
MAX_NAMED: Final = 10  # calls in a line of the log
MANY: Final = 10_000  # calls of an attempt, at which the log names a map
POLLED: Final = "polled"  # in the links of a record: how often a call has asked that is not ready yet
NUMBER: Final = "number"  # in the links of a record: that of the call
COUNT_INTERVAL: Final = 1.0  # seconds between two counts of an attempt's calls

MAKE: Final = CallAnswer(TypeRequest.MAKE)
STOP: Final = CallAnswer(TypeRequest.STOP, Parked(TypePark.PAUSE))
DONE: Final = CallAnswer(TypeRequest.DONE)


class Kept:
    """The calls of the durable steps of one run.

    Args:
        storage: Where they are kept.
        journal: What the storage has beside them.
        turn: Whether its values count, and when it may save them.
        follower: The loop of the run.
        cache: The cached values.
        goes_on: Whether the run goes on with earlier ones.
        voids_changed: Whether calls don't count whose code has changed.
        run: The run, as the inputs of its values name it.
        codes: The fingerprints of the actions that durable steps call, by their identities.
        log_line: Writes a line into the log.

    Attributes:
        is_lost: Whether another process has the workflow now.
    """

    def __init__(
        self,
        storage: Storage,
        journal: Journal,
        turn: Turn,
        follower: CallFollower,
        cache: Cache,
        *,
        goes_on: bool,
        voids_changed: bool,
        run: str,
        codes: Mapping[str, str],
        log_line: Callable[..., None],
    ) -> None:
        self.storage = storage
        self.journal = journal
        self.turn = turn
        self.goes_on = goes_on
        self.voids_changed = voids_changed
        self.run = run
        self.codes = codes
        self.log_line = log_line
        self.is_lost = False
        self.follower = follower
        self.cache = cache
        self._nodes: dict[str, NodeCalls] = {}  # by the key of the task or the item

    def attach(self, call: Call, task: Task, key: str, name: str, *, always: bool) -> Call:
        """Returns the call of an attempt of a durable step with its way to here.

        Args:
            call: The call.
            task: The task or the item.
            key: The key of its value.
            name: The name of the task in its keys.
            always: Whether it cleans up, so that no pause stops it.
        """
        assert call.secrets is not None
        node = self._nodes.get(key)
        if node is None or node.root != root_of(call.secrets[KEY_BASE]):
            node = self._nodes[key] = NodeCalls(self, task, key, name, root_of(call.secrets[KEY_BASE]), always=always)
        storage = self.storage
        lasts = storage.outlives_process
        port = LocalPort(node.begin(), is_slow=lasts, is_followed=self.follower.is_following, must_copy=not lasts)
        return call._replace(port=port)

    def end_attempt(self, key: str, *, is_over: bool) -> None:
        """Counts the calls of an attempt that has ended; one that is not *over* goes on later."""
        node = self._nodes.get(key)
        if node is not None and node.attempt is not None:
            node.attempt.end(is_over=is_over)

    def questions_of(self, key: str, calls: Iterable[str]) -> "list[Question]":
        """Returns the questions of calls of the last attempt of a task or an item."""
        node = self._nodes.get(key)
        asked = {} if node is None or node.attempt is None else node.attempt.questions
        return [asked[call] for call in calls if call in asked]

    def complete(self, key: str) -> None:
        """Reports the calls that the attempt which has completed did not ask for, and deletes those of another base."""
        node = self._nodes.get(key)
        if node is not None:
            node.complete()


def list_calls(storage: Storage, key: str, root: str = "") -> list[str]:
    """Returns the keys of the kept calls below that of a task or an item, as far as the storage lists them."""
    prefix = f"{key}{CALL}"
    return [one for one in storage.list_keys(f"{prefix}{root}") if OF_CALL.fullmatch(one, len(key))]


def number_of(context: Context | None) -> int:
    """Returns the number of a kept call; 0 where it has none."""
    text = "" if context is None else (context._links or {}).get(NUMBER, "")
    return int(text) if text.isascii() and text.isdigit() else 0


def list_calls_from(storage: Storage, key: str, number: int) -> list[str]:
    """Returns the keys of the kept calls from a number on, and of the durable calls that enclose one of them.

    Raises:
        StorageError: The storage lists no keys.
        CheckpointUnreadable: One of them can't be read.
    """
    if type(storage).list_keys is Storage.list_keys:
        what = f"The calls from number {number} on can't be found in {type(storage).__name__}"
        raise StorageError(what, "it lists no keys")
    places = list_calls(storage, key)
    kept = {place[len(key) + len(CALL) :]: (place, storage.get(place)) for place in places}
    found: dict[str, None] = {}
    for place, context in kept.values():
        if number_of(context) >= number:
            found[place] = None
            while (outer := kept.get((context._links or {}).get("base", ""))) is not None:
                place, context = outer
                found[place] = None
    return list(found)


def is_waiting(context: Context) -> bool:
    """Returns whether it is the record of a call with `poll` that is not ready yet, and has no value."""
    return POLLED in (context._links or {})


class CallsAhead:
    """The kept calls with which durable steps would go on, for a plan.

    Args:
        storage: Where they are kept.
        codes: The fingerprints of the actions that durable steps call, by their identities.
        voids_changed: Whether calls don't count whose code has changed.
        from_calls: By the key of a value, the number from which on the calls of its step don't count.
    """

    def __init__(
        self, storage: Storage, codes: Mapping[str, str], *, voids_changed: bool, from_calls: Mapping[str, int]
    ) -> None:
        self._storage = storage
        self._codes = codes
        self._voids_changed = voids_changed
        self._from_calls = from_calls

    def of(self, nodes: Iterable[tuple[str, str]]) -> str:
        """Returns how a step goes on, as in "goes on with 12 calls, 3 of search are made again"; "" without calls.

        *nodes* are the keys of the values of its task or items, each with what the keys of its calls are made from.
        """
        count, again = 0, Counter[str]()
        for key, base in nodes:
            found = list_calls(self._storage, key, root_of(base))
            if key in self._from_calls:
                void = {*list_calls_from(self._storage, key, self._from_calls[key])}
                found = [one for one in found if one not in void]
            count += len(found)
            for one in found if self._voids_changed else ():
                context = self._storage.get(one)
                name = context.step or "?"
                saved, now = context._origin.code, self._codes.get(name, "")
                if saved and now and saved != now and can_compare(saved, now):
                    again[name.rpartition(":")[2]] += 1
        if not count:
            return ""
        voided = [f", {number} of {name} {'is' if number == 1 else 'are'} made again" for name, number in again.items()]
        return f"goes on with {count_calls(count)}{''.join(voided)}"


class NodeCalls:
    """The calls of one task or item in a run.

    Args:
        kept: The calls of the run.
        task: The task or the item.
        key: The key of its value.
        name: The name of the task in its keys.
        root: The beginning of the keys of its calls.
        always: Whether it cleans up.
    """

    def __init__(self, kept: Kept, task: Task, key: str, name: str, root: str, *, always: bool) -> None:
        self.kept = kept
        self.task = task
        self.key = key
        self.root = root
        self.always = always
        self._name = name
        self._own: set[str] = set()  # the calls that this run has kept, and those of earlier runs that it has listed
        self._others: list[str] | None = None  # listed ones that are made from another base; None before the list
        self._begun = 0  # the last attempt that has begun
        self._numbers: Iterator[int] | None = None  # of the calls that are made
        self._numbering = threading.Lock()
        self._has_noted = False
        self.attempt: AttemptCalls | None = None
        self.unknown: set[str] = set()  # the names of actions of which it is unknown whether their code has changed
        self.changed: dict[str, int] = {}  # by the name of an action, how many calls were given that other code made

    def begin(self) -> "AttemptCalls":
        """Begins an attempt. What still comes from the one before is refused."""
        if self.attempt is not None:
            self.attempt.is_over = True
        elif self.kept.goes_on and self.task.item is None:  # a list for each of many items would take long
            with contextlib.suppress(Exception):  # the storage may be the user's: the first call raises it
                self._list()
        goes_on = self.attempt if self.task.attempt == self._begun else None  # it has stopped between two calls
        if self._own and goes_on is None:
            self.kept.follower.begin_attempt(self.task, len(self._own))
        self._begun = self.task.attempt
        self.attempt = AttemptCalls(self, goes_on)
        return self.attempt

    def _list(self) -> None:
        """Notes the calls that earlier runs have kept, as far as the storage lists them. Only this run adds any."""
        if self.kept.goes_on and self._others is None:
            start = len(self.key_of(""))
            listed = [place[start:] for place in list_calls(self.kept.storage, self.key)]
            self._own.update(key for key in listed if key.startswith(self.root))
            self._others = [key for key in listed if not key.startswith(self.root)]

    def key_of(self, key: str) -> str:
        """Returns the key of a call in the storage."""
        return f"{self.key}{CALL}{key}"

    def may_have(self, key: str) -> bool:
        """Returns whether an earlier attempt may have kept a call."""
        return self.kept.goes_on or key in self._own

    def read(self, key: str) -> Context | None:
        """Returns what was kept of a call; None for nothing. Raises CheckpointUnreadable."""
        storage, place = self.kept.storage, self.key_of(key)
        try:
            context = storage.get(place)
        except CheckpointUnreadable as error:
            where = f"{type(storage).__name__} under {place!r}"
            raise error.at(where, f"{self.task.task_id} {self.task.name}") from error.__cause__
        if context.task_id is None and context.storage is None:
            return None
        return context

    def number(self) -> int:
        """Returns the number of a call that is made now: they go on where the runs before have ended."""
        with self._numbering:
            if self._numbers is None:
                self._numbers = itertools.count(self._last_number() + 1)
            return next(self._numbers)

    def _last_number(self) -> int:
        """Returns the greatest number of the calls that are kept. Those that were given back are known."""
        assert self.attempt is not None
        numbers = self.attempt.numbers
        last = max(numbers.values(), default=0)
        self._list()
        for key in [*self._own]:
            if key not in numbers:
                with contextlib.suppress(CheckpointUnreadable):  # raised once it is asked for
                    last = max(last, number_of(self.read(key)))
        return last

    def voided(self, key: str) -> int:
        """Returns how often a call was voided, alone or with all from a number on: its idempotency keys differ."""
        journal = self.kept.journal
        return journal.voided(f"{VOIDED}{key}") + journal.voided(f"{AGAIN}{self._name}")

    def void(self, key: str, *, takes_key: bool = True) -> None:
        """Deletes a call that was made by other code; its next idempotency key is another one."""
        with self.kept.turn.lock:
            if not self.kept.turn.is_void:
                if takes_key:
                    self.kept.journal.void([f"{VOIDED}{key}"])
                self.kept.storage.delete(self.key_of(key))
        self._own.discard(key)

    def from_cache(self, request: CallRequest) -> Context | None:
        """Returns the cached value of a call that was not kept. A cleanup has effects, so it always makes its calls."""
        if request.cached is None or self.always:
            return None
        return self.kept.cache.find_call(self.task, request.name, request.cached)

    def keep(self, request: CallRequest, number: int) -> Context:
        """Saves the end of a call, by its number, and returns it."""
        kept, task = self.kept, self.task
        context = Context(request.value, task.task_id, task.workflow_id, step=request.name)
        origin = Origin(request.digest, kept.run, request.code, request.files)
        context._set_inputs(origin, NOTHING, {**request.links, NUMBER: str(number)})
        with kept.turn.lock:
            if kept.turn.is_void:
                return context
            if not self._has_noted:
                self._has_noted = True
                names = kept.journal.fact("calls")
                if self._name not in names:
                    kept.journal.put(calls=sorted({*names, self._name}))
            kept.storage.post(self.key_of(request.key), context)
        self._own.add(request.key)
        return context

    def drop(self, keys: Iterable[str]) -> None:
        """Deletes calls."""
        with self.kept.turn.lock:
            for key in keys:
                if not self.kept.turn.is_void:
                    self.kept.storage.delete(self.key_of(key))
                self._own.discard(key)

    def complete(self) -> None:
        """Reports the calls that the attempt did not ask for, and deletes those of another base."""
        attempt, kept = self.attempt, self.kept
        if attempt is None:
            return
        attempt.is_over = True
        for name, count in self.changed.items():
            calls = "1 call was" if count == 1 else f"{count} calls were"
            kept.log_line(
                f"{self.task.name}: the code of {name} has changed since {calls} kept, which count all the same. Use "
                f"resume='changed' or --resume-changed to make them again."
            )
        if self.unknown:
            names = ", ".join(sorted(self.unknown))
            kept.log_line(
                f"{self.task.name}: whether the code of {names} has changed since calls were kept is unknown, since "
                f"another Python kept them, or the code can't be read. They count."
            )
        self._list()
        if self._others:
            self.drop(self._others)
        if orphans := self._own - attempt.numbers.keys():
            self._report(sorted(orphans))

    def _report(self, orphans: list[str]) -> None:
        """Reports calls that were not asked for any more, but those below a call that was given."""
        assert self.attempt is not None
        found: list[tuple[str, str]] = []
        given = self.attempt.given
        for key in orphans:
            context = self.read(key)
            links = {} if context is None else context._links or {}
            if context is None or links.get("base") in given or links.get("base") in orphans:
                continue
            found.append((context.time.isoformat(), shown(context.step or "?", links.get("arguments", ""))))
        if not found:
            return
        names = [name for _, name in sorted(found)]
        more = f", and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
        calls = "1 kept call was" if len(names) == 1 else f"{len(names)} kept calls were"
        self.kept.log_line(f"{self.task.name}: {calls} not asked for any more: {', '.join(names[:MAX_NAMED])}{more}")


class _Wait(NamedTuple):
    """The value of the record of a call that is not ready yet.

    Attributes:
        attempt: The attempt of the call.
        asked: How often this has asked.
        began: Its beginning.
        due: When it asks again.
    """

    attempt: int
    asked: int
    began: datetime
    due: datetime


class AttemptCalls:
    """Answers the requests of one attempt, in any thread.

    Args:
        node: The calls of the task or the item.
        before: The same of the attempt until it stopped between two calls; None where it begins.

    Attributes:
        is_over: Whether the attempt is over, so that nothing is answered any more.
        numbers: The numbers of the calls that it has asked for, by their keys.
        given: Those of them that were given back.
        questions: The questions that it has asked and that had no answer, by the keys of their calls.
    """

    def __init__(self, node: NodeCalls, before: "AttemptCalls | None" = None) -> None:
        self._node = node
        self.is_over = False
        self.numbers: dict[str, int] = {}
        self.questions: dict[str, Question] = {}
        self.given: set[str] = set()
        self._grants: set[str] = set()  # the ids of what its calls were granted
        self._running: set[str] = set()  # the keys of the calls that are made, and followed
        self._made: set[str] = set() if before is None else before._made  # the keys of all calls that it has made
        self._cached: set[str] = set() if before is None else before._cached  # and of those that were in the cache
        self._kept: int = 0 if before is None else before._kept
        self._count_at = 0.0  # when they are counted next, in ticks

    def answer(self, request: CallRequest) -> CallAnswer:
        """Returns the answer to a request."""
        node, kept = self._node, self._node.kept
        if self.is_over:
            return STOP
        if request.name in kept.codes:  # before the first attempt, and by this process
            request = request._replace(code=kept.codes[request.name])
        try:
            if request.kind is TypeRequest.ASK or request.kind is TypeRequest.WAIT:
                if not node.always and kept.follower.is_pausing:
                    return STOP
                if not kept.journal.keeps_inputs:
                    what = f"The calls of step '{node.task.name}' can't be kept in {type(kept.storage).__name__}"
                    raise StorageError(what, "it keeps values only, which don't show what they are")
                if request.kind is TypeRequest.WAIT:
                    return self._wait(request)
                answer = self._ask(request) if node.may_have(request.key) else MAKE
                if answer.kind is not TypeRequest.MAKE:
                    return answer
                if request.cached is not None and (found := node.from_cache(request)) is not None:
                    return self._give_cached(request, found)
                if answer.polled is None or request.key not in self.numbers:
                    self._begin(request)
                elif kept.follower.is_following:  # the same call of the same attempt
                    self._running.add(request.key)
                    kept.follower.wait_call(node.task, self.numbers[request.key], answer.polled[1], "")
                if ACTIVE:
                    node_and_call = node_of(node.task), request.key
                    answer = answer._replace(value=next_failures(request.name, node_and_call))
                return answer
            if request.kind is TypeRequest.LIMIT:
                return self._grant(request)
            if request.kind is TypeRequest.FREE:
                self._grants.discard(request.key)
                return kept.follower.free(node.task, request)
            if request.kind is TypeRequest.KEEP:
                context = self._keep(request)
                if request.cached is not None and not node.always:
                    kept.cache.save_call(node.task, request.name, request.cached, context)
            elif request.kind is TypeRequest.FAIL:
                self._end(request.key, clock.monotonic(), request.value, request.links.get("arguments", ""))
            else:
                node.drop(request.keys)
        except ValueNotStorable as error:
            return self._refuse(request, error.by(request.name.rpartition(":")[2], is_of_call=True))
        except (CheckpointUnreadable, StorageError, HistoryError, NotServable) as error:
            kept.is_lost = kept.is_lost or isinstance(error, LeaseLost)
            return self._refuse(request, error)
        except Exception as error:  # the storage may be the user's
            what = f"The calls of step '{node.task.name}' can't be kept in {type(kept.storage).__name__}"
            refusal = StorageError(what, f"{type(error).__name__}: {error}")
            refusal.__cause__ = error
            return self._refuse(request, refusal)
        return DONE

    def _grant(self, request: CallRequest) -> CallAnswer:
        node, follower = self._node, self._node.kept.follower
        if not node.always and follower.is_pausing:
            return STOP
        answer = follower.grant(node.task, request, must=node.always)
        if answer.kind is TypeRequest.MAKE:
            self._grants.add(request.key)
        return answer

    def _keep(self, request: CallRequest, *, is_cached: bool = False) -> Context:
        tick = clock.monotonic()
        context = self._node.keep(request, self.numbers.get(request.key, 0))
        self._end(request.key, tick, request.value, is_cached=is_cached)
        self._count()
        return context

    def _give_cached(self, request: CallRequest, found: Context) -> CallAnswer:
        """Keeps a cached value as that of the call, and gives it."""
        files = found._origin.files
        self._begin(request, is_cached=True)
        self._keep(request._replace(value=found.storage, files=files), is_cached=True)
        return CallAnswer(TypeRequest.GIVE, found.storage, files=() if files is None else tuple(files.made))

    def _wait(self, request: CallRequest) -> CallAnswer:
        """Answers a sleep, whose end is kept when it begins, or a question, whose answer is kept."""
        node = self._node
        context = node.read(request.key) if node.may_have(request.key) else None
        if isinstance(request.value, Asking):
            return self._ask_people(request) if context is None else self._give(request, context)
        if isinstance(request.value, Polling):
            return self._poll(request, request.value, context)
        if context is None:
            end = clock.now() + timedelta(seconds=request.value)
            self._begin(request)
            self._keep(request._replace(value=end))
        else:
            end, self.numbers[request.key] = context.storage, number_of(context)
        left = (end - clock.now()).total_seconds()
        if left > 0:
            return CallAnswer(TypeRequest.WAIT, left)
        return CallAnswer(TypeRequest.GIVE, end) if context is None else self._give(request, context)

    def _poll(self, request: CallRequest, polling: Polling, context: Context | None) -> CallAnswer:
        """Answers a call that was not ready, or goes on with a wait: its record has the end of the wait."""
        now, number = clock.now(), self.numbers[request.key]
        kept = _Wait(*context.storage) if context is not None and is_waiting(context) else None
        if kept is None or (kept.attempt, kept.asked) != (polling.attempt, polling.asked):
            began = now - timedelta(seconds=polling.since)
            if kept is not None and kept.attempt == polling.attempt:
                began = kept.began
            due = now + timedelta(seconds=polling.delay)
            if polling.timeout is not None:
                end = began + timedelta(seconds=polling.timeout)
                if now >= end:
                    return CallAnswer(TypeRequest.GIVE, True)
                due = min(due, end)
            kept = _Wait(polling.attempt, polling.asked, began, due)
            links = {**request.links, POLLED: str(polling.asked)}
            self._node.keep(request._replace(value=tuple(kept), links=links), number)
            if self._node.kept.follower.is_following:
                self._node.kept.follower.wait_call(self._node.task, number, polling.asked, polling.note)
        left = (kept.due - now).total_seconds()
        return CallAnswer(TypeRequest.WAIT, left) if left > 0 else CallAnswer(TypeRequest.GIVE, False)

    def _go_on(self, request: CallRequest, context: Context) -> CallAnswer:
        """Answers a call that has waited, and is to be asked again."""
        node, wait = self._node, _Wait(*context.storage)
        if request.key in self._made:  # its step has waited in between, in the same attempt
            self.numbers[request.key] = number_of(context)
        return CallAnswer(TypeRequest.MAKE, voided=node.voided(request.key), polled=(wait.attempt, wait.asked))

    def _ask_people(self, request: CallRequest) -> CallAnswer:
        node = self._node
        answer: Answer = node.kept.follower.ask(node.task, request, node.voided(request.key))
        question = answer.open
        if question is not None:
            self.questions[request.key] = question
            left = None if question.until is None else max(0.0, (question.until - clock.now()).total_seconds())
            return CallAnswer(TypeRequest.WAIT, left)
        assert answer.approval is not None
        self._begin(request)
        self._keep(request._replace(value=tuple(answer.approval)))
        return CallAnswer(TypeRequest.GIVE, tuple(answer.approval))

    def _give(self, request: CallRequest, context: Context) -> CallAnswer:
        self.given.add(request.key)
        self.numbers[request.key] = number_of(context)
        return CallAnswer(TypeRequest.GIVE, context.storage)

    def settle(self) -> None:
        """Has the follower save what it has noted."""
        self._node.kept.follower.settle()

    def _refuse(self, request: CallRequest, error: Exception) -> CallAnswer:
        self._end(request.key, clock.monotonic(), Failure.of(error))
        return CallAnswer(TypeRequest.REFUSE, error)

    def _begin(self, request: CallRequest, *, is_cached: bool = False) -> None:
        """Notes that a call is made now, or was in the cache."""
        follower = self._node.kept.follower
        if self.given and not self._made:
            follower.count_calls(self._node.task, 0, self._count_given())
        (self._cached if is_cached else self._made).add(request.key)
        number = self.numbers[request.key] = self._node.number()
        if follower.is_following:
            self._running.add(request.key)
            follower.begin_call(self._node.task, number, request)

    def _end(self, key: str, tick: float, end: Any, text: str = "", *, is_cached: bool = False) -> None:
        """Notes the end of a call, with a value or a Failure. One that is kept later has ended before."""
        if key in self._running:
            self._running.discard(key)
            follower = self._node.kept.follower
            follower.end_call(self._node.task, self.numbers[key], tick, end, text, is_cached=is_cached)

    def _count(self) -> None:
        """Counts a call that is kept: it is progress, also if this process is killed before its step completes."""
        self._kept += 1
        if self._kept == MANY:
            name = self._node.task.name
            self._node.kept.log_line(f"{name} has made {MANY:,} calls; a map keeps them with less.")
        if (now := clock.ticks()) >= self._count_at:
            self._count_at = now + COUNT_INTERVAL
            self._node.kept.follower.count_calls(self._node.task, self._kept, self._count_given())

    def _count_given(self) -> int:
        """Returns how many calls were given back that the attempt has not kept itself."""
        return len(self.given) - len(self.given & self._made) - len(self.given & self._cached)

    def end(self, *, is_over: bool) -> None:
        """Ends the attempt, and counts its calls; one that is not *over* goes on later, with those that are kept."""
        self.is_over = True
        for grant in tuple(self._grants):
            self._node.kept.follower.free(
                self._node.task, CallRequest(TypeRequest.FREE, grant, value=({}, False, None))
            )
        follower, made, given = self._node.kept.follower, len(self._made), self._count_given()
        cached = len(self._cached)
        if self._kept or given:
            follower.count_calls(self._node.task, self._kept, given)
        if is_over and (made or given or cached):
            follower.end_attempt(self._node.task, made, given, cached)

    def _ask(self, request: CallRequest) -> CallAnswer:
        node, kept = self._node, self._node.kept
        voided = node.voided(request.key)
        context = node.read(request.key)
        if context is None:
            return MAKE if not voided else MAKE._replace(voided=voided)
        links, origin = context._links or {}, context._origin
        if not (origin.code and request.code and can_compare(origin.code, request.code)):
            if not is_waiting(context):
                node.unknown.add(request.name.rpartition(":")[2])
        elif origin.code != request.code:
            if kept.voids_changed:
                node.void(request.key)
                return MAKE._replace(voided=node.voided(request.key))
            if not is_waiting(context):
                name = request.name.rpartition(":")[2]
                node.changed[name] = node.changed.get(name, 0) + 1
        if is_waiting(context):
            return self._go_on(request, context)
        files = {} if origin.files is None else origin.files.made
        for path, state in files.items():
            if (change := change_since(path, state)) != "same":
                kept.log_line(
                    f"{node.task.name}: {shown(request.name, links.get('arguments', ''))} is called again: its file "
                    f"{path} is {'gone' if change == 'gone' else 'another one now'}."
                )
                return MAKE._replace(voided=voided)
        self.given.add(request.key)
        self.numbers[request.key] = number_of(context)
        return CallAnswer(TypeRequest.GIVE, context.storage, "raised" in links, tuple(files))
