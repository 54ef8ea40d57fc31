"""The questions of tasks that wait for an approval, as a history file has them, and the first answer to each."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from dotflow.core.approval import ANSWERABLE, INDEX, Question, QuestionId, names_of
from dotflow.core.durations import format_duration
from dotflow.core.types.run_state import TypeRunState, TypeWait
from dotflow.errors import OrderRefused, close_match
from dotflow.providers.histories.sql.database import Connection
from dotflow.providers.histories.sql.reading import Reader
from dotflow.providers.histories.sql.tables import MICRO, NO_ITEM, PAUSED, moment, moment_or_none

GONE: Final = NO_ITEM - 1  # in place of the index of an item that its list does not have any more
AT: Final = "@"  # between the task of an item and the item's key, in the column `task`
#: The name of a question's task, without the key of its item, and that of the task or the item.
TASK: Final = f"""CASE WHEN questions.item = {NO_ITEM} AND questions.call IS NULL THEN questions.task
    ELSE SUBSTR(questions.task, 1, INSTR(questions.task, '{AT}') - 1) END"""
STEP: Final = f"REPLACE({TASK}, '{INDEX}', '[' || questions.item || ']')"
UNANSWERED: Final = f"answer IS NULL AND item > {GONE}"
KEY: Final = "origin = ? AND task = ?"
COLUMNS: Final = (
    *("origin", "task AS step", "item", "nth", "text", "asked", "until", "answer", "by_whom", "at AS answered"),
    *("comment", "value", "about", "sent", "call"),
)
LAST: Final = f"SELECT {', '.join(COLUMNS)} FROM questions WHERE {KEY} ORDER BY nth DESC LIMIT 1"
ADD: Final = """INSERT INTO questions (origin, task, item, nth, text, asked, until, about, call)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"""
ANSWER: Final = f"""UPDATE questions SET answer = ?, by_whom = ?, at = ?, comment = ?, value = ?
    WHERE {KEY} AND nth = ? AND answer IS NULL"""
WITHOUT_ANSWER: Final = f"SELECT {', '.join(COLUMNS)} FROM questions WHERE origin = ? AND answer IS NULL"
MOVE: Final = f"UPDATE questions SET item = ?, sent = NULL WHERE {KEY} AND nth = ?"
NOTE_SENT: Final = f"UPDATE questions SET sent = ? WHERE {KEY} AND nth = ? AND item = ?"
ANSWERED: Final = f"""SELECT {", ".join(COLUMNS)} FROM questions
    WHERE origin = ? AND (answer IS NOT NULL OR until <= ?)"""
#: The last question of each task of a chain, with the newest run of the chain.
LAST_OF_CHAINS: Final = f"""SELECT {", ".join(f"questions.{name}" for name in COLUMNS)},
    runs.run_id, runs.workflow_id, runs.state, runs.superseded, runs.workflow
    FROM questions JOIN runs ON runs.run = (SELECT MAX(run) FROM runs WHERE runs.origin = questions.origin)
    WHERE NOT EXISTS (SELECT 1 FROM questions AS newer WHERE newer.origin = questions.origin
        AND newer.task = questions.task AND newer.nth > questions.nth) AND questions.item > {GONE}"""
OF_CHAIN: Final = f"{LAST_OF_CHAINS} AND questions.origin = ? ORDER BY asked, questions.task, questions.item"
OPEN: Final = f"""{LAST_OF_CHAINS} AND answer IS NULL AND (until IS NULL OR until > ?) AND superseded IS NULL
    AND state IN ({", ".join("?" * len(ANSWERABLE))}) ORDER BY asked, questions.task, questions.item"""
#: The questions of runs that are paused only since they wait.
OF_WAITING: Final = f"{LAST_OF_CHAINS} AND superseded IS NULL AND runs.state = 'Paused' AND waits = '{TypeWait.ANSWER}'"
WAITING: Final = f"{OF_WAITING} AND answer IS NULL"
#: Whether its task or item has done nothing in the run but to ask: it has not taken its answer, nor failed without one.
#: A durable step that has taken the answer to a call may ask again: its answer came after the end of the run.
HAS_ASKED: Final = f"""CASE WHEN questions.call IS NOT NULL THEN COALESCE(at, until) >= runs.ended
    ELSE EXISTS (SELECT 1 FROM steps CROSS JOIN attempts
    WHERE attempts.task = steps.task AND attempts.run = runs.run AND attempts.item = questions.item
    AND steps.plan = runs.plan
    AND REPLACE({TASK}, '{INDEX}', '') IN (steps.name, steps.name || '.' || steps.task)
    GROUP BY attempts.task HAVING MAX(attempt) = 0 AND MAX(attempts.state) = {PAUSED}) END"""
#: The runs for which the time for an answer is up, or that were killed before they took theirs at their end.
OVER: Final = f"""SELECT DISTINCT run_id, workflow FROM
    ({OF_WAITING} AND (answer IS NOT NULL OR until <= ?) AND {HAS_ASKED}) AS waits"""
NEXT_LATE: Final = f"SELECT MIN(until) FROM ({WAITING} AND until > ?) AS waits"


def ask(
    connection: Connection, asked: QuestionId, text: str, about: str, within: float | None, item: int | None
) -> Question:
    """Returns the question of a task as it stands, which is written if it is new, or about something else.

    One that was withdrawn, or that another item has asked, is where it is asked now.
    """
    key, index = key_of(asked), index_of(item)
    rows = connection.execute(LAST, key).fetchall()
    if (known := find_same(rows, asked, text, about)) is None:
        nth = max([asked.nth, *(question_of(row).id.nth + 1 for row in rows)])
        now = connection.now
        until = None if within is None else now + round(within * MICRO)
        connection.execute(ADD, (*key, index, nth, text, now, until, about, asked.call or None))
    elif known.item != item:
        connection.execute(MOVE, (index, *key, known.id.nth))
        known = None
    return known or question_of(connection.execute(LAST, key).fetchone())


def moved(rows: Iterable[Sequence[Any]], task: str, items: Mapping[str, int]) -> list[tuple[Any, ...]]:
    """Returns what MOVE changes where the list of a task's items is another one than when they asked.

    Args:
        rows: Those of WITHOUT_ANSWER.
        task: The task of the questions.
        items: The index of each item by its key.
    """
    found = [question_of(row) for row in rows]
    places = [(items.get(one.id.key, GONE), one) for one in found if one.id.key and one.id.task == task]
    return [(index, *key_of(one.id), one.id.nth) for index, one in places if one.item != index]


def withdrawn(rows: Iterable[Sequence[Any]], asked: QuestionId, calls: Collection[str]) -> list[tuple[Any, ...]]:
    """Returns what MOVE changes where a durable step waits for the answers to some calls only.

    Args:
        rows: Those of WITHOUT_ANSWER.
        asked: One of its questions.
        calls: The keys of the calls.
    """
    found = [one for one in map(question_of, rows) if one.id.call and one.id.call not in calls and one.item != GONE]
    return [
        (GONE, *key_of(one.id), one.id.nth) for one in found if (one.id.task, one.id.key) == (asked.task, asked.key)
    ]


def key_of(asked: QuestionId) -> tuple[str, str]:
    """Returns the first columns of the questions of a task, an item or a call of a durable step."""
    if asked.call:
        return asked.origin, f"{asked.task}{AT}{asked.key}{AT}{asked.call}"
    return asked.origin, f"{asked.task}{AT}{asked.key}" if asked.key else asked.task


def index_of(item: int | None) -> int:
    """Returns what the column `item` has for an item, None for the task itself."""
    return NO_ITEM if item is None else item


def find_same(rows: Sequence[Sequence[Any]], asked: QuestionId, text: str, about: str) -> Question | None:
    """Returns the last question of a task, whose row is LAST; None if that was another one, or there is none."""
    for last in map(question_of, rows):
        if last.id.nth >= asked.nth and last.about == about and (about or last.text == text):
            return last
    return None


def is_settled(connection: Connection, asked: Collection[QuestionId]) -> bool:
    """Returns whether one of these questions has an answer, or its time is up."""
    now = moment(connection.now)
    for one in asked:
        row = connection.execute(LAST, key_of(one)).fetchone()
        if row is None:
            continue
        last = question_of(row)
        if last.id.nth != one.nth or last.is_yes is not None or last.is_late(now):
            return True
    return False


def of_chain(connection: Connection, origin: str) -> list[Question]:
    """Returns the last question of each task of a chain, in the order in which they were asked."""
    return [_with_run(row) for row in connection.execute(OF_CHAIN, (origin,))]


def find_open(reader: Reader) -> Iterator[Question]:
    """Yields the questions that can be answered now, the oldest first."""
    for row in reader.connection.execute(OPEN, (reader.connection.now, *ANSWERABLE)):
        yield _with_run(row)


def chosen(asked: Sequence[Question], step: str | None, run_id: str, state: str, verb: str, now: datetime) -> Question:
    """Returns the question that an answer is for.

    Args:
        asked: The last question of each task of the chain.
        step: The task or item that waits; None if there is one only.
        run_id: The newest run of the chain.
        state: What is known of it, for a refusal.
        verb: What the answer does, for a refusal.
        now: The moment.

    Raises:
        OrderRefused: There is no such question, or it has its answer.
    """
    found = [question for question in asked if step is None or question.is_of(step)]
    waiting = [question for question in found if question.is_yes is None and not question.is_late(now)]
    if len(waiting) == 1:
        return waiting[0]
    if waiting:
        reason = f"{names_of(waiting)} wait for an answer. Name one of them"
    elif found:
        reason = _settled(found[-1], now)
    elif asked:
        reason = f"no task '{step}' waits for an answer. {close_match(step or '', [one.step for one in asked])}"
    else:
        reason = f"no task of it waits for an answer: {state}"
    raise OrderRefused(verb, run_id, reason.rstrip(" ."))


def _settled(question: Question, now: datetime) -> str:
    """Returns why a question takes no answer any more."""
    if question.at is None:
        assert question.until is not None
        late = format_duration((now - question.until).total_seconds())
        return f"the time for an answer to '{question.step}' was up {late} ago"
    does = "approved" if question.is_yes else "rejected"
    ago = format_duration((now - question.at).total_seconds())
    return f"{question.by} {does} '{question.step}' {ago} ago{question.comment and f': {question.comment}'}"


def _with_run(row: Sequence[Any]) -> Question:
    *columns, run_id, workflow_id, state, _, _ = row
    return question_of(columns)._replace(run_id=run_id, workflow_id=workflow_id, state=TypeRunState(state))


def question_of(row: Sequence[Any]) -> Question:
    """Returns the question of a row."""
    origin, task, item, nth, text, asked, until, is_yes, by, at, comment, value, about, sent, call = row
    of_item = task.removesuffix(f"{AT}{call}") if call else task
    name, _, key = (task, "", "") if item == NO_ITEM and not call else of_item.rpartition(AT)
    return Question(
        QuestionId(origin, name, key, nth, call or ""),
        text,
        moment(asked),
        moment_or_none(until),
        None if is_yes is None else bool(is_yes),
        by or "",
        moment_or_none(at),
        comment or "",
        value,
        about or "",
        item=None if item == NO_ITEM else item,
        sent=moment_or_none(sent),
    )
