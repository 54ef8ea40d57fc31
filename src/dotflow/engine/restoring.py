"""What a resume restores: a checkpoint counts only while it is what would be made now."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from dotflow.core.context import Context
from dotflow.core.task import Task
from dotflow.errors import CheckpointMismatch, ValueNotStorable

NO_INITIAL: Final = ""  # in place of a digest: there is no initial context
INCOMPARABLE: Final = "?"  # in place of a digest: the codec refuses the value


class Restoration(NamedTuple):
    """What becomes of the checkpoints that were found.

    Attributes:
        restored: The contexts that count, by task id.
        void: Why each other one does not count, by task id, in the order of `add`.
        notes: What is restored without a comparison, and why: one sentence each.
    """

    restored: dict[int, Context]
    void: dict[int, str]
    notes: list[str]


def restore(
    tasks: Sequence[Task], sources: Sequence[int | None], initials: Sequence[str], found: Mapping[int, Context]
) -> Restoration:
    """Decide which checkpoints count.

    Args:
        tasks: The run's tasks.
        sources: For each, the task whose value it is given as `previous_context`.
        initials: For each, the digest of its initial context.
        found: The checkpoints, by task id.

    Raises:
        CheckpointMismatch: Another step made one of them.
    """
    mismatches = [
        (task_id, context.step, tasks[task_id].step.identity)
        for task_id, context in found.items()
        if context.step is not None and not _is_same_step(context.step, tasks[task_id].step.identity)
    ]
    if mismatches:
        raise CheckpointMismatch(mismatches)
    restored: dict[int, Context] = {}
    void: dict[int, str] = {}
    notes: list[str] = []
    for task_id, context in found.items():
        initial, source = initials[task_id], sources[task_id]
        reason = _why_void(context, initial)
        if not reason and takes_previous(tasks[task_id], context):
            reason = _why_moved(tasks, context, source, restored)
        if reason:
            void[task_id] = reason
            continue
        restored[task_id] = context
        if note := _uncertainty(context, initial):
            notes.append(f"Task {task_id} {tasks[task_id].name} is restored, {note}.")
    return Restoration(restored, void, notes)


def digest_of(value: object) -> str:
    """What an initial context is compared by, in every process the same."""
    if value is None:
        return NO_INITIAL
    from dotflow.codec.canonical import digest  # here, since most workflows never need it

    try:
        return digest(value)
    except ValueNotStorable:
        return INCOMPARABLE


def takes_previous(task: Task, context: Context) -> bool:
    """Whether the value may depend on the task before. A class's actions may ask for it where its step does not."""
    value = context.storage
    is_of_class = value.__class__ is list and bool(value) and isinstance(value[0], Context)
    return is_of_class or "previous_context" in task.step.context_params


def _why_void(context: Context, initial: str) -> str:
    inputs = context.inputs
    is_same = inputs is None or inputs.initial == initial
    return "" if is_same else "its initial_context has changed"


def _why_moved(tasks: Sequence[Task], context: Context, source: int | None, restored: Mapping[int, Context]) -> str:
    """Why the value of the task before is not the one that it was made from."""
    if context.inputs is not None and context.inputs.previous != source:
        return (
            f"it was made from {_value_of(tasks, context.inputs.previous)}, and is given {_value_of(tasks, source)} now"
        )
    if source is None:
        return ""
    if source not in restored:
        return f"it takes {_value_of(tasks, source)}, which runs again"
    made = restored[source].inputs
    if context.inputs is not None and made is not None and context.inputs.source != made.run:
        return f"it was made from an earlier value of task {source} {tasks[source].name}"
    return ""


def _value_of(tasks: Sequence[Task], task_id: int | None) -> str:
    if task_id is None:
        return "no previous value"
    name = f" {tasks[task_id].name}" if task_id < len(tasks) else ""
    return f"the value of task {task_id}{name}"


def _uncertainty(context: Context, initial: str) -> str:
    if initial == INCOMPARABLE:
        return "though its initial_context can't be compared with the earlier one: no storage could keep such a value"
    if context.inputs is None and initial != NO_INITIAL:
        return "though its checkpoint does not say which initial_context it was made with"
    return ""


def _is_same_step(was: str, now: str) -> bool:
    """Whether two identities mean one step. A script that is run is called `__main__`, the same one imported is not."""
    if was == now:
        return True
    (module, _, name), (module_now, _, name_now) = was.partition(":"), now.partition(":")
    return name == name_now and "__main__" in (module, module_now)
