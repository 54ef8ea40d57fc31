"""Context: the value that one step passes to the next, and its origin."""

import functools
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, NoReturn

from dotflow import clock
from dotflow.core.files import FileRecord

if TYPE_CHECKING:
    from dotflow.core.failure import TaskError

#: The hint in an error where a context was used as its value.
HINT: Final = "it carries a value in its storage, as in previous_context.storage"

TOKEN_LENGTH: Final = 12  # hexadecimal digits of a run's id


def token_of_run(run_id: str) -> str:
    """Returns the beginning of a run's id, which the inputs of its values have."""
    return run_id.replace("-", "")[:TOKEN_LENGTH]


class Inputs(NamedTuple):
    """The inputs of a value, as far as a resume compares them.

    Attributes:
        initial: The digest of the initial context; "" where there was none, "?" where it has no digest.
        previous: The id of the task whose value was the `previous_context`; None where that was empty.
        run: The run that made the value, and its number of tasks, as `4f0c9a215e7d/3`.
        source: The run that made the `previous_context`, in the same format.
        links: A token for each other value and condition that the value depends on, by parameter.
        code: The fingerprint of the code that made the value; "" where it is unknown.
        files: The files that the attempt made, changed and took; None for none.
    """

    initial: str
    previous: int | None
    run: str = ""
    source: str = ""
    links: Mapping[str, str] = MappingProxyType({})
    code: str = ""
    files: FileRecord | None = None

    def is_of(self, run_id: str) -> bool:
        """Returns whether this run made the value."""
        return self.run.partition("/")[0] == token_of_run(run_id)


class Origin(NamedTuple):
    """The inputs that many values of a run share, in one object: `initial`, `run` and `code` of Inputs.

    A value with files has one of its own.
    """

    initial: str | None  # None for a value without inputs
    run: str = ""
    code: str = ""
    files: FileRecord | None = None

    @property
    def tasks(self) -> int:
        """The number of tasks of the run; 0 where it is unknown."""
        count = self.run.rpartition("/")[2]
        return int(count) if count.isdecimal() else 0


NO_ORIGIN: Final = Origin(None)
#: Makes an Origin. The values that a resume reads were made by few runs and steps.
shared_origin: Final = functools.lru_cache(maxsize=256)(Origin)


class Context:
    """A step's value on its way to the next step: the same object, unless it crosses to another process.

    Args:
        storage: The value. A Context in a Context keeps one layer, with the attributes of the inner one.
        task_id: The id of the task that returned the value: its position in the order of `add`, from 0.
        workflow_id: The task's workflow.
        time: The time of its return, as an aware datetime; by default now.
        step: The identity of the step, `module:qualname`.

    Attributes:
        inputs: The inputs of the value, in a checkpoint; None elsewhere.
        entries: Of a mapped task, the entry of the list for each item; empty elsewhere.
        errors: Of a mapped task, the last TaskError of each failed item, by the item's index; empty elsewhere.
    """

    entries: "Sequence[Any]" = ()
    errors: "Mapping[int, TaskError]" = MappingProxyType({})

    __slots__ = (
        "_links",
        "_origin",
        "_previous",
        "_source",
        "_time",
        "step",
        "storage",
        "task_id",
        "workflow_id",
    )

    storage: Any
    task_id: int | None
    workflow_id: str | None
    step: str | None
    _origin: Origin  # the inputs as separate fields: a tuple for each task would take more memory
    _previous: int | None
    _source: str
    _links: Mapping[str, str] | None
    _time: clock.Moment

    def __init__(
        self,
        storage: Any = None,
        task_id: int | None = None,
        workflow_id: str | None = None,
        time: datetime | None = None,
        step: str | None = None,
    ) -> None:
        while isinstance(storage, Context):
            task_id = storage.task_id if task_id is None else task_id
            workflow_id = storage.workflow_id if workflow_id is None else workflow_id
            time = time or storage.time
            step = step or storage.step
            storage = storage.storage
        self.storage = storage
        self.task_id = task_id
        self.workflow_id = workflow_id
        self._time = time or clock.moment()
        self.step = step
        self._origin = NO_ORIGIN
        self._previous = self._links = None
        self._source = ""

    @classmethod
    def _of(
        cls, value: Any, task_id: int | None, workflow_id: str | None, time: clock.Moment, step: str | None
    ) -> "Context":
        """Returns Context(value, task_id, workflow_id, time, step), in half the time: there is one for every task."""
        if isinstance(value, Context):
            return cls(value, task_id, workflow_id, clock.as_datetime(time), step)
        context = object.__new__(cls)
        context.storage = value
        context.task_id = task_id
        context.workflow_id = workflow_id
        context._time = time
        context.step = step
        context._origin = NO_ORIGIN
        context._previous = context._links = None
        context._source = ""
        return context

    @property
    def time(self) -> datetime:
        """The time of its return."""
        return clock.as_datetime(self._time)

    @time.setter
    def time(self, time: datetime) -> None:
        self._time = time

    @property
    def inputs(self) -> Inputs | None:
        """The inputs of the value."""
        initial, run, code, files = self._origin
        if initial is None:
            return None
        return Inputs(initial, self._previous, run, self._source, self._links or {}, code, files)

    @inputs.setter
    def inputs(self, inputs: Inputs | None) -> None:
        if inputs is None:
            self._origin = NO_ORIGIN
            self._previous = self._links = None
            self._source = ""
        else:
            initial, self._previous, run, self._source, self._links, code, files = inputs
            self._origin = shared_origin(initial, run, code) if files is None else Origin(initial, run, code, files)

    def _set_inputs(self, origin: Origin, previous: "Context", links: Mapping[str, str] | None = None) -> None:
        """Sets the inputs; *links* are those of Inputs."""
        self._origin = origin
        self._previous = previous.task_id
        self._source = previous._origin[1]  # its run
        self._links = links

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Context):
            return NotImplemented
        if (self.task_id, self.workflow_id) != (other.task_id, other.workflow_id):
            return False
        return self.storage is other.storage or bool(self.storage == other.storage)

    __hash__: ClassVar[None] = None  # type: ignore[assignment]  # the value may be anything, and may change

    if not TYPE_CHECKING:  # type checkers report these by themselves

        def __getattr__(self, name: str) -> NoReturn:
            hint = "" if name.startswith("_") else f": {HINT}"
            raise AttributeError(f"'Context' object has no attribute '{name}'{hint}", name=name, obj=self)

        def __getitem__(self, index: object) -> NoReturn:  # a loop calls it, too
            raise TypeError(f"'Context' object has no items: {HINT}")

        def __len__(self) -> NoReturn:
            raise TypeError(f"'Context' object has no len(): {HINT}")

        def __bool__(self) -> bool:  # Python would call __len__
            return True

        def _refuse_operator(self, other: object) -> NoReturn:
            raise TypeError(f"a 'Context' is no operand: {HINT}")

        __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _refuse_operator
        __lt__ = __le__ = __gt__ = __ge__ = _refuse_operator

    def __repr__(self) -> str:
        task_id = "" if self.task_id is None else f", task_id={self.task_id}"
        return f"Context({self.storage!r}{task_id})"


def is_of_actions(value: Any) -> bool:
    """Returns whether a value is the list of contexts that the actions of a class or an instance have made."""
    return value.__class__ is list and bool(value) and isinstance(value[0], Context)


#: The initial context of a call where `add` had none and the step does not take it.
NOTHING: Final = Context()
