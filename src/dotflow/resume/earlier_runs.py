"""EarlierRuns: which checkpoints of earlier runs a resume restores, and what it need not make again. It only reads."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Final, NamedTuple

from dotflow.abc.storage import Storage
from dotflow.core.attempt_id import ID_LENGTH
from dotflow.core.context import NOTHING, Context
from dotflow.core.events import NOT_ASKED_FOR, NOT_NEEDED, TaskRestored
from dotflow.core.links import Condition, Entry, Links, Nest
from dotflow.core.masks import NO_MASKS, Masks
from dotflow.core.task import Task
from dotflow.core.types.decision import TypeDecision
from dotflow.core.types.status import TypeStatus
from dotflow.graph.gather import BY_RECORD, NOT_ENDED, ByItem, Got, Skip, gather, is_over, unmet_need
from dotflow.graph.linked_task import ROUND, InnerMap, Item, LinkedTask, Scope, nodes_of_entry
from dotflow.graph.maps import open_map, record_ended, record_opened, record_skipped, round_end, scope_of
from dotflow.resume.cache import Cache
from dotflow.resume.cache_ahead import ForeseenCache
from dotflow.resume.changed_code import ChangedCode
from dotflow.resume.choice import Resume
from dotflow.resume.demand import Demand
from dotflow.resume.files import ChangedFiles
from dotflow.resume.journal import Journal
from dotflow.resume.judge import Cause, Verdict, Void, judge
from dotflow.resume.look import TAKES, Look
from dotflow.resume.saved_values import SavedValues, leaves_checkpoint, usable
from dotflow.resume.tokens import Tokens, always_takes_previous

ROUND_AGAIN: Final = Void("a round before it runs again")

COMPLETED, FAILED = TypeStatus.COMPLETED, TypeStatus.FAILED
OVER: Final = (COMPLETED, TypeStatus.SKIPPED)
NOTHING_TAKEN: Final = Got({})

new: Final = tuple.__new__  # half the time of calling the class


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
        not_needed_items: The items of other tasks that don't run, since no item that runs needs them: the ends of their
            keys, by the id of their task.
        whole_maps: The mapped tasks of which all items are restored, and the number of these.
        left_open: The cleanups that did not complete in the last run, with the ids of their runs.
        unknown: The tasks whose validity is unknown, with the reason, in a plan.
        edited: The tasks that are given a file that has changed since a run was cut off, and counts as its work.
        undecided: The checkpoints of tasks that take what only the run knows, by task id.
        verdicts: Of a plan, those on the tasks that are neither restored nor a map that is, by task id.
        items: The valid contexts of items by the ends of their keys, by the id of their task.
        maps: The maps whose items are decided on, by the id of their task and the key of the scope in which they stand.
        unsure: The tasks that run, of which all may be restored in the run.
        may_lack: The tasks that may be skipped.
        may_lack_items: The maps of which items may be.
        outdated: Of the tasks that were not asked for, those made from a value that the run makes anew.
    """

    restored: dict[int, Context] = field(default_factory=dict)
    void: list[tuple[Task, Void]] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    not_needed: dict[int, str] = field(default_factory=dict)
    not_needed_items: dict[int, Collection[str]] = field(default_factory=dict)
    whole_maps: dict[int, int] = field(default_factory=dict)
    left_open: Mapping[int, str] = field(default_factory=dict)
    unknown: dict[int, str] = field(default_factory=dict)
    edited: dict[int, str] = field(default_factory=dict)
    undecided: dict[int, Context] = field(default_factory=dict)
    verdicts: dict[int, Verdict] = field(default_factory=dict)
    items: dict[int, dict[str, Context]] = field(default_factory=dict)
    maps: dict[int, dict[str, LinkedTask]] = field(default_factory=dict)
    unsure: set[int] = field(default_factory=set)
    may_lack: set[int] = field(default_factory=set)
    may_lack_items: set[int] = field(default_factory=set)
    outdated: set[int] = field(default_factory=set)

    def is_whole(self, node: InnerMap) -> bool:
        """Returns whether all items of a map in a scope are restored, as far as is known."""
        known = self.maps.get(node.task_id, {}).get(node.scope.key)
        return known is not None and known.status in OVER


class RestoredItems(NamedTuple):
    """The decisions on the items of maps that have opened in the run.

    Attributes:
        values: The valid contexts by the ends of their keys, by the id of their task.
        void: The items whose checkpoint is void, with the reason, in the order of `add`.
        not_needed: The ends of the keys of items without checkpoints that don't run, by the id of their task.
    """

    values: Mapping[int, Mapping[str, Context]]
    void: Sequence[tuple[Task, Void]]
    not_needed: Mapping[int, Collection[str]]


#: Checkpoints of items, with their records, by the ends of their keys.
Saved = dict[str, tuple[Item, Context]]
NO_ITEMS: Final = RestoredItems({}, (), {})


