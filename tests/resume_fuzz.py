"""Looks for stale values in resumed runs of random workflows. Run: python tests/resume_fuzz.py --scenarios 2000

A scenario is a random workflow whose steps are pure functions. It is run, killed before a random write of its storage,
changed in a random way, and resumed, several times; in half of them the code of steps changes, too. The last resume has
to return what a new run of the workflow returns, and must not repeat a step whose inputs are those of its checkpoint.
"""

import argparse
import contextlib
import copy
import itertools
import random
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

sys.path[:0] = [str(Path(__file__).parent.parent), str(Path(__file__).parent.parent / "src")]

from dotflow import Config, Context, DotFlow, Task, action  # noqa: E402 (found through the path that was just set)
from dotflow.abc.storage import Storage  # noqa: E402
from dotflow.errors import CheckpointMismatch  # noqa: E402
from dotflow.providers import ExecutorAsync, ExecutorThread, LogDefault, StorageDefault, StorageFile, StorageSQLite  # noqa: E402
from dotflow.resume.choice import Resume  # noqa: E402
from tests.storages import StorageThree  # noqa: E402

MODES: Final = ("sequential", "sequential", "groups", "parallel")
STEPS: Final = 4  # names of steps: several tasks share one
PARAMS: Final = ("limit", "day")
LIST: Final = "urls"  # a parameter that tasks are mapped over
ROWS: Final = "rows"  # the same in added workflows that are repeated
KINDS: Final = ("number", "number", "list", "list", "flag", "none", "class", "parts")
CHANGES: Final = ("initial", "params", "list", "list", "remove", "insert", "move", "rename", "connect", "flaky")
VALUE_CHANGES: Final = ("written", "length", "swap", "part")  # of what a node is given, its outputs, and what it takes
CODE_CHANGES: Final = ("code", "code", "fallback code")  # of a node's step, and of its fallback


class PartOf(int):
    """The number of a node whose output is taken, not its whole value."""

    part: int

    def __new__(cls, number: int, part: int) -> "PartOf":
        self = super().__new__(cls, number)
        self.part = part
        return self

    def __getnewargs__(self) -> tuple[int, int]:
        return int(self), self.part

    def __repr__(self) -> str:
        return f"o{int(self)}_{self.part}"


@dataclass
class Node:
    """One task of a random workflow. Others refer to it by its number."""

    number: int
    step: int
    kind: str
    name: str | None
    initial: int | None = None
    takes: dict[str, tuple[str, Any]] = field(default_factory=dict)  # "value", "context" or "param", and the source
    optional: set[str] = field(default_factory=set)
    each: dict[str, Any] = field(default_factory=dict)  # the number of a node, a tuple, or a run parameter
    cross: bool = False  # every combination of them, not in step
    needs: list[int] = field(default_factory=list)  # nodes that must have completed, and nodes that must be over
    after: list[int] = field(default_factory=list)
    conditions: list[tuple[str, Any]] = field(default_factory=list)  # "when" or "unless", and a node or a parameter
    previous: bool = False
    fallback: bool = False
    always: bool = False
    saved: bool = True
    cached: bool = False
    code: int = 0  # a constant in the code of its step
    fallback_code: int = 0
    written: Any = None  # a value that is written down for its step, which changes it; None for none
    length: int = 0  # the number of its outputs
    by_name: bool = False  # its value is a dict of them
    swapped: bool = False  # its first two outputs have each other's place
    group: str = "default"
    nest: int | None = None  # the number of the added workflow that it is a task of, which runs for each item

    def sources(self) -> set[int]:
        """The nodes that it refers to."""
        return self.value_sources() | {*self.needs, *self.after}

    def value_sources(self) -> set[int]:
        """The nodes whose values it depends on."""
        taken = {source for kind, source in self.takes.values() if kind != "param"}
        mapped = {source for source in self.each.values() if isinstance(source, int)}
        return taken | mapped | {source for _, source in self.conditions if isinstance(source, int)}


class KilledStorage(Storage):
    """Another storage, whose process is killed before one of its writes.

    Args:
        inner: The other storage.
        writes: How many writes there are before the kill.
    """

    def __init__(self, inner: Storage, writes: float) -> None:
        self.inner = inner
        self.writes = writes
        self.posted: Callable[[str], None] = lambda key: None
        self.is_local, self.outlives_process = inner.is_local, True

    def _count(self) -> bool:
        """Whether the process still lives."""
        self.writes -= 1
        if -1 <= self.writes < 0:
            raise KeyboardInterrupt
        return self.writes >= 0

    def post(self, key: str, context: Context) -> None:
        if self._count():
            self.inner.post(key, context)
            self.posted(key)

    def get(self, key: str) -> Context:
        return self.inner.get(key)

    def key(self, task: Task) -> str:
        return self.inner.key(task)

    def contains(self, key: str) -> bool:
        return self.inner.contains(key)

    def delete(self, key: str) -> None:
        if self._count():
            self.inner.delete(key)

    def list_keys(self, prefix: str = "") -> Iterable[str]:
        return self.inner.list_keys(prefix)

    def lock(self, workflow_id: str) -> contextlib.AbstractContextManager[Hashable]:
        return self.inner.lock(workflow_id)


