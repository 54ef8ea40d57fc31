"""Links: the sources of a task's arguments, its dependencies and its conditions."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple

from dotflow.core.action import AnyAction
from dotflow.core.failure import identity_of
from dotflow.core.outputs import Part
from dotflow.core.secret import SecretUse
from dotflow.errors import AttemptError, BudgetExceeded, LimitTooSmall, Rejected

#: The kinds of arguments: a task's value, its Context, one run parameter, or all of them.
VALUE: Final = "value"
CONTEXT: Final = "context"
PARAM: Final = "param"
PARAMS: Final = "params"

MAX_PARALLEL: Final = 10_000  # items of one map in flight, without `max_parallel`

#: An order edge: the id of a task, or the ids of all tasks of an added workflow, of which the last one has its value.
Group = tuple[int, ...]


class Constant(NamedTuple):
    """A value of the definition: of `add(params=...)`, or the default of a run parameter of an added workflow.

    Attributes:
        value: The value.
        is_setting: Whether it is the default of a Setting.
    """

    value: Any
    is_setting: bool = False


class SettingName(str):
    """The name of a run parameter that is a Setting."""

    __slots__ = ()


class AllParams(str):
    """The parameter that receives all run parameters.

    Attributes:
        settings: Those among them that are Settings.
    """

    __slots__ = ("settings",)

    settings: frozenset[str]

    def __new__(cls, name: str, settings: frozenset[str] = frozenset()) -> "AllParams":
        made = super().__new__(cls, name)
        made.settings = settings
        return made


class Entry(NamedTuple):
    """The entry of an item of a workflow that runs for each item of a list.

    Attributes:
        parameter: The run parameter of the workflow that it fills, and the parameter of the list in `Links.each`.
        level: The number of the workflow, from 1 for the outermost one.
    """

    parameter: str
    level: int = 1


class Carried(NamedTuple):
    """A value of the round before, of a workflow that is repeated. The first round has none.

    Attributes:
        task: The id of the task that has it.
        level: The number of the workflow that is repeated, from 1 for the outermost one.
    """

    task: int
    level: int = 1


#: A task's id, the name of a run parameter, a Constant, an Entry or what is carried.
Source = int | str | Constant | Entry | Carried


def is_setting(source: object) -> bool:
    """Returns whether a source is a Setting, which is no input."""
    return type(source) is SettingName or (type(source) is Constant and source.is_setting)


class Bind(NamedTuple):
    """A parameter of a step, and the source of its argument.

    Attributes:
        parameter: The parameter.
        kind: VALUE, CONTEXT, PARAM or PARAMS.
        source: The source.
        required: Whether the parameter has no default.
        part: The output of the task that it takes; None for its whole value.
    """

    parameter: str
    kind: str
    source: Source
    required: bool
    part: Part | None = None


class Each(NamedTuple):
    """A parameter that receives one item, and the list of the items.

    Attributes:
        parameter: The parameter; "previous_context" if the step receives items as that.
        source: The id of the task that returns the list, the name of the run parameter, the list itself, or an entry
            that is one.
        part: The output of the task that is the list, or that its items have; None for its whole value.
        carried: The source of the list from the second round on, for a map in rounds; None for the same one.
    """

    parameter: str
    source: int | str | tuple[Any, ...] | Entry | Carried
    part: Part | None = None
    carried: Bind | None = None


class Condition(NamedTuple):
    """A condition of a task.

    Attributes:
        source: The source.
        name: The source's name, for messages.
        expected: The value that the source's value must equal; TRUE if it only must be true.
        negated: Whether the opposite must hold: `unless`.
        part: The output of the task that it asks; None for its whole value.
        by_item: Whether it is decided for each item, by the item of the source that has the same index.
    """

    source: Source
    name: str
    expected: Any
    negated: bool
    part: Part | None = None
    by_item: bool = False

    @property
    def word(self) -> str:
        """The option of `add` that it was given by."""
        return "unless" if self.negated else "when"


TRUE: Final = object()

#: What only a fallback by that name follows: nothing was tried, and somebody has decided so.
REFUSALS: Final = frozenset(map(identity_of, (BudgetExceeded, LimitTooSmall, Rejected)))
ATTEMPT_ERROR: Final = identity_of(AttemptError)


#: How many items of a map may fail, or the share of them that must complete.
Tolerance = int | float

KEEP_GOING: Final = (
    "True, False, the share of a map's items that must complete, such as 0.95, or how many of them may fail, such as 3"
)
#: What to write in place of a number that is none.
KEEP_GOING_HINT: Final = "Write False where no item may fail, and True where any may."


def is_tolerance(value: object) -> bool:
    """Returns whether a `keep_going` is a number that is accepted: 3, or 0.95."""
    return (type(value) is int and value > 0) or (type(value) is float and 0 < value < 1)


def tolerance_of(keep_going: bool | Tolerance | None) -> Tolerance | None:
    """Returns the number that a checked `keep_going` is; None for a bool and for None."""
    return None if isinstance(keep_going, bool) else keep_going


def may_fail(tolerance: Tolerance, count: int) -> int:
    """Returns how many of so many items may fail."""
    if isinstance(tolerance, int):
        return tolerance
    from fractions import Fraction  # here, since few maps need it

    return count - math.ceil(Fraction(repr(tolerance)) * count)  # exact: 0.07 * 100 is more than 7


class Handler(NamedTuple):
    """A step of further attempts, after the last one of a task has failed.

    Attributes:
        step: The step.
        errors: The names of the exceptions that it is for, as `identity_of` has them; empty for any.
        binds: The sources of its arguments.
        takes_error: Whether it takes the last error.
    """

    step: AnyAction
    errors: tuple[str, ...] = ()
    binds: tuple[Bind, ...] = ()
    takes_error: bool = False


class Nest(NamedTuple):
    """What runs again and again: an added workflow for each item of lists, or in rounds; or one step for each item.

    The tasks of a workflow are maps over the lists, or over the rounds. What they take of each other goes by item.

    Attributes:
        name: The name of the workflow; "" for the map of one step.
        tasks: The ids of its tasks; empty for the map of one step.
        limit: The number of items that have begun and are not over.
        result: The task that has its value.
        repeat: The number of rounds at most; 0 for the items of lists.
        until: The task whose value ends the rounds; None for as many as `repeat`.
        goes_on: Whether the last round's value counts where that task's never was true.
        each: The lists whose items it runs for.
        is_cross: Whether it runs for every combination of their entries; else they go in step.
        keep_going: The `keep_going` passed with it: a bool, how many of the items may fail, or the share that must
            complete; None for that of the run.
    """

    name: str = ""
    tasks: Group = ()
    limit: int = MAX_PARALLEL
    result: int = -1
    repeat: int = 0
    until: int | None = None
    goes_on: bool = False
    each: tuple[Each, ...] = ()
    is_cross: bool = False
    keep_going: bool | Tolerance | None = None

    @property
    def rounds(self) -> str:
        """How many rounds there are at most, as in "8 rounds"."""
        return f"{self.repeat} round{'s' * (self.repeat > 1)}"

    def moved(self, first: int, within: str) -> "Nest":
        """Returns it as a part of an added workflow of that name, whose first task has that id."""
        if not self.tasks:
            return self
        tasks = tuple(first + task_id for task_id in self.tasks)
        until = None if self.until is None else first + self.until
        return self._replace(name=f"{within}.{self.name}", tasks=tasks, result=first + self.result, until=until)


class Links(NamedTuple):
    """The options of one task, resolved.

    A source stands at a level: at 0 outside of all that runs again and again, at 1 inside of the outermost nest.

    Attributes:
        name: The `name` passed to `add`; None if the task has its step's name.
        binds: The sources of the step's arguments.
        needs: The tasks and added workflows that must have completed, whose values it does not take.
        after: The tasks and added workflows that must be over, whatever became of them.
        levels: The workflows for each item, or in rounds, in which it stands, from outside to inside; then its own map.
        conditions: The conditions, which must all hold.
        fallbacks: The steps of further attempts after the last one failed, each of them once.
        outputs: The parts of the value, each with a name.
        always: Whether the task is a cleanup.
        keep_going: Whether other tasks continue after its failure; None for that of its levels, or of the run.
        secrets: The secrets of the step and of its fallbacks.
        takes_key: Whether one of them, or an action of its class, takes the idempotency key.
    """

    name: str | None = None
    binds: tuple[Bind, ...] = ()
    needs: tuple[Group, ...] = ()
    after: tuple[Group, ...] = ()
    levels: tuple[Nest, ...] = ()
    conditions: tuple[Condition, ...] = ()
    fallbacks: tuple[Handler, ...] = ()
    outputs: tuple[Part, ...] = ()
    always: bool = False
    keep_going: bool | None = None
    secrets: tuple[SecretUse, ...] = ()
    takes_key: bool = False

    @property
    def fallback_binds(self) -> tuple[Bind, ...]:
        """The sources of the arguments of all fallbacks."""
        return tuple(chain.from_iterable(handler.binds for handler in self.fallbacks)) if self.fallbacks else ()

    @property
    def nests(self) -> tuple[Nest, ...]:
        """The workflows for each item, or in rounds, in which it stands, from outside to inside."""
        return self.levels[:-1] if self.each else self.levels

    @property
    def nest(self) -> Nest | None:
        """The outermost of these; None for a task in none."""
        return self.levels[0] if self.levels and self.levels[0].tasks else None

    @property
    def each(self) -> tuple[Each, ...]:
        """The lists of its own that it is mapped over; the workflows in which it stands may have further ones."""
        return self.levels[-1].each if self.levels and not self.levels[-1].tasks else ()

    @property
    def innermost(self) -> tuple[Each, ...]:
        """The lists whose entries its items have: its own, or else those of the innermost workflow around it."""
        return self.levels[-1].each if self.levels else ()

    @property
    def is_cross(self) -> bool:
        """Whether its items have every combination of their entries."""
        return bool(self.levels) and self.levels[-1].is_cross

    @property
    def is_tolerant(self) -> bool:
        """Whether `keep_going` of a map is a number of items: that of other tasks around says nothing of it."""
        return any(tolerance_of(nest.keep_going) is not None for nest in self.levels)

    @property
    def is_map_inside(self) -> bool:
        """Whether each item, or round, of the workflow that it was added with has lists of its own for it."""
        return len(self.levels) > 1

    @property
    def lists(self) -> tuple[Each, ...]:
        """Its lists, and those of the workflows in which it stands."""
        return tuple(chain.from_iterable(nest.each for nest in self.levels))

    def tolerant(self, tolerance: Tolerance) -> "Links":
        """Returns them with a tolerance of each map for which nothing else was said."""
        if self.keep_going is not None:
            return self
        return self._replace(
            levels=tuple(
                nest._replace(keep_going=tolerance) if nest.each and nest.keep_going is None else nest
                for nest in self.levels
            )
        )

    def fallback_for(self, kinds: Sequence[str]) -> int | None:
        """Returns the index of the fallback for an exception: the one that names it, or else the nearest of its bases.

        One without names is for any exception but a refusal, which only its own name covers.

        Args:
            kinds: The exception, as Failure.kinds.
        """
        is_refusal = not REFUSALS.isdisjoint(kinds)
        if is_refusal:
            kinds = kinds[: kinds.index(ATTEMPT_ERROR)]
        by_name = {name: index for index, handler in enumerate(self.fallbacks) for name in handler.errors}
        unnamed = (index for index, handler in enumerate(self.fallbacks) if not (handler.errors or is_refusal))
        return next((by_name[kind] for kind in kinds if kind in by_name), next(unnamed, None))

    def fallback_named(self, name: str) -> int | None:
        """Returns the index of the fallback whose step has that name; None if it has none."""
        return next((index for index, handler in enumerate(self.fallbacks) if handler.step.name == name), None)

    def level_of(self, source: object) -> int:
        """Returns the level at which a source stands."""
        if isinstance(source, Entry | Carried):
            return source.level
        return sum(source in nest.tasks for nest in self.levels) if isinstance(source, int) else 0

    def at(self, level: int = 0) -> "Links":
        """Returns the links to what stands at a level: what a node there takes of its scope.

        At 0 it is what all items share, without the lists that they go through. A condition on a map outside is decided
        for each item, so it stands at 1. `each` has the lists of the maps inside.
        """
        if not self.levels:
            return self

        def here(link: Any) -> tuple[Any, ...]:
            own = self.level_of(link.source)
            return (link,) if level == (max(own, link.by_item) if isinstance(link, Condition) else own) else ()

        inner = self.levels if self.levels[0].is_cross and not level else self.levels[level or 1 :]
        lists = [*chain.from_iterable(nest.each for nest in inner)]
        lists += [Each(link.parameter, link.carried.source, link.carried.part) for link in lists if link.carried]
        each = tuple(link for link in lists if self.level_of(link.source) == level)
        needs, after = (
            tuple(one for one in groups if self.level_of(one[-1]) == level) for groups in (self.needs, self.after)
        )
        return self._replace(levels=(Nest(each=each),) if each else (), needs=needs, after=after).mapped(here)

    def whole_sources(self) -> set[int]:
        """Returns the ids of the tasks that must end with all of their items."""
        links = self.at()
        return {*links.order_sources(), *links.value_sources()}

    def whole_value_sources(self) -> set[int]:
        """Returns the ids of the tasks whose whole value it depends on, not that of one item."""
        return set(self.at().value_sources())

    def value_sources(self) -> list[int]:
        """Returns the ids of the tasks whose values it depends on: for arguments, conditions and lists."""
        links: Iterable[Bind | Condition | Each] = self.binds
        if self.fallbacks or self.conditions or self.levels:
            links = (*self.binds, *self.fallback_binds, *self.conditions, *self.lists)
        return [link.source for link in links if isinstance(link.source, int)]

    def nodes_of_lists(self) -> list[Bind]:
        """Returns the nodes that have its own lists, as what it requires."""
        nodes = ((link.parameter, link.source) for link in self.each if isinstance(link.source, int | Entry | Carried))
        return [Bind(parameter, VALUE, source, required=True) for parameter, source in nodes]

    def list_sources(self) -> list[int]:
        """Returns the ids of the tasks that return the lists."""
        return [link.source for link in self.lists if isinstance(link.source, int)]

    def required_sources(self) -> list[int]:
        """Returns the ids of the tasks whose values it requires, for arguments and lists, and of those it needs."""
        links: Iterable[Bind | Each] = (*(bind for bind in self.binds if bind.required), *self.lists)
        return [*(link.source for link in links if isinstance(link.source, int)), *(need[-1] for need in self.needs)]

    def sources(self) -> list[int]:
        """Returns the ids of all tasks that must end before this one begins, each once."""
        sources = self.value_sources()
        if self.needs or self.after or len(sources) > 1:
            return list(dict.fromkeys((*sources, *self.order_sources())))
        return sources

    def order_sources(self) -> Iterator[int]:
        """Yields the ids of the tasks of `needs` and `after`."""
        return chain.from_iterable((*self.needs, *self.after))

    def mapped(self, change: Callable[[Any], Iterable[Any]]) -> "Links":
        """Returns the links with what *change* returns for each argument, list and condition: none, one or several."""

        def changed(links: Iterable[Any]) -> tuple[Any, ...]:
            return tuple(chain.from_iterable(map(change, links)))

        return self._replace(
            binds=changed(self.binds),
            levels=tuple(nest._replace(each=changed(nest.each)) for nest in self.levels),
            conditions=changed(self.conditions),
            fallbacks=tuple(handler._replace(binds=changed(handler.binds)) for handler in self.fallbacks),
        )

    def moved(self, first: int, within: str) -> "Links":
        """Returns the links of a task of a workflow that is added, but for the sources of values.

        Args:
            first: The id of its first task.
            within: Its name.
        """

        def moved(groups: tuple[Group, ...]) -> tuple[Group, ...]:
            return tuple(tuple(first + task_id for task_id in group) for group in groups)

        levels = tuple(nest.moved(first, within) for nest in self.levels)
        return self._replace(needs=moved(self.needs), after=moved(self.after), levels=levels)


NO_LINKS: Final = Links()
