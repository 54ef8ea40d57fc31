"""Cache: values by the step, its code and its arguments, for all runs and workflows that share a storage."""

import copy
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from dotflow import clock
from dotflow.abc.storage import NOT_SAVED, Storage
from dotflow.calls.cached import (
    Folders,
    Key,
    NotComparable,
    absolute,
    changed_in,
    content_of,
    find_key,
    listing,
    parents_of,
)
from dotflow.core.call import Call
from dotflow.core.calls import CacheQuery
from dotflow.core.context import Context, Origin, is_of_actions
from dotflow.core.files import FOLDER, GONE, NO_FILES, NO_STATES, FileRecord, FileState
from dotflow.core.links import AllParams, is_setting
from dotflow.core.outputs import Part, why_unfit
from dotflow.core.task import Task
from dotflow.errors import CheckpointUnreadable, LeaseLost, ValueNotStorable
from dotflow.graph.linked_task import Item, MapContext, outputs_of
from dotflow.worker.attempt import arguments_of
from dotflow.worker.files import digest_of, find_paths, state_of

#: Types whose instances can't change.
IMMUTABLE: Final = frozenset({type(None), bool, int, float, str, bytes})

Arguments = Mapping[str, Any]
Save = Callable[[Task, Context, Context | None], None]


class Pending(NamedTuple):
    """A value whose step has made a file that it was given the path of, or files in a folder that it was given.

    Attributes:
        task: The task or the item.
        key: The key with which it was missed.
        context: The value, and the files that its step made.
        is_posted: Whether it is in the cache under that key.
    """

    task: Task
    key: Key
    context: Context
    is_posted: bool


def is_cached(task: Task) -> bool:
    """Returns whether the task's values are cached. A cleanup has effects, so it always runs."""
    return task.step.cache is not None and not task.is_cleanup


class _Asker(NamedTuple):
    """Who asks for a cached value: a task, also for all items of its map, or an action that it calls."""

    ident: Hashable
    name: str

    @classmethod
    def of(cls, task: Task) -> "_Asker":
        """Returns a task."""
        return cls(task.task_id, f"Task {task.task_id} {_name_of(task)}")

    @classmethod
    def of_call(cls, task: Task, identity: str) -> "_Asker":
        """Returns an action that a task calls."""
        called = identity.rpartition(":")[2]
        return cls((task.task_id, identity), f"{called} in task {task.task_id} {_name_of(task)}")


def _name_of(task: Task) -> str:
    return task.task_name if isinstance(task, Item) else task.name


def _as_of(saved: Context, task: Task, step: str) -> Context:
    """Returns a cached value as that of a task, or of a call in it."""
    context = Context(saved.storage, task.task_id, task.workflow_id, saved.time, step)
    if saved._origin.files is not None:
        context._origin = Origin(None, files=saved._origin.files)
    return context


