"""StepIds: what tells the steps of a chain of runs apart: idempotency keys, and questions."""

from collections.abc import Mapping, Sequence
from typing import Final

from dotflow.core.approval import INDEX, QuestionId
from dotflow.core.files import FileWatch
from dotflow.core.task import Task
from dotflow.graph.linked_task import Item
from dotflow.resume.journal import Journal
from dotflow.resume.tokens import Tokens, digest_of
from dotflow.worker.files import find_paths, state_of

QUESTION: Final = "?"  # before the name of a task, where its questions are counted, and not its values


class StepIds:
    """What tells the tasks and items of a chain apart, whichever run of it makes them. Their sources have ended.

    Args:
        journal: How often they were voided.
        tasks: The run's tasks.
        tokens: What their values depend on.
        watch: What is known of files; None for nothing.
    """

    def __init__(self, journal: Journal, tasks: Sequence[Task], tokens: Tokens, watch: FileWatch | None) -> None:
        self._journal = journal
        self._tasks = tasks
        self._tokens = tokens
        self._watch = watch

    def key_base(self, task: Task) -> str:
        """Returns what the idempotency keys of a task or an item are made from.

        It stays the same over attempts and runs until the task finishes and is voided, or takes other arguments.
        """
        return self._journal.key_base(self.names_of(task), self._tokens.inputs_of(task))

    def question_of(self, task: Task) -> QuestionId:
        """Returns what tells the question of a task or an item apart.

        It stays the same over attempts and runs until the task is voided, or runs again by `rerun`.
        """
        journal, whole = self._journal, self._tasks[task.task_id]
        nth = sum(journal.voided(f"{QUESTION}{name}") for name in self.names_of(task))
        is_unique = sum(other.name == whole.name for other in self._tasks) == 1
        name = whole.name if is_unique else f"{whole.name}.{task.task_id}"
        nest = None if whole.links is None else whole.links.nest
        if nest is not None:
            name = f"{nest.name}{INDEX}{name.removeprefix(nest.name)}"
        return QuestionId(journal.origin, name, task.key_suffix if isinstance(task, Item) and nest else "", nth)

    def question_of_call(self, task: Task, call: str, nth: int) -> QuestionId:
        """Returns what tells the question of a call of a durable step apart, by the key of the call."""
        whole = self._tasks[task.task_id]
        name, key = self.question_of(whole).task, ""
        if isinstance(task, Item):
            key = task.key_suffix
            name = name if INDEX in name else f"{name}{INDEX}"
        return QuestionId(self._journal.origin, name, key, nth, call)

    def question_about(self, task: Task, shown: Mapping[str, object]) -> str:
        """Returns a digest of what the question of a task or an item is about.

        The contents of the files that the arguments name are a part of it. Without these, it is "" where the storage
        does not keep what a value was made from.
        """
        about = self._tokens.question_of(task) if self._journal.keeps_inputs else ""
        paths = find_paths(dict(shown)) if self._watch is not None and task.step.files else ()
        if not paths or self._watch is None:
            return about
        states = {str(path): state_of(path, self._watch.limit) for path in paths}
        # Above the limit there is no digest.
        files = {path: state and [state.size, state.digest or state.mtime] for path, state in states.items()}
        return digest_of([about, [[path, files[path]] for path in sorted(files)]])

    def names_of(self, task: Task) -> list[str]:
        """Returns the name of the task in its keys and, for an item, its own."""
        name = self._tasks[task.task_id].key_name
        return [name, f"{name}-{task.key_suffix}"] if isinstance(task, Item) else [name]
