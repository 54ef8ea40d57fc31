"""Records of past runs, as a history returns them.

Times are aware and in UTC, durations and CPU times in seconds, sizes in bytes.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Any, Final, NamedTuple

from dotflow import clock
from dotflow.core.approval import ANSWERABLE, Question
from dotflow.core.attempt_id import ID_LENGTH, AttemptId
from dotflow.core.files import NO_FILES, FileRecord
from dotflow.core.outcome import CALLS_GIVEN, CALLS_KEPT, Note
from dotflow.core.text import LEVELS, known_id, name_at, split_address, split_path
from dotflow.core.types.attempt_state import TypeAttemptState
from dotflow.core.types.call_state import TypeCallState
from dotflow.core.types.run_state import TypeRunState
from dotflow.errors import NotInHistory, close_match

MAX_NAMES: Final = 8  # in an error
NO_NOTES: Final[Mapping[str, Note]] = {}
REPEAT: Final = "repeat"  # in the policy of a task whose items are rounds, and not of a map in rounds

#: States of attempts that have ended without a value that could be used.
BAD: Final = (TypeAttemptState.FAILED, TypeAttemptState.CRASHED)
#: Those of attempts that have ended with a value, and of what stands in for one.
GOOD: Final = (TypeAttemptState.COMPLETED, TypeAttemptState.RESTORED, TypeAttemptState.CACHED)
#: All states, the one first that says most about several items.
WORST: Final = (
    *BAD,
    TypeAttemptState.UNKNOWN,
    TypeAttemptState.RUNNING,
    TypeAttemptState.RETRY,
    TypeAttemptState.PAUSED,
    TypeAttemptState.COMPLETED,
    TypeAttemptState.CACHED,
    TypeAttemptState.RESTORED,
    TypeAttemptState.SKIPPED,
)


class ErrorRecord(NamedTuple):
    """One error of an attempt.

    `retry_in` are the seconds until the next attempt, None if there was none; `refusal` is why `retry_on` allowed none.
    """

    exception: str
    message: str
    traceback: str
    retry_in: float | None = None
    refusal: str = ""


class AttemptRecord(NamedTuple):
    """One attempt of a task or an item; or the end of one without an attempt: restored, cached, skipped (attempt 0).

    Attributes:
        item: The index of the item; None for the task itself.
        attempt: Its number, from 1.
        state: What became of it.
        began: The moment; None without an attempt.
        duration: None while it runs, and without an attempt.
        cpu: The CPU time, its child processes included; None where it was not measured.
        peak: The peak of the memory of its process; None where it was not measured.
        worker: The id of its process.
        glimpse: A short text that shows its value; the reason, if it was skipped; what it waits for, while it waits.
        fallback: The step that made it instead.
        errors: Its errors; several if a class repeats its own actions.
        span: The id of its span in a trace; "" without a tracer.
        input: A short text that shows what the item was given; "" for a task.
        files_text: The files that it made, changed and took as `FileRecord` writes them; "" for none.
        asked: How often a step with `poll` was not ready.
        notes: What its step has noted, by name: numbers and texts. Of a durable one also CALLS_KEPT and CALLS_GIVEN.
        round: The round of an item of a map in rounds, or the index of the outermost item around it; None where it is
            not known, and for all others.
        nth: Its own index there, while `item` counts on.
        waited: For how long its limits made it wait before it began; None for not at all.
    """

    item: int | None
    attempt: int
    state: TypeAttemptState
    began: datetime | None = None
    duration: float | None = None
    cpu: float | None = None
    peak: int | None = None
    worker: int | None = None
    glimpse: str = ""
    fallback: str = ""
    errors: Sequence[ErrorRecord] = ()
    span: str = ""
    input: str = ""
    files_text: str = ""
    asked: int = 0
    notes: Mapping[str, Note] = NO_NOTES
    round: int | None = None
    nth: int | None = None
    waited: float | None = None

    @property
    def files(self) -> FileRecord:
        """The files that it made, changed and took, with their states then."""
        return FileRecord.from_text(self.files_text)


class CallRecord(NamedTuple):
    """One call that an attempt of a durable step has made.

    Attributes:
        task_id, item, attempt: The attempt.
        number: Its number, from 1, of all that the task or the item has made. A resume goes on with it.
        name: Its action.
        arguments: A text that shows its arguments.
        depth: In how many durable calls it was made.
        state: What became of it.
        began: The moment.
        duration: None where it has not ended.
        glimpse: A short text that shows its value.
        exception, message, traceback: Its failure; "" for none.
        key: Its key, under which the storage keeps its end.
        identity: The identity of its action, `module:qualname`, with the name of its file in place of `__main__`.
        input: The JSON of its arguments by parameter, where it failed; "" where that was not kept.
    """

    task_id: int
    item: int | None
    attempt: int
    number: int
    name: str
    arguments: str
    depth: int
    state: TypeCallState
    began: datetime
    duration: float | None
    glimpse: str
    exception: str
    message: str
    traceback: str
    key: str
    identity: str = ""
    input: str = ""

    @property
    def shown(self) -> str:
        """The call as a line shows it: `search('weather')`."""
        return f"{self.name}({self.arguments})"


class CallPage(NamedTuple):
    """Some calls of a task or an item in a run, by their numbers. `total` counts those without rows, too."""

    calls: Sequence[CallRecord] = ()
    total: int = 0


class OutputKey(NamedTuple):
    """The attempt of an output. `task_id` is -1 for no single task."""

    task_id: int
    item: int | None
    attempt: int


class OutputChunk(NamedTuple):
    """A part of the output of an attempt; `stream` is 1 for stdout, 2 for stderr. `task_id` is -1 for no single task.

    `skipped` is the number of bytes before it that were dropped to keep `output_limit`. A part of stream 0 stands for
    those that were dropped in the middle of the output: `skipped` is their number, and `data` a line about it.
    """

    task_id: int
    item: int | None
    attempt: int
    seq: int
    at: datetime
    stream: int
    data: bytes
    skipped: int = 0

    @property
    def key(self) -> OutputKey:
        """The attempt."""
        return OutputKey(*self[:3])


class ValueRecord(NamedTuple):
    """The copy of a value that an attempt took or returned.

    Attributes:
        task_id: The task.
        role: "previous", "initial", "returned", or "argument:" and the name of a parameter.
        item: The index of the item; None for the task itself.
        attempt: The attempt.
        size: The bytes of the document, where that is known.
        digest: The digest of the value; "" where none was made.
        document: The value as the codec wrote it; None where it was not kept, empty where it was not asked for.
        note: Why it was not kept, or what is uncertain about it.
    """

    task_id: int
    role: str
    item: int | None
    attempt: int
    size: int | None
    digest: str
    document: bytes | None
    note: str


def duration_of(attempts: Sequence[AttemptRecord]) -> float | None:
    """Returns the seconds from the beginning of the first attempt to the end of the last one, with the delays."""
    if not attempts or (last := attempts[-1]).began is None or last.duration is None:
        return None
    began = next(attempt.began for attempt in attempts if attempt.began is not None)
    return (last.began - began).total_seconds() + last.duration


def last_notes(attempts: Sequence[AttemptRecord]) -> Mapping[str, Note]:
    """Returns what the step has noted in attempts of a task or an item; of a name the last one counts."""
    if not attempts:
        return NO_NOTES
    of_calls = (CALLS_KEPT, CALLS_GIVEN)
    return {name: value for one in attempts for name, value in one.notes.items() if name not in of_calls}


@dataclass(frozen=True, kw_only=True)
class TaskRecord:
    """One task of a run.

    Attributes:
        task_id: The position in the order of `add`.
        name, group, lane: Its name, group and lane.
        identity: The identity of its step, `module:qualname`.
        code: The fingerprint of its step's code; "" where there is none.
        needs: The tasks that had to end before it started.
        policy: What differs from the default policy: attempts, timeout, delay and so on.
        attempts: The attempts of the task itself, in order; one for a map.
        items: The attempts of a map's items, by item.
        count: The number of items of a map; None while it is not known, and for every other task.
        is_known: Whether a task without attempts has not begun; False where the history could not be written.
        round_name: Of a map in one round, the name: `level[1].fetch`. It has no attempts, and the items of the round.
        levels: What its items belong to, from outside to inside, where they have more than one index: the names of the
            added workflows, and its own if it is mapped itself.
    """

    task_id: int
    name: str
    group: str = "default"
    lane: int = 0
    identity: str = ""
    code: str = ""
    needs: Sequence[int] = ()
    policy: Mapping[str, Any]
    attempts: Sequence[AttemptRecord]
    items: Mapping[int, Sequence[AttemptRecord]]
    count: int | None = None
    is_known: bool = True
    round_name: str = ""
    levels: Sequence[str] = ()

    @property
    def last(self) -> AttemptRecord | None:
        """The last attempt; None if the task has not begun."""
        return self.attempts[-1] if self.attempts else None

    @property
    def state(self) -> TypeAttemptState | None:
        """The state of the last attempt, of a map in one round that of the worst item; None if it has not begun."""
        if self.round_name:
            return min(self.counts, key=WORST.index)
        if self.attempts:
            return self.attempts[-1].state
        return None if self.is_known else TypeAttemptState.UNKNOWN

    @property
    def duration(self) -> float | None:
        """The seconds from the beginning of the first attempt to the end of the last one, with the delays."""
        seconds = duration_of(self.attempts)
        return None if seconds is None else round(seconds, 6)

    @property
    def rounds(self) -> int:
        """How many rounds there are at most; 0 for a task outside of rounds."""
        rounds = self.policy.get(REPEAT)
        return rounds if type(rounds) is int and self.count is not None else 0

    @property
    def items_text(self) -> str:
        """The number of its items: "20 items", of a task in rounds "3 rounds"."""
        return f"{self.count or 0} {'round' if self.rounds else 'item'}{'s' * (self.count != 1)}"

    @property
    def cpu(self) -> float | None:
        """The CPU seconds of all attempts, with those of the items; None if none was measured."""
        measured = [attempt.cpu for attempt in self.all_attempts if attempt.cpu is not None]
        return round(sum(measured), 6) if measured else None

    @property
    def peak(self) -> int | None:
        """The largest peak of all attempts, with those of the items; None if none was measured."""
        return max((attempt.peak for attempt in self.all_attempts if attempt.peak is not None), default=None)

    @cached_property
    def all_attempts(self) -> Sequence[AttemptRecord]:
        """The attempts of the task itself, then those of its items."""
        return [*self.attempts, *(attempt for attempts in self.items.values() for attempt in attempts)]

    @cached_property
    def counts(self) -> Counter[TypeAttemptState]:
        """The number of items by the state of their last attempt."""
        return Counter(attempts[-1].state for attempts in self.items.values())

    @cached_property
    def item_rounds(self) -> Mapping[int, int]:
        """The rounds of the items of a map in rounds, by item; empty for others, and in a history that lacks them."""
        rounds = {item: attempts[0].round for item, attempts in self.items.items()}
        return {item: number for item, number in rounds.items() if number is not None}

    @property
    def numbers(self) -> dict[str, list[float]]:
        """The numbers that it has noted by name, those of the last attempt; of a map one of each item."""
        numbers: dict[str, list[float]] = {}
        for attempts in self.items.values() if self.items else (self.attempts,):
            for name, value in last_notes(attempts).items():
                if not isinstance(value, bool | str):
                    numbers.setdefault(name, []).append(value)
        return numbers

    def attempts_of(self, item: int | None, attempt: int | None = None) -> Sequence[AttemptRecord]:
        """Returns the attempts of an item, None for the task itself; or one of them. Raises NotInHistory."""
        attempts = self.attempts if item is None else self.items.get(item, ())
        chosen = [one for one in attempts if attempt in (None, one.attempt)]
        if attempt is not None and not chosen:
            why = f"it has {len(attempts)}"
            if self.round_name:
                why = f"it is a map. Name an item: {self.name_of(min(self.items))}"
            raise NotInHistory(f"Can't find attempt {attempt} of '{self.name_of(item)}'", why)
        return chosen

    def name_of(self, item: int | None) -> str:
        """Returns the name of an item, `fetch#411`; for None, that of the task itself, or of the map in a round.

        An item with two indices has both: `page[3].fetch[7]`. Where there are more, or the history lacks them, it has
        its number among all items of the task.
        """
        if item is None:
            return self.round_name or self.name
        path = self.path_of(item)
        return f"{self.name}#{item}" if path is None else name_at(self.name, self.levels, path)

    def path_of(self, item: int) -> tuple[int, int] | None:
        """Returns the two indices of an item, from outside to inside; None if it has not two, or they are unknown."""
        attempts = self.items.get(item)
        if not attempts or len(self.levels) != LEVELS:
            return None
        outer, index = attempts[0].round, attempts[0].nth
        return None if outer is None or index is None else (outer, index)

    def item_at(self, path: tuple[int, int]) -> int | None:
        """Returns the number of an item by its indices; None if it has none there."""
        return next((item for item in self.items if self.path_of(item) == path), None)

    def number_of(self, item: int | None) -> str:
        """Returns the number of the task, with an item `3#411`: unlike the name, no other task has it."""
        return self.round_name or str(self.task_id) if item is None else f"{self.task_id}#{item}"

    def in_round(self, number: int, name: str) -> "TaskRecord":
        """Returns the map in a round, under this name. Raises NotInHistory."""
        rounds = self.item_rounds
        items = {item: self.items[item] for item, of in rounds.items() if of == number}
        if not items:
            raise no_round(self, name, rounds)
        # Items count on, and those of the last round may not all have begun.
        after = min((item for item, of in rounds.items() if of != number and item > min(items)), default=self.count)
        count = len(items) if after is None else after - min(items)
        return replace(self, attempts=(), items=items, count=count, round_name=name)


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """One run in a list.

    Attributes:
        run_id, workflow_id, name: The run, its workflow, and the name of that.
        state: Where it stands. CRASHED: its process ended before it.
        reason: Why it was stopped, if it was.
        mode: "sequential", "background" or "parallel".
        resumed: Whether finished tasks of earlier runs were restored.
        trigger: "command", "schedule", "submit", "resume" or, where a server goes on with a run of another one,
            "take-over"; "" for a program or a step.
        began: The moment of its beginning; of what never began, that of its submission.
        ended: That of its end, or the last one that is known of it, by `is_end_known`; None while it runs.
        tasks: The number of tasks.
        completed, failed, skipped: The numbers of those that have ended so.
        restored: How many of the completed ones have a value from a checkpoint or the cache.
        error: What failed first, on one line.
        parent: The attempt whose step started it.
        submitted, due: The moments of its submission, and before which it does not begin; None if it was not queued,
            and for `due` once it has begun.
        origin: The first run of its chain: it, and those that continue it; "" where that is unknown.
        continues: The run that it continues; "" for none.
        superseded: The run that has replaced its values; "" for none.
        ordered: What it was ordered to do, and has not done yet: "cancel" or "pause".
        params: The values of its run parameters without secrets; None where they are unknown. Values of a program's
            classes, which a list of runs does not load, stand there as JSON.
        params_text: The same as text of the codec.
        base: The id of its workflow without parameters and key; "" where that is unknown.
        has_begun: Whether it has begun; False while it waits in the queue, and where it ended there.
        is_served: Whether a living process serves its workflow.
        workflow_paused_by: Who has paused its workflow, for which it waits in the queue; "" if it does not.
        silence: For how many seconds its process has given no sign of life, from 20 on; None if it has, and on one
            machine. After 60 s the run is CRASHED.
    """

    run_id: str
    workflow_id: str
    name: str | None = None
    state: TypeRunState
    reason: str = ""
    mode: str = ""
    resumed: bool = False
    trigger: str = ""
    began: datetime
    ended: datetime | None = None
    tasks: int = 0
    completed: int = 0
    failed: int = 0
    restored: int = 0
    skipped: int = 0
    error: str = ""
    parent: AttemptId | None = None
    submitted: datetime | None = None
    due: datetime | None = None
    origin: str = ""
    continues: str = ""
    superseded: str = ""
    ordered: str = ""
    params: Mapping[str, Any] | None = None
    params_text: str | None = None
    base: str = ""
    has_begun: bool = True
    is_served: bool = False
    workflow_paused_by: str = ""
    silence: float | None = None

    @property
    def short_id(self) -> str:
        """The beginning of its id, for people."""
        return self.run_id[:ID_LENGTH]

    @property
    def workflow(self) -> str:
        """The id of its workflow; in place of a generated one, which no other run has, the name or ""."""
        return known_id(self.workflow_id, self.name)

    @property
    def is_open(self) -> bool:
        """Whether it waits in the queue or runs."""
        return self.state in (TypeRunState.QUEUED, TypeRunState.RUNNING)

    @property
    def is_over(self) -> bool:
        """Whether it has ended, so that only a `resume` would go on with it.

        False while it is queued, runs or is paused. It is also False of a submitted run whose process was killed: a
        server continues it, unless a newer run has replaced its values.
        """
        is_left = self.state is TypeRunState.CRASHED and self.submitted is not None and not self.superseded
        return not (self.is_open or is_left or self.state is TypeRunState.PAUSED)

    @property
    def duration(self) -> float | None:
        """The seconds that it took, or ran at least, by `is_end_known`; None while it runs, and if it never began."""
        return None if self.ended is None or not self.has_begun else (self.ended - self.began).total_seconds()

    @property
    def is_end_known(self) -> bool:
        """Whether `ended` is its end; False of a crashed or unknown run, whose last event or output it is."""
        return self.state not in (TypeRunState.CRASHED, TypeRunState.UNKNOWN)


@dataclass(frozen=True, kw_only=True)
class RunRecord(RunSummary):
    """One run with its tasks.

    Attributes:
        process: Its host and process id, `host:1234`.
        storage: The type of the storage of its values, and where that is.
        trace: The id of its trace; "" without a tracer.
        environment: What it ran in: python, dotflow, system, packages, folder, argv, commit.
        steps: Its tasks.
        notes: What was noted about it, with the moments.
        children: The ids of the runs that its steps started.
        files: The files that it was given from outside, as `taken`, with their states at its beginning.
        chain: The ids of the runs of its chain in their order, with its own; empty if it is alone.
        questions: The questions of the tasks of its chain that ask for an approval, with their answers.
    """

    process: str = ""
    storage: str = ""
    trace: str = ""
    environment: Mapping[str, Any]
    steps: Sequence[TaskRecord]
    notes: Sequence[tuple[datetime, str]] = ()
    children: Sequence[str] = ()
    files: FileRecord = NO_FILES
    chain: Sequence[str] = ()
    questions: Sequence[Question] = ()

    @property
    def open_questions(self) -> list[Question]:
        """Those that can be answered now."""
        if self.superseded or self.newest != self.run_id or self.state not in ANSWERABLE:
            return []
        return [one for one in self.questions if one.is_yes is None and not one.is_late(clock.now())]

    def question_of(self, task: TaskRecord, item: int | None, *, in_body: bool = True) -> Question | None:
        """Returns the question that a task or an item of it asked last; None if it asked none.

        Those that a durable step has asked itself are among them where they may be *in_body*.
        """
        names = {task.name, task.name_of(item)}  # a map asks once for all of its items
        asked = [one for one in self.questions if one.item in (None, item) and any(map(one.is_of, names))]
        asked = [one for one in asked if in_body or not one.id.call]
        return max(asked, key=lambda one: (one.asked, one.id.nth), default=None)

    @property
    def newest(self) -> str:
        """The id of the newest run of its chain."""
        return self.chain[-1] if self.chain else self.run_id

    @property
    def failures(self) -> list[TaskRecord]:
        """The tasks that failed, or ran when the process of the run ended, or waited for their next attempt then."""
        bad = (*BAD, TypeAttemptState.RETRY) if self.state is TypeRunState.CRASHED else BAD
        return [task for task in self.steps if task.state in bad]

    @property
    def tolerated(self) -> list[TaskRecord]:
        """The maps that completed though items failed, as their `keep_going` allows."""
        completed = (task for task in self.steps if task.state == TypeAttemptState.COMPLETED)
        return [task for task in completed if task.counts.get(TypeAttemptState.FAILED)]

    def find(self, step: str) -> tuple[TaskRecord, int | None]:
        """Returns a task and the index of an item, None for the task itself.

        *step* is the name of a task or its number; with an item, `fetch#411`, `fetch[411]` or `page[411].fetch`.
        `level[1].fetch` is a map in the round 1, with the items of that round only; `level[1].fetch[0]` is the first.
        Raises NotInHistory if there is no such task or item, or if several tasks have the name.
        """
        task, item, number, index = find_step(self.run_id, self.steps, step, self._with_rounds)
        if number is not None and index is not None:
            if (item := task.item_at((number, index))) is None:
                raise no_item_at(task, (number, index))
            return task, item
        if number is not None:
            return task.in_round(number, step), None
        if item is not None and item not in task.items:
            raise no_item(task, item)
        return task, item

    def find_all(self, step: str) -> Sequence[tuple[TaskRecord, int | None]]:
        """Returns what `find` does; for `page[3]` the item of each task of the added workflow `page`.

        A map in rounds has the items of the round only. It has all of them where an older format does not know rounds.
        """
        plain, path = split_path(step)
        if path and plain != path[-1][0] + step.rpartition("]")[2]:
            plain, path = step, ()
        nested = [task for task in self.steps if task.name.startswith(f"{plain}.")]
        if nested and path and (len(path) == LEVELS or plain != path[0][0]):
            return self._find_nested(step, nested, path)
        name, item = split_address(step) or (step, None)
        inside = [] if item is None else [task for task in self.steps if task.name.startswith(f"{name}.")]
        maps = _maps_in_rounds(inside, name, self._with_rounds)
        found: list[tuple[TaskRecord, int | None]] = []
        for task in inside:
            assert item is not None
            if task.task_id not in maps:
                found += [(task, item)] if item in task.items else []
            elif not task.item_rounds:
                found.append((task, None))
            elif item in task.item_rounds.values():
                found.append((task.in_round(item, f"{name}[{item}]{task.name.removeprefix(name)}"), None))
        singles = [task for task in inside if task.task_id not in maps]
        if singles and item is not None and not any(of is not None or task.round_name for task, of in found):
            raise no_item(singles[0], item)
        return found or [self.find(step)]

    def _find_nested(
        self, step: str, tasks: Sequence[TaskRecord], path: Sequence[tuple[str, int]]
    ) -> Sequence[tuple[TaskRecord, int | None]]:
        """Returns what the tasks of an inner workflow have for `site[2].page[1]`, or for all of `site[2].page`."""
        names, indices = [*zip(*path, strict=True)]
        found: list[tuple[TaskRecord, int | None]] = []
        for task in tasks:
            if tuple(task.levels[: len(names)]) != names:
                continue
            if len(indices) == 1 and indices[0] in task.item_rounds.values():
                found.append((task.in_round(indices[0], name_at(task.name, names, indices)), None))
            elif len(indices) == LEVELS and (item := task.item_at((indices[0], indices[1]))) is not None:
                found.append((task, item))
        if not found:
            raise NotInHistory(f"Can't find '{step}' in the run {self.run_id[:ID_LENGTH]}", "no item of it has begun")
        return found

    @property
    def _with_rounds(self) -> Collection[int]:
        return {task.task_id for task in self.steps if task.item_rounds}


class FoundStep(NamedTuple):
    """What a step of a command names: a task, or the number of an item of it.

    Of a map in rounds, or in the items of an added workflow, it is a round, or an item by its round and its index.
    """

    task: TaskRecord
    item: int | None = None
    round: int | None = None
    nth: int | None = None


def find_step(run_id: str, tasks: Sequence[TaskRecord], step: str, with_rounds: Collection[int]) -> FoundStep:
    """Returns the task that *step* names, and the number of an item, or its indices, which may not exist.

    They are None for the task itself. Raises NotInHistory if there is no such task, or several tasks have the name.

    Args:
        run_id: The run.
        tasks: Its tasks.
        step: The name or the number.
        with_rounds: The ids of the tasks whose items have rounds.
    """
    given, named, item = step, _named(tasks, step), None
    plain, path = split_path(step)
    if not named and len(path) == LEVELS:
        nested = [task for task in _named(tasks, plain) if tuple(task.levels) == tuple(name for name, _ in path)]
        if len(nested) == 1:
            return FoundStep(nested[0], None, path[0][1], path[1][1])
    if not named and (address := split_address(step)) is not None:
        step, item = address
        named = _named(tasks, step)
        workflow = given.partition("[")[0]
        if len(named) == 1 and named[0].levels and "#" not in given and workflow not in (named[0].levels[0], step):
            name = f"Name all of its indices, as in '{name_at(step, named[0].levels, (0,) * len(named[0].levels))}'"
            raise NotInHistory(
                f"Can't find '{given}' in the run {run_id[:ID_LENGTH]}", f"'{workflow}' is an inner workflow. {name}"
            )
        if len(named) == 1 and named[0].task_id in _maps_in_rounds(tasks, workflow, with_rounds):
            return FoundStep(named[0], None, item)
    if len(named) == 1:
        return FoundStep(named[0], item)
    what = f"Can't find the step '{step}' in the run {run_id[:ID_LENGTH]}"
    if named:
        numbers = " and ".join(str(task.task_id) for task in named)
        raise NotInHistory(what, f"the tasks {numbers} have this name. Pass a number")
    if inside := [f"{given}{task.name.removeprefix(step)}" for task in tasks if task.name.startswith(f"{step}.")]:
        raise NotInHistory(what, f"it is an added workflow. Name a task of it: {', '.join(inside[:MAX_NAMES])}")
    names = list(dict.fromkeys(task.name for task in tasks))
    listed = ", ".join(names[:MAX_NAMES]) + (" and others" if len(names) > MAX_NAMES else "")
    if step.isascii() and step.isdigit() and tasks:
        listed += f", with the numbers 0 to {len(tasks) - 1}"
    raise NotInHistory(what, f"it has {listed or 'no tasks'}. {close_match(step, names)}".rstrip(" ."))


def _maps_in_rounds(tasks: Sequence[TaskRecord], workflow: str, with_rounds: Collection[int]) -> set[int]:
    """Returns the tasks of an added workflow in rounds whose items are not its rounds.

    Where no item of one has begun, or the round of none is known, the other tasks of the workflow show it.
    """
    inside = [task for task in tasks if task.name.startswith(f"{workflow}.")]
    known = {task.task_id for task in inside if task.task_id in with_rounds or task.levels[:1] == (workflow,)}
    own = [task for task in inside if "." not in task.name.removeprefix(f"{workflow}.")]
    if any(REPEAT in task.policy or task.task_id in known for task in own):
        repeats = any(REPEAT in task.policy for task in own)  # else their items may be those of the workflow
        known.update(one.task_id for one in own if REPEAT not in one.policy and (repeats or not one.count))
    return known


def no_item(task: TaskRecord, item: int) -> NotInHistory:
    """Returns the error about an item that does not exist."""
    has = "it is no map" if task.count is None else f"it has {task.items_text}, which count from 0"
    return NotInHistory(f"Can't find {'round' if task.rounds else 'item'} {item} of '{task.name}'", has)


def no_item_at(task: TaskRecord, path: Sequence[int]) -> NotInHistory:
    """Returns the error about an item that does not exist, or has not begun."""
    return NotInHistory(f"Can't find '{name_at(task.name, task.levels, path)}'", "no such item has begun")


def no_round(task: TaskRecord, name: str, rounds: Collection[int]) -> NotInHistory:
    """Returns the error about a round in which a map has no items; *rounds* is empty where none is known."""
    why = "it has no items in that round"
    if not rounds and task.count:
        why = f"the history has no rounds of its items. Name '{task.name}', or an item such as '{task.name}#0'"
    return NotInHistory(f"Can't find '{name}'", why)


def _named(tasks: Sequence[TaskRecord], step: str) -> list[TaskRecord]:
    is_number = step.isascii() and step.isdigit() and int(step) < len(tasks)
    return [task for task in tasks if task.name == step] or ([tasks[int(step)]] if is_number else [])
