"""The dry run: the look ahead of a resume, printed instead of committed. It runs, writes and locks nothing."""

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from dotflow.abc.storage import Storage, key_of
from dotflow.core.context import Context
from dotflow.core.events import NOT_NEEDED
from dotflow.core.links import TRUE, Condition
from dotflow.core.masks import Masks
from dotflow.core.task import Task
from dotflow.core.text import safe_repr, shorten
from dotflow.core.types.decision import TypeDecision
from dotflow.core.types.status import TypeStatus
from dotflow.engine.options import RunOptions, chosen_tasks
from dotflow.engine.run_providers import RunProviders
from dotflow.graph.gather import BY_RECORD, MAX_SHOWN, ByItem, is_taken
from dotflow.graph.linked_task import InnerMap, LinkedTask, Scope
from dotflow.graph.maps import record_skipped, round_end
from dotflow.graph.params import Params
from dotflow.graph.plan import Plan
from dotflow.resume.cache import Cache
from dotflow.resume.changed_code import ChangedCode
from dotflow.resume.checkpoint_keys import INDEX_SUFFIX, OF_CALL, CheckpointKeys
from dotflow.resume.earlier_runs import EarlierRuns, Restoration, ends_are_known, why_unlisted
from dotflow.resume.journal import OLD_ENDS, Journal
from dotflow.resume.judge import RUNS, Cause, Verdict, Void, judge
from dotflow.resume.saved_values import usable
from dotflow.resume.step_ids import StepIds
from dotflow.resume.tokens import Tokens

if TYPE_CHECKING:
    from dotflow.graph.workflow_plan import WorkflowPlan

COMPLETED, NOT_STARTED, SKIPPED = TypeStatus.COMPLETED, TypeStatus.NOT_STARTED, TypeStatus.SKIPPED
RUN, RESTORE, SKIP, OPEN = TypeDecision.RUN, TypeDecision.RESTORE, TypeDecision.SKIP, TypeDecision.OPEN

#: The end of an item's key, that of the list of a map's items, and those of marks of an earlier dotflow.
ENTRY: Final = r"-(?:(?:at)?[0-9a-f]{20}|at\d+)(?:-\d+)?"
ITEM_SUFFIX: Final = re.compile(rf"(?:-r\d+|{ENTRY})?{ENTRY}$|-r\d+$|(?:{INDEX_SUFFIX}|{'|'.join(OLD_ENDS.values())})$")


class Forecast(NamedTuple):
    """What a run would do with a task, and why.

    Attributes:
        decision: What it does.
        reason: The reason; empty for none.
        items: The number of items of a mapped task; None where it is unknown, and for every other task.
        items_done: The number of items that don't run.
        items_cached: The number of these that are in the cache and have no checkpoint, where other items run.
        items_skipped: The number of these that are skipped.
    """

    decision: TypeDecision
    reason: str
    items: int | None = None
    items_done: int = 0
    items_cached: int = 0
    items_skipped: int = 0


