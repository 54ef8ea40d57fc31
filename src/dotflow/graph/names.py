"""Scope: the tasks of a workflow by name or step."""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Final

from dotflow.core.action import AnyAction, action_of
from dotflow.core.links import Group, SettingName
from dotflow.core.masks import Masks
from dotflow.core.outputs import Part
from dotflow.core.task import Task
from dotflow.core.text import safe_repr, shorten, split_address, split_call, split_path
from dotflow.errors import AmbiguousTask, InvalidLink, UnknownTask
from dotflow.graph.linked_task import LinkedTask
from dotflow.graph.params import NO_PARAMS, Params, is_name, settings_of

_INDEX: Final = re.compile(r"\[\d+\]")
MAX_REF: Final = 60  # characters of a value in an error

#: A reference to a task: its name or its step.
TaskRef = str | AnyAction | type[Any]
#: References as users pass them, by the parameter that they fill.
Refs = Mapping[str, Any]


class Scope:
    """The names that a task may refer to: the tasks before it, by `name=...` or the last part of the step's name.

    It reads each task once, and only if a task is looked up, which most workflows never do.

    Args:
        tasks: The tasks, to which others may be added.
        params: The run parameters with their defaults.
        where: Which tasks these are, for errors.
    """

    def __init__(self, tasks: Sequence[Task], params: Params = NO_PARAMS, where: str = UnknownTask.where) -> None:
        self.tasks = tasks
        self.params = params
        self._where = where
        self._ids: dict[str, list[int]] = {}
        self._members: dict[str, list[int]] = {}  # the tasks of added workflows, by the workflow's name
        self._outputs: dict[str, list[int]] = {}
        self._parts: dict[str, Part] = {}  # by output
        self._ids_of_steps: dict[str, list[int]] = {}  # by identity
        self._count = 0
        self.update()

    def param(self, name: str) -> str:
        """Returns the name of a run parameter, as the source of an argument or a condition."""
        return SettingName(name) if name in settings_of(self.params) else name

    def update(self) -> None:
        """Reads the tasks that it has not read yet."""
        for task in self.tasks[self._count :]:
            name = name_of(task)
            self._ids.setdefault(name, []).append(task.task_id)
            for part in () if task.links is None else task.links.outputs:
                output = _beside(name, part.name)
                self._outputs[output], self._parts[output] = [task.task_id], part
            while "." in name:
                name, _, last = name.rpartition(".")
                if not last.isdigit():  # it tells equal names apart: `prepare.fetch.2`
                    members = self._members.setdefault(name, [])
                    # The last one has the value, and a cleanup has none that a resume would restore.
                    nest = None if task.links is None else task.links.nest
                    is_until = nest is not None and task.task_id == nest.until
                    is_last = not (members and (task.is_cleanup or is_until))
                    members.insert(len(members) if is_last else -1, task.task_id)
            self._ids_of_steps.setdefault(task.step.identity, []).append(task.task_id)
        self._count = len(self.tasks)

    def __contains__(self, name: object) -> bool:
        """Returns whether a task, an added workflow or an output has the name."""
        return name in self._ids or name in self._members or name in self._outputs

    def __iter__(self) -> Iterator[str]:
        return chain(self._ids, self._members, self._outputs)

    def is_taken(self, name: str) -> bool:
        """Returns whether a task, an output or a run parameter has the name."""
        return name in self or name in self.params

    def is_param(self, ref: object) -> bool:
        """Returns whether a reference means a run parameter, which no task is called like."""
        return isinstance(ref, str) and ref not in self and ref in self.params

    def part(self, ref: object) -> Part | None:
        """Returns the output that a reference names; None if it names a task."""
        return self._parts.get(ref) if isinstance(ref, str) else None

    def find(self, name: str) -> int | None:
        """Returns the id of the task of that name, or with that output; None if there is none.

        The name of an added workflow is that of its last task. Raises AmbiguousTask.
        """
        ids: Sequence[int] = self._ids.get(name, self._outputs.get(name, ()))
        if name in self._members:
            ids = (*ids, self._members[name][-1])
        if len(ids) > 1:
            raise AmbiguousTask(name, tuple(ids))
        return ids[0] if ids else None

    def group(self, ref: object) -> Group:
        """Returns the ids of all tasks of the added workflow that has the name; of a task only its own.

        The errors are those of `task`.
        """
        task_id = self.task(ref)
        if isinstance(ref, str) and ref in self._members and ref not in self._ids:
            return tuple(self._members[ref])
        return (task_id,)

    def task(self, ref: object) -> int:
        """Returns the id of the task that has the name, the output or the step.

        Raises UnknownTask, AmbiguousTask or, for a value that is neither a name nor a step, InvalidLink.
        """
        if isinstance(ref, str):
            task_id = self.find(ref)
            if task_id is None and (address := split_address(ref)):
                raise InvalidLink(
                    f"'{ref}' is an item, and items are known only in the run. Name '{split_path(address[0])[0]}'."
                )
            if task_id is None:
                known = (*self, *self.params)
                raise UnknownTask(ref, known, self._where, is_param=ref in self.params, hint=self._hint_of_part(ref))
            return task_id
        step = action_of(ref)
        if step is None:
            hint = "Pass a task's name, or its step without parentheses; a condition is the value of a step, too."
            raise InvalidLink(f"{shorten(safe_repr(ref), MAX_REF)} is not a task. {hint}")
        same = self._ids_of_steps.get(step.identity, ())
        ids = [task_id for task_id in same if _is_same(self.tasks[task_id].step, step)]
        if not ids:
            raise UnknownTask(step.name, (*self, *self.params), self._where)
        if len(ids) > 1:
            raise AmbiguousTask(name_of(self.tasks[ids[0]]), tuple(ids))
        return ids[0]

    def _hint_of_part(self, ref: str) -> str:
        """Returns what to write for `task.part`, which names no output; "" if there is no such task."""
        task, _, part = ref.rpartition(".")
        if task not in self._ids or not is_name(part):
            return ""
        output = _beside(task, part)
        if output in self._outputs:
            return f"The output of '{task}' is called '{output}'."
        return f"'{task}' has no output '{part}'. Declare it: add(..., outputs=['{part}']), and name it '{output}'."


