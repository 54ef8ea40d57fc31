"""EarlierRuns: the checkpoints of earlier runs, and which of them a resume restores. It only reads."""

import contextlib
import copy
import errno
import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Final

from dotflow.abc.storage import Storage
from dotflow.core.action import Action
from dotflow.core.attempt_id import ID_LENGTH
from dotflow.core.call import Call
from dotflow.core.context import NO_ORIGIN, NOTHING, Context, shared_origin
from dotflow.core.events import NOT_ASKED_FOR, NOT_NEEDED, TaskRestored
from dotflow.core.item_counts import rounds_of
from dotflow.core.links import Links, Nest
from dotflow.core.outcome import Raised, Returned, TimedOut
from dotflow.core.outputs import why_unfit
from dotflow.core.policy import Policy
from dotflow.core.task import Task
from dotflow.core.types.status import TypeStatus
from dotflow.errors import CheckpointMismatch, CheckpointUnreadable, DotflowError, StorageError, ValidityUnknown
from dotflow.graph.gather import NOT_ENDED, ByItem, Skip, gather, is_over, unmet_need
from dotflow.graph.linked_task import Item, LinkedTask, MapRound, beside, outputs_of
from dotflow.graph.maps import items_of, record_ended, record_opened, record_skipped, verdict
from dotflow.graph.wiring import PREVIOUS, lists_behind
from dotflow.resume.changed_code import ChangedCode, is_same_step
from dotflow.resume.checkpoint_keys import CheckpointKeys
from dotflow.resume.choice import UNFINISHED_ONLY, Resume
from dotflow.resume.files import ChangedFiles, SavedFiles
from dotflow.resume.tokens import (
    CONDITION,
    FALLBACK,
    INCOMPARABLE,
    NO_INITIAL,
    NO_TOKENS,
    Tokens,
    always_takes_previous,
    difference,
)
from dotflow.worker.attempt import attempt, remember_process
from dotflow.worker.deadline import restore_handler
from dotflow.worker.files import find_paths
from dotflow.worker.loops import Loops

TAKES: Final = "it takes the value of"  # begins the reason of a checkpoint whose source runs again

ROUND_AGAIN: Final = "a round before it runs again"

VALID_TIMEOUT: Final = 30.0  # seconds of each call of a step's `valid`
INVALID: Final = "its valid() returned False"

COMPLETED: Final = TypeStatus.COMPLETED
OVER: Final = (COMPLETED, TypeStatus.SKIPPED)

#: An item, its checkpoint, and why that is void or the item is skipped; "" where it is restored.
Judged = tuple[Item, Context | None, Skip | str]


@dataclass
class Restoration:
    """The decisions on the checkpoints of a workflow.

    Attributes:
        restored: The valid contexts, by task id.
        void: The tasks and items whose checkpoint is void, with the reason, in the order of `add`.
        missing: The ids of the tasks that lack a checkpoint, their own or that of an item, in this order.
        notes: Notes on values that are restored without comparing their inputs.
        not_needed: The tasks that don't run, with the reason: they have no checkpoint and no task that runs needs them,
            or were not asked for.
        not_needed_items: The items of other tasks that don't run, since no item that runs needs them.
        whole_maps: The mapped tasks of which all items are restored, and the number of these.
        left_open: The cleanups that did not complete in the last run, with the ids of their runs.
        unknown: The tasks whose validity is unknown, with the reason, in a plan.
        edited: The tasks that are given a file that has changed since a run was cut off, and counts as its work.
        undecided: The tasks with a checkpoint that take what only the run knows, with the first of these sources.
    """

    restored: dict[int, Context] = field(default_factory=dict)
    void: list[tuple[Task, str]] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    not_needed: dict[int, str] = field(default_factory=dict)
    not_needed_items: Mapping[int, Collection[int]] = field(default_factory=dict)
    whole_maps: dict[int, int] = field(default_factory=dict)
    left_open: Mapping[int, str] = field(default_factory=dict)
    unknown: dict[int, str] = field(default_factory=dict)
    edited: dict[int, str] = field(default_factory=dict)
    undecided: dict[int, int] = field(default_factory=dict)


@dataclass
class RestoredItems:
    """The decisions on the items of open maps.

    Attributes:
        values: The valid contexts by index, by the id of their task.
        void: The items whose checkpoint is void, with the reason, in the order of `add`.
        not_needed: The items without checkpoints that don't run, by the id of their task.
        whole_rounds: The rounds of which all items are restored, by the id of their map.
    """

    values: dict[int, dict[int, Context]] = field(default_factory=dict)
    void: list[tuple[Task, str]] = field(default_factory=list)
    not_needed: dict[int, set[int]] = field(default_factory=dict)
    whole_rounds: dict[int, set[int]] = field(default_factory=dict)


