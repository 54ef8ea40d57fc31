"""Every kill of ten small workflows of dotflow: before each write and each effect, with edits in between.

Run: python -m tests.core_kills [--kills 2] [--shape map] [--mode parallel] [--limit 500] [--real 50]

What tests/core_model/explore.py does with the model, this does with the engine. A kill is an exception that ends the
run at once; from then on no write and no effect counts, as after a SIGKILL. With --real, runs are killed by SIGKILL in
processes of their own, with files as storage. After each sequence of runs, these must hold:

- no stale value: a last resume leaves what a new run leaves;
- no effect that outlived a restored value: the last effect at each place is that of its value;
- no finished and unchanged step runs again, and no `rerun` that has begun is forgotten, but for KNOWN;
- a plan is what its run does, and a second resume runs nothing.
"""

import argparse
import copy
import functools
import itertools
import json
import os
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from dotflow import Config, DotFlow, action
from dotflow.abc.storage import Storage
from dotflow.codec.canonical import digest
from dotflow.core.context import Context
from dotflow.core.task import Task
from dotflow.core.types.status import TypeStatus
from dotflow.providers import ExecutorInline, LogDefault, StorageDefault, StorageFile

#: What is known to go wrong. "round" goes once a round is a scope. "file" is the price that documentation and contract
#: name.
KNOWN: Final = {
    "round": "a list is made anew, and equal: what takes the values of a map in a round, or in an item, runs again",
    "file": "a file was edited after a kill: it counts as the work of the task that it is given to",
}

#: What takes a map in a scope whose list is made in the run, and the tasks that take a value without checkpoint.
LIST_OF: Final = {"turn.read": ["first", "turn.found"], "site.total": ["site.list"]}
POOL_TAKERS: Final = ("b", "c")
NO_RESUME: Final[dict[str, Any]] = {"resume": False}

figures: Counter[str] = Counter()


class Killed(KeyboardInterrupt):
    """The process is gone before the next write or effect."""


class Event(NamedTuple):
    """A write or an effect: what, its key, and what is known of it then."""

    what: str
    key: str
    more: Any = None


@dataclass
class World:
    """What outlives a process: the storage and the files. It ends a run before a write or an effect.

    Attributes:
        storage: What was saved.
        out: The folder of the files.
        left: The number of writes and effects until the kill; negative for none.
        events: Those of this run.
        prevented: The one before which it was killed.
        log: Where a process that is really killed writes its events; a descriptor.
    """

    storage: Storage
    out: Path
    left: int = -1
    events: list[Event] = field(default_factory=list)
    prevented: Event | None = None
    log: int | None = None

    @property
    def is_alive(self) -> bool:
        return self.prevented is None

    def copy(self) -> "World":
        other = StorageDefault()
        assert isinstance(self.storage, StorageDefault)
        other._contexts = {workflow: dict(values) for workflow, values in self.storage._contexts.items()}
        return World(other, self.out)

    def begin(self, left: int) -> None:
        self.left, self.events, self.prevented = left, [], None

    def tick(self, what: str, key: str) -> None:
        """Counts a write or an effect, before it happens."""
        if self.left == 0:
            self.prevented = Event(what, key)
            if self.log is not None:
                self._write(Event("killed", key, what))
                os.kill(os.getpid(), signal.SIGKILL)
            raise Killed
        self.left -= 1

    def note(self, event: Event) -> None:
        self.events.append(event)
        if self.log is not None:
            self._write(event)

    def _write(self, event: Event) -> None:
        assert self.log is not None
        os.write(self.log, json.dumps(event, default=repr).encode() + b"\n")

    def effect(self, place: str, *signature: Any) -> None:
        """Begins a step's work at a place."""
        if self.is_alive:
            self.tick("effect", place)
            self.note(Event("effect", place, repr(signature)))