def listed(refs: Any) -> Sequence[Any]:
    """Returns one reference, or several, as a list; none for None."""
    return () if refs is None else refs if isinstance(refs, list | tuple) else (refs,)


def name_of(task: Task) -> str:
    """Returns the name that references use: `name=...`, or the last part of the step's name."""
    name = None if task.links is None else task.links.name
    return name or task.step.short_name


def _beside(name: str, output: str) -> str:
    """Returns the name of an output of a task: it stands in the same added workflow as the task."""
    workflow, _, last = name.rpartition(".")
    if last.isdigit():
        workflow = workflow.rpartition(".")[0]
    return f"{workflow}.{output}" if workflow else output


def find_value(ref: TaskRef, tasks: Sequence[Task]) -> tuple[Task, Part | None]:
    """Returns the task that has the name, the output or the step, and the output; None for the task's whole value.

    The address of an item means that: `page[3].fetch`. Raises UnknownTask or AmbiguousTask.
    """
    if isinstance(ref, str) and "[" in ref:
        plain = _INDEX.sub("", ref)
        task, part = find_value(plain, tasks) if plain != ref else (None, None)
        if isinstance(task, LinkedTask) and (node := _node_at(task, ref)) is not None:
            return node, part
    if isinstance(ref, str) and (address := split_address(ref)):
        (task, part), index = find_value(address[0], tasks), address[1]
        nest, (before, _, after) = task.links and task.links.nest, ref.partition("[")
        is_inside = nest is not None and f"{before}.".startswith(f"{nest.name}.")
        is_own = after.endswith("]") or ref.rpartition("#")[0] == address[0]
        if index >= len(task.items) or not (is_inside or is_own):
            raise UnknownTask(ref, tuple(item.name for item in task.items), "")
        return task.items[index], part
    scope = Scope(tasks, where="")
    return tasks[scope.task(ref)], scope.part(ref)


def _node_at(task: LinkedTask, ref: str) -> Task | None:
    """Returns the node of a task with an address such as `page[3].part[2].fetch`; None if there is none.

    The indices of workflows go from outside to inside. One of the task's own, after theirs, counts the items there.
    """
    found: Task = task
    plain = ""
    for word in ref.split("."):
        name, _, index = word.partition("[")
        plain = f"{plain}.{name}" if plain else name
        if not index:
            continue
        is_nest = isinstance(found, LinkedTask) and found.nest is not None and found.nest.name == plain
        nodes: Sequence[Task] = found.items if found is not task else ()  # those of the whole task count otherwise
        if is_nest and isinstance(found, LinkedTask):
            nodes = [scope.node(task.task_id) for scope in found.scopes]
        if int(index.removesuffix("]")) >= len(nodes):
            return None
        found = nodes[int(index.removesuffix("]"))]
    return None if found is task else found


def find_task(ref: TaskRef, tasks: Sequence[Task]) -> Task:
    """Returns the one of the tasks that has the name or the step, or the item with the address.

    Raises UnknownTask, for an output with what has its value, or AmbiguousTask.
    """
    task, part = find_value(ref, tasks)
    if part is not None:
        raise UnknownTask(str(ref), output_of=task.name)
    return task


def _is_same(one: AnyAction, other: AnyAction) -> bool:
    return one is other or (one.identity == other.identity and one.function == other.function)


def split_calls(
    refs: Sequence[TaskRef], tasks: Sequence[Task], masks: Masks
) -> tuple[Sequence[TaskRef], Mapping[int, int]]:
    """Returns the references to tasks, and the numbers of calls that others name, such as `agent@12`, by their tasks.

    Raises:
        UnknownTask, AmbiguousTask: There is no such task, or several have the name.
        InvalidLink: It makes no calls, or each of its items does.
    """
    if not any(isinstance(ref, str) and "@" in ref for ref in refs):
        return refs, {}
    scope, plain, calls = Scope(tasks, where=""), list[TaskRef](), dict[int, int]()
    for ref in refs:
        call = split_call(str(masks.mask_ref(ref))) if isinstance(ref, str) else None
        if call is None or str(masks.mask_ref(ref)) in scope:
            plain.append(ref)
            continue
        name, number = call
        task = tasks[scope.task(name)]
        if not any(step.durable for step in task._steps):
            raise InvalidLink(f"'{ref}' is a call, and '{name}' is not durable. Name '{name}'.")
        if task.is_mapped or (task.links is not None and task.links.nest is not None):
            raise InvalidLink(f"'{ref}' is a call, and each item of '{name}' has its own. Name '{name}'.")
        calls[task.task_id] = min(number, calls.get(task.task_id, number))
    return plain, calls


def named_ids(refs: Sequence[TaskRef], tasks: Sequence[Task], masks: Masks) -> frozenset[int]:
    """Returns the ids of the tasks that have these names or steps. Raises UnknownTask or AmbiguousTask."""
    scope = Scope(tasks, where="")
    return frozenset(task_id for ref in refs for task_id in scope.group(masks.mask_ref(ref)))
