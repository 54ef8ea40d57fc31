"""ForeseenCache: which values of a run would come from the cache. It only reads."""

from collections.abc import Sequence

from dotflow.core.context import Context
from dotflow.core.events import TaskRestored
from dotflow.core.task import Task
from dotflow.core.types.decision import TypeDecision
from dotflow.core.types.status import TypeStatus
from dotflow.graph.gather import NOT_ENDED, ByItem, Got, Skip
from dotflow.graph.linked_task import LinkedTask
from dotflow.graph.maps import record_ended
from dotflow.graph.wiring import PREVIOUS
from dotflow.resume.cache import Cache, is_cached
from dotflow.resume.judge import Verdict
from dotflow.resume.tokens import Tokens

OPEN = TypeDecision.OPEN


class ForeseenCache:
    """The cached values of a plan, of tasks whose arguments are known before the run.

    Args:
        cache: The cached values.

    Attributes:
        cache: The cached values.
    """

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self._made: dict[str, str] = {}  # the tasks that make a cached value in the run, by its key
        self._uncertain: dict[str, str] = {}  # those whose keys are not known, by step

    def judge(self, task: LinkedTask, got: Got, verdict: Verdict, tokens: Tokens) -> Verdict:
        """Returns the verdict on a task that would run, or may, without the cache. Its value goes into the record.

        Args:
            task: The record.
            got: What it takes.
            verdict: What becomes of it without the cache.
            tokens: What the values depend on.
        """
        if not is_cached(task) or not self.cache.reads or verdict.kind not in (TypeDecision.RUN, OPEN):
            return verdict
        sources = [*task.links.value_sources(), *tokens.taken_as_previous(task)]
        made = next(filter(_is_unknown, map(tokens.tasks.__getitem__, sources)), None)
        is_open = verdict.kind is OPEN or task.is_repeated or task.has_maps  # known before its round, not the run
        if made is not None or is_open:
            self._uncertain.setdefault(task.step.identity, task.name)
        if is_open:
            return verdict._replace(kind=OPEN)
        if made is not None:
            return Verdict(OPEN, f"its arguments come from {made.name}")
        previous = tokens.previous_of(task)
        before = Context() if previous is None else previous.current_context
        if task.is_mapped:
            return self._judge_items(task, got, before, verdict, tokens)
        key = self.cache.key(task, before, got.args or None, None)
        context = self.cache.find(task, key)
        if context is None:
            return self._without_value(task, [key], verdict)
        task._apply(TaskRestored(task.task_id, context, before, None, "cache"))
        return Verdict(TypeDecision.CACHED)

    def _without_value(self, task: Task, keys: Sequence[str | None], verdict: Verdict) -> Verdict:
        """Returns the verdict on a task, or on the items of a map, whose values are not in the cache yet."""
        known = [key for key in keys if key is not None]
        maker = self._uncertain.get(task.step.identity) or next(filter(None, map(self._made.get, known)), None)
        is_repeated = len(set(known)) < len(known)
        self._made.update(dict.fromkeys(known, task.name))
        if not self.cache.can_find(task) or not (maker or is_repeated):
            return verdict
        reason = f"{maker} may make its value" if maker else "equal items may share a value"
        return verdict._replace(kind=OPEN, reason=reason)

    def _judge_items(
        self, task: LinkedTask, shared: Got, previous: Context, verdict: Verdict, tokens: Tokens
    ) -> Verdict:
        inputs, keys = ByItem(task, tokens.tasks), list[str | None]()
        for item in task.items:
            own = inputs.arguments(item)
            if item.status not in NOT_ENDED or isinstance(own, Skip):
                continue
            before = Context(own.pop(PREVIOUS)) if PREVIOUS in own else previous
            key = self.cache.key(item, before, own, shared.args or None)
            context = self.cache.find(item, key)
            if context is None:
                keys.append(key)
            else:
                item._apply(TaskRestored(task.task_id, context, before, item.item, "cache"))
        is_done = all(item.status not in NOT_ENDED for item in task.items)
        if not is_done or not any(item.status is TypeStatus.COMPLETED for item in task.items):
            return self._without_value(task, keys, verdict)
        record_ended(task)
        return Verdict(TypeDecision.CACHED)


def _is_unknown(source: Task) -> bool:
    """Returns whether the value of a task is not known before the run: it runs, or has no checkpoint."""
    return source.status in NOT_ENDED or (source.status is TypeStatus.COMPLETED and not source.step.checkpoint)
