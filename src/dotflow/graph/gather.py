"""What a node takes: the one reader of its sources, for the run, a resume, a plan, replay, tokens and files.

A node is a task, an item of a mapped task, a round, or a map in a scope.
"""

from collections.abc import Callable, Container, Iterator, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple, Protocol, cast

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
    made: Task | None = None
    open_by: Condition | Task | None = None
    if links.conditions:
        conditions = [condition for condition in links.conditions if not condition.by_item]
        asked = _ask(conditions, lambda source: _outer(source, tasks, params), masks, ahead)
        if asked.lack is not None:
            return asked
        made, open_by = asked.made, asked.open
    nest = links.nest
    for link in links.lists:
        if not isinstance(link.source, int):
            continue
        source, is_inside = tasks[link.source], nest is not None and nest.has(link.source)
        is_own = nest is None or any(link is one for one in nest.each)  # others are the lists of maps in scopes
        is_cross = links.is_cross if nest is None else nest.is_cross
        if ahead is not None and ahead.is_made(source):
            if not is_inside and not (is_own and not is_cross and source.nodes and source.gives_items):
                made = made or source  # else its items show it
            open_by = open_by or (source if ahead.may_lack(source) else None)
        elif not is_inside and not _has_items(source, is_whole=is_cross):  # each scope has its own list
            return Got({}, _needs(source))
    binds = links.binds if links.nest is None else [bind for bind in links.binds if not links.nest.has(bind.source)]
    got = _take(binds, tasks, params, None, ahead)
    if ahead is None or got.lack is not None:
        return got
    if links.fallback_binds:
        made = made or _take(links.whole().fallback_binds, tasks, params, None, ahead).made
    if made is None and open_by is None:
        return got
    return got._replace(made=got.made or made, open=open_by or got.open)


def foresee(links: Links, tasks: Sequence[Task], params: Params) -> Got:
    """Returns what `gather` does before a run, by records that have the decisions. It raises nothing."""
    try:
        return gather(links, tasks, params, ahead=BY_RECORD)
    except Exception as error:  # the values' own code; in the run it fails the task
        return Got({}, void=f"its conditions raised {type(error).__name__}")


def is_taken(cleanup: int, nest: Nest, tasks: Sequence[Task]) -> bool:
    """Returns whether a task of an added workflow takes the value of a cleanup of it, which no checkpoint keeps."""
    others = [tasks[one] for one in nest.tasks if one > cleanup]
    return any(one.links is not None and cleanup in one.links.value_sources() for one in others if not one.is_cleanup)


def arguments(links: Links, tasks: Sequence[Task], params: Params, *, of_fallback: bool) -> Arguments | Skip:
    """Returns the arguments of a task or of its fallback, or those that its items share, whatever its conditions."""
    whole = links.whole()
    got = _take(whole.fallback_binds if of_fallback else whole.binds, tasks, params, None)
    return got.lack or got.args


def _ask(
    conditions: Sequence[Condition],
    cell_of: Callable[[Source], Task | Constant],
    masks: Masks,
    ahead: Ahead | None,
) -> Got:
    """Returns why one of the conditions does not hold, or the first one that is decided in the run."""
    made: Task | None = None
    first: Condition | None = None
    for condition in conditions:
        value: Any = cell_of(condition.source)
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
    binds: Sequence[Bind],
    nodes: Sequence[Task],
    params: Params,
    item: ItemOrMap | None,
    ahead: Ahead | None = None,
) -> Got:
    """Returns the argument of each parameter whose source has a value.

    Args:
        binds: The parameters with their sources.
        nodes: The tasks of the run, or the nodes of the item's scope, in which all tasks are that are sources.
        params: The run parameters.
        item: The item or the map whose entry and round count; None for a task of the run.
        ahead: What is known before the run.
    """
    values: Arguments = {}
    made = open_by = None
    first = 0 if item is None else item.scope.first
    for parameter, kind, source, required, part in binds:
        cell: Any
        if source.__class__ is int:
            cell = nodes[source - first]
        elif kind == PARAMS:
            cell = Constant(params)
        elif isinstance(source, str):
            cell = Constant(params[source])
        elif source.__class__ is Constant:
            cell = source
        else:
            assert item is not None
            cell = _entry_or_carried(source, item)
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


def _outer(source: Source, tasks: Sequence[Task], params: Params) -> Task | Constant:
    """Returns the task that has the value of a source outside of all added workflows, or the value itself."""
    if isinstance(source, int):
        return tasks[source]
    if isinstance(source, str):
        return Constant(params[source])
    assert isinstance(source, Constant)
    return source


