"""Random workflows for the model in core_model/ and for dotflow: calls, values, states, keys and plans are compared.

Run: python tests/core_fuzz.py --seconds 60 [--first 0] [--level 1] [--storage file]

The model is the core as a program of its own: one node, one judge, one order of writes. It does no I/O. The seeds are
those of workflows that are run, killed before a write, changed and resumed, by both, side by side or in order.
Not modelled: contexts, previous_context, groups, polls, pauses, keep_going=False, secrets, locks, history, storages of
three methods, `valid`, folders.
"""

import argparse
import itertools
import random
import sys
import tempfile
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent.parent), str(Path(__file__).parent.parent / "src")]

from dotflow import Config, DotFlow, action  # noqa: E402 (found through the path that was just set)
from dotflow.abc.storage import Storage  # noqa: E402
from dotflow.codec.canonical import digest as canonical  # noqa: E402
from dotflow.core.types.status import TypeStatus  # noqa: E402
from dotflow.errors import CheckpointMismatch  # noqa: E402
from dotflow.providers import ExecutorInline, LogDefault, StorageDefault, StorageFile  # noqa: E402
from tests.core_model import graph as definitions  # noqa: E402
from tests.core_model.graph import Const, Graph, Step, Task  # noqa: E402
from tests.core_model.judge import NOTHING, OVER, Node, Scope  # noqa: E402
from tests.core_model.run import Mismatch, Options, Run, every_node  # noqa: E402
from tests.core_model.store import Killed, World  # noqa: E402

definitions.item_key = lambda entry: canonical(entry)[:20]  # the keys of items are compared byte for byte


class Calls(list[Any]):
    """The calls of steps, while the process lives; and those of all runs so far that returned a value."""

    def __init__(self) -> None:
        super().__init__()
        self.alive = True
        self.returned: set[Any] = set()