class EarlierRuns:
    """The checkpoints of earlier runs of one workflow, for a new run or a plan of one.

    Args:
        storage: Where they are saved.
        journal: What the storage has beside them.
        tokens: What the values of the tasks depend on. The decisions are recorded in its tasks.
        changes: Compares the code of the steps with that which made the checkpoints.
        log_line: Writes a line into the log.
        resume: Which earlier runs count.
        digest_limit: The size up to which files are read for a digest; None to decide without the files of these runs.
        asks: Whether the steps' `valid` are called.
        cache: The cached values, for a plan: a `valid` that fails is noted there, and raises nothing.
        masks: The secrets, which no reason of a plan shows.
        left_out: The ids of the tasks that were not asked for.

    Attributes:
        saved: What they have left.
        look: Why that does not count.
        found: The decisions.
        is_new: Whether none of them counts, in a plan.
    """

    def __init__(
        self,
        storage: Storage,
        journal: Journal,
        tokens: Tokens,
        changes: ChangedCode,
        log_line: Callable[..., None],
        *,
        resume: Resume,
        digest_limit: int | None = None,
        asks: bool = False,
        cache: Cache | None = None,
        masks: Masks = NO_MASKS,
        left_out: Collection[int] = (),
    ) -> None:
        self.saved = SavedValues(storage, journal, tokens, digest_limit)
        self.look = Look(self.saved, tokens, changes, is_plan=cache is not None)
        self.found = Restoration()
        self.is_new = False  # whether no earlier run counts
        self._cache = None if cache is None else ForeseenCache(cache)
        self._masks = masks
        self._storage = storage
        self._tokens = tokens
        self._changes = changes
        self._log_line = log_line
        self._resume = resume
        self._may_ask = asks and any(task.step.valid for task in tokens.tasks)
        self._left_out = left_out
        self._demand: Demand | None = None  # of unsaved values; None where all are saved

    def decide(self) -> Restoration | None:
        """Returns what a resume restores; None if all tasks run.

        Raises:
            CheckpointMismatch: Another step made one of the checkpoints, and they may be restored.
            CheckpointUnreadable: One of them can't be read.
        """
        look, saved = self.look, self.saved
        with usable(self._storage):
            saved.gone = saved.journal.fact("void")
            if saved.files is not None:
                saved.files.read()
        if self._resume == "unfinished" and not self._is_unfinished():
            return None
        self._decide_values()
        while True:
            if saved.files is None or not self._makes_void(saved.files):
                if look.asks or not self._may_ask:
                    break
                look.asks = True
            self._begin_again()
            self._decide_values()
        found, has_links = self.found, self._tokens.has_links
        found.unknown = look.unknown
        # Without links nothing is judged in the run, and there are no items.
        look.again = {*self._made(range(len(self._tokens.tasks)))} - found.unsure if has_links else ()
        look.raise_mismatches()
        tasks, left_open = self._tokens.tasks, found.left_open
        for task_id, run_id in left_open.items():
            if tasks[task_id].status is not TypeStatus.SKIPPED:
                note = f"did not complete in run {run_id[:ID_LENGTH]}: it runs again."
                found.notes.append(f"Task {task_id} {tasks[task_id].name} {note}")
        mapped = [task for task in tasks if task.items] if has_links else []
        partly = [task.task_id for task in mapped if any(item.restored_from for item in task.items)]
        found.notes += self._changes.notes({*found.restored, *partly})
        if saved.files is not None:
            lines, found.edited = saved.files.notes()
            found.notes += lines
        return found

    def plan(self) -> Restoration:
        """Returns what a run would do with all tasks. Raises the errors of `decide`."""
        found = self.decide() if self._resume else None
        if found is None:
            self.is_new = True
            self._begin_again()
            found = self._decide_values()
        return found

    def _begin_again(self) -> None:
        """Forgets the decisions, and takes new records for the next ones."""
        self._tokens.use([task._new_record(task.workflow_id, task.run_id) for task in self._tokens.tasks])
        self.found = Restoration()
        if self._cache is not None:
            self._cache = ForeseenCache(self._cache.cache)

    def _decide_values(self) -> Restoration:
        """Returns the decisions by the values, and by the files that are known to make some of them void."""
        tasks, found = self._tokens.tasks, self.found
        found.left_open = self.saved.left_open(self._left_out) if self._tokens.has_links and not self.is_new else {}
        # Read first: in turns with the decisions it takes a fifth longer.
        saved = [
            self.saved.of(task)
            if self._is_saved(task) and not task.is_mapped and task.task_id not in self._left_out
            else None
            for task in tasks
        ]
        for task, context in zip(tasks, saved, strict=True):
            if task.task_id in self._left_out:
                self._leave_out(task)
            elif isinstance(task, LinkedTask) and task.is_mapped:
                self._restore_map(task)
            else:
                self._restore_task(task, context)
        found.not_needed = dict.fromkeys(self._left_out, NOT_ASKED_FOR)
        if not self.is_new and not all(task.step.checkpoint for task in tasks):
            self._demand = Demand(self._tokens, self._changes, self._left_out, found.left_open)
            found.not_needed |= dict.fromkeys(self._demand.not_needed(tasks), NOT_NEEDED)
            found.not_needed_items = {task_id: self._demand.left(tasks[task_id]) for task_id in [*self._demand.items]}
        return found

    def _makes_void(self, files: ChangedFiles) -> bool:
        """Returns whether files make more checkpoints void than is known by now."""
        if not files.look():
            return False
        tasks, found = self._tokens.tasks, self.found
        unsaved = {task.task_id for task in tasks if not task.step.checkpoint} - found.not_needed.keys()
        running = {
            task.task_id
            for task in tasks
            if not task.is_cleanup and (task.task_id in unsaved or self._is_made_anew(task))
        }
        return files.find_void(running - found.not_needed.keys(), running & {*found.missing, *unsaved})

    def _is_unfinished(self) -> bool:
        """Returns whether a task that the last run had is without a checkpoint, or a cleanup of it did not complete.

        Of the last run all checkpoints count: what has changed since then does not show what its conditions skipped.
        """
        self.look.counts_all, self.look.is_mixed = True, False
        found = self._decide_values()
        self.look.counts_all = False
        self._begin_again()
        if found.left_open or self.look.is_mixed:
            return True
        if self.saved.lacks_inputs:
            self._log_line(
                f"{type(self._storage).__name__} keeps values only, which don't show whether the last run "
                "finished: all tasks run."
            )
            return False
        if not found.missing:
            return False
        with usable(self._storage):
            excused, called = self.saved.journal.fact("left_out"), self.saved.journal.fact("calls")
        names = {task_id: self._tokens.tasks[task_id].key_name for task_id in found.missing}
        missing = [task_id for task_id, name in names.items() if name not in excused]
        # The calls of a durable step that was cut off are values, too.
        return any(task_id < self.saved.task_count or names[task_id] in called for task_id in missing)

    # Tasks

    def _restore_task(self, task: Task, context: Context | None) -> None:
        found, got, unmet = self.found, NOTHING_TAKEN, None
        if task.links is not None:
            got, unmet = self.taken(task.links)
        if not (task.step.checkpoint or task.is_cleanup or self.is_new) and got.lack is None and got.made is None:
            context = self.look.stand_in(task)
        elif context is not None and task.links is not None and (made := self._undecided_by(task, got, context)):
            found.unsure.add(task.task_id)
            found.undecided[task.task_id] = context
            why = f"if the value of {self._tokens.tasks[min(made)].name} changes"
            self._conclude(task, got, Verdict(TypeDecision.OPEN, "" if got.open else why, open=got.open))
            return
        verdict = judge(task, got, unmet, context, self.look)
        _record(task, verdict)
        self._conclude(task, got, verdict)
        if not leaves_checkpoint(task):
            return
        if verdict.void is not None:
            found.void.append((task, verdict.void))
        elif context is not None:
            if note := self.look.note(task, context):
                found.notes.append(note)
            found.restored[task.task_id] = context
        elif verdict.kind is TypeDecision.RUN:
            found.missing.append(task.task_id)

    def _undecided_by(self, task: Task, got: Got, context: Context) -> list[int]:
        """Returns the sources by which only the run shows that a checkpoint counts: all items of these maps may."""
        made = self._made(self._needs_of_value(task, context))
        is_known = got.lack is not None or not self.found.unsure.issuperset(made)
        return [] if is_known or self._changes.why_void(task, context) else made

    def restore_task(self, task: Task) -> tuple[Context | None, Void | None]:
        """Returns the context of a task that was undecided before the run, or why it is void. Its sources have ended.

        A source that has failed in this run is as one that was made anew.
        """
        context = self.found.undecided.pop(task.task_id)
        assert task.links is not None
        for source in self._tasks_of(self._needs_of_value(task, context)):
            if source.status is FAILED:
                return None, Void(f"{TAKES} task {source.task_id} {source.name}, which failed", Cause.SOURCE)
        verdict = judge(task, self.taken(task.links)[0], None, context, self.look)
        self.look.raise_mismatches()
        return (context if verdict.void is None else None), verdict.void

    def _is_saved(self, task: Task) -> bool:
        """Returns whether an earlier run may have left a value of it that counts."""
        return not self.is_new and leaves_checkpoint(task)

    def is_made(self, record: Task) -> bool:
        """Returns whether the run makes the value of a record, or may make it."""
        return record.status in NOT_ENDED

    def _is_made_anew(self, record: Task) -> bool:
        """Returns whether the run makes the value of a record: what a plan finds in the cache counts so, too."""
        return record.status in NOT_ENDED or (self._cache is not None and record.restored_from == "cache")

    def _made(self, sources: Iterable[int]) -> list[int]:
        return [source for source in sources if self._is_made_anew(self._tokens.tasks[source])]

    def may_lack(self, record: Task) -> bool:
        """Returns whether such a record may end without a value."""
        return record.task_id in self.found.may_lack

    def taken(self, links: Links, not_needed: Collection[int] = ()) -> tuple[Got, Skip | None]:
        """Returns what a task takes, as far as it is known; and a Skip if a task is skipped that must have completed.

        Those that run may complete.
        """
        tasks, needs = self._tokens.tasks, links.at().needs
        try:
            got = gather(links, tasks, self._tokens.params, self._masks, ahead=self)
        except Exception as error:  # the values' own code; in the run it fails the task
            got = Got({}, void=f"its conditions raised {type(error).__name__}")
        if self._cache is not None and got.made is None and got.lack is None:
            got = got._replace(made=next(filter(self._is_made_anew, self._tasks_of(links.whole_value_sources())), None))
        if self.found.may_lack and got.open is None:
            got = got._replace(open=next(filter(self.may_lack, self._tasks_of(need[-1] for need in needs)), None))
        return got, unmet_need(needs, tasks.__getitem__, not_needed, ahead=self)

    def _conclude(self, task: Task, got: Got, verdict: Verdict) -> None:
        """Notes the verdict on a task that is neither restored nor a map that is."""
        if verdict.open is not None and not task.is_mapped:
            self.found.may_lack.add(task.task_id)
        if self._cache is None:  # only a plan shows them
            return
        if isinstance(task, LinkedTask):
            verdict = self._cache.judge(task, got, verdict, self._tokens)
        self.found.verdicts[task.task_id] = verdict

    def _needs_of_value(self, task: Task, context: Context) -> Sequence[int]:
        """Returns the ids of the tasks that the value of a task was made from, or depends on."""
        previous = self._tokens.previous_of(task) if self._tokens.takes_previous(task, context) else None
        sources = () if task.links is None else task.links.value_sources()
        return [*sources, *([] if previous is None else [previous.task_id])]

    def _tasks_of(self, ids: Iterable[int]) -> Iterator[Task]:
        return map(self._tokens.tasks.__getitem__, ids)

    # Tasks that were not asked for

    def _leave_out(self, task: Task) -> None:
        """Records that a task was not asked for. It keeps its checkpoints, but for those that this run outdates."""
        record_skipped(task, NOT_ASKED_FOR)
        tasks, outdated = self._tokens.tasks, self.found.outdated
        previous = self._previous_of_left_out(task) if always_takes_previous(task) else None
        sources = set[int]() if previous is None else {previous}
        kept: Collection[str] | None = ()
        if task.links is not None:
            sources |= set(task.links.at()._replace(levels=()).value_sources())
            taken = set(task.links.value_sources())
            by_item = {source for source in taken - sources if tasks[source].is_mapped}  # others are known by value
            sources |= by_item
            if not task.is_repeated and outdated.isdisjoint(sources - by_item) and not self._made(sources - by_item):
                kept = self._kept_items(task)
        made = min([*(sources & outdated), *self._made(sources)], default=None)
        files = self.saved.files
        has_files = files is not None and files.saved.is_there and task.step.files
        if made is None and not has_files:
            return
        what = "" if made is None else f"{TAKES} task {made} {tasks[made].name}, which "
        reason = what and f"{what}{'is void' if made in outdated else 'this run makes anew'}"
        for record in self.saved.records_of(task):
            is_kept = kept is None or (isinstance(record, Item) and record.key_suffix in kept)
            why = ("" if is_kept else reason) or (self.look.why_files(record) if has_files else "")
            if why:
                self.found.void.append((record, Void(why)))
                made = task.task_id
        if made is not None:
            outdated.add(task.task_id)

    def _previous_of_left_out(self, task: Task) -> int | None:
        """Returns the task whose context the `previous_context` was, though it may not be asked for now either."""
        tasks, source = self._tokens.tasks, self._tokens.previous[task.task_id]
        while source is not None and tasks[source].status is TypeStatus.SKIPPED:
            task = tasks[source]
            if source in self._left_out and (not leaves_checkpoint(task) or self.saved.records_of(task)):
                break
            source = self._tokens.previous[source]
        return source

    def _kept_items(self, task: Task) -> Collection[str] | None:
        """Returns the ends of the keys of the items that a map keeps, by the map that it goes over; None for all."""
        links = task.links
        if links is not None and links.nest is not None and links.nest.each and links.is_map_inside:
            return ()
        if links is None or links.is_cross or (links.nest is None and len(links.each) != 1):
            return None
        kept: Collection[str] | None = None
        for source in map(self._tokens.tasks.__getitem__, {*links.value_sources()} - links.whole_value_sources()):
            own: Collection[str] | None = None
            if source.task_id in self._left_out:
                own = self._kept_items(source)
            elif isinstance(source, LinkedTask) and source.nodes and source.gives_items:
                own = {
                    node.key_suffix if isinstance(node, Item) else node.entry_key
                    for node in source.nodes
                    if node.status is COMPLETED
                }
            if own is not None:
                kept = own if kept is None else {*kept} & {*own}
        return kept

    # Maps, of the run and in scopes, and rounds

    def _restore_map(self, task: LinkedTask) -> None:
        nest, found = task.links.nest, self.found
        if nest is not None and task.is_repeated:
            if task.task_id == nest.tasks[0]:
                self._restore_loop([one for one in self._tasks_of(nest.tasks) if isinstance(one, LinkedTask)], nest)
            return
        got, unmet = self.taken(task.links)
        if got.lack is not None or (unmet is not None and not task.step.checkpoint):
            record_skipped(task, judge(task, got, unmet).reason)
            return
        first = len(found.void)
        unknown, raised = self._open(task, unmet)
        if unknown is None and not raised:
            void = self._void_as_whole(task, got)
            is_decided = self._judge_below(task, void)
            self._note_first(task)
            nodes = [scope.node(task.task_id) for scope in task.scopes] if task.has_maps else task.items
            # Without a checkpoint, it is judged when its needs are over.
            waits = bool(unmet) or not all(is_over(self._tokens.tasks[need[-1]]) for need in task.links.needs)
            if void is None and is_decided and not (waits and all(node.status is not COMPLETED for node in nodes)):
                if leaves_checkpoint(task):
                    found.whole_maps[task.task_id] = len(task.items)
                record_ended(task)
                return
        elif not self._void_ahead(task):
            whole = self._made(task.links.whole_value_sources())
            if task.links.nest is None and task.step.checkpoint and found.unsure.issuperset(whole):
                found.unsure.add(task.task_id)
        have_one = {item.item for item, _ in found.void[first:]}  # though it does not count
        is_missing = any(one.status is TypeStatus.NOT_STARTED and one.item not in have_one for one in task.items)
        is_missing = is_missing or (task.has_maps and any(node.status not in OVER for node in task.nodes))
        self._go_on(task, unmet, is_missing=is_missing)
        why = got.open or self._open_by_item(task)
        if why is not None:
            (found.may_lack_items if got.open is None else found.may_lack).add(task.task_id)
        verdict = Verdict(TypeDecision.RUN if why is None else TypeDecision.OPEN, got.void or raised, open=why)
        is_known = why is not None or unknown is None or self.is_new or self._changes.is_rerun(task)
        if unknown is not None and not is_known:  # what earlier runs have of items counts when they are known
            verdict = Verdict(TypeDecision.OPEN, why_unlisted(unknown))
        self._conclude(task, got, verdict)

    def _open_by_item(self, task: LinkedTask) -> Condition | Task | None:
        """Returns what decides in the run whether items of a map run; None if it is known of each."""
        links, tasks, inputs = task.links, self._tokens.tasks, ByItem(task, self._tokens.tasks)
        left = [item for item in task.items if item.status is TypeStatus.NOT_STARTED]
        for condition in links.conditions:
            is_known = task.items and not task.has_maps and all(map(inputs.has_conditions, left))
            if not condition.by_item or is_known:
                continue
            lists = [link.source for link in task.lists if condition.source == Entry(link.parameter)]
            if any(self.is_made(tasks[one]) for one in lists or [condition.source] if isinstance(one, int)):
                return condition
        required = {*links.required_sources()} - links.whole_sources()
        required.update(() if task.is_cross else links.list_sources())
        lacking = required & (self.found.may_lack | self.found.may_lack_items)
        return tasks[min(lacking)] if lacking else None

    def _go_on(self, task: Task, unmet: Skip | None, *, is_missing: bool) -> None:
        """Records that a map is not restored as a whole: it runs, unless a task that it needs is skipped."""
        if unmet is not None:
            record_skipped(task, unmet.reason)
        elif is_missing and leaves_checkpoint(task):
            self.found.missing.append(task.task_id)

    def _void_as_whole(self, task: Task, got: Got) -> Void | None:
        """Returns why no item of a map counts, by what all of them take; None if some may."""
        if got.void:
            return Void(got.void)
        return None if got.made is None else self.look.runs_again(task, got.made)

    def _note_first(self, task: Task) -> None:
        """Notes that items are restored without comparing their inputs."""
        for context in self.found.items[task.task_id].values():
            self.found.notes += filter(None, [self.look.note(task, context)])
            break

    def _void_ahead(self, task: LinkedTask) -> bool:
        """Voids the items of a map whose list is not known yet, where only the options of this run say so.

        A run that fails, or is killed, before it knows the list would leave them to one without these options.
        """
        if self.look.counts_all or self.is_new:
            return False
        whole = task.links.whole_value_sources().difference(task.links.list_sources())
        sources = [source for source in map(self._tokens.tasks.__getitem__, whole) if not source.step.checkpoint]
        unsaved = next(filter(self._changes.is_rerun, sources), None)  # whose token shows no rerun
        why = self._changes.why_asked_for(task) or (
            self.look.runs_again(task, unsaved) if unsaved is not None else None
        )
        for item in self.saved.records_of(task) if why or self._resume == "changed" else ():
            if reason := why or self.look.why_changed(item):
                self.found.void.append((item, reason))
        return why is not None

    def _open(self, task: LinkedTask, unmet: Skip | None) -> tuple[Task | None, str]:
        """Makes the items of a map. Returns the task whose list is not known yet, and why there are no lists.

        One whose lists can't be used fails in the run, unless it is skipped for what it needs.
        """
        tasks = self._tokens.tasks
        for source in map(tasks.__getitem__, task.links.list_sources()):
            is_by_item = source.gives_items and source.nodes and not task.is_cross
            if not is_by_item and not (source.has_value and source.step.checkpoint):
                return source, ""
        try:
            open_map(task, self._tokens.root, self._tokens.params)
        except Exception as error:  # NotAList, UnequalLists, or of a list type of the user
            self.found.missing += [task.task_id] if unmet is None else []
            return None, f"its lists raise {type(error).__name__}"
        return None, ""

    def _restore_loop(self, tasks: Sequence[LinkedTask], nest: Nest) -> None:
        """Judges the rounds of an added workflow in turn: those that are known to begin, by what their tasks take."""
        found = self.found
        taken = {task.task_id: self.taken(task.links) for task in tasks}
        lacks = {
            task.task_id: taken[task.task_id][0].lack or (None if task.step.checkpoint else taken[task.task_id][1])
            for task in tasks
        }
        needed = [lacks[task_id] for task_id in (nest.result, nest.until) if task_id is not None]
        lacking = next(filter(None, needed), None)
        rounds = []
        for task in tasks:
            if (skip := lacking or lacks[task.task_id]) is not None:
                record_skipped(task, skip.reason)
                continue
            open_map(task, self._tokens.root, self._tokens.params)
            self._begin(task)
            rounds.append((task, self._void_as_whole(task, taken[task.task_id][0])))
        last = self._restore_rounds(rounds, nest)
        end = None if last is None else round_end(nest, rounds[0][0].scopes[last])
        for task, void in rounds:
            self._note_first(task)
            is_decided = end is not None and not end.failure and void is None and not task.is_cleanup
            if last is not None and not task.has_maps:
                task.cut(last + 1)
                is_decided = is_decided and task.items[last].status in OVER
            if not is_decided:
                got, unmet = taken[task.task_id]
                self._go_on(task, unmet, is_missing=True)
                first = [taken[one][0].open for one in (nest.result, nest.until, task.task_id) if one is not None]
                why = next((one for one in first if one is not None), None) or self._open_by_item(task)
                takes = any(bind.required and task.links.level_of(bind.source) for bind in task.links.binds)
                if why is None and last is None and takes and not task.is_cleanup:
                    others = [one for one in tasks if not one.is_cleanup]
                    maybe = next((one for one in others if _may_skip_rounds(one.links, *taken[one.task_id])), None)
                    why = None if maybe is task else maybe
                if why is not None:
                    found.may_lack.add(task.task_id)
                kind = TypeDecision.RUN if why is None else TypeDecision.OPEN
                self._conclude(task, got, Verdict(kind, open=why))
                continue
            if leaves_checkpoint(task):
                found.whole_maps[task.task_id] = len(task.items)
            assert last is not None
            task.cut(last + 1)
            item = task.last
            if item.status is COMPLETED:
                record_ended(task, item.current_context)
            else:
                record_skipped(task, item.reason)

    def _restore_rounds(self, tasks: Sequence[tuple[LinkedTask, Void | None]], nest: Nest) -> int | None:
        """Judges rounds. Returns the number of the last one; None if they are not over.

        If a task of one round fails, so do all, so what takes the value of the last round waits for them all.

        Args:
            tasks: The tasks that have rounds, each with the reason why none of them counts.
            nest: The added workflow.
        """
        is_over, is_known = True, True  # the rounds up to here, and whether this one begins
        inputs = {task.task_id: ByItem(task, self._tokens.tasks) for task, _ in tasks}
        # All are read first: several may have the same file. After these a round may still be one of skipped tasks.
        saved = self._read_rounds([task for task, _ in tasks], nest)
        maps = {task.task_id: self._read(task) for task, _ in tasks if task.has_maps}
        count = max([len(saved), *(int(key[1:]) + 1 for of_map in maps.values() for key in of_map)])
        for scope in tasks[0][0].scopes if tasks else ():
            number = scope.index
            if not is_over and number >= count:
                break
            of_round = saved[number] if number < len(saved) else self._read_round([task for task, _ in tasks], number)
            for (task, why), context in zip(tasks, of_round, strict=True):
                void = why or (None if is_known else ROUND_AGAIN)
                if task.has_maps:
                    self._judge_map(task, inputs[task.task_id], scope, maps[task.task_id].get(scope.key, {}), void)
                else:
                    self._judge_item(inputs[task.task_id], task.items[number], context, void)
            if not is_known:
                continue
            counted = [task for task, _ in tasks if leaves_checkpoint(task)]
            counted = counted or [task for task, _ in tasks if not task.is_cleanup]
            is_over = is_over and all(scope.node(task.task_id).status in OVER for task in counted)
            is_known = is_over or ends_are_known(nest, scope)
            if is_known and round_end(nest, scope).is_end:
                return number if is_over else None
        return None

    def _read_rounds(self, tasks: Sequence[LinkedTask], nest: Nest) -> list[list[Context | None]]:
        """Returns the checkpoints of each round, up to the first one that has none."""
        rounds = (self._read_round(tasks, number) for number in range(nest.repeat))
        return list(takewhile(lambda found: any(context is not None for context in found), rounds))

    def _read_round(self, tasks: Sequence[LinkedTask], number: int) -> list[Context | None]:
        return [
            self.saved.of(task.items[number]) if self._is_saved(task) and not task.has_maps else None for task in tasks
        ]

    def _begin(self, node: LinkedTask) -> None:
        """Notes that the list of a map is known, and its items are decided on."""
        record_opened(node)
        self.found.maps.setdefault(node.task_id, {})[_place(node)] = node
        self.found.items.setdefault(node.task_id, {})

    def _judge_below(
        self, node: LinkedTask, void: Void | None, saved: Saved | None = None, *, has_records: bool = True
    ) -> bool:
        """Judges what stands below a map whose list is known: its items, or its maps in scopes.

        Args:
            node: The map, of the run or in a scope.
            void: Why no checkpoint there counts; None if some may.
            saved: The checkpoints there, if they have been read.
            has_records: Whether the verdicts are recorded.

        Returns:
            Whether all of it is over.
        """
        inputs = ByItem(node, self._tokens.tasks)
        of_map = self._read(node) if saved is None else {}  # All are read first: several may have the same file.
        if has_records:
            self._begin(node)
        if node.has_maps:
            for scope in node.scopes:
                self._judge_map(node, inputs, scope, of_map.get(scope.key, {}) if saved is None else saved, void)
            return all(scope.node(node.task_id).status in OVER for scope in node.scopes)
        for item in node.items:
            own = of_map.get(item.scope.key, {}) if saved is None else saved
            context = own[item.key_suffix][1] if item.key_suffix in own else None
            self._judge_item(inputs, item, context, void, has_record=has_records)
        return all(item.status in OVER for item in node.items)

    def _judge_map(self, owner: LinkedTask, inputs: ByItem, scope: Scope, saved: Saved, void: Void | None) -> None:
        """Judges a map in a scope, whose list may not be known yet.

        Args:
            owner: The map of which it is a node.
            inputs: What its nodes take.
            scope: The scope.
            saved: The checkpoints of items there, and in other scopes.
            void: Why none of them counts; None if some may.
        """
        if void is None:
            node = owner.begin_in(scope)
            got = inputs.foresee(node)
            skip = got.lack or inputs.unmet_need(node, BY_RECORD)
            void = self._changes.why_asked_for(node)  # see _void_ahead
            if skip is not None:
                record_skipped(node, skip.reason)
                void = Void(skip.reason)
            elif got.made is None and not got.void:
                nest = () if node.nest is None else node.nest.tasks
                taken = (scope.node(one) for one in node.links.value_sources() if one in nest)
                waits = any(one.status is TypeStatus.NOT_STARTED for one in taken)
                try:
                    open_map(node, scope, self._tokens.params)
                except Exception:  # NotAList, UnequalLists, or of a list type of the user; in the run it fails the map
                    return
                if not waits or not node.scopes:
                    node.add_items()
                    if self._judge_below(node, None, saved):
                        record_ended(node)
                    return
                owner.begin_in(scope)  # judged in the run, as those are whose values its scopes take
        if void is not None:
            self.found.void += [(item, void) for key, (item, _) in saved.items() if _is_within(key, scope.key)]

    def _read(self, node: LinkedTask) -> dict[str, Saved]:
        """Returns the checkpoints below a map, by the keys of the scope of the run's map, and of the item.

        Of maps in scopes no list need be known.
        """
        found: dict[str, Saved] = {}
        if not self._is_saved(node):
            return found
        for item in self.saved.records_of(node) if node.has_maps else node.items:
            context = self.saved.of(item)
            if context is None or not isinstance(item, Item):
                continue
            key = item.scope.key
            if not node.is_repeated or key == f"{ROUND}{item.round}":
                found.setdefault(key, {})[item.key_suffix] = item, context
        return found

    def _judge_item(
        self, inputs: ByItem, item: Item, saved: Context | None, void: Void | None, *, has_record: bool = True
    ) -> None:
        """Judges an item, or a round.

        Args:
            inputs: What the items of its map take.
            item: The item.
            saved: Its checkpoint; None without one.
            void: Why that does not count; None if it may.
            has_record: Whether the verdict is recorded.
        """
        got, unmet = NOTHING_TAKEN, None
        if not inputs.is_plain or nodes_of_entry(item.entry):
            got, unmet = inputs.foresee(item), inputs.unmet_need(item, BY_RECORD)
            if self._cache is not None and got.made is None and got.lack is None:
                got = got._replace(made=next(filter(self._is_made_anew, inputs.value_sources(item)), None))
        if void is not None:
            verdict = judge(item, got, unmet)
            verdict = verdict if saved is None else verdict._replace(saved=saved, void=void)
        else:
            context = saved
            if saved is None and not (item.step.checkpoint or self.is_new) and got.lack is None and got.made is None:
                context = self.look.stand_in(item)
            verdict = judge(item, got, unmet, context, self.look)
        if has_record:
            _record(item, verdict)
        if saved is None:
            return
        if verdict.void is not None:
            self.found.void.append((item, verdict.void))
        else:
            self.found.items[item.task_id][item.key_suffix] = saved

    # In the run

    def restore_items(self, nodes: Sequence[LinkedTask]) -> RestoredItems:
        """Returns the decisions on the items of open maps: one, or those of an added workflow in one scope together.

        Those on the items of a map in a scope are asked for there.
        """
        found, place = self.found, _place(nodes[0])
        void = found.void = []
        left = [node for node in nodes if place not in found.maps.get(node.task_id, ())]
        if left and left[0].nest is not None:
            self._judge_apart(nodes)
        elif left and leaves_checkpoint(left[0]):
            if unsaved := self._unsaved_before(left[0]):
                self._judge_apart([*unsaved, *left])
            else:
                found.items.setdefault(left[0].task_id, {})
                self._judge_below(left[0], self._why_failed(left[0]), has_records=False)
        self.look.raise_mismatches()
        values, not_needed = dict[int, Mapping[str, Context]](), dict[int, Collection[str]]()
        for node in nodes:
            if node.has_maps:
                continue
            of_task = found.items.get(node.task_id, {})
            if isinstance(node, InnerMap):  # whose scopes may open in another order than they were judged in
                of_task = {one.key_suffix: of_task[one.key_suffix] for one in node.items if one.key_suffix in of_task}
            else:
                found.items.pop(node.task_id, None)
            values[node.task_id] = of_task
            not_needed[node.task_id] = found.not_needed_items.get(node.task_id, ())
        return RestoredItems(values, void, not_needed)

    def _judge_apart(self, nodes: Sequence[LinkedTask]) -> None:
        """Judges maps of one scope in records of their own, since each one depends on those before it."""
        tokens, first = self._tokens, nodes[0]
        scope = first.scope if isinstance(first, InnerMap) else tokens.root
        own, voids = scope.nodes[:], [self._why_failed(node) for node in nodes]
        judged: list[tuple[Any, LinkedTask, Void | None]] = []
        for node, void in zip(nodes, voids, strict=True):
            task: Any = tokens.tasks[node.task_id]
            record = self.found.maps.get(node.task_id, {}).get(scope.key) if node.nest is not None else None
            if record is not None:
                for inside in record.scopes:  # what these take around them is what the run has made
                    inside.outer = scope
            else:
                record = task.begin_in(scope) if scope.outer else task._new_record(task.workflow_id, task.run_id)
                judged.append((task, record, void))
            scope.nodes[node.task_id - scope.first] = record
        around = [owner.items for _, record, _ in judged if isinstance(record, InnerMap) for owner in record.owners]
        counts = list(map(len, around))
        try:
            for task, record, void in judged:
                open_map(record, scope, tokens.params)
                saved = self._read(task).get(scope_of(scope, 1).key, {}) if scope.outer else None
                if self._judge_below(record, void, saved):
                    record_ended(record)
            nest = first.nest
            if self._demand is not None and nest is not None and scope.outer is None:
                records = [tokens.tasks[task_id] for task_id in nest.tasks]
                self._demand.not_needed(records)
                self.found.not_needed_items |= {record.task_id: self._demand.left(record) for record in records}
        finally:
            scope.nodes[:] = own
            for items, count in zip(around, counts, strict=True):  # the run adds its own
                del items[count:]

    def _unsaved_before(self, task: LinkedTask) -> list[LinkedTask]:
        """Returns the unsaved maps that a map goes over while their items still run, in the order of `add`."""
        found: dict[int, LinkedTask] = {}
        for source in map(self._tokens.tasks.__getitem__, () if task.links.is_cross else task.links.list_sources()):
            if not isinstance(source, LinkedTask) or source.step.checkpoint:
                continue
            if any(item.status in NOT_ENDED for item in source.items):
                found |= {one.task_id: one for one in (*self._unsaved_before(source), source)}
        return [found[task_id] for task_id in sorted(found)]

    def _why_failed(self, node: LinkedTask) -> Void | None:
        """Returns that a source of all items of a map has no value, since it failed in this run; None if none has.

        Its token is the same as that of an earlier failure. That of a map shows the items that came.
        """
        for task in self._taken_around(node):
            if task.status is FAILED and not task.has_value:
                return Void(f"{TAKES} task {task.task_id} {task.name}, which failed", Cause.SOURCE)
        return None

    def _taken_around(self, node: LinkedTask) -> Iterator[Task]:
        """Yields what all items of a map take: of the run, or of the scopes around it."""
        if not isinstance(node, InnerMap):
            yield from self._tasks_of(node.links.whole_value_sources())
            return
        scope = node.scope
        while scope.outer is not None:
            of = ByItem(scope.outer.node(node.task_id), self._tokens.tasks)
            yield from (source for _, source, _ in of.taken(scope.node(node.task_id)))
            scope = scope.outer


