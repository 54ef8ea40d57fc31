"""Files of earlier runs: their last states, what a resume makes of those that have changed, and the run's document."""

import contextlib
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from operator import attrgetter
from pathlib import Path
from typing import Any, Final, NamedTuple

from dotflow import clock
from dotflow.core.call import Call
from dotflow.core.context import Context
from dotflow.core.files import FileRecord, FileState, FileWatch, States, state_from
from dotflow.core.links import AllParams, Constant, Entry, is_setting
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


@dataclass(eq=False, slots=True)
class File:
    """A file, as earlier runs have recorded it and as it is now. It is known by its absolute path.

    Attributes:
        path: The path.
        name: What it was called first.
        last: The newest state that a checkpoint or the document has; None without one.
        others: States beside that.
        first: The state as made by a step that was not given it.
        begun: The state as it came from outside.
        worked: The state at the end of a run that was given it, or that a resume has accepted.
        is_input: Whether it comes from outside.
        is_changed: Whether a step has changed or made it.
        is_own_work: Whether the step was not given it, too, or has changed it.
        is_mixed: Whether one of the other states is another file than that of now.
        is_anew: Whether the run has made it anew.
        void: Why it has made checkpoints void; "" if it has not.
        accepted: Its state now, if it has changed and counts all the same.
        working: The tasks that run on it, if a run was cut off.
    """

    path: str
    name: str
    last: Known | None = None
    others: Sequence[Known] = ()
    first: Known | None = None
    begun: Known | None = None
    worked: Known | None = None
    is_input: bool = False
    is_changed: bool = False
    is_own_work: bool = False
    is_mixed: bool = False
    is_anew: bool = False
    void: str = ""
    accepted: FileState | None = None
    working: Sequence[Task] = ()
    _is_seen: bool = False
    _now: FileState | None = None

    def note(self, known: Known) -> bool:
        """Notes a state that was recorded. Returns whether it is the first one."""
        last, is_first = self.last, self.last is None
        if last is None:
            last = self.worked or known
        older, newer = (last, known) if last.time <= known.time else (known, last)
        if older.state != newer.state:
            self.others = (*self.others, older)
        self.last = newer
        return is_first

    def now(self) -> FileState | None:
        """Returns its state as a look has found it; None if that can't be read."""
        if not self._is_seen:
            self._now, self._is_seen = state_of(self.path, -1), True
        return self._now

    def is_gone(self) -> bool:
        """Returns whether it is gone."""
        now = self.now()
        return now is not None and now.is_gone

    def has_changed(self, limit: int) -> bool:
        """Looks at it, and returns whether it is another one than in its last state, or is gone."""
        assert self.last is not None
        last, self._is_seen = self.last.state, True
        if not last.mark and is_untouched(self.path, last):  # of nearly all files this is all
            self._now = last
            return False
        now = self._now = state_of(self.path, -1)
        if now is None or now.is_gone or not last.is_same(now, partial(digest_of, self.path, limit)):
            return True
        self._now = last if last.digest and not last.mark else now
        return False

    def is_same(self, state: FileState, limit: int) -> bool:
        """Returns whether it is the same as in an earlier state. It is looked at once, and read at most once."""
        now = self.now()
        return now is not None and state.is_same(now, partial(self._digest, now, limit))

    def _digest(self, now: FileState, limit: int) -> str:
        if not now.digest:
            now = self._now = now._replace(digest=digest_of(self.path, limit))
        return now.digest

    def make_void(self) -> None:
        """Notes why it makes checkpoints void."""
        self.void = _reason(self.name, self.now())


