"""DotFlow: a workflow, from its tasks to its results."""

import contextlib
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Never, NoReturn, ParamSpec, TypeVar

from dotflow import clock
from dotflow.abc.operations import Declared, Operations, Submission
from dotflow.abc.workflow import Superseded
from dotflow.config import Config
from dotflow.core.context import Context
from dotflow.core.durations import Duration
from dotflow.core.failure import name_of
from dotflow.core.hints import READ_WORKFLOW, WORKFLOW, no_attribute, refuse_unknown, start_hints
from dotflow.core.masks import Masks
from dotflow.core.outputs import take, why_unfit
from dotflow.core.secret import NO_SECRETS, SecretRef
from dotflow.core.task import Task
from dotflow.core.types.execution import TypeExecution
from dotflow.core.types.run_state import TypeRunState
from dotflow.core.types.status import TypeStatus
from dotflow.engine.background import RECORD_PATIENCE, start_in_background
from dotflow.engine.claimed import ClaimedRun, superseded_by
from dotflow.engine.options import (
    START_ARGUMENTS,
    Callback,
    Only,
    Rerun,
    RunOptions,
    note_on_resume,
    scheduled_arguments,
)
from dotflow.engine.run import Run
from dotflow.engine.run_log import log_line_of
from dotflow.errors import (
    HistoryError,
    InvalidArgument,
    InvalidProvider,
    NotInHistory,
    NotRun,
    NotServable,
    SecretChanged,
    SecretMissing,
    UnknownParam,
)
from dotflow.graph.builder import TaskBuilder
from dotflow.graph.linked_task import LinkedTask, outputs_of
from dotflow.graph.names import TaskRef, find_value
from dotflow.graph.params import (
    DIGESTS,
    NO_PARAMS,
    Params,
    check_declared,
    given_in,
    keyed_id,
    naming,
    params_in,
    resolve,
    run_id_of,
    secret_digest,
    settings_of,
)
from dotflow.graph.plan import make_plan, note_on_groups
from dotflow.graph.run_secrets import RunSecrets, keep_secret, mask_names, secret_params
from dotflow.resume.choice import Resume

if TYPE_CHECKING:
    import psycopg

    from dotflow.abc.archive import Since
    from dotflow.graph.schema import WorkflowResult
    from dotflow.graph.workflow_plan import WorkflowPlan
    from dotflow.records.record import RunSummary

P = ParamSpec("P")
T = TypeVar("T")

