"""The dry run: what a run would do, by the functions that the run itself uses. It runs, writes and locks nothing."""

import contextlib
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from dotflow.abc.storage import Storage, key_of
from dotflow.core.context import Context
from dotflow.core.events import NOT_NEEDED, TaskRestored
from dotflow.core.links import TRUE, Condition, Entry, Links, Nest
from dotflow.core.masks import Masks
from dotflow.core.task import Task
from dotflow.core.text import safe_repr, shorten
from dotflow.core.types.decision import TypeDecision
from dotflow.core.types.status import TypeStatus
from dotflow.engine.options import RunOptions, chosen_tasks
from dotflow.engine.run_providers import RunProviders
from dotflow.graph.gather import BY_RECORD, MAX_SHOWN, Arguments, ByItem, Got, Skip, gather, unmet_need
from dotflow.graph.linked_task import InnerMap, LinkedTask, Scope
from dotflow.graph.maps import open_map, record_ended, record_skipped, round_end
from dotflow.graph.params import Params
from dotflow.graph.plan import Plan
from dotflow.graph.wiring import PREVIOUS
from dotflow.resume.cache import Cache, is_cached
from dotflow.resume.changed_code import ChangedCode
from dotflow.resume.checkpoint_keys import INDEX_SUFFIX
from dotflow.resume.earlier_runs import EarlierRuns, Restoration, ends_are_known
from dotflow.resume.journal import OLD_ENDS, Journal
from dotflow.resume.judge import Cause, Void
from dotflow.resume.look import usable
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


