"""Action: a callable with its policy, as @action makes it."""

import functools
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Concatenate, Final, Generic, NamedTuple, ParamSpec, TypeVar, overload

from dotflow.core.callables import find_member, fixed_by_partials, innermost, parameters, qualname, unwrapped
from dotflow.core.calls import INSIDE, OPEN, SCOPE
from dotflow.core.failure import describe
from dotflow.core.policy import Policy
from dotflow.core.secret import SecretRef, keywords_with_secrets, secrets_in
from dotflow.errors import InvalidStep, UnknownParameter, close_match

P = ParamSpec("P")
R = TypeVar("R")
Q = ParamSpec("Q")  # the parameters of a bound method, and T its result
T = TypeVar("T")

#: What can be decorated, for errors.
DECORATED: Final = "@action decorates a function, a coroutine function, a method or a class"

#: The attribute of a decorated class that holds its action.
CLASS_ACTION: Final = "__dotflow_action__"

#: The parameters that a context fills.
CONTEXTS: Final = ("initial_context", "previous_context")

#: The parameter that receives a text which stays the same until the step has finished.
IDEMPOTENCY_KEY: Final = "idempotency_key"

#: The parameter that receives the answer to `approve`, an Approval.
APPROVAL: Final = "approval"

#: The parameter that receives what an attempt has of its machine, a Resources.
RESOURCES: Final = "resources"

NO_RESOURCES: Final[Mapping[str, float]] = {}

BY_NAME: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Taken(NamedTuple):
    """What a step takes beside the contexts: parameters by name, each required or not; the key, approval, resources."""

    named: Mapping[str, bool]
    key: bool
    approval: bool
    resources: bool


