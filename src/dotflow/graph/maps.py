"""ItemMap: a mapped task while it runs. NestRun: the maps of a workflow that runs for each item."""

import hashlib
import heapq
import itertools
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from dotflow import clock
from dotflow.core.context import Context
from dotflow.core.events import MapEnded, MapOpened, TaskSkipped
from dotflow.core.failure import Failure
from dotflow.core.links import CONTEXT, Carried, Constant, Each, Entry, Nest
from dotflow.core.masks import NO_MASKS, Masks
from dotflow.core.outputs import Part, take
from dotflow.core.task import Task
from dotflow.core.text import safe_repr, shorten
from dotflow.core.types.status import TypeStatus
from dotflow.errors import ItemsFailed, NotAList, NotReached, UnequalLists, ValueNotStorable
from dotflow.graph.gather import Arguments, ByItem, ending, value_of
from dotflow.graph.linked_task import (
    NO_SCOPE,
    NODES,
    ROUND,
    InnerMap,
    Item,
    ItemOrMap,
    LinkedTask,
    MapContext,
    Row,
    Scope,
    value_of_entry,
)
from dotflow.graph.params import Params
from dotflow.graph.wiring import lists_behind

KEY_LENGTH: Final = 20  # hexadecimal digits of an item's key: 80 bits, so 100,000 items collide once in 10**14 maps
BY_INDEX: Final = "at"  # begins the key of an item that the codec refuses; no hexadecimal digits begin so
MAX_SHOWN: Final = 3  # failed items that the error of their map shows
MAX_INPUT: Final = 60  # characters of an item in it

COMPLETED, FAILED = TypeStatus.COMPLETED, TypeStatus.FAILED