class Watched(Storage):
    """The storage of one run: it counts the writes, and drops those after the kill."""

    def __init__(self, world: World) -> None:
        self.world, self.inner = world, world.storage
        self.is_local, self.outlives_process = self.inner.is_local, True

    def post(self, key: str, context: Context) -> None:
        if self.world.is_alive:
            inputs = context.inputs
            self.world.tick("post", key.removeprefix("w/"))
            self.inner.post(key, context)
            more = None if inputs is None else [dict(inputs.links), inputs.code]
            self.world.note(Event("post", key.removeprefix("w/"), more))

    def delete(self, key: str) -> None:
        if self.world.is_alive:
            self.world.tick("delete", key.removeprefix("w/"))
            self.inner.delete(key)
            self.world.note(Event("delete", key.removeprefix("w/")))

    def clear(self, workflow_id: str) -> bool:
        if self.world.is_alive:
            self.world.tick("clear", "")
            self.inner.clear(workflow_id)
            self.world.note(Event("clear", ""))
        return True

    def get(self, key: str) -> Context:
        return self.inner.get(key)

    def key(self, task: Task) -> str:
        return self.inner.key(task)

    def contains(self, key: str) -> bool:
        return self.inner.contains(key)

    def list_keys(self, prefix: str = "") -> Any:
        return self.inner.list_keys(prefix)

    def lock(self, workflow_id: str) -> Any:
        return self.inner.lock(workflow_id)


@dataclass
class Edits:
    """What may change between two runs."""

    codes: dict[str, int] = field(default_factory=dict)
    n: int = 1
    items: tuple[int, ...] = (1, 2)
    file: int = 0  # how often a file was edited

    def code_of(self, name: str) -> tuple[int, ...]:
        """The code that makes a value, that of the unsaved value that it takes included."""
        name = name.partition("-")[0]
        return tuple(self.codes.get(one, 1) for one in (name, *(("pool",) if name in POOL_TAKERS else ())))


class Shape:
    """Builds a workflow. The key of each place is known to its step: by its name, its entry and its round."""

    def __init__(self, world: World, edits: Edits, storage: Storage) -> None:
        self.world, self.edits = world, edits
        config = Config(storage=storage, log=LogDefault(output="none"), executor=ExecutorInline())
        self.workflow = DotFlow(config, workflow_id="w")

    def step(
        self, name: str, function: Callable[..., Any], place: Callable[..., str] | None = None, **policy: Any
    ) -> Any:
        """Makes a step of a function of its code and its arguments."""
        code, world = self.edits.codes.get(name, 1), self.world

        def call(**arguments: Any) -> Any:
            at = "" if place is None else f"-{place(**arguments)}"
            world.effect(name + at, code, sorted(arguments.items()))
            return function(code, **arguments)

        return taking(function, call, name), {"version": str(code), **policy}

    def add(self, name: str, function: Callable[..., Any], place: Any = None, to: Any = None, **options: Any) -> None:
        checkpoint = options.pop("checkpoint", True)
        step, policy = self.step(name, function, place, checkpoint=checkpoint)
        (self.workflow if to is None else to).task.add(action(**policy)(step), name=name.rpartition(".")[2], **options)


@functools.cache
def _compiled(text: str) -> Any:
    return compile(text, "shapes", "exec")


