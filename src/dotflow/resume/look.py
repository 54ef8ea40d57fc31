"""Look: why what earlier runs have left of a task or an item does not count. It only reads."""

import contextlib
import copy
import functools
import re
from collections.abc import Collection
from typing import Final

from dotflow.core.action import Action
from dotflow.core.call import Call
from dotflow.core.context import NOTHING, TOKEN_LENGTH, Context, shared_origin
from dotflow.core.item_counts import rounds_of
from dotflow.core.outcome import Raised, Returned, TimedOut
from dotflow.core.outputs import why_unfit
from dotflow.core.policy import Policy
from dotflow.core.task import Task
from dotflow.errors import CheckpointMismatch, CheckpointUnreadable, ValidityUnknown
from dotflow.graph.gather import is_over
from dotflow.graph.linked_task import Item, ItemOrMap, outputs_of
from dotflow.graph.wiring import PREVIOUS, lists_behind
from dotflow.resume.changed_code import ChangedCode, is_same_step
from dotflow.resume.judge import Cause, Void
from dotflow.resume.saved_values import SavedValues
from dotflow.resume.tokens import CONDITION, FALLBACK, INCOMPARABLE, NO_INITIAL, NO_TOKENS, Tokens, difference
from dotflow.worker.attempt import attempt, remember_process
from dotflow.worker.deadline import restore_handler
from dotflow.worker.files import find_paths
from dotflow.worker.loops import Loops

TAKES: Final = "it takes the value of"  # begins the reason of a checkpoint whose source runs again
VALID_TIMEOUT: Final = 30.0  # seconds of each call of a step's `valid`
RUN_TOKEN: Final = re.compile(rf"[0-9a-f]{{{TOKEN_LENGTH}}}/\d+")
OF_RUN: Final = re.compile(rf":{RUN_TOKEN.pattern}(\.|$)")  # the token of a value that is not that of a map
INVALID: Final = "its valid() returned False"