class ItemMap:
    """The items of a mapped task that has opened.

    Args:
        task: The task.
        inputs: What the items take beside that.
        shared: The arguments that all items share.
        previous: The previous context of each item, unless the item itself is that.
        limit: The number of items in flight at once.
        keep_going: Whether other items begin after a failure of one.
    """

    def __init__(
        self,
        task: LinkedTask,
        inputs: ByItem,
        shared: Arguments,
        previous: Context,
        limit: int,
        keep_going: bool,
    ) -> None:
        self.task = task
        self.inputs = inputs
        self.shared = shared
        self.previous = previous
        self.keep_going = keep_going
        self.pending: deque[int] = deque()  # items that may begin, in order
        self.continued: dict[int, int] = {}  # the lanes that pending items continue: their workers have the values
        self.in_flight: dict[int, int | None] = {}  # items that have begun, and their lanes; None for no attempt
        # Rounds end by a verdict, not by their number.
        self.left = len(task.scopes if task.has_maps else task.items) + task.is_repeated
        self.run: NestRun | None = None  # if it is a task of a workflow for each item
        # Those of the same workflow that follow it item by item, with their positions in it.
        self.beside: Sequence[tuple[ItemMap, int]] = ()
        self.in_step: Sequence[LinkedTask] = ()  # other maps that do
        self.decided: dict[int, Arguments] = {}  # the arguments of pending items, where they are known
        self.settled: Collection[int] = ()  # the items that were restored, and those that a resume does not need
        self.whole_scopes: Collection[int] = ()  # those of whose own map all items are restored
        self.wanted: deque[int] = deque()  # those that a stopped run still has to clean up
        self.is_closed = False  # whether no further item becomes pending
        self.is_waiting = False  # whether its next item is among the run's ready tasks
        asks = task.step.approve is not None and task.nest is not None
        self.is_entered = asks or task.step.cache is not None  # whether an item may end, or wait, before it begins
        self._not_carried: Arguments | None = None  # of the shared arguments, from the second round on
        self.considered: set[int] = set()  # its nodes that wait for nothing more, where `considers_once`
        self.first = task.items[0].item if task.items else 0  # the index of its first item
        self._limit = limit
        self._has_failed = False

    @property
    def may_begin(self) -> int:
        """The number of items that could begin now."""
        if self.is_waiting or not self.pending:
            return 0
        return min(len(self.pending), self._limit - len(self.in_flight))

    def shared_by(self, scope: Scope) -> Arguments:
        """Returns the shared arguments of a node. What is carried, each round but the first has by itself."""
        return self.shared if scope.before is None or not self.inputs.carried else self._without_carried()

    def given(self, item: Item, own: Arguments) -> tuple[Arguments, Arguments | None]:
        """Returns the own and the shared arguments of an item: what goes from round to round is its own in all."""
        carried = self.inputs.carried
        if not carried:
            return own, self.shared or None
        if item.scope.before is None:
            own = {name: value for name, value in self.shared.items() if name in carried} | own
        return own, self._without_carried() or None

    def _without_carried(self) -> Arguments:
        if self._not_carried is None:
            carried = self.inputs.carried
            self._not_carried = {name: value for name, value in self.shared.items() if name not in carried}
        return self._not_carried

    def add(self, index: int, lane: int | None) -> None:
        """Makes an item pending, unless the map has stopped. *lane* is the one that it continues.

        Where the next item waits for a worker, an item that continues a lane goes before it: its worker is free now.
        One that may end before it begins does not, since the next item has been entered already.
        """
        if self.is_closed:
            return
        if lane is not None:
            self.continued[index] = lane
        if lane is not None and self.is_waiting and not self.is_entered:
            self.pending.appendleft(index)
        else:
            self.pending.append(index)

    def stop(self) -> None:
        """Drops the pending items that have no room now. No other one becomes pending."""
        self.is_closed = True
        while len(self.pending) > self._limit - len(self.in_flight):
            self.pending.pop()

    def want(self, begun: Sequence[int]) -> bool:
        """Keeps, of a cleanup for each item, those of the items that have begun. Returns whether any has.

        The items in flight have failed.
        """
        self.pending.clear()
        self.continued.clear()
        self.in_flight.clear()
        self.is_waiting = False
        self.wanted = deque(
            index for index in begun if self.task.items[index - self.first].status is TypeStatus.NOT_STARTED
        )
        self.left = len(self.wanted)
        return bool(begun)

    @property
    def has_stopped(self) -> bool:
        """Whether the failure of an item has ended it."""
        if not self._has_failed or self.keep_going:
            return False
        return not (self.task.is_repeated or isinstance(self.task, InnerMap))

    @property
    def is_over(self) -> bool:
        """Whether no item runs, and none will begin."""
        return not self.in_flight and (not self.left or (self.has_stopped and not self.pending))

    @property
    def next(self) -> Item:
        """The item that begins next."""
        return self.task.items[self.pending[0] - self.first]

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

    def set_aside(self) -> None:
        """Takes out the next item, which waits for an approval. It is added again."""
        self.is_waiting = False
        self.continued.pop(self.pending.popleft(), None)

    def end(self, item: Item, *, has_failed: bool) -> int | None:
        """Counts an item that has ended. Returns its lane; None for an item without an attempt."""
        self.left -= 1
        self._has_failed = self._has_failed or has_failed
        return self.in_flight.pop(item.item, None)


class Held(NamedTuple):
    """An item of one of the tasks that could begin, if its index might."""

    items: ItemMap
    item: ItemOrMap
    lane: int | None


