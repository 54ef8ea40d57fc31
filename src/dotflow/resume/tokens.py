"""Tokens: short texts for the values that a checkpoint depends on. Equal tokens stand for equal inputs."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from dotflow.core.action import parts_of
from dotflow.core.context import Context, is_of_actions
from dotflow.core.links import CONTEXT, AllParams, Constant, Entry, Source, is_setting
from dotflow.core.outputs import Part
from dotflow.core.task import Task
from dotflow.core.types.status import TypeStatus
from dotflow.errors import ValueNotStorable
from dotflow.graph.gather import ByItem
from dotflow.graph.linked_task import NODES, InnerMap, Item, ItemOrMap, LinkedTask, MapContext, Row, Scope
from dotflow.graph.maps import BY_INDEX, items_in_order, source_of
from dotflow.graph.params import Params
from dotflow.graph.wiring import PREVIOUS

NOTHING: Final = ""  # the token of a task without a value
NO_INITIAL: Final = ""  # instead of a digest, for no initial context
INCOMPARABLE: Final = "?"  # instead of a digest, for a value that the codec refuses
NO_TOKENS: Final[Mapping[str, str]] = {}
CONDITION: Final = "when "  # begins the labels of conditions
FALLBACK: Final = "fallback "  # begins the labels of what a fallback takes
ORDER: Final = "order of each"  # the label of the parameters whose entries an item's key shows, in its order
ONLY_TASKS: Final = frozenset({int}).issuperset  # of the types of sources: a task is known by its id


class Tokens:
    """The tokens of a run's tasks and items, and the digests of their initial contexts.

    The digests and the tokens of the run parameters are made here, since a step may change the values.

    Args:
        tasks: The run's tasks.
        previous: For each task, the task whose context is its `previous_context`.
        params: The run parameters.

    Attributes:
        tasks: The tasks whose values count: the run's, or copies that record the decisions of a resume.
        root: Their scope.
        previous: For each task, the task whose context is its `previous_context`.
        params: The run parameters.
        initials: The digests of the initial contexts, by task id.
        has_links: Whether a task has links.
        has_outer: Whether a task takes a value from outside: an initial context, a parameter, a constant or a list.
    """

    def __init__(self, tasks: Sequence[Task], previous: Sequence[int | None], params: Params) -> None:
        self.root = Scope([*tasks])
        self.tasks: Sequence[Task] = self.root.nodes
        self.previous = previous or (None,) * len(tasks)
        self.params = params
        self.has_links = LinkedTask in map(type, tasks)
        values = {task.task_id: task._initial.storage for task in tasks if task._initial is not None}
        digests = {id(value): digest_of(value) for value in {id(value): value for value in values.values()}.values()}
        self.initials = {
            task_id: digests[id(value)] for task_id, value in values.items()
        }  # those of one add() share it
        links = [task.links for task in tasks if task.links is not None] if self.has_links else []
        sources = [bind.source for of in links for bind in of.binds + of.fallback_binds]
        lists = [link.source for of in links for link in of.lists]
        self.has_outer = bool(values) or not ONLY_TASKS(map(type, (*sources, *lists)))
        self._digests = {name: f"={digest_of(value)}" for name, value in params.items()}
        sources += [condition.source for of in links for condition in of.conditions]
        constants = [source.value for source in sources if isinstance(source, Constant)]
        self._constants = {id(value): f"={digest_of(value)}" for value in constants}
        self._shared: dict[tuple[int, bool], Mapping[str, str]] = {}  # by mapped task: those of all items
        self._inputs: dict[tuple[int, int], ByItem] = {}  # by mapped task and level
        # By mapped task: the own tokens of an item, those that it shares, and both.
        self._last: dict[int, tuple[Mapping[str, str], Mapping[str, str], Mapping[str, str]]] = {}

    def use(self, tasks: Sequence[Task]) -> None:
        """Sets the tasks whose values count."""
        self.root = Scope([*tasks])
        self.tasks = self.root.nodes
        self._shared.clear()
        self._inputs.clear()

    def initial_of(self, task: Task) -> str:
        """Returns the digest of the initial context of a task or an item."""
        return self.initials.get(task.task_id, NO_INITIAL)

    def previous_of(self, task: Task) -> Task | None:
        """Returns the task whose context is the `previous_context`: the last one that was not skipped."""
        source = self.previous[task.task_id]
        while source is not None and self.tasks[source].status is TypeStatus.SKIPPED:
            source = self.previous[source]
        return None if source is None else self.tasks[source]

    def taken_as_previous(self, task: Task) -> list[int]:
        """Returns the id of the task whose context it takes whatever its value is; empty for none."""
        previous = self.previous_of(task) if always_takes_previous(task) else None
        return [] if previous is None else [previous.task_id]

    def takes_previous(self, task: Task, context: Context) -> bool:
        """Returns whether the value may depend on the previous one; an item may itself be what it is given as that."""
        links = self.tasks[task.task_id].links
        if links is not None and links.each and PREVIOUS in [link.parameter for link in links.each]:
            return False
        if PREVIOUS in task.step.context_params:
            return True
        if not task.step.checkpoint:  # the context stands for a value that is not known
            return always_takes_previous(task)
        return is_of_actions(context.storage)

    def of(self, task: Task, context: Context) -> Mapping[str, str]:
        """Returns a token for each argument and condition of a task or an item, by parameter or condition.

        There are none without links: `Inputs.previous` and `Inputs.source` show all that the value depends on.
        """
        return self._of(task, self.takes_previous(task, context)) if self.has_links else NO_TOKENS

    def stable_run(self, task: Task) -> str:
        """Returns what stands for the run that made an unsaved value: the same as long as its inputs are the same.

        So the checkpoints of the tasks that take the value stay valid, though it is another one in each run.
        """
        tokens = self._of(task, always_takes_previous(self.tasks[task.task_id]))
        return f"={digest_of([self.initial_of(task), dict(sorted(tokens.items()))])}"

    def inputs_of(self, task: Task) -> str:
        """Returns a digest of what an attempt of a task or an item takes. All that it depends on has ended."""
        own = self.tasks[task.task_id]
        links = own.links
        takes_previous = any(PREVIOUS in part.context_params for step in own._steps for part in parts_of(step))
        if links is not None and PREVIOUS in [link.parameter for link in links.each]:
            takes_previous = False
        return digest_of([self.initial_of(task), dict(sorted(self._of(task, takes_previous).items()))])

    def question_of(self, task: Task) -> str:
        """Returns a digest of what a task or an item takes that asks for an approval; of a map with its lists."""
        if isinstance(task, Item):  # its key is part of the question
            return self.inputs_of(task)
        links = self.tasks[task.task_id].links
        assert links is not None
        lists = [self._at(one.source) if isinstance(one.source, int | str) else one.source for one in links.lists]
        return digest_of([self.inputs_of(task), lists])

    def _of(self, task: Task, takes_previous: bool) -> Mapping[str, str]:
        if not isinstance(task, Item):
            return self._of_task(task, takes_previous)
        shared = self._shared.get((task.task_id, takes_previous))
        if shared is None:
            shared = self._of_task(self.tasks[task.task_id], takes_previous)
            self._shared[task.task_id, takes_previous] = shared
        own = self._of_item(task)
        if not own:
            return shared
        last = self._last.get(task.task_id)
        if last is None or last[0] != own or last[1] is not shared:
            last = self._last[task.task_id] = own, shared, {**shared, **own}
        return last[2]  # most items of a map have the same: one object for all takes no memory

    def _of_task(self, task: Task, takes_previous: bool) -> dict[str, str]:
        tokens = {}
        if task.links is not None:
            links = task.links
            whole = links.at()
            for prefix, binds in (("", whole.binds), (FALLBACK, whole.fallback_binds)):
                for parameter, kind, source, _, part in binds:
                    if not is_setting(source):
                        tokens[f"{prefix}{parameter}"] = self._at(source, part, by_index=kind == CONTEXT)
            for condition in whole.conditions:
                if not is_setting(condition.source):
                    tokens[f"{CONDITION}{condition.name}"] = self._at(condition.source)
            # The key of an item shows its entries, but not which of them it takes.
            for prefix, binds in (("", links.binds), (FALLBACK, links.fallback_binds)) if links.levels else ():
                entries = ((bind.parameter, bind.source) for bind in binds if isinstance(bind.source, Entry))
                tokens.update((f"{prefix}{parameter}", f"item:{entry.parameter}") for parameter, entry in entries)
            if len(links.lists) > 1:
                tokens[ORDER] = ", ".join(link.parameter for link in links.lists)
        if takes_previous:
            previous = self.previous_of(task)
            tokens[PREVIOUS] = NOTHING if previous is None else self._at(previous.task_id, by_index=True)
        return tokens

    def _at(self, source: Source | InnerMap, part: Part | None = None, *, by_index: bool = False) -> str:
        """Returns the token of a task's value or a part of it, of a run parameter or of a constant.

        That of a task has the run that made the value; of a map, a digest of all items.

        Args:
            source: The id of the task, which has ended, a map in a scope, the name of the parameter, or the constant.
            part: The output of the task that is taken; None for its whole value.
            by_index: Whether the items without a value count, as they do in a map's Context.
        """
        if not isinstance(source, int | InnerMap):
            if not isinstance(source, str):
                assert isinstance(source, Constant), "the key of an item shows its entries"
                return self._constants[id(source.value)]
            if type(source) is AllParams:
                inputs = {name: digest for name, digest in self._digests.items() if name not in source.settings}
                return f"={digest_of(inputs)}"
            return self._digests[source]
        task = self.tasks[source] if isinstance(source, int) else source
        if not task.has_value:
            return NOTHING
        if isinstance(task, LinkedTask) and task.is_repeated:
            if not task.has_maps:  # the keys of the items of these show the round
                return f"{task.items[-1].key_suffix}:{self._of_value(task, part)}"  # each round has a token of its own
            task = task.last
        context = task.current_context
        if not isinstance(context, MapContext):
            return f"{task.key_name}:{context._origin.run}" if part is None else self._of_value(task, part)
        if not context.token and isinstance(task, LinkedTask):  # once: many tasks may take the values
            items = hashlib.blake2b(digest_size=8)
            for item in items_in_order(task):
                if isinstance(item, InnerMap):
                    items.update(f"{item.scope.key}:\n".encode())
                elif item.status is TypeStatus.COMPLETED:
                    items.update(f"{item.key_suffix}:{item.current_context._origin.run}\n".encode())
            context.token = f"{task.key_name}:{items.hexdigest()}"
        missing = []  # with their keys, since a Context has the entries of these, too
        if by_index and len(context.values) < len(task.items):
            others = [item for item in task.items if isinstance(item, Item) and item.status is not TypeStatus.COMPLETED]
            missing = [[item.item, item.key_suffix] for item in others]
        token = f"{context.token}/{digest_of(missing)}" if missing else context.token
        if part is None:
            return token
        values = context.values if task.step.checkpoint else [None]
        return ".".join([token, *sorted({part.key_in(value) for value in values})])

    def _of_value(self, record: Task, part: Part | None) -> str:
        """Returns the token of the value of a task, an item or a map in a scope, or of a part of it."""
        if isinstance(record, InnerMap):
            return self._at(record, part)
        task, context = self.tasks[record.task_id], record.current_context
        token = f"{task.key_name}:{context._origin.run}"
        if part is None:
            return token
        return f"{token}.{part.key_in(context.storage if task.step.checkpoint else None)}"  # else it may be unknown

    def _inputs_of(self, mapped: Any) -> ByItem:
        """Returns what the nodes of a map take."""
        inputs = self._inputs.get((mapped.task_id, mapped.level))
        if inputs is None:
            inputs = self._inputs[mapped.task_id, mapped.level] = ByItem(mapped, self.tasks)
        return inputs

    def _of_item(self, item: Item) -> Mapping[str, str]:
        """Returns the tokens of an item's own arguments, as far as its key does not show them."""
        mapped, scope, task_id = self.tasks[item.task_id], item.scope, item.task_id
        if scope.outer is None:
            return self._of_node(item, mapped, item.entry_key)
        node = scope.nodes[task_id - scope.first]
        if node is item and scope.level == 1:
            return self._of_node(item, mapped, item.entry_key)
        tokens = {} if node is item else {**self._of_entries(item, node, item.entry_key)}
        while scope.outer is not None:
            node, outer = scope.nodes[task_id - scope.first], scope.outer
            tokens |= self._of_node(node, outer.node(task_id), scope.own_key)
            scope = outer
        return tokens

    def _of_node(self, node: ItemOrMap, mapped: Any, key: str) -> Mapping[str, str]:
        """Returns the tokens of what a node takes of its scope, and of its entries as far as a key does not show them.

        Args:
            node: The item, or the map in a scope.
            mapped: The map of which it is a node.
            key: The part of the key that shows its entry.
        """
        inputs = self._inputs.get((node.task_id, mapped.level)) or self._inputs_of(mapped)
        if not inputs.takes_from_scope(node):
            return self._of_entries(node, mapped, key)
        tokens: dict[str, str] = {}
        for label, record, part in inputs.taken(node):
            has_value = record.status is TypeStatus.COMPLETED or record.has_value
            tokens[label] = self._of_value(record, part) if has_value else NOTHING
        tokens.update(self._of_entries(node, mapped, key))
        return tokens

    def _of_entries(self, item: ItemOrMap, mapped: Any, key: str) -> Mapping[str, str]:
        """Returns the tokens of the entries of a node, as far as a key does not show them."""
        is_known_by_index = key.startswith(BY_INDEX)  # another list may have another value there
        if not is_known_by_index and type(item.entry) not in (*NODES, Row):
            return NO_TOKENS
        tokens: dict[str, str] = {}
        for link in mapped.lists:
            entry = item.entry[link.parameter] if type(item.entry) is Row else item.entry
            if type(entry) in NODES:
                tokens[f"item of {link.parameter}"] = self._of_value(entry, link.part)
                continue
            source, part = source_of(mapped, link, mapped.scope if isinstance(mapped, InnerMap) else self.root)
            if is_known_by_index and isinstance(source, InnerMap | Item):
                tokens[f"each {link.parameter}"] = self._of_value(source, part)
            elif is_known_by_index and not isinstance(source, tuple):
                name = source.task_id if isinstance(source, Task) else source
                tokens[f"each {link.parameter}"] = self._at(name, part)
        return tokens


def digest_of(value: object) -> str:
    """Returns the digest of a value, the same in every process."""
    if value is None:
        return NO_INITIAL
    from dotflow.codec.canonical import digest  # here, since most workflows never need it

    try:
        return digest(value)
    except ValueNotStorable:
        return INCOMPARABLE


def always_takes_previous(task: Task) -> bool:
    """Returns whether the value may depend on the previous one, whatever it is: the actions of a class may take it."""
    return isinstance(task.step.function, type) or PREVIOUS in task.step.context_params


def difference(was: Mapping[str, str], now: Mapping[str, str], ignored: str = "") -> str:
    """Returns the first label but *ignored* whose tokens differ; "" if there is none.

    A condition that was added or removed since then did not make the value, nor did a fallback that was added.
    """
    if was == now:
        return ""
    had_fallback = any(label.startswith(FALLBACK) for label in was)
    for label in {**was, **now}:
        if was.get(label) == now.get(label) or label == ignored:
            continue
        is_new_fallback = label.startswith(FALLBACK) and not had_fallback
        is_new_condition = label.startswith(CONDITION) and not (label in was and label in now)
        if not (is_new_fallback or is_new_condition):
            return label
    return ""
