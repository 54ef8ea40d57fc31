"""LinkedTask: a task with links; Item: one item of a mapped task."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dotflow.core.context import Context
from dotflow.core.events import MapEnded, MapOpened, TaskEvent, TaskPaused, TaskRestored
from dotflow.core.failure import TaskError
from dotflow.core.links import Links
from dotflow.core.outputs import Part
from dotflow.core.task import Task, TaskRecord
from dotflow.core.types.status import TypeStatus

if TYPE_CHECKING:  # few tasks ask
    from dotflow.core.approval import Question


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


class LinkedTask(TaskRecord):
    """A task with links. Its attributes are documented in Task."""

    __slots__ = ("_question", "items", "links", "source")

    links: Links
    items: "Sequence[Item]"
    source: str  # of a restored value
    _question: "Question | None"  # that was asked last
    attempt: int

    def __init__(self, *arguments: Any, links: Links, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.links = links
        self.items = ()
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
    def is_repeated(self) -> bool:
        """Whether it runs in rounds."""
        return self.links.nest is not None and bool(self.links.nest.repeat)

    @property
    def restored_from(self) -> str | None:
        if not self.is_mapped:
            return super().restored_from and self.source
        sources = {item.restored_from for item in self.items if item.status is not TypeStatus.SKIPPED}
        if not sources or None in sources:
            return None
        return "cache" if "cache" in sources else "checkpoint"

    @property
    def question(self) -> "Question | None":
        return self._question if self.status is TypeStatus.PAUSED else None

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

    def _apply_rare(self, event: TaskEvent) -> None:
        match event:
            case TaskRestored():
                super()._apply_rare(event)
                self.source = event.source
            case TaskPaused():
                super()._apply_rare(event)
                self._question = event.question
            case MapOpened():
                self.attempt = 1
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


class Item(TaskRecord):
    """One item of a mapped task: the record of its attempts.

    Attributes:
        item: The index in the list.
        task_links: The links of the mapped task.
        entry: The entry of the list: a value, the item of another map, or a Row of these.
        key_suffix: The end of the checkpoint's key, after that of the task.
    """

    __slots__ = ("_question", "entry", "item", "key_suffix", "source", "task_links")

    item: int
    task_links: Links
    entry: Any
    key_suffix: str
    source: str
    _question: "Question | None"

    def __init__(self, task: LinkedTask, item: int, entry: Any, key_suffix: str) -> None:
        super().__init__(task.task_id, task.step, None, task._initial, task.group_name, task.workflow_id, task.run_id)
        self.task_links = task.links
        self.item = item
        self.entry = entry
        self.key_suffix = key_suffix
        self.source = "checkpoint"
        self._question = None

    @property
    def task_name(self) -> str:
        """The name of the mapped task."""
        return self.task_links.name or self.step.name

    @property
    def name(self) -> str:
        nest, name = self.task_links.nest, self.task_name
        return f"{name}[{self.item}]" if nest is None else f"{nest.name}[{self.item}]{name.removeprefix(nest.name)}"

    @property
    def input(self) -> Any:
        """The value of the entry in the list; None for a round."""
        each = self.task_links.each
        if not each:
            return None
        if type(self.entry) is Row:
            return {link.parameter: _value_of(self.entry[link.parameter], link.part) for link in each}
        return _value_of(self.entry, each[0].part)

    @property
    def question(self) -> "Question | None":
        return self._question if self.status is TypeStatus.PAUSED else None

    @property
    def round(self) -> int | None:
        """The number of its round, from 0; None for an item of a list."""
        nest = self.task_links.nest
        return self.item if nest is not None and nest.repeat else None

    @property
    def restored_from(self) -> str | None:
        return super().restored_from and self.source

    def sources(self) -> Sequence["Item"]:
        """Returns the items of other maps whose values it takes, one for each such list."""
        entry = self.entry
        if type(entry) is Row:
            return [value for value in entry.values() if type(value) is Item]
        return (entry,) if type(entry) is Item else ()

    def _apply_rare(self, event: TaskEvent) -> None:
        super()._apply_rare(event)
        if isinstance(event, TaskRestored):
            self.source = event.source
        elif isinstance(event, TaskPaused):
            self._question = event.question


def outputs_of(task: Task) -> tuple[Part, ...]:
    """Returns the outputs of a task, or of the mapped task of an item."""
    links = task.task_links if isinstance(task, Item) else task.links
    return () if links is None else links.outputs


def _value_of(entry: Any, part: Part | None) -> Any:
    if type(entry) is not Item:
        return entry
    value = entry.current_context.storage
    return value if part is None else part.of(value)
