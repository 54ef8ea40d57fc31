"""Every kill of small workflows: before each write and each effect, one to three times, with edits in between.

Run: python -m tests.core_model.explore [--kills 2] [--policy eager|lazy] [--break floors|void|tokens]
Checked after each sequence: no stale value, no effect that outlived the value that is restored, no finished and
unchanged step again, a plan is what the run does, a begun rerun is not forgotten, a second resume runs nothing.
"""

import argparse
import random
import time
from collections import Counter
from typing import Any

from tests.core_model import run as engine
from tests.core_model.graph import Const, Graph, Step, Task
from tests.core_model.judge import RESTORED, SKIPPED, Node, Scope, code_of
from tests.core_model.run import Options, Run
from tests.core_model.store import Killed, World

figures: Counter[str] = Counter()


class Edits:
    """What may change between two runs."""

    def __init__(self) -> None:
        self.codes: dict[str, int] = {}
        self.consts: dict[str, Any] = {}


def step(name: str, edits: Edits, function: Any) -> Step:
    code = edits.codes.get(name, 1)

    def call(**args: Any) -> Any:
        return function(code, **args)

    return Step(name, call, str(code))


def shapes(edits: Edits) -> dict[str, Graph]:
    """Small workflows."""

    def s(name: str, function: Any) -> Step:
        return step(name, edits, function)

    n, items = edits.consts.get("n", 1), edits.consts.get("items", [1, 2])
    add = lambda code, **args: (code, *sorted(args.items()))
    made = lambda code, n: [n * code, n * code + 1]
    page = Graph(
        [
            Task("get", s("get", add), {"url": "$url"}),
            Task("link", s("link", lambda code, url: [code, code + 1]), {"url": "$url"}),
            Task("word", s("word", add), each={"w": "link"}),
            Task("parse", s("parse", add), {"word": "word", "get": "get"}),
        ]
    )
    loop = Graph(
        [
            Task("refine", s("refine", lambda code, draft: draft + code), {"draft": "$draft"}),
            Task("good", s("good", lambda code, refine: refine > 2), {"refine": "refine"}),
        ]
    )
    deep = Graph(
        [
            Task("part", s("part", lambda code, item: [item, code]), {"item": "$item"}),
            Task(
                "inner",
                each={"draft": "part"},
                body=Graph([Task("leaf", s("leaf", add), {"draft": "$draft"})]),
                result="leaf",
            ),
        ]
    )
    return {
        "chain": Graph(
            [
                Task("a", s("a", add), {"n": Const(n)}),
                Task("b", s("b", add), {"a": "a"}),
                Task("c", s("c", add), {"b": "b"}),
                Task("d", s("d", add), {"a": "a", "c": "c"}, optional=frozenset("c")),
            ]
        ),
        "map": Graph(
            [
                Task("list", s("list", made), {"n": Const(n)}),
                Task("f", s("f", add), each={"i": "list"}),
                Task("g", s("g", add), each={"i": "f"}),
                Task("sum", s("sum", add), {"g": "g", "f": "f"}),
            ]
        ),
        "items": Graph(
            [
                Task("a", s("a", add), {"n": Const(n)}),
                Task("f", s("f", add), {"a": "a"}, each={"i": Const(items)}),
                Task("sum", s("sum", add), {"f": "f"}),
            ]
        ),
        "pages": Graph(
            [
                Task("page", each={"url": Const(items)}, body=page, result="parse"),
                Task("end", s("end", add), {"page": "page"}),
            ]
        ),
        "deep": Graph(
            [
                Task("top", each={"item": Const(items)}, body=deep, result="inner"),
                Task("end", s("end", add), {"top": "top"}),
            ]
        ),
        "loop": Graph(
            [
                Task("a", s("a", lambda code, n: n * code), {"n": Const(n)}),
                Task(
                    "round",
                    repeat=5,
                    until="good",
                    result="refine",
                    takes={"draft": "a"},
                    carry={"draft": "refine"},
                    body=loop,
                ),
                Task("end", s("end", add), {"round": "round"}),
            ]
        ),
        "unsaved": Graph(
            [
                Task("pool", s("pool", add), {"n": Const(n)}, saved=False),
                Task("b", s("b", add), {"pool": "pool"}),
                Task("c", s("c", add), {"pool": "pool", "b": "b"}),
                Task("stop", s("stop", add), {"pool": "pool"}, always=True),
            ]
        ),
        "branch": Graph(
            [
                Task("a", s("a", lambda code, n: n), {"n": Const(n)}),
                Task("good", s("good", lambda code, a: a % 2 == code % 2), {"a": "a"}),
                Task("b", s("b", add), {"a": "a"}, when=(("good", True),)),
                Task("c", s("c", add), {"a": "a"}, when=(("good", False),)),
                Task("d", s("d", add), {"b": "b", "c": "c"}, optional=frozenset("bc")),
                Task("e", s("e", add), needs=("b",)),
            ]
        ),
        "files": Graph(
            [
                Task("make", s("make", lambda code, n: f"/out/{n}"), {"n": Const(n)}, files=True),
                Task("read", s("read", add), {"make": "make"}),
                Task("end", s("end", add), {"read": "read"}),
            ]
        ),
    }