def why_unlisted(source: Task) -> str:
    """Returns why it is open what becomes of a map: another task makes its list."""
    return f"its items come from {source.name}"


def _may_skip_rounds(links: Links, got: Got, unmet: Skip | None) -> bool:
    """Returns whether a task may be skipped in single rounds, or in all."""
    return any(one.by_item for one in links.conditions) or bool(got.lack or unmet or got.open or got.void)


def _is_within(key: str, around: str) -> bool:
    """Returns whether a scope, by its key, stands in another one."""
    return not around or key == around or key.startswith(f"{around}-")


def _place(node: LinkedTask) -> str:
    """Returns the key of the scope in which a map stands; "" for the run."""
    return node.scope.key if isinstance(node, InnerMap) else ""


def _record(record: Task, verdict: Verdict) -> None:
    """Records a verdict on a task or an item in its record."""
    if verdict.kind is TypeDecision.SKIP:
        record_skipped(record, verdict.reason)
    elif verdict.kind is TypeDecision.RESTORE:
        assert verdict.saved is not None
        record._apply(new(TaskRestored, (record.task_id, verdict.saved, NOTHING, record.item, "checkpoint")))


def ends_are_known(nest: Nest, scope: Scope) -> bool:
    """Returns whether it is known if another round follows this one, whatever runs in that."""
    if nest.until is None:
        return True
    node = scope.node(nest.until)
    return bool(node.step.checkpoint) and node.status is COMPLETED
