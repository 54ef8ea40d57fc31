"""Unsaved values: the tasks with `@action(checkpoint=False)` in a resume."""

from collections.abc import Callable, Collection, Mapping, Sequence

from dotflow.core.task import Task
from dotflow.core.types.status import TypeStatus
from dotflow.resume.restoring import digest_of


def stable_run(initial: str, tokens: Mapping[str, str]) -> str:
    """Returns what stands for the run that made an unsaved value: the same text as long as its inputs are the same.

    So the checkpoints of the tasks that take the value stay valid, though it is another one in each run.

    Args:
        initial: The digest of the task's initial context.
        tokens: The tokens of the values that the task depends on.
    """
    return f"={digest_of([initial, dict(sorted(tokens.items()))])}"


def always_takes_previous(task: Task) -> bool:
    """Returns whether the value may depend on the previous one, whatever it is: the actions of a class may take it."""
    return isinstance(task.step.function, type) or "previous_context" in task.step.context_params


def not_needed(
    tasks: Sequence[Task],
    run_again: Collection[int],
    previous_of: Callable[[Task], Task | None],
    left_open: Collection[int] = (),
) -> set[int]:
    """Returns the unsaved tasks that don't run in a resume, since no task that runs needs them.

    A cleanup counts as such a task only if it did not complete in the last run, or if one that runs must wait for its
    completion. A task that no other one needs runs.

    Args:
        tasks: The tasks, with the decisions on them.
        run_again: The tasks that are not restored.
        previous_of: Returns the task whose context is a task's `previous_context`.
        left_open: The cleanups that did not complete in the last run.
    """
    cleanups = {task.task_id for task in tasks if task.is_cleanup and task.task_id not in left_open}
    unsaved = {task.task_id for task in tasks if not task.step.checkpoint} - cleanups
    if not unsaved:
        return set()
    running = {task.task_id for task in tasks if task.task_id in run_again} - unsaved - cleanups
    followers: dict[int, list[int]] = {task_id: [] for task_id in unsaved | cleanups}
    for task in tasks:
        for *_, source in task.links.needs if task.links else ():
            if source in cleanups:
                followers[source].append(task.task_id)
        previous = previous_of(task) if always_takes_previous(task) else None
        for source in (*(task.links.sources() if task.links else ()), *((previous.task_id,) if previous else ())):
            if source in unsaved:
                followers[source].append(task.task_id)
    left_out = set()
    for task_id in sorted(followers, reverse=True):
        if tasks[task_id].status is TypeStatus.SKIPPED:
            continue
        if not running.isdisjoint(followers[task_id]) or (task_id in unsaved and not followers[task_id]):
            running.add(task_id)
        elif task_id in unsaved:
            left_out.add(task_id)
    return left_out
