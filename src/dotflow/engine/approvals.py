"""Approvals: asks the questions of a run's tasks in its history, and looks for the answers."""

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from typing import Any

from dotflow.abc.operations import Operations
from dotflow.codec.json import decode
from dotflow.core.approval import Answer, Approval, Question, QuestionId, late, question_text, rejection
from dotflow.core.calls import CallRequest
from dotflow.core.masks import Masks
from dotflow.core.task import Task
from dotflow.errors import HistoryError, NotServable
from dotflow.graph.linked_task import Item
from dotflow.graph.maps import BY_INDEX
from dotflow.records.preview import MAX_PREVIEW, preview
from dotflow.resume.checkpoint import Checkpoints
from dotflow.resume.tokens import digest_of


class Approvals:
    """The approvals that the tasks of one run wait for, and the questions of its durable steps.

    Args:
        queue: Returns where the questions and their answers are. Raises NotServable where nothing can keep these.
        checkpoints: Those of the run, which know what tells its questions apart, and what they are about.
        masks: The secrets, which no question shows.
        option: The value of --history for the commands that answer.
    """

    def __init__(
        self, queue: Callable[[], Operations], checkpoints: Checkpoints, masks: Masks, option: str | None
    ) -> None:
        self._find_queue = queue
        self._checkpoints = checkpoints
        self._masks = masks
        self._option = option
        self._asking: set[tuple[int, int | None]] = set()  # what has durable steps that have asked

    @cached_property
    def _queue(self) -> Operations:
        return self._find_queue()

    def check(self) -> None:
        """Raises NotServable where nothing can keep the answers."""
        assert self._queue is not None

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
        answer = self._answer_to(self._queue.ask(asked, text, about, step.approve_within, task.item))
        given = answer.approval
        if given is None or given.is_approved:
            return answer
        return Answer(refusal=rejection(given.by, given.comment) if given.by else given.comment, is_late=not given.by)

    def ask_call(self, task: Task, request: CallRequest, nth: int) -> Answer:
        """Returns the answer to the question of a call of a durable step, yes or no. The call asks it if it is new.

        Args:
            task: The task or the item.
            request: The call.
            nth: How often it was voided.

        Raises:
            NotServable: Nothing can keep the answers.
            HistoryError: The history can't be read or written.
        """
        asking = request.value
        self._asking.add((task.task_id, task.item))
        asked = self._checkpoints.ids.question_of_call(task, request.key, nth)
        text = self._masks.mask(question_text(asking.text, task.name, asking.values, self._shown))
        return self._answer_to(self._queue.ask(asked, text, request.digest, asking.within, task.item))

    def _answer_to(self, question: Question) -> Answer:
        if question.is_yes is not None:
            return Answer(approval_of(question))
        if question.until is None or not question.is_late(self._queue.now()):
            return Answer(open=question._replace(history=self._option))
        within = (question.until - question.asked).total_seconds()
        return Answer(Approval(None, "", question.until, late(within), is_approved=False))

    def withdraw(self, task: Task, calls: Collection[str]) -> None:
        """Takes back the questions of a durable step that have no answer, but those of these calls.

        Raises:
            HistoryError: The history can't be read or written.
        """
        if (task.task_id, task.item) not in self._asking and not self._checkpoints.goes_on:
            return
        with contextlib.suppress(NotServable):
            self._queue.withdraw(self._checkpoints.ids.question_of_call(task, "", 0), calls)

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
    """Returns the answer to a question."""
    assert question.at is not None
    value = None if question.value is None else decode(question.value)
    return Approval(value, question.by, question.at, question.comment, bool(question.is_yes))