class Action(Generic[P, R]):
    """A callable with its policy and the contexts that it takes. You can still call it as the plain function.

    Args:
        function: A function, coroutine function, method or class.
        policy: The attempts, timeout and delays.
        isolate: Whether each attempt runs in a process of its own, in every mode; None lets the executor decide.
        resources: What an attempt has of its machine, or a cluster's worker must have: amounts by name.
        checkpoint: Whether the values are saved, so that a resume restores them.
        version: Stands for the code where earlier values are compared with it; None for the code itself.
        cache: How long values are cached: True for ever, or seconds; None for no cache.
        files: Whether files count as part of its value and its arguments.
        valid: Called with a saved value: whether what it stands for is still there; None for no question.
        approve: The question that a person answers before it runs; "" for that of every step, None for no question.
        approve_within: The seconds for the answer; None for no limit.
        durable: Whether its body is durable: the calls of actions in it are kept.
        key: The parameters that tell calls of it in a durable body apart; None for all.

    Attributes:
        name: The name for readers: `extract`, `Report.load`.
        identity: The name for machines, the same in every run: `module:qualname`.
        is_coroutine: Whether a call returns a coroutine.
        is_apart: Whether each attempt has a process of its own on this machine, in every mode.
        is_limited: Whether an attempt may have to wait, or be refused, before it begins.
    """

    def __init__(
        self,
        function: Callable[P, R],
        policy: Policy,
        isolate: bool | None = None,
        resources: Mapping[str, float] = NO_RESOURCES,
        checkpoint: bool = True,
        version: str | None = None,
        cache: float | None = None,
        files: bool = True,
        valid: Callable[[Any], Any] | None = None,
        approve: str | None = None,
        approve_within: float | None = None,
        durable: bool = False,
        key: tuple[str, ...] | None = None,
    ) -> None:
        if not callable(function) and not isinstance(function, classmethod):
            raise InvalidStep(describe(function), "Options go by name: @action(retry=3).", DECORATED)
        functools.update_wrapper(self, function, updated=())
        self.function = function
        self.policy = policy
        self.isolate = isolate
        self.resources = resources
        self.is_apart: bool = bool(isolate) or any(name.lower() == "gpu" for name in resources)
        self.is_limited: bool = policy.is_limited or bool(resources)
        self.checkpoint = checkpoint
        self.version = version
        self.cache = cache
        self.files = files
        self.valid = valid
        self.approve = approve
        self.approve_within = approve_within
        self.durable = durable
        self.key = key
        # Whether its task needs no links.
        self.is_ordinary: bool = checkpoint and cache is None and approve is None and not durable
        self.code_fingerprint: str | None = None  # of its code, once it is made
        self.is_coroutine: bool = inspect.iscoroutinefunction(innermost(function))
        self.name: str = qualname(function).rpartition("<locals>.")[2]
        self.short_name: str = self.name.rpartition(".")[2]
        self.identity: str = f"{getattr(unwrapped(function), '__module__', None) or '?'}:{qualname(function)}"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if OPEN:
            scope = SCOPE.get() or OPEN[-1].of_thread(self.name)
            if scope is not None and scope is not INSIDE:
                made: R = scope.call(self, args, kwargs)
                return made
        if self.secrets:
            value: R = self.call_plain(args, kwargs)
            return value
        return self.function(*args, **kwargs)

    def call_plain(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Calls the function, with those secrets of the environment that the call does not pass."""
        function: Any = self.function
        if self.secrets:
            kwargs = keywords_with_secrets(function, args, kwargs, self.secrets, self.name)
        return function(*args, **kwargs)

    @overload
    def __get__(self, instance: None, owner: type) -> "Action[P, R]": ...
    @overload
    def __get__(
        self: "Action[Concatenate[Any, Q], T]", instance: object, owner: type | None = None
    ) -> "Action[Q, T]": ...
    def __get__(self, instance: Any, owner: type | None = None) -> "Action[..., Any]":
        """Binds the action of a method to an instance or class, as Python binds the method."""
        function: Any = self.function
        of_class = isinstance(function, staticmethod | classmethod)
        if (instance is None and not of_class) or not hasattr(function, "__get__"):
            return self
        method, params = function.__get__(instance, owner), self.context_params
        secrets, bound = self.secrets, _blank()
        bound.__dict__ |= self.__dict__
        bound.__dict__ |= {"function": method, "__wrapped__": method, "context_params": params, "secrets": secrets}
        bound.__dict__["code_fingerprint"] = None
        bound.__dict__.pop("_taken", None)
        return bound

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Returns the function's own attributes, such as `cache_info`."""
            if name.startswith("__") or "function" not in self.__dict__:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            return getattr(self.function, name)

    @functools.cached_property
    def context_params(self) -> tuple[str, ...]:
        """The names of the contexts that it takes. They are read late, since a decorator above may change a class."""
        known = parameters(self.function)
        return tuple(name for name in CONTEXTS if name in known and known[name].kind in BY_NAME)

    @functools.cached_property
    def secrets(self) -> Mapping[str, SecretRef]:
        """The secrets that it takes, by parameter."""
        return secrets_in(parameters(self.function))

    @property
    def __isabstractmethod__(self) -> bool:
        """Whether the method is abstract."""
        return bool(getattr(self.function, "__isabstractmethod__", False))

    @functools.cached_property
    def _taken(self) -> Taken:
        """What it takes beside the contexts: a signature takes long to read. Raises as `named_params`."""
        named: dict[str, bool] = {}
        takes_approval, takes_resources, known = False, False, parameters(self.function)
        self.secrets = secrets_in(known)
        for name, parameter in known.items():
            required = parameter.default is parameter.empty
            if parameter.kind is parameter.POSITIONAL_ONLY and (required or name in self.secrets):
                hint = "Remove the '/' from its signature, so that it can be passed by name."
                raise UnknownParameter(self.name, name, hint)
            if parameter.kind not in BY_NAME or name in CONTEXTS or name == IDEMPOTENCY_KEY:
                continue
            if name == APPROVAL and self.approve is not None:
                takes_approval = True
            elif name == RESOURCES and self.resources:
                takes_resources = True
            else:
                named[name] = required
        is_open = IDEMPOTENCY_KEY not in fixed_by_partials(self.function)
        takes_key = is_open and IDEMPOTENCY_KEY in known and known[IDEMPOTENCY_KEY].kind in BY_NAME
        return Taken(named, takes_key, takes_approval, takes_resources)

    @property
    def named_params(self) -> Mapping[str, bool]:
        """Whether each parameter beside the contexts and what dotflow fills has no default, by name.

        Raises UnknownParameter for a positional-only parameter without a default.
        """
        return self._taken.named

    @property
    def takes_key(self) -> bool:
        """Whether it has a parameter for the idempotency key. Raises as `named_params`."""
        return self._taken.key

    @property
    def takes_approval(self) -> bool:
        """Whether it has a parameter for the approval. Raises as `named_params`."""
        return self._taken.approval

    @property
    def takes_resources(self) -> bool:
        """Whether it has a parameter for what it has of its machine. Raises as `named_params`."""
        return self._taken.resources

    @property
    def takes_any(self) -> bool:
        """Whether the step has a **parameter, which takes any name."""
        return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters(self.function).values())

    def check_parameters(self, known: Collection[str] = ()) -> None:
        """Checks an action of a class. *known* are the earlier actions.

        Raises UnknownParameter for a parameter without a default that is neither a context nor one of them.
        """
        for name, required in self.named_params.items():
            if required and name not in known:
                init = "the __init__ of the class, which receives tasks and run parameters"
                hint = f"Take it in {init}, or give it a default."
                cause = "no earlier action of its class has its name"
                raise UnknownParameter(self.name, name, close_match(name, known) or hint, cause)

    def __reduce__(self) -> str | tuple[Any, ...]:
        """Pickles by reference where the name leads back here, by value elsewhere (a bound or a local one)."""
        path = qualname(self.function)
        if isinstance(self.function, type):
            path += f".{CLASS_ACTION}"
        return path if find_member(self.__module__, path) is self else self.reduce_by_value()

    def reduce_by_value(self) -> tuple[Any, ...]:
        """Returns what pickle rebuilds the action from, where another process can't look it up by name.

        The action comes before its state: a class and its action refer to each other.
        """
        types = ("__annotate__", "__annotations__", "__type_params__")  # they may not be picklable
        return _blank, (), {name: value for name, value in self.__dict__.items() if name not in types}

    def __repr__(self) -> str:
        return f"<action {self.name}>"