class PlanRows:
    """The rows of a plan: the verdicts of a look ahead in the order of `add`, with reasons, if no task fails.

    Args:
        ahead: The look ahead.
        found: What it has found.
        tokens: What the values depend on. The records of the tasks have the decisions.
        changes: Which code has changed since.
        masks: The secrets, which no reason shows.
        calls: Returns with which kept calls a durable task, or its items, go on; "" for none.
    """

    def __init__(
        self,
        ahead: EarlierRuns,
        found: Restoration,
        tokens: Tokens,
        changes: ChangedCode,
        masks: Masks,
        calls: Callable[[Sequence[Task]], str],
    ) -> None:
        self._ahead = ahead
        self._found = found
        self._tokens = tokens
        self._tasks = tokens.tasks
        self._changes = changes
        self._masks = masks
        self._calls = calls
        self._void: dict[int, Void] = {}
        for task, reason in found.void:
            self._void.setdefault(task.task_id, reason)
        for task_id, keys in found.not_needed_items.items():
            items: Sequence[Any] = self._tasks[task_id].items
            for item in items:
                if item.key_suffix in keys:
                    record_skipped(item, NOT_NEEDED)
        for task_id, why in found.not_needed.items():
            record_skipped(self._tasks[task_id], why)
        self._runs: dict[int, TypeDecision] = {}  # the tasks that run, or may: RUN or OPEN
        self._anew: set[int] = {*found.not_needed}  # those whose verdict is another one, by what is not needed

    def __iter__(self) -> Iterator[Forecast]:
        for task in self._tasks:
            forecast = self._of(task)
            if forecast.decision in (RUN, OPEN) and task.task_id not in self._found.whole_maps:
                self._runs[task.task_id] = forecast.decision
            if forecast.items and forecast.items_skipped == forecast.items:  # though it runs, and has an empty list
                reasons = {item.reason for item in task.items}
                forecast = forecast._replace(decision=SKIP, reason=reasons.pop() if len(reasons) == 1 else "")
            elif forecast.decision is RUN and forecast.items and forecast.items_done == forecast.items:
                forecast = forecast._replace(decision=RESTORE, reason="")
            if forecast.decision is RUN and (calls := self._calls_of(task)):
                forecast = forecast._replace(reason=", ".join(filter(None, (forecast.reason, calls))))
            yield forecast

    def _calls_of(self, task: Task) -> str:
        """Returns with which kept calls a durable task goes on; "" for none, or where what it takes is made anew."""
        if self._ahead.is_new or self._changes.is_rerun(task) or not any(step.durable for step in task._steps):
            return ""
        sources = set(() if task.links is None else task.links.value_sources())
        if not sources.isdisjoint(self._runs) or not self._runs.keys().isdisjoint(self._tokens.taken_as_previous(task)):
            return ""
        void = {id(one) for one, why in self._found.void if why.cause is not Cause.CODE}
        records = [item for item in task.items if item.status is NOT_STARTED] if task.is_mapped else [task]
        return self._calls([record for record in records if id(record) not in void])

    def _of(self, task: Task) -> Forecast:
        found, task_id = self._found, task.task_id
        context = found.restored.get(task_id)
        if context is not None:
            return Forecast(RESTORE, f"{_finished(context)}{self._but(task_id)}")
        if task_id in found.whole_maps:
            return self._of_whole_map(task)
        if task.status is SKIPPED:
            return Forecast(SKIP, task.reason)
        if task_id in found.unknown:
            return Forecast(OPEN, found.unknown[task_id], len(task.items) if task.is_mapped else None)
        verdict = found.verdicts.get(task_id, RUNS)
        if verdict.kind is RESTORE:  # without a checkpoint, for a task that runs
            verdict = RUNS
        if isinstance(task, LinkedTask) and (task.is_cleanup or not self._anew.isdisjoint(task.links.sources())):
            verdict = self._judge_again(task, verdict)
        if verdict.kind is SKIP:
            return Forecast(SKIP, verdict.reason)
        if verdict.open is not None:
            return Forecast(OPEN, self._why_open(verdict.open))
        if isinstance(task, LinkedTask) and task.is_repeated and not task.is_cleanup:
            return self._of_rounds(task, verdict)
        reason = verdict.reason or (self._why(task) if verdict.kind is RUN else "")
        if not task.is_mapped or task.is_repeated or task.status is NOT_STARTED:
            return Forecast(verdict.kind, reason)
        if isinstance(task, LinkedTask) and not _is_listed(task):  # the lists of its maps in scopes are made in the run
            is_known = self._ahead.is_new or self._changes.is_rerun(task)
            if is_known or verdict.kind is OPEN or any(item.status is NOT_STARTED for item in task.items):
                return Forecast(verdict.kind, reason)
            return Forecast(OPEN, self._why_unlisted(task))
        skipped = sum(item.status is SKIPPED for item in task.items)
        done = skipped + sum(item.status is COMPLETED and item.step.checkpoint for item in task.items)
        if verdict.kind is not RUN:
            return Forecast(verdict.kind, reason, len(task.items), done)
        cached = sum(item.restored_from == "cache" for item in task.items)
        return Forecast(RUN, reason, len(task.items), done, cached, skipped)

    def _of_whole_map(self, task: Task) -> Forecast:
        count = len(task.items)
        if isinstance(task, LinkedTask) and task.is_repeated:
            if task.status is SKIPPED:  # in the last round
                return Forecast(SKIP, task.reason)
            if task.has_maps and not count:
                return Forecast(RUN, "", 0)  # its lists are empty
            return Forecast(RESTORE, f"{_rounds(len(task.scopes))}{self._but(task.task_id)}")
        values = sum(item.status is COMPLETED for item in task.items)
        reason = self._but(task.task_id).removeprefix(", ")
        return Forecast(RESTORE if values else RUN, reason, count, count, 0, count - values)

    def _judge_again(self, task: LinkedTask, before: Verdict) -> Verdict:
        """Returns the verdict on a cleanup, or on what depends on a task that is not needed: it may be skipped, too."""
        got, unmet = self._ahead.taken(task.links, self._found.not_needed)
        verdict = judge(task, got, unmet)
        running = [self._tasks[one] for one in self._before(task) if one in self._runs]
        nest = task.links.nest
        is_taken_inside = nest is not None and is_taken(task.task_id, nest, self._tasks)
        if verdict.kind is not SKIP and nest is not None and task.is_cleanup and not is_taken_inside:
            verdict = before if before.open else self._judge_cleanup(task, before, running)
        elif verdict.kind is not SKIP:
            verdict = before
        if verdict.kind is SKIP:
            record_skipped(task, verdict.reason)
            self._anew.add(task.task_id)
        return verdict

    def _judge_cleanup(self, task: LinkedTask, verdict: Verdict, running: Sequence[Task]) -> Verdict:
        """Returns the verdict on a cleanup for each item, or round, which runs where a task before it does."""
        may_run = [one for one in running if self._runs[one.task_id] is OPEN]
        if task.is_repeated:
            if not running:
                return Verdict(SKIP, NOT_NEEDED)
            return Verdict(OPEN, open=running[0]) if len(may_run) == len(running) else verdict
        if may_run:
            return Verdict(OPEN, open=may_run[0])
        if verdict.kind is RUN and not verdict.reason and task.status is NOT_STARTED and not running:
            return Verdict(OPEN, self._why_unlisted(task))
        self._skip_items(task)
        return verdict

    def _why_unlisted(self, task: LinkedTask) -> str:
        """Returns why not all lists of a map are known; "" where none of them is made in the run."""
        lists = map(self._tasks.__getitem__, task.links.list_sources())
        return next((why_unlisted(one) for one in lists if self._ahead.is_made(one)), "")

    def _before(self, task: LinkedTask) -> Sequence[int]:
        """Returns the tasks of an added workflow before a cleanup of it, which runs after these only."""
        nest = task.links.nest
        return () if nest is None else [one for one in nest.tasks if one < task.task_id]

    def _skip_items(self, task: LinkedTask) -> None:
        """Records which items of a cleanup for each item don't run."""
        inputs, before = ByItem(task, self._tasks), [self._tasks[one] for one in self._before(task)]
        for item in task.items:
            if item.status is NOT_STARTED:
                if all(_is_done(other, item.scope) for other in before):
                    record_skipped(item, NOT_NEEDED)
                    continue
                with contextlib.suppress(Exception):  # the values' own code; in the run it fails the item
                    got = inputs.gather(item, self._masks, BY_RECORD)
                    verdict = judge(item, got, inputs.unmet_need(item, BY_RECORD))
                    if verdict.kind is SKIP:
                        record_skipped(item, verdict.reason)

    def _of_rounds(self, task: LinkedTask, verdict: Verdict) -> Forecast:
        """Returns the row of a task of rounds that are not over."""
        nest = task.nest
        assert nest is not None
        saved = [other for other in map(self._tasks.__getitem__, nest.tasks) if not other.is_cleanup]
        done = 0
        lengths = (len(other.items) for other in saved if other.items and not other.gives_list)
        count = min(lengths, default=nest.repeat)
        scopes = task.scopes
        while done < min(count, len(scopes)) and all(_is_done(other, scopes[done]) for other in saved):
            done += 1
        limit = "at most" if nest.until is not None else "of"
        rounds = f"{_rounds(done)} restored, {limit} {nest.repeat}" if done else f"{limit} {nest.rounds}"
        if done == count:
            return Forecast(RESTORE, f"{_rounds(done)} of {nest.repeat}")
        reason = ", ".join(filter(None, (self._why(task), rounds)))
        if task.has_maps or verdict.kind is OPEN:
            return Forecast(OPEN, reason)
        number, is_last = done, not scopes  # the last round that is known to begin
        while not is_last and ends_are_known(nest, scopes[number]):
            is_last = round_end(nest, scopes[number]).is_end
            number += not is_last
        if not scopes or not all(_is_done(task, scope) for scope in scopes[done : number + 1]):
            return Forecast(RUN, reason)
        if is_last or number + 1 == nest.repeat:
            return Forecast(RESTORE, rounds)
        assert nest.until is not None, "without it all rounds are known to begin"
        return Forecast(OPEN, f"unless {self._tasks[nest.until].name} is true, {rounds}")

    def _but(self, task_id: int) -> str:
        reasons = filter(None, (self._changes.reason_of(task_id), self._found.edited.get(task_id)))
        return "".join(f", {reason}" for reason in reasons)

    def _why_open(self, decides: Condition | Task) -> str:
        """Returns what decides in the run, for a reason."""
        if isinstance(decides, Task):
            return f"if {decides.name} runs"
        text = f"{decides.word} {decides.name}"
        if decides.expected is TRUE:
            return text
        return f"{text} is {shorten(self._masks.mask(safe_repr(decides.expected)), MAX_SHOWN)}"

    def _why(self, task: Task) -> str:
        """Returns why a task runs: the last task that it waits for, or why its own checkpoint is void."""
        void = self._void.get(task.task_id)
        if void is not None and void.cause is Cause.OTHER:
            return void.text
        if task.task_id in self._found.edited:
            return self._found.edited[task.task_id]
        sources = set(() if task.links is None else task.links.sources())
        if void is not None:
            previous = self._tokens.previous_of(task) if task.links is None else None
            sources.update(self._tokens.taken_as_previous(task) if previous is None else [previous.task_id])
        made = sources & self._runs.keys()
        return f"after {self._tasks[max(made)].name}" if made else "" if void is None else void.text