class RunForecast:
    """What a run would do with each task, in the order of `add`, if no task fails.

    Args:
        tokens: What the values depend on. The records of the tasks have the decisions on the checkpoints.
        restoration: These decisions; None if all tasks run.
        changes: Which code has changed since.
        cache: The cached values.
        masks: The secrets, which no reason shows.
        earlier: Decides on the checkpoints of items whose list is known before the run, since it is in the cache.
        is_resume: Whether items whose list the run makes may be restored.
    """

    def __init__(
        self,
        tokens: Tokens,
        restoration: Restoration | None,
        changes: ChangedCode,
        cache: Cache,
        masks: Masks,
        earlier: EarlierRuns,
        *,
        is_resume: bool,
    ) -> None:
        self._earlier = earlier
        self._masks = masks
        self._changes = changes
        self._cache = cache
        self._made: dict[str, str] = {}  # the tasks that make a cached value in the run, by its key
        self._uncertain: dict[str, str] = {}  # those whose keys are not known, by step
        self._tokens = tokens
        self._is_resume = is_resume
        self._restoration = restoration or Restoration()
        self._tasks = tokens.tasks  # which record what is skipped, too
        self._params = tokens.params
        self._reasons: dict[int, Void] = {}
        for task, reason in self._restoration.void:
            self._reasons.setdefault(task.task_id, reason)
        for task_id, items in self._restoration.not_needed_items.items():
            for index in items:
                record_skipped(self._tasks[task_id].items[index], NOT_NEEDED)
        self._unknown: set[int] = set()  # tasks whose value is made in the run
        self._open: set[int] = set()  # tasks that run or not
        self._kept: set[int] = set()  # tasks of which nothing runs
        self._may_lack: set[int] = set()  # tasks that may be skipped
        self._may_lack_items: set[int] = set()  # maps of which items may be skipped

    def forecasts(self) -> Iterator[Forecast]:
        """Yields the forecast of each task. Call it once."""
        for task in self._tasks:
            forecast = self._of(task)
            if forecast.decision is OPEN:
                self._open.add(task.task_id)
            elif forecast.decision is RESTORE:
                self._kept.add(task.task_id)
            makes = forecast.decision in (RUN, OPEN)
            if isinstance(task, LinkedTask) and task.is_repeated:  # a round may follow that it has no part in
                makes = forecast.decision is not SKIP
            if makes and task.task_id not in self._restoration.whole_maps:
                self._unknown.add(task.task_id)
            if forecast.items and forecast.items_skipped == forecast.items:  # though it runs, and has an empty list
                reasons = {item.reason for item in task.items}
                forecast = forecast._replace(decision=SKIP, reason=reasons.pop() if len(reasons) == 1 else "")
            elif forecast.decision is RUN and forecast.items and forecast.items_done == forecast.items:
                forecast = forecast._replace(decision=RESTORE, reason="")
            yield forecast

    def _of(self, task: Task) -> Forecast:
        task_id = task.task_id
        context = self._restoration.restored.get(task_id)
        if context is not None:
            return Forecast(RESTORE, f"{_finished(context)}{self._but(task_id)}")
        if task_id in self._restoration.whole_maps:
            count = len(task.items)
            if isinstance(task, LinkedTask) and task.is_repeated:
                if task.status is SKIPPED:  # in the last round
                    return Forecast(SKIP, task.reason)
                if task.has_maps and not count:
                    return Forecast(RUN, "", 0)  # its lists are empty
                return Forecast(RESTORE, f"{_rounds(len(task.scopes))}{self._but(task_id)}")
            values = sum(item.status is COMPLETED for item in task.items)
            reason = self._but(task_id).removeprefix(", ")
            return Forecast(RESTORE if values else RUN, reason, count, count, 0, count - values)
        if task_id in self._restoration.not_needed:
            return self._skip(task, self._restoration.not_needed[task_id])
        if task_id in self._restoration.unknown:
            return Forecast(OPEN, self._restoration.unknown[task_id], len(task.items) if task.is_mapped else None)
        return self._of_linked(task, task.links) if isinstance(task, LinkedTask) else Forecast(RUN, self._why(task))

    def _but(self, task_id: int) -> str:
        reasons = filter(None, (self._changes.reason_of(task_id), self._restoration.edited.get(task_id)))
        return "".join(f", {reason}" for reason in reasons)

    def _of_linked(self, task: LinkedTask, links: Links) -> Forecast:
        if task.status is SKIPPED and self._unknown.isdisjoint(links.value_sources()):
            return Forecast(SKIP, task.reason)
        nest = links.nest if task.is_repeated else None
        judged = () if nest is None else (nest.result, nest.until)  # what is restored takes nothing more
        required = [one for one in judged if one is not None and one not in self._restoration.whole_maps]
        arguments: Arguments = {}
        open_reason = ""
        for one in (*(self._tasks[task_id].links for task_id in required), links):  # without these no round is judged
            assert one is not None
            try:
                got = self._gather(one)
            except Exception as error:  # the values' own code; in the run it fails the task
                return Forecast(RUN, f"its conditions raised {type(error).__name__}")
            if got.lack is not None:
                return self._skip(task, got.lack.reason)
            arguments = got.args
            open_reason = open_reason or self._why_open(got)
        if open_reason:
            self._may_lack.add(task.task_id)
            forecast = Forecast(OPEN, open_reason)
        elif open_reason := self._why_items_open(task, links):
            (self._may_lack if nest else self._may_lack_items).add(task.task_id)
            forecast = Forecast(OPEN, open_reason)
        elif nest is not None:
            forecast = self._of_rounds(task, nest)
        else:
            source = self._restoration.undecided.get(task.task_id)
            forecast = self._of_map(task) if task.is_mapped else Forecast(RUN, self._why(task))
            if source is not None:
                forecast = Forecast(OPEN, f"if the value of {self._tasks[source].name} changes")
        if not is_cached(task) or not self._cache.reads:
            return forecast
        if nest is not None or task.has_maps:
            forecast = forecast._replace(decision=OPEN)  # the arguments of a round are not known before it
        return self._with_cache(task, arguments, forecast)

    def is_made(self, record: Task) -> bool:
        """Returns whether the run makes the value of a task, or may make it."""
        return record.task_id in self._unknown

    def may_lack(self, record: Task) -> bool:
        """Returns whether a task may be skipped."""
        return record.task_id in self._may_lack

    def _gather(self, links: Links) -> Got:
        """Returns what a task takes, by what is known. Comparing the values of conditions may raise any error."""
        needs = links.whole().needs
        got = gather(links, self._tasks, self._params, self._masks, ahead=self)
        unmet = unmet_need(needs, self._tasks.__getitem__, self._restoration.not_needed, ahead=self)
        if unmet is not None:
            return Got({}, unmet)
        maybe = next((self._tasks[need[-1]] for need in needs if need[-1] in self._may_lack), None)
        return got if got.open or maybe is None else got._replace(open=maybe)

    def _skip(self, task: Task, reason: str) -> Forecast:
        record_skipped(task, reason)
        return Forecast(SKIP, reason)

    def _of_map(self, task: LinkedTask) -> Forecast:
        if task.status is NOT_STARTED:
            sources = task.links.list_sources()
            made = next((source for source in sources if source in self._unknown), None)
            nest = task.links.nest if task.is_cleanup else None
            is_needed = nest is None or self._running_before(task, nest)  # else all are skipped, or there are none
            may_restore = self._is_resume and not self._changes.is_rerun(task)
            if made is not None and (may_restore or not is_needed):  # what is known of items counts when they are
                return Forecast(OPEN, f"its items come from {self._tasks[made].name}")
            is_cross = task.is_cross
            if any(
                source in self._unknown
                and (is_cross or not self._tasks[source].nodes or not self._tasks[source].gives_items)
                for source in sources
            ):
                return Forecast(RUN, self._why(task))
            try:
                open_map(task, self._tokens.root, self._params)
            except Exception as error:  # NotAList, UnequalLists, or of the user's own list: the task fails
                return Forecast(RUN, f"its lists raise {type(error).__name__}")
            if self._is_resume and task.links.nest is None and not self._takes_cached(task):
                values = self._earlier.restore_items([task]).values
                for index, context in values.get(task.task_id, {}).items():
                    task.items[index]._apply(TaskRestored(task.task_id, context, Context(), index))
        self._foresee(task)
        if task.has_maps and not _are_listed(task):
            if self._is_resume and not self._changes.is_rerun(task):  # what is known of items counts when they are
                return Forecast(OPEN, "its items come from lists of the run")
            return Forecast(RUN, self._why(task))
        done = sum(one.status is SKIPPED or (one.status is COMPLETED and task.step.checkpoint) for one in task.items)
        restored = sum(item.status is COMPLETED for item in task.items) if task.step.checkpoint else 0
        return Forecast(RUN, self._why(task), len(task.items), done, 0, done - restored)

    def _takes_cached(self, task: LinkedTask) -> bool:
        """Returns whether all items of a map take a value of the cache, which counts as made anew."""
        return any(self._tasks[source].restored_from == "cache" for source in task.links.whole_value_sources())

    def _of_rounds(self, task: LinkedTask, nest: Nest) -> Forecast:
        """Returns the forecast of a task of rounds that are not over."""
        if task.is_cleanup:  # it runs for rounds of which a task before it does
            before = self._running_before(task, nest)
            if not before:
                return self._skip(task, NOT_NEEDED)
            if self._open.issuperset(other.task_id for other in before):
                return Forecast(OPEN, f"if {before[0].name} runs")
            return Forecast(RUN, self._why(task))
        saved = [other for other in map(self._tasks.__getitem__, nest.tasks) if not other.is_cleanup]
        done = 0
        lengths = (len(other.items) for other in saved if other.items and not other.gives_list)
        count = min(lengths, default=nest.repeat)
        scopes = task.scopes
        while done < min(count, len(scopes)) and all(self._is_done(other, scopes[done]) for other in saved):
            done += 1
        limit = "at most" if nest.until is not None else "of"
        rounds = f"{_rounds(done)} restored, {limit} {nest.repeat}" if done else f"{limit} {nest.rounds}"
        if done == count:
            return Forecast(RESTORE, f"{_rounds(done)} of {nest.repeat}")
        takes = any(bind.required and nest.has(bind.source) for bind in task.links.binds)
        maybe = next(filter(self._may_skip_rounds, saved), None)
        if takes and maybe is not None and maybe is not task:
            self._may_lack.add(task.task_id)
            return Forecast(OPEN, f"if {maybe.name} runs")
        reason = ", ".join(filter(None, (self._why(task), rounds)))
        if task.has_maps:
            return Forecast(OPEN, reason)
        number, is_last = done, not scopes  # the last round that is known to begin
        while not is_last and ends_are_known(nest, scopes[number]):
            is_last = round_end(nest, scopes[number]).is_end
            number += not is_last
        if not scopes or not all(self._is_done(task, scope) for scope in scopes[done : number + 1]):
            return Forecast(RUN, reason)
        if is_last or number + 1 == nest.repeat:
            return Forecast(RESTORE, rounds)
        assert nest.until is not None, "without it all rounds are known to begin"
        return Forecast(OPEN, f"unless {self._tasks[nest.until].name} is true, {rounds}")

    def _running_before(self, task: Task, nest: Nest) -> list[Task]:
        """Returns what may run of the tasks before a cleanup of an added workflow: it runs after these only."""
        running = self._unknown - self._kept
        return [self._tasks[one] for one in nest.tasks if one < task.task_id and one in running]

    def _may_skip_rounds(self, task: Task) -> bool:
        """Returns whether a task may be skipped in single rounds, or in all."""
        links = task.links
        if links is None or any(condition.by_item for condition in links.conditions):
            return True
        try:
            got = self._gather(links)
            return got.lack is not None or got.open is not None
        except Exception:  # the values' own code; in the run it fails the task
            return True

    def _foresee(self, task: LinkedTask) -> None:
        """Records the items that are skipped for certain."""
        if task.is_cleanup and task.links.nest is not None:  # it runs for items of which a task before it does
            before = [self._tasks[task_id] for task_id in task.links.nest.tasks if task_id < task.task_id]
            for item in task.items:
                if item.status is NOT_STARTED and all(self._is_done(other, item.scope) for other in before):
                    record_skipped(item, NOT_NEEDED)
        inputs = ByItem(task, self._tasks)
        for item in task.items if not inputs.is_plain or (task.items[:1] and task.items[0].sources()) else ():
            with contextlib.suppress(Exception):  # the values' own code; in the run it fails the item
                if item.status is NOT_STARTED:
                    skip = inputs.gather(item, self._masks, BY_RECORD).lack or inputs.unmet_need(item, BY_RECORD)
                    if skip is not None:
                        record_skipped(item, skip.reason)

    def _is_done(self, task: Task, scope: Scope) -> bool:
        """Returns whether a task does not run in a scope: it is restored, skipped or not needed there."""
        status = scope.node(task.task_id).status
        return status is SKIPPED or (status is COMPLETED and task.step.checkpoint)

    def _is_known(self, source: Any) -> bool:
        return not (isinstance(source, int) and source in self._unknown)

    def _why_items_open(self, task: LinkedTask, links: Links) -> str:
        """Returns why items of a map may be skipped or not; "" if it is known of each."""
        if not task.is_mapped:
            return ""
        nest, inputs = links.nest, ByItem(task, self._tasks)
        if nest is not None and links.always and (before := self._open.intersection(nest.tasks)):
            return f"if {self._tasks[min(before)].name} runs"
        left = [item for item in task.items if item.status is NOT_STARTED]
        for condition in links.conditions:
            is_known = task.items and not task.has_maps and all(map(inputs.has_conditions, left))
            if not condition.by_item or is_known:
                continue
            lists = [link.source for link in task.lists if condition.source == Entry(link.parameter)]
            if not all(map(self._is_known, lists or [condition.source])):
                return _condition(condition, self._masks)
        required = {*links.required_sources()} - links.whole_sources()
        required.update(() if task.is_cross else links.list_sources())
        lacking = required & (self._may_lack | self._may_lack_items)
        return f"if {self._tasks[min(lacking)].name} runs" if lacking else ""

    def _why_open(self, got: Got) -> str:
        """Returns why a task may be skipped or not; "" if it runs for sure."""
        if got.open is None:
            return ""
        return _condition(got.open, self._masks) if isinstance(got.open, Condition) else f"if {got.open.name} runs"

    def _why(self, task: Task) -> str:
        """Returns why a task runs: the last task that it waits for, or why its own checkpoint is void."""
        void = self._reasons.get(task.task_id)
        if void is not None and void.cause is Cause.OTHER:
            return void.text
        if task.task_id in self._restoration.edited:
            return self._restoration.edited[task.task_id]
        sources = set(() if task.links is None else task.links.sources())
        if void is not None:
            previous = self._tokens.previous_of(task) if task.links is None else None
            sources.update(self._tokens.taken_as_previous(task) if previous is None else [previous.task_id])
        made = sources & self._unknown
        return f"after {self._tasks[max(made)].name}" if made else "" if void is None else void.text

    # Cached values, of tasks whose arguments are known before the run

    def _with_cache(self, task: LinkedTask, arguments: Arguments, forecast: Forecast) -> Forecast:
        """Returns the forecast of a task that would run, or may, without the cache. Its value goes into the record.

        Args:
            task: The record.
            arguments: Its arguments beside the contexts.
            forecast: What a run would do without the cache.
        """
        previous = self._tokens.previous_of(task)
        sources = [*task.links.value_sources(), *self._tokens.taken_as_previous(task)]
        made = next((source for source in sources if source in self._unknown), None)
        if made is not None or forecast.decision is OPEN:  # the keys are not known before the run
            self._uncertain.setdefault(task.step.identity, task.name)
        if forecast.decision is OPEN:
            return forecast
        if made is not None:
            return Forecast(OPEN, f"its arguments come from {self._tasks[made].name}", forecast.items)
        before = Context() if previous is None else previous.current_context
        if task.is_mapped:
            return self._of_cached_items(task, arguments, before, forecast)
        key = self._cache.key(task, before, arguments or None, None)
        context = self._cache.find(task, key)
        if context is None:
            return self._without_value(task, [key], forecast)
        task._apply(TaskRestored(task.task_id, context, before, None, "cache"))
        return Forecast(TypeDecision.CACHED, "")

    def _without_value(self, task: Task, keys: Sequence[str | None], forecast: Forecast) -> Forecast:
        """Returns the forecast of a task, or of the items of a map, whose values are not in the cache yet."""
        known = [key for key in keys if key is not None]
        maker = self._uncertain.get(task.step.identity) or next(filter(None, map(self._made.get, known)), None)
        is_repeated = len(set(known)) < len(known)
        self._made.update(dict.fromkeys(known, task.name))
        if not self._cache.can_find(task) or not (maker or is_repeated):
            return forecast
        reason = f"{maker} may make its value" if maker else "equal items may share a value"
        return forecast._replace(decision=OPEN, reason=reason)

    def _of_cached_items(self, task: LinkedTask, shared: Arguments, previous: Context, forecast: Forecast) -> Forecast:
        inputs, keys = ByItem(task, self._tasks), list[str | None]()
        for item in task.items:
            own = inputs.arguments(item)
            if item.status in (COMPLETED, SKIPPED) or isinstance(own, Skip):
                continue
            before = Context(own.pop(PREVIOUS)) if PREVIOUS in own else previous
            key = self._cache.key(item, before, own, shared or None)
            context = self._cache.find(item, key)
            if context is None:
                keys.append(key)
            else:
                item._apply(TaskRestored(task.task_id, context, before, item.item, "cache"))
        done = sum(item.status in (COMPLETED, SKIPPED) for item in task.items)
        has_values = any(item.status is COMPLETED for item in task.items)
        if not has_values or done < len(task.items):
            cached = sum(item.restored_from == "cache" for item in task.items)
            return self._without_value(task, keys, forecast._replace(items_done=done, items_cached=cached))
        record_ended(task)
        return Forecast(TypeDecision.CACHED, "", done, done)


