"""ItemMap: a mapped task while it runs."""

import hashlib
import itertools
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from dotflow.core.context import Context
from dotflow.core.failure import Failure
from dotflow.core.links import CONTEXT
from dotflow.core.task import Task
from dotflow.core.text import safe_repr, shorten
from dotflow.core.types.status import TypeStatus
from dotflow.errors import ItemsFailed, NotAList, UnequalLists, ValueNotStorable
from dotflow.graph.decisions import Arguments, Skip, ending, value_of
from dotflow.graph.linked_task import Item, LinkedTask, MapContext, Row
from dotflow.graph.params import Params

KEY_LENGTH: Final = 20  # hexadecimal digits of an item's key: 80 bits, so 100,000 items collide once in 10**14 maps
BY_INDEX: Final = "at"  # begins the key of an item that the codec refuses; no hexadecimal digits begin so
MAX_SHOWN: Final = 3  # failed items that the error of their map shows
MAX_INPUT: Final = 60  # characters of an item in it

COMPLETED, FAILED = TypeStatus.COMPLETED, TypeStatus.FAILED


class ItemMap:
    """The items of a mapped task that has opened.

    Args:
        task: The task.
        shared: The arguments that all items share.
        previous: The previous context of each item, unless the item itself is that.
        limit: The number of items in flight at once.
        keep_going: Whether other items begin after a failure of one.
    """

    def __init__(self, task: LinkedTask, shared: Arguments, previous: Context, limit: int, keep_going: bool) -> None:
        self.task = task
        self.shared = shared
        self.previous = previous
        self.keep_going = keep_going
        self.pending: deque[int] = deque()  # items that may begin, in order
        self.continued: dict[int, int] = {}  # the lanes that pending items continue: their workers have the values
        self.in_flight: dict[int, int | None] = {}  # items that have begun, and their lanes; None for no attempt
        self.left = len(task.items)
        self.is_waiting = False  # whether its next item is among the run's ready tasks
        self._only = task.links.each[0].parameter if len(task.links.each) == 1 else None
        self._parts = {link.parameter: link.part for link in task.links.each if link.part is not None}
        self._limit = limit
        self._has_failed = False
        self._is_closed = False

    @property
    def may_begin(self) -> int:
        """The number of items that could begin now."""
        return 0 if self.is_waiting else min(len(self.pending), self._limit - len(self.in_flight))

    def add(self, item: Item, lane: int | None) -> None:
        """Makes an item pending, unless the map has stopped. *lane* is the one that it continues.

        Where the next item waits for a worker, an item that continues a lane goes before it: its worker is free now.
        One of a cached step does not, since the next item has been looked up already.
        """
        if self._is_closed:
            return
        if lane is not None:
            self.continued[item.item] = lane
        if lane is not None and self.is_waiting and self.task.step.cache is None:
            self.pending.appendleft(item.item)
        else:
            self.pending.append(item.item)

    def stop(self) -> None:
        """Drops the pending items that have no room now. No other one becomes pending."""
        self._is_closed = True
        while len(self.pending) > self._limit - len(self.in_flight):
            self.pending.pop()

    @property
    def has_stopped(self) -> bool:
        """Whether the failure of an item has ended it."""
        return self._has_failed and not self.keep_going

    @property
    def is_over(self) -> bool:
        """Whether no item runs, and none will begin."""
        return not self.in_flight and (not self.left or (self.has_stopped and not self.pending))

    @property
    def next(self) -> Item:
        """The item that begins next."""
        return self.task.items[self.pending[0]]

    @property
    def continued_lane(self) -> int | None:
        """The lane that the next item continues; None if it begins one of its own."""
        return self.continued.get(self.pending[0])

    def begin(self, lane: int | None) -> None:
        """Notes that the next item begins in *lane*; without an attempt if that is None."""
        self.is_waiting = False
        index = self.pending.popleft()
        self.continued.pop(index, None)
        self.in_flight[index] = lane

    def end(self, item: Item, *, has_failed: bool) -> int | None:
        """Counts an item that has ended. Returns its lane; None for an item without an attempt."""
        self.left -= 1
        self._has_failed = self._has_failed or has_failed
        return self.in_flight.pop(item.item, None)

    def arguments_of(self, item: Item) -> Arguments | Skip:
        """Returns an item's own arguments; a Skip if an item of another map that it needs has no value."""
        if self._only is not None and type(item.entry) is not Item:  # __class__ may be the user's own property
            return {self._only: item.entry}
        values: Arguments = {}
        entries: Mapping[str, Any] = item.entry if self._only is None else {self._only: item.entry}
        for parameter, entry in entries.items():
            if type(entry) is Item:
                if not entry.has_value:
                    return Skip(f"it needs '{entry.name}', which {ending(entry)}")
                entry = entry.current_context.storage
                if parameter in self._parts:
                    entry = self._parts[parameter].of(entry)
            values[parameter] = entry
        return values


def map_context(task: LinkedTask, context: Context) -> MapContext:
    """Returns *context* with the values, the entries and the errors of the items."""
    items = task.items
    completed = [item.current_context.storage for item in items if item.status is COMPLETED]
    values = completed
    if len(completed) < len(items):
        values = [item.current_context.storage if item.status is COMPLETED else None for item in items]
    result = MapContext(values, context.task_id, context.workflow_id, context.time, context.step)
    result.values = completed
    result.token = ""
    result.errors = {item.item: item.error for item in items if item.status is FAILED and item.error}
    result.entries = [item.entry if type(item.entry) not in (Item, Row) else _first_entry(item.entry) for item in items]
    return result


