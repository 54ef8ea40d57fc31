"""Looks for stale inputs in resumed runs. Run: python tests/inputs_fuzz.py --scenarios 2000

A scenario is a random workflow whose steps read files from outside. These come by constants, run parameters, written
lists and lists that steps make anew. They go to maps, maps over maps, crosses, added workflows and rounds, with caches,
retries and unsaved steps. It is run, fails or is killed; its files are edited, appear and go; tasks, items and maps are
away for some runs and come back. The last resume has to return what a new run in another folder returns, and a second
one has to run nothing. What `plan` returns before a run that nothing stops must be what the run does.

Three things may be stale, as the docs say. An edit between a kill and the resume counts as the work of a task that was
cut off and is given the file; the log has to name it. A file from outside that is gone voids nothing, so the last
resume has all files that there ever were. What `checkpoint=False` makes has no states of files, so a task that takes
a whole list of paths from such a step is not compared.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

sys.path[:0] = [str(Path(__file__).parent.parent), str(Path(__file__).parent.parent / "src")]

from dotflow import Config, DotFlow, action  # noqa: E402 (found through the path that was just set)
from dotflow.abc.storage import Storage  # noqa: E402
from dotflow.core.types.status import TypeStatus  # noqa: E402
from dotflow.providers import ExecutorThread, LogDefault, StorageDefault, StorageFile, StorageSQLite  # noqa: E402
from tests.plan_fuzz import ThreeMethods, check, killing  # noqa: E402
from tests.resume_fuzz import KilledStorage, KilledWithClear  # noqa: E402

MODES: Final = ("sequential", "sequential", "parallel")
KINDS: Final = ("list", "list", "paths", "map", "map", "map", "cross", "plain", "nest", "rounds")
LISTS: Final = ("l0.in", "l1.in")
CONFS: Final = ("c0.in", "c1.in", "c2.in")
DATA: Final = ("d0.in", "d1.in", "d2.in")
FILES: Final = (*LISTS, *CONFS, *DATA)
WORDS: Final = ("a", "b", "c", "d")
EDITS: Final = ("other", "other", "other", "longer", "shorter", "delete", "touch", "copy")
STORAGES: Final[dict[str, Callable[[Path], Storage]]] = {
    "file": lambda folder: StorageFile(folder / "kept", durability="process"),
    "sqlite": lambda folder: StorageSQLite(folder / "kept.db", durability="process"),
    "three methods": lambda folder: ThreeMethods(StorageFile(folder / "kept", durability="process")),
}


@dataclass
class Node:
    """One task. *entries* are lists: names of nodes, of the run parameter "words", or written ones."""

    number: int
    kind: str
    entries: list[Any] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    conf: str | None = None  # given by a constant
    param: str | None = None  # given by a run parameter
    flag: bool = False  # runs only when a run parameter says so
    options: dict[str, Any] = field(default_factory=dict)
    is_away: bool = False
    lacks_files: bool = False

    @property
    def name(self) -> str:
        """The name of the task."""
        return f"n{self.number}"


def content(value: Any) -> str:
    """What a step reads of a value: the content of a file, if it is there."""
    if isinstance(value, list | tuple):
        return ",".join(map(content, value))
    if isinstance(value, Path):
        return value.read_text() if value.exists() else "-"
    return str(value)


def begin(name: str, entry: Any) -> None:
    """Notes that a step runs. It fails, once or each time, or its process is killed, if that is wanted."""
    label = f"{name}:{entry}".replace(" ", "")
    with Path("ran.log").open("a") as file:
        file.write(f"{label}\n")
    for how in ("kill", "fail", "flaky"):
        wanted = Path(how)
        if wanted.exists() and label.startswith(wanted.read_text()):
            if how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if how == "flaky":
                wanted.unlink()
            raise RuntimeError(label)


def step_of(name: str, parameters: list[str], kind: str, options: dict[str, Any]) -> Any:
    """Makes a step: its value follows from what it reads of its arguments."""

    def work(**values: Any) -> Any:
        begin(name, ".".join(str(values[one]) for one in ("x", "y", "text") if one in values))
        if kind == "list":
            return content(values.pop("file")).split()
        if kind == "paths":
            return [Path(one) for one in DATA[: 1 + len(content(values["file"])) % 3]]
        return f"({name} {' '.join(content(values[one]) for one in sorted(values))})"

    scope: dict[str, Any] = {"work": work}
    taken = ", ".join(parameters)
    given = ", ".join(f"{one}={one}" for one in parameters)
    exec(f"def step({taken}):\n    return work({given})", scope)
    return action(**options)(scope["step"])


class Scenario:
    """One random workflow, with its folder.

    Args:
        seed: Determines all of it.
        name: The storage.
        folder: Where its files are.
        figures: Counts what happened.
    """

    def __init__(self, seed: str, name: str, folder: Path, figures: Counter[str]) -> None:
        self.random = random.Random(seed)
        self.storage = name
        self.folder = folder
        self.figures = figures
        self.mode = self.random.choice(MODES)
        self.nodes: list[Node] = []
        self.words = list(WORDS[: self.random.randint(1, 3)])  # the run parameter
        self.is_on = True  # the other one
        self.was_killed = False
        self.edited: set[str] = set()  # since the last run that was not killed
        self.is_priced = False
        for file in FILES:
            if file in LISTS or self.random.random() < 0.8:
                self.write(file)
        for _ in range(self.random.randint(2, 6)):
            self.insert()

    def write(self, file: str) -> None:
        """Writes new content into a file from outside."""
        pick = self.random
        if file in LISTS:
            text = " ".join(pick.sample(WORDS, pick.randint(1, 3)))
        else:
            text = f"{file[:2]}={pick.randrange(100)}"
        (self.folder / file).write_text(text)

    def insert(self) -> None:
        """Adds a random node."""
        pick, number = self.random, len(self.nodes)
        node = Node(number, pick.choice(KINDS) if number else pick.choice(("list", "list", "map")))
        lists = [other.name for other in self.nodes if other.kind in ("list", "paths", "map", "cross")]
        if node.kind in ("list", "paths"):
            node.conf = pick.choice(LISTS)
            if node.kind == "paths" or pick.random() < 0.2:
                node.options["checkpoint"] = pick.random() < 0.4
        elif node.kind in ("map", "cross", "nest"):
            written = [*(list(WORDS[:count]) for count in (1, 3)), [Path(one) for one in DATA[:2]]]
            node.entries = [pick.choice([*lists, *lists, "words", *written]) for _ in range(1 + (node.kind == "cross"))]
        elif node.kind == "plain":
            node.sources = pick.sample([other.name for other in self.nodes], min(number, pick.randint(0, 2)))
        if node.kind not in ("list", "paths"):
            node.conf = pick.choice([*CONFS, *LISTS, None])
            node.param = pick.choice([*CONFS, None, None])
            if node.kind in ("map", "cross", "plain"):
                if pick.random() < 0.25:
                    node.options["cache"] = True
                if pick.random() < 0.25:
                    node.options |= {"retry": 2, "retry_delay": 0}
                node.flag = pick.random() < 0.2
        self.nodes.append(node)

    def build(self, storage: Storage) -> DotFlow:
        """Makes the workflow, for the folder of now."""
        log = LogDefault(output="file", path=str(Path("log.txt").absolute()))
        params: dict[str, Any] = {f"p_{name[:2]}": Path(name) for name in CONFS}
        params |= {"words": self.words, "is_on": self.is_on}
        config = Config(storage=storage, log=log, executor=ExecutorThread())
        workflow = DotFlow(config, workflow_id="w", params=params)
        for node in self.nodes:
            if not node.is_away:
                self.add(workflow, node)
        return workflow

    def add(self, workflow: DotFlow, node: Node) -> None:
        """Adds the task of a node."""
        parameters = ["file"] if node.kind in ("list", "paths") else []
        constants: dict[str, Any] = {}
        if node.conf is not None:
            constants["file" if parameters else "conf"] = Path(node.conf)
        if constants and not parameters:
            parameters.append("conf")
        if node.param is not None:
            parameters.append(f"p_{node.param[:2]}")
        more: dict[str, Any] = {"params": constants} if constants else {}
        options = dict(node.options)
        if node.lacks_files:
            options["files"] = False
        if node.flag:
            more["when"] = "is_on"
        if node.kind in ("map", "cross"):
            names = ("x", "y")[: len(node.entries)]
            parameters += names
            entries = dict(zip(names, node.entries, strict=True))
            more["cross" if node.kind == "cross" else "each"] = entries
        elif node.kind == "plain":
            parameters += [f"s{index}" for index in range(len(node.sources))]
            needs = {f"s{index}": source for index, source in enumerate(node.sources)}
            more["needs"] = needs or None
        if node.kind not in ("nest", "rounds"):
            workflow.task.add(step_of(node.name, parameters, node.kind, options), name=node.name, **more)
            return
        outer = dict.fromkeys(parameters, ...)
        entry = "x" if node.kind == "nest" else "text"
        inner = DotFlow(params={**outer, entry: ...})
        inner.task.add(step_of(f"{node.name}a", [entry, *parameters], "map", options), name="one")
        inner.task.add(step_of(f"{node.name}b", ["one", *parameters], "map", options), name="two")
        if node.kind == "nest":
            workflow.task.add(inner, name=node.name, each={"x": node.entries[0]}, **more)
        else:
            carried = {"text": "two"}
            more["params"] = {**constants, "text": "#"}
            workflow.task.add(inner, name=node.name, repeat=2 + node.number % 2, carry=carried, **more)

    # Runs

    def run(self, resume: Any, writes: float = float("inf"), after: bool = False) -> dict[str, Any] | None:
        """Plans a run and runs it, in another process and in the scenario's folder; None if it was killed."""

        def report() -> dict[str, Any]:
            os.chdir(self.folder)
            inner = STORAGES[self.storage](self.folder)
            kind = KilledStorage if isinstance(inner, ThreeMethods) else KilledWithClear
            storage = killing(kind)(inner, writes)
            storage.after = after  # type: ignore[attr-defined]
            return self.report(storage, resume)

        found = in_child(report)
        was_killed, before = self.was_killed, set(self.edited)
        self.was_killed = found is None
        if found is not None:
            self.edited.clear()
        self.figures["killed" if found is None else "ended"] += 1
        log = self.folder / "log.txt"
        self.pay(log.read_text() if log.exists() else "", was_killed, before)
        return found

    def report(self, storage: Storage, resume: Any) -> dict[str, Any]:
        """Runs the workflow in this process."""
        for name in ("ran.log", "log.txt"):
            Path(name).unlink(missing_ok=True)
        workflow = self.build(storage)
        plan = workflow.plan(self.mode, resume)
        workflow.start(self.mode, resume=resume, keep_going=True)
        tasks = workflow.result_task()
        has_failed = any(one.status is TypeStatus.FAILED for task in tasks for one in (task, *task.items))
        wrong = ""
        if not has_failed:
            try:
                check(plan, tasks)
            except AssertionError as error:
                wrong = f"{error}\n{plan}"
        ran = Path("ran.log").read_text().split() if Path("ran.log").exists() else []
        log = Path("log.txt").read_text() if Path("log.txt").exists() else ""
        values = {task.name: str(task.value) for task in tasks}
        return {"wrong": wrong, "failed": has_failed, "ran": ran, "log": log, "values": values}

    def expected(self) -> dict[str, str]:
        """The values of a new run with the inputs of now, in another folder."""

        def values() -> dict[str, Any]:
            with tempfile.TemporaryDirectory() as folder:
                for name in FILES:
                    if (self.folder / name).exists():
                        shutil.copy(self.folder / name, folder)
                os.chdir(folder)
                workflow = self.build(StorageDefault())
                workflow.start()
                return {task.name: str(task.value) for task in workflow.result_task()}

        found = in_child(values)
        assert found is not None
        return found

    # Edits

    def edit(self) -> None:
        """Edits a file from outside, as people and programs do between two runs."""
        pick, name = self.random, self.random.choice(FILES)
        path, kind = self.folder / name, pick.choice(EDITS)
        self.edited.add(name)
        if not path.exists():
            kind = "appear"
        self.figures[kind] += 1
        if kind in ("other", "appear"):
            self.write(name)
        elif kind == "longer":
            path.write_text(f"{path.read_text()} {pick.choice(WORDS)}")
        elif kind == "shorter":
            path.write_text(path.read_text()[:-2] or "a")
        elif kind == "delete":
            if name not in LISTS:
                path.unlink()
                (self.folder / f"{name}.gone").touch()
        elif kind == "touch":
            path.touch()
        else:
            shutil.copy(path, self.folder / "copied")
            (self.folder / "copied").replace(path)

    def put_back(self) -> None:
        """Writes the files that are gone anew."""
        for name in FILES:
            if (self.folder / f"{name}.gone").exists():
                (self.folder / f"{name}.gone").unlink()
                self.edited.add(name)
                self.write(name)

    def change(self) -> None:
        """Takes a task, an item or a map away, or puts them back."""
        pick = self.random
        self.figures["change"] += 1
        how = pick.choice(("words", "flag", "away", "written", "files"))
        if how == "words":
            self.words = pick.sample(WORDS, pick.randint(1, 3))
        elif how == "flag":
            self.is_on = not self.is_on
        elif how == "away":
            taken = {name for node in self.nodes for name in (*node.sources, *map(str, node.entries))}
            node = pick.choice(self.nodes)
            if node.name not in taken and sum(not other.is_away for other in self.nodes) > node.is_away + 1:
                node.is_away = not node.is_away
        elif how == "files":
            node = pick.choice(self.nodes)
            node.lacks_files = not node.lacks_files and pick.random() < 0.3
        else:
            for node in self.nodes:
                for index, entry in enumerate(node.entries):
                    if isinstance(entry, list):
                        whole = DATA[:2] if isinstance(entry[0], Path) else WORDS[:3]
                        kept = pick.sample(whole, pick.randint(1, len(whole)))
                        node.entries[index] = [type(entry[0])(one) for one in sorted(kept)]

    def settle(self) -> None:
        """Puts back what is away for good, so that all is compared."""
        for node in self.nodes:
            node.is_away = node.lacks_files = False
        self.is_on = True
        self.words = list(WORDS[:3])
        self.put_back()

    # The check

    def check(self) -> str:
        """Runs, kills, fails, edits and resumes the workflow; returns what is wrong."""
        pick = self.random
        resume: Any = False
        for _ in range(pick.randint(1, 5)):
            how = pick.choice(("kill at a write", "kill in a step", "fail", "flaky", "complete", "complete"))
            if how == "kill in a step" and self.mode != "sequential":
                how = "kill at a write"
            writes = pick.randrange(20) if how == "kill at a write" else float("inf")
            word = how.split()[0] if how in ("kill in a step", "fail", "flaky") else ""
            if word:
                (self.folder / word).write_text(pick.choice(self.nodes).name)
            report = self.run(resume, writes, pick.random() < 0.5)
            if word:
                (self.folder / word).unlink(missing_ok=True)
            if report is not None and report["wrong"]:
                return str(report["wrong"])
            resume = pick.choice((True, True, True, "changed"))
            if self.was_killed and pick.random() < 0.5:
                continue  # an edit now has a price
            for _ in range(pick.randint(0, 2)):
                self.edit()
            for _ in range(pick.choice((0, 0, 1, 2))):
                self.change()
        self.settle()
        report = self.run(resume)
        assert report is not None
        if report["failed"] or report["wrong"]:
            return f"the last run failed: {report['log']}" if report["failed"] else str(report["wrong"])
        if not self.is_priced:
            expected = self.expected()
            values = {name: value for name, value in report["values"].items() if name[:2] not in self.unrecorded()}
            if {name: expected[name] for name in values} != values:
                return f"stale: expected {expected}, came {report['values']}\n{report['log']}"
            self.figures["compared"] += 1
        again = self.run(True)
        assert again is not None
        if [label for label in again["ran"] if not self.may_run(label.partition(":")[0])]:
            return f"a second resume ran {again['ran']}:\n{report['log']}\n{again['log']}"
        return str(again["wrong"])

    def unsaved(self) -> set[str]:
        """The tasks without checkpoints, which run where a task that runs needs them."""
        return {node.name for node in self.nodes if not node.options.get("checkpoint", True)}

    def unrecorded(self) -> set[str]:
        """The tasks without checkpoints, and the whole tasks that take paths from one, with what takes their values.

        What checkpoint=False makes has no states of files. Items record those of their own entries all the same.
        """
        unsaved = self.unsaved()
        found = {node.name for node in self.nodes if node.name in unsaved and node.kind == "paths"}
        for node in self.nodes:  # in the order of add
            whole = [*node.sources, *(one for one in node.entries if isinstance(one, str) and one not in unsaved)]
            if not found.isdisjoint(whole):
                found.add(node.name)
        return found | unsaved

    def may_run(self, name: str) -> bool:
        """Returns whether a task runs where all is finished: it has no checkpoint, or takes what has none."""
        node = next(node for node in self.nodes if node.name == name[:2])
        if not node.options.get("checkpoint", True):
            return True
        return node.kind == "plain" and any(map(self.may_run_map, node.sources))

    def may_run_map(self, name: str) -> bool:
        """Returns whether the items of a map are known only when a list is made anew."""
        node = next(node for node in self.nodes if node.name == name)
        return self.may_run(name) or any(
            isinstance(one, str) and one[0] == "n" and self.may_run_map(one) for one in node.entries
        )

    def pay(self, log: str, was_killed: bool, edited: set[str]) -> None:
        """Notes whether a run has paid the price. It is paid only after a kill."""
        line = next((line for line in log.splitlines() if "these files have changed since: " in line), "")
        if not line:
            return
        names = line.partition("since: ")[2].partition(". They")[0].split(", ")
        assert was_killed, f"accepted without a kill: {line}"
        assert set(names) & edited, f"accepted, though it was not edited: {line}"
        self.is_priced = True
        self.figures["priced"] += 1


