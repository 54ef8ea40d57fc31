"""@action: makes a callable a step."""

import inspect
import warnings
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, ParamSpec, Protocol, TypeVar, overload

from dotflow.core.action import (
    APPROVAL,
    CLASS_ACTION,
    CONTEXTS,
    DECORATED,
    IDEMPOTENCY_KEY,
    NO_RESOURCES,
    RESOURCES,
    Action,
    action_of,
    member_actions,
    parts_of,
)
from dotflow.core.callables import parameters, unwrapped
from dotflow.core.durations import TEXTS, Duration, to_seconds
from dotflow.core.failure import describe
from dotflow.core.hints import ACTION, refuse_unknown
from dotflow.core.policy import POLL_IS, Policy, RetryOn
from dotflow.core.secret import secrets_in
from dotflow.errors import InvalidPolicy, InvalidStep

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

#: Whether what a value stands for is still there.
Valid = Callable[[Any], bool] | Callable[[Any], Coroutine[Any, Any, bool]]

#: What can have a limit, for errors.
LIMIT_IS: Final = "for steps: an action of a class asks within its attempt. Give it to the class, or write a function"

#: The warning about a class without decorated methods.
IDLE: Final = (
    "Class '{name}' is decorated with @action, but none of its methods is: as a step it runs none of them. Put "
    "@action above the methods to run."
)


class Decorator(Protocol):
    """The type of `@action(...)`: a class stays itself, and a function becomes an Action with its signature."""

    # A class can be called like a function, so the two overlap. The first match counts.
    @overload
    def __call__(self, function: type[T], /) -> type[T]: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, function: Callable[P, R], /) -> Action[P, R]: ...
    def __call__(self, function: Any, /) -> Any: ...


