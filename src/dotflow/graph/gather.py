"""What a node takes: the one reader of its sources, for the run, a resume, a plan, replay, tokens and files.

A node is a task, an item of a mapped task, a round, or a map in a scope.
"""

from collections.abc import Callable, Container, Iterator, Sequence
from typing import Any, Final, NamedTuple, Protocol

from dotflow.core.links import (
    CONTEXT,
    PARAMS,
    TRUE,
    VALUE,
    Bind,
    Carried,
    Condition,
    Constant,
    Entry,
    Group,
    Links,
    Nest,
    Source,
)
from dotflow.core.masks import NO_MASKS, Masks
from dotflow.core.outputs import Part, take
from dotflow.core.task import Task
from dotflow.core.text import safe_repr, shorten
from dotflow.core.types.status import TypeStatus
from dotflow.graph.linked_task import NODES, InnerMap, Item, ItemOrMap, LinkedTask, Row, nodes_of_entry
from dotflow.graph.params import NO_PARAMS, Params

MAX_SHOWN: Final = 60  # characters of a value in a reason

COMPLETED, FAILED = TypeStatus.COMPLETED, TypeStatus.FAILED
ENDINGS: Final = {FAILED: "failed", TypeStatus.SKIPPED: "was skipped", TypeStatus.PAUSED: "was paused"}
UNFINISHED: Final = (TypeStatus.IN_PROGRESS, TypeStatus.RETRY)
NOT_ENDED: Final = (TypeStatus.NOT_STARTED, *UNFINISHED, TypeStatus.PAUSED)

Arguments = dict[str, Any]


class Skip(NamedTuple):
    """The node does not run, for a reason such as "good_enough was False"."""

    reason: str


class Ahead(Protocol):
    """What is known before a run."""

    def is_made(self, record: Task) -> bool:
        """Returns whether the run makes the value of a record, or may make it."""

    def may_lack(self, record: Task) -> bool:
        """Returns whether such a record may end without a value."""


class _ByRecord:
    """The decisions that records show: the run makes what is not over."""

    def is_made(self, record: Task) -> bool:
        return record.status in NOT_ENDED

    def may_lack(self, record: Task) -> bool:
        return False


BY_RECORD: Final = _ByRecord()


class Got(NamedTuple):
    """What a node takes, as far as it is known.

    Attributes:
        args: Its arguments beside the contexts.
        lack: Why it does not run, for certain.
        made: A record that the run makes, or may make, of those whose values it depends on.
        open: What decides in the run whether it runs at all: a condition, or the record of a value that it requires.
        void: Why no checkpoint of it counts, if its conditions raise before the run; else "".
    """

    args: Arguments
    lack: Skip | None = None
    made: Task | None = None
    open: Condition | Task | None = None
    void: str = ""


NOTHING_TAKEN: Final = Got({})
_new: Final = tuple.__new__  # half the time of calling the class


def gather(
    links: Links, tasks: Sequence[Task], params: Params, masks: Masks = NO_MASKS, ahead: Ahead | None = None
) -> Got:
    """Returns what a task takes; of a mapped task what its items share. ByItem has what goes by item.

    Comparing the values of conditions may raise any error. The reason of a Skip is masked.

    Args:
        links: The links of the task.
        tasks: The tasks, with their records.
        params: The run parameters.
        masks: The secrets.
        ahead: What is known before the run; None in the run, where all is over that the task takes.
    """
    if not links.levels:
        return _gather(links, (), tasks, params, None, masks, ahead)
    lists = () if links.levels[0].is_cross else links.levels[0].each
    over = [tasks[link.source] for link in lists if isinstance(link.source, int)]
    return _gather(links.at(), over, tasks, params, None, masks, ahead)


