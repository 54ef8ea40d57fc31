"""DotFlow: a workflow, from its tasks to its results."""

import contextlib
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Never, NoReturn, ParamSpec, TypeVar

from dotflow import clock
from dotflow.abc.workflow import NothingUnfinished
from dotflow.config import Config
from dotflow.core.context import Context
from dotflow.core.failure import name_of
from dotflow.core.hints import WORKFLOW, no_attribute, refuse_unknown, start_hints
from dotflow.core.masks import Masks
from dotflow.core.secret import NO_SECRETS, SecretRef
from dotflow.core.task import Task
from dotflow.core.types.execution import TypeExecution
from dotflow.core.types.status import TypeStatus
from dotflow.engine.background import RECORD_PATIENCE, start_in_background
from dotflow.engine.options import (
    START_ARGUMENTS,
    Callback,
    Rerun,
    RunOptions,
    note_on_resume,
    scheduled_arguments,
)
from dotflow.engine.run import Run
from dotflow.engine.run_log import log_line_of
from dotflow.errors import (
    CheckpointMismatch,
    CheckpointUnreadable,
    HistoryError,
    InvalidArgument,
    InvalidProvider,
    NotRun,
)
from dotflow.graph.builder import TaskBuilder
from dotflow.graph.linked_task import LinkedTask
from dotflow.graph.params import NO_PARAMS, Params, check_declared, resolve, run_id_of
from dotflow.graph.plan import make_plan, note_on_groups
from dotflow.graph.run_secrets import RunSecrets, keep_secret, mask_names, secret_params
from dotflow.resume.choice import Resume

if TYPE_CHECKING:
    from dotflow.abc.archive import Since
    from dotflow.graph.schema import WorkflowResult
    from dotflow.graph.workflow_plan import WorkflowPlan
    from dotflow.records.record import RunSummary

P = ParamSpec("P")
T = TypeVar("T")

KNOWN: Final = frozenset(START_ARGUMENTS)

#: Attributes that DotFlow does not have -> the hint.
ELSEWHERE: Final = {
    "add": "it is workflow.task.add()",
    "count": "it is workflow.task.count()",
    "execute": "it is workflow.start()",
    "run": "it is workflow.start()",
    "value": "it is workflow.last.value('task')",
    "status": "it is workflow.last.status",
    "last_run": "it is workflow.last",
}


def takes_arguments_of(function: Callable[P, Any]) -> Callable[[Callable[..., T]], Callable[P, T]]:
    """Gives a function the signature of another one, for type checkers, editors and `inspect.signature`."""

    def with_signature(decorated: Callable[..., T]) -> Callable[P, T]:
        decorated.__wrapped__ = function  # type: ignore[attr-defined]
        return decorated

    return with_signature