class Cache:
    """The cached values of a run. Whatever its storage does, the run goes on without it.

    Args:
        storage: Where they are saved.
        save: Saves the checkpoint of a task from its context and previous context; None for that of its record.
        log_line: Writes a line into the log.
        reads: Whether cached values are used. Otherwise they are made anew, and replaced.
        rerun: The ids of the tasks whose values are made anew in any case.
        shares_memory: Whether steps may change their arguments while the run has them.
        digest_limit: The size up to which files are read for a digest; None to take a path for its text.
    """

    def __init__(
        self,
        storage: Storage,
        save: Save,
        log_line: Callable[..., None],
        *,
        reads: bool,
        rerun: Collection[int],
        shares_memory: bool,
        digest_limit: int | None,
    ) -> None:
        self._storage = storage
        self._save = save
        self._log_line = log_line
        self._rerun = rerun
        self._shares_memory = shares_memory
        self._digest_limit = digest_limit
        self._digests: dict[tuple[int, str], tuple[Any, str]] = {}  # of the last argument, by task and parameter
        self._keys: dict[tuple[int, int | None], Key] = {}  # of the values that are made, by task and item
        self._made: dict[str, FileState] = {}  # the files that steps of this run have made
        self._pending: list[Pending] = []
        self._reported: set[Hashable] = set()
        self._keeps_objects = None if storage.outlives_process else True  # None: unknown yet
        self.reads = reads

    def save(self, task: Task, context: Context) -> None:
        """Saves the checkpoint of a task or an item, and its value under the key with which `restore` missed it."""
        self._save(task, context, None)
        made = (context._origin.files or NO_FILES).made
        self._made.update((absolute(name), state) for name, state in made.items())
        key = self._keys.pop((task.task_id, task.item), None)
        if key is not None and context.step == task.step.identity:  # not of the fallback
            self._post(task, key, context)

    def close(self) -> None:
        """Saves values whose steps have made files in folders that they were given, for the folders as they are now.

        The next run finds them so. Only what steps of this run have made may be new in them.
        """
        now: Folders = {}
        around = parents_of(self._made) if self._pending else ()
        for task, key, context, is_posted in self._pending:
            found = self._listings(task, key.folders.keys() - now.keys())
            if found is None:
                continue
            now |= found
            changed = [name for name in changed_in(key.folders, now) if not self._is_made(name, around)]
            if changed and not is_posted:
                self._report_changed(task, min(changed))
            if changed:
                continue
            contents = {}
            for path in key.folders:
                if path.is_dir():
                    contents[path] = now[path]
                elif self._is_made(str(path), around):
                    contents[path] = content_of(state_of(path, self._digest_limit or 0) or GONE)
            keys = [key.with_contents(contents)]
            self._save_under(_Asker.of(task), keys if is_posted else [str(key), *keys], context)
        self._pending.clear()

    def _listings(self, task: Task, folders: Collection[Path]) -> Folders | None:
        """Returns what is in folders now; None if they have too many files, which is logged."""
        try:
            return {folder: list(listing(folder)) for folder in folders}
        except NotComparable as error:
            self._report_task(task, "folder", f"{error}.")
            return None

    def _is_made(self, name: str, around: Collection[str]) -> bool:
        """Returns whether a file is as a step of this run has made it, or a folder is *around* such files."""
        path = absolute(name)
        made, now = self._made.get(path), state_of(path, -1)
        if now is not None and now.mark == FOLDER:
            return path in around
        return made is not None and now is not None and made[:2] == now[:2]

    def restore(
        self, task: Task, previous: Context, arguments: Arguments | None, shared: Arguments | None
    ) -> Context | None:
        """Returns the cached value of a task, whose checkpoint is saved now; None if the task has to run."""
        key = self._key(task, previous, arguments, shared)
        context = self.find(task, None if key is None else str(key))
        if context is None:
            if key is not None:
                self._keys[task.task_id, task.item] = key
            return None
        try:
            self._save(task, context, previous)
        except LeaseLost:  # the run ends at its next value
            return None
        except NOT_SAVED as error:
            self._report_task(task, "checkpoint", f"its checkpoint can't be saved. {error}")
            return None
        return context

    def key(self, task: Task, previous: Context, arguments: Arguments | None, shared: Arguments | None) -> str | None:
        """Returns the key of a task's value; None if an argument has no digest, which is logged once.

        The values of secrets are no part of it, so a new token does not make values anew.
        """
        key = self._key(task, previous, arguments, shared)
        return None if key is None else str(key)

    def _key(self, task: Task, previous: Context, arguments: Arguments | None, shared: Arguments | None) -> Key | None:
        step = task.step
        call = Call(task.task_id, 0, step, task.initial_context, previous, "", None, 0, arguments, shared)
        values = _without_settings(task, dict(arguments_of(call)))
        if isinstance(step.function, type):  # its actions may take them
            values = {"initial_context": task.initial_context, "previous_context": previous, **values}
        try:
            return find_key(step, values, partial(self._digest, task), self._digest_limit if step.files else None)
        except NotComparable as error:
            self._report_task(task, error.kind, f"{error}.")
            return None

    def _digest(self, task: Task, name: str, value: Any) -> str:
        """Returns the digest of an argument; once for all items of a map that share it, if no step can change it."""
        from dotflow.codec.canonical import digest

        last = self._digests.get((task.task_id, name))
        if last is not None and last[0] is value:
            return last[1]
        result = digest(_comparable(value))
        if not self._shares_memory:
            self._digests[task.task_id, name] = value, result
        return result

    def can_find(self, task: Task) -> bool:
        """Returns whether a cached value of the task is used."""
        return self.reads and task.task_id not in self._rerun

    def find(self, task: Task, key: str | None) -> Context | None:
        """Returns the cached value as a context of the task; None if there is none that is young enough."""
        if key is None or not self.can_find(task):
            return None
        step = task.step
        found = self._find(_Asker.of(task), key, step.cache, has_files=step.files, outputs=outputs_of(task) or ())
        return None if found is None else _as_of(found, task, step.identity)

    def find_call(self, task: Task, name: str, query: CacheQuery) -> Context | None:
        """Returns the cached value of a call in a task, by the identity of its action; None if there is none."""
        asker = _Asker.of_call(task, name)
        if query.reason:
            self._report(asker, "key", query.reason)
        if not query.keys or not self.can_find(task):
            return None
        found = self._find(asker, query.keys[0], query.age, has_files=query.has_files)
        return None if found is None else _as_of(found, task, name)

    def save_call(self, task: Task, name: str, query: CacheQuery, context: Context) -> None:
        """Saves the value of a call that was made."""
        asker = _Asker.of_call(task, name)
        if query.reason:
            self._report(asker, "made", query.reason)
        self._save_under(asker, query.keys, context)

    def _find(
        self, asker: "_Asker", key: str, age: float | None, *, has_files: bool, outputs: Sequence[Part] = ()
    ) -> Context | None:
        try:
            saved = self._storage.get(key)
            if saved.storage is None and saved.task_id is None:
                return None
            if not self._is_young(age, saved):
                return None
            if outputs and why_unfit(saved.storage, outputs):
                return None
            files = saved._origin.files
            if self._digest_limit is not None and has_files and not self._has_files(saved.storage, files):
                return None
            if self._is_kept(key, saved.storage):
                saved = _context_of(saved, _copy(saved.storage))
        except CheckpointUnreadable as error:
            reason = f"its value in {error.where or type(self._storage).__name__} can't be read: {error.reason}."
            self._report(asker, "get", f"{reason} The run replaces it.")
            return None
        except ValueNotStorable as error:
            self._report(asker, "value", f"its value can't be read. {error}")
            return None
        except Exception as error:  # the storage may be the user's
            self._report_once("get", f"Cached values can't be read: {type(error).__name__}: {error}. Their steps run.")
            return None
        return saved

    def _has_files(self, value: Any, record: FileRecord | None) -> bool:
        """Returns whether the files of a value are those that its step made."""
        limit = self._digest_limit or 0
        made = NO_STATES if record is None else record.made
        for name in {*made, *map(str, find_paths(value))}:
            now = state_of(name, -1)
            was = made.get(name)
            if was is None and now is not None and not now.is_gone:  # it was no file, or is of an earlier dotflow
                return False
            if was is not None and (now is None or not was.is_same(now, partial(digest_of, name, limit))):
                return False
        return True

    def _is_young(self, age: float | None, saved: Context) -> bool:
        if age is True:
            return True
        if saved.task_id is None:
            name = type(self._storage).__name__
            self._report_once("age", f"{name} keeps values only, which don't show their age, so steps with one run.")
            return False
        return (clock.now() - saved.time).total_seconds() <= (age or 0)

    def _post(self, task: Task, key: Key, context: Context) -> None:
        value = context.storage
        if is_of_actions(value) and not isinstance(task.step.function, type):
            reason = (
                "it returns an instance, whose actions may take contexts that it does not. Make its class the step."
            )
            self._report_task(task, "actions", reason)
            return
        record = context._origin.files or NO_FILES
        if not record.changed and not key.folders:
            self._save_under(_Asker.of(task), [str(key)], context)
            return
        made = {*map(absolute, record.made)}
        own = made | parents_of(made)
        if changed := {name for name in record.changed if absolute(name) not in own}:
            self._report_changed(task, min(changed))
            return
        now = self._listings(task, key.folders)
        if now is None:
            return
        for folder in key.folders:
            changed = {*changed_in({folder: key.folders[folder]}, now)}
            if changed and absolute(folder) not in own:
                self._report_changed(task, min(changed))  # by it, or while it may have read the folder
                return
        changed = {*map(absolute, changed_in(key.folders, now))}
        is_own = changed <= own
        if is_own:
            self._save_under(_Asker.of(task), [str(key)], context)
        if changed or not made.isdisjoint(map(absolute, key.folders)):
            try:
                self._pending.append(Pending(task, key, _context_of(context, _copy(value)), is_own))
            except ValueNotStorable as error:
                self._report_task(task, "value", f"its value can't be saved there. {error}")

    def _save_under(self, asker: "_Asker", keys: Collection[str], context: Context) -> None:
        value = context.storage
        try:
            for key in keys:
                self._storage.post(key, _context_of(context, value))
                if self._is_kept(key, value):
                    self._storage.delete(key)
                    self._storage.post(key, _context_of(context, _copy(value)))
        except LeaseLost:  # the run ends at its next value
            return
        except ValueNotStorable as error:
            self._report(asker, "value", f"its value can't be saved there. {error}")
        except Exception as error:  # the storage may be the user's
            self._report_once("post", f"Values can't be saved in the cache: {type(error).__name__}: {error}")

    def _is_kept(self, key: str, value: Any) -> bool:
        """Returns whether the storage keeps the object itself, which the run may change."""
        if value.__class__ in IMMUTABLE:
            return False
        if self._keeps_objects is None:
            try:
                self._keeps_objects = self._storage.get(key).storage is value
            except Exception:  # the storage may be the user's
                return True
        return self._keeps_objects

    def _report_changed(self, task: Task, name: str) -> None:
        self._report_task(
            task, "changed", f"{name}, which it was given, changed while it ran, and it does not return it."
        )

    def _report_task(self, task: Task, kind: str, reason: str) -> None:
        self._report(_Asker.of(task), kind, reason)

    def _report(self, asker: "_Asker", kind: str, reason: str) -> None:
        """Reports once for an asker why a value is not cached."""
        self._report_once((asker.ident, kind), f"{asker.name} is not cached: {reason}")

    def _report_once(self, kind: Hashable, line: str) -> None:
        if kind not in self._reported:
            self._reported.add(kind)
            self._log_line(line)


