"""LinkedTask: a task with links; Item: one item of a mapped task; Scope: the tasks of an added workflow, once."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from dotflow.core.context import Context
from dotflow.core.events import MapEnded, MapOpened, TaskEvent, TaskPaused, TaskRestored
from dotflow.core.failure import TaskError
from dotflow.core.links import Each, Links, Nest
from dotflow.core.outputs import Part, take
from dotflow.core.task import RunTask, Task
from dotflow.core.text import name_at
from dotflow.core.types.status import TypeStatus

if TYPE_CHECKING:  # few tasks ask
    from dotflow.core.approval import Question

NO_NEST: Final = Nest()
ROUND: Final = "r"  # begins the key of a round; no hexadecimal digits begin so
#: A part of the key of an item: of a round, or of an entry of a list.
KEY_PART: Final = r"(r\d+|(?:(?:at)?[0-9a-f]{20}|at\d+)(?:-\d+)?)"


class MapContext(Context):
    """The context of a mapped task.

    Its `storage` has one entry for each item, in the order of the list; None for an item without a value.

    Attributes:
        entries: The entry of the list for each item, a dict by parameter for several lists. Of a map over a map it is
            the entry of the first map's list.
        errors: The last TaskError of each failed item, by the item's index.
        values: The values of the items that completed: the same list as `storage` if all did.
    """

    __slots__ = ("entries", "errors", "token", "values")

    entries: list[Any]
    errors: Mapping[int, TaskError]
    values: list[Any]
    token: str  # of all items, once it was made; "" before


class Row(dict[str, Any]):
    """The entries of an item of several lists, by parameter."""


class _Record(RunTask):
    """The record of a task with links, or of an item."""

    __slots__ = ("_questions", "source")

    source: str  # of a restored value
    _questions: "tuple[Question, ...]"  # that were asked last

    @property
    def question(self) -> "Question | None":
        return self.questions[-1] if self.questions else None

    @property
    def questions(self) -> "tuple[Question, ...]":
        """The questions whose answers it waits for: a durable step may ask several ones at once."""
        return self._questions if self.status is TypeStatus.PAUSED else ()

    @property
    def restored_from(self) -> str | None:
        return super().restored_from and self.source

    def _apply_rare(self, event: TaskEvent) -> None:
        super()._apply_rare(event)
        if isinstance(event, TaskRestored):
            self.source = event.source
        elif isinstance(event, TaskPaused):
            self._questions = () if event.question is None else (*event.others, event.question)


@dataclass(slots=True, eq=False)
class Scope:
    """The tasks of a run, or those of an added workflow for one item or in one round.

    A node is a task there: the record of a plain task, an Item, or a map of its own.

    Attributes:
        nodes: The nodes by the ids of their tasks, from *first*. Of a task that was skipped as a whole it is the task.
        first: The id of the first task.
        outer: The scope in which the workflow stands; None for that of the run.
        index: The index of the item, or the number of the round.
        key: The part of the keys of its checkpoints that shows it, and those around it.
        entry: The entry of the list: as of an Item. None for a round.
        before: The scope of the round before; None for an item, and the first round.
        own_key: The part of the key that shows its entry; "" for a round.
        level: The number of scopes around it.
        fan: Of which it is a child, in the run. None for the scope of the run.
        left: The number of its nodes that have not ended.
        unmet: By position, the nodes that its nodes wait for; None before it begins.
    """

    nodes: list[Any]
    outer: "Scope | None" = None
    first: int = 0
    index: int = 0
    key: str = ""
    entry: Any = None
    before: "Scope | None" = None
    own_key: str = ""
    level: int = 0
    fan: Any = None
    left: int = 0
    unmet: list[int] | None = None

    def node(self, task_id: int) -> Any:
        """Returns the node of a task: its own, or that of a scope around it."""
        scope = self
        while not 0 <= task_id - scope.first < len(scope.nodes):
            assert scope.outer is not None, "the run has all tasks"
            scope = scope.outer
        return scope.nodes[task_id - scope.first]


class LinkedTask(_Record):
    """A task with links. Its attributes are documented in Task.

    Attributes:
        scopes: Those of the workflow that it was added with, once they are known; each has a node of the task.
    """

    __slots__ = ("items", "links", "scopes")

    links: Links
    items: "list[Item]"
    scopes: Sequence[Scope]
    attempt: int

    def __init__(self, *arguments: Any, links: Links, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.links = links
        self.items = []
        self.scopes = ()
        self._questions = ()
        self.source = "checkpoint"

    @property
    def name(self) -> str:
        return self.links.name or self.step.name

    @property
    def key_name(self) -> str:
        return self.links.name or str(self.task_id)

    @property
    def level(self) -> int:
        """The number of the workflows for each item, or in rounds, whose scopes are around it."""
        return 0

    @property
    def opens(self) -> Nest:
        """What its items, or rounds, are of. A task that is not mapped has none."""
        levels = self.links.levels
        return levels[self.level] if levels else NO_NEST

    @property
    def nest(self) -> Nest | None:
        """The added workflow whose items, or rounds, are its own; None for a map of its own step."""
        return self.opens if self.opens.tasks else None

    @property
    def lists(self) -> Sequence[Each]:
        """The lists through whose items it goes."""
        return self.opens.each

    @property
    def is_cross(self) -> bool:
        """Whether it goes through every combination of their entries."""
        return self.opens.is_cross

    @property
    def is_mapped(self) -> bool:
        return bool(self.links.levels)

    @property
    def gives_list(self) -> bool:
        return bool(self.links.innermost)

    @property
    def gives_items(self) -> bool:
        return bool(self.lists)

    @property
    def depth(self) -> int:  # type: ignore[override]
        """How many lists stand inside of each other in its value."""
        return sum(bool(nest.each) for nest in self.links.levels[self.level :])

    @property
    def is_repeated(self) -> bool:
        return self.opens.repeat > 0

    @property
    def has_maps(self) -> bool:
        """Whether its nodes in the scopes of its workflow are maps, each with a list of its own."""
        return len(self.links.levels) > self.level + 1

    @property
    def maps(self) -> "Sequence[InnerMap]":
        """Its nodes that are maps, in the scopes that have begun."""
        nodes = [scope.node(self.task_id) for scope in self.scopes] if self.has_maps else []
        return [node for node in nodes if isinstance(node, InnerMap)]

    @property
    def nodes(self) -> "Sequence[Item | InnerMap]":  # type: ignore[override]
        """Its items; or its maps, in the scopes that have begun."""
        return self.maps if self.has_maps else self.items

    @property
    def last(self) -> Task:
        """Its node in the last round."""
        node: Task = self.scopes[-1].node(self.task_id)
        return node

    @property
    def restored_from(self) -> str | None:
        if not self.is_mapped:
            return super().restored_from
        sources = {item.restored_from for item in self.items if item.status is not TypeStatus.SKIPPED}
        if not sources or None in sources:
            return None
        return "cache" if "cache" in sources else "checkpoint"

    @property
    def has_value(self) -> bool:
        return self.status is TypeStatus.COMPLETED or self._current.__class__ is MapContext

    @property
    def value(self) -> Any:
        context = self._current
        return context.values if isinstance(context, MapContext) else super().value

    def _new_record(self, workflow_id: str, run_id: str | None, task_id: int | None = None) -> "LinkedTask":
        context = self._initial
        initial = None if context is None else Context(context.storage, time=context.time)
        number = self.task_id if task_id is None else task_id
        fields = (number, self.step, self.callback, initial, self.group_name, workflow_id, run_id)
        return LinkedTask(*fields, links=self.links)

    def _open(self, items: "Sequence[Item]") -> None:
        """Sets the items. MapOpened is applied right after it."""
        self.items = [*items]

    def cut(self, count: int) -> None:
        """Drops the rounds that did not begin, but for this number."""
        self.scopes = self.scopes[:count]
        if not self.has_maps:
            del self.items[count:]

    def begin_in(self, scope: Scope) -> "InnerMap":
        """Begins its own map in a scope."""
        scope.nodes[self.task_id - scope.first] = node = InnerMap(self, scope)
        return node

    @property
    def inner_maps(self) -> "Iterator[InnerMap]":
        """Yields all maps in scopes of it that have begun, the innermost ones first."""
        for node in self.maps:
            yield from node.inner_maps
            yield node

    def _apply_rare(self, event: TaskEvent) -> None:
        match event:
            case MapOpened():
                self.attempt = 1
                if self._started is None:  # one inside of an added workflow opens in each scope
                    self._started = event.at
                    self._tick = event.tick
            case MapEnded():
                self._current = event.context
                self.reason = event.reason  # in place of that of a pause before
                if event.failure is not None:
                    self.status = TypeStatus.FAILED
                    self._add_error(1, event.failure)
                if self.restored_from is None:
                    self._end(event.at, event.tick)
                else:  # it did not run
                    self.attempt, self._started = 0, None
            case _:
                super()._apply_rare(event)


def nodes_of_entry(entry: Any) -> "Sequence[ItemOrMap]":
    """Returns the items of other maps whose values an item takes as its entry: one for each such list."""
    if type(entry) is Row:
        return [value for value in entry.values() if type(value) in NODES]
    return (entry,) if type(entry) in NODES else ()


class InnerMap(LinkedTask):
    """A map in one scope of an added workflow. The task of the run has all of its items, and publishes its events.

    Attributes:
        scope: The scope.
    """

    __slots__ = ("scope",)

    scope: Scope

    def __init__(self, task: LinkedTask, scope: Scope) -> None:
        fields = (task.task_id, task.step, None, task._initial, task.group_name, task.workflow_id, task.run_id)
        super().__init__(*fields, links=task.links)
        self.scope = scope

    @property
    def level(self) -> int:
        return self.scope.level

    @property
    def owner(self) -> LinkedTask:
        """The map of which it is a node: of the run, or in a scope around."""
        assert self.scope.outer is not None
        owner: LinkedTask = self.scope.outer.node(self.task_id)
        return owner

    @property
    def owners(self) -> "Iterator[LinkedTask]":
        """Yields the maps of which it is a part, the innermost one first; the last one is that of the run."""
        scope = self.scope
        while scope.outer is not None:
            scope = scope.outer
            yield scope.node(self.task_id)

    def add_items(self) -> None:
        """Adds its items to those of the maps of which it is a part, which count on. MapOpened follows."""
        if not self.has_maps:
            for owner in self.owners:
                owner.items += self.items

    @property
    def item(self) -> int:  # type: ignore[override]
        """The index of its scope."""
        return self.scope.index

    @property
    def name(self) -> str:
        return _name_in(self.scope, self.links, super().name)

    @property
    def entry(self) -> Any:
        """The entry of its scope."""
        return self.scope.entry

    @property
    def entry_key(self) -> str:
        """The part of the keys that shows its scope."""
        return self.scope.own_key or self.scope.key


class Item(_Record):
    """One item of a mapped task: the record of its attempts.

    Attributes:
        item: The index in the list.
        task_links: The links of the mapped task.
        scope: The scope of the added workflow in which it stands; that of the run for an item of a plain map.
        entry: The entry of the list: a value, the item of another map, or a Row of these.
        entry_key: The part of the key that shows its entry; "" for a round.
        key_suffix: The end of the checkpoint's key, after that of the task.
    """

    __slots__ = ("entry", "entry_key", "item", "key_suffix", "scope", "task_links")

    item: int
    task_links: Links
    entry: Any
    entry_key: str
    key_suffix: str
    scope: Scope

    def __init__(
        self, task: LinkedTask, item: int, entry: Any, entry_key: str, scope: "Scope", key_suffix: str
    ) -> None:
        super().__init__(task.task_id, task.step, None, task._initial, task.group_name, task.workflow_id, task.run_id)
        self.task_links = task.links
        self.item = item
        self.entry = entry
        self.entry_key = entry_key
        self.key_suffix = key_suffix
        self.scope = scope
        self.source = "checkpoint"
        self._questions = ()

    @property
    def task_name(self) -> str:
        """The name of the mapped task."""
        return self.task_links.name or self.step.name

    @property
    def name(self) -> str:
        links = self.task_links
        if links.nest is None or not self.scope.level:  # one that stands for a key has no scopes around it
            return f"{self.task_name}[{self.item}]"
        own = f"[{self.index}]" if links.each else ""
        return _name_in(self.scope, links, self.task_name) + own

    @property
    def index(self) -> int:
        """The index in its list, or the number of its round: those of maps in scopes count on."""
        if self.task_links.is_map_inside and self.task_links.each:
            return self.item - map_of(self).items[0].item
        return self.scope.index if self.scope.level else self.item

    @property
    def path(self) -> tuple[int, ...]:
        """Its index, and those of the items around it, from outside to inside."""
        path, scope = [self.index] if self.task_links.each else [], self.scope
        while scope.outer is not None:
            path.insert(0, scope.index)
            scope = scope.outer
        return tuple(path)

    @property
    def round(self) -> int | None:
        """The number of its round, from 0; None for an item of a list outside of rounds."""
        scope, nest = self.scope, self.task_links.nest
        while scope.level > 1:
            assert scope.outer is not None
            scope = scope.outer
        return scope.index if nest is not None and nest.repeat else None

    @property
    def input(self) -> Any:
        """The value of the entry in the list; None for a round."""
        each = self.task_links.innermost
        if not each:
            return None
        if type(self.entry) is Row:
            return {link.parameter: value_of_entry(self.entry[link.parameter], link.part) for link in each}
        return value_of_entry(self.entry, each[0].part)


NO_SCOPE: Final = Scope([])  # of the items of a plain map

#: What takes from its scope: an item, or a map.
ItemOrMap = Item | InnerMap
NODES: Final = frozenset({Item, InnerMap})


def _name_in(scope: Scope, links: Links, name: str) -> str:
    """Returns the name of a node in a scope, with the indices of those around it."""
    levels, path = [nest.name for nest in links.levels[: scope.level]], []
    for _ in levels:
        path.append(scope.index)
        scope = scope.outer or scope
    return name_at(name, levels, path[::-1])


def item_of_key(task: LinkedTask, index: int, key_suffix: str) -> Item:
    """Returns a record that stands for the item whose key ends so: of its list nothing else need be known."""
    is_inside, has_own = task.links.nest is not None, bool(task.links.each)
    found = re.fullmatch("-".join([KEY_PART] * len(task.links.levels)), key_suffix) if is_inside else None
    key, entry_key = (key_suffix, "") if is_inside else ("", key_suffix)
    if found is not None:
        key, entry_key = found[1], found[found.re.groups] if has_own else ""
    number = int(key[1:]) if key.startswith(ROUND) and key[1:].isdecimal() else 0
    return Item(task, index, None, entry_key, Scope([], index=number, key=key), key_suffix)


def map_of(item: Item) -> LinkedTask:
    """Returns the map of an item of a task that has maps in scopes."""
    scope = item.scope
    node: Any = scope.node(item.task_id)
    if node is item and scope.outer is not None:
        node = scope.outer.node(item.task_id)
    assert isinstance(node, LinkedTask)
    return node


def outputs_of(task: Task) -> tuple[Part, ...]:
    """Returns the outputs of a task, or of the mapped task of an item."""
    links = task.task_links if isinstance(task, Item) else task.links
    return () if links is None else links.outputs


def value_of_entry(entry: Any, part: Part | None) -> Any:
    """Returns what an item receives of an entry: the entry itself, or the value of another map's item, or its part."""
    if type(entry) not in NODES:
        return entry
    value = entry.current_context.storage if type(entry) is Item else entry.value
    return value if part is None else take(value, part, entry.depth)