SUBMITTED: Final = "The run was submitted with it. Declare it again and resume the run, or submit one without it."
NOT_SERVED: Final = "No process serves it (`dotflow serve MODULE:WORKFLOW`)"


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
        params: The run parameters with their defaults; `...` for one without a default. A `Setting` names no run.
        max_runs: The maximum number of its runs at once, over all processes that serve it; None for no limit.
        unknown: Refused with a hint.

    Attributes:
        task: The TaskBuilder: `workflow.task.add(step=...)`.
        workflow_id: The id as a string.
        is_named: Whether the id was passed. A generated id is unique, so the run needs no lock and cannot be resumed by
            another process.

    Raises:
        InvalidArgument: An empty or wrong workflow_id or name, or a max_runs below 1.
        InvalidProvider: config is no Config.
        UnknownArgument: There is no such argument.
    """

    def __init__(
        self,
        config: Config | None = None,
        workflow_id: str | uuid.UUID | None = None,
        name: str | None = None,
        params: Mapping[str, Any] | None = None,
        max_runs: int | None = None,
        **unknown: Never,
    ) -> None:
        refuse_unknown("DotFlow", unknown, DotFlow, WORKFLOW)
        if config is not None and not isinstance(config, Config):
            instead = f"name={config!r}" if isinstance(config, str) else "config=Config(...)"
            hint = f"Write DotFlow({instead})."
            raise InvalidProvider("DotFlow(config=...)", f"of type {name_of(type(config))}", "Config", hint)
        if workflow_id is not None and (not isinstance(workflow_id, str | uuid.UUID) or not str(workflow_id)):
            raise InvalidArgument("workflow_id", workflow_id, "a non-empty string or a UUID")
        if name is not None and not isinstance(name, str):
            raise InvalidArgument("name", name, "a string")
        if max_runs is not None and (type(max_runs) is not int or max_runs < 1):
            raise InvalidArgument("max_runs", max_runs, "a number of runs, 1 or more, or None")
        self.config: Config = config or Config()
        self.workflow_id: str = str(workflow_id or uuid.uuid4())
        self.is_named: bool = workflow_id is not None
        self.name = name
        self.params: Params = check_declared(params)
        self.max_runs = max_runs
        self.task: TaskBuilder = TaskBuilder(self.workflow_id, name, self.params)
        self._built_with: Params = NO_PARAMS
        self._built_with_secrets: Mapping[str, SecretRef] = NO_SECRETS
        self._last: Run | None = None
        self._is_declared = False  # to the queue of its history

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """Shows the diagram of the tasks in a notebook."""
        # JupyterLab 4.1 and later draw Mermaid.
        return {"text/vnd.mermaid": self.task.graph(), "text/plain": repr(self)}

    if not TYPE_CHECKING:  # type checkers report unknown names by themselves

        def __getattr__(self, name: str) -> NoReturn:
            raise no_attribute(self, name, READ_WORKFLOW)

    def start(
        self,
        mode: str | TypeExecution = TypeExecution.SEQUENTIAL,
        keep_going: bool | float = False,
        resume: Resume = False,
        on_success: Callback = None,
        on_failure: Callback = None,
        *,
        params: Mapping[str, Any] | None = None,
        rerun: Rerun = None,
        cache: bool = True,
        timeout: Duration | None = None,
        only: Only = None,
        **unknown: Never,
    ) -> Run:
        """Runs the workflow. Each call is a new run, which shares nothing with the others.

        A failed step raises nothing here: see `status` and the tasks' `errors`.

        Args:
            mode: "sequential", "background" or "parallel". "background" is the order of "sequential" in a thread, and
                `launch` runs any mode in one. In these two, two or more groups run side by side, each in a process of
                its own.
            keep_going: Whether other tasks continue after a failure. A number says how many items of each map may fail,
                as in `add`; after any other failure the run stops.
            resume: Whether to skip tasks with a valid checkpoint: of the same step and initial_context, unless a task
                that it took a value from runs again. "changed" also runs the steps again whose code has changed.
                "unfinished" resumes only where the last run left a task unfinished, and else begins a new run.
            on_success: Called as `on_success(tasks=tasks)` at the end if no task failed.
            on_failure: Called as `on_failure(tasks=tasks)` at the end if a task failed.
            params: Values of the workflow's parameters. Those that are not their default name the run: with
                {"day": "2026-11-25"}, checkpoints, lock and log of `nightly` are those of `nightly@day=2026-11-25`.
            rerun: The tasks that run again, by name or step, with those that take their values. It implies a resume.
                "agent@12" is a durable step from its twelfth call on: those before count.
            cache: Whether cached values are used. With False, such steps run, and their values replace the cached ones.
            timeout: The maximum time of the run, in seconds or as a text such as "4h". Then it ends as by `cancel`, as
                FAILED, with the error RunTimeout. Tasks with `always=True` have all the time they take.
            only: The tasks that are asked for, by name or step; the name of an added workflow means all of its tasks.
                These run, with what they need and the cleanups of what ran. The others are skipped and keep their
                checkpoints, but for those made from a value that this run makes anew. With `resume=True` it brings
                these tasks up to date.
            unknown: Refused with a hint.

        Returns:
            The run. It has ended, unless the mode is "background": then its history has it already.

        Raises:
            UnknownArgument: There is no such argument.
            InvalidArgument: An unknown mode, a flag that is no bool, or a timeout that is no duration.
            InvalidCallback: A callback that can't be called.
            ResourcesNotOffered: A step needs resources, and the executor offers none.
            CallsNotKept: A step is durable, and the executor can't keep its calls.
            SecretMissing: A secret that a step takes is neither in Config(secrets=...) nor in the environment.
            CheckpointMismatch: A checkpoint was saved by another step.
            CheckpointUnreadable: A checkpoint exists, but can't be read.
            WorkflowBusy: Another process is running the workflow; only with a `workflow_id`.
            StorageError: The storage can't be used.
            KeyboardInterrupt: Ctrl-C. The workers have ended, and finished tasks keep their checkpoints.
        """
        options = self._options(
            mode,
            keep_going,
            resume,
            on_success,
            on_failure,
            params=params,
            rerun=rerun,
            cache=cache,
            timeout=timeout,
            only=only,
            **unknown,
        )
        background = options.mode is TypeExecution.BACKGROUND
        run = self._prepare(options, in_thread=background)
        if background:
            start_in_background(run, is_recorded=True)
        else:
            try:
                run.execute()
            except BaseException:  # an interrupt right before or after it leaves no lock behind
                run.release()
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
        clock.before_await()
        run = self._prepare(chosen, in_thread=True)
        loop = asyncio.get_running_loop()
        recorded, ended = asyncio.Event(), asyncio.Event()

        def from_thread(event: asyncio.Event) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and the caller with it
                loop.call_soon_threadsafe(event.set)

        is_background = chosen.mode is TypeExecution.BACKGROUND
        has_history = self.config.history is not None  # else it returns at once
        when_recorded = partial(from_thread, recorded) if is_background and has_history else None
        start_in_background(run, partial(from_thread, ended), when_recorded=when_recorded)
        try:
            if when_recorded is not None:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(recorded.wait(), RECORD_PATIENCE)
            if is_background:
                return run
            await ended.wait()
        except asyncio.CancelledError:
            run.cancel()
            await ended.wait()
            raise
        run.wait()
        return run

    def launch(
        self,
        then: Callable[[], object] | None = None,
        mode: str | TypeExecution = TypeExecution.SEQUENTIAL,
        **options: Any,
    ) -> Run:
        """Starts the workflow in a thread of its own, in any mode, and returns the run at once.

        A script waits for it before it ends. Ctrl-C stops it as it stops a run of `start`.

        Args:
            then: Called at the end of the run, in its thread.
            mode: How the tasks run, as in `start`. "background" is the order of "sequential", as everywhere.
            options: Arguments of `start`. The errors are those of `start`, too.

        Raises:
            InvalidArgument: `then` can't be called.
        """
        if then is not None and not callable(then):
            raise InvalidArgument("then", then, "a function without arguments, or None", "Write launch(mode=...).")
        chosen = self._options(mode, **options)
        run = self._prepare(chosen, in_thread=True)
        start_in_background(run, then or (lambda: None))
        return run

    def check_start(self, **start_arguments: Any) -> None:
        """Raises the errors of `start` about its arguments, and runs nothing."""
        self._records(self._options(**start_arguments), None)

    def check_servable(self, **start_arguments: Any) -> None:
        """Raises NotServable if other processes can't submit or run it, and the errors of `start` about arguments."""
        self._queue(f"The workflow {self.workflow_id!r} can't be served")
        self._options(**start_arguments)

    def schedule(self, **start_arguments: Any) -> None:
        """Runs the workflow on its configured scheduler; blocks until SIGINT or SIGTERM.

        With `resume=True` an unfinished run is finished before the next scheduled run of its name. Where it fails
        again, the log names it as given up. `SchedulerCron(params=...)` gives each scheduled run its own parameters.

        Args:
            **start_arguments: The arguments of `start`, which are checked at once.

        Raises:
            NoSchedule: No scheduler was configured.
            InvalidArgument, UnknownArgument, InvalidCallback: As in `start`.
        """
        if self.config.scheduler.params is None:  # else it checks them with the parameters of its first run
            self.check_start(**start_arguments)
        self.config.scheduler.start(self, **scheduled_arguments(start_arguments))

    def submit(
        self,
        params: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
        priority: int = 0,
        at: datetime | Duration | timedelta | None = None,
        replace: bool = False,
        debounce: Duration | None = None,
        within: Duration | None = None,
        connection: "psycopg.Connection[Any] | None" = None,
    ) -> str:
        """Queues a run for a process that serves the workflow, and returns its id at once.

        The run is in the history when this returns, and a power cut does not lose it. While a run of the same
        parameters is queued, its id is returned: it begins later, so it sees what this call wants.

        Args:
            params: As for `start`. They are kept with the defaults of the others: no deploy changes them.
                Secrets are not accepted: the process that runs it finds them anew.
            key: The same key returns the same run, whatever became of it. It names the run instead of the parameters.
            priority: Higher ones begin first.
            at: The moment before which it does not begin, with a time zone; or a time from now, in seconds, as a text
                such as "15m" or a timedelta.
            replace: Whether it cancels the older run of its name, that of the same parameters or key. A queued or
                paused one ends at once; after a running one it begins as soon as that has ended.
            debounce: It begins when its name has not been submitted so for this time. Until then further submissions
                return its id, and the newest parameters count.
            within: With `debounce`, it begins at the latest this time after a submission. By default there is no limit.
            connection: With HistoryPostgres, a psycopg connection to its database: the run is there when the open
                transaction of that one commits, and gone when it is rolled back. It has an id of its own, whatever
                waits in the queue. Outside of a transaction nothing is different.

        With `replace` or `debounce` the parameters of a known key may differ: it is that of the newest run then.
        Neither goes with `at` or `connection`.

        Raises:
            NotServable: The workflow has no `workflow_id`, or its history has no queue.
            OrderRefused: The key was used with other parameters.
            InvalidArgument, UnknownParam, MissingParam: As in `start`; and for a secret among the parameters.
            HistoryError: The history can't be written.
        """
        from dotflow.control import user_of
        from dotflow.engine import submission

        queue = self._queue(f"The workflow {self.workflow_id!r} can't be submitted")
        wanted = self.make_submission(params, key, priority, at)
        wanted = submission.as_newest(
            wanted,
            replace=replace,
            debounce=debounce,
            within=within,
            by=lambda: self.masks().mask(user_of()),
            at=at,
            connection=connection,
        )
        is_alone = key is not None or connection is not None or replace
        waiting = None if is_alone else queue.waiting(wanted.name or "")
        run_id = self.enqueue(queue, wanted, connection)
        pause = queue.pauses().get(wanted.workflow)
        notes = []
        if pause is not None or not queue.is_served(wanted.workflow):
            why = NOT_SERVED if pause is None else f"The workflow {wanted.workflow!r} is {pause}"
            notes.append(f"{why}: the run {run_id} of {wanted.name!r} waits in the queue.")
        if waiting is not None:
            text = f"The run {waiting[0]} of {wanted.name!r} waits for an answer to {waiting[1]!r}"
            notes.append(f"{text}. It ends when the run {run_id} begins.")
        for note in notes:
            log_line_of(self.config.log, self.masks())(note, None)
        return run_id

    def make_submission(
        self,
        params: Mapping[str, Any] | None,
        key: str | None = None,
        priority: int = 0,
        at: datetime | Duration | timedelta | None = None,
    ) -> Submission:
        """Returns what `submit` writes to the queue."""
        from dotflow.engine import submission  # here: most programs never need it

        masks = self.masks()
        submission.check_submission(key, priority, masks)
        due = submission.due_at(at)
        name, text = self._named_by(params or {}, key, masks)
        base, title = masks.mask_id(self.workflow_id), self.name and masks.mask(self.name)
        submission.check_names(base, key, name)
        return Submission(base, text, name, key, priority, due, title)

    def enqueue(self, queue: Operations, wanted: Submission, connection: object = None) -> str:
        """Queues a run, and declares the workflow before the first one, unless it is in a transaction of others."""
        if connection is not None:
            return queue.submit_within(connection, wanted)
        if not self._is_declared:
            queue.declare([self.declared()])
            self._is_declared = True
        return queue.submit(wanted)

    def _queue(self, what: str) -> Operations:
        """Returns the queue of its history. Raises NotServable."""
        from dotflow.engine import submission

        if not self.is_named:
            raise NotServable(what, submission.NO_ID)
        submission.check_id(self.workflow_id)
        if self._built_with:
            raise NotServable(what, submission.FACTORY)
        return submission.queue_of(what, self.config.history)

    def _named_by(self, params: Params, key: str | None, masks: Masks) -> tuple[str, str]:
        """Returns the name of a submission, and its parameters as text of the codec: with the defaults that name it."""
        from dotflow.engine.submission import params_text

        values, secrets, _ = self._resolve(params)
        given = {name: values[name] for name in params}
        text = params_text(given, values, masks, secrets, key, settings_of(self.params))
        name = self._id_of(values, secrets, masks) if key is None else keyed_id(self.workflow_id, key, masks)
        return name, text

    def name_submission(self, submission: Submission) -> tuple[str, str]:
        """Returns the name and the parameters of a run that was submitted where its defaults are unknown.

        Raises as `Control.submit`: a text becomes what the parameter is.
        """
        from dotflow.codec.json import decode
        from dotflow.engine.submission import check_names, named_by

        given, key = given_in(decode(submission.params)), submission.key
        masks = self.masks()
        _, text = named_by(submission.workflow, self.declared().params, given, key, masks)
        name, text = self._named_by({name: decode(text)[name] for name in given}, key, masks)
        check_names(submission.workflow, key, name)
        return name, text

    def find_secrets(self, tasks: Sequence[Task], params: Params) -> RunSecrets:
        """Returns the secrets of tasks in a run with these parameters. Raises SecretMissing or InvalidProvider."""
        return self.config.find_secrets(tasks, self._given(self._secret_params(), params))

    def masks(self) -> Masks:
        """Returns the masks for messages outside of a run."""
        return self.config.find_secrets(self.task, are_required=False).masks

    def declared(self) -> Declared:
        """Returns what others need to know to submit it."""
        from dotflow.engine import submission

        masks = self.masks()
        described = submission.describe_params(self.params, self._secret_params(), self.task, masks)
        return Declared(masks.mask_id(self.workflow_id), described)

    def value(self, run: str, step: TaskRef) -> Any:
        """Returns the value of a task of a submitted run, from the storage: `workflow.value(run_id, "summary")`.

        The name of an output returns that part of the value.
        Any run of a chain stands for the newest one, which has the values of those that it continues.

        Raises:
            NotInHistory: There is no such run, or the storage has no value of it: the task has not completed, or a
                newer run has replaced the values.
            NotServable: The workflow has no `workflow_id`, or its history has no queue.
            UnknownTask, AmbiguousTask: As in `Run.task`.
            CheckpointUnreadable, CheckpointMismatch, StorageError: As in `start`.
        """
        from dotflow.resume.journal import Journal
        from dotflow.resume.saved_values import leaves_checkpoint

        found = self._queue(f"The workflow {self.workflow_id!r} has no runs to ask for").newest(run)
        (task, part), storage = find_value(step, list(self.task)), self.config.storage
        what = f"Can't find the value of {task.name!r} of the run {run}"
        if not leaves_checkpoint(task):
            raise NotInHistory(what, "it is a cleanup" if task.is_cleanup else "its step has checkpoint=False")
        is_there, value = self._stored_map(task, found) if task.is_mapped else self._stored_value(task, found)
        # Read last: a newer run deletes it before it replaces any value.
        origin = Journal(storage, found.workflow_id).read()
        if origin and origin != found.origin and (found.has_begun or found.continues):
            raise NotInHistory(what, "a newer run has replaced its values")
        if origin != found.origin or not is_there:
            lost = f"{type(storage).__name__} does not have it"
            raise NotInHistory(what, lost if found.state is TypeRunState.COMPLETED else "it has not completed")
        return take(value, part, task.depth)

    def _stored_value(self, task: Task, run: "RunSummary") -> tuple[bool, Any]:
        """Returns whether the storage has a value of a task, and the value."""
        storage = self.config.storage
        key = storage.key(task._new_record(run.workflow_id, None))
        value, outputs = storage.get(key).storage, outputs_of(task)
        is_there = value is not None or storage.contains(key)
        return is_there and not (outputs and why_unfit(value, outputs)), value

    def _stored_map(self, task: Task, run: "RunSummary") -> tuple[bool, Any]:
        """Returns whether the storage has the values of all items of a map, and their list."""
        from dotflow.codec.json import decode
        from dotflow.resume.stored_inputs import find_stored
        from dotflow.resume.tokens import Tokens

        values, secrets, _ = self._resolve(params_in(decode(run.params_text or "{}")))
        records, params = self.new_records(run.workflow_id, None, values, secrets)
        plan = make_plan(records, TypeExecution(run.mode or TypeExecution.SEQUENTIAL))
        find_stored(self.config.storage, Tokens(records, plan.previous, params))
        record = records[task.task_id]
        return record.status is TypeStatus.COMPLETED, record.value

    def plan(
        self,
        mode: str | TypeExecution = TypeExecution.SEQUENTIAL,
        resume: Resume = False,
        *,
        params: Mapping[str, Any] | None = None,
        rerun: Rerun = None,
        cache: bool = True,
        only: Only = None,
        **unknown: Never,
    ) -> "WorkflowPlan":
        """Returns what `start` with the same arguments would do, if no task fails. It runs, writes and locks nothing.

        The arguments and the errors are those of `start`. `str(plan)` is the text that `dotflow plan` prints.
        """
        from dotflow.engine.forecast import plan_run  # here: a run does not need it

        if unknown:
            refuse_unknown("plan", unknown, self.plan, start_hints(self.params))
        options = self._options(mode, resume=resume, params=params, rerun=rerun, cache=cache, only=only)
        workflow_id, tasks, values, secrets = self._records(options, None)
        plan = make_plan(tasks, options.mode)
        providers = self.config.run_providers(secrets, is_apart=False, in_thread=False)  # no executor is used
        return plan_run(providers, workflow_id, tasks, plan, values, options)

    def id_of_run(self, params: Mapping[str, Any] | None = None) -> str:
        """Returns the id that a run with these parameters has. Raises UnknownParam, MissingParam or InvalidArgument."""
        values, secrets, given = self._resolve(params)
        found = self.config.find_secrets(self.task, given, are_required=False)
        return self._id_of(values, secrets, found.masks)

    def _id_of(self, values: Params, secrets: Collection[str], masks: Masks) -> str:
        named = {**self._built_with, **naming(self.params, values)}
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
        if unknown := {name: value for name, value in named.items() if name not in START_ARGUMENTS}:
            refuse_unknown("start", unknown, START_ARGUMENTS, start_hints(self.params))
        return RunOptions(*arguments, **named)

    def _records(
        self, options: RunOptions, run_id: str | None, workflow_id: str | None = None
    ) -> tuple[str, list[Task], Params, RunSecrets]:
        """Returns the id of a run, its records, its parameters without the secrets among them, and the secrets."""
        values, secrets, given = self._resolve(options.params)
        self.config.check_steps(self.task)
        self.config.check_calls(self.task)
        records, params = self.new_records(self.workflow_id, run_id, values, secrets)
        found = self.config.find_secrets(records, given)
        mask_names(records, found.masks)
        workflow_id = workflow_id or self._id_of(values, secrets, found.masks)
        for task in records if workflow_id != self.workflow_id else ():
            task.workflow_id = workflow_id
        return workflow_id, records, params, found

    def new_records(
        self, workflow_id: str, run_id: str | None, values: Params, secrets: Mapping[str, SecretRef] | None = None
    ) -> tuple[list[Task], Params]:
        """Returns new records, in which secrets are no arguments, and the parameters that are no secrets."""
        secrets = self._secret_params() if secrets is None else secrets
        records: list[Task] = [task._new_record(workflow_id, run_id) for task in self.task]
        for task in records if secrets else ():
            if isinstance(task, LinkedTask):
                task.links = keep_secret(task.step, task.links, secrets, values)
        shown = {name: value for name, value in values.items() if name not in secrets}
        return records, MappingProxyType(shown)  # a step that takes `params` can't change those of others

    def launch_claimed(
        self, claimed: ClaimedRun, begin: Callable[[Run], None], then: Callable[[], None], **options: Any
    ) -> Run:
        """Starts a run that was taken from a queue, as `launch` does; its steps run in processes by default."""
        claim = claimed.claim
        from dotflow.codec.json import decode  # here: most programs never need it

        stored = decode(claim.params)
        params = {**params_in(stored), **self._same_secrets(stored.get(DIGESTS, {}))}
        chosen = self._options(**options, params=params, rerun=list(claim.rerun))
        try:
            run = self._prepare(chosen, in_thread=True, claimed=claimed)
        except UnknownParam as error:  # an earlier version of the code declared it
            raise UnknownParam(error.name, hint=SUBMITTED) from None
        begin(run)
        start_in_background(run, then)
        return run

    def _same_secrets(self, digests: Mapping[str, str]) -> dict[str, str]:
        """Returns the secrets that a run was given as parameters, as this process finds them.

        Raises:
            SecretMissing: One of them is not there.
            SecretChanged: One of them has another value.
        """
        found, secrets = {}, self._secret_params()
        for name, digest in digests.items():
            if name not in secrets:
                raise UnknownParam(name, hint=SUBMITTED)
            value = self.config.find_secret(secrets[name])
            if value is None:
                raise SecretMissing((("", name, secrets[name].name),))
            if secret_digest(self.workflow_id, name, value) != digest:
                raise SecretChanged(name, secrets[name].name)
            if name in self.params:
                found[name] = value
        return found

    def _prepare_continued(self, options: RunOptions, *, in_thread: bool) -> Run | None:
        """Prepares the queued run of this name that continues another one, for a resume here; None if there is none."""
        name, taken = self.id_of_run(options.params), None
        with contextlib.suppress(HistoryError, NotServable):
            queue = None if self.config.history is None or not self.is_named else self.config.history.operations()
            taken = None if queue is None else queue.take_continuation(name)
        if taken is None:
            return None
        claimed = ClaimedRun(*taken, is_alone=True)
        try:
            rerun = (*options.rerun, *claimed.claim.rerun)
            return self._prepare(replace(options, rerun=rerun), in_thread=in_thread, claimed=claimed)
        except Superseded as error:
            claimed.end_alone(superseded_by(error), log_line_of(self.config.log))
        except HistoryError:  # which never reaches a run by hand
            claimed.give_up()
        except BaseException:  # Ctrl-C too
            claimed.give_up()
            raise
        return None

    def _prepare(self, options: RunOptions, *, in_thread: bool, claimed: ClaimedRun | None = None) -> Run:
        if claimed is None and options.resume and options.only is None:
            continued = self._prepare_continued(options, in_thread=in_thread)
            if continued is not None:
                return continued
        run_id = str(uuid.uuid4()) if claimed is None else claimed.claim.run_id
        workflow_id = None if claimed is None else claimed.claim.name  # it may have a key
        workflow_id, tasks, params, secrets = self._records(options, run_id, workflow_id)
        plan = make_plan(tasks, options.mode)
        config = self.config
        is_apart = plan.apart or (claimed is not None and not claimed.is_alone)
        providers = config.run_providers(secrets, is_apart=is_apart, in_thread=in_thread)
        name = self.name and secrets.masks.mask(self.name)
        base = secrets.masks.mask_id(self.workflow_id) if self.is_named else ""
        run = Run(
            workflow_id,
            run_id,
            tasks,
            plan,
            providers,
            options,
            name,
            params,
            is_named=self.is_named,
            workflow=base,
            claimed=claimed,
            digests=secrets.digests(self.workflow_id) if self.is_named and config.history is not None else {},
        )
        is_first = self._last is None
        note = note_on_resume(config.storage, tasks, is_named=self.is_named) if options.resume and is_first else ""
        run.prepare()
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
        return WorkflowResult.of(run.workflow_id, run.run_id, run.name, run.status, run.tasks)

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
        masks = self.masks()
        return history.runs(state=state, workflow=masks.mask_id(self.workflow_id), since=since, limit=limit)

    def __repr__(self) -> str:
        return f"<workflow {self.name or self.workflow_id}: {self.task.count()} tasks>"
