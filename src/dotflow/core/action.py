"""@action: what makes a callable a step."""

import functools
import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Concatenate, Final, Generic, ParamSpec, Protocol, TypeVar, overload

from dotflow.core.callables import found, innermost, parameters, qualname, unwrapped
from dotflow.core.durations import Duration
from dotflow.core.failure import describe
from dotflow.core.hints import ACTION, refuse_unknown
from dotflow.core.policy import Policy, RetryOn
from dotflow.core.resources import NO_RESOURCES, check_resources
from dotflow.errors import InvalidPolicy, InvalidStep, UnknownParameter

P = ParamSpec("P")
R = TypeVar("R")
Q = ParamSpec("Q")  # of the method once it is bound, and T what it returns
T = TypeVar("T")

#: What can be decorated, as an error says it.
DECORATED: Final = "@action decorates a function, a coroutine function, a method or a class"

#: What is said of a class whose methods were forgotten.
IDLE: Final = (
    "Class '{name}' is decorated with @action, and none of its methods is: as a step it runs none of them. Put "
    "@action above those that are to run."
)

#: What a step may ask for, by parameter name.
CONTEXTS: Final = ("initial_context", "previous_context")

ACCEPTED: Final = (
    "retry",
    "timeout",
    "retry_delay",
    "backoff",
    "retry_on",
    "max_delay",
    "jitter",
    "isolate",
    "resources",
)

BY_NAME: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)

RENAME: Final = (
    "Rename it, or give it a default. What the step before returned is previous_context.storage, and what was passed "
    "to add() is initial_context.storage."
)
UNFILLABLE: Final = {
    inspect.Parameter.POSITIONAL_ONLY: "Take the '/' out of its signature, so that it can be given by name.",
    inspect.Parameter.POSITIONAL_OR_KEYWORD: RENAME,
    inspect.Parameter.KEYWORD_ONLY: RENAME,
}


class Action(Generic[P, R]):
    """A callable, its policy, and the contexts it asks for.

    Called, it is the plain function that it decorates.

    Args:
        function: A function, coroutine function, method or class.
        policy: Its attempts, timeout and delays.
        isolate: Give each attempt a process of its own, in every mode.
        resources: What its worker in a cluster must have.

    Attributes:
        name: The name for readers: `extract`, `Report.load`.
        identity: The name for machines, the same in every run: `module:qualname`.
        wants: The contexts that it asks for.
        is_coroutine: Whether calling it makes a coroutine.
    """

    def __init__(
        self,
        function: Callable[P, R],
        policy: Policy,
        isolate: bool = False,
        resources: Mapping[str, float] = NO_RESOURCES,
    ) -> None:
        functools.update_wrapper(self, function, updated=())
        self.function = function
        self.policy = policy
        self.isolate = isolate
        self.resources = resources
        self._fits = False  # what a bound method asks for is another thing, so each is looked at
        self.is_coroutine: bool = inspect.iscoroutinefunction(innermost(function))
        asked = parameters(function)
        self.context_params = tuple(name for name in CONTEXTS if name in asked and asked[name].kind in BY_NAME)
        self.name: str = qualname(function).rpartition("<locals>.")[2]
        self.identity: str = f"{getattr(unwrapped(function), '__module__', None) or '?'}:{qualname(function)}"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    @overload
    def __get__(self, instance: None, owner: type) -> "Action[P, R]": ...
    @overload
    def __get__(
        self: "Action[Concatenate[Any, Q], T]", instance: object, owner: type | None = None
    ) -> "Action[Q, T]": ...
    def __get__(self, instance: Any, owner: type | None = None) -> "Action[..., Any]":
        """The action of a method is bound to its instance, or its class, as the method would be."""
        function: Any = self.function
        of_class = isinstance(function, staticmethod | classmethod)
        if (instance is None and not of_class) or not hasattr(function, "__get__"):
            return self
        bound = Action.__new__(Action)
        bound.__dict__.update(self.__dict__, _fits=False)
        bound.__dict__["function"] = bound.__dict__["__wrapped__"] = function.__get__(instance, owner)
        return bound

    def __mro_entries__(self, bases: tuple[object, ...]) -> tuple[type, ...]:
        """A decorated class may still be inherited from."""
        if not isinstance(self.function, type):
            raise TypeError(f"'{self.name}' is a step made of a function; only a class can be inherited from")
        return (self.function,)

    def __instancecheck__(self, instance: object) -> bool:
        """isinstance() works with a decorated class as with the class."""
        return isinstance(self.function, type) and isinstance(instance, self.function)

    def __subclasscheck__(self, cls: type) -> bool:
        """issubclass() works with a decorated class as with the class."""
        return isinstance(self.function, type) and issubclass(cls, self.function)

    def __or__(self, other: Any) -> Any:
        """A decorated class may stand in an annotation, as in `Report | None`."""
        return self.function | other

    __ror__ = __or__

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """What the function or class has beside being called: its attributes, its class methods."""
            if name.startswith("__") or "function" not in self.__dict__:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            return getattr(self.function, name)

    @property
    def __isabstractmethod__(self) -> bool:
        """An abstract method stays abstract."""
        return bool(getattr(self.function, "__isabstractmethod__", False))

    def check_parameters(self) -> None:
        """Raises UnknownParameter when the step asks for what no context can give."""
        if self._fits:  # a signature takes long to read, and a step may be added a hundred thousand times
            return
        for name, parameter in parameters(self.function).items():
            if parameter.kind is inspect.Parameter.POSITIONAL_ONLY and parameter.default is inspect.Parameter.empty:
                raise UnknownParameter(self.name, name, UNFILLABLE[parameter.kind])
            if parameter.default is not inspect.Parameter.empty or parameter.kind not in UNFILLABLE or name in CONTEXTS:
                continue
            hint = UNFILLABLE[parameter.kind]
            if name == "self":
                hint = "It is a method: add it from an instance, or decorate its class with @action and add that."
            raise UnknownParameter(self.name, name, hint)
        self._fits = True

    def __reduce__(self) -> str | tuple[Any, ...]:
        """By reference where the name leads back here, by its parts elsewhere (a bound or a local one)."""
        name = qualname(self.function)
        if found(self.__module__, name) is self:
            return name
        return self.reduce_by_value()

    def reduce_by_value(self) -> tuple[Any, ...]:
        """How to build it again from its function and policy, for those who can't look it up by name."""
        return Action, (self.function, self.policy, self.isolate, dict(self.resources))

    def __repr__(self) -> str:
        return f"<action {self.name}>"


