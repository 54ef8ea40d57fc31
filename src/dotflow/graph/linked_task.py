"""LinkedTask: a task with links; Item: one item of a mapped task; MapRound: a map in one round."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from dotflow.core.context import Context
from dotflow.core.events import MapEnded, MapOpened, TaskEvent, TaskPaused, TaskRestored
from dotflow.core.failure import TaskError
from dotflow.core.links import Links
from dotflow.core.outputs import Part
from dotflow.core.task import RunTask, Task
from dotflow.core.types.status import TypeStatus

if TYPE_CHECKING:  # few tasks ask
    from dotflow.core.approval import Question

ROUND: Final = "r"  # begins the key of a round; no hexadecimal digits begin so


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

    __slots__ = ("_question", "source")

    source: str  # of a restored value
    _question: "Question | None"  # that was asked last

    @property
    def question(self) -> "Question | None":
        return self._question if self.status is TypeStatus.PAUSED else None

    @property
    def restored_from(self) -> str | None:
        return super().restored_from and self.source

    def _apply_rare(self, event: TaskEvent) -> None:
        super()._apply_rare(event)
        if isinstance(event, TaskRestored):
            self.source = event.source
        elif isinstance(event, TaskPaused):
            self._question = event.question


class LinkedTask(_Record):
    """A task with links. Its attributes are documented in Task."""

    __slots__ = ("_rounds", "items", "links")

    links: Links
    items: "Sequence[Item]"
    _rounds: "Sequence[MapRound]"  # of a map in rounds, those that have begun
    attempt: int

    def __init__(self, *arguments: Any, links: Links, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.links = links
        self.items = ()
        self._rounds = ()
        self._question = None
        self.source = "checkpoint"

    @property
    def name(self) -> str:
        return self.links.name or self.step.name

    @property
    def key_name(self) -> str:
        return self.links.name or str(self.task_id)

    @property
    def is_mapped(self) -> bool:
        return bool(self.links.each) or self.is_repeated

    @property
    def gives_list(self) -> bool:
        return bool(self.links.each)

    @property
    def gives_items(self) -> bool:
        return bool(self.links.each) and not self.is_repeated

    @property
    def is_repeated(self) -> bool:
        """Whether it runs in rounds."""
        return self.links.nest is not None and bool(self.links.nest.repeat)

    @property
    def is_map_in_rounds(self) -> bool:
        """Whether each round has a list of its own, through which it goes."""
        return bool(self.links.each) and self.is_repeated

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

    def _open(self, items: Sequence["Item"]) -> None:
        """Sets the items. MapOpened is applied right after it."""
        self.items = items

    def record_at(self, number: int) -> "Item | MapRound":
        """Returns the item with this index, of a map in rounds its round; one that has not begun has a new record."""
        if self.items and not self._rounds:
            return self.items[number]
        return self._rounds[number] if number < len(self._rounds) else MapRound(self, number)

    def _open_round(self, number: int) -> "MapRound":
        """Begins the round of a map with this number."""
        record = MapRound(self, number)
        self._rounds = [*self._rounds, record]
        return record

    def _add_items(self, record: "MapRound", items: Sequence["Item"]) -> None:
        """Sets the items of a round, which count on. MapOpened is applied right after it."""
        record._open(items)
        self.items = [*self.items, *items]

    def _apply_rare(self, event: TaskEvent) -> None:
        match event:
            case MapOpened():
                self.attempt = 1
                if self._started is None:  # a map in rounds opens again in each
                    self._started = event.at
                    self._tick = event.tick
            case MapEnded():
                self._current = event.context
                if event.failure is not None:
                    self.status, self.reason = TypeStatus.FAILED, ""  # the reason of a pause before
                    self._add_error(1, event.failure)
                if self.restored_from is None:
                    self._end(event.at, event.tick)
                else:  # it did not run
                    self.attempt, self._started = 0, None
            case _:
                super()._apply_rare(event)


class MapRound(LinkedTask):
    """A map in one round of a workflow that is repeated. Its map is a task of the run, and publishes its events.

    Attributes:
        item: The number of the round.
        entry: None: what it takes, it takes as a whole.
    """

    __slots__ = ("item",)

    item: int
    entry: Any = None

    def __init__(self, task: LinkedTask, number: int) -> None:
        fields = (task.task_id, task.step, None, task._initial, task.group_name, task.workflow_id, task.run_id)
        super().__init__(*fields, links=task.links)
        self.item = number

    @property
    def name(self) -> str:
        return _name_in_nest(self.links, self.item, super().name)

    @property
    def is_repeated(self) -> bool:
        return False

    def sources(self) -> Sequence["Item"]:
        return ()


class Item(_Record):
    """One item of a mapped task: the record of its attempts.

    Attributes:
        item: The index in the list.
        task_links: The links of the mapped task.
        entry: The entry of the list: a value, the item of another map, or a Row of these.
        entry_key: The part of the key that shows its entry; "" for a round.
        round: The number of its round, from 0; None for an item of a list outside of rounds.
    """

    __slots__ = ("entry", "entry_key", "item", "round", "task_links")

    item: int
    task_links: Links
    entry: Any
    entry_key: str
    round: int | None

    def __init__(self, task: LinkedTask, item: int, entry: Any, entry_key: str, number: int | None = None) -> None:
        super().__init__(task.task_id, task.step, None, task._initial, task.group_name, task.workflow_id, task.run_id)
        self.task_links = task.links
        self.item = item
        self.entry = entry
        self.entry_key = entry_key
        self.round = number
        self.source = "checkpoint"
        self._question = None

    @property
    def task_name(self) -> str:
        """The name of the mapped task."""
        return self.task_links.name or self.step.name

    @property
    def name(self) -> str:
        links = self.task_links
        if links.nest is None or (links.each and links.nest.repeat):
            return f"{self.task_name}[{self.item}]"
        return _name_in_nest(links, self.item, self.task_name)

    @property
    def input(self) -> Any:
        """The value of the entry in the list; None for a round."""
        each = self.task_links.each
        if not each:
            return None
        if type(self.entry) is Row:
            return {link.parameter: value_of_entry(self.entry[link.parameter], link.part) for link in each}
        return value_of_entry(self.entry, each[0].part)

    @property
    def key_suffix(self) -> str:
        """The end of the checkpoint's key, after that of the task."""
        if self.round is None:
            return self.entry_key
        return f"{ROUND}{self.round}-{self.entry_key}" if self.entry_key else f"{ROUND}{self.round}"

    def sources(self) -> Sequence["Item"]:
        """Returns the items of other maps whose values it takes, one for each such list."""
        entry = self.entry
        if type(entry) is Row:
            return [value for value in entry.values() if type(value) is Item]
        return (entry,) if type(entry) is Item else ()