class Maker:
    """A random workflow, and its changes."""

    def __init__(self, seed: str, level: int = 2, nested: bool = False) -> None:
        self.random = random.Random(seed)
        self.level, self.nested = level, nested
        self.calls = Calls()
        self.numbers = itertools.count()
        self.codes: dict[int, int] = {}
        self.bad = {self.random.randrange(40) for _ in range(2)} if self.random.random() < 0.6 else set()
        self.caches = level > 1 and self.random.random() < 0.3
        self.cleans = level > 1 and self.random.random() < 0.4
        self.params = {"limit": 1, "urls": [1, 2]}
        self.tasks: list[Task] = []
        for _ in range(self.random.randint(2, 6)):
            self.insert()

    @property
    def graph(self) -> Graph:
        return Graph(self.tasks, dict(self.params))

    def step(self, number: int, kind: str, names: list[str], optional: set[str], word: str = "s") -> Step:
        name = f"{word}{number}_{kind}"

        def run(args: dict[str, Any]) -> Any:
            code = self.codes.get(number, 1) if word == "s" else 1
            value = zlib.crc32(repr((name, code, sorted(args.items()))).encode())
            if self.calls.alive:
                self.calls.append((name, code, repr(sorted(args.items()))))
            if word == "s" and value % 40 in self.bad:
                raise ValueError(value)
            if self.calls.alive:
                self.calls.returned.add((name, code, repr(sorted(args.items()))))
            return value_of(kind, value)

        required = [one for one in names if one not in optional]
        signature = ", ".join([*required, *(f"{one}=None" for one in names if one in optional)])
        passed = ", ".join(f"{one}={one}" for one in names)
        space: dict[str, Any] = {"run": run, "__name__": "fuzzed"}
        exec(f"def step({signature}):\n    return run(dict({passed}))", space)
        function = space["step"]
        function.__name__ = function.__qualname__ = name
        return Step(name, function, str(self.codes.get(number, 1) if word == "s" else 1))

    def insert(self) -> None:
        pick = self.random
        at = pick.randint(max(0, len(self.tasks) - 2), len(self.tasks))
        before = self.tasks[:at]
        if self.level > 1 and pick.random() < 0.25:
            self.tasks.insert(at, self.nest(before))
        else:
            self.tasks.insert(at, self.task(before, {name: f"${name}" for name in ("limit",)}, maps=True))

    def source(self, other: Task) -> str:
        return (
            f"{other.name}:{self.random.choice(other.outputs)}"
            if other.outputs and self.random.random() < 0.7
            else other.name
        )

    def list_for(self, before: list[Task]) -> Any:
        pick = self.random
        lists = [t.name for t in before if (t.each or "_list" in (t.step.name if t.step else "")) and not t.always]
        lists += [f"{t.name}:{t.outputs[1]}" for t in before if t.outputs and not t.each]
        if lists and pick.random() < 0.7:
            return pick.choice(lists)
        return "$urls" if pick.random() < 0.2 else Const([pick.randrange(5) for _ in range(pick.randrange(4))])

    def task(self, before: list[Task], params: dict[str, str], maps: bool, inside: bool = False) -> Task:
        pick, number = self.random, next(self.numbers)
        kind = pick.choice(("number", "number", "list", "list", "flag", "parts"))
        task = Task(f"t{number}")
        if kind == "parts":
            task.outputs = (f"o{number}a", f"o{number}b")
        usable = [t for t in before if not t.always]
        for parameter in "xy":
            if usable and pick.random() < 0.45:
                task.takes[parameter] = self.source(pick.choice(usable))
        for name, source in params.items():
            if pick.random() < (0.6 if inside else 0.2):
                task.takes[name] = source
        if not inside and pick.random() < 0.15:
            task.takes["written"] = Const(pick.randrange(3))
        task.optional = frozenset(
            name
            for name, source in task.takes.items()
            if pick.random() < 0.3 and not isinstance(source, Const) and name != "item"
        )
        if maps and pick.random() < 0.4:
            lists = [t for t in usable if is_saved(t)] if inside else usable
            task.each["row" if inside else "item"] = self.list_for(lists)
            if pick.random() < 0.35:
                task.each["other"] = self.list_for(lists)
                task.cross = pick.random() < 0.7
        wired = {source.partition(":")[0] for source in task.takes.values() if isinstance(source, str)}
        if usable and not any(s in wired for s in [t.name for t in usable]) and pick.random() < 0.3:
            task.needs = (pick.choice(usable).name,)
        others = [t.name for t in before if t.name not in {*wired, *task.needs} and is_all_saved(t)]  # see difference 1
        if others and pick.random() < 0.15:
            task.after = (pick.choice(others),)
        task.always = self.cleans and pick.random() < 0.2 and not task.each and (not inside or bool(usable))
        task.saved = not (self.cleans and pick.random() < 0.25 and not task.each) or task.always
        task.cache = self.caches and task.saved and not task.always and pick.random() < 0.5
        judges = [
            t
            for t in usable
            if t.saved and is_saved(t) and (not t.each or (not inside and Graph([*before, task]).in_step(task, t.name)))
        ]
        if judges and not task.always and pick.random() < 0.3:
            other = pick.choice(judges)
            task.when = ((self.source(other) if not other.each else other.name, pick.random() < 0.5),)
        if task.always:
            task.needs = task.needs if pick.random() < 0.5 else ()
        names = [*task.takes, *task.each]
        task.step = self.step(number, kind, names, set(task.optional))
        if pick.random() < 0.2:
            task.fallback = self.step(number, kind, names, set(task.optional), "f")
        return task

    def nest(self, before: list[Task], depth: int = 0) -> Task:
        pick, number = self.random, next(self.numbers)
        usable = [t for t in before if not t.always and t.saved]
        outer = {f"out{t.name}": t.name for t in pick.sample(usable, min(len(usable), 2))}
        task = Task(f"m{number}", takes=dict(outer))
        repeats = pick.random() < 0.5 and not depth
        entry = f"sub{depth}" if depth else "item"
        if depth:
            task.takes["item"] = "$item"
        body: list[Task] = []
        for _ in range(pick.randint(2, 3)):
            if self.level > 3 and pick.random() < (0.5, 0.2, 0)[depth]:
                saved = [t for t in body if is_all_saved(t)]
                body.append(self.nest(saved, depth + 1))
                continue
            params = {entry: f"${entry}", "item": "$item", **{name: f"${name}" for name in outer}}
            body.append(self.task(body, params, maps=repeats or self.nested, inside=True))
            if depth:
                body[-1].saved, body[-1].always = True, False
        kept = [t for t in body if not t.always and t.saved]
        if not kept:
            body.insert(0, self.task([], {"item": "$item"}, maps=False, inside=True))
            body[0].always, body[0].saved = False, True
            body[0].cache = False
            kept = body[:1]
        inner = Graph(body, {"urls": [1, 2]})
        if repeats:
            inner.params["item"] = 3
            task.repeat = pick.randint(1, 4)
            single = [t for t in kept if not t.each]
            if single and len([t for t in body if not t.always]) > 1 and pick.random() < 0.7:
                task.until = single[-1].name
            carried = [t for t in kept if t.name != task.until]
            task.carry = {"item": carried[-1].name} if carried else {}
        else:
            task.each = {entry: self.list_for(before)}
            task.limit = 2
        last = (
            [t for t in body if not t.always and t.name != task.until] if repeats else [t for t in body if not t.always]
        )
        task.result = (last or body)[-1].name
        task.body = inner
        for one in body:  # names are unique, so that outputs are, too
            one.approve = False
        return task

    def change(self) -> str:
        """Changes the workflow, as users do between two runs."""
        pick = self.random
        kind = pick.choice(("params", "list", "code", "code", "written", "insert", "remove", "repeat"))
        every = list(all_tasks(self.tasks))
        task = pick.choice(every)
        if kind == "params":
            self.params = {"limit": pick.randrange(3), "urls": [pick.randrange(5) for _ in range(pick.randrange(4))]}
        elif kind == "list":
            for one in every:
                for name, source in one.each.items():
                    if isinstance(source, Const):
                        one.each[name] = Const(
                            [*source.value, pick.randrange(5)][pick.randrange(2) : 1 + pick.randrange(5)]
                        )
        elif kind == "code" and task.step is not None:
            number = int(task.name[1:])
            self.codes[number] = self.codes.get(number, 1) + 1
            task.step = task.step._replace(code=str(self.codes[number]))
        elif kind == "written" and "written" in task.takes:
            task.takes["written"] = Const(pick.randrange(3))
        elif kind == "insert":
            self.insert()
        elif kind == "remove":
            used = {name for t in self.tasks for name in t.sources()}
            used |= {one.partition(":")[0] for t in self.tasks for one in t.takes.values() if isinstance(one, str)}
            if len(self.tasks) > 1 and task in self.tasks and task.name not in used:
                self.tasks.remove(task)
        elif kind == "repeat" and task.repeat:
            task.repeat = pick.randint(1, 4)
        for one in self.tasks:
            one.__dict__.pop("by_name", None)
        for one in every:
            if one.body is not None:
                one.body = Graph(one.body.tasks, one.body.params)
        return kind