def _without_settings(task: Task, values: dict[str, Any]) -> dict[str, Any]:
    """Returns the arguments that are inputs: a Setting is none."""
    links = task.task_links if isinstance(task, Item) else task.links
    for bind in () if links is None else links.binds:
        if is_setting(bind.source):
            values.pop(bind.parameter, None)
        elif type(bind.source) is AllParams and bind.source.settings and bind.parameter in values:
            params = values[bind.parameter]
            values[bind.parameter] = {name: params[name] for name in params if name not in bind.source.settings}
    return values


def _context_of(context: Context, value: Any) -> Context:
    """Returns a context with the origin of another one and its files, and without its inputs."""
    copied = Context(value, context.task_id, context.workflow_id, context.time, context.step)
    if context._origin.files is not None:
        copied._origin = Origin(None, files=context._origin.files)
    return copied


def _copy(value: Any) -> Any:
    try:
        return copy.deepcopy(value)
    except Exception as error:  # of the user's own type
        raise ValueNotStorable(type(value).__qualname__, reason=f"copying it raises {type(error).__name__}") from error


def _comparable(value: Any) -> Any:
    """Returns what makes two arguments equal: of a Context its values and failed items, but not its time and run."""
    if isinstance(value, Context):
        failed = [[item, error.exception, error.message] for item, error in sorted(value.errors.items())]
        if not isinstance(value, MapContext):
            return ["Context", _comparable(value.storage), failed]
        values = [value.values] if len(value.values) < len(value.storage) else []
        return ["Context", _comparable(value.storage), failed, value.entries, *values]
    if is_of_actions(value):
        return [_comparable(element) for element in value]
    return value
