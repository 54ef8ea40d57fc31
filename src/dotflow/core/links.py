"""Links: where a task's arguments come from, what it waits for, and when it runs."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from dotflow.core.action import Action

#: What a parameter is given: a task's value, its Context, one parameter of the run, or all of these.
VALUE: Final = "value"
CONTEXT: Final = "context"
PARAM: Final = "param"
PARAMS: Final = "params"

MAX_PARALLEL: Final = 10_000  # items of one map in flight, unless `max_parallel` says otherwise


class Constant(NamedTuple):
    """A value that stands in the workflow itself: the default of a workflow that was added to this one."""

    value: Any


class Bind(NamedTuple):
    """One parameter of a step, and what fills it.

    Attributes:
        parameter: The parameter.
        kind: VALUE, CONTEXT, PARAM or PARAMS.
        source: The task's id, the name of the run's parameter, or a Constant.
        required: Whether the step can't be called without it: it has no default.
    """

    parameter: str
    kind: str
    source: int | str | Constant
    required: bool


class Each(NamedTuple):
    """The parameter that is given one item, and the list that the items are of.

    Attributes:
        parameter: The parameter; "previous_context" for a step that takes an item as that.
        source: The id of the task that returns the list, or the list itself.
    """

    parameter: str
    source: int | tuple[Any, ...]


class Condition(NamedTuple):
    """What has to be true for a task to run.

    Attributes:
        source: The id of a task, the name of a parameter of the run, or a Constant.
        name: What the user calls it.
        expected: What its value has to equal; TRUE where it only has to be true.
        negated: Whether the opposite has to hold: `unless`.
    """

    source: int | str | Constant
    name: str
    expected: Any
    negated: bool


TRUE: Final = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """Everything that `add` was told beside the step, its callback, initial context and group.

    Attributes:
        name: The name given; None where the step's own counts.
        binds: What fills the step's parameters.
        waits: The ids of tasks that only have to end first.
        each: The lists that it is mapped over, in step; empty for a task that is not mapped.
        max_parallel: How many items may be in flight at once.
        conditions: All have to hold.
        fallback: The step that further attempts are made with after the last one.
        fallback_binds: What fills its parameters.
        always: Whether it cleans up: runs however the tasks before it ended.
        keep_going: Whether others go on after it failed; None for what the run says.
    """

    name: str | None = None
    binds: tuple[Bind, ...] = ()
    waits: tuple[int, ...] = ()
    each: tuple[Each, ...] = ()
    max_parallel: int = MAX_PARALLEL
    conditions: tuple[Condition, ...] = ()
    fallback: Action[..., Any] | None = None
    fallback_binds: tuple[Bind, ...] = ()
    always: bool = False
    keep_going: bool | None = None

    def wholes(self) -> set[int]:
        """Returns the ids of the tasks that have to end as a whole, not item by item."""
        mapped = {each.source for each in self.each}
        others = replace(self, each=()).value_sources() if mapped else self.value_sources()
        return {*self.waits, *others}

    def value_sources(self) -> Iterator[int]:
        """Yields the ids of the tasks whose values decide what this one returns: arguments, conditions and lists."""
        links: Iterable[Bind | Condition | Each]
        for links in (self.binds, self.fallback_binds, self.conditions, self.each):
            for link in links:
                if isinstance(link.source, int):
                    yield link.source

    def sources(self) -> list[int]:
        """Returns the ids of all tasks that have to end before this one begins, each once."""
        return list(dict.fromkeys((*self.value_sources(), *self.waits)))

    def moved(self, new_id: Callable[[int], int], name: str | None = None) -> "Links":
        """Returns the same links in another order of tasks.

        Args:
            new_id: Returns a task's new id.
            name: The new name, if it gets one.
        """

        def moved(source: Any) -> Any:
            return new_id(source) if isinstance(source, int) else source

        return replace(
            self,
            name=self.name if name is None else name,
            binds=tuple(bind._replace(source=moved(bind.source)) for bind in self.binds),
            waits=tuple(map(new_id, self.waits)),
            each=tuple(each._replace(source=moved(each.source)) for each in self.each),
            conditions=tuple(condition._replace(source=moved(condition.source)) for condition in self.conditions),
            fallback_binds=tuple(bind._replace(source=moved(bind.source)) for bind in self.fallback_binds),
        )
