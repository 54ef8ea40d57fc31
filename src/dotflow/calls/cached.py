"""The key of a cached value: its step and the code of that, its arguments, and the files among them."""

import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from types import MethodType, ModuleType
from typing import Any, Final, NamedTuple

from dotflow.code.fingerprint import fingerprint
from dotflow.core.action import Action, AnyAction
from dotflow.core.callables import parameters, unwrapped
from dotflow.core.calls import CacheQuery
from dotflow.core.files import GONE, LOOSE, NO_FILES, FileRecord, FileState
from dotflow.worker.files import SCALARS, find_paths, state_of

#: The beginning of the keys; no workflow can have it as its id and be cleared with it, since a key has two slashes.
PREFIX: Final = "@cache/"

MAX_ENTRIES: Final = 10_000  # of a folder among the arguments

absolute: Final = os.path.abspath  # follows no link, as Path.resolve would

Folders = dict[Path, list[list[Any]]]  # the name, size and time of each file in a folder, and the name of each folder


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


def prefix_of(identity: str) -> str:
    """Returns the beginning of the keys of a step's values."""
    return f"{PREFIX}{identity}/"


def find_key(step: AnyAction, values: Mapping[str, Any], digest: Callable[[str, Any], str], limit: int | None) -> Key:
    """Returns the key of the value that a step makes of these arguments.

    Args:
        step: The step, or the action that is called.
        values: The arguments, by parameter.
        digest: Returns the digest of an argument, by its parameter.
        limit: The size up to which files among the arguments are read; None to take a path for its text.

    Raises:
        NotComparable: The code, or an argument, has no digest.
    """
    code = fingerprint(step)
    if not code:
        raise NotComparable("its code can't be read. Write version=... to stand for it", "code")
    if (instance := _instance_of(step)) is not None:
        values = {**values, "self": instance}
    key = Key(prefix_of(step.identity), [code, _script_of(step)], [], {}, {})
    for name, value in sorted(values.items()):
        try:
            key.arguments.append([name, digest(name, value)])
            if limit is not None:
                for path, content in _contents(find_paths(value), limit, key.folders):
                    if path in key.folders:
                        key.places.setdefault(path, []).append(len(key.arguments))
                    key.arguments.append([name, content])
        except NotComparable as error:
            raise NotComparable(str(error), f"argument {name}") from None
        except Exception:  # a value that the codec refuses, or of the user's own type
            reason = f"its argument '{name}', of type {type(value).__qualname__}, can't be compared"
            raise NotComparable(reason, f"argument {name}") from None
    return key


class CachedCall:
    """A call of an action with a cache, before and after it is made.

    Args:
        action: The action.
        values: The arguments that tell its calls apart.
        limit: The size up to which files among them are read; None to take a path for its text.
    """

    def __init__(self, action: AnyAction, values: Mapping[str, Any], limit: int | None) -> None:
        known = parameters(action.function)
        self._action = action
        # A step that is not passed a parameter has its default in its code only.
        self._values = {
            name: value
            for name, value in values.items()
            if type(value) not in SCALARS or name not in known or not _is_same(value, known[name].default)
        }
        self._limit = limit if action.files else None
        self._key: Key | None = None
        self._reason = ""
        try:
            self._key = self._find()
        except NotComparable as error:
            self._reason = f"{error}."

    def _find(self) -> Key:
        from dotflow.codec.canonical import digest  # here: few actions have a cache

        return find_key(self._action, self._values, lambda _, value: digest(value), self._limit)

    @property
    def query(self) -> CacheQuery:
        """Where its value may be."""
        return self._query(() if self._key is None else (str(self._key),), self._reason)

    def _query(self, keys: tuple[str, ...], reason: str = "") -> CacheQuery:
        return CacheQuery(keys, float(self._action.cache or 0), self._limit is not None, reason)

    def made(self, files: FileRecord | None) -> CacheQuery:
        """Returns where its value belongs, now that it was made with these files.

        Where it has changed files among its arguments, that is also where the next run looks. None but those that it
        has made may have changed meanwhile.
        """
        if self._key is None:
            return self._query(())
        before, after = self._key, self._key
        if self._limit is not None:
            try:
                after = self._find()
            except NotComparable as error:
                return self._query((), f"{error}.")
        if before.arguments == after.arguments:
            return self._query((str(before),))
        made = {*map(absolute, (files or NO_FILES).made)}
        own = made | parents_of(made)
        changed = {name for name in _differences(before, after) if absolute(name) not in own}
        if changed:
            reason = f"{min(changed)}, which it was given, changed while it ran, and it does not return it."
            return self._query((), reason)
        return self._query((str(before), str(after)))


def _is_same(value: Any, other: Any) -> bool:
    return type(value) is type(other) and bool(value == other)


def _differences(before: Key, after: Key) -> Iterator[str]:
    """Yields the files that are others than before, and those in folders."""
    folders = {path: after.folders.get(path, []) for path in before.folders}
    yield from changed_in(before.folders, folders)
    is_listed = {*map(str, before.folders)}
    for was, now in zip(before.arguments, after.arguments, strict=False):
        if was != now and type(was[1]) is list and was[1][0] not in is_listed:
            yield was[1][0]


class NotComparable(Exception):
    """An argument or its code has no digest: a folder has too many files, or a database is open, say."""

    def __init__(self, reason: str, kind: str = "folder") -> None:
        super().__init__(reason)
        self.kind = kind


def _contents(paths: Collection[Path], limit: int, folders: Folders) -> Iterator[tuple[Path, list[Any]]]:
    """Yields what shows the content of the files and folders among the arguments. Raises NotComparable.

    *folders* gets what is in the folders, and in paths where nothing is.
    """
    for path in sorted(paths):
        if path.is_dir():
            folders[path] = list(listing(path))
            yield path, [str(path), folders[path]]
            continue
        state = state_of(path, limit)
        if state is not None and state.is_gone:
            folders[path] = []
        if state is not None and state.mark == LOOSE:  # what was written last is in another file
            raise NotComparable(f"{path} is a database that is open: '{path.name}-wal' lies beside it")
        if state is not None:
            yield path, [str(path), content_of(state)]


def content_of(state: FileState) -> Any:
    """Returns what shows the content of a file: its digest, or its size and time where it was not read."""
    return state.digest or [state.size, state.mtime]


def parents_of(names: Collection[str]) -> set[str]:
    """Returns the folders around files."""
    return {str(parent) for name in names for parent in Path(name).parents}


def changed_in(before: Folders, now: Folders) -> Iterator[str]:
    """Yields the files and folders in folders that are others than before, or no longer there."""
    for folder, entries in before.items():
        changed = set(map(tuple, entries)) ^ set(map(tuple, now[folder]))
        yield from (str(folder / name) for name, *_ in changed)


def listing(folder: Path) -> Iterator[list[Any]]:
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