class ChangedFiles:
    """Which files have changed since earlier runs recorded them, and which checkpoints are void for it. It only reads.

    Each file is looked at once, before anything runs. A relative path leads from the working directory of now.

    Args:
        saved: What the storage has beside the values.
        tokens: The tasks, with the decisions on their checkpoints.
        limit: The size up to which files are read for a digest.

    Attributes:
        has_paths: Whether a value has a path.
        has_begun: Whether the run has begun: what is judged from then on are items of lists that it has made.
    """

    def __init__(self, saved: SavedFiles, tokens: Tokens, limit: int) -> None:
        self.saved = saved
        self._tokens = tokens
        self.limit = limit
        self._files: dict[str, File] = {}  # by absolute path
        self._by_name: dict[str, File] = {}
        self._outer: dict[int, frozenset[str]] = {}  # the files that a task is given from outside
        self._new: list[File] = []  # with a state since the last look
        self._differ: list[File] = []  # which have changed, or are gone
        self._has_void = self._has_mixed = self._has_inputs = False  # whether a file is void, mixed, from outside
        self._paths: dict[int, set[str]] = {}  # those in the values of a task, in this pass
        self._given: dict[int, set[str]] = {}  # those that a task is given, in this pass
        self.has_begun = False
        self.has_paths = False

    @cached_property
    def _folder(self) -> str:
        """The working directory, with the slash that a name follows."""
        return str(Path.cwd() / "?")[:-1]

    def file(self, name: str | Path) -> File:
        """Returns the file of a name."""
        text = str(name)
        file = self._by_name.get(text)
        if file is None:
            path = text if text.startswith(os.sep) else self._folder + text
            file = self._files.get(path)
            if file is None:
                file = self._files[path] = File(path, text)
            self._by_name[text] = file
        return file

    def states(self) -> dict[str, FileState]:
        """Returns the last states of the files that make nothing void, by name."""
        return {file.name: file.last.state for file in self._files.values() if file.last is not None and not file.void}

    def accepted(self) -> list[File]:
        """Returns the files that have changed, and count all the same."""
        return [file for file in self._files.values() if file.accepted is not None]

    def note(self, task: Task, context: Context) -> None:
        """Notes what a checkpoint of a task or an item has of files."""
        record = context._origin.files
        if record is None or not task.step.files or record == NOTHING:
            return
        self.has_paths = True
        time = context.time.timestamp()
        made, changed, taken = record
        for states in (taken, changed) if changed or taken else ():
            for name, state in states.items():
                self._note(name, Known(state, time))
        for name in changed:
            file = self.file(name)
            file.is_changed = file.is_own_work = True
        for name, state in made.items():
            known = new(Known, (state, time))
            file = self._note(name, known)
            file.is_changed = True
            if name in changed or name in taken:
                continue
            file.is_own_work = True
            if file.first is None or file.first.time <= time:
                file.first = known

    def _note(self, name: str, known: Known) -> File:
        file = self.file(name)
        if file.note(known):
            self._new.append(file)
        return file

    def read(self) -> None:
        """Reads the document, and finds the files from outside. Called before checkpoints are noted."""
        self.saved.read()
        for name, known in self.saved.worked.items():
            file = self.file(name)
            file.worked = _newest(file.worked, known)
        for path in inputs_of(self._tokens):
            self._has_inputs = self.file(path).is_input = True
        for name, known in self.saved.inputs.items():
            file = self.file(name)
            if file.is_input:
                file.begun = _newest(file.begun, known)
        for file in [*self._files.values()]:
            if file.begun is not None:
                self._note(file.name, file.begun)

    def look(self) -> bool:
        """Looks at the files that checkpoints name, and returns whether any may make one void."""
        self._differ += self._look()
        return bool(self._differ) or any(file.others for file in self._files.values())

    def find_void(self, running: Collection[int], missing: Collection[int]) -> bool:
        """Returns whether more checkpoints are void than before, by what `look` has found.

        Args:
            running: The tasks that run, by the decisions up to now; no cleanups.
            missing: Those of them that lack a checkpoint, their own or that of an item.
        """
        self._begin_pass()
        tasks = self._tokens.tasks
        needed = self._given_to(tasks[task_id] for task_id in running)
        cleaned, working = set[str](), dict[str, list[Task]]()  # the tasks that are given each file, or a folder
        if self.saved.is_open:
            cleaned = self._cleaned()
            for task in (tasks[one] for one in missing if self._have_values(tasks[one], running)):
                for path in self._given_to([task]):
                    working.setdefault(path, []).append(task)
        worked, has_more = cleaned | working.keys(), False
        for file in self._differ:
            file.working = working.get(file.path, ())
            if not file.void and not self._is_accepted(file, needed, cleaned, worked):
                file.make_void()
                self._has_void = has_more = True
        for file in self._files.values():
            others = () if file.is_mixed else file.others
            if any(self._is_other(file, known) for known in others):
                self._has_mixed = file.is_mixed = has_more = True
        self._begin_pass()
        return has_more

    def _cleaned(self) -> set[str]:
        """Returns what was given to cleanups that have begun."""
        if self.saved.cleaned is None:
            return self._given_to(task for task in self._tokens.tasks if task.is_cleanup)
        return self._paths_of_names(self.saved.cleaned)

    def _look(self) -> list[File]:
        """Looks at the files that are new, and returns those that have changed or are gone."""
        new, self._new = self._new, []
        return [file for file in new if file.has_changed(self.limit)]

    def _is_other(self, file: File, known: Known) -> bool:
        """Returns whether a file is another one than a checkpoint took, and not by what its run has done since."""
        if file.is_same(known.state, self.limit):
            return False
        if file.is_gone() and file.is_input and not file.is_changed:
            return False
        worked = file.worked
        is_worked = worked is not None and worked.time >= known.time and file.is_same(worked.state, self.limit)
        if file.void or not (file.accepted is not None or file.is_own_work or is_worked):
            return True
        return file.begun is not None and known.time < file.begun.time and not known.state.is_same(file.begun.state)

    def _begin_pass(self) -> None:
        self._paths.clear()
        self._given.clear()

    def _is_accepted(self, file: File, needed: set[str], cleaned: set[str], worked: set[str]) -> bool:
        """Returns whether all checkpoints count though a file is gone, or has changed.

        Args:
            file: The file.
            needed: What tasks that run are given.
            cleaned: What cleanups are given, if the last run was cut off.
            worked: With it, what else was given to tasks that the last run may have cut off.
        """
        assert file.last is not None
        was, now = file.last.state, file.now()
        if file.is_input and not file.is_changed and file.is_gone():
            return True
        file.accepted = None
        if now is not None and now.is_gone:
            if was.is_gone:
                return file.path not in needed
            if _is_in(file.path, needed) or not _is_in(file.path, cleaned):
                return False
        elif now is None or now.size < was.size or not _is_in(file.path, worked):
            return False
        file.accepted = now
        return True

    def _have_values(self, task: Task, running: Collection[int]) -> bool:
        """Returns whether all that a task takes counts."""
        whole = {*self._tokens.taken_as_previous(task)}
        if task.links is not None:
            whole |= task.links.whole_value_sources()
            lists = map(self._tokens.tasks.__getitem__, task.links.list_sources())
            whole |= {source.task_id for source in lists if not (source.nodes and source.gives_items)}
        return whole.isdisjoint(running)

    def _given_to(self, tasks: Iterable[Task]) -> set[str]:
        """Returns the files that tasks are given by what is known; of a map those of items without a value, too."""
        given = set[str]()
        for task in tasks:
            given |= self._shared_by(task) | self._paths_in(self._entries_left(task))
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
            given = self._paths_in(list(_outer_values(task, self._tokens.params)))
            sources = self._tokens.taken_as_previous(task)
            if task.links is not None:
                whole = task.links.at()
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
            paths = self._paths[task_id] = self._paths_in(values)
        return paths

    def _from_outside(self, task_id: int) -> frozenset[str]:
        """Returns the files from outside that a task, or each of its items, is given."""
        if not self._has_inputs:
            return NO_PATHS
        paths = self._outer.get(task_id)
        if paths is None:
            values = list(_outer_values(self._tokens.tasks[task_id], self._tokens.params))
            paths = self._outer[task_id] = frozenset(self._paths_in(values))
        return paths

    def _paths_in(self, values: Any) -> set[str]:
        return self._paths_of_names(find_paths(values))

    def _paths_of_names(self, names: Iterable[str | Path]) -> set[str]:
        return {self.file(name).path for name in names}

    def why_void(self, task: Task, context: Context) -> str:
        """Returns which file makes a checkpoint of a task or an item void; "" if none does."""
        if not task.step.files:
            return ""
        saved = context._origin.files
        if saved is None and not (self._has_inputs or self._has_void):  # of nearly all values without paths this is all
            return ""
        record, outer = saved or NOTHING, self._from_outside(task.task_id)
        if saved == NOTHING and (outer or find_paths([context.storage, task.input])):
            return "the states of its files were not recorded"
        if self.has_begun and self._new:  # of items whose list was made in this run
            for file in self._look():
                if not (file.is_gone() and file.last is not None and file.last.state.is_gone):
                    file.make_void()
                    self._has_void = True
        return self._why_own(task, record, context.time.timestamp()) or self._why_given(task, record, outer, context)

    def _why_own(self, task: Task, record: FileRecord, time: float) -> str:
        """Returns which file is another one than the checkpoint has recorded."""
        is_judged, is_item = self.has_begun or self._has_void or self._has_mixed, isinstance(task, Item)
        if not (is_judged or is_item):
            return ""
        for name, state in {**record.taken, **record.changed}.items():
            file = self.file(name)
            first = file.first if is_item and not state.is_gone else None
            if first is not None and first.time > time:
                # What an item took is another file if it was made anew since, even if it has the same path.
                if not state.is_same(first.state):
                    return f"{name} was made anew"
                if file.is_anew:
                    continue
            if is_judged and self._is_other(file, Known(state, time)):
                return file.void or _reason(name, file.now())
        made = (*record.changed, *record.made) if self._has_void else ()
        return next((self.file(name).void for name in made if self.file(name).void and name not in record.taken), "")

    def _why_given(self, task: Task, record: FileRecord, outer: Collection[str], context: Context) -> str:
        """Returns which file that a task is given has changed, of those that the checkpoint has not recorded."""
        if not (outer or self._has_void):
            return ""
        own = self._paths_of_names(record.names())
        for path in set(outer) - own:  # an earlier dotflow has made the value
            file = self._files[path]
            if file.begun is not None and context.time.timestamp() < file.begun.time:
                return _reason(file.name, None)
        is_given = self._has_void and not self.has_begun
        given = self._shared_by(self._tokens.tasks[task.task_id]) - own if is_given else ()
        return next((self._files[path].void for path in given if self._files[path].void), "")

    def begins_anew(self, path: Path) -> bool:
        """Returns whether a file from outside is another one than before, and not by the work of a run."""
        file = self.file(path)
        if file.void:
            return True
        if file.begun is None or file.accepted is not None or file.is_changed:
            return False
        return self._is_other(file, file.begun)

    def renew(self, inputs: Mapping[str, Known]) -> None:
        """Sets the states of files as they came from outside, which the run has taken now."""
        for file in self._files.values():
            file.begun = None
        for name, known in inputs.items():
            self.file(name).begun = known

    def note_made(self, name: str, known: Known) -> None:
        """Notes a file that the run has made."""
        file = self.file(name)
        file.first, file.is_anew = known, True

    def notes(self) -> tuple[list[str], dict[int, str]]:
        """Returns what to log about files that have changed and count all the same, and a reason for each task.

        Call it when all is decided, as long as the records of the tasks have the decisions.
        """
        changed = sorted((file for file in self.accepted() if not file.is_gone()), key=attrgetter("path"))
        if not changed:
            return [], {}
        names = ", ".join(file.name for file in changed)
        lines = [f"The last run was cut off, and these files have changed since: {names}. They count as its own work."]
        reasons: dict[int, str] = {}
        for file in changed:
            name, working = file.name, file.working
            kept = [task for task in self._tokens.tasks if self._keeps(task, file.path)]
            if kept and working:
                line = f"{_listed(kept)} {'keep what they' if kept[1:] else 'keeps what it'} made with {name} as it was"
                lines.append(f"{line}, {_listed(working)} {'run' if working[1:] else 'runs'} on it as it is.")
            for task in (*kept, *working):
                reasons.setdefault(task.task_id, f"{name} has changed since the last run was cut off")
        return lines, reasons

    def _keeps(self, task: Task, path: str) -> bool:
        """Returns whether a value of a task is restored that was made with a file."""
        records = task.items if task.is_mapped else [task]
        for one in records if task.step.files else ():
            if one.status is TypeStatus.COMPLETED:
                record = one.current_context._origin.files or NOTHING
                if path in self._shared_by(task) or path in self._paths_of_names(record.names()):
                    return True
        return False