def all_tasks(tasks: list[Task]) -> Iterator[Task]:
    """Yields the tasks, and those of added workflows."""
    for task in tasks:
        yield task
        if task.body is not None:
            yield from all_tasks(task.body.tasks)


def without_empty(value: Any) -> Any:
    """Returns a value without what is empty in it; None for an empty one."""
    if not isinstance(value, list):
        return value
    return [one for one in map(without_empty, value) if one is not None] or None


def giver_of(task: Task) -> str:
    """Returns the name of the task that has the value of a task, or of an added workflow."""
    return task.name if task.body is None else f"{task.name}.{giver_of(task.body.by_name[task.result])}"


def is_saved(task: Task) -> bool:
    return task.saved if task.body is None else is_saved(task.body.by_name[task.result])


def is_all_saved(task: Task) -> bool:
    return task.saved and (task.body is None or all(map(is_all_saved, task.body.tasks)))


def value_of(kind: str, value: int) -> Any:
    if kind == "list":
        return [(value >> shift) % 4 for shift in range(2, 2 + value % 4)]
    if kind == "flag":
        return bool(value % 3)
    if kind == "parts":
        return (value % 1000, [(value >> shift) % 4 for shift in range(2, 2 + value % 4)])
    return value % 1000


class Model:
    """The model, as one of the two."""

    def __init__(self) -> None:
        self.world = World()

    def run(self, maker: Maker, posts: int, **options: Any) -> dict[str, Any]:
        options = {"width": 1, "strict": False, "eager": False, **options}
        run = Run(self.world, maker.graph, Options(**options))
        planned: Any = None
        try:
            ahead = Run(self.world, maker.graph, Options(**options))
            ahead.plan()
            planned = rows(ahead)
            unsure = {top_of(n) for n in every_node(ahead.root) if n.fore is not None and n.fore.is_unsure}
        except Mismatch:
            return {"error": "CheckpointMismatch"}
        maker.calls.clear()
        maker.calls.alive, maker.calls.returned = True, set()
        self.count = posts
        plain = World.tick
        world = self.world

        def tick(what: str, key: str) -> None:
            if what == "post" and key[0] != "@":
                if self.count == 0:
                    maker.calls.alive = False
                    raise Killed
                self.count -= 1
            plain(world, what, key)

        world.tick = tick  # type: ignore[method-assign]
        is_killed = False
        try:
            run.execute()
        except Killed:
            is_killed = True
        finally:
            del world.tick
        out: dict[str, Any] = {"calls": Counter(maker.calls), "keys": sorted(k for k in world.docs if k[0] != "@")}
        out["plan"], out["unsure"] = planned, unsure
        if not is_killed:
            out["values"] = {n.task.name: cell_value(n) for n in run.root.nodes.values()}
            out["states"] = {n.task.name: word(n) for n in run.root.nodes.values() if n.task.body is None}
            out["ran"] = run
        return out


