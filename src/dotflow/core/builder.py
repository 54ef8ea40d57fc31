"""TaskBuilder: how a workflow is put together."""

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
    """The tasks of a workflow, in the order in which they were added."""

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
        """Adds a task for each step. Mistakes are refused here, not when it runs, and then nothing is added.

        Args:
            step: An action, a list of them, or the dotted path of one ("pkg.mod.fn" or "pkg.mod:fn").
            callback: Called as `callback(task=task)` when the task has ended; a callable or its dotted path.
            initial_context: The value that the step is given as `initial_context`.
            group_name: Tasks of one group run in order; two or more groups run side by side.
            unknown: Anything else is refused with a hint.

        Returns:
            The builder, so that calls chain.

        Raises:
            InvalidStep: The step is no action.
            InvalidPath: A dotted path leads nowhere, or its module does not import.
            UnknownParameter: The step asks for what no context can give.
            InvalidCallback: The callback can't be called.
            InvalidArgument: The group's name is no text, or empty.
            UnknownArgument: There is no such argument.
        """
        if unknown:
            refuse_unknown("add", unknown, ACCEPTED, ADD)
        if not isinstance(group_name, str) or not group_name:
            raise InvalidArgument("group_name", group_name, "a non-empty string")
        actions = as_actions(step)
        told = None if callback is None else as_callback("callback", callback, "task")
        context = None if initial_context is None else Context(initial_context)
        tasks = self._tasks
        for found in actions:
            tasks.append(Task(len(tasks), found, told, context, group_name, self._workflow_id))
        return self

    def count(self) -> int:
        """How many tasks there are."""
        return len(self._tasks)

    def clear(self) -> "TaskBuilder":
        """Takes all tasks out."""
        self._tasks.clear()
        return self

    def reverse(self) -> "TaskBuilder":
        """Turns the order round; the tasks are numbered anew."""
        self._tasks = [
            task._new_record(self._workflow_id, None, number) for number, task in enumerate(reversed(self._tasks))
        ]
        return self

    def set_workflow_id(self, workflow_id: str) -> None:
        """Makes all tasks, also those that are there, belong to the workflow of that id."""
        self._workflow_id = workflow_id
        for task in self._tasks:
            task.workflow_id = workflow_id

    def schema(self) -> "WorkflowSchema":
        """The workflow as a Pydantic model."""
        from dotflow.core.schema import WorkflowSchema

        return WorkflowSchema.of(self._workflow_id, self._name, self._tasks)

    def __iter__(self) -> Iterator[Task]:
        return iter(tuple(self._tasks))

    def __len__(self) -> int:
        return len(self._tasks)