NOTHING: Final = FileRecord()
NO_PATHS: Final = frozenset[str]()


def _listed(tasks: Sequence[Task]) -> str:
    names = [task.name for task in tasks]
    return " and ".join([", ".join(names[:-1]), *names[-1:]]) if names[1:] else names[0]


def _newest(before: Known | None, known: Known) -> Known:
    return known if before is None or before.time <= known.time else before


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
    for link in task.links.lists if with_lists else ():
        if not isinstance(link.source, int | Entry):
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
        self._outer: frozenset[str] = NO_PATHS  # the names of the files from outside
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
        accepted = earlier.accepted()
        self._is_left_open = saved.is_open or bool(accepted)
        saved.worked = {name: known for name, known in saved.worked.items() if not earlier.file(name).void}
        self._last = earlier.states()
        self._outer = frozenset(map(str, inputs))
        saved.cleaned = set()  # by this run none is yet
        self._take([path for path in inputs if earlier.begins_anew(path)], now)
        self._take([path for path in inputs if str(path) not in saved.inputs], 0)  # since when is not known
        earlier.renew(saved.inputs)
        for file in accepted:
            assert file.accepted is not None
            self._last[file.name] = state_of(file.path, self._limit) or file.accepted
            saved.worked[file.name] = Known(self._last[file.name], now)
        if runs and (inputs or self._last):
            self._write_open()

    def join(self) -> None:
        """Adds the files of items that were restored in the run."""
        if self._earlier is None or not self._earlier.has_paths:
            return
        self.has_paths = True
        self._last = self._earlier.states() | self._last
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
                self._earlier.note_made(name, Known(record.made[name], time))
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