#: What takes from beside it: an item, or the round of a map.
ItemOrRound = Item | MapRound


def beside(task: Task, number: int) -> Task:
    """Returns what `record_at` does; a task without items itself."""
    if task._rounds and isinstance(task, LinkedTask):
        return task.record_at(number)
    return task.items[number] if task.items else task


def _name_in_nest(links: Links, index: int, name: str) -> str:
    assert links.nest is not None
    return f"{links.nest.name}[{index}]{name.removeprefix(links.nest.name)}"


def item_of_key(task: LinkedTask, index: int, key_suffix: str) -> Item:
    """Returns a record that stands for the item whose key ends so: of its list nothing else need be known."""
    number, _, entry_key = key_suffix.partition("-")
    if number.startswith(ROUND) and number[1:].isdecimal():
        return Item(task, index, None, entry_key, int(number[1:]))
    return Item(task, index, None, key_suffix)


def outputs_of(task: Task) -> tuple[Part, ...]:
    """Returns the outputs of a task, or of the mapped task of an item."""
    links = task.task_links if isinstance(task, Item) else task.links
    return () if links is None else links.outputs


def value_of_entry(entry: Any, part: Part | None) -> Any:
    """Returns what an item receives of an entry: the entry itself, or the value of another map's item, or its part."""
    if type(entry) is not Item:
        return entry
    value = entry.current_context.storage
    return value if part is None else part.of(value)
