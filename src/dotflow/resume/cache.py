"""Cache: values by the step, its code and its arguments, for all runs and workflows that share a storage."""

import copy
import os
import sys
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import MethodType, ModuleType
from typing import Any, Final, NamedTuple

from dotflow import clock
from dotflow.abc.storage import NOT_SAVED, Storage
from dotflow.code.fingerprint import fingerprint
from dotflow.core.action import Action, AnyAction
from dotflow.core.call import Call
from dotflow.core.callables import unwrapped
from dotflow.core.context import Context, Origin, is_of_actions
from dotflow.core.files import FOLDER, GONE, LOOSE, NO_FILES, NO_STATES, FileRecord, FileState
from dotflow.core.links import AllParams, is_setting
from dotflow.core.outputs import why_unfit
from dotflow.core.task import Task
from dotflow.errors import CheckpointUnreadable, LeaseLost, ValueNotStorable
from dotflow.graph.linked_task import Item, MapContext, outputs_of
from dotflow.worker.attempt import arguments_of
from dotflow.worker.files import digest_of, find_paths, state_of

#: The beginning of the keys; no workflow can have it as its id and be cleared with it, since a key has two slashes.
PREFIX: Final = "@cache/"

#: Types whose instances can't change.
IMMUTABLE: Final = frozenset({type(None), bool, int, float, str, bytes})

MAX_ENTRIES: Final = 10_000  # of a folder among the arguments

absolute: Final = os.path.abspath  # follows no link, as Path.resolve would

Arguments = Mapping[str, Any]
Folders = dict[Path, list[list[Any]]]  # the name, size and time of each file in a folder, and the name of each folder
Save = Callable[[Task, Context, Context | None], None]


class Key(NamedTuple):
    """The key of a value that a step makes.

    Attributes:
        prefix: The beginning of its text.
        code: The fingerprint of the step, and the script that calls it.
        arguments: What each argument, and each path in it, is known by: a list of names and digests.
        folders: What was in the folders among the arguments, and in paths where nothing was.
        places: The places of these in *arguments*.
    """

    prefix: str
    code: list[str]
    arguments: list[list[Any]]
    folders: Folders
    places: dict[Path, list[int]]

    def __str__(self) -> str:
        from dotflow.codec.canonical import digest  # here, since most workflows never need it

        return f"{self.prefix}{digest([*self.code, self.arguments])}"

    def with_contents(self, contents: Mapping[Path, Any]) -> str:
        """Returns the text of the key for paths that have other contents."""
        arguments = [*self.arguments]
        for path, content in contents.items():
            for place in self.places[path]:
                arguments[place] = [arguments[place][0], [str(path), content]]
        return str(self._replace(arguments=arguments))


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


def prefix_of(identity: str) -> str:
    """Returns the beginning of the keys of a step's values."""
    return f"{PREFIX}{identity}/"


def is_cached(task: Task) -> bool:
    """Returns whether the task's values are cached. A cleanup has effects, so it always runs."""
    return task.step.cache is not None and not task.is_cleanup


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
        around = _parents_of(self._made) if self._pending else ()
        for task, key, context, is_posted in self._pending:
            found = self._listings(task, key.folders.keys() - now.keys())
            if found is None:
                continue
            now |= found
            changed = [name for name in _changed_in(key.folders, now) if not self._is_made(name, around)]
            if changed and not is_posted:
                self._report_changed(task, min(changed))
            if changed:
                continue
            contents = {}
            for path in key.folders:
                if path.is_dir():
                    contents[path] = now[path]
                elif self._is_made(str(path), around):
                    contents[path] = _content_of(state_of(path, self._digest_limit or 0) or GONE)
            keys = [key.with_contents(contents)]
            self._save_under(task, keys if is_posted else [str(key), *keys], context)
        self._pending.clear()

    def _listings(self, task: Task, folders: Collection[Path]) -> Folders | None:
        """Returns what is in folders now; None if they have too many files, which is logged."""
        try:
            return {folder: list(_listing(folder)) for folder in folders}
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
        code = fingerprint(step)
        if not code:
            self._report_task(task, "code", "its code can't be read. Write version=... to stand for it.")
            return None
        call = Call(task.task_id, 0, step, task.initial_context, previous, "", None, 0, arguments, shared)
        values = _without_settings(task, dict(arguments_of(call)))
        if isinstance(step.function, type):  # its actions may take them
            values = {"initial_context": task.initial_context, "previous_context": previous, **values}
        instance = _instance_of(step)
        if instance is not None:
            values["self"] = instance
        key = Key(prefix_of(step.identity), [code, _script_of(step)], [], {}, {})
        for name, value in sorted(values.items()):
            try:
                key.arguments.append([name, self._digest(task, name, value)])
                if self._digest_limit is not None and step.files:
                    for path, content in _contents(find_paths(value), self._digest_limit, key.folders):
                        if path in key.folders:
                            key.places.setdefault(path, []).append(len(key.arguments))
                        key.arguments.append([name, content])
            except NotComparable as error:
                self._report_task(task, f"argument {name}", f"{error}.")
                return None
            except Exception:  # a value that the codec refuses, or of the user's own type
                reason = f"its argument '{name}', of type {type(value).__qualname__}, can't be compared."
                self._report_task(task, f"argument {name}", reason)
                return None
        return key

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
        try:
            saved = self._storage.get(key)
            if saved.storage is None and saved.task_id is None:
                return None
            if not self._is_young(task, saved):
                return None
            if (outputs := outputs_of(task)) and why_unfit(saved.storage, outputs):
                return None
            files = saved._origin.files
            if self._digest_limit is not None and task.step.files and not self._has_files(saved.storage, files):
                return None
            value = _copy(saved.storage) if self._is_kept(key, saved.storage) else saved.storage
        except CheckpointUnreadable as error:
            reason = f"its value in {error.where or type(self._storage).__name__} can't be read: {error.reason}."
            self._report_task(task, "get", f"{reason} The run replaces it.")
            return None
        except ValueNotStorable as error:
            self._report_task(task, "value", f"its value can't be read. {error}")
            return None
        except Exception as error:  # the storage may be the user's
            self._report_once("get", f"Cached values can't be read: {type(error).__name__}: {error}. Their steps run.")
            return None
        context = Context(value, task.task_id, task.workflow_id, saved.time, task.step.identity)
        if files is not None:
            context._origin = Origin(None, files=files)
        return context

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

    def _is_young(self, task: Task, saved: Context) -> bool:
        seconds = task.step.cache
        if seconds is True:
            return True
        if saved.task_id is None:
            name = type(self._storage).__name__
            self._report_once("age", f"{name} keeps values only, which don't show their age, so steps with one run.")
            return False
        return (clock.now() - saved.time).total_seconds() <= float(seconds or 0)

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
            self._save_under(task, [str(key)], context)
            return
        made = {*map(absolute, record.made)}
        own = made | _parents_of(made)
        if changed := {name for name in record.changed if absolute(name) not in own}:
            self._report_changed(task, min(changed))
            return
        now = self._listings(task, key.folders)
        if now is None:
            return
        for folder in key.folders:
            changed = {*_changed_in({folder: key.folders[folder]}, now)}
            if changed and absolute(folder) not in own:
                self._report_changed(task, min(changed))  # by it, or while it may have read the folder
                return
        changed = {*map(absolute, _changed_in(key.folders, now))}
        is_own = changed <= own
        if is_own:
            self._save_under(task, [str(key)], context)
        if changed or not made.isdisjoint(map(absolute, key.folders)):
            try:
                self._pending.append(Pending(task, key, _context_of(context, _copy(value)), is_own))
            except ValueNotStorable as error:
                self._report_task(task, "value", f"its value can't be saved there. {error}")

    def _save_under(self, task: Task, keys: Collection[str], context: Context) -> None:
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
            self._report_task(task, "value", f"its value can't be saved there. {error}")
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
        """Reports once for a task, and all items of a map, why its value is not cached."""
        name = task.task_name if isinstance(task, Item) else task.name
        self._report_once((task.task_id, kind), f"Task {task.task_id} {name} is not cached: {reason}")

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


