"""ChangedCode: which checkpoints were made by other code than that of today, and which were asked to run again."""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final

from dotflow.code.bytecode import SIZE
from dotflow.code.fingerprint import PYTHON, actions_in, can_compare, renew
from dotflow.core.action import AnyAction
from dotflow.core.callables import unwrapped
from dotflow.core.context import Context
from dotflow.core.task import Task
from dotflow.graph.linked_task import Item
from dotflow.graph.maps import BY_INDEX
from dotflow.resume.choice import NONE_CHOSEN, ChosenTasks, Resume
from dotflow.resume.judge import Cause, Void
from dotflow.resume.tokens import Tokens, always_takes_previous

CHANGED: Final = "its code has changed"
RERUN: Final = Void("rerun names it", Cause.INTENT)
ASKED_FOR: Final = Void("asked for", Cause.ASKED_FOR)


class ChangedCode:
    """Compares the code of the steps with that which made the checkpoints.

    The fingerprints are made here, before the first attempt: a step may change what it is made of. A value without a
    checkpoint counts as part of the code of the tasks that take it, since nothing else shows how it was made.

    Args:
        tokens: What the values of the run's tasks depend on.
        resume: Which earlier runs count; with "changed", a task runs again if its code has changed.
        chosen: The tasks that run again in any case.

    Attributes:
        codes: The fingerprint of the code that makes the value of each task.
        others: The ids of the tasks some of whose values other code makes: a fallback's, and those of items by index.
        changed: The ids of the tasks whose code has changed.
        restored: Those of them that are restored all the same.
        calls: The fingerprints of the actions that durable steps call, by their identities.
    """

    def __init__(self, tokens: Tokens, resume: Resume = True, chosen: ChosenTasks = NONE_CHOSEN) -> None:
        tasks = self._tasks = tokens.tasks
        self._previous = tokens.previous
        self._runs_again = resume == "changed"
        self._rerun = {**dict.fromkeys(chosen.anew, ASKED_FOR), **dict.fromkeys(chosen.rerun, RERUN)}
        self._from_calls = chosen.calls
        self._unknown: set[int] = set()
        self._noted: set[int] = set()
        self._fallbacks: dict[int, dict[str, str]] = {}  # the fingerprints of values by the fallback, by task
        self._by_index: dict[int, str] = {}  # those of items that are known by their index
        self._unsaved: dict[int, list[int]] = {}  # the sources without checkpoints, by task
        self.changed: set[int] = set()
        self.restored: set[int] = set()
        steps = [task.step for task in tasks]
        by_step = {step: renew(step) for step in dict.fromkeys(steps)}
        self.codes: list[str] = list(map(by_step.__getitem__, steps))
        durable = [step for step in by_step if step.durable]
        if tokens.has_links:
            fallbacks = {one.step: None for task in tasks if task.links is not None for one in task.links.fallbacks}
            durable += [step for step in fallbacks if step.durable]
        self.calls: Mapping[str, str] = _codes_of_calls(durable) if durable else {}
        if tokens.has_links and any(
            not task.step.checkpoint or (task.links and task.links.fallbacks) for task in tasks
        ):
            self._add_links()
        self.others: Collection[int] = self._fallbacks.keys() | self._by_index.keys()

    def _add_links(self) -> None:
        """Adds to the code of each task what else makes its value."""
        unsaved: dict[int, str] = {}  # whatever may have made an unsaved value
        for task_id, task in enumerate(self._tasks):
            sources = list(self._sources_in(unsaved, task))
            if sources:
                self._unsaved[task_id] = sources
            own = self.codes[task_id]
            codes = [unsaved[source] for source in sources]
            self.codes[task_id] = joined(own, *codes)
            links = task.links
            if links is None:
                continue
            fallbacks = {handler.step.identity: renew(handler.step) for handler in links.fallbacks}
            if fallbacks:  # their values depend on the step that failed, too
                self._fallbacks[task_id] = {name: joined(own, code, *codes) for name, code in fallbacks.items()}
            lists = [unsaved[source] for source in links.list_sources() if source in unsaved]
            everything = joined(own, *fallbacks.values(), *codes, *lists)
            if lists:
                self._by_index[task_id] = everything
            if not task.step.checkpoint:
                unsaved[task_id] = everything

    def _sources_in(self, unsaved: Collection[int], task: Task) -> Iterator[int]:
        """Yields the sources of a task's value that are unsaved. An item shows by its key which entry it is made of."""
        if not unsaved:
            return
        links = task.links
        if links is not None:
            taken = links._replace(levels=()).value_sources()
            lists = {source for source in links.list_sources() if not self._tasks[source].is_mapped}.difference(taken)
            yield from sorted(set(links.value_sources()) & set(unsaved) - lists)
        source = self._previous[task.task_id] if always_takes_previous(task) else None
        while source is not None:
            if source in unsaved:
                yield source
            before = self._tasks[source].links
            may_be_skipped = before is not None and (before.conditions or before.value_sources())
            source = self._previous[source] if may_be_skipped else None

    def code_of(self, task: Task, context: Context) -> str:
        """Returns the fingerprint of the code that made the value of a task or an item."""
        task_id = task.task_id
        if task_id in self._by_index and isinstance(task, Item) and BY_INDEX in task.key_suffix:  # of any list of it
            return self._by_index[task_id]
        step, fallbacks = context.step, self._fallbacks.get(task_id)
        if fallbacks is None or step is None or is_same_step(step, task.step.identity):
            return self.codes[task_id]
        return next((code for name, code in fallbacks.items() if is_same_step(step, name)), self.codes[task_id])

    def is_rerun(self, task: Task) -> bool:
        """Returns whether the task runs again in any case."""
        return task.task_id in self._rerun

    def why_asked_for(self, task: Task) -> Void | None:
        """Returns why the task runs again in any case; None if it does not."""
        return self._rerun.get(task.task_id)

    def why_void(self, task: Task, context: Context) -> Void | None:
        """Returns why the task or item runs again; None if neither its code nor `rerun` is a reason."""
        task_id = task.task_id
        if task_id in self._rerun:
            return self._rerun[task_id]
        if task_id in self._from_calls:  # its other calls count, as after an edit of its code
            return Void(f"rerun names its call {self._from_calls[task_id]}", Cause.CODE)
        saved, now = context._origin.code, self.code_of(task, context)
        if saved == now and saved:
            return None
        was_declared = saved.startswith("version ") and bool(now)  # and no longer is: what it stood for is not known
        if not saved or not (can_compare(saved, now) or was_declared):
            if self._runs_again or context._origin.initial is not None:  # or the storage keeps values only
                self._unknown.add(task_id)
            return None
        self.changed.add(task_id)
        cause = Cause.INTENT if task_id in self._unsaved else Cause.CODE
        return Void(self.reason_of(task_id), cause) if self._runs_again else None

    def reason_of(self, task_id: int) -> str:
        """Returns that the code of a task has changed, or that of what it takes; "" if neither has."""
        if task_id not in self.changed:
            return ""
        unsaved = self._unsaved.get(task_id)
        return f"{CHANGED}, or that of {self._names(unsaved)}" if unsaved else CHANGED

    def notes(self, restored: Collection[int]) -> list[str]:
        """Returns what to log about the code of restored tasks, of each task once."""
        notes = []
        changed, unknown = (ids.intersection(restored) - self._noted for ids in (self.changed, self._unknown))
        if changed and not self._runs_again:
            self.restored |= changed
            names = self._names(changed, with_sources=True)
            notes.append(
                f"The code of {names} has changed since the values were made, which are restored all the same. "
                f"Use resume='changed' or --resume-changed to run them again, with what needs them."
            )
        if unknown:
            notes.append(
                f"Whether the code of {self._names(unknown)} has changed is unknown, since another Python or an "
                f"earlier dotflow made the values, or the code can't be read. They are restored. Use "
                f"rerun=[...] or --rerun to run them again."
            )
        self._noted |= changed | unknown
        return notes

    def _names(self, ids: Collection[int], *, with_sources: bool = False) -> str:
        names = []
        for task_id in sorted(ids):
            sources = self._unsaved.get(task_id) if with_sources else None
            suffix = f" (or of {self._names(sources)})" if sources else ""
            names.append(f"'{self._tasks[task_id].name}'{suffix}")
        return ", ".join(names)


