"""The definition: steps, tasks and graphs. A graph is wired once; all of its scopes share the wiring."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple


def digest(value: Any, length: int = 20) -> str:
    return hashlib.blake2b(
        json.dumps(value, sort_keys=True, default=repr).encode(), digest_size=length // 2
    ).hexdigest()


def item_key(entry: Any) -> str:
    """The key of a list's entry. `fuzz` sets that of dotflow here, so that all keys are equal byte for byte."""
    return digest(entry)


def row_key(keys: list[str]) -> str:
    """The key of an entry of several lists."""
    return hashlib.blake2b("\n".join(keys).encode(), digest_size=10).hexdigest()


class Step(NamedTuple):
    """A step: `name` is its identity, `code` stands for the fingerprint of its code."""

    name: str
    fn: Callable[..., Any]
    code: str = "1"


class Const(NamedTuple):
    """A value that is written down in the definition, or a default of an added workflow's parameter."""

    value: Any


#: Where an argument comes from: a Const, "$param" of the own graph, "task" before it, or "task:part" of its outputs.
Source = Const | str


@dataclass
class Task:
    """One task, resolved: what `add` makes of its options."""

    name: str
    step: Step | None = None  # or else the body
    takes: dict[str, Source] = field(default_factory=dict)
    optional: frozenset[str] = frozenset()
    each: dict[str, Source] = field(default_factory=dict)  # by parameter of the step or of the body
    cross: bool = False
    body: "Graph | None" = None
    result: str = ""  # the task of the body that has its value
    repeat: int = 0
    until: str = ""
    carry: dict[str, str] = field(default_factory=dict)  # parameter of the body -> task of the round before
    needs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    when: tuple[tuple[str, bool], ...] = ()  # source, and the truth that is wanted
    fallback: Step | None = None
    outputs: tuple[str, ...] = ()
    always: bool = False
    keep_going: bool | None = None
    saved: bool = True
    cache: bool = False
    approve: bool = False
    files: bool = False  # its value is the path of a file that it makes
    limit: int = 10_000

    @property
    def is_fan(self) -> bool:
        """Whether it opens child scopes: for items, or for rounds."""
        return bool(self.each) or self.repeat > 0

    def value_sources(self) -> list[str]:
        """The tasks of the own graph whose values it depends on, or a task of its body does."""
        takes = self.takes if self.body is None else {p: s for p, s in self.takes.items() if self.body.takes(p)}
        sources = [*takes.values(), *self.each.values(), *(source for source, _ in self.when)]
        return [one.partition(":")[0] for one in sources if isinstance(one, str) and one[0] != "$"]

    def sources(self) -> list[str]:
        return [*dict.fromkeys((*self.value_sources(), *self.needs, *self.after))]

    def is_taker(self, name: str) -> bool:
        """Whether it has to do with a task, other than by a cleanup in its body."""
        if self.body is None or name not in self.sources():
            return name in self.sources()
        by_cleanups = {p for p in self.takes if not self.body.takes(p, also_cleanups=False)}
        kept = replace(self, takes={p: source for p, source in self.takes.items() if p not in by_cleanups})
        return name in kept.sources()


@dataclass
class Graph:
    """Tasks in the order of `add`, and run parameters with their defaults."""

    tasks: list[Task]
    params: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def by_name(self) -> dict[str, Task]:
        return {task.name: task for task in self.tasks}

    def takes(self, parameter: str, *, also_cleanups: bool = True) -> bool:
        """Whether one of its tasks takes a parameter of it."""
        tasks = [one for one in self.tasks if also_cleanups or not one.always]
        return any(f"${parameter}" in (*one.takes.values(), *one.each.values()) for one in tasks)

    def lists_behind(self, source: Source) -> set[Any]:
        """What tells whether two maps are in step: the lists through which the items of a task go."""
        if isinstance(source, Const):
            return {id(source.value)}
        if source[0] == "$":
            return {source}
        task = self.by_name[source.partition(":")[0]]
        if not task.each:
            return {source}
        own = set[Any]() if task.cross else set().union(*map(self.lists_behind, task.each.values()))
        return {task.name, *own}

    def in_step(self, task: Task, source: str) -> bool:
        """Whether a mapped task takes, or asks, the item of another one that has its own index."""
        other = self.by_name.get(source.partition(":")[0])
        if other is None or not other.each or not task.each or task.cross:
            return False
        own = set().union(*map(self.lists_behind, task.each.values()))
        return not own.isdisjoint(self.lists_behind(source.partition(":")[0]))

    def by_item(self, task: Task) -> set[str]:
        """The mapped tasks of which it waits for one item only."""
        names = {source.partition(":")[0] for source in task.each.values() if isinstance(source, str)}
        names |= {source.partition(":")[0] for source, _ in task.when}
        return {name for name in names if self.in_step(task, name)}

    @cached_property
    def wiring(self) -> "dict[bool, Wiring]":
        return {side_by_side: Wiring(self, side_by_side) for side_by_side in (False, True)}


class Wiring:
    """Who follows whom in one mode. `followers` wait for its end, `openers` until its items are known."""

    def __init__(self, graph: Graph, side_by_side: bool) -> None:
        self.unmet: list[int] = []
        self.singles: dict[str, set[str]] = {}  # the maps of which a task waits for one item
        self.followers: dict[str, list[str]] = {task.name: [] for task in graph.tasks}
        self.openers: dict[str, list[str]] = {task.name: [] for task in graph.tasks}
        self.by_item: dict[str, list[str]] = {task.name: [] for task in graph.tasks}  # maps that go over it by item
        for index, task in enumerate(graph.tasks):
            whole, single = dict.fromkeys(task.sources()), graph.by_item(task)
            if task.always and not (task.needs or task.after):
                whole |= dict.fromkeys(other.name for other in graph.tasks[:index])
            if not side_by_side and index:
                whole[graph.tasks[index - 1].name] = None
            if side_by_side:
                taken = {one.partition(":")[0] for one in task.takes.values() if isinstance(one, str)}
                single -= {*task.needs, *task.after, *taken}
            else:
                single = set()  # its source is over before it opens
            for name in whole:
                (self.openers if name in single else self.followers)[name].append(task.name)
            for name in single:
                self.by_item[name].append(task.name)
            self.unmet.append(len(whole))
            self.singles[task.name] = single

    def by_item_of(self, task: Task) -> set[str]:
        return self.singles[task.name]
