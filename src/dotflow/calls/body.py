"""Body: the body of a durable step while it runs, and the calls of actions in it."""

import contextlib
import itertools
import threading
import uuid
import weakref
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextvars import ContextVar, Token
from functools import partial
from pathlib import Path
from types import CoroutineType
from typing import Any, Final, NamedTuple, TypeVar

from dotflow import clock
from dotflow.calls.cached import CachedCall
from dotflow.calls.failures import read_failure, write_failure
from dotflow.calls.grants import Grant, needs_of
from dotflow.calls.keys import MAX_BEGINNING, Asked, ask_for, changed_argument, key_of, shown
from dotflow.calls.polls import Polls
from dotflow.calls.requests import Requests
from dotflow.code.fingerprint import fingerprint
from dotflow.core.action import IDEMPOTENCY_KEY, AnyAction
from dotflow.core.calls import (
    INSIDE,
    OPEN,
    SCOPE,
    Asking,
    BodyStopped,
    CacheQuery,
    CallAnswer,
    CallRequest,
    Polling,
    Scope,
    TypeRequest,
)
from dotflow.core.failure import Failure, message_of
from dotflow.core.faults import PlannedFailures
from dotflow.core.files import FileWatch
from dotflow.core.limits import Wanted
from dotflow.cpython import has_running_loop
from dotflow.errors import ArgumentChanged, BudgetExceeded, CallRefused, LimitTooSmall, NotYet
from dotflow.worker.attempt import run_by_policy
from dotflow.worker.deadline import Limit
from dotflow.worker.deadline_thread import run_limited, waking
from dotflow.worker.files import MAKER, SCALARS, WRITTEN, find_paths, note_written, record
from dotflow.worker.interrupts import in_forked_child
from dotflow.worker.waiting import Waiters

ASK, KEEP, DROP, MAKE, STOP, REFUSE, WAIT = (
    TypeRequest.ASK, TypeRequest.KEEP, TypeRequest.DROP, TypeRequest.MAKE, TypeRequest.STOP, TypeRequest.REFUSE,
    TypeRequest.WAIT,
)  # fmt: skip
R = TypeVar("R")
Once = Callable[[Callable[[], Any], Limit], Any]
OnceAsync = Callable[[Callable[[], Any], Limit], Coroutine[Any, Any, Any]]

MAX_CALLS: Final = 100_000  # in an attempt
ENDED: Final = ("its step has ended", "Wait for it before the step returns.")
IN_THREAD: Final = (
    "it is made in a thread that a step has started, and several durable steps run in this process",
    "Use asyncio.to_thread, or start the thread within contextvars.copy_context().run.",
)
LEAVE_OUT: Final = "Leave out one of them."
FOR_STEPS: Final = "Add it as a task, and let the durable step end before it."


@in_forked_child
def _forget() -> None:
    """Resets a forked child: the bodies are those of its parent, which alone may speak for them."""
    OPEN.clear()
    SCOPE.set(None)


class _Mark:
    """Marks what runs a part of a body: the thread or asyncio task of the body itself, or one that comes from it.

    Args:
        runner: The thread or task.
        parent: The mark of what has begun it; None for the body itself.
    """

    __slots__ = ("parent", "root", "runner")

    def __init__(self, runner: Any, parent: "_Mark | None") -> None:
        self.runner = weakref.ref(runner)
        self.parent = parent
        self.root: _Mark = self if parent is None else parent.root

    def is_beneath(self, other: "_Mark") -> bool:
        """Returns whether it is another one, or comes from it."""
        mark: _Mark | None = self
        while mark is not None and mark is not other:
            mark = mark.parent
        return mark is not None


#: The mark of what runs in this context.
_MARK: Final[ContextVar[_Mark | None]] = ContextVar("dotflow_mark", default=None)


def _runner() -> Any:
    """Returns what runs here: an asyncio task, or a thread."""
    if has_running_loop():
        import asyncio

        task = asyncio.current_task()
        if task is not None:
            return task
    return threading.current_thread()


class _Failed(NamedTuple):
    """A call that has failed in this attempt, and whose failure is not kept."""

    error: BaseException
    asked: Asked
    key: str
    number: int
    by: _Mark