def top_of(node: Node) -> str:
    """Returns the name of the task of the run in which a node stands."""
    while node.scope.owner is not None:
        node = node.scope.owner
    return node.task.name


def cell_value(node: Node) -> Any:
    return None if node.value is NOTHING else node.value


def word(node: Node) -> str:
    if node.state not in OVER:
        return "Not started"
    return {"skipped": "Skipped", "failed": "Failed"}.get(node.state, "Completed")


def rows(run: Run) -> dict[str, tuple[str, Any, int]]:
    """The plan by dotted name."""
    found: dict[str, tuple[str, Any, int]] = {}

    def add(scope: Scope, prefix: str) -> None:
        for node in scope.nodes.values():
            fore = node.fore
            if fore is None:
                continue
            if node.task.body is None:
                found[prefix + node.task.name] = (fore.kind, fore.items, fore.done)

    add(run.root, "")
    return found


class Engine:
    """dotflow, as the other one."""

    def __init__(self, folder: str | None) -> None:
        self.returned: set[Any] = set()
        self.has_completed = False  # the last run
        self.storage: Storage = StorageDefault() if folder is None else StorageFile(folder, durability="process")

    def run(self, maker: Maker, posts: int, **options: Any) -> dict[str, Any]:
        storage = killed_storage(self.storage, posts, maker.calls)
        workflow = build(maker, storage)
        mode = "parallel" if options.pop("width", 1) > 1 else "sequential"
        planned: Any = None
        chosen = {"resume": options["resume"]} | ({"rerun": list(options["rerun"])} if options.get("rerun") else {})
        chosen |= {"only": list(options["only"])} if options.get("only") else {}
        try:
            planned = {t.name: (str(t.decision), t.items, t.items_done) for t in workflow.plan(mode, **chosen).tasks}
        except CheckpointMismatch:
            return {"error": "CheckpointMismatch"}
        maker.calls.clear()
        maker.calls.alive, maker.calls.returned = True, self.returned
        is_killed, before = False, {*self.returned}
        try:
            workflow.start(mode=mode, keep_going=options.get("keep_going", True), **chosen)
        except KeyboardInterrupt:
            is_killed = True
        if not maker.calls.alive:
            is_killed = True
        keys = [k.removeprefix("w/") for k in self.storage.list_keys("w/")]
        keys = [k for k in keys if "@" not in k and not k.endswith(("-cleanup", "-begun", "-items"))]
        out: dict[str, Any] = {"calls": Counter(maker.calls), "keys": sorted(keys), "plan": planned}
        out["before"] = before
        out["goes_on"], self.has_completed = not self.has_completed, False
        if not is_killed:
            run = workflow.last
            self.has_completed = run.status is TypeStatus.COMPLETED
            # Not run.value(): of a map with failed items, what came is compared, too.
            givers = {task.name: giver_of(task) for task in maker.tasks}
            out["values"] = {name: run.task(giver).value for name, giver in givers.items()}
            out["states"] = {
                task.name: str(run.task(task.name).status.value) for task in maker.tasks if task.body is None
            }
            out["ran"] = run
        return out