class EarlierRuns:
    """The checkpoints of earlier runs of one workflow, for a new run or a plan of one.

    Args:
        storage: Where they are saved.
        workflow_id: The workflow.
        tokens: What the values of the tasks depend on. The decisions are recorded in its tasks.
        changes: Compares the code of the steps with that which made the checkpoints.
        log_line: Writes a line into the log.
        resume: Which earlier runs count.
        digest_limit: The size up to which files are read for a digest; None to decide without the files of these runs.
        asks: Whether the steps' `valid` are called.
        is_plan: Whether a `valid` that fails is noted, and raises nothing.
        left_out: The ids of the tasks that were not asked for.

    Attributes:
        first: The first value of the last run among the checkpoints that were read; None without one.
        has_values: Whether any of them has a record of its inputs.
        files: The files of these runs; None without them.
    """

    def __init__(
        self,
        storage: Storage,
        workflow_id: str,
        tokens: Tokens,
        changes: ChangedCode,
        log_line: Callable[..., None],
        *,
        resume: Resume,
        digest_limit: int | None = None,
        asks: bool = False,
        is_plan: bool = False,
        left_out: Collection[int] = (),
    ) -> None:
        self.first: Context | None = None
        self.has_values = False
        self._storage = storage
        self._keys = CheckpointKeys(storage, tokens.tasks)
        self._tokens = tokens
        self._changes = changes
        self._log_line = log_line
        self._resume = resume
        self.files: ChangedFiles | None = None
        if digest_limit is not None:
            self.files = ChangedFiles(SavedFiles(storage, workflow_id), tokens, digest_limit)
        self._may_ask = asks and any(task.step.valid for task in tokens.tasks)
        self._is_plan = is_plan
        self._asks = False  # once all else is decided
        self._answers: dict[tuple[int, str], str] = {}  # why values are invalid, "" for valid ones
        self._unknown: dict[int, str] = {}
        self._task_count = 0  # of the last run
        self._last_origin = NO_ORIGIN
        self._lacks_inputs = False  # whether a checkpoint has no record of its inputs
        self._run_again: set[int] = set()  # tasks that are not restored, or not all of their items
        self._unsure: set[int] = set()  # those of them of which all may be restored in the run
        self._undecided: dict[int, Context] = {}  # of the tasks among these, by task id
        self._is_mixed = False  # whether the last run left a value that it was to make anew
        self._counts_all = False  # whether it looks at what the last run has left, and not at what counts now
        self._left_out = left_out
        self._outdated: set[int] = set()  # of those left out, the ones made from a value that the run makes anew
        self._decided = RestoredItems()  # of the maps that decide() could open
        self._listed: dict[int, dict[int, MapRound]] = {}  # by map in rounds, the rounds whose items are decided
        self._running: set[int] = set()  # tasks that run for certain, and need unsaved values
        self._mismatches: dict[tuple[int, str, str], None] = {}  # each once, not for each item

    def decide(self) -> Restoration | None:
        """Returns what a resume restores; None if all tasks run.

        Raises:
            CheckpointMismatch: Another step made one of the checkpoints, and they may be restored.
            CheckpointUnreadable: One of them can't be read.
        """
        if self.files is not None:
            with usable(self._storage):
                self.files.read()
        if self._resume in UNFINISHED_ONLY and not self._is_unfinished():
            return None
        result = self._decide_values()
        while self._resume != "anew":
            if self.files is None or not self._makes_void(self.files, result):
                if self._asks or not self._may_ask:
                    break
                self._asks = True
            self._begin_again()
            result = self._decide_values()
        result.unknown = self._unknown
        self._raise_mismatches()
        tasks, left_open = self._tokens.tasks, result.left_open
        for task_id, run_id in left_open.items():
            if tasks[task_id].status is not TypeStatus.SKIPPED:
                note = f"did not complete in run {run_id[:ID_LENGTH]}: it runs again."
                result.notes.append(f"Task {task_id} {tasks[task_id].name} {note}")
        partly = [task.task_id for task in tasks if task.items and any(item.restored_from for item in task.items)]
        restored = {*result.restored, *partly}
        if self._resume == "finish" and not restored and not left_open:  # it would be a new run
            return None
        result.notes += self._changes.notes(restored)
        if self.files is not None:
            lines, result.edited = self.files.notes()
            result.notes += lines
        return result

    def _begin_again(self) -> None:
        """Forgets the decisions, and takes new records for the next ones."""
        self._tokens.use([task._new_record(task.workflow_id, task.run_id) for task in self._tokens.tasks])
        self._run_again.clear()
        self._unsure.clear()
        self._undecided.clear()
        self._listed.clear()
        self._outdated.clear()

    def _decide_values(self) -> Restoration:
        """Returns the decisions by the values, and by the files that are known to make some of them void."""
        tasks, left_open = self._tokens.tasks, self._left_open() if self._tokens.has_links else {}
        result = Restoration(left_open=left_open)
        self._decided = RestoredItems(void=result.void)
        # Read first: in turns with the decisions it takes a fifth longer.
        found = [
            self._read(task)
            if leaves_checkpoint(task) and not task.is_mapped and task.task_id not in self._left_out
            else None
            for task in tasks
        ]
        for task, context in zip(tasks, found, strict=True):
            if task.task_id in self._left_out:
                self._leave_out(task, result)
            elif isinstance(task, LinkedTask) and task.is_mapped:
                self._restore_map(task, result)
            else:
                self._restore_task(task, context, result)
        result.not_needed = dict.fromkeys(self._left_out, NOT_ASKED_FOR)
        result.not_needed |= dict.fromkeys(self._not_needed(left_open), NOT_NEEDED)
        result.not_needed_items = self._decided.not_needed
        return result

    def _makes_void(self, files: ChangedFiles, result: Restoration) -> bool:
        """Returns whether files make more checkpoints void than *result* knows of."""
        tasks = self._tokens.tasks
        unsaved = {task.task_id for task in tasks if not task.step.checkpoint} - result.not_needed.keys()
        running = {task_id for task_id in self._run_again | unsaved if not tasks[task_id].is_cleanup}
        return files.find_void(running - result.not_needed.keys(), running & {*result.missing, *unsaved})

    def _is_unfinished(self) -> bool:
        """Returns whether a task that the last run had is without a checkpoint, or a cleanup of it did not complete.

        Of the last run all checkpoints count: what has changed since then does not show what its conditions skipped.
        """
        self._counts_all, self._is_mixed = True, False
        result = self._decide_values()
        self._counts_all = False
        self._begin_again()
        if result.left_open or self._is_mixed:
            return True
        if self._lacks_inputs:
            if self._resume != "finish":  # the new run that follows reports it
                self._log_line(
                    f"{type(self._storage).__name__} keeps values only, which don't show whether the last run "
                    "finished: all tasks run."
                )
            return False
        if not result.missing:
            return False
        with usable(self._storage):
            excused = self._keys.read_left_out()
        missing = [task_id for task_id in result.missing if self._tokens.tasks[task_id].key_name not in excused]
        return bool(missing) and missing[0] < self._task_count

    def restore_items(self, tasks: Sequence[LinkedTask]) -> RestoredItems:
        """Returns the decisions on the items of open maps: one, or those of a workflow for each item together.

        Those on the items of a map in rounds are asked for in each round.
        """
        result = RestoredItems()
        if isinstance(record := tasks[0], MapRound):
            known = self._decided.values.get(record.task_id, {})
            if record.item in self._listed.get(record.task_id, ()):  # decided before, since their list was known
                result.values[record.task_id] = {one.item: known[one.item] for one in record.items if one.item in known}
            else:
                self._note_items(record, self._judge_items(record), result)
            self._raise_mismatches()
            return result
        for task in tasks:
            judged = self._listed.get(task.task_id, {}).values()
            result.whole_rounds[task.task_id] = {record.item for record in judged if record.status in OVER}
        tasks, open_tasks = [task for task in tasks if not task.is_map_in_rounds], []
        for task in tasks:
            if task.task_id in self._decided.values:
                result.values[task.task_id] = self._decided.values.pop(task.task_id)
                result.not_needed[task.task_id] = self._decided.not_needed.pop(task.task_id, set())
            else:
                open_tasks.append(task)
        if open_tasks and open_tasks[0].links.nest is not None:
            self._judge_together(open_tasks, result)
        elif open_tasks and tasks[0].step.checkpoint:
            if unsaved := self._unsaved_before(tasks[0]):
                self._judge_together([*unsaved, tasks[0]], result)
            else:
                self._note_items(tasks[0], self._judge_items(tasks[0]), result)
        self._raise_mismatches()
        return result

    def _unsaved_before(self, task: LinkedTask) -> list[LinkedTask]:
        """Returns the unsaved maps that a map goes over while their items still run, in the order of `add`."""
        found: dict[int, LinkedTask] = {}
        for source in map(self._tokens.tasks.__getitem__, () if task.links.is_cross else task.links.list_sources()):
            if not isinstance(source, LinkedTask) or source.step.checkpoint:
                continue
            if any(item.status in NOT_ENDED for item in source.items):
                found |= {one.task_id: one for one in (*self._unsaved_before(source), source)}
        return [found[task_id] for task_id in sorted(found)]

    def _judge_together(self, tasks: Sequence[LinkedTask], result: RestoredItems) -> None:
        """Judges the items of several tasks, in new records, since each one depends on those before it."""
        records = self._tokens.tasks
        judged = [*records]
        for task in tasks:
            judged[task.task_id] = task._new_record(task.workflow_id, task.run_id)
        self._tokens.use(judged)
        try:
            for task in tasks:
                record = judged[task.task_id]
                assert isinstance(record, LinkedTask)
                record._open(items_of(record, judged, self._tokens.params))
                self._note_items(record, self._judge_items(record), result, has_records=True)
            self._not_needed_items(tasks[-1].links.nest, result)
        finally:
            self._tokens.use(records)

    def _note_items(
        self,
        task: LinkedTask,
        judged: Iterable[Judged],
        result: RestoredItems,
        *,
        has_records: bool = False,
    ) -> None:
        """Notes the decisions on the items of a map; with *has_records* in their records, too."""
        values, is_saved = result.values.setdefault(task.task_id, {}), leaves_checkpoint(task)
        for item, context, why in judged:
            if isinstance(why, Skip):
                if has_records:
                    record_skipped(item, why.reason)
                why = why.reason
            if context is None:
                continue
            if why:
                if is_saved:
                    result.void.append((item, why))
                continue
            if has_records:
                item._apply(TaskRestored(task.task_id, context, NOTHING, item.item))
            if is_saved:
                values[item.item] = context

    def _left_open(self) -> dict[int, str]:
        """Returns the cleanups that did not complete, with the id of the run that they belong to."""
        with usable(self._storage):
            marks = {
                task.task_id: self._storage.get(self._keys.of_cleanup(task)).storage
                for task in self._tokens.tasks
                if task.is_cleanup and is_noted(task) and task.task_id not in self._left_out
            }
        return {task_id: run_id for task_id, run_id in marks.items() if isinstance(run_id, str)}

    def last_run(self) -> str:
        """Returns id and moment of the last run, for the log; "" if no value of it was read."""
        if self.first is None or self.first.inputs is None:
            return ""
        run_id = self.first.inputs.run[:ID_LENGTH]
        return f"Run {run_id}, whose first value is of {self.first.time.astimezone():%Y-%m-%d %H:%M:%S}"

    def _raise_mismatches(self) -> None:
        mismatches, self._mismatches = list(self._mismatches), {}  # those of another map are its own
        if mismatches:
            raise CheckpointMismatch(mismatches)

    def _empty_context(self, task: Task) -> Context:
        """Returns an empty context that stands for a value without a checkpoint."""
        context = Context(None, task.task_id, task.workflow_id, step=task.step.identity)
        code = self._changes.code_of(task, context)  # that of today: nothing shows whether it has changed
        origin = shared_origin(self._tokens.initial_of(task), self._tokens.stable_run(task), code)
        context._set_inputs(origin, NOTHING, self._tokens.of(task, context))
        return context

    def _read(self, task: Task) -> Context | None:
        """Returns the checkpoint of a task or an item; None if it has none."""
        storage = self._storage
        key = "?"
        try:
            key = self._keys.of(task)
            context = storage.get(key)
            if not isinstance(context, Context):
                raise TypeError(f"get({key!r}) returned a {type(context).__name__}, not a Context")
            if context.task_id is None:
                if context.storage is None and not storage.contains(key):
                    return None
                context = Context(context, task.task_id, task.workflow_id)  # the value alone was saved
            elif context.task_id != task.task_id and self._tokens.tasks[task.task_id].key_name != str(task.task_id):
                context.task_id = task.task_id  # a named task may have moved
            elif context.task_id != task.task_id:
                raise ValueError(f"get({key!r}) returned task {context.task_id}'s value for task {task.task_id}")
        except CheckpointUnreadable as error:
            where = f"{type(storage).__name__} under {key!r}"
            raise error.at(where, f"{task.task_id} {task.name}") from error.__cause__
        except DotflowError:  # already in our words
            raise
        except Exception as error:  # the storage may be the user's
            raise storage_error(storage, error) from error
        if self.files is not None:
            self.files.note(task, context)
        origin = context._origin
        if origin.initial is None:
            self._lacks_inputs = True
            return context
        self.has_values = True
        if origin is not self._last_origin:  # most values share one
            self._last_origin = origin
            self._task_count = max(self._task_count, origin.tasks)
        if task.step.cache is None and (self.first is None or context.time < self.first.time):
            self.first = context  # a cached value may be older than its run
        return context

    def _restore_task(self, task: Task, context: Context | None, result: Restoration) -> None:
        links, is_saved = task.links, leaves_checkpoint(task)
        if not task.step.checkpoint and not task.is_cleanup:
            context = self._empty_context(task)
        unmet = None if links is None else self._unmet_need(links)
        if links is not None and context is not None and is_saved and self._is_undecided(task, context, result):
            return
        # Without a checkpoint nothing is restored.
        reason = "" if links is None else (None if is_saved else unmet) or self._judge(links)
        if isinstance(reason, Skip):
            record_skipped(task, reason.reason)
            if context is not None and is_saved:
                result.void.append((task, reason.reason))
            return
        if context is not None:
            reason = reason or self._why_void(task, context)
            if not reason:
                task._apply(TaskRestored(task.task_id, context, NOTHING))
                if is_saved:
                    self._note(task, context, result)
                    result.restored[task.task_id] = context
                return
            if is_saved:
                result.void.append((task, reason))
        self._go_on_without(task, unmet, result, is_missing=context is None)

    def _is_undecided(self, task: Task, context: Context, result: Restoration) -> bool:
        """Returns whether only the run shows that a checkpoint counts: all items of a map that it takes may."""
        assert task.links is not None
        made = self._run_again.intersection(self._needs_of_value(task, context))
        if not made or not made <= self._unsure or self._changes.why_void(task, context):
            return False
        self._unsure.add(task.task_id)
        self._run_again.add(task.task_id)
        self._undecided[task.task_id] = context
        result.undecided[task.task_id] = min(made)
        return True

    def _needs_of_value(self, task: Task, context: Context) -> Sequence[int]:
        """Returns the ids of the tasks that the value of a task was made from, or depends on."""
        previous = self._tokens.previous_of(task) if self._tokens.takes_previous(task, context) else None
        sources = () if task.links is None else task.links.value_sources()
        return [*sources, *([] if previous is None else [previous.task_id])]

    def restore_task(self, task: Task) -> tuple[Context | None, str]:
        """Returns the context of a task that was undecided before the run, or why it is void. Its sources have ended.

        A source that has failed in this run is as one that was made anew.
        """
        context, tasks = self._undecided.pop(task.task_id, None), self._tokens.tasks
        if context is None or task.links is None:  # it has waited for an approval since
            return None, ""
        failed = [one for one in self._needs_of_value(task, context) if tasks[one].status is TypeStatus.FAILED]
        if failed:
            return None, f"{TAKES} task {failed[0]} {tasks[failed[0]].name}, which failed"
        try:
            lack = gather(task.links, tasks, self._tokens.params).lack
        except Exception as error:  # the values' own code; in the run it fails the task
            return None, f"its conditions raised {type(error).__name__}"
        why = self._why_void(task, context) if lack is None else lack.reason
        self._raise_mismatches()
        if why:
            return None, why
        self._run_again.discard(task.task_id)
        return context, ""

    def _leave_out(self, task: Task, result: Restoration) -> None:
        """Records that a task was not asked for. It keeps its checkpoints, but for those that this run outdates."""
        record_skipped(task, NOT_ASKED_FOR)
        tasks, again = self._tokens.tasks, self._run_again | self._outdated
        previous = self._previous_of_left_out(task) if always_takes_previous(task) else None
        sources = set[int]() if previous is None else {previous}
        kept: Collection[str] | None = ()
        if task.links is not None:
            sources |= set(task.links.whole()._replace(each=()).value_sources())
            taken = set(task.links.value_sources())
            by_item = {source for source in taken - sources if tasks[source].is_mapped}  # others are known by value
            sources |= by_item
            is_repeated = task.links.nest is not None and task.links.nest.repeat
            if not is_repeated and sources.isdisjoint(again - by_item):
                kept = self._kept_items(task)
        made = min(sources & again, default=None)
        has_files = self.files is not None and self.files.saved.is_there and task.step.files
        if made is None and not has_files:
            return
        what = "" if made is None else f"{TAKES} task {made} {tasks[made].name}, which "
        reason = what and f"{what}{'this run makes anew' if made in self._run_again else 'is void'}"
        for record in self.records_of(task):
            is_kept = kept is None or (isinstance(record, Item) and record.key_suffix in kept)
            why = ("" if is_kept else reason) or (self._why_files(record) if has_files else "")
            if why:
                result.void.append((record, why))
                made = task.task_id
        if made is not None:
            self._outdated.add(task.task_id)

    def _previous_of_left_out(self, task: Task) -> int | None:
        """Returns the task whose context the `previous_context` was, though it may not be asked for now either."""
        tasks, source = self._tokens.tasks, self._tokens.previous[task.task_id]
        while source is not None and tasks[source].status is TypeStatus.SKIPPED:
            task = tasks[source]
            if source in self._left_out and (not leaves_checkpoint(task) or self.records_of(task)):
                break
            source = self._tokens.previous[source]
        return source

    def records_of(self, task: Task) -> Sequence[Task]:
        """Returns the task if it has a checkpoint; of a map, records that stand for the items that have one."""
        if not leaves_checkpoint(task):
            return ()
        with usable(self._storage):
            if isinstance(task, LinkedTask) and task.is_mapped:
                return self._keys.items_of(task)
            return [task] if self._storage.contains(self._keys.of(task)) else ()

    def _kept_items(self, task: Task) -> Collection[str] | None:
        """Returns the ends of the keys of the items that a map keeps, by the map that it goes over; None for all."""
        links = task.links
        if links is None or links.is_cross or (links.nest is None and len(links.each) != 1):
            return None
        kept: Collection[str] | None = None
        for source in map(self._tokens.tasks.__getitem__, {*links.value_sources()} - links.whole_value_sources()):
            own: Collection[str] | None = None
            if source.task_id in self._left_out:
                own = self._kept_items(source)
            elif isinstance(source, LinkedTask) and source.items and source.gives_items:
                own = {item.key_suffix for item in source.items if item.status is COMPLETED}
            if own is not None:
                kept = own if kept is None else {*kept} & {*own}
        return kept

    def _why_files(self, task: Task) -> str:
        """Returns which file has outdated a checkpoint of a task that was not asked for; "" if none has.

        The run renews the states of the files, so that a later one can't find out.
        """
        assert self.files is not None
        with contextlib.suppress(CheckpointUnreadable):  # which concerns the run that asks for the task
            context = self._read(task)
            return "" if context is None else self.files.why_void(task, context)
        return ""

    def _go_on_without(self, task: Task, unmet: Skip | None, result: Restoration, *, is_missing: bool) -> None:
        """Records that a task is not restored: it runs again, unless a task that it needs is skipped."""
        if unmet:
            record_skipped(task, unmet.reason)
            return
        self._run_again.add(task.task_id)
        if is_missing and leaves_checkpoint(task):
            result.missing.append(task.task_id)

    def _unmet_need(self, links: Links) -> Skip | None:
        """Returns a Skip if a task that must have completed is skipped for certain. Those that run may complete."""
        return unmet_need([need for need in links.needs if need[-1] not in self._run_again], self._tokens.tasks)

    def _judge(self, links: Links) -> Skip | str:
        """Returns why a task is skipped, or as a text why it can't be restored; "" if neither."""
        tasks, whole = self._tokens.tasks, links.whole_value_sources()
        for source in links.value_sources():
            is_by_item = source not in whole and tasks[source].items and tasks[source].gives_items
            if source in self._run_again and not is_by_item:
                return self._runs_again(tasks[source])
        try:
            return gather(links, tasks, self._tokens.params).lack or ""
        except Exception as error:  # the values' own code; in the run it fails the task
            return f"its conditions raised {type(error).__name__}"

    def _runs_again(self, task: Task) -> str:
        why = "which runs again"
        if task.is_mapped and not task.items:
            why = "whose items are known only in the run"
        elif task.step.cache is not None:
            why = "which is made anew"
        return f"{TAKES} task {task.task_id} {task.name}, {why}"

    def _why_void(self, task: Task, context: Context) -> str:
        """Returns why the checkpoint of a task or an item is void; "" where it is valid."""
        outputs = outputs_of(task) if task.step.checkpoint else ()
        unfit = why_unfit(context.storage, outputs) if outputs else ""
        if self._counts_all:
            self._is_mixed = self._is_mixed or self._is_outdated(task, context)
            return unfit
        saved, identity = context.step, task.step.identity
        if saved is not None and not is_same_step(saved, identity):
            links = self._tokens.tasks[task.task_id].links
            fallback = None if links is None else links.fallback
            if fallback is None or not is_same_step(saved, fallback.identity):
                self._mismatches[task.task_id, saved, identity] = None
        if unfit:
            return f"its value {unfit}, which does not fit its outputs"
        takes_previous = self._tokens.takes_previous(task, context)
        previous = self._tokens.previous_of(task) if takes_previous else None
        again = previous is not None and previous.task_id in self._run_again
        if previous is not None and again and previous.task_id not in self._unsure:
            return self._runs_again(previous)
        initial, tokens = context._origin.initial, context._links or NO_TOKENS
        if initial is None:
            return self._changes.why_void(task, context)
        if initial != self._tokens.initial_of(task):
            return "its initial_context has changed"
        now = self._tokens.of(task, context)
        label = difference(tokens, now)
        if takes_previous and not (PREVIOUS in tokens and PREVIOUS in now):  # one of the runs has no links
            label = difference(tokens, now, PREVIOUS) if _is_made_from(context, previous) else PREVIOUS
        if label:
            return f"it was made from another value of '{label.removeprefix(CONDITION).removeprefix(FALLBACK)}'"
        reason = "" if self.files is None else self.files.why_void(task, context)
        reason = reason or self._changes.why_void(task, context)
        asks = not reason and self._asks and task.step.valid is not None
        return self._why_invalid(task, context) if asks else reason

    def _is_outdated(self, task: Task, context: Context) -> bool:
        """Returns whether a later run than that of the value has made what it takes, so that it was to run again.

        A list that is written down, or a parameter, may have changed since: it does not show what the last run left.
        """
        links, tasks = self._tokens.tasks[task.task_id].links, self._tokens.tasks
        if links is None or context._links is None:
            return False
        for source in map(tasks.__getitem__, links.value_sources()):
            if source.is_mapped and source.links is not None:
                lists = lists_behind(source.links.each, tasks)
                if source.links.nest is not None or not all(isinstance(one, int) for one in lists):
                    return False
        was, now = context._links, self._tokens.of(task, context)
        return any(_has_later_run(was[label], now[label]) for label in was.keys() & now.keys())

    def _why_invalid(self, task: Task, context: Context) -> str:
        """Returns that the step's `valid` returned False for a value; "" if it returned True.

        Raises ValidityUnknown for anything else, but in a plan.
        """
        key = task.task_id, task.key_suffix if isinstance(task, Item) else ""
        if key not in self._answers:
            answer = _ask(task, context)
            if isinstance(answer, str):
                if not self._is_plan:
                    raise ValidityUnknown(f"{task.task_id} {task.name}", answer)
                self._unknown.setdefault(task.task_id, f"if it is valid: {answer}")
            self._answers[key] = "" if answer is True else INVALID
        return self._answers[key]

    def _note(self, task: Task, context: Context, result: Restoration) -> None:
        """Notes that a checkpoint is restored without comparing its inputs, if they are not compared."""
        initial, has_inputs = self._tokens.initial_of(task), context._origin.initial is not None
        incomparable = [label for label, token in (context._links or NO_TOKENS).items() if token == "=?"]
        if initial == INCOMPARABLE:
            why = "its initial_context can't be compared with the earlier one: no storage could keep such a value"
        elif incomparable:
            why = f"its '{incomparable[0]}' can't be compared with the earlier one: no storage could keep such a value"
        elif not has_inputs and initial != NO_INITIAL:
            why = "its checkpoint does not record which initial_context it was made with"
        elif not has_inputs and task.links is not None and task.links.value_sources():
            why = "its checkpoint does not record which values it was made from"
        elif not has_inputs and self.files is not None and task.step.files and find_paths(context.storage):
            why = "its checkpoint does not record the states of its files"
        else:
            return
        result.notes.append(f"Task {task.task_id} {task.name} is restored, though {why}.")

    def _restore_loop(self, tasks: Sequence[LinkedTask], nest: Nest, result: Restoration) -> None:
        """Judges the rounds of an added workflow in turn: those that are known to begin, by what their tasks take."""
        unmet = {task.task_id: self._unmet_need(task.links.whole()) for task in tasks}
        reasons = {
            task.task_id: (None if task.step.checkpoint else unmet[task.task_id]) or self._judge(task.links)
            for task in tasks
        }
        needed = [reasons[task_id] for task_id in (nest.result, nest.until) if task_id is not None]
        lacking = next((reason for reason in needed if isinstance(reason, Skip)), None)
        rounds = []
        for task in tasks:
            reason = lacking or reasons[task.task_id]
            if isinstance(reason, Skip):
                record_skipped(task, reason.reason)
                continue
            task._open(items_of(task, self._tokens.tasks, self._tokens.params))
            record_opened(task)
            self._decided.values[task.task_id] = {}
            rounds.append((task, reason))
        last = self._restore_rounds(rounds, nest)
        end = None if last is None else verdict(nest, last, self._tokens.tasks)
        for task, reason in rounds:
            if valid := self._decided.values[task.task_id]:
                self._note(task, next(iter(valid.values())), result)
            is_decided = end is not None and not end.failure and not reason and not task.is_cleanup
            if last is not None and not task.is_map_in_rounds:
                task._open(task.items[: last + 1])
                is_decided = is_decided and task.items[last].status in OVER
            if not is_decided:
                self._go_on_without(task, unmet[task.task_id], result, is_missing=True)
                continue
            if leaves_checkpoint(task):
                result.whole_maps[task.task_id] = len(task.items)
            assert last is not None
            item = beside(task, last)
            if item.status is COMPLETED:
                record_ended(task, item.current_context)
            else:
                record_skipped(task, item.reason)

    def _restore_rounds(self, tasks: Sequence[tuple[LinkedTask, Skip | str]], nest: Nest) -> int | None:
        """Notes which rounds are restored. Returns the number of the last one; None if they are not over.

        If a task of one round fails, so do all, so what takes the value of the last round waits for them all.

        Args:
            tasks: The tasks that have rounds, each with the reason why none of them counts.
            nest: The added workflow.
        """
        is_over, is_known = True, True  # the rounds up to here, and whether this one begins
        inputs = {task.task_id: ByItem(task, self._tokens.tasks) for task, _ in tasks}
        # All are read first: several may have the same file. After these a round may still be one of skipped tasks.
        saved = self._read_rounds([task for task, _ in tasks], nest)
        maps = {task.task_id: self._read_map(task) for task, _ in tasks if task.is_map_in_rounds}
        count = max([len(saved), *(number + 1 for of_map in maps.values() for number in of_map)])
        for number in range(nest.repeat):
            if not is_over and number >= count:
                break
            found = saved[number] if number < len(saved) else self._read_round([task for task, _ in tasks], number)
            for (task, reason), context in zip(tasks, found, strict=True):
                why = reason or ("" if is_known else ROUND_AGAIN)
                if task.is_map_in_rounds:
                    of_round = maps[task.task_id].get(number, {})
                    self._restore_map_in_round(task, inputs[task.task_id], number, of_round, why)
                    continue
                item = task.items[number]
                judged = (item, context, why) if why else self._judge_item(inputs[task.task_id], item, context)
                self._note_items(task, [judged], self._decided, has_records=True)
            if not is_known:
                continue
            counted = [task for task, _ in tasks if leaves_checkpoint(task)]
            counted = counted or [task for task, _ in tasks if not task.is_cleanup]
            is_over = is_over and all(beside(task, number).status in OVER for task in counted)
            is_known = is_over or ends_are_known(nest, number, self._tokens.tasks)
            if is_known and verdict(nest, number, self._tokens.tasks).is_end:
                return number if is_over else None
        return None

    def _restore_map_in_round(
        self,
        task: LinkedTask,
        inputs: ByItem,
        number: int,
        saved: Mapping[str, tuple[Item, Context]],
        why: str | Skip,
    ) -> None:
        """Notes which items of a map are restored in a round, if its list is known.

        Args:
            task: The map.
            inputs: What it takes by round.
            number: The number of the round.
            saved: The checkpoints of the round's items, by their keys.
            why: Why none of them counts; "" if some may.
        """
        if why:
            self._decided.void += [(item, str(why)) for item, _ in saved.values()]
            return
        record = task._open_round(number)
        why = self._why_not(inputs, record, is_missing=True)
        if isinstance(why, Skip):
            record_skipped(record, why.reason)
            self._decided.void += [(item, why.reason) for item, _ in saved.values()]
        if why:
            if asked := self._changes.why_asked_for(task):  # see _void_ahead
                self._decided.void += [(item, asked) for item, _ in saved.values()]
            return
        try:
            task._add_items(record, items_of(record, self._tokens.tasks, self._tokens.params))
        except Exception:  # NotAList, UnequalLists, or of a list type of the user; in the run it fails the round
            return
        self._listed.setdefault(task.task_id, {})[number] = record
        record_opened(record)
        found = [saved[item.key_suffix][1] if item.key_suffix in saved else None for item in record.items]
        self._note_items(record, self._judge_items(record, found), self._decided, has_records=True)
        if all(item.status in OVER for item in record.items):
            record_ended(record)

    def _read_map(self, task: LinkedTask) -> dict[int, dict[str, tuple[Item, Context]]]:
        """Returns the checkpoints of a map in rounds, by round and key. Its lists need not be known."""
        found: dict[int, dict[str, tuple[Item, Context]]] = {}
        for item in self.records_of(task):
            context = self._read(item)
            if context is not None and isinstance(item, Item) and item.round is not None:
                found.setdefault(item.round, {})[item.key_suffix] = item, context
        return found

    def _read_rounds(self, tasks: Sequence[LinkedTask], nest: Nest) -> list[list[Context | None]]:
        """Returns the checkpoints of each round, up to the first one that has none."""
        rounds = (self._read_round(tasks, number) for number in range(nest.repeat))
        return list(takewhile(lambda found: any(context is not None for context in found), rounds))

    def _read_round(self, tasks: Sequence[LinkedTask], number: int) -> list[Context | None]:
        return [
            self._read(task.items[number]) if leaves_checkpoint(task) and not task.is_map_in_rounds else None
            for task in tasks
        ]

    def _restore_map(self, task: LinkedTask, result: Restoration) -> None:
        nest = task.links.nest
        if nest is not None and nest.repeat:
            if task.task_id == nest.tasks[0]:
                tasks = [self._tokens.tasks[task_id] for task_id in nest.tasks]
                self._restore_loop([one for one in tasks if isinstance(one, LinkedTask)], nest, result)
            return
        unmet = self._unmet_need(task.links.whole())
        reason = (None if task.step.checkpoint else unmet) or self._judge(task.links)
        if isinstance(reason, Skip):
            record_skipped(task, reason.reason)
            return
        if self._open(task, result):
            judged: Iterable[Judged] = self._judge_items(task)
            if reason:
                judged = [(item, context, reason) for item, context, _ in judged]
            self._note_items(task, judged, self._decided, has_records=True)
            if valid := self._decided.values[task.task_id]:
                self._note(task, next(iter(valid.values())), result)
            is_decided = all(item.status in OVER for item in task.items)
            # Without a checkpoint, it is judged when its needs are over.
            waits = bool(unmet) or any(need[-1] in self._run_again for need in task.links.needs)
            if not reason and is_decided and not (waits and all(item.status is not COMPLETED for item in task.items)):
                if leaves_checkpoint(task):
                    result.whole_maps[task.task_id] = len(task.items)
                record_ended(task)
                return
        elif not self._void_ahead(task):
            whole = self._run_again.intersection(task.links.whole_value_sources())
            if task.links.nest is None and task.step.checkpoint and whole <= self._unsure:
                self._unsure.add(task.task_id)
        is_missing = any(item.status is TypeStatus.NOT_STARTED for item in task.items)
        self._go_on_without(task, unmet, result, is_missing=is_missing)

    def _void_ahead(self, task: LinkedTask) -> bool:
        """Voids the items of a map whose list is not known yet, where only the options of this run say so.

        A run that fails, or is killed, before it knows the list would leave them to one without these options.
        """
        if self._counts_all:
            return False
        whole = task.links.whole_value_sources().difference(task.links.list_sources())
        sources = [source for source in map(self._tokens.tasks.__getitem__, whole) if not source.step.checkpoint]
        unsaved = next(filter(self._changes.is_rerun, sources), None)  # whose token shows no rerun
        why = self._changes.why_asked_for(task) or (self._runs_again(unsaved) if unsaved is not None else "")
        for item in self.records_of(task) if why or self._resume == "changed" else ():
            if reason := why or self._why_changed(item):
                self._decided.void.append((item, reason))
        return bool(why)

    def _why_changed(self, item: Task) -> str:
        with contextlib.suppress(CheckpointUnreadable):  # which concerns the run that asks for the item
            context = self._read(item)
            return "" if context is None else self._changes.why_void(item, context)
        return ""

    def _open(self, task: LinkedTask, result: Restoration) -> bool:
        """Makes the items of a map. Returns False if its lists are not known yet."""
        tasks = self._tokens.tasks
        for source in map(tasks.__getitem__, task.links.list_sources()):
            is_by_item = source.gives_items and source.items and not task.links.is_cross
            if not is_by_item and not (source.has_value and source.step.checkpoint):
                return False
        try:
            task._open(items_of(task, tasks, self._tokens.params))
        except Exception:  # NotAList, UnequalLists, or of a list type of the user; in the run it fails the task
            result.missing.append(task.task_id)
            return False
        record_opened(task)
        return True

    def _judge_items(self, task: LinkedTask, found: Sequence[Context | None] | None = None) -> Iterator[Judged]:
        """Yields what is decided on each item.

        Args:
            task: The map, or one round of it.
            found: The checkpoints, if they have been read.
        """
        if found is None:  # All are read first: several may have the same file.
            found = [self._read(item) if leaves_checkpoint(task) else None for item in task.items]
        inputs = ByItem(task, self._tokens.tasks)
        for item, context in zip(task.items, found, strict=True):
            yield self._judge_item(inputs, item, context)

    def _judge_item(self, inputs: ByItem, item: Item, context: Context | None) -> Judged:
        is_alone = inputs.is_plain and not item.sources()
        if not is_alone and (why := self._why_not(inputs, item, is_missing=context is None)):
            return item, context, why
        if context is None and not item.step.checkpoint:
            context = self._empty_context(item)
        return item, context, "" if context is None else self._why_void(item, context)

    def _why_not(self, inputs: ByItem, item: Item | MapRound, *, is_missing: bool) -> Skip | str:
        """Returns why an item is skipped or, as a text, runs again, by what is beside it; "" for neither."""
        if not all(map(is_over, inputs.value_sources(item))):
            is_round = rounds_of(self._tokens.tasks[item.task_id])
            return f"{TAKES} {'a round' if is_round else 'an item'} that runs again"
        try:
            got = inputs.gather(item)
        except Exception as error:  # the values' own code; in the run it fails the item
            return f"its conditions raised {type(error).__name__}"
        if got.lack is not None:
            return got.lack
        # Order does not count for what is restored.
        return (inputs.unmet_need(item) or "") if is_missing and inputs.is_ready(item) else ""

    def _not_needed_items(self, nest: Nest | None, result: RestoredItems) -> None:
        """Notes the items of an added workflow that don't run, of those whose list is known only in the run."""
        tasks = self._tokens.tasks
        for task_id in reversed(() if nest is None else nest.tasks):
            task = tasks[task_id]
            if task.items and not task.step.checkpoint and not task.is_cleanup:
                others = [other for other in tasks if not other.is_cleanup and other.task_id not in self._left_out]
                takers = [other.task_id for other in others if task_id in self._needs_of(other)]
                result.not_needed[task_id] = self._unneeded(task, takers, self._running, result.not_needed)

    def _unneeded(
        self, task: Task, takers: Collection[int], running: Collection[int], not_needed: Mapping[int, set[int]]
    ) -> set[int]:
        """Returns the items of an unsaved task of an added workflow that don't run: no item that runs needs them.

        Args:
            task: The task.
            takers: The tasks that need it, without cleanups. If there are none, it runs for all items.
            running: The tasks that run.
            not_needed: The items of later tasks that don't run.
        """
        tasks, nest = self._tokens.tasks, task.links.nest if task.links is not None else None
        inside = [tasks[taker] for taker in takers if nest is not None and taker in nest.tasks]
        over = [tasks[taker] for taker in takers if self._goes_over(tasks[taker], task)]
        inside += [one for one in over if not self._takes_whole(one, task)]
        is_asked_for = not takers or self._changes.is_rerun(task)
        if is_asked_for or any(taker in running for taker in takers if tasks[taker] not in inside):
            return set()
        needed: set[int] = set()
        for taker in inside:
            if isinstance(taker, LinkedTask) and taker.is_map_in_rounds:  # a round whose list is not known has no items
                needed.update(index for index in range(len(task.items)) if taker.record_at(index).status not in OVER)
            elif taker.step.checkpoint:
                needed.update(index for index, item in enumerate(taker.items) if item.status not in OVER)
            else:
                left_out = not_needed.get(taker.task_id, ())
                needed.update(index for index in range(len(taker.items)) if index not in left_out)
        return {*range(len(task.items))} - needed

    def _goes_over(self, task: Task, source: Task) -> bool:
        """Returns whether a map, whose items are known, goes over another one item by item."""
        links = task.links
        if links is None or not task.items or links.is_cross or not source.gives_items:
            return False
        return source.task_id in links.list_sources()

    def _takes_whole(self, task: Task, source: Task) -> bool:
        """Returns whether a map that goes over another one takes its whole value or Context, too."""
        assert task.links is not None
        if source.task_id in task.links.whole_value_sources():
            return True
        is_item = PREVIOUS in [link.parameter for link in task.links.each]
        return not is_item and source.task_id in self._tokens.taken_as_previous(task)

    def _needs_of(self, task: Task) -> list[int]:
        """Returns the ids of the tasks that must end before a task, and of the one that it may take as previous."""
        return [*(task.links.sources() if task.links else ()), *self._tokens.taken_as_previous(task)]

    def _not_needed(self, left_open: Collection[int]) -> set[int]:
        """Returns the unsaved tasks that don't run in a resume, since no task that runs needs them.

        A cleanup counts as such a task only if it did not complete in the last run, or if one that runs must wait for
        its completion. A task that no other one needs runs, and so does one that was asked for.
        """
        tasks = self._tokens.tasks
        unsaved = {task.task_id for task in tasks if not task.step.checkpoint}.difference(self._left_out)
        if not unsaved:
            return set()
        cleanups = {task.task_id for task in tasks if task.is_cleanup and task.task_id not in left_open}
        unsaved -= cleanups
        running = self._run_again - unsaved - cleanups
        followers: dict[int, list[int]] = {task_id: [] for task_id in unsaved | cleanups}
        for task in tasks:
            if task.task_id in self._left_out:
                continue
            for *_, source in task.links.needs if task.links else ():
                if source in cleanups:
                    followers[source].append(task.task_id)
            for source in self._needs_of(task):
                if source in unsaved:
                    followers[source].append(task.task_id)
        left_out = set()
        self._running = running
        for task_id in sorted(followers, reverse=True):
            task = tasks[task_id]
            if task.status is TypeStatus.SKIPPED:
                continue
            takers = [taker for taker in followers[task_id] if not tasks[taker].is_cleanup]
            has_items = any(self._goes_over(tasks[taker], task) for taker in takers)  # even if it runs for none
            if task_id in unsaved and task.items and task.links and (task.links.nest or has_items):
                items = self._unneeded(task, takers, running, self._decided.not_needed)
                self._decided.not_needed[task_id] = items
                if len(items) == len(task.items) and not has_items:
                    left_out.add(task_id)
                else:
                    running.add(task_id)
                continue
            is_asked_for = not followers[task_id] or bool(self._left_out and not takers) or self._changes.is_rerun(task)
            if not running.isdisjoint(followers[task_id]) or (task_id in unsaved and is_asked_for):
                running.add(task_id)
            elif task_id in unsaved:
                left_out.add(task_id)
        return left_out


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


