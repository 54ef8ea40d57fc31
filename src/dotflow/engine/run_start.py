"""The beginning of a run: its event, and a warning about its storage."""

import functools
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Final

from dotflow import clock
from dotflow.abc.storage import Storage
from dotflow.code.fingerprint import fingerprint
from dotflow.core.attempt_id import current_attempt, trigger
from dotflow.core.context import Context
from dotflow.core.events import Planned, RunStarted
from dotflow.core.task import Task
from dotflow.core.types.execution import TypeExecution
from dotflow.engine.options import RunOptions
from dotflow.engine.run_providers import RunProviders
from dotflow.graph.plan import Plan

#: The contexts; the actions of a class step may take both.
CONTEXTS: Final = ("initial_context", "previous_context")


def run_started(
    workflow_id: str,
    run_id: str,
    name: str | None,
    mode: TypeExecution,
    tasks: Sequence[Task],
    plan: Plan,
    providers: RunProviders,
    options: RunOptions,
    *,
    resumed: bool,
) -> RunStarted:
    """Returns the event; without the tasks where neither a history nor a tracer receives it."""
    parent = current_attempt.get()
    storage = providers.storage
    path = getattr(storage, "path", None)
    return RunStarted(
        workflow_id,
        run_id,
        len(tasks),
        clock.now(),
        name,
        _planned(tasks, plan, has_history=providers.history is not None, has_tracer=providers.tracer is not None),
        mode=str(mode),
        resumed=resumed,
        parent=parent,
        trigger="" if parent is not None else trigger.get(),
        storage=type(storage).__name__ if path is None else f"{type(storage).__name__}({path})",
        saved=functools.partial(_find_saved, storage, tasks) if storage.outlives_process else None,
        is_named=options.alone,
        masks=providers.secrets.masks,
    )


def _find_saved(storage: Storage, tasks: Sequence[Task], value: Any) -> Context | None:
    for task in tasks:
        if task._current is not None and task._current.storage is value:
            saved_context = storage.get(storage.key(task))
            if saved_context.time == task._current.time:
                return saved_context
    return None


def _planned(tasks: Sequence[Task], plan: Plan, *, has_history: bool, has_tracer: bool) -> tuple[Planned, ...]:
    if not has_history and not has_tracer:
        return ()
    return tuple(
        Planned(
            task.name,
            task.group_name,
            lane,
            task.step.identity,
            needs,
            task.step.policy,
            fingerprint(task.step) if has_history else "",
            CONTEXTS if isinstance(task.step.function, type) else tuple(task.step.context_params),
        )
        for task, lane, needs in zip(tasks, plan.lanes, plan.needs, strict=True)
    )


_warned_of: Final[weakref.WeakSet[Storage]] = weakref.WeakSet()


def warn_of_local(storage: Storage, report: Callable[..., None]) -> None:
    """Warns once for each storage that a resume on another machine does not find its checkpoints."""
    if storage not in _warned_of:
        _warned_of.add(storage)
        report(
            f"The steps run on a cluster, but {type(storage).__name__} keeps their checkpoints on this machine, where "
            f"another one can't resume them. Use a storage that all machines reach, or put its path on a shared disk."
        )