class NestRun:
    """The tasks of an added workflow that runs for each item.

    An index is inside from the beginning of its first task to the end of its last. While it waits for an approval, it
    is not. The lowest one that may go on is next.

    Args:
        nest: The workflow.
        is_last_of_lane: Whether its lane ends with it.
        limit: The number of indices inside.

    Attributes:
        nest: The workflow.
        left: The tasks that have not ended.
        scopes: Its scopes, once they are known.
        is_open: Whether indices may begin. What is restored is published first, so that the lowest one is known.
    """

    def __init__(self, nest: Nest, limit: int, *, is_last_of_lane: bool) -> None:
        self.nest = nest
        self.left = len(nest.tasks)
        self.scopes: Sequence[Scope] = ()
        self.is_last_of_lane = is_last_of_lane
        self.is_open = False
        self.considers_once = False  # in rounds, or with maps, where more than one end may begin a node
        self._limit = limit
        self._inside: set[int] = set()
        self._left_of: list[int] = []  # by index: the tasks whose item has not ended
        self._held: dict[int, list[Held]] = {}
        self._waiting: list[int] = []  # a heap of the indices in _held

    def open(self, scopes: Sequence[Scope], tasks: int) -> None:
        """Sets the scopes, each of this many of its tasks; the others are skipped."""
        self.scopes = scopes
        self._left_of = [tasks] * len(scopes)

    def may_begin(self, items: ItemMap, item: ItemOrMap, lane: int | None) -> bool:
        """Returns whether an item may begin now. Otherwise it is held until its index is inside."""
        index = item.scope.index
        if index in self._inside:
            return True
        if self.is_open and len(self._inside) < self._limit and not self._waiting:
            self._inside.add(index)
            return True
        if index not in self._held:
            self._held[index] = []
            heapq.heappush(self._waiting, index)
        self._held[index].append(Held(items, item, lane))
        return False

    def end(self, item: ItemOrMap) -> bool:
        """Counts a node of one of the tasks that has ended. Returns whether its index is over."""
        index = item.scope.index
        self._left_of[index] -= 1
        if self._left_of[index]:
            return False
        self.leave(index)
        return True

    def leave(self, index: int) -> None:
        """Gives the place of an index to others: it is over, or waits for an approval."""
        self._inside.discard(index)

    def admit(self) -> list[Held]:
        """Lets indices in while there is room, and returns their items that may begin."""
        admitted: list[Held] = []
        while self._waiting and len(self._inside) < self._limit:
            index = heapq.heappop(self._waiting)
            self._inside.add(index)
            admitted += self._held.pop(index)
        return admitted


class LoopRun(NestRun):
    """The tasks of an added workflow that is repeated: round k + 1 begins when all of round k is over.

    Attributes:
        round: The number of the round that runs; -1 before the first one.
        is_advancing: Whether the next round is being begun.
        failure: Why it has ended without what it was repeated for.
    """

    round = -1
    is_advancing = False
    failure: Failure | None = None

    @property
    def is_round_over(self) -> bool:
        """Whether the round that runs is over."""
        return self.round < 0 or not self._left_of[self.round]

    def may_begin(self, items: ItemMap, item: ItemOrMap, lane: int | None) -> bool:
        return True


class RoundEnd(NamedTuple):
    """What follows from a round that is over: another one, the end, or the failure of the whole."""

    is_end: bool
    failure: str = ""
    note: str = ""  # for the log


ENOUGH: Final = RoundEnd(True)
ANOTHER: Final = RoundEnd(False)


def round_end(nest: Nest, scope: Scope, masks: Masks = NO_MASKS) -> RoundEnd:
    """Returns what follows from a round, in which all that will end has ended."""
    number = scope.index
    if failed := why_failed(nest, scope):
        return RoundEnd(True, failed)
    is_last = number + 1 >= nest.repeat
    if nest.until is None:
        return ENOUGH if is_last else ANOTHER
    until = scope.node(nest.until)
    if until.status is not COMPLETED:
        return RoundEnd(True, f"after {number} of {nest.rounds}: '{until.name}' {ending(until)}")
    try:
        is_enough = bool(until.current_context.storage)
    except Exception as error:  # of the value's own code
        neither = f"'{until.name}' is neither true nor false: {masks.mask(safe_repr(error))}"
        return RoundEnd(True, f"after {number} of {nest.rounds}: {neither}")
    if is_enough or not is_last:
        return ENOUGH if is_enough else ANOTHER
    value = shorten(masks.mask(safe_repr(until.current_context.storage)), MAX_INPUT)
    why = f"after {number + 1} of {nest.rounds}: '{until.name}' was {value}"
    if nest.goes_on:
        return RoundEnd(True, note=f"'{nest.name}' has the value of its last round, {why}.")
    return RoundEnd(True, f'{why}. Raise repeat to go on, or pass at_limit="go on" to take the last value')