def _rounds(count: int) -> str:
    return f"{count} round{'s' * (count != 1)}"


def _finished(context: Context) -> str:
    return f"finished {context.time.astimezone():%Y-%m-%d %H:%M:%S}"


def _condition(condition: Condition, masks: Masks) -> str:
    text = f"{condition.word} {condition.name}"
    if condition.expected is TRUE:
        return text
    return f"{text} is {shorten(masks.mask(safe_repr(condition.expected)), MAX_SHOWN)}"


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
    earlier = EarlierRuns(
        storage,
        journal,
        tokens,
        changes,
        _no_line,
        resume=resume,
        digest_limit=digest_limit,
        asks=True,
        is_plan=True,
        left_out=chosen.left_out,
    )
    restoration = earlier.decide() if resume else None
    if restoration is not None and tasks:  # a run that goes on with values reads whose they are
        with usable(storage):
            journal.fact("origin")
    if resume and restoration is None:  # all tasks run: what it has recorded in them does not hold
        tokens.use([task._new_record(workflow_id, None) for task in tasks])
    tasks = tokens.tasks
    values = Cache(
        providers.cache,
        _no_line,
        _no_line,
        reads=options.cache,
        rerun=chosen.rerun,
        shares_memory=False,
        digest_limit=digest_limit,
    )
    is_resume = restoration is not None and not chosen.anew
    run_forecast = RunForecast(tokens, restoration, changes, values, masks, earlier, is_resume=is_resume)
    planned = [
        PlannedTask(
            task_id=task.task_id,
            name=task.name,
            step=task.step.identity,
            needs=[tasks[need].name for need in plan.needs_of(task.task_id)],
            **forecast._replace(reason=masks.mask(forecast.reason))._asdict(),
        )
        for task, forecast in zip(tasks, run_forecast.forecasts(), strict=True)
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
    names = {ITEM_SUFFIX.sub("", key.removeprefix(prefix)) for key in storage.list_keys(prefix)}
    # A slash would be part of another workflow's id.
    return sorted(
        name for name in names - {task.key_name for task in tasks} if name[:1] not in ("", "@") and "/" not in name
    )


def _are_listed(task: LinkedTask) -> bool:
    """Returns whether the lists of all maps of a task in scopes are known, or these are skipped."""
    nodes = [scope.node(task.task_id) for scope in task.scopes]
    listed = [node for node in nodes if isinstance(node, InnerMap) and node.scope in task.scopes]
    known = all(node.status is not NOT_STARTED and (not node.has_maps or _are_listed(node)) for node in listed)
    return len(listed) == len(nodes) and known