class Decorator(Protocol):
    """What `@action(...)` gives: a class stays a class to a type checker, and a function keeps its signature."""

    # A class can be called like a function, so the two overlap; the first that fits counts.
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
    isolate: bool = False,
    resources: Mapping[str, float] | None = None,
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
    isolate: bool = False,
    resources: Mapping[str, float] | None = None,
    **unknown: Any,
) -> Any:
    """Makes a function, coroutine function, method or class a step of workflows. Called directly, it stays what it was.

    Args:
        function: What to decorate. It is given the contexts it asks for by name: `initial_context`,
            `previous_context`.
        retry: Attempts in all; 1 is one try.
        timeout: The time for each attempt; 0 for no limit. A duration is a number of seconds or a text such as
            "500ms", "90s", "15m", "2h" or "1h30m".
        retry_delay: The time between attempts.
        backoff: Double the delay each time.
        retry_on: Which errors are repeated: an exception class, a tuple of them, or a function `f(error)`. The function
            answers True, False, or the seconds until the next attempt, which `max_delay` and `jitter` leave alone. It
            is called where the step ran. A timeout counts as TimeoutError, a dead worker as WorkerDied. What doesn't
            match fails at once. So does an error at which the function raises or answers anything else; the traceback
            of the attempt says so.
        max_delay: The longest delay.
        jitter: The share of the delay that chance may take off, from 0 to 1.
        isolate: Give each attempt a process of its own in every mode, so that its timeout always kills.
        resources: What its worker must have, such as `{"GPU": 1}`: ExecutorDask and ExecutorRay pass it on to Dask's
            and Ray's own. Executors on this machine take no notice.
        unknown: Anything else is refused with a hint.

    Raises:
        InvalidPolicy: A number that means nothing, such as `retry=0`.
        InvalidStep: What is decorated can't be called.
        UnknownArgument: There is no such argument.
    """
    refuse_unknown("@action", unknown, ACCEPTED, ACTION)
    policy = Policy(
        attempts=retry,
        timeout=timeout,  # type: ignore[arg-type]  # it makes seconds of what is a text
        delay=retry_delay,  # type: ignore[arg-type]
        backoff=backoff,
        retry_on=retry_on,
        max_delay=max_delay,  # type: ignore[arg-type]
        jitter=jitter,
    )
    if not isinstance(isolate, bool):
        raise InvalidPolicy("isolate", isolate, "True or False")
    wanted = check_resources(resources)

    def decorate(target: Callable[..., Any]) -> Action[..., Any]:
        if isinstance(target, Action):
            hint = "Decorate it once, with all its options."
            raise InvalidStep(f"'{target.name}', which is an action already", hint, DECORATED)
        if not callable(target) and not isinstance(target, classmethod):
            raise InvalidStep(describe(target), "Options go by name: @action(retry=3).", DECORATED)
        if inspect.isgeneratorfunction(unwrapped(target)) or inspect.isasyncgenfunction(unwrapped(target)):
            hint = "None of its lines would run. Return a list of what it yields."
            raise InvalidStep(f"{describe(target)}, a generator function", hint, DECORATED)
        if _has_methods(target) and not _names_of_actions(target):
            warnings.warn(IDLE.format(name=target.__name__), stacklevel=2 if function is None else 3)
        return Action(target, policy, isolate, wanted)

    return decorate if function is None else decorate(function)


def _has_methods(target: object) -> bool:
    """Whether it is a class whose body defines methods for others to call."""
    members = vars(target).items() if isinstance(target, type) else ()
    return any(inspect.isfunction(member) and not name.startswith("_") for name, member in members)


@functools.lru_cache(maxsize=4096)
def _names_of_actions(cls: type[Any]) -> tuple[str, ...]:
    members: dict[str, object] = {}
    for base in reversed(cls.__mro__):
        members |= vars(base)
    return tuple(name for name, member in members.items() if isinstance(member, Action))


def actions_of(instance: Any) -> list[Action[..., Any]]:
    """The instance's actions in definition order; an override keeps its base's place."""
    cls: Any = type(instance)  # Any, since mypy takes a class's __hash__ for its instances'
    try:
        names = _names_of_actions(cls)
    except TypeError:  # a metaclass may leave its classes without a hash
        names = _names_of_actions.__wrapped__(cls)
    return [getattr(instance, name) for name in names]