def _gather(
    links: Links,
    over: Sequence[Task],
    tasks: Sequence[Task],
    params: Params,
    item: ItemOrMap | None,
    masks: Masks = NO_MASKS,
    ahead: Ahead | None = None,
) -> Got:
    """Returns what a node takes of its scope.

    Args:
        links: The links to what stands there.
        over: The maps through whose items it goes, or the nodes of its entry.
        tasks: The tasks of the run.
        params: The run parameters.
        item: The item or the map; None for a task of the run.
        masks: The secrets.
        ahead: What is known before the run.
    """
    asked = _ask(links.conditions, tasks, params, item, masks, ahead) if links.conditions else NOTHING_TAKEN
    if asked.lack is not None:
        return asked
    made, open_by = asked.made, asked.open
    for source in over:
        if ahead is not None and ahead.is_made(source):
            made = made or (None if source.nodes and source.gives_items else source)  # else its items show it
            open_by = open_by or (source if ahead.may_lack(source) else None)
        elif not (source.has_value or (source.gives_items and source.status in UNFINISHED)):
            return Got({}, _needs(source))
    if links.levels:
        got = _take(links.nodes_of_lists(), tasks, params, item, ahead)
        if got.lack is not None:
            return got
        made, open_by = made or got.made, open_by or got.open
    got = _take(links.binds, tasks, params, item, ahead)
    if ahead is None or got.lack is not None:
        return got
    if links.fallbacks:
        made = made or _take(links.fallback_binds, tasks, params, item, ahead).made
    if made is None and open_by is None:
        return got
    return got._replace(made=got.made or made, open=open_by or got.open)


def is_taken(cleanup: int, nest: Nest, tasks: Sequence[Task]) -> bool:
    """Returns whether a task of an added workflow takes the value of a cleanup of it, which no checkpoint keeps."""
    others = [tasks[one] for one in nest.tasks if one > cleanup]
    return any(one.links is not None and cleanup in one.links.value_sources() for one in others if not one.is_cleanup)


def arguments(links: Links, tasks: Sequence[Task], params: Params, *, fallback: int | None = None) -> Arguments | Skip:
    """Returns the arguments of a task, or those that its items share, whatever its conditions.

    Args:
        links: The links of the task.
        tasks: The tasks, with their records.
        params: The run parameters.
        fallback: The index of the fallback that takes them; None for the step.
    """
    whole = links.at()
    got = _take(whole.binds if fallback is None else whole.fallbacks[fallback].binds, tasks, params, None)
    return got.lack or got.args


def _ask(
    conditions: Sequence[Condition],
    tasks: Sequence[Task],
    params: Params,
    item: ItemOrMap | None,
    masks: Masks,
    ahead: Ahead | None,
) -> Got:
    """Returns why one of the conditions does not hold, or the first one that is decided in the run."""
    made: Task | None = None
    first: Condition | None = None
    for condition in conditions:
        value: Any = _cell(condition.source, item, tasks, params)
        if type(value) is Constant:
            value = value.value
        elif ahead is not None and ahead.is_made(value):
            made, first = made or value, first or condition
            continue
        elif value.has_value:
            value = value_of(value, condition.part)
        else:
            is_entry = isinstance(condition.source, Entry)
            return Got(
                {},
                _needs(value) if is_entry else Skip(f"it depends on '{condition.name}', which {ending(value)}"),
            )
        holds = bool(value) if condition.expected is TRUE else bool(value == condition.expected)
        if holds is condition.negated:
            return Got({}, Skip(f"{condition.name} was {shorten(masks.mask(safe_repr(value)), MAX_SHOWN)}"))
    return Got({}, None, made, first)


def _take(
    binds: Sequence[Bind], tasks: Sequence[Task], params: Params, item: ItemOrMap | None, ahead: Ahead | None = None
) -> Got:
    """Returns the argument of each parameter whose source has a value. The arguments are those of `_gather`."""
    values: Arguments = {}
    made = open_by = None
    nodes, first = (tasks, 0) if item is None else (item.scope.nodes, item.scope.first)
    for parameter, kind, source, required, part in binds:
        cell: Any
        if source.__class__ is int:
            cell = nodes[source - first]
        elif kind == PARAMS:
            cell = Constant(params)
        else:
            cell = _cell(source, item, tasks, params)
            if cell is None:
                continue  # the first round carries nothing
        if cell.__class__ is Constant:
            values[parameter] = cell.value
        elif ahead is not None and ahead.is_made(cell):
            made = made or cell
            open_by = open_by or (cell if required and ahead.may_lack(cell) else None)
        elif cell.has_value:
            value = cell.current_context
            if kind != CONTEXT:
                value = value.storage if cell.__class__ is Item else cell.value
            values[parameter] = value if part is None else take(value, part, cell.depth)
        elif required:
            return Got({}, _needs(cell))
    return _new(Got, (values, None, made, open_by, ""))


