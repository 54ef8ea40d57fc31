"""Files of earlier runs: their last states, what a resume makes of those that have changed, and the run's document."""

import contextlib
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from dotflow import clock
from dotflow.core.call import Call
from dotflow.core.context import Context
from dotflow.core.files import FileRecord, FileState, FileWatch, States, state_from
from dotflow.core.links import AllParams, Constant, is_setting
from dotflow.core.task import Task
from dotflow.core.types.status import TypeStatus
from dotflow.graph.gather import ByItem
from dotflow.graph.linked_task import Item, LinkedTask
from dotflow.graph.params import Params
from dotflow.graph.wiring import PREVIOUS
from dotflow.resume.journal import Journal
from dotflow.resume.tokens import Tokens
from dotflow.worker.files import CHUNK, SCALARS, ReadingEnded, digest_of, find_paths, is_untouched, remember, state_of

LARGE: Final = 64 << 20  # bytes: other processes get the digest of such a file. Reading it takes longer than a tick
MAX_FOUND: Final = 64  # values whose paths are remembered, as attempts side by side share them
new: Final = tuple.__new__  # makes a named tuple in half the time: a resume has one for each file


class Known(NamedTuple):
    """A state that was recorded, and when, in seconds since 1970."""

    state: FileState
    time: float


class SavedFiles:
    """What the journal of a workflow has of the files of its runs.

    Args:
        journal: The journal.

    Attributes:
        is_open: Whether a run has begun and not ended: it runs, or its process was killed.
        inputs: The states of files that came from outside, when they were new to a run.
        worked: The states of files at the end of a run that was given them, or that a resume has accepted.
        cleaned: The files that were given to cleanups of the run that is open; None if an earlier dotflow wrote it.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.is_open = self.is_there = False
        self.inputs: dict[str, Known] = {}
        self.worked: dict[str, Known] = {}
        self.cleaned: set[str] | None = set()

    def read(self) -> None:
        """Reads it; there may be none, and a storage of values only keeps none. Raises CheckpointUnreadable."""
        saved = self._journal.fact("files")
        self.is_there = bool(saved) and self._journal.keeps_inputs
        if self.is_there:
            try:
                self.is_open, cleaned = saved["open"], saved.get("cleaned")
                self.cleaned = None if cleaned is None else set(cleaned)
                self.inputs, self.worked = _known(saved["inputs"]), _known(saved["worked"])
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise self._journal.unreadable("it has no states of files") from error

    def write(self, *, is_open: bool) -> None:
        """Saves it as it is now."""
        self.is_open = is_open
        inputs, worked = (
            {name: [*known.state, known.time] for name, known in of.items()} for of in (self.inputs, self.worked)
        )
        files = {"open": is_open, "inputs": inputs, "worked": worked, "cleaned": sorted(self.cleaned or ())}
        self._journal.put(files=files)


def _known(plain: Mapping[str, Any]) -> dict[str, Known]:
    return {name: Known(state_from(state), time) for name, (*state, time) in plain.items()}


class ChangedFiles:
    """Which files have changed since earlier runs recorded them, and which checkpoints are void for it. It only reads.

    Each file is looked at once, before anything runs. A file is known by its absolute path: a relative one leads from
    the working directory of now.

    Args:
        saved: What the storage has beside the values.
        tokens: The tasks, with the decisions on their checkpoints.
        limit: The size up to which files are read for a digest.

    Attributes:
        has_paths: Whether a value has a path.
        has_begun: Whether the run has begun: what is judged from then on are items of lists that it has made.
        first: The states of files as made by a step that was not given them.
        last: The newest state of each file that a checkpoint or the document has.
        accepted: The states of files that have changed, and count all the same.
        void: Why files have made checkpoints void, by file.
        anew: The files that the run has made anew.
    """

    def __init__(self, saved: SavedFiles, tokens: Tokens, limit: int) -> None:
        self.saved = saved
        self._tokens = tokens
        self.limit = limit
        self._keys: dict[str, str] = {}  # the absolute path of each name
        self.names: dict[str, str] = {}  # the name of each absolute path
        self.last: dict[str, Known] = {}
        self.first: dict[str, Known] = {}
        self._changed: set[str] = set()  # or made by a step
        self._own_work: set[str] = set()  # those of them that the step was not given, or has changed
        self._others: dict[str, list[Known]] = {}  # states of a file beside the last one
        self._mixed: set[str] = set()  # files of which one of these is another file than that of now
        self._now: dict[str, FileState | None] = {}  # what a look has found
        self._begun: dict[str, Known] = {}  # the states of files as they came from outside
        self._outer: dict[int, frozenset[str]] = {}  # the files that a task is given from outside
        self._new: set[str] = set()  # since the last look
        self._differ: dict[str, FileState | None] = {}  # their states now
        self.void: dict[str, str] = {}
        self._inputs: set[str] = set()
        self._worked: dict[str, Known] = {}
        self._paths: dict[int, set[str]] = {}  # those in the values of a task, in this pass
        self._given: dict[int, set[str]] = {}  # those that a task is given, in this pass
        self.has_begun = False
        self.has_paths = False
        self.anew: set[str] = set()
        self.accepted: dict[str, FileState] = {}
        self._working: dict[str, list[Task]] = {}  # the tasks that run on accepted files

    @cached_property
    def _folder(self) -> str:
        """The working directory, with the slash that a name follows."""
        return str(Path.cwd() / "?")[:-1]

    def key_of(self, name: str | Path) -> str:
        """Returns the absolute path of a name."""
        text = str(name)
        key = self._keys.get(text)
        if key is None:
            key = self._keys[text] = text if text.startswith(os.sep) else self._folder + text
            self.names.setdefault(key, text)
        return key

    def note(self, task: Task, context: Context) -> None:
        """Notes what a checkpoint of a task or an item has of files."""
        record = context._origin.files
        if record is None or not task.step.files or record == NOTHING:
            return
        self.has_paths = True
        time, first = context.time.timestamp(), self.first
        made, changed, taken = record
        for states in (taken, changed) if changed or taken else ():
            for name, state in states.items():
                self._note(self.key_of(name), Known(state, time))
        if changed:
            own = set(map(self.key_of, changed))
            self._changed |= own
            self._own_work |= own
        for name, state in made.items():
            key, known = self.key_of(name), new(Known, (state, time))
            self._note(key, known)
            self._changed.add(key)
            if name in changed or name in taken:
                continue
            self._own_work.add(key)
            if not (key in first and first[key].time > time):
                first[key] = known

    def _note(self, key: str, known: Known) -> None:
        last = self.last.get(key)
        if last is None:
            self._new.add(key)
            last = self._worked.get(key, known)
        older, newer = (last, known) if last.time <= known.time else (known, last)
        if older.state != newer.state:
            self._others.setdefault(key, []).append(older)
        self.last[key] = newer

    def read(self) -> None:
        """Reads the document, and finds the files from outside. Called before checkpoints are noted."""
        self.saved.read()
        for name, known in self.saved.worked.items():
            _keep_newest(self._worked, self.key_of(name), known)
        self._inputs = {self.key_of(path) for path in inputs_of(self._tokens)}
        for name, known in self.saved.inputs.items():
            if self.key_of(name) in self._inputs:
                _keep_newest(self._begun, self.key_of(name), known)
        for key, known in self._begun.items():
            self._note(key, known)

    def look(self) -> bool:
        """Looks at the files that checkpoints name, and returns whether any may make one void."""
        self._differ |= self._look()
        return bool(self._differ or self._others)

    def find_void(self, running: Collection[int], missing: Collection[int]) -> bool:
        """Returns whether more checkpoints are void than before, by what `look` has found.

        Args:
            running: The tasks that run, by the decisions up to now; no cleanups.
            missing: Those of them that lack a checkpoint, their own or that of an item.
        """
        self._begin_pass()
        tasks = self._tokens.tasks
        needed = self._given_to(tasks[task_id] for task_id in running)
        cleaned, worked = set[str](), set[str]()
        if self.saved.is_open:
            cleaned = self._cleaned()
            self._working = self._worked_on(tasks[one] for one in missing if self._have_values(tasks[one], running))
            worked.update(self._working)
        count = len(self.void) + len(self._mixed)
        for key, now in self._differ.items():
            if key not in self.void and not self._is_accepted(key, now, needed, cleaned, worked | cleaned):
                self.void[key] = _reason(self.names[key], now)
        for key, others in self._others.items():
            if key not in self._mixed and any(self._is_other(key, known) for known in others):
                self._mixed.add(key)
        self._begin_pass()
        return len(self.void) + len(self._mixed) > count

    def _cleaned(self) -> set[str]:
        """Returns what was given to cleanups that have begun."""
        if self.saved.cleaned is None:
            return self._given_to(task for task in self._tokens.tasks if task.is_cleanup)
        return set(map(self.key_of, self.saved.cleaned))

    def _worked_on(self, tasks: Iterable[Task]) -> dict[str, list[Task]]:
        """Returns the tasks that are given each file, or a folder above it."""
        found: dict[str, list[Task]] = {}
        for task in tasks:
            for key in self._given_to([task]):
                found.setdefault(key, []).append(task)
        return found

    def _look(self) -> dict[str, FileState | None]:
        """Compares the files that are new with their last states, and returns those that have changed or are gone."""
        new, self._new = self._new, set()
        found: dict[str, FileState | None] = {}
        for key in new:
            last = self.last[key].state
            if not last.mark and is_untouched(key, last):  # of nearly all files this is all
                self._now[key] = last
                continue
            now = state_of(key, -1)
            if now is not None and not now.is_gone and last.is_same(now, partial(digest_of, key, self.limit)):
                self._now[key] = last if last.digest and not last.mark else now
                continue
            found[key] = self._now[key] = now
        return found

    def _is_same(self, key: str, state: FileState) -> bool:
        """Returns whether a file is the same as in an earlier state. It is looked at once, and read at most once."""
        if key not in self._now:
            self._now[key] = state_of(key, -1)
        now = self._now[key]
        return now is not None and state.is_same(now, partial(self._digest, key, now))

    def _digest(self, key: str, now: FileState) -> str:
        if not now.digest:
            now = now._replace(digest=digest_of(key, self.limit))
            self._now[key] = now
        return now.digest

    def _is_other(self, key: str, known: Known) -> bool:
        """Returns whether a file is another one than a checkpoint took, and not by what its run has done since."""
        if self._is_same(key, known.state):
            return False
        now = self._now[key]
        is_gone = now is not None and now.is_gone
        if is_gone and key in self._inputs and key not in self._changed:
            return False
        worked = self._worked.get(key)
        is_worked = worked is not None and worked.time >= known.time and self._is_same(key, worked.state)
        if key in self.void or not (key in self.accepted or key in self._own_work or is_worked):
            return True
        begun = self._begun.get(key)
        return begun is not None and known.time < begun.time and not known.state.is_same(begun.state)

    def _begin_pass(self) -> None:
        self._paths.clear()
        self._given.clear()

    def _is_accepted(
        self, key: str, now: FileState | None, needed: set[str], cleaned: set[str], worked: set[str]
    ) -> bool:
        """Returns whether all checkpoints count though the file is gone, or has changed.

        Args:
            key: The file.
            now: Its state.
            needed: What tasks that run are given.
            cleaned: What cleanups are given, if the last run was cut off.
            worked: With it, what else was given to tasks that the last run may have cut off.
        """
        was = self.last[key].state
        is_gone = now is not None and now.is_gone
        if key in self._inputs and key not in self._changed and is_gone:
            return True
        self.accepted.pop(key, None)
        if now is not None and now.is_gone:
            if was.is_gone:
                return key not in needed
            if _is_in(key, needed) or not _is_in(key, cleaned):
                return False
        elif now is None or now.size < was.size or not _is_in(key, worked):
            return False
        self.accepted[key] = now
        return True

    def _have_values(self, task: Task, running: Collection[int]) -> bool:
        """Returns whether all that a task takes counts."""
        whole = {*self._tokens.taken_as_previous(task)}
        if task.links is not None:
            whole |= task.links.whole_value_sources()
            lists = map(self._tokens.tasks.__getitem__, task.links.list_sources())
            whole |= {source.task_id for source in lists if not (source.items and source.gives_items)}
        return whole.isdisjoint(running)

    def _given_to(self, tasks: Iterable[Task]) -> set[str]:
        """Returns the files that tasks are given by what is known; of a map those of items without a value, too."""
        given = set[str]()
        for task in tasks:
            given |= self._shared_by(task) | self._keys_in(self._entries_left(task))
        return given

    def _entries_left(self, task: Task) -> list[Any]:
        """Returns what the items of a map take that have no value."""
        left = [item for item in task.items if item.status is not TypeStatus.COMPLETED]
        if not left or not task.step.files or not isinstance(task, LinkedTask):
            return []
        inputs = ByItem(task, self._tokens.tasks)
        beside = [record.value for item in left if isinstance(item, Item) for _, record, _ in inputs.taken(item)]
        return [item.input for item in left] + beside

    def _shared_by(self, task: Task) -> set[str]:
        """Returns the files that a task, or each of its items, is given by what is known."""
        given = self._given.get(task.task_id)
        if given is None:
            given = self._keys_in(list(_outer_values(task, self._tokens.params)))
            sources = self._tokens.taken_as_previous(task)
            if task.links is not None:
                whole = task.links.whole()
                binds = (*whole.binds, *whole.fallback_binds)
                sources += [bind.source for bind in binds if isinstance(bind.source, int)]
            if task.step.files:
                given = given.union(*map(self._paths_of, sources))
            self._given[task.task_id] = given
        return given

    def _paths_of(self, task_id: int) -> set[str]:
        paths = self._paths.get(task_id)
        if paths is None:
            task = self._tokens.tasks[task_id]
            records = task.items if task.is_mapped else [task]
            values = [one.current_context.storage for one in records if one.status is TypeStatus.COMPLETED]
            paths = self._paths[task_id] = self._keys_in(values)
        return paths

    def _from_outside(self, task_id: int) -> frozenset[str]:
        """Returns the files from outside that a task, or each of its items, is given."""
        if not self._inputs:
            return NO_KEYS
        keys = self._outer.get(task_id)
        if keys is None:
            values = list(_outer_values(self._tokens.tasks[task_id], self._tokens.params))
            keys = self._outer[task_id] = frozenset(self._keys_in(values))
        return keys

    def _keys_in(self, values: Any) -> set[str]:
        return set(map(self.key_of, find_paths(values)))

    def why_void(self, task: Task, context: Context) -> str:
        """Returns which file makes a checkpoint of a task or an item void; "" if none does."""
        if not task.step.files:
            return ""
        saved = context._origin.files
        if saved is None and not (self._inputs or self.void):  # of nearly all values without paths this is all
            return ""
        record, outer = saved or NOTHING, self._from_outside(task.task_id)
        if saved == NOTHING and (outer or find_paths([context.storage, task.input])):
            return "the states of its files were not recorded"
        if self.has_begun and self._new:  # of items whose list was made in this run
            for key, now in self._look().items():
                if now is None or not (now.is_gone and self.last[key].state.is_gone):
                    self.void[key] = _reason(self.names[key], now)
        return self._why_own(task, record, context.time.timestamp()) or self._why_given(task, record, outer, context)

    def _why_own(self, task: Task, record: FileRecord, time: float) -> str:
        """Returns which file is another one than the checkpoint has recorded."""
        is_judged, is_item = bool(self.has_begun or self.void or self._mixed), isinstance(task, Item)
        if not (is_judged or is_item):
            return ""
        for name, state in {**record.taken, **record.changed}.items():
            key = self.key_of(name)
            first = self.first.get(key) if is_item and not state.is_gone else None
            if first is not None and first.time > time:
                # What an item took is another file if it was made anew since, even if it has the same path.
                if not state.is_same(first.state):
                    return f"{name} was made anew"
                if key in self.anew:
                    continue
            if is_judged and self._is_other(key, Known(state, time)):
                return self.void.get(key) or _reason(name, self._now[key])
        for name in (*record.changed, *record.made) if self.void else ():
            key = self.key_of(name)
            if key in self.void and name not in record.taken:
                return self.void[key]
        return ""

    def _why_given(self, task: Task, record: FileRecord, outer: Collection[str], context: Context) -> str:
        """Returns which file that a task is given has changed, of those that the checkpoint has not recorded."""
        if not (outer or self.void):
            return ""
        own = set(map(self.key_of, record.names()))
        for key in set(outer) - own:  # an earlier dotflow has made the value
            begun = self._begun.get(key)
            if begun is not None and context.time.timestamp() < begun.time:
                return _reason(self.names[key], None)
        for key in self._shared_by(self._tokens.tasks[task.task_id]) - own if self.void and not self.has_begun else ():
            if key in self.void:
                return self.void[key]
        return ""

    def begins_anew(self, path: Path) -> bool:
        """Returns whether a file from outside is another one than before, and not by the work of a run."""
        key = self.key_of(path)
        begun = self._begun.get(key)
        if key in self.void:
            return True
        if begun is None or key in self.accepted or key in self._changed:
            return False
        return self._is_other(key, begun)

    def renew(self, inputs: Mapping[str, Known]) -> None:
        """Sets the states of files as they came from outside, which the run has taken now."""
        self._begun = {self.key_of(name): known for name, known in inputs.items()}

    def notes(self) -> tuple[list[str], dict[int, str]]:
        """Returns what to log about files that have changed and count all the same, and a reason for each task.

        Call it when all is decided, as long as the records of the tasks have the decisions.
        """
        changed = [key for key, state in sorted(self.accepted.items()) if not state.is_gone]
        if not changed:
            return [], {}
        names = ", ".join(self.names[key] for key in changed)
        lines = [f"The last run was cut off, and these files have changed since: {names}. They count as its own work."]
        reasons: dict[int, str] = {}
        for key in changed:
            name, working = self.names[key], self._working.get(key, ())
            kept = [task for task in self._tokens.tasks if self._keeps(task, key)]
            if kept and working:
                line = f"{_listed(kept)} {'keep what they' if kept[1:] else 'keeps what it'} made with {name} as it was"
                lines.append(f"{line}, {_listed(working)} {'run' if working[1:] else 'runs'} on it as it is.")
            for task in (*kept, *working):
                reasons.setdefault(task.task_id, f"{name} has changed since the last run was cut off")
        return lines, reasons

    def _keeps(self, task: Task, key: str) -> bool:
        """Returns whether a value of a task is restored that was made with a file."""
        records = task.items if task.is_mapped else [task]
        for one in records if task.step.files else ():
            if one.status is TypeStatus.COMPLETED:
                record = one.current_context._origin.files or NOTHING
                names = {*record.made, *record.changed, *record.taken}
                if key in self._shared_by(task) or key in map(self.key_of, names):
                    return True
        return False


NOTHING: Final = FileRecord()
NO_KEYS: Final = frozenset[str]()


def _listed(tasks: Sequence[Task]) -> str:
    names = [task.name for task in tasks]
    return " and ".join([", ".join(names[:-1]), *names[-1:]]) if names[1:] else names[0]


def _keep_newest(states: dict[str, Known], key: str, known: Known) -> None:
    if key not in states or states[key].time <= known.time:
        states[key] = known


def _is_in(key: str, given: Collection[str]) -> bool:
    """Returns whether a file, or a folder above it, is given."""
    if not given:
        return False
    return key in given or any(str(folder) in given for folder in Path(key).parents)


def _reason(name: str, now: FileState | None) -> str:
    if now is None or not now.is_gone:
        return f"{name} has changed"
    return f"{name} is gone" if Path(name).is_absolute() else f"{name} is gone from {Path.cwd()}"


def inputs_of(tokens: Tokens) -> Collection[Path]:
    """Returns the paths that come from outside: of initial contexts, parameters, constants and written lists."""
    tasks = tokens.tasks if tokens.has_outer else ()
    outer = (value for task in tasks for value in _outer_values(task, tokens.params, with_lists=True))
    values = {id(value): value for value in outer}  # tasks share them
    return find_paths(list(values.values()))


def _outer_values(task: Task, params: Params, *, with_lists: bool = False) -> Iterator[Any]:
    """Yields the values from outside that a task, or each of its items, takes; *with_lists* those of its items, too."""
    if not task.step.files:
        return
    if task._initial is not None:
        yield task._initial.storage
    if task.links is None:
        return
    for bind in (*task.links.binds, *task.links.fallback_binds):
        if is_setting(bind.source):
            continue
        if isinstance(bind.source, Constant):
            yield bind.source.value
        elif type(bind.source) is AllParams:
            yield {name: value for name, value in params.items() if name not in bind.source.settings}
        elif isinstance(bind.source, str):
            yield params[bind.source]
    for link in task.links.each if with_lists else ():
        if not isinstance(link.source, int):
            yield params[link.source] if isinstance(link.source, str) else link.source


class RunFiles:
    """The files of one run: what its attempts are given and make, and the document that it keeps in the storage.

    Args:
        saved: The document.
        limit: The size up to which files are read for a digest.

    Attributes:
        has_paths: Whether a path has been seen, so that arguments may have one.
    """

    def __init__(self, saved: SavedFiles, limit: int) -> None:
        self._saved = saved
        self._limit = limit
        self.has_paths = False
        self._is_written = self._is_left_open = False
        self._folder = Path()  # the working directory, where a name was first known: a step may leave it
        self._given: set[str] = set()
        self._outer: frozenset[str] = NO_KEYS  # the names of the files from outside
        self._found: dict[int, tuple[Any, Collection[str]]] = {}  # by id of a value that attempts share
        self._earlier: ChangedFiles | None = None
        self._last: dict[str, FileState] = {}  # by name
        self._large: dict[str, FileState] = {}  # with their digests
        self._unread: set[str] = set()  # files that an interrupt kept from being read

    @property
    def inputs(self) -> States:
        """The states of the files from outside."""
        return {name: known.state for name, known in self._saved.inputs.items()}

    def begin(self, inputs: Collection[Path]) -> None:
        """Takes the states of the files from outside, for a run that restores nothing."""
        self.has_paths = True
        self._take(inputs, clock.now().timestamp())
        self._outer = frozenset(map(str, inputs))
        self._write_open()

    def _take(self, inputs: Collection[Path], now: float) -> None:
        for name in map(str, inputs):
            state = state_of(name, self._limit)
            if state is not None:
                self._saved.inputs[name] = Known(state, now)
                self._last[name] = state

    def go_on(self, earlier: ChangedFiles, inputs: Collection[Path], *, runs: bool) -> None:
        """Goes on with the files of earlier runs.

        Args:
            earlier: Their states.
            inputs: The files from outside.
            runs: Whether a task runs.
        """
        self._earlier = earlier
        earlier.has_begun = True
        if not (inputs or earlier.has_paths):
            return
        self.has_paths = True
        saved, now = self._saved, clock.now().timestamp()
        self._is_left_open = saved.is_open or bool(earlier.accepted)
        saved.worked = {name: known for name, known in saved.worked.items() if earlier.key_of(name) not in earlier.void}
        self._last = {earlier.names[key]: known.state for key, known in earlier.last.items() if key not in earlier.void}
        self._outer = frozenset(map(str, inputs))
        saved.cleaned = set()  # by this run none is yet
        self._take([path for path in inputs if earlier.begins_anew(path)], now)
        self._take([path for path in inputs if str(path) not in saved.inputs], 0)  # since when is not known
        earlier.renew(saved.inputs)
        for key, state in earlier.accepted.items():
            name = earlier.names[key]
            self._last[name] = state_of(key, self._limit) or state
            saved.worked[name] = Known(self._last[name], now)
        if runs and (inputs or self._last):
            self._write_open()

    def join(self) -> None:
        """Adds the files of items that were restored in the run."""
        if self._earlier is None or not self._earlier.has_paths:
            return
        self.has_paths = True
        for key, known in self._earlier.last.items():
            if key not in self._earlier.void:
                self._last.setdefault(self._earlier.names[key], known.state)
        if self._last and not self._is_written:
            self._write_open()

    def _write_open(self) -> None:
        self._know(self._last)
        self._saved.write(is_open=True)
        self._is_written, self._folder = True, Path.cwd()

    def given_to(self, call: Call, task: Task) -> Call:
        """Returns the call of an attempt, with the paths among its arguments."""
        step = call.step
        if not step.files:
            return call
        values = [*(call.arguments or {}).values(), *(call.shared or {}).values()]
        takes_all = isinstance(step.function, type)
        if takes_all or PREVIOUS in step.context_params:
            values.append(call.previous_context.storage)
        if takes_all or "initial_context" in step.context_params:
            values.append(call.initial_context.storage)
        given = {name for value in values for name in self._names_in(value)}
        if not given:
            return call
        self._given |= given
        own = tuple(map(str, find_paths(task.input))) if type(task) is Item else ()
        known = tuple((name, self._large[name]) for name in given & self._large.keys())
        if outer := given & self._outer:
            own += tuple(outer)
            inputs = self._saved.inputs
            known += tuple((name, inputs[name].state) for name in outer if name in inputs and name not in self._large)
        if task.is_cleanup and self._is_written:
            self._note_cleaned(given)
        watch = FileWatch(self._limit, tuple(given), own, task.attempt > 0, known)
        return call._replace(files=watch)

    def _note_cleaned(self, given: Collection[str]) -> None:
        """Saves what a cleanup is given, before it begins: only such a file may be gone after a kill."""
        cleaned = self._saved.cleaned or set()
        if cleaned.issuperset(given):
            return
        self._saved.cleaned = cleaned.union(given)
        with contextlib.suppress(Exception):  # the storage may be the user's; after a kill the file is made again
            self._saved.write(is_open=True)

    def _names_in(self, value: Any) -> Collection[str]:
        """Returns the paths in a value as texts; many attempts may share a large one."""
        if value.__class__ in SCALARS:
            return ()
        found = self._found.get(id(value))
        if found is None or found[0] is not value:
            if len(self._found) >= MAX_FOUND:
                self._found.clear()
            found = self._found[id(value)] = value, list(map(str, find_paths(value)))
        return found[1]

    def note(self, context: Context, record: FileRecord, *, is_saved: bool) -> None:
        """Notes the record of an attempt that has returned; before its value is saved, if it is."""
        self.has_paths = True
        self._know(record.taken)
        self._know(record.made)
        if self._earlier is not None:
            time = context.time.timestamp()
            for name in record.new():
                key = self._earlier.key_of(name)
                self._earlier.first[key] = Known(record.made[name], time)
                self._earlier.anew.add(key)
        if is_saved and not self._is_written and (record.made or record.changed or record.taken):
            self._write_open()

    def _know(self, states: States) -> None:
        for name, state in states.items():
            if state.size >= LARGE and state.digest and not state.mark:
                self._large[name] = state
                remember(name, state)

    def keep(self, record: FileRecord) -> None:
        """Notes that the checkpoint with the record is saved."""
        self._unread.update([name for name, state in record.made.items() if state.size >= CHUNK and not state.digest])
        for states in (record.taken, record.changed, record.made):
            self._last.update(states)

    def close(self) -> None:
        """Saves the states of the files that attempts of the run were given. Nothing runs any more."""
        if not (self._is_written or self._is_left_open):
            return
        given = {str(self._folder / name) for name in self._given}
        now = clock.now().timestamp()
        for name, was in self._last.items():
            lacks_digest = not was.digest and 0 <= was.size <= self._limit
            place = str(self._folder / name)
            if not (lacks_digest or _is_in(place, given)):
                continue
            try:
                state = state_of(place, -1 if name in self._unread else self._limit, known=was)
            except ReadingEnded:
                state = state_of(place, -1)
            if state is not None and (lacks_digest or state != was):
                self._saved.worked[name] = Known(state, now)
        self._saved.write(is_open=False)