def _first_entry(entry: Any) -> Any:
    """Returns the entry that a map was given, of a map over a map that of the first one: no value of an item."""
    if type(entry) is Row:
        return {name: _first_entry(own) for name, own in entry.items()}
    return _first_entry(entry.entry) if type(entry) is Item else entry


def missing_values(task: LinkedTask, tasks: Sequence[Task], params: Params, short: Collection[int]) -> str:
    """Returns a note if a task takes the values of a map beside a list that the map goes through, and gets fewer.

    Args:
        task: The task, whose arguments are known.
        tasks: All tasks.
        params: The run parameters.
        short: The maps that have fewer values than items.
    """
    taken = {bind.source for bind in task.links.binds if bind.kind != CONTEXT and isinstance(bind.source, int | str)}
    has_context = {bind.source for bind in task.links.binds if bind.kind == CONTEXT and isinstance(bind.source, int)}
    for source in sorted(one for one in short if one in taken and one not in has_context):
        of, lists = tasks[source], taken & _lists_behind(tasks[source], tasks)
        values, count = len(of.value), len(of.items)
        if any(len(tasks[one].value if isinstance(one, int) else params[one]) > values for one in lists):
            name = of.name.rpartition(".")[2]
            missing = f"{count - values} of {count} values of '{of.name}' are missing"
            return f"Task {task.task_id} {task.name}: {missing}: take {name}_context."
    return ""


def _lists_behind(task: Task, tasks: Sequence[Task]) -> set[int | str]:
    """Returns the tasks and run parameters whose lists a map goes through, and those of the maps that it goes over."""
    found = set[int | str]()
    for link in () if task.links is None else task.links.each:
        if isinstance(link.source, int):
            found |= {link.source} | _lists_behind(tasks[link.source], tasks)
        elif isinstance(link.source, str):
            found.add(link.source)
    return found


def map_failure(task: LinkedTask) -> Failure | None:
    """Returns the failure of a mapped task; None if no item failed."""
    failed = [item for item in task.items if item.status is FAILED]
    if not failed:
        return None
    return Failure(ItemsFailed.__name__, str(ItemsFailed(len(failed), len(task.items), _first_of(failed))))


def _first_of(failed: Sequence[Item]) -> str:
    """Returns the first failed items as `[13] 'https://…' ConnectionError`."""
    first = ", ".join(
        f"[{item.item}] {shorten(item.error._masks.mask(safe_repr(item.input)), MAX_INPUT)} {item.error.exception}"
        for item in failed[:MAX_SHOWN]
        if item.error is not None
    )
    return f"{first}, ..." if len(failed) > MAX_SHOWN else first


def lists_of(task: LinkedTask, tasks: Sequence[Task], params: Params) -> dict[str, Sequence[Any]]:
    """Returns the list of each parameter that receives items; the items of a mapped source, their values for a cross.

    Raises NotAList or UnequalLists.
    """
    lists: dict[str, Sequence[Any]] = {}
    for parameter, source, part in task.links.each:
        if isinstance(source, tuple):
            lists[parameter] = source
        elif isinstance(source, int) and tasks[source].is_mapped and not task.links.is_cross:
            lists[parameter] = tasks[source].items
        else:
            value = value_of(tasks[source], part) if isinstance(source, int) else params[source]
            if not isinstance(value, list | tuple):
                name = part.name if part else tasks[source].name if isinstance(source, int) else source
                raise NotAList(task.name, name, type(value).__name__)
            lists[parameter] = value
    if not task.links.is_cross and len({len(entries) for entries in lists.values()}) > 1:
        raise UnequalLists(task.name, {name: len(entries) for name, entries in lists.items()})
    return lists


def make_items(task: LinkedTask, lists: Mapping[str, Sequence[Any]]) -> list[Item]:
    """Returns an item for each entry of the lists of `lists_of`, with the end of its checkpoint's key."""
    seen: dict[str, int] = {}
    columns = list(lists.values())
    only = columns[0] if len(columns) == 1 else None
    items = []
    rows = itertools.product(*columns) if task.links.is_cross else zip(*columns, strict=True)
    for index, entry in enumerate(rows if only is None else only):
        key = _key_of(entry, index) if only is not None else _key_of_several(entry, index)
        count = seen[key] = seen.get(key, 0) + 1
        if count > 1:
            key = f"{key}-{count}"
        value = entry if only is not None else Row(zip(lists, entry, strict=True))
        items.append(Item(task, index, value, key))
    return items


def _key_of(value: Any, index: int) -> str:
    if type(value) is Item:  # of another map: it has the same key
        return str(value.key_suffix)
    from dotflow.codec.canonical import digest  # here, since only maps need it

    try:
        return digest(value)[:KEY_LENGTH]
    except ValueNotStorable:
        return f"{BY_INDEX}{index}"


def _key_of_several(entry: Sequence[Any], index: int) -> str:
    keys = [_key_of(value, index) for value in entry]
    key = hashlib.blake2b("\n".join(keys).encode(), digest_size=KEY_LENGTH // 2).hexdigest()
    return f"{BY_INDEX}{key}" if any(own.startswith(BY_INDEX) for own in keys) else key