class Look:
    """Compares what earlier runs have left with what would be made now, for a new run or a plan of one.

    Args:
        saved: What they have left.
        tokens: What the values of the tasks depend on. The decisions are recorded in its tasks.
        changes: Compares the code of the steps with that which made the checkpoints.
        is_plan: Whether a `valid` that fails is noted, and raises nothing.

    Attributes:
        asks: Whether the steps' `valid` are called.
        counts_all: Whether all checkpoints count that fit their outputs: those that the last run has left.
        is_mixed: Whether the last run left a value that it was to make anew, by these.
        again: The tasks of which a resume has decided that they run, or some of their items.
        unknown: Why it is unknown whether the value of a task is valid, by task id.
    """

    def __init__(self, saved: SavedValues, tokens: Tokens, changes: ChangedCode, *, is_plan: bool = False) -> None:
        self.asks = self.counts_all = self.is_mixed = False
        self.unknown: dict[int, str] = {}
        self.again: Collection[int] = ()
        self._saved = saved
        self._tokens = tokens
        self._changes = changes
        self._is_plan = is_plan
        self._answers: dict[tuple[int, str], bool] = {}  # whether values are valid
        self._mismatches: dict[tuple[int, str, str], None] = {}  # each once, not for each item

    def raise_mismatches(self) -> None:
        """Raises CheckpointMismatch if another step made a checkpoint that was compared."""
        mismatches, self._mismatches = list(self._mismatches), {}  # those of another map are its own
        if mismatches:
            raise CheckpointMismatch(mismatches)

    def stand_in(self, task: Task) -> Context:
        """Returns an empty context that stands for a value without a checkpoint."""
        context = Context(None, task.task_id, task.workflow_id, step=task.step.identity)
        code = self._changes.code_of(task, context)  # that of today: nothing shows whether it has changed
        origin = shared_origin(self._tokens.initial_of(task), self._tokens.stable_run(task), code)
        context._set_inputs(origin, NOTHING, self._tokens.of(task, context))
        return context

    def why_files(self, task: Task) -> str:
        """Returns which file has outdated a checkpoint of a task that was not asked for; "" if none has.

        The run renews the states of the files, so that a later one can't find out.
        """
        assert self._saved.files is not None
        with contextlib.suppress(CheckpointUnreadable):  # which concerns the run that asks for the task
            context = self._saved.of(task)
            return "" if context is None else self._saved.files.why_void(task, context)
        return ""

    def runs_again(self, record: Task, task: Task) -> Void:
        """Returns that a source of a task or an item runs again, as the reason why its checkpoint does not count."""
        cause = Cause.INTENT if self._is_rerun_unsaved(task.task_id) else Cause.SOURCE
        if isinstance(record, ItemOrMap):
            what = "a round" if rounds_of(self._tokens.tasks[record.task_id]) else "an item"
            return Void(f"{TAKES} {what} that runs again", cause)
        why = "which runs again"
        if task.is_mapped and not task.items:
            why = "whose items are known only in the run"
        elif task.step.cache is not None:
            why = "which is made anew"
        return Void(f"{TAKES} task {task.task_id} {task.name}, {why}", cause)

    def _is_rerun_unsaved(self, task_id: int) -> bool:
        """Returns whether `rerun` names a task without checkpoints, or such a one before it: no token shows that."""
        task = self._tokens.tasks[task_id]
        if task.step.checkpoint:
            return False
        sources = () if task.links is None else task.links.value_sources()
        return self._changes.is_rerun(task) or any(map(self._is_rerun_unsaved, sources))

    def why_void(self, task: Task, context: Context, made: Task | None) -> Void | None:
        """Returns why the checkpoint of a task or an item does not count; None if it does.

        Args:
            task: The task or the item.
            context: The checkpoint.
            made: A source of it that the run makes anew.
        """
        if made is not None:
            return self.runs_again(task, made)
        step = task.step
        outputs = outputs_of(task) if step.checkpoint else ()
        unfit = why_unfit(context.storage, outputs) if outputs else ""
        if self.counts_all:
            self.is_mixed = self.is_mixed or self._is_outdated(task, context)
            return Void(unfit) if unfit else None
        saved, identity = context.step, step.identity
        if saved is not None and saved != identity and not is_same_step(saved, identity):
            links = self._tokens.tasks[task.task_id].links
            fallbacks = () if links is None else links.fallbacks
            if not any(is_same_step(saved, handler.step.identity) for handler in fallbacks):
                self._mismatches[task.task_id, saved, identity] = None
        if unfit:
            return Void(f"its value {unfit}, which does not fit its outputs")
        takes_previous = self._tokens.takes_previous(task, context)
        previous = self._tokens.previous_of(task) if takes_previous else None
        if previous is not None and (previous.task_id in self.again or not is_over(previous)):
            return self.runs_again(self._tokens.tasks[task.task_id], previous)
        initial, tokens = context._origin.initial, context._links or NO_TOKENS
        if initial is None:
            return self._changes.why_void(task, context)
        if initial != self._tokens.initial_of(task):
            return Void("its initial_context has changed")
        now = self._tokens.of(task, context)
        label = difference(tokens, now) if tokens or now else ""
        if takes_previous and not (PREVIOUS in tokens and PREVIOUS in now):  # one of the runs has no links
            label = difference(tokens, now, PREVIOUS) if _is_made_from(context, previous) else PREVIOUS
        if label:
            name = label.removeprefix(CONDITION).removeprefix(FALLBACK)
            return Void(f"it was made from another value of '{name}'")
        file = "" if self._saved.files is None else self._saved.files.why_void(task, context)
        void = Void(file, Cause.INTENT) if file else self._changes.why_void(task, context)
        asks = void is None and self.asks and step.valid is not None
        return Void(INVALID, Cause.INTENT) if asks and not self._is_valid(task, context) else void

    def _is_outdated(self, task: Task, context: Context) -> bool:
        """Returns whether a later run than that of the value has made what it takes, so that it was to run again.

        A list that is written down, or a parameter, may have changed since: the token of its items does not show what
        the last run left, but their times do.
        """
        links, tasks = self._tokens.tasks[task.task_id].links, self._tokens.tasks
        previous = self._tokens.previous_of(task) if self._tokens.takes_previous(task, context) else None
        if previous is not None and context._previous == previous.task_id:
            runs = context._source, previous.current_context._origin.run
            if all(map(RUN_TOKEN.fullmatch, runs)) and runs[0] != runs[1]:
                return True
        if links is None or context._links is None:
            return False
        was, now = context._links, self._tokens.of(task, context)
        if was == now:  # a cached value is as old as its first run
            return False
        is_listed, whole = False, links.at()._replace(levels=()).value_sources()  # entries are known by value
        for source in map(tasks.__getitem__, links.value_sources()):
            if source.is_mapped and source.links is not None:
                lists = lists_behind(source.links.innermost, tasks)
                if source.links.nest is not None or not all(isinstance(one, int) for one in lists):
                    is_listed = True
                    made = [item.current_context for item in source.items if item.has_value]
                    if source.task_id in whole and any(_is_later(one, context) for one in made):
                        return True
        labels = [label for label in was.keys() & now.keys() if _has_later_run(was[label], now[label])]
        return any(not is_listed or OF_RUN.search(was[label]) for label in labels)

    def _is_valid(self, task: Task, context: Context) -> bool:
        """Returns what `valid` of the step returns for a value. Raises ValidityUnknown unless that is a bool."""
        key = task.task_id, task.key_suffix if isinstance(task, Item) else ""
        if key not in self._answers:
            answer = _ask(task, context)
            if isinstance(answer, str):
                if not self._is_plan:
                    raise ValidityUnknown(f"{task.task_id} {task.name}", answer)
                self.unknown.setdefault(task.task_id, f"if it is valid: {answer}")
            self._answers[key] = answer is True
        return self._answers[key]

    def note(self, task: Task, context: Context) -> str:
        """Returns a note that a checkpoint is restored without comparing its inputs; "" if they are compared."""
        initial, has_inputs = self._tokens.initial_of(task), context._origin.initial is not None
        links = context._links
        incomparable = [label for label, token in links.items() if token == "=?"] if links else ()
        if initial == INCOMPARABLE:
            why = "its initial_context can't be compared with the earlier one: no storage could keep such a value"
        elif incomparable:
            why = f"its '{incomparable[0]}' can't be compared with the earlier one: no storage could keep such a value"
        elif not has_inputs and initial != NO_INITIAL:
            why = "its checkpoint does not record which initial_context it was made with"
        elif not has_inputs and task.links is not None and task.links.value_sources():
            why = "its checkpoint does not record which values it was made from"
        elif not has_inputs and self._saved.files is not None and task.step.files and find_paths(context.storage):
            why = "its checkpoint does not record the states of its files"
        else:
            return ""
        return f"Task {task.task_id} {task.name} is restored, though {why}."

    def why_changed(self, item: Task) -> Void | None:
        """Returns why the code of an item, or an option, has outdated its checkpoint; None if neither has."""
        with contextlib.suppress(CheckpointUnreadable):  # which concerns the run that asks for the item
            context = self._saved.of(item)
            return None if context is None else self._changes.why_void(item, context)
        return None


