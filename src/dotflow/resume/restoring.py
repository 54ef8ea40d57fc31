"""Which checkpoints a resume restores: those that the run would make again just the same."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from dotflow.core.context import Context, is_of_actions
from dotflow.core.task import Task
from dotflow.core.types.status import TypeStatus
from dotflow.errors import CheckpointMismatch, ValueNotStorable

if TYPE_CHECKING:
    from dotflow.resume.changed_code import ChangedCode

NO_INITIAL: Final = ""  # instead of a digest, for no initial context
TAKES: Final = "it takes the value of"  # begins the reason of a checkpoint whose source runs again
INCOMPARABLE: Final = "?"  # instead of a digest, for a value that the codec refuses


@dataclass
class Restoration:
    """The decisions on the checkpoints of a workflow.

    Attributes:
        restored: The valid contexts, by task id.
        void: The tasks and items whose checkpoint is void, with the reason, in the order of `add`.
        is_finished: Whether all tasks were finished.
        notes: Notes on values that are restored without comparing their inputs.
        not_needed: The tasks without checkpoints that don't run, since no task that runs needs them.
        whole_maps: The mapped tasks of which all items are restored, and the number of these.
        tasks: Copies of the tasks that record the decisions, if tasks have links.
        left_open: The cleanups that did not complete in the last run.
    """

    restored: dict[int, Context] = field(default_factory=dict)
    void: list[tuple[Task, str]] = field(default_factory=list)
    is_finished: bool = True
    notes: list[str] = field(default_factory=list)
    not_needed: set[int] = field(default_factory=set)
    whole_maps: dict[int, int] = field(default_factory=dict)
    tasks: Sequence[Task] = ()
    left_open: Collection[int] = ()

    def restored_ids(self) -> set[int]:
        """Returns the ids of the tasks with a restored value, maps with some of their items included."""
        partly = (task.task_id for task in self.tasks if any(item.restored_from for item in task.items))
        return {*self.restored, *partly}


def restore(
    tasks: Sequence[Task],
    sources: Sequence[int | None],
    initials: Sequence[str],
    checkpoints: Mapping[int, Context],
    changes: "ChangedCode | None" = None,
) -> Restoration:
    """Decides which checkpoints are valid.

    Args:
        tasks: The run's tasks.
        sources: For each task, the task whose value is its `previous_context`.
        initials: For each task, the digest of its initial context.
        checkpoints: The saved contexts, by task id.
        changes: Compares the code.

    Raises:
        CheckpointMismatch: Another step made one of them.
    """
    mismatches = [
        (task_id, context.step, tasks[task_id].step.identity)
        for task_id, context in checkpoints.items()
        if context.step is not None and not is_same_step(context.step, tasks[task_id].step.identity)
    ]
    if mismatches:
        raise CheckpointMismatch(mismatches)
    result = Restoration()
    for task_id, context in checkpoints.items():
        initial, source = initials[task_id], sources[task_id]
        reason = _initial_reason(context, initial)
        if not reason:
            reason = _links_reason(context)
        if not reason and takes_previous(tasks[task_id], context):
            reason = _source_reason(tasks, context, source, result.restored)
        if not reason and changes is not None:
            reason = changes.why_void(tasks[task_id], context)
        if reason:
            result.void.append((tasks[task_id], reason))
            continue
        result.restored[task_id] = context
        result.notes += notes_on(tasks[task_id], context, initial)
    return result


def digest_of(value: object) -> str:
    """Returns the digest of an initial context, the same in every process."""
    if value is None:
        return NO_INITIAL
    from dotflow.codec.canonical import digest  # here, since most workflows never need it

    try:
        return digest(value)
    except ValueNotStorable:
        return INCOMPARABLE


def takes_previous(task: Task, context: Context) -> bool:
    """Returns whether the value may depend on the previous one, which the actions of a class may take, too."""
    return is_of_actions(context.storage) or "previous_context" in task.step.context_params


def previous_of(task: Task, tasks: Sequence[Task], sources: Sequence[int | None]) -> Task | None:
    """Returns the task whose context is the `previous_context`: the last one that was not skipped."""
    source = sources[task.task_id]
    while source is not None and tasks[source].status is TypeStatus.SKIPPED:
        source = sources[source]
    return None if source is None else tasks[source]


def _initial_reason(context: Context, initial: str) -> str:
    inputs = context.inputs
    is_same = inputs is None or inputs.initial == initial
    return "" if is_same else "its initial_context has changed"


def _links_reason(context: Context) -> str:
    """Returns why a value that a workflow with links saved is void in this one, which has none."""
    labels = [] if context.inputs is None else [label for label in context.inputs.links if label != "previous_context"]
    return f"it was made from a value of '{labels[0]}', and takes none now" if labels else ""


def _source_reason(tasks: Sequence[Task], context: Context, source: int | None, restored: Mapping[int, Context]) -> str:
    """Returns why the value was made from another source than it would be now; "" if it was not."""
    if context.inputs is not None and context.inputs.previous != source:
        return (
            f"it was made from {_value_of(tasks, context.inputs.previous)}, and is given {_value_of(tasks, source)} now"
        )
    if source is None:
        return ""
    if source not in restored:
        return f"{TAKES} {_task(tasks, source)}, which runs again"
    source_inputs = restored[source].inputs
    if context.inputs is not None and source_inputs is not None and context.inputs.source != source_inputs.run:
        return f"it was made from an earlier value of {_task(tasks, source)}"
    return ""


def _value_of(tasks: Sequence[Task], task_id: int | None) -> str:
    if task_id is None:
        return "no previous value"
    return f"the value of {_task(tasks, task_id)}"


def _task(tasks: Sequence[Task], task_id: int) -> str:
    return f"task {task_id} {tasks[task_id].name}" if task_id < len(tasks) else f"task {task_id}"


def notes_on(task: Task, context: Context, initial: str) -> list[str]:
    """Returns a sentence on a checkpoint that is restored without comparing its inputs; none if they are compared."""
    if initial == INCOMPARABLE:
        why = "its initial_context can't be compared with the earlier one: no storage could keep such a value"
    elif labels := [] if context.inputs is None else _incomparable(context.inputs.links):
        why = f"its '{labels[0]}' can't be compared with the earlier one: no storage could keep such a value"
    elif context.inputs is None and initial != NO_INITIAL:
        why = "its checkpoint does not record which initial_context it was made with"
    elif context.inputs is None and task.links is not None and list(task.links.value_sources()):
        why = "its checkpoint does not record which values it was made from"
    else:
        return []
    return [f"Task {task.task_id} {task.name} is restored, though {why}."]


def _incomparable(tokens: Mapping[str, str]) -> list[str]:
    return [label for label, token in tokens.items() if token == f"={INCOMPARABLE}"]


def is_same_step(saved: str, current: str) -> bool:
    """Returns whether two identities name one step. A script is `__main__` when run, and has a name when imported."""
    if saved == current:
        return True
    (module, _, name), (current_module, _, current_name) = saved.partition(":"), current.partition(":")
    return name == current_name and "__main__" in (module, current_module)


def digests_of(tasks: Sequence[Task]) -> list[str]:
    """Returns the digests of the tasks' initial contexts, taken before a step can change the values."""
    digest_of_value: dict[int, str] = {id(None): NO_INITIAL}  # by id: all tasks of one add() share their value

    def digest_of_initial(value: Any) -> str:
        if id(value) not in digest_of_value:
            digest_of_value[id(value)] = digest_of(value)
        return digest_of_value[id(value)]

    # Most tasks have none, and there may be a hundred thousand.
    return [NO_INITIAL if task._initial is None else digest_of_initial(task._initial.storage) for task in tasks]