def in_child(work: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
    """Returns what a function returns in a process of its own; None if that was killed."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(read)
            os.write(write, json.dumps(work()).encode())
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        text = answer.read()
    _, status = os.waitpid(child, 0)
    assert text or os.WIFSIGNALED(status), "the run has crashed"
    return json.loads(text) if text else None


def compare(seed: int, figures: Counter[str]) -> str:
    """Returns what is wrong in one scenario."""
    name = list(STORAGES)[seed % len(STORAGES)]
    with tempfile.TemporaryDirectory() as folder:
        scenario = Scenario(f"inputs {seed}", name, Path(folder), figures)
        try:
            wrong = scenario.check()
        except AssertionError as error:
            wrong = str(error)
    nodes = "\n".join(map(repr, scenario.nodes))
    return f"seed {seed}, {name}, {scenario.mode}: {wrong}\n{nodes}\n" if wrong else ""


def main() -> int:
    """Prints what is wrong; returns 1 if anything is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenarios", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, action="append")
    chosen = parser.parse_args()
    began, wrong, figures = time.monotonic(), 0, Counter[str]()
    seeds = chosen.seed or range(chosen.first, chosen.first + chosen.scenarios)
    for seed in seeds:
        if found := compare(seed, figures):
            wrong += 1
            print(found, flush=True)
    counts = ", ".join(f"{count} {word}" for word, count in sorted(figures.items()))
    print(f"{len(seeds)} scenarios, {wrong} wrong, {time.monotonic() - began:.0f} s: {counts}")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