class Body:
    """The body of one attempt of a durable step, or of a durable call.

    Args:
        requests: The way to the coordinator, shared by the bodies of an attempt.
        name: The name of the step.
        base: What the keys of its calls are made from.
        root: The beginning of these keys, shared by the bodies of the step.
        files: What is recorded of files.
        outer: The body that the durable call is made in; None for that of a step.
    """

    def __init__(
        self,
        requests: Requests,
        name: str,
        base: str,
        root: str,
        files: FileWatch | None,
        outer: "Body | None" = None,
    ) -> None:
        self._requests = requests
        self._name = name
        self._base = base
        self._root = root
        self._files = files
        self._outer = outer
        self._depth: int = 0 if outer is None else outer._depth + 1
        self._numbers: dict[tuple[str, str], Iterator[int]] = {}
        self._failed: list[_Failed] = []  # whose failures are not kept
        self._raised: dict[int, tuple[BaseException, str]] = {}  # by the id of the error: the key of its call
        self._kept: dict[str, str] = {}  # the failures that are kept, by their keys
        # The calls that it waits for; that of a step for those in durable calls, too, of which one was cancelled.
        self._running: set[object] = requests.running if outer is None else set()
        self._waiters = Waiters()
        self._wake: Callable[[], object] = self._waiters.wake  # called when a call ends after the body
        if outer is None:
            requests.call_ended = self._wake_at_end
        self._is_over = False
        self._fails = False  # whether it ended with an error
        self._mark: _Mark  # of the body itself

    # The body

    def run(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Runs the body, and returns what it returns. A coroutine that it returns goes on with it."""
        tokens = self._enter()
        try:
            value = function(*args, **kwargs)
            if not isinstance(value, CoroutineType):
                self._end(None)
        except BaseException as error:  # users' code may raise anything
            self._end(error)
            raise
        finally:
            self._leave(tokens)
        return self.run_coroutine(lambda: value) if isinstance(value, CoroutineType) else value

    async def run_coroutine(self, function: Callable[..., Coroutine[Any, Any, Any]], /, *args: Any, **kw: Any) -> Any:
        """Runs the body of a coroutine function, and returns what it returns."""
        tokens = self._enter()
        try:
            value = await function(*args, **kw)
            await self._end_coroutine(None)
        except GeneratorExit:  # it was dropped
            self._is_over = True
            raise
        except BaseException as error:  # users' code may raise anything
            await self._end_coroutine(error)
            raise
        finally:
            self._leave(tokens)
        return value

    def _enter(self) -> tuple[Token[Scope | None], Token[_Mark | None]]:
        runner = _runner()
        self._mark = _Mark(runner, None)
        if isinstance(runner, threading.Thread):  # a task only awaits others meanwhile
            self._requests.runners.add(runner)
        if self._outer is None:
            if not OPEN:
                OPEN.append(INSIDE)
            OPEN.append(self)
        return SCOPE.set(self), _MARK.set(self._mark)

    def _leave(self, tokens: tuple[Token[Scope | None], Token[_Mark | None]]) -> None:
        if self._outer is None and self in OPEN:
            OPEN.remove(self)
        with contextlib.suppress(ValueError):  # the garbage collector closes a coroutine in another context
            SCOPE.reset(tokens[0])
            _MARK.reset(tokens[1])

    def _mark_here(self) -> _Mark:
        """Returns the mark of what calls now."""
        self._requests.changes += 1
        mark, runner = _MARK.get(), _runner()
        if mark is None or mark.root is not self._mark or mark.runner() is not runner:
            mark = _Mark(runner, self._mark if mark is None or mark.root is not self._mark else mark)
            _MARK.set(mark)
            self._requests.runners.add(runner)
        return mark

    def of_thread(self, name: str) -> "Body | None":
        ident = threading.get_ident()
        if ident in clock.attempt_threads or threading.current_thread() is threading.main_thread():
            return None  # not a thread that the body has started
        if len(OPEN) > 2:  # with INSIDE
            raise CallRefused(name, *IN_THREAD)
        return self

    def _end(self, error: BaseException | None) -> None:
        """Ends the body: waits for the calls that still run, and lets go of the failures that it ended with."""
        self._begin_end(error)
        if self._waits_for_calls(error):
            with waking(self._waiters.wake):
                self._waiters.wait_until(lambda: not self._running, None)
        self._raise_stop(error)
        if error is not None and (request := self._let_go(error)) is not None:
            self._request(request)
            self._raise_stop(error)

    async def _end_coroutine(self, error: BaseException | None) -> None:
        self._begin_end(error)
        if self._running and self._waits_for_calls(error):
            import asyncio

            is_idle, loop = asyncio.Event(), asyncio.get_running_loop()
            self._wake = lambda: loop.call_soon_threadsafe(is_idle.set)
            while self._running:
                await is_idle.wait()
                is_idle.clear()
        self._raise_stop(error)
        if error is not None and (request := self._let_go(error)) is not None:
            await self._talk(request)
            self._raise_stop(error)

    def _begin_end(self, error: BaseException | None) -> None:
        self._fails = error is not None
        self._is_over = True

    def _waits_for_calls(self, error: BaseException | None) -> bool:
        """Returns whether it waits for the calls that run. A timeout, Ctrl-C and a cancellation don't."""
        return bool(self._running) and _is_ordinary(error)

    def _raise_stop(self, error: BaseException | None) -> None:
        """Raises what has stopped the body, whatever it has made of it; but its own deadline, and Ctrl-C, count."""
        stop = self._requests.stop
        if stop is None or not _is_ordinary(error):
            return
        if self._outer is None and isinstance(stop.why, Exception):
            if error is not stop.why:
                raise stop.why
        elif error is not stop:
            raise stop

    def _let_go(self, error: BaseException) -> CallRequest | None:
        """Returns the request that lets go of the failures that the body ended with; None without one that is kept."""
        if not isinstance(error, Exception):
            return None
        found = set(self._ends_with(error, set()))
        if not found and self._kept:
            count = len(self._kept)
            what = "1 failure of a call is" if count == 1 else f"{count} failures of calls are"
            error.add_note(
                f"{what} kept: {'; '.join(self._kept.values())}. Raise from them, or an ExceptionGroup of them, to "
                f"have these calls made again."
            )
        kept = tuple(key for key in found if key in self._kept)
        return CallRequest(DROP, keys=kept) if kept else None

    def _ends_with(self, error: BaseException | None, seen: set[int]) -> Iterator[str]:
        """Yields the keys of the first failures of calls on each path of an error."""
        if error is None or id(error) in seen:
            return
        seen.add(id(error))
        if id(error) in self._raised:
            yield self._raised[id(error)][1]
            return
        if isinstance(error, BaseExceptionGroup):
            for member in error.exceptions:
                yield from self._ends_with(member, seen)
        yield from self._ends_with(error.__cause__ or error.__context__, seen)

    # Calls

    def call(self, action: AnyAction, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Makes a call of an action, or returns what was kept of it. Of a coroutine function it returns a coroutine.

        Raises:
            CallRefused: It can't be kept, so it was not made.
            ArgumentChanged: It has changed its argument, so it is not kept.
        """
        self._check(action)
        if not action.checkpoint:
            make = self._make_unkept_coroutine if action.is_coroutine else self._make_unkept
            return make(action, args, kwargs)
        try:
            asked = ask_for(action, args, kwargs)
        except TypeError as error:
            if isinstance(error, CallRefused):
                raise
            return action.call_plain(args, kwargs)  # it raises it in Python's own words
        key, number = self._key_of(asked)
        if action.is_coroutine:
            return self._call_coroutine(asked, key, number, args, kwargs)
        token = self._begin_call(is_enclosing=action.durable)
        try:
            by = self._mark_here()  # before, since what it begins is beneath it, whether or not this call is made
            cached = None if action.cache is None else self._cached(asked)
            answer = self._request(self._asking(asked, key, number, cached))
            if answer.kind is not MAKE:
                return self._given(answer, asked, key)
            for failed in self._caught(by):
                self._request(self._keeping(failed.asked, failed.key, failed.number, failed.error))
                self._note_kept(failed.key, failed.asked, failed.error)
            written = self._count_written()
            try:
                function = self._function_of(asked, key, answer, args, kwargs)
                once = self._once(token, action, args, kwargs)
                if action.policy.poll is None:
                    value = self._make(action, function, once)
                else:
                    value = self._poll(asked, key, number, token, Polls(action, answer.polled), function, once)
            except Exception as error:  # the action may raise any
                if self._requests.is_followed:
                    self._requests.send(_failing(asked, key, error))
                self._note_failed(error, asked, key, number, by)
                raise
            self._check_arguments(asked, None)
            files = self._files_of(value, written)
            query = None if cached is None else cached.made(files)
            self._request(self._keeping(asked, key, number, None, value, files, query))
            return value
        finally:
            self._end_call(token)

    def _key_of(self, asked: Asked) -> tuple[str, int]:
        """Returns the key of a call that is asked for now, and how many equal ones came before it."""
        numbers = self._numbers.get((asked.name, asked.digest))
        if numbers is None:
            numbers = self._numbers.setdefault((asked.name, asked.digest), itertools.count())
        number = next(numbers)
        return key_of(self._root, self._base, asked, number), number

    async def _call_coroutine(
        self, asked: Asked, key: str, number: int, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        action = asked.action
        if self._is_over and self._fails:  # its step has failed with its own error, and awaits it no more
            import asyncio

            raise asyncio.CancelledError
        self._check(action)
        token = self._begin_call(is_enclosing=action.durable)
        try:
            by = self._mark_here()  # before, since what it begins is beneath it, whether or not this call is made
            cached = None if action.cache is None else await _in_thread(partial(self._cached, asked))
            answer = await self._talk(self._asking(asked, key, number, cached))
            if answer.kind is not MAKE:
                return self._given(answer, asked, key)
            for failed in self._caught(by):
                await self._talk(self._keeping(failed.asked, failed.key, failed.number, failed.error))
                self._note_kept(failed.key, failed.asked, failed.error)
            written = self._count_written()
            try:
                function, polls = self._function_of(asked, key, answer, args, kwargs), Polls(action, answer.polled)
                once = self._once_async(token, action, args, kwargs)
                if action.policy.poll is None:
                    value = await self._make_coroutine(action, function, once)
                else:
                    value = await self._poll_async(asked, key, number, token, polls, function, once)
            except Exception as error:  # the action may raise any
                if self._requests.is_followed:
                    await self._send(_failing(asked, key, error))
                self._note_failed(error, asked, key, number, by)
                raise
            self._check_arguments(asked, None)
            files = self._files_of(value, written)
            query = None if cached is None else await _in_thread(partial(cached.made, files))
            await self._talk(self._keeping(asked, key, number, None, value, files, query))
            return value
        finally:
            self._end_awaited(token)

    def wait(self, action: AnyAction, args: tuple[Any, ...], value: float | Asking) -> Any:
        """Waits as a call of an action, and returns what was kept at its end.

        Args:
            action: What tells it apart, with the arguments.
            args: The arguments.
            value: What it waits for: a number of seconds, or a question.
        """
        request, by = self._waiting(action, args, value), self._mark_here()
        token = self._begin_call()
        try:
            for failed in self._caught(by):
                self._request(self._keeping(failed.asked, failed.key, failed.number, failed.error))
                self._note_kept(failed.key, failed.asked, failed.error)
            return self._wait_out(token, request).value
        finally:
            self._end_call(token)

    async def wait_async(self, action: AnyAction, args: tuple[Any, ...], value: float | Asking) -> Any:
        """Does what `wait` does, in a coroutine."""
        request, by = self._waiting(action, args, value), self._mark_here()
        token = self._begin_call()
        try:
            for failed in self._caught(by):
                await self._talk(self._keeping(failed.asked, failed.key, failed.number, failed.error))
                self._note_kept(failed.key, failed.asked, failed.error)
            return (await self._wait_out_async(token, request)).value
        finally:
            self._end_awaited(token)

    def _wait_out(self, token: object, request: CallRequest) -> CallAnswer:
        """Sends a request until its wait is over, and returns the answer."""
        while (answer := self._request(request)).kind is WAIT:
            self._wait_for(token, request, answer)
        return answer

    def _wait_for(self, token: object, request: CallRequest, answer: CallAnswer) -> None:
        """Waits as an answer says."""
        with waking(self._waiters.wake):
            for seconds in self._looks(token, request, answer):
                self._waiters.wait_until(lambda: self._requests.stop is not None, seconds)
        self._raise_if_stopped()

    async def _wait_out_async(self, token: object, request: CallRequest) -> CallAnswer:
        """Does what `_wait_out` does, in a coroutine."""
        while (answer := await self._talk(request)).kind is WAIT:
            await self._wait_for_async(token, request, answer)
        return answer

    async def _wait_for_async(self, token: object, request: CallRequest, answer: CallAnswer) -> None:
        """Does what `_wait_for` does, in a coroutine."""
        import asyncio

        for seconds in self._looks(token, request, answer):
            await asyncio.sleep(seconds)
        self._raise_if_stopped()

    def _looks(self, token: object, request: CallRequest, answer: CallAnswer) -> Iterator[float]:
        if request.kind is TypeRequest.LIMIT:
            return self._requests.limit_flow(token, _runner(), *answer.value)
        key = request.key if isinstance(request.value, Asking) else ""
        return self._requests.wait_flow(token, _runner(), answer.value, key)

    def _waiting(self, action: AnyAction, args: tuple[Any, ...], value: float | Asking) -> CallRequest:
        """Returns the request of a call that waits."""
        self._check(action)
        asked = ask_for(action, args, {})
        key, number = self._key_of(asked)
        links = {"base": self._base, "n": str(number), "arguments": asked.text}
        request = self._asking(asked, key, number)
        return request._replace(kind=WAIT, code="", links=links, digest=asked.digest, value=value)

    def _make_unkept(self, action: AnyAction, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Makes a call of which nothing is kept."""
        if not action.policy.is_limited:
            return self._make(action, partial(action.call_plain, args, kwargs), _make_once)
        token = self._begin_call()
        try:
            once = self._once(token, action, args, kwargs)
            return self._make(action, partial(action.call_plain, args, kwargs), once)
        finally:
            self._end_call(token)

    async def _make_unkept_coroutine(self, action: AnyAction, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Does what `_make_unkept` does, for a call of a coroutine function."""
        if not action.policy.is_limited:
            from dotflow.worker.attempt_async import make_once  # here: it imports asyncio

            return await self._make_coroutine(action, partial(action.call_plain, args, kwargs), make_once)
        token = self._begin_call()
        try:
            once = self._once_async(token, action, args, kwargs)
            return await self._make_coroutine(action, partial(action.call_plain, args, kwargs), once)
        finally:
            self._end_awaited(token)

    def _make(self, action: AnyAction, function: Callable[[], Any], once: Once) -> Any:
        """Makes a call by the policy of its action."""
        token = SCOPE.set(INSIDE)
        try:
            return run_by_policy(action, partial(once, function), [])
        finally:
            SCOPE.reset(token)

    async def _make_coroutine(self, action: AnyAction, function: Callable[[], Any], once: OnceAsync) -> Any:
        """Makes a call of a coroutine function by the policy of its action."""
        from dotflow.worker.attempt_async import run_by_policy_async  # here: it imports asyncio

        token = SCOPE.set(INSIDE)
        try:
            return await run_by_policy_async(action, partial(once, function), [])
        finally:
            with contextlib.suppress(ValueError):  # the garbage collector closes the coroutine in another context
                SCOPE.reset(token)

    def _once(self, token: object, action: AnyAction, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Once:
        """Returns what makes a call once: of an action with limits, when these have granted it."""
        needs = needs_of(action, args, kwargs)
        return partial(self._make_granted, token, action, needs) if needs else _make_once

    def _once_async(
        self, token: object, action: AnyAction, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> OnceAsync:
        """Does what `_once` does, for a call of a coroutine function."""
        from dotflow.worker.attempt_async import make_once  # here: it imports asyncio

        needs = needs_of(action, args, kwargs)
        return partial(self._make_granted_async, token, action, needs) if needs else make_once

    def _make_granted(
        self, token: object, action: AnyAction, needs: tuple[Wanted, ...], function: Callable[[], Any], limit: Limit
    ) -> Any:
        """Makes a call once when its limits have granted it; again where a service has refused it then."""
        grant = Grant(action, needs)
        while True:
            grant.check(self._wait_out(token, grant.request))
            with grant.counting():
                try:
                    value = _make_once(function, limit)
                except BaseException as error:  # the action may raise any
                    answer = self._requests.send(grant.end(error, limit))
                    if not grant.is_refused:
                        raise
                else:
                    self._requests.send(grant.end())
                    return value
            self._wait_for(token, grant.request, grant.check(self._checked(answer)))

    async def _make_granted_async(
        self, token: object, action: AnyAction, needs: tuple[Wanted, ...], function: Callable[[], Any], limit: Limit
    ) -> Any:
        """Does what `_make_granted` does, for a call of a coroutine function."""
        from dotflow.worker.attempt_async import make_once  # here: it imports asyncio

        grant = Grant(action, needs)
        while True:
            grant.check(await self._wait_out_async(token, grant.request))
            with grant.counting():
                try:
                    value = await make_once(function, limit)
                except GeneratorExit:  # it was dropped: the end of its step frees what it has
                    raise
                except BaseException as error:  # the action may raise any
                    answer = await self._send(grant.end(error, limit))
                    if not grant.is_refused:
                        raise
                else:
                    await self._send(grant.end())
                    return value
            await self._wait_for_async(token, grant.request, grant.check(self._checked(answer)))

    def _poll(
        self,
        asked: Asked,
        key: str,
        number: int,
        token: object,
        polls: Polls,
        function: Callable[[], Any],
        once: Once,
    ) -> Any:
        """Makes a call by the policy of its action until it is ready. Each wait in between is kept when it begins."""

        def make(limit: Limit) -> Any:
            polling = polls.begin()
            while True:
                if polling is not None:
                    polls.check(self._wait_out(token, self._polling(asked, key, number, polling)))
                note, inside = "", SCOPE.set(INSIDE)
                try:
                    value = once(function, limit)
                except NotYet as error:
                    note = message_of(error)
                else:
                    if value is not None:
                        return value
                finally:
                    SCOPE.reset(inside)
                self._check_arguments(asked, None)
                polling = polls.wait(note)

        try:
            return run_by_policy(asked.action, make, [], polls.attempt)
        except Exception:  # the action may raise any
            if polls.has_waited:  # what makes the call again begins its wait anew
                self._request(CallRequest(DROP, keys=(key,)))
            raise

    async def _poll_async(
        self,
        asked: Asked,
        key: str,
        number: int,
        token: object,
        polls: Polls,
        function: Callable[[], Any],
        once: OnceAsync,
    ) -> Any:
        """Does what `_poll` does, for a call of a coroutine function."""
        from dotflow.worker.attempt_async import run_by_policy_async  # here: it imports asyncio

        async def make(limit: Limit) -> Any:
            polling = polls.begin()
            while True:
                if polling is not None:
                    polls.check(await self._wait_out_async(token, self._polling(asked, key, number, polling)))
                note, inside = "", SCOPE.set(INSIDE)
                try:
                    value = await once(function, limit)
                except NotYet as error:
                    note = message_of(error)
                else:
                    if value is not None:
                        return value
                finally:
                    with contextlib.suppress(ValueError):  # the garbage collector closes it in another context
                        SCOPE.reset(inside)
                self._check_arguments(asked, None)
                polling = polls.wait(note)

        try:
            return await run_by_policy_async(asked.action, make, [], polls.attempt)
        except Exception:  # the action may raise any
            if polls.has_waited:  # what makes the call again begins its wait anew
                await self._talk(CallRequest(DROP, keys=(key,)))
            raise

    def _polling(self, asked: Asked, key: str, number: int, polling: Polling) -> CallRequest:
        """Returns the request of the wait of a call that was not ready."""
        return self._keeping(asked, key, number, None, polling)._replace(kind=WAIT)

    def _function_of(
        self, asked: Asked, key: str, answer: CallAnswer, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Callable[[], Any]:
        """Returns what makes the call: of a durable action, each time a body of its own."""
        action = asked.action
        if asked.lacks_key:
            text = f"{key}/{answer.voided}" if answer.voided else key
            kwargs = {**kwargs, IDEMPOTENCY_KEY: str(uuid.uuid5(uuid.NAMESPACE_OID, f"{self._base}/{text}"))}
        plain: Callable[[], Any] = partial(action.call_plain, args, kwargs)
        if isinstance(answer.value, PlannedFailures):
            plain = answer.value.before(plain)
        if not action.durable:
            return plain

        def run() -> Any:
            body = Body(self._requests, action.name, key, self._root, self._files, self)
            return (body.run_coroutine if action.is_coroutine else body.run)(plain)

        return run

    def _check(self, action: AnyAction) -> None:
        """Raises what has stopped the body, and CallRefused for a call that can't be made now."""
        self._raise_if_stopped()
        outer: Body | None = self
        while outer is not None:
            if outer._is_over:
                raise CallRefused(action.name, *ENDED)
            outer = outer._outer
        if not action.is_ordinary or action.isolate is not None or action.resources or action.valid is not None:
            for option, is_used in (
                ("memory", action.policy.memory is not None),
                ("isolate=True", action.isolate is not None),
                ("resources", bool(action.resources)),
                ("approve", action.approve is not None),
                ("valid", action.valid is not None),
            ):
                if is_used:
                    raise CallRefused(action.name, f"{option} is for whole steps", FOR_STEPS)
        if action.policy.poll is not None and not action.checkpoint:
            raise CallRefused(action.name, "poll keeps its waits, and checkpoint=False keeps nothing", LEAVE_OUT)

    def _raise_if_stopped(self) -> None:
        if self._requests.stop is not None:
            raise self._requests.stop

    def _cached(self, asked: Asked) -> CachedCall:
        return CachedCall(asked.action, asked.counted, None if self._files is None else self._files.limit)

    def _asking(self, asked: Asked, key: str, number: int, cached: CachedCall | None = None) -> CallRequest:
        if self._requests.count() > MAX_CALLS:
            raise CallRefused(
                asked.action.name, f"'{self._name}' has made {MAX_CALLS:,} calls", "A map keeps them with less."
            )
        request = CallRequest(ASK, key, asked.name, fingerprint(asked.action))
        if cached is not None:
            request = request._replace(links=self._links(asked, number), digest=asked.digest, cached=cached.query)
        if not self._requests.is_followed:
            return request
        return request._replace(beginning=asked.beginning[:MAX_BEGINNING], depth=self._depth)

    def _keeping(
        self,
        asked: Asked,
        key: str,
        number: int,
        error: BaseException | None,
        value: Any = None,
        files: Any = None,
        cached: CacheQuery | None = None,
    ) -> CallRequest:
        links = self._links(asked, number)
        if error is not None:
            links["raised"] = type(error).__name__
            value = write_failure(error)
        code = fingerprint(asked.action)
        return CallRequest(
            KEEP, key, asked.name, code, links, asked.digest, value, error is not None, files, cached=cached
        )

    def _links(self, asked: Asked, number: int) -> dict[str, str]:
        links = {"base": self._base, "n": str(number)}
        if asked.text:
            links["arguments"] = asked.text
        return links

    def _given(self, answer: CallAnswer, asked: Asked, key: str) -> Any:
        """Returns the value that was kept of a call, or raises its failure."""
        if not answer.is_failure:
            for name in answer.files:
                note_written(Path(name))
            return answer.value
        error = read_failure(answer.value)
        self._raised[id(error)] = error, key
        self._note_kept(key, asked, error)
        raise error

    def _note_failed(self, error: Exception, asked: Asked, key: str, number: int, by: _Mark) -> None:
        """Notes that a call has failed. Its failure is kept once the body goes on after it."""
        self._check_arguments(asked, error)
        self._raised[id(error)] = error, key
        if isinstance(error, BudgetExceeded | LimitTooSmall):  # it was not made: a resume asks again
            return
        self._failed.append(_Failed(error, asked, key, number, by))

    def _caught(self, by: _Mark) -> list[_Failed]:
        """Returns the failures that the body goes on after with a call that is made now."""
        if not self._failed:
            return []
        found = [failed for failed in self._failed if failed.by.is_beneath(by)]
        self._failed = [failed for failed in self._failed if failed not in found]
        return found

    def _note_kept(self, key: str, asked: Asked, error: BaseException) -> None:
        self._kept[key] = f"{shown(asked.name, asked.text)} {type(error).__name__}: {error}".rstrip(": ")

    def _check_arguments(self, asked: Asked, error: Exception | None) -> None:
        if name := changed_argument(asked):
            changed = ArgumentChanged(asked.action.name, name)
            changed.__cause__ = error
            raise self._requests.stop_for(changed)

    def _begin_call(self, *, is_enclosing: bool = False) -> object:
        """Notes that a call runs; returns what stands for it."""
        token = object()
        self._running.add(token)
        self._requests.running.add(token)
        if is_enclosing:
            self._requests.enclosing.add(token)
        return token

    def _end_call(self, token: object) -> None:
        self._running.discard(token)
        self._requests.running.discard(token)
        self._requests.enclosing.discard(token)
        self._wake_at_end()
        self._requests.call_ended()

    def _end_awaited(self, token: object) -> None:
        """Ends a call of a coroutine. A task that nothing awaits ends in silence: the outcome has the reason."""
        self._end_call(token)
        if self._requests.stop is not None and not isinstance(runner := _runner(), threading.Thread):
            runner.add_done_callback(lambda task: task.cancelled() or task.exception())

    def _wake_at_end(self) -> None:
        if self._is_over:
            self._wake()

    # Files

    def _count_written(self) -> int:
        return len(WRITTEN.get(MAKER.get(), ())) if WRITTEN else 0

    def _files_of(self, value: Any, written: int) -> Any:
        """Returns the record of the files that a value names, and of those that its call has written."""
        if self._files is None:
            return None
        made = WRITTEN.get(MAKER.get(), [])[written:] if WRITTEN else []
        found = () if type(value) in SCALARS else find_paths(value)
        return record(self._files._replace(given=(), own=(), known=()), found, {}, made) if found or made else None

    # Requests

    def _request(self, request: CallRequest) -> CallAnswer:
        return self._checked(self._requests.send(request))

    async def _talk(self, request: CallRequest) -> CallAnswer:
        return self._checked(await self._send(request))

    async def _send(self, request: CallRequest) -> CallAnswer:
        """Sends a request in a thread, so that a slow storage does not stop the loop."""
        if not self._requests.is_slow:
            return self._requests.send(request)
        import asyncio

        own = self._begin_call()  # until the thread has the answer, also where its coroutine is cancelled meanwhile

        def send() -> CallAnswer:
            try:
                return self._requests.send(request)
            finally:
                self._end_call(own)

        # Shielded, since one that has not begun when its coroutine is cancelled would never end.
        answer = await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, send))
        self._requests.settle()
        return answer

    def _checked(self, answer: CallAnswer) -> CallAnswer:
        if answer.kind is STOP or answer.kind is REFUSE:
            raise self._requests.stop_for(answer.value)
        return answer


async def _in_thread(function: Callable[[], R]) -> R:
    """Calls a function that may read files for long, in a thread."""
    import asyncio

    return await asyncio.to_thread(function)


def _make_once(function: Callable[[], R], limit: Limit) -> R:
    return run_limited(limit, function) if limit.seconds else function()


def _failing(asked: Asked, key: str, error: Exception) -> CallRequest:
    """Returns the request that says that a call has failed. Any answer will do: the failure goes on."""
    return CallRequest(TypeRequest.FAIL, key, asked.name, links={"arguments": asked.text}, value=Failure.of(error))


def _is_ordinary(error: BaseException | None) -> bool:
    """Returns whether it is none, an exception of the step, or what stops its body; a deadline and Ctrl-C are not."""
    if isinstance(error, BaseExceptionGroup):  # of a TaskGroup
        return all(map(_is_ordinary, error.exceptions))
    return error is None or isinstance(error, Exception | BodyStopped)
