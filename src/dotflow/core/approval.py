"""Approvals: the yes or no that a person gives before a step runs, and the text of the question."""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from dotflow.core.durations import format_duration
from dotflow.core.text import split_address
from dotflow.core.types.run_state import TypeRunState
from dotflow.errors import InvalidPolicy

ACCEPTED: Final = "True, or a text such as 'Publish {rows} rows?', whose braces name parameters of the step"


#: The states of a run whose questions can be answered: it goes on by itself, or `resume` goes on with it.
ANSWERABLE: Final = (
    TypeRunState.QUEUED, TypeRunState.RUNNING, TypeRunState.PAUSED, TypeRunState.FAILED, TypeRunState.INTERRUPTED,
    TypeRunState.CRASHED,
)  # fmt: skip


class Approval(NamedTuple):
    """The yes that a step was given, which it takes as `approval`; and what `ask` returns, which may be a no.

    Attributes:
        value: The value that came with it, as plain data; None without one.
        by: Who gave it; "" where the time for an answer was up.
        at: When, in UTC.
        comment: Why; "" without one.
        is_approved: Whether it is a yes.
    """

    value: Any
    by: str
    at: datetime
    comment: str = ""
    is_approved: bool = True


INDEX: Final = "[]"  # where the name of a question's task gets the index of the item
MAX_SHOWN: Final = 3  # questions that a text names
CALL_DIGITS: Final = 4  # of the key of a call that asks, in the name of its question


class QuestionId(NamedTuple):
    """What tells the questions apart.

    Attributes:
        origin: The first run of the chain.
        task: The name of the task; for an item of an added workflow, or a round, such as `page[].check`.
        key: The end of the checkpoint's key of the item, whose index another list may change; "" for the task itself.
        nth: How often it was asked before in this chain.
        call: The key of the call of a durable step that asks; "" where the step itself does.
    """

    origin: str
    task: str
    key: str
    nth: int
    call: str = ""


class Question(NamedTuple):
    """The question of a task that waits for an approval, and its answer.

    Attributes:
        id: What tells it apart from others.
        text: The question, with its arguments.
        asked: When it was asked first.
        until: The moment after which it has no answer any more; None for no limit.
        is_yes: The answer; None before there is one.
        by, at, comment: Who has answered, when, and why.
        value: What came with a yes, as text of the codec; None for nothing.
        about: A digest of what it is about; "" where only the text shows that.
        run_id, workflow_id, state: The newest run of the chain; "" where it was not looked for.
        history: In its own run, the value of --history for the commands that answer it; None for the default one.
        item: The index of the item, or the number of the round, when it was asked last; None for the task itself.
        sent: When the notifier took the message with it; None before.
    """

    id: QuestionId
    text: str
    asked: datetime
    until: datetime | None = None
    is_yes: bool | None = None
    by: str = ""
    at: datetime | None = None
    comment: str = ""
    value: str | None = None
    about: str = ""
    run_id: str = ""
    workflow_id: str = ""
    state: TypeRunState | None = None
    history: str | None = None
    item: int | None = None
    sent: datetime | None = None

    @property
    def step(self) -> str:
        """The task or item that waits: `publish`, `page[3].check`; of a call of a durable step `agent@3fa9`."""
        return f"{self._task}@{self.id.call[-CALL_DIGITS:]}" if self.id.call else self._task

    @property
    def _task(self) -> str:
        return self.id.task if self.item is None else self.id.task.replace(INDEX, f"[{self.item}]", 1)

    def is_of(self, step: str) -> bool:
        """Returns whether it is the question of a task, or of an item in any of its spellings: `page.check#3`."""
        task = self.id.task if self.item is None else self.id.task.replace(INDEX, "", 1)
        return step in (task, self.step, self._task) or split_address(step) == (task, self.item)

    def is_late(self, now: datetime) -> bool:
        """Returns whether the time for an answer is up."""
        return self.until is not None and self.until <= now


class Answer(NamedTuple):
    """What became of a question: a yes is an Approval, a no has a reason, and while there is none it is still open.

    With *is_late* the reason is that nobody has answered in time.
    """

    approval: Approval | None = None
    refusal: str = ""
    open: Question | None = None
    is_late: bool = False


def names_of(questions: Sequence[Question]) -> str:
    """Returns the tasks and items that wait, for people: the first ones, and how many there are beside them."""
    names = ", ".join(repr(question.step) for question in questions[:MAX_SHOWN])
    more = len(questions) - MAX_SHOWN
    return f"{names} and {more} more" if more > 0 else names


def rejection(by: str, comment: str) -> str:
    """Returns why a task does not run that a person has rejected."""
    return f"{by} rejected it{comment and f': {comment}'}"


def late(within: float) -> str:
    """Returns why a task does not run for which no answer has come in time."""
    return f"it was not approved within {format_duration(within)}"


def check_question(approve: object, known: Collection[str]) -> str:
    """Returns the question of a step; "" for that of every step.

    Args:
        approve: The argument of the decorator.
        known: The parameters of the step.

    Raises:
        InvalidPolicy: It is no such text, a brace holds more than a name, or names no parameter.
    """
    if approve is True:
        return ""
    if not isinstance(approve, str) or not approve.strip():
        raise InvalidPolicy("approve", approve, ACCEPTED)
    try:
        fields = fields_of(approve)
    except ValueError as error:
        raise InvalidPolicy("approve", approve, f"{ACCEPTED}. Here {error}") from None
    for name in fields:
        if not name.isidentifier():
            raise InvalidPolicy("approve", approve, f"{ACCEPTED}, and no more than a name: not {{{name}}}")
        if name not in known:
            names = f"it takes {', '.join(known)}" if known else "it takes none"
            raise InvalidPolicy("approve", approve, f"{ACCEPTED}. It has no parameter '{name}': {names}")
    return approve


def fields_of(text: str) -> list[str]:
    """Returns the names in the braces of a question. Raises ValueError."""
    import string  # here: few steps ask

    fields = []
    for _, name, spec, conversion in string.Formatter().parse(text):
        if name is not None:
            fields.append(f"{name}{(conversion and f'!{conversion}') or ''}{(spec and f':{spec}') or ''}")
    return fields


def question_text(approve: str, name: str, arguments: Mapping[str, Any], shown: Callable[[Any], str]) -> str:
    """Returns the question of a task.

    Args:
        approve: Its text as the decorator has it.
        name: The task.
        arguments: Those of the step.
        shown: Returns what shows an argument.
    """
    if not approve:
        return f"Run '{name}'?"
    values = {field: shown(arguments[field]) if field in arguments else "?" for field in fields_of(approve)}
    return approve.format_map(values)