#: An action of any function.
AnyAction = Action[..., Any]


def _blank() -> AnyAction:
    return Action.__new__(Action)


@functools.lru_cache(maxsize=4096)
def member_actions(cls: type[Any]) -> tuple[str, ...]:
    """Returns the names of a class's actions in definition order; an override keeps the position of its base."""
    members: dict[str, object] = {}
    for base in reversed(cls.__mro__):
        members |= vars(base)
    return tuple(names_of_actions(members))


def names_of_actions(members: Mapping[str, object]) -> list[str]:
    """Returns which of the members of a class or module are actions."""
    return [name for name, member in members.items() if name != CLASS_ACTION and action_of(member) is not None]


def action_of(step: object) -> AnyAction | None:
    """Returns the action that *step* is, or that it carries as a decorated class; None for anything else.

    A subclass of a decorated class is another step: it carries an action only if it is decorated itself.
    """
    if isinstance(step, Action):
        return step
    carried = vars(step).get(CLASS_ACTION) if isinstance(step, type) else None
    return carried if isinstance(carried, Action) and carried.function is step else None


def actions_of(instance: Any) -> list[AnyAction]:
    """Returns the instance's actions in definition order; an override keeps the position of its base."""
    return list(_actions_in(instance, type(instance)))


def _actions_in(holder: Any, cls: type[Any]) -> Iterator[AnyAction]:
    for name in _action_names(cls):
        member = action_of(getattr(holder, name))
        if member is not None:
            yield member


def _action_names(cls: Any) -> tuple[str, ...]:  # Any, since mypy takes a class's __hash__ for its instances'
    try:
        return member_actions(cls)
    except TypeError:  # the metaclass makes classes without a hash
        return member_actions.__wrapped__(cls)


def parts_of(step: AnyAction) -> Iterator[AnyAction]:
    """Yields the step and, of a class, its actions."""
    yield step
    if isinstance(step.function, type):
        for member in _actions_in(step.function, step.function):
            yield from parts_of(member)


def check_members(cls: type[Any]) -> None:
    """Raises UnknownParameter for an action of a class with a parameter that no earlier action of it fills."""
    known: list[str] = []
    for name in _action_names(cls):
        member = inspect.getattr_static(cls, name)
        if isinstance(member, Action):
            member.__get__(cls, cls).check_parameters(known)  # bound to anything: only `self` is left out
        known.append(name)