def killed_storage(inner: Any, posts: int, calls: Calls) -> Any:
    class Kills(Storage):
        is_local, outlives_process, left = inner.is_local, True, posts

        def post(self, key: str, context: Any) -> None:
            if not calls.alive:
                return
            if "@" not in key and not key.endswith(("-cleanup", "-begun", "-items")):
                if self.left == 0:
                    calls.alive = False
                    raise KeyboardInterrupt
                self.left -= 1
            inner.post(key, context)

        def delete(self, key: str) -> None:
            if calls.alive:
                inner.delete(key)

        def clear(self, workflow_id: str) -> bool:
            return inner.clear(workflow_id) if calls.alive else True

        def get(self, key: str) -> Any:
            return inner.get(key)

        def key(self, task: Any) -> str:
            return inner.key(task)

        def contains(self, key: str) -> bool:
            return inner.contains(key)

        def list_keys(self, prefix: str = "") -> Any:
            return inner.list_keys(prefix)

        def lock(self, workflow_id: str) -> Any:
            return inner.lock(workflow_id)

    return Kills()


def build(maker: Maker, storage: Any) -> Any:
    """The same workflow by dotflow's public names."""
    config = Config(storage=storage, log=LogDefault(output="none"), executor=ExecutorInline())
    workflow = DotFlow(config, workflow_id="w", params=maker.params)

    def named(source: Any, names: set[str]) -> Any:
        if isinstance(source, Const):
            return list(source.value)
        name, _, part = source.partition(":")
        return part or name.removeprefix("$")

    def add(builder: Any, task: Task) -> None:
        options: dict[str, Any] = {}
        taken = {p: named(s, set()) for p, s in task.takes.items() if isinstance(s, str) and s[0] != "$"}
        written = {p: s.value for p, s in task.takes.items() if isinstance(s, Const)}
        if taken:
            options["needs"] = taken
        elif task.needs:
            options["needs"] = list(task.needs)
        if task.needs and taken:
            raise AssertionError
        if task.after:
            options["after"] = list(task.after)
        if written:
            options["params"] = written
        if task.each:
            options["cross" if task.cross else "each"] = {p: named(s, set()) for p, s in task.each.items()}
        for source, wanted in task.when:
            options["when" if wanted else "unless"] = named(source, set())
        if task.body is not None:
            inner = DotFlow(params={**task.body.params, **dict.fromkeys([*task.takes, *task.each], ...)})
            for one in task.body.tasks:
                add(inner, one)
            if task.each:
                options["max_parallel"] = task.limit
            else:
                options |= {"repeat": task.repeat, "params": {"item": 3}}
                options |= {"until": task.until} if task.until else {}
                options["carry"] = dict(task.carry)
            builder.task.add(inner, name=task.name, **options)
            return
        assert task.step is not None
        policy = {"checkpoint": task.saved, "cache": task.cache, "version": task.step.code}
        if task.fallback:
            options["fallback"] = action(version=task.fallback.code)(task.fallback.fn)
        if task.outputs:
            options["outputs"] = list(task.outputs)
        builder.task.add(action(**policy)(task.step.fn), name=task.name, always=task.always, **options)

    for task in maker.tasks:
        add(workflow, task)
    return workflow


