"""The value that goes from step to step, and where it comes from."""

from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, NoReturn

from dotflow import clock

#: What the errors say to whoever takes a context for its value.
CARRIES: Final = "it carries a value in its storage, as in previous_context.storage"


class Inputs(NamedTuple):
    """What a value was made from, as far as a resume compares it.

    Attributes:
        initial: A digest of the initial context; "" where there was none, "?" where it has no digest.
        previous: The id of the task whose value was the `previous_context`; None where that was empty.
        run: The run that made it, and how many tasks that run had, as `4f0c9a215e7d/3`.
        source: The run that made the value of the task before, in the same way.
    """

    initial: str
    previous: int | None
    run: str = ""
    source: str = ""

    @property
    def tasks(self) -> int:
        """How many tasks the run had that made it; 0 where that is not known."""
        count = self.run.rpartition("/")[2]
        return int(count) if count.isdecimal() else 0


class Context:
    """Carries a step's value to the next one, as the same object where no process lies between.

    Args:
        storage: The value. A Context wrapped in a Context keeps one layer, and what the inner one says of itself.
        task_id: The place of the task that made it, in the order of `add`, from 0.
        workflow_id: The workflow that made it.
        time: When it was made, as an aware datetime; now, unless given.
        step: The identity of the step that made it, `module:qualname`.

    Attributes:
        inputs: What it was made from, in a checkpoint; None elsewhere.
    """

    __slots__ = ("_digest", "_previous", "_run", "_source", "step", "storage", "task_id", "time", "workflow_id")

    storage: Any
    task_id: int | None
    workflow_id: str | None
    time: datetime
    step: str | None
    _digest: str | None  # its inputs, beside each other, since a tuple for each task would take more
    _previous: int | None
    _run: str
    _source: str

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
        self.time = time or clock.now()
        self.step = step
        self._digest = self._previous = None
        self._run = self._source = ""

    @classmethod
    def _of(cls, value: Any, task_id: int, workflow_id: str, time: datetime, step: str) -> "Context":
        """As Context(value, task_id, workflow_id, time, step), in half the time: one is made for every task."""
        if isinstance(value, Context):
            return cls(value, task_id, workflow_id, time, step)
        made = object.__new__(cls)
        made.storage = value
        made.task_id = task_id
        made.workflow_id = workflow_id
        made.time = time
        made.step = step
        made._digest = made._previous = None
        made._run = made._source = ""
        return made

    @property
    def inputs(self) -> Inputs | None:
        """What it was made from."""
        return None if self._digest is None else Inputs(self._digest, self._previous, self._run, self._source)

    @inputs.setter
    def inputs(self, inputs: Inputs | None) -> None:
        self._digest, self._previous, self._run, self._source = inputs or (None, None, "", "")

    def _set_inputs(self, initial: str, previous: "Context", run: str) -> None:
        """Note its inputs; *initial* and *run* are those of Inputs."""
        self._digest = initial
        self._previous = previous.task_id
        self._run = run
        self._source = previous._run

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Context):
            return NotImplemented
        if (self.task_id, self.workflow_id) != (other.task_id, other.workflow_id):
            return False
        return self.storage is other.storage or bool(self.storage == other.storage)

    __hash__: ClassVar[None] = None  # type: ignore[assignment]  # its value may be anything, and may change

    if not TYPE_CHECKING:  # type checkers say themselves that a context has no such thing

        def __getattr__(self, name: str) -> NoReturn:
            hint = "" if name.startswith("_") else f": {CARRIES}"
            raise AttributeError(f"'Context' object has no attribute '{name}'{hint}", name=name, obj=self)

        def __getitem__(self, place: object) -> NoReturn:  # Python asks this for a loop, too
            raise TypeError(f"'Context' object has no items: {CARRIES}")

        def __len__(self) -> NoReturn:
            raise TypeError(f"'Context' object has no len(): {CARRIES}")

        def __bool__(self) -> bool:  # Python would ask for the length
            return True

        def _reckon(self, other: object) -> NoReturn:
            raise TypeError(f"a 'Context' is no operand: {CARRIES}")

        __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _reckon
        __lt__ = __le__ = __gt__ = __ge__ = _reckon

    def __repr__(self) -> str:
        place = "" if self.task_id is None else f", task_id={self.task_id}"
        return f"Context({self.storage!r}{place})"


#: What a call has as its initial context where `add` was given none, and the step does not ask for it.
NOTHING: Final = Context()
