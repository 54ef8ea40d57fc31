"""ItemInputs: what an item takes from beside it. Runs, resumes, plans and the cache read it by the same functions."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from dotflow.core.links import CONTEXT, VALUE, Bind, Carried, Entry
from dotflow.core.masks import NO_MASKS, Masks
from dotflow.core.outputs import Part, take
from dotflow.core.task import Task
from dotflow.graph.decisions import (
    COMPLETED,
    NOT_ENDED,
    Arguments,
    Decision,
    Skip,
    ending,
    unmet_condition,
    unmet_group,
    unmet_value,
)
from dotflow.graph.linked_task import Item, ItemOrRound, LinkedTask, MapRound, Row, beside, value_of_entry

#: The label of an argument or condition, and the task and the part that are behind it.
Labelled = tuple[str, Task, Part | None]


class ItemInputs:
    """What the items of a mapped task take by item: their entries, and items of other maps with the same index.

    A task in rounds takes it by round. Of a map in rounds, the items of one round take their entries only.

    Args:
        task: The mapped task, or one round of a map.
        tasks: The tasks of the run, with their records.
        before: The task of the same workflow whose item goes first, where items run from end to end.

    Attributes:
        is_plain: Whether an item takes its entries only.
        follows: Whether an item waits for another task of the same workflow, which ends after the maps have opened.
        carried: The parameters that get a value of the round before, from the second round on.
        fallback_carried: Those of the fallback.
        beside: The ids of the tasks of which it takes or waits for the item with its index.
    """

    def __init__(self, task: LinkedTask, tasks: Sequence[Task], before: int | None = None) -> None:
        links = task.links
        nest = None if isinstance(task, MapRound) else links.nest
        self._tasks = tasks
        self._has_entries = any(isinstance(link.source, int) and tasks[link.source].gives_items for link in links.each)
        self._only = links.each[0].parameter if len(links.each) == 1 else None
        self._parts = {link.parameter: link.part for link in links.each}
        self._conditions = [one for one in links.conditions if one.by_item and not isinstance(task, MapRound)]
        self._lists: Sequence[_Taken] = ()  # of a map in rounds
        self._binds: Sequence[_Taken] | None = None  # None for a map whose parameters are those of its lists
        self._fallback_binds: Sequence[_Taken] = ()
        self._needs: Sequence[Sequence[int]] = ()
        order: list[int] = [] if before is None else [before]
        if nest is not None:
            self._binds = [_Taken.of(bind, tasks) for bind in links.binds if nest.has(bind.source)]
            self._fallback_binds = [_Taken.of(bind, tasks) for bind in links.fallback_binds if nest.has(bind.source)]
            self._needs = [group for group in links.needs if nest.has(group[-1])]
            order += (source for source in links.order_sources() if nest.has(source))
        self.carried = {bind.parameter for bind in self._binds or () if bind.is_carried}
        self.fallback_carried = {bind.parameter for bind in self._fallback_binds if bind.is_carried}
        taken = [(bind.parameter, bind) for bind in self._binds or ()]
        taken += [(f"fallback {bind.parameter}", bind) for bind in self._fallback_binds]
        self._labels: list[Labelled] = []
        self._before: list[Labelled] = []
        for label, one in taken:
            if one.task is not None:
                (self._before if one.is_carried else self._labels).append((label, one.task, one.part))
        for condition in self._conditions:
            if isinstance(condition.source, int):
                self._labels.append((f"when {condition.name}", tasks[condition.source], None))
        if nest is not None and nest.until is not None:  # a round begins for what this one of the round before was
            self._before.append(("until", tasks[nest.until], None))
        if nest is not None and nest.repeat:
            inside = [(one, one.source) for one in links.each if isinstance(one.source, int) and nest.has(one.source)]
            binds = [Bind(one.parameter, VALUE, source, True, one.part) for one, source in inside]
            binds += [one.carried for one in links.each if one.carried is not None]
            self._lists = [_Taken.of(bind, tasks) for bind in binds]
        self._taken = list({task.task_id: task for _, task, _ in self._labels}.values())
        self._taken_before = [task for _, task, _ in self._before]
        for one in self._lists:
            if one.task is not None:
                (self._taken_before if one.is_carried else self._taken).append(one.task)
        self.beside = list(dict.fromkeys((*(task.task_id for task in self._taken), *order)))
        self._waits = [tasks[source] for source in self.beside]
        self.is_plain = nest is None and not self._conditions
        self.follows = nest is not None and any(map(nest.has, self.beside))

    def value_sources(self, item: ItemOrRound) -> Sequence[Task]:
        """Returns the records whose values the item depends on: of items, or of a map without items."""
        if not self._taken and not self._taken_before:
            return item.sources()
        records = [beside(task, item.item) for task in self._taken]
        records += [beside(task, item.item - 1) for task in self._taken_before if item.item]
        return [*item.sources(), *records]

    def is_known(self, item: ItemOrRound) -> bool:
        """Returns whether all is over that the item depends on."""
        return all(map(is_over, self.value_sources(item)))

    def has_conditions(self, item: ItemOrRound) -> bool:
        """Returns whether all is over that the item's conditions are decided by."""
        sources = [link.source for link in self._conditions]
        entries = [_entry_of(item, source.parameter) for source in sources if isinstance(source, Entry)]
        records = [self.record(source, item) for source in sources if isinstance(source, int)]
        return all(map(is_over, [*records, *(entry for entry in entries if type(entry) is Item)]))

    def is_ready(self, item: ItemOrRound) -> bool:
        """Returns whether all is over that the item waits for."""
        if self._has_entries and not all(map(is_over, item.sources())):
            return False
        index = item.item
        for task in self._waits:
            record = beside(task, index) if task._rounds else task.items[index] if task.items else task
            if record.status in NOT_ENDED:
                return False
        return True

    def record(self, source: int, item: ItemOrRound) -> Task:
        """Returns the item of another map that has the same index; the map itself where it has no items."""
        return beside(self._tasks[source], item.item)

    def unmet_need(self, item: ItemOrRound) -> Skip | None:
        """Returns a Skip if an item that must have completed has not."""
        if not self._needs:
            return None
        return next(filter(None, map(unmet_group, self._groups(item))), None)

    def _groups(self, item: ItemOrRound) -> Iterator[Sequence[Task]]:
        """Yields the items that must have completed, together those of an added workflow."""
        return ([self.record(source, item) for source in group] for group in self._needs)

    def decide(self, item: ItemOrRound, masks: Masks = NO_MASKS) -> Decision:
        """Returns the item's own arguments, or a Skip, by the values that it depends on; order is not judged.

        Comparing the values of conditions may raise any error.
        """
        skip = self._unmet_condition(item, masks) if self._conditions else None
        return skip or self.arguments(item)

    def _unmet_condition(self, item: ItemOrRound, masks: Masks, *, are_over: bool = True) -> Skip | None:
        """Returns a Skip if one of the conditions does not hold; without *are_over* only by what is over already."""
        for condition in self._conditions:
            if isinstance(condition.source, int):
                record = self.record(condition.source, item)
                skip = unmet_condition(condition, record, masks) if are_over or is_over(record) else None
            else:
                assert isinstance(condition.source, Entry)
                entry = _entry_of(item, condition.source.parameter)
                if not are_over and type(entry) is Item and not is_over(entry):
                    continue
                value = value_of_entry(entry, self._parts[condition.source.parameter])
                skip = _without_value(entry) or unmet_value(condition, value, masks)
            if skip is not None:
                return skip
        return None

    def foresee(self, item: ItemOrRound, masks: Masks = NO_MASKS) -> Skip | None:
        """Returns a Skip if what is over already shows that the item does not run.

        Comparing the values of conditions may raise any error.
        """
        skip = self._unmet_condition(item, masks, are_over=False)
        if skip is not None:
            return skip
        sources: list[Task] = [*item.sources()]
        for bind in self._binds or ():
            if bind.required and bind.task is not None and (item.item or not bind.is_carried):
                sources.append(beside(bind.task, item.item - bind.is_carried))
        for source in sources:
            if is_over(source) and not source.has_value:
                return Skip(f"it needs '{source.name}', which {ending(source)}")
        groups = (group for group in self._groups(item) if all(map(is_over, group)))
        return next(filter(None, map(unmet_group, groups)), None)

    def arguments(self, item: ItemOrRound) -> Decision:
        """Returns the item's own arguments; a Skip if one that it requires has no value."""
        if self._binds is not None:
            skip = next(filter(None, map(_without_value, item.sources())), None) if self._has_entries else None
            if self._lists and isinstance(lists := self._bound(item, self._lists), Skip):
                return lists
            return skip or self._bound(item, self._binds)
        if self._only is not None and type(item.entry) is not Item:  # __class__ may be the user's own property
            return {self._only: item.entry}
        values: Arguments = {}
        entries: Mapping[str, Any] = item.entry if self._only is None else {self._only: item.entry}
        for parameter, entry in entries.items():
            skip = _without_value(entry)
            if skip is not None:
                return skip
            values[parameter] = value_of_entry(entry, self._parts[parameter])
        return values

    def fallback_arguments(self, item: ItemOrRound) -> Decision:
        """Returns what `arguments` does, for the fallback of a workflow's task."""
        return self._bound(item, self._fallback_binds)

    def _bound(self, item: ItemOrRound, binds: "Sequence[_Taken]") -> Decision:
        values: Arguments = {}
        for bind in binds:
            parameter, entry, task, is_value, required, part, is_carried = bind
            if task is None:
                values[parameter] = value_of_entry(_entry_of(item, entry), self._parts[entry])
                continue
            if is_carried and not item.item:
                continue
            number = item.item - is_carried
            if task._rounds:  # of a map in rounds
                record = beside(task, number)
                if record.has_value:
                    values[parameter] = take(record.value, part, is_mapped=True) if is_value else record.current_context
                    continue
            else:
                record = task.items[number] if task.items else task  # as beside, without the call: the hot path
            if record.status is COMPLETED:
                value = record.current_context.storage if is_value else record.current_context
                values[parameter] = value if part is None else part.of(value)
            elif required:
                return Skip(f"it needs '{record.name}', which {ending(record)}")
        return values

    def takes_from_beside(self, item: ItemOrRound) -> bool:
        """Returns whether `taken` yields anything: most items of large maps take nothing from beside them."""
        return bool(self._labels or (item.item and self._before))

    def taken(self, item: ItemOrRound) -> Iterator[Labelled]:
        """Yields label, record and part of what is behind each argument and condition that is beside the item."""
        for label, task, part in self._labels:
            yield label, beside(task, item.item), part
        for label, task, part in self._before if item.item else ():
            yield label, beside(task, item.item - 1), part


class _Taken(NamedTuple):
    """A bind that goes by item: to an entry, or to a task beside."""

    parameter: str
    entry: str
    task: Task | None
    is_value: bool
    required: bool
    part: Part | None
    is_carried: bool

    @staticmethod
    def of(bind: Bind, tasks: Sequence[Task]) -> "_Taken":
        source, is_carried = bind.source, isinstance(bind.source, Carried)
        if isinstance(source, Carried):
            source = source.task
        task = tasks[source] if isinstance(source, int) else None
        entry = source.parameter if isinstance(source, Entry) else ""
        return _Taken(bind.parameter, entry, task, bind.kind != CONTEXT, bind.required, bind.part, is_carried)


def is_over(record: Task) -> bool:
    """Returns whether a task or an item has ended."""
    return record.status not in NOT_ENDED


def _entry_of(item: ItemOrRound, parameter: str) -> Any:
    return item.entry[parameter] if type(item.entry) is Row else item.entry


def _without_value(entry: Any) -> Skip | None:
    """Returns a Skip if an entry is an item of another map that has no value."""
    if type(entry) is not Item or entry.has_value:
        return None
    return Skip(f"it needs '{entry.name}', which {ending(entry)}")