WORDS = {"restore": "restored", "run": "run", "skip": "skipped", "cached": "cached", "open": "open"}


def compare(model: dict[str, Any], engine: dict[str, Any]) -> list[str]:
    """What differs."""
    found = []
    for name in ("error", "calls", "keys", "values", "states"):
        one, other = model.get(name), engine.get(name)
        if one != other:
            if isinstance(one, Counter) and isinstance(other, Counter):
                one, other = one - other, other - one
            elif isinstance(one, dict) and isinstance(other, dict):
                one, other = ({k: v for k, v in a.items() if b.get(k) != v} for a, b in ((one, other), (other, one)))
            elif isinstance(one, list) and isinstance(other, list):
                one, other = [k for k in one if k not in other], [k for k in other if k not in one]
            found.append(f"{name}: model {one}, engine {other}")
    mine, theirs = model.get("plan"), engine.get("plan")
    if mine and theirs:
        for name, (kind, items, done) in mine.items():
            other = theirs.get(name)
            if other is None:
                continue
            figures["plan rows"] += 1
            decision = WORDS[other[0]]
            if "open" in (kind, decision):
                figures["plan: only the model is open" if decision != "open" else "plan: only the engine is open"] += (
                    kind != decision
                )
                continue
            if kind != decision:
                found.append(f"plan of {name}: model {kind, items, done}, engine {other}")
    return found


figures: Counter[str] = Counter()