def ends_are_known(nest: Nest, number: int, tasks: Sequence[Task]) -> bool:
    """Returns whether it is known if another round follows the one with this number, whatever runs in that."""
    if nest.until is None:
        return True
    return tasks[nest.until].step.checkpoint and beside(tasks[nest.until], number).status is COMPLETED


def is_noted(task: Task) -> bool:
    """Returns whether it is noted that a cleanup does not complete. One for each item cleans up after this run only."""
    return task.links is not None and task.links.nest is None


def leaves_checkpoint(task: Task) -> bool:
    """Returns whether the value of the task is saved when it completes."""
    return task.step.checkpoint and not task.is_cleanup


def _has_later_run(was: str, now: str) -> bool:
    """Returns whether two tokens of one task show two runs. Those of values from outside begin with =."""
    (name, _, run), (name_now, _, run_now) = was.rpartition(":"), now.rpartition(":")
    return bool(name) and name == name_now and run != run_now and "=" not in (run[:1], run_now[:1])


def _is_made_from(context: Context, source: Task | None) -> bool:
    """Returns whether a value was made from the value that a task has now; None for from none."""
    if source is None:
        return context._previous is None
    return context._previous == source.task_id and context._source == source.current_context._origin.run


@contextlib.contextmanager
def usable(storage: Storage) -> Iterator[None]:
    """Turns an exception of the storage into the StorageError of a run that has not begun."""
    try:
        yield
    except DotflowError:  # already in our words
        raise
    except Exception as error:  # the storage may be the user's
        raise storage_error(storage, error) from error


def storage_error(storage: Storage, error: Exception) -> StorageError:
    """Returns the error of start() for an exception of the storage."""
    return StorageError(f"{type(storage).__name__} can't be used, so nothing was run", reason_of(error))


#: What to do about an error of the system.
ADVICE: Final = {
    errno.ENOSPC: "Free some space",
    errno.EDQUOT: "Free some space, or raise the quota",
    errno.EFBIG: "Raise the limit of the size of a file",
    errno.EIO: "Check the disk",
    errno.ENOLCK: "Give the storage a path on a file system with locks, such as a local disk",
}


def reason_of(error: Exception) -> str:
    """Returns the cause of an exception of the storage, and what to do."""
    cause = str(error)
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        # Without the second path of a rename, which is internal.
        advice = ADVICE.get(error.errno or 0, "Correct that, or give the storage another path")
        cause = f"{error.strerror}: {str(error.filename)!r}. {advice}"
    return f"{type(error).__name__}: {cause}"