class DotFlow:
    """A workflow: tasks that run in order, side by side or on a schedule.

    Args:
        config: The providers; by default Config().
        workflow_id: Any non-empty string or UUID, the same in every run; by default a generated UUID.
        name: The name for readers.
        params: The run parameters with their defaults; `...` for one without a default.
        unknown: Refused with a hint.

    Attributes:
        task: The TaskBuilder: `workflow.task.add(step=...)`.
        workflow_id: The id as a string.
        is_named: Whether the id was passed. A generated id is unique, so the run needs no lock and cannot be resumed by
            another process.

    Raises:
        InvalidArgument: An empty or wrong workflow_id or name.
        InvalidProvider: config is no Config.
        UnknownArgument: There is no such argument.
    """

    def __init__(
        self,
        config: Config | None = None,
        workflow_id: str | uuid.UUID | None = None,
        name: str | None = None,
        params: Mapping[str, Any] | None = None,
        **unknown: Never,
    ) -> None:
        refuse_unknown("DotFlow", unknown, ("config", "workflow_id", "name", "params"), WORKFLOW)
        if config is not None and not isinstance(config, Config):
            instead = f"name={config!r}" if isinstance(config, str) else "config=Config(...)"
            hint = f"Write DotFlow({instead})."
            raise InvalidProvider("DotFlow(config=...)", f"of type {name_of(type(config))}", "Config", hint)
        if workflow_id is not None and (not isinstance(workflow_id, str | uuid.UUID) or not str(workflow_id)):
            raise InvalidArgument("workflow_id", workflow_id, "a non-empty string or a UUID")
        if name is not None and not isinstance(name, str):
            raise InvalidArgument("name", name, "a string")
        self.config: Config = config or Config()
        self.workflow_id: str = str(workflow_id or uuid.uuid4())
        self.is_named: bool = workflow_id is not None
        self.name = name
        self.params: Params = check_declared(params)
        self.task: TaskBuilder = TaskBuilder(self.workflow_id, name, self.params)
        self._built_with: Params = NO_PARAMS
        self._built_with_secrets: Mapping[str, SecretRef] = NO_SECRETS
        self._last: Run | None = None

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """Shows the diagram of the tasks in a notebook."""
        return {**self.task._repr_mimebundle_(), "text/plain": repr(self)}

    if not TYPE_CHECKING:  # type checkers report unknown names by themselves

        def __getattr__(self, name: str) -> NoReturn:
            raise no_attribute(self, name, ELSEWHERE)

    def start(
        self,
        mode: str | TypeExecution = TypeExecution.SEQUENTIAL,
        keep_going: bool = False,
        resume: Resume = False,
        on_success: Callback = None,
        on_failure: Callback = None,
        *,
        params: Mapping[str, Any] | None = None,
        rerun: Rerun = None,
        cache: bool = True,
        **unknown: Never,
    ) -> Run:
        """Runs the workflow. Each call is a new run, which shares nothing with the others.

        A failed step raises nothing here: see `status` and the tasks' `errors`.

        Args:
            mode: "sequential", "background" or "parallel". In the first two, two or more groups run side by side, each
                in a process of its own.
            keep_going: Whether other tasks continue after a failure.
            resume: Whether to skip tasks with a valid checkpoint: of the same step and initial_context, unless a task
                that it took a value from runs again. "changed" also runs the steps again whose code has changed.
                "unfinished" resumes only where the last run left a task unfinished, and else begins a new run.
                "then_anew" finishes such a run, and then begins a new one, which it returns.
            on_success: Called as `on_success(tasks=tasks)` at the end if no task failed.
            on_failure: Called as `on_failure(tasks=tasks)` at the end if a task failed.
            params: Values of the workflow's parameters. They name the run: with {"day": "2026-11-25"}, checkpoints,
                lock and log of `nightly` are those of `nightly@day=2026-11-25`.
            rerun: The tasks that run again, by name or step, with those that take their values. It implies a resume.
            cache: Whether cached values are used. With False, such steps run, and their values replace the cached ones.
            unknown: Refused with a hint.

        Returns:
            The run. It has ended, unless the mode is "background": then its history has it already.

        Raises:
            UnknownArgument: There is no such argument.
            InvalidArgument: An unknown mode, or a flag that is no bool.
            InvalidCallback: A callback that can't be called.
            ResourcesNotOffered: A step needs resources, and the executor offers none.
            SecretMissing: A secret that a step takes is neither in Config(secrets=...) nor in the environment.
            CheckpointMismatch: A checkpoint was saved by another step.
            CheckpointUnreadable: A checkpoint exists, but can't be read.
            WorkflowBusy: Another process is running the workflow; only with a `workflow_id`.
            StorageError: The storage can't be used.
            KeyboardInterrupt: Ctrl-C. The workers have ended, and finished tasks keep their checkpoints.
        """
        options = self._options(
            mode, keep_going, resume, on_success, on_failure, params=params, rerun=rerun, cache=cache, **unknown
        )
        if options.resume == "then_anew":
            with self._finishing():
                self.start(**options.to_finish()).wait()
            options.resume = "anew"
        background = options.mode is TypeExecution.BACKGROUND
        run = self._prepare(options, in_thread=background)
        if background:
            start_in_background(run, is_recorded=True)
        else:
            try:
                run._execute()
            except BaseException:  # an interrupt right before or after it leaves no lock behind
                run._release()
                raise
        return run

    def __call__(self, *arguments: Any, **start_arguments: Any) -> Run:
        """Runs it as `start` does, for schedulers that take a callable."""
        return self.start(*arguments, **start_arguments)

    @takes_arguments_of(start)
    async def astart(self, *arguments: Any, **options: Any) -> Run:
        """Runs the workflow without blocking the event loop. Arguments, result and errors are those of `start`.

        Cancelling the caller cancels the run.
        """
        import asyncio  # here: most workflows never need it

        chosen = self._options(*arguments, **options)
        if chosen.resume == "then_anew":
            with self._finishing():
                awaited = TypeExecution.SEQUENTIAL if chosen.mode is TypeExecution.BACKGROUND else chosen.mode
                await self.astart(**{**chosen.to_finish(), "mode": awaited})
            chosen.resume = "anew"
        clock.before_await()
        run = self._prepare(chosen, in_thread=True)
        loop = asyncio.get_running_loop()
        recorded, ended = asyncio.Event(), asyncio.Event()

        def from_thread(event: asyncio.Event) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and the caller with it
                loop.call_soon_threadsafe(event.set)

        is_background = chosen.mode is TypeExecution.BACKGROUND
        when_recorded = partial(from_thread, recorded) if is_background else None
        start_in_background(run, partial(from_thread, ended), when_recorded=when_recorded)
        try:
            if is_background:
                if self.config.history is not None:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(recorded.wait(), RECORD_PATIENCE)
                return run
            await ended.wait()
        except asyncio.CancelledError:
            run.cancel()
            await ended.wait()
            raise
        run.wait()
        return run

    def launch(self, then: Callable[[], None], *arguments: Any, **options: Any) -> Run:
        """Starts the workflow in a thread of its own, in any mode, and returns the run at once.

        Args:
            then: Called at the end of the run, in its thread. The other arguments and the errors are those of `start`.
            arguments: Arguments of `start`.
            options: Arguments of `start`.
        """
        run = self._prepare(self._options(*arguments, **options), in_thread=True)
        start_in_background(run, then)
        return run

    @contextlib.contextmanager
    def _finishing(self) -> Iterator[None]:
        """Logs why an unfinished run can't be finished, and goes on to the new run, which replaces it."""
        try:
            yield
        except NothingUnfinished:
            pass
        except (CheckpointMismatch, CheckpointUnreadable) as error:
            log_line_of(self.config.log)(f"The last run can't be finished: {error}", None)

    def check_start(self, **start_arguments: Any) -> None:
        """Raises the errors of `start` about its arguments, and runs nothing."""
        self._records(self._options(**start_arguments), None)

    def schedule(self, **start_arguments: Any) -> None:
        """Runs the workflow on its configured scheduler; blocks until SIGINT or SIGTERM.

        With `resume=True` an unfinished last run is finished, at once and at each firing. Then the firing's own run
        begins. Where the old one fails again, the log names it as given up. A run that failed before its first value
        was saved leaves nothing to finish.

        Args:
            **start_arguments: The arguments of `start`, which are checked at once.

        Raises:
            NoSchedule: No scheduler was configured.
            InvalidArgument, UnknownArgument, InvalidCallback: As in `start`.
        """
        self.check_start(**start_arguments)
        self.config.scheduler.start(self, **scheduled_arguments(start_arguments))

    def plan(
        self,
        mode: str | TypeExecution = TypeExecution.SEQUENTIAL,
        resume: Resume = False,
        *,
        params: Mapping[str, Any] | None = None,
        rerun: Rerun = None,
        cache: bool = True,
        **unknown: Never,
    ) -> "WorkflowPlan":
        """Returns what `start` with the same arguments would do, if no task fails. It runs, writes and locks nothing.

        The arguments and the errors are those of `start`. `str(plan)` is the text that `dotflow plan` prints.
        """
        from dotflow.engine.forecast import plan_run  # here: a run does not need it

        if unknown:
            refuse_unknown("plan", unknown, ("mode", "resume", "params", "rerun", "cache"), start_hints(self.params))
        options = self._options(mode, resume=resume, params=params, rerun=rerun, cache=cache)
        workflow_id, tasks, values, secrets = self._records(options, None)
        plan = make_plan(tasks, options.mode)
        config = self.config
        return plan_run(config.storage, config.cache, workflow_id, tasks, plan, values, options, secrets.masks)

    def id_of_run(self, params: Mapping[str, Any] | None = None) -> str:
        """Returns the id that a run with these parameters has. Raises UnknownParam, MissingParam or InvalidArgument."""
        values, secrets, given = self._resolve(params)
        found = self.config._find_secrets(self.task, given, are_required=False)
        return self._id_of(params, values, secrets, found.masks)

    def _id_of(self, params: Params | None, values: Params, secrets: Collection[str], masks: Masks) -> str:
        named = {**self._built_with, **values} if params or self._built_with else {}
        if not named and not self.is_named:
            return self.workflow_id
        return run_id_of(self.workflow_id, named, secrets, masks)

    def _resolve(self, params: Params | None) -> tuple[Params, Mapping[str, SecretRef], Mapping[str, str]]:
        """Returns the parameters of a run, the secrets among them, and the values that these were given."""
        values, secrets = resolve(self.params, params, self.task), self._secret_params()
        return values, secrets, self._given(secrets, values)

    def _secret_params(self) -> Mapping[str, SecretRef]:
        return {**secret_params(self.params, self.task), **self._built_with_secrets}

    def _given(self, secrets: Collection[str], values: Params) -> dict[str, str]:
        """Returns the values that the secrets among the parameters have."""
        known = {**self._built_with, **values}
        return {name: known[name] for name in secrets if isinstance(known.get(name), str) and known[name]}

    def _options(self, *arguments: Any, **named: Any) -> RunOptions:
        """Returns the arguments of `start`, checked."""
        if not named.keys() <= KNOWN:
            unknown = {name: value for name, value in named.items() if name not in KNOWN}
            refuse_unknown("start", unknown, START_ARGUMENTS, start_hints(self.params))
        return RunOptions(*arguments, **named)

    def _records(self, options: RunOptions, run_id: str | None) -> tuple[str, list[Task], Params, RunSecrets]:
        """Returns the id of a run, its records, its parameters without the secrets among them, and the secrets."""
        values, secrets, given = self._resolve(options.params)
        self.config._check_resources(self.task)
        records, params = self._new_records(self.workflow_id, run_id, values, secrets)
        found = self.config._find_secrets(records, given)
        mask_names(records, found.masks)
        workflow_id = self._id_of(options.params, values, secrets, found.masks)
        for task in records if workflow_id != self.workflow_id else ():
            task.workflow_id = workflow_id
        return workflow_id, records, params, found

    def _new_records(
        self, workflow_id: str, run_id: str | None, values: Params, secrets: Mapping[str, SecretRef]
    ) -> tuple[list[Task], Params]:
        """Returns new records, in which secrets are no arguments, and the parameters that are no secrets."""
        records: list[Task] = [task._new_record(workflow_id, run_id) for task in self.task]
        for task in records if secrets else ():
            if isinstance(task, LinkedTask):
                task.links = keep_secret(task.step, task.links, secrets, values)
        return records, {name: value for name, value in values.items() if name not in secrets}

    def _prepare(self, options: RunOptions, *, in_thread: bool) -> Run:
        run_id = str(uuid.uuid4())
        workflow_id, tasks, params, secrets = self._records(options, run_id)
        plan = make_plan(tasks, options.mode)
        config = self.config
        providers = config._run_providers(secrets, is_apart=plan.apart, in_thread=in_thread)
        name = self.name and secrets.masks.mask(self.name)
        run = Run(workflow_id, run_id, tasks, plan, providers, options, name, params, is_named=self.is_named)
        is_first = self._last is None
        note = note_on_resume(config.storage, tasks, is_named=self.is_named) if options.resume and is_first else ""
        run._prepare()
        notes = (note, note_on_groups(tasks, options.mode) if plan.apart else "", *secrets.notes) if is_first else ()
        for text in filter(None, notes):
            log_line_of(config.log)(text, None)
        self._last = run
        return run

    def set_id(self, workflow_id: str) -> None:
        """Sets the id, as DotFlow(workflow_id=...) does. Existing runs keep theirs."""
        self.workflow_id, self.is_named = workflow_id, True
        self.task.set_workflow_id(workflow_id)

    def set_built_with(self, params: Mapping[str, Any], secrets: Mapping[str, SecretRef] = NO_SECRETS) -> None:
        """Sets the arguments of the function that made it: they name its runs as the parameters of `start` do.

        *secrets* are those parameters of the function that are secrets.
        """
        self._built_with, self._built_with_secrets = params, secrets

    @property
    def last(self) -> Run:
        """The last run, from its start on. Raises NotRun before the first one."""
        if self._last is None:
            raise NotRun
        return self._last

    def result_task(self) -> list[Task]:
        """Returns the tasks of the last run, in the order of `add`; before the first run, the definitions."""
        return list(self.task if self._last is None else self._last.tasks)

    def result_context(self) -> list[Context]:
        """Returns their results as contexts; an empty one for a task without a result."""
        return [task.current_context for task in self.result_task()]

    def result_storage(self) -> list[Any]:
        """Returns their results; None for a task without a result."""
        return [task.current_context.storage for task in self.result_task()]

    def result(self) -> "WorkflowResult":
        """Returns the last run as a Pydantic model, whose JSON never fails. Before the first run, `run_id` is None."""
        from dotflow.graph.schema import WorkflowResult

        run = self._last
        if run is None:
            return WorkflowResult.of(self.workflow_id, None, self.name, TypeStatus.NOT_STARTED, self.result_task())
        return WorkflowResult.of(run.workflow_id, run.run_id, run._name, run.status, run.tasks)

    def runs(
        self, state: str | Sequence[str] | None = None, since: "Since | None" = None, limit: int | None = 50
    ) -> "list[RunSummary]":
        """Returns the runs of this workflow, with any parameters, the newest first. It needs a `workflow_id`.

        Args:
            state: Only runs in this state, such as "failed", or in one of several.
            since: Only runs that began since this moment, or are not older than that: "2d".
            limit: The maximum number; None for all.

        Raises:
            HistoryError: There is no history, or it can't be read.
        """
        from dotflow.abc.archive import Archive  # here: a run does not need it

        history = self.config.history
        if not isinstance(history, Archive):
            reason = "it has no history that can be read. Write Config(history=HistorySQLite())"
            raise HistoryError("Can't list the runs of the workflow", reason)
        masks = self.config._find_secrets(self.task, are_required=False).masks
        return history.runs(state=state, workflow=masks.mask_id(self.workflow_id), since=since, limit=limit)

    def __repr__(self) -> str:
        return f"<workflow {self.name or self.workflow_id}: {self.task.count()} tasks>"