def taking(function: Callable[..., Any], call: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Returns a function with the parameters of another one but for the first, which is the code."""
    count, defaults = function.__code__.co_argcount, function.__defaults__ or ()
    names = function.__code__.co_varnames[1:count]
    required = len(names) - len(defaults)
    signature = ", ".join(one if at < required else f"{one}=None" for at, one in enumerate(names))
    space: dict[str, Any] = {"call": call, "__name__": "shapes"}
    exec(_compiled(f"def step({signature}):\n    return call({', '.join(f'{one}={one}' for one in names)})"), space)
    step = space["step"]
    step.__name__ = step.__qualname__ = name.replace(".", "_")
    assert callable(step)
    return step  # type: ignore[no-any-return]


def entry_key(entry: Any) -> str:
    return digest(entry)[:20]


def chain(shape: Shape) -> None:
    """A chain, with one optional value."""
    shape.add("a", lambda code, n: (code, n), params={"n": shape.edits.n})
    shape.add("b", lambda code, a: (code, a))
    shape.add("c", lambda code, b: (code, b))
    shape.add("d", lambda code, a, c=None: (code, a, c))


def mapped(shape: Shape) -> None:
    """Two maps, one over the other, of a list that the run makes."""
    shape.add("list", lambda code, n: [n * code, n * code + 1], params={"n": shape.edits.n})
    shape.add("f", lambda code, i: (i, code), lambda i: entry_key(i), each={"i": "list"})
    shape.add("g", lambda code, v: (v[0], code, v), lambda v: entry_key(v[0]), each={"v": "f"})
    shape.add("sum", lambda code, g, f: (code, g, f))


def items(shape: Shape) -> None:
    """A map of a list that is written down, whose items share an argument."""
    shape.add("a", lambda code, n: (code, n), params={"n": shape.edits.n})
    shape.add("f", lambda code, a, i: (i, code, a), lambda a, i: entry_key(i), each={"i": list(shape.edits.items)})
    shape.add("sum", lambda code, f: (code, f))


def pages(shape: Shape) -> None:
    """A workflow for each entry."""
    page = DotFlow(params={"url": ...})
    shape.add("page.get", lambda code, url: (url, code), lambda url: entry_key(url), to=page)
    shape.add("page.word", lambda code, get: (get, code), lambda get: entry_key(get[0]), to=page)
    shape.add("page.parse", lambda code, word, get: (code, word, get), lambda word, get: entry_key(get[0]), to=page)
    shape.workflow.task.add(page, name="page", each={"url": list(shape.edits.items)})
    shape.add("end", lambda code, page: (code, page))


def sites(shape: Shape) -> None:
    """A workflow for each entry of a list that each item of another workflow makes."""

    def place(entry: tuple[int, int]) -> str:
        return f"{entry_key(entry[0])}-{entry_key(entry)}"

    page, site = DotFlow(params={"entry": ..., "login": ...}), DotFlow(params={"site": ...})
    shape.add(
        "site.page.get", lambda code, entry, login: (entry, code, login), lambda entry, login: place(entry), to=page
    )
    shape.add("site.page.word", lambda code, get: (get[0], code, get), lambda get: place(get[0]), to=page)
    shape.add("site.login", lambda code, site: (site, code), lambda site: entry_key(site), to=site)
    shape.add("site.list", lambda code, site: [(site, 0), (site, code)], lambda site: entry_key(site), to=site)
    site.task.add(page, name="page", each={"entry": "list"})
    shape.add("site.total", lambda code, page, site: (code, page), lambda page, site: entry_key(site), to=site)
    shape.workflow.task.add(site, name="site", each={"site": list(shape.edits.items)})
    shape.add("end", lambda code, site: (code, site))


def loop(shape: Shape) -> None:
    """Rounds."""
    shape.add("a", lambda code, n: (0, code, n), params={"n": shape.edits.n})
    turn = DotFlow(params={"draft": ...})
    shape.add("round.refine", lambda code, draft: (draft[0] + 1, code, draft), lambda draft: f"r{draft[0]}", to=turn)
    shape.add("round.good", lambda code, refine: refine[0] > 1, lambda refine: f"r{refine[0] - 1}", to=turn)
    shape.workflow.task.add(turn, name="round", needs={"draft": "a"}, repeat=5, until="good", carry={"draft": "refine"})
    shape.add("end", lambda code, round: (code, round))


def crawl(shape: Shape) -> None:
    """A map in rounds: nested twice."""

    def place(entry: tuple[int, int]) -> str:
        return f"r{entry[0]}-{entry_key(entry)}"

    shape.add("first", lambda code, n: [(0, n * code), (0, n * code + 1)], params={"n": shape.edits.n})
    turn = DotFlow(params={"level": ...})
    shape.add("turn.read", lambda code, entry: (entry, code), place, to=turn, each={"entry": "level"})
    shape.add(
        "turn.found",
        lambda code, read: [(read[0][0][0] + 1, entry[1] + code) for entry, _ in read],
        lambda read: f"r{read[0][0][0]}",
        to=turn,
    )
    shape.add("turn.last", lambda code, found: found[0][0] > 1, lambda found: f"r{found[0][0] - 1}", to=turn)
    shape.workflow.task.add(
        turn, name="turn", needs={"level": "first"}, repeat=4, until="last", carry={"level": "found"}
    )
    shape.add("end", lambda code, turn: (code, turn))


def unsaved(shape: Shape) -> None:
    """A value without checkpoint, which a cleanup ends."""
    shape.add("pool", lambda code, n: (code, n), params={"n": shape.edits.n}, checkpoint=False)
    shape.add("b", lambda code, pool: (code, pool))
    shape.add("c", lambda code, pool, b: (code, pool, b))
    shape.add("stop", lambda code, pool: None, always=True)


def branch(shape: Shape) -> None:
    """Two branches that meet, and a task that needs one of them."""
    shape.add("a", lambda code, n: n, params={"n": shape.edits.n})
    shape.add("good", lambda code, a: a % 2 == code % 2)
    shape.add("b", lambda code, a: (code, a), when="good")
    shape.add("c", lambda code, a: (code, a), unless="good")
    shape.add("d", lambda code, b=None, c=None: (code, b, c))
    shape.add("e", lambda code: code, needs=["b"])


def files(shape: Shape) -> None:
    """A file that one task makes and another one reads."""
    out = shape.world.out

    def make(code: int, n: int) -> Path:
        path = out / f"{n}.txt"
        if shape.world.is_alive:
            path.write_text(f"{code} {n}")
        return path

    shape.add("make", make, params={"n": shape.edits.n})
    shape.add("read", lambda code, make: (code, make.read_text() if make.exists() else None))
    shape.add("end", lambda code, read: (code, read))


SHAPES: Final[dict[str, Callable[[Shape], None]]] = {
    "chain": chain,
    "map": mapped,
    "items": items,
    "pages": pages,
    "sites": sites,
    "loop": loop,
    "crawl": crawl,
    "unsaved": unsaved,
    "branch": branch,
    "files": files,
}
#: The first two tasks and the last one, whose code changes and which are run again.
TASKS: Final = {
    "chain": ("a", "b", "d"),
    "map": ("list", "f", "sum"),
    "items": ("a", "f", "sum"),
    "pages": ("page.get", "page.word", "end"),
    "sites": ("site.login", "site.list", "end"),
    "loop": ("a", "round.refine", "end"),
    "crawl": ("first", "turn.read", "end"),
    "unsaved": ("pool", "b", "stop"),
    "branch": ("a", "good", "e"),
    "files": ("make", "read", "end"),
}


class Done(NamedTuple):
    """A value that was saved: what it was made from, by which code, and the effect that it stands for."""

    links: Any
    code: tuple[int, ...]
    effect: str


@dataclass
class Shadow:
    """What is known of all runs so far.

    Attributes:
        done: The values that were finished, by key.
        effects: The last effect at each place.
        owed: What a begun `rerun` or changed code has to make again, and whether a `rerun` has named it.
        excused: What may run again: a killed run had begun it, or had deleted it to begin it.
        was_killed: Whether the last run was killed.
        edited: Whether a file was edited after a kill.
    """

    done: dict[str, Done] = field(default_factory=dict)
    effects: dict[str, str] = field(default_factory=dict)
    owed: dict[str, bool] = field(default_factory=dict)
    excused: set[str] = field(default_factory=set)
    was_killed: bool = False
    edited: bool = False


def is_value(key: str) -> bool:
    return "@" not in key and not key.endswith(("-cleanup", "-begun", "-items"))


def follow(shadow: Shadow, world: World, edits: Edits, options: dict[str, Any]) -> list[str]:
    """Brings what is known up to date with one run. Returns what ran again though it was finished."""
    resume, rerun = options["resume"], options.get("rerun", ())
    found = []
    if world.events and resume is not False:  # from now on it is owed
        for key, done in shadow.done.items():
            name = key.partition("-")[0]
            is_asked = name in rerun or (name in POOL_TAKERS and "pool" in rerun)
            if is_asked or (resume == "changed" and done.code != edits.code_of(key)):
                shadow.owed[key] = is_asked
    open_effects, deleted = set[str](), set[str]()
    for what, key, more in world.events:
        if what == "clear":
            shadow.done.clear()
            shadow.owed.clear()
        elif what == "effect":
            shadow.effects[key] = more
            open_effects.add(key)
            deleted.discard(key)
        elif what == "delete" and is_value(key):
            deleted.add(key)
        elif what == "post" and is_value(key):
            before, links, code = shadow.done.get(key), more and more[0], edits.code_of(key)
            is_same = before is not None and before.links == links and (resume is True or before.code == code)
            if is_same and resume is not False and key not in shadow.owed.keys() | shadow.excused:
                made = {event.key.partition("-")[0] for event in world.events if event.what == "post"}
                in_round = made.intersection(LIST_OF.get(key.partition("-")[0], ()))
                if in_round:
                    figures[f"known: {KNOWN['round']}"] += 1
                else:
                    found.append(f"again: {key}")
            shadow.done[key] = Done(links, code, shadow.effects.get(key, ""))
            shadow.owed.pop(key, None)
            for left in (open_effects, shadow.excused):
                left.discard(key)
    shadow.was_killed = not world.is_alive
    if world.is_alive:
        for key in deleted:
            shadow.done.pop(key, None)
            shadow.excused.discard(key)
    else:
        assert world.prevented is not None
        if world.prevented.what == "effect":
            open_effects.add(world.prevented.key)
        shadow.excused |= open_effects
    return found


def restored_keys(run: Any) -> Iterator[str]:
    for task in run.tasks:
        if task.is_mapped or task.items:
            yield from (f"{task.name}-{item.key_suffix}" for item in task.items if item.restored_from == "checkpoint")
        elif task.restored_from == "checkpoint":
            yield task.name


def build(shape: str, world: World, edits: Edits) -> DotFlow:
    made = Shape(world, edits, Watched(world))
    SHAPES[shape](made)
    return made.workflow


def run_once(
    shape: str, world: World, shadow: Shadow, edits: Edits, mode: Any, kill: int, options: dict[str, Any]
) -> list[str]:
    """Runs once, until the kill. Returns what is wrong."""
    world.begin(-1)
    workflow, planned = build(shape, world, edits), None
    if kill < 0 and options["resume"] is not False:
        planned = workflow.plan(mode, **options)
        assert not world.events, "a plan writes"
    world.begin(kill)
    try:
        workflow.start(mode=mode, keep_going=True, **options)
    except Killed:
        assert not world.is_alive
    figures["runs"] += 1
    problems = follow(shadow, world, edits, options)
    if not world.is_alive:
        return problems
    restored = {*restored_keys(workflow.last)}
    figures["restored"] += len(restored)
    for key in sorted(restored):
        if shadow.effects.get(key) != shadow.done[key].effect:
            problems.append(f"outlived: {key}: its last effect is not that of its value")
        is_owed = key in shadow.owed and (shadow.owed[key] or shadow.done[key].code != edits.code_of(key))
        if is_owed:
            problems.append(f"forgotten: {key}: it was to run again")
    shadow.owed.clear()
    return problems if planned is None else [*problems, *compare_plan(planned, world, workflow.last)]


def compare_plan(plan: Any, world: World, run: Any) -> Iterator[str]:
    """Compares a plan with the effects of its run."""
    ran = Counter(event.key.partition("-")[0] for event in world.events if event.what == "effect")
    for row in plan.tasks:
        decision, count = str(row.decision), ran[row.name]
        is_repeated = row.name.partition(".")[0] in ("round", "turn") and "." in row.name
        if decision == "run" and row.items is not None and not is_repeated:
            is_true = count == row.items - row.items_done
        elif decision == "run":
            is_true = count > 0
        else:
            is_true = decision == "open" or not count
        if decision == "skip":
            is_true = is_true and run.task(row.name).status is TypeStatus.SKIPPED
        if not is_true:
            yield f"plan: {row.name}: {decision} {row.items} {row.items_done}, and {count} ran"


fresh_values: dict[str, dict[str, Any]] = {}


def values_of(world: World) -> dict[str, Any]:
    keys = [key.removeprefix("w/") for key in world.storage.list_keys("w/")]
    return {key: world.storage.get(f"w/{key}").storage for key in keys if is_value(key)}


def finish(shape: str, world: World, shadow: Shadow, edits: Edits, mode: Any) -> list[str]:
    """A last resume leaves what a new run leaves, and one more runs nothing."""
    options = {"resume": "changed"}
    problems = run_once(shape, world, shadow, edits, mode, -1, options)
    state = f"{shape} {mode} {edits} {world.out}"
    last = values_of(world)
    if state not in fresh_values:
        saved = {path: path.read_text() for path in world.out.iterdir()}
        new = World(StorageDefault(), world.out)
        run_once(shape, new, Shadow(), edits, mode, -1, NO_RESUME)
        fresh_values[state] = values_of(new)
        for path, text in saved.items():
            path.write_text(text)
    for key, value in fresh_values[state].items():
        if last.get(key) != value:
            if shadow.edited and shape == "files":
                figures[f"known: {KNOWN['file']}"] += 1
            else:
                problems.append(f"stale: {key}: {last.get(key)}, not {value}")
    world.begin(-1)
    build(shape, world, edits).start(mode=mode, keep_going=True, resume="changed")
    ran = {event.key for event in world.events if event.what == "effect"} - {"pool", "stop"}
    return problems + [f"second resume: {key}: it ran" for key in sorted(ran)]


class Edit(NamedTuple):
    """What happens between two runs. `back`: it is taken back."""

    kind: str
    what: Any = None
    back: bool = False


NO_EDIT: Final = Edit("")
REVERSIBLE: Final = ("code", "n", "items")


def edits_of(shape: str) -> list[Edit]:
    first, second, last = TASKS[shape]
    found = [NO_EDIT, Edit("code", first), Edit("code", second), Edit("n", 2), Edit("items", (2, 3))]
    found += [Edit("rerun", name) for name in (first, second, last)]
    return [*found, Edit("file")] if shape == "files" else found


def apply(edit: Edit, world: World, shadow: Shadow, edits: Edits) -> dict[str, Any]:
    """Makes an edit, or takes it back. Returns the options of the next run."""
    if edit.kind == "code":
        edits.codes[edit.what] = 1 if edit.back else 2
        return {"resume": "changed"}
    if edit.kind in ("n", "items"):
        setattr(edits, edit.kind, getattr(Edits(), edit.kind) if edit.back else edit.what)
    elif edit.kind == "file" and not edit.back:
        edits.file += 1
        shadow.edited |= shadow.was_killed
        shadow.excused.add("make")
        for path in world.out.iterdir():
            path.write_text(f"edited {edits.file}, and it is longer")
    elif edit.kind == "rerun" and not edit.back:
        return {"resume": True, "rerun": [edit.what]}
    return {"resume": True}


class Explorer:
    """Goes through the sequences of one shape: kills, with an edit between any two runs.

    Args:
        shape: Its name.
        mode: The mode of the runs.
        out: An empty folder for files.
        kills: The number of runs before the last resume; each is killed at each moment, or not.
        share: The share of all sequences that is tried, the same each time.
        limit: The number of sequences at most.
        first: Which of the moments of the first kill are tried.
    """

    def __init__(
        self,
        shape: str,
        mode: str,
        out: Path,
        *,
        kills: int = 2,
        share: float = 1,
        limit: int = 10**9,
        first: slice = slice(None),
    ) -> None:
        self.shape, self.mode, self.kills, self.share, self.limit = shape, mode, kills, share, limit
        self.out, self.first = out, first
        self._chance = share ** (0.5 / max(kills - 1, 1))
        self.sequences = 0
        self.problems: dict[str, tuple[int, str]] = {}
        self._pick = random.Random(f"{shape} {mode}")

    def explore(self) -> dict[str, tuple[int, str]]:
        """Returns how often each kind of problem was found, and its first example."""
        world = World(StorageDefault(), self.out)
        for point in self._points(world, Shadow(), Edits(), NO_RESUME)[self.first]:
            self._go(world, Shadow(), Edits(), NO_RESUME, point, (point,), None, self.kills - 1)
        return self.problems

    def _points(self, world: World, shadow: Shadow, edits: Edits, options: dict[str, Any]) -> list[int]:
        """Returns the moments of a run at which it is killed; -1 for none."""
        files = self._files()
        trial = world.copy()
        run_once(self.shape, trial, copy.deepcopy(shadow), edits, self.mode, -1, options)
        self._restore(files)
        return [*range(len(trial.events)), -1]

    def _go(
        self,
        world: World,
        shadow: Shadow,
        edits: Edits,
        options: dict[str, Any],
        point: int,
        path: tuple[Any, ...],
        last: Edit | None,
        depth: int,
    ) -> None:
        """Runs once from a state, and then goes on with each edit, or finishes."""
        files, world, shadow, edits = self._files(), world.copy(), copy.deepcopy(shadow), copy.deepcopy(edits)
        self._note(run_once(self.shape, world, shadow, edits, self.mode, point, options), path)
        if not depth:
            self._finish(world, shadow, edits, path, last)
        else:
            self._branch(world, shadow, edits, path, last, depth)
        self._restore(files)

    def _finish(self, world: World, shadow: Shadow, edits: Edits, path: tuple[Any, ...], last: Edit | None) -> None:
        """Finishes as things stand, and with the last edit taken back."""
        files = self._files()
        for back in [NO_EDIT, *([last._replace(back=True)] if last and last.kind in REVERSIBLE else [])]:
            own, other, mine = world.copy(), copy.deepcopy(shadow), copy.deepcopy(edits)
            apply(back, own, other, mine)
            self.sequences += 1
            self._note(finish(self.shape, own, other, mine, self.mode), (*path, back))
            self._restore(files)

    def _branch(
        self, world: World, shadow: Shadow, edits: Edits, path: tuple[Any, ...], last: Edit | None, depth: int
    ) -> None:
        after = self._files()
        for edit in [*edits_of(self.shape), *([last._replace(back=True)] if last and last.kind in REVERSIBLE else [])]:
            if self.share < 1 and self._pick.random() > self._chance:
                continue
            own, other = copy.deepcopy(edits), copy.deepcopy(shadow)
            options = apply(edit, world, other, own)
            for point in self._points(world, other, own, options):
                if self.sequences >= self.limit:
                    break
                if self.share == 1 or self._pick.random() < self._chance:
                    self._go(world, other, own, options, point, (*path, edit, point), edit, depth - 1)
            self._restore(after)

    def _note(self, problems: Collection[str], path: tuple[Any, ...]) -> None:
        for problem in problems:
            kind = problem.partition(":")[0]
            count, example = self.problems.get(kind, (0, f"{problem} after {path}"))
            self.problems[kind] = count + 1, example

    def _files(self) -> dict[Path, str]:
        return {path: path.read_text() for path in self.out.iterdir()}

    def _restore(self, files: dict[Path, str]) -> None:
        for path in self.out.iterdir():
            if path not in files:
                path.unlink()
        for path, text in files.items():
            if not path.exists() or path.read_text() != text:
                path.write_text(text)


def kill_really(shape: str, mode: str, folder: Path, seed: int) -> list[str]:
    """Goes through one random sequence, whose runs are killed by SIGKILL, with files as storage. Returns what is wrong.

    Args:
        shape: The name of a shape.
        mode: The mode of the runs.
        folder: An empty folder.
        seed: The seed of the edits and of the kills.
    """
    pick, shadow, edits = random.Random(f"{shape} {mode} {seed}"), Shadow(), Edits()
    world = World(StorageFile(folder / "values", durability="process"), folder / "out")
    world.out.mkdir()
    path: list[Any] = []
    problems: list[str] = []
    options = NO_RESUME
    edit = NO_EDIT
    for number in range(pick.randint(2, 3)):
        if number:
            edit = (
                edit._replace(back=True)
                if edit.kind in REVERSIBLE and pick.random() < 0.3
                else pick.choice(edits_of(shape))
            )
            options = apply(edit, world, shadow, edits)
        path += [tuple(edit), pick.randrange(16)]
        _run_in_child(shape, world, edits, mode, path[-1], options)
        problems += follow(shadow, world, edits, options)
        figures["killed by SIGKILL"] += not world.is_alive
        if world.is_alive:
            shadow.owed.clear()
    if edit.kind in REVERSIBLE and pick.random() < 0.5:
        apply(edit._replace(back=True), world, shadow, edits)
        path.append("back")
    return [f"{problem} after {path}" for problem in [*problems, *finish(shape, world, shadow, edits, mode)]]


def _run_in_child(shape: str, world: World, edits: Edits, mode: Any, kill: int, options: dict[str, Any]) -> None:
    """Runs in a process of its own until the kill, and brings its events back."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            own = World(world.storage, world.out, log=writing)
            own.begin(kill)
            build(shape, own, edits).start(mode=mode, keep_going=True, **options)
            os._exit(0)
        finally:
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        events = [Event(*json.loads(line)) for line in pipe]
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    world.begin(-1)
    for event in events:
        if event.what == "killed":
            world.prevented = Event(event.more, event.key)
        else:
            world.events.append(event)
    assert code == (0 if world.is_alive else -signal.SIGKILL)


def explore(shape: str, mode: str, out: Path, **options: Any) -> Explorer:
    """Explores one shape. Its problems are in the result."""
    explorer = Explorer(shape, mode, out, **options)
    explorer.explore()
    return explorer


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=2, help="the number of runs before the last resume")
    parser.add_argument("--shape", action="append", choices=SHAPES)
    parser.add_argument("--mode", action="append", choices=("sequential", "parallel"))
    parser.add_argument("--share", type=float, default=1, help="the share of all sequences, by chance")
    parser.add_argument("--limit", type=int, default=10**9, help="the number of sequences of a shape")
    parser.add_argument("--real", type=int, default=0, help="the number of sequences with SIGKILL instead")
    chosen = parser.parse_args()
    wrong = 0
    for mode, shape in itertools.product(chosen.mode or ("sequential", "parallel"), chosen.shape or SHAPES):
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            if chosen.real:
                count = chosen.real
                problems = []
                for seed in range(count):
                    own = Path(folder, str(seed))
                    own.mkdir()
                    problems += kill_really(shape, mode, own, seed)
            else:
                found = explore(shape, mode, Path(folder), kills=chosen.kills, share=chosen.share, limit=chosen.limit)
                problems = [f"{number} times {what}" for number, what in found.problems.values()]
                count = found.sequences
        wrong += len(problems)
        print(
            f"{mode} {shape}: {count} sequences, {time.monotonic() - began:.0f} s", *problems, sep="\n   ", flush=True
        )
    print(*(f"{count} {what}" for what, count in sorted(figures.items())), sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