class KilledWithClear(KilledStorage):
    """The same for a storage that can clear a workflow."""

    def clear(self, workflow_id: str) -> bool:
        return self.inner.clear(workflow_id) if self._count() else True


class ByName(StorageThree):
    """Three methods, and a key that goes by the names of tasks."""

    def key(self, task: Task) -> str:
        return f"{task.workflow_id}-{task.key_name}"


STORAGES: Final[dict[str, Callable[[Path], Storage]]] = {
    "memory": lambda folder: StorageDefault(),
    "file": lambda folder: StorageFile(folder / "kept", durability="process"),
    "sqlite": lambda folder: StorageSQLite(folder / "kept.db", durability="process"),
    "three methods": lambda folder: ByName(),
}


class Scenario:
    """One random workflow and its changes.

    Args:
        seed: Determines all of it.
        storage: Where its checkpoints are.
        mode: The mode of its runs.
    """

    def __init__(self, seed: str, storage: Storage, mode: str) -> None:
        self.random = random.Random(seed)
        self.storage = storage
        self.mode = mode
        self.nodes: list[Node] = []
        self.params: dict[str, Any] = {"limit": 1, "day": "monday", LIST: [1, 2]}
        self.nests: dict[int, Any] = {}  # the lists of added workflows: the number of a node, or a tuple
        self.loops: dict[int, tuple[int, bool]] = {}  # of those that are repeated: the rounds, and whether until ends
        self.next = 0
        self.edits = self.random.random() < 0.5  # the code changes, and each resume may compare it
        self.caches = self.random.random() < 0.4
        self.cleans = self.random.random() < 0.4  # or it has tasks without checkpoints, which no cleanup needs
        self.bad = {self.random.randrange(40) for _ in range(3)}  # a step raises at these values, every time
        self.flaky: set[int] = set()  # at these only in the runs before the last
        self.calls: list[tuple[int, str]] = []
        self.failed: list[tuple[int, str]] = []  # those that raised
        self.saved: dict[str, tuple[str, str, int]] = {}  # by key: the node, its arguments, and when
        self.made: dict[int, int] = {}  # when a node last ran
        self.time = 0
        self.repeated: list[str] = []
        self.unsaved_ends = False  # whether a task without a checkpoint has ended the rounds of a new run
        for _ in range(self.random.randint(2, 7)):
            self.insert()

    # The workflow

    def insert(self) -> None:
        """Adds a random node, or the nodes of a random workflow that runs for each item, at a random index."""
        pick = self.random
        index = pick.randint(max(0, len(self.nodes) - 2), len(self.nodes)) if self.nodes else 0
        while self.is_inside(index, self.nodes):
            index += 1
        nest = None
        if pick.random() < 0.2:
            nest = self.next
            if pick.random() < 0.5:
                self.nests[nest] = self.list_for(self.nodes[:index])
            else:
                self.nests[nest], self.loops[nest] = (), (pick.randint(1, 4), pick.random() < 0.8)
        group = pick.choice("ab") if self.mode == "groups" else "default"
        for place in range(index, index + (1 if nest is None else pick.randint(2, 4))):
            self.insert_at(place, nest, group)

    def is_inside(self, index: int, nodes: list[Node]) -> bool:
        """Whether an index is between two nodes of one added workflow."""
        return 0 < index < len(nodes) and nodes[index].nest is not None and nodes[index].nest == nodes[index - 1].nest

    def insert_at(self, index: int, nest: int | None, group: str) -> None:
        """Adds a random node."""
        pick = self.random
        before = self.nodes[:index]
        number, self.next = self.next, self.next + 1
        name = f"n{number}" if nest is not None or pick.random() < 0.7 else None
        node = Node(number, pick.randrange(STEPS), pick.choice(KINDS), name)
        node.kind, node.nest = "number" if nest is not None and node.kind == "class" else node.kind, nest
        node.initial = pick.choice([None, None, 1, 2])
        node.previous = self.mode not in ("parallel", "async") and (node.kind == "class" or pick.random() < 0.3)
        node.previous = node.previous and nest is None
        node.saved = self.cleans or pick.random() < 0.85
        node.cached = node.saved and self.caches and pick.random() < 0.5
        node.group = group
        is_single = nest is None and node.kind != "class"
        node.written = self.some_value() if is_single and pick.random() < 0.2 else None
        node.length = 2 if node.kind == "parts" else 0
        node.by_name = node.length > 0 and pick.random() < 0.3
        self.connect(node, before)
        self.nodes.insert(index, node)

    def connect(self, node: Node, before: list[Node]) -> None:
        """Gives a node random sources."""
        pick = self.random
        node.takes, node.each, node.optional, node.cross = {}, {}, set(), False
        node.needs, node.after, node.conditions = [], [], []
        if node.kind == "class":
            node.each = {"item": self.list_for(before)} if pick.random() < 0.3 else {}
            return
        is_taken = any(node.number in (*other.sources(), self.nests.get(other.nest or -1)) for other in self.nodes)
        inner = [other for other in before if node.nest is not None and other.nest == node.nest and not other.always]
        node.always = self.cleans and pick.random() < 0.2 and (node.nest is None or not is_taken)
        node.always = node.always and (bool(inner) or node.nest not in self.loops)
        # A cleanup for each item runs for those of this run only, so its value differs from run to run.
        before = [other for other in before if other.nest is None or (other.nest != node.nest and not other.always)]
        for parameter in "xy":
            if (before or inner) and pick.random() < 0.4:
                chosen = inner if inner and pick.random() < 0.8 else before or inner
                node.takes[parameter] = "value", self.source(chosen)
        if node.nest is not None:
            self.connect_inside(node, inner, before)
            return
        named = [other for other in before if other.name and other.nest is None]
        if named and pick.random() < 0.2:
            other = pick.choice(named)
            node.takes[f"{other.name}_context"] = "context", other.number
        if pick.random() < 0.2:
            parameter = pick.choice(PARAMS)
            node.takes[parameter] = "param", parameter
        node.optional = {name for name in node.takes if pick.random() < 0.3}
        if pick.random() < 0.4:
            node.each["item"] = self.list_for(before)
            if pick.random() < 0.4:
                node.each["other"] = self.list_for(before)
                node.cross = pick.random() < 0.7
        wired = {source for kind, source in node.takes.values() if kind == "value"}
        if before and not wired and pick.random() < 0.3:
            node.needs = [self.source(before)]
        others = [other.number for other in before if other.number not in {*wired, *node.needs}]
        if others and pick.random() < 0.2:
            node.after = [pick.choice(others)]
        if before and not node.always and pick.random() < 0.3:
            sources = [self.source([other]) for other in before if other.saved and self.may_decide(other.number, node)]
            node.conditions = [(pick.choice(["when", "unless"]), pick.choice([*sources[-2:], "limit"]))]
        node.fallback = pick.random() < 0.2

    def connect_inside(self, node: Node, inner: list[Node], before: list[Node]) -> None:
        """Gives a node of an added workflow random links inside of that. In rounds it may be a map."""
        pick = self.random
        if node.nest in self.loops and node.saved and not node.always and pick.random() < 0.4:
            sources = [other for other in (inner if pick.random() < 0.7 else before) if other.saved]
            node.each = {"row": ROWS if pick.random() < 0.4 else self.list_for(sources, ROWS)}
            if pick.random() < 0.3:
                node.each["other"], node.cross = self.list_for(sources, ROWS), pick.random() < 0.7
        if inner and pick.random() < 0.2:
            other = pick.choice(inner)
            node.takes[f"{other.name}_context"] = "context", other.number
        if pick.random() < 0.7:
            node.takes["item"] = "param", "item"
        node.optional = {name for name in node.takes if name != "item" and pick.random() < 0.3}
        others = [other.number for other in inner if other.number not in node.value_sources()]
        if others and pick.random() < 0.3:
            node.after = [pick.choice(others)]
        saved = [other.number for other in inner if other.saved and not other.each]
        if not node.always and pick.random() < 0.3:
            node.conditions = [(pick.choice(["when", "unless"]), pick.choice([*saved, "item"]))]
        node.fallback = pick.random() < 0.2

    def gives_list(self, node: Node) -> bool:
        """Whether the value of a node is a list of its items' values."""
        return bool(node.each) or (node.nest is not None and node.nest not in self.loops)

    def lists_behind(self, source: Any) -> set[int]:
        """The nodes through whose items a map over a node goes."""
        node = next((one for one in self.nodes if one.number == source), None)
        if not isinstance(source, int) or node is None:
            return set()
        if node.nest in self.loops:
            return {source}  # its value is the last round's
        own = self.nests[node.nest] if node.nest is not None else None
        return {source}.union(*map(self.lists_behind, [own, *(() if node.cross else node.each.values())]))

    def may_decide(self, source: Any, node: Node) -> bool:
        """Whether a node may be the condition of another one: if it is mapped, in step with it."""
        other = next((one for one in self.nodes if one.number == source), None)
        if other is not None and other.each and other.nest == node.nest in self.loops:
            return False  # it has been connected anew since
        if other is None or other.nest == node.nest != None or not self.gives_list(other):  # noqa: E711
            return True
        if other.nest in self.loops:
            return True
        own = set[int]() if node.cross else set[int]().union(*map(self.lists_behind, node.each.values()))
        return not self.lists_behind(source).isdisjoint(own)

    def has_unknown_items(self, nest: int | None) -> bool:
        """Whether the items of an added workflow are carried, or those of a map without checkpoints."""
        source = None if nest is None else self.nests[nest]
        lists = [one for one in self.nodes if isinstance(source, int) and one.number == source and not one.saved]
        return nest in self.loops or any(map(self.gives_list, lists))

    def source(self, before: list[Node]) -> int:
        """A node, or one of its outputs."""
        node = self.random.choice(before)
        return (
            PartOf(node.number, self.random.randrange(2)) if node.length and self.random.random() < 0.7 else node.number
        )

    def some_value(self) -> Any:
        """A value that is written down in the workflow."""
        return [self.random.randrange(3)] if self.random.random() < 0.7 else self.random.randrange(3)

    def list_for(self, before: list[Node], parameter: str = LIST) -> Any:
        """A list that is written down, or a node that returns one, as its value or as its last output."""
        before = [other for other in before if other.nest is None or not other.always]
        sources = [other.number for other in before if other.kind == "list" or self.gives_list(other)]
        sources += [PartOf(other.number, 1) for other in before if other.length]
        if sources and self.random.random() < 0.7:
            return self.random.choice(sources)
        if self.random.random() < 0.2:
            return parameter
        return tuple(self.random.randrange(5) for _ in range(self.random.randrange(4)))

    def change(self) -> None:
        """Changes the workflow, as users do between two runs."""
        pick = self.random
        node = pick.choice(self.nodes)
        kind = pick.choice(CHANGES + VALUE_CHANGES + CODE_CHANGES * self.edits)
        if kind == "initial":
            node.initial = pick.choice([None, 1, 2])
        elif kind == "params":
            self.params[pick.choice(PARAMS)] = pick.choice([0, 1, 2, "monday"])
            self.params[LIST] = [pick.randrange(5) for _ in range(pick.randrange(4))]
        elif kind == "list":
            pairs = [(one, name) for one in self.nodes for name in one.each]
            for one, name in [(one, name) for one, name in pairs if isinstance(one.each[name], tuple)]:
                items = [*one.each[name], pick.randrange(5)][pick.randrange(2) : 1 + pick.randrange(5)]
                pick.shuffle(items)
                one.each[name] = tuple(items)
            for nest, items in self.nests.items():
                if nest in self.loops:
                    self.loops[nest] = pick.randint(1, 4), pick.random() < 0.8
                elif isinstance(items, tuple):
                    self.nests[nest] = tuple([*items, pick.randrange(5)][pick.randrange(2) : 1 + pick.randrange(5)])
        elif kind in ("remove", "move", "rename") and node.nest is not None:
            pass
        elif kind == "remove":
            if (
                node.number not in self.nests.values()
                and not any(node.number in other.sources() for other in self.nodes)
                and len(self.nodes) > 1
            ):
                self.nodes.remove(node)
        elif kind == "insert":
            self.insert()
        elif kind == "move":
            self.move(node)
        elif kind == "rename":
            node.name = f"n{node.number}{pick.choice('abc')}" if node.name else None
            for other in self.nodes:  # a parameter is called like the task
                for name in [name for name, taken in other.takes.items() if taken == ("context", node.number)]:
                    other.takes[f"{node.name}_context"] = other.takes.pop(name)
        elif kind == "connect":
            self.connect(node, self.nodes[: self.nodes.index(node)])
        elif kind == "written":
            node.written = None if node.written is None else self.some_value()
        elif kind == "length":
            node.length = node.length and 5 - node.length
        elif kind == "swap":
            for one in self.nodes:
                one.swapped = one.length > 0 and not one.swapped
        elif kind == "part":
            self.take_other_parts()
        elif kind == "code":
            node.code = pick.randrange(3)
        elif kind == "fallback code":
            node.fallback_code = pick.randrange(3)
        else:
            self.flaky = {pick.randrange(40) for _ in range(6)}

    def take_other_parts(self) -> None:
        """Lets nodes take another output of a node, its whole value, or one output instead of that."""
        pick, lengths = self.random, {node.number: node.length for node in self.nodes}

        def other(source: int) -> int:
            if not isinstance(source, PartOf):
                return PartOf(source, pick.randrange(2)) if lengths.get(source) else source
            return int(source) if pick.random() < 0.2 else PartOf(int(source), 1 - source.part)

        for node in self.nodes:
            for name, (kind, source) in node.takes.items():
                if kind == "value":
                    node.takes[name] = kind, other(source)
            for name, source in node.each.items():
                if isinstance(source, int) and pick.random() < 0.3:
                    node.each[name] = other(source)

    def move(self, node: Node) -> None:
        """Puts a node to another index, which its links allow."""
        rest = [other for other in self.nodes if other is not node]
        first = max((index + 1 for index, other in enumerate(rest) if other.number in node.sources()), default=0)
        takes = [node.number in {*other.sources(), self.nests.get(other.nest)} for other in rest]  # type: ignore[arg-type]
        last = min((index for index, taken in enumerate(takes) if taken), default=len(rest))
        index = self.random.randint(first, last)
        while self.is_inside(index, rest):
            index -= 1
        if index >= first:
            self.nodes = [*rest[:index], node, *rest[index:]]

    def build(self, storage: Storage, restored: Collection[int] = ()) -> DotFlow:
        """Makes the workflow. Nodes that are *restored* only wait for those that they need."""
        config = Config(storage=storage, log=LogDefault(output="none"), executor=ExecutorThread())
        if self.mode == "sequential":
            config = Config(storage=storage, log=LogDefault(output="none"))
        if self.mode == "async":
            config = Config(storage=storage, log=LogDefault(output="none"), executor=ExecutorAsync())
        workflow = DotFlow(config, workflow_id="w", params=self.params)
        steps: dict[int, Any] = {}
        numbers = {node.number: node for node in self.nodes}

        def ref(source: Any, node: Node | None = None) -> Any:
            """What a node, or one outside of all added workflows, calls another one."""
            other = numbers.get(source)
            if other is None:
                return source
            name = repr(source) if isinstance(source, PartOf) else other.name
            if other.nest is not None and (node is None or node.nest != other.nest):
                return f"m{other.nest}.{name}"
            return name or steps.get(source, source)

        for nest, group in itertools.groupby(self.nodes, lambda node: node.nest):
            nodes = list(group)
            if nest is None:
                for node in nodes:
                    steps[node.number] = self.add(workflow, node, ref, restored)
                continue
            outside = {
                repr(source): source
                for node in nodes
                for kind, source in node.takes.values()
                if kind == "value" and numbers[source].nest != nest
            }
            mapped = [source for node in nodes for source in node.each.values() if isinstance(source, int)]
            outside |= {repr(source): source for source in mapped if numbers[source].nest != nest}
            inner = DotFlow(params={"item": ..., ROWS: [], **{f"out{name}": ... for name in outside}})

            def inner_ref(source: Any, node: Node, outside: dict[str, Any] = outside) -> Any:
                return f"out{source!r}" if repr(source) in outside else ref(source, node)

            for node in nodes:
                steps[node.number] = self.add(inner, node, inner_ref, ())
            needs = {f"out{name}": ref(source) for name, source in outside.items()}
            if nest in self.loops:
                options = self.rounds(nest, nodes)
                workflow.task.add(
                    inner,
                    name=f"m{nest}",
                    needs=needs or None,
                    params={"item": 3, ROWS: [1, 2]},
                    group_name=nodes[0].group,
                    **options,
                )
                continue
            each = {"item": ref(self.nests[nest])}
            workflow.task.add(
                inner, name=f"m{nest}", each=each, needs=needs or None, group_name=nodes[0].group, max_parallel=2
            )
        return workflow

    def rounds(self, nest: int, nodes: list[Node]) -> dict[str, Any]:
        """The options of an added workflow that is repeated."""
        repeat, has_until = self.loops[nest]
        ends = [node for node in nodes if not node.always]
        saved = [node for node in ends if node.saved]
        single = [node for node in saved if not node.each]
        until = single[-1] if single and len(ends) > 1 and has_until else None
        carried = next((node for node in reversed(saved) if node is not until), None)
        carry = {} if carried is None else {"item": carried.name}
        lists = [node for node in saved if node is not until and (node.each or node.kind == "list")]
        options: dict[str, Any] = {"repeat": repeat, "carry": {**carry, **({ROWS: lists[-1].name} if lists else {})}}
        return options if until is None else {**options, "until": until.name}

    def add(self, workflow: DotFlow, node: Node, ref: Callable[..., Any], restored: Collection[int]) -> Any:
        """Adds the task of a node, and returns its step."""
        step = self.make_step(node, "step")
        options: dict[str, Any] = {}
        needs = {name: ref(source, node) for name, (kind, source) in node.takes.items() if kind == "value"}
        if needs:
            options["needs"] = needs
        elif node.needs:
            options["after" if node.number in restored else "needs"] = [ref(source, node) for source in node.needs]
        if node.after:
            options["after"] = [*options.get("after", ()), *(ref(source, node) for source in node.after)]
        if node.each:
            options["cross" if node.cross else "each"] = {name: ref(one, node) for name, one in node.each.items()}
        for word, source in node.conditions:
            if self.may_decide(source, node) and not (source == "item" and self.has_unknown_items(node.nest)):
                options[word] = ref(source, node)
        if node.fallback:
            options["fallback"] = self.make_step(node, "fallback")
        if node.written is not None:
            options["params"] = {"written": copy.deepcopy(node.written)}
        if node.length:
            outputs = outputs_of(node)
            options["outputs"] = [outputs[1], outputs[0], *outputs[2:]] if node.swapped else outputs
        if node.nest is None:
            options["group_name"] = node.group
        workflow.task.add(step, initial_context=node.initial, name=node.name, always=node.always, **options)
        return step

    def make_step(self, node: Node, word: str) -> Any:
        """Makes the step of a node: a pure function of its arguments."""
        name = f"{word}{node.step}_{node.kind}"
        code = node.code if word == "step" else node.fallback_code

        def run(code: int, arguments: dict[str, Any]) -> Any:
            text = repr({key: plain(value) for key, value in sorted(arguments.items())})
            value = zlib.crc32(f"{name}{code or ''}{text}".encode())
            self.calls.append(call := (node.number, text))
            if word == "step" and self.fails(node, value, text):
                self.failed.append(call)
                if node.length and value % 2:
                    return value  # which has no parts
                raise ValueError(value % 40)
            if isinstance(arguments.get("written"), list) and not node.each:  # all items are given the same object
                arguments["written"].append(value)
            made = value_of(node.kind, value, node.length)
            return dict(zip(outputs_of(node), made, strict=True)) if node.by_name else made

        if node.kind == "class":
            return self.make_class(node, name)
        names = [*node.takes, *node.each, *(["written"] if node.written is not None else [])]
        required = [one for one in names if one not in node.optional]
        optional = [f"{one}=None" for one in names if one in node.optional]
        contexts = ["previous_context"] * node.previous + ["initial_context"]
        signature = ", ".join([*contexts, *required, *optional])
        passed = ", ".join(f"{one}={one}" for one in [*contexts, *names])
        scope = {"run": run, "__name__": __name__}
        exec(f"def step({signature}):\n    return run({code}, dict({passed}))", scope)
        step: Any = scope["step"]
        step.__name__ = step.__qualname__ = name
        return action(**self.policy(node))(step)

    def policy(self, node: Node) -> dict[str, Any]:
        """The arguments of `@action` for the step of a node."""
        return {"checkpoint": node.saved, "cache": node.cached}

    def fails(self, node: Node, value: int, text: str) -> bool:
        """Whether the step of a node raises instead of returning a value."""
        return value % 40 in self.bad | (set() if node.fallback else self.flaky)

    def make_class(self, node: Node, name: str) -> Any:
        """Makes a class whose first action takes the previous value."""
        calls, code = self.calls.append, node.code

        def first(self: Any, previous_context: Context, initial_context: Context) -> int:
            text = repr((plain(previous_context), plain(initial_context), plain(getattr(self, "item", None))))
            calls((node.number, text))
            return zlib.crc32(f"{name}{code or ''}{text}".encode()) % 1000

        def second(self: Any, previous_context: Context) -> int:
            value: int = previous_context.storage + 1
            return value

        def start(self: Any, item: Any) -> None:
            self.item = item

        members: dict[str, Any] = {"__init__": start} if node.each else {}
        return action(**self.policy(node))(type(name, (), members | {"first": action(first), "second": action(second)}))

    # Runs

    def run(self, writes: float, resume: Resume, *, keep_going: bool = True, **more: Any) -> DotFlow | None:
        """Runs the workflow; returns it unless it was killed."""
        kind = KilledStorage if isinstance(self.storage, ByName) else KilledWithClear
        storage = kind(self.storage, writes)
        workflow = self.build(storage)
        self.calls.clear()
        if self.mode == "sequential" and not self.caches:  # a cached value is saved without a call
            self.watch(storage, workflow, resume in (True, "changed") and not more)
        mode = self.mode.replace("groups", "sequential")
        try:
            workflow.start(mode=mode, keep_going=keep_going, resume=resume, **more)
        except KeyboardInterrupt:
            return None
        return workflow

    def watch(self, storage: KilledStorage, workflow: DotFlow, resume: bool) -> None:
        """Notes the steps that run again though nothing that they depend on has changed. Only one runs at a time."""
        began, before = self.time, dict(self.saved)
        nodes = {node.number: node for node in self.nodes}
        there = {key for key in before if self.storage.contains(key)}
        indexes = {node.number: index for index, node in enumerate(self.nodes)}

        def posted(key: str) -> None:
            self.time += 1
            if not self.calls or key.endswith(("-items", "@origin")):
                return
            number, arguments = self.calls[-1]
            node = nodes[number]
            if self.nests:  # which item it is of, its arguments do not show
                return
            tasks = workflow.result_task()
            taken = set(nodes) if node.previous else {*self.takers(node)}
            items = [[item.key_suffix for item in tasks[indexes[one]].items] for one in taken]
            statuses = [str(tasks[indexes[one]].status) for one in taken]
            unsaved = [*indexes, *(one for one in self.nodes if not one.saved)] if self.is_partly_saved else []
            definition = repr((node, self.params, items, statuses, unsaved, node.previous and indexes[number]))
            was = before.get(key)
            self.made[number] = self.time
            self.saved[key] = definition, arguments, self.time
            if not resume or was is None or key not in there or was[:2] != (definition, arguments):
                return
            sources = set(nodes) if node.previous else node.value_sources()
            mapped = {source for source in node.each.values() if isinstance(source, int)}
            by_item = {one for one in mapped if nodes[one].each} if len(node.each) == 1 and not node.cross else set()
            lists = {one for one in mapped if not nodes[one].each}
            for source in self.closure(sources - (lists | by_item) | {*self.takers(node)}) - {number}:
                task = tasks[indexes[source]]
                has_run = str(task.status) == "Failed" or (task.attempt and nodes[source].saved)
                has_run = (
                    has_run
                    or "which" in task.reason
                    or any(item.attempt or str(item.status) != "Completed" for item in task.items)
                )
                if self.made.get(source, 0) > was[2] or has_run:
                    return
            for source in by_item:
                name = nodes[source].name or str(indexes[source])
                its_key = f"{key.rpartition('/')[0]}/{name}-{key.partition('-')[2]}"
                if its_key not in there or self.saved[its_key][2] > was[2]:
                    return
            self.repeated.append(f"{key}: {node} with {arguments}, saved at {was[2]}, this run began at {began}")

        storage.posted = posted

    def closure(self, numbers: set[int]) -> set[int]:
        """These nodes, and all that they depend on."""
        nodes = {node.number: node for node in self.nodes}
        found: set[int] = set()
        while left := numbers - found:
            found |= left
            numbers = set().union(*(set(nodes) if nodes[one].previous else nodes[one].sources() for one in left))
        return found

    @property
    def is_partly_saved(self) -> bool:
        """Whether a node has no checkpoint."""
        return not all(node.saved for node in self.nodes)

    def takers(self, node: Node) -> Iterator[int]:
        """The nodes whose whole value it takes."""
        for kind, source in node.takes.values():
            if kind != "param":
                yield source
        for source in (*(source for _, source in node.conditions), *(node.each.values() if node.cross else ())):
            if isinstance(source, int):
                yield source

    def check(self) -> str:
        """Runs all of it; returns what is wrong."""
        pick = self.random
        resume: Resume = False
        more: dict[str, Any] = {}
        for _ in range(pick.randint(1, 5)):
            writes = pick.choice([pick.randrange(12), pick.randrange(30), float("inf")])
            if resume == "unfinished":
                more.pop("only", None)
            with contextlib.suppress(CheckpointMismatch):
                workflow = self.run(writes, resume, keep_going=pick.random() < 0.7, **more)
                if workflow is not None and "only" in more and (wrong := self.check_only(workflow, resume)):
                    return f"{more}, {resume}: {wrong}\n{self.params}\n" + "\n".join(map(repr, self.nodes))
            resume = pick.choice([*[True] * 9, "unfinished", False])
            if self.edits and resume is True and pick.random() < 0.7:
                resume = "changed"
            if pick.random() < 0.7:
                self.change()
            if pick.random() < 0.3:
                self.forget()
            more = self.more_options()
        self.flaky = set()
        nodes = copy.deepcopy(self.nodes)
        try:
            workflow = self.run(float("inf"), "changed" if self.edits else True)
        except CheckpointMismatch:
            return ""
        assert workflow is not None
        result = self.results(workflow)
        tasks = list(zip(self.nodes, workflow.result_task(), strict=True))
        unsaved = {node.number for node in self.nodes if not node.saved}
        if any(
            (node.each or node.nest is not None) and not task.items and not unsaved.isdisjoint(self.takers(node))
            for node, task in tasks
        ):
            return ""  # an empty map does not need the value, so it is not known whether that can be made
        expected = self.fresh({node.number for node, task in tasks if task.restored_from == "checkpoint"})
        if self.unsaved_ends:
            return ""
        if result != expected:
            return f"stale: {differences(expected, result)}\n{self.params}\n" + "\n".join(map(repr, nodes))
        self.repeated_again(workflow)
        lists = {source for node in nodes for source in node.each.values() if isinstance(source, int)}
        lists |= {source for source in self.nests.values() if isinstance(source, int)}
        if any(node.number in lists and not node.saved for node in nodes):
            return ""  # a list without a checkpoint has to be made again, so what was made from it is not known
        return "\n".join(self.repeated)

    def check_only(self, workflow: DotFlow, resume: Resume) -> str:
        """Returns which values of a run of some tasks are not those of a new run of all."""
        if self.flaky or (self.edits and resume is True):  # values count that were made before, or of older code
            return ""
        tasks = zip(self.nodes, workflow.result_task(), strict=True)
        compared = [str(task.status) == "Completed" and not node.always and node.saved for node, task in tasks]
        wrong, flaky = "", self.flaky
        for self.flaky in (flaky, set()):  # a value may be of a run in which its step did not fail yet
            expected, result = (list(itertools.compress(of, compared)) for of in (self.fresh(), self.results(workflow)))
            wrong = differences(expected, result)
            if not wrong:
                break
        self.flaky = flaky
        return wrong

    def repeated_again(self, workflow: DotFlow) -> None:
        """A resume of a run that has just completed runs nothing."""
        failed = any(str(task.status) == "Failed" for task in workflow.result_task())
        again = self.run(float("inf"), "changed" if self.edits else True)
        saved = {node.number for node in self.nodes if node.saved}
        if not failed and saved & {number for number, _ in self.calls} and not any(node.always for node in self.nodes):
            self.repeated.append(f"a second resume ran {self.calls}\n" + "\n".join(map(repr, self.nodes)))
        assert again is not None
        one, other = self.results(workflow), self.results(again)
        if one != other:
            self.repeated.append(f"a second resume returned {differences(one, other)}")

    def more_options(self) -> dict[str, Any]:
        """Options of the next run: tasks that run again, and a run without the cached values."""
        prefixes = {node.number: "" if node.nest is None else f"m{node.nest}." for node in self.nodes}
        named = [f"{prefixes[node.number]}{node.name}" for node in self.nodes if node.name]
        options: dict[str, Any] = {}
        if self.edits and named and self.random.random() < 0.2:
            options["rerun"] = self.random.sample(named, 1)
        elif named and self.random.random() < 0.2:
            options["only"] = self.random.sample(named, min(len(named), self.random.randint(1, 2)))
        if self.caches and self.random.random() < 0.2:
            options["cache"] = False
        return options

    def forget(self) -> None:
        """Deletes checkpoints by hand."""
        keys = sorted(key for key in self.saved if self.storage.contains(key))
        for key in self.random.sample(keys, min(len(keys), self.random.randrange(3))):
            self.storage.delete(key)

    def fresh(self, restored: Collection[int] = ()) -> list[Any]:
        """The results of a new run, in which the nodes that were *restored* run whatever becomes of their needs."""
        workflow = self.build(StorageDefault(), restored)
        workflow.start(mode=self.mode.replace("groups", "sequential"), keep_going=True)
        # A task without a checkpoint that no task needs is not made again, so that its end ends no rounds.
        tasks = zip(self.nodes, workflow.result_task(), strict=True)
        unsaved = [task for node, task in tasks if node.nest in self.loops and not node.saved]
        statuses = {str(one.status) for task in unsaved for one in (task, *task.items)}
        self.unsaved_ends = not statuses.isdisjoint({"Failed", "Skipped"})
        return self.results(workflow)

    def results(self, workflow: DotFlow) -> list[Any]:
        """What each task returned, and how it ended; nothing of a task without a checkpoint, which need not run."""
        tasks = zip(self.nodes, workflow.result_task(), strict=True)
        return [
            (task.name, str(task.status), plain(task.current_context))
            if node.saved and not (node.always and node.nest is not None)
            else None
            for node, task in tasks
        ]