def _cell(source: Source, item: ItemOrMap | None, tasks: Sequence[Task], params: Params) -> Task | Constant | None:
    """Returns the node that has the value of a source, or the value; None for what the first round is not carried."""
    if isinstance(source, int):
        if item is None:
            return tasks[source]
        scope = item.scope
        if 0 <= source - scope.first < len(scope.nodes):
            node: Task = scope.nodes[source - scope.first]
            return node
        task = tasks[source]  # a map in step with that of the item
        return task.nodes[item.item] if task.nodes else task
    if isinstance(source, str):
        return Constant(params[source])
    if isinstance(source, Constant):
        return source
    assert item is not None
    if isinstance(source, Carried):
        return None if item.scope.before is None else item.scope.before.node(source.task)
    entry = item.entry[source.parameter] if type(item.entry) is Row else item.entry
    return entry if type(entry) in NODES else Constant(entry)


def unmet_need(
    needs: Sequence[Group],
    node: Callable[[int], Task],
    not_needed: Container[int] = (),
    ahead: Ahead | None = None,
) -> Skip | None:
    """Returns a Skip if a task that must have completed has not; None if all have.

    Of an added workflow the last task must have completed, and none may have failed. Order does not count where
    checkpoints are judged: what is restored stays, whatever becomes of its needs in this run.

    Args:
        needs: The order edges of a task.
        node: Returns the node of a task. Those that it needs have ended.
        not_needed: The tasks that a resume leaves out, since they have nothing to do.
        ahead: What is known before the run, in which what is made may complete.
    """
    for group in needs:
        records = [node(one) for one in group]
        last = records[-1]
        if ahead is not None and ahead.is_made(last):
            continue
        is_met = last.status is COMPLETED or group[-1] in not_needed
        unmet = next((record for record in records if record.status is FAILED), None if is_met else last)
        if unmet is not None:
            return _needs(unmet)
    return None