def known_difference(maker: Maker, model: dict[str, Any], engine: dict[str, Any], resume: Any) -> str:
    """A difference that is known, with who is right, after which the two go different ways; "" for another one."""
    ours, theirs = model.get("calls", Counter()), engine.get("calls", Counter())
    more, less = theirs - ours, ours - theirs
    every = [t for t in all_tasks(maker.tasks) if t.body is None]
    scoped = [t for t in maker.tasks if t.body and (t.repeat or any(one.body or one.each for one in t.body.tasks))]
    # Where dotflow looks at its turn.
    in_scopes = {one.name for t in all_tasks(scoped) for one in (t.step, t.fallback) if one}
    in_rounds = {t.step.name for t in all_tasks([t for t in maker.tasks if t.repeat]) if t.step}
    tasks = engine["ran"].tasks if "ran" in engine else []
    mine, others = ({row[0] for row in (one.get("plan") or {}).values()} for one in (model, engine))
    is_killed = "values" not in model, "values" not in engine
    is_same = not more and not less and model.get("values") == engine.get("values")
    if resume == "unfinished" and engine["goes_on"]:
        if "restore" in others and "restored" not in mine:
            return "21 the model begins anew after a run that has failed inside of a workflow, which is wrong"
        if "restored" in mine and "restore" not in others:
            return "23 a new task stands before what is missing: dotflow compares positions, as it knows no names"
    elif resume == "unfinished" and "restore" not in others:
        return "1 the model goes on with a run that has completed; dotflow begins anew, which is right"
    has_failed = any(item.status is TypeStatus.FAILED for task in tasks for item in task.items)
    # What dotflow does not do, it has done before, with the same arguments: what it restores is what it would make.
    returned = maker.calls.returned if resume == "changed" else {(name, args) for name, _, args in maker.calls.returned}
    fallbacks = {one.step.name: one.fallback.name for one in every if one.step and one.fallback}
    caught = {name for name, other in fallbacks.items() if any(call[0] == other for call in less)}
    done = [call for call in less if call[0] not in caught]  # a step that has failed, and whose fallback has not
    before = done if resume == "changed" else [(name, args) for name, _, args in done]  # whatever the code was
    is_restored = bool(less) and not more and returned.issuperset(before)
    if is_restored and {call[0] for call in less} <= in_scopes and (has_failed or is_killed[1]):
        return "6 in scopes dotflow restores what takes a list of which an item has failed again; the model runs it"
    is_empty = "ran" in model and any(n.task.each and n.fan and not n.fan.kids for n in every_node(model["ran"].root))
    is_empty = is_empty or any(t.is_mapped and not t.items for t in tasks)
    if is_restored and is_empty and {call[0] for call in less} <= in_scopes:
        return "7 in scopes dotflow looks at its turn at an empty map whose argument is made anew; the model does not"
    if not more and not less and model.get("plan") and model["keys"] != engine["keys"]:
        left = {key for key in [*model["keys"], *engine["keys"]] if (key in model["keys"]) != (key in engine["keys"])}
        if all("-r" in key for key in left):
            return "8 one of them deletes leftovers of rounds that count no more: no matter"
    results = {t.name for t in maker.tasks if t.body is not None}
    pairs = [(v, engine.get("values", {}).get(k)) for k, v in (model.get("values") or {}).items() if k in results]
    if any(one != two and one in ([], None) and two in ([], None) for one, two in pairs):
        return "9 [] or no value for a workflow whose unsaved result is not needed: no matter"
    is_mapped = any(task.each for task in [*maker.tasks, *every])
    unsure = set(model.get("unsure", ()))
    for task in maker.tasks:
        unsure |= {task.name} if not unsure.isdisjoint(task.sources()) else set()
    are_unsure = {t.step.name for t in all_tasks([t for t in maker.tasks if t.name in unsure]) if t.step}
    is_repeated = bool(more) and all(call in engine["before"] or "s" not in call[0][:1] for call in more)
    if more and is_repeated and not less and {call[0] for call in more} <= in_rounds:
        return "22 after a round that runs again dotflow makes all others anew, as it promises; the model looks at them"
    if more and is_repeated and not less and {call[0] for call in more} <= are_unsure:
        return "11 what takes a map whose list is made anew: the model looks at its turn, dotflow for plain tasks only"
    if is_killed[0] is not is_killed[1] and is_mapped:
        return "12 one was killed before a write that the other does not need: see 6 and 11"
    if less and any(t.is_cleanup and t.error for t in tasks) and any(t.reason.startswith("it needs") for t in tasks):
        return "14 what needs an added workflow whose cleanup has failed is skipped; the model runs it, which is wrong"
    is_unsaved = {t.step.name for t in every if t.step and not t.saved}
    if more and any(t.is_mapped and not t.items and not t.step.checkpoint for t in tasks):
        cleanups = {one.name for t in every if t.always for one in (t.step, t.fallback) if one}
        if {call[0] for call in more} <= is_unsaved | cleanups and {call[0] for call in less} <= cleanups:
            return "18 a map of no items without checkpoint has made what it takes, to open; the model makes nothing"
    failed = {t.name.partition(".")[0] for t in tasks if t.status is TypeStatus.FAILED}
    gone_on = {n.task.name for n in model["ran"].root.nodes.values() if n.state != "failed"} if "ran" in model else ()
    if {call[0] for call in more} <= is_unsaved and any(
        t.repeat and t.name in failed & {*gone_on} for t in maker.tasks
    ):
        return "19 a loop has failed in what no task needs now: dotflow fails again, the model goes on, which is wrong"
    values = [(model.get("values", {}).get(k), v) for k, v in engine.get("values", {}).items()]
    if is_empty and not more and not less and all(without_empty(a) == without_empty(b) for a, b in values):
        return "16 an empty map that takes what fails in a resume: dotflow has []; the model skips it, as a new run"
    taken_in_rounds = {name for t in maker.tasks if t.repeat for name in t.sources()}
    before_rounds = {t.step.name for t in all_tasks([t for t in maker.tasks if t.name in taken_in_rounds]) if t.step}
    if more and not less and {call[0] for call in more} <= is_unsaved & (in_rounds | before_rounds):
        return "17 of rounds, dotflow makes what only restored or skipped tasks of a round take; the model does not"
    has_failed_again = any(
        n.task.repeat and n.state == "failed" and n.fan and all(kid.is_done() for kid in n.fan.kids)
        for n in (every_node(model["ran"].root) if "ran" in model else ())
    )
    if has_failed_again and more and not less and {call[0] for call in more} <= is_unsaved:
        return (
            "16 a loop that fails again without a step has made what it takes; the model makes nothing, as it is better"
        )
    keys = set(model["keys"]), set(engine["keys"])
    if (is_same or all(is_killed)) and (keys[0] <= keys[1] or keys[1] <= keys[0]):
        return "13 one has deleted what the other leaves, and never counts: what the options say of an unknown list"
    return ""