def why_failed(nest: Nest, scope: Scope) -> str:
    """Returns which task but a cleanup has failed in a round; "" if none has."""
    for task_id in nest.tasks:
        record: Task = scope.node(task_id)
        is_mapped, items = isinstance(record, InnerMap), record.items
        has_failed = record.status is FAILED or (is_mapped and any(item.status is FAILED for item in items))
        is_cleanup = record.task_links.always if isinstance(record, Item) else record.is_cleanup
        if has_failed and not is_cleanup:
            # The failures of attempts are logged, but that of a list is not.
            why = f": {record.error.message.rstrip('.')}" if is_mapped and record.error and not items else ""
            return f"after {scope.index} of {nest.rounds}: '{record.name}' failed{why}"
    return ""


def not_reached(nest: Nest, why: str) -> Failure:
    """Returns the failure of the tasks of a workflow that was repeated in vain."""
    return Failure(NotReached.__name__, str(NotReached(nest.name, why)))


def items_in_order(task: LinkedTask) -> Iterator[ItemOrMap]:
    """Yields the items of a mapped task in the order of its lists, whichever of its maps opened first.

    Of a map in a scope that has a value though no item of it has one, the map, too.
    """
    for node in task.maps:
        if node.has_value and not any(item.status is COMPLETED for item in node.items):
            yield node
        yield from items_in_order(node)
    if not task.has_maps:
        yield from task.items


def map_context(task: LinkedTask) -> MapContext:
    """Returns the context of a map that ends now, with the values, the entries and the errors of the items."""
    items: Sequence[Any] = task.items
    if task.has_maps:
        nodes = [scope.node(task.task_id) for scope in task.scopes]
        completed = [node.value for node in nodes if node.has_value]
        values = [node.value for node in nodes]
    else:
        values = completed = [item.current_context.storage for item in items if item.status is COMPLETED]
        if len(completed) < len(items):
            values = [item.current_context.storage if item.status is COMPLETED else None for item in items]
    result = MapContext(values, task.task_id, task.workflow_id, step=task.step.identity)
    result.values = completed
    result.token = ""
    result.errors = {item.item: item.error for item in task.items if item.status is FAILED and item.error}
    entries = [one.entry for one in (task.scopes if task.has_maps else items)]
    result.entries = [entry if type(entry) not in (*NODES, Row) else _first_entry(entry) for entry in entries]
    return result


def record_skipped(task: Task, reason: str) -> None:
    """Records that a task, an item or a round is skipped, in a record that only shows what a run would do."""
    task._apply(TaskSkipped(task.task_id, reason, task.item))


def record_opened(task: LinkedTask) -> None:
    """Records in such a record that a map has opened."""
    task._apply(MapOpened(task.task_id, len(task.items), clock.now(), 0.0))


def record_ended(task: LinkedTask, context: Context | None = None) -> None:
    """Records in such a record that a map has ended, with *context*; None for that of its items."""
    context = context or map_context(task)
    task._apply(MapEnded(task.task_id, context, None, context.time, 0.0))