def _is_listed(node: Task) -> bool:
    """Returns whether the lists of a map are known, those of its maps in scopes included."""
    if node.status is NOT_STARTED:
        return False
    if not isinstance(node, LinkedTask) or not node.has_maps:
        return True
    inner = [scope.node(node.task_id) for scope in node.scopes]
    return all(one.status is SKIPPED or (isinstance(one, InnerMap) and _is_listed(one)) for one in inner)


def _is_done(task: Task, scope: Scope) -> bool:
    """Returns whether a task does not run in a scope: it is restored, skipped or not needed there."""
    node = scope.node(task.task_id)
    return node.status is SKIPPED or (node.status is COMPLETED and task.step.checkpoint)


def _rounds(count: int) -> str:
    return f"{count} round{'s' * (count != 1)}"


def _finished(context: Context) -> str:
    return f"finished {context.time.astimezone():%Y-%m-%d %H:%M:%S}"


def plan_run(
    providers: RunProviders,
    workflow_id: str,
    tasks: Sequence[Task],
    plan: Plan,
    params: Params,
    options: RunOptions,
) -> "WorkflowPlan":
    """Returns the dry run: what a run would do.

    Args:
        providers: The run's providers, of which it uses the storages and the secrets.
        workflow_id: The id of the run's values.
        tasks: The run's tasks.
        plan: The run's plan.
        params: The run parameters.
        options: The options of the run.

    Raises:
        CheckpointMismatch: Another step made one of the checkpoints.
        CheckpointUnreadable: A checkpoint can't be read.
        StorageError: The storage can't be used.
    """
    from dotflow.graph.workflow_plan import PlannedTask, WorkflowPlan  # here, since it loads Pydantic

    storage, masks, digest_limit = providers.storage, providers.secrets.masks, providers.digest_limit
    chosen = chosen_tasks(options, tasks, plan, masks)
    resume = options.resume or bool(chosen.anew)
    tokens = Tokens(tasks, plan.previous, params)
    changes = ChangedCode(tokens, options.resume, chosen)
    journal = Journal(storage, workflow_id, tasks)
    cached = Cache(
        providers.cache,
        _no_line,
        _no_line,
        reads=options.cache,
        rerun={*chosen.rerun, *chosen.calls},
        shares_memory=False,
        digest_limit=digest_limit,
    )
    ahead = EarlierRuns(
        storage,
        journal,
        tokens,
        changes,
        _no_line,
        resume=resume,
        digest_limit=digest_limit,
        asks=True,
        cache=cached,
        masks=masks,
        left_out=chosen.left_out,
    )
    found = ahead.plan()
    if not ahead.is_new and tasks:  # a run that goes on with values reads whose they are
        with usable(storage):
            journal.fact("origin")
    tasks = tokens.tasks

    def calls_of(records: Sequence[Task]) -> str:
        from dotflow.resume.calls import CallsAhead  # here: few steps are durable

        keys, ids = CheckpointKeys(storage, tasks), StepIds(journal, tasks, tokens, None)
        from_calls = {keys.of(tasks[task_id]): number for task_id, number in chosen.calls.items()}
        voids_changed = options.resume == "changed"
        calls = CallsAhead(storage, changes.calls, voids_changed=voids_changed, from_calls=from_calls)
        with usable(storage):
            return calls.of([(keys.of(one), ids.key_base(one)) for one in records])

    rows = PlanRows(ahead, found, tokens, changes, masks, calls_of)
    planned = [
        PlannedTask(
            task_id=task.task_id,
            name=task.name,
            step=task.step.identity,
            needs=[tasks[need].name for need in plan.needs_of(task.task_id)],
            **forecast._replace(reason=masks.mask(forecast.reason))._asdict(),
        )
        for task, forecast in zip(tasks, rows, strict=True)
    ]
    with usable(storage):
        removed = removed_tasks(storage, workflow_id, tasks)
    return WorkflowPlan(workflow_id=workflow_id, tasks=planned, removed=removed)


def _no_line(*line: object) -> None:
    """Does nothing: the run itself reports."""


def removed_tasks(storage: Storage, workflow_id: str, tasks: Sequence[Task]) -> list[str]:
    """Returns the names, or ids, of tasks that have a value in the storage and are not among *tasks*, sorted.

    Storages with keys of their own, and those that can't list them, return none.
    """
    if any(storage.key(task) != key_of(task) for task in tasks[:1]):
        return []
    prefix = f"{workflow_id}/"
    keys = (OF_CALL.sub("", key.removeprefix(prefix)) for key in storage.list_keys(prefix))
    names = {ITEM_SUFFIX.sub("", key) for key in keys}
    # A slash would be part of another workflow's id.
    return sorted(
        name for name in names - {task.key_name for task in tasks} if name[:1] not in ("", "@") and "/" not in name
    )