@overload
def action(function: type[T], /) -> type[T]: ...  # type: ignore[overload-overlap]  # as in Decorator
@overload
def action(function: Callable[P, R], /) -> Action[P, R]: ...
@overload
def action(
    *,
    retry: int = 1,
    timeout: Duration = 0,
    retry_delay: Duration = 1,
    backoff: bool = False,
    retry_on: RetryOn | None = None,
    max_delay: Duration | None = None,
    jitter: float = 0,
    poll: Duration | None = None,
    poll_timeout: Duration | None = None,
    isolate: bool | None = None,
    resources: Mapping[str, float | str] | None = None,
    checkpoint: bool = True,
    version: str | None = None,
    cache: bool | Duration = False,
    files: bool = True,
    valid: Valid | None = None,
    approve: bool | str = False,
    approve_within: Duration | None = None,
    durable: bool = False,
    key: Sequence[str] | None = None,
    limit: str | Sequence[str] | None = None,
    budget: str | Sequence[str] | None = None,
    uses: Callable[..., Mapping[str, float]] | None = None,
    memory: int | str | None = None,
) -> Decorator: ...
def action(
    function: Callable[..., Any] | None = None,
    /,
    *,
    retry: int = 1,
    timeout: Duration = 0,
    retry_delay: Duration = 1,
    backoff: bool = False,
    retry_on: RetryOn | None = None,
    max_delay: Duration | None = None,
    jitter: float = 0,
    poll: Duration | None = None,
    poll_timeout: Duration | None = None,
    isolate: bool | None = None,
    resources: Mapping[str, float | str] | None = None,
    checkpoint: bool = True,
    version: str | None = None,
    cache: bool | Duration = False,
    files: bool = True,
    valid: Valid | None = None,
    approve: bool | str = False,
    approve_within: Duration | None = None,
    durable: bool = False,
    key: Sequence[str] | None = None,
    limit: str | Sequence[str] | None = None,
    budget: str | Sequence[str] | None = None,
    uses: Callable[..., Mapping[str, float]] | None = None,
    memory: int | str | None = None,
    **unknown: Any,
) -> Any:
    """Makes a function, coroutine function, method or class a step of workflows.

    You can still call a function, and a class stays itself.

    Args:
        function: The function or class. A step takes contexts by the names `initial_context` and `previous_context`,
            and the values of earlier tasks and run parameters by theirs. As `idempotency_key` it takes a text that
            stays the same until it has finished, for effects that must happen once.
        retry: The total number of attempts.
        timeout: The maximum time of an attempt; 0 for no limit. A duration is a number of seconds or a text such as
            "500ms", "90s", "15m", "2h" or "1h30m".
        retry_delay: The time between attempts.
        backoff: Whether the delay doubles each time.
        retry_on: The errors to retry on: an exception class, a tuple of them, or a function `f(error)`. The function
            returns True, False, or the seconds until the next attempt, which `max_delay` and `jitter` don't change. It
            runs where the step ran. A timeout counts as TimeoutError, a dead worker as WorkerDied. Other errors fail
            the task at once. So does an error for which the function raises or returns anything else; the traceback
            of the attempt says why.
        max_delay: The maximum delay.
        jitter: The maximum share of the delay that is subtracted at random, from 0 to 1.
        poll: The time between two calls of a step that waits for something: it returns None, or raises
            `NotYet("3 of 5 files")`, until that is there. Anything else is its value. Waiting is no failure, and takes
            no worker and no retry. `timeout` limits each call, and `jitter` shortens the time between them.
        poll_timeout: The maximum time for which each attempt waits. Then it fails with PollTimeout, which is a
            TimeoutError for `retry_on`. By default it waits as long as the run.
        isolate: Whether each attempt runs in a process of its own in every mode, so that its timeout always ends it.
            By default the executor decides. False saves the process on a cluster: a thread of the cluster's worker
            makes the attempt, which nothing ends in the middle of C code, and whose crash ends the worker.
        resources: What each attempt has of this machine, or of a cluster's worker, while it runs: amounts by name, such
            as `{"gpu": 1, "memory": "8GB"}`. It waits until no other attempt has it, in any process that offers it with
            `Config(resources=...)`; on a cluster, that decides. `start` refuses what nobody offers. As `resources` the
            step takes what it has: `resources.gpu` is a tuple of ids. With "gpu" it has a process of its own, where
            CUDA sees these cards alone. It reserves memory, and `memory` limits it.
        checkpoint: Whether the value is saved, so that a resume restores it. With False, for connections, temporary
            clusters and the like, a resume runs the step again if a task that runs needs it.
        version: A text such as "2", which stands for the code where a resume or the cache asks if that has changed. By
            default they compare the code itself, with the functions, classes and constants of yours that it uses.
        cache: Whether a value is kept for all runs: a run whose arguments and code are the same takes it instead of
            making another one. A duration is the maximum age.
        files: Whether the files that paths name are part of the value and the arguments. With False a path is only its
            text: for logs, and for files that others append to.
        valid: A function `f(value)` for what is no file, such as a table: True if what the step has made is still
            there, False to run the step again. A resume and `plan` call it with the saved value, before anything is
            deleted; of a map, with that of each item. It has 30 s.
        approve: The question that a person answers before the step runs, such as "Publish {rows} rows?"; the braces
            name parameters. True asks whether it runs. Until then the task is PAUSED, other tasks go on, and the run
            ends when only waiting is left. A yes queues a run that continues it; `start(resume=True)` goes on, too. A
            no fails the task with Rejected, unless a fallback names that. As `approval` the step takes the answer, an
            Approval. A map asks once, a workflow for each item for each of them, and rounds in each.
            It needs a history and a workflow_id.
        approve_within: The time for an answer, after which the task fails with ApprovalExpired; None for no limit.
        durable: Whether each call of an action in the body is kept when it has returned. A later attempt runs the body
            again from its top, and gives back what was kept: a retry, or a resume after a crash. The body may be
            edited in between. For functions and coroutine functions.
        key: The names of the parameters that tell calls in a durable step apart: for clients, connections and loggers,
            which have no digest, and for what makes no difference. By default all do.
        limit: How often attempts may begin, and how many may run at once, over all runs and processes with the same
            history: "10/s, 5 at once". More wait. With a name, "crm: 10/min, 3 at once", all steps that use it share
            it; "crm/{customer}: 10/s" has one for each value of a parameter, and a list has several limits. In no span
            of the period do more begin, by the clock of the history. Retries, items and each call with `poll` count;
            what is restored, cached or skipped does not. A step that raises `Throttled` closes its limits for all.
            "200000 tokens/min" counts what `uses` and `dotflow.used` say instead of attempts.
        budget: What attempts may use, over all runs and processes with the same history: "$5/run, 100000 tokens/day",
            with names as in `limit`; without a unit it counts attempts. What does not fit in is refused: the task fails
            with BudgetExceeded, which `retry` does not change. "/run" is the run with those that go on with it.
        uses: A function of parameters of the step that returns what an attempt will use, by unit, such as
            `lambda text: {"tokens": len(text) // 3}`. `dotflow.used` in the step says what it has used.
        memory: What each attempt may use, in bytes or as a text such as "2GB": the memory of its process and of all
            that it starts, swap included, but neither pages of files nor what it has inherited. An attempt that exceeds
            it is killed, with what it has started, and fails with MemoryExceeded, a MemoryError for `retry_on`. Seen up
            to 10 % or 100 MB later, whichever is more. Such a step has a process of its own, as by `isolate=True`. It
            needs Linux.
        unknown: Refused with a hint.

    Raises:
        InvalidPolicy: An invalid option, such as `retry=0`.
        InvalidStep: The decorated object can't be called.
        UnknownArgument: There is no such option.
    """
    refuse_unknown("@action", unknown, action.__kwdefaults__ or (), ACTION)
    policy = Policy(
        attempts=retry,
        timeout=timeout,  # type: ignore[arg-type]  # Policy converts texts to seconds
        delay=retry_delay,  # type: ignore[arg-type]
        backoff=backoff,
        retry_on=retry_on,
        max_delay=max_delay,  # type: ignore[arg-type]
        jitter=jitter,
        poll=poll,  # type: ignore[arg-type]
        poll_timeout=poll_timeout,  # type: ignore[arg-type]
        limits=() if limit is None else limit or "",  # type: ignore[arg-type]  # Policy parses texts
        budgets=() if budget is None else budget or "",  # type: ignore[arg-type]
        uses=uses,
        memory=memory,  # type: ignore[arg-type]  # Policy converts texts to bytes
    )
    if memory is not None:
        if isolate is False:
            raise InvalidPolicy("isolate", isolate, "True with memory=: the step has a process of its own")
        isolate = True
    if isolate is not None and not isinstance(isolate, bool):
        raise InvalidPolicy("isolate", isolate, "True, False or None")
    for name, switch in (("checkpoint", checkpoint), ("files", files)):
        if not isinstance(switch, bool):
            raise InvalidPolicy(name, switch, "True or False")
    if valid is not None and not callable(valid):
        raise InvalidPolicy("valid", valid, "a function f(value) that returns True or False")
    if version is not None and (not isinstance(version, str) or not version):
        raise InvalidPolicy("version", version, 'a text, such as "2"')
    max_age = _max_age(cache)
    if max_age is not None and not checkpoint:
        raise InvalidPolicy("cache", cache, "False with checkpoint=False: what can't be saved can't be cached")
    if valid is not None and (max_age is not None or not checkpoint):
        option = "checkpoint=False" if not checkpoint else "cache"
        raise InvalidPolicy("valid", valid, f"None with {option}: it is asked about a checkpoint")
    if not isinstance(durable, bool):
        raise InvalidPolicy("durable", durable, "True or False")
    if durable and (poll is not None or not checkpoint):
        option = "poll" if poll is not None else "checkpoint=False"
        raise InvalidPolicy("durable", durable, f"False with {option}: a durable step keeps its calls and its value")
    names = _check_key(key)
    seconds = _time_for_answer(approve, approve_within)
    required = _check_resources(resources)

    def decorate(target: Callable[..., Any]) -> Any:
        if (existing := action_of(target)) is not None:
            hint = "Decorate it once, with all its options."
            raise InvalidStep(f"'{existing.name}', which is an action already", hint, DECORATED)
        if inspect.isgeneratorfunction(unwrapped(target)) or inspect.isasyncgenfunction(unwrapped(target)):
            hint = "None of its lines would run. Return a list of what it yields."
            raise InvalidStep(f"{describe(target)}, a generator function", hint, DECORATED)
        if _has_methods(target) and not member_actions(target):
            warnings.warn(IDLE.format(name=target.__name__), stacklevel=2 if function is None else 3)
        question = None
        if approve is not False:
            from dotflow.core.approval import check_question  # here: few steps ask

            filled = (*CONTEXTS, IDEMPOTENCY_KEY, APPROVAL, *([RESOURCES] if required else []))
            question = check_question(approve, [name for name in parameters(target) if name not in filled])
        if policy.is_limited:
            _check_limited(target, policy)
        _check_durable(target, durable=durable, names=names)
        options = (isolate, required, checkpoint, version, max_age, files, valid, question, seconds, durable, names)
        step = Action(target, policy, *options)
        if not isinstance(target, type):
            return step
        for part in parts_of(step):
            if part.policy.poll is not None:
                raise InvalidPolicy("poll", part.policy.poll, POLL_IS)
            if part is not step and part.policy.is_limited:
                option = "limit" if part.policy.limits else "budget"
                raise InvalidPolicy(option, (part.policy.limits or part.policy.budgets)[0].text, LIMIT_IS)
        try:
            type.__setattr__(target, CLASS_ACTION, step)
        except TypeError:  # a built-in type takes no attribute: it is wrapped, as a function is
            return step
        return target

    return decorate if function is None else decorate(function)