def _entry_or_carried(source: Source, item: ItemOrMap) -> Task | Constant | None:
    """Returns the node that has an entry, or a value of the round before, or the entry; None in the first round."""
    scope = item.scope
    if isinstance(source, Carried):
        return None if scope.before is None else scope.before.node(source.task)
    assert isinstance(source, Entry)
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
        beside: The tasks that begin together in each scope: those of a workflow there, or one.
        only: The one parameter that an item takes, where it takes nothing but its entry; else None.
        waits: The tasks of the same workflow whose nodes in its scope it waits for.
        waits_in_step: The tasks outside whose nodes of the same index it waits for.
        carried: The parameters that get a value of the round before, from the second round on.
        fallback_carried: Those of the fallback.
    """

    def __init__(self, task: LinkedTask, tasks: Sequence[Task], before: Sequence[int] = ()) -> None:
        links, nest, self._tasks = task.links, task.nest, tasks
        level = task.level + 1
        scope = task.scope if isinstance(task, InnerMap) else None
        parts = {link.parameter: link.part for link in task.lists}
        lists = [link.source for link in task.lists if isinstance(link.source, int)]
        self.has_entries = any((tasks[one] if scope is None else scope.node(one)).gives_items for one in lists)
        self.only = task.lists[0].parameter if nest is None and len(parts) == 1 else None
        self._conditions: Sequence[Condition] = ()
        self._lists: list[Bind] = []  # of a map in each scope
        self._fallback_binds: Sequence[Bind] = ()
        self._needs: Sequence[Group] = ()
        order = [*before]
        until: Sequence[tuple[str, Carried, None]] = ()

        def with_part(link: Any) -> Any:
            return link._replace(part=parts[link.source.parameter]) if isinstance(link.source, Entry) else link

        def is_here(source: object) -> bool:
            return nest is not None and links.level_of(source) == level

        if scope is None and nest is None:
            self._conditions = [one for one in links.conditions if one.by_item]
        elif nest is not None:
            decided = (one for one in links.conditions if one.by_item)
            here = [one for one in decided if is_here(one.source) or (level == 1 and not nest.has(one.source))]
            self._conditions = list(map(with_part, here))
        if nest is None:
            self._binds = [Bind(name, VALUE, Entry(name), True, part) for name, part in parts.items()]
        else:
            self._binds = [with_part(bind) for bind in links.binds if is_here(bind.source)]
            self._fallback_binds = [with_part(bind) for bind in links.fallback_binds if is_here(bind.source)]
            self._needs = [group for group in links.needs if is_here(group[-1])]
            order += (source for source in links.order_sources() if is_here(source))
            if nest.until is not None:  # a round begins for what this one of the round before was
                until = [("until", Carried(nest.until), None)]
            if task.has_maps:
                further = [*chain.from_iterable(one.each for one in links.nests[level:])]
                further += links.each
                inside: list[Any] = [one for one in further if is_here(one.source)]
                self._lists += [with_part(Bind(one.parameter, VALUE, one.source, True, one.part)) for one in inside]
                carried = [one.carried for one in further if one.carried is not None]
                self._lists += [one for one in carried if is_here(one.source)]
                if len(links.inner) >= level:  # the tasks of a workflow in it begin together
                    unit = links.inner[level - 1].tasks
                    of_unit = (tasks[one].links for one in unit)
                    order += (one for of in of_unit if of is not None for one in of.sources() if is_here(one))
                    order = [one for one in order if one not in unit]
        self.carried = {bind.parameter for bind in self._binds if isinstance(bind.source, Carried)}
        self.fallback_carried = {bind.parameter for bind in self._fallback_binds if isinstance(bind.source, Carried)}
        labels = [
            *((bind.parameter, bind.source, bind.part) for bind in self._binds),
            *((f"fallback {bind.parameter}", bind.source, bind.part) for bind in self._fallback_binds),
            *((f"when {one.name}", one.source, None) for one in self._conditions),
        ]
        self._labels = [(label, one, part) for label, one, part in labels if isinstance(one, int)]
        of_before = [(label, one, part) for label, one, part in labels if isinstance(one, Carried)]
        self._labels_before = [*of_before, *until]
        own = [source for _, source, _ in self._labels] + [bind.source for bind in self._lists]
        waits = list(dict.fromkeys(one for one in (*own, *order) if isinstance(one, int)))
        self.beside: Group = links.nests[level].tasks if len(links.nests) > level else (task.task_id,)
        self.waits = [one for one in waits if nest is not None and one in nest.tasks]
        self.is_plain = nest is None and not self._conditions
        self.waits_in_step = [one for one in waits if one not in self.waits]
        self._nest = nest

    def _node(self, item: ItemOrMap, task_id: int) -> Any:
        """Returns the node of a task that an item takes or asks: of its scope, or of another map in step with it."""
        if self._nest is not None and task_id in self._nest.tasks:
            return item.scope.nodes[task_id - item.scope.first]
        task = self._tasks[task_id]
        return task.nodes[item.item] if task.nodes else task

    def _cell(self, source: Source, item: ItemOrMap) -> Task | Constant | None:
        return self._node(item, source) if isinstance(source, int) else _entry_or_carried(source, item)

    def gather(self, item: ItemOrMap, masks: Masks = NO_MASKS, ahead: Ahead | None = None) -> Got:
        """Returns what an item takes beside what all items share; order is not judged.

        Comparing the values of conditions may raise any error.
        """
        if not self._conditions:
            return self._arguments(item, ahead)
        asked = _ask(self._conditions, lambda source: cast("Task | Constant", self._cell(source, item)), masks, ahead)
        if asked.lack is not None:
            return asked
        got = self._arguments(item, ahead)
        return got if asked.open is None or got.lack is not None else got._replace(open=asked.open)

    def foresee(self, item: ItemOrMap) -> Got:
        """Returns what `gather` does before a run, by records that have the decisions. It raises nothing."""
        try:
            got = self.gather(item, ahead=BY_RECORD)
        except Exception as error:  # the values' own code; in the run it fails the item
            return Got({}, void=f"its conditions raised {type(error).__name__}")
        made = next((record for record in self.value_sources(item) if not is_over(record)), None)
        return got if made is None or got.lack is not None else got._replace(made=made)

    def _arguments(self, item: ItemOrMap, ahead: Ahead | None = None) -> Got:
        entry: Any
        if self.only is not None and type(entry := item.entry) not in NODES:  # __class__ may be the user's own property
            return _new(Got, ({self.only: entry}, None, None, None, ""))
        if self.has_entries:
            for entry in nodes_of_entry(item.entry):
                if not entry.has_value and (ahead is None or not ahead.is_made(entry)):
                    return Got({}, _needs(entry))
        nodes = item.scope.nodes
        if self._lists:
            lists = _take(self._lists, nodes, NO_PARAMS, item, ahead)
            if lists.lack is not None:
                return lists
        return _take(self._binds, nodes, NO_PARAMS, item, ahead)

    def arguments(self, item: ItemOrMap) -> Arguments | Skip:
        """Returns the item's own arguments; a Skip if one that it requires has no value."""
        got = self._arguments(item)
        return got.lack or got.args

    def fallback_arguments(self, item: ItemOrMap) -> Arguments | Skip:
        """Returns what `arguments` does, for the fallback of a workflow's task."""
        got = _take(self._fallback_binds, item.scope.nodes, NO_PARAMS, item)
        return got.lack or got.args

    def unmet_need(self, item: ItemOrMap, ahead: Ahead | None = None) -> Skip | None:
        """Returns a Skip if an item that must have completed has not."""
        return unmet_need(self._needs, item.scope.node, (), ahead) if self._needs else None

    def has_conditions(self, item: ItemOrMap) -> bool:
        """Returns whether all is over that the item's conditions are decided by."""
        records = [self._cell(one.source, item) for one in self._conditions]
        return all(record is None or isinstance(record, Constant) or is_over(record) for record in records)

    def value_sources(self, item: ItemOrMap) -> Iterator[Task]:
        """Yields the nodes whose values the item depends on."""
        yield from nodes_of_entry(item.entry)
        yield from (record for _, record, _ in self.taken(item))
        for bind in self._lists:
            record = self._cell(bind.source, item)
            if isinstance(record, Task):
                yield record

    def takes_from_scope(self, item: ItemOrMap) -> bool:
        """Returns whether `taken` yields anything: most items of large maps take nothing from their scopes."""
        return bool(self._labels or (item.scope.before is not None and self._labels_before))

    def taken(self, item: ItemOrMap) -> Iterator[tuple[str, Task, Part | None]]:
        """Yields label, node and part of what is behind each argument and condition that is in the item's scope."""
        scope = item.scope
        for label, source, part in self._labels:
            yield label, self._node(item, source), part
        if scope.before is not None:
            for label, carried, part in self._labels_before:
                yield label, scope.before.node(carried.task), part


def is_over(record: Task) -> bool:
    """Returns whether a task or an item has ended."""
    return record.status not in NOT_ENDED


def value_of(task: Task, part: Part | None) -> Any:
    """Returns the value of a task, or the part of it; of a mapped task the list of its items' parts."""
    return take(task.value, part, task.depth)


def _has_items(task: Task, *, is_whole: bool) -> bool:
    """Returns whether a map over the task can open. A mapped source may still run, unless it is needed as a whole."""
    return task.has_value or (task.gives_items and task.status in UNFINISHED and not is_whole)


def _needs(record: Task) -> Skip:
    return Skip(f"it needs '{record.name}', which {ending(record)}")


def ending(task: Task) -> str:
    """Returns how a task without a value ended, for a reason."""
    return ENDINGS.get(task.status, "did not run")