def _codes_of_calls(steps: Iterable[AnyAction]) -> dict[str, str]:
    """Returns the fingerprints of the actions that steps use, by their identities, where no two share one.

    They are made before the first attempt: a step may change a global that is part of one.
    """
    from dotflow.calls.keys import identity_of  # here: few steps are durable

    codes: dict[str, str] = {}
    for action in dict.fromkeys(action for step in steps for action in actions_in(step)):
        code, name = renew(action), identity_of(unwrapped(action.function))
        codes[name] = code if codes.get(name, code) == code else ""
    return {name: code for name, code in codes.items() if code}


def is_same_step(saved: str, current: str) -> bool:
    """Returns whether two identities name one step. A script is `__main__` when run, and has a name when imported."""
    if saved == current:
        return True
    (module, _, name), (current_module, _, current_name) = saved.partition(":"), current.partition(":")
    return name == current_name and "__main__" in (module, current_module)


def joined(*codes: str) -> str:
    """Returns the fingerprint that stands for several; the only one itself, and empty if one of them is unknown."""
    if len(codes) == 1 or not all(codes):
        return "" if "" in codes else codes[0]
    is_declared = all(code.startswith("version ") for code in codes)
    digest = hashlib.blake2b(repr(codes).encode(errors="surrogatepass"), digest_size=SIZE).hexdigest()
    return f"version {digest}" if is_declared else f"{PYTHON}:{digest}"
