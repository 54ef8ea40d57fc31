"""Maps: the items of a list and their keys, the rounds of a workflow, and what they end with."""

import hashlib
import itertools
from collections.abc import Collection, Container, Iterator, Mapping, Sequence
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
from dotflow.graph.gather import ending, value_of
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


def why_failed(nest: Nest, scope: Scope, allowed: Container[Task] = ()) -> str:
    """Returns which task but a cleanup has failed in a round; "" if none has. Items of *allowed* maps may."""
    for task_id in nest.tasks:
        record: Task = scope.node(task_id)
        is_mapped, items = isinstance(record, InnerMap), record.items
        has_failed = record.status is FAILED
        if is_mapped and record.status is not COMPLETED and record not in allowed:
            has_failed = has_failed or any(item.status is FAILED for item in items)
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


def map_failure(task: LinkedTask, count: int = 0, beyond: str = "") -> Failure | None:
    """Returns the failure of a mapped task; None if no item failed but those that maps in its scopes allow.

    Args:
        task: The mapped task.
        count: How many items of its list failed; 0 for those of the task itself.
        beyond: That fewer may.
    """
    failed = [*_failed_items(task)]
    if not failed:
        return None
    total = len(task.scopes or task.items) if count else len(task.items)
    return Failure(ItemsFailed.__name__, str(ItemsFailed(count or len(failed), total, _first_of(failed), beyond)))


def allowed_failures(task: LinkedTask) -> str:
    """Returns which items of a mapped task failed that completed; "" for none."""
    failed = [item for item in task.items if item.status is FAILED]
    return f"failed, as keep_going allows: {_first_of(failed)}" if failed else ""


def _failed_items(task: LinkedTask) -> Iterator[Item]:
    """Yields the failed items of a mapped task, but those that its maps in scopes allow."""
    if not task.has_maps:
        yield from (item for item in task.items if item.status is FAILED)
        return
    for node in task.maps:
        if node.status is not COMPLETED:
            yield from _failed_items(node)


def _first_of(failed: Sequence[Item]) -> str:
    """Returns the first failed items as `[13] 'https://…' ConnectionError`."""
    first = []
    for item in failed[:MAX_SHOWN]:
        if item.error is not None:
            value = shorten(item.error.failure.masks.mask(safe_repr(item.input)), MAX_INPUT)
            name = item.name if item.task_links.is_map_inside else f"[{item.item}]"
            first.append(f"{name} {value} {item.error.exception}")
    return ", ".join([*first, "..."] if len(failed) > MAX_SHOWN else first)


def open_map(task: LinkedTask, outer: Scope, params: Params) -> None:
    """Makes the items of a map; those of one that has maps in the scopes of its workflow are made there.

    Args:
        task: The map.
        outer: The scope in which it stands: that of the run, or of an added workflow.
        params: The run parameters.

    Raises NotAList or UnequalLists, or an error of the user's own list.
    """
    nest = task.nest
    if nest is None:
        task._open(items_of(task, outer, params))
        return
    siblings = (node for node in map(outer.node, nest.tasks) if isinstance(node, LinkedTask))
    made = [node.scopes for node in siblings if node.level == task.level and node.scopes]
    task.scopes = made[0] if made else _scopes_of(task, nest, outer, params)  # the same list, and so the same keys
    if not task.has_maps:
        items, position = task.items, task.task_id - nest.tasks[0]
        for number, one in enumerate(task.scopes, _count_before(task, outer)):
            item = Item(task, number, one.entry, one.own_key, one, one.key)
            one.nodes[position] = item
            items.append(item)


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


def lists_of(task: LinkedTask, outer: Scope, params: Params) -> dict[str, Sequence[Any]]:
    """Returns the list of each parameter that receives items; the items of a mapped source, their values for a cross.

    *outer* is the scope in which the map stands.

    Raises NotAList or UnequalLists.
    """
    lists: dict[str, Sequence[Any]] = {}
    for link in task.lists:
        parameter = link.parameter
        source, part = source_of(task, link, outer)
        is_before = isinstance(source, InnerMap) and source.scope.key != outer.key
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


def source_of(
    task: LinkedTask, link: Each, outer: Scope
) -> tuple[Task | str | tuple[Any, ...] | Constant, Part | None]:
    """Returns the node, the run parameter or the list that a map goes through in the scope in which it stands."""
    source = link.source
    if link.carried is not None:
        assert isinstance(link.carried.source, Carried)
        if (before := scope_of(outer, link.carried.source.level).before) is not None:
            return before.node(link.carried.source.task), link.carried.part
    if isinstance(source, Entry):
        scope = scope_of(outer, source.level)
        entry = scope.entry[source.parameter] if type(scope.entry) is Row else scope.entry
        lists = task.links.levels[source.level - 1].each
        own = next(one.part for one in lists if one.parameter == source.parameter)
        return Constant(value_of_entry(entry, own)), link.part
    return outer.node(source) if isinstance(source, int) else source, link.part


def scope_of(scope: Scope, level: int) -> Scope:
    """Returns the scope of a level, of those around a node."""
    while scope.level > level:
        assert scope.outer is not None
        scope = scope.outer
    return scope


def items_of(task: LinkedTask, outer: Scope, params: Params) -> list[Item]:
    """Returns an item for each entry of the lists of a map, which stands in a scope."""
    scope, before = (NO_SCOPE, "") if outer.outer is None else (outer, f"{outer.key}-")
    entries = enumerate(_entries(task, lists_of(task, outer, params)), _count_before(task, outer))
    return [Item(task, index, entry, key, scope, before + key) for index, (entry, key) in entries]  # no copy of a key


def _count_before(task: LinkedTask, outer: Scope) -> int:
    """Returns how many items the maps of a task have in other scopes: those of the next one count on."""
    return 0 if outer.outer is None else len(scope_of(outer, 0).nodes[task.task_id].items)


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