class Shadow:
    """What the checkers remember of all runs: which values were finished, and what was asked to run again."""

    def __init__(self) -> None:
        self.done: dict[str, Any] = {}
        self.owed: set[str] = set()
        self.asked = False
        self.voided: set[str] = set()

    def copy(self) -> "Shadow":
        other = Shadow()
        other.done, other.owed, other.voided = dict(self.done), set(self.owed), set(self.voided)
        return other


def leaves(scope: Scope) -> list[Node]:
    return [node for node in engine.every_node(scope) if not node.task.is_fan or node.entry is not None]


def run_once(
    world: World, shadow: Shadow, edits: Edits, shape: str, kill: int, options: dict[str, Any], problems: list[str]
) -> bool:
    """Runs once, until the kill. Returns whether it was killed."""
    world.trace, world.left = [], kill
    graph = shapes(edits)[shape]
    run = Run(world, graph, Options(**options))
    names = {t.name for t, prefix in engine._tasks(graph)}
    rerun, resume = set(options.get("rerun", ())), options.get("resume", False)
    truth: dict[str, str] = {}
    killed = False
    before = dict(shadow.done)
    if resume is False:
        shadow.done.clear()
    plain = World.tick

    def tick(what: str, key: str) -> None:
        plain(world, what, key)
        if (
            resume is not False and not shadow.asked
        ):  # the first write or effect: what it was asked for is owed from now on
            shadow.asked = True
            shadow.owed |= {one for one in before if one.partition("-")[0] in rerun}
            if "pool" in rerun:  # it has no document: those of what takes it are the intent
                shadow.owed |= {"b", "c"} & before.keys()
            if resume == "changed":
                shadow.owed |= {
                    one
                    for one, doc in before.items()
                    if doc["code"].partition("/")[0] != codes.get(one.partition("-")[0], doc["code"])
                }
        if what == "delete" and not eager:
            shadow.voided.add(key)  # at its turn: its effect follows
        if what == "effect":
            truth[key] = "run"
            name = key.partition("-")[0]
            old, node = shadow.done.pop(key, None), ahead.get(key)
            was_voided = key in voided_before
            was_owed = key in shadow.owed
            shadow.owed.discard(key)
            if old and node is not None and resume is not False and name not in rerun and not was_owed:
                same = old["tokens"] == node.fore.tokens and (
                    resume is True or old["code"] == code_of(node.task, node.scope)
                )
                if same and not was_voided and not node.task.files:
                    problems.append(f"again: {key} {old['tokens']}")
        elif what == "post" and key[0] != "@":
            shadow.posted = key  # type: ignore[attr-defined]

    shadow.asked = False
    voided_before = set(shadow.voided)  # by a run that was killed between that and its effect
    eager = options.get("eager", True)
    codes = {prefix + t.name: t.step.code for t, prefix in engine._tasks(graph) if t.step}
    ahead: dict[str, Node] = {}
    attempt = Run._attempt

    def attempting(self: Run, node: Node, step: Any, verdict: Any, is_fallback: bool = False) -> None:
        ahead[node.key] = node
        node.fore = verdict
        attempt(self, node, step, verdict, is_fallback)

    Run._attempt = attempting  # type: ignore[method-assign]
    world.tick = tick  # type: ignore[method-assign]
    try:
        planned = None
        if kill < 0 and resume is not False:
            planned = Run(world, graph, Options(**options))
            world.runs -= 1
            planned.plan()
        run.execute()
    except Killed:
        killed = True
    finally:
        Run._attempt = attempt  # type: ignore[method-assign]
        del world.tick
    for key, doc in world.docs.items():
        if key[0] != "@" and doc["run"] == run.options.run:
            shadow.done[key] = doc
            shadow.voided.discard(key)
    if resume is False and killed and not world.trace:
        shadow.done = before
    if killed:
        return True
    for node in leaves(run.root):
        if node.state == RESTORED:
            figures["restored"] += 1
            doc = world.docs.get(node.key)
            if doc is None or doc["effect"] != world.effects.get(node.key):
                problems.append(f"outlived: {node.key}: its last effect is not that of the value")
    if planned is not None:
        kinds = {node.key: node.fore.kind for node in leaves(planned.root) if node.fore}
        for node in leaves(run.root):
            kind = kinds.get(node.key)
            did = "run" if node.key in truth else RESTORED if node.state == RESTORED else SKIPPED
            if kind not in (None, "open", did):
                problems.append(f"plan: {node.key} was to be {kind}, and did {did}")
    for node in leaves(run.root):
        if node.state == RESTORED and node.key in shadow.owed:
            problems.append(f"forgotten: rerun of {node.key}")
    shadow.owed.clear()
    del names
    return False