class NotComparable(Exception):
    """A folder has too many files, or a database is open."""


def _contents(paths: Collection[Path], limit: int, folders: Folders) -> Iterator[tuple[Path, list[Any]]]:
    """Yields what shows the content of the files and folders among the arguments. Raises NotComparable.

    *folders* gets what is in the folders, and in paths where nothing is.
    """
    for path in sorted(paths):
        if path.is_dir():
            folders[path] = list(_listing(path))
            yield path, [str(path), folders[path]]
            continue
        state = state_of(path, limit)
        if state is not None and state.is_gone:
            folders[path] = []
        if state is not None and state.mark == LOOSE:  # what was written last is in another file
            raise NotComparable(f"{path} is a database that is open: '{path.name}-wal' lies beside it")
        if state is not None:
            yield path, [str(path), _content_of(state)]


def _content_of(state: FileState) -> Any:
    return state.digest or [state.size, state.mtime]


def _parents_of(names: Collection[str]) -> set[str]:
    return {str(parent) for name in names for parent in Path(name).parents}


def _changed_in(before: Folders, now: Folders) -> Iterator[str]:
    """Yields the files and folders in folders that are others than before, or no longer there."""
    for folder, entries in before.items():
        changed = set(map(tuple, entries)) ^ set(map(tuple, now[folder]))
        yield from (str(folder / name) for name, *_ in changed)


def _listing(folder: Path) -> Iterator[list[Any]]:
    """Yields name, size and time of each file below a folder, and the name of each folder. Raises NotComparable.

    Links are followed, each folder once.
    """
    count, seen = 0, {os.path.realpath(folder)}
    for parent, folders, names in os.walk(folder, followlinks=True):
        count += len(folders) + len(names)
        if count > MAX_ENTRIES:
            raise NotComparable(f"{folder} has more than {MAX_ENTRIES:,} files")
        real = {name: os.path.realpath(Path(parent, name)) for name in sorted(folders)}
        yield from ([f"{Path(parent, name).relative_to(folder)}/"] for name in real)
        folders[:] = [name for name, path in real.items() if path not in seen]
        seen.update(real.values())
        for name in sorted(names):
            state = state_of(Path(parent, name), -1)
            yield [str(Path(parent, name).relative_to(folder)), *(state or GONE)[:2]]


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


def _instance_of(step: AnyAction) -> Any:
    """Returns the instance of a method, or one that can be called itself; None where there is none.

    A command is none: its version stands for all of it.
    """
    function = unwrapped(step.function)
    if type(function).__module__ == "dotflow.worker.shell":
        return None
    if isinstance(function, Action):
        return _instance_of(function)
    method = getattr(function, "__call__", None)  # noqa: B004 (the method itself)
    owner = function if type(method) is MethodType else getattr(function, "__self__", None)
    return None if isinstance(function, type) or isinstance(owner, type | ModuleType) else owner


def _script_of(step: AnyAction) -> str:
    """Returns the path of the script if `version` stands for the code: many scripts call their steps alike."""
    if step.version is None or not step.identity.startswith("__main__:"):
        return ""
    return str(getattr(sys.modules.get("__main__"), "__file__", None) or "")