class ByItem:
    """What the nodes of a mapped task take of their scopes: their entries, and other nodes there.

    A task in rounds takes it by round. The items of a plain map, or of one in a scope, take their entries only.

    Args:
        task: The mapped task, or a map in a scope.
        tasks: The tasks of the run, with their records.
        before: The tasks of the same workflow whose item goes first, where items run from end to end.

    Attributes:
        is_plain: Whether an item takes its entries only.
        has_entries: Whether an entry may be the item of another map.
        siblings: The tasks that begin together in each scope: those of a workflow there, or one.
        only: The one parameter that an item takes, where it takes nothing but its entry; else None.
        waits: The tasks of the same workflow whose nodes in its scope it waits for.
        waits_in_step: The tasks outside whose nodes of the same index it waits for.
        carried: The parameters that get a value of the round before, from the second round on.
        fallback_carried: Those of its fallbacks.
    """

    def __init__(self, task: LinkedTask, tasks: Sequence[Task], before: Sequence[int] = ()) -> None:
        links, level, self._tasks = task.links, task.level + 1, tasks
        own, scope = links.levels[task.level], task.scope if isinstance(task, InnerMap) else None
        parts = {link.parameter: link.part for link in own.each}

        def with_part(link: Any) -> tuple[Any, ...]:
            return (link._replace(part=parts[link.source.parameter]) if isinstance(link.source, Entry) else link,)

        here = links.at(level).mapped(with_part)
        if not own.tasks:
            here = here._replace(binds=tuple(Bind(name, VALUE, Entry(name), True, parts[name]) for name in parts))
        self._links, self._unasked = here, here._replace(conditions=())
        lists = [link.source for link in own.each if isinstance(link.source, int)]
        self.has_entries = any((tasks[one] if scope is None else scope.node(one)).gives_items for one in lists)
        self.is_plain = not own.tasks and not here.conditions
        self.only = own.each[0].parameter if not own.tasks and len(parts) == 1 else None
        self.carried, self.fallback_carried = (
            {bind.parameter for bind in binds if isinstance(bind.source, Carried)}
            for binds in (here.binds, here.fallback_binds)
        )
        labels: list[tuple[str, Source, Part | None]] = [
            *((bind.parameter, bind.source, bind.part) for bind in here.binds),
            *((f"fallback {bind.parameter}", bind.source, bind.part) for bind in here.fallback_binds),
            *((f"when {one.name}", one.source, None) for one in here.conditions),
        ]
        self._labels = [label for label in labels if isinstance(label[1], int)]
        self._labels_before = [label for label in labels if isinstance(label[1], Carried)]
        if own.until is not None:  # a round begins for what this one of the round before was
            self._labels_before.append(("until", Carried(own.until), None))
        inner = links.levels[level].tasks if task.has_maps else ()  # the tasks of a workflow in it begin together
        self.siblings: Group = inner or (task.task_id,)
        order = [*before, *here.order_sources()]
        for one in inner:
            order += (source for source in _sources_of(tasks[one]) if links.level_of(source) == level)
        sources = [source for _, source, _ in self._labels] + [link.source for link in here.each]
        waits = [one for one in dict.fromkeys((*sources, *order)) if isinstance(one, int) and one not in inner]
        self.waits = [one for one in waits if one in own.tasks]
        self.waits_in_step = [one for one in waits if one not in own.tasks]

    def gather(self, item: ItemOrMap, masks: Masks = NO_MASKS, ahead: Ahead | None = None) -> Got:
        """Returns what an item takes beside what all items share; order is not judged.

        Comparing the values of conditions may raise any error.
        """
        return self._gather(self._links, item, masks, ahead)

    def _gather(self, links: Links, item: ItemOrMap, masks: Masks = NO_MASKS, ahead: Ahead | None = None) -> Got:
        entry: Any
        if self.only is not None and type(entry := item.entry) not in NODES and not links.conditions:
            return _new(Got, ({self.only: entry}, None, None, None, ""))
        over = nodes_of_entry(item.entry) if self.has_entries else ()
        return _gather(links, over, self._tasks, NO_PARAMS, item, masks, ahead)

    def foresee(self, item: ItemOrMap) -> Got:
        """Returns what `gather` does before a run, by records that have the decisions. It raises nothing."""
        try:
            got = self.gather(item, ahead=BY_RECORD)
        except Exception as error:  # the values' own code; in the run it fails the item
            return Got({}, void=f"its conditions raised {type(error).__name__}")
        made = next((record for record in self.value_sources(item) if not is_over(record)), None)
        return got if made is None or got.lack is not None else got._replace(made=made)

    def arguments(self, item: ItemOrMap) -> Arguments | Skip:
        """Returns the item's own arguments, whatever its conditions; a Skip if one that it requires has no value."""
        got = self._gather(self._unasked, item)
        return got.lack or got.args

    def fallback_arguments(self, item: ItemOrMap, fallback: int) -> Arguments | Skip:
        """Returns what `arguments` does, for a fallback of a workflow's task, by its index."""
        got = _take(self._links.fallbacks[fallback].binds, self._tasks, NO_PARAMS, item)
        return got.lack or got.args

    def unmet_need(self, item: ItemOrMap, ahead: Ahead | None = None) -> Skip | None:
        """Returns a Skip if an item that must have completed has not."""
        return unmet_need(self._links.needs, item.scope.node, (), ahead) if self._links.needs else None

    def has_conditions(self, item: ItemOrMap) -> bool:
        """Returns whether all is over that the item's conditions are decided by."""
        records = [self._cell(one.source, item) for one in self._links.conditions]
        return all(record is None or isinstance(record, Constant) or is_over(record) for record in records)

    def value_sources(self, item: ItemOrMap) -> Iterator[Task]:
        """Yields the nodes whose values the item depends on."""
        yield from nodes_of_entry(item.entry)
        yield from (record for _, record, _ in self.taken(item))
        for bind in self._links.nodes_of_lists():
            record = self._cell(bind.source, item)
            if isinstance(record, Task):
                yield record

    def takes_from_scope(self, item: ItemOrMap) -> bool:
        """Returns whether `taken` yields anything: most items of large maps take nothing from their scopes."""
        return bool(self._labels or (item.scope.before is not None and self._labels_before))

    def taken(self, item: ItemOrMap) -> Iterator[tuple[str, Task, Part | None]]:
        """Yields label, node and part of what is behind each argument and condition that is in the item's scope."""
        labels = [*self._labels, *self._labels_before] if item.scope.before is not None else self._labels
        for label, source, part in labels:
            record = self._cell(source, item)
            assert isinstance(record, Task)
            yield label, record, part

    def _cell(self, source: Source, item: ItemOrMap) -> Task | Constant | None:
        return _cell(source, item, self._tasks, NO_PARAMS)


def _sources_of(task: Task) -> Sequence[int]:
    return () if task.links is None else task.links.sources()


def is_over(record: Task) -> bool:
    """Returns whether a task or an item has ended."""
    return record.status not in NOT_ENDED


def value_of(task: Task, part: Part | None) -> Any:
    """Returns the value of a task, or the part of it; of a mapped task the list of its items' parts."""
    return take(task.value, part, task.depth)


def _needs(record: Task) -> Skip:
    return Skip(f"it needs '{record.name}', which {ending(record)}")


def ending(task: Task) -> str:
    """Returns how a task without a value ended, for a reason."""
    return ENDINGS.get(task.status, "did not run")