def scenario(seed: int, level: int, folder: str | None = None, mode: str | None = None) -> list[str]:
    """Runs, kills, changes and resumes one workflow with both. Returns what differs, but for known differences.

    Args:
        seed: The workflow and its changes.
        level: 1 is without added workflows and cleanups, 3 also with `only`, 4 with workflows for each item in others.
        folder: Where files are saved, which is empty; without one values stay in memory.
        mode: "sequential" or "parallel"; by the seed without one. Caches are tried in order only, and so are kills.
    """
    maker = Maker(f"model {seed}", level)
    pick = random.Random(f"runs {seed}")
    is_parallel = seed % 4 == 3 if mode is None else mode == "parallel"
    width = 4 if is_parallel and not maker.caches else 1  # side by side, equal items miss the cache together
    model, engine = Model(), Engine(folder)
    log = []
    for number in range(pick.randint(2, 5)):
        options: dict[str, Any] = {
            "resume": pick.choice([True, True, "changed", "unfinished"]) if number else False,
            "width": width,
        }
        posts = pick.randrange(12) if pick.random() < 0.5 and width == 1 else -1
        if number and pick.random() < 0.5:
            log.append(maker.change())
        names = [t.name for t in maker.tasks if t.body is None]
        if number and pick.random() < 0.15 and names and options["resume"] is True:
            options["rerun"] = [pick.choice(names)]
        elif number and level > 2 and pick.random() < 0.15 and names and options["resume"] is True:
            options["only"] = [pick.choice(names)]
        log.append((options, posts))
        mine = model.run(maker, posts, **options)
        theirs = engine.run(maker, posts, **options)
        figures["runs"] += 1
        if found := compare(mine, theirs):
            if known := known_difference(maker, mine, theirs, options["resume"]):
                figures[f"known: {known}"] += 1
                return []
            return [f"seed {seed} run {number}: {log}", *found]
        if "error" in mine:
            break
    return []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--level", type=int, default=2)
    parser.add_argument("--most", type=int, default=10, help="the number of differences after which it ends")
    parser.add_argument("--storage", choices=("memory", "file"), default="memory")
    parser.add_argument("--mode", choices=("sequential", "parallel"), help="of all runs, not by the seed")
    chosen = parser.parse_args()
    end, seed, differ = time.monotonic() + chosen.seconds, chosen.first, 0
    while time.monotonic() < end and differ < chosen.most:
        with tempfile.TemporaryDirectory() as folder:
            try:
                found = scenario(seed, chosen.level, folder if chosen.storage == "file" else None, chosen.mode)
            except Exception as error:
                found = [f"seed {seed}: {type(error).__name__}: {error}", traceback.format_exc()[-1500:]]
        if found:
            differ += 1
            print("\n  ".join(found), flush=True)
        seed += 1
    print(f"{seed - chosen.first} workflows, {differ} differ otherwise than known:")
    print(*(f"  {count} {what}" for what, count in sorted(figures.items())), sep="\n")
    return 1 if differ else 0


if __name__ == "__main__":
    raise SystemExit(main())
