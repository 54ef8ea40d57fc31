"""TaskBuilder: builds the tasks of a workflow."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, Never, Protocol

from dotflow.core.action import Action, AnyAction, check_members, parts_of
from dotflow.core.callback import TaskCallback
from dotflow.core.context import Context
from dotflow.core.hints import ADD, READ_BUILDER, no_attribute, refuse_unknown
from dotflow.core.links import Links
from dotflow.core.secret import check_no_secret
from dotflow.core.steps import as_actions, as_callback
from dotflow.core.task import Callback, Task, TaskDefinition
from dotflow.errors import InvalidArgument, InvalidLink
from dotflow.graph.linked_task import LinkedTask
from dotflow.graph.linking import LinkOptions, check_options, copy_tasks, make_links, make_loop
from dotflow.graph.names import Scope, TaskRef
from dotflow.graph.params import NO_PARAMS, Params

if TYPE_CHECKING:
    from dotflow.graph.schema import WorkflowSchema

# type[Any]: a decorated class is the class itself.
Step = AnyAction | type[Any] | str | list["Step"] | tuple["Step", ...]

Needs = Mapping[str, TaskRef] | Sequence[TaskRef | Mapping[str, TaskRef]] | TaskRef
After = Sequence[TaskRef] | TaskRef
EachOf = TaskRef | Sequence[Any] | Mapping[str, TaskRef | Sequence[Any]]
Cross = Mapping[str, TaskRef | Sequence[Any]]
#: The exceptions that a fallback is for.
Errors = type[BaseException] | tuple[type[BaseException], ...]
When = TaskRef | Sequence[TaskRef] | Mapping[str, Any]


class HasTasks(Protocol):
    """Another workflow, whose tasks are added."""

    @property
    def task(self) -> "TaskBuilder":
        """Its tasks."""


#: Options that a list of steps can't have -> what they do.
FOR_ONE: Final = {
    "name": "names one task",
    "outputs": "names the parts of one task's value",
    "repeat": "repeats one step or another workflow",
}

ACCEPTED: Final = ("step", "callback", "initial_context", "group_name", *LinkOptions._fields)


class TaskBuilder:
    """The tasks of a workflow, in the order of `add`."""

    def __init__(self, workflow_id: str, name: str | None = None, params: Params = NO_PARAMS) -> None:
        self._workflow_id = workflow_id
        self._name = name
        self._params = params
        self._tasks: list[Task] = []
        self._scope = Scope(self._tasks, params)
        self._has_names = bool(params)  # run parameters or outputs, which a task may be called like

    def add(
        self,
        step: "Step | TaskBuilder | HasTasks",
        callback: TaskCallback | str | None = None,
        initial_context: Any = None,
        group_name: str = "default",
        *,
        name: str | None = None,
        needs: Needs | None = None,
        after: After | None = None,
        each: EachOf | None = None,
        cross: Cross | None = None,
        max_parallel: int | None = None,
        when: When | None = None,
        unless: When | None = None,
        fallback: Step | Mapping[Errors, Step] | None = None,
        always: bool = False,
        keep_going: bool | float | None = None,
        params: Mapping[str, Any] | None = None,
        outputs: Sequence[str] | None = None,
        repeat: int | None = None,
        until: Step | None = None,
        carry: str | Mapping[str, TaskRef] | None = None,
        at_limit: Literal["fail", "go on"] | None = None,
        **unknown: Never,
    ) -> "TaskBuilder":
        """Adds a task for each step, or raises an error and adds none.

        A parameter of the step with the name of an earlier task receives that task's value, `<task>_context` its
        Context, and one with the name of a run parameter that parameter. The options below take a task's name or step.

        Args:
            step: An action, a list of actions, or the dotted path of one ("pkg.mod.fn" or "pkg.mod:fn"). The `task` of
                another workflow adds a copy of its tasks, named `<name>.<task>`.
            callback: Called as `callback(task=task)` at the end of the task; a callable or its dotted path.
            initial_context: The value of the step's `initial_context`.
            group_name: The group. Its tasks run in order; two or more groups run side by side.
            name: The task's name: a letter, then letters, digits and `_`. By default the last part of the step's name.
            needs: `{"parameter": task}` fills a parameter with a task's value. `[task, ...]` takes no value: if one of
                these does not complete, the task is skipped. A cleanup only waits for them. A list may have both:
                `[task, {"parameter": task}]`.
            after: Tasks that must be over, whatever became of them. The name of an added workflow means all of its
                tasks, here and in `needs=[...]`.
            each: The list whose items the step runs for, side by side in mode="parallel": a task that returns a list,
                the name of a run parameter, a list itself, or `{"parameter": list, ...}` for several lists in step.
                Another workflow runs as a whole for each item, which fills its one open run parameter.
            cross: `{"parameter": list, ...}`: the step runs for every combination of their entries, the last list
                changing fastest. A mapped task gives the values that came, once all of its items are over.
            max_parallel: The number of items in flight at once; by default 10,000. Of a workflow for each item, those
                that have begun and are not over.
            when: The task runs only if this task's value is true, or, with `{"task": value}`, equal. Of several, all.
                A mapped task in step with this one decides for each item.
            unless: The task runs only if none of these conditions holds.
            fallback: The step of further attempts after the last one failed, by its own policy; or one for each
                exception, `{ZeroDivisionError: recover, (KeyError, IndexError): skip}`, whose nearest base counts. A
                `Rejected`, `ApprovalExpired` or `BudgetExceeded` has only one that names it.
            always: Whether the task is a cleanup. It runs after the tasks before it however they ended, even in a
                stopped run, but only if its required parameters have values.
            keep_going: Whether other tasks continue after a failure of this one, and items after that of another item;
                None for the `keep_going` of the run. Of a map also the share of its items that must complete, such as
                0.95, or how many may fail, such as 3: within it the map completes with the values that came, and
                beyond it no further item begins, and it fails.
            params: Values of parameters of the step and of its fallbacks, or of the run parameters of another workflow:
                `{"depth": 3}`. They win over names.
            outputs: Names of the parts of the value: `["train", "test"]` of a dict by its keys, of a NamedTuple or a
                dataclass by its fields, of a tuple or list by position. Later tasks take a part by its name.
            repeat: The number of rounds at most, from 1 to 10,000: the step, or another workflow as a whole, runs again
                until it is good. Its value is the last round's.
            until: The task of another workflow whose value ends the rounds when it is true; for a step another one,
                which takes its value. Not true after the last round, the task fails. Without it, there are as many
                rounds as `repeat`.
            carry: The parameter that gets the last round's value from the second round on, or `{"parameter": task}` for
                values of its tasks and outputs. By default the only name in `needs={...}` and `params`, else the
                only parameter that is called like a task; `{}` carries nothing.
            at_limit: What follows if `until` was not true after the last round: "fail", or "go on" with the value of
                that round. By default "fail".
            unknown: Refused with a hint.

        Returns:
            The builder, so that calls chain.

        Raises:
            InvalidStep: The step is no action.
            InvalidPath: A dotted path leads nowhere, or its module does not import.
            UnknownParameter: The step has a parameter that nothing fills.
            UnknownTask: No earlier task has such a name or step.
            AmbiguousTask: Several tasks have it.
            InvalidLink: The options exclude each other, or a value does not fit its parameter.
            InvalidCallback: The callback can't be called.
            InvalidArgument: The name of the group or the task is invalid.
            UnknownArgument: There is no such argument.
        """
        if unknown:
            refuse_unknown("add", unknown, ACCEPTED, ADD)
        if not isinstance(group_name, str) or not group_name:
            raise InvalidArgument("group_name", group_name, "a non-empty string")
        function = None if callback is None else as_callback("callback", callback, "task")
        if initial_context is None:
            context = None
        else:
            check_no_secret("initial_context", initial_context)
            context = Context(initial_context)
        count = len(self._tasks)
        is_plain = (
            name is needs is after is each is cross is max_parallel is when is unless is fallback is keep_going is None  # type: ignore[comparison-overlap]
        )
        is_plain = is_plain and params is outputs is repeat is until is carry is at_limit is None  # type: ignore[comparison-overlap]
        is_plain = is_plain and not always and not self._has_names
        if is_plain and step.__class__ is Action and not _has_links(step):
            # The most frequent case.
            self._tasks.append(TaskDefinition(count, step, function, context, group_name, self._workflow_id))
            return self
        options = LinkOptions(
            name,
            needs,
            after,
            each,
            cross,
            max_parallel,
            when,
            unless,
            fallback,
            always,
            keep_going,
            params,
            outputs,
            repeat,
            until,
            carry,
            at_limit,
        )
        try:
            self._add_linked(step, function, context, group_name, options)
        except BaseException:  # a list is added whole or not at all
            del self._tasks[count:]
            self._scope = Scope(self._tasks, self._params)
            raise
        return self

    def _add_linked(
        self,
        step: Any,
        callback: Callback,
        context: Context | None,
        group_name: str,
        options: LinkOptions,
    ) -> None:
        """Adds tasks one by one, since a step of a list may name the one before it."""
        scope = self._scope
        scope.update()
        check_options(options, scope)
        other = None if isinstance(step, Action) else getattr(step, "task", step)
        if isinstance(other, TaskBuilder):
            if callback is not None or context is not None:
                raise InvalidLink("callback and initial_context are for one task, and this adds another workflow's.")
            for task, links, group in copy_tasks(tuple(other), other._params, options, scope, group_name):
                self._append(task.step, links, task.callback, task._initial, group)
            return
        actions = as_actions(step)
        for option, does in FOR_ONE.items() if len(actions) > 1 else ():
            if getattr(options, option) is not None:
                raise InvalidLink(f"{option}=... {does}, and this adds several tasks.")
        if options.repeat is not None:
            for action, loop in make_loop(actions[0], options, scope):
                self._append(action, loop, callback if action is actions[0] else None, context, group_name)
            return
        for action in actions:
            name = action.short_name
            like = "run parameter" if name in self._params else "output" if scope.part(name) else ""
            if like and options.name is None:
                raise InvalidLink(f"Step '{name}' is called like the {like} '{name}'. Pass name=... to name its task.")
            if isinstance(action.function, type):
                check_members(action.function)
            own = None
            if options.are_used() or _has_links(action):
                scope.update()
                own = make_links(action, options, scope)
            self._append(action, own, callback, context, group_name)

    def _append(
        self,
        step: AnyAction,
        links: Links | None,
        callback: Callback,
        context: Context | None,
        group_name: str,
    ) -> None:
        fields = (len(self._tasks), step, callback, context, group_name, self._workflow_id)
        self._tasks.append(TaskDefinition(*fields) if links is None else LinkedTask(*fields, links=links))
        self._has_names = self._has_names or (links is not None and bool(links.outputs))

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Never:
            raise no_attribute(self, name, READ_BUILDER)

    def count(self) -> int:
        """Returns the number of tasks."""
        return len(self._tasks)

    def clear(self) -> "TaskBuilder":
        """Removes all tasks."""
        self._tasks.clear()
        self._scope = Scope(self._tasks, self._params)
        return self

    def reverse(self) -> "TaskBuilder":
        """Reverses the order, and numbers the tasks again. Raises InvalidLink if a task needs earlier ones."""
        for task in self._tasks:
            if task.links is not None and (task.links.sources() or task.links.always):
                raise InvalidLink(f"Can't reverse the tasks: task {task.task_id} {task.name} needs earlier ones.")
        self._tasks = [
            task._new_record(self._workflow_id, None, number) for number, task in enumerate(reversed(self._tasks))
        ]
        self._scope = Scope(self._tasks, self._params)
        return self

    def set_workflow_id(self, workflow_id: str) -> None:
        """Sets the workflow's id in all tasks, existing and future ones."""
        self._workflow_id = workflow_id
        for task in self._tasks:
            task.workflow_id = workflow_id

    def schema(self) -> "WorkflowSchema":
        """Returns the workflow as a Pydantic model."""
        from dotflow.graph.schema import WorkflowSchema

        return WorkflowSchema.of(self._workflow_id, self._name, self._tasks)

    def graph(self, format: str = "mermaid") -> str:
        """Returns a diagram of the tasks as text.

        Solid arrows are values, with a circle those that may be missing, and thick ones items. Dashed arrows are
        conditions and order; those of `after` have its name. Slanted boxes are run parameters. Groups and added
        workflows are boxes around their tasks.

        Args:
            format: "mermaid", which GitHub and many editors draw, or "dot", for Graphviz.

        Raises:
            InvalidArgument: There is no such format.
        """
        from dotflow.graph.drawing import draw

        return draw(self._tasks, format)

    def __iter__(self) -> Iterator[Task]:
        return iter(tuple(self._tasks))

    def __len__(self) -> int:
        return len(self._tasks)


def _has_links(action: AnyAction) -> bool:
    """Returns whether a task of the action has links without any option of `add`."""
    if action.named_params or action.takes_key or not action.is_ordinary:
        return True
    return isinstance(action.function, type) and any(part.secrets or part.takes_key for part in parts_of(action))
