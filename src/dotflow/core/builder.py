"""TaskBuilder: builds the tasks of a workflow."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, Never

from dotflow.core.action import Action
from dotflow.core.callback import TaskCallback
from dotflow.core.context import Context
from dotflow.core.hints import ADD, refuse_unknown
from dotflow.core.steps import as_actions, as_callback
from dotflow.core.task import Task
from dotflow.errors import InvalidArgument

if TYPE_CHECKING:
    from dotflow.core.schema import WorkflowSchema

# type[Any]: a decorated class is the class itself.
Step = Action[..., Any] | type[Any] | str | list["Step"] | tuple["Step", ...]


ACCEPTED: Final = ("step", "callback", "initial_context", "group_name")


class TaskBuilder:
    """The tasks of a workflow, in the order of `add`."""

    def __init__(self, workflow_id: str, name: str | None = None) -> None:
        self._workflow_id = workflow_id
        self._name = name
        self._tasks: list[Task] = []

    def add(
        self,
        step: Step,
        callback: TaskCallback | str | None = None,
        initial_context: Any = None,
        group_name: str = "default",
        **unknown: Never,
    ) -> "TaskBuilder":
        """Adds a task for each step, or raises an error and adds none.

        Args:
            step: An action, a list of actions, or the dotted path of one ("pkg.mod.fn" or "pkg.mod:fn").
            callback: Called as `callback(task=task)` at the end of the task; a callable or its dotted path.
            initial_context: The value of the step's `initial_context`.
            group_name: The group. Its tasks run in order; two or more groups run side by side.
            unknown: Refused with a hint.

        Returns:
            The builder, so that calls chain.

        Raises:
            InvalidStep: The step is no action.
            InvalidPath: A dotted path leads nowhere, or its module does not import.
            UnknownParameter: The step has a parameter that no context fills.
            InvalidCallback: The callback can't be called.
            InvalidArgument: The group's name is no string, or empty.
            UnknownArgument: There is no such argument.
        """
        if unknown:
            refuse_unknown("add", unknown, ACCEPTED, ADD)
        if not isinstance(group_name, str) or not group_name:
            raise InvalidArgument("group_name", group_name, "a non-empty string")
        actions = as_actions(step)
        function = None if callback is None else as_callback("callback", callback, "task")
        context = None if initial_context is None else Context(initial_context)
        tasks = self._tasks
        for action in actions:
            tasks.append(Task(len(tasks), action, function, context, group_name, self._workflow_id))
        return self

    def count(self) -> int:
        """Returns the number of tasks."""
        return len(self._tasks)

    def clear(self) -> "TaskBuilder":
        """Removes all tasks."""
        self._tasks.clear()
        return self

    def reverse(self) -> "TaskBuilder":
        """Reverses the order, and numbers the tasks again."""
        self._tasks = [
            task._new_record(self._workflow_id, None, number) for number, task in enumerate(reversed(self._tasks))
        ]
        return self

    def set_workflow_id(self, workflow_id: str) -> None:
        """Sets the workflow's id in all tasks, existing and future ones."""
        self._workflow_id = workflow_id
        for task in self._tasks:
            task.workflow_id = workflow_id

    def schema(self) -> "WorkflowSchema":
        """Returns the workflow as a Pydantic model."""
        from dotflow.core.schema import WorkflowSchema

        return WorkflowSchema.of(self._workflow_id, self._name, self._tasks)

    def __iter__(self) -> Iterator[Task]:
        return iter(tuple(self._tasks))

    def __len__(self) -> int:
        return len(self._tasks)