def final(world: World, shadow: Shadow, edits: Edits, shape: str, eager: bool, problems: list[str]) -> None:
    """The last resume returns what a new run returns, and one more does nothing."""
    options = {"resume": "changed", "eager": eager}
    run_once(world, shadow, edits, shape, -1, dict(options), problems)
    graph = shapes(edits)[shape]
    last = {key: doc["value"] for key, doc in world.docs.items() if key[0] != "@"}
    fresh = World()
    new = Run(fresh, graph, Options()).execute()
    again = Run(world, shapes(edits)[shape], Options(**options))
    world.trace, world.left = [], -1
    again.execute()
    for node in leaves(new.root):
        doc = fresh.docs.get(node.key)
        if doc is not None and last.get(node.key) != doc["value"]:
            problems.append(f"stale: {node.key} is {last.get(node.key)}, not {doc['value']}")
    saved = {node.key for node in leaves(again.root) if node.task.saved and not node.task.always}
    if ran := [key for what, key in world.trace if what == "effect" and key in saved]:
        problems.append(f"second resume ran {ran}")


def edit_kinds(shape: str) -> list[Any]:
    graph = shapes(Edits())[shape]
    names = [prefix + t.name for t, prefix in engine._tasks(graph)]
    picks = [("code", name.rpartition(".")[2]) for name in names[:2]]
    picks += [
        ("const", "n", 2),
        ("const", "items", [2, 3]),
        ("rerun", names[0]),
        ("rerun", names[1]),
        ("rerun", names[-1]),
    ]
    if shape == "files":
        picks.append(("file", "/out/1"))
    return [None, *picks]


def apply(edit: Any, world: World, edits: Edits, back: bool = False) -> dict[str, Any]:
    """Makes an edit, or takes it back; returns the options of the next run."""
    if edit is None:
        return {"resume": True}
    if edit[0] == "code":
        edits.codes[edit[1]] = 1 if back else 2
        return {"resume": "changed"}
    if edit[0] == "const":
        if back:
            edits.consts.pop(edit[1], None)
        else:
            edits.consts[edit[1]] = edit[2]
        return {"resume": True}
    if edit[0] == "file":
        world.files[edit[1]] = "edited"
        return {"resume": True}
    return {"resume": True} if back else {"resume": True, "rerun": [edit[1]]}


def count(world: World, shadow: Shadow, edits: Edits, shape: str, options: dict[str, Any]) -> int:
    trial = world.copy()
    run_once(trial, shadow.copy(), edits, shape, -1, dict(options), [])
    return len(trial.trace)