def _check_limited(target: Callable[..., Any], policy: Policy) -> None:
    """Raises InvalidPolicy for names of limits, and for parameters of `uses`, that the step does not have."""
    from dotflow.core.limits import USES_IS, check_names

    filled, all_names = (*CONTEXTS, IDEMPOTENCY_KEY, APPROVAL), parameters(target)
    known, hidden = [name for name in all_names if name not in filled], secrets_in(all_names)
    check_names(policy.limits, known, hidden, "limit")
    check_names(policy.budgets, known, hidden, "budget")
    asked = {} if policy.uses is None else parameters(policy.uses)
    for name, parameter in asked.items():
        is_taken = name in known and name not in hidden
        if not is_taken and (parameter.default is parameter.empty or name in all_names):
            takes = f"it takes {', '.join(known)}" if known else "it takes none"
            raise InvalidPolicy("uses", policy.uses, f"{USES_IS}. The step has no {name!r}: {takes}")


def _check_key(key: object) -> tuple[str, ...] | None:
    if key is None:
        return None
    if isinstance(key, str) or not isinstance(key, Sequence) or not all(isinstance(name, str) for name in key):
        raise InvalidPolicy("key", key, 'a list of names of parameters, such as ["query", "page"]')
    return tuple(key)


def _check_durable(target: Callable[..., Any], *, durable: bool, names: tuple[str, ...] | None) -> None:
    """Raises InvalidPolicy for what can't be durable, and for the names of parameters that the target does not have."""
    if durable and (isinstance(target, type) or not inspect.isroutine(unwrapped(target))):
        raise InvalidPolicy("durable", durable, "for functions and coroutine functions. Write a function")
    known = parameters(target) if names else {}
    for name in names or ():
        if name not in known:
            raise InvalidPolicy("key", name, f"one of its parameters: {', '.join(known) or 'it has none'}")


def _time_for_answer(approve: object, within: object) -> float | None:
    if within is None:
        return None
    seconds = to_seconds(within)
    if not seconds or approve is False:
        accepted = f"the time for an answer to approve=...: None, a number of seconds above 0, or {TEXTS}"
        raise InvalidPolicy("approve_within", within, accepted)
    return seconds


def _max_age(cache: object) -> float | None:
    if isinstance(cache, bool):
        return True if cache else None
    seconds = to_seconds(cache)
    if not seconds:
        raise InvalidPolicy("cache", cache, f"True, False, or the maximum age: a number of seconds above 0, or {TEXTS}")
    return seconds


def _check_resources(resources: Any) -> Mapping[str, float]:
    """Returns the resources as amounts. Raises InvalidPolicy for invalid ones."""
    if resources is None:
        return NO_RESOURCES
    from dotflow.core.resources import as_needs  # here: few steps need any

    return as_needs(resources)


def _has_methods(target: object) -> bool:
    """Returns whether it is a class whose body defines public methods."""
    members = vars(target).items() if isinstance(target, type) else ()
    return any(inspect.isfunction(member) and not name.startswith("_") for name, member in members)