def outputs_of(node: Node) -> list[str]:
    """The names of the outputs of a node."""
    return [repr(PartOf(node.number, part)) for part in range(node.length)]


def value_of(kind: str, value: int, length: int = 0) -> Any:
    """A value of a kind, made of a number. *length* is the number of its outputs."""
    if length:
        return (value % 7, value_of("list", value), *range(length - 2))
    if kind == "list":
        return [(value >> shift) % 5 for shift in range(0, 8, 2)][: value % 5]
    return {"number": value % 1000, "flag": bool(value % 2), "none": None}[kind]


def plain(value: Any) -> Any:
    """A value without contexts, whose times differ."""
    if isinstance(value, Context):
        return "context", plain(value.storage), sorted(value.errors), list(map(repr, value.entries))
    return list(map(plain, value)) if isinstance(value, list | tuple) else value


def differences(expected: list[Any], result: list[Any]) -> str:
    """The tasks that differ."""
    pairs = zip(expected, result, strict=True)
    return "; ".join(f"expected {one}, came {other}" for one, other in pairs if one != other)


def check(seed: int | str, name: str) -> str:
    """Returns what is wrong in one scenario."""
    mode = random.Random(f"mode {seed}").choice(MODES)
    with tempfile.TemporaryDirectory() as folder:
        wrong = Scenario(f"{seed}", STORAGES[name](Path(folder)), mode).check()
    return f"seed {seed}, {name}, {mode}: {wrong}" if wrong else ""


def main() -> int:
    """Prints what is wrong; returns 1 if anything is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenarios", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--storage", default="memory", choices=STORAGES)
    chosen = parser.parse_args()
    began, wrong = time.monotonic(), 0
    for seed in range(chosen.first, chosen.first + chosen.scenarios):
        found = check(seed, chosen.storage)
        if found:
            wrong += 1
            print(found, flush=True)
    print(f"{chosen.scenarios} scenarios, {chosen.storage}, {wrong} wrong, {time.monotonic() - began:.0f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
