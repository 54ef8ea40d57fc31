"""Approvals: asks the questions of a run's tasks in its history, and looks for the answers."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from dotflow.abc.operations import Operations
from dotflow.codec.json import decode
from dotflow.core.approval import Answer, Approval, Question, QuestionId, late, question_text, rejection
from dotflow.core.masks import Masks
from dotflow.core.task import Task
from dotflow.errors import HistoryError
from dotflow.graph.linked_task import Item
from dotflow.graph.maps import BY_INDEX
from dotflow.records.preview import MAX_PREVIEW, preview
from dotflow.resume.checkpoint import Checkpoints
from dotflow.resume.tokens import digest_of


class Approvals:
    """The approvals that the tasks of one run wait for.

    Args:
        queue: Where the questions and their answers are.
        checkpoints: Those of the run, which know what tells its questions apart, and what they are about.
        masks: The secrets, which no question shows.
        option: The value of --history for the commands that answer.
    """

    def __init__(self, queue: Operations, checkpoints: Checkpoints, masks: Masks, option: str | None) -> None:
        self._queue = queue
        self._checkpoints = checkpoints
        self._masks = masks
        self._option = option

    def ask(self, task: Task, arguments: Mapping[str, Any]) -> Answer:
        """Returns the answer to the question of a task, which it asks if it is new.

        Raises:
            HistoryError: The history can't be read or written.
        """
        step = task.step
        assert step.approve is not None
        asked, about = self._checkpoints.ids.question_of(task), self._checkpoints.ids.question_about(task, arguments)
        text = self._masks.mask(question_text(step.approve, task.name, arguments, self._shown))
        if about and asked.key.startswith(BY_INDEX):  # another list may have another value there
            about = digest_of([about, text])
        question = self._queue.ask(asked, text, about, step.approve_within, task.item)
        if question.is_yes is None:
            if question.until is None or not question.is_late(self._queue.now()):
                return Answer(open=question._replace(history=self._option))
            return Answer(refusal=late((question.until - question.asked).total_seconds()))
        if not question.is_yes:
            return Answer(refusal=rejection(question.by, question.comment))
        return Answer(approval_of(question))

    def note_sent(self, question: Question) -> None:
        """Notes that the notifier has taken the message with a question.

        Raises:
            HistoryError: The history can't be written.
        """
        self._queue.note_sent(question)

    def place(self, task: Task, items: Sequence[Item]) -> None:
        """Notes where the items of a task stand, some of which may have asked in an earlier run.

        Raises:
            HistoryError: The history can't be read or written.
        """
        asked = self._checkpoints.ids.question_of(task)
        self._queue.place(asked.origin, asked.task, {item.key_suffix: item.item for item in items})

    def answered(self, origin: str) -> Collection[QuestionId]:
        """Returns the questions of a chain that have an answer by now, or whose time is up."""
        try:
            return self._queue.answered(origin)
        except HistoryError:  # the end of the run looks once more
            return ()

    def settle(self, run_id: str, asked: Sequence[Question], log_line: Callable[..., None]) -> None:
        """Has a run continued that has ended while one of its questions was answered. It was in no queue."""
        try:
            self._queue.settle(run_id, [question.id for question in asked])
        except HistoryError as error:
            log_line(f"Whether an answer came at the end of the run can't be read: {error}", None)

    def _shown(self, value: Any) -> str:
        """Returns a text of one line as it is, and of other values what shows them."""
        is_plain = type(value) is str and len(value) <= MAX_PREVIEW and value.isprintable()
        return value if is_plain else preview(value, self._masks)


def approval_of(question: Question) -> Approval:
    """Returns the yes to a question."""
    assert question.at is not None
    value = None if question.value is None else decode(question.value)
    return Approval(value, question.by, question.at, question.comment)