def _ask(task: Task, context: Context) -> bool | str:
    """Makes an attempt of the `valid` of a task's step, in this process. Raises KeyboardInterrupt.

    Returns its answer, or as a text why there is none.
    """
    assert task.step.valid is not None
    value = context.storage
    with contextlib.suppress(Exception):  # of a type that can't be copied; steps of a run share its value, too
        value = copy.deepcopy(value)
    step = Action(functools.partial(task.step.valid, value), Policy(timeout=VALID_TIMEOUT))
    loops = Loops()
    remember_process()
    try:
        outcome = attempt(Call(task.task_id, 0, step, NOTHING, NOTHING, task.workflow_id), loops)
    finally:
        restore_handler()
        loops.close()
    if isinstance(outcome, Returned):
        return outcome.value if type(outcome.value) is bool else f"valid() returned {outcome.value!r}"
    if isinstance(outcome, TimedOut):
        return f"valid() did not return within {VALID_TIMEOUT:g} s"
    if not isinstance(outcome, Raised):
        return "valid() was interrupted"
    return f"valid() raised {outcome.failure.exception}: {outcome.failure.message}".rstrip(".: ")


def _is_later(value: Context, other: Context) -> bool:
    """Returns whether a later run than that of another value has made a value. One without a checkpoint has no run."""
    run = value._origin.run
    return value.time > other.time and run != other._origin.run and RUN_TOKEN.fullmatch(run) is not None


def _has_later_run(was: str, now: str) -> bool:
    """Returns whether two tokens of one task show two runs. Those of values from outside begin with =."""
    (name, _, run), (name_now, _, run_now) = was.rpartition(":"), now.rpartition(":")
    return bool(name) and name == name_now and run != run_now and "=" not in (run[:1], run_now[:1])


def _is_made_from(context: Context, source: Task | None) -> bool:
    """Returns whether a value was made from the value that a task has now; None for from none."""
    if source is None:
        return context._previous is None
    return context._previous == source.task_id and context._source == source.current_context._origin.run