def explore(shape: str, kills: int, eager: bool, limit: int) -> list[str]:
    found: Counter[str] = Counter()
    example: dict[str, str] = {}

    def check(world: World, shadow: Shadow, edits: Edits, path: list[Any]) -> None:
        problems: list[str] = []
        copy = Edits()
        copy.codes, copy.consts = dict(edits.codes), dict(edits.consts)
        final(world, shadow, copy, shape, eager, problems)
        note(problems, path)
        figures["sequences"] += 1

    def note(problems: list[str], path: list[Any]) -> None:
        for problem in problems:
            word = problem.partition(":")[0]
            found[word] += 1
            example.setdefault(word, f"{problem} after {path}")

    def go(world: World, shadow: Shadow, edits: Edits, depth: int, path: list[Any], last: Any) -> None:
        if not depth:
            check(world.copy(), shadow.copy(), edits, path)
            return
        choices = [(one, False) for one in edit_kinds(shape)] + ([(last, True)] if last else [])
        if depth < kills:
            picked = [(None, False), *([(last, True)] if last else []), *pick.sample(choices[1:], 1)]
            choices = choices if kills == 2 else picked
        for edit, back in choices:
            own = Edits()
            own.codes, own.consts = dict(edits.codes), dict(edits.consts)
            base = world.copy()
            options = {**apply(edit, base, own, back), "eager": eager}
            total = count(base, shadow, own, shape, options)
            points = range(total + 1) if kills <= 2 else sorted(pick.sample(range(total + 1), min(3, total + 1)))
            for point in points:
                if figures["sequences"] > limit:
                    return
                one, other, problems = base.copy(), shadow.copy(), list[str]()
                run_once(one, other, own, shape, point if point < total else -1, dict(options), problems)
                note(problems, [*path, (edit, back, point)])
                go(one, other, own, depth - 1, [*path, (edit, back, point)], None if back else edit)

    pick = random.Random(shape)
    total = count(World(), Shadow(), Edits(), shape, {"resume": False, "eager": eager})
    for point in range(total + 1):
        world, shadow, edits = World(), Shadow(), Edits()
        problems: list[str] = []
        run_once(
            world, shadow, edits, shape, point if point < total else -1, {"resume": False, "eager": eager}, problems
        )
        go(world, shadow, edits, kills - 1, [point], None)
    return [f"{word}: {number} times, first: {example[word]}" for word, number in found.items()]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--policy", choices=("eager", "lazy"), default="lazy")
    parser.add_argument("--break", dest="broken", choices=("floors", "void", "tokens", "order"), default="")
    parser.add_argument("--shape", action="append")
    parser.add_argument("--limit", type=int, default=10**9)
    chosen = parser.parse_args()
    if chosen.broken:
        break_it(chosen.broken)
    save = Run._save

    def saving(self: Run, node: Node, verdict: Any, value: Any, step: Any, files: Any) -> None:
        save(self, node, verdict, value, step, files)
        if node.key in self.world.docs and self.world.docs[node.key]["run"] == self.options.run:
            self.world.docs[node.key]["effect"] = self.world.effects.get(node.key)

    Run._save = saving  # type: ignore[method-assign]
    wrong = 0
    for shape in chosen.shape or shapes(Edits()):
        began = time.monotonic()
        figures["sequences"] = 0
        found = explore(shape, chosen.kills, chosen.policy == "eager", chosen.limit)
        wrong += len(found)
        print(
            f"{shape}: {figures['sequences']} sequences, {time.monotonic() - began:.1f} s",
            *found,
            sep="\n   ",
            flush=True,
        )
    return 1 if wrong else 0


def break_it(what: str) -> None:
    """Takes one of the rules away, to see that the checks find it."""
    if what == "floors":
        engine.Journal.counts = lambda self, name, key, run: True  # type: ignore[method-assign]
    elif what == "tokens":
        from . import judge

        difference = judge.Look.why_void
        judge.Look.why_void = lambda self, node, doc, got: difference(self, node, {**doc, "tokens": got.tokens}, got)  # type: ignore
    elif what == "void":  # nothing is deleted before its effect
        plain = Run._attempt

        def attempt(self: Run, node: Node, step: Any, verdict: Any, is_fallback: bool = False) -> None:
            docs = self.world.docs
            doc = docs.pop(node.key, None)
            plain_tick = self.world.tick

            def tick(kind: str, key: str) -> None:
                if doc is not None:
                    docs[node.key] = doc
                self.world.tick = plain_tick  # type: ignore[method-assign]
                plain_tick(kind, key)

            self.world.tick = tick  # type: ignore[method-assign]
            plain(self, node, step, verdict, is_fallback)

        Run._attempt = attempt  # type: ignore[method-assign]


if __name__ == "__main__":
    raise SystemExit(main())