def _first_entry(entry: Any) -> Any:
    """Returns the entry that a map was given, of a map over a map that of the first one: no value of an item."""
    while type(entry) in NODES:  # no recursion: there may be a thousand maps
        entry = entry.entry
    return {name: _first_entry(own) for name, own in entry.items()} if type(entry) is Row else entry


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
        of = tasks[source]
        values, count = len(of.value), len(of.items)
        each = of.lists if isinstance(of, LinkedTask) and of.gives_items else ()
        lists = [one for one in lists_behind(each, tasks) if isinstance(one, int | str) and one in taken]
        if any(len(tasks[one].value if isinstance(one, int) else params[one]) > values for one in lists):
            name = of.name.rpartition(".")[2]
            missing = f"{count - values} of {count} values of '{of.name}' are missing"
            return f"Task {task.task_id} {task.name}: {missing}: take {name}_context."
    return ""


def map_failure(task: LinkedTask) -> Failure | None:
    """Returns the failure of a mapped task; None if no item failed."""
    failed = [item for item in task.items if item.status is FAILED]
    if not failed:
        return None
    return Failure(ItemsFailed.__name__, str(ItemsFailed(len(failed), len(task.items), _first_of(failed))))


def _first_of(failed: Sequence[Item]) -> str:
    """Returns the first failed items as `[13] 'https://…' ConnectionError`."""
    first = []
    for item in failed[:MAX_SHOWN]:
        if item.error is not None:
            value = shorten(item.error.failure.masks.mask(safe_repr(item.input)), MAX_INPUT)
            name = item.name if item.task_links.is_map_inside else f"[{item.item}]"
            first.append(f"{name} {value} {item.error.exception}")
    return ", ".join([*first, "..."] if len(failed) > MAX_SHOWN else first)


def open_map(task: LinkedTask, root: Scope, params: Params) -> None:
    """Makes the items of a mapped task; those of one that has maps in the scopes of its workflow are made there.

    Args:
        task: The mapped task.
        root: The scope of the run.
        params: The run parameters.

    Raises NotAList or UnequalLists, or an error of the user's own list.
    """
    nest = task.nest
    if nest is None:
        task._open(items_of(task, root, params))
        return
    outer = task.scope if isinstance(task, InnerMap) else root
    beside = (node for node in map(outer.node, nest.tasks) if isinstance(node, LinkedTask))
    made = [node.scopes for node in beside if node.level == task.level and node.scopes]
    task.scopes = made[0] if made else _scopes_of(task, nest, outer, params)  # the same list, and so the same keys
    if not task.has_maps:
        items, position = task.items, task.task_id - nest.tasks[0]
        number = 0 if outer is root else len(root.nodes[task.task_id].items)
        for one in task.scopes:
            item = Item(task, number, one.entry, one.own_key, one, one.key)
            one.nodes[position] = item
            items.append(item)
            number += 1


def _scopes_of(task: LinkedTask, nest: Nest, outer: Scope, params: Params) -> list[Scope]:
    """Returns the scopes of an added workflow: for each item, or for all rounds that there may be."""
    first, level = nest.tasks[0], outer.level + 1
    nodes = [outer.node(task_id) for task_id in nest.tasks]
    scopes: list[Scope] = []
    before = f"{outer.key}-" if outer.key else ""
    for index, (entry, key) in enumerate(() if nest.repeat else _entries(task, lists_of(task, outer, params))):
        scopes.append(Scope(nodes[:], outer, first, index, before + key, entry, None, key, level))
    for number in range(nest.repeat):
        last = scopes[-1] if scopes else None
        scopes.append(Scope(nodes[:], outer, first, number, f"{before}{ROUND}{number}", None, last, "", level))
    return scopes


def lists_of(task: LinkedTask, root: Scope, params: Params) -> dict[str, Sequence[Any]]:
    """Returns the list of each parameter that receives items; the items of a mapped source, their values for a cross.

    Raises NotAList or UnequalLists.
    """
    lists: dict[str, Sequence[Any]] = {}
    for link in task.lists:
        parameter = link.parameter
        source, part = source_of(task, link, root)
        is_before = isinstance(source, InnerMap) and isinstance(task, InnerMap) and source.scope.key != task.scope.key
        if type(source) is tuple:
            lists[parameter] = source
        elif isinstance(source, Task) and source.gives_items and not task.is_cross and not is_before:
            lists[parameter] = source.nodes  # of the round before it is its value, and not its items
        else:
            name: Any = source
            if isinstance(source, Task):
                name, value = source.name, value_of(source, part)
            elif type(source) is Constant:
                name, value = parameter, take(source.value, part)
            else:
                value = params[str(source)]
            if not isinstance(value, list | tuple):
                raise NotAList(task.name, part.name if part else name, type(value).__name__)
            lists[parameter] = value
    if not task.is_cross and len({len(entries) for entries in lists.values()}) > 1:
        raise UnequalLists(task.name, {name: len(entries) for name, entries in lists.items()})
    return lists


def source_of(task: LinkedTask, link: Each, root: Scope) -> tuple[Task | str | tuple[Any, ...] | Constant, Part | None]:
    """Returns the node, the run parameter or the list that a map goes through; of one in a scope as it is there."""
    source = link.source
    if isinstance(task, InnerMap):
        scope = task.scope
        if link.carried is not None:
            assert isinstance(link.carried.source, Carried)
            if (before := scope_of(scope, link.carried.source.level).before) is not None:
                return before.node(link.carried.source.task), link.carried.part
        if isinstance(source, Entry):
            scope = scope_of(scope, source.level)
            entry = scope.entry[source.parameter] if type(scope.entry) is Row else scope.entry
            lists = task.links.nests[source.level - 1].each
            own = next(one.part for one in lists if one.parameter == source.parameter)
            return Constant(value_of_entry(entry, own)), link.part
        return scope.node(source) if isinstance(source, int) else source, link.part
    return root.nodes[source] if isinstance(source, int) else source, link.part


def scope_of(scope: Scope, level: int) -> Scope:
    """Returns the scope of a level, of those around a node."""
    while scope.level > level:
        assert scope.outer is not None
        scope = scope.outer
    return scope


def items_of(task: LinkedTask, root: Scope, params: Params) -> list[Item]:
    """Returns an item for each entry of the lists of a map; in a scope they count on from those before."""
    entries = enumerate(_entries(task, lists_of(task, root, params)))
    if not isinstance(task, InnerMap):
        return [Item(task, index, entry, key, NO_SCOPE, key) for index, (entry, key) in entries]
    scope, first = task.scope, len(root.nodes[task.task_id].items)
    return [Item(task, first + index, entry, key, scope, f"{scope.key}-{key}") for index, (entry, key) in entries]


def _entries(task: LinkedTask, lists: Mapping[str, Sequence[Any]]) -> Iterator[tuple[Any, str]]:
    """Yields the entries of the lists of a map, each with the part of the checkpoint's key that shows it."""
    seen: dict[str, int] = {}
    columns = list(lists.values())
    only = columns[0] if len(columns) == 1 else None
    rows = itertools.product(*columns) if task.is_cross else zip(*columns, strict=True)
    for index, entry in enumerate(rows if only is None else only):
        key = _key_of(entry, index) if only is not None else _key_of_several(entry, index)
        count = seen[key] = seen.get(key, 0) + 1
        if count > 1:
            key = f"{key}-{count}"
        yield entry if only is not None else Row(zip(lists, entry, strict=True)), key


def _key_of(value: Any, index: int) -> str:
    if type(value) in NODES:  # of another map: it has the same key
        return str(value.entry_key)
    from dotflow.codec.canonical import digest  # here, since only maps need it

    try:
        return digest(value)[:KEY_LENGTH]
    except ValueNotStorable:
        return f"{BY_INDEX}{index}"


def _key_of_several(entry: Sequence[Any], index: int) -> str:
    keys = [_key_of(value, index) for value in entry]
    key = hashlib.blake2b("\n".join(keys).encode(), digest_size=KEY_LENGTH // 2).hexdigest()
    return f"{BY_INDEX}{key}" if any(own.startswith(BY_INDEX) for own in keys) else key
